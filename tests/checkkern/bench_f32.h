/* SPDX-License-Identifier: BSD-2-Clause
 * Bench bodies of the float kernels (checkkern --bench): one thread, data that stays in the first two cache
 * levels. Convolutions in GFLOP/s (a multiplication and an addition count as two), the rest in GB/s read and
 * written.
 */
#ifndef OCT_TESTS_BENCH_F32_H
#define OCT_TESTS_BENCH_F32_H

#include "tests/checkkern/checkkern.h"

checkkern_body bench_conv_row;
checkkern_body bench_conv_dw;
checkkern_body bench_depthwise_row;
checkkern_body bench_depthwise_dw;
checkkern_body bench_channel_sums;
checkkern_body bench_affine_clamp;
checkkern_body bench_bn_backward_sums;
checkkern_body bench_bn_backward_apply;
checkkern_body bench_clamp;
checkkern_body bench_clamp_backward;
checkkern_body bench_sum_squares;
checkkern_body bench_sgd;

#endif
