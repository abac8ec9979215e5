/* SPDX-License-Identifier: BSD-2-Clause */
#include "datasets/transform.h"

#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "datasets/resize_internal.h"

enum { MAX_SIZE = 16384, CIFAR_PAD = 4, BOX_TRIES = 10 };

static const char *const augment_names[] = {"none", "flip", "cifar", "imagenet"};

const char *oct_augment_name(oct_augment augment)
{
    return (unsigned)augment < 4 ? augment_names[augment] : NULL;
}

oct_status oct_augment_parse(oct_augment *augment, const char *name, oct_error *error)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, augment_names[i])) continue;
        *augment = (oct_augment)i;
        return OCT_OK;
    }
    return oct_fail(error, OCT_ERR_ARGUMENT, "augmentation \"%s\": expected none, flip, cifar or imagenet",
                    name);
}

void oct_transform_scratch_release(oct_transform_scratch *scratch)
{
    oct_free(scratch->block);
    *scratch = (oct_transform_scratch){0};
}

void *oct_transform_scratch_get(oct_transform_scratch *scratch, size_t bytes)
{
    if (bytes > scratch->capacity_bytes) {
        void *grown = oct_alloc(bytes, 1);
        if (!grown) return NULL;
        oct_free(scratch->block);
        scratch->block = grown;
        scratch->capacity_bytes = bytes;
    }
    return scratch->block;
}

void oct_crop_padded(uint8_t *out, int height, int width, oct_view in, int y, int x)
{
    size_t channels = (size_t)in.channels, row_bytes = (size_t)width * channels;
    int left = x < 0 ? -x : 0; /* output columns before the image */
    int right = in.width - x;  /* first output column behind it */
    if (left > width) left = width;
    if (right > width) right = width;
    if (right < left) right = left;
    for (int i = 0; i < height; i++, out += row_bytes) {
        int row = y + i;
        if (row < 0 || row >= in.height || left == right) {
            memset(out, 0, row_bytes);
            continue;
        }
        const uint8_t *from = in.pixels + (size_t)row * in.stride_bytes + (size_t)(x + left) * channels;
        memset(out, 0, (size_t)left * channels);
        memcpy(out + (size_t)left * channels, from, (size_t)(right - left) * channels);
        memset(out + (size_t)right * channels, 0, (size_t)(width - right) * channels);
    }
}

void oct_flip_horizontal(uint8_t *pixels, int height, int width, int channels)
{
    size_t row_bytes = (size_t)width * (size_t)channels;
    for (int y = 0; y < height; y++, pixels += row_bytes) {
        uint8_t *a = pixels, *b = pixels + row_bytes - (size_t)channels;
        for (; a < b; a += channels, b -= channels) {
            for (int c = 0; c < channels; c++) {
                uint8_t keep = a[c];
                a[c] = b[c];
                b[c] = keep;
            }
        }
    }
}

static oct_box largest_centred_box(int height, int width)
{
    int h = height, w = width;
    if (4 * (int64_t)h < 3 * (int64_t)w)
        w = (int)((4 * (int64_t)h + 1) / 3);
    else if (3 * (int64_t)h > 4 * (int64_t)w)
        h = (int)((4 * (int64_t)w + 1) / 3);
    if (w > width) w = width;
    if (h > height) h = height;
    return (oct_box){(height - h) / 2, (width - w) / 2, h, w};
}

oct_box oct_random_resized_box(oct_rng *rng, int height, int width)
{
    double whole = (double)height * (double)width;
    for (int i = 0; i < BOX_TRIES; i++) {
        double area = whole * (0.2 + 0.8 * (double)oct_rng_uniform(rng));
        double ratio = 1.0 + (double)oct_rng_uniform(rng) / 3.0;
        if (oct_rng_below(rng, 2)) ratio = 1.0 / ratio;
        double w = floor(sqrt(area * ratio) + 0.5), h = floor(sqrt(area / ratio) + 0.5);
        if (w < 1 || h < 1 || w > width || h > height) continue;
        oct_box box = {.height = (int)h, .width = (int)w};
        box.y = (int)oct_rng_below(rng, (uint32_t)(height - box.height + 1));
        box.x = (int)oct_rng_below(rng, (uint32_t)(width - box.width + 1));
        return box;
    }
    return largest_centred_box(height, width);
}

/* Short side to `side`, then the centred size x size window of that. */
static oct_status fit(uint8_t *out, int size, int side, oct_view in, oct_transform_scratch *scratch,
                      oct_error *error)
{
    int64_t shorter = in.height < in.width ? in.height : in.width;
    int64_t h = ((int64_t)in.height * side * 2 + shorter) / (2 * shorter);
    int64_t w = ((int64_t)in.width * side * 2 + shorter) / (2 * shorter);
    oct_box window = {(int)((h - size) / 2), (int)((w - size) / 2), size, size};
    return oct_resize(out, (int)h, (int)w, window, in, scratch, error);
}

/* fit, then a random window of the result between CIFAR_PAD zeros on every side. The fitted image is the
 * input itself when the sizes agree, so that this costs one copy of the rows. */
static oct_status cifar_crop(uint8_t *out, int size, oct_view in, oct_rng *rng,
                             oct_transform_scratch *scratch, oct_error *error)
{
    int y = (int)oct_rng_below(rng, 2 * CIFAR_PAD + 1) - CIFAR_PAD;
    int x = (int)oct_rng_below(rng, 2 * CIFAR_PAD + 1) - CIFAR_PAD;
    if (in.height == size && in.width == size) {
        oct_crop_padded(out, size, size, in, y, x);
        return OCT_OK;
    }
    oct_image fitted = {0};
    oct_status status = oct_image_reserve(&fitted, size, size, in.channels, error);
    if (status == OCT_OK) status = fit(fitted.pixels, size, size, in, scratch, error);
    if (status == OCT_OK) oct_crop_padded(out, size, size, oct_image_view(&fitted), y, x);
    oct_image_release(&fitted);
    return status;
}

static oct_status random_crop(uint8_t *out, int size, oct_view in, oct_rng *rng,
                              oct_transform_scratch *scratch, oct_error *error)
{
    oct_box box = oct_random_resized_box(rng, in.height, in.width);
    oct_view part = oct_view_crop(in, box.y, box.x, box.height, box.width);
    return oct_resize(out, size, size, (oct_box){0, 0, size, size}, part, scratch, error);
}

oct_status oct_transform_apply(uint8_t *out, const oct_transform *transform, oct_view in, oct_rng *rng,
                               oct_transform_scratch *scratch, oct_error *error)
{
    int size = transform->size;
    if (size < 1 || size > MAX_SIZE)
        return oct_fail(error, OCT_ERR_ARGUMENT, "image size: expected 1..%d, found %d", MAX_SIZE, size);
    if (!transform->training) {
        int side = transform->augment == OCT_AUGMENT_IMAGENET ? (size * 256 + 112) / 224 : size;
        return fit(out, size, side, in, scratch, error);
    }
    switch (transform->augment) {
    case OCT_AUGMENT_CIFAR: OCT_TRY(cifar_crop(out, size, in, rng, scratch, error)); break;
    case OCT_AUGMENT_IMAGENET: OCT_TRY(random_crop(out, size, in, rng, scratch, error)); break;
    default: OCT_TRY(fit(out, size, size, in, scratch, error)); break;
    }
    if (transform->augment != OCT_AUGMENT_NONE && oct_rng_below(rng, 2))
        oct_flip_horizontal(out, size, size, in.channels);
    return OCT_OK;
}
