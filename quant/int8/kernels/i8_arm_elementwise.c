/* SPDX-License-Identifier: BSD-2-Clause
 * NEON primitives for the elementwise kernels, and their instance. A vector of the template is a pair of
 * registers: eight lanes fill a byte of mask bits.
 */
#include "quant/int8/kernels/i8_internal.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#define NAME(f) f##_neon
#define TARGET
#define LANES 8
#define BYTES 16
#define P static inline __attribute__((always_inline))

typedef int32x4x2_t vi;
typedef float32x4x2_t vf;
typedef uint8x16_t vb;
typedef uint32x4x2_t vm;

/* One instruction on both registers. */
#define EACH(type, f, ...) ((type){{f(0, __VA_ARGS__), f(1, __VA_ARGS__)}})
#define UNARY(i, op, a) op((a).val[i])
#define BINARY(i, op, a, b) op((a).val[i], (b).val[i])
#define SELECT(i, op, mask, a, b) op((mask).val[i], (a).val[i], (b).val[i])

/* The template hands int32 arrays of any element type as void *. */
P vi vi_load(const void *p)
{
    const uint8_t *at = p;
    return (vi){{vreinterpretq_s32_u8(vld1q_u8(at)), vreinterpretq_s32_u8(vld1q_u8(at + 16))}};
}
P void vi_store(void *p, vi v)
{
    uint8_t *at = p;
    vst1q_u8(at, vreinterpretq_u8_s32(v.val[0]));
    vst1q_u8(at + 16, vreinterpretq_u8_s32(v.val[1]));
}
P vi vi_load_some(const int32_t *p, int n)
{
    int32_t lanes[8] = {0};
    if (n > 0) memcpy(lanes, p, (size_t)n * sizeof *p);
    return vi_load(lanes);
}
P void vi_store_some(int32_t *p, vi v, int n)
{
    int32_t lanes[8];
    vi_store(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof *p);
}
P vf vf_load(const float *p) { return (vf){{vld1q_f32(p), vld1q_f32(p + 4)}}; }
P void vf_store(float *p, vf v)
{
    vst1q_f32(p, v.val[0]);
    vst1q_f32(p + 4, v.val[1]);
}
P vf vf_load_some(const float *p, int n)
{
    float lanes[8] = {0};
    if (n > 0) memcpy(lanes, p, (size_t)n * sizeof *p);
    return vf_load(lanes);
}
P void vf_store_some(float *p, vf v, int n)
{
    float lanes[8];
    vf_store(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof *p);
}
P vb vb_load(const uint8_t *p) { return vld1q_u8(p); }
P void vb_store(uint8_t *p, vb v) { vst1q_u8(p, v); }
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

P vi vi_set(int32_t v) { return (vi){{vdupq_n_s32(v), vdupq_n_s32(v)}}; }
P vf vf_set(float v) { return (vf){{vdupq_n_f32(v), vdupq_n_f32(v)}}; }
P vb vb_set(int v) { return vdupq_n_u8((uint8_t)v); }

P vi vi_add(vi a, vi b) { return EACH(vi, BINARY, vaddq_s32, a, b); }
P vi vi_min(vi a, vi b) { return EACH(vi, BINARY, vminq_s32, a, b); }
P vi vi_max(vi a, vi b) { return EACH(vi, BINARY, vmaxq_s32, a, b); }
P vi vi_and(vi a, vi b) { return EACH(vi, BINARY, vandq_s32, a, b); }
P vi vi_mul(vi a, vi b) { return EACH(vi, BINARY, vmulq_s32, a, b); }
/* A left shift by a negative count is the arithmetic right shift; beyond 31 it leaves the sign. */
P vi vi_sllv(vi a, vi n) { return EACH(vi, BINARY, vshlq_s32, a, n); }
P vi vi_srav(vi a, vi n) { return vi_sllv(a, EACH(vi, UNARY, vnegq_s32, n)); }
P vi vi_sll(vi a, int n) { return vi_sllv(a, vi_set(n)); }
P vi vi_sra(vi a, int n) { return vi_sllv(a, vi_set(-n)); }
P vi vi_sra1(vi a) { return (vi){{vshrq_n_s32(a.val[0], 1), vshrq_n_s32(a.val[1], 1)}}; }

