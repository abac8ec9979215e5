/* SPDX-License-Identifier: BSD-2-Clause
 * Octet's int8 engine: the public header. Everything a C or C++ program needs to run an exported model.
 *
 *     oct_error error = {OCT_OK, ""};
 *     oct_int8_model *model;
 *     oct_int8_state *state;
 *     if (oct_int8_open(&model, bytes, size, NULL, &error) != OCT_OK) { puts(error.message); return 1; }
 *     if (oct_int8_state_create(&state, model, 1, 1, &error) != OCT_OK) { puts(error.message); return 1; }
 *     oct_int8_run(state, pixels, 1, scores);              // pixels: u8 [height][width][channels], scores: int32
 *     printf("class %d\n", oct_int8_argmax(model, scores));
 *     oct_int8_state_destroy(state);
 *     oct_int8_close(model);
 *
 * `bytes` is the flat int8 image (quant/int8/image.h draws it), as bin/export --format image writes it. The engine is
 * exact: the same pixels give the same codes and scores on every CPU level, for any thread count and any batch.
 *
 * Numbers. A tensor holds codes of one byte, unsigned (0..255) or signed (-128..127), with
 * real = (code - zero_point) * scale. Profile po2: the scale is 2^-exponent, the zero point 0. Profile affine: any scale,
 * unsigned codes. Scores are int32 accumulators of the last layer with real = score * scale; the scale may differ per
 * channel, so compare scores through oct_int8_argmax / oct_int8_top: exact in po2, in affine by the products in double,
 * rounded once.
 *
 * Threads. A model is immutable after oct_int8_open: any number of threads may use it at once, each with a state of
 * its own. A state is used by one caller at a time and owns threads - 1 computing threads, which watch for the next
 * work for some 50 microseconds and then sleep. There is no global state. oct_int8_run allocates nothing, does no I/O, and
 * takes no lock except to wake those threads.
 *
 * Include nothing else: this header depends only on autograd/base/status.h (status codes and the message buffer).
 */
#ifndef OCT_OCTET_INT8_H
#define OCT_OCTET_INT8_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oct_int8_model oct_int8_model; /* weights packed for this machine, shapes, names */
typedef struct oct_int8_state oct_int8_state; /* all memory that running needs */

typedef enum oct_int8_kind {
    OCT_INT8_PIXELS, /* u8 as they come from an image file; no exponent */
    OCT_INT8_CODES,  /* one byte a value, u8 or s8 */
    OCT_INT8_SCORES  /* int32 accumulators of the output layer */
} oct_int8_kind;

/* How sums become codes: by a shift (po2), or in profile affine by a multiplier applied in one of three ways (affine.h). */
typedef enum oct_int8_rounding {
    OCT_INT8_ROUND_SHIFT,
    OCT_INT8_ROUND_FLOAT,
    OCT_INT8_ROUND_SINGLE,
    OCT_INT8_ROUND_DOUBLE
} oct_int8_rounding;

/* One tensor of one image, layout [height][width][channels]. Pointers are borrowed from the model (or spec). */
typedef struct oct_int8_tensor {
    const char *name; /* unique among the tensors of a model, 1..255 bytes */
    oct_int8_kind kind;
    int height, width, channels;
    int is_signed;           /* codes are s8; 0 for pixels and scores */
    int exponent;            /* po2: real = code * 2^-exponent; 0 for pixels; scores: used when `exponents` is NULL */
    const int8_t *exponents; /* scores of po2 only: one per channel, or NULL */
    float scale;             /* real value of one code; of a model's tensors in both profiles, 0 for pixels and scores */
    int zero_point;          /* affine: the code of 0, 0..255; 0 in po2 */
} oct_int8_tensor;

/* One layer, for reports. */
typedef struct oct_int8_layer_info {
    const char *name;
    const char *op;   /* "conv", "depthwise", "linear", "add", … */
    int output;       /* index of the tensor it writes */
    uint64_t macs;    /* multiply-accumulates for one image; 0 for layers without weights */
} oct_int8_layer_info;

typedef struct oct_int8_options {
    const char *cpu;          /* kernel level: "c", "avx2", "avx512vnni", … (base/cpu.h); NULL = see cpu_mask */
    const uint32_t *cpu_mask; /* feature bits of base/cpu.h, used when cpu is NULL; NULL = the environment variable
                               * OCT_CPU when set, else everything this machine has */
} oct_int8_options;

/* Reads the flat image, checks every number in it, and packs the weights for the chosen kernels. *out = the model,
 * NULL on failure. `bytes` may lie at any address and is no longer needed when the call returns. `options` and
 * `error` may be NULL. Hostile bytes are refused with a message, never read out of bounds.
 * OCT_ERR_FORMAT: not an int8 image, damaged, or inconsistent (names the layer). OCT_ERR_UNSUPPORTED: a version,
 * profile or CPU level this build does not have. OCT_ERR_ARGUMENT: unknown level name. OCT_ERR_MEMORY. */
OCT_MUST_USE oct_status oct_int8_open(oct_int8_model **out, const void *bytes, size_t size,
                                      const oct_int8_options *options, oct_error *error);
/* Destroy the states first. NULL is allowed. */
void oct_int8_close(oct_int8_model *model);

/* *out = memory to run up to max_batch images a call on up to `threads` threads (0 = all processors), NULL on
 * failure. Memory grows with threads, not with max_batch (except while observing). The model must outlive it.
 * max_batch 1..65536, threads 0..1024, else OCT_ERR_ARGUMENT; OCT_ERR_MEMORY. */
OCT_MUST_USE oct_status oct_int8_state_create(oct_int8_state **out, const oct_int8_model *model, int max_batch,
                                              int threads, oct_error *error);
