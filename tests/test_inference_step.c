/* SPDX-License-Identifier: BSD-2-Clause
 * The folded step of evaluation plans against the same graph run node by node.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/plan.h"
#include "layers/layers.h"
#include "tests/testing.h"

typedef struct variant {
    const char *name;
    int side, channels, filters, kernel, stride, groups; /* groups 0: linear */
    bool norm, bias;
    int add;        /* 0 none, 1 residual second, 2 residual first */
    int activation; /* 0 none, 1 relu, 2 relu6 */
    const char *step;
} variant;

enum { BATCH = 5 };

typedef struct net {
    oct_ctx *ctx;
    oct_graph *graph;
    oct_value x, residual, y;
} net;

static void randomise(oct_graph *g, unsigned seed)
{
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind != OCT_NODE_BUFFER && n->kind != OCT_NODE_PARAMETER) continue;
        size_t count;
        float *data = oct_graph_data(g, (oct_value){i}, &count);
        test_fill_normal(data, count, seed + (unsigned)i);
        if (n->kind == OCT_NODE_BUFFER) /* variances must be positive; means do not mind */
            for (size_t k = 0; k < count; k++) data[k] = 0.25f + data[k] * data[k];
    }
}

static net build(const variant *v, int threads)
{
    net n = {.ctx = test_ctx_with(threads, NULL)};
    ASSERT_OK(n.ctx, oct_graph_create(&n.graph, n.ctx, 5));
    oct_graph *g = n.graph;
    if (v->groups) {
        n.x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, v->side, v->side, v->channels));
        n.y = oct_conv2d(g, "conv", n.x,
                         (oct_conv2d_opts){.filters = v->filters, .kernel = {v->kernel, v->kernel},
                                           .stride = {v->stride, v->stride}, .groups = v->groups, .padding = OCT_SAME,
                                           .no_bias = !v->bias});
    } else {
        n.x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, v->channels));
        n.y = oct_linear(g, "fc", n.x, (oct_linear_opts){.outputs = v->filters, .no_bias = !v->bias});
    }
    if (v->norm) n.y = oct_batch_norm(g, "bn", n.y, oct_batch_norm_defaults());
    if (v->add) {
        n.residual = oct_input(g, "residual", OCT_F32, oct_graph_node(g, n.y)->shape);
        n.y = v->add == 1 ? oct_add(g, "add", n.y, n.residual) : oct_add(g, "add", n.residual, n.y);
    }
    if (v->activation == 1) n.y = oct_relu(g, "act", n.y);
    if (v->activation == 2) n.y = oct_relu6(g, "act", n.y);
    ASSERT_OK(n.ctx, oct_graph_status(g));
    randomise(g, 11);
    return n;
}

static void release(net *n)
{
    oct_graph_destroy(n->graph);
    oct_ctx_destroy(n->ctx);
}

static oct_plan *make_plan(const net *n, bool no_fuse)
{
    oct_plan *plan = NULL;
    ASSERT_OK(n->ctx, oct_plan_create(&plan, n->graph,
                                       &(oct_plan_options){.batch = BATCH, .mode = OCT_EVAL, .no_fuse = no_fuse,
                                                           .outputs = &n->y, .output_count = 1}));
    for (int32_t i = 0; plan && i < n->graph->node_count; i++) {
        const oct_node *in = n->graph->nodes[i];
        if (in->kind == OCT_NODE_INPUT)
            test_fill_normal((float *)oct_plan_input(plan, (oct_value){i}), oct_shape_sample(&in->shape) * BATCH, 3 + (unsigned)i);
    }
    return plan;
}

/* Output of a batch, in memory of its own. */
static float *run(const net *n, oct_plan *plan, int batch, size_t *count)
{
    ASSERT_OK(n->ctx, oct_plan_forward(plan, &(oct_run){.mode = OCT_EVAL}, batch));
    const oct_tensor *t = oct_plan_tensor(plan, n->y);
    *count = t->sample * (size_t)batch;
    float *y = oct_alloc(*count, sizeof *y);
    memcpy(y, t->data, *count * sizeof *y);
    return y;
}

static double distance(const float *a, const float *b, size_t n)
{
    double most = 0, scale = 1e-30;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        scale = fmax(scale, fabs((double)b[i]));
    }
    return most / scale;
}

