/* SPDX-License-Identifier: BSD-2-Clause
 * Winograd convolution (autograd/conv_winograd.h) against direct sums in double, within the bounds of its header, at every
 * level of this machine. */
#include "autograd/conv_winograd.h"

#include <math.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/memory.h"
#include "tests/testing.h"

static oct_conv_geometry geometry(int height, int width, int in_c, int out_c, int pad_top, int pad_left, int pad_bottom,
                                  int pad_right)
{
    return (oct_conv_geometry){.in_h = height,
                               .in_w = width,
                               .in_c = in_c,
                               .out_h = height + pad_top + pad_bottom - 2,
                               .out_w = width + pad_left + pad_right - 2,
                               .out_c = out_c,
                               .kernel_h = 3,
                               .kernel_w = 3,
                               .stride_h = 1,
                               .stride_w = 1,
                               .dilation_h = 1,
                               .dilation_w = 1,
                               .pad_top = pad_top,
                               .pad_left = pad_left,
                               .groups = 1,
                               .group_in = in_c,
                               .group_out = out_c};
}

typedef struct operands {
    oct_conv_geometry g;
    int images;
    size_t x_count, y_count, w_count;
    float *x, *dy, *w, *bias, *before_y, *before_x, *before_w, *buffer;
} operands;

static float *normals(size_t n, unsigned seed)
{
    float *p = oct_alloc(n, sizeof *p);
    if (p) test_fill_normal(p, n, seed);
    return p;
}

static operands operands_create(const oct_conv_geometry *g, int images)
{
    operands t = {.g = *g, .images = images};
    t.x_count = (size_t)images * (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_c;
    t.y_count = (size_t)images * (size_t)g->out_h * (size_t)g->out_w * (size_t)g->out_c;
    t.w_count = (size_t)g->out_c * 9 * (size_t)g->in_c;
    t.x = normals(t.x_count, 1);
    t.dy = normals(t.y_count, 2);
    t.w = normals(t.w_count, 3);
    t.bias = normals((size_t)g->out_c, 4);
    t.before_y = normals(t.y_count, 5);
    t.before_x = normals(t.x_count, 6);
    t.before_w = normals(t.w_count, 7);
    t.buffer = oct_alloc(oct_winograd_buffer_size(g), sizeof(float));
    return t;
}

static void operands_destroy(operands *t)
{
    float *all[] = {t->x, t->dy, t->w, t->bias, t->before_y, t->before_x, t->before_w, t->buffer};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) oct_free(all[i]);
}

static double largest(const float *x, size_t n)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

/* Adds to y, dx, dw (any may be NULL) what the three sums say, in double. */
static void direct(const operands *t, double *y, double *dx, double *dw)
{
    const oct_conv_geometry *g = &t->g;
    for (int n = 0; n < t->images; n++)
        for (int p = 0; p < g->out_h; p++)
            for (int q = 0; q < g->out_w; q++)
                for (int tap = 0; tap < 9; tap++) {
                    int h = p - g->pad_top + tap / 3, v = q - g->pad_left + tap % 3;
                    if (h < 0 || h >= g->in_h || v < 0 || v >= g->in_w) continue;
                    size_t xi = (((size_t)n * (size_t)g->in_h + (size_t)h) * (size_t)g->in_w + (size_t)v) *
                                (size_t)g->in_c,
                           yi = (((size_t)n * (size_t)g->out_h + (size_t)p) * (size_t)g->out_w + (size_t)q) *
                                (size_t)g->out_c;
                    for (int o = 0; o < g->out_c; o++) {
                        size_t wi = ((size_t)o * 9 + (size_t)tap) * (size_t)g->in_c;
                        for (int i = 0; i < g->in_c; i++) {
                            if (y) y[yi + (size_t)o] += (double)t->x[xi + (size_t)i] * (double)t->w[wi + (size_t)i];
                            if (dx)
                                dx[xi + (size_t)i] += (double)t->dy[yi + (size_t)o] * (double)t->w[wi + (size_t)i];
                            if (dw)
                                dw[wi + (size_t)i] += (double)t->dy[yi + (size_t)o] * (double)t->x[xi + (size_t)i];
                        }
                    }
                }
}

static double *start_from(const float *before, size_t n, int accumulate)
{
    double *p = oct_calloc(n, sizeof *p);
    for (size_t i = 0; p && accumulate && i < n; i++) p[i] = (double)before[i];
    return p;
}

/* Largest |got - want| as a share of what the bound allows. */
static double share_of(const float *got, const double *want, size_t n, double bound)
{
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double share = fabs((double)got[i] - want[i]) / bound;
        if (!(share <= most)) most = isfinite(share) ? share : 1e9;
    }
    return most;
}

static void start_result(float *to, const float *before, size_t n, int accumulate)
{
    for (size_t i = 0; i < n; i++) to[i] = accumulate ? before[i] : NAN;
}

