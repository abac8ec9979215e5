/* SPDX-License-Identifier: BSD-2-Clause
 * Classes of layers without weights: activations, sums, pools, shapes, preprocessing. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layers/import/keras_internal.h"

/* The graph's value changed, Keras's shape did not. */
static oct_status keep_shape(const oct_keras_layer *layer, oct_keras_value *x, oct_value v)
{
    x->v = v;
    return oct_keras_graph_status(layer);
}

/* --- activations --- */

static oct_status apply_relu(const oct_keras_layer *layer, const char *node, bool capped, double cap, oct_keras_value *x)
{
    oct_graph *g = layer->b->graph;
    OCT_TRY(oct_keras_settle(layer, x, false));
    return keep_shape(layer, x, capped ? oct_clip(g, node, x->v, 0, (float)cap) : oct_relu(g, node, x->v));
}

static oct_status apply_softmax(const oct_keras_layer *layer, const char *node, oct_keras_value *x)
{
    OCT_TRY(oct_keras_real(layer, x, false));
    x->softmax = true;
    x->name = oct_arena_strdup(&layer->b->arena, node);
    return x->name ? OCT_OK : oct_out_of_memory(layer->b->graph->ctx, node);
}

static oct_status apply_unary(const oct_keras_layer *layer, const char *node, oct_unary function, double parameter,
                              oct_keras_value *x)
{
    OCT_TRY(oct_keras_settle(layer, x, false));
    return keep_shape(layer, x, oct_unary_layer(layer->b->graph, node, function, x->v, (float)parameter));
}

/* Functions with Keras's default parameters. hard_sigmoid is not among them: Keras 2 and 3 mean different functions. */
static const struct {
    const char *name;
    oct_unary function;
    double parameter;
} functions[] = {
    {"leaky_relu", OCT_UNARY_LEAKY_RELU, 0.2}, {"elu", OCT_UNARY_ELU, 1},  {"sigmoid", OCT_UNARY_SIGMOID, 0},
    {"tanh", OCT_UNARY_TANH, 0},               {"swish", OCT_UNARY_SILU, 0}, {"silu", OCT_UNARY_SILU, 0},
    {"gelu", OCT_UNARY_GELU, 0},               {"hard_silu", OCT_UNARY_HARD_SWISH, 0},
    {"hard_swish", OCT_UNARY_HARD_SWISH, 0},
};

static oct_status apply_named(const oct_keras_layer *layer, const char *name, const char *node, oct_keras_value *x)
{
    if (!strcmp(name, "linear") || !*name) return OCT_OK;
    if (!strcmp(name, "relu")) return apply_relu(layer, node, false, 0, x);
    if (!strcmp(name, "relu6")) return apply_relu(layer, node, true, 6, x);
    if (!strcmp(name, "softmax")) return apply_softmax(layer, node, x);
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (!strcmp(name, functions[i].name)) return apply_unary(layer, node, functions[i].function, functions[i].parameter, x);
    return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED,
                          "activation \"%.40s\" is not supported; supported are linear, relu, relu6, leaky_relu, elu, sigmoid, "
                          "tanh, silu (swish), gelu, hard_silu, softmax", name);
}

/* An activation that is serialized as an object: a function by its name, or a layer with its own configuration. */
static oct_status apply_object(oct_keras_layer *layer, const cJSON *object, const char *node, oct_keras_value *x)
{
    const cJSON *kind = cJSON_GetObjectItemCaseSensitive(object, "class_name"),
                *config = cJSON_GetObjectItemCaseSensitive(object, "config");
    if (!cJSON_IsString(kind)) return oct_keras_fail(layer, OCT_ERR_FORMAT, "attribute \"activation\": no class_name");
    if (!strcmp(kind->valuestring, "function") && cJSON_IsString(config))
        return apply_named(layer, config->valuestring, node, x);
    oct_keras_layer inner = *layer;
    oct_keras_value in = *x;
    inner.class_name = kind->valuestring;
    inner.config = config;
    inner.inputs = &in;
    inner.input_count = 1;
    inner.asked_count = 0;
    snprintf(inner.call, sizeof inner.call, "%.300s", node);
    if (strcmp(inner.class_name, "ReLU") && strcmp(inner.class_name, "LeakyReLU") && strcmp(inner.class_name, "Softmax"))
        return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "activation \"%.40s\" is not supported", inner.class_name);
    return oct_keras_build_layer(&inner, x);
}

