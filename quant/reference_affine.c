/* SPDX-License-Identifier: BSD-2-Clause
 * The quantizer's ops of profile affine in double, one node at a time. Like quant/reference.c it has its own rounding: it looks
 * back at what made a value, finds the whole accumulator in it, and applies the requantization of quant/int8/spec.h. */
#include <math.h>
#include <string.h>

#include "quant/reference.h"

typedef struct grid {
    double scale, zero;
} grid;

/* The grid of a fake_quant node's range. */
static grid read_grid(const oct_ref *ref)
{
    const oct_fake_quant_attrs *a = ref->node->attrs;
    float lo = a->sign == OCT_SIGN_UNSIGNED ? 0 : fminf((float)ref->in[2][0], 0), hi = fmaxf((float)ref->in[2][1], 0);
    float scale = fmaxf((hi - lo) / 255, 0x1p-23f);
    float zero = -nearbyintf(lo / scale);
    return (grid){(double)scale, (double)fminf(fmaxf(zero, 0), 255)};
}

static double code_of(double x, grid g, double lo, double hi)
{
    float inverse = 1 / (float)g.scale, p = (float)x * inverse;
    return fmin(fmax((double)nearbyintf(p) + g.zero, lo), hi);
}

/* acc * ratio as the named rounding has it, without a clamp. */
static double scaled(double acc, double ratio, int rounding)
{
    if (rounding == OCT_INT8_ROUND_FLOAT) {
        float p = (float)acc * (float)ratio;
        return (double)nearbyintf(p);
    }
    int e;
    __int128 q = (__int128)floor(ldexp(frexp(ratio, &e), 31) + 0.5), a = (__int128)acc;
    if (q == (__int128)1 << 31) q /= 2, e++;
    if (e < -31 || !(ratio > 0)) return 0;
    if (e > 30) q = INT32_MAX, e = 30;
    if (rounding == OCT_INT8_ROUND_SINGLE) return floor(ldexp((double)(a * q), e - 31) + 0.5);
    if (e > 0) {
        a *= (__int128)1 << e;
        a = a > INT32_MAX ? INT32_MAX : a < INT32_MIN ? INT32_MIN : a;
    }
    double high = floor(ldexp((double)(a * q), -31) + 0.5), down = e < 0 ? ldexp(high, e) : high;
    return down < 0 ? -floor(-down + 0.5) : floor(down + 0.5);
}

/* What a value in front of a point is: where its whole numbers come from. */
typedef struct origin {
    const oct_node *base;   /* NULL: a plain value */
    const oct_node *x, *w;  /* base is a layer */
    double lo, hi;          /* codes, activation included */
} origin;

static const oct_node *input_of(const oct_ref *ref, const oct_node *n, int i)
{
    return ref->graph->nodes[n->inputs[i]];
}

static bool is_op(const oct_node *n, const oct_op *op)
{
    return n->kind == OCT_NODE_OP && n->op == op;
}

static bool on_one_grid(const oct_ref *ref, const oct_node *n)
{
    for (int i = 0; i < n->input_count; i++)
        if (ref->grid_of(ref, n->inputs[i])->count != 1) return false;
    return true;
}

static bool is_joined(const oct_node *n)
{
    bool binary = (is_op(n, &oct_op_add) || is_op(n, &oct_op_sub) || is_op(n, &oct_op_mul)) && n->input_count == 2;
    return binary || is_op(n, &oct_op_concat) || is_op(n, &oct_op_average_pool) ||
           is_op(n, &oct_op_global_average_pool);
}

static origin find_origin(const oct_ref *ref, grid g)
{
    origin o = {.lo = 0, .hi = 255};
    const oct_node *n = ref->in_node[0];
    if (is_op(n, &oct_op_relu) || is_op(n, &oct_op_clip)) {
        const oct_clip_attrs *clip = n->attrs;
        double least = 0, most = HUGE_VAL;
        if (is_op(n, &oct_op_clip)) least = (double)clip->lo, most = (double)clip->hi;
        o.lo = code_of(least, g, 0, 255);
        if (most < HUGE_VAL) o.hi = code_of(most, g, 0, 255);
        n = input_of(ref, n, 0);
    }
    bool live = ref->run->mode == OCT_TRAIN && !ref->run->bn_frozen;
    if (is_op(n, &oct_op_batch_norm_fold) && !live) {
        o.base = n, o.x = input_of(ref, n, OCT_BNF_X), o.w = input_of(ref, n, OCT_BNF_W);
    } else if ((is_op(n, &oct_op_conv2d) || is_op(n, &oct_op_linear)) && ref->grid_of(ref, n->inputs[1])->count) {
        o.base = n, o.x = input_of(ref, n, 0), o.w = input_of(ref, n, 1);
    } else if (is_joined(n) && on_one_grid(ref, n)) {
        o.base = n;
    } else if (ref->grid_of(ref, n->id)->count == 1) {
        o.base = n;
    } else if (is_op(n, &oct_op_dropout) && ref->run->mode == OCT_EVAL && on_one_grid(ref, n)) {
        o.base = input_of(ref, n, 0);
    }
    return o;
}

