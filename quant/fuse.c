/* SPDX-License-Identifier: BSD-2-Clause
 * Which quantized chains run as one step. Walks back from a fake_quant node (or from the output layer) to the op that makes
 * the value. A chain is taken only when nobody outside reads what is inside. */
#include "quant/pass.h"
#include "quant/unit_internal.h"

static bool is_op(const oct_node *n, const oct_op *op)
{
    return n && n->kind == OCT_NODE_OP && n->op == op;
}

static bool is_activation(const oct_node *n)
{
    return is_op(n, &oct_op_relu) || is_op(n, &oct_op_clip);
}

/* A layer whose weights are quantized for it. */
static bool is_quantized_layer(const oct_graph *g, const oct_node *n)
{
    return (is_op(n, &oct_op_conv2d) || is_op(n, &oct_op_linear)) &&
           is_op(oct_node_input(g, n, 1), &oct_op_fake_quant_weight) && oct_grid_source(g, oct_node_input(g, n, 0));
}

static bool is_point_op(const oct_graph *g, const oct_node *n)
{
    bool normalize = is_op(n, &oct_op_normalize), pool = is_op(n, &oct_op_average_pool) ||
                                                         is_op(n, &oct_op_global_average_pool);
    bool binary = (is_op(n, &oct_op_add) || is_op(n, &oct_op_sub) || is_op(n, &oct_op_mul)) && n->input_count == 2;
    if (normalize) return true;
    if (n->kind == OCT_NODE_OP && oct_op_is_tabled(n->op)) return oct_grid_source(g, oct_node_input(g, n, 0)) != NULL;
    if (!binary && !pool && !is_op(n, &oct_op_concat)) return false;
    for (int i = 0; i < n->input_count; i++)
        if (!oct_grid_source(g, oct_node_input(g, n, i))) return false;
    return true;
}

static void add_member(oct_unit *unit, int slot, const oct_node *n)
{
    unit->nodes[slot] = n->id;
}

static bool is_member(const oct_unit *unit, int32_t id)
{
    for (int i = 0; i < unit->node_count; i++)
        if (unit->nodes[i] == id) return true;
    return false;
}

/* Every user of every member but the last is a member, and nobody outside wants its value. Grids are read through the
 * producer of the codes, so a batch norm or bias quantizer that names a weight quantizer is inside anyway. */
static bool is_closed(const oct_graph *g, const oct_unit *unit, const bool *kept)
{
    enum { MAX_USERS = 16 };
    int32_t users[MAX_USERS];
    for (int i = 0; i < unit->node_count; i++) {
        if (unit->nodes[i] < 0 || unit->nodes[i] == unit->last) continue;
        if (kept[unit->nodes[i]]) return false;
        int count = oct_graph_users(g, (oct_value){unit->nodes[i]}, users, MAX_USERS);
        if (count > MAX_USERS) return false;
        for (int u = 0; u < count; u++)
            if (!is_member(unit, users[u])) return false;
    }
    return true;
}

static bool collect_inputs(const oct_graph *g, oct_unit *unit)
{
    unit->input_count = 0;
    for (int m = 0; m < unit->node_count; m++) {
        if (unit->nodes[m] < 0) continue;
        const oct_node *n = g->nodes[unit->nodes[m]];
        for (int i = 0; i < n->input_count; i++) {
            if (is_member(unit, n->inputs[i]) || oct_unit_input_of(unit, n->inputs[i]) >= 0) continue;
            if (unit->input_count == OCT_MAX_INPUTS) return false;
            unit->inputs[unit->input_count++] = n->inputs[i];
        }
    }
    return true;
}

static void clear_slots(oct_unit *unit, int slots)
{
    unit->node_count = slots;
    for (int i = 0; i < slots; i++) unit->nodes[i] = -1;
}

/* {layer, weight and bias quantizers, norm?, act?, fake_quant?} ending in `value` (in front of act and fq). */
static bool match_layer(const oct_graph *g, const oct_node *value, const oct_node *act, const oct_node *fq,
                        const bool *kept, oct_unit *unit)
{
    const oct_node *norm = is_op(value, &oct_op_batch_norm_fold) ? value : NULL;
    const oct_node *layer = norm ? oct_node_input(g, norm, OCT_BNF_U) : value;
    if (!is_quantized_layer(g, layer)) return false;
    clear_slots(unit, OCT_LAYER_SLOTS);
    add_member(unit, OCT_LAYER_OP, layer);
    add_member(unit, OCT_LAYER_WEIGHT, oct_node_input(g, layer, 1));
    if (layer->input_count > 2) {
        if (!is_op(oct_node_input(g, layer, 2), &oct_op_fake_quant_bias)) return false;
        add_member(unit, OCT_LAYER_BIAS, oct_node_input(g, layer, 2));
    }
    if (norm) add_member(unit, OCT_LAYER_NORM, norm);
    if (act) add_member(unit, OCT_LAYER_ACT, act);
    if (fq) add_member(unit, OCT_LAYER_FQ, fq);
    unit->exec = fq ? &oct_exec_layer : &oct_exec_layer_scores;
    /* The layer's x comes first: it is input 0 of the layer, the first node. */
    return is_closed(g, unit, kept) && collect_inputs(g, unit);
}

static bool match_point(const oct_graph *g, const oct_node *value, const oct_node *act, const oct_node *fq,
                        const bool *kept, oct_unit *unit)
{
    for (int with_op = 1; with_op >= 0; with_op--) {
        clear_slots(unit, OCT_POINT_SLOTS);
        if (with_op && !is_point_op(g, value)) continue;
        if (with_op) add_member(unit, OCT_POINT_OP, value);
        if (act) add_member(unit, OCT_POINT_ACT, act);
        add_member(unit, OCT_POINT_FQ, fq);
        bool reads = with_op && (is_op(value, &oct_op_mul) || oct_op_is_tabled(value->op));
        unit->exec = reads ? &oct_exec_point_operands : &oct_exec_point;
        if (is_closed(g, unit, kept) && collect_inputs(g, unit)) return true;
    }
    return false;
}

/* An op that needs no point; views are no work anyway. */
static bool match_pass(const oct_graph *g, const oct_node *n, oct_unit *unit)
{
    if (!oct_op_passes_codes(n->op) || n->op->exec.view || !oct_grid_source(g, n)) return false;
    uint32_t reads = n->op->exec.backward_reads;
    clear_slots(unit, 1);
    add_member(unit, 0, n);
    unit->exec = reads & OCT_READS_OUTPUT     ? &oct_exec_pass_reads_y
                 : reads & OCT_READS_INPUT(0) ? &oct_exec_pass_reads_x
                                              : &oct_exec_pass;
    return collect_inputs(g, unit);
}

static bool match(const oct_graph *g, const oct_node *n, const bool *kept, oct_unit *unit)
{
    if (match_pass(g, n, unit)) return true;
    if (is_op(n, &oct_op_batch_norm_fold) || is_quantized_layer(g, n)) return match_layer(g, n, NULL, NULL, kept, unit);
    if (!is_op(n, &oct_op_fake_quant)) return false;
    const oct_node *value = oct_node_input(g, n, OCT_FQ_X);
    const oct_node *act = is_activation(value) ? value : NULL;
    if (act) value = oct_node_input(g, act, 0);
    if (match_layer(g, value, act, n, kept, unit)) return true;
    if (match_point(g, value, act, n, kept, unit)) return true;
    /* The activation itself is read elsewhere: it runs in float, and only its value is rounded here. */
    return act && match_point(g, act, NULL, n, kept, unit);
}

const oct_fuser oct_quant_fuser = {.name = "quant", .match = match};
