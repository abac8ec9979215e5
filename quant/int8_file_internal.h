/* SPDX-License-Identifier: BSD-2-Clause
 * The parts of quant/int8_file.h: HDF5 <-> spec.
 */
#ifndef OCT_QUANT_INT8_FILE_INTERNAL_H
#define OCT_QUANT_INT8_FILE_INTERNAL_H

#include "autograd/base/memory.h"
#include "quant/int8/spec.h"

enum { OCT_INT8_LINK_BYTES = OCT_INT8_MAX_NAME + 16 }; /* "NNNN_" name NUL, with room for any int */

/* *bytes = an HDF5 file in memory (oct_free). `path` is for messages. The spec has been checked. */
OCT_MUST_USE oct_status oct_int8_hdf5_write(uint8_t **bytes, size_t *size, const oct_int8_spec *spec,
                                            uint64_t checksum, const char *path, oct_error *error);

/* Is `path` an HDF5 file? False when it cannot be read at all. */
bool oct_int8_hdf5_is(const char *path);

/* The reverse of writing; everything of *spec lives in `arena`. The spec's shapes have been checked, its arrays not. */
OCT_MUST_USE oct_status oct_int8_hdf5_read(oct_int8_spec *spec, uint64_t *checksum, oct_arena *arena, const char *path,
                                           oct_error *error);

#endif
