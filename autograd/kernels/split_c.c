/* SPDX-License-Identifier: BSD-2-Clause
 * C reference of the split kernels, and their table. */
#include "autograd/kernels/split_kernels.h"

#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/kernels/split_internal.h"

enum { TILE = OCT_SPLIT_TILE, STEP = OCT_SPLIT_STEP, PARTS = OCT_SPLIT_PARTS };

/* The upper half of a float's bits is its bf16 number. */
static uint16_t upper_half(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static float widen(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void split(uint16_t part[PARTS], float x)
{
    for (int k = 0; k < PARTS; k++) {
        part[k] = upper_half(x);
        x -= widen(part[k]);
    }
}

static void parts_c(uint16_t *out, const float *const *rows, size_t count, int channels, int padded, ptrdiff_t pixel,
                    ptrdiff_t part)
{
    for (size_t i = 0; i < count; i++, out += pixel) {
        for (int c = 0; c < padded; c++) {
            uint16_t one[PARTS];
            split(one, c < channels ? rows[i][c] : 0);
            for (int k = 0; k < PARTS; k++) out[k * part + c] = one[k];
        }
    }
}

static void pairs_c(uint16_t *out, const float *const *rows, size_t count, int channels, ptrdiff_t group, ptrdiff_t part)
{
    const int padded = (channels + TILE - 1) / TILE * TILE;
    for (size_t i = 0; i < count; i++) {
        for (int c = 0; c < padded; c++) {
            uint16_t one[PARTS], *to = out + c / TILE * group + i / 2 * 2 * TILE + (size_t)(c % TILE * 2) + i % 2;
            split(one, c < channels ? rows[i][c] : 0);
            for (int k = 0; k < PARTS; k++) to[k * part] = one[k];
        }
    }
}

static void planes_c(uint16_t *out, const uint8_t *const *rows, size_t count, int channels, ptrdiff_t plane, float unit,
                     int is_signed)
{
    for (int c = 0; c < channels; c++, out += plane) {
        for (size_t i = 0; i < count; i++) {
            const float code = is_signed ? (float)(int8_t)rows[i][c] : (float)rows[i][c];
            out[i] = upper_half(code * unit);
        }
    }
}

static float dot(const uint16_t *x, const uint16_t *w)
{
    float sum = 0;
    for (int j = 0; j < STEP; j++) sum += widen(x[j]) * widen(w[j / 2 * 2 * TILE + j % 2]);
    return sum;
}

static void rows_c(float *y, const uint16_t *x, const uint16_t *w, const oct_split_rows_task *p)
{
    const ptrdiff_t step = STEP * TILE, group = p->runs * p->steps * step;
    for (int q = 0; q < p->positions; q++, x += p->x_pixel, y += p->y_pixel) {
        for (int n = 0; n < TILE * p->groups; n++) {
            float sum = p->accumulate ? y[n] : 0;
            for (int r = 0; r < p->runs; r++)
                for (int s = 0; s < p->steps; s++)
                    for (int k = 0; k < p->parts; k++)
                        sum += dot(x + r * p->x_run + k * p->x_part + s * STEP,
                                   w + n / TILE * group + (r * p->steps + s) * step + n % TILE * 2);
            y[n] = sum;
        }
    }
}

static void dw_c(float *dw, const uint16_t *x, const uint16_t *dy, const oct_split_dw_task *p)
{
    for (int b = 0; b < p->blocks; b++) {
        for (int i = 0; i < p->rows; i++) {
            const uint16_t *from = x + p->x_at[b] + i * p->x_plane;
            float *to = dw + p->dw_at[b] + i * p->dw_row;
            for (int n = 0; n < TILE * p->groups; n++) {
                const uint16_t *g = dy + n / TILE * p->dy_group + n % TILE * 2;
                for (int s = 0; s < p->steps; s++)
                    for (int k = 0; k < PARTS; k++) to[n] += dot(from + s * STEP, g + k * p->dy_part + s * STEP * TILE);
            }
        }
    }
}

void oct_split_kernels_init(oct_split_kernels *table, uint32_t cpu_mask)
{
    *table = (oct_split_kernels){.parts = parts_c, .pairs = pairs_c, .planes = planes_c, .rows = rows_c, .dw = dw_c};
#if defined(__x86_64__)
    if (cpu_mask & OCT_CPU_AMX) oct_split_fill_amx(table);
#else
    (void)cpu_mask;
#endif
}
