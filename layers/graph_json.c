/* SPDX-License-Identifier: BSD-2-Clause */
#include "layers/graph_json.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "layers/graph_json_internal.h"

static const char *const kind_names[] = {
    [OCT_NODE_INPUT] = "input", [OCT_NODE_PARAMETER] = "parameter", [OCT_NODE_BUFFER] = "buffer", [OCT_NODE_OP] = "op"};
static const char *const dtype_names[] = {[OCT_F32] = "f32", [OCT_U8] = "u8", [OCT_I32] = "i32"};

/* --- writing --- */

static cJSON *attr_value_to_json(const oct_attr *attr, const char *at)
{
    if (attr->type != OCT_ATTR_FLOAT) {
        int32_t v;
        memcpy(&v, at, sizeof v);
        return cJSON_CreateNumber(v);
    }
    float v;
    memcpy(&v, at, sizeof v);
    if (isnan(v)) return NULL;
    if (isinf(v)) return cJSON_CreateString(v > 0 ? "inf" : "-inf");
    return cJSON_CreateNumber((double)v);
}

/* Adds `item` (NULL = failed before) to an array or, with a key, to an object. */
static bool add(cJSON *to, const char *key, cJSON *item)
{
    bool ok = item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item));
    if (!ok) cJSON_Delete(item);
    return ok;
}

/* 0 of an attribute that came later says nothing. */
static bool is_left_out(const oct_attr *attr, const char *at)
{
    int32_t v;
    memcpy(&v, at, sizeof v);
    return attr->type == OCT_ATTR_CHOICE && v == 0;
}

static bool add_attr(cJSON *attrs, const oct_attr *attr, const char *base)
{
    const char *at = base + attr->offset;
    if (is_left_out(attr, at)) return true;
    if (attr->count == 1) return add(attrs, attr->name, attr_value_to_json(attr, at));
    cJSON *array = cJSON_AddArrayToObject(attrs, attr->name);
    bool ok = array != NULL;
    for (int i = 0; i < attr->count && ok; i++) ok = add(array, NULL, attr_value_to_json(attr, at + 4 * i));
    return ok;
}

static bool add_op(cJSON *json, const oct_graph *g, const oct_node *n)
{
    if (!add(json, "op", cJSON_CreateString(n->op->name))) return false;
    cJSON *attrs = n->op->attr_count ? cJSON_AddObjectToObject(json, "attrs") : NULL;
    if (n->op->attr_count && !attrs) return false;
    for (int i = 0; i < n->op->attr_count; i++)
        if (!add_attr(attrs, &n->op->attrs[i], n->attrs)) return false;
    cJSON *inputs = cJSON_AddArrayToObject(json, "inputs");
    bool ok = inputs != NULL;
    for (int i = 0; i < n->input_count && ok; i++)
        ok = add(inputs, NULL, cJSON_CreateString(g->nodes[n->inputs[i]]->name));
    return ok;
}

static cJSON *node_to_json(const oct_graph *g, const oct_node *n)
{
    cJSON *json = cJSON_CreateObject();
    bool ok = json && add(json, "id", cJSON_CreateNumber(n->id)) &&
              add(json, "name", cJSON_CreateString(n->name)) &&
              add(json, "kind", cJSON_CreateString(kind_names[n->kind]));
    if (ok && n->kind == OCT_NODE_OP) ok = add_op(json, g, n);
    ok = ok && add(json, "dtype", cJSON_CreateString(dtype_names[n->dtype])) &&
         add(json, "shape", cJSON_CreateIntArray(n->shape.dim, n->shape.rank));
    if (ok) return json;
    cJSON_Delete(json);
    return NULL;
}

typedef struct text_buffer {
    char *text;
    size_t used, capacity;
} text_buffer;

static bool append(text_buffer *b, const char *text)
{
    size_t length = strlen(text);
    if (b->used + length + 1 > b->capacity) {
        size_t capacity = 2 * b->capacity + length + 4096;
        char *grown = oct_realloc(b->text, b->used, capacity, 1);
        if (!grown) return false;
        b->text = grown;
        b->capacity = capacity;
    }
    memcpy(b->text + b->used, text, length + 1);
    b->used += length;
    return true;
}

