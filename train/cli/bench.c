/* SPDX-License-Identifier: BSD-2-Clause
 * bin/bench: how long a training step or an inference takes, how much memory, and how much of what the
 * machine can do. A model by name gets random weights and, quantized, ranges from random images; a file
 * brings its own. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "quant/quantize.h"
#include "train/cli/args.h"
#include "train/cli/bench_account.h"
#include "train/cli/bench_layers.h"
#include "train/cli/bench_loader.h"
#include "train/cli/peak.h"
#include "train/cli/progress.h"
#include "train/cli/report.h"
#include "train/cli/spin.h"
#include "train/model_file.h"
#include "train/trainer.h"

static struct {
    const char *model, *data, *augment, *profile;
    int64_t batch, steps, warmup, threads, size, channels, classes, seed;
    bool quantize, real, layers, json, quiet;
} f;

static const arg_option options[] = {
    ARG_GROUP("Benchmark:"),
    ARG_WORD("model", &f.model, "NAME[:k=v]", "a model of the zoo"),
    ARG_WORD("data", &f.data, "DIR", "loader: data set"),
    ARG_CHOICE("augment", &f.augment, "RECIPE", "loader: default imagenet", "none|flip|cifar|imagenet"),
    ARG_COUNT("batch-size", &f.batch, 1, 65536, "images", "default 128 for train, 1 for infer, 32 for loader"),
    ARG_ON("quantize", &f.quantize, "train: with fake quantization"),
    ARG_CHOICE("profile", &f.profile, "NAME", "of quantized and int8 models by name, default po2", "po2|affine"),
    ARG_ON("float", &f.real, "infer --model: the float graph instead of the int8 engine"),
    ARG_COUNT("steps", &f.steps, 1, 1e6, "steps", "measured, default 50"),
    ARG_COUNT("warmup", &f.warmup, 0, 1e6, "steps", "before that, default 5"),
    ARG_ON("layers", &f.layers,
           "each step of the plan or layer of the engine: time, rate, share of peak"),
    ARG_COUNT("size", &f.size, 1, 4096, "pixels", "side of the images, default 32, loader 224"),
    ARG_COUNT("channels", &f.channels, 1, 4, "channels", "of the images, default 3"),
    ARG_COUNT("classes", &f.classes, 2, 1e6, "classes", "default 10"),
    ARG_COUNT("seed", &f.seed, 0, 9e15, NULL, "of weights and images, default 1"),
    ARG_COUNT("threads", &f.threads, 1, 1024, "threads", "computing threads (loader: decoding), default all processors"),
    ARG_JSON(&f.json),
    ARG_QUIET(&f.quiet),
    ARG_END,
};

static const arg_spec spec = {
    .program = "bench",
    .usage = "bench train --model NAME [--batch-size N] [--quantize] [options]\n"
             "       bench infer FILE|--model NAME [--batch-size N] [--float] [options]\n"
             "       bench loader --data DIR [--size N] [--augment RECIPE] [--threads N]\n"
             "       bench peak [--threads N] [--json]",
    .about =
        "Milliseconds per step (median, 5 %, 95 %), images per second, memory above that of the loaded "
        "model.\n"
        "GFLOP/s count two operations per multiply-accumulate of convolutions and linear layers and nothing\n"
        "else. A training step has them three times (forward, input gradients, weight gradients), but for "
        "the\n"
        "first layer, whose input wants no gradient. The peak is measured in the same run ('bench peak' "
        "prints\n"
        "it alone): registers only, the threads in use, instructions that OCT_CPU allows. With --quantize "
        "the\n"
        "forward runs on int8 and counts against the int8 peak, the backward against that of fp32. The MB "
        "of\n"
        "--layers are what a forward must at least move: inputs, parameters and output once each.",
    .tables = {options},
    .min_positional = 1,
    .max_positional = 2,
    .positional = "'train', 'infer', 'loader' or 'peak'",
};

typedef struct job {
    cli c;
    bool train, peak, loader;
    oct_model_file file; /* infer FILE */
    oct_graph *graph;    /* by name */
    oct_model model;
    oct_int8_build build;
    oct_trainer *trainer;
    oct_evaluator *evaluator;
    oct_int8_state *state; /* borrowed; the int8 engine's, NULL elsewhere */
    oct_plan *plan; /* borrowed; NULL where nothing has steps: int8 engine, reference executor (OCT_FUSE=0) */
    uint8_t *images;
    int32_t *labels;
    double *ms;      /* one per measured step; sorted by print_result */
    uint64_t before; /* resident after set-up */
} job;

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static oct_status make_data(job *j, int height, int width, int channels, int classes)
{
    size_t count = (size_t)f.batch * (size_t)height * (size_t)width * (size_t)channels;
    j->images = oct_alloc(count, 1);
    j->labels = oct_alloc((size_t)f.batch, sizeof *j->labels);
    j->ms = oct_calloc((size_t)f.steps, sizeof *j->ms);
    if (!j->images || !j->labels || !j->ms) return oct_out_of_memory(j->c.ctx, "images");
    oct_rng rng = oct_rng_start((uint64_t)f.seed, OCT_RNG_SYNTHETIC, 0, 0);
    for (size_t i = 0; i < count; i++) j->images[i] = (uint8_t)oct_rng_below(&rng, 256);
    for (int64_t i = 0; i < f.batch; i++) j->labels[i] = (int32_t)oct_rng_below(&rng, (uint32_t)classes);
    return OCT_OK;
}

