/* SPDX-License-Identifier: BSD-2-Clause
 * Op descriptors: everything the engine knows about an operation, in one constant struct. A user's own op is one more
 * such struct. Ops are identified by name in files, never by number.
 *
 * An op is executed in two ways:
 *   - by a plan (autograd/plan.h): float kernels, fused, parallel, in an arena: `exec`;
 *   - by the reference executor (autograd/reference.h): plain loops in double, one node at a time: `reference`.
 * The two share no arithmetic: the second is the witness for the first.
 */
#ifndef OCT_OP_H
#define OCT_OP_H

#include <math.h>

#include "autograd/graph.h"
#include "autograd/kernels/f32_kernels.h"

/* --- attributes: plain structs, described so that files and printouts need no code per op --- */

/* OCT_ATTR_CHOICE: an int32_t added later; 0 is what was there before, and files leave it out. */
typedef enum oct_attr_type { OCT_ATTR_INT /* int32_t */, OCT_ATTR_FLOAT /* float */, OCT_ATTR_CHOICE } oct_attr_type;
typedef struct oct_attr {
    const char *name;
    oct_attr_type type;
    size_t offset; /* offsetof in the attribute struct */
    int count;     /* array elements */
} oct_attr;

/* --- what a run is --- */

typedef enum oct_mode {
    OCT_EVAL, /* running statistics, frozen ranges, no state changes */
    OCT_TRAIN /* batch statistics unless frozen, ranges observed unless frozen, what backward needs is kept */
} oct_mode;

typedef struct oct_run {
    oct_mode mode;
    int bn_frozen;    /* batch norm uses running statistics and leaves them alone, also in OCT_TRAIN */
    int range_frozen; /* activation ranges stay as they are, also in OCT_TRAIN */
    uint64_t seed;    /* of dropout and of the histogram's subsampling phase */
    uint64_t step;    /* training step, part of the random key */
} oct_run;

/* --- execution by a plan --- */

/* How the elements of an activation are stored. */
typedef enum oct_storage {
    OCT_STORE_F32,
    OCT_STORE_U8,   /* pixels, or codes of a quantized activation (see exponent, is_signed) */
    OCT_STORE_I32,  /* labels */
    OCT_STORE_AFFINE /* floats in front of a per-channel affine and a clamp (see affine): the value itself is not made */
} oct_storage;

/* value = clamp(y*a[c] + b[c], lo, hi), rounded like oct_f32_kernels.affine_clamp; c: channel of the element. */
typedef struct oct_affine {
    const float *a, *b;
    float lo, hi;
    const float *mean; /* of y, rounded: what bn_masked_sums takes */
} oct_affine;

/* A gradient that is not made: of y, where dz is the gradient of z = y*a[c] + b[c] behind the clamp (mask.a NULL: dz is
 * final):   dy = p[c]*(lo < z < hi ? dz : 0) + q[c]*y + r[c]        (bn_masked_apply, bn_backward_apply) */
typedef struct oct_lazy_gradient {
    const float *y, *p, *q, *r;
    oct_affine mask;
} oct_lazy_gradient;

/* Per-channel sums of a float activation in double, from the step that made it: chunks x channels each, to be added in
 * order. chunks 0: there are none in this run. */
typedef struct oct_partial_sums {
    double *sum, *square;
    int chunks;
} oct_partial_sums;
enum { OCT_SUM_CHUNKS = 32 };

typedef struct oct_tensor {
    void *data;          /* NULL for gradients that nobody needs */
    size_t sample;       /* elements per sample; parameters and buffers: all elements */
    oct_storage storage;
    /* Codes: real = (code - zero_point)*scale, set by the producing step's forward. */
    float scale;
    int zero_point;      /* 0 where the scale is a power of two */
    int exponent;        /* scale = 2^-exponent; 0 for other scales */
    int is_signed;       /* s8 instead of u8 */
    int on_grid;         /* the above are valid */
    oct_affine affine;   /* OCT_STORE_AFFINE: set by the producing step's forward */
    /* sum not NULL: wanted; the step that makes the tensor fills them. Of a value: sums and squares. Of the gradient of a
     * lazy value: sum and dot of bn_masked_sums, final when there is one reader alone. */
    oct_partial_sums sums;
    const oct_lazy_gradient *gradient; /* of a gradient: not NULL when data holds dz instead (set by the reader) */
} oct_tensor;

static inline void oct_tensor_copy_grid(oct_tensor *to, const oct_tensor *from)
{
    to->scale = from->scale;
    to->zero_point = from->zero_point;
    to->exponent = from->exponent;
    to->is_signed = from->is_signed;
    to->on_grid = from->on_grid;
}

/* Everything one executable step sees: nodes, tensors, kernels, memory. Made by the plan, one per unit. */
typedef struct oct_step {
    oct_ctx *ctx;                     /* threads; error message of a failing step */
    const oct_f32_kernels *f32;
    const oct_graph *graph;
    const struct oct_unit *unit;      /* nodes of this step */
    const oct_node *node;             /* the unit's last node: its output is `out` */
    const oct_run *run;
    int batch;                        /* samples in this run, <= the plan's batch size */
    int input_count;
    oct_tensor *in[OCT_MAX_INPUTS];   /* the unit's inputs in order (for a single node: its inputs) */
    oct_tensor *d_in[OCT_MAX_INPUTS]; /* gradients to write; NULL where none is needed */
    int accumulate[OCT_MAX_INPUTS];   /* d_in[i]: 0 = overwrite, 1 = add */
    oct_tensor *out, *d_out;
    bool lazy_out;                    /* exec->lazy: leave out as an affine of in[0], whose memory it shares */
    bool lazy_d_in;                   /* exec->lazy: leave d_in[0] as d_in[0]->gradient; its data is d_out's */
    void *saved;                      /* bytes asked for by saved_bytes: forward writes, backward reads */
    void *prepared;                   /* bytes asked for by prepared_bytes: prepare writes, forward reads */
    void *scratch;                    /* bytes asked for by scratch_bytes: contents undefined at entry */
} oct_step;

