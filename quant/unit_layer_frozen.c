/* SPDX-License-Identifier: BSD-2-Clause
 * Forward of the fused layer step without live batch norm: the engine's requantization of accumulators that hold the folded
 * bias, and the output layer, whose accumulators are the scores. */
#include <math.h>

#include "autograd/base/par.h"
#include "quant/int8/requant.h"
#include "quant/unit_layer.h"

/* Accumulators whose value v = acc*2^-e satisfies  above < v (strictly) or at_least <= v, and the like. */
static int32_t floor_limit(double value)
{
    return value <= INT32_MIN ? INT32_MIN : value >= INT32_MAX ? INT32_MAX : (int32_t)value;
}

/* Straight-through mask as an interval of accumulators per channel, shifts to the output's exponent. */
static void requantization_limits(oct_layer_job *job, const oct_point *p, const oct_clip_codes *clip)
{
    for (int o = 0; o < job->outputs; o++) {
        int e = job->step->in[0]->exponent + job->kept.fold.exponent[o];
        double low = ceil(ldexp((double)clip->clip_lo, e)), high = floor(ldexp((double)clip->clip_hi, e));
        if (p->act_lo > -INFINITY) low = fmax(low, floor(ldexp((double)p->act_lo, e)) + 1);
        if (p->act_hi < INFINITY) high = fmin(high, ceil(ldexp((double)p->act_hi, e)) - 1);
        job->low[o] = floor_limit(low);
        job->high[o] = floor_limit(high);
        int shift = e - clip->exponent;
        job->shift[o] = (int8_t)oct_clamp_i32(shift, -31, 62);
    }
}

typedef struct requant_job {
    oct_layer_job *job;
    const oct_clip_codes *clip;
    bool convolve; /* the accumulators are not there yet: make them image by image */
} requant_job;

static void requantize_image(void *arg, int64_t image, int thread)
{
    const requant_job *r = arg;
    const oct_layer_job *job = r->job;
    int32_t *acc = r->convolve ? job->thread_acc + (size_t)thread * job->out_sample
                               : job->acc + (size_t)image * job->out_sample;
    if (r->convolve) oct_layer_convolve(job, acc, image, thread);
    uint8_t *codes = (uint8_t *)job->step->out->data + (size_t)image * job->out_sample;
    size_t mask_bytes = oct_mask_row_bytes(job->row_elements), pixels = (size_t)job->geometry.out_w;
    for (int row = 0; row < job->rows; row++) {
        size_t at = (size_t)row * job->row_elements;
        if (r->clip->affine)
            oct_layer_affine_codes(job, codes + at, acc + at, pixels);
        else
            job->kernels.requantize(codes + at, acc + at, job->shift, pixels, job->outputs, r->clip->lo, r->clip->hi);
        if (job->kept.bits && job->step->run->mode == OCT_TRAIN)
            job->kernels.mask_range(job->kept.bits + ((size_t)image * (size_t)job->rows + (size_t)row) * mask_bytes,
                                    acc + at, job->low, job->high, pixels, job->outputs);
    }
}

oct_status oct_layer_forward_frozen(oct_layer_job *job, const oct_point *point)
{
    oct_step *step = job->step;
    bool observe = step->run->mode == OCT_TRAIN && !step->run->range_frozen;
    if (!observe) {
        OCT_TRY(oct_point_observe(step, &job->kernels, point, NULL, NULL, &job->point));
    } else {
        oct_layer_job plain = *job; /* no batch statistics */
        plain.norm = NULL;
        oct_parallel_for(step->ctx->threads, step->batch, oct_layer_convolve_item, &plain);
        for (int o = 0; o < job->outputs; o++) {
            job->a[o] = (float)oct_layer_unit(job, o);
            job->b[o] = 0;
        }
        oct_point_source source = oct_layer_acc_source(job);
        OCT_TRY(oct_point_observe(step, &job->kernels, point, &source, NULL, &job->point));
    }
    oct_clip_codes clip = oct_point_grid(step, point);
    if (clip.affine)
        oct_layer_affine_prepare(job, point, &clip);
    else
        requantization_limits(job, point, &clip);
    requant_job r = {job, &clip, !observe};
    oct_parallel_for(step->ctx->threads, step->batch, requantize_image, &r);
    return OCT_OK;
}

/* Output layer: 32-bit sums as floats. */
static void scores_of_image(void *arg, int64_t image, int thread)
{
    const oct_layer_job *job = arg;
    int32_t *acc = job->thread_acc + (size_t)thread * job->out_sample;
    float *out = (float *)job->step->out->data + (size_t)image * job->out_sample;
    oct_layer_convolve(job, acc, image, thread);
    for (size_t i = 0; i < job->out_sample; i++)
        out[i] = (float)((double)acc[i] * oct_layer_unit(job, (int)(i % (size_t)job->outputs)));
}

oct_status oct_layer_forward_scores(oct_layer_job *job)
{
    oct_parallel_for(job->step->ctx->threads, job->step->batch, scores_of_image, job);
    return OCT_OK;
}
