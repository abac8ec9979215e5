/* SPDX-License-Identifier: BSD-2-Clause
 * Models of layers: who reads whom, and in which order calls are built. Works on a list of calls, from the output back, so
 * that layers may stand in any order, unused ones are left out, and a cycle is found. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/import/keras_internal.h"
#include "layers/import/network.h"

enum { MAX_NAME = 170 }; /* bytes of a layer's name with those of the models around it */

typedef struct call {
    int layer, index; /* the layer's index-th call */
    int *inputs;      /* calls */
    int input_count;
    int state;        /* 0 untouched, 1 waiting for its inputs, 2 built */
    oct_keras_value value;
} call;

typedef struct item { /* a layer of the model */
    const char *name, *class_name;
    const cJSON *config, *inbound;
    int first, count; /* its calls */
} item;

typedef struct net {
    oct_keras_builder *b;
    const char *name;  /* of the model, for messages */
    const char *path;  /* "" or that of the inner model, with a slash behind it */
    const char *again; /* "" or "/call1"...: names of the nodes of further calls of an inner model */
    const char *group; /* name of the outermost inner model; NULL at the top */
    item *items;       /* in the order of the file */
    int *by_name;      /* indices of items, sorted by name */
    int count;
    call *calls;
    int call_count;
    oct_keras_value input; /* of an inner model */
} net;

static oct_status build_model(net *n, const char *class_name, const cJSON *config, oct_keras_value *out);

static oct_status fail(const net *n, oct_status status, const char *what, const char *layer)
{
    return oct_fail(n->b->error, status, "%.220s: model '%.60s': %s%s%.80s%s", n->b->file, n->name, what,
                    layer ? " '" : "", layer ? layer : "", layer ? "'" : "");
}

static void *allocate(const net *n, size_t count, size_t size)
{
    void *block = oct_arena_alloc(&n->b->arena, count, size);
    if (!block) fail(n, OCT_ERR_MEMORY, "out of memory", NULL);
    return block;
}

static const char *text_of(const cJSON *json, const char *key)
{
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(json, key);
    return cJSON_IsString(text) ? text->valuestring : NULL;
}

static bool is_model(const char *class_name)
{
    return !strcmp(class_name, "Functional") || !strcmp(class_name, "Model") || !strcmp(class_name, "Sequential");
}

/* --- layers --- */

static oct_status read_items(net *n, const cJSON *layers)
{
    int count = cJSON_IsArray(layers) ? cJSON_GetArraySize(layers) : 0;
    if (count < 1 || count > OCT_KERAS_MAX_LAYERS) return fail(n, OCT_ERR_FORMAT, "expected 1..4096 layers", NULL);
    n->items = allocate(n, (size_t)count, sizeof *n->items);
    n->by_name = allocate(n, (size_t)count, sizeof *n->by_name);
    if (!n->items || !n->by_name) return OCT_ERR_MEMORY;
    const cJSON *json;
    cJSON_ArrayForEach(json, layers) {
        item *it = &n->items[n->count];
        it->config = cJSON_GetObjectItemCaseSensitive(json, "config");
        it->class_name = text_of(json, "class_name");
        it->name = text_of(json, "name");
        if (!it->name) it->name = text_of(it->config, "name");
        it->inbound = cJSON_GetObjectItemCaseSensitive(json, "inbound_nodes");
        if (!it->name || !*it->name || strlen(it->name) > MAX_NAME || !it->class_name)
            return fail(n, OCT_ERR_FORMAT, "a layer without class_name, or with a name that is not 1..170 bytes", NULL);
        n->by_name[n->count] = n->count;
        n->count++;
    }
    return OCT_OK;
}

static int compare_names(const void *a, const void *b, void *items)
{
    const item *list = items;
    return strcmp(list[*(const int *)a].name, list[*(const int *)b].name);
}

static oct_status sort_items(net *n)
{
    qsort_r(n->by_name, (size_t)n->count, sizeof *n->by_name, compare_names, n->items);
    for (int i = 1; i < n->count; i++)
        if (!strcmp(n->items[n->by_name[i - 1]].name, n->items[n->by_name[i]].name))
            return fail(n, OCT_ERR_FORMAT, "two layers have the name", n->items[n->by_name[i]].name);
    return OCT_OK;
}

