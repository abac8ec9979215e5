/* SPDX-License-Identifier: BSD-2-Clause
 * Every float op as plans run it, fused and node by node, against the reference executor: outputs, gradients
 * of every input, running statistics; the same bytes for 1, 2 and 3 threads; the message of every shape rule.
 *
 * Gradients of activations are seen through a `source` op, which turns a parameter into an activation: also
 * an example of an op that a user brings along. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/ops.h"
#include "autograd/plan.h"
#include "autograd/reference.h"
#include "tests/testing.h"

enum { PLAN_BATCH = 5 };

/* --- source: y = parameter, seen as [N, ...] --- */

typedef struct source_attrs {
    int32_t rank, dim[OCT_MAX_RANK];
} source_attrs;

static oct_status source_infer(const oct_graph *graph, oct_node *node)
{
    (void)graph;
    const source_attrs *a = (const source_attrs *)node->attrs;
    node->shape = (oct_shape){.rank = a->rank};
    memcpy(node->shape.dim, a->dim, sizeof a->dim);
    node->dtype = OCT_F32;
    return OCT_OK;
}

static oct_status source_forward(oct_step *step)
{
    memcpy(step->out->data, step->in[0]->data, step->out->sample * (size_t)step->batch * sizeof(float));
    return OCT_OK;
}

static oct_status source_backward(oct_step *step)
{
    float *d = (float *)step->d_in[0]->data;
    const float *dy = (const float *)step->d_out->data;
    for (size_t i = 0; i < step->out->sample * (size_t)step->batch; i++)
        d[i] = step->accumulate[0] ? d[i] + dy[i] : dy[i];
    return OCT_OK;
}

static size_t ref_elements(const oct_ref *ref)
{
    return oct_shape_sample(&ref->node->shape) * (size_t)ref->batch;
}

static oct_status source_reference_forward(oct_ref *ref)
{
    memcpy(ref->out, ref->in[0], ref_elements(ref) * sizeof(double));
    return OCT_OK;
}

static oct_status source_reference_backward(oct_ref *ref)
{
    for (size_t i = 0; i < ref_elements(ref); i++) ref->d_in[0][i] += ref->d_out[i];
    return OCT_OK;
}

static const oct_op source_op = {
    .name = "source",
    .equation = "y = p",
    .attr_bytes = sizeof(source_attrs),
    .min_inputs = 1,
    .max_inputs = 1,
    .infer = source_infer,
    .exec = {.name = "source", .forward = source_forward, .backward = source_backward},
    .reference = {.forward = source_reference_forward, .backward = source_reference_backward},
};

/* --- building --- */

#define VALUES(...)                                                                                          \
    (const oct_value[]){__VA_ARGS__}, (int)(sizeof((const oct_value[]){__VA_ARGS__}) / sizeof(oct_value))
#define OP(g, op, name, attrs, ...) oct_op_append(g, op, name, attrs, VALUES(__VA_ARGS__))

static oct_value source(oct_graph *g, const char *name, oct_shape shape)
{
    char parameter[64];
    snprintf(parameter, sizeof parameter, "%s/p", name);
    source_attrs a = {.rank = shape.rank};
    memcpy(a.dim, shape.dim, sizeof a.dim);
    oct_value p = oct_parameter(g, parameter, OCT_SHAPE(PLAN_BATCH * (int32_t)oct_shape_sample(&shape)),
                                (oct_init){OCT_INIT_NORMAL, 1.0f});
    return OP(g, &source_op, name, &a, p);
}

static oct_value weights(oct_graph *g, const char *name, oct_shape shape)
{
    return oct_parameter(g, name, shape, (oct_init){OCT_INIT_NORMAL, 0.5f});
}

static oct_shape shape_of(const oct_graph *g, oct_value v)
{
    const oct_node *n = oct_graph_node(g, v);
    return n ? n->shape : OCT_SHAPE(OCT_BATCH, 1);
}

static oct_value squared_loss(oct_graph *g, const char *name, oct_value y)
{
    char target[64];
    snprintf(target, sizeof target, "%s/target", name);
    oct_value t = oct_input(g, target, OCT_F32, shape_of(g, y));
    return OP(g, &oct_op_mean_squared_error, name, NULL, y, t);
}

static oct_value batch_norm(oct_graph *g, const char *name, oct_value x)
{
    static const oct_batch_norm_attrs attrs = {1e-3f, 0.1f};
    oct_shape shape = shape_of(g, x), channels = OCT_SHAPE(shape.dim[shape.rank - 1]);
    char part[4][64];
    static const char *const names[] = {"gamma", "beta", "mean", "var"};
    for (int i = 0; i < 4; i++) snprintf(part[i], sizeof part[i], "%s/%s", name, names[i]);
    oct_value gamma = oct_parameter(g, part[0], channels, (oct_init){OCT_INIT_NORMAL, 1.0f});
    oct_value beta = oct_parameter(g, part[1], channels, (oct_init){OCT_INIT_NORMAL, 1.0f});
    oct_value mean = oct_buffer(g, part[2], channels, 0.25f), var = oct_buffer(g, part[3], channels, 1.5f);
    return OP(g, &oct_op_batch_norm, name, &attrs, x, gamma, beta, mean, var);
}

/* What a case builds from its source: y, and the loss unless it is y itself. */
typedef struct built {
    oct_value x, y, loss;
} built;
typedef built build_fn(oct_graph *g, const void *options);

/* The loss of y; `shared` gives x a second reader, whose gradient comes first. */
static built finish(oct_graph *g, built b, bool shared)
{
    if (b.loss.id <= 0) b.loss = squared_loss(g, "loss", b.y);
    if (shared) b.loss = OP(g, &oct_op_add, "both", NULL, b.loss, squared_loss(g, "other", b.x));
    return b;
}

/* --- running --- */

enum { CLASSES = 7 };

static const oct_run train_run = {.mode = OCT_TRAIN, .seed = 3, .step = 17};

typedef struct outcome {
    float *y, *gradients, *buffers;
    size_t y_count, gradient_count, buffer_count;
    float loss;
} outcome;

static void outcome_release(outcome *o)
{
    oct_free(o->y);
    oct_free(o->gradients);
    oct_free(o->buffers);
}

static float *copied(const float *from, size_t n)
{
    float *to = (float *)oct_alloc(n, sizeof *to);
    if (to && n) memcpy(to, from, n * sizeof *to);
    return to;
}

/* The same made-up data for a plan's input and the reference's. */
static void fill_input(const oct_node *n, void *plan_data, double *reference_data, int batch)
{
    size_t count = oct_shape_sample(&n->shape) * (size_t)batch;
    float *values = (float *)oct_alloc(count, sizeof *values);
    if (!values) return;
    test_fill_normal(values, count, (unsigned)n->id);
    for (size_t i = 0; i < count; i++) {
        int label = i % 4 == 1 ? -1 : (int)(i * 3 % CLASSES);
        double v = n->dtype == OCT_F32   ? (double)values[i]
                   : n->dtype == OCT_I32 ? label
                                         : (double)(i * 37 % 256);
        if (reference_data) reference_data[i] = v;
        if (!plan_data) continue;
        if (n->dtype == OCT_F32) ((float *)plan_data)[i] = values[i];
        if (n->dtype == OCT_I32) ((int32_t *)plan_data)[i] = label;
        if (n->dtype == OCT_U8) ((uint8_t *)plan_data)[i] = (uint8_t)v;
    }
    oct_free(values);
}

static void fill_plan(oct_graph *g, oct_plan *plan, int batch)
{
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind == OCT_NODE_INPUT) fill_input(n, oct_plan_input(plan, (oct_value){i}), NULL, batch);
    }
}

static outcome run_plan(oct_graph *g, const built *b, bool no_fuse, int batch, const oct_run *run)
{
    outcome o = {0};
    oct_value outputs[] = {b->loss, b->y};
    oct_plan_options options = {
        .batch = PLAN_BATCH, .mode = OCT_TRAIN, .no_fuse = no_fuse, .outputs = outputs, .output_count = 2};
    oct_plan *plan = NULL;
    ASSERT_OK(g->ctx, oct_plan_create(&plan, g, &options));
    if (!plan) return o;
    fill_plan(g, plan, batch);
    ASSERT_OK(g->ctx, oct_plan_forward(plan, run, batch));
    const oct_tensor *y = oct_plan_tensor(plan, b->y);
    o.y_count = shape_of(g, b->y).rank ? y->sample * (size_t)batch : 1;
    o.y = copied((const float *)y->data, o.y_count);
    o.loss = *(const float *)oct_plan_tensor(plan, b->loss)->data;
    ASSERT_OK(g->ctx, oct_plan_backward(plan, 1.0f));
    o.gradient_count = g->params.count;
    o.gradients = copied(oct_plan_gradients(plan), o.gradient_count);
    o.buffer_count = g->buffers.count;
    o.buffers = copied(g->buffers.data, o.buffer_count);
    oct_plan_destroy(plan);
    return o;
}

static void expect_close(const char *what, const char *name, const float *a, const double *b, size_t n,
                         double limit)
{
    double error = test_relative_error(a, b, n);
    bool ok = error <= limit;
    CU_ASSERT_TRUE(ok);
    if (!ok) fprintf(stderr, "    %s of %s: relative error %.3g, allowed %.3g\n", what, name, error, limit);
}

static const double tolerance = 1e-5;

/* Gradient of a node that the reference never reached is 0. */
static void expect_gradient(const oct_node *n, const float *a, const double *b)
{
    for (size_t i = 0; !b && i < n->count; i++) CU_ASSERT_EQUAL(a[i], 0.0f);
    if (b) expect_close("gradient", n->name, a, b, n->count, tolerance);
}

