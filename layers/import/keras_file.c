/* SPDX-License-Identifier: BSD-2-Clause
 * Reading Keras HDF5 files. Nothing in the file is believed: links are followed only inside the file, types, ranks and
 * sizes are checked before anything is allocated, and all that is allocated is bounded by the size of the file. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/memory.h"
#include "layers/import/keras.h"
#include "layers/import/keras_file_internal.h"
#include "layers/state_hdf5.h"

enum {
    MAX_NAME = OCT_TENSOR_MAX_NAME + 1,
    MAX_TEXT = 4096,    /* bytes of one entry of a list of names */
    MAX_CHUNKS = 4096,  /* name0, name1, ... */
    MAX_PATH_PARTS = 32,
    MAX_INFLATION = 1100 /* deflate makes at most 1032 bytes of one */
};

typedef struct reader {
    hid_t file;
    const char *path;
    oct_error *error;
    uint64_t file_bytes;
    uint64_t budget; /* bytes of the file that no dataset has claimed yet */
} reader;

static oct_status bad(const reader *r, const char *object, const char *what)
{
    return oct_fail(r->error, OCT_ERR_FORMAT, "%s: '%.300s': %s", r->path, object, what);
}

static oct_status hdf5_failed(const reader *r, const char *object, const char *what)
{
    char reason[OCT_HDF5_REASON];
    return oct_fail(r->error, OCT_ERR_FORMAT, "%s: '%.300s': %s: %s", r->path, object, what, oct_hdf5_reason(reason));
}

static oct_status out_of_memory(const reader *r, const char *object)
{
    return oct_fail(r->error, OCT_ERR_MEMORY, "out of memory: %s: '%.300s'", r->path, object);
}

/* --- links --- */

/* A link inside the file: external and user-defined ones could name any file of the machine. */
static bool link_is_hard(hid_t parent, const char *name)
{
    H5L_info_t info;
    return H5Lexists(parent, name, H5P_DEFAULT) > 0 && H5Lget_info(parent, name, &info, H5P_DEFAULT) >= 0 &&
           info.type == H5L_TYPE_HARD;
}

/* Opens what a path below `parent` names, link by link; < 0 when there is none. */
static hid_t open_object(hid_t parent, const char *path)
{
    hid_t at = parent;
    for (int part = 0; part < MAX_PATH_PARTS; part++) {
        char name[MAX_NAME];
        size_t length = strcspn(path, "/");
        bool last = !path[length];
        if (length && length < sizeof name) {
            memcpy(name, path, length);
            name[length] = '\0';
        }
        hid_t next = length && length < sizeof name && strcmp(name, ".") && link_is_hard(at, name)
                         ? H5Oopen(at, name, H5P_DEFAULT)
                         : -1;
        if (at != parent) H5Oclose(at);
        if (next < 0 || last) return next;
        at = next;
        path += length + 1;
    }
    if (at != parent) H5Oclose(at);
    return -1;
}

static hid_t open_group(hid_t parent, const char *path)
{
    hid_t object = open_object(parent, path);
    if (object >= 0 && H5Iget_type(object) != H5I_GROUP) {
        H5Oclose(object);
        return -1;
    }
    return object;
}

/* --- attributes that are texts --- */

typedef struct text_list {
    oct_arena arena;
    char **items;
    size_t count;
} text_list;

static oct_status list_grow(const reader *r, text_list *list, const char *name, size_t more)
{
    if (more > OCT_TENSORS_MAX_COUNT || list->count + more > OCT_TENSORS_MAX_COUNT)
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: '%s': more than %d entries", r->path, name,
                        OCT_TENSORS_MAX_COUNT);
    char **items = oct_realloc(list->items, list->count * sizeof *items, list->count + more + 1, sizeof *items);
    if (!items) return out_of_memory(r, name);
    list->items = items;
    return OCT_OK;
}

static void list_release(text_list *list)
{
    oct_arena_release(&list->arena);
    oct_free(list->items);
}

/* Texts of variable length. HDF5 allocates them; the bytes of each are in the file, which bounds it. */
static oct_status read_variable(const reader *r, text_list *list, hid_t attribute, hid_t type, hid_t space,
                                const char *name, size_t count)
{
    char **texts = oct_calloc(count, sizeof *texts);
    if (!texts) return out_of_memory(r, name);
    oct_status status = OCT_OK;
    if (H5Aread(attribute, type, texts) < 0) status = hdf5_failed(r, name, "cannot read the attribute");
    for (size_t i = 0; i < count && status == OCT_OK; i++) {
        char *copy = oct_arena_strdup(&list->arena, texts[i] ? texts[i] : "");
        if (copy) list->items[list->count++] = copy;
        else status = out_of_memory(r, name);
    }
    H5Dvlen_reclaim(type, space, H5P_DEFAULT, texts);
    oct_free(texts);
    return status;
}

