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
    ARG_GROUP("Model:"),
    ARG_WORD("model", &f.model, "NAME[:k=v]",
             "resnet8, resnet20, resnet18, mobilenetv1, mobilenetv2; options after a colon"),
    ARG_WORD("pretrained", &f.pretrained, "FILE",
             "weights to start from (a checkpoint, Keras .h5, .pth, .safetensors); without --model the file's\n"
             "network, too"),
    ARG_ON("new-head", &f.new_head, "the last layer of --pretrained may be for other classes: a new one is trained"),
    ARG_WORD("mean", &f.mean, "A[,B,C]", "subtracted from pixels 0..255"),
    ARG_WORD("scale", &f.scale, "A[,B,C]", "then multiplied with"),
    ARG_ON("print-model", &f.print_model, "print the network as a table"),
    ARG_ON("print-plan", &f.print_plan, "print the steps of training and their memory"),
    ARG_GROUP("Quantization:"),
    ARG_ON("quantize", &f.quantize, "train with fake quantization, export int8.h5"),
    ARG_CHOICE("profile", &f.profile, "NAME", "default po2", "po2|affine"),
    ARG_WORD("qconfig", &f.qconfig, "FILE", "configuration per layer"),
    ARG_CHOICE("fold", &f.fold, "MODE", "batch norm while training, default batch", "batch|running|ti"),
    ARG_CHOICE("rounding", &f.rounding, "NAME", "of affine requantization, default float", "float|single|double"),
    ARG_CHOICE("per-channel", &f.per_channel, "WHICH", "weights with a scale per channel, default none, affine all",
               "none|depthwise|all"),
    ARG_ON("quantize-output", &f.quantize_output, "8-bit scores instead of 32-bit"),
    ARG_COUNT("calibration-batches", &f.calibration_batches, 1, 1e6, "batches",
              "observed before the first quantized step when weights were loaded, default 50"),
    ARG_END,
};

static const arg_option run_options[] = {
    ARG_GROUP("Training:"),
    ARG_COUNT("epochs", &f.epochs, 0, 1e6, "epochs", "default 20, quantizing 10"),
    ARG_ABOVE("epoch-size", &f.epoch_size, 0, 1e12, "of images",
              "images of an epoch, drawn with replacement: a share below 1, or a count"),
    ARG_COUNT("batch-size", &f.batch, 1, 65536, "images", "default 128"),
    ARG_COUNT("accumulate", &f.accumulate, 1, 65536, "batches", "batches per update, default 1"),
    ARG_CHOICE("augment", &f.augment, "RECIPE",
               "default cifar for images of 24..64 pixels, imagenet above, none below",
               "none|flip|cifar|imagenet"),
    ARG_WORD("jitter", &f.jitter, "B[,C,S[,H]]",
             "colour jitter: brightness, contrast, saturation by up to 1 -+ strength, hue up to H of the circle"),
    ARG_NUMBER("label-smoothing", &f.label_smoothing, 0, 0.99, NULL, "default 0"),
    ARG_ON("freeze-bn", &f.freeze_bn, "batch norm statistics stay as they are"),
    ARG_ON("evaluate-start", &f.evaluate_start, "score before the first step, too"),
    ARG_COUNT("seed", &f.seed, 0, 9e15, NULL, "default 1"),
    ARG_GROUP("Optimizer:"),
    ARG_ABOVE("lr", &f.lr, 0, 1e3, NULL, "default 0.1; quantizing 0.002 times batch size / 128"),
    ARG_CHOICE("lr-schedule", &f.schedule, "NAME", "default cosine", "cosine|step|poly|exp|constant"),
    ARG_NUMBER("warmup-epochs", &f.warmup, 0, 1e6, "of epochs", "linear warm-up, default 0"),
    ARG_ABOVE("lr-gamma", &f.lr_gamma, 0, 1, NULL, "step: 0.1 per drop, exp: 0.95 per epoch"),
    ARG_ABOVE("lr-power", &f.lr_power, 0, 100, NULL, "poly: default 1"),
    ARG_ABOVE("lr-step-epochs", &f.lr_step_epochs, 0, 1e6, "of epochs",
              "step: epochs between drops, default a third of the run"),
    ARG_WORD("lr-milestones", &f.milestones, "A,B,...", "step: epochs of the drops"),
    ARG_NUMBER("momentum", &f.momentum, 0, 0.9999, NULL, "default 0.9"),
    ARG_ON("nesterov", &f.nesterov, "Nesterov's momentum"),
    ARG_NUMBER("weight-decay", &f.weight_decay, 0, 1, NULL, "default 1e-4"),
    ARG_ON("decay-weights-only", &f.decay_weights_only, "no weight decay of biases and batch norm"),
    ARG_ABOVE("grad-clip", &f.grad_clip, 0, 1e9, NULL, "largest gradient norm"),
    ARG_GROUP("Run:"),
    ARG_WORD("output", &f.output, "DIR", "default runs/MODEL-N, the next free N"),
    ARG_ON("resume", &f.resume, "go on from --output DIR/last.h5 when there is one"),
    ARG_ON("overwrite", &f.overwrite, "start afresh in a folder that holds a run"),
    ARG_ABOVE("save-seconds", &f.save_seconds, 0, 1e6, "of seconds",
              "a checkpoint at least that often, default 60"),
    ARG_THREADS(&f.threads),
    ARG_JSON(&f.json),
    ARG_QUIET(&f.quiet),
    ARG_END,
};

