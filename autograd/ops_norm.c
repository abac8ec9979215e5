/* SPDX-License-Identifier: BSD-2-Clause
 * batch_norm (Ioffe & Szegedy, 2015), alone and with an addition and an activation behind it (fuse_float.c).
 *
 * Statistics are sums in double over at most 32 chunks of rows (a row is one position: all its channels), the
 * chunks added in order.
 */
#include "autograd/ops_internal.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/par.h"

enum {
    BN_CHUNKS = 32,
    BN_BLOCK = 8192 /* elements that are worked on while they are in the first-level cache */
};
enum { BN_X, BN_GAMMA, BN_BETA, BN_MEAN, BN_VAR };

static oct_status batch_norm_infer(const oct_graph *graph, oct_node *node)
{
    const oct_batch_norm_attrs *a = (const oct_batch_norm_attrs *)node->attrs;
    if (!(a->eps > 0.0f && isfinite(a->eps)) || !(a->momentum >= 0.0f && a->momentum <= 1.0f)) {
        return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT,
                             "eps is %g and momentum %g, expected eps > 0 and momentum in [0, 1]",
                             (double)a->eps, (double)a->momentum);
    }
    const oct_shape *x = &oct_node_input(graph, node, BN_X)->shape;
    if (x->rank < 2) OCT_TRY(oct_rule_rank(graph, node, BN_X, "x", 2, "[N,...,C]"));
    OCT_TRY(oct_rule_rank(graph, node, BN_X, "x", x->rank, "[N,...,C]"));
    static const char *const roles[] = {"x", "gamma", "beta", "running mean", "running variance"};
    for (int i = BN_GAMMA; i <= BN_VAR; i++) {
        OCT_TRY(oct_rule_shape(graph, node, i, roles[i], OCT_SHAPE(x->dim[x->rank - 1])));
    }
    for (int i = BN_MEAN; i <= BN_VAR; i++) {
        const oct_node *buffer = oct_node_input(graph, node, i);
        if (buffer->kind != OCT_NODE_BUFFER) {
            return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT,
                                 "input %d (%s '%s') is not a buffer, expected one", i, roles[i],
                                 buffer->name);
        }
    }
    return oct_rule_same(graph, node);
}

/* --- execution --- */

/* What the passes over rows see. */
/* What forward keeps for backward, and for the readers of what it leaves unmade. */
typedef struct bn_saved {
    oct_lazy_gradient *gradient;
    double *mean, *inverse;   /* 1/sqrt(var + eps) */
    float *a, *b, *p, *q, *r; /* y = x*a + b; dx = dz*p + x*q + r */
    float *rounded_mean;
} bn_saved;

static size_t bn_saved_place(bn_saved *saved, int channels, void *base)
{
    oct_carve carve = {.base = (char *)base};
    size_t n = (size_t)channels;
    saved->gradient = (oct_lazy_gradient *)oct_carve_take(&carve, 1, sizeof *saved->gradient);
    saved->mean = (double *)oct_carve_take(&carve, n, sizeof(double));
    saved->inverse = (double *)oct_carve_take(&carve, n, sizeof(double));
    float **arrays[] = {&saved->a, &saved->b, &saved->p, &saved->q, &saved->r, &saved->rounded_mean};
    for (int i = 0; i < 6; i++) *arrays[i] = (float *)oct_carve_take(&carve, n, sizeof(float));
    return carve.used;
}

size_t oct_bn_saved(int channels)
{
    bn_saved saved;
    return bn_saved_place(&saved, channels, NULL);
}

typedef struct bn_job {
    const oct_f32_kernels *f32;
    size_t rows;
    int channels, chunks;
    const float *x, *residual, *y_mask;
    float *y, *dy, *dz, *dx, *d_residual;
    oct_partial_sums sums; /* own ones, or those that a convolution took along; backward: square is the dot */
    float *a, *b;      /* per channel, when nothing is saved */
    float lo, hi;
    int accumulate, accumulate_residual;
    bool mask_from_x;  /* the output was left unmade: the mask comes from x and the saved coefficients */
    bn_saved saved;
} bn_job;

static size_t bn_memory(bn_job *job, int channels, bool backward, void *scratch)
{
    oct_carve carve = {.base = (char *)scratch};
    size_t n = (size_t)channels;
    job->sums.sum = (double *)oct_carve_take(&carve, n * sizeof(double), BN_CHUNKS);
    job->sums.square = (double *)oct_carve_take(&carve, n * sizeof(double), BN_CHUNKS);
    job->a = (float *)oct_carve_take(&carve, backward ? 0 : n, sizeof(float));
    job->b = (float *)oct_carve_take(&carve, backward ? 0 : n, sizeof(float));
    return carve.used;
}

