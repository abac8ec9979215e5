/* SPDX-License-Identifier: BSD-2-Clause
 * Which nodes run together: walks the graph backwards from the wanted outputs, offers each node to the fusers, and makes
 * a unit of its own of every node that nobody claims. */
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/plan_internal.h"

static void single_unit(const oct_node *n, oct_unit *unit)
{
    *unit = (oct_unit){.exec = &n->op->exec, .node_count = 1, .nodes = {n->id}, .last = n->id,
                       .input_count = n->input_count};
    memcpy(unit->inputs, n->inputs, sizeof unit->inputs);
}

static bool unit_is_free(const oct_unit *unit, const bool *claimed)
{
    for (int i = 0; i < unit->node_count; i++)
        if (unit->nodes[i] >= 0 && claimed[unit->nodes[i]]) return false;
    return true;
}

static bool try_fusers(const oct_plan *plan, const oct_node *n, const bool *claimed, oct_unit *unit)
{
    const oct_graph *g = plan->graph;
    if (plan->options.no_fuse) return false;
    const oct_fuser *own[] = {plan->options.mode == OCT_EVAL ? &oct_inference_fuser : NULL, &oct_float_fuser};
    for (int i = 0; i < g->fuser_count + 2; i++) {
        const oct_fuser *fuser = i < g->fuser_count ? g->fusers[i] : own[i - g->fuser_count];
        if (!fuser) continue;
        *unit = (oct_unit){.last = n->id};
        if (fuser->match(g, n, plan->kept, unit) && unit_is_free(unit, claimed)) return true;
    }
    return false;
}

oct_status oct_plan_make_units(oct_plan *plan)
{
    const oct_graph *g = plan->graph;
    size_t nodes = (size_t)g->node_count;
    bool *claimed = oct_calloc(nodes, sizeof *claimed);
    if (!claimed) return oct_out_of_memory(plan->ctx, "plan");
    oct_status status = OCT_OK;
    int count = 0; /* units come out last first */
    for (int32_t k = g->node_count - 1; k >= 0; k--) {
        const oct_node *n = g->nodes[g->order[k]];
        if (n->kind != OCT_NODE_OP || !plan->live[n->id] || claimed[n->id]) continue;
        oct_unit *unit = &plan->units[count].unit;
        if (!try_fusers(plan, n, claimed, unit)) single_unit(n, unit);
        if (!unit->exec->forward && !unit->exec->view) {
            status = oct_fail(&plan->ctx->error, OCT_ERR_UNSUPPORTED, "'%s': %s cannot run as a step of its own", n->name,
                              n->op->name);
            goto done;
        }
        for (int i = 0; i < unit->node_count; i++)
            if (unit->nodes[i] >= 0) claimed[unit->nodes[i]] = true;
        count++;
    }
    plan->unit_count = count;
    for (int i = 0; i < count / 2; i++) {
        oct_planned t = plan->units[i];
        plan->units[i] = plan->units[count - 1 - i];
        plan->units[count - 1 - i] = t;
    }
    for (int i = 0; i < count; i++) plan->unit_of[plan->units[i].unit.last] = i;
done:
    oct_free(claimed);
    return status;
}
