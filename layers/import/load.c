/* SPDX-License-Identifier: BSD-2-Clause */
#include "layers/import/load.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"

enum { PREFIX_BYTES = 128, SHAPE_BYTES = 72 };

/* --- which tensor belongs to a node --- */

typedef struct matcher {
    const oct_graph *graph;
    const oct_tensors *tensors;
    const oct_name_map *map;
    char prefix[PREFIX_BYTES];
} matcher;

static bool starts(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static bool all_start(const oct_tensors *tensors, const char *prefix)
{
    for (int i = 0; i < oct_tensors_count(tensors); i++)
        if (!starts(oct_tensors_at(tensors, i)->name, prefix)) return false;
    return oct_tensors_count(tensors) > 0;
}

/* What stands in front of all names because the network was wrapped. */
static void find_prefix(char prefix[PREFIX_BYTES], const oct_tensors *tensors)
{
    static const char *const wrappers[] = {"module.", "_orig_mod.", "model.", "network.", "net.", "backbone."};
    *prefix = '\0';
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++) {
        size_t used = strlen(prefix);
        if (used + strlen(wrappers[i]) >= PREFIX_BYTES) return;
        strcpy(prefix + used, wrappers[i]);
        if (all_start(tensors, prefix))
            i = (size_t)-1; /* one more, from the beginning */
        else
            prefix[used] = '\0';
    }
}

/* A tensor of the graph on its way through it. */
typedef struct place {
    const oct_node *node;
    char name[PREFIX_BYTES + OCT_NAME_BYTES]; /* in the file; "" = no name known */
    const oct_named_tensor *tensor;           /* NULL = not in the file */
} place;

typedef struct walk {
    const matcher *m;
    int32_t at;
    int block; /* counted from 0 */
    char prefix[OCT_NAME_BYTES];
} walk;

static void follow_blocks(walk *w, const char *name)
{
    size_t length = oct_name_block_length(name);
    if (!length || length >= sizeof w->prefix) return;
    if (!strncmp(w->prefix, name, length) && !w->prefix[length]) return;
    memcpy(w->prefix, name, length);
    w->prefix[length] = '\0';
    w->block++;
}

/* The next parameter or buffer that files of the map may have; false at the end. */
static bool next_place(walk *w, place *p)
{
    const oct_graph *g = w->m->graph;
    while (w->at < g->node_count) {
        const oct_node *n = g->nodes[g->order[w->at++]];
        char name[OCT_NAME_BYTES];
        follow_blocks(w, n->name);
        if (n->kind != OCT_NODE_PARAMETER && n->kind != OCT_NODE_BUFFER) continue;
        bool known = oct_name_map_tensor(name, w->m->map, n->name, w->block, n->shape.rank == 3);
        if (!known && n->kind == OCT_NODE_BUFFER) continue;
        *p = (place){.node = n};
        if (known) snprintf(p->name, sizeof p->name, "%s%s", w->m->prefix, name);
        p->tensor = known ? oct_tensors_find(w->m->tensors, p->name) : NULL;
        return true;
    }
    return false;
}

static walk start_walk(const matcher *m)
{
    return (walk){.m = m, .block = -1};
}

static int count_found(const matcher *m)
{
    int found = 0;
    place p;
    walk w = start_walk(m);
    while (next_place(&w, &p)) found += p.tensor != NULL;
    return found;
}

/* The map of that layout under which most is found; false when nothing is. */
static bool find_map(matcher *m, oct_layout layout)
{
    int best = 0;
    const oct_name_map *chosen = NULL, *map;
    find_prefix(m->prefix, m->tensors);
    for (int i = 0; (map = oct_name_map_at(i)); i++) {
        if (map->layout != layout) continue;
        m->map = map;
        int found = count_found(m);
        if (found > best) {
            best = found;
            chosen = map;
        }
    }
    m->map = chosen;
    return chosen != NULL;
}

/* --- layouts --- */

