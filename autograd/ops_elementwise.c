/* SPDX-License-Identifier: BSD-2-Clause
 * relu, clip, add, sub, mul, dropout: one output element from the input elements at the same place.
 */
#include "autograd/ops_internal.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "autograd/base/par.h"
#include "autograd/base/rng.h"

/* --- relu and clip --- */

typedef struct clip_job {
    const oct_f32_kernels *f32;
    const float *from, *y;
    float *to;
    size_t n;
    oct_clip_attrs limits;
    int accumulate;
} clip_job;

static oct_clip_attrs limits_of(const oct_node *node)
{
    if (node->op == &oct_op_relu) return (oct_clip_attrs){0.0f, INFINITY};
    return *(const oct_clip_attrs *)node->attrs;
}

static oct_status clip_infer(const oct_graph *graph, oct_node *node)
{
    oct_clip_attrs a = limits_of(node);
    if (!(a.lo < a.hi)) {
        return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT, "limits are %g and %g, expected lo < hi",
                             (double)a.lo, (double)a.hi);
    }
    return oct_rule_same(graph, node);
}

static void clip_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const clip_job *job = (const clip_job *)arg;
    size_t at = (size_t)item * OCT_FLAT_ITEM;
    job->f32->clamp(job->to + at, job->from + at, oct_flat_count(job->n, item), job->limits.lo,
                    job->limits.hi);
}

static oct_status clip_forward(oct_step *step)
{
    clip_job job = {.f32 = step->f32,
                    .from = (const float *)step->in[0]->data,
                    .to = (float *)step->out->data,
                    .n = oct_node_elements(step->node, step->batch),
                    .limits = limits_of(step->node)};
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), clip_item, &job);
    return OCT_OK;
}

static void clip_backward_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const clip_job *job = (const clip_job *)arg;
    size_t at = (size_t)item * OCT_FLAT_ITEM;
    job->f32->clamp_backward(job->to + at, job->from + at, job->y + at, oct_flat_count(job->n, item),
                             job->limits.lo, job->limits.hi, job->accumulate);
}

static oct_status clip_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    clip_job job = {.f32 = step->f32,
                    .from = (const float *)step->d_out->data,
                    .y = (const float *)step->out->data,
                    .to = (float *)step->d_in[0]->data,
                    .n = oct_node_elements(step->node, step->batch),
                    .limits = limits_of(step->node),
                    .accumulate = step->accumulate[0]};
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), clip_backward_item, &job);
    return OCT_OK;
}

static oct_status clip_reference_forward(oct_ref *ref)
{
    oct_clip_attrs a = limits_of(ref->node);
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t i = 0; i < n; i++) ref->out[i] = fmin(fmax(ref->in[0][i], (double)a.lo), (double)a.hi);
    return OCT_OK;
}

static oct_status clip_reference_backward(oct_ref *ref)
{
    if (!ref->d_in[0]) return OCT_OK;
    oct_clip_attrs a = limits_of(ref->node);
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t i = 0; i < n; i++) {
        if (ref->in[0][i] > (double)a.lo && ref->in[0][i] < (double)a.hi) ref->d_in[0][i] += ref->d_out[i];
    }
    return OCT_OK;
}

#define CLIP_EXEC(step_name)                                                                                 \
    {                                                                                                        \
        .name = step_name, .forward = clip_forward, .backward = clip_backward,                               \
        .backward_reads = OCT_READS_OUTPUT, .inplace = true, .inplace_backward = true                        \
    }

const oct_op oct_op_relu = {
    .name = "relu",
    .equation = "y = max(x, 0)",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = clip_infer,
    .exec = CLIP_EXEC("relu"),
    .reference = {.forward = clip_reference_forward, .backward = clip_reference_backward},
};

static const oct_attr clip_attrs[] = {
    {"lo", OCT_ATTR_FLOAT, offsetof(oct_clip_attrs, lo), 1},
    {"hi", OCT_ATTR_FLOAT, offsetof(oct_clip_attrs, hi), 1},
};

