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
size_t oct_ref_weight_saved(const oct_node *node);
size_t oct_ref_norm_saved(const oct_node *node);

#endif
