/* SPDX-License-Identifier: BSD-2-Clause
 * C reference of the int8 kernels: written to be read, kept as oracle and fallback. Contracts are in
 * i8_kernels.h.
 */
#include "quant/int8/kernels/i8_internal.h"

#include <math.h>
#include <string.h>

#include "quant/int8/affine.h"
#include "quant/int8/requant.h"

/* Value of a code byte. */
static inline int32_t code_value(uint8_t code, int is_signed)
{
    return is_signed ? (int8_t)code : code;
}

static inline uint8_t code_clamp(int32_t value, int lo, int hi)
{
    return (uint8_t)oct_clamp_i32(value, lo, hi);
}

/* One pixel, one block of 16 outputs: sums[16] += products of pairs. */
static void conv_pixel_block(int32_t sums[OCT_I8_BLOCK], const int16_t *x, const int16_t *w,
                             const oct_i8_conv_row *p)
{
    for (int r = 0; r < p->taps_h; r++) {
        for (int t = 0; t < p->taps_w; t++) {
            const int16_t *in = x + r * p->x_row + t * p->x_tap;
            for (int i = 0; i < p->channels; i += 2) {
                for (int o = 0; o < OCT_I8_BLOCK; o++) sums[o] += in[i] * w[2 * o] + in[i + 1] * w[2 * o + 1];
                w += 2 * OCT_I8_BLOCK;
            }
        }
    }
}

static void conv_one_row(int32_t *acc, const int16_t *x, const void *w, const int32_t *start, const oct_i8_conv_row *p)
{
    const size_t block_weights = (size_t)p->taps_h * (size_t)p->taps_w * (size_t)p->channels * OCT_I8_BLOCK;
    for (int first = 0; first < p->outputs; first += OCT_I8_BLOCK) {
        const int16_t *weights = (const int16_t *)w + (size_t)(first / OCT_I8_BLOCK) * block_weights;
        const int count = p->outputs - first < OCT_I8_BLOCK ? p->outputs - first : OCT_I8_BLOCK;
        for (int pixel = 0; pixel < p->pixels; pixel++) {
            int32_t sums[OCT_I8_BLOCK];
            memcpy(sums, start + first, sizeof sums);
            conv_pixel_block(sums, x + pixel * p->x_pixel, weights, p);
            memcpy(acc + pixel * p->acc_pixel + first, sums, (size_t)count * sizeof sums[0]);
        }
    }
}

static void conv_row_c(int32_t *acc, const void *x, const void *w, const int32_t *start, const oct_i8_conv_row *p)
{
    for (int row = 0; row == 0 || row < p->rows; row++)
        conv_one_row(acc + row * p->acc_next, (const int16_t *)x + row * p->x_next, w, start, p);
}

static uint8_t output_code(const oct_i8_output *output, int32_t sum, int o)
{
    if (!output->multiplier) return code_clamp(sum >> output->shift[o], output->lo, output->hi);
    return (uint8_t)oct_affine_round((float)sum * output->multiplier[o], output->zero, output->lo, output->hi);
}

static void conv_codes_c(uint8_t *codes, const void *x, const void *w, const int32_t *start,
                         const oct_i8_conv_row *p, const oct_i8_output *output)
{
    const size_t block_weights = (size_t)p->taps_h * (size_t)p->taps_w * (size_t)p->channels * OCT_I8_BLOCK;
    for (int o = 0; o < p->outputs; o += OCT_I8_BLOCK) {
        const int16_t *weights = (const int16_t *)w + (size_t)(o / OCT_I8_BLOCK) * block_weights;
        const int count = p->outputs - o < OCT_I8_BLOCK ? p->outputs - o : OCT_I8_BLOCK;
        for (int pixel = 0; pixel < p->pixels; pixel++) {
            int32_t sums[OCT_I8_BLOCK];
            memcpy(sums, start + o, sizeof sums);
            conv_pixel_block(sums, (const int16_t *)x + pixel * p->x_pixel, weights, p);
            for (int i = 0; i < count; i++)
                codes[pixel * p->acc_pixel + o + i] = output_code(output, sums[i], o + i);
        }
    }
}

