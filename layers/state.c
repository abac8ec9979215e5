/* SPDX-License-Identifier: BSD-2-Clause
 * The content of a state, and its way into and out of graphs. */
#include "layers/state_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/bytes.h"
#include "layers/graph_json_internal.h"

static const char group_parameters[] = "parameters", group_buffers[] = "buffers", group_optimizer[] = "optimizer/";

static oct_status out_of_memory(oct_error *error, const char *what)
{
    return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", what);
}

oct_status oct_state_create(oct_state **out, oct_error *error)
{
    *out = NULL;
    oct_state *state = oct_calloc(1, sizeof *state);
    if (!state) return out_of_memory(error, "state");
    oct_arena_init(&state->arena, 0);
    state->producer = oct_arena_strdup(&state->arena, OCT_VERSION);
    if (!state->producer) {
        oct_state_destroy(state);
        return out_of_memory(error, "state");
    }
    *out = state;
    return OCT_OK;
}

void oct_state_destroy(oct_state *state)
{
    if (!state) return;
    oct_arena_release(&state->arena);
    oct_free(state->tensors);
    oct_free(state->meta);
    oct_free(state);
}

/* Room for one more element in a growing table of `size`-byte elements. */
static void *grown(void *table, int count, int *capacity, size_t size)
{
    if (count < *capacity) return table;
    int wanted = *capacity ? 2 * *capacity : 32;
    void *block = oct_realloc(table, (size_t)count * size, (size_t)wanted, size);
    if (block) *capacity = wanted;
    return block;
}

/* --- tensors --- */

float *oct_state_add_tensor(oct_state *state, const char *group, const char *name, const oct_shape *shape,
                            oct_error *error)
{
    oct_state_tensor *table = grown(state->tensors, state->tensor_count, &state->tensor_capacity, sizeof *table);
    if (table) state->tensors = table;
    size_t count = oct_shape_sample(shape);
    char *group_copy = table ? oct_arena_strdup(&state->arena, group) : NULL;
    char *name_copy = group_copy ? oct_arena_strdup(&state->arena, name) : NULL;
    float *data = name_copy ? oct_arena_alloc(&state->arena, count, sizeof *data) : NULL;
    if (!data) {
        out_of_memory(error, name);
        return NULL;
    }
    state->tensors[state->tensor_count++] =
        (oct_state_tensor){.group = group_copy, .name = name_copy, .shape = *shape, .count = count, .data = data};
    return data;
}

static oct_status add_node_tensor(oct_state *state, const char *group, const oct_node *n, const float *data,
                                  oct_error *error)
{
    float *copy = oct_state_add_tensor(state, group, n->name, &n->shape, error);
    if (!copy) return OCT_ERR_MEMORY;
    memcpy(copy, data + n->offset, n->count * sizeof *copy);
    return OCT_OK;
}

oct_status oct_state_set_graph(oct_state *state, const oct_graph *g, oct_error *error)
{
    if (state->graph_text) return oct_fail(error, OCT_ERR_STATE, "state: it holds a graph already");
    char *text = NULL;
    oct_status status = oct_graph_to_json(&text, g);
    if (status != OCT_OK) return oct_fail(error, status, "%s", g->ctx->error.message);
    state->graph_text = oct_arena_strdup(&state->arena, text);
    oct_free(text);
    if (!state->graph_text) return out_of_memory(error, "state");
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind == OCT_NODE_PARAMETER)
            OCT_TRY(add_node_tensor(state, group_parameters, n, g->params.data, error));
        else if (n->kind == OCT_NODE_BUFFER)
            OCT_TRY(add_node_tensor(state, group_buffers, n, g->buffers.data, error));
    }
    return OCT_OK;
}

bool oct_state_key_is_valid(const char *key)
{
    size_t length = strlen(key);
    return length >= 1 && length <= OCT_STATE_MAX_KEY && key[0] != '.' &&
           strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == length;
}

enum { GROUP_BYTES = sizeof group_optimizer + OCT_STATE_MAX_KEY };

static void slot_group(char group[GROUP_BYTES], const char *slot)
{
    snprintf(group, GROUP_BYTES, "%s%.*s", group_optimizer, OCT_STATE_MAX_KEY, slot);
}

oct_status oct_state_set_slot(oct_state *state, const char *slot, const oct_graph *g, const float *flat,
                              oct_error *error)
{
    char group[GROUP_BYTES];
    if (!oct_state_key_is_valid(slot))
        return oct_fail(error, OCT_ERR_ARGUMENT, "state: '%.80s' is no name for an optimizer slot", slot);
    slot_group(group, slot);
    for (int i = 0; i < state->tensor_count; i++)
        if (!strcmp(state->tensors[i].group, group))
            return oct_fail(error, OCT_ERR_STATE, "state: it holds slot '%s' already", slot);
    for (int32_t i = 0; i < g->node_count; i++)
        if (g->nodes[i]->kind == OCT_NODE_PARAMETER)
            OCT_TRY(add_node_tensor(state, group, g->nodes[i], flat, error));
    return OCT_OK;
}

