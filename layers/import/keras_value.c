/* SPDX-License-Identifier: BSD-2-Clause
 * Values between layers. */
#include <stdio.h>
#include <string.h>

#include "layers/import/keras_internal.h"

oct_keras_value oct_keras_value_of(const oct_keras_builder *b, oct_value v)
{
    oct_keras_value x = {.v = v};
    const oct_node *n = oct_graph_node(b->graph, v);
    if (!n) return x; /* the graph has failed: whoever appended asks for its status */
    x.rank = n->shape.rank - 1;
    for (int i = 0; i < x.rank; i++) x.dim[i] = n->shape.dim[i + 1];
    return x;
}

int64_t oct_keras_elements(const oct_keras_value *x)
{
    int64_t n = 1;
    for (int i = 0; i < x->rank; i++) n *= x->dim[i];
    return n;
}

const char *oct_keras_shape(char text[OCT_KERAS_SHAPE], const oct_keras_value *x)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < x->rank; i++)
        used += (size_t)snprintf(text + used, OCT_KERAS_SHAPE - used, "%s%lld", i ? ", " : "(", (long long)x->dim[i]);
    snprintf(text + used, OCT_KERAS_SHAPE - used, ")");
    return text;
}

static bool padded(const oct_keras_value *x)
{
    return x->pad[0] || x->pad[1] || x->pad[2] || x->pad[3];
}

/* The node `x->name` of a value with two users is made once. */
static oct_status settle_softmax(const oct_keras_layer *layer, oct_keras_value *x)
{
    oct_graph *g = layer->b->graph;
    oct_value made = oct_graph_find(g, x->name);
    x->v = made.id >= 0 ? made : oct_softmax(g, x->name, x->v);
    x->softmax = false;
    return oct_keras_graph_status(layer);
}

static oct_status settle_pad(const oct_keras_layer *layer, oct_keras_value *x)
{
    oct_graph *g = layer->b->graph;
    oct_pad_attrs attrs = {.before = {x->pad[0], x->pad[1]}, .after = {x->pad[2], x->pad[3]}};
    oct_value made = oct_graph_find(g, x->name);
    x->v = made.id >= 0 ? made : oct_pad(g, x->name, x->v, attrs);
    memset(x->pad, 0, sizeof x->pad);
    return oct_keras_graph_status(layer);
}

oct_status oct_keras_settle(const oct_keras_layer *layer, oct_keras_value *x, bool keep_pad)
{
    if (x->raw) {
        x->v = oct_network_normalize(layer->b->graph, x->v, x->scale, x->offset);
        x->raw = false;
        OCT_TRY(oct_keras_graph_status(layer));
    }
    if (x->softmax) OCT_TRY(settle_softmax(layer, x));
    return padded(x) && !keep_pad ? settle_pad(layer, x) : OCT_OK;
}

oct_status oct_keras_real(const oct_keras_layer *layer, oct_keras_value *x, bool keep_pad)
{
    OCT_TRY(oct_keras_settle(layer, x, keep_pad));
    const oct_node *n = oct_graph_node(layer->b->graph, x->v);
    if (n->shape.rank != 2 || x->dim[x->rank - 1] == n->shape.dim[1]) return OCT_OK;
    char name[OCT_KERAS_NAME + 16];
    int32_t dims[3] = {(int32_t)x->dim[0], (int32_t)x->dim[1], x->rank == 3 ? (int32_t)x->dim[2] : 1};
    snprintf(name, sizeof name, "%.300s/image%d", layer->call, n->id); /* of this input */
    x->v = oct_reshape(layer->b->graph, name, x->v, dims, 3);
    return oct_keras_graph_status(layer);
}

oct_status oct_keras_spatial(const oct_keras_layer *layer, oct_keras_value *x, bool keep_pad)
{
    char text[OCT_KERAS_SHAPE], name[OCT_KERAS_NAME + 16];
    if (x->rank != 3)
        return oct_keras_fail(layer, OCT_ERR_SHAPE, "expected an input (height, width, channels), found %s",
                              oct_keras_shape(text, x));
    OCT_TRY(oct_keras_real(layer, x, keep_pad));
    if (oct_graph_node(layer->b->graph, x->v)->shape.rank == 4) return OCT_OK;
    snprintf(name, sizeof name, "%.300s/image", layer->call); /* (1, 1, C) */
    x->v = oct_reshape(layer->b->graph, name, x->v, (int32_t[]){1, 1, (int32_t)x->dim[2]}, 3);
    return oct_keras_graph_status(layer);
}

oct_status oct_keras_flat(const oct_keras_layer *layer, oct_keras_value *x, const char *node)
{
    OCT_TRY(oct_keras_settle(layer, x, false));
    if (oct_graph_node(layer->b->graph, x->v)->shape.rank != 2) x->v = oct_flatten(layer->b->graph, node, x->v);
    return oct_keras_graph_status(layer);
}
