/* SPDX-License-Identifier: BSD-2-Clause
 * Image transforms on images small enough to check by hand. */
#include "datasets/transform.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/testing.h"

static oct_view view_of(const uint8_t *pixels, int height, int width, int channels)
{
    return (oct_view){pixels, height, width, channels, (size_t)width * (size_t)channels};
}

static void resize_whole(uint8_t *out, int height, int width, oct_view in)
{
    oct_error error = {0};
    oct_transform_scratch scratch = {0};
    CU_ASSERT_EQUAL(oct_resize(out, height, width, (oct_box){0, 0, height, width}, in, OCT_FILTER_BILINEAR, &scratch,
                               &error),
                    OCT_OK);
    oct_transform_scratch_release(&scratch);
}

static void resize_doubling_interpolates_at_quarters(void)
{
    static const uint8_t in[2] = {0, 200};
    /* Positions -1/4, 1/4, 3/4, 5/4 between the two pixels, clamped at the ends. */
    static const uint8_t expected[4] = {0, 50, 150, 200};
    uint8_t out[4];
    resize_whole(out, 1, 4, view_of(in, 1, 2, 1));
    CU_ASSERT_EQUAL(memcmp(out, expected, 4), 0);
    resize_whole(out, 4, 1, view_of(in, 2, 1, 1));
    CU_ASSERT_EQUAL(memcmp(out, expected, 4), 0);
}

static void resize_halving_is_antialiased(void)
{
    /* Filter of half width 2 around position 0.5: weights 1/4 3/4 ... of pixels -1 0 1 2, the first outside:
     * (0.75 * 0 + 0.75 * 0 + 0.25 * 255) / 1.75 = 36.4; mirrored at the other end. */
    static const uint8_t in[4] = {0, 0, 255, 255};
    uint8_t out[2];
    resize_whole(out, 1, 2, view_of(in, 1, 4, 1));
    CU_ASSERT_EQUAL(out[0], 36);
    CU_ASSERT_EQUAL(out[1], 219);
    /* A checkerboard becomes grey: without the antialiasing it would stay black or white. */
    uint8_t board[64 * 64], small[16 * 16];
    for (int i = 0; i < 64 * 64; i++) board[i] = (i / 64 + i) % 2 ? 255 : 0;
    resize_whole(small, 16, 16, view_of(board, 64, 64, 1));
    for (int i = 0; i < 16 * 16; i++) CU_ASSERT_TRUE(abs(small[i] - 128) <= 3);
}

static void resize_constant_stays_constant_at_any_size(void)
{
    uint8_t in[7 * 5 * 3], out[40 * 40 * 3];
    for (int level = 0; level < 256; level += 51) {
        memset(in, level, sizeof in);
        for (int h = 1; h <= 40; h += 3) {
            for (int w = 1; w <= 40; w += 13) {
                resize_whole(out, h, w, view_of(in, 7, 5, 3));
                for (int i = 0; i < h * w * 3; i++) CU_ASSERT_EQUAL_FATAL(out[i], level);
            }
        }
    }
}

/* The definition in double precision, one output value at a time. */
static double reference_value(oct_view in, int height, int width, int y, int x, int c)
{
    double sy = (double)in.height / height, sx = (double)in.width / width, sum = 0, norm = 0;
    double ry = sy > 1 ? sy : 1, rx = sx > 1 ? sx : 1;
    for (int i = 0; i < in.height; i++) {
        for (int j = 0; j < in.width; j++) {
            double wy = 1 - fabs(i - ((y + 0.5) * sy - 0.5)) / ry,
                   wx = 1 - fabs(j - ((x + 0.5) * sx - 0.5)) / rx;
            if (wy <= 0 || wx <= 0) continue;
            sum += wy * wx * in.pixels[(size_t)i * in.stride_bytes + (size_t)(j * in.channels + c)];
            norm += wy * wx;
        }
    }
    return sum / norm;
}

