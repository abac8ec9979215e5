/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/qtensor.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "quant/int8/affine.h"
#include "quant/qtensor_internal.h"

static const char *const type_names[] = {"u8", "s8", "u16", "s16", "s4"};
static const char *const range_names[] = {"full", "narrow", "reduced"};
static const char *const rounding_names[] = {"even", "even-sum", "up", "away"};
enum { TYPES = 5, RANGES = 3, ROUNDINGS = 4 };

const char *oct_qtype_name(oct_qtype type)
{
    return (unsigned)type < TYPES ? type_names[type] : NULL;
}

const char *oct_qrange_name(oct_qrange range)
{
    return (unsigned)range < RANGES ? range_names[range] : NULL;
}

const char *oct_qrounding_name(oct_qrounding rounding)
{
    return (unsigned)rounding < ROUNDINGS ? rounding_names[rounding] : NULL;
}

static bool is_signed(oct_qtype type)
{
    return type == OCT_QTYPE_S8 || type == OCT_QTYPE_S16 || type == OCT_QTYPE_S4;
}

static int bits_of(oct_qtype type)
{
    return type == OCT_QTYPE_S4 ? 4 : type == OCT_QTYPE_U16 || type == OCT_QTYPE_S16 ? 16 : 8;
}

oct_status oct_qformat_limits(int *lo, int *hi, const oct_qformat *format, oct_error *error)
{
    if (!oct_qtype_name(format->type) || !oct_qrange_name(format->range) || !oct_qrounding_name(format->rounding))
        return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: type %d, range %d, rounding %d: unknown",
                        (int)format->type, (int)format->range, (int)format->rounding);
    bool has_sign = is_signed(format->type);
    if (format->range == OCT_QRANGE_NARROW && !has_sign)
        return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: unsigned codes have no narrow range");
    int bits = bits_of(format->type) - (format->range == OCT_QRANGE_REDUCED);
    *hi = (1 << (bits - has_sign)) - 1;
    *lo = !has_sign ? 0 : format->range == OCT_QRANGE_NARROW ? -*hi : -*hi - 1;
    return OCT_OK;
}

/* --- parameters --- */

static oct_status check_range(float lo, float hi, oct_error *error)
{
    if (isfinite(lo) && isfinite(hi) && lo <= hi) return OCT_OK;
    return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: range %g..%g: expected finite numbers in order",
                    (double)lo, (double)hi);
}

oct_status oct_qparams_of_range(float *scale, int32_t *zero_point, float lo, float hi, oct_qscheme scheme,
                                const oct_qformat *format, oct_error *error)
{
    int qmin = 0, qmax = 0;
    OCT_TRY(oct_qformat_limits(&qmin, &qmax, format, error));
    OCT_TRY(check_range(lo, hi, error));
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    bool has_sign = is_signed(format->type);
    float most = -lo > hi ? -lo : hi;
    int bits = bits_of(format->type) - (format->range == OCT_QRANGE_REDUCED);
    *zero_point = 0;
    switch (scheme) {
    case OCT_QSCHEME_AFFINE: oct_affine_parameters(scale, zero_point, lo, hi, qmin, qmax); return OCT_OK;
    case OCT_QSCHEME_SYMMETRIC:
        *scale = oct_affine_step(most, (float)(qmax - qmin) / 2);
        if (!has_sign) *zero_point = format->range == OCT_QRANGE_FULL ? 1 << (bits - 1) : (qmin + qmax) / 2;
        return OCT_OK;
    case OCT_QSCHEME_PO2: {
        float reach = has_sign ? most : hi;
        *scale = ldexpf(1.0f, oct_ceil_exponent(reach > 0x1p-16f ? (double)reach : 0x1p-16) - (bits - has_sign));
        return OCT_OK;
    }
    }
    return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: scheme: expected 0..2, found %d", (int)scheme);
}

static oct_status check_params(const oct_qparams *p, const oct_shape *shape, int lo, int hi, oct_error *error)
{
    if (p->count != 1 && (p->axis < 0 || p->axis >= shape->rank))
        return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: axis: expected 0..%d, found %d", shape->rank - 1,
                        p->axis);
    if (p->count != 1 && p->count != shape->dim[p->axis])
        return oct_fail(error, OCT_ERR_SHAPE, "quantized tensor: %d scales: expected 1 or %d, the size of axis %d",
                        p->count, shape->dim[p->axis], p->axis);
    for (int i = 0; i < p->count; i++) {
        float scale = p->scales[i];
        int32_t zero = p->zero_points ? p->zero_points[i] : 0;
        if (!(scale > 0) || !isfinite(scale) || !isfinite(1.0f / scale))
            return oct_fail(error, OCT_ERR_ARGUMENT,
                            "quantized tensor: scale %d: expected a number above 0 with an inverse, found %g", i,
                            (double)scale);
        if (zero < lo || zero > hi)
            return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: zero point %d: expected %d..%d, found %d", i,
                            lo, hi, zero);
    }
    return OCT_OK;
}

