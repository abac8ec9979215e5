/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/train_options.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "train/calibrate.h"
#include "train/session.h"

static train_flags f;

static const arg_option model_options[] = {
    {.name = "", .help = "Model:"},
    {.name = "model", .type = ARG_TEXT, .value = &f.model, .metavar = "NAME[:k=v]",
     .help = "resnet8, resnet20, resnet18, mobilenetv1, mobilenetv2; options after a colon"},
    {.name = "pretrained", .type = ARG_TEXT, .value = &f.pretrained, .metavar = "FILE",
     .help = "weights to start from; without --model the file's network, too"},
    {.name = "mean", .type = ARG_TEXT, .value = &f.mean, .metavar = "A[,B,C]", .help = "subtracted from pixels 0..255"},
    {.name = "scale", .type = ARG_TEXT, .value = &f.scale, .metavar = "A[,B,C]", .help = "then multiplied with"},
    {.name = "print-model", .type = ARG_SWITCH, .value = &f.print_model, .help = "print the network as a table"},
    {.name = "print-plan", .type = ARG_SWITCH, .value = &f.print_plan, .help = "print the steps of training and their memory"},
    {.name = "", .help = "Quantization:"},
    {.name = "quantize", .type = ARG_SWITCH, .value = &f.quantize, .help = "train with fake quantization, export int8.h5"},
    {.name = "profile", .type = ARG_TEXT, .value = &f.profile, .metavar = "NAME", .help = "default po2", .choices = "po2|affine"},
    {.name = "qconfig", .type = ARG_TEXT, .value = &f.qconfig, .metavar = "FILE", .help = "configuration per layer"},
    {.name = "fold", .type = ARG_TEXT, .value = &f.fold, .metavar = "MODE", .help = "batch norm while training, default batch",
     .choices = "batch|running|ti"},
    {.name = "per-channel", .type = ARG_TEXT, .value = &f.per_channel, .metavar = "WHICH",
     .help = "weights with an exponent per channel, default none", .choices = "none|depthwise|all"},
    {.name = "quantize-output", .type = ARG_SWITCH, .value = &f.quantize_output, .help = "8-bit scores instead of 32-bit"},
    {.name = "calibration-batches", .type = ARG_INT, .value = &f.calibration_batches, .metavar = "N",
     .help = "observed before the first quantized step when weights were loaded, default 50", .min = 1, .max = 1e6,
     .unit = "batches"},
    {.name = NULL},
};