oct_status oct_keras_activation(oct_keras_layer *layer, const char *node, oct_keras_value *x)
{
    const cJSON *item = oct_keras_attribute(layer, "activation");
    char name[OCT_KERAS_NAME + 16];
    if (!node) snprintf(name, sizeof name, "%.300s/activation", layer->call);
    else snprintf(name, sizeof name, "%.300s", node);
    if (!item) return OCT_OK;
    if (cJSON_IsString(item)) return apply_named(layer, item->valuestring, name, x);
    if (cJSON_IsObject(item)) return apply_object(layer, item, name, x);
    return oct_keras_fail(layer, OCT_ERR_FORMAT, "attribute \"activation\": expected a name");
}

oct_status oct_keras_build_activation(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    OCT_TRY(oct_keras_activation(layer, layer->call, &x));
    *out = x;
    return OCT_OK;
}

/* x > 0 ? x : slope*x, at most `cap`. */
static oct_status leaky(const oct_keras_layer *layer, double slope, double cap, oct_keras_value *x)
{
    char node[OCT_KERAS_NAME + 16];
    if (slope == 0) return apply_relu(layer, layer->call, isfinite(cap), cap, x);
    snprintf(node, sizeof node, isfinite(cap) ? "%.300s/slope" : "%.300s", layer->call);
    OCT_TRY(apply_unary(layer, node, OCT_UNARY_LEAKY_RELU, slope, x));
    if (!isfinite(cap)) return OCT_OK;
    return keep_shape(layer, x, oct_clip(layer->b->graph, layer->call, x->v, -INFINITY, (float)cap));
}

oct_status oct_keras_build_relu(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    double cap, slope, threshold;
    OCT_TRY(oct_keras_number(layer, "max_value", INFINITY, &cap));
    OCT_TRY(oct_keras_number(layer, "negative_slope", 0, &slope));
    OCT_TRY(oct_keras_number(layer, "threshold", 0, &threshold));
    if (threshold != 0) return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "threshold %g: expected 0", threshold);
    if (cap <= 0) return oct_keras_fail(layer, OCT_ERR_FORMAT, "max_value %g: expected a positive number", cap);
    OCT_TRY(leaky(layer, slope, cap, &x));
    *out = x;
    return OCT_OK;
}

oct_status oct_keras_build_leaky_relu(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    double slope, older;
    OCT_TRY(oct_keras_number(layer, "alpha", 0.3, &older)); /* Keras 2's name */
    OCT_TRY(oct_keras_number(layer, "negative_slope", older, &slope));
    OCT_TRY(leaky(layer, slope, INFINITY, &x));
    *out = x;
    return OCT_OK;
}

oct_status oct_keras_build_elu(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    double alpha;
    OCT_TRY(oct_keras_number(layer, "alpha", 1, &alpha));
    OCT_TRY(apply_unary(layer, layer->call, OCT_UNARY_ELU, alpha, &x));
    *out = x;
    return OCT_OK;
}

/* One slope for each channel: shared_axes [1, 2] of an image, none of a vector. */
oct_status oct_keras_build_prelu(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    const oct_named_tensor *alpha;
    oct_value slope;
    OCT_TRY(oct_keras_real(layer, &x, false));
    oct_keras_attribute(layer, "shared_axes"); /* told by the shape of alpha */
    int64_t dims[3] = {1, 1, 1}, channels = x.dim[x.rank - 1];
    dims[x.rank - 1] = channels;
    OCT_TRY(oct_keras_tensor(layer, "alpha", x.rank, dims, &alpha));
    OCT_TRY(oct_keras_parameter(layer, "slope", OCT_SHAPE((int32_t)channels), alpha, oct_keras_order_same, &slope));
    oct_value v = oct_op_append(layer->b->graph, &oct_op_prelu, layer->call, NULL, (oct_value[]){x.v, slope}, 2);
    *out = x;
    return keep_shape(layer, out, v);
}

