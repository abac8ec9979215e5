/* SPDX-License-Identifier: BSD-2-Clause
 * AVX-512 (F, BW, VL, DQ) primitives for the elementwise kernels, and their instance.
 */
#include "quant/int8/kernels/i8_internal.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define NAME(f) f##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,popcnt")))
#define LANES 16
#define BYTES 64
#define P static inline __attribute__((always_inline)) TARGET

typedef __m512i vi;
typedef __m512 vf;
typedef __m512i vb;
typedef __mmask16 vm;

P __mmask16 first16(int n) { return (__mmask16)((1u << n) - 1u); }
P __mmask64 first64(int n) { return (UINT64_C(1) << n) - 1; }

P vi vi_load(const void *p) { return _mm512_loadu_si512(p); }
P vi vi_load_some(const void *p, int n) { return _mm512_maskz_loadu_epi32(first16(n), p); }
P void vi_store(void *p, vi v) { _mm512_storeu_si512(p, v); }
P void vi_store_some(void *p, vi v, int n) { _mm512_mask_storeu_epi32(p, first16(n), v); }
P vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
P vf vf_load_some(const float *p, int n) { return _mm512_maskz_loadu_ps(first16(n), p); }
P void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
P void vf_store_some(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, first16(n), v); }
P vb vb_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
P vb vb_load_some(const uint8_t *p, int n) { return _mm512_maskz_loadu_epi8(first64(n), p); }
P void vb_store(uint8_t *p, vb v) { _mm512_storeu_si512(p, v); }
P void vb_store_some(uint8_t *p, vb v, int n) { _mm512_mask_storeu_epi8(p, first64(n), v); }

P vi vi_set(int32_t v) { return _mm512_set1_epi32(v); }
P vf vf_set(float v) { return _mm512_set1_ps(v); }
P vb vb_set(int v) { return _mm512_set1_epi8((char)v); }

P vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
P vi vi_min(vi a, vi b) { return _mm512_min_epi32(a, b); }
P vi vi_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
P vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
P vi vi_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
P vi vi_srav(vi a, vi n) { return _mm512_srav_epi32(a, n); }
P vi vi_sllv(vi a, vi n) { return _mm512_sllv_epi32(a, n); }
P vi vi_sra1(vi a) { return _mm512_srai_epi32(a, 1); }
P vi vi_sra(vi a, int n) { return _mm512_sra_epi32(a, _mm_cvtsi32_si128(n)); }
P vi vi_sll(vi a, int n) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n)); }
P vi vi_add64(vi a, vi b) { return _mm512_add_epi64(a, b); }
P vi vi_high64(vi a) { return _mm512_srli_epi64(a, 32); }
P vi vi_square64(vi a) { return _mm512_mul_epi32(a, a); }
P vi vi_widen_low(vi a) { return _mm512_cvtepi32_epi64(_mm512_castsi512_si256(a)); }
P vi vi_widen_high(vi a) { return _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(a, 1)); }
P vb vb_max_unsigned(vb a, vb b) { return _mm512_max_epu8(a, b); }
P vb vb_max_signed(vb a, vb b) { return _mm512_max_epi8(a, b); }

P vf vi_to_float(vi a) { return _mm512_cvtepi32_ps(a); }
P vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
P vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
P vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
P vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
P vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
/* The sum rounded down never passes a whole number that the true sum has not reached. */
P vi vf_round_up(vf x)
{
    const vf sum = _mm512_add_round_ps(x, _mm512_set1_ps(0.5f), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    return _mm512_cvt_roundps_epi32(sum, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
P vi vf_round_even(vf x)
{
    return _mm512_cvt_roundps_epi32(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

P uint32_t vi_bits_within(vi x, vi lo, vi hi)
{
    return _mm512_mask_cmple_epi32_mask(_mm512_cmple_epi32_mask(lo, x), x, hi);
}
P uint32_t vf_bits_within(vf x, vf lo, vf hi)
{
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(lo, x, _CMP_LE_OQ), x, hi, _CMP_LE_OQ);
}
P vm vf_finite(vf x) { return _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(INFINITY), _CMP_LT_OQ); }
P vm vf_nan(vf x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q); }
P vm vm_of_bits(uint32_t bits) { return (vm)bits; }
P uint32_t vm_bits(vm mask) { return mask; }
P vf vf_select(vf a, vf b, vm mask) { return _mm512_mask_mov_ps(a, mask, b); }
P vi vi_select(vi a, vi b, vm mask) { return _mm512_mask_mov_epi32(a, mask, b); }

P vi codes_to_lanes(__m128i codes, int is_signed)
{
    return is_signed ? _mm512_cvtepi8_epi32(codes) : _mm512_cvtepu8_epi32(codes);
}
P vi vi_load_codes(const uint8_t *p, int is_signed)
{
    return codes_to_lanes(_mm_loadu_si128((const __m128i *)(const void *)p), is_signed);
}
P vi vi_load_codes_some(const uint8_t *p, int n, int is_signed)
{
    return codes_to_lanes(_mm_maskz_loadu_epi8(first16(n), p), is_signed);
}
P void vi_store_codes(uint8_t *p, vi v) { _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(v)); }
P void vi_store_codes_some(uint8_t *p, vi v, int n)
{
    _mm_mask_storeu_epi8(p, first16(n), _mm512_cvtepi32_epi8(v));
}

/* Packing works within 128-bit lanes: dword i of the result comes from dword (i%4)*4 + i/4. */
P void vi_store_packed(uint8_t *p, vi v0, vi v1, vi v2, vi v3, int lo, int hi)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_set1_epi16((short)lo), high = _mm512_set1_epi16((short)hi);
    const __m512i a = _mm512_min_epi16(_mm512_max_epi16(_mm512_packs_epi32(v0, v1), low), high);
    const __m512i b = _mm512_min_epi16(_mm512_max_epi16(_mm512_packs_epi32(v2, v3), low), high);
    const __m512i packed = lo < 0 ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, packed));
}

P __m512i code_words(const uint8_t *p, int is_signed)
{
    const __m256i codes = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return is_signed ? _mm512_cvtepi8_epi16(codes) : _mm512_cvtepu8_epi16(codes);
}

static TARGET size_t add_words(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, const add_plan *p)
{
    const __m512i rounding = _mm512_set1_epi16((short)(p->shift ? 1 << (p->shift - 1) : 0));
    const __m512i lo = _mm512_set1_epi16((short)p->lo), hi = _mm512_set1_epi16((short)p->hi);
    const __m128i sa = _mm_cvtsi32_si128(p->sa), sb = _mm_cvtsi32_si128(p->sb), shift = _mm_cvtsi32_si128(p->shift);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m512i x = _mm512_sll_epi16(code_words(a + i, p->a_signed), sa);
        const __m512i y = _mm512_sll_epi16(code_words(b + i, p->b_signed), sb);
        const __m512i sum = _mm512_sra_epi16(_mm512_add_epi16(_mm512_add_epi16(x, y), rounding), shift);
        const __m512i code = _mm512_min_epi16(_mm512_max_epi16(sum, lo), hi);
        _mm256_storeu_si256((__m256i *)(void *)(codes + i), _mm512_cvtepi16_epi8(code));
    }
    return i;
}

#include "quant/int8/kernels/i8_elementwise_tmpl.h"

#endif
