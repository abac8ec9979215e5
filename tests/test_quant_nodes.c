/* SPDX-License-Identifier: BSD-2-Clause
 * Single quantizer nodes and one-layer graphs, built by hand, through plans (the fused integer steps) and, where they
 * must agree, the reference executor: straight-through masks, ranges, statistics, gradients against finite differences,
 * accumulators beyond float's 24 bits, padding, state that must not move, and data that must be refused. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "autograd/plan.h"
#include "autograd/reference.h"
#include "layers/layers.h"
#include "optim/sgd.h"
#include "quant/export.h"
#include "quant/quantize.h"
#include "tests/testing.h"

enum { MAX_CHANNELS = 8 };

/* Calls `run` on every level this machine has. */
static void for_each_level(void (*run)(const char *cpu))
{
    for (int i = 0; oct_cpu_level_name(i); i++) {
        uint32_t mask;
        if (oct_cpu_parse(&mask, oct_cpu_level_name(i), NULL) == OCT_OK && !(mask & ~oct_cpu_detect())) run(oct_cpu_level_name(i));
    }
}

/* x -> [pre: float 1x1 convolution] -> fake_quant -> convolution -> [batch_norm_fold] -> [relu | clip] -> [fake_quant] -> loss,
 * or without the convolution: x -> [pre] -> [relu | clip] -> fake_quant -> loss. */
typedef struct net_opts {
    int batch, side, in, out, kernel; /* out 0: no convolution. Stride 1, SAME padding */
    bool depthwise, pre, bias, norm, relu, point;
    float cap;                        /* > 0: clip(0, cap) instead of ReLU */
    float eps;                        /* of batch norm; 0 = 0.25 */
    oct_fold_mode fold;
    int per_channel;
    oct_sign sign;                    /* of the last point */
    float shrink;
    const char *cpu;
} net_opts;

typedef struct net {
    net_opts o;
    oct_ctx *ctx;
    oct_graph *graph;
    oct_plan *plan;
    oct_value x, target, out, loss;
    size_t out_sample;
} net;

static oct_value append_point(net *n, oct_value x, oct_value observed, const char *name, oct_sign sign)
{
    char range_name[32];
    snprintf(range_name, sizeof range_name, "%s/range", name);
    oct_value range = oct_buffer(n->graph, range_name, OCT_SHAPE(OCT_RANGE_FLOATS), 0);
    oct_fake_quant_attrs attrs = {.sign = sign, .shrink = n->o.shrink};
    oct_value fq = oct_op_append(n->graph, &oct_op_fake_quant, name, &attrs, (oct_value[]){x, observed, range}, 3);
    CU_ASSERT_EQUAL_FATAL(oct_graph_status(n->graph), OCT_OK);
    oct_range_init(oct_graph_data(n->graph, range, NULL), sign);
    return fq;
}

static oct_value append_layer(net *n, oct_value x)
{
    const net_opts *o = &n->o;
    oct_graph *g = n->graph;
    oct_shape shape = o->depthwise ? OCT_SHAPE(o->kernel, o->kernel, o->out) : OCT_SHAPE(o->out, o->kernel, o->kernel, o->in);
    oct_value w = oct_parameter(g, "w", shape, (oct_init){OCT_INIT_NORMAL, 0.3f}), b = {-1}, in[8];
    if (o->bias) b = oct_parameter(g, "b", OCT_SHAPE(o->out), (oct_init){OCT_INIT_NORMAL, 0.3f});
    oct_value gamma = {-1}, beta = {-1}, mean = {-1}, var = {-1};
    if (o->norm) {
        gamma = oct_parameter(g, "gamma", OCT_SHAPE(o->out), (oct_init){OCT_INIT_ONE, 0});
        beta = oct_parameter(g, "beta", OCT_SHAPE(o->out), (oct_init){OCT_INIT_ZERO, 0});
        mean = oct_buffer(g, "mean", OCT_SHAPE(o->out), 0);
        var = oct_buffer(g, "var", OCT_SHAPE(o->out), 0.75f);
    }
    int count = 0;
    in[count++] = w, in[count++] = x;
    if (o->norm) in[count++] = gamma, in[count++] = beta, in[count++] = mean, in[count++] = var;
    if (o->bias) in[count++] = b;
    float eps = o->eps > 0 ? o->eps : 0.25f;
    oct_fake_quant_weight_attrs wa = {.per_channel = o->per_channel, .has_norm = o->norm, .has_bias = o->bias, .eps = eps};
    oct_value wq = oct_op_append(g, &oct_op_fake_quant_weight, "wq", &wa, in, count);
    int pad = o->kernel / 2;
    oct_conv2d_attrs conv = {.kernel = {o->kernel, o->kernel}, .stride = {1, 1}, .dilation = {1, 1},
                             .pad = {pad, pad, pad, pad}, .groups = o->depthwise ? o->in : 1};
    count = 0;
    in[count++] = x, in[count++] = wq;
    if (o->bias && !o->norm) in[count++] = oct_op_append(g, &oct_op_fake_quant_bias, "bq", NULL, (oct_value[]){b, x, wq}, 3);
    oct_value y = oct_op_append(g, &oct_op_conv2d, "conv", &conv, in, count);
    if (!o->norm) return y;
    oct_batch_norm_fold_attrs na = {.eps = eps, .momentum = 0.1f, .fold = o->fold};
    return oct_op_append(g, &oct_op_batch_norm_fold, "norm", &na, (oct_value[]){y, gamma, beta, mean, var, x, wq, b}, o->bias ? 8 : 7);
}

