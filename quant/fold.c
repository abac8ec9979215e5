/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/fold.h"

#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "quant/fold_internal.h"
#include "quant/int8/requant.h"

enum { WEIGHT_MAX = 127, CHANNEL_HEADROOM = 8 /* log2 256, docs/quantization.md 3.4 */, MIN_EXPONENT = -120, FOLD_BLOCK = 64 };
static const double min_scale = 1e-8, max_abs = 0x1p-16;

size_t oct_fold_bytes(int outputs, size_t per_output)
{
    size_t o = (size_t)outputs, n = o * per_output;
    return oct_size_align(o * sizeof(double)) + 2 * oct_size_align(n) + oct_size_align(o * sizeof(int)) +
           oct_size_align(o * sizeof(float)) + oct_size_align(o * sizeof(int32_t)) + oct_size_align(o);
}

oct_fold oct_fold_place(void *block, int outputs, size_t per_output)
{
    unsigned char *p = block;
    size_t o = (size_t)outputs, n = o * per_output;
    oct_fold f;
    f.s = (double *)p;
    p += oct_size_align(o * sizeof(double));
    f.codes = (int8_t *)p;
    p += oct_size_align(n);
    f.passes = p;
    p += oct_size_align(n);
    f.exponent = (int *)p;
    p += oct_size_align(o * sizeof(int));
    f.scale = (float *)p;
    p += oct_size_align(o * sizeof(float));
    f.bias = (int32_t *)p;
    p += oct_size_align(o * sizeof(int32_t));
    f.dead = p;
    return f;
}

double oct_fold_scale(double gamma, double var, double eps)
{
    double s = gamma / sqrt(var + eps);
    if (!(fabs(s) < min_scale)) return s; /* NaN stays NaN, for the caller to report */
    return s < 0 ? -min_scale : min_scale;
}

static double channel_scale(const oct_fold_source *src, int o)
{
    return src->gamma ? oct_fold_scale((double)src->gamma[o], (double)src->var[o], (double)src->eps) : 1;
}

static uint32_t magnitude_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

/* max |s*w| of one output, not finite when one of them is not: rounding is monotone, so it is that of the largest |w|, which
 * is that of the largest bit pattern. */
static double channel_max(const oct_fold_source *src, int o, double s)
{
    int32_t largest = 0;
    size_t step = src->outputs_last ? (size_t)src->outputs : 1;
    const float *w = src->weights + oct_fold_index(src, o, 0);
    for (size_t i = 0; i < src->per_output; i++) {
        int32_t a = (int32_t)magnitude_bits(w[i * step]);
        largest = a > largest ? a : largest;
    }
    float w_max;
    memcpy(&w_max, &largest, sizeof w_max);
    return fabs(s * (double)w_max);
}

static int weight_exponent(double largest)
{
    return 7 - oct_ceil_exponent(largest > max_abs ? largest : max_abs);
}

/* Codes and straight-through mask of n <= FOLD_BLOCK weights `step` apart; returns the sum of |code|. Short loops with one
 * width of numbers each, so that compilers vectorise them. */
static inline int32_t quantize_block(int8_t *codes, uint8_t *passes, const float *w, size_t n, size_t step, double s,
                                     double kappa)
{
    int32_t q[FOLD_BLOCK], sum = 0;
    for (size_t i = 0; i < n; i++)
        q[i] = oct_weight_code(s * (double)w[i * step], kappa, -WEIGHT_MAX - 1, WEIGHT_MAX + 1);
    for (size_t i = 0; passes && i < n; i++) passes[i * step] = q[i] >= -WEIGHT_MAX && q[i] <= WEIGHT_MAX;
    for (size_t i = 0; i < n; i++) {
        int32_t clipped = oct_clamp_i32(q[i], -WEIGHT_MAX, WEIGHT_MAX);
        codes[i * step] = (int8_t)clipped;
        sum += clipped < 0 ? -clipped : clipped;
    }
    return sum;
}

