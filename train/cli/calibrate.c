/* SPDX-License-Identifier: BSD-2-Clause
 * bin/calibrate: post-training quantization of a checkpoint: quantized.h5, int8.h5, ranges.json,
 * report.html. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/memory.h"
#include "quant/ptq/recipe.h"
#include "quant/ptq/table.h"
#include "train/cli/data.h"
#include "train/cli/load.h"
#include "train/cli/progress.h"
#include "train/cli/spin.h"
#include "train/image_set.h"
#include "train/model_file.h"
#include "train/report_page.h"
#include "train/session.h"

static struct {
    const char *model, *output, *recipe, *ranges, *per_channel;
    int64_t images, iterations, test_images, batch, threads;
    double percentile, target;
    bool equalize, absorb, adaround, correct, drop_caps, json, quiet, overwrite;
} f;

#define RECIPES "simple|minmax|percentile|histogram|mse|kl|advanced|advanced-dw|auto"

static const arg_option options[] = {
    ARG_GROUP("Calibration:"),
    LOAD_MODEL_OPTION(&f.model),
    ARG_WORD("output", &f.output, "DIR", "folder to write into, also -o DIR (required)"),
    ARG_CHOICE("recipe", &f.recipe, "NAME", "how ranges are found, default mse", RECIPES),
    ARG_COUNT("images", &f.images, 1, 1e7, "images", "to calibrate on, evenly spaced over the training images, default 512"),
    ARG_ABOVE("percentile", &f.percentile, 50, 100, "percent", "of recipe percentile, default 99.99"),
    ARG_CHOICE("per-channel", &f.per_channel, "WHICH", "weights with an exponent per channel, default as the recipe",
               "none|depthwise|all"),
    ARG_ABOVE("target", &f.target, 0, 100, "percent", "int8 top-1 at which --recipe auto stops, default float less 0.5"),
    ARG_ON("equalize", &f.equalize, "cross-layer equalization before anything else"),
    ARG_ON("absorb-biases", &f.absorb, "with --equalize: high biases move into the next layer"),
    ARG_ON("drop-caps", &f.drop_caps, "ReLU6 becomes ReLU (for good), so that equalization can cross it"),
    ARG_ON("adaround", &f.adaround, "learn which weights round up, after the ranges"),
    ARG_COUNT("iterations", &f.iterations, 1, 1e7, "iterations", "of AdaRound for each layer, default 1000"),
    ARG_ON("bias-correction", &f.correct, "layer by layer, after the ranges"),
    ARG_WORD("ranges", &f.ranges, "FILE", "range table; what is fixed there stays as it is"),
    ARG_COUNT("test-images", &f.test_images, 1, 1e12, "images", "to score on, default all"),
    ARG_COUNT("batch-size", &f.batch, 1, 65536, "images", "of scoring, default 128"),
    ARG_THREADS(&f.threads),
    ARG_ON("overwrite", &f.overwrite, "write into a folder that holds a quantized.h5"),
    ARG_JSON(&f.json),
    ARG_QUIET(&f.quiet),
    ARG_END,
};

static const arg_spec spec = {
    .program = "calibrate",
    .usage = "calibrate CKPT --data DIR --output DIR [--recipe NAME] [options]",
    .about = "Quantizes a trained checkpoint without training: writes quantized.h5, int8.h5, ranges.json and\n"
             "report.html.",
    .tables = {options, data_options},
    .min_positional = 1,
    .max_positional = 1,
    .positional = "the CKPT to quantize",
};

static bool is_auto(void)
{
    return !strcmp(f.recipe, "auto");
}

/* A recipe with the steps around it. */
typedef struct attempt {
    const char *recipe;
    bool equalize, absorb, adaround, correct;
} attempt;

/* What --recipe auto tries, cheapest first. */
static const attempt attempts[] = {
    {.recipe = "simple"},
    {.recipe = "mse"},
    {.recipe = "histogram"},
    {.recipe = "kl"},
    {.recipe = "percentile"},
    {.recipe = "advanced"},
    {.recipe = "mse", .correct = true},
    {.recipe = "mse", .equalize = true, .absorb = true, .correct = true},
    {.recipe = "advanced-dw"},
    {.recipe = "mse", .adaround = true},
    {.recipe = "mse", .equalize = true, .adaround = true, .correct = true},
};