static void resize_window_of_a_strided_view_is_near_the_reference(void)
{
    uint8_t in[23 * 31 * 3], out[32 * 32 * 3];
    oct_rng rng = oct_rng_start(1, OCT_RNG_SYNTHETIC, 0, 0);
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)oct_rng_u32(&rng);
    oct_view part = oct_view_crop(view_of(in, 23, 31, 3), 2, 3, 19, 27);
    static const int sizes[][2] = {{19, 11}, {7, 27}, {5, 6}, {32, 32}, {1, 1}, {19, 27}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int h = sizes[s][0], w = sizes[s][1];
        oct_box window = {h / 3, w / 4, h - h / 3, w - w / 4};
        oct_transform_scratch scratch = {0};
        CU_ASSERT_EQUAL(oct_resize(out, h, w, window, part, OCT_FILTER_BILINEAR, &scratch, NULL), OCT_OK);
        oct_transform_scratch_release(&scratch);
        const uint8_t *at = out;
        for (int y = 0; y < window.height; y++)
            for (int x = 0; x < window.width; x++)
                for (int c = 0; c < 3; c++)
                    CU_ASSERT_TRUE_FATAL(
                        fabs(reference_value(part, h, w, y + window.y, x + window.x, c) - *at++) < 1.01);
    }
}

/* --- against Pillow: tests/golden/gen/pillow_images.py --- */

static const char golden_path[] = "tests/golden/pillow_images.txt";
enum { GOLDEN_BYTES = 4096, GOLDEN_PIXELS = 300 * 400 * 3 };

static void golden_image(uint8_t *out, int height, int width, int channels)
{
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < channels; c++) {
                int v = (y * y * 7 + x * x * 3 + y * x * (c + 5) + 91 * c) & 255;
                *out++ = (uint8_t)((y / 3 + x / 4) % 2 ? 255 - v : v);
            }
}

static size_t read_hex(uint8_t *out, size_t capacity, const char *text)
{
    size_t n = 0;
    unsigned v;
    for (; n < capacity && sscanf(text + 2 * n, "%2x", &v) == 1; n++) out[n] = (uint8_t)v;
    return n;
}

static void check_bytes(const char *line, const uint8_t *found, size_t count)
{
    uint8_t expected[GOLDEN_BYTES];
    CU_ASSERT_EQUAL(read_hex(expected, sizeof expected, strchr(line, ':') + 2), count);
    bool same = !memcmp(found, expected, count);
    CU_ASSERT_TRUE(same);
    if (!same) printf("    differs: %.60s\n", line);
}

static bool golden_resize(const char *line, uint8_t *in)
{
    char filter_name[16];
    int channels, h, w, out_h, out_w;
    uint8_t out[GOLDEN_BYTES];
    oct_filter filter;
    oct_transform_scratch scratch = {0};
    if (sscanf(line, "resize %15s %d %d %d %d %d", filter_name, &channels, &h, &w, &out_h, &out_w) != 6) return false;
    CU_ASSERT_EQUAL(oct_filter_parse(&filter, filter_name, NULL), OCT_OK);
    golden_image(in, h, w, channels);
    oct_box all = {0, 0, out_h, out_w};
    CU_ASSERT_EQUAL(oct_resize(out, out_h, out_w, all, view_of(in, h, w, channels), filter, &scratch, NULL), OCT_OK);
    check_bytes(line, out, (size_t)(out_h * out_w * channels));
    /* Any window of it is the same, pixel by pixel. */
    uint8_t one[3];
    for (int i = 0; i < out_h * out_w; i++) {
        oct_box window = {i / out_w, i % out_w, 1, 1};
        CU_ASSERT_EQUAL(oct_resize(one, out_h, out_w, window, view_of(in, h, w, channels), filter, &scratch, NULL),
                        OCT_OK);
        CU_ASSERT_EQUAL(memcmp(one, out + i * channels, (size_t)channels), 0);
    }
    oct_transform_scratch_release(&scratch);
    return true;
}

