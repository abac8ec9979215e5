/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/train_setup.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/memory.h"
#include "layers/import/onnx.h"
#include "train/cli/load.h"

static bool quantized(const train_run *r)
{
    return oct_quantize_points(r->graph) > 0;
}

static oct_status fail(train_run *r, oct_status status, const char *text)
{
    return oct_fail(&r->c.ctx->error, status, "%s", text);
}

/* --- the output folder --- */

static oct_status make_folders(train_run *r, char *path)
{
    for (char *p = path + 1;; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = '\0';
        if (mkdir(path, 0777) && errno != EEXIST)
            return oct_fail(&r->c.ctx->error, OCT_ERR_IO, "%s: cannot create the folder: %s", path,
                            strerror(errno));
        *p = end;
        if (!end) return OCT_OK;
    }
}

bool train_file_exists(const char *folder, const char *name)
{
    char path[OCT_SESSION_PATH];
    struct stat st;
    return oct_session_file(path, folder, name, NULL) == OCT_OK && !stat(path, &st);
}

/* runs/<model>-1, -2, ... */
static void next_free_folder(train_run *r, const char *name)
{
    char base[64];
    size_t length = strcspn(name, ":,=/ ");
    snprintf(base, sizeof base, "%.*s%s", length > 40 ? 40 : (int)length, name,
             r->flags.quantize ? "-q" : "");
    struct stat st;
    for (int n = 1; n < 1000000; n++) {
        snprintf(r->folder, sizeof r->folder, "runs/%s-%d", base, n);
        if (stat(r->folder, &st)) return;
    }
}

/* Half-written files of a run that was killed. */
static void remove_leftovers(const char *folder)
{
    static const char *const names[] = {"last.h5", "best.h5", "int8.h5", "config.json"};
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)))
        for (int i = 0; i < 4; i++) {
            size_t length = strlen(names[i]);
            if (strncmp(entry->d_name, names[i], length) || strncmp(entry->d_name + length, ".tmp-", 5))
                continue;
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    if (dir) closedir(dir);
}

/* A run that starts afresh leaves nothing of an earlier one that could be taken for its own, whenever it is killed. */
static void remove_old_run(const char *folder)
{
    static const char *const files[] = {"int8.h5", "best.h5", "last.h5", "metrics.jsonl"};
    char path[OCT_SESSION_PATH];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (oct_session_file(path, folder, files[i], NULL) == OCT_OK) unlink(path);
}

static oct_status choose_folder(train_run *r)
{
    const char *name = r->flags.model ? r->flags.model : r->start.info.model ? r->start.info.model : "model";
    if (r->flags.output)
        snprintf(r->folder, sizeof r->folder, "%s", r->flags.output);
    else
        next_free_folder(r, name);
    if (!r->resumed && !r->flags.overwrite && train_file_exists(r->folder, "last.h5"))
        return oct_fail(&r->c.ctx->error, OCT_ERR_ARGUMENT,
                        "%s holds a run already: --resume continues it, --overwrite starts afresh",
                        r->folder);
    OCT_TRY(make_folders(r, r->folder));
    remove_leftovers(r->folder);
    if (!r->resumed) remove_old_run(r->folder);
    return OCT_OK;
}

/* --- the model --- */

/* A network made elsewhere; --mean and --scale say what it was fed with. */
static oct_status read_foreign(train_run *r, const char *path)
{
    const train_flags *f = &r->flags;
    oct_network_options options = {.label_smoothing = 0};
    for (int i = 0; i < f->mean_count; i++) options.preprocess.mean[i] = (float)f->means[i];
    for (int i = 0; i < f->scale_count; i++) options.preprocess.scale[i] = (float)f->scales[i];
    return oct_checkpoint_import(&r->start, path, &options, r->c.ctx);
}

static oct_status read_pretrained(train_run *r, const char *path)
{
    char format[OCT_STATE_FORMAT_BYTES] = "";
    oct_error *error = &r->c.ctx->error;
    oct_status status = oct_state_probe(format, path, NULL);
    bool other = status == OCT_ERR_FORMAT || (status == OCT_OK && strcmp(format, OCT_STATE_FORMAT));
    if (other && oct_checkpoint_is_foreign(path) && !r->flags.model) return read_foreign(r, path);
    if (other && oct_onnx_probe(path))
        return oct_fail(error, OCT_ERR_ARGUMENT, "%s is an ONNX file, which brings its network along: leave --model out", path);
    oct_weights_kind kind = OCT_WEIGHTS_UNKNOWN;
    if (other) OCT_TRY(oct_weights_probe(&kind, path, error));
    if (kind != OCT_WEIGHTS_UNKNOWN && r->flags.model) return OCT_OK; /* read when there is a network to load into */
    if (kind != OCT_WEIGHTS_UNKNOWN)
        return oct_fail(error, OCT_ERR_ARGUMENT, "%s holds weights alone (%s): --model NAME says of which network",
                        path, oct_weights_kind_name(kind));
    if (other)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "%s is no checkpoint: --pretrained takes a last.h5 or best.h5 of train, a Keras .h5, an ONNX file, "
                        "PyTorch's .pth or .safetensors, not an exported int8 model or another file", path);
    return oct_checkpoint_read(&r->start, path, r->c.ctx);
}

