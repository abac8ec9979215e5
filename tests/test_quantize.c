/* SPDX-License-Identifier: BSD-2-Clause
 * Quantized graphs: the insertion pass (T22), and the fused integer steps against the node-by-node double reference:
 * codes, masks (through gradients), statistics and ranges, live and frozen, both fold modes, per tensor and per channel. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "autograd/plan.h"
#include "autograd/reference.h"
#include "layers/layers.h"
#include "layers/models.h"
#include "quant/export.h"
#include "quant/int8/image.h"
#include "quant/quantize.h"
#include "quant/verify.h"
#include "tests/testing.h"

enum { BATCH = 5, SIDE = 10, CLASSES = 7 };

typedef struct net {
    oct_ctx *ctx;
    oct_graph *graph;
    oct_value image, label, logits, loss;
} net;

static void net_close(net *n)
{
    oct_graph_destroy(n->graph);
    oct_ctx_destroy(n->ctx);
}

static oct_value bn(oct_graph *g, const char *name, oct_value x)
{
    return oct_batch_norm(g, name, x, oct_batch_norm_defaults());
}

/* One of everything: strided, dilated, depthwise, grouped and 1x1 convolutions, linear bottleneck (signed), residual add
 * with ReLU, add without, mul, concat, ReLU6, max / average / global pool, a layer without batch norm, a value read twice. */
static net net_open(int threads, const char *cpu, unsigned seed)
{
    net n = {.ctx = test_ctx_with(threads, cpu)};
    CU_ASSERT_EQUAL_FATAL(oct_graph_create(&n.graph, n.ctx, seed), OCT_OK);
    oct_graph *g = n.graph;
    n.image = oct_input(g, "image", OCT_U8, OCT_SHAPE(OCT_BATCH, SIDE, SIDE, 3));
    oct_value x = oct_normalize(g, "normalize", n.image,
                                (oct_normalize_attrs){{120, 110, 100, 0}, {0.017f, 0.018f, 0.016f, 1}});
    x = oct_conv2d(g, "stem", x, (oct_conv2d_opts){.filters = 8, .kernel = {3, 3}, .padding = OCT_SAME});
    x = oct_relu(g, "stem/relu", bn(g, "stem/bn", x));
    oct_value skip = x;
    x = oct_conv2d(g, "a", x, (oct_conv2d_opts){.filters = 8, .kernel = {3, 3}, .padding = OCT_SAME, .groups = 8});
    x = oct_relu6(g, "a/relu6", bn(g, "a/bn", x));
    x = oct_conv2d(g, "b", x, (oct_conv2d_opts){.filters = 8, .kernel = {1, 1}, .no_bias = true});
    x = bn(g, "b/bn", x);
    x = oct_add(g, "add1", x, skip);
    oct_value y = oct_conv2d(g, "c", x, (oct_conv2d_opts){.filters = 12, .kernel = {3, 3}, .stride = {2, 2}, .padding = OCT_SAME});
    y = oct_relu(g, "c/relu", bn(g, "c/bn", y));
    y = oct_conv2d(g, "d", y, (oct_conv2d_opts){.filters = 12, .kernel = {3, 3}, .dilation = {2, 2}, .padding = OCT_SAME, .groups = 3});
    y = bn(g, "d/bn", y);
    oct_value z = oct_conv2d(g, "short", x, (oct_conv2d_opts){.filters = 12, .kernel = {1, 1}, .stride = {2, 2}, .padding = OCT_SAME});
    x = oct_relu(g, "add2/relu", oct_add(g, "add2", y, z));
    oct_value p = oct_max_pool(g, "maxpool", x, (oct_pool_opts){.kernel = {2, 2}, .stride = {1, 1}, .padding = OCT_SAME});
    oct_value q = oct_average_pool(g, "avgpool", x, (oct_pool_opts){.kernel = {3, 3}, .stride = {1, 1}, .padding = OCT_SAME});
    oct_value both[2] = {p, q};
    x = oct_concat(g, "concat", both, 2);
    x = oct_conv2d(g, "e", x, (oct_conv2d_opts){.filters = 10, .kernel = {1, 1}});
    oct_value gate = oct_conv2d(g, "gate", x, (oct_conv2d_opts){.filters = 10, .kernel = {3, 3}, .padding = OCT_SAME});
    x = oct_mul(g, "mul", x, oct_relu(g, "gate/relu", gate));
    x = oct_global_average_pool(g, "pool", x);
    x = oct_linear(g, "hidden", x, (oct_linear_opts){.outputs = 9});
    x = oct_relu(g, "hidden/relu", x);
    n.logits = oct_linear(g, "head", x, (oct_linear_opts){.outputs = CLASSES});
    n.label = oct_labels(g, "label");
    n.loss = oct_softmax_cross_entropy(g, "loss", n.logits, n.label, (oct_cross_entropy_attrs){.ignore = -1});
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n.ctx->error, oct_graph_status(g), "net"));
    return n;
}

