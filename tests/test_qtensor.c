/* SPDX-License-Identifier: BSD-2-Clause
 * Quantized tensors: golden values of PyTorch's tutorials, rounding rules at ties, every type, packing, files. */
#include "quant/qtensor.h"

#include <float.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "quant/int8/requant.h"
#include "tests/testing.h"

static const float tutorial[12] = {.1803f, -1.7519f, -.2755f, 1.0332f,  -.0269f, -1.3415f,
                                   .5794f, -.2408f,  1.4850f, -2.3509f, 1.7678f, -.7412f};
static const oct_shape tutorial_shape = {3, {2, 2, 3}};
static const oct_qformat s8 = {OCT_QTYPE_S8, OCT_QRANGE_FULL, OCT_QROUND_EVEN_SUM};

static oct_qtensor *quantize(const float *x, oct_shape shape, oct_qformat format, oct_qparams params)
{
    oct_qtensor *t;
    oct_error error = {0};
    CU_ASSERT_TRUE_FATAL(
        test_is_ok(&error, oct_qtensor_quantize(&t, x, &shape, &format, &params, &error), "quantize"));
    return t;
}

static void expect_values(const oct_qtensor *t, const double *expected)
{
    float values[64];
    oct_qtensor_dequantize(t, values);
    for (size_t i = 0; i < oct_qtensor_count(t); i++) CU_ASSERT_DOUBLE_EQUAL((double)values[i], expected[i], 1e-6);
}

static void expect_codes(const oct_qtensor *t, const int32_t *expected)
{
    int32_t codes[64];
    oct_qtensor_codes(t, codes);
    CU_ASSERT_EQUAL(memcmp(codes, expected, oct_qtensor_count(t) * sizeof *codes), 0);
}

static void quantize_per_tensor_gives_the_tutorials_values(void)
{
    static const double expected[12] = {.18, -1.28, -.28, 1.03, -.03, -1.28, .58, -.24, 1.27, -1.28, 1.27, -.74};
    static const int32_t codes[12] = {18, -128, -28, 103, -3, -128, 58, -24, 127, -128, 127, -74};
    static const float scale = .01f;
    oct_qtensor *t = quantize(tutorial, tutorial_shape, s8, (oct_qparams){.scales = &scale, .count = 1});
    expect_values(t, expected);
    expect_codes(t, codes);
    oct_qparams p = oct_qtensor_params(t);
    CU_ASSERT(p.count == 1 && p.axis == -1 && p.zero_points[0] == 0);
    CU_ASSERT_EQUAL(oct_qtensor_bytes(t), 12);
    oct_qtensor_destroy(t);
}

static void quantize_per_channel_gives_the_tutorials_values(void)
{
    static const double expected[12] = {.2, -1.28, -.129, 1.0, -.03, -.129, .6, -.24, .126, -2.4, 1.27, -.129};
    static const float scales[3] = {.1f, .01f, .001f};
    static const int32_t zeros[3] = {-1, 0, 1};
    oct_qtensor *t = quantize(tutorial, tutorial_shape, s8, (oct_qparams){scales, zeros, 3, 2});
    expect_values(t, expected);
    oct_qtensor_destroy(t);
}

/* Scales 1, 2, ... along each axis in turn: the code of the constant 12 tells which one was used. */
static void quantize_any_axis_uses_its_own_scale(void)
{
    float x[24];
    static const float scales[4] = {1, 2, 3, 4};
    for (int i = 0; i < 24; i++) x[i] = 12;
    for (int axis = 0; axis < 3; axis++) {
        oct_shape shape = {3, {2, 3, 4}};
        oct_qtensor *t = quantize(x, shape, s8, (oct_qparams){scales, NULL, shape.dim[axis], axis});
        for (int32_t a = 0; a < 2; a++)
            for (int32_t b = 0; b < 3; b++)
                for (int32_t c = 0; c < 4; c++) {
                    int32_t index[3] = {a, b, c}, code;
                    size_t at;
                    CU_ASSERT_EQUAL(oct_qtensor_position(t, &at, index, NULL), OCT_OK);
                    CU_ASSERT_EQUAL(at, (size_t)(12 * a + 4 * b + c));
                    CU_ASSERT_EQUAL(oct_qtensor_code(t, at, &code, NULL), OCT_OK);
                    CU_ASSERT_EQUAL(code, 12 / (index[axis] + 1));
                }
        oct_qtensor_destroy(t);
    }
}