static bool golden_evaluate(const char *line, uint8_t *in)
{
    char filter_name[16];
    int h, w;
    uint8_t out[GOLDEN_BYTES];
    oct_transform t = {0};
    oct_transform_scratch scratch = {0};
    if (sscanf(line, "evaluate %15s %d %d %d %d", filter_name, &h, &w, &t.size, &t.fit.resize) != 5) return false;
    CU_ASSERT_EQUAL(oct_filter_parse(&t.fit.filter, filter_name, NULL), OCT_OK);
    golden_image(in, h, w, 3);
    CU_ASSERT_EQUAL(oct_transform_apply(out, &t, view_of(in, h, w, 3), NULL, &scratch, NULL), OCT_OK);
    check_bytes(line, out, (size_t)(t.size * t.size * 3));
    oct_transform_scratch_release(&scratch);
    return true;
}

static bool golden_adjust(const char *line, uint8_t *in)
{
    char what[16];
    float factor;
    int channels;
    if (sscanf(line, "%15s %f %d", what, &factor, &channels) != 3) return false;
    golden_image(in, 5, 7, channels);
    if (!strcmp(what, "brightness")) oct_adjust_brightness(in, 35, channels, factor);
    if (!strcmp(what, "contrast")) oct_adjust_contrast(in, 35, channels, factor);
    if (!strcmp(what, "saturation")) oct_adjust_saturation(in, 35, factor);
    if (!strcmp(what, "hue")) oct_adjust_hue(in, 35, factor);
    check_bytes(line, in, (size_t)(35 * channels));
    return true;
}

static void golden_images_are_pillows_byte_for_byte(void)
{
    FILE *file = fopen(golden_path, "r");
    char *line = malloc(2 * GOLDEN_BYTES);
    uint8_t *in = malloc(GOLDEN_PIXELS);
    int resizes = 0, evaluations = 0, adjustments = 0;
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    CU_ASSERT_TRUE_FATAL(line && in);
    while (fgets(line, 2 * GOLDEN_BYTES, file)) {
        if (golden_resize(line, in))
            resizes++;
        else if (golden_evaluate(line, in))
            evaluations++;
        else
            adjustments += golden_adjust(line, in);
    }
    CU_ASSERT_EQUAL(resizes, 22);
    CU_ASSERT_EQUAL(evaluations, 4);
    CU_ASSERT_EQUAL(adjustments, 24);
    fclose(file);
    free(line);
    free(in);
}

static void color_jitter_is_keyed_and_strengths_bound_it(void)
{
    uint8_t in[6 * 6 * 3], a[6 * 6 * 3], b[6 * 6 * 3];
    golden_image(in, 6, 6, 3);
    static const oct_jitter none = {0}, all = {0.4f, 0.4f, 0.4f, 0.1f}, bright = {.brightness = 0.25f};
    int distinct = 0;
    for (uint64_t i = 0; i < 50; i++) {
        oct_rng rng = oct_rng_start(1, OCT_RNG_AUGMENT, 0, i), again = rng, untouched = rng;
        memcpy(a, in, sizeof in);
        memcpy(b, in, sizeof in);
        oct_color_jitter(a, 6, 6, 3, &none, &untouched);
        CU_ASSERT_EQUAL(memcmp(a, in, sizeof in), 0);
        oct_color_jitter(a, 6, 6, 3, &all, &rng);
        oct_color_jitter(b, 6, 6, 3, &all, &again);
        CU_ASSERT_EQUAL(memcmp(a, b, sizeof a), 0);
        distinct += memcmp(a, in, sizeof in) != 0;
        memcpy(b, in, sizeof in);
        oct_color_jitter(b, 6, 6, 3, &bright, &rng);
        for (size_t k = 0; k < sizeof b; k++) CU_ASSERT_TRUE(b[k] + 1 >= 0.75 * in[k] && b[k] <= 1.25 * in[k]);
        oct_color_jitter(b, 6, 6, 1, &all, &rng); /* grey: hue and saturation are passed over */
    }
    CU_ASSERT_TRUE(distinct > 45);
}

