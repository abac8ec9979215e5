/* SPDX-License-Identifier: BSD-2-Clause
 * Observers and the searches over histograms (quant/observer.h), against PyTorch's (tests/golden/gen/observers.py). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "quant/observer.h"
#include "tests/testing.h"

static const char golden_path[] = "tests/golden/observers.txt";
enum { GROUPS = 16 };

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
}

/* --- PyTorch's goldens --- */

typedef struct golden_case {
    const char *name;
    int power, relu, batches, batch;
    double scales[4];
} golden_case;
static const golden_case golden_cases[] = {
    {"flat", 0, 0, 1, 20000, {1}},          {"grow", 0, 0, 4, 5000, {0.5, 1, 0.75, 3}},
    {"tail", 9, 0, 3, 10000, {8, 8, 8}},    {"relu", 4, 1, 4, 10000, {2, 4, 3, 4.5}},
    {"rare", 40, 0, 3, 20000, {1, 50, 1}},
};

static void make_batch(float *x, const golden_case *c, int b, uint32_t *lcg)
{
    for (int i = 0; i < c->batch; i++) {
        *lcg = (1103515245u * *lcg + 12345u) & 0x7fffffffu;
        double u = 2.0 * (double)*lcg / 2147483648.0 - 1, v = u;
        for (int p = 0; p < c->power; p++) v *= fabs(u);
        v *= c->scales[b];
        x[i] = (float)(c->relu && v < 0 ? 0 : v);
    }
}

typedef struct observed {
    oct_bounds all, average;
    oct_histogram *h;
} observed;

static observed observe_case(int index)
{
    const golden_case *c = &golden_cases[index];
    observed o = {OCT_BOUNDS_NONE, OCT_BOUNDS_NONE, oct_calloc(1, sizeof(oct_histogram))};
    float *x = oct_alloc((size_t)c->batch, sizeof *x);
    uint32_t lcg = (uint32_t)index + 1;
    oct_histogram_init(o.h);
    for (int b = 0; b < c->batches; b++) {
        make_batch(x, c, b, &lcg);
        oct_extrema_add(&o.all, x, (size_t)c->batch);
        oct_extrema_average(&o.average, x, (size_t)c->batch, 0.01f);
        oct_histogram_add(o.h, x, (size_t)c->batch);
    }
    oct_free(x);
    return o;
}

static void check_case(FILE *file, int index)
{
    char name[16];
    double v[8], group;
    CU_ASSERT_EQUAL_FATAL(fscanf(file, "%15s", name), 1);
    CU_ASSERT_STRING_EQUAL(name, golden_cases[index].name);
    for (int i = 0; i < 8; i++) CU_ASSERT_EQUAL_FATAL(fscanf(file, "%lf", &v[i]), 1);
    observed o = observe_case(index);
    CU_ASSERT(near(o.all.lo, v[0], 1e-8 * 50) && near(o.all.hi, v[1], 1e-8 * 50));
    CU_ASSERT(near(o.average.lo, v[2], 1e-6) && near(o.average.hi, v[3], 1e-6));
    CU_ASSERT(near(o.h->seen.lo, v[4], 1e-8 * 50) && near(o.h->seen.hi, v[5], 1e-8 * 50));
    double width = oct_histogram_bin_width(o.h), moved = 0;
    oct_bounds found = oct_histogram_l2(o.h, 256);
    /* Bin edges are floats there, doubles here: single elements change bins. */
    CU_ASSERT(near(found.lo, v[6], 1.01 * width) && near(found.hi, v[7], 1.01 * width));
    for (int g = 0; g < GROUPS; g++) {
        double sum = 0;
        CU_ASSERT_EQUAL_FATAL(fscanf(file, "%lf", &group), 1);
        for (int i = 0; i < OCT_HISTOGRAM_BINS / GROUPS; i++) sum += o.h->counts[g * OCT_HISTOGRAM_BINS / GROUPS + i];
        moved += fabs(sum - group);
    }
    CU_ASSERT(moved < 0.002 * (double)o.h->elements);
    oct_free(o.h);
}

static void observers_on_the_same_data_agree_with_pytorch(void)
{
    FILE *file = fopen(golden_path, "r");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    for (int i = 0; i < (int)(sizeof golden_cases / sizeof golden_cases[0]); i++) check_case(file, i);
    fclose(file);
}

/* Specification 2.5: g_i = sin(0.1 i)*exp(-(i mod 977)/300). */
static oct_histogram *golden_wave(int batches)
{
    enum { N = 100000 };
    static float x[N];
    oct_histogram *h = oct_calloc(1, sizeof *h);
    oct_histogram_init(h);
    for (int i = 0; i < N; i++) x[i] = (float)(sin(0.1 * i) * exp(-(i % 977) / 300.0));
    for (int b = 0; b < batches; b++) oct_histogram_add(h, x + b * (N / batches), N / (size_t)batches);
    return h;
}