static void quantize_ties_follow_the_rounding_rule(void)
{
    static const float x[6] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f}, one = 1;
    static const int32_t zero = 1;
    static const int32_t expected[4][6] = {
        {1, 3, 3, 1, -1, -1}, /* even */
        {2, 2, 4, 0, 0, -2},  /* even-sum: PyTorch's quantize_per_tensor */
        {2, 3, 4, 1, 0, -1},  /* up */
        {2, 3, 4, 0, -1, -2}, /* away */
    };
    for (int r = 0; r < 4; r++) {
        oct_qformat format = {OCT_QTYPE_S8, OCT_QRANGE_FULL, (oct_qrounding)r};
        oct_qtensor *t = quantize(x, OCT_SHAPE(6), format, (oct_qparams){&one, &zero, 1, 0});
        expect_codes(t, expected[r]);
        oct_qtensor_destroy(t);
    }
}

static void limits_of_every_format(void)
{
    static const int expected[5][3][2] = {{{0, 255}, {1, 0}, {0, 127}},
                                          {{-128, 127}, {-127, 127}, {-64, 63}},
                                          {{0, 65535}, {1, 0}, {0, 32767}},
                                          {{-32768, 32767}, {-32767, 32767}, {-16384, 16383}},
                                          {{-8, 7}, {-7, 7}, {-4, 3}}};
    static const float ends[3] = {-INFINITY, 0, INFINITY}, scale = 0.25f;
    for (int type = 0; type < 5; type++)
        for (int range = 0; range < 3; range++) {
            oct_qformat format = {(oct_qtype)type, (oct_qrange)range, OCT_QROUND_EVEN};
            const int *limits = expected[type][range];
            int lo, hi;
            bool refused = limits[0] > limits[1];
            CU_ASSERT_EQUAL(oct_qformat_limits(&lo, &hi, &format, NULL), refused ? OCT_ERR_ARGUMENT : OCT_OK);
            if (refused) continue;
            CU_ASSERT(lo == limits[0] && hi == limits[1]);
            oct_qtensor *t = quantize(ends, OCT_SHAPE(3), format, (oct_qparams){.scales = &scale, .count = 1});
            int32_t saturated[3] = {lo, 0, hi};
            expect_codes(t, saturated);
            oct_qtensor_destroy(t);
        }
    CU_ASSERT_STRING_EQUAL(oct_qtype_name(OCT_QTYPE_S4), "s4");
    CU_ASSERT_PTR_NULL(oct_qtype_name((oct_qtype)5));
    CU_ASSERT_PTR_NULL(oct_qrange_name((oct_qrange)3));
    CU_ASSERT_PTR_NULL(oct_qrounding_name((oct_qrounding)4));
}

