/* SPDX-License-Identifier: BSD-2-Clause
 * bench --layers: where the time of a step goes, one line per step of the plan, then per kind of step.
 */
#ifndef OCT_CLI_BENCH_LAYERS_H
#define OCT_CLI_BENCH_LAYERS_H

#include "autograd/plan.h"
#include "quant/int8/octet_int8.h"
#include "train/cli/peak.h"
#include "train/cli/report.h"

typedef struct bench_whole {
    double ms;     /* whole step, median */
    int64_t batch; /* the plan's */
    bool train;    /* backward has run, too */
    peak_rate f32, int8;
} bench_whole;

/* The table on stdout, with --json "layer" and "kind" events. Wants oct_plan_profile to have been on. */
void bench_print_layers(const cli *c, const oct_plan *plan, const bench_whole *whole);
/* The same of the int8 engine, after runs of `batch` images with oct_int8_profile on: per run; the share of peak is of all
 * threads. Measures that peak. "layer" events with --json. */
void bench_print_engine_layers(const cli *c, oct_int8_state *state, int64_t batch);

#endif