static void compare_with_reference(oct_graph *g, const built *b, const outcome *o, int batch,
                                   const oct_run *run)
{
    oct_reference *r = NULL;
    REQUIRE_OK(g->ctx, oct_reference_create(&r, g, batch));
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind == OCT_NODE_INPUT) fill_input(n, NULL, oct_reference_input(r, (oct_value){i}), batch);
    }
    ASSERT_OK(g->ctx, oct_reference_forward(r, run, b->loss));
    ASSERT_OK(g->ctx, oct_reference_backward(r, run, b->loss));
    expect_close("value", g->nodes[b->y.id]->name, o->y, oct_reference_value(r, b->y), o->y_count, tolerance);
    expect_close("value", "loss", &o->loss, oct_reference_value(r, b->loss), 1, tolerance);
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind == OCT_NODE_PARAMETER)
            expect_gradient(n, o->gradients + n->offset, oct_reference_gradient(r, (oct_value){i}));
        if (n->kind == OCT_NODE_BUFFER)
            expect_close("state", n->name, o->buffers + n->offset, oct_reference_value(r, (oct_value){i}),
                         n->count, tolerance);
    }
    oct_reference_destroy(r);
}

static void expect_same_bytes(const outcome *a, const outcome *b)
{
    CU_ASSERT_EQUAL(memcmp(a->y, b->y, a->y_count * sizeof(float)), 0);
    CU_ASSERT_EQUAL(memcmp(a->gradients, b->gradients, a->gradient_count * sizeof(float)), 0);
    if (a->buffer_count) CU_ASSERT_EQUAL(memcmp(a->buffers, b->buffers, a->buffer_count * sizeof(float)), 0);
    CU_ASSERT_EQUAL(memcmp(&a->loss, &b->loss, sizeof a->loss), 0);
}

/* Builds the case with `threads` threads and runs it once; with `judge` the reference is asked too. */
static outcome run_case(build_fn *build, const void *options, bool shared, bool no_fuse, int batch,
                        const oct_run *run, int threads, bool judge)
{
    outcome o = {0};
    oct_ctx *ctx = test_ctx_with(threads, NULL);
    oct_graph *g = NULL;
    ASSERT_OK(ctx, oct_graph_create(&g, ctx, 11));
    built b = finish(g, build(g, options), shared);
    ASSERT_OK(ctx, oct_graph_status(g));
    if (!g->failed) {
        float *before = copied(g->buffers.data, g->buffers.count);
        o = run_plan(g, &b, no_fuse, batch, run);
        for (size_t i = 0; before && i < g->buffers.count; i++) g->buffers.data[i] = before[i];
        oct_free(before);
        if (judge && o.y) compare_with_reference(g, &b, &o, batch, run);
    }
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
    return o;
}

static void check_run(build_fn *build, const void *options, const oct_run *run)
{
    for (int variant = 0; variant < 6; variant++) {
        bool shared = variant & 1, no_fuse = variant >> 1 & 1;
        int batch = variant >= 4 ? 3 : PLAN_BATCH;
        outcome one = run_case(build, options, shared, no_fuse, batch, run, 1, true);
        for (int threads = 2; threads <= 3 && one.y; threads++) {
            outcome more = run_case(build, options, shared, no_fuse, batch, run, threads, false);
            CU_ASSERT_PTR_NOT_NULL(more.y);
            if (more.y) expect_same_bytes(&one, &more);
            outcome_release(&more);
        }
        outcome_release(&one);
    }
}

static void check(build_fn *build, const void *options)
{
    check_run(build, options, &train_run);
}

/* --- conv2d, linear --- */

typedef struct conv_case {
    int h, w, c, o; /* o: outputs; depthwise when groups == c == o > 1 */
    int kernel[2], stride[2], dilation[2], pad[4], groups;
    bool bias;
} conv_case;

static oct_value conv(oct_graph *g, const char *name, oct_value x, oct_value w, const conv_case *k)
{
    oct_conv2d_attrs a = {.groups = k->groups};
    memcpy(a.kernel, k->kernel, sizeof a.kernel);
    memcpy(a.stride, k->stride, sizeof a.stride);
    memcpy(a.dilation, k->dilation, sizeof a.dilation);
    memcpy(a.pad, k->pad, sizeof a.pad);
    if (!k->bias) return OP(g, &oct_op_conv2d, name, &a, x, w);
    char bias[64];
    snprintf(bias, sizeof bias, "%s/b", name);
    return OP(g, &oct_op_conv2d, name, &a, x, w, weights(g, bias, OCT_SHAPE(k->o)));
}

static oct_value conv_weights(oct_graph *g, const char *name, const conv_case *k)
{
    if (k->groups > 1 && k->groups == k->c && k->c == k->o)
        return weights(g, name, OCT_SHAPE(k->kernel[0], k->kernel[1], k->c));
    return weights(g, name, OCT_SHAPE(k->o, k->kernel[0], k->kernel[1], k->c / k->groups));
}

static built build_conv(oct_graph *g, const void *options)
{
    const conv_case *k = (const conv_case *)options;
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, k->h, k->w, k->c));
    return (built){.x = x, .y = conv(g, "conv", x, conv_weights(g, "conv/w", k), k)};
}

static const conv_case conv_cases[] = {
    /* h  w  c   o    kernel  stride  dilation pad           groups bias */
    {8, 8, 3, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, true},
    {8, 8, 16, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, false},
    {9, 7, 5, 17, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 1, true},
    {8, 8, 4, 6, {3, 3}, {2, 2}, {1, 1}, {0, 0, 1, 1}, 1, true}, /* "same" of TensorFlow at stride 2 */
    {10, 11, 3, 5, {3, 3}, {3, 3}, {1, 1}, {1, 1, 1, 1}, 1, true},
    {7, 7, 2, 3, {5, 5}, {3, 2}, {1, 1}, {2, 1, 0, 3}, 1, false},
    {9, 9, 3, 4, {3, 3}, {1, 1}, {2, 2}, {2, 2, 2, 2}, 1, true},
    {11, 9, 3, 4, {3, 3}, {2, 2}, {2, 3}, {2, 3, 1, 0}, 1, true}, /* stride and dilation share a divisor */
    {12, 12, 2, 3, {3, 2}, {4, 3}, {2, 1}, {0, 1, 2, 0}, 1, false},
    {12, 12, 2, 3, {3, 3}, {2, 3}, {3, 2}, {0, 0, 0, 0}, 1, true},
    {6, 6, 7, 9, {1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, true},
    {6, 7, 16, 33, {1, 1}, {2, 2}, {1, 1}, {0, 0, 0, 0}, 1, true}, /* pixels of x that nobody reads */
    {5, 5, 3, 3, {1, 1}, {3, 3}, {1, 1}, {0, 0, 0, 0}, 1, false},
    {4, 4, 3, 2, {1, 1}, {1, 1}, {1, 1}, {1, 0, 0, 2}, 1, true}, /* 1x1 with padding is no long row */
    {3, 3, 2, 4, {2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}, 1, true}, /* the last row and column are not read */
    {2, 2, 3, 4, {3, 3}, {1, 1}, {1, 1}, {4, 0, 0, 4}, 1, true}, /* windows that see padding only */
    {1, 1, 3, 4, {2, 2}, {3, 3}, {1, 1}, {1, 1, 2, 2}, 1, true},
    {1, 1, 3, 4, {1, 1}, {3, 3}, {1, 1}, {1, 1, 1, 1}, 1, false}, /* the only window misses x */
    {3, 4, 2, 3, {2, 2}, {2147483647, 2147483647}, {1, 1}, {0, 1, 0, 0}, 1, true}, /* one output */
    {6, 4, 3, 4, {2, 1}, {1, 1}, {5, 1000000}, {0, 0, 0, 0}, 1, true},
    {7, 1, 3, 4, {4, 1}, {1, 1}, {1, 1}, {1, 0, 2, 0}, 1, true},
    {8, 8, 6, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 2, true},
    {8, 7, 6, 9, {3, 2}, {2, 1}, {1, 2}, {1, 1, 0, 1}, 3, true},
    {6, 6, 4, 8, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 4, false}, /* two outputs per channel */
    {5, 5, 6, 4, {1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 2, true},
    {8, 8, 16, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 16, true},
    {9, 8, 5, 5, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 5, true},
    {9, 8, 19, 19, {5, 3}, {1, 2}, {2, 1}, {4, 0, 1, 2}, 19, false},
    {7, 9, 3, 3, {3, 3}, {3, 3}, {2, 2}, {1, 1, 1, 1}, 3, true},
    {6, 6, 4, 4, {1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 4, true},
};

static void conv2d_many_geometries_agree_with_reference(void)
{
    for (size_t i = 0; i < sizeof conv_cases / sizeof conv_cases[0]; i++) {
        unsigned before = CU_get_number_of_failures();
        check(build_conv, &conv_cases[i]);
        if (CU_get_number_of_failures() != before) fprintf(stderr, "    conv case %zu\n", i);
    }
}

static built build_transpose(oct_graph *g, const void *options)
{
    const conv_case *k = (const conv_case *)options;
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, k->h, k->w, k->c)), in[3] = {x, conv_weights(g, "w", k), {-1}};
    oct_conv2d_attrs a = {.groups = k->groups};
    memcpy(a.kernel, k->kernel, sizeof a.kernel);
    memcpy(a.stride, k->stride, sizeof a.stride);
    memcpy(a.dilation, k->dilation, sizeof a.dilation);
    memcpy(a.pad, k->pad, sizeof a.pad);
    if (k->bias) in[2] = weights(g, "b", OCT_SHAPE(k->o));
    oct_value y = oct_op_append(g, &oct_op_conv_transpose2d, "up", &a, in, k->bias ? 3 : 2);
    /* x is read twice: its gradient adds to another */
    return (built){.x = x, .y = oct_op_append(g, &oct_op_conv_transpose2d, "again", &a,
                                              (oct_value[]){k->c == k->o ? y : x, in[1], in[2]}, k->bias ? 3 : 2)};
}

static void conv_transpose2d_many_geometries_agree_with_reference(void)
{
    static const conv_case transposes[] = {
        {4, 5, 6, 7, {2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}, 1, true},  /* U-Net's */
        {4, 5, 16, 16, {4, 4}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 1, true},
        {3, 4, 3, 5, {3, 3}, {2, 2}, {1, 1}, {1, 1, 0, 0}, 1, false}, /* output padding 1 */
        {3, 4, 5, 3, {3, 3}, {2, 3}, {1, 1}, {0, 1, -1, -2}, 1, true},
        {5, 4, 3, 4, {3, 2}, {1, 2}, {2, 3}, {2, 1, 1, 0}, 1, true},
        {4, 4, 4, 4, {1, 1}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1, true},
        {3, 3, 3, 2, {1, 1}, {3, 2}, {1, 1}, {0, 0, -2, 0}, 1, true}, /* pixels that are bias alone */
        {6, 6, 32, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, true},
        {4, 5, 6, 4, {3, 3}, {2, 2}, {1, 1}, {1, 0, 1, 0}, 2, true},
        {4, 3, 5, 5, {3, 4}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 5, true},
        {1, 1, 8, 3, {4, 4}, {4, 4}, {1, 1}, {0, 0, 0, 0}, 1, false},
    };
    for (size_t i = 0; i < sizeof transposes / sizeof transposes[0]; i++) {
        unsigned before = CU_get_number_of_failures();
        check(build_transpose, &transposes[i]);
        if (CU_get_number_of_failures() != before) fprintf(stderr, "    transposed case %zu\n", i);
    }
}

/* One parameter that two convolutions read, the second of which reads the first's output and x. */
static built build_shared_weights(oct_graph *g, const void *options)
{
    const conv_case *k = (const conv_case *)options;
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, k->h, k->w, k->c)), w = conv_weights(g, "w", k);
    oct_value first = conv(g, "first", x, w, k), second = conv(g, "second", first, w, k);
    return (built){.x = x, .y = OP(g, &oct_op_add, "sum", NULL, second, first, x)};
}

