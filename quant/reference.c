/* SPDX-License-Identifier: BSD-2-Clause
 * The quantizer's ops in double, one node at a time: the independent witness of the fused steps, the exporter and the
 * engine. It deliberately shares no rounding, folding or statistics code with them. */
#include "quant/reference.h"

#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"

static int batch_of(const oct_ref *ref, const oct_shape *s)
{
    return s->rank && s->dim[0] == OCT_BATCH ? ref->batch : 1;
}

static size_t elements(const oct_ref *ref, const oct_node *n)
{
    return oct_shape_sample(&n->shape) * (size_t)batch_of(ref, &n->shape);
}

static double pow2(int e)
{
    return ldexp(1, e);
}

/* Smallest e with 2^e >= x, by stepping: no frexp, no logarithm. */
static int exponent_at_least(double x)
{
    int e = 0;
    while (pow2(e) < x) e++;
    while (pow2(e - 1) >= x) e--;
    return e;
}

static double half_away(double x)
{
    return x < 0 ? -floor(-x + 0.5) : floor(x + 0.5);
}

/* --- fake_quant --- */

typedef struct observed {
    float min, max;
} observed;

static bool in_subsample(const oct_shape *s, size_t index, const int phase[2])
{
    if (s->rank != 4 || s->dim[1] <= 4 || s->dim[2] <= 4) return true;
    size_t pixel = index / (size_t)s->dim[3] % ((size_t)s->dim[1] * (size_t)s->dim[2]);
    return (int)(pixel / (size_t)s->dim[2]) % 2 == phase[0] && (int)(pixel % (size_t)s->dim[2]) % 2 == phase[1];
}

static observed observe(const oct_ref *ref, float shrink)
{
    const oct_shape *s = &ref->in_node[1]->shape;
    size_t n = elements(ref, ref->in_node[1]);
    observed o = {INFINITY, -INFINITY};
    for (size_t i = 0; i < n; i++) {
        o.min = fminf(o.min, (float)ref->in[1][i]);
        o.max = fmaxf(o.max, (float)ref->in[1][i]);
    }
    if (!(shrink > 0) || !(o.max > o.min)) return o;
    oct_rng rng = oct_rng_start(ref->run->seed, OCT_RNG_SUBSAMPLE, ref->run->step, (uint64_t)ref->node->id);
    uint32_t bits = oct_rng_u32(&rng);
    int phase[2] = {(int)(bits & 1), (int)(bits >> 1 & 1)};
    float scale = 255.0f / (o.max - o.min);
    uint32_t counts[256] = {0};
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (!in_subsample(s, i, phase)) continue;
        float place = ((float)ref->in[1][i] - o.min) * scale;
        int bin = (int)nearbyintf(place);
        counts[bin < 0 ? 0 : bin > 255 ? 255 : bin]++;
        total++;
    }
    double limit = (double)shrink / 100 * (double)total;
    int lo = 0, hi = 255;
    uint64_t tail = 0;
    for (int k = 0; k < 256; k++) {
        tail += counts[k];
        if ((double)tail < limit) lo = k;
    }
    tail = 0;
    for (int k = 255; k >= 0; k--) {
        tail += counts[k];
        if ((double)tail < limit) hi = k;
    }
    float low = (float)lo / scale + o.min, high = (float)hi / scale + o.min;
    return (observed){fmaxf(low, o.min), fminf(high, o.max)};
}

/* PyTorch's moving average: the first batch is copied. */
static void move(double range[4], observed o)
{
    float lo = o.min, hi = o.max;
    if (range[3] > 0) {
        lo = (float)range[0] + 0.01f * (o.min - (float)range[0]);
        hi = (float)range[1] + 0.01f * (o.max - (float)range[1]);
    }
    range[0] = (double)lo;
    range[1] = (double)hi;
    range[2] += 1;
    range[3] = 1;
}

static void average(double range[4], observed o)
{
    range[2] += 1;
    float n = (float)range[2], u = n <= 1 ? 1.0f : 1.0f / n;
    if (u < 0.001f) u = 0.001f;
    float keep = 1 - u;
    float lo = keep * (float)range[0] + u * o.min, hi = keep * (float)range[1] + u * o.max;
    range[0] = (double)lo;
    range[1] = (double)hi;
    range[3] = 1;
}

