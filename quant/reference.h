/* SPDX-License-Identifier: BSD-2-Clause
 * Reference forms of the quantizer's ops, for their descriptors in quant/ops.c.
 */
#ifndef OCT_QUANT_REFERENCE_H
#define OCT_QUANT_REFERENCE_H

#include "quant/ops.h"

oct_status oct_ref_fake_quant_forward(oct_ref *ref);
oct_status oct_ref_fake_quant_backward(oct_ref *ref);
oct_status oct_ref_weight_forward(oct_ref *ref);
oct_status oct_ref_weight_backward(oct_ref *ref);
oct_status oct_ref_bias_forward(oct_ref *ref);
oct_status oct_ref_bias_backward(oct_ref *ref);
oct_status oct_ref_norm_forward(oct_ref *ref);
oct_status oct_ref_norm_backward(oct_ref *ref);

/* Profile affine (reference_affine.c). n values of a fake_quant node. */
oct_status oct_ref_affine_forward(oct_ref *ref, size_t n);
oct_status oct_ref_affine_backward(oct_ref *ref, size_t n);
/* Weights of a fake_quant_weight node: per channel the folding scale and the folded bias. */
typedef struct oct_ref_weights {
    size_t count, channels;
    const double *s, *bias;
    size_t (*channel)(const oct_shape *shape, size_t index);
} oct_ref_weights;
oct_status oct_ref_affine_weights(oct_ref *ref, const oct_ref_weights *weights);
/* Whether a weight of channel o is not clipped. */
bool oct_ref_affine_passes(const oct_ref *ref, size_t o, double s, double w);

size_t oct_ref_weight_saved(const oct_node *node);
size_t oct_ref_norm_saved(const oct_node *node);

#endif
