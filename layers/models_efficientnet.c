/* SPDX-License-Identifier: BSD-2-Clause
 * EfficientNet-Lite0..2 (tensorflow/tpu, efficientnet/lite): Tan & Le 2019 without squeeze-excite, ReLU6 for swish. Depth
 * and width scale everything but the stem, the tail, and the depth of the first and the last stage. TensorFlow's padding.
 */
#include <math.h>

#include "layers/models_internal.h"

static const struct {
    double width, depth;
} scales[] = {
    [OCT_NET_EFFICIENTNET_LITE0] = {1.0, 1.0},
    [OCT_NET_EFFICIENTNET_LITE1] = {1.0, 1.1},
    [OCT_NET_EFFICIENTNET_LITE2] = {1.1, 1.2},
};

enum { STAGES = 7 };
static const struct {
    int32_t kernel, expansion, filters, stride;
    int blocks;
} stages[STAGES] = {{3, 1, 16, 1, 1},  {3, 6, 24, 2, 2},  {5, 6, 40, 2, 2}, {3, 6, 80, 2, 3},
                    {5, 6, 112, 1, 3}, {5, 6, 192, 2, 4}, {3, 6, 320, 1, 1}};

oct_value oct_net_efficientnet_lite(const oct_net *net)
{
    oct_graph *g = net->graph;
    double width = scales[net->member].width, depth = scales[net->member].depth;
    oct_net_act act = net->relu6 ? OCT_NET_RELU6 : OCT_NET_RELU;
    oct_net_conv conv = {.filters = 32, .kernel = 3, .stride = net->cifar ? 1 : 2, .padding = OCT_SAME,
                         .norm = OCT_NET_TF_NORM, .act = act};
    oct_value x = oct_net_conv_bn(g, "stem", "", net->image, &conv);
    for (int s = 0; s < STAGES; s++) {
        bool fixed = s == 0 || s == STAGES - 1;
        int blocks = fixed ? stages[s].blocks : (int)ceil(stages[s].blocks * depth);
        oct_net_inverted block = {.filters = oct_net_scaled(stages[s].filters, width), .kernel = stages[s].kernel,
                                  .stride = net->cifar && s == 1 ? 1 : stages[s].stride, .padding = OCT_SAME,
                                  .norm = OCT_NET_TF_NORM, .act = act};
        for (int b = 0; b < blocks; b++) {
            char prefix[OCT_NET_NAME];
            block.expanded = oct_net_channels_of(g, x) * stages[s].expansion;
            x = oct_net_inverted_residual(g, oct_net_block_name(prefix, s + 1, b + 1), x, &block);
            block.stride = 1;
        }
    }
    conv.filters = 1280;
    conv.kernel = 1;
    conv.stride = 1;
    return oct_net_conv_bn(g, "tail", "", x, &conv);
}
