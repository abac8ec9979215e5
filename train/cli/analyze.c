/* SPDX-License-Identifier: BSD-2-Clause
 * bin/analyze: which layer of a quantized network hurts, and what to do about it. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "train/analysis.h"
#include "train/cli/data.h"
#include "train/cli/progress.h"
#include "train/cli/spin.h"
#include "train/model_file.h"
#include "train/report_page.h"
#include "train/session.h"

static struct {
    const char *html;
    int64_t images, batch, threads;
    bool json, quiet, sensitivity;
} f;

static const arg_option options[] = {
    ARG_GROUP("Analysis:"),
    ARG_COUNT("images", &f.images, 1, 1e7, "images", "to compare on, evenly spaced over the test images, default 500"),
    ARG_ON("sensitivity", &f.sensitivity, "accuracy with only one layer quantized, and with only one left in float"),
    ARG_WORD("html", &f.html, "FILE", "write a page with histograms and training curves"),
    ARG_COUNT("batch-size", &f.batch, 1, 65536, "images", "of reading, default 128"),
    ARG_THREADS(&f.threads),
    ARG_JSON(&f.json),
    ARG_QUIET(&f.quiet),
    ARG_END,
};

static const arg_spec spec = {
    .program = "analyze",
    .usage = "analyze FLOAT QUANTIZED --data DIR [--sensitivity] [options]",
    .about = "Compares a quantized checkpoint with a float one, value by value, and says which layers lose most and why.\n"
             "FLOAT may be the quantized checkpoint itself: its own parameters in float.",
    .tables = {options, data_options},
    .min_positional = 2,
    .max_positional = 2,
    .positional = "FLOAT and QUANTIZED, two checkpoints",
};

typedef struct job {
    cli c;
    const char *base_path, *path;
    oct_model_file base, file;
    data_source data;
    oct_image_set set;
    oct_ptq_net net;
    oct_analysis analysis;
} job;

static oct_status while_working(void *user, int64_t done, int64_t total)
{
    (void)user;
    (void)total;
    progress_update(done, NULL);
    return cli_signal() ? OCT_END : OCT_OK;
}

static oct_status open_models(job *j)
{
    oct_error *error = &j->c.ctx->error;
    OCT_TRY(oct_model_file_open(&j->file, j->path, j->c.ctx));
    if (j->file.kind != OCT_MODEL_QUANTIZED)
        return oct_fail(error, OCT_ERR_UNSUPPORTED, "%s is a %s model; analyze takes a quantized checkpoint", j->path,
                        oct_model_kind_name(j->file.kind));
    OCT_TRY(oct_model_file_open(&j->base, j->base_path, j->c.ctx));
    if (j->base.kind == OCT_MODEL_INT8)
        return oct_fail(error, OCT_ERR_UNSUPPORTED, "%s is an int8 model; analyze takes a checkpoint", j->base_path);
    const oct_node *unseen = oct_quantize_unobserved(j->file.checkpoint.graph);
    if (unseen)
        return oct_fail(error, OCT_ERR_STATE, "%s: the range of '%s' never saw data; calibrate or train first", j->path,
                        unseen->name);
    return oct_dequantize_graph(j->base.checkpoint.graph);
}

static oct_status load_images(job *j)
{
    const oct_model_file *m = &j->file;
    oct_loader *loader;
    OCT_TRY(data_open(&j->data, &j->c, m->channels));
    OCT_TRY(data_choose_size(&j->data, &j->c, m->height));
    OCT_TRY(data_choose_fit(&j->data, &j->c, &m->fit, m->augment));
    OCT_TRY(data_check_classes(&j->data, &j->c, j->path, m->classes));
    OCT_TRY(data_check_images(&j->data, &j->c, j->path, m->height, m->width, m->channels));
    OCT_TRY(data_evaluation_loader(&loader, &j->data, &j->c, data_test_split(&j->data), (int)f.batch, m->augment, f.images));
    oct_status status = oct_image_set_load(&j->set, j->c.ctx, loader);
    if (status == OCT_OK) data_report_unreadable(loader, &j->c, oct_split_name(data_test_split(&j->data)));
    oct_loader_destroy(loader);
    return status;
}

static oct_status analyse(job *j)
{
    const oct_checkpoint *c = &j->file.checkpoint;
    oct_ptq_progress progress = {while_working, j};
    OCT_TRY(oct_ptq_net_open(&j->net, c->graph, c->model.image, c->model.logits));
    progress_start("comparing", oct_ptq_batches(&j->set.images), "batches", f.quiet);
    oct_status status = oct_analysis_run(&j->analysis, j->base.checkpoint.graph, &j->net, &j->set, &progress);
    progress_end();
    if (status != OCT_OK || !f.sensitivity) return status;
    progress_start("sensitivity", j->analysis.count, "layers", f.quiet);
    status = oct_analysis_sensitivity(&j->analysis, &j->net, &j->set, &progress);
    progress_end();
    return status;
}

/* --- the table --- */

