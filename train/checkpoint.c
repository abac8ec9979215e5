/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "layers/import/onnx.h"
#include "quant/ops.h"

static const char slot[] = "velocity";

/* The members of oct_train_progress that are integers, by their name in the file. */
typedef struct progress_field {
    const char *key;
    size_t offset;
} progress_field;
static const progress_field fields[] = {
    {"epoch", offsetof(oct_train_progress, epoch)},
    {"batch", offsetof(oct_train_progress, batch)},
    {"step", offsetof(oct_train_progress, step)},
    {"batches", offsetof(oct_train_progress, batches)},
    {"correct", offsetof(oct_train_progress, correct)},
    {"images", offsetof(oct_train_progress, images)},
    {"best_epoch", offsetof(oct_train_progress, best_epoch)},
    {"metrics_bytes", offsetof(oct_train_progress, metrics_bytes)},
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static oct_status set_text(oct_state *state, const char *key, const char *value, oct_error *error)
{
    return value ? oct_state_set_text(state, key, value, error) : OCT_OK;
}

static oct_status fill(oct_state *state, const oct_graph *graph, const float *velocity,
                       const oct_checkpoint_info *info, const oct_train_progress *progress, oct_error *error)
{
    OCT_TRY(oct_state_set_graph(state, graph, error));
    if (velocity) OCT_TRY(oct_state_set_slot(state, slot, graph, velocity, error));
    if (info->classes) OCT_TRY(oct_state_set_classes(state, info->classes, info->class_count, error));
    OCT_TRY(set_text(state, "model", info->model, error));
    OCT_TRY(set_text(state, "options", info->options, error));
    OCT_TRY(set_text(state, "augment", info->augment, error));
    if (info->fit.resize) {
        OCT_TRY(oct_state_set_integer(state, "resize", info->fit.resize, error));
        OCT_TRY(set_text(state, "interpolation", oct_filter_name(info->fit.filter), error));
    }
    OCT_TRY(set_text(state, "quantize", info->quantize, error));
    if (!progress) return OCT_OK;
    for (int i = 0; i < FIELDS; i++) {
        int64_t value;
        memcpy(&value, (const char *)progress + fields[i].offset, sizeof value);
        OCT_TRY(oct_state_set_integer(state, fields[i].key, value, error));
    }
    OCT_TRY(oct_state_set_number(state, "loss_sum", progress->loss_sum, error));
    return oct_state_set_number(state, "best_top1", progress->best_top1, error);
}

oct_status oct_checkpoint_write(const char *path, const oct_graph *graph, const float *velocity,
                                const oct_checkpoint_info *info, const oct_train_progress *progress,
                                oct_error *error)
{
    oct_state *state;
    OCT_TRY(oct_state_create(&state, error));
    oct_status status = fill(state, graph, velocity, info, progress, error);
    if (status == OCT_OK) status = oct_state_write(path, state, error);
    oct_state_destroy(state);
    return status;
}

static bool read_progress(const oct_state *state, oct_train_progress *progress)
{
    for (int i = 0; i < FIELDS; i++) {
        int64_t value;
        if (!oct_state_get_integer(state, fields[i].key, &value) || value < 0) return false;
        memcpy((char *)progress + fields[i].offset, &value, sizeof value);
    }
    return oct_state_get_number(state, "loss_sum", &progress->loss_sum) && isfinite(progress->loss_sum) &&
           oct_state_get_number(state, "best_top1", &progress->best_top1) && isfinite(progress->best_top1);
}

static const char *get_text(const oct_state *state, const char *key)
{
    const char *text = NULL;
    return oct_state_get_text(state, key, &text) ? text : NULL;
}

/* Files without the two were written before they existed. */
static oct_status read_fit(oct_checkpoint *c, const char *path, oct_error *error)
{
    int64_t resize = 0;
    const char *name = get_text(c->state, "interpolation");
    if (oct_state_get_integer(c->state, "resize", &resize)) {
        if (resize != OCT_RESIZE_SQUASH && (resize < 1 || resize > 1 << 15))
            return oct_fail(error, OCT_ERR_FORMAT, "%s: resize: expected -1 or 1..32768, found %lld", path,
                            (long long)resize);
        c->info.fit.resize = (int)resize;
    }
    if (!name || oct_filter_parse(&c->info.fit.filter, name, NULL) == OCT_OK) return OCT_OK;
    return oct_fail(error, OCT_ERR_FORMAT, "%s: interpolation: expected bilinear or bicubic, found \"%.40s\"", path,
                    name);
}

static oct_status read_classes(oct_checkpoint *c, oct_ctx *ctx)
{
    int count = oct_state_class_count(c->state);
    if (!count) return OCT_OK;
    c->classes = oct_calloc((size_t)count, sizeof *c->classes);
    if (!c->classes) return oct_out_of_memory(ctx, "class names");
    for (int i = 0; i < count; i++) c->classes[i] = oct_state_class_name(c->state, i);
    c->info.classes = c->classes;
    c->info.class_count = count;
    return OCT_OK;
}

static oct_status read_all(oct_checkpoint *c, const char *path, oct_ctx *ctx)
{
    OCT_TRY(oct_state_read(&c->state, path, &ctx->error));
    OCT_TRY(oct_state_make_graph(&c->graph, c->state, ctx, oct_quant_op_find));
    OCT_TRY(oct_graph_add_fuser(c->graph, &oct_quant_fuser));
    if (oct_model_find(&c->model, c->graph) != OCT_OK) {
        char reason[OCT_ERROR_BYTES];
        snprintf(reason, sizeof reason, "%.700s", ctx->error.message);
        oct_error_clear(&ctx->error);
        return oct_fail(&ctx->error, OCT_ERR_FORMAT, "%.256s: not an image classifier: %s", path, reason);
    }
    c->info.model = get_text(c->state, "model");
    c->info.options = get_text(c->state, "options");
    c->info.augment = get_text(c->state, "augment");
    c->info.quantize = get_text(c->state, "quantize");
    OCT_TRY(read_fit(c, path, &ctx->error));
    c->resumable = read_progress(c->state, &c->progress);
    return read_classes(c, ctx);
}

oct_status oct_checkpoint_read(oct_checkpoint *out, const char *path, oct_ctx *ctx)
{
    *out = (oct_checkpoint){0};
    oct_status status = read_all(out, path, ctx);
    if (status != OCT_OK) oct_checkpoint_release(out);
    return status;
}

bool oct_checkpoint_is_foreign(const char *path)
{
    return oct_onnx_probe(path) || oct_keras_probe(path) != OCT_KERAS_NONE;
}

static oct_status import_all(oct_checkpoint *c, const char *path, const oct_network_options *options, oct_ctx *ctx)
{
    bool onnx = oct_onnx_probe(path);
    c->info.model = onnx ? "onnx" : "keras";
    OCT_TRY(oct_graph_create(&c->graph, ctx, 0));
    OCT_TRY(oct_graph_add_fuser(c->graph, &oct_quant_fuser));
    return (onnx ? oct_onnx_build : oct_keras_build)(&c->model, c->graph, path, options);
}

oct_status oct_checkpoint_import(oct_checkpoint *out, const char *path, const oct_network_options *options, oct_ctx *ctx)
{
    *out = (oct_checkpoint){0};
    oct_status status = import_all(out, path, options, ctx);
    if (status != OCT_OK) oct_checkpoint_release(out);
    return status;
}

oct_graph *oct_checkpoint_take_graph(oct_checkpoint *c)
{
    oct_graph *graph = c->graph;
    c->graph = NULL;
    return graph;
}

oct_status oct_checkpoint_velocity(const oct_checkpoint *c, const oct_graph *graph, float *velocity,
                                   oct_error *error)
{
    oct_state_report report;
    oct_state_load_slot(c->state, slot, graph, velocity, &report);
    return oct_state_report_status(&report, "optimizer state", error);
}

void oct_checkpoint_release(oct_checkpoint *c)
{
    oct_graph_destroy(c->graph);
    oct_state_destroy(c->state);
    oct_free(c->classes);
    *c = (oct_checkpoint){0};
}
