/* SPDX-License-Identifier: BSD-2-Clause
 * Reading state files. Nothing in the file is believed: types, ranks, sizes and layouts are compared with what the
 * format says, and what is allocated is bounded by the size of the file. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "layers/state_hdf5.h"
#include "layers/state_internal.h"

typedef struct reader {
    hid_t file;
    const char *path;
    oct_error *error;
    size_t budget; /* bytes of the file that no dataset has claimed yet */
} reader;

enum { NAME_BYTES = 640, MAX_GRAPH_BYTES = 1 << 26, MAX_TEXT_BYTES = 1 << 24 };

static oct_status read_error(const reader *r, const char *object, const char *what)
{
    char reason[OCT_HDF5_REASON];
    return oct_fail(r->error, OCT_ERR_FORMAT, "%s: %s '%s': %s", r->path, what, object, oct_hdf5_reason(reason));
}

static oct_status format_error(const reader *r, const char *object, const char *what)
{
    return oct_fail(r->error, OCT_ERR_FORMAT, "%s: '%s': %s", r->path, object, what);
}

/* --- what a dataset or attribute is --- */

typedef struct extent {
    H5T_class_t type_class;
    size_t type_bytes;
    bool fixed;   /* no variable-length text */
    int rank;
    hsize_t dims[OCT_MAX_RANK];
    hsize_t count;
} extent;

static bool describe(extent *e, hid_t type, hid_t space)
{
    *e = (extent){.rank = -1};
    if (type < 0 || space < 0 || H5Sget_simple_extent_type(space) == H5S_NULL) return false;
    e->type_class = H5Tget_class(type);
    e->type_bytes = H5Tget_size(type);
    e->fixed = e->type_class != H5T_STRING || H5Tis_variable_str(type) == 0;
    e->rank = H5Sget_simple_extent_ndims(space);
    if (e->rank < 0 || e->rank > OCT_MAX_RANK) return false;
    if (e->rank && H5Sget_simple_extent_dims(space, e->dims, NULL) < 0) return false;
    hssize_t count = H5Sget_simple_extent_npoints(space);
    e->count = count < 0 ? 0 : (hsize_t)count;
    return e->fixed && e->type_bytes > 0;
}

/* Stored in one piece, in this file, without filters. */
static bool storage_is_plain(hid_t set)
{
    hid_t plist = H5Dget_create_plist(set);
    if (plist < 0) return false;
    H5D_layout_t layout = H5Pget_layout(plist);
    bool plain = (layout == H5D_CONTIGUOUS || layout == H5D_COMPACT) && H5Pget_external_count(plist) == 0;
    H5Pclose(plist);
    return plain;
}

typedef struct dataset {
    hid_t id, type, space;
    extent e;
    size_t bytes;
} dataset;

static void close_dataset(dataset *d)
{
    if (d->type >= 0) H5Tclose(d->type);
    if (d->space >= 0) H5Sclose(d->space);
    if (d->id >= 0) H5Dclose(d->id);
}

/* Opens a dataset whose bytes are all there, and takes them off the budget. Closed by the caller, also on failure. */
static oct_status open_dataset(reader *r, dataset *d, const char *name)
{
    *d = (dataset){.id = -1, .type = -1, .space = -1};
    d->id = H5Dopen2(r->file, name, H5P_DEFAULT);
    if (d->id < 0) return read_error(r, name, "cannot open");
    d->type = H5Dget_type(d->id);
    d->space = H5Dget_space(d->id);
    if (!describe(&d->e, d->type, d->space)) return format_error(r, name, "not a plain array of numbers or text");
    if (!storage_is_plain(d->id)) return format_error(r, name, "expected one contiguous, unfiltered block");
    hsize_t stored = H5Dget_storage_size(d->id);
    if (!oct_size_mul(&d->bytes, (size_t)d->e.count, d->e.type_bytes) || stored != d->bytes)
        return oct_fail(r->error, OCT_ERR_FORMAT,
                        "%s: '%s': expected %llu elements of %zu bytes, the file holds %llu bytes", r->path, name,
                        (unsigned long long)d->e.count, d->e.type_bytes, (unsigned long long)stored);
    if (d->bytes > r->budget)
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: '%s': %zu bytes do not fit the file any more", r->path, name,
                        d->bytes);
    r->budget -= d->bytes;
    return OCT_OK;
}

