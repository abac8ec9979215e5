/* SPDX-License-Identifier: BSD-2-Clause
 * Template of the vector variants of the float kernels. An architecture file defines the parameters, includes
 * this file once per level, and gets oct_f32_fill_<level>; everything is undefined again at the end. No
 * include guard by design.
 *
 * Parameters
 *   T_NAME(x)              name of function x at this level, x##_avx2
 *   T_FILL, T_LEVEL        name of the fill function; level name of base/cpu.h as a string
 *   T_TARGET               attribute that lets a function use the level's instructions
 *   T_V                    floats per vector: 8 or 16
 *   T_VEC, T_DVEC          vector of T_V floats; of T_V/2 doubles
 *   T_ZERO() T_SET1(f) T_LOAD(p) T_STORE(p, v)   floats, unaligned
 *   T_LOAD_N(p, n) T_STORE_N(p, v, n)   the first n of T_V elements, 0 < n < T_V, others 0 or untouched
 *   T_ADD T_SUB T_MUL T_FMA(a, b, c)    T_FMA = a*b + c, rounded once
 *   T_CLAMP(x, lo, hi)     x < lo ? lo : x > hi ? hi : x (NaN passes, -0 passes when lo is 0)
 *   T_INSIDE(v, y, lo, hi) lo < y && y < hi ? v : 0
 *   T_LOW(v) T_HIGH(v)     lower and upper half as T_DVEC
 *   T_DZERO() T_DLOAD(p) T_DSTORE(p, v) T_DADD T_DSUB T_DMUL
 *   T_PIXELS(blocks)       pixels of a register tile that is `blocks` output blocks wide, at most 16;
 *                          blocks * 16/T_V columns of vectors, at most 4
 *   T_BLOCKS_MAX           widest tile (4 or 2); for rows that fit in its pixels
 *   T_BLOCKS_LONG          width of tiles for longer rows
 *
 * Fused multiply-adds appear in conv and depthwise only; everything else rounds like the C reference.
 */

#define T_INLINE T_TARGET static inline __attribute__((always_inline))
#define T_COLUMNS (OCT_F32_BLOCK / T_V) /* vectors per output block */
#define T_EACH_8(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#define T_EACH_16(M) \
    T_EACH_8(M)      \
    M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
/* The simplest loops: iterations are independent also when destination and source are the same array. */
#define T_INDEPENDENT _Pragma("omp simd")

/* ---- dense convolution ----
 * Register tiles: acc[pixel][column]. Repetition is spelled out with T_EACH_* and conditions on constants
 * instead of loops, so that every compiler keeps acc in registers. Pixels are addressed in threes from one
 * base pointer: with index scales 1 and 2 on one stride register that costs few integer registers. */

T_INLINE void T_NAME(tile_fma)(const int columns, T_VEC *acc, T_VEC x, const T_VEC *w)
{
    acc[0] = T_FMA(x, w[0], acc[0]);
    if (columns > 1) acc[1] = T_FMA(x, w[1], acc[1]);
    if (columns > 2) acc[2] = T_FMA(x, w[2], acc[2]);
    if (columns > 3) acc[3] = T_FMA(x, w[3], acc[3]);
}

/* y = clamp(v + bias + other, limits) for up to T_V outputs; bias, other (y itself, or a residual) and limits may be NULL. */
T_INLINE void T_NAME(conv_store)(float *y, T_VEC v, const float *bias, const float *other, const oct_f32_end *limits,
                                 int left)
{
    if (bias) v = T_ADD(v, left >= T_V ? T_LOAD(bias) : T_LOAD_N(bias, left));
    if (other) v = T_ADD(left >= T_V ? T_LOAD(other) : T_LOAD_N(other, left), v);
    if (limits) v = T_CLAMP(v, T_SET1(limits->lo), T_SET1(limits->hi));
    if (left >= T_V)
        T_STORE(y, v);
    else
        T_STORE_N(y, v, left);
}

/* The end of a tile that cannot simply be stored: `outputs` of each row, from a copy of the registers. */
T_TARGET static void T_NAME(tile_finish)(float *y, ptrdiff_t y_step, const T_VEC (*acc)[4], int length,
                                         const float *bias, int outputs, const float *other, const oct_f32_end *limits)
{
    for (int q = 0; q < length; q++, y += y_step) {
        for (int o = 0; o < outputs; o += T_V)
            T_NAME(conv_store)(y + o, acc[q][o / T_V], bias ? bias + o : bias, other ? other + o : other, limits,
                               outputs - o);
        if (other) other += y_step;
    }
}

/* Registers to memory; one definition of what a tile of given size holds. */
T_INLINE void T_NAME(tile_copy)(const int length, const int columns, T_VEC (*to)[4], T_VEC (*acc)[4])
{
#define COPY(q)                                \
    if ((q) < length) {                        \
        to[q][0] = acc[q][0];                  \
        if (columns > 1) to[q][1] = acc[q][1]; \
        if (columns > 2) to[q][2] = acc[q][2]; \
        if (columns > 3) to[q][3] = acc[q][3]; \
    }
    T_EACH_16(COPY)
#undef COPY
}

