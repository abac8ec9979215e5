/* SPDX-License-Identifier: BSD-2-Clause
 * Random int8 networks for the tests of the engine and of its files. Everything lives in one arena; the same seed gives
 * the same network. Include once per test program.
 */
#ifndef OCT_TESTS_INT8_NETWORKS_H
#define OCT_TESTS_INT8_NETWORKS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "quant/int8/spec.h"

enum { NET_MAX = 64 };

typedef struct net {
    oct_arena arena;
    oct_rng rng;
    oct_int8_tensor tensors[NET_MAX];
    oct_int8_layer layers[NET_MAX];
    oct_int8_spec spec;
} net;

static inline int net_pick(net *n, int lo, int hi)
{
    return lo + (int)oct_rng_below(&n->rng, (uint32_t)(hi - lo + 1));
}

static inline char *net_name(net *n, const char *stem, int index)
{
    char name[64];
    snprintf(name, sizeof name, "%s/%d", stem, index);
    return oct_arena_strdup(&n->arena, name);
}

static inline int net_tensor(net *n, oct_int8_kind kind, int height, int width, int channels, int is_signed,
                             int exponent)
{
    int t = n->spec.tensor_count++;
    n->tensors[t] = (oct_int8_tensor){.name = net_name(n, "value", t),
                                      .kind = kind,
                                      .height = height,
                                      .width = width,
                                      .channels = channels,
                                      .is_signed = is_signed,
                                      .exponent = exponent};
    return t;
}

static inline oct_int8_layer *net_layer(net *n, oct_int8_op op, int input, int output)
{
    int i = n->spec.layer_count++;
    n->layers[i] = (oct_int8_layer){.op = op,
                                    .name = net_name(n, oct_int8_op_name(op), i),
                                    .inputs = {input},
                                    .input_count = 1,
                                    .output = output};
    return &n->layers[i];
}

/* Limits of the output's type, sometimes cut as ReLU or ReLU6 would. */
static inline void net_limits(net *n, oct_int8_layer *l)
{
    const oct_int8_tensor *out = &n->tensors[l->output];
    if (out->kind != OCT_INT8_CODES) return;
    l->out_lo = out->is_signed && net_pick(n, 0, 3) ? -128 : 0;
    l->out_hi = out->is_signed ? 127 : 255;
    if (!net_pick(n, 0, 3)) l->out_hi -= net_pick(n, 0, 60);
}

/* Weights (extreme = all +-127), biases, exponents. The output tensor's exponent is set so that codes spread. */
static inline void net_weights(net *n, oct_int8_layer *l, bool extreme)
{
    oct_int8_tensor *in = &n->tensors[l->inputs[0]], *out = &n->tensors[l->output];
    size_t count = oct_int8_weight_count(&n->spec, l), outputs = (size_t)out->channels;
    int8_t *w = oct_arena_alloc(&n->arena, count, 1);
    int32_t *bias = oct_arena_alloc(&n->arena, outputs, sizeof *bias);
    bool per_channel = net_pick(n, 0, 1);
    l->weight_exponent_count = per_channel ? out->channels : 1;
    int8_t *exponents = oct_arena_alloc(&n->arena, (size_t)l->weight_exponent_count, 1);
    for (size_t i = 0; i < count; i++) {
        int code = net_pick(n, -127, 127);
        w[i] = (int8_t)(!extreme ? code : code < 0 ? -127 : 127);
    }
    int shift = 6;
    for (size_t per = count / outputs; per > 1; per /= 4) shift++;
    out->exponent = out->kind == OCT_INT8_CODES ? net_pick(n, -5, 12) : 0;
    int kw = out->exponent + shift - in->exponent;
    for (int i = 0; i < l->weight_exponent_count; i++)
        exponents[i] = (int8_t)(kw + (per_channel ? net_pick(n, -1, 1) : 0));
    for (size_t o = 0; o < outputs; o++) bias[o] = net_pick(n, -(40 << shift), 40 << shift);
    l->weights = w;
    l->bias = bias;
    l->weight_exponents = exponents;
    out->exponents = NULL;
    if (out->kind != OCT_INT8_SCORES) return;
    out->exponent = in->exponent + exponents[0];
    if (!per_channel) return;
    int8_t *scores = oct_arena_alloc(&n->arena, outputs, 1);
    for (size_t o = 0; o < outputs; o++) scores[o] = (int8_t)(in->exponent + exponents[o]);
    out->exponents = scores;
    out->exponent = 0;
}

static inline int net_side(int size, int before, int after, int kernel, int stride, int dilation)
{
    return (size + before + after - dilation * (kernel - 1) - 1) / stride + 1;
}

