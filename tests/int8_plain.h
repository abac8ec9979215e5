/* SPDX-License-Identifier: BSD-2-Clause
 * The plain model: an interpreter of int8 specs with one int32 per value and one image at a time, written from spec.h alone,
 * against which the engine is tested.
 */
#ifndef OCT_TESTS_INT8_PLAIN_H
#define OCT_TESTS_INT8_PLAIN_H

#include <stdint.h>

#include "tests/int8_affine.h"
#include "tests/int8_networks.h"

__extension__ typedef __int128 wide;

static inline wide floor_div(wide a, wide b)
{
    wide q = a / b;
    return a % b < 0 ? q - 1 : q;
}

/* clamp(floor(value * 2^-shift / divisor + 1/2)), exact */
static inline int32_t plain_round(wide value, int shift, wide divisor, int lo, int hi)
{
    wide numerator = value, denominator = divisor;
    if (shift > 0) denominator *= (wide)1 << shift;
    if (shift < 0) numerator *= (wide)1 << -shift;
    wide q = floor_div(2 * numerator + denominator, 2 * denominator);
    return (int32_t)(q < lo ? lo : q > hi ? hi : q);
}

static inline size_t at(const oct_int8_tensor *t, int y, int x, int c)
{
    return ((size_t)y * (size_t)t->width + (size_t)x) * (size_t)t->channels + (size_t)c;
}

static inline bool inside(const oct_int8_tensor *t, int y, int x)
{
    return y >= 0 && x >= 0 && y < t->height && x < t->width;
}

static inline int64_t plain_conv_sum(const oct_int8_layer *l, const oct_int8_tensor *in, const int32_t *x, int outputs,
                              int oy, int ox, int o)
{
    int per = in->channels / l->groups, group = o / (outputs / l->groups);
    int64_t sum = l->bias[o];
    for (int r = 0; r < l->kernel_h; r++) {
        for (int t = 0; t < l->kernel_w; t++) {
            int y = oy * l->stride_h - l->pad_top + r * l->dilation_h;
            int z = ox * l->stride_w - l->pad_left + t * l->dilation_w;
            if (!inside(in, y, z)) continue;
            if (l->op == OCT_INT8_DEPTHWISE) {
                sum += (int64_t)l->weights[(r * l->kernel_w + t) * outputs + o] * x[at(in, y, z, o)];
                continue;
            }
            for (int i = 0; i < per; i++)
                sum += (int64_t)l->weights[((o * l->kernel_h + r) * l->kernel_w + t) * per + i] *
                       x[at(in, y, z, group * per + i)];
        }
    }
    return sum;
}

/* What the sum of output o becomes. */
static inline int32_t plain_output(const oct_int8_spec *spec, const oct_int8_layer *l, int64_t acc, int o)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]], *out = &spec->tensors[l->output];
    int i = l->weight_exponent_count == 1 ? 0 : o;
    if (out->kind == OCT_INT8_SCORES) return (int32_t)acc;
    if (!oct_int8_spec_is_affine(spec))
        return plain_round(acc, in->exponent + l->weight_exponents[i] - out->exponent, 1, l->out_lo, l->out_hi);
    double ratio = (double)in->scale * (double)l->weight_scales[i] / (double)out->scale;
    return plain_affine_code(plain_affine_scaled(acc, ratio, spec->rounding), out->zero_point, l->out_lo, l->out_hi);
}

/* x: codes with their zero point taken off. */
static inline void plain_weights(const oct_int8_spec *spec, const oct_int8_layer *l, int32_t *y, const int32_t *x)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]], *out = &spec->tensors[l->output];
    int values = (int)oct_int8_tensor_elements(in);
    for (int oy = 0; oy < out->height; oy++) {
        for (int ox = 0; ox < out->width; ox++) {
            for (int o = 0; o < out->channels; o++) {
                int64_t acc = 0;
                if (l->op == OCT_INT8_LINEAR) {
                    acc = l->bias[o];
                    for (int i = 0; i < values; i++)
                        acc += (int64_t)l->weights[(size_t)o * (size_t)values + (size_t)i] * x[i];
                } else {
                    acc = plain_conv_sum(l, in, x, out->channels, oy, ox, o);
                }
                y[at(out, oy, ox, o)] = plain_output(spec, l, acc, o);
            }
        }
    }
}

