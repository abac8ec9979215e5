/* SPDX-License-Identifier: BSD-2-Clause
 * softmax_cross_entropy and mean_squared_error: scalar losses. All arithmetic is in double; partial sums
 * belong to a fixed number of samples or elements and are added in order.
 */
#include "autograd/ops_internal.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/par.h"

/* --- softmax_cross_entropy --- */

static oct_status cross_entropy_infer(const oct_graph *graph, oct_node *node)
{
    const oct_cross_entropy_attrs *a = (const oct_cross_entropy_attrs *)node->attrs;
    if (!(a->smoothing >= 0.0f && a->smoothing < 1.0f)) {
        return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT, "smoothing is %g, expected 0 <= smoothing < 1",
                             (double)a->smoothing);
    }
    OCT_TRY(oct_rule_rank(graph, node, 0, "x", 2, "[N,K]"));
    const oct_node *label = oct_node_input(graph, node, 1);
    if (label->dtype != OCT_I32 || label->shape.rank != 1 || label->shape.dim[0] != OCT_BATCH) {
        char found[OCT_SHAPE_TEXT];
        return oct_rule_fail(graph, node, OCT_ERR_SHAPE,
                             "input 1 (label '%s') has shape %s%s, expected [N] of i32", label->name,
                             oct_shape_text(found, &label->shape),
                             label->dtype == OCT_I32 ? "" : " and other elements than i32");
    }
    return oct_rule_output(graph, node, (oct_shape){.rank = 0});
}

enum { LOSS_SAMPLES = 16 /* samples that share a partial sum */ };

typedef struct entropy_job {
    const float *x;
    const int32_t *label;
    float *dx;
    double *partial; /* per item */
    double *saved;   /* log of the sum of exponentials per sample; NULL when no backward will come */
    size_t batch, classes;
    double smoothing, scale;
    int32_t ignore;
    int accumulate;
} entropy_job;

static entropy_job make_entropy_job(const oct_step *step)
{
    const oct_cross_entropy_attrs *a = (const oct_cross_entropy_attrs *)step->node->attrs;
    return (entropy_job){.x = (const float *)step->in[0]->data,
                         .label = (const int32_t *)step->in[1]->data,
                         .batch = (size_t)step->batch,
                         .classes = (size_t)oct_last_dim(oct_node_input(step->graph, step->node, 0)),
                         .smoothing = (double)a->smoothing,
                         .ignore = a->ignore};
}

static size_t labelled_samples(const entropy_job *job)
{
    size_t count = 0;
    for (size_t n = 0; n < job->batch; n++) count += job->label[n] != job->ignore;
    return count;
}

static size_t item_end(const entropy_job *job, int64_t item)
{
    size_t end = ((size_t)item + 1) * LOSS_SAMPLES;
    return end < job->batch ? end : job->batch;
}

/* Loss of one sample: with weights t that sum to 1,  -sum t_k log softmax(x)_k = log sum exp(x) - sum t_k
 * x_k. */
static double sample_loss(const entropy_job *job, size_t n)
{
    const float *x = job->x + n * job->classes;
    double largest = (double)x[0], total = 0.0, all = 0.0;
    for (size_t k = 1; k < job->classes; k++) {
        if ((double)x[k] > largest) largest = (double)x[k];
    }
    for (size_t k = 0; k < job->classes; k++) {
        total += exp((double)x[k] - largest);
        all += (double)x[k] - largest;
    }
    double own = (double)x[job->label[n]] - largest;
    if (job->saved) job->saved[n] = largest + log(total);
    return log(total) - (1.0 - job->smoothing) * own - job->smoothing / (double)job->classes * all;
}

static void entropy_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const entropy_job *job = (const entropy_job *)arg;
    double sum = 0.0;
    for (size_t n = (size_t)item * LOSS_SAMPLES; n < item_end(job, item); n++) {
        if (job->label[n] != job->ignore) sum += sample_loss(job, n);
    }
    job->partial[item] = sum;
}

static int64_t entropy_items(size_t batch)
{
    return (int64_t)((batch + LOSS_SAMPLES - 1) / LOSS_SAMPLES);
}

static oct_status cross_entropy_forward(oct_step *step)
{
    entropy_job job = make_entropy_job(step);
    for (size_t n = 0; n < job.batch; n++) {
        int32_t label = job.label[n];
        if (label != job.ignore && (label < 0 || (size_t)label >= job.classes)) {
            return oct_rule_fail(step->graph, step->node, OCT_ERR_ARGUMENT,
                                 "label of sample %zu is %d, expected 0..%zu or %d (ignored)", n, label,
                                 job.classes - 1, job.ignore);
        }
    }
    job.partial = (double *)step->scratch;
    job.saved = step->run->mode == OCT_TRAIN ? (double *)step->saved : NULL;
    oct_parallel_for(step->ctx->threads, entropy_items(job.batch), entropy_item, &job);
    double sum = 0.0;
    for (int64_t i = 0; i < entropy_items(job.batch); i++) sum += job.partial[i];
    size_t count = labelled_samples(&job);
    *(float *)step->out->data = count ? (float)(sum / (double)count) : 0.0f;
    return OCT_OK;
}