/* A weight as four dimensions of ours with the steps that they have in the file. */
typedef struct turn {
    int64_t dims[4], steps[4];
    bool moved; /* the order differs */
} turn;

static turn same_order(const oct_node *n)
{
    return (turn){.dims = {1, 1, 1, (int64_t)n->count}, .steps = {0, 0, 0, 1}};
}

static bool has_dims(const oct_named_tensor *t, int rank, const int64_t *dims)
{
    return t->rank == rank && !memcmp(t->dims, dims, (size_t)rank * sizeof *dims);
}

/* Height, width and channels in front of the flatten that a linear layer reads; false when there is none. */
static bool flattened(int64_t hwc[3], const oct_graph *g, const oct_node *weight)
{
    int32_t user = -1;
    if (oct_graph_users(g, (oct_value){weight->id}, &user, 1) != 1) return false;
    if (g->nodes[user]->op != &oct_op_linear) return false;
    const oct_node *flat = oct_node_input(g, g->nodes[user], 0);
    if (flat->kind != OCT_NODE_OP || flat->op != &oct_op_flatten) return false;
    const oct_node *x = oct_node_input(g, flat, 0);
    for (int i = 0; x->shape.rank == 4 && i < 3; i++) hwc[i] = x->shape.dim[i + 1];
    return x->shape.rank == 4;
}

static bool turn_torch_linear(turn *out, const oct_graph *g, const oct_node *n, const oct_named_tensor *t)
{
    int64_t o = n->shape.dim[0], i = n->shape.dim[1], hwc[3];
    int64_t conv[4] = {o, i, 1, 1};
    *out = same_order(n);
    if (!has_dims(t, 2, conv) && !has_dims(t, 4, conv)) return false;
    if (flattened(hwc, g, n) && hwc[0] * hwc[1] > 1)
        *out = (turn){{o, hwc[0], hwc[1], hwc[2]}, {i, hwc[1], 1, hwc[0] * hwc[1]}, true};
    return true;
}

static bool turn_torch(turn *out, const oct_graph *g, const oct_node *n, const oct_named_tensor *t)
{
    const int32_t *d = n->shape.dim;
    if (n->shape.rank == 4) { /* O,I,H,W */
        int64_t h = d[1], w = d[2], i = d[3];
        *out = (turn){{d[0], h, w, i}, {i * h * w, w, 1, h * w}, h * w > 1 && i > 1};
        return has_dims(t, 4, (int64_t[]){d[0], i, h, w});
    }
    if (n->shape.rank == 3) { /* C,1,H,W */
        int64_t h = d[0], w = d[1], c = d[2];
        *out = (turn){{1, h, w, c}, {0, w, 1, h * w}, h * w > 1};
        return has_dims(t, 4, (int64_t[]){c, 1, h, w});
    }
    if (n->shape.rank == 2) return turn_torch_linear(out, g, n, t);
    *out = same_order(n);
    return n->shape.rank == 1 && has_dims(t, 1, (int64_t[]){d[0]});
}

static bool turn_keras(turn *out, const oct_node *n, const oct_named_tensor *t)
{
    const int32_t *d = n->shape.dim;
    if (n->shape.rank == 4) { /* H,W,I,O */
        int64_t o = d[0], h = d[1], w = d[2], i = d[3];
        *out = (turn){{o, h, w, i}, {1, w * i * o, i * o, o}, o > 1 && h * w * i > 1};
        return has_dims(t, 4, (int64_t[]){h, w, i, o});
    }
    if (n->shape.rank == 2) { /* I,O */
        *out = (turn){{1, 1, d[0], d[1]}, {0, 0, 1, d[0]}, d[0] > 1 && d[1] > 1};
        return has_dims(t, 2, (int64_t[]){d[1], d[0]});
    }
    *out = same_order(n); /* depthwise H,W,C,1, and vectors */
    if (n->shape.rank == 3) return has_dims(t, 4, (int64_t[]){d[0], d[1], d[2], 1});
    return n->shape.rank == 1 && has_dims(t, 1, (int64_t[]){d[0]});
}