typedef struct clip {
    int is_signed, exponent;
    double lo, hi, limit; /* codes; largest value that passes a gradient */
} clip;

static clip read_clip(const oct_ref *ref)
{
    const oct_fake_quant_attrs *a = ref->node->attrs;
    const double *range = ref->in[2];
    int is_signed = a->sign == OCT_SIGN_AUTO ? range[0] < 0 : a->sign == OCT_SIGN_SIGNED;
    double largest = fabs(range[1]);
    if (is_signed) largest = fmax(largest, fabs(range[0]));
    int e = exponent_at_least(fmax(largest, pow2(-16)));
    return (clip){is_signed, (is_signed ? 7 : 8) - e, is_signed ? -128 : 0, is_signed ? 127 : 255, pow2(e)};
}

oct_status oct_ref_fake_quant_forward(oct_ref *ref)
{
    const oct_fake_quant_attrs *a = ref->node->attrs;
    if (ref->run->mode == OCT_TRAIN && ref->run->range_frozen)
        ref->in[2][2] += 1;
    else if (ref->run->mode == OCT_TRAIN)
        (a->averaging == OCT_AVERAGING_PACT2 ? average : move)(ref->in[2], observe(ref, a->shrink));
    size_t n = elements(ref, ref->node);
    if (a->rounding != OCT_INT8_ROUND_SHIFT) return oct_ref_affine_forward(ref, n);
    clip c = read_clip(ref);
    double kappa = pow2(c.exponent);
    for (size_t i = 0; i < n; i++)
        ref->out[i] = fmin(fmax(floor(ref->in[0][i] * kappa + 0.5), c.lo), c.hi) / kappa;
    ref->grid_exponents[0] = c.exponent;
    *ref->grid = (oct_grid){1, ref->grid_exponents, c.is_signed, NULL, 0};
    return OCT_OK;
}

oct_status oct_ref_fake_quant_backward(oct_ref *ref)
{
    const oct_fake_quant_attrs *a = ref->node->attrs;
    size_t n = elements(ref, ref->node);
    if (a->rounding != OCT_INT8_ROUND_SHIFT) return oct_ref_affine_backward(ref, n);
    clip c = read_clip(ref);
    for (size_t i = 0; i < n && ref->d_in[0]; i++) {
        double x = ref->in[0][i];
        if (x >= (c.is_signed ? -c.limit : 0) && x <= c.limit) ref->d_in[0][i] += ref->d_out[i];
    }
    return OCT_OK;
}

/* --- weights and biases --- */

static size_t channel_of(const oct_shape *w, size_t index)
{
    if (w->rank == 3) return index % (size_t)w->dim[2];
    size_t per_output = 1;
    for (int i = 1; i < w->rank; i++) per_output *= (size_t)w->dim[i];
    return index / per_output;
}

static size_t channel_count(const oct_shape *w)
{
    return (size_t)w->dim[w->rank == 3 ? 2 : 0];
}

static double fold_scale(double gamma, double var, double eps)
{
    double s = gamma / sqrt(var + eps);
    if (s >= 0 && s < 1e-8) s = 1e-8;
    if (s < 0 && s > -1e-8) s = -1e-8;
    return s;
}

static double weight_scale(const oct_ref *ref, size_t o)
{
    const oct_fake_quant_weight_attrs *a = ref->node->attrs;
    return a->has_norm ? fold_scale(ref->in[2][o], ref->in[5][o], (double)a->eps) : 1;
}

static double weight_bias(const oct_ref *ref, size_t o)
{
    const oct_fake_quant_weight_attrs *a = ref->node->attrs;
    double b0 = a->has_bias ? ref->in[ref->node->input_count - 1][o] : 0;
    return a->has_norm ? ref->in[3][o] + (b0 - ref->in[4][o]) * weight_scale(ref, o) : b0;
}

