/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/numeric.h"

#include <math.h>

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

const char *oct_numeric_first(const oct_graph *g, oct_node_kind kind, const float *flat)
{
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        if (n->kind == kind && !all_finite(flat + n->offset, n->count)) return n->name;
    }
    return NULL;
}

/* Stops the pass at the first output that is not finite. */
static oct_status look(void *user, const oct_node *node, const oct_tensor *tensor, int batch)
{
    const oct_node **found = user;
    size_t n = node->shape.rank ? tensor->sample * (size_t)batch : 1;
    if (tensor->storage != OCT_STORE_F32 || all_finite(tensor->data, n)) return OCT_OK;
    *found = node;
    return OCT_ERR_NUMERIC;
}

oct_status oct_numeric_explain(oct_plan *plan, oct_graph *g, const oct_run *run, int batch, const char *what)
{
    oct_error *error = &g->ctx->error;
    const char *name = oct_numeric_first(g, OCT_NODE_PARAMETER, g->params.data);
    if (name)
        return oct_fail(error, OCT_ERR_NUMERIC, "%s: parameter '%s' holds a value that is not finite", what,
                        name);
    /* Live statistics follow the batch: they are victims, not causes. */
    if (run->mode == OCT_EVAL || (run->bn_frozen && run->range_frozen)) {
        name = oct_numeric_first(g, OCT_NODE_BUFFER, g->buffers.data);
        if (name)
            return oct_fail(error, OCT_ERR_NUMERIC, "%s: statistic '%s' holds a value that is not finite",
                            what, name);
    }
    const oct_node *found = NULL;
    oct_plan_observe(plan, look, &found);
    oct_status status = oct_plan_forward(plan, run, batch);
    oct_plan_observe(plan, NULL, NULL);
    if (found)
        return oct_fail(error, OCT_ERR_NUMERIC, "%s: the first tensor that is not finite is '%s' (%s)", what,
                        found->name, found->op->name);
    if (status != OCT_OK) return oct_fail(error, status, "%s", what);
    return oct_fail(error, OCT_ERR_NUMERIC, "%s", what);
}
