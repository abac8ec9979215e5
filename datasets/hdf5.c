/* SPDX-License-Identifier: BSD-2-Clause
 * HDF5 sets: images and labels in one file, read in hyperslabs of bounded size. The library prints nothing:
 * its automatic error reports are switched off around each group of calls (they are a property of the
 * thread). */
#include <hdf5.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "datasets/dataset_internal.h"

enum {
    BLOCKS = 4,
    BLOCK_BYTES = 4 << 20,
    LABELS_AT_ONCE = 1 << 16,
    MAX_CHANNELS = 16,
    MAX_NAME_BYTES = 1 << 12
};

/* `count` consecutive images from `first` on. */
typedef struct image_block {
    oct_split store;
    uint32_t first, count;
    uint64_t used; /* for replacing the one not used for longest */
    uint8_t *pixels;
} image_block;

typedef struct hdf5_state {
    hid_t file;
    hid_t images[OCT_SPLIT_COUNT]; /* -1 where there is none */
    pthread_mutex_t lock;          /* guards everything below and all reads */
    image_block blocks[BLOCKS];
    uint32_t images_per_block;
    uint64_t clock;
    oct_split last_store;
    uint32_t last_index;
} hdf5_state;

static const char *const image_names[OCT_SPLIT_COUNT] = {"images", "val_images", "test_images"};
static const char *const label_names[OCT_SPLIT_COUNT] = {"labels", "val_labels", "test_labels"};

typedef struct quiet_errors {
    H5E_auto2_t report;
    void *user;
} quiet_errors;

static quiet_errors quiet_begin(void)
{
    quiet_errors saved = {0};
    H5Eget_auto2(H5E_DEFAULT, &saved.report, &saved.user);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return saved;
}

static void quiet_end(quiet_errors saved)
{
    H5Eset_auto2(H5E_DEFAULT, saved.report, saved.user);
}

bool oct_dataset_is_hdf5(const char *path)
{
    quiet_errors saved = quiet_begin();
    bool is = H5Fis_hdf5(path) > 0;
    quiet_end(saved);
    return is;
}

static oct_status bad_dataset(oct_error *error, const oct_dataset *dataset, const char *name, const char *why)
{
    return oct_fail(error, OCT_ERR_FORMAT, "%s: dataset \"%s\": %s", dataset->path, name, why);
}

/* Number of dimensions and their sizes, or -1 when there are more than `limit` or the call fails. */
static int get_sizes(hid_t set, hsize_t *sizes, int limit)
{
    hid_t space = H5Dget_space(set);
    int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    if (rank < 0 || rank > limit || (rank && H5Sget_simple_extent_dims(space, sizes, NULL) < 0)) rank = -1;
    if (space >= 0) H5Sclose(space);
    return rank;
}

static bool is_integer(hid_t set, size_t bytes, bool only_unsigned)
{
    hid_t type = H5Dget_type(set);
    bool ok = type >= 0 && H5Tget_class(type) == H5T_INTEGER && (!bytes || H5Tget_size(type) == bytes) &&
              (!only_unsigned || H5Tget_sign(type) == H5T_SGN_NONE);
    if (type >= 0) H5Tclose(type);
    return ok;
}

/* Reads `count` rows of the first dimension from row `first` on; the other sizes are sizes[1..rank-1]. */
static bool read_rows(hid_t set, hid_t type, int rank, const hsize_t *sizes, uint32_t first, uint32_t count,
                      void *to)
{
    hsize_t start[4] = {first}, extent[4] = {count};
    for (int d = 1; d < rank; d++) extent[d] = sizes[d];
    hid_t space = H5Dget_space(set), memory = H5Screate_simple(rank, extent, NULL);
    bool ok = space >= 0 && memory >= 0 &&
              H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL) >= 0 &&
              H5Dread(set, type, memory, space, H5P_DEFAULT, to) >= 0;
    if (memory >= 0) H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    return ok;
}

