/* SPDX-License-Identifier: BSD-2-Clause
 * resize_bilinear, and the positions that both resizes use.
 */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "autograd/base/par.h"
#include "autograd/ops_internal.h"

const oct_attr oct_resize_attr_table[2] = {
    {"size", OCT_ATTR_INT, offsetof(oct_resize_attrs, size), 2},
    {"grid", OCT_ATTR_INT, offsetof(oct_resize_attrs, grid), 1},
};

/* A position as an exact fraction, limited to [0, in - 1]. */
typedef struct position {
    int64_t numerator, denominator;
} position;

static position position_of(int grid, int o, int in, int out)
{
    position p = {(int64_t)o * in, out};
    if (grid == OCT_RESIZE_HALF_PIXEL) p = (position){(2 * (int64_t)o + 1) * in - out, 2 * (int64_t)out};
    if (grid == OCT_RESIZE_ALIGN_CORNERS) p = out > 1 ? (position){(int64_t)o * (in - 1), out - 1} : (position){0, 1};
    if (p.numerator < 0) p.numerator = 0;
    if (p.numerator > (in - 1) * p.denominator) p.numerator = (in - 1) * p.denominator;
    return p;
}

int oct_resize_nearest_source(int grid, int o, int in, int out)
{
    position p = position_of(grid, o, in, out);
    if (grid == OCT_RESIZE_ASYMMETRIC) return (int)(p.numerator / p.denominator);
    int at = (int)((2 * p.numerator + p.denominator) / (2 * p.denominator));
    return at < in ? at : in - 1;
}

/* Pixels i and i + 1 (i alone when w is 0) with weights 1 - w and w. */
typedef struct blend {
    int i;
    double w;
} blend;

static blend blend_of(int grid, int o, int in, int out)
{
    position p = position_of(grid, o, in, out);
    int i = (int)(p.numerator / p.denominator);
    return (blend){i, (double)(p.numerator - i * p.denominator) / (double)p.denominator};
}

typedef struct bilinear_job {
    int in_h, in_w, out_h, out_w, grid;
    size_t channels;
    const float *x, *dy;
    float *y, *dx;
    int accumulate;
} bilinear_job;

static bilinear_job make_job(const oct_node *node, const oct_shape *x)
{
    return (bilinear_job){.in_h = x->dim[1],
                          .in_w = x->dim[2],
                          .out_h = node->shape.dim[1],
                          .out_w = node->shape.dim[2],
                          .grid = ((const oct_resize_attrs *)node->attrs)->grid,
                          .channels = (size_t)x->dim[3]};
}

/* The four pixels of an output pixel (offsets in an image) and their weights. */
typedef struct corners {
    size_t at[4];
    double w[4];
} corners;

static corners corners_of(const bilinear_job *job, int p, int q)
{
    blend v = blend_of(job->grid, p, job->in_h, job->out_h), h = blend_of(job->grid, q, job->in_w, job->out_w);
    corners c;
    for (int k = 0; k < 4; k++) {
        int row = v.i + (k >> 1 && v.w > 0.0), column = h.i + ((k & 1) && h.w > 0.0);
        c.at[k] = ((size_t)row * (size_t)job->in_w + (size_t)column) * job->channels;
        c.w[k] = (k >> 1 ? v.w : 1.0 - v.w) * (k & 1 ? h.w : 1.0 - h.w);
    }
    return c;
}

static void forward_row(void *arg, int64_t item, int thread)
{
    (void)thread;
    const bilinear_job *job = (const bilinear_job *)arg;
    size_t n = job->channels, image = (size_t)(item / job->out_h);
    const float *x = job->x + image * (size_t)job->in_h * (size_t)job->in_w * n;
    float *y = job->y + (size_t)item * (size_t)job->out_w * n;
    for (int q = 0; q < job->out_w; q++, y += n) {
        corners k = corners_of(job, (int)(item % job->out_h), q);
        const float *a = x + k.at[0], *b = x + k.at[1], *c = x + k.at[2], *d = x + k.at[3];
        const float wa = (float)k.w[0], wb = (float)k.w[1], wc = (float)k.w[2], wd = (float)k.w[3];
        for (size_t i = 0; i < n; i++) y[i] = (a[i] * wa + b[i] * wb) + (c[i] * wc + d[i] * wd);
    }
}

static oct_status bilinear_forward(oct_step *step)
{
    bilinear_job job = make_job(step->node, &oct_node_input(step->graph, step->node, 0)->shape);
    job.x = (const float *)step->in[0]->data;
    job.y = (float *)step->out->data;
    oct_parallel_for(step->ctx->threads, (int64_t)step->batch * job.out_h, forward_row, &job);
    return OCT_OK;
}

