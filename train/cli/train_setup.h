/* SPDX-License-Identifier: BSD-2-Clause
 * One run of bin/train: what it holds, and everything before its first step: the starting file, the data set,
 * the model, the quantizer, the output folder.
 */
#ifndef OCT_CLI_TRAIN_SETUP_H
#define OCT_CLI_TRAIN_SETUP_H

#include "train/cli/train_options.h"
#include "train/session.h"

typedef struct train_run {
    cli c;
    train_flags flags;
    data_source data;
    char folder[OCT_SESSION_PATH];
    oct_checkpoint start; /* what --resume or --pretrained read */
    bool resumed, loaded; /* weights came from a file */
    oct_graph *graph;
    oct_model model;
    char *fingerprint, *quantize_text, *spec;
    const char **classes;
    oct_checkpoint_info info;
    oct_loader *train, *validation;
    oct_split validation_split;
    oct_trainer *trainer;
    oct_session *session;
    int64_t shown_epoch; /* of the progress line; < 0: none */
    double last_step_event;
} train_run;

/* From parsed flags to a run that is ready for loaders and trainer; prints what was chosen. Release after
 * success and failure. */
oct_status train_prepare(train_run *r);
void train_release(train_run *r);

/* Is there a file of that name in the folder? */
bool train_file_exists(const char *folder, const char *name);

#endif
