/* SPDX-License-Identifier: BSD-2-Clause
 * The kernels marked exact, against the C reference bit by bit (any NaN equals any NaN). */
#include "tests/checkkern/check_f32.h"

/* ---- per channel ---- */

typedef struct rows_case {
    int channels;
    size_t rows, count; /* count = rows * channels */
    data_kind kind;
} rows_case;

/* The i-th case: all channel counts up to two vectors and one, row counts from 0, blocks of rows, random. */
static rows_case next_rows(checkkern *k, int i, data_kind kind)
{
    static const int many[][2] = {{1, 9000},  {3, 3000}, {16, 1100}, {64, 300},
                                  {100, 200}, {300, 70}, {512, 33}};
    enum { MANY = sizeof many / sizeof many[0] };
    rows_case r = {.kind = kind};
    if (i < 33) r.channels = i + 1, r.rows = 3;
    else if (i < 41) r.channels = 19, r.rows = (size_t)(i - 33);
    else if (i < 41 + MANY) r.channels = many[i - 41][0], r.rows = (size_t)many[i - 41][1];
    else r.channels = checkkern_random(k, 1, 80), r.rows = (size_t)checkkern_random(k, 1, 60);
    r.count = r.rows * (size_t)r.channels;
    checkkern_case(k, "case %d: rows %zu channels %d kind %d", i, r.rows, r.channels, kind);
    return r;
}

enum { ROWS_QUICK = 120, ROWS_FULL = 2000 };

void check_channel_sums(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, ROWS_QUICK, ROWS_FULL); i++) {
        rows_case r = next_rows(k, i, (data_kind)(i % 3));
        const float *x = f32_input(k, r.count, r.kind);
        double *want_sum, *want_square;
        double *sum = f32_doubles(k, r.channels, &want_sum),
               *square = f32_doubles(k, r.channels, &want_square);
        c.channel_sums(want_sum, want_square, x, r.rows, r.channels);
        checkkern_call_begin(k);
        t.channel_sums(sum, square, x, r.rows, r.channels);
        checkkern_call_end(k);
        f32_same_doubles(k, "sum", sum, want_sum, (size_t)r.channels);
        f32_same_doubles(k, "square", square, want_square, (size_t)r.channels);
    }
}

void check_channel_sum(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, ROWS_QUICK, ROWS_FULL); i++) {
        rows_case r = next_rows(k, i, (data_kind)(i % 3));
        const float *dy = f32_input(k, r.count, r.kind);
        double *want, *sum = f32_doubles(k, r.channels, &want);
        c.channel_sum(want, dy, r.rows, r.channels);
        checkkern_call_begin(k);
        t.channel_sum(sum, dy, r.rows, r.channels);
        checkkern_call_end(k);
        f32_same_doubles(k, "sum", sum, want, (size_t)r.channels);
    }
}

void check_affine_clamp(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, 3 * ROWS_QUICK, ROWS_FULL); i++) {
        /* alias 0: none, no residual; 1: none; 2: y is x; 3: y is residual */
        int alias = i / ROWS_QUICK ? checkkern_random(k, 1, 3) : i % 4;
        rows_case r = next_rows(k, i % ROWS_QUICK, (data_kind)(i / 2 % 3));
        size_t channels = (size_t)r.channels;
        const float *x = f32_input(k, r.count, r.kind), *a = f32_input(k, channels, r.kind),
                    *b = f32_input(k, channels, r.kind);
        const float *residual = alias ? f32_input(k, r.count, r.kind) : NULL;
        float *want = f32_output(k, r.count), lo, hi;
        float *got = alias < 2 ? f32_output(k, r.count) : f32_copy(k, alias == 2 ? x : residual, r.count);
        f32_limits(i, &lo, &hi);
        c.affine_clamp(want, x, a, b, residual, r.rows, r.channels, lo, hi);
        checkkern_call_begin(k);
        t.affine_clamp(got, alias == 2 ? got : x, a, b, alias == 3 ? got : residual, r.rows, r.channels, lo,
                       hi);
        checkkern_call_end(k);
        f32_same(k, "y", got, want, r.count);
    }
}

