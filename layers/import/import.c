/* SPDX-License-Identifier: BSD-2-Clause */
#include "layers/import/import.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "layers/import/keras.h"
#include "layers/import/pth.h"
#include "layers/import/safetensors.h"
#include "layers/state.h"

/* The beginning of a file. */
typedef struct head {
    uint8_t bytes[16];
    size_t count;
    uint64_t size;
} head;

typedef struct reader {
    const char *name;
    oct_layout layout;
    bool (*is)(const char *path, const head *h);
    /* One of the two; `parse` gets the whole file and an empty list. */
    oct_status (*parse)(oct_tensors *tensors, const uint8_t *bytes, size_t size, oct_error *error);
    oct_status (*read)(oct_tensors **tensors, const char *path, oct_error *error);
} reader;

#define MAX_FILE_BYTES (UINT64_C(8) << 30)

static bool is_state(const char *path, const head *h)
{
    char format[OCT_STATE_FORMAT_BYTES];
    (void)h;
    return oct_state_probe(format, path, NULL) == OCT_OK && !strcmp(format, OCT_STATE_FORMAT);
}

static bool is_pth(const char *path, const head *h)
{
    (void)path;
    return oct_pth_probe(h->bytes, h->count);
}

static bool is_safetensors(const char *path, const head *h)
{
    (void)path;
    return oct_safetensors_probe(h->bytes, h->count, h->size);
}

static bool is_keras(const char *path, const head *h)
{
    (void)h;
    return oct_keras_probe(path) != OCT_KERAS_NONE;
}

static oct_status take_state(oct_tensors *tensors, const oct_state *state, oct_error *error)
{
    for (int i = 0; i < oct_state_tensor_count(state); i++) {
        const oct_state_tensor *from = oct_state_tensor_at(state, i);
        oct_named_tensor *to;
        int64_t dims[OCT_MAX_RANK];
        if (strcmp(from->group, "parameters") != 0 && strcmp(from->group, "buffers") != 0) continue;
        for (int d = 0; d < from->shape.rank; d++) dims[d] = from->shape.dim[d];
        OCT_TRY(oct_tensors_add(tensors, &to, from->name, from->shape.rank, dims, from->count, error));
        memcpy(to->data, from->data, from->count * sizeof *to->data);
    }
    return OCT_OK;
}

static oct_status read_state(oct_tensors **tensors, const char *path, oct_error *error)
{
    oct_state *state;
    OCT_TRY(oct_state_read(&state, path, error));
    oct_status status = oct_tensors_create(tensors, error);
    if (status == OCT_OK) status = take_state(*tensors, state, error);
    oct_state_destroy(state);
    return status;
}

static const reader readers[OCT_WEIGHTS_KINDS] = {
    [OCT_WEIGHTS_OCTET] = {"Octet state", OCT_LAYOUT_OCTET, is_state, NULL, read_state},
    [OCT_WEIGHTS_PTH] = {"PyTorch .pth", OCT_LAYOUT_TORCH, is_pth, oct_pth_read, NULL},
    [OCT_WEIGHTS_SAFETENSORS] = {"safetensors", OCT_LAYOUT_TORCH, is_safetensors, oct_safetensors_read, NULL},
    [OCT_WEIGHTS_KERAS] = {"Keras .h5", OCT_LAYOUT_KERAS, is_keras, NULL, oct_keras_read_tensors},
};

const char *oct_weights_kind_name(oct_weights_kind kind)
{
    return kind > OCT_WEIGHTS_UNKNOWN && kind < OCT_WEIGHTS_KINDS ? readers[kind].name : "unknown";
}

static oct_status read_head(head *h, const char *path, oct_error *error)
{
    struct stat st;
    *h = (head){0};
    FILE *file = fopen(path, "rb");
    if (!file) return oct_fail(error, OCT_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    h->count = fread(h->bytes, 1, sizeof h->bytes, file);
    bool good = !ferror(file) && !fstat(fileno(file), &st);
    if (good) h->size = (uint64_t)st.st_size;
    int reason = errno;
    fclose(file);
    return good ? OCT_OK : oct_fail(error, OCT_ERR_IO, "%s: cannot be read: %s", path, strerror(reason));
}

oct_status oct_weights_probe(oct_weights_kind *kind, const char *path, oct_error *error)
{
    head h;
    *kind = OCT_WEIGHTS_UNKNOWN;
    OCT_TRY(read_head(&h, path, error));
    for (int k = OCT_WEIGHTS_UNKNOWN + 1; k < OCT_WEIGHTS_KINDS && *kind == OCT_WEIGHTS_UNKNOWN; k++)
        if (readers[k].is(path, &h)) *kind = (oct_weights_kind)k;
    return OCT_OK;
}

/* Parses a file's bytes, and puts its name in front of the message. */
static oct_status parse_file(oct_tensors **tensors, const reader *r, const char *path, oct_error *error)
{
    uint8_t *bytes;
    size_t size;
    oct_error inner = {0};
    OCT_TRY(oct_tensors_create(tensors, error));
    OCT_TRY(oct_file_read(&bytes, &size, path, MAX_FILE_BYTES, error));
    oct_status status = r->parse(*tensors, bytes, size, &inner);
    oct_free(bytes);
    return status == OCT_OK ? OCT_OK : oct_fail(error, status, "%.400s: %.600s", path, inner.message);
}

oct_status oct_weights_read(oct_weights *out, const char *path, oct_error *error)
{
    oct_weights_kind kind;
    *out = (oct_weights){0};
    OCT_TRY(oct_weights_probe(&kind, path, error));
    const reader *r = &readers[kind];
    if (kind == OCT_WEIGHTS_UNKNOWN)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "%s: not a file of weights that is known: a checkpoint of ours, PyTorch's .pth, .safetensors, "
                        "Keras .h5",
                        path);
    *out = (oct_weights){.kind = kind, .layout = r->layout};
    oct_status status = r->parse ? parse_file(&out->tensors, r, path, error) : r->read(&out->tensors, path, error);
    if (status != OCT_OK) oct_weights_release(out);
    return status;
}

void oct_weights_release(oct_weights *weights)
{
    oct_tensors_destroy(weights->tensors);
    *weights = (oct_weights){0};
}

static oct_status set_preprocessing(oct_graph *graph, const oct_normalize_attrs *attrs)
{
    oct_value normalize = oct_graph_find(graph, "normalize");
    const oct_node *n = oct_graph_node(graph, normalize);
    if (!n || n->op != &oct_op_normalize || n->shape.dim[n->shape.rank - 1] != 3) return OCT_OK;
    oct_value input = {n->inputs[0]};
    return oct_graph_replace(graph, normalize, n->op, attrs, &input, 1);
}

oct_status oct_weights_load(oct_graph *graph, const char *model, const oct_weights *weights, const char *path,
                            const oct_load_options *options, bool keep_preprocessing, oct_load_report **report)
{
    oct_normalize_attrs attrs;
    oct_load_options own = *options;
    oct_error *error = &graph->ctx->error;
    own.layout = weights->layout;
    oct_status status = oct_load_tensors(graph, weights->tensors, &own, report);
    if (status != OCT_OK) {
        oct_error inner = *error;
        oct_error_clear(error);
        return oct_fail(error, status, "%.400s: %.600s", path, inner.message);
    }
    if (keep_preprocessing || !oct_name_map_preprocess(&attrs, (*report)->map, model)) return OCT_OK;
    return set_preprocessing(graph, &attrs);
}
