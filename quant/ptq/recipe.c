/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/ptq/recipe.h"

#include <string.h>

static const double default_percentile = 99.99;

static const oct_ptq_recipe recipes[] = {
    {"simple", OCT_PTQ_SIMPLE, false, OCT_PER_TENSOR, "mean of the batches' minima and maxima"},
    {"minmax", OCT_PTQ_MINMAX, false, OCT_PER_TENSOR, "minimum and maximum of everything"},
    {"percentile", OCT_PTQ_PERCENTILE, false, OCT_PER_TENSOR, "a share of the values, 99.99 %"},
    {"histogram", OCT_PTQ_HISTOGRAM, false, OCT_PER_TENSOR, "least squared error under the histogram"},
    {"mse", OCT_PTQ_MSE, false, OCT_PER_TENSOR, "least squared error at the bins' centres"},
    {"kl", OCT_PTQ_KL, false, OCT_PER_TENSOR, "least Kullback-Leibler divergence"},
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

oct_status oct_ptq_apply(oct_ptq_net *net, const oct_ptq_images *images, const oct_ptq_options *o)
{
    oct_ptq_observation how = {o->recipe->method, o->percentile > 0 ? o->percentile : default_percentile};
    return oct_ptq_observe(net, images, &how, &o->progress);
}
