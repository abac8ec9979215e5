/* SPDX-License-Identifier: BSD-2-Clause
 * bin/evaluate: scores a model file of any kind, and compares an int8 model with the checkpoint it was made
 * from. */
#include <cjson/cJSON.h>
#include <inttypes.h>

#include "quant/verify.h"
#include "train/cli/data.h"
#include "train/cli/load.h"
#include "train/cli/progress.h"
#include "train/cli/spin.h"

static struct {
    const char *split, *verify, *model;
    int64_t batch, threads, images;
    bool json, quiet;
} f;

static const arg_option options[] = {
    ARG_GROUP("Evaluation:"),
    LOAD_MODEL_OPTION(&f.model),
    ARG_CHOICE("split", &f.split, "NAME", "default test, else val, else train", "train|val|test"),
    ARG_COUNT("images", &f.images, 1, 1e12, "images", "only N, evenly spaced; default all"),
    ARG_WORD("verify", &f.verify, "OTHER",
             "compare every code of int8 FILE with the quantized checkpoint OTHER; exit 1 when any differs"),
    ARG_COUNT("batch-size", &f.batch, 1, 65536, "images", "default 128"),
    ARG_THREADS(&f.threads),
    ARG_JSON(&f.json),
    ARG_QUIET(&f.quiet),
    ARG_END,
};

static const arg_spec spec = {
    .program = "evaluate",
    .usage = "evaluate FILE --data DIR [--split NAME] [--verify OTHER] [options]",
    .about = "Scores a float or quantized checkpoint, an int8 model (.h5) or a flat int8 image, a Keras model, or with "
             "--model\nweights of PyTorch: decided by content.",
    .tables = {options, data_options},
    .min_positional = 1,
    .max_positional = 1,
    .positional = "the FILE of a model",
};

typedef struct job {
    cli c;
    const char *path;
    oct_model_file file, other;
    data_source data;
    oct_split split;
    oct_loader *loader;
    oct_evaluator *evaluator;
    oct_verifier *verifier;
    oct_score score;
    bool differs;
} job;

static oct_status open_other(job *j)
{
    oct_error *error = &j->c.ctx->error;
    if (j->file.kind != OCT_MODEL_INT8)
        return oct_fail(error, OCT_ERR_UNSUPPORTED,
                        "--verify compares an int8 model with a checkpoint: %s is a %s model", j->path,
                        oct_model_kind_name(j->file.kind));
    OCT_TRY(oct_model_file_open(&j->other, f.verify, j->c.ctx));
    if (j->other.kind != OCT_MODEL_QUANTIZED)
        return oct_fail(error, OCT_ERR_UNSUPPORTED, "--verify needs a quantized checkpoint: %s is a %s model",
                        f.verify, oct_model_kind_name(j->other.kind));
    uint64_t recorded = oct_int8_source_digest(j->file.int8),
             found = oct_graph_digest(j->other.checkpoint.graph);
    if (recorded != found) {
        cli_warn(&j->c,
                 "%s was exported from other parameters: it records digest %016" PRIx64
                 ", %s has %016" PRIx64,
                 j->path, recorded, f.verify, found);
        cJSON *event = cli_event(&j->c, "digest-differs");
        cli_emit(&j->c, event);
    }
    const oct_checkpoint *c = &j->other.checkpoint;
    return oct_verifier_create(&j->verifier, c->graph, c->model.image, c->model.logits, j->file.int8,
                               (int)f.batch);
}

static oct_status prepare(job *j)
{
    OCT_TRY(load_model_file(&j->file, &j->c, j->path, f.model));
    OCT_TRY(data_open(&j->data, &j->c, j->file.channels));
    OCT_TRY(data_choose_size(&j->data, &j->c, j->file.height));
    OCT_TRY(data_choose_fit(&j->data, &j->c, &j->file.fit, j->file.augment));
    OCT_TRY(data_check_classes(&j->data, &j->c, j->path, j->file.classes));
    OCT_TRY(data_check_images(&j->data, &j->c, j->path, j->file.height, j->file.width, j->file.channels));
    j->split = data_test_split(&j->data);
    if (f.split) OCT_TRY(data_named_split(&j->split, &j->data, &j->c, f.split));
    OCT_TRY(oct_model_file_evaluator(&j->evaluator, &j->file, (int)f.batch));
    if (f.verify) OCT_TRY(open_other(j));
    return data_evaluation_loader(&j->loader, &j->data, &j->c, j->split, (int)f.batch, j->file.augment,
                                  f.images);
}

