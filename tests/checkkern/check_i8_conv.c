/* SPDX-License-Identifier: BSD-2-Clause
 * Convolutions of the int8 table, end to end: padded image, packed weights and row against a direct sum over
 * the codes, because layouts differ from level to level. Pooling, which also walks windows, is here too.
 */
#include "tests/checkkern/check_i8.h"

#include <stdio.h>
#include <string.h>

#include "quant/int8/kernels/i8_internal.h"

enum { RANDOM, LARGEST, SMALLEST, EXTREMES }; /* kinds of codes and weights */

/* A row of pixels, dense or depthwise. The image is exactly as large as the row needs. */
typedef struct row_case {
    int pixels, outputs, taps_h, taps_w, channels;
    int stride, dilation;
    int is_signed, fill;
    int extra;  /* padded channels beyond what the kernel reads, in groups (dense) or elements (depthwise) */
    int gap;    /* acc_pixel - outputs */
    int places; /* selects cg_where of each block */
    int codes, weights;
    int32_t start; /* added to random starts */
    int rows;      /* dense: output rows, 0 is 1 */
} row_case;

typedef struct row_setup {
    oct_i8_pad pad;
    int total_height, total_width;
    uint8_t *codes;
    int8_t *w;
    size_t w_count;
    int32_t *bias, *want;
    size_t acc_count;
    ptrdiff_t acc_pixel, acc_next;
    int rows;
} row_setup;

