/* SPDX-License-Identifier: BSD-2-Clause
 * Kernels that read accumulators: requantization, range masks, statistics, the affine map of training.
 */
#include "tests/checkkern/check_i8.h"

#include <string.h>

#include "quant/int8/kernels/i8_kernels.h"

enum { ACC_KINDS = 5 };

/* Accumulators that matter for a shift of n: anything, small, near ties, the extremes of int32, and
 * (bounded) |acc| below 2^29. */
static int32_t make_acc(checkkern *k, int kind, int n)
{
    const int32_t any = (int32_t)oct_rng_u32(checkkern_rng(k));
    switch (kind) {
    case 0: return any;
    case 1: return checkkern_random(k, -600, 600);
    case 2: {
        const int bits = n < 1 ? 1 : n > 22 ? 22 : n;
        return (2 * checkkern_random(k, -150, 260) + 1) * (1 << (bits - 1)) + checkkern_random(k, -1, 1);
    }
    case 3: {
        static const int32_t extremes[] = {INT32_MIN, INT32_MIN + 1, INT32_MAX, INT32_MAX - 1, -1, 0,
                                           1,         1 << 30};
        return extremes[checkkern_random(k, 0, 7)];
    }
    default: return any >> 3 == -(1 << 28) ? 0 : any >> 3;
    }
}

/* Limits of codes: the usual ones, then anything legal. */
static void make_limits(checkkern *k, int *lo, int *hi)
{
    static const int usual[4][2] = {{0, 255}, {-128, 127}, {-127, 127}, {0, 127}};
    const int i = checkkern_random(k, 0, 6);
    if (i < 4) {
        *lo = usual[i][0];
        *hi = usual[i][1];
        return;
    }
    const int is_signed = checkkern_random(k, 0, 1);
    *lo = checkkern_random(k, is_signed ? -128 : 0, is_signed ? 127 : 255);
    *hi = checkkern_random(k, *lo, is_signed ? 127 : 255);
}

/* Shifts: all the usual right shifts, one value for all, or anything legal. */
static void make_shifts(checkkern *k, int8_t *shift, int channels, int kind)
{
    const int same = checkkern_random(k, -31, 62);
    for (int c = 0; c < channels; c++)
        shift[c] = (int8_t)(kind == 0   ? checkkern_random(k, 1, 24)
                            : kind == 1 ? same
                                        : checkkern_random(k, -31, 62));
}

/* Pixels and channels of case i: channels one at a time, pixels one at a time, then random. */
static void make_shape(checkkern *k, int i, int *pixels, int *channels)
{
    static const int fixed[5] = {16, 24, 64, 3, 10};
    if (i < 130) {
        *channels = i + 1;
        *pixels = 1 + i % 5;
    } else if (i < 130 + 5 * 33) {
        *channels = fixed[(i - 130) / 33];
        *pixels = (i - 130) % 33 + 1;
    } else {
        *channels = checkkern_random(k, 1, 200);
        *pixels = checkkern_random(k, 1, 32);
    }
}

static void check_requantize(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 1500, 20000); i++) {
        int pixels, channels, lo, hi;
        make_shape(k, i % 500, &pixels, &channels);
        make_limits(k, &lo, &hi);
        const int kind = i / 3 % 4;
        checkkern_case(k, "pixels %d channels %d shifts %d accumulators %d limits %d..%d", pixels, channels,
                       i % 3, kind, lo, hi);
        const size_t n = (size_t)(pixels * channels);
        int8_t *shift = cg_alloc(k, (size_t)channels, cg_where(i % CG_PLACES, 1));
        int32_t *acc = cg_alloc(k, n * 4, cg_where(i / 4 % CG_PLACES, 4));
        make_shifts(k, shift, channels, i % 3);
        for (size_t e = 0; e < n; e++) acc[e] = make_acc(k, kind, shift[e % (size_t)channels]);
        cg_input(k, shift);
        cg_input(k, acc);
        uint8_t *want = cg_alloc(k, n, 0), *got = cg_alloc(k, n, cg_where(i / 2 % CG_PLACES, 1));
        c.requantize(want, acc, shift, (size_t)pixels, channels, lo, hi);
        for (int twice = 0; twice < 2; twice++) {
            checkkern_call_begin(k);
            t.requantize(got, acc, shift, (size_t)pixels, channels, lo, hi);
            checkkern_call_end(k);
            checkkern_same_bytes(k, "codes", got, want, n);
        }
    }
}

