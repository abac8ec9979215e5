/* SPDX-License-Identifier: BSD-2-Clause
 * Template of the depthwise layer that writes codes. It works on blocks of BLOCK consecutive bytes of a row.
 *
 * A column is GROUP neighbouring tap rows of one pixel, interleaved so that the GROUP taps of a channel share a 32-bit
 * lane: one dot product takes them all. Interleaving works within 128-bit lanes and so does packing sums to bytes; the
 * two orders cancel, and weights are packed in the order between them. At stride 1 three taps use a column of four rows
 * for two output rows, with weights (w0 w1 w2 0) and (0 w0 w1 w2).
 *
 * Wide (channels >= BLOCK): a block is channels of one pixel, P pixels a tile, every column interleaved once a tile. The
 * last block starts earlier and computes some channels twice. Flat (fewer channels): a block is several pixels, and the
 * tap t of it lies t*channels bytes further; `sets` of weights repeat along a row.
 *
 * Parameters, all undefined at the end:
 *   NAME(f), TARGET, VECTOR, LANES, LOAD, SRA, DOT   as in i8_conv_tmpl.h
 *   GROUP         taps of a dot product: 4 (bytes) or 2 (16-bit pairs)
 *   RAW           register of BLOCK bytes; RAW_LOAD(p), RAW_STORE(p, v), RAW_SET(byte)
 *   RAW_PART(p, from, to, fill)   bytes from..to-1 from p + from .. on, the others of `fill`
 *   RAW_STORE_SOME(p, v, n)
 *   RAW_EVEN(a, b, channels)      every second pixel of the two vectors in a row; BLOCK % channels == 0
 *   OPERANDS(raw, is_signed)   bytes: code + 128 if signed (or see PACK_DEPTHWISE); pairs: 16-bit operands
 *   LOW_8, HIGH_8, LOW_16, HIGH_16   unpack instructions (bytes: all, pairs: the last two)
 *   PACK_BLOCK(sums, lo, hi)      GROUP vectors of sums to BLOCK clamped bytes
 *   SCALE                         as in i8_conv_tmpl.h
 *   PACK_BLOCK_AFFINE(sums, zero, lo, hi)   the same, unsigned, with `zero` added before the clamp
 *   PACK_DEPTHWISE    packing of this instance, when its operands or the order of its weights are its own; may be undefined
 *   PIXELS_S1, PIXELS_S2, PIXELS_5   pixels of a tile: two rows at stride 1, one row at stride 2, five taps
 */

#define BLOCK (GROUP * LANES)
#define COLUMN_GROUPS(rows) (((rows) + GROUP - 1) / GROUP)

typedef struct NAME(dw_job) {
    const oct_i8_depthwise_rows *p;
    const uint8_t *const *rows; /* of the tile's first output row */
    uint8_t *out;               /* its first pixel */
    const char *set;            /* packed weights of the block */
    ptrdiff_t channel;          /* first byte of the block in a pixel */
} NAME(dw_job);

/* The packed form of a block starts with its GROUP starts and GROUP shifts. */
#define SET_STARTS(set) (set)
#define SET_SHIFTS(set) ((set) + GROUP * LANES * 4)
#define SET_WEIGHTS(set) ((set) + 2 * GROUP * LANES * 4)

/* `n` tap rows of a block, each given as its raw bytes. */
static inline __attribute__((always_inline)) TARGET void NAME(dw_interleave)(VECTOR column[3][GROUP], const RAW raw[6],
                                                                             int n, int kind)
{
    OCT_I8_UNROLL
    for (int g = 0; g < COLUMN_GROUPS(n); g++) {
        const int first = g * GROUP, left = n - first;
        const VECTOR r0 = OPERANDS(raw[first], kind == OCT_I8_CODES_S8);
        const VECTOR r1 = left > 1 ? OPERANDS(raw[first + 1], kind == OCT_I8_CODES_S8) : r0;
#if GROUP == 4
        const VECTOR low = LOW_8(r0, r1), high = HIGH_8(r0, r1);
        VECTOR low2 = low, high2 = high;
        if (left > 2) {
            const VECTOR r2 = OPERANDS(raw[first + 2], kind == OCT_I8_CODES_S8);
            const VECTOR r3 = left > 3 ? OPERANDS(raw[first + 3], kind == OCT_I8_CODES_S8) : r2;
            low2 = LOW_8(r2, r3);
            high2 = HIGH_8(r2, r3);
        }
        column[g][0] = LOW_16(low, low2);
        column[g][1] = HIGH_16(low, low2);
        column[g][2] = LOW_16(high, high2);
        column[g][3] = HIGH_16(high, high2);
#else
        column[g][0] = LOW_16(r0, r1);
        column[g][1] = HIGH_16(r0, r1);
#endif
    }
}

