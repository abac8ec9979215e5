/* SPDX-License-Identifier: BSD-2-Clause
 * MLPerf Tiny's networks for sound (mlcommons/tiny): DS-CNN for keywords, the dense autoencoder for anomalies. Layers with
 * bias and batch norm as Keras has them. */
#include <stdio.h>

#include "layers/models_internal.h"

oct_value oct_net_ds_cnn(const oct_net *net)
{
    oct_graph *g = net->graph;
    oct_net_conv conv = {.filters = 64, .kernel = 10, .kernel_width = 4, .stride = 2, .bias = true,
                         .padding = OCT_SAME, .norm = OCT_NET_TF_NORM, .act = OCT_NET_RELU};
    oct_value x = oct_net_conv_bn(g, "stem", "", net->image, &conv);
    if (net->dropout > 0) x = oct_dropout(g, "stem/dropout", x, 0.5f * net->dropout);
    for (int b = 0; b < 4; b++) {
        char prefix[OCT_NET_NAME];
        snprintf(prefix, sizeof prefix, "block%d", b + 1);
        conv = (oct_net_conv){.depthwise = true, .kernel = 3, .stride = 1, .bias = true, .padding = OCT_SAME,
                              .norm = OCT_NET_TF_NORM, .act = OCT_NET_RELU};
        x = oct_net_conv_bn(g, prefix, "1", x, &conv);
        conv.depthwise = false;
        conv.filters = 64;
        conv.kernel = 1;
        x = oct_net_conv_bn(g, prefix, "2", x, &conv);
    }
    return oct_net_dropout(net, x);
}

static oct_value dense(oct_graph *g, const char *prefix, oct_value x, int32_t outputs)
{
    char name[OCT_NET_NAME];
    x = oct_linear(g, oct_net_name(name, prefix, "linear"), x, (oct_linear_opts){.outputs = outputs});
    x = oct_batch_norm(g, oct_net_name(name, prefix, "bn"), x, OCT_NET_TF_NORM);
    return oct_relu(g, oct_net_name(name, prefix, "relu"), x);
}

oct_value oct_net_autoencoder(const oct_net *net)
{
    enum { SIDE = 4, WIDE = 128, NARROW = 8 };
    oct_graph *g = net->graph;
    oct_value x = oct_flatten(g, "flatten", net->image);
    char prefix[OCT_NET_NAME];
    for (int i = 1; i <= SIDE; i++) {
        snprintf(prefix, sizeof prefix, "encoder%d", i);
        x = dense(g, prefix, x, WIDE);
    }
    x = dense(g, "bottleneck", x, NARROW);
    for (int i = 1; i <= SIDE; i++) {
        snprintf(prefix, sizeof prefix, "decoder%d", i);
        x = dense(g, prefix, x, WIDE);
    }
    return x;
}