static oct_status run(job *j)
{
    OCT_TRY(oct_loader_start(j->loader, 0, 0));
    progress_start(f.verify ? "comparing" : "evaluation", oct_loader_samples(j->loader), "images", f.quiet);
    for (;;) {
        oct_batch batch;
        oct_status status = oct_loader_next(j->loader, &batch);
        if (status == OCT_END) break;
        OCT_TRY(status);
        OCT_TRY(oct_evaluator_add(j->evaluator, &j->score, &batch));
        if (j->verifier) OCT_TRY(oct_verifier_add(j->verifier, batch.images, batch.count));
        progress_update(j->score.images, NULL);
        if (cli_signal()) return OCT_END;
    }
    progress_end();
    data_report_unreadable(j->loader, &j->c, oct_split_name(j->split));
    if (j->score.images) return OCT_OK;
    return oct_fail(&j->c.ctx->error, OCT_ERR_FORMAT, "%s: no readable image", data_given.path);
}

static void print_verdict(job *j)
{
    const oct_verify_result *v = oct_verifier_result(j->verifier);
    const cli *c = &j->c;
    j->differs = v->codes_differing != 0;
    cli_print(c, "\n%s against %s, node by node in double", j->path, f.verify);
    cli_print(c, "  %-24s %14d", "tensors per image", v->tensors);
    cli_print(c, "  %-24s %14" PRId64, "images", v->images);
    cli_print(c, "  %-24s %14" PRId64, "codes compared", v->codes_compared);
    cli_print(c, "  %-24s %14" PRId64, "codes differing", v->codes_differing);
    cli_print(c, "  %-24s %14" PRId64, "outputs identical", v->outputs_identical);
    if (v->rounding_compared)
        cli_print(c, "  %-24s %14" PRId64 "   (%.4f %% of %" PRId64 ", by at most %d)", "apart from exact ones", v->rounding_differing,
                  100.0 * (double)v->rounding_differing / (double)v->rounding_compared, v->rounding_compared, v->rounding_most);
    if (v->first_tensor)
        cli_print(c, "  first difference in '%s', image %" PRId64, v->first_tensor, v->first_image);
    cli_print(c, j->differs ? "DIFFERENT" : "identical");
}

static void print_result(job *j)
{
    const cli *c = &j->c;
    const char *kind = oct_model_kind_name(j->file.kind);
    cli_print(c, "%s: %s, %" PRId64 " %s images of %s", j->path, kind, j->score.images,
              oct_split_name(j->split), data_given.path);
    cli_print(c, "  top-1 %.2f %%   top-5 %.2f %%   loss %.4f   %.0f images/s", oct_score_top1(&j->score),
              oct_score_top5(&j->score), oct_score_loss(&j->score), oct_score_images_per_second(&j->score));
    if (j->verifier) print_verdict(j);
    cJSON *r = cli_event(c, "result");
    cJSON_AddStringToObject(r, "task", "evaluate");
    cJSON_AddStringToObject(r, "kind", kind);
    cli_add(r, "images", (double)j->score.images, 0);
    cli_add(r, "top1", oct_score_top1(&j->score), 4);
    cli_add(r, "top5", oct_score_top5(&j->score), 4);
    cli_add(r, "loss", oct_score_loss(&j->score), 6);
    if (j->verifier) {
        const oct_verify_result *v = oct_verifier_result(j->verifier);
        cli_add(r, "codes_compared", (double)v->codes_compared, 0);
        cli_add(r, "codes_differing", (double)v->codes_differing, 0);
        cli_add(r, "outputs_identical", (double)v->outputs_identical, 0);
        if (v->rounding_compared) {
            cli_add(r, "rounding_compared", (double)v->rounding_compared, 0);
            cli_add(r, "rounding_differing", (double)v->rounding_differing, 0);
            cli_add(r, "rounding_most", v->rounding_most, 0);
        }
    }
    cli_emit(c, r);
}

static void release(job *j)
{
    oct_loader_destroy(j->loader);
    oct_evaluator_destroy(j->evaluator);
    oct_verifier_destroy(j->verifier);
    data_close(&j->data);
    oct_model_file_close(&j->file);
    oct_model_file_close(&j->other);
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
    if (!data_given.path) return args_usage("evaluate", "--data DIR is required");
    j.c = (cli){.program = "evaluate", .json = f.json, .quiet = f.quiet};
    j.path = path;
    status = cli_start(&j.c, f.threads);
    if (status != CLI_GO_ON) return status;
    cli_catch_signals();
    oct_status result = prepare(&j);
    if (result == OCT_OK) result = run(&j);
    if (result == OCT_OK) print_result(&j);
    status = result == OCT_END  ? 128 + cli_signal()
             : result != OCT_OK ? cli_fail(&j.c)
             : j.differs        ? CLI_FAILED
                                : CLI_OK;
    release(&j);
    return cli_end(&j.c, status);
}
