/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/model_file.h"

#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "quant/export.h"
#include "quant/int8/image.h"
#include "quant/int8_file.h"
#include "quant/quantize.h"

const char *oct_model_kind_name(oct_model_kind kind)
{
    static const char *const names[] = {"float", "quantized", "int8"};
    return (unsigned)kind < 3 ? names[kind] : "?";
}

/* In an int8 model 0 stands for OCT_RESIZE_SQUASH. */
static oct_fit fit_of_int8(const oct_int8_model *model, int size)
{
    int resize = oct_int8_resize(model);
    oct_fit fit = {.resize = !resize ? OCT_RESIZE_SQUASH : resize < size ? size : resize};
    if (oct_filter_parse(&fit.filter, oct_int8_interpolation(model), NULL) != OCT_OK) fit.filter = OCT_FILTER_BILINEAR;
    return fit;
}

static oct_status open_int8(oct_model_file *f, const char *path)
{
    uint8_t *bytes;
    oct_error *error = &f->ctx->error;
    OCT_TRY(oct_int8_file_read(&bytes, &f->int8_bytes, path, error));
    oct_int8_options options = {.cpu_mask = &f->ctx->cpu_mask};
    oct_status status = oct_int8_open(&f->int8, bytes, f->int8_bytes, &options, error);
    oct_free(bytes);
    OCT_TRY(status);
    const oct_int8_tensor *input = oct_int8_tensor_at(f->int8, oct_int8_input(f->int8));
    f->kind = OCT_MODEL_INT8;
    f->height = input->height;
    f->width = input->width;
    f->channels = input->channels;
    f->classes = oct_int8_output_count(f->int8);
    f->fit = fit_of_int8(f->int8, f->height);
    f->augment = f->fit.resize > f->height ? OCT_AUGMENT_IMAGENET : OCT_AUGMENT_NONE;
    return OCT_OK;
}

/* Of the graph that was read. */
static oct_status describe_graph(oct_model_file *f)
{
    const oct_checkpoint *c = &f->checkpoint;
    const oct_node *image = oct_graph_node(c->graph, c->model.image),
                   *head = oct_graph_node(c->graph, c->model.logits);
    f->kind = oct_quantize_points(c->graph) ? OCT_MODEL_QUANTIZED : OCT_MODEL_FLOAT;
    f->height = image->shape.dim[1];
    f->width = image->shape.dim[2];
    f->channels = image->shape.dim[3];
    f->classes = (int)oct_shape_sample(&head->shape);
    f->augment = OCT_AUGMENT_NONE;
    if (c->info.augment) OCT_TRY(oct_augment_parse(&f->augment, c->info.augment, &f->ctx->error));
    f->fit = c->info.fit;
    f->fit.resize = oct_fit_side(&f->fit, f->augment, f->height);
    return OCT_OK;
}

/* Files of weights alone are told by what they begin with: none of ours, and no HDF5 file. */
static oct_status refuse_weights_alone(oct_model_file *f, const char *path)
{
    oct_weights_kind kind;
    OCT_TRY(oct_weights_probe(&kind, path, &f->ctx->error));
    if (kind != OCT_WEIGHTS_PTH && kind != OCT_WEIGHTS_SAFETENSORS) return OCT_OK;
    return oct_fail(&f->ctx->error, OCT_ERR_ARGUMENT,
                    "%s holds weights alone (%s): --model NAME says of which network", path,
                    oct_weights_kind_name(kind));
}

static oct_status open_any(oct_model_file *f, const char *path)
{
    char format[OCT_STATE_FORMAT_BYTES];
    oct_error probe = {0};
    oct_status status = oct_state_probe(format, path, &probe);
    if (status == OCT_OK && !strcmp(format, OCT_STATE_FORMAT)) {
        OCT_TRY(oct_checkpoint_read(&f->checkpoint, path, f->ctx));
        return describe_graph(f);
    }
    bool other = status == OCT_ERR_FORMAT || (status == OCT_OK && strcmp(format, OCT_INT8_FILE_FORMAT));
    if (other && oct_checkpoint_is_foreign(path)) {
        OCT_TRY(oct_checkpoint_import(&f->checkpoint, path, NULL, f->ctx));
        return describe_graph(f);
    }
    if (status == OCT_OK && strcmp(format, OCT_INT8_FILE_FORMAT))
        return oct_fail(&f->ctx->error, OCT_ERR_FORMAT,
                        "%s: an HDF5 file, but no model of ours: expected the attribute format \"%s\" or "
                        "\"%s\", found \"%s\"",
                        path, OCT_STATE_FORMAT, OCT_INT8_FILE_FORMAT, format);
    if (status != OCT_OK && status != OCT_ERR_FORMAT)
        return oct_fail(&f->ctx->error, status, "%s", probe.message);
    OCT_TRY(refuse_weights_alone(f, path));
    return open_int8(f, path);
}

