/* SPDX-License-Identifier: BSD-2-Clause
 * Decoded images: 8 bits per sample, rows from the top, channels interleaved (H, W, C). The owning form
 * (oct_image, a buffer that grows and is used again) and the borrowed one (oct_view), and the decoder of
 * JPEG, PNG and BMP files. The decoder's library appears in no header.
 */
#ifndef OCT_DATASETS_IMAGE_H
#define OCT_DATASETS_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/status.h"

/* Start with {0}; calls that fill it replace the buffer when it is too small. Owner releases. */
typedef struct oct_image {
    uint8_t *pixels; /* height * width * channels bytes, without padding between rows */
    int height, width, channels;
    size_t capacity_bytes;
} oct_image;

/* Pixels that somebody else owns. */
typedef struct oct_view {
    const uint8_t *pixels;
    int height, width, channels;
    size_t stride_bytes; /* from one row to the next */
} oct_view;

/* Gives the image this shape, contents undefined. All three must be >= 1 (OCT_ERR_ARGUMENT). OCT_ERR_MEMORY.
 */
OCT_MUST_USE oct_status oct_image_reserve(oct_image *image, int height, int width, int channels,
                                          oct_error *error);
void oct_image_release(oct_image *image); /* back to {0} */

oct_view oct_image_view(const oct_image *image);
/* The rectangle with its corner at (y, x), which must lie inside. Nothing is copied. */
oct_view oct_view_crop(oct_view view, int y, int x, int height, int width);

/* Decodes a whole file held in memory. The kind is found from the content: JPEG, PNG or BMP, anything else is
 * OCT_ERR_FORMAT, as are damaged and truncated files (including JPEGs without an end-of-image marker and BMPs
 * shorter than their header promises, which the decoder itself would fill up with grey or black) and images
 * of more than max_pixels (0 = 1 << 26) pixels, whose size is looked at before anything is allocated.
 * channels: 1 (luminance) or 3 (RGB); alpha is dropped. `name` begins every message. Thread-safe for
 * different images. */
OCT_MUST_USE oct_status oct_image_decode(oct_image *image, const uint8_t *bytes, size_t size, int channels,
                                         size_t max_pixels, const char *name, oct_error *error);
/* The same from a file. Adds OCT_ERR_IO. Files of more than 256 MiB are OCT_ERR_FORMAT. */
OCT_MUST_USE oct_status oct_image_load(oct_image *image, const char *path, int channels, size_t max_pixels,
                                       oct_error *error);

#endif
