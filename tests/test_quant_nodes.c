/* SPDX-License-Identifier: BSD-2-Clause
 * The quantizer's nodes through plans: ranges of points and what they must not see, batch-norm statistics,
 * state that must not move, data that must be refused, and the networks that the insertion pass makes. */
#include "optim/sgd.h"
#include "quant/export.h"
#include "tests/quant_net.h"

/* --- T4: the node on 10^5 values --- */

static void fake_quant_of(const net *n, const float *x, float *y)
{
    memcpy(oct_plan_input(n->plan, n->x), x, n->out_sample * sizeof *x);
    forward(n, &evaluation);
    for (size_t i = 0; i < n->out_sample; i++) y[i] = (float)output(n, i);
}

static void fake_quant_node_is_idempotent(const char *cpu)
{
    enum { COUNT = 100 * 100 * 10 };
    static float x[COUNT], y[COUNT], z[COUNT];
    for (int sign = OCT_SIGN_UNSIGNED; sign <= OCT_SIGN_SIGNED; sign++) {
        net n = net_open(&(net_opts){
            .batch = 1, .side = 100, .in = 10, .point = true, .sign = (oct_sign)sign, .cpu = cpu});
        set_range(&n, "yq/range", sign == OCT_SIGN_SIGNED ? -3 : 0, 3.1f);
        float step = sign == OCT_SIGN_SIGNED ? 1.0f / 32 : 1.0f / 64, lo = sign == OCT_SIGN_SIGNED ? -4 : 0,
              hi = 4 - step;
        test_fill_normal(x, COUNT, 4);
        x[0] = 0;
        x[1] = step / 2, x[2] = -step / 2, x[3] = 1.5f * step, x[4] = -1.5f * step; /* T3: ties go up */
        fake_quant_of(&n, x, y);
        fake_quant_of(&n, y, z);
        CU_ASSERT_EQUAL(memcmp(y, z, sizeof y), 0);
        CU_ASSERT_TRUE(y[0] == 0 && y[1] == step && y[2] == 0 && y[3] == 2 * step);
        CU_ASSERT_EQUAL(y[4], sign == OCT_SIGN_SIGNED ? -step : 0);
        int far = 0, outside = 0;
        for (int i = 0; i < COUNT; i++) {
            if (x[i] >= lo && x[i] <= hi) far += fabsf(y[i] - x[i]) > step / 2;
            outside += y[i] < lo || y[i] > hi;
        }
        CU_ASSERT_EQUAL(far, 0);
        CU_ASSERT_EQUAL(outside, 0);
        net_close(&n);
    }
}

static void fake_quant_is_idempotent(void)
{
    for_each_level(fake_quant_node_is_idempotent);
}

/* --- T8, T23, T24, T25, T35: ranges of a point --- */

static void observe_values(const net *n, const oct_run *run, float lo, float hi)
{
    float *x = oct_plan_input(n->plan, n->x);
    for (size_t i = 0; i < x_count(n); i++) x[i] = i % 2 ? lo : hi;
    forward(n, run);
}

static void range_follows_the_steps(void)
{
    net n = net_open(
        &(net_opts){.batch = 2, .side = 3, .in = 2, .relu = true, .point = true, .sign = OCT_SIGN_UNSIGNED});
    float *range = data_of(&n, "yq/range"), before[OCT_RANGE_FLOATS];
    static const float his[5] = {10, 1, 2, 3, 4}, expected[5] = {10, 1, 1.5f, 2, 2.5f};
    for (int i = 0; i < 5; i++) {
        observe_values(&n, &live, -his[i],
                       his[i]); /* 10 is above the first clip, 8: the range sees it all the same */
        CU_ASSERT_DOUBLE_EQUAL(range[OCT_RANGE_HI], expected[i], 1e-6);
        CU_ASSERT_DOUBLE_EQUAL(range[OCT_RANGE_LO], -expected[i], 1e-6); /* in front of the ReLU */
        CU_ASSERT_EQUAL(range[OCT_RANGE_COUNT], (float)i);
    }
    memcpy(before, range, sizeof before);
    observe_values(&n, &frozen, -100, 100);
    before[OCT_RANGE_COUNT] += 1; /* the counter goes on while the range is frozen */
    CU_ASSERT_EQUAL(memcmp(before, range, sizeof before), 0);
    observe_values(&n, &evaluation, -100, 100);
    CU_ASSERT_EQUAL(memcmp(before, range, sizeof before), 0);
    CU_ASSERT_EQUAL(output(&n, 0), 255.0 / 64); /* clip 4 */
    net_close(&n);
}

