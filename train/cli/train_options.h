/* SPDX-License-Identifier: BSD-2-Clause
 * The flags of bin/train: defaults, checks, and the JSON object that says which run this is (config.json, the
 * checkpoint's fingerprint, what --resume compares).
 */
#ifndef OCT_CLI_TRAIN_OPTIONS_H
#define OCT_CLI_TRAIN_OPTIONS_H

#include "optim/schedule.h"
#include "quant/int8/spec.h"
#include "quant/quantize.h"
#include "train/cli/data.h"

typedef struct train_flags {
    const char *model, *pretrained, *output;
    bool quantize, quantize_output, freeze_bn, evaluate_start, resume, overwrite, nesterov,
        decay_weights_only;
    bool print_plan, print_model, new_head, json, quiet;
    const char *profile, *qconfig, *fold, *per_channel, *rounding;
    const char *schedule, *milestones, *augment, *jitter, *mean, *scale;
    int64_t epochs, batch, accumulate, seed, threads, calibration_batches;
    double lr, warmup, momentum, weight_decay, label_smoothing /* < 0: not given */, grad_clip, epoch_size,
        lr_gamma, lr_power, lr_step_epochs;
    double save_seconds;

    /* What follows from them. */
    oct_qconfig config;
    oct_schedule rates;
    oct_augment recipe;
    oct_jitter color;
    int mean_count, scale_count; /* 0 = not given */
    double means[4], scales[4];
} train_flags;

/* Parses and checks the command line into *flags. CLI_GO_ON, or the exit status. */
int train_parse(train_flags *flags, int argc, char **argv);

/* Fills in what depends on the images' size. */
oct_status train_choose_recipe(train_flags *flags, int size, oct_error *error);

/* JSON text (oct_free), NULL when memory is out: every flag that decides the result of the run. */
char *train_fingerprint(const train_flags *flags, int size);
/* The quantizer's configuration as JSON text (oct_free). */
char *train_quantize_text(const train_flags *flags);
/* Names of the flags whose values differ, with both values, into text; "" when none do. */
void train_compare(char *text, size_t bytes, const char *ours, const char *theirs);

/* Writes <folder>/config.json: the fingerprint and the rest of the run's surroundings. */
oct_status train_write_config(const train_flags *flags, cli *c, const char *folder, const char *fingerprint);

#endif
