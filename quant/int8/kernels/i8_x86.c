/* SPDX-License-Identifier: BSD-2-Clause
 * x86 levels of the int8 kernels: instances of the convolution templates by function target attributes, and
 * the order in which a CPU mask selects them. The elementwise kernels are in i8_x86_avx2.c and
 * i8_x86_avx512.c.
 */
#include "quant/int8/kernels/i8_internal.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "autograd/base/cpu.h"

#if defined(__clang__)
#define OCT_I8_UNROLL _Pragma("clang loop unroll(full)")
#else
#define OCT_I8_UNROLL _Pragma("GCC unroll 32")
#endif

static inline int load_lane(const void *p)
{
    int lane;
    memcpy(&lane, p, sizeof lane);
    return lane;
}

/* Masks of the first n of 8 lanes are read from lane 8 - n on. */
static const int32_t first_lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

#define LOAD_256(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define STORE_256(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define STORE_SOME_256(p, v, n) _mm256_maskstore_epi32(p, LOAD_256(first_lanes + 8 - (n)), v)
#define BROADCAST_256(p) _mm256_set1_epi32(load_lane(p))
#define LOAD_512(p) _mm512_loadu_si512((const void *)(p))
#define STORE_512(p, v) _mm512_storeu_si512((void *)(p), v)
#define STORE_SOME_512(p, v, n) _mm512_mask_storeu_epi32((void *)(p), (__mmask16)((1u << (n)) - 1), v)
#define BROADCAST_512(p) _mm512_set1_epi32(load_lane(p))

/* Byte shuffles that spread operands over 32-bit lanes when every 128-bit lane holds the same 16 bytes: lane
 * i of the register takes operand i to position k. Four positions of bytes, two of 16-bit operands. */
#define Z 0x80 /* writes zero */
#define BYTE_AT(k, c) (k) == 0 ? (c) : Z, (k) == 1 ? (c) : Z, (k) == 2 ? (c) : Z, (k) == 3 ? (c) : Z
#define BYTES_AT(k, c) BYTE_AT(k, c), BYTE_AT(k, c + 1), BYTE_AT(k, c + 2), BYTE_AT(k, c + 3)
#define PAIR_AT(k, c) (k) ? Z : 2 * (c), (k) ? Z : 2 * (c) + 1, (k) ? 2 * (c) : Z, (k) ? 2 * (c) + 1 : Z
#define PAIRS_AT(k, c) PAIR_AT(k, c), PAIR_AT(k, c + 1), PAIR_AT(k, c + 2), PAIR_AT(k, c + 3)
static const uint8_t spread_bytes[4][64] = {
    {BYTES_AT(0, 0), BYTES_AT(0, 4), BYTES_AT(0, 8), BYTES_AT(0, 12)},
    {BYTES_AT(1, 0), BYTES_AT(1, 4), BYTES_AT(1, 8), BYTES_AT(1, 12)},
    {BYTES_AT(2, 0), BYTES_AT(2, 4), BYTES_AT(2, 8), BYTES_AT(2, 12)},
    {BYTES_AT(3, 0), BYTES_AT(3, 4), BYTES_AT(3, 8), BYTES_AT(3, 12)},
};
static const uint8_t spread_pairs[2][32] = {
    {PAIRS_AT(0, 0), PAIRS_AT(0, 4)},
    {PAIRS_AT(1, 0), PAIRS_AT(1, 4)},
};
#undef Z
#undef BYTE_AT
#undef BYTES_AT
#undef PAIR_AT
#undef PAIRS_AT

#define LOAD_128(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define LOAD_64(p) _mm_loadl_epi64((const __m128i *)(const void *)(p))
#define SPREAD_U8_256(p, k)                                                                                  \
    _mm256_shuffle_epi8(_mm256_broadcastq_epi64(LOAD_64(p)), LOAD_256(spread_bytes[k]))
#define SPREAD_U8_512(p, k)                                                                                  \
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(LOAD_128(p)), LOAD_512(spread_bytes[k]))
#define SPREAD_S16_256(p, k)                                                                                 \
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(LOAD_128(p)), LOAD_256(spread_pairs[k]))
#define SPREAD_S16_512(p, k) _mm512_slli_epi32(_mm512_cvtepu16_epi32(LOAD_256(p)), 16 * (k))

/* avx2: 16-bit pairs. VPMADDUBSW would saturate its pair sums; VPMADDWD is exact. */
#define NAME(f) f##_avx2
#define TARGET __attribute__((target("avx2")))
#define OPERAND_BYTES 2
#define VECTOR __m256i
#define LANES 8
#define LOAD(p) LOAD_256(p)
#define STORE(p, v) STORE_256(p, v)
#define STORE_SOME(p, v, n) STORE_SOME_256(p, v, n)
#define BROADCAST(p) BROADCAST_256(p)
#define DOT(s, x, w) _mm256_add_epi32(s, _mm256_madd_epi16(x, w))
#define PIXELS_1 6
#define PIXELS_2 0
#define PIXELS_4 0
#include "quant/int8/kernels/i8_conv_tmpl.h"
#define SPREAD(p, k) SPREAD_S16_256(p, k)
#define OR(a, b) _mm256_or_si256(a, b)
#define TILE_PIXELS 4
#define SCALAR oct_i8_depthwise_row_s16
#include "quant/int8/kernels/i8_depthwise_tmpl.h"

