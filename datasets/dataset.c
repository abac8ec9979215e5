/* SPDX-License-Identifier: BSD-2-Clause */
#include "datasets/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "datasets/dataset_internal.h"

enum { KINDS = 6 };
static const char *const kind_names[KINDS] = {"auto", "folder", "idx", "cifar", "hdf5", "list"};

/* Of one folder of class folders, when the caller does not say. */
static const double default_val_split = 0.1;

const char *oct_dataset_kind_name(oct_dataset_kind kind)
{
    return (unsigned)kind < KINDS ? kind_names[kind] : NULL;
}

oct_status oct_dataset_kind_parse(oct_dataset_kind *kind, const char *name, oct_error *error)
{
    for (int i = 0; i < KINDS; i++) {
        if (strcmp(name, kind_names[i])) continue;
        *kind = (oct_dataset_kind)i;
        return OCT_OK;
    }
    return oct_fail(error, OCT_ERR_ARGUMENT,
                    "data set kind \"%s\": expected auto, folder, list, idx, cifar or hdf5", name);
}

enum { SUBSETS = 3 };
static const char *const subset_names[SUBSETS] = {"all", "even", "odd"};

const char *oct_subset_name(oct_subset subset)
{
    return (unsigned)subset < SUBSETS ? subset_names[subset] : NULL;
}

oct_status oct_subset_parse(oct_subset *subset, const char *name, oct_error *error)
{
    for (int i = 0; i < SUBSETS; i++) {
        if (strcmp(name, subset_names[i])) continue;
        *subset = (oct_subset)i;
        return OCT_OK;
    }
    return oct_fail(error, OCT_ERR_ARGUMENT, "subset \"%s\": expected all, even or odd", name);
}

const char *oct_split_name(oct_split split)
{
    static const char *const names[OCT_SPLIT_COUNT] = {"train", "val", "test"};
    return (unsigned)split < OCT_SPLIT_COUNT ? names[split] : "unknown";
}

static oct_status check_options(const oct_dataset_options *o, oct_error *error)
{
    if (!oct_dataset_kind_name(o->kind))
        return oct_fail(error, OCT_ERR_ARGUMENT, "data set kind: expected 0..%d, found %d", KINDS - 1,
                        (int)o->kind);
    if (!oct_subset_name(o->subset))
        return oct_fail(error, OCT_ERR_ARGUMENT, "subset: expected 0..%d, found %d", SUBSETS - 1, (int)o->subset);
    if (!(o->val_split < 1.0))
        return oct_fail(error, OCT_ERR_ARGUMENT, "val split: expected a share below 1, found %g",
                        o->val_split);
    if (o->channels != 0 && o->channels != 1 && o->channels != 3)
        return oct_fail(error, OCT_ERR_ARGUMENT, "channels: expected 1 or 3, found %d", o->channels);
    return OCT_OK;
}

/* What lies at the path. Says so when that cannot be what was asked for. */
static oct_status find_kind(oct_dataset *dataset, oct_dataset_kind wanted, oct_error *error)
{
    const char *path = dataset->path;
    struct stat st;
    if (stat(path, &st))
        return oct_fail(error, OCT_ERR_IO, "%s: cannot open data set: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode)) {
        if (wanted != OCT_DATASET_AUTO && wanted != OCT_DATASET_HDF5)
            return oct_fail(error, OCT_ERR_FORMAT, "%s: a data set of kind %s is a folder, found a file",
                            path, oct_dataset_kind_name(wanted));
        if (!oct_dataset_is_hdf5(path))
            return oct_fail(error, OCT_ERR_FORMAT,
                            "%s: expected an HDF5 file or a folder, found another file", path);
        dataset->kind = OCT_DATASET_HDF5;
        return OCT_OK;
    }
    if (wanted == OCT_DATASET_HDF5)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: a data set of kind hdf5 is a file, found a folder", path);
    if (wanted != OCT_DATASET_AUTO)
        dataset->kind = wanted;
    else if (oct_dataset_is_idx(path))
        dataset->kind = OCT_DATASET_IDX;
    else if (oct_dataset_is_cifar(path))
        dataset->kind = OCT_DATASET_CIFAR;
    else if (oct_dataset_is_list(path))
        dataset->kind = OCT_DATASET_LIST;
    else
        dataset->kind = OCT_DATASET_FOLDER;
    return OCT_OK;
}

static oct_status read_kind(oct_dataset *dataset, oct_error *error)
{
    switch (dataset->kind) {
    case OCT_DATASET_IDX: return oct_dataset_open_idx(dataset, error);
    case OCT_DATASET_CIFAR: return oct_dataset_open_cifar(dataset, error);
    case OCT_DATASET_HDF5: return oct_dataset_open_hdf5(dataset, error);
    case OCT_DATASET_LIST: return oct_dataset_open_list(dataset, error);
    default: return oct_dataset_open_folder(dataset, error);
    }
}

/* Sets without class names have as many classes as the first store's labels use; the others must keep to
 * that. */
