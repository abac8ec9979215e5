/* SPDX-License-Identifier: BSD-2-Clause
 * Teams of threads, and the engine on them: the same scores for any number of threads, any batch, several states at once.
 */
#include <pthread.h>
#include <stdint.h>

#include "autograd/base/team.h"
#include "quant/int8/image.h"
#include "tests/int8_networks.h"
#include "tests/testing.h"

enum { ITEMS = 1000, MOST_THREADS = 6, ROUNDS = 300 };

typedef struct tally {
    int seen[ITEMS];
    int threads;
    bool bad_thread;
} tally;

static void count_item(void *arg, int64_t item, int thread)
{
    tally *t = arg;
    t->seen[item]++;
    if (thread < 0 || thread >= t->threads) t->bad_thread = true;
}

static void team_run_every_item_runs_once(void)
{
    static const int counts[] = {0, 1, 2, 3, 7, 8, 64, ITEMS};
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        oct_team *team;
        CU_ASSERT_EQUAL_FATAL(oct_team_create(&team, threads, NULL), OCT_OK);
        CU_ASSERT_TRUE(oct_team_threads(team) >= 1 && oct_team_threads(team) <= threads);
        for (int round = 0; round < ROUNDS; round++) {
            tally t = {.threads = threads};
            int count = counts[round % (int)(sizeof counts / sizeof counts[0])], wrong = 0;
            oct_team_run(team, count, count_item, &t);
            for (int i = 0; i < ITEMS; i++) wrong += t.seen[i] != (i < count);
            CU_ASSERT_EQUAL(wrong, 0);
            CU_ASSERT_FALSE(t.bad_thread);
        }
        oct_team_destroy(team);
    }
    tally t = {.threads = 1};
    oct_team_run(NULL, 5, count_item, &t);
    CU_ASSERT_EQUAL(t.seen[0] + t.seen[4], 2);
    oct_team_destroy(NULL);
}

/* Each member writes its own number, and after the barrier reads everyone's. */
typedef struct meeting {
    oct_team *team;
    int64_t written[MOST_THREADS];
    int64_t sums[MOST_THREADS];
} meeting;

static void meet(void *arg, int64_t member, int thread)
{
    meeting *m = arg;
    for (int64_t round = 1; round <= 20; round++) {
        m->written[member] = round * (member + 1);
        oct_team_barrier(m->team, thread);
        for (int i = 0; i < oct_team_threads(m->team); i++) m->sums[member] += m->written[i];
        oct_team_barrier(m->team, thread);
    }
}

static void team_all_members_meet_at_the_barrier(void)
{
    for (int threads = 1; threads <= MOST_THREADS; threads++) {
        meeting m = {0};
        CU_ASSERT_EQUAL_FATAL(oct_team_create(&m.team, threads, NULL), OCT_OK);
        for (int round = 0; round < 50; round++) {
            int n = oct_team_threads(m.team);
            for (int i = 0; i < n; i++) m.sums[i] = 0;
            oct_team_all(m.team, meet, &m);
            for (int i = 0; i < n; i++) CU_ASSERT_EQUAL(m.sums[i], 210 * n * (n + 1) / 2);
        }
        oct_team_destroy(m.team);
    }
}

static void team_create_bad_counts_are_refused(void)
{
    oct_team *team;
    oct_error error = {OCT_OK, ""};
    CU_ASSERT_EQUAL(oct_team_create(&team, 0, &error), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(team);
    CU_ASSERT_EQUAL(oct_team_create(&team, 100000, NULL), OCT_ERR_ARGUMENT);
}

/* ---- the engine ---- */

enum { BATCH = 9 };

typedef struct opened {
    net n;
    uint8_t *bytes;
    size_t size;
    oct_int8_model *model;
} opened;

static void add_weights(opened *o, int layer)
{
    net_weights(&o->n, &o->n.layers[layer], false);
    net_limits(&o->n, &o->n.layers[layer]);
}

static void open_net(opened *o)
{
    oct_error error = {OCT_OK, ""};
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_int8_image_write(&o->bytes, &o->size, &o->n.spec, &error), "image"));
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_int8_open(&o->model, o->bytes, o->size, NULL, &error), "open"));
}

