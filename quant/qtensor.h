/* SPDX-License-Identifier: BSD-2-Clause
 * Quantized tensors: codes of 4, 8 or 16 bits with what they stand for,
 *
 *   real = (code - zero_point) * scale          scale and zero point of the tensor, or one per index of an axis
 *
 * Row-major like every tensor here. Codes of 4 bits lie two in a byte, in the order of the elements, the first in the
 * high nibble; an odd last one leaves the low nibble 0. A tensor owns its memory. Not thread-safe per object; reading
 * from several threads is fine.
 */
#ifndef OCT_QTENSOR_H
#define OCT_QTENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/graph.h"

typedef enum oct_qtype { OCT_QTYPE_U8, OCT_QTYPE_S8, OCT_QTYPE_U16, OCT_QTYPE_S16, OCT_QTYPE_S4 } oct_qtype;

/* Which codes of the type are used, b bits:        unsigned        signed
 *   full                                           0..2^b - 1      -2^(b-1)..2^(b-1) - 1
 *   narrow (symmetric weights)                     -               -(2^(b-1) - 1)..2^(b-1) - 1
 *   reduced (one bit less: u8 x s8 products whose
 *            pairs must fit 16 bits)               0..2^(b-1) - 1  -2^(b-2)..2^(b-2) - 1 */
typedef enum oct_qrange { OCT_QRANGE_FULL, OCT_QRANGE_NARROW, OCT_QRANGE_REDUCED } oct_qrange;

/* From a real x to a code, then clamped to the range. v = x * (1/scale) in float, 1/scale rounded to float:
 *
 *   even       rne(v) + z       half to even: profile affine, PyTorch's fake quantization
 *   even-sum   rne(v + z)       PyTorch's quantize_per_tensor; another code than `even` on ties when z is odd
 *   up         rup(v) + z       half up: activations of profile po2
 *   away       rha(v) + z       half away from 0: weights and biases of profile po2 */
typedef enum oct_qrounding { OCT_QROUND_EVEN, OCT_QROUND_EVEN_SUM, OCT_QROUND_UP, OCT_QROUND_AWAY } oct_qrounding;

typedef struct oct_qformat {
    oct_qtype type;
    oct_qrange range;
    oct_qrounding rounding; /* of quantize and set */
} oct_qformat;

const char *oct_qtype_name(oct_qtype type);             /* "u8", "s8", "u16", "s16", "s4"; NULL otherwise */
const char *oct_qrange_name(oct_qrange range);          /* "full", "narrow", "reduced" */
const char *oct_qrounding_name(oct_qrounding rounding); /* "even", "even-sum", "up", "away" */

/* Lowest and highest code. OCT_ERR_ARGUMENT: unknown members, narrow and unsigned. */
OCT_MUST_USE oct_status oct_qformat_limits(int *lo, int *hi, const oct_qformat *format, oct_error *error);

/* Borrowed by calls that take it, copied by the tensor. */
typedef struct oct_qparams {
    const float *scales;        /* count of them, finite, > 0, with a finite inverse */
    const int32_t *zero_points; /* count, each a code of the range; NULL: all 0 */
    int count;                  /* 1: per tensor; else dim[axis] */
    int axis;                   /* 0 .. rank - 1; not looked at when count is 1 */
} oct_qparams;

/* Scale and zero point for the real range [lo, hi], finite, lo <= hi, which is widened to hold 0. The scale is at
 * least 2^-23 (in power-of-two the range is at least 2^-16), so that constants and zeros do no harm.
 *
 *   affine         scale = (hi - lo)/(qmax - qmin), zero = clamp(qmin - rne(lo/scale)), in float (PyTorch)
 *   symmetric      scale = max|x|/((qmax - qmin)/2); zero 0, of unsigned codes 2^(b-1) or, reduced, (qmin + qmax)/2
 *   power-of-two   scale = 2^e, the smallest of which 2^(b-1) (unsigned: 2^b) steps reach max|x| (unsigned: hi);
 *                  zero 0 (TI) */
typedef enum oct_qscheme { OCT_QSCHEME_AFFINE, OCT_QSCHEME_SYMMETRIC, OCT_QSCHEME_PO2 } oct_qscheme;
OCT_MUST_USE oct_status oct_qparams_of_range(float *scale, int32_t *zero_point, float lo, float hi,
                                             oct_qscheme scheme, const oct_qformat *format, oct_error *error);

typedef struct oct_qtensor oct_qtensor;

