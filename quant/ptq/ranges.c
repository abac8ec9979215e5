/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/ptq/ranges.h"

#include <math.h>

#include "autograd/base/memory.h"
#include "autograd/base/par.h"

enum { LEVELS = 256, KL_LEVELS = 128 };

typedef struct watched {
    oct_histogram histogram;
    oct_bounds average; /* mean of the batches' extrema */
    int64_t batches;
    const float *x;
    size_t count;
} watched;

static void observe_point(void *arg, int64_t item, int thread)
{
    watched *w = (watched *)arg + item;
    oct_bounds batch;
    (void)thread;
    oct_histogram_add(&w->histogram, w->x, w->count);
    if (oct_extrema_of(&batch, w->x, w->count)) return;
    double share = 1 / (double)++w->batches;
    w->average.lo += share * (batch.lo - w->average.lo);
    w->average.hi += share * (batch.hi - w->average.hi);
}

static oct_bounds po2_bounds(const oct_histogram *h, oct_sign sign, oct_po2_error error)
{
    bool is_signed = sign == OCT_SIGN_AUTO ? h->seen.lo < 0 : sign == OCT_SIGN_SIGNED;
    double clip = ldexp(1, oct_histogram_po2(h, is_signed, error));
    return (oct_bounds){is_signed ? -clip : 0, clip};
}

oct_bounds oct_ptq_choose(const oct_ptq_observation *how, const oct_histogram *h, oct_bounds average, oct_sign sign)
{
    switch (how->method) {
    case OCT_PTQ_HISTOGRAM: return po2_bounds(h, sign, OCT_PO2_L2);
    case OCT_PTQ_KL: return po2_bounds(h, sign, OCT_PO2_KL);
    case OCT_PTQ_MSE: return po2_bounds(h, sign, OCT_PO2_MSE);
    case OCT_PTQ_PERCENTILE: return oct_histogram_percentile(h, how->percentile);
    case OCT_PTQ_SIMPLE: return average;
    case OCT_PTQ_MINMAX: break;
    }
    return h->seen;
}

static oct_status run_batch(oct_tap *tap, const oct_ptq_net *net, watched *w, const oct_ptq_images *images, int64_t b)
{
    OCT_TRY(oct_tap_run(tap, images, b));
    for (int i = 0; i < net->point_count; i++) {
        w[i].x = oct_tap_floats(tap, i, &w[i].count);
        if (!w[i].x) return oct_out_of_memory(net->graph->ctx, "activations");
    }
    oct_parallel_for(net->graph->ctx->threads, net->point_count, observe_point, w);
    return OCT_OK;
}

static oct_status set_ranges(oct_ptq_net *net, const watched *w, const oct_ptq_observation *how, int64_t batches)
{
    for (int i = 0; i < net->point_count; i++) {
        const oct_ptq_point *p = &net->points[i];
        if (p->fixed) continue;
        if (w[i].histogram.excluded)
            return oct_fail(&net->graph->ctx->error, OCT_ERR_NUMERIC, "calibration: %llu values of '%s' are not finite",
                            (unsigned long long)w[i].histogram.excluded, oct_graph_node(net->graph, p->x)->name);
        oct_bounds b = oct_ptq_choose(how, &w[i].histogram, w[i].average, p->sign);
        oct_ptq_set_range(net->graph, p, (float)b.lo, (float)b.hi, batches);
    }
    return OCT_OK;
}

static oct_status observe_all(oct_ptq_net *net, oct_tap *tap, watched *w, const oct_ptq_images *images,
                              const oct_ptq_observation *how, const oct_ptq_progress *progress)
{
    int64_t batches = oct_ptq_batches(images);
    for (int i = 0; i < net->point_count; i++) oct_histogram_init(&w[i].histogram);
    for (int64_t b = 0; b < batches; b++) {
        OCT_TRY(run_batch(tap, net, w, images, b));
        OCT_TRY(oct_ptq_step(progress, b + 1, batches));
    }
    return set_ranges(net, w, how, batches);
}

oct_status oct_ptq_observe(oct_ptq_net *net, const oct_ptq_images *images, const oct_ptq_observation *how,
                           const oct_ptq_progress *progress)
{
    oct_ctx *ctx = net->graph->ctx;
    oct_graph *twin = NULL;
    oct_tap *tap = NULL;
    watched *w = oct_calloc((size_t)net->point_count, sizeof *w);
    oct_value *values = oct_calloc((size_t)net->point_count, sizeof *values);
    oct_status status = w && values ? OCT_OK : oct_out_of_memory(ctx, "calibration");
    if (images->count < 1) status = oct_fail(&ctx->error, OCT_ERR_ARGUMENT, "calibration: no images");
    for (int i = 0; status == OCT_OK && i < net->point_count; i++) values[i] = net->points[i].x;
    if (status == OCT_OK) status = oct_ptq_float_twin(&twin, net);
    if (status == OCT_OK) status = oct_tap_create(&tap, twin, net->image, values, net->point_count);
    if (status == OCT_OK) status = observe_all(net, tap, w, images, how, progress);
    oct_tap_destroy(tap);
    oct_graph_destroy(twin);
    oct_free(values);
    oct_free(w);
    return status;
}
