/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/ptq/tap.h"

#include <math.h>

#include "autograd/base/memory.h"

typedef struct decoded {
    float *x;
    size_t capacity;
} decoded;

struct oct_tap {
    oct_graph *graph;
    oct_plan *plan;
    oct_value image;
    oct_value *values;
    decoded *decoded; /* per value, for codes */
    int count, batch;
    oct_tap_visit *visit;
    void *user;
};

int64_t oct_ptq_batches(const oct_ptq_images *images)
{
    return (images->count + OCT_PTQ_BATCH - 1) / OCT_PTQ_BATCH;
}

oct_status oct_tap_create(oct_tap **out, oct_graph *g, oct_value image, const oct_value *values, int count)
{
    *out = NULL;
    oct_tap *tap = oct_calloc(1, sizeof *tap);
    if (!tap) return oct_out_of_memory(g->ctx, "activations");
    *tap = (oct_tap){.graph = g, .image = image, .count = count};
    tap->values = oct_calloc((size_t)count, sizeof *tap->values);
    tap->decoded = oct_calloc((size_t)count, sizeof *tap->decoded);
    oct_status status = tap->values && tap->decoded ? OCT_OK : oct_out_of_memory(g->ctx, "activations");
    for (int i = 0; i < count && status == OCT_OK; i++) tap->values[i] = values[i];
    oct_plan_options options = {.batch = OCT_PTQ_BATCH, .mode = OCT_EVAL, .outputs = values, .output_count = count};
    if (status == OCT_OK) status = oct_plan_create(&tap->plan, g, &options);
    if (status != OCT_OK) {
        oct_tap_destroy(tap);
        return status;
    }
    *out = tap;
    return OCT_OK;
}

void oct_tap_destroy(oct_tap *tap)
{
    if (!tap) return;
    oct_plan_destroy(tap->plan);
    for (int i = 0; tap->decoded && i < tap->count; i++) oct_free(tap->decoded[i].x);
    oct_free(tap->decoded);
    oct_free(tap->values);
    oct_free(tap);
}

static oct_status observe(void *user, const oct_node *node, const oct_tensor *t, int batch)
{
    oct_tap *tap = user;
    if (!tap->visit || t->storage != OCT_STORE_F32 || !t->data) return OCT_OK;
    size_t channels = node->shape.rank ? (size_t)node->shape.dim[node->shape.rank - 1] : 1;
    return tap->visit(tap->user, (oct_value){node->id}, t->data, t->sample * (size_t)batch, channels);
}

void oct_tap_watch(oct_tap *tap, oct_tap_visit *visit, void *user)
{
    tap->visit = visit;
    tap->user = user;
    oct_plan_observe(tap->plan, visit ? observe : NULL, tap);
}

oct_status oct_tap_run(oct_tap *tap, const oct_ptq_images *images, int64_t batch)
{
    int64_t first = batch * OCT_PTQ_BATCH, left = images->count - first;
    if (first < 0 || left < 1 || images->sample != oct_shape_sample(&oct_graph_node(tap->graph, tap->image)->shape))
        return oct_fail(&tap->graph->ctx->error, OCT_ERR_ARGUMENT, "calibration images: no such batch, or another size");
    const oct_run run = {.mode = OCT_EVAL};
    tap->batch = left < OCT_PTQ_BATCH ? (int)left : OCT_PTQ_BATCH;
    oct_plan_bind(tap->plan, tap->image, images->pixels + (size_t)first * images->sample);
    oct_status status = oct_plan_forward(tap->plan, &run, tap->batch);
    return status == OCT_END ? OCT_OK : status;
}

int oct_tap_batch(const oct_tap *tap)
{
    return tap->batch;
}

static void decode(float *y, const oct_tensor *t, size_t n)
{
    float unit = ldexpf(1, -t->exponent);
    const uint8_t *u = t->data;
    const int8_t *s = t->data;
    for (size_t i = 0; i < n; i++) y[i] = unit * (t->is_signed ? (float)s[i] : (float)u[i]);
}

const float *oct_tap_floats(oct_tap *tap, int i, size_t *count)
{
    const oct_tensor *t = oct_plan_tensor(tap->plan, tap->values[i]);
    size_t n = *count = t->sample * (size_t)tap->batch;
    if (t->storage == OCT_STORE_F32) return t->data;
    decoded *d = &tap->decoded[i];
    if (d->capacity < n) {
        oct_free(d->x);
        d->x = oct_alloc(n, sizeof *d->x);
        d->capacity = d->x ? n : 0;
    }
    if (d->x) decode(d->x, t, n);
    return d->x;
}