static inline void plain_pool(const oct_int8_spec *spec, const oct_int8_layer *l, int32_t *y, const int32_t *x)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]], *out = &spec->tensors[l->output];
    for (int oy = 0; oy < out->height; oy++) {
        for (int ox = 0; ox < out->width; ox++) {
            for (int c = 0; c < out->channels; c++) {
                int64_t sum = 0, count = 0, most = INT32_MIN;
                for (int r = 0; r < l->kernel_h; r++) {
                    for (int t = 0; t < l->kernel_w; t++) {
                        int iy = oy * l->stride_h - l->pad_top + r, ix = ox * l->stride_w - l->pad_left + t;
                        if (!inside(in, iy, ix)) continue;
                        int32_t v = x[at(in, iy, ix, c)];
                        sum += v;
                        count++;
                        if (v > most) most = v;
                    }
                }
                double ratio = (double)in->scale / ((double)out->scale * (double)count);
                y[at(out, oy, ox, c)] = l->op == OCT_INT8_MAX_POOL ? (int32_t)most
                                        : oct_int8_spec_is_affine(spec)
                                            ? plain_affine_code(plain_affine_scaled(sum - count * in->zero_point, ratio,
                                                                                    spec->rounding),
                                                                out->zero_point, l->out_lo, l->out_hi)
                                                                   : plain_round(sum, in->exponent - out->exponent,
                                                                                 count, l->out_lo, l->out_hi);
            }
        }
    }
}

static inline void plain_join(const oct_int8_spec *spec, const oct_int8_layer *l, int32_t *y, int32_t *const *values)
{
    const oct_int8_tensor *out = &spec->tensors[l->output], *a = &spec->tensors[l->inputs[0]];
    const oct_int8_tensor *b = &spec->tensors[l->inputs[l->input_count - 1]];
    const int32_t *x = values[l->inputs[0]], *z = values[l->inputs[l->input_count - 1]];
    size_t n = oct_int8_tensor_elements(out);
    int k = a->exponent > b->exponent ? a->exponent : b->exponent;
    int sign = l->op == OCT_INT8_SUB ? -1 : 1;
    for (size_t i = 0; i < n && (l->op == OCT_INT8_ADD || l->op == OCT_INT8_SUB); i++)
        y[i] = plain_round((wide)x[i] * ((wide)1 << (k - a->exponent)) + sign * (wide)z[i] * ((wide)1 << (k - b->exponent)),
                           k - out->exponent, 1, l->out_lo, l->out_hi);
    for (size_t i = 0; i < n && l->op == OCT_INT8_MUL; i++)
        y[i] = plain_round((wide)x[i] * z[i], a->exponent + b->exponent - out->exponent, 1, l->out_lo, l->out_hi);
    if (l->op != OCT_INT8_CONCAT && l->op != OCT_INT8_RESCALE) return;
    int channel = 0;
    for (int j = 0; j < l->input_count; j++) {
        const oct_int8_tensor *t = &spec->tensors[l->inputs[j]];
        for (int p = 0; p < t->height * t->width; p++)
            for (int c = 0; c < t->channels; c++)
                y[p * out->channels + channel + c] = plain_round(
                    values[l->inputs[j]][p * t->channels + c], t->exponent - out->exponent, 1, l->out_lo, l->out_hi);
        channel += t->channels;
    }
}

/* The one dimension of it: input position of output o, -1 = zero. */
static inline int plain_padded(int o, int stride, int pad, int dilation, int size)
{
    int at = o * stride - pad;
    return at < 0 || at % dilation != 0 || at / dilation >= size ? -1 : at / dilation;
}

