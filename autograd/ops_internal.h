/* SPDX-License-Identifier: BSD-2-Clause
 * What the files of the built-in float ops share beyond autograd/step.h and autograd/conv.h: checks of shape rules, the
 * inside of convolution, batch norm.
 */
#ifndef OCT_OPS_INTERNAL_H
#define OCT_OPS_INTERNAL_H

#include <math.h>

#include "autograd/conv.h"
#include "autograd/step.h"

/* --- shape rules (ops_common.c): each returns OCT_ERR_SHAPE or OCT_ERR_ARGUMENT with a message naming the
 * node --- */

/* Marks a rule's failure: "conv2d 'stem/conv': ...". */
oct_status oct_rule_fail(const oct_graph *graph, const oct_node *node, oct_status status, const char *format,
                         ...) OCT_PRINTF(4, 5);
/* Input i holds floats. `role` is for people: "x", "weights". */
OCT_MUST_USE oct_status oct_rule_float(const oct_graph *graph, const oct_node *node, int i, const char *role);
/* Input i holds floats and has this rank; `form` shows the expected shape: "[N,H,W,C]". It starts with "[N"
 * when and only when the first dimension must be the batch. */
OCT_MUST_USE oct_status oct_rule_rank(const oct_graph *graph, const oct_node *node, int i, const char *role,
                                      int rank, const char *form);
/* Input i holds floats and has exactly this shape. */
OCT_MUST_USE oct_status oct_rule_shape(const oct_graph *graph, const oct_node *node, int i, const char *role,
                                       oct_shape expected);
/* Sets node->shape and node->dtype = OCT_F32 after checking that a sample has at most 2^31-1 elements, none
 * of the dimensions empty. */
OCT_MUST_USE oct_status oct_rule_output(const oct_graph *graph, oct_node *node, oct_shape shape);
/* The output is shaped like input 0, which holds floats. */
OCT_MUST_USE oct_status oct_rule_same(const oct_graph *graph, oct_node *node);

/* Windows that slide along one axis of x. */
typedef struct oct_window_axis {
    const char *name; /* "height" */
    int32_t size, before, after, kernel, stride, dilation;
} oct_window_axis;
/* *outputs = how many there are, at least 1. The padded length must fit an int. */
OCT_MUST_USE oct_status oct_rule_window(const oct_graph *graph, const oct_node *node,
                                        const oct_window_axis *axis, int32_t *outputs);

/* --- for fusers --- */

static inline bool oct_node_is(const oct_node *node, const oct_op *op)
{
    return node->kind == OCT_NODE_OP && node->op == op;
}
/* The node may disappear inside a unit: only one node reads it, and nobody else wants it. */
static inline bool oct_node_is_inner(const oct_graph *graph, const oct_node *node, const bool *kept)
{
    return !kept[node->id] && oct_graph_users(graph, (oct_value){node->id}, NULL, 0) == 1;
}
/* What an activation that is a clamp does, if the node is one. */
static inline bool oct_node_limits(const oct_node *node, oct_clip_attrs *limits)
{
    if (oct_node_is(node, &oct_op_relu))
        *limits = (oct_clip_attrs){0.0f, INFINITY};
    else if (oct_node_is(node, &oct_op_clip))
        *limits = *(const oct_clip_attrs *)node->attrs;
    else
        return false;
    return true;
}

/* --- resizes (ops_resize.c) --- */

oct_status oct_resize_infer(const oct_graph *graph, oct_node *node);
extern const oct_attr oct_resize_attr_table[2];
/* Input position that output o takes in resize_nearest. */
int oct_resize_nearest_source(int grid, int o, int in, int out);

/* Inputs of a unit are named once each. */
static inline bool oct_unit_inputs_differ(const oct_unit *unit)
{
    for (int i = 0; i < unit->input_count; i++)
        for (int k = 0; k < i; k++)
            if (unit->inputs[i] == unit->inputs[k]) return false;
    return true;
}

/* --- convolution (ops_conv_*.c): inside autograd/conv.h --- */

enum { OCT_CONV2D_ATTR_COUNT = 5 };
extern const oct_attr oct_conv2d_attr_table[OCT_CONV2D_ATTR_COUNT];
/* Kernel, stride, dilation and groups are at least 1. */
OCT_MUST_USE oct_status oct_conv_rule_sizes(const oct_graph *graph, const oct_node *node, const oct_conv2d_attrs *attrs);
/* Weights and bias: which shape they must have follows from the channels of x, the attributes and the weights' first
 * dimension. */
OCT_MUST_USE oct_status oct_conv_rule_weights(const oct_graph *graph, const oct_node *node, const oct_conv2d_attrs *attrs,
                                              int channels, int *outputs);

/* Borders around an image that make room for (or crop to) exactly what is read from it. */
typedef struct oct_window {
    int top, left, bottom, right;
} oct_window;
/* Elements of the buffer that oct_window_read needs; 0 when the image can be read where it is. */
size_t oct_window_size(const oct_window *window, int height, int width, int channels, bool affine);
/* First element of the window and its row stride: in the image itself when there is nothing to pad, else in
 * `buffer`, which is filled. affine not NULL: of every element (exec->accepts_affine). */
