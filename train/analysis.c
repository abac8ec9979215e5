/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/analysis.h"

#include <math.h>

#include "autograd/base/memory.h"
#include "autograd/base/par.h"
#include "quant/fold.h"
#include "quant/int8/requant.h"

/* Running sums of one row. */
typedef struct sums {
    double x2, q2, xq, error2, own2;
    int64_t clipped, count;
    double largest;
} sums;

typedef struct job {
    oct_analysis *out;
    oct_graph *base;
    const oct_ptq_net *net;
    const oct_image_set *set;
    oct_value *base_values, *quantized_values; /* rows, then logits */
    oct_tap *base_tap, *quantized_tap;
    sums *sums;
    const float **x, **q;
    size_t *counts;
    int64_t right_base, right_quantized;
} job;

static const oct_node *node_of(const job *j, oct_value v)
{
    return oct_graph_node(j->net->graph, v);
}

static int layer_of_point(const oct_ptq_net *net, int point)
{
    for (int i = 0; i < net->layer_count; i++)
        if (net->layers[i].point.id == net->points[point].quant.id) return i;
    return -1;
}

static oct_status add_row(job *j, int point, int layer, oct_value value, oct_value quantized)
{
    const oct_node *n = node_of(j, value);
    oct_value twin = oct_graph_find(j->base, n->name);
    const oct_node *t = oct_graph_node(j->base, twin);
    if (!t || !oct_shape_equal(&t->shape, &n->shape))
        return oct_fail(&j->net->graph->ctx->error, OCT_ERR_SHAPE, "analysis: the float network has no value '%s' of this shape",
                        n->name);
    int row = j->out->count++;
    j->base_values[row] = twin;
    j->quantized_values[row] = quantized;
    j->out->rows[row] = (oct_analysis_row){.name = n->name, .op = n->op ? n->op->name : "input", .point = point, .layer = layer,
                                           .only_this = NAN, .all_but_this = NAN};
    return OCT_OK;
}

static oct_status list_rows(job *j)
{
    const oct_ptq_net *net = j->net;
    for (int i = 0; i < net->point_count; i++)
        OCT_TRY(add_row(j, i, layer_of_point(net, i), net->points[i].x, net->points[i].quant));
    for (int i = 0; i < net->layer_count; i++)
        if (net->layers[i].point.id < 0) OCT_TRY(add_row(j, -1, i, net->layers[i].output, net->layers[i].output));
    return OCT_OK;
}

static oct_clip_codes clip_of(const oct_ptq_net *net, const oct_analysis_row *r)
{
    const oct_ptq_point *p = &net->points[r->point];
    return oct_range_clip(oct_ptq_range(net->graph, p), p->sign);
}

/* --- activations --- */

static void add_element(sums *s, double x, double q)
{
    double a = fabs(x), miss = x - q;
    s->x2 += x * x;
    s->q2 += q * q;
    s->xq += x * q;
    s->error2 += miss * miss;
    if (a > s->largest) s->largest = a;
}

static void measure_row(void *arg, int64_t item, int thread)
{
    job *j = arg;
    oct_analysis_row *r = &j->out->rows[item];
    sums *s = &j->sums[item];
    const float *x = j->x[item], *q = j->q[item];
    size_t n = j->counts[item];
    (void)thread;
    oct_histogram_add(r->activations, x, n);
    s->count += (int64_t)n;
    for (size_t i = 0; i < n; i++) add_element(s, (double)x[i], (double)q[i]);
    if (r->point < 0) return;
    oct_clip_codes c = clip_of(j->net, r);
    float kappa = ldexpf(1, c.exponent), unit = ldexpf(1, -c.exponent);
    for (size_t i = 0; i < n; i++) {
        double miss = (double)x[i] - (double)((float)oct_activation_code(x[i], kappa, c.lo, c.hi) * unit);
        s->own2 += miss * miss;
        s->clipped += x[i] > c.clip_hi || x[i] < (c.is_signed ? c.clip_lo : 0);
    }
}

static int64_t count_right(const float *logits, size_t classes, const int32_t *labels, int batch)
{
    int64_t right = 0;
    for (int i = 0; i < batch; i++) {
        const float *own = logits + (size_t)i * classes;
        size_t best = 0;
        for (size_t k = 1; k < classes; k++)
            if (own[k] > own[best]) best = k;
        right += (int32_t)best == labels[i];
    }
    return right;
}

