/* SPDX-License-Identifier: BSD-2-Clause
 * max_pool, average_pool, global_average_pool. One image is one item of work; the inner loops run over
 * channels.
 */
#include "autograd/ops_internal.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "autograd/base/par.h"

static oct_status pool_attrs_check(const oct_graph *graph, const oct_node *node, const oct_pool_attrs *a)
{
    for (int i = 0; i < 2; i++) {
        if (a->kernel[i] < 1 || a->stride[i] < 1) {
            return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT,
                                 "kernel %dx%d, stride %dx%d: expected all >= 1", a->kernel[0], a->kernel[1],
                                 a->stride[0], a->stride[1]);
        }
    }
    for (int i = 0; i < 4; i++) {
        if (a->pad[i] < 0 || a->pad[i] >= a->kernel[i % 2]) {
            return oct_rule_fail(
                graph, node, OCT_ERR_ARGUMENT,
                "padding (top, left, bottom, right) is %d,%d,%d,%d, "
                "expected 0 <= padding < kernel %dx%d, so that no window lies in the padding",
                a->pad[0], a->pad[1], a->pad[2], a->pad[3], a->kernel[0], a->kernel[1]);
        }
    }
    return OCT_OK;
}

static oct_status pool_infer(const oct_graph *graph, oct_node *node)
{
    const oct_pool_attrs *a = (const oct_pool_attrs *)node->attrs;
    OCT_TRY(pool_attrs_check(graph, node, a));
    OCT_TRY(oct_rule_rank(graph, node, 0, "x", 4, "[N,H,W,C]"));
    const oct_shape *x = &oct_node_input(graph, node, 0)->shape;
    int32_t size[2];
    for (int i = 0; i < 2; i++) {
        const oct_window_axis axis = {i ? "width" : "height", x->dim[1 + i], a->pad[i], a->pad[2 + i],
                                      a->kernel[i],           a->stride[i],  1};
        OCT_TRY(oct_rule_window(graph, node, &axis, &size[i]));
    }
    return oct_rule_output(graph, node, OCT_SHAPE(OCT_BATCH, size[0], size[1], x->dim[3]));
}

/* --- windows --- */

typedef struct pool_job {
    const oct_pool_attrs *a;
    int in_h, in_w, out_h, out_w, channels;
    const float *x, *dy;
    float *y, *dx;
    int accumulate;
} pool_job;

static pool_job make_job(const oct_node *node, const oct_node *in)
{
    const oct_shape *x = &in->shape, *y = &node->shape;
    return (pool_job){.a = (const oct_pool_attrs *)node->attrs,
                      .in_h = x->dim[1],
                      .in_w = x->dim[2],
                      .out_h = y->dim[1],
                      .out_w = y->dim[2],
                      .channels = x->dim[3]};
}

/* Rows [h0, h1) and columns [w0, w1) of the image under output pixel (p, q); never empty. */
typedef struct window {
    int h0, h1, w0, w1;
} window;