static oct_status check_images(oct_dataset *dataset, oct_split split, hid_t set, oct_error *error)
{
    const char *name = image_names[split];
    hsize_t sizes[4] = {0};
    int rank = get_sizes(set, sizes, 4);
    if (!is_integer(set, 1, true))
        return bad_dataset(error, dataset, name, "expected unsigned 8-bit integers");
    if (rank != 3 && rank != 4)
        return bad_dataset(error, dataset, name, "expected 3 dimensions N,H,W or 4 N,H,W,C");
    if (rank == 3) sizes[3] = 1;
    size_t limit = dataset->max_image_pixels ? dataset->max_image_pixels : (size_t)1 << 26;
    if (!sizes[0] || sizes[0] > MAX_SAMPLES || !sizes[1] || sizes[1] > MAX_SIDE || !sizes[2] ||
        sizes[2] > MAX_SIDE || sizes[1] * sizes[2] > limit || !sizes[3] || sizes[3] > MAX_CHANNELS)
        return oct_fail(
            error, OCT_ERR_FORMAT,
            "%s: dataset \"%s\": %llu x %llu x %llu x %llu: expected 1..%d images of at most %zu pixels "
            "and 1..%d channels",
            dataset->path, name, (unsigned long long)sizes[0], (unsigned long long)sizes[1],
            (unsigned long long)sizes[2], (unsigned long long)sizes[3], MAX_SAMPLES, limit, MAX_CHANNELS);
    int height = (int)sizes[1], width = (int)sizes[2], channels = (int)sizes[3];
    if (dataset->height &&
        (height != dataset->height || width != dataset->width || channels != dataset->channels))
        return oct_fail(
            error, OCT_ERR_FORMAT, "%s: dataset \"%s\": expected images of %d x %d x %d, found %d x %d x %d",
            dataset->path, name, dataset->height, dataset->width, dataset->channels, height, width, channels);
    dataset->height = height;
    dataset->width = width;
    dataset->channels = channels;
    dataset->stores[split].count = (uint32_t)sizes[0];
    return OCT_OK;
}

static oct_status read_labels(oct_dataset *dataset, oct_split split, hid_t set, oct_error *error)
{
    const char *name = label_names[split];
    sample_store *store = &dataset->stores[split];
    hsize_t sizes[1] = {0};
    if (!is_integer(set, 0, false)) return bad_dataset(error, dataset, name, "expected integers");
    if (get_sizes(set, sizes, 1) != 1) return bad_dataset(error, dataset, name, "expected 1 dimension N");
    if (sizes[0] != store->count)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "%s: dataset \"%s\": expected as many labels as \"%s\" has images (%u), "
                        "found %llu",
                        dataset->path, name, image_names[split], store->count, (unsigned long long)sizes[0]);
    store->labels = oct_alloc(store->count, sizeof *store->labels);
    if (!store->labels) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: labels");
    for (uint32_t at = 0; at < store->count; at += LABELS_AT_ONCE) {
        uint32_t n = store->count - at < LABELS_AT_ONCE ? store->count - at : LABELS_AT_ONCE;
        if (!read_rows(set, H5T_NATIVE_INT32, 1, sizes, at, n, store->labels + at))
            return bad_dataset(error, dataset, name, "cannot be read (damaged file?)");
    }
    return OCT_OK;
}

static oct_status open_split(oct_dataset *dataset, oct_split split, oct_error *error)
{
    hdf5_state *state = dataset->state;
    bool images = H5Lexists(state->file, image_names[split], H5P_DEFAULT) > 0;
    bool labels = H5Lexists(state->file, label_names[split], H5P_DEFAULT) > 0;
    if (!images && !labels) return OCT_OK;
    if (!images)
        return bad_dataset(error, dataset, image_names[split], "missing, but there are labels for it");
    if (!labels)
        return bad_dataset(error, dataset, label_names[split], "missing, but there are images for it");
    state->images[split] = H5Dopen2(state->file, image_names[split], H5P_DEFAULT);
    if (state->images[split] < 0) return bad_dataset(error, dataset, image_names[split], "cannot be opened");
    OCT_TRY(check_images(dataset, split, state->images[split], error));
    hid_t set = H5Dopen2(state->file, label_names[split], H5P_DEFAULT);
    if (set < 0) return bad_dataset(error, dataset, label_names[split], "cannot be opened");
    oct_status status = read_labels(dataset, split, set, error);
    H5Dclose(set);
    return status;
}

