/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/ptq/network.h"

#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "quant/copy.h"
#include "quant/fold.h"

static const oct_value none = {-1};

static bool is_op(const oct_node *n, const oct_op *op)
{
    return n->kind == OCT_NODE_OP && n->op == op;
}

static const oct_node *node_of(const oct_graph *g, oct_value v)
{
    return oct_graph_node(g, v);
}

/* The point that takes a layer's output over: behind it or behind its activation. */
static oct_value point_behind(const oct_graph *g, oct_value output)
{
    int32_t users[4];
    int count = oct_graph_users(g, output, users, 4);
    for (int i = 0; i < count && i < 4; i++) {
        const oct_node *user = g->nodes[users[i]];
        if (is_op(user, &oct_op_fake_quant) && user->inputs[OCT_FQ_X] == output.id) return (oct_value){user->id};
        if (!is_op(user, &oct_op_relu) && !is_op(user, &oct_op_clip)) continue;
        int32_t behind[4];
        int n = oct_graph_users(g, (oct_value){user->id}, behind, 4);
        for (int k = 0; k < n && k < 4; k++)
            if (is_op(g->nodes[behind[k]], &oct_op_fake_quant)) return (oct_value){behind[k]};
    }
    return none;
}

static oct_value norm_behind(const oct_graph *g, const oct_node *layer)
{
    int32_t users[4];
    int count = oct_graph_users(g, (oct_value){layer->id}, users, 4);
    for (int i = 0; i < count && i < 4; i++)
        if (is_op(g->nodes[users[i]], &oct_op_batch_norm_fold)) return (oct_value){users[i]};
    return none;
}

static void fill_layer(oct_ptq_layer *l, const oct_graph *g, const oct_node *n)
{
    const oct_node *quant = oct_node_input(g, n, 1), *w = oct_node_input(g, quant, OCT_FQW_W);
    *l = (oct_ptq_layer){.layer = {n->id}, .weight_quant = {quant->id}, .weight = {w->id}, .bias = none};
    l->norm = norm_behind(g, n);
    l->output = l->norm.id >= 0 ? l->norm : l->layer;
    if (l->norm.id >= 0)
        l->bias = (oct_value){g->nodes[l->norm.id]->inputs[OCT_BNF_BETA]};
    else if (n->input_count > 2)
        l->bias = (oct_value){oct_node_input(g, n, 2)->inputs[0]};
    l->point = point_behind(g, l->output);
    l->outputs = oct_weight_outputs(&w->shape, &l->outputs_last);
    l->per_output = w->count / (size_t)l->outputs;
}

static void fill_point(oct_ptq_point *p, const oct_node *n)
{
    const oct_fake_quant_attrs *a = n->attrs;
    *p = (oct_ptq_point){.quant = {n->id}, .x = {n->inputs[OCT_FQ_X]}, .observed = {n->inputs[OCT_FQ_OBSERVED]},
                         .sign = (oct_sign)a->sign};
}

static bool is_quantized_layer(const oct_graph *g, const oct_node *n)
{
    return (is_op(n, &oct_op_conv2d) || is_op(n, &oct_op_linear)) &&
           is_op(oct_node_input(g, n, 1), &oct_op_fake_quant_weight);
}

static oct_status check_shared(const oct_ptq_net *net)
{
    for (int i = 0; i < net->layer_count; i++)
        for (int k = 0; k < i; k++) {
            const oct_ptq_layer *a = &net->layers[i], *b = &net->layers[k];
            if (a->weight.id == b->weight.id || (a->bias.id >= 0 && a->bias.id == b->bias.id))
                return oct_fail(&net->graph->ctx->error, OCT_ERR_UNSUPPORTED,
                                "post-training quantization: '%s' and '%s' share parameters",
                                node_of(net->graph, b->layer)->name, node_of(net->graph, a->layer)->name);
        }
    return OCT_OK;
}

