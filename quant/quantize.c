/* SPDX-License-Identifier: BSD-2-Clause
 * The insertion pass. */
#include "quant/quantize.h"

#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/ops.h"
#include "quant/int8/spec.h"
#include "quant/pass.h"

enum { NAME_BYTES = 320 };
static const float default_shrink = 0.01f;

typedef struct pass {
    oct_graph *graph;
    const oct_qconfig *config;
    oct_quantize_line *line;
    void *user;
    float shrink;
    oct_int8_rounding rounding;
    const bool *network; /* by node id: part of what is deployed, see mark_network */
} pass;

static bool is_op(const oct_node *n, const oct_op *op)
{
    return n->kind == OCT_NODE_OP && n->op == op;
}

static bool is_layer(const oct_node *n)
{
    return is_op(n, &oct_op_conv2d) || is_op(n, &oct_op_linear);
}

static bool is_activation(const oct_node *n)
{
    return is_op(n, &oct_op_relu) || is_op(n, &oct_op_clip);
}

static bool is_norm(const oct_node *n)
{
    return is_op(n, &oct_op_batch_norm) || is_op(n, &oct_op_batch_norm_fold);
}

static bool is_loss(const oct_node *n)
{
    return is_op(n, &oct_op_softmax_cross_entropy) || is_op(n, &oct_op_mean_squared_error);
}

static bool passes_codes(const oct_node *n)
{
    return n->kind == OCT_NODE_OP && oct_op_passes_codes(n->op);
}

/* Users that are part of the network: not losses, not readers of a grid. */
static int network_users(const oct_graph *g, const oct_node *n, const oct_node **only)
{
    int count = 0;
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *user = g->nodes[g->order[k]];
        for (int i = 0; i < user->input_count; i++) {
            if (user->inputs[i] != n->id || is_loss(user)) continue;
            if (user->op->no_gradient >> i & 1) continue;
            *only = user;
            count++;
        }
    }
    return count;
}

static void report(const pass *p, const oct_node *n, const char *format, const char *detail)
{
    if (!p->line) return;
    char what[256], text[640];
    snprintf(what, sizeof what, format, detail);
    snprintf(text, sizeof text, "%-28s %-20s %s", n->name, n->op ? n->op->name : "input", what);
    p->line(p->user, text);
}

static oct_status refuse(const pass *p, const oct_node *n, const char *why)
{
    return oct_fail(&p->graph->ctx->error, OCT_ERR_UNSUPPORTED, "cannot quantize '%s' (%s): %s", n->name,
                    n->op ? n->op->name : "input", why);
}

static const char *sub_name(char name[NAME_BYTES], const oct_node *n, const char *suffix)
{
    snprintf(name, NAME_BYTES, "%s/%s", n->name, suffix);
    return name;
}

/* Rewires every network user of `from` (and the losses) to `to`, but for the node `except`. */
static oct_status redirect_users(oct_graph *g, int32_t from, oct_value to, int32_t except)
{
    for (int32_t k = 0; k < g->node_count; k++) {
        oct_node *user = g->nodes[g->order[k]];
        for (int i = 0; i < user->input_count; i++)
            if (user->inputs[i] == from && user->id != except && user->id != to.id)
                OCT_TRY(oct_graph_rewire(g, (oct_value){user->id}, i, to));
    }
    return OCT_OK;
}

/* A fake_quant node behind `n`. ReLU observes its input (the un-clamped value), and so does dropout (the values of
 * evaluation, not those scaled by 1/(1 - rate)); everything else observes itself. */
static oct_status insert_point(const pass *p, const oct_node *n)
{
    oct_graph *g = p->graph;
    char name[NAME_BYTES];
    bool relu = is_op(n, &oct_op_relu);
    bool unsigned_clip = is_op(n, &oct_op_clip) && ((const oct_clip_attrs *)n->attrs)->lo >= 0;
    oct_fake_quant_attrs attrs = {.sign = relu || unsigned_clip ? OCT_SIGN_UNSIGNED : OCT_SIGN_AUTO,
                                  .shrink = p->shrink, .rounding = (int32_t)p->rounding,
                                  .averaging = (int32_t)p->config->averaging};
    bool looks_back = relu || is_op(n, &oct_op_dropout);
    oct_value x = {n->id}, observed = looks_back ? (oct_value){n->inputs[0]} : x;
    oct_value range = oct_buffer_insert(g, x, sub_name(name, n, "range"), OCT_SHAPE(OCT_RANGE_FLOATS), 0);
    oct_value fq = oct_op_insert(g, range, &oct_op_fake_quant, sub_name(name, n, "quant"), &attrs,
                                 (oct_value[]){x, observed, range}, 3);
    OCT_TRY(oct_graph_status(g));
    oct_range_init(oct_graph_data(g, range, NULL), (oct_sign)attrs.sign);
    OCT_TRY(redirect_users(g, n->id, fq, fq.id));
    report(p, n, p->config->profile == OCT_AFFINE ? "activation u8, affine, %s" : "activation u8/s8, po2, %s",
           relu ? "unsigned, range before ReLU" :
           unsigned_clip ? "unsigned, range after the cap" : "sign from the range");
    return OCT_OK;
}

