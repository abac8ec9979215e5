/* SPDX-License-Identifier: BSD-2-Clause
 * Float kernels: contracts and the table that holds one variant of each.
 *
 * Kernels see raw pointers, sizes, and strides in ELEMENTS; they return void: callers validate before. They never
 * allocate, never start threads, never write an input, and handle every tail themselves. Unless a line says
 * otherwise pointers need only the alignment of their element, destination and sources do not alias, and a kernel
 * that overwrites never reads its destination (which may hold NaN).
 *
 * Results: within a stated rounding error of the C reference, and a function of the arguments alone (the same call
 * gives the same bytes in every thread). "exact" marks kernels whose result is the same bytes on every level (a NaN may carry another
 * payload). channel_sums, channel_sum and the bn_ entries are exact too. Clamping is
 *   clamp(x, lo, hi) = x < lo ? lo : x > hi ? hi : x      with lo <= hi: NaN passes, and so does -0 when lo is 0.
 *
 * Convolution works on PADDED IMAGES: the caller copies the part of an NHWC image that a call reads into a buffer
 * with its zero border in place (pad_image), so that the kernels have no border cases and no index tables.
 * Channel blocks are OCT_F32_BLOCK wide on every level, so packed weights do not depend on the level.
 */
#ifndef OCT_F32_KERNELS_H
#define OCT_F32_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define OCT_F32_BLOCK 16

/* What happens to an output before it is stored: y = clamp(y + residual, lo, hi). */
typedef struct oct_f32_end {
    const float *residual; /* laid out like y; NULL = 0. May be y */
    float lo, hi;          /* -INFINITY, INFINITY: no limit */
} oct_f32_end;

/* One output row of a convolution (or of its gradient towards the input, or of a linear layer):
 *   y[p][o] (+)= bias[o] + sum_{r<taps_h} sum_{t<taps_w} sum_{i<channels}
 *                x[p*x_pixel + r*x_row + t*x_tap + i] * w[block(o)][r][t][i][o % 16]
 * for p < pixels, o < outputs, and with an end that y = clamp(y + residual, lo, hi). Packed weights: w = [ceil(outputs/16)][taps_h][taps_w][channels][16], zero padded in
 * the last block, 64-byte aligned. y rows are y + p*y_pixel. */
typedef struct oct_f32_conv_row {
    int pixels, outputs;           /* >= 1 */
    int taps_h, taps_w, channels;  /* >= 1 */
    ptrdiff_t x_pixel, x_row, x_tap; /* strides of x; may be negative */
    ptrdiff_t y_pixel;             /* >= outputs */
    int accumulate;                /* 0: y = ..., 1: y += ... */
    const oct_f32_end *end;        /* NULL = none; with one accumulate must be 0 */
} oct_f32_conv_row;

/* Gradient towards the weights of one tap row: with dilation 1 the taps of a row and their channels are contiguous
 * in a padded image, so j runs over taps_w*channels at once; otherwise one call per tap with inner = channels. */
typedef struct oct_f32_conv_dw {
    int rows, pixels;              /* output rows and pixels per row that are summed over */
    int outputs;                   /* >= 1 */
    int inner;                     /* contiguous x elements j that get a weight each, >= 1 */
    ptrdiff_t x_row, x_pixel;      /* step of x per output row and per output pixel */
    ptrdiff_t dy_row, dy_pixel;    /* step of dy per output row and per output pixel; dy_pixel >= outputs */
} oct_f32_conv_dw;

typedef struct oct_f32_depthwise {
    int pixels, channels;
    int taps_h, taps_w;
    ptrdiff_t x_pixel, x_row, x_tap, y_pixel;
    int accumulate;
    const oct_f32_end *end; /* as in oct_f32_conv_row; of depthwise_row */
} oct_f32_depthwise;

/* A row of 2x2 tiles of an NHWC image for the Winograd transforms of F(2x2, 3x3) (autograd/conv_winograd.h). Tile t has
 * its corner at image row `top`, column left + 2t; both may lie outside the image. Image pixels are
 * image + row_index*row + column_index*pixel. Transformed tiles are 16 matrices: position 4i+j of tile t, channel c lies at
 * (4i+j)*position + t*tile + c. */
