/* SPDX-License-Identifier: BSD-2-Clause
 * conv_transpose2d: a convolution of x with zeros between its pixels, run without them. With the weights turned round in both
 * axes and their inputs and outputs exchanged it is the gradient of a strided convolution towards that convolution's input
 * (ops_conv_dx.c); its own gradient towards x is that convolution, and its weights' that of the turned ones.
 */
#include <string.h>

#include "autograd/base/par.h"
#include "autograd/ops_internal.h"

/* --- descriptor --- */

static oct_status infer(const oct_graph *graph, oct_node *node)
{
    const oct_conv2d_attrs *a = (const oct_conv2d_attrs *)node->attrs;
    OCT_TRY(oct_conv_rule_sizes(graph, node, a));
    OCT_TRY(oct_rule_rank(graph, node, 0, "x", 4, "[N,H,W,C]"));
    const oct_shape *x = &oct_node_input(graph, node, 0)->shape;
    int outputs = 0, size[2];
    OCT_TRY(oct_conv_rule_weights(graph, node, a, x->dim[3], &outputs));
    for (int i = 0; i < 2; i++) {
        int64_t reach = (int64_t)a->dilation[i] * (a->kernel[i] - 1);
        if (a->pad[i] < 0 || a->pad[i] > reach || a->pad[2 + i] <= -a->stride[i] || a->pad[2 + i] > reach)
            return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT,
                                 "%s: padding %d before and %d after, expected 0..%lld and %d..%lld", i ? "width" : "height",
                                 a->pad[i], a->pad[2 + i], (long long)reach, 1 - a->stride[i], (long long)reach);
        int64_t out = ((int64_t)x->dim[1 + i] - 1) * a->stride[i] + reach + 1 - a->pad[i] - a->pad[2 + i];
        size[i] = out < 1 || out > INT32_MAX ? 0 : (int)out; /* 0 is refused as the output's shape */
    }
    return oct_rule_output(graph, node, OCT_SHAPE(OCT_BATCH, size[0], size[1], outputs));
}

/* The convolution whose gradient this is: its input is our output. */
static oct_conv_geometry geometry_of(const oct_node *node, const oct_node *input, const oct_node *weights)
{
    oct_conv_geometry g = oct_conv_geometry_of(node, input, weights);
    const oct_shape *x = &input->shape, *y = &node->shape;
    g.in_h = y->dim[1], g.in_w = y->dim[2], g.in_c = y->dim[3];
    g.out_h = x->dim[1], g.out_w = x->dim[2], g.out_c = x->dim[3];
    g.group_in = g.in_c / g.groups;
    g.group_out = g.out_c / g.groups;
    return g;
}

static oct_conv_geometry geometry_in(const oct_graph *graph, const oct_node *node)
{
    oct_conv_geometry g = geometry_of(node, oct_node_input(graph, node, 0), oct_node_input(graph, node, 1));
    oct_conv_choose(&g, graph->ctx);
    return g;
}

static int64_t macs(const oct_graph *graph, const oct_node *node)
{
    oct_conv_geometry g = geometry_in(graph, node);
    return (int64_t)g.out_h * g.out_w * g.out_c * g.kernel_h * g.kernel_w * (g.depthwise ? 1 : g.group_in);
}

/* --- weights turned round: [C][kh][kw][O/groups] from [O][kh][kw][C/groups], depthwise [kh][kw][C] either way --- */

typedef struct turn_job {
    const oct_conv_geometry *g;
    const float *from;
    float *to;
    int outputs, inputs; /* of one group of `from` */
    int accumulate;
} turn_job;

static size_t weight_count(const oct_conv_geometry *g)
{
    return (size_t)g->kernel_h * (size_t)g->kernel_w * (g->depthwise ? 1 : (size_t)g->group_in) * (size_t)g->out_c;
}

