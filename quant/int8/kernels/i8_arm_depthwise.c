/* SPDX-License-Identifier: BSD-2-Clause
 * ARM instances of the depthwise layer that writes codes: 16-bit operands (two tap rows a dot product, in
 * halves of a vector instead of pairs) and SDOT (four tap rows).
 */
#include "quant/int8/kernels/i8_internal.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

INLINE int32x4_t load_lanes(const void *p)
{
    return vreinterpretq_s32_u8(vld1q_u8(p));
}

INLINE uint8x8_t part_8(const uint8_t *p, ptrdiff_t from, ptrdiff_t to, uint8x8_t fill)
{
    uint8_t bytes[8];
    vst1_u8(bytes, fill);
    if (to > from) memcpy(bytes + from, p + from, (size_t)(to - from));
    return vld1_u8(bytes);
}

INLINE void store_some_8(uint8_t *p, uint8x8_t v, int n)
{
    uint8_t bytes[8];
    vst1_u8(bytes, v);
    memcpy(p, bytes, (size_t)n);
}

/* ---- neon: halves of eight words ---- */

INLINE int32x4_t words(uint8x8_t raw, int is_signed)
{
    return is_signed ? vreinterpretq_s32_s16(vmovl_s8(vreinterpret_s8_u8(raw)))
                     : vreinterpretq_s32_u16(vmovl_u8(raw));
}

/* Four operands of one tap row, then of the next: what dot_halves takes, with weights transposed alike. */
INLINE int32x4_t low_halves(int32x4_t a, int32x4_t b)
{
    return vcombine_s32(vget_low_s32(a), vget_low_s32(b));
}

INLINE int32x4_t high_halves(int32x4_t a, int32x4_t b)
{
    return vcombine_s32(vget_high_s32(a), vget_high_s32(b));
}

INLINE int32x4_t dot_halves(int32x4_t sum, int32x4_t x, int32x4_t w)
{
    const int16x8_t operands = vreinterpretq_s16_s32(x), weights = vreinterpretq_s16_s32(w);
    return vmlal_high_s16(vmlal_s16(sum, vget_low_s16(operands), vget_low_s16(weights)), operands, weights);
}

INLINE int32x4_t scale_lanes(int32x4_t v, int32x4_t m)
{
    return vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(v), vreinterpretq_f32_s32(m)));
}

/* `zero` is a constant 0 where there is none: the additions are then left out. */
INLINE int16x8_t words_plus(int32x4_t a, int32x4_t b, int zero)
{
    return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), vdupq_n_s16((int16_t)zero));
}

/* After the clamp the low byte of each word is the code. */
INLINE uint8x8_t pack_8(const int32x4_t v[2], int zero, int lo, int hi)
{
    const int16x8_t sums = words_plus(v[0], v[1], zero);
    const int16x8_t codes = vminq_s16(vmaxq_s16(sums, vdupq_n_s16((int16_t)lo)), vdupq_n_s16((int16_t)hi));
    return vreinterpret_u8_s8(vmovn_s16(codes));
}

#define NAME(f) f##_neon
#define TARGET
#define VECTOR int32x4_t
#define LANES 4
#define LOAD(p) load_lanes(p)
#define SRA(v, n) vshlq_s32(v, vnegq_s32(n))
#define SCALE(v, m) scale_lanes(v, m)
#define DOT(s, x, w) dot_halves(s, x, w)
#define GROUP 2
#define RAW uint8x8_t
#define RAW_LOAD(p) vld1_u8(p)
#define RAW_STORE(p, v) vst1_u8(p, v)
#define RAW_SET(byte) vdup_n_u8((uint8_t)(byte))
#define RAW_PART(p, from, to, fill) part_8(p, from, to, fill)
#define RAW_STORE_SOME(p, v, n) store_some_8(p, v, n)
#define RAW_EVEN(a, b, channels) ((void)(b), (a)) /* 8 channels are a wide block, fewer are not supported */
#define OPERANDS(raw, is_signed) words(raw, is_signed)
#define LOW_16(a, b) low_halves(a, b)
#define HIGH_16(a, b) high_halves(a, b)
#define PACK_BLOCK(v, lo, hi) pack_8(v, 0, lo, hi)
#define PACK_BLOCK_AFFINE(v, zero, lo, hi) pack_8(v, zero, lo, hi)
#define PACK_DEPTHWISE pack_halves
#define PIXELS_S1 4
#define PIXELS_S2 4
#define PIXELS_5 4