/* start[channels], shift[channels], then the weights as they came. */
static size_t packed_depthwise_codes_bytes_c(const oct_i8_depthwise *layer)
{
    return (size_t)layer->channels * (2 * sizeof(int32_t) + (size_t)(layer->taps * layer->taps));
}

static void pack_depthwise_codes_c(void *packed, const int8_t *w, const int32_t *start, const int32_t *shift,
                                   const oct_i8_depthwise *layer)
{
    const size_t channels = (size_t)layer->channels;
    int32_t *numbers = packed;
    memcpy(numbers, start, channels * sizeof *numbers);
    memcpy(numbers + channels, shift, channels * sizeof *numbers);
    memcpy(numbers + 2 * channels, w, channels * (size_t)(layer->taps * layer->taps));
}

static void depthwise_codes_c(uint8_t *codes, const void *packed, const oct_i8_depthwise_rows *p)
{
    const int channels = p->layer.channels, taps = p->layer.taps, stride = p->layer.stride;
    const int32_t *start = packed, *shift = start + channels;
    const float *multiplier = (const float *)packed + channels;
    const int8_t *w = (const int8_t *)(shift + channels);
    for (int e = 0; e < p->out_rows * p->pixels * channels; e++) {
        const int y = e / channels / p->pixels, pixel = e / channels % p->pixels, c = e % channels;
        int32_t sum = start[c];
        for (int r = 0; r < taps; r++) {
            for (int t = 0; t < taps; t++) {
                const int column = pixel * stride - p->left + t;
                const int inside = column >= 0 && column < p->width;
                sum += w[(r * taps + t) * channels + c] *
                       (inside ? code_value(p->rows[y * stride + r][column * channels + c], p->layer.is_signed)
                               : p->fill);
            }
        }
        const oct_i8_output output = {shift, p->affine ? multiplier : NULL, p->zero, p->lo, p->hi};
        codes[y * p->out_row + pixel * channels + c] = output_code(&output, sum, c);
    }
}

static void requantize_c(uint8_t *codes, const int32_t *acc, const int8_t *shift, size_t pixels, int channels,
                         int lo, int hi)
{
    for (size_t p = 0; p < pixels; p++) {
        for (int c = 0; c < channels; c++) codes[c] = code_clamp(oct_rshift_round(acc[c], shift[c]), lo, hi);
        codes += channels;
        acc += channels;
    }
}

static void requantize_affine_c(uint8_t *codes, const int32_t *acc, const float *multiplier, size_t pixels, int channels,
                                int zero, int lo, int hi)
{
    for (size_t p = 0; p < pixels; p++) {
        for (int c = 0; c < channels; c++)
            codes[c] = (uint8_t)oct_affine_round((float)acc[c] * multiplier[c], zero, lo, hi);
        codes += channels;
        acc += channels;
    }
}

static void mask_range_c(uint8_t *bits, const int32_t *acc, const int32_t *low, const int32_t *high,
                         size_t pixels, int channels)
{
    size_t e = 0;
    for (size_t p = 0; p < pixels; p++) {
        for (int c = 0; c < channels; c++, e++) {
            if (e % 8 == 0) bits[e / 8] = 0;
            bits[e / 8] |= (uint8_t)((low[c] <= acc[e] && acc[e] <= high[c]) << e % 8);
        }
    }
}

static void acc_sums_c(int64_t *sum, uint64_t *square, int32_t *min, int32_t *max, const int32_t *acc,
                       int pixels, int channels)
{
    for (int p = 0; p < pixels; p++) {
        for (int c = 0; c < channels; c++) {
            sum[c] += acc[c];
            square[c] += (uint64_t)((int64_t)acc[c] * acc[c]);
            if (acc[c] < min[c]) min[c] = acc[c];
            if (acc[c] > max[c]) max[c] = acc[c];
        }
        acc += channels;
    }
}

static void acc_affine_c(float *y, const int32_t *acc, const float *a, const float *b, size_t pixels,
                         int channels)
{
    for (size_t p = 0; p < pixels; p++) {
        for (int c = 0; c < channels; c++) {
            const float product = (float)acc[c] * a[c];
            y[c] = product + b[c];
        }
        y += channels;
        acc += channels;
    }
}