/* One output of `to`, depthwise one tap. */
static void turn_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const turn_job *job = (const turn_job *)arg;
    size_t taps = (size_t)job->g->kernel_h * (size_t)job->g->kernel_w, n = (size_t)job->outputs, at = (size_t)item;
    if (job->g->depthwise) {
        size_t channels = (size_t)job->g->in_c;
        const float *from = job->from + (taps - 1 - at) * channels;
        float *to = job->to + at * channels;
        for (size_t c = 0; c < channels; c++) to[c] = job->accumulate ? to[c] + from[c] : from[c];
        return;
    }
    size_t inputs = (size_t)job->inputs, group = at / inputs, i = at % inputs;
    float *to = job->to + at * taps * n;
    for (size_t t = 0; t < taps; t++) {
        const float *from = job->from + (group * n * taps + taps - 1 - t) * inputs + i;
        for (size_t o = 0; o < n; o++, to++) *to = job->accumulate ? *to + from[o * taps * inputs] : from[o * taps * inputs];
    }
}

/* outputs, inputs: of one group of `from`. The same turn leads back. */
static void turn(const oct_step *step, const oct_conv_geometry *g, float *to, const float *from, int outputs, int inputs,
                 int accumulate)
{
    turn_job job = {g, from, to, outputs, inputs, accumulate};
    oct_parallel_for(step->ctx->threads, g->depthwise ? (int64_t)g->kernel_h * g->kernel_w : (int64_t)g->groups * inputs,
                     turn_item, &job);
}

/* --- memory --- */

typedef struct memory {
    float *turned, *d_turned;
    float *dx;         /* where dx is added to something */
    double *bias;      /* chunks x outputs */
    void *inner;       /* scratch of the convolution */
    size_t bytes;
} memory;

static int bias_chunks(int batch)
{
    return batch < OCT_SUM_CHUNKS ? batch : OCT_SUM_CHUNKS;
}

static memory place(const oct_conv_geometry *g, int batch, int threads, bool backward, void *scratch)
{
    oct_carve c = {.base = scratch};
    memory m = {0};
    m.turned = oct_carve_take(&c, weight_count(g), sizeof(float));
    size_t inner = oct_conv_backward_scratch(g, batch, threads, false);
    if (backward) {
        size_t forward = oct_conv_forward_scratch(g, threads);
        inner = inner > forward ? inner : forward;
        m.d_turned = oct_carve_take(&c, weight_count(g), sizeof(float));
        m.dx = oct_carve_take(&c, (size_t)batch * (size_t)g->out_h * (size_t)g->out_w * (size_t)g->out_c, sizeof(float));
        m.bias = oct_carve_take(&c, (size_t)bias_chunks(batch) * (size_t)g->in_c, sizeof(double));
    }
    m.inner = oct_carve_take(&c, inner, 1);
    m.bytes = c.used;
    return m;
}

/* The convolution's step: y is what its input holds, x its output; weights turned. Wants nothing yet. */
static oct_step inner_step(const oct_step *step, const memory *m, oct_tensor *y, oct_tensor *w, oct_tensor *x)
{
    oct_step inner = *step;
    *w = (oct_tensor){.data = m->turned, .sample = step->in[1]->sample, .storage = OCT_STORE_F32};
    inner.input_count = 2;
    inner.in[0] = y;
    inner.in[1] = w;
    inner.out = inner.d_out = x;
    for (int i = 0; i < OCT_MAX_INPUTS; i++) inner.d_in[i] = NULL, inner.accumulate[i] = 0;
    inner.scratch = m->inner;
    return inner;
}

static oct_tensor plain(const oct_tensor *t, void *data)
{
    return (oct_tensor){.data = data, .sample = t->sample, .storage = OCT_STORE_F32};
}

/* --- forward --- */

typedef struct bias_job {
    const oct_f32_kernels *f32;
    const float *bias, *dy;
    float *y;
    double *partial;
    size_t pixels, channels, batch; /* of one image */
    int chunks;
} bias_job;

static void add_bias(void *arg, int64_t image, int thread)
{
    (void)thread;
    const bias_job *job = (const bias_job *)arg;
    float *y = job->y + (size_t)image * job->pixels * job->channels;
    for (size_t p = 0; p < job->pixels; p++, y += job->channels)
        for (size_t c = 0; c < job->channels; c++) y[c] += job->bias[c];
}

