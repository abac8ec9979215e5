/* SPDX-License-Identifier: BSD-2-Clause
 * ONNX operators without weights: arithmetic, pools, shapes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layers/import/onnx_internal.h"

static oct_status none_known(const oct_onnx_layer *layer)
{
    static const char *const names[] = {NULL};
    return oct_onnx_known(layer, names);
}

/* --- arithmetic --- */

/* One value, or one for each channel of an image; false when the tensor is neither. */
static bool per_channel(const oct_onnx_tensor *t, const oct_onnx_value *x, double out[4])
{
    int axis = x->nhwc ? t->rank - 1 : t->rank - 3;
    bool channels = t->count == (size_t)x->dim[0] && axis >= 0 && t->dims[axis] == x->dim[0];
    if (t->count != 1 && !channels) return false;
    for (int c = 0; c < (int)x->dim[0] && c < 4; c++) out[c] = (double)t->data[t->count == 1 ? 0 : c];
    return true;
}

/* x*scale + offset, once more scaled and moved: the network's own preprocessing. */
static bool fold_into_image(const char *op, const oct_onnx_tensor *t, oct_onnx_value *x)
{
    double k[4] = {0};
    if (!per_channel(t, x, k)) return false;
    for (int c = 0; c < (int)x->dim[0]; c++) {
        double factor = !strcmp(op, "Mul") ? k[c] : !strcmp(op, "Div") ? 1 / k[c] : 1;
        double offset = !strcmp(op, "Add") ? k[c] : !strcmp(op, "Sub") ? -k[c] : 0;
        if (!isfinite(factor) || factor == 0) return false;
        x->scale[c] *= factor;
        x->offset[c] = x->offset[c] * factor + offset;
    }
    return true;
}

/* A vector added to what a layer without bias gives becomes its bias. */
static bool wants_bias(const oct_onnx_layer *layer, const oct_onnx_tensor *t, const oct_onnx_value *x)
{
    const oct_node *n = oct_graph_node(layer->b->graph, x->v);
    bool linear = n->op == &oct_op_linear, conv = n->op == &oct_op_conv2d;
    int axis = x->rank == 2 || x->nhwc ? t->rank - 1 : t->rank - 3;
    return (linear || conv) && layer->only_user && n->input_count == 2 && axis >= 0 &&
           t->count == (size_t)x->dim[0] && t->dims[axis] == x->dim[0];
}

static oct_status add_bias(const oct_onnx_layer *layer, const oct_onnx_tensor *t, const oct_onnx_value *x)
{
    oct_graph *g = layer->b->graph;
    const oct_node *n = oct_graph_node(g, x->v);
    char name[OCT_ONNX_NAME];
    snprintf(name, sizeof name, "%.250s/bias", n->name);
    oct_value bias = oct_parameter(g, name, OCT_SHAPE((int32_t)t->count), (oct_init){OCT_INIT_ZERO, 0});
    float *data = oct_graph_data(g, bias, NULL);
    if (data) memcpy(data, t->data, t->count * sizeof *data);
    OCT_TRY(oct_onnx_graph_status(layer));
    oct_value in[3] = {{n->inputs[0]}, {n->inputs[1]}, bias};
    OCT_TRY(oct_graph_hoist(g, bias, in[1]));
    return oct_graph_replace(g, x->v, n->op, n->attrs, in, 3);
}

static oct_status with_constant(const oct_onnx_layer *layer, const oct_onnx_value *value, const oct_onnx_tensor *t,
                                int value_input, oct_onnx_value *out)
{
    const char *op = layer->node->op;
    bool commutes = !strcmp(op, "Add") || !strcmp(op, "Mul");
    if (!commutes && value_input) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "a constant minus or divided by a value");
    *out = *value;
    if (out->raw && fold_into_image(op, t, out)) return OCT_OK;
    OCT_TRY(oct_onnx_settled(layer, value_input, out));
    if (!strcmp(op, "Add") && value_input == 0 && wants_bias(layer, t, out)) return add_bias(layer, t, out);
    if (t->count != 1)
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "tensor '%.80s': expected a single value", t->name);
    double k = (double)t->data[0];
    bool factor = !strcmp(op, "Mul") || !strcmp(op, "Div");
    k = !strcmp(op, "Div") ? 1 / k : !strcmp(op, "Sub") ? -k : k;
    out->v = factor ? oct_mul_scalar(layer->b->graph, layer->name, out->v, (float)k)
                    : oct_add_scalar(layer->b->graph, layer->name, out->v, (float)k);
    return oct_onnx_graph_status(layer);
}

