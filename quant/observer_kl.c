/* SPDX-License-Identifier: BSD-2-Clause
 * The Kullback-Leibler search of quant/observer.h. */
#include <math.h>
#include <string.h>

#include "quant/observer_internal.h"

double oct_divergence(const double *p, const double *q, int n)
{
    double p_sum = 0, q_sum = 0, sum = 0;
    for (int i = 0; i < n; i++) p_sum += p[i], q_sum += q[i];
    for (int i = 0; i < n; i++) {
        if (!(p[i] > 0)) continue;
        if (!(q[i] > 0)) return INFINITY;
        sum += p[i] / p_sum * log(p[i] / p_sum * (q_sum / q[i]));
    }
    return sum;
}

/* Part of bin b that lies in [from, to). */
static double overlap(int b, double from, double to)
{
    double lo = fmax(b, from), hi = fmin(b + 1, to);
    return hi > lo ? hi - lo : 0;
}

/* q[0..n) = the counts in `levels` equal steps, each spread evenly over those of its bins that are not empty. */
static void in_steps(double *q, const double *counts, int n, int levels)
{
    memset(q, 0, (size_t)n * sizeof *q);
    for (int j = 0; j < levels; j++) {
        double from = (double)n * j / levels, to = (double)n * (j + 1) / levels, mass = 0, room = 0;
        int first = (int)from, last = (int)ceil(to) < n ? (int)ceil(to) : n;
        for (int b = first; b < last; b++) {
            if (!(counts[b] > 0)) continue;
            mass += counts[b] * overlap(b, from, to);
            room += overlap(b, from, to);
        }
        for (int b = first; b < last && room > 0; b++)
            if (counts[b] > 0) q[b] += mass / room * overlap(b, from, to);
    }
}

/* How many of the first n bins to keep; n when no number of them gives a finite divergence. */
static int keep_bins(const double *counts, int n, int levels)
{
    double p[OCT_HISTOGRAM_BINS], q[OCT_HISTOGRAM_BINS], best = INFINITY, beyond = 0;
    int kept = n;
    for (int i = levels; i < n; i++) beyond += counts[i];
    for (int i = levels; i <= n; i++) {
        memcpy(p, counts, (size_t)i * sizeof *p);
        p[i - 1] += beyond;
        in_steps(q, counts, i, levels);
        double divergence = oct_divergence(p, q, i);
        if (divergence < best) best = divergence, kept = i;
        if (i < n) beyond -= counts[i];
        if (beyond < 0) beyond = 0;
    }
    return kept;
}

oct_bounds oct_histogram_kl(const oct_histogram *h, int levels)
{
    double w = oct_histogram_bin_width(h), counts[OCT_HISTOGRAM_BINS], reversed[OCT_HISTOGRAM_BINS];
    if (!(w > 0)) return h->seen;
    memcpy(counts, h->counts, sizeof counts);
    counts[0] = counts[1];
    int right = keep_bins(counts, OCT_HISTOGRAM_BINS, levels);
    for (int i = 0; i < right; i++) reversed[i] = counts[right - 1 - i];
    int left = right >= levels ? keep_bins(reversed, right, levels) : right;
    return (oct_bounds){h->seen.lo + w * (right - left), h->seen.lo + w * right};
}
