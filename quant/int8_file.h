/* SPDX-License-Identifier: BSD-2-Clause
 * Files of int8 models. Two forms of the same thing: HDF5 (int8.h5, self-describing: h5dump explains it) and the flat
 * image the engine takes (quant/int8/image.h). Reading decides by content and always gives the flat image.
 *
 * HDF5 form. Integers are little-endian, texts fixed-length UTF-8; `*` marks what may be absent; anything else found
 * in the file is an error.
 *   /                  attributes: format "octet-int8", version 1, profile, tool, source_digest, checksum (of the flat
 *                      image this file describes), input, output (tensor names), about (the arithmetic in words);
 *                      profile affine: rounding ("float", "single", "double")
 *   /tensors/NNNN_name attributes: name, kind ("pixels", "codes", "scores"), shape (height, width, channels), signed,
 *                      exponent; dataset exponents* s8 [channels] (scores). Profile affine instead of the last two:
 *                      scale f32, zero_point (codes)
 *   /layers/NNNN_name  NNNN = 0000, 0001, … in execution order; slashes of names become dots in the link
 *                      attributes: name, op, inputs (tensor names), output (tensor name); kernel, stride, dilation
 *                      (height, width), padding (top, left, bottom, right), groups (conv, depthwise, pooling); limits
 *                      (lowest, highest code; where a layer clamps)
 *                      datasets: weights s8 [out][h][w][in], [h][w][channels] (depthwise) or [out][in] (linear),
 *                      bias s32 [out], exponents s8 [1] or [out], profile affine: scales f32 [1] or [out]; table u8
 *                      [rows][256] (lookup)
 *   /preprocessing     attributes resize, interpolation* ("bicubic"; absent: bilinear); datasets mean*, scale* f32 [input channels]
 *   /class_names*      texts [outputs]
 *
 * The same spec gives the same bytes (no times in the file). Readers bound every count and size before allocating and
 * name file, object, expected and found. What a hostile file can do to the HDF5 library itself is out of our hands.
 * HDF5 calls are made on the calling thread only; not to be called from several threads at once.
 */
#ifndef OCT_QUANT_INT8_FILE_H
#define OCT_QUANT_INT8_FILE_H

#include "quant/int8/spec.h"

#define OCT_INT8_FILE_FORMAT "octet-int8"
enum { OCT_INT8_FILE_VERSION = 1 };

/* Writes a spec that passes oct_int8_spec_check (checked here) as HDF5, or as the flat image, atomically
 * (base/file.h). OCT_ERR_FORMAT, OCT_ERR_IO, OCT_ERR_MEMORY. */
OCT_MUST_USE oct_status oct_int8_file_write(const char *path, const oct_int8_spec *spec, oct_error *error);
OCT_MUST_USE oct_status oct_int8_file_write_image(const char *path, const oct_int8_spec *spec, oct_error *error);

/* *bytes = the flat image of the model in `path`, either form, ready for oct_int8_open; freed with oct_free, NULL on
 * failure. An HDF5 file is checked in full (its checksum included); a flat image is checked by oct_int8_open, here only
 * its magic is. OCT_ERR_IO: cannot be read; OCT_ERR_FORMAT: neither form, or inconsistent; OCT_ERR_UNSUPPORTED: another
 * version or profile; OCT_ERR_MEMORY. */
OCT_MUST_USE oct_status oct_int8_file_read(uint8_t **bytes, size_t *size, const char *path, oct_error *error);

#endif
