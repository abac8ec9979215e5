/* SPDX-License-Identifier: BSD-2-Clause
 * Specs of the model zoo, what all models share around their network, and printing. */
#include "layers/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/models_internal.h"

static const oct_value invalid = {-1};

enum { HAS_WIDTH = 1, HAS_FORM = 2, HAS_ACT = 4 };

typedef struct zoo_entry {
    const char *name;
    oct_value (*network)(const oct_net *net);
    int options; /* HAS_ bits */
    bool relu6;  /* default activation */
} zoo_entry;

static const zoo_entry zoo[] = {
    {"resnet8", oct_net_resnet8, 0, false},
    {"resnet20", oct_net_resnet20, 0, false},
    {"resnet18", oct_net_resnet18, HAS_FORM, false},
    {"mobilenetv1", oct_net_mobilenetv1, HAS_WIDTH | HAS_FORM | HAS_ACT, false},
    {"mobilenetv2", oct_net_mobilenetv2, HAS_WIDTH | HAS_FORM | HAS_ACT, true},
};
enum { ZOO_COUNT = sizeof zoo / sizeof zoo[0], SPEC_BYTES = 256, CIFAR_SIDE = 64 };

const char *oct_model_name(int index)
{
    return index >= 0 && index < ZOO_COUNT ? zoo[index].name : NULL;
}

static const zoo_entry *find_entry(const char *name, oct_error *error)
{
    char known[SPEC_BYTES] = "";
    for (int i = 0; i < ZOO_COUNT; i++) {
        if (!strcmp(name, zoo[i].name)) return &zoo[i];
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", zoo[i].name);
    }
    oct_fail(error, OCT_ERR_ARGUMENT, "unknown model '%s'; known models: %s", name, known);
    return NULL;
}

static oct_status set_width(oct_net *net, const zoo_entry *entry, const char *value, oct_error *error)
{
    char *end;
    double width = strtod(value, &end);
    if (end == value || *end || !(width >= 0.05 && width <= 4))
        return oct_fail(error, OCT_ERR_ARGUMENT, "model %s: width=%s: expected a number in 0.05..4", entry->name,
                        value);
    net->width = width;
    return OCT_OK;
}

/* One of two words; *out tells whether it is the first. */
static oct_status set_word(bool *out, const zoo_entry *entry, const char *key, const char *value, const char *yes,
                           const char *no, oct_error *error)
{
    *out = !strcmp(value, yes);
    if (*out || !strcmp(value, no)) return OCT_OK;
    return oct_fail(error, OCT_ERR_ARGUMENT, "model %s: %s=%s: expected %s or %s", entry->name, key, value, yes, no);
}

static oct_status set_option(oct_net *net, const zoo_entry *entry, const char *key, const char *value,
                             oct_error *error)
{
    if (!strcmp(key, "width") && entry->options & HAS_WIDTH) return set_width(net, entry, value, error);
    if (!strcmp(key, "form") && entry->options & HAS_FORM)
        return set_word(&net->cifar, entry, key, value, "cifar", "imagenet", error);
    if (!strcmp(key, "act") && entry->options & HAS_ACT)
        return set_word(&net->relu6, entry, key, value, "relu6", "relu", error);
    char known[64] = "";
    snprintf(known, sizeof known, "%s%s%s", entry->options & HAS_WIDTH ? " width" : "",
             entry->options & HAS_FORM ? " form" : "", entry->options & HAS_ACT ? " act" : "");
    return oct_fail(error, OCT_ERR_ARGUMENT, "model %s: unknown option '%s'; known options:%s", entry->name, key,
                    *known ? known : " none");
}

/* Splits "name:key=value,key=value" in place. */
static oct_status parse_spec(const zoo_entry **entry, oct_net *net, char *spec, oct_error *error)
{
    char *options = strchr(spec, ':');
    if (options) *options++ = '\0';
    *entry = find_entry(spec, error);
    if (!*entry) return OCT_ERR_ARGUMENT;
    net->relu6 = (*entry)->relu6;
    while (options) {
        char *next = strchr(options, ',');
        if (next) *next++ = '\0';
        char *value = strchr(options, '=');
        if (!value)
            return oct_fail(error, OCT_ERR_ARGUMENT, "model %s: expected option=value, got '%s'", spec, options);
        *value++ = '\0';
        OCT_TRY(set_option(net, *entry, options, value, error));
        options = next;
    }
    return OCT_OK;
}

static oct_status check_options(const oct_model_options *o, oct_error *error)
{
    if (o->height < 1 || o->width < 1 || o->channels < 1 || o->channels > 4 || o->height > 1 << 14 ||
        o->width > 1 << 14)
        return oct_fail(error, OCT_ERR_ARGUMENT,
                        "model: expected an image of 1..16384 pixels a side and 1..4 channels, got %dx%dx%d", o->height,
                        o->width, o->channels);
    if (o->classes < 2)
        return oct_fail(error, OCT_ERR_ARGUMENT, "model: expected at least 2 classes, got %d", o->classes);
    return OCT_OK;
}

static oct_value normalized(oct_graph *g, oct_value image, const oct_model_options *options)
{
    oct_normalize_attrs attrs = options->preprocess;
    for (int c = 0; c < 4; c++)
        if (attrs.scale[c] == 0) attrs.scale[c] = 1;
    return oct_normalize(g, "normalize", image, attrs);
}

