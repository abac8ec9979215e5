/* SPDX-License-Identifier: BSD-2-Clause
 * A network of the zoo with the weights of a file that has none of its own: PyTorch's .pth, .safetensors
 * (layers/import/import.h), or a checkpoint of ours put into another form of its network.
 */
#ifndef OCT_TRAIN_PRETRAINED_H
#define OCT_TRAIN_PRETRAINED_H

#include "layers/import/import.h"
#include "train/checkpoint.h"

typedef struct oct_pretrained_options {
    const char *model; /* spec of the zoo (layers/models.h); borrowed as long as the checkpoint */
    int size;          /* side of the images; 0 = what the network is published for */
    int channels;      /* 0 = 3 */
    bool strict;       /* see oct_load_options */
} oct_pretrained_options;

/* Side of the images that a network of the zoo is published for: 224 for most, 32 for those of CIFAR. */
int oct_pretrained_size(const char *model);

/* Builds the network with as many classes as the file has and loads it. *report: what was loaded, also when shapes do
 * not fit (OCT_ERR_SHAPE), else NULL after failure; the caller destroys it. The checkpoint has no state. */
OCT_MUST_USE oct_status oct_pretrained_open(oct_checkpoint *out, oct_load_report **report, const char *path,
                                            const oct_pretrained_options *options, oct_ctx *ctx);

#endif
