/* SPDX-License-Identifier: BSD-2-Clause
 * Elementary functions in float that compilers can turn into vector code: no calls, no branches.
 */
#ifndef OCT_ELEMENTARY_H
#define OCT_ELEMENTARY_H

#include <stdint.h>
#include <string.h>

/* e^x within 2 units in the last place, infinite from 88.38 on (2^n is, half a step early), never below e^-87.
 * x = n*ln 2 + r, |r| <= ln(2)/2; n is rounded by adding 1.5*2^23, whose low bits then hold it. */
static inline float oct_exp_f32(float x)
{
    const float log2_e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, big = 12582912.0f;
    x = x < -87.0f ? -87.0f : x > 89.0f ? 89.0f : x;
    float shifted = x * log2_e + big, n = shifted - big;
    float r = x - n * ln2_high - n * ln2_low;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)(((uint32_t)bits + 127u) << 23); /* 2^n; the high bits of 1.5*2^23 fall off */
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

#endif
