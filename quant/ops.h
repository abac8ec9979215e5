/* SPDX-License-Identifier: BSD-2-Clause
 * The ops that the insertion pass adds. In the graph they stay separate, inspectable nodes:
 *
 *   w ── fake_quant_weight ─┐
 *   x ───────────────────── conv2d ── batch_norm_fold ── relu ── fake_quant
 *   b ── fake_quant_bias ───┘ (a convolution without batch norm; else b goes to batch_norm_fold)
 *
 * A plan runs such a chain as one step on integer codes (quant/fuse.c); the reference executor runs it node by node in
 * double (quant/reference.c). Inputs called "grid of" are read for their exponent only and get no gradient.
 */
#ifndef OCT_QUANT_OPS_H
#define OCT_QUANT_OPS_H

#include "autograd/ops.h"
#include "autograd/plan.h"
#include "quant/grid.h"

/* fake_quant(x, observed, range): y = clamp(floor(x*kappa + 0.5), lo, hi)/kappa with the clip read from `range` (buffer of
 * four floats, quant/range.h). In training, unless ranges are frozen, the range first takes one observation of `observed`:
 * the activation's input for ReLU, the value itself otherwise. Gradient: passes where clip_lo <= x <= clip_hi, both ends
 * included (PACT2's straight-through estimator, 3.2 STE-CLIP).
 * Profile affine: y = (clamp(rne(x*(1/scale)) + zero, 0, 255) - zero)*scale, and behind a layer, add, mul, concat, pool or
 * re-scaling whose operands are codes the deployed requantization instead (quant/int8/spec.h), but not behind a live batch
 * norm. Gradient: passes where rne(x*(1/scale)) + zero is in 0..255 (3.2 STE-CODE). */
typedef struct oct_fake_quant_attrs {
    int32_t sign;  /* oct_sign */
    float shrink;  /* percent of the mass cut from each tail; 0 = plain minimum and maximum */
    int32_t rounding;  /* oct_int8_rounding: SHIFT = po2, the others = affine */
    int32_t averaging; /* oct_averaging */
} oct_fake_quant_attrs;
extern const oct_op oct_op_fake_quant;
enum { OCT_FQ_X, OCT_FQ_OBSERVED, OCT_FQ_RANGE };

/* fake_quant_weight(w, grid of x[, gamma, beta, mean, var][, bias]): y = w_q * 2^-kw of quant/fold.h, on the folded weights
 * s*w when batch norm follows. The gradient towards w is s*dy where the code was not clipped. s counts as a constant.
 * Profile affine: any scale instead of 2^-kw. */
typedef struct oct_fake_quant_weight_attrs {
    int32_t per_channel;
    int32_t has_norm, has_bias;
    float eps;
    int32_t affine;
} oct_fake_quant_weight_attrs;
extern const oct_op oct_op_fake_quant_weight;
enum { OCT_FQW_W, OCT_FQW_X, OCT_FQW_GAMMA, OCT_FQW_BETA, OCT_FQW_MEAN, OCT_FQW_VAR };

/* fake_quant_bias(b, grid of x, grid of w): y = round half away(b * 2^(kx+kw)) * 2^-(kx+kw), affine: rne(b/(sx*sw))*sx*sw.
 * Straight-through. */
extern const oct_op oct_op_fake_quant_bias;

/* batch_norm_fold(u, gamma, beta, mean, var, grid of x, grid of w[, b0]): u = conv(x, w_q) without bias.
 *   live:   batch norm of u/s + b0 with the batch's statistics, arithmetic of docs/quantization.md 11.7; the running
 *           statistics follow (channels whose weight codes are all zero keep theirs).
 *           fold = running: normalised with the running statistics as this batch left them (11.10; the weights of the
 *           step were folded with the statistics before it, since the batch's come out of this very convolution).
 *   frozen, evaluation: u + round half away((beta + (b0 - mean)*s) * 2^(kx+kw)) * 2^-(kx+kw)
 * Gradient: 11.9 (live, both folds), 4.3 (frozen). */
typedef enum oct_fold_mode { OCT_FOLD_BATCH, OCT_FOLD_RUNNING } oct_fold_mode;
typedef struct oct_batch_norm_fold_attrs {
    float eps, momentum;
    int32_t fold; /* oct_fold_mode */
} oct_batch_norm_fold_attrs;
extern const oct_op oct_op_batch_norm_fold;
enum { OCT_BNF_U, OCT_BNF_GAMMA, OCT_BNF_BETA, OCT_BNF_MEAN, OCT_BNF_VAR, OCT_BNF_X, OCT_BNF_W, OCT_BNF_BIAS };

/* Built-in op or one of the above by name, NULL when unknown. */
const oct_op *oct_quant_op_find(const char *name);

/* Runs quantized chains as single steps on codes. */
extern const oct_fuser oct_quant_fuser;

/* Output channels of a weight tensor and whether they come last (depthwise [kh,kw,C]) or first ([O,...]). */
static inline int oct_weight_outputs(const oct_shape *w, int *outputs_last)
{
    *outputs_last = w->rank == 3;
    return w->dim[*outputs_last ? 2 : 0];
}

/* Where the grid of a value comes from: the fake_quant node (or softmax of codes) behind ops that keep grids, or NULL. */
const oct_node *oct_grid_source(const oct_graph *graph, const oct_node *node);

/* Codes of every pixel value per channel (docs/quantization.md 11.1): table[c*256 + p] = clamp(floor((p - mean)*scale*kappa + 0.5)),
 * in double. Training, evaluation and the exported model read the same table. */
void oct_normalize_table(uint8_t *table, const oct_normalize_attrs *attrs, int channels,
                         const oct_clip_codes *clip);

#endif