static inline void plain_pad(const oct_int8_layer *l, const oct_int8_tensor *in, const oct_int8_tensor *out, int32_t *y,
                      const int32_t *x)
{
    for (int oy = 0; oy < out->height; oy++) {
        for (int ox = 0; ox < out->width; ox++) {
            for (int c = 0; c < out->channels; c++) {
                int iy = plain_padded(oy, l->stride_h, l->pad_top, l->dilation_h, in->height);
                int ix = plain_padded(ox, l->stride_w, l->pad_left, l->dilation_w, in->width), ic = c + l->option;
                bool zero = iy < 0 || ix < 0 || ic < 0 || ic >= in->channels;
                y[at(out, oy, ox, c)] = zero ? in->zero_point : x[at(in, iy, ix, ic)];
            }
        }
    }
}

/* In double: positions are fractions of small numbers, far from where rounding them could matter. */
static inline double plain_position(int grid, int o, int in, int out)
{
    double p = grid == 0 ? (2.0 * o + 1) * in / (2.0 * out) - 0.5 : grid == 1 ? (double)o * in / out
               : out > 1 ? (double)o * (in - 1) / (out - 1) : 0;
    p += 1e-9; /* whole and half positions are meant exactly, and both round up */
    return p < 0 ? 0 : p > in - 1 ? in - 1 : p;
}

static inline void plain_resize(const oct_int8_layer *l, const oct_int8_tensor *in, const oct_int8_tensor *out, int32_t *y,
                         const int32_t *x)
{
    for (int oy = 0; oy < out->height; oy++) {
        for (int ox = 0; ox < out->width; ox++) {
            double py = plain_position(l->option, oy, in->height, out->height);
            double px = plain_position(l->option, ox, in->width, out->width);
            double half = l->option == 1 ? 0 : 0.5;
            int ny = (int)(py + half), nx = (int)(px + half), fy = (int)py, fx = (int)px;
            int wy = (int)((py - fy) * 1024 + 0.5), wx = (int)((px - fx) * 1024 + 0.5);
            int gy = fy + (wy > 0), gx = fx + (wx > 0);
            if (ny > in->height - 1) ny = in->height - 1;
            if (nx > in->width - 1) nx = in->width - 1;
            for (int c = 0; c < out->channels; c++) {
                int64_t sum = (int64_t)(1024 - wy) * (1024 - wx) * x[at(in, fy, fx, c)] +
                              (int64_t)(1024 - wy) * wx * x[at(in, fy, gx, c)] +
                              (int64_t)wy * (1024 - wx) * x[at(in, gy, fx, c)] + (int64_t)wy * wx * x[at(in, gy, gx, c)];
                y[at(out, oy, ox, c)] =
                    l->op == OCT_INT8_RESIZE_NEAREST ? x[at(in, ny, nx, c)] : plain_round(sum, 20, 1, -128, 255);
            }
        }
    }
}

static inline void plain_along_channels(const oct_int8_layer *l, const oct_int8_tensor *in, int32_t *y, const int32_t *x)
{
    int n = in->channels;
    for (int p = 0; p < in->height * in->width; p++, x += n) {
        int best = 0;
        for (int c = 1; c < n; c++) best = x[c] > x[best] ? c : best;
        if (l->op == OCT_INT8_ARGMAX) {
            y[p] = best;
            continue;
        }
        int64_t e[1 << 12], sum = 0;
        for (int c = 0; c < n; c++) {
            int d = x[best] - x[c];
            sum += e[c] = l->table[d] + 256 * l->table[256 + d] + 65536 * l->table[512 + d];
        }
        for (int c = 0; c < n; c++) {
            int64_t q = (256 * e[c] + sum / 2) / sum;
            y[p * n + c] = (int32_t)(q < 255 ? q : 255);
        }
    }
}