static float *data_of(const net *n, const char *name)
{
    float *data = oct_graph_data(n->graph, oct_graph_find(n->graph, name), NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(data);
    return data;
}

static void set_range(const net *n, const char *name, float lo, float hi)
{
    float *range = data_of(n, name);
    range[OCT_RANGE_LO] = lo;
    range[OCT_RANGE_HI] = hi;
    range[OCT_RANGE_COUNT] = 5;
    range[OCT_RANGE_OBSERVED] = 1;
}

static net net_open(const net_opts *o)
{
    net n = {.o = *o, .ctx = test_ctx_with(2, o->cpu)};
    CU_ASSERT_EQUAL_FATAL(oct_graph_create(&n.graph, n.ctx, 1), OCT_OK);
    oct_graph *g = n.graph;
    CU_ASSERT_EQUAL_FATAL(oct_graph_add_fuser(g, &oct_quant_fuser), OCT_OK);
    oct_value v = n.x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, o->side, o->side, o->in));
    int channels = o->out ? o->out : o->in;
    n.target = oct_input(g, "target", OCT_F32, OCT_SHAPE(OCT_BATCH, o->side, o->side, channels));
    if (o->pre) v = oct_conv2d(g, "pre", v, (oct_conv2d_opts){.filters = o->in, .kernel = {1, 1}});
    if (o->out) v = append_layer(&n, append_point(&n, v, v, "xq", OCT_SIGN_AUTO));
    oct_value before = v;
    if (o->relu) v = oct_relu(g, "relu", v);
    if (o->cap > 0) v = oct_clip(g, "clip", v, 0, o->cap);
    if (o->point) v = append_point(&n, v, o->relu ? before : v, "yq", o->sign);
    n.out = v;
    n.loss = oct_mean_squared_error(g, "loss", n.out, n.target);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n.ctx->error, oct_graph_status(g), "net"));
    oct_plan_options po = {.batch = o->batch, .mode = OCT_TRAIN, .outputs = (oct_value[]){n.loss, n.out}, .output_count = 2};
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n.ctx->error, oct_plan_create(&n.plan, g, &po), "plan"));
    n.out_sample = (size_t)(o->side * o->side * channels);
    return n;
}

static void net_close(net *n)
{
    oct_plan_destroy(n->plan);
    oct_graph_destroy(n->graph);
    oct_ctx_destroy(n->ctx);
}

static size_t x_count(const net *n)
{
    return (size_t)(n->o.batch * n->o.side * n->o.side * n->o.in);
}

/* Codes c/256 with c in [low, high]: on the grid of a range (0, 1). */
static void fill_codes(const net *n, unsigned seed, int low, int high)
{
    float *x = oct_plan_input(n->plan, n->x);
    oct_rng rng = oct_rng_start(seed, OCT_RNG_SYNTHETIC, 0, 0);
    for (size_t i = 0; i < x_count(n); i++)
        x[i] = (float)(low + (int32_t)oct_rng_below(&rng, (uint32_t)(high - low + 1))) / 256;
}

static void fill_target(const net *n, float value)
{
    float *t = oct_plan_input(n->plan, n->target);
    for (size_t i = 0; i < n->out_sample * (size_t)n->o.batch; i++) t[i] = value + 0.01f * (float)(i % 7);
}

/* Element i of the output, codes or floats. */
static double output(const net *n, size_t i)
{
    const oct_tensor *t = oct_plan_tensor(n->plan, n->out);
    if (t->storage == OCT_STORE_F32) return (double)((const float *)t->data)[i];
    double code = t->is_signed ? (double)((const int8_t *)t->data)[i] : (double)((const uint8_t *)t->data)[i];
    return ldexp(code, -t->exponent);
}

