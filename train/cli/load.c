/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/load.h"

#include <cjson/cJSON.h>

#include "train/cli/data.h"

enum { MAX_LINES = 20 };

static void add_items(cJSON *event, const oct_load_report *r)
{
    cJSON *items = event && r->item_count ? cJSON_AddArrayToObject(event, "items") : NULL;
    for (int i = 0; items && i < r->item_count; i++) {
        const oct_load_item *item = &r->items[i];
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "problem", oct_load_problem_name(item->problem));
        if (item->node) cJSON_AddStringToObject(o, "node", item->node);
        if (item->source) cJSON_AddStringToObject(o, "source", item->source);
        cJSON_AddStringToObject(o, "shapes", item->shapes);
        cJSON_AddItemToArray(items, o);
    }
}

void load_tell(const cli *c, const char *path, const oct_load_report *r)
{
    if (!r) return;
    if (!c->quiet) oct_load_report_print(r, path, MAX_LINES, cli_note_line, (void *)c);
    cJSON *event = cli_event(c, "load");
    cJSON_AddStringToObject(event, "file", path);
    if (r->map) cJSON_AddStringToObject(event, "names", r->map->name);
    cli_add(event, "matched", r->matched, 0);
    cli_add(event, "transposed", r->transposed, 0);
    cli_add(event, "missing", r->missing, 0);
    cli_add(event, "unexpected", r->unexpected, 0);
    cli_add(event, "mismatched", r->mismatched, 0);
    cli_add(event, "new_head", r->renewed, 0);
    cli_add(event, "ignored", r->ignored, 0);
    cli_add(event, "parameters", (double)r->parameters, 0);
    cli_add(event, "buffers", (double)r->buffers, 0);
    add_items(event, r);
    cli_emit(c, event);
}

oct_status load_model_file(oct_model_file *file, const cli *c, const char *path, const char *model)
{
    oct_pretrained_options source = {.model = model, .size = (int)data_given.size, .strict = data_given.strict};
    oct_status status = oct_model_file_open_as(file, path, &source, c->ctx);
    load_tell(c, path, file->report);
    return status;
}