const oct_op oct_op_clip = {
    .name = "clip",
    .equation = "y = min(max(x, lo), hi)",
    .attr_bytes = sizeof(oct_clip_attrs),
    .attrs = clip_attrs,
    .attr_count = sizeof clip_attrs / sizeof clip_attrs[0],
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = clip_infer,
    .exec = CLIP_EXEC("clip"),
    .reference = {.forward = clip_reference_forward, .backward = clip_reference_backward},
};

/* --- add and mul --- */

static oct_status same_shapes_infer(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_same(graph, node));
    for (int i = 1; i < node->input_count; i++)
        OCT_TRY(oct_rule_shape(graph, node, i, "operand", node->shape));
    return OCT_OK;
}

typedef struct operands_job {
    const oct_step *step;
    size_t n;
} operands_job;

static float *in_data(const oct_step *step, int i)
{
    return (float *)step->in[i]->data;
}

static void add_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const operands_job *job = (const operands_job *)arg;
    const oct_step *step = job->step;
    size_t at = (size_t)item * OCT_FLAT_ITEM, n = oct_flat_count(job->n, item);
    float *y = (float *)step->out->data + at;
    step->f32->add(y, in_data(step, 0) + at, in_data(step, 1) + at, n);
    for (int i = 2; i < step->input_count; i++) step->f32->add(y, y, in_data(step, i) + at, n);
}

static oct_status add_forward(oct_step *step)
{
    operands_job job = {step, oct_node_elements(step->node, step->batch)};
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), add_item, &job);
    return OCT_OK;
}

/* dy goes to every operand. A gradient that lies in d_out's own memory (which has one reader: it is no second
 * operand) is already there. */
static void add_backward_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const operands_job *job = (const operands_job *)arg;
    const oct_step *step = job->step;
    size_t at = (size_t)item * OCT_FLAT_ITEM, n = oct_flat_count(job->n, item);
    const float *dy = (const float *)step->d_out->data + at;
    for (int i = 0; i < step->input_count; i++) {
        if (step->d_in[i])
            oct_copy_or_add(step->f32, (float *)step->d_in[i]->data + at, dy, n, step->accumulate[i]);
    }
}

static oct_status add_backward(oct_step *step)
{
    operands_job job = {step, oct_node_elements(step->node, step->batch)};
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), add_backward_item, &job);
    return OCT_OK;
}

static oct_status add_reference_forward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) {
        double sum = 0.0;
        for (int i = 0; i < ref->node->input_count; i++) sum += ref->in[i][e];
        ref->out[e] = sum;
    }
    return OCT_OK;
}

static oct_status add_reference_backward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (int i = 0; i < ref->node->input_count; i++) {
        for (size_t e = 0; ref->d_in[i] && e < n; e++) ref->d_in[i][e] += ref->d_out[e];
    }
    return OCT_OK;
}

const oct_op oct_op_add = {
    .name = "add",
    .equation = "y = a + b + ...",
    .min_inputs = 2,
    .max_inputs = OCT_MAX_INPUTS,
    .infer = same_shapes_infer,
    .exec = {.name = "add",
             .forward = add_forward,
             .backward = add_backward,
             .inplace = true,
             .inplace_backward = true},
    .reference = {.forward = add_reference_forward, .backward = add_reference_backward},
};

static void sub_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const operands_job *job = (const operands_job *)arg;
    const oct_step *step = job->step;
    size_t at = (size_t)item * OCT_FLAT_ITEM, n = oct_flat_count(job->n, item);
    float *y = (float *)step->out->data + at;
    const float *a = in_data(step, 0) + at, *b = in_data(step, 1) + at;
    for (size_t e = 0; e < n; e++) y[e] = a[e] - b[e];
}

static oct_status sub_forward(oct_step *step)
{
    operands_job job = {step, oct_node_elements(step->node, step->batch)};
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), sub_item, &job);
    return OCT_OK;
}