static inline __attribute__((always_inline)) TARGET void NAME(dw_start)(VECTOR sums[GROUP], const char *set)
{
    OCT_I8_UNROLL
    for (int k = 0; k < GROUP; k++) sums[k] = LOAD(SET_STARTS(set) + k * LANES * 4);
}

/* Adds a column to the sums of one pixel: tap column t of the window, output row `row` of the tile. */
static inline __attribute__((always_inline)) TARGET void NAME(dw_add)(VECTOR sums[GROUP], VECTOR column[3][GROUP],
                                                                      const char *set, int row, int t, int taps, int n)
{
    const char *w = SET_WEIGHTS(set) + (row * taps + t) * COLUMN_GROUPS(n) * GROUP * LANES * 4;
    OCT_I8_UNROLL
    for (int g = 0; g < COLUMN_GROUPS(n); g++) {
        OCT_I8_UNROLL
        for (int k = 0; k < GROUP; k++) sums[k] = DOT(sums[k], column[g][k], LOAD(w + (g * GROUP + k) * LANES * 4));
    }
}

static inline __attribute__((always_inline)) TARGET RAW NAME(dw_codes)(const VECTOR sums[GROUP], const char *set,
                                                                       const oct_i8_depthwise_rows *p, int kind)
{
    VECTOR codes[GROUP];
    OCT_I8_UNROLL
    for (int k = 0; k < GROUP; k++) {
        const VECTOR factor = LOAD(SET_SHIFTS(set) + k * LANES * 4);
        codes[k] = kind == OCT_I8_CODES_AFFINE ? SCALE(sums[k], factor) : SRA(sums[k], factor);
    }
    return kind == OCT_I8_CODES_AFFINE ? PACK_BLOCK_AFFINE(codes, p->zero, p->lo, p->hi) : PACK_BLOCK(codes, p->lo, p->hi);
}

/* `pixels` x `rows` outputs of one wide block from output pixel x on; all but job and x are constants in every use.
 * border: some columns may lie outside. */
static inline __attribute__((always_inline)) TARGET void NAME(dw_tile)(const NAME(dw_job) *job, int x, int taps,
                                                                       int stride, int rows, int pixels, int kind,
                                                                       int border)
{
    const oct_i8_depthwise_rows *p = job->p;
    const int n = taps + rows - 1, first = x * stride - p->left;
    const ptrdiff_t channels = p->layer.channels;
    const char *set = job->set;
    VECTOR sums[2][4][GROUP];
    OCT_I8_UNROLL
    for (int i = 0; i < rows * pixels; i++) NAME(dw_start)(sums[i / pixels][i % pixels], set);
    OCT_I8_UNROLL
    for (int j = 0; j < (pixels - 1) * stride + taps; j++) {
        RAW raw[6];
        VECTOR column[3][GROUP];
        const ptrdiff_t at = (first + j) * channels + job->channel;
        const int inside = !border || (first + j >= 0 && first + j < p->width);
        OCT_I8_UNROLL
        for (int r = 0; r < n; r++) raw[r] = inside ? RAW_LOAD(job->rows[r] + at) : RAW_SET(p->fill);
        NAME(dw_interleave)(column, raw, n, kind);
        /* Weights are operands in memory: without this the compiler keeps them in registers and spills the sums. */
        __asm__("" : "+r"(set));
        OCT_I8_UNROLL
        for (int i = 0; i < rows * pixels; i++) {
            const int t = j - i % pixels * stride;
            if (t >= 0 && t < taps)
                NAME(dw_add)(sums[i / pixels][i % pixels], column, set, i / pixels, t, taps, n);
        }
    }
    OCT_I8_UNROLL
    for (int i = 0; i < rows * pixels; i++) {
        uint8_t *out = job->out + i / pixels * p->out_row + (x + i % pixels) * channels + job->channel;
        RAW_STORE(out, NAME(dw_codes)(sums[i / pixels][i % pixels], set, p, kind));
    }
}

/* All pixels of `rows` output rows, one wide block. */
static inline __attribute__((always_inline)) TARGET void NAME(dw_wide)(const NAME(dw_job) *job, int taps, int stride,
                                                                       int rows, int tile, int kind)
{
    const oct_i8_depthwise_rows *p = job->p;
    for (int x = 0; x < p->pixels;) {
        const int first = x * stride - p->left, whole = p->pixels - x >= tile;
        if (whole && first >= 0 && first + (tile - 1) * stride + taps <= p->width) {
            NAME(dw_tile)(job, x, taps, stride, rows, tile, kind, 0);
            x += tile;
        } else {
            NAME(dw_tile)(job, x, taps, stride, rows, 1, kind, 1);
            x++;
        }
    }
}

