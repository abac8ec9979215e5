/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/grid.h"

#include <math.h>

#include "quant/int8/affine.h"

static const float averaging_constant = 0.01f;

static oct_clip_codes affine_grid(float lo, float hi, oct_sign sign)
{
    oct_clip_codes c = {.affine = 1, .lo = 0, .hi = 255};
    oct_affine_parameters(&c.scale, &c.zero_point, sign == OCT_SIGN_UNSIGNED ? 0 : lo, hi, 0, 255);
    c.clip_lo = (float)-c.zero_point * c.scale;
    c.clip_hi = (float)(255 - c.zero_point) * c.scale;
    return c;
}

oct_clip_codes oct_grid_of_range(const float range[OCT_RANGE_FLOATS], oct_sign sign, oct_int8_rounding rounding)
{
    if (rounding == OCT_INT8_ROUND_SHIFT) return oct_range_clip(range, sign);
    return affine_grid(range[OCT_RANGE_LO], range[OCT_RANGE_HI], sign);
}

int32_t oct_grid_code(const oct_clip_codes *g, float x)
{
    if (g->affine) return oct_affine_code(x, 1.0f / g->scale, g->zero_point, g->lo, g->hi);
    return oct_activation_code(x, ldexpf(1, g->exponent), g->lo, g->hi);
}

void oct_grid_observe(float range[OCT_RANGE_FLOATS], oct_averaging averaging, float m, float M)
{
    if (averaging == OCT_AVERAGING_PACT2) {
        oct_range_update(range, m, M);
        return;
    }
    oct_range_count(range);
    if (!(range[OCT_RANGE_OBSERVED] > 0)) {
        range[OCT_RANGE_LO] = m;
        range[OCT_RANGE_HI] = M;
    } else {
        range[OCT_RANGE_LO] += averaging_constant * (m - range[OCT_RANGE_LO]);
        range[OCT_RANGE_HI] += averaging_constant * (M - range[OCT_RANGE_HI]);
    }
    range[OCT_RANGE_OBSERVED] = 1;
}

void oct_grid_to_tensor(const oct_clip_codes *g, oct_tensor *t)
{
    t->scale = g->scale;
    t->zero_point = g->zero_point;
    t->exponent = g->exponent;
    t->is_signed = g->is_signed;
    t->on_grid = 1;
}

/* A tie goes to the even neighbour: it is inside when that one is. */
void oct_grid_pass(const oct_clip_codes *g, float *low, float *high)
{
    const int least = -g->zero_point, most = 255 - g->zero_point;
    *low = (float)least - 0.5f;
    *high = (float)most + 0.5f;
    if (least % 2) *low = nextafterf(*low, INFINITY);
    if (most % 2) *high = nextafterf(*high, -INFINITY);
}
