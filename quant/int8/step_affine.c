/* SPDX-License-Identifier: BSD-2-Clause
 * What profile affine does differently in a step: multipliers instead of shifts, zero points. Everything that depends on a
 * scale is worked out when the model is opened; affine.h has the arithmetic.
 */
#include "quant/int8/engine.h"

/* Steps of the output's scale per unit of output o's accumulator. */
static double acc_ratio(const oct_int8_step *s, const float *scales, int count, int o)
{
    return (double)s->in[0]->scale * (double)scales[count == 1 ? 0 : o] / (double)s->out->scale;
}

bool oct_int8_affine_writes_codes(const oct_int8_step *s, oct_int8_rounding rounding, const float *scales, int count)
{
    if (!oct_int8_op_has_weights(s->layer.op) || s->out->kind != OCT_INT8_CODES) return false;
    if (rounding != OCT_INT8_ROUND_FLOAT) return false;
    for (int o = 0; o < s->out->channels; o++)
        if ((float)acc_ratio(s, scales, count, o) > OCT_I8_MAX_CODE_MULTIPLIER) return false;
    return true;
}

static size_t multiplier_count(const oct_int8_step *s)
{
    return s->writes_codes ? oct_int8_start_count(s) : (size_t)s->out->channels;
}

size_t oct_int8_affine_bytes(const oct_int8_step *s)
{
    size_t count, outputs = (size_t)s->out->channels;
    switch (s->layer.op) {
    case OCT_INT8_CONV:
    case OCT_INT8_DEPTHWISE:
    case OCT_INT8_LINEAR:
        if (s->out->kind != OCT_INT8_CODES) return 0;
        count = multiplier_count(s);
        return oct_size_align(count * sizeof(float)) + oct_size_align(outputs * sizeof(oct_affine_factor));
    case OCT_INT8_ADD:
    case OCT_INT8_SUB:
        return 2 * 256 * sizeof(int32_t);
    case OCT_INT8_CONCAT:
    case OCT_INT8_RESCALE:
        return 256 * (size_t)s->layer.input_count;
    default:
        return 0;
    }
}

static void prepare_weights(oct_int8_step *s, const float *scales, int scale_count, void *memory)
{
    size_t count = multiplier_count(s), group = count / ((size_t)s->out->channels / (size_t)s->group_outputs);
    bool in_float = s->affine.rounding == OCT_INT8_ROUND_FLOAT;
    float *multiplier = memory;
    oct_affine_factor *factor = (void *)((unsigned char *)memory + oct_size_align(count * sizeof *multiplier));
    for (size_t i = 0; i < count; i++) multiplier[i] = 0;
    for (int o = 0; o < s->out->channels; o++) {
        size_t at = s->writes_codes ? (size_t)(o / s->group_outputs) * group + (size_t)(o % s->group_outputs) : (size_t)o;
        factor[o] = oct_affine_factor_of(acc_ratio(s, scales, scale_count, o));
        multiplier[at] = factor[o].m;
    }
    s->affine.multiplier = in_float ? multiplier : NULL;
    s->affine.factor = factor;
}

/* In fixed point every code of an operand has its term. A subtraction is an addition of the negated second term. */
static void prepare_add(oct_int8_step *s, void *memory)
{
    oct_int8_step_affine *a = &s->affine;
    const int sign = s->layer.op == OCT_INT8_SUB ? -1 : 1;
    a->add = oct_affine_add_of((double)s->in[0]->scale, s->in[0]->zero_point, (double)s->in[1]->scale,
                               s->in[1]->zero_point, (double)s->out->scale, a->rounding);
    a->add.b.m *= (float)sign;
    if (a->rounding == OCT_INT8_ROUND_FLOAT) return;
    int32_t *terms = memory;
    for (int code = 0; code < 256; code++) {
        terms[code] = oct_affine_add_term(code - a->add.a_zero, a->add.a, a->rounding);
        terms[256 + code] = sign * oct_affine_add_term(code - a->add.b_zero, a->add.b, a->rounding);
    }
    a->terms = terms;
}

/* A change of scale is a function of one code. */
static void prepare_tables(oct_int8_step *s, void *memory)
{
    const oct_int8_layer *l = &s->layer;
    uint8_t *table = memory;
    for (int i = 0; i < l->input_count; i++) {
        oct_affine_factor f = oct_affine_factor_of((double)s->in[i]->scale / (double)s->out->scale);
        for (int code = 0; code < 256; code++)
            table[256 * i + code] = (uint8_t)oct_affine_requantize(code - s->in[i]->zero_point, f, s->affine.rounding,
                                                                   s->out->zero_point, l->out_lo, l->out_hi);
    }
    s->affine.table = table;
}

