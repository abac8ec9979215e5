/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "quant/quantize.h"
#include "train/evaluate.h"
#include "train/numeric.h"

struct oct_trainer {
    oct_ctx *ctx;
    oct_graph *graph;
    oct_model model;
    oct_trainer_options options;
    bool quantized;
    oct_plan *plan;
    oct_sgd *sgd;
    int pending; /* batches whose gradients wait */
    oct_trainer_position at;
};

oct_freeze oct_trainer_freeze(const oct_trainer_options *o, bool quantized, int64_t step)
{
    oct_freeze f = {.bn = o->freeze_bn};
    if (!quantized || o->steps_per_epoch < 1) return f;
    int64_t epochs = o->epochs;
    if (epochs >= 8) {
        int64_t e = step / o->steps_per_epoch;
        f.bn |= e > 2 && e >= epochs / 2 - 1;
        f.range = e > 4 && e >= epochs / 2 + 1;
    } else {
        int64_t total = epochs * o->steps_per_epoch;
        f.bn |= 2 * step >= total;
        f.range = 8 * step >= 5 * total;
    }
    return f;
}

static oct_status check_options(const oct_trainer_options *o, oct_error *error)
{
    if (o->batch < 1)
        return oct_fail(error, OCT_ERR_ARGUMENT, "trainer: expected a batch of at least 1, got %d", o->batch);
    if (o->accumulate < 0)
        return oct_fail(error, OCT_ERR_ARGUMENT, "trainer: expected at least 1 batch per step, got %d",
                        o->accumulate);
    if (!(o->grad_clip >= 0 && isfinite(o->grad_clip)))
        return oct_fail(error, OCT_ERR_ARGUMENT, "trainer: expected a gradient limit of at least 0, got %g",
                        o->grad_clip);
    if (o->epochs < 0 || o->steps_per_epoch < 1 ||
        (o->epochs && o->steps_per_epoch > INT64_MAX / 8 / o->epochs))
        return oct_fail(error, OCT_ERR_ARGUMENT,
                        "trainer: %" PRId64 " epochs of %" PRId64 " steps are out of range", o->epochs,
                        o->steps_per_epoch);
    return oct_schedule_check(&o->schedule, error);
}

oct_status oct_trainer_create(oct_trainer **out, oct_graph *graph, const oct_model *model,
                              const oct_trainer_options *options)
{
    *out = NULL;
    oct_error *error = &graph->ctx->error;
    OCT_TRY(check_options(options, error));
    bool labelled = model->task == OCT_CLASSIFY;
    if (!oct_graph_node(graph, model->loss) || (labelled && !oct_graph_node(graph, model->label)))
        return oct_fail(error, OCT_ERR_ARGUMENT, "trainer: the graph has no loss to train with");
    oct_trainer *t = oct_calloc(1, sizeof *t);
    if (!t) return oct_out_of_memory(graph->ctx, "trainer");
    t->ctx = graph->ctx;
    t->graph = graph;
    t->model = *model;
    t->options = *options;
    if (!t->options.accumulate) t->options.accumulate = 1;
    t->quantized = oct_quantize_points(graph) > 0;
    oct_plan_options plan = {.batch = options->batch,
                             .mode = OCT_TRAIN,
                             .no_fuse = options->no_fuse,
                             .outputs = (oct_value[]){model->loss, model->logits},
                             .output_count = 2};
    oct_status status = oct_plan_create(&t->plan, graph, &plan);
    if (status == OCT_OK) status = oct_sgd_create(&t->sgd, graph, &options->sgd);
    if (status != OCT_OK) {
        oct_trainer_destroy(t);
        return status;
    }
    *out = t;
    return OCT_OK;
}

void oct_trainer_destroy(oct_trainer *t)
{
    if (!t) return;
    oct_sgd_destroy(t->sgd);
    oct_plan_destroy(t->plan);
    oct_free(t);
}

static void tell(const oct_trainer *t, oct_trainer_event_kind kind, bool before, bool now)
{
    if (before == now || !t->options.event) return;
    oct_trainer_event event = {kind, now, t->at.step};
    t->options.event(t->options.event_user, &event);
}

/* A transition is what differs from the step before, so a resumed run reports none twice. */
static oct_freeze start_step(const oct_trainer *t)
{
    oct_freeze now = oct_trainer_frozen(t, t->at.step), before = {false, false};
    if (t->pending) return now;
    if (t->at.step) before = oct_trainer_frozen(t, t->at.step - 1);
    tell(t, OCT_EVENT_BN_FROZEN, before.bn, now.bn);
    tell(t, OCT_EVENT_RANGE_FROZEN, before.range, now.range);
    return now;
}

