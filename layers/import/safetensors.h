/* SPDX-License-Identifier: BSD-2-Clause
 * Reader of safetensors files (github.com/huggingface/safetensors, format of version 0.3 and later):
 *
 *   u64 n | n bytes of JSON {"name": {"dtype": "F32", "shape": [2,3], "data_offsets": [begin, end]}, ...} | data
 *
 * Offsets count from the start of the data. "__metadata__" is skipped. The tensors must fill the data without holes and
 * overlaps, as the format demands; the header has at most OCT_SAFETENSORS_MAX_HEADER bytes.
 */
#ifndef OCT_LAYERS_IMPORT_SAFETENSORS_H
#define OCT_LAYERS_IMPORT_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layers/import/tensors.h"

enum { OCT_SAFETENSORS_MAX_HEADER = 16 << 20 };

/* Do the first bytes of a file of `size` bytes look like one? head_bytes >= 9. */
bool oct_safetensors_probe(const uint8_t *head, size_t head_bytes, uint64_t size);

/* Adds the tensors of a file in memory, in the order of their data. OCT_ERR_FORMAT: anything that is wrong with the
 * file; OCT_ERR_UNSUPPORTED: an element type that does not convert (8-bit and smaller floats). Messages do not name the
 * file. */
OCT_MUST_USE oct_status oct_safetensors_read(oct_tensors *tensors, const uint8_t *bytes, size_t size,
                                             oct_error *error);

#endif
