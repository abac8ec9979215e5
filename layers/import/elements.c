/* SPDX-License-Identifier: BSD-2-Clause */
#include "layers/import/elements.h"

#include <string.h>

#include "autograd/base/bytes.h"

size_t oct_element_bytes(oct_element type)
{
    static const uint8_t bytes[OCT_ELEMENT_COUNT] = {2, 2, 4, 8, 1, 1, 2, 2, 4, 4, 8, 8, 1};
    return bytes[type];
}

static uint16_t load_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
static float float_of_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 31) return float_of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent) return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float x = (float)fraction * 0x1p-24f; /* subnormal or zero: exact */
    return sign ? -x : x;
}

static double double_of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#define CONVERT(size, expression)                       \
    for (size_t i = 0; i < count; i++) {                \
        const uint8_t *p = bytes + i * (size);          \
        out[i] = (float)(expression);                   \
    }                                                   \
    break

void oct_elements_to_f32(float *out, const uint8_t *bytes, size_t count, oct_element type)
{
    switch (type) {
    case OCT_ELEMENT_F16: CONVERT(2, float_of_half(load_le16(p)));
    case OCT_ELEMENT_BF16: CONVERT(2, float_of_bits((uint32_t)load_le16(p) << 16));
    case OCT_ELEMENT_F32: CONVERT(4, float_of_bits(oct_load_le32(p)));
    case OCT_ELEMENT_F64: CONVERT(8, double_of_bits(oct_load_le64(p)));
    case OCT_ELEMENT_I8: CONVERT(1, (int8_t)*p);
    case OCT_ELEMENT_U8: CONVERT(1, *p);
    case OCT_ELEMENT_I16: CONVERT(2, (int16_t)load_le16(p));
    case OCT_ELEMENT_U16: CONVERT(2, load_le16(p));
    case OCT_ELEMENT_I32: CONVERT(4, (int32_t)oct_load_le32(p));
    case OCT_ELEMENT_U32: CONVERT(4, oct_load_le32(p));
    case OCT_ELEMENT_I64: CONVERT(8, (int64_t)oct_load_le64(p));
    case OCT_ELEMENT_U64: CONVERT(8, oct_load_le64(p));
    case OCT_ELEMENT_BOOL: CONVERT(1, *p != 0);
    case OCT_ELEMENT_COUNT: break;
    }
}
