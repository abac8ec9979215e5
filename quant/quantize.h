/* SPDX-License-Identifier: BSD-2-Clause
 * The insertion pass: turns a float graph into one with fake-quant nodes, in place, and says where and why.
 *
 * Rules (docs/quantization.md 4.1 and 4.7): a point behind every float input, every activation (functions of one code run
 * as tables of 256), add, sub, mul, concat, average pool, and behind every convolution, linear layer or batch norm whose only user is not an activation (or batch norm)
 * that takes it over. Max pool, pad, slice,
 * resizes, flatten, reshape and softmax pass codes on. The last layer has quantized weights and an int32 bias but no
 * output point unless asked for. Weights are quantized in every convolution and linear layer. Range state belongs to the
 * edge: a weight used twice gets two ranges. What only a loss's target depends on stays float. Running the pass twice adds
 * nothing.
 */
#ifndef OCT_QUANTIZE_H
#define OCT_QUANTIZE_H

#include "quant/ops.h"

typedef enum oct_per_channel {
    OCT_PER_TENSOR,            /* one exponent or scale per weight tensor */
    OCT_PER_CHANNEL_DEPTHWISE, /* per channel for depthwise convolutions (groups == channels > 1) */
    OCT_PER_CHANNEL_ALL
} oct_per_channel;

typedef struct oct_qconfig {
    oct_profile profile;
    oct_fold_mode fold;
    oct_per_channel per_channel;
    bool quantize_output;  /* a point behind the last layer too */
    bool drop_caps;        /* ReLU6 becomes ReLU, as in TI's tool: its clip alone limits it. For good: the graph with
                            * quantization off has none either */
    float shrink;          /* percent cut from each tail of an observed activation; < 0 = 0.01 (PACT2), 0 (moving average) */
    oct_int8_rounding rounding; /* affine: FLOAT, SINGLE or DOUBLE; SHIFT counts as FLOAT. po2: ignored */
    oct_averaging averaging;    /* of observed ranges */
} oct_qconfig;
#define OCT_QCONFIG_DEFAULT ((oct_qconfig){.shrink = -1})
/* Weights per channel, requantization in float, ranges by moving average. */
#define OCT_QCONFIG_AFFINE                                                                                           \
    ((oct_qconfig){.profile = OCT_AFFINE, .per_channel = OCT_PER_CHANNEL_ALL, .shrink = -1,                          \
                   .rounding = OCT_INT8_ROUND_FLOAT, .averaging = OCT_AVERAGING_MOVING})

/* Receives one line per node: name, op, quantizer (or why there is none). NULL = no report. */
typedef void oct_quantize_line(void *user, const char *text);

/* A transposed convolution becomes zeros between pixels and a convolution; batch norm of images without a layer of its own
 * before it gets a depthwise 1x1 convolution by 1, whose weights (the buffer "<norm>/identity/weight") become its factors.
 * Fails with OCT_ERR_UNSUPPORTED, naming the node, for graphs that cannot be folded or exported (batch norm of features
 * without such a layer, an op without an integer form). The graph is then unusable. */
OCT_MUST_USE oct_status oct_quantize(oct_graph *graph, const oct_qconfig *config, oct_quantize_line *line, void *user);

/* Number of fake_quant nodes; 0 = a float graph. */
int oct_quantize_points(const oct_graph *graph);
/* The first fake_quant node whose range never saw data, or NULL. */
const oct_node *oct_quantize_unobserved(oct_graph *graph);

/* A float graph from a quantized one, in place: every quantizer node is bypassed (the same weights with quantization off). */
OCT_MUST_USE oct_status oct_dequantize_graph(oct_graph *graph);
/* The same, but the points whose node id is set in `keep` (node_count of them; NULL = none) go on rounding: a simulation
 * in float arithmetic whose weights are the parameters as they are. */
OCT_MUST_USE oct_status oct_dequantize_weights(oct_graph *graph, const bool *keep);

#endif