/* Statistics, gammas and biases away from their starting values: some gammas negative, one zero. */
static void disturb(oct_graph *g, unsigned seed)
{
    oct_rng rng = oct_rng_start(seed, OCT_RNG_USER, 1, 2);
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *node = g->nodes[i];
        size_t count;
        float *data = oct_graph_data(g, (oct_value){i}, &count);
        if (!data) continue;
        const char *slash = strrchr(node->name, '/');
        for (size_t k = 0; k < count && slash; k++) {
            float z = oct_rng_normal(&rng);
            if (!strcmp(slash, "/gamma")) data[k] = k == 3 ? 0 : 1 + 0.6f * z;
            if (!strcmp(slash, "/beta") || !strcmp(slash, "/bias") || !strcmp(slash, "/mean")) data[k] = 0.3f * z;
            if (!strcmp(slash, "/var")) data[k] = 0.4f + fabsf(z);
        }
    }
}

static void fill_batch(uint8_t *pixels, int32_t *labels, int count, unsigned seed)
{
    oct_rng rng = oct_rng_start(seed, OCT_RNG_SYNTHETIC, 0, 0);
    for (int i = 0; i < count * SIDE * SIDE * 3; i++) pixels[i] = (uint8_t)oct_rng_below(&rng, 256);
    for (int i = 0; i < count; i++) labels[i] = (int32_t)oct_rng_below(&rng, CLASSES);
}

typedef struct watch {
    oct_reference *reference;
    const oct_graph *graph;
    int64_t compared, differing;
    double tolerance; /* in codes */
    const char *first;
} watch;

static oct_status compare_codes(void *user, const oct_node *node, const oct_tensor *t, int batch)
{
    watch *w = user;
    if (t->storage != OCT_STORE_U8 || !t->on_grid) return OCT_OK;
    const double *expected = oct_reference_value(w->reference, (oct_value){node->id});
    size_t n = t->sample * (size_t)batch;
    for (size_t i = 0; i < n; i++) {
        double code = t->is_signed ? (double)((const int8_t *)t->data)[i] : (double)((const uint8_t *)t->data)[i];
        double off = fabs((code - t->zero_point) * (double)t->scale - expected[i]);
        bool differs = off > w->tolerance * (double)t->scale;
        if (differs && !w->first) w->first = node->name;
        w->differing += differs;
    }
    w->compared += (int64_t)n;
    return OCT_OK;
}

typedef struct scenario {
    oct_qconfig config;
    oct_run run;
    int steps; /* training steps before the comparison, so that ranges and statistics have moved */
} scenario;

/* Gradients of all parameters, each relative to its own largest magnitude. */
static void compare_gradients(const net *n, oct_plan *plan, oct_reference *reference, double tolerance)
{
    for (int32_t i = 0; i < n->graph->node_count; i++) {
        const oct_node *node = n->graph->nodes[i];
        if (node->kind != OCT_NODE_PARAMETER) continue;
        const double *expected = oct_reference_gradient(reference, (oct_value){i});
        double *zero = oct_calloc(node->count, sizeof *zero), largest = 0;
        if (!expected) expected = zero;
        for (size_t k = 0; k < node->count; k++) largest = fmax(largest, fabs(expected[k]));
        const float *found = oct_plan_gradients(plan) + node->offset;
        double error = test_relative_error(found, expected, node->count);
        /* sums of thousands of float terms that cancel: beta and bias in front of batch norm */
        bool ok = largest < 1e-9 ? true : error < tolerance;
        CU_ASSERT_TRUE(ok);
        if (!ok) printf("    %s: relative error %g of %g\n", node->name, error, largest);
        oct_free(zero);
    }
}

