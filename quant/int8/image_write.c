/* SPDX-License-Identifier: BSD-2-Clause
 * Writer of the flat image: one pass measures, one pass fills.
 */
#include <string.h>

#include "autograd/base/bytes.h"
#include "quant/int8/image.h"
#include "quant/int8/image_layout.h"

/* bytes NULL: only measure. `at` of a section is its start, `used` what has been put into it. */
typedef struct writer {
    uint8_t *bytes;
    size_t at[SECTION_COUNT], used[SECTION_COUNT];
} writer;

static uint32_t put_string(writer *w, const char *text)
{
    size_t at = w->used[SECTION_STRINGS], bytes = strlen(text) + 1;
    if (w->bytes) memcpy(w->bytes + w->at[SECTION_STRINGS] + at, text, bytes);
    w->used[SECTION_STRINGS] += bytes;
    return (uint32_t)at;
}

/* Reserves an array; writes (offset, bytes) at `record` and returns where its bytes go, NULL when only measuring. */
static uint8_t *put_array(writer *w, uint8_t *record, size_t bytes)
{
    if (!bytes) return NULL;
    size_t at = w->at[SECTION_ARRAYS] + w->used[SECTION_ARRAYS];
    w->used[SECTION_ARRAYS] += oct_size_align(bytes);
    if (!w->bytes) return NULL;
    oct_store_le64(record, at);
    oct_store_le64(record + 8, bytes);
    return w->bytes + at;
}

static void put_bytes(writer *w, uint8_t *record, const void *source, size_t bytes)
{
    uint8_t *to = put_array(w, record, source ? bytes : 0);
    if (to) memcpy(to, source, bytes);
}

static void put_i32(uint8_t *to, int value)
{
    oct_store_le32(to, (uint32_t)value);
}

static void put_f32(uint8_t *to, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    oct_store_le32(to, bits);
}

/* Records are filled into `scratch` when only measuring, so that both passes run the same code. */
static void put_tensor(writer *w, const oct_int8_tensor *t, bool affine, uint8_t *record)
{
    oct_store_le32(record + T_NAME, put_string(w, t->name));
    put_i32(record + T_KIND, (int)t->kind);
    put_i32(record + T_SHAPE, t->height);
    put_i32(record + T_SHAPE + 4, t->width);
    put_i32(record + T_SHAPE + 8, t->channels);
    put_i32(record + T_SIGNED, t->is_signed);
    put_i32(record + T_EXPONENT, t->exponent);
    if (affine) put_f32(record + T_SCALE, t->scale);
    put_i32(record + T_ZERO_POINT, t->zero_point);
    put_bytes(w, record + T_EXPONENTS, t->exponents, (size_t)t->channels);
}

static void put_layer(writer *w, const oct_int8_spec *spec, const oct_int8_layer *l, uint8_t *record)
{
    const int geometry[GEOMETRY_FIELDS] = {l->kernel_h,   l->kernel_w,   l->stride_h, l->stride_w,
                                           l->dilation_h, l->dilation_w, l->pad_top,  l->pad_left,
                                           l->pad_bottom, l->pad_right,  l->groups};
    oct_store_le32(record + L_NAME, put_string(w, l->name));
    oct_store_le32(record + L_OP, put_string(w, oct_int8_op_name(l->op)));
    put_i32(record + L_INPUT_COUNT, l->input_count);
    put_i32(record + L_OUTPUT, l->output);
    for (int i = 0; i < l->input_count; i++) put_i32(record + L_INPUTS + 4 * i, l->inputs[i]);
    for (int i = 0; i < GEOMETRY_FIELDS; i++) put_i32(record + L_GEOMETRY + 4 * i, geometry[i]);
    put_i32(record + L_LIMITS, l->out_lo);
    put_i32(record + L_LIMITS + 4, l->out_hi);
    put_i32(record + L_TABLE_ROWS, l->table_rows);
    put_i32(record + L_EXPONENT_COUNT, l->weight_exponent_count);
    put_i32(record + L_OPTION, l->option);
    uint8_t *arrays = record + L_ARRAYS;
    put_bytes(w, arrays + 16 * ARRAY_TABLE, l->table, 256 * (size_t)l->table_rows);
    if (!oct_int8_op_has_weights(l->op)) return;
    int outputs = oct_int8_layer_outputs(spec, l);
    put_bytes(w, arrays + 16 * ARRAY_WEIGHTS, l->weights, oct_int8_weight_count(spec, l));
    size_t scales = l->weight_scales ? (size_t)l->weight_exponent_count : 0;
    put_bytes(w, arrays + 16 * ARRAY_EXPONENTS, l->weight_exponents, (size_t)l->weight_exponent_count);
    uint8_t *scale = put_array(w, arrays + 16 * ARRAY_EXPONENTS, 4 * scales);
    for (size_t o = 0; scale && o < scales; o++) put_f32(scale + 4 * o, l->weight_scales[o]);
    uint8_t *bias = put_array(w, arrays + 16 * ARRAY_BIAS, 4 * (size_t)outputs);
    for (int o = 0; bias && o < outputs; o++) put_i32(bias + 4 * (size_t)o, l->bias[o]);
}

