/* SPDX-License-Identifier: BSD-2-Clause
 * Elementwise kernels of profile affine: requantization by multipliers, add, mul, floats to codes.
 */
#include "tests/checkkern/check_i8.h"

#include <math.h>

#include "quant/int8/affine.h"
#include "quant/int8/kernels/i8_kernels.h"

static int random_zero(checkkern *k)
{
    static const int usual[4] = {0, 128, 255, 1};
    const int i = checkkern_random(k, 0, 7);
    return i < 4 ? usual[i] : checkkern_random(k, 0, 255);
}

static void random_limits(checkkern *k, int *lo, int *hi)
{
    *lo = checkkern_random(k, 0, 2) ? 0 : checkkern_random(k, 0, 255);
    *hi = checkkern_random(k, 0, 2) ? 255 : checkkern_random(k, *lo, 255);
}

static float random_scale(checkkern *k, int center)
{
    switch (checkkern_random(k, 0, 5)) {
    case 0: return ldexpf(1.0f, center + checkkern_random(k, -3, 3)); /* ties */
    case 1: return ldexpf(1.0f, checkkern_random(k, -60, 60));
    default: return ldexpf(1.0f + (float)checkkern_random(k, 0, 9999) * 1e-4f, center + checkkern_random(k, -2, 2));
    }
}

static void check_requantize(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 1200, 15000); i++) {
        const int channels = i < 140 ? i + 1 : checkkern_random(k, 1, 200), pixels = i < 140 ? 1 + i % 5 : checkkern_random(k, 1, 33);
        const int zero = random_zero(k);
        int lo, hi;
        random_limits(k, &lo, &hi);
        checkkern_case(k, "pixels %d channels %d zero %d limits %d..%d", pixels, channels, zero, lo, hi);
        const size_t n = (size_t)(pixels * channels);
        int32_t *acc = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        float *multiplier = cg_alloc(k, (size_t)channels * 4, cg_where(i / 4 % CG_PLACES, 4));
        for (size_t e = 0; e < n; e++)
            acc[e] = i % 3 == 0 ? (int32_t)oct_rng_u32(checkkern_rng(k)) : checkkern_random(k, -100000, 100000);
        acc[0] = i % 2 ? INT32_MAX : INT32_MIN;
        for (int o = 0; o < channels; o++) multiplier[o] = random_scale(k, -9);
        cg_input(k, acc);
        cg_input(k, multiplier);
        uint8_t *want = cg_alloc(k, n, 0), *got = cg_alloc(k, n, cg_where(i / 2 % CG_PLACES, 1));
        c.requantize_affine(want, acc, multiplier, (size_t)pixels, channels, zero, lo, hi);
        checkkern_call_begin(k);
        t.requantize_affine(got, acc, multiplier, (size_t)pixels, channels, zero, lo, hi);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "codes", got, want, n);
    }
}

typedef void pair_kernel(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, const oct_i8_affine_pair *p);

static void check_pair(checkkern *k, pair_kernel *want_of, pair_kernel *got_of, int center)
{
    for (int i = 0; i < checkkern_count(k, 400, 5000); i++) {
        const size_t n = i < 150 ? (size_t)i + 1 : (size_t)checkkern_random(k, 1, 700);
        oct_i8_affine_pair p = {.a_scale = random_scale(k, center), .b_scale = random_scale(k, center),
                                .a_zero = random_zero(k), .b_zero = random_zero(k), .zero = random_zero(k)};
        random_limits(k, &p.lo, &p.hi);
        checkkern_case(k, "n %zu scales %a %a zeros %d %d %d limits %d..%d", n, (double)p.a_scale, (double)p.b_scale, p.a_zero,
                       p.b_zero, p.zero, p.lo, p.hi);
        uint8_t *a = cg_alloc(k, n, cg_where(i % CG_PLACES, 1)), *b = cg_alloc(k, n, cg_where(i / 4 % CG_PLACES, 1));
        checkkern_random_bytes(k, a, n);
        checkkern_random_bytes(k, b, n);
        cg_input(k, a);
        cg_input(k, b);
        uint8_t *want = cg_alloc(k, n, 0), *got = cg_alloc(k, n, cg_where(i / 2 % CG_PLACES, 1));
        want_of(want, a, b, n, &p);
        checkkern_call_begin(k);
        got_of(got, a, b, n, &p);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "codes", got, want, n);
    }
}

static void check_add(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    check_pair(k, c.add_affine, t.add_affine, 0);
}

static void check_mul(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    check_pair(k, c.mul_affine, t.mul_affine, -8);
}

/* Floats around the codes, on ties, far outside, and not finite. */
static float random_value(checkkern *k, float scale)
{
    static const float odd[] = {INFINITY, -INFINITY, NAN, 3e38f, -3e38f, 0.0f, -0.0f, 1e-40f};
    switch (checkkern_random(k, 0, 9)) {
    case 0: return odd[checkkern_random(k, 0, 7)];
    case 1: return (float)checkkern_random(k, -600, 600) * 0.5f * scale;
    default: return (float)checkkern_random(k, -300000, 300000) * 1e-3f * scale;
    }
}

static void check_quantize(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 500, 6000); i++) {
        const size_t n = i < 150 ? (size_t)i + 1 : (size_t)checkkern_random(k, 1, 500), bytes = (n + 7) / 8;
        const float scale = random_scale(k, -6);
        oct_i8_affine_quantize q = {.inverse = 1.0f / scale, .zero = random_zero(k), .x_low = i % 3 ? -INFINITY : 0x1p-149f,
                                    .x_high = i % 4 ? INFINITY : 100 * scale};
        random_limits(k, &q.lo, &q.hi);
        q.p_low = (float)-q.zero - 0.5f;
        q.p_high = (float)(255 - q.zero) + 0.5f;
        checkkern_case(k, "n %zu scale %a zero %d limits %d..%d", n, (double)scale, q.zero, q.lo, q.hi);
        float *x = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        for (size_t e = 0; e < n; e++) x[e] = random_value(k, scale);
        cg_input(k, x);
        uint8_t *want = cg_alloc(k, n, 0), *got = cg_alloc(k, n, cg_where(i / 4 % CG_PLACES, 1));
        uint8_t *want_bits = cg_alloc(k, bytes, 0), *got_bits = cg_alloc(k, bytes, cg_where(i / 2 % CG_PLACES, 1));
        c.quantize_affine(want, want_bits, x, n, &q);
        checkkern_call_begin(k);
        t.quantize_affine(got, got_bits, x, n, &q);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "codes", got, want, n);
        checkkern_same_bytes(k, "bits", got_bits, want_bits, bytes);
        t.quantize_affine(got, NULL, x, n, &q);
        checkkern_same_bytes(k, "codes without bits", got, want, n);
    }
}

void check_i8_affine(checkkern *k)
{
    checkkern_entry(k, "i8.requantize_affine", check_i8_levels, check_requantize, NULL);
    checkkern_entry(k, "i8.add_affine", check_i8_levels, check_add, NULL);
    checkkern_entry(k, "i8.mul_affine", check_i8_levels, check_mul, NULL);
    checkkern_entry(k, "i8.quantize_affine", check_i8_levels, check_quantize, NULL);
}