/* Same shape, layout and order, or refused. */
static oct_status alike(const oct_onnx_layer *layer, const oct_onnx_value *a, const oct_onnx_value *b)
{
    if (a->rank == b->rank && a->nhwc == b->nhwc && !memcmp(a->dim, b->dim, sizeof a->dim) &&
        !memcmp(a->flat, b->flat, sizeof a->flat))
        return OCT_OK;
    return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "inputs of different shapes");
}

typedef oct_value binary_op(oct_graph *graph, const char *name, oct_value a, oct_value b);

/* Two at a time: the integer forms have two inputs. */
static oct_status chain(const oct_onnx_layer *layer, binary_op *op, oct_onnx_value *out)
{
    OCT_TRY(oct_onnx_settled(layer, 0, out));
    for (int i = 1; i < layer->input_count; i++) {
        oct_onnx_value x;
        char name[OCT_ONNX_NAME + 16];
        OCT_TRY(oct_onnx_settled(layer, i, &x));
        OCT_TRY(alike(layer, out, &x));
        snprintf(name, sizeof name, i == layer->input_count - 1 ? "%s" : "%s/%d", layer->name, i);
        out->v = op(layer->b->graph, name, out->v, x.v);
    }
    return oct_onnx_graph_status(layer);
}

oct_status oct_onnx_build_sum(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    return chain(layer, oct_add, out);
}

oct_status oct_onnx_build_arithmetic(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    const char *op = layer->node->op;
    OCT_TRY(none_known(layer));
    if (layer->input_count != 2 || !layer->inputs[0] || !layer->inputs[1])
        return oct_onnx_fail(layer, OCT_ERR_FORMAT, "expected two inputs");
    const oct_onnx_value *a = layer->inputs[0], *b = layer->inputs[1];
    if (b->constant && !a->constant) return with_constant(layer, a, b->constant, 0, out);
    if (a->constant && !b->constant) return with_constant(layer, b, a->constant, 1, out);
    if (!strcmp(op, "Div")) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "divides by a value");
    return chain(layer, !strcmp(op, "Add") ? oct_add : !strcmp(op, "Sub") ? oct_sub : oct_mul, out);
}

oct_status oct_onnx_build_concat(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    enum { AT_ONCE = 8 }; /* of the integer form */
    static const char *const names[] = {"axis", NULL};
    oct_value values[OCT_ONNX_MAX_INPUTS];
    oct_onnx_value first = {.rank = 0}, x;
    OCT_TRY(oct_onnx_known(layer, names));
    for (int i = 0; i < layer->input_count; i++) {
        OCT_TRY(oct_onnx_settled(layer, i, &x));
        if (i == 0) first = x;
        if (x.rank != first.rank || x.nhwc != first.nhwc || x.dim[1] != first.dim[1] || x.dim[2] != first.dim[2] || x.flat[0])
            return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "inputs of different height, width or layout");
        values[i] = x.v;
    }
    int64_t axis = oct_onnx_int(layer, "axis", 1), channels = first.nhwc ? 3 : 1;
    if (axis < 0) axis += first.rank;
    int count = layer->input_count;
    if (axis != channels || count < 1)
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "axis %lld: expected that of the channels", (long long)axis);
    for (int part = 1; count > AT_ONCE; part++) { /* the first eight become one */
        char name[OCT_ONNX_NAME + 16];
        snprintf(name, sizeof name, "%s/%d", layer->name, part);
        values[0] = oct_concat(layer->b->graph, name, values, AT_ONCE);
        count -= AT_ONCE - 1;
        memmove(values + 1, values + AT_ONCE, (size_t)(count - 1) * sizeof *values);
    }
    bool nhwc = first.nhwc;
    *out = first;
    if (count == 1) return OCT_OK;
    *out = oct_onnx_value_of(layer->b, oct_concat(layer->b->graph, layer->name, values, count));
    out->rank = first.rank;
    if (first.rank == 4) out->dim[1] = first.dim[1], out->dim[2] = first.dim[2];
    out->nhwc = nhwc;
    return oct_onnx_graph_status(layer);
}

