/* SPDX-License-Identifier: BSD-2-Clause
 * Activation ranges (quant/range.h): the running average, the clip that is read from it, the histogram's cut
 * tails. */
#include "quant/range.h"

#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "quant/int8/kernels/i8_kernels.h"
#include "tests/testing.h"

typedef struct bounds {
    float lo, hi;
} bounds;

/* Range of data as a point observes it: extrema, histogram by nearest bin (ties to even), tails cut. */
static bounds observe(const float *x, size_t n, float percent)
{
    float m = INFINITY, M = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        m = fminf(m, x[i]);
        M = fmaxf(M, x[i]);
    }
    uint32_t counts[OCT_RANGE_BINS] = {0};
    float mult = oct_range_bin_scale(m, M);
    for (size_t i = 0; i < n && M > m; i++) {
        int bin = (int)nearbyintf((x[i] - m) * mult);
        CU_ASSERT_TRUE_FATAL(bin >= 0 && bin < OCT_RANGE_BINS);
        counts[bin]++;
    }
    bounds b;
    oct_range_shrink(&b.lo, &b.hi, counts, m, M, percent);
    return b;
}

static void update_all(float range[OCT_RANGE_FLOATS], const float *his, float *seen, int n)
{
    for (int i = 0; i < n; i++) {
        oct_range_update(range, 0, his[i]);
        seen[i] = range[OCT_RANGE_HI];
    }
}

/* T8: batches 0 and 1 replace, from then on the mean of batches 1..n. */
static void range_hi_sequence(void)
{
    float range[OCT_RANGE_FLOATS], seen[5];
    oct_range_init(range, OCT_SIGN_UNSIGNED);
    CU_ASSERT_EQUAL(range[OCT_RANGE_COUNT], -1);
    CU_ASSERT_EQUAL(range[OCT_RANGE_OBSERVED], 0);
    update_all(range, (const float[]){10, 1, 2, 3, 4}, seen, 5);
    static const float expected[5] = {10, 1, 1.5f, 2, 2.5f};
    for (int i = 0; i < 5; i++) CU_ASSERT_DOUBLE_EQUAL(seen[i], expected[i], 1e-6);
    CU_ASSERT_EQUAL(range[OCT_RANGE_COUNT], 4);
    CU_ASSERT_EQUAL(range[OCT_RANGE_OBSERVED], 1);
    CU_ASSERT_EQUAL(range[OCT_RANGE_LO], 0);
}

/* T8: the factor never falls below 0.001, and the counter never stops meaning "many". */
static void update_factor_has_a_floor(void)
{
    static const struct {
        float count, factor;
    } table[] = {{98, 1.0f / 99}, {998, 1.0f / 999}, {999, 0.001f},
                 {1000, 0.001f},  {1e6f, 0.001f},    {0x1p24f, 0.001f}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        float range[OCT_RANGE_FLOATS] = {-1, 1, table[i].count, 1};
        oct_range_update(range, -3, 2);
        CU_ASSERT_DOUBLE_EQUAL(range[OCT_RANGE_HI], 1 + table[i].factor, 2e-7);
        CU_ASSERT_DOUBLE_EQUAL(range[OCT_RANGE_LO], -1 - 2 * table[i].factor, 3e-7);
        CU_ASSERT_TRUE(range[OCT_RANGE_COUNT] >= table[i].count);
    }
    float range[OCT_RANGE_FLOATS];
    oct_range_init(range, OCT_SIGN_AUTO);
    double mean = 0; /* of batches 1..1000 */
    oct_rng rng = oct_rng_start(8, OCT_RNG_SYNTHETIC, 0, 0);
    for (int i = 0; i <= 1000; i++) {
        float hi = 1 + oct_rng_uniform(&rng);
        if (i) mean += (double)hi / 1000;
        oct_range_update(range, -hi, hi);
    }
    CU_ASSERT_DOUBLE_EQUAL(range[OCT_RANGE_HI], mean, 1e-4);
    CU_ASSERT_DOUBLE_EQUAL(range[OCT_RANGE_LO], -mean, 1e-4);
}

