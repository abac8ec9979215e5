/* SPDX-License-Identifier: BSD-2-Clause
 * Split kernels on AMX tiles, their layouts made with AVX-512. Function attributes select the instructions; elsewhere this
 * file compiles to nothing.
 *
 * A tile product multiplies 16 rows of 32 numbers with 16 columns in 16 cycles; a tile load takes 8 when its rows lie within
 * cache lines. Both products keep four accumulators: a step of `rows` loads 1 tile of weights and 4 of x per part for as
 * many products, one of `dw` loads 3 parts of dy and 4 tiles of x for 12.
 */
#include "autograd/kernels/split_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,amx-tile,amx-bf16")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define FIRST(n) ((__mmask16)((1u << (n)) - 1u))
/* Tile instructions are opaque to compilers: what they read must have been written, what they wrote must be read again. */
#define FENCE() __asm__ volatile("" ::: "memory")

enum { TILE = OCT_SPLIT_TILE, STEP = OCT_SPLIT_STEP, PARTS = OCT_SPLIT_PARTS, TILE_ELEMENTS = TILE * STEP };

/* ---- layouts ---- */

/* Bits of the three parts of 16 floats, each in the upper half of its lane. */
INLINE void split_vector(__m512i part[PARTS], __m512 x)
{
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000u);
    part[0] = _mm512_and_si512(_mm512_castps_si512(x), upper);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(part[0]));
    part[1] = _mm512_and_si512(_mm512_castps_si512(x), upper);
    part[2] = _mm512_castps_si512(_mm512_sub_ps(x, _mm512_castsi512_ps(part[1])));
}

INLINE __m256i narrow(__m512i upper)
{
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(upper, 16));
}

static TARGET void parts_amx(uint16_t *out, const float *const *rows, size_t count, int channels, int padded, ptrdiff_t pixel,
                             ptrdiff_t part)
{
    for (size_t i = 0; i < count; i++, out += pixel) {
        const float *x = rows[i];
        int c = 0;
        for (; c + TILE <= channels; c += TILE) {
            __m512i bits[PARTS];
            split_vector(bits, _mm512_loadu_ps(x + c));
            for (int k = 0; k < PARTS; k++) _mm256_storeu_si256((__m256i *)(void *)(out + k * part + c), narrow(bits[k]));
        }
        for (; c < padded; c += TILE) {
            const int left = channels - c, wide = padded - c < TILE ? padded - c : TILE;
            __m512i bits[PARTS];
            split_vector(bits, _mm512_maskz_loadu_ps(left > 0 ? FIRST(left) : 0, x + c));
            for (int k = 0; k < PARTS; k++) _mm256_mask_storeu_epi16(out + k * part + c, FIRST(wide), narrow(bits[k]));
        }
    }
}

static TARGET void pairs_amx(uint16_t *out, const float *const *rows, size_t count, int channels, ptrdiff_t group,
                             ptrdiff_t part)
{
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000u);
    for (size_t i = 0; i < count; i += 2, out += 2 * TILE) {
        const float *a = rows[i], *b = rows[i + 1];
        uint16_t *to = out;
        for (int c = 0; c < channels; c += TILE, to += group) {
            const __mmask16 some = channels - c < TILE ? FIRST(channels - c) : 0xffff;
            __m512i even[PARTS], odd[PARTS];
            split_vector(even, _mm512_maskz_loadu_ps(some, a + c));
            split_vector(odd, _mm512_maskz_loadu_ps(some, b + c));
            for (int k = 0; k < PARTS; k++) {
                const __m512i low = _mm512_srli_epi32(even[k], 16), high = _mm512_and_si512(odd[k], upper);
                _mm512_storeu_si512(to + k * part, _mm512_or_si512(low, high));
            }
        }
    }
}

