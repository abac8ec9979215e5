/* SPDX-License-Identifier: BSD-2-Clause
 * int8 kernels: contracts and the table that holds one variant of each. The same kernels run the deployed engine and
 * the forward pass of quantized training.
 *
 * Every kernel is EXACT: the same bytes on every level, equal to the C reference. Kernels see raw pointers, sizes, and
 * strides in elements; they return void, never allocate, never start threads, never write an input, and handle every
 * tail themselves. Pointers need only the alignment of their element unless a line says otherwise. Destinations are
 * overwritten, never read, unless a line says "+=".
 *
 * Activation codes are bytes: u8 (0..255) or s8 (-128..127) by a flag `is_signed`. Weights are s8 in [-127, 127]
 * (-128 is also computed exactly). Accumulators: the caller guarantees |acc| < 2^31 for every partial sum in any order
 * (255 * sum|w| + |start| < 2^31; training and export keep 255*sum|w| < 2^29 and |bias| < 2^30).
 *
 * Dense convolution works on PADDED IMAGES in the level's own operand type (pad_image): levels with a u8 x s8 dot
 * product keep bytes (s8 codes become code + 128, undone by `start`), the others keep 16-bit integers. Channels are
 * padded with zero operands to a multiple of `group`. neondot keeps the same bytes; its instruction is s8 x s8, so its
 * kernels subtract 128 from every byte they load, which its corrections undo: the mirror image of the others.
 */
#ifndef OCT_I8_KERNELS_H
#define OCT_I8_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define OCT_I8_BLOCK 16 /* output channels of a packed weight block, on every level */

/* Output rows of a dense convolution or linear layer, or of one group of a grouped one; of one row:
 *   acc[p*acc_pixel + o] = start[o] + sum_{r,t,i} x[p*x_pixel + r*x_row + t*x_tap + i] * w(o, r, t, i)
 * where x holds operands as pad_image left them and w is what pack_conv made. x strides are in OPERANDS. */
typedef struct oct_i8_conv_row {
    int pixels, outputs;              /* >= 1 */
    int taps_h, taps_w;               /* >= 1 */
    int channels;                     /* padded channels: a multiple of the table's `group` */
    ptrdiff_t x_pixel, x_row, x_tap;  /* multiples of `group` */
    ptrdiff_t acc_pixel;              /* >= outputs */
    int rows;                         /* conv_row: output rows; 0 and 1 are one row */
    ptrdiff_t x_next, acc_next;       /* from output row to output row */
} oct_i8_conv_row;

/* The output stage of an entry that writes codes: how a sum becomes a code without leaving the registers.
 *   code[o] = clamp(floor(sum[o] / 2^shift[o]), lo, hi)
 * `start` holds the rounding constant oct_i8_rounding(shift[o]) on top of bias and correction, so the floor is the
 * rounding right shift of requant.h. Shifts outside 0..OCT_I8_MAX_CODE_SHIFT go through sums and `requantize`.
 * With multipliers (profile affine, affine.h):
 *   code[o] = clamp(rne((float)sum[o] * multiplier[o]) + zero, lo, hi)      conversion and product each rounded once
 * Multipliers outside [0, OCT_I8_MAX_CODE_MULTIPLIER] go through sums and `requantize_affine`. */
typedef struct oct_i8_output {
    const int32_t *shift; /* one per output, rounded up to OCT_I8_BLOCK (the rest 0), each 0..OCT_I8_MAX_CODE_SHIFT */
    const float *multiplier; /* not NULL: instead of shift, laid out like it */
    int zero;             /* with multipliers: 0..255 */
    int lo, hi;           /* within 0..255, or -128..127 with lo < 0; with multipliers within 0..255 */
} oct_i8_output;
/* Below 1 the product of any int32 still fits one. */
#define OCT_I8_MAX_CODE_MULTIPLIER 0x1.fffffep-1f

/* 30: |sum| < 2^29 + 2^30 by the bounds above, and the rounding constant of 2^29 keeps it below 2^31. */
enum { OCT_I8_MAX_CODE_SHIFT = 30 };

static inline int32_t oct_i8_rounding(int shift)
{
    return shift > 0 ? (int32_t)1 << (shift - 1) : 0;
}

/* A depthwise layer that writes codes: square window of 3 or 5 taps, stride 1 or 2 both ways, no dilation, channel
 * multiplier 1. It reads codes as they lie (no padded image). */
