/* SPDX-License-Identifier: BSD-2-Clause
 * What the fused steps of quantized training share. A step is a chain that ends in a fake_quant node (or in the output
 * layer): unit_layer.c (convolution, linear), unit_elementwise.c (add, mul, concat, average pool, input, anything else),
 * unit_pass.c (ops that need no point). unit_point.c does what they have in common: observe the range, round to codes, keep
 * the straight-through mask as bits.
 */
#ifndef OCT_QUANT_UNIT_INTERNAL_H
#define OCT_QUANT_UNIT_INTERNAL_H

#include "autograd/conv.h"
#include "autograd/step.h"
#include "quant/int8/kernels/i8_kernels.h"
#include "quant/ops.h"

/* Fixed slots of a unit's nodes; -1 = absent. */
enum { OCT_LAYER_OP, OCT_LAYER_WEIGHT, OCT_LAYER_BIAS, OCT_LAYER_NORM, OCT_LAYER_ACT, OCT_LAYER_FQ, OCT_LAYER_SLOTS };
enum { OCT_POINT_OP, OCT_POINT_ACT, OCT_POINT_FQ, OCT_POINT_SLOTS };

extern const oct_exec oct_exec_layer, oct_exec_layer_scores, oct_exec_point, oct_exec_point_operands;
/* By what the float op's backward reads: nothing, its input, its output. */
extern const oct_exec oct_exec_pass, oct_exec_pass_reads_x, oct_exec_pass_reads_y;

/* Node of a slot, NULL when absent. */
static inline const oct_node *oct_unit_slot(const oct_graph *g, const oct_unit *unit, int slot)
{
    return unit->nodes[slot] < 0 ? NULL : g->nodes[unit->nodes[slot]];
}

/* Position among the unit's inputs of the node with this id, -1 when it is none. */
int oct_unit_input_of(const oct_unit *unit, int32_t id);

/* Window of output pixel (row, column) of a pool, clipped to the image x [N,H,W,C] (unit_pass.c). */
typedef struct oct_pool_window {
    int top, left, rows, columns;
} oct_pool_window;
oct_pool_window oct_pool_window_at(const oct_node *pool, const oct_shape *x, int row, int column);

/* --- unit_point.c --- */

/* Values in front of the activation, one image row at a time: y[pixels*channels]. */
typedef struct oct_point_source {
    void (*row)(const void *arg, float *y, int64_t image, int row, int thread);
    /* The values of pixels first, first + step, ... of a row without gaps; NULL = taken from the row. */
    void (*picked)(const void *arg, float *y, int64_t image, int row, int first, int step);
    /* Exact codes of a row where float values cannot give them (averages, tables, exponents far apart); NULL = the
     * rounded values are exact. The limits of the grid include the activation's. */
    void (*codes)(const void *arg, uint8_t *codes, int64_t image, int row, const oct_clip_codes *grid);
    const void *arg;
    int rows, pixels, channels; /* of one image */
} oct_point_source;

typedef struct oct_point {
    const oct_node *fq;
    float act_lo, act_hi;   /* of the activation in front; infinite without one */
    bool observe_clamped;   /* the range sees the activation's output (clip), not its input (ReLU) */
    float *range;           /* the buffer's four floats */
} oct_point;

/* Limits of the activation `act` (NULL: infinite), and the clip of a point with them in lo and hi. */
void oct_activation_limits(const oct_node *act, float *lo, float *hi);
oct_clip_codes oct_point_clip(const float *range, const oct_node *fq, float act_lo, float act_hi);
oct_point oct_point_of(const oct_step *step, const oct_node *act, const oct_node *fq);

/* Memory of the functions below. */
typedef struct oct_point_memory {
    float *rows;           /* threads x row */
    size_t row_elements;   /* rounded up to 16 */
    float *picked;         /* threads x picked_elements: what the histogram counts */
    size_t picked_elements;
    float *extrema;        /* batch x 2 */
    uint32_t *non_finite;  /* batch */
    uint32_t *counts;      /* batch x 256 */
} oct_point_memory;
void oct_point_carve(oct_point_memory *memory, oct_carve *carve, size_t row_elements, int batch, int threads);

/* Bytes of mask bits of one row (rows start at byte borders). */
static inline size_t oct_mask_row_bytes(size_t row_elements)
{
    return (row_elements + 7) / 8;
}

/* In training: one observation of the range from this batch, or with frozen ranges just the count of it. known (minimum, maximum of the observed values) may be NULL. */
OCT_MUST_USE oct_status oct_point_observe(oct_step *step, const oct_i8_kernels *k, const oct_point *point,
                                          const oct_point_source *source, const float known[2],
                                          const oct_point_memory *memory);
/* Sets the grid of step->out from the range as it is now; returns the clip with the activation's limits in lo, hi. */
oct_clip_codes oct_point_grid(oct_step *step, const oct_point *point);
/* Codes into step->out; bits (batch x rows x row bytes) too unless NULL. */
void oct_point_codes(oct_step *step, const oct_i8_kernels *k, const oct_point *point, const oct_clip_codes *clip,
                     const oct_point_source *source, uint8_t *bits, const oct_point_memory *memory);
/* d = bit ? d : 0 over the batch, in place. */
void oct_point_mask(oct_step *step, const oct_i8_kernels *k, float *d, const uint8_t *bits, int rows,
                    size_t row_elements);

#endif