void oct_int8_state_destroy(oct_int8_state *state); /* NULL is allowed */

/* scores[count][outputs] from pixels u8 [count][height][width][channels] of the input tensor. count 1..max_batch.
 * outputs = oct_int8_output_count. A model whose last layer writes codes gives those codes as int32.
 * OCT_ERR_ARGUMENT: count out of range. OCT_ERR_STATE: the model takes codes only. The message of a failed run is
 * at oct_int8_state_error. pixels and scores must not overlap. */
oct_status oct_int8_run(oct_int8_state *state, const uint8_t *pixels, int count, int32_t *scores);
/* The same from codes [count][height][width][channels] of the tensor oct_int8_code_input, as bytes (u8 or s8). */
oct_status oct_int8_run_codes(oct_int8_state *state, const uint8_t *codes, int count, int32_t *scores);
/* Message of the last run that failed, "" if none has. Valid until the next run. */
const char *oct_int8_state_error(const oct_int8_state *state);

/* Index of the largest of scores[outputs], comparing score * 2^-exponent exactly (affine: (double)score * scale, rounded
 * once); ties go to the lowest index. */
int oct_int8_argmax(const oct_int8_model *model, const int32_t *scores);
/* indices[0..count-1] = the `count` largest, descending, same comparison and ties. count is cut to outputs; returns
 * how many were written. */
int oct_int8_top(const oct_int8_model *model, const int32_t *scores, int *indices, int count);

/* The model as numbers. Pointers live as long as the model; an index out of range gives NULL. */
int oct_int8_tensor_count(const oct_int8_model *model);
const oct_int8_tensor *oct_int8_tensor_at(const oct_int8_model *model, int tensor);
int oct_int8_layer_count(const oct_int8_model *model);
const oct_int8_layer_info *oct_int8_layer_at(const oct_int8_model *model, int layer);
int oct_int8_input(const oct_int8_model *model);      /* tensor index of what oct_int8_run takes */
int oct_int8_code_input(const oct_int8_model *model); /* tensor index of what oct_int8_run_codes takes */
int oct_int8_output(const oct_int8_model *model);     /* tensor index of the result */
int oct_int8_output_count(const oct_int8_model *model); /* int32 per image: height*width*channels of the output */
/* Exponent of scores[i] in a po2 model: real = score * 2^-exponent; 0 in profile affine. */
int oct_int8_score_exponent(const oct_int8_model *model, int i);
/* Real value of one unit of scores[i], in both profiles; of codes too, when the output is codes (minus their zero point). */
double oct_int8_score_scale(const oct_int8_model *model, int i);
oct_int8_rounding oct_int8_model_rounding(const oct_int8_model *model);
const char *oct_int8_class_name(const oct_int8_model *model, int i); /* NULL when the model has no class names */
uint64_t oct_int8_source_digest(const oct_int8_model *model); /* digest of the float parameters it was made from */
/* What was done to images in training, for information: real = (pixel - mean[c]) * scale[c] (NULL if not recorded;
 * one per input channel), after scaling the shorter side to `resize` and a centre crop (0 = both sides scaled to the
 * input's size) by antialiased interpolation, "bilinear" or "bicubic". */
const float *oct_int8_mean(const oct_int8_model *model);
const float *oct_int8_scale(const oct_int8_model *model);
int oct_int8_resize(const oct_int8_model *model);
const char *oct_int8_interpolation(const oct_int8_model *model);
const char *oct_int8_level(const oct_int8_model *model); /* level of the kernels in use, "c", "avx2", … */

/* What oct_int8_open took, in seconds: reading and checking the image, packing weights. The first run comes on top of it. */
double oct_int8_open_seconds(const oct_int8_model *model);
/* Resident bytes. */
size_t oct_int8_model_bytes(const oct_int8_model *model);
size_t oct_int8_state_bytes(const oct_int8_state *state);

/* Where the time goes. One entry per layer, in execution order. */
typedef struct oct_int8_layer_time {
    const char *name, *op;
    const char *kernel;  /* entries of the kernel table that ran ("conv_codes", "depthwise_row+requantize", …), "" for a
                          * layer that is no work (flatten) or that the next one does on the way (an input table) */
    double seconds;      /* since profiling began: of the calling thread where threads share images, else the sum over
                          * the threads, each with images of its own */
    uint64_t macs;       /* of one image */
    uint64_t bytes;      /* read and written for one image: inputs, output, packed weights */
} oct_int8_layer_time;
/* From now on runs measure their layers, two clock readings each; on = 0 stops that and forgets the times. Returns
 * OCT_ERR_MEMORY when the counters cannot be had. */
OCT_MUST_USE oct_status oct_int8_profile(oct_int8_state *state, int on, oct_error *error);
/* *count entries, valid until the next call on this state; NULL and 0 while not profiling. *images (NULL allowed) = how
 * many images were run since it began. */
const oct_int8_layer_time *oct_int8_layer_times(oct_int8_state *state, int *count, uint64_t *images);

/* Called after each layer, in execution order, on the thread that called run: `data` is the whole batch of the tensor
 * the layer wrote, [count][height][width][channels], bytes for codes and int32 for scores; valid during the call. */
typedef void oct_int8_observer(void *user, int tensor, const void *data, int count);
/* From now on every run calls fn after each layer, every tensor being materialised; NULL stops it. Allocates the
 * memory of max_batch whole images (OCT_ERR_MEMORY), freed when observing stops. */
OCT_MUST_USE oct_status oct_int8_observe(oct_int8_state *state, oct_int8_observer *fn, void *user, oct_error *error);

#ifdef __cplusplus
}
#endif
#endif
