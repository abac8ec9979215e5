/* SPDX-License-Identifier: BSD-2-Clause
 * Kernels between floats and codes, and the observers' statistics.
 */
#include "tests/checkkern/check_i8.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/int8/kernels/i8_kernels.h"

/* Sizes one at a time up to two steps of the widest kernel and one more, then random. */
static size_t make_size(checkkern *k, int i)
{
    return (size_t)(i < 129 ? i + 1 : checkkern_random(k, 1, 3000));
}

/* A float that matters: near ties of x*kappa, ordinary, large, denormal, zeros, infinities, NaN. */
static float make_float(checkkern *k, float kappa)
{
    const float tie = ((float)checkkern_random(k, -300, 300) + 0.5f) / kappa;
    switch (checkkern_random(k, 0, 11)) {
    case 0: return tie;
    case 1: return nextafterf(tie, INFINITY);
    case 2: return nextafterf(tie, -INFINITY);
    case 3: return (float)checkkern_random(k, -1, 1) * INFINITY; /* NaN in the middle */
    case 4: return checkkern_random(k, 0, 1) ? 0.0f : -0.0f;
    case 5: return (float)checkkern_random(k, -3, 3) * FLT_TRUE_MIN;
    case 6: return checkkern_random(k, 0, 1) ? FLT_MAX : -FLT_MAX;
    case 7: {
        const uint32_t bits = oct_rng_u32(checkkern_rng(k));
        float x;
        memcpy(&x, &bits, sizeof x);
        return x;
    }
    default: return (float)checkkern_random(k, -100000, 100000) * 0.003f / kappa;
    }
}

typedef struct quantize_case {
    float act_lo, act_hi, clip_lo, clip_hi, kappa;
    int lo, hi;
} quantize_case;

static quantize_case make_quantize(checkkern *k)
{
    static const int limits[5][2] = {{0, 255}, {-128, 127}, {-127, 127}, {0, 127}, {3, 40}};
    static const int exponents[6] = {-126, 127, 0, 30, -30, 120};
    const int i = checkkern_random(k, 0, 4);
    quantize_case q = {.lo = limits[i][0], .hi = limits[i][1]};
    q.kappa = ldexpf(1.0f, checkkern_random(k, 0, 9) ? checkkern_random(k, -10, 10)
                                                     : exponents[checkkern_random(k, 0, 5)]);
    q.act_lo = checkkern_random(k, 0, 1) ? 0.0f : -INFINITY;
    q.act_hi = checkkern_random(k, 0, 1) ? 6.0f : INFINITY;
    if (!checkkern_random(k, 0, 3)) q.act_lo = -(q.act_hi = (float)checkkern_random(k, 0, 300) / q.kappa);
    if (!checkkern_random(k, 0, 15)) q.act_lo = INFINITY;
    if (!checkkern_random(k, 0, 15)) q.act_hi = -INFINITY;
    q.clip_lo = ((float)q.lo - 0.5f) / q.kappa;
    q.clip_hi = ((float)q.hi + 0.5f) / q.kappa;
    return q;
}

static void check_quantize(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 1500, 20000); i++) {
        const quantize_case q = make_quantize(k);
        const size_t n = make_size(k, i % 200), bytes = (n + 7) / 8;
        checkkern_case(k, "n %zu act %g..%g kappa %g codes %d..%d bits %d", n, (double)q.act_lo,
                       (double)q.act_hi, (double)q.kappa, q.lo, q.hi, i % 4 != 3);
        float *x = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        for (size_t e = 0; e < n; e++) x[e] = make_float(k, q.kappa);
        x[0] = i % 3 == 0 ? q.act_lo : i % 3 == 1 ? q.clip_hi : q.clip_lo;
        cg_input(k, x);
        uint8_t *want = cg_alloc(k, n, 0), *got = cg_alloc(k, n, cg_where(i / 4 % CG_PLACES, 1));
        uint8_t *want_bits = cg_alloc(k, bytes, 0),
                *got_bits = cg_alloc(k, bytes, cg_where(i / 2 % CG_PLACES, 1));
        const int masked = i % 4 != 3;
        c.quantize_f32(want, masked ? want_bits : NULL, x, n, q.act_lo, q.act_hi, q.clip_lo, q.clip_hi,
                       q.kappa, q.lo, q.hi);
        for (int twice = 0; twice < 2; twice++) {
            checkkern_call_begin(k);
            t.quantize_f32(got, masked ? got_bits : NULL, x, n, q.act_lo, q.act_hi, q.clip_lo, q.clip_hi,
                           q.kappa, q.lo, q.hi);
            checkkern_call_end(k);
            checkkern_same_bytes(k, "codes", got, want, n);
            checkkern_same_bytes(k, "bits", got_bits, want_bits, bytes);
        }
    }
}

