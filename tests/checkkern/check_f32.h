/* SPDX-License-Identifier: BSD-2-Clause
 * Shared by the files that check the float kernels: test data on guarded memory, comparisons, the bodies.
 */
#ifndef OCT_TESTS_CHECK_F32_H
#define OCT_TESTS_CHECK_F32_H

#include "autograd/kernels/f32_kernels.h"
#include "tests/checkkern/checkkern.h"

typedef enum data_kind {
    PLAIN,   /* uniform in [-1, 1] */
    EXTREME, /* and zeros of both signs, denormals, large and small magnitudes */
    SPECIAL  /* and infinities, NaN, FLT_MAX */
} data_kind;

float f32_value(checkkern *k, data_kind kind);
void f32_fill(checkkern *k, float *to, size_t n, data_kind kind);

/* Where the next block of elements of `size` bytes goes (cg_alloc): start, end or odd offset, at random. */
int f32_place(checkkern *k, size_t size);
/* Guarded blocks at such a place; aligned blocks are 64-byte aligned. */
float *f32_block(checkkern *k, size_t n);
float *f32_aligned_block(checkkern *k, size_t n);
float *f32_input(checkkern *k, size_t n, data_kind kind);
float *f32_output(checkkern *k, size_t n); /* holds NaN, which must not get through */
float *f32_copy(checkkern *k, const float *source, size_t n);
/* n doubles, and a second block with the same content at *copy. */
double *f32_doubles(checkkern *k, int n, double **copy);

/* Points of a strided array: count[i] along each axis, `inner` contiguous elements at each. */
typedef struct f32_grid {
    int count[3];
    ptrdiff_t stride[3]; /* may be negative */
    int inner;
} f32_grid;
/* Element 0 of an input that holds values at the points and NaN between them: a kernel that reads too much
 * shows. */
const float *f32_grid_input(checkkern *k, const f32_grid *g, data_kind kind);

/* Equal bits, or both NaN. */
void f32_same(checkkern *k, const char *what, const float *got, const float *want, size_t n);
void f32_same_doubles(checkkern *k, const char *what, const double *got, const double *want, size_t n);
/* |got - want| <= (terms + 3) * 2^-24 * magnitude: one rounding per product and sum, one each for bias and
 * destination, one of slack for the second-order terms; below the normal range one denormal step per
 * operation. */
void f32_near(checkkern *k, const char *what, size_t at, float got, double want, double terms,
              double magnitude);

/* What an end (oct_f32_end, may be NULL) adds in front of its clamp, and the comparison behind it. */
void f32_end_residual(const oct_f32_end *end, size_t at, double *sum, double *magnitude);
void f32_near_end(checkkern *k, size_t at, float got, double want, double terms, double magnitude, const oct_f32_end *end);

/* Limits of a clamp or mask, the i-th of a few: usual activations, none, values that occur in the data. */
void f32_limits(int i, float *lo, float *hi);

/* The C reference and the table at `mask`. */
void f32_tables(oct_f32_kernels *c, oct_f32_kernels *t, uint32_t mask);

/* Bodies. */
checkkern_body check_conv_row;
checkkern_body check_conv_dw;
checkkern_body check_depthwise_row;
checkkern_body check_depthwise_dw;
checkkern_body check_channel_sums;
checkkern_body check_channel_sum;
checkkern_body check_affine_clamp;
checkkern_body check_bn_backward_sums;
checkkern_body check_bn_backward_apply;
checkkern_body check_bn_masked_sums;
checkkern_body check_bn_masked_apply;
checkkern_body check_clamp;
checkkern_body check_add;
checkkern_body check_mul;
checkkern_body check_clamp_backward;
checkkern_body check_axpy;
checkkern_body check_sum_squares;
checkkern_body check_sgd;
checkkern_body check_winograd_input;
checkkern_body check_winograd_output;
checkkern_body check_winograd_gradient;

#endif
