/* SPDX-License-Identifier: BSD-2-Clause
 * The graph: a model as data. Nodes in execution order, each with a unique name, an op, attributes, inputs, and one
 * output tensor. Parameters and buffers (running statistics, ranges) are nodes too, so a weight may feed several
 * nodes and a pass may put a node between a weight and its user.
 *
 *   parameter w ─┐
 *   input x ──── conv2d ── batch_norm ── relu ── ...            one oct_node each; an oct_value names a node's output
 *
 * Builders never need checking one by one: a builder that fails leaves the error in the graph's context, returns an
 * invalid value, and every later builder call is a no-op; the next call that returns a status reports it.
 * Not thread-safe: one thread at a time per graph.
 */
#ifndef OCT_GRAPH_H
#define OCT_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/ctx.h"

#define OCT_BATCH (-1) /* the dimension that is only known when a plan is made */
enum { OCT_MAX_RANK = 4, OCT_MAX_INPUTS = 12 };

typedef enum oct_dtype { OCT_F32, OCT_U8, OCT_I32 } oct_dtype;

typedef struct oct_shape {
    int32_t rank;              /* 0 = scalar */
    int32_t dim[OCT_MAX_RANK]; /* activations: {OCT_BATCH, height, width, channels} or {OCT_BATCH, features} */
} oct_shape;

#define OCT_SHAPE(...)                                                              \
    ((oct_shape){.rank = (int32_t)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), \
                 .dim = {__VA_ARGS__}})

/* Elements of one sample (the batch dimension counts as 1); 0 on overflow of 2^31-1. */
size_t oct_shape_sample(const oct_shape *shape);
bool oct_shape_equal(const oct_shape *a, const oct_shape *b);
/* "[N,32,32,3]" into text; returns text. */
enum { OCT_SHAPE_TEXT = 64 };
char *oct_shape_text(char text[OCT_SHAPE_TEXT], const oct_shape *shape);

/* Names the output of a node. Stays valid through passes that insert nodes. */
typedef struct oct_value {
    int32_t id; /* < 0: invalid */
} oct_value;

typedef enum oct_node_kind {
    OCT_NODE_INPUT,     /* fed from outside at each run */
    OCT_NODE_PARAMETER, /* trained; lives in the flat parameter array */
    OCT_NODE_BUFFER,    /* state that is saved but not trained; lives in the flat buffer array */
    OCT_NODE_OP
} oct_node_kind;

typedef struct oct_node {
    int32_t id;
    oct_node_kind kind;
    const char *name;         /* "stage2/block1/conv1"; unique */
    const struct oct_op *op;  /* NULL unless OCT_NODE_OP */
    const void *attrs;        /* op->attr_bytes bytes; NULL when there are none */
    oct_dtype dtype;
    oct_shape shape;          /* of the output */
    int32_t input_count;
    int32_t inputs[OCT_MAX_INPUTS]; /* node ids */
    size_t offset;            /* parameter, buffer: first element in its flat array */
    size_t count;             /* parameter, buffer: elements */
} oct_node;

/* How a parameter starts. */
typedef enum oct_init_kind { OCT_INIT_ZERO, OCT_INIT_ONE, OCT_INIT_NORMAL, OCT_INIT_UNIFORM } oct_init_kind;
typedef struct oct_init {
    oct_init_kind kind;
    float scale; /* normal: standard deviation; uniform: half width */
} oct_init;

/* One flat array with named views (the nodes' offset and count); 64-byte aligned, views start at multiples of 16
 * elements, the gaps hold zeros. */
typedef struct oct_flat {
    float *data;
    size_t count, capacity;
} oct_flat;

/* A rewrite of several nodes into one executable step; see autograd/plan.h. */
struct oct_fuser;

