/* SPDX-License-Identifier: BSD-2-Clause
 * PACT2 activation ranges (docs/quantization.md 2.9, 2.10, 3.3, 11): a range is observed (histogram with cut tails), averaged
 * over training steps, and read as a power-of-two clip.
 *
 * State of a range: four floats in a buffer node, so that checkpoints, copies and reductions need no code of their own.
 */
#ifndef OCT_RANGE_H
#define OCT_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OCT_RANGE_LO, OCT_RANGE_HI, OCT_RANGE_COUNT /* observations so far - 1, starts at -1 */,
       OCT_RANGE_OBSERVED /* 0 or 1 */, OCT_RANGE_FLOATS };
enum { OCT_RANGE_BINS = 256 };

typedef enum oct_sign { OCT_SIGN_AUTO /* signed iff lo < 0 */, OCT_SIGN_UNSIGNED, OCT_SIGN_SIGNED } oct_sign;

/* How a clip reads, the grid of an activation (quant/grid.h): codes lo..hi, real = (code - zero_point)*scale; po2: values
 * pass gradients in [clip_lo, clip_hi]. */
typedef struct oct_clip_codes {
    int affine;           /* profile affine: codes u8, any scale; else scale = 2^-exponent, zero_point 0 */
    float scale;
    int zero_point;
    int is_signed;
    int exponent;         /* kappa = 2^exponent; 0 in profile affine */
    int lo, hi;           /* -128..127 or 0..255 */
    float clip_lo, clip_hi; /* -2^e or 0, and 2^e; affine: the reals of codes 0 and 255 */
} oct_clip_codes;

/* Writes the start of a range: (-8, 8) or (0, 8), nothing observed. */
void oct_range_init(float range[OCT_RANGE_FLOATS], oct_sign sign);

/* One observation (m, M): batches 0 and 1 replace the state, batch n averages with weight 1/n, at least 0.001:
 *   lo = (1-u)*lo + u*m,  hi likewise, in float (TI update_clips_act). */
void oct_range_update(float range[OCT_RANGE_FLOATS], float m, float M);

/* A training step with frozen ranges: only the counter moves (n += 1 before the frozen check, docs/quantization.md A2). */
void oct_range_count(float range[OCT_RANGE_FLOATS]);

/* A = max(|lo|,|hi|) or |hi| when unsigned, at least 2^-16; clip = 2^ceil(log2 A); kappa = 2^(b-1)/clip or 2^b/clip, b = 8. */
oct_clip_codes oct_range_clip(const float range[OCT_RANGE_FLOATS], oct_sign sign);

/* Multiplier of the histogram index rne((x - m)*mult), 0..255. M > m. */
float oct_range_bin_scale(float m, float M);
/* Cuts `percent` of the mass from each tail: [m + lo/mult, M' = m + hi/mult] where lo (hi) is the last (first) bin whose
 * inclusive tail is still below percent; never wider than [m, M]. */
void oct_range_shrink(float *lo, float *hi, const uint32_t counts[OCT_RANGE_BINS], float m, float M, float percent);

/* Phase (0 or 1) of the histogram's stride-2 subsample of rows and columns at a training step; a function of (seed, node,
 * step). Tensors with height <= 4 or width <= 4 are not subsampled. Minimum and maximum always cover every element. */
void oct_range_phase(int phase[2], uint64_t seed, int32_t node, uint64_t step);

#endif
