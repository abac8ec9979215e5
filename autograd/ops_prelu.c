/* SPDX-License-Identifier: BSD-2-Clause
 * prelu: a leaky ReLU whose slopes, one per channel, are learned (He et al. 2015, "Delving deep into rectifiers").
 */
#include "autograd/base/par.h"
#include "autograd/ops_internal.h"

static oct_status prelu_infer(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_same(graph, node));
    return oct_rule_shape(graph, node, 1, "slope", OCT_SHAPE(oct_last_dim(node)));
}

typedef struct prelu_job {
    const float *x, *slope, *dy;
    float *y, *dx;
    double *partial; /* chunk by chunk: sum of dy*x over x <= 0 per channel; NULL = not wanted */
    size_t pixels, channels;
    int accumulate;
} prelu_job;

static prelu_job make_job(const oct_step *step)
{
    prelu_job job = {.x = (const float *)step->in[0]->data,
                     .slope = (const float *)step->in[1]->data,
                     .channels = (size_t)oct_last_dim(step->node),
                     .accumulate = step->accumulate[0]};
    job.pixels = oct_node_elements(step->node, step->batch) / job.channels;
    return job;
}

static void forward_chunk(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    const prelu_job *job = (const prelu_job *)arg;
    size_t last = oct_chunk_border(job->pixels, OCT_SUM_CHUNKS, chunk + 1), n = job->channels;
    for (size_t p = oct_chunk_border(job->pixels, OCT_SUM_CHUNKS, chunk); p < last; p++) {
        const float *x = job->x + p * n;
        float *y = job->y + p * n;
        for (size_t c = 0; c < n; c++) y[c] = x[c] > 0.0f ? x[c] : job->slope[c] * x[c];
    }
}

static oct_status prelu_forward(oct_step *step)
{
    prelu_job job = make_job(step);
    job.y = (float *)step->out->data;
    oct_parallel_for(step->ctx->threads, OCT_SUM_CHUNKS, forward_chunk, &job);
    return OCT_OK;
}

/* The sums first: dx may lie where dy does. */
static void backward_chunk(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    const prelu_job *job = (const prelu_job *)arg;
    size_t last = oct_chunk_border(job->pixels, OCT_SUM_CHUNKS, chunk + 1), n = job->channels;
    double *sum = job->partial ? job->partial + (size_t)chunk * n : NULL;
    for (size_t c = 0; sum && c < n; c++) sum[c] = 0.0;
    for (size_t p = oct_chunk_border(job->pixels, OCT_SUM_CHUNKS, chunk); p < last; p++) {
        const float *x = job->x + p * n, *dy = job->dy + p * n;
        for (size_t c = 0; sum && c < n; c++) sum[c] += x[c] > 0.0f ? 0.0 : (double)dy[c] * (double)x[c];
        if (!job->dx) continue;
        float *dx = job->dx + p * n;
        for (size_t c = 0; c < n; c++) {
            float d = x[c] > 0.0f ? dy[c] : job->slope[c] * dy[c];
            dx[c] = job->accumulate ? dx[c] + d : d;
        }
    }
}

static oct_status prelu_backward(oct_step *step)
{
    prelu_job job = make_job(step);
    job.dy = (const float *)step->d_out->data;
    job.dx = step->d_in[0] ? (float *)step->d_in[0]->data : NULL;
    job.partial = step->d_in[1] ? (double *)step->scratch : NULL;
    oct_parallel_for(step->ctx->threads, OCT_SUM_CHUNKS, backward_chunk, &job);
    if (job.partial) {
        oct_combine((float *)step->d_in[1]->data, step->accumulate[1], job.partial, OCT_SUM_CHUNKS, job.channels,
                    job.channels);
    }
    return OCT_OK;
}

static size_t prelu_scratch(const oct_graph *graph, const oct_unit *unit, int batch, int threads, bool backward)
{
    (void)batch, (void)threads;
    oct_carve carve = {0};
    if (backward)
        oct_carve_take(&carve, (size_t)oct_last_dim(oct_unit_node(graph, unit)) * sizeof(double), OCT_SUM_CHUNKS);
    return carve.used;
}

static oct_status reference_forward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch), channels = (size_t)oct_last_dim(ref->node);
    for (size_t e = 0; e < n; e++)
        ref->out[e] = ref->in[0][e] > 0.0 ? ref->in[0][e] : ref->in[1][e % channels] * ref->in[0][e];
    return OCT_OK;
}

static oct_status reference_backward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch), channels = (size_t)oct_last_dim(ref->node);
    for (size_t e = 0; e < n; e++) {
        double x = ref->in[0][e], slope = ref->in[1][e % channels], dy = ref->d_out[e];
        if (ref->d_in[0]) ref->d_in[0][e] += x > 0.0 ? dy : slope * dy;
        if (ref->d_in[1] && !(x > 0.0)) ref->d_in[1][e % channels] += x * dy;
    }
    return OCT_OK;
}

const oct_op oct_op_prelu = {
    .name = "prelu",
    .equation = "y = x > 0 ? x : slope[c]*x",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = prelu_infer,
    .exec = {.name = "prelu",
             .forward = prelu_forward,
             .backward = prelu_backward,
             .backward_reads = OCT_READS_INPUT(0) | OCT_READS_INPUT(1),
             .inplace = true,
             .inplace_backward = true,
             .scratch_bytes = prelu_scratch},
    .reference = {.forward = reference_forward, .backward = reference_backward},
};