static void run_scenario(const scenario *s, unsigned seed)
{
    net n = net_open(2, NULL, seed);
    disturb(n.graph, seed + 1);
    REQUIRE_OK(n.ctx, oct_quantize(n.graph, &s->config, NULL, NULL));
    oct_value outputs[2] = {n.loss, n.logits};
    oct_plan *plan;
    REQUIRE_OK(n.ctx, oct_plan_create(&plan, n.graph, &(oct_plan_options){.batch = BATCH, .mode = OCT_TRAIN, .outputs = outputs, .output_count = 2}));
    uint8_t *pixels = oct_plan_input(plan, n.image);
    int32_t *labels = oct_plan_input(plan, n.label);
    for (int step = 0; step < s->steps; step++) {
        oct_run warm = {.mode = OCT_TRAIN, .seed = 5, .step = (uint64_t)step};
        fill_batch(pixels, labels, BATCH, seed + 10 + (unsigned)step);
        ASSERT_OK(n.ctx, oct_plan_forward(plan, &warm, BATCH));
    }
    oct_reference *reference;
    REQUIRE_OK(n.ctx, oct_reference_create(&reference, n.graph, BATCH));
    fill_batch(pixels, labels, BATCH, seed + 100);
    double *x = oct_reference_input(reference, n.image), *t = oct_reference_input(reference, n.label);
    for (int i = 0; i < BATCH * SIDE * SIDE * 3; i++) x[i] = pixels[i];
    for (int i = 0; i < BATCH; i++) t[i] = labels[i];
    /* Plan and reference then observe ranges a float apart: scales differ in the last place, and a code near a tie may be the
     * other neighbour, after which everything behind it may. */
    bool observes = s->config.profile == OCT_AFFINE && s->run.mode == OCT_TRAIN && !s->run.range_frozen;
    watch w = {.reference = reference, .graph = n.graph, .tolerance = observes ? 0.01 : 0};
    oct_plan_observe(plan, compare_codes, &w);
    ASSERT_OK(n.ctx, oct_reference_forward(reference, &s->run, n.loss));
    ASSERT_OK(n.ctx, oct_plan_forward(plan, &s->run, BATCH));
    CU_ASSERT_TRUE(w.compared > 1000);
    CU_ASSERT_TRUE(observes ? w.differing * 100 < w.compared : w.differing == 0);
    if (w.first && !observes) printf("    %lld of %lld codes differ, first at %s\n", (long long)w.differing, (long long)w.compared, w.first);
    const oct_tensor *logits = oct_plan_tensor(plan, n.logits);
    CU_ASSERT_TRUE(test_relative_error(logits->data, oct_reference_value(reference, n.logits), BATCH * CLASSES) < (observes ? 1e-2 : 1e-6));
    for (int32_t i = 0; i < n.graph->node_count; i++) { /* statistics and ranges moved alike */
        const oct_node *node = n.graph->nodes[i];
        if (node->kind != OCT_NODE_BUFFER) continue;
        bool same = test_relative_error(oct_graph_data(n.graph, (oct_value){i}, NULL),
                                        oct_reference_value(reference, (oct_value){i}), node->count) < (observes ? 2e-2 : 1e-6);
        CU_ASSERT_TRUE(same);
        if (!same) printf("    %s differs\n", node->name);
    }
    if (s->run.mode == OCT_TRAIN) {
        ASSERT_OK(n.ctx, oct_reference_backward(reference, &s->run, n.loss));
        ASSERT_OK(n.ctx, oct_plan_backward(plan, 1));
        compare_gradients(&n, plan, reference, observes ? 5e-2 : 2e-5);
    }
    oct_reference_destroy(reference);
    oct_plan_destroy(plan);
    net_close(&n);
}

static const oct_run live = {.mode = OCT_TRAIN, .seed = 5, .step = 50};

static void fused_live_equals_reference(void)
{
    for (unsigned seed = 1; seed < 5; seed++)
        for (int warm = 0; warm < 3; warm += 2) run_scenario(&(scenario){OCT_QCONFIG_DEFAULT, live, warm}, seed * 100);
}

static void fused_running_fold_equals_reference(void)
{
    run_scenario(&(scenario){{.shrink = -1, .fold = OCT_FOLD_RUNNING}, live, 2}, 500);
}

static void fused_per_channel_equals_reference(void)
{
    run_scenario(&(scenario){{.shrink = 1, .per_channel = OCT_PER_CHANNEL_ALL}, live, 2}, 600);
    run_scenario(&(scenario){{.shrink = 0, .per_channel = OCT_PER_CHANNEL_DEPTHWISE}, live, 1}, 700);
}

