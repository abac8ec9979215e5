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
                            .is_signed = s->in[0]->is_signed,
                            .fill = s->in[0]->zero_point};
    k->pad_image(scratch, in, &pad);
    return (operands){.at = scratch};
}

/* Padded copies of the input rows that output rows [begin, end) read, one per group; lookup NULL or as in engine.h. */
static operands operands_of(const oct_int8_step *s, const oct_i8_kernels *k, const uint8_t *in,
                            const oct_int8_layer *lookup, uint8_t *scratch, int begin, int end)
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
                      .is_signed = t->is_signed,
                      .fill = t->zero_point};
    pad.top = first < 0 ? -first : 0;
    pad.bottom = last >= t->height ? last - t->height + 1 : 0;
    pad.height = last + 1 - first - pad.top - pad.bottom;
    const uint8_t *source = in + (size_t)(first + pad.top) * in_row;
    int groups = l->op == OCT_INT8_CONV ? l->groups : 1;
    if (lookup) k->pad_pixels(scratch, source, lookup->table, lookup->table_rows, &pad);
    for (int g = 0; !lookup && g < groups; g++)
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

/* Outputs of each group that a part covers: a part is of one group or of all channels. */
static int part_outputs(const oct_int8_step *s, oct_int8_part part)
{
    return part.count < s->group_outputs ? part.count : s->group_outputs;
}

static oct_i8_conv_row conv_row_of(const oct_int8_step *s, const oct_i8_kernels *k, const operands *o, int pixels)
{
    const oct_int8_layer *l = &s->layer;
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
    return p;
}

/* One group after the other of consecutive output pixels of one row whose first operand (group 0) is x: into
 * acc[pixels][outputs], or where the kernels write codes into codes[pixels][outputs]. */
static void convolve_groups(const oct_int8_step *s, const oct_i8_kernels *k, int32_t *acc, uint8_t *codes,
                            const uint8_t *x, const operands *o, int pixels, oct_int8_part part)
{
    oct_i8_conv_row p = conv_row_of(s, k, o, pixels);
    p.outputs = part_outputs(s, part);
    const size_t first = (size_t)part.first;
    const size_t block = s->packed_block_bytes * (first / OCT_I8_BLOCK);
    size_t groups = s->layer.op == OCT_INT8_CONV ? (size_t)s->layer.groups : 1, outputs = (size_t)s->group_outputs;
    size_t starts = (outputs + OCT_I8_BLOCK - 1) / OCT_I8_BLOCK * OCT_I8_BLOCK;
    oct_i8_output end = {.zero = s->out->zero_point, .lo = s->layer.out_lo, .hi = s->layer.out_hi};
    for (size_t g = 0; g < groups; g++) {
        const uint8_t *in = x + g * s->cut.group_bytes;
        const uint8_t *w = (const uint8_t *)s->packed + g * s->packed_group_bytes + block;
        const int32_t *start = s->start + g * starts + first;
        if (codes) {
            if (s->affine.on)
                end.multiplier = s->affine.multiplier + g * starts + first;
            else
                end.shift = s->code_shift + g * starts + first;
            k->conv_codes(codes + first + g * outputs, in, w, start, &p, &end);
        } else {
            k->conv_row(acc + first + g * outputs, in, w, start, &p);
        }
    }
}

/* acc[pixels][outputs] */
static void accumulate(const oct_int8_step *s, const oct_i8_kernels *k, int32_t *acc, const uint8_t *x,
                       const operands *o, int pixels, oct_int8_part part)
{
    if (s->layer.op == OCT_INT8_DEPTHWISE)
        accumulate_depthwise(s, k, acc, x, o, pixels);
    else
        convolve_groups(s, k, acc, NULL, x, o, pixels, part);
}

