/* SPDX-License-Identifier: BSD-2-Clause
 * Specs of the model zoo, what all models share around their network, and printing. */
#include "layers/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/models_internal.h"

enum { HAS_WIDTH = 1, HAS_FORM = 2, HAS_ACT = 4, HAS_DROPOUT = 8 };

typedef struct zoo_entry {
    const char *name;
    oct_value (*network)(const oct_net *net);           /* normalized image -> what is pooled, or what the head reads */
    oct_value (*neck)(const oct_net *net, oct_value x); /* pooled -> what the head reads; NULL: the same */
    int member;                                         /* of the network's family */
    int options;                                        /* HAS_ bits */
    bool relu6;                                         /* default activation */
    float dropout;                                      /* default rate */
    oct_model_task task;
} zoo_entry;

static const zoo_entry zoo[] = {
    {.name = "resnet8", .network = oct_net_resnet8},
    {.name = "resnet20", .network = oct_net_resnet20},
    {.name = "resnet18", .network = oct_net_resnet, .member = OCT_NET_RESNET18, .options = HAS_WIDTH | HAS_FORM},
    {.name = "resnet34", .network = oct_net_resnet, .member = OCT_NET_RESNET34, .options = HAS_WIDTH | HAS_FORM},
    {.name = "resnet50", .network = oct_net_resnet, .member = OCT_NET_RESNET50, .options = HAS_WIDTH | HAS_FORM},
    {.name = "resnext50", .network = oct_net_resnet, .member = OCT_NET_RESNEXT50, .options = HAS_WIDTH | HAS_FORM},
    {.name = "mobilenetv1", .network = oct_net_mobilenetv1, .options = HAS_WIDTH | HAS_FORM | HAS_ACT},
    {.name = "mobilenetv2", .network = oct_net_mobilenetv2, .neck = oct_net_dropout,
     .options = HAS_WIDTH | HAS_FORM | HAS_ACT | HAS_DROPOUT, .relu6 = true},
    {.name = "mobilenetv3-lite-large", .network = oct_net_mobilenetv3_lite, .neck = oct_net_mobilenetv3_hidden,
     .member = OCT_NET_MOBILENETV3_LARGE, .options = HAS_WIDTH | HAS_FORM | HAS_DROPOUT},
    {.name = "mobilenetv3-lite-small", .network = oct_net_mobilenetv3_lite, .neck = oct_net_mobilenetv3_hidden,
     .member = OCT_NET_MOBILENETV3_SMALL, .options = HAS_WIDTH | HAS_FORM | HAS_DROPOUT},
    {.name = "regnetx-400mf", .network = oct_net_regnetx, .member = OCT_NET_REGNETX_400MF, .options = HAS_FORM},
    {.name = "regnetx-800mf", .network = oct_net_regnetx, .member = OCT_NET_REGNETX_800MF, .options = HAS_FORM},
    {.name = "regnetx-1.6gf", .network = oct_net_regnetx, .member = OCT_NET_REGNETX_1600MF, .options = HAS_FORM},
    {.name = "efficientnet-lite0", .network = oct_net_efficientnet_lite, .neck = oct_net_dropout,
     .member = OCT_NET_EFFICIENTNET_LITE0, .options = HAS_FORM | HAS_ACT | HAS_DROPOUT, .relu6 = true},
    {.name = "efficientnet-lite1", .network = oct_net_efficientnet_lite, .neck = oct_net_dropout,
     .member = OCT_NET_EFFICIENTNET_LITE1, .options = HAS_FORM | HAS_ACT | HAS_DROPOUT, .relu6 = true},
    {.name = "efficientnet-lite2", .network = oct_net_efficientnet_lite, .neck = oct_net_dropout,
     .member = OCT_NET_EFFICIENTNET_LITE2, .options = HAS_FORM | HAS_ACT | HAS_DROPOUT, .relu6 = true},
    {.name = "ds-cnn", .network = oct_net_ds_cnn, .options = HAS_DROPOUT, .dropout = 0.4f},
    {.name = "autoencoder", .network = oct_net_autoencoder, .task = OCT_RECONSTRUCT},
};
enum { ZOO_COUNT = sizeof zoo / sizeof zoo[0], SPEC_BYTES = 256, KNOWN_BYTES = 384, CIFAR_SIDE = 64 };

const char *oct_model_name(int index)
{
    return index >= 0 && index < ZOO_COUNT ? zoo[index].name : NULL;
}

static const zoo_entry *find_entry(const char *name, oct_error *error)
{
    char known[KNOWN_BYTES] = "";
    for (int i = 0; i < ZOO_COUNT; i++) {
        if (!strcmp(name, zoo[i].name)) return &zoo[i];
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", zoo[i].name);
    }
    oct_fail(error, OCT_ERR_ARGUMENT, "unknown model '%s'; known models: %s", name, known);
    return NULL;
}

