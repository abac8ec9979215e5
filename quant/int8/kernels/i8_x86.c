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

#define SRA_256(v, n) _mm256_srav_epi32(v, n)
#define SRA_512(v, n) _mm512_srav_epi32(v, n)

#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define INLINE static inline __attribute__((always_inline))

/* Ranges of codes, for PACK. */
enum { OCT_I8_FROM_ZERO, OCT_I8_SIGNED, OCT_I8_UNSIGNED };

/* Packing works within 128-bit lanes: dword i of the packed vector is dword order[i] of the four in a row. */
INLINE AVX2 __m256i pack_256(__m256i a, __m256i b, __m256i c, __m256i d, __m256i lo, __m256i hi, int range)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i low = _mm256_packs_epi32(a, b), high = _mm256_packs_epi32(c, d);
    __m256i codes;
    if (range == OCT_I8_SIGNED)
        codes = _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(low, high), lo), hi);
    else if (range == OCT_I8_FROM_ZERO)
        codes = _mm256_min_epu8(_mm256_packus_epi16(low, high), hi);
    else
        codes = _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(low, high), lo), hi);
    return _mm256_permutevar8x32_epi32(codes, order);
}

INLINE AVX512 __m512i pack_512(__m512i a, __m512i b, __m512i c, __m512i d, __m512i lo, __m512i hi, int range)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_packs_epi32(a, b), high = _mm512_packs_epi32(c, d);
    __m512i codes;
    if (range == OCT_I8_SIGNED)
        codes = _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(low, high), lo), hi);
    else if (range == OCT_I8_FROM_ZERO)
        codes = _mm512_min_epu8(_mm512_packus_epi16(low, high), hi);
    else
        codes = _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(low, high), lo), hi);
    return _mm512_permutexvar_epi32(order, codes);
}

/* The product of a multiplier below 1 fits an int32; the conversion rounds to nearest even (the mode that the C library
 * starts with, on which everything here relies). Saturation keeps what lies outside 16 bits outside 0..255. */
INLINE AVX2 __m256i scale_256(__m256i v, __m256i m)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_castsi256_ps(m)));
}

INLINE AVX512 __m512i scale_512(__m512i v, __m512i m)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(v), _mm512_castsi512_ps(m)));
}

INLINE AVX2 __m256i pack_affine_256(__m256i a, __m256i b, __m256i c, __m256i d, __m256i zero, __m256i lo, __m256i hi)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero);
    const __m256i high = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero);
    const __m256i codes = _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(low, high), lo), hi);
    return _mm256_permutevar8x32_epi32(codes, order);
}

INLINE AVX512 __m512i pack_affine_512(__m512i a, __m512i b, __m512i c, __m512i d, __m512i zero, __m512i lo, __m512i hi)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_adds_epi16(_mm512_packs_epi32(a, b), zero);
    const __m512i high = _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero);
    const __m512i codes = _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(low, high), lo), hi);
    return _mm512_permutexvar_epi32(order, codes);
}

/* Half `part` of v; a partial one by way of the stack. */
INLINE AVX2 void store_part_256(uint8_t *p, __m256i v, int part, int n)
{
    const __m128i half = part ? _mm256_extracti128_si256(v, 1) : _mm256_castsi256_si128(v);
    uint8_t bytes[16];
    _mm_storeu_si128((__m128i *)(void *)(n == 16 ? p : bytes), half);
    if (n != 16) memcpy(p, bytes, (size_t)n);
}

INLINE AVX512 __m128i quarter_512(__m512i v, int part)
{
    return part == 3   ? _mm512_extracti32x4_epi32(v, 3)
           : part == 2 ? _mm512_extracti32x4_epi32(v, 2)
           : part == 1 ? _mm512_extracti32x4_epi32(v, 1)
                   : _mm512_castsi512_si128(v);
}

