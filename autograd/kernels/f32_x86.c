/* SPDX-License-Identifier: BSD-2-Clause
 * x86-64 levels of the float kernels: instantiates f32_tmpl.h for AVX2 with FMA and for AVX-512 (F, BW, VL,
 * DQ). Function attributes select the instructions, so this file needs no flags; elsewhere it compiles to
 * nothing.
 */
#include "autograd/kernels/f32_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* ---- AVX2: 16 registers; 6 pixels x 2 vectors of accumulators + 2 of weights + 1 of x ---- */

/* n leading lanes: load 8 from first_lanes + 8 - n. */
static const int32_t first_lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
#define LANES(n) _mm256_loadu_si256((const __m256i *)(const void *)(first_lanes + 8 - (n)))

#define T_NAME(x) x##_avx2
#define T_FILL oct_f32_fill_avx2
#define T_LEVEL "avx2"
#define T_TARGET __attribute__((target("avx2,fma")))
#define T_V 8
#define T_VEC __m256
#define T_DVEC __m256d
#define T_ZERO() _mm256_setzero_ps()
#define T_SET1(f) _mm256_set1_ps(f)
#define T_LOAD(p) _mm256_loadu_ps(p)
#define T_STORE(p, v) _mm256_storeu_ps(p, v)
#define T_LOAD_N(p, n) _mm256_maskload_ps(p, LANES(n))
#define T_STORE_N(p, v, n) _mm256_maskstore_ps(p, LANES(n), v)
#define T_ADD _mm256_add_ps
#define T_SUB _mm256_sub_ps
#define T_MUL _mm256_mul_ps
#define T_FMA _mm256_fmadd_ps
/* max(a, b) is a > b ? a : b and min(a, b) is a < b ? a : b, both with the second operand for NaN. */
#define T_CLAMP(x, lo, hi) _mm256_min_ps(hi, _mm256_max_ps(lo, x))
#define T_INSIDE(v, y, lo, hi) \
    _mm256_and_ps(v, _mm256_and_ps(_mm256_cmp_ps(lo, y, _CMP_LT_OQ), _mm256_cmp_ps(y, hi, _CMP_LT_OQ)))
#define T_LOW(v) _mm256_cvtps_pd(_mm256_castps256_ps128(v))
#define T_HIGH(v) _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1))
#define T_DZERO() _mm256_setzero_pd()
#define T_DLOAD(p) _mm256_loadu_pd(p)
#define T_DSTORE(p, v) _mm256_storeu_pd(p, v)
#define T_DADD _mm256_add_pd
#define T_DSUB _mm256_sub_pd
#define T_DMUL _mm256_mul_pd
#define T_PIXELS(blocks) ((blocks) == 1 ? 6 : 3)
#define T_BLOCKS_MAX 2
#define T_BLOCKS_LONG 1
#include "autograd/kernels/f32_tmpl.h"

/* ---- AVX-512: 32 registers; at most 28 accumulators ----
 * One block is bound by loads (x comes straight from memory as an embedded broadcast), wider tiles broadcast
 * once per pixel and are bound by the multipliers. */

#define FIRST(n) ((__mmask16)((1u << (n)) - 1u))

#define T_NAME(x) x##_avx512
#define T_FILL oct_f32_fill_avx512
#define T_LEVEL "avx512"
#if defined(__clang__)
#define T_TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")))
#else
#define T_TARGET \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))
#endif
#define T_V 16
#define T_VEC __m512
#define T_DVEC __m512d
#define T_ZERO() _mm512_setzero_ps()
#define T_SET1(f) _mm512_set1_ps(f)
#define T_LOAD(p) _mm512_loadu_ps(p)
#define T_STORE(p, v) _mm512_storeu_ps(p, v)
#define T_LOAD_N(p, n) _mm512_maskz_loadu_ps(FIRST(n), p)
#define T_STORE_N(p, v, n) _mm512_mask_storeu_ps(p, FIRST(n), v)
#define T_ADD _mm512_add_ps
#define T_SUB _mm512_sub_ps
#define T_MUL _mm512_mul_ps
#define T_FMA _mm512_fmadd_ps
#define T_CLAMP(x, lo, hi) _mm512_min_ps(hi, _mm512_max_ps(lo, x))
#define T_INSIDE(v, y, lo, hi) \
    _mm512_maskz_mov_ps(_mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(lo, y, _CMP_LT_OQ), y, hi, _CMP_LT_OQ), v)
#define T_LOW(v) _mm512_cvtps_pd(_mm512_castps512_ps256(v))
#define T_HIGH(v) _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1))
#define T_DZERO() _mm512_setzero_pd()
#define T_DLOAD(p) _mm512_loadu_pd(p)
#define T_DSTORE(p, v) _mm512_storeu_pd(p, v)
#define T_DADD _mm512_add_pd
#define T_DSUB _mm512_sub_pd
#define T_DMUL _mm512_mul_pd
#define T_PIXELS(blocks) ((blocks) == 1 ? 16 : (blocks) == 2 ? 14 : (blocks) == 3 ? 9 : 6)
#define T_BLOCKS_MAX 4
#define T_BLOCKS_LONG 3
#include "autograd/kernels/f32_tmpl.h"
#endif
