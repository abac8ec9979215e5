/* SPDX-License-Identifier: BSD-2-Clause
 * softmax and argmax: along the last dimension.
 */
#include <math.h>
#include <stddef.h>

#include "autograd/base/par.h"
#include "autograd/elementary.h"
#include "autograd/ops_internal.h"

typedef struct rows_job {
    const float *x, *y, *dy;
    float *to;
    int32_t *index;
    size_t rows, n; /* n elements each */
    int accumulate;
} rows_job;

enum { ITEM_ROWS = 64 };

static rows_job make_job(const oct_step *step)
{
    const oct_node *x = oct_node_input(step->graph, step->node, 0);
    rows_job job = {.n = (size_t)oct_last_dim(x), .accumulate = step->accumulate[0]};
    job.rows = oct_node_elements(x, step->batch) / job.n;
    return job;
}

static void run(const oct_step *step, rows_job *job, void (*item)(void *arg, int64_t item, int thread))
{
    oct_parallel_for(step->ctx->threads, (int64_t)((job->rows + ITEM_ROWS - 1) / ITEM_ROWS), item, job);
}

static size_t item_end(const rows_job *job, int64_t item)
{
    size_t end = ((size_t)item + 1) * ITEM_ROWS;
    return end < job->rows ? end : job->rows;
}

/* --- softmax --- */

static oct_status softmax_infer(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_same(graph, node));
    if (node->shape.rank < 2) OCT_TRY(oct_rule_rank(graph, node, 0, "x", 2, "[N,...,K]"));
    return OCT_OK;
}

static void softmax_row(float *y, const float *x, size_t n)
{
    float largest = x[0];
    for (size_t i = 1; i < n; i++) largest = x[i] > largest ? x[i] : largest;
    for (size_t i = 0; i < n; i++) y[i] = oct_exp_f32(x[i] - largest);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)y[i];
    const float scale = (float)(1.0 / sum);
    for (size_t i = 0; i < n; i++) y[i] *= scale;
}

static void softmax_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const rows_job *job = (const rows_job *)arg;
    for (size_t r = (size_t)item * ITEM_ROWS, end = item_end(job, item); r < end; r++)
        softmax_row(job->to + r * job->n, job->x + r * job->n, job->n);
}

static oct_status softmax_forward(oct_step *step)
{
    rows_job job = make_job(step);
    job.x = (const float *)step->in[0]->data;
    job.to = (float *)step->out->data;
    run(step, &job, softmax_item);
    return OCT_OK;
}

/* dx = y*(dy - sum of dy*y) */
static void softmax_backward_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const rows_job *job = (const rows_job *)arg;
    for (size_t r = (size_t)item * ITEM_ROWS, end = item_end(job, item); r < end; r++) {
        const float *y = job->y + r * job->n, *dy = job->dy + r * job->n;
        float *dx = job->to + r * job->n;
        double sum = 0.0;
        for (size_t i = 0; i < job->n; i++) sum += (double)dy[i] * (double)y[i];
        const float mean = (float)sum;
        for (size_t i = 0; i < job->n; i++) {
            float d = y[i] * (dy[i] - mean);
            dx[i] = job->accumulate ? dx[i] + d : d;
        }
    }
}

static oct_status softmax_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    rows_job job = make_job(step);
    job.y = (const float *)step->out->data;
    job.dy = (const float *)step->d_out->data;
    job.to = (float *)step->d_in[0]->data;
    run(step, &job, softmax_backward_item);
    return OCT_OK;
}

static double row_largest(const double *x, size_t n)
{
    double largest = x[0];
    for (size_t i = 1; i < n; i++) largest = fmax(largest, x[i]);
    return largest;
}

static void reference_row(double *y, const double *x, size_t n)
{
    double largest = row_largest(x, n), sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += y[i] = exp(x[i] - largest);
    for (size_t i = 0; i < n; i++) y[i] /= sum;
}

/* On a grid: whole numbers throughout. Differences from the largest code give e^-d as multiples of 2^-23, and y is their
 * share of the sum as a multiple of 1/256, rounded half up; 256/256 has no code. */
