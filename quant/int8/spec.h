/* SPDX-License-Identifier: BSD-2-Clause
 * An int8 model as plain data: what the exporter fills in, the two file forms carry (image.h: flat bytes,
 * quant/int8_file.h: HDF5), the engine compiles, and tests interpret on their own.
 *
 * A spec owns nothing: every pointer is borrowed from whoever made it.
 *
 * Arithmetic (profile "po2"; rounding functions in requant.h; codes x with exponent k mean x * 2^-k):
 *   lookup       y = table[c][byte of x]                            pixels -> codes, or any function of one code
 *   conv, depthwise, linear
 *                acc = bias[o] + sum w*x, absent (padding) taps count 0; acc has exponent kx + kw[o]
 *                codes:  y = clamp(rshift_round(acc, kx + kw[o] - ky), lo, hi)
 *                scores: y = acc
 *   add          k = max(ka, kb);  y = clamp(rshift_round(a*2^(k-ka) + b*2^(k-kb), k - ky), lo, hi)
 *   sub          add with -b for b
 *   mul          y = clamp(rshift_round(a*b, ka + kb - ky), lo, hi)
 *   concat       along channels; each input y = clamp(rshift_round(x, kx - ky), lo, hi)
 *   rescale      y = clamp(rshift_round(x, kx - ky), lo, hi)
 *   max_pool     maximum of the taps inside the image; exponent and signedness unchanged
 *   average_pool y = clamp(average_round(sum, n, ky - kx), lo, hi) over the n taps inside the image
 *   flatten      the same bytes as [1][1][height*width*channels]
 *   reshape      the same bytes under any shape
 *   pad          y[p][q][c] = x[(p*stride_h - pad_top)/dilation_h][(q*stride_w - pad_left)/dilation_w][c + option] where that
 *                is whole and inside x, else the code of 0: padding (also between pixels), crops, steps. kernel 1, pad_bottom,
 *                pad_right 0, groups 1; pad_top and pad_left may be negative
 *   resize_nearest, resize_bilinear   output o lies at position (option 0) (o + 1/2)*in/out - 1/2, (1) o*in/out,
 *                (2) o*(in - 1)/(out - 1), within 0..in - 1, on each axis. nearest: floor of it (1), else floor(it + 1/2);
 *                bilinear: fraction rounded half up to 1024ths, y = (sum of four pixels times products of weights + 2^19) >> 20
 *   softmax      over channels: E[d] = table[0][d] + 256*table[1][d] + 65536*table[2][d], d = largest code - code;
 *                y = min(floor((256*E + floor(S/2))/S), 255), S = sum of E: unsigned codes of exponent 8
 *   argmax       scores [height][width][1]: channel of the largest code, the lowest of equal ones
 * flatten, reshape, pad, resizes and max_pool keep exponent and signedness, or scale and zero point.
 *
 * Profile "affine" (affine.h): codes x of scale s and zero point z mean (x - z)*s and are u8; weights s8 of scale sw[o];
 * `rounding` says how R(acc, M) = clamp(round(acc*M) + zy, lo, hi) rounds.
 *   conv, depthwise, linear
 *                acc = bias[o] + sum w*(x - zx), absent taps count x = zx;  y = R(acc, sx*sw[o]/sy); scores: y = acc
 *   add          float: clamp(rne((a - za)*(float)(sa/sy) + (b - zb)*(float)(sb/sy)) + zy); fixed point: affine.h
 *   sub          the same with the second term negated
 *   mul          R((a - za)*(b - zb), sa*sb/sy)
 *   concat, rescale   each input R(x - zx, sx/sy)
 *   average_pool R(sum - n*zx, sx/(sy*n)) over the n taps inside the image
 *   all others   as above; the code of 0 is the zero point, softmax has the scale 2^-8 and the zero point 0
 */
#ifndef OCT_INT8_SPEC_H
#define OCT_INT8_SPEC_H

#include <stdbool.h>