static oct_status read_fixed(const reader *r, text_list *list, hid_t attribute, hid_t type, const char *name,
                             size_t count)
{
    size_t bytes = H5Tget_size(type);
    char *block = oct_calloc(count, bytes);
    if (!block) return out_of_memory(r, name);
    oct_status status = OCT_OK;
    if (H5Aread(attribute, type, block) < 0) status = hdf5_failed(r, name, "cannot read the attribute");
    for (size_t i = 0; i < count && status == OCT_OK; i++) {
        size_t length = strnlen(block + i * bytes, bytes);
        char *copy = oct_arena_alloc(&list->arena, length + 1, 1);
        if (!copy) status = out_of_memory(r, name);
        else list->items[list->count++] = memcpy(copy, block + i * bytes, length);
    }
    oct_free(block);
    return status;
}

static oct_status read_texts(const reader *r, text_list *list, hid_t attribute, hid_t type, hid_t space,
                             const char *name, size_t max_bytes)
{
    hssize_t n = H5Sget_simple_extent_npoints(space);
    if (H5Sget_simple_extent_type(space) == H5S_NULL || n == 0) return OCT_OK; /* no entries, whatever the type */
    if (n < 0 || H5Tget_class(type) != H5T_STRING) return bad(r, name, "expected texts");
    size_t count = (size_t)n, bytes = H5Tget_size(type), total;
    OCT_TRY(list_grow(r, list, name, count));
    if (H5Tis_variable_str(type) > 0) return read_variable(r, list, attribute, type, space, name, count);
    if (!bytes || bytes > max_bytes || !oct_size_mul(&total, count, bytes) || total > r->file_bytes)
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: '%s': %zu texts of %zu bytes in a file of %llu", r->path, name,
                        count, bytes, (unsigned long long)r->file_bytes);
    return read_fixed(r, list, attribute, type, name, count);
}

static oct_status append_attribute(const reader *r, text_list *list, hid_t object, const char *name, size_t max_bytes)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    hid_t type = attribute < 0 ? -1 : H5Aget_type(attribute), space = attribute < 0 ? -1 : H5Aget_space(attribute);
    oct_status status = type < 0 || space < 0 ? hdf5_failed(r, name, "cannot open the attribute")
                                              : read_texts(r, list, attribute, type, space, name, max_bytes);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (attribute >= 0) H5Aclose(attribute);
    return status;
}

/* The attribute `name`, or name0, name1, ... one after the other. *found tells whether there was any. */
static oct_status read_attribute(const reader *r, text_list *list, bool *found, hid_t object, const char *name,
                                 size_t max_bytes)
{
    oct_arena_init(&list->arena, 0);
    *found = H5Aexists(object, name) > 0;
    if (*found) return append_attribute(r, list, object, name, max_bytes);
    for (int i = 0; i < MAX_CHUNKS; i++) {
        char part[64];
        snprintf(part, sizeof part, "%s%d", name, i);
        if (H5Aexists(object, part) <= 0) break;
        *found = true;
        OCT_TRY(append_attribute(r, list, object, part, max_bytes));
    }
    return OCT_OK;
}

static oct_status join(const reader *r, char **out, const text_list *list, const char *name)
{
    size_t bytes = 1;
    for (size_t i = 0; i < list->count; i++) bytes += strlen(list->items[i]);
    if (bytes > OCT_KERAS_MAX_CONFIG) return bad(r, name, "longer than 64 MiB");
    char *text = oct_calloc(bytes, 1);
    if (!text) return out_of_memory(r, name);
    for (size_t i = 0, at = 0; i < list->count; i++) {
        size_t length = strlen(list->items[i]);
        memcpy(text + at, list->items[i], length);
        at += length;
    }
    *out = text;
    return OCT_OK;
}

/* --- tensors --- */

bool oct_keras_tensor_name(char *name, const char *layer, const char *weight)
{
    size_t length = strlen(weight), layer_length = strlen(layer);
    size_t digits = 0;
    while (digits < length && isdigit((unsigned char)weight[length - 1 - digits])) digits++;
    if (digits && digits < length && weight[length - 1 - digits] == ':') length -= digits + 1;
    const char *rest = weight;
    for (const char *at = weight; at + layer_length < weight + length; at++) {
        bool starts = at == weight || at[-1] == '/';
        if (!starts || strncmp(at, layer, layer_length) || at[layer_length] != '/') continue;
        rest = at + layer_length + 1;
        break;
    }
    size_t rest_length = (size_t)(weight + length - rest);
    if (layer_length + 1 + rest_length > OCT_TENSOR_MAX_NAME) return false;
    memcpy(name, layer, layer_length);
    name[layer_length] = '/';
    memcpy(name + layer_length + 1, rest, rest_length);
    name[layer_length + 1 + rest_length] = '\0';
    return true;
}