static void conv2d_weights_of_two_nodes_add_their_gradients(void)
{
    static const conv_case k = {6, 5, 4, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, true};
    check(build_shared_weights, &k);
}

/* Weights that come from an op, as in quantized graphs: w * w2. */
static built build_computed_weights(oct_graph *g, const void *options)
{
    const conv_case *k = (const conv_case *)options;
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, k->h, k->w, k->c));
    oct_value w = OP(g, &oct_op_mul, "w", NULL, conv_weights(g, "wa", k), conv_weights(g, "wb", k));
    return (built){.x = x, .y = conv(g, "conv", x, w, k)};
}

static void conv2d_weights_from_an_op_get_their_gradient(void)
{
    static const conv_case dense = {6, 5, 4, 3, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, true};
    static const conv_case depthwise = {6, 5, 4, 4, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 4, true};
    check(build_computed_weights, &dense);
    check(build_computed_weights, &depthwise);
}

typedef struct linear_case {
    int inputs, outputs;
    bool bias;
} linear_case;

static built build_linear(oct_graph *g, const void *options)
{
    const linear_case *k = (const linear_case *)options;
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, k->inputs));
    oct_value w = weights(g, "w", OCT_SHAPE(k->outputs, k->inputs));
    if (!k->bias) return (built){.x = x, .y = OP(g, &oct_op_linear, "fc", NULL, x, w)};
    return (built){.x = x,
                   .y = OP(g, &oct_op_linear, "fc", NULL, x, w, weights(g, "b", OCT_SHAPE(k->outputs)))};
}

static void linear_many_sizes_agree_with_reference(void)
{
    static const linear_case cases[] = {{64, 10, true}, {1, 1, true}, {33, 17, false}, {7, 100, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) check(build_linear, &cases[i]);
}

/* More than 16 MiB of weights: few chunks, dx on its own. */
static void linear_large_weights_agree_with_reference(void)
{
    static const linear_case large = {1200, 2400, true};
    outcome o = run_case(build_linear, &large, true, false, PLAN_BATCH, &train_run, 2, true);
    outcome_release(&o);
}

/* --- batch norm and what is fused with it --- */

typedef struct norm_case {
    int h, w, c;
    bool add, swapped; /* swapped: the residual is the first operand */
    int activation;    /* 0 none, 1 relu, 2 clip */
    bool residual_read_again;
} norm_case;

static built build_norm(oct_graph *g, const void *options)
{
    static const oct_clip_attrs six = {-0.5f, 1.25f};
    const norm_case *k = (const norm_case *)options;
    oct_shape shape = OCT_SHAPE(OCT_BATCH, k->h, k->w, k->c);
    oct_value x = source(g, "x", shape), y = batch_norm(g, "bn", x);
    oct_value residual = k->add ? source(g, "residual", shape) : x;
    if (k->add && k->swapped) y = OP(g, &oct_op_add, "add", NULL, residual, y);
    if (k->add && !k->swapped) y = OP(g, &oct_op_add, "add", NULL, y, residual);
    if (k->activation == 1) y = OP(g, &oct_op_relu, "relu", NULL, y);
    if (k->activation == 2) y = OP(g, &oct_op_clip, "clip", &six, y);
    built b = {.x = x, .y = y};
    if (k->residual_read_again) {
        b.loss = OP(g, &oct_op_add, "losses", NULL, squared_loss(g, "loss", y),
                    squared_loss(g, "extra", residual));
    }
    return b;
}

static const norm_case norm_cases[] = {
    {4, 5, 3, false, false, 0, false}, {4, 5, 16, false, false, 1, false}, {4, 5, 17, false, false, 2, false},
    {4, 5, 5, true, false, 0, false},  {4, 5, 16, true, false, 1, false},  {4, 5, 7, true, true, 2, false},
    {4, 5, 16, true, true, 1, true},   {3, 3, 4, true, false, 0, true},    {1, 1, 6, false, false, 1, false},
    {9, 9, 300, true, false, 1, true}, /* several blocks per chunk */
};

static void batch_norm_alone_and_fused_agrees_with_reference(void)
{
    const oct_run frozen = {.mode = OCT_TRAIN, .bn_frozen = 1};
    for (size_t i = 0; i < sizeof norm_cases / sizeof norm_cases[0]; i++) {
        unsigned before = CU_get_number_of_failures();
        check(build_norm, &norm_cases[i]);
        check_run(build_norm, &norm_cases[i], &frozen);
        if (CU_get_number_of_failures() != before) fprintf(stderr, "    norm case %zu\n", i);
    }
}

/* Mean 1000 times the deviation: the variance is a difference of large sums, the gradient has large terms. */
static built build_far_mean(oct_graph *g, const void *options)
{
    (void)options;
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, 6, 6, 4));
    size_t n;
    float *p = oct_graph_data(g, oct_graph_find(g, "x/p"), &n);
    for (size_t i = 0; i < n; i++) p[i] += 1000.0f;
    return (built){.x = x, .y = batch_norm(g, "bn", x)};
}

static void batch_norm_far_mean_keeps_its_variance(void)
{
    outcome o = run_case(build_far_mean, NULL, false, false, PLAN_BATCH, &train_run, 1, false);
    double sum = 0.0, square = 0.0;
    size_t n = o.y_count / 4;
    for (size_t i = 0; i < n; i++) sum += (double)o.y[4 * i];
    for (size_t i = 0; i < n; i++)
        square += ((double)o.y[4 * i] - sum / (double)n) * ((double)o.y[4 * i] - sum / (double)n);
    /* y = gamma*xhat + beta, and xhat has variance 1 - eps/(var + eps), which is above 0.99 here. */
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 11));
    build_far_mean(g, NULL);
    double gamma = (double)oct_graph_data(g, oct_graph_find(g, "bn/gamma"), NULL)[0];
    CU_ASSERT_DOUBLE_EQUAL(sqrt(square / (double)n) / fabs(gamma), 1.0, 0.01);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
    outcome_release(&o);
}

static int count_units(const norm_case *k, bool no_fuse, bool keep_inner)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    oct_plan *plan = NULL;
    int units = -1;
    ASSERT_OK(ctx, oct_graph_create(&g, ctx, 1));
    built b = finish(g, build_norm(g, k), false);
    oct_value outputs[] = {b.loss, oct_graph_find(g, "bn")};
    oct_plan_options options = {.batch = 2,
                                .mode = OCT_TRAIN,
                                .no_fuse = no_fuse,
                                .outputs = outputs,
                                .output_count = keep_inner ? 2 : 1};
    ASSERT_OK(ctx, oct_plan_create(&plan, g, &options));
    if (plan) units = oct_plan_describe(plan).unit_count;
    oct_plan_destroy(plan);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
    return units;
}

static void float_fuser_joins_only_what_nobody_else_reads(void)
{
    static const norm_case k = {4, 5, 8, true, false, 1, false}; /* x, residual, bn, add, relu, loss */
    CU_ASSERT_EQUAL(count_units(&k, false, false), 4);
    CU_ASSERT_EQUAL(count_units(&k, true, false), 6);
    CU_ASSERT_EQUAL(count_units(&k, false, true), 6);
}

static void batch_norm_one_position_is_refused_in_training(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    static const norm_case k = {1, 1, 4, false, false, 1, false};
    built b = finish(g, build_norm(g, &k), false);
    oct_plan_options options = {.batch = 2, .mode = OCT_TRAIN, .outputs = &b.loss, .output_count = 1};
    oct_plan *plan = NULL;
    REQUIRE_OK(ctx, oct_plan_create(&plan, g, &options));
    fill_plan(g, plan, 2);
    CU_ASSERT_EQUAL(oct_plan_forward(plan, &train_run, 1), OCT_ERR_SHAPE);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "batch_norm 'bn': 1 position per channel"));
    oct_error_clear(&ctx->error);
    ASSERT_OK(ctx, oct_plan_forward(plan, &train_run, 2));
    ASSERT_OK(ctx, oct_plan_forward(plan, &(oct_run){.mode = OCT_TRAIN, .bn_frozen = 1}, 1));
    oct_plan_destroy(plan);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

