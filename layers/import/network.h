/* SPDX-License-Identifier: BSD-2-Clause
 * What readers of whole networks (Keras, ONNX) share: their options, the image as the network sees it, and turning the graph
 * they built into a model like those of the zoo.
 */
#ifndef OCT_LAYERS_IMPORT_NETWORK_H
#define OCT_LAYERS_IMPORT_NETWORK_H

#include "layers/models.h"

typedef struct oct_network_options {
    oct_normalize_attrs preprocess; /* of raw pixels, in front of the network; a scale of 0 in a channel means 1 */
    int32_t height, width;          /* of the image where the file leaves them open; 0 = refuse such a file */
    float label_smoothing;          /* of the loss, [0, 1) */
} oct_network_options;

/* pixel*scale + offset per channel as (pixel - mean)*scale: the node "normalize", "normalize/2", ... of image x, made once for
 * equal numbers. */
oct_value oct_network_normalize(oct_graph *graph, oct_value x, const double scale[4], const double offset[4]);

/* Makes *model's values invalid. OCT_ERR_ARGUMENT unless the graph is good and empty; `file` is for the message. */
OCT_MUST_USE oct_status oct_network_start(oct_model *model, const oct_graph *graph, const char *file);

/* The graph's status; of a failed one its message is moved from the context into `reason`, for the reader to say where. */
oct_status oct_network_status(const oct_graph *graph, char reason[OCT_ERROR_BYTES]);

/* Returns `status`, having put the file in front of a failure's message that does not begin with it. */
OCT_MUST_USE oct_status oct_network_in_file(const oct_graph *graph, const char *file, oct_status status);

/* Names that the frame of a model takes: "image", "normalize", "label", "head", "loss". */
bool oct_network_reserves(const char *name);

/* Flattens `logits` [N,1,1,classes], names the op node [N,classes], classes >= 2, "head" (its own parameters too), and appends "label" and "loss".
 * OCT_ERR_UNSUPPORTED when the logits have another form. model->name stays the caller's. */
OCT_MUST_USE oct_status oct_network_finish(oct_model *model, oct_graph *graph, oct_value image, oct_value logits,
                                           float label_smoothing);

#endif
