/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/pass.h"

#include <math.h>

#include "quant/grid.h"
#include "quant/int8/requant.h"

void oct_int8_dims(oct_int8_tensor *t, const oct_shape *s)
{
    t->channels = s->dim[s->rank - 1];
    t->width = s->rank > 2 ? s->dim[s->rank - 2] : 1;
    t->height = s->rank > 3 ? s->dim[s->rank - 3] : 1;
}

static void set_pool(oct_int8_layer *l, const oct_graph *g, const oct_node *n)
{
    l->dilation_h = l->dilation_w = l->groups = 1;
    if (n->op == &oct_op_global_average_pool) {
        const oct_shape *x = &oct_node_input(g, n, 0)->shape;
        l->kernel_h = x->dim[1], l->kernel_w = x->dim[2];
        l->stride_h = l->stride_w = 1;
        return;
    }
    const oct_pool_attrs *a = n->attrs;
    l->kernel_h = a->kernel[0], l->kernel_w = a->kernel[1];
    l->stride_h = a->stride[0], l->stride_w = a->stride[1];
    l->pad_top = a->pad[0], l->pad_left = a->pad[1], l->pad_bottom = a->pad[2], l->pad_right = a->pad[3];
}

static void set_pad(oct_int8_layer *l, const oct_node *n)
{
    const oct_pad_attrs *a = n->attrs;
    l->dilation_h = a->interior[0] + 1, l->dilation_w = a->interior[1] + 1;
    l->stride_h = l->stride_w = 1;
    l->pad_top = a->before[0], l->pad_left = a->before[1];
    l->option = -a->before[2];
}

static void set_slice(oct_int8_layer *l, const oct_node *n)
{
    const oct_slice_attrs *a = n->attrs;
    l->dilation_h = l->dilation_w = 1;
    l->stride_h = a->step[0], l->stride_w = a->step[1];
    l->pad_top = -a->begin[0], l->pad_left = -a->begin[1];
    l->option = a->begin[2];
}

_Static_assert(OCT_RESIZE_HALF_PIXEL == 0 && OCT_RESIZE_ASYMMETRIC == 1 && OCT_RESIZE_ALIGN_CORNERS == 2,
               "the engine's grids have these numbers");

void oct_pass_layer(oct_int8_layer *l, const oct_graph *g, const oct_node *n)
{
    const oct_op *op = n->op;
    l->op = op == &oct_op_max_pool          ? OCT_INT8_MAX_POOL
            : op == &oct_op_flatten         ? OCT_INT8_FLATTEN
            : op == &oct_op_reshape         ? OCT_INT8_RESHAPE
            : op == &oct_op_resize_nearest  ? OCT_INT8_RESIZE_NEAREST
            : op == &oct_op_resize_bilinear ? OCT_INT8_RESIZE_BILINEAR
            : op == &oct_op_softmax         ? OCT_INT8_SOFTMAX
            : op == &oct_op_argmax          ? OCT_INT8_ARGMAX
            : op == &oct_op_average_pool || op == &oct_op_global_average_pool ? OCT_INT8_AVERAGE_POOL
                                                                              : OCT_INT8_PAD;
    if (l->op == OCT_INT8_MAX_POOL || l->op == OCT_INT8_AVERAGE_POOL) set_pool(l, g, n);
    if (l->op == OCT_INT8_RESIZE_NEAREST || l->op == OCT_INT8_RESIZE_BILINEAR)
        l->option = ((const oct_resize_attrs *)n->attrs)->grid;
    if (l->op != OCT_INT8_PAD) return;
    l->kernel_h = l->kernel_w = l->groups = 1;
    if (op == &oct_op_slice)
        set_slice(l, n);
    else
        set_pad(l, n);
}

int oct_table_rows(const oct_node *n)
{
    return n->op == &oct_op_prelu ? n->shape.dim[n->shape.rank - 1] : 1;
}

void oct_table_values(double *values, const oct_node *n, const float *slopes, double scale, int zero_point, int is_signed)
{
    for (int row = 0; row < oct_table_rows(n); row++) {
        for (int byte = 0; byte < 256; byte++) {
            double x = scale * ((is_signed ? (int8_t)byte : byte) - zero_point), slope = slopes ? (double)slopes[row] : 0;
            *values++ = !slopes ? oct_unary_value(n, x) : x > 0 ? x : slope * x;
        }
    }
}

void oct_table_codes(uint8_t *codes, const double *values, size_t count, const oct_clip_codes *clip)
{
    double kappa = ldexp(1, clip->exponent);
    for (size_t i = 0; i < count; i++) {
        double q = oct_round_up_f64(values[i] * kappa);
        codes[i] = (uint8_t)(clip->affine        ? oct_grid_code(clip, (float)values[i])
                             : q <= clip->lo ? clip->lo
                             : q >= clip->hi ? clip->hi
                                             : (int)q);
    }
}

void oct_softmax_table(uint8_t table[OCT_SOFTMAX_TABLE_ROWS * 256], double scale)
{
    for (int d = 0; d < 256; d++) {
        uint32_t e = (uint32_t)nearbyint(ldexp(exp(-d * scale), 23));
        for (int row = 0; row < OCT_SOFTMAX_TABLE_ROWS; row++) table[256 * row + d] = (uint8_t)(e >> 8 * row);
    }
}