static void four_bits_are_packed_high_nibble_first(void)
{
    static const int32_t codes[5] = {-8, 7, -1, 0, 3};
    static const uint8_t bytes[3] = {0x87, 0xf0, 0x30};
    static const float scale = 1;
    static const oct_qformat format = {OCT_QTYPE_S4, OCT_QRANGE_FULL, OCT_QROUND_AWAY};
    static const oct_shape shape = {1, {5}};
    static const oct_qparams params = {.scales = &scale, .count = 1};
    oct_qtensor *t;
    oct_error error = {0};
    CU_ASSERT_EQUAL_FATAL(oct_qtensor_from_codes(&t, codes, &shape, &format, &params, &error), OCT_OK);
    CU_ASSERT_EQUAL(oct_qtensor_bytes(t), 3);
    CU_ASSERT_EQUAL(memcmp(oct_qtensor_data(t), bytes, 3), 0);
    expect_codes(t, codes);
    /* Every code at every place, and the neighbours stay. */
    for (size_t i = 0; i < 5; i++)
        for (int32_t code = -8; code < 8; code++) {
            int32_t all[5];
            memcpy(all, codes, sizeof all);
            all[i] = code;
            CU_ASSERT_EQUAL(oct_qtensor_set_code(t, i, code, &error), OCT_OK);
            expect_codes(t, all);
            CU_ASSERT_EQUAL(oct_qtensor_set_code(t, i, codes[i], &error), OCT_OK);
        }
    CU_ASSERT_EQUAL(oct_qtensor_set_code(t, 0, 8, &error), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "expected -8..7, found 8"));
    CU_ASSERT_EQUAL(memcmp(oct_qtensor_data(t), bytes, 3), 0);
    oct_qtensor_destroy(t);
}

static void elements_are_read_and_assigned(void)
{
    static const float scales[2] = {.5f, .25f};
    static const int32_t zeros[2] = {10, 20};
    static const oct_qformat format = {OCT_QTYPE_U8, OCT_QRANGE_REDUCED, OCT_QROUND_EVEN};
    float x[4] = {0, 0, 0, 0}, value;
    int32_t code;
    oct_error error = {0};
    oct_qtensor *t = quantize(x, OCT_SHAPE(2, 2), format, (oct_qparams){scales, zeros, 2, 0});
    CU_ASSERT_EQUAL(oct_qtensor_set_value(t, 1, 3.5f, &error), OCT_OK);
    CU_ASSERT_EQUAL(oct_qtensor_set_value(t, 2, -100, &error), OCT_OK);
    CU_ASSERT_EQUAL(oct_qtensor_set_code(t, 3, 127, &error), OCT_OK);
    static const int32_t expected[4] = {10, 17, 0, 127};
    expect_codes(t, expected);
    CU_ASSERT_EQUAL(oct_qtensor_value(t, 1, &value, &error), OCT_OK);
    CU_ASSERT(value == 3.5f);
    CU_ASSERT_EQUAL(oct_qtensor_value(t, 2, &value, &error), OCT_OK);
    CU_ASSERT(value == -5);
    CU_ASSERT_EQUAL(oct_qtensor_set_value(t, 0, NAN, &error), OCT_ERR_NUMERIC);
    CU_ASSERT_EQUAL(oct_qtensor_code(t, 4, &code, NULL), OCT_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(oct_qtensor_value(t, 4, &value, NULL), OCT_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(oct_qtensor_set_code(t, 4, 0, NULL), OCT_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(oct_qtensor_set_code(t, 0, 128, NULL), OCT_ERR_ARGUMENT);
    size_t at;
    CU_ASSERT_EQUAL(oct_qtensor_position(t, &at, (int32_t[]){1, 2}, NULL), OCT_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(oct_qtensor_position(t, &at, (int32_t[]){-1, 0}, NULL), OCT_ERR_ARGUMENT);
    expect_codes(t, expected);
    oct_qtensor_destroy(t);
}

static void create_bad_arguments_are_refused_with_reasons(void)
{
    static const float good[2] = {1, 1}, bad_scales[2] = {1, 0}, tiny[1] = {1e-45f}, infinite[1] = {INFINITY};
    static const int32_t zeros[2] = {0, 128}, codes[2] = {0, -9};
    static const float x[2] = {0, NAN};
    static const struct {
        oct_shape shape;
        oct_qformat format;
        oct_qparams params;
        oct_status status;
        const char *reason;
    } bad[] = {
        {{1, {2}}, {OCT_QTYPE_S8, 0, 0}, {bad_scales, NULL, 2, 0}, OCT_ERR_ARGUMENT, "scale 1"},
        {{1, {2}}, {OCT_QTYPE_S8, 0, 0}, {tiny, NULL, 1, 0}, OCT_ERR_ARGUMENT, "scale 0"},
        {{1, {2}}, {OCT_QTYPE_S8, 0, 0}, {infinite, NULL, 1, 0}, OCT_ERR_ARGUMENT, "scale 0"},
        {{1, {2}}, {OCT_QTYPE_S8, 0, 0}, {good, zeros, 2, 0}, OCT_ERR_ARGUMENT, "zero point 1: expected -128..127"},
        {{1, {3}}, {OCT_QTYPE_S8, 0, 0}, {good, NULL, 2, 0}, OCT_ERR_SHAPE, "2 scales: expected 1 or 3"},
        {{1, {2}}, {OCT_QTYPE_S8, 0, 0}, {good, NULL, 2, 1}, OCT_ERR_ARGUMENT, "axis"},
        {{1, {OCT_BATCH}}, {OCT_QTYPE_S8, 0, 0}, {good, NULL, 1, 0}, OCT_ERR_ARGUMENT, "dimension 0"},
        {{2, {INT32_MAX, 2}}, {OCT_QTYPE_S8, 0, 0}, {good, NULL, 1, 0}, OCT_ERR_MEMORY, "2^31 - 1"},
        {{5, {1}}, {OCT_QTYPE_S8, 0, 0}, {good, NULL, 1, 0}, OCT_ERR_ARGUMENT, "rank"},
        {{1, {2}}, {OCT_QTYPE_U8, OCT_QRANGE_NARROW, 0}, {good, NULL, 1, 0}, OCT_ERR_ARGUMENT, "narrow"},
        {{1, {2}}, {(oct_qtype)9, 0, 0}, {good, NULL, 1, 0}, OCT_ERR_ARGUMENT, "unknown"},
        {{1, {2}}, {OCT_QTYPE_S8, 0, 0}, {good, NULL, 1, 0}, OCT_ERR_NUMERIC, "element 1 is NaN"},
    };
    oct_qtensor *t;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        oct_error error = {0};
        CU_ASSERT_EQUAL(oct_qtensor_quantize(&t, x, &bad[i].shape, &bad[i].format, &bad[i].params, &error),
                        bad[i].status);
        CU_ASSERT_PTR_NULL(t);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.message, bad[i].reason));
    }
    oct_error error = {0};
    static const oct_qformat four = {OCT_QTYPE_S4, 0, 0};
    static const oct_shape two = {1, {2}};
    CU_ASSERT_EQUAL(oct_qtensor_from_codes(&t, codes, &two, &four, &(oct_qparams){good, NULL, 1, 0}, &error),
                    OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "element 1: expected -8..7, found -9"));
}

