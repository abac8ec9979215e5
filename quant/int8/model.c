/* SPDX-License-Identifier: BSD-2-Clause
 * Opening a model: parse, copy what is kept, pack weights, plan. And what can be asked of it.
 */
#include <string.h>

#include "autograd/base/cpu.h"
#include "quant/int8/engine.h"
#include "quant/int8/image.h"

static oct_status no_memory(oct_error *error)
{
    return oct_fail(error, OCT_ERR_MEMORY, "out of memory: int8 model");
}

static oct_status choose_kernels(oct_i8_kernels *kernels, const oct_int8_options *options, oct_error *error)
{
    uint32_t mask;
    if (options && options->cpu) {
        OCT_TRY(oct_cpu_parse(&mask, options->cpu, error));
    } else if (options && options->cpu_mask) {
        mask = *options->cpu_mask;
    } else {
        OCT_TRY(oct_cpu_from_environment(&mask, error));
    }
    if (mask & ~oct_cpu_detect())
        return oct_fail(error, OCT_ERR_UNSUPPORTED, "int8 engine: this machine lacks the instruction set of level %s",
                        options && options->cpu ? options->cpu : "the CPU mask");
    oct_i8_kernels_init(kernels, mask);
    return OCT_OK;
}

static void *copy_bytes(oct_arena *arena, const void *source, size_t bytes)
{
    void *copy = oct_arena_alloc(arena, bytes, 1);
    if (copy && bytes) memcpy(copy, source, bytes);
    return copy;
}

static oct_status copy_tensors(oct_int8_model *m, const oct_int8_spec *from, oct_error *error)
{
    oct_int8_tensor *tensors = copy_bytes(&m->arena, from->tensors, (size_t)from->tensor_count * sizeof *tensors);
    if (!tensors) return no_memory(error);
    for (int i = 0; i < from->tensor_count; i++) {
        oct_int8_tensor *t = &tensors[i];
        t->name = oct_arena_strdup(&m->arena, t->name);
        if (!t->name) return no_memory(error);
        if (!t->exponents) continue;
        t->exponents = copy_bytes(&m->arena, t->exponents, (size_t)t->channels);
        if (!t->exponents) return no_memory(error);
    }
    m->spec.tensors = tensors;
    return OCT_OK;
}

static oct_status copy_information(oct_int8_model *m, const oct_int8_spec *from, oct_error *error)
{
    size_t channels = (size_t)from->tensors[from->input].channels;
    m->spec = *from;
    m->spec.layers = NULL;
    OCT_TRY(copy_tensors(m, from, error));
    m->spec.profile = oct_arena_strdup(&m->arena, from->profile);
    m->spec.tool = oct_arena_strdup(&m->arena, from->tool);
    if (!m->spec.profile || !m->spec.tool) return no_memory(error);
    const char **names = oct_arena_alloc(&m->arena, (size_t)from->class_count, sizeof *names);
    if (!names) return no_memory(error);
    for (int i = 0; i < from->class_count; i++) {
        names[i] = oct_arena_strdup(&m->arena, from->class_names[i]);
        if (!names[i]) return no_memory(error);
    }
    m->spec.class_names = from->class_count ? names : NULL;
    if (from->mean) {
        m->spec.mean = copy_bytes(&m->arena, from->mean, channels * sizeof *from->mean);
        m->spec.scale = copy_bytes(&m->arena, from->scale, channels * sizeof *from->scale);
        if (!m->spec.mean || !m->spec.scale) return no_memory(error);
    }
    return OCT_OK;
}

static oct_status pack_weights(oct_int8_model *m, oct_int8_step *s, const oct_int8_layer *l, oct_error *error)
{
    uint8_t *packed = oct_arena_alloc(&m->arena, 1, oct_int8_packed_bytes(s, &m->kernels));
    int32_t *start = oct_arena_alloc(&m->arena, oct_int8_start_count(s), sizeof *start);
    if (!packed || !start) return no_memory(error);
    oct_int8_pack_step(s, l, &m->kernels, packed, start);
    if (s->out->kind == OCT_INT8_SCORES) return OCT_OK;
    int8_t *shift = oct_arena_alloc(&m->arena, (size_t)s->out->channels, 1);
    if (!shift) return no_memory(error);
    for (int o = 0; o < s->out->channels; o++)
        shift[o] = (int8_t)(s->in[0]->exponent + oct_int8_weight_exponent(l, o) - s->out->exponent);
    s->shift = shift;
    return OCT_OK;
}

