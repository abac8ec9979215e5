/* SPDX-License-Identifier: BSD-2-Clause
 * Template of the depthwise row, vectorised over channels. GROUP operands of one column of the window (same
 * channel, GROUP tap rows) share a 32-bit lane, so that one dot product covers them; at stride 1 a column,
 * once interleaved, serves every pixel of the tile that sees it. A last incomplete vector of channels starts
 * earlier and computes some channels twice; fewer channels than one vector run along the row where they fill vectors
 * evenly (3x3, stride 1), else they go to the plain C row.
 *
 * Parameters, all undefined at the end:
 *   NAME(f), TARGET, VECTOR, LANES, OPERAND_BYTES, LOAD, STORE, DOT   as in i8_conv_tmpl.h
 *   SPREAD(p,k)   LANES operands at p, each to position k of its 32-bit lane, zero elsewhere
 *   OR(a,b)
 *   TILE_PIXELS   pixels of the largest tile: 8 or 4
 *   SCALAR        the plain row of this layout
 */

#define GROUP (4 / OPERAND_BYTES)

typedef struct NAME(depthwise_steps) {
    ptrdiff_t row, tap, pixel; /* bytes between tap rows, taps, pixels */
    ptrdiff_t column;          /* bytes between weight columns */
    int taps_h, taps_w;
} NAME(depthwise_steps);

/* `rows` tap rows of a column, 1..GROUP. */
static inline __attribute__((always_inline)) TARGET VECTOR NAME(depthwise_column)(const char *x,
                                                                                  ptrdiff_t row, int rows)
{
    VECTOR v = SPREAD(x, 0);
    if (rows > 1) v = OR(v, SPREAD(x + row, 1));
#if OPERAND_BYTES == 1
    if (rows > 2) v = OR(v, SPREAD(x + 2 * row, 2));
    if (rows > 3) v = OR(v, SPREAD(x + 3 * row, 3));
#endif
    return v;
}

/* `pixels` neighbours, one vector of channels; taps and pixels are constants in every use, more than one
 * pixel only where s->pixel == s->tap. weights = [taps_w][groups of taps_h]. */
static inline __attribute__((always_inline)) TARGET void
NAME(depthwise_tile)(int32_t *acc, ptrdiff_t acc_pixel, const char *x, const VECTOR *weights, VECTOR start,
                     const NAME(depthwise_steps) *s, int taps_h, int taps_w, int pixels)
{
    VECTOR sums[8];
    const int groups = (taps_h + GROUP - 1) / GROUP;
    OCT_I8_UNROLL
    for (int q = 0; q < pixels; q++) sums[q] = start;
    OCT_I8_UNROLL
    for (int g = 0; g < groups; g++) {
        const int left = taps_h - g * GROUP;
        OCT_I8_UNROLL
        for (int j = 0; j < pixels + taps_w - 1; j++) {
            const VECTOR v = NAME(depthwise_column)(x + g * GROUP * s->row + j * s->tap, s->row,
                                                    left < GROUP ? left : GROUP);
            OCT_I8_UNROLL
            for (int q = 0; q < pixels; q++) {
                const int t = j - q;
                if (t >= 0 && t < taps_w) sums[q] = DOT(sums[q], v, weights[t * groups + g]);
            }
        }
    }
    OCT_I8_UNROLL
    for (int q = 0; q < pixels; q++) STORE(acc + q * acc_pixel, sums[q]);
}

/* All pixels of one vector of channels, constant taps. The weights are copied first: the compiler cannot
 * know that the stores to acc leave them alone. */
static inline __attribute__((always_inline)) TARGET void
NAME(depthwise_pixels)(int32_t *acc, ptrdiff_t acc_pixel, const char *x, const char *w, const int32_t *start,
                       const NAME(depthwise_steps) *s, int pixels, int taps_h, int taps_w)
{
    VECTOR weights[25];
    const VECTOR first = LOAD(start);
    OCT_I8_UNROLL
    for (int i = 0; i < taps_w * ((taps_h + GROUP - 1) / GROUP); i++) weights[i] = LOAD(w + i * s->column);
    const int shared = s->pixel == s->tap;
    int done = 0;
    for (int p = 0; p < pixels; p += done, x += done * s->pixel, acc += done * acc_pixel) {
        const int left = pixels - p;
#if TILE_PIXELS == 8
        if (shared && left >= 8) {
            NAME(depthwise_tile)(acc, acc_pixel, x, weights, first, s, taps_h, taps_w, 8);
            done = 8;
            continue;
        }
#endif
        if (shared && left >= 4) {
            NAME(depthwise_tile)(acc, acc_pixel, x, weights, first, s, taps_h, taps_w, 4);
            done = 4;
        } else if (shared && left >= 2) {
            NAME(depthwise_tile)(acc, acc_pixel, x, weights, first, s, taps_h, taps_w, 2);
            done = 2;
        } else {
            NAME(depthwise_tile)(acc, acc_pixel, x, weights, first, s, taps_h, taps_w, 1);
            done = 1;
        }
    }
}

