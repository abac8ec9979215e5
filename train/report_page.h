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

/* Images that oct_report_model compares on. */
enum { OCT_REPORT_IMAGES = 500 };
/* The same for a model: with a quantized graph and a loader (an evaluation loader of the model's images; NULL = none) the
 * layers are analysed first, against `base`, or against the graph's own parameters in float when it is NULL. Replaces
 * report->analysis. */
OCT_MUST_USE oct_status oct_report_model(const char *path, oct_report *report, oct_graph *graph, const oct_model *model,
                                         oct_graph *base, oct_loader *loader);

#endif
