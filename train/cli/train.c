/* SPDX-License-Identifier: BSD-2-Clause
 * bin/train: from images to a trained model, in float or quantized. What a run consists of, in order; the loop is
 * train/session.h, the end train_final.h. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "autograd/base/memory.h"
#include "train/calibrate.h"
#include "train/cli/progress.h"
#include "train/cli/train_final.h"
#include "train/cli/train_options.h"
#include "train/model_file.h"
#include "train/session.h"

typedef struct run {
    cli c;
    train_flags flags;
    data_source data;
    char folder[OCT_SESSION_PATH];
    oct_checkpoint start;      /* what --resume or --pretrained read */
    bool resumed, loaded;      /* weights came from a file */
    oct_graph *graph;
    oct_model model;
    char *fingerprint, *quantize_text, *spec;
    const char **classes;
    oct_checkpoint_info info;
    oct_loader *train, *validation;
    oct_split validation_split;
    oct_trainer *trainer;
    oct_session *session;
    int64_t shown_epoch;       /* of the progress line; < 0: none */
    double last_step_event;
} run;

static bool quantized(const run *r)
{
    return oct_quantize_points(r->graph) > 0;
}

static oct_status fail(run *r, oct_status status, const char *text)
{
    return oct_fail(&r->c.ctx->error, status, "%s", text);
}

/* --- the output folder --- */

static oct_status make_folders(run *r, char *path)
{
    for (char *p = path + 1;; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = '\0';
        if (mkdir(path, 0777) && errno != EEXIST)
            return oct_fail(&r->c.ctx->error, OCT_ERR_IO, "%s: cannot create the folder: %s", path, strerror(errno));
        *p = end;
        if (!end) return OCT_OK;
    }
}

static bool exists(const char *folder, const char *name)
{
    char path[OCT_SESSION_PATH];
    struct stat st;
    return oct_session_file(path, folder, name, NULL) == OCT_OK && !stat(path, &st);
}

/* runs/<model>-1, -2, ... */
static void next_free_folder(run *r, const char *name)
{
    char base[64];
    size_t length = strcspn(name, ":,=/ ");
    snprintf(base, sizeof base, "%.*s%s", length > 40 ? 40 : (int)length, name, r->flags.quantize ? "-q" : "");
    struct stat st;
    for (int n = 1; n < 1000000; n++) {
        snprintf(r->folder, sizeof r->folder, "runs/%s-%d", base, n);
        if (stat(r->folder, &st)) return;
    }
}

static oct_status choose_folder(run *r)
{
    const char *name = r->flags.model ? r->flags.model : r->start.info.model ? r->start.info.model : "model";
    if (r->flags.output)
        snprintf(r->folder, sizeof r->folder, "%s", r->flags.output);
    else
        next_free_folder(r, name);
    if (!r->resumed && !r->flags.overwrite && exists(r->folder, "last.h5"))
        return oct_fail(&r->c.ctx->error, OCT_ERR_ARGUMENT,
                        "%s holds a run already: --resume continues it, --overwrite starts afresh", r->folder);
    return make_folders(r, r->folder);
}

/* --- the model --- */

/* What there is to start from: the run's own checkpoint, or the file of --pretrained. */
static oct_status read_start(run *r)
{
    char path[OCT_SESSION_PATH];
    const train_flags *f = &r->flags;
    if (f->resume && exists(f->output, "last.h5")) {
        OCT_TRY(oct_session_file(path, f->output, "last.h5", &r->c.ctx->error));
        OCT_TRY(oct_checkpoint_read(&r->start, path, r->c.ctx));
        if (!r->start.resumable)
            return oct_fail(&r->c.ctx->error, OCT_ERR_FORMAT, "%s holds no training state to resume from", path);
        r->resumed = r->loaded = true;
        return OCT_OK;
    }
    if (f->resume) cli_note(&r->c, "%s: no checkpoint yet, starting afresh", f->output);
    if (!f->pretrained) return OCT_OK;
    r->loaded = true;
    return oct_checkpoint_read(&r->start, f->pretrained, r->c.ctx);
}

