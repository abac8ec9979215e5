/* SPDX-License-Identifier: BSD-2-Clause
 * The two operand layouts: 16-bit pairs (C, AVX2, AVX-512, NEON) and bytes in fours (VNNI, NEON dot product).
 */
#include "quant/int8/kernels/i8_internal.h"

#include <string.h>

#define NAME(f) f##_s16
#define OPERAND int16_t
#define WEIGHT int16_t
#define GROUP 2
#define BIASED 0
#include "quant/int8/kernels/i8_layout_tmpl.h"

#define NAME(f) f##_u8
#define OPERAND uint8_t
#define WEIGHT int8_t
#define GROUP 4
#define BIASED 1
#include "quant/int8/kernels/i8_layout_tmpl.h"