/* Whole number behind a value on a grid, its zero point taken off. */
static double difference(const oct_ref *ref, int32_t node, size_t i)
{
    return nearbyint(ref->value_of(ref, node)[i] / oct_grid_scale(ref->grid_of(ref, node), 0));
}

static void layer_codes(const oct_ref *ref, const origin *o, grid g, int rounding, size_t n)
{
    const oct_grid *x = ref->grid_of(ref, o->x->id), *w = ref->grid_of(ref, o->w->id);
    size_t channels = (size_t)o->base->shape.dim[o->base->shape.rank - 1];
    const double *value = ref->value_of(ref, o->base->id);
    for (size_t i = 0; i < n; i++) {
        double unit = oct_grid_scale(x, 0) * oct_grid_scale(w, i % channels);
        ref->out[i] = scaled(nearbyint(value[i] / unit), unit / g.scale, rounding) + g.zero;
    }
}

static void add_codes(const oct_ref *ref, const oct_node *add, grid g, int rounding, size_t n)
{
    double a = oct_grid_scale(ref->grid_of(ref, add->inputs[0]), 0), b = oct_grid_scale(ref->grid_of(ref, add->inputs[1]), 0);
    double twice = 2 * fmax(a, b), sign = is_op(add, &oct_op_sub) ? -1 : 1;
    for (size_t i = 0; i < n; i++) {
        double x = difference(ref, add->inputs[0], i), y = difference(ref, add->inputs[1], i);
        if (rounding == OCT_INT8_ROUND_FLOAT) {
            float p = (float)x * (float)(a / g.scale), q = (float)y * (float)(b / g.scale);
            ref->out[i] = (double)nearbyintf(p + (float)sign * q) + g.zero;
        } else {
            double sum = scaled(ldexp(x, 20), a / twice, rounding) + sign * scaled(ldexp(y, 20), b / twice, rounding);
            ref->out[i] = scaled(sum, twice / ldexp(g.scale, 20), rounding) + g.zero;
        }
    }
}

static void mul_codes(const oct_ref *ref, const oct_node *mul, grid g, int rounding, size_t n)
{
    double a = oct_grid_scale(ref->grid_of(ref, mul->inputs[0]), 0), b = oct_grid_scale(ref->grid_of(ref, mul->inputs[1]), 0);
    for (size_t i = 0; i < n; i++)
        ref->out[i] = scaled(difference(ref, mul->inputs[0], i) * difference(ref, mul->inputs[1], i), a * b / g.scale,
                             rounding) + g.zero;
}

static void concat_codes(const oct_ref *ref, const oct_node *concat, grid g, int rounding, size_t n)
{
    size_t channels = (size_t)concat->shape.dim[concat->shape.rank - 1], first = 0;
    for (int k = 0; k < concat->input_count; k++) {
        const oct_node *in = input_of(ref, concat, k);
        size_t own = (size_t)in->shape.dim[in->shape.rank - 1];
        double ratio = oct_grid_scale(ref->grid_of(ref, in->id), 0) / g.scale;
        for (size_t p = 0; p < n / channels; p++)
            for (size_t c = 0; c < own; c++)
                ref->out[p * channels + first + c] = scaled(difference(ref, in->id, p * own + c), ratio, rounding) + g.zero;
        first += own;
    }
}

/* Pixels of a window along one axis that lie inside. */
static int window_size(const oct_node *pool, int axis, int at, int size)
{
    if (is_op(pool, &oct_op_global_average_pool)) return size;
    const oct_pool_attrs *a = pool->attrs;
    int first = at * a->stride[axis] - a->pad[axis], end = first + a->kernel[axis];
    return (end > size ? size : end) - (first < 0 ? 0 : first);
}

/* The value is sum*scale/count. */
static void pool_codes(const oct_ref *ref, const oct_node *pool, grid g, int rounding, size_t n)
{
    const oct_shape *x = &input_of(ref, pool, 0)->shape, *y = &pool->shape;
    bool flat = y->rank != 4;
    size_t channels = (size_t)y->dim[y->rank - 1], width = flat ? 1 : (size_t)y->dim[2], height = flat ? 1 : (size_t)y->dim[1];
    double scale = oct_grid_scale(ref->grid_of(ref, pool->inputs[0]), 0);
    const double *value = ref->value_of(ref, pool->id);
    for (size_t i = 0; i < n; i++) {
        int column = (int)(i / channels % width), row = (int)(i / channels / width % height);
        int count = window_size(pool, 0, row, x->dim[1]) * window_size(pool, 1, column, x->dim[2]);
        double sum = nearbyint(value[i] / scale * count);
        ref->out[i] = scaled(sum, scale / (g.scale * count), rounding) + g.zero;
    }
}