static item *find_item(const net *n, const char *name)
{
    int low = 0, high = n->count;
    while (low < high) {
        int mid = (low + high) / 2, order = strcmp(name, n->items[n->by_name[mid]].name);
        if (order == 0) return &n->items[n->by_name[mid]];
        if (order < 0) high = mid;
        else low = mid + 1;
    }
    return NULL;
}

static oct_status make_calls(net *n)
{
    int64_t total = 0;
    for (int i = 0; i < n->count; i++) {
        item *it = &n->items[i];
        it->count = cJSON_IsArray(it->inbound) ? cJSON_GetArraySize(it->inbound) : 0;
        if (it->count == 0 && !strcmp(it->class_name, "InputLayer")) it->count = 1;
        it->first = (int)total;
        total += it->count;
        if (total > OCT_KERAS_MAX_CALLS) return fail(n, OCT_ERR_FORMAT, "more than 8192 calls of layers", NULL);
    }
    n->calls = allocate(n, (size_t)total + 1, sizeof *n->calls);
    if (!n->calls) return OCT_ERR_MEMORY;
    for (int i = 0; i < n->count; i++)
        for (int k = 0; k < n->items[i].count; k++) n->calls[n->call_count++] = (call){.layer = i, .index = k};
    return OCT_OK;
}

/* --- references: ["layer", call, tensor, {...}] --- */

static bool is_reference(const cJSON *json)
{
    return cJSON_IsArray(json) && cJSON_GetArraySize(json) >= 3 && cJSON_IsString(cJSON_GetArrayItem(json, 0)) &&
           cJSON_IsNumber(cJSON_GetArrayItem(json, 1)) && cJSON_IsNumber(cJSON_GetArrayItem(json, 2));
}

/* Inner models that start with an input layer were called once when they were made. Keras 2 counts that call, Keras 3 in
 * output_layers alone. */
static int first_call_number(const item *it)
{
    if (!is_model(it->class_name)) return 0;
    if (strcmp(it->class_name, "Sequential")) return 1;
    const cJSON *layers = cJSON_IsArray(it->config) ? it->config : cJSON_GetObjectItemCaseSensitive(it->config, "layers");
    const char *first = text_of(cJSON_GetArrayItem(layers, 0), "class_name");
    return first && !strcmp(first, "InputLayer");
}

static oct_status resolve(const net *n, const cJSON *reference, bool counts_making, int *out)
{
    const item *it = find_item(n, cJSON_GetArrayItem(reference, 0)->valuestring);
    double number = cJSON_GetArrayItem(reference, 1)->valuedouble;
    if (!it) return fail(n, OCT_ERR_FORMAT, "there is no layer", cJSON_GetArrayItem(reference, 0)->valuestring);
    if (cJSON_GetArrayItem(reference, 2)->valuedouble != 0)
        return fail(n, OCT_ERR_UNSUPPORTED, "expected one output of the layer", it->name);
    if (is_model(it->class_name) && it->count == 1) number = 0;
    else if (counts_making) number -= first_call_number(it);
    if (!(number >= 0 && number < it->count) || number != floor(number))
        return fail(n, OCT_ERR_FORMAT, "no such call of the layer", it->name);
    *out = it->first + (int)number;
    return OCT_OK;
}

static oct_status add_input(net *n, call *c, const cJSON *reference, bool counts_making)
{
    if (c->input_count == OCT_KERAS_MAX_INPUTS)
        return fail(n, OCT_ERR_UNSUPPORTED, "more than 64 inputs of the layer", n->items[c->layer].name);
    return resolve(n, reference, counts_making, &c->inputs[c->input_count++]);
}

/* Arguments of a call besides tensors: nothing but null, training and mask. */
static oct_status check_arguments(const net *n, const call *c, const cJSON *arguments)
{
    const cJSON *a;
    cJSON_ArrayForEach(a, arguments)
        if (!cJSON_IsNull(a) && !(a->string && (!strcmp(a->string, "training") || !strcmp(a->string, "mask"))))
            return oct_fail(n->b->error, OCT_ERR_UNSUPPORTED, "%.220s: layer '%.80s' (%.40s): called with the argument '%.60s'",
                            n->b->file, n->items[c->layer].name, n->items[c->layer].class_name, a->string ? a->string : "?");
    return OCT_OK;
}