/* The same in profile affine. */
static inline void plain_affine_join(const oct_int8_spec *spec, const oct_int8_layer *l, int32_t *y, int32_t *const *values)
{
    const oct_int8_tensor *out = &spec->tensors[l->output], *a = &spec->tensors[l->inputs[0]];
    const oct_int8_tensor *b = &spec->tensors[l->inputs[l->input_count - 1]];
    const int32_t *x = values[l->inputs[0]], *z = values[l->inputs[l->input_count - 1]];
    int channel = 0;
    int sign = l->op == OCT_INT8_SUB ? -1 : 1;
    for (size_t i = 0; i < oct_int8_tensor_elements(out) && (l->op == OCT_INT8_ADD || l->op == OCT_INT8_SUB); i++)
        y[i] = plain_affine_code(plain_affine_add(a, b, out, x[i], sign, z[i], spec->rounding), out->zero_point, l->out_lo,
                                 l->out_hi);
    for (size_t i = 0; i < oct_int8_tensor_elements(out) && l->op == OCT_INT8_MUL; i++) {
        double ratio = (double)a->scale * (double)b->scale / (double)out->scale;
        int64_t product = (int64_t)(x[i] - a->zero_point) * (z[i] - b->zero_point);
        y[i] = plain_affine_code(plain_affine_scaled(product, ratio, spec->rounding), out->zero_point, l->out_lo, l->out_hi);
    }
    if (l->op != OCT_INT8_CONCAT && l->op != OCT_INT8_RESCALE) return;
    for (int j = 0; j < l->input_count; j++) {
        const oct_int8_tensor *t = &spec->tensors[l->inputs[j]];
        double ratio = (double)t->scale / (double)out->scale;
        for (int p = 0; p < t->height * t->width; p++)
            for (int c = 0; c < t->channels; c++)
                y[p * out->channels + channel + c] = plain_affine_code(
                    plain_affine_scaled(values[l->inputs[j]][p * t->channels + c] - t->zero_point, ratio, spec->rounding),
                    out->zero_point, l->out_lo, l->out_hi);
        channel += t->channels;
    }
}

static inline int32_t as_code(const oct_int8_tensor *t, uint8_t byte)
{
    return t->is_signed && byte > 127 ? (int32_t)byte - 256 : byte;
}

/* values[t][...] of every tensor from the input already in values[spec->input]. */
static inline void plain_run(const oct_int8_spec *spec, int32_t *const *values)
{
    for (int i = 0; i < spec->layer_count; i++) {
        const oct_int8_layer *l = &spec->layers[i];
        const int32_t *x = values[l->inputs[0]];
        int32_t *y = values[l->output];
        const oct_int8_tensor *out = &spec->tensors[l->output];
        size_t n = oct_int8_tensor_elements(out);
        const oct_int8_tensor *in = &spec->tensors[l->inputs[0]];
        if (oct_int8_op_has_weights(l->op)) {
            size_t count = oct_int8_tensor_elements(in);
            int32_t *differences = oct_alloc(count, sizeof *differences);
            for (size_t j = 0; j < count; j++) differences[j] = x[j] - in->zero_point;
            plain_weights(spec, l, y, differences);
            oct_free(differences);
        } else if (l->op == OCT_INT8_PAD) {
            plain_pad(l, in, out, y, x);
        } else if (l->op == OCT_INT8_RESIZE_NEAREST || l->op == OCT_INT8_RESIZE_BILINEAR) {
            plain_resize(l, in, out, y, x);
        } else if (l->op == OCT_INT8_SOFTMAX || l->op == OCT_INT8_ARGMAX) {
            plain_along_channels(l, in, y, x);
        } else if (oct_int8_op_has_geometry(l->op)) {
            plain_pool(spec, l, y, x);
        } else if (l->op == OCT_INT8_LOOKUP) {
            for (size_t j = 0; j < n; j++) {
                size_t row = l->table_rows == 1 ? 0 : j % (size_t)out->channels;
                y[j] = as_code(out, l->table[256 * row + (uint8_t)x[j]]);
            }
        } else if (l->op == OCT_INT8_FLATTEN || l->op == OCT_INT8_RESHAPE) {
            memcpy(y, x, n * sizeof *y);
        } else if (oct_int8_spec_is_affine(spec)) {
            plain_affine_join(spec, l, y, values);
        } else {
            plain_join(spec, l, y, values);
        }
    }
}

#endif