static int larger(int a, int b)
{
    return a > b ? a : b;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

static window window_at(const pool_job *job, int p, int q)
{
    int h = p * job->a->stride[0] - job->a->pad[0], w = q * job->a->stride[1] - job->a->pad[1];
    return (window){larger(h, 0), smaller(h + job->a->kernel[0], job->in_h), larger(w, 0),
                    smaller(w + job->a->kernel[1], job->in_w)};
}

static size_t pixel_at(const pool_job *job, int h, int w)
{
    return ((size_t)h * (size_t)job->in_w + (size_t)w) * (size_t)job->channels;
}

static size_t in_size(const pool_job *job)
{
    return pixel_at(job, job->in_h, 0);
}

static size_t out_size(const pool_job *job)
{
    return (size_t)job->out_h * (size_t)job->out_w * (size_t)job->channels;
}

typedef void pixel_fn(const pool_job *job, size_t image, const window *v, size_t out);

/* Calls fn for every output pixel of an image; `out` is the pixel's offset in y. */
static void each_pixel(const pool_job *job, size_t image, pixel_fn *fn)
{
    size_t out = image * out_size(job);
    for (int p = 0; p < job->out_h; p++) {
        for (int q = 0; q < job->out_w; q++, out += (size_t)job->channels) {
            window v = window_at(job, p, q);
            fn(job, image, &v, out);
        }
    }
}

/* --- max_pool --- */

static void max_pixel(const pool_job *job, size_t image, const window *v, size_t out)
{
    const float *x = job->x + image * in_size(job);
    float *y = job->y + out;
    memcpy(y, x + pixel_at(job, v->h0, v->w0), (size_t)job->channels * sizeof *y);
    for (int h = v->h0; h < v->h1; h++) {
        for (int w = v->w0; w < v->w1; w++) {
            const float *pixel = x + pixel_at(job, h, w);
            for (int c = 0; c < job->channels; c++) y[c] = pixel[c] > y[c] ? pixel[c] : y[c];
        }
    }
}

/* The first largest element of a window is found again, for a block of channels at a time, then gets dy. */
enum { MAX_BLOCK = 64 };

static void max_backward_block(const pool_job *job, const float *x, float *dx, const window *v,
                               const float *dy, int n)
{
    float best[MAX_BLOCK];
    int32_t where[MAX_BLOCK], tap = 0;
    memcpy(best, x + pixel_at(job, v->h0, v->w0), (size_t)n * sizeof *best);
    memset(where, 0, sizeof where);
    for (int h = v->h0; h < v->h1; h++) {
        for (int w = v->w0; w < v->w1; w++, tap++) {
            const float *pixel = x + pixel_at(job, h, w);
            for (int c = 0; c < n; c++) {
                where[c] = pixel[c] > best[c] ? tap : where[c];
                best[c] = pixel[c] > best[c] ? pixel[c] : best[c];
            }
        }
    }
    tap = 0;
    for (int h = v->h0; h < v->h1; h++) {
        for (int w = v->w0; w < v->w1; w++, tap++) {
            float *pixel = dx + pixel_at(job, h, w);
            for (int c = 0; c < n; c++) pixel[c] += where[c] == tap ? dy[c] : 0.0f;
        }
    }
}

static void max_backward_pixel(const pool_job *job, size_t image, const window *v, size_t out)
{
    size_t in = image * in_size(job);
    for (int c = 0; c < job->channels; c += MAX_BLOCK) {
        max_backward_block(job, job->x + in + c, job->dx + in + c, v, job->dy + out + c,
                           smaller(MAX_BLOCK, job->channels - c));
    }
}

/* --- average_pool --- */

static float window_weight(const window *v)
{
    return 1.0f / ((float)(v->h1 - v->h0) * (float)(v->w1 - v->w0));
}

static void average_pixel(const pool_job *job, size_t image, const window *v, size_t out)
{
    const float *x = job->x + image * in_size(job);
    float *y = job->y + out, weight = window_weight(v);
    memset(y, 0, (size_t)job->channels * sizeof *y);
    for (int h = v->h0; h < v->h1; h++) {
        for (int w = v->w0; w < v->w1; w++) {
            const float *pixel = x + pixel_at(job, h, w);
            for (int c = 0; c < job->channels; c++) y[c] += pixel[c];
        }
    }
    for (int c = 0; c < job->channels; c++) y[c] *= weight;
}

static void average_backward_pixel(const pool_job *job, size_t image, const window *v, size_t out)
{
    float *dx = job->dx + image * in_size(job), weight = window_weight(v);
    const float *dy = job->dy + out;
    for (int h = v->h0; h < v->h1; h++) {
        for (int w = v->w0; w < v->w1; w++) {
            float *pixel = dx + pixel_at(job, h, w);
            for (int c = 0; c < job->channels; c++) pixel[c] += dy[c] * weight;
        }
    }
}

/* --- running both --- */

static bool is_max(const oct_node *node)
{
    return node->op == &oct_op_max_pool;
}

static void max_item(void *arg, int64_t image, int thread)
{
    (void)thread;
    each_pixel((const pool_job *)arg, (size_t)image, max_pixel);
}

static void average_item(void *arg, int64_t image, int thread)
{
    (void)thread;
    each_pixel((const pool_job *)arg, (size_t)image, average_pixel);
}

static void backward_image(const pool_job *job, size_t image, pixel_fn *fn)
{
    if (!job->accumulate) memset(job->dx + image * in_size(job), 0, in_size(job) * sizeof(float));
    each_pixel(job, image, fn);
}

static void max_backward_item(void *arg, int64_t image, int thread)
{
    (void)thread;
    backward_image((const pool_job *)arg, (size_t)image, max_backward_pixel);
}

static void average_backward_item(void *arg, int64_t image, int thread)
{
    (void)thread;
    backward_image((const pool_job *)arg, (size_t)image, average_backward_pixel);
}

static oct_status pool_forward(oct_step *step)
{
    pool_job job = make_job(step->node, oct_node_input(step->graph, step->node, 0));
    job.x = (const float *)step->in[0]->data;
    job.y = (float *)step->out->data;
    oct_parallel_for(step->ctx->threads, step->batch, is_max(step->node) ? max_item : average_item, &job);
    return OCT_OK;
}

static oct_status pool_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    bool max = is_max(step->node);
    pool_job job = make_job(step->node, oct_node_input(step->graph, step->node, 0));
    job.x = max ? (const float *)step->in[0]->data : NULL;
    job.dy = (const float *)step->d_out->data;
    job.dx = (float *)step->d_in[0]->data;
    job.accumulate = step->accumulate[0];
    oct_parallel_for(step->ctx->threads, step->batch, max ? max_backward_item : average_backward_item, &job);
    return OCT_OK;
}

