/* SPDX-License-Identifier: BSD-2-Clause
 * Resizing by a filter along each axis, in two passes of fixed-point sums with bytes between them. The arithmetic is
 * that of Pillow's 8-bit images, bit for bit, because pretrained weights were scored with it. */
#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "datasets/resize_internal.h"

/* Weights have 22 fractional bits. The positive weights of one output sum to less than 1.2 (bicubic has negative
 * ones), so every sum of weights times bytes stays below 1.2 * 255 * 2^22 < 2^31. */
enum { WEIGHT_BITS = 22 };

/* The filter of output positions first .. first + count - 1 along one axis. */
typedef struct axis_filter {
    int32_t *starts;  /* first input position of each */
    int32_t *lengths; /* taps of each, >= 1 */
    int32_t *weights; /* count x taps */
    int in, out, first, count, taps;
    double scale, reach; /* input positions per output position; half width of the filter in input positions */
    oct_filter kind;
} axis_filter;

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys' cubic convolution (1981) with a = -1/2. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static axis_filter plan_axis(oct_filter kind, int in, int out, int first, int count)
{
    axis_filter f = {.in = in, .out = out, .first = first, .count = count, .kind = kind};
    f.scale = (double)in / (double)out;
    f.reach = (kind == OCT_FILTER_BICUBIC ? 2.0 : 1.0) * (f.scale > 1.0 ? f.scale : 1.0);
    f.taps = (int)ceil(f.reach) * 2 + 1;
    if (f.taps > in) f.taps = in;
    return f;
}

static int clamped(double position, int limit)
{
    return position < 0 ? 0 : position > limit ? limit : (int)position;
}

