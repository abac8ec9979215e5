/* SPDX-License-Identifier: BSD-2-Clause
 * Fused float step of evaluation: a convolution or linear layer with all that can be folded into it.
 *
 *   x ── conv2d|linear ── batch_norm ── add ── relu|clip ──   becomes   out = clamp(conv(x, w*s) + b' + residual, lo, hi)
 *                                        │
 *                                     residual
 *   s = gamma/sqrt(var + eps),  b' = beta + (b - mean)*s      in double, w*s and b' rounded to float once
 */
#include "autograd/ops_internal.h"

#include <math.h>
#include <string.h>

/* Slots of unit->nodes; -1 = not there. Inputs: those of the layer, then gamma, beta, mean, variance, then the residual. */
enum { ROLE_LAYER, ROLE_BN, ROLE_ADD, ROLE_ACTIVATION, ROLE_COUNT };
enum { X, W, BIAS };
enum { GAMMA, BETA, MEAN, VAR, BN_INPUTS };

static const oct_node *role(const oct_graph *graph, const oct_unit *unit, int r)
{
    return unit->nodes[r] < 0 ? NULL : graph->nodes[unit->nodes[r]];
}

static oct_conv_geometry geometry(const oct_graph *graph, const oct_unit *unit)
{
    const oct_node *layer = role(graph, unit, ROLE_LAYER), *x = oct_node_input(graph, layer, X);
    if (oct_node_is(layer, &oct_op_linear)) return oct_linear_geometry(layer, x);
    oct_conv_geometry g = oct_conv_geometry_of(layer, x, oct_node_input(graph, layer, W));
    oct_conv_choose(&g, graph->ctx);
    return g;
}

/* What is prepared: bias, weights as forward reads them. */
typedef struct prepared {
    float *bias, *packed;
    size_t bytes;
} prepared;

static prepared prepared_place(const oct_conv_geometry *g, void *base)
{
    oct_carve carve = {.base = (char *)base};
    prepared p;
    p.bias = (float *)oct_carve_take(&carve, (size_t)g->out_c, sizeof(float));
    p.packed = (float *)oct_carve_take(&carve, oct_conv_packed_size(g), sizeof(float));
    p.bytes = carve.used;
    return p;
}

static size_t prepared_bytes(const oct_graph *graph, const oct_unit *unit)
{
    oct_conv_geometry g = geometry(graph, unit);
    return prepared_place(&g, NULL).bytes;
}

static size_t weight_count(const oct_conv_geometry *g)
{
    size_t taps = (size_t)g->kernel_h * (size_t)g->kernel_w;
    return taps * (size_t)g->out_c * (g->depthwise ? 1 : (size_t)g->group_in);
}

/* Scales weight row by row: w [outputs][rest], or [rest][outputs] of depthwise ones. Writes bias. */
static void fold(const oct_step *step, const oct_conv_geometry *g, float *w, float *bias)
{
    const oct_node *bn = role(step->graph, step->unit, ROLE_BN), *layer = role(step->graph, step->unit, ROLE_LAYER);
    const float *given = layer->input_count > BIAS ? (const float *)step->in[BIAS]->data : NULL;
    const float *from = (const float *)step->in[W]->data, *norm[BN_INPUTS] = {NULL};
    for (int i = 0; bn && i < BN_INPUTS; i++) norm[i] = (const float *)step->in[layer->input_count + i]->data;
    size_t outputs = (size_t)g->out_c, rest = weight_count(g) / outputs;
    size_t next = g->depthwise ? outputs : 1, row = g->depthwise ? 1 : rest;
    for (size_t o = 0; o < outputs; o++) {
        double s = 1.0, b = given ? (double)given[o] : 0.0;
        if (bn) {
            double eps = (double)((const oct_batch_norm_attrs *)bn->attrs)->eps;
            s = (double)norm[GAMMA][o] / sqrt((double)norm[VAR][o] + eps);
            b = (double)norm[BETA][o] + (b - (double)norm[MEAN][o]) * s;
        }
        for (size_t i = 0; i < rest; i++) w[o * row + i * next] = (float)((double)from[o * row + i * next] * s);
        bias[o] = (float)b;
    }
}

/* Scratch of prepare is the folded weights before packing; of forward what the convolution wants. */
static size_t scratch_bytes(const oct_graph *graph, const oct_unit *unit, int batch, int threads, bool back)
{
    (void)batch;
    (void)back;
    oct_conv_geometry g = geometry(graph, unit);
    size_t folded = weight_count(&g) * sizeof(float), run = oct_conv_run_scratch(&g, threads);
    return folded > run ? folded : run;
}

static oct_status prepare(oct_step *step)
{
    oct_conv_geometry g = geometry(step->graph, step->unit);
    prepared p = prepared_place(&g, step->prepared);
    float *folded = (float *)step->scratch;
    fold(step, &g, folded, p.bias);
    oct_conv_pack(step, &g, p.packed, folded);
    return OCT_OK;
}

