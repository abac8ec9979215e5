/* SPDX-License-Identifier: BSD-2-Clause
 * AdaRound (Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization"): for each weight it is learned
 * whether it rounds up or down, layer by layer, so that the layer's output on quantized inputs stays close to the float one.
 *
 *   w~ = step*clamp(floor(w/step) + h, -127, 127),  h = clamp(sigmoid(v)*1.2 - 0.1, 0, 1)
 *   loss = mean over samples and positions of sum over channels (act(conv(x_q, w~) + b) - act(y))^2
 *          + lambda * sum(1 - |2h - 1|^beta),       beta falls from 20 to 2 behind the first fifth of the iterations
 * minimised over v by Adam, 32 samples at a time. In the end h >= 1/2 rounds up. The weights in the graph move by as little as
 * makes plain rounding give the learned codes, so that nothing else has to know.
 */
#ifndef OCT_PTQ_ADAROUND_H
#define OCT_PTQ_ADAROUND_H

#include "quant/ptq/ranges.h"

enum { OCT_ADAROUND_ITERATIONS = 1000 };

typedef struct oct_ptq_adaround {
    int64_t iterations; /* per layer; 0 = OCT_ADAROUND_ITERATIONS */
    double rate;        /* of Adam; 0 = 0.01 */
    double lambda;      /* 0 = 0.01 */
    uint64_t seed;      /* of the samples' order */
} oct_ptq_adaround;

typedef struct oct_ptq_adarounded {
    int64_t weights, changed;    /* changed: rounded otherwise than to the nearest */
    double error_before, error_after; /* mean over layers of the outputs' relative squared error on the samples */
} oct_ptq_adarounded;

/* Batch norm must be merged and every range set. Progress counts iterations of all layers. */
OCT_MUST_USE oct_status oct_ptq_adaround_apply(oct_ptq_net *net, const oct_ptq_images *images,
                                               const oct_ptq_adaround *options, oct_ptq_adarounded *report,
                                               const oct_ptq_progress *progress);

/* A weight in codes, moved as little as makes rounding give `code` (with a margin of 1/10 step where it moves). */
double oct_ptq_nudge(double codes, int code);

#endif
