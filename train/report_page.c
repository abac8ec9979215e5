/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/report_page.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "train/page.h"

enum { MAX_METRICS = 64 << 20, MAX_EPOCHS = 100000 };
static const double low_sqnr = 20;

static void add_facts(oct_page *p, const oct_report *r)
{
    if (!r->fact_count) return;
    oct_page_add(p, "<table>");
    for (int i = 0; i < r->fact_count; i++) {
        oct_page_add(p, "<tr><td>");
        oct_page_text(p, r->facts[i].name);
        oct_page_add(p, "</td><td>");
        oct_page_text(p, r->facts[i].value);
        oct_page_add(p, "</td></tr>");
    }
    oct_page_add(p, "</table>\n");
}

static void add_advice_line(void *user, const char *text)
{
    oct_page *p = user;
    oct_page_add(p, "<li>");
    oct_page_text(p, text);
    oct_page_add(p, "</li>");
}

static void add_advice(oct_page *p, const oct_analysis *a)
{
    oct_page_add(p, "<h2>Advice</h2>\n");
    if (!oct_analysis_advice(a, NULL, NULL)) {
        oct_page_add(p, "<p>Nothing stands out.</p>\n");
        return;
    }
    oct_page_add(p, "<ul>");
    oct_analysis_advice(a, add_advice_line, p);
    oct_page_add(p, "</ul>\n");
}

/* --- layers --- */

static bool has_sensitivity(const oct_analysis *a)
{
    return a->count && !isnan(a->rows[0].only_this);
}

static void add_cell(oct_page *p, double value, int digits, bool bad)
{
    if (isnan(value))
        oct_page_add(p, "<td>&ndash;</td>");
    else if (isinf(value))
        oct_page_add(p, "<td>exact</td>");
    else
        oct_page_add(p, "<td%s>%.*f</td>", bad ? " class=\"bad\"" : "", digits, value);
}

static void add_layer_row(oct_page *p, const oct_analysis_row *r, bool sensitivity)
{
    oct_page_add(p, "<tr><td>");
    oct_page_text(p, r->name);
    oct_page_add(p, "</td>");
    add_cell(p, r->sqnr, 1, r->sqnr < low_sqnr);
    add_cell(p, r->own, 1, r->own < low_sqnr);
    add_cell(p, r->cosine, 5, false);
    add_cell(p, 100 * r->used, 0, false);
    add_cell(p, 100 * r->clipped, 3, r->clipped > 0.01);
    oct_page_add(p, "<td>%s</td>", r->point < 0 ? "i32" : r->is_signed ? "s8" : "u8");
    add_cell(p, r->layer < 0 ? (double)NAN : r->weight_sqnr, 1, r->weight_sqnr < low_sqnr);
    add_cell(p, r->layer < 0 ? (double)NAN : r->channel_ratio, 1, r->channel_ratio >= 32 && !r->per_channel);
    add_cell(p, r->layer < 0 ? (double)NAN : r->dead, 0, r->dead > 0);
    if (sensitivity) {
        add_cell(p, r->only_this, 2, false);
        add_cell(p, r->all_but_this, 2, false);
    }
    oct_page_add(p, "</tr>\n");
}

static void add_layer_table(oct_page *p, const oct_analysis *a)
{
    bool sensitivity = has_sensitivity(a);
    oct_page_add(p, "<h2>Layers</h2><div class=\"wide\"><table><tr><th></th><th>SQNR dB</th><th>own dB</th><th>cosine</th>"
                    "<th>used %%</th><th>clipped %%</th><th>codes</th><th>weights dB</th><th>channels x:1</th><th>dead</th>%s</tr>\n",
                 sensitivity ? "<th>only this</th><th>all but this</th>" : "");
    for (int i = 0; i < a->count; i++) add_layer_row(p, &a->rows[i], sensitivity);
    oct_page_add(p, "</table></div><p class=\"note\">SQNR: all errors up to here; own: this rounding alone. used: largest value over "
                    "the clip. channels: largest over smallest range of the folded weights.%s</p>\n",
                 sensitivity ? " only this / all but this: top-1 with one layer quantized, with one left in float." : "");
}

static void add_bars(oct_page *p, const oct_analysis *a)
{
    size_t n = (size_t)a->count;
    const char **names = oct_calloc(n, sizeof *names);
    double *all = oct_calloc(n, sizeof *all), *own = oct_calloc(n, sizeof *own);
    p->failed |= !names || !all || !own;
    for (size_t i = 0; i < n && !p->failed; i++) {
        names[i] = a->rows[i].name;
        all[i] = a->rows[i].sqnr;
        own[i] = a->rows[i].own;
    }
    const oct_page_bars bars = {names, all, own, a->count, "dB", "SQNR of every layer", low_sqnr};
    if (!p->failed) {
        oct_page_add(p, "<h2>Signal to quantization noise</h2><p class=\"note\">thick: all errors up to here; thin: this "
                        "rounding alone; dashed: %.0f dB</p>", low_sqnr);
        oct_page_bars_add(p, &bars);
    }
    oct_free((void *)names);
    oct_free(all);
    oct_free(own);
}