/* T8: a layer's range sees what the clip cuts off, live and with frozen statistics. */
static void range_of_a_layer_grows_beyond_its_clip(void)
{
    for (int bn_frozen = 0; bn_frozen < 2; bn_frozen++) {
        net n = net_open(&(net_opts){.batch = 2,
                                     .side = 4,
                                     .in = 2,
                                     .out = 2,
                                     .kernel = 1,
                                     .norm = true,
                                     .relu = true,
                                     .point = true,
                                     .sign = OCT_SIGN_UNSIGNED});
        set_range(&n, "xq/range", 0, 1);
        set_range(&n, "yq/range", 0, 0.25f);
        data_of(&n, "gamma")[0] = data_of(&n, "gamma")[1] = 30;
        for (int i = 0; i < 4; i++) data_of(&n, "w")[i] = 0.2f;
        fill_codes(&n, 8, 0, 255);
        oct_run run = {.mode = OCT_TRAIN, .bn_frozen = bn_frozen};
        for (int i = 0; i < 4; i++) forward(&n, &run);
        CU_ASSERT_TRUE(data_of(&n, "yq/range")[OCT_RANGE_HI] > 2);
        CU_ASSERT_EQUAL(data_of(&n, "yq/range")[OCT_RANGE_COUNT], 9);
        double largest = 0;
        for (size_t i = 0; i < n.out_sample; i++) largest = fmax(largest, output(&n, i));
        CU_ASSERT_TRUE(largest > 1);
        net_close(&n);
    }
}

static void cap_is_observed_after_it(void)
{
    net n = net_open(
        &(net_opts){.batch = 1, .side = 3, .in = 2, .cap = 6, .point = true, .sign = OCT_SIGN_UNSIGNED});
    observe_values(&n, &live, -100, 100);
    CU_ASSERT_EQUAL(data_of(&n, "yq/range")[OCT_RANGE_HI], 6);
    CU_ASSERT_EQUAL(output(&n, 0), 6); /* code 192 of clip 8 */
    CU_ASSERT_EQUAL(output(&n, 1), 0);
    net_close(&n);
}

static void undecided_point_flips_to_signed(void)
{
    net n = net_open(&(net_opts){.batch = 1, .side = 3, .in = 2, .point = true});
    for (int i = 0; i < 4; i++) observe_values(&n, &live, 0, 1);
    CU_ASSERT_EQUAL(oct_plan_tensor(n.plan, n.out)->is_signed, 0);
    CU_ASSERT_EQUAL(oct_plan_tensor(n.plan, n.out)->exponent, 8);
    observe_values(&n, &live, -1e-9f, 1);
    CU_ASSERT_EQUAL(oct_plan_tensor(n.plan, n.out)->is_signed, 1);
    CU_ASSERT_EQUAL(oct_plan_tensor(n.plan, n.out)->exponent, 7);
    for (int i = 0; i < 20; i++) observe_values(&n, &live, 0, 1);
    CU_ASSERT_EQUAL(oct_plan_tensor(n.plan, n.out)->is_signed, 1);
    net_close(&n);
}

/* T24: pixels outside the subsample hold outliers: they count in the extrema but not in the histogram, so the
 * tails are cut. Up to 4 rows and columns every pixel counts. */
static void histogram_is_subsampled_above_four_pixels(void)
{
    static const int sizes[4][2] = {{5, 5}, {4, 7}, {7, 4}, {4, 4}};
    for (int k = 0; k < 4; k++) {
        int height = sizes[k][0], width = sizes[k][1];
        bool whole = k > 0;
        net n = net_open(
            &(net_opts){.batch = 3, .side = height, .width = width, .in = 1, .point = true, .shrink = 1});
        oct_run run = {.mode = OCT_TRAIN, .seed = 9, .step = 0};
        for (; run.step < 8; run.step++) {
            int phase[2];
            oct_range_phase(phase, run.seed, n.out.id, run.step);
            float *x = oct_plan_input(n.plan, n.x);
            for (int i = 0; i < 3 * height * width; i++) {
                int row = i / width % height, column = i % width;
                bool sampled = row % 2 == phase[0] && column % 2 == phase[1];
                x[i] = sampled ? 1 + 0.1f * (float)(i % 3) : (row + column) % 2 ? 0 : 10;
            }
            float *range = data_of(&n, "yq/range");
            range[OCT_RANGE_COUNT] = -1; /* replace, do not average */
            forward(&n, &run);
            CU_ASSERT_TRUE(whole ? range[OCT_RANGE_HI] == 10 : range[OCT_RANGE_HI] < 1.5f);
            CU_ASSERT_TRUE(whole ? range[OCT_RANGE_LO] == 0 : range[OCT_RANGE_LO] > 0.5f);
        }
        net_close(&n);
    }
}

static void constant_and_zero_tensors_are_observed(void)
{
    net n = net_open(&(net_opts){.batch = 2, .side = 5, .in = 2, .point = true, .shrink = 1});
    observe_values(&n, &live, 3.5f, 3.5f);
    CU_ASSERT_TRUE(data_of(&n, "yq/range")[OCT_RANGE_LO] == 3.5f &&
                   data_of(&n, "yq/range")[OCT_RANGE_HI] == 3.5f);
    CU_ASSERT_EQUAL(output(&n, 0), 3.5);
    observe_values(&n, &live, 0, 0);
    CU_ASSERT_EQUAL(oct_plan_tensor(n.plan, n.out)->exponent, 24);
    CU_ASSERT_EQUAL(output(&n, 0), 0);
    net_close(&n);
}

