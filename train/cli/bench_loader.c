/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/bench_loader.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <time.h>

#include "autograd/base/memory.h"
#include "autograd/base/par.h"
#include "datasets/loader.h"
#include "train/cli/peak.h"
#include "train/cli/progress.h"

typedef struct job {
    cli *c;
    const bench_loader_flags *f;
    oct_dataset *set;
    oct_split split;
    oct_loader *loader;
    oct_augment augment;
    int threads;
    int64_t core_images;
    double decode_ms, transform_ms; /* of one image on one core */
    double rate;                    /* of the loader, images/s */
    int64_t images;
} job;

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Evenly spaced images of the set on this thread. */
static oct_status measure_core(job *j, uint8_t *pixels)
{
    enum { MOST = 200 };
    int64_t count = oct_dataset_count(j->set, j->split), n = count < MOST ? count : MOST;
    oct_image image = {0};
    oct_transform_scratch scratch = {0};
    oct_transform t = {.size = (int)j->f->size, .augment = j->augment, .training = 1};
    double decode = 0, transform = 0;
    oct_status status = OCT_OK;
    for (int64_t i = 0; i < n && status == OCT_OK && !cli_signal(); i++) {
        double start = now(CLOCK_THREAD_CPUTIME_ID);
        if (oct_dataset_read(j->set, j->split, i * count / n, &image, NULL) != OCT_OK) continue;
        double between = now(CLOCK_THREAD_CPUTIME_ID);
        oct_rng rng = oct_rng_start((uint64_t)j->f->seed, OCT_RNG_AUGMENT, 0, (uint64_t)i);
        status = oct_transform_apply(pixels, &t, oct_image_view(&image), &rng, &scratch, &j->c->ctx->error);
        decode += between - start;
        transform += now(CLOCK_THREAD_CPUTIME_ID) - between;
        j->core_images++;
    }
    oct_image_release(&image);
    oct_transform_scratch_release(&scratch);
    OCT_TRY(status);
    if (!j->core_images)
        return oct_fail(&j->c->ctx->error, OCT_ERR_FORMAT, "%s: none of %" PRId64 " images is readable", j->f->data, n);
    j->decode_ms = 1e3 * decode / (double)j->core_images;
    j->transform_ms = 1e3 * transform / (double)j->core_images;
    return OCT_OK;
}

static oct_status measure_loader(job *j)
{
    const bench_loader_flags *f = j->f;
    uint64_t epoch = 0;
    double start = 0;
    OCT_TRY(oct_loader_start(j->loader, epoch, 0));
    progress_start("loading", (f->warmup + f->steps) * f->batch, "images", f->quiet);
    for (int64_t i = -f->warmup; i < f->steps; i++) {
        oct_batch batch;
        if (i == 0) start = now(CLOCK_MONOTONIC);
        oct_status status = oct_loader_next(j->loader, &batch);
        if (status == OCT_END) {
            OCT_TRY(oct_loader_start(j->loader, ++epoch, 0));
            status = oct_loader_next(j->loader, &batch);
        }
        OCT_TRY(status);
        if (i >= 0) j->images += batch.count;
        progress_update((i + f->warmup + 1) * f->batch, NULL);
        if (cli_signal()) return OCT_END;
    }
    j->rate = (double)j->images / (now(CLOCK_MONOTONIC) - start);
    progress_end();
    return OCT_OK;
}

static oct_status open_job(job *j)
{
    const bench_loader_flags *f = j->f;
    oct_error *error = &j->c->ctx->error;
    j->augment = OCT_AUGMENT_IMAGENET;
    j->threads = f->threads ? (int)f->threads : oct_par_default_threads();
    if (f->augment) OCT_TRY(oct_augment_parse(&j->augment, f->augment, error));
    OCT_TRY(oct_dataset_open(&j->set, j->c->ctx, f->data, NULL));
    while (!oct_dataset_count(j->set, j->split) && j->split < OCT_SPLIT_TEST) j->split++;
    oct_loader_options o = {.split = j->split,
                            .batch_size = (int)f->batch,
                            .size = (int)f->size,
                            .augment = j->augment,
                            .training = 1,
                            .seed = (uint64_t)f->seed,
                            .workers = j->threads,
                            .cache_bytes = 1};
    return oct_loader_create(&j->loader, j->c->ctx, j->set, &o);
}

static void print_result(const job *j)
{
    const cli *c = j->c;
    double core = 1e3 / (j->decode_ms + j->transform_ms), peak = (double)cli_peak_bytes();
    cli_print(c, "%s: %" PRId64 " images, to %" PRId64 " x %" PRId64 ", recipe %s", j->f->data,
              oct_dataset_count(j->set, j->split), j->f->size, j->f->size, oct_augment_name(j->augment));
    cli_print(c, "one core: decode %.3f ms, transform %.3f ms an image: %.0f images/s", j->decode_ms, j->transform_ms,
              core);
    cli_print(c, "loader, %d thread%s: %.0f images/s, %.1f MB at the peak", j->threads, j->threads > 1 ? "s" : "",
              j->rate, peak / 1e6);
    cJSON *r = cli_event(c, "result");
    cJSON_AddStringToObject(r, "task", "bench-loader");
    cJSON_AddNumberToObject(r, "threads", j->threads);
    cli_add(r, "images", (double)j->images, 0);
    cli_add(r, "decode_ms", j->decode_ms, 4);
    cli_add(r, "transform_ms", j->transform_ms, 4);
    cli_add(r, "images_per_second_core", core, 1);
    cli_add(r, "images_per_second", j->rate, 1);
    cli_add(r, "peak_bytes", peak, 0);
    cli_emit(c, r);
}

oct_status bench_loader(cli *c, const bench_loader_flags *flags)
{
    job j = {.c = c, .f = flags};
    oct_status status = open_job(&j);
    size_t side = (size_t)flags->size;
    uint8_t *pixels = status == OCT_OK ? oct_alloc(side * side, (size_t)oct_dataset_channels(j.set)) : NULL;
    if (status == OCT_OK && !pixels) status = oct_out_of_memory(c->ctx, "image");
    if (status == OCT_OK) status = measure_core(&j, pixels);
    if (status == OCT_OK) status = measure_loader(&j);
    if (status == OCT_OK) print_result(&j);
    oct_loader_destroy(j.loader);
    oct_dataset_close(j.set);
    oct_free(pixels);
    return status;
}
