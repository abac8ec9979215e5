/* SPDX-License-Identifier: BSD-2-Clause
 * HDF5 file -> spec. Nothing is taken on trust: links must be hard links, types and sizes must be the expected
 * ones before anything is allocated or read, and what the format does not know is refused.
 */
#include <stdio.h>
#include <string.h>

#include "layers/state_hdf5.h"
#include "quant/int8_file.h"
#include "quant/int8_file_internal.h"

typedef struct reader {
    const char *path;
    const char *object; /* being read, for messages */
    size_t *budget;     /* bytes that datasets may still take: no more than the file has */
    oct_arena *arena;
    oct_error *error;
} reader;

static oct_status read_error(const reader *r, const char *name)
{
    char reason[OCT_HDF5_REASON];
    return oct_fail(r->error, OCT_ERR_FORMAT, "%s: %s: cannot read '%s': %s", r->path, r->object, name,
                    oct_hdf5_reason(reason));
}

static oct_status bad(const reader *r, const char *name, const char *what)
{
    return oct_fail(r->error, OCT_ERR_FORMAT, "%s: %s: '%s' %s", r->path, r->object, name, what);
}

static oct_status no_memory(const reader *r)
{
    return oct_fail(r->error, OCT_ERR_MEMORY, "out of memory: %s", r->path);
}

static bool is_known(const char *name, const char *const *known)
{
    for (; *known; known++)
        if (!strcmp(name, *known)) return true;
    return false;
}

/* Every attribute of `at` must be in `known` (NULL-terminated). */
static oct_status check_attributes(const reader *r, hid_t at, const char *const *known)
{
    H5O_info_t info;
    if (H5Oget_info(at, &info) < 0) return read_error(r, "attributes");
    for (hsize_t i = 0; i < info.num_attrs; i++) {
        char name[64];
        ssize_t length = H5Aget_name_by_idx(at, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT);
        if (length < 0) return read_error(r, "attributes");
        if ((size_t)length >= sizeof name || !is_known(name, known)) return bad(r, name, "is an unknown attribute");
    }
    return OCT_OK;
}

/* Name of link i in name order; it must fit and be a hard link (no way into other files). */
static oct_status link_at(const reader *r, hid_t at, hsize_t i, char *name, size_t bytes)
{
    H5L_info_t info;
    ssize_t length = H5Lget_name_by_idx(at, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, bytes, H5P_DEFAULT);
    if (length < 0 || H5Lget_info_by_idx(at, ".", H5_INDEX_NAME, H5_ITER_INC, i, &info, H5P_DEFAULT) < 0)
        return read_error(r, "members");
    if ((size_t)length >= bytes) return bad(r, name, "is too long a name");
    if (info.type != H5L_TYPE_HARD) return bad(r, name, "is a soft or external link, expected an object");
    return OCT_OK;
}

static oct_status member_count(const reader *r, hid_t at, int *count, int limit)
{
    H5G_info_t info;
    if (H5Gget_info(at, &info) < 0) return read_error(r, "members");
    if (info.nlinks > (hsize_t)limit)
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: %s: %llu members, expected at most %d", r->path, r->object,
                        (unsigned long long)info.nlinks, limit);
    *count = (int)info.nlinks;
    return OCT_OK;
}

/* Every member of `at` must be in `known`, and a hard link. */
static oct_status check_members(const reader *r, hid_t at, const char *const *known)
{
    int count = 0;
    OCT_TRY(member_count(r, at, &count, 16));
    for (int i = 0; i < count; i++) {
        char name[OCT_INT8_LINK_BYTES];
        OCT_TRY(link_at(r, at, (hsize_t)i, name, sizeof name));
        if (!is_known(name, known)) return bad(r, name, "is an unknown member");
    }
    return OCT_OK;
}

/* `exists` as HDF5 answers: negative when it could not find out. */
static oct_status must_exist(const reader *r, htri_t exists, const char *name, const char *what)
{
    if (exists < 0) return read_error(r, name);
    if (exists > 0) return OCT_OK;
    return oct_fail(r->error, OCT_ERR_FORMAT, "%s: %s: '%s' is missing: expected a %s", r->path, r->object, name,
                    what);
}