static void check_mask_range(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 600, 6000); i++) {
        int pixels, channels;
        make_shape(k, i, &pixels, &channels);
        checkkern_case(k, "pixels %d channels %d", pixels, channels);
        const size_t n = (size_t)(pixels * channels), bytes = (n + 7) / 8;
        int32_t *acc = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        int32_t *low = cg_alloc(k, (size_t)channels * 4, cg_where(i / 4 % CG_PLACES, 4));
        int32_t *high = cg_alloc(k, (size_t)channels * 4, cg_where(i / 2 % CG_PLACES, 4));
        const int kind = i % 2 ? 1 : 3; /* small numbers or extremes, so that equality happens */
        for (size_t e = 0; e < n; e++) acc[e] = make_acc(k, kind, 1);
        for (int o = 0; o < channels; o++) {
            low[o] = make_acc(k, kind, 1);
            high[o] = make_acc(k, kind, 1);
        }
        cg_input(k, acc);
        cg_input(k, low);
        cg_input(k, high);
        uint8_t *want = cg_alloc(k, bytes, 0), *got = cg_alloc(k, bytes, cg_where(i / 3 % CG_PLACES, 1));
        c.mask_range(want, acc, low, high, (size_t)pixels, channels);
        checkkern_call_begin(k);
        t.mask_range(got, acc, low, high, (size_t)pixels, channels);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "bits", got, want, bytes);
    }
}

/* What acc_sums adds to. */
typedef struct sums {
    int64_t *sum;
    uint64_t *square;
    int32_t *min, *max;
} sums;

static sums make_sums(checkkern *k, int channels, int place)
{
    sums s = {cg_alloc(k, (size_t)channels * 8, cg_where(place % CG_PLACES, 8)),
              cg_alloc(k, (size_t)channels * 8, cg_where(place % CG_PLACES, 8)),
              cg_alloc(k, (size_t)channels * 4, cg_where(place % CG_PLACES, 4)),
              cg_alloc(k, (size_t)channels * 4, cg_where(place % CG_PLACES, 4))};
    for (int c = 0; c < channels; c++) {
        s.sum[c] = (int64_t)c * -1000000007;
        s.square[c] = (uint64_t)c * 77777777777;
        s.min[c] = c % 3 ? INT32_MAX : -c;
        s.max[c] = c % 3 ? INT32_MIN : c;
    }
    return s;
}

static void check_acc_sums(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 600, 6000); i++) {
        int pixels, channels;
        make_shape(k, i, &pixels, &channels);
        if (pixels > 32) pixels = 32;
        checkkern_case(k, "pixels %d channels %d", pixels, channels);
        const size_t n = (size_t)(pixels * channels);
        int32_t *acc = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        const int kind = i % 4;
        const int32_t bound = (1 << 29) - 1;
        for (size_t e = 0; e < n; e++)
            acc[e] = kind == 0   ? bound
                     : kind == 1 ? -bound
                     : kind == 2 ? make_acc(k, 4, 1)
                                 : make_acc(k, 1, 1);
        cg_input(k, acc);
        const sums want = make_sums(k, channels, 0), got = make_sums(k, channels, i / 4);
        c.acc_sums(want.sum, want.square, want.min, want.max, acc, pixels, channels);
        checkkern_call_begin(k);
        t.acc_sums(got.sum, got.square, got.min, got.max, acc, pixels, channels);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "sum", got.sum, want.sum, (size_t)channels * 8);
        checkkern_same_bytes(k, "square", got.square, want.square, (size_t)channels * 8);
        checkkern_same_i32(k, "min", got.min, want.min, (size_t)channels);
        checkkern_same_i32(k, "max", got.max, want.max, (size_t)channels);
    }
}