/* --- making --- */

static oct_status count_elements(size_t *count, const oct_shape *shape, oct_error *error)
{
    if (shape->rank < 0 || shape->rank > OCT_MAX_RANK)
        return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: rank: expected 0..%d, found %d", OCT_MAX_RANK,
                        shape->rank);
    *count = 1;
    bool fits = true;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] < 0)
            return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: dimension %d: expected at least 0, found %d",
                            i, shape->dim[i]);
        fits = fits && oct_size_mul(count, *count, (size_t)shape->dim[i]);
    }
    if (fits && *count <= INT32_MAX) return OCT_OK;
    return oct_fail(error, OCT_ERR_MEMORY, "quantized tensor: more than 2^31 - 1 elements");
}

oct_status oct_qtensor_make(oct_qtensor **out, const oct_shape *shape, const oct_qformat *format,
                            const oct_qparams *params, oct_error *error)
{
    int lo, hi;
    size_t count;
    *out = NULL;
    OCT_TRY(oct_qformat_limits(&lo, &hi, format, error));
    OCT_TRY(count_elements(&count, shape, error));
    OCT_TRY(check_params(params, shape, lo, hi, error));
    oct_qtensor *t = oct_calloc(1, sizeof *t);
    if (!t) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: quantized tensor");
    size_t n = (size_t)params->count;
    *t = (oct_qtensor){
        .shape = *shape, .format = *format, .count = count, .lo = lo, .hi = hi, .param_count = params->count};
    t->axis = params->count == 1 ? -1 : params->axis;
    t->inner = 1;
    for (int i = t->axis + 1; t->axis >= 0 && i < shape->rank; i++) t->inner *= (size_t)shape->dim[i];
    t->scales = oct_alloc(n, sizeof *t->scales);
    t->zero_points = oct_calloc(n, sizeof *t->zero_points);
    t->data = oct_calloc(oct_qtensor_bytes(t), 1);
    if (!t->scales || !t->zero_points || !t->data) {
        oct_qtensor_destroy(t);
        return oct_fail(error, OCT_ERR_MEMORY, "out of memory: quantized tensor of %zu elements", count);
    }
    memcpy(t->scales, params->scales, n * sizeof *t->scales);
    if (params->zero_points) memcpy(t->zero_points, params->zero_points, n * sizeof *t->zero_points);
    *out = t;
    return OCT_OK;
}

void oct_qtensor_destroy(oct_qtensor *t)
{
    if (!t) return;
    oct_free(t->scales);
    oct_free(t->zero_points);
    oct_free(t->data);
    oct_free(t);
}

/* Index of the scale and zero point of an element. */
static size_t param_at(const oct_qtensor *t, size_t position)
{
    return t->axis < 0 ? 0 : position / t->inner % (size_t)t->param_count;
}

/* --- codes in memory --- */

static int32_t load_code(const oct_qtensor *t, size_t i)
{
    switch (t->format.type) {
    case OCT_QTYPE_U8: return ((const uint8_t *)t->data)[i];
    case OCT_QTYPE_S8: return ((const int8_t *)t->data)[i];
    case OCT_QTYPE_U16: return ((const uint16_t *)t->data)[i];
    case OCT_QTYPE_S16: return ((const int16_t *)t->data)[i];
    default: break;
    }
    int nibble = ((const uint8_t *)t->data)[i / 2] >> (i % 2 ? 0 : 4) & 15;
    return nibble < 8 ? nibble : nibble - 16;
}

static void store_code(oct_qtensor *t, size_t i, int32_t code)
{
    switch (t->format.type) {
    case OCT_QTYPE_U8: ((uint8_t *)t->data)[i] = (uint8_t)code; return;
    case OCT_QTYPE_S8: ((int8_t *)t->data)[i] = (int8_t)code; return;
    case OCT_QTYPE_U16: ((uint16_t *)t->data)[i] = (uint16_t)code; return;
    case OCT_QTYPE_S16: ((int16_t *)t->data)[i] = (int16_t)code; return;
    default: break;
    }
    uint8_t *byte = (uint8_t *)t->data + i / 2;
    int shift = i % 2 ? 0 : 4;
    *byte = (uint8_t)((*byte & ~(15 << shift)) | (code & 15) << shift);
}