/* T35: one value that is not finite stops the step, names the point and leaves every range alone; the next
 * batch is fine. */
static void nan_in_the_input_stops_the_step(void)
{
    static const float bad[3] = {NAN, INFINITY, -INFINITY};
    for (int with_layer = 0; with_layer < 2; with_layer++) {
        net n = net_open(&(net_opts){.batch = 3,
                                     .side = 5,
                                     .in = 2,
                                     .out = with_layer ? 2 : 0,
                                     .kernel = 3,
                                     .norm = true,
                                     .relu = true,
                                     .point = true,
                                     .shrink = 0.01f});
        fill_codes(&n, 35, 0, 255);
        forward(&n, &live);
        float *state = oct_alloc(n.graph->buffers.count, sizeof *state);
        CU_ASSERT_PTR_NOT_NULL_FATAL(state);
        memcpy(state, n.graph->buffers.data, n.graph->buffers.count * sizeof *state);
        for (int i = 0; i < 3; i++) {
            float *x = oct_plan_input(n.plan, n.x), old = x[77];
            x[77] = bad[i];
            CU_ASSERT_EQUAL(oct_plan_forward(n.plan, &live, 3), OCT_ERR_NUMERIC);
            CU_ASSERT_PTR_NOT_NULL(strstr(n.ctx->error.message, with_layer ? "'xq'" : "'yq'"));
            CU_ASSERT_EQUAL(memcmp(state, n.graph->buffers.data, n.graph->buffers.count * sizeof *state), 0);
            oct_error_clear(&n.ctx->error);
            x[77] = old;
        }
        forward(&n, &live);
        oct_free(state);
        net_close(&n);
    }
}

/* T35: a cap in front of the point does not hide a NaN. */
static void nan_in_front_of_a_cap_stops_the_step(void)
{
    net n = net_open(&(net_opts){.batch = 1, .side = 3, .in = 3, .cap = 6, .point = true});
    fill_codes(&n, 35, 0, 255);
    float range[OCT_RANGE_FLOATS];
    memcpy(range, data_of(&n, "yq/range"), sizeof range);
    ((float *)oct_plan_input(n.plan, n.x))[20] = NAN;
    CU_ASSERT_EQUAL(oct_plan_forward(n.plan, &live, 1), OCT_ERR_NUMERIC);
    CU_ASSERT_PTR_NOT_NULL(strstr(n.ctx->error.message, "'yq'"));
    CU_ASSERT_EQUAL(memcmp(range, data_of(&n, "yq/range"), sizeof range), 0);
    net_close(&n);
}

/* T35 inside a network: an affine that overflows is found at the layer's own point; a parameter that is NaN
 * at the fold. */
static void overflow_behind_a_layer_stops_the_step(void)
{
    net n = net_open(&(net_opts){
        .batch = 2, .side = 3, .in = 2, .out = 2, .kernel = 1, .norm = true, .relu = true, .point = true});
    fill_codes(&n, 36, 0, 255);
    forward(&n, &live);
    float range[OCT_RANGE_FLOATS];
    memcpy(range, data_of(&n, "yq/range"), sizeof range);
    data_of(&n, "gamma")[1] = 3e38f;
    data_of(&n, "beta")[1] = 3e38f;
    CU_ASSERT_EQUAL(oct_plan_forward(n.plan, &live, 2), OCT_ERR_NUMERIC);
    CU_ASSERT_PTR_NOT_NULL(strstr(n.ctx->error.message, "'yq'"));
    CU_ASSERT_EQUAL(memcmp(range, data_of(&n, "yq/range"), sizeof range), 0);
    static const char *const parameters[3] = {"w", "gamma", "beta"};
    for (int i = 0; i < 3; i++) {
        data_of(&n, "gamma")[1] = data_of(&n, "beta")[1] = 1;
        oct_error_clear(&n.ctx->error);
        float *p = data_of(&n, parameters[i]), old = p[1];
        p[1] = NAN;
        float state[2] = {data_of(&n, "mean")[1], data_of(&n, "var")[1]};
        CU_ASSERT_EQUAL(oct_plan_forward(n.plan, &live, 2), OCT_ERR_NUMERIC);
        CU_ASSERT_PTR_NOT_NULL(strstr(n.ctx->error.message, "'conv'"));
        CU_ASSERT_EQUAL(memcmp(range, data_of(&n, "yq/range"), sizeof range), 0);
        CU_ASSERT_TRUE(data_of(&n, "mean")[1] == state[0] && data_of(&n, "var")[1] == state[1]);
        p[1] = old;
    }
    net_close(&n);
}

/* The only difference: observation counters stand one higher. Sets them back. */
static bool only_counters_moved(float *now, const float *before, size_t count)
{
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        ok &= memcmp(&now[i], &before[i], sizeof *now) == 0 || now[i] == before[i] + 1;
        now[i] = before[i];
    }
    return ok;
}