oct_status oct_ptq_net_open(oct_ptq_net *net, oct_graph *g, oct_value image, oct_value logits)
{
    *net = (oct_ptq_net){.graph = g, .image = image, .logits = logits};
    OCT_TRY(oct_graph_status(g));
    if (!oct_quantize_points(g))
        return oct_fail(&g->ctx->error, OCT_ERR_STATE, "post-training quantization: the graph has no fake-quant points");
    net->layers = oct_calloc((size_t)g->node_count, sizeof *net->layers);
    net->points = oct_calloc((size_t)g->node_count, sizeof *net->points);
    if (!net->layers || !net->points) return oct_out_of_memory(g->ctx, "post-training quantization");
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        if (is_quantized_layer(g, n)) fill_layer(&net->layers[net->layer_count++], g, n);
        if (is_op(n, &oct_op_fake_quant)) fill_point(&net->points[net->point_count++], n);
    }
    return check_shared(net);
}

void oct_ptq_net_close(oct_ptq_net *net)
{
    oct_free(net->layers);
    oct_free(net->points);
    *net = (oct_ptq_net){0};
}

/* --- graphs made from it --- */

static oct_status rewritten_copy(oct_graph **out, const oct_ptq_net *net, const bool *keep)
{
    OCT_TRY(oct_graph_copy(out, net->graph));
    oct_status status = oct_dequantize_weights(*out, keep);
    if (status == OCT_OK) return OCT_OK;
    oct_graph_destroy(*out);
    *out = NULL;
    return status;
}

oct_status oct_ptq_float_twin(oct_graph **out, const oct_ptq_net *net)
{
    *out = NULL;
    return rewritten_copy(out, net, NULL);
}

oct_status oct_ptq_simulation(oct_graph **out, const oct_ptq_net *net, const bool *points)
{
    *out = NULL;
    bool *keep = oct_calloc((size_t)net->graph->node_count, sizeof *keep);
    if (!keep) return oct_out_of_memory(net->graph->ctx, "simulation");
    for (int i = 0; i < net->point_count; i++) keep[net->points[i].quant.id] = !points || points[i];
    oct_status status = rewritten_copy(out, net, keep);
    oct_free(keep);
    return status;
}

/* --- batch norm --- */

static void merge_layer(oct_graph *g, const oct_ptq_layer *l)
{
    const oct_node *norm = node_of(g, l->norm);
    float eps = ((const oct_batch_norm_fold_attrs *)norm->attrs)->eps;
    float *gamma = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_GAMMA]}, NULL);
    float *beta = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_BETA]}, NULL);
    float *mean = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_MEAN]}, NULL);
    float *var = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_VAR]}, NULL);
    float *own = norm->input_count > OCT_BNF_BIAS ? oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_BIAS]}, NULL) : NULL;
    float *w = oct_graph_data(g, l->weight, NULL), unit = 1 - eps;
    /* Not below 1, lest the identity lifts a weight over the power of two that it reaches exactly. */
    while ((double)unit + (double)eps < 1) unit = nextafterf(unit, 2);
    for (int o = 0; o < l->outputs; o++) {
        double s = oct_fold_scale((double)gamma[o], (double)var[o], (double)eps), b0 = own ? (double)own[o] : 0;
        for (size_t i = 0; i < l->per_output; i++) {
            float *x = &w[oct_ptq_weight_index(l, o, i)];
            *x = (float)(s * (double)*x);
        }
        beta[o] = (float)((double)beta[o] + (b0 - (double)mean[o]) * s);
        gamma[o] = 1;
        mean[o] = 0;
        var[o] = unit;
        if (own) own[o] = 0;
    }
}

void oct_ptq_merge_norms(oct_ptq_net *net)
{
    for (int i = 0; i < net->layer_count; i++)
        if (net->layers[i].norm.id >= 0) merge_layer(net->graph, &net->layers[i]);
}

/* --- weights --- */