static void pack_halves(void *packed, const int8_t *w, const int32_t *start, const int32_t *shift,
                        const oct_i8_depthwise *layer)
{
    oct_i8_pack_depthwise_blocks(packed, w, start, shift, layer, 2, 4, 0);
    const oct_i8_depthwise_cut cut = oct_i8_depthwise_cut_of(layer, 2, 4);
    const size_t numbers = 2 * 2 * 4 * sizeof(int32_t); /* starts and shifts */
    for (int i = 0; i < cut.sets; i++)
        oct_i8_transpose_pairs((uint8_t *)packed + (size_t)i * cut.set_bytes + numbers,
                               cut.set_bytes - numbers);
}

#include "quant/int8/kernels/i8_depthwise_codes_tmpl.h"

/* ---- neondot: bytes in fours ---- */

#if OCT_I8_ARM_HAS_DOT

INLINE uint8x16_t part_16(const uint8_t *p, ptrdiff_t from, ptrdiff_t to, uint8x16_t fill)
{
    uint8_t bytes[16];
    vst1q_u8(bytes, fill);
    if (to > from) memcpy(bytes + from, p + from, (size_t)(to - from));
    return vld1q_u8(bytes);
}

INLINE void store_some_16(uint8_t *p, uint8x16_t v, int n)
{
    uint8_t bytes[16];
    vst1q_u8(bytes, v);
    memcpy(p, bytes, (size_t)n);
}

/* 8 channels of 2 pixels. */
INLINE uint8x16_t even_16(uint8x16_t a, uint8x16_t b, int channels)
{
    return channels == 8 ? vcombine_u8(vget_low_u8(a), vget_low_u8(b)) : a;
}

/* u8 codes become code - 128. */
INLINE int32x4_t signed_bytes(uint8x16_t raw, int is_signed)
{
    return vreinterpretq_s32_u8(is_signed ? raw : veorq_u8(raw, vdupq_n_u8(0x80)));
}

INLINE int32x4_t low_8(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s8(vzip1q_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}

INLINE int32x4_t high_8(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s8(vzip2q_s8(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}

INLINE int32x4_t low_16(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s16(vzip1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}

INLINE int32x4_t high_16(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s16(vzip2q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
}

INLINE uint8x16_t pack_16(const int32x4_t v[4], int zero, int lo, int hi)
{
    const int16x8_t low = words_plus(v[0], v[1], zero), high = words_plus(v[2], v[3], zero);
    if (lo < 0) {
        const int8x16_t codes = vqmovn_high_s16(vqmovn_s16(low), high);
        return vreinterpretq_u8_s8(vminq_s8(vmaxq_s8(codes, vdupq_n_s8((int8_t)lo)), vdupq_n_s8((int8_t)hi)));
    }
    const uint8x16_t codes = vqmovun_high_s16(vqmovun_s16(low), high);
    return vminq_u8(vmaxq_u8(codes, vdupq_n_u8((uint8_t)lo)), vdupq_n_u8((uint8_t)hi));
}

INLINE OCT_I8_ARM_DOT int32x4_t dot_bytes(int32x4_t sum, int32x4_t x, int32x4_t w)
{
    return vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
}

#define NAME(f) f##_neondot
#define TARGET OCT_I8_ARM_DOT
#define VECTOR int32x4_t
#define LANES 4
#define LOAD(p) load_lanes(p)
#define SRA(v, n) vshlq_s32(v, vnegq_s32(n))
#define SCALE(v, m) scale_lanes(v, m)
#define DOT(s, x, w) dot_bytes(s, x, w)
#define GROUP 4
#define RAW uint8x16_t
#define RAW_LOAD(p) vld1q_u8(p)
#define RAW_STORE(p, v) vst1q_u8(p, v)
#define RAW_SET(byte) vdupq_n_u8((uint8_t)(byte))
#define RAW_PART(p, from, to, fill) part_16(p, from, to, fill)
#define RAW_STORE_SOME(p, v, n) store_some_16(p, v, n)
#define RAW_EVEN(a, b, channels) even_16(a, b, channels)
#define OPERANDS(raw, is_signed) signed_bytes(raw, is_signed)
#define LOW_8(a, b) low_8(a, b)
#define HIGH_8(a, b) high_8(a, b)
#define LOW_16(a, b) low_16(a, b)
#define HIGH_16(a, b) high_16(a, b)
#define PACK_BLOCK(v, lo, hi) pack_16(v, 0, lo, hi)
#define PACK_BLOCK_AFFINE(v, zero, lo, hi) pack_16(v, zero, lo, hi)
#define PACK_DEPTHWISE pack_signed
#define PIXELS_S1 3
#define PIXELS_S2 4
#define PIXELS_5 4

static void pack_signed(void *packed, const int8_t *w, const int32_t *start, const int32_t *shift,
                        const oct_i8_depthwise *layer)
{
    oct_i8_pack_depthwise_blocks(packed, w, start, shift, layer, 4, 4, layer->is_signed ? 0 : -128);
}

#include "quant/int8/kernels/i8_depthwise_codes_tmpl.h"

#endif
#endif
