/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/pretrained.h"

#include <string.h>

#include "quant/ops.h"

static bool starts(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

int oct_pretrained_size(const char *model)
{
    static const struct {
        const char *model; /* beginning of the spec */
        int size;
    } sizes[] = {{"resnet8", 32}, {"resnet20", 32}, {"efficientnet-lite1", 240}, {"efficientnet-lite2", 260}};
    if (strstr(model, "form=cifar")) return 32;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (starts(model, sizes[i].model)) return sizes[i].size;
    return 224;
}

static oct_status build(oct_checkpoint *c, const oct_pretrained_options *o, int32_t classes, oct_ctx *ctx)
{
    /* mean and deviation of ImageNet, for weights of which nothing better is known */
    static const oct_normalize_attrs rgb = {{123.675f, 116.28f, 103.53f, 0},
                                            {1 / 58.395f, 1 / 57.12f, 1 / 57.375f, 1}};
    int size = o->size ? o->size : oct_pretrained_size(o->model), channels = o->channels ? o->channels : 3;
    oct_model_options options = {.height = size, .width = size, .channels = channels, .classes = classes};
    if (channels == 3) options.preprocess = rgb;
    oct_graph_destroy(c->graph);
    c->graph = NULL;
    OCT_TRY(oct_graph_create(&c->graph, ctx, 1));
    OCT_TRY(oct_model_build(&c->model, c->graph, o->model, &options));
    return oct_graph_add_fuser(c->graph, &oct_quant_fuser);
}

static oct_status open_weights(oct_checkpoint *c, oct_load_report **report, const oct_weights *weights,
                               const char *path, const oct_pretrained_options *o, oct_ctx *ctx)
{
    OCT_TRY(build(c, o, 2, ctx));
    int32_t classes = oct_load_classes(c->graph, weights->tensors, weights->layout);
    if (classes > 2) OCT_TRY(build(c, o, classes, ctx));
    oct_load_options options = {.strict = o->strict};
    OCT_TRY(oct_weights_load(c->graph, c->model.name, weights, path, &options, false, report));
    c->info.model = o->model;
    const oct_node *image = oct_graph_node(c->graph, c->model.image);
    c->info.augment = oct_augment_name(image->shape.dim[1] > 64 ? OCT_AUGMENT_IMAGENET : OCT_AUGMENT_NONE);
    return OCT_OK;
}

oct_status oct_pretrained_open(oct_checkpoint *out, oct_load_report **report, const char *path,
                               const oct_pretrained_options *options, oct_ctx *ctx)
{
    oct_weights weights;
    *out = (oct_checkpoint){0};
    *report = NULL;
    OCT_TRY(oct_weights_read(&weights, path, &ctx->error));
    oct_status status = open_weights(out, report, &weights, path, options, ctx);
    oct_weights_release(&weights);
    if (status != OCT_OK) oct_checkpoint_release(out);
    return status;
}
