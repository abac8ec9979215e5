/* SPDX-License-Identifier: BSD-2-Clause
 * ONNX operators: the table, those with weights, functions of one element. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layers/import/onnx_internal.h"

/* --- parameters --- */

static oct_status parameter(const oct_onnx_layer *layer, const char *suffix, oct_shape shape, oct_value *out, float **data)
{
    char name[OCT_ONNX_NAME + 16];
    snprintf(name, sizeof name, "%s/%s", layer->name, suffix);
    *out = oct_parameter(layer->b->graph, name, shape, (oct_init){OCT_INIT_ZERO, 0});
    *data = oct_graph_data(layer->b->graph, *out, NULL);
    return oct_onnx_graph_status(layer);
}

/* A vector of `count` values, copied. */
static oct_status vector(const oct_onnx_layer *layer, int input, const char *suffix, int64_t count, oct_value *out)
{
    const oct_onnx_tensor *t;
    float *data;
    OCT_TRY(oct_onnx_constant(layer, input, &t));
    if (t->count != (size_t)count)
        return oct_onnx_fail(layer, OCT_ERR_FORMAT, "tensor '%.80s': expected %lld values, found %zu", t->name,
                             (long long)count, t->count);
    OCT_TRY(parameter(layer, suffix, OCT_SHAPE((int32_t)count), out, &data));
    memcpy(data, t->data, t->count * sizeof *data);
    return OCT_OK;
}

/* --- convolution --- */

static oct_status check_kernel(const oct_onnx_layer *layer, const oct_onnx_tensor *w, int64_t channels, int64_t groups,
                               oct_onnx_window *window)
{
    bool good = w->rank == 4 && groups >= 1 && channels % groups == 0 && w->count > 0 && w->dims[0] % groups == 0 &&
                w->dims[1] == channels / groups;
    for (int i = 0; i < 2 && good; i++) {
        if (!window->kernel[i] && w->dims[2 + i] <= 4096) window->kernel[i] = (int32_t)w->dims[2 + i];
        good = window->kernel[i] == w->dims[2 + i];
    }
    if (good) return OCT_OK;
    return oct_onnx_fail(layer, OCT_ERR_FORMAT,
                         "tensor '%.80s': expected weights [filters, %lld/%lld, height, width] as kernel_shape says, 2-D", w->name,
                         (long long)channels, (long long)groups);
}

/* O,I,H,W -> O,H,W,I; depthwise C,1,H,W -> H,W,C. */
static oct_status kernel(const oct_onnx_layer *layer, const oct_onnx_tensor *w, bool depthwise, oct_value *out)
{
    float *to;
    int64_t o = w->dims[0], i = w->dims[1], h = w->dims[2], v = w->dims[3];
    oct_shape shape = depthwise ? OCT_SHAPE((int32_t)h, (int32_t)v, (int32_t)o)
                                : OCT_SHAPE((int32_t)o, (int32_t)h, (int32_t)v, (int32_t)i);
    OCT_TRY(parameter(layer, "weight", shape, out, &to));
    int64_t taps = h * v;
    for (int64_t a = 0; a < o; a++)
        for (int64_t b = 0; b < i; b++)
            for (int64_t t = 0; t < taps; t++)
                to[depthwise ? t * o + a : (a * taps + t) * i + b] = w->data[(a * i + b) * taps + t];
    return OCT_OK;
}

static oct_status build_conv(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", NULL};
    oct_onnx_value x;
    oct_onnx_window window;
    const oct_onnx_tensor *w;
    oct_value weight, bias;
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(oct_onnx_image(layer, 0, &x));
    OCT_TRY(oct_onnx_constant(layer, 1, &w));
    OCT_TRY(oct_onnx_read_window(layer, &window));
    int64_t groups = oct_onnx_int(layer, "group", 1), channels = x.dim[0];
    OCT_TRY(check_kernel(layer, w, channels, groups, &window));
    bool has_bias = oct_onnx_has_input(layer, 2), depthwise = groups > 1 && groups == channels && w->dims[0] == channels;
    OCT_TRY(kernel(layer, w, depthwise, &weight));
    if (has_bias) OCT_TRY(vector(layer, 2, "bias", w->dims[0], &bias));
    oct_conv2d_opts opts = {.filters = (int32_t)w->dims[0], .groups = (int32_t)groups, .padding = window.padding,
                            .no_bias = !has_bias, .weight = &weight, .bias = &bias};
    memcpy(opts.kernel, window.kernel, sizeof opts.kernel);
    memcpy(opts.stride, window.stride, sizeof opts.stride);
    memcpy(opts.dilation, window.dilation, sizeof opts.dilation);
    memcpy(opts.pad, window.pad, sizeof opts.pad);
    *out = oct_onnx_value_of(layer->b, oct_conv2d(layer->b->graph, layer->name, x.v, opts));
    return oct_onnx_graph_status(layer);
}