static bool append_node(text_buffer *b, const oct_graph *g, const oct_node *n, bool last)
{
    cJSON *json = node_to_json(g, n);
    char *text = json ? cJSON_PrintUnformatted(json) : NULL;
    bool ok = text && append(b, text) && append(b, last ? "\n]}" : ",\n");
    cJSON_free(text);
    cJSON_Delete(json);
    return ok;
}

oct_status oct_graph_to_json(char **text, const oct_graph *g)
{
    *text = NULL;
    OCT_TRY(oct_graph_status(g));
    text_buffer b = {0};
    char head[64];
    snprintf(head, sizeof head, "{\"seed\":\"%" PRIu64 "\",\"nodes\":[\n", g->seed);
    bool ok = append(&b, head);
    if (ok && !g->node_count) ok = append(&b, "]}");
    for (int32_t k = 0; k < g->node_count && ok; k++)
        ok = append_node(&b, g, g->nodes[g->order[k]], k == g->node_count - 1);
    if (!ok) {
        oct_free(b.text);
        return oct_fail(&g->ctx->error, OCT_ERR_MEMORY, "graph: cannot be written as JSON (memory or a NaN attribute)");
    }
    *text = b.text;
    return OCT_OK;
}

/* --- reading: members --- */

static const char *get_text(const cJSON *json, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

static bool to_int32(const cJSON *item, int32_t *out)
{
    if (!cJSON_IsNumber(item)) return false;
    double v = item->valuedouble;
    if (!(v >= INT32_MIN && v <= INT32_MAX) || v != floor(v)) return false;
    *out = (int32_t)v;
    return true;
}

static bool to_float(const cJSON *item, float *out)
{
    if (cJSON_IsString(item)) {
        bool minus = !strcmp(item->valuestring, "-inf");
        if (!minus && strcmp(item->valuestring, "inf")) return false;
        *out = minus ? -INFINITY : INFINITY;
        return true;
    }
    if (!cJSON_IsNumber(item) || !(fabs(item->valuedouble) <= (double)FLT_MAX)) return false;
    *out = (float)item->valuedouble;
    return true;
}

static bool find_word(const char *const *words, int count, const char *word, int *index)
{
    for (int i = 0; i < count; i++)
        if (word && !strcmp(words[i], word)) {
            *index = i;
            return true;
        }
    return false;
}

static bool get_shape(const cJSON *json, oct_shape *shape)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(json, "shape");
    int rank = cJSON_GetArraySize(array);
    if (!cJSON_IsArray(array) || rank > OCT_MAX_RANK) return false;
    *shape = (oct_shape){.rank = rank};
    const cJSON *item;
    int i = 0;
    cJSON_ArrayForEach(item, array)
    {
        if (!to_int32(item, &shape->dim[i++])) return false;
    }
    return true;
}

static oct_status node_error(oct_error *error, const char *name, const char *what)
{
    return oct_fail(error, OCT_ERR_FORMAT, "graph: node '%s': %s", name, what);
}

static oct_status read_record(oct_node_record *record, const cJSON *json, oct_error *error)
{
    *record = (oct_node_record){.json = json, .name = get_text(json, "name")};
    int kind, dtype;
    if (!record->name) return oct_fail(error, OCT_ERR_FORMAT, "graph: a node has no name");
    if (!find_word(kind_names, 4, get_text(json, "kind"), &kind))
        return node_error(error, record->name, "expected kind input, parameter, buffer or op");
    if (!find_word(dtype_names, 3, get_text(json, "dtype"), &dtype))
        return node_error(error, record->name, "expected dtype f32, u8 or i32");
    if (!to_int32(cJSON_GetObjectItemCaseSensitive(json, "id"), &record->id) || record->id < 0)
        return node_error(error, record->name, "expected a whole number as id");
    if (!get_shape(json, &record->shape))
        return node_error(error, record->name, "expected at most four whole numbers as shape");
    record->kind = (oct_node_kind)kind;
    record->dtype = (oct_dtype)dtype;
    return OCT_OK;
}

