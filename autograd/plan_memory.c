/* SPDX-License-Identifier: BSD-2-Clause
 * Where tensors live: lifetimes of every block, sharing of memory in place and by views, offsets in one arena (largest
 * first, lowest free offset), and the accumulate flags of gradients that have several contributors. */
#include <stdlib.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/plan_internal.h"

static int forward_time(int unit)
{
    return unit + 1;
}

static int backward_time(const oct_plan *plan, int unit)
{
    return 2 * plan->unit_count - unit;
}

static size_t element_bytes(oct_storage storage)
{
    return storage == OCT_STORE_U8 ? 1 : 4;
}

/* Elements of a node's output over the whole batch. */
static size_t whole_elements(const oct_plan *plan, const oct_node *n)
{
    bool batched = n->shape.rank && n->shape.dim[0] == OCT_BATCH;
    return oct_shape_sample(&n->shape) * (size_t)(batched ? plan->options.batch : 1);
}

static int add_block(oct_plan *plan, size_t bytes, int start, int end)
{
    int i = plan->block_count++;
    plan->blocks[i] = (oct_block){.bytes = bytes, .start = start, .end = end, .root = i};
    return i;
}

static int block_root(const oct_plan *plan, int block)
{
    while (plan->blocks[block].root != block) block = plan->blocks[block].root;
    return block;
}

static void extend_block(oct_plan *plan, int block, int start, int end)
{
    oct_block *b = &plan->blocks[block_root(plan, block)];
    if (start < b->start) b->start = start;
    if (end > b->end) b->end = end;
}

/* Makes `block` use the memory of `other`. */
static void share_block(oct_plan *plan, int block, int other)
{
    oct_block *from = &plan->blocks[block_root(plan, block)];
    int to = block_root(plan, other);
    if (from == &plan->blocks[to]) return;
    from->root = to;
    if (from->bytes > plan->blocks[to].bytes) plan->blocks[to].bytes = from->bytes;
    extend_block(plan, to, from->start, from->end);
}

static bool is_training(const oct_plan *plan)
{
    return plan->options.mode == OCT_TRAIN;
}

/* Does the unit want a gradient for its input i: some member reads it at a slot that has one. */
static bool wants_input_gradient(const oct_plan *plan, const oct_planned *u, int i)
{
    if (!u->unit.exec->backward && !u->unit.exec->view) return false;
    int32_t id = u->unit.inputs[i];
    if (!plan->needs_grad[id]) return false;
    for (int m = 0; m < u->unit.node_count; m++) {
        if (u->unit.nodes[m] < 0) continue;
        const oct_node *n = plan->graph->nodes[u->unit.nodes[m]];
        for (int slot = 0; slot < n->input_count; slot++)
            if (n->inputs[slot] == id && !(n->op->no_gradient & 1u << slot)) return true;
    }
    return false;
}

/* Unit input slots that read node `id`, over all units; *unit and *slot name the last one found. */
static int count_readers(const oct_plan *plan, int32_t id, int *unit)
{
    int readers = 0;
    for (int c = 0; c < plan->unit_count; c++)
        for (int i = 0; i < plan->units[c].unit.input_count; i++)
            if (plan->units[c].unit.inputs[i] == id) {
                readers++;
                *unit = c;
            }
    return readers;
}

static void mark_needs_grad(oct_plan *plan)
{
    const oct_graph *g = plan->graph;
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        bool needs = n->kind == OCT_NODE_PARAMETER;
        for (int i = 0; i < n->input_count && n->kind == OCT_NODE_OP; i++)
            needs |= plan->needs_grad[n->inputs[i]] && !(n->op->no_gradient & 1u << i);
        plan->needs_grad[n->id] = needs && is_training(plan);
    }
}

static bool takes_codes(const oct_planned *u, int i)
{
    return u->unit.exec->view || u->unit.exec->accepts_codes >> i & 1;
}

