/* SPDX-License-Identifier: BSD-2-Clause */
#include "layers/import/network.h"

#include <stdio.h>
#include <string.h>

static const char *const reserved[] = {"image", "normalize", "label", "head", "loss"};

bool oct_network_reserves(const char *name)
{
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (!strcmp(name, reserved[i])) return true;
    return false;
}

oct_value oct_network_normalize(oct_graph *g, oct_value x, const double scale[4], const double offset[4])
{
    oct_normalize_attrs attrs = {{0}, {1, 1, 1, 1}};
    int channels = oct_graph_node(g, x)->shape.dim[3];
    for (int c = 0; c < channels && c < 4; c++) {
        attrs.scale[c] = (float)scale[c];
        attrs.mean[c] = (float)(-offset[c] / scale[c]);
    }
    for (int i = 1;; i++) {
        char name[32] = "normalize";
        if (i > 1) snprintf(name, sizeof name, "normalize/%d", i);
        oct_value made = oct_graph_find(g, name);
        const oct_node *n = oct_graph_node(g, made);
        if (!n) return oct_normalize(g, name, x, attrs);
        if (n->op == &oct_op_normalize && !memcmp(n->attrs, &attrs, sizeof attrs)) return made;
    }
}

oct_status oct_network_start(oct_model *model, const oct_graph *g, const char *file)
{
    static const oct_value invalid = {-1};
    *model = (oct_model){.image = invalid, .label = invalid, .logits = invalid, .loss = invalid};
    OCT_TRY(oct_graph_status(g));
    if (g->node_count) return oct_fail(&g->ctx->error, OCT_ERR_ARGUMENT, "%s: expected an empty graph", file);
    return OCT_OK;
}

oct_status oct_network_status(const oct_graph *g, char reason[OCT_ERROR_BYTES])
{
    oct_status status = oct_graph_status(g);
    if (status == OCT_OK) return OCT_OK;
    snprintf(reason, OCT_ERROR_BYTES, "%s", g->ctx->error.message);
    oct_error_clear(&g->ctx->error);
    return status;
}

oct_status oct_network_in_file(const oct_graph *g, const char *file, oct_status status)
{
    char reason[OCT_ERROR_BYTES];
    oct_error *error = &g->ctx->error;
    if (status == OCT_OK || !strncmp(error->message, file, strlen(file))) return status;
    snprintf(reason, sizeof reason, "%s", error->message);
    oct_error_clear(error);
    return oct_fail(error, status, "%.220s: %.700s", file, reason);
}

static oct_status check_logits(const oct_graph *g, const oct_node *n)
{
    char text[OCT_SHAPE_TEXT];
    if (n && n->kind == OCT_NODE_OP && n->shape.rank == 2 && n->shape.dim[1] >= 2) return OCT_OK;
    if (n && n->kind == OCT_NODE_OP && n->shape.rank == 2)
        return oct_fail(&g->ctx->error, OCT_ERR_UNSUPPORTED,
                        "the output '%s' has one value: expected a score for each of two or more classes", n->name);
    return oct_fail(&g->ctx->error, OCT_ERR_UNSUPPORTED,
                    "the output '%s' has shape %s: expected [N,classes] made by the network", n ? n->name : "?",
                    n ? oct_shape_text(text, &n->shape) : "?");
}

static oct_status rename_head(oct_graph *g, const oct_node *head)
{
    char name[256], old[256];
    snprintf(old, sizeof old, "%s/", head->name);
    size_t length = strlen(old);
    for (int i = 0; i < head->input_count; i++) {
        const oct_node *in = g->nodes[head->inputs[i]];
        if (in->kind == OCT_NODE_OP || strncmp(in->name, old, length)) continue;
        snprintf(name, sizeof name, "head/%.200s", in->name + length);
        OCT_TRY(oct_graph_rename(g, (oct_value){in->id}, name));
    }
    return oct_graph_rename(g, (oct_value){head->id}, "head");
}

oct_status oct_network_finish(oct_model *model, oct_graph *g, oct_value image, oct_value logits, float label_smoothing)
{
    OCT_TRY(oct_graph_status(g));
    const oct_node *head = oct_graph_node(g, logits);
    if (head && head->shape.rank == 4) {
        char name[256];
        snprintf(name, sizeof name, "%.200s/flatten", head->name);
        logits = oct_flatten(g, name, logits);
        head = oct_graph_node(g, logits);
    }
    OCT_TRY(check_logits(g, head));
    OCT_TRY(rename_head(g, head));
    model->image = image;
    model->logits = logits;
    model->label = oct_labels(g, "label");
    oct_cross_entropy_attrs loss = oct_cross_entropy_defaults();
    loss.smoothing = label_smoothing;
    model->loss = oct_softmax_cross_entropy(g, "loss", logits, model->label, loss);
    return oct_graph_status(g);
}
