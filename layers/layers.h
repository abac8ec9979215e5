/* SPDX-License-Identifier: BSD-2-Clause
 * Layer builders: the comfortable way to append nodes to a graph. A layer is its op node, named as given, plus its
 * parameter and buffer nodes, named "<layer>/weight", "/bias", "/gamma", "/beta", "/mean", "/var", "/slope". Nothing else is
 * remembered: the result is a graph like any other.
 *
 *   x = oct_conv2d(g, "stem/conv", x, (oct_conv2d_opts){ .filters = 16, .kernel = {3, 3}, .padding = OCT_SAME });
 *   x = oct_batch_norm(g, "stem/bn", x, oct_batch_norm_defaults());
 *   x = oct_relu(g, "stem/relu", x);
 *
 * Every builder returns the value of its op node, or an invalid value with the reason left in the graph
 * (oct_graph_status); on a failed graph it does nothing, so chains need no checks. Activations are NHWC. Equations
 * and layouts of the ops: autograd/ops.h.
 *
 * Initialisation: weights are normal with standard deviation gain/sqrt(fan_in), fan_in = inputs that one output sees
 * (kernel height * width * channels / groups). The default gain sqrt(2) is He et al. 2015, "Delving deep into
 * rectifiers", equation 10, for layers in front of a rectifier; classifier heads take gain 1. Biases and beta start at
 * 0, gamma at 1, running mean at 0, running variance at 1.
 */
#ifndef OCT_LAYERS_LAYERS_H
#define OCT_LAYERS_LAYERS_H

#include "autograd/ops.h"

/* How a window is padded with zeros. */
typedef enum oct_padding {
    OCT_VALID,      /* not at all */
    OCT_SAME,       /* TensorFlow: output = ceil(input/stride); the odd pixel goes to the bottom and the right */
    OCT_SAME_TORCH, /* dilation*(kernel-1)/2 on every side, whatever the stride */
    OCT_EXPLICIT    /* `pad` */
} oct_padding;

/* Fields left zero mean what is said. `weight` and `bias` point at values of the same graph to share instead of making
 * new parameters. */
typedef struct oct_conv2d_opts {
    int32_t filters;     /* output channels, >= 1 */
    int32_t kernel[2];   /* height, width, >= 1 */
    int32_t stride[2];   /* 0 = 1 */
    int32_t dilation[2]; /* 0 = 1 */
    int32_t groups;      /* 0 = 1; the input's channels = depthwise */
    oct_padding padding;
    int32_t pad[4];      /* OCT_EXPLICIT: top, left, bottom, right */
    bool no_bias;
    float gain;          /* of the initialisation; 0 = sqrt(2) */
    const oct_value *weight, *bias;
} oct_conv2d_opts;
oct_value oct_conv2d(oct_graph *graph, const char *name, oct_value x, oct_conv2d_opts opts);

/* The transpose (oct_op_conv_transpose2d in autograd/ops.h). Padding: SAME gives size in*stride, VALID cuts nothing, EXPLICIT
 * cuts `pad`. */
oct_value oct_conv_transpose2d(oct_graph *graph, const char *name, oct_value x, oct_conv2d_opts opts);

typedef struct oct_linear_opts {
    int32_t outputs; /* >= 1 */
    bool no_bias;
    float gain;      /* of the initialisation; 0 = sqrt(2) */
    const oct_value *weight, *bias;
} oct_linear_opts;
oct_value oct_linear(oct_graph *graph, const char *name, oct_value x, oct_linear_opts opts);

/* eps 1e-5, momentum 0.1 (PyTorch's defaults and sense). */
oct_batch_norm_attrs oct_batch_norm_defaults(void);
oct_value oct_batch_norm(oct_graph *graph, const char *name, oct_value x, oct_batch_norm_attrs opts);