static const oct_node *image_node(const oct_graph *g, const oct_model *m)
{
    return oct_graph_node(g, m->image);
}

/* Channels of the images the starting file wants; 0 = free to choose. */
static int start_channels(const run *r)
{
    return r->start.graph && (r->resumed || !r->flags.model) ? image_node(r->start.graph, &r->start.model)->shape.dim[3] : 0;
}

static int start_size(const run *r)
{
    return r->start.graph && (r->resumed || !r->flags.model) ? image_node(r->start.graph, &r->start.model)->shape.dim[1] : 0;
}

/* 0..255 to about zero mean and unit variance; a file's own preprocessing where it fits. */
static oct_status choose_preprocessing(const run *r, oct_normalize_attrs *a)
{
    static const oct_normalize_attrs rgb = {{123.675f, 116.28f, 103.53f, 0}, {0.017125f, 0.017507f, 0.017429f, 1}};
    static const oct_normalize_attrs grey = {{72.94f, 0, 0, 0}, {0.01132f, 1, 1, 1}};
    const train_flags *f = &r->flags;
    int channels = r->data.channels;
    *a = channels == 3 ? rgb : channels == 1 ? grey : (oct_normalize_attrs){{128, 128, 128, 128}, {.0156f, .0156f, .0156f, .0156f}};
    const oct_node *old = r->start.graph ? oct_graph_node(r->start.graph, oct_graph_find(r->start.graph, "normalize")) : NULL;
    if (old && old->op == &oct_op_normalize && image_node(r->start.graph, &r->start.model)->shape.dim[3] == channels)
        *a = *(const oct_normalize_attrs *)old->attrs;
    if ((f->mean && f->mean_count != channels) || (f->scale && f->scale_count != channels))
        return oct_fail(&r->c.ctx->error, OCT_ERR_ARGUMENT, "--mean and --scale: expected %d numbers, one per channel",
                        channels);
    for (int i = 0; i < f->mean_count; i++) a->mean[i] = (float)f->means[i];
    for (int i = 0; i < f->scale_count; i++) a->scale[i] = (float)f->scales[i];
    return OCT_OK;
}

static oct_status build_model(run *r)
{
    oct_model_options options = {.height = r->data.size, .width = r->data.size, .channels = r->data.channels,
                                 .classes = r->data.classes, .label_smoothing = (float)r->flags.label_smoothing};
    OCT_TRY(choose_preprocessing(r, &options.preprocess));
    OCT_TRY(oct_graph_create(&r->graph, r->c.ctx, (uint64_t)r->flags.seed));
    OCT_TRY(oct_model_build(&r->model, r->graph, r->flags.model, &options));
    if (!r->start.state) return OCT_OK;
    oct_state_report report;
    oct_state_load(r->start.state, r->graph, &report);
    cli_note(&r->c, "%s: %d tensors taken, %d missing, %d unexpected, %d of another shape%s%s", r->flags.pretrained,
             report.matched, report.missing, report.unexpected, report.mismatched, *report.detail ? ": " : "", report.detail);
    if (!report.matched) return fail(r, OCT_ERR_SHAPE, "--pretrained: no tensor of the file fits the model");
    return OCT_OK;
}

static oct_status set_label_smoothing(run *r)
{
    const oct_node *loss = oct_graph_node(r->graph, r->model.loss);
    if (!r->flags.label_smoothing_given || !loss || loss->op != &oct_op_softmax_cross_entropy) return OCT_OK;
    oct_cross_entropy_attrs attrs = *(const oct_cross_entropy_attrs *)loss->attrs;
    attrs.smoothing = (float)r->flags.label_smoothing;
    oct_value inputs[2] = {{loss->inputs[0]}, {loss->inputs[1]}};
    return oct_graph_replace(r->graph, r->model.loss, loss->op, &attrs, inputs, 2);
}