/* --- matrices --- */

/* Weights [O,I] of a vector; `transposed`: the file has [O,I], else [I,O]. Columns of a flattened C,H,W are put into H,W,C. */
static oct_status matrix(const oct_onnx_layer *layer, const oct_onnx_tensor *w, bool transposed, const oct_onnx_value *x,
                         oct_value *out)
{
    float *to;
    int64_t inputs = x->dim[0], outputs = w->rank == 2 ? w->dims[transposed ? 0 : 1] : 0;
    if (w->rank != 2 || w->dims[transposed ? 1 : 0] != inputs || outputs < 1)
        return oct_onnx_fail(layer, OCT_ERR_FORMAT, "tensor '%.80s': expected a matrix for %lld inputs", w->name,
                             (long long)inputs);
    OCT_TRY(parameter(layer, "weight", OCT_SHAPE((int32_t)outputs, (int32_t)inputs), out, &to));
    int64_t channels = x->flat[0] ? x->flat[0] : 1, pixels = inputs / channels;
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t p = 0; p < pixels; p++) {
                int64_t from = c * pixels + p, at = x->flat[0] ? p * channels + c : from;
                to[o * inputs + at] = w->data[transposed ? o * inputs + from : from * outputs + o];
            }
    return OCT_OK;
}

static oct_status as_vector(const oct_onnx_layer *layer, oct_onnx_value *x)
{
    OCT_TRY(oct_onnx_settled(layer, 0, x));
    if (x->rank == 2) return OCT_OK;
    return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected an input of two dimensions N,K");
}

static oct_status append_linear(const oct_onnx_layer *layer, const oct_onnx_value *x, oct_value weight,
                                const oct_value *bias, oct_onnx_value *out)
{
    int32_t outputs = oct_graph_node(layer->b->graph, weight)->shape.dim[0];
    oct_linear_opts opts = {.outputs = outputs, .no_bias = !bias, .weight = &weight, .bias = bias};
    *out = oct_onnx_value_of(layer->b, oct_linear(layer->b->graph, layer->name, x->v, opts));
    return oct_onnx_graph_status(layer);
}

static oct_status build_gemm(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"alpha", "beta", "transA", "transB", "broadcast", NULL};
    oct_onnx_value x;
    const oct_onnx_tensor *w;
    oct_value weight, bias;
    OCT_TRY(oct_onnx_known(layer, names));
    if (oct_onnx_float(layer, "alpha", 1) != 1 || oct_onnx_float(layer, "beta", 1) != 1 || oct_onnx_int(layer, "transA", 0))
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected alpha 1, beta 1 and transA 0");
    OCT_TRY(as_vector(layer, &x));
    OCT_TRY(oct_onnx_constant(layer, 1, &w));
    OCT_TRY(matrix(layer, w, oct_onnx_int(layer, "transB", 0) != 0, &x, &weight));
    bool has_bias = oct_onnx_has_input(layer, 2);
    if (has_bias) OCT_TRY(vector(layer, 2, "bias", oct_graph_node(layer->b->graph, weight)->shape.dim[0], &bias));
    return append_linear(layer, &x, weight, has_bias ? &bias : NULL, out);
}

static oct_status build_matmul(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {NULL};
    oct_onnx_value x;
    const oct_onnx_tensor *w;
    oct_value weight;
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(as_vector(layer, &x));
    OCT_TRY(oct_onnx_constant(layer, 1, &w));
    OCT_TRY(matrix(layer, w, false, &x, &weight));
    return append_linear(layer, &x, weight, NULL, out);
}

/* --- batch norm --- */

