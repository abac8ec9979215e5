/* SPDX-License-Identifier: BSD-2-Clause
 * The model zoo: whole networks by name, built into a graph with the layer builders.
 *
 *   image u8 [N,H,W,C] -> "normalize" -> network -> logits "head" [N,classes] -> "loss" with "label" i32 [N]
 *
 *   resnet8       MLPerf Tiny's image classifier (mlcommons/tiny): convolutions with bias, TensorFlow "same", batch
 *                 norm eps 1e-3 and momentum 0.01, no batch norm on the 1x1 shortcuts. 32x32x3, 10 classes: 78,666
 *                 parameters with running statistics, 12.50 MMAC
 *   resnet20      He et al. 2016 for CIFAR; 1x1 projections with batch norm as shortcuts
 *   resnet18      He et al. 2016; form=imagenet (7x7 stride 2 and a max pool in front) or cifar (3x3 stride 1)
 *   mobilenetv1   Howard et al. 2017 as in MLPerf Tiny: convolutions with bias, batch norm eps 1e-3, momentum 0.01.
 *                 width=0.25 at 96x96x3 with 2 classes: 221,794 parameters with running statistics, 7.49 MMAC
 *   mobilenetv2   Sandler et al. 2018
 * Options of a spec, "mobilenetv2:width=0.5,form=cifar":
 *   width=X       mobilenets: multiplies channels, 0.05..4, default 1; channels are rounded to multiples of 8, never
 *                 down by more than a tenth
 *   form=F        resnet18, mobilenets: imagenet (as published) or cifar (stride 1 in the stem and in the first stage
 *                 that would halve the image); default cifar for images whose sides are both at most 64
 *   act=A         mobilenets: relu6 (mobilenetv2's default) or relu (mobilenetv1's)
 */
#ifndef OCT_LAYERS_MODELS_H
#define OCT_LAYERS_MODELS_H

#include "layers/layers.h"

typedef struct oct_model_options {
    int32_t height, width, channels; /* of the image, >= 1; at most 4 channels */
    int32_t classes;                 /* >= 2 */
    oct_normalize_attrs preprocess;  /* a scale of 0 in a channel means 1 */
    float label_smoothing;           /* [0, 1) */
} oct_model_options;

enum { OCT_MODEL_NAME = 32 };
typedef struct oct_model {
    char name[OCT_MODEL_NAME]; /* "mobilenetv2", without the options */
    oct_value image, label, logits, loss;
} oct_model;

/* Builds the model of `spec` into an empty graph. Unknown names, options and values: OCT_ERR_ARGUMENT listing the
 * known ones. An image too small for the network: the shape error of the first layer that finds out. */
OCT_MUST_USE oct_status oct_model_build(oct_model *model, oct_graph *graph, const char *spec,
                                        const oct_model_options *options);

/* Finds the four values again, by name, in a graph that was read from a file. OCT_ERR_FORMAT when one is missing or not
 * of its kind; a missing label and loss (a graph for inference) are invalid values instead. */
OCT_MUST_USE oct_status oct_model_find(oct_model *model, oct_graph *graph);

/* Names of the zoo, NULL past the last. */
const char *oct_model_name(int index);

typedef struct oct_model_size {
    int64_t parameters, buffers; /* elements */
    int64_t macs;                /* multiply-accumulates of one image */
} oct_model_size;
oct_model_size oct_model_measure(const oct_graph *graph);

/* Prints the graph's op nodes as a table (name, op, output shape, parameters of its own, MACs of one image), then the
 * totals, one line per call. A parameter that several nodes read is counted at the first of them; buffers are counted
 * in the totals alone. */
void oct_model_print(const oct_graph *graph, void (*line)(void *user, const char *text), void *user);

#endif
