/* SPDX-License-Identifier: BSD-2-Clause
 * The entries that write codes in their epilogue: against sums, and the rounding shift and clamp of requant.h, or the
 * multiplier and zero point of affine.h.
 */
#include "tests/checkkern/check_i8.h"

#include <stdio.h>
#include <string.h>

#include "quant/int8/kernels/i8_internal.h"
#include "quant/int8/affine.h"
#include "quant/int8/requant.h"

typedef struct limits {
    int lo, hi;
} limits;

static limits random_limits(checkkern *k)
{
    static const limits usual[] = {{0, 255}, {-128, 127}, {0, 127}, {0, 200}, {-100, 90}, {3, 250}, {-1, 0}, {255, 255}};
    return usual[checkkern_random(k, 0, 7)];
}

static void random_codes(checkkern *k, uint8_t *codes, size_t count, int extremes)
{
    checkkern_random_bytes(k, codes, count);
    for (size_t i = 0; extremes && i < count; i++) codes[i] = codes[i] & 1 ? 255 : 0;
}

static void random_weights(checkkern *k, int8_t *w, size_t count, int extremes)
{
    checkkern_random_bytes(k, w, count);
    for (size_t i = 0; extremes && i < count; i++) w[i] = w[i] & 1 ? 127 : -128;
}

/* Shifts that spread the codes, or any; 0 and 30 among them. */
static int random_shift(checkkern *k, int usual)
{
    return checkkern_random(k, 0, 7) ? usual + checkkern_random(k, -2, 2) : checkkern_random(k, 0, OCT_I8_MAX_CODE_SHIFT);
}

/* Multipliers: such that codes spread, powers of two (ties), the largest allowed, almost 0. */
static float random_multiplier(checkkern *k, int extremes)
{
    const float usual = (extremes ? 0x1p-11f : 0x1p-8f) * (0.5f + (float)checkkern_random(k, 0, 1000) * 1e-3f);
    switch (checkkern_random(k, 0, 7)) {
    case 0: return ldexpf(1.0f, -checkkern_random(k, 1, 14));
    case 1: return OCT_I8_MAX_CODE_MULTIPLIER;
    case 2: return checkkern_random(k, 0, 1) ? 0.0f : 0x1p-60f;
    default: return usual;
    }
}

/* ---- dense ---- */

typedef struct dense_case {
    int pixels, outputs, taps, channels, gap, places, extremes;
    limits limits;
} dense_case;

