/* SPDX-License-Identifier: BSD-2-Clause
 * The one place that starts threads for computing (OpenMP; a plain loop when built without).
 *
 * Work is cut into `count` items whose borders depend on the problem only, never on the thread count. Items
 * write to disjoint places; reductions go through one partial result per item that the caller combines in
 * index order. That is what makes results the same bytes for any thread count.
 */
#ifndef OCT_BASE_PAR_H
#define OCT_BASE_PAR_H

#include <stdint.h>

/* One item. `thread` is in [0, threads): for per-thread scratch only, results must not depend on it. */
typedef void oct_par_fn(void *arg, int64_t item, int thread);

/* Runs fn(arg, 0..count-1, ·) on at most `threads` threads (>= 1), in any order; returns when all are done.
 * fn must not fail: allocate and check before. Nested calls run on the calling thread. */
void oct_parallel_for(int threads, int64_t count, oct_par_fn *fn, void *arg);

/* Number of processors this process may use, at least 1. Honours OMP_NUM_THREADS. */
int oct_par_default_threads(void);

#endif