static oct_clip_codes clip_of(float lo, float hi, oct_sign sign)
{
    return oct_range_clip((const float[OCT_RANGE_FLOATS]){lo, hi, 5, 1}, sign);
}

/* T1, T2 as seen from a range; examples of docs/quantization.md 3.1. */
static void clip_reads_the_next_power_of_two(void)
{
    oct_clip_codes c = clip_of(0, 3.1f, OCT_SIGN_AUTO);
    CU_ASSERT_EQUAL(c.is_signed, 0);
    CU_ASSERT_EQUAL(c.exponent, 6); /* kappa 64 */
    CU_ASSERT_TRUE(c.lo == 0 && c.hi == 255 && c.clip_lo == 0 && c.clip_hi == 4);
    c = clip_of(-3.1f, 0.1f, OCT_SIGN_AUTO);
    CU_ASSERT_EQUAL(c.is_signed, 1);
    CU_ASSERT_EQUAL(c.exponent, 5); /* kappa 32 */
    CU_ASSERT_TRUE(c.lo == -128 && c.hi == 127 && c.clip_lo == -4 && c.clip_hi == 4);
    for (int e = -15; e <= 20; e++) {
        float p = ldexpf(1, e);
        CU_ASSERT_EQUAL(clip_of(0, p, OCT_SIGN_AUTO).clip_hi, p);
        CU_ASSERT_EQUAL(clip_of(0, nextafterf(p, INFINITY), OCT_SIGN_AUTO).clip_hi, 2 * p);
        CU_ASSERT_EQUAL(clip_of(0, p, OCT_SIGN_AUTO).exponent, 8 - e);
        CU_ASSERT_EQUAL(clip_of(-nextafterf(p, INFINITY), 0, OCT_SIGN_AUTO).exponent, 7 - e - 1);
    }
}

/* docs/quantization.md 2.11: a tensor of zeros has the smallest clip, not a division by zero. */
static void clip_of_nothing_is_the_smallest(void)
{
    CU_ASSERT_EQUAL(clip_of(0, 0, OCT_SIGN_AUTO).exponent, 24);
    CU_ASSERT_EQUAL(clip_of(0, 0, OCT_SIGN_SIGNED).exponent, 23);
    CU_ASSERT_EQUAL(clip_of(0, 1e-30f, OCT_SIGN_AUTO).clip_hi, 0x1p-16f);
    float range[OCT_RANGE_FLOATS];
    oct_range_init(range, OCT_SIGN_AUTO);
    CU_ASSERT_EQUAL(oct_range_clip(range, OCT_SIGN_AUTO).clip_hi, 8); /* before any data */
    CU_ASSERT_EQUAL(oct_range_clip(range, OCT_SIGN_AUTO).is_signed, 1);
    oct_range_init(range, OCT_SIGN_UNSIGNED);
    CU_ASSERT_EQUAL(oct_range_clip(range, OCT_SIGN_UNSIGNED).exponent, 5);
}

/* An unsigned point ignores the negative side; a signed one takes the larger. */
static void clip_of_a_decided_sign_ignores_lo(void)
{
    CU_ASSERT_EQUAL(clip_of(-100, 1, OCT_SIGN_UNSIGNED).clip_hi, 1);
    CU_ASSERT_EQUAL(clip_of(-100, 1, OCT_SIGN_UNSIGNED).clip_lo, 0);
    CU_ASSERT_EQUAL(clip_of(-100, 1, OCT_SIGN_SIGNED).clip_hi, 128);
    CU_ASSERT_EQUAL(clip_of(2, 3, OCT_SIGN_SIGNED).is_signed, 1);
    CU_ASSERT_EQUAL(clip_of(-0.0f, 3, OCT_SIGN_AUTO).is_signed, 0);
}

