/* SPDX-License-Identifier: BSD-2-Clause
 * What the files of the int8 kernels share: the fillers of the table and the portable layouts. Not for
 * callers.
 */
#ifndef OCT_I8_INTERNAL_H
#define OCT_I8_INTERNAL_H

#include "quant/int8/kernels/i8_kernels.h"

/* Every entry from the C reference (s16 operands, group 2). */
void oct_i8_fill_c(oct_i8_kernels *table);
/* Overrides with what `cpu_mask` allows; nothing on other architectures. */
void oct_i8_fill_x86(oct_i8_kernels *table, uint32_t cpu_mask);

/* The 256-bit VNNI kernels in EVEX encoding over any table, for checkkern on machines with AVX-512 VNNI but
 * without AVX-VNNI; x86 only. */
void oct_i8_fill_vnni256(oct_i8_kernels *table);

/* Elementwise kernels of one level (everything but layouts, convolutions and `level`). */
void oct_i8_fill_elementwise_avx2(oct_i8_kernels *table);
void oct_i8_fill_elementwise_avx512(oct_i8_kernels *table);

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

/* The reference add, for exponents that need int64. */
void oct_i8_add_c(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed,
                  int sa, int sb, int shift, int lo, int hi);

#endif