static oct_status read_data(const reader *r, const dataset *d, const char *name, hid_t memory_type, void *data)
{
    if (H5Dread(d->id, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) return read_error(r, name, "cannot read");
    return OCT_OK;
}

/* A scalar text of at most max_bytes into the arena. */
static oct_status read_text_data(const reader *r, const dataset *d, const char *name, size_t max_bytes, char **text,
                                 oct_arena *arena)
{
    if (d->e.type_class != H5T_STRING || d->e.count != 1 || d->bytes > max_bytes)
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: '%s': expected one text of at most %zu bytes", r->path, name,
                        max_bytes);
    *text = oct_arena_alloc(arena, d->bytes + 1, 1);
    if (!*text) return oct_fail(r->error, OCT_ERR_MEMORY, "out of memory: %s: %s", r->path, name);
    return read_data(r, d, name, d->type, *text);
}

static oct_status read_text(reader *r, const char *name, size_t max_bytes, char **text, oct_arena *arena)
{
    dataset d;
    oct_status status = open_dataset(r, &d, name);
    if (status == OCT_OK) status = read_text_data(r, &d, name, max_bytes, text, arena);
    close_dataset(&d);
    return status;
}

/* --- header --- */

static oct_status read_attribute(const reader *r, const char *name, H5T_class_t type_class, size_t max_bytes,
                                 hid_t memory_type, void *data)
{
    if (H5Aexists(r->file, name) <= 0) return format_error(r, name, "expected this attribute of the root, found none");
    hid_t attribute = H5Aopen(r->file, name, H5P_DEFAULT);
    if (attribute < 0) return read_error(r, name, "cannot open attribute");
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    extent e;
    oct_status status = OCT_OK;
    if (!describe(&e, type, space) || e.type_class != type_class || e.count != 1 || e.type_bytes > max_bytes)
        status = oct_fail(r->error, OCT_ERR_FORMAT, "%s: attribute '%s': expected one %s of at most %zu bytes", r->path,
                          name, type_class == H5T_STRING ? "text" : "integer", max_bytes);
    else if (H5Aread(attribute, memory_type < 0 ? type : memory_type, data) < 0)
        status = read_error(r, name, "cannot read attribute");
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    H5Aclose(attribute);
    return status;
}

static oct_status read_text_attribute(const reader *r, const char *name, char text[OCT_STATE_FORMAT_BYTES])
{
    memset(text, 0, OCT_STATE_FORMAT_BYTES);
    return read_attribute(r, name, H5T_STRING, OCT_STATE_FORMAT_BYTES - 1, -1, text);
}

static oct_status read_header(const reader *r, oct_state *state)
{
    char text[OCT_STATE_FORMAT_BYTES];
    int32_t version = 0;
    OCT_TRY(read_text_attribute(r, "format", text));
    if (strcmp(text, OCT_STATE_FORMAT))
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: expected format '%s', found '%s'", r->path, OCT_STATE_FORMAT,
                        text);
    OCT_TRY(read_attribute(r, "version", H5T_INTEGER, 4, H5T_NATIVE_INT32, &version));
    if (version != OCT_STATE_VERSION)
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: expected version %d of '%s', found %d", r->path,
                        OCT_STATE_VERSION, OCT_STATE_FORMAT, version);
    OCT_TRY(read_text_attribute(r, "producer", text));
    state->producer = oct_arena_strdup(&state->arena, text);
    return state->producer ? OCT_OK : oct_fail(r->error, OCT_ERR_MEMORY, "out of memory: %s", r->path);
}

static oct_status check_digest(const reader *r, const oct_state *state)
{
    uint64_t expected, found = oct_state_digest(state);
    OCT_TRY(read_attribute(r, "digest", H5T_INTEGER, 8, H5T_NATIVE_UINT64, &expected));
    if (found != expected)
        return oct_fail(r->error, OCT_ERR_FORMAT,
                        "%s: parameters and buffers: expected digest %016llx, found %016llx: the file was changed",
                        r->path, (unsigned long long)expected, (unsigned long long)found);
    return OCT_OK;
}

/* --- tensors --- */

static oct_status read_tensor(reader *r, const oct_state_tensor *t)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s/%s", t->group, t->name);
    dataset d;
    oct_status status = open_dataset(r, &d, name);
    if (status == OCT_OK && (d.e.type_class != H5T_FLOAT || d.e.type_bytes != 4))
        status = format_error(r, name, "expected 32-bit floating-point numbers");
    bool same = d.e.rank == t->shape.rank;
    for (int i = 0; i < d.e.rank && same; i++) same = d.e.dims[i] == (hsize_t)t->shape.dim[i];
    if (status == OCT_OK && !same) {
        char text[OCT_SHAPE_TEXT];
        status = oct_fail(r->error, OCT_ERR_FORMAT,
                          "%s: '%s': expected shape %s as in the graph, found %llu elements in %d dimensions", r->path,
                          name, oct_shape_text(text, &t->shape), (unsigned long long)d.e.count, d.e.rank);
    }
    /* The state owns the values; its tensors are const to everybody but its maker. */
    if (status == OCT_OK) status = read_data(r, &d, name, H5T_NATIVE_FLOAT, (void *)(uintptr_t)t->data);
    close_dataset(&d);
    return status;
}

