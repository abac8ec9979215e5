/* SPDX-License-Identifier: BSD-2-Clause
 * Template of the dense convolution row. A tile of P pixels x B blocks of 16 outputs stays in registers over
 * all taps and channels: per step of GROUP channels it loads B blocks of weights, broadcasts GROUP operands
 * of each pixel (one 32-bit lane), and takes P*B dot products. Every pixel count has its own unrolled
 * instance, so there is no tail code.
 *
 * Included by i8_x86.c before i8_depthwise_tmpl.h, which shares the parameters marked + and undefines them.
 * Parameters, the others undefined at the end:
 *   NAME(f)           + function name with the suffix of the instance
 *   TARGET            + function attribute naming the instruction set
 *   OPERAND_BYTES     + bytes of an activation operand; GROUP is 4 / OPERAND_BYTES
 *   VECTOR, LANES     + register type and its number of 32-bit lanes, 8 or 16
 *   LOAD(p), STORE(p,v) + unaligned vector of LANES int32
 *   STORE_SOME(p,v,n)   the first n lanes, 1 <= n <= LANES
 *   BROADCAST(p)        32 bits at p to every lane
 *   DOT(s,x,w)        + s + dot products of the GROUP operands x with the GROUP weights w of each lane
 *   PIXELS_1, PIXELS_2, PIXELS_4  largest P for B = 1, 2, 4 (at most 16, 12, 6); 0 leaves that B out.
 *                       P*B*16/LANES accumulators + B*16/LANES weights + 2 must fit the register file.
 */

#define BLOCK_VECTORS (OCT_I8_BLOCK / LANES)

typedef struct NAME(conv_steps) {
    int rows, taps, steps;  /* loops: tap rows, taps of a row, groups of channels */
    ptrdiff_t pixel, block; /* bytes between pixels, weight blocks */
    ptrdiff_t next_tap;     /* bytes from behind the last step to the next tap */
    ptrdiff_t next_row;     /* bytes from there to the next row */
} NAME(conv_steps);

/* One step: w = the weights of block 0. Pixel q is read at base[q/3] + q%3*pixel: the stride is the index
 * register of the address, so sixteen pixels cost six address registers instead of sixteen. */
static inline __attribute__((always_inline)) TARGET void NAME(conv_step)(VECTOR sums[16][4 * BLOCK_VECTORS],
                                                                         const char *base[6], const char *w,
                                                                         ptrdiff_t pixel, ptrdiff_t block,
                                                                         int pixels, int blocks)
{
    VECTOR weights[4 * BLOCK_VECTORS];
    OCT_I8_UNROLL
    for (int v = 0; v < blocks * BLOCK_VECTORS; v++)
        weights[v] = LOAD(w + v / BLOCK_VECTORS * block + v % BLOCK_VECTORS * LANES * 4);
    OCT_I8_UNROLL
    for (int q = 0; q < pixels; q++) {
        const VECTOR x = BROADCAST(base[q / 3] + q % 3 * pixel);
        OCT_I8_UNROLL
        for (int v = 0; v < blocks * BLOCK_VECTORS; v++) sums[q][v] = DOT(sums[q][v], x, weights[v]);
    }
}

/* Moves the bases. The empty asm keeps the compiler from turning them back into one base and a register per
 * pixel. */
static inline __attribute__((always_inline)) TARGET void NAME(conv_advance)(const char *base[6],
                                                                            ptrdiff_t bytes, int pixels)
{
    OCT_I8_UNROLL
    for (int i = 0; i < (pixels + 2) / 3; i++) {
        base[i] += bytes;
        __asm__("" : "+r"(base[i]));
    }
}

/* A tile; `pixels` and `blocks` are constants in every use. `last` = outputs in the last block, 1..16. */
static inline __attribute__((always_inline)) TARGET void
NAME(conv_tile)(int32_t *acc, ptrdiff_t acc_pixel, const char *x, const char *w, const int32_t *start,
                const NAME(conv_steps) *s, int last, int pixels, int blocks)
{
    VECTOR sums[16][4 * BLOCK_VECTORS];
    const char *base[6];
    const ptrdiff_t pixel = s->pixel, block = s->block;
    OCT_I8_UNROLL
    for (int i = 0; i < (pixels + 2) / 3; i++) base[i] = x + 3 * i * pixel;
    OCT_I8_UNROLL
    for (int v = 0; v < blocks * BLOCK_VECTORS; v++) {
        const VECTOR first = LOAD(start + v * LANES);
        OCT_I8_UNROLL
        for (int q = 0; q < pixels; q++) sums[q][v] = first;
    }
    for (int r = 0; r < s->rows; r++, NAME(conv_advance)(base, s->next_row, pixels)) {
        for (int t = 0; t < s->taps; t++, NAME(conv_advance)(base, s->next_tap, pixels)) {
            for (int i = s->steps; i; i--, w += OCT_I8_BLOCK * 4) {
                NAME(conv_step)(sums, base, w, pixel, block, pixels, blocks);
                NAME(conv_advance)(base, 4, pixels);
            }
        }
    }
    OCT_I8_UNROLL
    for (int q = 0; q < pixels; q++, acc += acc_pixel) {
        OCT_I8_UNROLL
        for (int v = 0; v < (blocks - 1) * BLOCK_VECTORS; v++) STORE(acc + v * LANES, sums[q][v]);
        OCT_I8_UNROLL
        for (int v = (blocks - 1) * BLOCK_VECTORS; v < blocks * BLOCK_VECTORS; v++) {
            const int left = last - v % BLOCK_VECTORS * LANES;
            if (left >= LANES)
                STORE(acc + v * LANES, sums[q][v]);
            else if (left > 0)
                STORE_SOME(acc + v * LANES, sums[q][v], left);
        }
    }
}

