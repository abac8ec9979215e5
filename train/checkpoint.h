/* SPDX-License-Identifier: BSD-2-Clause
 * Checkpoints: everything a training run needs to go on as if it had never stopped, in one state file
 * (layers/state.h), written atomically. The same state gives the same bytes: nothing in it depends on the
 * time or the speed of the run.
 *
 *   /graph /parameters /buffers /classes   the network, its running statistics and ranges
 *   /optimizer/velocity                    absent in files that are only for use (best.h5)
 *   /meta  model, options, augment, resize, interpolation, quantize      see oct_checkpoint_info
 *          epoch, batch, step, batches, loss_sum, correct, images, best_top1, best_epoch, metrics_bytes
 *                                                       see oct_train_progress
 */
#ifndef OCT_TRAIN_CHECKPOINT_H
#define OCT_TRAIN_CHECKPOINT_H

#include "datasets/transform.h"
#include "layers/import/keras.h"
#include "layers/models.h"
#include "layers/state.h"
#include "quant/copy.h"

/* What a file says about the model besides its values. Texts are borrowed; NULL = not recorded. */
typedef struct oct_checkpoint_info {
    const char *model;          /* spec it was built from */
    const char *options;        /* JSON object, flag -> value: all that decides the result of the run */
    const char *augment;        /* recipe */
    oct_fit fit;                /* how evaluation brings images to size; resize 0: not recorded, by the recipe */
    const char *quantize;       /* JSON object of the quantizer's configuration; NULL for float models */
    const char *const *classes; /* class_count names, or NULL */
    int class_count;
} oct_checkpoint_info;

/* Where a run is. Written between updates only. */
typedef struct oct_train_progress {
    int64_t epoch; /* the current one, from 0 */
    int64_t batch; /* next batch of the epoch; = batches of the epoch: only its evaluation is missing */
    int64_t step, batches; /* updates done, batches seen (train/trainer.h) */
    double loss_sum;       /* of this epoch so far: batch loss times samples */
    int64_t correct, images;
    double best_top1; /* percent on the validation images; < 0: none yet */
    int64_t best_epoch;
    int64_t metrics_bytes; /* length of metrics.jsonl that belongs to this state */
} oct_train_progress;

/* `velocity` NULL: a file without optimizer state. `progress` NULL: not to be resumed from. */
OCT_MUST_USE oct_status oct_checkpoint_write(const char *path, const oct_graph *graph, const float *velocity,
                                             const oct_checkpoint_info *info,
                                             const oct_train_progress *progress, oct_error *error);

typedef struct oct_checkpoint {
    oct_state *state; /* owns all texts; NULL when the network was made elsewhere */
    oct_graph *graph; /* with its values; quantized graphs know how to run (quant/ops.h) */
    oct_model model;
    oct_checkpoint_info info;
    const char **classes;
    bool resumable; /* has optimizer state and progress */
    oct_train_progress progress;
} oct_checkpoint;

/* OCT_ERR_FORMAT also for a state file that is no model of ours (nodes "image" and "head" are missing). Fills
 * *out, which is all zero on failure. The graph belongs to the checkpoint unless oct_checkpoint_take_graph
 * takes it. */
OCT_MUST_USE oct_status oct_checkpoint_read(oct_checkpoint *out, const char *path, oct_ctx *ctx);
/* Is it a file that oct_checkpoint_import may read? Decided by content. */
bool oct_checkpoint_is_foreign(const char *path);
/* The same for a network made elsewhere, Keras HDF5 or ONNX (layers/import/keras.h, onnx.h): there is no state, no training
 * progress, no class names. `options` as there; OCT_ERR_FORMAT also for files of another kind. */
OCT_MUST_USE oct_status oct_checkpoint_import(oct_checkpoint *out, const char *path, const oct_network_options *options,
                                              oct_ctx *ctx);
oct_graph *oct_checkpoint_take_graph(oct_checkpoint *checkpoint);
/* Copies the optimizer state into a flat array laid out like graph->params. OCT_ERR_SHAPE when it does not
 * fit. */
OCT_MUST_USE oct_status oct_checkpoint_velocity(const oct_checkpoint *checkpoint, const oct_graph *graph,
                                                float *velocity, oct_error *error);
void oct_checkpoint_release(oct_checkpoint *checkpoint);

#endif
