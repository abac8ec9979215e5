/* SPDX-License-Identifier: BSD-2-Clause
 * Names, sizes and the structural check of a spec: everything that needs no array.
 */
#include "quant/int8/spec.h"

#include <math.h>
#include <string.h>

static const struct op_traits {
    const char *name;
    int min_inputs, max_inputs;
    bool weights, geometry, limits, option, table, same_grid;
} op_table[OCT_INT8_OP_COUNT] = {
    [OCT_INT8_LOOKUP] = {"lookup", 1, 1, .table = true},
    [OCT_INT8_CONV] = {"conv", 1, 1, .weights = true, .geometry = true, .limits = true},
    [OCT_INT8_DEPTHWISE] = {"depthwise", 1, 1, .weights = true, .geometry = true, .limits = true},
    [OCT_INT8_LINEAR] = {"linear", 1, 1, .weights = true, .limits = true},
    [OCT_INT8_ADD] = {"add", 2, 2, .limits = true},
    [OCT_INT8_MUL] = {"mul", 2, 2, .limits = true},
    [OCT_INT8_CONCAT] = {"concat", 1, OCT_INT8_MAX_INPUTS, .limits = true},
    [OCT_INT8_MAX_POOL] = {"max_pool", 1, 1, .geometry = true, .same_grid = true},
    [OCT_INT8_AVERAGE_POOL] = {"average_pool", 1, 1, .geometry = true, .limits = true},
    [OCT_INT8_RESCALE] = {"rescale", 1, 1, .limits = true},
    [OCT_INT8_FLATTEN] = {"flatten", 1, 1, .same_grid = true},
    [OCT_INT8_SUB] = {"sub", 2, 2, .limits = true},
    [OCT_INT8_RESHAPE] = {"reshape", 1, 1, .same_grid = true},
    [OCT_INT8_PAD] = {"pad", 1, 1, .geometry = true, .option = true, .same_grid = true},
    [OCT_INT8_RESIZE_NEAREST] = {"resize_nearest", 1, 1, .option = true, .same_grid = true},
    [OCT_INT8_RESIZE_BILINEAR] = {"resize_bilinear", 1, 1, .option = true, .same_grid = true},
    [OCT_INT8_SOFTMAX] = {"softmax", 1, 1, .table = true},
    [OCT_INT8_ARGMAX] = {"argmax", 1, 1, .limits = false},
};

static const char *const kind_names[] = {
    [OCT_INT8_PIXELS] = "pixels", [OCT_INT8_CODES] = "codes", [OCT_INT8_SCORES] = "scores"};
enum { KIND_COUNT = sizeof kind_names / sizeof kind_names[0] };

static const char *const rounding_names[] = {[OCT_INT8_ROUND_SHIFT] = "shift",
                                             [OCT_INT8_ROUND_FLOAT] = "float",
                                             [OCT_INT8_ROUND_SINGLE] = "single",
                                             [OCT_INT8_ROUND_DOUBLE] = "double"};
enum { ROUNDING_COUNT = sizeof rounding_names / sizeof rounding_names[0] };

static bool op_is_valid(oct_int8_op op)
{
    return (unsigned)op < OCT_INT8_OP_COUNT;
}

const char *oct_int8_op_name(oct_int8_op op)
{
    return op_is_valid(op) ? op_table[op].name : "unknown";
}

oct_int8_op oct_int8_op_from_name(const char *name)
{
    int op = 0;
    while (op < OCT_INT8_OP_COUNT && strcmp(op_table[op].name, name)) op++;
    return (oct_int8_op)op;
}

const char *oct_int8_kind_name(oct_int8_kind kind)
{
    return (unsigned)kind < KIND_COUNT ? kind_names[kind] : "unknown";
}

static const char *const interpolation_names[] = {"bilinear", "bicubic"};

const char *oct_int8_interpolation_name(int interpolation)
{
    return (unsigned)interpolation < 2 ? interpolation_names[interpolation] : NULL;
}