oct_status oct_keras_build_softmax(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    OCT_TRY(oct_keras_last_axis(layer, "axis", x.rank));
    OCT_TRY(apply_softmax(layer, layer->call, &x));
    *out = x;
    return OCT_OK;
}

/* --- several inputs --- */

/* Values that go into one op: settled, of equal shape in Keras's sense but for the last dimension. */
static oct_status join_inputs(const oct_keras_layer *layer, oct_value values[OCT_KERAS_MAX_INPUTS], bool last_too)
{
    const oct_keras_value *first = &layer->inputs[0];
    for (int i = 0; i < layer->input_count; i++) {
        oct_keras_value x = layer->inputs[i];
        bool same = x.rank == first->rank;
        for (int d = 0; d < x.rank - (last_too ? 0 : 1) && same; d++) same = x.dim[d] == first->dim[d];
        if (!same) {
            char a[OCT_KERAS_SHAPE], b[OCT_KERAS_SHAPE];
            return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "inputs of different shapes, %s and %s",
                                  oct_keras_shape(a, first), oct_keras_shape(b, &x));
        }
        OCT_TRY(last_too ? oct_keras_settle(layer, &x, false) : oct_keras_real(layer, &x, false));
        values[i] = x.v;
    }
    return OCT_OK;
}

typedef oct_value binary_op(oct_graph *graph, const char *name, oct_value a, oct_value b);

/* Two at a time: the integer forms have two inputs. */
static oct_status chain(oct_keras_layer *layer, binary_op *op, oct_keras_value *out)
{
    oct_value values[OCT_KERAS_MAX_INPUTS];
    OCT_TRY(join_inputs(layer, values, true));
    oct_value sum = values[0];
    for (int i = 1; i < layer->input_count; i++) {
        char node[OCT_KERAS_NAME + 16];
        bool last = i == layer->input_count - 1;
        snprintf(node, sizeof node, last ? "%s" : "%s/%d", layer->call, i);
        sum = op(layer->b->graph, node, sum, values[i]);
    }
    *out = layer->inputs[0];
    memset(out->pad, 0, sizeof out->pad);
    out->raw = out->softmax = false;
    return keep_shape(layer, out, sum);
}

oct_status oct_keras_build_add(oct_keras_layer *layer, oct_keras_value *out)
{
    return chain(layer, oct_add, out);
}

oct_status oct_keras_build_subtract(oct_keras_layer *layer, oct_keras_value *out)
{
    return chain(layer, oct_sub, out);
}

oct_status oct_keras_build_multiply(oct_keras_layer *layer, oct_keras_value *out)
{
    return chain(layer, oct_mul, out);
}

enum { CONCAT_INPUTS = 8 }; /* of the integer form */

oct_status oct_keras_build_concatenate(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_value values[OCT_KERAS_MAX_INPUTS];
    OCT_TRY(oct_keras_last_axis(layer, "axis", layer->inputs[0].rank));
    OCT_TRY(join_inputs(layer, values, false));
    if (layer->inputs[0].rank == 2) return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "joins images without channels");
    int count = layer->input_count;
    for (int part = 1; count > CONCAT_INPUTS; part++) { /* the first eight become one */
        char node[OCT_KERAS_NAME + 16];
        snprintf(node, sizeof node, "%s/%d", layer->call, part);
        values[0] = oct_concat(layer->b->graph, node, values, CONCAT_INPUTS);
        count -= CONCAT_INPUTS - 1;
        memmove(values + 1, values + CONCAT_INPUTS, (size_t)(count - 1) * sizeof *values);
    }
    *out = layer->inputs[0];
    memset(out->pad, 0, sizeof out->pad);
    out->raw = out->softmax = false;
    if (count == 1) return keep_shape(layer, out, values[0]);
    OCT_TRY(keep_shape(layer, out, oct_concat(layer->b->graph, layer->call, values, count)));
    const oct_shape *shape = &oct_graph_node(layer->b->graph, out->v)->shape;
    out->dim[out->rank - 1] = shape->dim[shape->rank - 1];
    return OCT_OK;
}