void oct_i8_acc_gradient_c(float *dx, const float *dy, const uint8_t *bits, const int32_t *acc, const float *b,
                           const float *p, const float *q, const float *r, size_t pixels, int channels)
{
    size_t e = 0;
    for (size_t i = 0; i < pixels; i++) {
        for (int c = 0; c < channels; c++, e++) {
            const float d = !bits || (bits[e / 8] >> e % 8 & 1) ? dy[e] : 0.0f;
            const float x = (float)acc[e] + b[c];
            dx[e] = d * p[c] + x * q[c] + r[c];
        }
    }
}

static void quantize_f32_c(uint8_t *codes, uint8_t *bits, const float *x, size_t n, float act_lo,
                           float act_hi, float clip_lo, float clip_hi, float kappa, int lo, int hi)
{
    for (size_t i = 0; i < n; i++) {
        const float raised = x[i] < act_lo ? act_lo : x[i];
        const float z = raised > act_hi ? act_hi : raised;
        codes[i] = (uint8_t)(isnan(x[i]) ? lo : oct_activation_code(z, kappa, lo, hi));
        if (!bits) continue;
        if (i % 8 == 0) bits[i / 8] = 0;
        bits[i / 8] |= (uint8_t)((act_lo < x[i] && x[i] < act_hi && clip_lo <= z && z <= clip_hi) << i % 8);
    }
}

static void dequantize_c(float *x, const uint8_t *codes, size_t n, float delta, int zero, int is_signed)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(code_value(codes[i], is_signed) - zero) * delta;
}

static void quantize_affine_c(uint8_t *codes, uint8_t *bits, const float *x, size_t n, const oct_i8_affine_quantize *q)
{
    for (size_t i = 0; i < n; i++) {
        const float p = x[i] * q->inverse;
        codes[i] = (uint8_t)oct_affine_round(p, q->zero, q->lo, q->hi);
        if (!bits) continue;
        if (i % 8 == 0) bits[i / 8] = 0;
        const int pass = q->x_low <= x[i] && x[i] <= q->x_high && q->p_low <= p && p <= q->p_high;
        bits[i / 8] |= (uint8_t)(pass << i % 8);
    }
}

static void mask_apply_c(float *dx, const float *dy, const uint8_t *bits, size_t n)
{
    for (size_t i = 0; i < n; i++) dx[i] = bits[i / 8] >> i % 8 & 1 ? dy[i] : 0.0f;
}

static size_t min_max_c(float *lo, float *hi, const float *x, size_t n)
{
    size_t non_finite = 0;
    float low = *lo, high = *hi;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            non_finite++;
            continue;
        }
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    *lo = low + 0.0f; /* -0 becomes +0, so that the order of the elements does not show */
    *hi = high + 0.0f;
    return non_finite;
}

static void histogram_c(uint32_t counts[256], const float *x, size_t n, float lo, float mult)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) continue;
        const float difference = x[i] - lo;
        const float position = difference * mult;
        const float k = position > 0.0f ? rintf(position) : 0.0f;
        counts[k < 255.0f ? (int)k : 255]++;
    }
}

void oct_i8_add_c(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed,
                  int sa, int sb, int shift, int lo, int hi)
{
    for (size_t i = 0; i < n; i++) {
        const int64_t sum = (int64_t)code_value(a[i], a_signed) * ((int64_t)1 << sa) +
                            (int64_t)code_value(b[i], b_signed) * ((int64_t)1 << sb);
        codes[i] = code_clamp(oct_rshift_round_i64(sum, shift), lo, hi);
    }
}

void oct_i8_sub_c(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed,
                  int sa, int sb, int shift, int lo, int hi)
{
    for (size_t i = 0; i < n; i++) {
        const int64_t difference = (int64_t)code_value(a[i], a_signed) * ((int64_t)1 << sa) -
                                   (int64_t)code_value(b[i], b_signed) * ((int64_t)1 << sb);
        codes[i] = code_clamp(oct_rshift_round_i64(difference, shift), lo, hi);
    }
}

static void blend_c(uint8_t *codes, const uint8_t *const x[4], const int32_t w[4], int channels, int is_signed)
{
    for (int c = 0; c < channels; c++) {
        int32_t sum = 1 << 19;
        for (int k = 0; k < 4; k++) sum += code_value(x[k][c], is_signed) * w[k];
        codes[c] = (uint8_t)(sum >> 20);
    }
}

