/* SPDX-License-Identifier: BSD-2-Clause
 * Copies named tensors of a file into a graph: finds the map of names (layers/import/names.h) under which most of the
 * graph's parameters and buffers are in the file, turns layouts, and says exactly what it did.
 *
 *   - Prefixes that all tensors have ("module." of DistributedDataParallel, "_orig_mod." of torch.compile, "model.")
 *     are ignored, and so is num_batches_tracked.
 *   - PyTorch's weights O,I,H,W become O,H,W,I, depthwise C,1,H,W become H,W,C; the columns of a linear layer behind
 *     flatten C,H,W become H,W,C; a 1x1 convolution serves as a linear layer.
 *   - Buffers of quantizers are no business of foreign files: they stay, and are not counted.
 *
 * Nothing is copied unless everything may be: a failed load leaves the graph as it was.
 */
#ifndef OCT_LAYERS_IMPORT_LOAD_H
#define OCT_LAYERS_IMPORT_LOAD_H

#include "layers/import/names.h"
#include "layers/import/tensors.h"

typedef struct oct_load_options {
    oct_layout layout;
    bool strict;   /* missing and unexpected tensors are errors, too */
    bool new_head; /* "head" keeps its values where the file's has another number of classes */
} oct_load_options;

typedef enum oct_load_problem {
    OCT_LOAD_MISSING,    /* in the graph, not in the file: left as it is */
    OCT_LOAD_UNEXPECTED, /* in the file, not in the graph */
    OCT_LOAD_MISMATCHED, /* in both, shapes differ: an error */
    OCT_LOAD_NEW         /* the same of the head, which stays as it is on request */
} oct_load_problem;
const char *oct_load_problem_name(oct_load_problem problem); /* "missing", "unexpected", "shape differs", "new" */

typedef struct oct_load_item {
    oct_load_problem problem;
    const char *node;   /* of the graph; NULL when unexpected */
    const char *source; /* of the file; NULL when missing and no name is known */
    char shapes[160];   /* "[10,512] here, [1000,512] in the file"; of one side where there is only one */
} oct_load_item;

typedef struct oct_load_report {
    const oct_name_map *map;
    const char *prefix;  /* ignored in front of all names; "" = none */
    int matched;         /* copied */
    int transposed;      /* of those, with another layout than the file's */
    int missing, unexpected, mismatched, renewed;
    int ignored;         /* num_batches_tracked */
    int64_t parameters;  /* elements of parameter nodes that were copied */
    int64_t buffers;
    oct_load_item *items; /* all that was not copied, in the order of the graph, then of the file */
    int item_count;
    struct oct_arena *arena;
} oct_load_report;

/* *report is made also when OCT_ERR_SHAPE is returned (shapes differ; nothing fits; strict), NULL on other failures:
 * OCT_ERR_NUMERIC (a value is NaN or infinite), OCT_ERR_MEMORY. The caller destroys it. */
OCT_MUST_USE oct_status oct_load_tensors(oct_graph *graph, const oct_tensors *tensors, const oct_load_options *options,
                                         oct_load_report **report);
void oct_load_report_destroy(oct_load_report *report); /* NULL is allowed */

/* One line with the counts, then one per item, at most `max_items` and a line about the rest. */
void oct_load_report_print(const oct_load_report *report, const char *file, int max_items,
                           void (*line)(void *user, const char *text), void *user);

/* Number of classes in the file: outputs of the tensor that "head/weight" of the graph would take, whatever its own;
 * 0 = not found. */
int32_t oct_load_classes(const oct_graph *graph, const oct_tensors *tensors, oct_layout layout);

#endif