static void create_with_failing_allocations_is_clean(void)
{
    static const float scale = 1;
    oct_status status = OCT_ERR_MEMORY;
    for (long n = 1; status != OCT_OK && n < 20; n++) {
        oct_qtensor *t;
        oct_alloc_fail_after(n);
        status = oct_qtensor_quantize(&t, tutorial, &tutorial_shape, &s8, &(oct_qparams){&scale, NULL, 1, 0}, NULL);
        oct_alloc_fail_after(0);
        CU_ASSERT_TRUE((t != NULL) == (status == OCT_OK));
        oct_qtensor_destroy(t);
    }
    CU_ASSERT_EQUAL(status, OCT_OK);
}

/* Against the functions that training and the exporter round with. */
static void quantize_is_the_arithmetic_of_profile_po2(void)
{
    enum { N = 4096 };
    static float x[N];
    static int32_t codes[N];
    oct_rng rng = oct_rng_start(1, OCT_RNG_SYNTHETIC, 0, 0);
    for (int i = 0; i < N; i++)
        x[i] = i % 2 ? (float)((int)oct_rng_below(&rng, 800) - 400) / 64 : 3 * oct_rng_normal(&rng);
    static const float scale = 0x1p-5f;
    oct_qparams params = {.scales = &scale, .count = 1};
    oct_qtensor *t = quantize(x, OCT_SHAPE(N), (oct_qformat){OCT_QTYPE_U8, OCT_QRANGE_FULL, OCT_QROUND_UP}, params);
    oct_qtensor_codes(t, codes);
    for (int i = 0; i < N; i++) CU_ASSERT_EQUAL(codes[i], oct_activation_code(x[i], 32, 0, 255));
    oct_qtensor_destroy(t);
    t = quantize(x, OCT_SHAPE(N), (oct_qformat){OCT_QTYPE_S8, OCT_QRANGE_NARROW, OCT_QROUND_AWAY}, params);
    oct_qtensor_codes(t, codes);
    for (int i = 0; i < N; i++) CU_ASSERT_EQUAL(codes[i], oct_weight_code((double)x[i], 32, -127, 127));
    oct_qtensor_destroy(t);
}

