/* SPDX-License-Identifier: BSD-2-Clause
 * Finding built-in ops by name, and inputs by position.
 */
#include "autograd/op.h"

#include <string.h>

#include "autograd/ops.h"

static const oct_op *const built_in[] = {
    &oct_op_conv2d,
    &oct_op_conv_transpose2d,
    &oct_op_linear,
    &oct_op_batch_norm,
    &oct_op_relu,
    &oct_op_clip,
    &oct_op_add,
    &oct_op_sub,
    &oct_op_mul,
    &oct_op_prelu,
    &oct_op_pad,
    &oct_op_slice,
    &oct_op_reshape,
    &oct_op_resize_nearest,
    &oct_op_resize_bilinear,
    &oct_op_softmax,
    &oct_op_argmax,
    &oct_op_concat,
    &oct_op_max_pool,
    &oct_op_average_pool,
    &oct_op_flatten,
    &oct_op_global_average_pool,
    &oct_op_dropout,
    &oct_op_normalize,
    &oct_op_softmax_cross_entropy,
    &oct_op_mean_squared_error,
};

const oct_op *oct_op_find(const char *name)
{
    for (size_t i = 0; i < sizeof built_in / sizeof built_in[0]; i++) {
        if (strcmp(built_in[i]->name, name) == 0) return built_in[i];
    }
    for (size_t i = 0; i < OCT_UNARY_COUNT; i++) {
        if (strcmp(oct_unary_ops[i].name, name) == 0) return &oct_unary_ops[i];
    }
    return NULL;
}

const oct_node *oct_node_input(const oct_graph *graph, const oct_node *node, int i)
{
    return graph->nodes[node->inputs[i]];
}