/* What there is to start from: the run's own checkpoint, or the file of --pretrained. */
static oct_status read_start(train_run *r)
{
    char path[OCT_SESSION_PATH];
    const train_flags *f = &r->flags;
    if (f->resume && train_file_exists(f->output, "last.h5")) {
        OCT_TRY(oct_session_file(path, f->output, "last.h5", &r->c.ctx->error));
        OCT_TRY(oct_checkpoint_read(&r->start, path, r->c.ctx));
        if (!r->start.resumable)
            return oct_fail(&r->c.ctx->error, OCT_ERR_FORMAT, "%s holds no training state to resume from",
                            path);
        r->resumed = r->loaded = true;
        return OCT_OK;
    }
    if (f->resume) cli_note(&r->c, "%s: no checkpoint yet, starting afresh", f->output);
    if (!f->pretrained) return OCT_OK;
    r->loaded = true;
    return read_pretrained(r, f->pretrained);
}

static const oct_node *image_node(const oct_graph *g, const oct_model *m)
{
    return oct_graph_node(g, m->image);
}

/* Channels of the images the starting file wants; 0 = free to choose. */
static int start_channels(const train_run *r)
{
    return r->start.graph && (r->resumed || !r->flags.model)
               ? image_node(r->start.graph, &r->start.model)->shape.dim[3]
               : 0;
}

static int start_size(const train_run *r)
{
    return r->start.graph && (r->resumed || !r->flags.model)
               ? image_node(r->start.graph, &r->start.model)->shape.dim[1]
               : 0;
}

static oct_status check_preprocessing(const train_run *r)
{
    const train_flags *f = &r->flags;
    int channels = r->data.channels;
    if ((!f->mean || f->mean_count == channels) && (!f->scale || f->scale_count == channels)) return OCT_OK;
    return oct_fail(&r->c.ctx->error, OCT_ERR_ARGUMENT, "--mean and --scale: expected %d numbers, one per channel",
                    channels);
}

/* 0..255 to about zero mean and unit variance; a file's own preprocessing where it fits. */
static oct_status choose_preprocessing(const train_run *r, oct_normalize_attrs *a)
{
    static const oct_normalize_attrs rgb = {{123.675f, 116.28f, 103.53f, 0},
                                            {0.017125f, 0.017507f, 0.017429f, 1}};
    static const oct_normalize_attrs grey = {{72.94f, 0, 0, 0}, {0.01132f, 1, 1, 1}};
    const train_flags *f = &r->flags;
    int channels = r->data.channels;
    *a = channels == 3   ? rgb
         : channels == 1 ? grey
                         : (oct_normalize_attrs){{128, 128, 128, 128}, {.0156f, .0156f, .0156f, .0156f}};
    const oct_node *old =
        r->start.graph ? oct_graph_node(r->start.graph, oct_graph_find(r->start.graph, "normalize")) : NULL;
    if (old && old->op == &oct_op_normalize &&
        image_node(r->start.graph, &r->start.model)->shape.dim[3] == channels)
        *a = *(const oct_normalize_attrs *)old->attrs;
    OCT_TRY(check_preprocessing(r));
    for (int i = 0; i < f->mean_count; i++) a->mean[i] = (float)f->means[i];
    for (int i = 0; i < f->scale_count; i++) a->scale[i] = (float)f->scales[i];
    return OCT_OK;
}

/* The file of --pretrained into a network of --model. Preprocessing that the command line gives stays; a checkpoint's
 * own was chosen before. */
static oct_status load_weights(train_run *r)
{
    const char *path = r->flags.pretrained;
    oct_load_options options = {.strict = data_given.strict, .new_head = r->flags.new_head};
    oct_weights weights;
    oct_load_report *report = NULL;
    OCT_TRY(oct_weights_read(&weights, path, &r->c.ctx->error));
    oct_status status = oct_weights_load(r->graph, r->model.name, &weights, path, &options,
                                         r->flags.mean || r->flags.scale, &report);
    oct_weights_release(&weights);
    load_tell(&r->c, path, report);
    oct_load_report_destroy(report);
    return status;
}