/* T25: evaluation leaves all buffers as they are, bit for bit; training with everything frozen moves the counters alone. */
static void evaluation_leaves_all_state_alone(void)
{
    for (int fold = 0; fold < 2; fold++) {
        net n = net_open(&(net_opts){.batch = 2,
                                     .side = 6,
                                     .in = 3,
                                     .out = 4,
                                     .kernel = 3,
                                     .bias = true,
                                     .norm = true,
                                     .relu = true,
                                     .point = true,
                                     .shrink = 0.01f,
                                     .fold = (oct_fold_mode)fold});
        fill_codes(&n, 1, 0, 255);
        fill_target(&n, 0);
        for (int i = 0; i < 3; i++) forward(&n, &live);
        size_t bytes = n.graph->buffers.count * sizeof(float);
        float *state = oct_alloc(bytes, 1);
        CU_ASSERT_PTR_NOT_NULL_FATAL(state);
        memcpy(state, n.graph->buffers.data, bytes);
        oct_plan *eval;
        oct_plan_options po = {.batch = 2, .mode = OCT_EVAL, .outputs = &n.out, .output_count = 1};
        REQUIRE_OK(n.ctx, oct_plan_create(&eval, n.graph, &po));
        for (unsigned seed = 2; seed < 5; seed++) {
            fill_codes(&n, seed, 0, 255);
            memcpy(oct_plan_input(eval, n.x), oct_plan_input(n.plan, n.x), x_count(&n) * sizeof(float));
            ASSERT_OK(n.ctx, oct_plan_forward(eval, &evaluation, 2));
            forward(&n, &evaluation);
            CU_ASSERT_EQUAL(memcmp(oct_plan_tensor(eval, n.out)->data, oct_plan_tensor(n.plan, n.out)->data,
                                   2 * n.out_sample),
                            0);
            CU_ASSERT_EQUAL(memcmp(state, n.graph->buffers.data, bytes), 0);
            forward(&n, &frozen);
            backward(&n);
            CU_ASSERT_TRUE(only_counters_moved(n.graph->buffers.data, state, n.graph->buffers.count));
            CU_ASSERT_EQUAL(memcmp(oct_plan_tensor(eval, n.out)->data, oct_plan_tensor(n.plan, n.out)->data,
                                   2 * n.out_sample),
                            0);
        }
        CU_ASSERT_EQUAL(memcmp(state, n.graph->buffers.data, bytes), 0);
        forward(&n, &live); /* the comparison can fail */
        CU_ASSERT_NOT_EQUAL(memcmp(state, n.graph->buffers.data, bytes), 0);
        oct_plan_destroy(eval);
        oct_free(state);
        net_close(&n);
    }
}

/* --- T10, T11, T12: batch norm on codes --- */

/* One 1x1 convolution of one channel, two positions x = 1/4, 3/4; w = 1/2 in channel 0 and 3/4 in channel 1;
 * s = 1. */
static net two_positions(oct_fold_mode fold)
{
    net n = net_open(
        &(net_opts){.batch = 2, .side = 1, .in = 1, .out = 2, .kernel = 1, .norm = true, .fold = fold});
    set_range(&n, "xq/range", 0, 1);
    data_of(&n, "w")[0] = 0.5f;
    data_of(&n, "w")[1] = 0.75f;
    float *x = oct_plan_input(n.plan, n.x);
    x[0] = 0.25f;
    x[1] = 0.75f;
    fill_target(&n, 0);
    return n;
}

/* T10: the live branch uses the batch's statistics, evaluation the running ones; they agree only when those
 * are equal. */
static void live_statistics_differ_from_running_ones(void)
{
    net n = two_positions(OCT_FOLD_BATCH);
    forward(&n, &evaluation); /* (u - 0)/sqrt(0.75 + 0.25) */
    CU_ASSERT_DOUBLE_EQUAL(output(&n, 0), 0.125, 1e-6);
    CU_ASSERT_DOUBLE_EQUAL(output(&n, 2), 0.375, 1e-6);
    forward(&n, &live_ranges_frozen); /* u = 1/8, 3/8: mean 1/4, biased variance 1/64, unbiased 1/32 */
    double y = 0.125 / sqrt(1.0 / 64 + 0.25);
    CU_ASSERT_DOUBLE_EQUAL(output(&n, 0), -y, 1e-6);
    CU_ASSERT_DOUBLE_EQUAL(output(&n, 2), y, 1e-6);
    CU_ASSERT_DOUBLE_EQUAL(data_of(&n, "mean")[0], 0.025, 1e-8);
    CU_ASSERT_DOUBLE_EQUAL(data_of(&n, "var")[0], 0.9 * 0.75 + 0.1 / 32, 1e-7); /* T11: unbiased */
    /* the running statistics of this very batch: now both branches agree to the grid of the folded weights */
    for (int o = 0; o < 2; o++) {
        double w = o ? 0.75 : 0.5;
        data_of(&n, "mean")[o] = (float)(w / 2);
        data_of(&n, "var")[o] = (float)(w * w / 16);
    }
    forward(&n, &evaluation);
    CU_ASSERT_DOUBLE_EQUAL(output(&n, 0), -y, 0.01);
    CU_ASSERT_DOUBLE_EQUAL(output(&n, 2), y, 0.01);
    net_close(&n);
}