static void fused_frozen_equals_reference(void)
{
    oct_run frozen = live;
    frozen.bn_frozen = 1;
    run_scenario(&(scenario){OCT_QCONFIG_DEFAULT, frozen, 2}, 800);
    frozen.range_frozen = 1;
    run_scenario(&(scenario){OCT_QCONFIG_DEFAULT, frozen, 2}, 900);
    run_scenario(&(scenario){{.shrink = -1, .quantize_output = true, .drop_caps = true}, frozen, 2}, 950);
}

static void fused_evaluation_equals_reference(void)
{
    run_scenario(&(scenario){OCT_QCONFIG_DEFAULT, {.mode = OCT_EVAL}, 2}, 1000);
}

/* Profile affine: live and frozen, each rounding, per channel and per tensor, both ways to average. */
static void fused_affine_equals_reference(void)
{
    oct_qconfig config = OCT_QCONFIG_AFFINE;
    oct_run frozen = live;
    for (unsigned seed = 1; seed < 4; seed++)
        for (int warm = 0; warm < 3; warm += 2) run_scenario(&(scenario){config, live, warm}, 1100 + seed * 10);
    frozen.range_frozen = 1;
    for (unsigned seed = 1; seed < 4; seed++) run_scenario(&(scenario){config, frozen, 2}, 1100 + seed * 10);
    frozen.bn_frozen = 1;
    for (int rounding = OCT_INT8_ROUND_FLOAT; rounding <= OCT_INT8_ROUND_DOUBLE; rounding++) {
        config.rounding = (oct_int8_rounding)rounding;
        frozen.range_frozen = 0;
        run_scenario(&(scenario){config, frozen, 2}, 1200 + (unsigned)rounding);
        frozen.range_frozen = 1;
        run_scenario(&(scenario){config, frozen, 2}, 1300 + (unsigned)rounding);
        run_scenario(&(scenario){config, {.mode = OCT_EVAL}, 2}, 1400 + (unsigned)rounding);
    }
    config.per_channel = OCT_PER_TENSOR;
    config.averaging = OCT_AVERAGING_PACT2;
    config.fold = OCT_FOLD_RUNNING;
    frozen.bn_frozen = 0;
    run_scenario(&(scenario){config, live, 2}, 1500);
    run_scenario(&(scenario){config, frozen, 2}, 1570);
    config.quantize_output = config.drop_caps = true;
    run_scenario(&(scenario){config, frozen, 2}, 1600);
}

/* The exported model against the reference, at every level this machine has. */
static void check_export(const oct_qconfig *config)
{
    net n = net_open(2, NULL, 77);
    disturb(n.graph, 78);
    REQUIRE_OK(n.ctx, oct_quantize(n.graph, config, NULL, NULL));
    oct_value outputs[1] = {n.loss};
    oct_plan *plan;
    REQUIRE_OK(n.ctx, oct_plan_create(&plan, n.graph, &(oct_plan_options){.batch = BATCH, .mode = OCT_TRAIN, .outputs = outputs, .output_count = 1}));
    oct_exported *exported = NULL;
    CU_ASSERT_EQUAL(oct_export_create(&exported, n.graph, n.image, n.logits, &(oct_export_options){0}), OCT_ERR_STATE);
    CU_ASSERT_PTR_NOT_NULL(strstr(n.ctx->error.message, "never saw data"));
    oct_error_clear(&n.ctx->error);
    for (int step = 0; step < 3; step++) {
        oct_run warm = {.mode = OCT_TRAIN, .seed = 5, .step = (uint64_t)step};
        fill_batch(oct_plan_input(plan, n.image), oct_plan_input(plan, n.label), BATCH, 60 + (unsigned)step);
        ASSERT_OK(n.ctx, oct_plan_forward(plan, &warm, BATCH));
    }
    REQUIRE_OK(n.ctx, oct_export_create(&exported, n.graph, n.image, n.logits, &(oct_export_options){0}));
    uint8_t *bytes = NULL;
    size_t size = 0;
    REQUIRE_OK(n.ctx, oct_int8_image_write(&bytes, &size, oct_exported_spec(exported), &n.ctx->error));
    uint8_t pixels[BATCH * SIDE * SIDE * 3];
    int32_t labels[BATCH];
    for (int level = 0; oct_cpu_level_name(level); level++) {
        uint32_t mask;
        if (oct_cpu_parse(&mask, oct_cpu_level_name(level), NULL) != OCT_OK || mask & ~oct_cpu_detect()) continue;
        oct_int8_model *model;
        REQUIRE_OK(n.ctx, oct_int8_open(&model, bytes, size, &(oct_int8_options){.cpu = oct_cpu_level_name(level)}, &n.ctx->error));
        oct_verifier *v;
        REQUIRE_OK(n.ctx, oct_verifier_create(&v, n.graph, n.image, n.logits, model, BATCH));
        for (int i = 0; i < 4; i++) {
            fill_batch(pixels, labels, BATCH - i, 200 + (unsigned)i);
            ASSERT_OK(n.ctx, oct_verifier_add(v, pixels, BATCH - i));
        }
        const oct_verify_result *r = oct_verifier_result(v);
        CU_ASSERT_EQUAL(r->codes_differing, 0);
        CU_ASSERT_EQUAL(r->outputs_identical, r->images);
        CU_ASSERT_TRUE(r->codes_compared > 10000);
        CU_ASSERT_EQUAL(r->rounding_compared > 0, config->profile == OCT_AFFINE);
        CU_ASSERT_TRUE(r->rounding_most <= 1);
        if (config->rounding != OCT_INT8_ROUND_DOUBLE) CU_ASSERT_TRUE(r->rounding_differing * 10000 <= r->rounding_compared);
        if (r->first_tensor) printf("    %s: first difference in %s\n", oct_cpu_level_name(level), r->first_tensor);
        oct_verifier_destroy(v);
        oct_int8_close(model);
    }
    oct_free(bytes);
    oct_export_destroy(exported);
    oct_plan_destroy(plan);
    net_close(&n);
}

