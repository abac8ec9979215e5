/* SPDX-License-Identifier: BSD-2-Clause
 * What the searches over histograms share.
 */
#ifndef OCT_OBSERVER_INTERNAL_H
#define OCT_OBSERVER_INTERNAL_H

#include "quant/observer.h"

/* Integral of x^2. */
static inline double oct_square_integral(double from, double to)
{
    return (to * to * to - from * from * from) / 3;
}

/* sum p*log(p/q) of two masses over n bins, each taken relative to its own sum. Bins with p = 0 count nothing; p > 0 where
 * q = 0: infinite. */
double oct_divergence(const double *p, const double *q, int n);

#endif