static const arg_spec spec = {
    .program = "train",
    .usage = "train --model NAME --data DIR [options]\n       train --quantize --pretrained FILE --data DIR "
             "[options]",
    .about = "Trains an image classifier, in float or with quantization, and writes last.h5, best.h5, "
             "metrics.jsonl,\n"
             "config.json and (with --quantize) int8.h5 into the output folder.",
    .tables = {model_options, data_options, run_options},
};

static const double default_lr = 0.1, default_qat_lr = 0.002;
enum { DEFAULT_BATCH = 128, FLOAT_EPOCHS = 20, QAT_EPOCHS = 10 };

static int check_quantization(void)
{
    bool affine = !strcmp(f.profile, "affine");
    if (f.rounding && !affine) return args_usage("train", "--rounding needs --profile affine");
    if (f.fold && !strcmp(f.fold, "ti"))
        return args_usage("train", "--fold ti is not available in this version; batch and running are");
    if (f.qconfig) return args_usage("train", "--qconfig is not available in this version");
    f.config = affine ? OCT_QCONFIG_AFFINE : OCT_QCONFIG_DEFAULT;
    if (f.rounding) (void)oct_int8_rounding_from_name(&f.config.rounding, f.rounding);
    f.config.fold = f.fold && !strcmp(f.fold, "running") ? OCT_FOLD_RUNNING : OCT_FOLD_BATCH;
    f.config.quantize_output = f.quantize_output;
    if (!f.per_channel) f.per_channel = affine ? "all" : "none";
    f.config.per_channel = !strcmp(f.per_channel, "none")  ? OCT_PER_TENSOR
                           : !strcmp(f.per_channel, "all") ? OCT_PER_CHANNEL_ALL
                                                           : OCT_PER_CHANNEL_DEPTHWISE;
    return CLI_GO_ON;
}

