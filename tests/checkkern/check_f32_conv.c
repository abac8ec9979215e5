/* SPDX-License-Identifier: BSD-2-Clause
 * Dense convolution against double arithmetic, within the bound of the contract. */
#include "tests/checkkern/check_f32.h"

#include <math.h>
#include <string.h>

/* ---- conv_row ---- */

static void describe_conv(checkkern *k, const oct_f32_conv_row *p, const char *note)
{
    checkkern_case(
        k, "pixels %d outputs %d taps %dx%d channels %d x strides %td %td %td y_pixel %td accumulate %d end %d%s",
        p->pixels, p->outputs, p->taps_h, p->taps_w, p->channels, p->x_pixel, p->x_row, p->x_tap, p->y_pixel,
        p->accumulate, p->end ? p->end->residual ? 2 : 1 : 0, note);
}

static void compare_conv(checkkern *k, const float *y, const float *start, const float *x, const float *w,
                         const float *bias, const oct_f32_conv_row *p)
{
    double terms = (double)p->taps_h * p->taps_w * p->channels;
    size_t block = (size_t)p->taps_h * (size_t)p->taps_w * (size_t)p->channels * OCT_F32_BLOCK;
    for (int n = 0; n < p->pixels; n++) {
        for (int o = 0; o < p->outputs; o++) {
            size_t at = (size_t)(n * p->y_pixel + o);
            double sum = bias ? (double)bias[o] : 0.0, magnitude = fabs(sum);
            if (p->accumulate) sum += (double)start[at], magnitude += fabs((double)start[at]);
            f32_end_residual(p->end, at, &sum, &magnitude);
            const float *v = w + (size_t)(o / OCT_F32_BLOCK) * block + o % OCT_F32_BLOCK;
            for (int r = 0; r < p->taps_h; r++) {
                for (int t = 0; t < p->taps_w; t++) {
                    const float *tap = x + n * p->x_pixel + r * p->x_row + t * p->x_tap;
                    for (int i = 0; i < p->channels; i++, v += OCT_F32_BLOCK) {
                        double term = (double)tap[i] * (double)*v;
                        sum += term;
                        magnitude += fabs(term);
                    }
                }
            }
            f32_near_end(k, at, y[at], sum, terms, magnitude, p->end);
        }
        size_t gap = (size_t)(n * p->y_pixel + p->outputs);
        if (n + 1 < p->pixels)
            checkkern_same_bytes(k, "y between pixels", y + gap, start + gap,
                                 (size_t)(p->y_pixel - p->outputs) * sizeof *y);
    }
}

static void conv_case(checkkern *k, const oct_f32_kernels *t, const oct_f32_conv_row *p, int with_bias,
                      data_kind kind)
{
    describe_conv(k, p, with_bias ? " with bias" : "");
    f32_grid g = {{p->taps_h, p->taps_w, p->pixels}, {p->x_row, p->x_tap, p->x_pixel}, p->channels};
    const float *x = f32_grid_input(k, &g, kind);
    size_t taps = (size_t)p->taps_h * (size_t)p->taps_w, inner = taps * (size_t)p->channels;
    float *plain = f32_input(k, inner * (size_t)p->outputs, kind);
    size_t packed = oct_f32_packed_size(p->outputs, p->taps_h, p->taps_w, p->channels);
    float *w = f32_aligned_block(k, packed);
    oct_f32_pack(w, plain, p->outputs, p->taps_h, p->taps_w, p->channels, (ptrdiff_t)inner,
                 (ptrdiff_t)p->taps_w * p->channels, p->channels, 1);
    cg_input(k, w);
    const float *bias = with_bias ? f32_input(k, (size_t)p->outputs, kind) : NULL;
    size_t count = (size_t)((p->pixels - 1) * p->y_pixel + p->outputs);
    float *start = f32_output(k, count);
    if (p->accumulate) f32_fill(k, start, count, kind);
    float *y = f32_copy(k, start, count), *again = f32_copy(k, start, count);
    checkkern_call_begin(k);
    t->conv_row(y, x, w, bias, p);
    t->conv_row(again, x, w, bias, p);
    checkkern_call_end(k);
    compare_conv(k, y, start, x, w, bias, p);
    checkkern_same_bytes(k, "second run", again, y, count * sizeof *y);
}