void check_bn_backward_sums(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, 2 * ROWS_QUICK, ROWS_FULL); i++) {
        rows_case r = next_rows(k, i % ROWS_QUICK, (data_kind)(i % 3));
        const float *dy = f32_input(k, r.count, r.kind), *x = f32_input(k, r.count, r.kind);
        const float *mean = f32_input(k, (size_t)r.channels, r.kind);
        const float *y = i % 4 ? f32_input(k, r.count, r.kind) : NULL;
        int in_place = i / 4 % 2;
        float *want = f32_output(k, r.count),
              *dz = in_place ? f32_copy(k, dy, r.count) : f32_output(k, r.count), lo, hi;
        double *want_sum, *want_dot;
        double *sum = f32_doubles(k, r.channels, &want_sum), *dot = f32_doubles(k, r.channels, &want_dot);
        f32_limits(i, &lo, &hi);
        c.bn_backward_sums(want_sum, want_dot, want, dy, y, lo, hi, x, mean, r.rows, r.channels);
        checkkern_call_begin(k);
        t.bn_backward_sums(sum, dot, dz, in_place ? dz : dy, y, lo, hi, x, mean, r.rows, r.channels);
        checkkern_call_end(k);
        f32_same(k, "dz", dz, want, r.count);
        f32_same_doubles(k, "sum", sum, want_sum, (size_t)r.channels);
        f32_same_doubles(k, "dot", dot, want_dot, (size_t)r.channels);
    }
}

void check_bn_backward_apply(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, 2 * ROWS_QUICK, ROWS_FULL); i++) {
        rows_case r = next_rows(k, i % ROWS_QUICK, (data_kind)(i % 3));
        size_t channels = (size_t)r.channels;
        const float *dz = f32_input(k, r.count, r.kind), *x = f32_input(k, r.count, r.kind);
        const float *p = f32_input(k, channels, r.kind), *q = f32_input(k, channels, r.kind),
                    *s = f32_input(k, channels, r.kind);
        int accumulate = i % 2, in_place = !accumulate && i / 2 % 2;
        const float *start = in_place ? dz : f32_output(k, r.count);
        if (accumulate) start = f32_input(k, r.count, r.kind);
        float *want = f32_copy(k, start, r.count), *dx = f32_copy(k, start, r.count);
        c.bn_backward_apply(want, dz, x, p, q, s, r.rows, r.channels, accumulate);
        checkkern_call_begin(k);
        t.bn_backward_apply(dx, in_place ? dx : dz, x, p, q, s, r.rows, r.channels, accumulate);
        checkkern_call_end(k);
        f32_same(k, "dx", dx, want, r.count);
    }
}

void check_bn_masked_sums(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, 2 * ROWS_QUICK, ROWS_FULL); i++) {
        rows_case r = next_rows(k, i % ROWS_QUICK, (data_kind)(i % 3));
        const float *dy = f32_input(k, r.count, r.kind), *x = f32_input(k, r.count, r.kind), *v[3];
        for (int j = 0; j < 3; j++) v[j] = f32_input(k, (size_t)r.channels, r.kind);
        double *want_sum, *want_dot;
        double *sum = f32_doubles(k, r.channels, &want_sum), *dot = f32_doubles(k, r.channels, &want_dot);
        float lo, hi;
        f32_limits(i, &lo, &hi);
        c.bn_masked_sums(want_sum, want_dot, dy, x, v[0], v[1], lo, hi, v[2], r.rows, r.channels);
        checkkern_call_begin(k);
        t.bn_masked_sums(sum, dot, dy, x, v[0], v[1], lo, hi, v[2], r.rows, r.channels);
        checkkern_call_end(k);
        f32_same_doubles(k, "sum", sum, want_sum, (size_t)r.channels);
        f32_same_doubles(k, "dot", dot, want_dot, (size_t)r.channels);
    }
}

void check_bn_masked_apply(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, 2 * ROWS_QUICK, ROWS_FULL); i++) {
        rows_case r = next_rows(k, i % ROWS_QUICK, (data_kind)(i % 3));
        const float *dy = f32_input(k, r.count, r.kind), *x = f32_input(k, r.count, r.kind), *v[5];
        for (int j = 0; j < 5; j++) v[j] = f32_input(k, (size_t)r.channels, r.kind);
        int accumulate = i % 2, in_place = !accumulate && i / 2 % 2;
        const float *start = in_place ? dy : f32_output(k, r.count);
        if (accumulate) start = f32_input(k, r.count, r.kind);
        float *want = f32_copy(k, start, r.count), *dx = f32_copy(k, start, r.count), lo, hi;
        f32_limits(i, &lo, &hi);
        c.bn_masked_apply(want, dy, x, v[0], v[1], lo, hi, v[2], v[3], v[4], r.rows, r.channels, accumulate);
        checkkern_call_begin(k);
        t.bn_masked_apply(dx, in_place ? dx : dy, x, v[0], v[1], lo, hi, v[2], v[3], v[4], r.rows, r.channels, accumulate);
        checkkern_call_end(k);
        f32_same(k, "dx", dx, want, r.count);
    }
}

/* ---- elementwise ---- */

enum { FLAT_QUICK = 200, FLAT_FULL = 3000 };

static size_t next_count(checkkern *k, int i, data_kind kind)
{
    int n = i < 70 ? i : checkkern_random(k, 1, 1000);
    checkkern_case(k, "case %d: n %d kind %d", i, n, kind);
    return (size_t)n;
}

