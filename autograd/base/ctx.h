/* SPDX-License-Identifier: BSD-2-Clause
 * The context: messages, thread count, CPU mask. No globals anywhere: everything that a library call needs to
 * know about its surroundings hangs here. One context per thread of control; objects made from one context
 * are used by one caller thread at a time.
 */
#ifndef OCT_BASE_CTX_H
#define OCT_BASE_CTX_H

#include <stdint.h>

#include "autograd/base/status.h"

typedef enum oct_log_level { OCT_LOG_DEBUG, OCT_LOG_INFO, OCT_LOG_WARNING } oct_log_level;
/* Receives one message without a trailing newline. Called on the caller's thread only. */
typedef void oct_log_fn(void *user, oct_log_level level, const char *message);

typedef struct oct_ctx_options {
    int threads;       /* computing threads; 0 = oct_par_default_threads() */
    const char *cpu;   /* level name (base/cpu.h); NULL = OCT_CPU or everything the machine has */
    oct_log_fn *log;   /* NULL = messages are dropped */
    void *log_user;
} oct_ctx_options;

typedef struct oct_ctx {
    oct_error error;   /* first failure since the last oct_error_clear */
    int threads;       /* constant: plans size their scratch by it */
    uint32_t cpu_mask; /* features kernels may use (base/cpu.h) */
    int no_winograd;   /* environment OCT_WINOGRAD=0: every float convolution is a direct sum (autograd/conv_winograd.h) */
    int no_fuse;       /* environment OCT_FUSE=0: plans run node by node (autograd/plan.h) */
    oct_log_fn *log;
    void *log_user;
} oct_ctx;

/* *out = a new context, or NULL on failure. `options` NULL = all defaults. `error` (may be NULL) receives the
 * reason, since there is no context yet to hold it. Caller destroys. */
OCT_MUST_USE oct_status oct_ctx_create(oct_ctx **out, const oct_ctx_options *options, oct_error *error);
void oct_ctx_destroy(oct_ctx *ctx); /* NULL is allowed */

/* Formats a message to the log callback. */
void oct_log(oct_ctx *ctx, oct_log_level level, const char *format, ...) OCT_PRINTF(3, 4);

/* "out of memory: WHAT" into ctx->error; returns OCT_ERR_MEMORY. */
oct_status oct_out_of_memory(oct_ctx *ctx, const char *what);

#endif
