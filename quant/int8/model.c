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
        if (t->kind == OCT_INT8_CODES) t->scale = (float)oct_int8_code_scale(from, t);
        if (!t->name) return no_memory(error);
        if (!t->exponents) continue;
        t->exponents = copy_bytes(&m->arena, t->exponents, (size_t)t->channels);
        if (!t->exponents) return no_memory(error);
    }
    m->spec.tensors = tensors;
    return OCT_OK;
}

/* Of the output layer in profile affine. */
static oct_status copy_score_scales(oct_int8_model *m, const oct_int8_spec *from, oct_error *error)
{
    for (int i = 0; i < from->layer_count; i++) {
        const oct_int8_layer *l = &from->layers[i];
        if (l->output != from->output || from->tensors[l->output].kind != OCT_INT8_SCORES) continue;
        m->score_scale = oct_arena_alloc(&m->arena, (size_t)oct_int8_layer_outputs(from, l), sizeof *m->score_scale);
        if (!m->score_scale) return no_memory(error);
        for (int o = 0; o < oct_int8_layer_outputs(from, l); o++) m->score_scale[o] = oct_int8_acc_scale(from, l, o);
    }
    return OCT_OK;
}

static oct_status copy_information(oct_int8_model *m, const oct_int8_spec *from, oct_error *error)
{
    size_t channels = (size_t)from->tensors[from->input].channels;
    m->spec = *from;
    m->spec.layers = NULL;
    OCT_TRY(copy_tensors(m, from, error));
    OCT_TRY(copy_score_scales(m, from, error));
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

static int shift_of(const oct_int8_step *s, const oct_int8_layer *l, int o)
{
    return s->in[0]->exponent + oct_int8_weight_exponent(l, o) - s->out->exponent;
}

static bool writes_codes(const oct_int8_step *s, const oct_int8_layer *l)
{
    if (!oct_int8_op_has_weights(l->op) || s->out->kind != OCT_INT8_CODES) return false;
    for (int o = 0; o < s->out->channels; o++)
        if (shift_of(s, l, o) < 0 || shift_of(s, l, o) > OCT_I8_MAX_CODE_SHIFT) return false;
    return true;
}

/* Shifts as the step's kernels want them. */
static oct_status set_shifts(oct_int8_model *m, oct_int8_step *s, const oct_int8_layer *l, oct_error *error)
{
    size_t count = oct_int8_start_count(s), group = count / (size_t)(s->out->channels / s->group_outputs);
    int32_t *wide = s->writes_codes ? oct_arena_alloc(&m->arena, count, sizeof *wide) : NULL;
    int8_t *narrow = s->writes_codes ? NULL : oct_arena_alloc(&m->arena, (size_t)s->out->channels, 1);
    if (!wide && !narrow) return no_memory(error);
    for (size_t i = 0; wide && i < count; i++) wide[i] = 0;
    for (int o = 0; o < s->out->channels; o++) {
        size_t at = (size_t)(o / s->group_outputs) * group + (size_t)(o % s->group_outputs);
        if (wide)
            wide[at] = shift_of(s, l, o);
        else
            narrow[o] = (int8_t)shift_of(s, l, o);
    }
    s->code_shift = wide;
    s->shift = narrow;
    return OCT_OK;
}

static oct_status pack_weights(oct_int8_model *m, oct_int8_step *s, const oct_int8_layer *l, oct_error *error)
{
    uint8_t *packed = oct_arena_alloc(&m->arena, 1, oct_int8_packed_bytes(s, &m->kernels));
    int32_t *start = oct_arena_alloc(&m->arena, oct_int8_start_count(s), sizeof *start);
    if (!packed || !start) return no_memory(error);
    if (s->out->kind == OCT_INT8_CODES && !s->affine.on) OCT_TRY(set_shifts(m, s, l, error));
    if (s->depthwise_codes) {
        size_t row = (size_t)s->in[0]->width * (size_t)s->in[0]->channels;
        uint8_t *zeros = oct_arena_alloc(&m->arena, row, 1);
        if (!zeros) return no_memory(error);
        memset(zeros, s->in[0]->zero_point, row);
        s->zeros = zeros;
    }
    oct_int8_pack_step(s, l, &m->kernels, packed, start);
    return OCT_OK;
}

static oct_status compile_step(oct_int8_model *m, const oct_int8_spec *spec, oct_int8_step *s, const oct_int8_layer *l,
                               oct_error *error)
{
    bool affine = oct_int8_spec_is_affine(spec);
    s->layer = *l;
    s->layer.weights = NULL;
    s->layer.bias = NULL;
    s->layer.weight_exponents = NULL;
    s->layer.weight_scales = NULL;
    s->out = &m->spec.tensors[l->output];
    for (int i = 0; i < l->input_count; i++) s->in[i] = &m->spec.tensors[l->inputs[i]];
    s->layer.name = oct_arena_strdup(&m->arena, l->name);
    if (!s->layer.name) return no_memory(error);
    if (l->table) {
        s->layer.table = copy_bytes(&m->arena, l->table, 256 * (size_t)l->table_rows);
        if (!s->layer.table) return no_memory(error);
    }
    s->writes_codes =
        affine ? oct_int8_affine_writes_codes(s, spec->rounding, l->weight_scales, l->weight_exponent_count)
               : writes_codes(s, l);
    oct_int8_plan_step(s, &m->kernels);
    if (affine) {
        void *memory = oct_arena_alloc(&m->arena, 1, oct_int8_affine_bytes(s));
        if (!memory) return no_memory(error);
        oct_int8_affine_prepare(s, spec->rounding, l->weight_scales, l->weight_exponent_count, memory);
    }
    return oct_int8_op_has_weights(l->op) ? pack_weights(m, s, l, error) : OCT_OK;
}

/* The input table melts into a convolution that is its only reader and copies its operands anyway. */
static void fuse_lookup(oct_int8_model *m)
{
    if (m->step_count < 2 || m->steps[0].layer.op != OCT_INT8_LOOKUP) return;
    const oct_int8_step *first = &m->steps[1];
    int codes = m->steps[0].layer.output;
    if (first->layer.op != OCT_INT8_CONV || first->layer.groups != 1 || first->in_place) return;
    if (first->layer.inputs[0] != codes || m->spec.output == codes) return;
    for (int i = 2; i < m->step_count; i++)
        for (int j = 0; j < m->steps[i].layer.input_count; j++)
            if (m->steps[i].layer.inputs[j] == codes) return;
    m->fused_lookup = true;
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
        OCT_TRY(compile_step(m, spec, &m->steps[i], l, error));
        m->info[i] = (oct_int8_layer_info){.name = m->steps[i].layer.name,
                                           .op = oct_int8_op_name(l->op),
                                           .output = l->output,
                                           .macs = oct_int8_layer_macs(spec, l)};
    }
    fuse_lookup(m);
    bool pixels = m->spec.tensors[m->spec.input].kind == OCT_INT8_PIXELS;
    m->code_input = pixels ? m->steps[0].layer.output : m->spec.input;
    return oct_int8_plan_memory(m, error);
}

oct_status oct_int8_open(oct_int8_model **out, const void *bytes, size_t size, const oct_int8_options *options,
                         oct_error *error)
{
    *out = NULL;
    uint64_t began = oct_int8_now();
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
    m->open_seconds = 1e-9 * (double)(oct_int8_now() - began);
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

double oct_int8_score_scale(const oct_int8_model *model, int i)
{
    const oct_int8_tensor *t = &model->spec.tensors[model->spec.output];
    return t->kind == OCT_INT8_CODES ? (double)t->scale : model->score_scale[i % t->channels];
}

oct_int8_rounding oct_int8_model_rounding(const oct_int8_model *model)
{
    return model->spec.rounding;
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

const char *oct_int8_interpolation(const oct_int8_model *model)
{
    return oct_int8_interpolation_name(model->spec.interpolation);
}

const char *oct_int8_level(const oct_int8_model *model)
{
    return model->kernels.level;
}

double oct_int8_open_seconds(const oct_int8_model *model)
{
    return model->open_seconds;
}

size_t oct_int8_model_bytes(const oct_int8_model *model)
{
    return sizeof *model + model->arena.used_bytes;
}
