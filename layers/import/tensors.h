/* SPDX-License-Identifier: BSD-2-Clause
 * Named float tensors out of a file of another framework: what every reader of weights fills in and what the loader
 * (layers/import/load.h) copies into a graph by name.
 *
 * Values are float32 whatever the file held (half, bfloat16 and double are converted, integers too); shapes and the
 * order of the elements are the file's, row-major, so the layout (O,I,H,W or H,W,I,O) stays the business of whoever
 * knows the framework. Names are unique. Not thread-safe per object.
 */
#ifndef OCT_LAYERS_IMPORT_TENSORS_H
#define OCT_LAYERS_IMPORT_TENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/status.h"

enum {
    OCT_TENSOR_MAX_RANK = 8,
    OCT_TENSOR_MAX_NAME = 511,     /* bytes, without the NUL */
    OCT_TENSORS_MAX_COUNT = 65536,
};

typedef struct oct_named_tensor {
    const char *name;
    int rank;                          /* 0 = a scalar */
    int64_t dims[OCT_TENSOR_MAX_RANK]; /* >= 0 */
    size_t count;                      /* product of dims */
    float *data;                       /* owned by the list; never NULL */
} oct_named_tensor;

typedef struct oct_tensors oct_tensors;

OCT_MUST_USE oct_status oct_tensors_create(oct_tensors **out, oct_error *error);
void oct_tensors_destroy(oct_tensors *tensors); /* NULL is allowed */

/* Adds a tensor of zeros; *out is valid until the list is destroyed, its data is the caller's to fill. OCT_ERR_FORMAT:
 * the name is empty, too long, not printable or there already, the rank or a dimension is out of range, or the tensor
 * has more than `max_elements`, the bound that the size of the file gives. */
OCT_MUST_USE oct_status oct_tensors_add(oct_tensors *tensors, oct_named_tensor **out, const char *name, int rank,
                                        const int64_t *dims, uint64_t max_elements, oct_error *error);

int oct_tensors_count(const oct_tensors *tensors);
/* In order of adding; NULL out of range. */
const oct_named_tensor *oct_tensors_at(const oct_tensors *tensors, int index);
/* NULL when there is none. */
const oct_named_tensor *oct_tensors_find(const oct_tensors *tensors, const char *name);
/* Of a tensor that the list gave out. */
int oct_tensors_index(const oct_tensors *tensors, const oct_named_tensor *tensor);

#endif
