/* SPDX-License-Identifier: BSD-2-Clause
 * The export pass. The chains are the ones that training runs as single steps: oct_quant_fuser finds them here too, so
 * that what is exported is what was trained. */
#include "quant/export.h"

#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "quant/fold.h"
#include "quant/pass.h"
#include "quant/unit_internal.h"

struct oct_exported {
    oct_arena arena;
    oct_int8_spec spec;
    oct_int8_tensor *tensors;
    oct_int8_layer *layers;
};

typedef struct exporter {
    oct_graph *graph;
    oct_error *error;
    oct_exported *out;
    oct_value image, logits;
    int *tensor_of; /* by node id: tensor that holds its value, -1 = none */
    bool *needed, *kept;
    bool rounding_known;
} exporter;

static oct_status no_memory(const exporter *e)
{
    return oct_out_of_memory(e->graph->ctx, "export");
}

static oct_status refuse(const exporter *e, const oct_node *n, const char *why)
{
    return oct_fail(e->error, OCT_ERR_UNSUPPORTED, "cannot export '%s' (%s): %s", n->name, n->op ? n->op->name : "input",
                    why);
}

static void *take(exporter *e, size_t count, size_t size)
{
    return oct_arena_alloc(&e->out->arena, count, size);
}

static oct_int8_tensor *add_tensor(exporter *e, const oct_node *n, oct_int8_kind kind)
{
    oct_int8_tensor *t = &e->out->tensors[e->out->spec.tensor_count];
    const oct_shape *s = &n->shape;
    *t = (oct_int8_tensor){.name = oct_arena_strdup(&e->out->arena, n->name), .kind = kind};
    oct_int8_dims(t, s);
    e->tensor_of[n->id] = e->out->spec.tensor_count++;
    return t;
}

static oct_int8_layer *add_layer(exporter *e, oct_int8_op op, const oct_node *n, int output)
{
    oct_int8_layer *l = &e->out->layers[e->out->spec.layer_count++];
    *l = (oct_int8_layer){.op = op, .name = oct_arena_strdup(&e->out->arena, n->name), .output = output};
    return l;
}

static oct_status add_input(exporter *e, oct_int8_layer *l, const oct_node *n, const oct_node *value)
{
    int t = e->tensor_of[value->id];
    if (t < 0) return refuse(e, n, "its input has no codes");
    if (l->input_count == OCT_INT8_MAX_INPUTS) return refuse(e, n, "too many inputs");
    l->inputs[l->input_count++] = t;
    return OCT_OK;
}

/* The tensor behind a fake_quant node, with its clip. */
static oct_int8_tensor *add_codes(exporter *e, const oct_node *fq, const oct_node *act, oct_clip_codes *clip)
{
    float lo, hi;
    const float *range = oct_graph_data(e->graph, (oct_value){fq->inputs[OCT_FQ_RANGE]}, NULL);
    oct_activation_limits(act, &lo, &hi);
    *clip = oct_point_clip(range, fq, lo, hi);
    oct_int8_tensor *t = add_tensor(e, fq, OCT_INT8_CODES);
    t->is_signed = clip->is_signed;
    t->exponent = clip->exponent;
    if (!clip->affine) return t;
    t->scale = clip->scale;
    t->zero_point = clip->zero_point;
    return t;
}

static const float *data_of(const exporter *e, const oct_node *n, int slot)
{
    return oct_graph_data(e->graph, (oct_value){n->inputs[slot]}, NULL);
}

