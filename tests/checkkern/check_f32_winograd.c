/* SPDX-License-Identifier: BSD-2-Clause
 * Winograd transforms: the bytes of the C reference, nothing read outside the image, nothing written between tiles; and the
 * C reference against the matrices that define the transforms. */
#include "tests/checkkern/check_f32.h"


typedef void transform(const oct_f32_kernels *t, float *to, const float *from, const float *bias,
                       const oct_f32_tiles *p);

static void run_input(const oct_f32_kernels *t, float *to, const float *from, const float *bias, const oct_f32_tiles *p)
{
    (void)bias;
    t->winograd_input(to, from, p);
}

static void run_gradient(const oct_f32_kernels *t, float *to, const float *from, const float *bias,
                         const oct_f32_tiles *p)
{
    (void)bias;
    t->winograd_gradient(to, from, p);
}

static void run_output(const oct_f32_kernels *t, float *to, const float *from, const float *bias,
                       const oct_f32_tiles *p)
{
    t->winograd_output(to, from, bias, p);
}

/* Tiles around and across the borders of a small image, gaps between pixels, rows, tiles and positions. */
static oct_f32_tiles next_tiles(checkkern *k, int i)
{
    oct_f32_tiles p = {.tiles = checkkern_random(k, 1, 5),
                       .channels = i < 70 ? i + 1 : checkkern_random(k, 1, 100),
                       .height = checkkern_random(k, 1, 7),
                       .width = checkkern_random(k, 1, 9),
                       .top = checkkern_random(k, -4, 7),
                       .left = checkkern_random(k, -5, 3),
                       .accumulate = i % 2};
    p.pixel = p.channels + (i & 4 ? 3 : 0);
    p.row = p.width * p.pixel + (i & 8 ? 5 : 0);
    p.tile = p.channels + (i & 16 ? 2 : 0);
    p.position = p.tiles * p.tile + (i & 32 ? 7 : 0);
    checkkern_case(k, "case %d: %d tiles of %d channels at %d,%d of %dx%d strides %td %td %td %td accumulate %d", i,
                   p.tiles, p.channels, p.top, p.left, p.height, p.width, p.row, p.pixel, p.position, p.tile,
                   p.accumulate);
    return p;
}

static f32_grid image_grid(const oct_f32_tiles *p)
{
    return (f32_grid){{p->height, p->width, 1}, {p->row, p->pixel, 0}, p->channels};
}

static size_t image_count(const oct_f32_tiles *p)
{
    return (size_t)((p->height - 1) * p->row + (p->width - 1) * p->pixel + p->channels);
}

static f32_grid tiles_grid(const oct_f32_tiles *p)
{
    return (f32_grid){{16, p->tiles, 1}, {p->position, p->tile, 0}, p->channels};
}

static size_t tiles_count(const oct_f32_tiles *p)
{
    return (size_t)(15 * p->position + (p->tiles - 1) * p->tile + p->channels);
}

static void check_transform(checkkern *k, uint32_t mask, transform *run, int from_tiles)
{
    oct_f32_kernels c, t;
    f32_tables(&c, &t, mask);
    for (int i = 0; i < checkkern_count(k, 400, 4000); i++) {
        oct_f32_tiles p = next_tiles(k, i);
        data_kind kind = (data_kind)(i % 3);
        f32_grid g = from_tiles ? tiles_grid(&p) : image_grid(&p);
        const float *from = f32_grid_input(k, &g, kind);
        const float *bias = from_tiles && i / 2 % 2 ? f32_input(k, (size_t)p.channels, kind) : NULL;
        size_t n = from_tiles ? image_count(&p) : tiles_count(&p);
        float *start = f32_output(k, n);
        if (from_tiles && p.accumulate) f32_fill(k, start, n, kind);
        float *want = f32_copy(k, start, n), *got = f32_copy(k, start, n);
        run(&c, want, from, bias, &p);
        checkkern_call_begin(k);
        run(&t, got, from, bias, &p);
        checkkern_call_end(k);
        f32_same(k, "result", got, want, n);
    }
}

/* The transform of one tile by its definition: M d M^t in double, on small integers, which leaves no rounding. */
static void check_definition(checkkern *k, uint32_t mask, transform *run, const int *matrix, int rows, int columns)
{
    oct_f32_kernels t;
    oct_f32_kernels_init(&t, mask);
    for (int i = 0; i < 20; i++) {
        checkkern_case(k, "definition %d", i);
        int from_tiles = rows == 2, side = from_tiles ? 2 : columns;
        oct_f32_tiles p = {.tiles = 1, .channels = 1, .height = side, .width = side, .row = side, .pixel = 1,
                           .position = 1, .tile = 1};
        float from[16], to[16];
        for (int e = 0; e < 16; e++) from[e] = (float)checkkern_random(k, -9, 9);
        run(&t, to, from, NULL, &p);
        int width = from_tiles ? 4 : side;
        for (int a = 0; a < rows; a++) {
            for (int b = 0; b < rows; b++) {
                float want = 0;
                for (int r = 0; r < columns; r++)
                    for (int s = 0; s < columns; s++)
                        want += (float)(matrix[a * columns + r] * matrix[b * columns + s]) * from[r * width + s];
                if (!(to[a * rows + b] == want))
                    checkkern_fail(k, "[%d][%d] is %g, expected %g", a, b, (double)to[a * rows + b], (double)want);
            }
        }
    }
}

void check_winograd_input(checkkern *k, uint32_t mask)
{
    static const int bt[16] = {1, 0, -1, 0, 0, 1, 1, 0, 0, -1, 1, 0, 0, -1, 0, 1};
    check_definition(k, mask, run_input, bt, 4, 4);
    check_transform(k, mask, run_input, 0);
}

void check_winograd_output(checkkern *k, uint32_t mask)
{
    static const int at[8] = {1, 1, 1, 0, 0, 1, -1, 1};
    check_definition(k, mask, run_output, at, 2, 4);
    check_transform(k, mask, run_output, 1);
}

void check_winograd_gradient(checkkern *k, uint32_t mask)
{
    static const int a[8] = {1, 0, 1, 1, 1, -1, 0, 1};
    check_definition(k, mask, run_gradient, a, 4, 2);
    check_transform(k, mask, run_gradient, 0);
}
