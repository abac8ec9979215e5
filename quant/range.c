/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/range.h"

#include <math.h>

#include "autograd/base/rng.h"
#include "quant/int8/requant.h"

static const float range_init = 8.0f, min_update = 0.001f, min_clip = 0x1p-16f;

void oct_range_init(float range[OCT_RANGE_FLOATS], oct_sign sign)
{
    range[OCT_RANGE_LO] = sign == OCT_SIGN_UNSIGNED ? 0 : -range_init;
    range[OCT_RANGE_HI] = range_init;
    range[OCT_RANGE_COUNT] = -1;
    range[OCT_RANGE_OBSERVED] = 0;
}

void oct_range_count(float range[OCT_RANGE_FLOATS])
{
    /* A float counts exactly to 2^24; the weight stopped changing at 1000. */
    if (range[OCT_RANGE_COUNT] < 0x1p24f) range[OCT_RANGE_COUNT] += 1;
}

void oct_range_update(float range[OCT_RANGE_FLOATS], float m, float M)
{
    oct_range_count(range);
    float n = range[OCT_RANGE_COUNT];
    float u = n <= 1 ? 1.0f : 1.0f / n;
    if (u < min_update) u = min_update;
    range[OCT_RANGE_LO] = (1 - u) * range[OCT_RANGE_LO] + u * m;
    range[OCT_RANGE_HI] = (1 - u) * range[OCT_RANGE_HI] + u * M;
    range[OCT_RANGE_OBSERVED] = 1;
}

oct_clip_codes oct_range_clip(const float range[OCT_RANGE_FLOATS], oct_sign sign)
{
    float lo = range[OCT_RANGE_LO], hi = range[OCT_RANGE_HI];
    oct_clip_codes c = {.is_signed = sign == OCT_SIGN_AUTO ? lo < 0 : sign == OCT_SIGN_SIGNED};
    float a = fabsf(hi);
    if (c.is_signed && fabsf(lo) > a) a = fabsf(lo);
    if (!(a >= min_clip)) a = min_clip;
    int e = oct_ceil_exponent((double)a);
    c.exponent = (c.is_signed ? 7 : 8) - e;
    c.lo = c.is_signed ? -128 : 0;
    c.hi = c.is_signed ? 127 : 255;
    c.scale = ldexpf(1, -c.exponent);
    c.clip_hi = ldexpf(1, e);
    c.clip_lo = c.is_signed ? -c.clip_hi : 0;
    return c;
}

float oct_range_bin_scale(float m, float M)
{
    return (float)(OCT_RANGE_BINS - 1) / (M - m);
}

void oct_range_shrink(float *lo, float *hi, const uint32_t counts[OCT_RANGE_BINS], float m, float M, float percent)
{
    *lo = m;
    *hi = M;
    uint64_t total = 0;
    for (int k = 0; k < OCT_RANGE_BINS; k++) total += counts[k];
    if (!(M > m) || !(percent > 0) || !total) return;
    float mult = oct_range_bin_scale(m, M);
    double limit = (double)percent / 100 * (double)total, left = 0, right = 0;
    int first = 0, last = OCT_RANGE_BINS - 1;
    for (int k = 0; k < OCT_RANGE_BINS; k++) {
        left += counts[k];
        right += counts[OCT_RANGE_BINS - 1 - k];
        if (left < limit) first = k;
        if (right < limit) last = OCT_RANGE_BINS - 1 - k;
    }
    float cut_lo = (float)first / mult + m, cut_hi = (float)last / mult + m;
    if (cut_lo > m) *lo = cut_lo;
    if (cut_hi < M) *hi = cut_hi;
}

void oct_range_phase(int phase[2], uint64_t seed, int32_t node, uint64_t step)
{
    oct_rng rng = oct_rng_start(seed, OCT_RNG_SUBSAMPLE, step, (uint64_t)node);
    uint32_t bits = oct_rng_u32(&rng);
    phase[0] = (int)(bits & 1);
    phase[1] = (int)(bits >> 1 & 1);
}