size_t oct_bn_scratch(int channels, bool backward)
{
    bn_job job;
    return bn_memory(&job, channels, backward, NULL);
}

static bn_job bn_job_make(oct_step *step, const oct_bn_task *task, bool backward)
{
    bn_job job = {.f32 = step->f32,
                  .channels = oct_last_dim(task->bn),
                  .lo = task->lo,
                  .hi = task->hi,
                  .x = (const float *)step->in[BN_X]->data};
    bn_memory(&job, job.channels, backward, step->scratch);
    job.rows = oct_node_elements(task->bn, step->batch) / (size_t)job.channels;
    job.chunks = job.rows < BN_CHUNKS ? (int)job.rows : BN_CHUNKS;
    job.sums.chunks = job.chunks;
    if (step->saved) bn_saved_place(&job.saved, job.channels, step->saved);
    return job;
}

static bool uses_batch_statistics(const oct_run *run)
{
    return run->mode == OCT_TRAIN && !run->bn_frozen;
}

static void sums_chunk(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    bn_job *job = (bn_job *)arg;
    oct_sums_clear(&job->sums, chunk, job->channels);
    size_t n = (size_t)job->channels, first = oct_chunk_border(job->rows, job->chunks, chunk);
    size_t rows = oct_chunk_border(job->rows, job->chunks, chunk + 1) - first;
    job->f32->channel_sums(job->sums.sum + (size_t)chunk * n, job->sums.square + (size_t)chunk * n, job->x + first * n,
                           rows, job->channels);
}

static void apply_chunk(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    const bn_job *job = (const bn_job *)arg;
    size_t first = oct_chunk_border(job->rows, job->chunks, chunk);
    size_t rows = oct_chunk_border(job->rows, job->chunks, chunk + 1) - first,
           at = first * (size_t)job->channels;
    job->f32->affine_clamp(job->y + at, job->x + at, job->a, job->b,
                           job->residual ? job->residual + at : NULL, rows, job->channels, job->lo, job->hi);
}

/* Sum of one channel over the chunks. */
static double combined(const bn_job *job, const double *partial, size_t c)
{
    double sum = 0.0;
    for (int k = 0; k < job->sums.chunks; k++) sum += partial[(size_t)k * (size_t)job->channels + c];
    return sum;
}

/* Mean and biased variance of the batch per channel, and what they do to the running statistics. */
static void batch_statistics(const bn_job *job, const oct_batch_norm_attrs *attrs, oct_step *step, size_t c,
                             double *mean, double *var)
{
    double m = (double)job->rows;
    *mean = combined(job, job->sums.sum, c) / m;
    *var = combined(job, job->sums.square, c) / m - *mean * *mean;
    if (*var < 0.0) *var = 0.0;
    float *running_mean = (float *)step->in[BN_MEAN]->data + c,
          *running_var = (float *)step->in[BN_VAR]->data + c;
    double momentum = (double)attrs->momentum;
    *running_mean = (float)((double)*running_mean + momentum * (*mean - (double)*running_mean));
    *running_var = (float)((double)*running_var + momentum * (*var * m / (m - 1.0) - (double)*running_var));
}

