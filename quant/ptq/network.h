/* SPDX-License-Identifier: BSD-2-Clause
 * A quantized graph (quant/quantize.h) as post-training quantization sees it: its layers with weights and its points, in
 * execution order, and graphs made from it. Values are named by node ids, which are the same in all of them:
 *
 *   the quantized graph   what is calibrated and saved; ranges, weights and biases are written here
 *   float twin            the same parameters with every quantizer off
 *   simulation            float arithmetic, activations rounded at the points, weights as the integer layer has them
 *
 * The simulation needs batch norm merged into the weights (oct_ptq_merge_norms): then a layer has one adjustable bias and
 * its weights can be written where the parameters are. It differs from the integer graph by the rounding of float sums.
 */
#ifndef OCT_PTQ_NETWORK_H
#define OCT_PTQ_NETWORK_H

#include "quant/quantize.h"

typedef struct oct_ptq_layer {
    oct_value layer;        /* convolution or linear */
    oct_value weight_quant; /* its fake_quant_weight */
    oct_value norm;         /* batch_norm_fold behind it; invalid without one */
    oct_value weight;       /* parameter */
    oct_value bias;         /* parameter added to each output: beta of the norm, else the layer's bias; invalid without */
    oct_value output;       /* the value in front of the activation: norm, else layer */
    oct_value point;        /* fake_quant that takes the output over; invalid for the last layer */
    int outputs, outputs_last; /* channels, and whether they are the weight's last dimension */
    size_t per_output;      /* weights of a channel */
} oct_ptq_layer;

typedef struct oct_ptq_point {
    oct_value quant;    /* fake_quant */
    oct_value x;        /* what it rounds */
    oct_value observed; /* what ranges are taken from in training */
    oct_sign sign;
    bool fixed;         /* given from outside: no recipe changes the range */
} oct_ptq_point;

typedef struct oct_ptq_net {
    oct_graph *graph;
    oct_value image, logits;
    oct_ptq_layer *layers;
    oct_ptq_point *points;
    int layer_count, point_count;
} oct_ptq_net;

/* Borrows the graph. OCT_ERR_STATE for a float graph, OCT_ERR_UNSUPPORTED when layers share a weight or bias. Caller
 * releases, after failure too. */
OCT_MUST_USE oct_status oct_ptq_net_open(oct_ptq_net *net, oct_graph *graph, oct_value image, oct_value logits);
void oct_ptq_net_close(oct_ptq_net *net);

/* Copies; the caller destroys. `points`: which of net->points round (point_count of them; NULL = all). The simulation's
 * weights: oct_ptq_write_weights for each layer that is to be quantized. */
OCT_MUST_USE oct_status oct_ptq_float_twin(oct_graph **out, const oct_ptq_net *net);
OCT_MUST_USE oct_status oct_ptq_simulation(oct_graph **out, const oct_ptq_net *net, const bool *points);

/* In place, keeping the function: the weights become s*w, the norm becomes the identity plus beta (gamma 1, mean 0, var
 * 1 - eps, TI's offline merge), the layer's own bias in front of a norm becomes 0. Doing it again changes nothing but
 * roundings. */
void oct_ptq_merge_norms(oct_ptq_net *net);

/* Weight element i of output channel o. */
static inline size_t oct_ptq_weight_index(const oct_ptq_layer *l, int o, size_t i)
{
    return l->outputs_last ? i * (size_t)l->outputs + (size_t)o : (size_t)o * l->per_output + i;
}
/* The integer layer's weights as reals, from the graph's parameters and ranges as they are: code * 2^-kw, folded.
 * exponents[outputs] may be NULL. */
OCT_MUST_USE oct_status oct_ptq_quantized_weights(float *weights, int *exponents, const oct_ptq_net *net,
                                                  const oct_ptq_layer *layer);
/* The same, and the rounded bias, into the parameters of a simulation. */
OCT_MUST_USE oct_status oct_ptq_write_weights(oct_graph *simulation, const oct_ptq_net *net, const oct_ptq_layer *layer);

/* The four floats of a point's range in `graph` (the quantized one or a copy). */
float *oct_ptq_range(oct_graph *graph, const oct_ptq_point *point);
/* Sets a range as observed by `batches` batches. */
void oct_ptq_set_range(oct_graph *graph, const oct_ptq_point *point, float lo, float hi, int64_t batches);

/* Position in net->points of a fake_quant node, -1 when it is none. */
int oct_ptq_find_point(const oct_ptq_net *net, oct_value quant);

#endif