/* --- pools --- */

static const char *const pool_names[] = {"auto_pad",  "ceil_mode",     "count_include_pad", "dilations", "kernel_shape",
                                         "pads",      "storage_order", "strides",           NULL};

static oct_status read_pool(const oct_onnx_layer *layer, const oct_onnx_value *x, oct_pool_opts *opts)
{
    oct_onnx_window w;
    OCT_TRY(oct_onnx_known(layer, pool_names));
    OCT_TRY(oct_onnx_read_window(layer, &w));
    if (!w.kernel[0]) return oct_onnx_fail(layer, OCT_ERR_FORMAT, "expected the attribute kernel_shape");
    if (w.dilation[0] != 1 || w.dilation[1] != 1) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "dilations other than 1");
    for (int i = 0; i < 2 && oct_onnx_int(layer, "ceil_mode", 0); i++)
        if ((x->dim[1 + i] + w.pad[i] + w.pad[2 + i] - w.kernel[i]) % w.stride[i])
            return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "ceil_mode with windows that do not fit");
    *opts = (oct_pool_opts){.padding = w.padding};
    memcpy(opts->kernel, w.kernel, sizeof opts->kernel);
    memcpy(opts->stride, w.stride, sizeof opts->stride);
    memcpy(opts->pad, w.pad, sizeof opts->pad);
    return OCT_OK;
}

oct_status oct_onnx_build_max_pool(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    oct_onnx_value x;
    oct_pool_opts opts;
    OCT_TRY(oct_onnx_image(layer, 0, &x));
    OCT_TRY(read_pool(layer, &x, &opts));
    *out = oct_onnx_value_of(layer->b, oct_max_pool(layer->b->graph, layer->name, x.v, opts));
    return oct_onnx_graph_status(layer);
}

oct_status oct_onnx_build_average_pool(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    oct_onnx_value x;
    oct_pool_opts opts;
    OCT_TRY(oct_onnx_image(layer, 0, &x));
    OCT_TRY(read_pool(layer, &x, &opts));
    if (oct_onnx_int(layer, "count_include_pad", 0) && opts.padding == OCT_EXPLICIT) { /* zeros count: they must be there */
        char name[OCT_ONNX_NAME + 16];
        oct_pad_attrs pad = {.before = {opts.pad[0], opts.pad[1]}, .after = {opts.pad[2], opts.pad[3]}};
        snprintf(name, sizeof name, "%s/pad", layer->name);
        if (opts.pad[0] || opts.pad[1] || opts.pad[2] || opts.pad[3]) x.v = oct_pad(layer->b->graph, name, x.v, pad);
        memset(opts.pad, 0, sizeof opts.pad);
    }
    *out = oct_onnx_value_of(layer->b, oct_average_pool(layer->b->graph, layer->name, x.v, opts));
    return oct_onnx_graph_status(layer);
}

/* N,C,1,1 in the file, [N,C] in the graph. */
oct_status oct_onnx_build_global_pool(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    oct_onnx_value x;
    OCT_TRY(oct_onnx_image(layer, 0, &x));
    *out = oct_onnx_value_of(layer->b, oct_global_average_pool(layer->b->graph, layer->name, x.v));
    out->rank = 4;
    out->dim[1] = out->dim[2] = 1;
    return oct_onnx_graph_status(layer);
}

/* The integers of an attribute of older operator sets, of an input in newer ones. */
static oct_status read_axes(const oct_onnx_layer *layer, const char *name, int input, const int64_t **ints, int *count)
{
    const oct_onnx_attribute *a = oct_onnx_attribute_of(layer, name);
    const oct_onnx_tensor *t;
    *ints = NULL;
    *count = 0;
    if (a) {
        *ints = a->ints;
        *count = a->int_count;
        return OCT_OK;
    }
    OCT_TRY(oct_onnx_constant(layer, input, &t));
    if (!t->ints || t->rank > 1 || t->count > 8) return oct_onnx_fail(layer, OCT_ERR_FORMAT, "input %d: expected integers", input);
    *ints = t->ints;
    *count = (int)t->count;
    return OCT_OK;
}

