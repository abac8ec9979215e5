/* SPDX-License-Identifier: BSD-2-Clause
 * Backward of the fused layer step (docs/quantization.md 11.9 live, 4.3 frozen):
 *
 *   dZ = mask(d_out)                                          in place
 *   dbeta = sum dZ, dgamma = sum dZ*x_hat                     accumulators made again on the int8 kernels, which is cheaper
 *   g  = g_scale*(dZ - mean dZ - x_hat*mean(dZ*x_hat))        than keeping them (live; frozen or none: g = dZ)
 *   dX = conv^T(g, w_q),  dW = passes ⊙ s*corr(X, g)          float convolution backward on decoded codes
 */
#include <math.h>
#include <string.h>

#include "autograd/base/par.h"
#include "quant/unit_layer.h"

/* Masks one image's gradient and, with batch norm, makes its accumulators and the two sums again. */
static void sums_of_image(void *arg, int64_t image, int thread)
{
    const oct_layer_job *job = arg;
    size_t outputs = (size_t)job->outputs, mask_bytes = oct_mask_row_bytes(job->row_elements);
    float *d = (float *)job->step->d_out->data + (size_t)image * job->out_sample;
    for (int row = 0; job->kept.bits && row < job->rows; row++) {
        float *d_row = d + (size_t)row * job->row_elements;
        const uint8_t *bits = job->kept.bits + ((size_t)image * (size_t)job->rows + (size_t)row) * mask_bytes;
        job->kernels.mask_apply(d_row, d_row, bits, job->row_elements);
    }
    double *sum = job->grad_sum + (size_t)image * outputs, *dot = job->grad_dot + (size_t)image * outputs;
    memset(sum, 0, outputs * sizeof *sum);
    memset(dot, 0, outputs * sizeof *dot);
    size_t positions = job->out_sample / outputs;
    if (!job->norm) {
        job->step->f32->channel_sum(sum, d, positions, job->outputs);
        return;
    }
    int32_t *acc = job->thread_acc + (size_t)thread * job->out_sample;
    float *acc_f32 = job->acc_f32 + (size_t)image * job->out_sample;
    oct_layer_convolve(job, acc, image, thread);
    job->kernels.acc_affine(acc_f32, acc, job->a, job->b, positions, job->outputs);
    job->step->f32->bn_backward_sums(sum, dot, d, d, NULL, 0, 0, acc_f32, job->mean_f32, positions, job->outputs);
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

/* g of one image from dZ. */
static void make_dy(void *arg, float *dy, size_t image)
{
    const oct_layer_job *job = arg;
    const float *d = (const float *)job->step->d_out->data + image * job->out_sample;
    const float *acc = job->acc_f32 + image * job->out_sample;
    job->step->f32->bn_backward_apply(dy, d, acc, job->p, job->q, job->r, job->out_sample / (size_t)job->outputs,
                                      job->outputs, 0);
}

static void make_x(void *arg, float *out, size_t image)
{
    const oct_layer_job *job = arg;
    const oct_tensor *x = job->step->in[0];
    job->kernels.dequantize(out, (const uint8_t *)x->data + image * job->in_sample, job->in_sample,
                            ldexpf(1, -x->exponent), x->is_signed);
}

static void bias_gradient(const oct_layer_job *job)
{
    int i = job->bias ? oct_unit_input_of(job->step->unit, job->bias->id) : -1;
    if (i < 0 || !job->step->d_in[i]) return;
    float *d = job->step->d_in[i]->data;
    for (int o = 0; o < job->outputs; o++) d[o] += (float)total_of(job, job->grad_sum, o);
}

static size_t output_of_weight(const oct_layer_job *job, size_t i)
{
    return job->outputs_last ? i % (size_t)job->outputs : i / job->per_output;
}

/* dX and corr(X, g) by the float convolution's backward, on decoded codes and quantized weights. */
static oct_status convolution_gradients(oct_layer_job *job)
{
    oct_step *step = job->step;
    int wi = oct_unit_input_of(step->unit, job->weight->id);
    size_t count = job->weight->count;
    for (size_t i = 0; i < count; i++)
        job->w_f32[i] = ldexpf((float)job->kept.fold.codes[i], -job->kept.fold.exponent[output_of_weight(job, i)]);
    bool live = job->norm && !job->step->run->bn_frozen;
    oct_conv_source source = {live ? make_dy : NULL, make_x, job};
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
    float *d = step->d_in[wi] ? step->d_in[wi]->data : NULL;
    for (size_t i = 0; d && i < count; i++)
        if (job->kept.fold.passes[i]) d[i] += (float)job->kept.fold.s[output_of_weight(job, i)] * job->dw[i];
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