static void initial_exponents(const oct_ref *ref)
{
    const oct_fake_quant_weight_attrs *a = ref->node->attrs;
    const oct_shape *s = &ref->node->shape;
    size_t n = elements(ref, ref->node), channels = channel_count(s);
    double *largest = ref->saved, tensor = 0;
    for (size_t o = 0; o < channels; o++) largest[o] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t o = channel_of(s, i);
        largest[o] = fmax(largest[o], fabs(weight_scale(ref, o) * ref->in[0][i]));
    }
    for (size_t o = 0; o < channels; o++) tensor = fmax(tensor, largest[o]);
    int whole = 7 - exponent_at_least(fmax(tensor, pow2(-16)));
    for (size_t o = 0; o < channels; o++) {
        int own = 7 - exponent_at_least(fmax(largest[o], pow2(-16)));
        ref->grid_exponents[o] = a->per_channel ? (own > whole + 8 ? whole + 8 : own) : whole;
    }
}

/* The first channel whose accumulator or bias could leave its bound, or -1. */
static long first_overflow(const oct_ref *ref)
{
    const oct_shape *s = &ref->node->shape;
    size_t n = elements(ref, ref->node), channels = channel_count(s);
    double *sum = ref->saved;
    for (size_t o = 0; o < channels; o++) sum[o] = 0;
    for (size_t i = 0; i < n; i++) {
        size_t o = channel_of(s, i);
        double q = half_away(weight_scale(ref, o) * ref->in[0][i] * pow2(ref->grid_exponents[o]));
        sum[o] += fmin(fabs(q), 127);
    }
    for (size_t o = 0; o < channels; o++) {
        double b = half_away(weight_bias(ref, o) * pow2(ref->grid_exponents[o] + ref->in_grid[1]->exponent[0]));
        if (255 * sum[o] >= pow2(29) || fabs(b) >= pow2(30)) return (long)o;
    }
    return -1;
}

/* The scales of this step, for backward: the statistics move before it runs. */
static void save_scales(const oct_ref *ref)
{
    for (size_t o = 0; o < channel_count(&ref->node->shape); o++) ref->saved[o] = weight_scale(ref, o);
}

oct_status oct_ref_weight_forward(oct_ref *ref)
{
    const oct_fake_quant_weight_attrs *a = ref->node->attrs;
    const oct_shape *s = &ref->node->shape;
    size_t n = elements(ref, ref->node), channels = channel_count(s);
    if (!ref->in_grid[1]->count)
        return oct_fail(&ref->ctx->error, OCT_ERR_STATE, "'%s': the layer's input is not on a grid", ref->node->name);
    if (a->affine) {
        save_scales(ref);
        for (size_t o = 0; o < channels; o++) ref->saved[channels + o] = weight_bias(ref, o);
        const oct_ref_weights weights = {n, channels, ref->saved, ref->saved + channels, channel_of};
        return oct_ref_affine_weights(ref, &weights);
    }
    initial_exponents(ref);
    for (long bad = first_overflow(ref); bad >= 0; bad = first_overflow(ref))
        for (size_t o = 0; o < channels; o++)
            if (!a->per_channel || (long)o == bad) ref->grid_exponents[o]--;
    for (size_t i = 0; i < n; i++) {
        size_t o = channel_of(s, i);
        double kappa = pow2(ref->grid_exponents[o]);
        double q = half_away(weight_scale(ref, o) * ref->in[0][i] * kappa);
        ref->out[i] = fmin(fmax(q, -127), 127) / kappa;
    }
    *ref->grid = (oct_grid){(int)channels, ref->grid_exponents, 1, NULL, 0};
    save_scales(ref);
    return OCT_OK;
}

oct_status oct_ref_weight_backward(oct_ref *ref)
{
    const oct_fake_quant_weight_attrs *a = ref->node->attrs;
    const oct_shape *s = &ref->node->shape;
    size_t n = elements(ref, ref->node);
    for (size_t i = 0; i < n && ref->d_in[0]; i++) {
        size_t o = channel_of(s, i);
        double q = half_away(ref->saved[o] * ref->in[0][i] * pow2(ref->grid_exponents[o]));
        bool passes = a->affine ? oct_ref_affine_passes(ref, o, ref->saved[o], ref->in[0][i]) : fabs(q) <= 127;
        if (passes) ref->d_in[0][i] += ref->saved[o] * ref->d_out[i];
    }
    return OCT_OK;
}

