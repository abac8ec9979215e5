/* SPDX-License-Identifier: BSD-2-Clause
 * Copies of graphs, float or quantized: node ids and the layout of the flat arrays are those of the original, so values
 * move between copies with one memcpy and an oct_value means the same in all of them.
 */
#ifndef OCT_QUANT_COPY_H
#define OCT_QUANT_COPY_H

#include "autograd/graph.h"

/* With its values and fusers of quantized chains. Caller destroys. */
OCT_MUST_USE oct_status oct_graph_copy(oct_graph **out, const oct_graph *graph);
/* Parameters and buffers of a copy, from the graph it was copied from. */
void oct_graph_copy_values(oct_graph *copy, const oct_graph *graph);

#endif