static oct_status take_model(run *r)
{
    const oct_checkpoint *s = &r->start;
    const oct_node *image = image_node(s->graph, &s->model), *head = oct_graph_node(s->graph, s->model.logits);
    const char *what = r->resumed ? r->flags.output : r->flags.pretrained;
    OCT_TRY(data_check_classes(&r->data, &r->c, what, (int)oct_shape_sample(&head->shape)));
    OCT_TRY(data_check_images(&r->data, &r->c, what, image->shape.dim[1], image->shape.dim[2], image->shape.dim[3]));
    if (!r->resumed && (r->flags.mean || r->flags.scale))
        return fail(r, OCT_ERR_ARGUMENT, "--mean and --scale belong to the model of --pretrained; they need --model");
    r->model = s->model;
    r->graph = oct_checkpoint_take_graph(&r->start);
    return r->resumed ? OCT_OK : set_label_smoothing(r);
}

static oct_status make_model(run *r)
{
    OCT_TRY(r->start.graph && (r->resumed || !r->flags.model) ? take_model(r) : build_model(r));
    if (!r->resumed && r->flags.quantize && !quantized(r)) {
        cli_note(&r->c, "quantizer:");
        OCT_TRY(oct_quantize(r->graph, &r->flags.config, r->flags.quiet ? NULL : cli_note_line, &r->c));
    }
    if (r->flags.print_model) oct_model_print(r->graph, r->flags.json ? cli_note_line : cli_print_line, &r->c);
    return OCT_OK;
}

/* What every file of the run says about the model. */
static oct_status describe(run *r)
{
    const train_flags *f = &r->flags;
    r->fingerprint = train_fingerprint(f, r->data.size);
    bool own_quantizer = f->quantize && !(r->start.info.quantize && quantized(r) && !f->model);
    r->quantize_text = own_quantizer ? train_quantize_text(f) : oct_strdup(r->start.info.quantize);
    r->spec = oct_strdup(f->model ? f->model : r->start.info.model);
    r->classes = oct_calloc((size_t)r->data.classes, sizeof *r->classes);
    if (!r->fingerprint || !r->classes) return oct_out_of_memory(r->c.ctx, "description of the run");
    bool named = true;
    for (int i = 0; i < r->data.classes; i++) {
        r->classes[i] = oct_dataset_class_name(r->data.set, i);
        named &= r->classes[i] != NULL;
    }
    r->info = (oct_checkpoint_info){.model = r->spec,
                                    .options = r->fingerprint,
                                    .augment = oct_augment_name(f->recipe),
                                    .quantize = quantized(r) ? r->quantize_text : NULL,
                                    .classes = named ? r->classes : NULL,
                                    .class_count = named ? r->data.classes : 0};
    return OCT_OK;
}

static oct_status check_resume(run *r)
{
    char differences[900];
    if (!r->resumed) return OCT_OK;
    train_compare(differences, sizeof differences, r->fingerprint, r->start.info.options);
    if (!*differences) return OCT_OK;
    return oct_fail(&r->c.ctx->error, OCT_ERR_ARGUMENT, "cannot resume %s with other flags: %s", r->flags.output, differences);
}

/* --- events --- */

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void on_trainer(void *user, const oct_trainer_event *e)
{
    run *r = user;
    const char *what = e->kind == OCT_EVENT_BN_FROZEN ? "batch norm statistics" : "activation ranges";
    cli_note(&r->c, "step %" PRId64 ": %s are %s", e->step, what, e->on ? "frozen from here" : "free again");
    cJSON *event = cli_event(&r->c, "freeze");
    cJSON_AddStringToObject(event, "what", e->kind == OCT_EVENT_BN_FROZEN ? "bn" : "ranges");
    cJSON_AddBoolToObject(event, "on", e->on);
    cli_add(event, "step", (double)e->step, 0);
    cli_emit(&r->c, event);
}

