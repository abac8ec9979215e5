/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/ptq/adaround.h"

#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "quant/copy.h"
#include "quant/int8/requant.h"

enum { BATCH = 32, MAX_CODE = 127 };
static const size_t sample_bytes = (size_t)512 << 20; /* of all samples of one layer */
static const double stretch_hi = 1.1, stretch_lo = -0.1, first_beta = 20, last_beta = 2, warm_share = 0.2;

/* One layer's problem: x -> layer -> activation -> squared error. */
typedef struct problem {
    oct_ptq_net *net;
    const oct_ptq_layer *layer;
    oct_graph *graph;
    oct_plan *plan;
    oct_value x, target, weight, loss;
    float *inputs, *outputs; /* samples, the second already behind the activation */
    size_t input_sample, output_sample;
    int64_t samples;
    double *v, *first, *second; /* variables and Adam's moments */
    float *low;                 /* floor(w/step), in codes */
    float *start;               /* the weights as they were */
    float *steps;               /* of each weight */
    int *exponents;
    size_t count;
    const oct_ptq_adaround *options;
} problem;

typedef struct job {
    oct_ptq_net *net;
    const oct_ptq_images *images;
    oct_graph *twin, *simulation;
    const oct_ptq_adaround *options;
    const oct_ptq_progress *progress;
    oct_ptq_adarounded *report;
    int64_t iterations;
} job;

double oct_ptq_nudge(double u, int code)
{
    static const double keep = 0.4999, moved = 0.4;
    double away = u - code;
    if (fabs(away) <= keep || (u > 0 && code == MAX_CODE && away > 0) || (u < 0 && code == -MAX_CODE && away < 0)) return u;
    return code + (away < 0 ? -moved : moved);
}

static double sigmoid(double v)
{
    return 1 / (1 + exp(-v));
}

static double soft_step(double v)
{
    return fmin(fmax(sigmoid(v) * (stretch_hi - stretch_lo) + stretch_lo, 0), 1);
}

/* --- the problem's graph --- */

static const oct_node *activation_of(const oct_ptq_net *net, const oct_ptq_layer *l)
{
    if (l->point.id < 0) return NULL;
    const oct_node *x = oct_node_input(net->graph, oct_graph_node(net->graph, l->point), OCT_FQ_X);
    return x->op == &oct_op_relu || x->op == &oct_op_clip ? x : NULL;
}

static oct_status build_graph(problem *p)
{
    oct_graph *from = p->net->graph;
    const oct_node *layer = oct_graph_node(from, p->layer->layer), *w = oct_graph_node(from, p->layer->weight);
    const oct_node *x = oct_node_input(from, layer, 0), *y = oct_graph_node(from, p->layer->output);
    const oct_init zero = {OCT_INIT_ZERO, 0};
    OCT_TRY(oct_graph_create(&p->graph, from->ctx, 1));
    oct_graph *g = p->graph;
    p->x = oct_input(g, "x", OCT_F32, x->shape);
    p->target = oct_input(g, "target", OCT_F32, y->shape);
    p->weight = oct_parameter(g, "weight", w->shape, zero);
    bool has_bias = p->layer->bias.id >= 0;
    oct_value in[3] = {p->x, p->weight}, bias = {-1};
    if (has_bias) in[2] = bias = oct_parameter(g, "bias", OCT_SHAPE(p->layer->outputs), zero);
    oct_value out = oct_op_append(g, layer->op, "layer", layer->attrs, in, has_bias ? 3 : 2);
    const oct_node *act = activation_of(p->net, p->layer);
    if (act) out = oct_op_append(g, act->op, "activation", act->attrs, &out, 1);
    p->loss = oct_op_append(g, &oct_op_mean_squared_error, "loss", NULL, (oct_value[]){out, p->target}, 2);
    OCT_TRY(oct_graph_status(g));
    if (has_bias)
        memcpy(oct_graph_data(g, bias, NULL), oct_graph_data(from, p->layer->bias, NULL),
               (size_t)p->layer->outputs * sizeof(float));
    oct_plan_options options = {.batch = BATCH, .mode = OCT_TRAIN, .outputs = &p->loss, .output_count = 1};
    return oct_plan_create(&p->plan, g, &options);
}

/* --- samples --- */

