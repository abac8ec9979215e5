/* SPDX-License-Identifier: BSD-2-Clause
 * Builds the table of float kernels: every C entry first, then up the ladder of instruction sets. A level
 * that lacks a variant of some kernel keeps the one below.
 */
#include "autograd/kernels/f32_kernels.h"

#include "autograd/base/cpu.h"
#include "autograd/kernels/f32_internal.h"

void oct_f32_kernels_init(oct_f32_kernels *table, uint32_t cpu_mask)
{
    oct_f32_fill_c(table);
#if defined(__x86_64__)
    if (!(cpu_mask & OCT_CPU_AVX2)) return;
    oct_f32_fill_avx2(table);
    if (!(cpu_mask & OCT_CPU_AVX512)) return;
    oct_f32_fill_avx512(table);
#elif defined(__aarch64__)
    if (cpu_mask & OCT_CPU_NEON) oct_f32_fill_neon(table);
#else
    (void)cpu_mask;
#endif
}