static void on_step(void *user, const oct_step_report *s)
{
    run *r = user;
    char text[96];
    int64_t batch = oct_loader_batch_size(r->train);
    if (r->shown_epoch != s->epoch) {
        snprintf(text, sizeof text, "epoch %" PRId64 "/%" PRId64, s->epoch + 1, s->epochs);
        progress_start(text, s->batches * batch, "images", r->c.quiet);
        progress_skip(s->batch * batch - s->images);
        r->shown_epoch = s->epoch;
    }
    snprintf(text, sizeof text, "loss %.4f", s->loss);
    progress_update(s->batch * batch, text);
    double now = now_seconds();
    if (!r->c.json || now - r->last_step_event < 10) return;
    r->last_step_event = now;
    cJSON *event = cli_event(&r->c, "step");
    cli_add(event, "epoch", (double)s->epoch, 0);
    cli_add(event, "batch", (double)s->batch, 0);
    cli_add(event, "batches", (double)s->batches, 0);
    cli_add(event, "loss", s->loss, 6);
    cli_add(event, "lr", s->stats.lr, 9);
    cli_add(event, "images_per_second", s->seconds > 0 ? (double)s->images / s->seconds : 0, 1);
    cli_emit(&r->c, event);
}

static void on_evaluated(void *user, const oct_score *score, int64_t images)
{
    run *r = user;
    if (r->shown_epoch != -1) progress_start("evaluation", images, "images", r->c.quiet);
    r->shown_epoch = -1;
    progress_update(score->images, NULL);
}

static void on_epoch(void *user, const oct_epoch_report *e)
{
    run *r = user;
    char scored[96] = "";
    const char *split = oct_split_name(r->validation_split);
    if (e->evaluated)
        snprintf(scored, sizeof scored, "  %s top-1 %.2f %% loss %.4f%s", split, oct_score_top1(&e->score),
                 oct_score_loss(&e->score), e->best ? " (best)" : "");
    progress_end();
    cli_note(&r->c, "epoch %" PRId64 "/%" PRId64 "  loss %.4f  top-1 %.2f %%%s  %.0f images/s", e->epoch + 1, e->epochs,
             e->train_loss, e->train_top1, scored, e->images_per_second);
    cJSON *event = cli_event(&r->c, "epoch");
    cli_add(event, "epoch", (double)e->epoch, 0);
    cli_add(event, "step", (double)e->step, 0);
    cli_add(event, "train_loss", e->train_loss, 6);
    cli_add(event, "train_top1", e->train_top1, 4);
    cli_add(event, "lr", e->lr, 9);
    if (e->evaluated) {
        cJSON_AddStringToObject(event, "split", split);
        cli_add(event, "top1", oct_score_top1(&e->score), 4);
        cli_add(event, "top5", oct_score_top5(&e->score), 4);
        cli_add(event, "loss", oct_score_loss(&e->score), 6);
        cJSON_AddBoolToObject(event, "best", e->best);
    }
    cli_add(event, "images_per_second", e->images_per_second, 1);
    cli_emit(&r->c, event);
}

static bool on_stop(void *user)
{
    (void)user;
    return cli_signal() != 0;
}

static oct_status on_calibrated(void *user, int64_t done, int64_t total)
{
    (void)user;
    (void)total;
    progress_update(done, NULL);
    return cli_signal() ? OCT_END : OCT_OK;
}

static void tell_start(const run *r)
{
    oct_model_size size = oct_model_measure(r->graph);
    const cli *c = &r->c;
    int64_t images = oct_loader_samples(r->train);
    cli_note(c, "%s: %" PRId64 " parameters, %.2f MMAC; %s: %" PRId64 " images an epoch, %d classes, %dx%dx%d; %s",
             r->spec ? r->spec : "model", size.parameters, (double)size.macs * 1e-6, data_given.path, images,
             r->data.classes, r->data.size, r->data.size, r->data.channels, r->folder);
    if (r->validation && r->validation_split == OCT_SPLIT_TEST)
        cli_note(c, "best.h5 is chosen on the test images: there are no validation images (--val-split F holds some out)");
    if (!r->validation) cli_note(c, "no validation and no test images: nothing is scored, there is no best.h5");
    cJSON *event = cli_event(c, "start");
    cJSON_AddStringToObject(event, "task", "train");
    if (r->spec) cJSON_AddStringToObject(event, "model", r->spec);
    cli_add(event, "parameters", (double)size.parameters, 0);
    cli_add(event, "macs", (double)size.macs, 0);
    cli_add(event, "images", (double)images, 0);
    cli_add(event, "classes", r->data.classes, 0);
    if (r->validation) cJSON_AddStringToObject(event, "best_on", oct_split_name(r->validation_split));
    cJSON_AddBoolToObject(event, "quantized", quantized(r));
    cJSON_AddBoolToObject(event, "resumed", r->resumed);
    cJSON_AddStringToObject(event, "output", r->folder);
    cli_emit(c, event);
}

