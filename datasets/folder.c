/* SPDX-License-Identifier: BSD-2-Clause
 * Image folders: one folder per class, under train/, val/, test/ or directly. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "autograd/base/memory.h"
#include "datasets/dataset_internal.h"

typedef struct folder_state {
    oct_names classes;
    oct_names files[OCT_SPLIT_COUNT]; /* base names; the class is the sample's label */
} folder_state;

static bool is_image_name(const char *name)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".bmp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof endings[0]; i++)
        if (!strcasecmp(dot, endings[i])) return true;
    return false;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static int label_of_class(const folder_state *state, const char *name)
{
    size_t low = 0, high = state->classes.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(oct_names_get(&state->classes, middle), name);
        if (!order) return (int)middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* The files of one class folder become samples of `split`. */
static oct_status add_class(oct_dataset *dataset, oct_split split, const char *folder, int32_t label,
                            size_t *capacity, oct_error *error)
{
    folder_state *state = dataset->state;
    sample_store *store = &dataset->stores[split];
    oct_names *files = &state->files[split];
    size_t first = files->count;
    OCT_TRY(oct_names_list(files, folder, OCT_ENTRY_FILE, is_image_name, error));
    if (files->count == first)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "%s: empty class folder: expected .jpg, .jpeg, .png or .bmp files, found none",
                        folder);
    if (files->count > MAX_SAMPLES)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: more than %d images", folder, MAX_SAMPLES);
    if (files->count > *capacity) {
        size_t grown_capacity = 2 * files->count;
        int32_t *grown = oct_realloc(store->labels, first * sizeof *grown, grown_capacity, sizeof *grown);
        if (!grown) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: labels");
        store->labels = grown;
        *capacity = grown_capacity;
    }
    for (size_t i = first; i < files->count; i++) store->labels[i] = label;
    store->count = (uint32_t)files->count;
    return OCT_OK;
}

static oct_status add_classes(oct_dataset *dataset, oct_split split, const char *root, const oct_names *found,
                              oct_error *error)
{
    size_t capacity = 0;
    for (size_t i = 0; i < found->count; i++) {
        const char *name = oct_names_get(found, i);
        int label = label_of_class(dataset->state, name);
        char *folder = oct_path_join(root, name);
        if (!folder) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", root);
        oct_status status =
            label < 0 ? oct_fail(error, OCT_ERR_FORMAT,
                                 "%s: class \"%s\" is not among the %zu classes of the training set", folder,
                                 name, ((folder_state *)dataset->state)->classes.count)
                      : add_class(dataset, split, folder, label, &capacity, error);
        oct_free(folder);
        OCT_TRY(status);
    }
    return OCT_OK;
}

/* One split. The first that is read says what classes there are. */
static oct_status scan_split(oct_dataset *dataset, oct_split split, const char *root, oct_error *error)
{
    folder_state *state = dataset->state;
    oct_names found = {0};
    oct_status status = oct_names_list(&found, root, OCT_ENTRY_FOLDER, NULL, error);
    if (status == OCT_OK && !found.count)
        status = oct_fail(error, OCT_ERR_FORMAT,
                          "%s: no images: expected one folder per class with .jpg, .jpeg, .png or .bmp files",
                          root);
    if (status == OCT_OK && found.count > MAX_CLASSES)
        status = oct_fail(error, OCT_ERR_FORMAT, "%s: %zu classes: expected at most %d", root, found.count,
                          MAX_CLASSES);
    for (size_t i = 0; status == OCT_OK && !dataset->class_count && i < found.count; i++)
        status = oct_names_add(&state->classes, oct_names_get(&found, i), error);
    if (status == OCT_OK) {
        dataset->class_count = (int)state->classes.count;
        status = add_classes(dataset, split, root, &found, error);
    }
    oct_names_release(&found);
    return status;
}

/* Whether the folder is cut into splits: it has train/, or nothing but val/ and test/. */
static oct_status has_splits(const char *path, bool *splits, oct_error *error)
{
    oct_names found = {0};
    oct_status status = oct_names_list(&found, path, OCT_ENTRY_FOLDER, NULL, error);
    size_t others = 0;
    bool train = false;
    for (size_t i = 0; status == OCT_OK && i < found.count; i++) {
        const char *name = oct_names_get(&found, i);
        if (!strcmp(name, "train"))
            train = true;
        else if (strcmp(name, "val") && strcmp(name, "test"))
            others++;
    }
    *splits = train || (found.count && !others);
    if (status == OCT_OK && !found.count)
        status = oct_fail(
            error, OCT_ERR_FORMAT,
            "%s: no data set: looked for train-images-idx3-ubyte[.gz] (IDX), data_batch_*.bin "
            "(CIFAR binary), labels.txt (list) and folders of images (train/, val/, test/ or one per class); an HDF5 "
            "set is given by its file",
            path);
    oct_names_release(&found);
    return status;
}

static oct_status scan_splits(oct_dataset *dataset, oct_error *error)
{
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) {
        char *root = oct_path_join(dataset->path, oct_split_name((oct_split)s));
        if (!root) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", dataset->path);
        oct_status status = is_folder(root) ? scan_split(dataset, (oct_split)s, root, error) : OCT_OK;
        oct_free(root);
        OCT_TRY(status);
    }
    return OCT_OK;
}

static void folder_name(const oct_dataset *dataset, oct_split split, uint32_t index, char *name, size_t size)
{
    const folder_state *state = dataset->state;
    const char *class_name = oct_names_get(&state->classes, (size_t)dataset->stores[split].labels[index]);
    const char *file = oct_names_get(&state->files[split], index);
    if (dataset->one_folder)
        snprintf(name, size, "%s/%s/%s", dataset->path, class_name, file);
    else
        snprintf(name, size, "%s/%s/%s/%s", dataset->path, oct_split_name(split), class_name, file);
}

static oct_status folder_read(oct_dataset *dataset, oct_split split, uint32_t index, oct_image *image,
                              oct_error *error)
{
    char path[4096];
    folder_name(dataset, split, index, path, sizeof path);
    return oct_image_load(image, path, dataset->channels, dataset->max_image_pixels, error);
}

static void folder_close(oct_dataset *dataset)
{
    folder_state *state = dataset->state;
    oct_names_release(&state->classes);
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) oct_names_release(&state->files[s]);
    oct_free(state);
}

oct_status oct_dataset_open_folder(oct_dataset *dataset, oct_error *error)
{
    static const dataset_reader reader = {folder_read, folder_name, folder_close};
    bool splits;
    OCT_TRY(has_splits(dataset->path, &splits, error));
    dataset->state = oct_calloc(1, sizeof(folder_state));
    if (!dataset->state) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", dataset->path);
    dataset->reader = &reader;
    if (!dataset->channels) dataset->channels = 3;
    dataset->one_folder = !splits;
    OCT_TRY(splits ? scan_splits(dataset, error)
                   : scan_split(dataset, OCT_SPLIT_TRAIN, dataset->path, error));
    return oct_dataset_copy_class_names(dataset, &((folder_state *)dataset->state)->classes, error);
}