int oct_int8_interpolation_from_name(const char *name)
{
    return !strcmp(name, interpolation_names[0]) ? 0 : !strcmp(name, interpolation_names[1]) ? 1 : -1;
}

bool oct_int8_kind_from_name(oct_int8_kind *kind, const char *name)
{
    for (int i = 0; i < KIND_COUNT; i++) {
        if (strcmp(kind_names[i], name)) continue;
        *kind = (oct_int8_kind)i;
        return true;
    }
    return false;
}

const char *oct_int8_rounding_name(oct_int8_rounding rounding)
{
    return (unsigned)rounding < ROUNDING_COUNT ? rounding_names[rounding] : "unknown";
}

bool oct_int8_rounding_from_name(oct_int8_rounding *rounding, const char *name)
{
    for (int i = 0; i < ROUNDING_COUNT; i++) {
        if (strcmp(rounding_names[i], name)) continue;
        *rounding = (oct_int8_rounding)i;
        return true;
    }
    return false;
}

bool oct_int8_spec_is_affine(const oct_int8_spec *spec)
{
    return !strcmp(spec->profile, OCT_INT8_PROFILE_AFFINE);
}

bool oct_int8_op_has_weights(oct_int8_op op)
{
    return op_is_valid(op) && op_table[op].weights;
}

bool oct_int8_op_has_geometry(oct_int8_op op)
{
    return op_is_valid(op) && op_table[op].geometry;
}

bool oct_int8_op_has_limits(oct_int8_op op)
{
    return op_is_valid(op) && op_table[op].limits;
}

bool oct_int8_op_has_option(oct_int8_op op)
{
    return op_is_valid(op) && op_table[op].option;
}

bool oct_int8_op_has_table(oct_int8_op op)
{
    return op_is_valid(op) && op_table[op].table;
}

size_t oct_int8_tensor_elements(const oct_int8_tensor *tensor)
{
    return (size_t)tensor->height * (size_t)tensor->width * (size_t)tensor->channels;
}

size_t oct_int8_tensor_bytes(const oct_int8_tensor *tensor)
{
    return oct_int8_tensor_elements(tensor) * (tensor->kind == OCT_INT8_SCORES ? sizeof(int32_t) : 1);
}

int oct_int8_layer_outputs(const oct_int8_spec *spec, const oct_int8_layer *layer)
{
    return spec->tensors[layer->output].channels;
}

/* Weights of one output channel. */
static size_t weights_per_output(const oct_int8_spec *spec, const oct_int8_layer *layer)
{
    const oct_int8_tensor *in = &spec->tensors[layer->inputs[0]];
    if (layer->op == OCT_INT8_LINEAR) return oct_int8_tensor_elements(in);
    size_t taps = (size_t)layer->kernel_h * (size_t)layer->kernel_w;
    return layer->op == OCT_INT8_CONV ? taps * (size_t)(in->channels / layer->groups) : taps;
}

size_t oct_int8_weight_count(const oct_int8_spec *spec, const oct_int8_layer *layer)
{
    if (!oct_int8_op_has_weights(layer->op)) return 0;
    return weights_per_output(spec, layer) * (size_t)oct_int8_layer_outputs(spec, layer);
}

uint64_t oct_int8_layer_macs(const oct_int8_spec *spec, const oct_int8_layer *layer)
{
    if (!oct_int8_op_has_weights(layer->op)) return 0;
    return (uint64_t)weights_per_output(spec, layer) * oct_int8_tensor_elements(&spec->tensors[layer->output]);
}

int oct_int8_tensor_exponent(const oct_int8_tensor *tensor, int c)
{
    return tensor->exponents ? tensor->exponents[c] : tensor->exponent;
}

int oct_int8_weight_exponent(const oct_int8_layer *layer, int o)
{
    return layer->weight_exponents[layer->weight_exponent_count == 1 ? 0 : o];
}

double oct_int8_code_scale(const oct_int8_spec *spec, const oct_int8_tensor *tensor)
{
    return oct_int8_spec_is_affine(spec) ? (double)tensor->scale : ldexp(1, -tensor->exponent);
}

