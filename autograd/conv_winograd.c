/* SPDX-License-Identifier: BSD-2-Clause
 * Winograd convolution: transforms of weights, and the loops over tiles, positions and blocks.
 *
 * Rows of tiles of consecutive images are taken together until there are about TILES tiles. Position by position their
 * matrix meets its slab of the weights, so that a slab too big for the second-level cache is read once per group and stays
 * there while the tiles pass.
 */
#include "autograd/conv_winograd.h"

#include <string.h>

enum {
    BLOCK = OCT_F32_BLOCK,
    POSITIONS = 16,
    TAPS = 9,
    TILES = 64,       /* of one group; of one run of dy that stays in the first-level cache */
    LEAST_CHANNELS = 64, /* below, the gain is small: 32 channels 1.2 times forward, 1.4 weight gradient */
    PANEL_BLOCKS = 3, /* output blocks of such a panel */
    RUN = 16          /* input channels per transform of weights */
};

/* One direction of the convolution: y [out_h][out_w][out_c] from x [in_h][in_w][in_c]. */
typedef struct grid {
    int in_h, in_w, in_c, out_h, out_w, out_c, pad_top, pad_left;
    int tiles_h, tiles_w;
    int y_pixel; /* channels of y in memory: out_c, or more when out_c are a part of them */
} grid;

static grid grid_of(const oct_conv_geometry *g, bool towards_x)
{
    grid r = {g->in_h, g->in_w, g->in_c, g->out_h, g->out_w, g->out_c, g->pad_top, g->pad_left, 0, 0, 0};
    if (towards_x)
        r = (grid){g->out_h, g->out_w, g->out_c, g->in_h, g->in_w, g->in_c, 2 - g->pad_top, 2 - g->pad_left, 0, 0, 0};
    r.tiles_h = (r.out_h + 1) / 2;
    r.tiles_w = (r.out_w + 1) / 2;
    r.y_pixel = r.out_c;
    return r;
}

/* Rows of tiles per group. */
static int group_rows(const grid *r)
{
    return r->tiles_w < TILES ? TILES / r->tiles_w : 1;
}

static size_t block_count(int channels)
{
    return ((size_t)channels + BLOCK - 1) / BLOCK;
}

/* Floats from tile to tile. Wide ones are an odd number of cache lines, which spreads a column over all cache sets. */
static size_t tile_stride(int channels)
{
    size_t lines = block_count(channels);
    return (lines >= 8 ? lines | 1 : lines) * BLOCK;
}

/* Floats from position to position of matrices of `floats`, a multiple of a cache line: for the same reason an odd
 * number of lines. */
static size_t position_stride(size_t floats)
{
    return (floats / BLOCK | 1) * BLOCK;
}

/* The same of packed weights, and of a partial weight gradient. */
static size_t slab_stride(int inputs, int outputs)
{
    return position_stride((size_t)inputs * block_count(outputs) * BLOCK);
}

/* Cut tiles compute at most half as many outputs again as there are. */
static bool few_cut(const grid *r)
{
    return 8 * (long long)r->tiles_h * r->tiles_w <= 3 * (long long)r->out_h * r->out_w;
}

bool oct_winograd_fits(const oct_conv_geometry *g)
{
    bool shape = g->kernel_h == 3 && g->kernel_w == 3 && g->stride_h == 1 && g->stride_w == 1 && g->dilation_h == 1 &&
                 g->dilation_w == 1 && g->groups == 1 && !g->depthwise;
    if (!shape || g->in_c < LEAST_CHANNELS || g->out_c < LEAST_CHANNELS) return false;
    grid forward = grid_of(g, false), back = grid_of(g, true);
    return few_cut(&forward) && few_cut(&back);
}

int oct_winograd_images(const oct_conv_geometry *g)
{
    grid r = grid_of(g, false);
    int rows = group_rows(&r) / r.tiles_h;
    return rows > 1 ? rows : 1;
}

static size_t run_buffer(const grid *r)
{
    size_t tiles = (size_t)group_rows(r) * (size_t)r->tiles_w;
    return POSITIONS *
           (position_stride(tiles * tile_stride(r->in_c)) + position_stride(tiles * tile_stride(r->out_c)));
}

