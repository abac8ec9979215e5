/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/ptq/recipe.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "quant/ptq/adaround.h"
#include "quant/ptq/bias.h"
#include "quant/ptq/equalize.h"

static const double default_percentile = 99.99;

static const oct_ptq_recipe recipes[] = {
    {"simple", OCT_PTQ_SIMPLE, false, OCT_PER_TENSOR, "mean of the batches' minima and maxima"},
    {"minmax", OCT_PTQ_MINMAX, false, OCT_PER_TENSOR, "minimum and maximum of everything"},
    {"percentile", OCT_PTQ_PERCENTILE, false, OCT_PER_TENSOR, "a share of the values, 99.99 %"},
    {"histogram", OCT_PTQ_HISTOGRAM, false, OCT_PER_TENSOR, "least squared error under the histogram"},
    {"mse", OCT_PTQ_MSE, false, OCT_PER_TENSOR, "least squared error at the bins' centres"},
    {"kl", OCT_PTQ_KL, false, OCT_PER_TENSOR, "least Kullback-Leibler divergence"},
    {"advanced", OCT_PTQ_SIMPLE, true, OCT_PER_TENSOR, "TI: clipped weights, biases and ranges batch by batch"},
    {"advanced-dw", OCT_PTQ_SIMPLE, true, OCT_PER_CHANNEL_DEPTHWISE, "the same, depthwise weights per channel"},
};

const oct_ptq_recipe *oct_ptq_recipe_at(int index)
{
    return index >= 0 && index < (int)(sizeof recipes / sizeof recipes[0]) ? &recipes[index] : NULL;
}

const oct_ptq_recipe *oct_ptq_recipe_find(const char *name)
{
    for (int i = 0; oct_ptq_recipe_at(i); i++)
        if (!strcmp(recipes[i].name, name)) return &recipes[i];
    return NULL;
}

__attribute__((format(printf, 2, 3))) static void say(const oct_ptq_options *o, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (o->line) o->line(o->progress.user, text);
}

static void stage(const oct_ptq_options *o, const char *name, int64_t total)
{
    if (o->stage) o->stage(o->progress.user, name, total);
}

/* What is done to weights before anything is measured. */
static oct_status prepare_weights(oct_ptq_net *net, const oct_ptq_options *o)
{
    if (o->equalize) {
        oct_ptq_equalized found;
        const oct_ptq_equalization how = {.absorb = o->absorb_biases};
        OCT_TRY(oct_ptq_equalize(net, &how, &found));
        say(o, "equalization: %d pairs, channel ranges differ %.1f to 1 at most, %.1f before%s", found.pairs,
            found.ratio_after, found.ratio_before, found.capped ? "; caps (ReLU6) kept some apart" : "");
    } else {
        oct_ptq_merge_norms(net);
    }
    if (!o->recipe->advanced) return OCT_OK;
    int clipped = oct_ptq_clip_weights(net);
    if (clipped < 0) return oct_out_of_memory(net->graph->ctx, "clipping of weights");
    if (clipped) say(o, "weights of %d layers clipped", clipped);
    return OCT_OK;
}

static oct_status find_ranges(oct_ptq_net *net, const oct_ptq_images *images, const oct_ptq_options *o)
{
    int64_t batches = oct_ptq_batches(images);
    if (o->recipe->advanced) {
        const oct_ptq_bias_calibration how = {.seed = o->seed};
        stage(o, "ranges and biases", batches > OCT_PTQ_CALIBRATION_STEPS ? batches : OCT_PTQ_CALIBRATION_STEPS);
        return oct_ptq_calibrate_biases(net, images, &how, &o->progress);
    }
    oct_ptq_observation how = {o->recipe->method, o->percentile > 0 ? o->percentile : default_percentile};
    stage(o, "ranges", batches);
    return oct_ptq_observe(net, images, &how, &o->progress);
}

static oct_status learn_rounding(oct_ptq_net *net, const oct_ptq_images *images, const oct_ptq_options *o)
{
    const oct_ptq_adaround how = {.iterations = o->adaround_iterations, .seed = o->seed};
    oct_ptq_adarounded found;
    stage(o, "AdaRound", net->layer_count * (how.iterations > 0 ? how.iterations : OCT_ADAROUND_ITERATIONS));
    OCT_TRY(oct_ptq_adaround_apply(net, images, &how, &found, &o->progress));
    say(o, "AdaRound: %.1f %% of the weights not to the nearest, output error %.2e, %.2e before",
        100.0 * (double)found.changed / (double)found.weights, found.error_after, found.error_before);
    return OCT_OK;
}

oct_status oct_ptq_apply(oct_ptq_net *net, const oct_ptq_images *images, const oct_ptq_options *o)
{
    bool changes_weights = o->equalize || o->recipe->advanced || o->adaround || o->correct_biases;
    if (changes_weights) OCT_TRY(prepare_weights(net, o));
    OCT_TRY(find_ranges(net, images, o));
    if (o->adaround) OCT_TRY(learn_rounding(net, images, o));
    if (o->correct_biases) {
        stage(o, "bias correction", net->layer_count * oct_ptq_batches(images));
        OCT_TRY(oct_ptq_correct_biases(net, images, &o->progress));
    }
    if (!changes_weights) return OCT_OK;
    stage(o, "batch norm", oct_ptq_batches(images));
    return oct_ptq_restore_norms(net, images, &o->progress);
}
