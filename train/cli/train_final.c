/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/train_final.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "quant/quantize.h"
#include "train/cli/progress.h"
#include "train/model_file.h"
#include "train/ranges.h"
#include "train/report_page.h"
#include "train/session.h"

typedef struct final_scores {
    bool scored, quantized;
    oct_split split;
    oct_score base, fake, int8; /* float; with fake quantization; on the engine */
    size_t float_bytes, int8_bytes;
    oct_range_report ranges;
} final_scores;

static oct_status while_scoring(void *user, const oct_score *score)
{
    (void)user;
    progress_update(score->images, NULL);
    return cli_signal() ? OCT_END : OCT_OK;
}

oct_status train_score(const train_final *f, const char *label, oct_evaluator *evaluator, oct_split split,
                       oct_score *score)
{
    oct_loader *loader;
    OCT_TRY(data_evaluation_loader(&loader, f->data, f->c, split, f->batch, f->recipe, 0));
    progress_start(label, oct_loader_samples(loader), "images", f->c->quiet);
    oct_status status = oct_evaluate(evaluator, loader, score, while_scoring, NULL);
    progress_end();
    if (status == OCT_OK) data_report_unreadable(loader, f->c, oct_split_name(split));
    oct_loader_destroy(loader);
    return status;
}

static oct_status score_graph(const train_final *f, const char *label, oct_graph *graph,
                              const oct_model *model, oct_split split, oct_score *score)
{
    oct_evaluator *evaluator;
    OCT_TRY(oct_evaluator_create(&evaluator, graph, model, f->batch));
    oct_status status = train_score(f, label, evaluator, split, score);
    oct_evaluator_destroy(evaluator);
    return status;
}

/* The same weights with quantization off. */
static oct_status score_float(const train_final *f, final_scores *s)
{
    if (!s->quantized) return score_graph(f, "float", f->graph, f->model, s->split, &s->base);
    oct_graph *copy;
    oct_model values;
    OCT_TRY(oct_graph_copy(&copy, f->graph));
    oct_status status = oct_dequantize_graph(copy);
    if (status == OCT_OK) status = oct_model_find(&values, copy);
    if (status == OCT_OK) status = score_graph(f, "float", copy, &values, s->split, &s->base);
    oct_graph_destroy(copy);
    return status;
}

static oct_status export_and_score(const train_final *f, final_scores *s)
{
    char path[OCT_SESSION_PATH];
    oct_int8_build build;
    OCT_TRY(oct_session_file(path, f->folder, "int8.h5", &f->c->ctx->error));
    OCT_TRY(oct_int8_export(&build, f->graph, f->model, f->info, path, false));
    s->int8_bytes = build.bytes;
    oct_status status = OCT_OK;
    if (s->scored) {
        oct_evaluator *evaluator = NULL;
        status = oct_evaluator_create_int8(&evaluator, f->c->ctx, build.model, f->batch);
        if (status == OCT_OK) status = train_score(f, "int8", evaluator, s->split, &s->int8);
        oct_evaluator_destroy(evaluator);
    }
    oct_int8_build_release(&build);
    return status;
}

static void print_row(const cli *c, const char *name, const final_scores *s, const oct_score *score,
                      size_t bytes)
{
    if (s->scored)
        cli_print(c, "  %-22s %8.2f %% %8.2f %% %10.1f kB %12.0f images/s", name, oct_score_top1(score),
                  oct_score_top5(score), (double)bytes / 1000, oct_score_images_per_second(score));
    else
        cli_print(c, "  %-22s %10s %10s %10.1f kB", name, "-", "-", (double)bytes / 1000);
}