static oct_status statistic(const oct_onnx_layer *layer, int input, const char *suffix, int64_t channels, oct_value *out)
{
    const oct_onnx_tensor *t;
    char name[OCT_ONNX_NAME + 16];
    OCT_TRY(oct_onnx_constant(layer, input, &t));
    if (t->count != (size_t)channels)
        return oct_onnx_fail(layer, OCT_ERR_FORMAT, "tensor '%.80s': expected %lld values, found %zu", t->name,
                             (long long)channels, t->count);
    snprintf(name, sizeof name, "%s/%s", layer->name, suffix);
    *out = oct_buffer(layer->b->graph, name, OCT_SHAPE((int32_t)channels), 0);
    float *data = oct_graph_data(layer->b->graph, *out, NULL);
    if (data) memcpy(data, t->data, t->count * sizeof *data);
    return oct_onnx_graph_status(layer);
}

static oct_status build_batch_norm(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"epsilon", "momentum", "spatial", "training_mode", NULL};
    oct_onnx_value x;
    OCT_TRY(oct_onnx_known(layer, names));
    if (oct_onnx_int(layer, "training_mode", 0) || !oct_onnx_int(layer, "spatial", 1))
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected training_mode 0 and spatial 1");
    OCT_TRY(oct_onnx_settled(layer, 0, &x));
    if (x.nhwc || x.flat[0]) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected channels in dimension 1");
    oct_value in[5] = {x.v};
    OCT_TRY(vector(layer, 1, "gamma", x.dim[0], &in[1]));
    OCT_TRY(vector(layer, 2, "beta", x.dim[0], &in[2]));
    OCT_TRY(statistic(layer, 3, "mean", x.dim[0], &in[3]));
    OCT_TRY(statistic(layer, 4, "var", x.dim[0], &in[4]));
    oct_batch_norm_attrs attrs = {.eps = (float)oct_onnx_float(layer, "epsilon", 1e-5),
                                  .momentum = (float)(1 - oct_onnx_float(layer, "momentum", 0.9))};
    *out = x;
    out->v = oct_op_append(layer->b->graph, &oct_op_batch_norm, layer->name, &attrs, in, 5);
    return oct_onnx_graph_status(layer);
}

/* --- functions of one element: layouts and flattened orders stay --- */

static oct_status build_relu(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    OCT_TRY(oct_onnx_settled(layer, 0, out));
    out->v = oct_relu(layer->b->graph, layer->name, out->v);
    return oct_onnx_graph_status(layer);
}

static oct_status limit(const oct_onnx_layer *layer, int input, const char *name, double missing, double *out)
{
    const oct_onnx_tensor *t;
    *out = oct_onnx_float(layer, name, missing);
    if (!oct_onnx_has_input(layer, input)) return OCT_OK;
    OCT_TRY(oct_onnx_constant(layer, input, &t));
    if (t->count != 1) return oct_onnx_fail(layer, OCT_ERR_FORMAT, "input %d: expected one value", input);
    *out = (double)t->data[0];
    return OCT_OK;
}

static oct_status build_clip(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"min", "max", NULL};
    double lo, hi;
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(limit(layer, 1, "min", -INFINITY, &lo));
    OCT_TRY(limit(layer, 2, "max", INFINITY, &hi));
    OCT_TRY(oct_onnx_settled(layer, 0, out));
    out->v = oct_clip(layer->b->graph, layer->name, out->v, (float)lo, (float)hi);
    return oct_onnx_graph_status(layer);
}

static const struct {
    const char *op;
    oct_unary function;
    double missing; /* alpha */
} functions[] = {
    {"LeakyRelu", OCT_UNARY_LEAKY_RELU, 0.01}, {"Elu", OCT_UNARY_ELU, 1},
    {"Sigmoid", OCT_UNARY_SIGMOID, 0},         {"Tanh", OCT_UNARY_TANH, 0},
    {"HardSwish", OCT_UNARY_HARD_SWISH, 0},
};

static oct_status build_function(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"alpha", NULL};
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(oct_onnx_settled(layer, 0, out));
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (strcmp(layer->node->op, functions[i].op)) continue;
        double alpha = oct_onnx_float(layer, "alpha", functions[i].missing);
        out->v = oct_unary_layer(layer->b->graph, layer->name, functions[i].function, out->v, (float)alpha);
    }
    return oct_onnx_graph_status(layer);
}

