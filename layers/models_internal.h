/* SPDX-License-Identifier: BSD-2-Clause
 * Between the files of the model zoo: what a network is told, the networks (one file per family), and the blocks that
 * several families are made of (models_net.c).
 */
#ifndef OCT_LAYERS_MODELS_INTERNAL_H
#define OCT_LAYERS_MODELS_INTERNAL_H

#include "layers/layers.h"

/* Which member of its family a network is. */
enum { OCT_NET_RESNET18, OCT_NET_RESNET34, OCT_NET_RESNET50, OCT_NET_RESNEXT50 };
enum { OCT_NET_MOBILENETV3_LARGE, OCT_NET_MOBILENETV3_SMALL };
enum { OCT_NET_REGNETX_400MF, OCT_NET_REGNETX_800MF, OCT_NET_REGNETX_1600MF };
enum { OCT_NET_EFFICIENTNET_LITE0, OCT_NET_EFFICIENTNET_LITE1, OCT_NET_EFFICIENTNET_LITE2 };

typedef struct oct_net {
    oct_graph *graph;
    oct_value image; /* normalized, [N,H,W,C] */
    int member;
    double width;    /* multiplies channels */
    bool cifar;      /* the form with stride 1 at the front */
    bool relu6;
    float dropout;   /* rate in front of the head; 0 = none */
} oct_net;

/* Everything between the normalized image and global average pooling: a map [N,h,w,c]. */
oct_value oct_net_resnet8(const oct_net *net);
oct_value oct_net_resnet20(const oct_net *net);
oct_value oct_net_resnet(const oct_net *net);
oct_value oct_net_mobilenetv1(const oct_net *net);
oct_value oct_net_mobilenetv2(const oct_net *net);
oct_value oct_net_mobilenetv3_lite(const oct_net *net);
oct_value oct_net_regnetx(const oct_net *net);
oct_value oct_net_efficientnet_lite(const oct_net *net);
oct_value oct_net_ds_cnn(const oct_net *net);
/* Between global average pooling x [N,c] and the head. */
oct_value oct_net_dropout(const oct_net *net, oct_value x);
oct_value oct_net_mobilenetv3_hidden(const oct_net *net, oct_value x);
/* Between the normalized image and the head. */
oct_value oct_net_autoencoder(const oct_net *net);

/* Convolution, batch norm and activation under one prefix: "<prefix>/conv<n>", "/bn<n>", "/relu<n>". */
typedef enum oct_net_act { OCT_NET_LINEAR, OCT_NET_RELU, OCT_NET_RELU6 } oct_net_act;
typedef struct oct_net_conv {
    int32_t filters, kernel, stride;
    int32_t kernel_width; /* 0 = kernel */
    int32_t groups;       /* 0 = 1 */
    bool depthwise;       /* filters and groups are ignored */
    bool bias;
    oct_padding padding;
    oct_batch_norm_attrs norm;
    oct_net_act act;
} oct_net_conv;
/* `suffix` is appended to "conv", "bn" and "relu": "" or "1", "2", ... */
oct_value oct_net_conv_bn(oct_graph *graph, const char *prefix, const char *suffix, oct_value x,
                          const oct_net_conv *conv);

/* Inverted residual (Sandler et al. 2018): 1x1 expansion (conv1; left out when nothing is expanded), depthwise (conv2),
 * linear 1x1 projection (conv3); plus x ("add") where the shape stays. */
typedef struct oct_net_inverted {
    int32_t expanded, filters, kernel, stride;
    oct_padding padding;
    oct_batch_norm_attrs norm;
    oct_net_act act;
} oct_net_inverted;
oct_value oct_net_inverted_residual(oct_graph *graph, const char *prefix, oct_value x, const oct_net_inverted *block);

/* [branch] y + shortcut, relu. The shortcut is x itself, or a 1x1 convolution with batch norm ("<prefix>/shortcut/conv",
 * "/shortcut/bn") where the shape changes. `relu` names the activation behind "<prefix>/add". */
oct_value oct_net_residual_add(oct_graph *graph, const char *prefix, const char *relu, oct_value y, oct_value x,
                               int32_t filters, int32_t stride);

enum { OCT_NET_NAME = 64 };
/* "<prefix>/<part>" into text; returns text. */
const char *oct_net_name(char text[OCT_NET_NAME], const char *prefix, const char *part);
/* "stage<s>/block<b>" into text; returns text. */
const char *oct_net_block_name(char text[OCT_NET_NAME], int stage, int block);
/* Channels of a map, 1 on a failed graph. */
int32_t oct_net_channels_of(const oct_graph *graph, oct_value x);
/* channels*width to the nearest multiple of 8, at least 8 and at least 0.9 of the product (Sandler et al.'s code). */
int32_t oct_net_scaled(int32_t channels, double width);

/* What TensorFlow's models use (MLPerf Tiny, MobileNetV3, EfficientNet); PyTorch's sense of momentum. */
#define OCT_NET_TF_NORM ((oct_batch_norm_attrs){.eps = 1e-3f, .momentum = 0.01f})

#endif
