/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/bench_layers.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/ops.h"

enum { KIND = 40, KINDS = 64, CELL = 16, OUTPUT_WIDTH = 28, STEP_WIDTH = 24 };

/* A line: a step of the plan, or all steps of one kind. Operations are two per multiply-accumulate, whole
 * batch. */
typedef struct row {
    char kind[KIND]; /* "conv2d 3x3" */
    int count;
    double forward_ms, backward_ms;
    double forward_ops, int8_ops, backward_ops; /* int8_ops are part of forward_ops */
    double bytes;
} row;

/* Steps that convolve are told apart by the window, that is what their speed depends on. */
static void name_kind(char text[KIND], const oct_unit_time *t)
{
    const oct_node *n = t->main;
    snprintf(text, KIND, "%s", t->step);
    if (!n || n->op != &oct_op_conv2d) return;
    const oct_conv2d_attrs *a = n->attrs;
    bool depthwise = a->groups > 1 && a->groups == n->shape.dim[n->shape.rank - 1];
    snprintf(text, KIND, "%s %s%" PRId32 "x%" PRId32, t->step,
             depthwise       ? "depthwise "
             : a->groups > 1 ? "group "
                             : "",
             a->kernel[0], a->kernel[1]);
}

static row row_of(const oct_unit_time *t, const bench_whole *whole)
{
    const double batch = (double)whole->batch;
    row r = {.count = 1,
             .forward_ms = 1e3 * t->forward,
             .backward_ms = 1e3 * t->backward,
             .bytes = (double)t->bytes};
    r.forward_ops = 2 * batch * (double)t->macs;
    r.backward_ops = 2 * batch * (double)t->backward_macs;
    if (t->on_codes) r.int8_ops = r.forward_ops;
    name_kind(r.kind, t);
    return r;
}

/* Adds a step to the total of its kind; the first row with the name, or a new one. Kinds past the table's end
 * share its last row. */
static void add_to_kind(row *kinds, int *count, const row *r)
{
    int i = 0;
    while (i < *count && strcmp(kinds[i].kind, r->kind) != 0) i++;
    if (i == KINDS) {
        i--;
        snprintf(kinds[i].kind, KIND, "%s", "other");
    } else if (i == *count) {
        (*count)++;
        snprintf(kinds[i].kind, KIND, "%s", r->kind);
    }
    kinds[i].count += r->count;
    kinds[i].forward_ms += r->forward_ms;
    kinds[i].backward_ms += r->backward_ms;
    kinds[i].forward_ops += r->forward_ops;
    kinds[i].int8_ops += r->int8_ops;
    kinds[i].backward_ops += r->backward_ops;
    kinds[i].bytes += r->bytes;
}

/* 1e9 operations (or bytes) per second. */
static double giga(double amount, double ms)
{
    return ms > 0 ? amount / ms * 1e-6 : 0;
}

/* The least time that the peaks allow over the time it took, 0..1. */
static double peak_share(double f32_ops, double int8_ops, double ms, const bench_whole *whole)
{
    double seconds = f32_ops * 1e-9 / whole->f32.giga + int8_ops * 1e-9 / whole->int8.giga;
    return ms > 0 ? 1e3 * seconds / ms : 0;
}

static const char *cell(char text[CELL], double value, int digits)
{
    if (value > 0)
        snprintf(text, CELL, "%.*f", digits, value);
    else
        snprintf(text, CELL, "-");
    return text;
}

/* Long names lose their front: layers differ at the end. */
static const char *tail(char text[OUTPUT_WIDTH + 1], const char *name)
{
    size_t length = strlen(name);
    if (length <= OUTPUT_WIDTH)
        snprintf(text, OUTPUT_WIDTH + 1, "%s", name);
    else
        snprintf(text, OUTPUT_WIDTH + 1, "..%s", name + length - OUTPUT_WIDTH + 2);
    return text;
}

static void print_head(const cli *c, const char *first)
{
    static const char *const lines[2] = {
        " forward backward    share  forward backward  forward backward  forward  forward",
        "      ms       ms        %  GFLOP/s  GFLOP/s   % peak   % peak       MB     GB/s"};
    cli_print(c, "%-*s %-*s %s", OUTPUT_WIDTH, "", STEP_WIDTH, "", lines[0]);
    cli_print(c, "%-*s %-*s %s", OUTPUT_WIDTH, first, STEP_WIDTH, "step", lines[1]);
}

static void print_row(const cli *c, const char *first, const row *r, const bench_whole *whole)
{
    char name[OUTPUT_WIDTH + 1], backward[CELL], rate_fw[CELL], rate_bw[CELL], peak_fw[CELL], peak_bw[CELL],
        mb[CELL], gb[CELL];
    cli_print(
        c, "%-*s %-*.*s %8.3f %8s %8.1f %8s %8s %8s %8s %8s %8s", OUTPUT_WIDTH, tail(name, first), STEP_WIDTH,
        STEP_WIDTH, r->kind, r->forward_ms, cell(backward, r->backward_ms, 3),
        100 * (r->forward_ms + r->backward_ms) / whole->ms,
        cell(rate_fw, giga(r->forward_ops, r->forward_ms), 1),
        cell(rate_bw, giga(r->backward_ops, r->backward_ms), 1),
        cell(peak_fw, 100 * peak_share(r->forward_ops - r->int8_ops, r->int8_ops, r->forward_ms, whole), 1),
        cell(peak_bw, 100 * peak_share(r->backward_ops, 0, r->backward_ms, whole), 1),
        cell(mb, r->bytes * 1e-6, 2), cell(gb, giga(r->bytes, r->forward_ms), 1));
}

