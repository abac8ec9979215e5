/* SPDX-License-Identifier: BSD-2-Clause
 * Descriptors and shape rules of the quantizer's ops. */
#include "quant/ops.h"

#include <stddef.h>
#include <string.h>

#include "quant/reference.h"

static oct_status op_error(const oct_graph *g, const oct_node *n, const char *what)
{
    return oct_fail(&g->ctx->error, OCT_ERR_SHAPE, "%s '%s': %s", n->op->name, n->name, what);
}

static void copy_shape(const oct_graph *g, oct_node *n)
{
    n->dtype = OCT_F32;
    n->shape = oct_node_input(g, n, 0)->shape;
}

static oct_status fake_quant_infer(const oct_graph *g, oct_node *n)
{
    const oct_fake_quant_attrs *a = n->attrs;
    const oct_node *x = oct_node_input(g, n, OCT_FQ_X), *observed = oct_node_input(g, n, OCT_FQ_OBSERVED);
    if (!oct_shape_equal(&x->shape, &observed->shape)) return op_error(g, n, "x and observed differ in shape");
    if (oct_node_input(g, n, OCT_FQ_RANGE)->count != OCT_RANGE_FLOATS) return op_error(g, n, "the range needs 4 floats");
    if (a->sign < OCT_SIGN_AUTO || a->sign > OCT_SIGN_SIGNED) return op_error(g, n, "unknown sign rule");
    if (!(a->shrink >= 0 && a->shrink < 50)) return op_error(g, n, "shrink: expected 0..50 percent");
    if (a->rounding < OCT_INT8_ROUND_SHIFT || a->rounding > OCT_INT8_ROUND_DOUBLE) return op_error(g, n, "unknown rounding");
    if (a->averaging < OCT_AVERAGING_PACT2 || a->averaging > OCT_AVERAGING_MOVING)
        return op_error(g, n, "unknown way of averaging");
    copy_shape(g, n);
    return OCT_OK;
}

static oct_status fake_quant_weight_infer(const oct_graph *g, oct_node *n)
{
    const oct_fake_quant_weight_attrs *a = n->attrs;
    int expected = 2 + (a->has_norm ? 4 : 0) + (a->has_bias ? 1 : 0);
    if (n->input_count != expected) return op_error(g, n, "inputs do not match has_norm and has_bias");
    int last, outputs = oct_weight_outputs(&oct_node_input(g, n, OCT_FQW_W)->shape, &last);
    for (int i = 2; i < n->input_count; i++)
        if (oct_node_input(g, n, i)->count != (size_t)outputs)
            return op_error(g, n, "a statistic or the bias differs from the output channels in size");
    copy_shape(g, n);
    return OCT_OK;
}

static oct_status fake_quant_bias_infer(const oct_graph *g, oct_node *n)
{
    int last, outputs = oct_weight_outputs(&oct_node_input(g, n, 2)->shape, &last);
    if (oct_shape_sample(&oct_node_input(g, n, 0)->shape) != (size_t)outputs)
        return op_error(g, n, "the bias differs from the output channels in size");
    copy_shape(g, n);
    return OCT_OK;
}

static oct_status batch_norm_fold_infer(const oct_graph *g, oct_node *n)
{
    const oct_batch_norm_fold_attrs *a = n->attrs;
    const oct_shape *u = &oct_node_input(g, n, OCT_BNF_U)->shape;
    size_t channels = u->rank ? (size_t)u->dim[u->rank - 1] : 0;
    for (int i = OCT_BNF_GAMMA; i < n->input_count; i++) {
        if (i == OCT_BNF_X || i == OCT_BNF_W) continue;
        if (oct_node_input(g, n, i)->count != channels) return op_error(g, n, "a statistic differs from the channels in size");
    }
    if (!(a->eps > 0) || !(a->momentum >= 0 && a->momentum <= 1)) return op_error(g, n, "eps or momentum out of range");
    if (a->fold != OCT_FOLD_BATCH && a->fold != OCT_FOLD_RUNNING) return op_error(g, n, "unknown fold mode");
    copy_shape(g, n);
    return OCT_OK;
}

#define ATTR(type, kind, field) {#field, kind, offsetof(type, field), 1}

