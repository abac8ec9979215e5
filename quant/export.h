/* SPDX-License-Identifier: BSD-2-Clause
 * The export pass: a quantized graph (quant/quantize.h) -> the int8 model as data (quant/int8/spec.h), folded: codes, shifts,
 * 32-bit biases, limits. Reads the running statistics and the ranges as they are; changes nothing. The same fold
 * (quant/fold.h) and tables as training, so the engine gives the codes of fake-quant evaluation.
 */
#ifndef OCT_EXPORT_H
#define OCT_EXPORT_H

#include "quant/int8/spec.h"
#include "quant/quantize.h"

typedef struct oct_export_options {
    const char *const *class_names; /* class_count of them, or NULL; borrowed for the call */
    int class_count;
    uint64_t source_digest;         /* of the parameters and buffers (oct_graph_digest) */
} oct_export_options;

typedef struct oct_exported oct_exported;

/* *out = the model, NULL on failure: OCT_ERR_STATE naming the first range that never saw data, OCT_ERR_UNSUPPORTED naming
 * a node without integer form (a float graph included). `image` is the graph's input, `logits` the value to export.
 * Caller destroys. */
OCT_MUST_USE oct_status oct_export_create(oct_exported **out, oct_graph *graph, oct_value image, oct_value logits,
                                          const oct_export_options *options);
void oct_export_destroy(oct_exported *exported); /* NULL is allowed */
/* Borrowed; valid until destroy. Passes oct_int8_spec_check. Layer and tensor names are node names. */
const oct_int8_spec *oct_exported_spec(const oct_exported *exported);

#endif
