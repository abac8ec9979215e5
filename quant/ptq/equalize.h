/* SPDX-License-Identifier: BSD-2-Clause
 * Changes of weights before calibration. All work on merged batch norm (oct_ptq_merge_norms), per layer and channel.
 *
 * Cross-layer equalization (Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction"):
 * for layers A -> B with only ReLU, points and pools between them and no other reader,
 *   s_c = sqrt(r1_c/r2_c)     r1: largest |weight| of A's output channel c, r2: of B's weights on input channel c
 *   A's weights and bias of c are divided by s_c, B's weights on c multiplied: the function stays.
 * s_c is in [1e-6, 1e6], and 1 where r1 or r2 is 0 or r1 + r2 < 0.5. Caps (ReLU6) and branches are not crossed: a cap has
 * one code limit for all channels, so it would move.
 *
 * High-bias absorption: c = max(0, beta - 3|gamma|) of A's batch norm, over s, is almost always there behind ReLU: it leaves
 * A's bias and enters B's, through B's weights. Exact but for values below c and for zero padding.
 */
#ifndef OCT_PTQ_EQUALIZE_H
#define OCT_PTQ_EQUALIZE_H

#include "quant/ptq/network.h"

typedef struct oct_ptq_equalization {
    int iterations; /* 0 = 2 */
    bool absorb;    /* high biases, too */
} oct_ptq_equalization;

typedef struct oct_ptq_equalized {
    int pairs;
    int capped;          /* pairs that a cap keeps apart */
    double ratio_before, ratio_after; /* largest over smallest channel range, worst of the pairs' first layers */
} oct_ptq_equalized;

/* Merges batch norm itself (absorption needs gamma and beta as they were), so it comes before everything else. */
OCT_MUST_USE oct_status oct_ptq_equalize(oct_ptq_net *net, const oct_ptq_equalization *options, oct_ptq_equalized *report);

/* TI's constraint (docs/quantization.md 3.5), layers with one exponent for all channels: A = max|w|, med = lower median of
 * |w|; when A > 15 and A > 16*med, weights are limited to 15/16 of the smallest power of two >= min(A, 16*med). Returns how
 * many layers it changed, -1 when memory is out. */
int oct_ptq_clip_weights(oct_ptq_net *net);

/* The scale of one channel. */
double oct_ptq_equalizing_scale(double r1, double r2);
/* The limit above for n weights; 0 = none. `magnitudes` is sorted in place. */
double oct_ptq_weight_limit(float *magnitudes, size_t n);

#endif
