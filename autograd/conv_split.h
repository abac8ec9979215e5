/* SPDX-License-Identifier: BSD-2-Clause
 * Gradients of a convolution whose x and weights are narrow (codes times powers of two) on matrix units for bf16, as good as
 * float: the third operand, dy, is taken in three parts (autograd/kernels/split_kernels.h has the error bound). No dilation,
 * one group, not depthwise.
 *
 * Both gradients are matrix products over FLAT positions: the rows of all images of a call follow each other, with as many
 * zeros between them as the taps reach over their ends, so that a tap is an offset and a tile of 16 or 32 positions may go
 * over the end of a row.
 *
 *   dx[q] = sum over taps, outputs  dy[q + offset(tap)][o] * w[o][tap]     one product per stride phase (ops_conv_dx.c)
 *   dw[tap] = sum over q            x[q + offset(tap)] * dy[q]             x by stride phases too
 *
 * Layouts: images NHWC one after the other; weights [out_c][kernel_h][kernel_w][in_c]. The same call gives the same bytes; dx
 * does not depend on how a batch is cut into calls, dw does in its rounding. Nothing here allocates or starts threads.
 */
#ifndef OCT_CONV_SPLIT_H
#define OCT_CONV_SPLIT_H

#include "autograd/conv.h"
#include "autograd/kernels/split_kernels.h"

/* Whether the functions below work for this geometry and gain something on matrix units. */
bool oct_split_fits(const oct_conv_geometry *g);

/* Images that go well together in one call, >= 1. */
int oct_split_images(const oct_conv_geometry *g);
/* Bytes of working memory of one call of either function, 64-byte aligned. */
size_t oct_split_buffer_bytes(const oct_conv_geometry *g);

/* Bytes of packed weights; share `part` of `parts` of the packing. Every weight is one bf16 number. */
size_t oct_split_packed_bytes(const oct_conv_geometry *g);
void oct_split_pack(uint16_t *packed, const float *w, const oct_conv_geometry *g, int part, int parts);

/* dx (+)= of `images` >= 1 images. */
void oct_split_dx(const oct_split_kernels *k, const oct_f32_kernels *f32, const oct_conv_geometry *g, const uint16_t *packed,
                  float *dx, int accumulate, const float *dy, int images, void *buffer);

/* partial += of `images` >= 1 images: [kernel_h][kernel_w][in_c][out_c rounded up to 16], 64-byte aligned. x = codes*unit. */
void oct_split_dw(const oct_split_kernels *k, const oct_conv_geometry *g, float *partial, const uint8_t *codes, float unit,
                  int is_signed, const float *dy, int images, void *buffer);

#endif