static oct_status forward(oct_step *step)
{
    oct_conv_geometry g = geometry_in(step->graph, step->node);
    memory m = place(&g, step->batch, step->ctx->threads, false, step->scratch);
    turn(step, &g, m.turned, step->in[1]->data, g.group_in, g.group_out, 0);
    oct_tensor x = plain(step->in[0], step->in[0]->data), y = plain(step->out, step->out->data), w;
    oct_step inner = inner_step(step, &m, &y, &w, &x);
    inner.d_in[0] = &y;
    OCT_TRY(oct_conv_backward(&inner, &g, NULL));
    if (step->input_count < 3) return OCT_OK;
    bias_job job = {.bias = step->in[2]->data, .y = step->out->data, .pixels = (size_t)g.in_h * (size_t)g.in_w,
                    .channels = (size_t)g.in_c};
    oct_parallel_for(step->ctx->threads, step->batch, add_bias, &job);
    return OCT_OK;
}

/* --- backward --- */

static void bias_chunk(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    const bias_job *job = (const bias_job *)arg;
    double *sum = job->partial + (size_t)chunk * job->channels;
    size_t first = oct_chunk_border(job->batch, job->chunks, chunk), end = oct_chunk_border(job->batch, job->chunks, chunk + 1);
    memset(sum, 0, job->channels * sizeof *sum);
    job->f32->channel_sum(sum, job->dy + first * job->pixels * job->channels, (end - first) * job->pixels,
                          (int)job->channels);
}

static void bias_gradient(oct_step *step, const oct_conv_geometry *g, const memory *m)
{
    bias_job job = {.f32 = step->f32, .dy = step->d_out->data, .partial = m->bias, .batch = (size_t)step->batch,
                    .pixels = (size_t)g->in_h * (size_t)g->in_w, .channels = (size_t)g->in_c,
                    .chunks = bias_chunks(step->batch)};
    oct_parallel_for(step->ctx->threads, job.chunks, bias_chunk, &job);
    oct_combine(step->d_in[2]->data, step->accumulate[2], m->bias, job.chunks, job.channels, job.channels);
}

typedef struct add_job {
    float *to;
    const float *from;
    size_t sample;
} add_job;

static void add_image(void *arg, int64_t image, int thread)
{
    (void)thread;
    const add_job *job = (const add_job *)arg;
    size_t at = (size_t)image * job->sample;
    for (size_t i = at; i < at + job->sample; i++) job->to[i] += job->from[i];
}

static oct_status backward(oct_step *step)
{
    oct_conv_geometry g = geometry_in(step->graph, step->node);
    memory m = place(&g, step->batch, step->ctx->threads, true, step->scratch);
    oct_tensor dy = plain(step->out, step->d_out->data), w;
    if (step->d_in[0]) {
        oct_tensor dx = plain(step->in[0], step->accumulate[0] ? m.dx : step->d_in[0]->data);
        turn(step, &g, m.turned, step->in[1]->data, g.group_in, g.group_out, 0);
        oct_step inner = inner_step(step, &m, &dy, &w, &dx);
        OCT_TRY(oct_conv_forward(&inner, &g));
        add_job job = {step->d_in[0]->data, m.dx, step->in[0]->sample};
        if (step->accumulate[0]) oct_parallel_for(step->ctx->threads, step->batch, add_image, &job);
    }
    if (step->d_in[1]) {
        oct_tensor x = plain(step->in[0], step->in[0]->data), dw = plain(step->in[1], m.d_turned);
        oct_step inner = inner_step(step, &m, &dy, &w, &x);
        inner.d_in[1] = &dw;
        OCT_TRY(oct_conv_backward(&inner, &g, NULL));
        turn(step, &g, step->d_in[1]->data, m.d_turned, g.group_out, g.group_in, step->accumulate[1]);
    }
    if (step->input_count > 2 && step->d_in[2]) bias_gradient(step, &g, &m);
    return OCT_OK;
}

static size_t scratch_bytes(const oct_graph *graph, const oct_unit *unit, int batch, int threads, bool back)
{
    oct_conv_geometry g = geometry_in(graph, oct_unit_node(graph, unit));
    return place(&g, batch, threads, back, NULL).bytes;
}

/* --- reference: every product where the definition has it --- */

/* Pixel of x that y[p][q] meets at tap (r, s): x's pixels lie `stride` apart, `reach - pad` from the edge; -1 = a zero. */
static int source_pixel(const oct_conv2d_attrs *a, int i, int p, int tap, int size)
{
    int at = p + tap * a->dilation[i] - (a->dilation[i] * (a->kernel[i] - 1) - a->pad[i]);
    return at < 0 || at % a->stride[i] || at / a->stride[i] >= size ? -1 : at / a->stride[i];
}

