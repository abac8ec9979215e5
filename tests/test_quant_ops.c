/* SPDX-License-Identifier: BSD-2-Clause
 * Every op beyond convolutions and their blocks, quantized: fused training and evaluation against the node-by-node double
 * reference (codes, ranges, gradients), and the exported model in the engine against the same, on every level. */
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
#include "quant/export.h"
#include "quant/int8/image.h"
#include "quant/int8_file.h"
#include "quant/pass.h"
#include "quant/quantize.h"
#include "quant/verify.h"
#include "tests/testing.h"

enum { BATCH = 4, HEIGHT = 7, WIDTH = 6, CHANNELS = 8 };

/* image -> normalize -> 3x3 convolution (signed codes) -> body -> head, if the body wants one */
typedef oct_value body_fn(oct_graph *g, oct_value x, const void *options);

typedef struct body {
    const char *name;
    body_fn *build;
    const void *options;
    bool no_head;         /* the body's value is the network's output */
    const char *engine;   /* an operator that the exported model must hold */
} body;

typedef struct net {
    oct_ctx *ctx;
    oct_graph *graph;
    oct_value image, target, out, loss;
} net;

static oct_value head(oct_graph *g, oct_value x)
{
    if (oct_graph_node(g, x)->shape.rank != 2) x = oct_flatten(g, "flatten", x);
    return oct_linear(g, "head", x, (oct_linear_opts){.outputs = 5});
}

static net net_open(const body *b, int threads, const char *cpu, unsigned seed)
{
    net n = {.ctx = test_ctx_with(threads, cpu)};
    CU_ASSERT_EQUAL_FATAL(oct_graph_create(&n.graph, n.ctx, seed), OCT_OK);
    oct_graph *g = n.graph;
    n.image = oct_input(g, "image", OCT_U8, OCT_SHAPE(OCT_BATCH, HEIGHT, WIDTH, 3));
    oct_value x = oct_normalize(g, "normalize", n.image,
                                (oct_normalize_attrs){{120, 110, 100, 0}, {0.02f, 0.018f, 0.016f, 1}});
    x = oct_conv2d(g, "stem", x, (oct_conv2d_opts){.filters = CHANNELS, .kernel = {3, 3}, .padding = OCT_SAME});
    x = b->build(g, x, b->options);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n.ctx->error, oct_graph_status(g), b->name));
    n.out = b->no_head ? x : head(g, x);
    const oct_node *out = oct_graph_node(g, n.out);
    n.loss = n.out;
    if (out->dtype == OCT_F32) {
        n.target = oct_input(g, "target", OCT_F32, out->shape);
        n.loss = oct_mean_squared_error(g, "loss", n.out, n.target);
    }
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n.ctx->error, oct_graph_status(g), b->name));
    return n;
}

static void net_close(net *n)
{
    oct_graph_destroy(n->graph);
    oct_ctx_destroy(n->ctx);
}

static void fill_pixels(uint8_t *pixels, int count, unsigned seed)
{
    oct_rng rng = oct_rng_start(seed, OCT_RNG_SYNTHETIC, 0, 0);
    for (int i = 0; i < count * HEIGHT * WIDTH * 3; i++) pixels[i] = (uint8_t)oct_rng_below(&rng, 256);
}

static bool trains(const net *n)
{
    return n->loss.id != n->out.id;
}

static oct_plan *make_plan(const net *n)
{
    oct_plan *plan = NULL;
    oct_value outputs[2] = {n->loss, n->out};
    oct_plan_options options = {.batch = BATCH, .mode = trains(n) ? OCT_TRAIN : OCT_EVAL, .outputs = outputs,
                                .output_count = 2};
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n->ctx->error, oct_plan_create(&plan, n->graph, &options), "plan"));
    return plan;
}