static void check_acc_affine(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 500, 5000); i++) {
        int pixels, channels;
        make_shape(k, i, &pixels, &channels);
        checkkern_case(k, "pixels %d channels %d", pixels, channels);
        const size_t n = (size_t)(pixels * channels);
        int32_t *acc = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        float *a = cg_alloc(k, (size_t)channels * 4, cg_where(i / 4 % CG_PLACES, 4));
        float *b = cg_alloc(k, (size_t)channels * 4, cg_where(i / 2 % CG_PLACES, 4));
        for (size_t e = 0; e < n; e++) acc[e] = make_acc(k, i % 2 ? 0 : 4, 1);
        for (int o = 0; o < channels; o++) {
            a[o] = (float)checkkern_random(k, -99999, 99999) * 1e-7f;
            b[o] = (float)checkkern_random(k, -99999, 99999) * 1e-3f;
        }
        cg_input(k, acc);
        cg_input(k, a);
        cg_input(k, b);
        float *want = cg_alloc(k, n * 4, 0), *got = cg_alloc(k, n * 4, cg_where(i / 3 % CG_PLACES, 4));
        c.acc_affine(want, acc, a, b, (size_t)pixels, channels);
        checkkern_call_begin(k);
        t.acc_affine(got, acc, a, b, (size_t)pixels, channels);
        checkkern_call_end(k);
        checkkern_same_f32(k, "y", got, want, n);
    }
}

static void check_acc_gradient(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 500, 5000); i++) {
        int pixels, channels;
        make_shape(k, i, &pixels, &channels);
        const int with_bits = i % 4 != 1, in_place = i % 3 == 0;
        checkkern_case(k, "pixels %d channels %d bits %d in place %d", pixels, channels, with_bits, in_place);
        const size_t n = (size_t)(pixels * channels), bytes = (n + 7) / 8;
        int32_t *acc = cg_alloc(k, n * 4, cg_where(i % CG_PLACES, 4));
        float *dy = cg_alloc(k, n * 4, cg_where(i / 4 % CG_PLACES, 4));
        uint8_t *bits = cg_alloc(k, bytes, cg_where(i / 2 % CG_PLACES, 1));
        float *per_channel[4];
        for (size_t e = 0; e < n; e++) {
            acc[e] = make_acc(k, i % 2 ? 0 : 4, 1);
            dy[e] = (float)checkkern_random(k, -99999, 99999) * 1e-5f;
        }
        for (size_t e = 0; e < bytes; e++) bits[e] = (uint8_t)checkkern_random(k, 0, 255);
        for (int v = 0; v < 4; v++) {
            per_channel[v] = cg_alloc(k, (size_t)channels * 4, cg_where((i + v) % CG_PLACES, 4));
            for (int o = 0; o < channels; o++)
                per_channel[v][o] = (float)checkkern_random(k, -99999, 99999) * 1e-3f;
            cg_input(k, per_channel[v]);
        }
        cg_input(k, dy);
        cg_input(k, bits);
        const float *b = per_channel[0], *p = per_channel[1], *q = per_channel[2], *r = per_channel[3];
        float *want = cg_alloc(k, n * 4, 0), *got = cg_alloc(k, n * 4, cg_where(i / 3 % CG_PLACES, 4));
        c.acc_gradient(want, dy, with_bits ? bits : NULL, acc, b, p, q, r, (size_t)pixels, channels);
        if (in_place) {
            memcpy(got, acc, n * 4);
        } else {
            cg_input(k, acc);
        }
        checkkern_call_begin(k);
        t.acc_gradient(got, dy, with_bits ? bits : NULL, in_place ? (const int32_t *)(const void *)got : acc, b, p, q,
                       r, (size_t)pixels, channels);
        checkkern_call_end(k);
        checkkern_same_f32(k, "dx", got, want, n);
    }
}

