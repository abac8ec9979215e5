/* SPDX-License-Identifier: BSD-2-Clause
 * Element types of tensors in files, all little-endian, and their conversion to float32.
 *
 * Half, bfloat16 and integers up to 24 bits are exact; double and wider integers are rounded once to the nearest
 * float32 (ties to even; a double beyond its range becomes infinity). NaN stays NaN.
 */
#ifndef OCT_LAYERS_IMPORT_ELEMENTS_H
#define OCT_LAYERS_IMPORT_ELEMENTS_H

#include <stddef.h>
#include <stdint.h>

typedef enum oct_element {
    OCT_ELEMENT_F16,
    OCT_ELEMENT_BF16,
    OCT_ELEMENT_F32,
    OCT_ELEMENT_F64,
    OCT_ELEMENT_I8,
    OCT_ELEMENT_U8,
    OCT_ELEMENT_I16,
    OCT_ELEMENT_U16,
    OCT_ELEMENT_I32,
    OCT_ELEMENT_U32,
    OCT_ELEMENT_I64,
    OCT_ELEMENT_U64,
    OCT_ELEMENT_BOOL, /* one byte, 0 or not */
    OCT_ELEMENT_COUNT
} oct_element;

size_t oct_element_bytes(oct_element type);

/* out[i] = element i of `bytes`, which need not be aligned and must not overlap out. */
void oct_elements_to_f32(float *out, const uint8_t *bytes, size_t count, oct_element type);

#endif
