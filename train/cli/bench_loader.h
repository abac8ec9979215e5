/* SPDX-License-Identifier: BSD-2-Clause
 * bench loader: how fast images come, without a network behind it. */
#ifndef OCT_CLI_BENCH_LOADER_H
#define OCT_CLI_BENCH_LOADER_H

#include "train/cli/report.h"

typedef struct bench_loader_flags {
    const char *data, *augment; /* augment NULL = imagenet */
    int64_t size, batch, steps, warmup, threads /* decoding; 0 = all processors */, seed;
    bool quiet;
} bench_loader_flags;

/* Reads and transforms as training does, every image anew (nothing is kept): first on one core, decoding and
 * transforming timed apart, then through the loader with its threads. Prints both. OCT_END: a signal came. */
oct_status bench_loader(cli *c, const bench_loader_flags *flags);

#endif