static void check_dense(checkkern *k, const oct_i8_kernels *table, const dense_case *c)
{
    checkkern_case(k, "pixels %d outputs %d taps %d channels %d gap %d places %d lo %d hi %d", c->pixels, c->outputs,
                   c->taps, c->channels, c->gap, c->places, c->limits.lo, c->limits.hi);
    const int group = table->group, padded = (c->channels + group - 1) / group * group;
    const int blocks = (c->outputs + OCT_I8_BLOCK - 1) / OCT_I8_BLOCK * OCT_I8_BLOCK, width = c->pixels + c->taps - 1;
    const size_t source = (size_t)(c->taps * width * c->channels), weights = (size_t)(c->outputs * c->taps * c->taps * c->channels);
    uint8_t *in = cg_alloc(k, source, 0);
    int8_t *w = cg_alloc(k, weights, 0);
    random_codes(k, in, source, c->extremes);
    random_weights(k, w, weights, c->extremes);
    void *x = cg_alloc(k, (size_t)(c->taps * width * padded * table->operand_bytes), cg_where(c->places % CG_PLACES, 2));
    const oct_i8_pad pad = {.height = c->taps, .width = width, .channels = c->channels, .source_pixel = c->channels,
                            .padded_channels = padded};
    table->pad_image(x, in, &pad);
    void *packed = cg_alloc(k, (table->packed_conv_bytes(c->outputs, c->taps, c->taps, c->channels) + 63) / 64 * 64, 0);
    int32_t *start = cg_alloc(k, (size_t)blocks * 4, 0), *rounded = cg_alloc(k, (size_t)blocks * 4, 0);
    int32_t *shift = cg_alloc(k, (size_t)blocks * 4, 0);
    table->pack_conv(packed, start, w, c->outputs, c->taps, c->taps, c->channels, 0);
    for (int o = 0; o < blocks; o++) {
        shift[o] = o < c->outputs ? random_shift(k, c->extremes ? 10 : 8) : 0;
        if (o < c->outputs) start[o] += checkkern_random(k, -4000, 4000);
        rounded[o] = start[o] + oct_i8_rounding(shift[o]);
    }
    const oct_i8_conv_row p = {c->pixels, c->outputs, c->taps,  c->taps,
                               padded,    padded,     (ptrdiff_t)width * padded, padded,
                               c->outputs + c->gap, 1, 0, 0};
    const size_t count = (size_t)(c->pixels - 1) * (size_t)p.acc_pixel + (size_t)c->outputs;
    int32_t *acc = cg_alloc(k, count * 4, 0);
    uint8_t *want = cg_alloc(k, count, 0), *got = cg_alloc(k, count, cg_where(c->places / 4 % CG_PLACES, 1));
    table->conv_row(acc, x, packed, start, &p);
    for (int i = 0; i < c->pixels * c->outputs; i++) {
        const size_t at = (size_t)(i / c->outputs) * (size_t)p.acc_pixel + (size_t)(i % c->outputs);
        want[at] = (uint8_t)oct_clamp_i32(oct_rshift_round(acc[at], shift[i % c->outputs]), c->limits.lo, c->limits.hi);
    }
    cg_input(k, x);
    cg_input(k, packed);
    cg_input(k, rounded);
    cg_input(k, shift);
    const oct_i8_output output = {.shift = shift, .lo = c->limits.lo, .hi = c->limits.hi};
    checkkern_call_begin(k);
    table->conv_codes(got, x, packed, rounded, &p, &output);
    checkkern_call_end(k);
    checkkern_same_bytes(k, "codes", got, want, count);
    if (c->limits.lo < 0) return;
    float *multiplier = cg_alloc(k, (size_t)blocks * 4, 0);
    const int zero = checkkern_random(k, 0, 3) ? checkkern_random(k, 0, 255) : 0;
    for (int o = 0; o < blocks; o++) multiplier[o] = o < c->outputs ? random_multiplier(k, c->extremes) : 0;
    for (int i = 0; i < c->pixels * c->outputs; i++) {
        const size_t at = (size_t)(i / c->outputs) * (size_t)p.acc_pixel + (size_t)(i % c->outputs);
        want[at] = (uint8_t)oct_affine_round((float)acc[at] * multiplier[i % c->outputs], zero, c->limits.lo, c->limits.hi);
    }
    cg_input(k, multiplier);
    cg_input(k, start);
    const oct_i8_output affine = {.multiplier = multiplier, .zero = zero, .lo = c->limits.lo, .hi = c->limits.hi};
    checkkern_call_begin(k);
    table->conv_codes(got, x, packed, start, &p, &affine);
    checkkern_call_end(k);
    checkkern_same_bytes(k, "codes", got, want, count);
}

/* The documented bound: 255 * sum|w| just below 2^29, a start of almost 2^30, the largest shift. */
static void check_dense_bound(checkkern *k, const oct_i8_kernels *table, int i)
{
    enum { CHANNELS = 16440 };
    checkkern_case(k, "bound %d", i);
    const int group = table->group, padded = (CHANNELS + group - 1) / group * group;
    uint8_t *in = cg_alloc(k, CHANNELS, 0);
    int8_t *w = cg_alloc(k, CHANNELS, 0);
    memset(in, i & 1 ? 255 : 0, CHANNELS);
    memset(w, i & 2 ? 127 : -127, CHANNELS);
    void *x = cg_alloc(k, (size_t)(padded * table->operand_bytes), 0);
    const oct_i8_pad pad = {.height = 1, .width = 1, .channels = CHANNELS, .source_pixel = CHANNELS, .padded_channels = padded};
    table->pad_image(x, in, &pad);
    void *packed = cg_alloc(k, (table->packed_conv_bytes(1, 1, 1, CHANNELS) + 63) / 64 * 64, 0);
    int32_t start[OCT_I8_BLOCK], shift[OCT_I8_BLOCK] = {OCT_I8_MAX_CODE_SHIFT};
    table->pack_conv(packed, start, w, 1, 1, 1, CHANNELS, 0);
    const int32_t bias = i & 4 ? (1 << 30) - 1 : -(1 << 30) + 1;
    const int64_t sum = bias + (int64_t)(i & 1 ? 255 : 0) * (i & 2 ? 127 : -127) * CHANNELS;
    start[0] += bias + oct_i8_rounding(shift[0]);
    const oct_i8_conv_row p = {1, 1, 1, 1, padded, padded, padded, padded, 1, 1, 0, 0};
    const oct_i8_output output = {.shift = shift, .lo = -128, .hi = 127};
    uint8_t got;
    table->conv_codes(&got, x, packed, start, &p, &output);
    if ((int8_t)got != oct_rshift_round((int32_t)sum, shift[0])) checkkern_fail(k, "code %d", (int8_t)got);
    start[0] -= oct_i8_rounding(shift[0]);
    for (int j = 0; j < 2; j++) { /* the largest multiplier saturates, the other one gives codes */
        const float multiplier[OCT_I8_BLOCK] = {j ? OCT_I8_MAX_CODE_MULTIPLIER : 0x1.8p-24f};
        const oct_i8_output affine = {.multiplier = multiplier, .zero = 100, .lo = 3, .hi = 250};
        table->conv_codes(&got, x, packed, start, &p, &affine);
        const int32_t want = oct_affine_round((float)(int32_t)sum * multiplier[0], 100, 3, 250);
        if (got != want) checkkern_fail(k, "code %d, expected %d", got, want);
    }
}