static void fill_plan(const net *n, oct_plan *plan, unsigned seed)
{
    fill_pixels(oct_plan_input(plan, n->image), BATCH, seed);
    float *target = trains(n) ? oct_plan_input(plan, n->target) : NULL;
    size_t count = oct_shape_sample(&oct_graph_node(n->graph, n->out)->shape) * BATCH;
    for (size_t i = 0; target && i < count; i++) target[i] = 0.1f * (float)(i % 7) - 0.2f;
}

/* Ranges see a few batches; a network that only evaluates gets them from its training twin. */
static void warm_up(const net *n, int steps)
{
    oct_plan *plan = NULL;
    oct_value outputs[1] = {n->loss};
    if (!trains(n)) return;
    oct_plan_options options = {.batch = BATCH, .mode = OCT_TRAIN, .outputs = outputs, .output_count = 1};
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n->ctx->error, oct_plan_create(&plan, n->graph, &options), "plan"));
    for (int step = 0; step < steps; step++) {
        fill_plan(n, plan, 40 + (unsigned)step);
        ASSERT_OK(n->ctx, oct_plan_forward(plan, &(oct_run){.mode = OCT_TRAIN, .seed = 5, .step = (uint64_t)step}, BATCH));
    }
    oct_plan_destroy(plan);
}

