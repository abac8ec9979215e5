/* SPDX-License-Identifier: BSD-2-Clause
 * Steps that change shapes or look along channels: pad and crop, resizes, softmax, argmax.
 */
#include <string.h>

#include "quant/int8/engine.h"

static size_t pixel_at(const oct_int8_tensor *t, int row, int column)
{
    return ((size_t)row * (size_t)t->width + (size_t)column) * (size_t)t->channels;
}

/* Input position of output o, -1 = none. */
static int pad_source(int o, int stride, int pad, int dilation, int in)
{
    int64_t at = (int64_t)o * stride - pad;
    if (at < 0 || at % dilation || at / dilation >= in) return -1;
    return (int)(at / dilation);
}

static void run_pad(const oct_int8_step *s, uint8_t *out, const uint8_t *in, int begin, int end)
{
    const oct_int8_layer *l = &s->layer;
    const oct_int8_tensor *x = s->in[0], *y = s->out;
    int first = l->option > 0 ? l->option : 0, to = l->option < 0 ? -l->option : 0; /* channels: copied from, to */
    int count = x->channels - first < y->channels - to ? x->channels - first : y->channels - to;
    for (int p = begin; p < end; p++) {
        int row = pad_source(p, l->stride_h, l->pad_top, l->dilation_h, x->height);
        for (int q = 0; q < y->width; q++) {
            uint8_t *pixel = out + pixel_at(y, p, q);
            int column = row < 0 ? -1 : pad_source(q, l->stride_w, l->pad_left, l->dilation_w, x->width);
            bool copies = column >= 0 && count > 0;
            if (!copies || count < y->channels) memset(pixel, y->zero_point, (size_t)y->channels);
            if (copies) memcpy(pixel + to, in + pixel_at(x, row, column) + first, (size_t)count);
        }
    }
}

/* --- resizes --- */

enum { GRID_HALF_PIXEL, GRID_ASYMMETRIC, GRID_ALIGN_CORNERS, FRACTION = 1024 };

/* The position of output o times *denominator, within the input. */
static int64_t exact_position(int grid, int o, int in, int out, int64_t *denominator)
{
    int64_t n = (int64_t)o * in, d = out;
    if (grid == GRID_HALF_PIXEL) n = (2 * (int64_t)o + 1) * in - out, d = 2 * (int64_t)out;
    if (grid == GRID_ALIGN_CORNERS) n = (int64_t)o * (in - 1), d = out > 1 ? out - 1 : 1;
    *denominator = d;
    return n < 0 ? 0 : n > (in - 1) * d ? (in - 1) * d : n;
}

static int nearest_source(int grid, int o, int in, int out)
{
    int64_t d, n = exact_position(grid, o, in, out, &d);
    int64_t at = grid == GRID_ASYMMETRIC ? n / d : (2 * n + d) / (2 * d);
    return (int)(at < in ? at : in - 1);
}

static void run_nearest(const oct_int8_step *s, uint8_t *out, const uint8_t *in, int begin, int end)
{
    const oct_int8_tensor *x = s->in[0], *y = s->out;
    for (int p = begin; p < end; p++) {
        int row = nearest_source(s->layer.option, p, x->height, y->height);
        for (int q = 0; q < y->width; q++) {
            int column = nearest_source(s->layer.option, q, x->width, y->width);
            memcpy(out + pixel_at(y, p, q), in + pixel_at(x, row, column), (size_t)y->channels);
        }
    }
}

/* Pixels at and at + next, weights FRACTION - fraction and fraction; next is 0 where the second has no weight. */
typedef struct blend {
    int at, next, fraction;
} blend;

static blend blend_of(int grid, int o, int in, int out)
{
    int64_t d, n = exact_position(grid, o, in, out, &d), at = n / d;
    int fraction = (int)((2 * FRACTION * (n - at * d) + d) / (2 * d));
    return (blend){(int)at, fraction > 0, fraction};
}

static void run_bilinear(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *in, int begin,
                         int end)
{
    const oct_int8_tensor *x = s->in[0], *y = s->out;
    for (int p = begin; p < end; p++) {
        blend v = blend_of(s->layer.option, p, x->height, y->height);
        for (int q = 0; q < y->width; q++) {
            blend h = blend_of(s->layer.option, q, x->width, y->width);
            const uint8_t *corner[4];
            int32_t weight[4];
            for (int i = 0; i < 4; i++) {
                corner[i] = in + pixel_at(x, v.at + (i / 2 ? v.next : 0), h.at + (i % 2 ? h.next : 0));
                weight[i] = (i / 2 ? v.fraction : FRACTION - v.fraction) * (i % 2 ? h.fraction : FRACTION - h.fraction);
            }
            k->blend(out + pixel_at(y, p, q), corner, weight, y->channels, x->is_signed);
        }
    }
}

/* --- along channels --- */

/* Codes as 0..255 in their order. */
static inline int ordered(uint8_t code, int is_signed)
{
    return is_signed ? code ^ 128 : code;
}

static int largest_of(const uint8_t *x, int channels, int is_signed)
{
    int best = 0;
    for (int c = 0; c < channels; c++) best = ordered(x[c], is_signed) > best ? ordered(x[c], is_signed) : best;
    return best;
}

static uint32_t table_entry(const uint8_t *table, int d)
{
    return table[d] | (uint32_t)table[256 + d] << 8 | (uint32_t)table[512 + d] << 16;
}

static void softmax_pixel(const oct_int8_step *s, uint8_t *y, const uint8_t *x)
{
    int channels = s->out->channels, is_signed = s->in[0]->is_signed, largest = largest_of(x, channels, is_signed);
    uint64_t sum = 0;
    for (int c = 0; c < channels; c++) sum += table_entry(s->layer.table, largest - ordered(x[c], is_signed));
    for (int c = 0; c < channels; c++) {
        uint64_t e = table_entry(s->layer.table, largest - ordered(x[c], is_signed)), q = (256 * e + sum / 2) / sum;
        y[c] = (uint8_t)(q < 255 ? q : 255);
    }
}

/* The first byte of equal ones. */
static int32_t argmax_pixel(const uint8_t *x, int channels, int is_signed)
{
    int largest = largest_of(x, channels, is_signed), c = 0;
    while (ordered(x[c], is_signed) != largest) c++;
    return c;
}

void oct_int8_step_shape(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *in, int begin,
                         int end)
{
    const oct_int8_tensor *x = s->in[0];
    size_t first = (size_t)begin * (size_t)x->width, last = (size_t)end * (size_t)x->width, n = (size_t)x->channels;
    switch (s->layer.op) {
    case OCT_INT8_PAD:
        run_pad(s, out, in, begin, end);
        break;
    case OCT_INT8_RESIZE_NEAREST:
        run_nearest(s, out, in, begin, end);
        break;
    case OCT_INT8_RESIZE_BILINEAR:
        run_bilinear(s, k, out, in, begin, end);
        break;
    case OCT_INT8_SOFTMAX:
        for (size_t i = first; i < last; i++) softmax_pixel(s, out + i * n, in + i * n);
        break;
    default:
        for (size_t i = first; i < last; i++)
            ((int32_t *)(void *)out)[i] = argmax_pixel(in + i * n, x->channels, x->is_signed);
    }
}
