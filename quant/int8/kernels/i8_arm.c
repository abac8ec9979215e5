/* SPDX-License-Identifier: BSD-2-Clause
 * ARM levels of the int8 kernels: dense convolutions, the depthwise row, and the order in which a CPU mask
 * selects levels. Depthwise layers that write codes are in i8_arm_depthwise.c, everything elementwise in
 * i8_arm_elementwise.c; padded images stay portable (the compiler vectorises them).
 *
 * neon: 16-bit operands. A packed vector of i8_layout.c, four outputs x two channels, is transposed to two
 * channels x four outputs, so that SMLAL by element needs no pair sums: i8_layout.c   a0 b0 a1 b1 a2 b2 a3 b3
 * here   a0 a1 a2 a3 b0 b1 b2 b3
 *
 * neondot: bytes in fours. SDOT multiplies s8 by s8, so the kernels flip the top bit of every operand they
 * load, which subtracts 128. In memory the layout is the one of x86 (s8 codes become code + 128), so u8 codes
 * are still read in place; only the correction is its mirror image: 128 * sum w for u8 codes, 0 for s8 codes.
 */
#include "quant/int8/kernels/i8_internal.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <string.h>

#include "autograd/base/cpu.h"

#define INLINE static inline __attribute__((always_inline))

INLINE int32x4_t load_lanes(const void *p)
{
    return vreinterpretq_s32_u8(vld1q_u8(p)); /* bytes: p need not be aligned */
}

INLINE int32x4_t broadcast_lane(const void *p)
{
    int32_t lane;
    memcpy(&lane, p, sizeof lane);
    return vdupq_n_s32(lane);
}

INLINE void store_lanes(int32_t *p, int32x4_t v, int n)
{
    int32_t lanes[4];
    vst1q_s32(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof *lanes);
}

/* Ranges of codes, for PACK. */
enum { OCT_I8_FROM_ZERO, OCT_I8_SIGNED, OCT_I8_UNSIGNED };

INLINE int32x4_t pack_lanes(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, int32x4_t lo, int32x4_t hi,
                            int range)
{
    const int16x8_t low = vqmovn_high_s32(vqmovn_s32(a), b), high = vqmovn_high_s32(vqmovn_s32(c), d);
    if (range == OCT_I8_SIGNED) {
        const int8x16_t codes = vqmovn_high_s16(vqmovn_s16(low), high);
        return vreinterpretq_s32_s8(
            vminq_s8(vmaxq_s8(codes, vreinterpretq_s8_s32(lo)), vreinterpretq_s8_s32(hi)));
    }
    uint8x16_t codes = vqmovun_high_s16(vqmovun_s16(low), high);
    if (range == OCT_I8_UNSIGNED) codes = vmaxq_u8(codes, vreinterpretq_u8_s32(lo));
    return vreinterpretq_s32_u8(vminq_u8(codes, vreinterpretq_u8_s32(hi)));
}

INLINE int32x4_t scale_lanes(int32x4_t v, int32x4_t m)
{
    return vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(v), vreinterpretq_f32_s32(m)));
}

INLINE int32x4_t pack_affine_lanes(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, int32x4_t zero, int32x4_t lo,
                                   int32x4_t hi)
{
    const int16x8_t z = vreinterpretq_s16_s32(zero);
    const int16x8_t low = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), z);
    const int16x8_t high = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), z);
    const uint8x16_t codes = vqmovun_high_s16(vqmovun_s16(low), high);
    return vreinterpretq_s32_u8(vminq_u8(vmaxq_u8(codes, vreinterpretq_u8_s32(lo)), vreinterpretq_u8_s32(hi)));
}

/* The template only stores the 16 outputs of one pixel at a time: `part` is 0. */
INLINE void store_part(uint8_t *p, int32x4_t v, int n)
{
    uint8_t bytes[16];
    vst1q_u8(n == 16 ? p : bytes, vreinterpretq_u8_s32(v));
    if (n != 16) memcpy(p, bytes, (size_t)n);
}

/* ---- neon ---- */

/* x = a pair in every lane, w = weights of its first operand, then of its second. */
INLINE int32x4_t dot_pair(int32x4_t sum, int32x4_t x, int32x4_t w)
{
    const int16x4_t pair = vget_low_s16(vreinterpretq_s16_s32(x));
    sum = vmlal_lane_s16(sum, vget_low_s16(vreinterpretq_s16_s32(w)), pair, 0);
    return vmlal_high_lane_s16(sum, vreinterpretq_s16_s32(w), pair, 1);
}

/* x = four operands of one tap row, then of the next; w = pairs, as i8_layout.c packs them: a block of
 * channels may begin anywhere, so they cannot be transposed in memory. */
