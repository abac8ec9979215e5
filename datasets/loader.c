/* SPDX-License-Identifier: BSD-2-Clause */
#include "datasets/loader.h"

#include <math.h>
#include <signal.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "datasets/loader_internal.h"

/* Batches that workers may be ahead of the one in the caller's hands, besides one per worker in the
 * making. */
enum { AHEAD = 2 };
static const size_t default_cache_bytes = (size_t)1 << 30;
static const double max_places = 1e12;

static void *worker_main(void *arg)
{
    loader_worker *worker = arg;
    oct_loader *loader = worker->loader;
    pthread_mutex_lock(&loader->lock);
    for (;;) {
        while (!loader->quit && !(loader->running && loader->next_fill < loader->batches &&
                                  loader->next_fill < loader->released + loader->slot_count))
            pthread_cond_wait(&loader->work, &loader->lock);
        if (loader->quit) break;
        int64_t index = loader->next_fill++;
        batch_slot *slot = &loader->slots[index % loader->slot_count];
        loader->busy++;
        pthread_mutex_unlock(&loader->lock);
        oct_loader_fill_batch(worker, slot, index);
        pthread_mutex_lock(&loader->lock);
        loader->busy--;
        slot->ready = true; /* of a stopped epoch: start() takes it back */
        pthread_cond_signal(&loader->done);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

/* Ends the epoch under way; afterwards no worker touches a slot. */
static void stop(oct_loader *loader)
{
    pthread_mutex_lock(&loader->lock);
    loader->running = false;
    atomic_store(&loader->cancel, true);
    while (loader->busy) pthread_cond_wait(&loader->done, &loader->lock);
    atomic_store(&loader->cancel, false);
    pthread_mutex_unlock(&loader->lock);
}

/* Signals are for the program's own threads. */
static bool start_threads(oct_loader *loader)
{
    sigset_t all, saved;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    for (int i = 0; i < loader->options.workers; i++) {
        loader->workers[i].loader = loader;
        if (pthread_create(&loader->workers[i].thread, NULL, worker_main, &loader->workers[i])) break;
        loader->worker_count++;
    }
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    return loader->worker_count > 0;
}

static oct_status bad_option(oct_ctx *ctx, const char *name, const char *expected, double found)
{
    return oct_fail(&ctx->error, OCT_ERR_ARGUMENT, "loader: %s: expected %s, found %g", name, expected,
                    found);
}

static oct_status resolve_size(oct_loader *loader)
{
    oct_loader_options *o = &loader->options;
    int height = oct_dataset_height(loader->dataset), width = oct_dataset_width(loader->dataset);
    if (!o->size && height == width) o->size = height;
    if (!o->size)
        return oct_fail(&loader->ctx->error, OCT_ERR_ARGUMENT,
                        "%s: an image size is needed: the images are not all square and equal",
                        oct_dataset_path(loader->dataset));
    if (o->size < 1 || o->size > 16384) return bad_option(loader->ctx, "size", "1..16384", o->size);
    return OCT_OK;
}

/* Checks the options and fills in the defaults and what follows from them. */
static oct_status resolve(oct_loader *loader)
{
    oct_loader_options *o = &loader->options;
    oct_ctx *ctx = loader->ctx;
    if ((unsigned)o->split >= OCT_SPLIT_COUNT) return bad_option(ctx, "split", "0..2", (double)o->split);
    if (o->batch_size < 1) return bad_option(ctx, "batch size", "at least 1", o->batch_size);
    if (!oct_augment_name(o->augment)) return bad_option(ctx, "augment", "0..3", (double)o->augment);
    if (o->workers < 0 || o->workers > LOADER_MAX_WORKERS)
        return bad_option(ctx, "workers", "0..64", o->workers);
    if (!(o->epoch_size >= 0 && o->epoch_size <= max_places))
        return bad_option(ctx, "epoch size", "a share, a count or 0", o->epoch_size);
    OCT_TRY(resolve_size(loader));
    OCT_TRY(oct_fit_check(&o->fit, o->size, &ctx->error));
    if (!o->workers) o->workers = ctx->threads > 1 ? 2 : 1;
    if (!o->cache_bytes) o->cache_bytes = default_cache_bytes;
    o->strict = o->strict || oct_dataset_strict(loader->dataset);

    int64_t n = oct_dataset_count(loader->dataset, o->split);
    if (!n)
        return oct_fail(&ctx->error, OCT_ERR_ARGUMENT, "%s: the data set has no %s samples",
                        oct_dataset_path(loader->dataset), oct_split_name(o->split));
    loader->sample_count = loader->places = n;
    if (o->epoch_size == 1) o->epoch_size = 0; /* the whole set, each image once */
    if (o->epoch_size > 0) {
        double places = o->epoch_size <= 1 ? floor(o->epoch_size * (double)n + 0.5) : floor(o->epoch_size);
        loader->places = places < 1 ? 1 : (int64_t)places;
        if (!o->training && loader->places > n) loader->places = n;
    }
    int64_t full = loader->places / o->batch_size;
    bool drop = o->drop_last > 0 || (!o->drop_last && o->training && full > 0);
    loader->batches = drop ? full : (loader->places + o->batch_size - 1) / o->batch_size;
    if (!loader->batches)
        return oct_fail(&ctx->error, OCT_ERR_ARGUMENT, "loader: %lld samples make no full batch of %d",
                        (long long)loader->places, o->batch_size);
    loader->channels = oct_dataset_channels(loader->dataset);
    loader->image_bytes = (size_t)o->size * (size_t)o->size * (size_t)loader->channels;
    int64_t slots = o->workers + AHEAD + 1;
    loader->slot_count = (int)(slots < loader->batches ? slots : loader->batches);
    return OCT_OK;
}

static oct_status allocate(oct_loader *loader)
{
    size_t n = (size_t)loader->sample_count, batch = (size_t)loader->options.batch_size;
    oct_view view;
    size_t bytes;
    bool ok = oct_size_mul(&bytes, batch, loader->image_bytes);
    loader->known_bad = oct_calloc(n, sizeof *loader->known_bad);
    loader->reported = oct_calloc(n, sizeof *loader->reported);
    loader->workers = oct_calloc((size_t)loader->options.workers, sizeof *loader->workers);
    loader->slots = oct_calloc((size_t)loader->slot_count, sizeof *loader->slots);
    ok = ok && loader->known_bad && loader->reported && loader->workers && loader->slots;
    if (loader->options.training && loader->options.epoch_size == 0) {
        loader->order = oct_alloc(n, sizeof *loader->order);
        ok = ok && loader->order;
    }
    if (!oct_dataset_peek(loader->dataset, loader->options.split, 0, &view)) {
        loader->cache = oct_calloc(n, sizeof *loader->cache);
        ok = ok && loader->cache;
    }
    for (int i = 0; ok && i < loader->slot_count; i++) {
        batch_slot *slot = &loader->slots[i];
        slot->images = oct_alloc(bytes, 1);
        slot->labels = oct_alloc(batch, sizeof *slot->labels);
        slot->samples = oct_alloc(batch, sizeof *slot->samples);
        ok = slot->images && slot->labels && slot->samples;
    }
    return ok ? OCT_OK : oct_out_of_memory(loader->ctx, "loader");
}

static void release(oct_loader *loader)
{
    for (int64_t i = 0; loader->cache && i < loader->sample_count; i++)
        oct_free(atomic_load(&loader->cache[i]));
    for (int i = 0; loader->slots && i < loader->slot_count; i++) {
        oct_free(loader->slots[i].images);
        oct_free(loader->slots[i].labels);
        oct_free(loader->slots[i].samples);
        oct_free(loader->slots[i].bad);
    }
    for (int i = 0; loader->workers && i < loader->options.workers; i++) {
        oct_image_release(&loader->workers[i].image);
        oct_transform_scratch_release(&loader->workers[i].scratch);
    }
    for (int i = 0; i < LOADER_NAMES; i++) oct_free(loader->unreadable[i]);
    oct_free(loader->cache);
    oct_free(loader->slots);
    oct_free(loader->workers);
    oct_free(loader->order);
    oct_free(loader->known_bad);
    oct_free(loader->reported);
    oct_free(loader);
}

oct_status oct_loader_create(oct_loader **out, oct_ctx *ctx, oct_dataset *dataset,
                             const oct_loader_options *options)
{
    *out = NULL;
    oct_loader *loader = oct_calloc(1, sizeof *loader);
    if (!loader) return oct_out_of_memory(ctx, "loader");
    loader->ctx = ctx;
    loader->dataset = dataset;
    loader->options = *options;
    oct_status status = resolve(loader);
    if (status == OCT_OK) status = allocate(loader);
    if (status != OCT_OK) {
        release(loader);
        return status;
    }
    /* With default attributes these only fail for lack of memory, which glibc does not need for them. */
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->done, NULL);
    if (!start_threads(loader)) {
        oct_loader_destroy(loader);
        return oct_fail(&ctx->error, OCT_ERR_IO, "loader: the system refuses to start a thread");
    }
    *out = loader;
    return OCT_OK;
}

void oct_loader_destroy(oct_loader *loader)
{
    if (!loader) return;
    stop(loader);
    pthread_mutex_lock(&loader->lock);
    loader->quit = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->worker_count; i++) pthread_join(loader->workers[i].thread, NULL);
    pthread_cond_destroy(&loader->work);
    pthread_cond_destroy(&loader->done);
    pthread_mutex_destroy(&loader->lock);
    release(loader);
}

