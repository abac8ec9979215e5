/* SPDX-License-Identifier: BSD-2-Clause
 * Times per layer: counters of each thread, and their report.
 */
#include <time.h>

#include "quant/int8/state.h"

uint64_t oct_int8_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

const char *oct_int8_step_kernel(const oct_int8_step *s, bool fused)
{
    if (fused) return s->writes_codes ? "pad_pixels+conv_codes" : "pad_pixels+conv_row+requantize";
    switch (s->layer.op) {
    case OCT_INT8_CONV:
    case OCT_INT8_LINEAR:
        if (!s->writes_codes) return s->out->kind == OCT_INT8_CODES ? "conv_row+requantize" : "conv_row";
        return s->in_place ? "conv_codes" : "pad_image+conv_codes";
    case OCT_INT8_DEPTHWISE:
        if (s->depthwise_codes) return "depthwise_codes";
        return s->out->kind == OCT_INT8_CODES ? "depthwise_row+requantize" : "depthwise_row";
    case OCT_INT8_LOOKUP: return "lookup";
    case OCT_INT8_ADD: return s->affine.on ? "add_affine" : "add";
    case OCT_INT8_MUL: return s->affine.on ? "mul_affine" : "mul";
    case OCT_INT8_CONCAT:
    case OCT_INT8_RESCALE: return s->affine.on ? "lookup" : "rescale";
    case OCT_INT8_SUB: return s->affine.on ? "add_affine" : "sub";
    case OCT_INT8_PAD:
    case OCT_INT8_RESIZE_NEAREST: return "copy";
    case OCT_INT8_RESIZE_BILINEAR: return "blend";
    case OCT_INT8_SOFTMAX: return "softmax";
    case OCT_INT8_ARGMAX: return "argmax";
    case OCT_INT8_MAX_POOL: return "pool_max";
    case OCT_INT8_AVERAGE_POOL: return "pool_sum";
    default: return "";
    }
}

static uint64_t step_bytes(const oct_int8_model *m, const oct_int8_step *s)
{
    uint64_t bytes = oct_int8_tensor_bytes(s->out);
    for (int i = 0; i < s->layer.input_count; i++) bytes += oct_int8_tensor_bytes(s->in[i]);
    return oct_int8_op_has_weights(s->layer.op) ? bytes + oct_int8_packed_bytes(s, &m->kernels) : bytes;
}

oct_status oct_int8_profile(oct_int8_state *state, int on, oct_error *error)
{
    const oct_int8_model *m = state->model;
    oct_free(state->nanoseconds);
    oct_free(state->times);
    state->nanoseconds = NULL;
    state->times = NULL;
    state->profiled_images = 0;
    if (!on) return OCT_OK;
    size_t steps = (size_t)m->step_count;
    state->nanoseconds = oct_calloc((size_t)state->threads * steps, sizeof *state->nanoseconds);
    state->times = oct_calloc(steps, sizeof *state->times);
    if (!state->nanoseconds || !state->times) {
        oct_free(state->nanoseconds);
        oct_free(state->times);
        state->nanoseconds = NULL;
        state->times = NULL;
        return oct_fail(error, OCT_ERR_MEMORY, "out of memory: profile of an int8 state");
    }
    return OCT_OK;
}

const oct_int8_layer_time *oct_int8_layer_times(oct_int8_state *state, int *count, uint64_t *images)
{
    const oct_int8_model *m = state->model;
    *count = state->times ? m->step_count : 0;
    if (images) *images = state->profiled_images;
    for (int i = 0; i < *count; i++) {
        const oct_int8_step *s = &m->steps[i];
        bool through = m->fused_lookup && !state->observer;
        uint64_t total = 0;
        for (int t = 0; t < state->threads; t++) total += state->nanoseconds[(size_t)t * (size_t)m->step_count + (size_t)i];
        state->times[i] = (oct_int8_layer_time){.name = m->info[i].name,
                                                .op = m->info[i].op,
                                                .kernel = through && i == 0 ? "" : oct_int8_step_kernel(s, through && i == 1),
                                                .seconds = 1e-9 * (double)total,
                                                .macs = m->info[i].macs,
                                                .bytes = step_bytes(m, s)};
    }
    return state->times;
}
