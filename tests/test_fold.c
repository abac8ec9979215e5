/* SPDX-License-Identifier: BSD-2-Clause
 * Folded weights and biases (quant/fold.h) and the integer batch norm (quant/layer_norm.h): scales of zero
 * and negative gamma, exponents per tensor and per channel, the bounds that keep accumulators in 32 bits,
 * exact statistics. */
#include "quant/fold.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "quant/layer_norm.h"
#include "tests/testing.h"

enum { MAX_OUTPUTS = 8 };

/* A fold and its memory; the status says whether the arrays mean anything. */
typedef struct folded {
    oct_fold f;
    oct_status status;
    oct_error error;
    void *block;
} folded;

static folded fold(const oct_fold_source *source)
{
    folded r = {.block = oct_alloc(oct_fold_bytes(source->outputs, source->per_output), 1)};
    CU_ASSERT_PTR_NOT_NULL_FATAL(r.block);
    r.f = oct_fold_place(r.block, source->outputs, source->per_output);
    r.status = oct_fold_weights(&r.f, source, "layer", &r.error);
    return r;
}

/* Asserts the two bounds of docs/quantization.md 11.2 on every output. */
static void check_bounds(const folded *r, const oct_fold_source *src)
{
    for (int o = 0; o < src->outputs; o++) {
        int64_t sum = 0;
        for (size_t i = 0; i < src->per_output; i++)
            sum += abs(r->f.codes[src->outputs_last ? i * (size_t)src->outputs + (size_t)o
                                                    : (size_t)o * src->per_output + i]);
        CU_ASSERT_TRUE(255 * sum < INT64_C(1) << 29);
        CU_ASSERT_TRUE(llabs((long long)r->f.bias[o]) < INT64_C(1) << 30);
    }
}

/* docs/quantization.md 3.1: max|w| = 0.7 -> clip 1, kappa 128; ties away from zero. */
static void fold_plain_weights_round_half_away(void)
{
    static const float w[8] = {0.7f, -0.7f, 0.00390625f, -0.00390625f, 0.0f, 0.5f, -0.01171875f, 0.0039f};
    static const int8_t q[8] = {90, -90, 1, -1, 0, 64, -2, 0};
    oct_fold_source s = {
        .weights = w, .outputs = 1, .per_output = 8, .input_exponent = 8, .bias = (const float[]){1.00001f}};
    folded r = fold(&s);
    CU_ASSERT_EQUAL(r.status, OCT_OK);
    CU_ASSERT_EQUAL(r.f.exponent[0], 7);
    CU_ASSERT_EQUAL(r.f.s[0], 1);
    CU_ASSERT_EQUAL(memcmp(r.f.codes, q, sizeof q), 0);
    CU_ASSERT_EQUAL(r.f.bias[0], 32768); /* 1.00001 * 2^15 = 32768.33 */
    CU_ASSERT_EQUAL(r.f.dead[0], 0);
    oct_free(r.block);
}

/* The narrow range: a weight of exactly the clip saturates, on both sides alike (T5), and gets no gradient.
 */
static void fold_weight_at_the_clip_saturates_and_is_masked(void)
{
    static const float w[4] = {1, -1, 0.99609375f /* 127.5 */, 0.9921875f /* 127 */};
    static const int8_t q[4] = {127, -127, 127, 127};
    static const uint8_t passes[4] = {0, 0, 0, 1};
    oct_fold_source s = {.weights = w, .outputs = 1, .per_output = 4};
    folded r = fold(&s);
    CU_ASSERT_EQUAL(r.f.exponent[0], 7);
    CU_ASSERT_EQUAL(memcmp(r.f.codes, q, 4), 0);
    CU_ASSERT_EQUAL(memcmp(r.f.passes, passes, 4), 0);
    oct_free(r.block);
}