/* Pairs of lanes as 64-bit integers. */
P int64x2_t add64(int32x4_t a, int32x4_t b)
{
    return vaddq_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b));
}
P vi vi_add64(vi a, vi b)
{
    return (vi){
        {vreinterpretq_s32_s64(add64(a.val[0], b.val[0])), vreinterpretq_s32_s64(add64(a.val[1], b.val[1]))}};
}
P int32x4_t high64(int32x4_t a) { return vreinterpretq_s32_u64(vshrq_n_u64(vreinterpretq_u64_s32(a), 32)); }
P vi vi_high64(vi a) { return EACH(vi, UNARY, high64, a); }
P int32x4_t square64(int32x4_t a)
{
    const int32x2_t low = vmovn_s64(vreinterpretq_s64_s32(a));
    return vreinterpretq_s32_s64(vmull_s32(low, low));
}
P vi vi_square64(vi a) { return EACH(vi, UNARY, square64, a); }
P vi widen(int32x4_t a)
{
    return (vi){
        {vreinterpretq_s32_s64(vmovl_s32(vget_low_s32(a))), vreinterpretq_s32_s64(vmovl_high_s32(a))}};
}
P vi vi_widen_low(vi a) { return widen(a.val[0]); }
P vi vi_widen_high(vi a) { return widen(a.val[1]); }
P vb vb_max_unsigned(vb a, vb b) { return vmaxq_u8(a, b); }
P vb vb_max_signed(vb a, vb b)
{
    return vreinterpretq_u8_s8(vmaxq_s8(vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b)));
}

P vf vi_to_float(vi a) { return EACH(vf, UNARY, vcvtq_f32_s32, a); }
P vf vf_add(vf a, vf b) { return EACH(vf, BINARY, vaddq_f32, a, b); }
P vf vf_sub(vf a, vf b) { return EACH(vf, BINARY, vsubq_f32, a, b); }
P vf vf_mul(vf a, vf b) { return EACH(vf, BINARY, vmulq_f32, a, b); }
/* FMIN and FMAX would return a NaN. */
P vf vf_min(vf a, vf b)
{
    const vm less = EACH(vm, BINARY, vcltq_f32, a, b);
    return EACH(vf, SELECT, vbslq_f32, less, a, b);
}
P vf vf_max(vf a, vf b)
{
    const vm more = EACH(vm, BINARY, vcgtq_f32, a, b);
    return EACH(vf, SELECT, vbslq_f32, more, a, b);
}
/* A true comparison is -1. */
P int32x4_t round_up(float32x4_t x)
{
    const float32x4_t whole = vrndmq_f32(x);
    const uint32x4_t up = vcgeq_f32(vsubq_f32(x, whole), vdupq_n_f32(0.5f));
    return vsubq_s32(vcvtq_s32_f32(whole), vreinterpretq_s32_u32(up));
}
P vi vf_round_up(vf x) { return EACH(vi, UNARY, round_up, x); }
P vi vf_round_even(vf x) { return EACH(vi, UNARY, vcvtnq_s32_f32, x); }