/* Checks that ids are a numbering 0..count-1 and makes by_id[id] = index of the record. */
static oct_status index_ids(oct_graph_text *text, oct_error *error)
{
    for (int32_t i = 0; i < text->count; i++) text->by_id[i] = -1;
    for (int32_t i = 0; i < text->count; i++) {
        const oct_node_record *r = &text->records[i];
        if (r->id >= text->count || text->by_id[r->id] >= 0)
            return oct_fail(error, OCT_ERR_FORMAT, "graph: node '%s': id %d is taken or not below %d", r->name, r->id,
                            text->count);
        text->by_id[r->id] = i;
    }
    return OCT_OK;
}

static oct_status read_seed(oct_graph_text *text, oct_error *error)
{
    const char *seed = get_text(text->json, "seed");
    size_t digits = seed ? strspn(seed, "0123456789") : 0;
    if (!digits || digits > 20 || seed[digits])
        return oct_fail(error, OCT_ERR_FORMAT, "graph: expected a number as text for seed");
    text->seed = strtoull(seed, NULL, 10);
    return OCT_OK;
}

oct_status oct_graph_text_parse(oct_graph_text *text, const char *json, oct_error *error)
{
    *text = (oct_graph_text){.json = cJSON_Parse(json)};
    const cJSON *nodes = cJSON_GetObjectItemCaseSensitive(text->json, "nodes");
    if (!cJSON_IsArray(nodes)) return oct_fail(error, OCT_ERR_FORMAT, "graph: not JSON with an array 'nodes'");
    text->count = cJSON_GetArraySize(nodes);
    if (text->count > OCT_GRAPH_JSON_NODES)
        return oct_fail(error, OCT_ERR_FORMAT, "graph: %d nodes, expected at most %d", text->count,
                        OCT_GRAPH_JSON_NODES);
    text->records = oct_calloc((size_t)text->count, sizeof *text->records);
    text->by_id = oct_calloc((size_t)text->count, sizeof *text->by_id);
    if (!text->records || !text->by_id) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: graph");
    OCT_TRY(read_seed(text, error));
    const cJSON *node;
    int32_t i = 0;
    size_t elements = 0;
    cJSON_ArrayForEach(node, nodes)
    {
        oct_node_record *r = &text->records[i++];
        OCT_TRY(read_record(r, node, error));
        if (r->kind != OCT_NODE_PARAMETER && r->kind != OCT_NODE_BUFFER) continue;
        size_t count = oct_shape_sample(&r->shape);
        elements += count;
        if (!count || elements > INT32_MAX)
            return node_error(error, r->name, "expected 1..2^31-1 elements, those of the nodes before it included");
    }
    return index_ids(text, error);
}

bool oct_graph_text_floats(const oct_graph_text *text, const char *op, const char *attr, float *values, int count)
{
    for (int32_t i = 0; i < text->count; i++) {
        const cJSON *json = text->records[i].json;
        const char *name = get_text(json, "op");
        if (!name || strcmp(name, op)) continue;
        const cJSON *array = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(json, "attrs"), attr);
        if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) != count) return false;
        const cJSON *item;
        cJSON_ArrayForEach(item, array)
        {
            if (!to_float(item, values++)) return false;
        }
        return true;
    }
    return false;
}

void oct_graph_text_release(oct_graph_text *text)
{
    cJSON_Delete(text->json);
    oct_free(text->records);
    oct_free(text->by_id);
    *text = (oct_graph_text){0};
}

/* --- reading: ops --- */

static bool read_attr_value(const oct_attr *attr, const cJSON *item, char *at)
{
    int32_t i = 0;
    float f = 0;
    if (attr->type != OCT_ATTR_FLOAT ? !to_int32(item, &i) : !to_float(item, &f)) return false;
    if (attr->type != OCT_ATTR_FLOAT)
        memcpy(at, &i, sizeof i);
    else
        memcpy(at, &f, sizeof f);
    return true;
}