/* T2: a maximum one float above a power of two takes the next exponent. */
static void fold_exponent_is_exact(void)
{
    for (int e = -15; e < 20; e++) {
        float p = ldexpf(1, e), above = nextafterf(p, INFINITY);
        oct_fold_source s = {.weights = &p, .outputs = 1, .per_output = 1};
        folded r = fold(&s);
        CU_ASSERT_EQUAL(r.f.exponent[0], 7 - e);
        oct_free(r.block);
        s.weights = &above;
        r = fold(&s);
        CU_ASSERT_EQUAL(r.f.exponent[0], 7 - e - 1);
        CU_ASSERT_EQUAL(r.f.codes[0], 64);
        oct_free(r.block);
    }
}

/* T12: gamma of zero, below zero, and a variance near zero. eps + var = 1 exactly where not said otherwise.
 */
static void fold_gamma_and_variance_extremes(void)
{
    static const float w[8] = {0.25f, 0.5f, 0.25f, 0.5f, 0.25f, 0.5f, 0.25f, 0.5f};
    static const float gamma[4] = {0, -1.5f, 1, -1e-20f}, beta[4] = {0.5f, 0.25f, 0, 0},
                       mean[4] = {1, 2, 0, 0};
    static const float var[4] = {0.75f, 0.75f, 0.75f, 0.75f};
    oct_fold_source s = {.weights = w,
                         .outputs = 4,
                         .per_output = 2,
                         .gamma = gamma,
                         .beta = beta,
                         .mean = mean,
                         .var = var,
                         .eps = 0.25f,
                         .input_exponent = 8};
    folded r = fold(&s);
    CU_ASSERT_EQUAL(r.status, OCT_OK);
    CU_ASSERT_EQUAL(r.f.s[0], 1e-8); /* zero counts as positive */
    CU_ASSERT_EQUAL(r.f.s[1], -1.5);
    CU_ASSERT_EQUAL(r.f.s[3], -1e-8);    /* the floor keeps the sign */
    CU_ASSERT_EQUAL(r.f.exponent[0], 7); /* max|w'| = 0.75, from the channel whose scale is negative */
    static const int8_t q[8] = {0, 0, -48, -96, 32, 64, 0, 0};
    CU_ASSERT_EQUAL(memcmp(r.f.codes, q, 8), 0);
    static const uint8_t dead[4] = {1, 0, 0, 1};
    CU_ASSERT_EQUAL(memcmp(r.f.dead, dead, 4), 0);
    CU_ASSERT_EQUAL(r.f.bias[0], 16384);                           /* beta: 0.5 * 2^15 */
    CU_ASSERT_EQUAL(r.f.bias[1], (int32_t)((0.25 + 3.0) * 32768)); /* beta - mean*s */
    oct_free(r.block);
    static const float tiny[4] = {0, 1e-38f, 1e-30f, 0}, big[4] = {0, -1.5f, 1, 1};
    s.var = tiny;
    s.gamma = big;
    s.eps = 1e-12f;
    r = fold(&s);
    CU_ASSERT_EQUAL(r.status, OCT_OK);
    for (int o = 0; o < 4; o++) CU_ASSERT_TRUE(isfinite(r.f.s[o]));
    CU_ASSERT_DOUBLE_EQUAL(r.f.s[2], 1e6, 1);
    check_bounds(&r, &s);
    oct_free(r.block);
}

/* Folded bias with a bias of the convolution: beta + (b0 - mean)*s. Depthwise layout: outputs last. */
static void fold_depthwise_layout_and_bias(void)
{
    static const float w[6] = {0.5f, 0.25f, -0.5f, 0.125f, 0.75f, 0.375f}; /* [3 taps][2 channels] */
    static const float gamma[2] = {1, 2}, beta[2] = {0, 1}, mean[2] = {0.5f, 0.25f}, var[2] = {0.75f, 0.75f};
    oct_fold_source s = {.weights = w,
                         .outputs = 2,
                         .per_output = 3,
                         .outputs_last = 1,
                         .gamma = gamma,
                         .beta = beta,
                         .mean = mean,
                         .var = var,
                         .eps = 0.25f,
                         .bias = (const float[]){1, -0.25f},
                         .input_exponent = 5};
    folded r = fold(&s);
    static const int8_t q[6] = {64, 64, -64, 32, 96, 96};
    CU_ASSERT_EQUAL(r.f.exponent[0], 7);
    CU_ASSERT_EQUAL(memcmp(r.f.codes, q, 6), 0);
    CU_ASSERT_EQUAL(r.f.bias[0], 2048); /* (0 + 0.5*1) * 2^12 */
    CU_ASSERT_EQUAL(r.f.bias[1], 0);    /* 1 + (-0.5)*2 */
    oct_free(r.block);
}