double oct_int8_acc_scale(const oct_int8_spec *spec, const oct_int8_layer *layer, int o)
{
    const oct_int8_tensor *in = &spec->tensors[layer->inputs[0]];
    int i = layer->weight_exponent_count == 1 ? 0 : o;
    if (!op_table[layer->op].weights) return 1; /* argmax */
    if (oct_int8_spec_is_affine(spec)) return (double)in->scale * (double)layer->weight_scales[i];
    return ldexp(1, -(in->exponent + layer->weight_exponents[i]));
}

static bool name_is_valid(const char *name)
{
    return name && name[0] && strnlen(name, OCT_INT8_MAX_NAME + 1) <= OCT_INT8_MAX_NAME;
}

static bool in_range(int x, int lo, int hi)
{
    return lo <= x && x <= hi;
}

/* Scale and zero point belong to the codes of profile affine, exponent and sign to those of po2. */
static oct_status check_affine_tensor(const oct_int8_spec *spec, const oct_int8_tensor *t, oct_error *error)
{
    if (!oct_int8_spec_is_affine(spec) || t->kind != OCT_INT8_CODES) {
        if (t->zero_point || (t->scale != 0 && oct_int8_spec_is_affine(spec)))
            return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': scale %g and zero point %d, expected none", t->name,
                            (double)t->scale, t->zero_point);
        if (oct_int8_spec_is_affine(spec) && t->exponent)
            return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': exponent %d in profile affine, expected 0", t->name,
                            t->exponent);
        return OCT_OK;
    }
    if (t->is_signed || t->exponent)
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': sign %d and exponent %d, expected 0 and 0 in profile affine",
                        t->name, t->is_signed, t->exponent);
    if (!(t->scale >= 0x1p-60f && t->scale <= 0x1p60f))
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': scale %g, expected 2^-60..2^60", t->name, (double)t->scale);
    if (!in_range(t->zero_point, 0, 255))
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': zero point %d, expected 0..255", t->name, t->zero_point);
    return OCT_OK;
}

static oct_status check_tensor(const oct_int8_spec *spec, int index, oct_error *error)
{
    const oct_int8_tensor *t = &spec->tensors[index];
    if (!name_is_valid(t->name))
        return oct_fail(error, OCT_ERR_FORMAT, "tensor %d: expected a name of 1..%d bytes", index, OCT_INT8_MAX_NAME);
    for (int i = 0; i < index; i++)
        if (!strcmp(spec->tensors[i].name, t->name))
            return oct_fail(error, OCT_ERR_FORMAT, "tensors %d and %d: both are named '%s'", i, index, t->name);
    if ((unsigned)t->kind >= KIND_COUNT)
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': unknown kind %d", t->name, (int)t->kind);
    if (!in_range(t->height, 1, OCT_INT8_MAX_SIDE) || !in_range(t->width, 1, OCT_INT8_MAX_SIDE) ||
        !in_range(t->channels, 1, OCT_INT8_MAX_CHANNELS))
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': shape %dx%dx%d, expected 1..%d, 1..%d, 1..%d", t->name,
                        t->height, t->width, t->channels, OCT_INT8_MAX_SIDE, OCT_INT8_MAX_SIDE,
                        OCT_INT8_MAX_CHANNELS);
    if ((uint64_t)t->height * (uint64_t)t->width * (uint64_t)t->channels > OCT_INT8_MAX_ELEMENTS)
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': shape %dx%dx%d has more than %d values", t->name,
                        t->height, t->width, t->channels, OCT_INT8_MAX_ELEMENTS);
    bool codes = t->kind == OCT_INT8_CODES;
    if (!in_range(t->is_signed, 0, codes ? 1 : 0))
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': signedness %d of %s, expected %s", t->name, t->is_signed,
                        kind_names[t->kind], codes ? "0 or 1" : "0");
    int limit = codes ? OCT_INT8_MAX_EXPONENT : t->kind == OCT_INT8_SCORES ? 2 * OCT_INT8_MAX_EXPONENT : 0;
    if (!in_range(t->exponent, -limit, limit))
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': exponent %d, expected %d..%d", t->name, t->exponent,
                        -limit, limit);
    OCT_TRY(check_affine_tensor(spec, t, error));
    int expected_use = t->kind == OCT_INT8_PIXELS ? spec->input : spec->output;
    if (!codes && index != expected_use)
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': only the model's %s may be %s", t->name,
                        t->kind == OCT_INT8_PIXELS ? "input" : "output", kind_names[t->kind]);
    return OCT_OK;
}

