/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/reference.h"

#include <string.h>

#include "autograd/base/memory.h"

typedef struct ref_value {
    double *value, *gradient; /* allocated on first use, kept */
    oct_grid grid;
    int *grid_exponents;
    double *grid_scales;
    double *saved;
    bool done; /* computed in the last forward */
} ref_value;

struct oct_reference {
    oct_graph *graph;
    oct_ctx *ctx;
    int batch, capacity; /* samples of the next run; samples there is memory for */
    ref_value *values; /* by node id */
};

static size_t whole_elements(const oct_reference *r, const oct_node *n)
{
    bool batched = n->shape.rank && n->shape.dim[0] == OCT_BATCH;
    return oct_shape_sample(&n->shape) * (size_t)(batched ? r->capacity : 1);
}

static oct_status allocate(oct_reference *r, double **block, const oct_node *n)
{
    if (*block) return OCT_OK;
    *block = oct_calloc(whole_elements(r, n), sizeof **block);
    return *block ? OCT_OK : oct_out_of_memory(r->ctx, n->name);
}

oct_status oct_reference_create(oct_reference **out, oct_graph *graph, int batch)
{
    *out = NULL;
    OCT_TRY(oct_graph_status(graph));
    oct_reference *r = oct_calloc(1, sizeof *r);
    if (!r) return oct_out_of_memory(graph->ctx, "reference");
    r->graph = graph;
    r->ctx = graph->ctx;
    r->batch = r->capacity = batch;
    r->values = oct_calloc((size_t)graph->node_count, sizeof *r->values);
    oct_status status = r->values ? OCT_OK : oct_out_of_memory(graph->ctx, "reference");
    for (int32_t i = 0; i < graph->node_count && status == OCT_OK; i++)
        if (graph->nodes[i]->kind != OCT_NODE_OP) status = allocate(r, &r->values[i].value, graph->nodes[i]);
    if (status != OCT_OK) {
        oct_reference_destroy(r);
        return status;
    }
    oct_reference_reload(r);
    *out = r;
    return OCT_OK;
}

void oct_reference_destroy(oct_reference *r)
{
    if (!r) return;
    for (int32_t i = 0; r->values && i < r->graph->node_count; i++) {
        oct_free(r->values[i].value);
        oct_free(r->values[i].gradient);
        oct_free(r->values[i].grid_exponents);
        oct_free(r->values[i].grid_scales);
        oct_free(r->values[i].saved);
    }
    oct_free(r->values);
    oct_free(r);
}

oct_status oct_reference_set_batch(oct_reference *r, int batch)
{
    if (batch < 1 || batch > r->capacity)
        return oct_fail(&r->ctx->error, OCT_ERR_ARGUMENT, "reference: batch of %d, expected 1..%d", batch, r->capacity);
    r->batch = batch;
    return OCT_OK;
}

void oct_reference_reload(oct_reference *r)
{
    const oct_graph *g = r->graph;
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind != OCT_NODE_PARAMETER && n->kind != OCT_NODE_BUFFER) continue;
        const float *data = (n->kind == OCT_NODE_PARAMETER ? g->params.data : g->buffers.data) + n->offset;
        for (size_t k = 0; k < n->count; k++) r->values[i].value[k] = (double)data[k];
    }
}

double *oct_reference_input(oct_reference *r, oct_value input)
{
    const oct_node *n = oct_graph_node(r->graph, input);
    return n && n->kind == OCT_NODE_INPUT ? r->values[n->id].value : NULL;
}

static void mark_needed(const oct_reference *r, oct_value output, bool *needed)
{
    const oct_graph *g = r->graph;
    needed[output.id] = true;
    for (int32_t k = g->node_count - 1; k >= 0; k--) {
        const oct_node *n = g->nodes[g->order[k]];
        for (int i = 0; i < n->input_count && needed[n->id]; i++) needed[n->inputs[i]] = true;
    }
}

static const oct_grid *grid_of(const oct_ref *ref, int32_t node)
{
    return &ref->reference->values[node].grid;
}

static const double *value_of(const oct_ref *ref, int32_t node)
{
    return ref->reference->values[node].value;
}

/* The op's view of its node: inputs, grids, room for the output's grid. */
static oct_ref make_ref(oct_reference *r, const oct_node *n, const oct_run *run)
{
    ref_value *v = &r->values[n->id];
    oct_ref ref = {.ctx = r->ctx, .node = n, .run = run, .batch = r->batch, .out = v->value,
                   .grid = &v->grid, .grid_exponents = v->grid_exponents, .grid_scales = v->grid_scales,
                   .saved = v->saved, .graph = r->graph, .grid_of = grid_of, .value_of = value_of, .reference = r};
    for (int i = 0; i < n->input_count; i++) {
        ref.in_node[i] = r->graph->nodes[n->inputs[i]];
        ref.in[i] = r->values[n->inputs[i]].value;
        ref.in_grid[i] = &r->values[n->inputs[i]].grid;
    }
    return ref;
}

