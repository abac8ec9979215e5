/* SPDX-License-Identifier: BSD-2-Clause
 * bin/train: from images to a trained model, in float or quantized. The start is train_setup.h, the loop
 * train/session.h, the end train_final.h; here is what a run tells while it goes, and the order of it all. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "train/calibrate.h"
#include "train/ranges.h"
#include "train/cli/progress.h"
#include "train/cli/train_final.h"
#include "train/cli/train_setup.h"
#include "train/cli/spin.h"

static bool quantized(const train_run *r)
{
    return oct_quantize_points(r->graph) > 0;
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
    train_run *r = user;
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
    train_run *r = user;
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
    train_run *r = user;
    if (r->shown_epoch != -1) progress_start("evaluation", images, "images", r->c.quiet);
    r->shown_epoch = -1;
    progress_update(score->images, NULL);
}

static void on_epoch(void *user, const oct_epoch_report *e)
{
    train_run *r = user;
    char scored[96] = "";
    const char *split = oct_split_name(r->validation_split);
    if (e->evaluated)
        snprintf(scored, sizeof scored, "  %s top-1 %.2f %% loss %.4f%s", split, oct_score_top1(&e->score),
                 oct_score_loss(&e->score), e->best ? " (best)" : "");
    progress_end();
    cli_note(&r->c, "epoch %" PRId64 "/%" PRId64 "  loss %.4f  top-1 %.2f %%%s  %.0f images/s", e->epoch + 1,
             e->epochs, e->train_loss, e->train_top1, scored, e->images_per_second);
    int dead = 0;
    if (oct_quantize_points(r->graph) && oct_ranges_dead(&dead, r->graph, &r->model, cli_note_line, &r->c) != OCT_OK)
        oct_error_clear(&r->c.ctx->error); /* a report that cannot be made stops no training */
    cJSON *event = cli_event(&r->c, "epoch");
    if (dead) cli_add(event, "dead_channels", dead, 0);
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

/* --- the run --- */

static oct_status make_trainer(train_run *r)
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

static oct_status calibrate(train_run *r)
{
    if (!r->loaded || r->resumed || !quantized(r) || !oct_quantize_unobserved(r->graph)) return OCT_OK;
    progress_start("calibration", r->flags.calibration_batches, "batches", r->c.quiet);
    oct_status status = oct_calibrate(r->graph, &r->model, r->train, r->flags.calibration_batches,
                                      (uint64_t)r->flags.seed, false, on_calibrated, NULL);
    progress_end();
    return status;
}

static train_final final_of(train_run *r)
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

static oct_status evaluate_start(train_run *r)
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
    cli_note(&r->c, "start  %s top-1 %.2f %% loss %.4f", oct_split_name(r->validation_split),
             oct_score_top1(&score), oct_score_loss(&score));
    cJSON *event = cli_event(&r->c, "evaluate-start");
    cli_add(event, "top1", oct_score_top1(&score), 4);
    cli_add(event, "top5", oct_score_top5(&score), 4);
    cli_add(event, "loss", oct_score_loss(&score), 6);
    cli_emit(&r->c, event);
    return OCT_OK;
}

static oct_status run_session(train_run *r)
{
    oct_session_options options = {
        .trainer = r->trainer,
        .graph = r->graph,
        .model = &r->model,
        .train = r->train,
        .validation = r->validation,
        .epochs = r->flags.epochs,
        .folder = r->folder,
        .save_seconds = r->flags.save_seconds,
        .info = r->info,
        .events = {
            .step = on_step, .evaluated = on_evaluated, .epoch = on_epoch, .stop = on_stop, .user = r}};
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

static oct_status train(train_run *r)
{
    OCT_TRY(train_prepare(r));
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

static int stopped(const train_run *r)
{
    int number = cli_signal();
    bool saved = train_file_exists(r->folder, "last.h5");
    cli_warn(&r->c, "train: stopped by signal %d%s%s%s", number, saved ? "; --resume continues " : "",
             saved ? r->folder : "", saved ? "" : " before there was anything to save");
    cJSON *event = cli_event(&r->c, "stopped");
    cli_add(event, "signal", number, 0);
    cJSON_AddStringToObject(event, "output", r->folder);
    cli_emit(&r->c, event);
    return 128 + number;
}

int main(int argc, char **argv)
{
    cli_limit_spinning(argv);
    static train_run r;
    r.shown_epoch = -2;
    int status = train_parse(&r.flags, argc, argv);
    if (status != CLI_GO_ON) return status;
    r.c = (cli){.program = "train", .json = r.flags.json, .quiet = r.flags.quiet};
    status = cli_start(&r.c, r.flags.threads);
    if (status != CLI_GO_ON) return status;
    cli_catch_signals();
    oct_status result = train(&r);
    status = result == OCT_OK ? CLI_OK : result == OCT_END ? stopped(&r) : cli_fail(&r.c);
    train_release(&r);
    return cli_end(&r.c, status);
}
