/* SPDX-License-Identifier: BSD-2-Clause
 * Profiling of plans: what is counted for a unit, which runs are remembered, and that the median is one.
 * Times are only compared with sleeps of an op of our own.
 */
#include <string.h>
#include <time.h>

#include "autograd/ops.h"
#include "autograd/plan.h"
#include "layers/models.h"
#include "quant/quantize.h"
#include "tests/testing.h"

enum { BATCH = 3, SLEEP_MS = 30 };

#define VALUES(...)                                                                                          \
    (const oct_value[]){__VA_ARGS__}, (int)(sizeof((const oct_value[]){__VA_ARGS__}) / sizeof(oct_value))

/* y = x; forward sleeps SLEEP_MS in runs of an odd step. */
static oct_status doze_infer(const oct_graph *graph, oct_node *node)
{
    node->shape = oct_node_input(graph, node, 0)->shape;
    node->dtype = OCT_F32;
    return OCT_OK;
}

static oct_status doze_forward(oct_step *step)
{
    if (step->run->step & 1) nanosleep(&(struct timespec){.tv_nsec = SLEEP_MS * 1000000L}, NULL);
    memcpy(step->out->data, step->in[0]->data, step->out->sample * (size_t)step->batch * sizeof(float));
    return OCT_OK;
}

static oct_status doze_backward(oct_step *step)
{
    memcpy(step->d_in[0]->data, step->d_out->data, step->out->sample * (size_t)step->batch * sizeof(float));
    return OCT_OK;
}

static const oct_op doze_op = {.name = "doze",
                               .equation = "y = x",
                               .min_inputs = 1,
                               .max_inputs = 1,
                               .infer = doze_infer,
                               .exec = {.name = "doze", .forward = doze_forward, .backward = doze_backward}};

typedef struct net {
    oct_ctx *ctx;
    oct_graph *graph;
    oct_plan *plan;
} net;

/* x [N,8,8,2] -> "first" 3x3, 4 channels -> "doze" -> "second" 1x1, 3 channels -> "loss". Units 0..3. */
static net make_net(oct_mode mode)
{
    static const oct_conv2d_attrs wide = {
        .kernel = {3, 3}, .stride = {1, 1}, .dilation = {1, 1}, .pad = {1, 1, 1, 1}, .groups = 1};
    static const oct_conv2d_attrs point = {
        .kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
    const oct_init init = {OCT_INIT_NORMAL, 0.5f};
    net n = {.ctx = test_ctx()};
    ASSERT_OK(n.ctx, oct_graph_create(&n.graph, n.ctx, 1));
    oct_graph *g = n.graph;
    oct_value x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 8, 8, 2));
    oct_value target = oct_input(g, "target", OCT_F32, OCT_SHAPE(OCT_BATCH, 8, 8, 3));
    oct_value w = oct_parameter(g, "w", OCT_SHAPE(4, 3, 3, 2), init);
    oct_value v = oct_parameter(g, "v", OCT_SHAPE(3, 1, 1, 4), init),
              b = oct_parameter(g, "b", OCT_SHAPE(3), init);
    oct_value first = oct_op_append(g, &oct_op_conv2d, "first", &wide, VALUES(x, w));
    oct_value doze = oct_op_append(g, &doze_op, "doze", NULL, VALUES(first));
    oct_value second = oct_op_append(g, &oct_op_conv2d, "second", &point, VALUES(doze, v, b));
    oct_value loss = oct_op_append(g, &oct_op_mean_squared_error, "loss", NULL, VALUES(second, target));
    oct_plan_options options = {.batch = BATCH, .mode = mode, .outputs = &loss, .output_count = 1};
    ASSERT_OK(n.ctx, oct_plan_create(&n.plan, g, &options));
    CU_ASSERT_PTR_NOT_NULL_FATAL(n.plan);
    CU_ASSERT_PTR_NOT_NULL(oct_plan_input(n.plan, x));
    CU_ASSERT_PTR_NOT_NULL(oct_plan_input(n.plan, target));
    return n;
}