/* Convolution with the given kernel; groups 0 = depthwise. */
static inline int net_conv(net *n, int input, int outputs, int kernel, int groups, oct_int8_kind kind)
{
    oct_int8_tensor in = n->tensors[input];
    bool depthwise = groups == 0;
    int dilation = kernel > 1 && net_pick(n, 0, 3) == 0 ? 2 : 1, stride = net_pick(n, 0, 2) == 0 ? 2 : 1;
    int reach = dilation * (kernel - 1), pad[4], need = reach + 1;
    for (int i = 0; i < 4; i++) pad[i] = net_pick(n, 0, reach);
    for (; in.height + pad[0] + pad[2] < need; pad[0]++) {}
    for (; in.width + pad[1] + pad[3] < need; pad[1]++) {}
    int height = net_side(in.height, pad[0], pad[2], kernel, stride, dilation);
    int width = net_side(in.width, pad[1], pad[3], kernel, stride, dilation);
    int out = net_tensor(n, kind, height, width, depthwise ? in.channels : outputs,
                         kind == OCT_INT8_CODES && net_pick(n, 0, 1), 0);
    oct_int8_layer *l = net_layer(n, depthwise ? OCT_INT8_DEPTHWISE : OCT_INT8_CONV, input, out);
    l->kernel_h = l->kernel_w = kernel;
    l->stride_h = l->stride_w = stride;
    l->dilation_h = l->dilation_w = dilation;
    l->pad_top = pad[0], l->pad_left = pad[1], l->pad_bottom = pad[2], l->pad_right = pad[3];
    l->groups = depthwise ? in.channels : groups;
    net_limits(n, l);
    net_weights(n, l, net_pick(n, 0, 2) == 0);
    return out;
}

static inline int net_linear(net *n, int input, int outputs, oct_int8_kind kind)
{
    int out = net_tensor(n, kind, 1, 1, outputs, kind == OCT_INT8_CODES && net_pick(n, 0, 1), 0);
    oct_int8_layer *l = net_layer(n, OCT_INT8_LINEAR, input, out);
    net_limits(n, l);
    net_weights(n, l, net_pick(n, 0, 2) == 0);
    return out;
}

static inline int net_pool(net *n, int input, oct_int8_op op, bool global)
{
    oct_int8_tensor in = n->tensors[input];
    int kh = global ? in.height : net_pick(n, 1, in.height < 3 ? in.height : 3);
    int kw = global ? in.width : net_pick(n, 1, in.width < 3 ? in.width : 3), stride = net_pick(n, 1, 2);
    int pad[4] = {0};
    for (int i = 0; i < 4 && !global; i++) pad[i] = net_pick(n, 0, (i % 2 ? kw : kh) - 1);
    bool max = op == OCT_INT8_MAX_POOL;
    int out =
        net_tensor(n, OCT_INT8_CODES, net_side(in.height, pad[0], pad[2], kh, stride, 1),
                   net_side(in.width, pad[1], pad[3], kw, stride, 1), in.channels,
                   max ? in.is_signed : net_pick(n, 0, 1), max ? in.exponent : in.exponent + net_pick(n, -2, 2));
    oct_int8_layer *l = net_layer(n, op, input, out);
    l->kernel_h = kh, l->kernel_w = kw, l->stride_h = l->stride_w = stride, l->dilation_h = l->dilation_w = 1;
    l->pad_top = pad[0], l->pad_left = pad[1], l->pad_bottom = pad[2], l->pad_right = pad[3];
    l->groups = 1;
    if (!max) net_limits(n, l);
    return out;
}

/* add, sub, mul, concat or rescale of `input` with itself, re-scaled copies, or a tensor of the same shape. */
static inline int net_join(net *n, oct_int8_op op, int input)
{
    oct_int8_tensor in = n->tensors[input];
    int inputs[OCT_INT8_MAX_INPUTS] = {input}, count = 1, channels = in.channels;
    int most = op == OCT_INT8_RESCALE ? 1 : op == OCT_INT8_CONCAT ? net_pick(n, 1, 4) : 2;
    for (; count < most; count++) {
        inputs[count] = net_pick(n, 0, n->spec.tensor_count - 1);
        const oct_int8_tensor *t = &n->tensors[inputs[count]];
        bool fits = t->kind == OCT_INT8_CODES && t->height == in.height && t->width == in.width &&
                    (op == OCT_INT8_CONCAT || t->channels == in.channels);
        if (!fits) inputs[count] = input;
        if (op == OCT_INT8_CONCAT) channels += n->tensors[inputs[count]].channels;
    }
    int other = n->tensors[inputs[1]].exponent;
    int exponent =
        op == OCT_INT8_MUL ? in.exponent + other - 8 + net_pick(n, -1, 1) : in.exponent + net_pick(n, -2, 2);
    int out = net_tensor(n, OCT_INT8_CODES, in.height, in.width, channels, net_pick(n, 0, 1), exponent);
    oct_int8_layer *l = net_layer(n, op, input, out);
    memcpy(l->inputs, inputs, sizeof inputs);
    l->input_count = count;
    for (int i = count; i < OCT_INT8_MAX_INPUTS; i++) l->inputs[i] = 0;
    net_limits(n, l);
    return out;
}