/* The second operand first: the gradient of the first may lie in d_out's own memory. */
static void sub_backward_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const operands_job *job = (const operands_job *)arg;
    const oct_step *step = job->step;
    size_t at = (size_t)item * OCT_FLAT_ITEM, n = oct_flat_count(job->n, item);
    const float *dy = (const float *)step->d_out->data + at;
    float *d_b = step->d_in[1] ? (float *)step->d_in[1]->data + at : NULL;
    bool same = step->node->inputs[0] == step->node->inputs[1]; /* x - x: then the first one overwrites or adds */
    if (!same) {
        for (size_t e = 0; d_b && e < n; e++) d_b[e] = step->accumulate[1] ? d_b[e] - dy[e] : -dy[e];
    }
    if (step->d_in[0])
        oct_copy_or_add(step->f32, (float *)step->d_in[0]->data + at, dy, n, step->accumulate[0]);
    if (same) {
        for (size_t e = 0; d_b && e < n; e++) d_b[e] -= dy[e];
    }
}

static oct_status sub_backward(oct_step *step)
{
    operands_job job = {step, oct_node_elements(step->node, step->batch)};
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), sub_backward_item, &job);
    return OCT_OK;
}

static oct_status sub_reference_forward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) ref->out[e] = ref->in[0][e] - ref->in[1][e];
    return OCT_OK;
}

static oct_status sub_reference_backward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) {
        if (ref->d_in[0]) ref->d_in[0][e] += ref->d_out[e];
        if (ref->d_in[1]) ref->d_in[1][e] -= ref->d_out[e];
    }
    return OCT_OK;
}

const oct_op oct_op_sub = {
    .name = "sub",
    .equation = "y = a - b",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = same_shapes_infer,
    .exec = {.name = "sub",
             .forward = sub_forward,
             .backward = sub_backward,
             .inplace = true,
             .inplace_backward = true},
    .reference = {.forward = sub_reference_forward, .backward = sub_reference_backward},
};

static void mul_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const operands_job *job = (const operands_job *)arg;
    const oct_step *step = job->step;
    size_t at = (size_t)item * OCT_FLAT_ITEM;
    step->f32->mul((float *)step->out->data + at, in_data(step, 0) + at, in_data(step, 1) + at,
                   oct_flat_count(job->n, item));
}

static oct_status mul_forward(oct_step *step)
{
    operands_job job = {step, oct_node_elements(step->node, step->batch)};
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), mul_item, &job);
    return OCT_OK;
}

static void mul_backward_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const operands_job *job = (const operands_job *)arg;
    const oct_step *step = job->step;
    size_t at = (size_t)item * OCT_FLAT_ITEM, n = oct_flat_count(job->n, item);
    const float *dy = (const float *)step->d_out->data + at;
    for (int i = 0; i < 2; i++) {
        if (!step->d_in[i]) continue;
        float *d = (float *)step->d_in[i]->data + at;
        const float *other = in_data(step, 1 - i) + at;
        if (!step->accumulate[i]) {
            step->f32->mul(d, dy, other, n);
        } else {
            for (size_t e = 0; e < n; e++) d[e] += dy[e] * other[e];
        }
    }
}

static oct_status mul_backward(oct_step *step)
{
    operands_job job = {step, oct_node_elements(step->node, step->batch)};
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), mul_backward_item, &job);
    return OCT_OK;
}

static oct_status mul_reference_forward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) ref->out[e] = ref->in[0][e] * ref->in[1][e];
    return OCT_OK;
}

static oct_status mul_reference_backward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (int i = 0; i < 2; i++) {
        for (size_t e = 0; ref->d_in[i] && e < n; e++) ref->d_in[i][e] += ref->d_out[e] * ref->in[1 - i][e];
    }
    return OCT_OK;
}

const oct_op oct_op_mul = {
    .name = "mul",
    .equation = "y = a * b",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = same_shapes_infer,
    .exec = {.name = "mul",
             .forward = mul_forward,
             .backward = mul_backward,
             .backward_reads = OCT_READS_INPUT(0) | OCT_READS_INPUT(1),
             .inplace = true},
    .reference = {.forward = mul_reference_forward, .backward = mul_reference_backward},
};

/* --- dropout: the mask is a function of (seed, step, node, element), made again in backward --- */

static oct_status dropout_infer(const oct_graph *graph, oct_node *node)
{
    const oct_dropout_attrs *a = (const oct_dropout_attrs *)node->attrs;
    if (!(a->rate >= 0.0f && a->rate < 1.0f)) {
        return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT, "rate is %g, expected 0 <= rate < 1",
                             (double)a->rate);
    }
    return oct_rule_same(graph, node);
}

