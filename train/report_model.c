/* SPDX-License-Identifier: BSD-2-Clause
 * The page of a model (train/report_page.h). */
#include "train/report_page.h"

typedef struct material {
    oct_image_set set;
    oct_ptq_net net;
    oct_graph *twin;
    oct_analysis analysis;
} material;

static oct_status analyse(material *m, oct_graph *graph, const oct_model *model, oct_graph *base, oct_loader *loader)
{
    OCT_TRY(oct_image_set_load(&m->set, graph->ctx, loader));
    OCT_TRY(oct_ptq_net_open(&m->net, graph, model->image, model->logits));
    if (!base) OCT_TRY(oct_ptq_float_twin(&m->twin, &m->net));
    return oct_analysis_run(&m->analysis, base ? base : m->twin, &m->net, &m->set, NULL);
}

oct_status oct_report_model(const char *path, oct_report *report, oct_graph *graph, const oct_model *model, oct_graph *base,
                            oct_loader *loader)
{
    material m = {0};
    oct_status status = OCT_OK;
    bool wanted = loader && oct_quantize_points(graph) && !oct_quantize_unobserved(graph);
    report->analysis = NULL;
    if (wanted) status = analyse(&m, graph, model, base, loader);
    if (wanted) report->analysis = &m.analysis;
    if (status == OCT_OK) status = oct_report_write(path, report, &graph->ctx->error);
    report->analysis = NULL;
    oct_analysis_release(&m.analysis);
    oct_ptq_net_close(&m.net);
    oct_graph_destroy(m.twin);
    oct_image_set_release(&m.set);
    return status;
}
