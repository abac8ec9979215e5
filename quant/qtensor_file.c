/* SPDX-License-Identifier: BSD-2-Clause
 * Quantized tensors as HDF5 files. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <hdf5.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "layers/state_hdf5.h"
#include "quant/qtensor_internal.h"

static const char format_name[] = "octet-qtensor";
enum { VERSION = 1, TEXT_BYTES = 32 };

typedef struct qfile {
    hid_t file;
    const char *path;
    oct_error *error;
} qfile;

static oct_status bad(const qfile *f, const char *name, const char *what)
{
    return oct_fail(f->error, OCT_ERR_FORMAT, "%s: '%s' %s", f->path, name, what);
}

static oct_status hdf5_error(const qfile *f, oct_status status, const char *name, const char *verb)
{
    char reason[OCT_HDF5_REASON];
    return oct_fail(f->error, status, "%s: cannot %s '%s': %s", f->path, verb, name, oct_hdf5_reason(reason));
}

static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0) H5Tset_size(type, TEXT_BYTES);
    return type;
}

/* Number type of the codes in memory and in the file. */
static void code_types(oct_qtype type, hid_t *memory, hid_t *in_file)
{
    switch (type) {
    case OCT_QTYPE_S8: *memory = H5T_NATIVE_INT8, *in_file = H5T_STD_I8LE; return;
    case OCT_QTYPE_U16: *memory = H5T_NATIVE_UINT16, *in_file = H5T_STD_U16LE; return;
    case OCT_QTYPE_S16: *memory = H5T_NATIVE_INT16, *in_file = H5T_STD_I16LE; return;
    default: *memory = H5T_NATIVE_UINT8, *in_file = H5T_STD_U8LE; return;
    }
}

/* Elements of the dataset "codes". */
static size_t code_items(oct_qtype type, size_t count)
{
    return type == OCT_QTYPE_S4 ? (count + 1) / 2 : count;
}

/* --- writing --- */

/* count 0: a scalar. */
static oct_status put_attribute(const qfile *f, const char *name, hid_t in_file, hid_t memory, hsize_t count,
                                const void *data)
{
    hid_t space = count ? H5Screate_simple(1, &count, NULL) : H5Screate(H5S_SCALAR);
    hid_t at = H5Acreate2(f->file, name, in_file, space, H5P_DEFAULT, H5P_DEFAULT);
    bool done = at >= 0 && H5Awrite(at, memory, data) >= 0;
    oct_status status = done ? OCT_OK : hdf5_error(f, OCT_ERR_IO, name, "write");
    if (at >= 0) H5Aclose(at);
    if (space >= 0) H5Sclose(space);
    return status;
}

static oct_status put_text(const qfile *f, const char *name, const char *text)
{
    char padded[TEXT_BYTES] = {0};
    hid_t type = text_type();
    snprintf(padded, sizeof padded, "%s", text);
    oct_status status = put_attribute(f, name, type, type, 0, padded);
    if (type >= 0) H5Tclose(type);
    return status;
}

static oct_status put_dataset(const qfile *f, const char *name, hid_t in_file, hid_t memory, hsize_t count,
                              const void *data)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &count, NULL);
    if (plist >= 0) H5Pset_obj_track_times(plist, false);
    hid_t set = H5Dcreate2(f->file, name, in_file, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    bool done = set >= 0 && H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0;
    oct_status status = done ? OCT_OK : hdf5_error(f, OCT_ERR_IO, name, "write");
    if (set >= 0) H5Dclose(set);
    if (space >= 0) H5Sclose(space);
    if (plist >= 0) H5Pclose(plist);
    return status;
}

