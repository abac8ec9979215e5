/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/evaluate.h"

#include <math.h>
#include <time.h>

#include "autograd/base/memory.h"
#include "train/numeric.h"

struct oct_evaluator {
    oct_ctx *ctx;
    int batch, classes;
    size_t height, width, channels; /* of the images */
    double *scores;                 /* [batch][classes] */
    double seconds;                 /* in the model */
    oct_graph *graph;               /* NULL: an int8 model */
    oct_model values;
    oct_model_task task;
    oct_plan *plan;
    const oct_int8_model *model;
    oct_int8_state *state;
    int32_t *codes; /* [batch][classes] of the engine */
};

static double percent(int64_t part, int64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

double oct_score_top1(const oct_score *s)
{
    return percent(s->top1, s->images);
}

double oct_score_top5(const oct_score *s)
{
    return percent(s->top5, s->images);
}

double oct_score_loss(const oct_score *s)
{
    return s->images ? s->loss_sum / (double)s->images : 0;
}

double oct_score_images_per_second(const oct_score *s)
{
    return s->seconds > 0 ? (double)s->images / s->seconds : 0;
}

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static oct_status create(oct_evaluator **out, oct_ctx *ctx, int batch, size_t classes)
{
    *out = NULL;
    if (batch < 1 || batch > 1 << 16)
        return oct_fail(&ctx->error, OCT_ERR_ARGUMENT,
                        "evaluation: expected a batch of 1..65536 images, got %d", batch);
    oct_evaluator *e = oct_calloc(1, sizeof *e);
    size_t count = 0;
    if (e && oct_size_mul(&count, (size_t)batch, classes)) e->scores = oct_calloc(count, sizeof *e->scores);
    if (!e || !e->scores) {
        oct_free(e);
        return oct_out_of_memory(ctx, "evaluation");
    }
    e->ctx = ctx;
    e->batch = batch;
    e->classes = (int)classes;
    *out = e;
    return OCT_OK;
}

oct_status oct_evaluator_create(oct_evaluator **out, oct_graph *graph, const oct_model *model, int batch)
{
    *out = NULL;
    const oct_node *logits = oct_graph_node(graph, model->logits),
                   *image = oct_graph_node(graph, model->image);
    if (!logits || !image || image->shape.rank != 4)
        return oct_fail(&graph->ctx->error, OCT_ERR_ARGUMENT,
                        "evaluation: the graph has no image input or no logits");
    OCT_TRY(create(out, graph->ctx, batch, oct_shape_sample(&logits->shape)));
    oct_evaluator *e = *out;
    e->graph = graph;
    e->values = *model;
    e->height = (size_t)image->shape.dim[1];
    e->width = (size_t)image->shape.dim[2];
    e->channels = (size_t)image->shape.dim[3];
    oct_plan_options options = {
        .batch = batch, .mode = OCT_EVAL, .outputs = &model->logits, .output_count = 1};
    oct_status status = oct_evaluator_set_task(e, model->task);
    if (status == OCT_OK) status = oct_plan_create(&e->plan, graph, &options);
    if (status != OCT_OK) {
        oct_evaluator_destroy(e);
        *out = NULL;
    }
    return status;
}

oct_status oct_evaluator_create_int8(oct_evaluator **out, oct_ctx *ctx, const oct_int8_model *model,
                                     int batch)
{
    const oct_int8_tensor *input = oct_int8_tensor_at(model, oct_int8_input(model));
    *out = NULL;
    if (!input || input->kind != OCT_INT8_PIXELS)
        return oct_fail(&ctx->error, OCT_ERR_UNSUPPORTED,
                        "evaluation: the int8 model takes codes, not pixels");
    OCT_TRY(create(out, ctx, batch, (size_t)oct_int8_output_count(model)));
    oct_evaluator *e = *out;
    e->model = model;
    e->height = (size_t)input->height;
    e->width = (size_t)input->width;
    e->channels = (size_t)input->channels;
    e->codes = oct_calloc((size_t)batch * (size_t)e->classes, sizeof *e->codes);
    oct_status status = e->codes ? oct_int8_state_create(&e->state, model, batch, ctx->threads, &ctx->error)
                                 : oct_out_of_memory(ctx, "evaluation");
    if (status != OCT_OK) {
        oct_evaluator_destroy(e);
        *out = NULL;
    }
    return status;
}

oct_status oct_evaluator_set_task(oct_evaluator *e, oct_model_task task)
{
    size_t values = e->height * e->width * e->channels;
    if (task == OCT_RECONSTRUCT && values != (size_t)e->classes)
        return oct_fail(&e->ctx->error, OCT_ERR_SHAPE,
                        "evaluation: expected %zu scores, as many as the image has values, found %d", values, e->classes);
    e->task = task;
    return OCT_OK;
}

void oct_evaluator_destroy(oct_evaluator *e)
{
    if (!e) return;
    oct_plan_destroy(e->plan);
    oct_int8_state_destroy(e->state);
    oct_free(e->codes);
    oct_free(e->scores);
    oct_free(e);
}

int oct_evaluator_classes(const oct_evaluator *e)
{
    return e->classes;
}

oct_plan *oct_evaluator_plan(oct_evaluator *e)
{
    return e->plan;
}

oct_int8_state *oct_evaluator_state(oct_evaluator *e)
{
    return e->state;
}

static double logit(const oct_tensor *t, size_t i)
{
    if (t->storage == OCT_STORE_F32) return (double)((const float *)t->data)[i];
    int code = t->is_signed ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
    return (double)(code - t->zero_point) * (double)t->scale;
}

/* Classes before `label`. */
static int rank_of(const double *scores, int classes, int label)
{
    int rank = 0;
    for (int k = 0; k < classes; k++)
        rank += scores[k] > scores[label] || (scores[k] == scores[label] && k < label);
    return rank;
}

int oct_logits_rank(const oct_tensor *logits, int sample, int label)
{
    size_t start = (size_t)sample * logits->sample;
    double own = logit(logits, start + (size_t)label);
    int rank = 0;
    for (size_t k = 0; k < logits->sample; k++) {
        double other = logit(logits, start + k);
        rank += other > own || (other == own && k < (size_t)label);
    }
    return rank;
}

void oct_scores_top(const double *scores, int classes, int *order, int count)
{
    for (int k = 0; k < classes; k++) {
        int rank = rank_of(scores, classes, k);
        if (rank < count) order[rank] = k;
    }
}

static oct_status run_graph(oct_evaluator *e, const uint8_t *images, int count)
{
    oct_run run = {.mode = OCT_EVAL, .bn_frozen = 1, .range_frozen = 1};
    oct_plan_bind(e->plan, e->values.image, images);
    OCT_TRY(oct_plan_forward(e->plan, &run, count));
    const oct_tensor *logits = oct_plan_tensor(e->plan, e->values.logits);
    bool finite = true;
    for (size_t i = 0; i < (size_t)count * (size_t)e->classes; i++) {
        e->scores[i] = logit(logits, i);
        finite &= isfinite(e->scores[i]) != 0;
    }
    return finite
               ? OCT_OK
               : oct_numeric_explain(e->plan, e->graph, &run, count, "evaluation: the logits are not finite");
}

static oct_status run_int8(oct_evaluator *e, const uint8_t *images, int count)
{
    oct_status status = oct_int8_run(e->state, images, count, e->codes);
    if (status != OCT_OK) return oct_fail(&e->ctx->error, status, "%s", oct_int8_state_error(e->state));
    const int zero = oct_int8_tensor_at(e->model, oct_int8_output(e->model))->zero_point;
    for (size_t i = 0; i < (size_t)count * (size_t)e->classes; i++)
        e->scores[i] = (double)(e->codes[i] - zero) * oct_int8_score_scale(e->model, (int)(i % (size_t)e->classes));
    return OCT_OK;
}

oct_status oct_evaluator_run(oct_evaluator *e, const double **scores, const uint8_t *images, int count)
{
    *scores = e->scores;
    if (count < 1 || count > e->batch)
        return oct_fail(&e->ctx->error, OCT_ERR_ARGUMENT, "evaluation: a batch of %d, expected 1..%d", count,
                        e->batch);
    double start = now_seconds();
    oct_status status = e->graph ? run_graph(e, images, count) : run_int8(e, images, count);
    e->seconds += now_seconds() - start;
    return status;
}

static double cross_entropy(const double *scores, int classes, int label)
{
    double highest = scores[0], sum = 0;
    for (int k = 1; k < classes; k++) highest = fmax(highest, scores[k]);
    for (int k = 0; k < classes; k++) sum += exp(scores[k] - highest);
    return log(sum) + highest - scores[label];
}

/* What was done to the pixels of channel c: (pixel - mean)*scale. */
static void preprocessing(const oct_evaluator *e, size_t c, float *mean, float *scale)
{
    const oct_node *n = e->graph ? oct_graph_node(e->graph, oct_graph_find(e->graph, "normalize")) : NULL;
    const oct_normalize_attrs *attrs = n && n->op == &oct_op_normalize ? n->attrs : NULL;
    const float *means = attrs ? attrs->mean : e->model ? oct_int8_mean(e->model) : NULL;
    const float *scales = attrs ? attrs->scale : e->model ? oct_int8_scale(e->model) : NULL;
    *mean = means ? means[c] : 0;
    *scale = scales ? scales[c] : 1;
}

/* Mean squared difference between the scores of every image and the image, added to the score. */
static void add_reconstructions(const oct_evaluator *e, oct_score *score, const double *scores, const oct_batch *batch)
{
    size_t values = (size_t)e->classes;
    double sum = 0;
    for (size_t c = 0; c < e->channels; c++) {
        float mean, scale;
        preprocessing(e, c, &mean, &scale);
        for (size_t k = c; k < values * (size_t)batch->count; k += e->channels) {
            double difference = scores[k] - ((double)batch->images[k] - (double)mean) * (double)scale;
            sum += difference * difference;
        }
    }
    score->images += batch->count;
    score->loss_sum += sum / (double)values;
}

oct_status oct_evaluator_add(oct_evaluator *e, oct_score *score, const oct_batch *batch)
{
    const double *scores;
    double before = e->seconds;
    OCT_TRY(oct_evaluator_run(e, &scores, batch->images, batch->count));
    score->seconds += e->seconds - before;
    if (e->task == OCT_RECONSTRUCT) {
        add_reconstructions(e, score, scores, batch);
        return OCT_OK;
    }
    for (int i = 0; i < batch->count; i++) {
        int label = batch->labels[i];
        if (label < 0 || label >= e->classes)
            return oct_fail(&e->ctx->error, OCT_ERR_ARGUMENT,
                            "evaluation: label %d, the model has %d classes", label, e->classes);
        const double *own = scores + (size_t)i * (size_t)e->classes;
        int rank = rank_of(own, e->classes, label);
        score->images++;
        score->top1 += rank == 0;
        score->top5 += rank < 5;
        score->loss_sum += cross_entropy(own, e->classes, label);
    }
    return OCT_OK;
}

oct_status oct_evaluate(oct_evaluator *e, oct_loader *loader, oct_score *score,
                        oct_evaluate_progress *progress, void *user)
{
    *score = (oct_score){0};
    size_t size = (size_t)oct_loader_size(loader), channels = (size_t)oct_loader_channels(loader);
    if (size != e->height || size != e->width || channels != e->channels)
        return oct_fail(&e->ctx->error, OCT_ERR_SHAPE,
                        "evaluation: the model takes images of %zux%zux%zu, the data set gives %zux%zux%zu",
                        e->height, e->width, e->channels, size, size, channels);
    OCT_TRY(oct_loader_start(loader, 0, 0));
    for (;;) {
        oct_batch batch;
        oct_status status = oct_loader_next(loader, &batch);
        if (status == OCT_END) return OCT_OK;
        OCT_TRY(status);
        OCT_TRY(oct_evaluator_add(e, score, &batch));
        if (progress) OCT_TRY(progress(user, score));
    }
}