static void check_dequantize(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 400, 4000); i++) {
        const size_t n = make_size(k, i);
        const float delta = i % 3 ? ldexpf(1.0f, checkkern_random(k, -40, 20)) : 0.0123f;
        const int zero = i % 3 ? 0 : checkkern_random(k, 0, 255);
        checkkern_case(k, "n %zu signed %d zero %d", n, i % 2, zero);
        uint8_t *codes = cg_alloc(k, n, cg_where(i % CG_PLACES, 1));
        checkkern_random_bytes(k, codes, n);
        cg_input(k, codes);
        float *want = cg_alloc(k, n * 4, 0), *got = cg_alloc(k, n * 4, cg_where(i / 4 % CG_PLACES, 4));
        c.dequantize(want, codes, n, delta, zero, i % 2);
        checkkern_call_begin(k);
        t.dequantize(got, codes, n, delta, zero, i % 2);
        checkkern_call_end(k);
        checkkern_same_f32(k, "x", got, want, n);
    }
}

static void check_mask_apply(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 400, 4000); i++) {
        const size_t n = make_size(k, i), bytes = (n + 7) / 8;
        checkkern_case(k, "n %zu in place %d", n, i % 2);
        float *dy = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        uint8_t *bits = cg_alloc(k, bytes, cg_where(i / 4 % CG_PLACES, 1));
        for (size_t e = 0; e < n; e++) dy[e] = make_float(k, 1.0f); /* a dropped NaN must not show */
        checkkern_random_bytes(k, bits, bytes);
        cg_input(k, bits);
        float *want = cg_alloc(k, n * 4, 0), *got = cg_alloc(k, n * 4, cg_where(i / 2 % CG_PLACES, 4));
        c.mask_apply(want, dy, bits, n);
        float *dx = i % 2 ? dy : got;
        if (dx != dy) cg_input(k, dy);
        checkkern_call_begin(k);
        t.mask_apply(dx, dy, bits, n);
        checkkern_call_end(k);
        checkkern_same_f32(k, "dx", dx, want, n);
    }
}

static void check_min_max(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 400, 4000); i++) {
        const size_t n = make_size(k, i);
        checkkern_case(k, "n %zu", n);
        float *x = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        for (size_t e = 0; e < n; e++) x[e] = i % 5 ? make_float(k, 1.0f) : i % 10 ? -0.0f : NAN;
        cg_input(k, x);
        float *want = cg_alloc(k, 8, 0), *got = cg_alloc(k, 8, CG_END);
        want[0] = got[0] = i % 3 ? INFINITY : -2.0f;
        want[1] = got[1] = i % 3 ? -INFINITY : 2.0f;
        const size_t expected = c.min_max(&want[0], &want[1], x, n);
        checkkern_call_begin(k);
        const size_t found = t.min_max(&got[0], &got[1], x, n);
        checkkern_call_end(k);
        checkkern_same_f32(k, "limits", got, want, 2);
        if (found != expected) checkkern_fail(k, "%zu non-finite, expected %zu", found, expected);
    }
}