const float *oct_window_read(const oct_f32_kernels *f32, float *buffer, ptrdiff_t *row, const float *image,
                             const oct_affine *affine, const oct_window *window, int height, int width, int channels);
/* The affine that readers of the tensor apply, NULL = none. */
static inline const oct_affine *oct_tensor_affine(const oct_tensor *t)
{
    return t->storage == OCT_STORE_AFFINE ? &t->affine : NULL;
}
/* `pixels` pixels of x as a reader sees them: x itself, or with an affine `buffer`, which is filled. */
static inline const float *oct_affine_read(const oct_f32_kernels *f32, float *buffer, const float *x,
                                           const oct_affine *affine, size_t pixels, int channels)
{
    if (!affine) return x;
    f32->affine_clamp(buffer, x, affine->a, affine->b, NULL, pixels, channels, affine->lo, affine->hi);
    return buffer;
}
/* Both sums of a chunk start at 0. */
void oct_sums_clear(const oct_partial_sums *sums, int64_t chunk, int channels);
/* Transformed weights of a Winograd convolution, in parallel. */
void oct_conv_pack_winograd(oct_step *step, const oct_conv_geometry *g, bool towards_x, float *packed, const float *w);
/* Pixels of a pointwise convolution that go together, so that what they read and write stays in the cache. */
size_t oct_conv_block_pixels(const oct_conv_geometry *g);
/* Window of x that output rows [first, last) read. */
oct_window oct_conv_window(const oct_conv_geometry *g, int first, int last);

/* Gradient towards x (ops_conv_dx.c): a convolution of dy with flipped, transposed weights, one per stride
 * phase. */

/* One phase along one axis. */
typedef struct oct_conv_phase {
    int taps;     /* how many taps belong to it */
    int last_tap; /* the largest: it meets the smallest p */
    int tap_step; /* distance of its taps */
    int reach;    /* distance of their output pixels */
    int origin;   /* p of last_tap at m = 0 */
    int pixels;   /* input pixels of the phase */
} oct_conv_phase;

/* One axis of a convolution. */
typedef struct oct_conv_axis {
    int in, kernel, stride, dilation, pad;
} oct_conv_axis;

static inline oct_conv_axis oct_conv_axis_h(const oct_conv_geometry *g)
{
    return (oct_conv_axis){g->in_h, g->kernel_h, g->stride_h, g->dilation_h, g->pad_top};
}

static inline oct_conv_axis oct_conv_axis_w(const oct_conv_geometry *g)
{
    return (oct_conv_axis){g->in_w, g->kernel_w, g->stride_w, g->dilation_w, g->pad_left};
}

/* Phases that have pixels. */
static inline int oct_conv_phase_count(const oct_conv_axis *x)
{
    return x->stride < x->in ? x->stride : x->in;
}

/* Phase a < oct_conv_phase_count; all but `pixels` and the distances is 0 when it has no taps. */
oct_conv_phase oct_conv_phase_make(const oct_conv_axis *axis, int a);

typedef struct oct_conv_dx {
    const oct_f32_kernels *f32;
    const oct_conv_geometry *g;
    oct_window window;   /* of dy: what all phases together read */
    bool some_untouched; /* there are pixels of x that no output reads: their gradient is 0 */
    int accumulate;
    float *dx;
    float *packed; /* oct_conv_dx_packed_size elements, 64-byte aligned */
} oct_conv_dx;
size_t oct_conv_dx_packed_size(const oct_conv_geometry *g);
/* Fills window and some_untouched; the other fields are the caller's. */
void oct_conv_dx_plan(oct_conv_dx *job, const oct_conv_geometry *g);
void oct_conv_dx_pack(const oct_conv_dx *job, const float *w);
/* Image n from its dy. buffer: oct_window_size(window, out_h, out_w, out_c, false) elements, one per thread. */
void oct_conv_dx_image(const oct_conv_dx *job, size_t n, const float *dy, float *buffer);
/* Pointwise: pixels [first, first + count) of all images, dy from the first on. */
void oct_conv_dx_pixels(const oct_conv_dx *job, size_t first, size_t count, const float *dy);

/* Double-precision convolution for the reference executor (ops_conv_reference.c). */
oct_status oct_conv_reference_forward(oct_ref *ref, const oct_conv_geometry *g);
oct_status oct_conv_reference_backward(oct_ref *ref, const oct_conv_geometry *g);

/* --- batch norm (ops_norm.c), also used by the fuser --- */

/* y = clamp(batch_norm(in[0..4]) (+ in[residual]), lo, hi). */
typedef struct oct_bn_task {
    const oct_node *bn;
    int residual; /* input of the step that is added, -1 = none */
    bool masked;  /* there is an activation with limits lo, hi behind */
    float lo, hi;
} oct_bn_task;
oct_status oct_bn_forward(oct_step *step, const oct_bn_task *task);
/* Overwrites d_out. */
oct_status oct_bn_backward(oct_step *step, const oct_bn_task *task);
size_t oct_bn_saved(int channels);
size_t oct_bn_scratch(int channels, bool backward);

#endif
