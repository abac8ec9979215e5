/* SPDX-License-Identifier: BSD-2-Clause
 * A plan that hands everything to the reference executor: OCT_FUSE=0 on a graph with ops that only run fused. Slow, and the
 * readable truth: parameters and inputs go in as doubles, wanted outputs, gradients and (in training) buffers come back. */
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/plan_internal.h"
#include "autograd/reference.h"

bool oct_plan_needs_reference(const oct_plan *plan)
{
    const oct_graph *g = plan->graph;
    for (int32_t i = 0; plan->options.no_fuse && i < g->node_count; i++) {
        const oct_op *op = g->nodes[i]->op;
        if (plan->live[i] && op && !op->exec.forward && !op->exec.view) return true;
    }
    return false;
}

oct_status oct_plan_reference_create(oct_plan *plan)
{
    OCT_TRY(oct_reference_create(&plan->reference, plan->graph, plan->options.batch));
    size_t count = (size_t)plan->options.output_count;
    plan->reference_outputs = oct_calloc(count, sizeof *plan->reference_outputs);
    if (!plan->reference_outputs) return oct_out_of_memory(plan->ctx, "plan");
    for (size_t i = 0; i < count; i++) {
        oct_tensor *t = &plan->reference_outputs[i];
        t->sample = oct_shape_sample(&plan->graph->nodes[plan->outputs[i]]->shape);
        t->data = oct_calloc(t->sample * (size_t)plan->options.batch, sizeof(float));
        if (!t->data) return oct_out_of_memory(plan->ctx, "plan");
    }
    return OCT_OK;
}

void oct_plan_reference_destroy(oct_plan *plan)
{
    for (int i = 0; plan->reference_outputs && i < plan->options.output_count; i++)
        oct_free(plan->reference_outputs[i].data);
    oct_free(plan->reference_outputs);
    oct_reference_destroy(plan->reference);
}

static void copy_input(oct_plan *plan, const oct_node *n, int batch)
{
    const oct_tensor *t = &plan->leaves[n->id];
    double *x = oct_reference_input(plan->reference, (oct_value){n->id});
    for (size_t i = 0; t->data && i < t->sample * (size_t)batch; i++)
        x[i] = t->storage == OCT_STORE_U8    ? (double)((const uint8_t *)t->data)[i]
               : t->storage == OCT_STORE_I32 ? (double)((const int32_t *)t->data)[i]
                                             : (double)((const float *)t->data)[i];
}

static void copy_buffers_back(oct_plan *plan)
{
    oct_graph *g = plan->graph;
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind != OCT_NODE_BUFFER) continue;
        const double *value = oct_reference_value(plan->reference, (oct_value){i});
        for (size_t k = 0; k < n->count; k++) g->buffers.data[n->offset + k] = (float)value[k];
    }
}

oct_status oct_plan_reference_forward(oct_plan *plan, int batch)
{
    oct_graph *g = plan->graph;
    oct_reference_reload(plan->reference);
    OCT_TRY(oct_reference_set_batch(plan->reference, batch));
    for (int32_t i = 0; i < g->node_count; i++)
        if (g->nodes[i]->kind == OCT_NODE_INPUT) copy_input(plan, g->nodes[i], batch);
    for (int i = 0; i < plan->options.output_count; i++) {
        if (i && oct_reference_is_done(plan->reference, (oct_value){plan->outputs[i]})) continue;
        OCT_TRY(oct_reference_forward(plan->reference, &plan->run, (oct_value){plan->outputs[i]}));
    }
    for (int i = 0; i < plan->options.output_count; i++) {
        oct_tensor *t = &plan->reference_outputs[i];
        bool batched = g->nodes[plan->outputs[i]]->shape.rank > 0;
        const double *value = oct_reference_value(plan->reference, (oct_value){plan->outputs[i]});
        for (size_t k = 0; k < t->sample * (size_t)(batched ? batch : 1); k++) ((float *)t->data)[k] = (float)value[k];
    }
    if (plan->run.mode == OCT_TRAIN) copy_buffers_back(plan);
    return OCT_OK;
}

oct_status oct_plan_reference_backward(oct_plan *plan, float scale)
{
    oct_graph *g = plan->graph;
    OCT_TRY(oct_reference_backward(plan->reference, &plan->run, (oct_value){plan->outputs[0]}));
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        const double *d = oct_reference_gradient(plan->reference, (oct_value){i});
        if (n->kind != OCT_NODE_PARAMETER || !d) continue;
        for (size_t k = 0; k < n->count; k++) plan->gradients[n->offset + k] += (float)((double)scale * d[k]);
    }
    return OCT_OK;
}
