/* SPDX-License-Identifier: BSD-2-Clause
 * Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). There is no state to save: a number is a pure function of (key, counter), and a key is a pure
 * function of (seed, purpose, epoch, sample). Same numbers on every machine and at any thread count.
 */
#ifndef OCT_BASE_RNG_H
#define OCT_BASE_RNG_H

#include <stdint.h>

/* What a stream of numbers is for: streams of different purposes never coincide. Part of the reproducibility
 * contract, so the values are fixed. */
typedef enum oct_rng_purpose {
    OCT_RNG_INIT = 1,      /* parameter initialisation; sample = parameter index */
    OCT_RNG_SHUFFLE = 2,   /* order of an epoch */
    OCT_RNG_AUGMENT = 3,   /* one image's transforms; sample = global index within the epoch */
    OCT_RNG_DROPOUT = 4,   /* sample = node id, epoch = step */
    OCT_RNG_SUBSAMPLE = 5, /* PACT2 histogram phase; sample = node id, epoch = step */
    OCT_RNG_SPLIT = 6,     /* train/validation split of one folder */
    OCT_RNG_SYNTHETIC = 7, /* benchmark inputs, tests */
    OCT_RNG_USER = 1000
} oct_rng_purpose;

typedef struct oct_rng {
    uint64_t key;
    uint64_t counter; /* next block of four 32-bit numbers */
    uint32_t block[4];
    uint32_t left; /* numbers of `block` not yet used */
} oct_rng;

/* 64-bit key of a stream. Distinct arguments give (with overwhelming probability) distinct keys. */
uint64_t oct_rng_key(uint64_t seed, oct_rng_purpose purpose, uint64_t epoch, uint64_t sample);
/* The four numbers at `counter` of stream `key`. */
void oct_rng_block(uint32_t out[4], uint64_t key, uint64_t counter);

/* Sequential view of one stream, starting at its first number. */
oct_rng oct_rng_start(uint64_t seed, oct_rng_purpose purpose, uint64_t epoch, uint64_t sample);
uint32_t oct_rng_u32(oct_rng *rng);
/* Uniform in [0, bound), unbiased (rejection); bound 0 returns 0. */
uint32_t oct_rng_below(oct_rng *rng, uint32_t bound);
/* Uniform in [0, 1): 24 bits, exactly representable. */
float oct_rng_uniform(oct_rng *rng);
/* Standard normal (Box-Muller in double, one of the pair is dropped). */
float oct_rng_normal(oct_rng *rng);

#endif