oct_status oct_state_add_from_text(oct_state *state, const char *slot, oct_error *error)
{
    oct_graph_text text;
    char group[GROUP_BYTES];
    if (slot) slot_group(group, slot);
    oct_status status = oct_graph_text_parse(&text, state->graph_text, error);
    for (int32_t id = 0; id < text.count && status == OCT_OK; id++) {
        const oct_node_record *r = &text.records[text.by_id[id]];
        bool wanted = r->kind == OCT_NODE_PARAMETER || (!slot && r->kind == OCT_NODE_BUFFER);
        const char *where = slot ? group : r->kind == OCT_NODE_PARAMETER ? group_parameters : group_buffers;
        if (wanted && !oct_state_add_tensor(state, where, r->name, &r->shape, error)) status = OCT_ERR_MEMORY;
    }
    oct_graph_text_release(&text);
    return status;
}

oct_status oct_state_text_bytes(const oct_state *state, bool slot, size_t *bytes, oct_error *error)
{
    oct_graph_text text;
    *bytes = 0;
    oct_status status = oct_graph_text_parse(&text, state->graph_text, error);
    for (int32_t i = 0; i < text.count && status == OCT_OK; i++) {
        const oct_node_record *r = &text.records[i];
        if (r->kind == OCT_NODE_PARAMETER || (!slot && r->kind == OCT_NODE_BUFFER))
            *bytes += oct_shape_sample(&r->shape) * sizeof(float); /* at most 2^31-1 elements in all */
    }
    oct_graph_text_release(&text);
    return status;
}

int oct_state_tensor_count(const oct_state *state)
{
    return state->tensor_count;
}

const oct_state_tensor *oct_state_tensor_at(const oct_state *state, int index)
{
    return index >= 0 && index < state->tensor_count ? &state->tensors[index] : NULL;
}

const oct_state_tensor *oct_state_tensor_find(const oct_state *state, const char *group, const char *name)
{
    for (int i = 0; i < state->tensor_count; i++)
        if (!strcmp(state->tensors[i].name, name) && !strcmp(state->tensors[i].group, group))
            return &state->tensors[i];
    return NULL;
}

const char *oct_state_graph_text(const oct_state *state)
{
    return state->graph_text ? state->graph_text : "";
}

const char *oct_state_producer(const oct_state *state)
{
    return state->producer;
}

/* --- classes and meta --- */

oct_status oct_state_set_classes(oct_state *state, const char *const *names, int count, oct_error *error)
{
    if (count < 0 || count > OCT_STATE_MAX_CLASSES)
        return oct_fail(error, OCT_ERR_ARGUMENT, "state: expected at most %d classes, got %d", OCT_STATE_MAX_CLASSES,
                        count);
    char **copy = oct_arena_alloc(&state->arena, (size_t)count, sizeof *copy);
    if (!copy) return out_of_memory(error, "class names");
    for (int i = 0; i < count; i++) {
        if (strlen(names[i]) > OCT_STATE_MAX_NAME)
            return oct_fail(error, OCT_ERR_ARGUMENT, "state: class name '%.40s...': expected at most %d bytes",
                            names[i], OCT_STATE_MAX_NAME);
        copy[i] = oct_arena_strdup(&state->arena, names[i]);
        if (!copy[i]) return out_of_memory(error, "class names");
    }
    state->classes = copy;
    state->class_count = count;
    return OCT_OK;
}

int oct_state_class_count(const oct_state *state)
{
    return state->class_count;
}

const char *oct_state_class_name(const oct_state *state, int index)
{
    return index >= 0 && index < state->class_count ? state->classes[index] : NULL;
}

static oct_meta *find_meta(const oct_state *state, const char *key)
{
    for (int i = 0; i < state->meta_count; i++)
        if (!strcmp(state->meta[i].key, key)) return &state->meta[i];
    return NULL;
}

