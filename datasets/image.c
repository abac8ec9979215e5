/* SPDX-License-Identifier: BSD-2-Clause */
#include "datasets/image.h"

#include "autograd/base/memory.h"

oct_status oct_image_reserve(oct_image *image, int height, int width, int channels, oct_error *error)
{
    size_t bytes;
    if (height < 1 || width < 1 || channels < 1)
        return oct_fail(error, OCT_ERR_ARGUMENT, "image of %d x %d x %d: expected at least 1 of each", height,
                        width, channels);
    if (!oct_size_mul(&bytes, (size_t)height, (size_t)width) ||
        !oct_size_mul(&bytes, bytes, (size_t)channels))
        return oct_fail(error, OCT_ERR_MEMORY, "image of %d x %d x %d: too large", height, width, channels);
    if (bytes > image->capacity_bytes) {
        uint8_t *grown = oct_alloc(bytes, 1);
        if (!grown) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: image of %zu bytes", bytes);
        oct_free(image->pixels);
        image->pixels = grown;
        image->capacity_bytes = bytes;
    }
    image->height = height;
    image->width = width;
    image->channels = channels;
    return OCT_OK;
}

void oct_image_release(oct_image *image)
{
    oct_free(image->pixels);
    *image = (oct_image){0};
}

oct_view oct_image_view(const oct_image *image)
{
    return (oct_view){.pixels = image->pixels,
                      .height = image->height,
                      .width = image->width,
                      .channels = image->channels,
                      .stride_bytes = (size_t)image->width * (size_t)image->channels};
}

oct_view oct_view_crop(oct_view view, int y, int x, int height, int width)
{
    view.pixels += (size_t)y * view.stride_bytes + (size_t)x * (size_t)view.channels;
    view.height = height;
    view.width = width;
    return view;
}