/* Bits for oct_exec.backward_reads. */
#define OCT_READS_INPUT(i) (1u << (i))
#define OCT_READS_OUTPUT (1u << 31)

typedef struct oct_exec {
    const char *name; /* printed by --print-plan: "conv2d", "bn+relu" */
    /* Fails only for what could not be known before: non-finite data. `run->mode` decides what is kept. */
    oct_status (*forward)(oct_step *step);
    /* Writes step->prepared from parameters and buffers alone; called before forward, once while the plan is held
     * (oct_plan_hold). Has the scratch of forward. NULL = nothing to prepare. */
    oct_status (*prepare)(oct_step *step);
    /* Called in reverse order with d_out complete. Writes (or adds to) every d_in[i] that is not NULL. NULL = the op
     * has no gradient. */
    oct_status (*backward)(oct_step *step);
    uint32_t backward_reads; /* which of in[i]->data and out->data must still be there at backward */
    /* out may share its memory with in[0] when nobody else needs in[0] any more. */
    bool inplace;
    /* d_in[0] may share its memory with d_out. */
    bool inplace_backward;
    /* out is in[0] under another shape: no memory, no forward work (forward may be NULL). */
    bool view;
    oct_storage out_storage;
    /* Bit i: in[i] may be codes (OCT_STORE_U8 on a grid). Other inputs are converted to float before the step. */
    uint32_t accepts_codes;
    /* Bit i: in[i] may be OCT_STORE_AFFINE. */
    uint32_t accepts_affine;
    /* Is a batch norm: may leave its output and the gradient of in[0] unmade, when the plan says so in the step. */
    bool lazy_out, lazy_d_in;
    /* d_out may be lazy; out->sums are filled when wanted. */
    bool takes_lazy_gradient, makes_sums;
    /* Wants in[0]->sums in training. */
    bool wants_sums;
    /* Bytes for a batch; NULL = 0. threads is what oct_parallel_for will use. */
    size_t (*saved_bytes)(const oct_graph *graph, const struct oct_unit *unit, int batch, int threads);
    size_t (*prepared_bytes)(const oct_graph *graph, const struct oct_unit *unit);
    size_t (*scratch_bytes)(const oct_graph *graph, const struct oct_unit *unit, int batch, int threads, bool backward);
} oct_exec;

/* --- execution by the reference --- */

/* Grid of a value in the reference: real = (code - zero_point)*scale, and where scales are powers of two scale =
 * 2^-exponent. Weights may have one per output channel. */
typedef struct oct_grid {
    int count;           /* 0 = not on a grid, 1 = one scale, else one per channel */
    const int *exponent;
    int is_signed;
    const double *scale; /* NULL: 2^-exponent */
    int zero_point;
} oct_grid;

static inline double oct_grid_scale(const oct_grid *grid, size_t channel)
{
    size_t i = grid->count > 1 ? channel : 0;
    return grid->scale ? grid->scale[i] : ldexp(1, -grid->exponent[i]);
}

typedef struct oct_ref {
    oct_ctx *ctx;
    const oct_node *node;
    const oct_node *in_node[OCT_MAX_INPUTS];
    const oct_run *run;
    int batch;
    double *in[OCT_MAX_INPUTS];         /* buffers may be written (running statistics); all else is const */
    double *out;
    const double *d_out;                /* backward */
    double *d_in[OCT_MAX_INPUTS];       /* backward: add to them; NULL where none is needed */
    const oct_grid *in_grid[OCT_MAX_INPUTS];
    oct_grid *grid;                     /* of out; ops that put values on a grid fill it (see oct_ref_set_grid) */
    int *grid_exponents;                /* room for `channels of the node's shape` exponents */
    double *grid_scales;                /* and scales */
    const oct_graph *graph;
    const oct_grid *(*grid_of)(const struct oct_ref *ref, int32_t node); /* of any node computed before */
    const double *(*value_of)(const struct oct_ref *ref, int32_t node);
    struct oct_reference *reference;
    double *saved;                      /* saved_count doubles from forward to backward */
} oct_ref;

typedef struct oct_reference_ops {
    oct_status (*forward)(oct_ref *ref);
    oct_status (*backward)(oct_ref *ref); /* NULL = no gradient */
    size_t (*saved_count)(const oct_node *node); /* doubles kept from forward to backward; NULL = 0 */
    bool keeps_grid;                      /* out has the grid of in[0] (max pool, flatten) */
} oct_reference_ops;

typedef struct oct_op {
    const char *name;     /* "conv2d" */
    const char *equation; /* one line for people */
    size_t attr_bytes;
    const oct_attr *attrs;
    int attr_count;
    int min_inputs, max_inputs;
    uint32_t no_gradient; /* bit i: input i never gets a gradient (labels, buffers, grids) */
    /* Shape rule: checks inputs and attributes, sets node->shape and node->dtype; message through oct_fail on
     * graph->ctx->error naming node->name. */
    oct_status (*infer)(const oct_graph *graph, oct_node *node);
    /* Multiply-accumulates of one sample; NULL = 0. */
    int64_t (*macs)(const oct_graph *graph, const oct_node *node);
    oct_exec exec;
    oct_reference_ops reference;
} oct_op;

/* Built-in op by name, NULL when unknown (quant/ has its own, see quant/ops.h). */
const oct_op *oct_op_find(const char *name);

/* Input node i of a node. */
const oct_node *oct_node_input(const oct_graph *graph, const oct_node *node, int i);

#endif