static void add_distributions(oct_page *p, const oct_analysis *a)
{
    char label[400];
    oct_page_add(p, "<h2>Distributions</h2><p class=\"note\">counts on a logarithmic axis; dashed: the clip; shaded: what it "
                    "cuts</p><div class=\"cards\">\n");
    for (int i = 0; i < a->count; i++) {
        const oct_analysis_row *r = &a->rows[i];
        oct_page_add(p, "<div class=\"card\"><h3>");
        oct_page_text(p, r->name);
        oct_page_add(p, "</h3><p class=\"note\">values");
        if (r->point >= 0) oct_page_add(p, ", clip %g, range %.4g to %.4g", r->clip, r->range.lo, r->range.hi);
        oct_page_add(p, "</p>");
        snprintf(label, sizeof label, "histogram of the values of %.300s", r->name);
        oct_page_histogram(p, r->activations, r->point >= 0 ? (r->is_signed ? -r->clip : 0) : 0, r->point >= 0 ? r->clip : 0, label);
        if (r->weights) {
            oct_page_add(p, "<p class=\"note\">folded weights, %d channels%s</p>", r->outputs, r->per_channel ? ", per channel" : "");
            snprintf(label, sizeof label, "histogram of the weights of %.300s", r->name);
            oct_page_histogram(p, r->weights, 0, 0, label);
        }
        oct_page_add(p, "</div>\n");
    }
    oct_page_add(p, "</div>\n");
}

/* --- training curves --- */

enum { EPOCH, TRAIN_LOSS, VAL_LOSS, TRAIN_TOP1, VAL_TOP1, RATE, SERIES };
static const char *const keys[SERIES] = {"epoch", "train_loss", "val_loss", "train_top1", "val_top1", "lr"};

/* Reads up to MAX_EPOCHS lines; series[s][i]. Returns how many. */
static int read_metrics(double *series[SERIES], char *text)
{
    int count = 0;
    for (char *line = strtok(text, "\n"); line && count < MAX_EPOCHS; line = strtok(NULL, "\n")) {
        cJSON *o = cJSON_Parse(line);
        for (int s = 0; s < SERIES; s++) {
            const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, keys[s]);
            series[s][count] = cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
        }
        count += o && !isnan(series[EPOCH][count]);
        cJSON_Delete(o);
    }
    return count;
}

static void add_chart(oct_page *p, double *const series[SERIES], int count, const char *title, const oct_page_line *lines,
                      int line_count)
{
    oct_page_add(p, "<div class=\"card\"><h3>%s</h3>", title);
    oct_page_curves(p, series[EPOCH], count, lines, line_count, "epoch", title);
    oct_page_add(p, "</div>");
}

static void add_curves(oct_page *p, double *const series[SERIES], int count)
{
    if (!count) return;
    const oct_page_line loss[] = {{"training", series[TRAIN_LOSS]}, {"validation", series[VAL_LOSS]}};
    const oct_page_line top1[] = {{"training", series[TRAIN_TOP1]}, {"validation", series[VAL_TOP1]}};
    const oct_page_line rate[] = {{"learning rate", series[RATE]}};
    oct_page_add(p, "<h2>Training</h2><div class=\"cards\">");
    add_chart(p, series, count, "Loss", loss, 2);
    add_chart(p, series, count, "Top-1, percent", top1, 2);
    add_chart(p, series, count, "Learning rate", rate, 1);
    oct_page_add(p, "</div>\n");
}

static void add_training(oct_page *p, const char *path)
{
    uint8_t *bytes;
    size_t size;
    oct_error ignored = {0};
    if (!path || oct_file_read(&bytes, &size, path, MAX_METRICS, &ignored) != OCT_OK) return;
    size_t lines = 1;
    for (size_t i = 0; i < size; i++) lines += bytes[i] == '\n';
    char *text = oct_alloc(size + 1, 1);
    double *block = oct_alloc(lines * SERIES, sizeof *block), *series[SERIES];
    p->failed |= !text || !block;
    if (!p->failed) {
        memcpy(text, bytes, size);
        text[size] = '\0';
        for (size_t s = 0; s < SERIES; s++) series[s] = block + s * lines;
        add_curves(p, series, read_metrics(series, text));
    }
    oct_free(bytes);
    oct_free(text);
    oct_free(block);
}

oct_status oct_report_write(const char *path, const oct_report *r, oct_error *error)
{
    oct_page p = {0};
    oct_page_begin(&p, r->title);
    add_facts(&p, r);
    if (r->analysis) {
        add_advice(&p, r->analysis);
        add_bars(&p, r->analysis);
        add_layer_table(&p, r->analysis);
    }
    add_training(&p, r->metrics);
    if (r->analysis) add_distributions(&p, r->analysis);
    oct_page_end(&p);
    oct_status status = oct_page_write(&p, path, error);
    oct_page_release(&p);
    return status;
}