static bool turn_octet(turn *out, const oct_node *n, const oct_named_tensor *t)
{
    int64_t dims[OCT_MAX_RANK];
    for (int i = 0; i < n->shape.rank; i++) dims[i] = n->shape.dim[i];
    *out = same_order(n);
    return has_dims(t, n->shape.rank, dims);
}

/* How the tensor becomes the node's values; false when the shapes do not fit. */
static bool find_turn(turn *out, const matcher *m, const oct_node *n, const oct_named_tensor *t)
{
    if (m->map->layout == OCT_LAYOUT_TORCH) return turn_torch(out, m->graph, n, t);
    return m->map->layout == OCT_LAYOUT_KERAS ? turn_keras(out, n, t) : turn_octet(out, n, t);
}

static void copy_turned(float *out, const float *in, const turn *t)
{
    for (int64_t a = 0; a < t->dims[0]; a++)
        for (int64_t b = 0; b < t->dims[1]; b++)
            for (int64_t c = 0; c < t->dims[2]; c++) {
                const float *row = in + a * t->steps[0] + b * t->steps[1] + c * t->steps[2];
                for (int64_t d = 0; d < t->dims[3]; d++) *out++ = row[d * t->steps[3]];
            }
}

/* --- report --- */

const char *oct_load_problem_name(oct_load_problem problem)
{
    static const char *const names[] = {"missing", "unexpected", "shape differs", "new"};
    return (unsigned)problem < 4 ? names[problem] : "?";
}

static void tensor_shape(char text[SHAPE_BYTES], const oct_named_tensor *t)
{
    size_t used = 1;
    text[0] = '[';
    for (int i = 0; i < t->rank && used < SHAPE_BYTES - 24; i++)
        used += (size_t)snprintf(text + used, SHAPE_BYTES - used, "%s%lld", i ? "," : "", (long long)t->dims[i]);
    snprintf(text + used, SHAPE_BYTES - used, "]");
}

static oct_load_item *add_item(oct_load_report *r, oct_load_problem problem, const char *node, const char *source)
{
    oct_load_item *item = &r->items[r->item_count++];
    item->problem = problem;
    item->node = node ? oct_arena_strdup(r->arena, node) : NULL;
    item->source = source && *source ? oct_arena_strdup(r->arena, source) : NULL;
    return item;
}

static void report_missing(oct_load_report *r, const place *p)
{
    char shape[OCT_SHAPE_TEXT];
    r->missing++;
    oct_load_item *item = add_item(r, OCT_LOAD_MISSING, p->node->name, p->name);
    snprintf(item->shapes, sizeof item->shapes, "%s", oct_shape_text(shape, &p->node->shape));
}

static void report_mismatch(oct_load_report *r, const place *p, bool renew)
{
    char ours[OCT_SHAPE_TEXT], theirs[SHAPE_BYTES];
    *(renew ? &r->renewed : &r->mismatched) += 1;
    oct_load_item *item = add_item(r, renew ? OCT_LOAD_NEW : OCT_LOAD_MISMATCHED, p->node->name, p->name);
    tensor_shape(theirs, p->tensor);
    oct_shape_text(ours, &p->node->shape);
    snprintf(item->shapes, sizeof item->shapes, "%s here, %s in the file", ours, theirs);
}

static bool ends(const char *text, const char *with)
{
    size_t length = strlen(text), tail = strlen(with);
    return length >= tail && !strcmp(text + length - tail, with);
}

/* What nobody took. used[i]: tensor i was. */
static void report_unexpected(oct_load_report *r, const oct_tensors *tensors, const uint8_t *used)
{
    for (int i = 0; i < oct_tensors_count(tensors); i++) {
        const oct_named_tensor *t = oct_tensors_at(tensors, i);
        char shape[SHAPE_BYTES];
        if (used[i]) continue;
        if (ends(t->name, "num_batches_tracked")) {
            r->ignored++;
            continue;
        }
        r->unexpected++;
        oct_load_item *item = add_item(r, OCT_LOAD_UNEXPECTED, NULL, t->name);
        tensor_shape(shape, t);
        snprintf(item->shapes, sizeof item->shapes, "%s", shape);
    }
}