/* dx = (softmax(x) - t) * scale. */
static void entropy_backward_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const entropy_job *job = (const entropy_job *)arg;
    double spread = job->smoothing / (double)job->classes;
    for (size_t n = (size_t)item * LOSS_SAMPLES; n < item_end(job, item); n++) {
        const float *x = job->x + n * job->classes;
        float *dx = job->dx + n * job->classes;
        bool ignored = job->label[n] == job->ignore;
        for (size_t k = 0; k < job->classes; k++) {
            double t = spread + ((int64_t)k == job->label[n] ? 1.0 - job->smoothing : 0.0);
            float d = ignored ? 0.0f : (float)((exp((double)x[k] - job->saved[n]) - t) * job->scale);
            dx[k] = job->accumulate ? dx[k] + d : d;
        }
    }
}

static oct_status cross_entropy_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    entropy_job job = make_entropy_job(step);
    size_t count = labelled_samples(&job);
    job.saved = (double *)step->saved;
    job.dx = (float *)step->d_in[0]->data;
    job.accumulate = step->accumulate[0];
    job.scale = (double)*(const float *)step->d_out->data / (double)(count ? count : 1);
    oct_parallel_for(step->ctx->threads, entropy_items(job.batch), entropy_backward_item, &job);
    return OCT_OK;
}

static size_t entropy_saved(const oct_graph *graph, const oct_unit *unit, int batch, int threads)
{
    (void)graph;
    (void)unit;
    (void)threads;
    return (size_t)batch * sizeof(double);
}

static size_t entropy_scratch(const oct_graph *graph, const oct_unit *unit, int batch, int threads,
                              bool backward)
{
    (void)graph;
    (void)unit;
    (void)threads;
    return backward ? 0 : (size_t)entropy_items((size_t)batch) * sizeof(double);
}

/* Softmax of sample n into p. */
static void reference_softmax(const oct_ref *ref, size_t n, size_t classes, size_t k, double *p,
                              double *log_p)
{
    const double *x = ref->in[0] + n * classes;
    double largest = x[0], total = 0.0;
    for (size_t j = 0; j < classes; j++) largest = fmax(largest, x[j]);
    for (size_t j = 0; j < classes; j++) total += exp(x[j] - largest);
    *log_p = x[k] - largest - log(total);
    *p = exp(*log_p);
}

/* Visits every (sample, class): adds to the loss, or to dx when `factor` is the gradient of the sum. */
static double reference_entropy(oct_ref *ref, double *dx, double factor, size_t *count)
{
    const oct_cross_entropy_attrs *a = (const oct_cross_entropy_attrs *)ref->node->attrs;
    size_t classes = (size_t)oct_last_dim(ref->in_node[0]);
    double sum = 0.0;
    *count = 0;
    for (size_t n = 0; n < (size_t)ref->batch; n++) {
        int32_t label = (int32_t)ref->in[1][n];
        if (label == a->ignore) continue;
        ++*count;
        for (size_t k = 0; k < classes; k++) {
            double p, log_p, t = (double)a->smoothing / (double)classes;
            if ((int64_t)k == label) t += 1.0 - (double)a->smoothing;
            reference_softmax(ref, n, classes, k, &p, &log_p);
            sum -= t * log_p;
            if (dx) dx[n * classes + k] += (p - t) * factor;
        }
    }
    return sum;
}

static oct_status cross_entropy_reference_forward(oct_ref *ref)
{
    size_t count;
    double sum = reference_entropy(ref, NULL, 0.0, &count);
    ref->out[0] = count ? sum / (double)count : 0.0;
    return OCT_OK;
}

static oct_status cross_entropy_reference_backward(oct_ref *ref)
{
    if (!ref->d_in[0]) return OCT_OK;
    size_t count;
    reference_entropy(ref, NULL, 0.0, &count);
    if (count) reference_entropy(ref, ref->d_in[0], ref->d_out[0] / (double)count, &count);
    return OCT_OK;
}

static const oct_attr cross_entropy_attrs[] = {
    {"smoothing", OCT_ATTR_FLOAT, offsetof(oct_cross_entropy_attrs, smoothing), 1},
    {"ignore", OCT_ATTR_INT, offsetof(oct_cross_entropy_attrs, ignore), 1},
};

