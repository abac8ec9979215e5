/* SPDX-License-Identifier: BSD-2-Clause
 * Rounding of profile affine, the sibling of requant.h: real = (code - zero)*scale, activations u8 with a zero point in 0..255,
 * weights s8 with zero point 0. Fake quantization, the exporter and the engine all call these; the node-by-node reference has
 * its own. rne = round half to even.
 *
 *   activation code   clamp(rne(x * (1/scale)) + zero)              product in float, 1/scale rounded to float
 *   parameters        scale = (hi - lo)/(qmax - qmin), zero = clamp(qmin - rne(lo/scale)), of a range that holds 0; in float
 *   requantization    of a sum acc worth `unit` each, to codes of `scale`, in one of three ways named in the file:
 *     float           clamp(rne((float)acc * m) + zero), m = (float)(unit/scale): one conversion, one product, no contraction
 *     single, double  32-bit fixed point: M = unit/scale = Q * 2^(shift - 31), Q in [2^30, 2^31); a 64-bit product rounded
 *                     once (ties up), or rounded at bit 31 (ties up) and again at the shift (ties away from zero), as
 *                     gemmlowp and TensorFlow Lite do
 */
#ifndef OCT_INT8_AFFINE_H
#define OCT_INT8_AFFINE_H

#include "quant/int8/octet_int8.h"
#include "quant/int8/requant.h"

/* rne(p) + zero, clamped; p is clamped first, so that any p fits an int32. NaN gives lo. */
static inline int32_t oct_affine_round(float p, int zero, int lo, int hi)
{
    const float low = (float)(lo - zero), high = (float)(hi - zero);
    p = p > low ? p : low;
    p = p < high ? p : high;
    return (int32_t)oct_round_even_f32(p) + zero;
}

/* inverse = 1.0f/scale. */
static inline int32_t oct_affine_code(float x, float inverse, int zero, int lo, int hi)
{
    return oct_affine_round(x * inverse, zero, lo, hi);
}

/* Signed 8-bit code of a weight without a clamp, up to +-128: what lies beyond 127 is clipped. */
static inline int32_t oct_affine_weight(float w, float inverse)
{
    return oct_affine_round(w * inverse, 0, -128, 128);
}

/* A scale is at least 2^-23, so that constants and zeros do no harm. */
static inline float oct_affine_step(float span, float codes)
{
    const float least = 0x1p-23f, step = span / codes;
    return step > least ? step : least;
}

/* Scale and zero point of codes qmin..qmax for a range, which is widened to hold 0 (PyTorch's MinMaxObserver). Of a span
 * that overflows the halves are taken. */
static inline void oct_affine_parameters(float *scale, int32_t *zero, float lo, float hi, int qmin, int qmax)
{
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    const float span = hi - lo, codes = (float)(qmax - qmin);
    *scale = span < INFINITY ? oct_affine_step(span, codes) : oct_affine_step(hi / 2 - lo / 2, codes / 2);
    *zero = oct_clamp_i32(qmin - (int32_t)oct_round_even_f32(lo / *scale), qmin, qmax);
}

/* How many units of scale one unit of acc is, in the form that a rounding takes. */
typedef struct oct_affine_factor {
    float m;       /* float */
    int32_t q;     /* single, double */
    int shift;     /* in [-31, 30] */
} oct_affine_factor;

static inline oct_affine_factor oct_affine_factor_of(double ratio)
{
    oct_affine_factor f = {.m = (float)ratio};
    int e;
    int64_t q = (int64_t)round(frexp(ratio, &e) * 0x1p31);
    if (q == INT64_C(1) << 31) {
        q >>= 1;
        e++;
    }
    if (e < -31 || !(ratio > 0)) return f; /* 0 */
    f.q = (int32_t)(e > 30 ? INT32_MAX : q);
    f.shift = e > 30 ? 30 : e;
    return f;
}

/* acc * M in fixed point, saturated to int32. |acc| < 2^31. */
static inline int32_t oct_affine_fixed(int32_t acc, oct_affine_factor f, oct_int8_rounding rounding)
{
    if (rounding == OCT_INT8_ROUND_SINGLE) {
        const int n = 31 - f.shift;
        return oct_saturate_i64(((int64_t)acc * f.q + ((int64_t)1 << (n - 1))) >> n);
    }
    const int64_t v = oct_saturate_i64((int64_t)acc * ((int64_t)1 << (f.shift > 0 ? f.shift : 0)));
    const int64_t high = (v * f.q + ((int64_t)1 << 30)) >> 31;
    const int e = f.shift < 0 ? -f.shift : 0;
    const int64_t mask = ((int64_t)1 << e) - 1;
    return oct_saturate_i64((high >> e) + ((high & mask) > (mask >> 1) + (high < 0)));
}

/* The code of a sum. */
static inline int32_t oct_affine_requantize(int32_t acc, oct_affine_factor f, oct_int8_rounding rounding, int zero, int lo,
                                            int hi)
{
    if (rounding == OCT_INT8_ROUND_FLOAT) return oct_affine_round((float)acc * f.m, zero, lo, hi);
    const int64_t code = (int64_t)oct_affine_fixed(acc, f, rounding) + zero;
    return oct_clamp_i32(oct_saturate_i64(code), lo, hi);
}

/* add. Each operand is brought to a common step first: in float to the output's, in fixed point to 2^-20 of twice the larger
 * one (TensorFlow Lite), whose sum `last` brings to the output's. */
typedef struct oct_affine_add {
    oct_affine_factor a, b, last;
    int a_zero, b_zero;
} oct_affine_add;
enum { OCT_AFFINE_ADD_BITS = 20 };

static inline oct_affine_add oct_affine_add_of(double a_scale, int a_zero, double b_scale, int b_zero, double scale,
                                               oct_int8_rounding rounding)
{
    oct_affine_add add = {.a_zero = a_zero, .b_zero = b_zero};
    const double twice = 2 * (a_scale > b_scale ? a_scale : b_scale);
    const int in_float = rounding == OCT_INT8_ROUND_FLOAT;
    add.a = oct_affine_factor_of(a_scale / (in_float ? scale : twice));
    add.b = oct_affine_factor_of(b_scale / (in_float ? scale : twice));
    add.last = oct_affine_factor_of(twice / (scale * (1 << OCT_AFFINE_ADD_BITS)));
    return add;
}

/* One operand in fixed point: code - zero times its factor. */
static inline int32_t oct_affine_add_term(int32_t difference, oct_affine_factor f, oct_int8_rounding rounding)
{
    return oct_affine_fixed(difference * (1 << OCT_AFFINE_ADD_BITS), f, rounding);
}

static inline int32_t oct_affine_add_codes(const oct_affine_add *add, oct_int8_rounding rounding, int32_t a, int32_t b,
                                           int zero, int lo, int hi)
{
    if (rounding == OCT_INT8_ROUND_FLOAT) {
        const float first = (float)(a - add->a_zero) * add->a.m, second = (float)(b - add->b_zero) * add->b.m;
        return oct_affine_round(first + second, zero, lo, hi);
    }
    const int32_t sum = oct_affine_add_term(a - add->a_zero, add->a, rounding) +
                        oct_affine_add_term(b - add->b_zero, add->b, rounding);
    return oct_affine_requantize(sum, add->last, rounding, zero, lo, hi);
}

#endif
