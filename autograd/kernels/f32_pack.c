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

void oct_f32_pad_image(float *out, const float *image, int height, int width, int channels, int top, int left,
                       int bottom, int right)
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
                memcpy(out + (size_t)before * pixel,
                       image + ((size_t)source * (size_t)width + (size_t)first) * pixel,
                       (size_t)copied * pixel * sizeof *out);
            }
            memset(out + (size_t)(before + copied) * pixel, 0, (size_t)after * pixel * sizeof *out);
        }
        out += (size_t)out_width * pixel;
    }
}
