/* SPDX-License-Identifier: BSD-2-Clause
 * Classes of layers: the table, and those that have weights. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "layers/import/keras_internal.h"

/* --- messages --- */

oct_status oct_keras_fail(const oct_keras_layer *layer, oct_status status, const char *format, ...)
{
    char message[640];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return oct_fail(layer->b->error, status, "%.220s: layer '%.80s' (%.40s): %s", layer->b->file, layer->path,
                    layer->class_name, message);
}

oct_status oct_keras_graph_status(const oct_keras_layer *layer)
{
    char reason[OCT_ERROR_BYTES];
    oct_status status = oct_network_status(layer->b->graph, reason);
    return status == OCT_OK ? OCT_OK : oct_keras_fail(layer, status, "%.600s", reason);
}

/* --- convolutions --- */

typedef struct conv_config {
    oct_conv2d_opts opts;
    bool use_bias;
} conv_config;

static oct_status read_conv(oct_keras_layer *layer, oct_keras_value *x, conv_config *c)
{
    *c = (conv_config){0};
    OCT_TRY(oct_keras_channels_last(layer));
    OCT_TRY(oct_keras_pair(layer, "kernel_size", 0, c->opts.kernel));
    OCT_TRY(oct_keras_pair(layer, "strides", 1, c->opts.stride));
    OCT_TRY(oct_keras_pair(layer, "dilation_rate", 1, c->opts.dilation));
    OCT_TRY(oct_keras_padding(layer, &c->opts.padding));
    OCT_TRY(oct_keras_bool(layer, "use_bias", true, &c->use_bias));
    c->opts.no_bias = !c->use_bias;
    if (c->opts.padding == OCT_SAME) return oct_keras_settle(layer, x, false);
    c->opts.padding = OCT_EXPLICIT;
    memcpy(c->opts.pad, x->pad, sizeof c->opts.pad);
    return OCT_OK;
}

/* The bias [outputs] under `suffix`, when the layer has one. */
static oct_status take_bias(const oct_keras_layer *layer, bool use_bias, int64_t outputs, oct_value *bias)
{
    const oct_named_tensor *tensor;
    if (!use_bias) return OCT_OK;
    OCT_TRY(oct_keras_tensor(layer, "bias", 1, &outputs, &tensor));
    return oct_keras_parameter(layer, "bias", OCT_SHAPE((int32_t)outputs), tensor, oct_keras_order_same, bias);
}

static oct_status append_conv(const oct_keras_layer *layer, const char *node, oct_conv2d_opts *opts,
                              const oct_value *weight, const oct_value *bias, oct_keras_value *x)
{
    opts->weight = weight;
    opts->bias = bias;
    *x = oct_keras_value_of(layer->b, oct_conv2d(layer->b->graph, node, x->v, *opts));
    return oct_keras_graph_status(layer);
}

/* Kernel H,W,C/groups,O as the weights of oct_op_conv2d. */
static oct_status take_kernel(const oct_keras_layer *layer, const oct_conv2d_opts *o, int64_t channels, oct_value *weight)
{
    const oct_named_tensor *tensor;
    int64_t inputs = channels / o->groups, dims[4] = {o->kernel[0], o->kernel[1], inputs, o->filters};
    OCT_TRY(oct_keras_tensor(layer, "kernel", 4, dims, &tensor));
    if (o->groups > 1 && o->groups == channels && o->filters == channels)
        return oct_keras_parameter(layer, "weight", OCT_SHAPE(o->kernel[0], o->kernel[1], o->filters), tensor,
                                   oct_keras_order_same, weight);
    return oct_keras_parameter(layer, "weight", OCT_SHAPE(o->filters, o->kernel[0], o->kernel[1], (int32_t)inputs), tensor,
                               oct_keras_order_last, weight);
}

static oct_status build_conv(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    conv_config c;
    int64_t filters, groups;
    oct_value weight, bias;
    OCT_TRY(oct_keras_spatial(layer, &x, true));
    OCT_TRY(read_conv(layer, &x, &c));
    OCT_TRY(oct_keras_integer(layer, "filters", 0, 1, INT32_MAX, &filters));
    OCT_TRY(oct_keras_integer(layer, "groups", 1, 1, INT32_MAX, &groups));
    if (x.dim[2] % groups)
        return oct_keras_fail(layer, OCT_ERR_FORMAT, "%lld groups do not divide %lld channels", (long long)groups,
                              (long long)x.dim[2]);
    c.opts.filters = (int32_t)filters;
    c.opts.groups = (int32_t)groups;
    OCT_TRY(take_kernel(layer, &c.opts, x.dim[2], &weight));
    OCT_TRY(take_bias(layer, c.use_bias, filters, &bias));
    OCT_TRY(append_conv(layer, layer->call, &c.opts, &weight, &bias, &x));
    OCT_TRY(oct_keras_activation(layer, NULL, &x));
    *out = x;
    return OCT_OK;
}

