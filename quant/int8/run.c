/* SPDX-License-Identifier: BSD-2-Clause
 * Run states and the walk over a model's steps.
 *
 * Two ways through a batch, giving the same bytes: with at least as many images as threads, each thread takes whole
 * images through all steps in memory of its own; with fewer, threads share each step's rows. Observing takes the
 * second way over a memory that holds the whole batch.
 */
#include <string.h>

#include "autograd/base/par.h"
#include "quant/int8/engine.h"

enum { MAX_BATCH = 65536, MAX_THREADS = 1024 };

struct oct_int8_state {
    const oct_int8_model *model;
    int max_batch, threads;
    uint8_t *images;  /* `threads` arenas of one image */
    uint8_t *scratch; /* `threads` scratches */
    uint8_t *whole;   /* observing: every tensor for max_batch images, tensor after tensor */
    oct_int8_observer *observer;
    void *observer_user;
    oct_error error;
};

/* One call of run: who asked, what for, and which memory its tensors lie in (tensor_at). */
typedef struct walk {
    oct_int8_state *state;
    const oct_int8_model *model;
    const uint8_t *input;
    int input_tensor, first_step;
    int32_t *scores;
    int count;
    bool packed;
    const oct_int8_step *step; /* the one whose rows are being shared */
    int items;                 /* of one image */
} walk;

static void *tensor_at(const walk *w, int tensor, int image, int slot)
{
    const oct_int8_model *m = w->model;
    int root = m->root[tensor];
    const oct_int8_tensor *t = &m->spec.tensors[root];
    size_t bytes = oct_int8_tensor_bytes(t);
    if (t->kind == OCT_INT8_SCORES) return w->scores + (size_t)image * oct_int8_tensor_elements(t);
    if (w->packed) return w->state->whole + m->offset[root] * (size_t)w->state->max_batch + (size_t)image * bytes;
    return w->state->images + (size_t)slot * m->image_bytes + m->offset[root];
}

static const uint8_t *source_at(const walk *w, int tensor, int image, int slot)
{
    const oct_int8_model *m = w->model;
    if (m->root[tensor] != m->root[w->input_tensor]) return tensor_at(w, tensor, image, slot);
    return w->input + (size_t)image * oct_int8_tensor_bytes(&m->spec.tensors[w->input_tensor]);
}

static void run_rows(const walk *w, const oct_int8_step *s, int image, int slot, int thread, int begin, int end)
{
    const oct_int8_model *m = w->model;
    uint8_t *scratch = w->state->scratch + (size_t)thread * m->scratch_bytes;
    void *out = tensor_at(w, s->layer.output, image, slot);
    const uint8_t *in[OCT_INT8_MAX_INPUTS];
    for (int i = 0; i < s->layer.input_count; i++) in[i] = source_at(w, s->layer.inputs[i], image, slot);
    if (oct_int8_op_has_weights(s->layer.op))
        oct_int8_step_conv(s, &m->kernels, out, in[0], scratch, begin, end);
    else
        oct_int8_step_other(s, &m->kernels, out, in, scratch, begin, end);
}

static void run_range(const walk *w, const oct_int8_step *s, int image, int slot, int thread, int begin, int end)
{
    for (int row = begin; row < end; row += s->cut.rows_serial)
        run_rows(w, s, image, slot, thread, row, end - row < s->cut.rows_serial ? end : row + s->cut.rows_serial);
}

/* A model whose output is codes: scores are the codes. */
static void widen_output(const walk *w, int image, int slot)
{
    const oct_int8_tensor *t = &w->model->spec.tensors[w->model->spec.output];
    if (t->kind != OCT_INT8_CODES) return;
    size_t n = oct_int8_tensor_elements(t);
    const uint8_t *codes = source_at(w, w->model->spec.output, image, slot);
    int32_t *scores = w->scores + (size_t)image * n;
    for (size_t i = 0; i < n; i++) scores[i] = t->is_signed ? (int8_t)codes[i] : codes[i];
}

static void run_image(void *arg, int64_t image, int thread)
{
    const walk *w = arg;
    for (int i = w->first_step; i < w->model->step_count; i++) {
        const oct_int8_step *s = &w->model->steps[i];
        if (!s->nothing) run_range(w, s, (int)image, thread, thread, 0, s->out->height);
    }
    widen_output(w, (int)image, thread);
}

static void run_item(void *arg, int64_t item, int thread)
{
    const walk *w = arg;
    int image = (int)(item / w->items), rows = w->step->cut.rows_parallel;
    int begin = (int)(item % w->items) * rows, end = begin + rows;
    if (end > w->step->out->height) end = w->step->out->height;
    run_range(w, w->step, image, image, thread, begin, end);
}

static void observe(const walk *w, const oct_int8_step *s)
{
    if (w->state->observer)
        w->state->observer(w->state->observer_user, s->layer.output, source_at(w, s->layer.output, 0, 0), w->count);
}

static void run_shared(walk *w)
{
    for (int i = w->first_step; i < w->model->step_count; i++) {
        const oct_int8_step *s = &w->model->steps[i];
        w->step = s;
        w->items = (s->out->height + s->cut.rows_parallel - 1) / s->cut.rows_parallel;
        if (!s->nothing) oct_parallel_for(w->state->threads, (int64_t)w->items * w->count, run_item, w);
        observe(w, s);
    }
    for (int image = 0; image < w->count; image++) widen_output(w, image, image);
}

