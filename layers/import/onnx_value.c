/* SPDX-License-Identifier: BSD-2-Clause
 * Values between nodes, and the attributes of a node. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "layers/import/onnx_internal.h"

oct_status oct_onnx_fail(const oct_onnx_layer *layer, oct_status status, const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return oct_fail(layer->b->error, status, "%.220s: node '%.100s' (%.40s): %s", layer->b->file, layer->name,
                    layer->node->op, message);
}

oct_status oct_onnx_graph_status(const oct_onnx_layer *layer)
{
    char reason[OCT_ERROR_BYTES];
    oct_status status = oct_network_status(layer->b->graph, reason);
    return status == OCT_OK ? OCT_OK : oct_onnx_fail(layer, status, "%.480s", reason);
}

/* --- attributes --- */

const oct_onnx_attribute *oct_onnx_attribute_of(const oct_onnx_layer *layer, const char *name)
{
    for (int i = 0; i < layer->node->attribute_count; i++)
        if (!strcmp(layer->node->attributes[i].name, name)) return &layer->node->attributes[i];
    return NULL;
}

int64_t oct_onnx_int(const oct_onnx_layer *layer, const char *name, int64_t missing)
{
    const oct_onnx_attribute *a = oct_onnx_attribute_of(layer, name);
    return a ? a->i : missing;
}

double oct_onnx_float(const oct_onnx_layer *layer, const char *name, double missing)
{
    const oct_onnx_attribute *a = oct_onnx_attribute_of(layer, name);
    return a ? (double)a->f : missing;
}

const char *oct_onnx_text(const oct_onnx_layer *layer, const char *name, const char *missing)
{
    const oct_onnx_attribute *a = oct_onnx_attribute_of(layer, name);
    return a ? a->s : missing;
}

oct_status oct_onnx_ints(const oct_onnx_layer *layer, const char *name, int count, int32_t missing, int32_t min,
                         int32_t max, int32_t *out)
{
    const oct_onnx_attribute *a = oct_onnx_attribute_of(layer, name);
    for (int i = 0; i < count; i++) out[i] = missing;
    if (!a) return OCT_OK;
    bool good = a->int_count == count;
    for (int i = 0; i < count && good; i++) {
        good = a->ints[i] >= min && a->ints[i] <= max;
        if (good) out[i] = (int32_t)a->ints[i];
    }
    if (good) return OCT_OK;
    return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "attribute '%s': expected %d integers in %d..%d", name, count, min, max);
}

oct_status oct_onnx_known(const oct_onnx_layer *layer, const char *const *names)
{
    for (int i = 0; i < layer->node->attribute_count; i++) {
        const char *const *name = names;
        while (*name && strcmp(*name, layer->node->attributes[i].name)) name++;
        if (!*name)
            return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "attribute '%.60s' is not supported",
                                 layer->node->attributes[i].name);
    }
    return OCT_OK;
}

oct_status oct_onnx_read_window(const oct_onnx_layer *layer, oct_onnx_window *out)
{
    enum { MOST = 4096 };
    const char *automatic = oct_onnx_text(layer, "auto_pad", "NOTSET");
    OCT_TRY(oct_onnx_ints(layer, "kernel_shape", 2, 0, 1, MOST, out->kernel));
    OCT_TRY(oct_onnx_ints(layer, "strides", 2, 1, 1, MOST, out->stride));
    OCT_TRY(oct_onnx_ints(layer, "dilations", 2, 1, 1, MOST, out->dilation));
    OCT_TRY(oct_onnx_ints(layer, "pads", 4, 0, 0, MOST, out->pad));
    out->padding = OCT_EXPLICIT;
    if (!strcmp(automatic, "SAME_UPPER")) out->padding = OCT_SAME;
    else if (!strcmp(automatic, "VALID")) out->padding = OCT_VALID;
    else if (*automatic && strcmp(automatic, "NOTSET"))
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "auto_pad '%.40s'", automatic);
    return OCT_OK;
}

/* --- inputs --- */

bool oct_onnx_has_input(const oct_onnx_layer *layer, int i)
{
    return i < layer->input_count && layer->inputs[i];
}

oct_status oct_onnx_constant(const oct_onnx_layer *layer, int i, const oct_onnx_tensor **out)
{
    *out = oct_onnx_has_input(layer, i) ? layer->inputs[i]->constant : NULL;
    if (*out) return OCT_OK;
    return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "input %d: expected a tensor stored in the file", i);
}

oct_onnx_value oct_onnx_value_of(const oct_onnx_builder *b, oct_value v)
{
    oct_onnx_value x = {.v = v};
    const oct_node *n = oct_graph_node(b->graph, v);
    if (!n) return x; /* the graph has failed: whoever appended asks for its status */
    x.rank = n->shape.rank == 4 ? 4 : 2;
    if (x.rank == 2) {
        x.dim[0] = n->shape.dim[1];
        return x;
    }
    x.dim[0] = n->shape.dim[3];
    x.dim[1] = n->shape.dim[1];
    x.dim[2] = n->shape.dim[2];
    return x;
}

oct_status oct_onnx_settled(const oct_onnx_layer *layer, int i, oct_onnx_value *out)
{
    oct_graph *g = layer->b->graph;
    if (!oct_onnx_has_input(layer, i) || layer->inputs[i]->constant)
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "input %d: expected a value computed from the image", i);
    *out = *layer->inputs[i];
    if (out->raw) {
        out->v = oct_network_normalize(g, out->v, out->scale, out->offset);
        out->raw = false;
        OCT_TRY(oct_onnx_graph_status(layer));
    }
    if (out->log_softmax) return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "reads a LogSoftmax, which is supported at the end alone");
    if (out->softmax) {
        oct_value made = oct_graph_find(g, out->name);
        out->v = made.id >= 0 ? made : oct_softmax(g, out->name, out->v);
        out->softmax = false;
    }
    return oct_onnx_graph_status(layer);
}

oct_status oct_onnx_image(const oct_onnx_layer *layer, int i, oct_onnx_value *out)
{
    OCT_TRY(oct_onnx_settled(layer, i, out));
    if (out->rank != 4 || out->nhwc)
        return oct_onnx_fail(layer, OCT_ERR_UNSUPPORTED, "expected an input N,C,H,W, found %s",
                             out->rank == 4 ? "N,H,W,C" : "a vector");
    if (oct_graph_node(layer->b->graph, out->v)->shape.rank == 4) return OCT_OK;
    char name[OCT_ONNX_NAME + 16];
    snprintf(name, sizeof name, "%s/image", layer->name);
    out->v = oct_reshape(layer->b->graph, name, out->v, (int32_t[]){1, 1, (int32_t)out->dim[0]}, 3);
    return oct_onnx_graph_status(layer);
}