typedef struct oct_f32_tiles {
    int tiles, channels;      /* >= 1 */
    int height, width;        /* of the image */
    int top, left;
    ptrdiff_t row, pixel;
    ptrdiff_t position, tile;
    int accumulate;           /* of winograd_output */
} oct_f32_tiles;

typedef struct oct_f32_kernels {
    const char *level; /* level name of base/cpu.h whose variants fill this table */

    /* See oct_f32_conv_row. bias may be NULL (0). Reads x only where the formula does. Error: at most
     * (taps*channels + 3) * 2^-24 * (sum|x||w| + |bias| + |y before|) per output. Summation order is fixed: r, t, i
     * ascending per output from 0, then bias, then y or the residual. The clamp is that of affine_clamp. */
    void (*conv_row)(float *y, const float *x, const float *w, const float *bias, const oct_f32_conv_row *p);

    /* dw[j][o] += sum_{a<rows} sum_{p<pixels} x[a*x_row + p*x_pixel + j] * dy[a*dy_row + p*dy_pixel + o]
     * for j < inner, o < outputs. dw = [inner][outputs rounded up to 16], 64-byte aligned, padding columns are written
     * with unspecified finite values: they must start finite. Summation order per element: a, p ascending; partial
     * sums over blocks of rows are added to dw in that order. Error: as conv_row with rows*pixels terms. */
    void (*conv_dw)(float *dw, const float *x, const float *dy, const oct_f32_conv_dw *p);

    /* y[p][c] (+)= bias[c] + sum_{r,t} x[p*x_pixel + r*x_row + t*x_tap + c] * w[r][t][c]. bias may be NULL.
     * w = [taps_h][taps_w][channels]. */
    void (*depthwise_row)(float *y, const float *x, const float *w, const float *bias, const oct_f32_depthwise *p);

    /* dw[r][t][c] += sum_{p<pixels} x[p*x_pixel + r*x_row + t*x_tap + c] * dy[p*y_pixel + c]   (accumulate ignored) */
    void (*depthwise_dw)(float *dw, const float *x, const float *dy, const oct_f32_depthwise *p);

    /* Per channel over `rows` pixels of NHWC data (row stride = channels): sums in double, pixels ascending.
     *   sum[c] += sum x, square[c] += sum x*x            (each product and sum rounded once, in double) */
    void (*channel_sums)(double *sum, double *square, const float *x, size_t rows, int channels);

    /* y = clamp(x*a[c] + b[c] (+ residual), lo, hi): the product, each sum rounded separately (no contraction): exact.
     * residual may be NULL. y may be x or residual. lo/hi may be -INFINITY/INFINITY. */
    void (*affine_clamp)(float *y, const float *x, const float *a, const float *b, const float *residual, size_t rows,
                         int channels, float lo, float hi);

    /* First half of batch norm's backward, with the mask of the activation behind it:
     *   dz = dy where lo < y < hi, else 0 (mask only when y != NULL; dz may be dy; dz is always written)
     *   sum[c] += sum dz, dot[c] += sum dz * (x - mean[c])          in double, pixels ascending */
    void (*bn_backward_sums)(double *sum, double *dot, float *dz, const float *dy, const float *y, float lo, float hi,
                             const float *x, const float *mean, size_t rows, int channels);

    /* Second half:  dx (+)= dz*p[c] + x*q[c] + r[c]. dx may be dz when accumulate is 0. */
    void (*bn_backward_apply)(float *dx, const float *dz, const float *x, const float *p, const float *q,
                              const float *r, size_t rows, int channels, int accumulate);

    /* The same two halves when the value behind the activation was never stored: it is z = x*a[c] + b[c] (rounded as in
     * affine_clamp), the mask is lo < z < hi, and dz is neither read back nor written:
     *   sums:   d = mask ? dy : 0;  sum[c] += sum d, dot[c] += sum d * (x - mean[c])
     *   apply:  d = mask ? dy : 0;  dx (+)= d*p[c] + x*q[c] + r[c]          dx may be dy when accumulate is 0. */
    void (*bn_masked_sums)(double *sum, double *dot, const float *dy, const float *x, const float *a, const float *b,
                           float lo, float hi, const float *mean, size_t rows, int channels);
    void (*bn_masked_apply)(float *dx, const float *dy, const float *x, const float *a, const float *b, float lo,
                            float hi, const float *p, const float *q, const float *r, size_t rows, int channels,
                            int accumulate);

    /* sum[c] += sum over rows of dy[.][c], in double, rows ascending (gradient of a bias). */
    void (*channel_sum)(double *sum, const float *dy, size_t rows, int channels);

    /* Elementwise, n elements, any of them may be in place (y == a, y == b): exact. */
    void (*clamp)(float *y, const float *x, size_t n, float lo, float hi);
    void (*add)(float *y, const float *a, const float *b, size_t n);
    void (*mul)(float *y, const float *a, const float *b, size_t n);
    /* dx (+)= dy where lo < y < hi else 0; dx may be dy when accumulate is 0: exact. */
    void (*clamp_backward)(float *dx, const float *dy, const float *y, size_t n, float lo, float hi, int accumulate);
    /* y += a*x; the product is rounded, then the sum: exact. */
    void (*axpy)(float *y, float a, const float *x, size_t n);
    /* sum of squares in double, in a fixed order that is the same on every level: eight interleaved partial sums
     * (element i goes to sum i%8), added 0..7 at the end: exact. */
    double (*sum_squares)(const float *x, size_t n);

    /* SGD step on flat arrays (PyTorch's rule), n elements, each operation rounded once: exact.
     *   g' = grad*scale + decay[i]*w      decay NULL: weight_decay for all; else decay[i] is 0 or 1 times weight_decay
     *   v  = momentum*v + g'
     *   w -= lr * (nesterov ? g' + momentum*v : v) */
    void (*sgd)(float *w, float *v, const float *grad, const uint8_t *decay, size_t n, float scale, float lr,
                float momentum, float weight_decay, int nesterov);

    /* Winograd transforms, additions and subtractions in the order of f32_winograd_c.c: exact. T(d) below is applied to
     * the columns of the tile first, then to the rows of the result.
     * input:    v = T d T^t of the 4x4 pixels d from the corner on, pixels outside the image being 0 (not read);
     *           T(d) = (d0 - d2, d1 + d2, d2 - d1, d3 - d1)
     * output:   2x2 pixels y (+)= T m T^t + bias[c], pixels outside the image are not written; bias may be NULL;
     *           T(m) = (m0 + m1 + m2, m1 - m2 + m3)
     * gradient: the transpose of output: v = T d T^t of the 2x2 pixels, 0 outside;  T(d) = (d0, d0 + d1, d0 - d1, d1) */
    void (*winograd_input)(float *v, const float *x, const oct_f32_tiles *p);
    void (*winograd_output)(float *y, const float *m, const float *bias, const oct_f32_tiles *p);
    void (*winograd_gradient)(float *v, const float *dy, const oct_f32_tiles *p);
} oct_f32_kernels;

