/* SPDX-License-Identifier: BSD-2-Clause
 * One training step as library code: forward, loss, backward, accumulation, clipping, schedule, freezing,
 * update. Knows batches, not data sets, files or epochs' ends: the loop around it is train/session.h.
 *
 * The learning rate and the freeze flags are pure functions of (options, step): nothing to save, nothing
 * sticky. The whole state of a training run is graph->params, graph->buffers, the velocity, and two counters
 * (oct_trainer_position).
 *
 * Freezing of quantized graphs (docs/quantization.md 4.5, 11.14); E epochs, counted from 0, integer division:
 *   E >= 8   batch norm's statistics from epoch e > 2 and e >= E/2 - 1, ranges from e > 4 and e >= E/2 + 1
 *   E < 8    batch norm's statistics from 1/2 of all steps, ranges from 5/8
 * freeze_bn freezes batch norm's statistics from the start, in float graphs too.
 */
#ifndef OCT_TRAIN_TRAINER_H
#define OCT_TRAIN_TRAINER_H

#include "autograd/plan.h"
#include "datasets/loader.h"
#include "layers/models.h"
#include "optim/schedule.h"
#include "optim/sgd.h"

typedef struct oct_freeze {
    bool bn, range;
} oct_freeze;

/* What the trainer tells while it works. */
typedef enum oct_trainer_event_kind { OCT_EVENT_BN_FROZEN, OCT_EVENT_RANGE_FROZEN } oct_trainer_event_kind;
typedef struct oct_trainer_event {
    oct_trainer_event_kind kind;
    bool on; /* frozen from this step, or free again */
    int64_t step;
} oct_trainer_event;
typedef void oct_trainer_event_fn(void *user, const oct_trainer_event *event);

typedef struct oct_trainer_options {
    int batch;        /* largest batch, samples; >= 1 */
    int accumulate;   /* batches per update; 0 = 1 */
    double grad_clip; /* largest norm of the gradient; 0 = no limit */
    oct_sgd_options sgd;
    oct_schedule schedule;
    int64_t epochs;          /* of the whole run, >= 0; 0: steps are not allowed */
    int64_t steps_per_epoch; /* updates, >= 1 */
    uint64_t seed;           /* of dropout and of the ranges' subsampling */
    bool freeze_bn;
    bool no_fuse;                /* node by node, for comparisons; float graphs */
    oct_trainer_event_fn *event; /* may be NULL */
    void *event_user;
} oct_trainer_options;

typedef struct oct_trainer_stats {
    double loss; /* mean over the batch */
    int correct; /* samples whose label has the largest logit; ties count for the lowest class. 0 without labels */
    int count;
    bool updated;     /* this batch completed a step */
    double lr;        /* of the step this batch belongs to */
    double grad_norm; /* when updated: of the mean gradient, before clipping */
    oct_freeze frozen;
} oct_trainer_stats;

typedef struct oct_trainer oct_trainer;

/* Flags of a step; `quantized`: the graph has fake-quant points. */
oct_freeze oct_trainer_freeze(const oct_trainer_options *options, bool quantized, int64_t step);

/* Makes the training plan (outputs loss and logits) and the optimizer. The graph must outlive the trainer and
 * must not be rewritten meanwhile; `model` names its values, all four of them. OCT_ERR_ARGUMENT names the
 * option out of range. */
OCT_MUST_USE oct_status oct_trainer_create(oct_trainer **out, oct_graph *graph, const oct_model *model,
                                           const oct_trainer_options *options);
void oct_trainer_destroy(oct_trainer *trainer); /* NULL is allowed */

/* One batch. With accumulation the parameters move at every accumulate-th call. A loss or gradient that is
 * not finite is OCT_ERR_NUMERIC naming the first tensor that is not: a parameter, a frozen statistic, an
 * output of the forward pass (run again to find it), or a gradient. Parameters have not moved then; running
 * statistics may have. */
OCT_MUST_USE oct_status oct_trainer_step(oct_trainer *trainer, const oct_batch *batch,
                                         oct_trainer_stats *stats);
/* Completes a step that has got fewer than `accumulate` batches, at the end of an epoch; does nothing at a
 * step's border. `stats` (updated, lr, grad_norm) may be NULL. */
OCT_MUST_USE oct_status oct_trainer_flush(oct_trainer *trainer, oct_trainer_stats *stats);

/* Where the run is. Set only at a step's border. */
typedef struct oct_trainer_position {
    int64_t step;    /* updates done */
    int64_t batches; /* batches seen: the random key of the next one */
} oct_trainer_position;
oct_trainer_position oct_trainer_at(const oct_trainer *trainer);
void oct_trainer_move(oct_trainer *trainer, oct_trainer_position position);
/* No batch waits for its step to be completed. */
bool oct_trainer_at_border(const oct_trainer *trainer);

/* Learning rate and flags of a step. */
double oct_trainer_rate(const oct_trainer *trainer, int64_t step);
oct_freeze oct_trainer_frozen(const oct_trainer *trainer, int64_t step);

/* Optimizer state, laid out like graph->params; owned by the trainer. */
float *oct_trainer_velocity(oct_trainer *trainer);
oct_plan *oct_trainer_plan(oct_trainer *trainer); /* borrowed; for printing and timing */

#endif
