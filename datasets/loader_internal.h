/* SPDX-License-Identifier: BSD-2-Clause
 * The loader's inside: what loader_fill.c (which sample, decode, cache, transform: one batch) and
 * loader.c (threads, ring, counters) share. */
#ifndef OCT_DATASETS_LOADER_INTERNAL_H
#define OCT_DATASETS_LOADER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "datasets/loader.h"

enum { LOADER_NAMES = 32, LOADER_MAX_WORKERS = 64 };

/* A decoded image that stays. Written once before it is published, then only read. */
typedef struct cached_image {
    int height, width;
    uint8_t *pixels; /* in the same allocation */
} cached_image;

/* One batch of the ring. Owned by the worker that fills it until `ready`, then by the consumer. */
typedef struct batch_slot {
    uint8_t *images;
    int32_t *labels;
    uint32_t *samples;
    int count;
    oct_status status;
    oct_error error;
    uint32_t *bad; /* unreadable samples met on the way, in order, with repetitions */
    size_t bad_count, bad_capacity;
    bool ready; /* guarded by the loader's lock */
} batch_slot;

typedef struct loader_worker {
    struct oct_loader *loader;
    pthread_t thread;
    oct_image image;
    oct_transform_scratch scratch;
} loader_worker;

struct oct_loader {
    oct_ctx *ctx;
    oct_dataset *dataset;
    oct_loader_options options; /* with the defaults filled in */
    int channels;
    size_t image_bytes;
    int64_t sample_count; /* of the split */
    int64_t places;       /* of the epoch, before dropping */
    int64_t batches;
    uint64_t epoch;
    uint32_t *order; /* permutation of the epoch; NULL when places are computed one by one */

    _Atomic(cached_image *) *cache; /* sample_count entries; NULL for sets held in memory */
    atomic_size_t cache_used_bytes;
    atomic_uchar *known_bad; /* sample_count flags; a hint that saves decoding again */
    atomic_llong decoded;
    bool preloaded;

    bool *reported; /* sample_count flags of the consumer */
    int64_t unreadable_count;
    char *unreadable[LOADER_NAMES];

    pthread_mutex_t lock;
    pthread_cond_t work, done; /* for workers: there may be something to fill or to end; for the caller */
    int64_t next_fill;         /* guarded, as all below: next batch a worker takes */
    int64_t next_out;          /* next batch handed out */
    int64_t released;          /* batches below this one are no longer in use */
    int busy;                  /* workers inside a batch */
    bool running, quit;
    atomic_bool cancel; /* tells workers to leave their batch unfinished */

    batch_slot *slots;
    int slot_count;
    loader_worker *workers;
    int worker_count; /* threads that run */
};

/* Draws the permutation of loader->epoch when there is one. */
void oct_loader_fill_order(oct_loader *loader);
/* Fills batch `index`; what fails is left in the slot. */
void oct_loader_fill_batch(loader_worker *worker, batch_slot *slot, int64_t index);
/* Reads all samples in order into the cache. Called while no worker runs. */
oct_status oct_loader_preload(oct_loader *loader, oct_error *error);

#endif
