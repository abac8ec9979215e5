/* SPDX-License-Identifier: BSD-2-Clause
 * Dense convolution to 32-bit sums on AMX tiles, for the operands and packed weights of the VNNI levels: 64 channels of 16
 * pixels meet 64 channels of 16 outputs in 16 cycles, eight times the rate of VPDPBUSD. A block of packed weights is a row
 * of tiles as it lies; x is read with the stride of its pixels.
 */
#include "quant/int8/kernels/i8_internal.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,amx-tile,amx-int8")))
#define INLINE static inline __attribute__((always_inline)) TARGET
/* Tile instructions are opaque to compilers: what they read must have been written, what they wrote must be read again. */
#define FENCE() __asm__ volatile("" ::: "memory")

enum {
    TILE = OCT_I8_BLOCK,
    STEP = 64,              /* channels of a tile */
    ENOUGH = 128 * 1024,    /* products of a call that are worth configuring tiles for */
    LEAST_PIXELS = 4        /* of a row */
};

typedef struct tile_job {
    int runs_h, runs_w, steps, rest; /* tap rows, runs of a tap row; whole tiles and channels left in a run */
    ptrdiff_t run_h, run_w;          /* bytes from run to run */
    ptrdiff_t x_row, acc_row;        /* bytes between the 16 pixels of a tile */
    ptrdiff_t block;                 /* bytes of a block of weights */
} tile_job;

/* Tiles: 0-3 sums, 4 and 5 pixels x 64 and x rest channels, 6 and 7 weights for them. */
INLINE void configure(int pixels, int rest)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = (uint16_t)(i == 5 && rest ? rest : 64);
        config.rows[i] = (uint8_t)(i == 6 ? TILE : i == 7 ? (rest ? rest / 4 : TILE) : pixels);
    }
    FENCE();
    _tile_loadconfig(&config);
}

#define SUM(t, a, b)                           \
    if (tiles > (t)) {                         \
        _tile_loadd(a, x[t] + at, j->x_row);   \
        _tile_dpbusd(t, a, b);                 \
    }

/* `tiles` tiles of pixels x 16 outputs: acc = start + sums over everything. */
INLINE void tiles_of_block(char *const acc[4], const char *const x[4], const char *w, const int32_t *start,
                           const tile_job *j, int tiles)
{
    _tile_loadd(0, start, 0);
    if (tiles > 1) _tile_loadd(1, start, 0);
    if (tiles > 2) _tile_loadd(2, start, 0);
    if (tiles > 3) _tile_loadd(3, start, 0);
    for (int r = 0; r < j->runs_h; r++) {
        for (int t = 0; t < j->runs_w; t++) {
            ptrdiff_t at = r * j->run_h + t * j->run_w;
            for (int s = 0; s < j->steps; s++, at += STEP, w += STEP * TILE) {
                _tile_loadd(6, w, 64);
                SUM(0, 4, 6)
                SUM(1, 4, 6)
                SUM(2, 4, 6)
                SUM(3, 4, 6)
            }
            if (!j->rest) continue;
            _tile_loadd(7, w, 64);
            w += j->rest * TILE;
            SUM(0, 5, 7)
            SUM(1, 5, 7)
            SUM(2, 5, 7)
            SUM(3, 5, 7)
        }
    }
    _tile_stored(0, acc[0], j->acc_row);
    if (tiles > 1) _tile_stored(1, acc[1], j->acc_row);
    if (tiles > 2) _tile_stored(2, acc[2], j->acc_row);
    if (tiles > 3) _tile_stored(3, acc[3], j->acc_row);
}

static TARGET void run_tiles(char *const acc[4], const char *const x[4], const char *w, const int32_t *start,
                             const tile_job *j, int tiles)
{
    switch (tiles) {
    case 1: tiles_of_block(acc, x, w, start, j, 1); break;
    case 2: tiles_of_block(acc, x, w, start, j, 2); break;
    case 3: tiles_of_block(acc, x, w, start, j, 3); break;
    default: tiles_of_block(acc, x, w, start, j, 4); break;
    }
}

