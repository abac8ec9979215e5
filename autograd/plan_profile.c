/* SPDX-License-Identifier: BSD-2-Clause
 * Time and work of a plan's units: what a step costs, for whoever wants to make it faster. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "autograd/base/memory.h"
#include "autograd/plan_internal.h"
#include "autograd/step.h"

enum { MAX_RUNS = 1 << 20 };

typedef struct oct_stopwatch {
    int64_t started;      /* runs so far; run r is kept in column r mod capacity */
    int capacity;         /* runs that are remembered */
    double *seconds;      /* [units][2 directions][capacity] */
    double *sorted;       /* [capacity], for the median */
    oct_unit_time *times; /* [units] */
} oct_stopwatch;

void oct_stopwatch_destroy(oct_stopwatch *p)
{
    if (!p) return;
    oct_free(p->seconds);
    oct_free(p->sorted);
    oct_free(p->times);
    oct_free(p);
}

/* --- work --- */

/* Operands of the node's multiplications that want a gradient. */
static int wanted_gradients(const oct_plan *plan, const oct_node *n)
{
    int wanted = 0;
    for (int i = 0; i < n->input_count && i < 2; i++)
        wanted += plan->needs_grad[n->inputs[i]] && !(n->op->no_gradient >> i & 1);
    return wanted;
}

static size_t storage_bytes(oct_storage storage)
{
    return storage == OCT_STORE_U8 ? 1 : 4;
}

static size_t least_bytes(const oct_plan *plan, const oct_planned *u)
{
    const int batch = plan->options.batch;
    if (u->view_shared) return 0;
    size_t bytes = oct_node_elements(u->step.node, batch) * storage_bytes(u->out.storage);
    for (int i = 0; i < u->unit.input_count; i++)
        bytes += oct_node_elements(oct_unit_input(plan, u, i), batch) * storage_bytes(u->step.in[i]->storage);
    return bytes;
}

oct_unit_time oct_unit_work(const oct_plan *plan, const oct_planned *u)
{
    int64_t most = 0;
    oct_unit_time t = {.node = u->step.node, .step = u->unit.exec->name, .bytes = least_bytes(plan, u)};
    for (int m = 0; m < u->unit.node_count; m++) {
        if (u->unit.nodes[m] < 0) continue;
        const oct_node *n = plan->graph->nodes[u->unit.nodes[m]];
        int64_t macs = n->op->macs ? n->op->macs(plan->graph, n) : 0;
        t.macs += macs;
        if (u->runs_backward) t.backward_macs += macs * wanted_gradients(plan, n);
        if (macs > most) {
            most = macs;
            t.main = n;
        }
    }
    t.on_codes = u->unit.input_count && u->step.in[0]->storage == OCT_STORE_U8 &&
                 oct_unit_input(plan, u, 0)->kind == OCT_NODE_OP;
    return t;
}

/* --- time --- */

oct_status oct_plan_profile(oct_plan *plan, int runs)
{
    if (runs < 0 || runs > MAX_RUNS)
        return oct_fail(&plan->ctx->error, OCT_ERR_ARGUMENT, "profile: %d runs, expected 0..%d", runs,
                        MAX_RUNS);
    oct_stopwatch_destroy(plan->profile);
    plan->profile = NULL;
    if (!runs) return OCT_OK;
    oct_stopwatch *p = oct_calloc(1, sizeof *p);
    size_t units = (size_t)plan->unit_count, columns = (size_t)runs;
    if (!p) return oct_out_of_memory(plan->ctx, "profile");
    p->capacity = runs;
    p->seconds = oct_calloc(2 * units * columns + 1, sizeof *p->seconds);
    p->sorted = oct_calloc(columns, sizeof *p->sorted);
    p->times = oct_calloc(units + 1, sizeof *p->times);
    if (!p->seconds || !p->sorted || !p->times) {
        oct_stopwatch_destroy(p);
        return oct_out_of_memory(plan->ctx, "profile");
    }
    plan->profile = p;
    return OCT_OK;
}

static double *cell(const oct_stopwatch *p, int unit, bool backward, int64_t run)
{
    return p->seconds + (2 * (size_t)unit + backward) * (size_t)p->capacity + (size_t)(run % p->capacity);
}

void oct_stopwatch_next_run(oct_plan *plan)
{
    oct_stopwatch *p = plan->profile;
    if (!p) return;
    for (int u = 0; u < plan->unit_count; u++)
        *cell(p, u, false, p->started) = *cell(p, u, true, p->started) = 0;
    p->started++;
}

double oct_stopwatch_now(const oct_plan *plan)
{
    struct timespec t;
    if (!plan->profile) return 0;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void oct_stopwatch_add(oct_plan *plan, int index, bool backward, double start)
{
    /* Nothing is remembered of a backward whose forward ran before profiling was turned on. */
    oct_stopwatch *p = plan->profile;
    if (p && p->started) *cell(p, index, backward, p->started - 1) = oct_stopwatch_now(plan) - start;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(oct_stopwatch *p, int unit, bool backward)
{
    size_t n = (size_t)(p->started < p->capacity ? p->started : p->capacity);
    if (!n) return 0;
    memcpy(p->sorted, cell(p, unit, backward, 0), n * sizeof *p->sorted);
    qsort(p->sorted, n, sizeof *p->sorted, ascending);
    return (p->sorted[(n - 1) / 2] + p->sorted[n / 2]) / 2;
}

const oct_unit_time *oct_plan_times(const oct_plan *plan, int *count)
{
    oct_stopwatch *p = plan->profile;
    *count = p ? plan->unit_count : 0;
    for (int u = 0; u < *count; u++) {
        p->times[u] = oct_unit_work(plan, &plan->units[u]);
        p->times[u].forward = median(p, u, false);
        p->times[u].backward = median(p, u, true);
    }
    return p ? p->times : NULL;
}