/* Keras 2: a call is a list of references, or one reference. */
static oct_status read_call_2(net *n, call *c, const cJSON *json)
{
    if (is_reference(json)) {
        OCT_TRY(add_input(n, c, json, true));
        return check_arguments(n, c, cJSON_GetArrayItem(json, 3));
    }
    const cJSON *reference;
    cJSON_ArrayForEach(reference, json) {
        if (!is_reference(reference)) return fail(n, OCT_ERR_FORMAT, "inbound_nodes of the layer", n->items[c->layer].name);
        OCT_TRY(add_input(n, c, reference, true));
        OCT_TRY(check_arguments(n, c, cJSON_GetArrayItem(reference, 3)));
    }
    return OCT_OK;
}

/* Keras 3: {"args": [tensor or list of tensors], "kwargs": {...}}. */
static oct_status read_argument(net *n, call *c, const cJSON *json, int depth)
{
    if (cJSON_IsArray(json) && depth < 4) {
        const cJSON *part;
        cJSON_ArrayForEach(part, json) OCT_TRY(read_argument(n, c, part, depth + 1));
        return OCT_OK;
    }
    const char *class_name = text_of(json, "class_name");
    const cJSON *history =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(json, "config"), "keras_history");
    if (!class_name || strcmp(class_name, "__keras_tensor__") || !is_reference(history))
        return fail(n, OCT_ERR_UNSUPPORTED, "an argument that is no tensor, of the layer", n->items[c->layer].name);
    return add_input(n, c, history, false);
}

static oct_status read_call(net *n, call *c, const cJSON *json)
{
    c->inputs = allocate(n, OCT_KERAS_MAX_INPUTS, sizeof *c->inputs);
    if (!c->inputs) return OCT_ERR_MEMORY;
    if (cJSON_IsArray(json)) return read_call_2(n, c, json);
    if (!cJSON_IsObject(json)) return fail(n, OCT_ERR_FORMAT, "inbound_nodes of the layer", n->items[c->layer].name);
    OCT_TRY(read_argument(n, c, cJSON_GetObjectItemCaseSensitive(json, "args"), 0));
    return check_arguments(n, c, cJSON_GetObjectItemCaseSensitive(json, "kwargs"));
}

static oct_status read_calls(net *n)
{
    for (int i = 0; i < n->count; i++) {
        const cJSON *json = cJSON_IsArray(n->items[i].inbound) ? n->items[i].inbound->child : NULL;
        for (int k = 0; k < n->items[i].count && json; k++, json = json->next)
            OCT_TRY(read_call(n, &n->calls[n->items[i].first + k], json));
    }
    return OCT_OK;
}

/* input_layers, output_layers: one reference, or a list of one. */
static oct_status read_end(const net *n, const cJSON *config, const char *key, int *out)
{
    const cJSON *ends = cJSON_GetObjectItemCaseSensitive(config, key);
    if (!is_reference(ends)) {
        if (!cJSON_IsArray(ends) || cJSON_GetArraySize(ends) != 1 || !is_reference(ends->child))
            return fail(n, OCT_ERR_UNSUPPORTED, "expected a single entry in", key);
        ends = ends->child;
    }
    return resolve(n, ends, true, out);
}

/* --- building --- */

/* The image: a layer's batch shape [null,H,W,C] or [null,H,W]. */
static oct_status make_image(net *n, const cJSON *shape, const char *layer, oct_keras_value *out)
{
    oct_keras_builder *b = n->b;
    const oct_network_options *o = b->options;
    int rank = cJSON_IsArray(shape) ? cJSON_GetArraySize(shape) - 1 : 0;
    if (rank != 2 && rank != 3)
        return fail(n, OCT_ERR_UNSUPPORTED, "expected images, shape [null, height, width, channels], at the input", layer);
    *out = (oct_keras_value){.rank = rank, .raw = true};
    for (int i = 0; i < rank; i++) {
        const cJSON *side = cJSON_GetArrayItem(shape, i + 1);
        int32_t given = i == 0 ? o->height : i == 1 ? o->width : 0;
        double d = cJSON_IsNumber(side) ? side->valuedouble : given;
        if (cJSON_IsNull(side) && !given)
            return fail(n, OCT_ERR_UNSUPPORTED, "the file leaves the image's size open, it must be given; input", layer);
        if (!(d >= 1 && d <= 1 << 14) || d != floor(d) || (i == 2 && d > 4))
            return fail(n, OCT_ERR_UNSUPPORTED, "expected an image of 1..16384 pixels a side and 1..4 channels at the input", layer);
        out->dim[i] = (int64_t)d;
    }
    int32_t channels = rank == 3 ? (int32_t)out->dim[2] : 1;
    b->image = oct_input(b->graph, "image", OCT_U8,
                         OCT_SHAPE(OCT_BATCH, (int32_t)out->dim[0], (int32_t)out->dim[1], channels));
    out->v = b->image;
    for (int c = 0; c < 4; c++) { /* (x - mean)*scale */
        double scale = o->preprocess.scale[c] != 0 ? (double)o->preprocess.scale[c] : 1;
        out->scale[c] = scale;
        out->offset[c] = -(double)o->preprocess.mean[c] * scale;
    }
    return oct_graph_status(b->graph);
}

