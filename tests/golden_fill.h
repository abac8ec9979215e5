/* SPDX-License-Identifier: BSD-2-Clause
 * What goes into the golden tests: parameters, statistics and pixels from Philox streams that are keyed by the tensor's name
 * (tests/golden/gen/streams.py makes the same numbers).
 */
#ifndef OCT_TESTS_GOLDEN_FILL_H
#define OCT_TESTS_GOLDEN_FILL_H

#include <math.h>
#include <string.h>

#include "autograd/base/bytes.h"
#include "autograd/base/rng.h"
#include "autograd/graph.h"

enum { GOLDEN_SEED = 2024 };

/* r = 2*uniform - 1:  weight r*sqrt(6/fan_in), bias, beta, mean r*0.1, gamma, var 1 + r*0.2 */
static inline void golden_fill_tensor(const oct_node *n, float *data)
{
    uint64_t sample = oct_digest(OCT_DIGEST_START, n->name, strlen(n->name));
    oct_rng rng = oct_rng_start(GOLDEN_SEED, OCT_RNG_SYNTHETIC, 0, sample);
    const char *end = strrchr(n->name, '/');
    bool around_one = end && (!strcmp(end, "/gamma") || !strcmp(end, "/var"));
    float base = around_one ? 1.0f : 0.0f, spread = around_one ? 0.2f : 0.1f;
    size_t outputs = (size_t)n->shape.dim[n->shape.rank == 3 ? 2 : 0]; /* depthwise weights are [kh,kw,C] */
    if (end && !strcmp(end, "/weight")) spread = (float)sqrt(6.0 / (double)(n->count / outputs));
    for (size_t i = 0; i < n->count; i++) data[i] = base + (2 * oct_rng_uniform(&rng) - 1) * spread;
}

/* Pixels of stream (epoch, sample). */
static inline void golden_fill_pixels(uint8_t *pixels, size_t count, uint64_t epoch, uint64_t sample)
{
    oct_rng rng = oct_rng_start(GOLDEN_SEED, OCT_RNG_SYNTHETIC, epoch, sample);
    for (size_t i = 0; i < count; i++) pixels[i] = (uint8_t)oct_rng_u32(&rng);
}

#endif
