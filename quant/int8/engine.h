/* SPDX-License-Identifier: BSD-2-Clause
 * Inside the engine: the compiled model, its plan, and how the parts call each other. Private to quant/int8.
 *
 *   model.c     open: parse, pack weights, compile layers into steps; accessors
 *   pack.c      weights of one step in the kernels' layout; quantized training uses it too
 *   plan.c      how each step is cut, its scratch, tensor lifetimes -> offsets
 *   run.c       states, the walk over steps, observing
 *   run_conv.c  conv, depthwise, linear        run_ops.c, run_shape.c  everything else
 *   step_affine.c   what profile affine does differently in a step
 *
 * One step computes rows [begin, end) of one image's output: steps know nothing of batches or threads, which is why
 * results cannot depend on them.
 */
#ifndef OCT_INT8_ENGINE_H
#define OCT_INT8_ENGINE_H

#include "autograd/base/memory.h"
#include "quant/int8/affine.h"
#include "quant/int8/kernels/i8_kernels.h"
#include "quant/int8/spec.h"

/* What one call computes: rows [begin, end), output channels [first, first + count). */
typedef struct oct_int8_part {
    int begin, end, first, count;
} oct_int8_part;

/* How one step is cut and what scratch it needs: the same numbers size the scratch and drive the run. */
typedef struct oct_int8_cut {
    int rows_serial;    /* output rows per call when one thread owns the image: bounded by the cache */
    int rows_parallel;  /* output rows per work item when threads share the image, <= rows_serial */
    bool shares_outputs; /* threads share outputs, OCT_INT8_PART_OUTPUTS at a time, instead of rows */
    int chunk_pixels;   /* conv, depthwise: output pixels per kernel call */
    size_t image_bytes; /* scratch: padded image of rows_serial rows, all groups (0 when operands are read in place) */
    size_t group_bytes; /* of one group within it */
    size_t acc_bytes;   /* scratch: accumulators */
} oct_int8_cut;

/* Profile affine: what turns the numbers of a step into codes. Arrays of a step with weights have one per output channel,
 * `multiplier` laid out like start where the kernels write codes. */
typedef struct oct_int8_step_affine {
    bool on;
    oct_int8_rounding rounding;
    const float *multiplier;           /* rounding float */
    const oct_affine_factor *factor;   /* single, double */
    oct_affine_factor one;             /* mul */
    oct_affine_add add;
    const int32_t *terms;              /* add in single, double: [2][256] operands in fixed point */
    const uint8_t *table;              /* concat, rescale: [inputs][256] codes */
} oct_int8_step_affine;

typedef struct oct_int8_step {
    oct_int8_layer layer;         /* bias and weights are NULL here: they live in the packed form */
    const oct_int8_tensor *in[OCT_INT8_MAX_INPUTS], *out;
    const void *packed;           /* packed weights, group after group */
    size_t packed_group_bytes, packed_block_bytes; /* of one group, of OCT_I8_BLOCK outputs within it (dense) */
    const int32_t *start;         /* bias + correction (+ rounding), each group rounded up to OCT_I8_BLOCK outputs */
    const int8_t *shift;          /* po2, sums become codes behind the kernel: per output channel; else NULL */
    const int32_t *code_shift;    /* po2, the kernels write codes: laid out like start; else NULL */
    oct_int8_step_affine affine;  /* profile affine */
    const uint8_t *zeros;         /* depthwise on codes: an input row whose value is 0 */
    bool writes_codes;            /* every shift suits the kernels that write codes */
    bool depthwise_codes;         /* depthwise on codes: nothing is padded */
    int group_inputs, group_outputs, group_operands; /* channels of one group; operands are the padded channels */
    bool in_place;                /* operands are the codes as they lie: nothing to copy */
    bool pointwise;               /* 1x1, stride 1: all pixels of a block are one row */
    bool nothing;                 /* flatten: the output is the input's memory */
    oct_int8_cut cut;
} oct_int8_step;

enum { OCT_INT8_PART_OUTPUTS = 4 * OCT_I8_BLOCK };

enum { OCT_INT8_DEPTHWISE_ROWS = 16 }; /* output rows of one call of depthwise_codes */

