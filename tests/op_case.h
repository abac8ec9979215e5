/* SPDX-License-Identifier: BSD-2-Clause
 * How op tests run: a node under test is built on sources (parameters that look like activations), run by plans, fused and
 * not, and compared with the reference executor, gradients included. The source op is also an example of an op that a user
 * brings along.
 */
#ifndef OCT_TESTS_OP_CASE_H
#define OCT_TESTS_OP_CASE_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/ops.h"
#include "autograd/plan.h"
#include "autograd/reference.h"
#include "tests/testing.h"

enum { PLAN_BATCH = 5, CLASSES = 7 };

/* --- source: y = parameter, seen as [N, ...] --- */

typedef struct source_attrs {
    int32_t rank, dim[OCT_MAX_RANK];
} source_attrs;

static inline oct_status source_infer(const oct_graph *graph, oct_node *node)
{
    (void)graph;
    const source_attrs *a = (const source_attrs *)node->attrs;
    node->shape = (oct_shape){.rank = a->rank};
    memcpy(node->shape.dim, a->dim, sizeof a->dim);
    node->dtype = OCT_F32;
    return OCT_OK;
}

static inline oct_status source_forward(oct_step *step)
{
    memcpy(step->out->data, step->in[0]->data, step->out->sample * (size_t)step->batch * sizeof(float));
    return OCT_OK;
}

static inline oct_status source_backward(oct_step *step)
{
    float *d = (float *)step->d_in[0]->data;
    const float *dy = (const float *)step->d_out->data;
    for (size_t i = 0; i < step->out->sample * (size_t)step->batch; i++)
        d[i] = step->accumulate[0] ? d[i] + dy[i] : dy[i];
    return OCT_OK;
}

static inline size_t ref_elements(const oct_ref *ref)
{
    return oct_shape_sample(&ref->node->shape) * (size_t)ref->batch;
}

static inline oct_status source_reference_forward(oct_ref *ref)
{
    memcpy(ref->out, ref->in[0], ref_elements(ref) * sizeof(double));
    return OCT_OK;
}

static inline oct_status source_reference_backward(oct_ref *ref)
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

static inline oct_value source(oct_graph *g, const char *name, oct_shape shape)
{
    char parameter[64];
    snprintf(parameter, sizeof parameter, "%s/p", name);
    source_attrs a = {.rank = shape.rank};
    memcpy(a.dim, shape.dim, sizeof a.dim);
    oct_value p = oct_parameter(g, parameter, OCT_SHAPE(PLAN_BATCH * (int32_t)oct_shape_sample(&shape)),
                                (oct_init){OCT_INIT_NORMAL, 1.0f});
    return OP(g, &source_op, name, &a, p);
}

static inline oct_value weights(oct_graph *g, const char *name, oct_shape shape)
{
    return oct_parameter(g, name, shape, (oct_init){OCT_INIT_NORMAL, 0.5f});
}

static inline oct_value x_of(oct_graph *g, int h, int w, int c)
{
    return oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, h, w, c));
}

static inline oct_shape shape_of(const oct_graph *g, oct_value v)
{
    const oct_node *n = oct_graph_node(g, v);
    return n ? n->shape : OCT_SHAPE(OCT_BATCH, 1);
}

static inline oct_value squared_loss(oct_graph *g, const char *name, oct_value y)
{
    char target[64];
    snprintf(target, sizeof target, "%s/target", name);
    oct_value t = oct_input(g, target, OCT_F32, shape_of(g, y));
    return OP(g, &oct_op_mean_squared_error, name, NULL, y, t);
}

static inline oct_value batch_norm(oct_graph *g, const char *name, oct_value x)
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
static inline built finish(oct_graph *g, built b, bool shared)
{
    if (b.loss.id <= 0) b.loss = squared_loss(g, "loss", b.y);
    if (shared) b.loss = OP(g, &oct_op_add, "both", NULL, b.loss, squared_loss(g, "other", b.x));
    return b;
}

static inline built build_entropy(oct_graph *g, const void *options)
{
    oct_value x = source(g, "x", OCT_SHAPE(OCT_BATCH, CLASSES));
    oct_value label = oct_input(g, "label", OCT_I32, OCT_SHAPE(OCT_BATCH));
    oct_value loss = OP(g, &oct_op_softmax_cross_entropy, "entropy", options, x, label);
    return (built){.x = x, .y = loss, .loss = loss};
}

/* --- running --- */

static const oct_run train_run = {.mode = OCT_TRAIN, .seed = 3, .step = 17};

typedef struct outcome {
    float *y, *gradients, *buffers;
    size_t y_count, gradient_count, buffer_count;
    float loss;
} outcome;

static inline void outcome_release(outcome *o)
{
    oct_free(o->y);
    oct_free(o->gradients);
    oct_free(o->buffers);
}

static inline float *copied(const float *from, size_t n)
{
    float *to = (float *)oct_alloc(n, sizeof *to);
    if (to && n) memcpy(to, from, n * sizeof *to);
    return to;
}

/* The same made-up data for a plan's input and the reference's. */
static inline void fill_input(const oct_node *n, void *plan_data, double *reference_data, int batch)
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

static inline void fill_plan(oct_graph *g, oct_plan *plan, int batch)
{
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind == OCT_NODE_INPUT) fill_input(n, oct_plan_input(plan, (oct_value){i}), NULL, batch);
    }
}

static inline outcome run_plan(oct_graph *g, const built *b, bool no_fuse, int batch, const oct_run *run)
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

static inline void expect_close(const char *what, const char *name, const float *a, const double *b, size_t n,
                         double limit)
{
    double error = test_relative_error(a, b, n);
    bool ok = error <= limit;
    CU_ASSERT_TRUE(ok);
    if (!ok) fprintf(stderr, "    %s of %s: relative error %.3g, allowed %.3g\n", what, name, error, limit);
}

static const double tolerance = 1e-5;

/* Gradient of a node that the reference never reached is 0. */
static inline void expect_gradient(const oct_node *n, const float *a, const double *b)
{
    for (size_t i = 0; !b && i < n->count; i++) CU_ASSERT_EQUAL(a[i], 0.0f);
    if (b) expect_close("gradient", n->name, a, b, n->count, tolerance);
}

static inline void compare_with_reference(oct_graph *g, const built *b, const outcome *o, int batch,
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

static inline void expect_same_bytes(const outcome *a, const outcome *b)
{
    CU_ASSERT_EQUAL(memcmp(a->y, b->y, a->y_count * sizeof(float)), 0);
    CU_ASSERT_EQUAL(memcmp(a->gradients, b->gradients, a->gradient_count * sizeof(float)), 0);
    if (a->buffer_count) CU_ASSERT_EQUAL(memcmp(a->buffers, b->buffers, a->buffer_count * sizeof(float)), 0);
    CU_ASSERT_EQUAL(memcmp(&a->loss, &b->loss, sizeof a->loss), 0);
}

/* Builds the case with `threads` threads and runs it once; with `judge` the reference is asked too. */
static inline outcome run_case(build_fn *build, const void *options, bool shared, bool no_fuse, int batch,
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

static inline void check_run(build_fn *build, const void *options, const oct_run *run)
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

static inline void check(build_fn *build, const void *options)
{
    check_run(build, options, &train_run);
}

#endif