static oct_status check_labels(oct_dataset *dataset, oct_error *error)
{
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) {
        const sample_store *store = &dataset->stores[s];
        int limit = dataset->class_count ? dataset->class_count : MAX_CLASSES;
        int32_t largest = 0;
        for (uint32_t i = 0; i < store->count; i++) {
            int32_t label = store->labels[i];
            if (label < 0 || label >= limit)
                return oct_fail(error, OCT_ERR_FORMAT, "%s: label of %s image %u: expected 0..%d, found %d",
                                dataset->path, oct_split_name((oct_split)s), i, limit - 1, label);
            if (label > largest) largest = label;
        }
        if (!dataset->class_count && store->count) dataset->class_count = largest + 1;
    }
    return OCT_OK;
}

/* Sample i is held out when draw number i of the split's stream is below the share. Of two samples or more
 * both sides get at least one: the one with the smallest draw is held out, the one with the largest not. */
static oct_status hold_out(oct_dataset *dataset, double share, uint64_t seed, oct_error *error)
{
    uint32_t n = dataset->stores[OCT_SPLIT_TRAIN].count, smallest = 0, largest = 0;
    uint32_t *train = oct_alloc(n, sizeof *train), *val = oct_alloc(n, sizeof *val);
    float *draws = oct_alloc(n, sizeof *draws);
    dataset->splits[OCT_SPLIT_TRAIN] = (split_view){OCT_SPLIT_TRAIN, 0, train};
    dataset->splits[OCT_SPLIT_VALIDATION] = (split_view){OCT_SPLIT_TRAIN, 0, val};
    if (!train || !val || !draws) {
        oct_free(draws);
        return oct_fail(error, OCT_ERR_MEMORY, "out of memory: splitting %u samples", n);
    }
    for (uint32_t i = 0; i < n; i++) {
        oct_rng rng = oct_rng_start(seed, OCT_RNG_SPLIT, 0, i);
        draws[i] = oct_rng_uniform(&rng);
        if (draws[i] < draws[smallest]) smallest = i;
        if (draws[i] >= draws[largest]) largest = i;
    }
    for (uint32_t i = 0; i < n; i++) {
        bool held = ((double)draws[i] < share || i == smallest) && i != largest;
        split_view *view = &dataset->splits[held ? OCT_SPLIT_VALIDATION : OCT_SPLIT_TRAIN];
        view->map[view->count++] = i;
    }
    oct_free(draws);
    return OCT_OK;
}

oct_status oct_dataset_copy_class_names(oct_dataset *dataset, const oct_names *classes, oct_error *error)
{
    if (!classes->count) return OCT_OK;
    dataset->class_count = (int)classes->count;
    dataset->class_names = oct_calloc(classes->count, sizeof(char *));
    for (size_t i = 0; i < classes->count; i++) {
        if (dataset->class_names) dataset->class_names[i] = oct_strdup(oct_names_get(classes, i));
        if (!dataset->class_names || !dataset->class_names[i])
            return oct_fail(error, OCT_ERR_MEMORY, "out of memory: class names");
    }
    return OCT_OK;
}

/* Keeps every second sample of each split, by its index on disk. */
static oct_status take_subset(oct_dataset *dataset, oct_subset subset, oct_error *error)
{
    uint32_t parity = subset == OCT_SUBSET_ODD;
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) {
        split_view *view = &dataset->splits[s];
        uint32_t kept = 0;
        if (!view->map && view->count) {
            view->map = oct_alloc(view->count, sizeof *view->map);
            if (!view->map) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: halving %u samples", view->count);
            for (uint32_t i = 0; i < view->count; i++) view->map[i] = i;
        }
        for (uint32_t i = 0; i < view->count; i++)
            if (view->map[i] % 2 == parity) view->map[kept++] = view->map[i];
        view->count = kept;
    }
    return OCT_OK;
}

static oct_status make_splits(oct_dataset *dataset, const oct_dataset_options *options, oct_error *error)
{
    for (int s = 0; s < OCT_SPLIT_COUNT; s++)
        dataset->splits[s] = (split_view){.store = (oct_split)s, .count = dataset->stores[s].count};
    double share = options->val_split;
    if (share == 0 && dataset->one_folder && dataset->kind == OCT_DATASET_FOLDER) share = default_val_split;
    bool has_val = dataset->stores[OCT_SPLIT_VALIDATION].count > 0;
    if (share <= 0 || has_val || dataset->stores[OCT_SPLIT_TRAIN].count < 2) return OCT_OK;
    return hold_out(dataset, share, options->seed, error);
}

static oct_status open_at(oct_dataset *dataset, const char *path, const oct_dataset_options *options,
                          oct_error *error)
{
    dataset->path = oct_strdup(path);
    if (!dataset->path) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
    for (size_t n = strlen(path); n > 1 && dataset->path[n - 1] == '/'; n--) dataset->path[n - 1] = '\0';
    OCT_TRY(find_kind(dataset, options->kind, error));
    if (oct_dataset_has_files(dataset)) dataset->channels = options->channels;
    OCT_TRY(read_kind(dataset, error));
    OCT_TRY(check_labels(dataset, error));
    OCT_TRY(make_splits(dataset, options, error));
    return options->subset == OCT_SUBSET_ALL ? OCT_OK : take_subset(dataset, options->subset, error);
}