/* The value's block and its float copy, with lifetimes from the producer to the last reader. */
static void make_value_blocks(oct_plan *plan, int index)
{
    oct_planned *u = &plan->units[index];
    const oct_node *n = plan->graph->nodes[u->unit.last];
    const int after = 2 * plan->unit_count + 1, now = forward_time(index);
    size_t elements = whole_elements(plan, n);
    int end = plan->kept[n->id] ? after : now, decoded_end = -1;
    if (is_training(plan) && u->unit.exec->backward_reads & OCT_READS_OUTPUT) end = backward_time(plan, index);
    for (int c = index + 1; c < plan->unit_count; c++) {
        const oct_planned *reader = &plan->units[c];
        for (int i = 0; i < reader->unit.input_count; i++) {
            if (reader->unit.inputs[i] != n->id) continue;
            int use = forward_time(c);
            if (is_training(plan) && reader->unit.exec->backward_reads & OCT_READS_INPUT(i))
                use = backward_time(plan, c);
            bool codes = u->out.storage != OCT_STORE_U8 || takes_codes(reader, i);
            int *last = codes ? &end : &decoded_end;
            if (use > *last) *last = use;
        }
    }
    u->out.sample = oct_shape_sample(&n->shape);
    u->memory.out = add_block(plan, elements * element_bytes(u->out.storage), now, end);
    u->memory.decoded = -1;
    if (decoded_end >= 0) {
        u->memory.decoded = add_block(plan, elements * sizeof(float), now, decoded_end);
        u->decoded = (oct_tensor){.sample = u->out.sample, .storage = OCT_STORE_F32};
    }
}

/* --- values and gradients that are not made (batch norm between convolutions) --- */

static bool readers_accept_affine(const oct_plan *plan, int32_t id)
{
    int readers = 0;
    for (int c = 0; c < plan->unit_count; c++)
        for (int i = 0; i < plan->units[c].unit.input_count; i++)
            if (plan->units[c].unit.inputs[i] == id) {
                if (!(plan->units[c].unit.exec->accepts_affine >> i & 1)) return false;
                readers++;
            }
    return readers > 0;
}

static oct_planned *producer_of_input(oct_plan *plan, const oct_planned *u)
{
    int producer = plan->unit_of[u->unit.inputs[0]];
    return producer < 0 ? NULL : &plan->units[producer];
}

/* Leaves the output of a batch norm to its readers, which make it from the batch norm's input as they read it. */
static void mark_lazy_output(oct_plan *plan, int index)
{
    oct_planned *u = &plan->units[index], *p = producer_of_input(plan, u);
    if (!u->unit.exec->lazy_out || !p || p->out.storage != OCT_STORE_F32 || plan->kept[u->unit.last]) return;
    if (!readers_accept_affine(plan, u->unit.last)) return;
    u->step.lazy_out = true;
    u->out.storage = OCT_STORE_AFFINE;
}

static void mark_sums(oct_plan *plan, int index)
{
    oct_planned *u = &plan->units[index], *p = producer_of_input(plan, u);
    if (!is_training(plan) || !u->unit.exec->wants_sums || !p || !p->unit.exec->makes_sums) return;
    const oct_node *n = plan->graph->nodes[p->unit.last];
    size_t channels = (size_t)n->shape.dim[n->shape.rank - 1];
    p->memory.sums = add_block(plan, 2 * OCT_SUM_CHUNKS * channels * sizeof(double),
                               forward_time(plan->unit_of[p->unit.last]), forward_time(index));
}

/* Leaves the gradient of a batch norm's input to the convolution that made that input. */
static void mark_lazy_gradient(oct_plan *plan, int index)
{
    oct_planned *u = &plan->units[index], *p = producer_of_input(plan, u);
    int reader = -1;
    if (!u->runs_backward || !u->unit.exec->lazy_d_in || !p || !p->runs_backward) return;
    if (!p->unit.exec->takes_lazy_gradient || p->memory.d_out < 0 || p->out.storage != OCT_STORE_F32) return;
    if (count_readers(plan, u->unit.inputs[0], &reader) != 1) return;
    u->step.lazy_d_in = true;
    extend_block(plan, p->memory.out, forward_time(index), backward_time(plan, plan->unit_of[p->unit.last]));
}

