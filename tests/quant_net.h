/* SPDX-License-Identifier: BSD-2-Clause
 * Small quantized networks built by hand from the quantizer's ops, for its tests: one point, or one layer
 * between two points, with every choice open. Each can run through a plan and through the reference executor.
 */
#ifndef OCT_TESTS_QUANT_NET_H
#define OCT_TESTS_QUANT_NET_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "autograd/plan.h"
#include "autograd/reference.h"
#include "layers/layers.h"
#include "quant/quantize.h"
#include "tests/testing.h"

/* Calls `run` on every level this machine has. */
static inline void for_each_level(void (*run)(const char *cpu))
{
    for (int i = 0; oct_cpu_level_name(i); i++) {
        uint32_t mask;
        if (oct_cpu_parse(&mask, oct_cpu_level_name(i), NULL) == OCT_OK && !(mask & ~oct_cpu_detect()))
            run(oct_cpu_level_name(i));
    }
}

/* x -> [pre: float 1x1 convolution] -> fake_quant -> convolution -> [batch_norm_fold] -> [relu | clip] ->
 * [fake_quant] -> loss, or without the convolution: x -> [pre] -> [relu | clip] -> fake_quant -> loss. */
typedef struct net_opts {
    int batch, side, in, out, kernel; /* out 0: no convolution. Stride 1, SAME padding */
    int width;                        /* 0 = side */
    bool depthwise, pre, bias, norm, relu, point;
    float cap; /* > 0: clip(0, cap) instead of ReLU */
    float eps; /* of batch norm; 0 = 0.25 */
    oct_fold_mode fold;
    int per_channel;
    oct_int8_rounding rounding; /* not SHIFT: profile affine */
    oct_averaging averaging;
    oct_sign sign; /* of the last point */
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

static inline oct_value append_point(net *n, oct_value x, oct_value observed, const char *name, oct_sign sign)
{
    char range_name[32];
    snprintf(range_name, sizeof range_name, "%s/range", name);
    oct_value range = oct_buffer(n->graph, range_name, OCT_SHAPE(OCT_RANGE_FLOATS), 0);
    oct_fake_quant_attrs attrs = {.sign = (int32_t)sign, .shrink = n->o.shrink, .rounding = (int32_t)n->o.rounding,
                                  .averaging = (int32_t)n->o.averaging};
    oct_value fq =
        oct_op_append(n->graph, &oct_op_fake_quant, name, &attrs, (oct_value[]){x, observed, range}, 3);
    CU_ASSERT_EQUAL_FATAL(oct_graph_status(n->graph), OCT_OK);
    oct_range_init(oct_graph_data(n->graph, range, NULL), sign);
    return fq;
}

static inline oct_value append_layer(net *n, oct_value x)
{
    const net_opts *o = &n->o;
    oct_graph *g = n->graph;
    oct_shape shape = o->depthwise ? OCT_SHAPE(o->kernel, o->kernel, o->out)
                                   : OCT_SHAPE(o->out, o->kernel, o->kernel, o->in);
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
    oct_fake_quant_weight_attrs wa = {
        .per_channel = o->per_channel, .has_norm = o->norm, .has_bias = o->bias, .eps = eps,
        .affine = o->rounding != OCT_INT8_ROUND_SHIFT};
    oct_value wq = oct_op_append(g, &oct_op_fake_quant_weight, "wq", &wa, in, count);
    int pad = o->kernel / 2;
    oct_conv2d_attrs conv = {.kernel = {o->kernel, o->kernel},
                             .stride = {1, 1},
                             .dilation = {1, 1},
                             .pad = {pad, pad, pad, pad},
                             .groups = o->depthwise ? o->in : 1};
    count = 0;
    in[count++] = x, in[count++] = wq;
    if (o->bias && !o->norm)
        in[count++] = oct_op_append(g, &oct_op_fake_quant_bias, "bq", NULL, (oct_value[]){b, x, wq}, 3);
    oct_value y = oct_op_append(g, &oct_op_conv2d, "conv", &conv, in, count);
    if (!o->norm) return y;
    oct_batch_norm_fold_attrs na = {.eps = eps, .momentum = 0.1f, .fold = (int32_t)o->fold};
    return oct_op_append(g, &oct_op_batch_norm_fold, "norm", &na,
                         (oct_value[]){y, gamma, beta, mean, var, x, wq, b}, o->bias ? 8 : 7);
}

static inline float *data_of(const net *n, const char *name)
{
    float *data = oct_graph_data(n->graph, oct_graph_find(n->graph, name), NULL);
    CU_ASSERT_PTR_NOT_NULL_FATAL(data);
    return data;
}

static inline void set_range(const net *n, const char *name, float lo, float hi)
{
    float *range = data_of(n, name);
    range[OCT_RANGE_LO] = lo;
    range[OCT_RANGE_HI] = hi;
    range[OCT_RANGE_COUNT] = 5;
    range[OCT_RANGE_OBSERVED] = 1;
}

static inline void fill_target(const net *n, float value)
{
    float *t = oct_plan_input(n->plan, n->target);
    for (size_t i = 0; i < n->out_sample * (size_t)n->o.batch; i++) t[i] = value + 0.01f * (float)(i % 7);
}

static inline net net_open(const net_opts *o)
{
    net n = {.o = *o, .ctx = test_ctx_with(2, o->cpu)};
    CU_ASSERT_EQUAL_FATAL(oct_graph_create(&n.graph, n.ctx, 1), OCT_OK);
    oct_graph *g = n.graph;
    CU_ASSERT_EQUAL_FATAL(oct_graph_add_fuser(g, &oct_quant_fuser), OCT_OK);
    int width = o->width ? o->width : o->side;
    oct_value v = n.x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, o->side, width, o->in));
    int channels = o->out ? o->out : o->in;
    n.target = oct_input(g, "target", OCT_F32, OCT_SHAPE(OCT_BATCH, o->side, width, channels));
    if (o->pre) v = oct_conv2d(g, "pre", v, (oct_conv2d_opts){.filters = o->in, .kernel = {1, 1}});
    if (o->out) v = append_layer(&n, append_point(&n, v, v, "xq", OCT_SIGN_AUTO));
    oct_value before = v;
    if (o->relu) v = oct_relu(g, "relu", v);
    if (o->cap > 0) v = oct_clip(g, "clip", v, 0, o->cap);
    if (o->point) v = append_point(&n, v, o->relu ? before : v, "yq", o->sign);
    n.out = v;
    n.loss = oct_mean_squared_error(g, "loss", n.out, n.target);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n.ctx->error, oct_graph_status(g), "net"));
    oct_plan_options po = {
        .batch = o->batch, .mode = OCT_TRAIN, .outputs = (oct_value[]){n.loss, n.out}, .output_count = 2};
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n.ctx->error, oct_plan_create(&n.plan, g, &po), "plan"));
    n.out_sample = (size_t)(o->side * width * channels);
    fill_target(&n, 0);
    return n;
}

