/* SPDX-License-Identifier: BSD-2-Clause
 * Helpers of the built-in ops: shape rules with their messages, scratch layouts, sums of partial results.
 */
#include "autograd/ops_internal.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"

oct_status oct_rule_fail(const oct_graph *graph, const oct_node *node, oct_status status, const char *format,
                         ...)
{
    char text[OCT_ERROR_BYTES / 2];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return oct_fail(&graph->ctx->error, status, "%s '%s': %s", node->op->name, node->name, text);
}

oct_status oct_rule_float(const oct_graph *graph, const oct_node *node, int i, const char *role)
{
    const oct_node *in = oct_node_input(graph, node, i);
    if (in->dtype == OCT_F32) return OCT_OK;
    return oct_rule_fail(graph, node, OCT_ERR_SHAPE,
                         "input %d (%s '%s') has elements of type %s, expected f32", i, role, in->name,
                         in->dtype == OCT_U8 ? "u8" : "i32");
}

oct_status oct_rule_rank(const oct_graph *graph, const oct_node *node, int i, const char *role, int rank,
                         const char *form)
{
    OCT_TRY(oct_rule_float(graph, node, i, role));
    const oct_node *in = oct_node_input(graph, node, i);
    bool batched = in->shape.rank > 0 && in->shape.dim[0] == OCT_BATCH;
    if (in->shape.rank == rank && batched == (form[1] == 'N')) return OCT_OK;
    char found[OCT_SHAPE_TEXT];
    return oct_rule_fail(graph, node, OCT_ERR_SHAPE, "input %d (%s '%s') has shape %s, expected %s", i, role,
                         in->name, oct_shape_text(found, &in->shape), form);
}

oct_status oct_rule_shape(const oct_graph *graph, const oct_node *node, int i, const char *role,
                          oct_shape expected)
{
    OCT_TRY(oct_rule_float(graph, node, i, role));
    const oct_node *in = oct_node_input(graph, node, i);
    if (oct_shape_equal(&in->shape, &expected)) return OCT_OK;
    char found[OCT_SHAPE_TEXT], wanted[OCT_SHAPE_TEXT];
    return oct_rule_fail(graph, node, OCT_ERR_SHAPE, "input %d (%s '%s') has shape %s, expected %s", i, role,
                         in->name, oct_shape_text(found, &in->shape), oct_shape_text(wanted, &expected));
}

oct_status oct_rule_output(const oct_graph *graph, oct_node *node, oct_shape shape)
{
    if (oct_shape_sample(&shape) == 0) {
        char text[OCT_SHAPE_TEXT];
        return oct_rule_fail(graph, node, OCT_ERR_SHAPE,
                             "the output would have shape %s, expected 1 to 2^31-1 elements per sample",
                             oct_shape_text(text, &shape));
    }
    node->shape = shape;
    node->dtype = OCT_F32;
    return OCT_OK;
}

oct_status oct_rule_same(const oct_graph *graph, oct_node *node)
{
    OCT_TRY(oct_rule_float(graph, node, 0, "x"));
    return oct_rule_output(graph, node, oct_node_input(graph, node, 0)->shape);
}

oct_status oct_rule_window(const oct_graph *graph, const oct_node *node, const oct_window_axis *axis,
                           int32_t *outputs)
{
    int64_t padded = (int64_t)axis->size + axis->before + axis->after;
    int64_t room = padded - (int64_t)axis->dilation * (axis->kernel - 1) - 1;
    if (room < 0) {
        return oct_rule_fail(
            graph, node, OCT_ERR_SHAPE,
            "a kernel of %d with dilation %d does not fit the %s of x with padding, %lld pixels",
            axis->kernel, axis->dilation, axis->name, (long long)padded);
    }
    if (padded > INT32_MAX) {
        return oct_rule_fail(graph, node, OCT_ERR_SHAPE,
                             "the %s of x with padding is %lld pixels, expected at most 2^31-1", axis->name,
                             (long long)padded);
    }
    *outputs = (int32_t)(room / axis->stride + 1);
    return OCT_OK;
}

size_t oct_node_elements(const oct_node *node, int batch)
{
    size_t sample = oct_shape_sample(&node->shape);
    return node->shape.rank > 0 && node->shape.dim[0] == OCT_BATCH ? sample * (size_t)batch : sample;
}

void *oct_carve_take(oct_carve *carve, size_t count, size_t size)
{
    size_t bytes, end;
    if (!oct_size_mul(&bytes, count, size) || bytes > SIZE_MAX / 2 ||
        !oct_size_add(&end, carve->used, oct_size_align(bytes))) {
        carve->used = SIZE_MAX;
        return NULL;
    }
    void *piece = carve->base ? carve->base + carve->used : NULL;
    carve->used = end;
    return piece;
}

void oct_combine(float *to, int accumulate, const double *partial, int chunks, size_t stride, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (int k = 0; k < chunks; k++) sum += partial[(size_t)k * stride + i];
        to[i] = accumulate ? to[i] + (float)sum : (float)sum;
    }
}

void oct_copy_or_add(const oct_f32_kernels *f32, float *to, const float *from, size_t n, int accumulate)
{
    if (accumulate) {
        f32->add(to, to, from, n);
    } else if (to != from) {
        memcpy(to, from, n * sizeof *to);
    }
}

void oct_sums_clear(const oct_partial_sums *sums, int64_t chunk, int channels)
{
    size_t n = (size_t)channels, at = (size_t)chunk * n;
    memset(sums->sum + at, 0, n * sizeof *sums->sum);
    memset(sums->square + at, 0, n * sizeof *sums->square);
}