static void close_net(opened *o)
{
    oct_int8_close(o->model);
    oct_free(o->bytes);
    net_release(&o->n);
}

/* Weights beyond what threads share by rows, odd heights, a linear layer of many outputs. */
static void open_wide(opened *o)
{
    *o = (opened){0};
    net_start(&o->n, 11);
    o->n.spec.input = net_tensor(&o->n, OCT_INT8_CODES, 7, 7, 64, 0, 3);
    int x = net_conv(&o->n, o->n.spec.input, 520, 3, 1, OCT_INT8_CODES);
    add_weights(o, 0);
    x = net_conv(&o->n, x, 520, 1, 1, OCT_INT8_CODES);
    add_weights(o, 1);
    x = net_linear(&o->n, x, 131, OCT_INT8_SCORES);
    add_weights(o, 2);
    o->n.spec.output = x;
    open_net(o);
}

static void run(oct_int8_state *state, const oct_int8_model *model, const uint8_t *input, int count, int32_t *scores)
{
    bool pixels = oct_int8_tensor_at(model, oct_int8_input(model))->kind == OCT_INT8_PIXELS;
    oct_status status = pixels ? oct_int8_run(state, input, count, scores) : oct_int8_run_codes(state, input, count, scores);
    CU_ASSERT_EQUAL(status, OCT_OK);
}

static void compare_threads(opened *o)
{
    const oct_int8_model *m = o->model;
    size_t sample = oct_int8_tensor_elements(oct_int8_tensor_at(m, oct_int8_input(m)));
    size_t outputs = (size_t)oct_int8_output_count(m);
    uint8_t *input = oct_calloc(BATCH, sample);
    int32_t *want = oct_calloc(BATCH * outputs, sizeof *want), *got = oct_calloc(BATCH * outputs, sizeof *got);
    for (size_t i = 0; i < BATCH * sample; i++) input[i] = (uint8_t)oct_rng_below(&o->n.rng, 256);
    for (int threads = 1; threads <= 4; threads++) {
        oct_int8_state *state;
        CU_ASSERT_EQUAL_FATAL(oct_int8_state_create(&state, m, BATCH, threads, NULL), OCT_OK);
        for (int count = 1; count <= BATCH; count++) {
            memset(got, 0x55, BATCH * outputs * sizeof *got);
            run(state, m, input, count, got);
            if (threads == 1 && count == 1) run(state, m, input, BATCH, want);
            CU_ASSERT_EQUAL(memcmp(got, want, (size_t)count * outputs * sizeof *got), 0);
        }
        oct_int8_state_destroy(state);
    }
    oct_free(input);
    oct_free(want);
    oct_free(got);
}

static void run_any_threads_and_batch_give_the_same_scores(void)
{
    opened o;
    open_wide(&o);
    compare_threads(&o);
    close_net(&o);
    for (unsigned seed = 100; seed < 120; seed++) {
        o = (opened){0};
        net_random(&o.n, seed, 12);
        open_net(&o);
        compare_threads(&o);
        close_net(&o);
    }
}

typedef struct caller {
    const oct_int8_model *model;
    const uint8_t *input;
    int32_t *scores;
    size_t outputs;
    int threads, failures;
} caller;

static void *call_many(void *arg)
{
    caller *c = arg;
    oct_int8_state *state;
    if (oct_int8_state_create(&state, c->model, 1, c->threads, NULL) != OCT_OK) {
        c->failures++;
        return NULL;
    }
    int32_t *again = oct_calloc(c->outputs, sizeof *again);
    for (int i = 0; again && i < 50; i++) {
        c->failures += oct_int8_run_codes(state, c->input, 1, again) != OCT_OK;
        if (!i) memcpy(c->scores, again, c->outputs * sizeof *again);
        c->failures += memcmp(c->scores, again, c->outputs * sizeof *again) != 0;
    }
    oct_free(again);
    oct_int8_state_destroy(state);
    return NULL;
}

