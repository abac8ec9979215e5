/* SPDX-License-Identifier: BSD-2-Clause
 * Progress on stderr: on a terminal one line that is redrawn, with a bar, rate, a note and the time left;
 * elsewhere one line per interval. Nothing at all when quiet. One progress at a time per process.
 */
#ifndef OCT_CLI_PROGRESS_H
#define OCT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* `total` in units ("images"); label "epoch 3/20". Starts the clock of rate and time left. */
void progress_start(const char *label, int64_t total, const char *unit, bool quiet);
/* `done` of total; `note` ("loss 0.412") may be NULL. Draws at most ten times a second, or once per interval.
 */
void progress_update(int64_t done, const char *note);
/* A resumed piece of work: the rate counts from here. */
void progress_skip(int64_t done);
/* Would a line per interval be due now? For events that go along with it. */
bool progress_due(void);
/* Takes the redrawn line away; the next update draws it again. Before anything else is printed. */
void progress_clear(void);
void progress_end(void);

#endif