/* The shape that a model wants its images in: its input layer's, or what its first layer or Keras wrote down. */
static const cJSON *input_shape(const char *class_name, const cJSON *config, int depth)
{
    static const char *const keys[] = {"batch_input_shape", "batch_shape"};
    bool model = class_name && is_model(class_name), sequence = model && !strcmp(class_name, "Sequential");
    const cJSON *layers = sequence && cJSON_IsArray(config) ? config : cJSON_GetObjectItemCaseSensitive(config, "layers");
    const cJSON *first = NULL, *layer, *shape = NULL;
    for (int i = 0; i < 2 && !model && !shape; i++) shape = cJSON_GetObjectItemCaseSensitive(config, keys[i]);
    if (!model || depth == OCT_KERAS_MAX_DEPTH) return shape;
    cJSON_ArrayForEach(layer, layers) {
        const char *kind = text_of(layer, "class_name");
        if (!first && (sequence || (kind && !strcmp(kind, "InputLayer")))) first = layer;
    }
    if (first)
        shape = input_shape(text_of(first, "class_name"), cJSON_GetObjectItemCaseSensitive(first, "config"), depth + 1);
    return shape ? shape : cJSON_GetObjectItemCaseSensitive(config, "build_input_shape");
}

static oct_status input_value(net *n, const item *it, oct_keras_value *out)
{
    if (n->group) {
        *out = n->input;
        return OCT_OK;
    }
    if (n->b->image.id >= 0) return fail(n, OCT_ERR_UNSUPPORTED, "a second input", it->name);
    return make_image(n, input_shape(it->class_name, it->config, 0), it->name, out);
}

/* Names of a layer's nodes: its path, moved away from the names that every model has. */
static oct_status name_layer(const net *n, const item *it, int index, oct_keras_layer *layer)
{
    char again[32] = "";
    if (strlen(n->path) + strlen(it->name) > MAX_NAME)
        return fail(n, OCT_ERR_UNSUPPORTED, "too long a name: layer", it->name);
    if (index) snprintf(again, sizeof again, "/call%d", index);
    snprintf(layer->path, sizeof layer->path, "%.170s%.170s", n->path, it->name);
    snprintf(layer->node, sizeof layer->node, "%s%.200s", oct_network_reserves(layer->path) ? "layer/" : "", layer->path);
    snprintf(layer->call, sizeof layer->call, "%.206s%.20s%s", layer->node, n->again, again);
    return OCT_OK;
}

/* Further calls of an inner model share its parameters; only its ops get new nodes. */
static oct_status build_inner(const net *n, const item *it, const oct_keras_layer *layer, int index, oct_keras_value *out)
{
    char path[OCT_KERAS_NAME], again[32];
    if (n->b->depth == OCT_KERAS_MAX_DEPTH) return fail(n, OCT_ERR_UNSUPPORTED, "models more than 8 deep", it->name);
    if (layer->input_count != 1) return fail(n, OCT_ERR_UNSUPPORTED, "expected one input of the model", it->name);
    snprintf(path, sizeof path, "%.200s/", layer->path);
    snprintf(again, sizeof again, "/call%d", index);
    net inner = {.b = n->b,
                 .name = it->name,
                 .path = path,
                 .again = index ? again : n->again,
                 .group = layer->group,
                 .input = layer->inputs[0]};
    n->b->depth++;
    OCT_TRY(build_model(&inner, it->class_name, it->config, out));
    n->b->depth--;
    return OCT_OK;
}