oct_status oct_model_file_open(oct_model_file *out, const char *path, oct_ctx *ctx)
{
    return oct_model_file_open_as(out, path, NULL, ctx);
}

oct_status oct_model_file_open_as(oct_model_file *out, const char *path, const oct_pretrained_options *source,
                                  oct_ctx *ctx)
{
    oct_status status;
    *out = (oct_model_file){.ctx = ctx};
    if (!source || !source->model) {
        status = open_any(out, path);
    } else {
        status = oct_pretrained_open(&out->checkpoint, &out->report, path, source, ctx);
        if (status == OCT_OK) status = describe_graph(out);
    }
    oct_load_report *report = out->report;
    if (status == OCT_OK) return OCT_OK;
    out->report = NULL;
    oct_model_file_close(out);
    out->report = report;
    return status;
}

void oct_model_file_close(oct_model_file *f)
{
    oct_checkpoint_release(&f->checkpoint);
    oct_int8_close(f->int8);
    oct_load_report_destroy(f->report);
    *f = (oct_model_file){0};
}

const char *oct_model_file_class(const oct_model_file *f, int label)
{
    if (f->int8) return oct_int8_class_name(f->int8, label);
    return label >= 0 && label < f->checkpoint.info.class_count ? f->checkpoint.info.classes[label] : NULL;
}

oct_status oct_model_file_evaluator(oct_evaluator **out, oct_model_file *f, int batch)
{
    if (f->int8) return oct_evaluator_create_int8(out, f->ctx, f->int8, batch);
    OCT_TRY(oct_evaluator_create(out, f->checkpoint.graph, &f->checkpoint.model, batch));
    oct_plan_hold(oct_evaluator_plan(*out), true);
    return OCT_OK;
}

static oct_status write_and_open(oct_int8_build *build, oct_ctx *ctx, const oct_int8_spec *spec,
                                 const char *path, bool flat)
{
    oct_error *error = &ctx->error;
    if (path && flat) OCT_TRY(oct_int8_file_write_image(path, spec, error));
    if (path && !flat) OCT_TRY(oct_int8_file_write(path, spec, error));
    if (!build) return OCT_OK;
    OCT_TRY(oct_int8_image_write(&build->image, &build->bytes, spec, error));
    oct_int8_options options = {.cpu_mask = &ctx->cpu_mask};
    return oct_int8_open(&build->model, build->image, build->bytes, &options, error);
}

oct_status oct_int8_export(oct_int8_build *build, oct_graph *graph, const oct_model *model,
                           const oct_checkpoint_info *info, const char *path, bool flat)
{
    oct_ctx *ctx = graph->ctx;
    oct_augment augment = OCT_AUGMENT_NONE;
    oct_exported *exported;
    if (build) *build = (oct_int8_build){0};
    if (info->augment) OCT_TRY(oct_augment_parse(&augment, info->augment, &ctx->error));
    oct_export_options options = {info->classes, info->class_count, oct_graph_digest(graph)};
    OCT_TRY(oct_export_create(&exported, graph, model->image, model->logits, &options));
    oct_int8_spec spec = *oct_exported_spec(exported);
    int side = oct_fit_side(&info->fit, augment, oct_graph_node(graph, model->image)->shape.dim[1]);
    spec.resize = side == OCT_RESIZE_SQUASH ? 0 : side;
    spec.interpolation = info->fit.filter == OCT_FILTER_BICUBIC;
    oct_status status = write_and_open(build, ctx, &spec, path, flat);
    oct_export_destroy(exported);
    if (status != OCT_OK && build) oct_int8_build_release(build);
    return status;
}

void oct_int8_build_release(oct_int8_build *build)
{
    oct_int8_close(build->model);
    oct_free(build->image);
    *build = (oct_int8_build){0};
}