static void histogram_l2_of_the_golden_wave_is_that_of_pytorch(void)
{
    oct_histogram *one = golden_wave(1), *ten = golden_wave(10);
    oct_bounds a = oct_histogram_l2(one, 256), b = oct_histogram_l2(ten, 256);
    CU_ASSERT(near(a.lo, -0.999844134, 1e-6) && near(a.hi, 0.99018079, 1e-6));
    CU_ASSERT(near((b.hi - b.lo) / 255, 0.00780018978, 0.005 * 0.0078));
    oct_free(one);
    oct_free(ten);
}

/* --- degenerate data --- */

static void histogram_of_nothing_a_constant_and_bad_values_is_defined(void)
{
    static oct_histogram h;
    oct_histogram_init(&h);
    CU_ASSERT_FALSE(oct_bounds_valid(h.seen));
    CU_ASSERT_FALSE(oct_bounds_valid(oct_histogram_l2(&h, 256)));
    CU_ASSERT_EQUAL(oct_histogram_po2(&h, true, OCT_PO2_L2), -16);
    oct_histogram_add(&h, (float[]){NAN, INFINITY, -INFINITY}, 3);
    CU_ASSERT_EQUAL(h.excluded, 3);
    CU_ASSERT_FALSE(oct_bounds_valid(h.seen));
    oct_histogram_add(&h, (float[]){3, 3, NAN}, 3);
    CU_ASSERT_EQUAL(h.elements, 2);
    oct_bounds all[] = {oct_histogram_l2(&h, 256), oct_histogram_kl(&h, 128), oct_histogram_mse(&h, 256),
                        oct_histogram_percentile(&h, 99.9)};
    for (int i = 0; i < 4; i++) CU_ASSERT(all[i].lo == 3 && all[i].hi == 3);
    for (int e = OCT_PO2_L2; e <= OCT_PO2_KL; e++) CU_ASSERT_EQUAL(oct_histogram_po2(&h, false, (oct_po2_error)e), 2);
    /* The point's mass goes where it lies when the range grows. */
    oct_histogram_add(&h, (float[]){0, 4}, 2);
    CU_ASSERT_EQUAL(h.counts[3 * OCT_HISTOGRAM_BINS / 4], 2);
    CU_ASSERT_EQUAL(h.counts[OCT_HISTOGRAM_BINS - 1], 1);
}

/* T35: one bad value poisons nothing, and is reported. */
static void T35_nan_is_left_out_of_every_observer_and_counted(void)
{
    oct_bounds all = OCT_BOUNDS_NONE, average = OCT_BOUNDS_NONE, channels[2] = {OCT_BOUNDS_NONE, OCT_BOUNDS_NONE};
    float x[] = {1, NAN, -2, 5};
    CU_ASSERT_EQUAL(oct_extrema_add(&all, x, 4), 1);
    CU_ASSERT_EQUAL(oct_extrema_average(&average, x, 4, 0.5f), 1);
    CU_ASSERT_EQUAL(oct_extrema_average(&average, &x[1], 1, 0.5f), 1);
    CU_ASSERT_EQUAL(oct_extrema_add_channels(channels, x, 4, 2), 1);
    CU_ASSERT(all.lo == -2 && all.hi == 5 && average.lo == -2 && average.hi == 5);
    CU_ASSERT(channels[0].lo == -2 && channels[0].hi == 1 && channels[1].lo == 5 && channels[1].hi == 5);
}

/* --- searches --- */

/* Normal numbers with one element far out. */
static void fill_outlier(oct_histogram *h, float outlier)
{
    enum { N = 200000 };
    float *x = oct_alloc(N, sizeof *x);
    test_fill_normal(x, N, 5);
    x[17] = outlier;
    oct_histogram_init(h);
    oct_histogram_add(h, x, N);
    oct_free(x);
}

static void percentile_hundred_is_the_minimum_and_maximum_less_drops_the_outlier(void)
{
    static oct_histogram h;
    fill_outlier(&h, 100);
    oct_bounds whole = oct_histogram_percentile(&h, 100), cut = oct_histogram_percentile(&h, 99.9);
    CU_ASSERT(whole.lo == h.seen.lo && whole.hi == h.seen.hi);
    CU_ASSERT(near(cut.hi, 3.09, 0.1) && near(cut.lo, -3.09, 0.1));
    /* Linear inside a bin: a flat density has exact quantiles. */
    static oct_histogram flat;
    oct_histogram_init(&flat);
    flat.seen = (oct_bounds){-1, 1};
    for (int i = 0; i < OCT_HISTOGRAM_BINS; i++) flat.counts[i] = 1;
    CU_ASSERT(near(oct_histogram_percentile(&flat, 99.99).hi, 1 - 2e-4, 1e-12));
}