/* ---- bench: 32 pixels of 16 and of 64 channels, as a row leaves them in the cache ---- */

typedef struct bench_acc {
    oct_i8_kernels table;
    int pixels, channels;
    int32_t *acc, *low, *high;
    int8_t *shift;
    uint8_t *codes;
    int64_t *sum;
    uint64_t *square;
    float *a, *x, *y;
} bench_acc;

static void call_requantize(void *arg)
{
    bench_acc *b = arg;
    b->table.requantize(b->codes, b->acc, b->shift, (size_t)b->pixels, b->channels, 0, 255);
}

static void call_mask_range(void *arg)
{
    bench_acc *b = arg;
    b->table.mask_range(b->codes, b->acc, b->low, b->high, (size_t)b->pixels, b->channels);
}

static void call_acc_sums(void *arg)
{
    bench_acc *b = arg;
    b->table.acc_sums(b->sum, b->square, b->low, b->high, b->acc, b->pixels, b->channels);
}

static void call_acc_affine(void *arg)
{
    bench_acc *b = arg;
    b->table.acc_affine(b->y, b->acc, b->a, b->a, (size_t)b->pixels, b->channels);
}

static void call_acc_gradient(void *arg)
{
    bench_acc *b = arg;
    b->table.acc_gradient(b->y, b->x, b->codes, b->acc, b->a, b->a, b->a, b->a, (size_t)b->pixels, b->channels);
}

static void bench(checkkern *k, uint32_t mask, void (*call)(void *))
{
    bench_acc b = {.pixels = 32};
    oct_i8_kernels_init(&b.table, mask);
    for (b.channels = 16; b.channels <= 64; b.channels *= 2) {
        const size_t channels = (size_t)b.channels, n = 32 * channels;
        checkkern_case(k, "bench");
        b.acc = cg_alloc(k, n * 4, 0);
        b.low = cg_alloc(k, channels * 4, 0);
        b.high = cg_alloc(k, channels * 4, 0);
        b.shift = cg_alloc(k, channels, 0);
        b.codes = cg_alloc(k, n, 0);
        b.sum = cg_alloc(k, channels * 8, 0);
        b.square = cg_alloc(k, channels * 8, 0);
        b.a = cg_alloc(k, channels * 4, 0);
        b.x = cg_alloc(k, n * 4, 0);
        b.y = cg_alloc(k, n * 4, 0);
        memset(b.x, 0, n * 4);
        memset(b.shift, 7, channels);
        memset(b.a, 0, channels * 4);
        checkkern_rate(k,
                       b.channels == 16   ? "32 x 16"
                       : b.channels == 32 ? "32 x 32"
                                          : "32 x 64",
                       checkkern_seconds(k, call, &b), (double)n, "Gelem/s");
    }
}

static void bench_requantize(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_requantize);
}

static void bench_mask_range(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_mask_range);
}

static void bench_acc_sums(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_acc_sums);
}

static void bench_acc_affine(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_acc_affine);
}

static void bench_acc_gradient(checkkern *k, uint32_t mask)
{
    bench(k, mask, call_acc_gradient);
}

void check_i8_accumulators(checkkern *k)
{
    checkkern_entry(k, "i8.requantize", check_i8_levels, check_requantize, bench_requantize);
    checkkern_entry(k, "i8.mask_range", check_i8_levels, check_mask_range, bench_mask_range);
    checkkern_entry(k, "i8.acc_sums", check_i8_levels, check_acc_sums, bench_acc_sums);
    checkkern_entry(k, "i8.acc_affine", check_i8_levels, check_acc_affine, bench_acc_affine);
    checkkern_entry(k, "i8.acc_gradient", check_i8_levels, check_acc_gradient, bench_acc_gradient);
}
