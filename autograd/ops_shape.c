/* SPDX-License-Identifier: BSD-2-Clause
 * concat, flatten, reshape, and normalize, the model's preprocessing: ops that move or prepare data.
 */
#include "autograd/ops_internal.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "autograd/base/par.h"

/* --- concat along the last dimension: every row of the output is the inputs' rows one after the other --- */

static oct_status concat_infer(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_float(graph, node, 0, "part"));
    oct_shape shape = oct_node_input(graph, node, 0)->shape;
    if (shape.rank < 2) OCT_TRY(oct_rule_rank(graph, node, 0, "part", 2, "[N,...,C]"));
    int64_t channels = shape.dim[shape.rank - 1];
    for (int i = 1; i < node->input_count; i++) {
        OCT_TRY(oct_rule_float(graph, node, i, "part"));
        const oct_node *in = oct_node_input(graph, node, i);
        oct_shape expected = shape;
        if (in->shape.rank == shape.rank) expected.dim[shape.rank - 1] = in->shape.dim[shape.rank - 1];
        OCT_TRY(oct_rule_shape(graph, node, i, "part", expected));
        channels += in->shape.dim[shape.rank - 1];
    }
    /* Too large for the type: 0 is refused as the output's shape. */
    shape.dim[shape.rank - 1] = channels > INT32_MAX ? 0 : (int32_t)channels;
    return oct_rule_output(graph, node, shape);
}

enum { CONCAT_ROWS = 256 };

typedef struct concat_job {
    const oct_step *step;
    size_t rows, width;
    bool backward;
} concat_job;

static void concat_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const concat_job *job = (const concat_job *)arg;
    const oct_step *step = job->step;
    size_t first = (size_t)item * CONCAT_ROWS;
    size_t last = first + CONCAT_ROWS < job->rows ? first + CONCAT_ROWS : job->rows;
    size_t at = 0;
    for (int i = 0; i < step->input_count; i++) {
        size_t n = (size_t)oct_last_dim(oct_node_input(step->graph, step->node, i));
        for (size_t row = first; row < last && !job->backward; row++) {
            memcpy((float *)step->out->data + row * job->width + at,
                   (const float *)step->in[i]->data + row * n, n * sizeof(float));
        }
        for (size_t row = first; row < last && job->backward && step->d_in[i]; row++) {
            oct_copy_or_add(step->f32, (float *)step->d_in[i]->data + row * n,
                            (const float *)step->d_out->data + row * job->width + at, n, step->accumulate[i]);
        }
        at += n;
    }
}

static oct_status concat_run(oct_step *step, bool backward)
{
    concat_job job = {.step = step, .width = (size_t)oct_last_dim(step->node), .backward = backward};
    job.rows = oct_node_elements(step->node, step->batch) / job.width;
    oct_parallel_for(step->ctx->threads, (int64_t)((job.rows + CONCAT_ROWS - 1) / CONCAT_ROWS), concat_item,
                     &job);
    return OCT_OK;
}

static oct_status concat_forward(oct_step *step)
{
    return concat_run(step, false);
}

static oct_status concat_backward(oct_step *step)
{
    return concat_run(step, true);
}

static oct_status concat_reference_forward(oct_ref *ref)
{
    size_t width = (size_t)oct_last_dim(ref->node), rows = oct_node_elements(ref->node, ref->batch) / width;
    for (size_t row = 0; row < rows; row++) {
        double *y = ref->out + row * width;
        for (int i = 0; i < ref->node->input_count; i++) {
            size_t n = (size_t)oct_last_dim(ref->in_node[i]);
            for (size_t c = 0; c < n; c++) *y++ = ref->in[i][row * n + c];
        }
    }
    return OCT_OK;
}

