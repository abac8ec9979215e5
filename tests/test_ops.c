/* SPDX-License-Identifier: BSD-2-Clause
 * Every float op as plans run it, fused and node by node, against the reference executor: outputs, gradients
 * of every input, running statistics; the same bytes for 1, 2 and 3 threads. Here: convolutions, linear layers, batch norm,
 * normalize, losses; the others are in test_ops_elementwise.c, messages in test_ops_rules.c.
 */
#include "tests/op_case.h"

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
    {"eval_run_uses_running_statistics_and_no_dropout", eval_run_uses_running_statistics_and_no_dropout},
    {"normalize_pixels_and_floats_agree_with_reference", normalize_pixels_and_floats_agree_with_reference},
    {"cross_entropy_smoothing_and_ignored_labels_agree_with_reference",
     cross_entropy_smoothing_and_ignored_labels_agree_with_reference},
    {"cross_entropy_large_logits_stay_finite", cross_entropy_large_logits_stay_finite},
    {"mean_squared_error_gives_both_gradients", mean_squared_error_gives_both_gradients},
    {"network_fused_and_unfused_agrees_with_reference", network_fused_and_unfused_agrees_with_reference},
};
TEST_SUITE("ops", cases);
