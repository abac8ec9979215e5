/* SPDX-License-Identifier: BSD-2-Clause
 * What a Keras HDF5 file holds, as text and tensors: the only part of the Keras reader that talks to HDF5.
 *
 *   model.save("m.h5")            attribute model_config (JSON); group model_weights, below it a group for each layer
 *   model.save_weights("w.h5")    the layers' groups right below the root (Keras 1 and 2; Keras 3 with a legacy name)
 * The group of layers has the attribute layer_names, each layer's group the attribute weight_names, whose entries are
 * paths of datasets below it. An attribute that would be larger than HDF5's limit is split over name0, name1, ...
 */
#ifndef OCT_LAYERS_IMPORT_KERAS_FILE_INTERNAL_H
#define OCT_LAYERS_IMPORT_KERAS_FILE_INTERNAL_H

#include <stdbool.h>

#include "layers/import/tensors.h"

enum { OCT_KERAS_MAX_CONFIG = 1 << 26 }; /* bytes of model_config */

typedef struct oct_keras_content {
    char *config;         /* JSON text; NULL in a file of weights only */
    oct_tensors *tensors; /* names as in layers/import/keras.h */
} oct_keras_content;

/* Fills *out; release after success and failure. */
OCT_MUST_USE oct_status oct_keras_file_read(oct_keras_content *out, const char *path, oct_error *error);
void oct_keras_content_release(oct_keras_content *content);

/* "<layer>/<rest>" into name[OCT_TENSOR_MAX_NAME + 1]: a weight's name without its ":0" and without the scopes up to and
 * including its layer's. False when it is too long. */
bool oct_keras_tensor_name(char *name, const char *layer, const char *weight);

#endif
