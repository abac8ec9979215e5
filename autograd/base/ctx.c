/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/base/ctx.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/memory.h"
#include "autograd/base/par.h"

enum { MAX_THREADS = 1024 };

oct_status oct_ctx_create(oct_ctx **out, const oct_ctx_options *options, oct_error *error)
{
    static const oct_ctx_options defaults;
    *out = NULL;
    if (!options) options = &defaults;
    if (options->threads < 0 || options->threads > MAX_THREADS)
        return oct_fail(error, OCT_ERR_ARGUMENT, "threads: expected 0..%d, got %d", MAX_THREADS, options->threads);
    uint32_t mask;
    if (options->cpu) {
        OCT_TRY(oct_cpu_parse(&mask, options->cpu, error));
        if (mask & ~oct_cpu_detect())
            return oct_fail(error, OCT_ERR_UNSUPPORTED, "CPU level %s: this machine lacks that instruction set",
                            options->cpu);
    } else {
        OCT_TRY(oct_cpu_from_environment(&mask, error));
    }
    oct_ctx *ctx = oct_calloc(1, sizeof *ctx);
    if (!ctx) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: context");
    ctx->threads = options->threads ? options->threads : oct_par_default_threads();
    ctx->cpu_mask = mask;
    const char *fuse = getenv("OCT_FUSE");
    ctx->no_fuse = fuse && !strcmp(fuse, "0");
    const char *winograd = getenv("OCT_WINOGRAD");
    ctx->no_winograd = winograd && !strcmp(winograd, "0");
    ctx->log = options->log;
    ctx->log_user = options->log_user;
    *out = ctx;
    return OCT_OK;
}

void oct_ctx_destroy(oct_ctx *ctx)
{
    oct_free(ctx);
}

void oct_log(oct_ctx *ctx, oct_log_level level, const char *format, ...)
{
    if (!ctx->log) return;
    char message[OCT_ERROR_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    ctx->log(ctx->log_user, level, message);
}

oct_status oct_out_of_memory(oct_ctx *ctx, const char *what)
{
    return oct_fail(&ctx->error, OCT_ERR_MEMORY, "out of memory: %s", what);
}