typedef struct candidate {
    attempt how;
    oct_graph *graph; /* the quantized one */
    oct_ptq_net net;
    oct_score int8;
} candidate;

typedef struct job {
    cli c;
    const char *path;
    oct_model_file file;
    data_source data;
    oct_image_set calibration;
    candidate best;
    oct_score base, fake;
    bool met; /* --target */
} job;

/* --- scores --- */

static oct_status while_scoring(void *user, const oct_score *score)
{
    (void)user;
    progress_update(score->images, NULL);
    return cli_signal() ? OCT_END : OCT_OK;
}

static oct_status score_with(job *j, oct_evaluator *evaluator, const char *label, oct_score *score)
{
    oct_loader *loader;
    OCT_TRY(data_evaluation_loader(&loader, &j->data, &j->c, data_test_split(&j->data), (int)f.batch, j->file.augment,
                                   f.test_images));
    progress_start(label, oct_loader_samples(loader), "images", f.quiet);
    oct_status status = oct_evaluate(evaluator, loader, score, while_scoring, NULL);
    progress_end();
    oct_loader_destroy(loader);
    return status;
}

static oct_status score_graph(job *j, oct_graph *graph, const char *label, oct_score *score)
{
    oct_evaluator *evaluator;
    OCT_TRY(oct_evaluator_create(&evaluator, graph, &j->file.checkpoint.model, (int)f.batch));
    oct_status status = score_with(j, evaluator, label, score);
    oct_evaluator_destroy(evaluator);
    return status;
}

static oct_status score_float(job *j)
{
    oct_graph *twin;
    OCT_TRY(oct_graph_copy(&twin, j->file.checkpoint.graph));
    oct_status status = oct_dequantize_graph(twin);
    if (status == OCT_OK) status = score_graph(j, twin, "float", &j->base);
    oct_graph_destroy(twin);
    return status;
}

/* --- the work --- */

static oct_status make_folder(job *j)
{
    char path[OCT_SESSION_PATH];
    struct stat st;
    if (mkdir(f.output, 0777) && errno != EEXIST)
        return oct_fail(&j->c.ctx->error, OCT_ERR_IO, "%s: cannot create the folder: %s", f.output, strerror(errno));
    OCT_TRY(oct_session_file(path, f.output, "quantized.h5", &j->c.ctx->error));
    if (f.overwrite || stat(path, &st)) return OCT_OK;
    return oct_fail(&j->c.ctx->error, OCT_ERR_ARGUMENT, "%s is there already; --overwrite replaces it", path);
}

static oct_status prepare(job *j)
{
    const oct_model_file *m = &j->file;
    OCT_TRY(load_model_file(&j->file, &j->c, j->path, f.model));
    if (m->kind == OCT_MODEL_INT8)
        return oct_fail(&j->c.ctx->error, OCT_ERR_UNSUPPORTED, "%s is an int8 model; calibrate takes a checkpoint", j->path);
    OCT_TRY(make_folder(j));
    OCT_TRY(data_open(&j->data, &j->c, m->channels));
    OCT_TRY(data_choose_size(&j->data, &j->c, m->height));
    OCT_TRY(data_choose_fit(&j->data, &j->c, &m->fit, m->augment));
    OCT_TRY(data_check_classes(&j->data, &j->c, j->path, m->classes));
    OCT_TRY(data_check_images(&j->data, &j->c, j->path, m->height, m->width, m->channels));
    oct_loader *loader;
    oct_split split = oct_dataset_count(j->data.set, OCT_SPLIT_TRAIN) ? OCT_SPLIT_TRAIN : data_test_split(&j->data);
    OCT_TRY(data_evaluation_loader(&loader, &j->data, &j->c, split, (int)f.batch, m->augment, f.images));
    oct_status status = oct_image_set_load(&j->calibration, j->c.ctx, loader);
    if (status == OCT_OK) data_report_unreadable(loader, &j->c, oct_split_name(split));
    oct_loader_destroy(loader);
    return status;
}

