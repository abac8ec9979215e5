/* SPDX-License-Identifier: BSD-2-Clause
 * Image transforms on 8-bit H, W, C pixels: resize, crops, flip, and the recipes made of them. Integer
 * arithmetic on the pixels and IEEE basic operations for the geometry, so that results are the same on every
 * machine.
 * Mean and scale are not here: they belong to the model.
 */
#ifndef OCT_DATASETS_TRANSFORM_H
#define OCT_DATASETS_TRANSFORM_H

#include <stdint.h>

#include "autograd/base/rng.h"
#include "autograd/base/status.h"
#include "datasets/image.h"

/* Training recipes. Each ends with size x size pixels. "fit" = short side to `size`, then centre crop; an
 * image that has the size already is taken as it is.
 *   none      fit
 *   flip      fit, horizontal flip with probability 1/2
 *   cifar     fit, 4 zero pixels on every side, random crop, flip
 *   imagenet  random resized crop (oct_random_resized_box), flip
 * Evaluation is "fit"; for imagenet the short side becomes size * 256 / 224 (rounded) before the crop. */
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

typedef struct oct_transform {
    int size; /* output height and width, 1..16384 */
    oct_augment augment;
    int training; /* 0 = the evaluation form, which draws no random numbers */
} oct_transform;

/* Writes size * size * in.channels bytes. `rng` is advanced by what the recipe draws (may be NULL in
 * evaluation). `out` must not overlap the input. OCT_ERR_MEMORY; OCT_ERR_ARGUMENT for a size out of range. */
OCT_MUST_USE oct_status oct_transform_apply(uint8_t *out, const oct_transform *transform, oct_view in,
                                            oct_rng *rng, oct_transform_scratch *scratch, oct_error *error);

/* A rectangle of pixels. */
typedef struct oct_box {
    int y, x, height, width;
} oct_box;

/* Resizes `in` to full_height x full_width and writes the part `window` of that result (window inside it):
 * window.height * window.width * channels bytes. Separable triangle filter with its centre at
 * (i + 1/2) * in / out - 1/2 and half width max(1, in / out): bilinear interpolation when growing,
 * antialiased when shrinking; outside pixels have no weight. Weights are 14-bit fixed point that sum to
 * exactly one, the rows between the two passes keep 6 fractional bits, the end is rounded half up. A constant
 * image stays constant; equal sizes copy. OCT_ERR_MEMORY. */
OCT_MUST_USE oct_status oct_resize(uint8_t *out, int full_height, int full_width, oct_box window, oct_view in,
                                   oct_transform_scratch *scratch, oct_error *error);

/* Copies the height x width pixels whose corner is at (y, x) of `in`; what lies outside is zero. */
void oct_crop_padded(uint8_t *out, int height, int width, oct_view in, int y, int x);
/* Mirrors each row in place. */
void oct_flip_horizontal(uint8_t *pixels, int height, int width, int channels);
/* A box of 0.2..1 of the area (uniform) and an aspect ratio width / height of 3/4..4/3 (1 + u/3, or its
 * inverse, each with probability 1/2), placed uniformly; after ten boxes that do not fit, the largest centred
 * box within those ratios. */
oct_box oct_random_resized_box(oct_rng *rng, int height, int width);

#endif