/* The weights of one (tap, channel): `columns` vectors out of blocks that lie block_size apart. */
T_INLINE void T_NAME(conv_weights)(const int columns, T_VEC *v, const float *w, size_t block_size)
{
    v[0] = T_LOAD(w);
    if (columns > 1) v[1] = T_LOAD(w + 1 / T_COLUMNS * block_size + 1 % T_COLUMNS * T_V);
    if (columns > 2) v[2] = T_LOAD(w + 2 / T_COLUMNS * block_size + 2 % T_COLUMNS * T_V);
    if (columns > 3) v[3] = T_LOAD(w + 3 / T_COLUMNS * block_size + 3 % T_COLUMNS * T_V);
}

T_INLINE void T_NAME(bias_load)(const int columns, T_VEC *v, const float *bias)
{
    v[0] = T_LOAD(bias);
    if (columns > 1) v[1] = T_LOAD(bias + T_V);
    if (columns > 2) v[2] = T_LOAD(bias + 2 * T_V);
    if (columns > 3) v[3] = T_LOAD(bias + 3 * T_V);
}

T_INLINE void T_NAME(tile_add)(const int columns, T_VEC *acc, const T_VEC *v)
{
    acc[0] = T_ADD(acc[0], v[0]);
    if (columns > 1) acc[1] = T_ADD(acc[1], v[1]);
    if (columns > 2) acc[2] = T_ADD(acc[2], v[2]);
    if (columns > 3) acc[3] = T_ADD(acc[3], v[3]);
}

T_INLINE void T_NAME(tile_clamp)(const int columns, T_VEC *acc, T_VEC lo, T_VEC hi)
{
    acc[0] = T_CLAMP(acc[0], lo, hi);
    if (columns > 1) acc[1] = T_CLAMP(acc[1], lo, hi);
    if (columns > 2) acc[2] = T_CLAMP(acc[2], lo, hi);
    if (columns > 3) acc[3] = T_CLAMP(acc[3], lo, hi);
}

/* What conv_store adds at p's first output: y itself, the residual there, or nothing. */
#define T_OTHER(y, p) ((p)->accumulate ? (y) : (p)->end ? (p)->end->residual : NULL)

/* One register tile. left: outputs from y on. block_size: elements of one packed block. */
T_INLINE void T_NAME(conv_tile)(const int pixels, const int columns, float *y, const float *x, const float *w,
                                const float *bias, const float *other, const oct_f32_conv_row *p, size_t block_size,
                                int left)
{
    T_VEC acc[16][4], v[4];
    const ptrdiff_t step = p->x_pixel;
#define CLEAR(q) \
    if ((q) < pixels) acc[q][0] = acc[q][1] = acc[q][2] = acc[q][3] = T_ZERO();
    T_EACH_16(CLEAR)
#undef CLEAR
    for (int r = 0; r < p->taps_h; r++) {
        for (int t = 0; t < p->taps_w; t++) {
            const float *tap = x + r * p->x_row + t * p->x_tap;
            const float *base[6] = {tap,
                                    pixels > 3 ? tap + 3 * step : tap,
                                    pixels > 6 ? tap + 6 * step : tap,
                                    pixels > 9 ? tap + 9 * step : tap,
                                    pixels > 12 ? tap + 12 * step : tap,
                                    pixels > 15 ? tap + 15 * step : tap};
            for (int i = 0; i < p->channels; i++, w += OCT_F32_BLOCK) {
                T_NAME(conv_weights)(columns, v, w, block_size);
#define STEP(q) \
    if ((q) < pixels) T_NAME(tile_fma)(columns, acc[q], T_SET1(base[(q) / 3][(q) % 3 * step + i]), v);
                T_EACH_16(STEP)
#undef STEP
            }
        }
    }
    if (left < columns * T_V || other) {
        T_VEC copy[16][4];
        T_NAME(tile_copy)(pixels, columns, copy, acc);
        T_NAME(tile_finish)(y, p->y_pixel, copy, pixels, bias, left < columns * T_V ? left : columns * T_V, other,
                            p->end);
        return;
    }
    if (bias) {
        T_NAME(bias_load)(columns, v, bias);
#define BIAS(q) \
    if ((q) < pixels) T_NAME(tile_add)(columns, acc[q], v);
        T_EACH_16(BIAS)
#undef BIAS
    }
    if (p->end) {
        const T_VEC lo = T_SET1(p->end->lo), hi = T_SET1(p->end->hi);
#define CLAMP(q) \
    if ((q) < pixels) T_NAME(tile_clamp)(columns, acc[q], lo, hi);
        T_EACH_16(CLAMP)
#undef CLAMP
    }
#define FINISH(q)                                         \
    if ((q) < pixels) {                                   \
        T_STORE(y, acc[q][0]);                            \
        if (columns > 1) T_STORE(y + T_V, acc[q][1]);     \
        if (columns > 2) T_STORE(y + 2 * T_V, acc[q][2]); \
        if (columns > 3) T_STORE(y + 3 * T_V, acc[q][3]); \
        y += p->y_pixel;                                  \
    }
    T_EACH_16(FINISH)
#undef FINISH
}