static void run_several_states_of_one_model_at_once(void)
{
    enum { CALLERS = 3 };
    opened o;
    open_wide(&o);
    size_t sample = oct_int8_tensor_elements(oct_int8_tensor_at(o.model, oct_int8_input(o.model)));
    size_t outputs = (size_t)oct_int8_output_count(o.model);
    uint8_t *input = oct_calloc(1, sample);
    int32_t *scores = oct_calloc(CALLERS * outputs, sizeof *scores);
    for (size_t i = 0; i < sample; i++) input[i] = (uint8_t)oct_rng_below(&o.n.rng, 256);
    caller callers[CALLERS];
    pthread_t threads[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){o.model, input, scores + (size_t)i * outputs, outputs, 1 + i % 2, 0};
        CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, call_many, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < CALLERS; i++) {
        CU_ASSERT_EQUAL(callers[i].failures, 0);
        CU_ASSERT_EQUAL(memcmp(scores, scores + (size_t)i * outputs, outputs * sizeof *scores), 0);
    }
    oct_free(input);
    oct_free(scores);
    close_net(&o);
}

static void profile_counts_images_and_names_kernels(void)
{
    for (int threads = 1; threads <= 2; threads++) {
        opened o;
        open_wide(&o);
        oct_int8_state *state;
        oct_error error = {OCT_OK, ""};
        CU_ASSERT_EQUAL_FATAL(oct_int8_state_create(&state, o.model, BATCH, threads, &error), OCT_OK);
        int count;
        uint64_t images;
        CU_ASSERT_TRUE(oct_int8_open_seconds(o.model) > 0 && oct_int8_open_seconds(o.model) < 60);
        CU_ASSERT_PTR_NULL(oct_int8_layer_times(state, &count, &images));
        CU_ASSERT_EQUAL(count, 0);
        CU_ASSERT_EQUAL_FATAL(oct_int8_profile(state, 1, &error), OCT_OK);
        size_t sample = oct_int8_tensor_elements(oct_int8_tensor_at(o.model, oct_int8_input(o.model)));
        uint8_t *input = oct_calloc(BATCH, sample);
        int32_t *scores = oct_calloc(BATCH * (size_t)oct_int8_output_count(o.model), sizeof *scores);
        run(state, o.model, input, 1, scores);
        run(state, o.model, input, BATCH, scores);
        const oct_int8_layer_time *times = oct_int8_layer_times(state, &count, &images);
        CU_ASSERT_EQUAL_FATAL(count, oct_int8_layer_count(o.model));
        CU_ASSERT_EQUAL(images, 1 + BATCH);
        for (int i = 0; i < count; i++) {
            CU_ASSERT_TRUE(times[i].seconds > 0);
            CU_ASSERT_EQUAL(times[i].macs, oct_int8_layer_at(o.model, i)->macs);
            CU_ASSERT_TRUE(times[i].bytes > times[i].macs / 49);
            CU_ASSERT_TRUE(times[i].kernel[0] != 0);
        }
        CU_ASSERT_EQUAL(oct_int8_profile(state, 0, &error), OCT_OK);
        CU_ASSERT_PTR_NULL(oct_int8_layer_times(state, &count, NULL));
        oct_free(input);
        oct_free(scores);
        oct_int8_state_destroy(state);
        close_net(&o);
    }
}

static const test_case cases[] = {
    {"team_run_every_item_runs_once", team_run_every_item_runs_once},
    {"team_all_members_meet_at_the_barrier", team_all_members_meet_at_the_barrier},
    {"team_create_bad_counts_are_refused", team_create_bad_counts_are_refused},
    {"run_any_threads_and_batch_give_the_same_scores", run_any_threads_and_batch_give_the_same_scores},
    {"run_several_states_of_one_model_at_once", run_several_states_of_one_model_at_once},
    {"profile_counts_images_and_names_kernels", profile_counts_images_and_names_kernels},
};
TEST_SUITE("int8_threads", cases);
