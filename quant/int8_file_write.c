/* SPDX-License-Identifier: BSD-2-Clause
 * Spec -> HDF5 file, in memory.
 */
#include <stdio.h>
#include <string.h>

#include "autograd/base/bytes.h"
#include "layers/state_hdf5.h"
#include "quant/int8_file.h"
#include "quant/int8_file_internal.h"

typedef struct writer {
    hid_t file, group_plist, dataset_plist; /* objects without times */
    const char *path;
    const char *object; /* being written, for messages */
    oct_error *error;
} writer;

static const char about[] =
    "Octet int8 model, profile po2: real value = code * 2^-exponent. conv, depthwise, linear: acc = bias "
    "+ sum(weights * input), padding is code 0; output code = clamp(floor(acc * 2^-n + 1/2), limits) "
    "with n = exponent of the input + exponent of the weights - exponent of the output; scores are acc "
    "itself. add and mul work on values and round once; concat and rescale round each input; "
    "average_pool rounds the exact mean of the pixels inside the image; lookup replaces input byte b of "
    "channel c by table[c][b]. Weights are out, height, width, in (depthwise: height, width, channel); "
    "tensors are height, width, channel.";

static const char about_affine[] =
    "Octet int8 model, profile affine: real value = (code - zero_point) * scale, weight = code * weight scale. "
    "conv, depthwise, linear: acc = bias + sum(weights * (input - its zero point)), padding is the zero point; output "
    "code = clamp(round(acc * M) + zero point, limits), M = input scale * weight scale / output scale; scores are acc "
    "itself, worth input scale * weight scale each. Rounding float: (float)acc * (float)M, then to the nearest even "
    "integer; single, double: M as a 31-bit fixed-point number, rounded once or twice. add, mul, concat, rescale and "
    "average_pool round alike. Weights are out, height, width, in (depthwise: height, width, channel); tensors are "
    "height, width, channel.";

static oct_status write_error(const writer *w, const char *name)
{
    char reason[OCT_HDF5_REASON];
    return oct_fail(w->error, OCT_ERR_IO, "%s: %s: cannot write '%s': %s", w->path, w->object, name,
                    oct_hdf5_reason(reason));
}

