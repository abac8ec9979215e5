/* SPDX-License-Identifier: BSD-2-Clause
 * Tensors of the file become parameters of the graph. */
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "layers/import/keras_internal.h"

enum { SEARCH_NAME = OCT_TENSOR_MAX_NAME + 1 };

static bool has_suffix(const char *text, const char *suffix)
{
    size_t length = strlen(text), n = strlen(suffix);
    return length >= n && !strcmp(text + length - n, suffix);
}

/* Index of the only tensor of the layer's group whose name ends with `suffix`; -1: none, -2: several. */
static int find_suffix(const oct_keras_layer *layer, const char *suffix)
{
    const oct_tensors *tensors = layer->b->tensors;
    size_t group = strlen(layer->group);
    int found = -1;
    for (int i = 0; i < oct_tensors_count(tensors); i++) {
        const char *name = oct_tensors_at(tensors, i)->name;
        if (strncmp(name, layer->group, group) || name[group] != '/' || !has_suffix(name + group, suffix)) continue;
        if (found >= 0) return -2;
        found = i;
    }
    return found;
}

static int index_of(const oct_tensors *tensors, const oct_named_tensor *tensor)
{
    for (int i = 0; i < oct_tensors_count(tensors); i++)
        if (oct_tensors_at(tensors, i) == tensor) return i;
    return -1;
}

/* By the layer's whole path; for layers of inner models also without the models in between, as Keras 2 writes them; then
 * by the end of the name, for variables that were made in a scope of another name. */
static int find_tensor(const oct_keras_layer *layer, const char *part)
{
    const oct_tensors *tensors = layer->b->tensors;
    char name[SEARCH_NAME];
    bool inner = strcmp(layer->group, layer->path) != 0;
    snprintf(name, sizeof name, "%s/%s", layer->path, part);
    const oct_named_tensor *tensor = oct_tensors_find(tensors, name);
    if (!tensor && inner) {
        snprintf(name, sizeof name, "%.240s/%.200s/%s", layer->group, layer->name, part);
        tensor = oct_tensors_find(tensors, name);
    }
    if (tensor) return index_of(tensors, tensor);
    if (inner) snprintf(name, sizeof name, "/%.200s/%s", layer->name, part);
    else snprintf(name, sizeof name, "/%s", part);
    return find_suffix(layer, name);
}

bool oct_keras_has_tensor(const oct_keras_layer *layer, const char *part)
{
    return find_tensor(layer, part) >= 0;
}

static const char *dims_text(char text[OCT_KERAS_SHAPE], int rank, const int64_t *dims)
{
    size_t used = (size_t)snprintf(text, OCT_KERAS_SHAPE, "(");
    for (int i = 0; i < rank && used < OCT_KERAS_SHAPE - 24; i++)
        used += (size_t)snprintf(text + used, OCT_KERAS_SHAPE - used, "%s%lld", i ? ", " : "", (long long)dims[i]);
    snprintf(text + used, OCT_KERAS_SHAPE - used, ")");
    return text;
}

oct_status oct_keras_tensor(const oct_keras_layer *layer, const char *part, int rank, const int64_t *dims,
                            const oct_named_tensor **out)
{
    int index = find_tensor(layer, part);
    *out = oct_tensors_at(layer->b->tensors, index);
    if (!*out)
        return oct_keras_fail(layer, OCT_ERR_FORMAT, "expected a tensor \"%s/%s\", found %s", layer->path, part,
                              index == -1 ? "none" : "several that could be meant");
    bool same = (*out)->rank == rank;
    for (int i = 0; i < rank && same; i++) same = (*out)->dims[i] == dims[i];
    if (!same) {
        char expected[OCT_KERAS_SHAPE], found[OCT_KERAS_SHAPE];
        return oct_keras_fail(layer, OCT_ERR_FORMAT, "tensor \"%s\": expected shape %s, found %s", (*out)->name,
                              dims_text(expected, rank, dims), dims_text(found, (*out)->rank, (*out)->dims));
    }
    layer->b->used[index] = 1;
    return OCT_OK;
}

void oct_keras_order_same(float *to, const oct_named_tensor *from)
{
    memcpy(to, from->data, from->count * sizeof *to);
}

void oct_keras_order_last(float *to, const oct_named_tensor *from)
{
    size_t outputs = (size_t)from->dims[from->rank - 1], rest = from->count / (outputs ? outputs : 1);
    for (size_t o = 0; o < outputs; o++)
        for (size_t i = 0; i < rest; i++) to[o * rest + i] = from->data[i * outputs + o];
}

void oct_keras_order_multi(float *to, const oct_named_tensor *from)
{
    size_t outputs = (size_t)from->dims[2] * (size_t)from->dims[3], taps = from->count / (outputs ? outputs : 1);
    for (size_t o = 0; o < outputs; o++)
        for (size_t i = 0; i < taps; i++) to[o * taps + i] = from->data[i * outputs + o];
}

/* The node "<layer>/<suffix>", made when it is not there. */
static oct_status state_node(const oct_keras_layer *layer, oct_node_kind kind, const char *suffix, oct_shape shape,
                             oct_value *out, bool *made)
{
    oct_graph *g = layer->b->graph;
    char name[OCT_KERAS_NAME + 16];
    snprintf(name, sizeof name, "%s/%s", layer->node, suffix);
    *out = oct_graph_find(g, name);
    *made = out->id < 0;
    if (!*made) return OCT_OK;
    *out = kind == OCT_NODE_PARAMETER ? oct_parameter(g, name, shape, (oct_init){OCT_INIT_ZERO, 0})
                                      : oct_buffer(g, name, shape, 0);
    return oct_keras_graph_status(layer);
}

oct_status oct_keras_parameter(const oct_keras_layer *layer, const char *suffix, oct_shape shape,
                               const oct_named_tensor *tensor, oct_keras_order *order, oct_value *out)
{
    bool made;
    OCT_TRY(state_node(layer, OCT_NODE_PARAMETER, suffix, shape, out, &made));
    if (made) order(oct_graph_data(layer->b->graph, *out, NULL), tensor);
    return OCT_OK;
}

oct_status oct_keras_buffer(const oct_keras_layer *layer, const char *suffix, oct_shape shape,
                            const oct_named_tensor *tensor, oct_value *out)
{
    bool made;
    OCT_TRY(state_node(layer, OCT_NODE_BUFFER, suffix, shape, out, &made));
    if (made) oct_keras_order_same(oct_graph_data(layer->b->graph, *out, NULL), tensor);
    return OCT_OK;
}

oct_status oct_keras_constant(const oct_keras_layer *layer, const char *suffix, oct_shape shape, float value,
                              oct_value *out)
{
    bool made;
    OCT_TRY(state_node(layer, OCT_NODE_PARAMETER, suffix, shape, out, &made));
    size_t count = 0;
    float *data = oct_graph_data(layer->b->graph, *out, &count);
    for (size_t i = 0; i < count && made; i++) data[i] = value;
    return OCT_OK;
}
