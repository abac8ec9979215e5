/* SPDX-License-Identifier: BSD-2-Clause
 * The fused layer step in profile affine: what the engine does with the accumulators of a layer whose batch norm is frozen or
 * missing. */
#include <math.h>
#include <string.h>

#include "quant/unit_layer.h"

/* The step as it is deployed, but for the kernels that write codes themselves: sums are here already. */
static void describe(oct_layer_job *job)
{
    job->code_tensor = job->out_tensor;
    job->code_tensor.kind = OCT_INT8_CODES;
    job->codes = job->conv;
    job->codes.in[0] = &job->in_tensor;
    job->codes.out = &job->code_tensor;
}

size_t oct_layer_affine_bytes(oct_layer_job *job)
{
    const oct_fake_quant_weight_attrs *attrs = job->weight_fq->attrs;
    if (!attrs->affine) return 0;
    describe(job);
    return oct_int8_affine_bytes(&job->codes);
}

/* Smallest accumulator whose p = (float)acc*m rounds to at least `code` (0 counted from the zero point), by bisection: p
 * grows with acc. INT32_MAX when there is none. */
static int32_t first_reaching(float m, int code)
{
    int64_t low = INT32_MIN, high = INT32_MAX;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (oct_round_even_f32((float)middle * m) >= (float)code)
            high = middle;
        else
            low = middle + 1;
    }
    return (int32_t)low;
}

/* Accumulators that pass: codes 0..255 before the clamp, and strictly inside the activation. The float form of the multiplier
 * decides for every rounding. */
static void mask_limits(oct_layer_job *job, const oct_point *p, const oct_clip_codes *grid)
{
    for (int o = 0; o < job->outputs; o++) {
        double unit = oct_layer_unit(job, o);
        float m = (float)(unit / (double)grid->scale);
        double low = first_reaching(m, -grid->zero_point), high = first_reaching(m, 256 - grid->zero_point);
        if (oct_round_even_f32((float)high * m) + (float)grid->zero_point > 255) high -= 1;
        if (p->act_lo > -INFINITY) low = fmax(low, floor((double)p->act_lo / unit) + 1);
        if (p->act_hi < INFINITY) high = fmin(high, ceil((double)p->act_hi / unit) - 1);
        job->low[o] = (int32_t)fmin(fmax(low, INT32_MIN), INT32_MAX);
        job->high[o] = (int32_t)fmin(fmax(high, INT32_MIN), INT32_MAX);
    }
}

void oct_layer_affine_prepare(oct_layer_job *job, const oct_point *point, const oct_clip_codes *grid)
{
    const oct_fake_quant_attrs *attrs = job->fq->attrs;
    describe(job);
    job->code_tensor.scale = grid->scale;
    job->code_tensor.zero_point = grid->zero_point;
    job->codes.layer.out_lo = grid->lo;
    job->codes.layer.out_hi = grid->hi;
    oct_int8_affine_prepare(&job->codes, (oct_int8_rounding)attrs->rounding, job->kept.fold.scale, job->outputs,
                            job->affine);
    if (job->kept.bits) mask_limits(job, point, grid);
}

void oct_layer_affine_codes(const oct_layer_job *job, uint8_t *codes, const int32_t *acc, size_t pixels)
{
    oct_int8_affine_requantize(&job->codes, &job->kernels, codes, acc, pixels);
}
