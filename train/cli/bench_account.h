/* SPDX-License-Identifier: BSD-2-Clause
 * What a step on a plan takes of the machine: work, memory, and share of the measured peaks.
 */
#ifndef OCT_CLI_BENCH_ACCOUNT_H
#define OCT_CLI_BENCH_ACCOUNT_H

#include "layers/models.h"
#include "train/cli/bench_layers.h"

typedef struct bench_account {
    oct_plan_info info;
    oct_model_size size;
    bench_whole whole;        /* with the peaks */
    double gflops, f32_share; /* everything counted against the fp32 peak */
    double peak_share; /* what runs on int8 counted against the int8 peak: least time possible / time */
} bench_account;

/* Measures the peaks (0.1 s); those of `whole` are not read. */
bench_account bench_account_of(const oct_ctx *ctx, const oct_plan *plan, const oct_graph *graph,
                               const bench_whole *whole);
void bench_print_account(const cli *c, const bench_account *account);
/* Adds the fields to a "result" event. */
void bench_add_account(struct cJSON *event, const bench_account *account);

#endif