static int round_up(int n, int multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

static void fill_bytes(checkkern *k, void *out, size_t count, int kind, int smallest, int largest)
{
    uint8_t *bytes = out;
    if (kind == RANDOM) checkkern_random_bytes(k, bytes, count);
    for (size_t i = 0; i < count && kind != RANDOM; i++) {
        const int large = kind == EXTREMES ? checkkern_random(k, 0, 1) : kind == LARGEST;
        bytes[i] = (uint8_t)(large ? largest : smallest);
    }
}

/* Splits `total` into border, inside (at least 1), border. */
static void split(checkkern *k, int total, int *before, int *inside, int *after)
{
    *before = checkkern_random(k, 0, total > 3 ? 2 : total - 1);
    *after = checkkern_random(k, 0, total - *before > 2 ? 2 : total - *before - 1);
    *inside = total - *before - *after;
}

static void set_up(checkkern *k, row_setup *s, const row_case *c, size_t w_count)
{
    s->rows = c->rows > 1 ? c->rows : 1;
    s->total_height = (s->rows - 1) * c->stride + (c->taps_h - 1) * c->dilation + 1;
    s->total_width = (c->pixels - 1) * c->stride + (c->taps_w - 1) * c->dilation + 1;
    s->pad = (oct_i8_pad){.channels = c->channels,
                          .source_pixel = c->channels + c->extra,
                          .is_signed = c->is_signed,
                          .fill = c->fill};
    split(k, s->total_height, &s->pad.top, &s->pad.height, &s->pad.bottom);
    split(k, s->total_width, &s->pad.left, &s->pad.width, &s->pad.right);
    const size_t count =
        ((size_t)(s->pad.height * s->pad.width) - 1) * (size_t)s->pad.source_pixel + (size_t)c->channels;
    s->codes = cg_alloc(k, count, cg_where(c->places % CG_PLACES, 1));
    fill_bytes(k, s->codes, count, c->codes, c->is_signed ? -128 : 0, c->is_signed ? 127 : 255);
    cg_input(k, s->codes);
    s->w_count = w_count;
    s->w = cg_alloc(k, w_count, cg_where(c->places / 2 % CG_PLACES, 1));
    fill_bytes(k, s->w, w_count, c->weights, -128, 127);
    cg_input(k, s->w);
    s->bias = cg_alloc(k, (size_t)c->outputs * sizeof(int32_t), 0);
    for (int o = 0; o < c->outputs; o++) s->bias[o] = c->start + checkkern_random(k, -1000, 1000);
    s->acc_pixel = c->outputs + c->gap;
    s->acc_next = c->pixels * s->acc_pixel + c->gap;
    s->acc_count = (size_t)(s->rows - 1) * (size_t)s->acc_next + (size_t)(c->pixels - 1) * (size_t)s->acc_pixel +
                   (size_t)c->outputs;
    s->want = cg_alloc(k, s->acc_count * sizeof(int32_t), 0);
}

/* Code at a place of the padded image. */
static int32_t padded_code(const row_setup *s, int y, int x, int channel)
{
    y -= s->pad.top;
    x -= s->pad.left;
    if (y < 0 || x < 0 || y >= s->pad.height || x >= s->pad.width) return s->pad.fill;
    /* Not by a cast to int8_t: gcc 12 -O3 -march=native turns a sum of sign ? s8 : u8 times s8 into a wrong
     * VPDPBUSD. */
    const int32_t code = s->codes[(y * s->pad.width + x) * s->pad.source_pixel + channel];
    return s->pad.is_signed && code > 127 ? code - 256 : code;
}

/* Dense: w[o][r][t][i]. Depthwise: w[r][t][o], the only channel is o. */
static void direct_sum(const row_setup *s, const row_case *c, bool depthwise)
{
    for (int i = 0; i < s->rows * c->pixels; i++) {
        const int line = i / c->pixels, p = i % c->pixels;
        for (int o = 0; o < c->outputs; o++) {
            int32_t sum = s->bias[o];
            for (int r = 0; r < c->taps_h; r++) {
                for (int t = 0; t < c->taps_w; t++) {
                    const int y = line * c->stride + r * c->dilation, x = p * c->stride + t * c->dilation;
                    const int tap = r * c->taps_w + t;
                    if (depthwise) sum += padded_code(s, y, x, o) * s->w[tap * c->channels + o];
                    for (int j = 0; j < c->channels && !depthwise; j++)
                        sum += padded_code(s, y, x, j) *
                               s->w[(o * c->taps_h * c->taps_w + tap) * c->channels + j];
                }
            }
            s->want[line * s->acc_next + p * s->acc_pixel + o] = sum;
        }
    }
}

/* Padded image, correction, start and destination, and the comparison, for both kinds. */
static void run_row(checkkern *k, const oct_i8_kernels *table, row_setup *s, const row_case *c,
                    int padded_channels, bool depthwise)
{
    const int padded_outputs = round_up(c->outputs, OCT_I8_BLOCK),
              where = cg_where(c->places / 4 % CG_PLACES, 4);
    s->pad.padded_channels = padded_channels;
    const size_t image_bytes = (size_t)s->total_height * (size_t)s->total_width * (size_t)padded_channels *
                               (size_t)table->operand_bytes;
    void *x = cg_alloc(k, image_bytes, where);
    const size_t packed_bytes = depthwise
                                    ? table->packed_depthwise_bytes(c->taps_h, c->taps_w, c->channels)
                                    : table->packed_conv_bytes(c->outputs, c->taps_h, c->taps_w, c->channels);
    void *packed = cg_alloc(k, packed_bytes, packed_bytes % 64 == 0 && c->places % 2 ? CG_END : 0);
    int32_t *correction = cg_alloc(k, (size_t)padded_outputs * 4, cg_where(c->places % CG_PLACES, 4));
    int32_t *start = cg_alloc(k, (size_t)padded_outputs * 4, where);
    int32_t *acc = cg_alloc(k, s->acc_count * 4, where);
    checkkern_call_begin(k);
    table->pad_image(x, s->codes, &s->pad);
    if (depthwise)
        table->pack_depthwise(packed, correction, s->w, c->taps_h, c->taps_w, c->channels, c->is_signed);
    else
        table->pack_conv(packed, correction, s->w, c->outputs, c->taps_h, c->taps_w, c->channels,
                         c->is_signed);
    checkkern_call_end(k);
    for (int o = 0; o < padded_outputs; o++) {
        if (o >= c->outputs && correction[o] != 0)
            checkkern_fail(k, "correction[%d] of the padding is not 0", o);
        start[o] = correction[o] + (o < c->outputs ? s->bias[o] : 0);
    }
    cg_input(k, x);
    cg_input(k, packed);
    cg_input(k, start);
    const ptrdiff_t pixel = padded_channels, row = (ptrdiff_t)s->total_width * pixel;
    for (int twice = 0; twice < 2; twice++) {
        checkkern_call_begin(k);
        if (depthwise) {
            const oct_i8_depthwise_row p = {c->pixels,           c->channels,       c->taps_h,
                                            c->taps_w,           pixel * c->stride, row * c->dilation,
                                            pixel * c->dilation, s->acc_pixel};
            table->depthwise_row(acc, x, packed, start, &p);
        } else {
            const oct_i8_conv_row p = {c->pixels,
                                       c->outputs,
                                       c->taps_h,
                                       c->taps_w,
                                       round_up(c->channels, table->group),
                                       pixel * c->stride,
                                       row * c->dilation,
                                       pixel * c->dilation,
                                       s->acc_pixel,
                                       c->rows,
                                       row * c->stride,
                                       s->acc_next};
            table->conv_row(acc, x, packed, start, &p);
        }
        checkkern_call_end(k);
        checkkern_same_i32(k, "acc", acc, s->want, s->acc_count);
    }
}

static void check_dense(checkkern *k, const oct_i8_kernels *table, const row_case *c)
{
    row_setup s;
    checkkern_case(
        k,
        "rows %d pixels %d outputs %d taps %dx%d channels %d stride %d dilation %d signed %d fill %d extra %d "
        "gap %d places %d codes %d weights %d",
        c->rows, c->pixels, c->outputs, c->taps_h, c->taps_w, c->channels, c->stride, c->dilation, c->is_signed,
        c->fill, c->extra, c->gap, c->places, c->codes, c->weights);
    set_up(k, &s, c, (size_t)c->outputs * (size_t)(c->taps_h * c->taps_w * c->channels));
    direct_sum(&s, c, false);
    run_row(k, table, &s, c, round_up(c->channels, table->group) + c->extra * table->group, false);
}

static void check_depthwise(checkkern *k, const oct_i8_kernels *table, const row_case *c)
{
    row_setup s;
    checkkern_case(k,
                   "pixels %d channels %d taps %dx%d stride %d dilation %d signed %d fill %d extra %d gap %d "
                   "places %d codes %d weights %d",
                   c->pixels, c->channels, c->taps_h, c->taps_w, c->stride, c->dilation, c->is_signed,
                   c->fill, c->extra, c->gap, c->places, c->codes, c->weights);
    set_up(k, &s, c, (size_t)(c->taps_h * c->taps_w * c->channels));
    direct_sum(&s, c, true);
    run_row(k, table, &s, c, c->channels + c->extra, true);
}

static row_case random_row(checkkern *k, int most_channels)
{
    row_case c = {.pixels = checkkern_random(k, 1, 40),
                  .outputs = checkkern_random(k, 1, 100),
                  .taps_h = checkkern_random(k, 1, 5),
                  .taps_w = checkkern_random(k, 1, 5),
                  .channels = checkkern_random(k, 1, most_channels),
                  .stride = checkkern_random(k, 1, 3),
                  .dilation = checkkern_random(k, 1, 2),
                  .is_signed = checkkern_random(k, 0, 1),
                  .extra = checkkern_random(k, 0, 1) * checkkern_random(k, 0, 5),
                  .gap = checkkern_random(k, 0, 9),
                  .places = checkkern_random(k, 0, 63),
                  .codes = checkkern_random(k, RANDOM, EXTREMES),
                  .weights = checkkern_random(k, RANDOM, EXTREMES)};
    c.fill = c.is_signed ? checkkern_random(k, -128, 127) : checkkern_random(k, 0, 255);
    return c;
}

static void check_dense_table(checkkern *k, const oct_i8_kernels *table)
{
    const row_case base = {.pixels = 5,
                           .outputs = 17,
                           .taps_h = 3,
                           .taps_w = 3,
                           .channels = 5,
                           .stride = 1,
                           .dilation = 1,
                           .gap = 3};
    row_case c = base;
    for (int i = 0; i < 2 * 4;
         i++) { /* one dimension at a time, for outputs of one, two and four blocks, both signs */
        static const int outputs[4] = {7, 17, 33, 65};
        c = base;
        c.is_signed = i / 4;
        c.outputs = outputs[i % 4];
        c.places = i;
        for (c.pixels = 1; c.pixels <= 33; c.pixels++) check_dense(k, table, &c);
        c.pixels = 5;
        for (c.channels = 1; c.channels <= 17; c.channels++) check_dense(k, table, &c);
        c.channels = 5;
        for (c.taps_h = 1; c.taps_h <= 7; c.taps_h++) check_dense(k, table, &c);
        c.taps_h = 3;
        for (c.taps_w = 1; c.taps_w <= 7; c.taps_w++) check_dense(k, table, &c);
        c.taps_w = 3;
        for (c.stride = 1; c.stride <= 3; c.stride++) check_dense(k, table, &c);
    }
    c = base;
    for (c.outputs = 1; c.outputs <= 129; c.outputs++) {
        c.places++;
        check_dense(k, table, &c);
    }
    for (c.channels = 16; c.channels <= 144; c.channels += 4) { /* calls that are worth tiles */
        c.pixels = c.channels % 37 + 1;
        c.outputs = c.channels % 3 * 16 + 24;
        c.rows = 9;
        c.places++;
        c.is_signed = c.places % 2;
        check_dense(k, table, &c);
    }
    c = base;
    for (int i = 0; i < 16; i++) { /* 255*sum|w| just below 2^29 and a start of 2^30: the documented bound */
        c = (row_case){.pixels = 1 + i / 8,
                       .outputs = 1,
                       .taps_h = 1,
                       .taps_w = 1,
                       .channels = 16440,
                       .stride = 1,
                       .dilation = 1,
                       .is_signed = i & 1,
                       .codes = i & 2 ? LARGEST : SMALLEST,
                       .weights = i & 4 ? LARGEST : SMALLEST,
                       .start = i & 4 ? 1 << 30 : -(1 << 30)};
        check_dense(k, table, &c);
    }
    for (int i = 0; i < checkkern_count(k, 250, 4000); i++) {
        c = random_row(k, 40);
        c.rows = checkkern_random(k, 0, 5);
        check_dense(k, table, &c);
    }
}

static void check_conv_row(checkkern *k, uint32_t mask)
{
    oct_i8_kernels table;
    oct_i8_kernels_init(&table, mask);
    check_dense_table(k, &table);
}

static void check_depthwise_table(checkkern *k, const oct_i8_kernels *table)
{
    for (int i = 0; i < 12; i++) {
        static const int taps[6][2] = {{3, 3}, {5, 5}, {1, 1}, {3, 1}, {7, 7}, {2, 4}};
        row_case c = {.pixels = 5,
                      .taps_h = taps[i / 2][0],
                      .taps_w = taps[i / 2][1],
                      .stride = 1,
                      .dilation = 1,
                      .is_signed = i % 2,
                      .fill = 3,
                      .gap = 1,
                      .places = i};
        for (c.channels = c.outputs = 1; c.channels <= 49; c.channels++, c.outputs++)
            check_depthwise(k, table, &c);
        c.channels = c.outputs = 21;
        for (c.pixels = 1; c.pixels <= 19; c.pixels++) check_depthwise(k, table, &c);
    }
    for (int i = 0; i < checkkern_count(k, 400, 6000); i++) {
        row_case c = random_row(k, 80);
        c.outputs = c.channels;
        if (checkkern_random(k, 0, 1)) c.taps_h = c.taps_w = checkkern_random(k, 1, 2) * 2 + 1;
        check_depthwise(k, table, &c);
    }
}

static void check_depthwise_row(checkkern *k, uint32_t mask)
{
    oct_i8_kernels table;
    oct_i8_kernels_init(&table, mask);
    check_depthwise_table(k, &table);
}

#if defined(__x86_64__)
/* The code of level avxvnni in the encoding that AVX-512 machines have. */
static void check_vnni256(checkkern *k, uint32_t mask)
{
    oct_i8_kernels table;
    oct_i8_kernels_init(&table, mask);
    oct_i8_fill_vnni256(&table);
    check_dense_table(k, &table);
    check_depthwise_table(k, &table);
}
#endif

static int64_t operand_at(const oct_i8_kernels *table, const void *image, size_t index)
{
    return table->operand_bytes == 1 ? ((const uint8_t *)image)[index] : ((const int16_t *)image)[index];
}

static void check_pad_image(checkkern *k, uint32_t mask)
{
    oct_i8_kernels table;
    oct_i8_kernels_init(&table, mask);
    for (int i = 0; i < checkkern_count(k, 300, 3000); i++) {
        row_case c = random_row(k, 37);
        row_setup s;
        checkkern_case(k, "image %d", i);
        set_up(k, &s, &c, 1);
        if (i % 3 == 0) s.pad.source_pixel = s.pad.channels;
        s.pad.padded_channels = c.channels + (i % 2 ? 0 : checkkern_random(k, 0, 6));
        const size_t count = (size_t)(s.total_height * s.total_width * s.pad.padded_channels);
        void *image = cg_alloc(k, count * (size_t)table.operand_bytes, cg_where(i % CG_PLACES, 2));
        checkkern_call_begin(k);
        table.pad_image(image, s.codes, &s.pad);
        checkkern_call_end(k);
        for (size_t e = 0; e < count; e++) {
            const int channel = (int)(e % (size_t)s.pad.padded_channels);
            const int place = (int)(e / (size_t)s.pad.padded_channels);
            int64_t want = 0;
            if (channel < c.channels) {
                want = padded_code(&s, place / s.total_width, place % s.total_width, channel);
                if (table.operand_bytes == 1 && c.is_signed) want += 128;
            }
            if (operand_at(&table, image, e) != want) checkkern_fail(k, "operand %zu is wrong", e);
        }
    }
}

static void check_pool(checkkern *k, uint32_t mask)
{
    oct_i8_kernels c, t;
    oct_i8_kernels_init(&c, 0);
    oct_i8_kernels_init(&t, mask);
    for (int i = 0; i < checkkern_count(k, 600, 5000); i++) {
        const int channels = i < 130 ? i + 1 : checkkern_random(k, 1, 200), is_signed = i % 2;
        const int rows = checkkern_random(k, 1, 4), cols = checkkern_random(k, 1, 4);
        const ptrdiff_t pixel = channels + checkkern_random(k, 0, 3),
                        row = cols * pixel + checkkern_random(k, 0, 7);
        checkkern_case(k, "window %dx%d channels %d signed %d", rows, cols, channels, is_signed);
        const size_t count = (size_t)((rows - 1) * row + (cols - 1) * pixel + channels);
        uint8_t *x = cg_alloc(k, count, cg_where(i % CG_PLACES, 1));
        fill_bytes(k, x, count, i % 5 == 4 ? EXTREMES : RANDOM, is_signed ? -128 : 0, is_signed ? 127 : 255);
        cg_input(k, x);
        uint8_t *want = cg_alloc(k, (size_t)channels, 0),
                *got = cg_alloc(k, (size_t)channels, cg_where(i / 4 % CG_PLACES, 1));
        int32_t *want_sum = cg_alloc(k, (size_t)channels * 4, 0);
        int32_t *got_sum = cg_alloc(k, (size_t)channels * 4, cg_where(i / 4 % CG_PLACES, 4));
        c.pool_max(want, x, rows, cols, row, pixel, channels, is_signed);
        c.pool_sum(want_sum, x, rows, cols, row, pixel, channels, is_signed);
        checkkern_call_begin(k);
        t.pool_max(got, x, rows, cols, row, pixel, channels, is_signed);
        t.pool_sum(got_sum, x, rows, cols, row, pixel, channels, is_signed);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "max", got, want, (size_t)channels);
        checkkern_same_i32(k, "sum", got_sum, want_sum, (size_t)channels);
    }
}