static oct_status compile_step(oct_int8_model *m, oct_int8_step *s, const oct_int8_layer *l, oct_error *error)
{
    s->layer = *l;
    s->layer.weights = NULL;
    s->layer.bias = NULL;
    s->layer.weight_exponents = NULL;
    s->out = &m->spec.tensors[l->output];
    for (int i = 0; i < l->input_count; i++) s->in[i] = &m->spec.tensors[l->inputs[i]];
    s->layer.name = oct_arena_strdup(&m->arena, l->name);
    if (!s->layer.name) return no_memory(error);
    if (l->table) {
        s->layer.table = copy_bytes(&m->arena, l->table, 256 * (size_t)l->table_rows);
        if (!s->layer.table) return no_memory(error);
    }
    oct_int8_plan_step(s, &m->kernels);
    return oct_int8_op_has_weights(l->op) ? pack_weights(m, s, l, error) : OCT_OK;
}

static oct_status compile(oct_int8_model *m, const oct_int8_spec *spec, oct_error *error)
{
    OCT_TRY(copy_information(m, spec, error));
    m->step_count = spec->layer_count;
    m->steps = oct_arena_alloc(&m->arena, (size_t)spec->layer_count, sizeof *m->steps);
    m->info = oct_arena_alloc(&m->arena, (size_t)spec->layer_count, sizeof *m->info);
    if (!m->steps || !m->info) return no_memory(error);
    for (int i = 0; i < spec->layer_count; i++) {
        const oct_int8_layer *l = &spec->layers[i];
        OCT_TRY(compile_step(m, &m->steps[i], l, error));
        m->info[i] = (oct_int8_layer_info){.name = m->steps[i].layer.name,
                                           .op = oct_int8_op_name(l->op),
                                           .output = l->output,
                                           .macs = oct_int8_layer_macs(spec, l)};
    }
    bool pixels = m->spec.tensors[m->spec.input].kind == OCT_INT8_PIXELS;
    m->code_input = pixels ? m->steps[0].layer.output : m->spec.input;
    return oct_int8_plan_memory(m, error);
}

oct_status oct_int8_open(oct_int8_model **out, const void *bytes, size_t size, const oct_int8_options *options,
                         oct_error *error)
{
    *out = NULL;
    oct_int8_model *m = oct_calloc(1, sizeof *m);
    if (!m) return no_memory(error);
    oct_arena_init(&m->arena, 0);
    oct_arena parsed; /* what only opening needs */
    oct_arena_init(&parsed, 0);
    oct_int8_spec spec;
    oct_status status = choose_kernels(&m->kernels, options, error);
    if (status == OCT_OK) status = oct_int8_image_parse(&spec, &parsed, bytes, size, error);
    if (status == OCT_OK) status = compile(m, &spec, error);
    oct_arena_release(&parsed);
    if (status == OCT_OK)
        *out = m;
    else
        oct_int8_close(m);
    return status;
}

void oct_int8_close(oct_int8_model *model)
{
    if (!model) return;
    oct_arena_release(&model->arena);
    oct_free(model);
}

int oct_int8_tensor_count(const oct_int8_model *model)
{
    return model->spec.tensor_count;
}

const oct_int8_tensor *oct_int8_tensor_at(const oct_int8_model *model, int tensor)
{
    return tensor >= 0 && tensor < model->spec.tensor_count ? &model->spec.tensors[tensor] : NULL;
}

int oct_int8_layer_count(const oct_int8_model *model)
{
    return model->step_count;
}

const oct_int8_layer_info *oct_int8_layer_at(const oct_int8_model *model, int layer)
{
    return layer >= 0 && layer < model->step_count ? &model->info[layer] : NULL;
}

int oct_int8_input(const oct_int8_model *model)
{
    return model->spec.input;
}

int oct_int8_code_input(const oct_int8_model *model)
{
    return model->code_input;
}

int oct_int8_output(const oct_int8_model *model)
{
    return model->spec.output;
}

int oct_int8_output_count(const oct_int8_model *model)
{
    return (int)oct_int8_tensor_elements(&model->spec.tensors[model->spec.output]);
}

int oct_int8_score_exponent(const oct_int8_model *model, int i)
{
    const oct_int8_tensor *t = &model->spec.tensors[model->spec.output];
    return oct_int8_tensor_exponent(t, i % t->channels);
}

const char *oct_int8_class_name(const oct_int8_model *model, int i)
{
    return i >= 0 && i < model->spec.class_count ? model->spec.class_names[i] : NULL;
}

uint64_t oct_int8_source_digest(const oct_int8_model *model)
{
    return model->spec.source_digest;
}

const float *oct_int8_mean(const oct_int8_model *model)
{
    return model->spec.mean;
}

const float *oct_int8_scale(const oct_int8_model *model)
{
    return model->spec.scale;
}

int oct_int8_resize(const oct_int8_model *model)
{
    return model->spec.resize;
}

const char *oct_int8_level(const oct_int8_model *model)
{
    return model->kernels.level;
}

size_t oct_int8_model_bytes(const oct_int8_model *model)
{
    return sizeof *model + model->arena.used_bytes;
}