/* --- reference: one output element at a time --- */

/* Element of x that wins at `window`. */
static size_t first_largest(const pool_job *job, const double *x, const window *v, int c)
{
    size_t best = pixel_at(job, v->h0, v->w0) + (size_t)c;
    for (int h = v->h0; h < v->h1; h++) {
        for (int w = v->w0; w < v->w1; w++) {
            size_t e = pixel_at(job, h, w) + (size_t)c;
            if (x[e] > x[best]) best = e;
        }
    }
    return best;
}

static double reference_average(const pool_job *job, const double *x, const window *v, int c)
{
    double sum = 0.0;
    int count = 0;
    for (int h = v->h0; h < v->h1; h++) {
        for (int w = v->w0; w < v->w1; w++, count++) sum += x[pixel_at(job, h, w) + (size_t)c];
    }
    return sum / (double)count;
}

static void reference_spread(const pool_job *job, double *dx, const window *v, int c, double dy)
{
    int count = (v->h1 - v->h0) * (v->w1 - v->w0);
    for (int h = v->h0; h < v->h1; h++) {
        for (int w = v->w0; w < v->w1; w++) dx[pixel_at(job, h, w) + (size_t)c] += dy / (double)count;
    }
}

static oct_status reference_run(oct_ref *ref, bool backward)
{
    pool_job job = make_job(ref->node, ref->in_node[0]);
    bool max = is_max(ref->node);
    size_t e = 0;
    for (size_t n = 0; n < (size_t)ref->batch; n++) {
        const double *x = ref->in[0] + n * in_size(&job);
        double *dx = backward ? ref->d_in[0] + n * in_size(&job) : NULL;
        for (int pq = 0; pq < job.out_h * job.out_w; pq++) {
            window v = window_at(&job, pq / job.out_w, pq % job.out_w);
            for (int c = 0; c < job.channels; c++, e++) {
                if (!backward)
                    ref->out[e] = max ? x[first_largest(&job, x, &v, c)] : reference_average(&job, x, &v, c);
                else if (max)
                    dx[first_largest(&job, x, &v, c)] += ref->d_out[e];
                else
                    reference_spread(&job, dx, &v, c, ref->d_out[e]);
            }
        }
    }
    return OCT_OK;
}

static oct_status pool_reference_forward(oct_ref *ref)
{
    return reference_run(ref, false);
}

static oct_status pool_reference_backward(oct_ref *ref)
{
    if (!ref->d_in[0]) return OCT_OK;
    return reference_run(ref, true);
}

static const oct_attr pool_attrs[] = {
    {"kernel", OCT_ATTR_INT, offsetof(oct_pool_attrs, kernel), 2},
    {"stride", OCT_ATTR_INT, offsetof(oct_pool_attrs, stride), 2},
    {"pad", OCT_ATTR_INT, offsetof(oct_pool_attrs, pad), 4},
};

const oct_op oct_op_max_pool = {
    .name = "max_pool",
    .equation = "y[n,p,q,c] = max of x in the window",
    .attr_bytes = sizeof(oct_pool_attrs),
    .attrs = pool_attrs,
    .attr_count = sizeof pool_attrs / sizeof pool_attrs[0],
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = pool_infer,
    .exec = {.name = "max_pool",
             .forward = pool_forward,
             .backward = pool_backward,
             .backward_reads = OCT_READS_INPUT(0)},
    .reference = {.forward = pool_reference_forward, .backward = pool_reference_backward, .keeps_grid = true},
};

const oct_op oct_op_average_pool = {
    .name = "average_pool",
    .equation = "y[n,p,q,c] = mean of x in the window, padding not counted",
    .attr_bytes = sizeof(oct_pool_attrs),
    .attrs = pool_attrs,
    .attr_count = sizeof pool_attrs / sizeof pool_attrs[0],
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = pool_infer,
    .exec = {.name = "average_pool", .forward = pool_forward, .backward = pool_backward},
    .reference = {.forward = pool_reference_forward, .backward = pool_reference_backward},
};

