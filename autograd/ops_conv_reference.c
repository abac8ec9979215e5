/* SPDX-License-Identifier: BSD-2-Clause
 * Convolution in double with plain loops, for the reference executor. Forward is arranged for speed (it judges whole
 * test sets): weights are turned to [output block][tap][input][8 outputs] so that the innermost loop is over outputs.
 * Sums of values on grids are exact in double, whatever the order.
 */
#include "autograd/ops_internal.h"

#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/par.h"

enum { LANES = 8 };

typedef struct reference_job {
    const oct_conv_geometry *g;
    const double *x, *w, *bias, *dy;
    double *y, *dx;
    size_t x_size, y_size; /* one image */
} reference_job;

static reference_job make_job(const oct_ref *ref, const oct_conv_geometry *g)
{
    return (reference_job){
        .g = g, .x = ref->in[0], .w = ref->in[1], .bias = ref->node->input_count > 2 ? ref->in[2] : NULL,
        .y = ref->out, .dy = ref->d_out, .dx = ref->d_in[0],
        .x_size = (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_c,
        .y_size = (size_t)g->out_h * (size_t)g->out_w * (size_t)g->out_c,
    };
}

/* Input pixel that output pixel (p, q) reads through tap (r, s): its index in the image, -1 outside. */
static ptrdiff_t input_pixel(const oct_conv_geometry *g, int p, int q, int r, int s)
{
    int h = p * g->stride_h - g->pad_top + r * g->dilation_h;
    int w = q * g->stride_w - g->pad_left + s * g->dilation_w;
    if (h < 0 || h >= g->in_h || w < 0 || w >= g->in_w) return -1;
    return (ptrdiff_t)h * g->in_w + w;
}

/* --- forward --- */

static size_t blocks_per_group(const oct_conv_geometry *g)
{
    return ((size_t)g->group_out + LANES - 1) / LANES;
}

/* [groups][blocks][taps][group_in][8], zeros behind the last output. */
static double *turn_weights(const double *w, const oct_conv_geometry *g)
{
    size_t taps = (size_t)g->kernel_h * (size_t)g->kernel_w, inner = taps * (size_t)g->group_in;
    size_t blocks = blocks_per_group(g), outputs = (size_t)g->group_out;
    double *turned = (double *)oct_calloc((size_t)g->groups * blocks * inner, LANES * sizeof(double));
    if (!turned) return NULL;
    for (size_t k = 0; k < (size_t)g->groups; k++) {
        for (size_t o = 0; o < outputs; o++) {
            double *to = turned + (k * blocks + o / LANES) * inner * LANES + o % LANES;
            const double *from = w + (k * outputs + o) * inner;
            for (size_t j = 0; j < inner; j++) to[j * LANES] = from[j];
        }
    }
    return turned;
}

/* Eight outputs of one pixel. */
static void forward_block(double acc[LANES], const reference_job *job, const double *x, const double *w, int p, int q)
{
    const oct_conv_geometry *g = job->g;
    for (int r = 0; r < g->kernel_h; r++) {
        for (int s = 0; s < g->kernel_w; s++, w += (size_t)g->group_in * LANES) {
            ptrdiff_t pixel = input_pixel(g, p, q, r, s);
            if (pixel < 0) continue;
            const double *in = x + pixel * g->in_c, *tap = w;
            for (int i = 0; i < g->group_in; i++, tap += LANES) {
                for (int o = 0; o < LANES; o++) acc[o] += in[i] * tap[o];
            }
        }
    }
}

static void forward_image(void *arg, int64_t n, int thread)
{
    (void)thread;
    const reference_job *job = (const reference_job *)arg;
    const oct_conv_geometry *g = job->g;
    size_t block_size = (size_t)g->kernel_h * (size_t)g->kernel_w * (size_t)g->group_in * LANES;
    double *y = job->y + (size_t)n * job->y_size;
    for (int pq = 0; pq < g->out_h * g->out_w; pq++, y += g->out_c) {
        const double *w = job->w;
        for (int k = 0; k < g->groups; k++) {
            const double *x = job->x + (size_t)n * job->x_size + k * g->group_in;
            for (int o0 = 0; o0 < g->group_out; o0 += LANES, w += block_size) {
                double acc[LANES] = {0};
                forward_block(acc, job, x, w, pq / g->out_w, pq % g->out_w);
                for (int o = 0; o < LANES && o0 + o < g->group_out; o++) {
                    int output = k * g->group_out + o0 + o;
                    y[output] = job->bias ? acc[o] + job->bias[output] : acc[o];
                }
            }
        }
    }
}

static void forward_image_depthwise(void *arg, int64_t n, int thread)
{
    (void)thread;
    const reference_job *job = (const reference_job *)arg;
    const oct_conv_geometry *g = job->g;
    double *y = job->y + (size_t)n * job->y_size;
    for (int pq = 0; pq < g->out_h * g->out_w; pq++, y += g->out_c) {
        for (int c = 0; c < g->out_c; c++) y[c] = 0.0;
        for (int t = 0; t < g->kernel_h * g->kernel_w; t++) {
            ptrdiff_t pixel = input_pixel(g, pq / g->out_w, pq % g->out_w, t / g->kernel_w, t % g->kernel_w);
            if (pixel < 0) continue;
            const double *x = job->x + (size_t)n * job->x_size + pixel * g->in_c;
            const double *w = job->w + (ptrdiff_t)t * g->in_c;
            for (int c = 0; c < g->out_c; c++) y[c] += x[c] * w[c];
        }
        for (int c = 0; job->bias && c < g->out_c; c++) y[c] += job->bias[c];
    }
}

oct_status oct_conv_reference_forward(oct_ref *ref, const oct_conv_geometry *g)
{
    reference_job job = make_job(ref, g);
    if (g->depthwise) {
        oct_parallel_for(ref->ctx->threads, ref->batch, forward_image_depthwise, &job);
        return OCT_OK;
    }
    double *turned = turn_weights(job.w, g);
    if (!turned) return oct_out_of_memory(ref->ctx, "weights of a convolution in the reference executor");
    job.w = turned;
    oct_parallel_for(ref->ctx->threads, ref->batch, forward_image, &job);
    oct_free(turned);
    return OCT_OK;
}

/* --- backward: each product of the forward loop, differentiated where it stands --- */

/* Calls `visit` for every (image, output pixel, tap) that lies inside x. */
typedef void visit_fn(const reference_job *job, const double *x, const double *dy, double *dx, int tap, double *dw);

static void visit_dense(const reference_job *job, const double *x, const double *dy, double *dx, int tap, double *dw)
{
    const oct_conv_geometry *g = job->g;
    ptrdiff_t taps = (ptrdiff_t)g->kernel_h * g->kernel_w;
    for (int o = 0; o < g->out_c; o++) {
        int channel = o / g->group_out * g->group_in;
        ptrdiff_t weight = (o * taps + tap) * g->group_in;
        for (int i = 0; i < g->group_in; i++) {
            if (dx) dx[channel + i] += dy[o] * job->w[weight + i];
            if (dw) dw[weight + i] += dy[o] * x[channel + i];
        }
    }
}

static void visit_depthwise(const reference_job *job, const double *x, const double *dy, double *dx, int tap,
                            double *dw)
{
    int channels = job->g->in_c;
    for (int c = 0; c < channels; c++) {
        if (dx) dx[c] += dy[c] * job->w[(ptrdiff_t)tap * channels + c];
        if (dw) dw[(ptrdiff_t)tap * channels + c] += dy[c] * x[c];
    }
}

oct_status oct_conv_reference_backward(oct_ref *ref, const oct_conv_geometry *g)
{
    reference_job job = make_job(ref, g);
    visit_fn *visit = g->depthwise ? visit_depthwise : visit_dense;
    double *dw = ref->d_in[1], *db = ref->node->input_count > 2 ? ref->d_in[2] : NULL;
    for (size_t n = 0; n < (size_t)ref->batch; n++) {
        for (int pq = 0; pq < g->out_h * g->out_w; pq++) {
            const double *dy = job.dy + n * job.y_size + (ptrdiff_t)pq * g->out_c;
            for (int o = 0; db && o < g->out_c; o++) db[o] += dy[o];
            for (int t = 0; t < g->kernel_h * g->kernel_w; t++) {
                ptrdiff_t pixel = input_pixel(g, pq / g->out_w, pq % g->out_w, t / g->kernel_w, t % g->kernel_w);
                if (pixel < 0) continue;
                size_t at = n * job.x_size + (size_t)(pixel * g->in_c);
                visit(&job, job.x + at, dy, job.dx ? job.dx + at : NULL, t, dw);
            }
        }
    }
    return OCT_OK;
}
