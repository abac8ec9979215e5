/* SPDX-License-Identifier: BSD-2-Clause
 * The search of quant/observer.h among power-of-two clips. */
#include <math.h>
#include <string.h>

#include "quant/int8/requant.h"
#include "quant/observer_internal.h"

enum { MIN_EXPONENT = -16, CANDIDATES = 9 };

/* Codes q in [lo, hi] stand for q*step; a code's cell is [q - 1/2, q + 1/2)*step. */
typedef struct code_grid {
    double step, lo, hi;
} code_grid;

static code_grid grid_of(bool is_signed, int exponent)
{
    return is_signed ? (code_grid){ldexp(1, exponent - 7), -128, 127} : (code_grid){ldexp(1, exponent - 8), 0, 255};
}

static double code_of(const code_grid *g, double x)
{
    return fmin(fmax(oct_round_up_f64(x / g->step), g->lo), g->hi);
}

static double square_error(const oct_histogram *h, const code_grid *g, bool centres)
{
    double w = oct_histogram_bin_width(h), d = g->step, error = 0;
    for (int i = 0; i < OCT_HISTOGRAM_BINS; i++) {
        if (!(h->counts[i] > 0)) continue;
        double from = h->seen.lo + i * w, to = from + w, middle = from + w / 2;
        if (centres || !(w > 0)) {
            double miss = middle - code_of(g, middle) * d;
            error += h->counts[i] * miss * miss;
            continue;
        }
        double first = code_of(g, from), last = code_of(g, to);
        error += h->counts[i] / w *
                 (oct_square_integral(from - first * d, d / 2) + (last - first - 1) * oct_square_integral(-d / 2, d / 2) +
                  oct_square_integral(-d / 2, to - last * d));
    }
    return error;
}

/* Bins whose middle has the same code become one step; what is clipped is missing from the steps and is on the last bins
 * inside in p. */
static double divergence(const oct_histogram *h, const code_grid *g)
{
    double p[OCT_HISTOGRAM_BINS] = {0}, q[OCT_HISTOGRAM_BINS] = {0}, w = oct_histogram_bin_width(h);
    double below = (g->lo - 0.5) * g->step, above = (g->hi + 0.5) * g->step, out_low = 0, out_high = 0;
    int first = -1, last = -1;
    for (int i = 0; i < OCT_HISTOGRAM_BINS; i++) {
        double middle = h->seen.lo + (i + 0.5) * w, count = h->counts[g->lo == 0 && i == 0 ? 1 : i];
        if (middle < below) out_low += count;
        if (middle >= above) out_high += count;
        if (middle < below || middle >= above || !(count > 0)) continue;
        if (first < 0) first = i;
        last = i;
        p[i] = count;
    }
    if (first < 0) return INFINITY;
    for (int i = first; i <= last;) {
        double code = code_of(g, h->seen.lo + (i + 0.5) * w), mass = 0;
        int end = i, full = 0;
        for (; end <= last && code_of(g, h->seen.lo + (end + 0.5) * w) == code; end++) mass += p[end], full += p[end] > 0;
        for (; i < end; i++) q[i] = p[i] > 0 ? mass / full : 0;
    }
    p[first] += out_low;
    p[last] += out_high;
    return oct_divergence(p + first, q + first, last - first + 1);
}

int oct_histogram_po2(const oct_histogram *h, bool is_signed, oct_po2_error error)
{
    double largest = is_signed ? fmax(fabs(h->seen.lo), fabs(h->seen.hi)) : h->seen.hi, best = INFINITY;
    if (!oct_bounds_valid(h->seen) || !(largest > 0)) return MIN_EXPONENT;
    int top = oct_ceil_exponent(largest), found = top;
    if (top <= MIN_EXPONENT) return MIN_EXPONENT;
    for (int e = top; e > top - CANDIDATES && e >= MIN_EXPONENT; e--) {
        code_grid g = grid_of(is_signed, e);
        double loss = error == OCT_PO2_KL ? divergence(h, &g) : square_error(h, &g, error == OCT_PO2_MSE);
        if (loss < best) best = loss, found = e;
    }
    return found;
}
