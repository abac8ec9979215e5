/* SPDX-License-Identifier: BSD-2-Clause
 * Images in memory, for what goes over the same ones again and again: post-training quantization and analysis.
 */
#ifndef OCT_TRAIN_IMAGE_SET_H
#define OCT_TRAIN_IMAGE_SET_H

#include "datasets/loader.h"
#include "quant/ptq/tap.h"

typedef struct oct_image_set {
    oct_ptq_images images; /* pixels belong to the set */
    int32_t *labels;
} oct_image_set;

/* All images of epoch 0 of the loader. OCT_ERR_FORMAT when none is readable. All zero on failure. */
OCT_MUST_USE oct_status oct_image_set_load(oct_image_set *set, oct_ctx *ctx, oct_loader *loader);
void oct_image_set_release(oct_image_set *set);

#endif