/* T10, 11.7 and 11.10: weights are folded with the statistics before the update in both modes; mode running
 * normalises with those after it. */
static void running_update_comes_between_fold_and_normalisation(void)
{
    net n = two_positions(OCT_FOLD_RUNNING);
    forward(&n, &live_ranges_frozen);
    double mean = 0.025, var = 0.675 + 0.1 / 32;
    CU_ASSERT_DOUBLE_EQUAL(data_of(&n, "mean")[0], mean, 1e-8);
    CU_ASSERT_DOUBLE_EQUAL(data_of(&n, "var")[0], var, 1e-7);
    /* the weights are those of s = 1, which is exact here */
    CU_ASSERT_DOUBLE_EQUAL(output(&n, 0), (0.125 - mean) / sqrt(var + 0.25), 1e-6);
    CU_ASSERT_DOUBLE_EQUAL(output(&n, 2), (0.375 - mean) / sqrt(var + 0.25), 1e-6);
    /* the next step folds with s = 1/sqrt(var + 0.25): of the larger weight, kappa 128 */
    double s = 1 / sqrt(var + 0.25), w = round(s * 0.5 * 128) / 128 / s;
    forward(&n, &live_ranges_frozen);
    CU_ASSERT_DOUBLE_EQUAL(data_of(&n, "mean")[0], 0.9 * mean + 0.1 * w / 2, 1e-7);
    net_close(&n);
}

