/* SPDX-License-Identifier: BSD-2-Clause
 * Profile affine by itself: observers, grids, fake quantization and weights against PyTorch (tests/golden/gen/affine.py), the
 * fixed-point forms against the vectors of docs/quantization.md 1.6, T21 and T31 where zero points matter.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/memory.h"
#include "quant/fold.h"
#include "quant/grid.h"
#include "quant/int8/affine.h"
#include "quant/int8/kernels/i8_kernels.h"
#include "tests/testing.h"

static const char golden_path[] = "tests/golden/affine.txt";
enum { MOST = 256 };

static float next_float(char **at)
{
    return strtof(*at, at);
}

static int next_int(char **at)
{
    return (int)strtol(*at, at, 10);
}

/* Calls fn with what stands behind `kind` in each line that begins with it; returns how many there were. */
static int for_each_line(const char *kind, void (*fn)(char *rest))
{
    FILE *file = fopen(golden_path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    static char line[1 << 14];
    int count = 0;
    size_t length = strlen(kind);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, kind, length)) continue;
        fn(line + length);
        count++;
    }
    fclose(file);
    return count;
}

static float observed[OCT_RANGE_FLOATS];

static void observe_line(char *rest)
{
    int n = next_int(&rest);
    if (n == 0) {
        oct_range_init(observed, OCT_SIGN_AUTO);
        return;
    }
    float m = INFINITY, M = -INFINITY;
    for (int i = 0; i < n; i++) {
        float x = next_float(&rest);
        m = fminf(m, x);
        M = fmaxf(M, x);
    }
    oct_grid_observe(observed, OCT_AVERAGING_MOVING, m, M);
    float lo = next_float(&rest), hi = next_float(&rest), scale = next_float(&rest);
    int zero = next_int(&rest);
    CU_ASSERT_EQUAL(observed[OCT_RANGE_LO], lo);
    CU_ASSERT_EQUAL(observed[OCT_RANGE_HI], hi);
    oct_clip_codes grid = oct_grid_of_range(observed, OCT_SIGN_AUTO, OCT_INT8_ROUND_FLOAT);
    CU_ASSERT_EQUAL(grid.scale, scale);
    CU_ASSERT_EQUAL(grid.zero_point, zero);
}

static void observer_equals_pytorch(void)
{
    CU_ASSERT_TRUE(for_each_line("observe", observe_line) > 10);
    oct_range_init(observed, OCT_SIGN_AUTO); /* S3's numbers, as its text prints them */
    oct_grid_observe(observed, OCT_AVERAGING_MOVING, -1.3974f, 1.1674f);
    oct_grid_observe(observed, OCT_AVERAGING_MOVING, -1.2556f, 1.4707f);
    oct_clip_codes grid = oct_grid_of_range(observed, OCT_SIGN_AUTO, OCT_INT8_ROUND_FLOAT);
    CU_ASSERT_DOUBLE_EQUAL(grid.scale, 0.0100643728, 1e-9);
    CU_ASSERT_EQUAL(grid.zero_point, 139);
}

/* Codes and mask of every level this machine has. */
static void tensor_line(char *rest)
{
    oct_clip_codes grid = {.affine = 1, .lo = 0, .hi = 255};
    float x[MOST], y[MOST], back[MOST];
    int pass[MOST];
    uint8_t codes[MOST], bits[MOST / 8];
    grid.scale = next_float(&rest);
    grid.zero_point = next_int(&rest);
    int n = next_int(&rest);
    CU_ASSERT_TRUE_FATAL(n <= MOST);
    for (int i = 0; i < n; i++) {
        x[i] = next_float(&rest);
        y[i] = next_float(&rest);
        pass[i] = next_int(&rest);
        CU_ASSERT_EQUAL((float)(oct_grid_code(&grid, x[i]) - grid.zero_point) * grid.scale, y[i]);
    }
    for (int level = 0; oct_cpu_level_name(level); level++) {
        uint32_t mask;
        oct_i8_kernels k;
        if (oct_cpu_parse(&mask, oct_cpu_level_name(level), NULL) != OCT_OK || mask & ~oct_cpu_detect()) continue;
        oct_i8_kernels_init(&k, mask);
        oct_i8_affine_quantize q = {.inverse = 1.0f / grid.scale, .zero = grid.zero_point, .lo = 0, .hi = 255,
                                    .x_low = -INFINITY, .x_high = INFINITY};
        oct_grid_pass(&grid, &q.p_low, &q.p_high);
        k.quantize_affine(codes, bits, x, (size_t)n, &q);
        k.dequantize(back, codes, (size_t)n, grid.scale, grid.zero_point, 0);
        int wrong = 0;
        for (int i = 0; i < n; i++) wrong += back[i] != y[i] || (bits[i / 8] >> i % 8 & 1) != pass[i];
        CU_ASSERT_EQUAL(wrong, 0);
    }
}

static void fake_quantize_equals_pytorch(void)
{
    CU_ASSERT_TRUE(for_each_line("tensor", tensor_line) >= 4);
}