static void emit_row(const cli *c, cJSON *event, const row *r, const bench_whole *whole)
{
    cJSON_AddStringToObject(event, "kind", r->kind);
    cJSON_AddNumberToObject(event, "count", r->count);
    cli_add(event, "ms", r->forward_ms + r->backward_ms, 4);
    cli_add(event, "share", (r->forward_ms + r->backward_ms) / whole->ms, 4);
    cli_add(event, "forward_ms", r->forward_ms, 4);
    cli_add(event, "forward_gflops", giga(r->forward_ops, r->forward_ms), 2);
    cli_add(event, "forward_peak_share",
            peak_share(r->forward_ops - r->int8_ops, r->int8_ops, r->forward_ms, whole), 4);
    cli_add(event, "forward_macs", r->forward_ops / 2, 0);
    cli_add(event, "int8_macs", r->int8_ops / 2, 0);
    cli_add(event, "bytes", r->bytes, 0);
    cli_add(event, "forward_gb_per_second", giga(r->bytes, r->forward_ms), 2);
    if (whole->train) {
        cli_add(event, "backward_ms", r->backward_ms, 4);
        cli_add(event, "backward_gflops", giga(r->backward_ops, r->backward_ms), 2);
        cli_add(event, "backward_peak_share", peak_share(r->backward_ops, 0, r->backward_ms, whole), 4);
        cli_add(event, "backward_macs", r->backward_ops / 2, 0);
    }
    cli_emit(c, event);
}

static int slowest_first(const void *a, const void *b)
{
    const row *x = a, *y = b;
    double dx = x->forward_ms + x->backward_ms, dy = y->forward_ms + y->backward_ms;
    return (dx < dy) - (dx > dy);
}

static void print_kinds(const cli *c, row *kinds, int count, const bench_whole *whole)
{
    double rest = whole->ms;
    const char *name = whole->train ? "optimizer and rest" : "rest";
    qsort(kinds, (size_t)count, sizeof *kinds, slowest_first);
    cli_print(c, "%s", "");
    print_head(c, "sum of steps");
    for (int i = 0; i < count; i++) {
        char text[CELL];
        snprintf(text, sizeof text, "%d x", kinds[i].count);
        print_row(c, text, &kinds[i], whole);
        emit_row(c, cli_event(c, "kind"), &kinds[i], whole);
        rest -= kinds[i].forward_ms + kinds[i].backward_ms;
    }
    cli_print(c, "%-*s %-*s %8.3f %8s %8.1f", OUTPUT_WIDTH, "", STEP_WIDTH, name, rest, "",
              100 * rest / whole->ms);
    cJSON *event = cli_event(c, "kind");
    cJSON_AddStringToObject(event, "kind", name);
    cli_add(event, "ms", rest, 4);
    cli_add(event, "share", rest / whole->ms, 4);
    cli_emit(c, event);
}

void bench_print_layers(const cli *c, const oct_plan *plan, const bench_whole *whole)
{
    int steps, count = 0;
    row kinds[KINDS] = {0};
    const oct_unit_time *t = oct_plan_times(plan, &steps);
    print_head(c, "output");
    for (int i = 0; i < steps; i++) {
        row r = row_of(&t[i], whole);
        print_row(c, t[i].node->name, &r, whole);
        cJSON *event = cli_event(c, "layer");
        cJSON_AddStringToObject(event, "output", t[i].node->name);
        cJSON_AddStringToObject(event, "step", t[i].step);
        emit_row(c, event, &r, whole);
        add_to_kind(kinds, &count, &r);
    }
    print_kinds(c, kinds, count, whole);
}

void bench_print_engine_layers(const cli *c, oct_int8_state *state, int64_t batch)
{
    int count;
    uint64_t images;
    const oct_int8_layer_time *t = oct_int8_layer_times(state, &count, &images);
    if (!images) return;
    const double per_run = 1e3 * (double)batch / (double)images, peak = peak_int8(c->ctx->threads, c->ctx->cpu_mask).giga;
    double total = 0;
    for (int i = 0; i < count; i++) total += t[i].seconds;
    cli_print(c, "%-28s %-20s %-28s %9s %6s %9s %7s %9s", "layer", "op", "kernel", "ms", "%", "GOP/s", "% peak", "MB/image");
    for (int i = 0; i < count; i++) {
        char name[OUTPUT_WIDTH + 1], rate[CELL], share[CELL];
        double ms = per_run * t[i].seconds, speed = giga(2 * (double)batch * (double)t[i].macs, ms);
        cli_print(c, "%-28s %-20s %-28s %9.4f %6.1f %9s %7s %9.3f", tail(name, t[i].name), t[i].op, t[i].kernel, ms,
                  total > 0 ? 100 * t[i].seconds / total : 0, cell(rate, speed, 1), cell(share, 100 * speed / peak, 1),
                  1e-6 * (double)t[i].bytes);
        cJSON *event = cli_event(c, "layer");
        cJSON_AddStringToObject(event, "output", t[i].name);
        cJSON_AddStringToObject(event, "step", t[i].op);
        cJSON_AddStringToObject(event, "kernel", t[i].kernel);
        cli_add(event, "ms", ms, 5);
        cli_add(event, "gops", speed, 2);
        cli_add(event, "peak_share", speed / peak, 4);
        cli_add(event, "macs", (double)t[i].macs, 0);
        cli_add(event, "bytes", (double)t[i].bytes, 0);
        cli_emit(c, event);
    }
}