/* --- elementwise, shapes, pools --- */

typedef struct simple_case {
    const oct_op *op;
    const void *attrs;
    int h, w, c;
    int inputs;  /* how many sources it reads */
    bool repeat; /* reads x twice more */
} simple_case;

static built build_simple(oct_graph *g, const void *options)
{
    const simple_case *k = (const simple_case *)options;
    oct_value in[OCT_MAX_INPUTS];
    int n = 0;
    for (; n < k->inputs; n++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", n);
        bool wider = k->op == &oct_op_concat;
        in[n] = source(g, name, OCT_SHAPE(OCT_BATCH, k->h, k->w, k->c + (wider ? n : 0)));
    }
    for (int i = 0; i < 2 && k->repeat; i++) in[n++] = in[0];
    return (built){.x = in[0], .y = oct_op_append(g, k->op, "op", k->attrs, in, n)};
}

static void check_simple(const simple_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned before = CU_get_number_of_failures();
        check(build_simple, &cases[i]);
        if (CU_get_number_of_failures() != before)
            fprintf(stderr, "    %s, case %zu\n", cases[i].op->name, i);
    }
}
#define CHECK_SIMPLE(cases) check_simple(cases, sizeof(cases) / sizeof(cases)[0])

static void elementwise_ops_agree_with_reference(void)
{
    static const oct_clip_attrs six = {0.0f, 6.0f}, narrow = {-0.25f, 0.5f};
    static const simple_case cases[] = {
        {&oct_op_relu, NULL, 5, 5, 3, 1, false},
        {&oct_op_clip, &six, 5, 5, 3, 1, false},
        {&oct_op_clip, &narrow, 7, 3, 5, 1, false},
        {&oct_op_relu, NULL, 40, 40, 3, 1, false}, /* more than one item of work */
        {&oct_op_add, NULL, 5, 5, 3, 2, false},
        {&oct_op_add, NULL, 5, 5, 3, 3, false},
        {&oct_op_add, NULL, 40, 30, 5, 2, true}, /* x twice more */
        {&oct_op_add, NULL, 4, 4, 2, 12, false},
        {&oct_op_mul, NULL, 5, 5, 3, 2, false},
        {&oct_op_concat, NULL, 5, 5, 3, 2, false},
        {&oct_op_concat, NULL, 9, 9, 2, 5, true},
        {&oct_op_concat, NULL, 2, 2, 3, 1, false},
        {&oct_op_flatten, NULL, 5, 4, 3, 1, false},
    };
    CHECK_SIMPLE(cases);
}

static void unary_functions_agree_with_reference(void)
{
    for (int f = 0; f < OCT_UNARY_COUNT; f++) {
        static const oct_unary_attrs some = {0.3f};
        const oct_op *op = &oct_unary_ops[f];
        simple_case cases[] = {
            {op, op->attr_bytes ? &some : NULL, 5, 5, 3, 1, false},
            {op, op->attr_bytes ? &some : NULL, 40, 31, 3, 1, false}, /* more than one item of work */
        };
        CHECK_SIMPLE(cases);
    }
}

/* Far from 0, where floats overflow or saturate, and at the kinks. */
static built build_extreme(oct_graph *g, const void *options)
{
    static const float x[PLAN_BATCH * 3] = {-1e30f, -200.0f, -90.0f, -3.0f, -1e-6f, 0.0f, -0.0f, 1e-6f,
                                            0.624f, 0.626f,  3.0f,   50.0f, 90.0f,  200.0f, 1e30f};
    static const oct_unary_attrs some = {0.3f};
    const oct_op *op = (const oct_op *)options;
    oct_value v = source(g, "x", OCT_SHAPE(OCT_BATCH, 3));
    memcpy(oct_graph_data(g, oct_graph_find(g, "x/p"), NULL), x, sizeof x);
    return (built){.x = v, .y = OP(g, op, "op", op->attr_bytes ? &some : NULL, v)};
}

static void unary_functions_survive_extreme_values(void)
{
    for (int f = 0; f < OCT_UNARY_COUNT; f++) {
        outcome o = run_case(build_extreme, &oct_unary_ops[f], false, false, PLAN_BATCH, &train_run, 1, false);
        CU_ASSERT_PTR_NOT_NULL_FATAL(o.y);
        const oct_unary_attrs some = {0.3f};
        oct_node node = {.op = &oct_unary_ops[f], .attrs = &some};
        oct_graph *g;
        oct_ctx *ctx = test_ctx();
        REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
        build_extreme(g, &oct_unary_ops[f]);
        const float *x = oct_graph_data(g, oct_graph_find(g, "x/p"), NULL);
        for (size_t i = 0; i < o.y_count; i++) {
            double y = oct_unary_value(&node, (double)x[i]), limit = 3e-7 * fmax(fabs(y), 1e-2);
            CU_ASSERT_TRUE(isfinite(o.y[i]));
            CU_ASSERT_DOUBLE_EQUAL((double)o.y[i], y, limit);
            if (fabs((double)o.y[i] - y) > limit)
                fprintf(stderr, "    %s(%g) is %.9g, expected %.9g\n", node.op->name, (double)x[i], (double)o.y[i], y);
        }
        oct_graph_destroy(g);
        oct_ctx_destroy(ctx);
        outcome_release(&o);
    }
}

/* Published values: PyTorch 2.13 in double. */
static void unary_values_are_those_of_pytorch(void)
{
    static const struct {
        oct_unary function;
        float parameter;
        double x, y, slope;
    } table[] = {
        {OCT_UNARY_LEAKY_RELU, 0.25f, -2.0, -0.5, 0.25},
        {OCT_UNARY_LEAKY_RELU, 0.25f, 0.0, 0.0, 0.25},
        {OCT_UNARY_ELU, 0.5f, -1.0, -0.31606027941427883, 0.18393972058572117},
        {OCT_UNARY_SIGMOID, 0, 1.0, 0.7310585786300049, 0.19661193324148185},
        {OCT_UNARY_TANH, 0, 0.5, 0.46211715726000973, 0.7864477329659275},
        {OCT_UNARY_HARD_SIGMOID, 0, 1.0, 0.6666666666666666, 0.16666666666666666},
        {OCT_UNARY_HARD_SIGMOID, 0, 3.0, 1.0, 0.0},
        {OCT_UNARY_HARD_SWISH, 0, -1.0, -0.3333333333333333, 0.16666666666666669},
        {OCT_UNARY_HARD_SWISH, 0, 4.0, 4.0, 1.0},
        {OCT_UNARY_SILU, 0, -1.0, -0.2689414213699951, 0.0723294881285126},
        {OCT_UNARY_GELU, 0, 1.0, 0.8413447460685429, 1.0833154705876864},
        {OCT_UNARY_GELU, 0, -2.0, -0.04550026389635842, -0.08523180107819694},
        {OCT_UNARY_ADD_SCALAR, 1.5f, -2.0, -0.5, 1.0},
        {OCT_UNARY_MUL_SCALAR, 1.5f, -2.0, -3.0, 1.5},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        oct_unary_attrs attrs = {table[i].parameter};
        oct_node node = {.op = &oct_unary_ops[table[i].function], .attrs = &attrs};
        CU_ASSERT_DOUBLE_EQUAL(oct_unary_value(&node, table[i].x), table[i].y, 1e-15);
        CU_ASSERT_DOUBLE_EQUAL(oct_unary_slope(&node, table[i].x), table[i].slope, 1e-15);
    }
}

static built build_prelu(oct_graph *g, const void *options)
{
    const oct_shape *shape = (const oct_shape *)options;
    oct_value x = source(g, "x", *shape), slope = weights(g, "slope", OCT_SHAPE(shape->dim[shape->rank - 1]));
    return (built){.x = x, .y = OP(g, &oct_op_prelu, "prelu", NULL, x, slope)};
}

static void prelu_agrees_with_reference(void)
{
    check(build_prelu, &OCT_SHAPE(OCT_BATCH, 7, 5, 3));
    check(build_prelu, &OCT_SHAPE(OCT_BATCH, 17));
}

static void moves_agree_with_reference(void)
{
    static const oct_pad_attrs around = {{1, 2, 3}, {0, 1, 2}, {0, 0}}, between = {{2, 0, 0}, {1, 0, 0}, {1, 2}},
                               nothing = {{0, 0, 0}, {0, 0, 0}, {0, 0}};
    static const oct_slice_attrs crop = {{1, 2, 1}, {3, 2, 2}, {1, 1}}, steps = {{0, 1, 0}, {3, 2, 3}, {2, 3}};
    static const oct_reshape_attrs tall = {3, {10, 2, 3}}, flat = {1, {60, 0, 0}};
    static const oct_resize_attrs up[] = {{{10, 8}, 0}, {{10, 8}, 1}, {{10, 8}, 2}, {{7, 13}, 0}, {{7, 13}, 1},
                                          {{7, 13}, 2}, {{3, 2}, 0},  {{3, 2}, 1},  {{3, 2}, 2},  {{1, 1}, 0},
                                          {{1, 1}, 2},  {{5, 4}, 0}};
    static const simple_case cases[] = {
        {&oct_op_sub, NULL, 5, 5, 3, 2, false},
        {&oct_op_sub, NULL, 40, 30, 5, 2, false},
        {&oct_op_pad, &around, 5, 4, 3, 1, false},
        {&oct_op_pad, &between, 5, 4, 3, 1, false},
        {&oct_op_pad, &nothing, 5, 4, 3, 1, false},
        {&oct_op_slice, &crop, 5, 4, 3, 1, false},
        {&oct_op_slice, &steps, 5, 7, 3, 1, false},
        {&oct_op_reshape, &tall, 5, 4, 3, 1, false},
        {&oct_op_reshape, &flat, 5, 4, 3, 1, false},
        {&oct_op_softmax, NULL, 5, 4, 3, 1, false},
        {&oct_op_softmax, NULL, 1, 1, 37, 1, false},
    };
    CHECK_SIMPLE(cases);
    for (size_t i = 0; i < sizeof up / sizeof up[0]; i++) {
        const simple_case resizes[] = {{&oct_op_resize_nearest, &up[i], 5, 4, 3, 1, false},
                                       {&oct_op_resize_bilinear, &up[i], 5, 4, 3, 1, false}};
        CHECK_SIMPLE(resizes);
    }
}

