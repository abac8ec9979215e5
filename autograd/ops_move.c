/* SPDX-License-Identifier: BSD-2-Clause
 * pad, slice, resize_nearest: every output element is one input element, or zero. One loop for all three: an axis maps
 * each output position to an input position or to none.
 */
#include <stddef.h>
#include <string.h>

#include "autograd/base/par.h"
#include "autograd/ops_internal.h"

typedef struct axis {
    int in, out;
    int first, step, spread; /* pad, slice: input position (first + step*o)/spread, where that is whole */
    bool nearest;            /* resize */
    int grid;
} axis;

enum { HEIGHT, WIDTH, CHANNELS, AXES };

typedef struct move {
    axis axes[AXES];
} move;

/* Sizes of an activation as height, width, channels. */
static void sizes_of(int sizes[AXES], const oct_shape *shape)
{
    sizes[HEIGHT] = sizes[WIDTH] = 1;
    for (int i = 1; i < shape->rank; i++) sizes[AXES - shape->rank + i] = shape->dim[i];
}

static int source_of(const axis *a, int o)
{
    if (a->nearest) return oct_resize_nearest_source(a->grid, o, a->in, a->out);
    int at = a->first + a->step * o;
    if (at < 0 || at % a->spread) return -1;
    at /= a->spread;
    return at < a->in ? at : -1;
}

static move move_of(const oct_node *node, const oct_shape *x)
{
    move m;
    int in[AXES], out[AXES];
    sizes_of(in, x);
    sizes_of(out, &node->shape);
    for (int i = 0; i < AXES; i++) m.axes[i] = (axis){.in = in[i], .out = out[i], .step = 1, .spread = 1};
    for (int i = 0; i < AXES && node->op == &oct_op_pad; i++) {
        const oct_pad_attrs *a = (const oct_pad_attrs *)node->attrs;
        m.axes[i].first = -a->before[i];
        if (i != CHANNELS) m.axes[i].spread = a->interior[i] + 1;
    }
    for (int i = 0; i < AXES && node->op == &oct_op_slice; i++) {
        const oct_slice_attrs *a = (const oct_slice_attrs *)node->attrs;
        m.axes[i].first = a->begin[i];
        if (i != CHANNELS) m.axes[i].step = a->step[i];
    }
    for (int i = 0; i < CHANNELS && node->op == &oct_op_resize_nearest; i++) {
        m.axes[i].nearest = true;
        m.axes[i].grid = ((const oct_resize_attrs *)node->attrs)->grid;
    }
    return m;
}

/* --- shape rules --- */

static oct_status activation_sizes(const oct_graph *graph, const oct_node *node, int sizes[AXES])
{
    OCT_TRY(oct_rule_float(graph, node, 0, "x"));
    const oct_shape *x = &oct_node_input(graph, node, 0)->shape;
    if (x->rank < 2 || x->dim[0] != OCT_BATCH) OCT_TRY(oct_rule_rank(graph, node, 0, "x", OCT_MAX_RANK, "[N,H,W,C]"));
    sizes_of(sizes, x);
    return OCT_OK;
}

/* The output: x with other sizes. An axis that x does not have must keep its size of 1. */
static oct_status set_sizes(const oct_graph *graph, oct_node *node, const int64_t sizes[AXES])
{
    oct_shape shape = oct_node_input(graph, node, 0)->shape;
    for (int i = 0; i < AXES; i++) {
        int at = i - AXES + shape.rank;
        if (at < 1 && sizes[i] != 1) {
            return oct_rule_fail(graph, node, OCT_ERR_SHAPE, "x has no axis %s that could change its size",
                                 i == HEIGHT ? "height" : "width");
        }
        /* Too large for the type: 0 is refused as the output's shape. */
        if (at >= 1) shape.dim[at] = sizes[i] > INT32_MAX ? 0 : (int32_t)sizes[i];
    }
    return oct_rule_output(graph, node, shape);
}

static oct_status pad_infer(const oct_graph *graph, oct_node *node)
{
    const oct_pad_attrs *a = (const oct_pad_attrs *)node->attrs;
    int in[AXES];
    int64_t out[AXES];
    OCT_TRY(activation_sizes(graph, node, in));
    for (int i = 0; i < AXES; i++) {
        int64_t interior = i == CHANNELS ? 0 : a->interior[i];
        if (a->before[i] < 0 || a->after[i] < 0 || interior < 0) {
            return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT,
                                 "axis %d is padded by %d, %d and %d between, expected no negative number", i,
                                 a->before[i], a->after[i], (int)interior);
        }
        out[i] = (int64_t)a->before[i] + (in[i] - 1) * (interior + 1) + 1 + a->after[i];
    }
    return set_sizes(graph, node, out);
}