static void fill_filter(axis_filter *f, double *exact)
{
    double shrink = 1.0 / (f->scale > 1.0 ? f->scale : 1.0);
    for (int i = 0; i < f->count; i++) {
        double centre = (f->first + i + 0.5) * f->scale, sum = 0.0;
        int start = clamped(centre - f->reach + 0.5, f->in), end = clamped(centre + f->reach + 0.5, f->in);
        int32_t *weights = f->weights + (size_t)i * (size_t)f->taps;
        for (int t = start; t < end; t++) {
            double x = (t - centre + 0.5) * shrink;
            exact[t - start] = f->kind == OCT_FILTER_BICUBIC ? cubic(x) : triangle(x);
            sum += exact[t - start];
        }
        for (int t = 0; t < end - start; t++) {
            double w = (sum != 0.0 ? exact[t] / sum : exact[t]) * (1 << WEIGHT_BITS);
            weights[t] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        f->starts[i] = start;
        f->lengths[i] = end - start;
    }
}

static inline uint8_t to_byte(int32_t sum)
{
    int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static const int32_t half = 1 << (WEIGHT_BITS - 1);

/* One row; `in` begins at input column `from`. */
static void resize_row_rgb(uint8_t *out, const uint8_t *in, const axis_filter *f, int from)
{
    for (int i = 0; i < f->count; i++, out += 3) {
        const int32_t *w = f->weights + (size_t)i * (size_t)f->taps;
        const uint8_t *p = in + (size_t)(f->starts[i] - from) * 3;
        int32_t r = half, g = half, b = half;
        for (int t = 0; t < f->lengths[i]; t++, p += 3) {
            r += w[t] * p[0];
            g += w[t] * p[1];
            b += w[t] * p[2];
        }
        out[0] = to_byte(r);
        out[1] = to_byte(g);
        out[2] = to_byte(b);
    }
}

static void resize_row(uint8_t *out, const uint8_t *in, const axis_filter *f, int channels, int from)
{
    if (channels == 3) {
        resize_row_rgb(out, in, f, from);
        return;
    }
    for (int i = 0; i < f->count; i++) {
        const int32_t *w = f->weights + (size_t)i * (size_t)f->taps;
        const uint8_t *taps = in + (size_t)(f->starts[i] - from) * (size_t)channels;
        for (int c = 0; c < channels; c++) {
            int32_t sum = half;
            for (int t = 0; t < f->lengths[i]; t++) sum += w[t] * taps[(size_t)t * (size_t)channels + (size_t)c];
            *out++ = to_byte(sum);
        }
    }
}

/* One output row from `taps` input rows. Weights go in two halves of 16 bits, which every SIMD level multiplies
 * by bytes quickly: w = high * 2^11 + low with 0 <= low < 2^11. */
static void resize_column(uint8_t *out, uint32_t *sums, const uint8_t *rows, size_t stride_bytes,
                          const int32_t *weights, int taps, size_t values)
{
    enum { LOW_BITS = 11 };
    uint32_t *low_sums = sums + values; /* the two may wrap around, their total fits */
    for (size_t j = 0; j < values; j++) sums[j] = 0, low_sums[j] = (uint32_t)half;
    for (int t = 0; t < taps; t++, rows += stride_bytes) {
        int16_t high = (int16_t)(weights[t] >> LOW_BITS), low = (int16_t)(weights[t] & ((1 << LOW_BITS) - 1));
        for (size_t j = 0; j < values; j++) {
            int16_t v = rows[j];
            sums[j] += (uint32_t)(high * v);
            low_sums[j] += (uint32_t)(low * v);
        }
    }
    for (size_t j = 0; j < values; j++) out[j] = to_byte((int32_t)((sums[j] << LOW_BITS) + low_sums[j]));
}

/* What an axis of the result needs of the input: positions first .. end - 1. */
typedef struct axis_span {
    int first, end;
} axis_span;

static axis_span needed(const axis_filter *f)
{
    int last = f->count - 1;
    return (axis_span){f->starts[0], f->starts[last] + f->lengths[last]};
}

static bool add_piece(size_t *total, size_t *offset, size_t a, size_t b, size_t size)
{
    size_t bytes;
    *offset = *total;
    return oct_size_mul(&bytes, a, b) && oct_size_mul(&bytes, bytes, size) && bytes < SIZE_MAX / 4 &&
           oct_size_add(total, *total, oct_size_align(bytes));
}

typedef struct axis_place {
    size_t starts, lengths, weights;
} axis_place;

static bool add_axis(size_t *total, axis_place *place, const axis_filter *f)
{
    size_t count = (size_t)f->count;
    return add_piece(total, &place->starts, count, 1, sizeof(int32_t)) &&
           add_piece(total, &place->lengths, count, 1, sizeof(int32_t)) &&
           add_piece(total, &place->weights, count, (size_t)f->taps, sizeof(int32_t));
}

static void fill_axis(axis_filter *f, uint8_t *block, const axis_place *place, size_t exact_at)
{
    f->starts = (int32_t *)(void *)(block + place->starts);
    f->lengths = (int32_t *)(void *)(block + place->lengths);
    f->weights = (int32_t *)(void *)(block + place->weights);
    fill_filter(f, (double *)(void *)(block + exact_at));
}

/* Both passes, and their buffers. */
typedef struct resizing {
    axis_filter across, down;
    bool shift_columns, shift_rows; /* the axis changes its size */
    oct_box window;
    oct_view in;
    uint32_t *sums; /* twice the values of the longest row */
    uint8_t *between;
} resizing;

/* Rows of `in` to rows of the window's width. `in` begins at input column `from`. */
static void pass_across(const resizing *r, uint8_t *out, const uint8_t *in, size_t stride_bytes, int rows, int from)
{
    size_t row_bytes = (size_t)r->window.width * (size_t)r->in.channels;
    for (int y = 0; y < rows; y++, out += row_bytes, in += stride_bytes)
        resize_row(out, in, &r->across, r->in.channels, from);
}

/* Rows of `row_bytes` to the window's height. `in` begins at input row `from`. */
static void pass_down(const resizing *r, uint8_t *out, const uint8_t *in, size_t stride_bytes, size_t row_bytes,
                      int from)
{
    const axis_filter *f = &r->down;
    for (int y = 0; y < r->window.height; y++, out += row_bytes)
        resize_column(out, r->sums, in + (size_t)(f->starts[y] - from) * stride_bytes, stride_bytes,
                      f->weights + (size_t)y * (size_t)f->taps, f->lengths[y], row_bytes);
}

/* Pillow's order since version 13 (before that columns always came first; the results differ by the rounding between
 * the passes only). */
static bool rows_first(const resizing *r)
{
    int rows = r->down.in - r->down.out, columns = r->across.in - r->across.out;
    return rows > 0 && rows > 2 * (int64_t)columns;
}

static void run(const resizing *r, uint8_t *out)
{
    const oct_view *in = &r->in;
    size_t channels = (size_t)in->channels, row_bytes = (size_t)r->window.width * channels;
    axis_span rows = needed(&r->down), columns = needed(&r->across);
    if (!r->shift_rows) {
        pass_across(r, out, in->pixels + (size_t)r->window.y * in->stride_bytes, in->stride_bytes, r->window.height, 0);
        return;
    }
    const uint8_t *top = in->pixels + (size_t)rows.first * in->stride_bytes;
    if (!r->shift_columns) {
        pass_down(r, out, top + (size_t)r->window.x * channels, in->stride_bytes, row_bytes, rows.first);
    } else if (rows_first(r)) {
        size_t between_bytes = (size_t)(columns.end - columns.first) * channels;
        pass_down(r, r->between, top + (size_t)columns.first * channels, in->stride_bytes, between_bytes, rows.first);
        pass_across(r, out, r->between, between_bytes, r->window.height, columns.first);
    } else {
        pass_across(r, r->between, top, in->stride_bytes, rows.end - rows.first, 0);
        pass_down(r, out, r->between, row_bytes, row_bytes, rows.first);
    }
}

oct_status oct_resize(uint8_t *out, int full_height, int full_width, oct_box window, oct_view in, oct_filter filter,
                      oct_transform_scratch *scratch, oct_error *error)
{
    resizing r = {.window = window,
                  .in = in,
                  .shift_columns = full_width != in.width,
                  .shift_rows = full_height != in.height,
                  .across = plan_axis(filter, in.width, full_width, window.x, window.width),
                  .down = plan_axis(filter, in.height, full_height, window.y, window.height)};
    if (!r.shift_columns && !r.shift_rows) {
        oct_crop_padded(out, window.height, window.width, in, window.y, window.x);
        return OCT_OK;
    }
    bool both = r.shift_columns && r.shift_rows, down_first = rows_first(&r);
    size_t widest = (size_t)(down_first && in.width > window.width ? in.width : window.width);
    size_t tallest = both ? (size_t)(down_first ? window.height : in.height) : 0;
    size_t total = 0, exact_at, sums_at, between_at, channels = (size_t)in.channels;
    axis_place across, down;
    int longest = r.across.taps > r.down.taps ? r.across.taps : r.down.taps;
    bool fits = add_axis(&total, &across, &r.across) && add_axis(&total, &down, &r.down) &&
                add_piece(&total, &exact_at, (size_t)longest, 1, sizeof(double)) &&
                add_piece(&total, &sums_at, widest, 2 * channels, sizeof(uint32_t)) &&
                add_piece(&total, &between_at, widest * channels, tallest, 1);
    uint8_t *block = fits ? oct_transform_scratch_get(scratch, total) : NULL;
    if (!block)
        return oct_fail(error, OCT_ERR_MEMORY, "out of memory: resizing %d x %d to %d x %d", in.height, in.width,
                        full_height, full_width);
    fill_axis(&r.across, block, &across, exact_at);
    fill_axis(&r.down, block, &down, exact_at);
    r.sums = (uint32_t *)(void *)(block + sums_at);
    r.between = block + between_at;
    run(&r, out);
    return OCT_OK;
}
