/* SPDX-License-Identifier: BSD-2-Clause
 * Profile affine for the tests of the engine and of its files: turns a random network of tests/int8_networks.h into one with
 * scales and zero points, and a plain model of its arithmetic that shares nothing with quant/int8/affine.h.
 */
#ifndef OCT_TESTS_INT8_AFFINE_H
#define OCT_TESTS_INT8_AFFINE_H

#include <math.h>

#include "tests/int8_networks.h"

static inline float affine_pick_scale(net *n, double about)
{
    if (net_pick(n, 0, 4) == 0) return (float)exp2(rint(log2(about))); /* ties */
    return (float)(about * (0.6 + 0.001 * net_pick(n, 0, 800)));
}

/* Scales of a layer's weights, and of its output such that codes spread. */
static inline void affine_weights(net *n, oct_int8_layer *l)
{
    oct_int8_tensor *in = &n->tensors[l->inputs[0]], *out = &n->tensors[l->output];
    bool per_channel = l->weight_exponent_count != 1;
    float *scales = oct_arena_alloc(&n->arena, (size_t)l->weight_exponent_count, sizeof *scales);
    double per = sqrt((double)(oct_int8_weight_count(&n->spec, l) / (size_t)out->channels));
    double about = out->kind == OCT_INT8_CODES ? (double)out->scale / (double)in->scale / (60 * per) : 0.01;
    for (int i = 0; i < l->weight_exponent_count; i++) scales[i] = affine_pick_scale(n, about);
    if (per_channel && out->kind == OCT_INT8_CODES && net_pick(n, 0, 9) == 0)
        scales[0] = (float)(2 * (double)out->scale / (double)in->scale); /* M > 1 */
    l->weight_scales = scales;
    l->weight_exponents = NULL;
}

static inline bool affine_keeps_grid(oct_int8_op op)
{
    return op == OCT_INT8_MAX_POOL || op == OCT_INT8_FLATTEN || op == OCT_INT8_RESHAPE || op == OCT_INT8_PAD ||
           op == OCT_INT8_RESIZE_NEAREST || op == OCT_INT8_RESIZE_BILINEAR;
}

static inline void net_make_affine(net *n, oct_int8_rounding rounding)
{
    n->spec.profile = OCT_INT8_PROFILE_AFFINE;
    n->spec.rounding = rounding;
    for (int i = 0; i < n->spec.tensor_count; i++) {
        oct_int8_tensor *t = &n->tensors[i];
        t->is_signed = 0, t->exponent = 0, t->exponents = NULL;
        if (t->kind != OCT_INT8_CODES) continue;
        t->scale = affine_pick_scale(n, 0.03);
        t->zero_point = net_pick(n, 0, 2) ? net_pick(n, 0, 255) : 0;
    }
    for (int i = 0; i < n->spec.layer_count; i++) {
        oct_int8_layer *l = &n->layers[i];
        oct_int8_tensor *in = &n->tensors[l->inputs[0]], *out = &n->tensors[l->output];
        if (l->op == OCT_INT8_MUL) out->scale = affine_pick_scale(n, (double)in->scale * 80 * 0.03);
        if (affine_keeps_grid(l->op)) out->scale = in->scale, out->zero_point = in->zero_point;
        if (l->op == OCT_INT8_SOFTMAX) out->scale = 0x1p-8f, out->zero_point = 0;
        if (oct_int8_op_has_limits(l->op) && out->kind == OCT_INT8_CODES) {
            l->out_lo = net_pick(n, 0, 3) ? 0 : out->zero_point;
            l->out_hi = net_pick(n, 0, 3) ? 255 : net_pick(n, l->out_lo, 255);
        }
        if (oct_int8_op_has_weights(l->op)) affine_weights(n, l);
    }
}

/* round(acc * ratio) as the rounding has it, no clamp. */
static inline double plain_affine_scaled(int64_t acc, double ratio, oct_int8_rounding rounding)
{
    if (rounding == OCT_INT8_ROUND_FLOAT) {
        volatile float value = (float)acc, factor = (float)ratio, product = value * factor;
        return rint((double)product);
    }
    /* ratio = q*2^(e-31), q rounded to 31 bits */
    int e = (int)floor(log2(ratio)) + 1;
    while (ldexp(1, e) <= ratio) e++;
    while (ldexp(1, e - 1) > ratio) e--;
    double q = round(ldexp(ratio, 31 - e));
    if (q == 0x1p31) q /= 2, e++;
    if (e < -31) return 0;
    __int128 product = (__int128)acc * (int64_t)q;
    if (rounding == OCT_INT8_ROUND_SINGLE) {
        __int128 half = (__int128)1 << (30 - e);
        __int128 sum = product + half, unit = half * 2;
        return (double)(sum >= 0 ? sum / unit : -((-sum + unit - 1) / unit));
    }
    if (e > 0) product *= (__int128)1 << e;
    __int128 sum = product + ((__int128)1 << 30), unit = (__int128)1 << 31;
    double high = (double)(sum >= 0 ? sum / unit : -((-sum + unit - 1) / unit));
    return e >= 0 ? high : round(ldexp(high, e)); /* ties away from 0 */
}

static inline int32_t plain_affine_code(double q, int zero, int lo, int hi)
{
    q += zero;
    return (int32_t)(q < lo ? lo : q > hi ? hi : q);
}

/* sign -1: the difference. */
static inline double plain_affine_add(const oct_int8_tensor *a, const oct_int8_tensor *b, const oct_int8_tensor *out, int32_t x,
                                      int sign, int32_t y, oct_int8_rounding rounding)
{
    double sa = (double)a->scale, sb = (double)b->scale, so = (double)out->scale, twice = 2 * (sa > sb ? sa : sb);
    const int64_t p = x - a->zero_point, q = y - b->zero_point;
    if (rounding == OCT_INT8_ROUND_FLOAT) {
        volatile float first = (float)p * (float)(sa / so), second = (float)q * (float)(sb / so);
        volatile float sum = sign < 0 ? first - second : first + second;
        return rint((double)sum);
    }
    double sum = plain_affine_scaled(p * (1 << 20), sa / twice, rounding) +
                 sign * plain_affine_scaled(q * (1 << 20), sb / twice, rounding);
    return plain_affine_scaled((int64_t)sum, twice / (so * 0x1p20), rounding);
}

#endif