/* avx512: the same pairs, for Skylake-X class machines without VNNI. */
#define NAME(f) f##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define OPERAND_BYTES 2
#define VECTOR __m512i
#define LANES 16
#define LOAD(p) LOAD_512(p)
#define STORE(p, v) STORE_512(p, v)
#define STORE_SOME(p, v, n) STORE_SOME_512(p, v, n)
#define BROADCAST(p) BROADCAST_512(p)
#define DOT(s, x, w) _mm512_add_epi32(s, _mm512_madd_epi16(x, w))
#define PIXELS_1 16
#define PIXELS_2 12
#define PIXELS_4 6
#include "quant/int8/kernels/i8_conv_tmpl.h"
#define SPREAD(p, k) SPREAD_S16_512(p, k)
#define OR(a, b) _mm512_or_si512(a, b)
#define TILE_PIXELS 8
#define SCALAR oct_i8_depthwise_row_s16
#include "quant/int8/kernels/i8_depthwise_tmpl.h"

/* avxvnni: u8 x s8 in fours, 256 bits (Alder Lake and later client machines). */
#define NAME(f) f##_avxvnni
#define TARGET __attribute__((target("avx2,avxvnni")))
#define OPERAND_BYTES 1
#define VECTOR __m256i
#define LANES 8
#define LOAD(p) LOAD_256(p)
#define STORE(p, v) STORE_256(p, v)
#define STORE_SOME(p, v, n) STORE_SOME_256(p, v, n)
#define BROADCAST(p) BROADCAST_256(p)
#define DOT(s, x, w) _mm256_dpbusd_avx_epi32(s, x, w)
#define PIXELS_1 6
#define PIXELS_2 0
#define PIXELS_4 0
#include "quant/int8/kernels/i8_conv_tmpl.h"
#define SPREAD(p, k) SPREAD_U8_256(p, k)
#define OR(a, b) _mm256_or_si256(a, b)
#define TILE_PIXELS 4
#define SCALAR oct_i8_depthwise_row_u8
#include "quant/int8/kernels/i8_depthwise_tmpl.h"

/* The same template in EVEX encoding, so that checkkern can run it on machines that only have AVX-512 VNNI.
 * */
#define NAME(f) f##_vnni256
#define TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512vnni")))
#define OPERAND_BYTES 1
#define VECTOR __m256i
#define LANES 8
#define LOAD(p) LOAD_256(p)
#define STORE(p, v) STORE_256(p, v)
#define STORE_SOME(p, v, n) STORE_SOME_256(p, v, n)
#define BROADCAST(p) BROADCAST_256(p)
#define DOT(s, x, w) _mm256_dpbusd_epi32(s, x, w)
#define PIXELS_1 6
#define PIXELS_2 0
#define PIXELS_4 0
#include "quant/int8/kernels/i8_conv_tmpl.h"
#define SPREAD(p, k) SPREAD_U8_256(p, k)
#define OR(a, b) _mm256_or_si256(a, b)
#define TILE_PIXELS 4
#define SCALAR oct_i8_depthwise_row_u8
#include "quant/int8/kernels/i8_depthwise_tmpl.h"

/* avx512vnni: Cascade Lake, Ice Lake, Sapphire Rapids, Zen 4 and later. */
#define NAME(f) f##_avx512vnni
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define OPERAND_BYTES 1
#define VECTOR __m512i
#define LANES 16
#define LOAD(p) LOAD_512(p)
#define STORE(p, v) STORE_512(p, v)
#define STORE_SOME(p, v, n) STORE_SOME_512(p, v, n)
#define BROADCAST(p) BROADCAST_512(p)
#define DOT(s, x, w) _mm512_dpbusd_epi32(s, x, w)
#define PIXELS_1 16
#define PIXELS_2 12
#define PIXELS_4 6
#include "quant/int8/kernels/i8_conv_tmpl.h"
#define SPREAD(p, k) SPREAD_U8_512(p, k)
#define OR(a, b) _mm512_or_si512(a, b)
#define TILE_PIXELS 8
#define SCALAR oct_i8_depthwise_row_u8
#include "quant/int8/kernels/i8_depthwise_tmpl.h"

void oct_i8_fill_vnni256(oct_i8_kernels *table)
{
    oct_i8_fill_layout_u8(table);
    table->conv_row = conv_row_vnni256;
    table->depthwise_row = depthwise_row_vnni256;
}

void oct_i8_fill_x86(oct_i8_kernels *table, uint32_t cpu_mask)
{
    if (cpu_mask & OCT_CPU_AVX2) {
        table->level = "avx2";
        oct_i8_fill_elementwise_avx2(table);
        table->conv_row = conv_row_avx2;
        table->depthwise_row = depthwise_row_avx2;
    }
    if (cpu_mask & OCT_CPU_AVX512) {
        table->level = "avx512";
        oct_i8_fill_elementwise_avx512(table);
        table->conv_row = conv_row_avx512;
        table->depthwise_row = depthwise_row_avx512;
    }
    if (cpu_mask & OCT_CPU_AVXVNNI) {
        table->level = "avxvnni";
        oct_i8_fill_layout_u8(table);
        table->conv_row = conv_row_avxvnni;
        table->depthwise_row = depthwise_row_avxvnni;
    }
    if (cpu_mask & OCT_CPU_AVX512VNNI) {
        table->level = "avx512vnni";
        oct_i8_fill_layout_u8(table);
        table->conv_row = conv_row_avx512vnni;
        table->depthwise_row = depthwise_row_avx512vnni;
    }
}

#else

void oct_i8_fill_x86(oct_i8_kernels *table, uint32_t cpu_mask)
{
    (void)table;
    (void)cpu_mask;
}

#endif