static void backward_image(void *arg, int64_t image, int thread)
{
    (void)thread;
    const bilinear_job *job = (const bilinear_job *)arg;
    size_t n = job->channels, in = (size_t)job->in_h * (size_t)job->in_w * n;
    float *dx = job->dx + (size_t)image * in;
    const float *dy = job->dy + (size_t)image * (size_t)job->out_h * (size_t)job->out_w * n;
    if (!job->accumulate) memset(dx, 0, in * sizeof *dx);
    for (int p = 0; p < job->out_h; p++) {
        for (int q = 0; q < job->out_w; q++, dy += n) {
            corners k = corners_of(job, p, q);
            for (int corner = 0; corner < 4; corner++) {
                const float w = (float)k.w[corner];
                float *d = dx + k.at[corner];
                for (size_t i = 0; i < n && w > 0.0f; i++) d[i] += dy[i] * w;
            }
        }
    }
}

static oct_status bilinear_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    bilinear_job job = make_job(step->node, &oct_node_input(step->graph, step->node, 0)->shape);
    job.dy = (const float *)step->d_out->data;
    job.dx = (float *)step->d_in[0]->data;
    job.accumulate = step->accumulate[0];
    oct_parallel_for(step->ctx->threads, step->batch, backward_image, &job);
    return OCT_OK;
}

/* --- reference. With x on a grid, y is rounded to it, from weights that are multiples of 1/1024 per axis; the gradient is
 * that of the exact weights. --- */

static corners reference_corners(const bilinear_job *job, int p, int q, bool fixed)
{
    blend v = blend_of(job->grid, p, job->in_h, job->out_h), h = blend_of(job->grid, q, job->in_w, job->out_w);
    if (fixed) {
        v.w = floor(v.w * 1024.0 + 0.5) / 1024.0;
        h.w = floor(h.w * 1024.0 + 0.5) / 1024.0;
    }
    corners c;
    for (int k = 0; k < 4; k++) {
        int row = v.i + (k >= 2 && v.w > 0.0), column = h.i + (k % 2 && h.w > 0.0);
        c.at[k] = ((size_t)row * (size_t)job->in_w + (size_t)column) * job->channels;
        c.w[k] = (k >= 2 ? v.w : 1.0 - v.w) * (k % 2 ? h.w : 1.0 - h.w);
    }
    return c;
}

static oct_status reference_run(oct_ref *ref, bool backward)
{
    bilinear_job job = make_job(ref->node, &ref->in_node[0]->shape);
    bool fixed = !backward && ref->in_grid[0]->count > 0;
    double unit = fixed ? oct_grid_scale(ref->in_grid[0], 0) : 1.0; /* x is a whole number of them */
    size_t n = job.channels, in = (size_t)job.in_h * (size_t)job.in_w * n, e = 0;
    for (size_t image = 0; image < (size_t)ref->batch; image++) {
        for (int pq = 0; pq < job.out_h * job.out_w; pq++) {
            corners k = reference_corners(&job, pq / job.out_w, pq % job.out_w, fixed);
            for (size_t c = 0; c < n; c++, e++) {
                double sum = 0.0;
                for (int corner = 0; corner < 4; corner++) {
                    size_t at = image * in + k.at[corner] + c;
                    if (backward)
                        ref->d_in[0][at] += k.w[corner] * ref->d_out[e];
                    else
                        sum += k.w[corner] * (fixed ? rint(ref->in[0][at] / unit) : ref->in[0][at]);
                }
                if (!backward) ref->out[e] = fixed ? floor(sum + 0.5) * unit : sum;
            }
        }
    }
    return OCT_OK;
}

static oct_status reference_forward(oct_ref *ref)
{
    return reference_run(ref, false);
}

static oct_status reference_backward(oct_ref *ref)
{
    return ref->d_in[0] ? reference_run(ref, true) : OCT_OK;
}

const oct_op oct_op_resize_bilinear = {
    .name = "resize_bilinear",
    .equation = "y[p,q,c] = mean of the four pixels around, weighed by distance",
    .attr_bytes = sizeof(oct_resize_attrs),
    .attrs = oct_resize_attr_table,
    .attr_count = 2,
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = oct_resize_infer,
    .exec = {.name = "resize_bilinear", .forward = bilinear_forward, .backward = bilinear_backward},
    .reference = {.forward = reference_forward, .backward = reference_backward, .keeps_grid = true},
};