/* T37: a channel may be at most 2^8 finer than the tensor; a channel of zeros sits at that limit. */
static void per_channel_limiter(void)
{
    static const float w[8] = {0.7f, 0, 0.01f, 0.001f, 1e-5f, 1e-6f, 0, 0};
    oct_fold_source s = {.weights = w, .outputs = 4, .per_output = 2, .per_channel = 1};
    folded r = fold(&s);
    static const int kw[4] = {7, 13, 15, 15}; /* own: 7, 13, 23, 23 */
    CU_ASSERT_EQUAL(memcmp(r.f.exponent, kw, sizeof kw), 0);
    CU_ASSERT_TRUE(r.f.codes[6] == 0 && r.f.codes[7] == 0 && r.f.dead[3] == 1);
    CU_ASSERT_EQUAL(r.f.codes[4], 0); /* 1e-5 * 2^15 = 0.33 */
    CU_ASSERT_EQUAL(r.f.codes[2], 82);
    oct_free(r.block);
    s.per_channel = 0;
    r = fold(&s);
    for (int o = 0; o < 4; o++) CU_ASSERT_EQUAL(r.f.exponent[o], 7);
    CU_ASSERT_EQUAL(r.f.codes[2], 1);
    oct_free(r.block);
}

/* docs/quantization.md 2.11 for weights: nothing but zeros. */
static void fold_of_zeros_is_finite(void)
{
    static const float w[4] = {0, 0, -0.0f, 0};
    for (int per_channel = 0; per_channel < 2; per_channel++) {
        oct_fold_source s = {.weights = w,
                             .outputs = 2,
                             .per_output = 2,
                             .input_exponent = 24,
                             .per_channel = per_channel,
                             .bias = (const float[]){0, 0}};
        folded r = fold(&s);
        CU_ASSERT_EQUAL(r.status, OCT_OK);
        CU_ASSERT_EQUAL(r.f.exponent[0], 23);
        CU_ASSERT_TRUE(r.f.dead[0] && r.f.dead[1] && r.f.bias[0] == 0 && r.f.passes[0] == 1);
        oct_free(r.block);
    }
}

/* T16: a bias too large for its grid lowers kw: of the tensor, or of the one channel. */
static void large_bias_lowers_the_weight_exponent(void)
{
    static const float w[4] = {0.7f, 0.1f, 0.7f, 0.1f}, bias[2] = {1, 40000};
    for (int per_channel = 0; per_channel < 2; per_channel++) {
        oct_fold_source s = {.weights = w,
                             .outputs = 2,
                             .per_output = 2,
                             .input_exponent = 8,
                             .bias = bias,
                             .per_channel = per_channel};
        folded r = fold(&s);
        CU_ASSERT_EQUAL(r.status, OCT_OK);
        /* 40000 * 2^(8+k) < 2^30  =>  k <= 6 */
        CU_ASSERT_EQUAL(r.f.exponent[0], per_channel ? 7 : 6);
        CU_ASSERT_EQUAL(r.f.exponent[1], 6);
        CU_ASSERT_EQUAL(r.f.bias[1], 40000 << 14);
        CU_ASSERT_EQUAL(r.f.bias[0], per_channel ? 1 << 15 : 1 << 14);
        CU_ASSERT_EQUAL(r.f.codes[0], per_channel ? 90 : 45); /* earlier channels are made again */
        CU_ASSERT_EQUAL(r.f.codes[2], 45);
        check_bounds(&r, &s);
        oct_free(r.block);
    }
    /* the bound itself is excluded: |b_q| = 2^30 exactly */
    for (int sign = -1; sign <= 1; sign += 2) {
        float exact = (float)sign * 32768;
        oct_fold_source s = {
            .weights = w, .outputs = 1, .per_output = 2, .input_exponent = 8, .bias = &exact};
        folded r = fold(&s);
        CU_ASSERT_EQUAL(r.f.exponent[0], 6);
        CU_ASSERT_EQUAL(r.f.bias[0], sign * (1 << 29));
        oct_free(r.block);
    }
}

