/* SPDX-License-Identifier: BSD-2-Clause
 * The check of a spec's arrays: weights, accumulator bounds, biases, exponents, shifts, tables, names.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/int8/spec.h"

enum { ACC_BOUND = 1 << 29, BIAS_BOUND = 1 << 30 };

static oct_status fail(oct_error *error, const oct_int8_layer *l, const char *what, int index, long long found,
                       const char *expected)
{
    return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): %s %d is %lld, expected %s", l->name,
                    oct_int8_op_name(l->op), what, index, found, expected);
}

static oct_status check_shift(const oct_int8_layer *l, int index, int shift, oct_error *error)
{
    if (shift < OCT_INT8_MIN_SHIFT || shift > OCT_INT8_MAX_SHIFT)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "layer '%s' (%s): the exponents ask for a shift by %d (channel or input %d), expected %d..%d",
                        l->name, oct_int8_op_name(l->op), shift, index, OCT_INT8_MIN_SHIFT, OCT_INT8_MAX_SHIFT);
    return OCT_OK;
}

/* Sum of |w| of one output; false when a code is outside [-127, 127]. stride: distance of one output's weights. */
static bool sum_weights(int64_t *sum, const int8_t *w, size_t count, size_t stride)
{
    int64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        int code = w[i * stride];
        if (code == -128) return false;
        total += abs(code);
    }
    *sum = total;
    return true;
}

static oct_status check_weight_scale(const oct_int8_layer *l, int o, oct_error *error)
{
    double scale = (double)l->weight_scales[l->weight_exponent_count == 1 ? 0 : o];
    if (scale >= 0x1p-60 && scale <= 0x1p60) return OCT_OK;
    return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): weight scale of output %d is %g, expected 2^-60..2^60", l->name,
                    oct_int8_op_name(l->op), o, scale);
}

static oct_status check_output_channel(const oct_int8_spec *spec, const oct_int8_layer *l, int o, oct_error *error)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]], *out = &spec->tensors[l->output];
    size_t outputs = (size_t)out->channels, count = oct_int8_weight_count(spec, l) / outputs;
    bool depthwise = l->op == OCT_INT8_DEPTHWISE;
    int64_t sum;
    if (!sum_weights(&sum, l->weights + (size_t)o * (depthwise ? 1 : count), count, depthwise ? outputs : 1))
        return fail(error, l, "a weight code of output", o, -128, "-127..127");
    if (255 * sum >= ACC_BOUND) return fail(error, l, "255 * sum|w| of output", o, 255 * sum, "less than 2^29");
    if (l->bias[o] >= BIAS_BOUND || l->bias[o] <= -BIAS_BOUND)
        return fail(error, l, "bias of output", o, l->bias[o], "less than 2^30 in magnitude");
    if (oct_int8_spec_is_affine(spec)) return check_weight_scale(l, o, error);
    int kw = oct_int8_weight_exponent(l, o);
    if (abs(kw) > OCT_INT8_MAX_EXPONENT) return fail(error, l, "weight exponent of output", o, kw, "-60..60");
    int acc = in->exponent + kw;
    if (out->kind == OCT_INT8_CODES) return check_shift(l, o, acc - out->exponent, error);
    if (oct_int8_tensor_exponent(out, o) != acc)
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): score exponent of output %d is %d, expected %d",
                        l->name, oct_int8_op_name(l->op), o, oct_int8_tensor_exponent(out, o), acc);
    return OCT_OK;
}

static oct_status check_weights(const oct_int8_spec *spec, const oct_int8_layer *l, oct_error *error)
{
    bool affine = oct_int8_spec_is_affine(spec);
    if (!l->weights || !l->bias || !(affine ? (const void *)l->weight_scales : (const void *)l->weight_exponents))
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): weights, biases or weight %s are missing", l->name,
                        oct_int8_op_name(l->op), affine ? "scales" : "exponents");
    for (int o = 0; o < oct_int8_layer_outputs(spec, l); o++) OCT_TRY(check_output_channel(spec, l, o, error));
    return OCT_OK;
}