typedef struct dataset {
    hid_t id, type, space;
    int rank;
    int64_t dims[OCT_TENSOR_MAX_RANK];
    uint64_t stored; /* bytes in the file */
    bool filtered;
} dataset;

static void dataset_close(dataset *d)
{
    if (d->space >= 0) H5Sclose(d->space);
    if (d->type >= 0) H5Tclose(d->type);
    if (d->id >= 0) H5Oclose(d->id);
}

/* In this file, and at most compressed by filters that every HDF5 has. */
static bool storage_is_ours(dataset *d)
{
    hid_t plist = H5Dget_create_plist(d->id);
    if (plist < 0) return false;
    H5D_layout_t layout = H5Pget_layout(plist);
    bool ours = layout != H5D_VIRTUAL && layout >= 0 && H5Pget_external_count(plist) == 0;
    int filters = layout == H5D_CHUNKED ? H5Pget_nfilters(plist) : 0;
    for (int i = 0; i < filters && ours; i++) {
        unsigned flags, config;
        size_t values = 0;
        H5Z_filter_t filter = H5Pget_filter2(plist, (unsigned)i, &flags, &values, NULL, 0, NULL, &config);
        ours = filter == H5Z_FILTER_DEFLATE || filter == H5Z_FILTER_SHUFFLE || filter == H5Z_FILTER_FLETCHER32;
        d->filtered |= filter == H5Z_FILTER_DEFLATE;
    }
    H5Pclose(plist);
    return ours;
}

static oct_status dataset_open(const reader *r, dataset *d, hid_t group, const char *path)
{
    *d = (dataset){.id = open_object(group, path), .type = -1, .space = -1};
    if (d->id < 0) return hdf5_failed(r, path, "weight_names lists it, but it cannot be opened");
    if (H5Iget_type(d->id) != H5I_DATASET) return bad(r, path, "expected a dataset");
    d->type = H5Dget_type(d->id);
    d->space = H5Dget_space(d->id);
    if (d->type < 0 || d->space < 0) return hdf5_failed(r, path, "cannot open");
    H5T_class_t kind = H5Tget_class(d->type);
    size_t bytes = H5Tget_size(d->type);
    if ((kind != H5T_FLOAT && kind != H5T_INTEGER) || bytes < 1 || bytes > 8)
        return bad(r, path, "expected numbers of at most 64 bits");
    hsize_t dims[OCT_TENSOR_MAX_RANK] = {0};
    d->rank = H5Sget_simple_extent_type(d->space) == H5S_NULL ? -1 : H5Sget_simple_extent_ndims(d->space);
    if (d->rank < 0 || d->rank > OCT_TENSOR_MAX_RANK) return bad(r, path, "expected 0..8 dimensions");
    if (d->rank && H5Sget_simple_extent_dims(d->space, dims, NULL) < 0) return hdf5_failed(r, path, "cannot read");
    for (int i = 0; i < d->rank; i++) d->dims[i] = dims[i] > INT32_MAX ? -1 : (int64_t)dims[i];
    if (!storage_is_ours(d)) return bad(r, path, "stored outside of the file or by a filter that is not supported");
    d->stored = H5Dget_storage_size(d->id);
    return OCT_OK;
}

static oct_status read_tensor(reader *r, oct_tensors *tensors, hid_t group, const char *layer, const char *weight)
{
    char name[MAX_NAME];
    if (!oct_keras_tensor_name(name, layer, weight)) return bad(r, weight, "the name is too long");
    dataset d;
    oct_named_tensor *tensor = NULL;
    oct_status status = dataset_open(r, &d, group, weight);
    if (status == OCT_OK && d.stored > r->budget)
        status = bad(r, name, "with the datasets before it, larger than the file");
    if (status == OCT_OK) {
        r->budget -= d.stored;
        uint64_t most = d.stored * (d.filtered ? MAX_INFLATION : 1) / H5Tget_size(d.type);
        oct_error reason = {0};
        status = oct_tensors_add(tensors, &tensor, name, d.rank, d.dims, most, &reason);
        if (status != OCT_OK) oct_fail(r->error, status, "%s: %.700s", r->path, reason.message);
    }
    if (status == OCT_OK && tensor->count &&
        H5Dread(d.id, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, tensor->data) < 0)
        status = hdf5_failed(r, name, "cannot read");
    dataset_close(&d);
    return status;
}

