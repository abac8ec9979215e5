/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/base/status.h"

#include <stdarg.h>
#include <stdio.h>

oct_status oct_fail(oct_error *error, oct_status status, const char *format, ...)
{
    if (error && error->status == OCT_OK) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        error->status = status;
    }
    return status;
}

void oct_error_clear(oct_error *error)
{
    if (!error) return;
    error->status = OCT_OK;
    error->message[0] = '\0';
}

const char *oct_status_name(oct_status status)
{
    static const char *const names[] = {
        [OCT_OK] = "ok",           [OCT_ERR_MEMORY] = "memory",   [OCT_ERR_ARGUMENT] = "argument",
        [OCT_ERR_SHAPE] = "shape", [OCT_ERR_IO] = "io",           [OCT_ERR_FORMAT] = "format",
        [OCT_ERR_UNSUPPORTED] = "unsupported", [OCT_ERR_NUMERIC] = "numeric", [OCT_ERR_STATE] = "state",
        [OCT_END] = "end",
    };
    if ((unsigned)status >= sizeof names / sizeof names[0]) return "unknown";
    return names[status];
}
