/* SPDX-License-Identifier: BSD-2-Clause
 * What ops refuse, with which message, and the table of names.
 */
#include "tests/op_case.h"

/* --- shape rules --- */

typedef struct refusal {
    oct_status status;
    const char *message; /* part of it */
    void (*build)(oct_graph *g);
} refusal;

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

static const test_case cases[] = {
    {"infer_bad_nodes_are_refused_with_their_names", infer_bad_nodes_are_refused_with_their_names},
    {"op_find_knows_every_built_in", op_find_knows_every_built_in},
};
TEST_SUITE("ops_rules", cases);
