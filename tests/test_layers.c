/* SPDX-License-Identifier: BSD-2-Clause
 * Layer builders: names, shapes, paddings, initialisation, sharing, and what happens when a builder fails. */
#include <math.h>
#include <string.h>

#include "layers/layers.h"
#include "tests/testing.h"

static oct_ctx *ctx;
static oct_graph *g;

static oct_value start(int32_t height, int32_t width, int32_t channels)
{
    ctx = test_ctx();
    CU_ASSERT_FATAL(oct_graph_create(&g, ctx, 3) == OCT_OK);
    return oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, height, width, channels));
}

static void finish(void)
{
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static bool has_shape(oct_value value, oct_shape shape)
{
    const oct_node *n = oct_graph_node(g, value);
    return n && oct_shape_equal(&n->shape, &shape);
}

static bool named_shape(const char *name, oct_shape shape)
{
    return has_shape(oct_graph_find(g, name), shape);
}

static const oct_conv2d_attrs *conv_attrs(oct_value value)
{
    return oct_graph_node(g, value)->attrs;
}

static void conv2d_makes_named_parameters(void)
{
    oct_value x = start(8, 8, 6);
    x = oct_conv2d(g, "a", x, (oct_conv2d_opts){.filters = 10, .kernel = {3, 5}, .padding = OCT_SAME});
    CU_ASSERT(has_shape(x, OCT_SHAPE(OCT_BATCH, 8, 8, 10)));
    CU_ASSERT(named_shape("a/weight", OCT_SHAPE(10, 3, 5, 6)));
    CU_ASSERT(named_shape("a/bias", OCT_SHAPE(10)));
    CU_ASSERT(oct_graph_node(g, oct_graph_find(g, "a/weight"))->kind == OCT_NODE_PARAMETER);
    x = oct_conv2d(g, "b", x, (oct_conv2d_opts){.filters = 4, .kernel = {1, 1}, .groups = 2, .no_bias = true});
    CU_ASSERT(named_shape("b/weight", OCT_SHAPE(4, 1, 1, 5)));
    CU_ASSERT(oct_graph_find(g, "b/bias").id < 0);
    x = oct_conv2d(g, "c", x, (oct_conv2d_opts){.filters = 4, .kernel = {3, 3}, .groups = 4, .padding = OCT_SAME});
    CU_ASSERT(named_shape("c/weight", OCT_SHAPE(3, 3, 4)));
    CU_ASSERT(has_shape(x, OCT_SHAPE(OCT_BATCH, 8, 8, 4)));
    ASSERT_OK(ctx, oct_graph_status(g));
    finish();
}

/* Output size and padding of one 2-D window, against TensorFlow's and PyTorch's formulas worked out by hand. */
static void conv2d_paddings_follow_their_definitions(void)
{
    oct_value x = start(7, 8, 1);
    oct_value v = oct_conv2d(g, "same", x, (oct_conv2d_opts){.filters = 1, .kernel = {3, 3}, .stride = {2, 2},
                                                             .padding = OCT_SAME});
    const int32_t same[4] = {1, 0, 1, 1}; /* 7: 4 outputs, total 2; 8: 4 outputs, total 1, at the right */
    CU_ASSERT(has_shape(v, OCT_SHAPE(OCT_BATCH, 4, 4, 1)));
    CU_ASSERT(!memcmp(conv_attrs(v)->pad, same, sizeof same));
    v = oct_conv2d(g, "torch", x, (oct_conv2d_opts){.filters = 1, .kernel = {3, 3}, .stride = {2, 2},
                                                    .padding = OCT_SAME_TORCH});
    const int32_t torch[4] = {1, 1, 1, 1};
    CU_ASSERT(has_shape(v, OCT_SHAPE(OCT_BATCH, 4, 4, 1)));
    CU_ASSERT(!memcmp(conv_attrs(v)->pad, torch, sizeof torch));
    v = oct_conv2d(g, "dilated", x, (oct_conv2d_opts){.filters = 1, .kernel = {3, 3}, .dilation = {2, 2},
                                                      .padding = OCT_SAME});
    const int32_t dilated[4] = {2, 2, 2, 2};
    CU_ASSERT(has_shape(v, OCT_SHAPE(OCT_BATCH, 7, 8, 1)));
    CU_ASSERT(!memcmp(conv_attrs(v)->pad, dilated, sizeof dilated));
    v = oct_conv2d(g, "even", x, (oct_conv2d_opts){.filters = 1, .kernel = {2, 4}, .padding = OCT_SAME});
    const int32_t even[4] = {0, 1, 1, 2};
    CU_ASSERT(has_shape(v, OCT_SHAPE(OCT_BATCH, 7, 8, 1)));
    CU_ASSERT(!memcmp(conv_attrs(v)->pad, even, sizeof even));
    v = oct_conv2d(g, "point", x, (oct_conv2d_opts){.filters = 1, .kernel = {1, 1}, .stride = {2, 2},
                                                    .padding = OCT_SAME});
    const int32_t none[4] = {0, 0, 0, 0};
    CU_ASSERT(has_shape(v, OCT_SHAPE(OCT_BATCH, 4, 4, 1)));
    CU_ASSERT(!memcmp(conv_attrs(v)->pad, none, sizeof none));
    v = oct_conv2d(g, "valid", x, (oct_conv2d_opts){.filters = 1, .kernel = {3, 3}});
    CU_ASSERT(has_shape(v, OCT_SHAPE(OCT_BATCH, 5, 6, 1)));
    v = oct_conv2d(g, "explicit", x, (oct_conv2d_opts){.filters = 1, .kernel = {3, 3}, .padding = OCT_EXPLICIT,
                                                       .pad = {4, 0, 5, 1}});
    CU_ASSERT(has_shape(v, OCT_SHAPE(OCT_BATCH, 14, 7, 1)));
    ASSERT_OK(ctx, oct_graph_status(g));
    finish();
}

static double deviation(const char *name)
{
    size_t n;
    const float *w = oct_graph_data(g, oct_graph_find(g, name), &n);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)w[i] * (double)w[i];
    return sqrt(sum / (double)n);
}