#include "quant/int8/octet_int8.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Operators are identified by name in files (oct_int8_op_name); these numbers live in memory only. */
typedef enum oct_int8_op {
    OCT_INT8_LOOKUP,
    OCT_INT8_CONV, /* dense or grouped */
    OCT_INT8_DEPTHWISE,
    OCT_INT8_LINEAR,
    OCT_INT8_ADD,
    OCT_INT8_MUL,
    OCT_INT8_CONCAT,
    OCT_INT8_MAX_POOL,
    OCT_INT8_AVERAGE_POOL, /* global pooling: the kernel is the whole image */
    OCT_INT8_RESCALE,
    OCT_INT8_FLATTEN,
    OCT_INT8_SUB,
    OCT_INT8_RESHAPE,
    OCT_INT8_PAD, /* and crop */
    OCT_INT8_RESIZE_NEAREST,
    OCT_INT8_RESIZE_BILINEAR,
    OCT_INT8_SOFTMAX,
    OCT_INT8_ARGMAX,
    OCT_INT8_OP_COUNT
} oct_int8_op;

enum {
    OCT_INT8_MAX_INPUTS = 8,
    OCT_INT8_MAX_NAME = 255,          /* bytes of any name, without the NUL */
    OCT_INT8_MAX_TENSORS = 4096,
    OCT_INT8_MAX_LAYERS = 4096,
    OCT_INT8_MAX_SIDE = 1 << 15,      /* height, width, kernel, stride, dilation, padding */
    OCT_INT8_MAX_CHANNELS = 1 << 20,
    OCT_INT8_MAX_ELEMENTS = 1 << 28,  /* of a tensor, of a layer's weights, of a padded image */
    OCT_INT8_MAX_EXPONENT = 60,       /* |exponent| of tensors and weights; scores may have the sum of two */
    OCT_INT8_MAX_POOL_TAPS = 1 << 23, /* so that 255 * taps < 2^31 */
    OCT_INT8_MIN_SHIFT = -31,         /* of every requantization */
    OCT_INT8_MAX_SHIFT = 62,
    OCT_INT8_MAX_ADD_SHIFT = 40       /* |ka - kb| of an add; above 22 its own shift k - ky must be >= 0 */
};
#define OCT_INT8_PROFILE_PO2 "po2"
#define OCT_INT8_PROFILE_AFFINE "affine"

typedef struct oct_int8_layer {
    oct_int8_op op;
    const char *name;                /* unique among layers, 1..255 bytes */
    int inputs[OCT_INT8_MAX_INPUTS]; /* tensor indices, each produced by an earlier layer or the model input */
    int input_count;                 /* 1; 2 for add, sub and mul; 1..8 for concat */
    int output;                      /* tensor index, written by no other layer */

    /* Geometry of conv, depthwise and pooling (0 for the others; pooling: dilation and groups 1):
     * size_out = (size_in + padding before + after - dilation*(kernel-1) - 1) / stride + 1, rounded down. Each padding
     * is at most dilation*(kernel-1), so that every window holds a pixel of the image. */
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    int pad_top, pad_left, pad_bottom, pad_right;
    int option; /* pad: input channel of output channel 0; resizes: grid of the positions; 0 for the others */
    int groups; /* conv: divides both channel counts; depthwise: the channel count (multiplier 1); pooling: 1 */

    /* conv [out][kernel_h][kernel_w][in/groups], depthwise [kernel_h][kernel_w][channels], linear [out][in], where in =
     * height*width*channels of the input in that order. Each in [-127, 127]; 255 * sum|w| < 2^29 per output. */
    const int8_t *weights;
    const int32_t *bias;             /* one per output channel, exponent kx + kw or scale sx*sw, |bias| < 2^30 */
    const int8_t *weight_exponents;  /* po2, kw: real weight = code * 2^-kw; else NULL */
    const float *weight_scales;      /* affine, sw: real weight = code * sw, finite and > 0; else NULL */
    int weight_exponent_count;       /* of exponents or scales: 1 or one per output channel */

    int out_lo, out_hi; /* clamp of the output codes, within the output's signedness, lo <= hi; 0, 0 where nothing is
                         * clamped: scores, lookup, max_pool, flatten and all below it in oct_int8_op but sub */

    const uint8_t *table; /* lookup: [table_rows][256] output codes, indexed by the input byte (s8 codes as u8); softmax */
    int table_rows;       /* lookup: 1 (shared) or one per channel; softmax: 3 */
} oct_int8_layer;