static void activate(float *y, size_t n, const oct_node *act)
{
    float lo = 0, hi = INFINITY;
    if (!act) return;
    if (act->op == &oct_op_clip) {
        const oct_clip_attrs *a = act->attrs;
        lo = a->lo;
        hi = a->hi;
    }
    for (size_t i = 0; i < n; i++) y[i] = fminf(fmaxf(y[i], lo), hi);
}

static oct_status copy_batch(float *to, oct_tap *tap, const job *j, int64_t batch, size_t sample, int64_t samples)
{
    size_t n;
    OCT_TRY(oct_tap_run(tap, j->images, batch));
    const float *x = oct_tap_floats(tap, 0, &n);
    if (!x) return oct_out_of_memory(j->net->graph->ctx, "AdaRound");
    int64_t first = batch * OCT_PTQ_BATCH, left = samples - first;
    size_t wanted = (size_t)(left < oct_tap_batch(tap) ? left : oct_tap_batch(tap)) * sample;
    memcpy(to + (size_t)first * sample, x, (wanted < n ? wanted : n) * sizeof *to);
    return OCT_OK;
}

static oct_status collect(float *to, oct_graph *g, oct_value value, const job *j, size_t sample, int64_t samples)
{
    oct_tap *tap;
    OCT_TRY(oct_tap_create(&tap, g, j->net->image, &value, 1));
    oct_status status = OCT_OK;
    for (int64_t b = 0; b * OCT_PTQ_BATCH < samples && status == OCT_OK; b++)
        status = copy_batch(to, tap, j, b, sample, samples);
    oct_tap_destroy(tap);
    return status;
}

static oct_status load_samples(problem *p, const job *j)
{
    const oct_graph *g = p->net->graph;
    const oct_node *layer = oct_graph_node(g, p->layer->layer), *y = oct_graph_node(g, p->layer->output);
    p->input_sample = oct_shape_sample(&oct_node_input(g, layer, 0)->shape);
    p->output_sample = oct_shape_sample(&y->shape);
    size_t one = p->input_sample + p->output_sample, fit = sample_bytes / sizeof(float) / one;
    p->samples = j->images->count < (int64_t)fit ? j->images->count : fit ? (int64_t)fit : 1;
    p->inputs = oct_alloc((size_t)p->samples, p->input_sample * sizeof *p->inputs);
    p->outputs = oct_alloc((size_t)p->samples, p->output_sample * sizeof *p->outputs);
    if (!p->inputs || !p->outputs) return oct_out_of_memory(g->ctx, "AdaRound");
    OCT_TRY(collect(p->inputs, j->simulation, (oct_value){layer->inputs[0]}, j, p->input_sample, p->samples));
    OCT_TRY(collect(p->outputs, j->twin, p->layer->output, j, p->output_sample, p->samples));
    activate(p->outputs, (size_t)p->samples * p->output_sample, activation_of(p->net, p->layer));
    return OCT_OK;
}

static void set_batch(problem *p, const int64_t *samples, int count)
{
    float *x = oct_plan_input(p->plan, p->x), *y = oct_plan_input(p->plan, p->target);
    for (int i = 0; i < count; i++) {
        memcpy(x + (size_t)i * p->input_sample, p->inputs + (size_t)samples[i] * p->input_sample, p->input_sample * sizeof *x);
        memcpy(y + (size_t)i * p->output_sample, p->outputs + (size_t)samples[i] * p->output_sample,
               p->output_sample * sizeof *y);
    }
}

/* --- variables --- */

static oct_status allocate(problem *p)
{
    size_t n = p->count;
    p->v = oct_calloc(n, sizeof *p->v);
    p->first = oct_calloc(n, sizeof *p->first);
    p->second = oct_calloc(n, sizeof *p->second);
    p->low = oct_calloc(n, sizeof *p->low);
    p->start = oct_calloc(n, sizeof *p->start);
    p->steps = oct_calloc(n, sizeof *p->steps);
    p->exponents = oct_calloc((size_t)p->layer->outputs, sizeof *p->exponents);
    bool all = p->v && p->first && p->second && p->low && p->start && p->steps && p->exponents;
    return all ? OCT_OK : oct_out_of_memory(p->net->graph->ctx, "AdaRound");
}