static bool all_equal(const char *name, float value)
{
    size_t n;
    const float *w = oct_graph_data(g, oct_graph_find(g, name), &n);
    for (size_t i = 0; i < n; i++)
        if (w[i] != value) return false;
    return n > 0;
}

static void parameters_start_as_he_says(void)
{
    oct_value x = start(4, 4, 32);
    x = oct_conv2d(g, "full", x, (oct_conv2d_opts){.filters = 64, .kernel = {3, 3}});
    CU_ASSERT(fabs(deviation("full/weight") / sqrt(2.0 / 288) - 1) < 0.03);
    oct_conv2d(g, "depthwise", x, (oct_conv2d_opts){.filters = 64, .kernel = {2, 2}, .groups = 64});
    CU_ASSERT(fabs(deviation("depthwise/weight") / sqrt(2.0 / 4) - 1) < 0.2);
    x = oct_batch_norm(g, "bn", x, oct_batch_norm_defaults());
    x = oct_flatten(g, "flat", x);
    oct_linear(g, "linear", x, (oct_linear_opts){.outputs = 50});
    oct_linear(g, "head", x, (oct_linear_opts){.outputs = 50, .gain = 1});
    CU_ASSERT(fabs(deviation("linear/weight") / sqrt(2.0 / 256) - 1) < 0.03);
    CU_ASSERT(fabs(deviation("head/weight") / sqrt(1.0 / 256) - 1) < 0.03);
    CU_ASSERT(all_equal("full/bias", 0));
    CU_ASSERT(all_equal("bn/gamma", 1));
    CU_ASSERT(all_equal("bn/beta", 0));
    CU_ASSERT(all_equal("bn/mean", 0));
    CU_ASSERT(all_equal("bn/var", 1));
    CU_ASSERT(oct_graph_node(g, oct_graph_find(g, "bn/var"))->kind == OCT_NODE_BUFFER);
    ASSERT_OK(ctx, oct_graph_status(g));
    finish();
}

static void conv2d_shared_weight_makes_no_parameter(void)
{
    oct_value x = start(8, 8, 4);
    oct_value a = oct_conv2d(g, "a", x, (oct_conv2d_opts){.filters = 4, .kernel = {3, 3}, .padding = OCT_SAME});
    oct_value w = oct_graph_find(g, "a/weight"), b = oct_graph_find(g, "a/bias");
    oct_conv2d(g, "b", a, (oct_conv2d_opts){.filters = 4, .kernel = {3, 3}, .padding = OCT_SAME, .weight = &w,
                                            .bias = &b});
    ASSERT_OK(ctx, oct_graph_status(g));
    CU_ASSERT(oct_graph_find(g, "b/weight").id < 0);
    CU_ASSERT(oct_graph_users(g, w, NULL, 0) == 2);
    CU_ASSERT(oct_graph_users(g, b, NULL, 0) == 2);
    finish();
}

