/* SPDX-License-Identifier: BSD-2-Clause
 * The reference executor's gradients against central finite differences, for every differentiable input of
 * every op and for one small network. Values stay away from kinks (0 of relu, limits of clip, ties of a
 * maximum). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/ops.h"
#include "autograd/reference.h"
#include "tests/testing.h"

#define VALUES(...)                                                                                          \
    (const oct_value[]){__VA_ARGS__}, (int)(sizeof((const oct_value[]){__VA_ARGS__}) / sizeof(oct_value))
#define OP(g, op, name, attrs, ...) oct_op_append(g, op, name, attrs, VALUES(__VA_ARGS__))

enum { BATCH = 3, CLASSES = 5, ELEMENTS = 60 /* checked per tensor */ };

static const oct_run train_run = {.mode = OCT_TRAIN, .seed = 5, .step = 2};

/* h: step of the difference; limit: error allowed, relative to the largest derivative of the tensor. The
 * difference's own error is h^2/6 of the third derivative plus 1e-16 of the loss over h, both below 1e-8
 * here. */
typedef struct precision {
    double h, limit;
} precision;
static const precision usual = {1e-5, 1e-6};

/* --- harness --- */

/* Multiples of 0.07 in a scattered order, none nearer than 0.003 to 0, -0.25 or 6, all different in one
 * tensor of up to 211 elements. */
static double made_up_value(size_t i, int salt)
{
    int k = (int)((i * 37 + (size_t)salt * 11) % 211);
    return 0.07 * (k - 105) + 0.033;
}

static void fill(oct_graph *g, oct_reference *r)
{
    for (int32_t id = 0; id < g->node_count; id++) {
        const oct_node *n = g->nodes[id];
        if (n->kind == OCT_NODE_OP || n->kind == OCT_NODE_BUFFER) continue;
        double *data = oct_reference_value(r, (oct_value){id});
        size_t count = n->kind == OCT_NODE_INPUT ? oct_shape_sample(&n->shape) * BATCH : n->count;
        for (size_t i = 0; i < count; i++) {
            data[i] = n->dtype == OCT_I32 ? (double)(i % 3 == 1 ? -1 : (int)(i * 2 % CLASSES))
                                          : made_up_value(i, id);
        }
    }
}

static double loss_at(oct_graph *g, oct_reference *r, const oct_run *run, oct_value loss)
{
    ASSERT_OK(g->ctx, oct_reference_forward(r, run, loss));
    return *oct_reference_value(r, loss);
}

/* Compares the gradient of one input or parameter with differences at up to ELEMENTS of its elements. */
static void check_tensor(oct_graph *g, oct_reference *r, const oct_run *run, oct_value loss,
                         const oct_node *n, precision precise)
{
    oct_value v = {n->id};
    size_t count = n->kind == OCT_NODE_INPUT ? oct_shape_sample(&n->shape) * BATCH : n->count;
    size_t stride = count > ELEMENTS ? count / ELEMENTS : 1;
    const double *gradient = oct_reference_gradient(r, v);
    CU_ASSERT_PTR_NOT_NULL_FATAL(gradient);
    double largest = 0.0, worst = 0.0;
    double *data = oct_reference_value(r, v);
    for (size_t i = 0; i < count; i++) largest = fmax(largest, fabs(gradient[i]));
    CU_ASSERT_TRUE(largest > 1e-4);
    for (size_t i = 0; i < count; i += stride) {
        double kept = data[i];
        data[i] = kept + precise.h;
        double above = loss_at(g, r, run, loss);
        data[i] = kept - precise.h;
        double below = loss_at(g, r, run, loss);
        data[i] = kept;
        worst = fmax(worst, fabs((above - below) / (2.0 * precise.h) - gradient[i]));
    }
    bool ok = worst <= precise.limit * largest;
    CU_ASSERT_TRUE(ok);
    if (!ok) fprintf(stderr, "    %s: error %.3g of %.3g\n", n->name, worst, largest);
}

typedef oct_value build_fn(oct_graph *g, const void *options);

/* Checks every f32 input and parameter of the graph that `build` makes; it returns the loss. */
static void check(build_fn *build, const void *options, const oct_run *run, precision precise)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    oct_reference *r = NULL;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    oct_value loss = build(g, options);
    REQUIRE_OK(ctx, oct_graph_status(g));
    REQUIRE_OK(ctx, oct_reference_create(&r, g, BATCH));
    fill(g, r);
    loss_at(g, r, run, loss);
    ASSERT_OK(ctx, oct_reference_backward(r, run, loss));
    for (int32_t id = 0; id < g->node_count; id++) {
        const oct_node *n = g->nodes[id];
        if (n->dtype == OCT_F32 && (n->kind == OCT_NODE_INPUT || n->kind == OCT_NODE_PARAMETER))
            check_tensor(g, r, run, loss, n, precise);
    }
    oct_reference_destroy(r);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static oct_value input(oct_graph *g, const char *name, oct_shape shape)
{
    return oct_input(g, name, OCT_F32, shape);
}