static oct_status concat_reference_backward(oct_ref *ref)
{
    size_t width = (size_t)oct_last_dim(ref->node), rows = oct_node_elements(ref->node, ref->batch) / width;
    for (size_t row = 0; row < rows; row++) {
        const double *dy = ref->d_out + row * width;
        for (int i = 0; i < ref->node->input_count; i++) {
            size_t n = (size_t)oct_last_dim(ref->in_node[i]);
            for (size_t c = 0; ref->d_in[i] && c < n; c++) ref->d_in[i][row * n + c] += dy[c];
            dy += n;
        }
    }
    return OCT_OK;
}

const oct_op oct_op_concat = {
    .name = "concat",
    .equation = "y = (a, b, ...) along the last dimension",
    .min_inputs = 1,
    .max_inputs = OCT_MAX_INPUTS,
    .infer = concat_infer,
    .exec = {.name = "concat", .forward = concat_forward, .backward = concat_backward},
    .reference = {.forward = concat_reference_forward, .backward = concat_reference_backward},
};

/* --- flatten --- */

static oct_status flatten_infer(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_float(graph, node, 0, "x"));
    const oct_shape *x = &oct_node_input(graph, node, 0)->shape;
    if (x->rank < 2 || x->dim[0] != OCT_BATCH)
        OCT_TRY(oct_rule_rank(graph, node, 0, "x", OCT_MAX_RANK, "[N,...]"));
    return oct_rule_output(graph, node, OCT_SHAPE(OCT_BATCH, (int32_t)oct_shape_sample(x)));
}

/* Only when the two gradients do not share their memory. */
static oct_status flatten_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    oct_copy_or_add(step->f32, (float *)step->d_in[0]->data, (const float *)step->d_out->data,
                    oct_node_elements(step->node, step->batch), step->accumulate[0]);
    return OCT_OK;
}

static oct_status flatten_reference_forward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) ref->out[e] = ref->in[0][e];
    return OCT_OK;
}

static oct_status flatten_reference_backward(oct_ref *ref)
{
    if (!ref->d_in[0]) return OCT_OK;
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) ref->d_in[0][e] += ref->d_out[e];
    return OCT_OK;
}

const oct_op oct_op_flatten = {
    .name = "flatten",
    .equation = "y = x as [N, rest]",
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = flatten_infer,
    .exec = {.name = "flatten", .backward = flatten_backward, .inplace_backward = true, .view = true},
    .reference = {.forward = flatten_reference_forward,
                  .backward = flatten_reference_backward,
                  .keeps_grid = true},
};

/* --- reshape --- */

static oct_status reshape_infer(const oct_graph *graph, oct_node *node)
{
    const oct_reshape_attrs *a = (const oct_reshape_attrs *)node->attrs;
    OCT_TRY(oct_rule_float(graph, node, 0, "x"));
    const oct_shape *x = &oct_node_input(graph, node, 0)->shape;
    if (x->rank < 1 || x->dim[0] != OCT_BATCH)
        OCT_TRY(oct_rule_rank(graph, node, 0, "x", OCT_MAX_RANK, "[N,...]"));
    if (a->rank < 1 || a->rank > OCT_MAX_RANK - 1)
        return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT, "rank is %d, expected 1..%d", a->rank, OCT_MAX_RANK - 1);
    oct_shape shape = {.rank = a->rank + 1, .dim = {OCT_BATCH}};
    for (int i = 0; i < OCT_MAX_RANK - 1; i++) {
        if (i >= a->rank ? a->dim[i] != 0 : a->dim[i] < 1)
            return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT, "dimension %d is %d", i, a->dim[i]);
        if (i < a->rank) shape.dim[i + 1] = a->dim[i];
    }
    if (oct_shape_sample(&shape) != oct_shape_sample(x)) {
        char from[OCT_SHAPE_TEXT], to[OCT_SHAPE_TEXT];
        return oct_rule_fail(graph, node, OCT_ERR_SHAPE, "x has shape %s, which does not fill %s",
                             oct_shape_text(from, x), oct_shape_text(to, &shape));
    }
    return oct_rule_output(graph, node, shape);
}

static const oct_attr reshape_attrs[] = {
    {"rank", OCT_ATTR_INT, offsetof(oct_reshape_attrs, rank), 1},
    {"dim", OCT_ATTR_INT, offsetof(oct_reshape_attrs, dim), 3},
};