static oct_status put_tensor(const qfile *f, const oct_qtensor *t)
{
    static const int32_t version = VERSION;
    hid_t memory, in_file;
    hsize_t n = (hsize_t)t->param_count;
    code_types(t->format.type, &memory, &in_file);
    OCT_TRY(put_text(f, "format", format_name));
    OCT_TRY(put_attribute(f, "version", H5T_STD_I32LE, H5T_NATIVE_INT32, 0, &version));
    OCT_TRY(put_text(f, "type", oct_qtype_name(t->format.type)));
    OCT_TRY(put_text(f, "range", oct_qrange_name(t->format.range)));
    OCT_TRY(put_text(f, "rounding", oct_qrounding_name(t->format.rounding)));
    OCT_TRY(put_attribute(f, "axis", H5T_STD_I32LE, H5T_NATIVE_INT, 0, &t->axis));
    if (t->shape.rank)
        OCT_TRY(put_attribute(f, "shape", H5T_STD_I32LE, H5T_NATIVE_INT32, (hsize_t)t->shape.rank, t->shape.dim));
    OCT_TRY(put_dataset(f, "scales", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, n, t->scales));
    OCT_TRY(put_dataset(f, "zero_points", H5T_STD_I32LE, H5T_NATIVE_INT32, n, t->zero_points));
    return put_dataset(f, "codes", in_file, memory, code_items(t->format.type, t->count), t->data);
}

static hid_t create_file(const char *path)
{
    hid_t plist = H5Pcreate(H5P_FILE_CREATE);
    if (plist >= 0) H5Pset_obj_track_times(plist, false);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, plist < 0 ? H5P_DEFAULT : plist, H5P_DEFAULT);
    if (plist >= 0) H5Pclose(plist);
    return file;
}

oct_status oct_qtensor_save(const oct_qtensor *tensor, const char *path, oct_error *error)
{
    char *temporary = oct_file_temporary_name(path);
    if (!temporary) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
    oct_hdf5_silence silence;
    oct_hdf5_silence_push(&silence);
    qfile f = {create_file(temporary), path, error};
    oct_status status = f.file < 0 ? hdf5_error(&f, OCT_ERR_IO, "the file", "create") : put_tensor(&f, tensor);
    if (f.file >= 0 && H5Fclose(f.file) < 0 && status == OCT_OK)
        status = hdf5_error(&f, OCT_ERR_IO, "the file", "close");
    oct_hdf5_silence_pop(&silence);
    if (status == OCT_OK)
        status = oct_file_commit(temporary, path, error);
    else
        remove(temporary);
    oct_free(temporary);
    return status;
}

/* --- reading --- */

/* An attribute of exactly this type with 1..most values; *count of them into `data`. */
static oct_status get_attribute(const qfile *f, const char *name, hid_t in_file, hid_t memory, hssize_t most,
                                int *count, void *data)
{
    hid_t at = H5Aexists(f->file, name) > 0 ? H5Aopen(f->file, name, H5P_DEFAULT) : -1;
    if (at < 0) return bad(f, name, "is missing: expected an attribute");
    hid_t type = H5Aget_type(at), space = H5Aget_space(at);
    hssize_t found = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    oct_status status = OCT_OK;
    if (type < 0 || H5Tequal(type, in_file) <= 0 || found < 1 || found > most)
        status = bad(f, name, "has another type or count than the format says");
    else if (H5Aread(at, memory, data) < 0)
        status = hdf5_error(f, OCT_ERR_FORMAT, name, "read");
    *count = (int)found;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Aclose(at);
    return status;
}

static oct_status get_int(const qfile *f, const char *name, int *value)
{
    int count;
    return get_attribute(f, name, H5T_STD_I32LE, H5T_NATIVE_INT, 1, &count, value);
}

static oct_status get_text(const qfile *f, const char *name, char text[TEXT_BYTES])
{
    int count;
    hid_t type = text_type();
    oct_status status = get_attribute(f, name, type, type, 1, &count, text);
    text[TEXT_BYTES - 1] = '\0';
    if (type >= 0) H5Tclose(type);
    return status;
}

/* A text that is one of the names of `name_of`. */
static oct_status get_choice(const qfile *f, const char *name, const char *(*name_of)(int), int *value)
{
    char text[TEXT_BYTES] = "";
    OCT_TRY(get_text(f, name, text));
    for (*value = 0; name_of(*value); ++*value)
        if (!strcmp(name_of(*value), text)) return OCT_OK;
    return oct_fail(f->error, OCT_ERR_FORMAT, "%s: %s: unknown \"%s\"", f->path, name, text);
}

static const char *type_name(int i)
{
    return oct_qtype_name((oct_qtype)i);
}
static const char *range_name(int i)
{
    return oct_qrange_name((oct_qrange)i);
}
static const char *rounding_name(int i)
{
    return oct_qrounding_name((oct_qrounding)i);
}

