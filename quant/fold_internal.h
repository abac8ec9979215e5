/* SPDX-License-Identifier: BSD-2-Clause
 * What the two profiles' folding share.
 */
#ifndef OCT_FOLD_INTERNAL_H
#define OCT_FOLD_INTERNAL_H

#include <stdbool.h>

#include "quant/fold.h"

/* Place of weight i of output o. */
static inline size_t oct_fold_index(const oct_fold_source *src, int o, size_t i)
{
    return src->outputs_last ? i * (size_t)src->outputs + (size_t)o : (size_t)o * src->per_output + i;
}

/* b' of output o, whose s is given. */
static inline double oct_fold_bias(const oct_fold_source *src, int o, double s)
{
    double b0 = src->bias ? (double)src->bias[o] : 0;
    return src->gamma ? (double)src->beta[o] + (b0 - (double)src->mean[o]) * s : b0;
}

/* max|w'|/127, at least FLT_EPSILON. */
float oct_fold_affine_scale(double largest);
/* Codes and biases at fold->scale, which is doubled where a bound asks for it. s is there. */
OCT_MUST_USE oct_status oct_fold_affine(const oct_fold *fold, const oct_fold_source *source, const char *name,
                                        oct_error *error);

#endif
