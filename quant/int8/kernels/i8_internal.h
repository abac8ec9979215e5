/* SPDX-License-Identifier: BSD-2-Clause
 * What the files of the int8 kernels share: the fillers of the table and the portable layouts. Not for
 * callers.
 */
#ifndef OCT_I8_INTERNAL_H
#define OCT_I8_INTERNAL_H

#include "quant/int8/kernels/i8_kernels.h"

/* In front of a loop with a constant count: no loop remains, so that arrays it indexes stay in registers. */
#if defined(__clang__)
#define OCT_I8_UNROLL _Pragma("clang loop unroll(full)")
#else
#define OCT_I8_UNROLL _Pragma("GCC unroll 32")
#endif

/* What codes of a depthwise layer are, a constant of its instances. */
enum { OCT_I8_CODES_U8, OCT_I8_CODES_S8, OCT_I8_CODES_AFFINE };

/* Every entry from the C reference (s16 operands, group 2). */
void oct_i8_fill_c(oct_i8_kernels *table);
/* Override with what `cpu_mask` allows; nothing on other architectures. */
void oct_i8_fill_x86(oct_i8_kernels *table, uint32_t cpu_mask);
void oct_i8_fill_arm(oct_i8_kernels *table, uint32_t cpu_mask);

/* The 256-bit VNNI kernels in EVEX encoding over any table, for checkkern on machines with AVX-512 VNNI but
 * without AVX-VNNI; x86 only. */
void oct_i8_fill_vnni256(oct_i8_kernels *table);

/* Convolution to sums on tiles, over the avx512vnni level, whose conv_row small calls go to; x86 only. */
void oct_i8_fill_amx(oct_i8_kernels *table);
void oct_i8_conv_row_avx512vnni(int32_t *acc, const void *x, const void *w, const int32_t *start,
                                const oct_i8_conv_row *p);

/* Elementwise kernels of one level (everything but layouts, convolutions and `level`). */
void oct_i8_fill_elementwise_avx2(oct_i8_kernels *table);
void oct_i8_fill_elementwise_avx512(oct_i8_kernels *table);
void oct_i8_fill_elementwise_neon(oct_i8_kernels *table);

/* Both operand layouts, portable (i8_layout_tmpl.h). They set operand_bytes, group and the functions that
 * define the layout (pad_image, packed sizes, packing) together, so that a table can never mix them. The
 * convolutions must be set by the caller to kernels of that layout. */
void oct_i8_fill_layout_s16(oct_i8_kernels *table);
void oct_i8_fill_layout_u8(oct_i8_kernels *table);

/* Depthwise rows on each layout, plain C: the reference, and what vector kernels use below one vector of
 * channels. */
void oct_i8_depthwise_row_s16(int32_t *acc, const void *x, const void *w, const int32_t *start,
                              const oct_i8_depthwise_row *p);
void oct_i8_depthwise_row_u8(int32_t *acc, const void *x, const void *w, const int32_t *start,
                             const oct_i8_depthwise_row *p);

/* The portable pad_pixels of both layouts, and the one for 3 channels and AVX-512 on bytes. */
void oct_i8_pad_pixels_s16(void *image, const uint8_t *pixels, const uint8_t *table, int table_rows, const oct_i8_pad *p);
void oct_i8_pad_pixels_u8(void *image, const uint8_t *pixels, const uint8_t *table, int table_rows, const oct_i8_pad *p);
void oct_i8_pad_pixels_avx512(void *image, const uint8_t *pixels, const uint8_t *table, int table_rows,
                              const oct_i8_pad *p);

/* How depthwise_codes of the vector levels cuts a layer into blocks of group * lanes bytes of a row (drawn in
 * i8_depthwise_codes_tmpl.h), and the packed form:
 *     [sets] { start i32[group][lanes] | shift i32[group][lanes] |
 *              weights [rows][taps_w][ceil((taps + rows - 1) / group)][group][lanes] of `group` tap rows each }
 * Lane l of vector v holds byte 4*group*(l/4) + 4*v + l%4 of the block. Output row 1 of two has its weights one tap row
 * further down. */
typedef struct oct_i8_depthwise_cut {
    int flat; /* fewer channels than a block: `sets` repeat along a row; else one set for each block of channels */
    int sets; /* 0: not supported (stride 2 and channels that do not divide the block, or below 8) */
    int rows; /* output rows that share columns: 2 for 3x3 at stride 1 */
    size_t set_bytes;
} oct_i8_depthwise_cut;
oct_i8_depthwise_cut oct_i8_depthwise_cut_of(const oct_i8_depthwise *layer, int group, int lanes);
/* Weights are `group` of s8 (4) or s16 (2). Operands are code + offset, which start undoes. */
void oct_i8_pack_depthwise_blocks(void *packed, const int8_t *w, const int32_t *start, const int32_t *shift,
                                  const oct_i8_depthwise *layer, int group, int lanes, int offset);

/* Adds depthwise_codes and its packing. */
void oct_i8_fill_depthwise_codes_avx2(oct_i8_kernels *table);
void oct_i8_fill_depthwise_codes_avx512(oct_i8_kernels *table);
void oct_i8_fill_depthwise_codes_avxvnni(oct_i8_kernels *table);
void oct_i8_fill_depthwise_codes_vnni256(oct_i8_kernels *table);
void oct_i8_fill_depthwise_codes_avx512vnni(oct_i8_kernels *table);
void oct_i8_fill_depthwise_codes_neon(oct_i8_kernels *table);
void oct_i8_fill_depthwise_codes_neondot(oct_i8_kernels *table);

/* Every 16 bytes, four pairs of 16-bit numbers, become the first numbers of the pairs, then the second; ARM only. */
void oct_i8_transpose_pairs(void *packed, size_t bytes);

/* Functions with SDOT by attribute, where the compiler offers its intrinsic to them: clang does from 16 on. */
#if defined(__aarch64__)
#if !defined(__clang__)
#define OCT_I8_ARM_HAS_DOT 1
#define OCT_I8_ARM_DOT __attribute__((target("arch=armv8.2-a+dotprod")))
#elif __clang_major__ >= 16
#define OCT_I8_ARM_HAS_DOT 1
#define OCT_I8_ARM_DOT __attribute__((target("dotprod")))
#else
#define OCT_I8_ARM_HAS_DOT 0
#endif
#endif

/* The reference acc_gradient, for channels whose mask bits start inside bytes. */
void oct_i8_acc_gradient_c(float *dx, const float *dy, const uint8_t *bits, const int32_t *acc, const float *b,
                           const float *p, const float *q, const float *r, size_t pixels, int channels);

/* Arguments of an add whose sums fit 16 bits. */
typedef struct add_plan {
    int a_signed, b_signed, sa, sb, shift, lo, hi;
} add_plan;

/* The reference add, for exponents that need int64. */
void oct_i8_add_c(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed,
                  int sa, int sb, int shift, int lo, int hi);
void oct_i8_sub_c(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed,
                  int sa, int sb, int shift, int lo, int hi);

#endif