static void export_verify_no_code_differs(void)
{
    oct_qconfig affine = OCT_QCONFIG_AFFINE;
    check_export(&(oct_qconfig){.shrink = -1, .per_channel = OCT_PER_CHANNEL_DEPTHWISE});
    for (int rounding = OCT_INT8_ROUND_FLOAT; rounding <= OCT_INT8_ROUND_DOUBLE; rounding++) {
        affine.rounding = (oct_int8_rounding)rounding;
        affine.quantize_output = rounding == OCT_INT8_ROUND_SINGLE;
        check_export(&affine);
    }
}

static void count_line(void *user, const char *text)
{
    (void)text;
    ++*(int *)user;
}

/* T22: where points are and are not; a second run adds none. */
static void insertion_points_are_where_the_rules_put_them(void)
{
    net n = net_open(1, NULL, 3);
    int lines = 0;
    REQUIRE_OK(n.ctx, oct_quantize(n.graph, &OCT_QCONFIG_DEFAULT, count_line, &lines));
    static const char *const with[] = {"normalize", "stem/relu", "a/relu6", "b/bn", "add1", "c/relu", "d/bn", "short",
                                       "add2/relu", "avgpool", "concat", "e", "gate/relu", "mul", "pool", "hidden/relu"};
    static const char *const without[] = {"stem", "stem/bn", "a", "add2", "maxpool", "hidden", "head", "d", "gate"};
    char name[64];
    for (size_t i = 0; i < sizeof with / sizeof with[0]; i++) {
        snprintf(name, sizeof name, "%s/quant", with[i]);
        CU_ASSERT_TRUE(oct_graph_find(n.graph, name).id >= 0);
    }
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        snprintf(name, sizeof name, "%s/quant", without[i]);
        CU_ASSERT_TRUE(oct_graph_find(n.graph, name).id < 0);
    }
    CU_ASSERT_EQUAL(oct_quantize_points(n.graph), (int)(sizeof with / sizeof with[0]));
    CU_ASSERT_TRUE(lines > 20);
    CU_ASSERT_TRUE(oct_graph_find(n.graph, "head/weight_quant").id >= 0); /* T8b */
    CU_ASSERT_TRUE(oct_graph_find(n.graph, "head/bias_quant").id >= 0);
    int32_t nodes = n.graph->node_count;
    ASSERT_OK(n.ctx, oct_quantize(n.graph, &OCT_QCONFIG_DEFAULT, NULL, NULL));
    CU_ASSERT_EQUAL(n.graph->node_count, nodes);
    CU_ASSERT_PTR_NOT_NULL(oct_quantize_unobserved(n.graph)); /* T40 */
    net_close(&n);
}

