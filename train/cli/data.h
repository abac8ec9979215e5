/* SPDX-License-Identifier: BSD-2-Clause
 * The data set of a program: its flags, opening, which split is meant, loaders, the size of the images.
 */
#ifndef OCT_CLI_DATA_H
#define OCT_CLI_DATA_H

#include "datasets/loader.h"
#include "train/cli/args.h"
#include "train/cli/report.h"

typedef struct data_flags {
    const char *path, *kind;
    int64_t size;     /* 0 = the model's, or the data set's */
    double val_split; /* 0 = the data set's default */
    int64_t split_seed;
    int64_t workers;
    bool strict;
    const char *subset;        /* "all", "even", "odd"; NULL = all */
    int64_t resize;            /* -1 = the model's; 0 = both sides straight to size */
    const char *interpolation; /* NULL = the model's */
} data_flags;

/* What data_options fill in. */
extern data_flags data_given;
extern const arg_option data_options[];

typedef struct data_source {
    oct_dataset *set;
    int size, channels, classes;
    oct_fit fit; /* of evaluation; {0} until data_choose_fit: by the recipe */
} data_source;

/* channels: 1 or 3 for folders of images, 0 = 3. Prints nothing; the message of a failure is in the context.
 */
oct_status data_open(data_source *data, cli *c, int channels);
void data_close(data_source *data);

/* Side of the images: --size, else `model_size`, else that of a set whose images are all square and equal (of
 * a folder the first images are looked at). Sets data->size. */
oct_status data_choose_size(data_source *data, cli *c, int model_size);

/* How images come to that size: --resize and --interpolation, else what the model's file says (`stored`), else what
 * `augment` says. Sets data->fit, resize never 0. Call it after data_choose_size. */
oct_status data_choose_fit(data_source *data, cli *c, const oct_fit *stored, oct_augment augment);

/* Split that decides which epoch was best: validation, else test. False: there is neither. */
bool data_validation_split(const data_source *data, oct_split *split);
/* Split of final figures: test, else validation, else training. */
oct_split data_test_split(const data_source *data);
/* By name: "train", "val", "test"; OCT_ERR_ARGUMENT when the set has none. */
oct_status data_named_split(oct_split *split, const data_source *data, cli *c, const char *name);

/* An evaluation loader with data->fit. images: evenly spaced over the split; 0 = all. */
oct_status data_evaluation_loader(oct_loader **loader, const data_source *data, cli *c, oct_split split,
                                  int batch, oct_augment augment, int64_t images);

/* OCT_ERR_SHAPE naming both when the number of classes differs (a list without class names may use fewer than the model
 * has). `what`: path or name of the model. */
oct_status data_check_classes(const data_source *data, cli *c, const char *what, int classes);
/* Same for the images' size and channels. */
oct_status data_check_images(const data_source *data, cli *c, const char *what, int height, int width,
                             int channels);

/* Counts and names what a loader could not read. */
void data_report_unreadable(const oct_loader *loader, const cli *c, const char *split);

#endif
