/* SPDX-License-Identifier: BSD-2-Clause
 * Any model from a file, decided by content: a checkpoint (float or quantized), an int8 model as HDF5, an int8 model as
 * flat image, a Keras HDF5 or ONNX file (float); and with the name of a network a file of weights alone, as PyTorch writes
 * them.
 */
#ifndef OCT_TRAIN_MODEL_FILE_H
#define OCT_TRAIN_MODEL_FILE_H

#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/pretrained.h"

typedef enum oct_model_kind { OCT_MODEL_FLOAT, OCT_MODEL_QUANTIZED, OCT_MODEL_INT8 } oct_model_kind;
const char *oct_model_kind_name(oct_model_kind kind); /* "float", "quantized", "int8" */

typedef struct oct_model_file {
    oct_ctx *ctx;
    oct_model_kind kind;
    oct_checkpoint checkpoint; /* float, quantized; without a state when the file is not ours */
    oct_int8_model *int8;      /* int8 */
    size_t int8_bytes;         /* of its flat image */
    int height, width, channels, classes;
    oct_augment augment; /* recipe of its training, where that is recorded */
    oct_fit fit;         /* how it wants images brought to size; resize is never 0 */
    oct_load_report *report; /* of files of weights alone, else NULL; also when opening failed because of shapes */
} oct_model_file;

/* OCT_ERR_IO: cannot be read; OCT_ERR_FORMAT: nothing of ours, or damaged. Fills *out, all zero on failure.
 */
OCT_MUST_USE oct_status oct_model_file_open(oct_model_file *out, const char *path, oct_ctx *ctx);
/* The same with the network that files of weights alone need; `source` NULL or without a model: oct_model_file_open.
 * With one, files that bring a network are taken for weights, too. Close also after failure: it keeps the report. */
OCT_MUST_USE oct_status oct_model_file_open_as(oct_model_file *out, const char *path,
                                               const oct_pretrained_options *source, oct_ctx *ctx);
void oct_model_file_close(oct_model_file *file);

const char *oct_model_file_class(const oct_model_file *file, int label); /* NULL when classes have no names */
OCT_MUST_USE oct_status oct_model_file_evaluator(oct_evaluator **out, oct_model_file *file, int batch);

/* The int8 model of a quantized graph, in memory: exported (quant/export.h), written as flat image, opened.
 */
typedef struct oct_int8_build {
    uint8_t *image; /* the flat form; oct_free */
    size_t bytes;
    oct_int8_model *model;
} oct_int8_build;
/* `path` NULL = only in memory; else written as HDF5, or as flat image. `info`: class names and how
 * images are brought to size. `build` may be NULL. OCT_ERR_STATE, OCT_ERR_UNSUPPORTED as oct_export_create.
 */
OCT_MUST_USE oct_status oct_int8_export(oct_int8_build *build, oct_graph *graph, const oct_model *model,
                                        const oct_checkpoint_info *info, const char *path, bool flat);
void oct_int8_build_release(oct_int8_build *build);

#endif
