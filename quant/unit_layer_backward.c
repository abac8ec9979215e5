/* SPDX-License-Identifier: BSD-2-Clause
 * Backward of the fused layer step (docs/quantization.md 11.9 live, 4.3 frozen):
 *
 *   dZ = mask(d_out)                                          made where it is used
 *   dbeta = sum dZ, dgamma = sum dZ*x_hat                     accumulators made again on the int8 kernels, which is cheaper
 *   g  = g_scale*(dZ - mean dZ - x_hat*mean(dZ*x_hat))        than keeping them (live; frozen or none: g = dZ)
 *   dX = conv^T(g, w_q),  dW = passes ⊙ s*corr(X, g)          float convolution backward on decoded codes
 */
#include <math.h>
#include <string.h>

#include "autograd/base/par.h"
#include "quant/unit_layer.h"

/* Mask bits from `row` of an image on; NULL: all set. */
static const uint8_t *bits_of(const oct_layer_job *job, size_t image, int row)
{
    size_t rows = image * (size_t)job->rows + (size_t)row;
    return job->kept.bits ? job->kept.bits + rows * oct_mask_row_bytes(job->row_elements) : NULL;
}

static const float *gradient_at(const oct_layer_job *job, size_t image, int row)
{
    return (const float *)job->step->d_out->data + image * job->out_sample + (size_t)row * job->row_elements;
}

/* Rows [row, row + count) are a block: what is done to one stays in the first-level cache. */
static int block_rows(const oct_layer_job *job, int row)
{
    return job->rows - row < job->block_rows ? job->rows - row : job->block_rows;
}

/* dZ of a block: the gradient itself or, masked, a copy in `masked`. */
static const float *masked_block(const oct_layer_job *job, float *masked, size_t image, int row)
{
    const float *d = gradient_at(job, image, row);
    const uint8_t *bits = bits_of(job, image, row);
    if (!bits) return d;
    job->kernels.mask_apply(masked, d, bits, (size_t)block_rows(job, row) * job->row_elements);
    return masked;
}

/* Sums of dZ and, with batch norm, of dZ*(acc - mean) over one image, whose accumulators are made again. */
static void sums_of_image(void *arg, int64_t image, int thread)
{
    const oct_layer_job *job = arg;
    const oct_f32_kernels *f32 = job->step->f32;
    size_t outputs = (size_t)job->outputs, pixels = (size_t)job->geometry.out_w, n = (size_t)image;
    double *sum = job->grad_sum + n * outputs, *dot = job->grad_dot + n * outputs;
    float *masked = job->blocks + (size_t)thread * 2 * job->block_elements, *x = masked + job->block_elements;
    int32_t *acc = job->acc ? job->acc + n * job->out_sample : job->thread_acc + (size_t)thread * job->out_sample;
    memset(sum, 0, outputs * sizeof *sum);
    memset(dot, 0, outputs * sizeof *dot);
    if (job->norm) oct_layer_convolve(job, acc, image, thread);
    for (int row = 0; row < job->rows; row += job->block_rows) {
        size_t positions = (size_t)block_rows(job, row) * pixels;
        const float *d = masked_block(job, masked, n, row);
        if (!job->norm) {
            f32->channel_sum(sum, d, positions, job->outputs);
            continue;
        }
        job->kernels.acc_affine(x, acc + (size_t)row * job->row_elements, job->a, job->b, positions, job->outputs);
        f32->bn_backward_sums(sum, dot, masked, d, NULL, 0, 0, x, job->mean_f32, positions, job->outputs);
    }
}

/* Accumulators without the folded bias: the packed start of a frozen forward holds it. */
static void drop_bias(const oct_layer_job *job)
{
    for (int o = 0; o < job->outputs; o++) {
        job->a[o] = 1;
        job->b[o] = 0;
        job->mean_f32[o] = (float)job->kept.norm[o].mean;
    }
    if (!job->step->run->bn_frozen) return;
    for (int o = 0; o < job->outputs; o++) job->b[o] = -(float)job->kept.fold.bias[o];
}

static double total_of(const oct_layer_job *job, const double *partial, int o)
{
    double total = 0;
    for (int i = 0; i < job->step->batch; i++) total += partial[(size_t)i * (size_t)job->outputs + (size_t)o];
    return total;
}

