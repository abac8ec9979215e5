/* SPDX-License-Identifier: BSD-2-Clause
 * Split convolution gradients: flat positions, packing of weights, the calls of the kernels.
 *
 * Parts of dy for dx lie in one of two forms. Wide: three images of [position][outputs rounded up to 32], which share every
 * tile of weights. Narrow, for few outputs: [position][part][outputs rounded up to 2] and weights three times, where less of
 * a step is padding.
 */
#include "autograd/conv_split.h"

#include <string.h>

#include "autograd/ops_internal.h"

enum {
    TILE = OCT_SPLIT_TILE,
    STEP = OCT_SPLIT_STEP,
    PARTS = OCT_SPLIT_PARTS,
    TILE_ELEMENTS = TILE * STEP,
    GROUP_POSITIONS = 192,     /* of images that go together */
    ROW_POSITIONS = 512,       /* of a pointwise convolution that go together */
    BLOCK_POSITIONS = 64,      /* of dx between products and their places, */
    WIDE_BLOCK_POSITIONS = 256, /* the same where packed weights come from far away */
    NEAR_BYTES = 512 << 10
};

bool oct_split_fits(const oct_conv_geometry *g)
{
    bool shape = g->groups == 1 && !g->depthwise && g->dilation_h == 1 && g->dilation_w == 1;
    return shape && g->out_c >= 8 && (g->in_c >= 8 || g->out_c >= 16) && g->out_h * g->out_w > 1;
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* A pointwise convolution of n pixels, whatever images they belong to. */
static oct_conv_geometry one_row(const oct_conv_geometry *g, int n)
{
    oct_conv_geometry row = *g;
    row.in_h = row.out_h = 1;
    row.in_w = row.out_w = n;
    return row;
}

int oct_split_images(const oct_conv_geometry *g)
{
    int pixels = g->out_h * g->out_w;
    return pixels < GROUP_POSITIONS ? GROUP_POSITIONS / pixels : 1;
}

/* Geometry of one call of the kernels and how many images it takes at most. */
static oct_conv_geometry largest_call(const oct_conv_geometry *g, int *images)
{
    *images = g->pointwise ? 1 : oct_split_images(g);
    return g->pointwise ? one_row(g, ROW_POSITIONS) : *g;
}

/* Pixels of images, or every so many of them: bytes from one to the next. */
typedef struct pixel_grid {
    const char *first;
    int images, height, width;
    size_t next, row, image;
} pixel_grid;

/* A pointer for each of `count` positions: of the pixels, whose rows and images follow each other at pitch_w and pitch_h behind
 * `lead` positions, or of zeros. */
static void place_rows(const char **rows, size_t count, const char *zeros, size_t lead, int pitch_h, int pitch_w,
                       const pixel_grid *p)
{
    for (size_t i = 0; i < count; i++) rows[i] = zeros;
    for (int n = 0; n < p->images; n++) {
        for (int h = 0; h < p->height; h++) {
            const char *from = p->first + (size_t)n * p->image + (size_t)h * p->row;
            const char **to = rows + lead + ((size_t)n * (size_t)pitch_h + (size_t)h) * (size_t)pitch_w;
            for (int w = 0; w < p->width; w++, from += p->next) to[w] = from;
        }
    }
}

static pixel_grid pixels_of_dy(const oct_conv_geometry *g, const float *dy, int images)
{
    size_t pixel = (size_t)g->out_c * sizeof *dy, row = pixel * (size_t)g->out_w;
    return (pixel_grid){(const char *)dy, images, g->out_h, g->out_w, pixel, row, row * (size_t)g->out_h};
}

/* --- towards x --- */

typedef struct dx_layout {
    int pitch_h, pitch_w;
    size_t lead, count;        /* positions of dy in front of the first image; all of them */
    int padded;                /* outputs that a part has room for */
    int parts;                 /* images of parts: 3 wide, 1 narrow */
    ptrdiff_t pixel, part;     /* elements from position to position, from part to part */
    int groups;                /* of 16 input channels */
    int block;
    const char **rows;
    float *zeros, *y;
    uint16_t *x;
    size_t bytes;
} dx_layout;

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* Steps of a run of taps. */
static int run_steps(const oct_conv_geometry *g, int taps, bool is_narrow)
{
    int pixel = is_narrow ? PARTS * (int)round_up((size_t)g->out_c, 2) : (int)round_up((size_t)g->out_c, STEP);
    return (taps * pixel + STEP - 1) / STEP;
}

static bool is_narrow(const oct_conv_geometry *g)
{
    int taps = (g->kernel_w + g->stride_w - 1) / g->stride_w; /* of the largest phase */
    return run_steps(g, taps, true) < PARTS * run_steps(g, taps, false);
}

size_t oct_split_packed_bytes(const oct_conv_geometry *g)
{
    bool narrow = is_narrow(g);
    oct_conv_axis axes[2] = {oct_conv_axis_h(g), oct_conv_axis_w(g)};
    size_t tiles = 0, groups = round_up((size_t)g->in_c, TILE) / TILE;
    for (int a = 0; a < oct_conv_phase_count(&axes[0]); a++) {
        for (int b = 0; b < oct_conv_phase_count(&axes[1]); b++) {
            oct_conv_phase h = oct_conv_phase_make(&axes[0], a), v = oct_conv_phase_make(&axes[1], b);
            tiles += (size_t)h.taps * (size_t)run_steps(g, v.taps, narrow) * groups;
        }
    }
    return tiles * TILE_ELEMENTS * sizeof(uint16_t);
}

static dx_layout dx_layout_of(const oct_conv_geometry *g, int images, void *buffer)
{
    oct_carve carve = {.base = buffer};
    dx_layout l = {.padded = (int)round_up((size_t)g->out_c, STEP), .parts = PARTS, .groups = (g->in_c + TILE - 1) / TILE};
    oct_conv_dx plan;
    oct_conv_dx_plan(&plan, g);
    int top = larger(plan.window.top, 0), left = larger(plan.window.left, 0);
    int bottom = larger(plan.window.bottom, 0), right = larger(plan.window.right, 0);
    l.pitch_h = larger(g->out_h + larger(top, bottom), (g->in_h - 1) / g->stride_h + 1);
    l.pitch_w = larger(g->out_w + larger(left, right), (g->in_w - 1) / g->stride_w + 1);
    l.lead = (size_t)top * (size_t)l.pitch_w + (size_t)left;
    size_t images_of = (size_t)images * (size_t)l.pitch_h * (size_t)l.pitch_w;
    l.count = l.lead + round_up(images_of, TILE) + (size_t)(bottom + 1) * (size_t)l.pitch_w + (size_t)right + STEP;
    l.pixel = l.padded;
    l.part = (ptrdiff_t)((l.count * (size_t)l.pixel + STEP - 1) / STEP * STEP);
    size_t elements = (size_t)l.part * PARTS;
    if (is_narrow(g)) {
        l.padded = (int)round_up((size_t)g->out_c, 2);
        l.parts = 1;
        l.pixel = PARTS * l.padded;
        l.part = l.padded;
        elements = l.count * (size_t)l.pixel;
    }
    l.block = oct_split_packed_bytes(g) > NEAR_BYTES ? WIDE_BLOCK_POSITIONS : BLOCK_POSITIONS;
    l.zeros = oct_carve_take(&carve, round_up((size_t)g->out_c, TILE), sizeof(float));
    l.rows = oct_carve_take(&carve, l.count, sizeof *l.rows);
    l.y = oct_carve_take(&carve, (size_t)l.block * (size_t)l.groups * TILE, sizeof(float));
    l.x = oct_carve_take(&carve, elements + STEP, sizeof *l.x);
    l.bytes = carve.used;
    return l;
}

/* Weights of a pair of outputs, input channels [c0, c0 + used): one row of a tile. NULL: zeros. */
static void pack_pair(uint16_t *to, const float *even, const float *odd, int used)
{
    float pair[2][TILE] = {{0}};
    uint32_t bits[2][TILE];
    if (even) memcpy(pair[0], even, (size_t)used * sizeof *even);
    if (odd) memcpy(pair[1], odd, (size_t)used * sizeof *odd);
    memcpy(bits, pair, sizeof bits);
    for (int c = 0; c < TILE; c++) {
        to[2 * c] = (uint16_t)(bits[0][c] >> 16);
        to[2 * c + 1] = (uint16_t)(bits[1][c] >> 16);
    }
}

/* One group of input channels from c0 on, one phase. */
static uint16_t *pack_phase(uint16_t *packed, const float *w, const oct_conv_geometry *g, const oct_conv_phase *h,
                            const oct_conv_phase *v, int c0)
{
    bool narrow = is_narrow(g);
    int padded = (int)round_up((size_t)g->out_c, narrow ? 2 : STEP), pixel = padded * (narrow ? PARTS : 1);
    int used = g->in_c - c0 < TILE ? g->in_c - c0 : TILE;
    size_t tap = (size_t)g->in_c, row = tap * (size_t)g->kernel_w, output = row * (size_t)g->kernel_h;
    for (int r = 0; r < h->taps; r++) {
        const float *of_row = w + (size_t)(h->last_tap - r * h->tap_step) * row + c0;
        int t = 0, o = 0, k = 0; /* tap, output, part of the element */
        for (int e = 0; e < run_steps(g, v->taps, narrow) * STEP; e += 2, packed += 2 * TILE) {
            const float *from =
                t < v->taps ? of_row + (size_t)(v->last_tap - t * v->tap_step) * tap + (size_t)o * output : NULL;
            pack_pair(packed, from && o < g->out_c ? from : NULL, from && o + 1 < g->out_c ? from + output : NULL, used);
            o += 2;
            if (o < padded) continue;
            o = 0;
            if (++k * padded < pixel) continue;
            k = 0;
            t++;
        }
    }
    return packed;
}

void oct_split_pack(uint16_t *packed, const float *w, const oct_conv_geometry *g, int part, int parts)
{
    oct_conv_axis axes[2] = {oct_conv_axis_h(g), oct_conv_axis_w(g)};
    bool narrow = is_narrow(g);
    size_t groups = round_up((size_t)g->in_c, TILE) / TILE;
    size_t first = oct_chunk_border(groups, parts, part), last = oct_chunk_border(groups, parts, part + 1);
    for (int a = 0; a < oct_conv_phase_count(&axes[0]); a++) {
        oct_conv_phase h = oct_conv_phase_make(&axes[0], a);
        for (int b = 0; h.taps && b < oct_conv_phase_count(&axes[1]); b++) {
            oct_conv_phase v = oct_conv_phase_make(&axes[1], b);
            size_t size = (size_t)h.taps * (size_t)run_steps(g, v.taps, narrow) * TILE_ELEMENTS;
            for (size_t n = first; n < last; n++) pack_phase(packed + n * size, w, g, &h, &v, (int)n * TILE);
            packed += groups * size;
        }
    }
}

/* Where the positions of a phase go. */
typedef struct dx_target {
    const oct_f32_kernels *f32;
    const oct_conv_geometry *g;
    float *dx; /* first pixel of the phase in the first image */
    int accumulate, images, pitch_h, pitch_w, rows, pixels;
    int y_pixel;
} dx_target;

/* `count` pixels from y to dx, every stride_w-th. */
static void put_pixels(const dx_target *t, float *to, const float *y, int count)
{
    size_t channels = (size_t)t->g->in_c, n = channels;
    ptrdiff_t next = (ptrdiff_t)t->g->stride_w * t->g->in_c;
    if (next == t->y_pixel && t->g->stride_w == 1) { /* one long pixel */
        n *= (size_t)count;
        count = 1;
    }
    for (int i = 0; i < count; i++, to += next, y += t->y_pixel) oct_copy_or_add(t->f32, to, y, n, t->accumulate);
}

/* Positions [first, first + count) of all images. */
static void put_positions(const dx_target *t, const float *y, int first, int count)
{
    const oct_conv_geometry *g = t->g;
    size_t row = (size_t)g->in_w * (size_t)g->in_c, image = row * (size_t)g->in_h;
    for (int at = first; at < first + count;) {
        int line = at / t->pitch_w, column = at % t->pitch_w, left = t->pitch_w - column;
        int n = line / t->pitch_h, h = line % t->pitch_h;
        if (left > first + count - at) left = first + count - at;
        int used = t->pixels - column < left ? t->pixels - column : left;
        if (n >= t->images) return;
        if (h < t->rows && used > 0)
            put_pixels(t, t->dx + (size_t)n * image + (size_t)h * (size_t)g->stride_h * row +
                              (size_t)column * (size_t)g->stride_w * (size_t)g->in_c,
                       y + (ptrdiff_t)(at - first) * t->y_pixel, used);
        at += left;
    }
}

static void dx_phase(const oct_split_kernels *k, const dx_layout *l, const dx_target *t, const uint16_t *packed,
                     const oct_conv_phase *h, const oct_conv_phase *v)
{
    oct_split_rows_task p = {.groups = l->groups,
                        .runs = h->taps,
                        .steps = run_steps(t->g, v->taps, l->parts == 1),
                        .parts = l->parts,
                        .x_pixel = l->pixel,
                        .x_run = (ptrdiff_t)l->pitch_w * l->pixel,
                        .x_part = l->part,
                        .y_pixel = l->groups * TILE};
    int count = t->images * l->pitch_h * l->pitch_w;
    const uint16_t *x = l->x + ((ptrdiff_t)l->lead + (ptrdiff_t)h->origin * l->pitch_w + v->origin) * l->pixel;
    bool direct = t->g->pointwise && t->g->in_c % TILE == 0; /* positions are pixels of dx */
    for (int first = 0; first < count; first += p.positions) {
        int left = count - first;
        p.positions = left < l->block ? (int)round_up((size_t)left, TILE) : l->block;
        p.accumulate = direct && left >= p.positions && t->accumulate;
        if (direct && left >= p.positions) {
            k->rows(t->dx + (ptrdiff_t)first * p.y_pixel, x + first * l->pixel, packed, &p);
            continue;
        }
        k->rows(l->y, x + first * l->pixel, packed, &p);
        put_positions(t, l->y, first, left < p.positions ? left : p.positions);
    }
}

/* Images of one call of the kernels. */
static void dx_images(const oct_split_kernels *k, const oct_f32_kernels *f32, const oct_conv_geometry *g,
                      const uint16_t *packed, float *dx, int accumulate, const float *dy, int images, void *buffer)
{
    dx_layout l = dx_layout_of(g, images, buffer);
    pixel_grid from = pixels_of_dy(g, dy, images);
    size_t dx_size = (size_t)images * (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_c;
    oct_conv_axis axes[2] = {oct_conv_axis_h(g), oct_conv_axis_w(g)};
    oct_conv_dx plan;
    oct_conv_dx_plan(&plan, g);
    if (plan.some_untouched && !accumulate) memset(dx, 0, dx_size * sizeof *dx);
    memset(l.zeros, 0, (size_t)g->out_c * sizeof *l.zeros);
    place_rows(l.rows, l.count, (const char *)l.zeros, l.lead, l.pitch_h, l.pitch_w, &from);
    k->parts(l.x, (const float *const *)(const void *)l.rows, l.count, g->out_c, l.padded, l.pixel, l.part);
    for (int a = 0; a < oct_conv_phase_count(&axes[0]); a++) {
        oct_conv_phase h = oct_conv_phase_make(&axes[0], a);
        for (int b = 0; h.taps && b < oct_conv_phase_count(&axes[1]); b++) {
            oct_conv_phase v = oct_conv_phase_make(&axes[1], b);
            if (!v.taps) continue;
            dx_target t = {f32, g, dx + ((size_t)a * (size_t)g->in_w + (size_t)b) * (size_t)g->in_c, accumulate, images,
                           l.pitch_h, l.pitch_w, h.pixels, v.pixels, l.groups * TILE};
            dx_phase(k, &l, &t, packed, &h, &v);
            packed += (size_t)l.groups * (size_t)h.taps * (size_t)run_steps(g, v.taps, l.parts == 1) * TILE_ELEMENTS;
        }
    }
}

void oct_split_dx(const oct_split_kernels *k, const oct_f32_kernels *f32, const oct_conv_geometry *g, const uint16_t *packed,
                  float *dx, int accumulate, const float *dy, int images, void *buffer)
{
    if (!g->pointwise) {
        dx_images(k, f32, g, packed, dx, accumulate, dy, images, buffer);
        return;
    }
    int pixels = images * g->out_h * g->out_w;
    for (int at = 0; at < pixels; at += ROW_POSITIONS) {
        oct_conv_geometry row = one_row(g, pixels - at < ROW_POSITIONS ? pixels - at : ROW_POSITIONS);
        dx_images(k, f32, &row, packed, dx + (size_t)at * (size_t)g->in_c, accumulate, dy + (size_t)at * (size_t)g->out_c, 1,
                  buffer);
    }
}

/* --- towards the weights --- */

/* How taps along one axis find their pixels in the stride phases of x. */
typedef struct dw_axis {
    int in, kernel, stride, pad;
    int before, after; /* pixels of a phase that taps reach over its ends */
    int phases;        /* largest phase that some tap reads, + 1 */
} dw_axis;

static int tap_phase(const dw_axis *x, int tap)
{
    return ((tap - x->pad) % x->stride + x->stride) % x->stride;
}

static int tap_shift(const dw_axis *x, int tap)
{
    return (tap - x->pad - tap_phase(x, tap)) / x->stride;
}

static int phase_pixels(const dw_axis *x, int phase)
{
    return phase < x->in ? (x->in - phase - 1) / x->stride + 1 : 0;
}

static dw_axis dw_axis_of(int in, int kernel, int stride, int pad)
{
    dw_axis x = {in, kernel, stride, pad, 0, 0, 0};
    for (int t = 0; t < kernel; t++) {
        int shift = tap_shift(&x, t), phase = tap_phase(&x, t);
        if (-shift > x.before) x.before = -shift;
        if (shift > x.after) x.after = shift;
        if (phase >= x.phases) x.phases = phase + 1;
    }
    return x;
}

typedef struct dw_layout {
    dw_axis h, w;
    int pitch_h, pitch_w;
    size_t lead, positions, x_count; /* positions of dy, rounded up to steps; of a plane of x */
    ptrdiff_t plane, phase;          /* elements from channel to channel, from phase to phase of x */
    ptrdiff_t group, part;           /* of dy */
    int groups, outputs;             /* of 16 outputs; outputs rounded up to 16 */
    const char **rows;
    char *zeros;
    uint16_t *x, *dy;
    ptrdiff_t *x_at, *dw_at;         /* blocks of 16 channels of all taps */
    size_t bytes;
} dw_layout;

static dw_layout dw_layout_of(const oct_conv_geometry *g, int images, void *buffer)
{
    oct_carve carve = {.base = buffer};
    dw_layout l = {.h = dw_axis_of(g->in_h, g->kernel_h, g->stride_h, g->pad_top),
                   .w = dw_axis_of(g->in_w, g->kernel_w, g->stride_w, g->pad_left),
                   .groups = (g->out_c + TILE - 1) / TILE};
    l.outputs = l.groups * TILE;
    l.pitch_h = larger(phase_pixels(&l.h, 0) + l.h.before, g->out_h + l.h.after);
    l.pitch_w = larger(phase_pixels(&l.w, 0) + l.w.before, g->out_w + l.w.after);
    l.lead = (size_t)l.h.before * (size_t)l.pitch_w + (size_t)l.w.before;
    l.positions = round_up((size_t)images * (size_t)l.pitch_h * (size_t)l.pitch_w, STEP);
    l.x_count = round_up(l.lead + l.positions + (size_t)l.h.after * (size_t)l.pitch_w + (size_t)l.w.after, STEP);
    l.plane = (ptrdiff_t)((l.x_count / STEP | 1) * STEP); /* an odd number of cache lines: all cache sets are used */
    l.phase = l.plane * g->in_c;
    l.group = (ptrdiff_t)l.positions * TILE;
    l.part = l.group * l.groups;
    size_t blocks = (size_t)g->kernel_h * (size_t)g->kernel_w * (((size_t)g->in_c + TILE - 1) / TILE);
    l.zeros = oct_carve_take(&carve, round_up((size_t)(g->out_c > g->in_c ? g->out_c : g->in_c), TILE), sizeof(float));
    l.rows = oct_carve_take(&carve, l.x_count > l.positions ? l.x_count : l.positions, sizeof *l.rows);
    l.x_at = oct_carve_take(&carve, blocks, sizeof *l.x_at);
    l.dw_at = oct_carve_take(&carve, blocks, sizeof *l.dw_at);
    l.x = oct_carve_take(&carve, (size_t)l.phase * (size_t)(l.h.phases * l.w.phases), sizeof *l.x);
    l.dy = oct_carve_take(&carve, (size_t)l.part * PARTS, sizeof *l.dy);
    l.bytes = carve.used;
    return l;
}

static bool phase_is_read(const dw_axis *x, int phase)
{
    for (int t = 0; t < x->kernel; t++)
        if (tap_phase(x, t) == phase) return true;
    return false;
}

static void make_planes(const oct_split_kernels *k, const oct_conv_geometry *g, const dw_layout *l, const uint8_t *codes,
                        float unit, int is_signed, int images)
{
    size_t pixel = (size_t)g->in_c, row = pixel * (size_t)g->in_w, image = row * (size_t)g->in_h;
    for (int a = 0; a < l->h.phases; a++) {
        for (int b = 0; b < l->w.phases; b++) {
            if (!phase_is_read(&l->h, a) || !phase_is_read(&l->w, b)) continue;
            pixel_grid from = {(const char *)codes + (size_t)a * row + (size_t)b * pixel,
                           images, phase_pixels(&l->h, a), phase_pixels(&l->w, b),
                           pixel * (size_t)g->stride_w, row * (size_t)g->stride_h, image};
            place_rows(l->rows, l->x_count, l->zeros, l->lead, l->pitch_h, l->pitch_w, &from);
            k->planes(l->x + (a * l->w.phases + b) * l->phase, (const uint8_t *const *)(const void *)l->rows, l->x_count,
                      g->in_c, l->plane, unit, is_signed);
        }
    }
}

/* Blocks of `rows` channels from channel c0 on, every 16, of all taps; returns how many. The taps of a block read the same
 * planes, which stay in the first-level cache. */
static int list_blocks(const oct_conv_geometry *g, const dw_layout *l, int c0, int rows)
{
    int count = 0;
    for (int c = c0; c + rows <= g->in_c; c += TILE) {
        for (int r = 0; r < g->kernel_h; r++) {
            for (int s = 0; s < g->kernel_w; s++, count++) {
                ptrdiff_t phase = (tap_phase(&l->h, r) * l->w.phases + tap_phase(&l->w, s)) * l->phase;
                ptrdiff_t at = (ptrdiff_t)l->lead + (ptrdiff_t)tap_shift(&l->h, r) * l->pitch_w + tap_shift(&l->w, s);
                l->x_at[count] = phase + c * l->plane + at;
                l->dw_at[count] = ((ptrdiff_t)(r * g->kernel_w + s) * g->in_c + c) * l->outputs;
            }
        }
    }
    return count;
}

static void dw_images(const oct_split_kernels *k, const oct_conv_geometry *g, float *partial, const uint8_t *codes,
                      float unit, int is_signed, const float *dy, int images, void *buffer)
{
    dw_layout l = dw_layout_of(g, images, buffer);
    pixel_grid from = pixels_of_dy(g, dy, images);
    memset(l.zeros, 0, (size_t)(g->out_c > g->in_c ? g->out_c : g->in_c) * sizeof(float));
    make_planes(k, g, &l, codes, unit, is_signed, images);
    place_rows(l.rows, l.positions, l.zeros, 0, l.pitch_h, l.pitch_w, &from);
    k->pairs(l.dy, (const float *const *)(const void *)l.rows, l.positions, g->out_c, l.group, l.part);
    oct_split_dw_task p = {.groups = l.groups, .steps = (int)(l.positions / STEP), .x_at = l.x_at, .dw_at = l.dw_at,
                      .x_plane = l.plane, .dw_row = l.outputs, .dy_group = l.group, .dy_part = l.part};
    int whole = g->in_c / TILE * TILE;
    if (whole) {
        p.rows = TILE;
        p.blocks = list_blocks(g, &l, 0, TILE);
        k->dw(partial, l.x, l.dy, &p);
    }
    if (whole < g->in_c) {
        p.rows = g->in_c - whole;
        p.blocks = list_blocks(g, &l, whole, p.rows);
        k->dw(partial, l.x, l.dy, &p);
    }
}

void oct_split_dw(const oct_split_kernels *k, const oct_conv_geometry *g, float *partial, const uint8_t *codes, float unit,
                  int is_signed, const float *dy, int images, void *buffer)
{
    if (!g->pointwise) {
        dw_images(k, g, partial, codes, unit, is_signed, dy, images, buffer);
        return;
    }
    int pixels = images * g->out_h * g->out_w;
    for (int at = 0; at < pixels; at += ROW_POSITIONS) {
        oct_conv_geometry row = one_row(g, pixels - at < ROW_POSITIONS ? pixels - at : ROW_POSITIONS);
        dw_images(k, &row, partial, codes + (size_t)at * (size_t)g->in_c, unit, is_signed, dy + (size_t)at * (size_t)g->out_c,
                  1, buffer);
    }
}

size_t oct_split_buffer_bytes(const oct_conv_geometry *g)
{
    int images;
    oct_conv_geometry call = largest_call(g, &images);
    size_t dx = dx_layout_of(&call, images, NULL).bytes, dw = dw_layout_of(&call, images, NULL).bytes;
    return dx > dw ? dx : dw;
}