/* BLOCK bytes of a row of `width` bytes from byte `at` on, which may begin before and end behind it. */
static inline __attribute__((always_inline)) TARGET RAW NAME(dw_flat_load)(const uint8_t *row, ptrdiff_t at,
                                                                           ptrdiff_t width, int fill)
{
    if (at >= 0 && at + BLOCK <= width) return RAW_LOAD(row + at);
    const ptrdiff_t from = at < 0 ? -at : 0, to = width - at;
    return RAW_PART(row + at, from < BLOCK ? from : BLOCK, to < BLOCK ? (to > 0 ? to : 0) : BLOCK, RAW_SET(fill));
}

/* One flat block from byte `base` of the output rows on, of which `count` bytes exist. border: its columns may reach beyond
 * the input rows of `width` bytes. */
static inline __attribute__((always_inline)) TARGET void NAME(dw_flat_block)(const NAME(dw_job) *job, const char *set,
                                                                             ptrdiff_t base, ptrdiff_t width, ptrdiff_t count,
                                                                             int taps, int stride, int rows, int kind,
                                                                             int border)
{
    const oct_i8_depthwise_rows *p = job->p;
    const int channels = p->layer.channels, n = taps + rows - 1;
    VECTOR sums[2][GROUP];
    OCT_I8_UNROLL
    for (int i = 0; i < rows; i++) NAME(dw_start)(sums[i], set);
    OCT_I8_UNROLL
    for (int t = 0; t < taps; t++) {
        RAW raw[6];
        VECTOR column[3][GROUP];
        const ptrdiff_t at = base * stride + (ptrdiff_t)(t - p->left) * channels;
        OCT_I8_UNROLL
        for (int r = 0; r < n; r++) {
            const uint8_t *row = job->rows[r];
            raw[r] = border ? NAME(dw_flat_load)(row, at, width, p->fill) : RAW_LOAD(row + at);
            if (stride == 2) {
                const RAW next = border ? NAME(dw_flat_load)(row, at + BLOCK, width, p->fill) : RAW_LOAD(row + at + BLOCK);
                raw[r] = RAW_EVEN(raw[r], next, channels);
            }
        }
        NAME(dw_interleave)(column, raw, n, kind);
        OCT_I8_UNROLL
        for (int i = 0; i < rows; i++) NAME(dw_add)(sums[i], column, set, i, t, taps, n);
    }
    OCT_I8_UNROLL
    for (int i = 0; i < rows; i++) {
        const RAW codes = NAME(dw_codes)(sums[i], set, p, kind);
        uint8_t *out = job->out + i * p->out_row + base;
        if (count >= BLOCK)
            RAW_STORE(out, codes);
        else
            RAW_STORE_SOME(out, codes, (int)count);
    }
}

/* `rows` output rows, flat. */
static inline __attribute__((always_inline)) TARGET void NAME(dw_flat)(const NAME(dw_job) *job, size_t set_bytes, int sets,
                                                                       int taps, int stride, int rows, int kind)
{
    const oct_i8_depthwise_rows *p = job->p;
    const ptrdiff_t channels = p->layer.channels, width = p->width * channels, count = p->pixels * channels;
    const ptrdiff_t before = p->left * channels, reach = (taps - 1 - p->left) * channels + BLOCK * stride;
    int which = 0;
    for (ptrdiff_t base = 0; base < count; base += BLOCK, which = which + 1 < sets ? which + 1 : 0) {
        const char *set = job->set + (size_t)which * set_bytes;
        if (base * stride >= before && base * stride + reach <= width && count - base >= BLOCK)
            NAME(dw_flat_block)(job, set, base, width, BLOCK, taps, stride, rows, kind, 0);
        else
            NAME(dw_flat_block)(job, set, base, width, count - base, taps, stride, rows, kind, 1);
    }
}

