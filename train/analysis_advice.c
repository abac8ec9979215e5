/* SPDX-License-Identifier: BSD-2-Clause
 * What the figures of an analysis say, in words (train/analysis.h). */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "train/analysis.h"

/* From where on something is worth saying. */
static const double ratio_limit = 32, noise_limit = 20 /* dB, docs/quantization.md 5.3 */, clip_limit = 0.01,
                    used_limit = 0.25, drop_limit = 0.5 /* percent */;

typedef struct adviser {
    const oct_analysis *a;
    void (*line)(void *user, const char *text);
    void *user;
    int count;
} adviser;

__attribute__((format(printf, 2, 3))) static void say(adviser *v, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (v->line) v->line(v->user, text);
    v->count++;
}

static double badness_ratio(const oct_analysis_row *r)
{
    return r->layer >= 0 && !r->per_channel && r->channel_ratio >= ratio_limit ? r->channel_ratio : 0;
}

static double badness_dead(const oct_analysis_row *r)
{
    return r->dead;
}

static double badness_weights(const oct_analysis_row *r)
{
    return r->layer >= 0 && r->weight_sqnr < noise_limit ? 1 + noise_limit - r->weight_sqnr : 0;
}

static double badness_clipped(const oct_analysis_row *r)
{
    return r->point >= 0 && r->clipped > clip_limit ? r->clipped : 0;
}

static double badness_unused(const oct_analysis_row *r)
{
    return r->point >= 0 && r->used < used_limit ? used_limit / fmax(r->used, 1e-9) : 0;
}

static double badness_rounding(const oct_analysis_row *r)
{
    return r->point >= 0 && r->own < noise_limit ? 1 + noise_limit - r->own : 0;
}

static void say_ratio(adviser *v, const oct_analysis_row *r)
{
    say(v, "%s: channel ranges differ %.0f to 1: use weights per channel (--per-channel) or equalization (--equalize)",
        r->name, r->channel_ratio);
}

static void say_dead(adviser *v, const oct_analysis_row *r)
{
    say(v, "%s: %d of %d channels have no weight code but 0: %s", r->name, r->dead, r->outputs,
        r->per_channel ? "the channels carry nothing; they could be cut" : "weights per channel or equalization give them steps");
}

static void say_weights(adviser *v, const oct_analysis_row *r)
{
    say(v, "%s: rounding the weights leaves %.1f dB: AdaRound, bias correction or training with quantization", r->name,
        r->weight_sqnr);
}

static void say_clipped(adviser *v, const oct_analysis_row *r)
{
    say(v, "%s: %.2g %% of the values are beyond the clip %g: calibrate with recipe minmax or percentile, or on more images",
        r->name, 100 * r->clipped, r->clip);
}

static void say_unused(adviser *v, const oct_analysis_row *r)
{
    say(v, "%s: the values reach %.0f %% of the clip %g only: calibrate again (mse, histogram)", r->name, 100 * r->used,
        r->clip);
}

static void say_rounding(adviser *v, const oct_analysis_row *r)
{
    say(v, "%s: rounding its values leaves %.1f dB: a few are far larger than the rest; recipes mse or kl clip them", r->name,
        r->own);
}

/* Rows with badness > 0, worst first; ties in the order of execution. */
static void go_through(adviser *v, double (*badness)(const oct_analysis_row *r),
                       void (*words)(adviser *v, const oct_analysis_row *r))
{
    double below = INFINITY;
    int last = -1;
    for (;;) {
        int worst = -1;
        double most = 0;
        for (int i = 0; i < v->a->count; i++) {
            double bad = badness(&v->a->rows[i]);
            bool left = bad < below || (bad == below && i > last);
            if (left && bad > most) most = bad, worst = i;
        }
        if (worst < 0) return;
        words(v, &v->a->rows[worst]);
        below = most;
        last = worst;
    }
}

static void say_sensitive(adviser *v)
{
    for (int i = 0; i < v->a->count; i++) {
        const oct_analysis_row *r = &v->a->rows[i];
        if (isnan(r->only_this)) continue;
        double lost = v->a->top1_simulated_float - r->only_this, gained = r->all_but_this - v->a->top1_quantized;
        if (lost > drop_limit && gained > drop_limit)
            say(v, "%s: alone it costs %.2f points, in float it would give back %.2f: begin here", r->name, lost, gained);
    }
}

int oct_analysis_advice(const oct_analysis *a, void (*line)(void *user, const char *text), void *user)
{
    adviser v = {a, line, user, 0};
    say_sensitive(&v);
    go_through(&v, badness_ratio, say_ratio);
    go_through(&v, badness_dead, say_dead);
    go_through(&v, badness_weights, say_weights);
    go_through(&v, badness_clipped, say_clipped);
    go_through(&v, badness_rounding, say_rounding);
    go_through(&v, badness_unused, say_unused);
    return v.count;
}