static oct_status build_graph(job *j, bool quantized)
{
    oct_model_options o = {
        .height = (int)f.size, .width = (int)f.size, .channels = (int)f.channels, .classes = (int)f.classes};
    for (int i = 0; i < 4; i++) o.preprocess.mean[i] = 127.5f, o.preprocess.scale[i] = 1 / 64.0f;
    OCT_TRY(oct_graph_create(&j->graph, j->c.ctx, (uint64_t)f.seed));
    OCT_TRY(oct_model_build(&j->model, j->graph, f.model, &o));
    if (!quantized) return OCT_OK;
    oct_qconfig config = f.profile && !strcmp(f.profile, "affine") ? OCT_QCONFIG_AFFINE : OCT_QCONFIG_DEFAULT;
    return oct_quantize(j->graph, &config, NULL, NULL);
}

/* Ranges from the images, on a plan that is thrown away. */
static oct_status observe(job *j, int passes)
{
    oct_plan *plan;
    oct_plan_options o = {
        .batch = (int)f.batch, .mode = OCT_TRAIN, .outputs = (oct_value[]){j->model.loss}, .output_count = 1};
    OCT_TRY(oct_plan_create(&plan, j->graph, &o));
    oct_plan_bind(plan, j->model.image, j->images);
    oct_plan_bind(plan, j->model.label, j->labels);
    oct_status status = OCT_OK;
    for (int i = 0; i < passes && status == OCT_OK; i++) {
        oct_run run = {.mode = OCT_TRAIN, .bn_frozen = 1, .seed = (uint64_t)f.seed, .step = (uint64_t)i};
        status = oct_plan_forward(plan, &run, (int)f.batch);
    }
    oct_plan_destroy(plan);
    return status;
}

static void set_up_done(job *j)
{
    cli_reset_peak();
    j->before = cli_resident_bytes();
}

static oct_status prepare_train(job *j)
{
    OCT_TRY(build_graph(j, f.quantize));
    OCT_TRY(make_data(j, (int)f.size, (int)f.size, (int)f.channels, (int)f.classes));
    set_up_done(j);
    oct_trainer_options o = {.batch = (int)f.batch,
                             .sgd = {.momentum = 0.9f, .weight_decay = 1e-4f},
                             .schedule = {.kind = OCT_SCHEDULE_CONSTANT, .lr = 1e-4},
                             .epochs = 100, /* far from any freezing */
                             .steps_per_epoch = f.steps + f.warmup,
                             .seed = (uint64_t)f.seed};
    OCT_TRY(oct_trainer_create(&j->trainer, j->graph, &j->model, &o));
    j->plan = oct_trainer_plan(j->trainer);
    return OCT_OK;
}

static oct_status prepare_file(job *j, const char *path)
{
    OCT_TRY(oct_model_file_open(&j->file, path, j->c.ctx));
    OCT_TRY(make_data(j, j->file.height, j->file.width, j->file.channels, j->file.classes));
    set_up_done(j);
    OCT_TRY(oct_model_file_evaluator(&j->evaluator, &j->file, (int)f.batch));
    j->plan = oct_evaluator_plan(j->evaluator);
    j->state = oct_evaluator_state(j->evaluator);
    return OCT_OK;
}

