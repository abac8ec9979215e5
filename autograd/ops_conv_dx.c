/* SPDX-License-Identifier: BSD-2-Clause
 * Gradient of a convolution towards its input, by stride phases.
 *
 * Output p reads input h = p*stride - pad + r*dilation through tap r. Turned round, along one axis: input
 * pixel h = a + stride*m of phase a collects dy[p] * w[r] for every r with (a + pad - r*dilation) divisible
 * by stride, at p = m + (a + pad - r*dilation)/stride. The taps of a phase are `tap_step` = stride/gcd apart
 * and their p run backwards in steps of `reach` = dilation/gcd, so that every phase is a convolution with
 * stride 1 of dy with its own subset of the flipped weights. Pixels outside dy are zeros of a padded image.
 * No multiplication with an inserted zero is ever made.
 */
#include "autograd/ops_internal.h"

#include <string.h>

static int common_divisor(int a, int b)
{
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

oct_conv_phase oct_conv_phase_make(const oct_conv_axis *x, int a)
{
    int divisor = common_divisor(x->stride, x->dilation);
    oct_conv_phase f = {.tap_step = x->stride / divisor, .reach = x->dilation / divisor};
    f.pixels = (x->in - a - 1) / x->stride + 1;
    for (int r = 0; r < x->kernel && r < f.tap_step; r++) {
        if ((a + x->pad - r * x->dilation) % x->stride != 0) continue;
        f.taps = (x->kernel - 1 - r) / f.tap_step + 1;
        f.last_tap = r + (f.taps - 1) * f.tap_step;
        f.origin = (a + x->pad - f.last_tap * x->dilation) / x->stride;
        return f;
    }
    return f;
}

/* Borders of dy along one axis that cover what every phase reads; true when some phase has no taps. */
static bool axis_window(const oct_conv_axis *x, int out, int *before, int *after)
{
    bool untouched = false;
    int first = 0, last = 0, found = 0;
    for (int a = 0; a < oct_conv_phase_count(x); a++) {
        oct_conv_phase f = oct_conv_phase_make(x, a);
        if (!f.taps) {
            untouched = true;
            continue;
        }
        int end = f.origin + f.pixels - 1 + (f.taps - 1) * f.reach;
        if (!found || f.origin < first) first = f.origin;
        if (!found || end > last) last = end;
        found = 1;
    }
    *before = -first;
    *after = last - (out - 1);
    return untouched;
}

void oct_conv_dx_plan(oct_conv_dx *job, const oct_conv_geometry *g)
{
    oct_conv_axis h = oct_conv_axis_h(g), w = oct_conv_axis_w(g);
    bool rows = axis_window(&h, g->out_h, &job->window.top, &job->window.bottom);
    bool columns = axis_window(&w, g->out_w, &job->window.left, &job->window.right);
    job->some_untouched = rows || columns;
    job->g = g;
}

static size_t phase_size(const oct_conv_geometry *g, const oct_conv_phase *h, const oct_conv_phase *w)
{
    if (g->depthwise) return (size_t)h->taps * (size_t)w->taps * (size_t)g->in_c;
    return oct_f32_packed_size(g->group_in, h->taps, w->taps, g->group_out);
}

size_t oct_conv_dx_packed_size(const oct_conv_geometry *g)
{
    /* Every tap belongs to at most one phase. */
    oct_conv_phase h = {.taps = g->kernel_h}, w = {.taps = g->kernel_w};
    return phase_size(g, &h, &w) * (size_t)g->groups;
}

static void pack_depthwise(float *packed, const float *w, const oct_conv_geometry *g, const oct_conv_phase *h,
                           const oct_conv_phase *v)
{
    size_t channels = (size_t)g->in_c;
    for (int r = 0; r < h->taps; r++) {
        for (int s = 0; s < v->taps; s++, packed += channels) {
            size_t tap = (size_t)(h->last_tap - r * h->tap_step) * (size_t)g->kernel_w +
                         (size_t)(v->last_tap - s * v->tap_step);
            memcpy(packed, w + tap * channels, channels * sizeof *packed);
        }
    }
}

static void pack_group(float *packed, const float *w, const oct_conv_geometry *g, const oct_conv_phase *h,
                       const oct_conv_phase *v)
{
    ptrdiff_t tap = g->group_in, row = tap * g->kernel_w, output = row * g->kernel_h;
    oct_f32_pack(packed, w + h->last_tap * row + v->last_tap * tap, g->group_in, h->taps, v->taps,
                 g->group_out, 1, -h->tap_step * row, -v->tap_step * tap, output);
}

void oct_conv_dx_pack(const oct_conv_dx *job, const float *w)
{
    const oct_conv_geometry *g = job->g;
    oct_conv_axis axes[2] = {oct_conv_axis_h(g), oct_conv_axis_w(g)};
    float *packed = job->packed;
    size_t group = (size_t)g->group_out * (size_t)g->kernel_h * (size_t)g->kernel_w * (size_t)g->group_in;
    for (int a = 0; a < oct_conv_phase_count(&axes[0]); a++) {
        oct_conv_phase h = oct_conv_phase_make(&axes[0], a);
        for (int b = 0; h.taps && b < oct_conv_phase_count(&axes[1]); b++) {
            oct_conv_phase v = oct_conv_phase_make(&axes[1], b);
            if (!v.taps) continue;
            for (int k = 0; k < g->groups; k++, packed += phase_size(g, &h, &v)) {
                if (g->depthwise)
                    pack_depthwise(packed, w, g, &h, &v);
                else
                    pack_group(packed, w + (size_t)k * group, g, &h, &v);
            }
        }
    }
}

/* All pixels of one phase: dx points at its first, dy at what its first tap meets there. */
static void phase_run(const oct_conv_dx *job, float *dx, const float *dy, ptrdiff_t dy_row,
                      const float *packed, const oct_conv_phase *h, const oct_conv_phase *v)
{
    const oct_conv_geometry *g = job->g;
    ptrdiff_t dx_pixel = (ptrdiff_t)g->stride_w * g->in_c;
    ptrdiff_t dx_row = (ptrdiff_t)g->stride_h * g->in_w * g->in_c;
    if (g->depthwise) {
        oct_f32_depthwise p = {.pixels = v->pixels,
                               .channels = g->in_c,
                               .taps_h = h->taps,
                               .taps_w = v->taps,
                               .x_pixel = g->out_c,
                               .x_row = h->reach * dy_row,
                               .x_tap = (ptrdiff_t)v->reach * g->out_c,
                               .y_pixel = dx_pixel,
                               .accumulate = job->accumulate};
        for (int m = 0; m < h->pixels; m++) {
            job->f32->depthwise_row(dx + m * dx_row, dy + m * dy_row, packed, NULL, &p);
        }
        return;
    }
    oct_f32_conv_row p = {.pixels = v->pixels,
                          .outputs = g->group_in,
                          .taps_h = h->taps,
                          .taps_w = v->taps,
                          .channels = g->group_out,
                          .x_pixel = g->out_c,
                          .x_row = h->reach * dy_row,
                          .x_tap = (ptrdiff_t)v->reach * g->out_c,
                          .y_pixel = dx_pixel,
                          .accumulate = job->accumulate};
    for (int k = 0; k < g->groups; k++, packed += phase_size(g, h, v)) {
        for (int m = 0; m < h->pixels; m++) {
            job->f32->conv_row(dx + m * dx_row + k * g->group_in, dy + m * dy_row + k * g->group_out, packed,
                               NULL, &p);
        }
    }
}

void oct_conv_dx_image(const oct_conv_dx *job, size_t n, const float *from, float *buffer)
{
    const oct_conv_geometry *g = job->g;
    size_t dx_size = (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_c;
    oct_conv_axis axes[2] = {oct_conv_axis_h(g), oct_conv_axis_w(g)};
    float *dx = job->dx + n * dx_size;
    if (job->some_untouched && !job->accumulate) memset(dx, 0, dx_size * sizeof *dx);
    ptrdiff_t dy_row;
    const float *dy =
        oct_window_read(job->f32, buffer, &dy_row, from, NULL, &job->window, g->out_h, g->out_w, g->out_c);
    const float *packed = job->packed;
    for (int a = 0; a < oct_conv_phase_count(&axes[0]); a++) {
        oct_conv_phase h = oct_conv_phase_make(&axes[0], a);
        for (int b = 0; h.taps && b < oct_conv_phase_count(&axes[1]); b++) {
            oct_conv_phase v = oct_conv_phase_make(&axes[1], b);
            if (!v.taps) continue;
            phase_run(job, dx + ((size_t)a * (size_t)g->in_w + (size_t)b) * (size_t)g->in_c,
                      dy + (h.origin + job->window.top) * dy_row +
                          (ptrdiff_t)(v.origin + job->window.left) * g->out_c,
                      dy_row, packed, &h, &v);
            packed += phase_size(g, &h, &v) * (size_t)g->groups;
        }
    }
}

void oct_conv_dx_pixels(const oct_conv_dx *job, size_t first, size_t count, const float *dy)
{
    oct_conv_phase one = {.taps = 1, .tap_step = 1, .reach = 1, .pixels = 1};
    oct_conv_phase row = one;
    row.pixels = (int)count;
    phase_run(job, job->dx + first * (size_t)job->g->in_c, dy, 0, job->packed, &one, &row);
}
