/* SPDX-License-Identifier: BSD-2-Clause
 * x86 instances of the depthwise layer that writes codes.
 */
#include "quant/int8/kernels/i8_internal.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

#define LOAD_128(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define LOAD_256(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define LOAD_512(p) _mm512_loadu_si512((const void *)(p))
#define STORE_128(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#define STORE_256(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define STORE_512(p, v) _mm512_storeu_si512((void *)(p), v)

/* ---- raw bytes: parts, and every second pixel ---- */

INLINE AVX2 __m128i part_128(const uint8_t *p, ptrdiff_t from, ptrdiff_t to, __m128i fill)
{
    uint8_t bytes[16];
    STORE_128(bytes, fill);
    if (to > from) memcpy(bytes + from, p + from, (size_t)(to - from));
    return LOAD_128(bytes);
}

INLINE AVX2 void store_some_128(uint8_t *p, __m128i v, int n)
{
    uint8_t bytes[16];
    STORE_128(bytes, v);
    memcpy(p, bytes, (size_t)n);
}

INLINE AVX2 __m256i part_256(const uint8_t *p, ptrdiff_t from, ptrdiff_t to, __m256i fill)
{
    uint8_t bytes[32];
    STORE_256(bytes, fill);
    if (to > from) memcpy(bytes + from, p + from, (size_t)(to - from));
    return LOAD_256(bytes);
}

INLINE AVX2 void store_some_256(uint8_t *p, __m256i v, int n)
{
    uint8_t bytes[32];
    STORE_256(bytes, v);
    memcpy(p, bytes, (size_t)n);
}

INLINE AVX512 __m512i part_512(const uint8_t *p, ptrdiff_t from, ptrdiff_t to, __m512i fill)
{
    const uint64_t below = to < 64 ? (UINT64_C(1) << to) - 1 : UINT64_MAX;
    return _mm512_mask_loadu_epi8(fill, to > from ? below & UINT64_MAX << from : 0, p);
}

INLINE AVX512 void store_some_512(uint8_t *p, __m512i v, int n)
{
    _mm512_mask_storeu_epi8(p, (UINT64_C(1) << n) - 1, v);
}

/* 8 channels of 2 pixels. */
INLINE AVX2 __m128i even_128(__m128i a, __m128i b, int channels)
{
    return channels == 8 ? _mm_unpacklo_epi64(a, b) : a;
}

/* 16 or 8 channels. */
INLINE AVX2 __m256i even_256(__m256i a, __m256i b, int channels)
{
    if (channels == 16) return _mm256_permute2x128_si256(a, b, 0x20);
    return _mm256_permute4x64_epi64(_mm256_unpacklo_epi64(a, b), 0xd8);
}

/* 32, 16 or 8 channels. */
INLINE AVX512 __m512i even_512(__m512i a, __m512i b, int channels)
{
    if (channels == 32) return _mm512_shuffle_i64x2(a, b, 0x44);
    if (channels == 16) return _mm512_shuffle_i64x2(a, b, 0x88);
    return _mm512_permutex2var_epi64(a, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), b);
}

/* ---- sums to bytes ---- */

/* `zero` is a constant 0 where there is none: the additions are then left out. */
INLINE AVX2 __m256i words_plus_256(__m256i a, __m256i b, int zero)
{
    return _mm256_adds_epi16(_mm256_packs_epi32(a, b), _mm256_set1_epi16((short)zero));
}

INLINE AVX512 __m512i words_plus_512(__m512i a, __m512i b, int zero)
{
    return _mm512_adds_epi16(_mm512_packs_epi32(a, b), _mm512_set1_epi16((short)zero));
}

INLINE AVX2 __m256i scale_256(__m256i v, __m256i m)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(v), _mm256_castsi256_ps(m)));
}

INLINE AVX512 __m512i scale_512(__m512i v, __m512i m)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(v), _mm512_castsi512_ps(m)));
}

INLINE AVX2 __m256i pack_bytes_256(const __m256i v[4], int zero, int lo, int hi)
{
    const __m256i low = words_plus_256(v[0], v[1], zero), high = words_plus_256(v[2], v[3], zero);
    const __m256i least = _mm256_set1_epi8((char)lo), most = _mm256_set1_epi8((char)hi);
    return lo < 0 ? _mm256_min_epi8(_mm256_max_epi8(_mm256_packs_epi16(low, high), least), most)
                  : _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(low, high), least), most);
}

INLINE AVX512 __m512i pack_bytes_512(const __m512i v[4], int zero, int lo, int hi)
{
    const __m512i low = words_plus_512(v[0], v[1], zero), high = words_plus_512(v[2], v[3], zero);
    const __m512i least = _mm512_set1_epi8((char)lo), most = _mm512_set1_epi8((char)hi);
    return lo < 0 ? _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(low, high), least), most)
                  : _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(low, high), least), most);
}