/* Both profiles, and each rounding of the second. */
typedef struct variant {
    const char *name;
    oct_profile profile;
    oct_int8_rounding rounding;
} variant;
static const variant variants[] = {
    {"po2", OCT_PO2, OCT_INT8_ROUND_SHIFT},
    {"affine, float", OCT_AFFINE, OCT_INT8_ROUND_FLOAT},
    {"affine, single", OCT_AFFINE, OCT_INT8_ROUND_SINGLE},
    {"affine, double", OCT_AFFINE, OCT_INT8_ROUND_DOUBLE},
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

typedef struct watch {
    oct_reference *reference;
    /* Live ranges of profile affine: sums and products are rounded to float before they are observed, so that the last bit
     * of a scale may differ, and codes of values that lie halfway (such as half the largest) by one. */
    bool rounded;
    int64_t neighbours;
    int64_t compared, differing;
    const char *first;
} watch;

static oct_status compare_codes(void *user, const oct_node *node, const oct_tensor *t, int batch)
{
    watch *w = user;
    if (t->storage != OCT_STORE_U8 || !t->on_grid) return OCT_OK;
    const double *expected = oct_reference_value(w->reference, (oct_value){node->id});
    for (size_t i = 0; i < t->sample * (size_t)batch; i++) {
        double code = t->is_signed ? (double)((const int8_t *)t->data)[i] : (double)((const uint8_t *)t->data)[i];
        double value = (code - t->zero_point) * (double)t->scale;
        double error = fabs(value - expected[i]) / (double)t->scale;
        bool neighbour = w->rounded && error > 0.01 && error < 1.01, differs = w->rounded ? error >= 1.01 : error > 0;
        w->neighbours += neighbour;
        if (differs && !w->first) w->first = node->name;
        w->differing += differs;
        w->compared++;
    }
    return OCT_OK;
}

static void compare_gradients(const net *n, oct_plan *plan, oct_reference *reference, double tolerance)
{
    for (int32_t i = 0; i < n->graph->node_count; i++) {
        const oct_node *node = n->graph->nodes[i];
        const double *expected = oct_reference_gradient(reference, (oct_value){i});
        if (node->kind != OCT_NODE_PARAMETER || !expected) continue;
        double error = test_relative_error(oct_plan_gradients(plan) + node->offset, expected, node->count), largest = 0;
        for (size_t k = 0; k < node->count; k++) largest = fmax(largest, fabs(expected[k]));
        bool ok = largest < 1e-9 || error < tolerance;
        CU_ASSERT_TRUE(ok);
        if (!ok) printf("    %s: relative error %g of %g\n", node->name, error, largest);
    }
}

/* Sums of 0 that the reference misses by a hair, since profile affine rounds its products: a ReLU's gradient falls the other
 * way there. */
static bool misses_zeros(const net *n, oct_reference *reference)
{
    for (int32_t i = 0; i < n->graph->node_count; i++) {
        const oct_node *node = n->graph->nodes[i];
        if (node->op != &oct_op_conv2d) continue;
        const double *y = oct_reference_value(reference, (oct_value){i});
        for (size_t k = 0; k < BATCH * oct_shape_sample(&node->shape); k++)
            if (y[k] != 0 && fabs(y[k]) < 1e-12) return true;
    }
    return false;
}

static void compare_with_reference(const net *n, const variant *v, const oct_run *run)
{
    oct_plan *plan = make_plan(n);
    oct_reference *reference;
    REQUIRE_OK(n->ctx, oct_reference_create(&reference, n->graph, BATCH));
    fill_plan(n, plan, 99);
    const uint8_t *pixels = oct_plan_input(plan, n->image);
    for (int i = 0; i < BATCH * HEIGHT * WIDTH * 3; i++) oct_reference_input(reference, n->image)[i] = pixels[i];
    size_t count = oct_shape_sample(&oct_graph_node(n->graph, n->out)->shape) * BATCH;
    const float *target = oct_plan_input(plan, n->target);
    for (size_t i = 0; i < count; i++) oct_reference_input(reference, n->target)[i] = (double)target[i];
    watch w = {.reference = reference, .rounded = v->profile == OCT_AFFINE && run->mode == OCT_TRAIN && !run->range_frozen};
    oct_plan_observe(plan, compare_codes, &w);
    ASSERT_OK(n->ctx, oct_reference_forward(reference, run, n->loss));
    ASSERT_OK(n->ctx, oct_plan_forward(plan, run, BATCH));
    CU_ASSERT_TRUE(w.compared > 100);
    CU_ASSERT_EQUAL(w.differing, 0);
    CU_ASSERT_TRUE(w.neighbours <= w.compared / 100);
    if (w.first) printf("    %lld of %lld codes differ, first at %s\n", (long long)w.differing, (long long)w.compared, w.first);
    for (int32_t i = 0; i < n->graph->node_count; i++) {
        const oct_node *node = n->graph->nodes[i];
        if (node->kind != OCT_NODE_BUFFER) continue;
        CU_ASSERT_TRUE(test_relative_error(oct_graph_data(n->graph, (oct_value){i}, NULL),
                                           oct_reference_value(reference, (oct_value){i}), node->count) < 1e-6);
    }
    if (run->mode == OCT_TRAIN) {
        ASSERT_OK(n->ctx, oct_reference_backward(reference, run, n->loss));
        ASSERT_OK(n->ctx, oct_plan_backward(plan, 1));
        compare_gradients(n, plan, reference, w.neighbours || misses_zeros(n, reference) ? 5e-2 : 2e-5);
    }
    oct_reference_destroy(reference);
    oct_plan_destroy(plan);
}

/* The exported model, also after a way through HDF5, against the reference. */
static void verify_engine(const net *n, const body *b)
{
    oct_exported *exported = NULL;
    REQUIRE_OK(n->ctx, oct_export_create(&exported, n->graph, n->image, n->out, &(oct_export_options){0}));
    const oct_int8_spec *spec = oct_exported_spec(exported);
    bool found = false;
    for (int i = 0; i < spec->layer_count; i++) found |= !strcmp(oct_int8_op_name(spec->layers[i].op), b->engine);
    CU_ASSERT_TRUE(found);
    uint8_t *bytes = NULL;
    size_t size = 0;
    REQUIRE_OK(n->ctx, oct_int8_image_write(&bytes, &size, spec, &n->ctx->error));
    uint8_t pixels[BATCH * HEIGHT * WIDTH * 3];
    for (int level = 0; oct_cpu_level_name(level); level++) {
        uint32_t mask;
        if (oct_cpu_parse(&mask, oct_cpu_level_name(level), NULL) != OCT_OK || mask & ~oct_cpu_detect()) continue;
        oct_int8_model *model;
        REQUIRE_OK(n->ctx, oct_int8_open(&model, bytes, size, &(oct_int8_options){.cpu = oct_cpu_level_name(level)}, &n->ctx->error));
        oct_verifier *v;
        REQUIRE_OK(n->ctx, oct_verifier_create(&v, n->graph, n->image, n->out, model, BATCH));
        for (unsigned i = 0; i < 3; i++) {
            fill_pixels(pixels, BATCH, 200 + i);
            ASSERT_OK(n->ctx, oct_verifier_add(v, pixels, BATCH));
        }
        const oct_verify_result *r = oct_verifier_result(v);
        CU_ASSERT_EQUAL(r->codes_differing, 0);
        if (r->first_tensor) printf("    %s: first difference in %s\n", oct_cpu_level_name(level), r->first_tensor);
        oct_verifier_destroy(v);
        oct_int8_close(model);
    }
    oct_free(bytes);
    oct_export_destroy(exported);
}

static void quantize(const net *n, const variant *v)
{
    oct_qconfig config = OCT_QCONFIG_DEFAULT;
    config.profile = v->profile;
    config.rounding = v->rounding;
    REQUIRE_OK(n->ctx, oct_quantize(n->graph, &config, NULL, NULL));
}

static void check_variant(const body *b, const variant *v)
{
    unsigned before = CU_get_number_of_failures();
    static const oct_run live = {.mode = OCT_TRAIN, .seed = 5, .step = 50}, evaluation = {.mode = OCT_EVAL};
    static const oct_run frozen = {.mode = OCT_TRAIN, .seed = 5, .step = 50, .bn_frozen = 1, .range_frozen = 1};
    for (int steps = 0; steps <= 3; steps += 3) {
        net n = net_open(b, 2, NULL, 7);
        quantize(&n, v);
        warm_up(&n, steps);
        if (trains(&n)) compare_with_reference(&n, v, &live);
        if (trains(&n) && steps) compare_with_reference(&n, v, &evaluation);
        if (trains(&n) && steps) compare_with_reference(&n, v, &frozen);
        if (trains(&n)) verify_engine(&n, b);
        net_close(&n);
    }
    if (CU_get_number_of_failures() != before) printf("    body %s, %s\n", b->name, v->name);
}

static void check_body(const body *b)
{
    for (int v = 0; v < VARIANTS; v++) check_variant(b, &variants[v]);
}

static void check_bodies(const body *bodies, size_t count)
{
    for (size_t i = 0; i < count; i++) check_body(&bodies[i]);
}
#define CHECK_BODIES(bodies) check_bodies(bodies, sizeof(bodies) / sizeof(bodies)[0])

/* --- functions of one code --- */

static oct_value unary_body(oct_graph *g, oct_value x, const void *options)
{
    return oct_unary_layer(g, "f", *(const oct_unary *)options, x, 0.3f);
}

static void functions_of_one_code_equal_the_reference(void)
{
    for (int f = 0; f < OCT_UNARY_COUNT; f++) {
        oct_unary function = (oct_unary)f;
        check_body(&(body){.name = oct_unary_ops[f].name, .build = unary_body, .options = &function, .engine = "lookup"});
    }
}

/* Behind a convolution with batch norm and behind each other, on unsigned codes, with an activation behind. */
static oct_value chain_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    x = oct_conv2d(g, "c", x, (oct_conv2d_opts){.filters = 4, .kernel = {3, 3}, .padding = OCT_SAME, .no_bias = true});
    x = oct_hard_swish(g, "swish", oct_batch_norm(g, "bn", x, oct_batch_norm_defaults()));
    oct_value gate = oct_sigmoid(g, "gate", oct_mul_scalar(g, "scaled", x, -1.5f));
    x = oct_mul(g, "gated", x, gate);
    return oct_relu(g, "relu", oct_add_scalar(g, "shift", x, -0.1f));
}

