/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/observer.h"

#include <math.h>
#include <string.h>

enum { PIECES = 16 };

size_t oct_extrema_of(oct_bounds *batch, const float *x, size_t n)
{
    float lo = INFINITY, hi = -INFINITY;
    size_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        float v = x[i];
        bool finite = fabsf(v) < INFINITY; /* false for NaN */
        bad += !finite;
        lo = finite && v < lo ? v : lo;
        hi = finite && v > hi ? v : hi;
    }
    if (bad < n) *batch = (oct_bounds){(double)lo, (double)hi};
    return bad;
}

static void unite(oct_bounds *all, oct_bounds b)
{
    if (b.lo < all->lo) all->lo = b.lo;
    if (b.hi > all->hi) all->hi = b.hi;
}

size_t oct_extrema_add(oct_bounds *all, const float *x, size_t n)
{
    oct_bounds batch = OCT_BOUNDS_NONE;
    size_t bad = oct_extrema_of(&batch, x, n);
    unite(all, batch);
    return bad;
}

size_t oct_extrema_average(oct_bounds *average, const float *x, size_t n, float c)
{
    oct_bounds batch = OCT_BOUNDS_NONE;
    size_t bad = oct_extrema_of(&batch, x, n);
    if (bad == n) return bad;
    if (!oct_bounds_valid(*average)) {
        *average = batch;
        return bad;
    }
    float lo = (float)average->lo, hi = (float)average->hi;
    lo += c * ((float)batch.lo - lo);
    hi += c * ((float)batch.hi - hi);
    *average = (oct_bounds){(double)lo, (double)hi};
    return bad;
}

size_t oct_extrema_add_channels(oct_bounds *all, const float *x, size_t n, size_t channels)
{
    size_t bad = 0;
    for (size_t i = 0; i + channels <= n; i += channels)
        for (size_t c = 0; c < channels; c++) {
            double v = (double)x[i + c];
            if (isfinite(v))
                unite(&all[c], (oct_bounds){v, v});
            else
                bad++;
        }
    return bad;
}

void oct_histogram_init(oct_histogram *h)
{
    memset(h, 0, sizeof *h);
    h->seen = OCT_BOUNDS_NONE;
}

double oct_histogram_bin_width(const oct_histogram *h)
{
    return oct_bounds_valid(h->seen) ? (h->seen.hi - h->seen.lo) / OCT_HISTOGRAM_BINS : 0;
}

static int clamp_bin(double place)
{
    return place < 0 ? 0 : place >= OCT_HISTOGRAM_BINS ? OCT_HISTOGRAM_BINS - 1 : (int)place;
}

/* The old counts, over the new range. */
static void spread(oct_histogram *h, oct_bounds to)
{
    double old[OCT_HISTOGRAM_BINS], scale = OCT_HISTOGRAM_BINS / (to.hi - to.lo), width = oct_histogram_bin_width(h);
    memcpy(old, h->counts, sizeof old);
    memset(h->counts, 0, sizeof h->counts);
    for (int i = 0; i < OCT_HISTOGRAM_BINS; i++) {
        if (!(old[i] > 0)) continue;
        /* One point: all of it where it lies. */
        int pieces = width > 0 ? PIECES : 1;
        for (int p = 0; p < pieces; p++) {
            double middle = h->seen.lo + width * (i + (p + 0.5) / pieces);
            h->counts[clamp_bin((middle - to.lo) * scale)] += old[i] / pieces;
        }
    }
}

void oct_histogram_add(oct_histogram *h, const float *x, size_t n)
{
    oct_bounds batch = OCT_BOUNDS_NONE, all = h->seen;
    size_t bad = oct_extrema_of(&batch, x, n);
    h->excluded += bad;
    if (bad == n) return;
    h->elements += n - bad;
    unite(&all, batch);
    if (all.lo == all.hi) {
        h->counts[0] += (double)(n - bad);
        h->seen = all;
        return;
    }
    if (h->elements > n - bad && (all.lo < h->seen.lo || all.hi > h->seen.hi)) spread(h, all);
    h->seen = all;
    double scale = OCT_HISTOGRAM_BINS / (all.hi - all.lo);
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) < INFINITY) h->counts[clamp_bin(((double)x[i] - all.lo) * scale)] += 1;
}