static oct_status run(oct_int8_state *state, const uint8_t *input, int input_tensor, int count, int32_t *scores)
{
    const oct_int8_model *m = state->model;
    if (count < 1 || count > state->max_batch)
        return oct_fail(&state->error, OCT_ERR_ARGUMENT, "int8 run: %d images, expected 1..%d", count,
                        state->max_batch);
    if (!input || !scores) return oct_fail(&state->error, OCT_ERR_ARGUMENT, "int8 run: the input or scores are NULL");
    bool after_lookup = input_tensor != m->spec.input; /* codes for a model that takes pixels: skip its table */
    walk w = {.state = state,
              .model = m,
              .input = input,
              .input_tensor = input_tensor,
              .first_step = after_lookup ? 1 : 0,
              .scores = scores,
              .count = count,
              .packed = state->observer != NULL};
    if (w.packed || count < state->threads)
        run_shared(&w);
    else
        oct_parallel_for(state->threads, count, run_image, &w);
    return OCT_OK;
}

oct_status oct_int8_run(oct_int8_state *state, const uint8_t *pixels, int count, int32_t *scores)
{
    const oct_int8_spec *spec = &state->model->spec;
    oct_error_clear(&state->error);
    if (spec->tensors[spec->input].kind != OCT_INT8_PIXELS)
        return oct_fail(&state->error, OCT_ERR_STATE, "int8 run: the model's input '%s' takes codes, not pixels",
                        spec->tensors[spec->input].name);
    return run(state, pixels, spec->input, count, scores);
}

oct_status oct_int8_run_codes(oct_int8_state *state, const uint8_t *codes, int count, int32_t *scores)
{
    oct_error_clear(&state->error);
    return run(state, codes, state->model->code_input, count, scores);
}

const char *oct_int8_state_error(const oct_int8_state *state)
{
    return state->error.message;
}

/* a * 2^-ka > b * 2^-kb, exactly: beyond 32 bits apart the shifted side is larger than any int32, unless it is 0. */
static bool greater(int64_t a, int ka, int64_t b, int kb)
{
    int apart = kb - ka;
    if (apart > 0) a *= INT64_C(1) << (apart < 32 ? apart : 32);
    if (apart < 0) b *= INT64_C(1) << (-apart < 32 ? -apart : 32);
    return a > b;
}

static bool better(const oct_int8_model *m, const int32_t *scores, int i, int j)
{
    return greater(scores[i], oct_int8_score_exponent(m, i), scores[j], oct_int8_score_exponent(m, j));
}

int oct_int8_top(const oct_int8_model *model, const int32_t *scores, int *indices, int count)
{
    int outputs = oct_int8_output_count(model), kept = 0;
    if (count > outputs) count = outputs;
    for (int i = 0; i < outputs && count > 0; i++) {
        if (kept == count && !better(model, scores, i, indices[kept - 1])) continue;
        int at = kept < count ? kept++ : kept - 1;
        for (; at > 0 && better(model, scores, i, indices[at - 1]); at--) indices[at] = indices[at - 1];
        indices[at] = i;
    }
    return kept;
}

int oct_int8_argmax(const oct_int8_model *model, const int32_t *scores)
{
    int best = 0;
    oct_int8_top(model, scores, &best, 1);
    return best;
}

oct_status oct_int8_state_create(oct_int8_state **out, const oct_int8_model *model, int max_batch, int threads,
                                 oct_error *error)
{
    *out = NULL;
    if (max_batch < 1 || max_batch > MAX_BATCH)
        return oct_fail(error, OCT_ERR_ARGUMENT, "int8 state: batch of %d images, expected 1..%d", max_batch,
                        MAX_BATCH);
    if (threads < 0 || threads > MAX_THREADS)
        return oct_fail(error, OCT_ERR_ARGUMENT, "int8 state: %d threads, expected 0..%d", threads, MAX_THREADS);
    if (!threads) threads = oct_par_default_threads();
    oct_int8_state *s = oct_calloc(1, sizeof *s);
    if (!s) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: int8 state");
    s->model = model;
    s->max_batch = max_batch;
    s->threads = threads;
    s->images = oct_alloc((size_t)threads, model->image_bytes);
    s->scratch = oct_alloc((size_t)threads, model->scratch_bytes);
    if (!s->images || !s->scratch) {
        oct_int8_state_destroy(s);
        return oct_fail(error, OCT_ERR_MEMORY, "out of memory: int8 state of %d threads, %zu bytes each", threads,
                        model->image_bytes + model->scratch_bytes);
    }
    *out = s;
    return OCT_OK;
}

void oct_int8_state_destroy(oct_int8_state *state)
{
    if (!state) return;
    oct_free(state->images);
    oct_free(state->scratch);
    oct_free(state->whole);
    oct_free(state);
}

static size_t whole_bytes(const oct_int8_state *state)
{
    return state->whole ? state->model->image_bytes * (size_t)state->max_batch : 0;
}

size_t oct_int8_state_bytes(const oct_int8_state *state)
{
    return sizeof *state + whole_bytes(state) +
           (size_t)state->threads * (state->model->image_bytes + state->model->scratch_bytes);
}

oct_status oct_int8_observe(oct_int8_state *state, oct_int8_observer *fn, void *user, oct_error *error)
{
    if (!fn) {
        oct_free(state->whole);
        state->whole = NULL;
    } else if (!state->whole) {
        state->whole = oct_alloc((size_t)state->max_batch, state->model->image_bytes);
        if (!state->whole)
            return oct_fail(error, OCT_ERR_MEMORY, "out of memory: observing %d images", state->max_batch);
    }
    state->observer = fn;
    state->observer_user = user;
    return OCT_OK;
}