static bool is_head(const oct_node *n)
{
    return starts(n->name, "head/");
}

static bool all_finite(const oct_named_tensor *t)
{
    for (size_t i = 0; i < t->count; i++)
        if (!isfinite(t->data[i])) return false;
    return true;
}

/* Goes through all places; copies when `into` is not NULL, else reports. */
static oct_status visit(const matcher *m, const oct_load_options *options, oct_load_report *r, uint8_t *used,
                        oct_graph *into)
{
    place p;
    turn t = {0};
    walk w = start_walk(m);
    while (next_place(&w, &p)) {
        bool fitting = p.tensor && find_turn(&t, m, p.node, p.tensor);
        if (into && fitting) copy_turned(oct_graph_data(into, (oct_value){p.node->id}, NULL), p.tensor->data, &t);
        if (into) continue;
        if (p.tensor) used[oct_tensors_index(m->tensors, p.tensor)] = 1;
        if (!p.tensor) report_missing(r, &p);
        if (p.tensor && !fitting) report_mismatch(r, &p, options->new_head && is_head(p.node));
        if (!fitting) continue;
        if (m->map->layout != OCT_LAYOUT_OCTET && !all_finite(p.tensor))
            return oct_fail(&m->graph->ctx->error, OCT_ERR_NUMERIC, "tensor \"%.200s\" holds NaN or infinity",
                            p.tensor->name);
        r->matched++;
        r->transposed += t.moved;
        *(p.node->kind == OCT_NODE_PARAMETER ? &r->parameters : &r->buffers) += (int64_t)p.node->count;
    }
    return OCT_OK;
}

/* --- the load --- */

/* The first item of a kind, for messages; "" when there is none. */
static const char *first_of(const oct_load_report *r, oct_load_problem problem, char text[OCT_NAME_BYTES])
{
    *text = '\0';
    for (int i = 0; i < r->item_count && !*text; i++) {
        const oct_load_item *item = &r->items[i];
        if (item->problem == problem)
            snprintf(text, OCT_NAME_BYTES, "%.150s %.150s", item->node ? item->node : item->source, item->shapes);
    }
    return text;
}

static oct_status judge(const oct_load_report *r, const oct_load_options *options, oct_error *error)
{
    char first[OCT_NAME_BYTES];
    if (!r->matched) return oct_fail(error, OCT_ERR_SHAPE, "no tensor of the file fits the model");
    if (r->mismatched) {
        first_of(r, OCT_LOAD_MISMATCHED, first);
        return oct_fail(error, OCT_ERR_SHAPE, "%d tensor%s of another shape: %s%s", r->mismatched,
                        r->mismatched > 1 ? "s" : "", first,
                        starts(first, "head/") ? "; --new-head keeps a new head for another number of classes" : "");
    }
    if (options->strict && r->missing)
        return oct_fail(error, OCT_ERR_SHAPE, "strict: %d tensors are missing in the file: %s", r->missing,
                        first_of(r, OCT_LOAD_MISSING, first));
    if (options->strict && r->unexpected)
        return oct_fail(error, OCT_ERR_SHAPE, "strict: %d tensors of the file have no place in the model: %s",
                        r->unexpected, first_of(r, OCT_LOAD_UNEXPECTED, first));
    return OCT_OK;
}

static oct_load_report *create_report(const oct_graph *graph, const oct_tensors *tensors)
{
    oct_load_report *r = oct_calloc(1, sizeof *r);
    if (r) r->arena = oct_calloc(1, sizeof *r->arena);
    if (!r || !r->arena) {
        oct_free(r);
        return NULL;
    }
    oct_arena_init(r->arena, 0);
    size_t room = (size_t)graph->node_count + (size_t)oct_tensors_count(tensors);
    r->prefix = "";
    r->items = oct_arena_alloc(r->arena, room, sizeof *r->items);
    if (r->items) return r;
    oct_load_report_destroy(r);
    return NULL;
}