static int64_t quantize_weights(int8_t *codes, uint8_t *passes, const float *w, size_t n, size_t step, double s,
                                double kappa)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i += FOLD_BLOCK) {
        size_t count = n - i < FOLD_BLOCK ? n - i : FOLD_BLOCK, at = i * step;
        uint8_t *p = passes ? passes + at : NULL;
        sum += step == 1 ? quantize_block(codes + at, p, w + at, count, 1, s, kappa)
                         : quantize_block(codes + at, p, w + at, count, step, s, kappa);
    }
    return sum;
}

/* Codes of one output at fold->exponent[o]; false when a bound of docs/quantization.md 11.2 is broken. */
static int quantize_channel(const oct_fold *fold, const oct_fold_source *src, int o)
{
    double s = fold->s[o], kappa = ldexp(1, fold->exponent[o]);
    size_t first = oct_fold_index(src, o, 0), step = src->outputs_last ? (size_t)src->outputs : 1;
    int64_t sum = quantize_weights(fold->codes + first, fold->passes ? fold->passes + first : NULL,
                                   src->weights + first, src->per_output, step, s, kappa);
    double kappa_bias = ldexp(1, src->input_exponent + fold->exponent[o]);
    fold->bias[o] = oct_weight_code(oct_fold_bias(src, o, s), kappa_bias, -(1 << 30), 1 << 30);
    if (fold->dead) fold->dead[o] = sum == 0;
    return 255 * sum < INT64_C(1) << 29 && fold->bias[o] > -(1 << 30) && fold->bias[o] < 1 << 30;
}

static oct_status not_finite(const char *name, oct_error *error)
{
    return oct_fail(error, OCT_ERR_NUMERIC, "'%s': a weight, bias or batch-norm statistic is not finite", name);
}

static oct_status quantize_all(const oct_fold *fold, const oct_fold_source *src, const char *name, oct_error *error)
{
    for (int o = 0; o < src->outputs; o++) {
        while (!quantize_channel(fold, src, o)) {
            if (fold->exponent[o] <= MIN_EXPONENT)
                return oct_fail(error, OCT_ERR_NUMERIC, "'%s': output %d does not fit 32-bit accumulators at any scale",
                                name, o);
            fold->exponent[o]--;
            if (src->per_channel) continue;
            for (int p = 0; p < src->outputs; p++) fold->exponent[p] = fold->exponent[o];
            o = 0; /* one exponent for all: start again with the lower one */
        }
    }
    return OCT_OK;
}

oct_status oct_fold_weights(const oct_fold *fold, const oct_fold_source *src, const char *name, oct_error *error)
{
    double tensor_max = 0;
    for (int o = 0; o < src->outputs; o++) {
        double s = channel_scale(src, o), largest = channel_max(src, o, s);
        if (!isfinite(s) || !isfinite(largest) || !isfinite(oct_fold_bias(src, o, s))) return not_finite(name, error);
        fold->s[o] = s;
        if (largest > tensor_max) tensor_max = largest;
        if (src->affine)
            fold->scale[o] = oct_fold_affine_scale(largest);
        else
            fold->exponent[o] = weight_exponent(largest);
    }
    if (src->affine) {
        for (int o = 0; o < src->outputs && !src->per_channel; o++) fold->scale[o] = oct_fold_affine_scale(tensor_max);
        return oct_fold_affine(fold, src, name, error);
    }
    int tensor_exponent = weight_exponent(tensor_max);
    for (int o = 0; o < src->outputs; o++) {
        if (!src->per_channel || fold->exponent[o] > tensor_exponent + CHANNEL_HEADROOM)
            fold->exponent[o] = tensor_exponent + (src->per_channel ? CHANNEL_HEADROOM : 0);
    }
    OCT_TRY(quantize_all(fold, src, name, error));
    for (int o = 0; o < src->outputs; o++) fold->scale[o] = ldexpf(1, -fold->exponent[o]);
    return OCT_OK;
}
