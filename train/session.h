/* SPDX-License-Identifier: BSD-2-Clause
 * A training run as a whole: epochs over a loader, evaluation after each, checkpoints, metrics, stopping and
 * going on.
 *
 * Files in `folder` (none when it is NULL):
 *   last.h5        the checkpoint: after each epoch, every save_seconds between updates, and when stopped
 *   best.h5        the model with the best validation top-1 so far, without optimizer state
 *   metrics.jsonl  one line per epoch; cut back to the checkpoint's length on resuming
 * A run that was killed and resumed ends with the bytes of one that was not, files included (metrics.jsonl
 * apart from the digits of its rates).
 */
#ifndef OCT_TRAIN_SESSION_H
#define OCT_TRAIN_SESSION_H

#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/trainer.h"

enum { OCT_SESSION_SAVE_SECONDS = 60 };

/* One epoch, when it is over. */
typedef struct oct_epoch_report {
    int64_t epoch, epochs, step;
    double train_loss, train_top1; /* running values of the epoch, percent */
    double images_per_second;      /* of training in this process, evaluation left out */
    double lr;                     /* of the last step */
    oct_freeze frozen;
    bool evaluated;
    oct_score score; /* of the validation images */
    bool best;       /* the best so far */
} oct_epoch_report;

typedef struct oct_step_report {
    int64_t epoch, epochs;
    int64_t batch, batches;  /* of this epoch, done and all */
    int64_t images;          /* trained on in this epoch, in this process */
    double seconds;          /* spent on them */
    double loss;             /* mean of the epoch so far */
    oct_trainer_stats stats; /* of this batch */
} oct_step_report;

/* Any of them may be NULL. */
typedef struct oct_session_events {
    void (*step)(void *user, const oct_step_report *report);
    void (*evaluated)(void *user, const oct_score *so_far, int64_t images);
    void (*epoch)(void *user, const oct_epoch_report *report);
    void (*saved)(void *user, const char *path, const oct_train_progress *progress);
    bool (*stop)(void *user); /* asked between batches; true = save and return OCT_END */
    void *user;
} oct_session_events;

typedef struct oct_session_options {
    oct_trainer *trainer;
    oct_graph *graph;
    const oct_model *model;
    oct_loader *train;
    oct_loader *validation; /* NULL = no evaluation, no best.h5 */
    int64_t epochs;         /* as the trainer's */
    const char *folder;     /* existing; NULL = nothing is written */
    double save_seconds;    /* 0 = OCT_SESSION_SAVE_SECONDS; tiny = after every step */
    oct_checkpoint_info info;
    oct_session_events events;
} oct_session_options;

typedef struct oct_session oct_session;

/* Borrows everything in `options` until destroy. OCT_ERR_SHAPE: images or classes do not fit the model. */
OCT_MUST_USE oct_status oct_session_create(oct_session **out, oct_ctx *ctx,
                                           const oct_session_options *options);
void oct_session_destroy(oct_session *session); /* NULL is allowed */

/* Goes on where `checkpoint` was: velocity, counters, metrics.jsonl. The graph must hold the checkpoint's
 * values. Before the first run only. */
OCT_MUST_USE oct_status oct_session_resume(oct_session *session, const oct_checkpoint *checkpoint);

/* Trains to the end of the last epoch: OCT_OK; stopped by the `stop` event with everything saved: OCT_END. */
OCT_MUST_USE oct_status oct_session_run(oct_session *session);

const oct_train_progress *oct_session_progress(const oct_session *session);
double oct_session_images_per_second(const oct_session *session); /* training, whole run in this process */

/* "<folder>/<name>" into path; OCT_ERR_ARGUMENT when it is longer than OCT_SESSION_PATH - 1. */
enum { OCT_SESSION_PATH = 4096 };
OCT_MUST_USE oct_status oct_session_file(char path[OCT_SESSION_PATH], const char *folder, const char *name,
                                         oct_error *error);

#endif
