/* SPDX-License-Identifier: BSD-2-Clause
 * Convolution for steps: the float computation behind conv2d and linear, by geometry instead of by node, so that fused steps can
 * use it with operands of their own making (the quantizer's backward pass does). Parallel over images; results do not depend on
 * the thread count.
 */
#ifndef OCT_CONV_H
#define OCT_CONV_H

#include "autograd/ops.h"

typedef struct oct_conv_geometry {
    int in_h, in_w, in_c, out_h, out_w, out_c;
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int groups, group_in, group_out; /* channels of one group; depthwise: groups 1, group_in = group_out = channels */
    bool depthwise;
    bool winograd;  /* runs by autograd/conv_winograd.h: wide 3x3 layers */
    bool split;     /* backward runs by autograd/conv_split.h: codes and quantized weights on matrix units */
    bool pointwise; /* 1x1, stride 1, no padding: the pixels of all images form one long row */
} oct_conv_geometry;

oct_conv_geometry oct_conv_geometry_of(const oct_node *conv, const oct_node *input, const oct_node *weights);
/* Sets g->winograd: whether float work of this shape runs by Winograd's algorithm in this context. */
void oct_conv_choose(oct_conv_geometry *g, const oct_ctx *ctx);
/* The same for the backward of a convolution whose weights are codes times powers of two, and whose source has codes. */
void oct_conv_choose_narrow(oct_conv_geometry *g, const oct_ctx *ctx);
/* linear(input) as a convolution of images of one pixel. */
oct_conv_geometry oct_linear_geometry(const oct_node *linear, const oct_node *input);
/* y = conv(in[0], in[1]) (+ in[2]), from step->in to step->out. */
oct_status oct_conv_forward(oct_step *step, const oct_conv_geometry *g);
size_t oct_conv_forward_scratch(const oct_conv_geometry *g, int threads);
/* The two halves of it, for weights that are packed once and used often. */
size_t oct_conv_packed_size(const oct_conv_geometry *g); /* floats */
void oct_conv_pack(oct_step *step, const oct_conv_geometry *g, float *packed, const float *w);
/* step->out = end(conv(step->in[0]) + bias); bias and end may be NULL, end->residual is for the whole batch. Takes the
 * sums of the output along (oct_tensor.sums) only without an end. */
void oct_conv_run(oct_step *step, const oct_conv_geometry *g, const float *packed, const float *bias,
                  const oct_f32_end *end);
size_t oct_conv_run_scratch(const oct_conv_geometry *g, int threads);
/* Where backward takes its operands from when they are not lying in step->in[0] and step->d_out: called for an image
 * before it is used, at most twice, in any order, by any thread, for different images at the same time. */
typedef struct oct_conv_source {
    /* writes the image's final dy; NULL: it lies in step->d_out */
    void (*make_dy)(void *arg, float *dy, size_t image, int thread);
    void (*make_x)(void *arg, float *x, size_t image); /* writes the image's x */
    void *arg;
    /* What make_x writes as codes of all images, x = code*unit with a power of two; needed when the geometry is split. */
    const uint8_t *codes;
    float unit;
    int is_signed;
} oct_conv_source;
/* All gradients that are wanted of step->d_in[0..2]. source NULL: from step->in[0], which may be an affine, and
 * step->d_out, which may be lazy. */
oct_status oct_conv_backward(oct_step *step, const oct_conv_geometry *g, const oct_conv_source *source);
size_t oct_conv_backward_scratch(const oct_conv_geometry *g, int batch, int threads, bool sourced);

#endif
