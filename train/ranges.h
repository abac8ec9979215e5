/* SPDX-License-Identifier: BSD-2-Clause
 * The range report of a quantized graph: how each point and each layer's weights are represented, and which
 * channels have become all zero.
 */
#ifndef OCT_TRAIN_RANGES_H
#define OCT_TRAIN_RANGES_H

#include "layers/models.h"

typedef struct oct_range_report {
    int points, layers;
    int dead_channels; /* output channels whose weight codes are all zero */
} oct_range_report;

/* One line per tensor of codes (name, type, exponent, clip, range seen) and per layer with weights (name,
 * exponents, dead channels), in execution order, through `line` (may be NULL). Fails as oct_export_create
 * does. */
OCT_MUST_USE oct_status oct_ranges_report(oct_range_report *report, oct_graph *graph, const oct_model *model,
                                          void (*line)(void *user, const char *text), void *user);

/* Counts the dead channels and names them, one line per layer that has any (11.7: they keep their running statistics). */
OCT_MUST_USE oct_status oct_ranges_dead(int *dead, oct_graph *graph, const oct_model *model,
                                        void (*line)(void *user, const char *text), void *user);

#endif