/* --- pools --- */

static oct_status read_pool(oct_keras_layer *layer, oct_pool_opts *o)
{
    *o = (oct_pool_opts){0};
    OCT_TRY(oct_keras_channels_last(layer));
    OCT_TRY(oct_keras_pair(layer, "pool_size", 2, o->kernel));
    OCT_TRY(oct_keras_padding(layer, &o->padding));
    if (oct_keras_attribute(layer, "strides")) return oct_keras_pair(layer, "strides", 0, o->stride);
    return OCT_OK;
}

/* Are all values of a node known to be >= 0? Then a maximum is the same with zeros around and with nothing. */
static bool never_negative(const oct_node *n)
{
    return n->op == &oct_op_relu || (n->op == &oct_op_clip && ((const oct_clip_attrs *)n->attrs)->lo >= 0);
}

oct_status oct_keras_build_max_pool(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    oct_pool_opts opts;
    OCT_TRY(read_pool(layer, &opts));
    bool absorb = x.v.id >= 0 && opts.padding == OCT_VALID && never_negative(oct_graph_node(layer->b->graph, x.v));
    for (int i = 0; i < 4; i++) absorb = absorb && x.pad[i] < opts.kernel[i % 2]; /* no window of zeros alone */
    OCT_TRY(oct_keras_spatial(layer, &x, absorb));
    if (absorb) {
        opts.padding = OCT_EXPLICIT;
        memcpy(opts.pad, x.pad, sizeof opts.pad);
    }
    *out = oct_keras_value_of(layer->b, oct_max_pool(layer->b->graph, layer->call, x.v, opts));
    return oct_keras_graph_status(layer);
}

oct_status oct_keras_build_average_pool(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    oct_pool_opts opts;
    OCT_TRY(read_pool(layer, &opts));
    OCT_TRY(oct_keras_spatial(layer, &x, false));
    *out = oct_keras_value_of(layer->b, oct_average_pool(layer->b->graph, layer->call, x.v, opts));
    return oct_keras_graph_status(layer);
}

oct_status oct_keras_build_global_average_pool(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    bool keep;
    oct_graph *g = layer->b->graph;
    OCT_TRY(oct_keras_channels_last(layer));
    OCT_TRY(oct_keras_bool(layer, "keepdims", false, &keep));
    OCT_TRY(oct_keras_spatial(layer, &x, false));
    oct_pool_opts whole = {.kernel = {(int32_t)x.dim[0], (int32_t)x.dim[1]}};
    *out = oct_keras_value_of(layer->b, keep ? oct_average_pool(g, layer->call, x.v, whole)
                                             : oct_global_average_pool(g, layer->call, x.v));
    return oct_keras_graph_status(layer);
}

/* --- shapes --- */

enum { MAX_PAD = 4096, MAX_SIDE = 1 << 14 };

/* n, [vertical, horizontal] or [[top, bottom], [left, right]] into top, left, bottom, right. */
static bool read_pads(const cJSON *item, int32_t pad[4])
{
    for (int axis = 0; axis < 2; axis++)
        for (int end = 0; end < 2; end++) {
            const cJSON *value = cJSON_IsArray(item) && cJSON_GetArraySize(item) == 2 ? cJSON_GetArrayItem(item, axis) : item;
            if (cJSON_IsArray(value) && cJSON_GetArraySize(value) == 2) value = cJSON_GetArrayItem(value, end);
            if (!cJSON_IsNumber(value) || !(value->valuedouble >= 0 && value->valuedouble <= MAX_PAD)) return false;
            pad[axis + 2 * end] = (int32_t)value->valuedouble;
        }
    return true;
}

