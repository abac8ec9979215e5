/* SPDX-License-Identifier: BSD-2-Clause
 * Image transforms on 8-bit H, W, C pixels: resize, crops, flip, colour jitter, and the recipes made of them.
 * Integer arithmetic on the pixels and IEEE basic operations for everything else, so that results are the same on
 * every machine. Geometry and rounding are those of Pillow and torchvision, so that weights from there see the
 * pixels they were scored with.
 * Mean and scale are not here: they belong to the model.
 */
#ifndef OCT_DATASETS_TRANSFORM_H
#define OCT_DATASETS_TRANSFORM_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/rng.h"
#include "autograd/base/status.h"
#include "datasets/image.h"

/* Filters of oct_resize, both widened by the ratio when shrinking (antialiased). */
typedef enum oct_filter {
    OCT_FILTER_BILINEAR, /* triangle, half width 1 */
    OCT_FILTER_BICUBIC   /* Keys' cubic with a = -1/2, half width 2 */
} oct_filter;

const char *oct_filter_name(oct_filter filter); /* "bilinear", "bicubic"; NULL otherwise */
OCT_MUST_USE oct_status oct_filter_parse(oct_filter *filter, const char *name, oct_error *error);

/* How a model wants its images brought to size x size in evaluation; part of every model file. The short side
 * becomes `resize` (the long one resize * long / short, rounded down), then the centre size x size is cut out
 * (torchvision's Resize and CenterCrop). */
typedef struct oct_fit {
    int resize; /* >= size; 0 = by the recipe (oct_fit_side); OCT_RESIZE_SQUASH */
    oct_filter filter;
} oct_fit;
enum { OCT_RESIZE_SQUASH = -1 }; /* no crop: both sides straight to `size`, whatever the aspect ratio */

/* Training recipes. Each ends with size x size pixels. "fit" = short side to `size`, then centre crop (or what
 * OCT_RESIZE_SQUASH says); an image that has the size already is taken as it is.
 *   none      fit
 *   flip      fit, horizontal flip with probability 1/2
 *   cifar     fit, 4 zero pixels on every side, random crop, flip
 *   imagenet  random resized crop (oct_random_resized_box), flip
 * and then oct_color_jitter when the transform has one. */
typedef enum oct_augment {
    OCT_AUGMENT_NONE,
    OCT_AUGMENT_FLIP,
    OCT_AUGMENT_CIFAR,
    OCT_AUGMENT_IMAGENET
} oct_augment;

const char *oct_augment_name(oct_augment augment); /* "none", "flip", "cifar", "imagenet"; NULL otherwise */
OCT_MUST_USE oct_status oct_augment_parse(oct_augment *augment, const char *name, oct_error *error);

/* Buffers that calls use again. Start with {0}; one per thread. Owner releases. */
typedef struct oct_transform_scratch {
    void *block;
    size_t capacity_bytes;
} oct_transform_scratch;
void oct_transform_scratch_release(oct_transform_scratch *scratch);

/* Strengths b, c, s >= 0 and h in 0..1/2; 0 = leave alone. Grey images keep to the first two. */
typedef struct oct_jitter {
    float brightness, contrast, saturation, hue;
} oct_jitter;

typedef struct oct_transform {
    int size; /* output height and width, 1..16384 */
    oct_augment augment;
    int training; /* 0 = the evaluation form, which draws no random numbers */
    oct_fit fit;  /* training takes the filter from it, and whether to squash */
    oct_jitter jitter;
} oct_transform;

/* Short side before the crop in evaluation: fit->resize; where that is 0, size / 0.875 (rounded down: 256 for 224)
 * in recipe imagenet and `size` in the others. OCT_RESIZE_SQUASH stays. */
int oct_fit_side(const oct_fit *fit, oct_augment augment, int size);
/* OCT_ERR_ARGUMENT: resize below the size or above 32768, unknown filter. */
OCT_MUST_USE oct_status oct_fit_check(const oct_fit *fit, int size, oct_error *error);

/* Writes size * size * in.channels bytes. `rng` is advanced by what the recipe draws (may be NULL in
 * evaluation). `out` must not overlap the input. OCT_ERR_MEMORY; OCT_ERR_ARGUMENT for a size out of range. */
OCT_MUST_USE oct_status oct_transform_apply(uint8_t *out, const oct_transform *transform, oct_view in,
                                            oct_rng *rng, oct_transform_scratch *scratch, oct_error *error);

/* A rectangle of pixels. */
typedef struct oct_box {
    int y, x, height, width;
} oct_box;

/* Resizes `in` to full_height x full_width and writes the part `window` of that result (window inside it):
 * window.height * window.width * channels bytes. Output i of an axis is the weighted mean of the inputs j with
 * |j - c| < r around c = (i + 1/2) in / out - 1/2, weight filter((j - c) / max(1, in / out)), r = the filter's half
 * width times max(1, in / out); outside pixels have no weight. 22-bit fixed-point weights, each rounded;
 * bytes between the two passes and at the end, rounded half up, clamped. Along the rows first, unless the height
 * shrinks by more than twice what the width does. The same bytes as Image.resize of Pillow 13. Equal sizes copy.
 * OCT_ERR_MEMORY. */
OCT_MUST_USE oct_status oct_resize(uint8_t *out, int full_height, int full_width, oct_box window, oct_view in,
                                   oct_filter filter, oct_transform_scratch *scratch, oct_error *error);

/* Copies the height x width pixels whose corner is at (y, x) of `in`; what lies outside is zero. */
void oct_crop_padded(uint8_t *out, int height, int width, oct_view in, int y, int x);
/* Mirrors each row in place. */
void oct_flip_horizontal(uint8_t *pixels, int height, int width, int channels);
/* torchvision's RandomResizedCrop: a box of 0.08..1 of the area (uniform) and an aspect ratio width / height of
 * 3/4..4/3 (its logarithm uniform), sides rounded half to even, placed uniformly; after ten boxes that do not fit, the
 * largest centred box within those ratios. */
oct_box oct_random_resized_box(oct_rng *rng, int height, int width);

/* torchvision's ColorJitter on 8-bit images, in place. In random order: brightness, contrast, saturation by a factor
 * uniform in [max(0, 1 - strength), 1 + strength], hue by a shift uniform in [-hue, hue] of the circle. */
void oct_color_jitter(uint8_t *pixels, int height, int width, int channels, const oct_jitter *jitter, oct_rng *rng);

/* The four steps, with Pillow's arithmetic (ImageEnhance; HSV bytes for the hue). Result a + factor * (x - a), a = 0,
 * the rounded mean luminance, the pixel's luminance; cut to bytes towards zero. Luminance of a pixel: (19595 R +
 * 38470 G + 7471 B + 32768) >> 16. */
void oct_adjust_brightness(uint8_t *pixels, size_t pixel_count, int channels, float factor);
void oct_adjust_contrast(uint8_t *pixels, size_t pixel_count, int channels, float factor);
void oct_adjust_saturation(uint8_t *pixels, size_t pixel_count, float factor); /* RGB */
void oct_adjust_hue(uint8_t *pixels, size_t pixel_count, float shift);         /* RGB; shift in -1/2..1/2 */

#endif
