/* SPDX-License-Identifier: BSD-2-Clause
 * The report of a run or an analysis as one HTML page: figures, advice, SQNR of every layer, histograms with the marks of
 * their clips, training curves.
 */
#ifndef OCT_TRAIN_REPORT_PAGE_H
#define OCT_TRAIN_REPORT_PAGE_H

#include "train/analysis.h"

typedef struct oct_report_fact {
    const char *name;
    char value[64];
} oct_report_fact;

typedef struct oct_report {
    const char *title;
    const oct_report_fact *facts;
    int fact_count;
    const oct_analysis *analysis; /* NULL: no section on layers */
    const char *metrics;          /* path of a metrics.jsonl; NULL, missing or unreadable: no curves */
} oct_report;

OCT_MUST_USE oct_status oct_report_write(const char *path, const oct_report *report, oct_error *error);

#endif
