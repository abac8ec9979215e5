/* SPDX-License-Identifier: BSD-2-Clause
 * MobileNets: V1 as in MLPerf Tiny, V2 as in torchvision, V3-Lite as in TI's edgeai-torchvision. */
#include <stdio.h>

#include "layers/models_internal.h"

static oct_net_act activation(const oct_net *net)
{
    return net->relu6 ? OCT_NET_RELU6 : OCT_NET_RELU;
}

oct_value oct_net_mobilenetv1(const oct_net *net)
{
    static const struct {
        int32_t filters, stride;
    } blocks[13] = {{64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2}, {512, 1},
                    {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1}};
    oct_net_conv conv = {.filters = oct_net_scaled(32, net->width), .kernel = 3, .stride = net->cifar ? 1 : 2,
                         .bias = true, .padding = OCT_SAME, .norm = OCT_NET_TF_NORM, .act = activation(net)};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &conv);
    for (int b = 0; b < 13; b++) {
        char prefix[OCT_NET_NAME];
        snprintf(prefix, sizeof prefix, "block%d", b + 1);
        conv.depthwise = true;
        conv.kernel = 3;
        conv.stride = net->cifar && b == 1 ? 1 : blocks[b].stride;
        x = oct_net_conv_bn(net->graph, prefix, "1", x, &conv);
        conv.depthwise = false;
        conv.filters = oct_net_scaled(blocks[b].filters, net->width);
        conv.kernel = 1;
        conv.stride = 1;
        x = oct_net_conv_bn(net->graph, prefix, "2", x, &conv);
    }
    return x;
}

oct_value oct_net_mobilenetv2(const oct_net *net)
{
    static const struct {
        int32_t expansion, filters, blocks, stride;
    } stages[7] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                   {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    oct_graph *g = net->graph;
    oct_net_conv conv = {.filters = oct_net_scaled(32, net->width), .kernel = 3, .stride = net->cifar ? 1 : 2,
                         .padding = OCT_SAME_TORCH, .norm = oct_batch_norm_defaults(), .act = activation(net)};
    oct_value x = oct_net_conv_bn(g, "stem", "", net->image, &conv);
    for (int s = 0; s < 7; s++) {
        oct_net_inverted block = {.filters = oct_net_scaled(stages[s].filters, net->width), .kernel = 3,
                                  .stride = net->cifar && s == 1 ? 1 : stages[s].stride, .padding = OCT_SAME_TORCH,
                                  .norm = oct_batch_norm_defaults(), .act = activation(net)};
        for (int b = 0; b < stages[s].blocks; b++) {
            char prefix[OCT_NET_NAME];
            block.expanded = oct_net_channels_of(g, x) * stages[s].expansion;
            x = oct_net_inverted_residual(g, oct_net_block_name(prefix, s + 1, b + 1), x, &block);
            block.stride = 1;
        }
    }
    conv.filters = oct_net_scaled(1280, net->width > 1 ? net->width : 1);
    conv.kernel = 1;
    conv.stride = 1;
    return oct_net_conv_bn(g, "tail", "", x, &conv);
}

/* --- V3 without squeeze-excite and with ReLU everywhere --- */

typedef struct v3_block {
    int32_t kernel, expanded, filters, stride;
} v3_block;

typedef struct v3_design {
    int32_t hidden; /* outputs of the linear layer behind the pool */
    int blocks;
    v3_block block[15];
} v3_design;

/* Howard et al. 2019, tables 1 and 2. */
static const v3_design v3_designs[] = {
    [OCT_NET_MOBILENETV3_LARGE] = {1280, 15,
                                   {{3, 16, 16, 1},
                                    {3, 64, 24, 2},
                                    {3, 72, 24, 1},
                                    {5, 72, 40, 2},
                                    {5, 120, 40, 1},
                                    {5, 120, 40, 1},
                                    {3, 240, 80, 2},
                                    {3, 200, 80, 1},
                                    {3, 184, 80, 1},
                                    {3, 184, 80, 1},
                                    {3, 480, 112, 1},
                                    {3, 672, 112, 1},
                                    {5, 672, 160, 2},
                                    {5, 960, 160, 1},
                                    {5, 960, 160, 1}}},
    [OCT_NET_MOBILENETV3_SMALL] = {1024, 11,
                                   {{3, 16, 16, 2},
                                    {3, 72, 24, 2},
                                    {3, 88, 24, 1},
                                    {5, 96, 40, 2},
                                    {5, 240, 40, 1},
                                    {5, 240, 40, 1},
                                    {5, 120, 48, 1},
                                    {5, 144, 48, 1},
                                    {5, 288, 96, 2},
                                    {5, 576, 96, 1},
                                    {5, 576, 96, 1}}},
};

oct_value oct_net_mobilenetv3_lite(const oct_net *net)
{
    const v3_design *d = &v3_designs[net->member];
    oct_graph *g = net->graph;
    oct_net_conv conv = {.filters = oct_net_scaled(16, net->width), .kernel = 3, .stride = net->cifar ? 1 : 2,
                         .padding = OCT_SAME_TORCH, .norm = OCT_NET_TF_NORM, .act = OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(g, "stem", "", net->image, &conv);
    bool keep = net->cifar; /* the image's size once more */
    for (int b = 0; b < d->blocks; b++) {
        const v3_block *v = &d->block[b];
        char prefix[OCT_NET_NAME];
        snprintf(prefix, sizeof prefix, "block%d", b + 1);
        oct_net_inverted block = {.expanded = oct_net_scaled(v->expanded, net->width),
                                  .filters = oct_net_scaled(v->filters, net->width), .kernel = v->kernel,
                                  .stride = keep ? 1 : v->stride, .padding = OCT_SAME_TORCH, .norm = OCT_NET_TF_NORM,
                                  .act = OCT_NET_RELU};
        keep = keep && v->stride == 1;
        x = oct_net_inverted_residual(g, prefix, x, &block);
    }
    conv.filters = 6 * oct_net_channels_of(g, x);
    conv.kernel = 1;
    conv.stride = 1;
    return oct_net_conv_bn(g, "tail", "", x, &conv);
}

oct_value oct_net_mobilenetv3_hidden(const oct_net *net, oct_value x)
{
    int32_t outputs = oct_net_scaled(v3_designs[net->member].hidden, net->width);
    x = oct_linear(net->graph, "hidden", x, (oct_linear_opts){.outputs = outputs});
    return oct_net_dropout(net, oct_relu(net->graph, "hidden/relu", x));
}
