/* SPDX-License-Identifier: BSD-2-Clause
 * Reader of the flat image. Every number is taken as hostile: offsets must be the canonical ones, so nothing can
 * overlap, lie outside, or be counted twice, and arrays are only touched after the shapes have been checked.
 */
#include "quant/int8/image.h"

#include <string.h>

#include "autograd/base/bytes.h"
#include "quant/int8/image_layout.h"

typedef struct reader {
    const uint8_t *bytes;
    size_t size;
    size_t at[SECTION_COUNT], used[SECTION_COUNT];
    size_t next_array; /* offset where the next array must start */
    oct_error *error;
} reader;

bool oct_int8_image_is(const uint8_t *bytes, size_t size)
{
    return size >= sizeof oct_int8_image_magic && !memcmp(bytes, oct_int8_image_magic, sizeof oct_int8_image_magic);
}

uint64_t oct_int8_image_stored_checksum(const uint8_t *bytes)
{
    return oct_load_le64(bytes + OCT_INT8_IMAGE_CHECKSUM_AT);
}

uint64_t oct_int8_image_checksum(const uint8_t *bytes, size_t size)
{
    return oct_digest(OCT_DIGEST_START, bytes + OCT_INT8_IMAGE_CHECKED_FROM, size - OCT_INT8_IMAGE_CHECKED_FROM);
}

static oct_status bad(reader *r, const char *what, size_t at)
{
    return oct_fail(r->error, OCT_ERR_FORMAT, "int8 image: %s at byte %zu", what, at);
}

static bool all_zero(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i]) return false;
    return true;
}

static oct_status check_zero(reader *r, size_t at, size_t count)
{
    return all_zero(r->bytes + at, count) ? OCT_OK : bad(r, "expected zeros", at);
}

static int get_i32(const uint8_t *p)
{
    uint32_t bits = oct_load_le32(p);
    return bits <= INT32_MAX ? (int)bits : (int)((int64_t)bits - (INT64_C(1) << 32));
}

