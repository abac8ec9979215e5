/* SPDX-License-Identifier: BSD-2-Clause
 * The networks of the zoo. */
#include "layers/models_internal.h"

#include <stdio.h>

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

static int32_t channels_of(const oct_graph *g, oct_value x)
{
    const oct_node *n = oct_graph_node(g, x);
    return n && n->shape.rank == 4 ? n->shape.dim[3] : 1;
}

oct_value oct_net_conv_bn(oct_graph *g, const char *prefix, const char *suffix, oct_value x, const oct_net_conv *conv)
{
    char name[OCT_NET_NAME];
    int32_t channels = channels_of(g, x);
    oct_conv2d_opts opts = {.filters = conv->depthwise ? channels : conv->filters,
                            .kernel = {conv->kernel, conv->kernel},
                            .stride = {conv->stride, conv->stride},
                            .groups = conv->depthwise ? channels : 1,
                            .padding = conv->padding,
                            .no_bias = !conv->bias};
    x = oct_conv2d(g, suffixed(name, prefix, "conv", suffix), x, opts);
    x = oct_batch_norm(g, suffixed(name, prefix, "bn", suffix), x, conv->norm);
    suffixed(name, prefix, "relu", suffix);
    if (conv->act == OCT_NET_RELU) x = oct_relu(g, name, x);
    if (conv->act == OCT_NET_RELU6) x = oct_relu6(g, name, x);
    return x;
}

/* --- residual networks --- */

/* [conv bn relu, conv bn] + shortcut, relu. The shortcut is x itself, or a 1x1 convolution where the shape changes. */
typedef struct residual {
    int32_t filters, stride;
    bool tiny; /* MLPerf Tiny's: bias, TensorFlow's padding, no batch norm on the shortcut */
} residual;

static oct_value shortcut(oct_graph *g, const char *prefix, oct_value x, const residual *r)
{
    char name[OCT_NET_NAME];
    if (r->stride == 1 && channels_of(g, x) == r->filters) return x;
    oct_conv2d_opts opts = {.filters = r->filters, .kernel = {1, 1}, .stride = {r->stride, r->stride},
                            .padding = r->tiny ? OCT_SAME : OCT_SAME_TORCH, .no_bias = !r->tiny};
    x = oct_conv2d(g, oct_net_name(name, prefix, "shortcut/conv"), x, opts);
    if (r->tiny) return x;
    return oct_batch_norm(g, oct_net_name(name, prefix, "shortcut/bn"), x, oct_batch_norm_defaults());
}

static oct_value residual_block(oct_graph *g, const char *prefix, oct_value x, const residual *r)
{
    char name[OCT_NET_NAME];
    oct_net_conv conv = {.filters = r->filters, .kernel = 3, .stride = r->stride, .bias = r->tiny,
                         .padding = r->tiny ? OCT_SAME : OCT_SAME_TORCH,
                         .norm = r->tiny ? OCT_NET_TINY_NORM : oct_batch_norm_defaults(), .act = OCT_NET_RELU};
    oct_value y = oct_net_conv_bn(g, prefix, "1", x, &conv);
    conv.stride = 1;
    conv.act = OCT_NET_LINEAR;
    y = oct_net_conv_bn(g, prefix, "2", y, &conv);
    y = oct_add(g, oct_net_name(name, prefix, "add"), y, shortcut(g, prefix, x, r));
    return oct_relu(g, oct_net_name(name, prefix, "relu2"), y);
}

oct_value oct_net_resnet8(const oct_net *net)
{
    static const int32_t filters[3] = {16, 32, 64};
    oct_net_conv stem = {.filters = 16, .kernel = 3, .stride = 1, .bias = true, .padding = OCT_SAME,
                         .norm = OCT_NET_TINY_NORM, .act = OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &stem);
    for (int s = 0; s < 3; s++) {
        char prefix[OCT_NET_NAME];
        snprintf(prefix, sizeof prefix, "stage%d", s + 1);
        x = residual_block(net->graph, prefix, x, &(residual){filters[s], s ? 2 : 1, true});
    }
    return x;
}

/* `stages` stages of `blocks` blocks; every stage but the first halves the image. */
static oct_value residual_stages(oct_graph *g, oct_value x, const int32_t *filters, int stages, int blocks)
{
    for (int s = 0; s < stages; s++) {
        for (int b = 0; b < blocks; b++) {
            char prefix[OCT_NET_NAME];
            snprintf(prefix, sizeof prefix, "stage%d/block%d", s + 1, b + 1);
            x = residual_block(g, prefix, x, &(residual){filters[s], s > 0 && b == 0 ? 2 : 1, false});
        }
    }
    return x;
}

oct_value oct_net_resnet20(const oct_net *net)
{
    static const int32_t filters[3] = {16, 32, 64};
    oct_net_conv stem = {.filters = 16, .kernel = 3, .stride = 1, .padding = OCT_SAME_TORCH,
                         .norm = oct_batch_norm_defaults(), .act = OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &stem);
    return residual_stages(net->graph, x, filters, 3, 3);
}