static oct_status read_layer(reader *r, oct_tensors *tensors, hid_t layers, const char *layer)
{
    hid_t group = open_group(layers, layer);
    if (group < 0) return bad(r, layer, "layer_names lists it, but there is no such group");
    text_list names = {0};
    bool found;
    oct_status status = read_attribute(r, &names, &found, group, "weight_names", MAX_TEXT);
    if (status == OCT_OK && !found) status = bad(r, layer, "expected the attribute weight_names, found none");
    for (size_t i = 0; i < names.count && status == OCT_OK; i++)
        status = read_tensor(r, tensors, group, layer, names.items[i]);
    list_release(&names);
    H5Oclose(group);
    return status;
}

static oct_status read_layers(reader *r, oct_tensors *tensors, hid_t layers)
{
    text_list names = {0};
    bool found;
    oct_status status = read_attribute(r, &names, &found, layers, "layer_names", MAX_TEXT);
    if (status == OCT_OK && !found)
        status = oct_fail(r->error, OCT_ERR_FORMAT,
                          "%s: expected the attribute layer_names of a Keras file, found none; files of save_weights "
                          "in Keras 3 (.weights.h5) have no layer names: save the model with model.save(\"model.h5\")",
                          r->path);
    for (size_t i = 0; i < names.count && status == OCT_OK; i++) status = read_layer(r, tensors, layers, names.items[i]);
    list_release(&names);
    return status;
}

static oct_status read_weights(reader *r, oct_tensors *tensors)
{
    if (H5Lexists(r->file, "model_weights", H5P_DEFAULT) <= 0) return read_layers(r, tensors, r->file);
    hid_t group = open_group(r->file, "model_weights");
    if (group < 0) return bad(r, "model_weights", "expected a group");
    oct_status status = read_layers(r, tensors, group);
    H5Oclose(group);
    return status;
}

static oct_status read_config(const reader *r, char **config)
{
    text_list parts = {0};
    bool found;
    oct_status status = read_attribute(r, &parts, &found, r->file, "model_config", OCT_KERAS_MAX_CONFIG);
    if (status == OCT_OK && found) status = join(r, config, &parts, "model_config");
    list_release(&parts);
    return status;
}

/* --- files --- */

/* r->file is closed by the caller when >= 0. */
static oct_status open_file(reader *r)
{
    struct stat st;
    r->file = -1;
    if (stat(r->path, &st)) return oct_fail(r->error, OCT_ERR_IO, "%s: cannot open: %s", r->path, strerror(errno));
    r->file_bytes = r->budget = (uint64_t)st.st_size;
    if (H5Fis_hdf5(r->path) <= 0) return oct_fail(r->error, OCT_ERR_FORMAT, "%s: not an HDF5 file", r->path);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        r->file = H5Fopen(r->path, H5F_ACC_RDONLY, access);
    oct_status status = r->file < 0 ? hdf5_failed(r, "/", "cannot open") : OCT_OK;
    if (access >= 0) H5Pclose(access);
    return status;
}

static bool has_attribute(hid_t object, const char *name)
{
    char first[64];
    snprintf(first, sizeof first, "%s0", name);
    return H5Aexists(object, name) > 0 || H5Aexists(object, first) > 0;
}

oct_keras_kind oct_keras_probe(const char *path)
{
    oct_keras_kind kind = OCT_KERAS_NONE;
    oct_hdf5_silence silence;
    oct_hdf5_silence_push(&silence);
    reader r = {.path = path};
    if (open_file(&r) == OCT_OK) {
        if (has_attribute(r.file, "layer_names") || H5Lexists(r.file, "model_weights", H5P_DEFAULT) > 0)
            kind = OCT_KERAS_WEIGHTS;
        if (has_attribute(r.file, "model_config")) kind = OCT_KERAS_MODEL;
        H5Fclose(r.file);
    }
    oct_hdf5_silence_pop(&silence);
    return kind;
}

oct_status oct_keras_file_read(oct_keras_content *out, const char *path, oct_error *error)
{
    *out = (oct_keras_content){0};
    OCT_TRY(oct_tensors_create(&out->tensors, error));
    oct_hdf5_silence silence;
    oct_hdf5_silence_push(&silence);
    reader r = {.path = path, .error = error};
    oct_status status = open_file(&r);
    if (status == OCT_OK) status = read_config(&r, &out->config);
    if (status == OCT_OK) status = read_weights(&r, out->tensors);
    if (r.file >= 0) H5Fclose(r.file);
    oct_hdf5_silence_pop(&silence);
    return status;
}

void oct_keras_content_release(oct_keras_content *content)
{
    oct_free(content->config);
    oct_tensors_destroy(content->tensors);
    *content = (oct_keras_content){0};
}