/* Kernel H,W,C,M of a depthwise convolution: output c*M + m reads channel c alone. */
static oct_status take_depthwise(const oct_keras_layer *layer, const char *part, const char *suffix, oct_conv2d_opts *o,
                                 int64_t channels, int64_t multiplier, oct_value *weight)
{
    const oct_named_tensor *tensor;
    int64_t dims[4] = {o->kernel[0], o->kernel[1], channels, multiplier};
    OCT_TRY(oct_keras_tensor(layer, part, 4, dims, &tensor)); /* so channels * multiplier is bounded by the file */
    o->filters = (int32_t)(channels * multiplier);
    o->groups = (int32_t)channels;
    if (multiplier == 1 && channels > 1)
        return oct_keras_parameter(layer, suffix, OCT_SHAPE(o->kernel[0], o->kernel[1], o->filters), tensor,
                                   oct_keras_order_same, weight);
    return oct_keras_parameter(layer, suffix, OCT_SHAPE(o->filters, o->kernel[0], o->kernel[1], 1), tensor,
                               oct_keras_order_multi, weight);
}

static oct_status build_depthwise_conv(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    conv_config c;
    int64_t multiplier, groups;
    oct_value weight, bias;
    OCT_TRY(oct_keras_spatial(layer, &x, true));
    OCT_TRY(read_conv(layer, &x, &c));
    OCT_TRY(oct_keras_integer(layer, "depth_multiplier", 1, 1, 4096, &multiplier));
    OCT_TRY(oct_keras_integer(layer, "groups", 1, 1, 1, &groups)); /* Keras 2 writes it, always 1 */
    const char *part = oct_keras_has_tensor(layer, "depthwise_kernel") ? "depthwise_kernel" : "kernel";
    OCT_TRY(take_depthwise(layer, part, "weight", &c.opts, x.dim[2], multiplier, &weight));
    OCT_TRY(take_bias(layer, c.use_bias, c.opts.filters, &bias));
    OCT_TRY(append_conv(layer, layer->call, &c.opts, &weight, &bias, &x));
    OCT_TRY(oct_keras_activation(layer, NULL, &x));
    *out = x;
    return OCT_OK;
}

static oct_status build_separable_conv(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    conv_config c;
    int64_t multiplier, filters, groups;
    oct_value depthwise, pointwise, bias;
    const oct_named_tensor *tensor;
    OCT_TRY(oct_keras_spatial(layer, &x, true));
    OCT_TRY(read_conv(layer, &x, &c));
    OCT_TRY(oct_keras_integer(layer, "depth_multiplier", 1, 1, 4096, &multiplier));
    OCT_TRY(oct_keras_integer(layer, "filters", 0, 1, INT32_MAX, &filters));
    OCT_TRY(oct_keras_integer(layer, "groups", 1, 1, 1, &groups));
    OCT_TRY(take_depthwise(layer, "depthwise_kernel", "depthwise/weight", &c.opts, x.dim[2], multiplier, &depthwise));
    int64_t dims[4] = {1, 1, c.opts.filters, filters};
    OCT_TRY(oct_keras_tensor(layer, "pointwise_kernel", 4, dims, &tensor));
    OCT_TRY(oct_keras_parameter(layer, "weight", OCT_SHAPE((int32_t)filters, 1, 1, c.opts.filters), tensor,
                                oct_keras_order_last, &pointwise));
    OCT_TRY(take_bias(layer, c.use_bias, filters, &bias));
    char node[OCT_KERAS_NAME + 16];
    snprintf(node, sizeof node, "%s/depthwise", layer->call);
    c.opts.no_bias = true;
    OCT_TRY(append_conv(layer, node, &c.opts, &depthwise, NULL, &x));
    oct_conv2d_opts point = {.filters = (int32_t)filters, .kernel = {1, 1}, .no_bias = !c.use_bias};
    OCT_TRY(append_conv(layer, layer->call, &point, &pointwise, &bias, &x));
    OCT_TRY(oct_keras_activation(layer, NULL, &x));
    *out = x;
    return OCT_OK;
}

