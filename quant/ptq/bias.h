/* SPDX-License-Identifier: BSD-2-Clause
 * Biases that make up for what rounding shifts. Both work on merged batch norm, one bias per layer: beta, or the layer's
 * own; layers with neither are left alone.
 *
 *   oct_ptq_calibrate_biases   TI's advanced calibration, batch by batch: in the quantized network each layer's bias moves by
 *                              factor*(mean of its float output - mean of its output now), before its own point rounds, and
 *                              the ranges average on the way (quant/range.h, 0.01 % of each tail cut)
 *   oct_ptq_correct_biases     the whole difference at once, layer by layer in the order of execution, over all images
 */
#ifndef OCT_PTQ_BIAS_H
#define OCT_PTQ_BIAS_H

#include "quant/ptq/ranges.h"

enum { OCT_PTQ_CALIBRATION_STEPS = 100 };

typedef struct oct_ptq_bias_calibration {
    double factor;  /* 0 = 0.05, constant over the run */
    int64_t steps;  /* batches, going over the images again and again; 0 = OCT_PTQ_CALIBRATION_STEPS, at least all images */
    uint64_t seed;  /* of the histograms' subsampling */
} oct_ptq_bias_calibration;

OCT_MUST_USE oct_status oct_ptq_calibrate_biases(oct_ptq_net *net, const oct_ptq_images *images,
                                                 const oct_ptq_bias_calibration *options,
                                                 const oct_ptq_progress *progress);

/* Ranges must be set. Progress counts layers. */
OCT_MUST_USE oct_status oct_ptq_correct_biases(oct_ptq_net *net, const oct_ptq_images *images,
                                               const oct_ptq_progress *progress);

/* Batch norm's statistics as the network has them now, for training on: mean and variance of each layer's output on the
 * images, with gamma = sqrt(var + eps) and beta raised by the mean, so that the function stays (TinyNN's BN restore). */
OCT_MUST_USE oct_status oct_ptq_restore_norms(oct_ptq_net *net, const oct_ptq_images *images,
                                              const oct_ptq_progress *progress);

#endif