/* Opens a one-dimensional dataset that holds all its numbers plainly in this file. *count: in, what is expected, or
 * -1 for at most 2^31 - 1; out, what there is. */
static oct_status open_dataset(const qfile *f, hid_t *set, const char *name, hid_t in_file, hssize_t *count)
{
    H5L_info_t link;
    *set = -1;
    if (H5Lexists(f->file, name, H5P_DEFAULT) <= 0 || H5Lget_info(f->file, name, &link, H5P_DEFAULT) < 0)
        return bad(f, name, "is missing: expected a dataset");
    if (link.type != H5L_TYPE_HARD) return bad(f, name, "is a soft or external link, expected a dataset");
    *set = H5Dopen2(f->file, name, H5P_DEFAULT);
    if (*set < 0) return hdf5_error(f, OCT_ERR_FORMAT, name, "open");
    hid_t type = H5Dget_type(*set), space = H5Dget_space(*set), plist = H5Dget_create_plist(*set);
    H5D_layout_t layout = plist < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(plist);
    hssize_t found = space < 0 || H5Sget_simple_extent_ndims(space) != 1 ? -1 : H5Sget_simple_extent_npoints(space);
    bool plain = (layout == H5D_CONTIGUOUS || layout == H5D_COMPACT) && H5Pget_external_count(plist) == 0;
    bool typed = type >= 0 && H5Tequal(type, in_file) > 0;
    bool counted = found >= 0 && (*count < 0 ? found <= INT32_MAX : found == *count);
    oct_status status = OCT_OK;
    if (!typed || !counted)
        status = bad(f, name, "has another number type or count than the format says");
    else if (!plain || H5Dget_storage_size(*set) < (hsize_t)found * H5Tget_size(in_file))
        status = bad(f, name, "is not stored plainly and whole in this file");
    *count = found;
    if (plist >= 0) H5Pclose(plist);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (status == OCT_OK) return OCT_OK;
    H5Dclose(*set);
    *set = -1;
    return status;
}

