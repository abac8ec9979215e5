/* SPDX-License-Identifier: BSD-2-Clause
 * What readers of whole networks share: turning the graph they built into a model like those of the zoo.
 */
#ifndef OCT_LAYERS_IMPORT_NETWORK_H
#define OCT_LAYERS_IMPORT_NETWORK_H

#include "layers/models.h"

/* Names that the frame of a model takes: "image", "normalize", "label", "head", "loss". */
bool oct_network_reserves(const char *name);

/* Names the op node `logits` [N,classes], classes >= 2, "head" (its own parameters too), and appends "label" and "loss".
 * OCT_ERR_UNSUPPORTED when the logits have another form. model->name stays the caller's. */
OCT_MUST_USE oct_status oct_network_finish(oct_model *model, oct_graph *graph, oct_value image, oct_value logits,
                                           float label_smoothing);

#endif