static oct_meta *add_meta(oct_state *state, const char *key, oct_error *error)
{
    if (!oct_state_key_is_valid(key)) {
        oct_fail(error, OCT_ERR_ARGUMENT,
                 "state: key '%.80s': expected 1..%d letters, digits, '_', '-' or '.', no '.' in front", key,
                 OCT_STATE_MAX_KEY);
        return NULL;
    }
    if (state->meta_count == OCT_STATE_MAX_META) {
        oct_fail(error, OCT_ERR_ARGUMENT, "state: key '%s': expected at most %d keys", key, OCT_STATE_MAX_META);
        return NULL;
    }
    oct_meta *table = grown(state->meta, state->meta_count, &state->meta_capacity, sizeof *table);
    if (table) state->meta = table;
    char *copy = table ? oct_arena_strdup(&state->arena, key) : NULL;
    if (!copy) {
        out_of_memory(error, key);
        return NULL;
    }
    state->meta[state->meta_count] = (oct_meta){.key = copy};
    return &state->meta[state->meta_count++];
}

oct_status oct_state_set_meta(oct_state *state, const oct_meta *entry, oct_error *error)
{
    char *text = NULL;
    if (entry->type == OCT_META_TEXT) {
        text = oct_arena_strdup(&state->arena, entry->text);
        if (!text) return out_of_memory(error, entry->key);
    }
    oct_meta *meta = find_meta(state, entry->key);
    if (!meta) meta = add_meta(state, entry->key, error);
    if (!meta) return OCT_ERR_ARGUMENT;
    char *key = meta->key;
    *meta = *entry;
    meta->key = key;
    meta->text = text;
    return OCT_OK;
}

oct_status oct_state_set_number(oct_state *state, const char *key, double value, oct_error *error)
{
    char name[OCT_STATE_MAX_KEY + 2];
    snprintf(name, sizeof name, "%s", key);
    return oct_state_set_meta(state, &(oct_meta){.key = name, .type = OCT_META_NUMBER, .number = value}, error);
}

oct_status oct_state_set_integer(oct_state *state, const char *key, int64_t value, oct_error *error)
{
    char name[OCT_STATE_MAX_KEY + 2];
    snprintf(name, sizeof name, "%s", key);
    return oct_state_set_meta(state, &(oct_meta){.key = name, .type = OCT_META_INTEGER, .integer = value}, error);
}

oct_status oct_state_set_text(oct_state *state, const char *key, const char *value, oct_error *error)
{
    char name[OCT_STATE_MAX_KEY + 2];
    snprintf(name, sizeof name, "%s", key);
    char *text = oct_strdup(value);
    if (!text) return out_of_memory(error, key);
    oct_status status = oct_state_set_meta(state, &(oct_meta){.key = name, .type = OCT_META_TEXT, .text = text}, error);
    oct_free(text);
    return status;
}

bool oct_state_get_number(const oct_state *state, const char *key, double *value)
{
    const oct_meta *meta = find_meta(state, key);
    if (!meta || meta->type == OCT_META_TEXT) return false;
    *value = meta->type == OCT_META_NUMBER ? meta->number : (double)meta->integer;
    return true;
}

bool oct_state_get_integer(const oct_state *state, const char *key, int64_t *value)
{
    const oct_meta *meta = find_meta(state, key);
    if (!meta || meta->type != OCT_META_INTEGER) return false;
    *value = meta->integer;
    return true;
}

bool oct_state_get_text(const oct_state *state, const char *key, const char **value)
{
    const oct_meta *meta = find_meta(state, key);
    if (!meta || meta->type != OCT_META_TEXT) return false;
    *value = meta->text;
    return true;
}

/* --- digests --- */

static uint64_t digest_u64(uint64_t digest, uint64_t value)
{
    uint8_t bytes[8];
    oct_store_le64(bytes, value);
    return oct_digest(digest, bytes, sizeof bytes);
}

static uint64_t digest_text(uint64_t digest, const char *text)
{
    return oct_digest(digest, text, strlen(text) + 1);
}

/* The values as little-endian words, whatever the machine. */
static uint64_t digest_floats(uint64_t digest, const float *data, size_t count)
{
    uint8_t bytes[1024];
    while (count) {
        size_t n = count < sizeof bytes / 4 ? count : sizeof bytes / 4;
        for (size_t i = 0; i < n; i++) {
            uint32_t word;
            memcpy(&word, data + i, sizeof word);
            oct_store_le32(bytes + 4 * i, word);
        }
        digest = oct_digest(digest, bytes, 4 * n);
        data += n;
        count -= n;
    }
    return digest;
}

static uint64_t digest_tensor(uint64_t digest, const char *name, const float *data, size_t count)
{
    return digest_floats(digest_u64(digest_text(digest, name), count), data, count);
}

static bool is_slot(const oct_state_tensor *t)
{
    return strcmp(t->group, group_parameters) && strcmp(t->group, group_buffers);
}