/* Elements per tile when `count` are cut into the fewest tiles of at most `most`, nearly equal ones. */
T_INLINE int T_NAME(tile_length)(int count, const int most)
{
    if (count <= most) return count;
    int tiles = (count + most - 1) / most;
    return (count + tiles - 1) / tiles;
}

/* One row at a group of `blocks` output blocks; the row is cut into tiles of nearly equal length. */
T_INLINE void T_NAME(conv_group)(const int blocks, float *y, const float *x, const float *w,
                                 const float *bias, const float *other, const oct_f32_conv_row *p, size_t block_size,
                                 int left)
{
    int length = T_NAME(tile_length)(p->pixels, T_PIXELS(blocks));
    for (int todo = p->pixels; todo > 0;) {
        int pixels = todo < length ? todo : length;
        switch (pixels) {
#define TILE(q)                                                                                        \
    case (q) + 1:                                                                                      \
        if ((q) < T_PIXELS(blocks))                                                                    \
            T_NAME(conv_tile)((q) + 1, blocks * T_COLUMNS, y, x, w, bias, other, p, block_size, left); \
        break;
            T_EACH_16(TILE)
#undef TILE
        }
        y += pixels * p->y_pixel;
        if (other) other += pixels * p->y_pixel;
        x += pixels * p->x_pixel;
        todo -= pixels;
    }
}

/* Blocks of the next group when `blocks` are left: as wide as registers allow, and evenly cut. */
static int T_NAME(group_blocks)(int blocks, int row_length)
{
    int limit = T_BLOCKS_LONG;
    for (int wide = limit + 1; wide <= T_BLOCKS_MAX; wide++) {
        if (row_length <= T_PIXELS(wide)) limit = wide;
    }
    if (blocks <= limit) return blocks;
    int groups = (blocks + limit - 1) / limit;
    return (blocks + groups - 1) / groups;
}

T_TARGET static void T_NAME(conv_row)(float *y, const float *x, const float *w, const float *bias,
                                      const oct_f32_conv_row *given)
{
    oct_f32_conv_row p = *given;
    size_t block_size = (size_t)p.taps_h * (size_t)p.taps_w * (size_t)p.channels * OCT_F32_BLOCK;
    /* Taps that lie next to each other in x, and rows of them, make one long run of channels. */
    if (p.taps_w == 1 || p.x_tap == p.channels) {
        p.channels *= p.taps_w;
        p.taps_w = 1;
        if (p.x_row == p.channels) {
            p.channels *= p.taps_h;
            p.taps_h = 1;
        }
    }
    int blocks = (p.outputs + OCT_F32_BLOCK - 1) / OCT_F32_BLOCK;
    const float *other = T_OTHER(y, &p);
    for (int o = 0; o < p.outputs;) {
        int group = T_NAME(group_blocks)(blocks, p.pixels);
        int left = p.outputs - o;
        switch (group) {
#if T_BLOCKS_MAX >= 4
        case 4: T_NAME(conv_group)(4, y, x, w, bias, other, &p, block_size, left); break;
        case 3: T_NAME(conv_group)(3, y, x, w, bias, other, &p, block_size, left); break;
#endif
        case 2: T_NAME(conv_group)(2, y, x, w, bias, other, &p, block_size, left); break;
        default: T_NAME(conv_group)(1, y, x, w, bias, other, &p, block_size, left); break;
        }
        blocks -= group;
        o += group * OCT_F32_BLOCK;
        y += group * OCT_F32_BLOCK;
        w += (size_t)group * block_size;
        if (bias) bias += group * OCT_F32_BLOCK;
        if (other) other += group * OCT_F32_BLOCK;
    }
}

/* ---- gradient towards the weights: acc[j][column] stays in registers over all rows and pixels ---- */

/* used: outputs of the last, partial block; 0 when the tile's blocks are whole. */
T_INLINE void T_NAME(dw_tile)(const int length, const int columns, float *dw, const float *x, const float *dy,
                              const oct_f32_conv_dw *p, size_t dw_stride, int used)
{
    T_VEC acc[16][4], d[4];
#define CLEAR(q) \
    if ((q) < length) acc[q][0] = acc[q][1] = acc[q][2] = acc[q][3] = T_ZERO();
    T_EACH_16(CLEAR)
#undef CLEAR
    for (int a = 0; a < p->rows; a++) {
        const float *xp = x + a * p->x_row, *dp = dy + a * p->dy_row;
        for (int n = 0; n < p->pixels; n++, xp += p->x_pixel, dp += p->dy_pixel) {
            if (used && used < T_V) {
                d[0] = T_LOAD_N(dp, used);
                d[1] = T_ZERO();
            } else {
                d[0] = T_LOAD(dp);
                if (columns > 1)
                    d[1] = used > T_V ? T_LOAD_N(dp + T_V, used - T_V) : used ? T_ZERO() : T_LOAD(dp + T_V);
                if (columns > 2) d[2] = T_LOAD(dp + 2 * T_V);
                if (columns > 3) d[3] = T_LOAD(dp + 3 * T_V);
            }
#define STEP(q) \
    if ((q) < length) T_NAME(tile_fma)(columns, acc[q], T_SET1(xp[q]), d);
            T_EACH_16(STEP)
#undef STEP
        }
    }
    T_VEC copy[16][4];
    T_NAME(tile_copy)(length, columns, copy, acc);
    T_NAME(tile_finish)(dw, (ptrdiff_t)dw_stride, copy, length, NULL, used ? used : columns * T_V, dw, NULL);
}