static oct_value parameter(oct_graph *g, const char *name, oct_shape shape)
{
    return oct_parameter(g, name, shape, (oct_init){OCT_INIT_ZERO, 0.0f});
}

static oct_value squared_loss(oct_graph *g, oct_value y)
{
    const oct_node *n = oct_graph_node(g, y);
    return OP(g, &oct_op_mean_squared_error, "loss", NULL, y,
              input(g, "target", n ? n->shape : OCT_SHAPE(OCT_BATCH)));
}

/* --- ops --- */

typedef struct conv_case {
    oct_conv2d_attrs a;
    int h, w, c, o;
    bool transpose;
} conv_case;

static oct_value build_conv(oct_graph *g, const void *options)
{
    const conv_case *k = (const conv_case *)options;
    const int32_t *kernel = k->a.kernel;
    bool depthwise = k->a.groups > 1 && k->a.groups == k->c && k->c == k->o;
    oct_value x = input(g, "x", OCT_SHAPE(OCT_BATCH, k->h, k->w, k->c));
    oct_value w = parameter(g, "w",
                            depthwise ? OCT_SHAPE(kernel[0], kernel[1], k->c)
                                      : OCT_SHAPE(k->o, kernel[0], kernel[1], k->c / k->a.groups));
    const oct_op *op = k->transpose ? &oct_op_conv_transpose2d : &oct_op_conv2d;
    return squared_loss(g, OP(g, op, "conv", &k->a, x, w, parameter(g, "b", OCT_SHAPE(k->o))));
}

