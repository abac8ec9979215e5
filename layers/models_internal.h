/* SPDX-License-Identifier: BSD-2-Clause
 * Between the files of the model zoo: what a network is told, and the networks. A network is everything between the
 * normalized image and global average pooling.
 */
#ifndef OCT_LAYERS_MODELS_INTERNAL_H
#define OCT_LAYERS_MODELS_INTERNAL_H

#include "layers/layers.h"

typedef struct oct_net {
    oct_graph *graph;
    oct_value image; /* normalized, [N,H,W,C] */
    double width;    /* multiplies channels */
    bool cifar;      /* the form with stride 1 at the front */
    bool relu6;
} oct_net;

oct_value oct_net_resnet8(const oct_net *net);
oct_value oct_net_resnet20(const oct_net *net);
oct_value oct_net_resnet18(const oct_net *net);
oct_value oct_net_mobilenetv1(const oct_net *net);
oct_value oct_net_mobilenetv2(const oct_net *net);

/* Convolution, batch norm and activation under one prefix: "<prefix>/conv<n>", "/bn<n>", "/relu<n>". */
typedef enum oct_net_act { OCT_NET_LINEAR, OCT_NET_RELU, OCT_NET_RELU6 } oct_net_act;
typedef struct oct_net_conv {
    int32_t filters, kernel, stride;
    bool depthwise;       /* filters is ignored */
    bool bias;
    oct_padding padding;
    oct_batch_norm_attrs norm;
    oct_net_act act;
} oct_net_conv;
/* `suffix` is appended to "conv", "bn" and "relu": "" or "1", "2", ... */
oct_value oct_net_conv_bn(oct_graph *graph, const char *prefix, const char *suffix, oct_value x,
                          const oct_net_conv *conv);

enum { OCT_NET_NAME = 64 };
/* "<prefix>/<part>" into text; returns text. */
const char *oct_net_name(char text[OCT_NET_NAME], const char *prefix, const char *part);

/* What MLPerf Tiny's Keras models use; PyTorch's sense of momentum. */
#define OCT_NET_TINY_NORM ((oct_batch_norm_attrs){.eps = 1e-3f, .momentum = 0.01f})

#endif