static oct_status set_number(double *out, const zoo_entry *entry, const char *key, const char *value, double lo,
                             double hi, oct_error *error)
{
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end || !(number >= lo && number <= hi))
        return oct_fail(error, OCT_ERR_ARGUMENT, "model %s: %s=%s: expected a number in %g..%g", entry->name, key, value,
                        lo, hi);
    *out = number;
    return OCT_OK;
}

static oct_status set_dropout(oct_net *net, const zoo_entry *entry, const char *value, oct_error *error)
{
    double rate = 0;
    OCT_TRY(set_number(&rate, entry, "dropout", value, 0, 0.9, error));
    net->dropout = (float)rate;
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
    if (!strcmp(key, "width") && entry->options & HAS_WIDTH)
        return set_number(&net->width, entry, key, value, 0.05, 4, error);
    if (!strcmp(key, "form") && entry->options & HAS_FORM)
        return set_word(&net->cifar, entry, key, value, "cifar", "imagenet", error);
    if (!strcmp(key, "act") && entry->options & HAS_ACT)
        return set_word(&net->relu6, entry, key, value, "relu6", "relu", error);
    if (!strcmp(key, "dropout") && entry->options & HAS_DROPOUT) return set_dropout(net, entry, value, error);
    char known[64] = "";
    snprintf(known, sizeof known, "%s%s%s%s", entry->options & HAS_WIDTH ? " width" : "",
             entry->options & HAS_FORM ? " form" : "", entry->options & HAS_ACT ? " act" : "",
             entry->options & HAS_DROPOUT ? " dropout" : "");
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
    net->dropout = (*entry)->dropout;
    net->member = (*entry)->member;
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
    return OCT_OK;
}

static oct_value normalized(oct_graph *g, const char *name, oct_value image, const oct_model_options *options)
{
    oct_normalize_attrs attrs = options->preprocess;
    for (int c = 0; c < 4; c++)
        if (attrs.scale[c] == 0) attrs.scale[c] = 1;
    return oct_normalize(g, name, image, attrs);
}

static const oct_model nothing = {.image = {-1}, .label = {-1}, .logits = {-1}, .loss = {-1}};

static oct_status add_classifier(oct_model *model, const zoo_entry *entry, const oct_net *net,
                                 const oct_model_options *options)
{
    oct_graph *g = net->graph;
    if (options->classes < 2)
        return oct_fail(&g->ctx->error, OCT_ERR_ARGUMENT, "model: expected at least 2 classes, got %d",
                        options->classes);
    oct_value x = oct_global_average_pool(g, "pool", entry->network(net));
    if (entry->neck) x = entry->neck(net, x);
    model->logits = oct_linear(g, "head", x, (oct_linear_opts){.outputs = options->classes, .gain = 1});
    model->label = oct_labels(g, "label");
    oct_cross_entropy_attrs loss = oct_cross_entropy_defaults();
    loss.smoothing = options->label_smoothing;
    model->loss = oct_softmax_cross_entropy(g, "loss", model->logits, model->label, loss);
    return oct_graph_status(g);
}

/* The target is normalized on its own, so that it stays what it is when the network's input is quantized. */
static oct_status add_reconstruction(oct_model *model, const zoo_entry *entry, const oct_net *net,
                                     const oct_model_options *options)
{
    oct_graph *g = net->graph;
    int32_t outputs = options->height * options->width * options->channels;
    model->logits = oct_linear(g, "head", entry->network(net), (oct_linear_opts){.outputs = outputs, .gain = 1});
    oct_value target = oct_flatten(g, "target", normalized(g, "target/normalize", model->image, options));
    model->loss = oct_mean_squared_error(g, "loss", model->logits, target);
    return oct_graph_status(g);
}

oct_status oct_model_build(oct_model *model, oct_graph *g, const char *spec, const oct_model_options *options)
{
    oct_error *error = &g->ctx->error;
    *model = nothing;
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
    model->task = entry->task;
    model->image = oct_input(g, "image", OCT_U8,
                             OCT_SHAPE(OCT_BATCH, options->height, options->width, options->channels));
    net.image = normalized(g, "normalize", model->image, options);
    return entry->task == OCT_CLASSIFY ? add_classifier(model, entry, &net, options)
                                       : add_reconstruction(model, entry, &net, options);
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
    *model = nothing;
    OCT_TRY(oct_graph_status(g));
    OCT_TRY(find_value(&model->image, g, "image", OCT_NODE_INPUT, true));
    OCT_TRY(find_value(&model->logits, g, "head", OCT_NODE_OP, true));
    OCT_TRY(find_value(&model->label, g, "label", OCT_NODE_INPUT, false));
    OCT_TRY(find_value(&model->loss, g, "loss", OCT_NODE_OP, false));
    const oct_node *loss = oct_graph_node(g, model->loss);
    if (loss && loss->op == &oct_op_mean_squared_error) model->task = OCT_RECONSTRUCT;
    return OCT_OK;
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