oct_value oct_relu(oct_graph *graph, const char *name, oct_value x);
oct_value oct_relu6(oct_graph *graph, const char *name, oct_value x);
oct_value oct_clip(oct_graph *graph, const char *name, oct_value x, float lo, float hi);
/* Any function of one element (autograd/ops.h); `parameter` is its attribute, ignored by those that have none. */
oct_value oct_unary_layer(oct_graph *graph, const char *name, oct_unary function, oct_value x, float parameter);
oct_value oct_leaky_relu(oct_graph *graph, const char *name, oct_value x, float slope);
/* A parameter "<layer>/slope" of 0.25 per channel (PyTorch's start). */
oct_value oct_prelu(oct_graph *graph, const char *name, oct_value x);
oct_value oct_sigmoid(oct_graph *graph, const char *name, oct_value x);
oct_value oct_tanh(oct_graph *graph, const char *name, oct_value x);
oct_value oct_hard_sigmoid(oct_graph *graph, const char *name, oct_value x);
oct_value oct_hard_swish(oct_graph *graph, const char *name, oct_value x);
oct_value oct_silu(oct_graph *graph, const char *name, oct_value x);
oct_value oct_gelu(oct_graph *graph, const char *name, oct_value x);
oct_value oct_add_scalar(oct_graph *graph, const char *name, oct_value x, float value);
oct_value oct_mul_scalar(oct_graph *graph, const char *name, oct_value x, float factor);

oct_value oct_add(oct_graph *graph, const char *name, oct_value a, oct_value b);
oct_value oct_sub(oct_graph *graph, const char *name, oct_value a, oct_value b);
oct_value oct_mul(oct_graph *graph, const char *name, oct_value a, oct_value b);
oct_value oct_concat(oct_graph *graph, const char *name, const oct_value *values, int count);

typedef struct oct_pool_opts {
    int32_t kernel[2]; /* height, width, >= 1 */
    int32_t stride[2]; /* 0 = the kernel's */
    oct_padding padding;
    int32_t pad[4];    /* OCT_EXPLICIT: top, left, bottom, right */
} oct_pool_opts;
oct_value oct_max_pool(oct_graph *graph, const char *name, oct_value x, oct_pool_opts opts);
oct_value oct_average_pool(oct_graph *graph, const char *name, oct_value x, oct_pool_opts opts);
oct_value oct_global_average_pool(oct_graph *graph, const char *name, oct_value x);

oct_value oct_flatten(oct_graph *graph, const char *name, oct_value x);
/* dims: of a sample, `rank` of them (1..3). */
oct_value oct_reshape(oct_graph *graph, const char *name, oct_value x, const int32_t *dims, int rank);
oct_value oct_pad(oct_graph *graph, const char *name, oct_value x, oct_pad_attrs opts);
/* Steps of 0 mean 1; sizes of 0 mean all from `begin` on. */
oct_value oct_slice(oct_graph *graph, const char *name, oct_value x, oct_slice_attrs opts);
/* Half-pixel centres. */
oct_value oct_resize_nearest(oct_graph *graph, const char *name, oct_value x, int32_t height, int32_t width);
oct_value oct_resize_bilinear(oct_graph *graph, const char *name, oct_value x, int32_t height, int32_t width);
oct_value oct_softmax(oct_graph *graph, const char *name, oct_value x);
oct_value oct_argmax(oct_graph *graph, const char *name, oct_value x);
oct_value oct_dropout(oct_graph *graph, const char *name, oct_value x, float rate);
/* y = (x - mean)*scale per channel; x is u8 pixels or floats with at most four channels. */
oct_value oct_normalize(oct_graph *graph, const char *name, oct_value x, oct_normalize_attrs opts);

/* Integer class labels, one per sample: an input node [N]. */
oct_value oct_labels(oct_graph *graph, const char *name);
/* No smoothing; label -1 is ignored. */
oct_cross_entropy_attrs oct_cross_entropy_defaults(void);
oct_value oct_softmax_cross_entropy(oct_graph *graph, const char *name, oct_value x, oct_value labels,
                                    oct_cross_entropy_attrs opts);
oct_value oct_mean_squared_error(oct_graph *graph, const char *name, oct_value x, oct_value target);

#endif
