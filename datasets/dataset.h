/* SPDX-License-Identifier: BSD-2-Clause
 * A labelled set of images on disk, whatever its form: what there is, and one image at a time. Order, batches
 * and transforms are the loader's (datasets/loader.h).
 *
 * Forms, found from the path (OCT_DATASET_AUTO tries them in this order):
 *   hdf5    a file: "images" [N,H,W,C] or [N,H,W] unsigned 8 bit, "labels" [N] integers; optional pairs
 *           "val_images"/"val_labels" and "test_images"/"test_labels"; optional strings "class_names".
 *   idx     a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and (optional) the same with
 *           t10k-, each plain or with .gz (also spelled train-images.idx3-ubyte). One channel.
 *   cifar   a folder with data_batch_*.bin and (optional) test_batch.bin: records of 1 label byte and 32 x 32
 *           pixels in three planes; class names from batches.meta.txt when it is there.
 *   list    a folder with labels.txt, or train/ and optional val/, test/ with one each: a path, blanks and a label a
 *           line; empty lines are passed over. Paths are relative to the folder of the list; absolute ones and ones
 *           with ".." are refused. Labels are numbers 0, 1, ... (classes without names, as many as the largest label
 *           needs) or names (the classes are those of the first list, in bytewise order), as the first line says;
 *           with classes.txt in the set's folder (a name a line, of class 0, 1, ...) its names or numbers. Images as
 *           in folder.
 *   folder  train/ and optional val/, test/ (or val/ and test/ alone), each with one folder per class; or one
 *           folder of class folders, of which a fraction is held out for validation. Files named .jpg, .jpeg,
 *           .png or .bmp in any case are images, other files and names that begin with a dot are ignored.
 *           Images of any size, made RGB.
 * Samples are in bytewise order of their names (folder, by class first) or in file order (the others: lines). No
 * image of a folder or a list is opened before it is read. idx and cifar sets are held in memory as they are.
 */
#ifndef OCT_DATASETS_DATASET_H
#define OCT_DATASETS_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/ctx.h"
#include "autograd/base/status.h"
#include "datasets/image.h"

typedef enum oct_dataset_kind {
    OCT_DATASET_AUTO,
    OCT_DATASET_FOLDER,
    OCT_DATASET_IDX,
    OCT_DATASET_CIFAR,
    OCT_DATASET_HDF5,
    OCT_DATASET_LIST
} oct_dataset_kind;

typedef enum oct_split { OCT_SPLIT_TRAIN, OCT_SPLIT_VALIDATION, OCT_SPLIT_TEST } oct_split;
enum { OCT_SPLIT_COUNT = 3 };

/* Half of every split, by the sample's index in the files: calibrate on one, score the other. */
typedef enum oct_subset { OCT_SUBSET_ALL, OCT_SUBSET_EVEN /* 0, 2, ... */, OCT_SUBSET_ODD } oct_subset;

typedef struct oct_dataset_options {
    oct_dataset_kind kind;
    double val_split;        /* share of the training set held out when there is no validation set, below 1;
                                0 = 0.1 for one folder of class folders and none elsewhere; negative = none */
    uint64_t seed;           /* of that split */
    oct_subset subset;       /* taken after that split */
    int channels;            /* folder, list: 1 or 3; 0 = 3. The others have what their files hold. */
    int strict;              /* unreadable images are an error in every loader over this set */
    size_t max_image_pixels; /* larger images are refused before they are decoded; 0 = 1 << 26 */
} oct_dataset_options;

typedef struct oct_dataset oct_dataset;

const char *oct_subset_name(oct_subset subset); /* "all", "even", "odd"; NULL otherwise */
OCT_MUST_USE oct_status oct_subset_parse(oct_subset *subset, const char *name, oct_error *error);

/* "auto", "folder", "idx", "cifar", "hdf5", "list"; NULL for any other value. */
const char *oct_dataset_kind_name(oct_dataset_kind kind);
/* The reverse; OCT_ERR_ARGUMENT names the known ones. */
OCT_MUST_USE oct_status oct_dataset_kind_parse(oct_dataset_kind *kind, const char *name, oct_error *error);
const char *oct_split_name(oct_split split); /* "train", "val", "test" */

/* Opens the set at `path`; `options` NULL = all defaults. Failures, with a message in ctx->error: OCT_ERR_IO
 * (no such path, a file that cannot be read), OCT_ERR_FORMAT (nothing known there, no images, an empty class
 * folder, counts of images and labels that differ, truncated files, labels out of range), OCT_ERR_ARGUMENT,
 * OCT_ERR_MEMORY. *out is NULL then. Caller closes; the context is not used afterwards. */
OCT_MUST_USE oct_status oct_dataset_open(oct_dataset **out, oct_ctx *ctx, const char *path,
                                         const oct_dataset_options *options);
void oct_dataset_close(oct_dataset *dataset); /* NULL is allowed */

oct_dataset_kind oct_dataset_get_kind(const oct_dataset *dataset); /* never OCT_DATASET_AUTO */
const char *oct_dataset_path(const oct_dataset *dataset);
int oct_dataset_class_count(const oct_dataset *dataset);
/* Name of class 0..count-1; NULL when the set does not name its classes. Folders: in bytewise order. */
const char *oct_dataset_class_name(const oct_dataset *dataset, int label);
/* Number of samples; 0 when the set has no such split. */
int64_t oct_dataset_count(const oct_dataset *dataset, oct_split split);
int oct_dataset_channels(const oct_dataset *dataset);
/* Of all images, or 0 when they may differ. */
int oct_dataset_height(const oct_dataset *dataset);
int oct_dataset_width(const oct_dataset *dataset);
/* Whether every image is a file of its own (folder, list): one that cannot be read is then passed over. */
int oct_dataset_has_files(const oct_dataset *dataset);
int oct_dataset_strict(const oct_dataset *dataset);

/* index: 0 .. oct_dataset_count(dataset, split) - 1 in all that follows. */
int32_t oct_dataset_label(const oct_dataset *dataset, oct_split split, int64_t index);
/* The file's path, or PATH:train[17] where the set is one file or a few (17: position in the files of that
 * split as they are on disk). Cut to size - 1 characters. */
void oct_dataset_sample_name(const oct_dataset *dataset, oct_split split, int64_t index, char *name,
                             size_t size);
/* Decodes one sample into *image, whose buffer is used again when large enough. OCT_ERR_FORMAT and OCT_ERR_IO
 * name the file; for folders and lists they mean that this one image is unreadable. May be called by several threads at
 * a time with different images; HDF5 reads take turns, and reads near to the last one fetch a block of
 * consecutive images. */
OCT_MUST_USE oct_status oct_dataset_read(oct_dataset *dataset, oct_split split, int64_t index,
                                         oct_image *image, oct_error *error);
/* The same without a copy where the set is in memory (idx, cifar): true and *view, valid until the close. */
int oct_dataset_peek(const oct_dataset *dataset, oct_split split, int64_t index, oct_view *view);

#endif
