/* SPDX-License-Identifier: BSD-2-Clause
 * The built-in float ops: attribute structs and descriptors. Layer builders (layers/layers.h) are the comfortable way
 * to make nodes of them. Activations are NHWC, dimension 0 is the batch.
 */
#ifndef OCT_OPS_H
#define OCT_OPS_H

#include "autograd/op.h"

/* conv2d(x, w[, b]):  y[n,p,q,o] = b[o] + sum_{r,s,i} x[n, p*stride - pad_top + r*dilation, q*.. , i] * w[o,r,s,i]
 * x [N,H,W,C], w [O,kh,kw,C/groups], b [O]. Depthwise (groups == C == O, C > 1): w [kh,kw,C]. Zero padding.
 * Output size floor((H + top + bottom - dilation*(kh-1) - 1)/stride) + 1. */
typedef struct oct_conv2d_attrs {
    int32_t kernel[2], stride[2], dilation[2];
    int32_t pad[4]; /* top, left, bottom, right; >= 0 */
    int32_t groups;
} oct_conv2d_attrs;
extern const oct_op oct_op_conv2d;
bool oct_conv2d_is_depthwise(const oct_graph *graph, const oct_node *conv);

/* conv_transpose2d(x, w[, b]) with the same attributes: the convolution of stride 1, with these weights, of x with stride - 1
 * zeros between its pixels and dilation*(kernel - 1) - pad zeros around: size (in - 1)*stride + dilation*(kernel - 1) + 1 -
 * pad before - pad after, pads at most dilation*(kernel - 1); those after may be negative down to 1 - stride (other frameworks'
 * output padding). w as in conv2d: from PyTorch's [C,O/groups,kh,kw], inputs and outputs are exchanged and both axes turned
 * round. */
extern const oct_op oct_op_conv_transpose2d;

/* linear(x, w[, b]):  y[n,o] = b[o] + sum_i x[n,i]*w[o,i].  x [N,I], w [O,I]. */
extern const oct_op oct_op_linear;

/* batch_norm(x, gamma, beta, mean, var):  y = gamma*(x - m)/sqrt(v + eps) + beta per last-dimension channel.
 * Training, not frozen: m, v are the batch's mean and biased variance, and the buffers follow
 *   mean += momentum*(m - mean),  var += momentum*(v*M/(M-1) - var)     M = number of positions, must be > 1
 * Else m, v are the buffers. (PyTorch's momentum; Ioffe & Szegedy 2015.) */
typedef struct oct_batch_norm_attrs {
    float eps, momentum;
} oct_batch_norm_attrs;
extern const oct_op oct_op_batch_norm;

/* relu(x) = max(x, 0); gradient 0 at x <= 0.
 * clip(x) = min(max(x, lo), hi); gradient 0 at x <= lo and x >= hi. relu6 is clip with 0, 6. */
typedef struct oct_clip_attrs {
    float lo, hi;
} oct_clip_attrs;
extern const oct_op oct_op_relu, oct_op_clip;

/* Functions of one element, y = f(x); the table in ops_unary.c is all there is to know about them. With x > 0 as the
 * side of the kink that a piecewise function takes from the right:
 *   leaky_relu    x > 0 ? x : slope*x            elu           x > 0 ? x : alpha*(e^x - 1)
 *   sigmoid       1/(1 + e^-x)                   tanh          tanh(x)
 *   hard_sigmoid  min(max(x + 3, 0), 6)/6        hard_swish    x*hard_sigmoid(x)
 *   silu          x*sigmoid(x)                   gelu          x*(1 + erf(x/sqrt(2)))/2
 *   add_scalar    x + value                      mul_scalar    x*factor
 * Attributes (oct_unary_attrs, for those that have one) under the names above. Gradients of hard_sigmoid and hard_swish at
 * -3 and 3 are those outside. */
typedef enum oct_unary {
    OCT_UNARY_LEAKY_RELU,
    OCT_UNARY_ELU,
    OCT_UNARY_SIGMOID,
    OCT_UNARY_TANH,
    OCT_UNARY_HARD_SIGMOID,
    OCT_UNARY_HARD_SWISH,
    OCT_UNARY_SILU,
    OCT_UNARY_GELU,
    OCT_UNARY_ADD_SCALAR,
    OCT_UNARY_MUL_SCALAR,
    OCT_UNARY_COUNT
} oct_unary;
typedef struct oct_unary_attrs {
    float parameter; /* finite */
} oct_unary_attrs;
extern const oct_op oct_unary_ops[OCT_UNARY_COUNT];
static inline bool oct_op_is_unary(const oct_op *op)
{
    return op >= oct_unary_ops && op < oct_unary_ops + OCT_UNARY_COUNT;
}
/* f(x) and f'(x) of such a node in double: what tables of codes are made of. */
double oct_unary_value(const oct_node *node, double x);
double oct_unary_slope(const oct_node *node, double x);

/* prelu(x, slope): y = x > 0 ? x : slope[c]*x, one slope per last-dimension channel. slope [C]. */
extern const oct_op oct_op_prelu;

