/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const double redraw_seconds = 0.1, line_seconds = 10;
enum { LABEL_BYTES = 64, LINE_BYTES = 320, BAR = 20 };

/* The one progress of the process. */
static struct {
    bool active, terminal, colour, drawn;
    char label[LABEL_BYTES];
    const char *unit;
    int64_t total, skipped;
    double start, last_draw;
} p;

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_start(const char *label, int64_t total, const char *unit, bool quiet)
{
    progress_end();
    if (quiet) return;
    const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");
    memset(&p, 0, sizeof p);
    p.active = true;
    p.terminal = isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb"));
    p.colour = p.terminal && !(no_colour && *no_colour);
    p.unit = unit;
    p.total = total > 0 ? total : 1;
    p.start = p.last_draw = now_seconds();
    snprintf(p.label, sizeof p.label, "%s", label);
}

void progress_skip(int64_t done)
{
    p.skipped = done;
}

bool progress_due(void)
{
    return p.active && now_seconds() - p.last_draw >= (p.terminal ? redraw_seconds : line_seconds);
}

static int columns(void)
{
    struct winsize size;
    if (!ioctl(STDERR_FILENO, TIOCGWINSZ, &size) && size.ws_col > 20) return size.ws_col;
    return 80;
}

static void format_time(char *text, size_t size, double seconds)
{
    int64_t s = seconds < 0 ? 0 : seconds > 3.5e8 ? 350000000 : (int64_t)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, size, "%" PRId64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
    else
        snprintf(text, size, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

static void format_line(char *line, size_t size, int64_t done, const char *note, double now)
{
    double elapsed = now - p.start, rate = elapsed > 0 ? (double)(done - p.skipped) / elapsed : 0;
    char left[32] = "?", bar[BAR + 1];
    if (rate > 0) format_time(left, sizeof left, (double)(p.total - done) / rate);
    int full = (int)(done * BAR / p.total);
    for (int i = 0; i < BAR; i++) bar[i] = i < full ? '#' : '.';
    bar[BAR] = '\0';
    snprintf(line, size, "%s %s%s%s%3d%%  %.*f %s/s%s%s  left %s", p.label, p.terminal ? "[" : "",
             p.terminal ? bar : "", p.terminal ? "] " : "", (int)(100 * done / p.total), rate < 10 ? 1 : 0,
             rate, p.unit, note ? "  " : "", note ? note : "", left);
}

void progress_update(int64_t done, const char *note)
{
    double now = now_seconds();
    if (!p.active || now - p.last_draw < (p.terminal ? redraw_seconds : line_seconds)) return;
    char line[LINE_BYTES];
    if (done > p.total) done = p.total;
    format_line(line, sizeof line, done, note, now);
    p.last_draw = now;
    if (!p.terminal) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    int width = columns() - 1;
    if ((int)strlen(line) > width) line[width] = '\0';
    fprintf(stderr, "\r\033[K%s%s%s", p.colour ? "\033[36m" : "", line, p.colour ? "\033[0m" : "");
    fflush(stderr);
    p.drawn = true;
}

void progress_clear(void)
{
    if (!p.drawn) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p.drawn = false;
}

void progress_end(void)
{
    progress_clear();
    p.active = false;
}
