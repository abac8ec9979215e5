/* SPDX-License-Identifier: BSD-2-Clause
 * Batch norm's statistics after the weights have been changed (quant/ptq/bias.h). */
#include <math.h>

#include "autograd/base/memory.h"
#include "quant/copy.h"
#include "quant/ptq/bias.h"

typedef struct moments {
    double *sum, *square; /* of each channel */
    int64_t rows;
} moments;

typedef struct job {
    oct_ptq_net *net;
    oct_graph *twin;
    oct_tap *tap;
    oct_value *values;  /* outputs of the convolutions themselves */
    moments *moments;
    double *block;
} job;

static oct_status open_job(job *j)
{
    const oct_ptq_net *net = j->net;
    size_t channels = 0, used = 0;
    for (int i = 0; i < net->layer_count; i++) channels += (size_t)net->layers[i].outputs;
    j->values = oct_calloc((size_t)net->layer_count, sizeof *j->values);
    j->moments = oct_calloc((size_t)net->layer_count, sizeof *j->moments);
    j->block = oct_calloc(2 * channels, sizeof *j->block);
    if (!j->values || !j->moments || !j->block) return oct_out_of_memory(net->graph->ctx, "statistics of batch norm");
    for (int i = 0; i < net->layer_count; i++) {
        j->values[i] = net->layers[i].layer;
        j->moments[i] = (moments){j->block + used, j->block + channels + used, 0};
        used += (size_t)net->layers[i].outputs;
    }
    OCT_TRY(oct_ptq_float_twin(&j->twin, net));
    return oct_tap_create(&j->tap, j->twin, net->image, j->values, net->layer_count);
}

static oct_status measure(job *j, const oct_ptq_images *images, int64_t batch)
{
    OCT_TRY(oct_tap_run(j->tap, images, batch));
    for (int i = 0; i < j->net->layer_count; i++) {
        size_t n, channels = (size_t)j->net->layers[i].outputs;
        const float *x = oct_tap_floats(j->tap, i, &n);
        moments *m = &j->moments[i];
        if (!x) return oct_out_of_memory(j->net->graph->ctx, "statistics of batch norm");
        for (size_t k = 0; k < n; k += channels)
            for (size_t c = 0; c < channels; c++) {
                m->sum[c] += (double)x[k + c];
                m->square[c] += (double)x[k + c] * (double)x[k + c];
            }
        m->rows += (int64_t)(n / channels);
    }
    return OCT_OK;
}

static void set_norm(oct_graph *g, const oct_ptq_layer *l, const moments *m)
{
    const oct_node *norm = oct_graph_node(g, l->norm);
    double eps = (double)((const oct_batch_norm_fold_attrs *)norm->attrs)->eps, rows = (double)m->rows;
    float *gamma = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_GAMMA]}, NULL);
    float *beta = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_BETA]}, NULL);
    float *mean = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_MEAN]}, NULL);
    float *var = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_VAR]}, NULL);
    for (int c = 0; c < l->outputs; c++) {
        double mu = m->sum[c] / rows;
        mean[c] = (float)mu;
        var[c] = (float)fmax(m->square[c] / rows - mu * mu, 0);
        double sigma = sqrt((double)var[c] + eps);
        gamma[c] = (float)sigma;
        if ((double)gamma[c] > sigma) gamma[c] = nextafterf(gamma[c], 0); /* s <= 1, as in oct_ptq_merge_norms */
        beta[c] = (float)((double)beta[c] + (double)mean[c]);
    }
}

oct_status oct_ptq_restore_norms(oct_ptq_net *net, const oct_ptq_images *images, const oct_ptq_progress *progress)
{
    job j = {.net = net};
    int64_t batches = oct_ptq_batches(images);
    oct_status status = open_job(&j);
    for (int64_t b = 0; b < batches && status == OCT_OK; b++) {
        status = measure(&j, images, b);
        if (status == OCT_OK) status = oct_ptq_step(progress, b + 1, batches);
    }
    for (int i = 0; i < net->layer_count && status == OCT_OK; i++)
        if (net->layers[i].norm.id >= 0) set_norm(net->graph, &net->layers[i], &j.moments[i]);
    oct_tap_destroy(j.tap);
    oct_graph_destroy(j.twin);
    oct_free(j.values);
    oct_free(j.moments);
    oct_free(j.block);
    return status;
}