/* One product y[o] += x[c]*w, or its two gradients. */
static void product(oct_ref *ref, bool back, size_t y, size_t x, size_t w)
{
    if (!back) {
        ref->out[y] += ref->in[0][x] * ref->in[1][w];
        return;
    }
    if (ref->d_in[0]) ref->d_in[0][x] += ref->d_out[y] * ref->in[1][w];
    if (ref->d_in[1]) ref->d_in[1][w] += ref->d_out[y] * ref->in[0][x];
}

/* All products of pixel y with pixel x through a tap. */
static void reference_pixels(oct_ref *ref, bool back, size_t y, size_t x, size_t tap)
{
    const oct_conv2d_attrs *a = (const oct_conv2d_attrs *)ref->node->attrs;
    size_t inputs = (size_t)ref->in_node[0]->shape.dim[3], outputs = (size_t)ref->node->shape.dim[3];
    size_t taps = (size_t)a->kernel[0] * (size_t)a->kernel[1], groups = (size_t)a->groups, own = inputs / groups;
    bool depthwise = ref->in_node[1]->shape.rank == 3;
    for (size_t o = 0; o < outputs; o++) {
        size_t group = o / (outputs / groups);
        for (size_t c = 0; c < own; c++)
            product(ref, back, y * outputs + o, x * inputs + group * own + c,
                    depthwise ? tap * outputs + o : (o * taps + tap) * own + c);
    }
}

static void reference_run(oct_ref *ref, bool back)
{
    const oct_conv2d_attrs *a = (const oct_conv2d_attrs *)ref->node->attrs;
    const oct_shape *x = &ref->in_node[0]->shape, *y = &ref->node->shape;
    size_t pixels = (size_t)ref->batch * (size_t)y->dim[1] * (size_t)y->dim[2], outputs = (size_t)y->dim[3];
    for (size_t at = 0; at < pixels; at++) {
        size_t image = at / (size_t)(y->dim[1] * y->dim[2]);
        int q = (int)(at % (size_t)y->dim[2]), p = (int)(at / (size_t)y->dim[2] % (size_t)y->dim[1]);
        for (size_t o = 0; o < outputs && !back; o++) ref->out[at * outputs + o] = ref->node->input_count > 2 ? ref->in[2][o] : 0;
        for (size_t o = 0; o < outputs && back && ref->node->input_count > 2 && ref->d_in[2]; o++)
            ref->d_in[2][o] += ref->d_out[at * outputs + o];
        for (int tap = 0; tap < a->kernel[0] * a->kernel[1]; tap++) {
            int row = source_pixel(a, 0, p, tap / a->kernel[1], x->dim[1]);
            int column = source_pixel(a, 1, q, tap % a->kernel[1], x->dim[2]);
            if (row < 0 || column < 0) continue;
            size_t from = (image * (size_t)x->dim[1] + (size_t)row) * (size_t)x->dim[2] + (size_t)column;
            reference_pixels(ref, back, at, from, (size_t)tap);
        }
    }
}

static oct_status reference_forward(oct_ref *ref)
{
    reference_run(ref, false);
    return OCT_OK;
}

static oct_status reference_backward(oct_ref *ref)
{
    reference_run(ref, true);
    return OCT_OK;
}

const oct_op oct_op_conv_transpose2d = {
    .name = "conv_transpose2d",
    .equation = "y = conv2d of x with stride - 1 zeros between its pixels and dilation*(kernel - 1) - pad around",
    .attr_bytes = sizeof(oct_conv2d_attrs),
    .attrs = oct_conv2d_attr_table,
    .attr_count = OCT_CONV2D_ATTR_COUNT,
    .min_inputs = 2,
    .max_inputs = 3,
    .infer = infer,
    .macs = macs,
    .exec = {.name = "conv_transpose2d",
             .forward = forward,
             .backward = backward,
             .backward_reads = OCT_READS_INPUT(0) | OCT_READS_INPUT(1),
             .scratch_bytes = scratch_bytes},
    .reference = {.forward = reference_forward, .backward = reference_backward},
};