static void check_conv_codes_table(checkkern *k, const oct_i8_kernels *table)
{
    dense_case c = {.pixels = 5, .outputs = 17, .taps = 1, .channels = 5, .limits = {0, 255}};
    for (c.outputs = 1; c.outputs <= 130; c.outputs++, c.places++) check_dense(k, table, &c);
    for (int i = 0; i < 5; i++) {
        static const int outputs[5] = {7, 16, 24, 48, 64};
        c.outputs = outputs[i];
        c.gap = i % 2 * 3;
        for (c.pixels = 1; c.pixels <= 33; c.pixels++, c.places++) check_dense(k, table, &c);
    }
    for (int i = 0; i < 8; i++) check_dense_bound(k, table, i);
    for (int i = 0; i < checkkern_count(k, 300, 4000); i++) {
        c = (dense_case){checkkern_random(k, 1, 40), checkkern_random(k, 1, 140), checkkern_random(k, 0, 1) * 2 + 1,
                         checkkern_random(k, 1, 40), checkkern_random(k, 0, 5),   checkkern_random(k, 0, 63),
                         i % 3 == 0,                 random_limits(k)};
        check_dense(k, table, &c);
    }
}

static void check_conv_codes(checkkern *k, uint32_t mask)
{
    oct_i8_kernels table;
    oct_i8_kernels_init(&table, mask);
    check_conv_codes_table(k, &table);
}

/* ---- depthwise ---- */

typedef struct depthwise_case {
    oct_i8_depthwise layer;
    int out_rows, pixels, left, right, fill, places, extremes, row_gap;
    limits limits;
} depthwise_case;

enum { MOST_ROWS = 40 };

static int32_t code_at(const depthwise_case *c, const uint8_t *row, int width, int column, int channel)
{
    if (column < 0 || column >= width) return c->fill;
    const int32_t code = row[column * c->layer.channels + channel];
    return c->layer.is_signed && code > 127 ? code - 256 : code;
}

/* The same rows with multipliers and zero points. */
static void check_depthwise_affine(checkkern *k, const oct_i8_kernels *table, const depthwise_case *c,
                                   oct_i8_depthwise_rows p, const int8_t *w, uint8_t *want, uint8_t *got, size_t count)
{
    const int channels = p.layer.channels, taps = p.layer.taps;
    depthwise_case padded = *c;
    padded.fill = p.fill = checkkern_random(k, 0, 255);
    p.affine = 1;
    p.zero = checkkern_random(k, 0, 255);
    int32_t *start = cg_alloc(k, (size_t)channels * 4, 0), *bits = cg_alloc(k, (size_t)channels * 4, 0);
    float *multiplier = cg_alloc(k, (size_t)channels * 4, 0);
    for (int o = 0; o < channels; o++) {
        multiplier[o] = random_multiplier(k, 0);
        start[o] = checkkern_random(k, -4000, 4000);
    }
    memcpy(bits, multiplier, (size_t)channels * 4);
    void *packed = cg_alloc(k, (table->packed_depthwise_codes_bytes(&p.layer) + 63) / 64 * 64, 0);
    table->pack_depthwise_codes(packed, w, start, bits, &p.layer);
    for (int e = 0; e < p.out_rows * p.pixels * channels; e++) {
        const int y = e / channels / p.pixels, x = e / channels % p.pixels, o = e % channels;
        int32_t sum = start[o];
        for (int i = 0; i < taps * taps; i++)
            sum += w[i * channels + o] * code_at(&padded, p.rows[y * p.layer.stride + i / taps], p.width,
                                                 x * p.layer.stride - p.left + i % taps, o);
        want[y * p.out_row + x * channels + o] = (uint8_t)oct_affine_round((float)sum * multiplier[o], p.zero, p.lo, p.hi);
    }
    checkkern_call_begin(k);
    table->depthwise_codes(got, packed, &p);
    checkkern_call_end(k);
    checkkern_same_bytes(k, "codes", got, want, count);
}

