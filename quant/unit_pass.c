/* SPDX-License-Identifier: BSD-2-Clause
 * Max pool, pad, slice, resizes and softmax on codes: the engine's own step, image by image. Backward is the float op's,
 * on decoded codes (ties of a maximum fall alike). */
#include <math.h>

#include "autograd/base/par.h"
#include "quant/grid.h"
#include "quant/int8/engine.h"
#include "quant/pass.h"
#include "quant/unit_internal.h"

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

typedef struct pass_job {
    oct_step *step;
    oct_i8_kernels kernels;
    oct_int8_tensor in, out;
    oct_int8_step engine;
    uint8_t *table;               /* softmax */
    float *x, *y;                 /* backward: what the float op reads */
    void *inner_scratch;
    const oct_tensor *from;       /* being decoded */
    float *to;
} pass_job;

static const oct_exec *float_exec(const oct_graph *g, const oct_unit *unit)
{
    return &oct_unit_node(g, unit)->op->exec;
}

static size_t place(pass_job *job, const oct_graph *g, const oct_unit *unit, void *base, int batch, int threads,
                    bool backward)
{
    oct_carve c = {.base = base};
    const oct_node *n = oct_unit_node(g, unit);
    const oct_exec *exec = float_exec(g, unit);
    if (!backward) {
        if (n->op == &oct_op_softmax) job->table = oct_carve_take(&c, OCT_SOFTMAX_TABLE_ROWS, 256);
        return c.used;
    }
    if (exec->backward_reads & OCT_READS_INPUT(0))
        job->x = oct_carve_take(&c, oct_node_elements(oct_node_input(g, n, 0), batch), sizeof(float));
    if (exec->backward_reads & OCT_READS_OUTPUT)
        job->y = oct_carve_take(&c, oct_node_elements(n, batch), sizeof(float));
    if (exec->scratch_bytes) job->inner_scratch = oct_carve_take(&c, exec->scratch_bytes(g, unit, batch, threads, true), 1);
    return c.used;
}

static void job_start(pass_job *job, oct_step *step, bool backward)
{
    *job = (pass_job){.step = step};
    oct_i8_kernels_init(&job->kernels, step->ctx->cpu_mask);
    place(job, step->graph, step->unit, step->scratch, step->batch, step->ctx->threads, backward);
}

/* --- forward --- */

static oct_int8_tensor tensor_of(const oct_node *n, const oct_tensor *t)
{
    oct_int8_tensor described = {.name = n->name, .kind = OCT_INT8_CODES, .is_signed = t->is_signed,
                                 .exponent = t->exponent, .scale = t->scale, .zero_point = t->zero_point};
    oct_int8_dims(&described, &n->shape);
    return described;
}

static void run_image(void *arg, int64_t image, int thread)
{
    const pass_job *job = arg;
    (void)thread;
    const oct_tensor *x = job->step->in[0], *y = job->step->out;
    const uint8_t *in[1] = {(const uint8_t *)x->data + (size_t)image * x->sample};
    oct_int8_step_other(&job->engine, &job->kernels, (uint8_t *)y->data + (size_t)image * y->sample, in, NULL, 0,
                        job->out.height);
}

static oct_status pass_forward(oct_step *step)
{
    pass_job job;
    job_start(&job, step, false);
    oct_tensor_copy_grid(step->out, step->in[0]);
    if (step->node->op == &oct_op_softmax) {
        const oct_clip_codes grid = {.exponent = OCT_SOFTMAX_EXPONENT, .scale = ldexpf(1, -OCT_SOFTMAX_EXPONENT)};
        oct_grid_to_tensor(&grid, step->out);
        oct_softmax_table(job.table, (double)step->in[0]->scale);
    }
    job.in = tensor_of(oct_node_input(step->graph, step->node, 0), step->in[0]);
    job.out = tensor_of(step->node, step->out);
    job.engine = (oct_int8_step){.in = {&job.in}, .out = &job.out};
    oct_pass_layer(&job.engine.layer, step->graph, step->node);
    job.engine.layer.table = job.table;
    oct_int8_plan_step(&job.engine, &job.kernels);
    oct_parallel_for(step->ctx->threads, step->batch, run_image, &job);
    return OCT_OK;
}

/* --- backward --- */

static void decode_image(void *arg, int64_t image, int thread)
{
    const pass_job *job = arg;
    (void)thread;
    const oct_tensor *t = job->from;
    size_t at = (size_t)image * t->sample;
    job->kernels.dequantize(job->to + at, (const uint8_t *)t->data + at, t->sample, t->scale, t->zero_point,
                            t->is_signed);
}

/* *decoded stands for the tensor; its data is `memory`, or NULL where the op does not look. */
static void decode(pass_job *job, oct_tensor *decoded, const oct_tensor *t, float *memory)
{
    *decoded = (oct_tensor){.data = memory, .sample = t->sample, .storage = OCT_STORE_F32};
    job->from = t;
    job->to = memory;
    if (memory) oct_parallel_for(job->step->ctx->threads, job->step->batch, decode_image, job);
}

static oct_status pass_backward(oct_step *step)
{
    pass_job job;
    job_start(&job, step, true);
    oct_tensor x, y;
    decode(&job, &x, step->in[0], job.x);
    decode(&job, &y, step->out, job.y);
    oct_step inner = *step;
    inner.in[0] = &x;
    inner.out = &y;
    inner.scratch = job.inner_scratch;
    return step->node->op->exec.backward(&inner);
}

static size_t scratch_bytes(const oct_graph *g, const oct_unit *unit, int batch, int threads, bool backward)
{
    pass_job job = {0};
    return place(&job, g, unit, NULL, batch, threads, backward);
}

const oct_exec oct_exec_pass = {
    .name = "codes", .forward = pass_forward, .backward = pass_backward, .out_storage = OCT_STORE_U8,
    .accepts_codes = 1, .scratch_bytes = scratch_bytes,
};
const oct_exec oct_exec_pass_reads_x = {
    .name = "codes", .forward = pass_forward, .backward = pass_backward, .out_storage = OCT_STORE_U8,
    .accepts_codes = 1, .backward_reads = OCT_READS_INPUT(0), .scratch_bytes = scratch_bytes,
};
const oct_exec oct_exec_pass_reads_y = {
    .name = "codes", .forward = pass_forward, .backward = pass_backward, .out_storage = OCT_STORE_U8,
    .accepts_codes = 1, .backward_reads = OCT_READS_OUTPUT, .scratch_bytes = scratch_bytes,
};
