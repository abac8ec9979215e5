/* SPDX-License-Identifier: BSD-2-Clause
 * Kernels of convolution gradients whose second operand is narrow: contracts and the table that holds one variant of each.
 *
 * A float is the exact sum of three bf16 numbers (24 significant bits = 3 x 8): x = high + mid + low, each cut off towards 0.
 * A code times a power of two is one bf16 number. So the product of a gradient with a code or a quantized weight is three
 * products that matrix units for bf16 take exactly, and their fp32 sums are as good as those of a float convolution:
 *   error <= (3*k + 3) * 2^-24 * sum|a||b|  for k products, plus 2^-126 per product (numbers below are flushed to 0).
 *
 * Data come as ROWS: pointers to the channels of one pixel each, in the order in which the result has its positions. Where a
 * position lies outside an image the caller points at zeros. All results are written up to their padding. Values that are
 * not finite give unspecified results. Kernels never allocate, never start threads, never write an input.
 * Reference: Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
 * Computations" (ARITH 2019).
 */
#ifndef OCT_SPLIT_KERNELS_H
#define OCT_SPLIT_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    OCT_SPLIT_PARTS = 3,
    OCT_SPLIT_TILE = 16,  /* positions, or channels, or outputs of a tile */
    OCT_SPLIT_STEP = 32   /* products of a step: bf16 numbers in a row of a tile */
};

/* y[q][n] (+)= sum over runs r, steps s, parts k, j < 32 of
 *                 x[q*x_pixel + r*x_run + k*x_part + 32*s + j] * w[n/16][r][s][j/2][n%16][j%2]
 * for q < positions (a multiple of 16), n < 16*groups. Strides in elements; w is 64-byte aligned. */
typedef struct oct_split_rows_task {
    int positions, groups;
    int runs, steps, parts;
    ptrdiff_t x_pixel, x_run, x_part;
    ptrdiff_t y_pixel; /* >= 16*groups */
    int accumulate;
} oct_split_rows_task;

/* dw[dw_at[b] + i*dw_row + n] += sum over steps s, parts k, j < 32 of
 *                 x[x_at[b] + i*x_plane + 32*s + j] * dy[(n/16)*dy_group + k*dy_part + (16*s + j/2)*32 + (n%16)*2 + j%2]
 * for blocks b, i < rows <= 16, n < 16*groups. */
typedef struct oct_split_dw_task {
    int blocks, rows, groups, steps;
    const ptrdiff_t *x_at, *dw_at;
    ptrdiff_t x_plane, dw_row, dy_group, dy_part;
} oct_split_dw_task;

typedef struct oct_split_kernels {
    bool fast; /* faster than the float kernels on this machine */

    /* out[i*pixel + k*part + c] = part k of rows[i][c], 0 from `channels` to `padded` channels. */
    void (*parts)(uint16_t *out, const float *const *rows, size_t count, int channels, int padded, ptrdiff_t pixel,
                  ptrdiff_t part);
    /* out[(c/16)*group + k*part + (i/2)*32 + (c%16)*2 + i%2] = part k of rows[i][c], 0 in what fills up the last 16 channels;
     * count is even. */
    void (*pairs)(uint16_t *out, const float *const *rows, size_t count, int channels, ptrdiff_t group, ptrdiff_t part);
    /* out[c*plane + i] = bf16(rows[i][c] * unit) for codes (unit is a power of two: exact); count is a multiple of 32. */
    void (*planes)(uint16_t *out, const uint8_t *const *rows, size_t count, int channels, ptrdiff_t plane, float unit,
                   int is_signed);
    void (*rows)(float *y, const uint16_t *x, const uint16_t *w, const oct_split_rows_task *p);
    void (*dw)(float *dw, const uint16_t *x, const uint16_t *dy, const oct_split_dw_task *p);
} oct_split_kernels;

void oct_split_kernels_init(oct_split_kernels *table, uint32_t cpu_mask);

#endif