static oct_status run_batch(job *j, int64_t b)
{
    const oct_ptq_images *images = &j->set->images;
    int rows = j->out->count, logits = rows;
    OCT_TRY(oct_tap_run(j->base_tap, images, b));
    OCT_TRY(oct_tap_run(j->quantized_tap, images, b));
    for (int i = 0; i <= rows; i++) {
        size_t n;
        j->x[i] = oct_tap_floats(j->base_tap, i, &n);
        j->q[i] = oct_tap_floats(j->quantized_tap, i, &j->counts[i]);
        if (!j->x[i] || !j->q[i]) return oct_out_of_memory(j->net->graph->ctx, "analysis");
    }
    oct_parallel_for(j->net->graph->ctx->threads, rows, measure_row, j);
    int batch = oct_tap_batch(j->base_tap);
    const int32_t *labels = j->set->labels + b * OCT_PTQ_BATCH;
    size_t classes = j->counts[logits] / (size_t)batch;
    j->right_base += count_right(j->x[logits], classes, labels, batch);
    j->right_quantized += count_right(j->q[logits], classes, labels, batch);
    return OCT_OK;
}

static double decibel(double signal2, double noise2)
{
    return noise2 > 0 ? 10 * log10(signal2 / noise2) : (double)INFINITY;
}

static void finish_row(job *j, int i)
{
    oct_analysis_row *r = &j->out->rows[i];
    const sums *s = &j->sums[i];
    r->sqnr = decibel(s->x2, s->error2);
    r->cosine = s->x2 > 0 && s->q2 > 0 ? s->xq / sqrt(s->x2 * s->q2) : 1;
    r->own = r->clipped = r->used = NAN;
    if (r->point < 0) return;
    oct_clip_codes c = clip_of(j->net, r);
    const float *range = oct_ptq_range(j->net->graph, &j->net->points[r->point]);
    r->own = decibel(s->x2, s->own2);
    r->clipped = (double)s->clipped / (double)s->count;
    r->clip = (double)c.clip_hi;
    r->is_signed = c.is_signed;
    double largest = c.is_signed ? s->largest : r->activations->seen.hi;
    r->used = largest / r->clip;
    r->range = (oct_bounds){(double)range[OCT_RANGE_LO], (double)range[OCT_RANGE_HI]};
}

/* --- weights --- */

/* Scale of a channel that folding gives it. */
static double channel_scale(const oct_graph *g, const oct_node *quant, int o)
{
    const oct_fake_quant_weight_attrs *a = quant->attrs;
    if (!a->has_norm) return 1;
    oct_graph *mutable = (oct_graph *)(uintptr_t)g;
    const float *gamma = oct_graph_data(mutable, (oct_value){quant->inputs[OCT_FQW_GAMMA]}, NULL);
    const float *var = oct_graph_data(mutable, (oct_value){quant->inputs[OCT_FQW_VAR]}, NULL);
    return oct_fold_scale((double)gamma[o], (double)var[o], (double)a->eps);
}

static void measure_weights(oct_analysis_row *r, const oct_ptq_net *net, const oct_ptq_layer *l, const float *quantized)
{
    const oct_node *quant = oct_graph_node(net->graph, l->weight_quant);
    const float *w = oct_graph_data(net->graph, l->weight, NULL);
    double signal = 0, noise = 0, widest = 0, narrowest = INFINITY;
    r->per_channel = ((const oct_fake_quant_weight_attrs *)quant->attrs)->per_channel;
    r->outputs = l->outputs;
    for (int o = 0; o < l->outputs; o++) {
        double s = channel_scale(net->graph, quant, o), largest = 0;
        bool dead = true;
        for (size_t i = 0; i < l->per_output; i++) {
            size_t k = oct_ptq_weight_index(l, o, i);
            double x = s * (double)w[k], miss = x - (double)quantized[k];
            float folded = (float)x;
            signal += x * x;
            noise += miss * miss;
            largest = fmax(largest, fabs(x));
            dead &= quantized[k] == 0;
            oct_histogram_add(r->weights, &folded, 1);
        }
        r->dead += dead;
        widest = fmax(widest, largest);
        if (largest > 0) narrowest = fmin(narrowest, largest);
    }
    r->weight_sqnr = decibel(signal, noise);
    r->channel_ratio = isfinite(narrowest) ? widest / narrowest : 1;
}

static oct_status analyse_weights(job *j, oct_analysis_row *r)
{
    const oct_ptq_layer *l = &j->net->layers[r->layer];
    float *quantized = oct_alloc(l->per_output * (size_t)l->outputs, sizeof *quantized);
    r->weights = oct_alloc(1, sizeof *r->weights);
    if (!quantized || !r->weights) {
        oct_free(quantized);
        return oct_out_of_memory(j->net->graph->ctx, "analysis");
    }
    oct_histogram_init(r->weights);
    oct_status status = oct_ptq_quantized_weights(quantized, NULL, j->net, l);
    if (status == OCT_OK) measure_weights(r, j->net, l, quantized);
    oct_free(quantized);
    return status;
}

