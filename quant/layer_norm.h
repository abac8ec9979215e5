/* SPDX-License-Identifier: BSD-2-Clause
 * Batch norm of a convolution on codes (docs/quantization.md 11.7, 11.9, 4.3): exact statistics of 32-bit accumulators, and the
 * one affine per channel that turns an accumulator into the normalised value. No kernel and no thread in here.
 *
 *   v = (m*S2 - S1^2)/m^2       numerator in 128-bit integers, one division in double
 *   k = Dx*Dw/s                 so that the convolution's output is k*acc + b0
 *   r = 1/sqrt(v + eps/k^2)     x_hat = sign(s)*r*(acc - S1/m)
 *   y = (float)acc*a + b        a = gamma*sign(s)*r, b = beta - a*S1/m, each rounded once to float
 */
#ifndef OCT_LAYER_NORM_H
#define OCT_LAYER_NORM_H

#include <stdint.h>

#include "quant/fold.h"
#include "quant/ops.h"

/* Sums over all positions of the batch. */
typedef struct oct_acc_sums {
    int64_t sum;
    __int128 square;
    int32_t min, max;
} oct_acc_sums;

/* What the backward pass needs per channel. */
typedef struct oct_norm_saved {
    double k;         /* convolution output per accumulator unit */
    double mean;      /* S1/m; frozen: (mean - b0)/k, where x_hat is 0 */
    double signed_r;  /* x_hat per accumulator unit: sign(s)*r; frozen: k/sigma */
    double g_scale;   /* live: rho/sigma_B = gamma/(s*sigma_B); frozen: 1 */
} oct_norm_saved;

typedef struct oct_norm_channel {
    const oct_batch_norm_fold_attrs *attrs;
    float gamma, beta, bias; /* bias 0 when absent */
    double s;
    double unit; /* Dx*Dw: real value of one unit of the accumulator */
} oct_norm_channel;

/* Live: reads the sums over m positions (m > 1), moves the running statistics unless `dead` (all weight codes zero), gives
 * the affine for the fold mode and what backward needs. */
void oct_norm_live(const oct_norm_channel *c, const oct_acc_sums *sums, int64_t m, int dead, float *running_mean,
                   float *running_var, float *a, float *b, oct_norm_saved *saved);
/* Frozen: what backward needs; forward is the folded bias. */
void oct_norm_frozen(const oct_norm_channel *c, float running_mean, float running_var, oct_norm_saved *saved);

#endif
