/* SPDX-License-Identifier: BSD-2-Clause
 * Template of the dense convolution row, with two ends: 32-bit sums, or codes made in the registers. A tile of P pixels x B blocks of 16 outputs stays in registers over
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
 *   SRA(v,n)          + each lane >> the lane of n
 *   PACK(a,b,c,d,lo,hi,range)   the lanes of four vectors in order as bytes clamped to the bytes of lo, hi; range =
 *                     OCT_I8_FROM_ZERO (unsigned, lo 0: saturation does that side), OCT_I8_UNSIGNED, OCT_I8_SIGNED
 *   SCALE(v,m)        + each lane as a float times the float m, rounded to the nearest even integer
 *   PACK_AFFINE(a,b,c,d,zero,lo,hi)   like PACK, unsigned, with the words `zero` added before the clamp
 *   SET_BYTE(x), SET_WORD(x)          x in every byte, 16-bit word
 *   STORE_PART(p,v,part,size,n)  bytes [part*size, part*size + n) of v to p, n <= size; size = 64, 32 or 16
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

/* Where a tile goes and what it becomes there: `stage` NULL = sums, else codes. */
typedef struct NAME(conv_end) {
    ptrdiff_t pixel;            /* bytes between pixels */
    const oct_i8_output *stage;
    const int32_t *shift;       /* of the tile's first output: shifts, or with multipliers their bits */
    int last;                   /* outputs in the last block, 1..16 */
} NAME(conv_end);

static inline __attribute__((always_inline)) TARGET void
NAME(conv_store)(const NAME(conv_end) *e, char *out, VECTOR sums[16][4 * BLOCK_VECTORS], int pixels, int blocks)
{
    OCT_I8_UNROLL
    for (int q = 0; q < pixels; q++, out += e->pixel) {
        int32_t *acc = (int32_t *)(void *)out;
        OCT_I8_UNROLL
        for (int v = 0; v < (blocks - 1) * BLOCK_VECTORS; v++) STORE(acc + v * LANES, sums[q][v]);
        OCT_I8_UNROLL
        for (int v = (blocks - 1) * BLOCK_VECTORS; v < blocks * BLOCK_VECTORS; v++) {
            const int left = e->last - v % BLOCK_VECTORS * LANES;
            if (left >= LANES)
                STORE(acc + v * LANES, sums[q][v]);
            else if (left > 0)
                STORE_SOME(acc + v * LANES, sums[q][v], left);
        }
    }
}

/* Four vectors of sums make one vector of bytes: the outputs of one, two or four pixels. range (of PACK) and full (no incomplete
 * block) are constants where it matters: a branch per vector would cost more than the packing. */
static inline __attribute__((always_inline)) TARGET void
NAME(conv_store_codes)(const NAME(conv_end) *e, char *at, VECTOR sums[16][4 * BLOCK_VECTORS], int pixels, int blocks,
                       int range, int full, int affine)
{
    const int vectors = blocks * BLOCK_VECTORS, together = 4 / vectors, size = blocks * OCT_I8_BLOCK;
    const int count = full ? size : size - OCT_I8_BLOCK + e->last;
    const ptrdiff_t pixel = e->pixel; /* nothing is read from *e below: the stores might change it for all the compiler knows */
    const int32_t *shift = e->shift;
    const VECTOR lo = SET_BYTE(e->stage->lo), hi = SET_BYTE(e->stage->hi), zero = SET_WORD(affine ? e->stage->zero : 0);
    uint8_t *out = (uint8_t *)at;
    OCT_I8_UNROLL
    for (int q = 0; q < pixels; q += together) {
        VECTOR codes[4];
        OCT_I8_UNROLL
        for (int i = 0; i < 4; i++) {
            const int from = q + i / vectors < pixels ? q + i / vectors : pixels - 1;
            const VECTOR factor = LOAD(shift + i % vectors * LANES);
            codes[i] = affine ? SCALE(sums[from][i % vectors], factor) : SRA(sums[from][i % vectors], factor);
        }
        const VECTOR packed = affine ? PACK_AFFINE(codes[0], codes[1], codes[2], codes[3], zero, lo, hi)
                                     : PACK(codes[0], codes[1], codes[2], codes[3], lo, hi, range);
        OCT_I8_UNROLL
        for (int i = 0; i < together; i++, out += pixel)
            if (q + i < pixels) STORE_PART(out, packed, i, size, count);
    }
}

/* A tile; `pixels` and `blocks` are constants in every use. */
static inline __attribute__((always_inline)) TARGET void
NAME(conv_tile)(const NAME(conv_end) *e, char *out, const char *x, const char *w, const int32_t *start,
                const NAME(conv_steps) *s, int pixels, int blocks)
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
    if (!e->stage)
        NAME(conv_store)(e, out, sums, pixels, blocks);
    else if (e->stage->multiplier && e->last == OCT_I8_BLOCK)
        NAME(conv_store_codes)(e, out, sums, pixels, blocks, OCT_I8_UNSIGNED, 1, 1);
    else if (e->stage->multiplier)
        NAME(conv_store_codes)(e, out, sums, pixels, blocks, OCT_I8_UNSIGNED, 0, 1);
    else if (e->last == OCT_I8_BLOCK && e->stage->lo == 0)
        NAME(conv_store_codes)(e, out, sums, pixels, blocks, OCT_I8_FROM_ZERO, 1, 0);
    else if (e->last == OCT_I8_BLOCK && e->stage->lo < 0)
        NAME(conv_store_codes)(e, out, sums, pixels, blocks, OCT_I8_SIGNED, 1, 0);
    else
        NAME(conv_store_codes)(e, out, sums, pixels, blocks, e->stage->lo < 0 ? OCT_I8_SIGNED : OCT_I8_UNSIGNED, 0, 0);
}