/* Are they height and width, in any order? */
static bool are_spatial(const int64_t *axes, int count, bool nhwc)
{
    int seen = 0;
    for (int i = 0; i < count; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + 4 : axes[i];
        if (axis == (nhwc ? 1 : 2)) seen |= 1;
        if (axis == (nhwc ? 2 : 3)) seen |= 2;
    }
    return count == 2 && seen == 3;
}

oct_status oct_onnx_build_reduce_mean(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"axes", "keepdims", "noop_with_empty_axes", NULL};
    const int64_t *axes;
    int count;
    oct_onnx_value x;
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(read_axes(layer, "axes", 1, &axes, &count));
    OCT_TRY(oct_onnx_settled(layer, 0, &x));
    if (x.rank != 4 || !are_spatial(axes, count, x.nhwc))
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected the mean over height and width");
    bool keep = oct_onnx_int(layer, "keepdims", 1) != 0;
    if (oct_graph_node(layer->b->graph, x.v)->shape.rank == 4)
        x.v = oct_global_average_pool(layer->b->graph, layer->name, x.v);
    x.dim[1] = x.dim[2] = keep ? 1 : 0;
    x.rank = keep ? 4 : 2;
    x.nhwc = keep && x.nhwc;
    *out = x;
    return oct_onnx_graph_status(layer);
}

/* --- shapes --- */

static oct_status flatten(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    oct_onnx_value x;
    OCT_TRY(oct_onnx_settled(layer, 0, &x));
    *out = x;
    if (x.rank == 2) return OCT_OK;
    if (oct_graph_node(layer->b->graph, x.v)->shape.rank == 4) x.v = oct_flatten(layer->b->graph, layer->name, x.v);
    *out = oct_onnx_value_of(layer->b, x.v);
    if (!x.nhwc && x.dim[0] > 1 && x.dim[1] * x.dim[2] > 1) memcpy(out->flat, x.dim, sizeof out->flat);
    return oct_onnx_graph_status(layer);
}

oct_status oct_onnx_build_flatten(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"axis", NULL};
    OCT_TRY(oct_onnx_known(layer, names));
    int64_t axis = oct_onnx_int(layer, "axis", 1);
    if (axis != 1) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "axis %lld: expected 1", (long long)axis);
    return flatten(layer, out);
}

oct_status oct_onnx_build_reshape(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"allowzero", "shape", NULL};
    const int64_t *shape;
    int count;
    oct_onnx_value x;
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(read_axes(layer, "shape", 1, &shape, &count));
    OCT_TRY(oct_onnx_settled(layer, 0, &x));
    int64_t elements = x.dim[0] * (x.rank == 4 ? x.dim[1] * x.dim[2] : 1);
    bool batch = count == 2 && (shape[0] == 0 || shape[0] == -1 || shape[0] == 1);
    if (!batch || (shape[1] != -1 && shape[1] != elements))
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected the shape [N, %lld]", (long long)elements);
    return flatten(layer, out);
}

oct_status oct_onnx_build_squeeze(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"axes", NULL};
    const int64_t *axes;
    int count;
    oct_onnx_value x;
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(read_axes(layer, "axes", 1, &axes, &count));
    OCT_TRY(oct_onnx_settled(layer, 0, &x));
    if (x.rank != 4 || !are_spatial(axes, count, x.nhwc) || x.dim[1] != 1 || x.dim[2] != 1)
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected height and width of 1 to be left out");
    return flatten(layer, out);
}

oct_status oct_onnx_build_transpose(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"perm", NULL};
    int32_t perm[4];
    static const int32_t to_nchw[4] = {0, 3, 1, 2}, to_nhwc[4] = {0, 2, 3, 1};
    OCT_TRY(oct_onnx_known(layer, names));
    if (!oct_onnx_has_input(layer, 0) || layer->inputs[0]->constant || layer->inputs[0]->rank != 4)
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected an image");
    OCT_TRY(oct_onnx_ints(layer, "perm", 4, 0, 0, 3, perm));
    *out = *layer->inputs[0];
    if (memcmp(perm, out->nhwc ? to_nchw : to_nhwc, sizeof perm))
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected a change between N,C,H,W and N,H,W,C");
    out->nhwc = !out->nhwc;
    return OCT_OK;
}