size_t oct_winograd_buffer_size(const oct_conv_geometry *g)
{
    grid forward = grid_of(g, false), back = grid_of(g, true);
    size_t a = run_buffer(&forward), b = run_buffer(&back);
    return a > b ? a : b;
}

/* --- weights --- */

/* First of `count` items of share `part` of `parts`. */
static size_t share_start(size_t count, int part, int parts)
{
    return count * (size_t)part / (size_t)parts;
}

size_t oct_winograd_packed_size(const oct_conv_geometry *g, bool towards_x)
{
    grid r = grid_of(g, towards_x);
    return POSITIONS * slab_stride(r.in_c, r.out_c);
}

/* [tap][input][output of a block]; what does not exist is 0. */
typedef float tap_block[TAPS][RUN][BLOCK];

/* Inputs [i0, i0 + count) of output block b. The many short runs defeat the hardware's prefetching, so that every run
 * asks for its successor. */
static void taps_read(tap_block taps, const float *w, const grid *r, bool towards_x, size_t b, size_t i0, size_t count)
{
    size_t in_c = (size_t)r->in_c, out_c = (size_t)r->out_c, o0 = b * BLOCK;
    size_t used = out_c - o0 < BLOCK ? out_c - o0 : BLOCK;
    if (used < BLOCK) memset(taps, 0, sizeof(tap_block));
    for (size_t k = 0; k < TAPS; k++) {
        if (towards_x) {
            for (size_t i = 0; i < count; i++) {
                const float *from = w + ((i0 + i) * TAPS + TAPS - 1 - k) * out_c + o0;
                if (i0 + RUN + i < in_c) __builtin_prefetch(from + RUN * TAPS * out_c);
                memcpy(taps[k][i], from, used * sizeof *w);
            }
            continue;
        }
        for (size_t o = 0; o < used; o++) {
            const float *from = w + ((o0 + o) * TAPS + k) * in_c + i0;
            if (i0 + RUN < in_c) __builtin_prefetch(from + RUN);
            for (size_t i = 0; i < count; i++) taps[k][i][o] = from[i];
        }
    }
}

/* out[0..3] = G a[0..2] at distances of `from` and `to` floats, one block wide. */
static void transform_g(float *out, size_t to, const float *a, size_t from)
{
    for (int o = 0; o < BLOCK; o++) {
        float sum = 0.5f * (a[o] + a[2 * from + (size_t)o]), half = 0.5f * a[from + (size_t)o];
        float last = a[2 * from + (size_t)o];
        out[o] = a[o];
        out[to + (size_t)o] = sum + half;
        out[2 * to + (size_t)o] = sum - half;
        out[3 * to + (size_t)o] = last;
    }
}

void oct_winograd_pack(float *packed, const float *w, const oct_conv_geometry *g, bool towards_x, int part, int parts)
{
    grid r = grid_of(g, towards_x);
    size_t blocks = block_count(r.out_c), in_c = (size_t)r.in_c, position = slab_stride(r.in_c, r.out_c);
    size_t end = share_start(blocks, part + 1, parts);
    for (size_t b = share_start(blocks, part, parts); b < end; b++) {
        for (size_t i0 = 0; i0 < in_c; i0 += RUN) {
            tap_block taps;
            size_t count = in_c - i0 < RUN ? in_c - i0 : RUN;
            taps_read(taps, w, &r, towards_x, b, i0, count);
            for (size_t i = 0; i < count; i++) {
                float rows[4][3][BLOCK];
                for (int s = 0; s < 3; s++) transform_g(rows[0][s], 3 * BLOCK, taps[s][i], 3 * RUN * BLOCK);
                float *to = packed + (b * in_c + i0 + i) * BLOCK;
                for (size_t k = 0; k < 4; k++) transform_g(to + 4 * k * position, position, rows[k][0], BLOCK);
            }
        }
    }
}

/* --- forward, and towards x --- */

/* A group of tile rows: rows [first, first + rows) of all images' rows, with its two sets of 16 matrices. */
typedef struct group {
    int first, rows, tiles;
    float *v, *m;
    size_t v_tile, v_position, m_tile, m_position;
} group;

