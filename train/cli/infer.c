/* SPDX-License-Identifier: BSD-2-Clause
 * bin/infer: the top classes of image files, with a float, quantized or int8 model. */
#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "datasets/transform.h"
#include "train/cli/args.h"
#include "train/cli/report.h"
#include "train/cli/spin.h"
#include "train/model_file.h"

static struct {
    int64_t top, threads;
    bool json, quiet;
} f;

static const arg_option options[] = {
    ARG_GROUP("Inference:"),
    ARG_COUNT("top", &f.top, 1, 100, "classes", "classes per image, default 5"),
    ARG_THREADS(&f.threads),
    ARG_JSON(&f.json),
    ARG_ON("quiet", &f.quiet, "no notes"),
    ARG_END,
};

static arg_spec spec = {
    .program = "infer",
    .usage = "infer FILE IMAGE... [--top N]",
    .about = "Prints the top classes of JPEG, PNG or BMP images. Images are brought to the model's size in "
             "the way its file says.",
    .tables = {options},
    .min_positional = 2,
    .positional = "the FILE of a model and at least one IMAGE",
};

typedef struct job {
    cli c;
    oct_model_file file;
    oct_evaluator *evaluator;
    oct_image image;
    oct_transform_scratch scratch;
    uint8_t *pixels;
    int failed;
} job;

static oct_status prepare(job *j, const char *path)
{
    OCT_TRY(oct_model_file_open(&j->file, path, j->c.ctx));
    const oct_model_file *m = &j->file;
    if (m->height != m->width || (m->channels != 1 && m->channels != 3))
        return oct_fail(&j->c.ctx->error, OCT_ERR_UNSUPPORTED,
                        "%s takes images of %dx%dx%d; infer makes square grey or RGB ones", path, m->height,
                        m->width, m->channels);
    j->pixels = oct_alloc((size_t)m->height * (size_t)m->width, (size_t)m->channels);
    if (!j->pixels) return oct_out_of_memory(j->c.ctx, "image");
    return oct_model_file_evaluator(&j->evaluator, &j->file, 1);
}

static double probability(const double *scores, int classes, int k)
{
    double sum = 0;
    for (int i = 0; i < classes; i++) sum += exp(scores[i] - scores[k]);
    return 1 / sum;
}

static void print_classes(job *j, const char *path, const double *scores)
{
    enum { MOST = 100 };
    int order[MOST], classes = oct_evaluator_classes(j->evaluator),
                     count = f.top < classes ? (int)f.top : classes;
    oct_scores_top(scores, classes, order, count);
    cli_print(&j->c, "%s", path);
    cJSON *event = cli_event(&j->c, "image"), *list;
    cJSON_AddStringToObject(event, "path", path);
    list = cJSON_AddArrayToObject(event, "classes");
    for (int i = 0; i < count; i++) {
        char number[24];
        int k = order[i];
        const char *name = oct_model_file_class(&j->file, k);
        snprintf(number, sizeof number, "%d", k);
        cli_print(&j->c, "  %6.2f %%  %s", 100 * probability(scores, classes, k), name ? name : number);
        if (!event) continue;
        cJSON *entry = cJSON_CreateObject();
        cli_add(entry, "class", k, 0);
        if (name) cJSON_AddStringToObject(entry, "name", name);
        cli_add(entry, "percent", 100 * probability(scores, classes, k), 4);
        cJSON_AddItemToArray(list, entry);
    }
    cli_emit(&j->c, event);
}

static oct_status classify(job *j, const char *path)
{
    const oct_model_file *m = &j->file;
    const double *scores;
    oct_error *error = &j->c.ctx->error;
    oct_transform transform = {.size = m->height, .augment = m->augment, .fit = m->fit};
    OCT_TRY(oct_image_load(&j->image, path, m->channels, 0, error));
    OCT_TRY(oct_transform_apply(j->pixels, &transform, oct_image_view(&j->image), NULL, &j->scratch, error));
    OCT_TRY(oct_evaluator_run(j->evaluator, &scores, j->pixels, 1));
    print_classes(j, path, scores);
    return OCT_OK;
}

static void release(job *j)
{
    oct_evaluator_destroy(j->evaluator);
    oct_image_release(&j->image);
    oct_transform_scratch_release(&j->scratch);
    oct_free(j->pixels);
    oct_model_file_close(&j->file);
}

/* An image that cannot be read does not keep the others from being looked at. */
static void classify_all(job *j, char **paths, int count)
{
    for (int i = 0; i < count && !cli_signal(); i++) {
        if (classify(j, paths[i]) == OCT_OK) continue;
        cli_fail(&j->c);
        oct_error_clear(&j->c.ctx->error);
        j->failed++;
    }
    cJSON *r = cli_event(&j->c, "result");
    cJSON_AddStringToObject(r, "task", "infer");
    cJSON_AddStringToObject(r, "kind", oct_model_kind_name(j->file.kind));
    cli_add(r, "images", count - j->failed, 0);
    cli_add(r, "failed", j->failed, 0);
    cli_emit(&j->c, r);
}

int main(int argc, char **argv)
{
    cli_limit_spinning(argv);
    static job j;
    int count;
    f.top = 5;
    spec.max_positional = argc;
    char **positional = oct_calloc((size_t)argc + 1, sizeof *positional);
    if (!positional) return CLI_FAILED;
    int status = args_parse(&spec, argc, argv, positional, &count);
    if (status == CLI_GO_ON) {
        j.c = (cli){.program = "infer", .json = f.json, .quiet = f.quiet};
        status = cli_start(&j.c, f.threads);
    }
    if (status == CLI_GO_ON) {
        cli_catch_signals();
        status = prepare(&j, positional[0]) == OCT_OK ? CLI_OK : cli_fail(&j.c);
        if (status == CLI_OK) classify_all(&j, positional + 1, count - 1);
        if (status == CLI_OK && j.failed) status = CLI_FAILED;
        if (cli_signal()) status = 128 + cli_signal();
        release(&j);
        status = cli_end(&j.c, status);
    }
    oct_free(positional);
    return status;
}
