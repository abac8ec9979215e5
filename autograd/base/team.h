/* SPDX-License-Identifier: BSD-2-Clause
 * A team of threads that an object owns: for work of microseconds, where waking threads would cost more than the work.
 * Between jobs the workers watch for the next one for a bounded time, then sleep until there is one. Work is cut as in
 * par.h: by the problem, never by the number of threads.
 */
#ifndef OCT_BASE_TEAM_H
#define OCT_BASE_TEAM_H

#include "autograd/base/par.h"
#include "autograd/base/status.h"

typedef struct oct_team oct_team;

/* *out = a team of `threads` (1..1024), the caller of oct_team_run among them; NULL on failure. Where the system refuses
 * more threads, it has fewer. OCT_ERR_MEMORY. */
OCT_MUST_USE oct_status oct_team_create(oct_team **out, int threads, oct_error *error);
/* Not while a run is under way. NULL is allowed. */
void oct_team_destroy(oct_team *team);

/* Runs fn(arg, 0..count-1, thread), thread in [0, threads), 0 being the caller; returns when all are done. Items with
 * neighbouring numbers go to the same thread where possible, so that what it wrote is still in its cache at the next
 * job of the same cut; a thread that is done takes over items of others. count < 2^31. One run at a time; fn must not
 * call it with the same team. Allocates nothing; takes a lock only to wake workers that sleep. team NULL: a plain loop. */
void oct_team_run(oct_team *team, int64_t count, oct_par_fn *fn, void *arg);

/* Number of threads, 1 for NULL. */
int oct_team_threads(const oct_team *team);
/* Runs fn(arg, t, t) once on each thread t at the same time; returns when all are done. For a sequence of small jobs: the
 * threads walk it together and meet at oct_team_barrier, which costs half of an oct_team_run. */
void oct_team_all(oct_team *team, oct_par_fn *fn, void *arg);
/* Within oct_team_all, called by each thread alike: returns when all threads have called it; what they wrote before is
 * visible after. */
void oct_team_barrier(oct_team *team, int thread);

#endif
