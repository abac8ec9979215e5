/* SPDX-License-Identifier: BSD-2-Clause
 * Run states and the walk over a model's steps.
 *
 * Two ways through a batch, giving the same bytes: with at least as many images as threads, each thread takes whole
 * images through all steps in memory of its own; with fewer, threads share the rows or outputs of each step. Observing
 * takes the second way, a step at a time, over a memory that holds the whole batch.
 */
#include <string.h>

#include "quant/int8/state.h"

enum { MAX_BATCH = 65536, MAX_THREADS = 1024 };

/* One call of run: who asked, what for, and which memory its tensors lie in (tensor_at). */
typedef struct walk {
    oct_int8_state *state;
    const oct_int8_model *model;
    const uint8_t *input;
    int input_tensor, first_step;
    int32_t *scores;
    int count;
    bool packed;
    const oct_int8_layer *lookup; /* step 0, when step 1 reads the input through its table; else NULL */
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

static void run_part(const walk *w, const oct_int8_step *s, int image, int slot, int thread, oct_int8_part part)
{
    const oct_int8_model *m = w->model;
    uint8_t *scratch = w->state->scratch + (size_t)thread * m->scratch_bytes;
    void *out = tensor_at(w, s->layer.output, image, slot);
    const uint8_t *in[OCT_INT8_MAX_INPUTS];
    const oct_int8_layer *lookup = m->step_count > 1 && s == &m->steps[1] ? w->lookup : NULL;
    for (int i = 0; i < s->layer.input_count; i++)
        in[i] = source_at(w, lookup ? w->input_tensor : s->layer.inputs[i], image, slot);
    if (oct_int8_op_has_weights(s->layer.op))
        oct_int8_step_conv_part(s, &m->kernels, out, in[0], lookup, scratch, part);
    else
        oct_int8_step_other(s, &m->kernels, out, in, scratch, part.begin, part.end);
}

/* In pieces that fit the scratch. */
static void run_range(const walk *w, const oct_int8_step *s, int image, int slot, int thread, oct_int8_part part)
{
    oct_int8_part piece = part;
    for (; piece.begin < part.end; piece.begin = piece.end) {
        piece.end = part.end - piece.begin < s->cut.rows_serial ? part.end : piece.begin + s->cut.rows_serial;
        run_part(w, s, image, slot, thread, piece);
    }
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

static uint64_t start_clock(const walk *w)
{
    return w->state->nanoseconds ? oct_int8_now() : 0;
}

static void stop_clock(const walk *w, int step, int thread, uint64_t start)
{
    if (w->state->nanoseconds)
        w->state->nanoseconds[(size_t)thread * (size_t)w->model->step_count + (size_t)step] += oct_int8_now() - start;
}

static void run_image(void *arg, int64_t image, int thread)
{
    const walk *w = arg;
    for (int i = w->first_step; i < w->model->step_count; i++) {
        const oct_int8_step *s = &w->model->steps[i];
        uint64_t start = start_clock(w);
        if (!s->nothing) run_range(w, s, (int)image, thread, thread, (oct_int8_part){0, s->out->height, 0, s->out->channels});
        stop_clock(w, i, thread, start);
    }
    widen_output(w, (int)image, thread);
}

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

static void run_item(void *arg, int64_t item, int thread)
{
    const walk *w = arg;
    const oct_int8_step *s = w->step;
    int image = (int)(item / w->items), rows = s->cut.rows_parallel, begin = (int)(item % w->items) * rows;
    int end = begin + rows < s->out->height ? begin + rows : s->out->height;
    run_range(w, s, image, image, thread, (oct_int8_part){begin, end, 0, s->out->channels});
}

static void observe(const walk *w, const oct_int8_step *s)
{
    if (w->state->observer)
        w->state->observer(w->state->observer_user, s->layer.output, source_at(w, s->layer.output, 0, 0), w->count);
}

/* Step by step, each shared by the threads and looked at behind it. */
static void run_observed(walk *w)
{
    for (int i = w->first_step; i < w->model->step_count; i++) {
        uint64_t start = start_clock(w);
        w->step = &w->model->steps[i];
        w->items = ceil_div(w->step->out->height, w->step->cut.rows_parallel);
        if (!w->step->nothing) oct_team_run(w->state->team, (int64_t)w->items * w->count, run_item, w);
        stop_clock(w, i, 0, start);
        observe(w, w->step);
    }
    for (int image = 0; image < w->count; image++) widen_output(w, image, image);
}

/* Rows of the whole batch from `row` up to `end`, image by image. */
static void run_batch_rows(const walk *w, const oct_int8_step *s, int thread, int64_t row, int64_t end)
{
    int height = s->out->height;
    while (row < end) {
        int image = (int)(row / height), begin = (int)(row % height);
        int64_t most = end - row < height - begin ? end - row : height - begin;
        run_range(w, s, image, image, thread, (oct_int8_part){begin, begin + (int)most, 0, s->out->channels});
        row += most;
    }
}

/* Blocks of outputs from `block` up to `end`, every image. */
static void run_batch_outputs(const walk *w, const oct_int8_step *s, int thread, int64_t block, int64_t end)
{
    int first = (int)block * OCT_INT8_PART_OUTPUTS, last = (int)end * OCT_INT8_PART_OUTPUTS;
    if (last > s->out->channels) last = s->out->channels;
    for (int image = 0; image < w->count && first < last; image++)
        run_range(w, s, image, image, thread, (oct_int8_part){0, s->out->height, first, last - first});
}

/* One thread's way through all steps: its share of each, meeting the others in between. Sharing rows in equal parts keeps
 * most of what a thread reads in its own caches. Every code is computed on its own and exactly, so the borders do not show.
 * Thread 0 alone does what has too few parts; nobody need wait between two such steps. */
static void run_together(void *arg, int64_t member, int thread)
{
    const walk *w = arg;
    const int64_t threads = oct_team_threads(w->state->team);
    bool shared_before = false;
    (void)member;
    for (int i = w->first_step; i < w->model->step_count; i++) {
        const oct_int8_step *s = &w->model->steps[i];
        if (s->nothing) continue;
        int64_t parts = s->cut.shares_outputs ? ceil_div(s->out->channels, OCT_INT8_PART_OUTPUTS)
                                              : (int64_t)s->out->height * w->count;
        bool shared = parts >= threads;
        if (shared_before || (shared && i > w->first_step)) oct_team_barrier(w->state->team, thread);
        shared_before = shared;
        if (!shared && thread) continue;
        uint64_t start = thread ? 0 : start_clock(w);
        int64_t begin = shared ? parts * thread / threads : 0, end = shared ? parts * (thread + 1) / threads : parts;
        if (s->cut.shares_outputs)
            run_batch_outputs(w, s, thread, begin, end);
        else
            run_batch_rows(w, s, thread, begin, end);
        if (!thread) stop_clock(w, i, 0, start);
    }
}

static void run_shared(walk *w)
{
    oct_team_all(w->state->team, run_together, w);
    for (int image = 0; image < w->count; image++) widen_output(w, image, image);
}

static oct_status run(oct_int8_state *state, const uint8_t *input, int input_tensor, int count, int32_t *scores)
{
    const oct_int8_model *m = state->model;
    if (count < 1 || count > state->max_batch)
        return oct_fail(&state->error, OCT_ERR_ARGUMENT, "int8 run: %d images, expected 1..%d", count,
                        state->max_batch);
    if (!input || !scores) return oct_fail(&state->error, OCT_ERR_ARGUMENT, "int8 run: the input or scores are NULL");
    if (state->nanoseconds) state->profiled_images += (uint64_t)count;
    bool after_lookup = input_tensor != m->spec.input; /* codes for a model that takes pixels: skip its table */
    bool through_table = m->fused_lookup && !after_lookup && !state->observer;
    walk w = {.state = state,
              .model = m,
              .input = input,
              .input_tensor = input_tensor,
              .first_step = after_lookup || through_table ? 1 : 0,
              .lookup = through_table ? &m->steps[0].layer : NULL,
              .scores = scores,
              .count = count,
              .packed = state->observer != NULL};
    if (w.packed)
        run_observed(&w);
    else if (count < state->threads)
        run_shared(&w);
    else
        oct_team_run(state->team, count, run_image, &w);
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
    if (oct_int8_spec_is_affine(&m->spec))
        return (double)scores[i] * oct_int8_score_scale(m, i) > (double)scores[j] * oct_int8_score_scale(m, j);
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
    if (threads > 1) {
        oct_status status = oct_team_create(&s->team, threads, error);
        if (status != OCT_OK) {
            oct_free(s);
            return status;
        }
    }
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
    oct_team_destroy(state->team);
    oct_free(state->images);
    oct_free(state->scratch);
    oct_free(state->whole);
    oct_free(state->nanoseconds);
    oct_free(state->times);
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
