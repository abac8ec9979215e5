/* SPDX-License-Identifier: BSD-2-Clause
 * What the files of the split kernels share: one function per level that overwrites the entries of a table. */
#ifndef OCT_SPLIT_INTERNAL_H
#define OCT_SPLIT_INTERNAL_H

#include "autograd/kernels/split_kernels.h"

#if defined(__x86_64__)
void oct_split_fill_amx(oct_split_kernels *table);
#endif

#endif