typedef struct oct_i8_depthwise {
    int channels, taps, stride;
    int is_signed; /* input codes are s8 */
} oct_i8_depthwise;

/* Some output rows of such a layer: codes[y*out_row + p*channels + c], y < out_rows, p < pixels, from
 *   sum = start[c] + sum_{r,t} code(rows[y*stride + r], p*stride - left + t, c) * w(r, t, c)
 * where the code of a column outside 0..width-1 is `fill`. A row outside the image is a pointer to width*channels
 * codes of value `fill`. */
typedef struct oct_i8_depthwise_rows {
    oct_i8_depthwise layer;
    const uint8_t *const *rows; /* (out_rows-1)*stride + taps input rows, first pixel of each */
    int out_rows, pixels;
    int width, left, fill;
    ptrdiff_t out_row;
    int affine, zero;           /* affine: the packed form holds multipliers; input and output codes are u8 */
    int lo, hi;                 /* as in oct_i8_output */
} oct_i8_depthwise_rows;

/* One output row of a depthwise convolution, channel multiplier 1:
 *   acc[p*acc_pixel + c] = start[c] + sum_{r,t} x[p*x_pixel + r*x_row + t*x_tap + c] * w(r, t, c),   c < channels
 * x is a padded image too, strides in OPERANDS. No rounding is needed: padded_channels = channels will do, and any larger
 * count is allowed; kernels read only the operands of the formula. Fastest at 16 channels and more, taps 3x3 or 5x5,
 * and x_pixel == x_tap. */
typedef struct oct_i8_depthwise_row {
    int pixels, channels;
    int taps_h, taps_w;
    ptrdiff_t x_pixel, x_row, x_tap;
    ptrdiff_t acc_pixel;
} oct_i8_depthwise_row;

typedef struct oct_i8_pad {
    int height, width, channels;      /* of the source image, NHWC, row stride width*source_pixel */
    ptrdiff_t source_pixel;           /* elements between pixels of the source (>= channels; a group of a larger image) */
    int top, left, bottom, right;     /* border, >= 0 */
    int padded_channels;              /* of the result, >= channels; the extra channels hold operand 0 */
    int is_signed;                    /* source codes are s8 */
    int fill;                         /* code of the border: the zero point */
} oct_i8_pad;

/* Two operands of profile affine. mul uses a_scale only. */
typedef struct oct_i8_affine_pair {
    float a_scale, b_scale; /* steps of the output's scale per code */
    int a_zero, b_zero, zero;
    int lo, hi;             /* within 0..255 */
} oct_i8_affine_pair;

/* Floats to codes of profile affine; see quantize_affine. */
typedef struct oct_i8_affine_quantize {
    float inverse;
    int zero, lo, hi; /* lo, hi within 0..255 */
    float x_low, x_high, p_low, p_high;
} oct_i8_affine_quantize;