static double check_run(const oct_f32_kernels *f32, const operands *t, bool towards_x, int accumulate, bool with_bias)
{
    const oct_conv_geometry *g = &t->g;
    size_t n = towards_x ? t->x_count : t->y_count, outputs = (size_t)(towards_x ? g->in_c : g->out_c);
    const float *before = towards_x ? t->before_x : t->before_y, *from = towards_x ? t->dy : t->x;
    const float *bias = with_bias && !towards_x ? t->bias : NULL;
    float *packed = oct_alloc(oct_winograd_packed_size(g, towards_x), sizeof(float));
    memset(packed, 0xFF, oct_winograd_packed_size(g, towards_x) * sizeof(float));
    for (int part = 2; part >= 0; part--) oct_winograd_pack(packed, t->w, g, towards_x, part, 3);
    float *y = oct_alloc(n, sizeof *y), *again = oct_alloc(n, sizeof *y);
    start_result(y, before, n, accumulate);
    oct_winograd_outputs o = {.bias = bias, .accumulate = accumulate, .parts = 1};
    oct_winograd_run(f32, g, towards_x, packed, &o, y, from, t->images, t->buffer);
    /* image by image: the same bytes */
    start_result(again, before, n, accumulate);
    size_t from_image = (towards_x ? t->y_count : t->x_count) / (size_t)t->images, image = n / (size_t)t->images;
    for (size_t k = 0; k < (size_t)t->images; k++)
        oct_winograd_run(f32, g, towards_x, packed, &o, again + k * image, from + k * from_image, 1, t->buffer);
    CU_ASSERT_FALSE(memcmp(y, again, n * sizeof *y));
    /* in parts: the same bytes */
    start_result(again, before, n, accumulate);
    for (o.parts = 3; o.part < o.parts; o.part++)
        oct_winograd_run(f32, g, towards_x, packed, &o, again, from, t->images, t->buffer);
    CU_ASSERT_FALSE(memcmp(y, again, n * sizeof *y));
    double *want = start_from(before, n, accumulate);
    direct(t, towards_x ? NULL : want, towards_x ? want : NULL, NULL);
    for (size_t i = 0; bias && i < n; i++) want[i] += (double)bias[i % outputs];
    double c = (double)(towards_x ? g->out_c : g->in_c);
    double bound = (c + 12) * 0x1p-24 * 64 * c * largest(from, towards_x ? t->y_count : t->x_count) *
                   largest(t->w, t->w_count);
    if (accumulate) bound += 3 * 0x1p-24 * largest(before, n);
    if (bias) bound += 3 * 0x1p-24 * largest(bias, outputs);
    double share = share_of(y, want, n, bound);
    oct_free(packed);
    oct_free(y);
    oct_free(again);
    oct_free(want);
    return share;
}

/* One chunk per image when `chunks`, else all images together. */
static void run_dw(const oct_f32_kernels *f32, const operands *t, float *dw, int accumulate, int chunks)
{
    const oct_conv_geometry *g = &t->g;
    size_t size = oct_winograd_dw_size(g), stride = size + 16;
    size_t x_image = t->x_count / (size_t)t->images, y_image = t->y_count / (size_t)t->images;
    float *partials = oct_calloc(stride * (size_t)chunks, sizeof(float));
    for (int k = 0; k < chunks; k++)
        oct_winograd_dw(f32, g, partials + (size_t)k * stride, t->x + (size_t)k * x_image, t->dy + (size_t)k * y_image,
                        chunks == 1 ? t->images : 1, t->buffer);
    start_result(dw, t->before_w, t->w_count, accumulate);
    for (int part = 2; part >= 0; part--)
        oct_winograd_dw_finish(g, dw, accumulate, partials, stride, chunks, part, 3);
    oct_free(partials);
}

static double check_dw(const oct_f32_kernels *f32, const operands *t, int accumulate, int chunks)
{
    const oct_conv_geometry *g = &t->g;
    float *dw = oct_alloc(t->w_count, sizeof *dw), *again = oct_alloc(t->w_count, sizeof *dw);
    run_dw(f32, t, dw, accumulate, chunks);
    run_dw(f32, t, again, accumulate, chunks);
    CU_ASSERT_FALSE(memcmp(dw, again, t->w_count * sizeof *dw));
    double *want = start_from(t->before_w, t->w_count, accumulate);
    direct(t, NULL, NULL, want);
    double n = (double)t->images * ((g->out_h + 1) / 2) * ((g->out_w + 1) / 2);
    double bound = (n + chunks + 12) * 0x1p-24 * 36 * n * largest(t->x, t->x_count) * largest(t->dy, t->y_count);
    if (accumulate) bound += 0x1p-24 * largest(t->before_w, t->w_count);
    double share = share_of(dw, want, t->w_count, bound);
    oct_free(dw);
    oct_free(again);
    oct_free(want);
    return share;
}

