/* SPDX-License-Identifier: BSD-2-Clause
 * Pixels behind an input table, 16 at a time: RGB to four bytes a pixel and 256 entries per channel, in registers.
 */
#include "quant/int8/kernels/i8_internal.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

/* Entries 16*i .. 16*i+15 of channel c in lane c of register i. */
typedef struct lane_tables {
    __m512i part[16];
} lane_tables;

/* Four of `v` to one, by bits 4 and 5 of the index. */
INLINE AVX512 __m512i choose_4(const __m512i *v, __mmask64 bit4, __mmask64 bit5)
{
    return _mm512_mask_blend_epi8(bit5, _mm512_mask_blend_epi8(bit4, v[0], v[1]), _mm512_mask_blend_epi8(bit4, v[2], v[3]));
}

/* table[lane][x], every byte. A byte shuffle looks up 16 entries; the bits above choose among 16 shuffles. */
INLINE AVX512 __m512i look_up(__m512i x, const lane_tables *t)
{
    const __m512i low = _mm512_and_si512(x, _mm512_set1_epi8(15));
    const __mmask64 bit4 = _mm512_test_epi8_mask(x, _mm512_set1_epi8(16)), bit5 = _mm512_test_epi8_mask(x, _mm512_set1_epi8(32));
    const __mmask64 bit6 = _mm512_test_epi8_mask(x, _mm512_set1_epi8(64)), bit7 = _mm512_movepi8_mask(x);
    __m512i quarter[4];
    for (int q = 0; q < 4; q++) {
        __m512i v[4];
        for (int i = 0; i < 4; i++) v[i] = _mm512_shuffle_epi8(t->part[4 * q + i], low);
        quarter[q] = choose_4(v, bit4, bit5);
    }
    return _mm512_mask_blend_epi8(bit7, _mm512_mask_blend_epi8(bit6, quarter[0], quarter[1]),
                                  _mm512_mask_blend_epi8(bit6, quarter[2], quarter[3]));
}

INLINE AVX512 void lane_tables_init(lane_tables *t, const uint8_t *table, int rows, int is_signed)
{
    const size_t next = rows > 1 ? 256 : 0;
    const __m512i flip = _mm512_set1_epi8((char)(is_signed ? 0x80 : 0));
    for (int i = 0; i < 16; i++) {
        uint8_t lanes[64] = {0};
        for (size_t c = 0; c < 3; c++) memcpy(lanes + 16 * c, table + c * next + 16 * i, 16);
        t->part[i] = _mm512_maskz_mov_epi32(0x0fff, _mm512_xor_si512(_mm512_loadu_si512(lanes), flip));
    }
}

/* `n` pixels, 1..16, of three bytes to as many of four. */
INLINE AVX512 void convert_16(uint8_t *out, const uint8_t *pixels, int n, const lane_tables *t)
{
    const __m512i four_each = _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
    const __m512i by_channel = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    const __m512i transpose = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i by_pixel = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i raw = _mm512_maskz_loadu_epi8((UINT64_C(1) << 3 * n) - 1, pixels);
    const __m512i lanes = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(four_each, raw), by_channel);
    const __m512i codes = look_up(_mm512_permutexvar_epi32(transpose, lanes), t);
    const __m512i result = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(transpose, codes), by_pixel);
    _mm512_mask_storeu_epi32(out, (__mmask16)((1u << n) - 1), result);
}

INLINE AVX512 uint8_t *fill_pixels(uint8_t *out, size_t pixels, const oct_i8_pad *p)
{
    const uint8_t fill = (uint8_t)(p->fill + (p->is_signed ? 128 : 0));
    const uint8_t pixel[4] = {fill, fill, fill, 0};
    for (size_t i = 0; i < pixels; i++) memcpy(out + 4 * i, pixel, 4);
    return out + 4 * pixels;
}

AVX512 void oct_i8_pad_pixels_avx512(void *image, const uint8_t *pixels, const uint8_t *table, int table_rows,
                                     const oct_i8_pad *p)
{
    if (p->channels != 3 || p->source_pixel != 3 || p->padded_channels != 4) {
        oct_i8_pad_pixels_u8(image, pixels, table, table_rows, p);
        return;
    }
    lane_tables t;
    lane_tables_init(&t, table, table_rows, p->is_signed);
    const size_t out_width = (size_t)p->left + (size_t)p->width + (size_t)p->right;
    uint8_t *out = fill_pixels(image, (size_t)p->top * out_width, p);
    for (int y = 0; y < p->height; y++) {
        out = fill_pixels(out, (size_t)p->left, p);
        for (int x = 0; x < p->width; x += 16, out += 64, pixels += 48) {
            const int left = p->width - x;
            convert_16(out, pixels, left < 16 ? left : 16, &t);
            if (left >= 16) continue;
            out -= 4 * (16 - left);
            pixels -= 3 * (16 - left);
        }
        out = fill_pixels(out, (size_t)p->right, p);
    }
    fill_pixels(out, (size_t)p->bottom * out_width, p);
}

#endif
