/* SPDX-License-Identifier: BSD-2-Clause
 * Accuracy with one row quantized, and with all but one (train/analysis.h). */
#include <math.h>

#include "autograd/base/memory.h"
#include "quant/copy.h"
#include "train/analysis.h"

typedef struct job {
    oct_analysis *analysis;
    oct_ptq_net net; /* of a copy with batch norm merged */
    const oct_image_set *set;
    bool *points, *layers; /* which are quantized */
} job;

static oct_status measure(job *j, double *top1)
{
    oct_graph *simulation;
    OCT_TRY(oct_ptq_simulation(&simulation, &j->net, j->points));
    oct_status status = OCT_OK;
    for (int i = 0; i < j->net.layer_count && status == OCT_OK; i++)
        if (j->layers[i]) status = oct_ptq_write_weights(simulation, &j->net, &j->net.layers[i]);
    if (status == OCT_OK)
        status = oct_image_set_top1(top1, simulation, j->net.image, j->net.logits, j->set, NULL);
    oct_graph_destroy(simulation);
    return status;
}

static void set_all(job *j, bool quantized)
{
    for (int i = 0; i < j->net.point_count; i++) j->points[i] = quantized;
    for (int i = 0; i < j->net.layer_count; i++) j->layers[i] = quantized;
}

static void set_row(job *j, const oct_analysis_row *r, bool quantized)
{
    if (r->point >= 0) j->points[r->point] = quantized;
    if (r->layer >= 0) j->layers[r->layer] = quantized;
}

static oct_status measure_rows(job *j, const oct_ptq_progress *progress)
{
    int rows = j->analysis->count;
    set_all(j, false);
    OCT_TRY(measure(j, &j->analysis->top1_simulated_float));
    for (int i = 0; i < rows; i++) {
        oct_analysis_row *r = &j->analysis->rows[i];
        set_all(j, false);
        set_row(j, r, true);
        OCT_TRY(measure(j, &r->only_this));
        set_all(j, true);
        set_row(j, r, false);
        OCT_TRY(measure(j, &r->all_but_this));
        OCT_TRY(oct_ptq_step(progress, i + 1, rows));
    }
    return OCT_OK;
}

oct_status oct_analysis_sensitivity(oct_analysis *analysis, const oct_ptq_net *net, const oct_image_set *set,
                                    const oct_ptq_progress *progress)
{
    oct_graph *merged;
    job j = {.analysis = analysis, .set = set};
    OCT_TRY(oct_graph_copy(&merged, net->graph));
    oct_status status = oct_ptq_net_open(&j.net, merged, net->image, net->logits);
    if (status == OCT_OK) {
        oct_ptq_merge_norms(&j.net);
        j.points = oct_calloc((size_t)j.net.point_count, sizeof *j.points);
        j.layers = oct_calloc((size_t)j.net.layer_count, sizeof *j.layers);
        status = j.points && j.layers ? measure_rows(&j, progress) : oct_out_of_memory(net->graph->ctx, "sensitivity");
    }
    oct_free(j.points);
    oct_free(j.layers);
    oct_ptq_net_close(&j.net);
    oct_graph_destroy(merged);
    return status;
}