const oct_op oct_op_softmax_cross_entropy = {
    .name = "softmax_cross_entropy",
    .equation = "loss = mean over labelled samples of -sum_k t_k log softmax(x)_k, "
                "t = (1-smoothing)*onehot + smoothing/K",
    .attr_bytes = sizeof(oct_cross_entropy_attrs),
    .attrs = cross_entropy_attrs,
    .attr_count = sizeof cross_entropy_attrs / sizeof cross_entropy_attrs[0],
    .min_inputs = 2,
    .max_inputs = 2,
    .no_gradient = 1u << 1,
    .infer = cross_entropy_infer,
    .exec = {.name = "softmax_cross_entropy",
             .forward = cross_entropy_forward,
             .backward = cross_entropy_backward,
             .backward_reads = OCT_READS_INPUT(0) | OCT_READS_INPUT(1),
             .saved_bytes = entropy_saved,
             .scratch_bytes = entropy_scratch},
    .reference = {.forward = cross_entropy_reference_forward, .backward = cross_entropy_reference_backward},
};

/* --- mean_squared_error --- */

static oct_status squared_infer(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_float(graph, node, 0, "x"));
    OCT_TRY(oct_rule_shape(graph, node, 1, "target", oct_node_input(graph, node, 0)->shape));
    return oct_rule_output(graph, node, (oct_shape){.rank = 0});
}

typedef struct squared_job {
    const float *x, *target;
    float *dx[2];
    int accumulate[2];
    double *partial;
    size_t n;
    double scale;
} squared_job;

static squared_job make_squared_job(const oct_step *step)
{
    return (squared_job){.x = (const float *)step->in[0]->data,
                         .target = (const float *)step->in[1]->data,
                         .n = oct_node_elements(oct_node_input(step->graph, step->node, 0), step->batch),
                         .partial = (double *)step->scratch};
}

static void squared_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const squared_job *job = (const squared_job *)arg;
    size_t at = (size_t)item * OCT_FLAT_ITEM, n = oct_flat_count(job->n, item);
    double sum = 0.0;
    for (size_t i = at; i < at + n; i++) {
        double d = (double)job->x[i] - (double)job->target[i];
        sum += d * d;
    }
    job->partial[item] = sum;
}

static oct_status squared_forward(oct_step *step)
{
    squared_job job = make_squared_job(step);
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), squared_item, &job);
    double sum = 0.0;
    for (int64_t i = 0; i < oct_flat_items(job.n); i++) sum += job.partial[i];
    *(float *)step->out->data = (float)(sum / (double)job.n);
    return OCT_OK;
}

/* d/dx = 2*(x - target)/n, d/dtarget the opposite. */
static void squared_backward_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const squared_job *job = (const squared_job *)arg;
    size_t at = (size_t)item * OCT_FLAT_ITEM, n = oct_flat_count(job->n, item);
    for (int k = 0; k < 2; k++) {
        float *dx = job->dx[k];
        double scale = k ? -job->scale : job->scale;
        for (size_t i = at; dx && i < at + n; i++) {
            float d = (float)(scale * ((double)job->x[i] - (double)job->target[i]));
            dx[i] = job->accumulate[k] ? dx[i] + d : d;
        }
    }
}

static oct_status squared_backward(oct_step *step)
{
    squared_job job = make_squared_job(step);
    for (int k = 0; k < 2; k++) {
        job.dx[k] = step->d_in[k] ? (float *)step->d_in[k]->data : NULL;
        job.accumulate[k] = step->accumulate[k];
    }
    job.scale = 2.0 * (double)*(const float *)step->d_out->data / (double)job.n;
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), squared_backward_item, &job);
    return OCT_OK;
}

static size_t squared_scratch(const oct_graph *graph, const oct_unit *unit, int batch, int threads,
                              bool backward)
{
    (void)threads;
    size_t n = oct_node_elements(oct_node_input(graph, oct_unit_node(graph, unit), 0), batch);
    return backward ? 0 : (size_t)oct_flat_items(n) * sizeof(double);
}

static oct_status squared_reference_forward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->in_node[0], ref->batch);
    double sum = 0.0;
    for (size_t e = 0; e < n; e++) sum += (ref->in[0][e] - ref->in[1][e]) * (ref->in[0][e] - ref->in[1][e]);
    ref->out[0] = sum / (double)n;
    return OCT_OK;
}

static oct_status squared_reference_backward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->in_node[0], ref->batch);
    for (size_t e = 0; e < n; e++) {
        double d = ref->d_out[0] * 2.0 * (ref->in[0][e] - ref->in[1][e]) / (double)n;
        if (ref->d_in[0]) ref->d_in[0][e] += d;
        if (ref->d_in[1]) ref->d_in[1][e] -= d;
    }
    return OCT_OK;
}

const oct_op oct_op_mean_squared_error = {
    .name = "mean_squared_error",
    .equation = "loss = mean of (x - target)^2",
    .min_inputs = 2,
    .max_inputs = 2,
    .infer = squared_infer,
    .exec = {.name = "mean_squared_error",
             .forward = squared_forward,
             .backward = squared_backward,
             .backward_reads = OCT_READS_INPUT(0) | OCT_READS_INPUT(1),
             .scratch_bytes = squared_scratch},
    .reference = {.forward = squared_reference_forward, .backward = squared_reference_backward},
};