double oct_trainer_rate(const oct_trainer *t, int64_t step)
{
    const oct_trainer_options *o = &t->options;
    int64_t total = o->epochs * o->steps_per_epoch;
    return oct_schedule_rate(&o->schedule, step, o->steps_per_epoch, total ? total : 1);
}

oct_freeze oct_trainer_frozen(const oct_trainer *t, int64_t step)
{
    return oct_trainer_freeze(&t->options, t->quantized, step);
}

static oct_status update(oct_trainer *t, oct_trainer_stats *stats)
{
    float *gradients = oct_plan_gradients(t->plan);
    float scale = 1.0f / (float)t->pending;
    double norm = oct_sgd_gradient_norm(t->sgd, gradients);
    if (!isfinite(norm)) {
        const char *name = oct_numeric_first(t->graph, OCT_NODE_PARAMETER, gradients);
        return oct_fail(&t->ctx->error, OCT_ERR_NUMERIC,
                        "step %" PRId64 ": the gradient of '%s' is not finite", t->at.step,
                        name ? name : "all parameters together");
    }
    stats->lr = oct_trainer_rate(t, t->at.step);
    stats->grad_norm = norm * (double)scale;
    scale = oct_sgd_clip_scale(norm, scale, (float)t->options.grad_clip);
    OCT_TRY(oct_sgd_step(t->sgd, t->graph, gradients, scale, (float)stats->lr));
    memset(gradients, 0, t->graph->params.count * sizeof *gradients);
    t->pending = 0;
    t->at.step++;
    stats->updated = true;
    return OCT_OK;
}

static int count_correct(const oct_tensor *logits, const int32_t *labels, int count)
{
    int correct = 0;
    for (int i = 0; i < count; i++) correct += labels[i] >= 0 && oct_logits_rank(logits, i, labels[i]) == 0;
    return correct;
}

oct_status oct_trainer_step(oct_trainer *t, const oct_batch *batch, oct_trainer_stats *stats)
{
    *stats = (oct_trainer_stats){.count = batch->count};
    if (t->at.step >= t->options.epochs * t->options.steps_per_epoch)
        return oct_fail(&t->ctx->error, OCT_ERR_STATE, "trainer: all %" PRId64 " steps are done", t->at.step);
    stats->frozen = start_step(t);
    stats->lr = oct_trainer_rate(t, t->at.step);
    oct_run run = {.mode = OCT_TRAIN,
                   .bn_frozen = stats->frozen.bn,
                   .range_frozen = stats->frozen.range,
                   .seed = t->options.seed,
                   .step = (uint64_t)t->at.batches};
    oct_plan_bind(t->plan, t->model.image, batch->images);
    if (t->model.task == OCT_CLASSIFY) oct_plan_bind(t->plan, t->model.label, batch->labels);
    OCT_TRY(oct_plan_forward(t->plan, &run, batch->count));
    stats->loss = (double)*(const float *)oct_plan_tensor(t->plan, t->model.loss)->data;
    if (!isfinite(stats->loss)) {
        char what[96];
        snprintf(what, sizeof what, "step %" PRId64 ": the loss is %s", t->at.step,
                 isnan(stats->loss) ? "NaN" : "infinite");
        return oct_numeric_explain(t->plan, t->graph, &run, batch->count, what);
    }
    if (t->model.task == OCT_CLASSIFY)
        stats->correct = count_correct(oct_plan_tensor(t->plan, t->model.logits), batch->labels, batch->count);
    OCT_TRY(oct_plan_backward(t->plan, 1));
    t->pending++;
    t->at.batches++;
    return t->pending < t->options.accumulate ? OCT_OK : update(t, stats);
}

oct_status oct_trainer_flush(oct_trainer *t, oct_trainer_stats *stats)
{
    oct_trainer_stats unused;
    if (!stats) stats = &unused;
    *stats = (oct_trainer_stats){0};
    return t->pending ? update(t, stats) : OCT_OK;
}

oct_trainer_position oct_trainer_at(const oct_trainer *t)
{
    return t->at;
}

void oct_trainer_move(oct_trainer *t, oct_trainer_position position)
{
    t->at = position;
}

bool oct_trainer_at_border(const oct_trainer *t)
{
    return t->pending == 0;
}

float *oct_trainer_velocity(oct_trainer *t)
{
    return t->sgd->velocity;
}

oct_plan *oct_trainer_plan(oct_trainer *t)
{
    return t->plan;
}