static void fit_squashes_and_refuses_what_cannot_be_cut(void)
{
    static const uint8_t wide[12] = {1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16};
    uint8_t whole[4], out[4];
    oct_error error = {0};
    oct_transform_scratch scratch = {0};
    oct_transform t = {.size = 2, .augment = OCT_AUGMENT_IMAGENET, .fit = {OCT_RESIZE_SQUASH, OCT_FILTER_BILINEAR}};
    resize_whole(whole, 2, 2, view_of(wide, 2, 6, 1));
    CU_ASSERT_EQUAL(oct_transform_apply(out, &t, view_of(wide, 2, 6, 1), NULL, &scratch, &error), OCT_OK);
    CU_ASSERT_EQUAL(memcmp(out, whole, 4), 0);
    t.fit.resize = 1;
    CU_ASSERT_EQUAL(oct_transform_apply(out, &t, view_of(wide, 2, 6, 1), NULL, &scratch, &error), OCT_ERR_ARGUMENT);
    oct_transform_scratch_release(&scratch);
    static const oct_fit by_recipe = {0}, bad_filter = {0, (oct_filter)7};
    CU_ASSERT_EQUAL(oct_fit_side(&by_recipe, OCT_AUGMENT_IMAGENET, 224), 256);
    CU_ASSERT_EQUAL(oct_fit_side(&by_recipe, OCT_AUGMENT_IMAGENET, 96), 109);
    CU_ASSERT_EQUAL(oct_fit_side(&by_recipe, OCT_AUGMENT_CIFAR, 32), 32);
    CU_ASSERT_EQUAL(oct_fit_check(&bad_filter, 2, NULL), OCT_ERR_ARGUMENT);
    oct_filter filter;
    oct_error_clear(&error);
    CU_ASSERT_EQUAL(oct_filter_parse(&filter, "lanczos", &error), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "bicubic"));
}