#define TILE(p, b)                                                                                           \
    case p:                                                                                                  \
        NAME(conv_tile)(acc, acc_pixel, x, w, start, s, last, p, b);                                         \
        break

#if PIXELS_1
static TARGET void NAME(conv_tiles_1)(int32_t *acc, ptrdiff_t acc_pixel, const char *x, const char *w,
                                      const int32_t *start, const NAME(conv_steps) *s, int last, int pixels)
{
    switch (pixels) {
        TILE(1, 1);
        TILE(2, 1);
        TILE(3, 1);
        TILE(4, 1);
        TILE(5, 1);
        TILE(6, 1);
#if PIXELS_1 > 6
        TILE(7, 1);
        TILE(8, 1);
        TILE(9, 1);
        TILE(10, 1);
        TILE(11, 1);
        TILE(12, 1);
        TILE(13, 1);
        TILE(14, 1);
        TILE(15, 1);
        TILE(16, 1);
#endif
    }
}
#endif

#if PIXELS_2
static TARGET void NAME(conv_tiles_2)(int32_t *acc, ptrdiff_t acc_pixel, const char *x, const char *w,
                                      const int32_t *start, const NAME(conv_steps) *s, int last, int pixels)
{
    switch (pixels) {
        TILE(1, 2);
        TILE(2, 2);
        TILE(3, 2);
        TILE(4, 2);
        TILE(5, 2);
        TILE(6, 2);
        TILE(7, 2);
        TILE(8, 2);
        TILE(9, 2);
        TILE(10, 2);
        TILE(11, 2);
        TILE(12, 2);
    }
}
#endif

#if PIXELS_4
static TARGET void NAME(conv_tiles_4)(int32_t *acc, ptrdiff_t acc_pixel, const char *x, const char *w,
                                      const int32_t *start, const NAME(conv_steps) *s, int last, int pixels)
{
    switch (pixels) {
        TILE(1, 4);
        TILE(2, 4);
        TILE(3, 4);
        TILE(4, 4);
        TILE(5, 4);
        TILE(6, 4);
    }
}
#endif
#undef TILE

/* Blocks of the next tile: the weights of a tile are read once per tile, so few pixels want many blocks. */
static int NAME(conv_blocks)(int pixels, int outputs)
{
    if (PIXELS_4 && pixels <= PIXELS_4 && outputs > 3 * OCT_I8_BLOCK) return 4;
    return PIXELS_2 && outputs > OCT_I8_BLOCK ? 2 : 1;
}

static TARGET void NAME(conv_row)(int32_t *acc, const void *x, const void *w, const int32_t *start,
                                  const oct_i8_conv_row *p)
{
    NAME(conv_steps) s = {0};
    s.rows = p->taps_h;
    s.taps = p->taps_w;
    s.steps = p->channels * OPERAND_BYTES / 4;
    s.pixel = p->x_pixel * OPERAND_BYTES;
    s.block = (ptrdiff_t)s.rows * s.taps * s.steps * OCT_I8_BLOCK * 4;
    s.next_row = (p->x_row - p->taps_w * p->x_tap) * OPERAND_BYTES;
    if (p->x_tap == p->channels) { /* the taps of a row are contiguous */
        s.steps *= s.taps;
        s.taps = 1;
    } else {
        s.next_tap = (p->x_tap - p->channels) * OPERAND_BYTES;
    }
    int blocks = 1;
    for (int first = 0; first < p->outputs; first += blocks * OCT_I8_BLOCK) {
        blocks = NAME(conv_blocks)(p->pixels, p->outputs - first);
        const int most = blocks == 4 ? PIXELS_4 : blocks == 2 ? PIXELS_2 : PIXELS_1;
        const int left = p->outputs - first - (blocks - 1) * OCT_I8_BLOCK;
        const int last = left < OCT_I8_BLOCK ? left : OCT_I8_BLOCK;
        const char *weights = (const char *)w + first / OCT_I8_BLOCK * s.block;
        int tiles = (p->pixels + most - 1) / most, count = 0;
        for (int pixel = 0; pixel < p->pixels; pixel += count, tiles--) {
            count = (p->pixels - pixel + tiles - 1) / tiles; /* even shares: no narrow last tile */
            int32_t *out = acc + pixel * p->acc_pixel + first;
            const char *in = (const char *)x + pixel * s.pixel;
#if PIXELS_4
            if (blocks == 4) {
                NAME(conv_tiles_4)(out, p->acc_pixel, in, weights, start + first, &s, last, count);
                continue;
            }
#endif
#if PIXELS_2
            if (blocks == 2) {
                NAME(conv_tiles_2)(out, p->acc_pixel, in, weights, start + first, &s, last, count);
                continue;
            }
#endif
            NAME(conv_tiles_1)(out, p->acc_pixel, in, weights, start + first, &s, last, count);
        }
    }
}

#undef BLOCK_VECTORS
#undef STORE_SOME
#undef BROADCAST
#undef PIXELS_1
#undef PIXELS_2
#undef PIXELS_4