static built build_difference(oct_graph *g, const void *options)
{
    (void)options;
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, 9));
    return (built){.x = x, .y = OP(g, &oct_op_add, "sum", NULL, OP(g, &oct_op_sub, "nothing", NULL, x, x), x)};
}

static void sub_of_a_value_from_itself_has_no_gradient(void)
{
    check(build_difference, NULL);
}

/* Ties and a NaN: the first largest. */
static void argmax_ties_go_to_the_lowest_index(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    oct_value x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 1, 2, 3)), y = OP(g, &oct_op_argmax, "top", NULL, x);
    REQUIRE_OK(ctx, oct_graph_status(g));
    oct_plan *plan = NULL;
    oct_reference *r = NULL;
    oct_plan_options options = {.batch = 2, .mode = OCT_EVAL, .outputs = &y, .output_count = 1};
    REQUIRE_OK(ctx, oct_plan_create(&plan, g, &options));
    REQUIRE_OK(ctx, oct_reference_create(&r, g, 2));
    static const float values[12] = {1, 2, 2, -1, -1, -1, 3, 1, 3, 0, 0, 0.5f};
    static const int32_t expected[4] = {1, 0, 0, 2};
    memcpy(oct_plan_input(plan, x), values, sizeof values);
    for (int i = 0; i < 12; i++) oct_reference_input(r, x)[i] = (double)values[i];
    const oct_run run = {.mode = OCT_EVAL};
    ASSERT_OK(ctx, oct_plan_forward(plan, &run, 2));
    ASSERT_OK(ctx, oct_reference_forward(r, &run, y));
    const oct_tensor *t = oct_plan_tensor(plan, y);
    CU_ASSERT_EQUAL(t->storage, OCT_STORE_I32);
    CU_ASSERT_EQUAL(memcmp(t->data, expected, sizeof expected), 0);
    for (int i = 0; i < 4; i++) CU_ASSERT_EQUAL(oct_reference_value(r, y)[i], (double)expected[i]);
    oct_plan_destroy(plan);
    oct_reference_destroy(r);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static built build_square(oct_graph *g, const void *options)
{
    (void)options;
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, 9));
    return (built){.x = x, .y = OP(g, &oct_op_mul, "square", NULL, x, x)};
}

static void mul_of_a_value_with_itself_has_twice_its_gradient(void)
{
    check(build_square, NULL);
}

static void pools_agree_with_reference(void)
{
    static const oct_pool_attrs two = {{2, 2}, {2, 2}, {0, 0, 0, 0}}, three = {{3, 3}, {2, 2}, {1, 1, 1, 1}},
                                odd = {{3, 2}, {1, 3}, {0, 1, 2, 0}}, one = {{1, 1}, {2, 2}, {0, 0, 0, 0}};
    static const simple_case cases[] = {
        {&oct_op_max_pool, &two, 8, 8, 3, 1, false},
        {&oct_op_max_pool, &three, 9, 8, 70, 1, false},
        {&oct_op_max_pool, &odd, 5, 7, 4, 1, false},
        {&oct_op_max_pool, &one, 5, 5, 3, 1, false},
        {&oct_op_average_pool, &two, 8, 8, 3, 1, false},
        {&oct_op_average_pool, &three, 9, 8, 17, 1, false},
        {&oct_op_average_pool, &odd, 5, 7, 4, 1, false},
        {&oct_op_average_pool, &one, 5, 5, 3, 1, false},
        {&oct_op_global_average_pool, NULL, 7, 5, 3, 1, false},
        {&oct_op_global_average_pool, NULL, 1, 1, 9, 1, false},
    };
    CHECK_SIMPLE(cases);
}

/* All elements equal: dy goes to the first element of each window, in both executors. */
static built build_ties(oct_graph *g, const void *options)
{
    (void)options;
    static const oct_pool_attrs three = {{3, 3}, {2, 2}, {1, 1, 1, 1}};
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, 6, 6, 3));
    size_t n;
    float *p = oct_graph_data(g, oct_graph_find(g, "x/p"), &n);
    for (size_t i = 0; i < n; i++) p[i] = -2.0f;
    return (built){.x = x, .y = OP(g, &oct_op_max_pool, "pool", &three, x)};
}

static void max_pool_ties_go_to_the_first(void)
{
    check(build_ties, NULL);
    outcome o = run_case(build_ties, NULL, false, false, PLAN_BATCH, &train_run, 1, false);
    /* Pixels 0, 1 and 3 of a row of six start a window (the first begins in the padding), no other. */
    for (int w = 0; w < 6; w++) CU_ASSERT_EQUAL(o.gradients[3 * w] != 0.0f, w == 0 || w == 1 || w == 3);
    outcome_release(&o);
}

/* --- dropout --- */

static void dropout_agrees_with_reference(void)
{
    static const oct_dropout_attrs half = {0.5f}, little = {0.1f}, none = {0.0f};
    static const simple_case cases[] = {
        {&oct_op_dropout, &half, 5, 5, 3, 1, false},
        {&oct_op_dropout, &little, 40, 31, 3, 1, false},
        {&oct_op_dropout, &none, 5, 5, 3, 1, false},
    };
    CHECK_SIMPLE(cases);
}

static void dropout_drops_its_share_and_changes_with_the_step(void)
{
    static const oct_dropout_attrs rate = {0.3f};
    static const simple_case k = {&oct_op_dropout, &rate, 40, 40, 3, 1, false};
    const oct_run later = {.mode = OCT_TRAIN, .seed = 3, .step = 18};
    outcome a = run_case(build_simple, &k, false, false, PLAN_BATCH, &train_run, 1, false);
    outcome b = run_case(build_simple, &k, false, false, PLAN_BATCH, &later, 1, false);
    size_t zeros = 0, differing = 0;
    for (size_t i = 0; i < a.y_count; i++) {
        zeros += a.y[i] == 0.0f;
        differing += (a.y[i] == 0.0f) != (b.y[i] == 0.0f);
    }
    /* 24000 elements: standard deviation 0.003 and 0.0032 of the shares 0.3 and 0.42. */
    CU_ASSERT_DOUBLE_EQUAL((double)zeros / (double)a.y_count, 0.3, 0.015);
    CU_ASSERT_DOUBLE_EQUAL((double)differing / (double)a.y_count, 0.42, 0.016);
    outcome_release(&a);
    outcome_release(&b);
}

/* Evaluation of everything whose result depends on the mode. */
static void eval_run_uses_running_statistics_and_no_dropout(void)
{
    static const oct_dropout_attrs half = {0.5f};
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 11));
    oct_value x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 3, 3, 5));
    oct_value y = OP(g, &oct_op_relu, "relu", NULL, batch_norm(g, "bn", x));
    y = OP(g, &oct_op_dropout, "drop", &half, y);
    oct_plan_options options = {.batch = 2, .mode = OCT_EVAL, .outputs = &y, .output_count = 1};
    oct_plan *plan = NULL;
    oct_reference *r = NULL;
    oct_run run = {.mode = OCT_EVAL};
    REQUIRE_OK(ctx, oct_plan_create(&plan, g, &options));
    REQUIRE_OK(ctx, oct_reference_create(&r, g, 2));
    fill_input(oct_graph_node(g, x), oct_plan_input(plan, x), oct_reference_input(r, x), 2);
    ASSERT_OK(ctx, oct_plan_forward(plan, &run, 2));
    ASSERT_OK(ctx, oct_reference_forward(r, &run, y));
    expect_close("value", "y", (const float *)oct_plan_tensor(plan, y)->data, oct_reference_value(r, y), 90,
                 tolerance);
    CU_ASSERT_EQUAL(oct_graph_data(g, oct_graph_find(g, "bn/mean"), NULL)[0], 0.25f);
    oct_plan_destroy(plan);
    oct_reference_destroy(r);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

/* --- normalize --- */

static built build_normalize(oct_graph *g, const void *options)
{
    static const oct_normalize_attrs a = {{123.675f, 116.28f, 103.53f}, {0.017125f, 0.017507f, 0.017429f}};
    bool pixels = *(const bool *)options;
    oct_value x = pixels ? oct_input(g, "x", OCT_U8, OCT_SHAPE(OCT_BATCH, 70, 30, 3))
                         : source(g, "x", OCT_SHAPE(OCT_BATCH, 9, 9, 3));
    oct_value y = OP(g, &oct_op_normalize, "normalize", &a, x);
    if (!pixels) return (built){.x = x, .y = y};
    static const conv_case k = {70, 30, 3, 4, {1, 1}, {3, 3}, {1, 1}, {0, 0, 0, 0}, 1, false};
    return (built){.x = y, .y = conv(g, "conv", y, conv_weights(g, "w", &k), &k)};
}

static void normalize_pixels_and_floats_agree_with_reference(void)
{
    static const bool pixels = true, floats = false;
    check(build_normalize, &pixels);
    check(build_normalize, &floats);
}

/* --- losses --- */

static built build_entropy(oct_graph *g, const void *options)
{
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, CLASSES));
    oct_value label = oct_input(g, "label", OCT_I32, OCT_SHAPE(OCT_BATCH));
    oct_value loss = OP(g, &oct_op_softmax_cross_entropy, "entropy", options, x, label);
    return (built){.x = x, .y = loss, .loss = loss};
}