static void mul_c(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed,
                  int shift, int lo, int hi)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t product = code_value(a[i], a_signed) * code_value(b[i], b_signed);
        codes[i] = code_clamp(oct_rshift_round(product, shift), lo, hi);
    }
}

static void add_affine_c(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, const oct_i8_affine_pair *p)
{
    for (size_t i = 0; i < n; i++) {
        const float first = (float)(a[i] - p->a_zero) * p->a_scale, second = (float)(b[i] - p->b_zero) * p->b_scale;
        codes[i] = (uint8_t)oct_affine_round(first + second, p->zero, p->lo, p->hi);
    }
}

static void mul_affine_c(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, const oct_i8_affine_pair *p)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t product = (a[i] - p->a_zero) * (b[i] - p->b_zero);
        codes[i] = (uint8_t)oct_affine_round((float)product * p->a_scale, p->zero, p->lo, p->hi);
    }
}

static void rescale_c(uint8_t *codes, const uint8_t *x, size_t pixels, int channels, ptrdiff_t out_pixel,
                      ptrdiff_t in_pixel, int is_signed, int shift, int lo, int hi)
{
    for (size_t p = 0; p < pixels; p++) {
        for (int c = 0; c < channels; c++)
            codes[c] = code_clamp(oct_rshift_round(code_value(x[c], is_signed), shift), lo, hi);
        codes += out_pixel;
        x += in_pixel;
    }
}

static void lookup_c(uint8_t *codes, const uint8_t *x, const uint8_t *table, size_t pixels, int channels)
{
    for (size_t p = 0; p < pixels; p++) {
        for (int c = 0; c < channels; c++) codes[c] = table[256 * (size_t)c + x[c]];
        codes += channels;
        x += channels;
    }
}

static void pool_max_c(uint8_t *codes, const uint8_t *x, int rows, int cols, ptrdiff_t x_row,
                       ptrdiff_t x_pixel, int channels, int is_signed)
{
    for (int c = 0; c < channels; c++) {
        int32_t best = INT32_MIN;
        for (int r = 0; r < rows; r++) {
            for (int t = 0; t < cols; t++) {
                const int32_t value = code_value(x[r * x_row + t * x_pixel + c], is_signed);
                if (value > best) best = value;
            }
        }
        codes[c] = (uint8_t)best;
    }
}

static void pool_sum_c(int32_t *sum, const uint8_t *x, int rows, int cols, ptrdiff_t x_row, ptrdiff_t x_pixel,
                       int channels, int is_signed)
{
    for (int c = 0; c < channels; c++) {
        sum[c] = 0;
        for (int r = 0; r < rows; r++)
            for (int t = 0; t < cols; t++) sum[c] += code_value(x[r * x_row + t * x_pixel + c], is_signed);
    }
}

void oct_i8_fill_c(oct_i8_kernels *table)
{
    table->level = "c";
    oct_i8_fill_layout_s16(table);
    table->conv_row = conv_row_c;
    table->conv_codes = conv_codes_c;
    table->packed_depthwise_codes_bytes = packed_depthwise_codes_bytes_c;
    table->pack_depthwise_codes = pack_depthwise_codes_c;
    table->depthwise_codes = depthwise_codes_c;
    table->depthwise_row = oct_i8_depthwise_row_s16;
    table->requantize = requantize_c;
    table->requantize_affine = requantize_affine_c;
    table->mask_range = mask_range_c;
    table->acc_sums = acc_sums_c;
    table->acc_affine = acc_affine_c;
    table->acc_gradient = oct_i8_acc_gradient_c;
    table->quantize_f32 = quantize_f32_c;
    table->quantize_affine = quantize_affine_c;
    table->dequantize = dequantize_c;
    table->mask_apply = mask_apply_c;
    table->min_max = min_max_c;
    table->histogram = histogram_c;
    table->add = oct_i8_add_c;
    table->sub = oct_i8_sub_c;
    table->mul = mul_c;
    table->blend = blend_c;
    table->add_affine = add_affine_c;
    table->mul_affine = mul_affine_c;
    table->rescale = rescale_c;
    table->lookup = lookup_c;
    table->pool_max = pool_max_c;
    table->pool_sum = pool_sum_c;
}
