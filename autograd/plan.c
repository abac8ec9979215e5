/* SPDX-License-Identifier: BSD-2-Clause
 * Creating, running and printing plans. */
#include "autograd/plan.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/par.h"
#include "autograd/plan_internal.h"

static oct_status check_options(oct_graph *g, const oct_plan_options *o)
{
    OCT_TRY(oct_graph_status(g));
    oct_error *error = &g->ctx->error;
    if (o->batch < 1 || o->batch > 1 << 20)
        return oct_fail(error, OCT_ERR_ARGUMENT, "plan: batch size %d, expected 1..%d", o->batch, 1 << 20);
    if (o->output_count < 1) return oct_fail(error, OCT_ERR_ARGUMENT, "plan: no output is wanted");
    for (int i = 0; i < o->output_count; i++) {
        const oct_node *n = oct_graph_node(g, o->outputs[i]);
        if (!n || n->kind != OCT_NODE_OP)
            return oct_fail(error, OCT_ERR_ARGUMENT, "plan: output %d is no op node of the graph", i);
        if (!i && o->mode == OCT_TRAIN && n->shape.rank)
            return oct_fail(error, OCT_ERR_SHAPE, "plan: the loss '%s' must be a scalar", n->name);
    }
    return OCT_OK;
}

static void mark_live(oct_plan *plan)
{
    const oct_graph *g = plan->graph;
    for (int i = 0; i < plan->options.output_count; i++) plan->live[plan->outputs[i]] = true;
    for (int32_t k = g->node_count - 1; k >= 0; k--) {
        const oct_node *n = g->nodes[g->order[k]];
        for (int i = 0; i < n->input_count && plan->live[n->id]; i++) plan->live[n->inputs[i]] = true;
    }
}

static oct_status allocate_tables(oct_plan *plan, const oct_value *outputs)
{
    size_t nodes = (size_t)plan->graph->node_count;
    plan->kept = oct_calloc(nodes, sizeof *plan->kept);
    plan->live = oct_calloc(nodes, sizeof *plan->live);
    plan->units = oct_calloc(nodes, sizeof *plan->units);
    plan->unit_of = oct_calloc(nodes, sizeof *plan->unit_of);
    plan->needs_grad = oct_calloc(nodes, sizeof *plan->needs_grad);
    plan->leaves = oct_calloc(nodes, sizeof *plan->leaves);
    plan->leaf_grads = oct_calloc(nodes, sizeof *plan->leaf_grads);
    plan->input_storage = oct_calloc(nodes, sizeof *plan->input_storage);
    plan->outputs = oct_calloc((size_t)plan->options.output_count, sizeof *plan->outputs);
    if (!plan->kept || !plan->live || !plan->units || !plan->unit_of || !plan->needs_grad || !plan->leaves || !plan->leaf_grads ||
        !plan->input_storage || !plan->outputs)
        return oct_out_of_memory(plan->ctx, "plan");
    for (size_t i = 0; i < nodes; i++) plan->unit_of[i] = -1;
    for (int i = 0; i < plan->options.output_count; i++) {
        plan->outputs[i] = outputs[i].id;
        plan->kept[plan->outputs[i]] = true;
    }
    mark_live(plan);
    if (plan->options.mode == OCT_TRAIN) {
        plan->gradients = oct_calloc(plan->graph->params.count, sizeof *plan->gradients);
        if (!plan->gradients) return oct_out_of_memory(plan->ctx, "gradients");
    }
    return OCT_OK;
}

/* Inputs, parameters and buffers as tensors. Inputs get memory of their own only when somebody asks for it. */
static void bind_leaves(oct_plan *plan)
{
    static const oct_storage storage_of[] = {
        [OCT_F32] = OCT_STORE_F32, [OCT_U8] = OCT_STORE_U8, [OCT_I32] = OCT_STORE_I32};
    oct_graph *g = plan->graph;
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        oct_tensor *t = &plan->leaves[i];
        t->sample = oct_shape_sample(&n->shape);
        t->storage = storage_of[n->dtype];
        if (n->kind == OCT_NODE_PARAMETER) {
            t->data = g->params.data + n->offset;
            plan->leaf_grads[i] = *t;
            plan->leaf_grads[i].data = plan->gradients ? plan->gradients + n->offset : NULL;
        } else if (n->kind == OCT_NODE_BUFFER) {
            t->data = g->buffers.data + n->offset;
        }
    }
}