/* Where the gradient of input `slot` of node n goes; NULL when it is not wanted. */
static float *gradient_of(const oct_layer_job *job, const oct_node *n, int slot)
{
    int i = oct_unit_input_of(job->step->unit, n->inputs[slot]);
    return i >= 0 && job->step->d_in[i] ? job->step->d_in[i]->data : NULL;
}

/* Gradients of gamma, beta and the bias, and the coefficients of g = dZ*p + acc*q + r. */
static void norm_gradients(const oct_layer_job *job)
{
    float *d_gamma = gradient_of(job, job->norm, OCT_BNF_GAMMA), *d_beta = gradient_of(job, job->norm, OCT_BNF_BETA);
    float *d_bias = job->bias ? gradient_of(job, job->norm, OCT_BNF_BIAS) : NULL;
    bool live = !job->step->run->bn_frozen;
    double m = (double)job->positions;
    for (int o = 0; o < job->outputs; o++) {
        const oct_norm_saved *n = &job->kept.norm[o];
        double sum = total_of(job, job->grad_sum, o);
        /* the sums were taken around the rounded mean: move them to the exact one */
        double dot = total_of(job, job->grad_dot, o) + ((double)job->mean_f32[o] - n->mean) * sum;
        double gamma_gradient = n->signed_r * dot;
        if (d_gamma) d_gamma[o] += (float)gamma_gradient;
        if (d_beta) d_beta[o] += (float)sum;
        if (d_bias && !live) d_bias[o] += (float)(job->kept.fold.s[o] * sum);
        double slope = live ? -n->g_scale * n->signed_r * gamma_gradient / m : 0;
        job->p[o] = (float)n->g_scale;
        job->q[o] = (float)slope;
        job->r[o] = live ? (float)(-n->g_scale * sum / m - slope * n->mean) : 0;
    }
}

/* g of one image. */
static void make_dy(void *arg, float *dy, size_t image, int thread)
{
    const oct_layer_job *job = arg;
    const int32_t *acc = job->acc ? job->acc + image * job->out_sample : NULL;
    bool live = job->norm && !job->step->run->bn_frozen;
    if (live && !acc) { /* made again, and turned into g in place */
        oct_layer_convolve(job, (int32_t *)(void *)dy, (int64_t)image, thread);
        acc = (const int32_t *)(const void *)dy;
    }
    for (int row = 0; row < job->rows; row += job->block_rows) {
        size_t at = (size_t)row * job->row_elements, rows = (size_t)block_rows(job, row);
        const float *d = gradient_at(job, image, row);
        const uint8_t *bits = bits_of(job, image, row);
        if (live)
            job->kernels.acc_gradient(dy + at, d, bits, acc + at, job->b, job->p, job->q, job->r,
                                      rows * (size_t)job->geometry.out_w, job->outputs);
        else
            job->kernels.mask_apply(dy + at, d, bits, rows * job->row_elements);
    }
}

static void make_x(void *arg, float *out, size_t image)
{
    const oct_layer_job *job = arg;
    const oct_tensor *x = job->step->in[0];
    job->kernels.dequantize(out, (const uint8_t *)x->data + image * job->in_sample, job->in_sample,
                            x->scale, x->zero_point, x->is_signed);
}

static void bias_gradient(const oct_layer_job *job)
{
    int i = job->bias ? oct_unit_input_of(job->step->unit, job->bias->id) : -1;
    if (i < 0 || !job->step->d_in[i]) return;
    float *d = job->step->d_in[i]->data;
    for (int o = 0; o < job->outputs; o++) d[o] += (float)total_of(job, job->grad_sum, o);
}

/* Weights are cut into items of whole outputs, or of whole rows of all outputs where those come last. */
static size_t outer_weights(const oct_layer_job *job)
{
    return job->outputs_last ? job->per_output : (size_t)job->outputs;
}

static size_t inner_weights(const oct_layer_job *job)
{
    return job->outputs_last ? (size_t)job->outputs : job->per_output;
}

static int64_t weight_items(const oct_layer_job *job)
{
    int64_t items = oct_flat_items(job->weight->count), outer = (int64_t)outer_weights(job);
    return items < outer ? items : outer;
}