static oct_status forward(oct_step *step)
{
    const oct_unit *unit = step->unit;
    oct_conv_geometry g = geometry(step->graph, unit);
    prepared p = prepared_place(&g, step->prepared);
    const oct_node *activation = role(step->graph, unit, ROLE_ACTIVATION);
    oct_clip_attrs limits = {-INFINITY, INFINITY};
    if (activation) oct_node_limits(activation, &limits);
    oct_f32_end end = {.lo = limits.lo, .hi = limits.hi};
    if (role(step->graph, unit, ROLE_ADD)) end.residual = (const float *)step->in[step->input_count - 1]->data;
    oct_conv_run(step, &g, p.packed, p.bias, activation || end.residual ? &end : NULL);
    return OCT_OK;
}

#define FUSED_EXEC(step_name)                                                                                           \
    {                                                                                                                   \
        .name = step_name, .forward = forward, .prepare = prepare, .accepts_affine = 1, .prepared_bytes = prepared_bytes, \
        .scratch_bytes = scratch_bytes                                                                                  \
    }
static const oct_exec execs[2][2][2] = { /* [batch norm][add][activation] */
    {{FUSED_EXEC("conv"), FUSED_EXEC("conv+act")}, {FUSED_EXEC("conv+add"), FUSED_EXEC("conv+add+act")}},
    {{FUSED_EXEC("conv+bn"), FUSED_EXEC("conv+bn+act")}, {FUSED_EXEC("conv+bn+add"), FUSED_EXEC("conv+bn+add+act")}}};

/* A layer, or a batch norm behind a layer, whose weights and statistics are known before the run. */
static bool match_layer(const oct_graph *graph, const oct_node *node, const bool *kept, oct_unit *unit)
{
    unit->nodes[ROLE_BN] = -1;
    if (oct_node_is(node, &oct_op_batch_norm)) {
        unit->nodes[ROLE_BN] = node->id;
        for (int i = 1; i <= BN_INPUTS; i++)
            if (oct_node_input(graph, node, i)->kind == OCT_NODE_OP) return false;
        node = oct_node_input(graph, node, 0);
        if (!oct_node_is_inner(graph, node, kept)) return false;
    }
    unit->nodes[ROLE_LAYER] = node->id;
    if (!oct_node_is(node, &oct_op_conv2d) && !oct_node_is(node, &oct_op_linear)) return false;
    for (int i = W; i < node->input_count; i++)
        if (oct_node_input(graph, node, i)->kind != OCT_NODE_PARAMETER) return false;
    return true;
}

/* The layer behind either operand of an addition; the other operand becomes the residual. */
static bool match_add(const oct_graph *graph, const oct_node *add, const bool *kept, oct_unit *unit, int32_t *residual)
{
    if (add->input_count != 2 || add->inputs[0] == add->inputs[1]) return false;
    for (int i = 0; i < 2; i++) {
        const oct_node *operand = oct_node_input(graph, add, i);
        *residual = add->inputs[1 - i];
        if (oct_node_is_inner(graph, operand, kept) && match_layer(graph, operand, kept, unit) &&
            graph->nodes[unit->nodes[ROLE_LAYER]]->inputs[X] != *residual) {
            unit->nodes[ROLE_ADD] = add->id;
            return true;
        }
    }
    return false;
}

/* Inputs of the members; false when one is there twice. */
static bool collect_inputs(const oct_graph *graph, oct_unit *unit, int32_t residual)
{
    const oct_node *layer = role(graph, unit, ROLE_LAYER), *bn = role(graph, unit, ROLE_BN);
    int32_t *in = unit->inputs, n = 0;
    for (int i = 0; i < layer->input_count; i++) in[n++] = layer->inputs[i];
    for (int i = 1; bn && i <= BN_INPUTS; i++) in[n++] = bn->inputs[i];
    if (residual >= 0) in[n++] = residual;
    unit->input_count = n;
    return oct_unit_inputs_differ(unit);
}

static bool match(const oct_graph *graph, const oct_node *node, const bool *kept, oct_unit *unit)
{
    oct_clip_attrs limits;
    int32_t residual = -1;
    *unit = (oct_unit){.node_count = ROLE_COUNT, .nodes = {-1, -1, -1, -1}, .last = node->id};
    if (oct_node_limits(node, &limits)) {
        unit->nodes[ROLE_ACTIVATION] = node->id;
        node = oct_node_input(graph, node, 0);
        if (!oct_node_is_inner(graph, node, kept)) return false;
    }
    bool found = oct_node_is(node, &oct_op_add) ? match_add(graph, node, kept, unit, &residual)
                                                : match_layer(graph, node, kept, unit);
    if (!found || !collect_inputs(graph, unit, residual)) return false;
    unit->exec = &execs[unit->nodes[ROLE_BN] >= 0][unit->nodes[ROLE_ADD] >= 0][unit->nodes[ROLE_ACTIVATION] >= 0];
    return true;
}

const oct_fuser oct_inference_fuser = {.name = "inference", .match = match};