/* ---- bench ---- */

typedef struct bench_row {
    oct_i8_kernels table;
    oct_i8_conv_row conv;
    oct_i8_depthwise_row depthwise;
    int32_t *acc, *start;
    void *x, *w;
} bench_row;

static void call_conv(void *arg)
{
    bench_row *b = arg;
    b->table.conv_row(b->acc, b->x, b->w, b->start, &b->conv);
}

static void call_depthwise(void *arg)
{
    bench_row *b = arg;
    b->table.depthwise_row(b->acc, b->x, b->w, b->start, &b->depthwise);
}

static void bench_memory(checkkern *k, bench_row *b, int pixels, int outputs, int taps, int channels,
                         size_t w_bytes)
{
    const size_t operands = (size_t)((pixels + taps - 1) * taps * channels);
    b->x = cg_alloc(k, operands * (size_t)b->table.operand_bytes, 0);
    memset(b->x, 1, operands * (size_t)b->table.operand_bytes);
    b->w = cg_alloc(k, w_bytes, 0);
    memset(b->w, 1, w_bytes);
    b->start = cg_alloc(k, (size_t)round_up(outputs, OCT_I8_BLOCK) * 4, 0);
    b->acc = cg_alloc(k, (size_t)(pixels * outputs) * 4, 0);
    memset(b->start, 0, (size_t)round_up(outputs, OCT_I8_BLOCK) * 4);
}