/* The same for the last block of outputs, `used` of which exist. */
static TARGET void run_part(char *const acc[4], const char *const x[4], const char *w, const int32_t *start,
                            const tile_job *j, int tiles, int pixels, int used)
{
    int32_t sums[4][TILE * TILE];
    char *const to[4] = {(char *)sums[0], (char *)sums[1], (char *)sums[2], (char *)sums[3]};
    tile_job dense = *j;
    dense.acc_row = TILE * sizeof(int32_t);
    run_tiles(to, x, w, start, &dense, tiles);
    FENCE();
    for (int t = 0; t < tiles; t++)
        for (int p = 0; p < pixels; p++)
            memcpy(acc[t] + p * j->acc_row, sums[t] + p * TILE, (size_t)used * sizeof(int32_t));
}

static tile_job job_of(const oct_i8_conv_row *p)
{
    const int together = p->x_tap == p->channels; /* the taps of a row are contiguous */
    const int run = together ? p->taps_w * p->channels : p->channels;
    return (tile_job){.runs_h = p->taps_h,
                      .runs_w = together ? 1 : p->taps_w,
                      .steps = run / STEP,
                      .rest = run % STEP,
                      .run_h = p->x_row,
                      .run_w = p->x_tap,
                      .x_row = p->x_pixel,
                      .acc_row = p->acc_pixel * (ptrdiff_t)sizeof(int32_t),
                      .block = (ptrdiff_t)p->taps_h * p->taps_w * p->channels * TILE};
}

/* A row of fewer than a tile's pixels has short tiles; the last tile of a longer one repeats pixels of the one before. */
static TARGET void conv_tiles(int32_t *acc, const void *x, const void *w, const int32_t *start, const oct_i8_conv_row *p)
{
    const tile_job j = job_of(p);
    const int pixels = p->pixels < TILE ? p->pixels : TILE, row_tiles = (p->pixels + TILE - 1) / TILE;
    const int count = (p->rows > 1 ? p->rows : 1) * row_tiles;
    configure(pixels, j.rest);
    for (int o = 0; o < p->outputs; o += TILE) {
        const char *weights = (const char *)w + o / TILE * j.block;
        const int used = p->outputs - o < TILE ? p->outputs - o : TILE;
        for (int first = 0; first < count; first += 4) {
            const int tiles = count - first < 4 ? count - first : 4;
            const char *from[4];
            char *to[4];
            for (int t = 0; t < 4; t++) {
                const int i = first + (t < tiles ? t : 0), row = i / row_tiles, tile = i % row_tiles;
                const ptrdiff_t pixel = tile * TILE + pixels <= p->pixels ? tile * TILE : p->pixels - pixels;
                from[t] = (const char *)x + row * p->x_next + pixel * j.x_row;
                to[t] = (char *)(acc + row * p->acc_next + o) + pixel * j.acc_row;
            }
            if (used == TILE)
                run_tiles(to, from, weights, start + o, &j, tiles);
            else
                run_part(to, from, weights, start + o, &j, tiles, pixels, used);
        }
    }
    _tile_release();
    FENCE();
}

static void conv_row_amx(int32_t *acc, const void *x, const void *w, const int32_t *start, const oct_i8_conv_row *p)
{
    const int64_t pixels = (int64_t)p->pixels * (p->rows > 1 ? p->rows : 1);
    const int64_t products = pixels * p->outputs * p->taps_h * p->taps_w * p->channels;
    if (p->pixels >= LEAST_PIXELS && products >= ENOUGH)
        conv_tiles(acc, x, w, start, p);
    else
        oct_i8_conv_row_avx512vnni(acc, x, w, start, p);
}

void oct_i8_fill_amx(oct_i8_kernels *table)
{
    table->level = "amx";
    table->conv_row = conv_row_amx;
}

#endif