INLINE int32x4_t dot_rows(int32x4_t sum, int32x4_t x, int32x4_t w)
{
    const int16x8_t operands = vreinterpretq_s16_s32(x), pairs = vreinterpretq_s16_s32(w);
    sum = vmlal_s16(sum, vget_low_s16(operands), vget_low_s16(vuzp1q_s16(pairs, pairs)));
    return vmlal_high_s16(sum, operands, vuzp2q_s16(pairs, pairs));
}

INLINE int32x4_t spread_words(const void *p, int k)
{
    const uint8x8_t words = vld1_u8(p), none = vdup_n_u8(0);
    return vreinterpretq_s32_u8(k ? vcombine_u8(none, words) : vcombine_u8(words, none));
}

#define NAME(f) f##_neon
#define TARGET
#define OPERAND_BYTES 2
#define VECTOR int32x4_t
#define LANES 4
#define LOAD(p) load_lanes(p)
#define STORE(p, v) vst1q_s32(p, v)
#define STORE_SOME(p, v, n) store_lanes(p, v, n)
#define BROADCAST(p) broadcast_lane(p)
#define SRA(v, n) vshlq_s32(v, vnegq_s32(n))
#define SCALE(v, m) scale_lanes(v, m)
#define PACK_AFFINE(a, b, c, d, zero, lo, hi) pack_affine_lanes(a, b, c, d, zero, lo, hi)
#define SET_BYTE(x) vreinterpretq_s32_u8(vdupq_n_u8((uint8_t)(x)))
#define SET_WORD(x) vreinterpretq_s32_s16(vdupq_n_s16((int16_t)(x)))
#define PACK(a, b, c, d, lo, hi, range) pack_lanes(a, b, c, d, lo, hi, range)
#define STORE_PART(p, v, part, size, n) store_part(p, v, n)
#define DOT(s, x, w) dot_pair(s, x, w)
#define PIXELS_1 6
#define PIXELS_2 0
#define PIXELS_4 0
#include "quant/int8/kernels/i8_conv_tmpl.h"
#undef DOT
#define DOT(s, x, w) dot_rows(s, x, w)
#define SPREAD(p, k) spread_words(p, k)
#define OR(a, b) vorrq_s32(a, b)
#define TILE_PIXELS 8
#define SCALAR oct_i8_depthwise_row_s16
#include "quant/int8/kernels/i8_depthwise_tmpl.h"

void oct_i8_transpose_pairs(void *packed, size_t bytes)
{
    uint8_t *at = packed;
    for (size_t i = 0; i < bytes; i += 16) {
        const int16x8_t pairs = vreinterpretq_s16_u8(vld1q_u8(at + i));
        const int16x8_t rows =
            vcombine_s16(vget_low_s16(vuzp1q_s16(pairs, pairs)), vget_low_s16(vuzp2q_s16(pairs, pairs)));
        vst1q_u8(at + i, vreinterpretq_u8_s16(rows));
    }
}

static void pack_conv_neon(void *packed, int32_t *correction, const int8_t *w, int outputs, int taps_h,
                           int taps_w, int channels, int is_signed)
{
    oct_i8_kernels pairs;
    oct_i8_fill_layout_s16(&pairs);
    pairs.pack_conv(packed, correction, w, outputs, taps_h, taps_w, channels, is_signed);
    oct_i8_transpose_pairs(packed, pairs.packed_conv_bytes(outputs, taps_h, taps_w, channels));
}

/* ---- neondot ---- */

#if OCT_I8_ARM_HAS_DOT

INLINE int32x4_t flip(int32x4_t v)
{
    return veorq_s32(v, vreinterpretq_s32_u8(vdupq_n_u8(0x80)));
}

INLINE OCT_I8_ARM_DOT int32x4_t dot_bytes(int32x4_t sum, int32x4_t x, int32x4_t w)
{
    return vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
}

/* Four bytes, each at the bottom of its lane. */
INLINE uint32x4_t widen_bytes(const void *p)
{
    uint32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))));
}

/* The flip of all four places comes with place 0; the others join by exclusive or. */
#define SPREAD_BYTES(p, k)                                                                                   \
    ((k) == 0 ? flip(vreinterpretq_s32_u32(widen_bytes(p)))                                                  \
              : vreinterpretq_s32_u32(vshlq_n_u32(widen_bytes(p), 8 * (k))))

