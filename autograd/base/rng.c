/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/base/rng.h"

#include <math.h>

/* Finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words with full avalanche. */
static uint64_t mix64(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t oct_rng_key(uint64_t seed, oct_rng_purpose purpose, uint64_t epoch, uint64_t sample)
{
    return mix64(mix64(mix64(mix64(seed) ^ (uint64_t)purpose) ^ epoch) ^ sample);
}

void oct_rng_block(uint32_t out[4], uint64_t key, uint64_t counter)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

oct_rng oct_rng_start(uint64_t seed, oct_rng_purpose purpose, uint64_t epoch, uint64_t sample)
{
    return (oct_rng){.key = oct_rng_key(seed, purpose, epoch, sample)};
}

uint32_t oct_rng_u32(oct_rng *rng)
{
    if (!rng->left) {
        oct_rng_block(rng->block, rng->key, rng->counter++);
        rng->left = 4;
    }
    return rng->block[4 - rng->left--];
}

uint32_t oct_rng_below(oct_rng *rng, uint32_t bound)
{
    if (!bound) return 0;
    uint32_t reject = (0u - bound) % bound; /* 2^32 mod bound */
    uint32_t x;
    do {
        x = oct_rng_u32(rng);
    } while (x < reject);
    return x % bound;
}

float oct_rng_uniform(oct_rng *rng)
{
    return (float)(oct_rng_u32(rng) >> 8) * 0x1p-24f;
}

float oct_rng_normal(oct_rng *rng)
{
    double u = ((double)oct_rng_u32(rng) + 1.0) * 0x1p-32; /* (0, 1] */
    double v = (double)oct_rng_u32(rng) * 0x1p-32;
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v));
}
