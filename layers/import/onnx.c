/* SPDX-License-Identifier: BSD-2-Clause
 * ONNX files as models: from bytes to a finished graph. */
#include "layers/import/onnx.h"

#include <stdio.h>
#include <string.h>

#include "autograd/base/file.h"
#include "layers/import/network.h"
#include "layers/import/onnx_internal.h"

enum { MAX_BYTES = 0x7fffffff }; /* protobuf's own limit */

/* Every ONNX file starts with field 1, the format's version: a varint of one byte. */
bool oct_onnx_probe(const char *path)
{
    unsigned char head[3] = {0};
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(head, 1, sizeof head, file) : 0;
    if (file) fclose(file);
    return n == sizeof head && head[0] == 0x08 && head[1] >= 3 && head[1] < 0x20 &&
           (head[2] == 0x12 || head[2] == 0x3a || head[2] == 0x42);
}

static oct_status finish(oct_onnx_builder *b, oct_model *model, const oct_onnx_value *y)
{
    oct_value v = y->v;
    const oct_node *n = oct_graph_node(b->graph, v);
    bool scores = !y->constant && !y->raw && n && oct_shape_sample(&n->shape) == (size_t)y->dim[0];
    if (!scores)
        return oct_fail(b->error, OCT_ERR_UNSUPPORTED, "%.220s: the output '%.80s': expected one score for each class", b->file,
                        b->content->output);
    if (n->shape.rank == 4) {
        char name[OCT_ONNX_NAME + 16];
        snprintf(name, sizeof name, "%.200s/flatten", n->name);
        v = oct_flatten(b->graph, name, v);
    }
    snprintf(model->name, sizeof model->name, "%.31s", *b->content->name ? b->content->name : "onnx");
    return oct_network_finish(model, b->graph, b->image, v, b->options->label_smoothing);
}

static oct_status with_file(const oct_onnx_builder *b, oct_status status)
{
    char reason[OCT_ERROR_BYTES];
    if (status == OCT_OK || !strncmp(b->error->message, b->file, strlen(b->file))) return status;
    snprintf(reason, sizeof reason, "%s", b->error->message);
    oct_error_clear(b->error);
    return oct_fail(b->error, status, "%.220s: %.700s", b->file, reason);
}

oct_status oct_onnx_build_from(oct_model *model, oct_graph *graph, const char *name, const void *bytes, size_t size,
                               const oct_onnx_options *options)
{
    static const oct_onnx_options defaults;
    static const oct_value invalid = {-1};
    *model = (oct_model){.image = invalid, .label = invalid, .logits = invalid, .loss = invalid};
    OCT_TRY(oct_graph_status(graph));
    oct_error *error = &graph->ctx->error;
    if (graph->node_count) return oct_fail(error, OCT_ERR_ARGUMENT, "%s: expected an empty graph", name);
    oct_onnx_content content;
    oct_onnx_builder b = {.graph = graph, .error = error, .file = name, .options = options ? options : &defaults,
                          .content = &content, .image = invalid};
    oct_onnx_value y;
    oct_arena_init(&b.arena, 0);
    oct_status status = oct_onnx_file_parse(&content, name, bytes, size, error);
    if (status == OCT_OK) status = oct_onnx_network(&b, &y);
    if (status == OCT_OK) status = finish(&b, model, &y);
    status = with_file(&b, status);
    oct_onnx_content_release(&content);
    oct_arena_release(&b.arena);
    graph->failed = status != OCT_OK; /* half built: nothing may use it */
    return status;
}

oct_status oct_onnx_build(oct_model *model, oct_graph *graph, const char *path, const oct_onnx_options *options)
{
    uint8_t *bytes;
    size_t size;
    OCT_TRY(oct_file_read(&bytes, &size, path, MAX_BYTES, &graph->ctx->error));
    oct_status status = oct_onnx_build_from(model, graph, path, bytes, size, options);
    oct_free(bytes);
    return status;
}