static void params_of_range_match_the_sources(void)
{
    static const oct_qformat u8 = {OCT_QTYPE_U8, 0, 0}, narrow = {OCT_QTYPE_S8, OCT_QRANGE_NARROW, 0},
                             u8r = {OCT_QTYPE_U8, OCT_QRANGE_REDUCED, 0}, u16 = {OCT_QTYPE_U16, 0, 0},
                             s16 = {OCT_QTYPE_S16, 0, 0}, s4 = {OCT_QTYPE_S4, OCT_QRANGE_NARROW, 0};
    static const struct {
        const oct_qformat *format;
        oct_qscheme scheme;
        float lo, hi;
        double scale;
        int zero;
    } cases[] = {
        {&u8, OCT_QSCHEME_AFFINE, -1.3974f, 1.4707f, 0.0112474514, 124}, /* PyTorch, MinMaxObserver */
        {&u8, OCT_QSCHEME_AFFINE, 1, 2.55f, 0.01, 0},                    /* widened to hold 0 */
        {&u8, OCT_QSCHEME_AFFINE, -2.55f, -1, 0.01, 255},
        {&u8, OCT_QSCHEME_AFFINE, 0, 0, 1.1920929e-7, 0},
        {&s8, OCT_QSCHEME_AFFINE, 0, 2.55f, 0.01, -128},
        {&s8, OCT_QSCHEME_SYMMETRIC, -1, 1.275f, 0.01, 0}, /* divisor 127.5 */
        {&narrow, OCT_QSCHEME_SYMMETRIC, -1.27f, 1, 0.01, 0},
        {&u8, OCT_QSCHEME_SYMMETRIC, -1, 1.275f, 0.01, 128},
        {&u8r, OCT_QSCHEME_SYMMETRIC, -0.635f, 0, 0.01, 63},
        {&s16, OCT_QSCHEME_SYMMETRIC, -1, 1, 1 / 32767.5, 0},
        {&s4, OCT_QSCHEME_SYMMETRIC, -1.4f, 0, 0.2, 0},
        {&s8, OCT_QSCHEME_PO2, -1, 1, 0x1p-7, 0},
        {&s8, OCT_QSCHEME_PO2, -1.0001f, 1, 0x1p-6, 0},
        {&u8, OCT_QSCHEME_PO2, -100, 1, 0x1p-8, 0}, /* unsigned: the negative side does not count */
        {&u16, OCT_QSCHEME_PO2, 0, 1, 0x1p-16, 0},
        {&s4, OCT_QSCHEME_PO2, 0, 1, 0x1p-3, 0},
        {&s8, OCT_QSCHEME_PO2, 0, 0, 0x1p-23, 0},
        {&u8, OCT_QSCHEME_AFFINE, -FLT_MAX, FLT_MAX, 2.66888115e36, 128},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float scale = 0;
        int32_t zero = -1;
        CU_ASSERT_EQUAL(
            oct_qparams_of_range(&scale, &zero, cases[i].lo, cases[i].hi, cases[i].scheme, cases[i].format, NULL),
            OCT_OK);
        bool same = fabs((double)scale / cases[i].scale - 1) < 1e-6 && zero == cases[i].zero;
        CU_ASSERT_TRUE(same);
        if (!same) printf("    case %zu: scale %.9g, zero %d\n", i, (double)scale, zero);
    }
    float scale;
    int32_t zero;
    CU_ASSERT_EQUAL(oct_qparams_of_range(&scale, &zero, 1, 0, OCT_QSCHEME_PO2, &u8, NULL), OCT_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(oct_qparams_of_range(&scale, &zero, 0, NAN, OCT_QSCHEME_PO2, &u8, NULL), OCT_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(oct_qparams_of_range(&scale, &zero, 0, 1, (oct_qscheme)3, &u8, NULL), OCT_ERR_ARGUMENT);
}

/* --- copies, lines, files --- */

static oct_qtensor *sample(int type, bool per_channel)
{
    static const float scales[3] = {.3f, .02f, .01f};
    static const int32_t zeros[3] = {1, 0, 2};
    return quantize(tutorial, tutorial_shape, (oct_qformat){(oct_qtype)type, OCT_QRANGE_REDUCED, OCT_QROUND_EVEN},
                    (oct_qparams){scales, zeros, per_channel ? 3 : 1, 2});
}

static void copy_is_equal_and_separate(void)
{
    oct_qtensor *t = sample(OCT_QTYPE_S4, true), *copy;
    CU_ASSERT_EQUAL_FATAL(oct_qtensor_copy(&copy, t, NULL), OCT_OK);
    CU_ASSERT_TRUE(oct_qtensor_equal(t, copy));
    CU_ASSERT_EQUAL(oct_qtensor_set_code(copy, 3, 2, NULL), OCT_OK);
    CU_ASSERT_EQUAL(oct_qtensor_set_code(t, 3, 1, NULL), OCT_OK);
    CU_ASSERT_FALSE(oct_qtensor_equal(t, copy));
    oct_qtensor_destroy(t);
    oct_qtensor_destroy(copy);
    oct_qtensor_destroy(NULL);
}

static void append_line(void *user, const char *line)
{
    strcat(user, line);
    strcat(user, "|");
}

static void print_shows_head_and_rows(void)
{
    static const float scale = .01f, x[5] = {0, 1, 2, 3, 4}, one = 1;
    char text[1024] = "";
    oct_qtensor *t = quantize(tutorial, tutorial_shape, s8, (oct_qparams){.scales = &scale, .count = 1});
    oct_qtensor_print(t, 3, append_line, text);
    CU_ASSERT_STRING_EQUAL(text, "s8 full [2,2,3] scale 0.00999999978, zero point 0, even-sum|0.18 -1.28 -0.28|"
                                 "1.03 -0.03 -1.28|...|-1.28 1.27 -0.74|");
    if (strncmp(text, "s8 full [2,2,3] scale", 21)) printf("    %s\n", text);
    oct_qtensor_destroy(t);
    text[0] = '\0';
    t = quantize(x, OCT_SHAPE(5, 1), s8, (oct_qparams){.scales = &one, .count = 1});
    oct_qtensor_print(t, 1, append_line, text);
    CU_ASSERT_PTR_NOT_NULL(strstr(text, "|0|...|"));
    oct_qtensor_destroy(t);
}

static void check_round_trip(const char *folder, const oct_qtensor *t)
{
    char a[512], b[512];
    oct_error error = {0};
    oct_qtensor *back;
    uint8_t *bytes[2];
    size_t sizes[2];
    snprintf(a, sizeof a, "%s/a.h5", folder);
    snprintf(b, sizeof b, "%s/b.h5", folder);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_qtensor_save(t, a, &error), "save"));
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_qtensor_load(&back, a, &error), "load"));
    CU_ASSERT_TRUE(oct_qtensor_equal(t, back));
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_qtensor_save(back, b, &error), "save"));
    CU_ASSERT_EQUAL_FATAL(oct_file_read(&bytes[0], &sizes[0], a, 1 << 20, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_file_read(&bytes[1], &sizes[1], b, 1 << 20, &error), OCT_OK);
    CU_ASSERT_TRUE(sizes[0] == sizes[1] && !memcmp(bytes[0], bytes[1], sizes[0]));
    oct_free(bytes[0]);
    oct_free(bytes[1]);
    oct_qtensor_destroy(back);
}

