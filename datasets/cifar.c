/* SPDX-License-Identifier: BSD-2-Clause
 * CIFAR-10 in its binary form: records of one label byte and 32 x 32 pixels in three planes (red, green,
 * blue). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "datasets/dataset_internal.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, RECORD = 1 + 3 * PLANE, CLASSES = 10 };
static const size_t max_file_bytes = (size_t)1 << 30;

static bool is_train_batch(const char *name)
{
    size_t length = strlen(name);
    return !strncmp(name, "data_batch_", 11) && length > 15 && !strcmp(name + length - 4, ".bin");
}

static bool is_test_batch(const char *name)
{
    return !strcmp(name, "test_batch.bin");
}

static bool is_any_batch(const char *name)
{
    return is_train_batch(name) || is_test_batch(name);
}

bool oct_dataset_is_cifar(const char *path)
{
    oct_names found = {0};
    bool any = oct_names_list(&found, path, OCT_ENTRY_FILE, is_any_batch, NULL) == OCT_OK && found.count;
    oct_names_release(&found);
    return any;
}

static oct_status append_records(sample_store *store, const uint8_t *bytes, size_t size, const char *path,
                                 oct_error *error)
{
    size_t n = size / RECORD, old = store->count;
    if (!n || size % RECORD)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "%s: expected a multiple of %d bytes (records), found %zu bytes", path, RECORD, size);
    if (old + n > MAX_SAMPLES)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: more than %d images", path, MAX_SAMPLES);
    uint8_t *pixels = oct_realloc(store->pixels, old * 3 * PLANE, old + n, (size_t)3 * PLANE);
    if (pixels) store->pixels = pixels;
    int32_t *labels =
        pixels ? oct_realloc(store->labels, old * sizeof *labels, old + n, sizeof *labels) : NULL;
    if (!labels) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
    store->labels = labels;
    for (size_t i = 0; i < n; i++, bytes += RECORD) {
        if (bytes[0] >= CLASSES)
            return oct_fail(error, OCT_ERR_FORMAT, "%s: label of record %zu: expected 0..%d, found %d", path,
                            i, CLASSES - 1, bytes[0]);
        labels[old + i] = bytes[0];
        uint8_t *to = pixels + (old + i) * 3 * PLANE;
        for (int p = 0; p < PLANE; p++)
            for (int c = 0; c < 3; c++) *to++ = bytes[1 + c * PLANE + p];
    }
    store->count = (uint32_t)(old + n);
    return OCT_OK;
}

static oct_status read_batches(oct_dataset *dataset, oct_split split, bool (*keep)(const char *),
                               oct_error *error)
{
    oct_names files = {0};
    oct_status status = oct_names_list(&files, dataset->path, OCT_ENTRY_FILE, keep, error);
    for (size_t i = 0; status == OCT_OK && i < files.count; i++) {
        uint8_t *bytes = NULL;
        size_t size;
        char *path = oct_path_join(dataset->path, oct_names_get(&files, i));
        status = path ? oct_file_read(&bytes, &size, path, max_file_bytes, error)
                      : oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", dataset->path);
        if (status == OCT_OK) status = append_records(&dataset->stores[split], bytes, size, path, error);
        oct_free(bytes);
        oct_free(path);
    }
    oct_names_release(&files);
    return status;
}

/* One name a line; lines beyond the tenth are ignored. */
static oct_status parse_class_names(oct_dataset *dataset, const char *text, size_t size, oct_error *error)
{
    char **names = oct_calloc(CLASSES, sizeof *names);
    if (!names) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: class names");
    dataset->class_names = names;
    int count = 0;
    for (size_t at = 0; at < size && count < CLASSES;) {
        size_t end = at;
        while (end < size && text[end] != '\n' && text[end] != '\r' && text[end]) end++;
        if (end > at) {
            names[count] = oct_calloc(end - at + 1, 1);
            if (!names[count]) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: class names");
            memcpy(names[count++], text + at, end - at);
        }
        at = end + 1;
    }
    if (count == CLASSES) return OCT_OK;
    return oct_fail(error, OCT_ERR_FORMAT, "%s/batches.meta.txt: expected %d class names, found %d",
                    dataset->path, CLASSES, count);
}

static oct_status read_class_names(oct_dataset *dataset, oct_error *error)
{
    char *path = oct_path_join(dataset->path, "batches.meta.txt");
    if (!path) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", dataset->path);
    oct_status status = OCT_OK;
    if (!access(path, F_OK)) {
        uint8_t *bytes;
        size_t size;
        status = oct_file_read(&bytes, &size, path, 1 << 16, error);
        if (status == OCT_OK) status = parse_class_names(dataset, (const char *)bytes, size, error);
        oct_free(bytes);
    }
    oct_free(path);
    return status;
}

oct_status oct_dataset_open_cifar(oct_dataset *dataset, oct_error *error)
{
    dataset->height = dataset->width = SIDE;
    dataset->channels = 3;
    dataset->class_count = CLASSES;
    OCT_TRY(read_batches(dataset, OCT_SPLIT_TRAIN, is_train_batch, error));
    OCT_TRY(read_batches(dataset, OCT_SPLIT_TEST, is_test_batch, error));
    if (!dataset->stores[OCT_SPLIT_TRAIN].count && !dataset->stores[OCT_SPLIT_TEST].count)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: no CIFAR set: expected data_batch_*.bin", dataset->path);
    return read_class_names(dataset, error);
}