/* Fills the table: the C reference first, then every level in `cpu_mask` (base/cpu.h), lowest first. The mask must
 * only hold features that this machine has. The table is immutable afterwards. */
void oct_f32_kernels_init(oct_f32_kernels *table, uint32_t cpu_mask);

/* Helpers around the kernels (f32_pack.c), portable, exact. */

/* Elements of packed weights for conv_row. */
size_t oct_f32_packed_size(int outputs, int taps_h, int taps_w, int channels);
/* Packs from strides: packed[o/16][r][t][i][o%16] = w[o*w_output + r*w_row + t*w_tap + i*w_channel] (strides may be
 * negative or 0; w points at output 0, tap 0,0, channel 0). */
void oct_f32_pack(float *packed, const float *w, int outputs, int taps_h, int taps_w, int channels,
                  ptrdiff_t w_output, ptrdiff_t w_row, ptrdiff_t w_tap, ptrdiff_t w_channel);
/* Copies image [height][width][channels] (row stride width*channels) into the middle of a zeroed border:
 * out = [height+top+bottom][width+left+right][channels]. Borders may be negative (cropping). */
void oct_f32_pad_image(float *out, const float *image, int height, int width, int channels, int top, int left,
                       int bottom, int right);
/* The same with clamp(x*a[c] + b[c], lo, hi) (affine_clamp) of every copied element x. */
void oct_f32_pad_affine(const oct_f32_kernels *table, float *out, const float *image, const float *a, const float *b,
                        float lo, float hi, int height, int width, int channels, int top, int left, int bottom,
                        int right);

#endif
