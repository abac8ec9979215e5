/* SPDX-License-Identifier: BSD-2-Clause
 * Weights of one step in the layout of the kernels. The engine packs once at opening, quantized training once a step.
 */
#include <string.h>

#include "quant/int8/engine.h"

static int group_count(const oct_int8_step *s)
{
    return s->layer.op == OCT_INT8_CONV ? s->layer.groups : 1;
}

static size_t starts_of_group(const oct_int8_step *s)
{
    return (size_t)(s->group_outputs + OCT_I8_BLOCK - 1) / OCT_I8_BLOCK * OCT_I8_BLOCK;
}

static size_t packed_group(const oct_int8_step *s, const oct_i8_kernels *k)
{
    const oct_int8_layer *l = &s->layer;
    bool linear = l->op == OCT_INT8_LINEAR;
    if (s->depthwise_codes) {
        oct_i8_depthwise layer = oct_int8_step_depthwise(s);
        return oct_size_align(k->packed_depthwise_codes_bytes(&layer));
    }
    if (l->op == OCT_INT8_DEPTHWISE)
        return oct_size_align(k->packed_depthwise_bytes(l->kernel_h, l->kernel_w, s->out->channels));
    return oct_size_align(k->packed_conv_bytes(s->group_outputs, linear ? 1 : l->kernel_h, linear ? 1 : l->kernel_w,
                                               s->group_inputs));
}

size_t oct_int8_packed_bytes(const oct_int8_step *s, const oct_i8_kernels *k)
{
    return (size_t)group_count(s) * packed_group(s, k);
}

size_t oct_int8_start_count(const oct_int8_step *s)
{
    return (size_t)group_count(s) * starts_of_group(s);
}

/* Sum of the weights of output o. */
static int32_t weight_sum(const oct_int8_step *s, const oct_int8_layer *l, int o)
{
    bool depthwise = l->op == OCT_INT8_DEPTHWISE, linear = l->op == OCT_INT8_LINEAR;
    size_t taps = linear ? 1 : (size_t)l->kernel_h * (size_t)l->kernel_w;
    size_t count = depthwise ? taps : taps * (size_t)s->group_inputs, stride = depthwise ? (size_t)s->out->channels : 1;
    const int8_t *w = l->weights + (depthwise ? (size_t)o : (size_t)o * count);
    int32_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += w[i * stride];
    return sum;
}

/* start += bias, the compensation of the input's zero point and, where the kernels write codes by shifts, the constant that
 * makes them round. */
static void add_bias(const oct_int8_step *s, const oct_int8_layer *l, int32_t *start, int group)
{
    const int32_t zero = s->in[0]->zero_point;
    const int32_t *shift = s->code_shift ? s->code_shift + (size_t)group * starts_of_group(s) : NULL;
    for (int o = 0; o < s->group_outputs; o++) {
        if (l->bias) start[o] += l->bias[group * s->group_outputs + o];
        if (zero) start[o] -= zero * weight_sum(s, l, group * s->group_outputs + o);
        if (shift) start[o] += oct_i8_rounding(shift[o]);
    }
}

/* The outputs that fill up a block start at 0. */
static void pack_one_group(const oct_int8_step *s, const oct_int8_layer *l, const oct_i8_kernels *k, uint8_t *packed,
                           int32_t *start, int group)
{
    int is_signed = s->in[0]->is_signed;
    if (s->depthwise_codes) {
        oct_i8_depthwise layer = oct_int8_step_depthwise(s);
        memset(start, 0, starts_of_group(s) * sizeof *start);
        add_bias(s, l, start, 0);
        const void *stage = s->affine.on ? (const void *)s->affine.multiplier : (const void *)s->code_shift;
        k->pack_depthwise_codes(packed, l->weights, start, stage, &layer);
        return;
    }
    if (l->op == OCT_INT8_DEPTHWISE) {
        k->pack_depthwise(packed, start, l->weights, l->kernel_h, l->kernel_w, s->out->channels, is_signed);
    } else {
        bool linear = l->op == OCT_INT8_LINEAR;
        int taps_h = linear ? 1 : l->kernel_h, taps_w = linear ? 1 : l->kernel_w;
        size_t weights = (size_t)taps_h * (size_t)taps_w * (size_t)s->group_inputs * (size_t)s->group_outputs;
        k->pack_conv(packed, start, l->weights + (size_t)group * weights, s->group_outputs, taps_h, taps_w,
                     s->group_inputs, is_signed);
    }
    add_bias(s, l, start, group);
}

void oct_int8_pack_step(oct_int8_step *s, const oct_int8_layer *l, const oct_i8_kernels *k, uint8_t *packed,
                        int32_t *start)
{
    bool linear = l->op == OCT_INT8_LINEAR;
    s->packed_group_bytes = packed_group(s, k);
    s->packed_block_bytes = k->packed_conv_bytes(OCT_I8_BLOCK, linear ? 1 : l->kernel_h, linear ? 1 : l->kernel_w,
                                                 s->group_inputs);
    for (int g = 0; g < group_count(s); g++)
        pack_one_group(s, l, k, packed + (size_t)g * s->packed_group_bytes, start + (size_t)g * starts_of_group(s), g);
    s->packed = packed;
    s->start = start;
}