static void group_input(const oct_f32_kernels *f32, const grid *r, const group *u, const float *x)
{
    size_t image = (size_t)r->in_h * (size_t)r->in_w * (size_t)r->in_c;
    oct_f32_tiles p = {.tiles = r->tiles_w,
                       .channels = r->in_c,
                       .height = r->in_h,
                       .width = r->in_w,
                       .left = -r->pad_left,
                       .row = (ptrdiff_t)r->in_w * r->in_c,
                       .pixel = r->in_c,
                       .position = (ptrdiff_t)u->v_position,
                       .tile = (ptrdiff_t)u->v_tile};
    for (int k = 0; k < u->rows; k++) {
        int row = u->first + k;
        p.top = 2 * (row % r->tiles_h) - r->pad_top;
        f32->winograd_input(u->v + (size_t)k * (size_t)r->tiles_w * u->v_tile, x + (size_t)(row / r->tiles_h) * image,
                            &p);
    }
}

/* end(y) of two rows of an image. */
static void end_rows(const oct_f32_kernels *f32, const grid *r, const oct_f32_end *end, float *y, ptrdiff_t residual, int rows)
{
    const float *other = end->residual ? end->residual + residual : NULL;
    size_t pixels = (size_t)rows * (size_t)r->out_w, n = (size_t)r->out_c;
    if (r->y_pixel == r->out_c) {
        if (other) f32->add(y, y, other, pixels * n);
        f32->clamp(y, y, pixels * n, end->lo, end->hi);
        return;
    }
    for (size_t i = 0; i < pixels; i++, y += r->y_pixel) {
        if (other) f32->add(y, y, other + i * (size_t)r->y_pixel, n);
        f32->clamp(y, y, n, end->lo, end->hi);
    }
}

static void group_output(const oct_f32_kernels *f32, const grid *r, const group *u, const oct_winograd_outputs *o, float *y)
{
    size_t row_size = (size_t)r->out_w * (size_t)r->y_pixel, image = (size_t)r->out_h * row_size;
    oct_f32_tiles p = {.tiles = r->tiles_w,
                       .channels = r->out_c,
                       .height = r->out_h,
                       .width = r->out_w,
                       .row = (ptrdiff_t)row_size,
                       .pixel = r->y_pixel,
                       .position = (ptrdiff_t)u->m_position,
                       .tile = (ptrdiff_t)u->m_tile,
                       .accumulate = o->accumulate};
    for (int k = 0; k < u->rows; k++) {
        int row = u->first + k;
        p.top = 2 * (row % r->tiles_h);
        float *to = y + (size_t)(row / r->tiles_h) * image;
        f32->winograd_output(to, u->m + (size_t)k * (size_t)r->tiles_w * u->m_tile, o->bias, &p);
        if (!o->end) continue;
        float *first = to + (size_t)p.top * row_size;
        end_rows(f32, r, o->end, first, first - y, r->out_h - p.top < 2 ? 1 : 2);
    }
}

void oct_winograd_run(const oct_f32_kernels *f32, const oct_conv_geometry *g, bool towards_x, const float *packed,
                      const oct_winograd_outputs *outputs, float *y, const float *x, int images, float *buffer)
{
    grid r = grid_of(g, towards_x);
    oct_winograd_outputs o = *outputs;
    oct_f32_end end;
    size_t slab = slab_stride(r.in_c, r.out_c), blocks = block_count(r.out_c);
    size_t first = share_start(blocks, o.part, o.parts), last = share_start(blocks, o.part + 1, o.parts);
    if (first == last) return;
    if (last < blocks) r.out_c = (int)(last * BLOCK);
    r.out_c -= (int)(first * BLOCK);
    packed += first * BLOCK * (size_t)r.in_c;
    y += first * BLOCK;
    if (o.bias) o.bias += first * BLOCK;
    if (o.end) {
        end = *o.end;
        if (end.residual) end.residual += first * BLOCK;
        o.end = &end;
    }
    int step = group_rows(&r), all = images * r.tiles_h;
    group u = {.v = buffer, .v_tile = tile_stride(r.in_c), .m_tile = tile_stride(r.out_c)};
    size_t most = (size_t)step * (size_t)r.tiles_w;
    u.v_position = position_stride(most * u.v_tile);
    u.m_position = position_stride(most * u.m_tile);
    u.m = buffer + POSITIONS * u.v_position;
    oct_f32_conv_row p = {.outputs = r.out_c,
                          .taps_h = 1,
                          .taps_w = 1,
                          .channels = r.in_c,
                          .x_pixel = (ptrdiff_t)u.v_tile,
                          .y_pixel = (ptrdiff_t)u.m_tile};
    for (u.first = 0; u.first < all; u.first += step) {
        u.rows = all - u.first < step ? all - u.first : step;
        p.pixels = u.rows * r.tiles_w;
        group_input(f32, &r, &u, x);
        for (size_t k = 0; k < POSITIONS; k++)
            f32->conv_row(u.m + k * u.m_position, u.v + k * u.v_position, packed + k * slab, NULL, &p);
        group_output(f32, &r, &u, &o, y);
    }
}