typedef struct weight_span {
    size_t first, last; /* of outer_weights */
} weight_span;

static weight_span weight_item(const oct_layer_job *job, int64_t item)
{
    size_t outer = outer_weights(job);
    int items = (int)weight_items(job);
    return (weight_span){oct_chunk_border(outer, items, item), oct_chunk_border(outer, items, item + 1)};
}

/* w_f32 = code*scale */
static void decode_weights(void *arg, int64_t item, int thread)
{
    const oct_layer_job *job = arg;
    (void)thread;
    weight_span span = weight_item(job, item);
    size_t inner = inner_weights(job);
    for (size_t k = span.first; k < span.last; k++) {
        const int8_t *codes = job->kept.fold.codes + k * inner;
        float *w = job->w_f32 + k * inner;
        if (job->outputs_last) {
            for (size_t i = 0; i < inner; i++) w[i] = (float)codes[i] * job->unit[i];
        } else {
            float unit = job->unit[k];
            for (size_t i = 0; i < inner; i++) w[i] = (float)codes[i] * unit;
        }
    }
}

/* d += s*dw where the straight-through mask lets it pass */
static void add_weight_gradient(void *arg, int64_t item, int thread)
{
    const oct_layer_job *job = arg;
    (void)thread;
    weight_span span = weight_item(job, item);
    size_t inner = inner_weights(job);
    for (size_t k = span.first; k < span.last; k++) {
        const uint8_t *passes = job->kept.fold.passes + k * inner;
        const float *dw = job->dw + k * inner;
        float *d = job->d_weight + k * inner;
        if (job->outputs_last) {
            for (size_t i = 0; i < inner; i++) d[i] = passes[i] ? d[i] + job->s_f32[i] * dw[i] : d[i];
        } else {
            float s = job->s_f32[k];
            for (size_t i = 0; i < inner; i++) d[i] = passes[i] ? d[i] + s * dw[i] : d[i];
        }
    }
}

/* dX and corr(X, g) by the float convolution's backward, on decoded codes and quantized weights. */
static oct_status convolution_gradients(oct_layer_job *job)
{
    oct_step *step = job->step;
    int wi = oct_unit_input_of(step->unit, job->weight->id);
    size_t count = job->weight->count;
    for (int o = 0; o < job->outputs; o++) {
        job->unit[o] = job->kept.fold.scale[o];
        job->s_f32[o] = (float)job->kept.fold.s[o];
    }
    job->d_weight = step->d_in[wi] ? step->d_in[wi]->data : NULL;
    oct_parallel_for(step->ctx->threads, weight_items(job), decode_weights, job);
    bool live = job->norm && !job->step->run->bn_frozen;
    oct_conv_source source = {live || job->kept.bits ? make_dy : NULL, make_x, job, step->in[0]->data,
                              ldexpf(1, -step->in[0]->exponent), step->in[0]->is_signed};
    oct_tensor x = {.sample = job->in_sample}, w = {.data = job->w_f32, .sample = count};
    oct_tensor dw = {.data = job->dw, .sample = count};
    oct_step inner = *step;
    inner.input_count = 2;
    inner.in[0] = &x;
    inner.in[1] = &w;
    inner.d_in[1] = step->d_in[wi] ? &dw : NULL;
    inner.accumulate[1] = 0;
    inner.scratch = job->conv_scratch;
    OCT_TRY(oct_conv_backward(&inner, &job->geometry, &source));
    if (job->d_weight) oct_parallel_for(step->ctx->threads, weight_items(job), add_weight_gradient, job);
    return OCT_OK;
}

oct_status oct_layer_backward(oct_step *step)
{
    oct_layer_job job;
    oct_layer_job_start(&job, step, true);
    job.conv.packed = job.kept.packed;
    job.conv.start = job.kept.start;
    job.conv.packed_group_bytes = oct_int8_packed_bytes(&job.conv, &job.kernels) /
                                  (size_t)(job.conv.layer.op == OCT_INT8_CONV ? job.conv.layer.groups : 1);
    if (job.norm) drop_bias(&job);
    oct_parallel_for(step->ctx->threads, step->batch, sums_of_image, &job);
    if (job.norm)
        norm_gradients(&job);
    else
        bias_gradient(&job);
    return convolution_gradients(&job);
}