static void save_and_load_keep_everything(void)
{
    const char *folder = test_folder();
    static const float scale = 1, x[1] = {3};
    for (int type = 0; type < 5; type++)
        for (int per_channel = 0; per_channel < 2; per_channel++) {
            oct_qtensor *t = sample(type, per_channel);
            check_round_trip(folder, t);
            oct_qtensor_destroy(t);
        }
    oct_qtensor *scalar = quantize(x, (oct_shape){0}, s8, (oct_qparams){.scales = &scale, .count = 1});
    check_round_trip(folder, scalar);
    oct_qtensor_destroy(scalar);
    oct_qtensor *empty = quantize(x, OCT_SHAPE(2, 0), s8, (oct_qparams){.scales = &scale, .count = 1});
    check_round_trip(folder, empty);
    oct_qtensor_destroy(empty);
}

static void set_int(hid_t file, const char *name, int value)
{
    hid_t at = H5Aopen(file, name, H5P_DEFAULT);
    H5Awrite(at, H5T_NATIVE_INT, &value);
    H5Aclose(at);
}
static void set_shape(hid_t file, int a, int b, int c)
{
    int dims[3] = {a, b, c};
    hid_t at = H5Aopen(file, "shape", H5P_DEFAULT);
    H5Awrite(at, H5T_NATIVE_INT, dims);
    H5Aclose(at);
}
static void set_text(hid_t file, const char *name, const char *text)
{
    char padded[32] = {0};
    snprintf(padded, sizeof padded, "%s", text);
    hid_t at = H5Aopen(file, name, H5P_DEFAULT), type = H5Aget_type(at);
    H5Awrite(at, type, padded);
    H5Tclose(type);
    H5Aclose(at);
}
static void set_first(hid_t file, const char *name, hid_t memory, const void *values)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    H5Dwrite(set, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(set);
}