/* The only reader of a lazy value takes the sums of its gradient along, while it is in the cache. */
static void mark_gradient_sums(oct_plan *plan, int index)
{
    oct_planned *u = &plan->units[index];
    const oct_node *n = plan->graph->nodes[u->unit.last];
    int reader = -1;
    u->memory.d_sums = -1;
    if (!u->runs_backward || !u->step.lazy_out || count_readers(plan, n->id, &reader) != 1) return;
    size_t channels = (size_t)n->shape.dim[n->shape.rank - 1];
    u->memory.d_sums = add_block(plan, 2 * OCT_SUM_CHUNKS * channels * sizeof(double), backward_time(plan, reader),
                                 backward_time(plan, index));
}

/* Lets a unit's output take over its first input's memory, where nobody can notice. */
static void share_output(oct_plan *plan, int index)
{
    oct_planned *u = &plan->units[index];
    const oct_exec *exec = u->unit.exec;
    if (!exec->inplace && !exec->view) return;
    int32_t id = u->unit.inputs[0];
    int producer = plan->unit_of[id], reader = -1;
    if (producer < 0) return;
    oct_planned *p = &plan->units[producer];
    if (u->step.lazy_out) {
        share_block(plan, u->memory.out, p->memory.out);
        return;
    }
    if (p->out.storage != u->out.storage || p->out.sample != u->out.sample) return;
    if (exec->view) { /* reading the same bytes under another shape never hurts */
        share_block(plan, u->memory.out, p->memory.out);
        u->view_shared = true;
        return;
    }
    bool overwritten_is_read = is_training(plan) && (p->unit.exec->backward_reads & OCT_READS_OUTPUT ||
                                                     exec->backward_reads & OCT_READS_INPUT(0));
    if (plan->kept[id] || p->view_shared || overwritten_is_read || count_readers(plan, id, &reader) != 1) return;
    share_block(plan, u->memory.out, p->memory.out);
}

/* Gradient of the unit's output: from the first contributor to the unit's own backward. */
static void make_gradient_block(oct_plan *plan, int index)
{
    oct_planned *u = &plan->units[index];
    u->memory.d_out = -1;
    int first = -1;
    for (int c = index + 1; c < plan->unit_count; c++)
        for (int i = 0; i < plan->units[c].unit.input_count; i++)
            if (plan->units[c].unit.inputs[i] == u->unit.last && plan->units[c].runs_backward &&
                wants_input_gradient(plan, &plan->units[c], i))
                first = c;
    bool is_loss = u->unit.last == plan->outputs[0];
    u->runs_backward = plan->needs_grad[u->unit.last] && (first >= 0 || is_loss);
    if (!u->runs_backward) return;
    int start = is_loss ? plan->unit_count : backward_time(plan, first);
    size_t elements = whole_elements(plan, plan->graph->nodes[u->unit.last]);
    u->d_out = (oct_tensor){.sample = u->out.sample, .storage = OCT_STORE_F32};
    u->memory.d_out = add_block(plan, elements * sizeof(float), start, backward_time(plan, index));
}

static void share_gradient(oct_plan *plan, int index)
{
    oct_planned *u = &plan->units[index];
    const oct_exec *exec = u->unit.exec;
    if (!u->runs_backward || (!exec->inplace_backward && !exec->view)) return;
    int producer = plan->unit_of[u->unit.inputs[0]], reader = -1;
    if (producer < 0 || !plan->units[producer].runs_backward || u->unit.last == plan->outputs[0]) return;
    oct_planned *p = &plan->units[producer];
    if (p->out.sample != u->out.sample || count_readers(plan, u->unit.inputs[0], &reader) != 1) return;
    if (!wants_input_gradient(plan, u, 0)) return;
    share_block(plan, p->memory.d_out, u->memory.d_out);
    u->view_shared_backward = exec->view;
}

