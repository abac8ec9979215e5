/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/data.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>

data_flags data_given = {.resize = -1};

const arg_option data_options[] = {
    ARG_GROUP("Data:"),
    ARG_WORD("data", &data_given.path, "DIR", "data set (required)"),
    ARG_CHOICE("dataset", &data_given.kind, "KIND", "its kind, default auto", "auto|folder|list|idx|cifar|hdf5"),
    ARG_COUNT("size", &data_given.size, 1, 4096, "pixels", "side of the images in pixels"),
    ARG_NUMBER("val-split", &data_given.val_split, 0, 0.99, NULL,
               "share of the training images held out for validation"),
    ARG_COUNT("split-seed", &data_given.split_seed, 0, 9e15, NULL, "seed of that split, default 0"),
    ARG_COUNT("workers", &data_given.workers, 1, 64, "threads", "decoding threads"),
    ARG_CHOICE("subset", &data_given.subset, "HALF", "every second image by its index in the files, default all",
               "all|even|odd"),
    ARG_COUNT("resize", &data_given.resize, 0, 32768, "pixels",
              "evaluation: short side before the centre crop; 0: both sides straight to size; default the model's"),
    ARG_CHOICE("interpolation", &data_given.interpolation, "NAME", "antialiased, default the model's, else bilinear",
               "bilinear|bicubic"),
    ARG_ON("strict", &data_given.strict, "unreadable images are errors; so are weights missing in a file or not used"),
    ARG_END,
};

oct_status data_open(data_source *data, cli *c, int channels)
{
    *data = (data_source){0};
    oct_dataset_options options = {.val_split = data_given.val_split,
                                   .seed = (uint64_t)data_given.split_seed,
                                   .channels = channels == 1 ? 1 : 3,
                                   .strict = data_given.strict};
    if (data_given.subset) OCT_TRY(oct_subset_parse(&options.subset, data_given.subset, &c->ctx->error));
    if (data_given.kind) OCT_TRY(oct_dataset_kind_parse(&options.kind, data_given.kind, &c->ctx->error));
    OCT_TRY(oct_dataset_open(&data->set, c->ctx, data_given.path, &options));
    data->channels = oct_dataset_channels(data->set);
    data->classes = oct_dataset_class_count(data->set);
    return OCT_OK;
}

void data_close(data_source *data)
{
    oct_dataset_close(data->set);
    data->set = NULL;
}

static oct_split first_split(const data_source *data)
{
    for (int s = 0; s < OCT_SPLIT_COUNT; s++)
        if (oct_dataset_count(data->set, (oct_split)s)) return (oct_split)s;
    return OCT_SPLIT_TRAIN;
}

/* Side of a folder's images when the first readable ones agree; 0 otherwise. */
static int look_at_images(const data_source *data)
{
    enum { LOOKS = 16 };
    oct_split split = first_split(data);
    int64_t count = oct_dataset_count(data->set, split);
    oct_image image = {0};
    int side = 0;
    for (int64_t i = 0; i < LOOKS && i < count; i++) {
        if (oct_dataset_read(data->set, split, i * count / LOOKS % count, &image, NULL) != OCT_OK) continue;
        if (image.height != image.width || (side && image.height != side)) {
            side = 0;
            break;
        }
        side = image.height;
    }
    oct_image_release(&image);
    return side;
}

oct_status data_choose_size(data_source *data, cli *c, int model_size)
{
    int height = oct_dataset_height(data->set), width = oct_dataset_width(data->set);
    data->size = data_given.size ? (int)data_given.size : model_size;
    if (!data->size && height == width) data->size = height;
    if (!data->size && !height) data->size = look_at_images(data);
    if (data->size) return OCT_OK;
    return oct_fail(&c->ctx->error, OCT_ERR_ARGUMENT,
                    "%s: the images are not all square and equal; choose --size N", data_given.path);
}