const oct_op oct_op_reshape = {
    .name = "reshape",
    .equation = "y = x as [N, dims]",
    .attr_bytes = sizeof(oct_reshape_attrs),
    .attrs = reshape_attrs,
    .attr_count = sizeof reshape_attrs / sizeof reshape_attrs[0],
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = reshape_infer,
    .exec = {.name = "reshape", .backward = flatten_backward, .inplace_backward = true, .view = true},
    .reference = {.forward = flatten_reference_forward,
                  .backward = flatten_reference_backward,
                  .keeps_grid = true},
};

/* --- normalize --- */

enum { NORMALIZE_CHANNELS = 4 };

static oct_status normalize_infer(const oct_graph *graph, oct_node *node)
{
    const oct_normalize_attrs *a = (const oct_normalize_attrs *)node->attrs;
    const oct_node *x = oct_node_input(graph, node, 0);
    int channels = oct_last_dim(x);
    if (x->dtype == OCT_I32) OCT_TRY(oct_rule_float(graph, node, 0, "x"));
    if (x->shape.rank < 2 || channels > NORMALIZE_CHANNELS) {
        char found[OCT_SHAPE_TEXT];
        return oct_rule_fail(graph, node, OCT_ERR_SHAPE,
                             "input 0 (x '%s') has shape %s, expected [N,...,C] with at most %d channels",
                             x->name, oct_shape_text(found, &x->shape), NORMALIZE_CHANNELS);
    }
    for (int c = 0; c < channels; c++) {
        if (!isfinite(a->mean[c]) || !isfinite(a->scale[c])) {
            return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT,
                                 "mean and scale of channel %d are %g and %g, expected "
                                 "finite numbers",
                                 c, (double)a->mean[c], (double)a->scale[c]);
        }
    }
    return oct_rule_output(graph, node, x->shape);
}

typedef struct normalize_job {
    const oct_normalize_attrs *a;
    const void *from;
    float *to;
    size_t rows;
    int channels, accumulate;
    float table[NORMALIZE_CHANNELS][256]; /* of all pixel values */
} normalize_job;

static float normalize_one(const oct_normalize_attrs *a, int c, double x)
{
    return (float)((x - (double)a->mean[c]) * (double)a->scale[c]);
}

enum { NORMALIZE_ROWS = 4096 };

static size_t normalize_rows(const normalize_job *job, int64_t item, size_t *first)
{
    *first = (size_t)item * NORMALIZE_ROWS;
    return job->rows - *first < NORMALIZE_ROWS ? job->rows - *first : NORMALIZE_ROWS;
}

static void normalize_pixels(void *arg, int64_t item, int thread)
{
    (void)thread;
    const normalize_job *job = (const normalize_job *)arg;
    size_t first, rows = normalize_rows(job, item, &first), n = (size_t)job->channels;
    const uint8_t *x = (const uint8_t *)job->from + first * n;
    float *y = job->to + first * n;
    for (size_t row = 0; row < rows; row++) {
        for (size_t c = 0; c < n; c++) *y++ = job->table[c][*x++];
    }
}

static void normalize_floats(void *arg, int64_t item, int thread)
{
    (void)thread;
    const normalize_job *job = (const normalize_job *)arg;
    size_t first, rows = normalize_rows(job, item, &first), n = (size_t)job->channels;
    const float *x = (const float *)job->from + first * n;
    float *y = job->to + first * n;
    for (size_t row = 0; row < rows; row++) {
        for (int c = 0; c < job->channels; c++) *y++ = normalize_one(job->a, c, (double)*x++);
    }
}

static void normalize_gradient(void *arg, int64_t item, int thread)
{
    (void)thread;
    const normalize_job *job = (const normalize_job *)arg;
    size_t first, rows = normalize_rows(job, item, &first), n = (size_t)job->channels;
    const float *dy = (const float *)job->from + first * n;
    float *dx = job->to + first * n;
    for (size_t row = 0; row < rows; row++) {
        for (size_t c = 0; c < n; c++, dx++, dy++) {
            float d = *dy * job->a->scale[c];
            *dx = job->accumulate ? *dx + d : d;
        }
    }
}

