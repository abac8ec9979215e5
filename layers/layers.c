/* SPDX-License-Identifier: BSD-2-Clause */
#include "layers/layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 320 }; /* longer than any name a graph accepts, so that the graph gets to refuse it */

static const oct_value invalid = {-1};

/* "<layer>/<part>" */
static const char *part_name(char text[NAME_BYTES], const char *layer, const char *part)
{
    snprintf(text, NAME_BYTES, "%s/%s", layer ? layer : "", part);
    return text;
}

static oct_value new_parameter(oct_graph *g, const char *layer, const char *part, oct_shape shape, oct_init init)
{
    char name[NAME_BYTES];
    return oct_parameter(g, part_name(name, layer, part), shape, init);
}

static oct_value new_buffer(oct_graph *g, const char *layer, const char *part, oct_shape shape, float value)
{
    char name[NAME_BYTES];
    return oct_buffer(g, part_name(name, layer, part), shape, value);
}

static oct_init scaled_normal(float gain, int64_t fan_in)
{
    double g = gain > 0 ? (double)gain : sqrt(2.0);
    return (oct_init){.kind = OCT_INIT_NORMAL, .scale = (float)(g / sqrt((double)fan_in))};
}

/* Node of x when it can be built upon: a valid value of the wanted rank (0 = any). */
static const oct_node *input_node(oct_graph *g, const char *op, const char *name, oct_value x, int32_t rank)
{
    if (g->failed) return NULL;
    const oct_node *n = oct_graph_node(g, x);
    if (!n) {
        oct_graph_fail(g, OCT_ERR_ARGUMENT, "%s '%s': the input is no value of this graph", op, name);
        return NULL;
    }
    if (rank && n->shape.rank != rank) {
        char text[OCT_SHAPE_TEXT];
        oct_graph_fail(g, OCT_ERR_SHAPE, "%s '%s': expected an input of rank %d, '%s' has shape %s", op, name, rank,
                       n->name, oct_shape_text(text, &n->shape));
        return NULL;
    }
    return n;
}

static int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Zero pixels before and after one axis. */
static void pad_axis(int32_t *before, int32_t *after, oct_padding padding, int64_t size, int64_t kernel,
                     int64_t stride, int64_t dilation)
{
    int64_t extent = dilation * (kernel - 1);
    int64_t total = 0, first = 0;
    if (padding == OCT_SAME) {
        int64_t outputs = (size + stride - 1) / stride;
        total = max_i64((outputs - 1) * stride + extent + 1 - size, 0);
        first = total / 2;
    } else if (padding == OCT_SAME_TORCH) {
        first = extent / 2;
        total = 2 * first;
    }
    *before = (int32_t)first;
    *after = (int32_t)(total - first);
}

/* Window sizes that keep the arithmetic of pad_axis and of the shape rules far from overflow. */
enum { MAX_WINDOW = 4096 };

static bool window_is_valid(const int32_t v[2])
{
    return v[0] >= 1 && v[0] <= MAX_WINDOW && v[1] >= 1 && v[1] <= MAX_WINDOW;
}

typedef struct window {
    const int32_t *kernel, *stride, *dilation, *pad;
    oct_padding padding;
} window;

/* Fills pad[4] for an input [N,H,W,C]; false with the graph failed when the window makes no sense. */
static bool window_pad(oct_graph *g, const char *op, const char *name, const oct_node *x, const window *w,
                       int32_t pad[4])
{
    if (!window_is_valid(w->kernel) || !window_is_valid(w->stride) || !window_is_valid(w->dilation)) {
        oct_graph_fail(g, OCT_ERR_ARGUMENT,
                       "%s '%s': expected kernel, stride and dilation in 1..%d, got %dx%d, %dx%d and %dx%d", op, name,
                       MAX_WINDOW, w->kernel[0], w->kernel[1], w->stride[0], w->stride[1], w->dilation[0],
                       w->dilation[1]);
        return false;
    }
    if ((unsigned)w->padding > OCT_EXPLICIT) {
        oct_graph_fail(g, OCT_ERR_ARGUMENT, "%s '%s': unknown padding %d", op, name, (int)w->padding);
        return false;
    }
    for (int axis = 0; axis < 2; axis++)
        pad_axis(&pad[axis], &pad[axis + 2], w->padding, x->shape.dim[axis + 1], w->kernel[axis], w->stride[axis],
                 w->dilation[axis]);
    for (int i = 0; i < 4 && w->padding == OCT_EXPLICIT; i++) {
        pad[i] = w->pad[i];
        if (pad[i] < 0 || pad[i] > MAX_WINDOW) {
            oct_graph_fail(g, OCT_ERR_ARGUMENT, "%s '%s': expected padding in 0..%d, got %d", op, name, MAX_WINDOW,
                           pad[i]);
            return false;
        }
    }
    return true;
}