oct_status oct_model_build(oct_model *model, oct_graph *g, const char *spec, const oct_model_options *options)
{
    oct_error *error = &g->ctx->error;
    *model = (oct_model){.image = invalid, .label = invalid, .logits = invalid, .loss = invalid};
    OCT_TRY(oct_graph_status(g));
    OCT_TRY(check_options(options, error));
    char text[SPEC_BYTES];
    if (strlen(spec) >= sizeof text)
        return oct_fail(error, OCT_ERR_ARGUMENT, "model '%.40s...': expected fewer than %d characters", spec,
                        SPEC_BYTES);
    snprintf(text, sizeof text, "%s", spec);
    const zoo_entry *entry;
    oct_net net = {.graph = g, .width = 1};
    net.cifar = options->height <= CIFAR_SIDE && options->width <= CIFAR_SIDE;
    OCT_TRY(parse_spec(&entry, &net, text, error));
    snprintf(model->name, sizeof model->name, "%s", entry->name);
    model->image = oct_input(g, "image", OCT_U8,
                             OCT_SHAPE(OCT_BATCH, options->height, options->width, options->channels));
    net.image = normalized(g, model->image, options);
    oct_value x = oct_global_average_pool(g, "pool", entry->network(&net));
    model->logits = oct_linear(g, "head", x, (oct_linear_opts){.outputs = options->classes, .gain = 1});
    model->label = oct_labels(g, "label");
    oct_cross_entropy_attrs loss = oct_cross_entropy_defaults();
    loss.smoothing = options->label_smoothing;
    model->loss = oct_softmax_cross_entropy(g, "loss", model->logits, model->label, loss);
    return oct_graph_status(g);
}

static oct_status find_value(oct_value *value, oct_graph *g, const char *name, oct_node_kind kind, bool required)
{
    *value = oct_graph_find(g, name);
    const oct_node *n = oct_graph_node(g, *value);
    if (!n && !required) return OCT_OK;
    if (!n) return oct_fail(&g->ctx->error, OCT_ERR_FORMAT, "graph: expected a node '%s', found none", name);
    if (n->kind != kind)
        return oct_fail(&g->ctx->error, OCT_ERR_FORMAT, "graph: expected node '%s' to be an %s", name,
                        kind == OCT_NODE_INPUT ? "input" : "op");
    return OCT_OK;
}

oct_status oct_model_find(oct_model *model, oct_graph *g)
{
    *model = (oct_model){.image = invalid, .label = invalid, .logits = invalid, .loss = invalid};
    OCT_TRY(oct_graph_status(g));
    OCT_TRY(find_value(&model->image, g, "image", OCT_NODE_INPUT, true));
    OCT_TRY(find_value(&model->logits, g, "head", OCT_NODE_OP, true));
    OCT_TRY(find_value(&model->label, g, "label", OCT_NODE_INPUT, false));
    return find_value(&model->loss, g, "loss", OCT_NODE_OP, false);
}

oct_model_size oct_model_measure(const oct_graph *g)
{
    oct_model_size size = {0};
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind == OCT_NODE_PARAMETER) size.parameters += (int64_t)n->count;
        if (n->kind == OCT_NODE_BUFFER) size.buffers += (int64_t)n->count;
        if (n->kind == OCT_NODE_OP && n->op->macs) size.macs += n->op->macs(g, n);
    }
    return size;
}

/* Parameter elements that `n` is the first to read. */
static int64_t own_parameters(const oct_graph *g, const oct_node *n)
{
    int64_t count = 0;
    for (int i = 0; i < n->input_count; i++) {
        const oct_node *in = g->nodes[n->inputs[i]];
        int32_t first = -1;
        if (in->kind != OCT_NODE_PARAMETER) continue;
        oct_graph_users(g, (oct_value){in->id}, &first, 1);
        bool again = false; /* the same parameter in an earlier slot of this node */
        for (int k = 0; k < i; k++) again |= n->inputs[k] == in->id;
        if (first == n->id && !again) count += (int64_t)in->count;
    }
    return count;
}

static void print_row(const oct_graph *g, const oct_node *n, int width, void (*line)(void *user, const char *text),
                      void *user)
{
    char shape[OCT_SHAPE_TEXT], text[512];
    long long macs = n->op->macs ? (long long)n->op->macs(g, n) : 0;
    snprintf(text, sizeof text, "%-*s  %-22s %-18s %12lld %14lld", width, n->name, n->op->name,
             oct_shape_text(shape, &n->shape), (long long)own_parameters(g, n), macs);
    line(user, text);
}

void oct_model_print(const oct_graph *g, void (*line)(void *user, const char *text), void *user)
{
    char text[512];
    int width = 4;
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[k];
        int length = (int)strlen(n->name);
        if (n->kind == OCT_NODE_OP && length > width) width = length;
    }
    snprintf(text, sizeof text, "%-*s  %-22s %-18s %12s %14s", width, "name", "op", "output", "parameters", "MACs");
    line(user, text);
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        if (n->kind == OCT_NODE_OP) print_row(g, n, width, line, user);
    }
    oct_model_size size = oct_model_measure(g);
    snprintf(text, sizeof text, "total: %lld parameters, %lld buffer elements (%lld together), %.2f MMAC",
             (long long)size.parameters, (long long)size.buffers, (long long)(size.parameters + size.buffers),
             (double)size.macs * 1e-6);
    line(user, text);
}