/* Copies `count` strings out of what H5Dread gave: pointers (variable length) or cells of `cell` bytes. */
static oct_status copy_names(oct_dataset *dataset, const void *read, size_t count, size_t cell, bool variable,
                             oct_error *error)
{
    dataset->class_names = oct_calloc(count, sizeof(char *));
    if (!dataset->class_names) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: class names");
    dataset->class_count = (int)count;
    for (size_t i = 0; i < count; i++) {
        const char *from = variable ? ((char *const *)read)[i] : (const char *)read + i * cell;
        size_t length = !from ? 0 : variable ? strlen(from) : strnlen(from, cell);
        char *name = oct_calloc(length + 1, 1);
        if (!name) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: class names");
        if (length) memcpy(name, from, length);
        dataset->class_names[i] = name;
    }
    return OCT_OK;
}

static oct_status read_names_of(oct_dataset *dataset, hid_t set, hid_t type, hid_t space, oct_error *error)
{
    hsize_t count = 0;
    if (H5Tget_class(type) != H5T_STRING || get_sizes(set, &count, 1) != 1 || !count || count > MAX_CLASSES)
        return bad_dataset(error, dataset, "class_names", "expected one dimension of 1..65536 strings");
    bool variable = H5Tis_variable_str(type) > 0;
    size_t cell = variable ? sizeof(char *) : H5Tget_size(type);
    if (!cell || cell > MAX_NAME_BYTES) return bad_dataset(error, dataset, "class_names", "strings too long");
    void *read = oct_calloc((size_t)count, cell);
    if (!read) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: class names");
    oct_status status = H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, read) < 0
                            ? bad_dataset(error, dataset, "class_names", "cannot be read (damaged file?)")
                            : copy_names(dataset, read, (size_t)count, cell, variable, error);
    if (variable) H5Dvlen_reclaim(type, space, H5P_DEFAULT, read);
    oct_free(read);
    return status;
}

static oct_status read_class_names(oct_dataset *dataset, oct_error *error)
{
    hdf5_state *state = dataset->state;
    if (H5Lexists(state->file, "class_names", H5P_DEFAULT) <= 0) return OCT_OK;
    hid_t set = H5Dopen2(state->file, "class_names", H5P_DEFAULT);
    hid_t type = set < 0 ? -1 : H5Dget_type(set), space = set < 0 ? -1 : H5Dget_space(set);
    oct_status status = type < 0 || space < 0 ? bad_dataset(error, dataset, "class_names", "cannot be opened")
                                              : read_names_of(dataset, set, type, space, error);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (set >= 0) H5Dclose(set);
    return status;
}

static oct_status open_all(oct_dataset *dataset, oct_error *error)
{
    hdf5_state *state = dataset->state;
    state->file = H5Fopen(dataset->path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (state->file < 0)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: cannot be opened as an HDF5 file (damaged or truncated?)",
                        dataset->path);
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) OCT_TRY(open_split(dataset, (oct_split)s, error));
    if (!dataset->height)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "%s: expected datasets \"images\" and \"labels\", found neither", dataset->path);
    return read_class_names(dataset, error);
}

static bool read_images(hdf5_state *state, const oct_dataset *dataset, oct_split store, uint32_t first,
                        uint32_t count, uint8_t *to)
{
    hid_t set = state->images[store];
    hsize_t sizes[4] = {0};
    int rank = get_sizes(set, sizes, 4);
    /* The file could have been replaced in place: the shape that the buffers were made for must still hold.
     */
    bool same = rank >= 3 && sizes[0] == dataset->stores[store].count &&
                sizes[1] == (hsize_t)dataset->height && sizes[2] == (hsize_t)dataset->width &&
                (rank == 3 || sizes[3] == (hsize_t)dataset->channels);
    return same && read_rows(set, H5T_NATIVE_UINT8, rank, sizes, first, count, to);
}

/* The block that holds an image, reading it when the image is near the one read last: reading in order (or
 * nearly, by several threads) costs one call per block, while scattered reads fetch single images (NULL). */