static void make_private_blocks(oct_plan *plan, int index)
{
    oct_planned *u = &plan->units[index];
    const oct_exec *exec = u->unit.exec;
    const oct_graph *g = plan->graph;
    int batch = plan->options.batch, now = forward_time(index), later = backward_time(plan, index);
    u->memory.saved = u->memory.scratch_forward = u->memory.scratch_backward = -1;
    int last = is_training(plan) ? later : now;
    if (u->step.lazy_d_in) last = backward_time(plan, plan->unit_of[u->unit.inputs[0]]);
    if (u->step.lazy_out) { /* the coefficients are read with the value */
        int end = plan->blocks[block_root(plan, u->memory.out)].end;
        if (end > last) last = end;
    }
    if (exec->saved_bytes && (is_training(plan) || u->step.lazy_out))
        u->memory.saved = add_block(plan, exec->saved_bytes(g, &u->unit, batch, plan->threads), now, last);
    u->memory.prepared = -1;
    if (exec->prepared_bytes) /* outlives every run */
        u->memory.prepared = add_block(plan, exec->prepared_bytes(g, &u->unit), 0, 2 * plan->unit_count + 1);
    if (!exec->scratch_bytes) return;
    u->memory.scratch_forward =
        add_block(plan, exec->scratch_bytes(g, &u->unit, batch, plan->threads, false), now, now);
    if (u->runs_backward)
        u->memory.scratch_backward =
            add_block(plan, exec->scratch_bytes(g, &u->unit, batch, plan->threads, true), later, later);
}