static oct_status open_group(const reader *r, hid_t *group, hid_t at, const char *name)
{
    *group = -1;
    OCT_TRY(must_exist(r, H5Lexists(at, name, H5P_DEFAULT), name, "group"));
    *group = H5Gopen2(at, name, H5P_DEFAULT);
    return *group < 0 ? read_error(r, name) : OCT_OK;
}

static oct_status open_attribute(const reader *r, hid_t *attribute, hid_t at, const char *name, hsize_t *points)
{
    OCT_TRY(must_exist(r, H5Aexists(at, name), name, "number or text attribute"));
    *attribute = H5Aopen(at, name, H5P_DEFAULT);
    if (*attribute < 0) return read_error(r, name);
    hid_t space = H5Aget_space(*attribute);
    hssize_t count = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    if (space >= 0) H5Sclose(space);
    if (count < 0) {
        H5Aclose(*attribute);
        return read_error(r, name);
    }
    *points = (hsize_t)count;
    return OCT_OK;
}

static bool has_type(hid_t type, hid_t expected)
{
    return type >= 0 && H5Tequal(type, expected) > 0;
}

/* `count` numbers of exactly file_type. */
static oct_status get_numbers(const reader *r, hid_t at, const char *name, hid_t file_type, hid_t memory_type,
                              hsize_t count, void *values)
{
    hid_t attribute = -1;
    hsize_t points = 0;
    OCT_TRY(open_attribute(r, &attribute, at, name, &points));
    hid_t type = H5Aget_type(attribute);
    oct_status status = OCT_OK;
    if (!has_type(type, file_type) || points != count)
        status = bad(r, name, "has another type or count of numbers than the format says");
    else if (H5Aread(attribute, memory_type, values) < 0)
        status = read_error(r, name);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return status;
}

static oct_status get_ints(const reader *r, hid_t at, const char *name, int *values, hsize_t count)
{
    return get_numbers(r, at, name, H5T_STD_I32LE, H5T_NATIVE_INT, count, values);
}

/* Bytes of one element of a fixed-length text type, 0 when it is none or longer than names may be. */
static size_t text_bytes(hid_t type)
{
    if (type < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0) return 0;
    size_t bytes = H5Tget_size(type);
    return bytes <= OCT_INT8_MAX_NAME + 1 ? bytes : 0;
}

/* The memory type for texts of a file's type (ASCII or UTF-8): one byte longer, so that even a text without a NUL
 * gets one. */