static void grid_row(double *y, const double *x, size_t n)
{
    double largest = row_largest(x, n), sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += y[i] = rint(ldexp(exp(x[i] - largest), 23));
    for (size_t i = 0; i < n; i++) y[i] = fmin(floor((256.0 * y[i] + floor(sum / 2.0)) / sum), 255.0) / 256.0;
}

static oct_status softmax_reference_forward(oct_ref *ref)
{
    size_t n = (size_t)oct_last_dim(ref->node), rows = oct_node_elements(ref->node, ref->batch) / n;
    bool on_grid = ref->in_grid[0]->count > 0;
    for (size_t r = 0; r < rows; r++) (on_grid ? grid_row : reference_row)(ref->out + r * n, ref->in[0] + r * n, n);
    if (!on_grid) return OCT_OK;
    ref->grid_exponents[0] = 8;
    *ref->grid = (oct_grid){.count = 1, .exponent = ref->grid_exponents};
    return OCT_OK;
}

static oct_status softmax_reference_backward(oct_ref *ref)
{
    if (!ref->d_in[0]) return OCT_OK;
    size_t n = (size_t)oct_last_dim(ref->node), rows = oct_node_elements(ref->node, ref->batch) / n;
    for (size_t r = 0; r < rows; r++) {
        const double *y = ref->out + r * n, *dy = ref->d_out + r * n;
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) sum += dy[i] * y[i];
        for (size_t i = 0; i < n; i++) ref->d_in[0][r * n + i] += y[i] * (dy[i] - sum);
    }
    return OCT_OK;
}

const oct_op oct_op_softmax = {
    .name = "softmax",
    .equation = "y = exp(x)/sum of exp(x) over the last dimension",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = softmax_infer,
    .exec = {.name = "softmax",
             .forward = softmax_forward,
             .backward = softmax_backward,
             .backward_reads = OCT_READS_OUTPUT,
             .inplace = true,
             .inplace_backward = true},
    .reference = {.forward = softmax_reference_forward, .backward = softmax_reference_backward},
};

/* --- argmax --- */

static oct_status argmax_infer(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_float(graph, node, 0, "x"));
    oct_shape shape = oct_node_input(graph, node, 0)->shape;
    if (shape.rank < 2) OCT_TRY(oct_rule_rank(graph, node, 0, "x", 2, "[N,...,K]"));
    shape.dim[shape.rank - 1] = 1;
    OCT_TRY(oct_rule_output(graph, node, shape));
    node->dtype = OCT_I32;
    return OCT_OK;
}

static void argmax_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const rows_job *job = (const rows_job *)arg;
    for (size_t r = (size_t)item * ITEM_ROWS, end = item_end(job, item); r < end; r++) {
        const float *x = job->x + r * job->n;
        size_t best = 0;
        for (size_t i = 1; i < job->n; i++) best = x[i] > x[best] ? i : best;
        job->index[r] = (int32_t)best;
    }
}

static oct_status argmax_forward(oct_step *step)
{
    rows_job job = make_job(step);
    job.x = (const float *)step->in[0]->data;
    job.index = (int32_t *)step->out->data;
    run(step, &job, argmax_item);
    return OCT_OK;
}

static oct_status argmax_reference_forward(oct_ref *ref)
{
    size_t n = (size_t)oct_last_dim(ref->in_node[0]), rows = oct_node_elements(ref->node, ref->batch);
    for (size_t r = 0; r < rows; r++) {
        const double *x = ref->in[0] + r * n;
        size_t best = 0;
        for (size_t i = n; i-- > 0;) best = x[i] >= x[best] ? i : best;
        ref->out[r] = (double)best;
    }
    return OCT_OK;
}

const oct_op oct_op_argmax = {
    .name = "argmax",
    .equation = "y = index of the first largest x of the last dimension",
    .min_inputs = 1,
    .max_inputs = 1,
    .no_gradient = ~0u,
    .infer = argmax_infer,
    .exec = {.name = "argmax", .forward = argmax_forward, .out_storage = OCT_STORE_I32},
    .reference = {.forward = argmax_reference_forward},
};