oct_status oct_bn_forward(oct_step *step, const oct_bn_task *task)
{
    const oct_batch_norm_attrs *attrs = (const oct_batch_norm_attrs *)task->bn->attrs;
    bn_job job = bn_job_make(step, task, false);
    bool live = uses_batch_statistics(step->run);
    if (live && job.rows < 2) {
        return oct_rule_fail(
            step->graph, task->bn, OCT_ERR_SHAPE,
            "1 position per channel (batch %d), expected at least 2 to train with batch statistics; "
            "use a larger batch or freeze batch norm",
            step->batch);
    }
    const oct_partial_sums *ready = &step->in[BN_X]->sums;
    if (live && ready->chunks)
        job.sums = *ready; /* the convolution took them along */
    else if (live)
        oct_parallel_for(step->ctx->threads, job.chunks, sums_chunk, &job);
    const float *gamma = (const float *)step->in[BN_GAMMA]->data,
                *beta = (const float *)step->in[BN_BETA]->data;
    if (step->saved) {
        job.a = job.saved.a;
        job.b = job.saved.b;
    }
    size_t channels = (size_t)job.channels;
    for (size_t c = 0; c < channels; c++) {
        double mean = (double)((const float *)step->in[BN_MEAN]->data)[c];
        double var = (double)((const float *)step->in[BN_VAR]->data)[c];
        if (live) batch_statistics(&job, attrs, step, c, &mean, &var);
        double r = 1.0 / sqrt(var + (double)attrs->eps);
        double a = (double)gamma[c] * r;
        job.a[c] = (float)a;
        job.b[c] = (float)((double)beta[c] - mean * a);
        if (step->saved) {
            job.saved.mean[c] = mean;
            job.saved.inverse[c] = r;
            job.saved.rounded_mean[c] = (float)mean;
        }
    }
    if (step->lazy_out) {
        step->out->affine = (oct_affine){job.a, job.b, job.lo, job.hi, job.saved.rounded_mean};
        return OCT_OK;
    }
    job.y = (float *)step->out->data;
    job.residual = task->residual >= 0 ? (const float *)step->in[task->residual]->data : NULL;
    oct_parallel_for(step->ctx->threads, job.chunks, apply_chunk, &job);
    return OCT_OK;
}

/* dz = masked dy, and its sums; with a gradient of the residual to add to, block by block while dz is in the
 * cache. */
static void backward_sums_chunk(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    bn_job *job = (bn_job *)arg;
    oct_sums_clear(&job->sums, chunk, job->channels);
    size_t n = (size_t)job->channels;
    double *sum = job->sums.sum + (size_t)chunk * n, *dot = job->sums.square + (size_t)chunk * n;
    size_t first = oct_chunk_border(job->rows, job->chunks, chunk);
    size_t last = oct_chunk_border(job->rows, job->chunks, chunk + 1);
    size_t block = job->d_residual ? BN_BLOCK / n + 1 : last - first;
    for (size_t row = first; row < last; row += block) {
        size_t rows = last - row < block ? last - row : block, at = row * n;
        if (job->mask_from_x) {
            job->f32->bn_masked_sums(sum, dot, job->dy + at, job->x + at, job->saved.a, job->saved.b, job->lo, job->hi,
                                     job->saved.rounded_mean, rows, job->channels);
            continue;
        }
        job->f32->bn_backward_sums(sum, dot, job->dz + at, job->dy + at,
                                   job->y_mask ? job->y_mask + at : NULL, job->lo, job->hi, job->x + at,
                                   job->saved.rounded_mean, rows, job->channels);
        if (job->d_residual)
            oct_copy_or_add(job->f32, job->d_residual + at, job->dz + at, rows * n, job->accumulate_residual);
    }
}

static void backward_apply_chunk(void *arg, int64_t chunk, int thread)
{
    (void)thread;
    const bn_job *job = (const bn_job *)arg;
    size_t first = oct_chunk_border(job->rows, job->chunks, chunk);
    size_t rows = oct_chunk_border(job->rows, job->chunks, chunk + 1) - first,
           at = first * (size_t)job->channels;
    const bn_saved *v = &job->saved;
    if (job->mask_from_x)
        job->f32->bn_masked_apply(job->dx + at, job->dy + at, job->x + at, v->a, v->b, job->lo, job->hi, v->p, v->q, v->r,
                                  rows, job->channels, job->accumulate);
    else
        job->f32->bn_backward_apply(job->dx + at, job->dz + at, job->x + at, v->p, v->q, v->r, rows, job->channels,
                                    job->accumulate);
}

static void add_gradient(oct_step *step, int i, size_t c, double value)
{
    if (!step->d_in[i]) return;
    float *d = (float *)step->d_in[i]->data + c;
    *d = step->accumulate[i] ? *d + (float)value : (float)value;
}

/* From sums to the gradients of gamma and beta and to the coefficients of dx = dz*p + x*q + r:
 *   dx = gamma*r*(dz - mean(dz) - xhat*mean(dz*xhat)),  xhat = (x - mean)*r;  statistics that are frozen:
 * gamma*r*dz */
