/* SPDX-License-Identifier: BSD-2-Clause
 * Where a quantized network loses accuracy: every point and layer compared with the float network on the same images.
 *
 *   sqnr     20*log10(|x|/|x - x_q|) dB of the value in the quantized network: all errors up to here
 *   own      the same for rounding the float network's value at this point alone
 *   cosine   x.x_q/(|x||x_q|)
 *   clipped  share of the float network's values outside the clip; used: largest |x| over the clip
 *   weights  sqnr of the folded weights, largest over smallest channel range, channels whose codes are all zero
 */
#ifndef OCT_TRAIN_ANALYSIS_H
#define OCT_TRAIN_ANALYSIS_H

#include "layers/models.h"
#include "quant/observer.h"
#include "quant/ptq/network.h"
#include "quant/ptq/ranges.h"
#include "train/image_set.h"

typedef struct oct_analysis_row {
    const char *name;  /* of the value in front of the point; of the layer for the last one. Belongs to the graph */
    const char *op;    /* that made it */
    int point, layer;  /* positions in the net's arrays, -1 = none */
    bool is_signed, per_channel;
    double sqnr, own, cosine, clipped, used;
    double clip;       /* largest value: 2^e; 0 without a point */
    oct_bounds range;  /* of the point, as calibrated or trained */
    double weight_sqnr, channel_ratio;
    int outputs, dead; /* channels of the layer */
    oct_histogram *activations, *weights; /* weights NULL without a layer */
    double only_this, all_but_this; /* top-1 percent with only this quantized, only this in float; NAN = not measured */
} oct_analysis_row;

typedef struct oct_analysis {
    oct_analysis_row *rows;
    int count;
    int64_t images;
    double top1_float, top1_quantized; /* percent, on these images */
    double top1_simulated_float;       /* the quantized network's own parameters in float; NAN without sensitivity */
} oct_analysis;

/* `base` is a float graph that has the same nodes as the quantized one behind `net` (other weights are fine).
 * OCT_ERR_SHAPE names a value that it has not. Caller releases, after failure too. */
OCT_MUST_USE oct_status oct_analysis_run(oct_analysis *out, oct_graph *base, const oct_ptq_net *net,
                                         const oct_image_set *set, const oct_ptq_progress *progress);
/* Fills only_this and all_but_this: two passes over the images per row, in simulation. */
OCT_MUST_USE oct_status oct_analysis_sensitivity(oct_analysis *analysis, const oct_ptq_net *net,
                                                 const oct_image_set *set, const oct_ptq_progress *progress);
void oct_analysis_release(oct_analysis *analysis);

/* Advice in words, one call per piece; worst rows first within a kind. Returns how many. */
int oct_analysis_advice(const oct_analysis *analysis, void (*line)(void *user, const char *text), void *user);

/* Top-1 percent of a graph's logits. */
OCT_MUST_USE oct_status oct_image_set_top1(double *percent, oct_graph *graph, oct_value image, oct_value logits,
                                           const oct_image_set *set, const oct_ptq_progress *progress);

#endif
