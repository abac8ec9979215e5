/* SPDX-License-Identifier: BSD-2-Clause
 * Status codes and the one error message that goes with them.
 *
 * Every function that can fail returns oct_status (0 = success) and writes what happened into an
 * oct_error: what was attempted, where, what was expected, what was found. The first failure wins;
 * failures while unwinding do not overwrite it. Library code never prints and never exits.
 */
#ifndef OCT_BASE_STATUS_H
#define OCT_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define OCT_MUST_USE __attribute__((warn_unused_result))
#define OCT_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define OCT_MUST_USE
#define OCT_PRINTF(fmt, first)
#endif

typedef enum oct_status {
    OCT_OK = 0,
    OCT_ERR_MEMORY,      /* an allocation failed or a limit would be passed */
    OCT_ERR_ARGUMENT,    /* the caller passed something outside the documented range */
    OCT_ERR_SHAPE,       /* shapes of tensors do not fit each other */
    OCT_ERR_IO,          /* the operating system refused a read, write, open or rename */
    OCT_ERR_FORMAT,      /* a file's content is not what its format promises */
    OCT_ERR_UNSUPPORTED, /* understood, but this build or this pass cannot do it */
    OCT_ERR_NUMERIC,     /* NaN or infinity where finite values are required */
    OCT_ERR_STATE,       /* called in the wrong order (for example export before calibration) */
    OCT_END              /* not a failure: a sequence has no further element */
} oct_status;

#define OCT_ERROR_BYTES 1024

typedef struct oct_error {
    oct_status status;             /* OCT_OK while nothing has failed */
    char message[OCT_ERROR_BYTES]; /* NUL-terminated, no trailing newline */
} oct_error;

/* Records a failure and returns `status`. `error` may be NULL (the message is then lost). Keeps the first
 * message: a second call with an error that already holds one only returns `status`. */
oct_status oct_fail(oct_error *error, oct_status status, const char *format, ...) OCT_PRINTF(3, 4);

/* Forgets a recorded failure. NULL is allowed. */
void oct_error_clear(oct_error *error);

/* Short constant name of a status, "ok", "memory", … ; "unknown" for anything else. */
const char *oct_status_name(oct_status status);

/* Returns from the calling function when `call` does not return OCT_OK. */
#define OCT_TRY(call)                                                                                        \
    do {                                                                                                     \
        oct_status try_status_ = (call);                                                                     \
        if (try_status_ != OCT_OK) return try_status_;                                                       \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
