/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/base/par.h"

#ifdef _OPENMP
#include <omp.h>

void oct_parallel_for(int threads, int64_t count, oct_par_fn *fn, void *arg)
{
    if (threads > count) threads = (int)count;
    if (threads <= 1 || omp_in_parallel()) {
        for (int64_t i = 0; i < count; i++) fn(arg, i, 0);
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t i = 0; i < count; i++) fn(arg, i, omp_get_thread_num());
}

int oct_par_default_threads(void)
{
    int n = omp_get_max_threads();
    int processors = omp_get_num_procs();
    if (n > processors) n = processors;
    return n < 1 ? 1 : n;
}
#else
void oct_parallel_for(int threads, int64_t count, oct_par_fn *fn, void *arg)
{
    (void)threads;
    for (int64_t i = 0; i < count; i++) fn(arg, i, 0);
}

int oct_par_default_threads(void)
{
    return 1;
}
#endif
