/* SPDX-License-Identifier: BSD-2-Clause
 * Convolution in double with plain loops, for the reference executor. Forward is arranged for speed (it
 * judges whole test sets): weights are turned to [tap][input][output] so that the innermost loop is over
 * outputs. Sums of values on grids are exact in double, whatever the order.
 */
#include "autograd/ops_internal.h"

#include "autograd/base/memory.h"
#include "autograd/base/par.h"

typedef struct reference_job {
    const oct_conv_geometry *g;
    const double *x, *w, *bias, *dy;
    double *y, *dx;
    size_t x_size, y_size; /* one image */
} reference_job;

static reference_job make_job(const oct_ref *ref, const oct_conv_geometry *g)
{
    return (reference_job){
        .g = g,
        .x = ref->in[0],
        .w = ref->in[1],
        .bias = ref->node->input_count > 2 ? ref->in[2] : NULL,
        .y = ref->out,
        .dy = ref->d_out,
        .dx = ref->d_in[0],
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

/* [groups][taps][group_in][group_out] */
static double *turn_weights(const double *w, const oct_conv_geometry *g)
{
    size_t inner = (size_t)g->kernel_h * (size_t)g->kernel_w * (size_t)g->group_in,
           outputs = (size_t)g->group_out;
    double *turned = (double *)oct_alloc((size_t)g->groups * inner * outputs, sizeof(double));
    if (!turned) return NULL;
    for (size_t k = 0; k < (size_t)g->groups; k++) {
        for (size_t o = 0; o < outputs; o++) {
            double *to = turned + k * outputs * inner + o;
            const double *from = w + (k * outputs + o) * inner;
            for (size_t j = 0; j < inner; j++) to[j * outputs] = from[j];
        }
    }
    return turned;
}

/* y[o] += sum_i x[i] * w[i][o]: four inputs per pass, so that y is loaded and stored less. */
static void add_products(double *restrict y, const double *restrict x, const double *restrict w, int inputs,
                         ptrdiff_t outputs)
{
    int i = 0;
    for (; i + 4 <= inputs; i += 4, w += 4 * outputs) {
        const double x0 = x[i], x1 = x[i + 1], x2 = x[i + 2], x3 = x[i + 3];
        const double *w1 = w + outputs, *w2 = w1 + outputs, *w3 = w2 + outputs;
        for (ptrdiff_t o = 0; o < outputs; o++) y[o] += (x0 * w[o] + x1 * w1[o]) + (x2 * w2[o] + x3 * w3[o]);
    }
    for (; i < inputs; i++, w += outputs) {
        for (ptrdiff_t o = 0; o < outputs; o++) y[o] += x[i] * w[o];
    }
}

static void forward_image(void *arg, int64_t n, int thread)
{
    (void)thread;
    const reference_job *job = (const reference_job *)arg;
    const oct_conv_geometry *g = job->g;
    ptrdiff_t tap_size = (ptrdiff_t)g->group_in * g->group_out;
    int taps = g->kernel_h * g->kernel_w;
    double *y = job->y + (size_t)n * job->y_size;
    for (int pq = 0; pq < g->out_h * g->out_w; pq++, y += g->out_c) {
        for (int o = 0; o < g->out_c; o++) y[o] = 0.0;
        for (int t = 0; t < taps; t++) {
            ptrdiff_t pixel = input_pixel(g, pq / g->out_w, pq % g->out_w, t / g->kernel_w, t % g->kernel_w);
            if (pixel < 0) continue;
            const double *x = job->x + (size_t)n * job->x_size + pixel * g->in_c;
            for (int k = 0; k < g->groups; k++) {
                add_products(y + k * g->group_out, x + k * g->group_in, job->w + (k * taps + t) * tap_size,
                             g->group_in, g->group_out);
            }
        }
        for (int o = 0; job->bias && o < g->out_c; o++) y[o] += job->bias[o];
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
typedef void visit_fn(const reference_job *job, const double *x, const double *dy, double *dx, int tap,
                      double *dw);

static void visit_dense(const reference_job *job, const double *x, const double *dy, double *dx, int tap,
                        double *dw)
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
                ptrdiff_t pixel =
                    input_pixel(g, pq / g->out_w, pq % g->out_w, t / g->kernel_w, t % g->kernel_w);
                if (pixel < 0) continue;
                size_t at = n * job.x_size + (size_t)(pixel * g->in_c);
                visit(&job, job.x + at, dy, job.dx ? job.dx + at : NULL, t, dw);
            }
        }
    }
    return OCT_OK;
}