static void crop_padded_outside_is_zero(void)
{
    static const uint8_t in[6] = {1, 2, 3, 4, 5, 6}; /* 2 x 3 */
    uint8_t out[9];
    static const uint8_t up_left[9] = {0, 0, 0, 0, 1, 2, 0, 4, 5};
    static const uint8_t down_right[9] = {5, 6, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t zeros[9] = {0};
    oct_crop_padded(out, 3, 3, view_of(in, 2, 3, 1), -1, -1);
    CU_ASSERT_EQUAL(memcmp(out, up_left, 9), 0);
    oct_crop_padded(out, 3, 3, view_of(in, 2, 3, 1), 1, 1);
    CU_ASSERT_EQUAL(memcmp(out, down_right, 9), 0);
    static const int far_away[][2] = {{5, 0}, {-5, 0}, {0, 9}, {0, -9}};
    for (int i = 0; i < 4; i++) {
        memset(out, 7, 9);
        oct_crop_padded(out, 3, 3, view_of(in, 2, 3, 1), far_away[i][0], far_away[i][1]);
        CU_ASSERT_EQUAL(memcmp(out, zeros, 9), 0);
    }
}

static void flip_reverses_pixels_not_channels(void)
{
    uint8_t rgb[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, grey[4] = {1, 2, 3, 4};
    static const uint8_t rgb_flipped[9] = {7, 8, 9, 4, 5, 6, 1, 2, 3}, grey_flipped[4] = {2, 1, 4, 3};
    oct_flip_horizontal(rgb, 1, 3, 3);
    oct_flip_horizontal(grey, 2, 2, 1);
    CU_ASSERT_EQUAL(memcmp(rgb, rgb_flipped, 9), 0);
    CU_ASSERT_EQUAL(memcmp(grey, grey_flipped, 4), 0);
}

static void random_box_stays_inside_and_in_range(void)
{
    static const int sizes[][2] = {{100, 100}, {500, 333}, {1, 1}, {3, 200}, {200, 3}, {32, 32}};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        int h = sizes[s][0], w = sizes[s][1];
        double smallest = 1, largest = 0;
        for (uint64_t i = 0; i < 500; i++) {
            oct_rng rng = oct_rng_start(3, OCT_RNG_AUGMENT, 0, i);
            oct_box b = oct_random_resized_box(&rng, h, w);
            CU_ASSERT_TRUE_FATAL(b.y >= 0 && b.x >= 0 && b.height >= 1 && b.width >= 1);
            CU_ASSERT_TRUE_FATAL(b.y + b.height <= h && b.x + b.width <= w);
            double area = (double)b.height * b.width / ((double)h * w), ratio = (double)b.width / b.height;
            if (h >= 100 && w >= 100) CU_ASSERT_TRUE_FATAL(ratio > 0.72 && ratio < 1.38);
            if (area < smallest) smallest = area;
            if (area > largest) largest = area;
        }
        if (h == 100) CU_ASSERT_TRUE(smallest > 0.07 && smallest < 0.12 && largest > 0.9 && largest <= 1);
    }
}

static void apply(uint8_t *out, oct_transform transform, oct_view in, uint64_t sample)
{
    oct_error error = {0};
    oct_transform_scratch scratch = {0};
    oct_rng rng = oct_rng_start(5, OCT_RNG_AUGMENT, 0, sample);
    CU_ASSERT_TRUE(
        test_is_ok(&error, oct_transform_apply(out, &transform, in, &rng, &scratch, &error), "apply"));
    oct_transform_scratch_release(&scratch);
}

static void apply_evaluation_crops_the_centre(void)
{
    /* 2 x 6: the short side has the size already, so that columns 2 and 3 remain. */
    static const uint8_t wide[12] = {1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16};
    static const uint8_t expected[4] = {3, 4, 13, 14};
    uint8_t out[224 * 224];
    for (int a = 0; a < 3; a++) {
        apply(out, (oct_transform){.size = 2, .augment = (oct_augment)a}, view_of(wide, 2, 6, 1), 0);
        CU_ASSERT_EQUAL(memcmp(out, expected, 4), 0);
    }
    /* imagenet: a 256 x 256 image is not resized, 16 pixels go on every side. */
    static uint8_t square[256 * 256];
    for (int i = 0; i < 256 * 256; i++) square[i] = (uint8_t)(i * 7 + i / 256);
    apply(out, (oct_transform){.size = 224, .augment = OCT_AUGMENT_IMAGENET, .training = 0},
          view_of(square, 256, 256, 1), 0);
    for (int y = 0; y < 224; y++) CU_ASSERT_EQUAL(memcmp(out + y * 224, square + (y + 16) * 256 + 16, 224), 0);
}

static void apply_flip_and_cifar_give_each_variant_of_the_image(void)
{
    uint8_t in[8 * 8], out[8 * 8], flipped[8 * 8], window[8 * 8];
    for (int i = 0; i < 64; i++) in[i] = (uint8_t)(i + 1);
    memcpy(flipped, in, 64);
    oct_flip_horizontal(flipped, 8, 8, 1);
    int plain = 0, mirrored = 0, seen[81] = {0}, distinct = 0;
    for (uint64_t s = 0; s < 200; s++) {
        apply(out, (oct_transform){.size = 8, .augment = OCT_AUGMENT_FLIP, .training = 1}, view_of(in, 8, 8, 1), s);
        plain += !memcmp(out, in, 64);
        mirrored += !memcmp(out, flipped, 64);
    }
    CU_ASSERT_EQUAL(plain + mirrored, 200);
    CU_ASSERT_TRUE(plain > 60 && mirrored > 60);
    for (uint64_t s = 0; s < 1500; s++) {
        apply(out, (oct_transform){.size = 8, .augment = OCT_AUGMENT_CIFAR, .training = 1}, view_of(in, 8, 8, 1), s);
        int found = 0;
        for (int i = 0; i < 81; i++) {
            oct_crop_padded(window, 8, 8, view_of(in, 8, 8, 1), i / 9 - 4, i % 9 - 4);
            int same = !memcmp(out, window, 64);
            oct_flip_horizontal(window, 8, 8, 1);
            same = same || !memcmp(out, window, 64);
            found += same;
            seen[i] += same;
        }
        CU_ASSERT_EQUAL_FATAL(found, 1);
    }
    for (int i = 0; i < 81; i++) distinct += seen[i] > 0;
    CU_ASSERT_EQUAL(distinct, 81);
}

static void apply_twice_gives_the_same_bytes_and_every_recipe_fits_any_size(void)
{
    uint8_t in[9 * 17 * 3], a[12 * 12 * 3 + 1], b[12 * 12 * 3 + 1];
    oct_rng rng = oct_rng_start(2, OCT_RNG_SYNTHETIC, 0, 0);
    for (size_t i = 0; i < sizeof in; i++) in[i] = (uint8_t)oct_rng_u32(&rng);
    for (int recipe = 0; recipe < 4; recipe++) {
        for (int training = 0; training < 2; training++) {
            for (int size = 1; size <= 12; size++) {
                size_t bytes = (size_t)(size * size * 3);
                memset(a, 0xaa, sizeof a);
                apply(a, (oct_transform){.size = size, .augment = (oct_augment)recipe, .training = training},
                      view_of(in, 9, 17, 3), 9);
                apply(b, (oct_transform){.size = size, .augment = (oct_augment)recipe, .training = training},
                      view_of(in, 9, 17, 3), 9);
                CU_ASSERT_EQUAL(memcmp(a, b, bytes), 0);
                CU_ASSERT_EQUAL(a[bytes], 0xaa);
            }
        }
    }
}

static void apply_bad_size_and_unknown_names_are_refused(void)
{
    uint8_t in[1] = {0}, out[1];
    oct_error error = {0};
    oct_transform_scratch scratch = {0};
    oct_transform transform = {0};
    CU_ASSERT_EQUAL(oct_transform_apply(out, &transform, view_of(in, 1, 1, 1), NULL, &scratch, &error),
                    OCT_ERR_ARGUMENT);
    oct_augment augment;
    oct_error_clear(&error);
    CU_ASSERT_EQUAL(oct_augment_parse(&augment, "mixup", &error), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "cifar"));
    CU_ASSERT_EQUAL(oct_augment_parse(&augment, "imagenet", NULL), OCT_OK);
    CU_ASSERT_EQUAL(augment, OCT_AUGMENT_IMAGENET);
    CU_ASSERT_PTR_NULL(oct_augment_name((oct_augment)4));
}