T_INLINE void T_NAME(dw_group)(const int blocks, float *dw, const float *x, const float *dy,
                               const oct_f32_conv_dw *p, size_t dw_stride, int used)
{
    int most = T_NAME(tile_length)(p->inner, T_PIXELS(blocks));
    for (int todo = p->inner; todo > 0;) {
        int length = todo < most ? todo : most;
        switch (length) {
#define TILE(q)                                                                          \
    case (q) + 1:                                                                        \
        if ((q) < T_PIXELS(blocks))                                                      \
            T_NAME(dw_tile)((q) + 1, blocks * T_COLUMNS, dw, x, dy, p, dw_stride, used); \
        break;
            T_EACH_16(TILE)
#undef TILE
        }
        dw += (size_t)length * dw_stride;
        x += length;
        todo -= length;
    }
}

/* All of dw over rows that stay in the first-level cache. */
T_TARGET static void T_NAME(dw_rows)(float *dw, const float *x, const float *dy, const oct_f32_conv_dw *p)
{
    int blocks = p->outputs / OCT_F32_BLOCK, used = p->outputs % OCT_F32_BLOCK;
    size_t dw_stride = ((size_t)blocks + (used > 0)) * OCT_F32_BLOCK;
    while (blocks) {
        int group = T_NAME(group_blocks)(blocks, p->inner);
        switch (group) {
#if T_BLOCKS_MAX >= 4
        case 4: T_NAME(dw_group)(4, dw, x, dy, p, dw_stride, 0); break;
        case 3: T_NAME(dw_group)(3, dw, x, dy, p, dw_stride, 0); break;
#endif
        case 2: T_NAME(dw_group)(2, dw, x, dy, p, dw_stride, 0); break;
        default: T_NAME(dw_group)(1, dw, x, dy, p, dw_stride, 0); break;
        }
        blocks -= group;
        dw += group * OCT_F32_BLOCK;
        dy += group * OCT_F32_BLOCK;
    }
    if (used) T_NAME(dw_group)(1, dw, x, dy, p, dw_stride, used);
}

T_TARGET static void T_NAME(conv_dw)(float *dw, const float *x, const float *dy, const oct_f32_conv_dw *given)
{
    enum { CACHED = 8192 }; /* floats of x and dy */
    oct_f32_conv_dw p = *given;
    ptrdiff_t fresh = p.x_pixel < 0 ? -p.x_pixel : p.x_pixel; /* elements of x that a pixel adds */
    if (fresh > p.inner) fresh = p.inner;
    ptrdiff_t rows = CACHED / (p.pixels * (fresh + p.outputs));
    if (rows < 1) rows = 1;
    for (int todo = given->rows; todo > 0; todo -= p.rows) {
        p.rows = todo < rows ? todo : (int)rows;
        T_NAME(dw_rows)(dw, x, dy, &p);
        x += p.rows * p.x_row;
        dy += p.rows * p.dy_row;
    }
}

/* ---- depthwise: one vector of channels, several pixels or taps at a time ----
 * n is T_V, or less for the last channels. */

T_INLINE T_VEC T_NAME(load_some)(const float *p, int n)
{
    return n == T_V ? T_LOAD(p) : T_LOAD_N(p, n);
}

T_INLINE void T_NAME(store_some)(float *p, T_VEC v, int n)
{
    if (n == T_V) T_STORE(p, v);
    else T_STORE_N(p, v, n);
}

T_INLINE void T_NAME(depthwise_tile)(const int pixels, float *y, const float *x, const float *w, const float *bias,
                                     const float *other, const oct_f32_depthwise *p, int n)
{
    T_VEC acc[8];
    const ptrdiff_t step = p->x_pixel;
#define CLEAR(q) \
    if ((q) < pixels) acc[q] = T_ZERO();
    T_EACH_8(CLEAR)
#undef CLEAR
    for (int r = 0; r < p->taps_h; r++) {
        for (int t = 0; t < p->taps_w; t++, w += p->channels) {
            const float *tap = x + r * p->x_row + t * p->x_tap;
            T_VEC v = T_NAME(load_some)(w, n);
#define STEP(q) \
    if ((q) < pixels) acc[q] = T_FMA(T_NAME(load_some)(tap + (q)*step, n), v, acc[q]);
            T_EACH_8(STEP)
#undef STEP
        }
    }
#define FINISH(q) \
    if ((q) < pixels) \
        T_NAME(conv_store)(y + (q)*p->y_pixel, acc[q], bias, other ? other + (q)*p->y_pixel : other, p->end, n);
    T_EACH_8(FINISH)
#undef FINISH
}

