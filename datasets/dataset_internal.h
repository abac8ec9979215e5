/* SPDX-License-Identifier: BSD-2-Clause
 * What the readers and dataset.c share. A reader's open function fills the stores (one per split that exists
 * on disk), labels and shape; dataset.c checks labels, counts classes and makes the splits out of them. */
#ifndef OCT_DATASETS_DATASET_INTERNAL_H
#define OCT_DATASETS_DATASET_INTERNAL_H

#include <stdbool.h>

#include "datasets/dataset.h"

enum { MAX_SAMPLES = 1 << 28, MAX_CLASSES = 1 << 16, MAX_SIDE = 65535 };

/* Images and labels of one split on disk. */
typedef struct sample_store {
    uint32_t count;
    int32_t *labels;
    uint8_t *pixels; /* count x height x width x channels when held in memory, else NULL */
} sample_store;

/* Calls of a reader whose images are not in memory. */
typedef struct dataset_reader {
    oct_status (*read)(oct_dataset *, oct_split store, uint32_t index, oct_image *, oct_error *);
    /* NULL = path:split[index] */
    void (*name)(const oct_dataset *, oct_split store, uint32_t index, char *, size_t);
    void (*close)(oct_dataset *); /* frees `state`, also when the opening failed half way */
} dataset_reader;

/* A split is a store, or the part of the training store that `map` lists. */
typedef struct split_view {
    oct_split store;
    uint32_t count;
    uint32_t *map;
} split_view;

struct oct_dataset {
    oct_dataset_kind kind;
    char *path;
    int class_count;
    char **class_names; /* class_count strings, or NULL */
    int channels, height, width;
    int strict;
    size_t max_image_pixels;
    sample_store stores[OCT_SPLIT_COUNT];
    split_view splits[OCT_SPLIT_COUNT];
    const dataset_reader *reader; /* NULL when everything is in memory */
    void *state;
    bool one_folder; /* folder or list without train/, val/, test/ */
};

oct_status oct_dataset_open_folder(oct_dataset *dataset, oct_error *error);
oct_status oct_dataset_open_list(oct_dataset *dataset, oct_error *error);
oct_status oct_dataset_open_idx(oct_dataset *dataset, oct_error *error);
oct_status oct_dataset_open_cifar(oct_dataset *dataset, oct_error *error);
oct_status oct_dataset_open_hdf5(oct_dataset *dataset, oct_error *error);
/* Whether `path` looks like one, from the names alone (hdf5: from the file's signature). */
bool oct_dataset_is_list(const char *path);
bool oct_dataset_is_idx(const char *path);
bool oct_dataset_is_cifar(const char *path);
bool oct_dataset_is_hdf5(const char *path);

/* "folder/name" in memory of its own (oct_free), NULL when memory is out. */
char *oct_path_join(const char *folder, const char *name);

/* Names in a folder. */
typedef struct oct_names {
    char *text;       /* NUL-terminated strings one after another */
    size_t text_bytes, text_capacity;
    size_t *offsets;  /* of each name in text */
    size_t count, capacity;
} oct_names;

typedef enum oct_entry_kind { OCT_ENTRY_FILE, OCT_ENTRY_FOLDER } oct_entry_kind;
/* Appends the entries of `folder` of this kind (links followed, names with a leading dot left out) that
 * `keep` accepts (NULL = all), in bytewise order. The system is asked about an entry only where the folder's
 * listing does not tell its kind. OCT_ERR_IO, OCT_ERR_MEMORY. */
oct_status oct_names_list(oct_names *names, const char *folder, oct_entry_kind kind,
                          bool (*keep)(const char *), oct_error *error);
/* Appends one name. */
oct_status oct_names_add(oct_names *names, const char *name, oct_error *error);
const char *oct_names_get(const oct_names *names, size_t index);
void oct_names_release(oct_names *names);

/* Sets class_count and class_names; no names leave both alone. */
oct_status oct_dataset_copy_class_names(oct_dataset *dataset, const oct_names *classes, oct_error *error);

#endif