static inline int net_lookup(net *n, int input, bool shared)
{
    oct_int8_tensor in = n->tensors[input];
    int rows = shared ? 1 : in.channels,
        out = net_tensor(n, OCT_INT8_CODES, in.height, in.width, in.channels, net_pick(n, 0, 1), net_pick(n, 0, 7));
    oct_int8_layer *l = net_layer(n, OCT_INT8_LOOKUP, input, out);
    uint8_t *table = oct_arena_alloc(&n->arena, (size_t)rows, 256);
    for (int i = 0; i < rows * 256; i++) table[i] = (uint8_t)net_pick(n, 0, 255);
    l->table = table;
    l->table_rows = rows;
    return out;
}

/* Padding, also between pixels, or a crop in steps; channels too. Sizes stay below 30. */
static inline int net_pad(net *n, int input)
{
    oct_int8_tensor in = n->tensors[input];
    int height = net_pick(n, 1, in.height + 4), width = net_pick(n, 1, in.width + 4), channels = net_pick(n, 1, in.channels + 3);
    int out = net_tensor(n, OCT_INT8_CODES, height < 30 ? height : 30, width < 30 ? width : 30, channels, in.is_signed,
                         in.exponent);
    oct_int8_layer *l = net_layer(n, OCT_INT8_PAD, input, out);
    l->kernel_h = l->kernel_w = l->groups = 1;
    l->stride_h = net_pick(n, 1, 2), l->stride_w = net_pick(n, 1, 2);
    l->dilation_h = net_pick(n, 1, 3), l->dilation_w = net_pick(n, 1, 2);
    l->pad_top = net_pick(n, -3, 3), l->pad_left = net_pick(n, -3, 3);
    l->option = net_pick(n, -3, in.channels + 1);
    return out;
}

static inline int net_resize(net *n, int input, oct_int8_op op)
{
    oct_int8_tensor in = n->tensors[input];
    int out = net_tensor(n, OCT_INT8_CODES, net_pick(n, 1, 20), net_pick(n, 1, 20), in.channels, in.is_signed, in.exponent);
    net_layer(n, op, input, out)->option = net_pick(n, 0, 2);
    return out;
}

static inline int net_reshape(net *n, int input)
{
    oct_int8_tensor in = n->tensors[input];
    int out = net_tensor(n, OCT_INT8_CODES, in.width, 1, in.height * in.channels, in.is_signed, in.exponent);
    net_layer(n, OCT_INT8_RESHAPE, input, out);
    return out;
}

static inline int net_softmax(net *n, int input)
{
    oct_int8_tensor in = n->tensors[input];
    int out = net_tensor(n, OCT_INT8_CODES, in.height, in.width, in.channels, 0, 8);
    oct_int8_layer *l = net_layer(n, OCT_INT8_SOFTMAX, input, out);
    uint8_t *table = oct_arena_alloc(&n->arena, 3, 256);
    for (int d = 0; d < 256; d++) { /* falls to 0, as the exponential does */
        int e = d ? (int)(8000000 / (1 + d * d)) : 1 << 23;
        table[d] = (uint8_t)e, table[256 + d] = (uint8_t)(e >> 8), table[512 + d] = (uint8_t)(e >> 16);
    }
    l->table = table;
    l->table_rows = 3;
    return out;
}

static inline int net_argmax(net *n, int input)
{
    oct_int8_tensor in = n->tensors[input];
    int out = net_tensor(n, OCT_INT8_SCORES, in.height, in.width, 1, 0, 0);
    net_layer(n, OCT_INT8_ARGMAX, input, out);
    return out;
}

static inline int net_flatten(net *n, int input)
{
    oct_int8_tensor in = n->tensors[input];
    int out = net_tensor(n, OCT_INT8_CODES, 1, 1, in.height * in.width * in.channels, in.is_signed, in.exponent);
    net_layer(n, OCT_INT8_FLATTEN, input, out);
    return out;
}

static inline int net_divisor(net *n, int a, int b)
{
    int best = 1;
    for (int d = 2; d <= a && d <= b; d++)
        if (a % d == 0 && b % d == 0 && (best == 1 || net_pick(n, 0, 1))) best = d;
    return best;
}