T_INLINE void T_NAME(depthwise_channels)(const int pixels, float *y, const float *x, const float *w, const float *bias,
                                         const float *other, const oct_f32_depthwise *p)
{
    for (int c = 0, n; c < p->channels; c += n) {
        n = p->channels - c < T_V ? p->channels - c : T_V;
        if (n == T_V)
            T_NAME(depthwise_tile)(pixels, y + c, x + c, w + c, bias ? bias + c : bias, other ? other + c : other, p, T_V);
        else
            T_NAME(depthwise_tile)(pixels, y + c, x + c, w + c, bias ? bias + c : bias, other ? other + c : other, p, n);
    }
}

T_TARGET static void T_NAME(depthwise_row)(float *y, const float *x, const float *w, const float *bias,
                                           const oct_f32_depthwise *p)
{
    int length = T_NAME(tile_length)(p->pixels, 8);
    const float *other = T_OTHER(y, p);
    for (int todo = p->pixels; todo > 0;) {
        int pixels = todo < length ? todo : length;
        switch (pixels) {
#define TILE(q) \
    case (q) + 1: T_NAME(depthwise_channels)((q) + 1, y, x, w, bias, other, p); break;
            T_EACH_8(TILE)
#undef TILE
        }
        y += pixels * p->y_pixel;
        x += pixels * p->x_pixel;
        if (other) other += pixels * p->y_pixel;
        todo -= pixels;
    }
}