/* Output size from the input `sizes` or `scales`. */
static oct_status resized(const oct_onnx_layer *layer, const oct_onnx_value *x, int32_t size[2])
{
    const oct_onnx_tensor *t;
    bool old = layer->b->content->opset < 11, sizes = oct_onnx_has_input(layer, 3);
    OCT_TRY(oct_onnx_constant(layer, sizes ? 3 : old ? 1 : 2, &t));
    bool good = t->count == 4 && (!sizes || t->ints) && (sizes || (t->data[0] == 1 && t->data[1] == 1));
    if (good && sizes) good = t->ints[1] == x->dim[0];
    for (int i = 0; i < 2 && good; i++) {
        double side = sizes ? (double)t->ints[2 + i] : floor((double)x->dim[1 + i] * (double)t->data[2 + i]);
        good = side >= 1 && side <= 1 << 14;
        if (good) size[i] = (int32_t)side;
    }
    return good ? OCT_OK : oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected a new height and width alone");
}

oct_status oct_onnx_build_resize(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    static const char *const names[] = {"coordinate_transformation_mode", "mode", "nearest_mode", "cubic_coeff_a",
                                        "exclude_outside", "extrapolation_value", NULL};
    oct_onnx_value x;
    oct_resize_attrs attrs;
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(oct_onnx_image(layer, 0, &x));
    OCT_TRY(resized(layer, &x, attrs.size));
    bool old = layer->b->content->opset < 11;
    const char *grid = oct_onnx_text(layer, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel"),
               *mode = oct_onnx_text(layer, "mode", "nearest"),
               *nearest = oct_onnx_text(layer, "nearest_mode", old ? "floor" : "round_prefer_floor");
    bool asymmetric = !strcmp(grid, "asymmetric"), half = !strcmp(grid, "half_pixel") || !strcmp(grid, "pytorch_half_pixel");
    bool linear = !strcmp(mode, "linear"), up = true;
    for (int i = 0; i < 2; i++) up = up && attrs.size[i] % x.dim[1 + i] == 0; /* by whole factors there are no ties */
    bool good = linear ? asymmetric || half || !strcmp(grid, "align_corners")
                       : !strcmp(mode, "nearest") &&
                             ((asymmetric && !strcmp(nearest, "floor")) || (half && up && !strncmp(nearest, "round_", 6)));
    if (!good) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "mode '%.40s', coordinates '%.40s', '%.40s'", mode, grid, nearest);
    attrs.grid = asymmetric ? OCT_RESIZE_ASYMMETRIC : half ? OCT_RESIZE_HALF_PIXEL : OCT_RESIZE_ALIGN_CORNERS;
    *out = oct_onnx_value_of(layer->b, oct_op_append(layer->b->graph, linear ? &oct_op_resize_bilinear : &oct_op_resize_nearest,
                                                     layer->name, &attrs, &x.v, 1));
    return oct_onnx_graph_status(layer);
}

oct_status oct_onnx_build_pad(const oct_onnx_layer *layer, oct_onnx_value *out)
{
    enum { MOST = 4096 };
    static const char *const names[] = {"mode", "pads", "value", NULL};
    const int64_t *pads;
    int count;
    oct_onnx_value x;
    const oct_onnx_tensor *value = NULL;
    OCT_TRY(oct_onnx_known(layer, names));
    OCT_TRY(read_axes(layer, "pads", 1, &pads, &count));
    if (oct_onnx_has_input(layer, 2)) OCT_TRY(oct_onnx_constant(layer, 2, &value));
    bool zeros = !strcmp(oct_onnx_text(layer, "mode", "constant"), "constant") && oct_onnx_float(layer, "value", 0) == 0 &&
                 (!value || (value->count == 1 && value->data[0] == 0)) && !oct_onnx_has_input(layer, 3);
    OCT_TRY(oct_onnx_image(layer, 0, &x));
    bool spatial = count == 8 && !pads[0] && !pads[1] && !pads[4] && !pads[5];
    for (int i = 0; i < count && spatial; i++) spatial = pads[i] >= 0 && pads[i] <= MOST;
    if (!zeros || !spatial) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected zeros around height and width");
    oct_pad_attrs attrs = {.before = {(int32_t)pads[2], (int32_t)pads[3]}, .after = {(int32_t)pads[6], (int32_t)pads[7]}};
    *out = oct_onnx_value_of(layer->b, oct_pad(layer->b->graph, layer->name, x.v, attrs));
    return oct_onnx_graph_status(layer);
}
