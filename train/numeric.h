/* SPDX-License-Identifier: BSD-2-Clause
 * Which tensor was the first to hold a NaN or an infinity?
 */
#ifndef OCT_TRAIN_NUMERIC_H
#define OCT_TRAIN_NUMERIC_H

#include "autograd/plan.h"

/* Name of the first node of a kind with a value that is not finite in its view of `flat`; NULL when all are
 * finite. */
const char *oct_numeric_first(const oct_graph *graph, oct_node_kind kind, const float *flat);

/* For a forward pass that gave a loss that is not finite: looks at the parameters, at statistics that are
 * frozen, then runs the pass again and looks at every output in order. Returns OCT_ERR_NUMERIC with the name
 * in ctx->error, or the failure of the pass itself. `what` begins the message. */
oct_status oct_numeric_explain(oct_plan *plan, oct_graph *graph, const oct_run *run, int batch,
                               const char *what);

#endif