/* Layer failures all begin alike. */
#define layer_fail(error, l, ...) layer_fail(error, l, __VA_ARGS__)
static oct_status layer_fail(oct_error *error, const oct_int8_layer *l, const char *what, long long found,
                             long long expected)
{
    return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): %s is %lld, expected %lld", l->name,
                    oct_int8_op_name(l->op), what, found, expected);
}

static oct_status layer_fail_range(oct_error *error, const oct_int8_layer *l, const char *what, int found, int lo,
                                   int hi)
{
    return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): %s is %d, expected %d..%d", l->name,
                    oct_int8_op_name(l->op), what, found, lo, hi);
}

static oct_status check_axis(const oct_int8_layer *l, const char *axis, int in, int out, int kernel, int stride,
                             int dilation, int before, int after, oct_error *error)
{
    bool pool = !op_table[l->op].weights;
    int64_t reach = (int64_t)dilation * (kernel - 1); /* every window must hold at least one pixel of the image */
    int pad_limit = reach < 0 ? 0 : reach < OCT_INT8_MAX_SIDE ? (int)reach : OCT_INT8_MAX_SIDE;
    const char *what[] = {"kernel", "stride", "dilation", "padding before", "padding after"};
    const int value[] = {kernel, stride, dilation, before, after}, lo[] = {1, 1, 1, 0, 0};
    const int hi[] = {OCT_INT8_MAX_SIDE, OCT_INT8_MAX_SIDE, pool ? 1 : OCT_INT8_MAX_SIDE, pad_limit, pad_limit};
    for (int i = 0; i < 5; i++)
        if (!in_range(value[i], lo[i], hi[i]))
            return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): %s (%s) is %d, expected %d..%d", l->name,
                            op_table[l->op].name, what[i], axis, value[i], lo[i], hi[i]);
    int64_t room = (int64_t)in + before + after - (reach + 1);
    if (room < 0)
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): the kernel is larger than the padded input (%s)",
                        l->name, op_table[l->op].name, axis);
    int64_t expected = room / stride + 1;
    if (out != expected)
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): output %s is %d, expected %lld", l->name,
                        op_table[l->op].name, axis, out, (long long)expected);
    return OCT_OK;
}

/* Any output shape is one that some padding or crop has. */
static oct_status check_pad(const oct_int8_layer *l, oct_error *error)
{
    enum { SIDE = OCT_INT8_MAX_SIDE };
    const struct {
        const char *what;
        int value, lo, hi;
    } fields[] = {{"kernel (height)", l->kernel_h, 1, 1},       {"kernel (width)", l->kernel_w, 1, 1},
                  {"stride (height)", l->stride_h, 1, SIDE},    {"stride (width)", l->stride_w, 1, SIDE},
                  {"dilation (height)", l->dilation_h, 1, SIDE}, {"dilation (width)", l->dilation_w, 1, SIDE},
                  {"padding (top)", l->pad_top, -SIDE, SIDE},   {"padding (left)", l->pad_left, -SIDE, SIDE},
                  {"padding (bottom)", l->pad_bottom, 0, 0},    {"padding (right)", l->pad_right, 0, 0},
                  {"groups", l->groups, 1, 1},
                  {"first channel", l->option, -OCT_INT8_MAX_CHANNELS, OCT_INT8_MAX_CHANNELS}};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (!in_range(fields[i].value, fields[i].lo, fields[i].hi))
            return layer_fail_range(error, l, fields[i].what, fields[i].value, fields[i].lo, fields[i].hi);
    return OCT_OK;
}