static oct_status check_add(const oct_int8_layer *l, int ka, int kb, int ko, oct_error *error)
{
    int apart = abs(ka - kb), k = ka > kb ? ka : kb;
    if (apart > OCT_INT8_MAX_ADD_SHIFT)
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): exponents %d and %d are more than %d apart",
                        l->name, oct_int8_op_name(l->op), ka, kb, OCT_INT8_MAX_ADD_SHIFT);
    if (apart > 22 && k < ko)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "layer '%s' (%s): exponents %d and %d are far apart, expected an output exponent of at most "
                        "%d, found %d",
                        l->name, oct_int8_op_name(l->op), ka, kb, k, ko);
    return check_shift(l, 0, k - ko, error);
}

static oct_status check_exponents(const oct_int8_spec *spec, const oct_int8_layer *l, oct_error *error)
{
    if (oct_int8_spec_is_affine(spec)) return OCT_OK;
    int ka = spec->tensors[l->inputs[0]].exponent, ko = spec->tensors[l->output].exponent;
    switch (l->op) {
    case OCT_INT8_ADD:
    case OCT_INT8_SUB:
        return check_add(l, ka, spec->tensors[l->inputs[1]].exponent, ko, error);
    case OCT_INT8_MUL:
        return check_shift(l, 0, ka + spec->tensors[l->inputs[1]].exponent - ko, error);
    case OCT_INT8_CONCAT:
    case OCT_INT8_RESCALE:
        for (int i = 0; i < l->input_count; i++)
            OCT_TRY(check_shift(l, i, spec->tensors[l->inputs[i]].exponent - ko, error));
        return OCT_OK;
    case OCT_INT8_AVERAGE_POOL:
        if (abs(ko - ka) > 30)
            return oct_fail(error, OCT_ERR_FORMAT,
                            "layer '%s' (average_pool): exponents %d and %d are more than 30 apart", l->name, ka, ko);
        return OCT_OK;
    default:
        return OCT_OK;
    }
}

static oct_status check_layer_arrays(const oct_int8_spec *spec, const oct_int8_layer *l, oct_error *error)
{
    if (oct_int8_op_has_weights(l->op)) {
        OCT_TRY(check_weights(spec, l, error));
    } else if (l->weights || l->bias || l->weight_exponents || l->weight_scales) {
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): has weights, expected none", l->name,
                        oct_int8_op_name(l->op));
    }
    if (!l->table == oct_int8_op_has_table(l->op))
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): the table %s", l->name, oct_int8_op_name(l->op),
                        l->table ? "has no use here" : "is missing");
    /* Sums of 2^20 numbers stay far below 2^63, and the largest code's own makes them positive. */
    if (l->op == OCT_INT8_SOFTMAX && !(l->table[0] | l->table[256] | l->table[512]))
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (softmax): the table begins with 0", l->name);
    return check_exponents(spec, l, error);
}

static oct_status check_information(const oct_int8_spec *spec, oct_error *error)
{
    if (spec->class_count && !spec->class_names)
        return oct_fail(error, OCT_ERR_FORMAT, "int8 model: class names are missing");
    for (int i = 0; i < spec->class_count; i++)
        if (!spec->class_names[i] || strnlen(spec->class_names[i], OCT_INT8_MAX_NAME + 1) > OCT_INT8_MAX_NAME)
            return oct_fail(error, OCT_ERR_FORMAT, "int8 model: class name %d is missing or longer than %d bytes", i,
                            OCT_INT8_MAX_NAME);
    if (!spec->mean != !spec->scale)
        return oct_fail(error, OCT_ERR_FORMAT, "int8 model: expected both mean and scale, or neither");
    for (int c = 0; spec->mean && c < spec->tensors[spec->input].channels; c++)
        if (!isfinite(spec->mean[c]) || !isfinite(spec->scale[c]))
            return oct_fail(error, OCT_ERR_FORMAT, "int8 model: mean or scale of channel %d is not finite", c);
    return OCT_OK;
}

oct_status oct_int8_spec_check(const oct_int8_spec *spec, oct_error *error)
{
    OCT_TRY(oct_int8_spec_check_shapes(spec, error));
    for (int i = 0; i < spec->tensor_count; i++)
        if (spec->tensors[i].exponents && spec->tensors[i].kind != OCT_INT8_SCORES)
            return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': only scores may have an exponent per channel",
                            spec->tensors[i].name);
    for (int i = 0; i < spec->layer_count; i++) OCT_TRY(check_layer_arrays(spec, &spec->layers[i], error));
    return check_information(spec, error);
}
