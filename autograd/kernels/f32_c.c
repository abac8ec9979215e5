/* SPDX-License-Identifier: BSD-2-Clause
 * C reference of every float kernel: the oracle of tests/checkkern and the fallback on machines without a
 * faster level. Sums of convolutions start at 0, take their terms in the documented order, then meet bias and
 * destination.
 */
#include "autograd/kernels/f32_internal.h"

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* What the vector levels do to an output before they store it. `at`: its place in y. */
static float finish_c(float v, const float *y, ptrdiff_t at, int accumulate, const oct_f32_end *end)
{
    if (accumulate) v = y[at] + v;
    if (!end) return v;
    if (end->residual) v = end->residual[at] + v;
    return v < end->lo ? end->lo : v > end->hi ? end->hi : v;
}

/* acc[o] = sum over taps and channels for one pixel and one block of outputs. */
static void conv_block_c(float acc[OCT_F32_BLOCK], const float *x, const float *w, const oct_f32_conv_row *p)
{
    for (int o = 0; o < OCT_F32_BLOCK; o++) acc[o] = 0.0f;
    for (int r = 0; r < p->taps_h; r++) {
        for (int t = 0; t < p->taps_w; t++) {
            const float *tap = x + r * p->x_row + t * p->x_tap;
            for (int i = 0; i < p->channels; i++, w += OCT_F32_BLOCK) {
                for (int o = 0; o < OCT_F32_BLOCK; o++) acc[o] += tap[i] * w[o];
            }
        }
    }
}

static void conv_row_c(float *y, const float *x, const float *w, const float *bias, const oct_f32_conv_row *p)
{
    size_t block_size = (size_t)p->taps_h * (size_t)p->taps_w * (size_t)p->channels * OCT_F32_BLOCK;
    for (int o0 = 0; o0 < p->outputs; o0 += OCT_F32_BLOCK, w += block_size) {
        int used = smaller(OCT_F32_BLOCK, p->outputs - o0);
        for (int n = 0; n < p->pixels; n++) {
            float acc[OCT_F32_BLOCK];
            conv_block_c(acc, x + n * p->x_pixel, w, p);
            ptrdiff_t at = n * p->y_pixel + o0;
            for (int o = 0; o < used; o++) {
                float v = bias ? acc[o] + bias[o0 + o] : acc[o];
                y[at + o] = finish_c(v, y, at + o, p->accumulate, p->end);
            }
        }
    }
}

static void conv_dw_c(float *dw, const float *x, const float *dy, const oct_f32_conv_dw *p)
{
    for (int j = 0; j < p->inner; j++) {
        for (int o0 = 0; o0 < p->outputs; o0 += OCT_F32_BLOCK, dw += OCT_F32_BLOCK) {
            int used = smaller(OCT_F32_BLOCK, p->outputs - o0);
            float acc[OCT_F32_BLOCK] = {0};
            for (int a = 0; a < p->rows; a++) {
                for (int n = 0; n < p->pixels; n++) {
                    float v = x[a * p->x_row + n * p->x_pixel + j];
                    const float *d = dy + a * p->dy_row + n * p->dy_pixel + o0;
                    for (int o = 0; o < used; o++) acc[o] += v * d[o];
                }
            }
            for (int o = 0; o < used; o++) dw[o] += acc[o];
        }
    }
}

static void depthwise_row_c(float *y, const float *x, const float *w, const float *bias,
                            const oct_f32_depthwise *p)
{
    for (int n = 0; n < p->pixels; n++) {
        for (int c = 0; c < p->channels; c++) {
            float acc = 0.0f;
            for (int r = 0; r < p->taps_h; r++) {
                for (int t = 0; t < p->taps_w; t++) {
                    acc += x[n * p->x_pixel + r * p->x_row + t * p->x_tap + c] *
                           w[((size_t)r * (size_t)p->taps_w + (size_t)t) * (size_t)p->channels + (size_t)c];
                }
            }
            if (bias) acc += bias[c];
            ptrdiff_t at = n * p->y_pixel + c;
            y[at] = finish_c(acc, y, at, p->accumulate, p->end);
        }
    }
}

static void depthwise_dw_c(float *dw, const float *x, const float *dy, const oct_f32_depthwise *p)
{
    for (int r = 0; r < p->taps_h; r++) {
        for (int t = 0; t < p->taps_w; t++, dw += p->channels) {
            for (int c = 0; c < p->channels; c++) {
                float acc = 0.0f;
                for (int n = 0; n < p->pixels; n++)
                    acc += x[n * p->x_pixel + r * p->x_row + t * p->x_tap + c] * dy[n * p->y_pixel + c];
                dw[c] += acc;
            }
        }
    }
}

static void channel_sums_c(double *sum, double *square, const float *x, size_t rows, int channels)
{
    for (size_t a = 0; a < rows; a++, x += channels) {
        for (int c = 0; c < channels; c++) {
            double v = (double)x[c];
            sum[c] += v;
            square[c] += v * v;
        }
    }
}