/* T9: the same weights with quantization off give the float network's loss, bit for bit. */
static void dequantized_graph_equals_the_float_graph(void)
{
    float loss[2];
    for (int quantize = 0; quantize < 2; quantize++) {
        net n = net_open(2, NULL, 11);
        disturb(n.graph, 12);
        if (quantize) {
            REQUIRE_OK(n.ctx, oct_quantize(n.graph, &OCT_QCONFIG_DEFAULT, NULL, NULL));
            REQUIRE_OK(n.ctx, oct_dequantize_graph(n.graph));
        }
        oct_value outputs[1] = {n.loss};
        oct_plan *plan;
        REQUIRE_OK(n.ctx, oct_plan_create(&plan, n.graph, &(oct_plan_options){.batch = BATCH, .mode = OCT_EVAL, .no_fuse = true, .outputs = outputs, .output_count = 1}));
        fill_batch(oct_plan_input(plan, n.image), oct_plan_input(plan, n.label), BATCH, 5);
        oct_run run = {.mode = OCT_EVAL};
        ASSERT_OK(n.ctx, oct_plan_forward(plan, &run, BATCH));
        loss[quantize] = *(const float *)oct_plan_tensor(plan, n.loss)->data;
        oct_plan_destroy(plan);
        net_close(&n);
    }
    CU_ASSERT_TRUE(isfinite(loss[0]));
    CU_ASSERT_EQUAL(memcmp(&loss[0], &loss[1], sizeof loss[0]), 0);
}

/* OCT_FUSE=0: the same plan on the reference executor gives the same loss, gradients, statistics and ranges. */
static void unfused_plan_runs_on_the_reference(void)
{
    float loss[2], *gradients[2], *buffers[2];
    size_t params = 0, state = 0;
    for (int fused = 0; fused < 2; fused++) {
        net n = net_open(2, NULL, 31);
        disturb(n.graph, 32);
        REQUIRE_OK(n.ctx, oct_quantize(n.graph, &OCT_QCONFIG_DEFAULT, NULL, NULL));
        oct_value outputs[2] = {n.loss, n.logits};
        oct_plan *plan;
        REQUIRE_OK(n.ctx, oct_plan_create(&plan, n.graph, &(oct_plan_options){.batch = BATCH, .mode = OCT_TRAIN, .no_fuse = !fused, .outputs = outputs, .output_count = 2}));
        fill_batch(oct_plan_input(plan, n.image), oct_plan_input(plan, n.label), BATCH, 5);
        ASSERT_OK(n.ctx, oct_plan_forward(plan, &live, BATCH - 1));
        ASSERT_OK(n.ctx, oct_plan_backward(plan, 0.5f));
        loss[fused] = *(const float *)oct_plan_tensor(plan, n.loss)->data;
        params = n.graph->params.count;
        state = n.graph->buffers.count;
        gradients[fused] = oct_alloc(params, sizeof(float));
        buffers[fused] = oct_alloc(state, sizeof(float));
        memcpy(gradients[fused], oct_plan_gradients(plan), params * sizeof(float));
        memcpy(buffers[fused], n.graph->buffers.data, state * sizeof(float));
        oct_plan_destroy(plan);
        net_close(&n);
    }
    CU_ASSERT_TRUE(fabsf(loss[0] - loss[1]) < 1e-6f * fabsf(loss[1]));
    CU_ASSERT_TRUE(test_relative_error_f32(gradients[0], gradients[1], params) < 1e-5);
    CU_ASSERT_EQUAL(memcmp(buffers[0], buffers[1], state * sizeof(float)), 0);
    for (int i = 0; i < 2; i++) {
        oct_free(gradients[i]);
        oct_free(buffers[i]);
    }
}

/* T39: the same bytes for any thread count and on every level. */
static void quantized_step_is_the_same_for_any_thread_count(void)
{
    float *first = NULL;
    size_t count = 0;
    for (int threads = 1; threads <= 3; threads++) {
        net n = net_open(threads, NULL, 21);
        REQUIRE_OK(n.ctx, oct_quantize(n.graph, &OCT_QCONFIG_DEFAULT, NULL, NULL));
        oct_value outputs[1] = {n.loss};
        oct_plan *plan;
        REQUIRE_OK(n.ctx, oct_plan_create(&plan, n.graph, &(oct_plan_options){.batch = BATCH, .mode = OCT_TRAIN, .outputs = outputs, .output_count = 1}));
        fill_batch(oct_plan_input(plan, n.image), oct_plan_input(plan, n.label), BATCH, 9);
        ASSERT_OK(n.ctx, oct_plan_forward(plan, &live, BATCH));
        ASSERT_OK(n.ctx, oct_plan_backward(plan, 1));
        count = n.graph->params.count;
        if (!first) {
            first = oct_alloc(count, sizeof *first);
            memcpy(first, oct_plan_gradients(plan), count * sizeof *first);
        }
        CU_ASSERT_EQUAL(memcmp(first, oct_plan_gradients(plan), count * sizeof *first), 0);
        oct_plan_destroy(plan);
        net_close(&n);
    }
    oct_free(first);
}