typedef struct oct_i8_kernels {
    const char *level;    /* level name of base/cpu.h whose variants fill this table */
    int operand_bytes;    /* 1: u8 operands, 2: s16 operands */
    int group;            /* channel granularity of padded images for dense convolutions: 4 or 2 */

    /* out = [height+top+bottom][width+left+right][padded_channels] operands: code (s16 levels, and u8 codes on byte
     * levels) or code + 128 (s8 codes on byte levels; the border then holds fill + 128, padding channels hold 0). */
    void (*pad_image)(void *out, const void *codes, const oct_i8_pad *p);

    /* The same for pixels behind an input table: pad_image of lookup(pixels), with table [table_rows][256], table_rows 1
     * or p->channels. is_signed is that of the codes in the table. */
    void (*pad_pixels)(void *out, const uint8_t *pixels, const uint8_t *table, int table_rows, const oct_i8_pad *p);

    /* Bytes of packed dense weights; 64-byte aligned storage is the caller's. channels is NOT padded yet. */
    size_t (*packed_conv_bytes)(int outputs, int taps_h, int taps_w, int channels);
    /* Packs w = [outputs][taps_h][taps_w][channels] s8 and writes correction[o] for o < outputs rounded up to 16: what
     * `start` must contain besides the bias (-128 * sum w for s8 codes on byte levels, else 0; on neondot 128 * sum w
     * for u8 codes, else 0; 0 in the padding). */
    void (*pack_conv)(void *packed, int32_t *correction, const int8_t *w, int outputs, int taps_h, int taps_w,
                      int channels, int is_signed);
    /* start = [outputs rounded up to 16], x and w as above. All rows. */
    void (*conv_row)(int32_t *acc, const void *x, const void *w, const int32_t *start, const oct_i8_conv_row *p);

    /* The first of these rows, writing codes: codes[p*acc_pixel + o], acc_pixel in codes. */
    void (*conv_codes)(uint8_t *codes, const void *x, const void *w, const int32_t *start, const oct_i8_conv_row *p,
                       const oct_i8_output *output);

    /* Depthwise layers that write codes. packed_depthwise_codes_bytes is 0 for a layer this level leaves to
     * depthwise_row and requantize. Packing takes w = [taps][taps][channels] s8, start[channels] = bias + rounding
     * constant (what the level must add for s8 codes it adds itself), shift[channels] as in oct_i8_output, or the bits of
     * its multipliers; the packed form, 64-byte aligned storage of the caller, holds all three. */
    size_t (*packed_depthwise_codes_bytes)(const oct_i8_depthwise *layer);
    void (*pack_depthwise_codes)(void *packed, const int8_t *w, const int32_t *start, const int32_t *shift,
                                 const oct_i8_depthwise *layer);
    void (*depthwise_codes)(uint8_t *codes, const void *packed, const oct_i8_depthwise_rows *p);

    /* Depthwise: the same trio. w = [taps_h][taps_w][channels] s8. start/correction = [channels rounded up to 16]. */
    size_t (*packed_depthwise_bytes)(int taps_h, int taps_w, int channels);
    void (*pack_depthwise)(void *packed, int32_t *correction, const int8_t *w, int taps_h, int taps_w, int channels,
                           int is_signed);
    void (*depthwise_row)(int32_t *acc, const void *x, const void *w, const int32_t *start,
                          const oct_i8_depthwise_row *p);

    /* codes[p][o] = clamp(rshift_round(acc[p][o], shift[o]), lo, hi) as a byte (quant/int8/requant.h); rows of `channels`
     * contiguous elements on both sides. shift[o] in [-31, 62]; [lo, hi] within 0..255 or -128..127. */
    void (*requantize)(uint8_t *codes, const int32_t *acc, const int8_t *shift, size_t pixels, int channels, int lo,
                       int hi);
    /* codes[p][o] = clamp(rne((float)acc[p][o] * multiplier[o]) + zero, lo, hi), 0 <= lo <= hi <= 255: oct_affine_round.
     * Multipliers are finite and >= 0. */
    void (*requantize_affine)(uint8_t *codes, const int32_t *acc, const float *multiplier, size_t pixels, int channels,
                              int zero, int lo, int hi);
    /* bits[e/8] bit e%8 = (low[c] <= acc[e] <= high[c]), e = p*channels + c; unused bits of the last byte are 0. */
    void (*mask_range)(uint8_t *bits, const int32_t *acc, const int32_t *low, const int32_t *high, size_t pixels,
                       int channels);

    /* Statistics of accumulators: for each channel over pixels (at most 32 pixels per call, |acc| < 2^29):
     *   sum[c] += sum acc,  square[c] += sum acc^2,  min[c] = min(min[c], acc), max[c] = max(max[c], acc) */
    void (*acc_sums)(int64_t *sum, uint64_t *square, int32_t *min, int32_t *max, const int32_t *acc, int pixels,
                     int channels);

    /* y = (float)acc*a[c] + b[c]: conversion, product and sum each rounded once (no contraction). */
    void (*acc_affine)(float *y, const int32_t *acc, const float *a, const float *b, size_t pixels, int channels);

    /* Batch norm's backward from accumulators: dx = (bit ? dy : 0)*p[c] + ((float)acc + b[c])*q[c] + r[c], every operation
     * rounded once, from left to right. bits as in mask_range, NULL: all set. dx may be the memory of acc. */
    void (*acc_gradient)(float *dx, const float *dy, const uint8_t *bits, const int32_t *acc, const float *b,
                         const float *p, const float *q, const float *r, size_t pixels, int channels);

    /* Float to codes, n elements:
     *   z = min(max(x, act_lo), act_hi);  code = clamp(floor(z*kappa + 0.5), lo, hi)     exact rule of requant.h
     *   bit = act_lo < x && x < act_hi && clip_lo <= z && z <= clip_hi
     * bits as in mask_range; bits may be NULL. kappa is a power of two. NaN gives code lo and bit 0. act limits may be
     * infinite. */
    void (*quantize_f32)(uint8_t *codes, uint8_t *bits, const float *x, size_t n, float act_lo, float act_hi,
                         float clip_lo, float clip_hi, float kappa, int lo, int hi);
    /* Profile affine, with p = x*inverse rounded once:
     *   code = oct_affine_round(p, zero, lo, hi);  bit = x_low <= x && x <= x_high && p_low <= p && p <= p_high
     * bits as in mask_range; bits may be NULL. NaN gives code lo and bit 0. */
    void (*quantize_affine)(uint8_t *codes, uint8_t *bits, const float *x, size_t n, const oct_i8_affine_quantize *q);
    /* x = (code - zero) * delta, one rounding (none where delta is a power of two). */
    void (*dequantize)(float *x, const uint8_t *codes, size_t n, float delta, int zero, int is_signed);
    /* dx = bit ? dy : 0. dx may be dy. */
    void (*mask_apply)(float *dx, const float *dy, const uint8_t *bits, size_t n);

    /* min/max of n floats, *lo = min(*lo, ...), *hi = max(*hi, ...). Returns the number of non-finite elements, which
     * are left out. A zero result is +0. */
    size_t (*min_max)(float *lo, float *hi, const float *x, size_t n);
    /* counts[k] += number of finite x with rne((x - lo) * mult) == k, k clamped to 0..255; difference and product
     * rounded to float. */
    void (*histogram)(uint32_t counts[256], const float *x, size_t n, float lo, float mult);

    /* Elementwise on codes. add: codes = clamp(rshift_round(a*2^sa + b*2^sb, shift), lo, hi) with sa, sb in 0..52, one of
     * them 0, int64 inside (and slow) when max(sa, sb) > 22, which needs shift >= 1; shift in [-31, 62].
     * mul: clamp(rshift_round(a*b, shift)). codes may be a or b, also in sub. */
    void (*add)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed, int sa, int sb,
                int shift, int lo, int hi);
    /* add with -b*2^sb for b*2^sb. */
    void (*sub)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed, int sa, int sb,
                int shift, int lo, int hi);
    void (*mul)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed, int shift,
                int lo, int hi);
    /* The same in profile affine, u8 codes: clamp(rne((a - a_zero)*a_scale + (b - b_zero)*b_scale) + zero, lo, hi) and
     * clamp(rne((a - a_zero)*(b - b_zero)*scale) + zero, lo, hi); every product and sum of floats is rounded once. */
    void (*add_affine)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, const oct_i8_affine_pair *p);
    void (*mul_affine)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, const oct_i8_affine_pair *p);
    /* codes[p*out_pixel + c] = clamp(rshift_round(x[p*in_pixel + c], shift), lo, hi): concat and re-scaling. */
    void (*rescale)(uint8_t *codes, const uint8_t *x, size_t pixels, int channels, ptrdiff_t out_pixel,
                    ptrdiff_t in_pixel, int is_signed, int shift, int lo, int hi);
    /* codes[e] = table[e % channels][x[e]]: input table, one row of 256 codes per channel; n = pixels*channels. */
    void (*lookup)(uint8_t *codes, const uint8_t *x, const uint8_t *table, size_t pixels, int channels);
    /* codes[c] = (sum of x[k][c]*w[k] + 2^19) >> 20, k < 4, w >= 0 with the sum 2^20: bilinear resizing. codes may be x[k]. */
    void (*blend)(uint8_t *codes, const uint8_t *const x[4], const int32_t w[4], int channels, int is_signed);
    /* Pooling over a window of one image: window of rows x cols pixels at x, x_row/x_pixel strides in elements.
     * max: codes[c] = max over the window. sum: sum[c] = sum of codes over the window. */
    void (*pool_max)(uint8_t *codes, const uint8_t *x, int rows, int cols, ptrdiff_t x_row, ptrdiff_t x_pixel,
                     int channels, int is_signed);
    void (*pool_sum)(int32_t *sum, const uint8_t *x, int rows, int cols, ptrdiff_t x_row, ptrdiff_t x_pixel,
                     int channels, int is_signed);
} oct_i8_kernels;

/* Fills the table: the C reference first, then every level in `cpu_mask` (base/cpu.h) in the order
 * avx2, avx512 (16-bit pairs), avxvnni, avx512vnni, amx; neon, neondot. The mask must only hold features this machine has. */
void oct_i8_kernels_init(oct_i8_kernels *table, uint32_t cpu_mask);

#endif
