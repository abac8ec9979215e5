/* SPDX-License-Identifier: BSD-2-Clause
 * CPU features and the levels that kernels are written for. Levels are sets of feature bits, not a line:
 * avxvnni needs AVX2 and its own bit, and avx512 does not imply it.
 */
#ifndef OCT_BASE_CPU_H
#define OCT_BASE_CPU_H

#include <stdint.h>

#include "autograd/base/status.h"

/* Feature bits of a CPU mask. */
enum {
    OCT_CPU_AVX2 = 1 << 0,       /* AVX2, FMA, F16C, BMI2 */
    OCT_CPU_AVXVNNI = 1 << 1,    /* VEX-encoded VPDPBUSD */
    OCT_CPU_AVX512 = 1 << 2,     /* AVX-512 F, BW, VL, DQ */
    OCT_CPU_AVX512VNNI = 1 << 3, /* EVEX-encoded VPDPBUSD */
    OCT_CPU_AVX512BF16 = 1 << 4,
    OCT_CPU_NEON = 1 << 5,
    OCT_CPU_NEONDOT = 1 << 6,
    OCT_CPU_AMX = 1 << 7         /* tiles: AMX-TILE, AMX-BF16, AMX-INT8 */
};

/* Features of the machine that the operating system also lets us use. Linux grants the tile registers of AMX to processes that
 * ask for them; this asks, for all threads of the process. */
uint32_t oct_cpu_detect(void);

/* Level name -> the set of features a level may use: "c" 0, "avx2", "avxvnni" (avx2 + its bit), "avx512" (avx2
 * + avx512), "avx512vnni", "avx512bf16", "amx" (all of avx512bf16 and tiles), "neon", "neondot". Unknown names:
 * OCT_ERR_ARGUMENT naming the known ones. The mask is what the level may use, not what this machine has: AND it with oct_cpu_detect(). */
OCT_MUST_USE oct_status oct_cpu_parse(uint32_t *mask, const char *level, oct_error *error);

/* Mask from the environment variable OCT_CPU (all features when unset or empty) AND the machine's features.
 * A level this machine lacks is OCT_ERR_UNSUPPORTED, so that a test cannot silently run something else. */
OCT_MUST_USE oct_status oct_cpu_from_environment(uint32_t *mask, oct_error *error);

/* Name of the i-th level, lowest first; NULL past the last. For help texts and for loops over levels. */
const char *oct_cpu_level_name(int index);

#endif