static oct_status prepare_infer(job *j)
{
    OCT_TRY(build_graph(j, !f.real));
    OCT_TRY(make_data(j, (int)f.size, (int)f.size, (int)f.channels, (int)f.classes));
    if (f.real) {
        set_up_done(j);
        OCT_TRY(oct_evaluator_create(&j->evaluator, j->graph, &j->model, (int)f.batch));
        oct_plan_hold(oct_evaluator_plan(j->evaluator), true);
    } else {
        OCT_TRY(observe(j, 2));
        OCT_TRY(oct_int8_export(&j->build, j->graph, &j->model, &(oct_checkpoint_info){0}, NULL, false));
        set_up_done(j);
        OCT_TRY(oct_evaluator_create_int8(&j->evaluator, j->c.ctx, j->build.model, (int)f.batch));
    }
    j->plan = oct_evaluator_plan(j->evaluator);
    j->state = oct_evaluator_state(j->evaluator);
    return OCT_OK;
}

static oct_status step(job *j)
{
    oct_trainer_stats stats;
    const double *scores;
    if (!j->train) return oct_evaluator_run(j->evaluator, &scores, j->images, (int)f.batch);
    oct_batch batch = {.images = j->images, .labels = j->labels, .count = (int)f.batch};
    return oct_trainer_step(j->trainer, &batch, &stats);
}

/* Enough for a median, and never a lot of memory. */
static int profiled_runs(void)
{
    return f.steps < 1000 ? (int)f.steps : 1000;
}