/* --- real to code and back --- */

/* Beyond any code of 16 bits with any zero point: rounding never leaves int32. */
static const float far_away = 0x1p18f;

static int32_t code_of(const oct_qtensor *t, size_t position, float x)
{
    size_t p = param_at(t, position);
    int32_t zero = t->zero_points[p];
    float v = x * (1.0f / t->scales[p]);
    v = v > -far_away ? v : -far_away;
    v = v < far_away ? v : far_away;
    switch (t->format.rounding) {
    case OCT_QROUND_EVEN_SUM: return oct_clamp_i32((int32_t)oct_round_even_f32(v + (float)zero), t->lo, t->hi);
    case OCT_QROUND_UP: return oct_clamp_i32((int32_t)oct_round_up_f32(v) + zero, t->lo, t->hi);
    case OCT_QROUND_AWAY: return oct_clamp_i32(oct_round_away_i32((double)v) + zero, t->lo, t->hi);
    default: return oct_clamp_i32((int32_t)oct_round_even_f32(v) + zero, t->lo, t->hi);
    }
}

static float value_at(const oct_qtensor *t, size_t position)
{
    size_t p = param_at(t, position);
    return (float)(load_code(t, position) - t->zero_points[p]) * t->scales[p];
}

static oct_status not_a_number(size_t position, oct_error *error)
{
    return oct_fail(error, OCT_ERR_NUMERIC, "quantized tensor: element %zu is NaN", position);
}

oct_status oct_qtensor_quantize(oct_qtensor **out, const float *values, const oct_shape *shape,
                                const oct_qformat *format, const oct_qparams *params, oct_error *error)
{
    oct_qtensor *t;
    *out = NULL;
    OCT_TRY(oct_qtensor_make(&t, shape, format, params, error));
    for (size_t i = 0; i < t->count; i++) {
        if (isnan(values[i])) {
            oct_qtensor_destroy(t);
            return not_a_number(i, error);
        }
        store_code(t, i, code_of(t, i, values[i]));
    }
    *out = t;
    return OCT_OK;
}

static oct_status check_code(const oct_qtensor *t, size_t position, int32_t code, oct_error *error)
{
    if (code >= t->lo && code <= t->hi) return OCT_OK;
    return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: code of element %zu: expected %d..%d, found %d",
                    position, t->lo, t->hi, code);
}

oct_status oct_qtensor_from_codes(oct_qtensor **out, const int32_t *codes, const oct_shape *shape,
                                  const oct_qformat *format, const oct_qparams *params, oct_error *error)
{
    oct_qtensor *t;
    *out = NULL;
    OCT_TRY(oct_qtensor_make(&t, shape, format, params, error));
    for (size_t i = 0; i < t->count; i++) {
        oct_status status = check_code(t, i, codes[i], error);
        if (status != OCT_OK) {
            oct_qtensor_destroy(t);
            return status;
        }
        store_code(t, i, codes[i]);
    }
    *out = t;
    return OCT_OK;
}

oct_status oct_qtensor_copy(oct_qtensor **out, const oct_qtensor *tensor, oct_error *error)
{
    oct_qparams params = oct_qtensor_params(tensor);
    OCT_TRY(oct_qtensor_make(out, &tensor->shape, &tensor->format, &params, error));
    memcpy((*out)->data, tensor->data, oct_qtensor_bytes(tensor));
    return OCT_OK;
}

/* --- reading and writing --- */

const oct_shape *oct_qtensor_shape(const oct_qtensor *tensor)
{
    return &tensor->shape;
}

const oct_qformat *oct_qtensor_format(const oct_qtensor *tensor)
{
    return &tensor->format;
}

oct_qparams oct_qtensor_params(const oct_qtensor *tensor)
{
    return (oct_qparams){tensor->scales, tensor->zero_points, tensor->param_count, tensor->axis};
}

size_t oct_qtensor_count(const oct_qtensor *tensor)
{
    return tensor->count;
}

size_t oct_qtensor_bytes(const oct_qtensor *tensor)
{
    return (tensor->count * (size_t)bits_of(tensor->format.type) + 7) / 8;
}

const void *oct_qtensor_data(const oct_qtensor *tensor)
{
    return tensor->data;
}

void oct_qtensor_codes(const oct_qtensor *tensor, int32_t *codes)
{
    for (size_t i = 0; i < tensor->count; i++) codes[i] = load_code(tensor, i);
}

void oct_qtensor_dequantize(const oct_qtensor *tensor, float *values)
{
    for (size_t i = 0; i < tensor->count; i++) values[i] = value_at(tensor, i);
}