/* Every create: *out = a new tensor (NULL on failure), caller destroys. The shape has rank 0..4 and no OCT_BATCH; a
 * dimension may be 0. OCT_ERR_ARGUMENT (format, shape, parameters out of their ranges), OCT_ERR_SHAPE (count is
 * neither 1 nor the axis' size), OCT_ERR_MEMORY (or more than 2^31 - 1 elements). */
/* Codes of `values`. Infinite values saturate. OCT_ERR_NUMERIC names the first NaN. */
OCT_MUST_USE oct_status oct_qtensor_quantize(oct_qtensor **out, const float *values, const oct_shape *shape,
                                             const oct_qformat *format, const oct_qparams *params, oct_error *error);
/* From codes, one int32 each, every one within the format's limits (else OCT_ERR_ARGUMENT naming the first that is
 * not). */
OCT_MUST_USE oct_status oct_qtensor_from_codes(oct_qtensor **out, const int32_t *codes, const oct_shape *shape,
                                               const oct_qformat *format, const oct_qparams *params,
                                               oct_error *error);
OCT_MUST_USE oct_status oct_qtensor_copy(oct_qtensor **out, const oct_qtensor *tensor, oct_error *error);
void oct_qtensor_destroy(oct_qtensor *tensor); /* NULL is allowed */

const oct_shape *oct_qtensor_shape(const oct_qtensor *tensor);
const oct_qformat *oct_qtensor_format(const oct_qtensor *tensor);
/* Pointers into the tensor; zero_points is never NULL, axis is -1 per tensor. */
oct_qparams oct_qtensor_params(const oct_qtensor *tensor);
size_t oct_qtensor_count(const oct_qtensor *tensor); /* elements */
size_t oct_qtensor_bytes(const oct_qtensor *tensor); /* of its codes: (count + 1)/2, count or 2 * count */
/* The codes as they lie in memory: uint8_t, int8_t, uint16_t, int16_t, or packed nibbles. */
const void *oct_qtensor_data(const oct_qtensor *tensor);

/* Whole tensors: count codes as integers, count reals ((float)(code - zero) * scale, one rounding). */
void oct_qtensor_codes(const oct_qtensor *tensor, int32_t *codes);
void oct_qtensor_dequantize(const oct_qtensor *tensor, float *values);

/* One element, by its position in row-major order or by its index per dimension. OCT_ERR_ARGUMENT: outside the
 * tensor; set: a code outside the limits; OCT_ERR_NUMERIC: set_value of NaN. */
OCT_MUST_USE oct_status oct_qtensor_position(const oct_qtensor *tensor, size_t *position, const int32_t *index,
                                             oct_error *error);
OCT_MUST_USE oct_status oct_qtensor_code(const oct_qtensor *tensor, size_t position, int32_t *code, oct_error *error);
OCT_MUST_USE oct_status oct_qtensor_value(const oct_qtensor *tensor, size_t position, float *value, oct_error *error);
OCT_MUST_USE oct_status oct_qtensor_set_code(oct_qtensor *tensor, size_t position, int32_t code, oct_error *error);
/* Quantizes like oct_qtensor_quantize. */
OCT_MUST_USE oct_status oct_qtensor_set_value(oct_qtensor *tensor, size_t position, float value, oct_error *error);

/* Same shape, format, parameters and codes. */
int oct_qtensor_equal(const oct_qtensor *a, const oct_qtensor *b);

/* A head line ("s8 narrow [2,2,3] per channel of axis 2 (3), even"), then the reals, one row of the last dimension a
 * line, through `line`; of more than max_rows rows (0 = 16) the middle ones are replaced by "...". */
typedef void oct_qtensor_line_fn(void *user, const char *line);
void oct_qtensor_print(const oct_qtensor *tensor, int max_rows, oct_qtensor_line_fn *line, void *user);

/* HDF5 file of one tensor: attributes format "octet-qtensor", version 1, type, range, rounding (texts), shape s32
 * [rank] (absent for rank 0), axis s32 (-1 per tensor); datasets scales f32 [n], zero_points s32 [n], codes
 * [elements] of the type's own number type, s4: u8 [(elements + 1)/2] as in memory. Written atomically; the same
 * tensor gives the same bytes. Reading checks every size before it allocates, and every code: OCT_ERR_IO,
 * OCT_ERR_FORMAT (file, object and reason), OCT_ERR_UNSUPPORTED (version), OCT_ERR_MEMORY. Not from several threads
 * at once: HDF5. */
OCT_MUST_USE oct_status oct_qtensor_save(const oct_qtensor *tensor, const char *path, oct_error *error);
OCT_MUST_USE oct_status oct_qtensor_load(oct_qtensor **out, const char *path, oct_error *error);

#endif
