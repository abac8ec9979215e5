/* SPDX-License-Identifier: BSD-2-Clause
 * Building, looking at, and rewriting graphs. Flat arrays grow as parameters and buffers are added; node offsets stay. */
#include "autograd/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "autograd/op.h"

enum { VIEW_ALIGN = 16, MAX_NAME = 255 };

static const oct_value invalid = {-1};

size_t oct_shape_sample(const oct_shape *shape)
{
    size_t n = 1;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] == OCT_BATCH) continue;
        if (shape->dim[i] <= 0 || !oct_size_mul(&n, n, (size_t)shape->dim[i]) || n > INT32_MAX) return 0;
    }
    return n;
}

bool oct_shape_equal(const oct_shape *a, const oct_shape *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

char *oct_shape_text(char text[OCT_SHAPE_TEXT], const oct_shape *shape)
{
    size_t used = (size_t)snprintf(text, OCT_SHAPE_TEXT, "[");
    for (int i = 0; i < shape->rank && used < OCT_SHAPE_TEXT - 16; i++) {
        const char *comma = i ? "," : "";
        if (shape->dim[i] == OCT_BATCH)
            used += (size_t)snprintf(text + used, OCT_SHAPE_TEXT - used, "%sN", comma);
        else
            used += (size_t)snprintf(text + used, OCT_SHAPE_TEXT - used, "%s%d", comma, shape->dim[i]);
    }
    snprintf(text + used, OCT_SHAPE_TEXT - used, "]");
    return text;
}

oct_status oct_graph_create(oct_graph **out, oct_ctx *ctx, uint64_t seed)
{
    *out = NULL;
    oct_graph *g = oct_calloc(1, sizeof *g);
    oct_arena *arena = oct_calloc(1, sizeof *arena);
    if (!g || !arena) {
        oct_free(g);
        oct_free(arena);
        return oct_out_of_memory(ctx, "graph");
    }
    oct_arena_init(arena, 0);
    g->ctx = ctx;
    g->seed = seed;
    g->arena = arena;
    *out = g;
    return OCT_OK;
}

void oct_graph_destroy(oct_graph *g)
{
    if (!g) return;
    oct_arena_release(g->arena);
    oct_free(g->arena);
    oct_free(g->nodes);
    oct_free(g->order);
    oct_free(g->params.data);
    oct_free(g->buffers.data);
    oct_free(g);
}

oct_value oct_graph_fail(oct_graph *g, oct_status status, const char *format, ...)
{
    if (!g->failed) {
        char message[OCT_ERROR_BYTES];
        va_list args;
        va_start(args, format);
        vsnprintf(message, sizeof message, format, args);
        va_end(args);
        oct_fail(&g->ctx->error, status, "%s", message);
        g->failed = true;
    }
    return invalid;
}

oct_status oct_graph_status(const oct_graph *g)
{
    if (!g->failed) return OCT_OK;
    return g->ctx->error.status != OCT_OK ? g->ctx->error.status : OCT_ERR_STATE;
}

const oct_node *oct_graph_node(const oct_graph *g, oct_value value)
{
    return value.id >= 0 && value.id < g->node_count ? g->nodes[value.id] : NULL;
}

oct_value oct_graph_find(const oct_graph *g, const char *name)
{
    for (int32_t i = 0; i < g->node_count; i++)
        if (!strcmp(g->nodes[i]->name, name)) return (oct_value){i};
    return invalid;
}

int oct_graph_users(const oct_graph *g, oct_value value, int32_t *users, int max)
{
    int count = 0;
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        bool reads = false;
        for (int i = 0; i < n->input_count; i++) reads |= n->inputs[i] == value.id;
        if (!reads) continue;
        if (count < max) users[count] = n->id;
        count++;
    }
    return count;
}

float *oct_graph_data(oct_graph *g, oct_value value, size_t *count)
{
    const oct_node *n = oct_graph_node(g, value);
    if (!n || (n->kind != OCT_NODE_PARAMETER && n->kind != OCT_NODE_BUFFER)) return NULL;
    if (count) *count = n->count;
    return (n->kind == OCT_NODE_PARAMETER ? g->params.data : g->buffers.data) + n->offset;
}

/* Position of a node in the execution order. */
static int32_t order_position(const oct_graph *g, int32_t id)
{
    for (int32_t k = 0; k < g->node_count; k++)
        if (g->order[k] == id) return k;
    return -1;
}