static oct_status build_model(train_run *r)
{
    oct_model_options options = {.height = r->data.size,
                                 .width = r->data.size,
                                 .channels = r->data.channels,
                                 .classes = r->data.classes,
                                 .label_smoothing =
                                     r->flags.label_smoothing > 0 ? (float)r->flags.label_smoothing : 0};
    OCT_TRY(choose_preprocessing(r, &options.preprocess));
    OCT_TRY(oct_graph_create(&r->graph, r->c.ctx, (uint64_t)r->flags.seed));
    OCT_TRY(oct_model_build(&r->model, r->graph, r->flags.model, &options));
    return r->loaded ? load_weights(r) : OCT_OK;
}

static oct_status set_label_smoothing(train_run *r)
{
    const oct_node *loss = oct_graph_node(r->graph, r->model.loss);
    if (r->flags.label_smoothing < 0 || !loss || loss->op != &oct_op_softmax_cross_entropy) return OCT_OK;
    oct_cross_entropy_attrs attrs = *(const oct_cross_entropy_attrs *)loss->attrs;
    attrs.smoothing = (float)r->flags.label_smoothing;
    oct_value inputs[2] = {{loss->inputs[0]}, {loss->inputs[1]}};
    return oct_graph_replace(r->graph, r->model.loss, loss->op, &attrs, inputs, 2);
}

static oct_status take_model(train_run *r)
{
    const oct_checkpoint *s = &r->start;
    const oct_node *image = image_node(s->graph, &s->model),
                   *head = oct_graph_node(s->graph, s->model.logits);
    const char *what = r->resumed ? r->flags.output : r->flags.pretrained;
    OCT_TRY(data_check_classes(&r->data, &r->c, what, (int)oct_shape_sample(&head->shape)));
    OCT_TRY(data_check_images(&r->data, &r->c, what, image->shape.dim[1], image->shape.dim[2],
                              image->shape.dim[3]));
    if (oct_quantize_points(s->graph) && !r->flags.quantize)
        return oct_fail(&r->c.ctx->error, OCT_ERR_ARGUMENT, "%s is quantized: --quantize goes on training it",
                        what);
    if (r->start.graph && !r->start.state) OCT_TRY(check_preprocessing(r));
    else if (!r->resumed && (r->flags.mean || r->flags.scale))
        return fail(r, OCT_ERR_ARGUMENT,
                    "--mean and --scale belong to the model of --pretrained; they need --model");
    r->model = s->model;
    r->graph = oct_checkpoint_take_graph(&r->start);
    return r->resumed ? OCT_OK : set_label_smoothing(r);
}

static oct_status make_model(train_run *r)
{
    OCT_TRY(r->start.graph && (r->resumed || !r->flags.model) ? take_model(r) : build_model(r));
    if (r->model.task != OCT_CLASSIFY)
        return fail(r, OCT_ERR_UNSUPPORTED,
                    "the model is no classifier; train works on labels. oct_trainer (train/trainer.h) takes it");
    if (!r->resumed && r->flags.quantize && quantized(r))
        cli_note(&r->c, "%s is quantized already: its configuration stays", r->flags.pretrained);
    if (!r->resumed && r->flags.quantize && !quantized(r)) {
        cli_note(&r->c, "quantizer:");
        OCT_TRY(oct_quantize(r->graph, &r->flags.config, r->flags.quiet ? NULL : cli_note_line, &r->c));
    }
    if (r->flags.print_model)
        oct_model_print(r->graph, r->flags.json ? cli_note_line : cli_print_line, &r->c);
    return OCT_OK;
}

/* What every file of the run says about the model. */
static oct_status describe(train_run *r)
{
    const train_flags *f = &r->flags;
    r->fingerprint = train_fingerprint(f, r->data.size);
    bool own_quantizer = f->quantize && !(r->start.info.quantize && quantized(r) && !f->model);
    r->quantize_text = own_quantizer ? train_quantize_text(f) : oct_strdup(r->start.info.quantize);
    r->spec = oct_strdup(f->model ? f->model : r->start.info.model);
    r->classes = oct_calloc((size_t)r->data.classes, sizeof *r->classes);
    if (!r->fingerprint || !r->classes) return oct_out_of_memory(r->c.ctx, "description of the run");
    bool named = true;
    for (int i = 0; i < r->data.classes; i++) {
        r->classes[i] = oct_dataset_class_name(r->data.set, i);
        named &= r->classes[i] != NULL;
    }
    r->info = (oct_checkpoint_info){.model = r->spec,
                                    .options = r->fingerprint,
                                    .augment = oct_augment_name(f->recipe),
                                    .fit = r->data.fit,
                                    .quantize = quantized(r) ? r->quantize_text : NULL,
                                    .classes = named ? r->classes : NULL,
                                    .class_count = named ? r->data.classes : 0};
    return OCT_OK;
}