static void release(net *n)
{
    oct_plan_destroy(n->plan);
    oct_graph_destroy(n->graph);
    oct_ctx_destroy(n->ctx);
}

static void run_step(net *n, uint64_t step, bool backward)
{
    oct_run run = {.mode = OCT_TRAIN, .step = step};
    ASSERT_OK(n->ctx, oct_plan_forward(n->plan, &run, BATCH));
    if (backward) ASSERT_OK(n->ctx, oct_plan_backward(n->plan, 1));
}

static void plan_profile_off_or_refused_gives_no_times(void)
{
    int count = 7;
    net n = make_net(OCT_TRAIN);
    CU_ASSERT_PTR_NULL(oct_plan_times(n.plan, &count));
    CU_ASSERT_EQUAL(count, 0);
    CU_ASSERT_EQUAL(oct_plan_profile(n.plan, -1), OCT_ERR_ARGUMENT);
    run_step(&n, 0, true);
    ASSERT_OK(n.ctx, oct_plan_profile(n.plan, 4));
    const oct_unit_time *t = oct_plan_times(n.plan, &count);
    CU_ASSERT_EQUAL_FATAL(count, 4);
    for (int i = 0; i < count; i++) CU_ASSERT(t[i].forward == 0 && t[i].backward == 0);
    ASSERT_OK(n.ctx, oct_plan_profile(n.plan, 0));
    CU_ASSERT_PTR_NULL(oct_plan_times(n.plan, &count));
    release(&n);
}

/* Backward that belongs to a forward from before profiling. */
static void plan_profile_turned_on_between_the_ways_forgets_the_second(void)
{
    int count;
    net n = make_net(OCT_TRAIN);
    oct_run run = {.mode = OCT_TRAIN};
    ASSERT_OK(n.ctx, oct_plan_forward(n.plan, &run, BATCH));
    ASSERT_OK(n.ctx, oct_plan_profile(n.plan, 2));
    ASSERT_OK(n.ctx, oct_plan_backward(n.plan, 1));
    const oct_unit_time *t = oct_plan_times(n.plan, &count);
    for (int i = 0; i < count; i++) CU_ASSERT(t[i].forward == 0 && t[i].backward == 0);
    release(&n);
}

static void plan_times_count_work_of_units(void)
{
    static const struct {
        const char *name, *step;
        int64_t macs, backward_macs;
        size_t bytes;
    } expected[] = {
        {"first", "conv2d", 64 * 4 * 18, 64 * 4 * 18, 4 * (BATCH * 64 * (2 + 4) + 72)}, /* nobody wants dx */
        {"doze", "doze", 0, 0, 4 * (BATCH * 64 * (4 + 4))},
        {"second", "conv2d", 64 * 3 * 4, 2 * 64 * 3 * 4, 4 * (BATCH * 64 * (4 + 3) + 12 + 3)},
        {"loss", "mean_squared_error", 0, 0, 4 * (BATCH * 64 * (3 + 3) + 1)},
    };
    net n = make_net(OCT_TRAIN), e = make_net(OCT_EVAL);
    int count;
    ASSERT_OK(n.ctx, oct_plan_profile(n.plan, 1));
    const oct_unit_time *t = oct_plan_times(n.plan, &count);
    CU_ASSERT_EQUAL_FATAL(count, 4);
    for (int i = 0; i < count; i++) {
        CU_ASSERT_STRING_EQUAL(t[i].node->name, expected[i].name);
        CU_ASSERT_STRING_EQUAL(t[i].step, expected[i].step);
        CU_ASSERT_EQUAL(t[i].macs, expected[i].macs);
        CU_ASSERT_EQUAL(t[i].backward_macs, expected[i].backward_macs);
        CU_ASSERT_EQUAL(t[i].bytes, expected[i].bytes);
        CU_ASSERT_PTR_EQUAL(t[i].main, expected[i].macs ? t[i].node : NULL);
        CU_ASSERT_FALSE(t[i].on_codes);
    }
    oct_plan_info info = oct_plan_describe(n.plan);
    CU_ASSERT_EQUAL(info.macs, BATCH * (4608 + 768));
    CU_ASSERT_EQUAL(info.backward_macs, BATCH * (4608 + 2 * 768));
    CU_ASSERT_EQUAL(info.code_macs, 0);
    info = oct_plan_describe(e.plan);
    CU_ASSERT(info.macs == BATCH * (4608 + 768) && info.backward_macs == 0);
    release(&n);
    release(&e);
}