static const char *number(char text[16], double value, int digits, double unit)
{
    if (isnan(value)) return "-";
    if (isinf(value)) return "exact";
    snprintf(text, 16, "%.*f", digits, unit * value);
    return text;
}

static void print_row(const cli *c, const oct_analysis_row *r)
{
    char t[9][16], weights[64] = "", accuracy[64] = "";
    if (r->layer >= 0)
        snprintf(weights, sizeof weights, "%8s %8s %5d", number(t[0], r->weight_sqnr, 1, 1),
                 number(t[1], r->channel_ratio, r->channel_ratio < 100 ? 1 : 0, 1), r->dead);
    else
        snprintf(weights, sizeof weights, "%8s %8s %5s", "", "", "");
    if (f.sensitivity)
        snprintf(accuracy, sizeof accuracy, " %8s %8s", number(t[2], r->only_this, 2, 1), number(t[3], r->all_but_this, 2, 1));
    cli_print(c, "%-30s %7s %7s %8s %7s %8s %6s %s%s", r->name, number(t[4], r->sqnr, 1, 1), number(t[5], r->own, 1, 1),
              number(t[6], r->cosine, 5, 1), number(t[7], r->used, 0, 100), number(t[8], r->clipped, 3, 100),
              r->point < 0 ? "i32" : r->is_signed ? "s8" : "u8", weights, accuracy);
}

static void print_table(job *j)
{
    const cli *c = &j->c;
    const oct_analysis *a = &j->analysis;
    cli_print(c, "%s against %s, %" PRId64 " %s images", j->path, j->base_path, a->images,
              oct_split_name(data_test_split(&j->data)));
    cli_print(c, "%-30s %7s %7s %8s %7s %8s %6s %8s %8s %5s%s", "", "SQNR", "own", "cosine", "used", "clipped", "", "weights",
              "channel", "dead", f.sensitivity ? "     only  all but" : "");
    cli_print(c, "%-30s %7s %7s %8s %7s %8s %6s %8s %8s %5s%s", "", "dB", "dB", "", "%", "%", "", "dB", "ratio", "",
              f.sensitivity ? "     this     this" : "");
    for (int i = 0; i < a->count; i++) print_row(c, &a->rows[i]);
    cli_print(c, "top-1 on these images: float %.2f %%, quantized %.2f %%", a->top1_float, a->top1_quantized);
    if (!c->json && !oct_analysis_advice(a, cli_print_line, &j->c)) cli_print(c, "nothing stands out");
}

/* --- JSON --- */

static void add_finite(cJSON *o, const char *key, double value, int digits)
{
    if (isfinite(value))
        cli_add(o, key, value, digits);
    else if (o)
        cJSON_AddNullToObject(o, key);
}

static void emit_row(const cli *c, const oct_analysis_row *r)
{
    cJSON *o = cli_event(c, "layer");
    cJSON_AddStringToObject(o, "name", r->name);
    cJSON_AddStringToObject(o, "op", r->op);
    add_finite(o, "sqnr", r->sqnr, 3);
    add_finite(o, "own_sqnr", r->own, 3);
    add_finite(o, "cosine", r->cosine, 7);
    if (r->point >= 0) {
        cJSON_AddBoolToObject(o, "signed", r->is_signed);
        cli_add(o, "lo", r->range.lo, 6);
        cli_add(o, "hi", r->range.hi, 6);
        cli_add(o, "clip", r->clip, 9);
        cli_add(o, "used", r->used, 5);
        cli_add(o, "clipped", r->clipped, 7);
    }
    if (r->layer >= 0) {
        add_finite(o, "weight_sqnr", r->weight_sqnr, 3);
        cli_add(o, "channel_ratio", r->channel_ratio, 3);
        cli_add(o, "channels", r->outputs, 0);
        cli_add(o, "dead_channels", r->dead, 0);
        cJSON_AddBoolToObject(o, "per_channel", r->per_channel);
    }
    if (!isnan(r->only_this)) {
        cli_add(o, "top1_only_this", r->only_this, 4);
        cli_add(o, "top1_all_but_this", r->all_but_this, 4);
    }
    cli_emit(c, o);
}

