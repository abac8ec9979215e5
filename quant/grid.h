/* SPDX-License-Identifier: BSD-2-Clause
 * The grid of a quantized activation: scale, zero point, limits of codes, and how values become codes. The two profiles are two
 * kinds of grid; what fuses, exports and reports reads a grid and need not ask which kind it is, unless it rounds.
 *
 *   po2     scale 2^-exponent, zero point 0, u8 or s8; code = clamp(floor(x*kappa + 0.5))     (requant.h)
 *   affine  any scale, zero point in 0..255, u8;       code = clamp(rne(x*(1/scale)) + zero)  (affine.h)
 */
#ifndef OCT_GRID_H
#define OCT_GRID_H

#include "autograd/op.h"
#include "quant/int8/octet_int8.h"
#include "quant/range.h"

typedef enum oct_profile { OCT_PO2, OCT_AFFINE } oct_profile;

/* How an observed range follows the batches. */
typedef enum oct_averaging {
    OCT_AVERAGING_PACT2,  /* oct_range_update */
    OCT_AVERAGING_MOVING  /* the first batch is copied, then lo += 0.01*(min - lo), hi likewise (PyTorch, in float) */
} oct_averaging;

/* Rounding SHIFT makes a po2 grid, any other an affine one: its parameters by oct_affine_parameters from lo..hi, lo counting
 * as 0 for OCT_SIGN_UNSIGNED. clip_lo and clip_hi are the reals of codes 0 and 255. */
oct_clip_codes oct_grid_of_range(const float range[OCT_RANGE_FLOATS], oct_sign sign, oct_int8_rounding rounding);

/* Code of x within the grid's limits. */
int32_t oct_grid_code(const oct_clip_codes *grid, float x);

/* One observation of a training step with ranges live. */
void oct_grid_observe(float range[OCT_RANGE_FLOATS], oct_averaging averaging, float m, float M);

/* Grid of a tensor of codes. */
void oct_grid_to_tensor(const oct_clip_codes *grid, oct_tensor *tensor);

/* The straight-through mask of an affine grid passes p = x*(1/scale) in [*low, *high]: those with rne(p) + zero in 0..255. */
void oct_grid_pass(const oct_clip_codes *grid, float *low, float *high);

#endif
