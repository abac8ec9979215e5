/* SPDX-License-Identifier: BSD-2-Clause
 * Searches of quant/observer.h that measure squared errors over any range. */
#include <math.h>

#include "quant/int8/requant.h"
#include "quant/observer_internal.h"

/* Squared error of keeping bins s..e in `levels` steps: what is outside moves to the first or last step. */
static double l2_error(const oct_histogram *h, int levels, int s, int e)
{
    double w = oct_histogram_bin_width(h), d = w * (e - s + 1) / levels, error = 0;
    if (!(d > 0)) return 0;
    for (int i = 0; i < OCT_HISTOGRAM_BINS; i++) {
        if (!(h->counts[i] > 0)) continue;
        double from = (i - s) * w, to = from + w;
        double first = fmin(fmax(floor(from / d), 0), levels - 1), last = fmin(fmax(floor(to / d), 0), levels - 1);
        double inside = oct_square_integral(from - (first + 0.5) * d, d / 2) +
                        (last - first - 1) * oct_square_integral(-d / 2, d / 2) +
                        oct_square_integral(-d / 2, to - (last + 0.5) * d);
        error += h->counts[i] / w * inside;
    }
    return error;
}

typedef struct tails {
    double cumulative[OCT_HISTOGRAM_BINS], total;
} tails;

static void sum_up(tails *t, const oct_histogram *h)
{
    t->total = 0;
    for (int i = 0; i < OCT_HISTOGRAM_BINS; i++) t->cumulative[i] = t->total += h->counts[i];
}

oct_bounds oct_histogram_l2(const oct_histogram *h, int levels)
{
    static const double step = 1e-5;
    tails t;
    double w = oct_histogram_bin_width(h), alpha = 0, beta = 1, best = INFINITY;
    int s = 0, e = OCT_HISTOGRAM_BINS - 1;
    if (!(w > 0)) return h->seen;
    sum_up(&t, h);
    while (alpha < beta) {
        double low = (alpha + step) * t.total, high = (beta - step) * t.total;
        int l = s, r = e;
        while (l < e && t.cumulative[l] < low) l++;
        while (r > s && t.cumulative[r] > high) r--;
        int next_s = s, next_e = e;
        if (l - s > e - r) {
            next_s = l;
            alpha += step;
        } else {
            next_e = r;
            beta -= step;
        }
        if (next_s == s && next_e == e) continue;
        double error = l2_error(h, levels, next_s, next_e);
        if (error > best) break;
        best = error;
        s = next_s;
        e = next_e;
    }
    return (oct_bounds){h->seen.lo + w * s, h->seen.lo + w * (e + 1)};
}

/* --- thresholds on |x|, error at the bins' centres --- */

static oct_bounds clip_at(const oct_histogram *h, double t)
{
    return (oct_bounds){fmax(h->seen.lo, -t), fmin(h->seen.hi, t)};
}

static double centre_error(const oct_histogram *h, int levels, oct_bounds range)
{
    double w = oct_histogram_bin_width(h), d = (range.hi - range.lo) / (levels - 1), error = 0;
    if (!(d > 0)) return INFINITY;
    for (int i = 0; i < OCT_HISTOGRAM_BINS; i++) {
        if (!(h->counts[i] > 0)) continue;
        double c = h->seen.lo + (i + 0.5) * w;
        double q = fmin(fmax(oct_round_up_f64((c - range.lo) / d), 0), levels - 1);
        double miss = c - (range.lo + q * d);
        error += h->counts[i] * miss * miss;
    }
    return error;
}

oct_bounds oct_histogram_mse(const oct_histogram *h, int levels)
{
    enum { FIRST = OCT_HISTOGRAM_BINS / 16, STEP = OCT_HISTOGRAM_BINS / 128 };
    double unit = fmax(fabs(h->seen.lo), fabs(h->seen.hi)) / OCT_HISTOGRAM_BINS, best = INFINITY;
    int found = OCT_HISTOGRAM_BINS;
    if (!(oct_histogram_bin_width(h) > 0)) return h->seen;
    for (int k = OCT_HISTOGRAM_BINS; k >= FIRST; k -= STEP) {
        double error = centre_error(h, levels, clip_at(h, k * unit));
        if (error < best) best = error, found = k;
    }
    for (int k = found + 1, middle = found; k >= middle - 1; k -= 2) {
        if (k > OCT_HISTOGRAM_BINS) continue;
        double error = centre_error(h, levels, clip_at(h, k * unit));
        if (error < best || (error == best && k > found)) best = error, found = k;
    }
    return clip_at(h, found * unit);
}

/* Value below which `share` of the mass lies. */
static double quantile(const oct_histogram *h, const tails *t, double share)
{
    double w = oct_histogram_bin_width(h), want = share * t->total, before = 0;
    for (int i = 0; i < OCT_HISTOGRAM_BINS; before = t->cumulative[i++])
        if (t->cumulative[i] >= want && h->counts[i] > 0) return h->seen.lo + w * (i + (want - before) / h->counts[i]);
    return h->seen.hi;
}

oct_bounds oct_histogram_percentile(const oct_histogram *h, double percent)
{
    tails t;
    if (!(oct_histogram_bin_width(h) > 0) || percent >= 100) return h->seen;
    sum_up(&t, h);
    return (oct_bounds){fmax(h->seen.lo, quantile(h, &t, 1 - percent / 100)),
                        fmin(h->seen.hi, quantile(h, &t, percent / 100))};
}