static bool read_attr(const oct_attr *attr, const cJSON *item, char *base)
{
    char *at = base + attr->offset;
    if (attr->count == 1) return read_attr_value(attr, item, at);
    if (!cJSON_IsArray(item) || cJSON_GetArraySize(item) != attr->count) return false;
    const cJSON *element;
    cJSON_ArrayForEach(element, item)
    {
        if (!read_attr_value(attr, element, at)) return false;
        at += 4;
    }
    return true;
}

static oct_status read_attrs(char *base, const oct_op *op, const oct_node_record *r, oct_error *error)
{
    const cJSON *attrs = cJSON_GetObjectItemCaseSensitive(r->json, "attrs");
    int expected = 0;
    for (int i = 0; i < op->attr_count; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(attrs, op->attrs[i].name);
        if (!item && op->attrs[i].type == OCT_ATTR_CHOICE) continue; /* base is zeros */
        expected++;
        if (!read_attr(&op->attrs[i], item, base))
            return oct_fail(error, OCT_ERR_FORMAT, "graph: %s '%s': attribute '%s' is missing or malformed", op->name,
                            r->name, op->attrs[i].name);
    }
    if (attrs && cJSON_GetArraySize(attrs) != expected)
        return oct_fail(error, OCT_ERR_FORMAT, "graph: %s '%s': expected %d attributes, found %d", op->name, r->name,
                        expected, cJSON_GetArraySize(attrs));
    return OCT_OK;
}

static oct_status read_inputs(oct_value *inputs, int *count, const oct_graph *g, const oct_node_record *r,
                              oct_error *error)
{
    const cJSON *array = cJSON_GetObjectItemCaseSensitive(r->json, "inputs"), *item;
    *count = 0;
    if (!cJSON_IsArray(array) || cJSON_GetArraySize(array) > OCT_MAX_INPUTS)
        return node_error(error, r->name, "expected an array of at most 12 input names");
    cJSON_ArrayForEach(item, array)
    {
        oct_value v = cJSON_IsString(item) ? oct_graph_find(g, item->valuestring) : (oct_value){-1};
        if (v.id < 0)
            return oct_fail(error, OCT_ERR_FORMAT, "graph: node '%s': input '%s' is no earlier node", r->name,
                            cJSON_IsString(item) ? item->valuestring : "(no text)");
        inputs[(*count)++] = v;
    }
    return OCT_OK;
}

static oct_status append_op(oct_graph *g, const oct_node_record *r, oct_op_lookup *find)
{
    oct_error *error = &g->ctx->error;
    const char *op_name = get_text(r->json, "op");
    const oct_op *op = op_name ? find(op_name) : NULL;
    if (!op)
        return oct_fail(error, OCT_ERR_FORMAT, "graph: node '%s': unknown op '%s'", r->name, op_name ? op_name : "");
    oct_value inputs[OCT_MAX_INPUTS];
    int count;
    OCT_TRY(read_inputs(inputs, &count, g, r, error));
    char *attrs = oct_calloc(1, op->attr_bytes);
    if (!attrs) return oct_out_of_memory(g->ctx, r->name);
    oct_status status = read_attrs(attrs, op, r, error);
    oct_value v = {-1};
    if (status == OCT_OK) v = oct_op_append(g, op, r->name, op->attr_bytes ? attrs : NULL, inputs, count);
    oct_free(attrs);
    OCT_TRY(status);
    OCT_TRY(oct_graph_status(g));
    const oct_node *n = oct_graph_node(g, v);
    if (!oct_shape_equal(&n->shape, &r->shape) || n->dtype != r->dtype) {
        char expected[OCT_SHAPE_TEXT], found[OCT_SHAPE_TEXT];
        return oct_fail(error, OCT_ERR_FORMAT, "graph: %s '%s': expected %s %s from its inputs, found %s %s", op->name,
                        r->name, dtype_names[n->dtype], oct_shape_text(expected, &n->shape), dtype_names[r->dtype],
                        oct_shape_text(found, &r->shape));
    }
    return OCT_OK;
}

