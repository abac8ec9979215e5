/* SPDX-License-Identifier: BSD-2-Clause
 * Residual networks: ResNet-8 of MLPerf Tiny, ResNet-20 for CIFAR, torchvision's ResNet-18/34/50 and ResNeXt-50 32x4d. */
#include <stdio.h>

#include "layers/models_internal.h"

/* --- MLPerf Tiny's: bias, TensorFlow's padding, no batch norm on the shortcut --- */

static oct_value tiny_shortcut(oct_graph *g, const char *prefix, oct_value x, int32_t filters, int32_t stride)
{
    char name[OCT_NET_NAME];
    if (stride == 1 && oct_net_channels_of(g, x) == filters) return x;
    oct_conv2d_opts opts = {.filters = filters, .kernel = {1, 1}, .stride = {stride, stride}, .padding = OCT_SAME};
    return oct_conv2d(g, oct_net_name(name, prefix, "shortcut/conv"), x, opts);
}

static oct_value tiny_block(oct_graph *g, const char *prefix, oct_value x, int32_t filters, int32_t stride)
{
    char name[OCT_NET_NAME];
    oct_net_conv conv = {.filters = filters, .kernel = 3, .stride = stride, .bias = true, .padding = OCT_SAME,
                         .norm = OCT_NET_TF_NORM, .act = OCT_NET_RELU};
    oct_value y = oct_net_conv_bn(g, prefix, "1", x, &conv);
    conv.stride = 1;
    conv.act = OCT_NET_LINEAR;
    y = oct_net_conv_bn(g, prefix, "2", y, &conv);
    y = oct_add(g, oct_net_name(name, prefix, "add"), y, tiny_shortcut(g, prefix, x, filters, stride));
    return oct_relu(g, oct_net_name(name, prefix, "relu2"), y);
}

oct_value oct_net_resnet8(const oct_net *net)
{
    static const int32_t filters[3] = {16, 32, 64};
    oct_net_conv stem = {.filters = 16, .kernel = 3, .stride = 1, .bias = true, .padding = OCT_SAME,
                         .norm = OCT_NET_TF_NORM, .act = OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &stem);
    for (int s = 0; s < 3; s++) {
        char prefix[OCT_NET_NAME];
        snprintf(prefix, sizeof prefix, "stage%d", s + 1);
        x = tiny_block(net->graph, prefix, x, filters[s], s ? 2 : 1);
    }
    return x;
}

/* --- He et al.'s, as in torchvision --- */

typedef struct block_shape {
    int32_t filters; /* of the block's output */
    int32_t middle;  /* of the 3x3 convolution of a bottleneck; 0 = a basic block */
    int32_t groups;  /* of the same */
    int32_t stride;
} block_shape;

/* 3x3, 3x3 */
static oct_value basic_branch(oct_graph *g, const char *prefix, oct_value x, const block_shape *b)
{
    oct_net_conv conv = {.filters = b->filters, .kernel = 3, .stride = b->stride, .padding = OCT_SAME_TORCH,
                         .norm = oct_batch_norm_defaults(), .act = OCT_NET_RELU};
    x = oct_net_conv_bn(g, prefix, "1", x, &conv);
    conv.stride = 1;
    conv.act = OCT_NET_LINEAR;
    return oct_net_conv_bn(g, prefix, "2", x, &conv);
}

/* 1x1, 3x3 with the stride (torchvision's, not the paper's, place for it) and the groups, 1x1 */
static oct_value bottleneck_branch(oct_graph *g, const char *prefix, oct_value x, const block_shape *b)
{
    oct_net_conv conv = {.filters = b->middle, .kernel = 1, .stride = 1, .padding = OCT_SAME_TORCH,
                         .norm = oct_batch_norm_defaults(), .act = OCT_NET_RELU};
    x = oct_net_conv_bn(g, prefix, "1", x, &conv);
    conv.kernel = 3;
    conv.stride = b->stride;
    conv.groups = b->groups;
    x = oct_net_conv_bn(g, prefix, "2", x, &conv);
    conv = (oct_net_conv){.filters = b->filters, .kernel = 1, .stride = 1, .padding = OCT_SAME_TORCH,
                          .norm = oct_batch_norm_defaults()};
    return oct_net_conv_bn(g, prefix, "3", x, &conv);
}

static oct_value residual_block(oct_graph *g, const char *prefix, oct_value x, const block_shape *b)
{
    oct_value y = b->middle ? bottleneck_branch(g, prefix, x, b) : basic_branch(g, prefix, x, b);
    return oct_net_residual_add(g, prefix, b->middle ? "relu3" : "relu2", y, x, b->filters, b->stride);
}

oct_value oct_net_resnet20(const oct_net *net)
{
    oct_net_conv stem = {.filters = 16, .kernel = 3, .stride = 1, .padding = OCT_SAME_TORCH,
                         .norm = oct_batch_norm_defaults(), .act = OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &stem);
    for (int s = 0; s < 3; s++)
        for (int b = 0; b < 3; b++) {
            char prefix[OCT_NET_NAME];
            block_shape shape = {.filters = 16 << s, .stride = s && !b ? 2 : 1};
            x = residual_block(net->graph, oct_net_block_name(prefix, s + 1, b + 1), x, &shape);
        }
    return x;
}

typedef struct resnet_design {
    int blocks[4];
    int32_t groups, group_width; /* of the bottlenecks: `planes`*group_width/64 channels a group; 0 = basic blocks */
} resnet_design;

static const resnet_design designs[] = {
    [OCT_NET_RESNET18] = {{2, 2, 2, 2}, 0, 0},
    [OCT_NET_RESNET34] = {{3, 4, 6, 3}, 0, 0},
    [OCT_NET_RESNET50] = {{3, 4, 6, 3}, 1, 64},
    [OCT_NET_RESNEXT50] = {{3, 4, 6, 3}, 32, 4},
};

oct_value oct_net_resnet(const oct_net *net)
{
    const resnet_design *d = &designs[net->member];
    oct_net_conv stem = {.filters = oct_net_scaled(64, net->width), .kernel = net->cifar ? 3 : 7,
                         .stride = net->cifar ? 1 : 2, .padding = OCT_SAME_TORCH, .norm = oct_batch_norm_defaults(),
                         .act = OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &stem);
    if (!net->cifar)
        x = oct_max_pool(net->graph, "stem/pool", x,
                         (oct_pool_opts){.kernel = {3, 3}, .stride = {2, 2}, .padding = OCT_SAME_TORCH});
    for (int s = 0; s < 4; s++) {
        int32_t planes = oct_net_scaled(64 << s, net->width), of_group = planes * d->group_width / 64;
        block_shape shape = {.filters = d->groups ? 4 * planes : planes, .groups = d->groups,
                             .middle = d->groups * (of_group ? of_group : 1)};
        for (int b = 0; b < d->blocks[s]; b++) {
            char prefix[OCT_NET_NAME];
            shape.stride = s && !b ? 2 : 1;
            x = residual_block(net->graph, oct_net_block_name(prefix, s + 1, b + 1), x, &shape);
        }
    }
    return x;
}
