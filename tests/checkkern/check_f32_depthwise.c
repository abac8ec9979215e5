/* SPDX-License-Identifier: BSD-2-Clause
 * Depthwise convolution against double arithmetic, within the bound of the contract. */
#include "tests/checkkern/check_f32.h"

#include <math.h>

/* ---- depthwise ---- */

static oct_f32_depthwise depthwise_shape(int pixels, int channels, int taps_h, int taps_w, int variant)
{
    oct_f32_depthwise p = {.pixels = pixels, .channels = channels, .taps_h = taps_h, .taps_w = taps_w};
    p.accumulate = variant & 1;
    p.y_pixel = channels + (variant & 2 ? 3 : 0);
    p.x_tap = variant & 4 ? 2 * channels : channels;
    p.x_pixel = variant & 8 ? 2 * channels + 1 : channels;
    p.x_row = p.x_pixel * pixels + p.x_tap * taps_w;
    if (variant & 16) p.x_tap = -p.x_tap, p.x_row = -p.x_row;
    return p;
}

static void describe_depthwise(checkkern *k, const oct_f32_depthwise *p, int with_bias)
{
    checkkern_case(k,
                   "pixels %d channels %d taps %dx%d x strides %td %td %td y_pixel %td accumulate %d bias %d",
                   p->pixels, p->channels, p->taps_h, p->taps_w, p->x_pixel, p->x_row, p->x_tap, p->y_pixel,
                   p->accumulate, with_bias);
}

static const float *depthwise_input(checkkern *k, const oct_f32_depthwise *p, data_kind kind)
{
    f32_grid g = {{p->taps_h, p->taps_w, p->pixels}, {p->x_row, p->x_tap, p->x_pixel}, p->channels};
    return f32_grid_input(k, &g, kind);
}

static void depthwise_row_case(checkkern *k, const oct_f32_kernels *t, const oct_f32_depthwise *p,
                               int with_bias, data_kind kind)
{
    describe_depthwise(k, p, with_bias);
    const float *x = depthwise_input(k, p, kind);
    int taps = p->taps_h * p->taps_w;
    const float *w = f32_input(k, (size_t)taps * (size_t)p->channels, kind);
    const float *bias = with_bias ? f32_input(k, (size_t)p->channels, kind) : NULL;
    size_t count = (size_t)((p->pixels - 1) * p->y_pixel + p->channels);
    float *start = f32_output(k, count);
    if (p->accumulate) f32_fill(k, start, count, kind);
    float *y = f32_copy(k, start, count), *again = f32_copy(k, start, count);
    checkkern_call_begin(k);
    t->depthwise_row(y, x, w, bias, p);
    t->depthwise_row(again, x, w, bias, p);
    checkkern_call_end(k);
    checkkern_same_bytes(k, "second run", again, y, count * sizeof *y);
    for (int n = 0; n < p->pixels; n++) {
        for (ptrdiff_t c = 0; c < p->y_pixel && (n + 1 < p->pixels || c < p->channels); c++) {
            size_t at = (size_t)(n * p->y_pixel + c);
            if (c >= p->channels) {
                checkkern_same_bytes(k, "y between pixels", y + at, start + at, sizeof *y);
                continue;
            }
            double sum = bias ? (double)bias[c] : 0.0, magnitude = fabs(sum);
            if (p->accumulate) sum += (double)start[at], magnitude += fabs((double)start[at]);
            for (int i = 0; i < taps; i++) {
                double term =
                    (double)x[n * p->x_pixel + i / p->taps_w * p->x_row + i % p->taps_w * p->x_tap + c] *
                    (double)w[i * p->channels + c];
                sum += term;
                magnitude += fabs(term);
            }
            f32_end_residual(p->end, at, &sum, &magnitude);
            f32_near_end(k, at, y[at], sum, taps, magnitude, p->end);
        }
    }
}

static void depthwise_row_cases(checkkern *k, const oct_f32_kernels *t, const oct_f32_depthwise *p, int with_bias,
                                data_kind kind)
{
    depthwise_row_case(k, t, p, with_bias, kind);
    oct_f32_end end = {.lo = -0.5f, .hi = 1.5f};
    oct_f32_depthwise ended = *p;
    ended.accumulate = 0;
    ended.end = &end;
    if (with_bias) end.residual = f32_input(k, (size_t)((p->pixels - 1) * p->y_pixel + p->channels), kind);
    depthwise_row_case(k, t, &ended, with_bias, kind);
}

static void depthwise_dw_case(checkkern *k, const oct_f32_kernels *t, const oct_f32_depthwise *p,
                              data_kind kind)
{
    describe_depthwise(k, p, 0);
    const float *x = depthwise_input(k, p, kind);
    f32_grid gy = {{p->pixels, 1, 1}, {p->y_pixel, 0, 0}, p->channels};
    const float *dy = f32_grid_input(k, &gy, kind);
    int taps = p->taps_h * p->taps_w;
    size_t count = (size_t)taps * (size_t)p->channels;
    const float *start = f32_input(k, count, kind);
    float *dw = f32_copy(k, start, count), *again = f32_copy(k, start, count);
    checkkern_call_begin(k);
    t->depthwise_dw(dw, x, dy, p);
    t->depthwise_dw(again, x, dy, p);
    checkkern_call_end(k);
    checkkern_same_bytes(k, "second run", again, dw, count * sizeof *dw);
    for (int i = 0; i < taps; i++) {
        for (int c = 0; c < p->channels; c++) {
            size_t at = (size_t)i * (size_t)p->channels + (size_t)c;
            double sum = (double)start[at], magnitude = fabs(sum);
            for (int n = 0; n < p->pixels; n++) {
                double term =
                    (double)x[n * p->x_pixel + i / p->taps_w * p->x_row + i % p->taps_w * p->x_tap + c] *
                    (double)dy[n * p->y_pixel + c];
                sum += term;
                magnitude += fabs(term);
            }
            f32_near(k, "dw", at, dw[at], sum, p->pixels, magnitude);
        }
    }
}

static void check_depthwise(checkkern *k, uint32_t mask, int towards_weights)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, 500, 5000); i++) {
        /* first every pixel count, channel count and tap count by itself, then mixtures */
        int pixels = i < 17 ? i + 1 : checkkern_random(k, 1, 20);
        int channels = i < 17 ? 17 : i < 67 ? i - 16 : checkkern_random(k, 1, 50);
        int taps_h = i < 67 ? 2 : i < 92 ? (i - 67) / 5 + 1 : checkkern_random(k, 1, 4);
        int taps_w = i < 67 ? 3 : i < 92 ? (i - 67) % 5 + 1 : checkkern_random(k, 1, 4);
        oct_f32_depthwise p = depthwise_shape(pixels, channels, taps_h, taps_w, checkkern_random(k, 0, 31));
        data_kind kind = i % 3 ? PLAIN : EXTREME;
        if (towards_weights) depthwise_dw_case(k, &t, &p, kind);
        else depthwise_row_cases(k, &t, &p, i % 2, kind);
    }
}

void check_depthwise_row(checkkern *k, uint32_t mask)
{
    check_depthwise(k, mask, 0);
}

void check_depthwise_dw(checkkern *k, uint32_t mask)
{
    check_depthwise(k, mask, 1);
}