static oct_status append_leaf(oct_graph *g, const oct_node_record *r)
{
    if (r->kind == OCT_NODE_INPUT)
        oct_input(g, r->name, r->dtype, r->shape);
    else if (r->kind == OCT_NODE_PARAMETER)
        oct_parameter(g, r->name, r->shape, (oct_init){OCT_INIT_ZERO, 0});
    else
        oct_buffer(g, r->name, r->shape, 0);
    return oct_graph_status(g);
}

/* Gives the nodes the ids and the execution order of the text. built[i] = id that record i got while building. */
static oct_status renumber(oct_graph *g, const oct_graph_text *text, const int32_t *built)
{
    oct_node **nodes = oct_calloc((size_t)text->count, sizeof *nodes);
    int32_t *new_id = oct_calloc((size_t)text->count, sizeof *new_id);
    if (!nodes || !new_id) {
        oct_free(nodes);
        oct_free(new_id);
        return oct_out_of_memory(g->ctx, "graph");
    }
    for (int32_t i = 0; i < text->count; i++) new_id[built[i]] = text->records[i].id;
    for (int32_t i = 0; i < text->count; i++) {
        oct_node *n = g->nodes[i];
        for (int k = 0; k < n->input_count; k++) n->inputs[k] = new_id[n->inputs[k]];
        n->id = new_id[i];
        nodes[n->id] = n;
    }
    for (int32_t i = 0; i < text->count; i++) {
        g->nodes[i] = nodes[i];
        g->order[i] = text->records[i].id;
    }
    oct_free(nodes);
    oct_free(new_id);
    return OCT_OK;
}

/* Leaves first, in the order of their ids, so that they get the offsets they had; then the ops. */
static oct_status build(oct_graph *g, const oct_graph_text *text, oct_op_lookup *find, int32_t *built)
{
    for (int32_t id = 0; id < text->count; id++) {
        int32_t i = text->by_id[id];
        if (text->records[i].kind == OCT_NODE_OP) continue;
        built[i] = g->node_count;
        OCT_TRY(append_leaf(g, &text->records[i]));
    }
    for (int32_t i = 0; i < text->count; i++) {
        if (text->records[i].kind != OCT_NODE_OP) continue;
        built[i] = g->node_count;
        OCT_TRY(append_op(g, &text->records[i], find));
    }
    return renumber(g, text, built);
}

/* Every input of a node must stand before it: the text's order is an execution order. */
static oct_status check_order(const oct_graph *g)
{
    int32_t *position = oct_calloc((size_t)g->node_count, sizeof *position);
    if (!position) return oct_out_of_memory(g->ctx, "graph");
    for (int32_t k = 0; k < g->node_count; k++) position[g->order[k]] = k;
    oct_status status = OCT_OK;
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        for (int i = 0; i < n->input_count; i++)
            if (position[n->inputs[i]] >= k)
                status = node_error(&g->ctx->error, n->name, "stands before one of its inputs");
    }
    oct_free(position);
    return status;
}

oct_status oct_graph_from_json(oct_graph **out, oct_ctx *ctx, const char *json, oct_op_lookup *find)
{
    *out = NULL;
    oct_graph *g = NULL;
    oct_graph_text text;
    int32_t *built = NULL;
    oct_status status = oct_graph_text_parse(&text, json, &ctx->error);
    if (status == OCT_OK) status = oct_graph_create(&g, ctx, text.seed);
    if (status == OCT_OK) {
        built = oct_calloc((size_t)text.count, sizeof *built);
        status = built ? build(g, &text, find, built) : oct_out_of_memory(ctx, "graph");
    }
    if (status == OCT_OK) status = check_order(g);
    oct_free(built);
    oct_graph_text_release(&text);
    if (status != OCT_OK) {
        oct_graph_destroy(g);
        return status;
    }
    *out = g;
    return OCT_OK;
}