/* T16: 255 * sum|w| < 2^29, which 16577 taps of 127 still keep. */
static void many_taps_lower_the_weight_exponent(void)
{
    enum { TAPS = 40000 };
    float *w = oct_alloc(2 * TAPS, sizeof *w);
    CU_ASSERT_PTR_NOT_NULL_FATAL(w);
    static const struct {
        size_t taps;
        int lowered;
    } table[] = {{16577, 0}, {16578, 1}, {32896, 1}, {32897, 2}, {TAPS, 2}};
    for (size_t t = 0; t < sizeof table / sizeof table[0]; t++) {
        size_t n = table[t].taps;
        for (size_t i = 0; i < n; i++) w[i] = i % 2 ? 1.0f : -1.0f; /* 127; 64; 32 */
        for (size_t i = n; i < 2 * n; i++) w[i] = 1e-3f;
        for (int per_channel = 0; per_channel < 2; per_channel++) {
            oct_fold_source s = {
                .weights = w, .outputs = 2, .per_output = n, .input_exponent = 8, .per_channel = per_channel};
            folded r = fold(&s);
            CU_ASSERT_EQUAL(r.status, OCT_OK);
            CU_ASSERT_EQUAL(r.f.exponent[0], 7 - table[t].lowered);
            if (!per_channel) CU_ASSERT_EQUAL(r.f.exponent[1], r.f.exponent[0]);
            check_bounds(&r, &s);
            oct_free(r.block);
        }
    }
    oct_free(w);
}

/* T36: the folded weights, decoded and folded again, give the same codes and exponents (unless all codes are
 * small). */
static void folding_decoded_weights_again_changes_nothing(void)
{
    enum { OUTPUTS = 6, TAPS = 50 };
    float w[OUTPUTS * TAPS], back[OUTPUTS * TAPS];
    for (unsigned seed = 0; seed < 20; seed++) {
        test_fill_normal(w, OUTPUTS * TAPS, seed);
        for (int i = 0; i < OUTPUTS * TAPS; i++) w[i] *= ldexpf(1, i / TAPS - (int)seed);
        for (int per_channel = 0; per_channel < 2; per_channel++) {
            oct_fold_source s = {
                .weights = w, .outputs = OUTPUTS, .per_output = TAPS, .per_channel = per_channel};
            folded a = fold(&s);
            int largest = 0;
            for (int i = 0; i < OUTPUTS * TAPS; i++) {
                back[i] = ldexpf(a.f.codes[i], -a.f.exponent[i / TAPS]);
                if (per_channel || abs(a.f.codes[i]) > largest) largest = abs(a.f.codes[i]);
            }
            s.weights = back;
            folded b = fold(&s);
            for (int o = 0; o < OUTPUTS; o++) {
                int top = 0;
                for (int i = 0; i < TAPS; i++)
                    top = abs(a.f.codes[o * TAPS + i]) > top ? abs(a.f.codes[o * TAPS + i]) : top;
                if ((per_channel ? top : largest) <= 64) continue;
                CU_ASSERT_EQUAL(a.f.exponent[o], b.f.exponent[o]);
                CU_ASSERT_EQUAL(memcmp(a.f.codes + o * TAPS, b.f.codes + o * TAPS, TAPS), 0);
            }
            oct_free(a.block);
            oct_free(b.block);
        }
    }
}