/* T23: any negative lo means signed, and a single negative batch is never averaged away. */
static void one_negative_batch_flips_to_signed(void)
{
    CU_ASSERT_EQUAL(clip_of(-1e-9f, 1, OCT_SIGN_AUTO).is_signed, 1);
    CU_ASSERT_EQUAL(clip_of(-1e-9f, 1, OCT_SIGN_AUTO).exponent, 7); /* half the resolution */
    CU_ASSERT_EQUAL(clip_of(0, 1, OCT_SIGN_AUTO).exponent, 8);
    float range[OCT_RANGE_FLOATS];
    oct_range_init(range, OCT_SIGN_AUTO);
    for (int i = 0; i < 5; i++) oct_range_update(range, 0, 1);
    CU_ASSERT_EQUAL(oct_range_clip(range, OCT_SIGN_AUTO).is_signed, 0);
    oct_range_update(range, -0.01f, 1);
    CU_ASSERT_EQUAL(oct_range_clip(range, OCT_SIGN_AUTO).is_signed, 1);
    for (int i = 0; i < 3000; i++) oct_range_update(range, 0, 1);
    CU_ASSERT_EQUAL(oct_range_clip(range, OCT_SIGN_AUTO).is_signed, 1);
    /* but for batch 0, which batch 1 replaces */
    oct_range_init(range, OCT_SIGN_AUTO);
    oct_range_update(range, -5, 1);
    oct_range_update(range, 0, 1);
    CU_ASSERT_EQUAL(oct_range_clip(range, OCT_SIGN_AUTO).is_signed, 0);
}

enum { GOLDEN = 100000 };

/* T24: the goldens of docs/quantization.md 2.9 on g = sin(0.1 i) exp(-(i mod 977)/300). */
static void shrink_gives_the_goldens(void)
{
    float *g = oct_alloc(GOLDEN, sizeof *g);
    CU_ASSERT_PTR_NOT_NULL_FATAL(g);
    for (int i = 0; i < GOLDEN; i++) g[i] = (float)(sin(0.1 * i) * exp(-(double)(i % 977) / 300));
    bounds b = observe(g, GOLDEN, 0.01f);
    CU_ASSERT_DOUBLE_EQUAL(b.lo, -0.999844134, 1e-7);
    CU_ASSERT_DOUBLE_EQUAL(b.hi, 0.9999454, 1e-7);
    b = observe(g, GOLDEN, 0.1f);
    CU_ASSERT_DOUBLE_EQUAL(b.lo, -0.96063256, 2e-7);
    CU_ASSERT_DOUBLE_EQUAL(b.hi, 0.96073383, 2e-7);
    b = observe(g, GOLDEN, 1);
    CU_ASSERT_DOUBLE_EQUAL(b.lo, -0.80378634, 2e-7);
    CU_ASSERT_DOUBLE_EQUAL(b.hi, 0.80388755, 2e-7);
    /* the int8 kernels bin alike */
    float m = observe(g, GOLDEN, 0).lo, M = observe(g, GOLDEN, 0).hi, lo, hi;
    uint32_t counts[OCT_RANGE_BINS] = {0};
    oct_ctx *ctx = test_ctx();
    oct_i8_kernels k;
    oct_i8_kernels_init(&k, ctx->cpu_mask);
    k.histogram(counts, g, GOLDEN, m, oct_range_bin_scale(m, M));
    oct_range_shrink(&lo, &hi, counts, m, M, 1);
    CU_ASSERT_TRUE(lo == b.lo && hi == b.hi);
    oct_ctx_destroy(ctx);
    oct_free(g);
}

/* T24: one value of 1000 among a million normal ones. */
static void shrink_drops_one_outlier(void)
{
    const size_t n = 1000000;
    float *x = oct_alloc(n, sizeof *x);
    CU_ASSERT_PTR_NOT_NULL_FATAL(x);
    test_fill_normal(x, n, 24);
    x[123456] = 1000;
    bounds b = observe(x, n, 0.01f);
    CU_ASSERT_TRUE(b.hi > 4 && b.hi < 9);
    CU_ASSERT_TRUE(b.lo < -4 && b.lo > -6);
    CU_ASSERT_EQUAL(observe(x, n, 0).hi, 1000);
    for (size_t i = 0; i < n; i++) x[i] = -x[i]; /* and on the other side */
    b = observe(x, n, 0.01f);
    CU_ASSERT_TRUE(b.lo < -4 && b.lo > -9);
    CU_ASSERT_TRUE(b.hi > 4 && b.hi < 6);
    oct_free(x);
}

