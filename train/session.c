/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "autograd/base/memory.h"

struct oct_session {
    oct_ctx *ctx;
    oct_session_options options;
    oct_evaluator *evaluator;
    oct_train_progress at;
    double last_save;              /* clock */
    double epoch_seconds, seconds; /* of training, in this epoch and in all */
    int64_t epoch_images, images;  /* in this process */
};

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

oct_status oct_session_file(char path[OCT_SESSION_PATH], const char *folder, const char *name,
                            oct_error *error)
{
    int length = snprintf(path, OCT_SESSION_PATH, "%s/%s", folder, name);
    if (length >= OCT_SESSION_PATH)
        return oct_fail(error, OCT_ERR_ARGUMENT, "%.200s...: the path is too long", folder);
    return OCT_OK;
}

static oct_status check_fit(const oct_session_options *o, oct_ctx *ctx)
{
    const oct_node *image = oct_graph_node(o->graph, o->model->image);
    if (o->model->task != OCT_CLASSIFY)
        return oct_fail(&ctx->error, OCT_ERR_UNSUPPORTED,
                        "training session: the model is no classifier; sessions keep the best accuracy");
    int size = oct_loader_size(o->train), channels = oct_loader_channels(o->train);
    if (image->shape.dim[1] != size || image->shape.dim[2] != size || image->shape.dim[3] != channels)
        return oct_fail(&ctx->error, OCT_ERR_SHAPE,
                        "the model takes images of %dx%dx%d, the data set gives %dx%dx%d",
                        image->shape.dim[1], image->shape.dim[2], image->shape.dim[3], size, size, channels);
    return OCT_OK;
}

oct_status oct_session_create(oct_session **out, oct_ctx *ctx, const oct_session_options *options)
{
    *out = NULL;
    OCT_TRY(check_fit(options, ctx));
    oct_session *s = oct_calloc(1, sizeof *s);
    if (!s) return oct_out_of_memory(ctx, "training session");
    s->ctx = ctx;
    s->options = *options;
    s->at.best_top1 = -1;
    s->last_save = now_seconds();
    if (!(s->options.save_seconds > 0)) s->options.save_seconds = OCT_SESSION_SAVE_SECONDS;
    if (options->validation) {
        int batch = oct_loader_batch_size(options->validation);
        oct_status status = oct_evaluator_create(&s->evaluator, options->graph, options->model, batch);
        if (status != OCT_OK) {
            oct_session_destroy(s);
            return status;
        }
    }
    *out = s;
    return OCT_OK;
}

void oct_session_destroy(oct_session *s)
{
    if (!s) return;
    oct_evaluator_destroy(s->evaluator);
    oct_free(s);
}

/* --- metrics.jsonl --- */

static oct_status metrics_error(const oct_session *s, const char *path, const char *what)
{
    return oct_fail(&s->ctx->error, OCT_ERR_IO, "%s: %s: %s", path, what, strerror(errno));
}

/* Cuts the file back to what belongs to the checkpoint. */
static oct_status cut_metrics(const oct_session *s)
{
    char path[OCT_SESSION_PATH];
    struct stat st;
    if (!s->options.folder) return OCT_OK;
    OCT_TRY(oct_session_file(path, s->options.folder, "metrics.jsonl", &s->ctx->error));
    if (stat(path, &st)) {
        if (errno == ENOENT && !s->at.metrics_bytes) return OCT_OK;
        return metrics_error(s, path, "cannot be read, but the checkpoint goes with it");
    }
    if (st.st_size < s->at.metrics_bytes)
        return oct_fail(&s->ctx->error, OCT_ERR_FORMAT,
                        "%s: expected at least %" PRId64 " bytes, found %" PRId64, path, s->at.metrics_bytes,
                        (int64_t)st.st_size);
    return truncate(path, s->at.metrics_bytes) ? metrics_error(s, path, "cannot be cut back") : OCT_OK;
}

static oct_status write_line(int fd, const char *text, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, text + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return OCT_ERR_IO;
        done += (size_t)n;
    }
    return fsync(fd) && errno != EINVAL && errno != EROFS ? OCT_ERR_IO : OCT_OK;
}

/* Rates have a fixed width, so that the length of the file, which checkpoints record, does not depend on the
 * machine. */
