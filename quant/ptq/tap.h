/* SPDX-License-Identifier: BSD-2-Clause
 * Runs a graph in evaluation mode over images and hands out chosen values as floats, batch by batch.
 */
#ifndef OCT_PTQ_TAP_H
#define OCT_PTQ_TAP_H

#include "autograd/plan.h"

/* Images of one size in memory, u8 NHWC as the model takes them. Borrowed by everything that gets them. */
typedef struct oct_ptq_images {
    const uint8_t *pixels;
    int64_t count;
    size_t sample; /* bytes of one */
} oct_ptq_images;

/* Images run at a time, and batches in a set. */
enum { OCT_PTQ_BATCH = 32 };
int64_t oct_ptq_batches(const oct_ptq_images *images);

typedef struct oct_tap oct_tap;

/* The graph must outlive the tap and must not be rewritten meanwhile; its parameters may change. Every value must be the
 * output of an op node. Naming one twice is allowed. */
OCT_MUST_USE oct_status oct_tap_create(oct_tap **out, oct_graph *graph, oct_value image, const oct_value *values,
                                       int count);
void oct_tap_destroy(oct_tap *tap); /* NULL is allowed */

/* Batch number `batch` of the images. */
OCT_MUST_USE oct_status oct_tap_run(oct_tap *tap, const oct_ptq_images *images, int64_t batch);
/* Samples of the last run. */
int oct_tap_batch(const oct_tap *tap);

/* Value i of the last run: [samples][sample elements]. Floats are borrowed from the plan, codes are decoded. NULL when
 * memory is out. Valid until the next run. */
const float *oct_tap_floats(oct_tap *tap, int i, size_t *count);

/* Called after each step of a run with the value it made, before anything reads it: the floats may be changed in place.
 * A status other than OCT_OK ends the run, OCT_END without failing it. */
typedef oct_status oct_tap_visit(void *user, oct_value value, float *x, size_t count, size_t channels);
void oct_tap_watch(oct_tap *tap, oct_tap_visit *visit, void *user);

#endif