static oct_shape conv2d_weight_shape(const oct_conv2d_attrs *attrs, int32_t channels, int32_t filters)
{
    bool depthwise = attrs->groups > 1 && attrs->groups == channels && filters == channels;
    if (depthwise) return OCT_SHAPE(attrs->kernel[0], attrs->kernel[1], channels);
    return OCT_SHAPE(filters, attrs->kernel[0], attrs->kernel[1], channels / attrs->groups);
}

/* Attributes but for the padding. */
static oct_conv2d_attrs conv_attrs(const oct_conv2d_opts *opts)
{
    oct_conv2d_attrs attrs = {.groups = opts->groups ? opts->groups : 1};
    for (int i = 0; i < 2; i++) {
        attrs.kernel[i] = opts->kernel[i];
        attrs.stride[i] = opts->stride[i] ? opts->stride[i] : 1;
        attrs.dilation[i] = opts->dilation[i] ? opts->dilation[i] : 1;
    }
    return attrs;
}

/* Parameters and the node of a convolution or its transpose. */
static oct_value conv_layer(oct_graph *g, const oct_op *op, const char *name, oct_value x, const oct_conv2d_attrs *attrs,
                            const oct_conv2d_opts *opts)
{
    int32_t channels = oct_graph_node(g, x)->shape.dim[3], filters = opts->filters;
    if (filters < 1 || attrs->groups < 1 || channels % attrs->groups || filters % attrs->groups)
        return oct_graph_fail(g, OCT_ERR_ARGUMENT, "%s '%s': %d groups do not divide %d input channels and %d filters",
                              op->name, name, attrs->groups, channels, filters);
    oct_value inputs[3] = {x, invalid, invalid};
    int64_t fan_in = (int64_t)attrs->kernel[0] * attrs->kernel[1] * (channels / attrs->groups);
    if (op == &oct_op_conv_transpose2d) { /* each output pixel meets that part of the taps */
        fan_in /= (int64_t)attrs->stride[0] * attrs->stride[1];
        if (!fan_in) fan_in = 1;
    }
    inputs[1] = opts->weight ? *opts->weight
                             : new_parameter(g, name, "weight", conv2d_weight_shape(attrs, channels, filters),
                                             scaled_normal(opts->gain, fan_in));
    if (!opts->no_bias)
        inputs[2] = opts->bias ? *opts->bias
                               : new_parameter(g, name, "bias", OCT_SHAPE(filters), (oct_init){OCT_INIT_ZERO, 0});
    return oct_op_append(g, op, name, attrs, inputs, opts->no_bias ? 2 : 3);
}

oct_value oct_conv2d(oct_graph *g, const char *name, oct_value x, oct_conv2d_opts opts)
{
    const oct_node *in = input_node(g, "conv2d", name, x, 4);
    if (!in) return invalid;
    oct_conv2d_attrs attrs = conv_attrs(&opts);
    window w = {attrs.kernel, attrs.stride, attrs.dilation, opts.pad, opts.padding};
    if (!window_pad(g, "conv2d", name, in, &w, attrs.pad)) return invalid;
    return conv_layer(g, &oct_op_conv2d, name, x, &attrs, &opts);
}