static oct_status check_geometry(const oct_int8_spec *spec, const oct_int8_layer *l, oct_error *error)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]], *out = &spec->tensors[l->output];
    if (!op_table[l->op].geometry) {
        const int fields[] = {l->kernel_h, l->kernel_w, l->stride_h,   l->stride_w,  l->dilation_h, l->dilation_w,
                              l->pad_top,  l->pad_left, l->pad_bottom, l->pad_right, l->groups};
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
            if (fields[i]) return layer_fail(error, l, "a geometry field (kernel, stride, … groups)", fields[i], 0);
        return OCT_OK;
    }
    if (l->op == OCT_INT8_PAD) return check_pad(l, error);
    OCT_TRY(check_axis(l, "height", in->height, out->height, l->kernel_h, l->stride_h, l->dilation_h, l->pad_top,
                       l->pad_bottom, error));
    OCT_TRY(check_axis(l, "width", in->width, out->width, l->kernel_w, l->stride_w, l->dilation_w, l->pad_left,
                       l->pad_right, error));
    int64_t taps = (int64_t)l->kernel_h * l->kernel_w;
    int64_t padded = (int64_t)(in->height + l->pad_top + l->pad_bottom) * (in->width + l->pad_left + l->pad_right);
    if (padded * in->channels > OCT_INT8_MAX_ELEMENTS)
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): the padded input has more than %d values", l->name,
                        op_table[l->op].name, OCT_INT8_MAX_ELEMENTS);
    if (l->op == OCT_INT8_CONV) {
        if (l->groups < 1 || in->channels % l->groups || out->channels % l->groups)
            return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (conv): groups is %d, expected a divisor of %d and %d",
                            l->name, l->groups, in->channels, out->channels);
        if (taps * (in->channels / l->groups) > OCT_INT8_MAX_ELEMENTS / out->channels)
            return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (conv): more than %d weights", l->name,
                            OCT_INT8_MAX_ELEMENTS);
        return OCT_OK;
    }
    if (out->channels != in->channels) return layer_fail(error, l, "output channels", out->channels, in->channels);
    int groups = l->op == OCT_INT8_DEPTHWISE ? in->channels : 1;
    if (l->groups != groups) return layer_fail(error, l, "groups", l->groups, groups);
    if (l->op == OCT_INT8_DEPTHWISE && taps > OCT_INT8_MAX_ELEMENTS / in->channels)
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (depthwise): more than %d weights", l->name,
                        OCT_INT8_MAX_ELEMENTS);
    if (l->op == OCT_INT8_AVERAGE_POOL && taps > OCT_INT8_MAX_POOL_TAPS)
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (average_pool): %lld taps, expected at most %d", l->name,
                        (long long)taps, OCT_INT8_MAX_POOL_TAPS);
    return OCT_OK;
}

static oct_status check_same_shape(const oct_int8_spec *spec, const oct_int8_layer *l, int input, bool channels,
                                   oct_error *error)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[input]], *out = &spec->tensors[l->output];
    if (in->height != out->height || in->width != out->width || (channels && in->channels != out->channels))
        return oct_fail(error, OCT_ERR_FORMAT,
                        "layer '%s' (%s): output is %dx%dx%d, which does not fit input '%s' of %dx%dx%d", l->name,
                        op_table[l->op].name, out->height, out->width, out->channels, in->name, in->height, in->width,
                        in->channels);
    return OCT_OK;
}