/* Nothing that is not finite is ever rounded: the layer is named. */
static void fold_of_a_value_that_is_not_finite_is_refused(void)
{
    for (int which = 0; which < 7; which++) {
        float v[6][2] = {{0.5f, 0.25f}, {1, 1}, {0, 0},
                         {0, 0},        {1, 1}, {0, 0}}; /* w gamma beta mean var bias */
        oct_fold_source s = {.weights = v[0],
                             .outputs = 2,
                             .per_output = 1,
                             .gamma = v[1],
                             .beta = v[2],
                             .mean = v[3],
                             .var = v[4],
                             .bias = v[5],
                             .eps = 1e-5f};
        folded r = fold(&s);
        CU_ASSERT_EQUAL(r.status, OCT_OK);
        oct_free(r.block);
        if (which < 6)
            v[which][1] = which % 2 || which == 4 ? NAN : INFINITY;
        else
            v[4][1] = -1; /* a variance without a root */
        r = fold(&s);
        CU_ASSERT_EQUAL(r.status, OCT_ERR_NUMERIC);
        CU_ASSERT_PTR_NOT_NULL(strstr(r.error.message, "'layer'"));
        oct_free(r.block);
    }
    float huge[1] = {1e30f}; /* a bias that fits at no scale: refused, not looped over for ever */
    oct_fold_source s = {.weights = huge, .outputs = 1, .per_output = 1, .bias = huge, .input_exponent = 100};
    folded r = fold(&s);
    CU_ASSERT_TRUE(r.status == OCT_OK || r.status == OCT_ERR_NUMERIC);
    if (r.status == OCT_OK) check_bounds(&r, &s);
    oct_free(r.block);
}

/* --- batch norm on accumulators --- */

static oct_acc_sums sums_of(const int32_t *acc, int n)
{
    oct_acc_sums s = {.min = INT32_MAX, .max = INT32_MIN};
    for (int i = 0; i < n; i++) {
        s.sum += acc[i];
        s.square += (__int128)acc[i] * acc[i];
        if (acc[i] < s.min) s.min = acc[i];
        if (acc[i] > s.max) s.max = acc[i];
    }
    return s;
}

static const oct_batch_norm_fold_attrs batch_fold = {.eps = 0.25f, .momentum = 0.1f, .fold = OCT_FOLD_BATCH};
static const oct_batch_norm_fold_attrs running_fold = {
    .eps = 0.25f, .momentum = 0.1f, .fold = OCT_FOLD_RUNNING};

/* T10, T11: accumulators 1, 3, 5, 7 at k = 1/4: outputs 1/4.. 7/4, mean 1, biased variance 5/16, unbiased
 * 5/12. */
static void norm_live_known_numbers(void)
{
    static const int32_t acc[4] = {1, 3, 5, 7};
    oct_acc_sums sums = sums_of(acc, 4);
    for (int sign = -1; sign <= 1; sign += 2) {
        oct_norm_channel c = {.attrs = &batch_fold,
                              .gamma = 2,
                              .beta = 0.5f,
                              .bias = 3,
                              .s = 2 * sign,
                              .unit = 0.5};
        float mean = 0.5f, var = 2, a, b;
        oct_norm_saved saved;
        oct_norm_live(&c, &sums, 4, 0, &mean, &var, &a, &b, &saved);
        double batch_mean = sign * 1.0 + 3, sigma = sqrt(5.0 / 16 + 0.25);
        CU_ASSERT_DOUBLE_EQUAL(mean, 0.5 + 0.1 * (batch_mean - 0.5), 1e-6);
        CU_ASSERT_DOUBLE_EQUAL(var, 2 + 0.1 * (5.0 / 12 - 2), 1e-6); /* unbiased */
        for (int i = 0; i < 4; i++) {
            double y = 2 * (sign * acc[i] * 0.25 + 3 - batch_mean) / sigma + 0.5; /* biased */
            CU_ASSERT_DOUBLE_EQUAL((float)acc[i] * a + b, y, 1e-6);
            CU_ASSERT_DOUBLE_EQUAL(saved.signed_r * (acc[i] - saved.mean), (y - 0.5) / 2, 1e-12);
        }
        CU_ASSERT_DOUBLE_EQUAL(saved.g_scale, 2 / (2 * sign * sigma), 1e-12);
        CU_ASSERT_DOUBLE_EQUAL(saved.k, sign * 0.25, 0);
    }
}