static int format_metrics(char *text, size_t size, const oct_epoch_report *r)
{
    int n =
        snprintf(text, size,
                 "{\"epoch\":%" PRId64 ",\"step\":%" PRId64
                 ",\"train_loss\":%.6g,\"train_top1\":%.4f,\"lr\":%.6g,\"bn_frozen\":%s,\"range_frozen\":%s",
                 r->epoch, r->step, r->train_loss, r->train_top1, r->lr, r->frozen.bn ? "true" : "false",
                 r->frozen.range ? "true" : "false");
    if (r->evaluated)
        n += snprintf(text + n, size - (size_t)n,
                      ",\"val_top1\":%.4f,\"val_top5\":%.4f,\"val_loss\":%.6g,\"best\":%s",
                      oct_score_top1(&r->score), oct_score_top5(&r->score), oct_score_loss(&r->score),
                      r->best ? "true" : "false");
    double rate = r->images_per_second < 99999999 ? r->images_per_second : 99999999;
    return n + snprintf(text + n, size - (size_t)n, ",\"images_per_second\":%10.1f}\n", rate);
}

static oct_status append_metrics(oct_session *s, const oct_epoch_report *report)
{
    char path[OCT_SESSION_PATH], text[1024];
    if (!s->options.folder) return OCT_OK;
    OCT_TRY(oct_session_file(path, s->options.folder, "metrics.jsonl", &s->ctx->error));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return metrics_error(s, path, "cannot open");
    int size = format_metrics(text, sizeof text, report);
    oct_status status = write_line(fd, text, (size_t)size);
    if (status != OCT_OK) status = metrics_error(s, path, "cannot write");
    close(fd);
    s->at.metrics_bytes += size;
    return status;
}

/* --- checkpoints --- */

static oct_status save(oct_session *s, const char *name, bool whole)
{
    char path[OCT_SESSION_PATH];
    const oct_session_options *o = &s->options;
    if (!o->folder) return OCT_OK;
    OCT_TRY(oct_session_file(path, o->folder, name, &s->ctx->error));
    OCT_TRY(oct_checkpoint_write(path, o->graph, whole ? oct_trainer_velocity(o->trainer) : NULL, &o->info,
                                 whole ? &s->at : NULL, &s->ctx->error));
    if (whole) s->last_save = now_seconds();
    if (o->events.saved) o->events.saved(o->events.user, path, &s->at);
    return OCT_OK;
}

oct_status oct_session_resume(oct_session *s, const oct_checkpoint *c)
{
    oct_error *error = &s->ctx->error;
    if (!c->resumable)
        return oct_fail(error, OCT_ERR_FORMAT, "the checkpoint holds no training state to resume from");
    if (c->progress.epoch > s->options.epochs || c->progress.batch > oct_loader_batches(s->options.train))
        return oct_fail(error, OCT_ERR_FORMAT,
                        "the checkpoint is at epoch %" PRId64 ", batch %" PRId64 "; this run has %" PRId64
                        " epochs of %" PRId64 " batches",
                        c->progress.epoch, c->progress.batch, s->options.epochs,
                        oct_loader_batches(s->options.train));
    OCT_TRY(oct_checkpoint_velocity(c, s->options.graph, oct_trainer_velocity(s->options.trainer), error));
    s->at = c->progress;
    oct_trainer_move(s->options.trainer, (oct_trainer_position){s->at.step, s->at.batches});
    return cut_metrics(s);
}

/* --- the loop --- */

static bool wants_stop(const oct_session *s)
{
    return s->options.events.stop && s->options.events.stop(s->options.events.user);
}

/* OCT_END once everything is saved. */
static oct_status stop(oct_session *s)
{
    OCT_TRY(save(s, "last.h5", true));
    return OCT_END;
}

static void count_step(oct_session *s, const oct_batch *batch, const oct_trainer_stats *stats, double seconds)
{
    s->at.batch = batch->first / oct_loader_batch_size(s->options.train) + 1;
    s->at.loss_sum += stats->loss * stats->count;
    s->at.correct += stats->correct;
    s->at.images += stats->count;
    s->epoch_images += stats->count;
    s->images += stats->count;
    s->epoch_seconds += seconds;
    s->seconds += seconds;
}

static void tell_step(const oct_session *s, const oct_trainer_stats *stats)
{
    const oct_session_events *e = &s->options.events;
    if (!e->step) return;
    oct_step_report report = {.epoch = s->at.epoch,
                              .epochs = s->options.epochs,
                              .batch = s->at.batch,
                              .batches = oct_loader_batches(s->options.train),
                              .images = s->epoch_images,
                              .seconds = s->epoch_seconds,
                              .loss = s->at.images ? s->at.loss_sum / (double)s->at.images : 0,
                              .stats = *stats};
    e->step(e->user, &report);
}

