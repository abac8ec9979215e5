/* SPDX-License-Identifier: BSD-2-Clause
 * Split convolution gradients (autograd/conv_split.h) against direct sums in double, within the bound of
 * autograd/kernels/split_kernels.h, at every level of this machine that has kernels of its own. */
#include "autograd/conv_split.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "tests/testing.h"

typedef struct shape {
    int height, width, in_c, out_c, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, pad_bottom, pad_right, images;
} shape;

static oct_conv_geometry geometry(const shape *s)
{
    oct_conv_geometry g = {.in_h = s->height, .in_w = s->width, .in_c = s->in_c, .out_c = s->out_c,
                           .kernel_h = s->kernel_h, .kernel_w = s->kernel_w, .stride_h = s->stride_h,
                           .stride_w = s->stride_w, .dilation_h = 1, .dilation_w = 1, .pad_top = s->pad_top,
                           .pad_left = s->pad_left, .groups = 1, .group_in = s->in_c, .group_out = s->out_c};
    g.out_h = (s->height + s->pad_top + s->pad_bottom - s->kernel_h) / s->stride_h + 1;
    g.out_w = (s->width + s->pad_left + s->pad_right - s->kernel_w) / s->stride_w + 1;
    g.pointwise = s->kernel_h == 1 && s->kernel_w == 1 && s->stride_h == 1 && s->stride_w == 1 && g.out_h == s->height &&
                  g.out_w == s->width;
    return g;
}

typedef struct operands {
    oct_conv_geometry g;
    int images, is_signed;
    float unit;
    size_t x_count, y_count, w_count;
    uint8_t *codes;
    float *dy, *w, *before;
    double *dx, *dw, *dx_size, *dw_size; /* sums and sums of magnitudes */
} operands;

static float code_value(const operands *t, size_t i)
{
    return (t->is_signed ? (float)(int8_t)t->codes[i] : (float)t->codes[i]) * t->unit;
}

static void sum_directly(operands *t)
{
    const oct_conv_geometry *g = &t->g;
    for (int n = 0; n < t->images; n++)
        for (int p = 0; p < g->out_h; p++)
            for (int q = 0; q < g->out_w; q++)
                for (int tap = 0; tap < g->kernel_h * g->kernel_w; tap++) {
                    int h = p * g->stride_h - g->pad_top + tap / g->kernel_w;
                    int v = q * g->stride_w - g->pad_left + tap % g->kernel_w;
                    if (h < 0 || h >= g->in_h || v < 0 || v >= g->in_w) continue;
                    size_t xi = (((size_t)n * (size_t)g->in_h + (size_t)h) * (size_t)g->in_w + (size_t)v) * (size_t)g->in_c;
                    size_t yi = (((size_t)n * (size_t)g->out_h + (size_t)p) * (size_t)g->out_w + (size_t)q) * (size_t)g->out_c;
                    for (int o = 0; o < g->out_c; o++) {
                        double d = (double)t->dy[yi + (size_t)o];
                        size_t wi = ((size_t)o * (size_t)(g->kernel_h * g->kernel_w) + (size_t)tap) * (size_t)g->in_c;
                        for (size_t i = 0; i < (size_t)g->in_c; i++) {
                            double to_x = d * (double)t->w[wi + i], to_w = d * (double)code_value(t, xi + i);
                            t->dx[xi + i] += to_x;
                            t->dx_size[xi + i] += fabs(to_x);
                            t->dw[wi + i] += to_w;
                            t->dw_size[wi + i] += fabs(to_w);
                        }
                    }
                }
}

static void operands_create(operands *t, const shape *s, unsigned seed)
{
    *t = (operands){.g = geometry(s), .images = s->images, .is_signed = (int)(seed & 1), .unit = 0x1p-5f};
    const oct_conv_geometry *g = &t->g;
    t->x_count = (size_t)s->images * (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_c;
    t->y_count = (size_t)s->images * (size_t)g->out_h * (size_t)g->out_w * (size_t)g->out_c;
    t->w_count = (size_t)g->out_c * (size_t)(g->kernel_h * g->kernel_w) * (size_t)g->in_c;
    t->codes = oct_alloc(t->x_count, 1);
    t->dy = oct_alloc(t->y_count, sizeof(float));
    t->w = oct_alloc(t->w_count, sizeof(float));
    t->before = oct_alloc(t->x_count, sizeof(float));
    t->dx = oct_calloc(t->x_count, sizeof(double));
    t->dx_size = oct_calloc(t->x_count, sizeof(double));
    t->dw = oct_calloc(t->w_count, sizeof(double));
    t->dw_size = oct_calloc(t->w_count, sizeof(double));
    oct_rng rng = oct_rng_start(seed, OCT_RNG_INIT, 0, 0);
    for (size_t i = 0; i < t->x_count; i++) t->codes[i] = (uint8_t)oct_rng_u32(&rng);
    for (size_t i = 0; i < t->w_count; i++) t->w[i] = (float)((int)(oct_rng_u32(&rng) % 255) - 127) * 0x1p-9f;
    test_fill_normal(t->dy, t->y_count, seed + 1);
    test_fill_normal(t->before, t->x_count, seed + 2);
    sum_directly(t);
}

static void operands_destroy(operands *t)
{
    void *all[] = {t->codes, t->dy, t->w, t->before, t->dx, t->dw, t->dx_size, t->dw_size};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) oct_free(all[i]);
}

