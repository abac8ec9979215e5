/* SPDX-License-Identifier: BSD-2-Clause
 * What the parts of the planner share: plan.c (create, run, print), plan_units.c (grouping), plan_memory.c (lifetimes and
 * offsets), plan_profile.c (time and work of units), plan_reference.c (node by node in double).
 *
 * Time: inputs exist at 0, unit u runs forward at u+1 and backward at 2U-u (U units), 2U+1 is after everything. A block
 * of memory is live over a closed interval of times; blocks whose intervals meet must not overlap in the arena.
 */
#ifndef OCT_PLAN_INTERNAL_H
#define OCT_PLAN_INTERNAL_H

#include "autograd/plan.h"

typedef struct oct_block {
    size_t bytes;
    int start, end;   /* closed interval; end < start: never needed */
    size_t offset;    /* in the arena */
    int root;         /* shares the memory of this block; itself when it is its own */
} oct_block;

/* Block indices of a unit; -1 = none. */
typedef struct oct_unit_memory {
    int out, d_out, saved, scratch_forward, scratch_backward;
    int decoded;      /* float copy of `out` for consumers that do not take codes */
    int sums, d_sums; /* out.sums, d_out.sums */
    int prepared;     /* step.prepared */
} oct_unit_memory;

typedef struct oct_planned {
    oct_unit unit;
    oct_unit_memory memory;
    oct_step step;
    oct_tensor out, d_out, decoded;
    bool runs_backward;
    bool is_prepared; /* step.prepared is up to date */
    bool view_shared, view_shared_backward; /* a view whose memory really is its input's */
} oct_planned;

struct oct_plan {
    oct_graph *graph;
    oct_ctx *ctx;
    oct_f32_kernels f32;
    oct_plan_options options;
    int threads;
    int32_t *outputs;        /* node ids, output_count of them */
    bool *kept;              /* by node id: wanted by the caller */
    bool *live;              /* by node id: a wanted output depends on it */
    oct_planned *units;
    int unit_count;
    int *unit_of;            /* by node id: unit whose output it is, or -1 */
    bool *needs_grad;        /* by node id */
    oct_tensor *leaves;      /* by node id: inputs, parameters, buffers */
    oct_tensor *leaf_grads;  /* by node id: parameters */
    oct_block *blocks;
    int block_count;
    unsigned char *arena;
    size_t arena_bytes, activation_bytes;
    float *gradients;
    void **input_storage;    /* by node id: our memory of an input */
    bool held;               /* oct_plan_hold */
    oct_run run;
    int last_batch;          /* of the last training forward; 0 = backward is not allowed */
    oct_plan_observer *observer;
    void *observer_user;
    struct oct_stopwatch *profile; /* NULL while profiling is off (plan_profile.c) */
    struct oct_reference *reference; /* runs everything instead of units when not NULL (plan_reference.c) */
    oct_tensor *reference_outputs;   /* per wanted output */
};

/* plan_reference.c: plans whose graph cannot run node by node on float kernels. */
bool oct_plan_needs_reference(const oct_plan *plan);
OCT_MUST_USE oct_status oct_plan_reference_create(oct_plan *plan);
void oct_plan_reference_destroy(oct_plan *plan);
OCT_MUST_USE oct_status oct_plan_reference_forward(oct_plan *plan, int batch);
OCT_MUST_USE oct_status oct_plan_reference_backward(oct_plan *plan, float scale);

/* plan_profile.c. The work of a unit, all but the times. */
oct_unit_time oct_unit_work(const oct_plan *plan, const oct_planned *u);
/* A forward starts. Like the next two it does nothing while profiling is off. */
void oct_stopwatch_next_run(oct_plan *plan);
double oct_stopwatch_now(const oct_plan *plan);
/* Unit `index` took from `start` until now. */
void oct_stopwatch_add(oct_plan *plan, int index, bool backward, double start);
void oct_stopwatch_destroy(struct oct_stopwatch *profile); /* NULL is allowed */

/* plan_units.c: fills units, unit_count, unit_of. */
OCT_MUST_USE oct_status oct_plan_make_units(oct_plan *plan);
/* plan_memory.c: fills blocks, memory indices, arena sizes, accumulate flags, tensors. */
OCT_MUST_USE oct_status oct_plan_make_memory(oct_plan *plan);

/* Unit input i as a node. */
static inline const oct_node *oct_unit_input(const oct_plan *plan, const oct_planned *u, int i)
{
    return plan->graph->nodes[u->unit.inputs[i]];
}

#endif
