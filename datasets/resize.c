/* SPDX-License-Identifier: BSD-2-Clause
 * Resizing with a triangle filter, in two passes of fixed-point sums. */
#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "datasets/resize_internal.h"

/* Ranges: a weighted sum of pixels is at most 255 << 14; its rows keep 6 fractional bits (at most 16320), and
 * a weighted sum of those at most 16320 << 14 < 2^28: all fits 32 bits, whatever the filter's length. */
enum { WEIGHT_BITS = 14, ROW_BITS = 6 };

/* The filter of output positions first .. first + count - 1 along one axis. */
typedef struct axis_filter {
    int32_t *starts;  /* first input position of each */
    int32_t *weights; /* count x taps, zeros at the end where fewer are needed */
    int taps, count;
} axis_filter;

static int tap_count(int in, int out)
{
    double scale = (double)in / (double)out;
    int taps = (int)ceil(2.0 * (scale > 1.0 ? scale : 1.0)) + 1;
    return taps < in ? taps : in;
}

/* Rounded weights may miss the sum by a few units: the largest one takes the difference. */
static void fill_weights(int32_t *weights, int taps, const double *exact, double sum)
{
    int32_t left = 1 << WEIGHT_BITS;
    int largest = 0;
    for (int t = 0; t < taps; t++) {
        weights[t] = (int32_t)floor(exact[t] / sum * (1 << WEIGHT_BITS) + 0.5);
        left -= weights[t];
        if (weights[t] > weights[largest]) largest = t;
    }
    weights[largest] += left;
}

static void fill_filter(axis_filter *filter, double *exact, int in, int out, int first)
{
    double scale = (double)in / (double)out;
    double reach = scale > 1.0 ? scale : 1.0;
    for (int i = 0; i < filter->count; i++) {
        double centre = (first + i + 0.5) * scale - 0.5;
        int start = (int)floor(centre - reach) + 1;
        if (start < 0) start = 0;
        if (start > in - filter->taps) start = in - filter->taps;
        double sum = 0;
        for (int t = 0; t < filter->taps; t++) {
            double w = 1.0 - fabs(start + t - centre) / reach;
            exact[t] = w > 0 ? w : 0;
            sum += exact[t];
        }
        filter->starts[i] = start;
        fill_weights(filter->weights + (size_t)i * (size_t)filter->taps, filter->taps, exact, sum);
    }
}

/* One input row to filter->count pixels with ROW_BITS fractional bits. */
static void resize_row(uint16_t *out, const uint8_t *in, const axis_filter *filter, int channels)
{
    for (int i = 0; i < filter->count; i++) {
        const int32_t *weights = filter->weights + (size_t)i * (size_t)filter->taps;
        const uint8_t *from = in + (size_t)filter->starts[i] * (size_t)channels;
        for (int c = 0; c < channels; c++) {
            int32_t sum = 1 << (WEIGHT_BITS - ROW_BITS - 1);
            for (int t = 0; t < filter->taps; t++)
                sum += weights[t] * from[(size_t)t * (size_t)channels + (size_t)c];
            *out++ = (uint16_t)(sum >> (WEIGHT_BITS - ROW_BITS));
        }
    }
}

static void resize_column(uint8_t *out, int32_t *sums, const uint16_t *rows, const int32_t *weights, int taps,
                          size_t row_values)
{
    for (size_t j = 0; j < row_values; j++) sums[j] = 1 << (WEIGHT_BITS + ROW_BITS - 1);
    for (int t = 0; t < taps; t++, rows += row_values)
        for (size_t j = 0; j < row_values; j++) sums[j] += weights[t] * rows[j];
    for (size_t j = 0; j < row_values; j++) out[j] = (uint8_t)(sums[j] >> (WEIGHT_BITS + ROW_BITS));
}

static bool add_piece(size_t *total, size_t *offset, size_t a, size_t b, size_t size)
{
    size_t bytes;
    *offset = *total;
    return oct_size_mul(&bytes, a, b) && oct_size_mul(&bytes, bytes, size) && bytes < SIZE_MAX / 4 &&
           oct_size_add(total, *total, oct_size_align(bytes));
}

oct_status oct_resize(uint8_t *out, int full_height, int full_width, oct_box window, oct_view in,
                      oct_transform_scratch *scratch, oct_error *error)
{
    if (full_height == in.height && full_width == in.width) {
        oct_crop_padded(out, window.height, window.width, in, window.y, window.x);
        return OCT_OK;
    }
    axis_filter across = {.taps = tap_count(in.width, full_width), .count = window.width};
    axis_filter down = {.taps = tap_count(in.height, full_height), .count = window.height};
    size_t row_values = (size_t)window.width * (size_t)in.channels;
    int longest = across.taps > down.taps ? across.taps : down.taps;
    /* Input rows that some output row of the window needs: from the first one's start to the last one's end.
     */
    size_t total = 0, at[7];
    size_t w = (size_t)window.width, h = (size_t)window.height;
    bool fits = add_piece(&total, &at[0], w, 1, sizeof(int32_t)) &&
                add_piece(&total, &at[1], w, (size_t)across.taps, sizeof(int32_t)) &&
                add_piece(&total, &at[2], h, 1, sizeof(int32_t)) &&
                add_piece(&total, &at[3], h, (size_t)down.taps, sizeof(int32_t)) &&
                add_piece(&total, &at[4], (size_t)longest, 1, sizeof(double)) &&
                add_piece(&total, &at[5], row_values, 1, sizeof(int32_t)) &&
                add_piece(&total, &at[6], row_values, (size_t)in.height, sizeof(uint16_t));
    uint8_t *block = fits ? oct_transform_scratch_get(scratch, total) : NULL;
    if (!block)
        return oct_fail(error, OCT_ERR_MEMORY, "out of memory: resizing %d x %d to %d x %d", in.height,
                        in.width, full_height, full_width);
    across.starts = (int32_t *)(void *)(block + at[0]);
    across.weights = (int32_t *)(void *)(block + at[1]);
    down.starts = (int32_t *)(void *)(block + at[2]);
    down.weights = (int32_t *)(void *)(block + at[3]);
    fill_filter(&across, (double *)(void *)(block + at[4]), in.width, full_width, window.x);
    fill_filter(&down, (double *)(void *)(block + at[4]), in.height, full_height, window.y);
    uint16_t *rows = (uint16_t *)(void *)(block + at[6]);
    int first = down.starts[0], end = down.starts[window.height - 1] + down.taps;
    for (int y = first; y < end; y++)
        resize_row(rows + (size_t)(y - first) * row_values, in.pixels + (size_t)y * in.stride_bytes, &across,
                   in.channels);
    for (int y = 0; y < window.height; y++)
        resize_column(out + (size_t)y * row_values, (int32_t *)(void *)(block + at[5]),
                      rows + (size_t)(down.starts[y] - first) * row_values,
                      down.weights + (size_t)y * (size_t)down.taps, down.taps, row_values);
    return OCT_OK;
}