typedef struct dropout_job {
    const float *from;
    float *to;
    size_t n;
    uint64_t key;
    float rate, scale;
    int accumulate;
} dropout_job;

/* Four elements share one block of random numbers. */
_Static_assert(OCT_FLAT_ITEM % 4 == 0, "an item of work starts at a whole block of random numbers");

static float random_uniform(uint32_t bits)
{
    return (float)(bits >> 8) * 0x1p-24f;
}

static void dropout_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const dropout_job *job = (const dropout_job *)arg;
    size_t begin = (size_t)item * OCT_FLAT_ITEM, end = begin + oct_flat_count(job->n, item);
    for (size_t at = begin; at < end; at += 4) {
        uint32_t bits[4];
        oct_rng_block(bits, job->key, at / 4);
        for (size_t i = at; i < end && i < at + 4; i++) {
            float v = random_uniform(bits[i - at]) >= job->rate ? job->from[i] * job->scale : 0.0f;
            job->to[i] = job->accumulate ? job->to[i] + v : v;
        }
    }
}

static oct_status dropout_run(oct_step *step, const float *from, float *to, int accumulate)
{
    const oct_dropout_attrs *a = (const oct_dropout_attrs *)step->node->attrs;
    bool live = step->run->mode == OCT_TRAIN;
    dropout_job job = {
        .from = from, .to = to, .n = oct_node_elements(step->node, step->batch), .accumulate = accumulate};
    if (!live || a->rate == 0.0f) {
        oct_copy_or_add(step->f32, to, from, job.n, accumulate);
        return OCT_OK;
    }
    job.key = oct_rng_key(step->run->seed, OCT_RNG_DROPOUT, step->run->step, (uint64_t)step->node->id);
    job.rate = a->rate;
    job.scale = (float)(1.0 / (1.0 - (double)a->rate));
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), dropout_item, &job);
    return OCT_OK;
}

static oct_status dropout_forward(oct_step *step)
{
    return dropout_run(step, in_data(step, 0), (float *)step->out->data, 0);
}

static oct_status dropout_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    return dropout_run(step, (const float *)step->d_out->data, (float *)step->d_in[0]->data,
                       step->accumulate[0]);
}

/* Factor of element e. */
static double reference_factor(const oct_ref *ref, size_t e)
{
    const oct_dropout_attrs *a = (const oct_dropout_attrs *)ref->node->attrs;
    if (ref->run->mode != OCT_TRAIN) return 1.0;
    uint32_t bits[4];
    oct_rng_block(bits, oct_rng_key(ref->run->seed, OCT_RNG_DROPOUT, ref->run->step, (uint64_t)ref->node->id),
                  e / 4);
    return ldexp((double)(bits[e % 4] >> 8), -24) < (double)a->rate ? 0.0 : (double)(float)(1.0 / (1.0 - (double)a->rate));
}

static oct_status dropout_reference_forward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) ref->out[e] = ref->in[0][e] * reference_factor(ref, e);
    return OCT_OK;
}

static oct_status dropout_reference_backward(oct_ref *ref)
{
    if (!ref->d_in[0]) return OCT_OK;
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) ref->d_in[0][e] += ref->d_out[e] * reference_factor(ref, e);
    return OCT_OK;
}

static const oct_attr dropout_attrs[] = {{"rate", OCT_ATTR_FLOAT, offsetof(oct_dropout_attrs, rate), 1}};

const oct_op oct_op_dropout = {
    .name = "dropout",
    .equation = "training: y = x/(1-rate) with probability 1-rate, else 0; otherwise y = x",
    .attr_bytes = sizeof(oct_dropout_attrs),
    .attrs = dropout_attrs,
    .attr_count = 1,
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = dropout_infer,
    .exec = {.name = "dropout",
             .forward = dropout_forward,
             .backward = dropout_backward,
             .inplace = true,
             .inplace_backward = true},
    .reference = {.forward = dropout_reference_forward, .backward = dropout_reference_backward},
};