/* T11: one position has no variance. */
static void one_position_is_an_error(void)
{
    net n = net_open(&(net_opts){
        .batch = 2, .side = 1, .in = 1, .out = 2, .kernel = 1, .norm = true, .relu = true, .point = true});
    fill_codes(&n, 1, 10, 200);
    CU_ASSERT_EQUAL(oct_plan_forward(n.plan, &live, 1), OCT_ERR_SHAPE);
    CU_ASSERT_PTR_NOT_NULL(strstr(n.ctx->error.message, "'norm'"));
    CU_ASSERT_TRUE(data_of(&n, "mean")[0] == 0 && data_of(&n, "var")[0] == 0.75f);
    oct_error_clear(&n.ctx->error);
    set_range(&n, "xq/range", 0, 1);
    ASSERT_OK(n.ctx, oct_plan_forward(n.plan, &frozen, 1));
    ASSERT_OK(n.ctx, oct_plan_forward(n.plan, &evaluation, 1));
    ASSERT_OK(n.ctx, oct_plan_forward(n.plan, &live, 2));
    net_close(&n);
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* Five steps on one batch; true when statistics, gradients and outputs stay finite. */
static bool training_stays_finite(net *n, const oct_run *run)
{
    bool finite = true;
    for (int step = 0; step < 5; step++) {
        forward(n, run);
        backward(n);
        finite &= all_finite(oct_plan_gradients(n->plan), n->graph->params.count);
        finite &= all_finite(n->graph->buffers.data, n->graph->buffers.count);
        for (size_t i = 0; i < n->out_sample; i++) finite &= isfinite(output(n, i)) != 0;
    }
    return finite;
}

/* T12: gamma 0 and below, a running variance of nothing, a channel that is constant over the batch. */
static void gamma_and_variance_extremes_stay_finite(void)
{
    for (int kind = 0; kind < 12; kind++) {
        net n = net_open(&(net_opts){.batch = 2,
                                     .side = 4,
                                     .in = 2,
                                     .out = 4,
                                     .kernel = 1,
                                     .bias = true,
                                     .norm = true,
                                     .eps = 1e-12f,
                                     .relu = kind % 2,
                                     .point = true,
                                     .per_channel = kind / 2 % 2,
                                     .fold = kind < 8 ? OCT_FOLD_BATCH : OCT_FOLD_RUNNING});
        fill_codes(&n, 12, 0, 255);
        float *x = oct_plan_input(n.plan, n.x);
        for (size_t i = 1; i < x_count(&n); i += 2) x[i] = 0.5f; /* input channel 1 is constant */
        fill_target(&n, 1);
        float *gamma = data_of(&n, "gamma"), *var = data_of(&n, "var"), *w = data_of(&n, "w");
        gamma[0] = 0;
        gamma[1] = -1.5f;
        var[2] = 1e-38f;
        w[6] = 0, w[7] = 0.4f; /* channel 3 reads the constant alone */
        bool frozen_statistics = kind >= 4 && kind < 8;
        oct_run run = {.mode = OCT_TRAIN, .bn_frozen = frozen_statistics};
        CU_ASSERT_TRUE(training_stays_finite(&n, &run));
        net_close(&n);
    }
}

/* T12b: a channel too weak for the tensor's scale has codes of zero only; its statistics stay, the others
 * move. */
static void dead_channel_keeps_its_statistics(void)
{
    for (int fold = 0; fold < 2; fold++) {
        net n = net_open(&(net_opts){.batch = 2,
                                     .side = 4,
                                     .in = 2,
                                     .out = 3,
                                     .kernel = 1,
                                     .bias = true,
                                     .norm = true,
                                     .relu = true,
                                     .point = true,
                                     .fold = (oct_fold_mode)fold});
        fill_codes(&n, 120, 0, 255);
        fill_target(&n, 1);
        float *w = data_of(&n, "w"), *mean = data_of(&n, "mean"), *var = data_of(&n, "var");
        w[2] = 1e-4f, w[3] = -1e-4f;
        mean[1] = 0.125f;
        CU_ASSERT_TRUE(training_stays_finite(&n, &live));
        CU_ASSERT_TRUE(mean[1] == 0.125f && var[1] == 0.75f);
        for (int o = 0; o < 3; o += 2) CU_ASSERT_TRUE(mean[o] != 0 && var[o] != 0.75f);
        net_close(&n);
    }
    /* per channel the same weights are fine enough, and live */
    net n = net_open(
        &(net_opts){.batch = 2, .side = 4, .in = 2, .out = 3, .kernel = 1, .norm = true, .per_channel = 1});
    set_range(&n, "xq/range", 0, 1);
    fill_codes(&n, 120, 0, 255);
    float *w = data_of(&n, "w");
    w[2] = 3e-3f, w[3] = -1e-3f;
    forward(&n, &live_ranges_frozen);
    CU_ASSERT_TRUE(data_of(&n, "mean")[1] != 0);
    net_close(&n);
}

/* --- T31: an average pool between two points --- */

static void average_pool_ties_on(const char *cpu)
{
    static const struct {
        int sum, code;
    } table[] = {{-6, -1}, {6, 2}, {-2, 0}, {2, 1}, {-10, -2}, {10, 3}, {-1, 0}, {-3, -1}};
    for (int global = 0; global < 2; global++) {
        oct_ctx *ctx = test_ctx_with(1, cpu);
        oct_graph *g;
        REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
        oct_value x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 2, 2, 8));
        oct_value pool = global ? oct_global_average_pool(g, "pool", x)
                                : oct_average_pool(g, "pool", x, (oct_pool_opts){.kernel = {2, 2}});
        CU_ASSERT_TRUE(pool.id >= 0);
        REQUIRE_OK(ctx, oct_quantize(g, &OCT_QCONFIG_DEFAULT, NULL, NULL));
        oct_value out = oct_graph_find(g, "pool/quant");
        const char *const ranges[2] = {"x/range", "pool/range"};
        for (int i = 0; i < 2; i++) {
            float *range = oct_graph_data(g, oct_graph_find(g, ranges[i]), NULL);
            range[OCT_RANGE_LO] = -1, range[OCT_RANGE_HI] = 1;
        }
        oct_plan *plan;
        oct_plan_options po = {.batch = 1, .mode = OCT_EVAL, .outputs = &out, .output_count = 1};
        REQUIRE_OK(ctx, oct_plan_create(&plan, g, &po));
        float *in = oct_plan_input(plan, x);
        for (int c = 0; c < 8; c++) {
            int left = table[c].sum; /* spread over the window: -6 = -2 -2 -1 -1 */
            for (int p = 0; p < 4; p++) {
                int part = left / (4 - p);
                in[p * 8 + c] = (float)part / 128;
                left -= part;
            }
        }
        ASSERT_OK(ctx, oct_plan_forward(plan, &evaluation, 1));
        const oct_tensor *t = oct_plan_tensor(plan, out);
        CU_ASSERT_TRUE_FATAL(t->is_signed && t->exponent == 7);
        for (int c = 0; c < 8; c++) CU_ASSERT_EQUAL(((const int8_t *)t->data)[c], table[c].code);
        oct_plan_destroy(plan);
        oct_graph_destroy(g);
        oct_ctx_destroy(ctx);
    }
}

static void average_pool_rounds_half_up(void)
{
    for_each_level(average_pool_ties_on);
}

/* --- networks that the insertion pass makes --- */

typedef struct built {
    oct_ctx *ctx;
    oct_graph *graph;
    oct_value image, logits;
} built;