static void emit_advice(void *user, const char *text)
{
    const cli *c = user;
    cJSON *o = cli_event(c, "advice");
    cJSON_AddStringToObject(o, "text", text);
    cli_emit(c, o);
}

static void emit_all(job *j)
{
    const cli *c = &j->c;
    if (!c->json) return;
    for (int i = 0; i < j->analysis.count; i++) emit_row(c, &j->analysis.rows[i]);
    oct_analysis_advice(&j->analysis, emit_advice, &j->c);
    cJSON *r = cli_event(c, "result");
    cJSON_AddStringToObject(r, "task", "analyze");
    cli_add(r, "images", (double)j->analysis.images, 0);
    cli_add(r, "top1_float", j->analysis.top1_float, 4);
    cli_add(r, "top1_quantized", j->analysis.top1_quantized, 4);
    cli_emit(c, r);
}

/* metrics.jsonl beside the quantized checkpoint, else beside the float one. */
static bool find_metrics(char path[OCT_SESSION_PATH], const char *checkpoint)
{
    struct stat st;
    const char *slash = strrchr(checkpoint, '/');
    int folder = slash ? (int)(slash - checkpoint) + 1 : 0;
    int n = snprintf(path, OCT_SESSION_PATH, "%.*smetrics.jsonl", folder, checkpoint);
    return n < OCT_SESSION_PATH && !stat(path, &st);
}

static oct_status write_page(job *j)
{
    const oct_analysis *a = &j->analysis;
    char title[OCT_SESSION_PATH], metrics[OCT_SESSION_PATH];
    oct_report_fact facts[] = {{.name = "images"}, {.name = "top-1 float"}, {.name = "top-1 quantized"}};
    snprintf(facts[0].value, sizeof facts[0].value, "%" PRId64, a->images);
    snprintf(facts[1].value, sizeof facts[1].value, "%.2f %%", a->top1_float);
    snprintf(facts[2].value, sizeof facts[2].value, "%.2f %%", a->top1_quantized);
    snprintf(title, sizeof title, "%.1000s against %.1000s", j->path, j->base_path);
    bool curves = find_metrics(metrics, j->path) || find_metrics(metrics, j->base_path);
    const oct_report report = {title, facts, 3, a, curves ? metrics : NULL};
    OCT_TRY(oct_report_write(f.html, &report, &j->c.ctx->error));
    cli_print(&j->c, "%s written", f.html);
    return OCT_OK;
}

static oct_status run(job *j)
{
    OCT_TRY(open_models(j));
    OCT_TRY(load_images(j));
    OCT_TRY(analyse(j));
    print_table(j);
    emit_all(j);
    return f.html ? write_page(j) : OCT_OK;
}

static void release(job *j)
{
    oct_analysis_release(&j->analysis);
    oct_ptq_net_close(&j->net);
    oct_image_set_release(&j->set);
    data_close(&j->data);
    oct_model_file_close(&j->file);
    oct_model_file_close(&j->base);
}

int main(int argc, char **argv)
{
    cli_limit_spinning(argv);
    static job j;
    char *paths[2];
    int count;
    f.batch = 128;
    f.images = 500;
    int status = args_parse(&spec, argc, argv, paths, &count);
    if (status != CLI_GO_ON) return status;
    if (!data_given.path) return args_usage("analyze", "--data DIR is required");
    j.c = (cli){.program = "analyze", .json = f.json, .quiet = f.quiet};
    j.base_path = paths[0];
    j.path = paths[1];
    status = cli_start(&j.c, f.threads);
    if (status != CLI_GO_ON) return status;
    cli_catch_signals();
    oct_status result = run(&j);
    status = result == OCT_END ? 128 + cli_signal() : result != OCT_OK ? cli_fail(&j.c) : CLI_OK;
    release(&j);
    return cli_end(&j.c, status);
}
