/* SPDX-License-Identifier: BSD-2-Clause */
#include "optim/sgd.h"

#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/par.h"

/* Elements per parallel item: part of the norm's definition, since partial sums are added chunk by chunk. */
enum { CHUNK = 1 << 14 };

static size_t chunk_count(size_t n)
{
    return (n + CHUNK - 1) / CHUNK;
}

static size_t chunk_size(size_t n, int64_t item)
{
    size_t left = n - (size_t)item * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

static oct_status check_options(const oct_sgd_options *o, oct_error *error)
{
    if (!(o->momentum >= 0 && o->momentum < 1))
        return oct_fail(error, OCT_ERR_ARGUMENT, "sgd: expected momentum in [0, 1), got %g", (double)o->momentum);
    if (!(o->weight_decay >= 0 && o->weight_decay < INFINITY))
        return oct_fail(error, OCT_ERR_ARGUMENT, "sgd: expected weight decay of at least 0, got %g",
                        (double)o->weight_decay);
    if (o->nesterov && o->momentum == 0)
        return oct_fail(error, OCT_ERR_ARGUMENT, "sgd: Nesterov needs a momentum above 0");
    return OCT_OK;
}

static void mark_decay(uint8_t *decay, const oct_graph *g)
{
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind == OCT_NODE_PARAMETER && n->shape.rank > 1) memset(decay + n->offset, 1, n->count);
    }
}

oct_status oct_sgd_create(oct_sgd **out, const oct_graph *g, const oct_sgd_options *options)
{
    *out = NULL;
    OCT_TRY(oct_graph_status(g));
    OCT_TRY(check_options(options, &g->ctx->error));
    oct_sgd *sgd = oct_calloc(1, sizeof *sgd);
    if (!sgd) return oct_out_of_memory(g->ctx, "optimizer");
    sgd->ctx = g->ctx;
    sgd->options = *options;
    sgd->count = g->params.count;
    oct_f32_kernels_init(&sgd->kernels, g->ctx->cpu_mask);
    sgd->velocity = oct_calloc(sgd->count, sizeof *sgd->velocity);
    sgd->partial = oct_calloc(chunk_count(sgd->count), sizeof *sgd->partial);
    if (options->decay_weights_only) sgd->decay = oct_calloc(sgd->count, 1);
    if (!sgd->velocity || !sgd->partial || (options->decay_weights_only && !sgd->decay)) {
        oct_sgd_destroy(sgd);
        return oct_out_of_memory(g->ctx, "optimizer");
    }
    if (sgd->decay) mark_decay(sgd->decay, g);
    *out = sgd;
    return OCT_OK;
}

void oct_sgd_destroy(oct_sgd *sgd)
{
    if (!sgd) return;
    oct_free(sgd->velocity);
    oct_free(sgd->decay);
    oct_free(sgd->partial);
    oct_free(sgd);
}

typedef struct norm_job {
    const oct_sgd *sgd;
    const float *gradients;
} norm_job;

static void norm_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const norm_job *job = arg;
    const oct_sgd *sgd = job->sgd;
    sgd->partial[item] =
        sgd->kernels.sum_squares(job->gradients + (size_t)item * CHUNK, chunk_size(sgd->count, item));
}

double oct_sgd_gradient_norm(const oct_sgd *sgd, const float *gradients)
{
    norm_job job = {sgd, gradients};
    size_t chunks = chunk_count(sgd->count);
    oct_parallel_for(sgd->ctx->threads, (int64_t)chunks, norm_item, &job);
    double sum = 0;
    for (size_t i = 0; i < chunks; i++) sum += sgd->partial[i];
    return sqrt(sum);
}

float oct_sgd_clip_scale(double norm, float scale, float max_norm)
{
    if (!(max_norm > 0) || !isfinite(norm)) return scale;
    double factor = (double)max_norm / ((double)scale * norm + 1e-6);
    return factor < 1 ? (float)((double)scale * factor) : scale;
}

typedef struct step_job {
    oct_sgd *sgd;
    float *params;
    const float *gradients;
    float scale, lr;
} step_job;

static void step_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const step_job *job = arg;
    oct_sgd *sgd = job->sgd;
    size_t at = (size_t)item * CHUNK;
    sgd->kernels.sgd(job->params + at, sgd->velocity + at, job->gradients + at, sgd->decay ? sgd->decay + at : NULL,
                     chunk_size(sgd->count, item), job->scale, job->lr, sgd->options.momentum,
                     sgd->options.weight_decay, sgd->options.nesterov);
}

oct_status oct_sgd_step(oct_sgd *sgd, oct_graph *g, const float *gradients, float scale, float lr)
{
    if (g->params.count != sgd->count)
        return oct_fail(&sgd->ctx->error, OCT_ERR_STATE,
                        "sgd: the optimizer was made for %zu parameter elements, the graph has %zu", sgd->count,
                        g->params.count);
    step_job job = {sgd, g->params.data, gradients, scale, lr};
    oct_parallel_for(sgd->ctx->threads, (int64_t)chunk_count(sgd->count), step_item, &job);
    return OCT_OK;
}
