/* SPDX-License-Identifier: BSD-2-Clause
 * Learning-rate schedules: pure functions of the step, so that there is no state to save. With S = steps per epoch,
 * T = epochs*S, W = warmup_epochs*S (rounded), step t = 0, 1, ... and
 *
 *   t < W:    lr * (t + 1)/W                                   linear warm-up
 *   cosine:   lr * (1 + cos(pi * (t - W)/(T - W)))/2           Loshchilov & Hutter 2017 without restarts
 *   step:     lr * gamma^k, k = milestones passed at epoch floor(t/S); without milestones k = floor(epoch/step_epochs)
 *   poly:     lr * (1 - (t - W)/(T - W))^power
 *   exp:      lr * gamma^(t/S)                                 gamma per epoch, continuous in t
 *   constant: lr
 *
 * Steps at or behind T have the rate of the last step T-1, except for step and exp, which go on.
 */
#ifndef OCT_OPTIM_SCHEDULE_H
#define OCT_OPTIM_SCHEDULE_H

#include <stdint.h>

#include "autograd/base/status.h"

typedef enum oct_schedule_kind {
    OCT_SCHEDULE_COSINE,
    OCT_SCHEDULE_STEP,
    OCT_SCHEDULE_POLY,
    OCT_SCHEDULE_EXPONENTIAL,
    OCT_SCHEDULE_CONSTANT
} oct_schedule_kind;

enum { OCT_SCHEDULE_MILESTONES = 16 };

typedef struct oct_schedule {
    oct_schedule_kind kind;
    double lr;              /* > 0, the rate after warm-up */
    double warmup_epochs;   /* >= 0 */
    double gamma;           /* step, exp: (0, 1]; 0 = 0.1 for step, 0.95 for exp */
    double power;           /* poly: > 0; 0 = 1 */
    double step_epochs;     /* step without milestones: > 0; 0 = a third of all epochs */
    int milestone_count;
    double milestones[OCT_SCHEDULE_MILESTONES]; /* step: epochs, ascending */
} oct_schedule;

/* "cosine", "step", "poly", "exp", "constant"; NULL for any other value. */
const char *oct_schedule_name(oct_schedule_kind kind);
/* The reverse; OCT_ERR_ARGUMENT names the known ones. */
OCT_MUST_USE oct_status oct_schedule_parse(oct_schedule_kind *kind, const char *name, oct_error *error);

/* OCT_ERR_ARGUMENT names the field out of range. */
OCT_MUST_USE oct_status oct_schedule_check(const oct_schedule *schedule, oct_error *error);

/* Learning rate of step `step`. steps_per_epoch >= 1, total_steps >= 1: all steps of the run. The schedule must have
 * passed the check. */
double oct_schedule_rate(const oct_schedule *schedule, int64_t step, int64_t steps_per_epoch, int64_t total_steps);

#endif
