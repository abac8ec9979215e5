/* SPDX-License-Identifier: BSD-2-Clause
 * Winograd convolution F(2x2, 3x3) in float32 for 3x3 kernels with stride 1, dilation 1 and one group: forward, gradient
 * towards x (the same routine on flipped weights) and gradient towards the weights. 16 multiplications instead of 36 per
 * 2x2 outputs and channel pair, as 16 matrix products over the tiles of many images, so that the weights are read once
 * per group of images.
 *
 *   y tile = A^T [ sum_i (G w_oi G^T) . (B^T x_i B) ] A        dw_oi = G^T [ sum_tiles (B^T x_i B) . (A dy_o A^T) ] G
 *
 *   B^T = 1  0 -1  0     G = 1    0    0      A^T = 1  1  1  0
 *         0  1  1  0         1/2  1/2  1/2          0  1 -1  1
 *         0 -1  1  0         1/2 -1/2  1/2
 *         0 -1  0  1         0    0    1
 *
 * Source: A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, with the sign of the last row
 * of B^T and of the last column of A^T turned, which spares a negation.
 *
 * Layouts: images NHWC without borders, one after the other; weights [out_c][3][3][in_c]. Odd sizes: the last row or column
 * of tiles is computed on zeros and cut. Any padding that oct_conv_geometry describes.
 *
 * Errors, with u = 2^-24 and X, W, Y the largest magnitudes of what is read of x, w, dy (of the operands alone, no
 * cancellation helps):
 *   y, dx   (c + 12) u * 64 c X W  + 3u (|bias| + |y before|)      c = summed channels; direct: (9c + 3) u * 9c X W
 *   dw      (n + chunks + 12) u * 36 n X Y  + u |dw before|        n = tiles of all images; direct: (4n + 3) u * 4n X Y
 * Measured root mean square errors are those of the direct sum for y and twice those for dw. A value that is not finite
 * spoils all pixels of the tiles that read it (infinity may become NaN).
 *
 * The same call gives the same bytes; images of one run do not influence each other, so that y and dx do not depend on how
 * a batch is cut into calls (dw does, in its rounding). Nothing here allocates or starts threads; functions are
 * thread-safe as far as their outputs are distinct. Buffers, packed weights and partial sums are 64-byte aligned.
 */
#ifndef OCT_CONV_WINOGRAD_H
#define OCT_CONV_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/conv.h"
#include "autograd/kernels/f32_kernels.h"

/* Whether this geometry runs here and is expected to be faster than the direct kernels, given enough images: packing
 * 512x512 weights costs what about four images of 4x4 gain. The functions below also work for every other 3x3 geometry
 * with stride 1, dilation 1, one group, that is not depthwise. */
bool oct_winograd_fits(const oct_conv_geometry *g);

/* Floats of packed weights. */
size_t oct_winograd_packed_size(const oct_conv_geometry *g, bool towards_x);
/* Packs w [out_c][3][3][in_c]: share `part` of `parts`, 0 <= part < parts; all shares together write all of `packed`. */
void oct_winograd_pack(float *packed, const float *w, const oct_conv_geometry *g, bool towards_x, int part, int parts);

/* Images that go well together in one call of run or dw, >= 1: enough tiles for one pass over the weights. */
int oct_winograd_images(const oct_conv_geometry *g);
/* Floats of working memory of one call of run (either direction) or dw. */
size_t oct_winograd_buffer_size(const oct_conv_geometry *g);

/* What becomes of the outputs, and which: y = end(conv(x) + bias), or y += with accumulate; bias and end may be NULL,
 * end->residual starts at y. `parts` > 1: only share `part` of the output channels; all shares together are what one call
 * makes, bit for bit. */
typedef struct oct_winograd_outputs {
    const float *bias;
    const oct_f32_end *end; /* with one accumulate must be 0 */
    int accumulate, part, parts;
} oct_winograd_outputs;
/* For `images` >= 1 images. towards_x: x is dy, y is dx. */
void oct_winograd_run(const oct_f32_kernels *f32, const oct_conv_geometry *g, bool towards_x, const float *packed,
                      const oct_winograd_outputs *outputs, float *y, const float *x, int images, float *buffer);

/* Floats of one partial weight gradient: 16 positions of in_c x (out_c rounded up to 16), in an order of its own. */
size_t oct_winograd_dw_size(const oct_conv_geometry *g);
/* partial += of `images` >= 1 images. The caller zeroes it first. */
void oct_winograd_dw(const oct_f32_kernels *f32, const oct_conv_geometry *g, float *partial, const float *x,
                     const float *dy, int images, float *buffer);
/* dw [out_c][3][3][in_c] (+)= of `chunks` >= 1 partial gradients that lie `stride` floats apart, added in order. Share
 * `part` of `parts`. */
void oct_winograd_dw_finish(const oct_conv_geometry *g, float *dw, int accumulate, const float *partials, size_t stride,
                            int chunks, int part, int parts);

#endif
