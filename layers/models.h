/* SPDX-License-Identifier: BSD-2-Clause
 * The model zoo: whole networks by name, built into a graph with the layer builders.
 *
 *   image u8 [N,H,W,C] -> "normalize" -> network -> logits "head" [N,classes] -> "loss" with "label" i32 [N]
 *
 * Arithmetic (order of layers, padding, batch norm's eps and momentum) is the reference's, so its weights can be loaded.
 * Parameters counted without running statistics, MACs of convolutions and linear layers, for 1000 classes at the size given:
 *   resnet8       MLPerf Tiny's image classifier (mlcommons/tiny): convolutions with bias, TensorFlow "same", batch
 *                 norm eps 1e-3 and momentum 0.01, no batch norm on the 1x1 shortcuts. 32x32x3, 10 classes: 78,666
 *                 parameters with running statistics, 12.50 MMAC
 *   resnet20      He et al. 2016 for CIFAR; 1x1 projections with batch norm as shortcuts
 *   resnet18, resnet34, resnet50, resnext50
 *                 He et al. 2016 and Xie et al. 2017 (32x4d) as in torchvision: a bottleneck's stride is in its 3x3
 *                 convolution. 224: 11,689,512; 21,797,672; 25,557,032; 25,028,904 parameters,
 *                 1.814; 3.664; 4.089; 4.230 GMAC
 *   mobilenetv1   Howard et al. 2017 as in MLPerf Tiny: convolutions with bias, batch norm eps 1e-3, momentum 0.01.
 *                 width=0.25 at 96x96x3 with 2 classes: 221,794 parameters with running statistics, 7.49 MMAC
 *   mobilenetv2   Sandler et al. 2018 as in torchvision. 224: 3,504,872, 0.301 GMAC
 *   mobilenetv3-lite-large, mobilenetv3-lite-small
 *                 Howard et al. 2019 without squeeze-excite and with ReLU for hard-swish, as in TI's edgeai-torchvision:
 *                 torchvision's network but for these; batch norm eps 1e-3, momentum 0.01. 224: 3,970,752; 2,081,216
 *   regnetx-400mf, regnetx-800mf, regnetx-1.6gf
 *                 Radosavovic et al. 2020 as in torchvision. 224: 5,495,976; 7,259,656; 9,190,136, 0.414; 0.800; 1.603 GMAC
 *   efficientnet-lite0, efficientnet-lite1, efficientnet-lite2
 *                 tensorflow/tpu's EfficientNet-Lite: TensorFlow "same", ReLU6, batch norm eps 1e-3, momentum 0.01.
 *                 224, 240, 260: 4,652,008; 5,416,680; 6,092,072
 *   ds-cnn        MLPerf Tiny's keyword spotter (Zhang et al. 2017). 49x10x1, 12 classes: 24,908 parameters with running
 *                 statistics, 2.66 MMAC
 *   autoencoder   MLPerf Tiny's anomaly detector: dense layers H*W*C-128x4-8-128x4-H*W*C, each but the last with batch
 *                 norm and ReLU. 5x128x1 (frames, bands): 269,992 parameters with running statistics. Not a classifier:
 *                 "head" is the normalized image again, "loss" the mean squared error against it; no label
 * Options of a spec, "mobilenetv2:width=0.5,form=cifar":
 *   width=X       resnet18 and up, mobilenets: multiplies channels, 0.05..4, default 1; channels are rounded to multiples
 *                 of 8, never down by more than a tenth
 *   form=F        all but MLPerf Tiny's resnet8, ds-cnn, autoencoder, and resnet20: imagenet (as published) or cifar
 *                 (stride 1 in the stem and in the first stage that would halve the image; no max pool); default cifar for
 *                 images whose sides are both at most 64
 *   act=A         mobilenetv1 and v2, efficientnets: relu6 (default but for mobilenetv1) or relu
 *   dropout=R     mobilenetv2 and v3, efficientnets, ds-cnn: rate in front of the head, 0..0.9; default 0 (0.2 in the
 *                 references' training), ds-cnn 0.4, and half of it behind the stem, as in its reference
 *
 * Node names. Importers map foreign names onto them; they do not change, because checkpoints hold them. Indices are
 * 1-based. Below, conv has /weight (/bias), bn has /gamma /beta /mean /var, linear layers have /weight /bias:
 *   stem/conv stem/bn stem/relu          first convolution; stem/pool behind it: max pool of resnets in imagenet form
 *   stage<s>/block<b>                    prefix of a residual or inverted residual block: resnet20 and up, mobilenetv2,
 *                                        regnetx, efficientnets; stage<s> in resnet8; block<b> in mobilenetv1, v3, ds-cnn,
 *                                        counted through
 *     conv<n> bn<n> relu<n>              n-th convolution of the block, its batch norm and its activation, n = 1, 2, 3.
 *                                        Inverted residuals: 1 expands, 2 is depthwise, 3 projects; without expansion
 *                                        there is no 1. mobilenetv1, ds-cnn: 1 is depthwise, 2 is 1x1
 *     shortcut/conv shortcut/bn          1x1 convolution where the shape changes (no bn in resnet8)
 *     add                                sum of both branches; the last relu<n> of resnets and regnets is behind it
 *   tail/conv tail/bn tail/relu          1x1 convolution in front of the pool: mobilenetv2, v3, efficientnets
 *   pool                                 global average pooling
 *   hidden hidden/relu                   linear layer of mobilenetv3 behind it
 *   dropout                              where asked for
 *   head                                 the last linear layer
 *   encoder<n>, bottleneck, decoder<n>   autoencoder, n = 1..4: /linear /bn /relu
 */
#ifndef OCT_LAYERS_MODELS_H
#define OCT_LAYERS_MODELS_H

#include "layers/layers.h"

typedef struct oct_model_options {
    int32_t height, width, channels; /* of the image, >= 1; at most 4 channels */
    int32_t classes;                 /* >= 2; no matter to OCT_RECONSTRUCT */
    oct_normalize_attrs preprocess;  /* a scale of 0 in a channel means 1 */
    float label_smoothing;           /* [0, 1) */
} oct_model_options;

/* What a model is trained to do. */
typedef enum oct_model_task {
    OCT_CLASSIFY,   /* logits [N,classes]; loss: cross entropy with label */
    OCT_RECONSTRUCT /* logits [N,H*W*C]: the normalized image; loss: mean squared error against it; label is invalid */
} oct_model_task;

enum { OCT_MODEL_NAME = 32 };
typedef struct oct_model {
    char name[OCT_MODEL_NAME]; /* "mobilenetv2", without the options */
    oct_model_task task;
    oct_value image, label, logits, loss;
} oct_model;

/* Builds the model of `spec` into an empty graph. Unknown names, options and values: OCT_ERR_ARGUMENT listing the
 * known ones. An image too small for the network: the shape error of the first layer that finds out. */
OCT_MUST_USE oct_status oct_model_build(oct_model *model, oct_graph *graph, const char *spec,
                                        const oct_model_options *options);

/* Finds the four values again, by name, in a graph that was read from a file. OCT_ERR_FORMAT when one is missing or not
 * of its kind; a missing label and loss (a graph for inference) are invalid values instead. The loss decides on the task. */
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