void check_clamp(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, FLAT_QUICK, FLAT_FULL); i++) {
        size_t n = next_count(k, i, SPECIAL);
        const float *x = f32_input(k, n, SPECIAL);
        float *want = f32_output(k, n), *y = i % 2 ? f32_copy(k, x, n) : f32_output(k, n), lo, hi;
        f32_limits(i, &lo, &hi);
        c.clamp(want, x, n, lo, hi);
        checkkern_call_begin(k);
        t.clamp(y, i % 2 ? y : x, n, lo, hi);
        checkkern_call_end(k);
        f32_same(k, "y", y, want, n);
    }
}

typedef void binary_kernel(float *y, const float *a, const float *b, size_t n);

static void check_binary(checkkern *k, binary_kernel *reference, binary_kernel *tested)
{
    for (int i = 0; i < checkkern_count(k, FLAT_QUICK, FLAT_FULL); i++) {
        size_t n = next_count(k, i, SPECIAL);
        const float *a = f32_input(k, n, SPECIAL), *b = f32_input(k, n, SPECIAL);
        float *want = f32_output(k, n);
        float *y = i % 3 ? f32_copy(k, i % 3 == 1 ? a : b, n) : f32_output(k, n);
        reference(want, a, b, n);
        checkkern_call_begin(k);
        tested(y, i % 3 == 1 ? y : a, i % 3 == 2 ? y : b, n);
        checkkern_call_end(k);
        f32_same(k, "y", y, want, n);
    }
}

void check_add(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    check_binary(k, c.add, t.add);
}

void check_mul(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    check_binary(k, c.mul, t.mul);
}

void check_clamp_backward(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, FLAT_QUICK, FLAT_FULL); i++) {
        size_t n = next_count(k, i, SPECIAL);
        const float *dy = f32_input(k, n, SPECIAL), *y = f32_input(k, n, SPECIAL);
        int accumulate = i % 3 == 0, in_place = i % 3 == 1;
        const float *start = accumulate ? f32_input(k, n, SPECIAL) : in_place ? dy : f32_output(k, n);
        float *want = f32_copy(k, start, n), *dx = f32_copy(k, start, n), lo, hi;
        f32_limits(i, &lo, &hi);
        c.clamp_backward(want, dy, y, n, lo, hi, accumulate);
        checkkern_call_begin(k);
        t.clamp_backward(dx, in_place ? dx : dy, y, n, lo, hi, accumulate);
        checkkern_call_end(k);
        f32_same(k, "dx", dx, want, n);
    }
}

void check_axpy(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, FLAT_QUICK, FLAT_FULL); i++) {
        size_t n = next_count(k, i, SPECIAL);
        const float *x = f32_input(k, n, SPECIAL), *start = f32_input(k, n, SPECIAL);
        float *want = f32_copy(k, start, n), *y = f32_copy(k, start, n), a = f32_value(k, SPECIAL);
        c.axpy(want, a, x, n);
        checkkern_call_begin(k);
        t.axpy(y, a, x, n);
        checkkern_call_end(k);
        f32_same(k, "y", y, want, n);
    }
}

void check_sum_squares(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, FLAT_QUICK, FLAT_FULL); i++) {
        data_kind kind = (data_kind)(i % 3);
        size_t n = next_count(k, i, kind);
        const float *x = f32_input(k, n, kind);
        double want = c.sum_squares(x, n);
        checkkern_call_begin(k);
        double got = t.sum_squares(x, n);
        checkkern_call_end(k);
        f32_same_doubles(k, "sum", &got, &want, 1);
    }
}

void check_sgd(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, FLAT_QUICK, FLAT_FULL); i++) {
        data_kind kind = (data_kind)(i % 3);
        size_t n = next_count(k, i, kind);
        const float *grad = f32_input(k, n, kind), *w0 = f32_input(k, n, kind), *v0 = f32_input(k, n, kind);
        uint8_t *decay = i & 1 ? cg_alloc(k, n, f32_place(k, 1)) : NULL;
        for (size_t j = 0; decay && j < n; j++) decay[j] = (uint8_t)checkkern_random(k, 0, 1);
        if (decay) cg_input(k, decay);
        float *want_w = f32_copy(k, w0, n), *want_v = f32_copy(k, v0, n), *w = f32_copy(k, w0, n),
              *v = f32_copy(k, v0, n);
        int nesterov = i / 2 % 2;
        c.sgd(want_w, want_v, grad, decay, n, 0.7f, 0.1f, 0.9f, 5e-4f, nesterov);
        checkkern_call_begin(k);
        t.sgd(w, v, grad, decay, n, 0.7f, 0.1f, 0.9f, 5e-4f, nesterov);
        checkkern_call_end(k);
        f32_same(k, "v", v, want_v, n);
        f32_same(k, "w", w, want_w, n);
    }
}
