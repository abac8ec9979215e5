/* SPDX-License-Identifier: BSD-2-Clause
 * Parts of the int8 suite and what they share.
 */
#ifndef OCT_TESTS_CHECK_I8_H
#define OCT_TESTS_CHECK_I8_H

#include "tests/checkkern/checkkern.h"

/* Every level with int8 kernels, "c" first, NULL-terminated. */
extern const char *const check_i8_levels[];

void check_i8_convolutions(checkkern *k);
void check_i8_stages(checkkern *k); /* padding, packing, conv_row, depthwise_row, pooling */
void check_i8_accumulators(checkkern *k); /* requantize, mask_range, acc_sums, acc_affine */
void check_i8_floats(checkkern *k);       /* quantize, dequantize, mask_apply, min_max, histogram */
void check_i8_codes(checkkern *k);        /* add, mul, rescale, lookup */
void check_i8_affine(checkkern *k);       /* the same in profile affine */

#endif
