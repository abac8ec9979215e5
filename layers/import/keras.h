/* SPDX-License-Identifier: BSD-2-Clause
 * Keras HDF5 files, without Python: the network from the attribute model_config and its weights, as a model like those
 * of the zoo, so that it is trained, scored, quantized and exported like them.
 *
 * Read: files of model.save("m.h5") of Keras 2 and 3, Functional and Sequential models, models inside models, layers
 * called several times (their weights are shared). The layers are listed in layers/import/keras_layers.c; anything else,
 * and attributes that change a layer's meaning in a way Octet has no op for, are refused by name.
 *
 * What changes on the way:
 *   - The image is u8 0..255 and `normalize` stands behind it: mean 0, scale 1 gives the network what Keras gives it for
 *     raw pixels. A Rescaling layer at the input, and the caller's preprocessing in front of it, become part of it.
 *   - The model gives logits: a softmax at the end is dropped, since the loss has its own.
 *   - The last layer is named "head"; the others keep their names (a layer of an inner model: "<model>/<layer>").
 *   - Kernels H,W,I,O become O,H,W,I, depthwise H,W,C,1 become H,W,C, dense I,O become O,I. Rows of a dense layer behind
 *     Flatten keep their order: both sides flatten H,W,C.
 *   - Batch norm's momentum m becomes 1-m; epsilon is taken over. Without scale (center) gamma is 1 (beta is 0), and
 *     trained like any other.
 *   - ZeroPadding2D becomes padding of the convolution behind it; a Dense on H,W,C becomes a 1x1 convolution.
 *
 * Names of tensors: "<layer>/<weight>" ("conv2d_1/kernel", "bn/moving_mean"), for layers of an inner model
 * "<model>/<layer>/<weight>"; without the ":0" and without scopes.
 *
 * All calls of HDF5 are made on the calling thread, one at a time per process unless HDF5 was built thread-safe.
 * References: Keras 2.4 and 3 (saving/legacy/hdf5_format.py, engine/functional.py).
 */
#ifndef OCT_LAYERS_IMPORT_KERAS_H
#define OCT_LAYERS_IMPORT_KERAS_H

#include "layers/import/network.h"
#include "layers/import/tensors.h"

typedef enum oct_keras_kind { OCT_KERAS_NONE, OCT_KERAS_WEIGHTS, OCT_KERAS_MODEL } oct_keras_kind;
/* What a file is, by its attributes: no Keras HDF5 file, one of weights only, one of a network and its weights. */
oct_keras_kind oct_keras_probe(const char *path);

/* Builds the file's network into an empty graph, with its weights. `options` NULL = all zero. OCT_ERR_IO: cannot be read;
 * OCT_ERR_FORMAT: not a Keras file of a whole model, damaged, or weights that do not fit the network; OCT_ERR_UNSUPPORTED:
 * a layer or attribute that Octet does not have. Messages name the file and the layer. The graph is unusable then. */
OCT_MUST_USE oct_status oct_keras_build(oct_model *model, oct_graph *graph, const char *path,
                                        const oct_network_options *options);

/* The same from text and tensors in memory; `name` stands for the file in messages. */
OCT_MUST_USE oct_status oct_keras_build_from(oct_model *model, oct_graph *graph, const char *name, const char *config,
                                             const oct_tensors *tensors, const oct_network_options *options);

/* All weights of a file of a model or of weights only. *out is NULL on failure; the caller destroys. */
OCT_MUST_USE oct_status oct_keras_read_tensors(oct_tensors **out, const char *path, oct_error *error);

#endif
