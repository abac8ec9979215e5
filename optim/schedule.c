/* SPDX-License-Identifier: BSD-2-Clause */
#include "optim/schedule.h"

#include <math.h>
#include <string.h>

static const char *const names[] = {
    [OCT_SCHEDULE_COSINE] = "cosine",   [OCT_SCHEDULE_STEP] = "step",         [OCT_SCHEDULE_POLY] = "poly",
    [OCT_SCHEDULE_EXPONENTIAL] = "exp", [OCT_SCHEDULE_CONSTANT] = "constant",
};
enum { NAME_COUNT = sizeof names / sizeof names[0] };

const char *oct_schedule_name(oct_schedule_kind kind)
{
    return (unsigned)kind < NAME_COUNT ? names[kind] : NULL;
}

oct_status oct_schedule_parse(oct_schedule_kind *kind, const char *name, oct_error *error)
{
    for (int i = 0; i < NAME_COUNT; i++)
        if (!strcmp(name, names[i])) {
            *kind = (oct_schedule_kind)i;
            return OCT_OK;
        }
    return oct_fail(error, OCT_ERR_ARGUMENT,
                    "unknown learning-rate schedule '%s'; known schedules: cosine, step, poly, exp, constant", name);
}

static oct_status check_milestones(const oct_schedule *s, oct_error *error)
{
    if (s->milestone_count < 0 || s->milestone_count > OCT_SCHEDULE_MILESTONES)
        return oct_fail(error, OCT_ERR_ARGUMENT, "schedule: expected at most %d milestones, got %d",
                        OCT_SCHEDULE_MILESTONES, s->milestone_count);
    for (int i = 0; i < s->milestone_count; i++)
        if (!(s->milestones[i] > (i ? s->milestones[i - 1] : 0)))
            return oct_fail(error, OCT_ERR_ARGUMENT, "schedule: expected ascending milestones above 0, got %g",
                            s->milestones[i]);
    return OCT_OK;
}

oct_status oct_schedule_check(const oct_schedule *s, oct_error *error)
{
    if ((unsigned)s->kind >= NAME_COUNT)
        return oct_fail(error, OCT_ERR_ARGUMENT, "schedule: unknown kind %d", (int)s->kind);
    if (!(s->lr > 0 && isfinite(s->lr)))
        return oct_fail(error, OCT_ERR_ARGUMENT, "schedule: expected a learning rate above 0, got %g", s->lr);
    if (!(s->warmup_epochs >= 0 && s->warmup_epochs < 1e9))
        return oct_fail(error, OCT_ERR_ARGUMENT, "schedule: expected warm-up epochs of at least 0, got %g",
                        s->warmup_epochs);
    if (!(s->gamma >= 0 && s->gamma <= 1))
        return oct_fail(error, OCT_ERR_ARGUMENT, "schedule: expected gamma in (0, 1], got %g", s->gamma);
    if (!(s->power >= 0 && isfinite(s->power)))
        return oct_fail(error, OCT_ERR_ARGUMENT, "schedule: expected a power above 0, got %g", s->power);
    if (!(s->step_epochs >= 0 && isfinite(s->step_epochs)))
        return oct_fail(error, OCT_ERR_ARGUMENT, "schedule: expected step epochs above 0, got %g", s->step_epochs);
    return check_milestones(s, error);
}

/* Share of the way from the end of the warm-up to the end of the run, [0, 1). */
static double progress(int64_t step, int64_t warmup, int64_t total)
{
    if (step >= total) step = total - 1;
    return total > warmup ? (double)(step - warmup) / (double)(total - warmup) : 0;
}

static double step_factor(const oct_schedule *s, int64_t step, int64_t steps_per_epoch, int64_t total)
{
    double epoch = floor((double)step / (double)steps_per_epoch), drops = 0;
    double every = s->step_epochs > 0 ? s->step_epochs : (double)total / (double)steps_per_epoch / 3;
    if (s->milestone_count == 0) drops = floor(epoch / every);
    for (int i = 0; i < s->milestone_count; i++) drops += epoch >= s->milestones[i];
    return pow(s->gamma > 0 ? s->gamma : 0.1, drops);
}

double oct_schedule_rate(const oct_schedule *s, int64_t step, int64_t steps_per_epoch, int64_t total)
{
    int64_t warmup = (int64_t)llround(s->warmup_epochs * (double)steps_per_epoch);
    if (step < warmup) return s->lr * (double)(step + 1) / (double)warmup;
    double at = progress(step, warmup, total);
    switch (s->kind) {
    case OCT_SCHEDULE_COSINE: return s->lr * (1 + cos(3.14159265358979323846 * at)) / 2;
    case OCT_SCHEDULE_STEP: return s->lr * step_factor(s, step, steps_per_epoch, total);
    case OCT_SCHEDULE_POLY: return s->lr * pow(1 - at, s->power > 0 ? s->power : 1);
    case OCT_SCHEDULE_EXPONENTIAL:
        return s->lr * pow(s->gamma > 0 ? s->gamma : 0.95, (double)step / (double)steps_per_epoch);
    case OCT_SCHEDULE_CONSTANT: break;
    }
    return s->lr;
}
