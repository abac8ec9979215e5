/* SPDX-License-Identifier: BSD-2-Clause
 * AVX2 primitives for the elementwise kernels, and their instance.
 */
#include "quant/int8/kernels/i8_internal.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define NAME(f) f##_avx2
#define TARGET __attribute__((target("avx2,popcnt")))
#define LANES 8
#define BYTES 16
#define P static inline __attribute__((always_inline)) TARGET

typedef __m256i vi;
typedef __m256 vf;
typedef __m128i vb;
typedef __m256 vm;

/* Masks of the first n of 8 lanes are read from lane 8 - n on. */
static const int32_t lane_masks[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

P vi vi_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
P void vi_store(void *p, vi v) { _mm256_storeu_si256((__m256i *)p, v); }
P vi first8(int n) { return vi_load(lane_masks + 8 - (n < 0 ? 0 : n)); }
P vi vi_load_some(const int32_t *p, int n) { return _mm256_maskload_epi32(p, first8(n)); }
P void vi_store_some(int32_t *p, vi v, int n) { _mm256_maskstore_epi32(p, first8(n), v); }
P vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
P vf vf_load_some(const float *p, int n) { return _mm256_maskload_ps(p, first8(n)); }
P void vf_store(float *p, vf v) { _mm256_storeu_ps(p, v); }
P void vf_store_some(float *p, vf v, int n) { _mm256_maskstore_ps(p, first8(n), v); }
P vb vb_load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
P void vb_store(uint8_t *p, vb v) { _mm_storeu_si128((__m128i *)(void *)p, v); }
/* AVX2 cannot mask bytes: by way of the stack. */
P vb vb_load_some(const uint8_t *p, int n)
{
    uint8_t bytes[16] = {0};
    memcpy(bytes, p, (size_t)n);
    return vb_load(bytes);
}
P void vb_store_some(uint8_t *p, vb v, int n)
{
    uint8_t bytes[16];
    vb_store(bytes, v);
    memcpy(p, bytes, (size_t)n);
}

P vi vi_set(int32_t v) { return _mm256_set1_epi32(v); }
P vf vf_set(float v) { return _mm256_set1_ps(v); }
P vb vb_set(int v) { return _mm_set1_epi8((char)v); }

P vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
P vi vi_min(vi a, vi b) { return _mm256_min_epi32(a, b); }
P vi vi_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
P vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
P vi vi_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
P vi vi_srav(vi a, vi n) { return _mm256_srav_epi32(a, n); }
P vi vi_sllv(vi a, vi n) { return _mm256_sllv_epi32(a, n); }
P vi vi_sra1(vi a) { return _mm256_srai_epi32(a, 1); }
P vi vi_sra(vi a, int n) { return _mm256_sra_epi32(a, _mm_cvtsi32_si128(n)); }
P vi vi_sll(vi a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)); }
P vi vi_add64(vi a, vi b) { return _mm256_add_epi64(a, b); }
P vi vi_high64(vi a) { return _mm256_srli_epi64(a, 32); }
P vi vi_square64(vi a) { return _mm256_mul_epi32(a, a); }
P vi vi_widen_low(vi a) { return _mm256_cvtepi32_epi64(_mm256_castsi256_si128(a)); }
P vi vi_widen_high(vi a) { return _mm256_cvtepi32_epi64(_mm256_extracti128_si256(a, 1)); }
P vb vb_max_unsigned(vb a, vb b) { return _mm_max_epu8(a, b); }
P vb vb_max_signed(vb a, vb b) { return _mm_max_epi8(a, b); }