static oct_per_channel per_channel_of(const attempt *how)
{
    if (!f.per_channel) return oct_ptq_recipe_find(how->recipe)->per_channel;
    return *f.per_channel == 'n' ? OCT_PER_TENSOR : *f.per_channel == 'd' ? OCT_PER_CHANNEL_DEPTHWISE : OCT_PER_CHANNEL_ALL;
}

/* "mse + equalization + bias correction" */
static const char *attempt_name(char name[96], const attempt *how)
{
    snprintf(name, 96, "%s%s%s%s%s", how->recipe, how->equalize ? " + equalization" : "", how->absorb ? " + absorption" : "",
             how->adaround ? " + AdaRound" : "", how->correct ? " + bias correction" : "");
    return name;
}

static oct_status while_calibrating(void *user, int64_t done, int64_t total)
{
    (void)user;
    (void)total;
    progress_update(done, NULL);
    return cli_signal() ? OCT_END : OCT_OK;
}

static void next_stage(void *user, const char *name, int64_t total)
{
    (void)user;
    progress_end();
    progress_start(name, total, "steps", f.quiet);
}

static void calibration_line(void *user, const char *text)
{
    const job *j = user;
    cli_note_line((void *)(uintptr_t)&j->c, text);
}

static void drop_candidate(candidate *x)
{
    oct_ptq_net_close(&x->net);
    oct_graph_destroy(x->graph);
    *x = (candidate){0};
}

static oct_status calibrate(job *j, candidate *x)
{
    const oct_checkpoint *c = &j->file.checkpoint;
    const attempt *how = &x->how;
    oct_ptq_options o = {.recipe = oct_ptq_recipe_find(how->recipe), .percentile = f.percentile, .equalize = how->equalize,
                         .absorb_biases = how->absorb, .adaround = how->adaround, .adaround_iterations = f.iterations,
                         .correct_biases = how->correct, .stage = next_stage, .line = calibration_line,
                         .progress = {while_calibrating, j}};
    OCT_TRY(oct_graph_copy(&x->graph, c->graph));
    oct_qconfig config = OCT_QCONFIG_DEFAULT;
    config.per_channel = per_channel_of(how);
    config.drop_caps = f.drop_caps;
    if (j->file.kind == OCT_MODEL_FLOAT) OCT_TRY(oct_quantize(x->graph, &config, NULL, NULL));
    OCT_TRY(oct_ptq_net_open(&x->net, x->graph, c->model.image, c->model.logits));
    if (f.ranges) OCT_TRY(oct_ptq_table_read(&x->net, f.ranges));
    oct_status status = oct_ptq_apply(&x->net, &j->calibration.images, &o);
    progress_end();
    return status;
}

/* Exports (into int8.h5 when `path` is given) and scores on the engine. */
static oct_status score_int8(job *j, candidate *x, const oct_checkpoint_info *info, const char *path)
{
    oct_int8_build build;
    oct_evaluator *evaluator = NULL;
    OCT_TRY(oct_int8_export(&build, x->graph, &j->file.checkpoint.model, info, path, false));
    oct_status status = oct_evaluator_create_int8(&evaluator, j->c.ctx, build.model, (int)f.batch);
    if (status == OCT_OK) status = score_with(j, evaluator, "int8", &x->int8);
    oct_evaluator_destroy(evaluator);
    oct_int8_build_release(&build);
    return status;
}

/* Percent to reach: --target, else half a point below float. */
static double target(const job *j)
{
    return f.target > 0 ? f.target : oct_score_top1(&j->base) - 0.5;
}

static void report_attempt(const job *j, const candidate *x)
{
    char name[96];
    double top1 = oct_score_top1(&x->int8);
    attempt_name(name, &x->how);
    cli_note(&j->c, "%-56s int8 top-1 %.2f %%", name, top1);
    cJSON *o = cli_event(&j->c, "attempt");
    cJSON_AddStringToObject(o, "recipe", name);
    cli_add(o, "top1_int8", top1, 4);
    cli_emit(&j->c, o);
}

