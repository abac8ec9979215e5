/* SPDX-License-Identifier: BSD-2-Clause
 * C reference of the Winograd transforms: the oracle of tests/checkkern and the fallback on machines without a
 * faster level. Every sum is written in the order that all levels keep.
 */
#include "autograd/kernels/f32_internal.h"

static float pixel_at(const float *x, const oct_f32_tiles *p, int row, int column, int c)
{
    if (row < 0 || row >= p->height || column < 0 || column >= p->width) return 0.0f;
    return x[row * p->row + column * p->pixel + c];
}

/* out = B^T d along one axis */
static void transform_input(float out[4], const float d[4])
{
    out[0] = d[0] - d[2];
    out[1] = d[1] + d[2];
    out[2] = d[2] - d[1];
    out[3] = d[3] - d[1];
}

static void winograd_input_c(float *v, const float *x, const oct_f32_tiles *p)
{
    for (int t = 0; t < p->tiles; t++) {
        for (int c = 0; c < p->channels; c++) {
            float a[4][4]; /* [column][i] */
            for (int s = 0; s < 4; s++) {
                float d[4];
                for (int r = 0; r < 4; r++) d[r] = pixel_at(x, p, p->top + r, p->left + 2 * t + s, c);
                transform_input(a[s], d);
            }
            for (int i = 0; i < 4; i++) {
                float d[4] = {a[0][i], a[1][i], a[2][i], a[3][i]}, out[4];
                transform_input(out, d);
                for (int j = 0; j < 4; j++) v[(4 * i + j) * p->position + t * p->tile + c] = out[j];
            }
        }
    }
}

/* out = A d along one axis */
static void transform_gradient(float out[4], float a, float b)
{
    out[0] = a;
    out[1] = a + b;
    out[2] = a - b;
    out[3] = b;
}

static void winograd_gradient_c(float *v, const float *dy, const oct_f32_tiles *p)
{
    for (int t = 0; t < p->tiles; t++) {
        for (int c = 0; c < p->channels; c++) {
            float a[2][4], out[4];
            for (int s = 0; s < 2; s++) {
                int column = p->left + 2 * t + s;
                transform_gradient(a[s], pixel_at(dy, p, p->top, column, c),
                                   pixel_at(dy, p, p->top + 1, column, c));
            }
            for (int i = 0; i < 4; i++) {
                transform_gradient(out, a[0][i], a[1][i]);
                for (int j = 0; j < 4; j++) v[(4 * i + j) * p->position + t * p->tile + c] = out[j];
            }
        }
    }
}

static void store_output(float *y, const oct_f32_tiles *p, int row, int column, int c, float v,
                         const float *bias)
{
    if (row < 0 || row >= p->height || column < 0 || column >= p->width) return;
    float *to = y + row * p->row + column * p->pixel + c;
    if (bias) v = v + bias[c];
    *to = p->accumulate ? *to + v : v;
}

static void winograd_output_c(float *y, const float *m, const float *bias, const oct_f32_tiles *p)
{
    for (int t = 0; t < p->tiles; t++) {
        for (int c = 0; c < p->channels; c++) {
            const float *at = m + t * p->tile + c;
            float a[2][4];
            for (int j = 0; j < 4; j++) {
                float m0 = at[j * p->position], m1 = at[(4 + j) * p->position],
                      m2 = at[(8 + j) * p->position], m3 = at[(12 + j) * p->position];
                a[0][j] = (m0 + m1) + m2;
                a[1][j] = (m1 - m2) + m3;
            }
            for (int r = 0; r < 2; r++) {
                int row = p->top + r, column = p->left + 2 * t;
                store_output(y, p, row, column, c, (a[r][0] + a[r][1]) + a[r][2], bias);
                store_output(y, p, row, column + 1, c, (a[r][1] - a[r][2]) + a[r][3], bias);
            }
        }
    }
}

void oct_f32_fill_winograd_c(oct_f32_kernels *table)
{
    table->winograd_input = winograd_input_c;
    table->winograd_output = winograd_output_c;
    table->winograd_gradient = winograd_gradient_c;
}
