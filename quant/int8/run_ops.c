/* SPDX-License-Identifier: BSD-2-Clause
 * Steps without weights.
 */
#include "quant/int8/engine.h"
#include "quant/int8/requant.h"

/* A row range as a run of pixels. */
typedef struct range {
    size_t first, count;
} range;

static range pixels_of(const oct_int8_step *s, int begin, int end)
{
    size_t width = (size_t)s->out->width;
    return (range){(size_t)begin * width, (size_t)(end - begin) * width};
}

static void run_lookup(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *in, range r)
{
    size_t channels = (size_t)s->out->channels;
    int rows = s->layer.table_rows;
    size_t pixels = rows == 1 ? r.count * channels : r.count;
    k->lookup(out + r.first * channels, in + r.first * channels, s->layer.table, pixels, rows);
}

static void run_add(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *const in[], range r)
{
    size_t channels = (size_t)s->out->channels, at = r.first * channels;
    int ka = s->in[0]->exponent, kb = s->in[1]->exponent, top = ka > kb ? ka : kb;
    (s->layer.op == OCT_INT8_SUB ? k->sub : k->add)(
        out + at, in[0] + at, in[1] + at, r.count * channels, s->in[0]->is_signed, s->in[1]->is_signed, top - ka, top - kb,
        top - s->out->exponent, s->layer.out_lo, s->layer.out_hi);
}

static void run_mul(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *const in[], range r)
{
    size_t channels = (size_t)s->out->channels, at = r.first * channels;
    k->mul(out + at, in[0] + at, in[1] + at, r.count * channels, s->in[0]->is_signed, s->in[1]->is_signed,
           s->in[0]->exponent + s->in[1]->exponent - s->out->exponent, s->layer.out_lo, s->layer.out_hi);
}

/* Concat along channels; a re-scaling is a concat of one. */
static void run_concat(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *const in[],
                       range r)
{
    size_t out_channels = (size_t)s->out->channels, channel = 0;
    for (int i = 0; i < s->layer.input_count; i++) {
        size_t channels = (size_t)s->in[i]->channels;
        k->rescale(out + r.first * out_channels + channel, in[i] + r.first * channels, r.count, s->in[i]->channels,
                   s->out->channels, s->in[i]->channels, s->in[i]->is_signed, s->in[i]->exponent - s->out->exponent,
                   s->layer.out_lo, s->layer.out_hi);
        channel += channels;
    }
}

static void run_join(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *const in[], range r)
{
    if (s->layer.op == OCT_INT8_ADD || s->layer.op == OCT_INT8_SUB)
        run_add(s, k, out, in, r);
    else if (s->layer.op == OCT_INT8_MUL)
        run_mul(s, k, out, in, r);
    else
        run_concat(s, k, out, in, r);
}

/* oct_average_round of codes over `taps`, many channels: the quotient by a multiplication. With N = numerator below 2^31
 * (made positive by adding whole multiples of the divisor) and m = ceil(2^(31+b) / d), d <= 2^b, floor(N*m / 2^(31+b)) is
 * floor(N/d) (Granlund and Montgomery, 1994). */
static void average(uint8_t *out, const int32_t *sum, int channels, int32_t taps, int up, int lo, int hi)
{
    const int scale = up > 0 ? up : 0;
    const int64_t d = (int64_t)2 * taps * ((int64_t)1 << (up < 0 ? -up : 0)), half = d / 2;
    const int64_t offset = (int64_t)128 << scale, most = 2 * 255 * ((int64_t)taps << scale) + half + offset * d;
    if (up > 20 || up < -20 || taps > 1 << 16 || most >= INT64_C(1) << 31) {
        for (int c = 0; c < channels; c++) out[c] = (uint8_t)oct_clamp_i32(oct_average_round(sum[c], taps, up), lo, hi);
        return;
    }
    int bits = 0;
    while ((int64_t)1 << bits < d) bits++;
    const uint64_t m = (((uint64_t)1 << (31 + bits)) + (uint64_t)d - 1) / (uint64_t)d;
    for (int c = 0; c < channels; c++) {
        const int64_t n = (int64_t)sum[c] * 2 * ((int64_t)1 << scale) + half + offset * d;
        out[c] = (uint8_t)oct_clamp_i32((int32_t)((int64_t)((uint64_t)n * m >> (31 + bits)) - offset), lo, hi);
    }
}

/* The taps of one window that lie inside the image along one axis. */
static range window(int out, int stride, int pad, int kernel, int size)
{
    int first = out * stride - pad, end = first + kernel;
    if (first < 0) first = 0;
    if (end > size) end = size;
    return (range){(size_t)first, (size_t)(end - first)};
}

static void run_pool_pixel(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *in,
                           int32_t *sum, range rows, range cols)
{
    const oct_int8_tensor *t = s->in[0];
    const ptrdiff_t pixel = t->channels, row = pixel * t->width;
    const uint8_t *x = in + (ptrdiff_t)rows.first * row + (ptrdiff_t)cols.first * pixel;
    if (s->layer.op == OCT_INT8_MAX_POOL) {
        k->pool_max(out, x, (int)rows.count, (int)cols.count, row, pixel, t->channels, t->is_signed);
        return;
    }
    k->pool_sum(sum, x, (int)rows.count, (int)cols.count, row, pixel, t->channels, t->is_signed);
    if (s->affine.on) {
        oct_int8_affine_average(s, out, sum, (int32_t)(rows.count * cols.count), s->out->channels);
        return;
    }
    average(out, sum, t->channels, (int32_t)(rows.count * cols.count), s->out->exponent - t->exponent, s->layer.out_lo,
            s->layer.out_hi);
}

static void run_pool(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *in,
                     uint8_t *scratch, int begin, int end)
{
    const oct_int8_layer *l = &s->layer;
    for (int y = begin; y < end; y++) {
        range rows = window(y, l->stride_h, l->pad_top, l->kernel_h, s->in[0]->height);
        for (int x = 0; x < s->out->width; x++) {
            size_t at = ((size_t)y * (size_t)s->out->width + (size_t)x) * (size_t)s->out->channels;
            run_pool_pixel(s, k, out + at, in, (int32_t *)(void *)scratch, rows,
                           window(x, l->stride_w, l->pad_left, l->kernel_w, s->in[0]->width));
        }
    }
}

void oct_int8_step_other(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *const in[],
                         uint8_t *scratch, int begin, int end)
{
    range r = pixels_of(s, begin, end);
    switch (s->layer.op) {
    case OCT_INT8_LOOKUP:
        run_lookup(s, k, out, in[0], r);
        break;
    case OCT_INT8_ADD:
    case OCT_INT8_SUB:
    case OCT_INT8_MUL:
    case OCT_INT8_CONCAT:
    case OCT_INT8_RESCALE:
        if (s->affine.on)
            oct_int8_affine_rows(s, k, out, in, r.first, r.count);
        else
            run_join(s, k, out, in, r);
        break;
    case OCT_INT8_MAX_POOL:
    case OCT_INT8_AVERAGE_POOL:
        run_pool(s, k, out, in[0], scratch, begin, end);
        break;
    case OCT_INT8_PAD:
    case OCT_INT8_RESIZE_NEAREST:
    case OCT_INT8_RESIZE_BILINEAR:
    case OCT_INT8_SOFTMAX:
    case OCT_INT8_ARGMAX:
        oct_int8_step_shape(s, k, out, in[0], begin, end);
        break;
    default: /* flatten and reshape are no work; layers with weights go through oct_int8_step_conv */
        break;
    }
}