/* One or two output rows of every block; taps, stride, tile and kind are constants in every use. */
static inline __attribute__((always_inline)) TARGET void NAME(dw_rows)(NAME(dw_job) *job, const oct_i8_depthwise_cut *cut,
                                                                       int two, int taps, int stride, int tile,
                                                                       int kind)
{
    const char *packed = job->set;
    const int pair = stride == 1 && taps == 3;
    if (cut->flat) {
        if (pair && two)
            NAME(dw_flat)(job, cut->set_bytes, cut->sets, taps, stride, 2, kind);
        else
            NAME(dw_flat)(job, cut->set_bytes, cut->sets, taps, stride, 1, kind);
        return;
    }
    for (int i = 0; i < cut->sets; i++) {
        const int channel = i * BLOCK, last = job->p->layer.channels - BLOCK;
        job->set = packed + (size_t)i * cut->set_bytes;
        job->channel = channel < last ? channel : last;
        if (pair && two)
            NAME(dw_wide)(job, taps, stride, 2, tile, kind);
        else
            NAME(dw_wide)(job, taps, stride, 1, pair ? 4 : tile, kind);
    }
}

#define SHAPE(shape, taps, stride, tile)                                                                                \
    static TARGET void NAME(dw_##shape)(NAME(dw_job) *job, const oct_i8_depthwise_cut *cut, int two)                   \
    {                                                                                                                  \
        if (job->p->affine)                                                                                            \
            NAME(dw_rows)(job, cut, two, taps, stride, tile, OCT_I8_CODES_AFFINE);                                     \
        else if (job->p->layer.is_signed)                                                                              \
            NAME(dw_rows)(job, cut, two, taps, stride, tile, OCT_I8_CODES_S8);                                         \
        else                                                                                                           \
            NAME(dw_rows)(job, cut, two, taps, stride, tile, OCT_I8_CODES_U8);                                         \
    }
SHAPE(3x3s1, 3, 1, PIXELS_S1)
SHAPE(3x3s2, 3, 2, PIXELS_S2)
SHAPE(5x5s1, 5, 1, PIXELS_5)
SHAPE(5x5s2, 5, 2, PIXELS_5)
#undef SHAPE

static TARGET void NAME(depthwise_codes)(uint8_t *codes, const void *packed, const oct_i8_depthwise_rows *p)
{
    const oct_i8_depthwise *layer = &p->layer;
    const oct_i8_depthwise_cut cut = oct_i8_depthwise_cut_of(layer, GROUP, LANES);
    for (int y = 0; y < p->out_rows; y += cut.rows) {
        NAME(dw_job) job = {.p = p, .rows = p->rows + y * layer->stride, .out = codes + y * p->out_row, .set = packed};
        const int two = cut.rows == 2 && y + 1 < p->out_rows;
        if (layer->taps == 3 && layer->stride == 1)
            NAME(dw_3x3s1)(&job, &cut, two);
        else if (layer->taps == 3)
            NAME(dw_3x3s2)(&job, &cut, two);
        else if (layer->stride == 1)
            NAME(dw_5x5s1)(&job, &cut, two);
        else
            NAME(dw_5x5s2)(&job, &cut, two);
    }
}

static size_t NAME(packed_depthwise_codes_bytes)(const oct_i8_depthwise *layer)
{
    const oct_i8_depthwise_cut cut = oct_i8_depthwise_cut_of(layer, GROUP, LANES);
    return (size_t)cut.sets * cut.set_bytes;
}

#ifndef PACK_DEPTHWISE
#define PACK_DEPTHWISE NAME(pack_depthwise_codes)
static void NAME(pack_depthwise_codes)(void *packed, const int8_t *w, const int32_t *start, const int32_t *shift,
                                       const oct_i8_depthwise *layer)
{
    oct_i8_pack_depthwise_blocks(packed, w, start, shift, layer, GROUP, LANES, GROUP == 4 && layer->is_signed ? 128 : 0);
}
#endif

void NAME(oct_i8_fill_depthwise_codes)(oct_i8_kernels *table)
{
    table->packed_depthwise_codes_bytes = NAME(packed_depthwise_codes_bytes);
    table->pack_depthwise_codes = PACK_DEPTHWISE;
    table->depthwise_codes = NAME(depthwise_codes);
}

#undef BLOCK
#undef COLUMN_GROUPS
#undef SET_STARTS
#undef SET_SHIFTS
#undef SET_WEIGHTS
#undef NAME
#undef TARGET
#undef VECTOR
#undef LANES
#undef LOAD
#undef SRA
#undef SCALE
#undef DOT
#undef GROUP
#undef RAW
#undef RAW_LOAD
#undef RAW_STORE
#undef RAW_SET
#undef RAW_PART
#undef RAW_STORE_SOME
#undef RAW_EVEN
#undef OPERANDS
#undef LOW_8
#undef HIGH_8
#undef LOW_16
#undef HIGH_16
#undef PACK_BLOCK
#undef PACK_BLOCK_AFFINE
#undef PACK_DEPTHWISE
#undef PIXELS_S1
#undef PIXELS_S2
#undef PIXELS_5
