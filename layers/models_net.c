/* SPDX-License-Identifier: BSD-2-Clause
 * Blocks and names that several families of the zoo share. */
#include <stdio.h>

#include "layers/models_internal.h"

const char *oct_net_name(char text[OCT_NET_NAME], const char *prefix, const char *part)
{
    snprintf(text, OCT_NET_NAME, "%.40s/%.20s", prefix, part);
    return text;
}

static const char *suffixed(char text[OCT_NET_NAME], const char *prefix, const char *part, const char *suffix)
{
    snprintf(text, OCT_NET_NAME, "%.40s/%.15s%.4s", prefix, part, suffix);
    return text;
}

const char *oct_net_block_name(char text[OCT_NET_NAME], int stage, int block)
{
    snprintf(text, OCT_NET_NAME, "stage%d/block%d", stage, block);
    return text;
}

int32_t oct_net_channels_of(const oct_graph *g, oct_value x)
{
    const oct_node *n = oct_graph_node(g, x);
    return n && n->shape.rank == 4 ? n->shape.dim[3] : 1;
}

int32_t oct_net_scaled(int32_t channels, double width)
{
    double wanted = channels * width;
    int32_t rounded = (int32_t)(wanted + 4) / 8 * 8;
    if (rounded < 8) rounded = 8;
    return rounded < 0.9 * wanted ? rounded + 8 : rounded;
}

oct_value oct_net_conv_bn(oct_graph *g, const char *prefix, const char *suffix, oct_value x, const oct_net_conv *conv)
{
    char name[OCT_NET_NAME];
    int32_t channels = oct_net_channels_of(g, x);
    oct_conv2d_opts opts = {.filters = conv->depthwise ? channels : conv->filters,
                            .kernel = {conv->kernel, conv->kernel_width ? conv->kernel_width : conv->kernel},
                            .stride = {conv->stride, conv->stride},
                            .groups = conv->depthwise ? channels : conv->groups,
                            .padding = conv->padding,
                            .no_bias = !conv->bias};
    x = oct_conv2d(g, suffixed(name, prefix, "conv", suffix), x, opts);
    x = oct_batch_norm(g, suffixed(name, prefix, "bn", suffix), x, conv->norm);
    suffixed(name, prefix, "relu", suffix);
    if (conv->act == OCT_NET_RELU) x = oct_relu(g, name, x);
    if (conv->act == OCT_NET_RELU6) x = oct_relu6(g, name, x);
    return x;
}

oct_value oct_net_inverted_residual(oct_graph *g, const char *prefix, oct_value x, const oct_net_inverted *b)
{
    int32_t channels = oct_net_channels_of(g, x);
    oct_net_conv conv = {.filters = b->expanded, .kernel = 1, .stride = 1, .padding = b->padding, .norm = b->norm,
                         .act = b->act};
    oct_value y = x;
    if (b->expanded != channels) y = oct_net_conv_bn(g, prefix, "1", y, &conv);
    conv.depthwise = true;
    conv.kernel = b->kernel;
    conv.stride = b->stride;
    y = oct_net_conv_bn(g, prefix, "2", y, &conv);
    conv = (oct_net_conv){.filters = b->filters, .kernel = 1, .stride = 1, .padding = b->padding, .norm = b->norm};
    y = oct_net_conv_bn(g, prefix, "3", y, &conv);
    char name[OCT_NET_NAME];
    bool same = b->stride == 1 && channels == b->filters;
    return same ? oct_add(g, oct_net_name(name, prefix, "add"), y, x) : y;
}

oct_value oct_net_residual_add(oct_graph *g, const char *prefix, const char *relu, oct_value y, oct_value x,
                               int32_t filters, int32_t stride)
{
    char name[OCT_NET_NAME];
    if (stride != 1 || oct_net_channels_of(g, x) != filters) {
        oct_net_conv conv = {.filters = filters, .kernel = 1, .stride = stride, .padding = OCT_SAME_TORCH,
                             .norm = oct_batch_norm_defaults()};
        x = oct_net_conv_bn(g, oct_net_name(name, prefix, "shortcut"), "", x, &conv);
    }
    y = oct_add(g, oct_net_name(name, prefix, "add"), y, x);
    return oct_relu(g, oct_net_name(name, prefix, relu), y);
}

oct_value oct_net_dropout(const oct_net *net, oct_value x)
{
    return net->dropout > 0 ? oct_dropout(net->graph, "dropout", x, net->dropout) : x;
}