static hid_t text_type(hid_t in_file, size_t bytes)
{
    hid_t type = H5Tcopy(in_file);
    if (type >= 0 && (H5Tset_size(type, bytes + 1) < 0 || H5Tset_strpad(type, H5T_STR_NULLTERM) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

/* texts[i] = text i, all in the arena. 1..limit texts; *count = how many. */
static oct_status get_texts(const reader *r, hid_t at, const char *name, const char **texts, int *count, int limit)
{
    hid_t attribute = -1;
    hsize_t points = 0;
    OCT_TRY(open_attribute(r, &attribute, at, name, &points));
    hid_t type = H5Aget_type(attribute), memory = -1;
    size_t bytes = text_bytes(type);
    oct_status status = OCT_OK;
    char *all = NULL;
    if (!bytes || points < 1 || points > (hsize_t)limit) {
        status = bad(r, name, "is not fixed-length text of the expected count and length");
    } else if (!(all = oct_arena_alloc(r->arena, (size_t)points, bytes + 1))) {
        status = no_memory(r);
    } else if ((memory = text_type(type, bytes)) < 0 || H5Aread(attribute, memory, all) < 0) {
        status = read_error(r, name);
    }
    for (hsize_t i = 0; status == OCT_OK && i < points; i++) texts[i] = all + i * (bytes + 1);
    *count = (int)points;
    if (memory >= 0) H5Tclose(memory);
    if (type >= 0) H5Tclose(type);
    H5Aclose(attribute);
    return status;
}

static oct_status get_text(const reader *r, hid_t at, const char *name, const char **text)
{
    int count = 0;
    return get_texts(r, at, name, text, &count, 1);
}

/* No external files, virtual datasets, filters or holes: the bytes must lie in this file as they are. */
static bool is_stored_here(hid_t set)
{
    hid_t plist = H5Dget_create_plist(set);
    H5D_layout_t layout = plist < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(plist);
    bool here = (layout == H5D_CONTIGUOUS || layout == H5D_COMPACT) && H5Pget_external_count(plist) == 0;
    if (plist >= 0) H5Pclose(plist);
    return here;
}

/* Opens a dataset whose type is `file_type` (negative: do not ask) and whose shape is dims[rank]. */
static oct_status open_dataset(const reader *r, hid_t *set, hid_t at, const char *name, hid_t file_type, int rank,
                               const hsize_t *dims)
{
    OCT_TRY(must_exist(r, H5Lexists(at, name, H5P_DEFAULT), name, "dataset"));
    *set = H5Dopen2(at, name, H5P_DEFAULT);
    if (*set < 0) return read_error(r, name);
    hid_t type = H5Dget_type(*set), space = H5Dget_space(*set);
    hsize_t found[4] = {0};
    bool fits = space >= 0 && H5Sget_simple_extent_ndims(space) == rank &&
                H5Sget_simple_extent_dims(space, found, NULL) == rank;
    for (int i = 0; fits && i < rank; i++) fits = found[i] == dims[i];
    bool typed = file_type < 0 || has_type(type, file_type);
    oct_status status = OCT_OK;
    if (!typed)
        status = bad(r, name, "has another number type than the format says");
    else if (!fits)
        status = bad(r, name, "does not have the shape that the layer or tensor asks for");
    else if (!is_stored_here(*set))
        status = bad(r, name, "is not stored plainly in this file");
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (status != OCT_OK) H5Dclose(*set);
    return status;
}

/* The file must really hold the `count` elements of a dataset: many links to one dataset, or one that was never
 * written, cannot make a small file ask for much memory. */
static oct_status take_budget(const reader *r, hid_t set, const char *name, size_t count, size_t element)
{
    size_t bytes;
    if (!oct_size_mul(&bytes, count, element) || H5Dget_storage_size(set) < bytes || bytes > *r->budget)
        return bad(r, name, "describes more than the file holds");
    *r->budget -= bytes;
    return OCT_OK;
}

/* *data = the dataset's numbers in the arena. */
static oct_status get_dataset(const reader *r, hid_t at, const char *name, hid_t file_type, hid_t memory_type,
                              size_t element, int rank, const hsize_t *dims, const void **data)
{
    hid_t set = -1;
    size_t count = 1;
    OCT_TRY(open_dataset(r, &set, at, name, file_type, rank, dims));
    for (int i = 0; i < rank; i++) count *= (size_t)dims[i];
    oct_status status = take_budget(r, set, name, count, element);
    void *block = status == OCT_OK ? oct_arena_alloc(r->arena, count, element) : NULL;
    if (status == OCT_OK && !block) status = no_memory(r);
    if (status == OCT_OK && H5Dread(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, block) < 0)
        status = read_error(r, name);
    H5Dclose(set);
    *data = block;
    return status;
}

static oct_status get_codes(const reader *r, hid_t at, const char *name, int rank, const hsize_t *dims,
                            const int8_t **data)
{
    const void *block = NULL;
    OCT_TRY(get_dataset(r, at, name, H5T_STD_I8LE, H5T_NATIVE_INT8, 1, rank, dims, &block));
    *data = block;
    return OCT_OK;
}

/* Index of the tensor of this name. */
static oct_status find_tensor(const reader *r, const oct_int8_spec *spec, const char *name, int *index)
{
    for (int i = 0; i < spec->tensor_count; i++) {
        if (strcmp(spec->tensors[i].name, name)) continue;
        *index = i;
        return OCT_OK;
    }
    return bad(r, name, "is the name of no tensor");
}

/* Which attributes and members a tensor has depends on profile and kind. */
static oct_status read_grid(const reader *r, hid_t at, oct_int8_tensor *t, bool affine)
{
    static const char *const po2[] = {"name", "kind", "shape", "signed", "exponent", NULL};
    static const char *const codes[] = {"name", "kind", "shape", "signed", "scale", "zero_point", NULL};
    static const char *const plain[] = {"name", "kind", "shape", "signed", NULL};
    static const char *const members[] = {"exponents", NULL}, *const none[] = {NULL};
    bool has_scale = affine && t->kind == OCT_INT8_CODES;
    OCT_TRY(check_attributes(r, at, !affine ? po2 : has_scale ? codes : plain));
    OCT_TRY(check_members(r, at, affine ? none : members));
    if (!affine) return get_ints(r, at, "exponent", &t->exponent, 1);
    if (!has_scale) return OCT_OK;
    OCT_TRY(get_numbers(r, at, "scale", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 1, &t->scale));
    return get_ints(r, at, "zero_point", &t->zero_point, 1);
}

static oct_status read_tensor(const reader *r, hid_t at, oct_int8_tensor *t, bool affine)
{
    const char *kind = NULL;
    int shape[3];
    OCT_TRY(get_text(r, at, "name", &t->name));
    OCT_TRY(get_text(r, at, "kind", &kind));
    OCT_TRY(get_ints(r, at, "shape", shape, 3));
    OCT_TRY(get_ints(r, at, "signed", &t->is_signed, 1));
    if (!oct_int8_kind_from_name(&t->kind, kind)) return bad(r, kind, "is an unknown kind of tensor");
    OCT_TRY(read_grid(r, at, t, affine));
    t->height = shape[0];
    t->width = shape[1];
    t->channels = shape[2];
    return OCT_OK;
}

static oct_status read_tensor_arrays(const reader *r, hid_t at, oct_int8_tensor *t)
{
    if (H5Lexists(at, "exponents", H5P_DEFAULT) <= 0) return OCT_OK;
    const hsize_t channels = (hsize_t)t->channels;
    return get_codes(r, at, "exponents", 1, &channels, &t->exponents);
}

static oct_status read_geometry(const reader *r, hid_t at, oct_int8_layer *l)
{
    int kernel[2], stride[2], dilation[2], padding[4];
    OCT_TRY(get_ints(r, at, "kernel", kernel, 2));
    OCT_TRY(get_ints(r, at, "stride", stride, 2));
    OCT_TRY(get_ints(r, at, "dilation", dilation, 2));
    OCT_TRY(get_ints(r, at, "padding", padding, 4));
    OCT_TRY(get_ints(r, at, "groups", &l->groups, 1));
    l->kernel_h = kernel[0], l->kernel_w = kernel[1];
    l->stride_h = stride[0], l->stride_w = stride[1];
    l->dilation_h = dilation[0], l->dilation_w = dilation[1];
    l->pad_top = padding[0], l->pad_left = padding[1], l->pad_bottom = padding[2], l->pad_right = padding[3];
    return OCT_OK;
}

/* First extent of a dataset that the shapes do not determine (table rows, number of exponents), at most `limit`. */
static oct_status first_extent(const reader *r, hid_t at, const char *name, int *extent, int limit)
{
    OCT_TRY(must_exist(r, H5Lexists(at, name, H5P_DEFAULT), name, "dataset"));
    hid_t set = H5Dopen2(at, name, H5P_DEFAULT);
    if (set < 0) return read_error(r, name);
    hid_t space = H5Dget_space(set);
    hsize_t dims[H5S_MAX_RANK] = {0};
    int rank = space < 0 ? -1 : H5Sget_simple_extent_dims(space, dims, NULL);
    if (space >= 0) H5Sclose(space);
    H5Dclose(set);
    if (rank < 1 || dims[0] < 1 || dims[0] > (hsize_t)limit) return bad(r, name, "has no or too many rows");
    *extent = (int)dims[0];
    return OCT_OK;
}

/* Attributes and members that a layer of this operator has. */
static oct_status check_layer_members(const reader *r, hid_t at, const oct_int8_layer *l, bool limits, bool affine)
{
    const char *attributes[16] = {"name", "op", "inputs", "output"}, *members[8] = {NULL};
    static const char *const geometry[] = {"kernel", "stride", "dilation", "padding", "groups"};
    int attribute_count = 4, member_count_ = 0;
    for (int i = 0; i < 5 && oct_int8_op_has_geometry(l->op); i++) attributes[attribute_count++] = geometry[i];
    if (limits) attributes[attribute_count++] = "limits";
    if (oct_int8_op_has_option(l->op)) attributes[attribute_count++] = "option";
    if (oct_int8_op_has_weights(l->op)) {
        members[member_count_++] = "weights";
        members[member_count_++] = "bias";
        members[member_count_++] = affine ? "scales" : "exponents";
    }
    if (oct_int8_op_has_table(l->op)) members[member_count_++] = "table";
    OCT_TRY(check_attributes(r, at, attributes));
    return check_members(r, at, members);
}

static oct_status read_layer(const reader *r, hid_t at, const oct_int8_spec *spec, oct_int8_layer *l)
{
    const char *op = NULL, *output = NULL, *inputs[OCT_INT8_MAX_INPUTS];
    OCT_TRY(get_text(r, at, "name", &l->name));
    OCT_TRY(get_text(r, at, "op", &op));
    OCT_TRY(get_texts(r, at, "inputs", inputs, &l->input_count, OCT_INT8_MAX_INPUTS));
    OCT_TRY(get_text(r, at, "output", &output));
    l->op = oct_int8_op_from_name(op);
    if (l->op == OCT_INT8_OP_COUNT)
        return oct_fail(r->error, OCT_ERR_UNSUPPORTED, "%s: %s: unknown operator '%s'", r->path, r->object, op);
    for (int i = 0; i < l->input_count; i++) OCT_TRY(find_tensor(r, spec, inputs[i], &l->inputs[i]));
    OCT_TRY(find_tensor(r, spec, output, &l->output));
    bool limits = oct_int8_op_has_limits(l->op) && spec->tensors[l->output].kind == OCT_INT8_CODES;
    bool affine = oct_int8_spec_is_affine(spec);
    OCT_TRY(check_layer_members(r, at, l, limits, affine));
    if (oct_int8_op_has_geometry(l->op)) OCT_TRY(read_geometry(r, at, l));
    if (limits) {
        int values[2];
        OCT_TRY(get_ints(r, at, "limits", values, 2));
        l->out_lo = values[0];
        l->out_hi = values[1];
    }
    if (oct_int8_op_has_weights(l->op))
        OCT_TRY(first_extent(r, at, affine ? "scales" : "exponents", &l->weight_exponent_count, OCT_INT8_MAX_CHANNELS));
    if (oct_int8_op_has_option(l->op)) OCT_TRY(get_ints(r, at, "option", &l->option, 1));
    if (oct_int8_op_has_table(l->op)) OCT_TRY(first_extent(r, at, "table", &l->table_rows, OCT_INT8_MAX_CHANNELS));
    return OCT_OK;
}

/* After the shapes have been checked. */
static oct_status read_layer_arrays(const reader *r, hid_t at, const oct_int8_spec *spec, oct_int8_layer *l)
{
    const void *block = NULL;
    if (oct_int8_op_has_table(l->op)) {
        const hsize_t dims[2] = {(hsize_t)l->table_rows, 256};
        OCT_TRY(get_dataset(r, at, "table", H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, 2, dims, &block));
        l->table = block;
    }
    if (!oct_int8_op_has_weights(l->op)) return OCT_OK;
    const hsize_t outputs = (hsize_t)oct_int8_layer_outputs(spec, l), count = oct_int8_weight_count(spec, l);
    const hsize_t kh = (hsize_t)l->kernel_h, kw = (hsize_t)l->kernel_w, exponents = (hsize_t)l->weight_exponent_count;
    const hsize_t linear[2] = {outputs, count / outputs}, depthwise[3] = {kh, kw, outputs};
    if (l->op == OCT_INT8_LINEAR) {
        OCT_TRY(get_codes(r, at, "weights", 2, linear, &l->weights));
    } else if (l->op == OCT_INT8_DEPTHWISE) {
        OCT_TRY(get_codes(r, at, "weights", 3, depthwise, &l->weights));
    } else {
        const hsize_t conv[4] = {outputs, kh, kw, count / (outputs * kh * kw)};
        OCT_TRY(get_codes(r, at, "weights", 4, conv, &l->weights));
    }
    if (oct_int8_spec_is_affine(spec)) {
        OCT_TRY(get_dataset(r, at, "scales", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, sizeof(float), 1, &exponents, &block));
        l->weight_scales = block;
    } else {
        OCT_TRY(get_codes(r, at, "exponents", 1, &exponents, &l->weight_exponents));
    }
    OCT_TRY(get_dataset(r, at, "bias", H5T_STD_I32LE, H5T_NATIVE_INT32, sizeof(int32_t), 1, &outputs, &block));
    l->bias = block;
    return OCT_OK;
}

typedef oct_status element_fn(const reader *r, hid_t at, oct_int8_spec *spec, int index);

static oct_status tensor_header(const reader *r, hid_t at, oct_int8_spec *spec, int index)
{
    return read_tensor(r, at, (oct_int8_tensor *)spec->tensors + index, oct_int8_spec_is_affine(spec));
}

static oct_status tensor_arrays(const reader *r, hid_t at, oct_int8_spec *spec, int index)
{
    return read_tensor_arrays(r, at, (oct_int8_tensor *)spec->tensors + index);
}

static oct_status layer_header(const reader *r, hid_t at, oct_int8_spec *spec, int index)
{
    return read_layer(r, at, spec, (oct_int8_layer *)spec->layers + index);
}

static oct_status layer_arrays(const reader *r, hid_t at, oct_int8_spec *spec, int index)
{
    return read_layer_arrays(r, at, spec, (oct_int8_layer *)spec->layers + index);
}

/* Calls fn for members "0000_…", "0001_…", … of `parent`. */
static oct_status for_each(const reader *r, hid_t parent, oct_int8_spec *spec, int count, element_fn *fn)
{
    for (int i = 0; i < count; i++) {
        char link[OCT_INT8_LINK_BYTES], number[16];
        hid_t group = -1;
        OCT_TRY(link_at(r, parent, (hsize_t)i, link, sizeof link));
        snprintf(number, sizeof number, "%04d_", i);
        if (strncmp(link, number, 5)) return bad(r, link, "does not carry its number: one is missing or twice there");
        reader inner = *r;
        inner.object = link;
        OCT_TRY(open_group(r, &group, parent, link));
        oct_status status = fn(&inner, group, spec, i);
        H5Gclose(group);
        OCT_TRY(status);
    }
    return OCT_OK;
}

/* Opens "tensors" and "layers", reads what needs no shapes, checks the shapes, then reads the arrays. */
static oct_status read_network(const reader *r, oct_int8_spec *spec, hid_t tensors, hid_t layers)
{
    OCT_TRY(member_count(r, tensors, &spec->tensor_count, OCT_INT8_MAX_TENSORS));
    OCT_TRY(member_count(r, layers, &spec->layer_count, OCT_INT8_MAX_LAYERS));
    spec->tensors = oct_arena_alloc(r->arena, (size_t)spec->tensor_count, sizeof *spec->tensors);
    spec->layers = oct_arena_alloc(r->arena, (size_t)spec->layer_count, sizeof *spec->layers);
    if (!spec->tensors || !spec->layers) return no_memory(r);
    OCT_TRY(for_each(r, tensors, spec, spec->tensor_count, tensor_header));
    return for_each(r, layers, spec, spec->layer_count, layer_header);
}

static oct_status read_preprocessing(const reader *r, hid_t at, oct_int8_spec *spec)
{
    static const char *const attributes[] = {"resize", "interpolation", NULL},
                             *const members[] = {"mean", "scale", NULL};
    const hsize_t channels = (hsize_t)spec->tensors[spec->input].channels;
    const void *block = NULL;
    OCT_TRY(check_attributes(r, at, attributes));
    OCT_TRY(check_members(r, at, members));
    if (H5Aexists(at, "interpolation") > 0) {
        const char *name = NULL;
        OCT_TRY(get_text(r, at, "interpolation", &name));
        spec->interpolation = oct_int8_interpolation_from_name(name);
        if (spec->interpolation < 0) return bad(r, "interpolation", "is neither bilinear nor bicubic");
    }
    if (H5Lexists(at, "mean", H5P_DEFAULT) <= 0 && H5Lexists(at, "scale", H5P_DEFAULT) <= 0) return OCT_OK;
    OCT_TRY(get_dataset(r, at, "mean", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, sizeof(float), 1, &channels, &block));
    spec->mean = block;
    OCT_TRY(get_dataset(r, at, "scale", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, sizeof(float), 1, &channels, &block));
    spec->scale = block;
    return OCT_OK;
}

static oct_status read_class_names(const reader *r, hid_t file, oct_int8_spec *spec)
{
    if (H5Lexists(file, "class_names", H5P_DEFAULT) <= 0) return OCT_OK;
    const hsize_t count = (hsize_t)spec->tensors[spec->output].channels;
    hid_t set = -1;
    OCT_TRY(open_dataset(r, &set, file, "class_names", -1, 1, &count));
    hid_t type = H5Dget_type(set), memory = -1;
    size_t bytes = text_bytes(type);
    oct_status status = bytes ? OCT_OK : bad(r, "class_names", "is not fixed-length text of at most 255 bytes");
    if (status == OCT_OK) status = take_budget(r, set, "class_names", (size_t)count, bytes);
    char *all = status == OCT_OK ? oct_arena_alloc(r->arena, (size_t)count, bytes + 1) : NULL;
    const char **names = status == OCT_OK ? oct_arena_alloc(r->arena, (size_t)count, sizeof *names) : NULL;
    if (status == OCT_OK && (!all || !names)) status = no_memory(r);
    if (status == OCT_OK &&
        ((memory = text_type(type, bytes)) < 0 || H5Dread(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, all) < 0))
        status = read_error(r, "class_names");
    for (hsize_t i = 0; status == OCT_OK && i < count; i++) names[i] = all + i * (bytes + 1);
    spec->class_names = names;
    spec->class_count = (int)count;
    if (memory >= 0) H5Tclose(memory);
    if (type >= 0) H5Tclose(type);
    H5Dclose(set);
    return status;
}

static oct_status read_root(const reader *r, hid_t file, oct_int8_spec *spec, uint64_t *checksum)
{
    static const char *const attributes[] = {"format",   "version", "profile", "tool",  "source_digest",
                                             "checksum", "input",   "output",  "about", NULL};
    static const char *const affine_attributes[] = {"format",   "version", "profile", "tool",  "source_digest", "rounding",
                                                    "checksum", "input",   "output",  "about", NULL};
    static const char *const members[] = {"tensors", "layers", "preprocessing", "class_names", NULL};
    const char *format = NULL, *rounding = NULL;
    int version = 0;
    OCT_TRY(get_text(r, file, "format", &format));
    if (strcmp(format, OCT_INT8_FILE_FORMAT))
        return oct_fail(r->error, OCT_ERR_FORMAT, "%s: format '%s', expected '%s'", r->path, format,
                        OCT_INT8_FILE_FORMAT);
    OCT_TRY(get_ints(r, file, "version", &version, 1));
    if (version != OCT_INT8_FILE_VERSION)
        return oct_fail(r->error, OCT_ERR_UNSUPPORTED, "%s: version %d, this build reads %d", r->path, version,
                        OCT_INT8_FILE_VERSION);
    OCT_TRY(get_text(r, file, "profile", &spec->profile));
    bool affine = oct_int8_spec_is_affine(spec);
    if (!affine && strcmp(spec->profile, OCT_INT8_PROFILE_PO2))
        return oct_fail(r->error, OCT_ERR_UNSUPPORTED, "%s: profile '%s', this build knows '%s' and '%s'", r->path,
                        spec->profile, OCT_INT8_PROFILE_PO2, OCT_INT8_PROFILE_AFFINE);
    OCT_TRY(check_attributes(r, file, affine ? affine_attributes : attributes));
    if (affine) OCT_TRY(get_text(r, file, "rounding", &rounding));
    if (affine && !oct_int8_rounding_from_name(&spec->rounding, rounding))
        return oct_fail(r->error, OCT_ERR_UNSUPPORTED, "%s: unknown rounding '%s'", r->path, rounding);
    OCT_TRY(check_members(r, file, members));
    OCT_TRY(get_text(r, file, "tool", &spec->tool));
    OCT_TRY(get_numbers(r, file, "source_digest", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, &spec->source_digest));
    return get_numbers(r, file, "checksum", H5T_STD_U64LE, H5T_NATIVE_UINT64, 1, checksum);
}

static oct_status read_ends(const reader *r, hid_t file, oct_int8_spec *spec)
{
    const char *name = NULL;
    OCT_TRY(get_text(r, file, "input", &name));
    OCT_TRY(find_tensor(r, spec, name, &spec->input));
    OCT_TRY(get_text(r, file, "output", &name));
    return find_tensor(r, spec, name, &spec->output);
}

/* A check of quant/int8 does not know the file's name. */
static oct_status check_shapes(const reader *r, const oct_int8_spec *spec)
{
    oct_error inner = {0};
    if (oct_int8_spec_check_shapes(spec, &inner) == OCT_OK) return OCT_OK;
    return oct_fail(r->error, inner.status, "%s: %s", r->path, inner.message);
}

static oct_status read_groups(const reader *r, hid_t file, oct_int8_spec *spec, const hid_t group[3])
{
    OCT_TRY(read_network(r, spec, group[0], group[1]));
    OCT_TRY(read_ends(r, file, spec));
    OCT_TRY(get_ints(r, group[2], "resize", &spec->resize, 1));
    OCT_TRY(check_shapes(r, spec));
    OCT_TRY(for_each(r, group[0], spec, spec->tensor_count, tensor_arrays));
    OCT_TRY(for_each(r, group[1], spec, spec->layer_count, layer_arrays));
    OCT_TRY(read_preprocessing(r, group[2], spec));
    return read_class_names(r, file, spec);
}

static oct_status read_model(const reader *r, hid_t file, oct_int8_spec *spec, uint64_t *checksum)
{
    static const char *const names[3] = {"tensors", "layers", "preprocessing"};
    hid_t group[3] = {-1, -1, -1};
    OCT_TRY(read_root(r, file, spec, checksum));
    oct_status status = OCT_OK;
    for (int i = 0; i < 3 && status == OCT_OK; i++) status = open_group(r, &group[i], file, names[i]);
    if (status == OCT_OK) status = read_groups(r, file, spec, group);
    for (int i = 0; i < 3; i++)
        if (group[i] >= 0) H5Gclose(group[i]);
    return status;
}

bool oct_int8_hdf5_is(const char *path)
{
    oct_hdf5_silence silence;
    oct_hdf5_silence_push(&silence);
    htri_t answer = H5Fis_hdf5(path);
    oct_hdf5_silence_pop(&silence);
    return answer > 0;
}

oct_status oct_int8_hdf5_read(oct_int8_spec *spec, uint64_t *checksum, oct_arena *arena, const char *path,
                              oct_error *error)
{
    size_t budget = 0;
    reader r = {.path = path, .object = "/", .budget = &budget, .arena = arena, .error = error};
    hsize_t bytes = 0;
    oct_hdf5_silence silence;
    *spec = (oct_int8_spec){0};
    oct_hdf5_silence_push(&silence);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), file = -1;
    if (access >= 0 && H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
        file = H5Fopen(path, H5F_ACC_RDONLY, access);
    oct_status status = OCT_OK;
    if (file < 0 || H5Fget_filesize(file, &bytes) < 0) status = read_error(&r, "the file");
    budget = bytes < SIZE_MAX ? (size_t)bytes : SIZE_MAX;
    if (status == OCT_OK) status = read_model(&r, file, spec, checksum);
    if (file >= 0) H5Fclose(file);
    if (access >= 0) H5Pclose(access);
    oct_hdf5_silence_pop(&silence);
    return status;
}