static void conv2d_gradients_match_differences(void)
{
    static const conv_case cases[] = {
        {{{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1}, 5, 4, 3, 9, false},
        {{{3, 2}, {2, 3}, {1, 1}, {0, 1, 2, 0}, 1}, 6, 7, 2, 3, false},
        {{{2, 3}, {2, 1}, {2, 2}, {1, 2, 0, 2}, 1}, 6, 6, 2, 3, false},
        {{{1, 1}, {2, 2}, {1, 1}, {0, 0, 0, 0}, 1}, 4, 4, 2, 3, false},
        {{{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 2}, 4, 4, 4, 6, false},
        {{{3, 3}, {1, 2}, {1, 1}, {1, 1, 1, 1}, 3}, 4, 4, 3, 6, false},
        {{{3, 3}, {2, 1}, {1, 2}, {1, 2, 1, 1}, 5}, 5, 5, 5, 5, false},
        {{{3, 2}, {2, 3}, {1, 1}, {1, 0, 0, -1}, 1}, 4, 3, 2, 3, true},
        {{{2, 3}, {2, 1}, {2, 1}, {1, 2, 1, 0}, 2}, 3, 4, 4, 6, true},
        {{{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 5}, 3, 3, 5, 5, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check(build_conv, &cases[i], &train_run, usual);
}

static oct_value build_linear(oct_graph *g, const void *options)
{
    (void)options;
    oct_value x = input(g, "x", OCT_SHAPE(OCT_BATCH, 7)), w = parameter(g, "w", OCT_SHAPE(9, 7));
    return squared_loss(g, OP(g, &oct_op_linear, "fc", NULL, x, w, parameter(g, "b", OCT_SHAPE(9))));
}

static void linear_gradients_match_differences(void)
{
    check(build_linear, NULL, &train_run, usual);
}

static oct_value batch_norm(oct_graph *g, const char *name, oct_value x, int channels)
{
    static const oct_batch_norm_attrs attrs = {1e-3f, 0.1f};
    static const char *const parts[] = {"gamma", "beta", "mean", "var"};
    char part[4][32];
    for (int i = 0; i < 4; i++) snprintf(part[i], sizeof part[i], "%s/%s", name, parts[i]);
    oct_value gamma = parameter(g, part[0], OCT_SHAPE(channels)),
              beta = parameter(g, part[1], OCT_SHAPE(channels));
    oct_value mean = oct_buffer(g, part[2], OCT_SHAPE(channels), 0.3f);
    oct_value var = oct_buffer(g, part[3], OCT_SHAPE(channels), 1.7f);
    return OP(g, &oct_op_batch_norm, name, &attrs, x, gamma, beta, mean, var);
}

static oct_value build_norm(oct_graph *g, const void *options)
{
    (void)options;
    return squared_loss(g, batch_norm(g, "bn", input(g, "x", OCT_SHAPE(OCT_BATCH, 3, 2, 4)), 4));
}

static void batch_norm_gradients_match_differences(void)
{
    static const oct_run frozen = {.mode = OCT_TRAIN, .bn_frozen = 1};
    check(build_norm, NULL, &train_run, usual);
    check(build_norm, NULL, &frozen, usual);
    check(build_norm, NULL, &(oct_run){.mode = OCT_EVAL}, usual);
}

typedef struct simple_case {
    const oct_op *op;
    const void *attrs;
    int inputs;
    precision precise;
} simple_case;

static oct_value build_simple(oct_graph *g, const void *options)
{
    const simple_case *k = (const simple_case *)options;
    static const char *const names[] = {"a", "b", "c"};
    oct_value in[3];
    for (int i = 0; i < k->inputs; i++) in[i] = input(g, names[i], OCT_SHAPE(OCT_BATCH, 5, 4, 3));
    return squared_loss(g, oct_op_append(g, k->op, "op", k->attrs, in, k->inputs));
}

static void simple_ops_gradients_match_differences(void)
{
    static const oct_clip_attrs limits = {-0.25f, 6.0f};
    static const oct_pool_attrs pool = {{3, 2}, {2, 1}, {1, 0, 1, 1}};
    static const oct_dropout_attrs half = {0.5f};
    static const oct_normalize_attrs normalize = {{0.5f, -1.0f, 0.25f}, {0.75f, 1.5f, -2.0f}};
    static const oct_pad_attrs pad = {{1, 2, 1}, {0, 1, 2}, {1, 2}};
    static const oct_slice_attrs slice = {{1, 0, 1}, {2, 3, 2}, {2, 1}};
    static const oct_reshape_attrs reshape = {2, {6, 10, 0}};
    static const oct_resize_attrs resize = {{7, 3}, OCT_RESIZE_HALF_PIXEL};
    static const simple_case cases[] = {
        {&oct_op_sub, NULL, 2, {1e-5, 1e-6}},
        {&oct_op_pad, &pad, 1, {1e-5, 1e-6}},
        {&oct_op_slice, &slice, 1, {1e-5, 1e-6}},
        {&oct_op_reshape, &reshape, 1, {1e-5, 1e-6}},
        {&oct_op_resize_nearest, &resize, 1, {1e-5, 1e-6}},
        {&oct_op_resize_bilinear, &resize, 1, {1e-5, 1e-6}},
        {&oct_op_softmax, NULL, 1, {1e-5, 1e-6}},
        {&oct_op_relu, NULL, 1, {1e-5, 1e-6}},
        {&oct_op_clip, &limits, 1, {1e-5, 1e-6}},
        {&oct_op_add, NULL, 3, {1e-5, 1e-6}},
        {&oct_op_mul, NULL, 2, {1e-5, 1e-6}},
        {&oct_op_concat, NULL, 3, {1e-5, 1e-6}},
        {&oct_op_max_pool, &pool, 1, {1e-5, 1e-6}},
        {&oct_op_average_pool, &pool, 1, {1e-5, 1e-6}},
        {&oct_op_global_average_pool, NULL, 1, {1e-5, 1e-6}},
        {&oct_op_flatten, NULL, 1, {1e-5, 1e-6}},
        {&oct_op_dropout, &half, 1, {1e-5, 1e-6}},
        /* Its result is rounded to float: a wide step, exact since the loss is quadratic in x. */
        {&oct_op_normalize, &normalize, 1, {0.5, 1e-5}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned before = CU_get_number_of_failures();
        check(build_simple, &cases[i], &train_run, cases[i].precise);
        if (CU_get_number_of_failures() != before) fprintf(stderr, "    %s\n", cases[i].op->name);
    }
}

static void unary_gradients_match_differences(void)
{
    for (int f = 0; f < OCT_UNARY_COUNT; f++) {
        static const oct_unary_attrs some = {0.3f};
        const oct_op *op = &oct_unary_ops[f];
        simple_case k = {op, op->attr_bytes ? &some : NULL, 1, usual};
        unsigned before = CU_get_number_of_failures();
        check(build_simple, &k, &train_run, usual);
        if (CU_get_number_of_failures() != before) fprintf(stderr, "    %s\n", op->name);
    }
}

static oct_value build_prelu(oct_graph *g, const void *options)
{
    (void)options;
    oct_value x = input(g, "x", OCT_SHAPE(OCT_BATCH, 5, 4, 3)), slope = parameter(g, "slope", OCT_SHAPE(3));
    return squared_loss(g, OP(g, &oct_op_prelu, "prelu", NULL, x, slope));
}

static void prelu_gradients_match_differences(void)
{
    check(build_prelu, NULL, &train_run, usual);
}

static oct_value build_square(oct_graph *g, const void *options)
{
    (void)options;
    oct_value x = input(g, "x", OCT_SHAPE(OCT_BATCH, 6));
    oct_value y = OP(g, &oct_op_mul, "square", NULL, x, x);
    return squared_loss(g, OP(g, &oct_op_add, "sum", NULL, y, x, x));
}

static void value_read_several_times_adds_its_gradients(void)
{
    check(build_square, NULL, &train_run, usual);
}

static oct_value build_entropy(oct_graph *g, const void *options)
{
    oct_value x = input(g, "x", OCT_SHAPE(OCT_BATCH, CLASSES));
    oct_value label = oct_input(g, "label", OCT_I32, OCT_SHAPE(OCT_BATCH));
    return OP(g, &oct_op_softmax_cross_entropy, "entropy", options, x, label);
}

static void cross_entropy_gradients_match_differences(void)
{
    static const oct_cross_entropy_attrs plain = {0.0f, -1}, smooth = {0.2f, -1};
    check(build_entropy, &plain, &train_run, usual);
    check(build_entropy, &smooth, &train_run, usual);
}

/* --- a small network: the kinks are relu and relu6, whose inputs depend on everything --- */

static oct_value network_conv(oct_graph *g, const char *name, oct_value x, int from, int to, int stride,
                              int groups)
{
    char w[32];
    snprintf(w, sizeof w, "%s/w", name);
    oct_conv2d_attrs a = {{3, 3}, {stride, stride}, {1, 1}, {1, 1, 1, 1}, groups};
    oct_shape shape = groups > 1 ? OCT_SHAPE(3, 3, from) : OCT_SHAPE(to, 3, 3, from);
    return OP(g, &oct_op_conv2d, name, &a, x, parameter(g, w, shape));
}

static oct_value build_network(oct_graph *g, const void *options)
{
    (void)options;
    static const oct_cross_entropy_attrs entropy = {0.1f, -1};
    static const oct_clip_attrs six = {0.0f, 6.0f};
    static const oct_pool_attrs two = {{2, 2}, {2, 2}, {0, 0, 0, 0}};
    oct_value x = input(g, "image", OCT_SHAPE(OCT_BATCH, 8, 8, 2));
    oct_value y = batch_norm(g, "stem/bn", network_conv(g, "stem", x, 2, 4, 1, 1), 4);
    y = OP(g, &oct_op_relu, "stem/relu", NULL, y);
    oct_value z = batch_norm(g, "block/bn", network_conv(g, "block", y, 4, 4, 1, 1), 4);
    y = OP(g, &oct_op_relu, "relu", NULL, OP(g, &oct_op_add, "add", NULL, z, y));
    y = OP(g, &oct_op_average_pool, "average", &two, y);
    y = batch_norm(g, "depth/bn", network_conv(g, "depth", y, 4, 4, 2, 4), 4);
    y = OP(g, &oct_op_global_average_pool, "pool", NULL, OP(g, &oct_op_clip, "relu6", &six, y));
    y = OP(g, &oct_op_linear, "head", NULL, y, parameter(g, "head/w", OCT_SHAPE(CLASSES, 4)),
           parameter(g, "head/b", OCT_SHAPE(CLASSES)));
    oct_value label = oct_input(g, "label", OCT_I32, OCT_SHAPE(OCT_BATCH));
    return OP(g, &oct_op_softmax_cross_entropy, "entropy", &entropy, y, label);
}

static void network_gradients_match_differences(void)
{
    /* A smaller step: thousands of activations, of which none may cross a kink. */
    check(build_network, NULL, &train_run, (precision){1e-6, 1e-6});
}

static const test_case cases[] = {
    {"conv2d_gradients_match_differences", conv2d_gradients_match_differences},
    {"linear_gradients_match_differences", linear_gradients_match_differences},
    {"batch_norm_gradients_match_differences", batch_norm_gradients_match_differences},
    {"simple_ops_gradients_match_differences", simple_ops_gradients_match_differences},
    {"unary_gradients_match_differences", unary_gradients_match_differences},
    {"prelu_gradients_match_differences", prelu_gradients_match_differences},
    {"value_read_several_times_adds_its_gradients", value_read_several_times_adds_its_gradients},
    {"cross_entropy_gradients_match_differences", cross_entropy_gradients_match_differences},
    {"network_gradients_match_differences", network_gradients_match_differences},
};
TEST_SUITE("gradients", cases);
