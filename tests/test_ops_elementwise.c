/* SPDX-License-Identifier: BSD-2-Clause
 * Elementwise ops, moves, resizes, softmax and argmax, pools, dropout.
 */
#include "tests/op_case.h"

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

static const test_case cases[] = {
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
};
TEST_SUITE("ops_elementwise", cases);
