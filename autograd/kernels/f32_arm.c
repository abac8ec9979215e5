/* SPDX-License-Identifier: BSD-2-Clause
 * ARM level of the float kernels: instantiates f32_tmpl.h for NEON with vectors of eight floats, each a pair
 * of registers, which fits the eight partial sums that the contract of sum_squares names. Elsewhere this file
 * compiles to nothing.
 */
#include "autograd/kernels/f32_internal.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

typedef float32x4x2_t floats;
typedef float64x2x2_t doubles;

#define EACH(f, ...)                                                                                         \
    {                                                                                                        \
        {                                                                                                    \
            f(0, __VA_ARGS__), f(1, __VA_ARGS__)                                                             \
        }                                                                                                    \
    }
#define BINARY(i, op, a, b) op((a).val[i], (b).val[i])

INLINE floats set1(float f)
{
    return (floats){{vdupq_n_f32(f), vdupq_n_f32(f)}};
}

INLINE floats load(const float *p)
{
    return (floats){{vld1q_f32(p), vld1q_f32(p + 4)}};
}

INLINE void store(float *p, floats v)
{
    vst1q_f32(p, v.val[0]);
    vst1q_f32(p + 4, v.val[1]);
}

INLINE floats load_n(const float *p, int n)
{
    float lanes[8] = {0};
    memcpy(lanes, p, (size_t)n * sizeof *p);
    return load(lanes);
}

INLINE void store_n(float *p, floats v, int n)
{
    float lanes[8];
    store(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof *p);
}

INLINE floats add(floats a, floats b)
{
    return (floats)EACH(BINARY, vaddq_f32, a, b);
}

INLINE floats sub(floats a, floats b)
{
    return (floats)EACH(BINARY, vsubq_f32, a, b);
}

INLINE floats mul(floats a, floats b)
{
    return (floats)EACH(BINARY, vmulq_f32, a, b);
}

INLINE floats multiply_add(floats a, floats b, floats c)
{
    return (floats){{vfmaq_f32(c.val[0], a.val[0], b.val[0]), vfmaq_f32(c.val[1], a.val[1], b.val[1])}};
}

/* By comparison and selection: FMIN and FMAX order the zeros, and the contract passes -0. */
INLINE float32x4_t clamp4(float32x4_t x, float32x4_t lo, float32x4_t hi)
{
    x = vbslq_f32(vcltq_f32(x, lo), lo, x);
    return vbslq_f32(vcgtq_f32(x, hi), hi, x);
}

INLINE floats clamp(floats x, floats lo, floats hi)
{
    return (floats){{clamp4(x.val[0], lo.val[0], hi.val[0]), clamp4(x.val[1], lo.val[1], hi.val[1])}};
}

INLINE float32x4_t inside4(float32x4_t v, float32x4_t y, float32x4_t lo, float32x4_t hi)
{
    const uint32x4_t within = vandq_u32(vcltq_f32(lo, y), vcltq_f32(y, hi));
    return vreinterpretq_f32_u32(vandq_u32(within, vreinterpretq_u32_f32(v)));
}

INLINE floats inside(floats v, floats y, floats lo, floats hi)
{
    return (floats){{inside4(v.val[0], y.val[0], lo.val[0], hi.val[0]),
                     inside4(v.val[1], y.val[1], lo.val[1], hi.val[1])}};
}

INLINE doubles widen(float32x4_t v)
{
    return (doubles){{vcvt_f64_f32(vget_low_f32(v)), vcvt_high_f64_f32(v)}};
}

INLINE doubles load_doubles(const double *p)
{
    return (doubles){{vld1q_f64(p), vld1q_f64(p + 2)}};
}

INLINE void store_doubles(double *p, doubles v)
{
    vst1q_f64(p, v.val[0]);
    vst1q_f64(p + 2, v.val[1]);
}

INLINE doubles add_doubles(doubles a, doubles b)
{
    return (doubles)EACH(BINARY, vaddq_f64, a, b);
}

INLINE doubles sub_doubles(doubles a, doubles b)
{
    return (doubles)EACH(BINARY, vsubq_f64, a, b);
}

INLINE doubles mul_doubles(doubles a, doubles b)
{
    return (doubles)EACH(BINARY, vmulq_f64, a, b);
}

/* 32 registers: 6 pixels x 4 of accumulators + 4 of weights + 1 of x; two blocks for rows of one or two
 * pixels. */
#define T_NAME(x) x##_neon
#define T_FILL oct_f32_fill_neon
#define T_LEVEL "neon"
#define T_TARGET
#define T_V 8
#define T_VEC floats
#define T_DVEC doubles
#define T_ZERO() set1(0.0f)
#define T_SET1(f) set1(f)
#define T_LOAD(p) load(p)
#define T_STORE(p, v) store(p, v)
#define T_LOAD_N(p, n) load_n(p, n)
#define T_STORE_N(p, v, n) store_n(p, v, n)
#define T_ADD add
#define T_SUB sub
#define T_MUL mul
#define T_FMA multiply_add
#define T_CLAMP(x, lo, hi) clamp(x, lo, hi)
#define T_INSIDE(v, y, lo, hi) inside(v, y, lo, hi)
#define T_LOW(v) widen((v).val[0])
#define T_HIGH(v) widen((v).val[1])
#define T_DZERO() ((doubles){{vdupq_n_f64(0.0), vdupq_n_f64(0.0)}})
#define T_DLOAD(p) load_doubles(p)
#define T_DSTORE(p, v) store_doubles(p, v)
#define T_DADD add_doubles
#define T_DSUB sub_doubles
#define T_DMUL mul_doubles
#define T_PIXELS(blocks) ((blocks) == 1 ? 6 : 2)
#define T_BLOCKS_MAX 2
#define T_BLOCKS_LONG 1
#include "autograd/kernels/f32_tmpl.h"
#endif
