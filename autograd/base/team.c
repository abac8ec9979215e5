/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/base/team.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "autograd/base/memory.h"

enum {
    MOST_THREADS = 1024,
    SPINS = 2000,      /* looks at the job before sleeping: some 30 to 80 microseconds */
    PATIENT_SPINS = 200 /* looks at unfinished work before giving the processor away */
};

/* One thread's share of a job. Items next..end-1 are to be taken, as end << 32 | next in one word: taking one is one
 * addition, and an addition that comes too late, after the last item or into the next job, is harmless or takes a valid item
 * of that. fn and arg stay as they are while an item is unfinished. Everything a worker waits for and needs lies in one cache
 * line: moving a line between two cores takes as long as a small layer. Others take items by comparing and exchanging. */
typedef struct share {
    _Alignas(64) _Atomic uint64_t items;
    oct_par_fn *fn;
    void *arg;
    _Alignas(64) _Atomic uint64_t done; /* items that this thread has finished, ever */
    _Alignas(64) _Atomic uint64_t phase; /* barriers that this thread has reached, ever */
} share;

typedef struct worker {
    oct_team *team;
    int index;
    pthread_t thread;
} worker;

struct oct_team {
    int threads;
    share *shares;
    worker *workers; /* 1 .. threads-1 */
    uint64_t posted; /* items, ever */
    _Alignas(64) _Atomic int sleeping;
    bool stop; /* under the lock */
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* In the word of a share whose items nobody else may take. */
#define OWN (UINT64_C(1) << 63)

static bool has_items(uint64_t items)
{
    return (uint32_t)items < (items & ~OWN) >> 32;
}

/* The next item of a share, -1 when there is none for this thread. Other threads' items are taken only if the word has not
 * changed since it was looked at. */
static int64_t take(share *s, bool own)
{
    uint64_t items = atomic_load_explicit(&s->items, memory_order_relaxed);
    while (has_items(items)) {
        if (own) {
            items = atomic_fetch_add_explicit(&s->items, 1, memory_order_acquire);
            return has_items(items) ? (int64_t)(uint32_t)items : -1;
        }
        if (items & OWN) return -1;
        if (atomic_compare_exchange_weak_explicit(&s->items, &items, items + 1, memory_order_acquire, memory_order_relaxed))
            return (int64_t)(uint32_t)items;
    }
    return -1;
}

/* Own items first, then what others have left. */
static void take_part(oct_team *team, int index)
{
    uint64_t done = 0;
    for (int i = 0; i < team->threads; i++) {
        share *s = &team->shares[(index + i) % team->threads];
        for (int64_t item; (item = take(s, i == 0)) >= 0; done++) s->fn(s->arg, item, index);
    }
    _Atomic uint64_t *total = &team->shares[index].done;
    if (done) atomic_store_explicit(total, atomic_load_explicit(total, memory_order_relaxed) + done, memory_order_release);
}

/* Waits for items of its own; false when the team stops. */
static bool wait_for_job(oct_team *team, share *own)
{
    for (int i = 0; i < SPINS; i++) {
        if (has_items(atomic_load_explicit(&own->items, memory_order_acquire))) return true;
        relax();
    }
    pthread_mutex_lock(&team->lock);
    atomic_fetch_add(&team->sleeping, 1);
    while (!team->stop && !has_items(atomic_load(&own->items))) pthread_cond_wait(&team->wake, &team->lock);
    atomic_fetch_sub(&team->sleeping, 1);
    bool go_on = !team->stop;
    pthread_mutex_unlock(&team->lock);
    return go_on;
}

static void *work(void *arg)
{
    const worker *w = arg;
    while (wait_for_job(w->team, &w->team->shares[w->index])) take_part(w->team, w->index);
    return NULL;
}

oct_status oct_team_create(oct_team **out, int threads, oct_error *error)
{
    *out = NULL;
    if (threads < 1 || threads > MOST_THREADS)
        return oct_fail(error, OCT_ERR_ARGUMENT, "team of %d threads, expected 1..%d", threads, MOST_THREADS);
    oct_team *team = oct_calloc(1, sizeof *team);
    if (team) {
        team->shares = oct_calloc((size_t)threads, sizeof *team->shares);
        team->workers = oct_calloc((size_t)threads, sizeof *team->workers);
    }
    if (!team || !team->shares || !team->workers) {
        if (team) oct_free(team->shares);
        if (team) oct_free(team->workers);
        oct_free(team);
        return oct_fail(error, OCT_ERR_MEMORY, "out of memory: team of %d threads", threads);
    }
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    int started = 1;
    for (; started < threads; started++) {
        worker *w = &team->workers[started];
        *w = (worker){.team = team, .index = started};
        if (pthread_create(&w->thread, NULL, work, w)) break;
    }
    team->threads = started; /* workers read it when they have items, which come later */
    *out = team;
    return OCT_OK;
}

static void wake_sleepers(oct_team *team, bool stop)
{
    pthread_mutex_lock(&team->lock);
    team->stop |= stop;
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
}

void oct_team_destroy(oct_team *team)
{
    if (!team) return;
    wake_sleepers(team, true);
    for (int i = 1; i < team->threads; i++) pthread_join(team->workers[i].thread, NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->lock);
    oct_free(team->workers);
    oct_free(team->shares);
    oct_free(team);
}

static uint64_t finished(oct_team *team)
{
    uint64_t sum = 0;
    for (int t = 0; t < team->threads; t++) sum += atomic_load_explicit(&team->shares[t].done, memory_order_acquire);
    return sum;
}

static void patience(int i)
{
    if (i < PATIENT_SPINS)
        relax();
    else
        sched_yield();
}

/* Thread t gets items count*t/threads .. count*(t+1)/threads - 1. */
static void post(oct_team *team, int64_t count, uint64_t flags, oct_par_fn *fn, void *arg)
{
    for (int64_t t = team->threads - 1; t >= 0; t--) {
        share *s = &team->shares[t];
        uint64_t next = (uint64_t)(count * t / team->threads), end = (uint64_t)(count * (t + 1) / team->threads);
        s->fn = fn;
        s->arg = arg;
        atomic_store_explicit(&s->items, flags | end << 32 | next, memory_order_release);
    }
    /* Orders the stores above before this load, as the lock does for a worker that goes to sleep: one sees the other. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&team->sleeping)) wake_sleepers(team, false);
    take_part(team, 0);
    team->posted += (uint64_t)count;
    for (int i = 0; finished(team) != team->posted; i++) patience(i);
}

void oct_team_run(oct_team *team, int64_t count, oct_par_fn *fn, void *arg)
{
    if (!team || team->threads == 1 || count < 2) {
        for (int64_t i = 0; i < count; i++) fn(arg, i, 0);
        return;
    }
    post(team, count, 0, fn, arg);
}

int oct_team_threads(const oct_team *team)
{
    return team ? team->threads : 1;
}

void oct_team_all(oct_team *team, oct_par_fn *fn, void *arg)
{
    if (oct_team_threads(team) == 1)
        fn(arg, 0, 0);
    else
        post(team, team->threads, OWN, fn, arg);
}

void oct_team_barrier(oct_team *team, int thread)
{
    if (oct_team_threads(team) == 1) return;
    uint64_t phase = atomic_load_explicit(&team->shares[thread].phase, memory_order_relaxed) + 1;
    atomic_store_explicit(&team->shares[thread].phase, phase, memory_order_release);
    for (int t = 0; t < team->threads; t++)
        for (int i = 0; atomic_load_explicit(&team->shares[t].phase, memory_order_acquire) < phase; i++) patience(i);
}