/* The same with an end, with and without a residual. */
static void conv_end_cases(checkkern *k, const oct_f32_kernels *t, oct_f32_conv_row p, int with_bias)
{
    oct_f32_end end = {.lo = -0.5f, .hi = 1.5f};
    p.accumulate = 0;
    p.end = &end;
    conv_case(k, t, &p, with_bias, PLAIN);
    end.residual = f32_input(k, (size_t)((p.pixels - 1) * p.y_pixel + p.outputs), PLAIN);
    conv_case(k, t, &p, with_bias, PLAIN);
}

/* Strides of a padded image; variant picks dilation, gaps, reversed axes, linear layers. */
static oct_f32_conv_row conv_shape(int pixels, int outputs, int taps_h, int taps_w, int channels, int variant)
{
    oct_f32_conv_row p = {
        .pixels = pixels, .outputs = outputs, .taps_h = taps_h, .taps_w = taps_w, .channels = channels};
    p.accumulate = variant & 1;
    p.y_pixel = outputs + (variant & 2 ? 3 : 0);
    p.x_tap = channels;
    p.x_pixel = channels;
    p.x_row = (ptrdiff_t)(pixels + taps_w - 1) * channels;
    switch (variant >> 2 & 7) {
    case 0: break;
    case 1: p.x_row += 5; break;
    case 2: p.x_pixel = 2 * channels, p.x_row *= 2; break;
    case 3: p.x_tap = 2 * channels, p.x_row *= 2; break;
    case 4: p.x_tap = -p.x_tap, p.x_row = -p.x_row; break;
    case 5: p.x_pixel = channels + 1, p.x_tap = channels + 1, p.x_row += 7 * channels; break;
    case 6: p.x_row = (ptrdiff_t)taps_w * channels, p.x_pixel = p.x_row * taps_h; break;
    default: p.x_pixel = -channels; break;
    }
    return p;
}

enum { CONV_VARIANTS = 32 };

void check_conv_row(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    int variant = 0;
    /* every register tile: rows up to two tiles and one, groups of 1..5 blocks, the last one whole or not */
    for (int pixels = 1; pixels <= 33; pixels++) {
        for (int outputs = 16; outputs <= 80; outputs += 16) {
            for (int cut = 0; cut < 2; cut++) {
                oct_f32_conv_row p = conv_shape(pixels, outputs - cut * 5, 1, 3, 2, variant % CONV_VARIANTS);
                conv_case(k, &t, &p, variant % 3 == 0, PLAIN);
                variant += 5;
            }
        }
    }
    for (int outputs = 1; outputs <= 129; outputs++) {
        oct_f32_conv_row p = conv_shape(5, outputs, 3, 1, 3, outputs % CONV_VARIANTS);
        conv_case(k, &t, &p, outputs % 2, PLAIN);
        conv_end_cases(k, &t, p, outputs % 2);
    }
    for (int channels = 1; channels <= 33; channels++) {
        for (variant = 0; variant < CONV_VARIANTS; variant += 4) {
            oct_f32_conv_row p = conv_shape(4, 17, 2, 3, channels, variant + channels % 4);
            conv_case(k, &t, &p, channels % 2, channels % 3 ? PLAIN : EXTREME);
        }
    }
    for (int taps = 1; taps <= 49; taps++) {
        oct_f32_conv_row p = conv_shape(3, 16, (taps + 6) / 7, (taps - 1) % 7 + 1, 2, taps % CONV_VARIANTS);
        conv_case(k, &t, &p, 0, PLAIN);
    }
    for (int i = 0; i < checkkern_count(k, 100, 2000); i++) {
        oct_f32_conv_row p = conv_shape(
            checkkern_random(k, 1, 40), checkkern_random(k, 1, 100), checkkern_random(k, 1, 4),
            checkkern_random(k, 1, 4), checkkern_random(k, 1, 40), checkkern_random(k, 0, CONV_VARIANTS - 1));
        conv_case(k, &t, &p, checkkern_random(k, 0, 1), checkkern_random(k, 0, 1) ? PLAIN : EXTREME);
    }
}

/* ---- conv_dw ---- */

