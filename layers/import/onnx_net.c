/* SPDX-License-Identifier: BSD-2-Clause
 * The nodes of an ONNX graph, built from the output back: they may stand in any order, unused ones are left out, and a
 * cycle is found. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/import/network.h"
#include "layers/import/onnx_internal.h"

/* A named value: of a node's output, a tensor, or the image. */
typedef struct entry {
    const char *name;
    int node; /* -1: there from the start */
    int users;
    oct_onnx_value value;
} entry;

typedef struct net {
    oct_onnx_builder *b;
    entry *entries; /* sorted by name */
    int count;
    int *state; /* per node: 0 untouched, 1 waiting for its inputs, 2 built */
} net;

static oct_status fail(const net *n, oct_status status, const char *what, const char *name)
{
    return oct_fail(n->b->error, status, "%.220s: %s '%.100s'", n->b->file, what, name);
}

static void *allocate(const net *n, size_t count, size_t size)
{
    void *block = oct_arena_alloc(&n->b->arena, count ? count : 1, size);
    if (!block) fail(n, OCT_ERR_MEMORY, "out of memory:", "nodes");
    return block;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static entry *find(const net *n, const char *name)
{
    entry key = {.name = name};
    return n->count ? bsearch(&key, n->entries, (size_t)n->count, sizeof key, compare) : NULL;
}

/* The image N,C,H,W, or N,H,W,C when only that has a number of channels that images have. */
static oct_status make_image(net *n, oct_onnx_value *out)
{
    const oct_onnx_content *c = n->b->content;
    const oct_network_options *o = n->b->options;
    const int64_t *d = c->input_dims;
    if (c->input_rank != 4) return fail(n, OCT_ERR_UNSUPPORTED, "expected an image N,C,H,W at the input", c->input);
    bool last = (d[3] >= 1 && d[3] <= 4) && !(d[1] >= 1 && d[1] <= 4);
    int64_t channels = last ? d[3] : d[1], height = last ? d[1] : d[2], width = last ? d[2] : d[3];
    if (height <= 0) height = o->height;
    if (width <= 0) width = o->width;
    if (height <= 0 || width <= 0)
        return fail(n, OCT_ERR_UNSUPPORTED, "the file leaves the image's size open, it must be given; input", c->input);
    if (channels < 1 || channels > 4 || height > 1 << 14 || width > 1 << 14)
        return fail(n, OCT_ERR_UNSUPPORTED, "expected an image of 1..16384 pixels a side and 1..4 channels at the input", c->input);
    n->b->image = oct_input(n->b->graph, "image", OCT_U8,
                            OCT_SHAPE(OCT_BATCH, (int32_t)height, (int32_t)width, (int32_t)channels));
    *out = (oct_onnx_value){.v = n->b->image, .rank = 4, .dim = {channels, height, width}, .nhwc = last, .raw = true};
    for (int i = 0; i < 4; i++) {
        double scale = o->preprocess.scale[i] != 0 ? (double)o->preprocess.scale[i] : 1;
        out->scale[i] = scale;
        out->offset[i] = -(double)o->preprocess.mean[i] * scale;
    }
    return oct_graph_status(n->b->graph);
}

static oct_status add_entries(net *n)
{
    const oct_onnx_content *c = n->b->content;
    size_t room = (size_t)c->tensor_count + 1;
    for (int i = 0; i < c->node_count; i++) room += (size_t)c->nodes[i].output_count;
    n->entries = allocate(n, room, sizeof *n->entries);
    n->state = allocate(n, (size_t)c->node_count, sizeof *n->state);
    if (!n->entries || !n->state) return OCT_ERR_MEMORY;
    for (int i = 0; i < c->tensor_count; i++)
        n->entries[n->count++] = (entry){.name = c->tensors[i].name, .node = -1, .value.constant = &c->tensors[i]};
    n->entries[n->count] = (entry){.name = c->input, .node = -1};
    OCT_TRY(make_image(n, &n->entries[n->count++].value));
    for (int i = 0; i < c->node_count; i++)
        for (int k = 0; k < c->nodes[i].output_count; k++)
            if (*c->nodes[i].outputs[k]) n->entries[n->count++] = (entry){.name = c->nodes[i].outputs[k], .node = i};
    qsort(n->entries, (size_t)n->count, sizeof *n->entries, compare);
    for (int i = 1; i < n->count; i++)
        if (!strcmp(n->entries[i - 1].name, n->entries[i].name))
            return fail(n, OCT_ERR_FORMAT, "two values have the name", n->entries[i].name);
    for (int i = 0; i < c->node_count; i++)
        for (int k = 0; k < c->nodes[i].input_count; k++) {
            entry *e = *c->nodes[i].inputs[k] ? find(n, c->nodes[i].inputs[k]) : NULL;
            if (e) e->users++;
        }
    return OCT_OK;
}

/* The node's name, or its output's; never one of a model's own, never one that is taken. */
static void name_layer(const net *n, oct_onnx_layer *layer)
{
    const char *name = *layer->node->name ? layer->node->name : layer->node->outputs[0];
    char base[OCT_ONNX_NAME];
    while (*name == '/') name++;
    snprintf(base, sizeof base, "%s%.170s", !*name || oct_network_reserves(name) ? "node/" : "", name);
    snprintf(layer->name, sizeof layer->name, "%s", base);
    for (int i = 2; oct_graph_find(n->b->graph, layer->name).id >= 0; i++)
        snprintf(layer->name, sizeof layer->name, "%.200s/%d", base, i);
}

static oct_status build_node(net *n, int index)
{
    const oct_onnx_node *node = &n->b->content->nodes[index];
    oct_onnx_layer layer = {.b = n->b, .node = node, .input_count = node->input_count};
    n->state[index] = 2;
    if (!node->output_count || !*node->outputs[0]) return fail(n, OCT_ERR_FORMAT, "a node without output:", node->op);
    name_layer(n, &layer);
    for (int i = 0; i < node->input_count; i++) {
        const entry *e = *node->inputs[i] ? find(n, node->inputs[i]) : NULL;
        if (e) layer.inputs[i] = &e->value;
        if (e && i == 0) layer.only_user = e->users == 1;
    }
    return oct_onnx_build_node(&layer, &find(n, node->outputs[0])->value);
}

/* Pushes the nodes that `index` waits for. */
static oct_status push_inputs(net *n, int index, int *stack, int *top)
{
    const oct_onnx_node *node = &n->b->content->nodes[index];
    for (int i = node->input_count - 1; i >= 0; i--) {
        if (!*node->inputs[i]) continue;
        const entry *e = find(n, node->inputs[i]);
        if (!e) return fail(n, OCT_ERR_FORMAT, "no node and no tensor gives the value", node->inputs[i]);
        if (e->node < 0 || n->state[e->node] == 2) continue;
        if (n->state[e->node] == 1) return fail(n, OCT_ERR_FORMAT, "a cycle through the value", node->inputs[i]);
        if (strcmp(e->name, n->b->content->nodes[e->node].outputs[0]))
            return fail(n, OCT_ERR_UNSUPPORTED, "a node's second output is used:", e->name);
        stack[(*top)++] = e->node;
    }
    return OCT_OK;
}

oct_status oct_onnx_network(oct_onnx_builder *b, oct_onnx_value *out)
{
    net n = {.b = b};
    OCT_TRY(add_entries(&n));
    size_t room = 1;
    for (int i = 0; i < b->content->node_count; i++) room += (size_t)b->content->nodes[i].input_count;
    int *stack = allocate(&n, room, sizeof *stack), top = 0;
    if (!stack) return OCT_ERR_MEMORY;
    const entry *output = find(&n, b->content->output);
    if (!output || output->node < 0) return fail(&n, OCT_ERR_FORMAT, "no node gives the output", b->content->output);
    stack[top++] = output->node;
    while (top) {
        int index = stack[top - 1];
        if (n.state[index] == 1) OCT_TRY(build_node(&n, index));
        if (n.state[index] == 2) {
            top--;
            continue;
        }
        n.state[index] = 1;
        OCT_TRY(push_inputs(&n, index, stack, &top));
    }
    *out = output->value;
    return OCT_OK;
}