/* Codes, biases and exponents (affine: scales) of a layer. *exponents has one per output. */
static oct_status fold_layer(exporter *e, const oct_node *layer, const oct_node *wf, oct_int8_layer *l,
                             int8_t **exponents, int *outputs)
{
    const oct_int8_tensor *in = &e->out->tensors[l->inputs[0]];
    const oct_node *w = oct_node_input(e->graph, wf, OCT_FQW_W);
    const oct_fake_quant_weight_attrs *a = wf->attrs;
    oct_fold_source src = {.weights = data_of(e, wf, OCT_FQW_W), .eps = a->eps, .input_exponent = in->exponent,
                           .affine = a->affine, .input_scale = in->scale, .per_channel = a->per_channel};
    src.outputs = *outputs = oct_weight_outputs(&w->shape, &src.outputs_last);
    src.per_output = w->count / (size_t)src.outputs;
    if (a->has_norm) {
        src.gamma = data_of(e, wf, OCT_FQW_GAMMA);
        src.beta = data_of(e, wf, OCT_FQW_BETA);
        src.mean = data_of(e, wf, OCT_FQW_MEAN);
        src.var = data_of(e, wf, OCT_FQW_VAR);
    }
    if (a->has_bias) src.bias = data_of(e, wf, wf->input_count - 1);
    void *block = take(e, oct_fold_bytes(src.outputs, src.per_output), 1);
    *exponents = take(e, (size_t)src.outputs, 1);
    if (!block || !*exponents) return no_memory(e);
    oct_fold fold = oct_fold_place(block, src.outputs, src.per_output);
    OCT_TRY(oct_fold_weights(&fold, &src, layer->name, e->error));
    l->weights = fold.codes;
    l->bias = fold.bias;
    l->weight_exponent_count = a->per_channel ? src.outputs : 1;
    if (a->affine) {
        l->weight_scales = fold.scale;
        return OCT_OK;
    }
    for (int o = 0; o < src.outputs; o++) {
        if (fold.exponent[o] < INT8_MIN || fold.exponent[o] > INT8_MAX)
            return refuse(e, layer, "a weight exponent does not fit the file");
        (*exponents)[o] = (int8_t)fold.exponent[o];
    }
    l->weight_exponents = *exponents;
    return OCT_OK;
}

static void set_geometry(oct_int8_layer *l, const oct_conv2d_attrs *a)
{
    l->kernel_h = a->kernel[0], l->kernel_w = a->kernel[1];
    l->stride_h = a->stride[0], l->stride_w = a->stride[1];
    l->dilation_h = a->dilation[0], l->dilation_w = a->dilation[1];
    l->pad_top = a->pad[0], l->pad_left = a->pad[1], l->pad_bottom = a->pad[2], l->pad_right = a->pad[3];
    l->groups = a->groups;
}

static oct_status export_layer(exporter *e, const oct_unit *unit)
{
    const oct_graph *g = e->graph;
    const oct_node *layer = oct_unit_slot(g, unit, OCT_LAYER_OP), *fq = oct_unit_slot(g, unit, OCT_LAYER_FQ);
    const oct_node *last = g->nodes[unit->last];
    bool linear = layer->op == &oct_op_linear;
    oct_int8_op op = linear ? OCT_INT8_LINEAR
                     : oct_conv2d_is_depthwise(g, layer) ? OCT_INT8_DEPTHWISE : OCT_INT8_CONV;
    oct_clip_codes clip = {0};
    oct_int8_tensor *t = fq ? add_codes(e, fq, oct_unit_slot(g, unit, OCT_LAYER_ACT), &clip)
                            : add_tensor(e, last, OCT_INT8_SCORES);
    oct_int8_layer *l = add_layer(e, op, layer, e->tensor_of[last->id]);
    OCT_TRY(add_input(e, l, layer, oct_node_input(g, layer, 0)));
    if (!linear) set_geometry(l, layer->attrs);
    int kx = e->out->tensors[l->inputs[0]].exponent, outputs;
    int8_t *exponents;
    OCT_TRY(fold_layer(e, layer, oct_unit_slot(g, unit, OCT_LAYER_WEIGHT), l, &exponents, &outputs));
    if (fq) {
        l->out_lo = clip.lo;
        l->out_hi = clip.hi;
        return OCT_OK;
    }
    if (l->weight_scales) return OCT_OK; /* scores are worth input scale times weight scale */
    t->exponent = kx + exponents[0];
    if (l->weight_exponent_count > 1) {
        int8_t *scores = take(e, (size_t)outputs, 1);
        if (!scores) return no_memory(e);
        for (int o = 0; o < outputs; o++) {
            if (kx + exponents[o] < INT8_MIN || kx + exponents[o] > INT8_MAX)
                return refuse(e, layer, "a score exponent does not fit the file");
            scores[o] = (int8_t)(kx + exponents[o]);
        }
        t->exponents = scores;
    }
    return OCT_OK;
}

