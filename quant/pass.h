/* SPDX-License-Identifier: BSD-2-Clause
 * Ops that run on codes without a point of their own: max pool, pad, slice, resizes, flatten, reshape keep the grid of
 * their input, softmax has a fixed one. And functions of one code (activations, prelu), which run as tables. What the
 * engine does for such a node is said here once, for fused training and for the exporter.
 */
#ifndef OCT_QUANT_PASS_H
#define OCT_QUANT_PASS_H

#include "quant/int8/spec.h"
#include "quant/ops.h"

/* The node needs no point: its codes follow from those of its input. */
static inline bool oct_op_passes_codes(const oct_op *op)
{
    return op && (op->reference.keeps_grid || op == &oct_op_softmax);
}

/* Height, width and channels of an activation: missing dimensions are 1. */
void oct_int8_dims(oct_int8_tensor *tensor, const oct_shape *shape);
/* Operator, geometry and option of a node that passes codes, or of an average pool. */
void oct_pass_layer(oct_int8_layer *layer, const oct_graph *graph, const oct_node *node);

/* A function of one code: the element functions of autograd/ops.h and prelu. */
static inline bool oct_op_is_tabled(const oct_op *op)
{
    return op && (oct_op_is_unary(op) || op == &oct_op_prelu);
}
/* Rows of the node's table: 1, or one per channel. */
int oct_table_rows(const oct_node *node);
/* values[rows][256] = f of every input code, by its byte, in double; the input's grid. slopes: prelu's, else NULL. */
void oct_table_values(double *values, const oct_node *node, const float *slopes, double scale, int zero_point,
                      int is_signed);
/* The codes of `count` values, as bytes: po2 rounds the double (activation rule of requant.h), affine its float (affine.h). */
void oct_table_codes(uint8_t *codes, const double *values, size_t count, const oct_clip_codes *clip);

enum { OCT_SOFTMAX_TABLE_ROWS = 3, OCT_SOFTMAX_EXPONENT = 8 };
/* E[d] = round(2^23 * e^(-d*scale)), low byte first: the engine's table (quant/int8/spec.h). */
void oct_softmax_table(uint8_t table[OCT_SOFTMAX_TABLE_ROWS * 256], double scale);

#endif