static oct_value prelu_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    x = oct_prelu(g, "prelu", x);
    size_t count;
    float *slope = oct_graph_data(g, oct_graph_find(g, "prelu/slope"), &count);
    for (size_t i = 0; i < count; i++) slope[i] = 0.2f * (float)i - 0.5f;
    return x;
}

static oct_value sub_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    oct_value y = oct_conv2d(g, "c", x, (oct_conv2d_opts){.filters = CHANNELS, .kernel = {1, 1}});
    y = oct_relu(g, "c/relu", y);
    x = oct_relu(g, "d/relu", oct_sub(g, "d", x, y));
    return oct_sub(g, "e", y, x);
}

/* Exponents 30 apart: sums of two codes leave the 24 bits of a float. */
static oct_value far_sub_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    return oct_sub(g, "d", x, oct_mul_scalar(g, "small", x, 1e-6f));
}

static void activations_and_differences_equal_the_reference(void)
{
    static const body bodies[] = {
        {.name = "chain", .build = chain_body, .engine = "lookup"},
        {.name = "prelu", .build = prelu_body, .engine = "lookup"},
        {.name = "sub", .build = sub_body, .engine = "sub"},
        {.name = "far sub", .build = far_sub_body, .engine = "sub"},
    };
    CHECK_BODIES(bodies);
}