static const test_case cases[] = {
    {"resize_doubling_interpolates_at_quarters", resize_doubling_interpolates_at_quarters},
    {"resize_halving_is_antialiased", resize_halving_is_antialiased},
    {"resize_constant_stays_constant_at_any_size", resize_constant_stays_constant_at_any_size},
    {"resize_window_of_a_strided_view_is_near_the_reference",
     resize_window_of_a_strided_view_is_near_the_reference},
    {"golden_images_are_pillows_byte_for_byte", golden_images_are_pillows_byte_for_byte},
    {"color_jitter_is_keyed_and_strengths_bound_it", color_jitter_is_keyed_and_strengths_bound_it},
    {"fit_squashes_and_refuses_what_cannot_be_cut", fit_squashes_and_refuses_what_cannot_be_cut},
    {"crop_padded_outside_is_zero", crop_padded_outside_is_zero},
    {"flip_reverses_pixels_not_channels", flip_reverses_pixels_not_channels},
    {"random_box_stays_inside_and_in_range", random_box_stays_inside_and_in_range},
    {"apply_evaluation_crops_the_centre", apply_evaluation_crops_the_centre},
    {"apply_flip_and_cifar_give_each_variant_of_the_image",
     apply_flip_and_cifar_give_each_variant_of_the_image},
    {"apply_twice_gives_the_same_bytes_and_every_recipe_fits_any_size",
     apply_twice_gives_the_same_bytes_and_every_recipe_fits_any_size},
    {"apply_bad_size_and_unknown_names_are_refused", apply_bad_size_and_unknown_names_are_refused},
};
TEST_SUITE("transform", cases);