/* A layer reads codes: its input must be on a grid. */
static oct_status require_grid(const pass *p, const oct_node *layer)
{
    const oct_graph *g = p->graph;
    const oct_node *x = oct_node_input(g, layer, 0);
    if (oct_grid_source(g, x)) return OCT_OK;
    while (passes_codes(x)) x = oct_node_input(g, x, 0);
    return insert_point(p, x);
}

/* batch norm behind a layer whose output nobody else reads. */
static const oct_node *following_norm(const oct_graph *g, const oct_node *layer)
{
    const oct_node *user = NULL;
    return network_users(g, layer, &user) == 1 && is_norm(user) ? user : NULL;
}

static bool per_channel_weights(const pass *p, const oct_node *layer)
{
    if (p->config->per_channel == OCT_PER_CHANNEL_ALL) return true;
    /* The convolution in front of a lone batch norm: its weights are the norm's factors, which differ widely. */
    if (oct_node_input(p->graph, layer, 1)->kind == OCT_NODE_BUFFER) return true;
    return p->config->per_channel == OCT_PER_CHANNEL_DEPTHWISE && is_op(layer, &oct_op_conv2d) &&
           oct_conv2d_is_depthwise(p->graph, layer);
}

static oct_value node_before(const oct_graph *g, const oct_node *n)
{
    for (int32_t k = 1; k < g->node_count; k++)
        if (g->order[k] == n->id) return (oct_value){g->order[k - 1]};
    return (oct_value){-1};
}

/* Weights (and, with batch norm, its folded form; without, the bias) of a convolution or linear layer. */
static oct_status quantize_layer(const pass *p, const oct_node *layer)
{
    oct_graph *g = p->graph;
    OCT_TRY(require_grid(p, layer));
    const oct_node *norm = following_norm(g, layer);
    bool has_bias = layer->input_count > 2;
    oct_value x = {layer->inputs[0]}, w = {layer->inputs[1]}, b = {has_bias ? layer->inputs[2] : -1};
    oct_fake_quant_weight_attrs attrs = {.per_channel = per_channel_weights(p, layer), .has_norm = norm != NULL,
                                         .has_bias = has_bias, .affine = p->config->profile == OCT_AFFINE};
    oct_value inputs[7] = {w, x};
    int count = 2;
    if (norm) {
        attrs.eps = ((const oct_batch_norm_attrs *)norm->attrs)->eps;
        for (int i = 1; i <= 4; i++) inputs[count++] = (oct_value){norm->inputs[i]};
    }
    if (has_bias) inputs[count++] = b;
    /* Batch norm's parameters were declared behind the convolution: they move in front of it. */
    char name[NAME_BYTES];
    for (int i = 0; i < count; i++) OCT_TRY(oct_graph_hoist(g, inputs[i], x));
    oct_value wq = oct_op_insert(g, node_before(g, layer), &oct_op_fake_quant_weight,
                                 sub_name(name, layer, "weight_quant"), &attrs, inputs, count);
    OCT_TRY(oct_graph_status(g));
    oct_value conv_inputs[3] = {x, wq};
    int conv_count = 2;
    if (has_bias && !norm) {
        conv_inputs[conv_count++] = oct_op_insert(g, wq, &oct_op_fake_quant_bias, sub_name(name, layer, "bias_quant"),
                                                  NULL, (oct_value[]){b, x, wq}, 3);
        OCT_TRY(oct_graph_status(g));
    }
    OCT_TRY(oct_graph_replace(g, (oct_value){layer->id}, layer->op, layer->attrs, conv_inputs, conv_count));
    if (norm) {
        const oct_batch_norm_attrs *bn = norm->attrs;
        oct_batch_norm_fold_attrs fold = {.eps = bn->eps, .momentum = bn->momentum, .fold = p->config->fold};
        oct_value in[8] = {{layer->id}, inputs[2], inputs[3], inputs[4], inputs[5], x, wq, b};
        OCT_TRY(oct_graph_replace(g, (oct_value){norm->id}, &oct_op_batch_norm_fold, &fold, in, has_bias ? 8 : 7));
    }
    report(p, layer, attrs.affine ? "weights s8 narrow, affine, %s" : "weights s8 narrow, po2, %s", attrs.per_channel ? "per channel" : "per tensor");
    if (norm) report(p, norm, "folded on the fly, %s", p->config->fold == OCT_FOLD_BATCH ? "batch statistics" : "running statistics");
    return OCT_OK;
}

