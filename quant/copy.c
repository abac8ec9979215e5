/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/copy.h"

#include <string.h>

#include "autograd/base/memory.h"
#include "layers/graph_json.h"
#include "quant/ops.h"

static void copy_values(oct_flat *to, const oct_flat *from)
{
    if (from->count) memcpy(to->data, from->data, from->count * sizeof *to->data);
}

void oct_graph_copy_values(oct_graph *copy, const oct_graph *graph)
{
    copy_values(&copy->params, &graph->params);
    copy_values(&copy->buffers, &graph->buffers);
}

oct_status oct_graph_copy(oct_graph **out, const oct_graph *graph)
{
    char *text;
    *out = NULL;
    OCT_TRY(oct_graph_to_json(&text, graph));
    oct_graph *copy;
    oct_status status = oct_graph_from_json(&copy, graph->ctx, text, oct_quant_op_find);
    oct_free(text);
    OCT_TRY(status);
    if (copy->params.count != graph->params.count || copy->buffers.count != graph->buffers.count) {
        oct_graph_destroy(copy);
        return oct_fail(&graph->ctx->error, OCT_ERR_STATE, "copy of a graph: the flat arrays differ in size");
    }
    oct_graph_copy_values(copy, graph);
    status = oct_graph_add_fuser(copy, &oct_quant_fuser);
    if (status != OCT_OK) {
        oct_graph_destroy(copy);
        return status;
    }
    *out = copy;
    return OCT_OK;
}
