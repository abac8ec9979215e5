/* SPDX-License-Identifier: BSD-2-Clause
 * What the files of the built-in float ops share: checks of shape rules, cutting of work, scratch layouts,
 * sums of partial results, and the two computations that several steps use (convolution, batch norm).
 */
#ifndef OCT_OPS_INTERNAL_H
#define OCT_OPS_INTERNAL_H

#include "autograd/ops.h"
#include "autograd/plan.h"

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

/* --- sizes --- */

/* Elements of a node's output for a batch; nodes without a batch dimension have the same number for any
 * batch. */
size_t oct_node_elements(const oct_node *node, int batch);
static inline int oct_last_dim(const oct_node *node)
{
    return node->shape.rank ? node->shape.dim[node->shape.rank - 1] : 1;
}
static inline const oct_node *oct_unit_node(const oct_graph *graph, const oct_unit *unit)
{
    return graph->nodes[unit->last];
}

/* Cuts a block of memory into 64-byte aligned pieces. With base NULL it only counts, so that the size of a
 * scratch area and its layout come from one function; `used` sticks at SIZE_MAX on overflow. */
typedef struct oct_carve {
    char *base;
    size_t used;
} oct_carve;
void *oct_carve_take(oct_carve *carve, size_t count, size_t size); /* NULL when only counting */

/* --- cutting of work: borders depend on the problem alone --- */

/* Elements of one item of an elementwise loop: 64 KiB of floats. */
enum { OCT_FLAT_ITEM = 16384 };
static inline int64_t oct_flat_items(size_t elements)
{
    return (int64_t)((elements + OCT_FLAT_ITEM - 1) / OCT_FLAT_ITEM);
}
/* Elements of item `item`, which start at item * OCT_FLAT_ITEM. */
static inline size_t oct_flat_count(size_t elements, int64_t item)
{
    size_t rest = elements - (size_t)item * OCT_FLAT_ITEM;
    return rest < OCT_FLAT_ITEM ? rest : OCT_FLAT_ITEM;
}
/* Border i of `count` things cut into `chunks` even pieces: piece i is [border(i), border(i+1)). */
static inline size_t oct_chunk_border(size_t count, int chunks, int64_t i)
{
    return count / (size_t)chunks * (size_t)i + count % (size_t)chunks * (size_t)i / (size_t)chunks;
}

/* to[i] (+)= sum over chunks k ascending of partial[k*stride + i], in double, for i < n. */
void oct_combine(float *to, int accumulate, const double *partial, int chunks, size_t stride, size_t n);

/* Copies or adds n floats: to (+)= from. They may be the same memory only when accumulate is 0. */
void oct_copy_or_add(const oct_f32_kernels *f32, float *to, const float *from, size_t n, int accumulate);

/* --- convolution (ops_conv_*.c), also used by linear --- */

typedef struct oct_conv_geometry {
    int in_h, in_w, in_c, out_h, out_w, out_c;
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int groups, group_in,
        group_out; /* channels of one group; depthwise: groups 1, group_in = group_out = channels */
    bool depthwise;
    bool pointwise; /* 1x1, stride 1, no padding: the pixels of all images form one long row */
} oct_conv_geometry;

oct_conv_geometry oct_conv_geometry_of(const oct_node *conv, const oct_node *input, const oct_node *weights);
/* linear(input) as a convolution of images of one pixel. */
oct_conv_geometry oct_linear_geometry(const oct_node *linear, const oct_node *input);
/* Borders around an image that make room for (or crop to) exactly what is read from it. */
typedef struct oct_window {
    int top, left, bottom, right;
} oct_window;
/* Elements of the buffer that oct_window_read needs; 0 when the image can be read where it is. */
size_t oct_window_size(const oct_window *window, int height, int width, int channels);
/* First element of the window and its row stride: in the image itself when there is nothing to pad, else in
 * `buffer`, which is filled. */
const float *oct_window_read(float *buffer, ptrdiff_t *row, const float *image, const oct_window *window,
                             int height, int width, int channels);
/* Window of x that output rows [first, last) read. */
oct_window oct_conv_window(const oct_conv_geometry *g, int first, int last);

/* y = conv(in[0], in[1]) (+ in[2]), from step->in to step->out. */
oct_status oct_conv_forward(oct_step *step, const oct_conv_geometry *g);
size_t oct_conv_forward_scratch(const oct_conv_geometry *g, int threads);
/* Where backward takes its operands from when they are not lying in step->in[0] and step->d_out: called once per image,
 * in any order, by any thread, for different images at the same time. */
typedef struct oct_conv_source {
    void (*finish_dy)(void *arg, size_t image);        /* makes the image's part of step->d_out final, in place */
    void (*make_x)(void *arg, float *x, size_t image); /* writes the image's x */
    void *arg;
} oct_conv_source;
/* All gradients that are wanted of step->d_in[0..2]. source NULL: from step->in[0] and step->d_out as they are. */
oct_status oct_conv_backward(oct_step *step, const oct_conv_geometry *g, const oct_conv_source *source);
size_t oct_conv_backward_scratch(const oct_conv_geometry *g, int batch, int threads, bool sourced);

/* Gradient towards x (ops_conv_dx.c): a convolution of dy with flipped, transposed weights, one per stride
 * phase. */
typedef struct oct_conv_dx {
    const oct_f32_kernels *f32;
    const oct_conv_geometry *g;
    oct_window window;   /* of dy: what all phases together read */
    bool some_untouched; /* there are pixels of x that no output reads: their gradient is 0 */
    int accumulate;
    const float *dy;
    float *dx;
    float *packed; /* oct_conv_dx_packed_size elements, 64-byte aligned */
} oct_conv_dx;
size_t oct_conv_dx_packed_size(const oct_conv_geometry *g);
/* Fills window and some_untouched; the other fields are the caller's. */
void oct_conv_dx_plan(oct_conv_dx *job, const oct_conv_geometry *g);
void oct_conv_dx_pack(const oct_conv_dx *job, const float *w);
/* Images [first, last). buffer: oct_window_size(window, out_h, out_w, out_c) elements, one per thread. */
void oct_conv_dx_images(const oct_conv_dx *job, size_t first, size_t last, float *buffer);

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
