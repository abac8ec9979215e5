/* SPDX-License-Identifier: BSD-2-Clause
 * Max pool on codes: exponent and sign pass through. Backward is the float op's, on decoded codes: ties fall alike. */
#include <math.h>
#include <string.h>

#include "autograd/base/par.h"
#include "quant/unit_internal.h"

typedef struct pool_job {
    oct_step *step;
    const oct_shape *x, *y;
    oct_i8_kernels kernels;
    float *decoded;
    void *inner_scratch;
} pool_job;

static size_t place(pool_job *job, const oct_graph *g, const oct_unit *unit, void *base, int batch, int threads)
{
    oct_carve c = {.base = base};
    const oct_node *n = oct_unit_node(g, unit);
    const oct_exec *exec = &n->op->exec;
    job->decoded = oct_carve_take(&c, oct_node_elements(oct_node_input(g, n, 0), batch), sizeof(float));
    if (exec->scratch_bytes) job->inner_scratch = oct_carve_take(&c, exec->scratch_bytes(g, unit, batch, threads, true), 1);
    return c.used;
}

static void job_start(pool_job *job, oct_step *step)
{
    *job = (pool_job){.step = step, .x = &oct_node_input(step->graph, step->node, 0)->shape,
                      .y = &step->node->shape};
    oct_i8_kernels_init(&job->kernels, step->ctx->cpu_mask);
}

oct_pool_window oct_pool_window_at(const oct_node *pool, const oct_shape *x, int row, int column)
{
    if (pool->op == &oct_op_global_average_pool) return (oct_pool_window){0, 0, x->dim[1], x->dim[2]};
    const oct_pool_attrs *a = pool->attrs;
    int top = row * a->stride[0] - a->pad[0], left = column * a->stride[1] - a->pad[1];
    int bottom = top + a->kernel[0], right = left + a->kernel[1];
    if (top < 0) top = 0;
    if (left < 0) left = 0;
    if (bottom > x->dim[1]) bottom = x->dim[1];
    if (right > x->dim[2]) right = x->dim[2];
    return (oct_pool_window){top, left, bottom - top, right - left};
}

static void pool_pixel(const pool_job *job, uint8_t *out, const uint8_t *image, int row, int column)
{
    oct_pool_window w = oct_pool_window_at(job->step->node, job->x, row, column);
    int channels = job->x->dim[3];
    ptrdiff_t x_row = (ptrdiff_t)job->x->dim[2] * channels;
    job->kernels.pool_max(out, image + w.top * x_row + (ptrdiff_t)w.left * channels, w.rows, w.columns, x_row, channels,
                          channels, job->step->in[0]->is_signed);
}

static void pool_image(void *arg, int64_t image, int thread)
{
    const pool_job *job = arg;
    (void)thread;
    const uint8_t *x = (const uint8_t *)job->step->in[0]->data + (size_t)image * job->step->in[0]->sample;
    uint8_t *y = (uint8_t *)job->step->out->data + (size_t)image * job->step->out->sample;
    for (int r = 0; r < job->y->dim[1]; r++)
        for (int c = 0; c < job->y->dim[2]; c++, y += job->y->dim[3]) pool_pixel(job, y, x, r, c);
}

static oct_status pool_forward(oct_step *step)
{
    pool_job job;
    job_start(&job, step);
    oct_tensor_copy_grid(step->out, step->in[0]);
    oct_parallel_for(step->ctx->threads, step->batch, pool_image, &job);
    return OCT_OK;
}

static void decode_image(void *arg, int64_t image, int thread)
{
    const pool_job *job = arg;
    const oct_tensor *t = job->step->in[0];
    (void)thread;
    size_t at = (size_t)image * t->sample;
    job->kernels.dequantize(job->decoded + at, (const uint8_t *)t->data + at, t->sample, t->scale, t->zero_point,
                            t->is_signed);
}

static oct_status pool_backward(oct_step *step)
{
    pool_job job;
    job_start(&job, step);
    place(&job, step->graph, step->unit, step->scratch, step->batch, step->ctx->threads);
    oct_parallel_for(step->ctx->threads, step->batch, decode_image, &job);
    oct_tensor x = {.data = job.decoded, .sample = step->in[0]->sample, .storage = OCT_STORE_F32};
    oct_step inner = *step;
    inner.in[0] = &x;
    inner.scratch = job.inner_scratch;
    return step->node->op->exec.backward(&inner);
}

static size_t scratch_bytes(const oct_graph *g, const oct_unit *unit, int batch, int threads, bool backward)
{
    pool_job job = {0};
    return backward ? place(&job, g, unit, NULL, batch, threads) : 0;
}

const oct_exec oct_exec_max_pool_codes = {
    .name = "max_pool codes", .forward = pool_forward, .backward = pool_backward,
    .backward_reads = OCT_READS_INPUT(0), .out_storage = OCT_STORE_U8, .accepts_codes = 1,
    .scratch_bytes = scratch_bytes,
};