/* Tries one after the other until the target is met; the best so far stays in j->best. */
static oct_status search(job *j)
{
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0] && !j->met; i++) {
        candidate x = {.how = attempts[i]};
        oct_status status = calibrate(j, &x);
        if (status == OCT_OK) status = score_int8(j, &x, &j->file.checkpoint.info, NULL);
        if (status == OCT_OK) report_attempt(j, &x);
        bool better = status == OCT_OK && (!j->best.graph || x.int8.top1 > j->best.int8.top1);
        if (better) {
            drop_candidate(&j->best);
            j->best = x;
        } else {
            drop_candidate(&x);
        }
        OCT_TRY(status);
        j->met = oct_score_top1(&j->best.int8) >= target(j);
    }
    char name[96];
    cli_note(&j->c, "%s: %s %.2f %% (target %.2f %%)", attempt_name(name, &j->best.how), j->met ? "reaches" : "is best with",
             oct_score_top1(&j->best.int8), target(j));
    return OCT_OK;
}

static char *quantize_text(const job *j)
{
    static const char *const words[] = {"none", "depthwise", "all"};
    char name[96];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "profile", "po2");
    cJSON_AddStringToObject(o, "fold", "batch");
    cJSON_AddStringToObject(o, "per_channel", words[per_channel_of(&j->best.how)]);
    cJSON_AddStringToObject(o, "calibration", attempt_name(name, &j->best.how));
    cJSON_AddNumberToObject(o, "images", (double)j->calibration.images.count);
    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return text;
}

static oct_status write_files(job *j)
{
    char path[OCT_SESSION_PATH];
    oct_error *error = &j->c.ctx->error;
    oct_checkpoint_info info = j->file.checkpoint.info;
    info.fit = j->data.fit;
    char *text = quantize_text(j);
    if (!text) return oct_out_of_memory(j->c.ctx, "calibrate");
    info.quantize = text;
    oct_status status = oct_session_file(path, f.output, "quantized.h5", error);
    if (status == OCT_OK) status = oct_checkpoint_write(path, j->best.graph, NULL, &info, NULL, error);
    if (status == OCT_OK) status = oct_session_file(path, f.output, "ranges.json", error);
    if (status == OCT_OK) status = oct_ptq_table_write(path, &j->best.net);
    if (status == OCT_OK) status = oct_session_file(path, f.output, "int8.h5", error);
    if (status == OCT_OK) status = score_int8(j, &j->best, &info, path);
    cJSON_free(text);
    return status;
}

static void print_row(const cli *c, const char *name, const oct_score *s, double base)
{
    cli_print(c, "  %-22s %8.2f %% %8.2f %% %+9.2f", name, oct_score_top1(s), oct_score_top5(s), oct_score_top1(s) - base);
}

static void print_result(job *j)
{
    char name[96];
    const cli *c = &j->c;
    double base = oct_score_top1(&j->base);
    cli_print(c, "%s: recipe %s, %" PRId64 " calibration images, %" PRId64 " %s images", f.output,
              attempt_name(name, &j->best.how),
              j->calibration.images.count, j->base.images, oct_split_name(data_test_split(&j->data)));
    cli_print(c, "  %-22s %10s %10s %9s", "", "top-1", "top-5", "change");
    print_row(c, "float", &j->base, base);
    print_row(c, "fake quantization", &j->fake, base);
    print_row(c, "int8 engine", &j->best.int8, base);
    cJSON *r = cli_event(c, "result");
    cJSON_AddStringToObject(r, "task", "calibrate");
    cJSON_AddStringToObject(r, "recipe", name);
    if (is_auto()) {
        cli_add(r, "target", target(j), 4);
        cJSON_AddBoolToObject(r, "target_met", j->met);
    }
    cli_add(r, "calibration_images", (double)j->calibration.images.count, 0);
    cli_add(r, "images", (double)j->base.images, 0);
    cli_add(r, "top1_float", base, 4);
    cli_add(r, "top1_quantized", oct_score_top1(&j->fake), 4);
    cli_add(r, "top1_int8", oct_score_top1(&j->best.int8), 4);
    cJSON_AddStringToObject(r, "output", f.output);
    cli_emit(c, r);
}