/* count 0 = scalar. */
static oct_status put_attribute(const writer *w, hid_t at, const char *name, hid_t file_type, hid_t memory_type,
                                hsize_t count, const void *data)
{
    hid_t space = count ? H5Screate_simple(1, &count, NULL) : H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(at, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    oct_status status = OCT_OK;
    if (attribute < 0 || H5Awrite(attribute, memory_type, data) < 0) status = write_error(w, name);
    if (attribute >= 0) H5Aclose(attribute);
    if (space >= 0) H5Sclose(space);
    return status;
}

static oct_status put_ints(const writer *w, hid_t at, const char *name, const int *values, hsize_t count)
{
    return put_attribute(w, at, name, H5T_STD_I32LE, H5T_NATIVE_INT, count, values);
}

static oct_status put_int(const writer *w, hid_t at, const char *name, int value)
{
    return put_ints(w, at, name, &value, 0);
}

static oct_status put_u64(const writer *w, hid_t at, const char *name, uint64_t value)
{
    return put_attribute(w, at, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, 0, &value);
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

static oct_status put_text(const writer *w, hid_t at, const char *name, const char *text)
{
    hid_t type = text_type(strlen(text) + 1);
    if (type < 0) return write_error(w, name);
    oct_status status = put_attribute(w, at, name, type, type, 0, text);
    H5Tclose(type);
    return status;
}

static oct_status put_dataset(const writer *w, hid_t at, const char *name, hid_t file_type, hid_t memory_type,
                              int rank, const hsize_t *dims, const void *data)
{
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t set = H5Dcreate2(at, name, file_type, space, H5P_DEFAULT, w->dataset_plist, H5P_DEFAULT);
    oct_status status = OCT_OK;
    if (set < 0 || H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) status = write_error(w, name);
    if (set >= 0 && H5Dclose(set) < 0 && status == OCT_OK) status = write_error(w, name);
    if (space >= 0) H5Sclose(space);
    return status;
}

/* All texts in one array, each padded with NULs to the longest. */
static oct_status put_texts(const writer *w, hid_t at, const char *name, const char *const *texts, size_t count,
                            bool as_attribute)
{
    size_t longest = 0;
    for (size_t i = 0; i < count; i++)
        if (strlen(texts[i]) > longest) longest = strlen(texts[i]);
    char *all = oct_calloc(count, longest + 1);
    if (!all) return oct_fail(w->error, OCT_ERR_MEMORY, "out of memory: %s", w->path);
    for (size_t i = 0; i < count; i++) memcpy(all + i * (longest + 1), texts[i], strlen(texts[i]));
    hid_t type = text_type(longest + 1);
    hsize_t dims[1] = {count};
    oct_status status = type < 0       ? write_error(w, name)
                        : as_attribute ? put_attribute(w, at, name, type, type, count, all)
                                       : put_dataset(w, at, name, type, type, 1, dims, all);
    if (type >= 0) H5Tclose(type);
    oct_free(all);
    return status;
}

/* "NNNN_name", slashes as dots: a link name may not contain them. */
static void link_name(char link[OCT_INT8_LINK_BYTES], int index, const char *name)
{
    snprintf(link, OCT_INT8_LINK_BYTES, "%04d_%.*s", index, OCT_INT8_MAX_NAME, name);
    for (char *c = link; *c; c++)
        if (*c == '/') *c = '.';
}

static oct_status put_tensor(const writer *w, hid_t at, const oct_int8_tensor *t, bool affine)
{
    const int shape[3] = {t->height, t->width, t->channels};
    const hsize_t channels = (hsize_t)t->channels;
    OCT_TRY(put_text(w, at, "name", t->name));
    OCT_TRY(put_text(w, at, "kind", oct_int8_kind_name(t->kind)));
    OCT_TRY(put_ints(w, at, "shape", shape, 3));
    OCT_TRY(put_int(w, at, "signed", t->is_signed));
    if (affine && t->kind == OCT_INT8_CODES) {
        OCT_TRY(put_attribute(w, at, "scale", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 0, &t->scale));
        return put_int(w, at, "zero_point", t->zero_point);
    }
    if (affine) return OCT_OK;
    OCT_TRY(put_int(w, at, "exponent", t->exponent));
    if (!t->exponents) return OCT_OK;
    return put_dataset(w, at, "exponents", H5T_STD_I8LE, H5T_NATIVE_INT8, 1, &channels, t->exponents);
}

static oct_status put_weights(const writer *w, hid_t at, const oct_int8_spec *spec, const oct_int8_layer *l)
{
    const hsize_t outputs = (hsize_t)oct_int8_layer_outputs(spec, l), count = oct_int8_weight_count(spec, l);
    const hsize_t kh = (hsize_t)l->kernel_h, kw = (hsize_t)l->kernel_w, exponents = (hsize_t)l->weight_exponent_count;
    hsize_t dims[4] = {outputs, kh, kw, 0};
    int rank = 4;
    if (l->op == OCT_INT8_LINEAR) {
        rank = 2;
        dims[1] = count / outputs;
    } else if (l->op == OCT_INT8_DEPTHWISE) {
        rank = 3;
        dims[0] = kh, dims[1] = kw, dims[2] = outputs;
    } else {
        dims[3] = count / (outputs * kh * kw);
    }
    OCT_TRY(put_dataset(w, at, "weights", H5T_STD_I8LE, H5T_NATIVE_INT8, rank, dims, l->weights));
    OCT_TRY(put_dataset(w, at, "bias", H5T_STD_I32LE, H5T_NATIVE_INT32, 1, &outputs, l->bias));
    if (l->weight_scales)
        return put_dataset(w, at, "scales", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &exponents, l->weight_scales);
    return put_dataset(w, at, "exponents", H5T_STD_I8LE, H5T_NATIVE_INT8, 1, &exponents, l->weight_exponents);
}

static oct_status put_geometry(const writer *w, hid_t at, const oct_int8_layer *l)
{
    const int kernel[2] = {l->kernel_h, l->kernel_w}, stride[2] = {l->stride_h, l->stride_w};
    const int dilation[2] = {l->dilation_h, l->dilation_w};
    const int padding[4] = {l->pad_top, l->pad_left, l->pad_bottom, l->pad_right};
    OCT_TRY(put_ints(w, at, "kernel", kernel, 2));
    OCT_TRY(put_ints(w, at, "stride", stride, 2));
    OCT_TRY(put_ints(w, at, "dilation", dilation, 2));
    OCT_TRY(put_ints(w, at, "padding", padding, 4));
    return put_int(w, at, "groups", l->groups);
}

static oct_status put_layer(const writer *w, hid_t at, const oct_int8_spec *spec, const oct_int8_layer *l)
{
    const char *inputs[OCT_INT8_MAX_INPUTS];
    for (int i = 0; i < l->input_count; i++) inputs[i] = spec->tensors[l->inputs[i]].name;
    const int limits[2] = {l->out_lo, l->out_hi};
    OCT_TRY(put_text(w, at, "name", l->name));
    OCT_TRY(put_text(w, at, "op", oct_int8_op_name(l->op)));
    OCT_TRY(put_texts(w, at, "inputs", inputs, (size_t)l->input_count, true));
    OCT_TRY(put_text(w, at, "output", spec->tensors[l->output].name));
    if (oct_int8_op_has_geometry(l->op)) OCT_TRY(put_geometry(w, at, l));
    if (oct_int8_op_has_limits(l->op) && spec->tensors[l->output].kind == OCT_INT8_CODES)
        OCT_TRY(put_ints(w, at, "limits", limits, 2));
    if (oct_int8_op_has_weights(l->op)) OCT_TRY(put_weights(w, at, spec, l));
    if (oct_int8_op_has_option(l->op)) OCT_TRY(put_int(w, at, "option", l->option));
    if (!oct_int8_op_has_table(l->op)) return OCT_OK;
    const hsize_t dims[2] = {(hsize_t)l->table_rows, 256};
    return put_dataset(w, at, "table", H5T_STD_U8LE, H5T_NATIVE_UINT8, 2, dims, l->table);
}

/* A group below the root or another group; the caller closes it. */
static oct_status make_group(const writer *w, hid_t *group, hid_t at, const char *name)
{
    *group = H5Gcreate2(at, name, H5P_DEFAULT, w->group_plist, H5P_DEFAULT);
    return *group < 0 ? write_error(w, name) : OCT_OK;
}

static oct_status put_tensors(writer *w, const oct_int8_spec *spec)
{
    hid_t parent;
    OCT_TRY(make_group(w, &parent, w->file, "tensors"));
    oct_status status = OCT_OK;
    for (int i = 0; i < spec->tensor_count && status == OCT_OK; i++) {
        char link[OCT_INT8_LINK_BYTES];
        hid_t group;
        w->object = spec->tensors[i].name;
        link_name(link, i, spec->tensors[i].name);
        status = make_group(w, &group, parent, link);
        if (status != OCT_OK) break;
        status = put_tensor(w, group, &spec->tensors[i], oct_int8_spec_is_affine(spec));
        H5Gclose(group);
    }
    H5Gclose(parent);
    return status;
}

static oct_status put_layers(writer *w, const oct_int8_spec *spec)
{
    hid_t parent;
    OCT_TRY(make_group(w, &parent, w->file, "layers"));
    oct_status status = OCT_OK;
    for (int i = 0; i < spec->layer_count && status == OCT_OK; i++) {
        char link[OCT_INT8_LINK_BYTES];
        hid_t group;
        w->object = spec->layers[i].name;
        link_name(link, i, spec->layers[i].name);
        status = make_group(w, &group, parent, link);
        if (status != OCT_OK) break;
        status = put_layer(w, group, spec, &spec->layers[i]);
        H5Gclose(group);
    }
    H5Gclose(parent);
    return status;
}

static oct_status put_preprocessing(writer *w, const oct_int8_spec *spec)
{
    hid_t group;
    const hsize_t channels = (hsize_t)spec->tensors[spec->input].channels;
    w->object = "/preprocessing";
    OCT_TRY(make_group(w, &group, w->file, "preprocessing"));
    oct_status status = put_int(w, group, "resize", spec->resize);
    if (spec->interpolation && status == OCT_OK)
        status = put_text(w, group, "interpolation", oct_int8_interpolation_name(spec->interpolation));
    if (spec->mean && status == OCT_OK)
        status = put_dataset(w, group, "mean", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &channels, spec->mean);
    if (spec->scale && status == OCT_OK)
        status = put_dataset(w, group, "scale", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &channels, spec->scale);
    H5Gclose(group);
    return status;
}

static oct_status put_model(writer *w, const oct_int8_spec *spec, uint64_t checksum)
{
    w->object = "/";
    OCT_TRY(put_text(w, w->file, "format", OCT_INT8_FILE_FORMAT));
    OCT_TRY(put_int(w, w->file, "version", OCT_INT8_FILE_VERSION));
    OCT_TRY(put_text(w, w->file, "profile", spec->profile));
    OCT_TRY(put_text(w, w->file, "tool", spec->tool));
    OCT_TRY(put_u64(w, w->file, "source_digest", spec->source_digest));
    OCT_TRY(put_u64(w, w->file, "checksum", checksum));
    OCT_TRY(put_text(w, w->file, "input", spec->tensors[spec->input].name));
    OCT_TRY(put_text(w, w->file, "output", spec->tensors[spec->output].name));
    bool affine = oct_int8_spec_is_affine(spec);
    if (affine) OCT_TRY(put_text(w, w->file, "rounding", oct_int8_rounding_name(spec->rounding)));
    OCT_TRY(put_text(w, w->file, "about", affine ? about_affine : about));
    if (spec->class_count)
        OCT_TRY(put_texts(w, w->file, "class_names", spec->class_names, (size_t)spec->class_count, false));
    OCT_TRY(put_preprocessing(w, spec));
    OCT_TRY(put_tensors(w, spec));
    return put_layers(w, spec);
}

/* A creation property list whose objects carry no times; negative on failure. */
static hid_t timeless(hid_t class)
{
    hid_t plist = H5Pcreate(class);
    if (plist >= 0 && H5Pset_obj_track_times(plist, 0) < 0) {
        H5Pclose(plist);
        return -1;
    }
    return plist;
}

/* The format of HDF5 1.8: its metadata carry checksums, so that damage is found by the library instead of leading it
 * astray. In memory only (the core driver): a full disk is then an ordinary failed write of base/file.h, and never a
 * library that cannot close its file. */
static hid_t create_file(const char *path)
{
    enum { GROWTH = 1 << 16 }; /* bytes by which it grows */
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = timeless(H5P_FILE_CREATE), file = -1;
    if (access >= 0 && creation >= 0 && H5Pset_fapl_core(access, GROWTH, 0) >= 0 &&
        H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0)
        file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    if (creation >= 0) H5Pclose(creation);
    if (access >= 0) H5Pclose(access);
    return file;
}

static uint32_t rotate(uint32_t x, int bits)
{
    return x << bits | x >> (32 - bits);
}

/* Jenkins' lookup3 of the 44 bytes before the checksum of a superblock of version 2 or 3: three rounds of three words,
 * then the last two words (HDF5 File Format Specification 3.0, II.A and VIII.A). */
static uint32_t superblock_checksum(const uint8_t *bytes)
{
    enum { WORDS = 11 };
    static const int mix[6] = {4, 6, 8, 16, 19, 4}, final[7] = {14, 11, 25, 16, 4, 14, 24};
    uint32_t s[3];
    s[0] = s[1] = s[2] = UINT32_C(0xdeadbeef) + 4 * WORDS;
    for (int word = 0; word < 9; word += 3) {
        for (int i = 0; i < 3; i++) s[i] += oct_load_le32(bytes + 4 * (word + i));
        for (int i = 0; i < 6; i++) { /* x -= z; x ^= z <<< n; z += y, with (x, y, z) moving on by one each time */
            uint32_t *x = &s[i % 3], *y = &s[(i + 1) % 3], *z = &s[(i + 2) % 3];
            *x = (*x - *z) ^ rotate(*z, mix[i]);
            *z += *y;
        }
    }
    s[0] += oct_load_le32(bytes + 36);
    s[1] += oct_load_le32(bytes + 40);
    for (int i = 0; i < 7; i++) { /* x ^= z; x -= z <<< n, beginning with x = the third */
        uint32_t *x = &s[(i + 2) % 3], z = s[(i + 1) % 3];
        *x = (*x ^ z) - rotate(z, final[i]);
    }
    return s[2];
}

/* H5Fget_file_image of HDF5 1.10 clears the superblock's "open for writing" flag but keeps the checksum that went with
 * it, and the file could not be opened: computed again. */
static void seal_superblock(uint8_t *bytes, size_t size)
{
    enum { VERSION_AT = 8, CHECKSUM_AT = 44, BYTES = 48 };
    if (size >= BYTES && bytes[VERSION_AT] >= 2) oct_store_le32(bytes + CHECKSUM_AT, superblock_checksum(bytes));
}

static oct_status take_bytes(const writer *w, uint8_t **bytes, size_t *size)
{
    ssize_t length = H5Fflush(w->file, H5F_SCOPE_GLOBAL) < 0 ? -1 : H5Fget_file_image(w->file, NULL, 0);
    if (length <= 0) return write_error(w, "the file");
    *bytes = oct_alloc((size_t)length, 1);
    if (!*bytes) return oct_fail(w->error, OCT_ERR_MEMORY, "out of memory: %s", w->path);
    if (H5Fget_file_image(w->file, *bytes, (size_t)length) != length) {
        oct_free(*bytes);
        *bytes = NULL;
        return write_error(w, "the file");
    }
    *size = (size_t)length;
    seal_superblock(*bytes, *size);
    return OCT_OK;
}

oct_status oct_int8_hdf5_write(uint8_t **bytes, size_t *size, const oct_int8_spec *spec, uint64_t checksum,
                               const char *path, oct_error *error)
{
    writer w = {.path = path, .object = "/", .error = error};
    oct_hdf5_silence silence;
    *bytes = NULL;
    *size = 0;
    oct_hdf5_silence_push(&silence);
    w.group_plist = timeless(H5P_GROUP_CREATE);
    w.dataset_plist = timeless(H5P_DATASET_CREATE);
    w.file = create_file(path);
    bool ready = w.group_plist >= 0 && w.dataset_plist >= 0 && w.file >= 0;
    oct_status status = ready ? put_model(&w, spec, checksum) : write_error(&w, "the file");
    if (status == OCT_OK) status = take_bytes(&w, bytes, size);
    if (w.file >= 0) H5Fclose(w.file);
    if (w.dataset_plist >= 0) H5Pclose(w.dataset_plist);
    if (w.group_plist >= 0) H5Pclose(w.group_plist);
    oct_hdf5_silence_pop(&silence);
    return status;
}