/* v[i] lane j -> v[j] lane i */
INLINE void transpose(__m512i v[TILE])
{
    __m512i t[TILE];
    for (int i = 0; i < TILE; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < TILE; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

INLINE __m512i decode(const uint8_t *codes, __mmask16 some, __m512 unit, int is_signed)
{
    const __m128i bytes = _mm_maskz_loadu_epi8(some, codes);
    const __m512i wide = is_signed ? _mm512_cvtepi8_epi32(bytes) : _mm512_cvtepu8_epi32(bytes);
    return _mm512_castps_si512(_mm512_mul_ps(_mm512_cvtepi32_ps(wide), unit));
}

INLINE void planes_of(uint16_t *out, const uint8_t *const *rows, size_t count, int channels, ptrdiff_t plane, float unit,
                      int is_signed)
{
    const __m512 scale = _mm512_set1_ps(unit);
    for (size_t i = 0; i < count; i += STEP) {
        for (int c = 0; c < channels; c += TILE) {
            const int used = channels - c < TILE ? channels - c : TILE;
            const __mmask16 some = used < TILE ? FIRST(used) : 0xffff;
            __m512i v[TILE];
            for (int j = 0; j < TILE; j++)
                v[j] = _mm512_or_si512(_mm512_srli_epi32(decode(rows[i + 2 * (size_t)j] + c, some, scale, is_signed), 16),
                                       decode(rows[i + 2 * (size_t)j + 1] + c, some, scale, is_signed));
            transpose(v);
            uint16_t *to = out + c * plane + i;
            if (used == TILE) {
                for (int j = 0; j < TILE; j++) _mm512_storeu_si512(to + j * plane, v[j]);
            } else {
                for (int j = 0; j < used; j++) _mm512_storeu_si512(to + j * plane, v[j]);
            }
        }
    }
}

static TARGET void planes_amx(uint16_t *out, const uint8_t *const *rows, size_t count, int channels, ptrdiff_t plane,
                              float unit, int is_signed)
{
    if (is_signed)
        planes_of(out, rows, count, channels, plane, unit, 1);
    else
        planes_of(out, rows, count, channels, plane, unit, 0);
}

/* ---- products ---- */

/* Tiles 0-3 accumulate `rows` x 16 floats, 4 holds `rows` of x, 5-7 hold what it is multiplied with. */
INLINE void configure(int rows)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = (uint8_t)(i < 5 ? rows : TILE);
    }
    FENCE();
    _tile_loadconfig(&config);
}

/* Tiles 0-3 from and to memory at y + at[t], `row` bytes from row to row; without `from` they start at 0. */
INLINE void sums_load(const float *y, const ptrdiff_t at[4], ptrdiff_t row, int tiles, int from)
{
    if (!from) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        return;
    }
    _tile_loadd(0, y + at[0], row);
    if (tiles > 1) _tile_loadd(1, y + at[1], row);
    if (tiles > 2) _tile_loadd(2, y + at[2], row);
    if (tiles > 3) _tile_loadd(3, y + at[3], row);
}

INLINE void sums_store(float *y, const ptrdiff_t at[4], ptrdiff_t row, int tiles)
{
    _tile_stored(0, y + at[0], row);
    if (tiles > 1) _tile_stored(1, y + at[1], row);
    if (tiles > 2) _tile_stored(2, y + at[2], row);
    if (tiles > 3) _tile_stored(3, y + at[3], row);
}

/* Up to four tiles of 16 positions, all steps. */
INLINE void rows_tiles(float *y, const uint16_t *x, const uint16_t *w, const oct_split_rows_task *p, int tiles)
{
    const ptrdiff_t x_tile = TILE * p->x_pixel, y_tile = TILE * p->y_pixel, x_row = p->x_pixel * 2, y_row = p->y_pixel * 4;
    const ptrdiff_t at_y[4] = {0, y_tile, 2 * y_tile, 3 * y_tile};
    sums_load(y, at_y, y_row, tiles, p->accumulate);
    for (int r = 0; r < p->runs; r++) {
        for (int s = 0; s < p->steps; s++, w += TILE_ELEMENTS) {
            const uint16_t *at = x + r * p->x_run + s * STEP;
            _tile_loadd(5, w, 64);
            for (int k = 0; k < p->parts; k++, at += p->x_part) {
                _tile_loadd(4, at, x_row);
                _tile_dpbf16ps(0, 4, 5);
                if (tiles > 1) {
                    _tile_loadd(4, at + x_tile, x_row);
                    _tile_dpbf16ps(1, 4, 5);
                }
                if (tiles > 2) {
                    _tile_loadd(4, at + 2 * x_tile, x_row);
                    _tile_dpbf16ps(2, 4, 5);
                }
                if (tiles > 3) {
                    _tile_loadd(4, at + 3 * x_tile, x_row);
                    _tile_dpbf16ps(3, 4, 5);
                }
            }
        }
    }
    sums_store(y, at_y, y_row, tiles);
}