static oct_status set_variables(problem *p)
{
    const oct_ptq_layer *l = p->layer;
    memcpy(p->start, oct_graph_data(p->net->graph, l->weight, NULL), p->count * sizeof *p->start);
    float *nearest = oct_graph_data(p->graph, p->weight, NULL);
    OCT_TRY(oct_ptq_quantized_weights(nearest, p->exponents, p->net, l));
    for (int o = 0; o < l->outputs; o++)
        for (size_t i = 0; i < l->per_output; i++) {
            size_t k = oct_ptq_weight_index(l, o, i);
            double u = ldexp((double)p->start[k], p->exponents[o]), low = floor(u);
            double share = (u - low - stretch_lo) / (stretch_hi - stretch_lo);
            p->steps[k] = ldexpf(1, -p->exponents[o]);
            p->low[k] = (float)low;
            p->v[k] = log(share / (1 - share));
        }
    return OCT_OK;
}

static double clamp_code(double q)
{
    return fmin(fmax(q, -MAX_CODE), MAX_CODE);
}

static void write_soft(problem *p)
{
    float *w = oct_graph_data(p->graph, p->weight, NULL);
    for (size_t k = 0; k < p->count; k++)
        w[k] = (float)(clamp_code((double)p->low[k] + soft_step(p->v[k])) * (double)p->steps[k]);
}

/* One step of Adam. beta <= 0: without the regulariser. */
static void update(problem *p, int64_t t, double beta)
{
    static const double decay1 = 0.9, decay2 = 0.999, tiny = 1e-8;
    double rate = p->options->rate > 0 ? p->options->rate : 0.01, lambda = p->options->lambda > 0 ? p->options->lambda : 0.01;
    double unbias1 = 1 - pow(decay1, (double)t + 1), unbias2 = 1 - pow(decay2, (double)t + 1);
    const float *gradient = oct_plan_gradients(p->plan) + oct_graph_node(p->graph, p->weight)->offset;
    for (size_t k = 0; k < p->count; k++) {
        double s = sigmoid(p->v[k]), raw = s * (stretch_hi - stretch_lo) + stretch_lo, h = soft_step(p->v[k]);
        double slope = raw > 0 && raw < 1 ? s * (1 - s) * (stretch_hi - stretch_lo) : 0, g = 0;
        double q = (double)p->low[k] + h;
        if (fabs(q) <= MAX_CODE) g = (double)gradient[k] * (double)p->steps[k];
        if (beta > 0 && h != 0.5)
            g -= lambda * beta * pow(fabs(2 * h - 1), beta - 1) * (h > 0.5 ? 2 : -2);
        g *= slope;
        p->first[k] = decay1 * p->first[k] + (1 - decay1) * g;
        p->second[k] = decay2 * p->second[k] + (1 - decay2) * g * g;
        p->v[k] -= rate * (p->first[k] / unbias1) / (sqrt(p->second[k] / unbias2) + tiny);
    }
}

static oct_status iterate(problem *p, const job *j, int64_t done)
{
    const oct_run run = {.mode = OCT_TRAIN};
    int64_t warm = (int64_t)(warm_share * (double)j->iterations), total = j->iterations * j->net->layer_count;
    int count = p->samples < BATCH ? (int)p->samples : BATCH;
    for (int64_t t = 0; t < j->iterations; t++) {
        int64_t chosen[BATCH];
        oct_rng rng = oct_rng_start(j->options->seed, OCT_RNG_USER, (uint64_t)t, (uint64_t)p->layer->layer.id);
        for (int i = 0; i < count; i++) chosen[i] = (int64_t)oct_rng_below(&rng, (uint32_t)p->samples);
        set_batch(p, chosen, count);
        write_soft(p);
        OCT_TRY(oct_plan_forward(p->plan, &run, count));
        memset(oct_plan_gradients(p->plan), 0, p->graph->params.count * sizeof(float));
        OCT_TRY(oct_plan_backward(p->plan, (float)p->layer->outputs)); /* a sum over channels, not a mean */
        double left = (double)(j->iterations - t) / (double)(j->iterations - warm);
        update(p, t, t < warm ? 0 : last_beta + (first_beta - last_beta) * left);
        if (t % 16 == 15 || t + 1 == j->iterations) OCT_TRY(oct_ptq_step(j->progress, done + t + 1, total));
    }
    return OCT_OK;
}