/* --- ops that pass codes --- */

static oct_value pad_body(oct_graph *g, oct_value x, const void *options)
{
    return oct_pad(g, "pad", x, *(const oct_pad_attrs *)options);
}

static oct_value slice_body(oct_graph *g, oct_value x, const void *options)
{
    return oct_slice(g, "slice", x, *(const oct_slice_attrs *)options);
}

static oct_value resize_body(oct_graph *g, oct_value x, const void *options)
{
    const oct_resize_attrs *a = options;
    bool bilinear = a->grid >= 10;
    oct_resize_attrs attrs = {{a->size[0], a->size[1]}, a->grid % 10};
    return oct_op_append(g, bilinear ? &oct_op_resize_bilinear : &oct_op_resize_nearest, "resize", &attrs, &x, 1);
}

static oct_value reshape_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    x = oct_reshape(g, "rows", x, (const int32_t[]){HEIGHT, WIDTH * CHANNELS}, 2);
    x = oct_leaky_relu(g, "leaky", x, 0.1f);
    x = oct_reshape(g, "back", x, (const int32_t[]){WIDTH, HEIGHT, CHANNELS}, 3);
    return oct_conv2d(g, "c", x, (oct_conv2d_opts){.filters = 3, .kernel = {3, 3}});
}

/* A decoder's joint: upsampled codes next to others, then a convolution, a crop, a max pool. */
static oct_value decoder_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    oct_value small = oct_max_pool(g, "pool", x, (oct_pool_opts){.kernel = {2, 2}});
    oct_value y = oct_resize_bilinear(g, "up", oct_relu(g, "small/relu", small), HEIGHT, WIDTH);
    oct_value both[2] = {x, y};
    y = oct_concat(g, "concat", both, 2);
    y = oct_conv2d(g, "c", y, (oct_conv2d_opts){.filters = 6, .kernel = {3, 3}, .padding = OCT_SAME});
    y = oct_resize_nearest(g, "up2", y, 2 * HEIGHT, 2 * WIDTH);
    return oct_slice(g, "crop", y, (oct_slice_attrs){.begin = {3, 1, 2}, .size = {5, 0, 3}});
}