/* Pixels -> codes of the quantizer behind normalize. */
static oct_status export_lookup(exporter *e, const oct_node *normalize, const oct_node *act, const oct_node *fq)
{
    const oct_node *image = oct_node_input(e->graph, normalize, 0);
    const oct_normalize_attrs *a = normalize->attrs;
    if (image->id != e->image.id || image->dtype != OCT_U8) return refuse(e, normalize, "it must read the u8 image");
    oct_clip_codes clip;
    oct_int8_tensor *t = add_codes(e, fq, act, &clip);
    oct_int8_layer *l = add_layer(e, OCT_INT8_LOOKUP, normalize, e->tensor_of[fq->id]);
    OCT_TRY(add_input(e, l, normalize, image));
    uint8_t *table = take(e, (size_t)t->channels, 256);
    float *mean = take(e, (size_t)t->channels, sizeof *mean), *scale = take(e, (size_t)t->channels, sizeof *scale);
    if (!table || !mean || !scale) return no_memory(e);
    oct_normalize_table(table, a, t->channels, &clip);
    l->table = table;
    l->table_rows = t->channels;
    memcpy(mean, a->mean, (size_t)t->channels * sizeof *mean);
    memcpy(scale, a->scale, (size_t)t->channels * sizeof *scale);
    e->out->spec.mean = mean;
    e->out->spec.scale = scale;
    return OCT_OK;
}

/* A function of one code. */
static oct_status export_table(exporter *e, const oct_node *n, const oct_node *act, const oct_node *fq)
{
    oct_clip_codes clip;
    add_codes(e, fq, act, &clip);
    oct_int8_layer *l = add_layer(e, OCT_INT8_LOOKUP, n, e->tensor_of[fq->id]);
    OCT_TRY(add_input(e, l, n, oct_node_input(e->graph, n, 0)));
    const oct_int8_tensor *x = &e->out->tensors[l->inputs[0]];
    size_t count = 256 * (size_t)oct_table_rows(n);
    uint8_t *table = take(e, count, 1);
    double *values = take(e, count, sizeof *values);
    if (!table || !values) return no_memory(e);
    oct_table_values(values, n, n->op == &oct_op_prelu ? data_of(e, n, 1) : NULL,
                     oct_int8_code_scale(&e->out->spec, x), x->zero_point, x->is_signed);
    oct_table_codes(table, values, count, &clip);
    l->table = table;
    l->table_rows = oct_table_rows(n);
    return OCT_OK;
}

static oct_status export_point(exporter *e, const oct_unit *unit)
{
    const oct_graph *g = e->graph;
    const oct_node *n = oct_unit_slot(g, unit, OCT_POINT_OP), *act = oct_unit_slot(g, unit, OCT_POINT_ACT);
    const oct_node *fq = oct_unit_slot(g, unit, OCT_POINT_FQ);
    if (n && n->op == &oct_op_normalize) return export_lookup(e, n, act, fq);
    if (n && oct_op_is_tabled(n->op)) return export_table(e, n, act, fq);
    const oct_node *value = n ? n : oct_node_input(g, act ? act : fq, 0);
    if (!n && value->kind == OCT_NODE_INPUT) { /* a float input: the model starts from its codes */
        oct_clip_codes clip;
        add_codes(e, fq, act, &clip);
        e->out->spec.input = e->tensor_of[fq->id];
        return OCT_OK;
    }
    oct_int8_op op = !n                                            ? OCT_INT8_RESCALE
                     : n->op == &oct_op_add                        ? OCT_INT8_ADD
                     : n->op == &oct_op_sub                        ? OCT_INT8_SUB
                     : n->op == &oct_op_mul                        ? OCT_INT8_MUL
                     : n->op == &oct_op_concat                     ? OCT_INT8_CONCAT
                                                                   : OCT_INT8_AVERAGE_POOL;
    oct_clip_codes clip;
    add_codes(e, fq, act, &clip);
    oct_int8_layer *l = add_layer(e, op, n ? n : fq, e->tensor_of[fq->id]);
    if (n) {
        for (int i = 0; i < n->input_count; i++) OCT_TRY(add_input(e, l, n, oct_node_input(g, n, i)));
    } else {
        OCT_TRY(add_input(e, l, fq, value));
    }
    if (op == OCT_INT8_AVERAGE_POOL) oct_pass_layer(l, g, n);
    l->out_lo = clip.lo;
    l->out_hi = clip.hi;
    return OCT_OK;
}