size_t oct_ref_weight_saved(const oct_node *n)
{
    return 2 * channel_count(&n->shape);
}

/* A bias on the grid of accumulators worth `unit` each. */
static double quantized_bias(const oct_grid *x, double b, double unit)
{
    return (x->scale ? nearbyint(b / unit) : half_away(b / unit)) * unit;
}

oct_status oct_ref_bias_forward(oct_ref *ref)
{
    size_t n = elements(ref, ref->node);
    for (size_t o = 0; o < n; o++) {
        double unit = oct_grid_scale(ref->in_grid[1], 0) * oct_grid_scale(ref->in_grid[2], o);
        ref->out[o] = quantized_bias(ref->in_grid[1], ref->in[0][o], unit);
    }
    return OCT_OK;
}

oct_status oct_ref_bias_backward(oct_ref *ref)
{
    size_t n = elements(ref, ref->node);
    for (size_t o = 0; o < n && ref->d_in[0]; o++) ref->d_in[0][o] += ref->d_out[o];
    return OCT_OK;
}

/* --- batch norm, folded --- */

enum { NORM_U, NORM_GAMMA, NORM_BETA, NORM_MEAN, NORM_VAR, NORM_X, NORM_W, NORM_BIAS };

static bool is_live(const oct_ref *ref)
{
    return ref->run->mode == OCT_TRAIN && !ref->run->bn_frozen;
}

/* Real value of one unit of channel o's accumulator. */
static double acc_unit(const oct_ref *ref, size_t o)
{
    return oct_grid_scale(ref->in_grid[NORM_X], 0) * oct_grid_scale(ref->in_grid[NORM_W], o);
}

/* The whole number behind a sum of products of codes. */
static double acc_of(double value, double unit)
{
    return nearbyint(value / unit);
}

/* Saved per channel by forward. */
typedef struct norm_channel {
    double s, k, mean, signed_r, sigma; /* k: output per accumulator unit; mean and signed_r in accumulator units */
} norm_channel;
enum { SAVED_PER_CHANNEL = sizeof(norm_channel) / sizeof(double) };

static norm_channel *channel_saved(const oct_ref *ref, size_t o)
{
    return (norm_channel *)(void *)ref->saved + o;
}

static bool all_codes_zero(const oct_ref *ref, size_t o)
{
    const oct_node *w = ref->in_node[NORM_W];
    for (size_t i = 0; i < oct_shape_sample(&w->shape); i++)
        if (channel_of(&w->shape, i) == o && ref->in[NORM_W][i] != 0) return false;
    return true;
}

static void live_channel(oct_ref *ref, size_t o, size_t channels, size_t positions)
{
    const oct_batch_norm_fold_attrs *a = ref->node->attrs;
    double unit = acc_unit(ref, o), m = (double)positions, eps = (double)a->eps;
    __int128 s1 = 0, s2 = 0;
    for (size_t p = 0; p < positions; p++) {
        long acc = (long)acc_of(ref->in[NORM_U][p * channels + o], unit);
        s1 += acc;
        s2 += (__int128)acc * acc;
    }
    double gamma = ref->in[NORM_GAMMA][o], beta = ref->in[NORM_BETA][o];
    double b0 = ref->node->input_count > NORM_BIAS ? ref->in[NORM_BIAS][o] : 0;
    double s = fold_scale(gamma, ref->in[NORM_VAR][o], eps), k = unit / s;
    double mean = (double)s1 / m, v = (double)((__int128)positions * s2 - s1 * s1) / (m * m);
    double r = 1 / sqrt(v + eps / (k * k));
    norm_channel *c = channel_saved(ref, o);
    *c = (norm_channel){s, k, mean, s < 0 ? -r : r, sqrt(k * k * v + eps)};
    if (!all_codes_zero(ref, o)) {
        double momentum = (double)a->momentum;
        double *running_mean = &ref->in[NORM_MEAN][o], *running_var = &ref->in[NORM_VAR][o];
        *running_mean = (double)(float)(*running_mean + momentum * (k * mean + b0 - *running_mean));
        *running_var = (double)(float)(*running_var + momentum * (k * k * v * (m / (m - 1)) - *running_var));
    }
    float slope, shift;
    if (a->fold == OCT_FOLD_RUNNING) {
        double now = fold_scale(gamma, ref->in[NORM_VAR][o], eps);
        slope = (float)(k * now);
        shift = (float)(beta + (b0 - ref->in[NORM_MEAN][o]) * now);
    } else {
        slope = (float)(gamma * c->signed_r);
        shift = (float)(beta - gamma * c->signed_r * mean);
    }
    for (size_t p = 0; p < positions; p++) {
        float product = (float)acc_of(ref->in[NORM_U][p * channels + o], unit) * slope;
        ref->out[p * channels + o] = (double)(product + shift);
    }
}