static void all_builders_chain(void)
{
    oct_value x = start(8, 8, 4);
    oct_value a = oct_relu(g, "relu", x), b = oct_relu6(g, "relu6", x), c = oct_clip(g, "clip", x, -1, 2);
    oct_value sum = oct_add(g, "add", a, b), product = oct_mul(g, "mul", sum, c);
    oct_value all[3] = {a, sum, product};
    x = oct_concat(g, "concat", all, 3);
    CU_ASSERT(has_shape(x, OCT_SHAPE(OCT_BATCH, 8, 8, 12)));
    x = oct_max_pool(g, "max", x, (oct_pool_opts){.kernel = {2, 2}});
    CU_ASSERT(has_shape(x, OCT_SHAPE(OCT_BATCH, 4, 4, 12)));
    x = oct_average_pool(g, "average", x, (oct_pool_opts){.kernel = {3, 3}, .stride = {1, 1}, .padding = OCT_SAME});
    CU_ASSERT(has_shape(x, OCT_SHAPE(OCT_BATCH, 4, 4, 12)));
    oct_value flat = oct_flatten(g, "flatten", x);
    CU_ASSERT(has_shape(flat, OCT_SHAPE(OCT_BATCH, 192)));
    x = oct_global_average_pool(g, "pool", x);
    CU_ASSERT(has_shape(x, OCT_SHAPE(OCT_BATCH, 12)));
    x = oct_dropout(g, "dropout", x, 0.5f);
    x = oct_linear(g, "head", x, (oct_linear_opts){.outputs = 3});
    oct_value loss = oct_softmax_cross_entropy(g, "loss", x, oct_labels(g, "label"), oct_cross_entropy_defaults());
    CU_ASSERT(oct_graph_node(g, loss)->shape.rank == 0);
    oct_value target = oct_input(g, "target", OCT_F32, OCT_SHAPE(OCT_BATCH, 3));
    oct_value mse = oct_mean_squared_error(g, "mse", x, target);
    CU_ASSERT(oct_graph_node(g, mse)->shape.rank == 0);
    const oct_clip_attrs *six = oct_graph_node(g, b)->attrs;
    CU_ASSERT(six->lo == 0 && six->hi == 6);
    ASSERT_OK(ctx, oct_graph_status(g));
    finish();
}

static void builders_after_a_failure_do_nothing_and_keep_the_first_message(void)
{
    oct_value x = start(4, 4, 3);
    x = oct_conv2d(g, "bad", x, (oct_conv2d_opts){.filters = 4, .kernel = {3, 3}, .groups = 2});
    CU_ASSERT(x.id < 0);
    CU_ASSERT(strstr(ctx->error.message, "'bad'") != NULL);
    int32_t count = g->node_count;
    x = oct_batch_norm(g, "bn", x, oct_batch_norm_defaults());
    x = oct_relu(g, "relu", x);
    x = oct_max_pool(g, "max", x, (oct_pool_opts){.kernel = {2, 2}});
    x = oct_linear(g, "fc", oct_flatten(g, "flat", x), (oct_linear_opts){.outputs = 2});
    x = oct_softmax_cross_entropy(g, "loss", x, oct_labels(g, "label"), oct_cross_entropy_defaults());
    CU_ASSERT(x.id < 0);
    CU_ASSERT(g->node_count == count);
    CU_ASSERT(oct_graph_status(g) == OCT_ERR_ARGUMENT);
    CU_ASSERT(strstr(ctx->error.message, "'bad'") != NULL);
    finish();
}

static void conv2d_nonsense_is_refused(void)
{
    static const oct_conv2d_opts bad[] = {
        {.filters = 0, .kernel = {3, 3}},
        {.filters = 4, .kernel = {0, 3}},
        {.filters = 4, .kernel = {3, 3}, .stride = {-1, 1}},
        {.filters = 4, .kernel = {3, 3}, .dilation = {1 << 20, 1}},
        {.filters = 4, .kernel = {3, 3}, .padding = OCT_EXPLICIT, .pad = {-1, 0, 0, 0}},
        {.filters = 4, .kernel = {3, 3}, .padding = (oct_padding)7},
        {.filters = 4, .kernel = {3, 3}, .groups = -1},
        {.filters = 4, .kernel = {30, 30}}, /* larger than the image */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        oct_value x = start(8, 8, 4);
        CU_ASSERT(oct_conv2d(g, "conv", x, bad[i]).id < 0);
        CU_ASSERT(oct_graph_status(g) != OCT_OK);
        CU_ASSERT(strstr(ctx->error.message, "conv") != NULL);
        finish();
    }
}

static void linear_of_an_image_is_refused(void)
{
    oct_value x = start(8, 8, 4);
    CU_ASSERT(oct_linear(g, "fc", x, (oct_linear_opts){.outputs = 2}).id < 0);
    CU_ASSERT(oct_graph_status(g) == OCT_ERR_SHAPE);
    CU_ASSERT(strstr(ctx->error.message, "[N,8,8,4]") != NULL);
    finish();
}

static const test_case cases[] = {
    {"conv2d_makes_named_parameters", conv2d_makes_named_parameters},
    {"conv2d_paddings_follow_their_definitions", conv2d_paddings_follow_their_definitions},
    {"parameters_start_as_he_says", parameters_start_as_he_says},
    {"conv2d_shared_weight_makes_no_parameter", conv2d_shared_weight_makes_no_parameter},
    {"all_builders_chain", all_builders_chain},
    {"builders_after_a_failure_do_nothing_and_keep_the_first_message",
     builders_after_a_failure_do_nothing_and_keep_the_first_message},
    {"conv2d_nonsense_is_refused", conv2d_nonsense_is_refused},
    {"linear_of_an_image_is_refused", linear_of_an_image_is_refused},
};
TEST_SUITE("layers", cases);