static void cross_entropy_smoothing_and_ignored_labels_agree_with_reference(void)
{
    static const oct_cross_entropy_attrs plain = {0.0f, -1}, smooth = {0.1f, -1}, ignoring_zero = {0.2f, 0};
    check(build_entropy, &plain);
    check(build_entropy, &smooth);
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 11));
    built b = build_entropy(g, &ignoring_zero);
    oct_plan *plan = NULL;
    oct_plan_options options = {
        .batch = PLAN_BATCH, .mode = OCT_TRAIN, .outputs = &b.loss, .output_count = 1};
    REQUIRE_OK(ctx, oct_plan_create(&plan, g, &options));
    int32_t *label = (int32_t *)oct_plan_input(plan, oct_graph_find(g, "label"));
    for (int i = 0; i < PLAN_BATCH; i++) label[i] = 0;
    ASSERT_OK(ctx, oct_plan_forward(plan, &train_run, PLAN_BATCH));
    CU_ASSERT_EQUAL(*(const float *)oct_plan_tensor(plan, b.loss)->data, 0.0f);
    ASSERT_OK(ctx, oct_plan_backward(plan, 1.0f));
    for (size_t i = 0; i < g->params.count; i++) CU_ASSERT_EQUAL(oct_plan_gradients(plan)[i], 0.0f);
    label[3] = CLASSES;
    CU_ASSERT_EQUAL(oct_plan_forward(plan, &train_run, PLAN_BATCH), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "'entropy': label of sample 3 is 7, expected 0..6"));
    oct_plan_destroy(plan);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

/* Logits of 1000 and -1000: the loss is finite and exact. */
static void cross_entropy_large_logits_stay_finite(void)
{
    static const oct_cross_entropy_attrs plain = {0.0f, -1};
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 11));
    built b = build_entropy(g, &plain);
    float *p = oct_graph_data(g, oct_graph_find(g, "x/p"), NULL);
    for (int k = 0; k < CLASSES; k++) p[k] = k == 2 ? 1000.0f : -1000.0f;
    oct_plan *plan = NULL;
    oct_plan_options options = {.batch = 1, .mode = OCT_TRAIN, .outputs = &b.loss, .output_count = 1};
    REQUIRE_OK(ctx, oct_plan_create(&plan, g, &options));
    *(int32_t *)oct_plan_input(plan, oct_graph_find(g, "label")) = 5;
    ASSERT_OK(ctx, oct_plan_forward(plan, &train_run, 1));
    CU_ASSERT_EQUAL(*(const float *)oct_plan_tensor(plan, b.loss)->data, 2000.0f);
    ASSERT_OK(ctx, oct_plan_backward(plan, 0.5f));
    CU_ASSERT_EQUAL(oct_plan_gradients(plan)[2], 0.5f);
    CU_ASSERT_EQUAL(oct_plan_gradients(plan)[5], -0.5f);
    oct_plan_destroy(plan);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static built build_two_sources_squared(oct_graph *g, const void *options)
{
    (void)options;
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, 90, 90)),
              t = source(g, "t", OCT_SHAPE(OCT_BATCH, 90, 90));
    oct_value loss = OP(g, &oct_op_mean_squared_error, "mse", NULL, x, t);
    return (built){.x = x, .y = loss, .loss = loss};
}

static void mean_squared_error_gives_both_gradients(void)
{
    check(build_two_sources_squared, NULL);
}

/* --- a small network, as training builds them --- */

static built build_network(oct_graph *g, const void *options)
{
    (void)options;
    static const conv_case stem = {12, 12, 3, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, false},
                           inner = {12, 12, 16, 16, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1, false},
                           down = {12, 12, 16, 24, {1, 1}, {2, 2}, {1, 1}, {0, 0, 0, 0}, 1, true},
                           wide = {12, 12, 16, 24, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 1, false},
                           depth = {6, 6, 24, 24, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 24, false};
    static const oct_cross_entropy_attrs entropy = {0.1f, -1};
    static const oct_clip_attrs six = {0.0f, 6.0f};
    oct_value x = source(g, "image", OCT_SHAPE(OCT_BATCH, 12, 12, 3));
    oct_value y = conv(g, "stem", x, conv_weights(g, "stem/w", &stem), &stem);
    y = OP(g, &oct_op_relu, "stem/relu", NULL, batch_norm(g, "stem/bn", y));
    oct_value z = batch_norm(g, "block/bn", conv(g, "block", y, conv_weights(g, "block/w", &inner), &inner));
    y = OP(g, &oct_op_relu, "block/relu", NULL, OP(g, &oct_op_add, "block/add", NULL, z, y));
    z = batch_norm(g, "wide/bn", conv(g, "wide", y, conv_weights(g, "wide/w", &wide), &wide));
    oct_value shortcut = conv(g, "down", y, conv_weights(g, "down/w", &down), &down);
    y = OP(g, &oct_op_relu, "wide/relu", NULL, OP(g, &oct_op_add, "wide/add", NULL, shortcut, z));
    y = batch_norm(g, "depth/bn", conv(g, "depth", y, conv_weights(g, "depth/w", &depth), &depth));
    y = OP(g, &oct_op_global_average_pool, "pool", NULL, OP(g, &oct_op_clip, "depth/relu6", &six, y));
    y = OP(g, &oct_op_linear, "head", NULL, y, weights(g, "head/w", OCT_SHAPE(CLASSES, 24)),
           weights(g, "head/b", OCT_SHAPE(CLASSES)));
    oct_value label = oct_input(g, "label", OCT_I32, OCT_SHAPE(OCT_BATCH));
    oct_value loss = OP(g, &oct_op_softmax_cross_entropy, "entropy", &entropy, y, label);
    return (built){.x = x, .y = y, .loss = loss};
}

static void network_fused_and_unfused_agrees_with_reference(void)
{
    check(build_network, NULL);
}

/* --- shape rules --- */

typedef struct refusal {
    oct_status status;
    const char *message; /* part of it */
    void (*build)(oct_graph *g);
} refusal;

static oct_value x_of(oct_graph *g, int h, int w, int c)
{
    return oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, h, w, c));
}

static void bad_conv(oct_graph *g, oct_conv2d_attrs a, oct_shape w)
{
    OP(g, &oct_op_conv2d, "c", &a, x_of(g, 4, 4, 6), weights(g, "w", w));
}