struct oct_int8_model {
    oct_arena arena;
    oct_i8_kernels kernels;
    oct_int8_spec spec;           /* tensors, names and information copied into the arena; layers NULL */
    oct_int8_layer_info *info;
    oct_int8_step *steps;
    int step_count;
    int code_input;
    double *score_scale;          /* per channel of an output of scores: real value of one unit */
    bool fused_lookup;            /* step 0 is a table that step 1 reads through */
    int *root;                    /* tensor whose memory this tensor is (itself, or through flattens) */
    size_t *offset;               /* of roots that live in the arena of one image */
    size_t image_bytes;           /* arena of one image */
    size_t scratch_bytes;         /* of one thread */
    double open_seconds;
};

/* Compiles geometry and cut of one step whose layer, in, out, writes_codes are set; packing is the caller's. */
void oct_int8_plan_step(oct_int8_step *step, const oct_i8_kernels *kernels);
/* Packed weights of a planned step with weights (pack.c), in the caller's memory: packed_bytes, 64-byte aligned, and
 * start_count numbers. Sets packed, packed_group_bytes and start; l->bias NULL counts as 0. code_shift must be set
 * before when the step writes codes. */
size_t oct_int8_packed_bytes(const oct_int8_step *step, const oct_i8_kernels *kernels);
size_t oct_int8_start_count(const oct_int8_step *step);
void oct_int8_pack_step(oct_int8_step *step, const oct_int8_layer *l, const oct_i8_kernels *kernels, uint8_t *packed,
                        int32_t *start);

/* The layer as depthwise_codes sees it. */
static inline oct_i8_depthwise oct_int8_step_depthwise(const oct_int8_step *step)
{
    return (oct_i8_depthwise){step->out->channels, step->layer.kernel_h, step->layer.stride_h, step->in[0]->is_signed};
}

uint64_t oct_int8_now(void); /* nanoseconds of a clock that does not jump */

/* What runs a step, for reports: entries of the kernel table. fused: it reads pixels through the input table. */
const char *oct_int8_step_kernel(const oct_int8_step *step, bool fused);

/* root, offset, image_bytes, scratch_bytes from the steps. */
OCT_MUST_USE oct_status oct_int8_plan_memory(oct_int8_model *model, oct_error *error);

/* Rows [begin, end) of the output of one image; end - begin <= cut.rows_serial. in[i] and out are whole images. */
void oct_int8_step_conv(const oct_int8_step *step, const oct_i8_kernels *kernels, void *out, const uint8_t *in,
                        uint8_t *scratch, int begin, int end);
/* A part of it. first is a multiple of OCT_I8_BLOCK, and 0 with all channels unless cut.shares_outputs.
 * With `lookup` (NULL: none) `in` holds pixels that are read through its table; conv with one group, not in place. */
void oct_int8_step_conv_part(const oct_int8_step *step, const oct_i8_kernels *kernels, void *out, const uint8_t *in,
                             const oct_int8_layer *lookup, uint8_t *scratch, oct_int8_part part);
/* Rows of the steps that know grids (add, mul, concat, rescale) and one pixel of an average pool, in profile affine. */
void oct_int8_affine_rows(const oct_int8_step *step, const oct_i8_kernels *kernels, uint8_t *out,
                          const uint8_t *const in[], size_t first_pixel, size_t pixels);
void oct_int8_affine_average(const oct_int8_step *step, uint8_t *out, const int32_t *sum, int32_t taps, int channels);
/* Sums of a step with weights to codes, [pixels][channels] each. */
void oct_int8_affine_requantize(const oct_int8_step *step, const oct_i8_kernels *kernels, uint8_t *codes,
                                const int32_t *acc, size_t pixels);
/* Whether the kernels can write the codes of a step with weights; its in, out, layer are set. scales as in the next. */
bool oct_int8_affine_writes_codes(const oct_int8_step *step, oct_int8_rounding rounding, const float *scales, int count);
/* Fills step->affine of a planned step whose tensors have their scales and zero points. `scales`: of the weights, 1 or one per
 * output channel (NULL without weights). `memory`: oct_int8_affine_bytes, 64-byte aligned; the step keeps pointing there. */
size_t oct_int8_affine_bytes(const oct_int8_step *step);
void oct_int8_affine_prepare(oct_int8_step *step, oct_int8_rounding rounding, const float *scales, int count,
                             void *memory);
void oct_int8_step_other(const oct_int8_step *step, const oct_i8_kernels *kernels, uint8_t *out,
                         const uint8_t *const in[], uint8_t *scratch, int begin, int end);
/* pad, resizes, softmax, argmax (whose out are int32). */
void oct_int8_step_shape(const oct_int8_step *step, const oct_i8_kernels *kernels, uint8_t *out, const uint8_t *in,
                         int begin, int end);

#endif
