/* SPDX-License-Identifier: BSD-2-Clause
 * Folding in profile affine: weights s8 in [-127, 127] with any scale, bias by rounding half to even. */
#include <math.h>

#include "quant/fold_internal.h"
#include "quant/int8/affine.h"

enum { WEIGHT_MAX = 127, BIAS_BOUND = 1 << 30 };
static const float least_scale = 0x1p-23f, most_scale = 0x1p60f;

/* The folded weight as it is quantized: a float, as in frameworks that fold in float. */
static float folded(double s, float w)
{
    return (float)(s * (double)w);
}

/* Codes of one output at fold->scale[o]; false when a bound of docs/quantization.md 11.2 is broken. */
static int quantize_channel(const oct_fold *fold, const oct_fold_source *src, int o)
{
    double s = fold->s[o];
    float inverse = 1.0f / fold->scale[o];
    size_t first = oct_fold_index(src, o, 0), step = src->outputs_last ? (size_t)src->outputs : 1;
    int64_t sum = 0;
    for (size_t i = 0; i < src->per_output; i++) {
        size_t at = first + i * step;
        int32_t q = oct_affine_weight(folded(s, src->weights[at]), inverse);
        int32_t code = oct_clamp_i32(q, -WEIGHT_MAX, WEIGHT_MAX);
        fold->codes[at] = (int8_t)code;
        if (fold->passes) fold->passes[at] = q == code;
        sum += code < 0 ? -code : code;
    }
    double bias = oct_round_even_f64(oct_fold_bias(src, o, s) / ((double)src->input_scale * (double)fold->scale[o]));
    bool fits = bias > -(double)BIAS_BOUND && bias < (double)BIAS_BOUND;
    fold->bias[o] = fits ? (int32_t)bias : 0;
    if (fold->dead) fold->dead[o] = sum == 0;
    return fits && 255 * sum < INT64_C(1) << 29;
}

oct_status oct_fold_affine(const oct_fold *fold, const oct_fold_source *src, const char *name, oct_error *error)
{
    for (int o = 0; o < src->outputs; o++) {
        while (!quantize_channel(fold, src, o)) {
            if (fold->scale[o] > most_scale)
                return oct_fail(error, OCT_ERR_NUMERIC, "'%s': output %d does not fit 32-bit accumulators at any scale",
                                name, o);
            fold->scale[o] *= 2;
            if (src->per_channel) continue;
            for (int p = 0; p < src->outputs; p++) fold->scale[p] = fold->scale[o];
            o = 0; /* one scale for all: start again with the larger one */
        }
    }
    return OCT_OK;
}

float oct_fold_affine_scale(double largest)
{
    float scale = (float)largest / (float)WEIGHT_MAX;
    return scale > least_scale ? scale : least_scale;
}
