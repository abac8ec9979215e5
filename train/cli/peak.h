/* SPDX-License-Identifier: BSD-2-Clause
 * What the machine can compute at most, measured: the yardstick of bench's "share of peak".
 *
 *   fp32  fused multiply-adds on full vectors (C level: multiply and add as the compiler vectorises them)
 *   int8  u8 x s8 products summed in 32 bits: VPDPBUSD where the level has it, else VPMADDUBSW, VPMADDWD and
 * VPADDD (C level: as the compiler vectorises it) Every thread runs twelve independent chains in registers:
 * no memory, no dependence on latency. The best of several trials counts, ~50 ms in all for each number.
 */
#ifndef OCT_CLI_PEAK_H
#define OCT_CLI_PEAK_H

#include <stdint.h>

typedef struct peak_rate {
    double giga;       /* 1e9 operations per second of all threads together; a multiply-accumulate is two */
    const char *level; /* level of autograd/base/cpu.h that was measured */
} peak_rate;

/* threads >= 1, cpu_mask as in oct_ctx. */
peak_rate peak_f32(int threads, uint32_t cpu_mask);
peak_rate peak_int8(int threads, uint32_t cpu_mask);

#endif