int64_t oct_loader_batches(const oct_loader *loader)
{
    return loader->batches;
}

int64_t oct_loader_samples(const oct_loader *loader)
{
    int64_t full = loader->batches * loader->options.batch_size;
    return full < loader->places ? full : loader->places;
}

int oct_loader_size(const oct_loader *loader)
{
    return loader->options.size;
}

int oct_loader_channels(const oct_loader *loader)
{
    return loader->channels;
}

int oct_loader_batch_size(const oct_loader *loader)
{
    return loader->options.batch_size;
}

int64_t oct_loader_decoded(const oct_loader *loader)
{
    return atomic_load(&loader->decoded);
}

int64_t oct_loader_unreadable_count(const oct_loader *loader)
{
    return loader->unreadable_count;
}

const char *oct_loader_unreadable(const oct_loader *loader, int64_t index)
{
    return index >= 0 && index < LOADER_NAMES ? loader->unreadable[index] : NULL;
}

/* Scattered reads of a compressed file would unpack a chunk for each image. */
static oct_status preload_hdf5(oct_loader *loader)
{
    if (loader->preloaded || oct_dataset_get_kind(loader->dataset) != OCT_DATASET_HDF5) return OCT_OK;
    size_t height = (size_t)oct_dataset_height(loader->dataset),
           width = (size_t)oct_dataset_width(loader->dataset);
    size_t bytes = OCT_ALIGNMENT + oct_size_align(height * width * (size_t)loader->channels);
    if (bytes <= loader->options.cache_bytes / (size_t)loader->sample_count)
        OCT_TRY(oct_loader_preload(loader, &loader->ctx->error));
    loader->preloaded = true;
    return OCT_OK;
}

