/* SPDX-License-Identifier: BSD-2-Clause
 * The list of float kernels, and the checks of the portable helpers around them. */
#include "tests/checkkern/check_f32.h"

#include "tests/checkkern/bench_f32.h"

#if defined(__aarch64__)
static const char *const levels[] = {"c", "neon", NULL};
#else
static const char *const levels[] = {"c", "avx2", "avx512", NULL};
#endif
static const char *const portable[] = {"c", NULL};

static void check_pack(checkkern *k, uint32_t mask)
{
    (void)mask;
    for (int i = 0; i < checkkern_count(k, 200, 1000); i++) {
        int outputs = i < 33 ? i + 1 : checkkern_random(k, 1, 40), taps_h = checkkern_random(k, 1, 3);
        int taps_w = checkkern_random(k, 1, 3), channels = checkkern_random(k, 1, 9);
        /* [output][row][tap][channel], the transposed and flipped order of a gradient, or a broadcast */
        ptrdiff_t so, sr, st, sc;
        size_t taps = (size_t)taps_h * (size_t)taps_w, count = (size_t)outputs * taps * (size_t)channels,
               first = 0;
        if (i % 2) {
            so = (ptrdiff_t)taps * channels, sr = taps_w * channels, st = channels, sc = 1;
        } else {
            so = 1, sr = -taps_w * outputs, st = -outputs, sc = (ptrdiff_t)taps * outputs;
            first = (taps - 1) * (size_t)outputs;
        }
        checkkern_case(k, "outputs %d taps %dx%d channels %d flipped %d", outputs, taps_h, taps_w, channels,
                       i % 2 == 0);
        const float *w = f32_input(k, count, SPECIAL);
        size_t packed_count = oct_f32_packed_size(outputs, taps_h, taps_w, channels);
        float *packed = f32_output(k, packed_count);
        checkkern_call_begin(k);
        oct_f32_pack(packed, w + first, outputs, taps_h, taps_w, channels, so, sr, st, sc);
        checkkern_call_end(k);
        for (size_t e = 0; e < packed_count; e++) {
            int o = (int)(e / (OCT_F32_BLOCK * taps * (size_t)channels)) * OCT_F32_BLOCK +
                    (int)(e % OCT_F32_BLOCK);
            ptrdiff_t c = (ptrdiff_t)(e / OCT_F32_BLOCK) % channels;
            ptrdiff_t t = (ptrdiff_t)(e / OCT_F32_BLOCK) / channels % taps_w;
            ptrdiff_t r = (ptrdiff_t)(e / OCT_F32_BLOCK) / channels / taps_w % taps_h;
            float want = o < outputs ? w[(ptrdiff_t)first + o * so + r * sr + t * st + c * sc] : 0.0f;
            f32_same(k, "packed", packed + e, &want, 1);
        }
    }
}

static void check_pad_image(checkkern *k, uint32_t mask)
{
    (void)mask;
    for (int i = 0; i < checkkern_count(k, 300, 2000); i++) {
        int height = checkkern_random(k, 1, 6), width = checkkern_random(k, 1, 6),
            channels = checkkern_random(k, 1, 5);
        int top = checkkern_random(k, -3, 3), left = checkkern_random(k, -3, 3);
        int bottom = checkkern_random(k, -3, 3), right = checkkern_random(k, -3, 3);
        int out_height = height + top + bottom, out_width = width + left + right;
        if (out_height < 0 || out_width < 0) continue;
        checkkern_case(k, "image %dx%dx%d borders %d %d %d %d", height, width, channels, top, left, bottom,
                       right);
        const float *image = f32_input(k, (size_t)height * (size_t)width * (size_t)channels, SPECIAL);
        float *out = f32_output(k, (size_t)out_height * (size_t)out_width * (size_t)channels);
        checkkern_call_begin(k);
        oct_f32_pad_image(out, image, height, width, channels, top, left, bottom, right);
        checkkern_call_end(k);
        for (int h = 0; h < out_height; h++) {
            for (int w = 0; w < out_width; w++) {
                for (int c = 0; c < channels; c++, out++) {
                    int y = h - top, x = w - left, inside = y >= 0 && y < height && x >= 0 && x < width;
                    float want = inside ? image[(y * width + x) * channels + c] : 0.0f;
                    f32_same(k, "out", out, &want, 1);
                }
            }
        }
    }
}

void check_f32(checkkern *k)
{
    checkkern_entry(k, "f32.conv_row", levels, check_conv_row, bench_conv_row);
    checkkern_entry(k, "f32.conv_dw", levels, check_conv_dw, bench_conv_dw);
    checkkern_entry(k, "f32.depthwise_row", levels, check_depthwise_row, bench_depthwise_row);
    checkkern_entry(k, "f32.depthwise_dw", levels, check_depthwise_dw, bench_depthwise_dw);
    checkkern_entry(k, "f32.channel_sums", levels, check_channel_sums, bench_channel_sums);
    checkkern_entry(k, "f32.channel_sum", levels, check_channel_sum, NULL);
    checkkern_entry(k, "f32.affine_clamp", levels, check_affine_clamp, bench_affine_clamp);
    checkkern_entry(k, "f32.bn_backward_sums", levels, check_bn_backward_sums, bench_bn_backward_sums);
    checkkern_entry(k, "f32.bn_backward_apply", levels, check_bn_backward_apply, bench_bn_backward_apply);
    checkkern_entry(k, "f32.bn_masked_sums", levels, check_bn_masked_sums, NULL);
    checkkern_entry(k, "f32.bn_masked_apply", levels, check_bn_masked_apply, NULL);
    checkkern_entry(k, "f32.clamp", levels, check_clamp, bench_clamp);
    checkkern_entry(k, "f32.add", levels, check_add, NULL);
    checkkern_entry(k, "f32.mul", levels, check_mul, NULL);
    checkkern_entry(k, "f32.clamp_backward", levels, check_clamp_backward, bench_clamp_backward);
    checkkern_entry(k, "f32.axpy", levels, check_axpy, NULL);
    checkkern_entry(k, "f32.sum_squares", levels, check_sum_squares, bench_sum_squares);
    checkkern_entry(k, "f32.sgd", levels, check_sgd, bench_sgd);
    checkkern_entry(k, "f32.winograd_input", levels, check_winograd_input, NULL);
    checkkern_entry(k, "f32.winograd_output", levels, check_winograd_output, NULL);
    checkkern_entry(k, "f32.winograd_gradient", levels, check_winograd_gradient, NULL);
    checkkern_entry(k, "f32.pack", portable, check_pack, NULL);
    checkkern_entry(k, "f32.pad_image", portable, check_pad_image, NULL);
}