void oct_int8_affine_prepare(oct_int8_step *s, oct_int8_rounding rounding, const float *scales, int count, void *memory)
{
    s->affine = (oct_int8_step_affine){.on = true, .rounding = rounding};
    switch (s->layer.op) {
    case OCT_INT8_CONV:
    case OCT_INT8_DEPTHWISE:
    case OCT_INT8_LINEAR:
        if (s->out->kind == OCT_INT8_CODES) prepare_weights(s, scales, count, memory);
        break;
    case OCT_INT8_ADD:
    case OCT_INT8_SUB:
        prepare_add(s, memory);
        break;
    case OCT_INT8_MUL:
        s->affine.one =
            oct_affine_factor_of((double)s->in[0]->scale * (double)s->in[1]->scale / (double)s->out->scale);
        break;
    case OCT_INT8_CONCAT:
    case OCT_INT8_RESCALE:
        prepare_tables(s, memory);
        break;
    default:
        break;
    }
}

void oct_int8_affine_requantize(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *codes, const int32_t *acc,
                                size_t pixels)
{
    const oct_int8_step_affine *a = &s->affine;
    const oct_int8_layer *l = &s->layer;
    const int zero = s->out->zero_point;
    size_t channels = (size_t)s->out->channels;
    if (a->multiplier) {
        k->requantize_affine(codes, acc, a->multiplier, pixels, s->out->channels, zero, l->out_lo, l->out_hi);
        return;
    }
    for (size_t p = 0; p < pixels; p++, codes += channels, acc += channels)
        for (size_t c = 0; c < channels; c++)
            codes[c] = (uint8_t)oct_affine_requantize(acc[c], a->factor[c], a->rounding, zero, l->out_lo, l->out_hi);
}

static void add_codes(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *a, const uint8_t *b,
                      size_t n)
{
    const oct_int8_layer *l = &s->layer;
    const oct_affine_add *add = &s->affine.add;
    const int zero = s->out->zero_point;
    if (!s->affine.terms) {
        const oct_i8_affine_pair p = {add->a.m, add->b.m, add->a_zero, add->b_zero, zero, l->out_lo, l->out_hi};
        k->add_affine(out, a, b, n, &p);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)oct_affine_requantize(s->affine.terms[a[i]] + s->affine.terms[256 + b[i]], add->last,
                                                s->affine.rounding, zero, l->out_lo, l->out_hi);
}

static void mul_codes(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *a, const uint8_t *b,
                      size_t n)
{
    const oct_int8_layer *l = &s->layer;
    const int a_zero = s->in[0]->zero_point, b_zero = s->in[1]->zero_point, zero = s->out->zero_point;
    if (s->affine.rounding == OCT_INT8_ROUND_FLOAT) {
        const oct_i8_affine_pair p = {s->affine.one.m, 0, a_zero, b_zero, zero, l->out_lo, l->out_hi};
        k->mul_affine(out, a, b, n, &p);
        return;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)oct_affine_requantize((a[i] - a_zero) * (b[i] - b_zero), s->affine.one, s->affine.rounding, zero,
                                                l->out_lo, l->out_hi);
}

/* Concat along channels; a re-scaling is a concat of one. */
static void table_codes(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *const in[],
                        size_t first, size_t pixels)
{
    size_t channels = (size_t)s->out->channels, channel = 0;
    for (int i = 0; i < s->layer.input_count; i++) {
        size_t own = (size_t)s->in[i]->channels;
        const uint8_t *x = in[i] + first * own, *table = s->affine.table + 256 * i;
        if (own == channels) {
            k->lookup(out + first * channels, x, table, pixels * channels, 1);
        } else {
            for (size_t p = 0; p < pixels; p++)
                k->lookup(out + (first + p) * channels + channel, x + p * own, table, own, 1);
        }
        channel += own;
    }
}

void oct_int8_affine_rows(const oct_int8_step *s, const oct_i8_kernels *k, uint8_t *out, const uint8_t *const in[],
                          size_t first, size_t pixels)
{
    size_t channels = (size_t)s->out->channels, at = first * channels, n = pixels * channels;
    if (s->layer.op == OCT_INT8_ADD || s->layer.op == OCT_INT8_SUB)
        add_codes(s, k, out + at, in[0] + at, in[1] + at, n);
    else if (s->layer.op == OCT_INT8_MUL)
        mul_codes(s, k, out + at, in[0] + at, in[1] + at, n);
    else
        table_codes(s, k, out, in, first, pixels);
}

void oct_int8_affine_average(const oct_int8_step *s, uint8_t *out, const int32_t *sum, int32_t taps, int channels)
{
    const oct_int8_layer *l = &s->layer;
    const oct_affine_factor f =
        oct_affine_factor_of((double)s->in[0]->scale / ((double)s->out->scale * taps));
    const int32_t zero = taps * s->in[0]->zero_point;
    for (int c = 0; c < channels; c++)
        out[c] = (uint8_t)oct_affine_requantize(sum[c] - zero, f, s->affine.rounding, s->out->zero_point, l->out_lo,
                                                l->out_hi);
}
