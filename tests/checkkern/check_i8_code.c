/* SPDX-License-Identifier: BSD-2-Clause
 * Elementwise kernels on codes.
 */
#include "tests/checkkern/check_i8.h"

#include <stdbool.h>
#include <string.h>

#include "quant/int8/kernels/i8_kernels.h"

static size_t make_size(checkkern *k, int i)
{
    return (size_t)(i < 129 ? i + 1 : checkkern_random(k, 1, 2000));
}

static uint8_t *make_codes(checkkern *k, size_t n, int place)
{
    uint8_t *codes = cg_alloc(k, n, cg_where(place % CG_PLACES, 1));
    checkkern_random_bytes(k, codes, n);
    if (place % 5 == 4) memset(codes, place % 2 ? 0x80 : 0xff, n);
    if (place % 7 == 6) memset(codes, 0x7f, n / 2);
    cg_input(k, codes);
    return codes;
}

static void make_limits(checkkern *k, int *lo, int *hi)
{
    static const int limits[6][2] = {{0, 255}, {-128, 127}, {-127, 127}, {0, 127}, {5, 77}, {-100, -3}};
    const int i = checkkern_random(k, 0, 5);
    *lo = limits[i][0];
    *hi = limits[i][1];
}

/* Usual right shifts half of the time, else anything legal. */
static int make_shift(checkkern *k)
{
    return checkkern_random(k, 0, 1) ? checkkern_random(k, 0, 12) : checkkern_random(k, -31, 62);
}

static void check_sums(checkkern *k, uint32_t mask, bool subtract)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 2000, 20000); i++) {
        const size_t n = make_size(k, i % 200);
        int lo, hi, shift = make_shift(k);
        int up = checkkern_random(k, 0, 3) ? checkkern_random(k, 0, 22) : checkkern_random(k, 0, 52);
        if (shift < 1 && up > 22) shift = 1; /* the sum must fit in 32 bits then */
        make_limits(k, &lo, &hi);
        const int sa = i % 2 ? up : 0, sb = i % 2 ? 0 : up, a_signed = i / 2 % 2, b_signed = i / 4 % 2;
        checkkern_case(k, "n %zu signed %d %d sa %d sb %d shift %d limits %d..%d", n, a_signed, b_signed, sa,
                       sb, shift, lo, hi);
        const uint8_t *a = make_codes(k, n, i), *b = make_codes(k, n, i / 3);
        uint8_t *want = cg_alloc(k, n, 0), *got = cg_alloc(k, n, cg_where(i / 4 % CG_PLACES, 1));
        (subtract ? c.sub : c.add)(want, a, b, n, a_signed, b_signed, sa, sb, shift, lo, hi);
        checkkern_call_begin(k);
        (subtract ? t.sub : t.add)(got, a, b, n, a_signed, b_signed, sa, sb, shift, lo, hi);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "codes", got, want, n);
    }
}

static void check_add(checkkern *k, uint32_t mask)
{
    check_sums(k, mask, false);
}

static void check_sub(checkkern *k, uint32_t mask)
{
    check_sums(k, mask, true);
}

static void check_mul(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 1000, 10000); i++) {
        const size_t n = make_size(k, i % 200);
        int lo, hi;
        make_limits(k, &lo, &hi);
        const int shift = make_shift(k), a_signed = i % 2, b_signed = i / 2 % 2;
        checkkern_case(k, "n %zu signed %d %d shift %d limits %d..%d", n, a_signed, b_signed, shift, lo, hi);
        const uint8_t *a = make_codes(k, n, i), *b = make_codes(k, n, i / 3);
        uint8_t *want = cg_alloc(k, n, 0), *got = cg_alloc(k, n, cg_where(i / 4 % CG_PLACES, 1));
        c.mul(want, a, b, n, a_signed, b_signed, shift, lo, hi);
        checkkern_call_begin(k);
        t.mul(got, a, b, n, a_signed, b_signed, shift, lo, hi);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "codes", got, want, n);
    }
}

static void check_rescale(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 1000, 10000); i++) {
        const int channels = i < 130 ? i + 1 : checkkern_random(k, 1, 100),
                  pixels = checkkern_random(k, 1, 20);
        const ptrdiff_t out_pixel = channels + (i % 3 ? checkkern_random(k, 0, 20) : 0);
        const ptrdiff_t in_pixel = channels + (i % 3 ? checkkern_random(k, 0, 20) : 0);
        int lo, hi;
        make_limits(k, &lo, &hi);
        const int shift = make_shift(k), is_signed = i % 2;
        checkkern_case(k, "pixels %d channels %d strides %td %td signed %d shift %d limits %d..%d", pixels,
                       channels, out_pixel, in_pixel, is_signed, shift, lo, hi);
        const uint8_t *x = make_codes(k, (size_t)((pixels - 1) * in_pixel + channels), i);
        const size_t count = (size_t)((pixels - 1) * out_pixel + channels);
        uint8_t *want = cg_alloc(k, count, 0), *got = cg_alloc(k, count, cg_where(i / 4 % CG_PLACES, 1));
        c.rescale(want, x, (size_t)pixels, channels, out_pixel, in_pixel, is_signed, shift, lo, hi);
        checkkern_call_begin(k);
        t.rescale(got, x, (size_t)pixels, channels, out_pixel, in_pixel, is_signed, shift, lo, hi);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "codes", got, want, count);
    }
}