/* T10, 11.10: mode running normalises with the statistics as this batch leaves them, weights folded with
 * those before. */
static void norm_running_uses_the_statistics_after_the_update(void)
{
    static const int32_t acc[4] = {1, 3, 5, 7};
    oct_acc_sums sums = sums_of(acc, 4);
    oct_norm_channel c = {
        .attrs = &running_fold, .gamma = 2, .beta = 0.5f, .bias = 3, .s = 2, .unit = 0.5};
    float mean = 0.5f, var = 2, a, b;
    oct_norm_saved saved;
    oct_norm_live(&c, &sums, 4, 0, &mean, &var, &a, &b, &saved);
    double new_mean = 0.85, new_var = 2 + 0.1 * (5.0 / 12 - 2);
    CU_ASSERT_DOUBLE_EQUAL(mean, new_mean, 1e-6);
    for (int i = 0; i < 4; i++)
        CU_ASSERT_DOUBLE_EQUAL((float)acc[i] * a + b,
                               2 * (acc[i] * 0.25 + 3 - new_mean) / sqrt(new_var + 0.25) + 0.5, 2e-6);
    CU_ASSERT_DOUBLE_EQUAL(saved.signed_r * (7 - saved.mean), 0.75 / sqrt(5.0 / 16 + 0.25),
                           1e-12); /* x_hat stays the batch's */
}

/* The variance of large, close accumulators: E[x^2] - E[x]^2 in double would be noise. */
static void norm_variance_is_exact(void)
{
    static const int32_t acc[2] = {(1 << 28) + 1, 1 << 28};
    oct_acc_sums sums = sums_of(acc, 2);
    oct_norm_channel c = {.attrs = &batch_fold, .gamma = 1, .s = 1, .unit = 1};
    float mean = 0, var = 0, a, b;
    oct_norm_saved saved;
    oct_norm_live(&c, &sums, 2, 0, &mean, &var, &a, &b, &saved);
    CU_ASSERT_DOUBLE_EQUAL(saved.signed_r, 1 / sqrt(0.25 + 0.25), 1e-15);
    CU_ASSERT_DOUBLE_EQUAL(var, 0.05, 1e-8);
    /* the largest sums that are allowed: 2^33 positions of +-(2^29 - 1) */
    int64_t m = INT64_C(1) << 33, top = (INT64_C(1) << 29) - 1;
    sums = (oct_acc_sums){
        .sum = 0, .square = (__int128)m * top * top, .min = (int32_t)-top, .max = (int32_t)top};
    oct_norm_live(&c, &sums, m, 0, &mean, &var, &a, &b, &saved);
    CU_ASSERT_DOUBLE_EQUAL(saved.signed_r * (double)top, 1, 1e-12);
}

/* T12: gamma zero, no variance at all, tiny scales: everything stays finite, and no gamma divides. */
static void norm_live_extremes_are_finite(void)
{
    static const int32_t flat[3] = {5, 5, 5}, spread[3] = {-100, 0, 100};
    static const float gammas[4] = {0, -1.5f, 1e-30f, 1e10f};
    static const double scales[3] = {1e-8, -1e-8, 1e6};
    for (int g = 0; g < 4; g++) {
        for (int s = 0; s < 3; s++) {
            for (int kind = 0; kind < 4; kind++) {
                oct_acc_sums sums = sums_of(kind % 2 ? flat : spread, 3);
                oct_norm_channel c = {.attrs = kind / 2 ? &running_fold : &batch_fold,
                                      .gamma = gammas[g],
                                      .beta = 0.5f,
                                      .s = scales[s],
                                      .unit = 0x1p-43};
                float mean = 0, var = 1e-38f, a, b;
                oct_norm_saved saved;
                oct_norm_live(&c, &sums, 3, 0, &mean, &var, &a, &b, &saved);
                CU_ASSERT_TRUE(isfinite(mean) && isfinite(var) && isfinite(a) && isfinite(b));
                CU_ASSERT_TRUE(isfinite(saved.k) && isfinite(saved.mean) && isfinite(saved.signed_r) &&
                               isfinite(saved.g_scale));
                oct_norm_frozen(&c, mean, 1e-38f, &saved);
                CU_ASSERT_TRUE(isfinite(saved.k) && isfinite(saved.mean) && isfinite(saved.signed_r) &&
                               saved.g_scale == 1);
            }
        }
    }
}