/* Codes pass with their grid; softmax has its own. */
static oct_status export_pass(exporter *e, const oct_node *n)
{
    const oct_node *x = oct_node_input(e->graph, n, 0);
    if (e->tensor_of[x->id] < 0) return refuse(e, n, "its input has no codes");
    oct_int8_tensor from = e->out->tensors[e->tensor_of[x->id]];
    oct_int8_tensor *t = add_tensor(e, n, n->op == &oct_op_argmax ? OCT_INT8_SCORES : OCT_INT8_CODES);
    oct_int8_layer *l = add_layer(e, OCT_INT8_PAD, n, e->tensor_of[n->id]);
    oct_pass_layer(l, e->graph, n);
    if (n->op == &oct_op_softmax) {
        uint8_t *table = take(e, OCT_SOFTMAX_TABLE_ROWS, 256);
        if (!table) return no_memory(e);
        oct_softmax_table(table, oct_int8_code_scale(&e->out->spec, &from));
        l->table = table;
        l->table_rows = OCT_SOFTMAX_TABLE_ROWS;
        if (oct_int8_spec_is_affine(&e->out->spec))
            t->scale = ldexpf(1, -OCT_SOFTMAX_EXPONENT);
        else
            t->exponent = OCT_SOFTMAX_EXPONENT;
    } else if (n->op != &oct_op_argmax) {
        t->is_signed = from.is_signed;
        t->exponent = from.exponent;
        t->scale = from.scale;
        t->zero_point = from.zero_point;
    }
    return add_input(e, l, n, x);
}

static oct_status visit(exporter *e, const oct_node *n)
{
    oct_unit unit = {.last = n->id};
    if (oct_op_passes_codes(n->op) || n->op == &oct_op_argmax) return export_pass(e, n);
    if (n->op == &oct_op_dropout) { /* identity outside training */
        e->tensor_of[n->id] = e->tensor_of[n->inputs[0]];
        return OCT_OK;
    }
    if (n->op != &oct_op_fake_quant && n->id != e->logits.id) return OCT_OK; /* inside a chain */
    if (!oct_quant_fuser.match(e->graph, n, e->kept, &unit)) return refuse(e, n, "it has no integer form");
    return unit.exec == &oct_exec_layer || unit.exec == &oct_exec_layer_scores ? export_layer(e, &unit)
                                                                               : export_point(e, &unit);
}

static void mark_needed(exporter *e)
{
    const oct_graph *g = e->graph;
    e->needed[e->logits.id] = true;
    for (int32_t k = g->node_count - 1; k >= 0; k--) {
        const oct_node *n = g->nodes[g->order[k]];
        for (int i = 0; i < n->input_count && e->needed[n->id]; i++) e->needed[n->inputs[i]] = true;
    }
}

/* A file has one rounding: that of every point. */
static oct_status take_rounding(exporter *e, const oct_node *fq)
{
    const oct_fake_quant_attrs *a = fq->attrs;
    if (!e->rounding_known) e->out->spec.rounding = (oct_int8_rounding)a->rounding;
    e->rounding_known = true;
    if ((int32_t)e->out->spec.rounding == a->rounding) return OCT_OK;
    return refuse(e, fq, "its rounding is another than that of the points before it");
}

