/* SPDX-License-Identifier: BSD-2-Clause
 * Inside the engine: the compiled model, its plan, and how the parts call each other. Private to quant/int8.
 *
 *   model.c     open: parse, pack weights, compile layers into steps; accessors
 *   pack.c      weights of one step in the kernels' layout; quantized training uses it too
 *   plan.c      how each step is cut, its scratch, tensor lifetimes -> offsets
 *   run.c       states, the walk over steps, observing
 *   run_conv.c  conv, depthwise, linear        run_ops.c  everything else
 *
 * One step computes rows [begin, end) of one image's output: steps know nothing of batches or threads, which is why
 * results cannot depend on them.
 */
#ifndef OCT_INT8_ENGINE_H
#define OCT_INT8_ENGINE_H

#include "autograd/base/memory.h"
#include "quant/int8/kernels/i8_kernels.h"
#include "quant/int8/spec.h"

/* How one step is cut and what scratch it needs: the same numbers size the scratch and drive the run. */
typedef struct oct_int8_cut {
    int rows_serial;    /* output rows per call when one thread owns the image: bounded by the cache */
    int rows_parallel;  /* output rows per work item when threads share the image, <= rows_serial */
    int chunk_pixels;   /* conv, depthwise: output pixels per kernel call */
    size_t image_bytes; /* scratch: padded image of rows_serial rows, all groups (0 when operands are read in place) */
    size_t group_bytes; /* of one group within it */
    size_t acc_bytes;   /* scratch: accumulators */
} oct_int8_cut;

typedef struct oct_int8_step {
    oct_int8_layer layer;         /* bias and weights are NULL here: they live in the packed form */
    const oct_int8_tensor *in[OCT_INT8_MAX_INPUTS], *out;
    const void *packed;           /* packed weights, group after group */
    size_t packed_group_bytes;
    const int32_t *start;         /* bias + correction, each group rounded up to OCT_I8_BLOCK outputs */
    const int8_t *shift;          /* per output channel; NULL for scores */
    int group_inputs, group_outputs, group_operands; /* channels of one group; operands are the padded channels */
    bool in_place;                /* operands are the codes as they lie: nothing to copy */
    bool pointwise;               /* 1x1, stride 1: all pixels of a block are one row */
    bool nothing;                 /* flatten: the output is the input's memory */
    oct_int8_cut cut;
} oct_int8_step;

struct oct_int8_model {
    oct_arena arena;
    oct_i8_kernels kernels;
    oct_int8_spec spec;           /* tensors, names and information copied into the arena; layers NULL */
    oct_int8_layer_info *info;
    oct_int8_step *steps;
    int step_count;
    int code_input;
    int *root;                    /* tensor whose memory this tensor is (itself, or through flattens) */
    size_t *offset;               /* of roots that live in the arena of one image */
    size_t image_bytes;           /* arena of one image */
    size_t scratch_bytes;         /* of one thread */
};

/* Compiles geometry and cut of one step whose layer, in, out are set; packing is the caller's. */
void oct_int8_plan_step(oct_int8_step *step, const oct_i8_kernels *kernels);
/* Packed weights of a planned step with weights (pack.c), in the caller's memory: packed_bytes, 64-byte aligned, and
 * start_count numbers. Sets packed, packed_group_bytes and start; l->bias NULL counts as 0. */
size_t oct_int8_packed_bytes(const oct_int8_step *step, const oct_i8_kernels *kernels);
size_t oct_int8_start_count(const oct_int8_step *step);
void oct_int8_pack_step(oct_int8_step *step, const oct_int8_layer *l, const oct_i8_kernels *kernels, uint8_t *packed,
                        int32_t *start);

/* root, offset, image_bytes, scratch_bytes from the steps. */
OCT_MUST_USE oct_status oct_int8_plan_memory(oct_int8_model *model, oct_error *error);

/* Rows [begin, end) of the output of one image; end - begin <= cut.rows_serial. in[i] and out are whole images. */
void oct_int8_step_conv(const oct_int8_step *step, const oct_i8_kernels *kernels, void *out, const uint8_t *in,
                        uint8_t *scratch, int begin, int end);
void oct_int8_step_other(const oct_int8_step *step, const oct_i8_kernels *kernels, uint8_t *out,
                         const uint8_t *const in[], uint8_t *scratch, int begin, int end);

#endif