static void rescale_codes(const oct_ref *ref, const oct_node *from, grid g, int rounding, size_t n)
{
    double ratio = oct_grid_scale(ref->grid_of(ref, from->id), 0) / g.scale;
    for (size_t i = 0; i < n; i++) ref->out[i] = scaled(difference(ref, from->id, i), ratio, rounding) + g.zero;
}

/* Codes into ref->out, not yet clamped. */
static void make_codes(const oct_ref *ref, const origin *o, grid g, size_t n)
{
    int rounding = ((const oct_fake_quant_attrs *)ref->node->attrs)->rounding;
    if (!o->base)
        for (size_t i = 0; i < n; i++) ref->out[i] = code_of(ref->in[0][i], g, 0, 255);
    else if (o->w)
        layer_codes(ref, o, g, rounding, n);
    else if (is_op(o->base, &oct_op_add) || is_op(o->base, &oct_op_sub))
        add_codes(ref, o->base, g, rounding, n);
    else if (is_op(o->base, &oct_op_mul))
        mul_codes(ref, o->base, g, rounding, n);
    else if (is_op(o->base, &oct_op_concat))
        concat_codes(ref, o->base, g, rounding, n);
    else if (is_joined(o->base))
        pool_codes(ref, o->base, g, rounding, n);
    else
        rescale_codes(ref, o->base, g, rounding, n);
}

oct_status oct_ref_affine_forward(oct_ref *ref, size_t n)
{
    grid g = read_grid(ref);
    origin o = find_origin(ref, g);
    make_codes(ref, &o, g, n);
    for (size_t i = 0; i < n; i++) ref->out[i] = (fmin(fmax(ref->out[i], o.lo), o.hi) - g.zero) * g.scale;
    ref->grid_exponents[0] = 0;
    ref->grid_scales[0] = g.scale;
    *ref->grid = (oct_grid){1, ref->grid_exponents, 0, ref->grid_scales, (int)g.zero};
    return OCT_OK;
}

oct_status oct_ref_affine_backward(oct_ref *ref, size_t n)
{
    grid g = read_grid(ref);
    float inverse = 1 / (float)g.scale;
    for (size_t i = 0; i < n && ref->d_in[0]; i++) {
        double code = (double)nearbyintf((float)ref->in[0][i] * inverse) + g.zero;
        if (code >= 0 && code <= 255) ref->d_in[0][i] += ref->d_out[i];
    }
    return OCT_OK;
}

/* --- weights --- */

static double weight_code(double s, double w, double scale)
{
    float inverse = 1 / (float)scale, p = (float)(s * w) * inverse;
    return (double)nearbyintf(p);
}

/* Channel o keeps its bounds at the scale it has. */
static bool channel_fits(const oct_ref *ref, const oct_ref_weights *w, size_t o)
{
    double sum = 0, scale = ref->grid_scales[o];
    for (size_t i = 0; i < w->count; i++)
        if (w->channel(&ref->node->shape, i) == o) sum += fmin(fabs(weight_code(w->s[o], ref->in[0][i], scale)), 127);
    double bias = nearbyint(w->bias[o] / (oct_grid_scale(ref->in_grid[1], 0) * scale));
    return 255 * sum < ldexp(1, 29) && fabs(bias) < ldexp(1, 30);
}

oct_status oct_ref_affine_weights(oct_ref *ref, const oct_ref_weights *w)
{
    const oct_fake_quant_weight_attrs *a = ref->node->attrs;
    double tensor = 0;
    for (size_t o = 0; o < w->channels; o++) ref->grid_scales[o] = 0;
    for (size_t i = 0; i < w->count; i++) {
        size_t o = w->channel(&ref->node->shape, i);
        double magnitude = fabs(w->s[o] * ref->in[0][i]);
        ref->grid_scales[o] = fmax(ref->grid_scales[o], magnitude);
        tensor = fmax(tensor, magnitude);
    }
    for (size_t o = 0; o < w->channels; o++) {
        float scale = (float)(a->per_channel ? ref->grid_scales[o] : tensor) / 127.0f;
        ref->grid_scales[o] = (double)fmaxf(scale, 0x1p-23f);
        ref->grid_exponents[o] = 0;
    }
    for (size_t o = 0; o < w->channels; o++)
        while (!channel_fits(ref, w, o))
            for (size_t p = 0; p < w->channels; p++)
                if (!a->per_channel || p == o) ref->grid_scales[p] *= 2;
    for (size_t i = 0; i < w->count; i++) {
        size_t o = w->channel(&ref->node->shape, i);
        double q = weight_code(w->s[o], ref->in[0][i], ref->grid_scales[o]);
        ref->out[i] = fmin(fmax(q, -127), 127) * ref->grid_scales[o];
    }
    *ref->grid = (oct_grid){(int)w->channels, ref->grid_exponents, 1, ref->grid_scales, 0};
    return OCT_OK;
}

bool oct_ref_affine_passes(const oct_ref *ref, size_t o, double s, double w)
{
    return fabs(weight_code(s, w, ref->grid_scales[o])) <= 127;
}