/* T12b: all codes zero says nothing about the layer's output: the statistics stay. */
static void norm_of_a_dead_channel_keeps_its_statistics(void)
{
    static const int32_t acc[3] = {0, 0, 0};
    oct_acc_sums sums = sums_of(acc, 3);
    for (int mode = 0; mode < 2; mode++) {
        oct_norm_channel c = {
            .attrs = mode ? &running_fold : &batch_fold, .gamma = 1, .beta = 0.5f, .bias = 7, .s = 1};
        float mean = 0.3f, var = 0.7f, a, b;
        oct_norm_saved saved;
        oct_norm_live(&c, &sums, 3, 1, &mean, &var, &a, &b, &saved);
        CU_ASSERT_TRUE(mean == 0.3f && var == 0.7f);
        CU_ASSERT_TRUE(isfinite(a) && isfinite(b));
        if (!mode) CU_ASSERT_EQUAL(b, 0.5f); /* the value is beta */
        oct_norm_live(&c, &sums, 3, 0, &mean, &var, &a, &b,
                      &saved); /* the same sums of a living channel do move them */
        CU_ASSERT_TRUE(mean != 0.3f && var != 0.7f);
    }
}

/* 4.3: x_hat of frozen statistics, and the scale of the gradient. */
static void norm_frozen_known_numbers(void)
{
    oct_norm_channel c = {.attrs = &batch_fold,
                          .gamma = -3,
                          .beta = 1,
                          .bias = 0.5f,
                          .s = -2,
                          .unit = 0x1p-5};
    oct_norm_saved saved;
    oct_norm_frozen(&c, 2, 2, &saved);
    for (int acc = -10; acc <= 10; acc += 5) {
        double u = acc * ldexp(1, -5) / -2 + 0.5;
        CU_ASSERT_DOUBLE_EQUAL(saved.signed_r * (acc - saved.mean), (u - 2) / 1.5, 1e-12);
    }
    CU_ASSERT_EQUAL(saved.g_scale, 1);
}

static const test_case cases[] = {
    {"fold_plain_weights_round_half_away", fold_plain_weights_round_half_away},
    {"T5_fold_weight_at_the_clip_saturates_and_is_masked", fold_weight_at_the_clip_saturates_and_is_masked},
    {"T2_fold_exponent_is_exact", fold_exponent_is_exact},
    {"T12_fold_gamma_and_variance_extremes", fold_gamma_and_variance_extremes},
    {"fold_depthwise_layout_and_bias", fold_depthwise_layout_and_bias},
    {"T37_per_channel_limiter", per_channel_limiter},
    {"T37_fold_of_zeros_is_finite", fold_of_zeros_is_finite},
    {"T16_large_bias_lowers_the_weight_exponent", large_bias_lowers_the_weight_exponent},
    {"T16_many_taps_lower_the_weight_exponent", many_taps_lower_the_weight_exponent},
    {"T36_folding_decoded_weights_again_changes_nothing", folding_decoded_weights_again_changes_nothing},
    {"T35_fold_of_a_value_that_is_not_finite_is_refused", fold_of_a_value_that_is_not_finite_is_refused},
    {"T10_T11_norm_live_known_numbers", norm_live_known_numbers},
    {"T10_norm_running_uses_the_statistics_after_the_update",
     norm_running_uses_the_statistics_after_the_update},
    {"T11_norm_variance_is_exact", norm_variance_is_exact},
    {"T12_norm_live_extremes_are_finite", norm_live_extremes_are_finite},
    {"T12b_norm_of_a_dead_channel_keeps_its_statistics", norm_of_a_dead_channel_keeps_its_statistics},
    {"norm_frozen_known_numbers", norm_frozen_known_numbers},
};
TEST_SUITE("fold", cases);