/* --- dense --- */

/* Keras applies a dense layer to the last dimension: on H,W,C it is a 1x1 convolution. */
static oct_status dense_on_image(oct_keras_layer *layer, const oct_named_tensor *kernel, bool use_bias, oct_keras_value *x)
{
    oct_value weight, bias;
    int64_t outputs = kernel->dims[1];
    oct_conv2d_opts point = {.filters = (int32_t)outputs, .kernel = {1, 1}, .no_bias = !use_bias};
    OCT_TRY(oct_keras_spatial(layer, x, false));
    OCT_TRY(oct_keras_parameter(layer, "weight", OCT_SHAPE((int32_t)outputs, 1, 1, (int32_t)kernel->dims[0]), kernel,
                                oct_keras_order_last, &weight));
    OCT_TRY(take_bias(layer, use_bias, outputs, &bias));
    return append_conv(layer, layer->call, &point, &weight, &bias, x);
}

static oct_status dense_on_vector(oct_keras_layer *layer, const oct_named_tensor *kernel, bool use_bias, oct_keras_value *x)
{
    oct_value weight, bias;
    char node[OCT_KERAS_NAME + 16];
    int64_t outputs = kernel->dims[1];
    snprintf(node, sizeof node, "%s/flatten", layer->call);
    OCT_TRY(oct_keras_flat(layer, x, node));
    OCT_TRY(oct_keras_parameter(layer, "weight", OCT_SHAPE((int32_t)outputs, (int32_t)kernel->dims[0]), kernel,
                                oct_keras_order_last, &weight));
    OCT_TRY(take_bias(layer, use_bias, outputs, &bias));
    oct_linear_opts opts = {.outputs = (int32_t)outputs, .no_bias = !use_bias, .weight = &weight, .bias = &bias};
    int rank = x->rank;
    *x = oct_keras_value_of(layer->b, oct_linear(layer->b->graph, layer->call, x->v, opts));
    for (; x->rank < rank; x->rank++) { /* (1, 1, C) stays (1, 1, units) */
        x->dim[x->rank] = x->dim[x->rank - 1];
        x->dim[x->rank - 1] = 1;
    }
    return oct_keras_graph_status(layer);
}

static oct_status build_dense(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    int64_t units;
    bool use_bias;
    const oct_named_tensor *kernel;
    OCT_TRY(oct_keras_integer(layer, "units", 0, 1, INT32_MAX, &units));
    OCT_TRY(oct_keras_bool(layer, "use_bias", true, &use_bias));
    OCT_TRY(oct_keras_tensor(layer, "kernel", 2, (int64_t[]){x.dim[x.rank - 1], units}, &kernel));
    if (oct_keras_elements(&x) == x.dim[x.rank - 1]) OCT_TRY(dense_on_vector(layer, kernel, use_bias, &x));
    else OCT_TRY(dense_on_image(layer, kernel, use_bias, &x));
    OCT_TRY(oct_keras_activation(layer, NULL, &x));
    *out = x;
    return OCT_OK;
}

/* --- batch norm --- */

static oct_status take_scale(const oct_keras_layer *layer, bool there, const char *part, float value, int64_t channels,
                             oct_value *out)
{
    const oct_named_tensor *tensor;
    oct_shape shape = OCT_SHAPE((int32_t)channels);
    if (!there) return oct_keras_constant(layer, part, shape, value, out);
    OCT_TRY(oct_keras_tensor(layer, part, 1, &channels, &tensor));
    return oct_keras_parameter(layer, part, shape, tensor, oct_keras_order_same, out);
}

static oct_status take_statistic(const oct_keras_layer *layer, const char *part, const char *suffix, int64_t channels,
                                 oct_value *out)
{
    const oct_named_tensor *tensor;
    OCT_TRY(oct_keras_tensor(layer, part, 1, &channels, &tensor));
    return oct_keras_buffer(layer, suffix, OCT_SHAPE((int32_t)channels), tensor, out);
}

