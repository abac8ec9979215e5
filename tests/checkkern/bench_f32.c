/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/checkkern/bench_f32.h"

#include <math.h>
#include <stdio.h>

#include "autograd/kernels/f32_kernels.h"

/* Everything a bench call may need; small multiples of 0.001 keep the numbers away from denormals and
 * overflow. */
typedef struct workload {
    oct_f32_kernels t;
    float *x, *y, *z, *w;
    double *sum, *square;
    oct_f32_conv_row conv;
    oct_f32_conv_dw dw;
    oct_f32_depthwise depthwise;
    size_t n, rows;
    int channels;
} workload;

enum { ELEMENTS = 1 << 18 };

static float *some_floats(checkkern *k, size_t n)
{
    float *p = cg_alloc(k, n * sizeof *p, 0);
    for (size_t i = 0; i < n; i++) p[i] = 1e-3f * (float)(i % 7) - 2e-3f;
    return p;
}

static workload prepare(checkkern *k, uint32_t mask)
{
    checkkern_case(k, "bench");
    workload b = {0};
    oct_f32_kernels_init(&b.t, mask);
    b.x = some_floats(k, ELEMENTS);
    b.y = some_floats(k, ELEMENTS);
    b.z = some_floats(k, ELEMENTS);
    b.w = some_floats(k, 4 * (size_t)ELEMENTS);
    b.sum = cg_alloc(k, 4096 * sizeof(double), 0);
    b.square = cg_alloc(k, 4096 * sizeof(double), 0);
    for (int i = 0; i < 4096; i++) b.sum[i] = b.square[i] = 0.0;
    return b;
}

/* ---- convolution ---- */

static void call_conv_row(void *arg)
{
    workload *b = arg;
    b->t.conv_row(b->y, b->x, b->w, NULL, &b->conv);
}

void bench_conv_row(checkkern *k, uint32_t mask)
{
    static const struct {
        int channels, outputs, taps, pixels;
    } shapes[] = {{16, 16, 3, 32},  {32, 32, 3, 16}, {64, 64, 3, 8}, {48, 48, 3, 16}, {128, 128, 3, 16},
                  {256, 256, 3, 4}, {3, 16, 3, 32},  {1, 32, 3, 28}, {64, 64, 1, 32}, {3, 64, 7, 112}};
    workload b = prepare(k, mask);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        int c = shapes[i].channels, taps = shapes[i].taps;
        b.conv = (oct_f32_conv_row){.pixels = shapes[i].pixels,
                                    .outputs = shapes[i].outputs,
                                    .taps_h = taps,
                                    .taps_w = taps,
                                    .channels = c,
                                    .x_pixel = c,
                                    .x_tap = c,
                                    .y_pixel = shapes[i].outputs};
        b.conv.x_row = (ptrdiff_t)(shapes[i].pixels + taps - 1) * c;
        char shape[64];
        snprintf(shape, sizeof shape, "%d->%d %dx%d on %d pixels", c, shapes[i].outputs, taps, taps,
                 shapes[i].pixels);
        double flops = 2.0 * taps * taps * c * shapes[i].outputs * shapes[i].pixels;
        checkkern_rate(k, shape, checkkern_seconds(k, call_conv_row, &b), flops, "GFLOP/s");
    }
    b.conv = (oct_f32_conv_row){.pixels = 128,
                                .outputs = 10,
                                .taps_h = 1,
                                .taps_w = 1,
                                .channels = 512,
                                .x_pixel = 512,
                                .x_row = 512,
                                .x_tap = 512,
                                .y_pixel = 10};
    checkkern_rate(k, "linear 512->10, batch 128", checkkern_seconds(k, call_conv_row, &b),
                   2.0 * 128 * 512 * 10, "GFLOP/s");
}

static void call_conv_dw(void *arg)
{
    workload *b = arg;
    b->t.conv_dw(b->w, b->x, b->y, &b->dw);
}

void bench_conv_dw(checkkern *k, uint32_t mask)
{
    static const struct {
        int inner, outputs, pixels, x_pixel;
    } shapes[] = {{48, 16, 32, 16}, {96, 32, 16, 32}, {192, 64, 8, 64}, {9, 16, 32, 3}, {384, 128, 8, 128}};
    workload b = prepare(k, mask);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        int n = shapes[i].pixels;
        b.dw = (oct_f32_conv_dw){.rows = n,
                                 .pixels = n,
                                 .outputs = shapes[i].outputs,
                                 .inner = shapes[i].inner,
                                 .x_pixel = shapes[i].x_pixel,
                                 .dy_pixel = shapes[i].outputs};
        b.dw.x_row = (ptrdiff_t)(n + 2) * b.dw.x_pixel;
        b.dw.dy_row = n * b.dw.dy_pixel;
        char shape[64];
        snprintf(shape, sizeof shape, "inner %d outputs %d on %dx%d", shapes[i].inner, shapes[i].outputs, n,
                 n);
        double flops = 2.0 * n * n * shapes[i].inner * shapes[i].outputs;
        checkkern_rate(k, shape, checkkern_seconds(k, call_conv_dw, &b), flops, "GFLOP/s");
    }
}