static oct_status build_call(net *n, const item *it, int index, const oct_keras_value *inputs, int count,
                             oct_keras_value *out)
{
    oct_keras_layer layer = {.b = n->b, .class_name = it->class_name, .name = it->name, .config = it->config,
                             .inputs = inputs, .input_count = count};
    layer.group = n->group ? n->group : it->name;
    if (n->b->calls++ == OCT_KERAS_MAX_CALLS) return fail(n, OCT_ERR_UNSUPPORTED, "more than 8192 calls of layers", NULL);
    OCT_TRY(name_layer(n, it, index, &layer));
    if (is_model(it->class_name)) return build_inner(n, it, &layer, index, out);
    return oct_keras_build_layer(&layer, out);
}

static oct_status finish_call(net *n, call *c)
{
    const item *it = &n->items[c->layer];
    oct_keras_value inputs[OCT_KERAS_MAX_INPUTS];
    for (int i = 0; i < c->input_count; i++) inputs[i] = n->calls[c->inputs[i]].value;
    c->state = 2;
    if (!strcmp(it->class_name, "InputLayer")) return input_value(n, it, &c->value);
    return build_call(n, it, c->index, inputs, c->input_count, &c->value);
}

/* Builds what `output` needs, depth first. A call is waiting exactly while it lies on the path that leads to it. */
static oct_status build_calls(net *n, int output)
{
    size_t room = 1;
    for (int i = 0; i < n->call_count; i++) room += (size_t)n->calls[i].input_count;
    int *stack = allocate(n, room, sizeof *stack), top = 0;
    if (!stack) return OCT_ERR_MEMORY;
    stack[top++] = output;
    while (top) {
        call *c = &n->calls[stack[top - 1]];
        if (c->state == 1) OCT_TRY(finish_call(n, c));
        if (c->state == 2) {
            top--;
            continue;
        }
        c->state = 1;
        for (int i = c->input_count - 1; i >= 0; i--) {
            int state = n->calls[c->inputs[i]].state;
            if (state == 1) return fail(n, OCT_ERR_FORMAT, "a cycle through the layer", n->items[c->layer].name);
            if (state == 0) stack[top++] = c->inputs[i];
        }
    }
    return OCT_OK;
}

static oct_status build_functional(net *n, const cJSON *config, oct_keras_value *out)
{
    int input, output;
    OCT_TRY(read_items(n, cJSON_GetObjectItemCaseSensitive(config, "layers")));
    OCT_TRY(sort_items(n));
    OCT_TRY(make_calls(n));
    OCT_TRY(read_end(n, config, "input_layers", &input));
    OCT_TRY(read_end(n, config, "output_layers", &output));
    OCT_TRY(read_calls(n));
    OCT_TRY(build_calls(n, output));
    *out = n->calls[output].value;
    return OCT_OK;
}

static oct_status build_sequential(net *n, const cJSON *config, oct_keras_value *out)
{
    oct_keras_value x = n->input;
    OCT_TRY(read_items(n, cJSON_IsArray(config) ? config : cJSON_GetObjectItemCaseSensitive(config, "layers")));
    OCT_TRY(sort_items(n));
    if (!n->group) OCT_TRY(make_image(n, input_shape("Sequential", config, 0), n->items[0].name, &x));
    for (int i = 0; i < n->count; i++) {
        oct_keras_value in = x;
        if (i == 0 && !strcmp(n->items[i].class_name, "InputLayer")) continue;
        OCT_TRY(build_call(n, &n->items[i], 0, &in, 1, &x));
    }
    *out = x;
    return OCT_OK;
}

static oct_status build_model(net *n, const char *class_name, const cJSON *config, oct_keras_value *out)
{
    return strcmp(class_name, "Sequential") ? build_functional(n, config, out) : build_sequential(n, config, out);
}

oct_status oct_keras_network(oct_keras_builder *b, const cJSON *json, oct_keras_value *out)
{
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(json, "config");
    const char *class_name = text_of(json, "class_name"), *name = text_of(config, "name");
    net n = {.b = b, .name = name ? name : "model", .path = "", .again = ""};
    if (!class_name || !is_model(class_name))
        return fail(&n, OCT_ERR_UNSUPPORTED, "expected a Functional or Sequential model, found", class_name ? class_name : "?");
    return build_model(&n, class_name, config, out);
}