/* add(a, b, ...), sub(a, b) = a - b, mul(a, b): elementwise, equal shapes. concat(a, b, ...): along the last dimension. */
extern const oct_op oct_op_add, oct_op_sub, oct_op_mul, oct_op_concat;

/* max_pool, average_pool: windows as in conv2d (dilation 1). Padding never wins a maximum; an average divides by the
 * number of pixels inside the image. Gradient of a maximum goes to the first largest element of the window.
 * global_average_pool(x): [N,H,W,C] -> [N,C]. */
typedef struct oct_pool_attrs {
    int32_t kernel[2], stride[2];
    int32_t pad[4];
} oct_pool_attrs;
extern const oct_op oct_op_max_pool, oct_op_average_pool, oct_op_global_average_pool;

/* flatten(x): [N,...] -> [N, rest]; reshape(x): [N,...] -> [N, dims] with as many elements. Views. */
typedef struct oct_reshape_attrs {
    int32_t rank;   /* of the result without the batch dimension, 1..3 */
    int32_t dim[3]; /* the first `rank` of them count, the others are 0 */
} oct_reshape_attrs;
extern const oct_op oct_op_flatten, oct_op_reshape;

/* Axes below are height, width, channels of [N,H,W,C]; [N,W,C] and [N,C] count as having height (and width) 1.
 * pad(x): zeros around x, and `interior` zeros between neighbours first. Size before + (size-1)*(interior+1) + 1 + after.
 * slice(x): y[p,q,c] = x[begin[0] + p*step[0], begin[1] + q*step[1], begin[2] + c], `size` of them. */
typedef struct oct_pad_attrs {
    int32_t before[3], after[3]; /* >= 0 */
    int32_t interior[2];         /* height, width; >= 0 */
} oct_pad_attrs;
typedef struct oct_slice_attrs {
    int32_t begin[3], size[3]; /* begin >= 0, size >= 1 */
    int32_t step[2];           /* height, width; >= 1 */
} oct_slice_attrs;
extern const oct_op oct_op_pad, oct_op_slice;

/* resize_nearest(x), resize_bilinear(x): [N,H,W,C] -> [N,size[0],size[1],C]. Output o of an axis lies at position
 *   OCT_RESIZE_HALF_PIXEL     (o + 1/2)*in/out - 1/2    (PyTorch's align_corners=False, TFLite's half_pixel_centers)
 *   OCT_RESIZE_ASYMMETRIC     o*in/out
 *   OCT_RESIZE_ALIGN_CORNERS  o*(in - 1)/(out - 1)      (0 when out is 1)
 * limited to [0, in - 1]. nearest takes the pixel under it: floor of the position for ASYMMETRIC (PyTorch's "nearest"),
 * else floor(position + 1/2) ("nearest-exact"). bilinear weighs the two pixels on each axis by distance. Quantized
 * bilinear works with weights rounded to 1/1024 per axis and rounds the sum half up to the grid of x. */
typedef enum oct_resize_grid { OCT_RESIZE_HALF_PIXEL, OCT_RESIZE_ASYMMETRIC, OCT_RESIZE_ALIGN_CORNERS } oct_resize_grid;
typedef struct oct_resize_attrs {
    int32_t size[2];
    int32_t grid; /* oct_resize_grid */
} oct_resize_attrs;
extern const oct_op oct_op_resize_nearest, oct_op_resize_bilinear;

/* softmax(x): y = e^x / sum of e^x over the last dimension. On a grid (a quantized x) it is the table method of
 * docs/quantization.md 7.6, and y is on the grid of unsigned codes of 1/256.
 * argmax(x): index of the first largest element of the last dimension: i32 [...,1]. No gradient. */
extern const oct_op oct_op_softmax, oct_op_argmax;

/* dropout(x): training: keeps an element with probability 1-rate and divides it by 1-rate; else identity. Keyed by
 * (seed, node id, step, element). */
typedef struct oct_dropout_attrs {
    float rate; /* [0, 1) */
} oct_dropout_attrs;
extern const oct_op oct_op_dropout;

/* normalize(x): y[c] = (x[c] - mean[c])*scale[c] of pixels (u8) or floats; up to four channels, computed in double and
 * rounded once. The model's preprocessing, part of the graph so that it travels with the weights. */
typedef struct oct_normalize_attrs {
    float mean[4], scale[4];
} oct_normalize_attrs;
extern const oct_op oct_op_normalize;

/* softmax_cross_entropy(x, label): scalar mean over labelled samples of  -sum_k t_k log softmax(x)_k,
 * t = (1-smoothing)*onehot + smoothing/K. Samples whose label is `ignore` count neither in the sum nor in the mean; no
 * labelled sample gives loss 0. x [N,K], label i32 [N] in [0,K) or ignore. */
typedef struct oct_cross_entropy_attrs {
    float smoothing; /* [0, 1) */
    int32_t ignore;  /* label value, -1 by default */
} oct_cross_entropy_attrs;
extern const oct_op oct_op_softmax_cross_entropy;

/* mean_squared_error(x, target): scalar mean over all elements of (x - target)^2; equal shapes. */
extern const oct_op oct_op_mean_squared_error;

#endif
