/* SPDX-License-Identifier: BSD-2-Clause
 * Any file of weights into a graph: what kind it is, decided by content and never by its name, its tensors, and the
 * copy by name (layers/import/load.h). A new reader is one row of the table in import.c.
 */
#ifndef OCT_LAYERS_IMPORT_IMPORT_H
#define OCT_LAYERS_IMPORT_IMPORT_H

#include "layers/import/load.h"
#include "layers/models.h"

typedef enum oct_weights_kind {
    OCT_WEIGHTS_UNKNOWN,
    OCT_WEIGHTS_OCTET, /* a state file of ours (layers/state.h) */
    OCT_WEIGHTS_PTH,
    OCT_WEIGHTS_SAFETENSORS,
    OCT_WEIGHTS_KERAS, /* HDF5, with or without a network of its own (layers/import/keras.h) */
    OCT_WEIGHTS_KINDS
} oct_weights_kind;
const char *oct_weights_kind_name(oct_weights_kind kind); /* "PyTorch .pth", ... */

/* OCT_ERR_IO: cannot be read. A file that none of the readers knows is OCT_WEIGHTS_UNKNOWN. */
OCT_MUST_USE oct_status oct_weights_probe(oct_weights_kind *kind, const char *path, oct_error *error);

typedef struct oct_weights {
    oct_weights_kind kind;
    oct_layout layout;
    oct_tensors *tensors;
} oct_weights;

/* Reads all tensors of a file into memory. Messages name the file. *out is all zero on failure. */
OCT_MUST_USE oct_status oct_weights_read(oct_weights *out, const char *path, oct_error *error);
void oct_weights_release(oct_weights *weights);

/* Copies them into the graph of a zoo model, `model` by its name there, and unless `keep_preprocessing` makes its
 * "normalize" node what the weights were trained with, where that is known (three channels alone). Errors and the
 * report are those of oct_load_tensors, with `path` in front of messages. */
OCT_MUST_USE oct_status oct_weights_load(oct_graph *graph, const char *model, const oct_weights *weights,
                                         const char *path, const oct_load_options *options, bool keep_preprocessing,
                                         oct_load_report **report);

#endif
