/* SPDX-License-Identifier: BSD-2-Clause */
#include "datasets/transform.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "datasets/resize_internal.h"

enum { MAX_SIZE = 16384, MAX_RESIZE = 32768, CIFAR_PAD = 4, BOX_TRIES = 10 };

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

static const char *const filter_names[] = {"bilinear", "bicubic"};

const char *oct_filter_name(oct_filter filter)
{
    return (unsigned)filter < 2 ? filter_names[filter] : NULL;
}

oct_status oct_filter_parse(oct_filter *filter, const char *name, oct_error *error)
{
    for (int i = 0; i < 2; i++) {
        if (strcmp(name, filter_names[i])) continue;
        *filter = (oct_filter)i;
        return OCT_OK;
    }
    return oct_fail(error, OCT_ERR_ARGUMENT, "interpolation \"%s\": expected bilinear or bicubic", name);
}

int oct_fit_side(const oct_fit *fit, oct_augment augment, int size)
{
    if (fit->resize) return fit->resize;
    return augment == OCT_AUGMENT_IMAGENET ? (int)((int64_t)size * 8 / 7) : size;
}

oct_status oct_fit_check(const oct_fit *fit, int size, oct_error *error)
{
    if (!oct_filter_name(fit->filter))
        return oct_fail(error, OCT_ERR_ARGUMENT, "interpolation: expected 0..1, found %d", (int)fit->filter);
    bool known = fit->resize == 0 || fit->resize == OCT_RESIZE_SQUASH;
    if (!known && (fit->resize < size || fit->resize > MAX_RESIZE))
        return oct_fail(error, OCT_ERR_ARGUMENT, "resize: expected a short side of %d..%d pixels, found %d", size,
                        MAX_RESIZE, fit->resize);
    return OCT_OK;
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

static int round_even(double x)
{
    return (int)rint(x);
}

static oct_box largest_centred_box(int height, int width)
{
    int h = height, w = width;
    double ratio = (double)width / (double)height;
    if (ratio < 3.0 / 4.0)
        h = round_even(width / (3.0 / 4.0));
    else if (ratio > 4.0 / 3.0)
        w = round_even(height * (4.0 / 3.0));
    if (w > width) w = width;
    if (h > height) h = height;
    return (oct_box){(height - h) / 2, (width - w) / 2, h, w};
}

/* e^x for |x| < 0.3, by its series: the C library's may differ between machines in the last bit. */
static double small_exp(double x)
{
    double sum = 1.0;
    for (int n = 14; n > 0; n--) sum = 1.0 + x / n * sum;
    return sum;
}

oct_box oct_random_resized_box(oct_rng *rng, int height, int width)
{
    static const double log_ratio = 0.28768207245178092744; /* ln(4/3) */
    double whole = (double)height * (double)width;
    for (int i = 0; i < BOX_TRIES; i++) {
        double area = whole * (0.08 + 0.92 * (double)oct_rng_uniform(rng));
        double ratio = small_exp((2.0 * (double)oct_rng_uniform(rng) - 1.0) * log_ratio);
        int w = round_even(sqrt(area * ratio)), h = round_even(sqrt(area / ratio));
        if (w < 1 || h < 1 || w > width || h > height) continue;
        oct_box box = {.height = h, .width = w};
        box.y = (int)oct_rng_below(rng, (uint32_t)(height - h + 1));
        box.x = (int)oct_rng_below(rng, (uint32_t)(width - w + 1));
        return box;
    }
    return largest_centred_box(height, width);
}

/* Half of an excess, a half rounded to even. */
static int centred(int64_t excess)
{
    int64_t at = excess / 2;
    return (int)(at + (excess % 2 && at % 2));
}

/* Short side to `side`, then the centred size x size window of that. */
static oct_status fit_image(uint8_t *out, int size, int side, oct_view in, oct_filter filter,
                      oct_transform_scratch *scratch, oct_error *error)
{
    if (side == OCT_RESIZE_SQUASH)
        return oct_resize(out, size, size, (oct_box){0, 0, size, size}, in, filter, scratch, error);
    int64_t shorter = in.height < in.width ? in.height : in.width;
    int64_t h = (int64_t)in.height * side / shorter, w = (int64_t)in.width * side / shorter;
    oct_box window = {centred(h - size), centred(w - size), size, size};
    return oct_resize(out, (int)h, (int)w, window, in, filter, scratch, error);
}

/* The fitted image, then a random window of it between CIFAR_PAD zeros on every side. The fitted image is the
 * input itself when the sizes agree, so that this costs one copy of the rows. */
static oct_status cifar_crop(uint8_t *out, int size, int side, oct_view in, oct_filter filter, oct_rng *rng,
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
    if (status == OCT_OK) status = fit_image(fitted.pixels, size, side, in, filter, scratch, error);
    if (status == OCT_OK) oct_crop_padded(out, size, size, oct_image_view(&fitted), y, x);
    oct_image_release(&fitted);
    return status;
}

static oct_status random_crop(uint8_t *out, int size, oct_view in, oct_filter filter, oct_rng *rng,
                              oct_transform_scratch *scratch, oct_error *error)
{
    oct_box box = oct_random_resized_box(rng, in.height, in.width);
    oct_view part = oct_view_crop(in, box.y, box.x, box.height, box.width);
    return oct_resize(out, size, size, (oct_box){0, 0, size, size}, part, filter, scratch, error);
}

oct_status oct_transform_apply(uint8_t *out, const oct_transform *transform, oct_view in, oct_rng *rng,
                               oct_transform_scratch *scratch, oct_error *error)
{
    int size = transform->size;
    oct_filter filter = transform->fit.filter;
    if (size < 1 || size > MAX_SIZE)
        return oct_fail(error, OCT_ERR_ARGUMENT, "image size: expected 1..%d, found %d", MAX_SIZE, size);
    OCT_TRY(oct_fit_check(&transform->fit, size, error));
    if (!transform->training)
        return fit_image(out, size, oct_fit_side(&transform->fit, transform->augment, size), in, filter, scratch,
                         error);
    int side = transform->fit.resize == OCT_RESIZE_SQUASH ? OCT_RESIZE_SQUASH : size;
    switch (transform->augment) {
    case OCT_AUGMENT_CIFAR: OCT_TRY(cifar_crop(out, size, side, in, filter, rng, scratch, error)); break;
    case OCT_AUGMENT_IMAGENET: OCT_TRY(random_crop(out, size, in, filter, rng, scratch, error)); break;
    default: OCT_TRY(fit_image(out, size, side, in, filter, scratch, error)); break;
    }
    if (transform->augment != OCT_AUGMENT_NONE && oct_rng_below(rng, 2))
        oct_flip_horizontal(out, size, size, in.channels);
    oct_color_jitter(out, size, size, in.channels, &transform->jitter, rng);
    return OCT_OK;
}