static oct_status check_ready(exporter *e)
{
    const oct_graph *g = e->graph;
    const oct_node *logits = oct_graph_node(g, e->logits), *image = oct_graph_node(g, e->image);
    if (!logits || !image || image->kind != OCT_NODE_INPUT)
        return oct_fail(e->error, OCT_ERR_ARGUMENT, "export: no such input or output");
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        if (!e->needed[n->id] || n->op != &oct_op_fake_quant) continue;
        const float *range = oct_graph_data(e->graph, (oct_value){n->inputs[OCT_FQ_RANGE]}, NULL);
        if (!(range[OCT_RANGE_OBSERVED] > 0))
            return oct_fail(e->error, OCT_ERR_STATE, "cannot export: the range of '%s' never saw data; calibrate or train "
                            "first", n->name);
        OCT_TRY(take_rounding(e, n));
    }
    return OCT_OK;
}

static oct_status run(exporter *e, const oct_export_options *options)
{
    const oct_graph *g = e->graph;
    size_t nodes = (size_t)g->node_count;
    e->out->tensors = take(e, nodes, sizeof *e->out->tensors);
    e->out->layers = take(e, nodes, sizeof *e->out->layers);
    e->tensor_of = take(e, nodes, sizeof *e->tensor_of);
    e->needed = take(e, nodes, sizeof *e->needed);
    e->kept = take(e, nodes, sizeof *e->kept);
    if (!e->out->tensors || !e->out->layers || !e->tensor_of || !e->needed || !e->kept) return no_memory(e);
    for (size_t i = 0; i < nodes; i++) e->tensor_of[i] = -1;
    mark_needed(e);
    OCT_TRY(check_ready(e));
    if (!oct_quantize_points(g)) return oct_fail(e->error, OCT_ERR_STATE, "cannot export a float graph: quantize it first");
    oct_int8_spec *spec = &e->out->spec;
    spec->profile = spec->rounding == OCT_INT8_ROUND_SHIFT ? OCT_INT8_PROFILE_PO2 : OCT_INT8_PROFILE_AFFINE;
    spec->tool = "octet " OCT_VERSION;
    spec->source_digest = options->source_digest;
    if (oct_graph_node(g, e->image)->dtype == OCT_U8) {
        add_tensor(e, oct_graph_node(g, e->image), OCT_INT8_PIXELS);
        spec->input = 0;
    }
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        if (n->kind == OCT_NODE_OP && e->needed[n->id]) OCT_TRY(visit(e, n));
    }
    spec->tensors = e->out->tensors;
    spec->layers = e->out->layers;
    spec->output = e->tensor_of[e->logits.id];
    if (spec->output < 0) return refuse(e, oct_graph_node(g, e->logits), "it has no integer form");
    const char **names = take(e, (size_t)options->class_count, sizeof *names);
    if (!names) return no_memory(e);
    for (int i = 0; i < options->class_count; i++) names[i] = oct_arena_strdup(&e->out->arena, options->class_names[i]);
    spec->class_names = options->class_count ? names : NULL;
    spec->class_count = options->class_count;
    return oct_int8_spec_check(spec, e->error);
}

oct_status oct_export_create(oct_exported **out, oct_graph *graph, oct_value image, oct_value logits,
                             const oct_export_options *options)
{
    *out = NULL;
    OCT_TRY(oct_graph_status(graph));
    oct_exported *exported = oct_calloc(1, sizeof *exported);
    if (!exported) return oct_out_of_memory(graph->ctx, "export");
    oct_arena_init(&exported->arena, 0);
    exporter e = {.graph = graph, .error = &graph->ctx->error, .out = exported, .image = image, .logits = logits};
    oct_status status = run(&e, options);
    if (status != OCT_OK) {
        oct_export_destroy(exported);
        return status;
    }
    *out = exported;
    return OCT_OK;
}

void oct_export_destroy(oct_exported *exported)
{
    if (!exported) return;
    oct_arena_release(&exported->arena);
    oct_free(exported);
}

const oct_int8_spec *oct_exported_spec(const oct_exported *exported)
{
    return &exported->spec;
}