static int larger_block_first(const void *a, const void *b)
{
    const oct_block *x = *(oct_block *const *)a, *y = *(oct_block *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->root - y->root; /* equal sizes: by index, so that plans are reproducible */
}

/* Lowest offset at which `block` fits between the placed blocks that are live at the same time. placed is sorted by
 * offset. */
static size_t lowest_offset(const oct_block *block, oct_block *const *placed, int count)
{
    size_t offset = 0, bytes = oct_size_align(block->bytes);
    for (int i = 0; i < count; i++) {
        const oct_block *p = placed[i];
        if (p->end < block->start || p->start > block->end) continue;
        if (offset + bytes <= p->offset) break;
        size_t end = p->offset + oct_size_align(p->bytes);
        if (end > offset) offset = end;
    }
    return offset;
}

static oct_status place_blocks(oct_plan *plan)
{
    oct_block **sorted = oct_calloc((size_t)plan->block_count + 1, sizeof *sorted);
    oct_block **placed = oct_calloc((size_t)plan->block_count + 1, sizeof *placed);
    oct_status status = OCT_OK;
    int count = 0, placed_count = 0;
    if (!sorted || !placed) {
        status = oct_out_of_memory(plan->ctx, "plan");
        goto done;
    }
    for (int i = 0; i < plan->block_count; i++)
        if (plan->blocks[i].root == i && plan->blocks[i].bytes) sorted[count++] = &plan->blocks[i];
    qsort(sorted, (size_t)count, sizeof *sorted, larger_block_first);
    for (int i = 0; i < count; i++) {
        oct_block *b = sorted[i];
        b->offset = lowest_offset(b, placed, placed_count);
        size_t end = b->offset + oct_size_align(b->bytes);
        if (end > plan->arena_bytes) plan->arena_bytes = end;
        int at = placed_count++;
        while (at > 0 && placed[at - 1]->offset > b->offset) {
            placed[at] = placed[at - 1];
            at--;
        }
        placed[at] = b;
    }
done:
    oct_free(sorted);
    oct_free(placed);
    return status;
}

/* What forward keeps: everything live across the turn from the last forward to the first backward step, but for the
 * wanted outputs of an evaluation plan. */
static void sum_activations(oct_plan *plan)
{
    for (int i = 0; i < plan->block_count; i++) {
        const oct_block *b = &plan->blocks[i];
        if (b->root == i && b->start <= plan->unit_count && b->end > plan->unit_count)
            plan->activation_bytes += oct_size_align(b->bytes);
    }
}

static void *block_data(const oct_plan *plan, int block)
{
    if (block < 0) return NULL;
    return plan->arena + plan->blocks[block_root(plan, block)].offset;
}

static void bind_sums(const oct_plan *plan, oct_tensor *t, int block, const oct_node *n)
{
    if (block < 0) return;
    t->sums.sum = block_data(plan, block);
    t->sums.square = t->sums.sum + OCT_SUM_CHUNKS * (size_t)n->shape.dim[n->shape.rank - 1];
}

/* Fills the step's tensors and accumulate flags. `written` counts contributors to a gradient so far; units are visited
 * in backward order, so the first one overwrites. */
static void bind_unit(oct_plan *plan, int index, int *written)
{
    oct_planned *u = &plan->units[index];
    oct_step *s = &u->step;
    *s = (oct_step){.ctx = plan->ctx,     .f32 = &plan->f32, .graph = plan->graph,
                    .unit = &u->unit,     .node = plan->graph->nodes[u->unit.last],
                    .run = &plan->run,    .input_count = u->unit.input_count,
                    .out = &u->out,       .d_out = u->runs_backward ? &u->d_out : NULL,
                    .saved = block_data(plan, u->memory.saved),
                    .prepared = block_data(plan, u->memory.prepared),
                    .lazy_out = s->lazy_out, .lazy_d_in = s->lazy_d_in};
    bind_sums(plan, &u->out, u->memory.sums, s->node);
    bind_sums(plan, &u->d_out, u->memory.d_sums, s->node);
    u->out.data = block_data(plan, u->memory.out);
    u->decoded.data = block_data(plan, u->memory.decoded);
    u->d_out.data = block_data(plan, u->memory.d_out);
    for (int i = 0; i < u->unit.input_count; i++) {
        int32_t id = u->unit.inputs[i];
        int producer = plan->unit_of[id];
        oct_planned *p = producer >= 0 ? &plan->units[producer] : NULL;
        s->in[i] = !p ? &plan->leaves[id] : p->out.storage == OCT_STORE_U8 && !takes_codes(u, i) ? &p->decoded : &p->out;
        if (!u->runs_backward || !wants_input_gradient(plan, u, i)) continue;
        if (p) {
            if (!p->runs_backward) continue;
            s->d_in[i] = &p->d_out;
            s->accumulate[i] = written[id]++ > 0;
        } else {
            s->d_in[i] = &plan->leaf_grads[id];
            s->accumulate[i] = 1;
        }
    }
}

oct_status oct_plan_make_memory(oct_plan *plan)
{
    const size_t per_unit = 9;
    int *written = oct_calloc((size_t)plan->graph->node_count, sizeof *written);
    plan->blocks = oct_calloc((size_t)plan->unit_count * per_unit + 1, sizeof *plan->blocks);
    oct_status status = OCT_OK;
    if (!written || !plan->blocks) {
        status = oct_out_of_memory(plan->ctx, "plan");
        goto done;
    }
    mark_needs_grad(plan);
    for (int i = 0; i < plan->unit_count; i++) {
        oct_planned *u = &plan->units[i];
        u->out.storage = u->unit.exec->out_storage;
        if (u->unit.exec->view && plan->unit_of[u->unit.inputs[0]] >= 0)
            u->out.storage = plan->units[plan->unit_of[u->unit.inputs[0]]].out.storage;
        u->memory.sums = -1;
        mark_lazy_output(plan, i);
        make_value_blocks(plan, i);
        mark_sums(plan, i);
    }
    for (int i = 0; i < plan->unit_count; i++) share_output(plan, i);
    if (is_training(plan))
        for (int i = plan->unit_count - 1; i >= 0; i--) make_gradient_block(plan, i);
    else
        for (int i = 0; i < plan->unit_count; i++) plan->units[i].memory.d_out = -1;
    for (int i = plan->unit_count - 1; i >= 0; i--) {
        mark_lazy_gradient(plan, i);
        mark_gradient_sums(plan, i);
        share_gradient(plan, i);
    }
    for (int i = 0; i < plan->unit_count; i++) make_private_blocks(plan, i);
    status = place_blocks(plan);
    if (status != OCT_OK) goto done;
    sum_activations(plan);
    plan->arena = oct_alloc(plan->arena_bytes, 1);
    if (!plan->arena) {
        status = oct_fail(&plan->ctx->error, OCT_ERR_MEMORY, "out of memory: the plan's arena of %zu bytes (batch %d)",
                          plan->arena_bytes, plan->options.batch);
        goto done;
    }
    for (int i = plan->unit_count - 1; i >= 0; i--) bind_unit(plan, i, written);
done:
    oct_free(written);
    return status;
}
