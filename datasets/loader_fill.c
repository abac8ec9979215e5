/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "datasets/loader_internal.h"

void oct_loader_fill_order(oct_loader *loader)
{
    if (!loader->order) return;
    uint32_t n = (uint32_t)loader->sample_count, *order = loader->order;
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    oct_rng rng = oct_rng_start(loader->options.seed, OCT_RNG_SHUFFLE, loader->epoch, 0);
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = oct_rng_below(&rng, i);
        uint32_t keep = order[i - 1];
        order[i - 1] = order[j];
        order[j] = keep;
    }
}

static uint32_t sample_at(const oct_loader *loader, int64_t place)
{
    if (loader->order) return loader->order[place];
    if (!loader->options.training) return (uint32_t)(place * loader->sample_count / loader->places);
    oct_rng rng = oct_rng_start(loader->options.seed, OCT_RNG_SHUFFLE, loader->epoch, (uint64_t)place);
    return oct_rng_below(&rng, (uint32_t)loader->sample_count);
}

/* Keeps a copy when there is room. Two workers may decode the same image: the second copy is dropped. */
static void keep_in_cache(oct_loader *loader, uint32_t sample, const oct_image *image)
{
    size_t pixel_bytes = (size_t)image->height * (size_t)image->width * (size_t)image->channels;
    size_t bytes = OCT_ALIGNMENT + oct_size_align(pixel_bytes);
    if (atomic_fetch_add(&loader->cache_used_bytes, bytes) + bytes <= loader->options.cache_bytes) {
        cached_image *entry = oct_alloc(bytes, 1);
        if (entry) {
            *entry = (cached_image){image->height, image->width, (uint8_t *)entry + OCT_ALIGNMENT};
            memcpy(entry->pixels, image->pixels, pixel_bytes);
            cached_image *expected = NULL;
            if (atomic_compare_exchange_strong(&loader->cache[sample], &expected, entry)) return;
            oct_free(entry);
        }
    }
    atomic_fetch_sub(&loader->cache_used_bytes, bytes);
}

static oct_status fetch(loader_worker *worker, uint32_t sample, oct_view *view, oct_error *error)
{
    oct_loader *loader = worker->loader;
    oct_split split = loader->options.split;
    if (oct_dataset_peek(loader->dataset, split, sample, view)) return OCT_OK;
    const cached_image *entry = atomic_load(&loader->cache[sample]);
    if (entry) {
        *view = (oct_view){entry->pixels, entry->height, entry->width, loader->channels,
                           (size_t)entry->width * (size_t)loader->channels};
        return OCT_OK;
    }
    OCT_TRY(oct_dataset_read(loader->dataset, split, sample, &worker->image, error));
    atomic_fetch_add(&loader->decoded, 1);
    keep_in_cache(loader, sample, &worker->image);
    *view = oct_image_view(&worker->image);
    return OCT_OK;
}

oct_status oct_loader_preload(oct_loader *loader, oct_error *error)
{
    loader_worker reader = {.loader = loader};
    oct_status status = OCT_OK;
    oct_view view;
    for (int64_t i = 0; status == OCT_OK && i < loader->sample_count; i++)
        status = fetch(&reader, (uint32_t)i, &view, error);
    oct_image_release(&reader.image);
    return status;
}

static oct_status record_bad(batch_slot *slot, uint32_t sample, oct_error *error)
{
    if (slot->bad_count == slot->bad_capacity) {
        size_t capacity = 2 * slot->bad_capacity + 16;
        uint32_t *grown = oct_realloc(slot->bad, slot->bad_count * sizeof *grown, capacity, sizeof *grown);
        if (!grown) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: list of unreadable images");
        slot->bad = grown;
        slot->bad_capacity = capacity;
    }
    slot->bad[slot->bad_count++] = sample;
    return OCT_OK;
}

/* Only images in files of their own are passed over: a set in one file that cannot be read is broken. */
static bool may_pass_over(const oct_loader *loader, oct_status status)
{
    return (status == OCT_ERR_FORMAT || status == OCT_ERR_IO) && !loader->options.strict &&
           oct_dataset_has_files(loader->dataset);
}

/* The sample at `place`, or in training the first readable one after it. *found false: there is none. */
static oct_status fetch_place(loader_worker *worker, batch_slot *slot, int64_t place, uint32_t *sample,
                              oct_view *view, bool *found)
{
    oct_loader *loader = worker->loader;
    int64_t tries = loader->options.training ? loader->places : 1;
    for (int64_t t = 0; t < tries && !atomic_load_explicit(&loader->cancel, memory_order_relaxed); t++) {
        *sample = sample_at(loader, (place + t) % loader->places);
        if (!atomic_load(&loader->known_bad[*sample])) {
            oct_error why = {0};
            oct_status status = fetch(worker, *sample, view, &why);
            *found = status == OCT_OK;
            if (*found) return OCT_OK;
            if (!may_pass_over(loader, status)) return oct_fail(&slot->error, status, "%s", why.message);
            atomic_store(&loader->known_bad[*sample], 1);
        }
        OCT_TRY(record_bad(slot, *sample, &slot->error));
    }
    *found = false;
    return OCT_OK;
}

static oct_status fill_place(loader_worker *worker, batch_slot *slot, int64_t place)
{
    oct_loader *loader = worker->loader;
    const oct_loader_options *options = &loader->options;
    oct_view view;
    uint32_t sample;
    bool found;
    OCT_TRY(fetch_place(worker, slot, place, &sample, &view, &found));
    if (!found && options->training)
        return oct_fail(&slot->error, OCT_ERR_FORMAT, "%s: none of the epoch's %lld images is readable",
                        oct_dataset_path(loader->dataset), (long long)loader->places);
    if (!found) return OCT_OK;
    oct_rng rng = oct_rng_start(options->seed, OCT_RNG_AUGMENT, loader->epoch, (uint64_t)place);
    oct_transform transform = {options->size, options->augment, options->training, options->fit, options->jitter};
    OCT_TRY(oct_transform_apply(slot->images + (size_t)slot->count * loader->image_bytes, &transform, view,
                                &rng, &worker->scratch, &slot->error));
    slot->labels[slot->count] = oct_dataset_label(loader->dataset, options->split, sample);
    slot->samples[slot->count] = sample;
    slot->count++;
    return OCT_OK;
}

void oct_loader_fill_batch(loader_worker *worker, batch_slot *slot, int64_t index)
{
    const oct_loader *loader = worker->loader;
    int64_t first = index * loader->options.batch_size, end = first + loader->options.batch_size;
    if (end > loader->places) end = loader->places;
    slot->count = 0;
    slot->bad_count = 0;
    slot->status = OCT_OK;
    oct_error_clear(&slot->error);
    for (int64_t p = first; p < end && slot->status == OCT_OK; p++) {
        if (atomic_load_explicit(&loader->cancel, memory_order_relaxed)) return;
        slot->status = fill_place(worker, slot, p);
    }
}