/* Relative squared error of the output with the weights as they are in the problem's graph. */
static oct_status output_error(double *error, problem *p)
{
    const oct_run run = {.mode = OCT_TRAIN};
    double sum = 0, power = 0;
    for (int64_t first = 0; first < p->samples; first += BATCH) {
        int64_t all[BATCH];
        int count = p->samples - first < BATCH ? (int)(p->samples - first) : BATCH;
        for (int i = 0; i < count; i++) all[i] = first + i;
        set_batch(p, all, count);
        OCT_TRY(oct_plan_forward(p->plan, &run, count));
        sum += (double)*(const float *)oct_plan_tensor(p->plan, p->loss)->data * count;
    }
    for (size_t i = 0; i < (size_t)p->samples * p->output_sample; i++) power += (double)p->outputs[i] * (double)p->outputs[i];
    power /= (double)p->output_sample;
    *error = power > 0 ? sum / power : 0;
    return OCT_OK;
}

/* Learned codes into the network's weights; the old ones again when a scale would change with them. */
static oct_status keep_result(problem *p, oct_ptq_adarounded *report)
{
    const oct_ptq_layer *l = p->layer;
    float *w = oct_graph_data(p->net->graph, l->weight, NULL), *rounded = oct_graph_data(p->graph, p->weight, NULL);
    int64_t changed = 0;
    bool same = true;
    for (size_t k = 0; k < p->count; k++) {
        double u = (double)p->start[k] / (double)p->steps[k];
        int code = (int)clamp_code((double)p->low[k] + (soft_step(p->v[k]) >= 0.5));
        changed += code != oct_weight_code(u, 1, -MAX_CODE, MAX_CODE);
        w[k] = (float)(oct_ptq_nudge(u, code) * (double)p->steps[k]);
    }
    int *exponents = oct_alloc((size_t)l->outputs, sizeof *exponents);
    if (!exponents) return oct_out_of_memory(p->net->graph->ctx, "AdaRound");
    oct_status status = oct_ptq_quantized_weights(rounded, exponents, p->net, l);
    for (int o = 0; o < l->outputs; o++) same &= status != OCT_OK || exponents[o] == p->exponents[o];
    oct_free(exponents);
    if (!same) {
        memcpy(w, p->start, p->count * sizeof *w);
        status = oct_ptq_quantized_weights(rounded, NULL, p->net, l);
    }
    report->weights += (int64_t)p->count;
    report->changed += same ? changed : 0;
    return status;
}

static oct_status solve(problem *p, const job *j, int64_t done)
{
    double before, after;
    OCT_TRY(load_samples(p, j));
    OCT_TRY(build_graph(p));
    OCT_TRY(allocate(p));
    OCT_TRY(set_variables(p));
    OCT_TRY(output_error(&before, p));
    OCT_TRY(iterate(p, j, done));
    OCT_TRY(keep_result(p, j->report));
    OCT_TRY(output_error(&after, p));
    j->report->error_before += before / j->net->layer_count;
    j->report->error_after += after / j->net->layer_count;
    return oct_ptq_write_weights(j->simulation, j->net, p->layer);
}

static void release(problem *p)
{
    oct_plan_destroy(p->plan);
    oct_graph_destroy(p->graph);
    oct_free(p->inputs);
    oct_free(p->outputs);
    oct_free(p->v);
    oct_free(p->first);
    oct_free(p->second);
    oct_free(p->low);
    oct_free(p->start);
    oct_free(p->steps);
    oct_free(p->exponents);
}

static oct_status solve_all(job *j)
{
    OCT_TRY(oct_ptq_float_twin(&j->twin, j->net));
    OCT_TRY(oct_ptq_simulation(&j->simulation, j->net, NULL));
    for (int i = 0; i < j->net->layer_count; i++) OCT_TRY(oct_ptq_write_weights(j->simulation, j->net, &j->net->layers[i]));
    for (int i = 0; i < j->net->layer_count; i++) {
        const oct_ptq_layer *l = &j->net->layers[i];
        problem p = {.net = j->net, .layer = l, .options = j->options, .count = l->per_output * (size_t)l->outputs};
        oct_status status = solve(&p, j, i * j->iterations);
        release(&p);
        OCT_TRY(status);
    }
    return OCT_OK;
}

oct_status oct_ptq_adaround_apply(oct_ptq_net *net, const oct_ptq_images *images, const oct_ptq_adaround *options,
                                  oct_ptq_adarounded *report, const oct_ptq_progress *progress)
{
    job j = {.net = net, .images = images, .options = options, .progress = progress, .report = report,
             .iterations = options->iterations > 0 ? options->iterations : OCT_ADAROUND_ITERATIONS};
    *report = (oct_ptq_adarounded){0};
    oct_status status = solve_all(&j);
    oct_graph_destroy(j.twin);
    oct_graph_destroy(j.simulation);
    return status;
}