static void damage_version(hid_t f)
{
    set_int(f, "version", 2);
}
static void damage_format(hid_t f)
{
    set_text(f, "format", "octet-state");
}
static void damage_type(hid_t f)
{
    set_text(f, "type", "s5");
}
static void damage_other_type(hid_t f)
{
    set_text(f, "type", "s16");
}
static void damage_axis(hid_t f)
{
    set_int(f, "axis", -1);
}
static void damage_axis_out(hid_t f)
{
    set_int(f, "axis", 3);
}
static void damage_shape(hid_t f)
{
    set_shape(f, 2, 2, 4);
}
static void damage_shape_negative(hid_t f)
{
    set_shape(f, 2, -2, 3);
}
static void damage_shape_huge(hid_t f)
{
    set_shape(f, 1 << 30, 1 << 30, 3);
}
static void damage_missing(hid_t f)
{
    H5Ldelete(f, "codes", H5P_DEFAULT);
}
static void damage_link(hid_t f)
{
    H5Ldelete(f, "codes", H5P_DEFAULT);
    H5Lcreate_external("other.h5", "codes", f, "codes", H5P_DEFAULT, H5P_DEFAULT);
}
static void damage_scale(hid_t f)
{
    set_first(f, "scales", H5T_NATIVE_FLOAT, (float[]){1, NAN, 1});
}
static void damage_zero(hid_t f)
{
    set_first(f, "zero_points", H5T_NATIVE_INT32, (int32_t[]){0, 0, 64});
}
static void damage_code(hid_t f)
{
    int8_t codes[12] = {[7] = 64};
    set_first(f, "codes", H5T_NATIVE_INT8, codes);
}