static void put_information(writer *w, const oct_int8_spec *spec)
{
    int means = spec->mean ? spec->tensors[spec->input].channels : 0;
    uint8_t *classes = w->bytes ? w->bytes + w->at[SECTION_CLASSES] : NULL;
    uint8_t *floats = w->bytes ? w->bytes + w->at[SECTION_PREPROCESSING] : NULL;
    for (int i = 0; i < spec->class_count; i++) {
        uint32_t name = put_string(w, spec->class_names[i]);
        if (classes) oct_store_le32(classes + 4 * (size_t)i, name);
    }
    w->used[SECTION_CLASSES] = 4 * (size_t)spec->class_count;
    for (int i = 0; floats && i < 2 * means; i++) {
        put_f32(floats + 4 * (size_t)i, i < means ? spec->mean[i] : spec->scale[i - means]);
    }
    w->used[SECTION_PREPROCESSING] = 8 * (size_t)means;
}

static void put_model(writer *w, const oct_int8_spec *spec)
{
    uint8_t scratch[LAYER_BYTES];
    bool affine = oct_int8_spec_is_affine(spec);
    uint32_t profile = put_string(w, spec->profile), tool = put_string(w, spec->tool);
    uint32_t rounding = affine ? put_string(w, oct_int8_rounding_name(spec->rounding)) : 0;
    if (w->bytes) {
        oct_store_le32(w->bytes + H_PROFILE, profile);
        oct_store_le32(w->bytes + H_TOOL, tool);
        oct_store_le32(w->bytes + H_ROUNDING, rounding);
    }
    for (int i = 0; i < spec->tensor_count; i++)
        put_tensor(w, &spec->tensors[i], affine,
                   w->bytes ? w->bytes + w->at[SECTION_TENSORS] + TENSOR_BYTES * (size_t)i : scratch);
    for (int i = 0; i < spec->layer_count; i++)
        put_layer(w, spec, &spec->layers[i],
                  w->bytes ? w->bytes + w->at[SECTION_LAYERS] + LAYER_BYTES * (size_t)i : scratch);
    put_information(w, spec);
    w->used[SECTION_TENSORS] = TENSOR_BYTES * (size_t)spec->tensor_count;
    w->used[SECTION_LAYERS] = LAYER_BYTES * (size_t)spec->layer_count;
}

static void put_header(writer *w, const oct_int8_spec *spec, size_t size)
{
    uint8_t *h = w->bytes;
    memcpy(h, oct_int8_image_magic, sizeof oct_int8_image_magic);
    oct_store_le32(h + H_VERSION, OCT_INT8_IMAGE_VERSION);
    oct_store_le64(h + H_SIZE, size);
    oct_store_le64(h + H_SOURCE, spec->source_digest);
    put_i32(h + H_TENSORS, spec->tensor_count);
    put_i32(h + H_LAYERS, spec->layer_count);
    put_i32(h + H_CLASSES, spec->class_count);
    put_i32(h + H_INPUT, spec->input);
    put_i32(h + H_OUTPUT, spec->output);
    put_i32(h + H_RESIZE, spec->resize);
    put_i32(h + H_INTERPOLATION, spec->interpolation);
    put_i32(h + H_MEANS, spec->mean ? spec->tensors[spec->input].channels : 0);
    for (int s = 0; s < SECTION_COUNT; s++) {
        oct_store_le64(h + H_SECTIONS + 16 * s, w->at[s]);
        oct_store_le64(h + H_SECTIONS + 16 * s + 8, w->used[s]);
    }
    oct_store_le64(h + H_CHECKSUM, oct_int8_image_checksum(h, size));
}

oct_status oct_int8_image_write(uint8_t **bytes, size_t *size, const oct_int8_spec *spec, oct_error *error)
{
    *bytes = NULL;
    *size = 0;
    OCT_TRY(oct_int8_spec_check(spec, error));
    writer measure = {0};
    put_model(&measure, spec);
    if (measure.used[SECTION_STRINGS] > INT32_MAX)
        return oct_fail(error, OCT_ERR_FORMAT, "int8 image: the names take more than 2 GiB");
    writer fill = {0};
    size_t end = HEADER_BYTES;
    for (int s = 0; s < SECTION_COUNT; s++) {
        fill.at[s] = end;
        end += oct_size_align(measure.used[s]);
    }
    fill.bytes = oct_calloc(end, 1);
    if (!fill.bytes) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: int8 image of %zu bytes", end);
    put_model(&fill, spec);
    put_header(&fill, spec, end);
    *bytes = fill.bytes;
    *size = end;
    return OCT_OK;
}