static void fill_source(oct_fold_source *src, oct_graph *g, const oct_ptq_layer *l)
{
    const oct_node *quant = node_of(g, l->weight_quant);
    const oct_fake_quant_weight_attrs *a = quant->attrs;
    const oct_node *x = oct_grid_source(g, oct_node_input(g, quant, OCT_FQW_X));
    const float *range = oct_graph_data(g, (oct_value){x->inputs[OCT_FQ_RANGE]}, NULL);
    oct_sign sign = (oct_sign)((const oct_fake_quant_attrs *)x->attrs)->sign;
    *src = (oct_fold_source){.weights = oct_graph_data(g, l->weight, NULL), .outputs = l->outputs,
                             .per_output = l->per_output, .outputs_last = l->outputs_last, .eps = a->eps,
                             .input_exponent = oct_range_clip(range, sign).exponent, .per_channel = a->per_channel};
    if (a->has_norm) {
        src->gamma = oct_graph_data(g, (oct_value){quant->inputs[OCT_FQW_GAMMA]}, NULL);
        src->beta = oct_graph_data(g, (oct_value){quant->inputs[OCT_FQW_BETA]}, NULL);
        src->mean = oct_graph_data(g, (oct_value){quant->inputs[OCT_FQW_MEAN]}, NULL);
        src->var = oct_graph_data(g, (oct_value){quant->inputs[OCT_FQW_VAR]}, NULL);
    }
    if (a->has_bias) src->bias = oct_graph_data(g, (oct_value){quant->inputs[quant->input_count - 1]}, NULL);
}

/* Weights, exponents and bias of the integer layer as reals; each but the weights may be NULL. */
static oct_status fold_layer(float *weights, int *exponents, float *bias, const oct_ptq_net *net, const oct_ptq_layer *l)
{
    oct_graph *g = net->graph;
    oct_fold_source src;
    fill_source(&src, g, l);
    void *block = oct_alloc(oct_fold_bytes(l->outputs, l->per_output), 1);
    if (!block) return oct_out_of_memory(g->ctx, "weights of a layer");
    oct_fold fold = oct_fold_place(block, l->outputs, l->per_output);
    oct_status status = oct_fold_weights(&fold, &src, node_of(g, l->layer)->name, &g->ctx->error);
    for (int o = 0; status == OCT_OK && o < l->outputs; o++) {
        if (exponents) exponents[o] = fold.exponent[o];
        if (bias) bias[o] = (float)ldexp(fold.bias[o], -(src.input_exponent + fold.exponent[o]));
        for (size_t i = 0; i < l->per_output; i++) {
            size_t k = oct_ptq_weight_index(l, o, i);
            weights[k] = ldexpf((float)fold.codes[k], -fold.exponent[o]);
        }
    }
    oct_free(block);
    return status;
}

oct_status oct_ptq_quantized_weights(float *weights, int *exponents, const oct_ptq_net *net, const oct_ptq_layer *l)
{
    return fold_layer(weights, exponents, NULL, net, l);
}

oct_status oct_ptq_write_weights(oct_graph *simulation, const oct_ptq_net *net, const oct_ptq_layer *l)
{
    float *bias = l->bias.id >= 0 ? oct_graph_data(simulation, l->bias, NULL) : NULL;
    return fold_layer(oct_graph_data(simulation, l->weight, NULL), NULL, bias, net, l);
}

/* --- ranges --- */

float *oct_ptq_range(oct_graph *g, const oct_ptq_point *p)
{
    return oct_graph_data(g, (oct_value){g->nodes[p->quant.id]->inputs[OCT_FQ_RANGE]}, NULL);
}

void oct_ptq_set_range(oct_graph *g, const oct_ptq_point *p, float lo, float hi, int64_t batches)
{
    float *range = oct_ptq_range(g, p);
    range[OCT_RANGE_LO] = lo;
    range[OCT_RANGE_HI] = hi;
    range[OCT_RANGE_COUNT] = batches > 1 ? (float)(batches - 1) : 0;
    range[OCT_RANGE_OBSERVED] = 1;
}

int oct_ptq_find_point(const oct_ptq_net *net, oct_value quant)
{
    for (int i = 0; i < net->point_count; i++)
        if (net->points[i].quant.id == quant.id) return i;
    return -1;
}
