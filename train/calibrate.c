/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/calibrate.h"

#include <math.h>

#include "quant/quantize.h"
#include "train/numeric.h"

static oct_status observe(oct_plan *plan, oct_graph *graph, const oct_model *model, const oct_batch *batch,
                          uint64_t seed, int64_t step)
{
    oct_run run = {
        .mode = OCT_TRAIN, .bn_frozen = 1, .range_frozen = 0, .seed = seed, .step = (uint64_t)step};
    oct_plan_bind(plan, model->image, batch->images);
    if (model->task == OCT_CLASSIFY) oct_plan_bind(plan, model->label, batch->labels);
    OCT_TRY(oct_plan_forward(plan, &run, batch->count));
    float loss = *(const float *)oct_plan_tensor(plan, model->loss)->data;
    return isfinite(loss)
               ? OCT_OK
               : oct_numeric_explain(plan, graph, &run, batch->count, "calibration: the loss is not finite");
}

static oct_status observe_all(oct_plan *plan, oct_graph *graph, const oct_model *model, oct_loader *loader,
                              int64_t batches, uint64_t seed, oct_calibrate_progress *progress, void *user)
{
    uint64_t epoch = 0;
    int64_t epoch_start = -1; /* `done` when the epoch began */
    OCT_TRY(oct_loader_start(loader, epoch, 0));
    for (int64_t done = 0; done < batches;) {
        oct_batch batch;
        oct_status status = oct_loader_next(loader, &batch);
        if (status == OCT_END) {
            if (epoch_start == done)
                return oct_fail(&graph->ctx->error, OCT_ERR_FORMAT,
                                "calibration: the data set gives no readable image");
            epoch_start = done;
            OCT_TRY(oct_loader_start(loader, ++epoch, 0));
            continue;
        }
        OCT_TRY(status);
        OCT_TRY(observe(plan, graph, model, &batch, seed, done));
        done++;
        if (progress) OCT_TRY(progress(user, done, batches));
    }
    return OCT_OK;
}

oct_status oct_calibrate(oct_graph *graph, const oct_model *model, oct_loader *loader, int64_t batches,
                         uint64_t seed, bool again, oct_calibrate_progress *progress, void *user)
{
    if (!oct_quantize_points(graph) || (!again && !oct_quantize_unobserved(graph))) return OCT_OK;
    oct_plan_options options = {.batch = oct_loader_batch_size(loader),
                                .mode = OCT_TRAIN,
                                .outputs = (oct_value[]){model->loss, model->logits},
                                .output_count = 2};
    oct_plan *plan;
    OCT_TRY(oct_plan_create(&plan, graph, &options));
    oct_status status = observe_all(plan, graph, model, loader, batches, seed, progress, user);
    oct_plan_destroy(plan);
    return status;
}