/* T24: below 10^4 elements one value is more than 0.01 percent. */
static void shrink_leaves_small_tensors_alone(void)
{
    float x[9999];
    test_fill_normal(x, 9999, 1);
    x[5000] = 1000;
    bounds b = observe(x, 9999, 0.01f);
    CU_ASSERT_EQUAL(b.hi, 1000);
    CU_ASSERT_EQUAL(b.lo, observe(x, 9999, 0).lo);
}

/* T24, docs/quantization.md 2.11: constant tensors, empty histograms, nothing to cut. */
static void shrink_degenerate_is_the_extrema(void)
{
    float x[20000];
    for (int i = 0; i < 20000; i++) x[i] = 3.5f;
    bounds b = observe(x, 20000, 1);
    CU_ASSERT_TRUE(b.lo == 3.5f && b.hi == 3.5f);
    for (int i = 0; i < 20000; i++) x[i] = 0;
    b = observe(x, 20000, 1);
    CU_ASSERT_TRUE(b.lo == 0 && b.hi == 0);
    uint32_t counts[OCT_RANGE_BINS] = {0};
    oct_range_shrink(&b.lo, &b.hi, counts, -1, 2, 1);
    CU_ASSERT_TRUE(b.lo == -1 && b.hi == 2);
    counts[100] = 1000; /* everything in one bin: the cut stops next to it */
    oct_range_shrink(&b.lo, &b.hi, counts, 0, 255, 1);
    CU_ASSERT_TRUE(b.lo == 99 && b.hi == 101);
    oct_range_shrink(&b.lo, &b.hi, counts, 0, 255, 0);
    CU_ASSERT_TRUE(b.lo == 0 && b.hi == 255);
}

/* T24, T39: the phase depends on seed, node and step alone, and takes all four values. */
static void phase_is_a_function_of_its_key(void)
{
    int seen[4] = {0};
    for (uint64_t step = 0; step < 400; step++) {
        int a[2], b[2];
        oct_range_phase(a, 1, 7, step);
        oct_range_phase(b, 1, 7, step);
        CU_ASSERT_EQUAL(memcmp(a, b, sizeof a), 0);
        CU_ASSERT_TRUE_FATAL((a[0] | a[1] | 1) == 1);
        seen[a[0] * 2 + a[1]]++;
    }
    for (int i = 0; i < 4; i++) CU_ASSERT_TRUE(seen[i] > 60 && seen[i] < 140);
    int same[3] = {0};
    for (uint64_t step = 0; step < 400; step++) {
        int base[2], other[2];
        oct_range_phase(base, 1, 7, step);
        for (int i = 0; i < 3; i++) {
            oct_range_phase(other, i == 0 ? 2 : 1, i == 1 ? 8 : 7, i == 2 ? step + 1 : step);
            same[i] += !memcmp(base, other, sizeof base);
        }
    }
    for (int i = 0; i < 3; i++) CU_ASSERT_TRUE(same[i] < 160);
}

static const test_case cases[] = {
    {"T8_range_hi_sequence", range_hi_sequence},
    {"T8_update_factor_has_a_floor", update_factor_has_a_floor},
    {"T1_T2_clip_reads_the_next_power_of_two", clip_reads_the_next_power_of_two},
    {"clip_of_nothing_is_the_smallest", clip_of_nothing_is_the_smallest},
    {"clip_of_a_decided_sign_ignores_lo", clip_of_a_decided_sign_ignores_lo},
    {"T23_one_negative_batch_flips_to_signed", one_negative_batch_flips_to_signed},
    {"T24_shrink_gives_the_goldens", shrink_gives_the_goldens},
    {"T24_shrink_drops_one_outlier", shrink_drops_one_outlier},
    {"T24_shrink_leaves_small_tensors_alone", shrink_leaves_small_tensors_alone},
    {"T24_shrink_degenerate_is_the_extrema", shrink_degenerate_is_the_extrema},
    {"T24_T39_phase_is_a_function_of_its_key", phase_is_a_function_of_its_key},
};
TEST_SUITE("range", cases);