/* `count` tiles of p pixels. */
#define TILE(p, b)                                                                                           \
    case p:                                                                                                  \
        for (; count; count--, out += (p) * e->pixel, x += (p) * s->pixel)                                   \
            NAME(conv_tile)(e, out, x, w, start, s, p, b);                                                   \
        break

#if PIXELS_1
static TARGET void NAME(conv_tiles_1)(const NAME(conv_end) *e, char *out, const char *x, const char *w,
                                      const int32_t *start, const NAME(conv_steps) *s, int pixels, int count)
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
static TARGET void NAME(conv_tiles_2)(const NAME(conv_end) *e, char *out, const char *x, const char *w,
                                      const int32_t *start, const NAME(conv_steps) *s, int pixels, int count)
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
static TARGET void NAME(conv_tiles_4)(const NAME(conv_end) *e, char *out, const char *x, const char *w,
                                      const int32_t *start, const NAME(conv_steps) *s, int pixels, int count)
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

/* Blocks of the next tile. The weights of a tile are read once per tile, so few pixels want many blocks; and four blocks
 * fill a vector of codes, as long as their weights (`block` bytes each) stay in the first-level cache from tile to tile. */
static int NAME(conv_blocks)(int pixels, int outputs, ptrdiff_t block)
{
    if (PIXELS_4 && outputs > 3 * OCT_I8_BLOCK && (pixels <= PIXELS_4 || block <= 6 * 1024)) return 4;
    return PIXELS_2 && outputs > OCT_I8_BLOCK ? 2 : 1;
}

/* `count` tiles of `pixels` pixels and `blocks` blocks. */
static TARGET void NAME(conv_tiles)(const NAME(conv_end) *e, char *out, const char *x, const char *w, const int32_t *start,
                                    const NAME(conv_steps) *s, int blocks, int pixels, int count)
{
#if PIXELS_4
    if (blocks == 4) {
        NAME(conv_tiles_4)(e, out, x, w, start, s, pixels, count);
        return;
    }
#endif
#if PIXELS_2
    if (blocks == 2) {
        NAME(conv_tiles_2)(e, out, x, w, start, s, pixels, count);
        return;
    }
#endif
    (void)blocks;
    NAME(conv_tiles_1)(e, out, x, w, start, s, pixels, count);
}

/* Elements of `out` are sums or, with a stage, codes; out_pixel = bytes between pixels. */
static TARGET void NAME(conv_run)(char *out, ptrdiff_t out_pixel, const void *x, const void *w, const int32_t *start,
                                  const oct_i8_conv_row *p, const oct_i8_output *stage)
{
    const ptrdiff_t element = stage ? 1 : (ptrdiff_t)sizeof(int32_t);
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
    const int32_t *factors = !stage              ? NULL
                             : stage->multiplier ? (const int32_t *)(const void *)stage->multiplier
                                                 : stage->shift;
    int blocks = 1;
    for (int first = 0; first < p->outputs; first += blocks * OCT_I8_BLOCK) {
        blocks = NAME(conv_blocks)(p->pixels, p->outputs - first, s.block);
        const int most = blocks == 4 ? PIXELS_4 : blocks == 2 ? PIXELS_2 : PIXELS_1;
        const int left = p->outputs - first - (blocks - 1) * OCT_I8_BLOCK;
        const char *weights = (const char *)w + first / OCT_I8_BLOCK * s.block;
        const NAME(conv_end) end = {.pixel = out_pixel,
                                    .stage = stage,
                                    .shift = stage ? factors + first : NULL,
                                    .last = left < OCT_I8_BLOCK ? left : OCT_I8_BLOCK};
        /* Even shares, no narrow last tile: `wide` tiles of count + 1 pixels, the others of count. */
        const int tiles = (p->pixels + most - 1) / most, count = p->pixels / tiles, wide = p->pixels % tiles;
        const ptrdiff_t done = (ptrdiff_t)wide * (count + 1);
        char *to = out + first * element;
        if (wide) NAME(conv_tiles)(&end, to, x, weights, start + first, &s, blocks, count + 1, wide);
        NAME(conv_tiles)(&end, to + done * out_pixel, (const char *)x + done * s.pixel, weights, start + first, &s, blocks,
                         count, tiles - wide);
    }
}

static TARGET void NAME(conv_row)(int32_t *acc, const void *x, const void *w, const int32_t *start,
                                  const oct_i8_conv_row *p)
{
    int row = 0;
    do { /* a weight block per row, not a row per weight block: few weights are what most calls have */
        NAME(conv_run)((char *)(acc + row * p->acc_next), p->acc_pixel * (ptrdiff_t)sizeof *acc,
                       (const char *)x + row * p->x_next * OPERAND_BYTES, w, start, p, NULL);
    } while (++row < p->rows);
}

static TARGET void NAME(conv_codes)(uint8_t *codes, const void *x, const void *w, const int32_t *start,
                                    const oct_i8_conv_row *p, const oct_i8_output *output)
{
    NAME(conv_run)((char *)codes, p->acc_pixel, x, w, start, p, output);
}

#undef BLOCK_VECTORS
#undef STORE_SOME
#undef STORE_PART
#undef SET_BYTE
#undef SET_WORD
#undef BROADCAST
#undef PIXELS_1
#undef PIXELS_2
#undef PIXELS_4
