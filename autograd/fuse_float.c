/* SPDX-License-Identifier: BSD-2-Clause
 * Fused float step: batch_norm, then optionally the addition of one other value, then optionally relu or
 * clip. One pass over the data forward, two backward.
 *
 *   x ── batch_norm ── add ── relu|clip ──   becomes   out = clamp(x*a + b + residual, lo, hi)
 *                       │
 *                    residual
 */
#include "autograd/ops_internal.h"

#include <math.h>
#include <string.h>

/* Slots of unit->nodes and of unit->inputs: gamma, beta, mean and variance are inputs 1..4. */
enum { ROLE_BN, ROLE_ADD, ROLE_ACTIVATION, ROLE_COUNT };
enum { INPUT_X = 0, INPUT_RESIDUAL = 5 };

static oct_bn_task task_of(const oct_graph *graph, const oct_unit *unit)
{
    oct_bn_task task = {
        .bn = graph->nodes[unit->nodes[ROLE_BN]], .residual = -1, .lo = -INFINITY, .hi = INFINITY};
    if (unit->nodes[ROLE_ADD] >= 0) task.residual = INPUT_RESIDUAL;
    if (unit->nodes[ROLE_ACTIVATION] >= 0) {
        oct_clip_attrs limits = {-INFINITY, INFINITY};
        task.masked = oct_node_limits(graph->nodes[unit->nodes[ROLE_ACTIVATION]], &limits);
        task.lo = limits.lo;
        task.hi = limits.hi;
    }
    return task;
}

static oct_status forward(oct_step *step)
{
    oct_bn_task task = task_of(step->graph, step->unit);
    return oct_bn_forward(step, &task);
}

static oct_status backward(oct_step *step)
{
    oct_bn_task task = task_of(step->graph, step->unit);
    return oct_bn_backward(step, &task);
}

static size_t saved_bytes(const oct_graph *graph, const oct_unit *unit, int batch, int threads)
{
    (void)batch;
    (void)threads;
    return oct_bn_saved(oct_last_dim(oct_unit_node(graph, unit)));
}

static size_t scratch_bytes(const oct_graph *graph, const oct_unit *unit, int batch, int threads, bool back)
{
    (void)batch;
    (void)threads;
    return oct_bn_scratch(oct_last_dim(oct_unit_node(graph, unit)), back);
}

#define FUSED_EXEC(step_name, reads_output, lazy)                                                             \
    {                                                                                                        \
        .name = step_name, .forward = forward, .backward = backward,                                         \
        .backward_reads = OCT_READS_INPUT(INPUT_X) | OCT_READS_INPUT(1) | (reads_output), .inplace = true,   \
        .inplace_backward = true, .lazy_out = lazy, .lazy_d_in = true, .wants_sums = true,                   \
        .saved_bytes = saved_bytes, .scratch_bytes = scratch_bytes                                           \
    }

static const oct_exec exec_add = FUSED_EXEC("bn+add", 0, false);
static const oct_exec exec_relu = FUSED_EXEC("bn+relu", OCT_READS_OUTPUT, true);
static const oct_exec exec_clip = FUSED_EXEC("bn+clip", OCT_READS_OUTPUT, true);
static const oct_exec exec_add_relu = FUSED_EXEC("bn+add+relu", OCT_READS_OUTPUT, false);
static const oct_exec exec_add_clip = FUSED_EXEC("bn+add+clip", OCT_READS_OUTPUT, false);

/* Which operand of an addition is a batch norm that can be claimed, -1 = none. */
static int claimable_operand(const oct_graph *graph, const oct_node *add, const bool *kept)
{
    if (add->input_count != 2 || add->inputs[0] == add->inputs[1]) return -1;
    for (int i = 0; i < 2; i++) {
        const oct_node *bn = oct_node_input(graph, add, i);
        if (oct_node_is(bn, &oct_op_batch_norm) && oct_node_is_inner(graph, bn, kept) &&
            bn->inputs[0] != add->inputs[1 - i]) {
            return i;
        }
    }
    return -1;
}

static bool match(const oct_graph *graph, const oct_node *node, const bool *kept, oct_unit *unit)
{
    const oct_node *activation = NULL, *add = NULL, *bn = node;
    oct_clip_attrs limits;
    if (oct_node_limits(bn, &limits)) {
        activation = bn;
        bn = oct_node_input(graph, bn, 0);
        if (!oct_node_is_inner(graph, bn, kept)) return false;
    }
    int operand = oct_node_is(bn, &oct_op_add) ? claimable_operand(graph, bn, kept) : -1;
    if (operand >= 0) {
        add = bn;
        bn = oct_node_input(graph, add, operand);
    }
    if (bn == node || !oct_node_is(bn, &oct_op_batch_norm)) return false;
    *unit = (oct_unit){.node_count = ROLE_COUNT,
                       .nodes = {bn->id, add ? add->id : -1, activation ? activation->id : -1},
                       .last = node->id,
                       .input_count = bn->input_count};
    memcpy(unit->inputs, bn->inputs, sizeof unit->inputs);
    if (add) unit->inputs[unit->input_count++] = add->inputs[1 - operand];
    if (!activation)
        unit->exec = &exec_add;
    else if (activation->op == &oct_op_relu)
        unit->exec = add ? &exec_add_relu : &exec_relu;
    else
        unit->exec = add ? &exec_add_clip : &exec_clip;
    return oct_unit_inputs_differ(unit);
}

const oct_fuser oct_float_fuser = {.name = "float", .match = match};