oct_value oct_conv_transpose2d(oct_graph *g, const char *name, oct_value x, oct_conv2d_opts opts)
{
    static const int32_t none[4] = {0};
    const oct_node *in = input_node(g, "conv_transpose2d", name, x, 4);
    if (!in) return invalid;
    oct_conv2d_attrs attrs = conv_attrs(&opts);
    bool given = opts.padding == OCT_EXPLICIT; /* the op's rule checks it: what comes after may be negative */
    window w = {attrs.kernel, attrs.stride, attrs.dilation, given ? none : opts.pad, opts.padding};
    if (!window_pad(g, "conv_transpose2d", name, in, &w, attrs.pad)) return invalid;
    for (int i = 0; i < 2 && opts.padding == OCT_SAME; i++) {
        int32_t total = attrs.dilation[i] * (attrs.kernel[i] - 1) + 1 - attrs.stride[i];
        attrs.pad[i] = total > 0 ? total / 2 : 0;
        attrs.pad[i + 2] = total - attrs.pad[i];
    }
    if (given) memcpy(attrs.pad, opts.pad, sizeof attrs.pad);
    return conv_layer(g, &oct_op_conv_transpose2d, name, x, &attrs, &opts);
}

oct_value oct_linear(oct_graph *g, const char *name, oct_value x, oct_linear_opts opts)
{
    const oct_node *in = input_node(g, "linear", name, x, 2);
    if (!in) return invalid;
    if (opts.outputs < 1)
        return oct_graph_fail(g, OCT_ERR_ARGUMENT, "linear '%s': expected at least 1 output, got %d", name,
                              opts.outputs);
    int32_t features = in->shape.dim[1];
    oct_value inputs[3] = {x, invalid, invalid};
    inputs[1] = opts.weight ? *opts.weight
                            : new_parameter(g, name, "weight", OCT_SHAPE(opts.outputs, features),
                                            scaled_normal(opts.gain, features));
    if (!opts.no_bias)
        inputs[2] = opts.bias ? *opts.bias
                              : new_parameter(g, name, "bias", OCT_SHAPE(opts.outputs), (oct_init){OCT_INIT_ZERO, 0});
    return oct_op_append(g, &oct_op_linear, name, NULL, inputs, opts.no_bias ? 2 : 3);
}

oct_batch_norm_attrs oct_batch_norm_defaults(void)
{
    return (oct_batch_norm_attrs){.eps = 1e-5f, .momentum = 0.1f};
}

oct_value oct_batch_norm(oct_graph *g, const char *name, oct_value x, oct_batch_norm_attrs opts)
{
    const oct_node *in = input_node(g, "batch_norm", name, x, 0);
    if (!in) return invalid;
    if (in->shape.rank < 2)
        return oct_graph_fail(g, OCT_ERR_SHAPE, "batch_norm '%s': expected an input with channels", name);
    oct_shape shape = OCT_SHAPE(in->shape.dim[in->shape.rank - 1]);
    oct_value inputs[5];
    inputs[0] = x;
    inputs[1] = new_parameter(g, name, "gamma", shape, (oct_init){OCT_INIT_ONE, 0});
    inputs[2] = new_parameter(g, name, "beta", shape, (oct_init){OCT_INIT_ZERO, 0});
    inputs[3] = new_buffer(g, name, "mean", shape, 0);
    inputs[4] = new_buffer(g, name, "var", shape, 1);
    return oct_op_append(g, &oct_op_batch_norm, name, &opts, inputs, 5);
}

static oct_value append_1(oct_graph *g, const oct_op *op, const char *name, const void *attrs, oct_value x)
{
    return oct_op_append(g, op, name, attrs, &x, 1);
}

static oct_value append_2(oct_graph *g, const oct_op *op, const char *name, const void *attrs, oct_value a,
                          oct_value b)
{
    oct_value inputs[2] = {a, b};
    return oct_op_append(g, op, name, attrs, inputs, 2);
}

oct_value oct_relu(oct_graph *g, const char *name, oct_value x)
{
    return append_1(g, &oct_op_relu, name, NULL, x);
}

oct_value oct_clip(oct_graph *g, const char *name, oct_value x, float lo, float hi)
{
    return append_1(g, &oct_op_clip, name, &(oct_clip_attrs){lo, hi}, x);
}

oct_value oct_relu6(oct_graph *g, const char *name, oct_value x)
{
    return oct_clip(g, name, x, 0, 6);
}

