/* SPDX-License-Identifier: BSD-2-Clause
 * The run state, shared by run.c and profile.c. Private to quant/int8.
 */
#ifndef OCT_INT8_STATE_H
#define OCT_INT8_STATE_H

#include "autograd/base/team.h"
#include "quant/int8/engine.h"

struct oct_int8_state {
    const oct_int8_model *model;
    int max_batch, threads;
    oct_team *team;   /* NULL with one thread */
    uint8_t *images;  /* `threads` arenas of one image */
    uint8_t *scratch; /* `threads` scratches */
    uint8_t *whole;   /* observing: every tensor for max_batch images, tensor after tensor */
    oct_int8_observer *observer;
    void *observer_user;
    uint64_t *nanoseconds;      /* profiling: [threads][steps], else NULL */
    oct_int8_layer_time *times; /* the report */
    uint64_t profiled_images;
    oct_error error;
};

#endif