/* After the clamp the low byte of each word is the code. */
INLINE AVX2 __m128i pack_pairs_256(const __m256i v[2], int zero, int lo, int hi)
{
    const __m256i least = _mm256_set1_epi16((short)lo), most = _mm256_set1_epi16((short)hi);
    const __m256i words = _mm256_min_epi16(_mm256_max_epi16(words_plus_256(v[0], v[1], zero), least), most);
    const __m256i bytes = _mm256_and_si256(words, _mm256_set1_epi16(255));
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi16(bytes, bytes), 0x08));
}

INLINE AVX512 __m256i pack_pairs_512(const __m512i v[2], int zero, int lo, int hi)
{
    const __m512i least = _mm512_set1_epi16((short)lo), most = _mm512_set1_epi16((short)hi);
    return _mm512_cvtepi16_epi8(_mm512_min_epi16(_mm512_max_epi16(words_plus_512(v[0], v[1], zero), least), most));
}

INLINE AVX2 __m256i words_256(__m128i raw, int is_signed)
{
    return is_signed ? _mm256_cvtepi8_epi16(raw) : _mm256_cvtepu8_epi16(raw);
}

INLINE AVX512 __m512i words_512(__m256i raw, int is_signed)
{
    return is_signed ? _mm512_cvtepi8_epi16(raw) : _mm512_cvtepu8_epi16(raw);
}

/* avx2: 16-bit pairs. */
#define NAME(f) f##_avx2
#define TARGET AVX2
#define VECTOR __m256i
#define LANES 8
#define LOAD(p) LOAD_256(p)
#define SRA(v, n) _mm256_srav_epi32(v, n)
#define SCALE(v, m) scale_256(v, m)
#define DOT(s, x, w) _mm256_add_epi32(s, _mm256_madd_epi16(x, w))
#define GROUP 2
#define RAW __m128i
#define RAW_LOAD(p) LOAD_128(p)
#define RAW_STORE(p, v) STORE_128(p, v)
#define RAW_SET(byte) _mm_set1_epi8((char)(byte))
#define RAW_PART(p, from, to, fill) part_128(p, from, to, fill)
#define RAW_STORE_SOME(p, v, n) store_some_128(p, v, n)
#define RAW_EVEN(a, b, channels) even_128(a, b, channels)
#define OPERANDS(raw, is_signed) words_256(raw, is_signed)
#define LOW_16(a, b) _mm256_unpacklo_epi16(a, b)
#define HIGH_16(a, b) _mm256_unpackhi_epi16(a, b)
#define PACK_BLOCK(v, lo, hi) pack_pairs_256(v, 0, lo, hi)
#define PACK_BLOCK_AFFINE(v, zero, lo, hi) pack_pairs_256(v, zero, lo, hi)
#define PIXELS_S1 2
#define PIXELS_S2 3
#define PIXELS_5 3
#include "quant/int8/kernels/i8_depthwise_codes_tmpl.h"

/* avx512: the same pairs. */
#define NAME(f) f##_avx512
#define TARGET AVX512
#define VECTOR __m512i
#define LANES 16
#define LOAD(p) LOAD_512(p)
#define SRA(v, n) _mm512_srav_epi32(v, n)
#define SCALE(v, m) scale_512(v, m)
#define DOT(s, x, w) _mm512_add_epi32(s, _mm512_madd_epi16(x, w))
#define GROUP 2
#define RAW __m256i
#define RAW_LOAD(p) LOAD_256(p)
#define RAW_STORE(p, v) STORE_256(p, v)
#define RAW_SET(byte) _mm256_set1_epi8((char)(byte))
#define RAW_PART(p, from, to, fill) part_256(p, from, to, fill)
#define RAW_STORE_SOME(p, v, n) store_some_256(p, v, n)
#define RAW_EVEN(a, b, channels) even_256(a, b, channels)
#define OPERANDS(raw, is_signed) words_512(raw, is_signed)
#define LOW_16(a, b) _mm512_unpacklo_epi16(a, b)
#define HIGH_16(a, b) _mm512_unpackhi_epi16(a, b)
#define PACK_BLOCK(v, lo, hi) pack_pairs_512(v, 0, lo, hi)
#define PACK_BLOCK_AFFINE(v, zero, lo, hi) pack_pairs_512(v, zero, lo, hi)
#define PIXELS_S1 4
#define PIXELS_S2 4
#define PIXELS_5 4
#include "quant/int8/kernels/i8_depthwise_codes_tmpl.h"

