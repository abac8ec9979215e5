/* SPDX-License-Identifier: BSD-2-Clause
 * The parsed form of a graph's text, before any op is looked up: what a reader of state files needs to know about
 * parameters and buffers.
 */
#ifndef OCT_LAYERS_GRAPH_JSON_INTERNAL_H
#define OCT_LAYERS_GRAPH_JSON_INTERNAL_H

#include "autograd/graph.h"

enum { OCT_GRAPH_JSON_NODES = 16384 };

struct cJSON;

/* One node as the text has it. */
typedef struct oct_node_record {
    const struct cJSON *json;
    const char *name; /* borrowed from json */
    oct_node_kind kind;
    oct_dtype dtype;
    int32_t id;
    oct_shape shape;
} oct_node_record;

typedef struct oct_graph_text {
    struct cJSON *json;
    uint64_t seed;
    int32_t count;
    oct_node_record *records; /* in execution order */
    int32_t *by_id;           /* index of the record with an id */
} oct_graph_text;

/* Checks kinds, dtypes, shapes and ids, and that parameters and buffers have at most 2^31-1 elements in all. Release
 * after success and failure. */
OCT_MUST_USE oct_status oct_graph_text_parse(oct_graph_text *text, const char *json, oct_error *error);
/* A float array attribute of the first node of an op; false when there is none of that size. */
bool oct_graph_text_floats(const oct_graph_text *text, const char *op, const char *attr, float *values, int count);
void oct_graph_text_release(oct_graph_text *text);

#endif
