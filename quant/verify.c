/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/verify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/par.h"
#include "autograd/reference.h"

struct oct_verifier {
    oct_graph *graph;
    oct_ctx *ctx;
    oct_value image, logits;
    const oct_int8_model *model;
    oct_int8_state *state;
    oct_reference *reference;
    int batch;           /* images per call */
    int chunk;           /* images at a time: the simulation holds every value of them as a double */
    int32_t *node_of;    /* by tensor: node id, -1 = not compared (the pixels themselves) */
    int32_t *scores;
    int64_t *differing;  /* per image of the batch */
    struct rounding_count *rounding; /* the same */
    const char *unmatched; /* a tensor that the simulation did not compute */
    oct_verify_result result;
};

static size_t tensor_elements(const oct_int8_tensor *t)
{
    return (size_t)t->height * (size_t)t->width * (size_t)t->channels;
}

/* Every tensor the engine makes has the name of the node whose value it is. */
static oct_status match_tensors(oct_verifier *v)
{
    int count = oct_int8_tensor_count(v->model);
    v->node_of = oct_calloc((size_t)count, sizeof *v->node_of);
    if (!v->node_of) return oct_out_of_memory(v->ctx, "verify");
    for (int i = 0; i < count; i++) {
        const oct_int8_tensor *t = oct_int8_tensor_at(v->model, i);
        const oct_node *n = oct_graph_node(v->graph, oct_graph_find(v->graph, t->name));
        if (!n)
            return oct_fail(&v->ctx->error, OCT_ERR_SHAPE, "verify: the int8 model's tensor '%s' is no node of the graph",
                            t->name);
        if (oct_shape_sample(&n->shape) != tensor_elements(t))
            return oct_fail(&v->ctx->error, OCT_ERR_SHAPE, "verify: '%s' has %zu values in the int8 model, %zu in the graph",
                            t->name, tensor_elements(t), oct_shape_sample(&n->shape));
        v->node_of[i] = t->kind == OCT_INT8_PIXELS ? -1 : n->id;
        v->result.tensors += t->kind != OCT_INT8_PIXELS;
    }
    return OCT_OK;
}

enum { SIMULATION_BYTES = 256 << 20 };

/* Images at a time whose values fit SIMULATION_BYTES. */
static int chunk_images(const oct_graph *g, int batch)
{
    double values = 0;
    for (int32_t i = 0; i < g->node_count; i++)
        if (g->nodes[i]->kind == OCT_NODE_OP) values += (double)oct_shape_sample(&g->nodes[i]->shape);
    double fit = SIMULATION_BYTES / (sizeof(double) * (values + 1));
    return fit < 1 ? 1 : fit < batch ? (int)fit : batch;
}

/* What one image adds to rounding_differing and rounding_most. */
typedef struct rounding_count {
    int64_t differing;
    int most;
} rounding_count;

typedef struct compare_job {
    oct_verifier *v;
    const oct_int8_tensor *tensor;
    const double *expected;
    const void *found;
    int64_t *differing; /* per image */
    bool affine;
    const double *real; /* in front of the point; NULL: not asked for */
    int lo, hi;         /* codes */
    rounding_count *rounding; /* per image */
} compare_job;

/* Codes of one image against its real values, rounded. */
static void compare_rounding(const compare_job *job, size_t start, size_t n, rounding_count *count)
{
    const oct_int8_tensor *t = job->tensor;
    *count = (rounding_count){0};
    for (size_t i = 0; i < n; i++) {
        double code = rint(job->real[start + i] / (double)t->scale) + t->zero_point;
        int off = abs((int)fmin(fmax(code, job->lo), job->hi) - ((const uint8_t *)job->found)[start + i]);
        count->differing += off != 0;
        if (off > count->most) count->most = off;
    }
}

static void compare_image(void *arg, int64_t image, int thread)
{
    const compare_job *job = arg;
    const oct_int8_tensor *t = job->tensor;
    (void)thread;
    size_t n = tensor_elements(t), start = (size_t)image * n;
    int64_t differing = 0;
    for (size_t i = 0; i < n; i++) {
        double scale = t->kind == OCT_INT8_SCORES ? oct_int8_score_scale(job->v->model, (int)(i % (size_t)t->channels))
                                                  : (double)t->scale;
        /* Exact where scales are powers of two; else the nearest whole number is what the simulation's double means. */
        double code = job->expected[start + i] / scale + t->zero_point;
        if (job->affine && fabs(code - rint(code)) < 1e-3) code = rint(code);
        double found = t->kind == OCT_INT8_SCORES ? (double)((const int32_t *)job->found)[start + i]
                       : t->is_signed             ? (double)((const int8_t *)job->found)[start + i]
                                                  : (double)((const uint8_t *)job->found)[start + i];
        differing += code != found;
    }
    job->differing[image] = differing;
    if (job->real) compare_rounding(job, start, n, &job->rounding[image]);
}

/* The values that the point of this tensor rounds, NULL where there is no such point. */
static const double *real_values(const oct_verifier *v, int tensor)
{
    const oct_node *n = v->graph->nodes[v->node_of[tensor]];
    if (oct_int8_model_rounding(v->model) == OCT_INT8_ROUND_SHIFT || n->op != &oct_op_fake_quant) return NULL;
    return oct_reference_value(v->reference, (oct_value){n->inputs[OCT_FQ_X]});
}

