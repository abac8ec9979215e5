/* SPDX-License-Identifier: BSD-2-Clause
 * linear: a 1x1 convolution of images of one pixel, whose batch is one long row.
 */
#include "autograd/ops_internal.h"

static oct_status linear_infer(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_rank(graph, node, 0, "x", 2, "[N,I]"));
    OCT_TRY(oct_rule_rank(graph, node, 1, "weights", 2, "[O,I]"));
    const oct_shape *x = &oct_node_input(graph, node, 0)->shape, *w = &oct_node_input(graph, node, 1)->shape;
    OCT_TRY(oct_rule_shape(graph, node, 1, "weights", OCT_SHAPE(w->dim[0], x->dim[1])));
    if (node->input_count > 2) OCT_TRY(oct_rule_shape(graph, node, 2, "bias", OCT_SHAPE(w->dim[0])));
    return oct_rule_output(graph, node, OCT_SHAPE(OCT_BATCH, w->dim[0]));
}

oct_conv_geometry oct_linear_geometry(const oct_node *linear, const oct_node *input)
{
    int inputs = input->shape.dim[1], outputs = linear->shape.dim[1];
    return (oct_conv_geometry){
        .in_h = 1,
        .in_w = 1,
        .in_c = inputs,
        .out_h = 1,
        .out_w = 1,
        .out_c = outputs,
        .kernel_h = 1,
        .kernel_w = 1,
        .stride_h = 1,
        .stride_w = 1,
        .dilation_h = 1,
        .dilation_w = 1,
        .groups = 1,
        .group_in = inputs,
        .group_out = outputs,
        .pointwise = true,
    };
}

static int64_t linear_macs(const oct_graph *graph, const oct_node *node)
{
    return (int64_t)oct_node_input(graph, node, 0)->shape.dim[1] * node->shape.dim[1];
}

static oct_status forward(oct_step *step)
{
    oct_conv_geometry g = oct_linear_geometry(step->node, oct_node_input(step->graph, step->node, 0));
    return oct_conv_forward(step, &g);
}

static oct_status backward(oct_step *step)
{
    oct_conv_geometry g = oct_linear_geometry(step->node, oct_node_input(step->graph, step->node, 0));
    return oct_conv_backward(step, &g, NULL);
}

static size_t scratch_bytes(const oct_graph *graph, const oct_unit *unit, int batch, int threads, bool back)
{
    const oct_node *node = oct_unit_node(graph, unit);
    oct_conv_geometry g = oct_linear_geometry(node, oct_node_input(graph, node, 0));
    return back ? oct_conv_backward_scratch(&g, batch, threads, false) : oct_conv_forward_scratch(&g, threads);
}

static oct_status reference_forward(oct_ref *ref)
{
    oct_conv_geometry g = oct_linear_geometry(ref->node, ref->in_node[0]);
    return oct_conv_reference_forward(ref, &g);
}

static oct_status reference_backward(oct_ref *ref)
{
    oct_conv_geometry g = oct_linear_geometry(ref->node, ref->in_node[0]);
    return oct_conv_reference_backward(ref, &g);
}

const oct_op oct_op_linear = {
    .name = "linear",
    .equation = "y[n,o] = b[o] + sum_i x[n,i]*w[o,i]",
    .min_inputs = 2,
    .max_inputs = 3,
    .infer = linear_infer,
    .macs = linear_macs,
    .exec = {.name = "linear",
             .forward = forward,
             .backward = backward,
             .backward_reads = OCT_READS_INPUT(0) | OCT_READS_INPUT(1),
             .scratch_bytes = scratch_bytes},
    .reference = {.forward = reference_forward, .backward = reference_backward},
};