/* avxvnni: bytes in fours, 256 bits. */
#define NAME(f) f##_avxvnni
#define TARGET __attribute__((target("avx2,avxvnni")))
#define VECTOR __m256i
#define LANES 8
#define LOAD(p) LOAD_256(p)
#define SRA(v, n) _mm256_srav_epi32(v, n)
#define SCALE(v, m) scale_256(v, m)
#define DOT(s, x, w) _mm256_dpbusd_avx_epi32(s, x, w)
#define GROUP 4
#define RAW __m256i
#define RAW_LOAD(p) LOAD_256(p)
#define RAW_STORE(p, v) STORE_256(p, v)
#define RAW_SET(byte) _mm256_set1_epi8((char)(byte))
#define RAW_PART(p, from, to, fill) part_256(p, from, to, fill)
#define RAW_STORE_SOME(p, v, n) store_some_256(p, v, n)
#define RAW_EVEN(a, b, channels) even_256(a, b, channels)
#define OPERANDS(raw, is_signed) ((is_signed) ? _mm256_xor_si256(raw, _mm256_set1_epi8(-128)) : (raw))
#define LOW_8(a, b) _mm256_unpacklo_epi8(a, b)
#define HIGH_8(a, b) _mm256_unpackhi_epi8(a, b)
#define LOW_16(a, b) _mm256_unpacklo_epi16(a, b)
#define HIGH_16(a, b) _mm256_unpackhi_epi16(a, b)
#define PACK_BLOCK(v, lo, hi) pack_bytes_256(v, 0, lo, hi)
#define PACK_BLOCK_AFFINE(v, zero, lo, hi) pack_bytes_256(v, zero, lo, hi)
#define PIXELS_S1 1
#define PIXELS_S2 2
#define PIXELS_5 1
#include "quant/int8/kernels/i8_depthwise_codes_tmpl.h"

/* The same in EVEX encoding. */
#define NAME(f) f##_vnni256
#define TARGET __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512vnni")))
#define VECTOR __m256i
#define LANES 8
#define LOAD(p) LOAD_256(p)
#define SRA(v, n) _mm256_srav_epi32(v, n)
#define SCALE(v, m) scale_256(v, m)
#define DOT(s, x, w) _mm256_dpbusd_epi32(s, x, w)
#define GROUP 4
#define RAW __m256i
#define RAW_LOAD(p) LOAD_256(p)
#define RAW_STORE(p, v) STORE_256(p, v)
#define RAW_SET(byte) _mm256_set1_epi8((char)(byte))
#define RAW_PART(p, from, to, fill) part_256(p, from, to, fill)
#define RAW_STORE_SOME(p, v, n) store_some_256(p, v, n)
#define RAW_EVEN(a, b, channels) even_256(a, b, channels)
#define OPERANDS(raw, is_signed) ((is_signed) ? _mm256_xor_si256(raw, _mm256_set1_epi8(-128)) : (raw))
#define LOW_8(a, b) _mm256_unpacklo_epi8(a, b)
#define HIGH_8(a, b) _mm256_unpackhi_epi8(a, b)
#define LOW_16(a, b) _mm256_unpacklo_epi16(a, b)
#define HIGH_16(a, b) _mm256_unpackhi_epi16(a, b)
#define PACK_BLOCK(v, lo, hi) pack_bytes_256(v, 0, lo, hi)
#define PACK_BLOCK_AFFINE(v, zero, lo, hi) pack_bytes_256(v, zero, lo, hi)
#define PIXELS_S1 1
#define PIXELS_S2 2
#define PIXELS_5 1
#include "quant/int8/kernels/i8_depthwise_codes_tmpl.h"

/* avx512vnni */
#define NAME(f) f##_avx512vnni
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define VECTOR __m512i
#define LANES 16
#define LOAD(p) LOAD_512(p)
#define SRA(v, n) _mm512_srav_epi32(v, n)
#define SCALE(v, m) scale_512(v, m)
#define DOT(s, x, w) _mm512_dpbusd_epi32(s, x, w)
#define GROUP 4
#define RAW __m512i
#define RAW_LOAD(p) LOAD_512(p)
#define RAW_STORE(p, v) STORE_512(p, v)
#define RAW_SET(byte) _mm512_set1_epi8((char)(byte))
#define RAW_PART(p, from, to, fill) part_512(p, from, to, fill)
#define RAW_STORE_SOME(p, v, n) store_some_512(p, v, n)
#define RAW_EVEN(a, b, channels) even_512(a, b, channels)
#define OPERANDS(raw, is_signed) ((is_signed) ? _mm512_xor_si512(raw, _mm512_set1_epi8(-128)) : (raw))
#define LOW_8(a, b) _mm512_unpacklo_epi8(a, b)
#define HIGH_8(a, b) _mm512_unpackhi_epi8(a, b)
#define LOW_16(a, b) _mm512_unpacklo_epi16(a, b)
#define HIGH_16(a, b) _mm512_unpackhi_epi16(a, b)
#define PACK_BLOCK(v, lo, hi) pack_bytes_512(v, 0, lo, hi)
#define PACK_BLOCK_AFFINE(v, zero, lo, hi) pack_bytes_512(v, zero, lo, hi)
#define PIXELS_S1 3
#define PIXELS_S2 4
#define PIXELS_5 4
#include "quant/int8/kernels/i8_depthwise_codes_tmpl.h"

#endif