oct_status oct_loader_start(oct_loader *loader, uint64_t epoch, int64_t first_batch)
{
    if (first_batch < 0 || first_batch > loader->batches)
        return oct_fail(&loader->ctx->error, OCT_ERR_ARGUMENT,
                        "loader: first batch: expected 0..%lld, found %lld", (long long)loader->batches,
                        (long long)first_batch);
    stop(loader);
    OCT_TRY(preload_hdf5(loader));
    loader->epoch = epoch;
    oct_loader_fill_order(loader);
    pthread_mutex_lock(&loader->lock);
    for (int i = 0; i < loader->slot_count; i++) loader->slots[i].ready = false;
    loader->next_fill = loader->next_out = loader->released = first_batch;
    loader->running = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    return OCT_OK;
}

/* Counts and names what a batch met. The sample is read once more for the reason: readability does not depend
 * on which worker came first, and so neither does this list. */
static oct_status report_unreadable(oct_loader *loader, const batch_slot *slot)
{
    for (size_t i = 0; i < slot->bad_count; i++) {
        uint32_t sample = slot->bad[i];
        if (loader->reported[sample]) continue;
        if (loader->unreadable_count < LOADER_NAMES) {
            oct_error why = {0};
            oct_image image = {0};
            if (oct_dataset_read(loader->dataset, loader->options.split, sample, &image, &why) == OCT_OK)
                oct_dataset_sample_name(loader->dataset, loader->options.split, sample, why.message,
                                        sizeof why.message);
            oct_image_release(&image);
            char *name = oct_strdup(why.message);
            if (!name) return oct_out_of_memory(loader->ctx, "list of unreadable images");
            loader->unreadable[loader->unreadable_count] = name;
        }
        loader->reported[sample] = true;
        loader->unreadable_count++;
    }
    return OCT_OK;
}

/* Gives back the slot handed out before and waits for the next; NULL at the end of the epoch. */
static const batch_slot *take_slot(oct_loader *loader)
{
    batch_slot *slot = NULL;
    pthread_mutex_lock(&loader->lock);
    if (loader->released < loader->next_out) {
        loader->slots[loader->released % loader->slot_count].ready = false;
        loader->released = loader->next_out;
        pthread_cond_signal(&loader->work);
    }
    if (loader->next_out < loader->batches) {
        slot = &loader->slots[loader->next_out % loader->slot_count];
        while (!slot->ready) pthread_cond_wait(&loader->done, &loader->lock);
        loader->next_out++;
    }
    pthread_mutex_unlock(&loader->lock);
    return slot;
}

oct_status oct_loader_next(oct_loader *loader, oct_batch *batch)
{
    const batch_slot *slot;
    *batch = (oct_batch){0};
    if (!loader->running)
        return oct_fail(&loader->ctx->error, OCT_ERR_STATE,
                        "loader: no epoch has been started, or it has failed");
    do {
        slot = take_slot(loader);
        if (!slot) return OCT_END;
        oct_status status = slot->status == OCT_OK
                                ? report_unreadable(loader, slot)
                                : oct_fail(&loader->ctx->error, slot->status, "%s", slot->error.message);
        if (status != OCT_OK) {
            stop(loader);
            return status;
        }
    } while (!slot->count);
    *batch = (oct_batch){slot->images, slot->labels, slot->samples, slot->count,
                         (loader->next_out - 1) * loader->options.batch_size};
    return OCT_OK;
}