static const variant variants[] = {
    {"3x3", 9, 5, 21, 3, 1, 1, true, true, 0, 1, "conv+bn+act"},
    {"3x3 stride 2, residual", 9, 8, 16, 3, 2, 1, true, false, 1, 1, "conv+bn+add+act"},
    {"1x1, residual first", 6, 24, 40, 1, 1, 1, true, false, 2, 0, "conv+bn+add"},
    {"depthwise", 7, 19, 19, 3, 1, 19, true, false, 0, 2, "conv+bn+act"},
    {"depthwise stride 2, residual", 8, 32, 32, 5, 2, 32, true, true, 1, 2, "conv+bn+add+act"},
    {"grouped", 6, 12, 18, 3, 1, 3, true, false, 1, 1, "conv+bn+add+act"},
    {"Winograd", 8, 64, 80, 3, 1, 1, true, false, 1, 1, "conv+bn+add+act"},
    {"Winograd, odd", 11, 64, 64, 3, 1, 1, false, true, 0, 2, "conv+act"},
    {"no batch norm", 5, 3, 7, 3, 1, 1, false, true, 2, 0, "conv+add"},
    {"convolution alone", 5, 3, 7, 3, 1, 1, false, false, 0, 0, "conv"},
    {"linear", 1, 37, 10, 1, 1, 0, false, true, 0, 0, "conv"},
    {"linear, batch norm", 1, 20, 33, 1, 1, 0, true, false, 0, 1, "conv+bn+act"},
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static void only_step(void *user, const char *text)
{
    const variant *v = user;
    char pattern[64];
    snprintf(pattern, sizeof pattern, " %s ", v->step);
    if (strncmp(text, "output", 6) && !strstr(text, " steps, ")) CU_ASSERT_PTR_NOT_NULL(strstr(text, pattern));
}

static void inference_step_each_form_agrees_with_the_nodes(void)
{
    for (int i = 0; i < VARIANTS; i++) {
        net n = build(&variants[i], 2);
        oct_plan *fused = make_plan(&n, false), *plain = make_plan(&n, true);
        CU_ASSERT_EQUAL(oct_plan_describe(fused).unit_count, 1);
        oct_plan_print(fused, only_step, (void *)(uintptr_t)&variants[i]);
        for (int batch = 1; batch <= BATCH; batch += BATCH - 1) {
            size_t count;
            float *y = run(&n, fused, batch, &count), *want = run(&n, plain, batch, &count);
            double error = distance(y, want, count);
            if (!(error < 2e-6)) fprintf(stderr, "    %s, batch %d: relative error %.3g\n", variants[i].name, batch, error);
            CU_ASSERT_TRUE(error < 2e-6);
            oct_free(y);
            oct_free(want);
        }
        oct_plan_destroy(fused);
        oct_plan_destroy(plain);
        release(&n);
    }
}

static void inference_step_any_thread_count_gives_the_same_bytes(void)
{
    for (int i = 0; i < VARIANTS; i++) {
        float *first[2] = {NULL, NULL};
        for (int threads = 1; threads <= 3; threads++) {
            net n = build(&variants[i], threads);
            oct_plan *plan = make_plan(&n, false);
            for (int k = 0; k < 2; k++) {
                size_t count;
                float *y = run(&n, plan, k ? BATCH : 1, &count);
                if (threads == 1) {
                    first[k] = y;
                    continue;
                }
                CU_ASSERT_FALSE(memcmp(y, first[k], count * sizeof *y));
                oct_free(y);
            }
            oct_plan_destroy(plan);
            release(&n);
        }
        oct_free(first[0]);
        oct_free(first[1]);
    }
}

/* Follows changed weights unless the plan is held; and then again after it was let go. */
static void plan_hold_weights_are_read_once_while_held(void)
{
    net n = build(&variants[0], 1);
    oct_plan *plan = make_plan(&n, false);
    size_t count;
    float *before = run(&n, plan, 1, &count);
    oct_plan_hold(plan, true);
    float *held = run(&n, plan, 1, &count);
    CU_ASSERT_FALSE(memcmp(before, held, count * sizeof *held));
    randomise(n.graph, 90);
    float *still = run(&n, plan, 1, &count);
    CU_ASSERT_FALSE(memcmp(before, still, count * sizeof *still));
    oct_plan_hold(plan, false);
    float *after = run(&n, plan, 1, &count);
    CU_ASSERT_TRUE(memcmp(before, after, count * sizeof *after));
    oct_free(before);
    oct_free(held);
    oct_free(still);
    oct_free(after);
    oct_plan_destroy(plan);
    release(&n);
}

static const test_case cases[] = {
    {"inference_step_each_form_agrees_with_the_nodes", inference_step_each_form_agrees_with_the_nodes},
    {"inference_step_any_thread_count_gives_the_same_bytes", inference_step_any_thread_count_gives_the_same_bytes},
    {"plan_hold_weights_are_read_once_while_held", plan_hold_weights_are_read_once_while_held},
};
TEST_SUITE("inference_step", cases);
