/* SPDX-License-Identifier: BSD-2-Clause
 * Ranges of all points from the activations of the float network on calibration images.
 *
 *   simple      mean over batches of their minimum and maximum (TI's simple calibration)
 *   minmax      minimum and maximum of everything
 *   histogram   least squared error under the histogram (PyTorch's default for activations)
 *   kl, mse, percentile                                  quant/observer.h
 * Power-of-two clips: histogram, kl and mse choose among the clips that profile has (oct_histogram_po2); the others give
 * a range that is then rounded up to one.
 */
#ifndef OCT_PTQ_RANGES_H
#define OCT_PTQ_RANGES_H

#include "quant/observer.h"
#include "quant/ptq/network.h"
#include "quant/ptq/tap.h"

typedef enum oct_ptq_method {
    OCT_PTQ_SIMPLE,
    OCT_PTQ_MINMAX,
    OCT_PTQ_HISTOGRAM,
    OCT_PTQ_KL,
    OCT_PTQ_MSE,
    OCT_PTQ_PERCENTILE
} oct_ptq_method;

/* Called with batches done of all, possibly several times over; a status other than OCT_OK ends the work and is returned. */
typedef struct oct_ptq_progress {
    oct_status (*step)(void *user, int64_t done, int64_t total);
    void *user;
} oct_ptq_progress;
static inline oct_status oct_ptq_step(const oct_ptq_progress *p, int64_t done, int64_t total)
{
    return p && p->step ? p->step(p->user, done, total) : OCT_OK;
}

typedef struct oct_ptq_observation {
    oct_ptq_method method;
    double percentile; /* of OCT_PTQ_PERCENTILE, (50, 100] */
} oct_ptq_observation;

/* The range a method reads from what one point saw. average: of the batches' extrema, for OCT_PTQ_SIMPLE. */
oct_bounds oct_ptq_choose(const oct_ptq_observation *how, const oct_histogram *h, oct_bounds average, oct_sign sign);

/* Sets the range of every point that is not fixed. OCT_ERR_NUMERIC names a point whose values are not finite. `progress`
 * may be NULL. */
OCT_MUST_USE oct_status oct_ptq_observe(oct_ptq_net *net, const oct_ptq_images *images,
                                        const oct_ptq_observation *how, const oct_ptq_progress *progress);

#endif
