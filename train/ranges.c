/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/ranges.h"

#include <math.h>
#include <stdio.h>

#include "quant/export.h"

typedef struct printer {
    oct_graph *graph;
    void (*line)(void *user, const char *text);
    void *user;
} printer;

static void print_point(const printer *p, const oct_int8_tensor *t)
{
    char text[512], seen[64] = "";
    const oct_node *n = oct_graph_node(p->graph, oct_graph_find(p->graph, t->name));
    if (n && n->op == &oct_op_fake_quant) {
        const float *range = oct_graph_data(p->graph, (oct_value){n->inputs[OCT_FQ_RANGE]}, NULL);
        snprintf(seen, sizeof seen, "  seen %.4g .. %.4g", (double)range[OCT_RANGE_LO],
                 (double)range[OCT_RANGE_HI]);
    }
    if (t->scale > 0) { /* any scale: profile affine */
        snprintf(text, sizeof text, "%-36s u8  scale %-12g zero %3d%s", t->name, (double)t->scale, t->zero_point, seen);
        if (p->line) p->line(p->user, text);
        return;
    }
    int bits = t->is_signed ? 7 : 8;
    snprintf(text, sizeof text, "%-36s %s  exponent %3d  clip %s%-10g%s", t->name, t->is_signed ? "s8" : "u8",
             t->exponent, t->is_signed ? "+-" : "", ldexp(1, bits - t->exponent), seen);
    if (p->line) p->line(p->user, text);
}

/* Channel o has no weight that is not zero. */
static bool is_dead(const oct_int8_spec *spec, const oct_int8_layer *l, int o)
{
    int outputs = oct_int8_layer_outputs(spec, l);
    size_t per_output = oct_int8_weight_count(spec, l) / (size_t)outputs;
    bool last = l->op == OCT_INT8_DEPTHWISE;
    for (size_t i = 0; i < per_output; i++)
        if (l->weights[last ? i * (size_t)outputs + (size_t)o : (size_t)o * per_output + i]) return false;
    return true;
}

static int count_dead(const oct_int8_spec *spec, const oct_int8_layer *l)
{
    int dead = 0;
    for (int o = 0; o < oct_int8_layer_outputs(spec, l); o++) dead += is_dead(spec, l, o);
    return dead;
}

/* "stage1/conv1: channels 3 7 of 16 have zero weights only". Names as many as fit. */
static void name_dead(const printer *p, const oct_int8_spec *spec, const oct_int8_layer *l)
{
    char text[512];
    int used = snprintf(text, sizeof text, "%.255s: channels", l->name);
    for (int o = 0; o < oct_int8_layer_outputs(spec, l) && used < 400; o++)
        if (is_dead(spec, l, o)) used += snprintf(text + used, sizeof text - (size_t)used, " %d", o);
    snprintf(text + used, sizeof text - (size_t)used, "%s of %d have zero weights only", used < 400 ? "" : " ...",
             oct_int8_layer_outputs(spec, l));
    p->line(p->user, text);
}

static int print_scales(const printer *p, const oct_int8_spec *spec, const oct_int8_layer *l, int dead)
{
    char text[512], dead_text[48] = "";
    float lo = l->weight_scales[0], hi = lo;
    for (int i = 1; i < l->weight_exponent_count; i++) {
        lo = l->weight_scales[i] < lo ? l->weight_scales[i] : lo;
        hi = l->weight_scales[i] > hi ? l->weight_scales[i] : hi;
    }
    if (dead)
        snprintf(dead_text, sizeof dead_text, "  %d of %d channels are all zero", dead, oct_int8_layer_outputs(spec, l));
    if (l->weight_exponent_count == 1)
        snprintf(text, sizeof text, "%-36s s8  scale %-12g weights%s", l->name, (double)lo, dead_text);
    else
        snprintf(text, sizeof text, "%-36s s8  scales %g..%g  weights%s", l->name, (double)lo, (double)hi, dead_text);
    if (p->line) p->line(p->user, text);
    return dead;
}

static int print_layer(const printer *p, const oct_int8_spec *spec, const oct_int8_layer *l)
{
    char text[512], dead_text[48] = "";
    int dead = count_dead(spec, l);
    if (l->weight_scales) return print_scales(p, spec, l, dead);
    int lo = l->weight_exponents[0], hi = lo;
    for (int i = 1; i < l->weight_exponent_count; i++) {
        lo = l->weight_exponents[i] < lo ? l->weight_exponents[i] : lo;
        hi = l->weight_exponents[i] > hi ? l->weight_exponents[i] : hi;
    }
    if (dead)
        snprintf(dead_text, sizeof dead_text, "  %d of %d channels are all zero", dead,
                 oct_int8_layer_outputs(spec, l));
    if (lo == hi)
        snprintf(text, sizeof text, "%-36s s8  exponent %3d  weights%s", l->name, lo, dead_text);
    else
        snprintf(text, sizeof text, "%-36s s8  exponents %d..%d  weights%s", l->name, lo, hi, dead_text);
    if (p->line) p->line(p->user, text);
    return dead;
}

oct_status oct_ranges_dead(int *dead, oct_graph *graph, const oct_model *model,
                           void (*line)(void *user, const char *text), void *user)
{
    *dead = 0;
    oct_exported *exported;
    OCT_TRY(oct_export_create(&exported, graph, model->image, model->logits, &(oct_export_options){0}));
    const oct_int8_spec *spec = oct_exported_spec(exported);
    printer p = {graph, line, user};
    for (int i = 0; i < spec->layer_count; i++) {
        const oct_int8_layer *l = &spec->layers[i];
        int here = oct_int8_op_has_weights(l->op) ? count_dead(spec, l) : 0;
        if (here) name_dead(&p, spec, l);
        *dead += here;
    }
    oct_export_destroy(exported);
    return OCT_OK;
}

oct_status oct_ranges_report(oct_range_report *report, oct_graph *graph, const oct_model *model,
                             void (*line)(void *user, const char *text), void *user)
{
    *report = (oct_range_report){0};
    oct_exported *exported;
    OCT_TRY(oct_export_create(&exported, graph, model->image, model->logits, &(oct_export_options){0}));
    const oct_int8_spec *spec = oct_exported_spec(exported);
    printer p = {graph, line, user};
    for (int i = 0; i < spec->layer_count; i++) {
        const oct_int8_layer *l = &spec->layers[i];
        if (oct_int8_op_has_weights(l->op)) {
            report->layers++;
            report->dead_channels += print_layer(&p, spec, l);
        }
        if (spec->tensors[l->output].kind == OCT_INT8_CODES) {
            report->points++;
            print_point(&p, &spec->tensors[l->output]);
        }
    }
    oct_export_destroy(exported);
    return OCT_OK;
}