/* Parameters and buffers, or the parameters' values in one optimizer slot. */
static oct_status read_tensors(reader *r, oct_state *state, const char *slot)
{
    size_t bytes;
    oct_status status = oct_state_text_bytes(state, slot != NULL, &bytes, r->error);
    if (status == OCT_OK && bytes > r->budget)
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: the graph needs %zu bytes of %s, the file has %zu left", r->path,
                        bytes, slot ? slot : "parameters and buffers", r->budget);
    int first = state->tensor_count;
    if (status == OCT_OK) status = oct_state_add_from_text(state, slot, r->error);
    for (int i = first; i < state->tensor_count && status == OCT_OK; i++) status = read_tensor(r, &state->tensors[i]);
    return status;
}

/* --- groups of unknown content --- */

typedef oct_status visit_fn(reader *r, oct_state *state, const char *name);

/* Calls visit for every link of a group, which may be absent; at most `max` links with names that are keys. */
static oct_status for_each_link(reader *r, oct_state *state, const char *group_name, int max, visit_fn *visit)
{
    if (H5Lexists(r->file, group_name, H5P_DEFAULT) <= 0) return OCT_OK;
    hid_t group = H5Gopen2(r->file, group_name, H5P_DEFAULT);
    H5G_info_t info;
    if (group < 0 || H5Gget_info(group, &info) < 0) {
        if (group >= 0) H5Gclose(group);
        return read_error(r, group_name, "cannot open");
    }
    oct_status status = OCT_OK;
    if (info.nlinks > (hsize_t)max)
        status = oct_fail(r->error, OCT_ERR_FORMAT, "%s: '%s': expected at most %d entries, found %llu", r->path,
                          group_name, max, (unsigned long long)info.nlinks);
    for (hsize_t i = 0; status == OCT_OK && i < info.nlinks; i++) {
        char name[OCT_STATE_MAX_KEY + 2];
        ssize_t length = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        if (length < 0)
            status = read_error(r, group_name, "cannot list");
        else if (!oct_state_key_is_valid(name))
            status = format_error(r, group_name, "holds an entry whose name is not one of ours");
        else
            status = visit(r, state, name);
    }
    H5Gclose(group);
    return status;
}

static oct_status read_meta(reader *r, oct_state *state, const char *key)
{
    char name[NAME_BYTES], entry_key[OCT_STATE_MAX_KEY + 1];
    snprintf(name, sizeof name, "meta/%s", key);
    snprintf(entry_key, sizeof entry_key, "%s", key);
    oct_meta entry = {.key = entry_key};
    dataset d;
    oct_status status = open_dataset(r, &d, name);
    if (status == OCT_OK && d.e.count == 1 && d.e.type_class == H5T_FLOAT && d.bytes == 8) {
        entry.type = OCT_META_NUMBER;
        status = read_data(r, &d, name, H5T_NATIVE_DOUBLE, &entry.number);
    } else if (status == OCT_OK && d.e.count == 1 && d.e.type_class == H5T_INTEGER && d.bytes == 8) {
        entry.type = OCT_META_INTEGER;
        status = read_data(r, &d, name, H5T_NATIVE_INT64, &entry.integer);
    } else if (status == OCT_OK) {
        entry.type = OCT_META_TEXT;
        status = read_text_data(r, &d, name, MAX_TEXT_BYTES, &entry.text, &state->arena);
    }
    close_dataset(&d);
    return status == OCT_OK ? oct_state_set_meta(state, &entry, r->error) : status;
}

static oct_status read_class_block(const reader *r, const dataset *d, oct_state *state)
{
    size_t bytes = d->e.type_bytes;
    int count = (int)d->e.count;
    char *block = oct_calloc((size_t)count + 1, bytes); /* one more: the last name may lack its zero */
    char **names = oct_calloc((size_t)count, sizeof *names);
    char *copies = oct_calloc((size_t)count, bytes + 1);
    oct_status status = OCT_OK;
    if (!block || !names || !copies) status = oct_fail(r->error, OCT_ERR_MEMORY, "out of memory: class names");
    if (status == OCT_OK) status = read_data(r, d, "classes", d->type, block);
    for (int i = 0; i < count && status == OCT_OK; i++) {
        names[i] = copies + (size_t)i * (bytes + 1);
        memcpy(names[i], block + (size_t)i * bytes, bytes);
    }
    if (status == OCT_OK) status = oct_state_set_classes(state, (const char *const *)names, count, r->error);
    oct_free(block);
    oct_free(names);
    oct_free(copies);
    return status;
}

