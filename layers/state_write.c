/* SPDX-License-Identifier: BSD-2-Clause
 * Writing state files. HDF5 builds the file in memory (its core driver, nothing behind it), and base/file.h puts the
 * bytes on the disk: a full disk is then an ordinary failed write, and never a library that cannot close its file. */
#include <hdf5.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/file.h"
#include "layers/graph_json_internal.h"
#include "layers/state_hdf5.h"
#include "layers/state_internal.h"

typedef struct writer {
    hid_t file, group_plist, dataset_plist; /* objects without times */
    const char *path;
    oct_error *error;
} writer;

enum { NAME_BYTES = 640 };

static oct_status write_error(const writer *w, const char *object)
{
    char reason[OCT_HDF5_REASON];
    return oct_fail(w->error, OCT_ERR_IO, "%s: cannot write '%s': %s", w->path, object, oct_hdf5_reason(reason));
}

/* Creates the groups that a slash-separated name goes through. */
static oct_status make_groups(const writer *w, const char *name)
{
    char prefix[NAME_BYTES];
    for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(prefix, sizeof prefix, "%.*s", (int)(slash - name), name);
        htri_t exists = H5Lexists(w->file, prefix, H5P_DEFAULT);
        if (exists > 0) continue;
        hid_t group = exists < 0 ? -1 : H5Gcreate2(w->file, prefix, H5P_DEFAULT, w->group_plist, H5P_DEFAULT);
        if (group < 0 || H5Gclose(group) < 0) return write_error(w, prefix);
    }
    return OCT_OK;
}