static void conv_zero_kernel(oct_graph *g)
{
    bad_conv(g, (oct_conv2d_attrs){{0, 3}, {1, 1}, {1, 1}, {0}, 1}, OCT_SHAPE(2, 3, 3, 6));
}
static void conv_negative_padding(oct_graph *g)
{
    bad_conv(g, (oct_conv2d_attrs){{3, 3}, {1, 1}, {1, 1}, {0, 0, -1, 0}, 1}, OCT_SHAPE(2, 3, 3, 6));
}
static void conv_groups_do_not_divide(oct_graph *g)
{
    bad_conv(g, (oct_conv2d_attrs){{3, 3}, {1, 1}, {1, 1}, {0}, 4}, OCT_SHAPE(4, 3, 3, 1));
}
static void conv_groups_do_not_divide_outputs(oct_graph *g)
{
    bad_conv(g, (oct_conv2d_attrs){{3, 3}, {1, 1}, {1, 1}, {0}, 3}, OCT_SHAPE(4, 3, 3, 2));
}
static void conv_wrong_weights(oct_graph *g)
{
    bad_conv(g, (oct_conv2d_attrs){{3, 3}, {1, 1}, {1, 1}, {0}, 1}, OCT_SHAPE(2, 3, 3, 5));
}
static void conv_depthwise_needs_hwc(oct_graph *g)
{
    bad_conv(g, (oct_conv2d_attrs){{3, 3}, {1, 1}, {1, 1}, {0}, 6}, OCT_SHAPE(6, 3, 3, 1));
}
static void conv_kernel_too_large(oct_graph *g)
{
    bad_conv(g, (oct_conv2d_attrs){{3, 3}, {1, 1}, {1, 2}, {0}, 1}, OCT_SHAPE(2, 3, 3, 6));
}
static void conv_padded_too_large(oct_graph *g)
{
    bad_conv(g, (oct_conv2d_attrs){{3, 3}, {1, 1}, {1, 1}, {2000000000, 0, 0, 0}, 1}, OCT_SHAPE(2, 3, 3, 6));
}
static void conv_of_features(oct_graph *g)
{
    static const oct_conv2d_attrs a = {{1, 1}, {1, 1}, {1, 1}, {0}, 1};
    OP(g, &oct_op_conv2d, "c", &a, oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 6)),
       weights(g, "w", OCT_SHAPE(2, 1, 1, 6)));
}
static void conv_of_pixels(oct_graph *g)
{
    static const oct_conv2d_attrs a = {{1, 1}, {1, 1}, {1, 1}, {0}, 1};
    OP(g, &oct_op_conv2d, "c", &a, oct_input(g, "x", OCT_U8, OCT_SHAPE(OCT_BATCH, 4, 4, 3)),
       weights(g, "w", OCT_SHAPE(2, 1, 1, 3)));
}
static void conv_bad_bias(oct_graph *g)
{
    static const oct_conv2d_attrs a = {{1, 1}, {1, 1}, {1, 1}, {0}, 1};
    OP(g, &oct_op_conv2d, "c", &a, x_of(g, 4, 4, 6), weights(g, "w", OCT_SHAPE(2, 1, 1, 6)),
       weights(g, "b", OCT_SHAPE(3)));
}
static void linear_wrong_weights(oct_graph *g)
{
    OP(g, &oct_op_linear, "fc", NULL, oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 6)),
       weights(g, "w", OCT_SHAPE(2, 5)));
}
static void linear_of_images(oct_graph *g)
{
    OP(g, &oct_op_linear, "fc", NULL, x_of(g, 2, 2, 3), weights(g, "w", OCT_SHAPE(2, 12)));
}
static void linear_bad_bias(oct_graph *g)
{
    OP(g, &oct_op_linear, "fc", NULL, oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 6)),
       weights(g, "w", OCT_SHAPE(2, 6)), weights(g, "b", OCT_SHAPE(2, 1)));
}
static void bad_norm(oct_graph *g, oct_batch_norm_attrs a, int gamma, bool parameter)
{
    oct_value x = x_of(g, 2, 2, 3), p = weights(g, "gamma", OCT_SHAPE(gamma)),
              b = oct_buffer(g, "m", OCT_SHAPE(3), 0);
    oct_value q = weights(g, "p", OCT_SHAPE(3));
    OP(g, &oct_op_batch_norm, "bn", &a, x, p, q, parameter ? q : b, b);
}
static void norm_bad_eps(oct_graph *g)
{
    bad_norm(g, (oct_batch_norm_attrs){0.0f, 0.1f}, 3, false);
}
static void norm_bad_momentum(oct_graph *g)
{
    bad_norm(g, (oct_batch_norm_attrs){1e-3f, 1.5f}, 3, false);
}
static void norm_bad_gamma(oct_graph *g)
{
    bad_norm(g, (oct_batch_norm_attrs){1e-3f, 0.1f}, 4, false);
}
static void norm_parameter_as_statistics(oct_graph *g)
{
    bad_norm(g, (oct_batch_norm_attrs){1e-3f, 0.1f}, 3, true);
}
static void clip_empty(oct_graph *g)
{
    OP(g, &oct_op_clip, "k", (&(oct_clip_attrs){1.0f, 1.0f}), x_of(g, 2, 2, 3));
}
static void add_other_shape(oct_graph *g)
{
    OP(g, &oct_op_add, "sum", NULL, x_of(g, 2, 2, 3),
       oct_input(g, "z", OCT_F32, OCT_SHAPE(OCT_BATCH, 2, 3, 2)));
}
static void mul_labels(oct_graph *g)
{
    oct_value label = oct_input(g, "z", OCT_I32, OCT_SHAPE(OCT_BATCH, 2));
    OP(g, &oct_op_mul, "m", NULL, label, label);
}
static void concat_other_height(oct_graph *g)
{
    OP(g, &oct_op_concat, "cat", NULL, x_of(g, 2, 2, 3),
       oct_input(g, "z", OCT_F32, OCT_SHAPE(OCT_BATCH, 3, 2, 4)));
}
static void concat_of_scalars_per_sample(oct_graph *g)
{
    OP(g, &oct_op_concat, "cat", NULL, oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH)));
}
static void bad_pool(oct_graph *g, oct_pool_attrs a)
{
    OP(g, &oct_op_max_pool, "pool", &a, x_of(g, 4, 4, 3));
}
static void pool_zero_stride(oct_graph *g)
{
    bad_pool(g, (oct_pool_attrs){{2, 2}, {0, 1}, {0}});
}
static void pool_padding_as_large_as_kernel(oct_graph *g)
{
    bad_pool(g, (oct_pool_attrs){{2, 2}, {1, 1}, {0, 2, 0, 0}});
}
static void pool_kernel_too_large(oct_graph *g)
{
    bad_pool(g, (oct_pool_attrs){{2, 5}, {1, 1}, {0}});
}
static void pool_padded_too_large(oct_graph *g)
{
    bad_pool(g, (oct_pool_attrs){{2147483647, 1}, {1, 1}, {2147483646, 0, 2147483646, 0}});
}
static void global_pool_of_features(oct_graph *g)
{
    OP(g, &oct_op_global_average_pool, "gap", NULL, oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 5)));
}
static void flatten_parameter(oct_graph *g)
{
    OP(g, &oct_op_flatten, "flat", NULL, weights(g, "w", OCT_SHAPE(2, 2)));
}
static void dropout_everything(oct_graph *g)
{
    OP(g, &oct_op_dropout, "drop", (&(oct_dropout_attrs){1.0f}), x_of(g, 2, 2, 3));
}
static void normalize_five_channels(oct_graph *g)
{
    OP(g, &oct_op_normalize, "n", (&(oct_normalize_attrs){{0}, {1}}), x_of(g, 2, 2, 5));
}
static void normalize_infinite(oct_graph *g)
{
    OP(g, &oct_op_normalize, "n", (&(oct_normalize_attrs){{0}, {1, INFINITY}}), x_of(g, 2, 2, 3));
}
static void entropy_smoothing(oct_graph *g)
{
    build_entropy(g, &(oct_cross_entropy_attrs){1.0f, -1});
}
static void entropy_float_labels(oct_graph *g)
{
    OP(g, &oct_op_softmax_cross_entropy, "e", (&(oct_cross_entropy_attrs){0.0f, -1}),
       oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 4)), oct_input(g, "y", OCT_F32, OCT_SHAPE(OCT_BATCH)));
}
static void squared_other_shape(oct_graph *g)
{
    OP(g, &oct_op_mean_squared_error, "mse", NULL, x_of(g, 2, 2, 3),
       oct_input(g, "t", OCT_F32, OCT_SHAPE(OCT_BATCH, 12)));
}

static void pad_negative(oct_graph *g)
{
    static const oct_pad_attrs a = {.before = {0, -1, 0}};
    OP(g, &oct_op_pad, "p", &a, x_of(g, 2, 2, 3));
}

static void pad_height_of_features(oct_graph *g)
{
    oct_value x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 6));
    static const oct_pad_attrs a = {.before = {1, 0, 0}};
    OP(g, &oct_op_pad, "p", &a, x);
}

static void pad_too_large(oct_graph *g)
{
    static const oct_pad_attrs a = {.after = {0, INT32_MAX, 0}};
    OP(g, &oct_op_pad, "p", &a, x_of(g, 2, 2, 3));
}

static void slice_outside(oct_graph *g)
{
    static const oct_slice_attrs a = {{0, 1, 0}, {2, 2, 3}, {1, 1}};
    OP(g, &oct_op_slice, "s", &a, x_of(g, 2, 2, 3));
}

static void reshape_other_size(oct_graph *g)
{
    static const oct_reshape_attrs a = {2, {5, 2, 0}};
    OP(g, &oct_op_reshape, "r", &a, x_of(g, 2, 2, 3));
}

static void reshape_rank_of_batch(oct_graph *g)
{
    static const oct_reshape_attrs a = {4, {1, 1, 12}};
    OP(g, &oct_op_reshape, "r", &a, x_of(g, 2, 2, 3));
}

static void resize_to_nothing(oct_graph *g)
{
    static const oct_resize_attrs a = {{0, 4}, 0};
    OP(g, &oct_op_resize_bilinear, "r", &a, x_of(g, 2, 2, 3));
}

static void resize_unknown_grid(oct_graph *g)
{
    static const oct_resize_attrs a = {{4, 4}, 3};
    OP(g, &oct_op_resize_nearest, "r", &a, x_of(g, 2, 2, 3));
}

static void unary_infinite(oct_graph *g)
{
    static const oct_unary_attrs a = {INFINITY};
    OP(g, &oct_unary_ops[OCT_UNARY_LEAKY_RELU], "l", &a, x_of(g, 2, 2, 3));
}

static void prelu_other_channels(oct_graph *g)
{
    OP(g, &oct_op_prelu, "l", NULL, x_of(g, 2, 2, 3), weights(g, "w", OCT_SHAPE(2)));
}

static void softmax_of_scalars(oct_graph *g)
{
    OP(g, &oct_op_softmax, "s", NULL, oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH)));
}