/* --- towards the weights ---
 * A partial gradient is [position][panel][in_c][outputs of the panel]; so is the transformed dy [position][panel][tile][.]. */

static size_t panel_count(size_t blocks)
{
    return (blocks + PANEL_BLOCKS - 1) / PANEL_BLOCKS;
}

/* First output of panel k. */
static size_t panel_start(size_t blocks, size_t k)
{
    return k * blocks / panel_count(blocks) * BLOCK;
}

size_t oct_winograd_dw_size(const oct_conv_geometry *g)
{
    return POSITIONS * slab_stride(g->in_c, g->out_c);
}

/* Outputs of a panel that exist. */
static int panel_outputs(const grid *r, size_t start, size_t width)
{
    size_t left = (size_t)r->out_c - start;
    return (int)(left < width ? left : width);
}

static void group_gradient(const oct_f32_kernels *f32, const grid *r, const group *u, const float *dy)
{
    size_t image = (size_t)r->out_h * (size_t)r->out_w * (size_t)r->out_c, blocks = block_count(r->out_c);
    oct_f32_tiles p = {.tiles = r->tiles_w,
                       .height = r->out_h,
                       .width = r->out_w,
                       .row = (ptrdiff_t)r->out_w * r->out_c,
                       .pixel = r->out_c,
                       .position = (ptrdiff_t)u->m_position};
    for (int k = 0; k < u->rows; k++) {
        int row = u->first + k;
        p.top = 2 * (row % r->tiles_h);
        for (size_t n = 0; n < panel_count(blocks); n++) {
            size_t start = panel_start(blocks, n), width = panel_start(blocks, n + 1) - start;
            p.tile = (ptrdiff_t)width;
            p.channels = panel_outputs(r, start, width);
            f32->winograd_gradient(u->m + start * (size_t)u->tiles + (size_t)k * (size_t)r->tiles_w * width,
                                   dy + (size_t)(row / r->tiles_h) * image + start, &p);
        }
    }
}

/* One position: all panels of the group. */
static void group_dw(const oct_f32_kernels *f32, const grid *r, const group *u, float *partial, const float *v,
                     const float *m)
{
    size_t blocks = block_count(r->out_c), in_c = (size_t)r->in_c;
    for (size_t n = 0; n < panel_count(blocks); n++) {
        size_t start = panel_start(blocks, n), width = panel_start(blocks, n + 1) - start;
        oct_f32_conv_dw p = {.rows = 1,
                             .outputs = panel_outputs(r, start, width),
                             .inner = r->in_c,
                             .x_pixel = (ptrdiff_t)u->v_tile,
                             .dy_pixel = (ptrdiff_t)width};
        for (int t = 0; t < u->tiles; t += TILES) {
            p.pixels = u->tiles - t < TILES ? u->tiles - t : TILES;
            f32->conv_dw(partial + start * in_c, v + (size_t)t * u->v_tile,
                         m + start * (size_t)u->tiles + (size_t)t * width, &p);
        }
    }
}