/* Output shape of the operators without geometry. */
static oct_status check_shape(const oct_int8_spec *spec, const oct_int8_layer *l, oct_error *error)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]], *out = &spec->tensors[l->output];
    if (l->op == OCT_INT8_RESHAPE) {
        if (oct_int8_tensor_elements(out) != oct_int8_tensor_elements(in))
            return layer_fail(error, l, "number of output values", (long long)oct_int8_tensor_elements(out),
                              (long long)oct_int8_tensor_elements(in));
        return OCT_OK;
    }
    if (l->op == OCT_INT8_RESIZE_NEAREST || l->op == OCT_INT8_RESIZE_BILINEAR) {
        if (out->channels != in->channels) return layer_fail(error, l, "output channels", out->channels, in->channels);
        if (!in_range(l->option, 0, OCT_INT8_GRIDS - 1))
            return layer_fail_range(error, l, "grid", l->option, 0, OCT_INT8_GRIDS - 1);
        return OCT_OK;
    }
    if (l->op == OCT_INT8_ARGMAX) {
        if (out->channels != 1) return layer_fail(error, l, "output channels", out->channels, 1);
        return check_same_shape(spec, l, 0, false, error);
    }
    if (l->op == OCT_INT8_LINEAR || l->op == OCT_INT8_FLATTEN) {
        if (out->height != 1) return layer_fail(error, l, "output height", out->height, 1);
        if (out->width != 1) return layer_fail(error, l, "output width", out->width, 1);
        int64_t values = (int64_t)oct_int8_tensor_elements(in);
        if (l->op == OCT_INT8_FLATTEN && out->channels != values)
            return layer_fail(error, l, "output channels", out->channels, values);
        if (l->op == OCT_INT8_LINEAR && values > OCT_INT8_MAX_ELEMENTS / out->channels)
            return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (linear): more than %d weights", l->name,
                            OCT_INT8_MAX_ELEMENTS);
        return OCT_OK;
    }
    int64_t channels = 0;
    for (int i = 0; i < l->input_count; i++) {
        OCT_TRY(check_same_shape(spec, l, i, l->op != OCT_INT8_CONCAT, error));
        channels += spec->tensors[l->inputs[i]].channels;
    }
    if (l->op == OCT_INT8_CONCAT && out->channels != channels)
        return layer_fail(error, l, "output channels", out->channels, channels);
    return OCT_OK;
}

/* Unsigned codes of 1/256. */
static oct_status check_softmax_grid(const oct_int8_spec *spec, const oct_int8_layer *l, oct_error *error)
{
    const oct_int8_tensor *out = &spec->tensors[l->output];
    int exponent = oct_int8_spec_is_affine(spec) ? 0 : 8;
    if (out->exponent != exponent) return layer_fail(error, l, "output exponent", out->exponent, exponent);
    if (out->is_signed) return layer_fail(error, l, "output signedness", out->is_signed, 0);
    if (oct_int8_spec_is_affine(spec) && (out->scale != 0x1p-8f || out->zero_point))
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (softmax): output scale %g and zero point %d, expected %g and 0",
                        l->name, (double)out->scale, out->zero_point, 0x1p-8);
    return OCT_OK;
}

static oct_status check_limits(const oct_int8_spec *spec, const oct_int8_layer *l, oct_error *error)
{
    const oct_int8_tensor *out = &spec->tensors[l->output];
    bool clamps = op_table[l->op].limits && out->kind == OCT_INT8_CODES;
    int lo = !clamps ? 0 : out->is_signed ? -128 : 0, hi = !clamps ? 0 : out->is_signed ? 127 : 255;
    if (!in_range(l->out_lo, lo, hi)) return layer_fail_range(error, l, "lower output limit", l->out_lo, lo, hi);
    if (!in_range(l->out_hi, l->out_lo, hi))
        return layer_fail_range(error, l, "upper output limit", l->out_hi, l->out_lo, hi);
    int rows = l->op == OCT_INT8_LOOKUP ? out->channels : l->op == OCT_INT8_SOFTMAX ? 3 : 0;
    if (l->table_rows != rows && !(l->op == OCT_INT8_LOOKUP && l->table_rows == 1))
        return layer_fail(error, l, "rows of the table", l->table_rows, rows);
    if (!op_table[l->op].option && l->option) return layer_fail(error, l, "option", l->option, 0);
    int count = l->weight_exponent_count;
    if (!op_table[l->op].weights ? count != 0 : count != 1 && count != out->channels)
        return layer_fail(error, l, "number of weight exponents", count, op_table[l->op].weights ? out->channels : 0);
    bool same_grid = op_table[l->op].same_grid;
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]];
    if (same_grid && out->exponent != in->exponent)
        return layer_fail(error, l, "output exponent", out->exponent, in->exponent);
    if (same_grid && out->is_signed != in->is_signed)
        return layer_fail(error, l, "output signedness", out->is_signed, in->is_signed);
    if (l->op == OCT_INT8_SOFTMAX) OCT_TRY(check_softmax_grid(spec, l, error));
    if (l->op == OCT_INT8_ARGMAX && out->exponent) return layer_fail(error, l, "output exponent", out->exponent, 0);
    if (same_grid && oct_int8_spec_is_affine(spec) && (out->zero_point != in->zero_point || out->scale != in->scale))
        return oct_fail(error, OCT_ERR_FORMAT,
                        "layer '%s' (%s): output scale %g and zero point %d, expected those of the input, %g and %d", l->name,
                        oct_int8_op_name(l->op), (double)out->scale, out->zero_point, (double)in->scale, in->zero_point);
    return OCT_OK;
}

