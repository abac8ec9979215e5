/* SPDX-License-Identifier: BSD-2-Clause
 * Batches from a data set: order, transforms, decoding ahead on worker threads, a cache of decoded images.
 *
 * What a batch holds is a function of (data set, options without `workers` and `cache_bytes`, epoch, batch
 * index) and of nothing else. Sample number g of epoch e (its global index) is
 *   evaluation         sample g; with epoch_size: sample floor(g * N / n), evenly spaced
 *   training           entry g of the Fisher-Yates shuffle of 0..N-1 by stream (seed, OCT_RNG_SHUFFLE, e, 0)
 *   ... epoch_size     a uniform choice from stream (seed, OCT_RNG_SHUFFLE, e, g), that is with replacement
 * and is transformed with stream (seed, OCT_RNG_AUGMENT, e, g).
 *
 * Unreadable images (folder sets): in training the next readable one in this order (cyclic) takes the place,
 * in evaluation the batch is shorter; both are counted and named. With `strict` they end the epoch with an
 * error.
 */
#ifndef OCT_DATASETS_LOADER_H
#define OCT_DATASETS_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/ctx.h"
#include "autograd/base/status.h"
#include "datasets/dataset.h"
#include "datasets/transform.h"

typedef struct oct_loader_options {
    oct_split split;
    int batch_size;      /* >= 1 */
    int size;            /* of the images handed out; 0 = the data set's, when all are square and equal */
    oct_augment augment; /* evaluation uses its evaluation form */
    oct_fit fit;         /* how images come to size; {0} = by the recipe, bilinear */
    oct_jitter jitter;   /* training only */
    int training;        /* shuffle and random transforms */
    uint64_t seed;
    double epoch_size;   /* 0 or 1 = the whole set once; < 1: share of N (rounded, at least 1); > 1: count (in
                            evaluation at most N) */
    int workers;         /* decoding threads; 0 = one or two, by the context's threads */
    size_t cache_bytes;  /* decoded images kept, first come; 0 = 1 GiB, 1 = nothing */
    int strict;          /* also set by the data set's option */
    int drop_last;       /* the incomplete last batch: 0 = dropped in training unless it is the only one, kept
                            in evaluation; > 0 dropped; < 0 kept */
} oct_loader_options;

/* Owned by the loader, valid until its next call. */
typedef struct oct_batch {
    const uint8_t *images;   /* count x size x size x channels */
    const int32_t *labels;   /* count */
    const uint32_t *samples; /* count: index of each in the split, for names and reports */
    int count;               /* <= batch_size */
    int64_t first;           /* global index of its first place within the epoch: batch index * batch_size */
} oct_batch;

typedef struct oct_loader oct_loader;

/* The data set must outlive the loader; several loaders may share one. Starts the threads (signals blocked in
 * them), reads nothing yet. OCT_ERR_ARGUMENT (options, a split without samples, no full batch with
 * drop_last), OCT_ERR_MEMORY, OCT_ERR_IO (no thread). Caller destroys. One caller thread at a time. */
OCT_MUST_USE oct_status oct_loader_create(oct_loader **out, oct_ctx *ctx, oct_dataset *dataset,
                                          const oct_loader_options *options);
/* At any moment, also in the middle of an epoch. NULL is allowed. */
void oct_loader_destroy(oct_loader *loader);

int64_t oct_loader_batches(const oct_loader *loader); /* per epoch */
int64_t oct_loader_samples(const oct_loader *loader); /* per epoch, without those dropped */
int oct_loader_size(const oct_loader *loader);
int oct_loader_channels(const oct_loader *loader);
int oct_loader_batch_size(const oct_loader *loader);

/* Begins `epoch` at batch first_batch (0 .. batches; = batches gives OCT_END at once): the way to resume.
 * What was under way is dropped. The first start on an HDF5 set that fits the cache reads it in file order.
 * OCT_ERR_ARGUMENT; OCT_ERR_IO and OCT_ERR_FORMAT from that reading. */
OCT_MUST_USE oct_status oct_loader_start(oct_loader *loader, uint64_t epoch, int64_t first_batch);
/* The next batch of the epoch; OCT_END after the last one; OCT_ERR_STATE before the first start. A failure of
 * a worker arrives here, in order, with its message in the context; the epoch is over then. Batches of which
 * nothing is readable (evaluation) are passed over. */
OCT_MUST_USE oct_status oct_loader_next(oct_loader *loader, oct_batch *batch);

/* Images decoded since the creation (cache hits and in-memory sets do not count); may include read-ahead. */
int64_t oct_loader_decoded(const oct_loader *loader);
/* Distinct unreadable images met in the batches handed out so far, in that order whatever the workers. */
int64_t oct_loader_unreadable_count(const oct_loader *loader);
/* "path: reason" of the first 32 of them; NULL past the last. Valid until the loader is destroyed. */
const char *oct_loader_unreadable(const oct_loader *loader, int64_t index);

#endif
