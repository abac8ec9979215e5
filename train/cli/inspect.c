/* SPDX-License-Identifier: BSD-2-Clause
 * bin/inspect: what is in a file: networks layer by layer (ours, Keras), weights tensor by tensor (PyTorch,
 * safetensors, Keras weights), int8 models. Decided by content. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/cli/args.h"
#include "train/cli/load.h"
#include "train/cli/spin.h"
#include "train/ranges.h"

static struct {
    const char *model;
    bool json, quiet, stats;
} f;

static const arg_option options[] = {
    ARG_GROUP("Inspection:"),
    LOAD_MODEL_OPTION(&f.model),
    ARG_ON("stats", &f.stats, "smallest, largest and mean value of each tensor"),
    ARG_JSON(&f.json),
    ARG_ON("quiet", &f.quiet, "no notes"),
    ARG_END,
};

static const arg_spec spec = {
    .program = "inspect",
    .usage = "inspect FILE [--stats] [--model NAME] [options]",
    .about = "Shows what a file holds: a checkpoint of ours (layers, parameters, MACs, quantizers), an int8 model, a\n"
             "Keras model, or weights of PyTorch (.pth, .safetensors) and Keras. With --model the weights are put into that\n"
             "network, and what fits is reported.",
    .tables = {options},
    .min_positional = 1,
    .max_positional = 1,
    .positional = "a FILE",
};

typedef struct job {
    cli c;
    const char *path;
    oct_model_file file;
    oct_weights weights;
} job;

/* --- weights alone --- */

typedef struct values {
    float min, max;
    double mean;
    int64_t odd; /* NaN or infinite; not part of the others */
} values;

static values look_at(const oct_named_tensor *t)
{
    values v = {.min = INFINITY, .max = -INFINITY};
    double sum = 0;
    for (size_t i = 0; i < t->count; i++) {
        float x = t->data[i];
        if (!isfinite(x)) {
            v.odd++;
            continue;
        }
        v.min = x < v.min ? x : v.min;
        v.max = x > v.max ? x : v.max;
        sum += (double)x;
    }
    int64_t finite = (int64_t)t->count - v.odd;
    if (!finite) v.min = v.max = 0;
    v.mean = finite ? sum / (double)finite : 0;
    return v;
}

static void print_tensor(const cli *c, const oct_named_tensor *t, int width)
{
    char shape[OCT_TENSOR_MAX_RANK * 24] = "";
    size_t used = 0;
    cJSON *event = cli_event(c, "tensor");
    cJSON *dims = event ? cJSON_AddArrayToObject(event, "shape") : NULL;
    for (int i = 0; i < t->rank; i++) {
        used += (size_t)snprintf(shape + used, sizeof shape - used, "%s%" PRId64, i ? "," : "", t->dims[i]);
        if (dims) cJSON_AddItemToArray(dims, cJSON_CreateNumber((double)t->dims[i]));
    }
    cJSON_AddStringToObject(event, "name", t->name);
    cli_add(event, "elements", (double)t->count, 0);
    if (!f.stats) {
        cli_print(c, "%-*s  [%s]", width, t->name, shape);
    } else {
        values v = look_at(t);
        cli_print(c, "%-*s  %-20s %12.5g .. %-12.5g mean %-12.5g%s", width, t->name, shape, (double)v.min,
                  (double)v.max, v.mean, v.odd ? "  NaN or infinity" : "");
        cli_add(event, "min", (double)v.min, 9);
        cli_add(event, "max", (double)v.max, 9);
        cli_add(event, "mean", v.mean, 9);
        cli_add(event, "not_finite", (double)v.odd, 0);
    }
    cli_emit(c, event);
}

static void print_weights(const job *j)
{
    const oct_tensors *tensors = j->weights.tensors;
    int width = 0, count = oct_tensors_count(tensors);
    int64_t elements = 0;
    for (int i = 0; i < count; i++) {
        const oct_named_tensor *t = oct_tensors_at(tensors, i);
        int length = (int)strlen(t->name);
        width = length > width ? length : width;
        elements += (int64_t)t->count;
    }
    for (int i = 0; i < count; i++) print_tensor(&j->c, oct_tensors_at(tensors, i), width);
    const char *kind = oct_weights_kind_name(j->weights.kind);
    cli_print(&j->c, "%s: %s, %d tensors, %" PRId64 " elements", j->path, kind, count, elements);
    cJSON *r = cli_event(&j->c, "result");
    cJSON_AddStringToObject(r, "task", "inspect");
    cJSON_AddStringToObject(r, "kind", kind);
    cli_add(r, "tensors", count, 0);
    cli_add(r, "elements", (double)elements, 0);
    cli_emit(&j->c, r);
}

/* --- networks --- */

static void emit_layer(const cli *c, const char *name, const char *op, const char *shape, double macs)
{
    cJSON *event = cli_event(c, "layer");
    cJSON_AddStringToObject(event, "name", name);
    cJSON_AddStringToObject(event, "op", op);
    cJSON_AddStringToObject(event, "output", shape);
    cli_add(event, "macs", macs, 0);
    cli_emit(c, event);
}

static void emit_graph(const cli *c, const oct_graph *g)
{
    char shape[OCT_SHAPE_TEXT];
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[g->order[i]];
        if (n->kind != OCT_NODE_OP) continue;
        double macs = n->op->macs ? (double)n->op->macs(g, n) : 0;
        emit_layer(c, n->name, n->op->name, oct_shape_text(shape, &n->shape), macs);
    }
}