static int check_schedule(void)
{
    oct_error error = {0};
    oct_schedule *s = &f.rates;
    double images = (double)(f.batch * f.accumulate);
    if (f.lr < 0) f.lr = f.quantize ? default_qat_lr * images / DEFAULT_BATCH : default_lr;
    if (f.epochs < 0) f.epochs = f.quantize ? QAT_EPOCHS : FLOAT_EPOCHS;
    *s = (oct_schedule){.lr = f.lr,
                        .warmup_epochs = f.warmup,
                        .gamma = f.lr_gamma,
                        .power = f.lr_power,
                        .step_epochs = f.lr_step_epochs};
    if (f.milestones) {
        s->milestone_count = args_numbers(f.milestones, s->milestones, OCT_SCHEDULE_MILESTONES);
        if (!s->milestone_count)
            return args_usage("train",
                              "--lr-milestones: expected 1 to %d epochs separated by commas, got '%s'",
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
    if (f.mean && !f.mean_count)
        return args_usage("train", "--mean: expected 1 to 4 numbers, got '%s'", f.mean);
    if (f.scale && !f.scale_count)
        return args_usage("train", "--scale: expected 1 to 4 numbers, got '%s'", f.scale);
    for (int i = 0; i < f.scale_count; i++)
        if (!(f.scales[i] > 0))
            return args_usage("train", "--scale: expected numbers above 0, got '%s'", f.scale);
    return CLI_GO_ON;
}

static int check_jitter(void)
{
    double v[4] = {0};
    int count = f.jitter ? args_numbers(f.jitter, v, 4) : 0;
    bool good = !f.jitter || (count && count != 2 && v[3] <= 0.5);
    for (int i = 0; i < 4; i++) good &= v[i] >= 0 && v[i] <= 10;
    if (!good)
        return args_usage("train", "--jitter: expected 1, 3 or 4 strengths of at least 0 (hue at most 0.5), got '%s'",
                          f.jitter);
    if (count == 1) v[1] = v[2] = v[0];
    f.color = (oct_jitter){(float)v[0], (float)v[1], (float)v[2], (float)v[3]};
    return CLI_GO_ON;
}

int train_parse(train_flags *flags, int argc, char **argv)
{
    int positional;
    f = (train_flags){.batch = DEFAULT_BATCH,
                      .accumulate = 1,
                      .seed = 1,
                      .lr = -1,
                      .epochs = -1,
                      .label_smoothing = -1,
                      .momentum = 0.9,
                      .weight_decay = 1e-4,
                      .schedule = "cosine",
                      .profile = "po2",
                      .calibration_batches = OCT_CALIBRATE_BATCHES};
    int status = args_parse(&spec, argc, argv, NULL, &positional);
    if (status == CLI_GO_ON) status = check_quantization();
    if (status == CLI_GO_ON) status = check_schedule();
    if (status == CLI_GO_ON) status = check_preprocessing();
    if (status == CLI_GO_ON) status = check_jitter();
    if (status != CLI_GO_ON) return status;
    if (!data_given.path) return args_usage("train", "--data DIR is required");
    if (!f.model && !f.pretrained)
        return args_usage("train", "--model NAME or --pretrained FILE is required");
    if (f.new_head && !(f.model && f.pretrained))
        return args_usage("train", "--new-head needs --model and --pretrained");
    if (f.resume && !f.output) return args_usage("train", "--resume needs the --output DIR of the run");
    if (f.resume && f.overwrite) return args_usage("train", "--resume and --overwrite exclude each other");
    *flags = f;
    return CLI_GO_ON;
}

oct_status train_choose_recipe(train_flags *flags, int size, oct_error *error)
{
    const char *name = flags->augment ? flags->augment
                       : size < 24    ? "none"
                       : size <= 64   ? "cifar"
                                      : "imagenet";
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
    add_switch(o, "new-head", t->new_head);
    add_text(o, "data", data_given.path);
    add_text(o, "dataset", data_given.kind);
    cJSON_AddNumberToObject(o, "size", size);
    cJSON_AddNumberToObject(o, "val-split", data_given.val_split);
    cJSON_AddNumberToObject(o, "split-seed", (double)data_given.split_seed);
    add_switch(o, "strict", data_given.strict);
    add_text(o, "augment", oct_augment_name(t->recipe));
    add_text(o, "jitter", t->jitter);
    add_text(o, "subset", data_given.subset && strcmp(data_given.subset, "all") ? data_given.subset : NULL);
    if (data_given.resize >= 0) cJSON_AddNumberToObject(o, "resize", (double)data_given.resize);
    add_text(o, "interpolation", data_given.interpolation);
    add_text(o, "mean", t->mean);
    add_text(o, "scale", t->scale);
    add_switch(o, "quantize", t->quantize);
    if (t->quantize) {
        add_text(o, "profile", t->profile);
        if (t->config.profile == OCT_AFFINE) add_text(o, "rounding", oct_int8_rounding_name(t->config.rounding));
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
    if (t->label_smoothing >= 0) cJSON_AddNumberToObject(o, "label-smoothing", t->label_smoothing);
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
    if (t->config.profile == OCT_AFFINE) add_text(o, "rounding", oct_int8_rounding_name(t->config.rounding));
    add_text(o, "fold", t->fold ? t->fold : "batch");
    add_text(o, "per_channel", t->per_channel ? t->per_channel : "none");
    cJSON_AddBoolToObject(o, "quantize_output", t->quantize_output);
    return take_text(o, false);
}

static void append_difference(char *text, size_t bytes, const char *key, const cJSON *ours,
                              const cJSON *theirs)
{
    char *a = ours ? cJSON_PrintUnformatted(ours) : NULL, *b = theirs ? cJSON_PrintUnformatted(theirs) : NULL;
    size_t used = strlen(text);
    snprintf(text + used, bytes - used, "%s--%s: the checkpoint has %.80s, this run %.80s", used ? "; " : "",
             key, b ? b : "none", a ? a : "none");
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
    size_t length = strlen(text);
    text[length] = '\n'; /* the end of a text file instead of a string's */
    oct_status status = oct_file_write(path, text, length + 1, &c->ctx->error);
    oct_free(text);
    return status;
}
