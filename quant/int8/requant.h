/* SPDX-License-Identifier: BSD-2-Clause
 * The one place that rounds. Fake quantization, folding, the exporter and the engine all call these; only the
 * node-by-node reference (quant/reference.c) has its own, on purpose, to be an independent witness.
 *
 * Rules of profile po2 (power-of-two scales, real = code * 2^-k):
 *   activations   half up:          floor(x * 2^k + 0.5)
 *   weights, bias half away from 0: round(x * 2^k)
 *   requantize    half up:          floor(acc / 2^n + 0.5) = rounding right shift
 * Ties are where implementations differ, so each rule is exact: no float sum x + 0.5 (0.49999997f + 0.5f is 1).
 */
#ifndef OCT_INT8_REQUANT_H
#define OCT_INT8_REQUANT_H

#include <math.h>
#include <stdint.h>

static inline int32_t oct_clamp_i32(int32_t x, int32_t lo, int32_t hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

static inline int32_t oct_saturate_i64(int64_t x)
{
    return x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : (int32_t)x;
}

/* floor(x + 0.5) as a float, exact for every finite x: the fraction x - floor(x) is exact in binary floating point. */
static inline float oct_round_up_f32(float x)
{
    float f = floorf(x);
    return x - f >= 0.5f ? f + 1.0f : f;
}

/* Half to even: the rounding mode of IEEE arithmetic, which nothing here changes. */
static inline float oct_round_even_f32(float x)
{
    return rintf(x);
}

static inline double oct_round_even_f64(double x)
{
    return rint(x);
}

static inline double oct_round_up_f64(double x)
{
    double f = floor(x);
    return x - f >= 0.5 ? f + 1.0 : f;
}

/* Activation code: clamp(floor(x*kappa + 0.5), lo, hi). kappa is a power of two, so x*kappa is exact unless it
 * overflows to infinity, which clamps correctly. x must not be NaN. */
static inline int32_t oct_activation_code(float x, float kappa, int32_t lo, int32_t hi)
{
    float q = oct_round_up_f32(x * kappa);
    return q <= (float)lo ? lo : q >= (float)hi ? hi : (int32_t)q;
}

/* round half away from zero, |x| <= 2^31 - 1 or x = -2^31: adding the largest number below 0.5 carries into the next integer
 * exactly where the fraction is at least one half. The same as round(), in a form that compilers vectorise. */
static inline int32_t oct_round_away_i32(double x)
{
    return (int32_t)(x + copysign(0x1.fffffffffffffp-2, x));
}

/* Weight or bias code: clamp(round half away(x * kappa), lo, hi), in double. x must not be NaN. Clamping to integers first
 * gives the same. */
static inline int32_t oct_weight_code(double x, double kappa, int32_t lo, int32_t hi)
{
    double q = x * kappa;
    q = q < (double)lo ? (double)lo : q;
    q = q > (double)hi ? (double)hi : q;
    return oct_round_away_i32(q);
}

/* floor(acc / 2^n + 0.5) for n >= 0 (0 for n > 31, which it equals exactly); acc * 2^-n saturated to int32 for n < 0.
 * Any int32 acc, any n. */
static inline int32_t oct_rshift_round(int32_t acc, int n)
{
    if (n > 31) return 0;
    if (n > 0) return (int32_t)(((int64_t)acc + ((int64_t)1 << (n - 1))) >> n);
    if (n == 0) return acc;
    if (n < -31) n = -31;
    return oct_saturate_i64((int64_t)acc * ((int64_t)1 << -n));
}

/* The same for an int64 accumulator (adds whose exponents lie far apart), saturated to int32. n in [-31, 62];
 * |acc| < 2^62 when n > 0, |acc| < 2^31 when n < 0. */
static inline int32_t oct_rshift_round_i64(int64_t acc, int n)
{
    if (n > 62) return 0;
    if (n > 0) return oct_saturate_i64((acc + ((int64_t)1 << (n - 1))) >> n);
    if (n == 0) return oct_saturate_i64(acc);
    return oct_saturate_i64(acc * ((int64_t)1 << (n < -31 ? 31 : -n)));
}

/* Average of `count` codes whose exponent grows by `up` = ko - ki: floor(sum * 2^up / count + 0.5), the exact
 * rational rounded half up. |sum| < 2^31, 1 <= count < 2^24, |up| <= 30; saturated to int32. */
static inline int32_t oct_average_round(int64_t sum, int32_t count, int up)
{
    int64_t numerator = up >= 0 ? sum * ((int64_t)1 << up) * 2 + count
                                : sum * 2 + (int64_t)count * ((int64_t)1 << -up);
    int64_t denominator = up >= 0 ? (int64_t)2 * count : (int64_t)2 * count * ((int64_t)1 << -up);
    int64_t q = numerator / denominator;
    if (numerator % denominator < 0) q--; /* C truncates; the rule is floor */
    return oct_saturate_i64(q);
}

/* Exponent of the smallest power of two >= x: ceil(log2 x) without a logarithm. x finite and > 0. */
static inline int oct_ceil_exponent(double x)
{
    int e;
    return frexp(x, &e) == 0.5 ? e - 1 : e;
}

#endif