static oct_status read_dataset(const qfile *f, hid_t set, const char *name, hid_t memory, void *data)
{
    oct_status status = OCT_OK;
    if (H5Dread(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = hdf5_error(f, OCT_ERR_FORMAT, name, "read");
    H5Dclose(set);
    return status;
}

/* What the attributes say. */
static oct_status read_head(const qfile *f, oct_shape *shape, oct_qformat *format, int *axis)
{
    char text[TEXT_BYTES] = "";
    int version = 0, type, range, rounding;
    OCT_TRY(get_text(f, "format", text));
    if (strcmp(text, format_name)) return bad(f, "format", "is not \"octet-qtensor\"");
    OCT_TRY(get_int(f, "version", &version));
    if (version != VERSION)
        return oct_fail(f->error, OCT_ERR_UNSUPPORTED, "%s: version %d, this build reads %d", f->path, version,
                        VERSION);
    OCT_TRY(get_choice(f, "type", type_name, &type));
    OCT_TRY(get_choice(f, "range", range_name, &range));
    OCT_TRY(get_choice(f, "rounding", rounding_name, &rounding));
    *format = (oct_qformat){(oct_qtype)type, (oct_qrange)range, (oct_qrounding)rounding};
    OCT_TRY(get_int(f, "axis", axis));
    *shape = (oct_shape){0};
    if (H5Aexists(f->file, "shape") <= 0) return OCT_OK;
    return get_attribute(f, "shape", H5T_STD_I32LE, H5T_NATIVE_INT32, OCT_MAX_RANK, &shape->rank, shape->dim);
}

/* A parameter or code that the API would refuse is damage here. */
static oct_status refuse(const qfile *f, const oct_error *inner)
{
    oct_status status = inner->status == OCT_ERR_MEMORY ? OCT_ERR_MEMORY : OCT_ERR_FORMAT;
    return oct_fail(f->error, status, "%s: %s", f->path, inner->message);
}

static oct_status read_params(const qfile *f, float **scales, int32_t **zero_points, int *count)
{
    hid_t set;
    hssize_t n = -1;
    OCT_TRY(open_dataset(f, &set, "scales", H5T_IEEE_F32LE, &n));
    *count = (int)n;
    *scales = n ? oct_alloc((size_t)n, sizeof **scales) : NULL;
    *zero_points = n ? oct_alloc((size_t)n, sizeof **zero_points) : NULL;
    if (!*scales || !*zero_points) {
        H5Dclose(set);
        return n ? oct_fail(f->error, OCT_ERR_MEMORY, "out of memory: %s", f->path) : bad(f, "scales", "is empty");
    }
    OCT_TRY(read_dataset(f, set, "scales", H5T_NATIVE_FLOAT, *scales));
    OCT_TRY(open_dataset(f, &set, "zero_points", H5T_STD_I32LE, &n));
    return read_dataset(f, set, "zero_points", H5T_NATIVE_INT32, *zero_points);
}

static oct_status check_codes(const qfile *f, const oct_qtensor *t)
{
    int32_t code = 0;
    for (size_t i = 0; i < t->count; i++) {
        OCT_TRY(oct_qtensor_code(t, i, &code, f->error));
        if (code < t->lo || code > t->hi)
            return oct_fail(f->error, OCT_ERR_FORMAT, "%s: code of element %zu: expected %d..%d, found %d", f->path,
                            i, t->lo, t->hi, code);
    }
    if (t->format.type == OCT_QTYPE_S4 && t->count % 2 && ((const uint8_t *)t->data)[t->count / 2] & 15)
        return bad(f, "codes", "has a half byte behind the last code that is not 0");
    return OCT_OK;
}

/* Elements of a shape, or -1: negative sides, or more than there can be. */
static hssize_t elements(const oct_shape *shape)
{
    size_t count = 1;
    for (int i = 0; i < shape->rank; i++)
        if (shape->dim[i] < 0 || !oct_size_mul(&count, count, (size_t)shape->dim[i])) return -1;
    return count <= INT32_MAX ? (hssize_t)count : -1;
}

/* The codes are looked for before the tensor is made: a small file cannot ask for much memory. */
static oct_status read_tensor(const qfile *f, oct_qtensor **out, float **scales, int32_t **zero_points)
{
    oct_shape shape;
    oct_qformat format;
    oct_qparams params = {0};
    oct_error inner = {0};
    hid_t set, memory, in_file;
    OCT_TRY(read_head(f, &shape, &format, &params.axis));
    OCT_TRY(read_params(f, scales, zero_points, &params.count));
    hssize_t count = elements(&shape);
    if (count < 0) return bad(f, "shape", "is negative or has more than 2^31 - 1 elements");
    if ((params.axis < 0) != (params.count == 1 && params.axis == -1))
        return bad(f, "axis", "and the number of scales contradict each other");
    params.scales = *scales;
    params.zero_points = *zero_points;
    code_types(format.type, &memory, &in_file);
    hssize_t items = (hssize_t)code_items(format.type, (size_t)count);
    OCT_TRY(open_dataset(f, &set, "codes", in_file, &items));
    if (oct_qtensor_make(out, &shape, &format, &params, &inner) != OCT_OK) {
        H5Dclose(set);
        return refuse(f, &inner);
    }
    OCT_TRY(read_dataset(f, set, "codes", memory, (*out)->data));
    return check_codes(f, *out);
}

oct_status oct_qtensor_load(oct_qtensor **out, const char *path, oct_error *error)
{
    oct_hdf5_silence silence;
    float *scales = NULL;
    int32_t *zero_points = NULL;
    *out = NULL;
    FILE *probe = fopen(path, "rb");
    if (!probe) return oct_fail(error, OCT_ERR_IO, "%s: cannot open", path);
    fclose(probe);
    oct_hdf5_silence_push(&silence);
    qfile f = {H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), path, error};
    oct_status status =
        f.file < 0 ? hdf5_error(&f, OCT_ERR_FORMAT, "the file", "open") : read_tensor(&f, out, &scales, &zero_points);
    if (f.file >= 0) H5Fclose(f.file);
    oct_hdf5_silence_pop(&silence);
    oct_free(scales);
    oct_free(zero_points);
    if (status == OCT_OK) return OCT_OK;
    oct_qtensor_destroy(*out);
    *out = NULL;
    return status;
}