static const refusal refusals[] = {
    {OCT_ERR_ARGUMENT, "pad 'p': axis 1 is padded by -1, 0 and 0 between", pad_negative},
    {OCT_ERR_SHAPE, "pad 'p': x has no axis height", pad_height_of_features},
    {OCT_ERR_SHAPE, "pad 'p': the output would have shape", pad_too_large},
    {OCT_ERR_ARGUMENT, "slice 's': axis 1: 2 elements from 1 in steps of 1 do not lie in 0..1", slice_outside},
    {OCT_ERR_SHAPE, "reshape 'r': x has shape [N,2,2,3], which does not fill [N,5,2]", reshape_other_size},
    {OCT_ERR_ARGUMENT, "reshape 'r': rank is 4", reshape_rank_of_batch},
    {OCT_ERR_ARGUMENT, "resize_bilinear 'r': resize from 2 to 0", resize_to_nothing},
    {OCT_ERR_ARGUMENT, "resize_nearest 'r': unknown grid 3", resize_unknown_grid},
    {OCT_ERR_ARGUMENT, "leaky_relu 'l': slope is inf", unary_infinite},
    {OCT_ERR_SHAPE, "prelu 'l': input 1 (slope 'w') has shape [2], expected [3]", prelu_other_channels},
    {OCT_ERR_SHAPE, "softmax 's': input 0 (x 'x') has shape [N]", softmax_of_scalars},
    {OCT_ERR_ARGUMENT, "conv2d 'c': kernel 0x3", conv_zero_kernel},
    {OCT_ERR_ARGUMENT, "conv2d 'c': padding (top, left, bottom, right) is 0,0,-1,0", conv_negative_padding},
    {OCT_ERR_SHAPE, "conv2d 'c': 4 groups do not divide the 6 channels", conv_groups_do_not_divide},
    {OCT_ERR_SHAPE, "conv2d 'c': 3 groups do not divide the 4 outputs", conv_groups_do_not_divide_outputs},
    {OCT_ERR_SHAPE, "conv2d 'c': input 1 (weights 'w') has shape [2,3,3,5], expected [2,3,3,6]",
     conv_wrong_weights},
    {OCT_ERR_SHAPE, "conv2d 'c': input 1 (depthwise weights 'w') has shape [6,3,3,1], expected [3,3,6]",
     conv_depthwise_needs_hwc},
    {OCT_ERR_SHAPE, "conv2d 'c': a kernel of 3 with dilation 2 does not fit the width",
     conv_kernel_too_large},
    {OCT_ERR_SHAPE, "conv2d 'c': x with padding has", conv_padded_too_large},
    {OCT_ERR_SHAPE, "conv2d 'c': input 0 (x 'x') has shape [N,6], expected [N,H,W,C]", conv_of_features},
    {OCT_ERR_SHAPE, "conv2d 'c': input 0 (x 'x') has elements of type u8, expected f32", conv_of_pixels},
    {OCT_ERR_SHAPE, "conv2d 'c': input 2 (bias 'b') has shape [3], expected [2]", conv_bad_bias},
    {OCT_ERR_SHAPE, "linear 'fc': input 1 (weights 'w') has shape [2,5], expected [2,6]",
     linear_wrong_weights},
    {OCT_ERR_SHAPE, "linear 'fc': input 0 (x 'x') has shape [N,2,2,3], expected [N,I]", linear_of_images},
    {OCT_ERR_SHAPE, "linear 'fc': input 2 (bias 'b') has shape [2,1], expected [2]", linear_bad_bias},
    {OCT_ERR_ARGUMENT, "batch_norm 'bn': eps is 0", norm_bad_eps},
    {OCT_ERR_ARGUMENT, "batch_norm 'bn': eps is 0.001 and momentum 1.5", norm_bad_momentum},
    {OCT_ERR_SHAPE, "batch_norm 'bn': input 1 (gamma 'gamma') has shape [4], expected [3]", norm_bad_gamma},
    {OCT_ERR_ARGUMENT, "batch_norm 'bn': input 3 (running mean 'p') is not a buffer",
     norm_parameter_as_statistics},
    {OCT_ERR_ARGUMENT, "clip 'k': limits are 1 and 1", clip_empty},
    {OCT_ERR_SHAPE, "add 'sum': input 1 (operand 'z') has shape [N,2,3,2], expected [N,2,2,3]",
     add_other_shape},
    {OCT_ERR_SHAPE, "mul 'm': input 0 (x 'z') has elements of type i32, expected f32", mul_labels},
    {OCT_ERR_SHAPE, "concat 'cat': input 1 (part 'z') has shape [N,3,2,4], expected [N,2,2,4]",
     concat_other_height},
    {OCT_ERR_SHAPE, "concat 'cat': input 0 (part 'x') has shape [N], expected [N,...,C]",
     concat_of_scalars_per_sample},
    {OCT_ERR_ARGUMENT, "max_pool 'pool': kernel 2x2, stride 0x1", pool_zero_stride},
    {OCT_ERR_ARGUMENT, "max_pool 'pool': padding (top, left, bottom, right) is 0,2,0,0",
     pool_padding_as_large_as_kernel},
    {OCT_ERR_SHAPE, "max_pool 'pool': a kernel of 5 with dilation 1 does not fit the width",
     pool_kernel_too_large},
    {OCT_ERR_SHAPE, "max_pool 'pool': the height of x with padding is 4294967296 pixels",
     pool_padded_too_large},
    {OCT_ERR_SHAPE, "global_average_pool 'gap': input 0 (x 'x') has shape [N,5]", global_pool_of_features},
    {OCT_ERR_SHAPE, "flatten 'flat': input 0 (x 'w') has shape [2,2], expected [N,...]", flatten_parameter},
    {OCT_ERR_ARGUMENT, "dropout 'drop': rate is 1, expected 0 <= rate < 1", dropout_everything},
    {OCT_ERR_SHAPE, "normalize 'n': input 0 (x 'x') has shape [N,2,2,5]", normalize_five_channels},
    {OCT_ERR_ARGUMENT, "normalize 'n': mean and scale of channel 1 are 0 and inf", normalize_infinite},
    {OCT_ERR_ARGUMENT, "softmax_cross_entropy 'entropy': smoothing is 1", entropy_smoothing},
    {OCT_ERR_SHAPE,
     "softmax_cross_entropy 'e': input 1 (label 'y') has shape [N] and other elements than i32",
     entropy_float_labels},
    {OCT_ERR_SHAPE, "mean_squared_error 'mse': input 1 (target 't') has shape [N,12], expected [N,2,2,3]",
     squared_other_shape},
};

static void infer_bad_nodes_are_refused_with_their_names(void)
{
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        oct_ctx *ctx = test_ctx();
        oct_graph *g = NULL;
        REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
        refusals[i].build(g);
        CU_ASSERT_EQUAL(oct_graph_status(g), refusals[i].status);
        bool said = strstr(ctx->error.message, refusals[i].message) != NULL;
        CU_ASSERT_TRUE(said);
        if (!said)
            fprintf(stderr, "    expected \"%s\", found \"%s\"\n", refusals[i].message, ctx->error.message);
        oct_graph_destroy(g);
        oct_ctx_destroy(ctx);
    }
}

static void op_find_knows_every_built_in(void)
{
    static const char *const names[] = {"conv2d",
                                        "conv_transpose2d",
                                        "linear",
                                        "batch_norm",
                                        "relu",
                                        "clip",
                                        "add",
                                        "sub",
                                        "mul",
                                        "concat",
                                        "prelu",
                                        "leaky_relu",
                                        "elu",
                                        "sigmoid",
                                        "tanh",
                                        "hard_sigmoid",
                                        "hard_swish",
                                        "silu",
                                        "gelu",
                                        "add_scalar",
                                        "mul_scalar",
                                        "pad",
                                        "slice",
                                        "reshape",
                                        "resize_nearest",
                                        "resize_bilinear",
                                        "softmax",
                                        "argmax",
                                        "max_pool",
                                        "average_pool",
                                        "global_average_pool",
                                        "flatten",
                                        "dropout",
                                        "normalize",
                                        "softmax_cross_entropy",
                                        "mean_squared_error"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const oct_op *op = oct_op_find(names[i]);
        CU_ASSERT_PTR_NOT_NULL_FATAL(op);
        CU_ASSERT_STRING_EQUAL(op->name, names[i]);
        CU_ASSERT_PTR_NOT_NULL(op->equation);
        CU_ASSERT_PTR_NOT_NULL(op->reference.forward);
    }
    CU_ASSERT_PTR_NULL(oct_op_find("conv3d"));
}

static void conv2d_macs_count_multiplications(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    static const conv_case depthwise = {8, 8, 4, 4, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 4, false},
                           grouped = {8, 8, 4, 6, {3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 2, true};
    oct_value x = x_of(g, 8, 8, 4);
    const oct_node *d = oct_graph_node(g, conv(g, "d", x, conv_weights(g, "dw", &depthwise), &depthwise));
    const oct_node *k = oct_graph_node(g, conv(g, "k", x, conv_weights(g, "kw", &grouped), &grouped));
    CU_ASSERT_EQUAL(d->op->macs(g, d), 4 * 4 * 4 * 9);
    CU_ASSERT_EQUAL(k->op->macs(g, k), 8 * 8 * 6 * 9 * 2);
    CU_ASSERT_TRUE(oct_conv2d_is_depthwise(g, d));
    CU_ASSERT_FALSE(oct_conv2d_is_depthwise(g, k));
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static const test_case cases[] = {
    {"conv2d_many_geometries_agree_with_reference", conv2d_many_geometries_agree_with_reference},
    {"conv_transpose2d_many_geometries_agree_with_reference", conv_transpose2d_many_geometries_agree_with_reference},
    {"conv2d_weights_of_two_nodes_add_their_gradients", conv2d_weights_of_two_nodes_add_their_gradients},
    {"conv2d_weights_from_an_op_get_their_gradient", conv2d_weights_from_an_op_get_their_gradient},
    {"conv2d_macs_count_multiplications", conv2d_macs_count_multiplications},
    {"linear_many_sizes_agree_with_reference", linear_many_sizes_agree_with_reference},
    {"linear_large_weights_agree_with_reference", linear_large_weights_agree_with_reference},
    {"batch_norm_alone_and_fused_agrees_with_reference", batch_norm_alone_and_fused_agrees_with_reference},
    {"batch_norm_far_mean_keeps_its_variance", batch_norm_far_mean_keeps_its_variance},
    {"batch_norm_one_position_is_refused_in_training", batch_norm_one_position_is_refused_in_training},
    {"float_fuser_joins_only_what_nobody_else_reads", float_fuser_joins_only_what_nobody_else_reads},
    {"elementwise_ops_agree_with_reference", elementwise_ops_agree_with_reference},
    {"unary_functions_agree_with_reference", unary_functions_agree_with_reference},
    {"unary_functions_survive_extreme_values", unary_functions_survive_extreme_values},
    {"unary_values_are_those_of_pytorch", unary_values_are_those_of_pytorch},
    {"prelu_agrees_with_reference", prelu_agrees_with_reference},
    {"moves_agree_with_reference", moves_agree_with_reference},
    {"sub_of_a_value_from_itself_has_no_gradient", sub_of_a_value_from_itself_has_no_gradient},
    {"argmax_ties_go_to_the_lowest_index", argmax_ties_go_to_the_lowest_index},
    {"mul_of_a_value_with_itself_has_twice_its_gradient", mul_of_a_value_with_itself_has_twice_its_gradient},
    {"pools_agree_with_reference", pools_agree_with_reference},
    {"max_pool_ties_go_to_the_first", max_pool_ties_go_to_the_first},
    {"dropout_agrees_with_reference", dropout_agrees_with_reference},
    {"dropout_drops_its_share_and_changes_with_the_step", dropout_drops_its_share_and_changes_with_the_step},
    {"eval_run_uses_running_statistics_and_no_dropout", eval_run_uses_running_statistics_and_no_dropout},
    {"normalize_pixels_and_floats_agree_with_reference", normalize_pixels_and_floats_agree_with_reference},
    {"cross_entropy_smoothing_and_ignored_labels_agree_with_reference",
     cross_entropy_smoothing_and_ignored_labels_agree_with_reference},
    {"cross_entropy_large_logits_stay_finite", cross_entropy_large_logits_stay_finite},
    {"mean_squared_error_gives_both_gradients", mean_squared_error_gives_both_gradients},
    {"network_fused_and_unfused_agrees_with_reference", network_fused_and_unfused_agrees_with_reference},
    {"infer_bad_nodes_are_refused_with_their_names", infer_bad_nodes_are_refused_with_their_names},
    {"op_find_knows_every_built_in", op_find_knows_every_built_in},
};
TEST_SUITE("ops", cases);