/* Raw pixels may only go to steps that take bytes. */
static oct_status check_pixel_readers(const oct_plan *plan)
{
    for (int u = 0; u < plan->unit_count; u++) {
        const oct_planned *p = &plan->units[u];
        for (int i = 0; i < p->unit.input_count; i++) {
            const oct_node *in = oct_unit_input(plan, p, i);
            if (in->kind == OCT_NODE_INPUT && in->dtype == OCT_U8 && !(p->unit.exec->accepts_codes >> i & 1))
                return oct_fail(&plan->ctx->error, OCT_ERR_UNSUPPORTED,
                                "'%s': reads pixels of '%s' directly; put a normalize node between them",
                                p->step.node->name, in->name);
        }
    }
    return OCT_OK;
}

oct_status oct_plan_create(oct_plan **out, oct_graph *graph, const oct_plan_options *options)
{
    *out = NULL;
    OCT_TRY(check_options(graph, options));
    oct_plan *plan = oct_calloc(1, sizeof *plan);
    if (!plan) return oct_out_of_memory(graph->ctx, "plan");
    plan->graph = graph;
    plan->ctx = graph->ctx;
    plan->options = *options;
    plan->options.outputs = NULL; /* the caller's array is only borrowed for this call */
    plan->options.no_fuse |= graph->ctx->no_fuse != 0;
    plan->threads = graph->ctx->threads;
    oct_f32_kernels_init(&plan->f32, plan->ctx->cpu_mask);
    oct_status status = allocate_tables(plan, options->outputs);
    if (status == OCT_OK) bind_leaves(plan);
    if (status == OCT_OK && oct_plan_needs_reference(plan)) {
        status = oct_plan_reference_create(plan);
    } else if (status == OCT_OK) {
        status = oct_plan_make_units(plan);
        if (status == OCT_OK) status = oct_plan_make_memory(plan);
        if (status == OCT_OK) status = check_pixel_readers(plan);
    }
    if (status != OCT_OK) {
        oct_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return OCT_OK;
}

void oct_plan_destroy(oct_plan *plan)
{
    if (!plan) return;
    oct_plan_reference_destroy(plan);
    if (plan->input_storage)
        for (int32_t i = 0; i < plan->graph->node_count; i++) oct_free(plan->input_storage[i]);
    oct_free(plan->input_storage);
    oct_free(plan->outputs);
    oct_free(plan->kept);
    oct_free(plan->live);
    oct_free(plan->units);
    oct_free(plan->unit_of);
    oct_free(plan->needs_grad);
    oct_free(plan->leaves);
    oct_free(plan->leaf_grads);
    oct_free(plan->blocks);
    oct_free(plan->arena);
    oct_free(plan->gradients);
    oct_stopwatch_destroy(plan->profile);
    oct_free(plan);
}

void *oct_plan_input(oct_plan *plan, oct_value input)
{
    const oct_node *n = oct_graph_node(plan->graph, input);
    if (!n || n->kind != OCT_NODE_INPUT) return NULL;
    oct_tensor *t = &plan->leaves[n->id];
    if (!plan->input_storage[n->id]) {
        size_t bytes = t->storage == OCT_STORE_U8 ? 1 : 4;
        plan->input_storage[n->id] = oct_calloc(t->sample * (size_t)plan->options.batch, bytes);
    }
    t->data = plan->input_storage[n->id];
    return t->data;
}

void oct_plan_bind(oct_plan *plan, oct_value input, const void *data)
{
    const oct_node *n = oct_graph_node(plan->graph, input);
    /* Steps never write their inputs; the tensor type is shared with outputs, hence the cast. */
    if (n && n->kind == OCT_NODE_INPUT) plan->leaves[n->id].data = (void *)(uintptr_t)data;
}

void oct_plan_hold(oct_plan *plan, bool held)
{
    plan->held = held;
    for (int i = 0; i < plan->unit_count; i++) plan->units[i].is_prepared = false;
}

typedef struct decode_job {
    const oct_tensor *codes;
    float *out;
} decode_job;

static void decode_sample(void *arg, int64_t item, int thread)
{
    const decode_job *job = arg;
    (void)thread;
    size_t n = job->codes->sample, start = (size_t)item * n;
    const float unit = job->codes->scale;
    const int zero = job->codes->zero_point;
    const uint8_t *u = (const uint8_t *)job->codes->data + start;
    const int8_t *s = (const int8_t *)u;
    for (size_t i = 0; i < n; i++) job->out[start + i] = (float)((job->codes->is_signed ? s[i] : u[i]) - zero) * unit;
}

static oct_status check_inputs(oct_plan *plan)
{
    for (int u = 0; u < plan->unit_count; u++) {
        const oct_planned *p = &plan->units[u];
        for (int i = 0; i < p->unit.input_count; i++)
            if (!p->step.in[i]->data)
                return oct_fail(&plan->ctx->error, OCT_ERR_STATE, "forward: input '%s' has no data bound",
                                oct_unit_input(plan, p, i)->name);
    }
    return OCT_OK;
}

static oct_status run_forward(oct_plan *plan, oct_planned *u, int batch)
{
    oct_step *s = &u->step;
    s->batch = batch;
    s->scratch = u->memory.scratch_forward < 0
                     ? NULL
                     : plan->arena + plan->blocks[u->memory.scratch_forward].offset;
    if (u->unit.exec->prepare && !u->is_prepared) {
        OCT_TRY(u->unit.exec->prepare(s));
        u->is_prepared = plan->held;
    }
    if (u->unit.exec->view) {
        oct_tensor_copy_grid(&u->out, s->in[0]);
        if (!u->view_shared) {
            size_t bytes = u->out.sample * (size_t)batch * (u->out.storage == OCT_STORE_U8 ? 1 : 4);
            memcpy(u->out.data, s->in[0]->data, bytes);
        }
    } else {
        OCT_TRY(u->unit.exec->forward(s));
    }
    if (u->memory.decoded >= 0) {
        decode_job job = {&u->out, u->decoded.data};
        oct_parallel_for(plan->threads, batch, decode_sample, &job);
    }
    if (plan->observer) return plan->observer(plan->observer_user, s->node, &u->out, batch);
    return OCT_OK;
}

oct_status oct_plan_forward(oct_plan *plan, const oct_run *run, int batch)
{
    oct_error *error = &plan->ctx->error;
    if (batch < 1 || batch > plan->options.batch)
        return oct_fail(error, OCT_ERR_ARGUMENT, "forward: batch of %d, the plan is for 1..%d", batch,
                        plan->options.batch);
    if (run->mode == OCT_TRAIN && plan->options.mode != OCT_TRAIN)
        return oct_fail(error, OCT_ERR_STATE, "forward: an evaluation plan cannot run in training mode");
    OCT_TRY(check_inputs(plan));
    plan->run = *run;
    plan->last_batch = 0;
    oct_stopwatch_next_run(plan);
    if (plan->reference) OCT_TRY(oct_plan_reference_forward(plan, batch));
    for (int i = 0; i < plan->unit_count; i++) {
        double start = oct_stopwatch_now(plan);
        OCT_TRY(run_forward(plan, &plan->units[i], batch));
        oct_stopwatch_add(plan, i, false, start);
    }
    plan->last_batch = run->mode == OCT_TRAIN ? batch : 0;
    return OCT_OK;
}

static oct_status run_backward(oct_plan *plan, oct_planned *u)
{
    if (!u->runs_backward || u->view_shared_backward) return OCT_OK;
    u->step.scratch = u->memory.scratch_backward < 0
                          ? NULL
                          : plan->arena + plan->blocks[u->memory.scratch_backward].offset;
    return u->unit.exec->backward(&u->step);
}

oct_status oct_plan_backward(oct_plan *plan, float scale)
{
    if (!plan->last_batch)
        return oct_fail(&plan->ctx->error, OCT_ERR_STATE, "backward: only directly after a forward in training mode");
    plan->last_batch = 0;
    if (plan->reference) return oct_plan_reference_backward(plan, scale);
    oct_planned *loss = &plan->units[plan->unit_of[plan->outputs[0]]];
    if (!loss->runs_backward)
        return oct_fail(&plan->ctx->error, OCT_ERR_STATE, "backward: '%s' depends on no parameter", loss->step.node->name);
    *(float *)loss->d_out.data = scale;
    for (int i = plan->unit_count - 1; i >= 0; i--) {
        double start = oct_stopwatch_now(plan);
        OCT_TRY(run_backward(plan, &plan->units[i]));
        oct_stopwatch_add(plan, i, true, start);
    }
    return OCT_OK;
}

float *oct_plan_gradients(oct_plan *plan)
{
    return plan->gradients;
}

const oct_tensor *oct_plan_tensor(const oct_plan *plan, oct_value value)
{
    const oct_node *n = oct_graph_node(plan->graph, value);
    if (!n) return NULL;
    if (n->kind != OCT_NODE_OP) return &plan->leaves[n->id];
    for (int i = 0; plan->reference && i < plan->options.output_count; i++)
        if (plan->outputs[i] == n->id) return &plan->reference_outputs[i];
    return plan->unit_of[n->id] < 0 ? NULL : &plan->units[plan->unit_of[n->id]].out;
}

void oct_plan_observe(oct_plan *plan, oct_plan_observer *observer, void *user)
{
    plan->observer = observer;
    plan->observer_user = user;
}

oct_plan_info oct_plan_describe(const oct_plan *plan)
{
    oct_plan_info info = {.unit_count = plan->unit_count,
                          .arena_bytes = plan->arena_bytes,
                          .activation_bytes = plan->activation_bytes,
                          .gradient_bytes = plan->gradients ? plan->graph->params.count * sizeof(float) : 0};
    for (int i = 0; i < plan->unit_count; i++) {
        oct_unit_time work = oct_unit_work(plan, &plan->units[i]);
        info.macs += work.macs * plan->options.batch;
        if (work.on_codes) info.code_macs += work.macs * plan->options.batch;
        info.backward_macs += work.backward_macs * plan->options.batch;
    }
    return info;
}

void oct_plan_print(const oct_plan *plan, void (*line)(void *user, const char *text), void *user)
{
    char text[512], shape[OCT_SHAPE_TEXT];
    static const char *const storages[] = {[OCT_STORE_F32] = "f32", [OCT_STORE_U8] = "u8", [OCT_STORE_I32] = "i32", [OCT_STORE_AFFINE] = "lazy"};
    snprintf(text, sizeof text, "%-28s %-24s %-16s %-4s %12s %14s", "output", "step", "shape", "type", "bytes",
             "MACs/sample");
    line(user, text);
    for (int i = 0; i < plan->unit_count; i++) {
        const oct_planned *u = &plan->units[i];
        const oct_block *b = &plan->blocks[u->memory.out];
        snprintf(text, sizeof text, "%-28s %-24s %-16s %-4s %12zu %14" PRId64, u->step.node->name, u->unit.exec->name,
                 oct_shape_text(shape, &u->step.node->shape), storages[u->out.storage],
                 b->root == u->memory.out ? b->bytes : 0, oct_unit_work(plan, u).macs);
        line(user, text);
    }
    oct_plan_info info = oct_plan_describe(plan);
    snprintf(text, sizeof text, "%d steps, batch %d, kernels %s: arena %zu bytes, kept for backward %zu, gradients %zu",
             info.unit_count, plan->options.batch, plan->f32.level, info.arena_bytes, info.activation_bytes,
             info.gradient_bytes);
    line(user, text);
}