/* `taps` taps whose x starts are tap[0..taps): their weights lie p->channels apart at dw. */
T_INLINE void T_NAME(depthwise_dw_tile)(const int taps, float *dw, const float *const *tap, const float *dy,
                                        const oct_f32_depthwise *p, int c, int n)
{
    T_VEC acc[8];
#define CLEAR(q)                                         \
    const float *tap##q = tap[(q) < taps ? (q) : 0] + c; \
    if ((q) < taps) acc[q] = T_ZERO();
    T_EACH_8(CLEAR)
#undef CLEAR
    for (ptrdiff_t pixel = 0, at = 0; pixel < p->pixels; pixel++, at += p->x_pixel) {
        T_VEC d = T_NAME(load_some)(dy + pixel * p->y_pixel + c, n);
#define STEP(q) \
    if ((q) < taps) acc[q] = T_FMA(T_NAME(load_some)(tap##q + at, n), d, acc[q]);
        T_EACH_8(STEP)
#undef STEP
    }
#define FINISH(q) \
    if ((q) < taps) { \
        float *to = dw + (size_t)(q) * (size_t)p->channels + c; \
        T_NAME(conv_store)(to, acc[q], NULL, to, NULL, n); \
    }
    T_EACH_8(FINISH)
#undef FINISH
}

T_INLINE void T_NAME(depthwise_dw_channels)(const int taps, float *dw, const float *const *tap,
                                            const float *dy, const oct_f32_depthwise *p)
{
    int c = 0;
    for (; c + T_V <= p->channels; c += T_V) T_NAME(depthwise_dw_tile)(taps, dw, tap, dy, p, c, T_V);
    if (c < p->channels) T_NAME(depthwise_dw_tile)(taps, dw, tap, dy, p, c, p->channels - c);
}

T_TARGET static void T_NAME(depthwise_dw)(float *dw, const float *x, const float *dy,
                                          const oct_f32_depthwise *p)
{
    int todo = p->taps_h * p->taps_w;
    int length = T_NAME(tile_length)(todo, 8);
    for (int r = 0, t = 0; todo > 0;) {
        int taps = todo < length ? todo : length;
        const float *tap[8];
        for (int i = 0; i < taps; i++) {
            tap[i] = x + r * p->x_row + t * p->x_tap;
            if (++t == p->taps_w) t = 0, r++;
        }
        switch (taps) {
#define TILE(q) \
    case (q) + 1: T_NAME(depthwise_dw_channels)((q) + 1, dw, tap, dy, p); break;
            T_EACH_8(TILE)
#undef TILE
        }
        dw += (size_t)taps * (size_t)p->channels;
        todo -= taps;
    }
}

/* ---- per-channel sums: one vector of channels over a block of rows, sums in registers ----
 * Blocks of rows that stay in the first-level cache while the vectors of channels pass over them. */

static size_t T_NAME(block_rows)(int channels)
{
    return channels < 256 ? 8192 / (size_t)channels : 32;
}

/* Adds the halves of the sums of n channels (n as above) to memory: loads first, stores last. */
typedef struct T_NAME(sums) {
    T_DVEC low, high;
} T_NAME(sums);

T_INLINE T_NAME(sums) T_NAME(sums_load)(const double *from, int n)
{
    double copy[T_V] = {0};
    if (n < T_V) {
        for (int i = 0; i < n; i++) copy[i] = from[i];
        from = copy;
    }
    return (T_NAME(sums)){T_DLOAD(from), T_DLOAD(from + T_V / 2)};
}

T_INLINE void T_NAME(sums_store)(double *to, T_NAME(sums) s, int n)
{
    double copy[T_V];
    double *at = n < T_V ? copy : to;
    T_DSTORE(at, s.low);
    T_DSTORE(at + T_V / 2, s.high);
    if (n < T_V) {
        for (int i = 0; i < n; i++) to[i] = copy[i];
    }
}

T_INLINE void T_NAME(channel_sums_tile)(double *sum, double *square, const float *x, size_t rows,
                                        int channels, int n)
{
    T_NAME(sums) s = T_NAME(sums_load)(sum, n), q = {T_DZERO(), T_DZERO()};
    if (square) q = T_NAME(sums_load)(square, n);
    for (size_t a = 0; a < rows; a++, x += channels) {
        T_VEC v = T_NAME(load_some)(x, n);
        T_DVEC low = T_LOW(v), high = T_HIGH(v);
        s.low = T_DADD(s.low, low);
        s.high = T_DADD(s.high, high);
        if (square) {
            q.low = T_DADD(q.low, T_DMUL(low, low));
            q.high = T_DADD(q.high, T_DMUL(high, high));
        }
    }
    T_NAME(sums_store)(sum, s, n);
    if (square) T_NAME(sums_store)(square, q, n);
}

T_INLINE void T_NAME(channel_sums_blocks)(double *sum, double *square, const float *x, size_t rows,
                                          int channels)
{
    size_t block = T_NAME(block_rows)(channels);
    for (; rows; x += block * (size_t)channels, rows -= block) {
        if (block > rows) block = rows;
        int c = 0;
        for (; c + T_V <= channels; c += T_V)
            T_NAME(channel_sums_tile)(sum + c, square ? square + c : NULL, x + c, block, channels, T_V);
        if (c < channels)
            T_NAME(channel_sums_tile)(sum + c, square ? square + c : NULL, x + c, block, channels, channels -
                                      c);
    }
}

T_TARGET static void T_NAME(channel_sums)(double *sum, double *square, const float *x, size_t rows,
                                          int channels)
{
    T_NAME(channel_sums_blocks)(sum, square, x, rows, channels);
}

T_TARGET static void T_NAME(channel_sum)(double *sum, const float *dy, size_t rows, int channels)
{
    T_NAME(channel_sums_blocks)(sum, NULL, dy, rows, channels);
}

/* d = dy where lo < z < hi: z is y, or x*a + b when there is an a, and with neither d is dy. dz NULL: not written. */
T_INLINE void T_NAME(bn_sums_tile)(double *sum, double *dot, float *dz, const float *dy, const float *y,
                                   const float *a, const float *b, float lo, float hi, const float *x,
                                   const float *mean, size_t rows, int channels, int n)
{
    T_NAME(sums) s = T_NAME(sums_load)(sum, n), q = T_NAME(sums_load)(dot, n);
    T_VEC m = T_NAME(load_some)(mean, n), vlo = T_SET1(lo), vhi = T_SET1(hi), va = vlo, vb = vlo;
    if (a) {
        va = T_NAME(load_some)(a, n);
        vb = T_NAME(load_some)(b, n);
    }
    T_DVEC mean_low = T_LOW(m), mean_high = T_HIGH(m);
    for (size_t k = 0, e = 0; k < rows; k++, e += (size_t)channels) {
        T_VEC d = T_NAME(load_some)(dy + e, n), v = T_NAME(load_some)(x + e, n);
        if (a) d = T_INSIDE(d, T_ADD(T_MUL(v, va), vb), vlo, vhi);
        else if (y) d = T_INSIDE(d, T_NAME(load_some)(y + e, n), vlo, vhi);
        if (dz) T_NAME(store_some)(dz + e, d, n);
        T_DVEC low = T_LOW(d), high = T_HIGH(d);
        s.low = T_DADD(s.low, low);
        s.high = T_DADD(s.high, high);
        q.low = T_DADD(q.low, T_DMUL(low, T_DSUB(T_LOW(v), mean_low)));
        q.high = T_DADD(q.high, T_DMUL(high, T_DSUB(T_HIGH(v), mean_high)));
    }
    T_NAME(sums_store)(sum, s, n);
    T_NAME(sums_store)(dot, q, n);
}

T_INLINE void T_NAME(bn_sums_blocks)(double *sum, double *dot, float *dz, const float *dy, const float *y,
                                     const float *a, const float *b, float lo, float hi, const float *x,
                                     const float *mean, size_t rows, int channels)
{
    size_t block = T_NAME(block_rows)(channels);
    while (rows) {
        if (block > rows) block = rows;
        for (int c = 0; c < channels; c += T_V) {
            float *z = dz ? dz + c : dz;
            const float *yc = y ? y + c : y, *ac = a ? a + c : a, *bc = a ? b + c : b;
            if (channels - c >= T_V)
                T_NAME(bn_sums_tile)(sum + c, dot + c, z, dy + c, yc, ac, bc, lo, hi, x + c, mean + c, block,
                                     channels, T_V);
            else
                T_NAME(bn_sums_tile)(sum + c, dot + c, z, dy + c, yc, ac, bc, lo, hi, x + c, mean + c, block,
                                     channels, channels - c);
        }
        size_t done = block * (size_t)channels;
        if (dz) dz += done;
        dy += done;
        x += done;
        if (y) y += done;
        rows -= block;
    }
}

T_TARGET static void T_NAME(bn_backward_sums)(double *sum, double *dot, float *dz, const float *dy,
                                              const float *y, float lo, float hi, const float *x,
                                              const float *mean, size_t rows, int channels)
{
    T_NAME(bn_sums_blocks)(sum, dot, dz, dy, y, NULL, NULL, lo, hi, x, mean, rows, channels);
}

T_TARGET static void T_NAME(bn_masked_sums)(double *sum, double *dot, const float *dy, const float *x,
                                            const float *a, const float *b, float lo, float hi,
                                            const float *mean, size_t rows, int channels)
{
    T_NAME(bn_sums_blocks)(sum, dot, NULL, dy, NULL, a, b, lo, hi, x, mean, rows, channels);
}

/* ---- per-channel maps: rows outer, so that memory is walked in order ---- */

T_INLINE void T_NAME(affine_some)(float *y, const float *x, const float *a, const float *b,
                                  const float *residual, T_VEC lo, T_VEC hi, int n)
{
    T_VEC v = T_ADD(T_MUL(T_NAME(load_some)(x, n), T_NAME(load_some)(a, n)), T_NAME(load_some)(b, n));
    if (residual) v = T_ADD(v, T_NAME(load_some)(residual, n));
    T_NAME(store_some)(y, T_CLAMP(v, lo, hi), n);
}

T_TARGET static void T_NAME(affine_clamp)(float *y, const float *x, const float *a, const float *b,
                                          const float *residual, size_t rows, int channels, float lo,
                                          float hi)
{
    T_VEC vlo = T_SET1(lo), vhi = T_SET1(hi);
    for (; rows; rows--, y += channels, x += channels) {
        int c = 0;
        for (; c + T_V <= channels; c += T_V)
            T_NAME(affine_some)(y + c, x + c, a + c, b + c, residual ? residual + c : residual, vlo, vhi,
                                T_V);
        if (c < channels)
            T_NAME(affine_some)(y + c, x + c, a + c, b + c, residual ? residual + c : residual, vlo, vhi,
                                channels - c);
        if (residual) residual += channels;
    }
}

/* dx (+)= d*p + x*q + r; d as in bn_sums_tile, from dz. */
T_INLINE void T_NAME(bn_apply_some)(float *dx, const float *dz, const float *x, const float *a, const float *b,
                                    T_VEC lo, T_VEC hi, const float *p, const float *q, const float *r,
                                    int accumulate, int n)
{
    T_VEC d = T_NAME(load_some)(dz, n), v = T_NAME(load_some)(x, n);
    if (a) d = T_INSIDE(d, T_ADD(T_MUL(v, T_NAME(load_some)(a, n)), T_NAME(load_some)(b, n)), lo, hi);
    v = T_ADD(T_MUL(d, T_NAME(load_some)(p, n)), T_MUL(v, T_NAME(load_some)(q, n)));
    v = T_ADD(v, T_NAME(load_some)(r, n));
    if (accumulate) v = T_ADD(T_NAME(load_some)(dx, n), v);
    T_NAME(store_some)(dx, v, n);
}

T_INLINE void T_NAME(bn_apply_rows)(float *dx, const float *dz, const float *x, const float *a, const float *b,
                                    float lo, float hi, const float *p, const float *q, const float *r,
                                    size_t rows, int channels, int accumulate)
{
    T_VEC vlo = T_SET1(lo), vhi = T_SET1(hi);
    for (; rows; rows--, dx += channels, dz += channels, x += channels) {
        int c = 0;
        for (; c + T_V <= channels; c += T_V)
            T_NAME(bn_apply_some)(dx + c, dz + c, x + c, a ? a + c : a, a ? b + c : b, vlo, vhi, p + c, q + c,
                                  r + c, accumulate, T_V);
        if (c < channels)
            T_NAME(bn_apply_some)(dx + c, dz + c, x + c, a ? a + c : a, a ? b + c : b, vlo, vhi, p + c, q + c,
                                  r + c, accumulate, channels - c);
    }
}

T_TARGET static void T_NAME(bn_backward_apply)(float *dx, const float *dz, const float *x, const float *p,
                                               const float *q, const float *r, size_t rows, int channels,
                                               int accumulate)
{
    T_NAME(bn_apply_rows)(dx, dz, x, NULL, NULL, 0, 0, p, q, r, rows, channels, accumulate);
}

T_TARGET static void T_NAME(bn_masked_apply)(float *dx, const float *dy, const float *x, const float *a,
                                             const float *b, float lo, float hi, const float *p,
                                             const float *q, const float *r, size_t rows, int channels,
                                             int accumulate)
{
    T_NAME(bn_apply_rows)(dx, dy, x, a, b, lo, hi, p, q, r, rows, channels, accumulate);
}

/* ---- elementwise: plain loops, vectorised by the compiler under the level's target ---- */

T_TARGET static void T_NAME(clamp)(float *y, const float *x, size_t n, float lo, float hi)
{
    T_INDEPENDENT
    for (size_t i = 0; i < n; i++) {
        float v = x[i] > hi ? hi : x[i];
        y[i] = x[i] < lo ? lo : v;
    }
}

T_TARGET static void T_NAME(add)(float *y, const float *a, const float *b, size_t n)
{
    T_INDEPENDENT
    for (size_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

T_TARGET static void T_NAME(mul)(float *y, const float *a, const float *b, size_t n)
{
    T_INDEPENDENT
    for (size_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

T_TARGET static void T_NAME(clamp_backward)(float *dx, const float *dy, const float *y, size_t n, float lo,
                                            float hi, int accumulate)
{
    if (accumulate) {
        T_INDEPENDENT
        for (size_t i = 0; i < n; i++) dx[i] += ((lo < y[i]) & (y[i] < hi)) ? dy[i] : 0.0f;
    } else {
        T_INDEPENDENT
        for (size_t i = 0; i < n; i++) dx[i] = ((lo < y[i]) & (y[i] < hi)) ? dy[i] : 0.0f;
    }
}

T_TARGET static void T_NAME(axpy)(float *y, float a, const float *x, size_t n)
{
    T_INDEPENDENT
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

T_TARGET static double T_NAME(sum_squares)(const float *x, size_t n)
{
    /* partial sums 0-3 and 4-7; with 8 lanes `first` holds all */
    T_DVEC first = T_DZERO(), second = T_DZERO();
    size_t i = 0;
    for (; i + T_V <= n; i += T_V) {
        T_VEC v = T_LOAD(x + i);
        T_DVEC low = T_LOW(v), high = T_HIGH(v);
        first = T_DADD(first, T_DMUL(low, low));
        if (T_V == 16) first = T_DADD(first, T_DMUL(high, high));
        else second = T_DADD(second, T_DMUL(high, high));
    }
    double partial[16];
    T_DSTORE(partial, first);
    T_DSTORE(partial + T_V / 2, second);
    for (; i < n; i++) partial[i % 8] += (double)x[i] * (double)x[i];
    double total = partial[0];
    for (i = 1; i < 8; i++) total += partial[i];
    return total;
}

T_TARGET static void T_NAME(sgd)(float *w, float *v, const float *grad, const uint8_t *decay, size_t n,
                                 float scale, float lr, float momentum, float weight_decay, int nesterov)
{
    if (decay) {
        T_INDEPENDENT
        for (size_t i = 0; i < n; i++) {
            float g = grad[i] * scale + (float)decay[i] * weight_decay * w[i];
            float m = momentum * v[i] + g;
            v[i] = m;
            w[i] -= lr * (nesterov ? g + momentum * m : m);
        }
    } else {
        T_INDEPENDENT
        for (size_t i = 0; i < n; i++) {
            float g = grad[i] * scale + weight_decay * w[i];
            float m = momentum * v[i] + g;
            v[i] = m;
            w[i] -= lr * (nesterov ? g + momentum * m : m);
        }
    }
}

#include "autograd/kernels/f32_winograd_tmpl.h"

void T_FILL(oct_f32_kernels *table)
{
    *table = (oct_f32_kernels){
        .level = T_LEVEL,
        .conv_row = T_NAME(conv_row),
        .conv_dw = T_NAME(conv_dw),
        .depthwise_row = T_NAME(depthwise_row),
        .depthwise_dw = T_NAME(depthwise_dw),
        .channel_sums = T_NAME(channel_sums),
        .affine_clamp = T_NAME(affine_clamp),
        .bn_backward_sums = T_NAME(bn_backward_sums),
        .bn_backward_apply = T_NAME(bn_backward_apply),
        .bn_masked_sums = T_NAME(bn_masked_sums),
        .bn_masked_apply = T_NAME(bn_masked_apply),
        .channel_sum = T_NAME(channel_sum),
        .clamp = T_NAME(clamp),
        .add = T_NAME(add),
        .mul = T_NAME(mul),
        .clamp_backward = T_NAME(clamp_backward),
        .axpy = T_NAME(axpy),
        .sum_squares = T_NAME(sum_squares),
        .sgd = T_NAME(sgd),
        .winograd_input = T_NAME(winograd_input),
        .winograd_output = T_NAME(winograd_output),
        .winograd_gradient = T_NAME(winograd_gradient),
    };
}

#undef T_INLINE
#undef T_COLUMNS
#undef T_EACH_8
#undef T_EACH_16
#undef T_INDEPENDENT
#undef T_NAME
#undef T_FILL
#undef T_LEVEL
#undef T_TARGET
#undef T_V
#undef T_VEC
#undef T_DVEC
#undef T_ZERO
#undef T_SET1
#undef T_LOAD
#undef T_STORE
#undef T_LOAD_N
#undef T_STORE_N
#undef T_ADD
#undef T_SUB
#undef T_MUL
#undef T_FMA
#undef T_CLAMP
#undef T_INSIDE
#undef T_LOW
#undef T_HIGH
#undef T_DZERO
#undef T_DLOAD
#undef T_DSTORE
#undef T_DADD
#undef T_DSUB
#undef T_DMUL
#undef T_PIXELS
#undef T_BLOCKS_MAX
#undef T_BLOCKS_LONG