static oct_status slice_infer(const oct_graph *graph, oct_node *node)
{
    const oct_slice_attrs *a = (const oct_slice_attrs *)node->attrs;
    int in[AXES];
    int64_t out[AXES];
    OCT_TRY(activation_sizes(graph, node, in));
    for (int i = 0; i < AXES; i++) {
        int step = i == CHANNELS ? 1 : a->step[i];
        int64_t last = a->begin[i] + (int64_t)step * ((int64_t)a->size[i] - 1);
        if (a->begin[i] < 0 || a->size[i] < 1 || step < 1 || last >= in[i]) {
            return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT,
                                 "axis %d: %d elements from %d in steps of %d do not lie in 0..%d", i, a->size[i],
                                 a->begin[i], step, in[i] - 1);
        }
        out[i] = a->size[i];
    }
    return set_sizes(graph, node, out);
}

oct_status oct_resize_infer(const oct_graph *graph, oct_node *node)
{
    enum { MOST = 1 << 15 }; /* keeps every product of positions far from overflow */
    const oct_resize_attrs *a = (const oct_resize_attrs *)node->attrs;
    OCT_TRY(oct_rule_rank(graph, node, 0, "x", 4, "[N,H,W,C]"));
    const oct_shape *x = &oct_node_input(graph, node, 0)->shape;
    for (int i = 0; i < 2; i++) {
        if (a->size[i] < 1 || a->size[i] > MOST || x->dim[i + 1] > MOST) {
            return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT, "resize from %d to %d, expected sizes in 1..%d",
                                 x->dim[i + 1], a->size[i], MOST);
        }
    }
    if (a->grid < OCT_RESIZE_HALF_PIXEL || a->grid > OCT_RESIZE_ALIGN_CORNERS)
        return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT, "unknown grid %d", a->grid);
    return oct_rule_output(graph, node, OCT_SHAPE(OCT_BATCH, a->size[0], a->size[1], x->dim[3]));
}

/* --- execution --- */

typedef struct move_job {
    move m;
    const float *x, *dy;
    float *y, *dx;
    int accumulate;
} move_job;

static size_t image_size(const move *m, bool out)
{
    size_t n = 1;
    for (int i = 0; i < AXES; i++) n *= (size_t)(out ? m->axes[i].out : m->axes[i].in);
    return n;
}

/* Channels that are copied: `count` from input channel `from` to output channel `to`. */
static size_t channels_of(const move *m, size_t *from, size_t *to)
{
    const axis *c = &m->axes[CHANNELS];
    *from = c->first > 0 ? (size_t)c->first : 0;
    *to = c->first < 0 ? (size_t)-c->first : 0;
    size_t in = (size_t)c->in - *from, out = (size_t)c->out - *to;
    return in < out ? in : out;
}

/* Input pixel of output pixel (p, q), or -1. */
static int64_t pixel_of(const move *m, int p, int q)
{
    int row = source_of(&m->axes[HEIGHT], p), column = row < 0 ? -1 : source_of(&m->axes[WIDTH], q);
    return column < 0 ? -1 : (int64_t)row * m->axes[WIDTH].in + column;
}

static void forward_row(void *arg, int64_t item, int thread)
{
    (void)thread;
    const move_job *job = (const move_job *)arg;
    const move *m = &job->m;
    size_t image = (size_t)(item / m->axes[HEIGHT].out), from, to, count = channels_of(m, &from, &to);
    int p = (int)(item % m->axes[HEIGHT].out);
    size_t width = (size_t)m->axes[WIDTH].out, in_c = (size_t)m->axes[CHANNELS].in, out_c = (size_t)m->axes[CHANNELS].out;
    const float *x = job->x + image * image_size(m, false) + from;
    float *y = job->y + (size_t)item * width * out_c;
    for (size_t q = 0; q < width; q++, y += out_c) {
        int64_t pixel = pixel_of(m, p, (int)q);
        if (pixel < 0 || count < out_c) memset(y, 0, out_c * sizeof *y);
        if (pixel >= 0) memcpy(y + to, x + (size_t)pixel * in_c, count * sizeof *y);
    }
}

static oct_status move_forward(oct_step *step)
{
    move_job job = {.m = move_of(step->node, &oct_node_input(step->graph, step->node, 0)->shape),
                    .x = (const float *)step->in[0]->data,
                    .y = (float *)step->out->data};
    oct_parallel_for(step->ctx->threads, (int64_t)step->batch * job.m.axes[HEIGHT].out, forward_row, &job);
    return OCT_OK;
}