static oct_status measure(job *j)
{
    progress_start(j->train ? "training" : "inference", (f.warmup + f.steps) * f.batch, "images", f.quiet);
    for (int64_t i = -f.warmup; i < f.steps; i++) {
        if (i == 0 && f.layers && j->state) OCT_TRY(oct_int8_profile(j->state, 1, &j->c.ctx->error));
        if (i == 0 && f.layers && j->plan) OCT_TRY(oct_plan_profile(j->plan, profiled_runs()));
        double start = now_ms();
        OCT_TRY(step(j));
        if (i >= 0) j->ms[i] = now_ms() - start;
        progress_update((i + f.warmup + 1) * f.batch, NULL);
        if (cli_signal()) return OCT_END;
    }
    progress_end();
    return OCT_OK;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Nearest rank of sorted values. */
static double percentile(const double *ms, int64_t n, double share)
{
    int64_t i = (int64_t)(share * (double)n);
    return ms[i < n ? i : n - 1];
}

static void print_result(job *j)
{
    const cli *c = &j->c;
    bench_account a;
    uint64_t peak = cli_peak_bytes();
    peak = peak > j->before ? peak - j->before : 0;
    qsort(j->ms, (size_t)f.steps, sizeof *j->ms, ascending);
    double median = percentile(j->ms, f.steps, 0.5), p5 = percentile(j->ms, f.steps, 0.05),
           p95 = percentile(j->ms, f.steps, 0.95), rate = 1e3 * (double)f.batch / median;
    const bench_whole whole = {.ms = median, .batch = f.batch, .train = j->train};
    if (j->plan)
        a = bench_account_of(c->ctx, j->plan, j->graph ? j->graph : j->file.checkpoint.graph, &whole);
    if (f.layers && j->plan)
        bench_print_layers(c, j->plan, &a.whole);
    else if (f.layers && j->state)
        bench_print_engine_layers(c, j->state, f.batch);
    else if (f.layers)
        cli_note(c, "--layers: the reference runs as a whole and has no times per layer");
    cli_print(c,
              "batch %" PRId64 ", %d thread%s: median %.3f ms, 5 %% %.3f ms, 95 %% %.3f ms, %.1f images/s, "
              "%.1f MB above the model",
              f.batch, c->ctx->threads, c->ctx->threads > 1 ? "s" : "", median, p5, p95, rate,
              (double)peak / 1e6);
    if (j->plan) bench_print_account(c, &a);
    cJSON *r = cli_event(c, "result");
    cJSON_AddStringToObject(r, "task", j->train ? "bench-train" : "bench-infer");
    cJSON_AddNumberToObject(r, "batch_size", (double)f.batch);
    cJSON_AddNumberToObject(r, "threads", c->ctx->threads);
    if (j->train) cJSON_AddBoolToObject(r, "quantized", f.quantize);
    cli_add(r, "ms_median", median, 4);
    cli_add(r, "ms_p5", p5, 4);
    cli_add(r, "ms_p95", p95, 4);
    cli_add(r, "images_per_second", rate, 1);
    cli_add(r, "peak_bytes", (double)peak, 0);
    if (j->plan) bench_add_account(r, &a);
    cli_emit(c, r);
}

static void print_peaks(const cli *c)
{
    peak_rate f32 = peak_f32(c->ctx->threads, c->ctx->cpu_mask),
              int8 = peak_int8(c->ctx->threads, c->ctx->cpu_mask);
    cli_print(c, "%d thread%s: fp32 %.1f GFLOP/s (%s), int8 %.1f GOP/s (%s)", c->ctx->threads,
              c->ctx->threads > 1 ? "s" : "", f32.giga, f32.level, int8.giga, int8.level);
    cJSON *r = cli_event(c, "result");
    cJSON_AddStringToObject(r, "task", "bench-peak");
    cJSON_AddNumberToObject(r, "threads", c->ctx->threads);
    cli_add(r, "fp32_peak_gflops", f32.giga, 3);
    cJSON_AddStringToObject(r, "fp32_level", f32.level);
    cli_add(r, "int8_peak_gops", int8.giga, 3);
    cJSON_AddStringToObject(r, "int8_level", int8.level);
    cli_emit(c, r);
}

static void release(job *j)
{
    oct_trainer_destroy(j->trainer);
    oct_evaluator_destroy(j->evaluator);
    oct_int8_build_release(&j->build);
    oct_graph_destroy(j->graph);
    oct_model_file_close(&j->file);
    oct_free(j->images);
    oct_free(j->labels);
    oct_free(j->ms);
}

static int check_usage(const job *j, int positional)
{
    if (j->peak) {
        if (f.model || positional > 1) return args_usage("bench", "peak takes no model");
        return CLI_GO_ON;
    }
    if (!j->loader && (f.data || f.augment)) return args_usage("bench", "--data and --augment are for loader");
    if (j->loader) {
        if (f.model || positional > 1) return args_usage("bench", "loader takes no model");
        if (!f.data) return args_usage("bench", "loader needs --data DIR");
        return CLI_GO_ON;
    }
    if (j->train && positional > 1) return args_usage("bench", "train takes a --model NAME, no file");
    if (!f.model && positional < 2)
        return args_usage("bench",
                          j->train ? "train needs --model NAME" : "infer needs a FILE or --model NAME");
    if (f.model && positional > 1) return args_usage("bench", "infer takes a FILE or --model NAME, not both");
    if (j->train && f.real)
        return args_usage("bench", "train is float unless --quantize is given; --float is for infer");
    if (!j->train && f.quantize)
        return args_usage("bench", "--quantize is for train; infer --model runs the int8 engine");
    if (!j->train && f.real && !f.model) return args_usage("bench", "--float needs --model NAME");
    if (!f.batch) f.batch = j->train ? 128 : 1;
    return CLI_GO_ON;
}

static int run_loader(job *j)
{
    bench_loader_flags flags = {f.data, f.augment, f.size ? f.size : 224, f.batch ? f.batch : 32, f.steps, f.warmup,
                                f.threads, f.seed, f.quiet};
    oct_status result = bench_loader(&j->c, &flags);
    return result == OCT_END ? 128 + cli_signal() : result != OCT_OK ? cli_fail(&j->c) : CLI_OK;
}

static int run(job *j, const char *file)
{
    if (j->loader) return run_loader(j);
    if (!f.size) f.size = 32;
    if (j->peak) {
        print_peaks(&j->c);
        return CLI_OK;
    }
    oct_status result = j->train ? prepare_train(j) : file ? prepare_file(j, file) : prepare_infer(j);
    if (j->plan && !oct_plan_describe(j->plan).unit_count) j->plan = NULL;
    if (result == OCT_OK) result = measure(j);
    if (result == OCT_OK) print_result(j);
    int status = result == OCT_END ? 128 + cli_signal() : result != OCT_OK ? cli_fail(&j->c) : CLI_OK;
    release(j);
    return status;
}

int main(int argc, char **argv)
{
    cli_limit_spinning(argv);
    static job j;
    char *positional[2];
    int count;
    f.steps = 50, f.warmup = 5, f.channels = 3, f.classes = 10, f.seed = 1;
    int status = args_parse(&spec, argc, argv, positional, &count);
    if (status != CLI_GO_ON) return status;
    j.train = !strcmp(positional[0], "train");
    j.peak = !strcmp(positional[0], "peak");
    j.loader = !strcmp(positional[0], "loader");
    if (!j.train && !j.peak && !j.loader && strcmp(positional[0], "infer") != 0)
        return args_usage("bench", "expected 'train', 'infer', 'loader' or 'peak', got '%s'", positional[0]);
    status = check_usage(&j, count);
    if (status != CLI_GO_ON) return status;
    j.c = (cli){.program = "bench", .json = f.json, .quiet = f.quiet};
    status = cli_start(&j.c, f.threads);
    if (status != CLI_GO_ON) return status;
    cli_catch_signals();
    status = run(&j, count > 1 ? positional[1] : NULL);
    return cli_end(&j.c, status);
}