static void frozen_channel(oct_ref *ref, size_t o, size_t channels, size_t positions)
{
    const oct_batch_norm_fold_attrs *a = ref->node->attrs;
    double s = fold_scale(ref->in[NORM_GAMMA][o], ref->in[NORM_VAR][o], (double)a->eps);
    double b0 = ref->node->input_count > NORM_BIAS ? ref->in[NORM_BIAS][o] : 0;
    double unit = acc_unit(ref, o);
    double bias = quantized_bias(ref->in_grid[NORM_X], ref->in[NORM_BETA][o] + (b0 - ref->in[NORM_MEAN][o]) * s, unit);
    double sigma = sqrt(ref->in[NORM_VAR][o] + (double)a->eps), k = unit / s;
    *channel_saved(ref, o) = (norm_channel){s, k, (ref->in[NORM_MEAN][o] - b0) / k, k / sigma, sigma};
    for (size_t p = 0; p < positions; p++) ref->out[p * channels + o] = ref->in[NORM_U][p * channels + o] + bias;
}

oct_status oct_ref_norm_forward(oct_ref *ref)
{
    size_t channels = (size_t)ref->node->shape.dim[ref->node->shape.rank - 1];
    size_t positions = elements(ref, ref->node) / channels;
    if (!ref->in_grid[NORM_X]->count || !ref->in_grid[NORM_W]->count)
        return oct_fail(&ref->ctx->error, OCT_ERR_STATE, "'%s': input or weights are not on a grid", ref->node->name);
    if (is_live(ref) && positions < 2)
        return oct_fail(&ref->ctx->error, OCT_ERR_SHAPE, "'%s': batch statistics need more than one position",
                        ref->node->name);
    for (size_t o = 0; o < channels; o++)
        (is_live(ref) ? live_channel : frozen_channel)(ref, o, channels, positions);
    return OCT_OK;
}

oct_status oct_ref_norm_backward(oct_ref *ref)
{
    size_t channels = (size_t)ref->node->shape.dim[ref->node->shape.rank - 1];
    size_t positions = elements(ref, ref->node) / channels;
    for (size_t o = 0; o < channels; o++) {
        const norm_channel *c = channel_saved(ref, o);
        double unit = acc_unit(ref, o), sum = 0, dot = 0, m = (double)positions;
        for (size_t p = 0; p < positions; p++) {
            double d = ref->d_out[p * channels + o];
            sum += d;
            dot += d * c->signed_r * (acc_of(ref->in[NORM_U][p * channels + o], unit) - c->mean);
        }
        if (ref->d_in[NORM_GAMMA]) ref->d_in[NORM_GAMMA][o] += dot;
        if (ref->d_in[NORM_BETA]) ref->d_in[NORM_BETA][o] += sum;
        if (!is_live(ref) && ref->node->input_count > NORM_BIAS && ref->d_in[NORM_BIAS]) ref->d_in[NORM_BIAS][o] += c->s * sum;
        for (size_t p = 0; p < positions && ref->d_in[NORM_U]; p++) {
            double d = ref->d_out[p * channels + o];
            double xhat = c->signed_r * (acc_of(ref->in[NORM_U][p * channels + o], unit) - c->mean);
            double g = ref->in[NORM_GAMMA][o] / c->s / c->sigma * (d - sum / m - xhat * dot / m);
            ref->d_in[NORM_U][p * channels + o] += is_live(ref) ? g : d;
        }
    }
    return OCT_OK;
}

size_t oct_ref_norm_saved(const oct_node *n)
{
    return SAVED_PER_CHANNEL * (size_t)n->shape.dim[n->shape.rank - 1];
}