static oct_status build_prelu(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    oct_value slope;
    const oct_onnx_tensor *t;
    OCT_TRY(oct_onnx_settled(layer, 0, out));
    OCT_TRY(oct_onnx_constant(layer, 1, &t));
    if (out->nhwc || out->flat[0]) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected channels in dimension 1");
    if (out->rank == 4 && t->rank > 0 && t->count > 1 && (t->rank < 3 || t->dims[t->rank - 3] != out->dim[0]))
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected one slope for each channel");
    OCT_TRY(vector(layer, 1, "slope", out->dim[0], &slope));
    out->v = oct_op_append(layer->b->graph, &oct_op_prelu, layer->name, NULL, (oct_value[]){out->v, slope}, 2);
    return oct_onnx_graph_status(layer);
}

static oct_status build_softmax(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"axis", NULL};
    oct_onnx_value x;
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(oct_onnx_settled(layer, 0, &x));
    int64_t axis = oct_onnx_int(layer, "axis", layer->b->content->opset < 13 ? 1 : -1);
    bool channels = x.rank == 2 ? !x.flat[0] && (axis == 1 || axis == -1)
                    : x.nhwc    ? axis == 3 || axis == -1
                                : axis == 1 && (layer->b->content->opset >= 13 || x.dim[1] * x.dim[2] == 1);
    if (!channels) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "axis %lld: expected that of the channels", (long long)axis);
    x.softmax = !strcmp(layer->node->op, "Softmax");
    x.log_softmax = !x.softmax;
    x.name = oct_arena_strdup(&layer->b->arena, layer->name);
    *out = x;
    return x.name ? OCT_OK : oct_out_of_memory(layer->b->graph->ctx, layer->name);
}

static oct_status build_same(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    if (!oct_onnx_has_input(layer, 0)) return oct_onnx_fail(layer, OCT_ERR_FORMAT, "expected an input");
    *out = *layer->inputs[0];
    return OCT_OK;
}

static oct_status build_constant(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    const oct_onnx_attribute *a = oct_onnx_attribute_of(layer, "value");
    if (!a || !a->t) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected the attribute 'value', a tensor");
    *out = (oct_onnx_value){.constant = a->t};
    return OCT_OK;
}

/* --- the table --- */

typedef struct op_class {
    const char *op;
    oct_onnx_build_fn *build;
} op_class;

static const op_class classes[] = {
    {"Conv", build_conv}, {"Gemm", build_gemm}, {"MatMul", build_matmul}, {"BatchNormalization", build_batch_norm},
    {"Relu", build_relu}, {"Clip", build_clip}, {"LeakyRelu", build_function}, {"Elu", build_function},
    {"Sigmoid", build_function}, {"Tanh", build_function}, {"HardSwish", build_function}, {"PRelu", build_prelu},
    {"Softmax", build_softmax}, {"LogSoftmax", build_softmax}, {"Identity", build_same}, {"Dropout", build_same},
    {"Constant", build_constant}, {"Add", oct_onnx_build_arithmetic}, {"Sub", oct_onnx_build_arithmetic},
    {"Mul", oct_onnx_build_arithmetic}, {"Div", oct_onnx_build_arithmetic}, {"Sum", oct_onnx_build_sum},
    {"Concat", oct_onnx_build_concat}, {"MaxPool", oct_onnx_build_max_pool},
    {"AveragePool", oct_onnx_build_average_pool}, {"GlobalAveragePool", oct_onnx_build_global_pool},
    {"ReduceMean", oct_onnx_build_reduce_mean}, {"Flatten", oct_onnx_build_flatten},
    {"Reshape", oct_onnx_build_reshape}, {"Squeeze", oct_onnx_build_squeeze},
    {"Transpose", oct_onnx_build_transpose}, {"Resize", oct_onnx_build_resize}, {"Pad", oct_onnx_build_pad},
};
enum { CLASS_COUNT = sizeof classes / sizeof classes[0] };

oct_status oct_onnx_build_node(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    char known[420] = "";
    size_t used = 0;
    for (int i = 0; i < CLASS_COUNT; i++) {
        if (!strcmp(layer->node->op, classes[i].op)) return classes[i].build(layer, out);
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", classes[i].op);
    }
    return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "this operator is not supported; supported are %s", known);
}
