/* SPDX-License-Identifier: BSD-2-Clause
 * The plan: made once per (graph, batch size, mode). It groups nodes into units (one executable step each), decides
 * where every tensor lives in one arena (lifetimes -> offsets, in place where legal), and is then only walked.
 *
 * Fusion belongs here, not to the graph: a fuser looks at a node and may claim it together with nodes before it.
 */
#ifndef OCT_PLAN_H
#define OCT_PLAN_H

#include "autograd/op.h"

enum { OCT_UNIT_NODES = 12 };

/* One or several nodes that run as one step. */
typedef struct oct_unit {
    const oct_exec *exec;
    int32_t node_count;
    int32_t nodes[OCT_UNIT_NODES]; /* members in execution order; the last one's output is the unit's output. Roles
                                    * may be given to slots by the fuser: -1 = slot not used. */
    int32_t last;                  /* node id of the output */
    int32_t input_count;
    int32_t inputs[OCT_MAX_INPUTS]; /* node ids from outside, parameters and buffers included, each at most once */
} oct_unit;

typedef struct oct_fuser {
    const char *name;
    /* Tries to form a unit that ends in `node`. Fills *unit and returns true, or returns false. Members other than
     * the last must have no users outside the unit (oct_graph_users) and not be in `kept` (outputs the caller wants). */
    bool (*match)(const oct_graph *graph, const oct_node *node, const bool *kept, oct_unit *unit);
} oct_fuser;

/* batch_norm [+ add] [+ relu | clip] as one unit; used by every plan that fuses. */
extern const oct_fuser oct_float_fuser;
/* conv2d | linear [+ batch_norm] [+ add] [+ relu | clip] as one unit on folded, packed weights; used by OCT_EVAL plans that
 * fuse, before the one above. */
extern const oct_fuser oct_inference_fuser;

typedef struct oct_plan_options {
    int batch;                /* largest batch */
    oct_mode mode;            /* OCT_TRAIN plans run both ways; OCT_EVAL plans have no backward and need less memory */
    bool no_fuse;             /* node by node, also when the environment says OCT_FUSE=0: float graphs on their kernels,
                               * graphs with ops that only run fused (quantized ones) on the reference executor */
    const oct_value *outputs; /* values wanted after forward; outputs[0] is the loss when mode is OCT_TRAIN */
    int output_count;
} oct_plan_options;

typedef struct oct_plan oct_plan;

/* Makes the plan and allocates its arena. The graph must outlive the plan and must not be rewritten meanwhile. */
OCT_MUST_USE oct_status oct_plan_create(oct_plan **out, oct_graph *graph, const oct_plan_options *options);
void oct_plan_destroy(oct_plan *plan);

/* Input memory: the caller fills `batch` samples of it before forward. NULL when the plan does not need the input. */
void *oct_plan_input(oct_plan *plan, oct_value input);
/* Points an input at the caller's memory instead (kept until changed). */
void oct_plan_bind(oct_plan *plan, oct_value input, const void *data);

/* held: parameters and buffers stay as they are from the next forward on, so that an evaluation plan folds and packs weights
 * once instead of at every forward. They may change again after a call with false. */
void oct_plan_hold(oct_plan *plan, bool held);

/* Runs all units forward for `batch` samples (1..options.batch). */
OCT_MUST_USE oct_status oct_plan_forward(oct_plan *plan, const oct_run *run, int batch);
/* Runs all units backward from outputs[0] with seed gradient `scale`, adding parameter gradients to oct_plan_gradients.
 * Only directly after a forward in OCT_TRAIN. */
OCT_MUST_USE oct_status oct_plan_backward(oct_plan *plan, float scale);

/* Flat gradients, laid out like graph->params; owned by the plan. NULL for OCT_EVAL plans. */
float *oct_plan_gradients(oct_plan *plan);
/* Tensor of a value that the plan materialises: an output, or (for inspection right after forward) any unit output
 * whose memory has not been reused; NULL when it is inside a unit. Borrowed. */
const oct_tensor *oct_plan_tensor(const oct_plan *plan, oct_value value);
/* Calls back after each unit's forward with its output node: for verification and analysis. NULL = off. */
typedef oct_status oct_plan_observer(void *user, const oct_node *node, const oct_tensor *tensor, int batch);
void oct_plan_observe(oct_plan *plan, oct_plan_observer *observer, void *user);

typedef struct oct_plan_info {
    int unit_count;
    size_t arena_bytes;      /* activations, gradients of activations, saved, scratch: the plan's peak */
    size_t activation_bytes; /* of that, the peak of what forward keeps for backward (outputs and saved) */
    size_t gradient_bytes;   /* flat parameter gradients */
    int64_t macs;            /* multiply-accumulates of one forward pass over a full batch */
    int64_t code_macs;       /* of these, the ones that read 8-bit codes: integer arithmetic */
    int64_t backward_macs;   /* of one backward pass, see oct_unit_time; 0 for OCT_EVAL plans */
} oct_plan_info;
oct_plan_info oct_plan_describe(const oct_plan *plan);
/* One line per unit (name, step, shape, bytes, MACs), then the totals, through `line`. */
void oct_plan_print(const oct_plan *plan, void (*line)(void *user, const char *text), void *user);

/* Time and work of one unit. MACs come from the nodes' oct_op.macs. Backward counts as many again for each of a node's
 * operands (inputs 0 and 1: x and w of a convolution) that wants a gradient: none for the image under the first layer,
 * none where nothing is trained. */
typedef struct oct_unit_time {
    const oct_node *node;      /* its output */
    const oct_node *main;      /* the member with the most MACs; NULL when no member has any */
    const char *step;          /* exec->name */
    double forward, backward;  /* seconds: medians over the remembered runs; 0 where nothing has run */
    int64_t macs, backward_macs; /* of one sample */
    bool on_codes;             /* forward reads 8-bit codes of another unit: its MACs are integer ones */
    size_t bytes;              /* that forward must at least move for a full batch: each input (parameters too) read
                                * once, the output written once; 0 for views */
} oct_unit_time;

/* From now on the times of the last `runs` runs (1..2^20) are remembered, the older ones forgotten; 0 = off. A run is a
 * forward and the backward that follows it, if any. Profiling costs two clock readings per unit and direction. Plans that
 * run on the reference executor have no units and no times. */
OCT_MUST_USE oct_status oct_plan_profile(oct_plan *plan, int runs);
/* One entry per unit in execution order, computed now, valid until the next call of either; NULL while off. */
const oct_unit_time *oct_plan_times(const oct_plan *plan, int *count);

#endif
