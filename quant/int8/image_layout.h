/* SPDX-License-Identifier: BSD-2-Clause
 * Offsets of the flat image, shared by its writer and its reader; image.h draws them.
 */
#ifndef OCT_INT8_IMAGE_LAYOUT_H
#define OCT_INT8_IMAGE_LAYOUT_H

#include <stdint.h>

static const uint8_t oct_int8_image_magic[8] = {'O', 'C', 'T', 'I', 'N', 'T', '8', 0x1a};

enum { HEADER_BYTES = 192, TENSOR_BYTES = 64, LAYER_BYTES = 256 };

/* Header. */
enum {
    H_VERSION = 8,
    H_ZERO1 = 12,
    H_SIZE = 16,
    H_CHECKSUM = 24,
    H_SOURCE = 32,
    H_PROFILE = 40,
    H_TOOL = 44,
    H_TENSORS = 48,
    H_LAYERS = 52,
    H_CLASSES = 56,
    H_INPUT = 60,
    H_OUTPUT = 64,
    H_RESIZE = 68,
    H_MEANS = 72,
    H_ROUNDING = 76,
    H_SECTIONS = 80,
    H_INTERPOLATION = 176,
    H_ZERO3 = 180
};

typedef enum image_section {
    SECTION_TENSORS,
    SECTION_LAYERS,
    SECTION_CLASSES,
    SECTION_PREPROCESSING,
    SECTION_STRINGS,
    SECTION_ARRAYS,
    SECTION_COUNT
} image_section;

/* Tensor record. */
enum {
    T_NAME = 0,
    T_KIND = 4,
    T_SHAPE = 8,
    T_SIGNED = 20,
    T_EXPONENT = 24,
    T_ZERO1 = 28,
    T_EXPONENTS = 32,
    T_SCALE = 48,
    T_ZERO_POINT = 52,
    T_ZERO2 = 56
};

/* Layer record. */
enum {
    L_NAME = 0,
    L_OP = 4,
    L_INPUT_COUNT = 8,
    L_OUTPUT = 12,
    L_INPUTS = 16,
    L_GEOMETRY = 48,
    L_LIMITS = 92,
    L_TABLE_ROWS = 100,
    L_EXPONENT_COUNT = 104,
    L_OPTION = 108,
    L_ARRAYS = 112,
    L_ZERO2 = 176
};
enum { GEOMETRY_FIELDS = 11 };
/* Arrays of a layer, in file order. */
typedef enum layer_array { ARRAY_TABLE, ARRAY_WEIGHTS, ARRAY_EXPONENTS, ARRAY_BIAS, ARRAY_COUNT } layer_array;

#endif