typedef oct_value small_builder(oct_graph *g, oct_value x);

static oct_value clipped_input(oct_graph *g, oct_value x)
{
    return oct_conv2d(g, "conv", oct_clip(g, "clip", x, 0.5f, 1.0f), (oct_conv2d_opts){.filters = 3, .kernel = {3, 3}, .padding = OCT_SAME});
}

static oct_value two_activations(oct_graph *g, oct_value x)
{
    x = oct_conv2d(g, "conv", x, (oct_conv2d_opts){.filters = 3, .kernel = {3, 3}, .padding = OCT_SAME});
    return oct_relu6(g, "relu6", oct_relu(g, "relu", x));
}

static oct_value dropped(oct_graph *g, oct_value x)
{
    x = oct_dropout(g, "drop", oct_relu(g, "relu", oct_conv2d(g, "conv", x, (oct_conv2d_opts){.filters = 3, .kernel = {1, 1}})), 0.5f);
    return oct_add(g, "twice", x, x);
}

static oct_value norm_at_the_end(oct_graph *g, oct_value x)
{
    return bn(g, "norm", oct_conv2d(g, "conv", oct_max_pool(g, "max2", oct_max_pool(g, "max1", x, (oct_pool_opts){.kernel = {2, 2}, .stride = {1, 1}}), (oct_pool_opts){.kernel = {2, 2}, .stride = {2, 2}}), (oct_conv2d_opts){.filters = 3, .kernel = {3, 3}, .padding = OCT_SAME}));
}

/* Shapes of graphs that are easy to get wrong: what is trained is what is exported. */
static void export_of_unusual_graphs_gives_the_same_codes(void)
{
    static small_builder *const builders[] = {clipped_input, two_activations, dropped, norm_at_the_end};
    const oct_qconfig configs[2] = {OCT_QCONFIG_DEFAULT, OCT_QCONFIG_AFFINE};
    for (size_t b = 0; b < 2 * sizeof builders / sizeof builders[0]; b++) {
        net n = {.ctx = test_ctx_with(2, NULL)};
        REQUIRE_OK(n.ctx, oct_graph_create(&n.graph, n.ctx, 5));
        n.image = oct_input(n.graph, "image", OCT_U8, OCT_SHAPE(OCT_BATCH, SIDE, SIDE, 3));
        oct_value x = oct_normalize(n.graph, "normalize", n.image, (oct_normalize_attrs){{120, 110, 100, 0}, {0.017f, 0.018f, 0.016f, 1}});
        x = oct_flatten(n.graph, "flat", builders[b / 2](n.graph, x));
        n.logits = oct_linear(n.graph, "head", x, (oct_linear_opts){.outputs = CLASSES});
        n.label = oct_labels(n.graph, "label");
        n.loss = oct_softmax_cross_entropy(n.graph, "loss", n.logits, n.label, (oct_cross_entropy_attrs){.ignore = -1});
        REQUIRE_OK(n.ctx, oct_quantize(n.graph, &configs[b % 2], NULL, NULL));
        oct_plan *plan;
        REQUIRE_OK(n.ctx, oct_plan_create(&plan, n.graph, &(oct_plan_options){.batch = BATCH, .mode = OCT_TRAIN, .outputs = &n.loss, .output_count = 1}));
        for (int step = 0; step < 3; step++) {
            oct_run warm = {.mode = OCT_TRAIN, .seed = 5, .step = (uint64_t)step};
            fill_batch(oct_plan_input(plan, n.image), oct_plan_input(plan, n.label), BATCH, 60 + (unsigned)step);
            ASSERT_OK(n.ctx, oct_plan_forward(plan, &warm, BATCH));
            ASSERT_OK(n.ctx, oct_plan_backward(plan, 1));
        }
        oct_exported *exported;
        REQUIRE_OK(n.ctx, oct_export_create(&exported, n.graph, n.image, n.logits, &(oct_export_options){0}));
        uint8_t *bytes = NULL, pixels[BATCH * SIDE * SIDE * 3];
        int32_t labels[BATCH];
        size_t size = 0;
        REQUIRE_OK(n.ctx, oct_int8_image_write(&bytes, &size, oct_exported_spec(exported), &n.ctx->error));
        oct_int8_model *model;
        REQUIRE_OK(n.ctx, oct_int8_open(&model, bytes, size, NULL, &n.ctx->error));
        oct_verifier *v;
        REQUIRE_OK(n.ctx, oct_verifier_create(&v, n.graph, n.image, n.logits, model, BATCH));
        fill_batch(pixels, labels, BATCH, 400);
        ASSERT_OK(n.ctx, oct_verifier_add(v, pixels, BATCH));
        CU_ASSERT_EQUAL(oct_verifier_result(v)->codes_differing, 0);
        CU_ASSERT_TRUE(oct_verifier_result(v)->codes_compared > 1000);
        oct_verifier_destroy(v);
        oct_int8_close(model);
        oct_free(bytes);
        oct_export_destroy(exported);
        oct_plan_destroy(plan);
        net_close(&n);
    }
}

