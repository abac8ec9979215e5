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

/* add(a, b, ...), mul(a, b): elementwise, equal shapes. concat(a, b, ...): along the last dimension. */
extern const oct_op oct_op_add, oct_op_mul, oct_op_concat;

/* max_pool, average_pool: windows as in conv2d (dilation 1). Padding never wins a maximum; an average divides by the
 * number of pixels inside the image. Gradient of a maximum goes to the first largest element of the window.
 * global_average_pool(x): [N,H,W,C] -> [N,C]. */
typedef struct oct_pool_attrs {
    int32_t kernel[2], stride[2];
    int32_t pad[4];
} oct_pool_attrs;
extern const oct_op oct_op_max_pool, oct_op_average_pool, oct_op_global_average_pool;

/* flatten(x): [N,...] -> [N, rest], a view. */
extern const oct_op oct_op_flatten;

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