static void ops_without_a_point_equal_the_reference(void)
{
    static const oct_pad_attrs around = {{1, 2, 3}, {0, 1, 2}, {0, 0}}, between = {{2, 0, 0}, {1, 0, 0}, {1, 2}};
    static const oct_slice_attrs crop = {{1, 2, 1}, {3, 2, 2}, {1, 1}}, steps = {{0, 1, 0}, {3, 2, 3}, {2, 3}};
    static const oct_resize_attrs resizes[] = {
        {{14, 12}, 0}, {{13, 5}, 0}, {{13, 5}, 1}, {{13, 5}, 2}, {{1, 1}, 0},
        {{14, 12}, 10}, {{13, 5}, 10}, {{13, 5}, 11}, {{13, 5}, 12}, {{1, 1}, 12}, {{3, 20}, 10},
    };
    static const body bodies[] = {
        {.name = "pad around", .build = pad_body, .options = &around, .engine = "pad"},
        {.name = "pad between", .build = pad_body, .options = &between, .engine = "pad"},
        {.name = "crop", .build = slice_body, .options = &crop, .engine = "pad"},
        {.name = "steps", .build = slice_body, .options = &steps, .engine = "pad"},
        {.name = "reshape", .build = reshape_body, .engine = "reshape"},
        {.name = "decoder", .build = decoder_body, .engine = "resize_bilinear"},
    };
    CHECK_BODIES(bodies);
    for (size_t i = 0; i < sizeof resizes / sizeof resizes[0]; i++)
        check_body(&(body){.name = "resize", .build = resize_body, .options = &resizes[i],
                           .engine = resizes[i].grid >= 10 ? "resize_bilinear" : "resize_nearest"});
}

/* --- ops that quantize as others --- */

static oct_value transpose_body(oct_graph *g, oct_value x, const void *options)
{
    oct_conv2d_opts opts = *(const oct_conv2d_opts *)options;
    x = oct_relu(g, "relu", oct_conv_transpose2d(g, "up", x, opts));
    return oct_batch_norm(g, "bn", oct_conv_transpose2d(g, "again", x, opts), oct_batch_norm_defaults());
}

/* Pre-activation, a convolution that two read, one channel. */
static oct_value lone_norm_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    oct_value y = oct_relu(g, "bn/relu", oct_batch_norm(g, "bn", oct_max_pool(g, "pool", x, (oct_pool_opts){.kernel = {2, 2}}),
                                                       oct_batch_norm_defaults()));
    y = oct_conv2d(g, "c", y, (oct_conv2d_opts){.filters = 1, .kernel = {3, 3}, .padding = OCT_SAME});
    oct_value z = oct_batch_norm(g, "bn1", y, oct_batch_norm_defaults());
    return oct_add(g, "sum", y, oct_relu(g, "bn1/relu", z));
}

static oct_value linear_norm_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    x = oct_linear(g, "l", oct_flatten(g, "features", x), (oct_linear_opts){.outputs = 12});
    return oct_relu(g, "bn/relu", oct_batch_norm(g, "bn", x, oct_batch_norm_defaults()));
}

/* The network's float output in evaluation. */
static float *float_output(const net *n, size_t *count)
{
    oct_plan *plan = NULL;
    oct_plan_options options = {.batch = BATCH, .mode = OCT_EVAL, .outputs = &n->out, .output_count = 1};
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n->ctx->error, oct_plan_create(&plan, n->graph, &options), "plan"));
    fill_pixels(oct_plan_input(plan, n->image), BATCH, 17);
    ASSERT_OK(n->ctx, oct_plan_forward(plan, &(oct_run){.mode = OCT_EVAL}, BATCH));
    *count = oct_shape_sample(&oct_graph_node(n->graph, n->out)->shape) * BATCH;
    float *copy = oct_alloc(*count, sizeof *copy);
    memcpy(copy, oct_plan_tensor(plan, n->out)->data, *count * sizeof *copy);
    oct_plan_destroy(plan);
    return copy;
}

/* What quantization puts in an op's place is the same function: with quantizers taken out again, the output stays. */
static void check_rewritten(const body *b)
{
    net n = net_open(b, 2, NULL, 7);
    size_t count;
    float *before = float_output(&n, &count);
    quantize(&n, &variants[0]);
    REQUIRE_OK(n.ctx, oct_dequantize_graph(n.graph));
    float *after = float_output(&n, &count);
    double worst = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        worst = fmax(worst, fabs((double)before[i] - (double)after[i]));
        largest = fmax(largest, fabs((double)before[i]));
    }
    CU_ASSERT_TRUE(largest > 0.01 && worst < 1e-5 * largest);
    oct_free(before);
    oct_free(after);
    net_close(&n);
}