static const arg_option run_options[] = {
    {.name = "", .help = "Training:"},
    {.name = "epochs", .type = ARG_INT, .value = &f.epochs, .metavar = "N", .help = "default 20, quantizing 10", .min = 0,
     .max = 1e6, .unit = "epochs", .given = &f.epochs_given},
    {.name = "epoch-size", .type = ARG_REAL, .value = &f.epoch_size, .metavar = "F",
     .help = "images of an epoch: a share up to 1, or a count", .min = 0, .min_open = true, .max = 1e12, .unit = "of images"},
    {.name = "batch-size", .type = ARG_INT, .value = &f.batch, .metavar = "N", .help = "default 128", .min = 1, .max = 65536,
     .unit = "images"},
    {.name = "accumulate", .type = ARG_INT, .value = &f.accumulate, .metavar = "N", .help = "batches per update, default 1",
     .min = 1, .max = 65536, .unit = "batches"},
    {.name = "augment", .type = ARG_TEXT, .value = &f.augment, .metavar = "RECIPE",
     .help = "default cifar for images of 24..64 pixels, imagenet above, none below", .choices = "none|flip|cifar|imagenet"},
    {.name = "label-smoothing", .type = ARG_REAL, .value = &f.label_smoothing, .metavar = "X", .help = "default 0", .min = 0,
     .max = 0.99, .given = &f.label_smoothing_given},
    {.name = "freeze-bn", .type = ARG_SWITCH, .value = &f.freeze_bn, .help = "batch norm statistics stay as they are"},
    {.name = "evaluate-start", .type = ARG_SWITCH, .value = &f.evaluate_start, .help = "score before the first step, too"},
    {.name = "seed", .type = ARG_INT, .value = &f.seed, .metavar = "N", .help = "default 1", .min = 0, .max = 9e15},
    {.name = "", .help = "Optimizer:"},
    {.name = "lr", .type = ARG_REAL, .value = &f.lr, .metavar = "X",
     .help = "default 0.1; quantizing 0.002 times batch size / 128", .min = 0, .min_open = true, .max = 1e3, .given = &f.lr_given},
    {.name = "lr-schedule", .type = ARG_TEXT, .value = &f.schedule, .metavar = "NAME", .help = "default cosine",
     .choices = "cosine|step|poly|exp|constant"},
    {.name = "warmup-epochs", .type = ARG_REAL, .value = &f.warmup, .metavar = "X", .help = "linear warm-up, default 0",
     .min = 0, .max = 1e6, .unit = "of epochs"},
    {.name = "lr-gamma", .type = ARG_REAL, .value = &f.lr_gamma, .metavar = "X", .help = "step: 0.1 per drop, exp: 0.95 per epoch",
     .min = 0, .min_open = true, .max = 1},
    {.name = "lr-power", .type = ARG_REAL, .value = &f.lr_power, .metavar = "X", .help = "poly: default 1", .min = 0,
     .min_open = true, .max = 100},
    {.name = "lr-step-epochs", .type = ARG_REAL, .value = &f.lr_step_epochs, .metavar = "X",
     .help = "step: epochs between drops, default a third of the run", .min = 0, .min_open = true, .max = 1e6, .unit = "of epochs"},
    {.name = "lr-milestones", .type = ARG_TEXT, .value = &f.milestones, .metavar = "A,B,...", .help = "step: epochs of the drops"},
    {.name = "momentum", .type = ARG_REAL, .value = &f.momentum, .metavar = "X", .help = "default 0.9", .min = 0, .max = 0.9999},
    {.name = "nesterov", .type = ARG_SWITCH, .value = &f.nesterov, .help = "Nesterov's momentum"},
    {.name = "weight-decay", .type = ARG_REAL, .value = &f.weight_decay, .metavar = "X", .help = "default 1e-4", .min = 0, .max = 1},
    {.name = "decay-weights-only", .type = ARG_SWITCH, .value = &f.decay_weights_only,
     .help = "no weight decay of biases and batch norm"},
    {.name = "grad-clip", .type = ARG_REAL, .value = &f.grad_clip, .metavar = "X", .help = "largest gradient norm", .min = 0,
     .min_open = true, .max = 1e9},
    {.name = "", .help = "Run:"},
    {.name = "output", .type = ARG_TEXT, .value = &f.output, .metavar = "DIR", .help = "default runs/MODEL-N, the next free N"},
    {.name = "resume", .type = ARG_SWITCH, .value = &f.resume, .help = "go on from --output DIR/last.h5 when there is one"},
    {.name = "overwrite", .type = ARG_SWITCH, .value = &f.overwrite, .help = "start afresh in a folder that holds a run"},
    {.name = "threads", .type = ARG_INT, .value = &f.threads, .metavar = "N", .help = "computing threads, default all processors",
     .min = 1, .max = 1024, .unit = "threads"},
    {.name = "json", .type = ARG_SWITCH, .value = &f.json, .help = "one JSON object per line on stdout"},
    {.name = "quiet", .type = ARG_SWITCH, .value = &f.quiet, .help = "no progress and no notes"},
    {.name = NULL},
};

static const arg_spec spec = {
    .program = "train",
    .usage = "train --model NAME --data DIR [options]\n       train --quantize --pretrained FILE --data DIR [options]",
    .about = "Trains an image classifier, in float or with quantization, and writes last.h5, best.h5, metrics.jsonl,\n"
             "config.json and (with --quantize) int8.h5 into the output folder.",
    .tables = {model_options, data_options, run_options},
};

static const double default_qat_lr = 0.002;
enum { DEFAULT_BATCH = 128, FLOAT_EPOCHS = 20, QAT_EPOCHS = 10 };

static int check_quantization(void)
{
    if (f.profile && !strcmp(f.profile, "affine"))
        return args_usage("train", "--profile affine is not available in this version; po2 is");
    if (f.fold && !strcmp(f.fold, "ti"))
        return args_usage("train", "--fold ti is not available in this version; batch and running are");
    if (f.qconfig) return args_usage("train", "--qconfig is not available in this version");
    f.config = OCT_QCONFIG_DEFAULT;
    f.config.fold = f.fold && !strcmp(f.fold, "running") ? OCT_FOLD_RUNNING : OCT_FOLD_BATCH;
    f.config.quantize_output = f.quantize_output;
    f.config.per_channel = !f.per_channel || !strcmp(f.per_channel, "none") ? OCT_PER_TENSOR
                           : !strcmp(f.per_channel, "all")                  ? OCT_PER_CHANNEL_ALL
                                                                            : OCT_PER_CHANNEL_DEPTHWISE;
    return CLI_GO_ON;
}