static void describe(const job *j, cJSON *r)
{
    const oct_model_file *m = &j->file;
    const char *kind = oct_model_kind_name(m->kind);
    cli_print(&j->c, "%s: %s, image %dx%dx%d, %d classes", j->path, kind, m->height, m->width, m->channels, m->classes);
    for (int i = 0; i < m->classes && oct_model_file_class(m, 0) && i < 10; i++)
        cli_print(&j->c, "  class %d: %s%s", i, oct_model_file_class(m, i), i == 9 && m->classes > 10 ? ", ..." : "");
    cJSON_AddStringToObject(r, "task", "inspect");
    cJSON_AddStringToObject(r, "kind", kind);
    cli_add(r, "height", m->height, 0);
    cli_add(r, "width", m->width, 0);
    cli_add(r, "channels", m->channels, 0);
    cli_add(r, "classes", m->classes, 0);
}

static void print_preprocessing(const job *j, const float *mean, const float *scale)
{
    for (int i = 0; mean && scale && i < j->file.channels && i < 4; i++)
        cli_print(&j->c, "  channel %d: (pixel - %g) * %g", i, (double)mean[i], (double)scale[i]);
}

static oct_status print_graph(job *j)
{
    const cli *c = &j->c;
    oct_checkpoint *k = &j->file.checkpoint;
    oct_model_size size = oct_model_measure(k->graph);
    const oct_node *normalize = oct_graph_node(k->graph, oct_graph_find(k->graph, "normalize"));
    if (!c->json) oct_model_print(k->graph, cli_print_line, &j->c);
    if (c->json) emit_graph(c, k->graph);
    oct_range_report ranges = {0};
    if (j->file.kind == OCT_MODEL_QUANTIZED) {
        cli_print(c, "quantizers:");
        OCT_TRY(oct_ranges_report(&ranges, k->graph, &k->model, c->json ? NULL : cli_print_line, &j->c));
    }
    cJSON *r = cli_event(c, "result");
    describe(j, r);
    if (k->info.model) cli_print(c, "  network %s", k->info.model);
    if (k->info.quantize) cli_print(c, "  quantizer %s", k->info.quantize);
    if (normalize && normalize->op == &oct_op_normalize) {
        const oct_normalize_attrs *a = normalize->attrs;
        print_preprocessing(j, a->mean, a->scale);
    }
    if (k->info.model) cJSON_AddStringToObject(r, "model", k->info.model);
    cli_add(r, "parameters", (double)size.parameters, 0);
    cli_add(r, "buffers", (double)size.buffers, 0);
    cli_add(r, "macs", (double)size.macs, 0);
    cli_add(r, "points", ranges.points, 0);
    cli_add(r, "dead_channels", ranges.dead_channels, 0);
    cli_emit(c, r);
    return OCT_OK;
}

static void print_int8(job *j)
{
    const cli *c = &j->c;
    const oct_int8_model *m = j->file.int8;
    double macs = 0;
    cli_print(c, "%-32s %-12s %-16s %-6s %9s %14s", "layer", "op", "output", "type", "exponent", "MACs");
    for (int i = 0; i < oct_int8_layer_count(m); i++) {
        const oct_int8_layer_info *l = oct_int8_layer_at(m, i);
        const oct_int8_tensor *t = oct_int8_tensor_at(m, l->output);
        char shape[OCT_SHAPE_TEXT];
        const char *type = t->kind == OCT_INT8_SCORES ? "s32" : t->is_signed ? "s8" : "u8";
        snprintf(shape, sizeof shape, "[%d,%d,%d]", t->height, t->width, t->channels);
        cli_print(c, "%-32s %-12s %-16s %-6s %9d %14" PRIu64, l->name, l->op, shape, type, t->exponent, l->macs);
        emit_layer(c, l->name, l->op, shape, (double)l->macs);
        macs += (double)l->macs;
    }
    cJSON *r = cli_event(c, "result");
    describe(j, r);
    print_preprocessing(j, oct_int8_mean(m), oct_int8_scale(m));
    cli_print(c, "  %.2f MMAC, %zu bytes as flat image, made from parameters %016" PRIx64, macs * 1e-6,
              j->file.int8_bytes, oct_int8_source_digest(m));
    cli_add(r, "macs", macs, 0);
    cli_add(r, "bytes", (double)j->file.int8_bytes, 0);
    cli_emit(c, r);
}

/* --- which of them --- */

static bool weights_alone(oct_weights_kind kind, const char *path)
{
    if (kind == OCT_WEIGHTS_KERAS) return oct_keras_probe(path) == OCT_KERAS_WEIGHTS;
    return kind == OCT_WEIGHTS_PTH || kind == OCT_WEIGHTS_SAFETENSORS;
}

static oct_status inspect(job *j)
{
    oct_weights_kind kind;
    OCT_TRY(oct_weights_probe(&kind, j->path, &j->c.ctx->error));
    if (!f.model && weights_alone(kind, j->path)) {
        OCT_TRY(oct_weights_read(&j->weights, j->path, &j->c.ctx->error));
        print_weights(j);
        return OCT_OK;
    }
    OCT_TRY(load_model_file(&j->file, &j->c, j->path, f.model));
    if (j->file.kind != OCT_MODEL_INT8) return print_graph(j);
    print_int8(j);
    return OCT_OK;
}

int main(int argc, char **argv)
{
    cli_limit_spinning(argv);
    static job j;
    char *path;
    int count;
    int status = args_parse(&spec, argc, argv, &path, &count);
    if (status != CLI_GO_ON) return status;
    j.c = (cli){.program = "inspect", .json = f.json, .quiet = f.quiet};
    j.path = path;
    status = cli_start(&j.c, 1);
    if (status != CLI_GO_ON) return status;
    status = inspect(&j) == OCT_OK ? CLI_OK : cli_fail(&j.c);
    oct_model_file_close(&j.file);
    oct_weights_release(&j.weights);
    return cli_end(&j.c, status);
}