P vf vi_to_float(vi a) { return _mm256_cvtepi32_ps(a); }
P vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
P vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
P vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
P vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
P vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
/* A true comparison is -1. */
P vi vf_round_up(vf x)
{
    const vf whole = _mm256_floor_ps(x);
    const vf up = _mm256_cmp_ps(_mm256_sub_ps(x, whole), _mm256_set1_ps(0.5f), _CMP_GE_OQ);
    return _mm256_sub_epi32(_mm256_cvttps_epi32(whole), _mm256_castps_si256(up));
}
P vi vf_round_even(vf x)
{
    return _mm256_cvttps_epi32(_mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

P uint32_t vm_bits(vm mask) { return (uint32_t)_mm256_movemask_ps(mask); }
P vm vm_of_bits(uint32_t bits)
{
    const vi lane_bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), lane_bit), lane_bit));
}
P uint32_t vi_bits_within(vi x, vi lo, vi hi)
{
    const vi outside = _mm256_or_si256(_mm256_cmpgt_epi32(lo, x), _mm256_cmpgt_epi32(x, hi));
    return vm_bits(_mm256_castsi256_ps(outside)) ^ 0xff;
}
P uint32_t vf_bits_within(vf x, vf lo, vf hi)
{
    return vm_bits(_mm256_and_ps(_mm256_cmp_ps(lo, x, _CMP_LE_OQ), _mm256_cmp_ps(x, hi, _CMP_LE_OQ)));
}
P vm vf_finite(vf x)
{
    const vf magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    return _mm256_cmp_ps(magnitude, _mm256_set1_ps(INFINITY), _CMP_LT_OQ);
}
P vm vf_nan(vf x) { return _mm256_cmp_ps(x, x, _CMP_UNORD_Q); }
P vf vf_select(vf a, vf b, vm mask) { return _mm256_blendv_ps(a, b, mask); }
P vi vi_select(vi a, vi b, vm mask) { return _mm256_blendv_epi8(a, b, _mm256_castps_si256(mask)); }

P vi vi_load_codes(const uint8_t *p, int is_signed)
{
    const __m128i codes = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return is_signed ? _mm256_cvtepi8_epi32(codes) : _mm256_cvtepu8_epi32(codes);
}
P vi vi_load_codes_some(const uint8_t *p, int n, int is_signed)
{
    uint8_t bytes[8] = {0};
    memcpy(bytes, p, (size_t)n);
    return vi_load_codes(bytes, is_signed);
}
/* The low byte of each dword to the front of its 128-bit lane, then both lanes together. */
P __m128i lane_bytes(vi v)
{
    const vi pick = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8, 12,
                                     -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    v = _mm256_shuffle_epi8(v, pick);
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}
P void vi_store_codes(uint8_t *p, vi v) { _mm_storel_epi64((__m128i *)(void *)p, lane_bytes(v)); }
P void vi_store_codes_some(uint8_t *p, vi v, int n)
{
    uint8_t bytes[8];
    vi_store_codes(bytes, v);
    memcpy(p, bytes, (size_t)n);
}

/* Packing works within 128-bit lanes: dword i of the result comes from dword (i%2)*4 + i/2. */
P void vi_store_packed(uint8_t *p, vi v0, vi v1, vi v2, vi v3, int lo, int hi)
{
    const vi order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const vi low = _mm256_set1_epi16((short)lo), high = _mm256_set1_epi16((short)hi);
    const vi a = _mm256_min_epi16(_mm256_max_epi16(_mm256_packs_epi32(v0, v1), low), high);
    const vi b = _mm256_min_epi16(_mm256_max_epi16(_mm256_packs_epi32(v2, v3), low), high);
    const vi packed = lo < 0 ? _mm256_packs_epi16(a, b) : _mm256_packus_epi16(a, b);
    vi_store(p, _mm256_permutevar8x32_epi32(packed, order));
}

P vi code_words(const uint8_t *p, int is_signed)
{
    const __m128i codes = _mm_loadu_si128((const __m128i *)(const void *)p);
    return is_signed ? _mm256_cvtepi8_epi16(codes) : _mm256_cvtepu8_epi16(codes);
}

static TARGET size_t add_words(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, const add_plan *p)
{
    const vi rounding = _mm256_set1_epi16((short)(p->shift ? 1 << (p->shift - 1) : 0)), low_byte = _mm256_set1_epi16(255);
    const vi lo = _mm256_set1_epi16((short)p->lo), hi = _mm256_set1_epi16((short)p->hi);
    const __m128i sa = _mm_cvtsi32_si128(p->sa), sb = _mm_cvtsi32_si128(p->sb), shift = _mm_cvtsi32_si128(p->shift);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const vi x = _mm256_sll_epi16(code_words(a + i, p->a_signed), sa);
        const vi y = _mm256_sll_epi16(code_words(b + i, p->b_signed), sb);
        const vi sum = _mm256_sra_epi16(_mm256_add_epi16(_mm256_add_epi16(x, y), rounding), shift);
        const vi code = _mm256_and_si256(_mm256_min_epi16(_mm256_max_epi16(sum, lo), hi), low_byte);
        const vi packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(code, code), 0x08);
        vb_store(codes + i, _mm256_castsi256_si128(packed));
    }
    return i;
}

#include "quant/int8/kernels/i8_elementwise_tmpl.h"

#endif
