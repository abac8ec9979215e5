/* SPDX-License-Identifier: BSD-2-Clause
 * Template of the two operand layouts: padded images, packed weights and the plain depthwise row on them.
 * Parameters, all undefined at the end:
 *   NAME(f)      function name with the suffix of the layout
 *   OPERAND      type of an activation operand: int16_t or uint8_t
 *   WEIGHT       type of a packed weight: int16_t or int8_t
 *   GROUP        operands that one 32-bit lane holds: 2 or 4 (GROUP * sizeof(OPERAND) == 4)
 *   BIASED       1: s8 codes become code + 128; 0: they stay as they are
 *
 * Dense weights:
 *     [ceil(outputs/16)][taps_h][taps_w][ceil(channels/GROUP)][16][GROUP]
 * Depthwise weights:
 *     [taps_w][ceil(taps_h/GROUP)][channels][GROUP]
 * A depthwise lane holds GROUP taps of one COLUMN of the window, so that a column of activations, once
 * interleaved, serves every pixel that sees it.
 */

static int NAME(groups)(int n)
{
    return (n + GROUP - 1) / GROUP;
}

/* `pixels` source pixels into operands; the padding channels become 0. */
static inline void NAME(convert)(OPERAND *out, const uint8_t *codes, int pixels, ptrdiff_t source_pixel,
                                 int channels, int padded_channels, int is_signed)
{
    const uint8_t flip = BIASED && is_signed ? 0x80 : 0; /* code + 128 modulo 256 */
    for (int x = 0; x < pixels; x++, out += padded_channels, codes += source_pixel) {
        if (BIASED || !is_signed)
            for (int c = 0; c < channels; c++) out[c] = (OPERAND)(codes[c] ^ flip);
        else
            for (int c = 0; c < channels; c++) out[c] = (OPERAND)(int8_t)codes[c];
        for (int c = channels; c < padded_channels; c++) out[c] = 0;
    }
}

/* A row without gaps or extra channels is one long pixel; images of 1 and 3 channels get loops of constant
 * length. */
static void NAME(convert_row)(OPERAND *out, const uint8_t *codes, const oct_i8_pad *p)
{
    const int padded = p->padded_channels;
    if (padded == p->channels && p->source_pixel == p->channels)
        NAME(convert)(out, codes, 1, 0, p->width * p->channels, p->width * p->channels, p->is_signed);
    else if (p->channels == 3 && padded == 4)
        NAME(convert)(out, codes, p->width, p->source_pixel, 3, 4, p->is_signed);
    else if (p->channels == 1 && padded == GROUP)
        NAME(convert)(out, codes, p->width, p->source_pixel, 1, GROUP, p->is_signed);
    else
        NAME(convert)(out, codes, p->width, p->source_pixel, p->channels, padded, p->is_signed);
}

static OPERAND *NAME(fill_border)(OPERAND *out, size_t pixels, const oct_i8_pad *p)
{
    const OPERAND fill = (OPERAND)(p->fill + (BIASED && p->is_signed ? 128 : 0));
    const int channels = p->channels, padded = p->padded_channels; /* bytes written to out might alias *p */
    for (size_t i = 0; i < pixels; i++, out += padded) {
        for (int c = 0; c < channels; c++) out[c] = fill;
        for (int c = channels; c < padded; c++) out[c] = 0;
    }
    return out;
}

static void NAME(pad_image)(void *image, const void *codes, const oct_i8_pad *p)
{
    OPERAND *out = image;
    const uint8_t *in = codes;
    const size_t out_width = (size_t)p->left + (size_t)p->width + (size_t)p->right;
    out = NAME(fill_border)(out, (size_t)p->top * out_width, p);
    for (int y = 0; y < p->height; y++) {
        out = NAME(fill_border)(out, (size_t)p->left, p);
        NAME(convert_row)(out, in, p);
        out += p->width * p->padded_channels;
        in += p->width * p->source_pixel;
        out = NAME(fill_border)(out, (size_t)p->right, p);
    }
    NAME(fill_border)(out, (size_t)p->bottom * out_width, p);
}

static void NAME(lookup_row)(OPERAND *out, const uint8_t *pixels, const uint8_t *table, int table_rows,
                             const oct_i8_pad *p)
{
    const int flip = BIASED && p->is_signed ? 0x80 : 0, plain_sign = !BIASED && p->is_signed;
    for (int x = 0; x < p->width; x++, out += p->padded_channels, pixels += p->source_pixel) {
        for (int c = 0; c < p->padded_channels; c++) out[c] = 0;
        for (int c = 0; c < p->channels; c++) {
            const uint8_t code = table[256 * (table_rows > 1 ? c : 0) + pixels[c]];
            out[c] = plain_sign ? (OPERAND)(int8_t)code : (OPERAND)(code ^ flip);
        }
    }
}

