/* SPDX-License-Identifier: BSD-2-Clause
 * A graph as JSON text, and back. Structure only: no parameter values.
 *
 *   {"seed":"1","nodes":[
 *   {"id":0,"name":"image","kind":"input","dtype":"u8","shape":[-1,32,32,3]},
 *   {"id":4,"name":"stem/conv","kind":"op","op":"conv2d","attrs":{"kernel":[3,3],...},
 *    "inputs":["normalize","stem/conv/weight","stem/conv/bias"],"dtype":"f32","shape":[-1,32,32,16]}, ...]}
 *
 * Nodes are listed in execution order. Ids are kept, because random streams are keyed by them and because parameters
 * lie in the flat arrays in the order of their ids: a graph that was read has the same ids and the same offsets as the
 * one that was written. Fusers are code, not data: whoever knows them registers them again.
 * Infinite attributes are the strings "inf" and "-inf".
 */
#ifndef OCT_LAYERS_GRAPH_JSON_H
#define OCT_LAYERS_GRAPH_JSON_H

#include "autograd/graph.h"
#include "autograd/op.h"

/* Op by its name in files, NULL when unknown. oct_op_find is one; quant/ has one that knows its ops, too. */
typedef const oct_op *oct_op_lookup(const char *name);

/* *text: freed with oct_free, NULL on failure (memory, or an attribute that is NaN). */
OCT_MUST_USE oct_status oct_graph_to_json(char **text, const oct_graph *graph);

/* Builds the graph; parameters and buffers are zero. Every op's shape rule runs, and must give the shape in the text.
 * OCT_ERR_FORMAT with the node's name in ctx->error: not JSON, a member missing or of the wrong type, an unknown op,
 * attribute, or input, ids that are no numbering of the nodes, more than 16384 nodes or 2^31-1 elements. *out is NULL
 * then. Caller destroys. */
OCT_MUST_USE oct_status oct_graph_from_json(oct_graph **out, oct_ctx *ctx, const char *text, oct_op_lookup *find);

#endif