/* --- all --- */

static oct_status allocate(job *j)
{
    size_t rows = (size_t)j->net->point_count + (size_t)j->net->layer_count + 1;
    j->out->rows = oct_calloc(rows, sizeof *j->out->rows);
    j->base_values = oct_calloc(rows, sizeof *j->base_values);
    j->quantized_values = oct_calloc(rows, sizeof *j->quantized_values);
    j->sums = oct_calloc(rows, sizeof *j->sums);
    j->x = oct_calloc(rows, sizeof *j->x);
    j->q = oct_calloc(rows, sizeof *j->q);
    j->counts = oct_calloc(rows, sizeof *j->counts);
    bool all = j->out->rows && j->base_values && j->quantized_values && j->sums && j->x && j->q && j->counts;
    return all ? OCT_OK : oct_out_of_memory(j->net->graph->ctx, "analysis");
}

static oct_status prepare(job *j)
{
    OCT_TRY(allocate(j));
    OCT_TRY(list_rows(j));
    int rows = j->out->count;
    oct_value logits = oct_graph_find(j->base, node_of(j, j->net->logits)->name);
    oct_value image = oct_graph_find(j->base, node_of(j, j->net->image)->name);
    j->base_values[rows] = logits;
    j->quantized_values[rows] = j->net->logits;
    for (int i = 0; i < rows; i++) {
        oct_histogram *h = j->out->rows[i].activations = oct_alloc(1, sizeof *h);
        if (!h) return oct_out_of_memory(j->net->graph->ctx, "analysis");
        oct_histogram_init(h);
    }
    OCT_TRY(oct_tap_create(&j->base_tap, j->base, image, j->base_values, rows + 1));
    return oct_tap_create(&j->quantized_tap, j->net->graph, j->net->image, j->quantized_values, rows + 1);
}

static oct_status analyse(job *j, const oct_ptq_progress *progress)
{
    OCT_TRY(prepare(j));
    int64_t batches = oct_ptq_batches(&j->set->images), images = j->out->images = j->set->images.count;
    for (int64_t b = 0; b < batches; b++) {
        OCT_TRY(run_batch(j, b));
        OCT_TRY(oct_ptq_step(progress, b + 1, batches));
    }
    for (int i = 0; i < j->out->count; i++) {
        finish_row(j, i);
        if (j->out->rows[i].layer >= 0) OCT_TRY(analyse_weights(j, &j->out->rows[i]));
    }
    j->out->top1_float = 100.0 * (double)j->right_base / (double)images;
    j->out->top1_quantized = 100.0 * (double)j->right_quantized / (double)images;
    j->out->top1_simulated_float = NAN;
    return OCT_OK;
}

oct_status oct_analysis_run(oct_analysis *out, oct_graph *base, const oct_ptq_net *net, const oct_image_set *set,
                            const oct_ptq_progress *progress)
{
    *out = (oct_analysis){0};
    job j = {.out = out, .base = base, .net = net, .set = set};
    oct_status status = analyse(&j, progress);
    oct_tap_destroy(j.base_tap);
    oct_tap_destroy(j.quantized_tap);
    oct_free(j.base_values);
    oct_free(j.quantized_values);
    oct_free(j.sums);
    oct_free((void *)j.x);
    oct_free((void *)j.q);
    oct_free(j.counts);
    return status;
}

void oct_analysis_release(oct_analysis *a)
{
    for (int i = 0; i < a->count; i++) {
        oct_free(a->rows[i].activations);
        oct_free(a->rows[i].weights);
    }
    oct_free(a->rows);
    *a = (oct_analysis){0};
}

oct_status oct_image_set_top1(double *percent, oct_graph *graph, oct_value image, oct_value logits,
                              const oct_image_set *set, const oct_ptq_progress *progress)
{
    oct_tap *tap;
    int64_t right = 0, batches = oct_ptq_batches(&set->images);
    OCT_TRY(oct_tap_create(&tap, graph, image, &logits, 1));
    oct_status status = OCT_OK;
    for (int64_t b = 0; b < batches && status == OCT_OK; b++) {
        size_t n;
        status = oct_tap_run(tap, &set->images, b);
        const float *scores = status == OCT_OK ? oct_tap_floats(tap, 0, &n) : NULL;
        if (status == OCT_OK && !scores) status = oct_out_of_memory(graph->ctx, "scores");
        if (status != OCT_OK) break;
        int batch = oct_tap_batch(tap);
        right += count_right(scores, n / (size_t)batch, set->labels + b * OCT_PTQ_BATCH, batch);
        status = oct_ptq_step(progress, b + 1, batches);
    }
    oct_tap_destroy(tap);
    *percent = 100.0 * (double)right / (double)set->images.count;
    return status;
}