/* Indices, and who may read and write which kind of tensor. writer[t] = 1 + the layer that wrote t, 1 for the input. */
static oct_status check_wiring(const oct_int8_spec *spec, int index, int *writer, oct_error *error)
{
    const oct_int8_layer *l = &spec->layers[index];
    const struct op_traits *traits = &op_table[l->op];
    if (!in_range(l->input_count, traits->min_inputs, traits->max_inputs))
        return layer_fail_range(error, l, "number of inputs", l->input_count, traits->min_inputs, traits->max_inputs);
    for (int i = 0; i < l->input_count; i++) {
        int t = l->inputs[i];
        if (!in_range(t, 0, spec->tensor_count - 1))
            return layer_fail_range(error, l, "input tensor", t, 0, spec->tensor_count - 1);
        const oct_int8_tensor *in = &spec->tensors[t];
        if (!writer[t])
            return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): input '%s' is not written by an earlier layer",
                            l->name, traits->name, in->name);
        if (in->kind != OCT_INT8_CODES && !(in->kind == OCT_INT8_PIXELS && index == 0 && l->op == OCT_INT8_LOOKUP))
            return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): input '%s' holds %s, expected codes", l->name,
                            traits->name, in->name, kind_names[in->kind]);
    }
    int t = l->output;
    if (!in_range(t, 0, spec->tensor_count - 1))
        return layer_fail_range(error, l, "output tensor", t, 0, spec->tensor_count - 1);
    const oct_int8_tensor *out = &spec->tensors[t];
    if (writer[t])
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): output '%s' is already written", l->name,
                        traits->name, out->name);
    bool makes_codes = l->op != OCT_INT8_ARGMAX, makes_scores = traits->weights || l->op == OCT_INT8_ARGMAX;
    if (out->kind == OCT_INT8_PIXELS || (out->kind == OCT_INT8_SCORES ? !makes_scores : !makes_codes))
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s' (%s): cannot write %s into '%s'", l->name, traits->name,
                        kind_names[out->kind], out->name);
    writer[t] = index + 1;
    return OCT_OK;
}

static oct_status check_layer(const oct_int8_spec *spec, int index, int *writer, oct_error *error)
{
    const oct_int8_layer *l = &spec->layers[index];
    if (!name_is_valid(l->name))
        return oct_fail(error, OCT_ERR_FORMAT, "layer %d: expected a name of 1..%d bytes", index, OCT_INT8_MAX_NAME);
    for (int i = 0; i < index; i++)
        if (!strcmp(spec->layers[i].name, l->name))
            return oct_fail(error, OCT_ERR_FORMAT, "layers %d and %d: both are named '%s'", i, index, l->name);
    if (!op_is_valid(l->op))
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s': unknown operator %d", l->name, (int)l->op);
    OCT_TRY(check_wiring(spec, index, writer, error));
    OCT_TRY(check_geometry(spec, l, error));
    if (!op_table[l->op].geometry) OCT_TRY(check_shape(spec, l, error));
    return check_limits(spec, l, error);
}