/* Any window: the fallback without unrolling, one pixel. */
static TARGET void NAME(depthwise_any)(int32_t *acc, const char *x, const char *w, const int32_t *start,
                                       const NAME(depthwise_steps) *s)
{
    VECTOR sum = LOAD(start);
    for (int t = 0; t < s->taps_w; t++) {
        for (int r = 0; r < s->taps_h; r += GROUP, w += s->column) {
            const int left = s->taps_h - r;
            sum = DOT(
                sum, NAME(depthwise_column)(x + r * s->row + t * s->tap, s->row, left < GROUP ? left : GROUP),
                LOAD(w));
        }
    }
    STORE(acc, sum);
}

static TARGET void NAME(depthwise_3x3)(int32_t *acc, ptrdiff_t acc_pixel, const char *x, const char *w,
                                       const int32_t *start, const NAME(depthwise_steps) *s, int pixels)
{
    NAME(depthwise_pixels)(acc, acc_pixel, x, w, start, s, pixels, 3, 3);
}

static TARGET void NAME(depthwise_5x5)(int32_t *acc, ptrdiff_t acc_pixel, const char *x, const char *w,
                                       const int32_t *start, const NAME(depthwise_steps) *s, int pixels)
{
    NAME(depthwise_pixels)(acc, acc_pixel, x, w, start, s, pixels, 5, 5);
}

/* Few channels without gaps between pixels: vectors run along the row, their lanes repeat the channels. A last incomplete
 * vector starts earlier. */
static inline __attribute__((always_inline)) TARGET void
NAME(depthwise_flat)(int32_t *acc, const char *x, const char *w, const int32_t *start,
                     const NAME(depthwise_steps) *s, int elements, int channels, int taps_h, int taps_w)
{
    VECTOR weights[25];
    int32_t lanes[LANES];
    for (int l = 0; l < LANES; l++) lanes[l] = start[l % channels];
    const VECTOR first = LOAD(lanes);
    for (int i = 0; i < taps_w * ((taps_h + GROUP - 1) / GROUP); i++) {
        for (int l = 0; l < LANES; l++) memcpy(&lanes[l], w + i * s->column + l % channels * 4, 4);
        weights[i] = LOAD(lanes);
    }
    for (int e = 0; e < elements; e += LANES) {
        if (e + LANES > elements) e = elements - LANES;
        NAME(depthwise_tile)(acc + e, 0, x + e * OPERAND_BYTES, weights, first, s, taps_h, taps_w, 1);
    }
}

static TARGET void NAME(depthwise_flat_3x3)(int32_t *acc, const char *x, const char *w, const int32_t *start,
                                            const NAME(depthwise_steps) *s, int elements, int channels)
{
    NAME(depthwise_flat)(acc, x, w, start, s, elements, channels, 3, 3);
}

static TARGET void NAME(depthwise_row)(int32_t *acc, const void *x, const void *w, const int32_t *start,
                                       const oct_i8_depthwise_row *p)
{
    const NAME(depthwise_steps) s = {p->x_row * OPERAND_BYTES,
                                     p->x_tap * OPERAND_BYTES,
                                     p->x_pixel * OPERAND_BYTES,
                                     (ptrdiff_t)p->channels * 4,
                                     p->taps_h,
                                     p->taps_w};
    if (p->channels < LANES) {
        const int elements = p->pixels * p->channels;
        const int flat = LANES % p->channels == 0 && p->x_pixel == p->channels && p->acc_pixel == p->channels;
        if (flat && elements >= LANES && p->taps_h == 3 && p->taps_w == 3)
            NAME(depthwise_flat_3x3)(acc, x, w, start, &s, elements, p->channels);
        else
            SCALAR(acc, x, w, start, p);
        return;
    }
    for (int c = 0; c < p->channels; c += LANES) {
        if (c + LANES > p->channels) c = p->channels - LANES;
        int32_t *out = acc + c;
        const char *in = (const char *)x + c * OPERAND_BYTES, *weights = (const char *)w + c * 4;
        if (p->taps_h == 3 && p->taps_w == 3) {
            NAME(depthwise_3x3)(out, p->acc_pixel, in, weights, start + c, &s, p->pixels);
        } else if (p->taps_h == 5 && p->taps_w == 5) {
            NAME(depthwise_5x5)(out, p->acc_pixel, in, weights, start + c, &s, p->pixels);
        } else {
            for (int pixel = 0; pixel < p->pixels; pixel++)
                NAME(depthwise_any)(out + pixel * p->acc_pixel, in + pixel * s.pixel, weights, start + c, &s);
        }
    }
}

#undef GROUP
#undef SPREAD
#undef OR
#undef TILE_PIXELS
#undef SCALAR
#undef NAME
#undef TARGET
#undef OPERAND_BYTES
#undef VECTOR
#undef LANES
#undef SRA
#undef SCALE
#undef PACK_AFFINE
#undef PACK
#undef LOAD
#undef STORE
#undef DOT
