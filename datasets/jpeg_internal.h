/* SPDX-License-Identifier: BSD-2-Clause
 * Shared by decode.c and jpeg_check.c. */
#ifndef OCT_DATASETS_JPEG_INTERNAL_H
#define OCT_DATASETS_JPEG_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/status.h"

/* Walks the segments of a JPEG from its second byte to its end-of-image marker. OCT_ERR_FORMAT when it is
 * truncated (no such marker), or when its structure would lead the decoder astray: Huffman tables with more
 * codes than there can be, scans that use tables which were not defined, more than one frame. */
oct_status oct_jpeg_check(const uint8_t *bytes, size_t size, const char *name, oct_error *error);

#endif