static oct_status forward_node(oct_reference *r, const oct_node *n, const oct_run *run)
{
    ref_value *v = &r->values[n->id];
    OCT_TRY(allocate(r, &v->value, n));
    if (!v->grid_exponents) {
        int32_t channels = 1; /* the output channel comes first in weights and last in activations */
        for (int i = 0; i < n->shape.rank; i++)
            if (n->shape.dim[i] > channels) channels = n->shape.dim[i];
        v->grid_exponents = oct_calloc((size_t)channels, sizeof *v->grid_exponents);
        v->grid_scales = oct_calloc((size_t)channels, sizeof *v->grid_scales);
        if (!v->grid_exponents || !v->grid_scales) return oct_out_of_memory(r->ctx, n->name);
    }
    if (n->op->reference.saved_count && !v->saved) {
        v->saved = oct_calloc(n->op->reference.saved_count(n), sizeof *v->saved);
        if (!v->saved) return oct_out_of_memory(r->ctx, n->name);
    }
    v->grid = (oct_grid){0};
    oct_ref ref = make_ref(r, n, run);
    if (!n->op->reference.forward)
        return oct_fail(&r->ctx->error, OCT_ERR_UNSUPPORTED, "'%s': %s has no reference form", n->name, n->op->name);
    OCT_TRY(n->op->reference.forward(&ref));
    if (n->op->reference.keeps_grid) v->grid = *ref.in_grid[0];
    v->done = true;
    return OCT_OK;
}

oct_status oct_reference_forward(oct_reference *r, const oct_run *run, oct_value output)
{
    const oct_graph *g = r->graph;
    if (!oct_graph_node(g, output)) return oct_fail(&r->ctx->error, OCT_ERR_ARGUMENT, "reference: no such output");
    bool *needed = oct_calloc((size_t)g->node_count, sizeof *needed);
    if (!needed) return oct_out_of_memory(r->ctx, "reference");
    mark_needed(r, output, needed);
    oct_status status = OCT_OK;
    for (int32_t k = 0; k < g->node_count && status == OCT_OK; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        r->values[n->id].done = needed[n->id] && n->kind != OCT_NODE_OP;
        if (needed[n->id] && n->kind == OCT_NODE_OP) status = forward_node(r, n, run);
    }
    oct_free(needed);
    return status;
}

static oct_status backward_node(oct_reference *r, const oct_node *n, const oct_run *run)
{
    const oct_op *op = n->op;
    if (!op->reference.backward) return OCT_OK;
    oct_ref ref = make_ref(r, n, run);
    ref.d_out = r->values[n->id].gradient;
    for (int i = 0; i < n->input_count; i++) {
        const oct_node *in = ref.in_node[i];
        if (op->no_gradient >> i & 1 || in->kind == OCT_NODE_BUFFER || in->dtype == OCT_I32) continue;
        OCT_TRY(allocate(r, &r->values[in->id].gradient, in));
        ref.d_in[i] = r->values[in->id].gradient;
    }
    return op->reference.backward(&ref);
}

oct_status oct_reference_backward(oct_reference *r, const oct_run *run, oct_value output)
{
    const oct_graph *g = r->graph;
    const oct_node *last = oct_graph_node(g, output);
    if (!last || !r->values[last->id].done)
        return oct_fail(&r->ctx->error, OCT_ERR_STATE, "reference: backward of an output that was not computed");
    for (int32_t i = 0; i < g->node_count; i++)
        if (r->values[i].gradient)
            memset(r->values[i].gradient, 0, whole_elements(r, g->nodes[i]) * sizeof(double));
    OCT_TRY(allocate(r, &r->values[last->id].gradient, last));
    for (size_t k = 0; k < whole_elements(r, last); k++) r->values[last->id].gradient[k] = 1;
    for (int32_t k = g->node_count - 1; k >= 0; k--) {
        const oct_node *n = g->nodes[g->order[k]];
        if (n->kind == OCT_NODE_OP && r->values[n->id].done && r->values[n->id].gradient)
            OCT_TRY(backward_node(r, n, run));
    }
    return OCT_OK;
}

bool oct_reference_is_done(const oct_reference *r, oct_value value)
{
    return r->values[value.id].done;
}

double *oct_reference_value(oct_reference *r, oct_value value)
{
    return oct_graph_node(r->graph, value) ? r->values[value.id].value : NULL;
}

double *oct_reference_gradient(oct_reference *r, oct_value value)
{
    return oct_graph_node(r->graph, value) ? r->values[value.id].gradient : NULL;
}

const oct_grid *oct_reference_grid(const oct_reference *r, oct_value value)
{
    return oct_graph_node(r->graph, value) ? &r->values[value.id].grid : NULL;
}
