/* SPDX-License-Identifier: BSD-2-Clause
 * Keras files as models: from file to text and tensors to a finished graph. */
#include "layers/import/keras.h"

#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "layers/import/keras_file_internal.h"
#include "layers/import/keras_internal.h"
#include "layers/import/network.h"

oct_status oct_keras_read_tensors(oct_tensors **out, const char *path, oct_error *error)
{
    oct_keras_content content;
    oct_status status = oct_keras_file_read(&content, path, error);
    *out = status == OCT_OK ? content.tensors : NULL;
    if (status == OCT_OK) content.tensors = NULL;
    oct_keras_content_release(&content);
    return status;
}

static oct_status finish(oct_keras_builder *b, oct_model *model, oct_keras_value *y)
{
    char text[OCT_KERAS_SHAPE];
    y->softmax = false; /* logits */
    bool padded = y->pad[0] || y->pad[1] || y->pad[2] || y->pad[3];
    if (y->raw || padded || oct_keras_elements(y) != y->dim[y->rank - 1])
        return oct_fail(b->error, OCT_ERR_UNSUPPORTED, "%.220s: the network gives %s: expected one score for each class",
                        b->file, oct_keras_shape(text, y));
    return oct_network_finish(model, b->graph, b->image, y->v, b->options->label_smoothing);
}

static void report_unused(const oct_keras_builder *b)
{
    int count = oct_tensors_count(b->tensors), unused = 0;
    const char *first = NULL;
    for (int i = 0; i < count; i++) {
        if (b->used[i]) continue;
        if (!unused++) first = oct_tensors_at(b->tensors, i)->name;
    }
    if (unused)
        oct_log(b->graph->ctx, OCT_LOG_WARNING, "%s: %d of %d tensors are not used, the first is \"%s\"", b->file, unused,
                count, first);
}

static oct_status build(oct_keras_builder *b, oct_model *model, const char *config)
{
    const cJSON *inner;
    oct_keras_value y;
    cJSON *json = strlen(config) <= OCT_KERAS_MAX_CONFIG ? cJSON_Parse(config) : NULL;
    if (!json) return oct_fail(b->error, OCT_ERR_FORMAT, "%.220s: model_config is not JSON of at most 64 MiB", b->file);
    oct_status status = oct_keras_network(b, json, &y);
    if (status == OCT_OK) status = finish(b, model, &y);
    inner = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(json, "config"), "name");
    snprintf(model->name, sizeof model->name, "%.31s", cJSON_IsString(inner) ? inner->valuestring : "keras");
    cJSON_Delete(json);
    if (status == OCT_OK) report_unused(b);
    return oct_network_in_file(b->graph, b->file, status);
}

oct_status oct_keras_build_from(oct_model *model, oct_graph *graph, const char *name, const char *config,
                                const oct_tensors *tensors, const oct_network_options *options)
{
    static const oct_network_options defaults;
    OCT_TRY(oct_network_start(model, graph, name));
    oct_keras_builder b = {.graph = graph,
                           .error = &graph->ctx->error,
                           .file = name,
                           .tensors = tensors,
                           .options = options ? options : &defaults,
                           .image = model->image};
    oct_arena_init(&b.arena, 0);
    b.used = oct_arena_alloc(&b.arena, (size_t)oct_tensors_count(tensors) + 1, 1);
    oct_status status = b.used ? build(&b, model, config) : oct_out_of_memory(graph->ctx, name);
    oct_arena_release(&b.arena);
    graph->failed = status != OCT_OK; /* half built: nothing may use it */
    return status;
}

oct_status oct_keras_build(oct_model *model, oct_graph *graph, const char *path, const oct_network_options *options)
{
    oct_keras_content content;
    oct_status status = oct_keras_file_read(&content, path, &graph->ctx->error);
    if (status == OCT_OK && !content.config)
        status = oct_fail(&graph->ctx->error, OCT_ERR_FORMAT,
                          "%s: holds weights but no network (attribute model_config): name the model to load them into, or "
                          "save it with model.save(\"model.h5\")", path);
    if (status == OCT_OK) status = oct_keras_build_from(model, graph, path, content.config, content.tensors, options);
    oct_keras_content_release(&content);
    return status;
}
