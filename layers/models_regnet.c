/* SPDX-License-Identifier: BSD-2-Clause
 * RegNetX (Radosavovic et al. 2020, "Designing network design spaces") with torchvision's design parameters: residual
 * bottlenecks that do not narrow (1x1, grouped 3x3, 1x1), widths from a quantized linear function of the depth. */
#include <math.h>

#include "layers/models_internal.h"

typedef struct regnet_design {
    int depth;          /* blocks in all */
    double w0, wa, wm;  /* u_j = w0 + wa*j, quantized to w0*wm^k (equations 2 to 4) */
    int32_t group_width;
} regnet_design;

static const regnet_design designs[] = {
    [OCT_NET_REGNETX_400MF] = {22, 24, 24.48, 2.54, 16},
    [OCT_NET_REGNETX_800MF] = {16, 56, 35.73, 2.28, 16},
    [OCT_NET_REGNETX_1600MF] = {18, 80, 34.01, 2.25, 24},
};

/* Width of block j, 0-based, a multiple of 8, then of the group width (never down by more than a tenth). */
static int32_t block_width(const regnet_design *d, int j)
{
    double k = rint(log((d->w0 + d->wa * j) / d->w0) / log(d->wm));
    int32_t width = (int32_t)rint(d->w0 * pow(d->wm, k) / 8) * 8, group = d->group_width < width ? d->group_width : width;
    int32_t rounded = (width + group / 2) / group * group;
    if (rounded < group) rounded = group;
    return rounded < 0.9 * width ? rounded + group : rounded;
}

static oct_value regnet_block(oct_graph *g, const char *prefix, oct_value x, int32_t filters, int32_t group_width,
                              int32_t stride)
{
    oct_net_conv conv = {.filters = filters, .kernel = 1, .stride = 1, .padding = OCT_SAME_TORCH,
                         .norm = oct_batch_norm_defaults(), .act = OCT_NET_RELU};
    oct_value y = oct_net_conv_bn(g, prefix, "1", x, &conv);
    conv.kernel = 3;
    conv.stride = stride;
    conv.groups = filters / (group_width < filters ? group_width : filters);
    y = oct_net_conv_bn(g, prefix, "2", y, &conv);
    conv = (oct_net_conv){.filters = filters, .kernel = 1, .stride = 1, .padding = OCT_SAME_TORCH,
                          .norm = oct_batch_norm_defaults()};
    y = oct_net_conv_bn(g, prefix, "3", y, &conv);
    return oct_net_residual_add(g, prefix, "relu3", y, x, filters, stride);
}

oct_value oct_net_regnetx(const oct_net *net)
{
    const regnet_design *d = &designs[net->member];
    oct_net_conv stem = {.filters = 32, .kernel = 3, .stride = net->cifar ? 1 : 2, .padding = OCT_SAME_TORCH,
                         .norm = oct_batch_norm_defaults(), .act = OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(net->graph, "stem", "", net->image, &stem);
    int stage = 0, block = 0;
    for (int j = 0; j < d->depth; j++) {
        int32_t width = block_width(d, j);
        bool first = j == 0 || width != block_width(d, j - 1);
        stage += first;
        block = first ? 1 : block + 1;
        char prefix[OCT_NET_NAME];
        oct_net_block_name(prefix, stage, block);
        x = regnet_block(net->graph, prefix, x, width, d->group_width, first && !(net->cifar && stage == 1) ? 2 : 1);
    }
    return x;
}