oct_value oct_net_resnet18(const oct_net *net)
{
    static const int32_t filters[4] = {64, 128, 256, 512};
    oct_net_conv stem = {.filters = 64, .kernel = net->cifar ? 3 : 7, .stride = net->cifar ? 1 : 2,
                         .padding = OCT_SAME_TORCH, .norm = oct_batch_norm_defaults(), .act = OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &stem);
    if (!net->cifar)
        x = oct_max_pool(net->graph, "stem/pool", x,
                         (oct_pool_opts){.kernel = {3, 3}, .stride = {2, 2}, .padding = OCT_SAME_TORCH});
    return residual_stages(net->graph, x, filters, 4, 2);
}

/* --- mobile networks --- */

/* channels*width to the nearest multiple of 8, at least 8 and at least 0.9 of the product (Sandler et al.'s code). */
static int32_t scaled_channels(int32_t channels, double width)
{
    double wanted = channels * width;
    int32_t rounded = (int32_t)(wanted + 4) / 8 * 8;
    if (rounded < 8) rounded = 8;
    return rounded < 0.9 * wanted ? rounded + 8 : rounded;
}

oct_value oct_net_mobilenetv1(const oct_net *net)
{
    static const struct {
        int32_t filters, stride;
    } blocks[13] = {{64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2}, {512, 1},
                    {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1}};
    oct_net_conv conv = {.filters = scaled_channels(32, net->width), .kernel = 3, .stride = net->cifar ? 1 : 2,
                         .bias = true, .padding = OCT_SAME, .norm = OCT_NET_TINY_NORM,
                         .act = net->relu6 ? OCT_NET_RELU6 : OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &conv);
    for (int b = 0; b < 13; b++) {
        char prefix[OCT_NET_NAME];
        snprintf(prefix, sizeof prefix, "block%d", b + 1);
        conv.depthwise = true;
        conv.kernel = 3;
        conv.stride = net->cifar && b == 1 ? 1 : blocks[b].stride;
        x = oct_net_conv_bn(net->graph, prefix, "1", x, &conv);
        conv.depthwise = false;
        conv.filters = scaled_channels(blocks[b].filters, net->width);
        conv.kernel = 1;
        conv.stride = 1;
        x = oct_net_conv_bn(net->graph, prefix, "2", x, &conv);
    }
    return x;
}

/* Inverted residual: 1x1 expansion, 3x3 depthwise, linear 1x1 projection; plus x where the shape stays. */
static oct_value inverted_residual(const oct_net *net, const char *prefix, oct_value x, int32_t expansion,
                                   int32_t filters, int32_t stride)
{
    oct_graph *g = net->graph;
    int32_t channels = channels_of(g, x);
    oct_net_conv conv = {.filters = channels * expansion, .kernel = 1, .stride = 1, .padding = OCT_SAME_TORCH,
                         .norm = oct_batch_norm_defaults(), .act = net->relu6 ? OCT_NET_RELU6 : OCT_NET_RELU};
    oct_value y = x;
    if (expansion != 1) y = oct_net_conv_bn(g, prefix, "1", y, &conv);
    conv.depthwise = true;
    conv.kernel = 3;
    conv.stride = stride;
    y = oct_net_conv_bn(g, prefix, "2", y, &conv);
    conv = (oct_net_conv){.filters = filters, .kernel = 1, .stride = 1, .padding = OCT_SAME_TORCH,
                          .norm = oct_batch_norm_defaults(), .act = OCT_NET_LINEAR};
    y = oct_net_conv_bn(g, prefix, "3", y, &conv);
    char name[OCT_NET_NAME];
    bool same = stride == 1 && channels == filters;
    return same ? oct_add(g, oct_net_name(name, prefix, "add"), y, x) : y;
}

oct_value oct_net_mobilenetv2(const oct_net *net)
{
    static const struct {
        int32_t expansion, filters, blocks, stride;
    } stages[7] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                   {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    oct_net_conv conv = {.filters = scaled_channels(32, net->width), .kernel = 3, .stride = net->cifar ? 1 : 2,
                         .padding = OCT_SAME_TORCH, .norm = oct_batch_norm_defaults(),
                         .act = net->relu6 ? OCT_NET_RELU6 : OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &conv);
    for (int s = 0; s < 7; s++) {
        int32_t stride = net->cifar && s == 1 ? 1 : stages[s].stride;
        for (int b = 0; b < stages[s].blocks; b++) {
            char prefix[OCT_NET_NAME];
            snprintf(prefix, sizeof prefix, "stage%d/block%d", s + 1, b + 1);
            x = inverted_residual(net, prefix, x, stages[s].expansion, scaled_channels(stages[s].filters, net->width),
                                  b ? 1 : stride);
        }
    }
    conv.filters = scaled_channels(1280, net->width > 1 ? net->width : 1);
    conv.kernel = 1;
    conv.stride = 1;
    return oct_net_conv_bn(net->graph, "tail", "", x, &conv);
}