static void bench_conv_row(checkkern *k, uint32_t mask)
{
    static const int shapes[][4] = {/* pixels, channels, outputs, taps */
                                    {32, 3, 16, 3},  {32, 16, 16, 3}, {16, 32, 32, 3}, {8, 64, 64, 3},
                                    {32, 16, 96, 1}, {8, 64, 64, 1},  {1, 64, 10, 1}};
    bench_row b;
    oct_i8_kernels_init(&b.table, mask);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int pixels = shapes[i][0], outputs = shapes[i][2], taps = shapes[i][3];
        const int channels = round_up(shapes[i][1], b.table.group);
        char name[64];
        checkkern_case(k, "bench %zu", i);
        bench_memory(k, &b, pixels, outputs, taps, channels,
                     b.table.packed_conv_bytes(outputs, taps, taps, shapes[i][1]));
        b.conv = (oct_i8_conv_row){
            pixels,   outputs, taps, taps, channels, channels, (ptrdiff_t)(pixels + taps - 1) * channels,
            channels, outputs, 1, 0, 0};
        snprintf(name, sizeof name, "%d pixels %d->%d %dx%d", pixels, shapes[i][1], outputs, taps, taps);
        checkkern_rate(k, name, checkkern_seconds(k, call_conv, &b),
                       2.0 * pixels * outputs * taps * taps * shapes[i][1], "GOP/s");
    }
}

