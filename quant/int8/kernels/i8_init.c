/* SPDX-License-Identifier: BSD-2-Clause
 * The one place that decides which int8 kernels a CPU mask selects.
 */
#include "quant/int8/kernels/i8_internal.h"

void oct_i8_kernels_init(oct_i8_kernels *table, uint32_t cpu_mask)
{
    oct_i8_fill_c(table);
    oct_i8_fill_x86(table, cpu_mask);
    oct_i8_fill_arm(table, cpu_mask);
}