typedef struct oct_int8_spec {
    const char *profile; /* OCT_INT8_PROFILE_PO2 or OCT_INT8_PROFILE_AFFINE */
    oct_int8_rounding rounding; /* SHIFT in po2, one of the others in affine */
    const oct_int8_tensor *tensors;
    int tensor_count;
    const oct_int8_layer *layers; /* in execution order */
    int layer_count;
    int input;  /* pixels (then layer 0 is a lookup and its only reader) or codes */
    int output; /* scores (written by conv, depthwise or linear) or codes */

    const char *const *class_names; /* class_count of them, or NULL */
    int class_count;                /* 0 or the channel count of the output */
    /* Preprocessing, for information: see oct_int8_mean in octet_int8.h. Both NULL or both one per input channel. */
    const float *mean, *scale;
    int resize;        /* 0..MAX_SIDE */
    int interpolation; /* 0 bilinear, 1 bicubic */

    uint64_t source_digest; /* digest of the parameters the model was exported from (not of the file) */
    const char *tool;       /* name and version of the writer, at most 255 bytes, never NULL */
} oct_int8_spec;

/* "lookup", "conv", "depthwise", "linear", "add", "mul", "concat", "max_pool", "average_pool", "rescale", "flatten", "sub",
 * "reshape", "pad", "resize_nearest", "resize_bilinear", "softmax", "argmax".
 * from_name returns OCT_INT8_OP_COUNT for an unknown name. */
const char *oct_int8_op_name(oct_int8_op op);
oct_int8_op oct_int8_op_from_name(const char *name);
/* "pixels", "codes", "scores"; from_name returns false for an unknown name. */
const char *oct_int8_kind_name(oct_int8_kind kind);
bool oct_int8_kind_from_name(oct_int8_kind *kind, const char *name);
/* "bilinear", "bicubic"; -1 for an unknown name. */
const char *oct_int8_interpolation_name(int interpolation);
int oct_int8_interpolation_from_name(const char *name);
/* "shift", "float", "single", "double"; from_name returns false for an unknown name. */
const char *oct_int8_rounding_name(oct_int8_rounding rounding);
bool oct_int8_rounding_from_name(oct_int8_rounding *rounding, const char *name);
bool oct_int8_spec_is_affine(const oct_int8_spec *spec);

bool oct_int8_op_has_weights(oct_int8_op op);
bool oct_int8_op_has_geometry(oct_int8_op op);
bool oct_int8_op_has_limits(oct_int8_op op); /* scores excepted */
bool oct_int8_op_has_option(oct_int8_op op);
bool oct_int8_op_has_table(oct_int8_op op);
enum { OCT_INT8_GRIDS = 3 };

/* Values of a tensor, weights and MACs of a layer. The spec must have passed oct_int8_spec_check_shapes. */
size_t oct_int8_tensor_elements(const oct_int8_tensor *tensor);
size_t oct_int8_tensor_bytes(const oct_int8_tensor *tensor); /* 4 per value for scores */
size_t oct_int8_weight_count(const oct_int8_spec *spec, const oct_int8_layer *layer);
int oct_int8_layer_outputs(const oct_int8_spec *spec, const oct_int8_layer *layer); /* output channels */
uint64_t oct_int8_layer_macs(const oct_int8_spec *spec, const oct_int8_layer *layer);
/* Exponent of scores (or weights) of channel c. */
int oct_int8_tensor_exponent(const oct_int8_tensor *tensor, int c);
int oct_int8_weight_exponent(const oct_int8_layer *layer, int o);
/* Real value of one code of the tensor, of one unit of output o's accumulator (1 without weights); both profiles. */
double oct_int8_code_scale(const oct_int8_spec *spec, const oct_int8_tensor *tensor);
double oct_int8_acc_scale(const oct_int8_spec *spec, const oct_int8_layer *layer, int o);

/* Everything that can be said without looking at arrays (weights, bias, exponents per channel, tables): names, indices,
 * order, shapes, geometry, limits, sizes. Readers call it before they size any array. */
OCT_MUST_USE oct_status oct_int8_spec_check_shapes(const oct_int8_spec *spec, oct_error *error);
/* The whole: shapes, then weights, accumulator bounds, biases, exponents, shifts, tables. OCT_ERR_FORMAT naming layer,
 * expected and found; OCT_ERR_UNSUPPORTED for another profile. */
OCT_MUST_USE oct_status oct_int8_spec_check(const oct_int8_spec *spec, oct_error *error);

#ifdef __cplusplus
}
#endif
#endif