static void backward_image(void *arg, int64_t image, int thread)
{
    (void)thread;
    const move_job *job = (const move_job *)arg;
    const move *m = &job->m;
    size_t from, to, count = channels_of(m, &from, &to), in = image_size(m, false);
    size_t in_c = (size_t)m->axes[CHANNELS].in, out_c = (size_t)m->axes[CHANNELS].out;
    const float *dy = job->dy + (size_t)image * image_size(m, true) + to;
    float *dx = job->dx + (size_t)image * in;
    if (!job->accumulate) memset(dx, 0, in * sizeof *dx);
    for (int p = 0; p < m->axes[HEIGHT].out; p++) {
        for (int q = 0; q < m->axes[WIDTH].out; q++, dy += out_c) {
            int64_t pixel = pixel_of(m, p, q);
            float *d = dx + (size_t)(pixel < 0 ? 0 : pixel) * in_c + from;
            for (size_t c = 0; c < count && pixel >= 0; c++) d[c] += dy[c];
        }
    }
}

static oct_status move_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    move_job job = {.m = move_of(step->node, &oct_node_input(step->graph, step->node, 0)->shape),
                    .dy = (const float *)step->d_out->data,
                    .dx = (float *)step->d_in[0]->data,
                    .accumulate = step->accumulate[0]};
    oct_parallel_for(step->ctx->threads, step->batch, backward_image, &job);
    return OCT_OK;
}

/* --- reference: one element at a time --- */

static oct_status reference_run(oct_ref *ref, bool backward)
{
    move m = move_of(ref->node, &ref->in_node[0]->shape);
    size_t in = image_size(&m, false), e = 0;
    for (size_t n = 0; n < (size_t)ref->batch; n++) {
        for (int p = 0; p < m.axes[HEIGHT].out; p++) {
            for (int q = 0; q < m.axes[WIDTH].out; q++) {
                for (int c = 0; c < m.axes[CHANNELS].out; c++, e++) {
                    int64_t pixel = pixel_of(&m, p, q);
                    int channel = source_of(&m.axes[CHANNELS], c);
                    bool zero = pixel < 0 || channel < 0;
                    size_t at = zero ? 0 : n * in + (size_t)pixel * (size_t)m.axes[CHANNELS].in + (size_t)channel;
                    if (!backward)
                        ref->out[e] = zero ? 0.0 : ref->in[0][at];
                    else if (!zero)
                        ref->d_in[0][at] += ref->d_out[e];
                }
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

static const oct_attr pad_attrs[] = {
    {"before", OCT_ATTR_INT, offsetof(oct_pad_attrs, before), 3},
    {"after", OCT_ATTR_INT, offsetof(oct_pad_attrs, after), 3},
    {"interior", OCT_ATTR_INT, offsetof(oct_pad_attrs, interior), 2},
};
static const oct_attr slice_attrs[] = {
    {"begin", OCT_ATTR_INT, offsetof(oct_slice_attrs, begin), 3},
    {"size", OCT_ATTR_INT, offsetof(oct_slice_attrs, size), 3},
    {"step", OCT_ATTR_INT, offsetof(oct_slice_attrs, step), 2},
};

#define MOVE_OP(op_name, op_equation, attr_type, attr_table, rule)                                           \
    {                                                                                                        \
        .name = op_name, .equation = op_equation, .attr_bytes = sizeof(attr_type), .attrs = attr_table,      \
        .attr_count = sizeof attr_table / sizeof attr_table[0], .min_inputs = 1, .max_inputs = 1,            \
        .infer = rule, .exec = {.name = op_name, .forward = move_forward, .backward = move_backward},        \
        .reference = {                                                                                       \
            .forward = reference_forward,                                                                    \
            .backward = reference_backward,                                                                  \
            .keeps_grid = true                                                                               \
        }                                                                                                    \
    }

const oct_op oct_op_pad = MOVE_OP("pad", "y = x with zeros around and between", oct_pad_attrs, pad_attrs, pad_infer);
const oct_op oct_op_slice = MOVE_OP("slice", "y[p,q,c] = x[begin + (p,q,c)*step]", oct_slice_attrs, slice_attrs,
                                    slice_infer);
const oct_op oct_op_resize_nearest = MOVE_OP("resize_nearest", "y[p,q,c] = x[nearest pixel]", oct_resize_attrs,
                                             oct_resize_attr_table, oct_resize_infer);