static void rewritten_ops_equal_the_reference(void)
{
    static const oct_conv2d_opts twice = {.filters = 6, .kernel = {2, 2}, .stride = {2, 2}};
    static const oct_conv2d_opts same = {.filters = 6, .kernel = {3, 3}, .stride = {2, 2}, .padding = OCT_SAME};
    static const oct_conv2d_opts wide = {.filters = 5, .kernel = {1, 2}, .stride = {2, 3}, .padding = OCT_SAME};
    static const oct_conv2d_opts depthwise = {.filters = CHANNELS, .kernel = {4, 4}, .stride = {2, 2}, .groups = CHANNELS,
                                              .padding = OCT_EXPLICIT, .pad = {1, 1, 1, 1}};
    static const oct_conv2d_opts plain = {.filters = 5, .kernel = {3, 3}, .padding = OCT_SAME};
    static const body bodies[] = {
        {.name = "transpose 2x2", .build = transpose_body, .options = &twice, .engine = "pad"},
        {.name = "transpose 3x3", .build = transpose_body, .options = &same, .engine = "pad"},
        {.name = "transpose 1x2", .build = transpose_body, .options = &wide, .engine = "pad"},
        {.name = "transpose depthwise", .build = transpose_body, .options = &depthwise, .engine = "depthwise"},
        {.name = "transpose stride 1", .build = transpose_body, .options = &plain, .engine = "conv"},
        {.name = "lone norm", .build = lone_norm_body, .engine = "depthwise"},
        {.name = "linear and norm", .build = linear_norm_body, .engine = "linear"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) check_rewritten(&bodies[i]);
    CHECK_BODIES(bodies);
}

/* --- softmax, argmax --- */

static oct_value softmax_body(oct_graph *g, oct_value x, const void *options)
{
    if (options) x = oct_flatten(g, "features", x);
    return oct_softmax(g, "softmax", x);
}

static oct_value attention_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    oct_value y = oct_softmax(g, "softmax", oct_relu(g, "relu", x));
    return oct_mul(g, "weighted", x, oct_max_pool(g, "pool", y, (oct_pool_opts){.kernel = {3, 3}, .stride = {1, 1}, .padding = OCT_SAME}));
}

static void softmax_equals_the_reference(void)
{
    static const int flat = 1;
    static const body bodies[] = {
        {.name = "softmax of pixels", .build = softmax_body, .engine = "softmax"},
        {.name = "softmax of features", .build = softmax_body, .options = &flat, .engine = "softmax"},
        {.name = "softmax as output", .build = softmax_body, .no_head = true, .engine = "softmax"},
        {.name = "attention", .build = attention_body, .engine = "softmax"},
    };
    CHECK_BODIES(bodies);
}

static oct_value argmax_body(oct_graph *g, oct_value x, const void *options)
{
    (void)options;
    return oct_argmax(g, "argmax", x);
}

static void check_argmax(const variant *v)
{
    static const body argmax = {.name = "argmax", .build = argmax_body, .no_head = true, .engine = "argmax"};
    net n = net_open(&argmax, 2, NULL, 7);
    quantize(&n, v);
    for (int32_t i = 0; i < n.graph->node_count; i++) { /* ranges: nothing trains here */
        const oct_node *node = n.graph->nodes[i];
        if (node->kind != OCT_NODE_BUFFER || node->count != OCT_RANGE_FLOATS) continue;
        float *range = oct_graph_data(n.graph, (oct_value){i}, NULL);
        range[OCT_RANGE_LO] = -2, range[OCT_RANGE_HI] = 2, range[OCT_RANGE_OBSERVED] = 1;
    }
    verify_engine(&n, &argmax);
    oct_plan *plan = make_plan(&n);
    oct_reference *reference;
    REQUIRE_OK(n.ctx, oct_reference_create(&reference, n.graph, BATCH));
    uint8_t *pixels = oct_plan_input(plan, n.image);
    fill_pixels(pixels, BATCH, 3);
    for (int i = 0; i < BATCH * HEIGHT * WIDTH * 3; i++) oct_reference_input(reference, n.image)[i] = pixels[i];
    static const oct_run evaluation = {.mode = OCT_EVAL};
    ASSERT_OK(n.ctx, oct_plan_forward(plan, &evaluation, BATCH));
    ASSERT_OK(n.ctx, oct_reference_forward(reference, &evaluation, n.out));
    const int32_t *found = oct_plan_tensor(plan, n.out)->data;
    int kinds = 0;
    for (int i = 0; i < BATCH * HEIGHT * WIDTH; i++) {
        CU_ASSERT_EQUAL(found[i], (int32_t)oct_reference_value(reference, n.out)[i]);
        kinds |= 1 << found[i];
    }
    CU_ASSERT_TRUE(kinds & (kinds - 1)); /* more than one */
    oct_reference_destroy(reference);
    oct_plan_destroy(plan);
    net_close(&n);
}