/* Two tiles of positions x two groups of outputs, which share what they load. */
static TARGET void rows_square(float *y, const uint16_t *x, const uint16_t *w, const oct_split_rows_task *p, ptrdiff_t group)
{
    const ptrdiff_t x_tile = TILE * p->x_pixel, y_tile = TILE * p->y_pixel, x_row = p->x_pixel * 2, y_row = p->y_pixel * 4;
    const ptrdiff_t at_y[4] = {0, TILE, y_tile, y_tile + TILE};
    sums_load(y, at_y, y_row, 4, p->accumulate);
    for (int r = 0; r < p->runs; r++) {
        for (int s = 0; s < p->steps; s++, w += TILE_ELEMENTS) {
            const uint16_t *at = x + r * p->x_run + s * STEP;
            _tile_loadd(6, w, 64);
            _tile_loadd(7, w + group, 64);
            for (int k = 0; k < p->parts; k++, at += p->x_part) {
                _tile_loadd(4, at, x_row);
                _tile_dpbf16ps(0, 4, 6);
                _tile_dpbf16ps(1, 4, 7);
                _tile_loadd(5, at + x_tile, x_row);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    sums_store(y, at_y, y_row, 4);
}

/* `count` tiles of positions, one group. */
static TARGET void rows_line(float *y, const uint16_t *x, const uint16_t *w, const oct_split_rows_task *p, int count)
{
    for (; count > 0; count -= 4, x += 4 * TILE * p->x_pixel, y += 4 * TILE * p->y_pixel) {
        switch (count) {
        case 1: rows_tiles(y, x, w, p, 1); break;
        case 2: rows_tiles(y, x, w, p, 2); break;
        case 3: rows_tiles(y, x, w, p, 3); break;
        default: rows_tiles(y, x, w, p, 4); break;
        }
    }
}

static TARGET void rows_amx(float *y, const uint16_t *x, const uint16_t *w, const oct_split_rows_task *p)
{
    const ptrdiff_t group = (ptrdiff_t)p->runs * p->steps * TILE_ELEMENTS;
    const int tiles = p->positions / TILE, even = tiles / 2 * 2;
    int n = 0;
    configure(TILE);
    for (; n + 2 <= p->groups; n += 2, w += 2 * group, y += 2 * TILE) {
        for (int t = 0; t < even; t += 2)
            rows_square(y + t * TILE * p->y_pixel, x + t * TILE * p->x_pixel, w, p, group);
        rows_line(y + even * TILE * p->y_pixel, x + even * TILE * p->x_pixel, w, p, tiles - even);
        rows_line(y + even * TILE * p->y_pixel + TILE, x + even * TILE * p->x_pixel, w + group, p, tiles - even);
    }
    if (n < p->groups) rows_line(y, x, w, p, tiles);
    _tile_release();
    FENCE();
}

#define DW_BLOCK(t)                                  \
    if (blocks > (t)) {                              \
        _tile_loadd(4, x + x_at[t] + s * STEP, row); \
        _tile_dpbf16ps(t, 4, 5);                     \
        _tile_dpbf16ps(t, 4, 6);                     \
        _tile_dpbf16ps(t, 4, 7);                     \
    }

/* Up to four blocks of channels, 16 outputs, all steps. */
INLINE void dw_blocks(float *dw, const uint16_t *x, const uint16_t *dy, const oct_split_dw_task *p, int first, int blocks)
{
    const ptrdiff_t row = p->x_plane * 2, dw_row = p->dw_row * 4, *x_at = p->x_at + first, *dw_at = p->dw_at + first;
    sums_load(dw, dw_at, dw_row, blocks, 1);
    for (int s = 0; s < p->steps; s++, dy += TILE_ELEMENTS) {
        _tile_loadd(5, dy, 64);
        _tile_loadd(6, dy + p->dy_part, 64);
        _tile_loadd(7, dy + 2 * p->dy_part, 64);
        DW_BLOCK(0)
        DW_BLOCK(1)
        DW_BLOCK(2)
        DW_BLOCK(3)
    }
    sums_store(dw, dw_at, dw_row, blocks);
}

static TARGET void dw_amx(float *dw, const uint16_t *x, const uint16_t *dy, const oct_split_dw_task *p)
{
    configure(p->rows);
    for (int n = 0; n < p->groups; n++, dy += p->dy_group, dw += TILE) {
        for (int b = 0; b < p->blocks; b += 4) {
            switch (p->blocks - b) {
            case 1: dw_blocks(dw, x, dy, p, b, 1); break;
            case 2: dw_blocks(dw, x, dy, p, b, 2); break;
            case 3: dw_blocks(dw, x, dy, p, b, 3); break;
            default: dw_blocks(dw, x, dy, p, b, 4); break;
            }
        }
    }
    _tile_release();
    FENCE();
}

void oct_split_fill_amx(oct_split_kernels *table)
{
    table->fast = true;
    table->parts = parts_amx;
    table->pairs = pairs_amx;
    table->planes = planes_amx;
    table->rows = rows_amx;
    table->dw = dw_amx;
}
#endif