static void check_histogram(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 400, 4000); i++) {
        const size_t n = make_size(k, i);
        const float mult =
            i % 7 == 6 ? 0.0f
                       : ldexpf(1.0f + 0.01f * (float)checkkern_random(k, 0, 99), checkkern_random(k, -3, 3));
        const float lo = (float)checkkern_random(k, -200, 20) / (mult == 0.0f ? 1.0f : mult);
        checkkern_case(k, "n %zu lo %g mult %g", n, (double)lo, (double)mult);
        float *x = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        for (size_t e = 0; e < n; e++) x[e] = i % 9 ? make_float(k, i % 7 == 6 ? 1.0f : mult) : 1.0f;
        cg_input(k, x);
        uint32_t *want = cg_alloc(k, 1024, 0), *got = cg_alloc(k, 1024, cg_where(i / 4 % CG_PLACES, 4));
        for (int b = 0; b < 256; b++) want[b] = got[b] = (uint32_t)b;
        c.histogram(want, x, n, lo, mult);
        checkkern_call_begin(k);
        t.histogram(got, x, n, lo, mult);
        checkkern_call_end(k);
        checkkern_same_i32(k, "counts", (const int32_t *)got, (const int32_t *)want, 256);
    }
}

/* ---- bench: one 32x32 image of 16 channels ---- */

enum { BENCH_COUNT = 16384 };

typedef struct bench_float {
    oct_i8_kernels table;
    float *x, *y;
    uint8_t *codes, *bits;
    uint32_t *counts;
} bench_float;

static void call_quantize(void *arg)
{
    bench_float *b = arg;
    b->table.quantize_f32(b->codes, b->bits, b->x, BENCH_COUNT, 0.0f, 6.0f, -0.01f, 5.0f, 32.0f, 0, 255);
}

static void call_dequantize(void *arg)
{
    bench_float *b = arg;
    b->table.dequantize(b->y, b->codes, BENCH_COUNT, 0.25f, 0, 0);
}

static void call_mask_apply(void *arg)
{
    bench_float *b = arg;
    b->table.mask_apply(b->y, b->x, b->bits, BENCH_COUNT);
}

static void call_min_max(void *arg)
{
    bench_float *b = arg;
    b->table.min_max(&b->y[0], &b->y[1], b->x, BENCH_COUNT);
}

static void call_histogram(void *arg)
{
    bench_float *b = arg;
    b->table.histogram(b->counts, b->x, BENCH_COUNT, -6.0f, 20.0f);
}

static void bench(checkkern *k, uint32_t mask, void (*call)(void *))
{
    bench_float b;
    oct_i8_kernels_init(&b.table, mask);
    checkkern_case(k, "bench");
    b.x = cg_alloc(k, BENCH_COUNT * 4, 0);
    b.y = cg_alloc(k, BENCH_COUNT * 4, 0);
    b.codes = cg_alloc(k, BENCH_COUNT, 0);
    b.bits = cg_alloc(k, BENCH_COUNT / 8, 0);
    b.counts = cg_alloc(k, 1024, 0);
    for (int i = 0; i < BENCH_COUNT; i++) b.x[i] = (float)checkkern_random(k, -6000, 6000) * 0.001f;
    checkkern_rate(k, "16384 elements", checkkern_seconds(k, call, &b), BENCH_COUNT, "Gelem/s");
}

static void bench_quantize(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_quantize);
}

static void bench_dequantize(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_dequantize);
}

static void bench_mask_apply(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_mask_apply);
}

static void bench_min_max(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_min_max);
}

static void bench_histogram(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_histogram);
}

void check_i8_floats(checkkern *k)
{
    checkkern_entry(k, "i8.quantize_f32", check_i8_levels, check_quantize, bench_quantize);
    checkkern_entry(k, "i8.dequantize", check_i8_levels, check_dequantize, bench_dequantize);
    checkkern_entry(k, "i8.mask_apply", check_i8_levels, check_mask_apply, bench_mask_apply);
    checkkern_entry(k, "i8.min_max", check_i8_levels, check_min_max, bench_min_max);
    checkkern_entry(k, "i8.histogram", check_i8_levels, check_histogram, bench_histogram);
}
