/* SPDX-License-Identifier: BSD-2-Clause
 * bin/export: a quantized checkpoint as int8 model, HDF5 or flat image; with a data set it also says how the
 * two agree. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "train/cli/data.h"
#include "train/cli/progress.h"
#include "train/model_file.h"
#include "train/ranges.h"
#include "train/cli/spin.h"

static struct {
    const char *output, *format;
    int64_t batch, threads, images;
    bool json, quiet, ranges;
} f;

static const arg_option options[] = {
    ARG_GROUP("Export:"),
    ARG_WORD("output", &f.output, "FILE", "what to write, also -o FILE (required)"),
    ARG_CHOICE("format", &f.format, "NAME", "h5 describes itself, image is what the engine takes; default h5",
               "h5|image"),
    ARG_ON("ranges", &f.ranges, "print exponents and ranges"),
    ARG_COUNT("images", &f.images, 1, 1e12, "images", "with --data: images to compare on, default all"),
    ARG_COUNT("batch-size", &f.batch, 1, 65536, "images", "default 128"),
    ARG_THREADS(&f.threads),
    ARG_JSON(&f.json),
    ARG_QUIET(&f.quiet),
    ARG_END,
};

static const arg_spec spec = {
    .program = "export",
    .usage = "export CKPT -o FILE [--format h5|image] [--data DIR [--images N]]",
    .about = "Folds a quantized checkpoint into an int8 model. With --data both are scored and compared.",
    .tables = {options, data_options},
    .min_positional = 1,
    .max_positional = 1,
    .positional = "the CKPT to export",
};

typedef struct job {
    cli c;
    const char *path;
    oct_model_file file;
    oct_int8_build build;
    double written_bytes; /* of the file */
    data_source data;
    oct_loader *loader;
    oct_evaluator *fake, *engine;
    oct_score fake_score, engine_score;
    int64_t same_class, same_scores;
} job;

static oct_status export_model(job *j)
{
    oct_checkpoint *c = &j->file.checkpoint;
    if (j->file.kind != OCT_MODEL_QUANTIZED)
        return oct_fail(&j->c.ctx->error, OCT_ERR_UNSUPPORTED,
                        "%s is a %s model; export takes a quantized checkpoint (train --quantize makes one)",
                        j->path, oct_model_kind_name(j->file.kind));
    oct_range_report ranges;
    OCT_TRY(oct_ranges_report(&ranges, c->graph, &c->model, f.ranges ? cli_print_line : NULL, &j->c));
    OCT_TRY(oct_int8_export(&j->build, c->graph, &c->model, &c->info, f.output,
                            f.format && !strcmp(f.format, "image")));
    struct stat file;
    j->written_bytes = stat(f.output, &file) ? 0 : (double)file.st_size;
    cli_print(&j->c, "%s: %d points, %d layers, %d dead channels, %.1f kB", f.output, ranges.points, ranges.layers,
              ranges.dead_channels, j->written_bytes / 1000);
    return OCT_OK;
}

/* Same order at the top, and the very same scores. */
static oct_status compare(job *j, const oct_batch *batch)
{
    const double *a, *b;
    int classes = oct_evaluator_classes(j->fake), best_a, best_b;
    OCT_TRY(oct_evaluator_run(j->fake, &a, batch->images, batch->count));
    OCT_TRY(oct_evaluator_run(j->engine, &b, batch->images, batch->count));
    for (int i = 0; i < batch->count; i++) {
        const double *x = a + (size_t)i * (size_t)classes, *y = b + (size_t)i * (size_t)classes;
        bool same = true;
        for (int k = 0; k < classes; k++) same &= (float)x[k] == (float)y[k];
        oct_scores_top(x, classes, &best_a, 1);
        oct_scores_top(y, classes, &best_b, 1);
        j->same_scores += same;
        j->same_class += best_a == best_b;
    }
    OCT_TRY(oct_evaluator_add(j->fake, &j->fake_score, batch));
    return oct_evaluator_add(j->engine, &j->engine_score, batch);
}

