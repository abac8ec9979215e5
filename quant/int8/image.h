/* SPDX-License-Identifier: BSD-2-Clause
 * The flat form of an int8 model: one block of bytes that can be compiled into a firmware, mapped, or read.
 *
 * Everything is little-endian; every section and every array starts at a multiple of 64 bytes from the beginning, the
 * gaps hold zeros, and the order below is the only one allowed, so a model has exactly one image. `str` is the offset
 * of a NUL-terminated string within the strings section. f32 is IEEE 754 binary32.
 *
 *   header, 192 bytes
 *     0  u8[8]  magic "OCTINT8" 0x1a
 *     8  u32    version, 1
 *    12  u32    0
 *    16  u64    bytes of the whole image
 *    24  u64    checksum: oct_digest (FNV-1a 64) of bytes 32 .. end
 *    32  u64    digest of the source parameters
 *    40  str    profile ("po2", "affine")
 *    44  str    tool that wrote it
 *    48  u32    tensors     52  u32 layers     56  u32 class names (0 or one per output channel)
 *    60  u32    input tensor                   64  u32 output tensor
 *    68  u32    resize                         72  u32 channels with mean and scale (0 or the input's)
 *    76  str    affine: rounding ("float", "single", "double"); po2: u32 0
 *    80  u64 offset, u64 bytes of each section, in the order they lie in the file:
 *               tensors, layers, class names, preprocessing, strings, arrays
 *   176  u32    interpolation (0 bilinear, 1 bicubic)  180 u8[12] 0
 *   tensors: 64 bytes each
 *     0  str name   4  u32 kind (0 pixels, 1 codes, 2 scores)   8 i32 height  12 i32 width  16 i32 channels
 *    20  u32 signed 24 i32 exponent  28 u32 0   32 u64 offset, 40 u64 bytes of s8 exponents per channel (scores)
 *    48  f32 scale, 52 u32 zero point (codes of profile affine, else 0)      56  u8[8] 0
 *   layers: 256 bytes each
 *     0  str name   4  str operator  8 u32 inputs  12 u32 output  16 u32[8] input tensors (0 where unused)
 *    48  i32 kernel h, w  56 stride h, w  64 dilation h, w  72 padding top, left, bottom, right  88 groups
 *    92  i32 lowest, 96 highest output code  100 u32 table rows  104 u32 weight exponents  108 i32 option
 *   112  u64 offset, u64 bytes of each array, in the order they lie in the file (0, 0 where there is none):
 *          table u8 [rows][256] | weights s8 | weight exponents s8 (affine: weight scales f32) | bias i32
 *   176  u8[80] 0
 *   class names: str each      preprocessing: f32 mean[channels], f32 scale[channels]
 *   strings: NUL-terminated, the section ends with a NUL
 *   arrays: of tensor 0, 1, …, then of layer 0, 1, …; the image ends where the last array ends, rounded up to 64
 */
#ifndef OCT_INT8_IMAGE_H
#define OCT_INT8_IMAGE_H

#include <stdbool.h>

#include "autograd/base/memory.h"
#include "quant/int8/spec.h"

enum { OCT_INT8_IMAGE_VERSION = 1, OCT_INT8_IMAGE_CHECKSUM_AT = 24, OCT_INT8_IMAGE_CHECKED_FROM = 32 };

/* *bytes = the image of a spec that passes oct_int8_spec_check (checked here), freed with oct_free; NULL on failure. */
OCT_MUST_USE oct_status oct_int8_image_write(uint8_t **bytes, size_t *size, const oct_int8_spec *spec,
                                             oct_error *error);

/* *spec = the model in `bytes`, fully checked. Byte arrays and strings point into `bytes`, everything else into
 * `arena`. No alignment is needed. Never reads outside bytes[0..size). OCT_ERR_FORMAT, OCT_ERR_UNSUPPORTED (version or
 * profile), OCT_ERR_MEMORY. */
OCT_MUST_USE oct_status oct_int8_image_parse(oct_int8_spec *spec, oct_arena *arena, const uint8_t *bytes, size_t size,
                                             oct_error *error);

/* Do these bytes begin like an int8 image? */
bool oct_int8_image_is(const uint8_t *bytes, size_t size);
/* The checksum an image carries, and the one its bytes have. size > OCT_INT8_IMAGE_CHECKED_FROM. */
uint64_t oct_int8_image_stored_checksum(const uint8_t *bytes);
uint64_t oct_int8_image_checksum(const uint8_t *bytes, size_t size);

#endif