/* A grayscale stem, a depthwise and a dense layer, a head. */
static built built_open(oct_per_channel per_channel)
{
    built b = {.ctx = test_ctx()};
    CU_ASSERT_EQUAL_FATAL(oct_graph_create(&b.graph, b.ctx, 4), OCT_OK);
    oct_graph *g = b.graph;
    b.image = oct_input(g, "image", OCT_U8, OCT_SHAPE(OCT_BATCH, 6, 6, 1));
    oct_value x = oct_normalize(g, "normalize", b.image,
                                (oct_normalize_attrs){{127.5f, 0, 0, 0}, {1 / 127.5f, 1, 1, 1}});
    x = oct_conv2d(g, "stem", x, (oct_conv2d_opts){.filters = 4, .kernel = {3, 3}, .padding = OCT_SAME});
    x = oct_relu(g, "stem/relu", oct_batch_norm(g, "stem/bn", x, oct_batch_norm_defaults()));
    x = oct_conv2d(g, "dw", x,
                   (oct_conv2d_opts){.filters = 4, .kernel = {3, 3}, .padding = OCT_SAME, .groups = 4});
    x = oct_relu(g, "dw/relu", oct_batch_norm(g, "dw/bn", x, oct_batch_norm_defaults()));
    x = oct_conv2d(g, "pw", x, (oct_conv2d_opts){.filters = 6, .kernel = {1, 1}});
    x = oct_relu(g, "pw/relu", x);
    b.logits = oct_linear(g, "head", oct_global_average_pool(g, "pool", x), (oct_linear_opts){.outputs = 3});
    CU_ASSERT_TRUE_FATAL(test_is_ok(&b.ctx->error, oct_graph_status(g), "network"));
    oct_qconfig config = {.shrink = -1, .per_channel = per_channel};
    CU_ASSERT_TRUE_FATAL(test_is_ok(&b.ctx->error, oct_quantize(g, &config, NULL, NULL), "quantize"));
    return b;
}

static void built_close(built *b)
{
    oct_graph_destroy(b->graph);
    oct_ctx_destroy(b->ctx);
}

/* T37: one input channel does not make a convolution depthwise. */
static void grayscale_stem_is_not_depthwise(void)
{
    static const char *const layers[4] = {"stem/weight_quant", "dw/weight_quant", "pw/weight_quant",
                                          "head/weight_quant"};
    static const int expected[3][4] = {{0, 0, 0, 0}, {0, 1, 0, 0}, {1, 1, 1, 1}};
    for (int config = OCT_PER_TENSOR; config <= OCT_PER_CHANNEL_ALL; config++) {
        built b = built_open((oct_per_channel)config);
        for (int i = 0; i < 4; i++) {
            const oct_node *n = oct_graph_node(b.graph, oct_graph_find(b.graph, layers[i]));
            CU_ASSERT_PTR_NOT_NULL_FATAL(n);
            CU_ASSERT_EQUAL(((const oct_fake_quant_weight_attrs *)n->attrs)->per_channel,
                            expected[config][i]);
        }
        const oct_node *stem = oct_graph_node(b.graph, oct_graph_find(b.graph, "stem"));
        CU_ASSERT_FALSE(oct_conv2d_is_depthwise(b.graph, stem));
        CU_ASSERT_EQUAL(oct_graph_node(b.graph, oct_graph_find(b.graph, "stem/weight"))->shape.rank, 4);
        built_close(&b);
    }
}

/* T40: every range counts; the export names the first that saw nothing, and works once all have. */
static void unobserved_ranges_are_refused(void)
{
    built b = built_open(OCT_PER_TENSOR);
    oct_exported *e = NULL;
    int points = oct_quantize_points(b.graph), refused = 0;
    for (const oct_node *n = oct_quantize_unobserved(b.graph); n;
         n = oct_quantize_unobserved(b.graph), refused++) {
        CU_ASSERT_TRUE_FATAL(refused < points);
        CU_ASSERT_EQUAL(oct_export_create(&e, b.graph, b.image, b.logits, &(oct_export_options){0}),
                        OCT_ERR_STATE);
        CU_ASSERT_PTR_NULL(e);
        CU_ASSERT_PTR_NOT_NULL(strstr(b.ctx->error.message, n->name));
        oct_error_clear(&b.ctx->error);
        float *range = oct_graph_data(b.graph, (oct_value){n->inputs[OCT_FQ_RANGE]}, NULL);
        oct_range_update(range, 0, 1);
    }
    CU_ASSERT_EQUAL(refused, points);
    REQUIRE_OK(b.ctx, oct_export_create(&e, b.graph, b.image, b.logits, &(oct_export_options){0}));
    oct_export_destroy(e);
    built_close(&b);
}

/* T40: one training step observes every range; evaluation none. */
static void one_step_observes_every_range(void)
{
    built b = built_open(OCT_PER_TENSOR);
    oct_plan *plan;
    oct_value loss = oct_softmax_cross_entropy(b.graph, "loss", b.logits, oct_labels(b.graph, "label"),
                                               oct_cross_entropy_defaults());
    oct_plan_options po = {
        .batch = 2, .mode = OCT_TRAIN, .outputs = (oct_value[]){loss, b.logits}, .output_count = 2};
    REQUIRE_OK(b.ctx, oct_plan_create(&plan, b.graph, &po));
    uint8_t *pixels = oct_plan_input(plan, b.image);
    for (int i = 0; i < 72; i++) pixels[i] = (uint8_t)(i * 37);
    memset(oct_plan_input(plan, oct_graph_find(b.graph, "label")), 0, 2 * sizeof(int32_t));
    ASSERT_OK(b.ctx, oct_plan_forward(plan, &evaluation, 2));
    ASSERT_OK(b.ctx, oct_plan_forward(plan, &frozen, 2));
    CU_ASSERT_PTR_NOT_NULL(oct_quantize_unobserved(b.graph));
    ASSERT_OK(b.ctx, oct_plan_forward(plan, &live, 2));
    CU_ASSERT_PTR_NULL(oct_quantize_unobserved(b.graph));
    oct_plan_destroy(plan);
    built_close(&b);
}