static void normalize_run(oct_step *step, normalize_job *job, oct_par_fn *fn)
{
    job->a = (const oct_normalize_attrs *)step->node->attrs;
    job->channels = oct_last_dim(step->node);
    job->rows = oct_node_elements(step->node, step->batch) / (size_t)job->channels;
    int64_t items = (int64_t)((job->rows + NORMALIZE_ROWS - 1) / NORMALIZE_ROWS);
    oct_parallel_for(step->ctx->threads, items, fn, job);
}

/* A pixel, or a code of a quantized activation. */
static double byte_value(const oct_tensor *x, int byte)
{
    if (!x->on_grid) return (double)byte;
    return (double)((x->is_signed && byte > 127 ? byte - 256 : byte) - x->zero_point) * (double)x->scale;
}

static oct_status normalize_forward(oct_step *step)
{
    const oct_normalize_attrs *a = (const oct_normalize_attrs *)step->node->attrs;
    bool pixels = step->in[0]->storage == OCT_STORE_U8;
    normalize_job job = {.from = step->in[0]->data, .to = (float *)step->out->data};
    for (int c = 0; pixels && c < oct_last_dim(step->node); c++) {
        for (int v = 0; v < 256; v++) job.table[c][v] = normalize_one(a, c, byte_value(step->in[0], v));
    }
    normalize_run(step, &job, pixels ? normalize_pixels : normalize_floats);
    return OCT_OK;
}

static oct_status normalize_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    normalize_job job = {
        .from = step->d_out->data, .to = (float *)step->d_in[0]->data, .accumulate = step->accumulate[0]};
    normalize_run(step, &job, normalize_gradient);
    return OCT_OK;
}

/* Rounded to float as the op's definition says: the value that a quantizer behind it sees is that of the
 * plan. */
static oct_status normalize_reference_forward(oct_ref *ref)
{
    const oct_normalize_attrs *a = (const oct_normalize_attrs *)ref->node->attrs;
    size_t n = oct_node_elements(ref->node, ref->batch), channels = (size_t)oct_last_dim(ref->node);
    for (size_t e = 0; e < n; e++) {
        size_t c = e % channels;
        ref->out[e] = (double)(float)((double)a->scale[c] * (ref->in[0][e] - (double)a->mean[c]));
    }
    return OCT_OK;
}

static oct_status normalize_reference_backward(oct_ref *ref)
{
    if (!ref->d_in[0]) return OCT_OK;
    const oct_normalize_attrs *a = (const oct_normalize_attrs *)ref->node->attrs;
    size_t n = oct_node_elements(ref->node, ref->batch), channels = (size_t)oct_last_dim(ref->node);
    for (size_t e = 0; e < n; e++) ref->d_in[0][e] += (double)a->scale[e % channels] * ref->d_out[e];
    return OCT_OK;
}

static const oct_attr normalize_attrs[] = {
    {"mean", OCT_ATTR_FLOAT, offsetof(oct_normalize_attrs, mean), NORMALIZE_CHANNELS},
    {"scale", OCT_ATTR_FLOAT, offsetof(oct_normalize_attrs, scale), NORMALIZE_CHANNELS},
};

const oct_op oct_op_normalize = {
    .name = "normalize",
    .equation = "y[c] = (x[c] - mean[c])*scale[c]",
    .attr_bytes = sizeof(oct_normalize_attrs),
    .attrs = normalize_attrs,
    .attr_count = sizeof normalize_attrs / sizeof normalize_attrs[0],
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = normalize_infer,
    .exec = {.name = "normalize",
             .forward = normalize_forward,
             .backward = normalize_backward,
             .accepts_codes = OCT_READS_INPUT(0)},
    .reference = {.forward = normalize_reference_forward, .backward = normalize_reference_backward},
};