static oct_status find_block(oct_dataset *dataset, oct_split store, uint32_t index, const image_block **out,
                             oct_error *error)
{
    hdf5_state *state = dataset->state;
    uint32_t per = state->images_per_block;
    image_block *oldest = &state->blocks[0];
    *out = NULL;
    for (int i = 0; i < BLOCKS; i++) {
        image_block *block = &state->blocks[i];
        if (block->count && block->store == store && index - block->first < block->count) {
            block->used = ++state->clock;
            *out = block;
        }
        if (block->used < oldest->used) oldest = block;
    }
    uint32_t distance = index > state->last_index ? index - state->last_index : state->last_index - index;
    bool near = state->last_store == store && distance <= per && per > 1;
    state->last_store = store;
    state->last_index = index;
    if (*out || !near) return OCT_OK;
    size_t image_bytes = (size_t)dataset->height * (size_t)dataset->width * (size_t)dataset->channels;
    if (!oldest->pixels) oldest->pixels = oct_alloc(per, image_bytes);
    if (!oldest->pixels) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", dataset->path);
    uint32_t left = dataset->stores[store].count - index / per * per;
    oldest->count = 0;
    oldest->store = store;
    oldest->first = index / per * per;
    if (!read_images(state, dataset, store, oldest->first, left < per ? left : per, oldest->pixels))
        return bad_dataset(error, dataset, image_names[store], "cannot be read (damaged file?)");
    oldest->count = left < per ? left : per;
    oldest->used = ++state->clock;
    *out = oldest;
    return OCT_OK;
}

static oct_status hdf5_read(oct_dataset *dataset, oct_split store, uint32_t index, oct_image *image,
                            oct_error *error)
{
    hdf5_state *state = dataset->state;
    size_t image_bytes = (size_t)dataset->height * (size_t)dataset->width * (size_t)dataset->channels;
    OCT_TRY(oct_image_reserve(image, dataset->height, dataset->width, dataset->channels, error));
    pthread_mutex_lock(&state->lock);
    quiet_errors saved = quiet_begin();
    const image_block *block;
    oct_status status = find_block(dataset, store, index, &block, error);
    if (status == OCT_OK && block)
        memcpy(image->pixels, block->pixels + (index - block->first) * image_bytes, image_bytes);
    else if (status == OCT_OK && !read_images(state, dataset, store, index, 1, image->pixels))
        status = bad_dataset(error, dataset, image_names[store], "cannot be read (damaged file?)");
    quiet_end(saved);
    pthread_mutex_unlock(&state->lock);
    return status;
}

static void hdf5_close(oct_dataset *dataset)
{
    hdf5_state *state = dataset->state;
    quiet_errors saved = quiet_begin();
    for (int s = 0; s < OCT_SPLIT_COUNT; s++)
        if (state->images[s] >= 0) H5Dclose(state->images[s]);
    if (state->file >= 0) H5Fclose(state->file);
    quiet_end(saved);
    for (int i = 0; i < BLOCKS; i++) oct_free(state->blocks[i].pixels);
    pthread_mutex_destroy(&state->lock);
    oct_free(state);
}

oct_status oct_dataset_open_hdf5(oct_dataset *dataset, oct_error *error)
{
    static const dataset_reader reader = {hdf5_read, NULL, hdf5_close};
    hdf5_state *state = oct_calloc(1, sizeof *state);
    if (!state) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", dataset->path);
    state->file = -1;
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) state->images[s] = -1;
    if (pthread_mutex_init(&state->lock, NULL)) {
        oct_free(state);
        return oct_fail(error, OCT_ERR_MEMORY, "%s: cannot create a lock", dataset->path);
    }
    dataset->state = state;
    dataset->reader = &reader;
    quiet_errors saved = quiet_begin();
    oct_status status = open_all(dataset, error);
    quiet_end(saved);
    size_t image_bytes = (size_t)dataset->height * (size_t)dataset->width * (size_t)dataset->channels;
    if (status == OCT_OK)
        state->images_per_block = image_bytes < BLOCK_BYTES ? (uint32_t)(BLOCK_BYTES / image_bytes) : 1;
    return status;
}