static void print_table(const train_final *f, const final_scores *s)
{
    const cli *c = f->c;
    if (s->scored)
        cli_print(c, "\n%s/last.h5 on the %" PRId64 " %s images", f->folder, s->base.images,
                  oct_split_name(s->split));
    else
        cli_print(c, "\n%s (no images to score on)", f->folder);
    cli_print(c, "  %-22s %10s %10s %13s %21s", "", "top-1", "top-5", "size", "evaluation");
    print_row(c, s->quantized ? "float, same weights" : "float", s, &s->base, s->float_bytes);
    if (s->quantized) {
        print_row(c, "fake quantization", s, &s->fake, s->float_bytes);
        print_row(c, "int8 engine", s, &s->int8, s->int8_bytes);
        cli_print(c, "  %d points, %d layers, %d dead channels", s->ranges.points, s->ranges.layers,
                  s->ranges.dead_channels);
    }
    if (f->images_per_second > 0)
        cli_print(c, "  training: %.0f images/s, %.1f MB at the peak", f->images_per_second,
                  (double)f->peak_bytes / 1e6);
}

static void emit_result(const train_final *f, const final_scores *s)
{
    cJSON *r = cli_event(f->c, "result");
    cJSON_AddStringToObject(r, "task", "train");
    if (s->scored) cli_add(r, "top1_float", oct_score_top1(&s->base), 4);
    if (s->scored && s->quantized) {
        cli_add(r, "top1_quantized", oct_score_top1(&s->fake), 4);
        cli_add(r, "top1_int8", oct_score_top1(&s->int8), 4);
    }
    if (f->images_per_second > 0) cli_add(r, "images_per_second", f->images_per_second, 1);
    cli_add(r, "peak_bytes", (double)f->peak_bytes, 0);
    cJSON_AddStringToObject(r, "output", f->folder);
    cli_emit(f->c, r);
}

static oct_status score_all(const train_final *f, final_scores *s)
{
    if (s->scored) OCT_TRY(score_float(f, s));
    if (!s->quantized) return OCT_OK;
    cli_note(f->c, "ranges:");
    OCT_TRY(oct_ranges_report(&s->ranges, f->graph, f->model, cli_note_line, f->c));
    if (s->scored) OCT_TRY(score_graph(f, "fake quantization", f->graph, f->model, s->split, &s->fake));
    return export_and_score(f, s);
}

static void set_fact(oct_report_fact *fact, const char *name, const oct_score *score)
{
    fact->name = name;
    snprintf(fact->value, sizeof fact->value, "%.2f %%", oct_score_top1(score));
}

/* report.html in the run's folder. */
static oct_status write_report(const train_final *f, const final_scores *s)
{
    char path[OCT_SESSION_PATH], metrics[OCT_SESSION_PATH];
    oct_report_fact facts[3];
    oct_loader *loader = NULL;
    if (!f->folder) return OCT_OK;
    set_fact(&facts[0], s->quantized ? "top-1, float, same weights" : "top-1", &s->base);
    set_fact(&facts[1], "top-1, fake quantization", &s->fake);
    set_fact(&facts[2], "top-1, int8 engine", &s->int8);
    OCT_TRY(oct_session_file(path, f->folder, "report.html", &f->c->ctx->error));
    OCT_TRY(oct_session_file(metrics, f->folder, "metrics.jsonl", &f->c->ctx->error));
    oct_report report = {.title = f->folder, .facts = facts, .metrics = metrics};
    report.fact_count = !s->scored ? 0 : s->quantized ? 3 : 1;
    if (s->quantized)
        OCT_TRY(data_evaluation_loader(&loader, f->data, f->c, s->split, f->batch, f->recipe, OCT_REPORT_IMAGES));
    oct_status status = oct_report_model(path, &report, f->graph, f->model, NULL, loader);
    oct_loader_destroy(loader);
    return status;
}

oct_status train_finish(const train_final *f)
{
    oct_model_size size = oct_model_measure(f->graph);
    final_scores s = {.quantized = oct_quantize_points(f->graph) > 0,
                      .split = data_test_split(f->data),
                      .float_bytes = (size_t)(size.parameters + size.buffers) * sizeof(float)};
    s.scored = s.split != OCT_SPLIT_TRAIN;
    OCT_TRY(score_all(f, &s));
    OCT_TRY(write_report(f, &s));
    print_table(f, &s);
    emit_result(f, &s);
    return OCT_OK;
}