/* What the exporter could not express is refused at insertion, and the half-rewritten graph stays refused. */
static void quantize_op_without_integer_form_is_refused(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    oct_value x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 4, 4, 2)), three[3] = {x, x, x};
    oct_value sum = oct_op_append(g, &oct_op_add, "sum3", NULL, three, 3);
    CU_ASSERT_EQUAL(oct_quantize(g, &OCT_QCONFIG_DEFAULT, NULL, NULL), OCT_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "sum3"));
    CU_ASSERT_NOT_EQUAL(oct_quantize(g, &OCT_QCONFIG_DEFAULT, NULL, NULL), OCT_OK);
    (void)sum;
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void backward_of_a_loss_without_parameters_is_refused(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    oct_value x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 4));
    oct_value loss = oct_mean_squared_error(g, "loss", oct_relu(g, "relu", x), x);
    oct_plan *plan;
    REQUIRE_OK(ctx, oct_plan_create(&plan, g, &(oct_plan_options){.batch = 1, .mode = OCT_TRAIN, .outputs = &loss, .output_count = 1}));
    CU_ASSERT_PTR_NOT_NULL(oct_plan_input(plan, x));
    oct_run run = {.mode = OCT_TRAIN};
    ASSERT_OK(ctx, oct_plan_forward(plan, &run, 1));
    CU_ASSERT_EQUAL(oct_plan_backward(plan, 1), OCT_ERR_STATE);
    oct_plan_destroy(plan);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void quantize_norm_of_features_without_a_layer_is_refused(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    oct_value x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 4));
    bn(g, "lonely", x);
    CU_ASSERT_EQUAL(oct_quantize(g, &OCT_QCONFIG_DEFAULT, NULL, NULL), OCT_ERR_UNSUPPORTED);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "lonely"));
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static const test_case cases[] = {
    {"T22_insertion_points_are_where_the_rules_put_them", insertion_points_are_where_the_rules_put_them},
    {"T9_dequantized_graph_equals_the_float_graph", dequantized_graph_equals_the_float_graph},
    {"fused_live_equals_reference", fused_live_equals_reference},
    {"fused_running_fold_equals_reference", fused_running_fold_equals_reference},
    {"fused_per_channel_equals_reference", fused_per_channel_equals_reference},
    {"fused_frozen_equals_reference", fused_frozen_equals_reference},
    {"fused_evaluation_equals_reference", fused_evaluation_equals_reference},
    {"fused_affine_equals_reference", fused_affine_equals_reference},
    {"export_verify_no_code_differs", export_verify_no_code_differs},
    {"unfused_plan_runs_on_the_reference", unfused_plan_runs_on_the_reference},
    {"T39_quantized_step_is_the_same_for_any_thread_count", quantized_step_is_the_same_for_any_thread_count},
    {"export_of_unusual_graphs_gives_the_same_codes", export_of_unusual_graphs_gives_the_same_codes},
    {"quantize_op_without_integer_form_is_refused", quantize_op_without_integer_form_is_refused},
    {"backward_of_a_loss_without_parameters_is_refused", backward_of_a_loss_without_parameters_is_refused},
    {"quantize_norm_of_features_without_a_layer_is_refused", quantize_norm_of_features_without_a_layer_is_refused},
};
TEST_SUITE("quantize", cases);
