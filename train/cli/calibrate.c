/* SPDX-License-Identifier: BSD-2-Clause
 * bin/calibrate: post-training quantization of a checkpoint: quantized.h5, int8.h5, ranges.json. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/memory.h"
#include "quant/ptq/recipe.h"
#include "quant/ptq/table.h"
#include "train/cli/data.h"
#include "train/cli/progress.h"
#include "train/cli/spin.h"
#include "train/image_set.h"
#include "train/model_file.h"
#include "train/session.h"

static struct {
    const char *output, *recipe, *ranges, *per_channel;
    int64_t images, test_images, batch, threads;
    double percentile;
    bool equalize, absorb, correct, drop_caps, json, quiet, overwrite;
} f;

#define RECIPES "simple|minmax|percentile|histogram|mse|kl|advanced|advanced-dw"

static const arg_option options[] = {
    ARG_GROUP("Calibration:"),
    ARG_WORD("output", &f.output, "DIR", "folder to write into, also -o DIR (required)"),
    ARG_CHOICE("recipe", &f.recipe, "NAME", "how ranges are found, default mse", RECIPES),
    ARG_COUNT("images", &f.images, 1, 1e7, "images", "to calibrate on, evenly spaced over the training images, default 512"),
    ARG_ABOVE("percentile", &f.percentile, 50, 100, "percent", "of recipe percentile, default 99.99"),
    ARG_CHOICE("per-channel", &f.per_channel, "WHICH", "weights with an exponent per channel, default as the recipe",
               "none|depthwise|all"),
    ARG_ON("equalize", &f.equalize, "cross-layer equalization before anything else"),
    ARG_ON("absorb-biases", &f.absorb, "with --equalize: high biases move into the next layer"),
    ARG_ON("drop-caps", &f.drop_caps, "ReLU6 becomes ReLU (for good), so that equalization can cross it"),
    ARG_ON("bias-correction", &f.correct, "layer by layer, after the ranges"),
    ARG_WORD("ranges", &f.ranges, "FILE", "range table; what is fixed there stays as it is"),
    ARG_COUNT("test-images", &f.test_images, 1, 1e12, "images", "to score on, default all"),
    ARG_COUNT("batch-size", &f.batch, 1, 65536, "images", "of scoring, default 128"),
    ARG_COUNT("threads", &f.threads, 1, 1024, "threads", "computing threads, default all processors"),
    ARG_ON("overwrite", &f.overwrite, "write into a folder that holds a quantized.h5"),
    ARG_ON("json", &f.json, "one JSON object per line on stdout"),
    ARG_ON("quiet", &f.quiet, "no progress and no notes"),
    ARG_END,
};

static const arg_spec spec = {
    .program = "calibrate",
    .usage = "calibrate CKPT --data DIR --output DIR [--recipe NAME] [options]",
    .about = "Quantizes a trained checkpoint without training: writes quantized.h5, int8.h5 and ranges.json.",
    .tables = {options, data_options},
    .min_positional = 1,
    .max_positional = 1,
    .positional = "the CKPT to quantize",
};

typedef struct job {
    cli c;
    const char *path;
    oct_model_file file;
    data_source data;
    oct_image_set calibration;
    oct_graph *graph; /* the quantized one */
    oct_ptq_net net;
    oct_score base, fake, int8;
    size_t int8_bytes;
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
    OCT_TRY(oct_model_file_open(&j->file, j->path, j->c.ctx));
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

static oct_per_channel per_channel_of(const oct_ptq_recipe *recipe)
{
    if (!f.per_channel) return recipe->per_channel;
    return *f.per_channel == 'n' ? OCT_PER_TENSOR : *f.per_channel == 'd' ? OCT_PER_CHANNEL_DEPTHWISE : OCT_PER_CHANNEL_ALL;
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

static oct_status run_recipe(job *j, const oct_ptq_recipe *recipe)
{
    const oct_checkpoint *c = &j->file.checkpoint;
    oct_ptq_options o = {.recipe = recipe, .percentile = f.percentile, .equalize = f.equalize,
                         .absorb_biases = f.absorb, .correct_biases = f.correct, .stage = next_stage,
                         .line = calibration_line, .progress = {while_calibrating, j}};
    OCT_TRY(oct_graph_copy(&j->graph, c->graph));
    oct_qconfig config = OCT_QCONFIG_DEFAULT;
    config.per_channel = per_channel_of(recipe);
    config.drop_caps = f.drop_caps;
    if (j->file.kind == OCT_MODEL_FLOAT) OCT_TRY(oct_quantize(j->graph, &config, NULL, NULL));
    OCT_TRY(oct_ptq_net_open(&j->net, j->graph, c->model.image, c->model.logits));
    if (f.ranges) OCT_TRY(oct_ptq_table_read(&j->net, f.ranges));
    oct_status status = oct_ptq_apply(&j->net, &j->calibration.images, &o);
    progress_end();
    return status;
}

static oct_status export_and_score(job *j, const oct_checkpoint_info *info)
{
    char path[OCT_SESSION_PATH];
    oct_int8_build build;
    oct_evaluator *evaluator = NULL;
    OCT_TRY(oct_session_file(path, f.output, "int8.h5", &j->c.ctx->error));
    OCT_TRY(oct_int8_export(&build, j->graph, &j->file.checkpoint.model, info, path, false));
    j->int8_bytes = build.bytes;
    oct_status status = oct_evaluator_create_int8(&evaluator, j->c.ctx, build.model, (int)f.batch);
    if (status == OCT_OK) status = score_with(j, evaluator, "int8", &j->int8);
    oct_evaluator_destroy(evaluator);
    oct_int8_build_release(&build);
    return status;
}

static char *quantize_text(const job *j, const oct_ptq_recipe *recipe)
{
    static const char *const words[] = {"none", "depthwise", "all"};
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "profile", "po2");
    cJSON_AddStringToObject(o, "fold", "batch");
    cJSON_AddStringToObject(o, "per_channel", words[per_channel_of(recipe)]);
    cJSON_AddStringToObject(o, "calibration", recipe->name);
    cJSON_AddNumberToObject(o, "images", (double)j->calibration.images.count);
    char *text = cJSON_PrintUnformatted(o);
    cJSON_Delete(o);
    return text;
}