uint64_t oct_state_digest(const oct_state *state)
{
    uint64_t digest = OCT_DIGEST_START;
    for (int i = 0; i < state->tensor_count; i++) {
        const oct_state_tensor *t = &state->tensors[i];
        if (!is_slot(t)) digest = digest_tensor(digest, t->name, t->data, t->count);
    }
    return digest;
}

uint64_t oct_graph_digest(const oct_graph *g)
{
    uint64_t digest = OCT_DIGEST_START;
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        if (n->kind == OCT_NODE_PARAMETER)
            digest = digest_tensor(digest, n->name, g->params.data + n->offset, n->count);
        else if (n->kind == OCT_NODE_BUFFER)
            digest = digest_tensor(digest, n->name, g->buffers.data + n->offset, n->count);
    }
    return digest;
}

/* --- into graphs --- */

static void note(oct_state_report *report, const char *format, ...) OCT_PRINTF(2, 3);
static void note(oct_state_report *report, const char *format, ...)
{
    size_t used = strlen(report->detail), room = sizeof report->detail - used;
    va_list args;
    va_start(args, format);
    int length = used ? snprintf(report->detail + used, room, "; ") : 0;
    if ((size_t)length < room) vsnprintf(report->detail + used + length, room - (size_t)length, format, args);
    va_end(args);
}

static void copy_tensor(const oct_state *state, const char *group, const oct_node *n, float *flat,
                        oct_state_report *report)
{
    const oct_state_tensor *t = oct_state_tensor_find(state, group, n->name);
    if (!t) {
        report->missing++;
        note(report, "%s/%s is missing", group, n->name);
    } else if (!oct_shape_equal(&t->shape, &n->shape)) {
        char expected[OCT_SHAPE_TEXT], found[OCT_SHAPE_TEXT];
        report->mismatched++;
        note(report, "%s/%s: expected %s, found %s", group, n->name, oct_shape_text(expected, &n->shape),
             oct_shape_text(found, &t->shape));
    } else {
        report->matched++;
        memcpy(flat + n->offset, t->data, t->count * sizeof *flat);
    }
}

static void count_unexpected(const oct_state *state, const char *group, const oct_graph *g, oct_node_kind kind,
                             oct_state_report *report)
{
    for (int i = 0; i < state->tensor_count; i++) {
        const oct_state_tensor *t = &state->tensors[i];
        if (strcmp(t->group, group)) continue;
        const oct_node *n = oct_graph_node(g, oct_graph_find(g, t->name));
        if (n && n->kind == kind) continue;
        report->unexpected++;
        note(report, "%s/%s is not expected", group, t->name);
    }
}

static void load_group(const oct_state *state, const char *group, const oct_graph *g, oct_node_kind kind, float *flat,
                       oct_state_report *report)
{
    for (int32_t i = 0; i < g->node_count; i++)
        if (g->nodes[i]->kind == kind) copy_tensor(state, group, g->nodes[i], flat, report);
    count_unexpected(state, group, g, kind, report);
}

void oct_state_load(const oct_state *state, oct_graph *g, oct_state_report *report)
{
    *report = (oct_state_report){0};
    load_group(state, group_parameters, g, OCT_NODE_PARAMETER, g->params.data, report);
    load_group(state, group_buffers, g, OCT_NODE_BUFFER, g->buffers.data, report);
}

void oct_state_load_slot(const oct_state *state, const char *slot, const oct_graph *g, float *flat,
                         oct_state_report *report)
{
    char group[GROUP_BYTES];
    slot_group(group, slot);
    *report = (oct_state_report){0};
    load_group(state, group, g, OCT_NODE_PARAMETER, flat, report);
}

oct_status oct_state_report_status(const oct_state_report *report, const char *what, oct_error *error)
{
    if (!report->missing && !report->unexpected && !report->mismatched) return OCT_OK;
    return oct_fail(error, OCT_ERR_SHAPE, "%s: %d tensors match, %d missing, %d not expected, %d of another shape: %s",
                    what, report->matched, report->missing, report->unexpected, report->mismatched, report->detail);
}

oct_status oct_state_make_graph(oct_graph **out, const oct_state *state, oct_ctx *ctx, oct_op_lookup *find)
{
    *out = NULL;
    if (!state->graph_text) return oct_fail(&ctx->error, OCT_ERR_STATE, "state: it holds no graph");
    oct_graph *g;
    OCT_TRY(oct_graph_from_json(&g, ctx, state->graph_text, find));
    oct_state_report report;
    oct_state_load(state, g, &report);
    oct_status status = oct_state_report_status(&report, "state", &ctx->error);
    if (status != OCT_OK) {
        oct_graph_destroy(g);
        return status;
    }
    *out = g;
    return OCT_OK;
}
