/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/layer_norm.h"

#include <math.h>

static double output_per_acc(const oct_norm_channel *c)
{
    return c->unit / c->s;
}

void oct_norm_live(const oct_norm_channel *c, const oct_acc_sums *sums, int64_t m, int dead, float *running_mean,
                   float *running_var, float *a, float *b, oct_norm_saved *saved)
{
    double k = output_per_acc(c), eps = (double)c->attrs->eps, momentum = (double)c->attrs->momentum;
    double md = (double)m, mean = (double)sums->sum / md;
    __int128 numerator = (__int128)m * sums->square - (__int128)sums->sum * sums->sum;
    double v = (double)numerator / (md * md);
    double r = 1 / sqrt(v + eps / (k * k)), signed_r = c->s < 0 ? -r : r;
    if (!dead) {
        double batch_mean = k * mean + (double)c->bias, batch_var = k * k * v * (md / (md - 1));
        *running_mean = (float)((double)*running_mean + momentum * (batch_mean - (double)*running_mean));
        *running_var = (float)((double)*running_var + momentum * (batch_var - (double)*running_var));
    }
    if (c->attrs->fold == OCT_FOLD_BATCH) {
        double scale = (double)c->gamma * signed_r;
        *a = (float)scale;
        *b = (float)((double)c->beta - scale * mean);
    } else {
        double s = oct_fold_scale((double)c->gamma, (double)*running_var, eps);
        *a = (float)(k * s);
        *b = (float)((double)c->beta + ((double)c->bias - (double)*running_mean) * s);
    }
    double sigma = sqrt(k * k * v + eps);
    *saved = (oct_norm_saved){k, mean, signed_r, (double)c->gamma / (c->s * sigma)};
}

void oct_norm_frozen(const oct_norm_channel *c, float running_mean, float running_var, oct_norm_saved *saved)
{
    double k = output_per_acc(c), sigma = sqrt((double)running_var + (double)c->attrs->eps);
    *saved = (oct_norm_saved){k, ((double)running_mean - (double)c->bias) / k, k / sigma, 1};
}