static oct_status read_classes(reader *r, oct_state *state)
{
    if (H5Lexists(r->file, "classes", H5P_DEFAULT) <= 0) return OCT_OK;
    dataset d;
    oct_status status = open_dataset(r, &d, "classes");
    if (status == OCT_OK && (d.e.type_class != H5T_STRING || d.e.rank != 1 || d.e.count > OCT_STATE_MAX_CLASSES ||
                             d.e.type_bytes > OCT_STATE_MAX_NAME + 1))
        status = format_error(r, "classes", "expected at most 1048576 texts of at most 256 bytes");
    if (status == OCT_OK) status = read_class_block(r, &d, state);
    close_dataset(&d);
    return status;
}

/* --- files --- */

/* r->file is closed by the caller when >= 0. */
static oct_status open_file(reader *r)
{
    struct stat st;
    r->file = -1;
    if (stat(r->path, &st)) return oct_fail(r->error, OCT_ERR_IO, "%s: cannot open: %s", r->path, strerror(errno));
    r->budget = (size_t)st.st_size;
    if (H5Fis_hdf5(r->path) <= 0)
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: not an HDF5 file", r->path);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    if (access >= 0 && H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        r->file = H5Fopen(r->path, H5F_ACC_RDONLY, access);
    oct_status status = r->file < 0 ? read_error(r, "/", "cannot open") : OCT_OK;
    if (access >= 0) H5Pclose(access);
    return status;
}

/* A file of another kind is not read; its format attribute, if any, tells the user what it is. */
static oct_status check_seal(const char *path, oct_error *error)
{
    bool ours;
    OCT_TRY(oct_state_seal_check(&ours, path, true, error));
    if (ours) return OCT_OK;
    char format[OCT_STATE_FORMAT_BYTES];
    OCT_TRY(oct_state_probe(format, path, error));
    return oct_fail(error, OCT_ERR_FORMAT, "%s: expected format '%s', found '%s'", path, OCT_STATE_FORMAT,
                    *format ? format : "HDF5 without a format");
}

static oct_status read_content(reader *r, oct_state *state)
{
    OCT_TRY(read_header(r, state));
    OCT_TRY(read_text(r, "graph", MAX_GRAPH_BYTES, &state->graph_text, &state->arena));
    OCT_TRY(read_tensors(r, state, NULL));
    OCT_TRY(for_each_link(r, state, "optimizer", OCT_STATE_MAX_SLOTS, read_tensors));
    OCT_TRY(read_classes(r, state));
    OCT_TRY(for_each_link(r, state, "meta", OCT_STATE_MAX_META, read_meta));
    return check_digest(r, state);
}

/* Puts the path in front of messages of code that does not know it. */
static void name_file(oct_error *error, const char *path)
{
    if (!error || !strncmp(error->message, path, strlen(path))) return;
    oct_error inner = *error;
    snprintf(error->message, sizeof error->message, "%.400s: %.600s", path, inner.message);
}

oct_status oct_state_read(oct_state **out, const char *path, oct_error *error)
{
    *out = NULL;
    oct_state *state;
    OCT_TRY(check_seal(path, error));
    OCT_TRY(oct_state_create(&state, error));
    oct_hdf5_silence silence;
    oct_hdf5_silence_push(&silence);
    reader r = {.path = path, .error = error};
    oct_status status = open_file(&r);
    if (status == OCT_OK) status = read_content(&r, state);
    if (r.file >= 0) H5Fclose(r.file);
    oct_hdf5_silence_pop(&silence);
    if (status != OCT_OK) {
        name_file(error, path);
        oct_state_destroy(state);
        return status;
    }
    *out = state;
    return OCT_OK;
}

oct_status oct_state_probe(char format[OCT_STATE_FORMAT_BYTES], const char *path, oct_error *error)
{
    memset(format, 0, OCT_STATE_FORMAT_BYTES);
    bool ours;
    OCT_TRY(oct_state_seal_check(&ours, path, false, error));
    if (ours) {
        snprintf(format, OCT_STATE_FORMAT_BYTES, "%s", OCT_STATE_FORMAT);
        return OCT_OK;
    }
    oct_hdf5_silence silence;
    oct_hdf5_silence_push(&silence);
    reader r = {.path = path, .error = error};
    oct_status status = open_file(&r);
    if (status == OCT_OK && H5Aexists(r.file, "format") > 0) status = read_text_attribute(&r, "format", format);
    if (r.file >= 0) H5Fclose(r.file);
    oct_hdf5_silence_pop(&silence);
    return status;
}