static oct_status check_position(const oct_qtensor *t, size_t position, oct_error *error)
{
    if (position < t->count) return OCT_OK;
    return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: element %zu of %zu", position, t->count);
}

oct_status oct_qtensor_position(const oct_qtensor *tensor, size_t *position, const int32_t *index, oct_error *error)
{
    size_t at = 0;
    for (int i = 0; i < tensor->shape.rank; i++) {
        if (index[i] < 0 || index[i] >= tensor->shape.dim[i])
            return oct_fail(error, OCT_ERR_ARGUMENT, "quantized tensor: index %d: expected 0..%d, found %d", i,
                            tensor->shape.dim[i] - 1, index[i]);
        at = at * (size_t)tensor->shape.dim[i] + (size_t)index[i];
    }
    *position = at;
    return OCT_OK;
}

oct_status oct_qtensor_code(const oct_qtensor *tensor, size_t position, int32_t *code, oct_error *error)
{
    OCT_TRY(check_position(tensor, position, error));
    *code = load_code(tensor, position);
    return OCT_OK;
}

oct_status oct_qtensor_value(const oct_qtensor *tensor, size_t position, float *value, oct_error *error)
{
    OCT_TRY(check_position(tensor, position, error));
    *value = value_at(tensor, position);
    return OCT_OK;
}

oct_status oct_qtensor_set_code(oct_qtensor *tensor, size_t position, int32_t code, oct_error *error)
{
    OCT_TRY(check_position(tensor, position, error));
    OCT_TRY(check_code(tensor, position, code, error));
    store_code(tensor, position, code);
    return OCT_OK;
}

oct_status oct_qtensor_set_value(oct_qtensor *tensor, size_t position, float value, oct_error *error)
{
    OCT_TRY(check_position(tensor, position, error));
    if (isnan(value)) return not_a_number(position, error);
    store_code(tensor, position, code_of(tensor, position, value));
    return OCT_OK;
}

int oct_qtensor_equal(const oct_qtensor *a, const oct_qtensor *b)
{
    size_t n = (size_t)a->param_count;
    return oct_shape_equal(&a->shape, &b->shape) && a->format.type == b->format.type &&
           a->format.range == b->format.range && a->format.rounding == b->format.rounding && a->axis == b->axis &&
           a->param_count == b->param_count && !memcmp(a->scales, b->scales, n * sizeof *a->scales) &&
           !memcmp(a->zero_points, b->zero_points, n * sizeof *a->zero_points) &&
           !memcmp(a->data, b->data, oct_qtensor_bytes(a));
}

/* --- printing --- */

enum { LINE_BYTES = 256, DEFAULT_ROWS = 16 };

static void print_head(const oct_qtensor *t, oct_qtensor_line_fn *line, void *user)
{
    char shape[OCT_SHAPE_TEXT], params[96], text[LINE_BYTES];
    if (t->axis < 0)
        snprintf(params, sizeof params, "scale %.9g, zero point %d", (double)t->scales[0], t->zero_points[0]);
    else
        snprintf(params, sizeof params, "per channel of axis %d (%d)", t->axis, t->param_count);
    snprintf(text, sizeof text, "%s %s %s %s, %s", oct_qtype_name(t->format.type), oct_qrange_name(t->format.range),
             oct_shape_text(shape, &t->shape), params, oct_qrounding_name(t->format.rounding));
    line(user, text);
}

/* Reals of one row; what does not fit a line is left out and said so. */
static void print_row(const oct_qtensor *t, size_t first, size_t count, oct_qtensor_line_fn *line, void *user)
{
    char text[LINE_BYTES];
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        int n = snprintf(text + used, sizeof text - used, "%s%.6g", i ? " " : "", (double)value_at(t, first + i));
        used += (size_t)n;
        if (used + 24 < sizeof text) continue;
        if (i + 1 < count) snprintf(text + used, sizeof text - used, " ... (%zu)", count);
        break;
    }
    line(user, text);
}

void oct_qtensor_print(const oct_qtensor *t, int max_rows, oct_qtensor_line_fn *line, void *user)
{
    size_t row = t->shape.rank ? (size_t)t->shape.dim[t->shape.rank - 1] : 1;
    size_t rows = row ? t->count / row : 0, most = max_rows > 0 ? (size_t)max_rows : DEFAULT_ROWS;
    print_head(t, line, user);
    for (size_t r = 0; r < rows; r++) {
        if (rows > most && r == (most + 1) / 2) {
            line(user, "...");
            r = rows - most / 2;
            if (r == rows) break;
        }
        print_row(t, r * row, row, line, user);
    }
}