static int check_schedule(void)
{
    oct_error error = {0};
    oct_schedule *s = &f.rates;
    if (!f.lr_given && f.quantize) f.lr = default_qat_lr * (double)(f.batch * f.accumulate) / DEFAULT_BATCH;
    if (!f.epochs_given) f.epochs = f.quantize ? QAT_EPOCHS : FLOAT_EPOCHS;
    *s = (oct_schedule){.lr = f.lr, .warmup_epochs = f.warmup, .gamma = f.lr_gamma, .power = f.lr_power,
                        .step_epochs = f.lr_step_epochs};
    if (f.milestones) {
        s->milestone_count = args_numbers(f.milestones, s->milestones, OCT_SCHEDULE_MILESTONES);
        if (!s->milestone_count)
            return args_usage("train", "--lr-milestones: expected 1 to %d epochs separated by commas, got '%s'",
                              OCT_SCHEDULE_MILESTONES, f.milestones);
    }
    if (oct_schedule_parse(&s->kind, f.schedule, &error) != OCT_OK || oct_schedule_check(s, &error) != OCT_OK)
        return args_usage("train", "%s", error.message);
    if (f.nesterov && !(f.momentum > 0)) return args_usage("train", "--nesterov needs a --momentum above 0");
    return CLI_GO_ON;
}

static int check_preprocessing(void)
{
    f.mean_count = f.mean ? args_numbers(f.mean, f.means, 4) : 0;
    f.scale_count = f.scale ? args_numbers(f.scale, f.scales, 4) : 0;
    if (f.mean && !f.mean_count) return args_usage("train", "--mean: expected 1 to 4 numbers, got '%s'", f.mean);
    if (f.scale && !f.scale_count) return args_usage("train", "--scale: expected 1 to 4 numbers, got '%s'", f.scale);
    for (int i = 0; i < f.scale_count; i++)
        if (!(f.scales[i] > 0)) return args_usage("train", "--scale: expected numbers above 0, got '%s'", f.scale);
    return CLI_GO_ON;
}

int train_parse(train_flags *flags, int argc, char **argv)
{
    int positional;
    f = (train_flags){.batch = DEFAULT_BATCH, .accumulate = 1, .seed = 1, .lr = 0.1, .momentum = 0.9, .weight_decay = 1e-4,
                      .schedule = "cosine", .profile = "po2", .calibration_batches = OCT_CALIBRATE_BATCHES};
    int status = args_parse(&spec, argc, argv, NULL, &positional);
    if (status == CLI_GO_ON) status = check_quantization();
    if (status == CLI_GO_ON) status = check_schedule();
    if (status == CLI_GO_ON) status = check_preprocessing();
    if (status != CLI_GO_ON) return status;
    if (!data_given.path) return args_usage("train", "--data DIR is required");
    if (!f.model && !f.pretrained) return args_usage("train", "--model NAME or --pretrained FILE is required");
    if (f.resume && !f.output) return args_usage("train", "--resume needs the --output DIR of the run");
    if (f.resume && f.overwrite) return args_usage("train", "--resume and --overwrite exclude each other");
    *flags = f;
    return CLI_GO_ON;
}

oct_status train_choose_recipe(train_flags *flags, int size, oct_error *error)
{
    const char *name = flags->augment ? flags->augment : size < 24 ? "none" : size <= 64 ? "cifar" : "imagenet";
    return oct_augment_parse(&flags->recipe, name, error);
}

/* --- which run this is --- */

static void add_text(cJSON *o, const char *key, const char *value)
{
    if (value) cJSON_AddStringToObject(o, key, value);
}

static void add_switch(cJSON *o, const char *key, bool on)
{
    if (on) cJSON_AddTrueToObject(o, key);
}

