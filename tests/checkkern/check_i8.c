/* SPDX-License-Identifier: BSD-2-Clause
 * The int8 suite. Every kernel is exact, so every comparison is of bytes.
 */
#include "tests/checkkern/check_i8.h"

#if defined(__aarch64__)
const char *const check_i8_levels[] = {"c", "neon", "neondot", NULL};
#else
const char *const check_i8_levels[] = {"c", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", NULL};
#endif

void check_i8(checkkern *k)
{
    check_i8_convolutions(k);
    check_i8_stages(k);
    check_i8_accumulators(k);
    check_i8_floats(k);
    check_i8_codes(k);
    check_i8_affine(k);
}