oct_status oct_keras_build_zero_padding(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    int32_t pad[4] = {1, 1, 1, 1};
    OCT_TRY(oct_keras_channels_last(layer));
    const cJSON *item = oct_keras_attribute(layer, "padding");
    if (item && !read_pads(item, pad))
        return oct_keras_fail(layer, OCT_ERR_FORMAT, "attribute \"padding\": expected integers in 0..%d", MAX_PAD);
    OCT_TRY(oct_keras_spatial(layer, &x, true));
    for (int i = 0; i < 4; i++) {
        x.pad[i] += pad[i];
        x.dim[i % 2] += pad[i];
        if (x.pad[i] > MAX_PAD) return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "pads by more than %d", MAX_PAD);
    }
    x.name = oct_arena_strdup(&layer->b->arena, layer->call);
    *out = x;
    return x.name ? OCT_OK : oct_out_of_memory(layer->b->graph->ctx, layer->call);
}

/* Another shape for the same elements. A vector is [N,C] in the graph, and so is what follows until an image is needed. */
static oct_status reshape(const oct_keras_layer *layer, int rank, const int64_t *dim, oct_keras_value *x)
{
    bool image = oct_graph_node(layer->b->graph, x->v)->shape.rank == 4;
    bool same = rank == x->rank; /* (H,W) and (H,W,1) are the same image */
    if (rank > 1 && x->rank > 1) {
        int64_t was = x->rank == 3 ? x->dim[2] : 1, is = rank == 3 ? dim[2] : 1;
        same = x->dim[0] == dim[0] && x->dim[1] == dim[1] && was == is;
    } else {
        same = same && x->dim[0] == dim[0];
    }
    if (!same || !image) OCT_TRY(oct_keras_settle(layer, x, false));
    if (!same && image) OCT_TRY(oct_keras_flat(layer, x, layer->call));
    x->rank = rank;
    for (int i = 0; i < rank; i++) x->dim[i] = dim[i];
    return OCT_OK;
}

oct_status oct_keras_build_flatten(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    OCT_TRY(oct_keras_channels_last(layer));
    OCT_TRY(reshape(layer, 1, (int64_t[]){oct_keras_elements(&x)}, &x));
    *out = x;
    return OCT_OK;
}

oct_status oct_keras_build_reshape(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    const cJSON *item = oct_keras_attribute(layer, "target_shape"), *side;
    int rank = cJSON_IsArray(item) ? cJSON_GetArraySize(item) : 0, open = -1;
    int64_t dim[3] = {0}, known = 1, elements = oct_keras_elements(&x);
    if (rank < 1 || rank > 3)
        return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "target_shape: expected 1..3 dimensions, found %d", rank);
    int i = 0;
    cJSON_ArrayForEach(side, item) {
        double d = cJSON_IsNumber(side) ? side->valuedouble : 0;
        bool fits = d >= 1 && d == floor(d) && d <= (double)elements && (int64_t)d <= elements / known;
        if (d == -1 && open < 0) open = i;
        else if (!fits)
            return oct_keras_fail(layer, OCT_ERR_FORMAT, "target_shape does not hold the input's %lld elements",
                                  (long long)elements);
        dim[i] = d > 0 ? (int64_t)d : 1;
        known *= dim[i++];
    }
    if (open >= 0) dim[open] = elements / known;
    if (elements != known * (open >= 0 ? dim[open] : 1))
        return oct_keras_fail(layer, OCT_ERR_FORMAT, "target_shape does not hold the input's %lld elements",
                              (long long)elements);
    OCT_TRY(reshape(layer, rank, dim, &x));
    *out = x;
    return OCT_OK;
}

