/* SPDX-License-Identifier: BSD-2-Clause
 * Shared by resize.c and transform.c: the scratch buffer. */
#ifndef OCT_DATASETS_RESIZE_INTERNAL_H
#define OCT_DATASETS_RESIZE_INTERNAL_H

#include <stddef.h>

#include "datasets/transform.h"

/* At least `bytes` bytes, aligned to 64, contents undefined; NULL when memory is out. Valid until the next
 * call. */
void *oct_transform_scratch_get(oct_transform_scratch *scratch, size_t bytes);

#endif