static float clamp_one(float x, float lo, float hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

static void affine_clamp_c(float *y, const float *x, const float *a, const float *b, const float *residual,
                           size_t rows, int channels, float lo, float hi)
{
    for (size_t n = 0; n < rows; n++) {
        for (int c = 0; c < channels; c++, x++, y++) {
            float v = *x * a[c] + b[c];
            if (residual) v += *residual++;
            *y = clamp_one(v, lo, hi);
        }
    }
}

static void bn_backward_sums_c(double *sum, double *dot, float *dz, const float *dy, const float *y, float lo,
                               float hi, const float *x, const float *mean, size_t rows, int channels)
{
    size_t e = 0;
    for (size_t n = 0; n < rows; n++) {
        for (int c = 0; c < channels; c++, e++) {
            float d = !y || (lo < y[e] && y[e] < hi) ? dy[e] : 0.0f;
            dz[e] = d;
            sum[c] += (double)d;
            dot[c] += (double)d * ((double)x[e] - (double)mean[c]);
        }
    }
}

static void bn_backward_apply_c(float *dx, const float *dz, const float *x, const float *p, const float *q,
                                const float *r, size_t rows, int channels, int accumulate)
{
    size_t e = 0;
    for (size_t n = 0; n < rows; n++) {
        for (int c = 0; c < channels; c++, e++) {
            float v = (dz[e] * p[c] + x[e] * q[c]) + r[c];
            dx[e] = accumulate ? dx[e] + v : v;
        }
    }
}

static float masked(float dy, float x, float a, float b, float lo, float hi)
{
    float z = x * a + b;
    return lo < z && z < hi ? dy : 0.0f;
}

static void bn_masked_sums_c(double *sum, double *dot, const float *dy, const float *x, const float *a,
                             const float *b, float lo, float hi, const float *mean, size_t rows, int channels)
{
    size_t e = 0;
    for (size_t n = 0; n < rows; n++) {
        for (int c = 0; c < channels; c++, e++) {
            float d = masked(dy[e], x[e], a[c], b[c], lo, hi);
            sum[c] += (double)d;
            dot[c] += (double)d * ((double)x[e] - (double)mean[c]);
        }
    }
}

static void bn_masked_apply_c(float *dx, const float *dy, const float *x, const float *a, const float *b,
                              float lo, float hi, const float *p, const float *q, const float *r, size_t rows,
                              int channels, int accumulate)
{
    size_t e = 0;
    for (size_t n = 0; n < rows; n++) {
        for (int c = 0; c < channels; c++, e++) {
            float v = (masked(dy[e], x[e], a[c], b[c], lo, hi) * p[c] + x[e] * q[c]) + r[c];
            dx[e] = accumulate ? dx[e] + v : v;
        }
    }
}

static void channel_sum_c(double *sum, const float *dy, size_t rows, int channels)
{
    for (size_t a = 0; a < rows; a++, dy += channels) {
        for (int c = 0; c < channels; c++) sum[c] += (double)dy[c];
    }
}

static void clamp_c(float *y, const float *x, size_t n, float lo, float hi)
{
    for (size_t i = 0; i < n; i++) y[i] = clamp_one(x[i], lo, hi);
}

static void add_c(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static void mul_c(float *y, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

static void clamp_backward_c(float *dx, const float *dy, const float *y, size_t n, float lo, float hi,
                             int accumulate)
{
    for (size_t i = 0; i < n; i++) {
        float d = lo < y[i] && y[i] < hi ? dy[i] : 0.0f;
        dx[i] = accumulate ? dx[i] + d : d;
    }
}

static void axpy_c(float *y, float a, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

static double sum_squares_c(const float *x, size_t n)
{
    double partial[8] = {0};
    for (size_t i = 0; i < n; i++) partial[i % 8] += (double)x[i] * (double)x[i];
    double total = partial[0];
    for (int i = 1; i < 8; i++) total += partial[i];
    return total;
}

static void sgd_c(float *w, float *v, const float *grad, const uint8_t *decay, size_t n, float scale,
                  float lr, float momentum, float weight_decay, int nesterov)
{
    for (size_t i = 0; i < n; i++) {
        float strength = decay ? (float)decay[i] * weight_decay : weight_decay;
        float g = grad[i] * scale + strength * w[i];
        v[i] = momentum * v[i] + g;
        w[i] -= lr * (nesterov ? g + momentum * v[i] : v[i]);
    }
}

void oct_f32_fill_c(oct_f32_kernels *table)
{
    *table = (oct_f32_kernels){
        .level = "c",
        .conv_row = conv_row_c,
        .conv_dw = conv_dw_c,
        .depthwise_row = depthwise_row_c,
        .depthwise_dw = depthwise_dw_c,
        .channel_sums = channel_sums_c,
        .affine_clamp = affine_clamp_c,
        .bn_backward_sums = bn_backward_sums_c,
        .bn_backward_apply = bn_backward_apply_c,
        .bn_masked_sums = bn_masked_sums_c,
        .bn_masked_apply = bn_masked_apply_c,
        .channel_sum = channel_sum_c,
        .clamp = clamp_c,
        .add = add_c,
        .mul = mul_c,
        .clamp_backward = clamp_backward_c,
        .axpy = axpy_c,
        .sum_squares = sum_squares_c,
        .sgd = sgd_c,
    };
    oct_f32_fill_winograd_c(table);
}
