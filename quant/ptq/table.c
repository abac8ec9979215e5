/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/ptq/table.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"

enum { MAX_BYTES = 16 << 20 };

/* A float as the shortest decimal that reads back as it. */
static cJSON *number(float x)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) break;
    }
    return cJSON_CreateRaw(text);
}

/* One entry as JSON; free with cJSON_free. */
static char *print_entry(const oct_ptq_net *net, const oct_ptq_point *p)
{
    const float *range = oct_ptq_range(net->graph, p);
    cJSON *entry = cJSON_CreateObject();
    cJSON_AddStringToObject(entry, "point", oct_graph_node(net->graph, p->x)->name);
    cJSON_AddItemToObject(entry, "lo", number(range[OCT_RANGE_LO]));
    cJSON_AddItemToObject(entry, "hi", number(range[OCT_RANGE_HI]));
    cJSON_AddBoolToObject(entry, "fixed", p->fixed);
    char *text = cJSON_PrintUnformatted(entry);
    cJSON_Delete(entry);
    return text;
}

oct_status oct_ptq_table_text(char **text, const oct_ptq_net *net)
{
    size_t used = 0, capacity = 0;
    char *out = *text = NULL;
    for (int i = 0; i < net->point_count; i++) {
        char *entry = print_entry(net, &net->points[i]);
        size_t length = entry ? strlen(entry) : 0;
        char *longer = entry ? oct_realloc(out, used, used + length + 8, 1) : NULL;
        if (!longer) {
            cJSON_free(entry);
            oct_free(out);
            return oct_out_of_memory(net->graph->ctx, "range table");
        }
        out = longer;
        capacity = used + length + 8;
        used += (size_t)snprintf(out + used, capacity - used, "%s%s", i ? ",\n " : "[", entry);
        cJSON_free(entry);
    }
    if (out) memcpy(out + used, "]\n", 3);
    *text = out;
    return OCT_OK;
}

oct_status oct_ptq_table_write(const char *path, const oct_ptq_net *net)
{
    char *text;
    OCT_TRY(oct_ptq_table_text(&text, net));
    oct_status status = oct_file_write(path, text, strlen(text), &net->graph->ctx->error);
    oct_free(text);
    return status;
}

static int find_named(const oct_ptq_net *net, const char *name)
{
    for (int i = 0; i < net->point_count; i++)
        if (!strcmp(oct_graph_node(net->graph, net->points[i].x)->name, name) ||
            !strcmp(oct_graph_node(net->graph, net->points[i].quant)->name, name))
            return i;
    return -1;
}

static bool get_number(const cJSON *entry, const char *key, float *value)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(entry, key);
    if (!cJSON_IsNumber(item)) return false;
    *value = (float)item->valuedouble;
    return isfinite(*value);
}

static oct_status apply_entry(oct_ptq_net *net, const cJSON *entry, int index, const char *path, bool *named)
{
    oct_error *error = &net->graph->ctx->error;
    const cJSON *point = cJSON_GetObjectItemCaseSensitive(entry, "point");
    const cJSON *fixed = cJSON_GetObjectItemCaseSensitive(entry, "fixed");
    float lo, hi;
    if (!cJSON_IsObject(entry) || !cJSON_IsString(point))
        return oct_fail(error, OCT_ERR_FORMAT, "%s: entry %d: expected an object with \"point\"", path, index);
    const char *name = point->valuestring;
    int p = find_named(net, name);
    if (p < 0) return oct_fail(error, OCT_ERR_FORMAT, "%s: entry %d: no point is called '%s'", path, index, name);
    if (named[p]) return oct_fail(error, OCT_ERR_FORMAT, "%s: entry %d: '%s' is there twice", path, index, name);
    named[p] = true;
    for (const cJSON *item = entry->child; item; item = item->next)
        if (strcmp(item->string, "point") && strcmp(item->string, "lo") && strcmp(item->string, "hi") &&
            strcmp(item->string, "fixed"))
            return oct_fail(error, OCT_ERR_FORMAT, "%s: '%s': unknown key \"%s\"; known are point, lo, hi, fixed", path,
                            name, item->string);
    if (!get_number(entry, "lo", &lo) || !get_number(entry, "hi", &hi) || lo > hi)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: '%s': expected finite numbers lo <= hi", path, name);
    if (fixed && !cJSON_IsBool(fixed))
        return oct_fail(error, OCT_ERR_FORMAT, "%s: '%s': expected true or false for \"fixed\"", path, name);
    oct_ptq_set_range(net->graph, &net->points[p], lo, hi, 1);
    net->points[p].fixed = cJSON_IsTrue(fixed);
    return OCT_OK;
}

oct_status oct_ptq_table_apply(oct_ptq_net *net, const char *text, const char *path)
{
    oct_ctx *ctx = net->graph->ctx;
    bool *named = oct_calloc((size_t)net->point_count, sizeof *named);
    if (!named) return oct_out_of_memory(ctx, "range table");
    cJSON *table = cJSON_Parse(text);
    oct_status status = cJSON_IsArray(table)
                            ? OCT_OK
                            : oct_fail(&ctx->error, OCT_ERR_FORMAT, "%s: expected a JSON array of ranges", path);
    int index = 0;
    for (const cJSON *e = table ? table->child : NULL; e && status == OCT_OK; e = e->next)
        status = apply_entry(net, e, index++, path, named);
    cJSON_Delete(table);
    oct_free(named);
    return status;
}

oct_status oct_ptq_table_read(oct_ptq_net *net, const char *path)
{
    uint8_t *bytes;
    size_t size;
    oct_ctx *ctx = net->graph->ctx;
    OCT_TRY(oct_file_read(&bytes, &size, path, MAX_BYTES, &ctx->error));
    char *text = oct_alloc(size + 1, 1);
    if (text) {
        memcpy(text, bytes, size);
        text[size] = '\0';
    }
    oct_free(bytes);
    if (!text) return oct_out_of_memory(ctx, "range table");
    oct_status status = oct_ptq_table_apply(net, text, path);
    oct_free(text);
    return status;
}
