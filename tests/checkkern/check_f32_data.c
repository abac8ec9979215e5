/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/checkkern/check_f32.h"

#include <float.h>
#include <math.h>
#include <string.h>

float f32_value(checkkern *k, data_kind kind)
{
    static const float values[] = {0.0f,  -0.0f, 1e-40f, -3e-45f,  FLT_MIN,   1e15f, -1e15f,  1e-15f,  1.0f,
                                   -1.0f, 6.0f,  1e-30f, INFINITY, -INFINITY, NAN,   FLT_MAX, -FLT_MAX};
    float v = 2.0f * oct_rng_uniform(checkkern_rng(k)) - 1.0f;
    if (kind == PLAIN || checkkern_random(k, 0, 2)) return v;
    return values[checkkern_random(k, 0, kind == EXTREME ? 11 : 16)];
}

void f32_fill(checkkern *k, float *to, size_t n, data_kind kind)
{
    for (size_t i = 0; i < n; i++) to[i] = f32_value(k, kind);
}

static void fill_nan(float *to, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = NAN;
}

int f32_place(checkkern *k, size_t size)
{
    return cg_where(checkkern_random(k, 0, CG_PLACES - 1), size);
}

static int next_aligned_place(checkkern *k)
{
    static const int places[3] = {0, CG_END, 64};
    return places[checkkern_random(k, 0, 2)];
}

float *f32_block(checkkern *k, size_t n)
{
    return cg_alloc(k, n * sizeof(float), f32_place(k, sizeof(float)));
}

float *f32_aligned_block(checkkern *k, size_t n)
{
    return cg_alloc(k, n * sizeof(float), next_aligned_place(k));
}

float *f32_input(checkkern *k, size_t n, data_kind kind)
{
    float *p = f32_block(k, n);
    f32_fill(k, p, n, kind);
    cg_input(k, p);
    return p;
}

float *f32_output(checkkern *k, size_t n)
{
    float *p = f32_block(k, n);
    fill_nan(p, n);
    return p;
}

float *f32_copy(checkkern *k, const float *source, size_t n)
{
    float *p = f32_block(k, n);
    memcpy(p, source, n * sizeof *p);
    return p;
}

void f32_same(checkkern *k, const char *what, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof got[i]) && !(isnan(got[i]) && isnan(want[i])))
            checkkern_fail(k, "%s[%zu] of %zu is %.9g, expected %.9g", what, i, n, (double)got[i],
                           (double)want[i]);
    }
}

void f32_same_doubles(checkkern *k, const char *what, const double *got, const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof got[i]) && !(isnan(got[i]) && isnan(want[i])))
            checkkern_fail(k, "%s[%zu] of %zu is %.17g, expected %.17g", what, i, n, got[i], want[i]);
    }
}

void f32_near(checkkern *k, const char *what, size_t at, float got, double want, double terms,
              double magnitude)
{
    double bound = (terms + 3.0) * (0x1p-24 * magnitude + 0x1p-149);
    if (!(fabs((double)got - want) <= bound))
        checkkern_fail(k, "%s[%zu] is %.9g, expected %.9g within %.3g", what, at, (double)got, want, bound);
}

void f32_end_residual(const oct_f32_end *end, size_t at, double *sum, double *magnitude)
{
    if (!end || !end->residual) return;
    *sum += (double)end->residual[at];
    *magnitude += fabs((double)end->residual[at]);
}

void f32_near_end(checkkern *k, size_t at, float got, double want, double terms, double magnitude, const oct_f32_end *end)
{
    if (end) want = want < (double)end->lo ? (double)end->lo : want > (double)end->hi ? (double)end->hi : want;
    f32_near(k, "y", at, got, want, terms + 1, magnitude);
}

void f32_tables(oct_f32_kernels *c, oct_f32_kernels *t, uint32_t mask)
{
    oct_f32_kernels_init(c, 0);
    oct_f32_kernels_init(t, mask);
}

/* ---- strides: extent of an array and where its element 0 lies when some strides are negative ---- */

typedef struct span {
    size_t count, origin;
} span;

static void span_axis(span *s, int count, ptrdiff_t stride)
{
    size_t reach = (size_t)(count - 1) * (size_t)(stride < 0 ? -stride : stride);
    s->count += reach;
    if (stride < 0) s->origin += reach;
}

static span grid_span(const f32_grid *g)
{
    span s = {(size_t)g->inner, 0};
    for (int i = 0; i < 3; i++) span_axis(&s, g->count[i], g->stride[i]);
    return s;
}

const float *f32_grid_input(checkkern *k, const f32_grid *g, data_kind kind)
{
    span s = grid_span(g);
    float *block = f32_output(k, s.count), *origin = block + s.origin;
    for (int a = 0; a < g->count[0]; a++) {
        for (int b = 0; b < g->count[1]; b++) {
            for (int c = 0; c < g->count[2]; c++)
                f32_fill(k, origin + a * g->stride[0] + b * g->stride[1] + c * g->stride[2], (size_t)g->inner,
                         kind);
        }
    }
    cg_input(k, block);
    return origin;
}

double *f32_doubles(checkkern *k, int n, double **copy)
{
    double *p = cg_alloc(k, (size_t)n * sizeof *p, f32_place(k, sizeof *p));
    *copy = cg_alloc(k, (size_t)n * sizeof *p, f32_place(k, sizeof *p));
    for (int i = 0; i < n; i++) p[i] = (*copy)[i] = (double)f32_value(k, PLAIN);
    return p;
}

void f32_limits(int i, float *lo, float *hi)
{
    static const float all[][2] = {
        {0.0f, INFINITY}, {-INFINITY, INFINITY}, {0.0f, 6.0f}, {-0.25f, 0.5f}, {0.0f, 0.0f}};
    *lo = all[i % 5][0];
    *hi = all[i % 5][1];
}