oct_status oct_dataset_open(oct_dataset **out, oct_ctx *ctx, const char *path,
                            const oct_dataset_options *options)
{
    static const oct_dataset_options defaults;
    *out = NULL;
    if (!options) options = &defaults;
    OCT_TRY(check_options(options, &ctx->error));
    oct_dataset *dataset = oct_calloc(1, sizeof *dataset);
    if (!dataset) return oct_out_of_memory(ctx, "data set");
    dataset->strict = options->strict;
    dataset->max_image_pixels = options->max_image_pixels;
    oct_status status = open_at(dataset, path, options, &ctx->error);
    if (status != OCT_OK) {
        oct_dataset_close(dataset);
        return status;
    }
    *out = dataset;
    return OCT_OK;
}

void oct_dataset_close(oct_dataset *dataset)
{
    if (!dataset) return;
    if (dataset->reader) dataset->reader->close(dataset);
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) {
        oct_free(dataset->stores[s].labels);
        oct_free(dataset->stores[s].pixels);
        oct_free(dataset->splits[s].map);
    }
    for (int i = 0; dataset->class_names && i < dataset->class_count; i++) oct_free(dataset->class_names[i]);
    oct_free(dataset->class_names);
    oct_free(dataset->path);
    oct_free(dataset);
}

oct_dataset_kind oct_dataset_get_kind(const oct_dataset *dataset)
{
    return dataset->kind;
}

const char *oct_dataset_path(const oct_dataset *dataset)
{
    return dataset->path;
}

int oct_dataset_class_count(const oct_dataset *dataset)
{
    return dataset->class_count;
}

const char *oct_dataset_class_name(const oct_dataset *dataset, int label)
{
    return dataset->class_names && label >= 0 && label < dataset->class_count ? dataset->class_names[label]
                                                                              : NULL;
}

int64_t oct_dataset_count(const oct_dataset *dataset, oct_split split)
{
    return dataset->splits[split].count;
}

int oct_dataset_channels(const oct_dataset *dataset)
{
    return dataset->channels;
}

int oct_dataset_height(const oct_dataset *dataset)
{
    return dataset->height;
}

int oct_dataset_width(const oct_dataset *dataset)
{
    return dataset->width;
}

int oct_dataset_has_files(const oct_dataset *dataset)
{
    return dataset->kind == OCT_DATASET_FOLDER || dataset->kind == OCT_DATASET_LIST;
}

int oct_dataset_strict(const oct_dataset *dataset)
{
    return dataset->strict;
}

static uint32_t store_index(const oct_dataset *dataset, oct_split split, int64_t index)
{
    const uint32_t *map = dataset->splits[split].map;
    return map ? map[index] : (uint32_t)index;
}

int32_t oct_dataset_label(const oct_dataset *dataset, oct_split split, int64_t index)
{
    return dataset->stores[dataset->splits[split].store].labels[store_index(dataset, split, index)];
}

void oct_dataset_sample_name(const oct_dataset *dataset, oct_split split, int64_t index, char *name,
                             size_t size)
{
    uint32_t at = store_index(dataset, split, index);
    oct_split store = dataset->splits[split].store;
    if (dataset->reader && dataset->reader->name)
        dataset->reader->name(dataset, store, at, name, size);
    else
        snprintf(name, size, "%s:%s[%u]", dataset->path, oct_split_name(store), at);
}

int oct_dataset_peek(const oct_dataset *dataset, oct_split split, int64_t index, oct_view *view)
{
    const sample_store *store = &dataset->stores[dataset->splits[split].store];
    if (!store->pixels) return 0;
    size_t row = (size_t)dataset->width * (size_t)dataset->channels;
    size_t at = (size_t)store_index(dataset, split, index) * (size_t)dataset->height * row;
    *view = (oct_view){store->pixels + at, dataset->height, dataset->width, dataset->channels, row};
    return 1;
}

oct_status oct_dataset_read(oct_dataset *dataset, oct_split split, int64_t index, oct_image *image,
                            oct_error *error)
{
    oct_view view;
    if (index < 0 || index >= oct_dataset_count(dataset, split))
        return oct_fail(error, OCT_ERR_ARGUMENT, "%s: %s sample: expected 0..%lld, found %lld", dataset->path,
                        oct_split_name(split), (long long)oct_dataset_count(dataset, split) - 1,
                        (long long)index);
    if (!oct_dataset_peek(dataset, split, index, &view))
        return dataset->reader->read(dataset, dataset->splits[split].store,
                                     store_index(dataset, split, index), image, error);
    OCT_TRY(oct_image_reserve(image, view.height, view.width, view.channels, error));
    memcpy(image->pixels, view.pixels, (size_t)view.height * view.stride_bytes);
    return OCT_OK;
}