static void plan_times_are_medians_of_the_remembered_runs(void)
{
    const double sleep = 1e-3 * SLEEP_MS;
    net n = make_net(OCT_TRAIN);
    int count;
    ASSERT_OK(n.ctx, oct_plan_profile(n.plan, 3));
    run_step(&n, 0, true);
    run_step(&n, 1, true); /* slow, alone among three: neither a sum nor a mean would hide it */
    run_step(&n, 2, true);
    const oct_unit_time *t = oct_plan_times(n.plan, &count);
    CU_ASSERT_EQUAL_FATAL(count, 4);
    CU_ASSERT(t[1].forward > 0 && t[1].forward < sleep / 3);
    for (int i = 0; i < count; i++) CU_ASSERT(t[i].forward > 0 && t[i].backward > 0);
    run_step(&n, 3, false); /* takes the place of run 0: two slow ones of three */
    t = oct_plan_times(n.plan, &count);
    CU_ASSERT(t[1].forward >= sleep && t[1].backward > 0);
    run_step(
        &n, 4,
        false); /* in the place of run 1: the remembered ones are 2, 3, 4, two of them without backward */
    t = oct_plan_times(n.plan, &count);
    CU_ASSERT(t[1].forward < sleep && t[1].backward == 0);
    run_step(&n, 5, false);
    t = oct_plan_times(n.plan, &count);
    CU_ASSERT(t[1].forward >= sleep);
    ASSERT_OK(n.ctx, oct_plan_profile(n.plan, 2)); /* starts afresh */
    run_step(&n, 7, true);
    t = oct_plan_times(n.plan, &count);
    CU_ASSERT(t[1].forward >= sleep && t[1].backward > 0);
    release(&n);
}

static void plan_times_quantized_layers_run_on_codes(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    oct_plan *plan = NULL;
    oct_model model;
    oct_model_options o = {.height = 8, .width = 8, .channels = 3, .classes = 4};
    oct_qconfig config = OCT_QCONFIG_DEFAULT;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    REQUIRE_OK(ctx, oct_model_build(&model, g, "resnet8", &o));
    oct_plan_options options = {.batch = BATCH, .mode = OCT_TRAIN, .outputs = &model.loss, .output_count = 1};
    REQUIRE_OK(ctx, oct_plan_create(&plan, g, &options));
    oct_plan_info real = oct_plan_describe(plan);
    oct_plan_destroy(plan);
    REQUIRE_OK(ctx, oct_quantize(g, &config, NULL, NULL));
    REQUIRE_OK(ctx, oct_plan_create(&plan, g, &options));
    oct_plan_info quantized = oct_plan_describe(plan);
    CU_ASSERT(real.macs > 0 && real.code_macs == 0 && real.backward_macs > real.macs);
    CU_ASSERT(quantized.macs == real.macs && quantized.code_macs == real.macs);
    CU_ASSERT_EQUAL(quantized.backward_macs, real.backward_macs);
    oct_plan_destroy(plan);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static const test_case cases[] = {
    {"plan_profile_off_or_refused_gives_no_times", plan_profile_off_or_refused_gives_no_times},
    {"plan_profile_turned_on_between_the_ways_forgets_the_second",
     plan_profile_turned_on_between_the_ways_forgets_the_second},
    {"plan_times_count_work_of_units", plan_times_count_work_of_units},
    {"plan_times_are_medians_of_the_remembered_runs", plan_times_are_medians_of_the_remembered_runs},
    {"plan_times_quantized_layers_run_on_codes", plan_times_quantized_layers_run_on_codes},
};
TEST_SUITE("plan_profile", cases);