static void argmax_of_codes_equals_the_reference(void)
{
    for (int v = 0; v < VARIANTS; v++) check_argmax(&variants[v]);
}

/* T33: equal codes, a single element, differences beyond the table. */
static void softmax_table_method_matches_its_examples(void)
{
    uint8_t table[OCT_SOFTMAX_TABLE_ROWS * 256];
    oct_softmax_table(table, 1);
    uint32_t first = table[0] | (uint32_t)table[256] << 8 | (uint32_t)table[512] << 16;
    uint32_t second = table[1] | (uint32_t)table[257] << 8 | (uint32_t)table[513] << 16;
    CU_ASSERT_EQUAL(first, 1u << 23);
    CU_ASSERT_EQUAL(second, 3085996u); /* 2^23/e = 3085996.24 */
    CU_ASSERT_EQUAL(table[255] | table[511] | table[767], 0);
}

/* T32: all 256 codes against the function in double, and where the codes end. */
static void lookup_tables_saturate_at_their_ends(void)
{
    oct_node node = {.op = &oct_unary_ops[OCT_UNARY_SIGMOID]};
    double values[256];
    uint8_t codes[256];
    oct_table_values(values, &node, NULL, 0.125, 0, 1); /* -16 .. 15.9 */
    oct_clip_codes clip = {.is_signed = 0, .exponent = 8, .lo = 0, .hi = 255};
    oct_table_codes(codes, values, 256, &clip);
    for (int byte = 0; byte < 256; byte++) {
        double x = (int8_t)byte / 8.0, expected = fmin(floor(256 / (1 + exp(-x)) + 0.5), 255);
        CU_ASSERT_EQUAL(codes[byte], (uint8_t)expected);
    }
    CU_ASSERT_EQUAL(codes[127], 255);
    CU_ASSERT_EQUAL(codes[128], 0);
    node.op = &oct_unary_ops[OCT_UNARY_TANH];
    oct_table_values(values, &node, NULL, 0.125, 0, 1);
    clip = (oct_clip_codes){.is_signed = 1, .exponent = 7, .lo = -128, .hi = 127};
    oct_table_codes(codes, values, 256, &clip);
    CU_ASSERT_EQUAL((int8_t)codes[127], 127);
    CU_ASSERT_EQUAL((int8_t)codes[128], -128);
    CU_ASSERT_EQUAL(codes[0], 0);
}

static const test_case cases[] = {
    {"functions_of_one_code_equal_the_reference", functions_of_one_code_equal_the_reference},
    {"activations_and_differences_equal_the_reference", activations_and_differences_equal_the_reference},
    {"ops_without_a_point_equal_the_reference", ops_without_a_point_equal_the_reference},
    {"rewritten_ops_equal_the_reference", rewritten_ops_equal_the_reference},
    {"softmax_equals_the_reference", softmax_equals_the_reference},
    {"argmax_of_codes_equals_the_reference", argmax_of_codes_equals_the_reference},
    {"T33_softmax_table_method_matches_its_examples", softmax_table_method_matches_its_examples},
    {"T32_lookup_tables_saturate_at_their_ends", lookup_tables_saturate_at_their_ends},
};
TEST_SUITE("quant_ops", cases);