/* Fewer channels than lanes. The plain row does not subtract 128. */
static void depthwise_row_few(int32_t *acc, const void *x, const void *w, const int32_t *start,
                              const oct_i8_depthwise_row *p)
{
    int32_t plain[4];
    const int8_t *weights = w;
    const int columns = p->taps_w * ((p->taps_h + 3) / 4);
    for (int c = 0; c < p->channels; c++) {
        plain[c] = start[c];
        for (int i = 0; i < 4 * columns; i++)
            plain[c] -= 128 * weights[(i / 4 * p->channels + c) * 4 + i % 4];
    }
    oct_i8_depthwise_row_u8(acc, x, w, plain, p);
}

#define NAME(f) f##_neondot
#define TARGET OCT_I8_ARM_DOT
#define OPERAND_BYTES 1
#define VECTOR int32x4_t
#define LANES 4
#define LOAD(p) load_lanes(p)
#define STORE(p, v) vst1q_s32(p, v)
#define STORE_SOME(p, v, n) store_lanes(p, v, n)
#define BROADCAST(p) flip(broadcast_lane(p))
#define SRA(v, n) vshlq_s32(v, vnegq_s32(n))
#define SCALE(v, m) scale_lanes(v, m)
#define PACK_AFFINE(a, b, c, d, zero, lo, hi) pack_affine_lanes(a, b, c, d, zero, lo, hi)
#define SET_BYTE(x) vreinterpretq_s32_u8(vdupq_n_u8((uint8_t)(x)))
#define SET_WORD(x) vreinterpretq_s32_s16(vdupq_n_s16((int16_t)(x)))
#define PACK(a, b, c, d, lo, hi, range) pack_lanes(a, b, c, d, lo, hi, range)
#define STORE_PART(p, v, part, size, n) store_part(p, v, n)
#define DOT(s, x, w) dot_bytes(s, x, w)
#define PIXELS_1 6
#define PIXELS_2 0
#define PIXELS_4 0
#include "quant/int8/kernels/i8_conv_tmpl.h"
#define SPREAD(p, k) SPREAD_BYTES(p, k)
#define OR(a, b) veorq_s32(a, b)
#define TILE_PIXELS 8
#define SCALAR depthwise_row_few
#include "quant/int8/kernels/i8_depthwise_tmpl.h"

/* -128 * sum w of the byte layout to its mirror image. */
static void mirror_correction(int32_t *correction, int count, int is_signed)
{
    const int padded = (count + OCT_I8_BLOCK - 1) / OCT_I8_BLOCK * OCT_I8_BLOCK;
    for (int o = 0; o < padded; o++) correction[o] = is_signed ? 0 : -correction[o];
}

static void pack_conv_neondot(void *packed, int32_t *correction, const int8_t *w, int outputs, int taps_h,
                              int taps_w, int channels, int is_signed)
{
    oct_i8_kernels bytes;
    oct_i8_fill_layout_u8(&bytes);
    bytes.pack_conv(packed, correction, w, outputs, taps_h, taps_w, channels, 1);
    mirror_correction(correction, outputs, is_signed);
}

static void pack_depthwise_neondot(void *packed, int32_t *correction, const int8_t *w, int taps_h, int taps_w,
                                   int channels, int is_signed)
{
    oct_i8_kernels bytes;
    oct_i8_fill_layout_u8(&bytes);
    bytes.pack_depthwise(packed, correction, w, taps_h, taps_w, channels, 1);
    mirror_correction(correction, channels, is_signed);
}

static void fill_neondot(oct_i8_kernels *table)
{
    table->level = "neondot";
    oct_i8_fill_layout_u8(table);
    table->pack_conv = pack_conv_neondot;
    table->conv_row = conv_row_neondot;
    table->conv_codes = conv_codes_neondot;
    oct_i8_fill_depthwise_codes_neondot(table);
    table->pack_depthwise = pack_depthwise_neondot;
    table->depthwise_row = depthwise_row_neondot;
}

#else

static void fill_neondot(oct_i8_kernels *table)
{
    (void)table;
}

#endif

void oct_i8_fill_arm(oct_i8_kernels *table, uint32_t cpu_mask)
{
    if (!(cpu_mask & OCT_CPU_NEON)) return;
    table->level = "neon";
    oct_i8_fill_elementwise_neon(table);
    table->pack_conv = pack_conv_neon;
    table->conv_row = conv_row_neon;
    table->conv_codes = conv_codes_neon;
    oct_i8_fill_depthwise_codes_neon(table);
    table->depthwise_row = depthwise_row_neon;
    if (cpu_mask & OCT_CPU_NEONDOT) fill_neondot(table);
}

#else

void oct_i8_fill_arm(oct_i8_kernels *table, uint32_t cpu_mask)
{
    (void)table;
    (void)cpu_mask;
}

#endif