/* report.html: against the checkpoint in float, with its training curves. */
static oct_status write_page(job *j)
{
    char path[OCT_SESSION_PATH], metrics[OCT_SESSION_PATH], name[96];
    const char *slash = strrchr(j->path, '/');
    oct_report_fact facts[] = {{.name = "recipe"}, {.name = "top-1 float"}, {.name = "top-1 int8"}};
    oct_loader *loader = NULL;
    oct_graph *base;
    snprintf(metrics, sizeof metrics, "%.*smetrics.jsonl", slash ? (int)(slash - j->path) + 1 : 0, j->path);
    snprintf(facts[0].value, sizeof facts[0].value, "%.63s", attempt_name(name, &j->best.how));
    snprintf(facts[1].value, sizeof facts[1].value, "%.2f %%", oct_score_top1(&j->base));
    snprintf(facts[2].value, sizeof facts[2].value, "%.2f %%", oct_score_top1(&j->best.int8));
    oct_report report = {.title = f.output, .facts = facts, .fact_count = 3, .metrics = metrics};
    OCT_TRY(oct_session_file(path, f.output, "report.html", &j->c.ctx->error));
    OCT_TRY(oct_graph_copy(&base, j->file.checkpoint.graph));
    oct_status status = oct_dequantize_graph(base);
    if (status == OCT_OK)
        status = data_evaluation_loader(&loader, &j->data, &j->c, data_test_split(&j->data), (int)f.batch, j->file.augment,
                                        OCT_REPORT_IMAGES);
    if (status == OCT_OK)
        status = oct_report_model(path, &report, j->best.graph, &j->file.checkpoint.model, base, loader);
    oct_loader_destroy(loader);
    oct_graph_destroy(base);
    return status;
}

static oct_status run(job *j)
{
    OCT_TRY(prepare(j));
    OCT_TRY(score_float(j));
    if (is_auto()) {
        OCT_TRY(search(j));
    } else {
        j->best.how = (attempt){f.recipe, f.equalize, f.absorb, f.adaround, f.correct};
        OCT_TRY(calibrate(j, &j->best));
    }
    OCT_TRY(score_graph(j, j->best.graph, "fake quantization", &j->fake));
    OCT_TRY(write_files(j));
    OCT_TRY(write_page(j));
    print_result(j);
    return OCT_OK;
}

static void release(job *j)
{
    drop_candidate(&j->best);
    oct_image_set_release(&j->calibration);
    data_close(&j->data);
    oct_model_file_close(&j->file);
}

/* Combinations of flags that make no sense. */
static int check_flags(void)
{
    if (!data_given.path) return args_usage("calibrate", "--data DIR is required");
    if (!f.output) return args_usage("calibrate", "--output DIR is required");
    if (f.absorb && !f.equalize) return args_usage("calibrate", "--absorb-biases needs --equalize");
    if (f.iterations && !f.adaround && !is_auto()) return args_usage("calibrate", "--iterations needs --adaround");
    if (f.target > 0 && !is_auto()) return args_usage("calibrate", "--target needs --recipe auto");
    if (is_auto() && (f.equalize || f.adaround || f.correct))
        return args_usage("calibrate", "--recipe auto chooses the steps around the ranges itself");
    return CLI_GO_ON;
}

int main(int argc, char **argv)
{
    cli_limit_spinning(argv);
    static job j;
    char *path;
    int count;
    f.batch = 128;
    f.images = 512;
    f.recipe = "mse";
    int status = args_parse(&spec, argc, argv, &path, &count);
    if (status != CLI_GO_ON) return status;
    status = check_flags();
    if (status != CLI_GO_ON) return status;
    j.c = (cli){.program = "calibrate", .json = f.json, .quiet = f.quiet};
    j.path = path;
    status = cli_start(&j.c, f.threads);
    if (status != CLI_GO_ON) return status;
    cli_catch_signals();
    oct_status result = run(&j);
    status = result == OCT_END ? 128 + cli_signal() : result != OCT_OK ? cli_fail(&j.c) : CLI_OK;
    release(&j);
    return cli_end(&j.c, status);
}