/* --- the run --- */

static oct_status make_loaders(run *r)
{
    const train_flags *f = &r->flags;
    oct_loader_options options = {.split = OCT_SPLIT_TRAIN,
                                  .batch_size = (int)f->batch,
                                  .size = r->data.size,
                                  .augment = f->recipe,
                                  .training = 1,
                                  .seed = (uint64_t)f->seed,
                                  .epoch_size = f->epoch_size,
                                  .workers = (int)data_given.workers,
                                  .strict = data_given.strict};
    OCT_TRY(oct_loader_create(&r->train, r->c.ctx, r->data.set, &options));
    if (!data_validation_split(&r->data, &r->validation_split)) return OCT_OK;
    return data_evaluation_loader(&r->validation, &r->data, &r->c, r->validation_split, (int)f->batch, f->recipe, 0);
}

static oct_status make_trainer(run *r)
{
    const train_flags *f = &r->flags;
    int64_t batches = oct_loader_batches(r->train);
    oct_trainer_options options = {.batch = (int)f->batch,
                                   .accumulate = (int)f->accumulate,
                                   .grad_clip = f->grad_clip,
                                   .sgd = {.momentum = (float)f->momentum,
                                           .weight_decay = (float)f->weight_decay,
                                           .nesterov = f->nesterov,
                                           .decay_weights_only = f->decay_weights_only},
                                   .schedule = f->rates,
                                   .epochs = f->epochs,
                                   .steps_per_epoch = (batches + f->accumulate - 1) / f->accumulate,
                                   .seed = (uint64_t)f->seed,
                                   .freeze_bn = f->freeze_bn,
                                   .event = on_trainer,
                                   .event_user = r};
    OCT_TRY(oct_trainer_create(&r->trainer, r->graph, &r->model, &options));
    if (f->print_plan)
        oct_plan_print(oct_trainer_plan(r->trainer), f->json ? cli_note_line : cli_print_line, &r->c);
    return OCT_OK;
}

static oct_status calibrate(run *r)
{
    if (!r->loaded || r->resumed || !quantized(r) || !oct_quantize_unobserved(r->graph)) return OCT_OK;
    progress_start("calibration", r->flags.calibration_batches, "batches", r->c.quiet);
    oct_status status = oct_calibrate(r->graph, &r->model, r->train, r->flags.calibration_batches, (uint64_t)r->flags.seed,
                                      false, on_calibrated, NULL);
    progress_end();
    return status;
}

static train_final final_of(run *r)
{
    return (train_final){.c = &r->c,
                         .data = &r->data,
                         .graph = r->graph,
                         .model = &r->model,
                         .info = &r->info,
                         .recipe = r->flags.recipe,
                         .batch = (int)r->flags.batch,
                         .folder = r->folder};
}

static oct_status evaluate_start(run *r)
{
    if (!r->flags.evaluate_start || r->resumed || !r->validation) return OCT_OK;
    if (quantized(r) && oct_quantize_unobserved(r->graph)) return OCT_OK; /* nothing to score with yet */
    train_final f = final_of(r);
    oct_score score;
    oct_evaluator *evaluator;
    OCT_TRY(oct_evaluator_create(&evaluator, r->graph, &r->model, f.batch));
    oct_status status = train_score(&f, "start", evaluator, r->validation_split, &score);
    oct_evaluator_destroy(evaluator);
    OCT_TRY(status);
    cli_note(&r->c, "start  %s top-1 %.2f %% loss %.4f", oct_split_name(r->validation_split), oct_score_top1(&score),
             oct_score_loss(&score));
    cJSON *event = cli_event(&r->c, "evaluate-start");
    cli_add(event, "top1", oct_score_top1(&score), 4);
    cli_add(event, "top5", oct_score_top5(&score), 4);
    cli_add(event, "loss", oct_score_loss(&score), 6);
    cli_emit(&r->c, event);
    return OCT_OK;
}

