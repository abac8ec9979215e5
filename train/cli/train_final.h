/* SPDX-License-Identifier: BSD-2-Clause
 * The end of a run of bin/train: export, the three scores, the ranges, the table and the result object.
 */
#ifndef OCT_CLI_TRAIN_FINAL_H
#define OCT_CLI_TRAIN_FINAL_H

#include "train/checkpoint.h"
#include "train/cli/data.h"
#include "train/evaluate.h"

typedef struct train_final {
    cli *c;
    const data_source *data;
    oct_graph *graph;
    const oct_model *model;
    const oct_checkpoint_info *info;
    oct_augment recipe;
    int batch;
    const char *folder;
    double images_per_second; /* of training */
    uint64_t peak_bytes;      /* of training */
} train_final;

/* Exports <folder>/int8.h5 when the graph is quantized, scores what there is on the test images and prints it
 * all. OCT_END: a signal came. */
oct_status train_finish(const train_final *f);

/* One score with progress; `label` for the line. OCT_END when a signal came. */
oct_status train_score(const train_final *f, const char *label, oct_evaluator *evaluator, oct_split split,
                       oct_score *score);

#endif
