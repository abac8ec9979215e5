/* SPDX-License-Identifier: BSD-2-Clause
 * Helpers around the float kernels: packed weights and padded images. Portable: copying is bound by memory.
 */
#include "autograd/kernels/f32_kernels.h"

#include <string.h>

static size_t block_count(int outputs)
{
    return ((size_t)outputs + OCT_F32_BLOCK - 1) / OCT_F32_BLOCK;
}

size_t oct_f32_packed_size(int outputs, int taps_h, int taps_w, int channels)
{
    return block_count(outputs) * (size_t)taps_h * (size_t)taps_w * (size_t)channels * OCT_F32_BLOCK;
}

void oct_f32_pack(float *packed, const float *w, int outputs, int taps_h, int taps_w, int channels,
                  ptrdiff_t w_output, ptrdiff_t w_row, ptrdiff_t w_tap, ptrdiff_t w_channel)
{
    for (int o0 = 0; o0 < outputs; o0 += OCT_F32_BLOCK) {
        int used = outputs - o0 < OCT_F32_BLOCK ? outputs - o0 : OCT_F32_BLOCK;
        for (int r = 0; r < taps_h; r++) {
            for (int t = 0; t < taps_w; t++) {
                for (int i = 0; i < channels; i++, packed += OCT_F32_BLOCK) {
                    const float *source = w + o0 * w_output + r * w_row + t * w_tap + i * w_channel;
                    for (int o = 0; o < used; o++) packed[o] = source[o * w_output];
                    for (int o = used; o < OCT_F32_BLOCK; o++) packed[o] = 0.0f;
                }
            }
        }
    }
}

/* What pad_image and pad_affine share; a NULL: plain copies. */
typedef struct pad_map {
    const oct_f32_kernels *table;
    const float *a, *b;
    float lo, hi;
} pad_map;

static void pad_columns(float *out, const float *row, size_t pixels, size_t pixel, const pad_map *map)
{
    if (!map->a)
        memcpy(out, row, pixels * pixel * sizeof *out);
    else
        map->table->affine_clamp(out, row, map->a, map->b, NULL, pixels, (int)pixel, map->lo, map->hi);
}

static void pad(float *out, const float *image, int height, int width, int channels, int top, int left,
                int bottom, int right, const pad_map *map)
{
    size_t pixel = (size_t)channels;
    int out_height = height + top + bottom, out_width = width + left + right;
    /* Columns of the image that land inside the result; borders may crop. */
    int first = left < 0 ? -left : 0;
    int last = right < 0 ? width + right : width;
    int copied = last > first ? last - first : 0;
    int before = left > 0 ? left : 0;
    if (!copied) before = out_width;
    int after = out_width - before - copied;
    for (int h = 0; h < out_height; h++) {
        int source = h - top;
        if (source < 0 || source >= height) {
            memset(out, 0, (size_t)out_width * pixel * sizeof *out);
        } else {
            memset(out, 0, (size_t)before * pixel * sizeof *out);
            if (copied) {
                pad_columns(out + (size_t)before * pixel,
                            image + ((size_t)source * (size_t)width + (size_t)first) * pixel, (size_t)copied,
                            pixel, map);
            }
            memset(out + (size_t)(before + copied) * pixel, 0, (size_t)after * pixel * sizeof *out);
        }
        out += (size_t)out_width * pixel;
    }
}

void oct_f32_pad_image(float *out, const float *image, int height, int width, int channels, int top, int left,
                       int bottom, int right)
{
    pad(out, image, height, width, channels, top, left, bottom, right, &(pad_map){0});
}

void oct_f32_pad_affine(const oct_f32_kernels *table, float *out, const float *image, const float *a, const float *b,
                        float lo, float hi, int height, int width, int channels, int top, int left, int bottom,
                        int right)
{
    pad(out, image, height, width, channels, top, left, bottom, right, &(pad_map){table, a, b, lo, hi});
}