static oct_status write_files(job *j, const oct_ptq_recipe *recipe)
{
    char path[OCT_SESSION_PATH];
    oct_error *error = &j->c.ctx->error;
    oct_checkpoint_info info = j->file.checkpoint.info;
    info.fit = j->data.fit;
    char *text = quantize_text(j, recipe);
    if (!text) return oct_out_of_memory(j->c.ctx, "calibrate");
    info.quantize = text;
    oct_status status = oct_session_file(path, f.output, "quantized.h5", error);
    if (status == OCT_OK) status = oct_checkpoint_write(path, j->graph, NULL, &info, NULL, error);
    if (status == OCT_OK) status = oct_session_file(path, f.output, "ranges.json", error);
    if (status == OCT_OK) status = oct_ptq_table_write(path, &j->net);
    if (status == OCT_OK) status = export_and_score(j, &info);
    cJSON_free(text);
    return status;
}

static void print_row(const cli *c, const char *name, const oct_score *s, double base)
{
    cli_print(c, "  %-22s %8.2f %% %8.2f %% %+9.2f", name, oct_score_top1(s), oct_score_top5(s), oct_score_top1(s) - base);
}

static void print_result(job *j, const oct_ptq_recipe *recipe)
{
    const cli *c = &j->c;
    double base = oct_score_top1(&j->base);
    cli_print(c, "%s: recipe %s, %" PRId64 " calibration images, %" PRId64 " %s images", f.output, recipe->name,
              j->calibration.images.count, j->base.images, oct_split_name(data_test_split(&j->data)));
    cli_print(c, "  %-22s %10s %10s %9s", "", "top-1", "top-5", "change");
    print_row(c, "float", &j->base, base);
    print_row(c, "fake quantization", &j->fake, base);
    print_row(c, "int8 engine", &j->int8, base);
    cJSON *r = cli_event(c, "result");
    cJSON_AddStringToObject(r, "task", "calibrate");
    cJSON_AddStringToObject(r, "recipe", recipe->name);
    cli_add(r, "calibration_images", (double)j->calibration.images.count, 0);
    cli_add(r, "images", (double)j->base.images, 0);
    cli_add(r, "top1_float", base, 4);
    cli_add(r, "top1_quantized", oct_score_top1(&j->fake), 4);
    cli_add(r, "top1_int8", oct_score_top1(&j->int8), 4);
    cJSON_AddStringToObject(r, "output", f.output);
    cli_emit(c, r);
}

static oct_status run(job *j)
{
    const oct_ptq_recipe *recipe = oct_ptq_recipe_find(f.recipe ? f.recipe : "mse");
    OCT_TRY(prepare(j));
    OCT_TRY(score_float(j));
    OCT_TRY(run_recipe(j, recipe));
    OCT_TRY(score_graph(j, j->graph, "fake quantization", &j->fake));
    OCT_TRY(write_files(j, recipe));
    print_result(j, recipe);
    return OCT_OK;
}

static void release(job *j)
{
    oct_ptq_net_close(&j->net);
    oct_graph_destroy(j->graph);
    oct_image_set_release(&j->calibration);
    data_close(&j->data);
    oct_model_file_close(&j->file);
}

int main(int argc, char **argv)
{
    cli_limit_spinning(argv);
    static job j;
    char *path;
    int count;
    f.batch = 128;
    f.images = 512;
    int status = args_parse(&spec, argc, argv, &path, &count);
    if (status != CLI_GO_ON) return status;
    if (!data_given.path) return args_usage("calibrate", "--data DIR is required");
    if (!f.output) return args_usage("calibrate", "--output DIR is required");
    if (f.absorb && !f.equalize) return args_usage("calibrate", "--absorb-biases needs --equalize");
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