INLINE AVX512 void store_part_512(uint8_t *p, __m512i v, int part, int size, int n)
{
    if (size == 64) {
        if (n == 64)
            _mm512_storeu_si512(p, v);
        else
            _mm512_mask_storeu_epi8(p, (UINT64_C(1) << n) - 1, v);
    } else if (size == 32) {
        const __m256i half = part ? _mm512_extracti64x4_epi64(v, 1) : _mm512_castsi512_si256(v);
        if (n == 32)
            _mm256_storeu_si256((__m256i *)(void *)p, half);
        else
            _mm256_mask_storeu_epi8(p, (__mmask32)((UINT64_C(1) << n) - 1), half);
    } else if (n == 16) {
        _mm_storeu_si128((__m128i *)(void *)p, quarter_512(v, part));
    } else {
        _mm_mask_storeu_epi8(p, (__mmask16)((1u << n) - 1), quarter_512(v, part));
    }
}

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
#define SRA(v, n) SRA_256(v, n)
#define SCALE(v, m) scale_256(v, m)
#define PACK_AFFINE(a, b, c, d, zero, lo, hi) pack_affine_256(a, b, c, d, zero, lo, hi)
#define SET_BYTE(x) _mm256_set1_epi8((char)(x))
#define SET_WORD(x) _mm256_set1_epi16((short)(x))
#define PACK(a, b, c, d, lo, hi, range) pack_256(a, b, c, d, lo, hi, range)
#define STORE_PART(p, v, part, size, n) store_part_256(p, v, part, n)
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
#define SRA(v, n) SRA_512(v, n)
#define SCALE(v, m) scale_512(v, m)
#define PACK_AFFINE(a, b, c, d, zero, lo, hi) pack_affine_512(a, b, c, d, zero, lo, hi)
#define SET_BYTE(x) _mm512_set1_epi8((char)(x))
#define SET_WORD(x) _mm512_set1_epi16((short)(x))
#define PACK(a, b, c, d, lo, hi, range) pack_512(a, b, c, d, lo, hi, range)
#define STORE_PART(p, v, part, size, n) store_part_512(p, v, part, size, n)
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
#define SRA(v, n) SRA_256(v, n)
#define SCALE(v, m) scale_256(v, m)
#define PACK_AFFINE(a, b, c, d, zero, lo, hi) pack_affine_256(a, b, c, d, zero, lo, hi)
#define SET_BYTE(x) _mm256_set1_epi8((char)(x))
#define SET_WORD(x) _mm256_set1_epi16((short)(x))
#define PACK(a, b, c, d, lo, hi, range) pack_256(a, b, c, d, lo, hi, range)
#define STORE_PART(p, v, part, size, n) store_part_256(p, v, part, n)
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
#define SRA(v, n) SRA_256(v, n)
#define SCALE(v, m) scale_256(v, m)
#define PACK_AFFINE(a, b, c, d, zero, lo, hi) pack_affine_256(a, b, c, d, zero, lo, hi)
#define SET_BYTE(x) _mm256_set1_epi8((char)(x))
#define SET_WORD(x) _mm256_set1_epi16((short)(x))
#define PACK(a, b, c, d, lo, hi, range) pack_256(a, b, c, d, lo, hi, range)
#define STORE_PART(p, v, part, size, n) store_part_256(p, v, part, n)
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
#define SRA(v, n) SRA_512(v, n)
#define SCALE(v, m) scale_512(v, m)
#define PACK_AFFINE(a, b, c, d, zero, lo, hi) pack_affine_512(a, b, c, d, zero, lo, hi)
#define SET_BYTE(x) _mm512_set1_epi8((char)(x))
#define SET_WORD(x) _mm512_set1_epi16((short)(x))
#define PACK(a, b, c, d, lo, hi, range) pack_512(a, b, c, d, lo, hi, range)
#define STORE_PART(p, v, part, size, n) store_part_512(p, v, part, size, n)
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

void oct_i8_conv_row_avx512vnni(int32_t *acc, const void *x, const void *w, const int32_t *start, const oct_i8_conv_row *p)
{
    conv_row_avx512vnni(acc, x, w, start, p);
}

void oct_i8_fill_vnni256(oct_i8_kernels *table)
{
    oct_i8_fill_layout_u8(table);
    table->conv_row = conv_row_vnni256;
    table->conv_codes = conv_codes_vnni256;
    oct_i8_fill_depthwise_codes_vnni256(table);
    table->depthwise_row = depthwise_row_vnni256;
}

void oct_i8_fill_x86(oct_i8_kernels *table, uint32_t cpu_mask)
{
    if (cpu_mask & OCT_CPU_AVX2) {
        table->level = "avx2";
        oct_i8_fill_elementwise_avx2(table);
        table->conv_row = conv_row_avx2;
        table->conv_codes = conv_codes_avx2;
        oct_i8_fill_depthwise_codes_avx2(table);
        table->depthwise_row = depthwise_row_avx2;
    }
    if (cpu_mask & OCT_CPU_AVX512) {
        table->level = "avx512";
        oct_i8_fill_elementwise_avx512(table);
        table->conv_row = conv_row_avx512;
        table->conv_codes = conv_codes_avx512;
        oct_i8_fill_depthwise_codes_avx512(table);
        table->depthwise_row = depthwise_row_avx512;
    }
    if (cpu_mask & OCT_CPU_AVXVNNI) {
        table->level = "avxvnni";
        oct_i8_fill_layout_u8(table);
        table->conv_row = conv_row_avxvnni;
        table->conv_codes = conv_codes_avxvnni;
        oct_i8_fill_depthwise_codes_avxvnni(table);
        table->depthwise_row = depthwise_row_avxvnni;
    }
    if (cpu_mask & OCT_CPU_AVX512VNNI) {
        table->level = "avx512vnni";
        oct_i8_fill_layout_u8(table);
        table->pad_pixels = oct_i8_pad_pixels_avx512;
        table->conv_row = conv_row_avx512vnni;
        table->conv_codes = conv_codes_avx512vnni;
        oct_i8_fill_depthwise_codes_avx512vnni(table);
        table->depthwise_row = depthwise_row_avx512vnni;
    }
    if (cpu_mask & OCT_CPU_AMX) oct_i8_fill_amx(table);
}

#else

void oct_i8_fill_x86(oct_i8_kernels *table, uint32_t cpu_mask)
{
    (void)table;
    (void)cpu_mask;
}

#endif
