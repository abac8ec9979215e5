/* SPDX-License-Identifier: BSD-2-Clause
 * x86-64 levels of the float kernels: instantiates f32_tmpl.h. Compiles to nothing elsewhere.
 */
#include "autograd/kernels/f32_internal.h"

#if defined(__x86_64__)
void oct_f32_fill_avx2(oct_f32_kernels *table)
{
    (void)table;
}
void oct_f32_fill_avx512(oct_f32_kernels *table)
{
    (void)table;
}
#endif