static const float *gradient(const net *n, const char *name)
{
    return oct_plan_gradients(n->plan) + oct_graph_node(n->graph, oct_graph_find(n->graph, name))->offset;
}

static void forward(const net *n, const oct_run *run)
{
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n->ctx->error, oct_plan_forward(n->plan, run, n->o.batch), "forward"));
}

static void backward(const net *n)
{
    memset(oct_plan_gradients(n->plan), 0, n->graph->params.count * sizeof(float));
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n->ctx->error, oct_plan_backward(n->plan, 1), "backward"));
}

/* The reference's output for the plan's inputs; afterwards compares both. Returns false when they differ anywhere. */
static bool reference_agrees(const net *n, const oct_run *run, const char *gradient_of)
{
    oct_reference *r;
    CU_ASSERT_EQUAL_FATAL(oct_reference_create(&r, n->graph, n->o.batch), OCT_OK);
    const float *x = oct_plan_input(n->plan, n->x), *t = oct_plan_input(n->plan, n->target);
    size_t outputs = n->out_sample * (size_t)n->o.batch;
    for (size_t i = 0; i < x_count(n); i++) oct_reference_input(r, n->x)[i] = (double)x[i];
    for (size_t i = 0; i < outputs; i++) oct_reference_input(r, n->target)[i] = (double)t[i];
    ASSERT_OK(n->ctx, oct_reference_forward(r, run, n->loss));
    forward(n, run);
    bool same = true;
    for (size_t i = 0; i < outputs; i++) same &= (float)oct_reference_value(r, n->out)[i] == (float)output(n, i);
    if (gradient_of) {
        backward(n);
        ASSERT_OK(n->ctx, oct_reference_backward(r, run, n->loss));
        const oct_node *p = oct_graph_node(n->graph, oct_graph_find(n->graph, gradient_of));
        const double *d = oct_reference_gradient(r, (oct_value){p->id});
        for (size_t i = 0; i < p->count; i++) same &= fabs(d[i] - (double)gradient(n, gradient_of)[i]) <= 1e-5 * fabs(d[i]) + 1e-12;
    }
    oct_reference_destroy(r);
    return same;
}

static const oct_run live = {.mode = OCT_TRAIN, .seed = 3, .step = 4};
static const oct_run live_ranges_frozen = {.mode = OCT_TRAIN, .range_frozen = 1};
static const oct_run frozen = {.mode = OCT_TRAIN, .bn_frozen = 1, .range_frozen = 1};
static const oct_run evaluation = {.mode = OCT_EVAL};

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
        net n = net_open(&(net_opts){.batch = 1, .side = 100, .in = 10, .point = true, .sign = (oct_sign)sign, .cpu = cpu});
        set_range(&n, "yq/range", sign == OCT_SIGN_SIGNED ? -3 : 0, 3.1f);
        float step = sign == OCT_SIGN_SIGNED ? 1.0f / 32 : 1.0f / 64, lo = sign == OCT_SIGN_SIGNED ? -4 : 0, hi = 4 - step;
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

/* --- T6: masks at the ends, on the four ways a mask is made --- */

enum mask_path { MASK_POINT, MASK_LAYER, MASK_NORM_LIVE, MASK_NORM_FROZEN, MASK_PATHS };

typedef struct mask_case {
    oct_sign sign;
    bool relu;
    float cap;
    float x[5];
    int passes[5];
} mask_case;

/* Values reach the activation as a bias (point, layer) or as beta of a channel whose weights are zero (norm). */
static void check_masks(const mask_case *c, enum mask_path path)
{
    net_opts o = {.batch = 2, .side = 1, .in = path == MASK_POINT ? 5 : 1, .out = path == MASK_POINT ? 0 : 5, .kernel = 1,
                  .pre = path == MASK_POINT, .bias = path == MASK_LAYER, .norm = path >= MASK_NORM_LIVE, .relu = c->relu,
                  .cap = c->cap, .point = true, .sign = c->sign};
    net n = net_open(&o);
    const char *carrier = path == MASK_POINT ? "pre/bias" : path == MASK_LAYER ? "b" : "beta";
    float *w = data_of(&n, path == MASK_POINT ? "pre/weight" : "w");
    memset(w, 0, sizeof *w * (path == MASK_POINT ? 25 : 5));
    memcpy(data_of(&n, carrier), c->x, sizeof c->x);
    set_range(&n, "yq/range", c->sign == OCT_SIGN_SIGNED ? -1 : 0, 1);
    if (path != MASK_POINT) set_range(&n, "xq/range", 0, 1);
    fill_codes(&n, 1, 1, 200);
    fill_target(&n, -50); /* every gradient that passes is far from zero */
    const oct_run *run = path == MASK_NORM_LIVE ? &live_ranges_frozen : &frozen;
    CU_ASSERT_TRUE(reference_agrees(&n, run, carrier));
    for (int i = 0; i < 5; i++) {
        bool passed = gradient(&n, carrier)[i] != 0;
        CU_ASSERT_EQUAL(passed, c->passes[i]);
        if (passed != c->passes[i]) printf("    path %d, x = %.9g: passed = %d\n", (int)path, (double)c->x[i], passed);
    }
    net_close(&n);
}

