/* SPDX-License-Identifier: BSD-2-Clause
 * For authors of executable steps (oct_exec): sizes, scratch layouts, cutting of work, sums of partial results. The built-in ops
 * and the quantizer's fused steps are written with these; an op of your own may be, too.
 */
#ifndef OCT_STEP_H
#define OCT_STEP_H

#include "autograd/ops.h"
#include "autograd/plan.h"

/* Elements of a node's output for a batch; nodes without a batch dimension have the same number for any
 * batch. */
size_t oct_node_elements(const oct_node *node, int batch);
static inline int oct_last_dim(const oct_node *node)
{
    return node->shape.rank ? node->shape.dim[node->shape.rank - 1] : 1;
}
static inline const oct_node *oct_unit_node(const oct_graph *graph, const oct_unit *unit)
{
    return graph->nodes[unit->last];
}

/* Cuts a block of memory into 64-byte aligned pieces. With base NULL it only counts, so that the size of a
 * scratch area and its layout come from one function; `used` sticks at SIZE_MAX on overflow. */
typedef struct oct_carve {
    char *base;
    size_t used;
} oct_carve;
void *oct_carve_take(oct_carve *carve, size_t count, size_t size); /* NULL when only counting */

/* --- cutting of work: borders depend on the problem alone --- */

/* Elements of one item of an elementwise loop: 64 KiB of floats. */
enum { OCT_FLAT_ITEM = 16384 };
static inline int64_t oct_flat_items(size_t elements)
{
    return (int64_t)((elements + OCT_FLAT_ITEM - 1) / OCT_FLAT_ITEM);
}
/* Elements of item `item`, which start at item * OCT_FLAT_ITEM. */
static inline size_t oct_flat_count(size_t elements, int64_t item)
{
    size_t rest = elements - (size_t)item * OCT_FLAT_ITEM;
    return rest < OCT_FLAT_ITEM ? rest : OCT_FLAT_ITEM;
}
/* Border i of `count` things cut into `chunks` even pieces: piece i is [border(i), border(i+1)). */
static inline size_t oct_chunk_border(size_t count, int chunks, int64_t i)
{
    return count / (size_t)chunks * (size_t)i + count % (size_t)chunks * (size_t)i / (size_t)chunks;
}

/* to[i] (+)= sum over chunks k ascending of partial[k*stride + i], in double, for i < n. */
void oct_combine(float *to, int accumulate, const double *partial, int chunks, size_t stride, size_t n);

/* Copies or adds n floats: to (+)= from. They may be the same memory only when accumulate is 0. */
void oct_copy_or_add(const oct_f32_kernels *f32, float *to, const float *from, size_t n, int accumulate);

#endif