static void call_depthwise_row(void *arg)
{
    workload *b = arg;
    b->t.depthwise_row(b->y, b->x, b->w, NULL, &b->depthwise);
}

static void call_depthwise_dw(void *arg)
{
    workload *b = arg;
    b->t.depthwise_dw(b->w, b->x, b->y, &b->depthwise);
}

static void bench_depthwise(checkkern *k, uint32_t mask, void (*call)(void *))
{
    workload b = prepare(k, mask);
    for (int channels = 16; channels <= 256; channels *= 4) {
        b.depthwise = (oct_f32_depthwise){.pixels = 16,
                                          .channels = channels,
                                          .taps_h = 3,
                                          .taps_w = 3,
                                          .x_pixel = channels,
                                          .x_tap = channels,
                                          .x_row = 18 * (ptrdiff_t)channels,
                                          .y_pixel = channels};
        char shape[64];
        snprintf(shape, sizeof shape, "%d channels 3x3 on 16 pixels", channels);
        checkkern_rate(k, shape, checkkern_seconds(k, call, &b), 2.0 * 9 * 16 * channels, "GFLOP/s");
    }
}

void bench_depthwise_row(checkkern *k, uint32_t mask)
{
    bench_depthwise(k, mask, call_depthwise_row);
}

void bench_depthwise_dw(checkkern *k, uint32_t mask)
{
    bench_depthwise(k, mask, call_depthwise_dw);
}

/* ---- per channel and elementwise ---- */

static void call_channel_sums(void *arg)
{
    workload *b = arg;
    b->t.channel_sums(b->sum, b->square, b->x, b->rows, b->channels);
}

static void call_affine_clamp(void *arg)
{
    workload *b = arg;
    b->t.affine_clamp(b->y, b->x, b->w, b->w + 4096, b->z, b->rows, b->channels, 0.0f, INFINITY);
}

static void call_bn_backward_sums(void *arg)
{
    workload *b = arg;
    b->t.bn_backward_sums(b->sum, b->square, b->z, b->z, b->y, -1.0f, INFINITY, b->x, b->w, b->rows,
                          b->channels);
}

static void call_bn_backward_apply(void *arg)
{
    workload *b = arg;
    b->t.bn_backward_apply(b->y, b->z, b->x, b->w, b->w + 4096, b->w + 8192, b->rows, b->channels, 0);
}

/* bytes: read and written per element. */
static void bench_rows(checkkern *k, uint32_t mask, void (*call)(void *), double bytes)
{
    static const int channels[] = {3, 16, 64, 512};
    workload b = prepare(k, mask);
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) {
        b.channels = channels[i];
        b.rows = 16384 / (size_t)channels[i];
        char shape[64];
        snprintf(shape, sizeof shape, "%zu rows of %d channels", b.rows, b.channels);
        double work = (double)b.rows * b.channels * bytes;
        checkkern_rate(k, shape, checkkern_seconds(k, call, &b), work, "GB/s");
    }
}

void bench_channel_sums(checkkern *k, uint32_t mask)
{
    bench_rows(k, mask, call_channel_sums, 4);
}

void bench_affine_clamp(checkkern *k, uint32_t mask)
{
    bench_rows(k, mask, call_affine_clamp, 12);
}

void bench_bn_backward_sums(checkkern *k, uint32_t mask)
{
    bench_rows(k, mask, call_bn_backward_sums, 16);
}

void bench_bn_backward_apply(checkkern *k, uint32_t mask)
{
    bench_rows(k, mask, call_bn_backward_apply, 12);
}

static void call_clamp(void *arg)
{
    workload *b = arg;
    b->t.clamp(b->y, b->y, b->n, -1.0f, 1.0f);
}

static void call_clamp_backward(void *arg)
{
    workload *b = arg;
    b->t.clamp_backward(b->z, b->z, b->y, b->n, -1.0f, 1.0f, 0);
}

static void call_sum_squares(void *arg)
{
    workload *b = arg;
    b->sum[0] = b->t.sum_squares(b->x, b->n);
}

static void call_sgd(void *arg)
{
    workload *b = arg;
    b->t.sgd(b->w, b->y, b->x, NULL, b->n, 1.0f, 1e-3f, 0.9f, 1e-4f, 1);
}

static void bench_flat(checkkern *k, uint32_t mask, void (*call)(void *), double bytes)
{
    workload b = prepare(k, mask);
    b.n = 16384;
    checkkern_rate(k, "16384 elements", checkkern_seconds(k, call, &b), (double)b.n * bytes, "GB/s");
}

void bench_clamp(checkkern *k, uint32_t mask)
{
    bench_flat(k, mask, call_clamp, 8);
}

void bench_clamp_backward(checkkern *k, uint32_t mask)
{
    bench_flat(k, mask, call_clamp_backward, 12);
}

void bench_sum_squares(checkkern *k, uint32_t mask)
{
    bench_flat(k, mask, call_sum_squares, 4);
}

void bench_sgd(checkkern *k, uint32_t mask)
{
    bench_flat(k, mask, call_sgd, 20);
}