static oct_status check_resume(train_run *r)
{
    char differences[900];
    if (!r->resumed) return OCT_OK;
    train_compare(differences, sizeof differences, r->fingerprint, r->start.info.options);
    if (!*differences) return OCT_OK;
    return oct_fail(&r->c.ctx->error, OCT_ERR_ARGUMENT, "cannot resume %s with other flags: %s",
                    r->flags.output, differences);
}

static void tell_start(const train_run *r)
{
    oct_model_size size = oct_model_measure(r->graph);
    const cli *c = &r->c;
    int64_t images = oct_loader_samples(r->train);
    cli_note(
        c, "%s: %" PRId64 " parameters, %.2f MMAC; %s: %" PRId64 " images an epoch, %d classes, %dx%dx%d; %s",
        r->spec ? r->spec : "model", size.parameters, (double)size.macs * 1e-6, data_given.path, images,
        r->data.classes, r->data.size, r->data.size, r->data.channels, r->folder);
    if (r->validation && r->validation_split == OCT_SPLIT_TEST)
        cli_note(c, "best.h5 is chosen on the test images: there are no validation images (--val-split F "
                    "holds some out)");
    if (!r->validation)
        cli_note(c, "no validation and no test images: nothing is scored, there is no best.h5");
    cJSON *event = cli_event(c, "start");
    cJSON_AddStringToObject(event, "task", "train");
    if (r->spec) cJSON_AddStringToObject(event, "model", r->spec);
    cli_add(event, "parameters", (double)size.parameters, 0);
    cli_add(event, "macs", (double)size.macs, 0);
    cli_add(event, "images", (double)images, 0);
    cli_add(event, "classes", r->data.classes, 0);
    if (r->validation) cJSON_AddStringToObject(event, "best_on", oct_split_name(r->validation_split));
    cJSON_AddBoolToObject(event, "quantized", quantized(r));
    cJSON_AddBoolToObject(event, "resumed", r->resumed);
    cJSON_AddStringToObject(event, "output", r->folder);
    cli_emit(c, event);
}

static oct_status make_loaders(train_run *r)
{
    const train_flags *f = &r->flags;
    oct_loader_options options = {.split = OCT_SPLIT_TRAIN,
                                  .batch_size = (int)f->batch,
                                  .size = r->data.size,
                                  .augment = f->recipe,
                                  .fit = r->data.fit,
                                  .jitter = f->color,
                                  .training = 1,
                                  .seed = (uint64_t)f->seed,
                                  .epoch_size = f->epoch_size,
                                  .workers = (int)data_given.workers,
                                  .strict = data_given.strict};
    OCT_TRY(oct_loader_create(&r->train, r->c.ctx, r->data.set, &options));
    if (!data_validation_split(&r->data, &r->validation_split)) return OCT_OK;
    return data_evaluation_loader(&r->validation, &r->data, &r->c, r->validation_split, (int)f->batch,
                                  f->recipe, 0);
}

/* The starting file's way of resizing goes with its image size; of another size only the filter stays. */
static oct_status choose_fit(train_run *r)
{
    oct_fit stored = r->start.info.fit;
    bool same_size = r->start.graph && image_node(r->start.graph, &r->start.model)->shape.dim[1] == r->data.size;
    if (!same_size && stored.resize != OCT_RESIZE_SQUASH) stored.resize = 0;
    return data_choose_fit(&r->data, &r->c, &stored, r->flags.recipe);
}

oct_status train_prepare(train_run *r)
{
    OCT_TRY(read_start(r));
    OCT_TRY(data_open(&r->data, &r->c, start_channels(r)));
    OCT_TRY(data_choose_size(&r->data, &r->c, start_size(r)));
    OCT_TRY(train_choose_recipe(&r->flags, r->data.size, &r->c.ctx->error));
    OCT_TRY(choose_fit(r));
    OCT_TRY(make_model(r));
    OCT_TRY(describe(r));
    OCT_TRY(check_resume(r));
    OCT_TRY(make_loaders(r));
    OCT_TRY(choose_folder(r));
    OCT_TRY(train_write_config(&r->flags, &r->c, r->folder, r->fingerprint));
    tell_start(r);
    return OCT_OK;
}

void train_release(train_run *r)
{
    oct_session_destroy(r->session);
    oct_trainer_destroy(r->trainer);
    oct_loader_destroy(r->train);
    oct_loader_destroy(r->validation);
    data_close(&r->data);
    oct_graph_destroy(r->graph);
    oct_checkpoint_release(&r->start);
    oct_free(r->classes);
    oct_free(r->fingerprint);
    oct_free(r->quantize_text);
    oct_free(r->spec);
}