static const oct_attr fake_quant_attr_table[] = {
    ATTR(oct_fake_quant_attrs, OCT_ATTR_INT, sign),
    ATTR(oct_fake_quant_attrs, OCT_ATTR_FLOAT, shrink),
    ATTR(oct_fake_quant_attrs, OCT_ATTR_CHOICE, rounding),
    ATTR(oct_fake_quant_attrs, OCT_ATTR_CHOICE, averaging),
};
static const oct_attr weight_attr_table[] = {
    ATTR(oct_fake_quant_weight_attrs, OCT_ATTR_INT, per_channel),
    ATTR(oct_fake_quant_weight_attrs, OCT_ATTR_INT, has_norm),
    ATTR(oct_fake_quant_weight_attrs, OCT_ATTR_INT, has_bias),
    ATTR(oct_fake_quant_weight_attrs, OCT_ATTR_FLOAT, eps),
    ATTR(oct_fake_quant_weight_attrs, OCT_ATTR_CHOICE, affine),
};
static const oct_attr norm_attr_table[] = {
    ATTR(oct_batch_norm_fold_attrs, OCT_ATTR_FLOAT, eps),
    ATTR(oct_batch_norm_fold_attrs, OCT_ATTR_FLOAT, momentum),
    ATTR(oct_batch_norm_fold_attrs, OCT_ATTR_INT, fold),
};
#define TABLE(t) t, sizeof(t) / sizeof((t)[0])

const oct_op oct_op_fake_quant = {
    "fake_quant", "y = clamp(floor(x*kappa + 0.5), lo, hi)/kappa", sizeof(oct_fake_quant_attrs),
    TABLE(fake_quant_attr_table), 3, 3, ~1u, fake_quant_infer, NULL, {.name = "fake_quant"},
    {.forward = oct_ref_fake_quant_forward, .backward = oct_ref_fake_quant_backward},
};

const oct_op oct_op_fake_quant_weight = {
    "fake_quant_weight", "y = clamp(round(s*w*kappa), -127, 127)/kappa", sizeof(oct_fake_quant_weight_attrs),
    TABLE(weight_attr_table), 2, 7, ~1u, fake_quant_weight_infer, NULL, {.name = "fake_quant_weight"},
    {.forward = oct_ref_weight_forward, .backward = oct_ref_weight_backward, .saved_count = oct_ref_weight_saved},
};

const oct_op oct_op_fake_quant_bias = {
    "fake_quant_bias", "y = round(b*kappa_x*kappa_w)/(kappa_x*kappa_w)", 0, NULL, 0, 3, 3, ~1u,
    fake_quant_bias_infer, NULL, {.name = "fake_quant_bias"},
    {.forward = oct_ref_bias_forward, .backward = oct_ref_bias_backward},
};

/* Gradients reach u, gamma, beta and the bias. */
const oct_op oct_op_batch_norm_fold = {
    "batch_norm_fold", "y = batch_norm(u/s + b0), weights folded", sizeof(oct_batch_norm_fold_attrs),
    TABLE(norm_attr_table), 7, 8,
    ~(1u << OCT_BNF_U | 1u << OCT_BNF_GAMMA | 1u << OCT_BNF_BETA | 1u << OCT_BNF_BIAS),
    batch_norm_fold_infer, NULL, {.name = "batch_norm_fold"},
    {.forward = oct_ref_norm_forward, .backward = oct_ref_norm_backward, .saved_count = oct_ref_norm_saved},
};

const oct_op *oct_quant_op_find(const char *name)
{
    static const oct_op *const ops[] = {&oct_op_fake_quant, &oct_op_fake_quant_weight, &oct_op_fake_quant_bias,
                                        &oct_op_batch_norm_fold};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (!strcmp(ops[i]->name, name)) return ops[i];
    return oct_op_find(name);
}

const oct_node *oct_grid_source(const oct_graph *g, const oct_node *n)
{
    while (n->kind == OCT_NODE_OP && n->op->reference.keeps_grid) n = oct_node_input(g, n, 0);
    if (n->kind != OCT_NODE_OP) return NULL;
    if (n->op == &oct_op_softmax) return oct_grid_source(g, oct_node_input(g, n, 0)) ? n : NULL;
    return n->op == &oct_op_fake_quant ? n : NULL;
}