static oct_status drop_cap(const pass *p, const oct_node *n)
{
    if (!p->config->drop_caps || !is_op(n, &oct_op_clip) || ((const oct_clip_attrs *)n->attrs)->lo != 0) return OCT_OK;
    return oct_graph_replace(p->graph, (oct_value){n->id}, &oct_op_relu, NULL, (oct_value[]){{n->inputs[0]}}, 1);
}

/* The last layer: its value goes to a loss or nowhere. */
static bool is_output(const oct_graph *g, const oct_node *n)
{
    const oct_node *user = NULL;
    return network_users(g, n, &user) == 0;
}

/* Ops that the engine knows, in the forms it knows them. */
static oct_status check_integer_form(const pass *p, const oct_node *n)
{
    static const oct_op *const known[] = {
        &oct_op_conv2d, &oct_op_linear, &oct_op_batch_norm, &oct_op_batch_norm_fold, &oct_op_relu, &oct_op_clip, &oct_op_concat, &oct_op_add,
        &oct_op_sub, &oct_op_mul, &oct_op_prelu, &oct_op_argmax, &oct_op_max_pool, &oct_op_average_pool, &oct_op_global_average_pool, &oct_op_flatten,
        &oct_op_dropout, &oct_op_normalize};
    bool found = oct_op_passes_codes(n->op) || oct_op_is_tabled(n->op);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) found |= n->op == known[i];
    if (!found) return refuse(p, n, "the op has no integer form");
    if ((is_op(n, &oct_op_add) || is_op(n, &oct_op_mul)) && n->input_count != 2)
        return refuse(p, n, "its integer form has two inputs; chain several");
    if (is_op(n, &oct_op_concat) && n->input_count > OCT_INT8_MAX_INPUTS)
        return refuse(p, n, "its integer form has at most 8 inputs");
    return OCT_OK;
}

static oct_status visit(const pass *p, const oct_node *n)
{
    oct_graph *g = p->graph;
    if (!p->network[n->id]) return OCT_OK;
    if (n->kind == OCT_NODE_INPUT && n->dtype == OCT_F32 && !is_output(g, n)) {
        const oct_node *user = NULL;
        if (network_users(g, n, &user) == 1 && is_op(user, &oct_op_normalize)) return OCT_OK;
        return insert_point(p, n);
    }
    if (n->kind != OCT_NODE_OP || is_loss(n)) return OCT_OK;
    OCT_TRY(check_integer_form(p, n));
    if (is_op(n, &oct_op_batch_norm))
        return refuse(p, n, "batch norm of features must follow a convolution or linear layer that nothing else reads");
    if (passes_codes(n) || oct_op_is_tabled(n->op) || is_op(n, &oct_op_argmax)) OCT_TRY(require_grid(p, n));
    if (is_op(n, &oct_op_argmax)) {
        report(p, n, "%s", "index of the largest code");
        return is_output(g, n) ? OCT_OK : refuse(p, n, "its integer form is the last of a network");
    }
    if (passes_codes(n)) {
        report(p, n, "%s", "codes pass through");
        return OCT_OK;
    }
    OCT_TRY(drop_cap(p, n));
    if (is_layer(n)) OCT_TRY(quantize_layer(p, n));
    const oct_node *user = NULL;
    int users = network_users(g, n, &user);
    /* Of two activations in a row each gets a point. */
    bool taken_over = users == 1 && is_activation(user) && !is_activation(n);
    if (taken_over || (users == 1 && is_layer(n) && is_norm(user))) {
        report(p, n, "point behind its %s", user->op->name);
        return OCT_OK;
    }
    if (!users && !p->config->quantize_output) {
        if (is_layer(n) || is_norm(n)) {
            report(p, n, "%s", "output layer: scores are 32-bit sums");
            return OCT_OK;
        }
    }
    return insert_point(p, n);
}

