/* SPDX-License-Identifier: BSD-2-Clause
 * Weights and biases of a quantized layer: batch norm folded on the fly, codes, exponents (docs/quantization.md 4.3, 11.2, 11.3).
 * Training and export call the same function, once per step and layer.
 *
 *   s  = gamma/sqrt(var + eps), |s| >= 1e-8 keeping its sign (gamma = 0: +)      1 without batch norm
 *   w' = s*w,   w_q = clamp(round half away(w' * 2^kw), -127, 127)
 *   b' = beta + (b0 - mean)*s,  b_q = round half away(b' * 2^(kx+kw))            b0 = 0 when absent
 * kw = 7 - ceil(log2 max|w'|) over the tensor, or over each output channel (then at most 8 above the tensor's), lowered
 * until |b_q| < 2^30 and 255*sum|w_q| < 2^29 for every output: accumulator + bias + rounding never leave int32.
 *
 * Profile affine, any scale (rne = round half to even):
 *   w' = (float)(s*w),   w_q = clamp(rne(w'*(1/sw)), -127, 127) in float,   b_q = rne(b'/(sx*sw))
 * sw = max|w'|/127 over the tensor or each output channel, doubled until the same bounds hold.
 */
#ifndef OCT_FOLD_H
#define OCT_FOLD_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/status.h"

typedef struct oct_fold_source {
    const float *weights;
    int outputs;
    size_t per_output;          /* weights of one output */
    int outputs_last;           /* 0: weights are [outputs][per_output]; 1: [per_output][outputs] (depthwise) */
    const float *gamma, *beta, *mean, *var; /* [outputs], all NULL without batch norm */
    const float *bias;          /* [outputs] or NULL */
    float eps;
    int input_exponent;         /* kx; po2 */
    int affine;                 /* profile affine */
    float input_scale;          /* sx; affine */
    int per_channel;
} oct_fold_source;

/* Caller's memory; weight-sized arrays have the layout of the source. */
typedef struct oct_fold {
    double *s;          /* [outputs] */
    int8_t *codes;      /* weight-sized */
    uint8_t *passes;    /* weight-sized, 1 where the code was not clipped (straight-through mask); may be NULL */
    int *exponent;      /* [outputs]: kw; po2 */
    float *scale;       /* [outputs]: real value of one weight code */
    int32_t *bias;      /* [outputs]: b_q on the grid 2^-(kx+kw), or sx*sw */
    uint8_t *dead;      /* [outputs], 1 where every code is zero; may be NULL */
} oct_fold;

/* Bytes and layout of one block that holds all arrays of a fold (64-byte aligned pieces). */
size_t oct_fold_bytes(int outputs, size_t per_output);
oct_fold oct_fold_place(void *block, int outputs, size_t per_output);

/* s of the formula above for one channel. */
double oct_fold_scale(double gamma, double var, double eps);

/* Fails with OCT_ERR_NUMERIC, naming `name`, when a weight or statistic is not finite. */
OCT_MUST_USE oct_status oct_fold_weights(const oct_fold *fold, const oct_fold_source *source, const char *name,
                                         oct_error *error);

#endif