/* --- global_average_pool --- */

static oct_status global_infer(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_rank(graph, node, 0, "x", 4, "[N,H,W,C]"));
    return oct_rule_output(graph, node, OCT_SHAPE(OCT_BATCH, oct_node_input(graph, node, 0)->shape.dim[3]));
}

typedef struct global_job {
    const oct_f32_kernels *f32;
    size_t pixels;
    int channels, accumulate;
    const float *x, *dy;
    float *y, *dx;
    double *sums; /* per thread */
} global_job;

static global_job make_global_job(const oct_step *step)
{
    const oct_shape *x = &oct_node_input(step->graph, step->node, 0)->shape;
    return (global_job){.f32 = step->f32,
                        .pixels = (size_t)x->dim[1] * (size_t)x->dim[2],
                        .channels = x->dim[3],
                        .accumulate = step->accumulate[0],
                        .sums = (double *)step->scratch};
}

static void global_item(void *arg, int64_t image, int thread)
{
    const global_job *job = (const global_job *)arg;
    size_t n = (size_t)job->channels;
    double *sum = job->sums + (size_t)thread * n;
    memset(sum, 0, n * sizeof *sum);
    job->f32->channel_sum(sum, job->x + (size_t)image * job->pixels * n, job->pixels, job->channels);
    float *y = job->y + (size_t)image * n;
    for (size_t c = 0; c < n; c++) y[c] = (float)(sum[c] / (double)job->pixels);
}

static oct_status global_forward(oct_step *step)
{
    global_job job = make_global_job(step);
    job.x = (const float *)step->in[0]->data;
    job.y = (float *)step->out->data;
    oct_parallel_for(step->ctx->threads, step->batch, global_item, &job);
    return OCT_OK;
}

static void global_backward_item(void *arg, int64_t image, int thread)
{
    (void)thread;
    const global_job *job = (const global_job *)arg;
    size_t n = (size_t)job->channels;
    const float *dy = job->dy + (size_t)image * n;
    float *dx = job->dx + (size_t)image * job->pixels * n, weight = 1.0f / (float)job->pixels;
    for (size_t p = 0; p < job->pixels; p++, dx += n) {
        for (size_t c = 0; c < n; c++) dx[c] = job->accumulate ? dx[c] + dy[c] * weight : dy[c] * weight;
    }
}

static oct_status global_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    global_job job = make_global_job(step);
    job.dy = (const float *)step->d_out->data;
    job.dx = (float *)step->d_in[0]->data;
    oct_parallel_for(step->ctx->threads, step->batch, global_backward_item, &job);
    return OCT_OK;
}

static size_t global_scratch(const oct_graph *graph, const oct_unit *unit, int batch, int threads,
                             bool backward)
{
    (void)batch;
    oct_carve carve = {0};
    size_t n = (size_t)oct_last_dim(oct_unit_node(graph, unit));
    if (!backward) oct_carve_take(&carve, n * sizeof(double), (size_t)threads);
    return carve.used;
}

static oct_status global_reference_forward(oct_ref *ref)
{
    const oct_shape *x = &ref->in_node[0]->shape;
    size_t pixels = (size_t)x->dim[1] * (size_t)x->dim[2], channels = (size_t)x->dim[3];
    for (size_t e = 0; e < (size_t)ref->batch * channels; e++) {
        const double *in = ref->in[0] + e / channels * pixels * channels + e % channels;
        double sum = 0.0;
        for (size_t p = 0; p < pixels; p++) sum += in[p * channels];
        ref->out[e] = sum / (double)pixels;
    }
    return OCT_OK;
}

static oct_status global_reference_backward(oct_ref *ref)
{
    if (!ref->d_in[0]) return OCT_OK;
    const oct_shape *x = &ref->in_node[0]->shape;
    size_t pixels = (size_t)x->dim[1] * (size_t)x->dim[2], channels = (size_t)x->dim[3];
    for (size_t e = 0; e < (size_t)ref->batch * channels; e++) {
        double *dx = ref->d_in[0] + e / channels * pixels * channels + e % channels;
        for (size_t p = 0; p < pixels; p++) dx[p * channels] += ref->d_out[e] / (double)pixels;
    }
    return OCT_OK;
}

const oct_op oct_op_global_average_pool = {
    .name = "global_average_pool",
    .equation = "y[n,c] = mean of x[n,.,.,c]",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = global_infer,
    .exec = {.name = "global_average_pool",
             .forward = global_forward,
             .backward = global_backward,
             .scratch_bytes = global_scratch},
    .reference = {.forward = global_reference_forward, .backward = global_reference_backward},
};