static void check_depthwise(checkkern *k, const oct_i8_kernels *table, const depthwise_case *c)
{
    const oct_i8_depthwise *l = &c->layer;
    const int channels = l->channels, taps = l->taps, rows = (c->out_rows - 1) * l->stride + taps;
    const int width = (c->pixels - 1) * l->stride + taps - c->left - c->right;
    if (width < 1) return;
    const size_t bytes = table->packed_depthwise_codes_bytes(l);
    if (!bytes) return;
    checkkern_case(k, "channels %d taps %d stride %d signed %d rows %d pixels %d left %d width %d fill %d lo %d hi %d",
                   channels, taps, l->stride, l->is_signed, c->out_rows, c->pixels, c->left, width, c->fill, c->limits.lo,
                   c->limits.hi);
    const uint8_t *at[MOST_ROWS];
    uint8_t *in = cg_alloc(k, (size_t)(rows * width * channels), cg_where(c->places % CG_PLACES, 1));
    int8_t *w = cg_alloc(k, (size_t)(taps * taps * channels), 0);
    random_codes(k, in, (size_t)(rows * width * channels), c->extremes);
    random_weights(k, w, (size_t)(taps * taps * channels), c->extremes);
    for (int r = 0; r < rows; r++) at[r] = in + r * width * channels;
    int32_t *start = cg_alloc(k, (size_t)channels * 4, 0), *shift = cg_alloc(k, (size_t)channels * 4, 0);
    for (int o = 0; o < channels; o++) {
        shift[o] = random_shift(k, 8);
        start[o] = checkkern_random(k, -4000, 4000) + oct_i8_rounding(shift[o]);
    }
    void *packed = cg_alloc(k, (bytes + 63) / 64 * 64, 0);
    table->pack_depthwise_codes(packed, w, start, shift, l);
    const oct_i8_depthwise_rows p = {.layer = *l, .rows = at, .out_rows = c->out_rows, .pixels = c->pixels, .width = width,
                                     .left = c->left, .fill = c->fill, .out_row = c->pixels * channels + c->row_gap,
                                     .lo = c->limits.lo, .hi = c->limits.hi};
    const size_t count = (size_t)((c->out_rows - 1) * p.out_row + c->pixels * channels);
    uint8_t *want = cg_alloc(k, count, 0), *got = cg_alloc(k, count, cg_where(c->places / 4 % CG_PLACES, 1));
    for (int e = 0; e < c->out_rows * c->pixels * channels; e++) {
        const int y = e / channels / c->pixels, x = e / channels % c->pixels, o = e % channels;
        int32_t sum = start[o];
        for (int i = 0; i < taps * taps; i++)
            sum += w[i * channels + o] * code_at(c, at[y * l->stride + i / taps], width, x * l->stride - c->left + i % taps, o);
        want[y * p.out_row + x * channels + o] = (uint8_t)oct_clamp_i32(sum >> shift[o], c->limits.lo, c->limits.hi);
    }
    cg_input(k, in);
    cg_input(k, packed);
    checkkern_call_begin(k);
    table->depthwise_codes(got, packed, &p);
    checkkern_call_end(k);
    checkkern_same_bytes(k, "codes", got, want, count);
    if (!l->is_signed && c->limits.lo >= 0) check_depthwise_affine(k, table, c, p, w, want, got, count);
}

static void check_depthwise_codes_table(checkkern *k, const oct_i8_kernels *table)
{
    for (int i = 0; i < 8; i++) {
        depthwise_case c = {.layer = {.taps = i & 1 ? 5 : 3, .stride = i & 2 ? 2 : 1, .is_signed = i >> 2},
                            .out_rows = 3, .pixels = 6, .left = 1, .right = 1, .row_gap = 2, .limits = {0, 255}};
        for (c.layer.channels = 1; c.layer.channels <= 135; c.layer.channels++, c.places++) check_depthwise(k, table, &c);
        for (int j = 0; j < 5; j++) {
            static const int channels[5] = {8, 16, 32, 64, 96};
            c.layer.channels = channels[j];
            for (c.pixels = 1; c.pixels <= 21; c.pixels++) {
                c.places++;
                c.out_rows = 1 + c.pixels % 4;
                check_depthwise(k, table, &c);
            }
        }
    }
    for (int i = 0; i < checkkern_count(k, 400, 6000); i++) {
        const int taps = checkkern_random(k, 0, 1) * 2 + 3, is_signed = checkkern_random(k, 0, 1);
        depthwise_case c = {.layer = {checkkern_random(k, 0, 1) ? checkkern_random(k, 1, 10) * 8 : checkkern_random(k, 1, 200),
                                      taps, checkkern_random(k, 1, 2), is_signed},
                            .out_rows = checkkern_random(k, 1, 5),
                            .pixels = checkkern_random(k, 1, 20),
                            .left = checkkern_random(k, 0, taps - 1),
                            .right = checkkern_random(k, 0, taps - 1),
                            .fill = checkkern_random(k, 0, 1) * (is_signed ? checkkern_random(k, -128, 127) : 9),
                            .places = checkkern_random(k, 0, 63),
                            .extremes = i % 3 == 0,
                            .row_gap = checkkern_random(k, 0, 5),
                            .limits = random_limits(k)};
        check_depthwise(k, table, &c);
    }
}