static void compare_tensor(void *user, int tensor, const void *data, int count)
{
    oct_verifier *v = user;
    if (v->node_of[tensor] < 0) return;
    const oct_int8_tensor *t = oct_int8_tensor_at(v->model, tensor);
    compare_job job = {v, t, oct_reference_value(v->reference, (oct_value){v->node_of[tensor]}), data, v->differing,
                       oct_int8_model_rounding(v->model) != OCT_INT8_ROUND_SHIFT, real_values(v, tensor), 0, 255,
                       v->rounding};
    if (!job.expected) {
        v->unmatched = t->name;
        return;
    }
    oct_parallel_for(v->ctx->threads, count, compare_image, &job);
    v->result.codes_compared += (int64_t)tensor_elements(t) * count;
    for (int i = 0; i < count; i++) {
        if (job.real) {
            v->result.rounding_compared += (int64_t)tensor_elements(t);
            v->result.rounding_differing += v->rounding[i].differing;
            if (v->rounding[i].most > v->result.rounding_most) v->result.rounding_most = v->rounding[i].most;
        }
        v->result.codes_differing += v->differing[i];
        if (tensor == oct_int8_output(v->model)) v->result.outputs_identical += v->differing[i] == 0;
        if (!v->differing[i] || v->result.first_tensor) continue;
        v->result.first_tensor = t->name;
        v->result.first_image = v->result.images + i;
    }
}

oct_status oct_verifier_create(oct_verifier **out, oct_graph *graph, oct_value image, oct_value logits,
                               const oct_int8_model *model, int batch)
{
    *out = NULL;
    oct_verifier *v = oct_calloc(1, sizeof *v);
    if (!v) return oct_out_of_memory(graph->ctx, "verify");
    *v = (oct_verifier){.graph = graph, .ctx = graph->ctx, .image = image, .logits = logits, .model = model, .batch = batch};
    v->chunk = chunk_images(graph, batch);
    oct_status status = match_tensors(v);
    if (status == OCT_OK) status = oct_reference_create(&v->reference, graph, v->chunk);
    if (status == OCT_OK) {
        v->scores = oct_calloc((size_t)v->chunk * (size_t)oct_int8_output_count(model), sizeof *v->scores);
        v->differing = oct_calloc((size_t)v->chunk, sizeof *v->differing);
        v->rounding = oct_calloc((size_t)v->chunk, sizeof *v->rounding);
        if (!v->scores || !v->differing || !v->rounding) status = oct_out_of_memory(graph->ctx, "verify");
    }
    if (status == OCT_OK)
        status = oct_int8_state_create(&v->state, model, v->chunk, graph->ctx->threads, &graph->ctx->error);
    if (status == OCT_OK) status = oct_int8_observe(v->state, compare_tensor, v, &graph->ctx->error);
    if (status != OCT_OK) {
        oct_verifier_destroy(v);
        return status;
    }
    *out = v;
    return OCT_OK;
}

void oct_verifier_destroy(oct_verifier *v)
{
    if (!v) return;
    oct_int8_state_destroy(v->state);
    oct_reference_destroy(v->reference);
    oct_free(v->node_of);
    oct_free(v->scores);
    oct_free(v->differing);
    oct_free(v->rounding);
    oct_free(v);
}

static oct_status add_chunk(oct_verifier *v, const uint8_t *pixels, int count)
{
    double *x = oct_reference_input(v->reference, v->image);
    size_t n = (size_t)count * oct_shape_sample(&oct_graph_node(v->graph, v->image)->shape);
    for (size_t i = 0; i < n; i++) x[i] = pixels[i];
    OCT_TRY(oct_reference_set_batch(v->reference, count));
    const oct_run run = {.mode = OCT_EVAL};
    OCT_TRY(oct_reference_forward(v->reference, &run, v->logits));
    if (oct_int8_run(v->state, pixels, count, v->scores) != OCT_OK)
        return oct_fail(&v->ctx->error, OCT_ERR_STATE, "verify: %s", oct_int8_state_error(v->state));
    if (v->unmatched)
        return oct_fail(&v->ctx->error, OCT_ERR_SHAPE, "verify: the graph's output does not depend on '%s'", v->unmatched);
    v->result.images += count;
    return OCT_OK;
}

oct_status oct_verifier_add(oct_verifier *v, const uint8_t *pixels, int count)
{
    if (count < 1 || count > v->batch)
        return oct_fail(&v->ctx->error, OCT_ERR_ARGUMENT, "verify: %d images, expected 1..%d", count, v->batch);
    size_t image = oct_shape_sample(&oct_graph_node(v->graph, v->image)->shape);
    for (int done = 0; done < count; done += v->chunk) {
        int here = count - done < v->chunk ? count - done : v->chunk;
        OCT_TRY(add_chunk(v, pixels + (size_t)done * image, here));
    }
    return OCT_OK;
}

const oct_verify_result *oct_verifier_result(const oct_verifier *v)
{
    return &v->result;
}