static void compare_dw(checkkern *k, const float *dw, const float *start, const float *x, const float *dy,
                       const oct_f32_conv_dw *p)
{
    int stride = (p->outputs + OCT_F32_BLOCK - 1) / OCT_F32_BLOCK * OCT_F32_BLOCK;
    for (int j = 0; j < p->inner; j++) {
        for (int o = 0; o < stride; o++) {
            size_t at = (size_t)j * (size_t)stride + (size_t)o;
            if (o >= p->outputs) {
                if (!isfinite(dw[at])) checkkern_fail(k, "padding dw[%d][%d] is not finite", j, o);
                continue;
            }
            double sum = (double)start[at], magnitude = fabs(sum);
            for (int a = 0; a < p->rows; a++) {
                for (int n = 0; n < p->pixels; n++) {
                    double term = (double)x[a * p->x_row + n * p->x_pixel + j] *
                                  (double)dy[a * p->dy_row + n * p->dy_pixel + o];
                    sum += term;
                    magnitude += fabs(term);
                }
            }
            f32_near(k, "dw", at, dw[at], sum, (double)p->rows * p->pixels, magnitude);
        }
    }
}

static void dw_case(checkkern *k, const oct_f32_kernels *t, const oct_f32_conv_dw *p, data_kind kind)
{
    checkkern_case(k, "rows %d pixels %d outputs %d inner %d x strides %td %td dy strides %td %td", p->rows,
                   p->pixels, p->outputs, p->inner, p->x_row, p->x_pixel, p->dy_row, p->dy_pixel);
    f32_grid gx = {{p->rows, p->pixels, 1}, {p->x_row, p->x_pixel, 0}, p->inner};
    f32_grid gy = {{p->rows, p->pixels, 1}, {p->dy_row, p->dy_pixel, 0}, p->outputs};
    const float *x = f32_grid_input(k, &gx, kind), *dy = f32_grid_input(k, &gy, kind);
    size_t stride = ((size_t)p->outputs + OCT_F32_BLOCK - 1) / OCT_F32_BLOCK * OCT_F32_BLOCK;
    size_t count = (size_t)p->inner * stride;
    float *start = f32_input(k, count, kind);
    float *dw = f32_aligned_block(k, count);
    float *again = f32_aligned_block(k, count);
    memcpy(dw, start, count * sizeof *dw);
    memcpy(again, start, count * sizeof *dw);
    checkkern_call_begin(k);
    t->conv_dw(dw, x, dy, p);
    t->conv_dw(again, x, dy, p);
    checkkern_call_end(k);
    compare_dw(k, dw, start, x, dy, p);
    checkkern_same_bytes(k, "second run", again, dw, count * sizeof *dw);
}

static oct_f32_conv_dw dw_shape(int rows, int pixels, int outputs, int inner, int variant)
{
    oct_f32_conv_dw p = {.rows = rows, .pixels = pixels, .outputs = outputs, .inner = inner};
    p.dy_pixel = outputs + (variant & 1 ? 3 : 0);
    p.dy_row = pixels * p.dy_pixel + (variant & 2 ? 2 : 0);
    p.x_pixel = variant & 4 ? inner + 2 : (inner + 2) / 3; /* windows that overlap, or not */
    p.x_row = pixels * p.x_pixel + inner + (variant & 8 ? 5 : 0);
    return p;
}

void check_conv_dw(checkkern *k, uint32_t mask)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    int variant = 0;
    for (int inner = 1; inner <= 33; inner++) {
        for (int outputs = 16; outputs <= 80; outputs += 16) {
            for (int cut = 0; cut < 2; cut++) {
                oct_f32_conv_dw p = dw_shape(2, 3, outputs - cut * 5, inner, variant++);
                dw_case(k, &t, &p, variant % 5 ? PLAIN : EXTREME);
            }
        }
    }
    for (int outputs = 1; outputs <= 129; outputs++) {
        oct_f32_conv_dw p = dw_shape(1, 4, outputs, 5, outputs);
        dw_case(k, &t, &p, PLAIN);
    }
    for (int n = 1; n <= 17; n++) {
        oct_f32_conv_dw p = dw_shape(n, 2, 10, 7, n), q = dw_shape(2, n, 33, 7, n);
        dw_case(k, &t, &p, PLAIN);
        dw_case(k, &t, &q, PLAIN);
    }
    for (int i = 0; i < checkkern_count(k, 100, 2000); i++) {
        oct_f32_conv_dw p =
            dw_shape(checkkern_random(k, 1, 6), checkkern_random(k, 1, 20), checkkern_random(k, 1, 100),
                     checkkern_random(k, 1, 60), checkkern_random(k, 0, 15));
        dw_case(k, &t, &p, checkkern_random(k, 0, 1) ? PLAIN : EXTREME);
    }
}
