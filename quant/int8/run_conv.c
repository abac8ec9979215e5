/* SPDX-License-Identifier: BSD-2-Clause
 * Steps with weights: pad the rows that are needed, accumulate a chunk of pixels, requantize it.
 */
#include "quant/int8/engine.h"

/* The operands of a block of output rows: first operand of group 0, and the distance of an output row. */
typedef struct operands {
    const uint8_t *at;
    size_t row_bytes; /* of one row of the padded image */
} operands;

static operands operands_of_linear(const oct_int8_step *s, const oct_i8_kernels *k, const uint8_t *in,
                                   uint8_t *scratch)
{
    if (s->in_place) return (operands){.at = in};
    const oct_i8_pad pad = {.height = 1,
                            .width = 1,
                            .channels = s->group_inputs,
                            .source_pixel = s->group_inputs,
                            .padded_channels = s->group_operands,
                            .is_signed = s->in[0]->is_signed};
    k->pad_image(scratch, in, &pad);
    return (operands){.at = scratch};
}

/* Padded copies of the input rows that output rows [begin, end) read, one per group. */
static operands operands_of(const oct_int8_step *s, const oct_i8_kernels *k, const uint8_t *in, uint8_t *scratch,
                            int begin, int end)
{
    const oct_int8_layer *l = &s->layer;
    const oct_int8_tensor *t = s->in[0];
    if (l->op == OCT_INT8_LINEAR) return operands_of_linear(s, k, in, scratch);
    int first = begin * l->stride_h - l->pad_top;
    int last = (end - 1) * l->stride_h - l->pad_top + l->dilation_h * (l->kernel_h - 1); /* inclusive */
    size_t in_row = (size_t)t->width * (size_t)t->channels;
    if (s->in_place) return (operands){.at = in + (size_t)first * in_row, .row_bytes = in_row};

    oct_i8_pad pad = {.width = t->width,
                      .channels = s->group_inputs,
                      .source_pixel = t->channels,
                      .left = l->pad_left,
                      .right = l->pad_right,
                      .padded_channels = s->group_operands,
                      .is_signed = t->is_signed};
    pad.top = first < 0 ? -first : 0;
    pad.bottom = last >= t->height ? last - t->height + 1 : 0;
    pad.height = last + 1 - first - pad.top - pad.bottom;
    const uint8_t *source = in + (size_t)(first + pad.top) * in_row;
    int groups = l->op == OCT_INT8_CONV ? l->groups : 1;
    for (int g = 0; g < groups; g++)
        k->pad_image(scratch + (size_t)g * s->cut.group_bytes, source + (size_t)g * (size_t)s->group_inputs, &pad);
    size_t width = (size_t)(t->width + l->pad_left + l->pad_right);
    return (operands){.at = scratch, .row_bytes = width * (size_t)s->group_operands * (size_t)k->operand_bytes};
}

static void accumulate_depthwise(const oct_int8_step *s, const oct_i8_kernels *k, int32_t *acc, const uint8_t *x,
                                 const operands *o, int pixels)
{
    const oct_int8_layer *l = &s->layer;
    const ptrdiff_t channels = s->group_operands;
    const oct_i8_depthwise_row p = {.pixels = pixels,
                                    .channels = s->out->channels,
                                    .taps_h = l->kernel_h,
                                    .taps_w = l->kernel_w,
                                    .x_pixel = channels * l->stride_w,
                                    .x_row = (ptrdiff_t)o->row_bytes / k->operand_bytes * l->dilation_h,
                                    .x_tap = channels * l->dilation_w,
                                    .acc_pixel = s->out->channels};
    k->depthwise_row(acc, x, s->packed, s->start, &p);
}

/* acc[pixels][outputs] of consecutive output pixels of one row whose first operand (group 0) is x. */
static void accumulate(const oct_int8_step *s, const oct_i8_kernels *k, int32_t *acc, const uint8_t *x,
                       const operands *o, int pixels)
{
    const oct_int8_layer *l = &s->layer;
    if (l->op == OCT_INT8_DEPTHWISE) {
        accumulate_depthwise(s, k, acc, x, o, pixels);
        return;
    }
    const ptrdiff_t channels = s->group_operands;
    oct_i8_conv_row p = {.pixels = pixels,
                         .outputs = s->group_outputs,
                         .taps_h = 1,
                         .taps_w = 1,
                         .channels = s->group_operands,
                         .x_pixel = channels,
                         .acc_pixel = s->out->channels};
    if (l->op == OCT_INT8_CONV) {
        p.taps_h = l->kernel_h;
        p.taps_w = l->kernel_w;
        p.x_pixel = channels * l->stride_w;
        p.x_row = (ptrdiff_t)o->row_bytes / k->operand_bytes * l->dilation_h;
        p.x_tap = channels * l->dilation_w;
    }
    int groups = l->op == OCT_INT8_CONV ? l->groups : 1;
    size_t starts = (size_t)(s->group_outputs + OCT_I8_BLOCK - 1) / OCT_I8_BLOCK * OCT_I8_BLOCK;
    for (int g = 0; g < groups; g++)
        k->conv_row(acc + (ptrdiff_t)g * s->group_outputs, x + (size_t)g * s->cut.group_bytes,
                    (const uint8_t *)s->packed + (size_t)g * s->packed_group_bytes, s->start + (size_t)g * starts,
                    &p);
}

/* `pixels` output pixels from `out_pixel` on, whose first operand is x; scores go straight to their place. */
static void convolve_row(const oct_int8_step *s, const oct_i8_kernels *k, void *out, size_t out_pixel,
                         const uint8_t *x, const operands *o, int32_t *acc, int pixels)
{
    const oct_int8_layer *l = &s->layer;
    const size_t channels = (size_t)s->out->channels;
    const size_t step =
        (size_t)s->group_operands * (size_t)(l->op == OCT_INT8_LINEAR ? 1 : l->stride_w) * (size_t)k->operand_bytes;
    for (int done = 0; done < pixels; done += s->cut.chunk_pixels) {
        int count = pixels - done < s->cut.chunk_pixels ? pixels - done : s->cut.chunk_pixels;
        size_t at = (out_pixel + (size_t)done) * channels;
        if (!s->shift) {
            accumulate(s, k, (int32_t *)out + at, x + (size_t)done * step, o, count);
            continue;
        }
        accumulate(s, k, acc, x + (size_t)done * step, o, count);
        k->requantize((uint8_t *)out + at, acc, s->shift, (size_t)count, s->out->channels, l->out_lo, l->out_hi);
    }
}

void oct_int8_step_conv(const oct_int8_step *s, const oct_i8_kernels *k, void *out, const uint8_t *in,
                        uint8_t *scratch, int begin, int end)
{
    operands o = operands_of(s, k, in, scratch, begin, end);
    int32_t *acc = (int32_t *)(void *)(scratch + s->cut.image_bytes);
    int width = s->out->width;
    if (s->pointwise) {
        convolve_row(s, k, out, (size_t)begin * (size_t)width, o.at, &o, acc, (end - begin) * width);
        return;
    }
    size_t row_step = o.row_bytes * (size_t)s->layer.stride_h;
    for (int row = begin; row < end; row++)
        convolve_row(s, k, out, (size_t)row * (size_t)width, o.at + (size_t)(row - begin) * row_step, &o, acc, width);
}