static void pact2_mask_table(void)
{
    const float e = 0x1p-20f;
    const mask_case table[] = {
        /* both ends pass, and so does what saturates below the clip */
        {OCT_SIGN_UNSIGNED, false, 0, {-e, 0, 0.999f, 1, 1 + e}, {0, 1, 1, 1, 0}},
        {OCT_SIGN_AUTO, false, 0, {-e, 0, e, 1, 1 + e}, {0, 1, 1, 1, 0}},
        {OCT_SIGN_SIGNED, false, 0, {-1 - e, -1, 0, 1, 1 + e}, {0, 1, 1, 1, 0}},
        /* ReLU's own gradient is 0 at 0 */
        {OCT_SIGN_UNSIGNED, true, 0, {-e, 0, e, 1, 1 + e}, {0, 0, 1, 1, 0}},
        /* a cap below the clip: 0 at both of its ends */
        {OCT_SIGN_UNSIGNED, false, 0.5f, {0, e, 0.5f - e, 0.5f, 0.75f}, {0, 1, 1, 0, 0}},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        for (int path = 0; path < MASK_PATHS; path++) check_masks(&table[i], (enum mask_path)path);
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
    net n = net_open(&(net_opts){.batch = 2, .side = 3, .in = 2, .relu = true, .point = true, .sign = OCT_SIGN_UNSIGNED});
    float *range = data_of(&n, "yq/range"), before[OCT_RANGE_FLOATS];
    static const float his[5] = {10, 1, 2, 3, 4}, expected[5] = {10, 1, 1.5f, 2, 2.5f};
    for (int i = 0; i < 5; i++) {
        observe_values(&n, &live, -his[i], his[i]); /* 10 is above the first clip, 8: the range sees it all the same */
        CU_ASSERT_DOUBLE_EQUAL(range[OCT_RANGE_HI], expected[i], 1e-6);
        CU_ASSERT_DOUBLE_EQUAL(range[OCT_RANGE_LO], -expected[i], 1e-6); /* in front of the ReLU */
        CU_ASSERT_EQUAL(range[OCT_RANGE_COUNT], (float)i);
    }
    memcpy(before, range, sizeof before);
    observe_values(&n, &frozen, -100, 100);
    CU_ASSERT_EQUAL(memcmp(before, range, sizeof before), 0); /* the counter does not move either */
    observe_values(&n, &evaluation, -100, 100);
    CU_ASSERT_EQUAL(memcmp(before, range, sizeof before), 0);
    CU_ASSERT_EQUAL(output(&n, 0), 255.0 / 64); /* clip 4 */
    net_close(&n);
}

/* T8: a layer's range sees what the clip cuts off, live and with frozen statistics. */
static void range_of_a_layer_grows_beyond_its_clip(void)
{
    for (int bn_frozen = 0; bn_frozen < 2; bn_frozen++) {
        net n = net_open(&(net_opts){.batch = 2, .side = 4, .in = 2, .out = 2, .kernel = 1, .norm = true, .relu = true,
                                     .point = true, .sign = OCT_SIGN_UNSIGNED});
        set_range(&n, "xq/range", 0, 1);
        set_range(&n, "yq/range", 0, 0.25f);
        data_of(&n, "gamma")[0] = data_of(&n, "gamma")[1] = 30;
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
    net n = net_open(&(net_opts){.batch = 1, .side = 3, .in = 2, .cap = 6, .point = true, .sign = OCT_SIGN_UNSIGNED});
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

/* T24: pixels outside the subsample hold outliers. They count in the extrema and vanish from the histogram, so the tails are
 * cut down to the subsample; up to 4 rows or columns, every pixel counts. */
static bounds_check(int unused);