typedef struct oct_graph {
    oct_ctx *ctx;
    oct_node **nodes;      /* by id; never moved or freed before the graph */
    int32_t *order;        /* node ids in execution order */
    int32_t node_count, node_capacity;
    oct_flat params, buffers;
    uint64_t seed;         /* of parameter initialisation */
    int32_t param_nodes;   /* parameters so far: the sample index of the next initialisation stream */
    bool failed;           /* a builder failed: the message is in ctx->error */
    const struct oct_fuser *fusers[4];
    int32_t fuser_count;
    struct oct_arena *arena;
} oct_graph;

/* --- building --- */

OCT_MUST_USE oct_status oct_graph_create(oct_graph **out, oct_ctx *ctx, uint64_t seed);
void oct_graph_destroy(oct_graph *graph); /* NULL is allowed */

oct_value oct_input(oct_graph *graph, const char *name, oct_dtype dtype, oct_shape shape);
oct_value oct_parameter(oct_graph *graph, const char *name, oct_shape shape, oct_init init);
oct_value oct_buffer(oct_graph *graph, const char *name, oct_shape shape, float value);
/* Appends an op node. `attrs` (op->attr_bytes bytes) is copied; NULL only when the op has none. The op's shape rule
 * runs here: shape errors surface at the line that made them. */
oct_value oct_op_append(oct_graph *graph, const struct oct_op *op, const char *name, const void *attrs,
                        const oct_value *inputs, int input_count);

/* OCT_OK, or the first builder's failure. */
OCT_MUST_USE oct_status oct_graph_status(const oct_graph *graph);
/* Marks the graph failed with a message, for builders; returns the invalid value. */
oct_value oct_graph_fail(oct_graph *graph, oct_status status, const char *format, ...) OCT_PRINTF(3, 4);

/* --- looking --- */

const oct_node *oct_graph_node(const oct_graph *graph, oct_value value); /* NULL when invalid */
oct_value oct_graph_find(const oct_graph *graph, const char *name);      /* id < 0 when there is none */
/* Node ids that read `value`, in execution order, into users[0..max); returns how many there are. */
int oct_graph_users(const oct_graph *graph, oct_value value, int32_t *users, int max);
/* View of a parameter or buffer. Borrowed; moves when nodes are added. */
float *oct_graph_data(oct_graph *graph, oct_value value, size_t *count);

/* --- rewriting, for passes --- */

/* Inserts a node into the execution order right behind node `after` (all its inputs must come before or be it). */
oct_value oct_op_insert(oct_graph *graph, oct_value after, const struct oct_op *op, const char *name,
                        const void *attrs, const oct_value *inputs, int input_count);
/* The same for a buffer. */
oct_value oct_buffer_insert(oct_graph *graph, oct_value after, const char *name, oct_shape shape, float value);
/* Makes `user` read `replacement` at input `slot`. Shapes must agree. */
OCT_MUST_USE oct_status oct_graph_rewire(oct_graph *graph, oct_value user, int slot, oct_value replacement);
/* Replaces op, attributes and inputs of a node in place (name, id and position stay). The shape rule runs again and
 * must give the same shape. Inputs must come before the node in execution order. */
OCT_MUST_USE oct_status oct_graph_replace(oct_graph *graph, oct_value node, const struct oct_op *op,
                                          const void *attrs, const oct_value *inputs, int input_count);
/* Moves a parameter or buffer right behind `after` in execution order when it comes later; any other node that comes
 * later is an error. Lets a pass read a statistic in front of the layer that declared it. */
OCT_MUST_USE oct_status oct_graph_hoist(oct_graph *graph, oct_value node, oct_value after);
/* Gives a node another name, which no other node has. OCT_ERR_ARGUMENT when it is taken or no name. */
OCT_MUST_USE oct_status oct_graph_rename(oct_graph *graph, oct_value node, const char *name);
/* Registers a fuser (once; registering again does nothing). */
OCT_MUST_USE oct_status oct_graph_add_fuser(oct_graph *graph, const struct oct_fuser *fuser);

#endif
