/* SPDX-License-Identifier: BSD-2-Clause
 * Reader of what PyTorch's torch.save writes of a state_dict, without Python and without executing anything:
 *
 *   zip (since 1.6)    <root>/data.pkl: pickle; <root>/data/<key>: elements of one storage, stored, not compressed
 *   legacy             pickles: magic number, protocol 1001, sys_info, object, keys; then per key: u64 count, elements
 *
 * The pickle may name nothing but dicts, tensors, storages and a few inert types (layers/import/pickle.h): a module
 * pickled whole is refused by name. Of nested dicts ({"model": ..., "optimizer": ...}) the one with the weights is
 * taken: the usual keys first ("state_dict", "model", ...), else the only one that holds tensors. Tensors may share
 * storages and have any strides. Source: torch/serialization.py, torch/_utils.py of PyTorch 2.
 */
#ifndef OCT_LAYERS_IMPORT_PTH_H
#define OCT_LAYERS_IMPORT_PTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/import/tensors.h"

/* Do the first bytes of a file look like one: a zip archive or a pickle? */
bool oct_pth_probe(const uint8_t *head, size_t head_bytes);

/* Adds the tensors of a file in memory, in the order of the state_dict, under its keys. OCT_ERR_FORMAT: damaged, or not
 * weights; OCT_ERR_UNSUPPORTED: a form that has to be saved again, the message says how. Messages do not name the
 * file. */
OCT_MUST_USE oct_status oct_pth_read(oct_tensors *tensors, const uint8_t *bytes, size_t size, oct_error *error);

#endif