/* 9.1 no. 21: empty bins must not make every candidate invalid. */
static void kl_on_a_sparse_tail_keeps_a_sensible_threshold(void)
{
    static oct_histogram h;
    fill_outlier(&h, 40);
    oct_bounds b = oct_histogram_kl(&h, 128);
    CU_ASSERT(b.hi > 2.5 && b.hi < 12);
    CU_ASSERT(b.lo < -2 && b.lo >= h.seen.lo);
    oct_histogram *g = golden_wave(1);
    b = oct_histogram_kl(g, 128);
    CU_ASSERT(b.hi > 0.5 && b.lo < -0.5);
    oct_free(g);
}

static void mse_threshold_is_the_best_of_all_thresholds(void)
{
    static oct_histogram h;
    fill_outlier(&h, 60);
    oct_bounds b = oct_histogram_mse(&h, 256);
    /* Cutting 60 to t costs (60 - t)^2, steps over [-4.5, t] cost their squared width/12 of each of 200000. */
    double best = 0, least = INFINITY;
    for (double t = 4; t <= 60; t += 0.1) {
        double step = (t + 4.5) / 255, cost = (60 - t) * (60 - t) + 200000 * step * step / 12;
        if (cost < least) least = cost, best = t;
    }
    CU_ASSERT(near(b.hi, best, 1.5));
    CU_ASSERT_EQUAL(b.lo, h.seen.lo);
    fill_outlier(&h, 0);
    CU_ASSERT(oct_histogram_mse(&h, 256).hi > 3.5);
}

static double simulate_po2(const float *x, size_t n, bool is_signed, int e)
{
    double step = ldexp(1, e - (is_signed ? 7 : 8)), sum = 0, lo = is_signed ? -128 : 0, hi = is_signed ? 127 : 255;
    for (size_t i = 0; i < n; i++) {
        double q = fmin(fmax(floor((double)x[i] / step + 0.5), lo), hi), miss = (double)x[i] - q * step;
        sum += miss * miss;
    }
    return sum;
}

/* The choice is the one that measuring the data itself makes. */
static void po2_clip_by_l2_and_mse_is_the_best_on_the_data(void)
{
    enum { N = 50000 };
    static float x[N];
    static oct_histogram h;
    for (int round = 0; round < 12; round++) {
        bool is_signed = round % 2;
        test_fill_normal(x, N, (unsigned)round);
        for (int i = 0; i < N; i++) x[i] = powf(fabsf(x[i]), 0.5f + 0.25f * (float)round) * (x[i] < 0 ? -1.0f : 1.0f);
        for (int i = 0; i < N && !is_signed; i++) x[i] = x[i] < 0 ? 0 : x[i];
        oct_histogram_init(&h);
        oct_histogram_add(&h, x, N);
        int best = 0;
        for (int e = -8; e < 20; e++)
            if (simulate_po2(x, N, is_signed, e) <= simulate_po2(x, N, is_signed, best)) best = e;
        int l2 = oct_histogram_po2(&h, is_signed, OCT_PO2_L2), mse = oct_histogram_po2(&h, is_signed, OCT_PO2_MSE);
        double least = simulate_po2(x, N, is_signed, best);
        CU_ASSERT(simulate_po2(x, N, is_signed, l2) <= 1.02 * least);
        CU_ASSERT(simulate_po2(x, N, is_signed, mse) <= 1.02 * least);
    }
}

static void po2_clip_drops_one_outlier_and_keeps_a_plain_range(void)
{
    static oct_histogram h;
    for (int e = OCT_PO2_L2; e <= OCT_PO2_KL; e++) {
        fill_outlier(&h, 0);
        CU_ASSERT(oct_histogram_po2(&h, true, (oct_po2_error)e) >= 2);
        fill_outlier(&h, 40);
        CU_ASSERT(oct_histogram_po2(&h, true, (oct_po2_error)e) < 6);
    }
}

static const test_case cases[] = {
    {"observers_on_the_same_data_agree_with_pytorch", observers_on_the_same_data_agree_with_pytorch},
    {"histogram_l2_of_the_golden_wave_is_that_of_pytorch", histogram_l2_of_the_golden_wave_is_that_of_pytorch},
    {"histogram_of_nothing_a_constant_and_bad_values_is_defined",
     histogram_of_nothing_a_constant_and_bad_values_is_defined},
    {"T35_nan_is_left_out_of_every_observer_and_counted", T35_nan_is_left_out_of_every_observer_and_counted},
    {"percentile_hundred_is_the_minimum_and_maximum_less_drops_the_outlier",
     percentile_hundred_is_the_minimum_and_maximum_less_drops_the_outlier},
    {"kl_on_a_sparse_tail_keeps_a_sensible_threshold", kl_on_a_sparse_tail_keeps_a_sensible_threshold},
    {"mse_threshold_is_the_best_of_all_thresholds", mse_threshold_is_the_best_of_all_thresholds},
    {"po2_clip_by_l2_and_mse_is_the_best_on_the_data", po2_clip_by_l2_and_mse_is_the_best_on_the_data},
    {"po2_clip_drops_one_outlier_and_keeps_a_plain_range", po2_clip_drops_one_outlier_and_keeps_a_plain_range},
};
TEST_SUITE("observer", cases);