static bool reserve_node(oct_graph *g)
{
    if (g->node_count < g->node_capacity) return true;
    int32_t capacity = g->node_capacity ? 2 * g->node_capacity : 64;
    size_t used = (size_t)g->node_count;
    oct_node **nodes = oct_realloc(g->nodes, used * sizeof *nodes, (size_t)capacity, sizeof *nodes);
    if (!nodes) return false;
    g->nodes = nodes;
    int32_t *order = oct_realloc(g->order, used * sizeof *order, (size_t)capacity, sizeof *order);
    if (!order) return false;
    g->order = order;
    g->node_capacity = capacity;
    return true;
}

/* A new node at `position` of the execution order, or NULL with the graph failed. */
static oct_node *add_node(oct_graph *g, oct_node_kind kind, const char *name, int32_t position)
{
    size_t length = name ? strlen(name) : 0;
    if (length == 0 || length > MAX_NAME) {
        oct_graph_fail(g, OCT_ERR_ARGUMENT, "node name '%.40s': expected 1..%d characters", name ? name : "", MAX_NAME);
        return NULL;
    }
    if (oct_graph_find(g, name).id >= 0) {
        oct_graph_fail(g, OCT_ERR_ARGUMENT, "node '%s': the name is already taken", name);
        return NULL;
    }
    oct_node *n = oct_arena_alloc(g->arena, 1, sizeof *n);
    char *copy = n ? oct_arena_strdup(g->arena, name) : NULL;
    if (!copy || !reserve_node(g)) {
        oct_graph_fail(g, OCT_ERR_MEMORY, "out of memory: node '%s'", name);
        return NULL;
    }
    n->id = g->node_count;
    n->kind = kind;
    n->name = copy;
    g->nodes[n->id] = n;
    memmove(g->order + position + 1, g->order + position, (size_t)(g->node_count - position) * sizeof *g->order);
    g->order[position] = n->id;
    g->node_count++;
    return n;
}

/* Takes the node that was added last out again: its shape rule failed. */
static void remove_last_node(oct_graph *g)
{
    int32_t id = g->node_count - 1, position = order_position(g, id);
    memmove(g->order + position, g->order + position + 1, (size_t)(g->node_count - position - 1) * sizeof *g->order);
    g->node_count--;
}

static bool shape_is_valid(const oct_shape *shape, bool batch_allowed)
{
    if (shape->rank < 0 || shape->rank > OCT_MAX_RANK || !oct_shape_sample(shape)) return false;
    for (int i = 0; i < shape->rank; i++)
        if (shape->dim[i] == OCT_BATCH && (!batch_allowed || i)) return false;
    return true;
}

oct_value oct_input(oct_graph *g, const char *name, oct_dtype dtype, oct_shape shape)
{
    if (g->failed) return invalid;
    if (!shape_is_valid(&shape, true) || shape.rank < 1 || shape.dim[0] != OCT_BATCH)
        return oct_graph_fail(g, OCT_ERR_SHAPE, "input '%s': expected a shape that starts with OCT_BATCH", name);
    oct_node *n = add_node(g, OCT_NODE_INPUT, name, g->node_count);
    if (!n) return invalid;
    n->dtype = dtype;
    n->shape = shape;
    return (oct_value){n->id};
}

static bool flat_append(oct_flat *flat, size_t count, size_t *offset)
{
    size_t padded = (count + VIEW_ALIGN - 1) / VIEW_ALIGN * VIEW_ALIGN, needed;
    if (!oct_size_add(&needed, flat->count, padded)) return false;
    if (needed > flat->capacity) {
        size_t capacity = flat->capacity * 2 > needed ? flat->capacity * 2 : needed;
        float *data = oct_realloc(flat->data, flat->count * sizeof *data, capacity, sizeof *data);
        if (!data) return false;
        flat->data = data;
        flat->capacity = capacity;
    }
    memset(flat->data + flat->count, 0, padded * sizeof *flat->data);
    *offset = flat->count;
    flat->count = needed;
    return true;
}

static oct_node *add_flat_node(oct_graph *g, oct_node_kind kind, const char *name, oct_shape shape, int32_t position)
{
    if (g->failed) return NULL;
    if (!shape_is_valid(&shape, false)) {
        char text[OCT_SHAPE_TEXT];
        oct_graph_fail(g, OCT_ERR_SHAPE, "'%s': %s is no shape for a parameter or buffer", name,
                       oct_shape_text(text, &shape));
        return NULL;
    }
    size_t offset, count = oct_shape_sample(&shape);
    if (!flat_append(kind == OCT_NODE_PARAMETER ? &g->params : &g->buffers, count, &offset)) {
        oct_graph_fail(g, OCT_ERR_MEMORY, "out of memory: '%s'", name);
        return NULL;
    }
    oct_node *n = add_node(g, kind, name, position);
    if (!n) return NULL;
    n->dtype = OCT_F32;
    n->shape = shape;
    n->offset = offset;
    n->count = count;
    return n;
}

