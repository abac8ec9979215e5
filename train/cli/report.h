/* SPDX-License-Identifier: BSD-2-Clause
 * What programs say: results on stdout, everything else on stderr; one JSON object per line with --json. And
 * what is the same at the start and end of every program: signals, the context, exit statuses.
 *
 * A stream that nobody reads any more does not end a program: writing goes nowhere, the work is finished and
 * saved, and the exit status is 1 when results were lost.
 */
#ifndef OCT_CLI_REPORT_H
#define OCT_CLI_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "autograd/base/ctx.h"

struct cJSON;

typedef struct cli {
    const char *program;
    bool json, quiet;
    oct_ctx *ctx;
} cli;

/* Ignores SIGPIPE and SIGXFSZ (writes fail instead) and makes the context; its messages go to stderr.
 * CLI_GO_ON, or the exit status with the message printed. threads 0 = all processors. */
int cli_start(cli *c, int64_t threads);
/* Destroys the context. Returns the exit status: `status`, or 1 when it is 0 and stdout could not be written.
 */
int cli_end(cli *c, int status);
/* Prints the context's error ("prog: message" on stderr, with --json also an "error" event). Returns the exit
 * status: 2 when a flag's value was at fault (OCT_ERR_ARGUMENT), else 1. */
int cli_fail(cli *c);
/* The same for a message of the program's own; returns CLI_FAILED. */
__attribute__((format(printf, 2, 3))) int cli_fail_with(cli *c, const char *format, ...);

/* From now on SIGINT and SIGTERM only set a flag (a second one of the kind ends the program at once). */
void cli_catch_signals(void);
/* The signal that came, 0 = none. */
int cli_signal(void);

/* A line for people on stdout; nothing with --json. */
__attribute__((format(printf, 2, 3))) void cli_print(const cli *c, const char *format, ...);
/* A line for people on stderr; nothing with --quiet. Clears a progress line first. */
__attribute__((format(printf, 2, 3))) void cli_note(const cli *c, const char *format, ...);
/* The same with --quiet, too: things that must be known. */
__attribute__((format(printf, 2, 3))) void cli_warn(const cli *c, const char *format, ...);
/* The three as callbacks `void (void *user, const char *text)` with user = the cli. */
void cli_note_line(void *user, const char *text);
void cli_print_line(void *user, const char *text);

/* A new object {"event": name}, or NULL without --json: all cJSON calls and cli_emit take NULL. */
struct cJSON *cli_event(const cli *c, const char *name);
/* Prints it on one line and deletes it. */
void cli_emit(const cli *c, struct cJSON *event);
/* Adds a number rounded to `digits` decimals, so that lines stay readable. */
void cli_add(struct cJSON *event, const char *key, double value, int digits);

/* Resident memory of this process now, and the largest it has been since the last reset, in bytes; 0 =
 * unknown. */
uint64_t cli_resident_bytes(void);
uint64_t cli_peak_bytes(void);
void cli_reset_peak(void);

#endif