static void note_position(oct_session *s)
{
    oct_trainer_position position = oct_trainer_at(s->options.trainer);
    s->at.step = position.step;
    s->at.batches = position.batches;
}

/* The rest of the epoch's batches. */
static oct_status train_epoch(oct_session *s)
{
    oct_loader *loader = s->options.train;
    oct_trainer *trainer = s->options.trainer;
    OCT_TRY(oct_loader_start(loader, (uint64_t)s->at.epoch, s->at.batch));
    for (;;) {
        oct_batch batch;
        oct_trainer_stats stats;
        double start = now_seconds();
        oct_status status = oct_loader_next(loader, &batch);
        if (status == OCT_END) break;
        OCT_TRY(status);
        OCT_TRY(oct_trainer_step(trainer, &batch, &stats));
        count_step(s, &batch, &stats, now_seconds() - start);
        tell_step(s, &stats);
        if (!oct_trainer_at_border(trainer)) continue;
        note_position(s);
        if (wants_stop(s)) return stop(s);
        if (now_seconds() - s->last_save >= s->options.save_seconds) OCT_TRY(save(s, "last.h5", true));
    }
    OCT_TRY(oct_trainer_flush(trainer, NULL));
    note_position(s);
    if (!s->at.images)
        return oct_fail(&s->ctx->error, OCT_ERR_FORMAT,
                        "epoch %" PRId64 ": the data set gave no readable image", s->at.epoch);
    return OCT_OK;
}

static oct_status while_evaluating(void *user, const oct_score *score)
{
    oct_session *s = user;
    const oct_session_events *e = &s->options.events;
    if (e->evaluated) e->evaluated(e->user, score, oct_loader_samples(s->options.validation));
    return wants_stop(s) ? OCT_END : OCT_OK;
}

static oct_status finish_epoch(oct_session *s)
{
    const oct_session_options *o = &s->options;
    int64_t last = s->at.step ? s->at.step - 1 : 0;
    oct_epoch_report r = {.epoch = s->at.epoch,
                          .epochs = o->epochs,
                          .step = s->at.step,
                          .train_loss = s->at.loss_sum / (double)s->at.images,
                          .train_top1 = 100.0 * (double)s->at.correct / (double)s->at.images,
                          .images_per_second =
                              s->epoch_seconds > 0 ? (double)s->epoch_images / s->epoch_seconds : 0,
                          .lr = oct_trainer_rate(o->trainer, last),
                          .frozen = oct_trainer_frozen(o->trainer, last),
                          .evaluated = s->evaluator != NULL};
    if (s->evaluator) {
        oct_status status = oct_evaluate(s->evaluator, o->validation, &r.score, while_evaluating, s);
        if (status == OCT_END) return stop(s);
        OCT_TRY(status);
        r.best = oct_score_top1(&r.score) > s->at.best_top1;
    }
    OCT_TRY(append_metrics(s, &r));
    if (r.best) {
        s->at.best_top1 = oct_score_top1(&r.score);
        s->at.best_epoch = s->at.epoch;
        OCT_TRY(save(s, "best.h5", false));
    }
    s->at.epoch++;
    s->at.batch = s->at.correct = s->at.images = 0;
    s->at.loss_sum = 0;
    s->epoch_images = 0;
    s->epoch_seconds = 0;
    OCT_TRY(save(s, "last.h5", true));
    if (o->events.epoch) o->events.epoch(o->events.user, &r);
    return OCT_OK;
}

oct_status oct_session_run(oct_session *s)
{
    if (s->at.epoch == 0 && s->at.batch == 0) {
        s->at.metrics_bytes = 0;
        OCT_TRY(cut_metrics(s));
        if (!s->options.epochs) return save(s, "last.h5", true);
    }
    while (s->at.epoch < s->options.epochs) {
        OCT_TRY(train_epoch(s));
        OCT_TRY(finish_epoch(s));
        if (s->at.epoch < s->options.epochs && wants_stop(s)) return OCT_END;
    }
    return OCT_OK;
}

const oct_train_progress *oct_session_progress(const oct_session *s)
{
    return &s->at;
}

double oct_session_images_per_second(const oct_session *s)
{
    return s->seconds > 0 ? (double)s->images / s->seconds : 0;
}