static void channel_line(char *rest)
{
    float w[MOST];
    int outputs = next_int(&rest), per = next_int(&rest);
    CU_ASSERT_TRUE_FATAL(outputs * per <= MOST);
    for (int i = 0; i < outputs * per; i++) w[i] = next_float(&rest);
    oct_fold_source source = {.weights = w, .outputs = outputs, .per_output = (size_t)per, .affine = 1, .input_scale = 0.01f,
                              .per_channel = 1};
    void *block = oct_alloc(oct_fold_bytes(outputs, (size_t)per), 1);
    oct_fold fold = oct_fold_place(block, outputs, (size_t)per);
    oct_error error = {0};
    CU_ASSERT_EQUAL(oct_fold_weights(&fold, &source, "w", &error), OCT_OK);
    rest = strchr(rest, ';') + 1;
    for (int o = 0; o < outputs; o++) CU_ASSERT_EQUAL(fold.scale[o], next_float(&rest));
    rest = strchr(rest, ';') + 1;
    for (int i = 0; i < outputs * per; i++) CU_ASSERT_EQUAL(fold.codes[i], next_int(&rest));
    oct_free(block);
}

static void weights_equal_pytorch(void)
{
    CU_ASSERT_TRUE(for_each_line("channel", channel_line) >= 2);
}

/* The vectors of 1.6. */
static void fixed_point_vectors(void)
{
    static const struct {
        double ratio;
        int32_t q, shift;
    } factors[] = {{0.0003, 1319413953, -11}, {0.5, 1073741824, 0}, {2.0 / 170, 1616928864, -6}, {1.75, 1879048192, 1}};
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        oct_affine_factor f = oct_affine_factor_of(factors[i].ratio);
        CU_ASSERT_EQUAL(f.q, factors[i].q);
        CU_ASSERT_EQUAL(f.shift, factors[i].shift);
    }
    static const struct {
        double ratio;
        int32_t acc, twice, once;
    } table[] = {{0.0003, 5000, 2, 1}, {2.0 / 170, 127, 2, 1},     {1.0 / 3, 1, 1, 0}, {1.0 / 3, -1, -1, 0},
                 {0.25, -6, -2, -1},   {1.75, INT32_MAX, 1879048191, INT32_MAX}, {0, 12345, 0, 0}, {0x1p-40, INT32_MAX, 0, 0}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        oct_affine_factor f = oct_affine_factor_of(table[i].ratio);
        CU_ASSERT_EQUAL(oct_affine_fixed(table[i].acc, f, OCT_INT8_ROUND_DOUBLE), table[i].twice);
        CU_ASSERT_EQUAL(oct_affine_fixed(table[i].acc, f, OCT_INT8_ROUND_SINGLE), table[i].once);
    }
}

/* Ties go to the even code, then the zero point is added; anything fits. */
static void rounding_is_even_and_safe(void)
{
    static const struct {
        float p;
        int32_t code;
    } table[] = {{0.5f, 100}, {1.5f, 102}, {2.5f, 102}, {-0.5f, 100}, {-1.5f, 98}, {1e30f, 250}, {-1e30f, 3},
                 {INFINITY, 250}, {-INFINITY, 3}, {NAN, 3}, {149.6f, 250}, {-97.5f, 3}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        CU_ASSERT_EQUAL(oct_affine_round(table[i].p, 100, 3, 250), table[i].code);
}

/* Weights whose bias would not fit 32 bits get a larger scale; all in one tensor when they share it. */
static void large_bias_raises_the_scale(void)
{
    static const float w[4] = {1e-7f, -2e-7f, 1, 0.5f}, bias[2] = {50, 1};
    for (int per_channel = 0; per_channel < 2; per_channel++) {
        oct_fold_source source = {.weights = w, .outputs = 2, .per_output = 2, .affine = 1, .input_scale = 1e-3f,
                                  .bias = bias, .per_channel = per_channel};
        void *block = oct_alloc(oct_fold_bytes(2, 2), 1);
        oct_fold fold = oct_fold_place(block, 2, 2);
        oct_error error = {0};
        CU_ASSERT_EQUAL(oct_fold_weights(&fold, &source, "w", &error), OCT_OK);
        for (int o = 0; o < 2; o++) {
            CU_ASSERT_TRUE(abs(fold.bias[o]) < 1 << 30);
            CU_ASSERT_DOUBLE_EQUAL((double)fold.bias[o] * 1e-3 * (double)fold.scale[o], bias[o], 0.01 * (double)fold.scale[o] + 1e-5);
        }
        CU_ASSERT_EQUAL(fold.scale[0] == fold.scale[1], !per_channel);
        if (per_channel) CU_ASSERT_EQUAL(fold.scale[0], 0x1p-14f); /* 50/(1e-3 * 2^-14) is the first below 2^30 */
        oct_free(block);
    }
}

static const test_case cases[] = {
    {"observer_equals_pytorch", observer_equals_pytorch},
    {"fake_quantize_equals_pytorch", fake_quantize_equals_pytorch},
    {"weights_equal_pytorch", weights_equal_pytorch},
    {"T18_fixed_point_vectors", fixed_point_vectors},
    {"T3_rounding_is_even_and_safe", rounding_is_even_and_safe},
    {"T16_large_bias_raises_the_scale", large_bias_raises_the_scale},
};
TEST_SUITE("affine", cases);