static oct_status build_batch_norm(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    double momentum, epsilon;
    bool center, scale;
    OCT_TRY(oct_keras_real(layer, &x, false));
    OCT_TRY(oct_keras_last_axis(layer, "axis", x.rank));
    OCT_TRY(oct_keras_number(layer, "momentum", 0.99, &momentum));
    OCT_TRY(oct_keras_number(layer, "epsilon", 1e-3, &epsilon));
    OCT_TRY(oct_keras_bool(layer, "center", true, &center));
    OCT_TRY(oct_keras_bool(layer, "scale", true, &scale));
    int64_t channels = x.dim[x.rank - 1];
    if (x.rank == 2) return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "normalizes the columns of an image without channels");
    oct_value in[5] = {x.v};
    OCT_TRY(take_statistic(layer, "moving_mean", "mean", channels, &in[3]));
    OCT_TRY(take_statistic(layer, "moving_variance", "var", channels, &in[4]));
    OCT_TRY(take_scale(layer, scale, "gamma", 1, channels, &in[1]));
    OCT_TRY(take_scale(layer, center, "beta", 0, channels, &in[2]));
    oct_batch_norm_attrs attrs = {.eps = (float)epsilon, .momentum = (float)(1 - momentum)};
    out->v = oct_op_append(layer->b->graph, &oct_op_batch_norm, layer->call, &attrs, in, 5);
    oct_value v = out->v;
    *out = x;
    out->v = v;
    return oct_keras_graph_status(layer);
}

/* --- the table --- */

typedef struct layer_class {
    const char *name;
    oct_keras_build_fn *build;
    int min_inputs, max_inputs;
} layer_class;

static const layer_class classes[] = {
    {"Conv2D", build_conv, 1, 1},
    {"DepthwiseConv2D", build_depthwise_conv, 1, 1},
    {"SeparableConv2D", build_separable_conv, 1, 1},
    {"Dense", build_dense, 1, 1},
    {"BatchNormalization", build_batch_norm, 1, 1},
    {"Activation", oct_keras_build_activation, 1, 1},
    {"ReLU", oct_keras_build_relu, 1, 1},
    {"LeakyReLU", oct_keras_build_leaky_relu, 1, 1},
    {"PReLU", oct_keras_build_prelu, 1, 1},
    {"ELU", oct_keras_build_elu, 1, 1},
    {"Softmax", oct_keras_build_softmax, 1, 1},
    {"Add", oct_keras_build_add, 2, OCT_KERAS_MAX_INPUTS},
    {"Subtract", oct_keras_build_subtract, 2, 2},
    {"Multiply", oct_keras_build_multiply, 2, OCT_KERAS_MAX_INPUTS},
    {"Concatenate", oct_keras_build_concatenate, 1, OCT_KERAS_MAX_INPUTS},
    {"MaxPooling2D", oct_keras_build_max_pool, 1, 1},
    {"AveragePooling2D", oct_keras_build_average_pool, 1, 1},
    {"GlobalAveragePooling2D", oct_keras_build_global_average_pool, 1, 1},
    {"ZeroPadding2D", oct_keras_build_zero_padding, 1, 1},
    {"Flatten", oct_keras_build_flatten, 1, 1},
    {"Reshape", oct_keras_build_reshape, 1, 1},
    {"Dropout", oct_keras_build_dropout, 1, 1},
    {"UpSampling2D", oct_keras_build_upsampling, 1, 1},
    {"Rescaling", oct_keras_build_rescaling, 1, 1},
};
enum { CLASS_COUNT = sizeof classes / sizeof classes[0] };

static oct_status unknown_class(const oct_keras_layer *layer)
{
    char known[400] = "";
    size_t used = 0;
    for (int i = 0; i < CLASS_COUNT; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", classes[i].name);
    return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "this layer is not supported; supported are InputLayer, %s, and models of them",
                          known);
}

oct_status oct_keras_build_layer(oct_keras_layer *layer, oct_keras_value *out)
{
    const layer_class *c = NULL;
    for (int i = 0; i < CLASS_COUNT && !c; i++)
        if (!strcmp(layer->class_name, classes[i].name)) c = &classes[i];
    if (!c) return unknown_class(layer);
    if (!cJSON_IsObject(layer->config)) return oct_keras_fail(layer, OCT_ERR_FORMAT, "expected a \"config\" object");
    if (layer->input_count < c->min_inputs || layer->input_count > c->max_inputs)
        return oct_keras_fail(layer, OCT_ERR_FORMAT, "expected %d..%d inputs, found %d", c->min_inputs, c->max_inputs,
                              layer->input_count);
    OCT_TRY(c->build(layer, out));
    return oct_keras_check_attributes(layer);
}