static float get_f32(const uint8_t *p)
{
    uint32_t bits = oct_load_le32(p);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A count or index: 0..limit. */
static oct_status get_count(reader *r, int *value, size_t at, uint32_t limit, const char *what)
{
    uint32_t bits = oct_load_le32(r->bytes + at);
    if (bits > limit)
        return oct_fail(r->error, OCT_ERR_FORMAT, "int8 image: %s is %u at byte %zu, expected at most %u", what, bits,
                        at, limit);
    *value = (int)bits;
    return OCT_OK;
}

/* The section ends with a NUL, so a string that starts inside it ends inside it. */
static oct_status get_string(reader *r, const char **text, size_t at)
{
    uint32_t offset = oct_load_le32(r->bytes + at);
    if (offset >= r->used[SECTION_STRINGS]) return bad(r, "a name outside the strings section", at);
    *text = (const char *)r->bytes + r->at[SECTION_STRINGS] + offset;
    return OCT_OK;
}

/* Takes the next array: its record must say exactly (next offset, bytes), or (0, 0) when bytes is 0. */
static oct_status get_array(reader *r, const uint8_t **array, size_t record, size_t bytes)
{
    *array = NULL;
    uint64_t offset = oct_load_le64(r->bytes + record), stored = oct_load_le64(r->bytes + record + 8);
    if (stored != bytes || offset != (bytes ? r->next_array : 0))
        return oct_fail(
            r->error, OCT_ERR_FORMAT,
            "int8 image: the array described at byte %zu lies at %llu with %llu bytes, expected %zu with %zu", record,
            (unsigned long long)offset, (unsigned long long)stored, bytes ? r->next_array : 0, bytes);
    if (!bytes) return OCT_OK;
    size_t aligned = oct_size_align(bytes);
    if (aligned > r->size - r->next_array) return bad(r, "an array leaves the image", record);
    OCT_TRY(check_zero(r, r->next_array + bytes, aligned - bytes));
    *array = r->bytes + r->next_array;
    r->next_array += aligned;
    return OCT_OK;
}

static oct_status read_envelope(reader *r)
{
    const uint8_t *b = r->bytes;
    if (!oct_int8_image_is(b, r->size))
        return oct_fail(r->error, OCT_ERR_FORMAT, "int8 image: the magic is missing: this is something else");
    if (r->size < HEADER_BYTES)
        return oct_fail(r->error, OCT_ERR_FORMAT, "int8 image: %zu bytes, less than a header", r->size);
    uint32_t version = oct_load_le32(b + H_VERSION);
    if (version != OCT_INT8_IMAGE_VERSION)
        return oct_fail(r->error, OCT_ERR_UNSUPPORTED, "int8 image: version %u, this build reads %d", version,
                        OCT_INT8_IMAGE_VERSION);
    uint64_t size = oct_load_le64(b + H_SIZE);
    if (size != r->size)
        return oct_fail(r->error, OCT_ERR_FORMAT, "int8 image: %zu bytes, the header says %llu", r->size,
                        (unsigned long long)size);
    uint64_t stored = oct_int8_image_stored_checksum(b), found = oct_int8_image_checksum(b, r->size);
    if (stored != found)
        return oct_fail(r->error, OCT_ERR_FORMAT, "int8 image: checksum %016llx, the header says %016llx: damaged",
                        (unsigned long long)found, (unsigned long long)stored);
    OCT_TRY(check_zero(r, H_ZERO1, 4));
    return check_zero(r, H_ZERO3, HEADER_BYTES - H_ZERO3);
}

/* expected[s] = bytes of section s, SIZE_MAX where only the file knows (strings, arrays). */
static oct_status read_sections(reader *r, const size_t expected[SECTION_COUNT])
{
    size_t end = HEADER_BYTES;
    for (int s = 0; s < SECTION_COUNT; s++) {
        size_t record = H_SECTIONS + 16 * (size_t)s;
        uint64_t at = oct_load_le64(r->bytes + record), used = oct_load_le64(r->bytes + record + 8);
        if (at != end || used > r->size - end || (expected[s] != SIZE_MAX && used != expected[s]))
            return bad(r, "a section that is not where or as long as it must be, described", record);
        r->at[s] = end;
        r->used[s] = (size_t)used;
        size_t aligned = oct_size_align((size_t)used);
        if (aligned > r->size - end) return bad(r, "a section that leaves the image, described", record);
        OCT_TRY(check_zero(r, end + r->used[s], aligned - r->used[s]));
        end += aligned;
    }
    if (end != r->size) return bad(r, "bytes after the last section", end);
    size_t strings = r->used[SECTION_STRINGS];
    if (!strings || r->bytes[r->at[SECTION_STRINGS] + strings - 1])
        return bad(r, "expected a NUL at the end of the strings", r->at[SECTION_STRINGS] + strings);
    r->next_array = r->at[SECTION_ARRAYS];
    return OCT_OK;
}

static oct_status read_tensor(reader *r, oct_int8_tensor *t, bool affine, size_t at)
{
    int kind = 0;
    OCT_TRY(get_string(r, &t->name, at + T_NAME));
    OCT_TRY(get_count(r, &kind, at + T_KIND, OCT_INT8_SCORES, "tensor kind"));
    OCT_TRY(get_count(r, &t->is_signed, at + T_SIGNED, 1, "signedness"));
    t->kind = (oct_int8_kind)kind;
    t->height = get_i32(r->bytes + at + T_SHAPE);
    t->width = get_i32(r->bytes + at + T_SHAPE + 4);
    t->channels = get_i32(r->bytes + at + T_SHAPE + 8);
    t->exponent = get_i32(r->bytes + at + T_EXPONENT);
    if (!affine) OCT_TRY(check_zero(r, at + T_SCALE, T_ZERO2 - T_SCALE));
    t->scale = get_f32(r->bytes + at + T_SCALE);
    OCT_TRY(get_count(r, &t->zero_point, at + T_ZERO_POINT, 255, "zero point"));
    OCT_TRY(check_zero(r, at + T_ZERO1, 4));
    return check_zero(r, at + T_ZERO2, TENSOR_BYTES - T_ZERO2);
}

static oct_status read_layer(reader *r, oct_int8_layer *l, size_t at)
{
    const char *op = NULL;
    OCT_TRY(get_string(r, &l->name, at + L_NAME));
    OCT_TRY(get_string(r, &op, at + L_OP));
    l->op = oct_int8_op_from_name(op);
    if (l->op == OCT_INT8_OP_COUNT)
        return oct_fail(r->error, OCT_ERR_UNSUPPORTED, "int8 image: layer '%.255s' has the unknown operator '%.32s'",
                        l->name, op);
    OCT_TRY(get_count(r, &l->input_count, at + L_INPUT_COUNT, OCT_INT8_MAX_INPUTS, "number of inputs"));
    OCT_TRY(get_count(r, &l->output, at + L_OUTPUT, OCT_INT8_MAX_TENSORS - 1, "output tensor"));
    for (int i = 0; i < OCT_INT8_MAX_INPUTS; i++)
        OCT_TRY(get_count(r, &l->inputs[i], at + L_INPUTS + 4 * (size_t)i,
                          i < l->input_count ? OCT_INT8_MAX_TENSORS - 1 : 0, "input tensor"));
    int *geometry[GEOMETRY_FIELDS] = {&l->kernel_h,   &l->kernel_w,   &l->stride_h, &l->stride_w,
                                      &l->dilation_h, &l->dilation_w, &l->pad_top,  &l->pad_left,
                                      &l->pad_bottom, &l->pad_right,  &l->groups};
    for (int i = 0; i < GEOMETRY_FIELDS; i++) *geometry[i] = get_i32(r->bytes + at + L_GEOMETRY + 4 * (size_t)i);
    l->out_lo = get_i32(r->bytes + at + L_LIMITS);
    l->out_hi = get_i32(r->bytes + at + L_LIMITS + 4);
    l->table_rows = get_i32(r->bytes + at + L_TABLE_ROWS);
    l->weight_exponent_count = get_i32(r->bytes + at + L_EXPONENT_COUNT);
    l->option = get_i32(r->bytes + at + L_OPTION);
    return check_zero(r, at + L_ZERO2, LAYER_BYTES - L_ZERO2);
}

static oct_status read_tensor_arrays(reader *r, oct_int8_tensor *t, size_t at)
{
    const uint8_t *exponents;
    bool has = oct_load_le64(r->bytes + at + T_EXPONENTS + 8) != 0;
    OCT_TRY(get_array(r, &exponents, at + T_EXPONENTS, has ? (size_t)t->channels : 0));
    t->exponents = (const int8_t *)exponents;
    return OCT_OK;
}

static oct_status read_scales(reader *r, oct_arena *arena, oct_int8_layer *l, const uint8_t *array, size_t count)
{
    float *scales = oct_arena_alloc(arena, count, sizeof *scales);
    if (!scales) return oct_fail(r->error, OCT_ERR_MEMORY, "out of memory: weight scales of layer '%s'", l->name);
    for (size_t i = 0; i < count; i++) scales[i] = get_f32(array + 4 * i);
    l->weight_scales = scales;
    return OCT_OK;
}

static oct_status read_layer_arrays(reader *r, oct_arena *arena, const oct_int8_spec *spec, oct_int8_layer *l,
                                    size_t at)
{
    bool weights = oct_int8_op_has_weights(l->op), affine = oct_int8_spec_is_affine(spec);
    size_t outputs = weights ? (size_t)oct_int8_layer_outputs(spec, l) : 0;
    size_t scales = weights ? (size_t)l->weight_exponent_count : 0;
    const size_t bytes[ARRAY_COUNT] = {256 * (size_t)l->table_rows, oct_int8_weight_count(spec, l),
                                       affine ? 4 * scales : scales, 4 * outputs};
    const uint8_t *array[ARRAY_COUNT];
    for (int i = 0; i < ARRAY_COUNT; i++) OCT_TRY(get_array(r, &array[i], at + L_ARRAYS + 16 * (size_t)i, bytes[i]));
    l->table = array[ARRAY_TABLE];
    l->weights = (const int8_t *)array[ARRAY_WEIGHTS];
    if (!affine) l->weight_exponents = (const int8_t *)array[ARRAY_EXPONENTS];
    if (!weights) return OCT_OK;
    if (affine) OCT_TRY(read_scales(r, arena, l, array[ARRAY_EXPONENTS], scales));
    int32_t *bias = oct_arena_alloc(arena, outputs, sizeof *bias);
    if (!bias) return oct_fail(r->error, OCT_ERR_MEMORY, "out of memory: biases of layer '%s'", l->name);
    for (size_t o = 0; o < outputs; o++) bias[o] = get_i32(array[ARRAY_BIAS] + 4 * o);
    l->bias = bias;
    return OCT_OK;
}

static oct_status read_information(reader *r, oct_arena *arena, oct_int8_spec *spec, int means)
{
    const char **names = oct_arena_alloc(arena, (size_t)spec->class_count, sizeof *names);
    float *floats = oct_arena_alloc(arena, 2 * (size_t)means, sizeof *floats);
    if (!names || !floats) return oct_fail(r->error, OCT_ERR_MEMORY, "out of memory: class names");
    for (int i = 0; i < spec->class_count; i++)
        OCT_TRY(get_string(r, &names[i], r->at[SECTION_CLASSES] + 4 * (size_t)i));
    for (int i = 0; i < 2 * means; i++) floats[i] = get_f32(r->bytes + r->at[SECTION_PREPROCESSING] + 4 * (size_t)i);
    if (spec->class_count) spec->class_names = names;
    if (means) {
        spec->mean = floats;
        spec->scale = floats + means;
    }
    return OCT_OK;
}

static oct_status read_rounding(reader *r, oct_int8_spec *spec)
{
    const char *name = NULL;
    if (!oct_int8_spec_is_affine(spec)) return check_zero(r, H_ROUNDING, 4);
    OCT_TRY(get_string(r, &name, H_ROUNDING));
    if (oct_int8_rounding_from_name(&spec->rounding, name)) return OCT_OK;
    return oct_fail(r->error, OCT_ERR_UNSUPPORTED, "int8 image: unknown rounding '%.32s'", name);
}

static oct_status read_counts(reader *r, oct_int8_spec *spec, int *means)
{
    OCT_TRY(get_count(r, &spec->tensor_count, H_TENSORS, OCT_INT8_MAX_TENSORS, "number of tensors"));
    OCT_TRY(get_count(r, &spec->layer_count, H_LAYERS, OCT_INT8_MAX_LAYERS, "number of layers"));
    OCT_TRY(get_count(r, &spec->class_count, H_CLASSES, OCT_INT8_MAX_CHANNELS, "number of class names"));
    OCT_TRY(get_count(r, &spec->input, H_INPUT, OCT_INT8_MAX_TENSORS - 1, "input tensor"));
    OCT_TRY(get_count(r, &spec->output, H_OUTPUT, OCT_INT8_MAX_TENSORS - 1, "output tensor"));
    OCT_TRY(get_count(r, &spec->resize, H_RESIZE, OCT_INT8_MAX_SIDE, "resize"));
    OCT_TRY(get_count(r, &spec->interpolation, H_INTERPOLATION, 1, "interpolation"));
    OCT_TRY(get_count(r, means, H_MEANS, OCT_INT8_MAX_CHANNELS, "number of means"));
    spec->source_digest = oct_load_le64(r->bytes + H_SOURCE);
    const size_t expected[SECTION_COUNT] = {TENSOR_BYTES * (size_t)spec->tensor_count,
                                            LAYER_BYTES * (size_t)spec->layer_count,
                                            4 * (size_t)spec->class_count,
                                            8 * (size_t)*means,
                                            SIZE_MAX,
                                            SIZE_MAX};
    OCT_TRY(read_sections(r, expected));
    OCT_TRY(get_string(r, &spec->profile, H_PROFILE));
    OCT_TRY(read_rounding(r, spec));
    return get_string(r, &spec->tool, H_TOOL);
}

static oct_status read_records(reader *r, oct_arena *arena, oct_int8_spec *spec)
{
    oct_int8_tensor *tensors = oct_arena_alloc(arena, (size_t)spec->tensor_count, sizeof *tensors);
    oct_int8_layer *layers = oct_arena_alloc(arena, (size_t)spec->layer_count, sizeof *layers);
    if (!tensors || !layers) return oct_fail(r->error, OCT_ERR_MEMORY, "out of memory: int8 model");
    size_t tensors_at = r->at[SECTION_TENSORS], layers_at = r->at[SECTION_LAYERS];
    for (int i = 0; i < spec->tensor_count; i++)
        OCT_TRY(read_tensor(r, &tensors[i], oct_int8_spec_is_affine(spec), tensors_at + TENSOR_BYTES * (size_t)i));
    for (int i = 0; i < spec->layer_count; i++)
        OCT_TRY(read_layer(r, &layers[i], layers_at + LAYER_BYTES * (size_t)i));
    spec->tensors = tensors;
    spec->layers = layers;
    OCT_TRY(oct_int8_spec_check_shapes(spec, r->error));
    for (int i = 0; i < spec->tensor_count; i++)
        OCT_TRY(read_tensor_arrays(r, &tensors[i], tensors_at + TENSOR_BYTES * (size_t)i));
    for (int i = 0; i < spec->layer_count; i++)
        OCT_TRY(read_layer_arrays(r, arena, spec, &layers[i], layers_at + LAYER_BYTES * (size_t)i));
    if (r->next_array != r->size || r->used[SECTION_ARRAYS] != r->size - r->at[SECTION_ARRAYS])
        return bad(r, "bytes after the last array", r->next_array);
    return OCT_OK;
}

oct_status oct_int8_image_parse(oct_int8_spec *spec, oct_arena *arena, const uint8_t *bytes, size_t size,
                                oct_error *error)
{
    reader r = {.bytes = bytes, .size = size, .error = error};
    int means = 0;
    *spec = (oct_int8_spec){0};
    OCT_TRY(read_envelope(&r));
    OCT_TRY(read_counts(&r, spec, &means));
    OCT_TRY(read_records(&r, arena, spec));
    if (means && means != spec->tensors[spec->input].channels)
        return oct_fail(error, OCT_ERR_FORMAT, "int8 image: %d means for %d input channels", means,
                        spec->tensors[spec->input].channels);
    OCT_TRY(read_information(&r, arena, spec, means));
    return oct_int8_spec_check(spec, error);
}
