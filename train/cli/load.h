/* SPDX-License-Identifier: BSD-2-Clause
 * What programs say about weights that were loaded by name.
 */
#ifndef OCT_CLI_LOAD_H
#define OCT_CLI_LOAD_H

#include "train/cli/report.h"
#include "train/model_file.h"

/* Notes on stderr, and with --json an event "load". `report` NULL: nothing. */
void load_tell(const cli *c, const char *path, const oct_load_report *report);

/* Opens any model file; `model` NULL, or the network for files of weights alone (--model), with images of --size. Tells
 * what was loaded. Close after success and failure. */
oct_status load_model_file(oct_model_file *file, const cli *c, const char *path, const char *model);

/* The row of --model for programs that take any model file. */
#define LOAD_MODEL_OPTION(place) \
    ARG_WORD("model", place, "NAME[:k=v]", "network of FILEs of weights alone (.pth, .safetensors)")

#endif