/* Largest error as a share of the bound for sums of k products. */
static double share_of(const float *got, const double *want, const double *size, const float *before, size_t n, double k)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double start = before ? (double)before[i] : 0, bound = (3 * k + 3) * 0x1p-24 * (size[i] + fabs(start)) + 1e-30;
        double share = fabs((double)got[i] - want[i] - start) / bound;
        if (!(share <= most)) most = isfinite(share) ? share : 1e9;
    }
    return most;
}

/* Split at an odd place into two calls, which must give the same bytes. */
static void check_dx(const oct_split_kernels *k, const oct_f32_kernels *f32, const operands *t, int accumulate)
{
    const oct_conv_geometry *g = &t->g;
    size_t packed_bytes = oct_split_packed_bytes(g), buffer_bytes = oct_split_buffer_bytes(g), guard = 64;
    uint16_t *packed = oct_alloc(packed_bytes + guard, 1);
    unsigned char *buffer = oct_alloc(buffer_bytes + guard, 1);
    float *dx = oct_alloc(t->x_count, sizeof(float)), *again = oct_alloc(t->x_count, sizeof(float));
    memset(packed, 0xFF, packed_bytes + guard);
    memset(buffer, 0xFF, buffer_bytes + guard); /* NaN to whoever reads before writing */
    for (int part = 2; part >= 0; part--) oct_split_pack(packed, t->w, g, part, 3);
    int most = oct_split_images(g);
    size_t x = t->x_count / (size_t)t->images, y = t->y_count / (size_t)t->images;
    for (size_t i = 0; i < t->x_count; i++) dx[i] = again[i] = accumulate ? t->before[i] : NAN;
    for (int n = 0; n < t->images; n += most) {
        int count = t->images - n < most ? t->images - n : most;
        oct_split_dx(k, f32, g, packed, dx + (size_t)n * x, accumulate, t->dy + (size_t)n * y, count, buffer);
    }
    for (int n = 0; n < t->images; n++)
        oct_split_dx(k, f32, g, packed, again + (size_t)n * x, accumulate, t->dy + (size_t)n * y, 1, buffer);
    double products = (double)g->out_c * g->kernel_h * g->kernel_w;
    CU_ASSERT(share_of(dx, t->dx, t->dx_size, accumulate ? t->before : NULL, t->x_count, products) < 1);
    CU_ASSERT(memcmp(dx, again, t->x_count * sizeof *dx) == 0);
    for (size_t i = 0; i < guard; i++) {
        CU_ASSERT(buffer[buffer_bytes + i] == 0xFF);
        CU_ASSERT(((unsigned char *)packed)[packed_bytes + i] == 0xFF);
    }
    oct_free(again);
    oct_free(dx);
    oct_free(buffer);
    oct_free(packed);
}

static void check_dw(const oct_split_kernels *k, const operands *t)
{
    const oct_conv_geometry *g = &t->g;
    size_t outputs = ((size_t)g->out_c + 15) / 16 * 16, taps = (size_t)(g->kernel_h * g->kernel_w), in_c = (size_t)g->in_c;
    size_t n = taps * in_c * outputs, buffer_bytes = oct_split_buffer_bytes(g), guard = 64;
    float *partial = oct_calloc(n + 16, sizeof(float)), *dw = oct_alloc(t->w_count, sizeof(float));
    unsigned char *buffer = oct_alloc(buffer_bytes + guard, 1);
    memset(buffer, 0xFF, buffer_bytes + guard);
    memset(partial + n, 0xFF, 16 * sizeof(float));
    size_t x = t->x_count / (size_t)t->images, y = t->y_count / (size_t)t->images;
    int most = oct_split_images(g);
    for (int i = 0; i < t->images; i += most) {
        int count = t->images - i < most ? t->images - i : most;
        oct_split_dw(k, g, partial, t->codes + (size_t)i * x, t->unit, t->is_signed, t->dy + (size_t)i * y, count, buffer);
    }
    for (size_t o = 0; o < (size_t)g->out_c; o++)
        for (size_t j = 0; j < taps * in_c; j++) dw[o * taps * in_c + j] = partial[j * outputs + o];
    double products = (double)t->images * g->out_h * g->out_w;
    CU_ASSERT(share_of(dw, t->dw, t->dw_size, NULL, t->w_count, products) < 1);
    for (size_t i = 0; i < guard; i++) {
        CU_ASSERT(buffer[buffer_bytes + i] == 0xFF);
        CU_ASSERT(((unsigned char *)(partial + n))[i] == 0xFF);
    }
    oct_free(buffer);
    oct_free(dw);
    oct_free(partial);
}