void NAME(oct_i8_pad_pixels)(void *image, const uint8_t *pixels, const uint8_t *table, int table_rows,
                             const oct_i8_pad *p)
{
    OPERAND *out = image;
    const size_t out_width = (size_t)p->left + (size_t)p->width + (size_t)p->right;
    out = NAME(fill_border)(out, (size_t)p->top * out_width, p);
    for (int y = 0; y < p->height; y++) {
        out = NAME(fill_border)(out, (size_t)p->left, p);
        NAME(lookup_row)(out, pixels, table, table_rows, p);
        out += p->width * p->padded_channels;
        pixels += p->width * p->source_pixel;
        out = NAME(fill_border)(out, (size_t)p->right, p);
    }
    NAME(fill_border)(out, (size_t)p->bottom * out_width, p);
}

static size_t NAME(packed_conv_bytes)(int outputs, int taps_h, int taps_w, int channels)
{
    const size_t blocks = ((size_t)outputs + OCT_I8_BLOCK - 1) / OCT_I8_BLOCK;
    return blocks * (size_t)taps_h * (size_t)taps_w * (size_t)NAME(groups)(channels) * OCT_I8_BLOCK * 4;
}

static void NAME(pack_conv)(void *packed, int32_t *correction, const int8_t *w, int outputs, int taps_h,
                            int taps_w, int channels, int is_signed)
{
    const size_t taps = (size_t)taps_h * (size_t)taps_w, groups = (size_t)NAME(groups)(channels);
    const int padded = (outputs + OCT_I8_BLOCK - 1) / OCT_I8_BLOCK * OCT_I8_BLOCK;
    memset(packed, 0, NAME(packed_conv_bytes)(outputs, taps_h, taps_w, channels));
    for (int o = 0; o < padded; o++) {
        int32_t sum = 0;
        WEIGHT *out = (WEIGHT *)packed + (size_t)(o / OCT_I8_BLOCK) * taps * groups * OCT_I8_BLOCK * GROUP +
                      (size_t)(o % OCT_I8_BLOCK) * GROUP;
        for (size_t tap = 0; o < outputs && tap < taps; tap++) {
            const int8_t *in = w + ((size_t)o * taps + tap) * (size_t)channels;
            for (int i = 0; i < channels; i++) {
                out[(tap * groups + (size_t)(i / GROUP)) * OCT_I8_BLOCK * GROUP + (size_t)(i % GROUP)] =
                    in[i];
                sum += in[i];
            }
        }
        correction[o] = BIASED && is_signed ? -128 * sum : 0;
    }
}

static size_t NAME(packed_depthwise_bytes)(int taps_h, int taps_w, int channels)
{
    return (size_t)taps_w * (size_t)NAME(groups)(taps_h) * (size_t)channels * 4;
}

static void NAME(pack_depthwise)(void *packed, int32_t *correction, const int8_t *w, int taps_h, int taps_w,
                                 int channels, int is_signed)
{
    WEIGHT *out = packed;
    const int padded = (channels + OCT_I8_BLOCK - 1) / OCT_I8_BLOCK * OCT_I8_BLOCK;
    memset(packed, 0, NAME(packed_depthwise_bytes)(taps_h, taps_w, channels));
    memset(correction, 0, (size_t)padded * sizeof correction[0]);
    for (int r = 0; r < taps_h; r++) {
        for (int t = 0; t < taps_w; t++) {
            const size_t column = (size_t)t * (size_t)NAME(groups)(taps_h) + (size_t)(r / GROUP);
            for (int c = 0; c < channels; c++) {
                const int8_t weight = w[(size_t)(r * taps_w + t) * (size_t)channels + (size_t)c];
                out[(column * (size_t)channels + (size_t)c) * GROUP + (size_t)(r % GROUP)] = weight;
                if (BIASED && is_signed) correction[c] -= 128 * weight;
            }
        }
    }
}

void NAME(oct_i8_depthwise_row)(int32_t *acc, const void *x, const void *w, const int32_t *start,
                                const oct_i8_depthwise_row *p)
{
    const int groups = NAME(groups)(p->taps_h);
    for (int pixel = 0; pixel < p->pixels; pixel++) {
        int32_t *out = acc + pixel * p->acc_pixel;
        for (int c = 0; c < p->channels; c++) out[c] = start[c];
        for (int r = 0; r < p->taps_h; r++) {
            for (int t = 0; t < p->taps_w; t++) {
                const OPERAND *in = (const OPERAND *)x + pixel * p->x_pixel + r * p->x_row + t * p->x_tap;
                const WEIGHT *weights = (const WEIGHT *)w +
                                        ((size_t)(t * groups + r / GROUP) * (size_t)p->channels) * GROUP +
                                        r % GROUP;
                for (int c = 0; c < p->channels; c++) out[c] += in[c] * weights[(size_t)c * GROUP];
            }
        }
    }
}

void NAME(oct_i8_fill_layout)(oct_i8_kernels *table)
{
    table->operand_bytes = (int)sizeof(OPERAND);
    table->group = GROUP;
    table->pad_image = NAME(pad_image);
    table->pad_pixels = NAME(oct_i8_pad_pixels);
    table->packed_conv_bytes = NAME(packed_conv_bytes);
    table->pack_conv = NAME(pack_conv);
    table->packed_depthwise_bytes = NAME(packed_depthwise_bytes);
    table->pack_depthwise = NAME(pack_depthwise);
    table->depthwise_row = NAME(oct_i8_depthwise_row);
}

#undef NAME
#undef OPERAND
#undef WEIGHT
#undef GROUP
#undef BIASED