static oct_status load(oct_graph *graph, matcher *m, const oct_load_options *options, oct_load_report *r,
                       uint8_t *used)
{
    oct_error *error = &graph->ctx->error;
    if (find_map(m, options->layout)) {
        r->map = m->map;
        const char *prefix = oct_arena_strdup(r->arena, m->prefix);
        if (prefix) r->prefix = prefix;
        OCT_TRY(visit(m, options, r, used, NULL));
    }
    report_unexpected(r, m->tensors, used);
    OCT_TRY(judge(r, options, error));
    return visit(m, options, r, used, graph);
}

oct_status oct_load_tensors(oct_graph *graph, const oct_tensors *tensors, const oct_load_options *options,
                            oct_load_report **report)
{
    matcher m = {.graph = graph, .tensors = tensors};
    OCT_TRY(oct_graph_status(graph));
    uint8_t *used = oct_calloc((size_t)oct_tensors_count(tensors), 1);
    *report = create_report(graph, tensors);
    if (!used || !*report) {
        oct_free(used);
        oct_load_report_destroy(*report);
        *report = NULL;
        return oct_out_of_memory(graph->ctx, "report of a load");
    }
    oct_status status = load(graph, &m, options, *report, used);
    oct_free(used);
    if (status == OCT_OK || status == OCT_ERR_SHAPE) return status;
    oct_load_report_destroy(*report);
    *report = NULL;
    return status;
}

void oct_load_report_destroy(oct_load_report *report)
{
    if (!report) return;
    oct_arena_release(report->arena);
    oct_free(report->arena);
    oct_free(report);
}

void oct_load_report_print(const oct_load_report *r, const char *file, int max_items,
                           void (*line)(void *user, const char *text), void *user)
{
    char text[OCT_NAME_BYTES * 3];
    snprintf(text, sizeof text,
             "%.300s: %s%s%s%s%s: %d tensors loaded (%d transposed), %d missing, %d unexpected, %d of another shape%s, "
             "%d counters ignored; %lld parameters, %lld buffer elements",
             file, r->map ? "names of " : "no known names", r->map ? r->map->name : "", *r->prefix ? " behind \"" : "",
             r->prefix, *r->prefix ? "\"" : "", r->matched, r->transposed, r->missing, r->unexpected, r->mismatched,
             r->renewed ? ", a new head" : "", r->ignored, (long long)r->parameters, (long long)r->buffers);
    line(user, text);
    for (int i = 0; i < r->item_count && i < max_items; i++) {
        const oct_load_item *item = &r->items[i];
        bool both = item->node && item->source;
        snprintf(text, sizeof text, "  %s: %s%s%s%s %s", oct_load_problem_name(item->problem),
                 item->node ? item->node : "", both ? " (" : "", item->source ? item->source : "", both ? ")" : "",
                 item->shapes);
        line(user, text);
    }
    if (r->item_count <= max_items) return;
    snprintf(text, sizeof text, "  and %d more", r->item_count - max_items);
    line(user, text);
}

int32_t oct_load_classes(const oct_graph *graph, const oct_tensors *tensors, oct_layout layout)
{
    matcher m = {.graph = graph, .tensors = tensors};
    place p;
    if (!find_map(&m, layout)) return 0;
    walk w = start_walk(&m);
    while (next_place(&w, &p)) {
        if (strcmp(p.node->name, "head/weight") != 0) continue;
        if (!p.tensor || p.tensor->rank < 2) return 0;
        int64_t classes = p.tensor->dims[layout == OCT_LAYOUT_KERAS ? p.tensor->rank - 1 : 0];
        return classes > 0 && classes <= INT32_MAX ? (int32_t)classes : 0;
    }
    return 0;
}