static void bench_depthwise_row(checkkern *k, uint32_t mask)
{
    static const int shapes[][4] = {/* pixels, channels, taps, stride */
                                    {32, 32, 3, 1},
                                    {16, 64, 3, 1},
                                    {8, 128, 3, 2},
                                    {14, 96, 5, 1}};
    bench_row b;
    oct_i8_kernels_init(&b.table, mask);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const int pixels = shapes[i][0], channels = shapes[i][1], taps = shapes[i][2], stride = shapes[i][3];
        char name[64];
        checkkern_case(k, "bench %zu", i);
        bench_memory(k, &b, pixels * stride, channels, taps, channels,
                     b.table.packed_depthwise_bytes(taps, taps, channels));
        b.depthwise = (oct_i8_depthwise_row){
            pixels,   channels,          taps,
            taps,     channels * stride, (ptrdiff_t)(pixels * stride + taps - 1) * channels,
            channels, channels};
        snprintf(name, sizeof name, "%d pixels %d channels %dx%d/%d", pixels, channels, taps, taps, stride);
        checkkern_rate(k, name, checkkern_seconds(k, call_depthwise, &b),
                       2.0 * pixels * channels * taps * taps, "GOP/s");
    }
}

void check_i8_convolutions(checkkern *k)
{
    checkkern_entry(k, "i8.pad_image", check_i8_levels, check_pad_image, NULL);
    checkkern_entry(k, "i8.conv_row", check_i8_levels, check_conv_row, bench_conv_row);
    checkkern_entry(k, "i8.depthwise_row", check_i8_levels, check_depthwise_row, bench_depthwise_row);
#if defined(__x86_64__)
    static const char *const levels[] = {"avx512vnni", NULL};
    checkkern_entry(k, "i8.vnni256", levels, check_vnni256, NULL);
#endif
    checkkern_entry(k, "i8.pool", check_i8_levels, check_pool, NULL);
}
