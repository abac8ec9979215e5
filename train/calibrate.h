/* SPDX-License-Identifier: BSD-2-Clause
 * Calibration (docs/quantization.md 11.14): forward passes in which the activation ranges of a quantized graph
 * observe data. BN statistics stay frozen and nothing is trained.
 */
#ifndef OCT_TRAIN_CALIBRATE_H
#define OCT_TRAIN_CALIBRATE_H

#include "autograd/plan.h"
#include "datasets/loader.h"
#include "layers/models.h"

enum { OCT_CALIBRATE_BATCHES = 50 };

/* Called after each batch; a value other than OCT_OK ends the calibration and is returned. */
typedef oct_status oct_calibrate_progress(void *user, int64_t done, int64_t total);

/* `batches` of the loader from epoch 0 on, going on to the next epochs when it has fewer. `seed`: of the
 * ranges' subsampling. A graph without points, or one whose ranges are all observed already, is left alone
 * unless `again`. */
OCT_MUST_USE oct_status oct_calibrate(oct_graph *graph, const oct_model *model, oct_loader *loader,
                                      int64_t batches, uint64_t seed, bool again,
                                      oct_calibrate_progress *progress, void *user);

#endif