oct_value oct_unary_layer(oct_graph *g, const char *name, oct_unary function, oct_value x, float parameter)
{
    if (g->failed) return invalid;
    if ((unsigned)function >= OCT_UNARY_COUNT)
        return oct_graph_fail(g, OCT_ERR_ARGUMENT, "'%s': unknown function %d", name, (int)function);
    const oct_op *op = &oct_unary_ops[function];
    return append_1(g, op, name, op->attr_bytes ? &(oct_unary_attrs){parameter} : NULL, x);
}

oct_value oct_leaky_relu(oct_graph *g, const char *name, oct_value x, float slope)
{
    return oct_unary_layer(g, name, OCT_UNARY_LEAKY_RELU, x, slope);
}

oct_value oct_prelu(oct_graph *g, const char *name, oct_value x)
{
    const oct_node *in = input_node(g, "prelu", name, x, 0);
    if (!in) return invalid;
    if (in->shape.rank < 2)
        return oct_graph_fail(g, OCT_ERR_SHAPE, "prelu '%s': expected an input with channels", name);
    oct_value slope = new_parameter(g, name, "slope", OCT_SHAPE(in->shape.dim[in->shape.rank - 1]),
                                    (oct_init){OCT_INIT_ZERO, 0});
    if (g->failed) return invalid;
    size_t count;
    float *data = oct_graph_data(g, slope, &count);
    for (size_t i = 0; i < count; i++) data[i] = 0.25f;
    return append_2(g, &oct_op_prelu, name, NULL, x, slope);
}

oct_value oct_sigmoid(oct_graph *g, const char *name, oct_value x)
{
    return oct_unary_layer(g, name, OCT_UNARY_SIGMOID, x, 0);
}

oct_value oct_tanh(oct_graph *g, const char *name, oct_value x)
{
    return oct_unary_layer(g, name, OCT_UNARY_TANH, x, 0);
}

oct_value oct_hard_sigmoid(oct_graph *g, const char *name, oct_value x)
{
    return oct_unary_layer(g, name, OCT_UNARY_HARD_SIGMOID, x, 0);
}

oct_value oct_hard_swish(oct_graph *g, const char *name, oct_value x)
{
    return oct_unary_layer(g, name, OCT_UNARY_HARD_SWISH, x, 0);
}

oct_value oct_silu(oct_graph *g, const char *name, oct_value x)
{
    return oct_unary_layer(g, name, OCT_UNARY_SILU, x, 0);
}

oct_value oct_gelu(oct_graph *g, const char *name, oct_value x)
{
    return oct_unary_layer(g, name, OCT_UNARY_GELU, x, 0);
}

oct_value oct_add_scalar(oct_graph *g, const char *name, oct_value x, float value)
{
    return oct_unary_layer(g, name, OCT_UNARY_ADD_SCALAR, x, value);
}

oct_value oct_mul_scalar(oct_graph *g, const char *name, oct_value x, float factor)
{
    return oct_unary_layer(g, name, OCT_UNARY_MUL_SCALAR, x, factor);
}

oct_value oct_add(oct_graph *g, const char *name, oct_value a, oct_value b)
{
    return append_2(g, &oct_op_add, name, NULL, a, b);
}

oct_value oct_sub(oct_graph *g, const char *name, oct_value a, oct_value b)
{
    return append_2(g, &oct_op_sub, name, NULL, a, b);
}

oct_value oct_mul(oct_graph *g, const char *name, oct_value a, oct_value b)
{
    return append_2(g, &oct_op_mul, name, NULL, a, b);
}

oct_value oct_concat(oct_graph *g, const char *name, const oct_value *values, int count)
{
    return oct_op_append(g, &oct_op_concat, name, NULL, values, count);
}

static oct_value pool(oct_graph *g, const oct_op *op, const char *name, oct_value x, const oct_pool_opts *opts)
{
    static const int32_t no_dilation[2] = {1, 1};
    const oct_node *in = input_node(g, op->name, name, x, 4);
    if (!in) return invalid;
    oct_pool_attrs attrs = {0};
    for (int i = 0; i < 2; i++) {
        attrs.kernel[i] = opts->kernel[i];
        attrs.stride[i] = opts->stride[i] ? opts->stride[i] : opts->kernel[i];
    }
    window w = {attrs.kernel, attrs.stride, no_dilation, opts->pad, opts->padding};
    if (!window_pad(g, op->name, name, in, &w, attrs.pad)) return invalid;
    return append_1(g, op, name, &attrs, x);
}

