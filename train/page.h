/* SPDX-License-Identifier: BSD-2-Clause
 * HTML pages as growing text: escaping, and the charts of reports as inline SVG. A page is one file without scripts and
 * without anything from elsewhere; colours follow the reader's light or dark setting.
 */
#ifndef OCT_TRAIN_PAGE_H
#define OCT_TRAIN_PAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/status.h"
#include "quant/observer.h"

typedef struct oct_page {
    char *text;
    size_t used, capacity;
    bool failed; /* memory was out: nothing more is added, writing fails */
} oct_page;

void oct_page_release(oct_page *page);

/* printf; %s must be markup already. */
void oct_page_add(oct_page *page, const char *format, ...) OCT_PRINTF(2, 3);
/* Text with &, <, > and quotes escaped. */
void oct_page_text(oct_page *page, const char *text);

/* Head with title and style; foot. */
void oct_page_begin(oct_page *page, const char *title);
void oct_page_end(oct_page *page);
OCT_MUST_USE oct_status oct_page_write(const oct_page *page, const char *path, oct_error *error);

/* --- charts --- */

/* Distribution, counts on a logarithmic axis. lo < hi: marks of a clip; what lies beyond is shaded. `label` says what it
 * is, for readers that do not see. */
void oct_page_histogram(oct_page *page, const oct_histogram *h, double lo, double hi, const char *label);

/* Horizontal bars, one row each: name, value with unit, thin second bar where second[i] is a number. NaN = no bar. */
typedef struct oct_page_bars {
    const char *const *names;
    const double *first, *second; /* second may be NULL */
    int count;
    const char *unit, *label;
    double mark; /* a vertical line at this value; NaN = none */
} oct_page_bars;
void oct_page_bars_add(oct_page *page, const oct_page_bars *bars);

/* Lines over x[count]; NaN interrupts a line. */
typedef struct oct_page_line {
    const char *name;
    const double *y;
} oct_page_line;
void oct_page_curves(oct_page *page, const double *x, int count, const oct_page_line *lines, int line_count,
                     const char *x_name, const char *label);

#endif