static inline void net_close(net *n)
{
    oct_plan_destroy(n->plan);
    oct_graph_destroy(n->graph);
    oct_ctx_destroy(n->ctx);
}

static inline size_t x_count(const net *n)
{
    return (size_t)n->o.batch * oct_shape_sample(&oct_graph_node(n->graph, n->x)->shape);
}

/* Codes c/256 with c in [low, high]: on the grid of a range (0, 1). */
static inline void fill_codes(const net *n, unsigned seed, int low, int high)
{
    float *x = oct_plan_input(n->plan, n->x);
    oct_rng rng = oct_rng_start(seed, OCT_RNG_SYNTHETIC, 0, 0);
    for (size_t i = 0; i < x_count(n); i++)
        x[i] = (float)(low + (int32_t)oct_rng_below(&rng, (uint32_t)(high - low + 1))) / 256;
}

/* Element i of the output, codes or floats. */
static inline double output(const net *n, size_t i)
{
    const oct_tensor *t = oct_plan_tensor(n->plan, n->out);
    if (t->storage == OCT_STORE_F32) return (double)((const float *)t->data)[i];
    double code = t->is_signed ? (double)((const int8_t *)t->data)[i] : (double)((const uint8_t *)t->data)[i];
    return (code - t->zero_point) * (double)t->scale;
}

static const float *gradient(const net *n, const char *name)
{
    return oct_plan_gradients(n->plan) + oct_graph_node(n->graph, oct_graph_find(n->graph, name))->offset;
}

static inline void forward(const net *n, const oct_run *run)
{
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n->ctx->error, oct_plan_forward(n->plan, run, n->o.batch), "forward"));
}

static inline void backward(const net *n)
{
    memset(oct_plan_gradients(n->plan), 0, n->graph->params.count * sizeof(float));
    CU_ASSERT_TRUE_FATAL(test_is_ok(&n->ctx->error, oct_plan_backward(n->plan, 1), "backward"));
}

/* The reference's output for the plan's inputs; afterwards compares both. Returns false when they differ
 * anywhere. */
static inline bool reference_agrees(const net *n, const oct_run *run, const char *gradient_of)
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
    for (size_t i = 0; i < outputs; i++)
        same &= (float)oct_reference_value(r, n->out)[i] == (float)output(n, i);
    if (gradient_of) {
        backward(n);
        ASSERT_OK(n->ctx, oct_reference_backward(r, run, n->loss));
        const oct_node *p = oct_graph_node(n->graph, oct_graph_find(n->graph, gradient_of));
        const double *d = oct_reference_gradient(r, (oct_value){p->id});
        for (size_t i = 0; i < p->count; i++)
            same &= fabs(d[i] - (double)gradient(n, gradient_of)[i]) <= 1e-5 * fabs(d[i]) + 1e-12;
    }
    oct_reference_destroy(r);
    return same;
}

static const oct_run live = {.mode = OCT_TRAIN, .seed = 3, .step = 4};
static const oct_run live_ranges_frozen = {.mode = OCT_TRAIN, .range_frozen = 1};
static const oct_run frozen = {.mode = OCT_TRAIN, .bn_frozen = 1, .range_frozen = 1};
static const oct_run evaluation = {.mode = OCT_EVAL};

#endif