void oct_winograd_dw(const oct_f32_kernels *f32, const oct_conv_geometry *g, float *partial, const float *x,
                     const float *dy, int images, float *buffer)
{
    grid r = grid_of(g, false);
    int step = group_rows(&r), all = images * r.tiles_h;
    size_t most = (size_t)step * (size_t)r.tiles_w, slab = slab_stride(r.in_c, r.out_c);
    group u = {.v = buffer, .v_tile = tile_stride(r.in_c)};
    u.v_position = position_stride(most * u.v_tile);
    u.m_position = position_stride(most * block_count(r.out_c) * BLOCK);
    u.m = buffer + POSITIONS * u.v_position;
    for (u.first = 0; u.first < all; u.first += step) {
        u.rows = all - u.first < step ? all - u.first : step;
        u.tiles = u.rows * r.tiles_w;
        group_input(f32, &r, &u, x);
        group_gradient(f32, &r, &u, dy);
        for (size_t k = 0; k < POSITIONS; k++)
            group_dw(f32, &r, &u, partial + k * slab, u.v + k * u.v_position, u.m + k * u.m_position);
    }
}

/* out[0..2] = G^T m[0..3], like transform_g. */
static void transform_gt(float *out, size_t to, const float *m, size_t from)
{
    for (size_t o = 0; o < BLOCK; o++) {
        float one = m[from + o], two = m[2 * from + o];
        float sum = 0.5f * (one + two);
        out[o] = m[o] + sum;
        out[to + o] = 0.5f * (one - two);
        out[2 * to + o] = sum + m[3 * from + o];
    }
}

/* taps[.][i] of one input and output block from the sum of the partial gradients. */
static void taps_sum(tap_block taps, size_t i, const float *partials, size_t slab, size_t stride, int chunks)
{
    float m[POSITIONS][BLOCK], rows[3][4][BLOCK];
    for (size_t k = 0; k < POSITIONS; k++) {
        const float *from = partials + k * slab;
        for (int o = 0; o < BLOCK; o++) m[k][o] = from[o];
        for (int n = 1; n < chunks; n++) {
            from += stride;
            for (int o = 0; o < BLOCK; o++) m[k][o] += from[o];
        }
    }
    for (int j = 0; j < 4; j++) transform_gt(rows[0][j], 4 * BLOCK, m[j], 4 * BLOCK);
    for (int k = 0; k < 3; k++) transform_gt(taps[3 * k][i], RUN * BLOCK, rows[k][0], BLOCK);
}

/* Fetches what taps_write is about to touch. */
static void taps_fetch(const float *dw, size_t in_c, size_t outputs)
{
    for (size_t k = 0; k < outputs * TAPS; k++) __builtin_prefetch(dw + k * in_c, 1);
}

static void taps_write(float *dw, int accumulate, tap_block taps, size_t in_c, size_t outputs, size_t count)
{
    for (size_t o = 0; o < outputs; o++) {
        for (size_t k = 0; k < TAPS; k++) {
            float *to = dw + (o * TAPS + k) * in_c;
            for (size_t i = 0; i < count; i++) to[i] = accumulate ? to[i] + taps[k][i][o] : taps[k][i][o];
        }
    }
}

void oct_winograd_dw_finish(const oct_conv_geometry *g, float *dw, int accumulate, const float *partials, size_t stride,
                            int chunks, int part, int parts)
{
    grid r = grid_of(g, false);
    size_t in_c = (size_t)r.in_c, blocks = block_count(r.out_c), slab = slab_stride(r.in_c, r.out_c);
    size_t runs = (in_c + RUN - 1) / RUN, end = share_start(runs, part + 1, parts);
    for (size_t run = share_start(runs, part, parts); run < end; run++) {
        size_t i0 = run * RUN, count = in_c - i0 < RUN ? in_c - i0 : RUN, n = 0;
        for (size_t b = 0; b < blocks; b++) {
            if (b * BLOCK == panel_start(blocks, n + 1)) n++;
            size_t start = panel_start(blocks, n), width = panel_start(blocks, n + 1) - start, o0 = b * BLOCK;
            size_t outputs = (size_t)panel_outputs(&r, o0, BLOCK);
            float *to = dw + o0 * TAPS * in_c + i0;
            tap_block taps;
            taps_fetch(to, in_c, outputs);
            for (size_t i = 0; i < count; i++)
                taps_sum(taps, i, partials + start * in_c + (i0 + i) * width + (o0 - start), slab, stride, chunks);
            taps_write(to, accumulate, taps, in_c, outputs, count);
        }
    }
}