oct_value oct_parameter(oct_graph *g, const char *name, oct_shape shape, oct_init init)
{
    oct_node *n = add_flat_node(g, OCT_NODE_PARAMETER, name, shape, g->node_count);
    if (!n) return invalid;
    float *data = g->params.data + n->offset;
    oct_rng rng = oct_rng_start(g->seed, OCT_RNG_INIT, 0, (uint64_t)g->param_nodes++);
    for (size_t i = 0; i < n->count; i++) {
        switch (init.kind) {
        case OCT_INIT_ZERO: data[i] = 0; break;
        case OCT_INIT_ONE: data[i] = 1; break;
        case OCT_INIT_NORMAL: data[i] = init.scale * oct_rng_normal(&rng); break;
        case OCT_INIT_UNIFORM: data[i] = init.scale * (2 * oct_rng_uniform(&rng) - 1); break;
        }
    }
    return (oct_value){n->id};
}

static oct_value add_buffer(oct_graph *g, const char *name, oct_shape shape, float value, int32_t position)
{
    oct_node *n = add_flat_node(g, OCT_NODE_BUFFER, name, shape, position);
    if (!n) return invalid;
    for (size_t i = 0; i < n->count; i++) g->buffers.data[n->offset + i] = value;
    return (oct_value){n->id};
}

oct_value oct_buffer(oct_graph *g, const char *name, oct_shape shape, float value)
{
    return add_buffer(g, name, shape, value, g->node_count);
}

oct_value oct_buffer_insert(oct_graph *g, oct_value after, const char *name, oct_shape shape, float value)
{
    if (g->failed) return invalid;
    return add_buffer(g, name, shape, value, order_position(g, after.id) + 1);
}

/* Fills op, attributes and inputs of a node and runs the shape rule. */
static oct_status set_op(oct_graph *g, oct_node *n, const oct_op *op, const void *attrs, const oct_value *inputs,
                         int input_count)
{
    oct_error *error = &g->ctx->error;
    if (input_count < op->min_inputs || input_count > op->max_inputs || input_count > OCT_MAX_INPUTS)
        return oct_fail(error, OCT_ERR_ARGUMENT, "%s '%s': expected %d..%d inputs, got %d", op->name, n->name,
                        op->min_inputs, op->max_inputs, input_count);
    if (op->attr_bytes) {
        if (!attrs) return oct_fail(error, OCT_ERR_ARGUMENT, "%s '%s': attributes are missing", op->name, n->name);
        void *copy = oct_arena_alloc(g->arena, 1, op->attr_bytes);
        if (!copy) return oct_out_of_memory(g->ctx, n->name);
        memcpy(copy, attrs, op->attr_bytes);
        n->attrs = copy;
    } else {
        n->attrs = NULL;
    }
    int32_t position = order_position(g, n->id);
    for (int i = 0; i < input_count; i++) {
        const oct_node *in = oct_graph_node(g, inputs[i]);
        if (!in || order_position(g, in->id) >= position)
            return oct_fail(error, OCT_ERR_ARGUMENT, "%s '%s': input %d is no earlier node of this graph", op->name,
                            n->name, i);
        n->inputs[i] = in->id;
    }
    n->input_count = input_count;
    n->op = op;
    return op->infer(g, n);
}

static oct_value insert_op(oct_graph *g, int32_t position, const oct_op *op, const char *name, const void *attrs,
                           const oct_value *inputs, int input_count)
{
    if (g->failed) return invalid;
    oct_node *n = add_node(g, OCT_NODE_OP, name, position);
    if (!n) return invalid;
    oct_status status = set_op(g, n, op, attrs, inputs, input_count);
    if (status != OCT_OK) {
        remove_last_node(g);
        return oct_graph_fail(g, status, "%s '%s': not a valid node", op->name, name);
    }
    return (oct_value){n->id};
}

oct_value oct_op_append(oct_graph *g, const oct_op *op, const char *name, const void *attrs, const oct_value *inputs,
                        int input_count)
{
    return insert_op(g, g->node_count, op, name, attrs, inputs, input_count);
}