static void check_shape(const shape *s, unsigned seed)
{
    operands t;
    operands_create(&t, s, seed);
    oct_f32_kernels f32;
    oct_f32_kernels_init(&f32, oct_cpu_detect());
    uint32_t masks[2] = {0, oct_cpu_detect()};
    for (int i = 0; i < 2; i++) {
        oct_split_kernels k;
        oct_split_kernels_init(&k, masks[i]);
        if (i && !k.fast) break;
        check_dx(&k, &f32, &t, 0);
        check_dx(&k, &f32, &t, 1);
        check_dw(&k, &t);
    }
    operands_destroy(&t);
}

static void gradients_of_known_shapes_are_within_the_bound(void)
{
    static const shape shapes[] = {
        {8, 8, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 5},   {32, 32, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1},
        {16, 16, 16, 32, 3, 3, 2, 2, 1, 1, 1, 1, 2}, {16, 16, 16, 32, 3, 3, 2, 2, 0, 0, 1, 1, 2},
        {8, 8, 32, 64, 1, 1, 2, 2, 0, 0, 0, 0, 3},   {4, 4, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 13},
        {32, 32, 24, 144, 1, 1, 1, 1, 0, 0, 0, 0, 1}, {8, 8, 160, 24, 1, 1, 1, 1, 0, 0, 0, 0, 4},
        {12, 12, 3, 16, 3, 3, 2, 2, 0, 0, 1, 1, 2},  {9, 7, 10, 20, 5, 3, 1, 1, 0, 2, 3, 1, 3},
        {11, 13, 17, 33, 3, 3, 3, 2, 1, 1, 1, 1, 2}, {6, 6, 8, 8, 3, 3, 1, 1, 0, 0, 0, 0, 7},
        {5, 9, 40, 48, 1, 3, 1, 1, 0, 1, 0, 1, 2},   {9, 5, 40, 9, 3, 1, 1, 1, 1, 0, 1, 0, 2},
        {7, 7, 8, 16, 7, 7, 1, 1, 3, 3, 3, 3, 2},    {10, 10, 8, 16, 2, 2, 4, 4, 0, 0, 0, 0, 2},
        {10, 10, 8, 12, 3, 3, 2, 2, 0, 0, 1, 1, 1},  {10, 10, 8, 12, 1, 1, 2, 2, 0, 0, 0, 0, 1},
        {9, 9, 8, 12, 3, 3, 2, 2, 1, 1, 1, 1, 2},    {5, 5, 24, 10, 1, 1, 1, 1, 0, 0, 0, 0, 3},
        {4, 4, 256, 192, 3, 3, 1, 1, 1, 1, 1, 1, 2}, {3, 3, 16, 16, 3, 3, 2, 2, 2, 2, 2, 2, 3},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        oct_conv_geometry g = geometry(&shapes[i]);
        CU_ASSERT(oct_split_fits(&g));
        check_shape(&shapes[i], (unsigned)i);
    }
}

static void gradients_of_random_shapes_are_within_the_bound(void)
{
    oct_rng rng = oct_rng_start(7, OCT_RNG_INIT, 0, 0);
    for (unsigned i = 0; i < 60; i++) {
        int v[13];
        static const int low[13] = {3, 3, 8, 8, 1, 1, 1, 1, 0, 0, 0, 0, 1}, span[13] = {12, 12, 40, 60, 3, 3, 3, 3, 3, 3, 3, 3, 4};
        for (int j = 0; j < 13; j++) v[j] = low[j] + (int)(oct_rng_u32(&rng) % (unsigned)span[j]);
        shape s = {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12]};
        check_shape(&s, i + 100);
    }
}

static void fits_only_what_it_can(void)
{
    shape s = {8, 8, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1};
    oct_conv_geometry g = geometry(&s);
    CU_ASSERT(oct_split_fits(&g));
    g.dilation_w = 2;
    CU_ASSERT(!oct_split_fits(&g));
    g = geometry(&s);
    g.depthwise = true;
    CU_ASSERT(!oct_split_fits(&g));
    g = geometry(&s);
    g.groups = 2;
    CU_ASSERT(!oct_split_fits(&g));
}

static const test_case cases[] = {
    {"gradients_of_known_shapes_are_within_the_bound", gradients_of_known_shapes_are_within_the_bound},
    {"gradients_of_random_shapes_are_within_the_bound", gradients_of_random_shapes_are_within_the_bound},
    {"fits_only_what_it_can", fits_only_what_it_can},
};
TEST_SUITE("conv_split", cases);