/* `pixels` output pixels from `out_pixel` on, whose first operand is x; scores go straight to their place. */
static void convolve_row(const oct_int8_step *s, const oct_i8_kernels *k, void *out, size_t out_pixel,
                         const uint8_t *x, const operands *o, int32_t *acc, int pixels, oct_int8_part part)
{
    const oct_int8_layer *l = &s->layer;
    const size_t channels = (size_t)s->out->channels;
    const size_t step =
        (size_t)s->group_operands * (size_t)(l->op == OCT_INT8_LINEAR ? 1 : l->stride_w) * (size_t)k->operand_bytes;
    for (int done = 0; done < pixels; done += s->cut.chunk_pixels) {
        int count = pixels - done < s->cut.chunk_pixels ? pixels - done : s->cut.chunk_pixels;
        size_t at = (out_pixel + (size_t)done) * channels;
        if (s->writes_codes) {
            convolve_groups(s, k, NULL, (uint8_t *)out + at, x + (size_t)done * step, o, count, part);
            continue;
        }
        if (s->out->kind == OCT_INT8_SCORES) {
            accumulate(s, k, (int32_t *)out + at, x + (size_t)done * step, o, count, part);
            continue;
        }
        accumulate(s, k, acc, x + (size_t)done * step, o, count, part);
        if (s->affine.on)
            oct_int8_affine_requantize(s, k, (uint8_t *)out + at, acc, (size_t)count);
        else
            k->requantize((uint8_t *)out + at, acc, s->shift, (size_t)count, s->out->channels, l->out_lo, l->out_hi);
    }
}

/* Sums of whole rows of one group go straight to their place. */
static bool sums_of_rows(const oct_int8_step *s)
{
    return s->out->kind == OCT_INT8_SCORES && s->layer.op == OCT_INT8_CONV && s->layer.groups == 1;
}

/* Depthwise on codes: rows outside the image are rows of zeros. */
static void depthwise_rows(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *in, int begin,
                           int end)
{
    enum { MOST = (OCT_INT8_DEPTHWISE_ROWS - 1) * 2 + 5 };
    const oct_int8_layer *l = &s->layer;
    const oct_int8_tensor *t = s->in[0];
    const uint8_t *rows[MOST];
    size_t in_row = (size_t)t->width * (size_t)t->channels, out_row = (size_t)s->out->width * (size_t)t->channels;
    int first = begin * l->stride_h - l->pad_top, count = (end - begin - 1) * l->stride_h + l->kernel_h;
    for (int i = 0; i < count; i++) {
        int row = first + i;
        rows[i] = row < 0 || row >= t->height ? s->zeros : in + (size_t)row * in_row;
    }
    const oct_i8_depthwise_rows p = {.layer = oct_int8_step_depthwise(s),
                                     .rows = rows,
                                     .out_rows = end - begin,
                                     .pixels = s->out->width,
                                     .width = t->width,
                                     .left = l->pad_left,
                                     .fill = t->zero_point,
                                     .out_row = (ptrdiff_t)out_row,
                                     .affine = s->affine.on,
                                     .zero = s->out->zero_point,
                                     .lo = l->out_lo,
                                     .hi = l->out_hi};
    k->depthwise_codes(out + (size_t)begin * out_row, s->packed, &p);
}

void oct_int8_step_conv(const oct_int8_step *s, const oct_i8_kernels *k, void *out, const uint8_t *in,
                        uint8_t *scratch, int begin, int end)
{
    oct_int8_step_conv_part(s, k, out, in, NULL, scratch, (oct_int8_part){begin, end, 0, s->out->channels});
}

void oct_int8_step_conv_part(const oct_int8_step *s, const oct_i8_kernels *k, void *out, const uint8_t *in,
                             const oct_int8_layer *lookup, uint8_t *scratch, oct_int8_part part)
{
    int begin = part.begin, end = part.end, width = s->out->width;
    if (s->depthwise_codes) {
        depthwise_rows(s, k, out, in, begin, end);
        return;
    }
    operands o = operands_of(s, k, in, lookup, scratch, begin, end);
    int32_t *acc = (int32_t *)(void *)(scratch + s->cut.image_bytes);
    if (s->pointwise) {
        convolve_row(s, k, out, (size_t)begin * (size_t)width, o.at, &o, acc, (end - begin) * width, part);
        return;
    }
    size_t row_step = o.row_bytes * (size_t)s->layer.stride_h;
    if (sums_of_rows(s)) {
        oct_i8_conv_row p = conv_row_of(s, k, &o, width);
        p.outputs = part.count;
        p.rows = end - begin;
        p.x_next = (ptrdiff_t)row_step / k->operand_bytes;
        p.acc_next = (ptrdiff_t)width * s->out->channels;
        k->conv_row((int32_t *)out + begin * p.acc_next + part.first, o.at,
                    (const uint8_t *)s->packed + s->packed_block_bytes * (size_t)(part.first / OCT_I8_BLOCK),
                    s->start + part.first, &p);
        return;
    }
    for (int row = begin; row < end; row++)
        convolve_row(s, k, out, (size_t)row * (size_t)width, o.at + (size_t)(row - begin) * row_step, &o, acc, width,
                     part);
}