static void backward_coefficients(oct_step *step, bn_job *job, bool live)
{
    const float *gamma = (const float *)step->in[BN_GAMMA]->data;
    double m = (double)job->rows;
    for (size_t c = 0; c < (size_t)job->channels; c++) {
        double mean = job->saved.mean[c], r = job->saved.inverse[c], sum = combined(job, job->sums.sum, c);
        /* The kernel subtracted the mean rounded to float. */
        double dot = (combined(job, job->sums.square, c) + ((double)job->saved.rounded_mean[c] - mean) * sum) * r;
        double a = (double)gamma[c] * r, b = live ? -a * r * dot / m : 0.0;
        job->saved.p[c] = (float)a;
        job->saved.q[c] = (float)b;
        job->saved.r[c] = live ? (float)(-a * sum / m - b * mean) : 0.0f;
        add_gradient(step, BN_GAMMA, c, dot);
        add_gradient(step, BN_BETA, c, sum);
    }
}

/* Where dz goes. It is also the gradient of the residual: it is made there when it can be, and copied or added when it
 * must also stay for the convolution, or the residual's gradient has other parts. */
static void place_dz(oct_step *step, const oct_bn_task *task, bn_job *job)
{
    job->dz = job->dy;
    if (task->residual < 0 || !step->d_in[task->residual]) return;
    float *d = (float *)step->d_in[task->residual]->data;
    if (!step->lazy_d_in && !step->accumulate[task->residual]) {
        job->dz = d;
        return;
    }
    job->d_residual = d;
    job->accumulate_residual = step->accumulate[task->residual];
}

oct_status oct_bn_backward(oct_step *step, const oct_bn_task *task)
{
    bn_job job = bn_job_make(step, task, true);
    job.dy = (float *)step->d_out->data;
    job.mask_from_x = step->lazy_out;
    job.y_mask = task->masked && !step->lazy_out ? (const float *)step->out->data : NULL;
    place_dz(step, task, &job);
    const oct_partial_sums *ready = &step->d_out->sums;
    if (job.mask_from_x && ready->chunks)
        job.sums = *ready; /* the convolution took them along */
    else
        oct_parallel_for(step->ctx->threads, job.chunks, backward_sums_chunk, &job);
    backward_coefficients(step, &job, uses_batch_statistics(step->run));
    if (!step->d_in[BN_X]) return OCT_OK;
    if (step->lazy_d_in) {
        *job.saved.gradient = (oct_lazy_gradient){.y = job.x, .p = job.saved.p, .q = job.saved.q, .r = job.saved.r};
        if (job.mask_from_x) job.saved.gradient->mask = step->out->affine;
        step->d_in[BN_X]->gradient = job.saved.gradient;
        return OCT_OK;
    }
    job.dx = (float *)step->d_in[BN_X]->data;
    job.accumulate = step->accumulate[BN_X];
    oct_parallel_for(step->ctx->threads, job.chunks, backward_apply_chunk, &job);
    return OCT_OK;
}

static oct_bn_task alone(const oct_node *node)
{
    return (oct_bn_task){.bn = node, .residual = -1, .lo = -INFINITY, .hi = INFINITY};
}

static oct_status forward(oct_step *step)
{
    oct_bn_task task = alone(step->node);
    return oct_bn_forward(step, &task);
}

static oct_status backward(oct_step *step)
{
    oct_bn_task task = alone(step->node);
    return oct_bn_backward(step, &task);
}

static size_t saved_bytes(const oct_graph *graph, const oct_unit *unit, int batch, int threads)
{
    (void)batch;
    (void)threads;
    return oct_bn_saved(oct_last_dim(oct_unit_node(graph, unit)));
}

static size_t scratch_bytes(const oct_graph *graph, const oct_unit *unit, int batch, int threads, bool back)
{
    (void)batch;
    (void)threads;
    return oct_bn_scratch(oct_last_dim(oct_unit_node(graph, unit)), back);
}

/* --- reference: channel by channel, two passes for the variance --- */

typedef struct statistics {
    double mean, var, inverse;
} statistics;

static statistics reference_statistics(const oct_ref *ref, size_t rows, size_t channels, size_t c)
{
    const oct_batch_norm_attrs *attrs = (const oct_batch_norm_attrs *)ref->node->attrs;
    statistics s = {.mean = ref->in[BN_MEAN][c], .var = ref->in[BN_VAR][c]};
    if (uses_batch_statistics(ref->run)) {
        s.mean = s.var = 0.0;
        for (size_t n = 0; n < rows; n++) s.mean += ref->in[BN_X][n * channels + c];
        s.mean /= (double)rows;
        for (size_t n = 0; n < rows; n++) {
            double d = ref->in[BN_X][n * channels + c] - s.mean;
            s.var += d * d;
        }
        s.var /= (double)rows;
    }
    s.inverse = 1.0 / sqrt(s.var + (double)attrs->eps);
    return s;
}