oct_status oct_keras_build_dropout(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    double rate;
    OCT_TRY(oct_keras_number(layer, "rate", 0, &rate));
    if (rate < 0 || rate >= 1) return oct_keras_fail(layer, OCT_ERR_FORMAT, "rate %g: expected a number in [0, 1)", rate);
    OCT_TRY(oct_keras_settle(layer, &x, false));
    *out = x;
    return rate > 0 ? keep_shape(layer, out, oct_dropout(layer->b->graph, layer->call, x.v, (float)rate)) : OCT_OK;
}

oct_status oct_keras_build_upsampling(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    const char *how;
    int32_t factor[2], size[2];
    oct_graph *g = layer->b->graph;
    OCT_TRY(oct_keras_channels_last(layer));
    OCT_TRY(oct_keras_pair(layer, "size", 2, factor));
    OCT_TRY(oct_keras_text(layer, "interpolation", &how));
    OCT_TRY(oct_keras_spatial(layer, &x, false));
    bool bilinear = !strcmp(how, "bilinear");
    if (*how && !bilinear && strcmp(how, "nearest"))
        return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "interpolation \"%.40s\"", how);
    for (int i = 0; i < 2; i++) {
        if (x.dim[i] * factor[i] > MAX_SIDE) return oct_keras_fail(layer, OCT_ERR_SHAPE, "makes more than %d pixels a side", MAX_SIDE);
        size[i] = (int32_t)x.dim[i] * factor[i];
    }
    *out = oct_keras_value_of(layer->b, bilinear ? oct_resize_bilinear(g, layer->call, x.v, size[0], size[1])
                                                 : oct_resize_nearest(g, layer->call, x.v, size[0], size[1]));
    return oct_keras_graph_status(layer);
}

/* --- preprocessing --- */

/* One number, or one for each channel. */
static oct_status read_channels(oct_keras_layer *layer, const char *key, double missing, int channels, double out[4])
{
    const cJSON *item = oct_keras_attribute(layer, key);
    bool list = cJSON_IsArray(item) && cJSON_GetArraySize(item) == channels;
    for (int c = 0; c < channels; c++) {
        const cJSON *value = list ? cJSON_GetArrayItem(item, c) : item;
        out[c] = missing;
        if (!item) continue;
        if (!cJSON_IsNumber(value) || !isfinite(value->valuedouble))
            return oct_keras_fail(layer, OCT_ERR_FORMAT, "attribute \"%s\": expected one number or %d", key, channels);
        out[c] = value->valuedouble;
    }
    return OCT_OK;
}

/* Behind other layers: one factor and one offset for all channels. */
static oct_status rescale_inside(oct_keras_layer *layer, oct_keras_value *x)
{
    double scale, offset;
    char node[OCT_KERAS_NAME + 16];
    OCT_TRY(oct_keras_number(layer, "scale", 1, &scale));
    OCT_TRY(oct_keras_number(layer, "offset", 0, &offset));
    snprintf(node, sizeof node, offset != 0 ? "%.300s/scale" : "%.300s", layer->call);
    OCT_TRY(apply_unary(layer, node, OCT_UNARY_MUL_SCALAR, scale, x));
    return offset != 0 ? apply_unary(layer, layer->call, OCT_UNARY_ADD_SCALAR, offset, x) : OCT_OK;
}

oct_status oct_keras_build_rescaling(oct_keras_layer *layer, oct_keras_value *out)
{
    oct_keras_value x = layer->inputs[0];
    double scale[4], offset[4];
    if (!x.raw) {
        OCT_TRY(rescale_inside(layer, &x));
        *out = x;
        return OCT_OK;
    }
    int channels = oct_graph_node(layer->b->graph, x.v)->shape.dim[3];
    OCT_TRY(read_channels(layer, "scale", 1, channels, scale));
    OCT_TRY(read_channels(layer, "offset", 0, channels, offset));
    for (int c = 0; c < channels; c++) {
        if (scale[c] == 0) return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "scale 0");
        x.scale[c] *= scale[c];
        x.offset[c] = x.offset[c] * scale[c] + offset[c];
    }
    *out = x;
    return OCT_OK;
}
