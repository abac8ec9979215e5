/* SPDX-License-Identifier: BSD-2-Clause
 * The reference executor: node by node, in double, plain loops. It shares no kernel and no rounding code with plans or
 * with the int8 engine, so that it can judge both. It works on its own double copy of parameters and buffers and never
 * changes the graph. Convolutions of values on grids are exact sums of integers (below 2^53), whatever the order.
 */
#ifndef OCT_REFERENCE_H
#define OCT_REFERENCE_H

#include "autograd/op.h"

typedef struct oct_reference oct_reference;

/* batch: number of samples. Copies parameters and buffers from the graph. */
OCT_MUST_USE oct_status oct_reference_create(oct_reference **out, oct_graph *graph, int batch);
void oct_reference_destroy(oct_reference *reference);
/* Copies parameters and buffers from the graph again. */
void oct_reference_reload(oct_reference *reference);

/* Memory of an input node as doubles: [batch][sample elements]. */
double *oct_reference_input(oct_reference *reference, oct_value input);
/* The next runs are of 1..batch samples. */
OCT_MUST_USE oct_status oct_reference_set_batch(oct_reference *reference, int batch);
/* Runs everything that `output` depends on. */
OCT_MUST_USE oct_status oct_reference_forward(oct_reference *reference, const oct_run *run, oct_value output);
/* Whether the last forward computed it. */
bool oct_reference_is_done(const oct_reference *reference, oct_value value);
/* From d(output) = 1 for every element, through everything forward ran. */
OCT_MUST_USE oct_status oct_reference_backward(oct_reference *reference, const oct_run *run, oct_value output);

/* Value / gradient of a node, NULL when it has not been computed. Parameters and buffers included: writing to a
 * parameter's value is allowed between runs (finite differences). */
double *oct_reference_value(oct_reference *reference, oct_value value);
double *oct_reference_gradient(oct_reference *reference, oct_value value);
const oct_grid *oct_reference_grid(const oct_reference *reference, oct_value value);

#endif