static oct_status check_header(const oct_int8_spec *spec, oct_error *error)
{
    bool po2 = spec->profile && !strcmp(spec->profile, OCT_INT8_PROFILE_PO2);
    if (!spec->profile || (!po2 && !oct_int8_spec_is_affine(spec)))
        return oct_fail(error, OCT_ERR_UNSUPPORTED, "int8 model: profile '%.32s', this build knows '%s' and '%s'",
                        spec->profile ? spec->profile : "(none)", OCT_INT8_PROFILE_PO2, OCT_INT8_PROFILE_AFFINE);
    if ((unsigned)spec->rounding >= ROUNDING_COUNT || po2 != (spec->rounding == OCT_INT8_ROUND_SHIFT))
        return oct_fail(error, OCT_ERR_FORMAT, "int8 model: rounding '%s' does not fit profile '%s'",
                        oct_int8_rounding_name(spec->rounding), spec->profile);
    if (!spec->tool || strnlen(spec->tool, OCT_INT8_MAX_NAME + 1) > OCT_INT8_MAX_NAME)
        return oct_fail(error, OCT_ERR_FORMAT, "int8 model: expected the writer's name, at most %d bytes",
                        OCT_INT8_MAX_NAME);
    if (!in_range(spec->tensor_count, 2, OCT_INT8_MAX_TENSORS) || !spec->tensors)
        return oct_fail(error, OCT_ERR_FORMAT, "int8 model: %d tensors, expected 2..%d", spec->tensor_count,
                        OCT_INT8_MAX_TENSORS);
    if (!in_range(spec->layer_count, 1, OCT_INT8_MAX_LAYERS) || !spec->layers)
        return oct_fail(error, OCT_ERR_FORMAT, "int8 model: %d layers, expected 1..%d", spec->layer_count,
                        OCT_INT8_MAX_LAYERS);
    if (!in_range(spec->input, 0, spec->tensor_count - 1) || !in_range(spec->output, 0, spec->tensor_count - 1) ||
        spec->input == spec->output)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "int8 model: input tensor %d and output tensor %d, expected two different ones of %d",
                        spec->input, spec->output, spec->tensor_count);
    if (!in_range(spec->resize, 0, OCT_INT8_MAX_SIDE))
        return oct_fail(error, OCT_ERR_FORMAT, "int8 model: resize %d, expected 0..%d", spec->resize,
                        OCT_INT8_MAX_SIDE);
    if (!oct_int8_interpolation_name(spec->interpolation))
        return oct_fail(error, OCT_ERR_FORMAT, "int8 model: interpolation %d, expected 0 or 1", spec->interpolation);
    return OCT_OK;
}

oct_status oct_int8_spec_check_shapes(const oct_int8_spec *spec, oct_error *error)
{
    int writer[OCT_INT8_MAX_TENSORS] = {0};
    OCT_TRY(check_header(spec, error));
    for (int i = 0; i < spec->tensor_count; i++) OCT_TRY(check_tensor(spec, i, error));
    writer[spec->input] = 1;
    for (int i = 0; i < spec->layer_count; i++) OCT_TRY(check_layer(spec, i, writer, error));
    for (int i = 0; i < spec->tensor_count; i++)
        if (!writer[i])
            return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': no layer writes it", spec->tensors[i].name);
    const oct_int8_tensor *input = &spec->tensors[spec->input];
    if (input->kind == OCT_INT8_SCORES)
        return oct_fail(error, OCT_ERR_FORMAT, "tensor '%s': the model's input cannot be scores", input->name);
    if (input->kind == OCT_INT8_PIXELS && spec->layers[0].inputs[0] != spec->input)
        return oct_fail(error, OCT_ERR_FORMAT, "layer '%s': expected a lookup of the pixels '%s' as the first layer",
                        spec->layers[0].name, input->name);
    int classes = spec->tensors[spec->output].channels;
    if (spec->class_count != 0 && spec->class_count != classes)
        return oct_fail(error, OCT_ERR_FORMAT, "int8 model: %d class names for %d outputs", spec->class_count,
                        classes);
    return OCT_OK;
}
