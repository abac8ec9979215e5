/* SPDX-License-Identifier: BSD-2-Clause
 * Observers: batches of floats in, a range [lo, hi] out. Three kinds of state
 *
 *   minimum and maximum   oct_extrema_add        of everything seen (PyTorch MinMaxObserver)
 *   moving average        oct_extrema_average    of each batch's minimum and maximum (MovingAverageMinMaxObserver)
 *   histogram             oct_histogram_add      2048 bins that grow with the data (HistogramObserver, PyTorch 2.13)
 *
 * and searches over a histogram, pure functions: two that give any range (profiles with free scales), and one that
 * chooses among power-of-two clips. PACT2's 256-bin histogram and running average: quant/range.h.
 *
 * Elements that are not finite are left out and counted, never averaged in. A constant c gives (c, c), nothing seen gives
 * lo > hi. Not thread-safe per object.
 */
#ifndef OCT_OBSERVER_H
#define OCT_OBSERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A range of real values; lo > hi: nothing was seen. */
typedef struct oct_bounds {
    double lo, hi;
} oct_bounds;
#define OCT_BOUNDS_NONE ((oct_bounds){INFINITY, -INFINITY})
static inline bool oct_bounds_valid(oct_bounds b)
{
    return b.lo <= b.hi;
}
/* With zero inside, as every quantized range must have it. */
static inline oct_bounds oct_bounds_with_zero(oct_bounds b)
{
    return (oct_bounds){b.lo < 0 ? b.lo : 0, b.hi > 0 ? b.hi : 0};
}

/* Minimum and maximum of n floats into *batch (left alone when none is finite); returns how many are not finite. */
size_t oct_extrema_of(oct_bounds *batch, const float *x, size_t n);
/* *all = union with the n floats; returns how many are not finite. */
size_t oct_extrema_add(oct_bounds *all, const float *x, size_t n);
/* Moving average in float: the first batch is copied, then lo += c*(min - lo), hi likewise. c in (0, 1]; PyTorch: 0.01. */
size_t oct_extrema_average(oct_bounds *average, const float *x, size_t n, float c);
/* oct_extrema_add per channel of n/channels rows of `channels` values; all[channels]. */
size_t oct_extrema_add_channels(oct_bounds *all, const float *x, size_t n, size_t channels);

/* Equal bins over [lo, hi], the right edge belongs to the last one. lo == hi: all mass is in bin 0. */
enum { OCT_HISTOGRAM_BINS = 2048 };
typedef struct oct_histogram {
    oct_bounds seen;
    uint64_t elements, excluded; /* finite ones; those that were not */
    double counts[OCT_HISTOGRAM_BINS];
} oct_histogram;

void oct_histogram_init(oct_histogram *h);
/* When x leaves the range, the old counts move into bins over the union: each old bin is cut into 16 equal pieces, a piece
 * goes to the bin that holds its middle. */
void oct_histogram_add(oct_histogram *h, const float *x, size_t n);
double oct_histogram_bin_width(const oct_histogram *h);

/* --- searches: any range. Nothing seen: OCT_BOUNDS_NONE. Zero is not added. --- */

/* Least squared error over `levels` equal steps, density uniform inside each bin: shrinks from the side whose next 1e-5
 * of the mass takes more bins, until the error grows (PyTorch _non_linear_param_search). */
oct_bounds oct_histogram_l2(const oct_histogram *h, int levels);
/* Least Kullback-Leibler divergence of the clipped from the `levels`-step distribution (TensorRT's calibration; TinyNN's two
 * one-sided passes): the upper end over i = levels..2048 bins, then the lower end on the reversed rest. Bin 0 counts like
 * bin 1 (zeros behind ReLU). Terms without mass count nothing; mass where the steps have none excludes a candidate; the
 * steps' distribution is normalised. */
oct_bounds oct_histogram_kl(const oct_histogram *h, int levels);
/* From the (100 - percent) to the percent quantile, linear inside a bin; 100 = minimum and maximum. percent in (50, 100]. */
oct_bounds oct_histogram_percentile(const oct_histogram *h, double percent);
/* Least squared error of the bins' centres over `levels` steps: thresholds t = k*max|x|/2048, k = 128, 144, ..., then the
 * neighbours of the best one; the range is [-t, t] inside what was seen. Ties: the larger t. */
oct_bounds oct_histogram_mse(const oct_histogram *h, int levels);

/* --- search: a power-of-two clip --- */

typedef enum oct_po2_error { OCT_PO2_L2, OCT_PO2_MSE, OCT_PO2_KL } oct_po2_error;
/* The exponent e of the clip 2^e that loses least on the codes -128..127 times 2^(e-7), or 0..255 times 2^(e-8): the error
 * of the searches above, on that very grid. Candidates: from the smallest 2^e that clips nothing down to a 256th of it; ties:
 * the larger. Nothing seen or only zeros: -16, the smallest clip there is. */
int oct_histogram_po2(const oct_histogram *h, bool is_signed, oct_po2_error error);

#endif