oct_value oct_op_insert(oct_graph *g, oct_value after, const oct_op *op, const char *name, const void *attrs,
                        const oct_value *inputs, int input_count)
{
    if (g->failed) return invalid;
    return insert_op(g, order_position(g, after.id) + 1, op, name, attrs, inputs, input_count);
}

oct_status oct_graph_rewire(oct_graph *g, oct_value user, int slot, oct_value replacement)
{
    OCT_TRY(oct_graph_status(g));
    oct_error *error = &g->ctx->error;
    const oct_node *n = oct_graph_node(g, user), *to = oct_graph_node(g, replacement);
    if (!n || !to || slot < 0 || slot >= n->input_count)
        return oct_fail(error, OCT_ERR_ARGUMENT, "rewire: no such node or input");
    const oct_node *from = g->nodes[n->inputs[slot]];
    if (!oct_shape_equal(&from->shape, &to->shape)) {
        char a[OCT_SHAPE_TEXT], b[OCT_SHAPE_TEXT];
        return oct_fail(error, OCT_ERR_SHAPE, "'%s' input %d: expected shape %s, '%s' has %s", n->name, slot,
                        oct_shape_text(a, &from->shape), to->name, oct_shape_text(b, &to->shape));
    }
    if (order_position(g, to->id) >= order_position(g, n->id))
        return oct_fail(error, OCT_ERR_ARGUMENT, "'%s' input %d: '%s' comes later", n->name, slot, to->name);
    g->nodes[n->id]->inputs[slot] = to->id;
    return OCT_OK;
}

oct_status oct_graph_replace(oct_graph *g, oct_value node, const oct_op *op, const void *attrs,
                             const oct_value *inputs, int input_count)
{
    OCT_TRY(oct_graph_status(g));
    const oct_node *n = oct_graph_node(g, node);
    if (!n || n->kind != OCT_NODE_OP) return oct_fail(&g->ctx->error, OCT_ERR_ARGUMENT, "replace: not an op node");
    oct_node before = *n;
    oct_status status = set_op(g, g->nodes[node.id], op, attrs, inputs, input_count);
    if (status == OCT_OK && !oct_shape_equal(&before.shape, &n->shape))
        status = oct_fail(&g->ctx->error, OCT_ERR_SHAPE, "'%s': %s would change its shape", before.name, op->name);
    if (status != OCT_OK) *g->nodes[node.id] = before;
    return status;
}

oct_status oct_graph_hoist(oct_graph *g, oct_value node, oct_value after)
{
    int32_t from = order_position(g, node.id), to = order_position(g, after.id) + 1;
    if (from < to) return OCT_OK;
    if (g->nodes[node.id]->kind == OCT_NODE_OP || g->nodes[node.id]->kind == OCT_NODE_INPUT)
        return oct_fail(&g->ctx->error, OCT_ERR_ARGUMENT, "'%s' cannot be moved in front of its inputs",
                        g->nodes[node.id]->name);
    memmove(g->order + to + 1, g->order + to, (size_t)(from - to) * sizeof *g->order);
    g->order[to] = node.id;
    return OCT_OK;
}

oct_status oct_graph_rename(oct_graph *g, oct_value node, const char *name)
{
    oct_error *error = &g->ctx->error;
    size_t length = name ? strlen(name) : 0;
    if (!oct_graph_node(g, node)) return oct_fail(error, OCT_ERR_ARGUMENT, "rename: no such node");
    if (length == 0 || length > MAX_NAME)
        return oct_fail(error, OCT_ERR_ARGUMENT, "node name '%.40s': expected 1..%d characters", name ? name : "", MAX_NAME);
    oct_value taken = oct_graph_find(g, name);
    if (taken.id >= 0 && taken.id != node.id)
        return oct_fail(error, OCT_ERR_ARGUMENT, "node '%s': the name is already taken", name);
    char *copy = oct_arena_strdup(g->arena, name);
    if (!copy) return oct_out_of_memory(g->ctx, name);
    g->nodes[node.id]->name = copy;
    return OCT_OK;
}

oct_status oct_graph_add_fuser(oct_graph *g, const struct oct_fuser *fuser)
{
    for (int i = 0; i < g->fuser_count; i++)
        if (g->fusers[i] == fuser) return OCT_OK;
    if (g->fuser_count == (int)(sizeof g->fusers / sizeof g->fusers[0]))
        return oct_fail(&g->ctx->error, OCT_ERR_ARGUMENT, "a graph holds at most %d fusers", g->fuser_count);
    g->fusers[g->fuser_count++] = fuser;
    return OCT_OK;
}