static oct_status run_session(run *r)
{
    oct_session_options options = {
        .trainer = r->trainer,
        .graph = r->graph,
        .model = &r->model,
        .train = r->train,
        .validation = r->validation,
        .epochs = r->flags.epochs,
        .folder = r->folder,
        .info = r->info,
        .events = {.step = on_step, .evaluated = on_evaluated, .epoch = on_epoch, .stop = on_stop, .user = r}};
    OCT_TRY(oct_session_create(&r->session, r->c.ctx, &options));
    if (r->resumed) {
        OCT_TRY(oct_session_resume(r->session, &r->start));
        const oct_train_progress *at = oct_session_progress(r->session);
        cli_note(&r->c, "resuming at epoch %" PRId64 ", batch %" PRId64, at->epoch + 1, at->batch);
    }
    oct_status status = oct_session_run(r->session);
    progress_end();
    data_report_unreadable(r->train, &r->c, "train");
    return status;
}

static oct_status prepare(run *r)
{
    OCT_TRY(read_start(r));
    OCT_TRY(data_open(&r->data, &r->c, start_channels(r)));
    OCT_TRY(data_choose_size(&r->data, &r->c, start_size(r)));
    OCT_TRY(train_choose_recipe(&r->flags, r->data.size, &r->c.ctx->error));
    OCT_TRY(make_model(r));
    OCT_TRY(describe(r));
    OCT_TRY(check_resume(r));
    OCT_TRY(make_loaders(r));
    OCT_TRY(choose_folder(r));
    OCT_TRY(train_write_config(&r->flags, &r->c, r->folder, r->fingerprint));
    tell_start(r);
    return OCT_OK;
}

static oct_status train(run *r)
{
    OCT_TRY(prepare(r));
    cli_reset_peak();
    uint64_t before = cli_resident_bytes();
    OCT_TRY(calibrate(r));
    OCT_TRY(make_trainer(r));
    OCT_TRY(evaluate_start(r));
    OCT_TRY(run_session(r));
    train_final f = final_of(r);
    uint64_t peak = cli_peak_bytes();
    f.peak_bytes = peak > before ? peak - before : 0;
    f.images_per_second = oct_session_images_per_second(r->session);
    return train_finish(&f);
}

static void release(run *r)
{
    oct_session_destroy(r->session);
    oct_trainer_destroy(r->trainer);
    oct_loader_destroy(r->train);
    oct_loader_destroy(r->validation);
    data_close(&r->data);
    oct_graph_destroy(r->graph);
    oct_checkpoint_release(&r->start);
    oct_free(r->classes);
    oct_free(r->fingerprint);
    oct_free(r->quantize_text);
    oct_free(r->spec);
}

static int stopped(const run *r)
{
    int number = cli_signal();
    bool saved = exists(r->folder, "last.h5");
    cli_warn(&r->c, "train: stopped by signal %d%s%s%s", number, saved ? "; --resume continues " : "", saved ? r->folder : "",
             saved ? "" : " before there was anything to save");
    cJSON *event = cli_event(&r->c, "stopped");
    cli_add(event, "signal", number, 0);
    cJSON_AddStringToObject(event, "output", r->folder);
    cli_emit(&r->c, event);
    return 128 + number;
}

int main(int argc, char **argv)
{
    static run r;
    r.shown_epoch = -2;
    int status = train_parse(&r.flags, argc, argv);
    if (status != CLI_GO_ON) return status;
    r.c = (cli){.program = "train", .json = r.flags.json, .quiet = r.flags.quiet};
    status = cli_start(&r.c, r.flags.threads);
    if (status != CLI_GO_ON) return status;
    cli_catch_signals();
    oct_status result = train(&r);
    status = result == OCT_OK ? CLI_OK : result == OCT_END ? stopped(&r) : cli_fail(&r.c);
    release(&r);
    return cli_end(&r.c, status);
}