static inline int net_grow(net *n, int x)
{
    int outputs = net_pick(n, 1, 40), channels = n->tensors[x].channels;
    switch (net_pick(n, 0, 15)) {
    case 0:
    case 1:
        return net_conv(n, x, outputs, 3, 1, OCT_INT8_CODES);
    case 2:
        return net_conv(n, x, outputs, 1, 1, OCT_INT8_CODES);
    case 3:
        outputs = 12;
        return net_conv(n, x, outputs, net_pick(n, 1, 3), net_divisor(n, channels, outputs), OCT_INT8_CODES);
    case 4:
        return net_conv(n, x, 0, net_pick(n, 1, 5), 0, OCT_INT8_CODES);
    case 5:
        return net_join(n, OCT_INT8_ADD, x);
    case 6:
        return net_join(n, channels < 60 ? OCT_INT8_CONCAT : OCT_INT8_RESCALE, x);
    case 7:
        return net_join(n, net_pick(n, 0, 1) ? OCT_INT8_MUL : OCT_INT8_RESCALE, x);
    case 8:
        return net_pool(n, x, OCT_INT8_MAX_POOL, false);
    case 9:
        return net_pool(n, x, OCT_INT8_AVERAGE_POOL, net_pick(n, 0, 5) == 0);
    case 10:
        return net_join(n, OCT_INT8_SUB, x);
    case 11:
        return net_pad(n, x);
    case 12:
        return net_resize(n, x, OCT_INT8_RESIZE_NEAREST);
    case 13:
        return net_resize(n, x, OCT_INT8_RESIZE_BILINEAR);
    case 14:
        return net_pick(n, 0, 1) && n->tensors[x].height * channels < 400 ? net_reshape(n, x) : net_softmax(n, x);
    default:
        return net_lookup(n, x, net_pick(n, 0, 1));
    }
}

static inline void net_information(net *n)
{
    static const float mean[] = {127.5f, 0.25f, -3, 0, 1, 2, 3, 4}, scale[] = {0.0078125f, 1, 2, 3, 4, 5, 6, 7};
    int classes = n->tensors[n->spec.output].channels;
    const char **names = oct_arena_alloc(&n->arena, (size_t)classes, sizeof *names);
    for (int i = 0; i < classes; i++) names[i] = net_name(n, "class \xc3\xa9", i);
    n->spec.class_names = names;
    n->spec.class_count = classes;
    n->spec.mean = mean;
    n->spec.scale = scale;
    n->spec.resize = 40;
    n->spec.interpolation = 1;
}

static inline void net_start(net *n, unsigned seed)
{
    *n = (net){.rng = oct_rng_start(seed, OCT_RNG_SYNTHETIC, 8, 1)};
    oct_arena_init(&n->arena, 0);
    n->spec = (oct_int8_spec){.profile = OCT_INT8_PROFILE_PO2,
                              .tensors = n->tensors,
                              .layers = n->layers,
                              .source_digest = UINT64_C(0xfedcba9876543210) + seed,
                              .tool = "octet test"};
}

/* A network of `depth` random layers and a head. Caller releases with net_release. */
static inline void net_random(net *n, unsigned seed, int depth)
{
    net_start(n, seed);
    bool pixels = net_pick(n, 0, 3) != 0;
    int x = net_tensor(n, pixels ? OCT_INT8_PIXELS : OCT_INT8_CODES, net_pick(n, 5, 14), net_pick(n, 5, 14),
                       net_pick(n, 1, 6), !pixels && net_pick(n, 0, 1), pixels ? 0 : net_pick(n, 0, 8));
    n->spec.input = x;
    if (pixels) x = net_lookup(n, x, net_pick(n, 0, 3) == 0);
    for (int i = 0; i < depth; i++) {
        int out = net_grow(n, x);
        if (net_pick(n, 0, 4)) x = out; /* else a side branch that concat and add may find */
    }
    oct_int8_kind kind = net_pick(n, 0, 3) ? OCT_INT8_SCORES : OCT_INT8_CODES;
    int head = net_pick(n, 0, 5), outputs = net_pick(n, 1, 35);
    if (head == 0) x = net_flatten(n, x);
    if (head == 1) x = net_pool(n, x, OCT_INT8_AVERAGE_POOL, true);
    if (head == 2) {
        x = net_conv(n, x, outputs, 3, 1, kind);
    } else if (head == 3 && kind == OCT_INT8_SCORES) {
        x = net_conv(n, x, 0, 3, 0, kind);
    } else if (head == 5) {
        x = net_argmax(n, x);
    } else {
        x = net_linear(n, x, outputs, kind);
    }
    n->spec.output = x;
    net_information(n);
}

static inline void net_release(net *n)
{
    oct_arena_release(&n->arena);
}

static inline oct_status run_any(oct_int8_state *state, const oct_int8_model *model, const uint8_t *input, int count,
                          int32_t *scores)
{
    bool pixels = oct_int8_tensor_at(model, oct_int8_input(model))->kind == OCT_INT8_PIXELS;
    return pixels ? oct_int8_run(state, input, count, scores) : oct_int8_run_codes(state, input, count, scores);
}

#endif