static void check_depthwise_codes(checkkern *k, uint32_t mask)
{
    oct_i8_kernels table;
    oct_i8_kernels_init(&table, mask);
    check_depthwise_codes_table(k, &table);
}

#if defined(__x86_64__)
static void check_vnni256_codes(checkkern *k, uint32_t mask)
{
    oct_i8_kernels table;
    oct_i8_kernels_init(&table, mask);
    oct_i8_fill_vnni256(&table);
    check_conv_codes_table(k, &table);
    check_depthwise_codes_table(k, &table);
}
#endif

/* ---- pixels behind a table ---- */

static void check_pad_pixels(checkkern *k, uint32_t mask)
{
    oct_i8_kernels table;
    oct_i8_kernels_init(&table, mask);
    for (int i = 0; i < checkkern_count(k, 300, 2000); i++) {
        const int channels = i % 3 ? 3 : checkkern_random(k, 1, 6), rows = i % 2 ? channels : 1, is_signed = i / 2 % 2;
        oct_i8_pad pad = {.height = checkkern_random(k, 1, 4), .width = i < 70 ? i + 1 : checkkern_random(k, 1, 90),
                          .channels = channels, .source_pixel = channels + (i % 7 ? 0 : 2), .top = checkkern_random(k, 0, 2),
                          .left = checkkern_random(k, 0, 2), .bottom = checkkern_random(k, 0, 2),
                          .right = checkkern_random(k, 0, 2), .is_signed = is_signed};
        pad.padded_channels = (channels + table.group - 1) / table.group * table.group;
        checkkern_case(k, "%dx%d channels %d tables %d signed %d", pad.height, pad.width, channels, rows, is_signed);
        const size_t pixels = (size_t)(pad.height * pad.width - 1) * (size_t)pad.source_pixel + (size_t)channels;
        const size_t operands = (size_t)((pad.top + pad.height + pad.bottom) * (pad.left + pad.width + pad.right)) *
                                (size_t)pad.padded_channels * (size_t)table.operand_bytes;
        uint8_t *in = cg_alloc(k, pixels, cg_where(i % CG_PLACES, 1)), *codes = cg_alloc(k, pixels, 0);
        uint8_t *entries = cg_alloc(k, 256 * (size_t)rows, 0);
        checkkern_random_bytes(k, in, pixels);
        checkkern_random_bytes(k, entries, 256 * (size_t)rows);
        for (size_t e = 0; e < pixels; e++) {
            const size_t channel = e % (size_t)pad.source_pixel;
            codes[e] = channel < (size_t)channels ? entries[256 * (rows > 1 ? channel : 0) + in[e]] : 0;
        }
        cg_input(k, in);
        cg_input(k, entries);
        uint8_t *want = cg_alloc(k, operands, 0), *got = cg_alloc(k, operands, cg_where(i / 4 % CG_PLACES, 2));
        table.pad_image(want, codes, &pad);
        checkkern_call_begin(k);
        table.pad_pixels(got, in, entries, rows, &pad);
        checkkern_call_end(k);
        checkkern_same_bytes(k, "operands", got, want, operands);
    }
}

void check_i8_stages(checkkern *k)
{
    checkkern_entry(k, "i8.pad_pixels", check_i8_levels, check_pad_pixels, NULL);
    checkkern_entry(k, "i8.conv_codes", check_i8_levels, check_conv_codes, NULL);
    checkkern_entry(k, "i8.depthwise_codes", check_i8_levels, check_depthwise_codes, NULL);
#if defined(__x86_64__)
    static const char *const levels[] = {"avx512vnni", NULL};
    checkkern_entry(k, "i8.vnni256_codes", levels, check_vnni256_codes, NULL);
#endif
}