static void check_all(const oct_conv_geometry *g, int images, int variant)
{
    operands t = operands_create(g, images);
    uint32_t machine = oct_cpu_detect();
    for (int level = 0; oct_cpu_level_name(level); level++) {
        uint32_t mask;
        oct_error error;
        const char *name = oct_cpu_level_name(level);
        if (oct_cpu_parse(&mask, name, &error) || (mask & ~machine)) continue;
        oct_f32_kernels f32;
        oct_f32_kernels_init(&f32, mask);
        if (strcmp(f32.level, name)) continue;
        double shares[3] = {check_run(&f32, &t, false, variant & 1, variant & 2),
                            check_run(&f32, &t, true, variant & 1, false),
                            check_dw(&f32, &t, variant & 1, variant & 2 ? images : 1)};
        for (int i = 0; i < 3; i++) {
            CU_ASSERT_TRUE(shares[i] <= 1);
            if (!(shares[i] <= 1))
                printf("%s: %dx%d channels %d -> %d pad %d,%d images %d variant %d, sum %d: %g of the bound\n", name,
                       g->in_h, g->in_w, g->in_c, g->out_c, g->pad_top, g->pad_left, images, variant, i, shares[i]);
        }
    }
    operands_destroy(&t);
}

static void winograd_all_sizes_within_the_bound(void)
{
    int variant = 0;
    for (int height = 1; height <= 9; height++) {
        for (int width = 1; width <= 9; width++) {
            for (int pad = 0; pad <= 2; pad++) {
                if (height + 2 * pad < 3 || width + 2 * pad < 3) continue;
                oct_conv_geometry g = geometry(height, width, 3, 20, pad, pad, pad, pad);
                check_all(&g, 1 + variant % 5, variant);
                variant++;
            }
        }
    }
}

static void winograd_all_channels_within_the_bound(void)
{
    static const int channels[] = {1, 3, 16, 20, 33, 64, 113};
    int variant = 0;
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++) {
        for (size_t o = 0; o < sizeof channels / sizeof channels[0]; o++) {
            oct_conv_geometry g = geometry(5, 4, channels[i], channels[o], 1, 1, 1, 1);
            check_all(&g, 1 + variant % 3, variant);
            variant++;
        }
    }
}

static void winograd_uneven_padding_within_the_bound(void)
{
    for (int variant = 0; variant < 81; variant++) {
        oct_conv_geometry g = geometry(6, 7, 5, 17, variant % 3, variant / 3 % 3, variant / 9 % 3, variant / 27);
        check_all(&g, 2, variant);
    }
    oct_conv_geometry wide = geometry(2, 3, 4, 6, 5, 4, 3, 6);
    check_all(&wide, 2, 3);
}

static void winograd_several_groups_within_the_bound(void)
{
    oct_conv_geometry large = geometry(29, 35, 6, 18, 1, 1, 1, 1), row = geometry(3, 300, 3, 5, 1, 1, 1, 1),
                      deep = geometry(4, 4, 130, 150, 1, 1, 1, 1);
    for (int variant = 0; variant < 4; variant++) {
        check_all(&large, 3, variant);
        check_all(&row, 2, variant);
        check_all(&deep, 35, variant);
    }
}

static void fits_other_kernels_refused(void)
{
    oct_conv_geometry good = geometry(8, 8, 256, 256, 1, 1, 1, 1), g = good;
    CU_ASSERT_TRUE(oct_winograd_fits(&g));
    g = geometry(7, 7, 512, 512, 1, 1, 1, 1);
    CU_ASSERT_TRUE(oct_winograd_fits(&g));
    g = geometry(3, 3, 64, 64, 1, 1, 1, 1); /* 16 outputs computed for 9 */
    CU_ASSERT_FALSE(oct_winograd_fits(&g));
    g = geometry(8, 8, 64, 3, 1, 1, 1, 1);
    CU_ASSERT_FALSE(oct_winograd_fits(&g));
    g = good, g.stride_h = 2;
    CU_ASSERT_FALSE(oct_winograd_fits(&g));
    g = good, g.dilation_w = 2;
    CU_ASSERT_FALSE(oct_winograd_fits(&g));
    g = good, g.kernel_w = 1;
    CU_ASSERT_FALSE(oct_winograd_fits(&g));
    g = good, g.groups = 2;
    CU_ASSERT_FALSE(oct_winograd_fits(&g));
    g = good, g.depthwise = true;
    CU_ASSERT_FALSE(oct_winograd_fits(&g));
    g = geometry(8, 8, 3, 64, 1, 1, 1, 1);
    CU_ASSERT_FALSE(oct_winograd_fits(&g));
}

static const test_case cases[] = {
    {"winograd_all_sizes_within_the_bound", winograd_all_sizes_within_the_bound},
    {"winograd_all_channels_within_the_bound", winograd_all_channels_within_the_bound},
    {"winograd_uneven_padding_within_the_bound", winograd_uneven_padding_within_the_bound},
    {"winograd_several_groups_within_the_bound", winograd_several_groups_within_the_bound},
    {"fits_other_kernels_refused", fits_other_kernels_refused},
};
TEST_SUITE("conv_winograd", cases);
