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
    const oct_node *n = oct_graph_node(b->graph, y->v);
    bool scores = !y->constant && !y->raw && n && oct_shape_sample(&n->shape) == (size_t)y->dim[0];
    if (!scores)
        return oct_fail(b->error, OCT_ERR_UNSUPPORTED, "%.220s: the output '%.80s': expected one score for each class", b->file,
                        b->content->output);
    snprintf(model->name, sizeof model->name, "%.31s", *b->content->name ? b->content->name : "onnx");
    return oct_network_finish(model, b->graph, b->image, y->v, b->options->label_smoothing);
}

oct_status oct_onnx_build_from(oct_model *model, oct_graph *graph, const char *name, const void *bytes, size_t size,
                               const oct_network_options *options)
{
    static const oct_network_options defaults;
    OCT_TRY(oct_network_start(model, graph, name));
    oct_error *error = &graph->ctx->error;
    oct_onnx_content content;
    oct_onnx_builder b = {.graph = graph, .error = error, .file = name, .options = options ? options : &defaults,
                          .content = &content, .image = model->image};
    oct_onnx_value y;
    oct_arena_init(&b.arena, 0);
    oct_status status = oct_onnx_file_parse(&content, name, bytes, size, error);
    if (status == OCT_OK) status = oct_onnx_network(&b, &y);
    if (status == OCT_OK) status = finish(&b, model, &y);
    status = oct_network_in_file(graph, name, status);
    oct_onnx_content_release(&content);
    oct_arena_release(&b.arena);
    graph->failed = status != OCT_OK; /* half built: nothing may use it */
    return status;
}

oct_status oct_onnx_build(oct_model *model, oct_graph *graph, const char *path, const oct_network_options *options)
{
    uint8_t *bytes;
    size_t size;
    OCT_TRY(oct_file_read(&bytes, &size, path, MAX_BYTES, &graph->ctx->error));
    oct_status status = oct_onnx_build_from(model, graph, path, bytes, size, options);
    oct_free(bytes);
    return status;
}
