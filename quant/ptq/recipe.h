/* SPDX-License-Identifier: BSD-2-Clause
 * Recipes of post-training quantization: what is done, in which order, by name.
 *
 *   merge batch norm -> equalize -> clip weights -> ranges -> AdaRound -> bias correction -> batch norm's statistics again
 *
 * A recipe says how ranges are found and whether it is TI's advanced calibration; the steps around it are options.
 */
#ifndef OCT_PTQ_RECIPE_H
#define OCT_PTQ_RECIPE_H

#include "quant/ptq/ranges.h"

typedef struct oct_ptq_recipe {
    const char *name;
    oct_ptq_method method;
    bool advanced;              /* TI: clipped weights, ranges and biases calibrated batch by batch */
    oct_per_channel per_channel; /* that the recipe wants of the insertion pass */
    const char *about;
} oct_ptq_recipe;

/* simple, minmax, percentile, histogram, mse, kl, advanced, advanced-dw, in order of cost; NULL past the last. */
const oct_ptq_recipe *oct_ptq_recipe_at(int index);
const oct_ptq_recipe *oct_ptq_recipe_find(const char *name);

typedef struct oct_ptq_options {
    const oct_ptq_recipe *recipe;
    double percentile; /* 0 = 99.99 */
    bool equalize, absorb_biases, adaround, correct_biases;
    int64_t adaround_iterations; /* per layer; 0 = 1000 */
    uint64_t seed;
    /* Receives "ranges" and the like before each step, and how many units of progress it has; may be NULL. */
    void (*stage)(void *user, const char *name, int64_t total);
    /* Receives one line about what a step found; may be NULL. */
    void (*line)(void *user, const char *text);
    oct_ptq_progress progress; /* its user is also the one of stage and line */
} oct_ptq_options;

/* Calibrates the quantized graph of `net` in place. */
OCT_MUST_USE oct_status oct_ptq_apply(oct_ptq_net *net, const oct_ptq_images *images, const oct_ptq_options *options);

#endif