static void load_damaged_files_are_refused_with_reasons(void)
{
    static const struct {
        void (*damage)(hid_t);
        oct_status status;
        const char *reason;
    } cases[] = {
        {damage_version, OCT_ERR_UNSUPPORTED, "version 2"},
        {damage_format, OCT_ERR_FORMAT, "'format' is not"},
        {damage_type, OCT_ERR_FORMAT, "type: unknown \"s5\""},
        {damage_other_type, OCT_ERR_FORMAT, "'codes' has another number type"},
        {damage_axis, OCT_ERR_FORMAT, "contradict"},
        {damage_axis_out, OCT_ERR_FORMAT, "axis: expected 0..2, found 3"},
        {damage_shape, OCT_ERR_FORMAT, "'codes' has another number type or count"},
        {damage_shape_negative, OCT_ERR_FORMAT, "'shape' is negative"},
        {damage_shape_huge, OCT_ERR_FORMAT, "'shape' is negative or has more"},
        {damage_missing, OCT_ERR_FORMAT, "'codes' is missing"},
        {damage_link, OCT_ERR_FORMAT, "'codes' is a soft or external link"},
        {damage_scale, OCT_ERR_FORMAT, "scale 1"},
        {damage_zero, OCT_ERR_FORMAT, "zero point 2"},
        {damage_code, OCT_ERR_FORMAT, "element 7: expected -64..63, found 64"},
    };
    char path[512];
    oct_qtensor *t = sample(OCT_QTYPE_S8, true), *back;
    snprintf(path, sizeof path, "%s/t.h5", test_folder());
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        oct_error error = {0};
        CU_ASSERT_EQUAL_FATAL(oct_qtensor_save(t, path, &error), OCT_OK);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        cases[i].damage(file);
        H5Fclose(file);
        CU_ASSERT_EQUAL(oct_qtensor_load(&back, path, &error), cases[i].status);
        CU_ASSERT_PTR_NULL(back);
        bool told = strstr(error.message, cases[i].reason) && strstr(error.message, "t.h5");
        CU_ASSERT_TRUE(told);
        if (!told) printf("    case %zu: %s\n", i, error.message);
    }
    oct_qtensor_destroy(t);
}

static void load_truncated_anywhere_is_refused(void)
{
    char path[512];
    oct_error error = {0};
    uint8_t *bytes;
    size_t size;
    oct_qtensor *t = sample(OCT_QTYPE_S16, true), *back;
    snprintf(path, sizeof path, "%s/t.h5", test_folder());
    CU_ASSERT_EQUAL(oct_qtensor_load(&back, path, &error), OCT_ERR_IO);
    oct_error_clear(&error);
    CU_ASSERT_EQUAL_FATAL(oct_qtensor_save(t, path, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_file_read(&bytes, &size, path, 1 << 20, &error), OCT_OK);
    for (size_t cut = 0; cut < size; cut += 1 + size / 60) {
        CU_ASSERT_EQUAL(oct_file_write(path, bytes, cut, &error), OCT_OK);
        CU_ASSERT_EQUAL(oct_qtensor_load(&back, path, NULL), OCT_ERR_FORMAT);
        CU_ASSERT_PTR_NULL(back);
    }
    oct_free(bytes);
    oct_qtensor_destroy(t);
}

#define CASE(f)                                                                                                      \
    {                                                                                                                \
#f, f                                                                                                        \
    }
static const test_case cases[] = {
    CASE(quantize_per_tensor_gives_the_tutorials_values),
    CASE(quantize_per_channel_gives_the_tutorials_values),
    CASE(quantize_any_axis_uses_its_own_scale),
    CASE(quantize_ties_follow_the_rounding_rule),
    CASE(limits_of_every_format),
    CASE(four_bits_are_packed_high_nibble_first),
    CASE(elements_are_read_and_assigned),
    CASE(create_bad_arguments_are_refused_with_reasons),
    CASE(create_with_failing_allocations_is_clean),
    CASE(quantize_is_the_arithmetic_of_profile_po2),
    CASE(params_of_range_match_the_sources),
    CASE(copy_is_equal_and_separate),
    CASE(print_shows_head_and_rows),
    CASE(save_and_load_keep_everything),
    CASE(load_damaged_files_are_refused_with_reasons),
    CASE(load_truncated_anywhere_is_refused),
};
TEST_SUITE("qtensor", cases);