P uint32_t vm_bits(vm mask)
{
    const uint32x4_t low = {1, 2, 4, 8}, high = {16, 32, 64, 128};
    return vaddvq_u32(vorrq_u32(vandq_u32(mask.val[0], low), vandq_u32(mask.val[1], high)));
}
P vm vm_of_bits(uint32_t bits)
{
    const uint32x4_t low = {1, 2, 4, 8}, high = {16, 32, 64, 128}, all = vdupq_n_u32(bits);
    return (vm){{vtstq_u32(all, low), vtstq_u32(all, high)}};
}
P vm both(vm a, vm b) { return EACH(vm, BINARY, vandq_u32, a, b); }
P uint32_t vi_bits_within(vi x, vi lo, vi hi)
{
    return vm_bits(both(EACH(vm, BINARY, vcleq_s32, lo, x), EACH(vm, BINARY, vcleq_s32, x, hi)));
}
P uint32_t vf_bits_within(vf x, vf lo, vf hi)
{
    return vm_bits(both(EACH(vm, BINARY, vcleq_f32, lo, x), EACH(vm, BINARY, vcleq_f32, x, hi)));
}
P uint32x4_t is_finite(float32x4_t x) { return vcltq_f32(vabsq_f32(x), vdupq_n_f32(INFINITY)); }
P vm vf_finite(vf x) { return EACH(vm, UNARY, is_finite, x); }
P uint32x4_t is_nan(float32x4_t x) { return vmvnq_u32(vceqq_f32(x, x)); }
P vm vf_nan(vf x) { return EACH(vm, UNARY, is_nan, x); }
P vf vf_select(vf a, vf b, vm mask) { return EACH(vf, SELECT, vbslq_f32, mask, b, a); }
P vi vi_select(vi a, vi b, vm mask) { return EACH(vi, SELECT, vbslq_s32, mask, b, a); }

P int16x8_t code_words(const uint8_t *p, int is_signed)
{
    const uint8x8_t codes = vld1_u8(p);
    return is_signed ? vmovl_s8(vreinterpret_s8_u8(codes)) : vreinterpretq_s16_u16(vmovl_u8(codes));
}
P vi vi_load_codes(const uint8_t *p, int is_signed)
{
    const int16x8_t words = code_words(p, is_signed);
    return (vi){{vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words)}};
}
P vi vi_load_codes_some(const uint8_t *p, int n, int is_signed)
{
    uint8_t bytes[8] = {0};
    memcpy(bytes, p, (size_t)n);
    return vi_load_codes(bytes, is_signed);
}
P void vi_store_codes(uint8_t *p, vi v)
{
    vst1_u8(p, vreinterpret_u8_s8(vmovn_s16(vmovn_high_s32(vmovn_s32(v.val[0]), v.val[1]))));
}
P void vi_store_codes_some(uint8_t *p, vi v, int n)
{
    uint8_t bytes[8];
    vi_store_codes(bytes, v);
    memcpy(p, bytes, (size_t)n);
}

P int8x8_t clamped(vi v, int16x8_t lo, int16x8_t hi)
{
    return vmovn_s16(vminq_s16(vmaxq_s16(vqmovn_high_s32(vqmovn_s32(v.val[0]), v.val[1]), lo), hi));
}
P void vi_store_packed(uint8_t *p, vi v0, vi v1, vi v2, vi v3, int lo, int hi)
{
    const int16x8_t low = vdupq_n_s16((int16_t)lo), high = vdupq_n_s16((int16_t)hi);
    vst1q_u8(p, vreinterpretq_u8_s8(vcombine_s8(clamped(v0, low, high), clamped(v1, low, high))));
    vst1q_u8(p + 16, vreinterpretq_u8_s8(vcombine_s8(clamped(v2, low, high), clamped(v3, low, high))));
}

static size_t add_words(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, const add_plan *p)
{
    const int16x8_t rounding = vdupq_n_s16((int16_t)(p->shift ? 1 << (p->shift - 1) : 0));
    const int16x8_t lo = vdupq_n_s16((int16_t)p->lo), hi = vdupq_n_s16((int16_t)p->hi);
    const int16x8_t sa = vdupq_n_s16((int16_t)p->sa), sb = vdupq_n_s16((int16_t)p->sb);
    const int16x8_t shift = vdupq_n_s16((int16_t)-p->shift);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const int16x8_t x = vshlq_s16(code_words(a + i, p->a_signed), sa);
        const int16x8_t y = vshlq_s16(code_words(b + i, p->b_signed), sb);
        const int16x8_t sum = vshlq_s16(vaddq_s16(vaddq_s16(x, y), rounding), shift);
        vst1_u8(codes + i, vreinterpret_u8_s8(vmovn_s16(vminq_s16(vmaxq_s16(sum, lo), hi))));
    }
    return i;
}

#include "quant/int8/kernels/i8_elementwise_tmpl.h"

#endif