oct_status data_choose_fit(data_source *data, cli *c, const oct_fit *stored, oct_augment augment)
{
    oct_error *error = &c->ctx->error;
    oct_fit fit = *stored;
    if (data_given.resize >= 0) fit.resize = data_given.resize ? (int)data_given.resize : OCT_RESIZE_SQUASH;
    if (data_given.interpolation) OCT_TRY(oct_filter_parse(&fit.filter, data_given.interpolation, error));
    fit.resize = oct_fit_side(&fit, augment, data->size);
    OCT_TRY(oct_fit_check(&fit, data->size, error));
    data->fit = fit;
    return OCT_OK;
}

bool data_validation_split(const data_source *data, oct_split *split)
{
    *split = oct_dataset_count(data->set, OCT_SPLIT_VALIDATION) ? OCT_SPLIT_VALIDATION : OCT_SPLIT_TEST;
    return oct_dataset_count(data->set, *split) > 0;
}

oct_split data_test_split(const data_source *data)
{
    if (oct_dataset_count(data->set, OCT_SPLIT_TEST)) return OCT_SPLIT_TEST;
    return oct_dataset_count(data->set, OCT_SPLIT_VALIDATION) ? OCT_SPLIT_VALIDATION : OCT_SPLIT_TRAIN;
}

oct_status data_named_split(oct_split *split, const data_source *data, cli *c, const char *name)
{
    *split = *name == 't' && name[1] == 'r' ? OCT_SPLIT_TRAIN
             : *name == 'v'                 ? OCT_SPLIT_VALIDATION
                                            : OCT_SPLIT_TEST;
    if (oct_dataset_count(data->set, *split)) return OCT_OK;
    return oct_fail(&c->ctx->error, OCT_ERR_ARGUMENT, "%s: the data set has no %s images", data_given.path,
                    name);
}

oct_status data_evaluation_loader(oct_loader **loader, const data_source *data, cli *c, oct_split split,
                                  int batch, oct_augment augment, int64_t images)
{
    int64_t count = oct_dataset_count(data->set, split);
    oct_loader_options options = {.split = split,
                                  .batch_size = batch,
                                  .size = data->size,
                                  .augment = augment,
                                  .fit = data->fit,
                                  .workers = (int)data_given.workers,
                                  .strict = data_given.strict};
    if (images > 0 && images < count) options.epoch_size = images == 1 ? 1e-12 : (double)images;
    return oct_loader_create(loader, c->ctx, data->set, &options);
}

oct_status data_check_classes(const data_source *data, cli *c, const char *what, int classes)
{
    bool open = oct_dataset_get_kind(data->set) == OCT_DATASET_LIST && !oct_dataset_class_name(data->set, 0);
    if (data->classes == classes || (open && data->classes < classes)) return OCT_OK;
    return oct_fail(&c->ctx->error, OCT_ERR_SHAPE, "%s has %d classes, the data set %s has %d", what, classes,
                    data_given.path, data->classes);
}

oct_status data_check_images(const data_source *data, cli *c, const char *what, int height, int width,
                             int channels)
{
    if (data->size == height && data->size == width && data->channels == channels) return OCT_OK;
    return oct_fail(&c->ctx->error, OCT_ERR_SHAPE,
                    "%s takes images of %dx%dx%d, the data set %s gives %dx%dx%d", what, height, width,
                    channels, data_given.path, data->size, data->size, data->channels);
}

void data_report_unreadable(const oct_loader *loader, const cli *c, const char *split)
{
    int64_t count = loader ? oct_loader_unreadable_count(loader) : 0;
    if (!count) return;
    cli_warn(c, "%s: %" PRId64 " unreadable image%s left out of the %s split:", data_given.path, count,
             count == 1 ? "" : "s", split);
    cJSON *event = cli_event(c, "unreadable");
    cJSON_AddStringToObject(event, "split", split);
    cli_add(event, "count", (double)count, 0);
    cJSON *names = cJSON_AddArrayToObject(event, "images");
    for (int64_t i = 0; oct_loader_unreadable(loader, i); i++) {
        cli_warn(c, "  %s", oct_loader_unreadable(loader, i));
        if (names) cJSON_AddItemToArray(names, cJSON_CreateString(oct_loader_unreadable(loader, i)));
    }
    cli_emit(c, event);
}