static cJSON *options_object(const train_flags *t, int size)
{
    cJSON *o = cJSON_CreateObject();
    add_text(o, "model", t->model);
    add_text(o, "pretrained", t->pretrained);
    add_text(o, "data", data_given.path);
    add_text(o, "dataset", data_given.kind);
    cJSON_AddNumberToObject(o, "size", size);
    cJSON_AddNumberToObject(o, "val-split", data_given.val_split);
    cJSON_AddNumberToObject(o, "split-seed", (double)data_given.split_seed);
    add_switch(o, "strict", data_given.strict);
    add_text(o, "augment", oct_augment_name(t->recipe));
    add_text(o, "mean", t->mean);
    add_text(o, "scale", t->scale);
    add_switch(o, "quantize", t->quantize);
    if (t->quantize) {
        add_text(o, "profile", t->profile);
        add_text(o, "fold", t->fold ? t->fold : "batch");
        add_text(o, "per-channel", t->per_channel ? t->per_channel : "none");
        add_switch(o, "quantize-output", t->quantize_output);
        cJSON_AddNumberToObject(o, "calibration-batches", (double)t->calibration_batches);
    }
    cJSON_AddNumberToObject(o, "epochs", (double)t->epochs);
    cJSON_AddNumberToObject(o, "epoch-size", t->epoch_size);
    cJSON_AddNumberToObject(o, "batch-size", (double)t->batch);
    cJSON_AddNumberToObject(o, "accumulate", (double)t->accumulate);
    cJSON_AddNumberToObject(o, "lr", t->lr);
    add_text(o, "lr-schedule", t->schedule);
    cJSON_AddNumberToObject(o, "warmup-epochs", t->warmup);
    cJSON_AddNumberToObject(o, "lr-gamma", t->lr_gamma);
    cJSON_AddNumberToObject(o, "lr-power", t->lr_power);
    cJSON_AddNumberToObject(o, "lr-step-epochs", t->lr_step_epochs);
    add_text(o, "lr-milestones", t->milestones);
    cJSON_AddNumberToObject(o, "momentum", t->momentum);
    cJSON_AddNumberToObject(o, "weight-decay", t->weight_decay);
    add_switch(o, "nesterov", t->nesterov);
    add_switch(o, "decay-weights-only", t->decay_weights_only);
    cJSON_AddNumberToObject(o, "label-smoothing", t->label_smoothing);
    cJSON_AddNumberToObject(o, "grad-clip", t->grad_clip);
    add_switch(o, "freeze-bn", t->freeze_bn);
    cJSON_AddNumberToObject(o, "seed", (double)t->seed);
    return o;
}

/* Prints and deletes. */
static char *take_text(cJSON *o, bool formatted)
{
    char *text = formatted ? cJSON_Print(o) : cJSON_PrintUnformatted(o), *copy = oct_strdup(text);
    cJSON_free(text);
    cJSON_Delete(o);
    return copy;
}

char *train_fingerprint(const train_flags *flags, int size)
{
    return take_text(options_object(flags, size), false);
}

char *train_quantize_text(const train_flags *t)
{
    cJSON *o = cJSON_CreateObject();
    add_text(o, "profile", t->profile);
    add_text(o, "fold", t->fold ? t->fold : "batch");
    add_text(o, "per_channel", t->per_channel ? t->per_channel : "none");
    cJSON_AddBoolToObject(o, "quantize_output", t->quantize_output);
    return take_text(o, false);
}

static void append_difference(char *text, size_t bytes, const char *key, const cJSON *ours, const cJSON *theirs)
{
    char *a = ours ? cJSON_PrintUnformatted(ours) : NULL, *b = theirs ? cJSON_PrintUnformatted(theirs) : NULL;
    size_t used = strlen(text);
    snprintf(text + used, bytes - used, "%s--%s: the checkpoint has %.80s, this run %.80s", used ? "; " : "", key,
             b ? b : "none", a ? a : "none");
    cJSON_free(a);
    cJSON_free(b);
}

void train_compare(char *text, size_t bytes, const char *ours_text, const char *theirs_text)
{
    cJSON *ours = cJSON_Parse(ours_text), *theirs = cJSON_Parse(theirs_text ? theirs_text : "{}");
    const cJSON *item;
    *text = '\0';
    cJSON_ArrayForEach(item, ours)
    {
        const cJSON *other = cJSON_GetObjectItemCaseSensitive(theirs, item->string);
        if (!cJSON_Compare(item, other, true)) append_difference(text, bytes, item->string, item, other);
    }
    cJSON_ArrayForEach(item, theirs)
    {
        if (!cJSON_GetObjectItemCaseSensitive(ours, item->string))
            append_difference(text, bytes, item->string, NULL, item);
    }
    cJSON_Delete(ours);
    cJSON_Delete(theirs);
}

oct_status train_write_config(const train_flags *t, cli *c, const char *folder, const char *fingerprint)
{
    char path[OCT_SESSION_PATH];
    OCT_TRY(oct_session_file(path, folder, "config.json", &c->ctx->error));
    cJSON *o = cJSON_CreateObject();
    add_text(o, "program", "train");
    add_text(o, "version", OCT_VERSION);
    cJSON_AddItemToObject(o, "options", cJSON_Parse(fingerprint));
    add_text(o, "output", folder);
    cJSON_AddNumberToObject(o, "threads", c->ctx->threads);
    cJSON_AddBoolToObject(o, "evaluate-start", t->evaluate_start);
    char *text = take_text(o, true);
    if (!text) return oct_out_of_memory(c->ctx, path);
    oct_status status = oct_file_write(path, text, strlen(text), &c->ctx->error);
    oct_free(text);
    return status;
}
