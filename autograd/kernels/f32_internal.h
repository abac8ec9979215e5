/* SPDX-License-Identifier: BSD-2-Clause
 * What the files of the float kernels share with each other: one function per level that overwrites the
 * entries of a table with that level's variants. Called by oct_f32_kernels_init alone.
 */
#ifndef OCT_F32_INTERNAL_H
#define OCT_F32_INTERNAL_H

#include "autograd/kernels/f32_kernels.h"

void oct_f32_fill_c(oct_f32_kernels *table);
void oct_f32_fill_winograd_c(oct_f32_kernels *table); /* part of fill_c */
#if defined(__x86_64__)
void oct_f32_fill_avx2(oct_f32_kernels *table);
void oct_f32_fill_avx512(oct_f32_kernels *table);
#elif defined(__aarch64__)
void oct_f32_fill_neon(oct_f32_kernels *table);
#endif

#endif