/* One dataset of `file_type` from memory of `memory_type`. */
static oct_status write_dataset(const writer *w, const char *name, hid_t file_type, hid_t memory_type, int rank,
                                const hsize_t *dims, const void *data)
{
    OCT_TRY(make_groups(w, name));
    hid_t space = rank ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t set = H5Dcreate2(w->file, name, file_type, space, H5P_DEFAULT, w->dataset_plist, H5P_DEFAULT);
    oct_status status = OCT_OK;
    if (set < 0 || H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = write_error(w, name);
    if (set >= 0 && H5Dclose(set) < 0 && status == OCT_OK) status = write_error(w, name);
    if (space >= 0) H5Sclose(space);
    return status;
}

/* A fixed-length UTF-8 text type; negative on failure. */
static hid_t text_type(size_t bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 && (H5Tset_size(type, bytes) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

static oct_status write_text(const writer *w, const char *name, const char *text)
{
    hid_t type = text_type(strlen(text) + 1);
    if (type < 0) return write_error(w, name);
    oct_status status = write_dataset(w, name, type, type, 0, NULL, text);
    H5Tclose(type);
    return status;
}

static oct_status write_attribute(const writer *w, hid_t object, const char *name, hid_t file_type, hid_t memory_type,
                                  int count, const void *data)
{
    hsize_t dims = (hsize_t)count;
    hid_t space = count > 1 ? H5Screate_simple(1, &dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    oct_status status = OCT_OK;
    if (attribute < 0 || H5Awrite(attribute, memory_type, data) < 0) status = write_error(w, name);
    if (attribute >= 0 && H5Aclose(attribute) < 0 && status == OCT_OK) status = write_error(w, name);
    if (space >= 0) H5Sclose(space);
    return status;
}

static oct_status write_text_attribute(const writer *w, const char *name, const char *text)
{
    hid_t type = text_type(strlen(text) + 1);
    if (type < 0) return write_error(w, name);
    oct_status status = write_attribute(w, w->file, name, type, type, 1, text);
    H5Tclose(type);
    return status;
}

static oct_status write_header(const writer *w, const oct_state *state)
{
    int32_t version = OCT_STATE_VERSION;
    uint64_t digest = oct_state_digest(state);
    OCT_TRY(write_text_attribute(w, "format", OCT_STATE_FORMAT));
    OCT_TRY(write_attribute(w, w->file, "version", H5T_STD_I32LE, H5T_NATIVE_INT32, 1, &version));
    OCT_TRY(write_text_attribute(w, "producer", state->producer));
    return write_attribute(w, w->file, "digest", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &digest);
}

static oct_status write_tensors(const writer *w, const oct_state *state)
{
    for (int i = 0; i < state->tensor_count; i++) {
        const oct_state_tensor *t = &state->tensors[i];
        char name[NAME_BYTES];
        hsize_t dims[OCT_MAX_RANK];
        snprintf(name, sizeof name, "%s/%s", t->group, t->name);
        for (int k = 0; k < t->shape.rank; k++) dims[k] = (hsize_t)t->shape.dim[k];
        OCT_TRY(write_dataset(w, name, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, t->shape.rank, dims, t->data));
    }
    return OCT_OK;
}

static oct_status write_classes(const writer *w, const oct_state *state)
{
    if (!state->class_count) return OCT_OK;
    size_t bytes = 1;
    for (int i = 0; i < state->class_count; i++)
        if (strlen(state->classes[i]) + 1 > bytes) bytes = strlen(state->classes[i]) + 1;
    char *block = oct_calloc((size_t)state->class_count, bytes);
    hid_t type = text_type(bytes);
    oct_status status = OCT_OK;
    if (!block)
        status = oct_fail(w->error, OCT_ERR_MEMORY, "out of memory: class names");
    else if (type < 0)
        status = write_error(w, "classes");
    if (status == OCT_OK) {
        for (int i = 0; i < state->class_count; i++)
            memcpy(block + (size_t)i * bytes, state->classes[i], strlen(state->classes[i]) + 1);
        hsize_t dims = (hsize_t)state->class_count;
        status = write_dataset(w, "classes", type, type, 1, &dims, block);
    }
    if (type >= 0) H5Tclose(type);
    oct_free(block);
    return status;
}

static oct_status write_meta(const writer *w, const oct_state *state)
{
    for (int i = 0; i < state->meta_count; i++) {
        const oct_meta *m = &state->meta[i];
        char name[NAME_BYTES];
        snprintf(name, sizeof name, "meta/%s", m->key);
        if (m->type == OCT_META_NUMBER)
            OCT_TRY(write_dataset(w, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 0, NULL, &m->number));
        else if (m->type == OCT_META_INTEGER)
            OCT_TRY(write_dataset(w, name, H5T_STD_I64LE, H5T_NATIVE_INT64, 0, NULL, &m->integer));
        else
            OCT_TRY(write_text(w, name, m->text));
    }
    return OCT_OK;
}

static oct_status write_constants(const writer *w, const float mean[4], const float scale[4])
{
    hid_t group = H5Gcreate2(w->file, "preprocessing", H5P_DEFAULT, w->group_plist, H5P_DEFAULT);
    if (group < 0) return write_error(w, "preprocessing");
    oct_status status = write_attribute(w, group, "mean", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, mean);
    if (status == OCT_OK) status = write_attribute(w, group, "scale", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, scale);
    if (H5Gclose(group) < 0 && status == OCT_OK) status = write_error(w, "preprocessing");
    return status;
}

static oct_status write_preprocessing(const writer *w, const oct_state *state)
{
    oct_graph_text text;
    float mean[4], scale[4];
    oct_status status = oct_graph_text_parse(&text, state->graph_text, w->error);
    if (status == OCT_OK && oct_graph_text_floats(&text, "normalize", "mean", mean, 4) &&
        oct_graph_text_floats(&text, "normalize", "scale", scale, 4))
        status = write_constants(w, mean, scale);
    oct_graph_text_release(&text);
    return status;
}

static oct_status write_content(const writer *w, const oct_state *state)
{
    OCT_TRY(write_header(w, state));
    OCT_TRY(write_text(w, "graph", state->graph_text));
    OCT_TRY(write_preprocessing(w, state));
    OCT_TRY(write_classes(w, state));
    OCT_TRY(write_meta(w, state));
    return write_tensors(w, state);
}

static oct_status write_image(const writer *w)
{
    ssize_t size = H5Fflush(w->file, H5F_SCOPE_GLOBAL) < 0 ? -1 : H5Fget_file_image(w->file, NULL, 0);
    if (size <= 0) return write_error(w, "/");
    size_t bytes = (size_t)size;
    char *block = oct_alloc(OCT_STATE_SEAL + bytes, 1);
    if (!block) return oct_fail(w->error, OCT_ERR_MEMORY, "out of memory: %s", w->path);
    char *image = block + OCT_STATE_SEAL;
    oct_status status = H5Fget_file_image(w->file, image, bytes) == size ? OCT_OK : write_error(w, "/");
    if (status == OCT_OK) {
        oct_state_seal_make(block, image, bytes);
        status = oct_file_write(w->path, block, OCT_STATE_SEAL + bytes, w->error);
    }
    oct_free(block);
    return status;
}

/* The in-memory file; its size grows in steps of a quarter of what the tensors need. */
static hid_t create_file(const oct_state *state)
{
    size_t bytes = 1 << 20;
    for (int i = 0; i < state->tensor_count; i++) bytes += state->tensors[i].count;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE);
    bool ok = access >= 0 && creation >= 0 && H5Pset_fapl_core(access, bytes, 0) >= 0 &&
              H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED) >= 0 &&
              H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 && H5Pset_obj_track_times(creation, 0) >= 0;
    hid_t file = ok ? H5Fcreate("octet-state", H5F_ACC_TRUNC, creation, access) : -1;
    if (access >= 0) H5Pclose(access);
    if (creation >= 0) H5Pclose(creation);
    return file;
}

static oct_status write_file(writer *w, const oct_state *state)
{
    w->file = create_file(state);
    w->group_plist = H5Pcreate(H5P_GROUP_CREATE);
    w->dataset_plist = H5Pcreate(H5P_DATASET_CREATE);
    oct_status status = OCT_OK;
    if (w->file < 0 || w->group_plist < 0 || w->dataset_plist < 0 || H5Pset_obj_track_times(w->group_plist, 0) < 0 ||
        H5Pset_obj_track_times(w->dataset_plist, 0) < 0 ||
        H5Pset_fill_time(w->dataset_plist, H5D_FILL_TIME_NEVER) < 0)
        status = write_error(w, "/");
    if (status == OCT_OK) status = write_content(w, state);
    if (status == OCT_OK) status = write_image(w);
    if (w->group_plist >= 0) H5Pclose(w->group_plist);
    if (w->dataset_plist >= 0) H5Pclose(w->dataset_plist);
    if (w->file >= 0 && H5Fclose(w->file) < 0 && status == OCT_OK) status = write_error(w, "/");
    return status;
}

oct_status oct_state_write(const char *path, const oct_state *state, oct_error *error)
{
    if (!state->graph_text) return oct_fail(error, OCT_ERR_STATE, "%s: the state holds no graph", path);
    oct_hdf5_silence silence;
    oct_hdf5_silence_push(&silence);
    writer w = {.path = path, .error = error};
    oct_status status = write_file(&w, state);
    oct_hdf5_silence_pop(&silence);
    return status;
}