static void check_lookup(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 100, 1000); i++) {
        const int channels = checkkern_random(k, 1, 5), pixels = checkkern_random(k, 1, 300);
        checkkern_case(k, "pixels %d channels %d", pixels, channels);
        const size_t n = (size_t)(pixels * channels);
        const uint8_t *x = make_codes(k, n, i), *table = make_codes(k, 256 * (size_t)channels, 5 * i);
        uint8_t *want = cg_alloc(k, n, 0), *got = cg_alloc(k, n, cg_where(i / 4 % CG_PLACES, 1));
        c.lookup(want, x, table, (size_t)pixels, channels);
        checkkern_call_begin(k);
        t.lookup(got, x, table, (size_t)pixels, channels);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "codes", got, want, n);
    }
}

static void check_blend(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 300, 3000); i++) {
        const int channels = i < 140 ? i + 1 : checkkern_random(k, 1, 500), is_signed = i % 2;
        const int down = checkkern_random(k, 0, 1024), right = i % 3 ? checkkern_random(k, 0, 1024) : 0;
        const int32_t w[4] = {(1024 - down) * (1024 - right), (1024 - down) * right, down * (1024 - right), down * right};
        checkkern_case(k, "channels %d signed %d fractions %d %d", channels, is_signed, down, right);
        const uint8_t *x[4];
        for (int corner = 0; corner < 4; corner++) x[corner] = make_codes(k, (size_t)channels, i + 3 * corner);
        uint8_t *want = cg_alloc(k, (size_t)channels, 0), *got = cg_alloc(k, (size_t)channels, cg_where(i / 4 % CG_PLACES, 1));
        c.blend(want, x, w, channels, is_signed);
        checkkern_call_begin(k);
        t.blend(got, x, w, channels, is_signed);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "codes", got, want, (size_t)channels);
    }
}

/* ---- bench ---- */

enum { BENCH_COUNT = 16384 };

typedef struct bench_codes {
    oct_i8_kernels table;
    uint8_t *a, *b, *codes;
} bench_codes;

static void call_add(void *arg)
{
    bench_codes *b = arg;
    b->table.add(b->codes, b->a, b->b, BENCH_COUNT, 0, 0, 1, 0, 2, 0, 255);
}

static void call_sub(void *arg)
{
    bench_codes *b = arg;
    b->table.sub(b->codes, b->a, b->b, BENCH_COUNT, 0, 0, 1, 0, 2, 0, 255);
}

static void call_blend(void *arg)
{
    bench_codes *b = arg;
    const uint8_t *x[4] = {b->a, b->a, b->b, b->b};
    const int32_t w[4] = {1 << 18, 1 << 18, 1 << 18, 1 << 18};
    b->table.blend(b->codes, x, w, BENCH_COUNT, 0);
}

static void call_rescale(void *arg)
{
    bench_codes *b = arg;
    b->table.rescale(b->codes, b->a, BENCH_COUNT / 16, 16, 16, 16, 0, 1, 0, 255);
}

static void call_lookup(void *arg)
{
    bench_codes *b = arg;
    b->table.lookup(b->codes, b->a, b->b, BENCH_COUNT / 4, 4);
}

static void bench(checkkern *k, uint32_t mask, void (*call)(void *))
{
    bench_codes b;
    oct_i8_kernels_init(&b.table, mask);
    checkkern_case(k, "bench");
    b.a = cg_alloc(k, BENCH_COUNT, 0);
    b.b = cg_alloc(k, BENCH_COUNT, 0);
    b.codes = cg_alloc(k, BENCH_COUNT, 0);
    checkkern_rate(k, "16384 elements", checkkern_seconds(k, call, &b), BENCH_COUNT, "Gelem/s");
}

static void bench_add(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_add);
}

static void bench_sub(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_sub);
}

static void bench_blend(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_blend);
}

static void bench_rescale(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_rescale);
}

static void bench_lookup(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_lookup);
}

void check_i8_codes(checkkern *k)
{
    checkkern_entry(k, "i8.add", check_i8_levels, check_add, bench_add);
    checkkern_entry(k, "i8.sub", check_i8_levels, check_sub, bench_sub);
    checkkern_entry(k, "i8.blend", check_i8_levels, check_blend, bench_blend);
    checkkern_entry(k, "i8.mul", check_i8_levels, check_mul, NULL);
    checkkern_entry(k, "i8.rescale", check_i8_levels, check_rescale, bench_rescale);
    checkkern_entry(k, "i8.lookup", check_i8_levels, check_lookup, bench_lookup);
}