/* T27: a step without gradient shrinks every parameter, gamma, beta, biases and depthwise weights included.
 */
static void weight_decay_reaches_every_parameter(void)
{
    for (int weights_only = 0; weights_only < 2; weights_only++) {
        built b = built_open(OCT_PER_TENSOR);
        oct_graph *g = b.graph;
        for (int32_t i = 0; i < g->node_count; i++) /* none starts at zero */
            for (size_t k = 0; g->nodes[i]->kind == OCT_NODE_PARAMETER && k < g->nodes[i]->count; k++)
                g->params.data[g->nodes[i]->offset + k] = 1 + 0.5f * (float)k;
        float *zero = oct_calloc(g->params.count, sizeof *zero),
              *buffers = oct_alloc(g->buffers.count, sizeof *buffers);
        CU_ASSERT_TRUE_FATAL(zero && buffers);
        memcpy(buffers, g->buffers.data, g->buffers.count * sizeof *buffers);
        oct_sgd *sgd;
        REQUIRE_OK(b.ctx, oct_sgd_create(&sgd, g,
                                         &(oct_sgd_options){.momentum = 0.9f,
                                                            .weight_decay = 0.125f,
                                                            .decay_weights_only = weights_only}));
        ASSERT_OK(b.ctx, oct_sgd_step(sgd, g, zero, 1, 0.5f));
        int parameters = 0, depthwise = 0, vectors = 0;
        for (int32_t i = 0; i < g->node_count; i++) {
            const oct_node *n = g->nodes[i];
            if (n->kind != OCT_NODE_PARAMETER) continue;
            bool spared = weights_only && n->shape.rank < 2;
            parameters++;
            depthwise += n->shape.rank == 3;
            vectors += n->shape.rank < 2;
            for (size_t k = 0; k < n->count; k++) {
                float w = 1 + 0.5f * (float)k;
                CU_ASSERT_EQUAL(g->params.data[n->offset + k], spared ? w : w * (1 - 0.0625f));
            }
        }
        CU_ASSERT_TRUE(parameters == 12 && depthwise == 1 && vectors == 8);
        CU_ASSERT_EQUAL(memcmp(buffers, g->buffers.data, g->buffers.count * sizeof *buffers), 0);
        oct_sgd_destroy(sgd);
        oct_free(zero);
        oct_free(buffers);
        built_close(&b);
    }
}

static const test_case cases[] = {
    {"T4_T3_fake_quant_is_idempotent", fake_quant_is_idempotent},
    {"T8_range_follows_the_steps", range_follows_the_steps},
    {"T8_range_of_a_layer_grows_beyond_its_clip", range_of_a_layer_grows_beyond_its_clip},
    {"T8_cap_is_observed_after_it", cap_is_observed_after_it},
    {"T10_live_statistics_differ_from_running_ones", live_statistics_differ_from_running_ones},
    {"T10_running_update_comes_between_fold_and_normalisation",
     running_update_comes_between_fold_and_normalisation},
    {"T11_one_position_is_an_error", one_position_is_an_error},
    {"T12_gamma_and_variance_extremes_stay_finite", gamma_and_variance_extremes_stay_finite},
    {"T12b_dead_channel_keeps_its_statistics", dead_channel_keeps_its_statistics},
    {"T23_undecided_point_flips_to_signed", undecided_point_flips_to_signed},
    {"T24_histogram_is_subsampled_above_four_pixels", histogram_is_subsampled_above_four_pixels},
    {"T24_constant_and_zero_tensors_are_observed", constant_and_zero_tensors_are_observed},
    {"T25_evaluation_leaves_all_state_alone", evaluation_leaves_all_state_alone},
    {"T27_weight_decay_reaches_every_parameter", weight_decay_reaches_every_parameter},
    {"T31_average_pool_rounds_half_up", average_pool_rounds_half_up},
    {"T35_nan_in_the_input_stops_the_step", nan_in_the_input_stops_the_step},
    {"T35_nan_in_front_of_a_cap_stops_the_step", nan_in_front_of_a_cap_stops_the_step},
    {"T35_overflow_behind_a_layer_stops_the_step", overflow_behind_a_layer_stops_the_step},
    {"T37_grayscale_stem_is_not_depthwise", grayscale_stem_is_not_depthwise},
    {"T40_unobserved_ranges_are_refused", unobserved_ranges_are_refused},
    {"T40_one_step_observes_every_range", one_step_observes_every_range},
};
TEST_SUITE("quant_nodes", cases);