static oct_status reference_forward(oct_ref *ref)
{
    const oct_batch_norm_attrs *attrs = (const oct_batch_norm_attrs *)ref->node->attrs;
    size_t channels = (size_t)oct_last_dim(ref->node),
           rows = oct_node_elements(ref->node, ref->batch) / channels;
    bool live = uses_batch_statistics(ref->run);
    if (live && rows < 2) {
        return oct_fail(
            &ref->ctx->error, OCT_ERR_SHAPE,
            "batch_norm '%s': 1 position per channel, expected at least 2 to train with batch statistics",
            ref->node->name);
    }
    statistics *all = (statistics *)oct_alloc(channels, sizeof *all);
    if (!all) return oct_out_of_memory(ref->ctx, "statistics of batch norm in the reference executor");
    for (size_t c = 0; c < channels; c++) all[c] = reference_statistics(ref, rows, channels, c);
    for (size_t e = 0; e < rows * channels; e++) {
        const statistics *s = &all[e % channels];
        size_t c = e % channels;
        ref->out[e] = (ref->in[BN_X][e] - s->mean) * s->inverse * ref->in[BN_GAMMA][c] + ref->in[BN_BETA][c];
    }
    for (size_t c = 0; live && c < channels; c++) {
        double momentum = (double)attrs->momentum,
               unbiased = all[c].var * (double)rows / ((double)rows - 1.0);
        ref->in[BN_MEAN][c] = (1.0 - momentum) * ref->in[BN_MEAN][c] + momentum * all[c].mean;
        ref->in[BN_VAR][c] = (1.0 - momentum) * ref->in[BN_VAR][c] + momentum * unbiased;
    }
    oct_free(all);
    return OCT_OK;
}

static oct_status reference_backward(oct_ref *ref)
{
    size_t channels = (size_t)oct_last_dim(ref->node),
           rows = oct_node_elements(ref->node, ref->batch) / channels;
    bool live = uses_batch_statistics(ref->run);
    for (size_t c = 0; c < channels; c++) {
        statistics s = reference_statistics(ref, rows, channels, c);
        double sum = 0.0, dot = 0.0;
        for (size_t n = 0; n < rows; n++) {
            size_t e = n * channels + c;
            sum += ref->d_out[e];
            dot += ref->d_out[e] * (ref->in[BN_X][e] - s.mean) * s.inverse;
        }
        if (ref->d_in[BN_GAMMA]) ref->d_in[BN_GAMMA][c] += dot;
        if (ref->d_in[BN_BETA]) ref->d_in[BN_BETA][c] += sum;
        for (size_t n = 0; ref->d_in[BN_X] && n < rows; n++) {
            size_t e = n * channels + c;
            double d = ref->d_out[e];
            if (live) d -= (sum + (ref->in[BN_X][e] - s.mean) * s.inverse * dot) / (double)rows;
            ref->d_in[BN_X][e] += ref->in[BN_GAMMA][c] * s.inverse * d;
        }
    }
    return OCT_OK;
}

static const oct_attr batch_norm_attrs[] = {
    {"eps", OCT_ATTR_FLOAT, offsetof(oct_batch_norm_attrs, eps), 1},
    {"momentum", OCT_ATTR_FLOAT, offsetof(oct_batch_norm_attrs, momentum), 1},
};

const oct_op oct_op_batch_norm = {
    .name = "batch_norm",
    .equation = "y = gamma*(x - mean)/sqrt(var + eps) + beta, per channel",
    .attr_bytes = sizeof(oct_batch_norm_attrs),
    .attrs = batch_norm_attrs,
    .attr_count = sizeof batch_norm_attrs / sizeof batch_norm_attrs[0],
    .min_inputs = 5,
    .max_inputs = 5,
    .no_gradient = 1u << BN_MEAN | 1u << BN_VAR,
    .infer = batch_norm_infer,
    .exec = {.name = "batch_norm",
             .forward = forward,
             .backward = backward,
             .backward_reads = OCT_READS_INPUT(BN_X) | OCT_READS_INPUT(BN_GAMMA),
             .inplace = true,
             .inplace_backward = true,
             .lazy_out = true,
             .lazy_d_in = true,
             .wants_sums = true,
             .saved_bytes = saved_bytes,
             .scratch_bytes = scratch_bytes},
    .reference = {.forward = reference_forward, .backward = reference_backward},
};