/* --- ops that quantize as others: rewritten before anything else --- */

/* A transposed convolution as the engine runs it: zeros between pixels, then a convolution, which pads the borders. */
static oct_status lower_transpose(oct_graph *g, const oct_node *n)
{
    oct_conv2d_attrs conv = *(const oct_conv2d_attrs *)n->attrs;
    oct_pad_attrs pad = {0};
    bool pads = false;
    for (int i = 0; i < 2; i++) {
        int32_t reach = conv.dilation[i] * (conv.kernel[i] - 1), after = reach - conv.pad[i + 2];
        pad.interior[i] = conv.stride[i] - 1;
        pad.after[i] = after > reach ? after - reach : 0;
        conv.pad[i] = reach - conv.pad[i];
        conv.pad[i + 2] = after - pad.after[i];
        pads |= pad.interior[i] || pad.after[i];
        conv.stride[i] = 1;
    }
    oct_value inputs[3];
    for (int i = 0; i < n->input_count; i++) inputs[i] = (oct_value){n->inputs[i]};
    char name[NAME_BYTES];
    if (pads)
        inputs[0] = oct_op_insert(g, inputs[0], &oct_op_pad, sub_name(name, n, "spread"), &pad, (oct_value[]){inputs[0]}, 1);
    OCT_TRY(oct_graph_status(g));
    return oct_graph_replace(g, (oct_value){n->id}, &oct_op_conv2d, &conv, inputs, n->input_count);
}

/* Batch norm whose input is no layer that it alone reads. */
static bool is_lone_norm(const oct_graph *g, const oct_node *n)
{
    const oct_node *x = is_op(n, &oct_op_batch_norm) ? oct_node_input(g, n, 0) : NULL;
    return x && !(x->kind == OCT_NODE_OP && is_layer(x) && following_norm(g, x) == n);
}

/* It gets a depthwise 1x1 convolution by 1 in front, which it is folded into: a buffer, which nobody trains. */
static oct_status give_layer(oct_graph *g, const oct_node *n)
{
    const oct_node *x = oct_node_input(g, n, 0);
    if (x->shape.rank != 4) return OCT_OK; /* refused later, by name */
    int32_t channels = x->shape.dim[3];
    oct_conv2d_attrs attrs = {{1, 1}, {1, 1}, {1, 1}, {0}, channels};
    oct_shape shape = channels > 1 ? OCT_SHAPE(1, 1, channels) : OCT_SHAPE(1, 1, 1, 1);
    oct_value in = {x->id}, inputs[5];
    char name[NAME_BYTES];
    oct_value ones = oct_buffer_insert(g, in, sub_name(name, n, "identity/weight"), shape, 1);
    oct_value conv = oct_op_insert(g, ones, &oct_op_conv2d, sub_name(name, n, "identity"), &attrs, (oct_value[]){in, ones}, 2);
    OCT_TRY(oct_graph_status(g));
    for (int i = 0; i < 5; i++) inputs[i] = (oct_value){n->inputs[i]};
    inputs[0] = conv;
    return oct_graph_replace(g, (oct_value){n->id}, n->op, n->attrs, inputs, 5);
}

static oct_status lower(oct_graph *g)
{
    int32_t count = g->node_count;
    for (int32_t id = 0; id < count; id++)
        if (is_op(g->nodes[id], &oct_op_conv_transpose2d)) OCT_TRY(lower_transpose(g, g->nodes[id]));
    for (int32_t id = 0; id < count; id++)
        if (is_lone_norm(g, g->nodes[id])) OCT_TRY(give_layer(g, g->nodes[id]));
    return OCT_OK;
}

int oct_quantize_points(const oct_graph *g)
{
    int points = 0;
    for (int32_t i = 0; i < g->node_count; i++) points += is_op(g->nodes[i], &oct_op_fake_quant);
    return points;
}

const oct_node *oct_quantize_unobserved(oct_graph *g)
{
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        if (!is_op(n, &oct_op_fake_quant)) continue;
        const float *range = oct_graph_data(g, (oct_value){n->inputs[OCT_FQ_RANGE]}, NULL);
        if (!(range[OCT_RANGE_OBSERVED] > 0)) return n;
    }
    return NULL;
}