static oct_status compare_all(job *j)
{
    const oct_model_file *m = &j->file;
    OCT_TRY(data_open(&j->data, &j->c, m->channels));
    OCT_TRY(data_choose_size(&j->data, &j->c, m->height));
    OCT_TRY(data_choose_fit(&j->data, &j->c, &m->fit, m->augment));
    OCT_TRY(data_check_classes(&j->data, &j->c, j->path, m->classes));
    OCT_TRY(data_check_images(&j->data, &j->c, j->path, m->height, m->width, m->channels));
    OCT_TRY(oct_evaluator_create(&j->fake, m->checkpoint.graph, &m->checkpoint.model, (int)f.batch));
    OCT_TRY(oct_evaluator_create_int8(&j->engine, j->c.ctx, j->build.model, (int)f.batch));
    OCT_TRY(data_evaluation_loader(&j->loader, &j->data, &j->c, data_test_split(&j->data), (int)f.batch,
                                   m->augment, f.images));
    OCT_TRY(oct_loader_start(j->loader, 0, 0));
    progress_start("comparing", oct_loader_samples(j->loader), "images", f.quiet);
    for (;;) {
        oct_batch batch;
        oct_status status = oct_loader_next(j->loader, &batch);
        if (status == OCT_END) break;
        OCT_TRY(status);
        OCT_TRY(compare(j, &batch));
        progress_update(j->fake_score.images, NULL);
        if (cli_signal()) return OCT_END;
    }
    progress_end();
    data_report_unreadable(j->loader, &j->c, oct_split_name(data_test_split(&j->data)));
    return OCT_OK;
}

static void print_result(job *j)
{
    const cli *c = &j->c;
    if (j->loader) {
        cli_print(c, "on %" PRId64 " %s images of %s:", j->fake_score.images,
                  oct_split_name(data_test_split(&j->data)), data_given.path);
        cli_print(c, "  fake quantization top-1 %.2f %%, int8 engine top-1 %.2f %%",
                  oct_score_top1(&j->fake_score), oct_score_top1(&j->engine_score));
        cli_print(c, "  same class on %" PRId64 ", same scores on %" PRId64, j->same_class, j->same_scores);
    }
    cJSON *r = cli_event(c, "result");
    cJSON_AddStringToObject(r, "task", "export");
    cJSON_AddStringToObject(r, "output", f.output);
    cli_add(r, "bytes", j->written_bytes, 0);
    if (j->loader) {
        cli_add(r, "images", (double)j->fake_score.images, 0);
        cli_add(r, "top1_quantized", oct_score_top1(&j->fake_score), 4);
        cli_add(r, "top1_int8", oct_score_top1(&j->engine_score), 4);
        cli_add(r, "same_class", (double)j->same_class, 0);
        cli_add(r, "outputs_identical", (double)j->same_scores, 0);
    }
    cli_emit(c, r);
}

static void release(job *j)
{
    oct_loader_destroy(j->loader);
    oct_evaluator_destroy(j->fake);
    oct_evaluator_destroy(j->engine);
    oct_int8_build_release(&j->build);
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
    int status = args_parse(&spec, argc, argv, &path, &count);
    if (status != CLI_GO_ON) return status;
    if (!f.output) return args_usage("export", "-o FILE is required");
    if (f.images && !data_given.path) return args_usage("export", "--images needs --data DIR");
    j.c = (cli){.program = "export", .json = f.json, .quiet = f.quiet};
    j.path = path;
    status = cli_start(&j.c, f.threads);
    if (status != CLI_GO_ON) return status;
    cli_catch_signals();
    oct_status result = oct_model_file_open(&j.file, j.path, j.c.ctx);
    if (result == OCT_OK) result = export_model(&j);
    if (result == OCT_OK && data_given.path) result = compare_all(&j);
    if (result == OCT_OK) print_result(&j);
    status = result == OCT_END ? 128 + cli_signal() : result != OCT_OK ? cli_fail(&j.c) : CLI_OK;
    release(&j);
    return cli_end(&j.c, status);
}