oct_value oct_max_pool(oct_graph *g, const char *name, oct_value x, oct_pool_opts opts)
{
    return pool(g, &oct_op_max_pool, name, x, &opts);
}

oct_value oct_average_pool(oct_graph *g, const char *name, oct_value x, oct_pool_opts opts)
{
    return pool(g, &oct_op_average_pool, name, x, &opts);
}

oct_value oct_global_average_pool(oct_graph *g, const char *name, oct_value x)
{
    return append_1(g, &oct_op_global_average_pool, name, NULL, x);
}

oct_value oct_flatten(oct_graph *g, const char *name, oct_value x)
{
    return append_1(g, &oct_op_flatten, name, NULL, x);
}

oct_value oct_reshape(oct_graph *g, const char *name, oct_value x, const int32_t *dims, int rank)
{
    oct_reshape_attrs attrs = {.rank = rank};
    for (int i = 0; i < rank && i < 3; i++) attrs.dim[i] = dims[i];
    return append_1(g, &oct_op_reshape, name, &attrs, x);
}

oct_value oct_pad(oct_graph *g, const char *name, oct_value x, oct_pad_attrs opts)
{
    return append_1(g, &oct_op_pad, name, &opts, x);
}

oct_value oct_slice(oct_graph *g, const char *name, oct_value x, oct_slice_attrs opts)
{
    const oct_node *in = input_node(g, "slice", name, x, 0);
    if (!in) return invalid;
    for (int i = 0; i < 2; i++)
        if (!opts.step[i]) opts.step[i] = 1;
    for (int i = 0; i < 3; i++) {
        int at = i - 3 + in->shape.rank, size = at >= 1 ? in->shape.dim[at] : 1, step = i < 2 ? opts.step[i] : 1;
        if (!opts.size[i] && step > 0 && opts.begin[i] >= 0 && opts.begin[i] < size)
            opts.size[i] = (size - opts.begin[i] - 1) / step + 1;
    }
    return append_1(g, &oct_op_slice, name, &opts, x);
}

oct_value oct_resize_nearest(oct_graph *g, const char *name, oct_value x, int32_t height, int32_t width)
{
    return append_1(g, &oct_op_resize_nearest, name, &(oct_resize_attrs){{height, width}, OCT_RESIZE_HALF_PIXEL}, x);
}

oct_value oct_resize_bilinear(oct_graph *g, const char *name, oct_value x, int32_t height, int32_t width)
{
    return append_1(g, &oct_op_resize_bilinear, name, &(oct_resize_attrs){{height, width}, OCT_RESIZE_HALF_PIXEL}, x);
}

oct_value oct_softmax(oct_graph *g, const char *name, oct_value x)
{
    return append_1(g, &oct_op_softmax, name, NULL, x);
}

oct_value oct_argmax(oct_graph *g, const char *name, oct_value x)
{
    return append_1(g, &oct_op_argmax, name, NULL, x);
}

oct_value oct_dropout(oct_graph *g, const char *name, oct_value x, float rate)
{
    return append_1(g, &oct_op_dropout, name, &(oct_dropout_attrs){rate}, x);
}

oct_value oct_normalize(oct_graph *g, const char *name, oct_value x, oct_normalize_attrs opts)
{
    return append_1(g, &oct_op_normalize, name, &opts, x);
}

oct_value oct_labels(oct_graph *g, const char *name)
{
    return oct_input(g, name, OCT_I32, OCT_SHAPE(OCT_BATCH));
}

oct_cross_entropy_attrs oct_cross_entropy_defaults(void)
{
    return (oct_cross_entropy_attrs){.smoothing = 0, .ignore = -1};
}

oct_value oct_softmax_cross_entropy(oct_graph *g, const char *name, oct_value x, oct_value labels,
                                    oct_cross_entropy_attrs opts)
{
    return append_2(g, &oct_op_softmax_cross_entropy, name, &opts, x, labels);
}

oct_value oct_mean_squared_error(oct_graph *g, const char *name, oct_value x, oct_value target)
{
    return append_2(g, &oct_op_mean_squared_error, name, NULL, x, target);
}