/* Nodes that lead to an output or to the first input of a loss. What leads to a loss's target alone (an autoencoder's
 * normalized image) is not deployed and stays float. */
static void mark_network(const oct_graph *g, bool *network)
{
    for (int32_t k = 0; k < g->node_count; k++) network[g->order[k]] = !oct_graph_users(g, (oct_value){g->order[k]}, NULL, 0);
    for (int32_t k = g->node_count - 1; k >= 0; k--) {
        const oct_node *n = g->nodes[g->order[k]];
        int inputs = !network[n->id] ? 0 : is_loss(n) ? 1 : n->input_count;
        for (int i = 0; i < inputs; i++) network[n->inputs[i]] = true;
    }
}

oct_status oct_quantize(oct_graph *g, const oct_qconfig *config, oct_quantize_line *line, void *user)
{
    OCT_TRY(oct_graph_status(g));
    OCT_TRY(oct_graph_add_fuser(g, &oct_quant_fuser));
    if (oct_quantize_points(g)) return OCT_OK;
    oct_status lowered = lower(g);
    g->failed = lowered != OCT_OK;
    OCT_TRY(lowered);
    size_t count = (size_t)g->node_count;
    int32_t *order = oct_alloc(count, sizeof *order);
    bool *network = oct_alloc(count, sizeof *network);
    oct_status status = order && network ? OCT_OK : oct_out_of_memory(g->ctx, "quantize");
    float tails = config->averaging == OCT_AVERAGING_PACT2 ? default_shrink : 0;
    pass p = {g, config, line, user, config->shrink < 0 ? tails : config->shrink, OCT_INT8_ROUND_SHIFT, network};
    if (config->profile == OCT_AFFINE)
        p.rounding = config->rounding == OCT_INT8_ROUND_SHIFT ? OCT_INT8_ROUND_FLOAT : config->rounding;
    if (status == OCT_OK) {
        memcpy(order, g->order, count * sizeof *order);
        mark_network(g, network);
    }
    for (size_t k = 0; k < count && status == OCT_OK; k++) status = visit(&p, g->nodes[order[k]]);
    oct_free(order);
    oct_free(network);
    g->failed = status != OCT_OK; /* half rewritten: nothing may use it any more */
    return status;
}

/* What a node is in the float graph: quantizers (but for the points in `keep`) stand for their first input. */
static oct_value bypass(const oct_graph *g, int32_t id, const bool *keep)
{
    const oct_node *n = g->nodes[id];
    while ((is_op(n, &oct_op_fake_quant) && !(keep && keep[n->id])) || is_op(n, &oct_op_fake_quant_weight) ||
           is_op(n, &oct_op_fake_quant_bias))
        n = oct_node_input(g, n, 0);
    return (oct_value){n->id};
}

static oct_status restore_node(oct_graph *g, const oct_node *n, const bool *keep)
{
    oct_value inputs[OCT_MAX_INPUTS];
    int count = n->input_count;
    for (int i = 0; i < count; i++) inputs[i] = bypass(g, n->inputs[i], keep);
    if (is_layer(n)) {
        const oct_node *norm = following_norm(g, n);
        if (norm && is_op(norm, &oct_op_batch_norm_fold) && norm->input_count > OCT_BNF_BIAS)
            inputs[count++] = (oct_value){norm->inputs[OCT_BNF_BIAS]};
        return oct_graph_replace(g, (oct_value){n->id}, n->op, n->attrs, inputs, count);
    }
    if (is_op(n, &oct_op_batch_norm_fold)) {
        const oct_batch_norm_fold_attrs *fold = n->attrs;
        oct_batch_norm_attrs bn = {.eps = fold->eps, .momentum = fold->momentum};
        return oct_graph_replace(g, (oct_value){n->id}, &oct_op_batch_norm, &bn, inputs, 5);
    }
    return oct_graph_replace(g, (oct_value){n->id}, n->op, n->attrs, inputs, count);
}

oct_status oct_dequantize_weights(oct_graph *g, const bool *keep)
{
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        if (n->kind != OCT_NODE_OP || bypass(g, n->id, keep).id != n->id) continue;
        OCT_TRY(restore_node(g, n, keep));
    }
    return OCT_OK;
}

oct_status oct_dequantize_graph(oct_graph *g)
{
    return oct_dequantize_weights(g, NULL);
}
