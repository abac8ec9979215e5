/* SPDX-License-Identifier: BSD-2-Clause
 * The engine against a plain integer model that shares no rounding, no layout and no kernel with it, on random
 * networks; the public calls and their errors.
 */
#include <stdint.h>
#include <unistd.h>

#include "autograd/base/bytes.h"
#include "autograd/base/cpu.h"
#include "quant/int8/image.h"
#include "tests/int8_plain.h"
#include "tests/testing.h"

enum { BATCH = 9 };

/* ---- comparing ---- */

typedef struct truth {
    const oct_int8_spec *spec;
    uint8_t *input; /* [BATCH] images of the input tensor */
    int32_t *values[NET_MAX][BATCH];
    size_t seen, differing; /* by the observer */
    int tensors;
} truth;

/* Images: 0 all lowest, 1 all highest, 2 alternating extremes, the rest random. */
static void fill_input(net *n, uint8_t *x, const oct_int8_tensor *t, int image)
{
    size_t count = oct_int8_tensor_elements(t);
    uint8_t low = t->is_signed ? 0x80 : 0, high = t->is_signed ? 0x7f : 0xff;
    for (size_t i = 0; i < count; i++) {
        uint8_t random = (uint8_t)net_pick(n, 0, 255);
        x[i] = image == 0 ? low : image == 1 ? high : image == 2 ? (i % 2 ? low : high) : random;
    }
}

static void truth_make(truth *t, net *n)
{
    const oct_int8_spec *spec = &n->spec;
    const oct_int8_tensor *in = &spec->tensors[spec->input];
    size_t bytes = oct_int8_tensor_bytes(in);
    *t = (truth){.spec = spec, .input = oct_arena_alloc(&n->arena, BATCH, bytes)};
    for (int image = 0; image < BATCH; image++) {
        int32_t *values[NET_MAX];
        uint8_t *x = t->input + (size_t)image * bytes;
        for (int i = 0; i < spec->tensor_count; i++)
            values[i] = t->values[i][image] =
                oct_arena_alloc(&n->arena, oct_int8_tensor_elements(&spec->tensors[i]), sizeof(int32_t));
        fill_input(n, x, in, image);
        for (size_t i = 0; i < bytes; i++) values[spec->input][i] = as_code(in, x[i]);
        plain_run(spec, values);
    }
}

static void compare_tensor(void *user, int tensor, const void *data, int count)
{
    truth *t = user;
    const oct_int8_tensor *what = &t->spec->tensors[tensor];
    size_t n = oct_int8_tensor_elements(what), before = t->differing;
    for (int image = 0; image < count; image++) {
        for (size_t i = 0; i < n; i++) {
            size_t e = (size_t)image * n + i;
            int32_t got = what->kind == OCT_INT8_SCORES ? ((const int32_t *)data)[e]
                                                        : as_code(what, ((const uint8_t *)data)[e]);
            t->seen++;
            t->differing += got != t->values[tensor][image][i];
        }
    }
    t->tensors++;
    if (t->differing != before)
        printf("    tensor %s: %zu of %zu codes differ\n", what->name, t->differing - before, n * (size_t)count);
}

static bool scores_are_true(const truth *t, const int32_t *scores, int count)
{
    size_t n = oct_int8_tensor_elements(&t->spec->tensors[t->spec->output]);
    for (int image = 0; image < count; image++)
        if (memcmp(scores + (size_t)image * n, t->values[t->spec->output][image], n * sizeof *scores)) return false;
    return true;
}

/* Every thread count (thorough: and every batch) gives the truth; observed, every tensor does. */
static void check_model(const oct_int8_model *model, truth *t, int32_t *scores, bool thorough)
{
    oct_error error = {0};
    size_t outputs = oct_int8_tensor_elements(&t->spec->tensors[t->spec->output]);
    for (int threads = 1; threads <= 4; threads += thorough ? 1 : 2) {
        oct_int8_state *state;
        CU_ASSERT_TRUE_FATAL(
            test_is_ok(&error, oct_int8_state_create(&state, model, BATCH, threads, &error), "state"));
        for (int count = 1; count <= BATCH; count += thorough || count == BATCH - 1 ? 1 : BATCH - 2) {
            memset(scores, 0x55, BATCH * outputs * sizeof *scores);
            CU_ASSERT_EQUAL(run_any(state, model, t->input, count, scores), OCT_OK);
            CU_ASSERT_TRUE(scores_are_true(t, scores, count));
        }
        t->seen = t->differing = 0, t->tensors = 0;
        CU_ASSERT_EQUAL(oct_int8_observe(state, compare_tensor, t, &error), OCT_OK);
        CU_ASSERT_EQUAL(run_any(state, model, t->input, threads == 1 ? 1 : BATCH, scores), OCT_OK);
        CU_ASSERT_EQUAL(t->tensors, t->spec->layer_count);
        CU_ASSERT_EQUAL(t->differing, 0);
        CU_ASSERT_TRUE(t->seen > 0);
        oct_int8_state_destroy(state);
    }
}

static void check_all_levels(net *n, bool thorough)
{
    oct_error error = {0};
    uint8_t *bytes;
    size_t size;
    if (!test_is_ok(&error, oct_int8_image_write(&bytes, &size, &n->spec, &error), "oct_int8_image_write")) {
        CU_FAIL("the network is not valid");
        return;
    }
    truth t;
    truth_make(&t, n);
    int32_t *scores = oct_arena_alloc(&n->arena, BATCH * oct_int8_tensor_elements(&n->spec.tensors[n->spec.output]),
                                      sizeof *scores);
    for (int level = 0; oct_cpu_level_name(level); level++) {
        uint32_t mask;
        CU_ASSERT_EQUAL(oct_cpu_parse(&mask, oct_cpu_level_name(level), &error), OCT_OK);
        if (mask & ~oct_cpu_detect()) continue;
        oct_int8_model *model;
        oct_status status =
            oct_int8_open(&model, bytes, size, &(oct_int8_options){.cpu = oct_cpu_level_name(level)}, &error);
        CU_ASSERT_TRUE(test_is_ok(&error, status, "oct_int8_open"));
        if (model) check_model(model, &t, scores, thorough);
        oct_int8_close(model);
    }
    oct_free(bytes);
}

static void run_random_networks_match_plain_model(void)
{
    int used[OCT_INT8_OP_COUNT] = {0};
    for (unsigned seed = 0; seed < 60; seed++) {
        net n;
        net_random(&n, seed, 12);
        for (int i = 0; i < n.spec.layer_count; i++) used[n.layers[i].op]++;
        unsigned before = CU_get_number_of_failures();
        check_all_levels(&n, seed % 6 == 0);
        if (CU_get_number_of_failures() != before) printf("    seed %u\n", seed);
        net_release(&n);
    }
    for (int op = 0; op < OCT_INT8_OP_COUNT; op++) CU_ASSERT_TRUE(used[op] > 0);
}

/* Profile affine, each rounding: any scale, zero points at the border, multipliers above 1. */
static void run_random_affine_networks_match_plain_model(void)
{
    for (unsigned seed = 0; seed < 45; seed++) {
        net n;
        net_random(&n, seed + 1000, 12);
        net_make_affine(&n, OCT_INT8_ROUND_FLOAT + seed % 3);
        unsigned before = CU_get_number_of_failures();
        check_all_levels(&n, seed % 9 == 0);
        if (CU_get_number_of_failures() != before) printf("    affine seed %u\n", seed);
        net_release(&n);
    }
}

/* Scores compare by their products in double, in the order of the channels' scales. */
static void argmax_affine_compares_scaled_scores(void)
{
    net n;
    net_start(&n, 5);
    n.spec.input = net_tensor(&n, OCT_INT8_CODES, 1, 1, 4, 0, 0);
    n.spec.output = net_linear(&n, n.spec.input, 3, OCT_INT8_SCORES);
    net_make_affine(&n, OCT_INT8_ROUND_FLOAT);
    float scales[3] = {0.1f, 0.3f, 0.2f};
    n.layers[0].weight_scales = scales, n.layers[0].weight_exponent_count = 3;
    uint8_t *bytes;
    size_t size;
    oct_error error = {0};
    CU_ASSERT_EQUAL_FATAL(oct_int8_image_write(&bytes, &size, &n.spec, &error), OCT_OK);
    oct_int8_model *model;
    CU_ASSERT_EQUAL_FATAL(oct_int8_open(&model, bytes, size, NULL, &error), OCT_OK);
    CU_ASSERT_EQUAL(oct_int8_argmax(model, (const int32_t[]){30, 11, 15}), 1);
    CU_ASSERT_EQUAL(oct_int8_argmax(model, (const int32_t[]){-30, -11, -15}), 0 + 2 * (0.2f * 15 < 0.1f * 30));
    CU_ASSERT_EQUAL(oct_int8_argmax(model, (const int32_t[]){0, 0, 0}), 0);
    CU_ASSERT_EQUAL(oct_int8_argmax(model, (const int32_t[]){INT32_MAX, INT32_MIN, 0}), 0);
    CU_ASSERT_EQUAL(oct_int8_score_scale(model, 1), (double)n.tensors[n.spec.input].scale * (double)0.3f);
    CU_ASSERT_EQUAL(oct_int8_model_rounding(model), OCT_INT8_ROUND_FLOAT);
    oct_int8_close(model);
    oct_free(bytes);
    net_release(&n);
}

/* What must not be in an affine model, and what must. */
static void run_signed_padded_extreme_weights_match_plain_model(void)
{
    for (int is_signed = 0; is_signed <= 1; is_signed++) {
        for (int groups = 0; groups <= 2; groups++) {
            net n;
            net_start(&n, 7);
            int x = net_tensor(&n, OCT_INT8_CODES, 9, 7, 34, is_signed, 3);
            n.spec.input = x;
            x = net_conv(&n, x, 50, 3, groups, OCT_INT8_CODES);
            net_weights(&n, &n.layers[0], true);
            x = net_linear(&n, x, 17, OCT_INT8_SCORES);
            net_weights(&n, &n.layers[1], true);
            n.spec.output = x;
            check_all_levels(&n, true);
            net_release(&n);
        }
    }
}

/* A layer larger than one block of padded rows and one chunk of pixels. */
static void run_large_layers_match_plain_model(void)
{
    net n;
    net_start(&n, 11);
    int x = net_tensor(&n, OCT_INT8_CODES, 61, 47, 48, 1, 3);
    n.spec.input = x;
    x = net_conv(&n, x, 400, 1, 1, OCT_INT8_CODES);
    x = net_conv(&n, x, 0, 3, 0, OCT_INT8_CODES);
    x = net_conv(&n, x, 20, 3, 2, OCT_INT8_CODES);
    x = net_pool(&n, x, OCT_INT8_AVERAGE_POOL, true);
    n.spec.output = net_linear(&n, x, 10, OCT_INT8_SCORES);
    oct_error error = {0};
    uint8_t *bytes;
    size_t size;
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_int8_image_write(&bytes, &size, &n.spec, &error), "write"));
    int32_t *values[NET_MAX], scores[10], first[10];
    uint8_t *input = oct_arena_alloc(&n.arena, oct_int8_tensor_elements(&n.tensors[0]), 1);
    for (int i = 0; i < n.spec.tensor_count; i++)
        values[i] = oct_arena_alloc(&n.arena, oct_int8_tensor_elements(&n.tensors[i]), sizeof(int32_t));
    fill_input(&n, input, &n.tensors[0], 3);
    for (size_t i = 0; i < oct_int8_tensor_elements(&n.tensors[0]); i++)
        values[0][i] = as_code(&n.tensors[0], input[i]);
    plain_run(&n.spec, values);
    memcpy(first, values[n.spec.output], sizeof first);
    for (int threads = 1; threads <= 3; threads++) {
        oct_int8_model *model;
        oct_int8_state *state;
        CU_ASSERT_EQUAL_FATAL(oct_int8_open(&model, bytes, size, NULL, &error), OCT_OK);
        CU_ASSERT_EQUAL_FATAL(oct_int8_state_create(&state, model, 1, threads, &error), OCT_OK);
        CU_ASSERT_EQUAL(oct_int8_run_codes(state, input, 1, scores), OCT_OK);
        CU_ASSERT_EQUAL(memcmp(scores, first, sizeof scores), 0);
        oct_int8_state_destroy(state);
        oct_int8_close(model);
    }
    oct_free(bytes);
    net_release(&n);
}

/* One elementwise layer on a signed and an unsigned input, all exponents at their limits. */
static void check_pair(oct_int8_op op, int ka, int kb, int ko)
{
    net n;
    net_start(&n, 3);
    int x = net_tensor(&n, OCT_INT8_CODES, 4, 5, 7, 1, ka);
    n.spec.input = x;
    int z = net_lookup(&n, x, true);
    n.tensors[z].exponent = kb;
    n.tensors[z].is_signed = 0;
    int out = net_tensor(&n, OCT_INT8_CODES, 4, 5, 7, 1, ko);
    oct_int8_layer *l = net_layer(&n, op, x, out);
    l->inputs[1] = op == OCT_INT8_RESCALE ? 0 : z;
    l->input_count = op == OCT_INT8_RESCALE ? 1 : 2;
    l->out_lo = -128, l->out_hi = 127;
    n.spec.output = out;
    check_all_levels(&n, false);
    net_release(&n);
}

static void run_exponents_far_apart_match_plain_model(void)
{
    static const int pairs[][3] = {{0, 22, 22}, {0, 23, 23}, {40, 0, 0},    {0, 40, 8}, {30, -10, -22},
                                   {0, 0, 31},  {-3, 5, 25}, {20, 20, -42}, {5, 5, 5},  {21, 0, 30}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        check_pair(OCT_INT8_ADD, pairs[i][0], pairs[i][1], pairs[i][2]);
    static const int products[][3] = {{10, 10, 51}, {20, 20, -22}, {5, 5, 2}, {60, -60, 0}, {60, 55, 53}};
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        check_pair(OCT_INT8_MUL, products[i][0], products[i][1], products[i][2]);
    for (int shift = -31; shift <= 62; shift += 3)
        check_pair(OCT_INT8_RESCALE, shift > 31 ? 31 : 0, 0, shift > 31 ? 31 - shift : -shift);
}

/* ---- public calls ---- */

typedef struct opened {
    net n;
    uint8_t *bytes;
    size_t size;
    oct_int8_model *model;
} opened;

static void open_small(opened *o, unsigned seed, int depth)
{
    oct_error error = {0};
    net_random(&o->n, seed, depth);
    CU_ASSERT_TRUE_FATAL(
        test_is_ok(&error, oct_int8_image_write(&o->bytes, &o->size, &o->n.spec, &error), "oct_int8_image_write"));
    CU_ASSERT_TRUE_FATAL(
        test_is_ok(&error, oct_int8_open(&o->model, o->bytes, o->size, NULL, &error), "oct_int8_open"));
}

static void close_small(opened *o)
{
    oct_int8_close(o->model);
    oct_free(o->bytes);
    net_release(&o->n);
}

/* pixels -> table -> linear with the given score exponents; the smallest model with an argmax. */
static void small_head(net *n, int outputs, const int8_t *exponents)
{
    net_start(n, 1);
    int x = net_tensor(n, OCT_INT8_PIXELS, 2, 2, 3, 0, 0);
    n->spec.input = x;
    x = net_lookup(n, x, false);
    n->tensors[x].exponent = 0;
    n->spec.output = net_linear(n, x, outputs, OCT_INT8_SCORES);
    oct_int8_layer *l = &n->layers[1];
    l->weight_exponents = exponents;
    l->weight_exponent_count = outputs;
    n->tensors[n->spec.output].exponents = exponents;
    n->tensors[n->spec.output].exponent = 0;
    net_information(n);
}

static void argmax_exponents_per_channel_compares_exactly(void)
{
    static const int8_t exponents[5] = {0, 10, -50, 50, 0};
    net n;
    small_head(&n, 5, exponents);
    uint8_t *bytes;
    size_t size;
    oct_int8_model *model;
    oct_error error = {0};
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_int8_image_write(&bytes, &size, &n.spec, &error), "write"));
    CU_ASSERT_EQUAL_FATAL(oct_int8_open(&model, bytes, size, NULL, &error), OCT_OK);
    static const struct {
        int32_t scores[5];
        int best, second;
    } cases[] = {
        {{3, 3 * 1024, 0, INT32_MAX, 3}, 0, 1},  /* ties: lowest first */
        {{3, 3 * 1024 + 1, 0, 0, 3}, 1, 0},      /* one unit of 2^-10 decides */
        {{INT32_MAX, 0, 1, 0, INT32_MAX}, 2, 0}, /* 2^50 beats 2^31 */
        {{-1, -1, -1, -1, -1}, 3, 1},            /* the smallest step below zero wins */
        {{INT32_MIN, 0, 0, INT32_MIN, 0}, 1, 2}, /* zeros tie across any exponents */
        {{0, 0, INT32_MIN, 1, 0}, 3, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int top[8];
        CU_ASSERT_EQUAL(oct_int8_argmax(model, cases[i].scores), cases[i].best);
        CU_ASSERT_EQUAL(oct_int8_top(model, cases[i].scores, top, 8), 5);
        CU_ASSERT_EQUAL(top[0], cases[i].best);
        CU_ASSERT_EQUAL(top[1], cases[i].second);
    }
    CU_ASSERT_EQUAL(oct_int8_score_exponent(model, 2), -50);
    oct_int8_close(model);
    oct_free(bytes);
    net_release(&n);
}

static void accessors_return_what_the_spec_says(void)
{
    opened o;
    open_small(&o, 2, 6);
    const oct_int8_spec *spec = &o.n.spec;
    memset(o.bytes, 0xee, o.size); /* the model must not need the image any more */
    CU_ASSERT_EQUAL(oct_int8_tensor_count(o.model), spec->tensor_count);
    CU_ASSERT_EQUAL(oct_int8_layer_count(o.model), spec->layer_count);
    CU_ASSERT_EQUAL(oct_int8_input(o.model), spec->input);
    CU_ASSERT_EQUAL(oct_int8_output(o.model), spec->output);
    CU_ASSERT_EQUAL(oct_int8_source_digest(o.model), spec->source_digest);
    CU_ASSERT_EQUAL(oct_int8_resize(o.model), spec->resize);
    CU_ASSERT_STRING_EQUAL(oct_int8_interpolation(o.model), "bicubic");
    CU_ASSERT_STRING_EQUAL(oct_int8_class_name(o.model, 0), spec->class_names[0]);
    CU_ASSERT_PTR_NULL(oct_int8_class_name(o.model, spec->class_count));
    CU_ASSERT_EQUAL(memcmp(oct_int8_mean(o.model), spec->mean, sizeof(float)), 0);
    CU_ASSERT_EQUAL(memcmp(oct_int8_scale(o.model), spec->scale, sizeof(float)), 0);
    CU_ASSERT_PTR_NULL(oct_int8_tensor_at(o.model, -1));
    CU_ASSERT_PTR_NULL(oct_int8_layer_at(o.model, spec->layer_count));
    for (int i = 0; i < spec->tensor_count; i++) {
        const oct_int8_tensor *a = oct_int8_tensor_at(o.model, i), *b = &spec->tensors[i];
        CU_ASSERT_STRING_EQUAL(a->name, b->name);
        CU_ASSERT_TRUE(a->kind == b->kind && a->channels == b->channels && a->exponent == b->exponent);
    }
    for (int i = 0; i < spec->layer_count; i++) {
        CU_ASSERT_STRING_EQUAL(oct_int8_layer_at(o.model, i)->name, spec->layers[i].name);
        CU_ASSERT_EQUAL(oct_int8_layer_at(o.model, i)->macs, oct_int8_layer_macs(spec, &spec->layers[i]));
    }
    CU_ASSERT_TRUE(oct_int8_model_bytes(o.model) > 0);
    close_small(&o);
}

static void run_codes_of_the_lookup_equals_run(void)
{
    static const int8_t exponents[3] = {1, 2, 3};
    net n;
    small_head(&n, 3, exponents);
    oct_error error = {0};
    uint8_t *bytes, pixels[12], codes[12];
    size_t size;
    oct_int8_model *model;
    oct_int8_state *state;
    int32_t a[3], b[3];
    CU_ASSERT_EQUAL_FATAL(oct_int8_image_write(&bytes, &size, &n.spec, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_int8_open(&model, bytes, size, NULL, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_int8_state_create(&state, model, 1, 1, &error), OCT_OK);
    for (int i = 0; i < 12; i++) {
        pixels[i] = (uint8_t)(i * 20);
        codes[i] = n.layers[0].table[256 * (i % 3) + pixels[i]];
    }
    CU_ASSERT_EQUAL(oct_int8_code_input(model), n.layers[0].output);
    CU_ASSERT_EQUAL(oct_int8_run(state, pixels, 1, a), OCT_OK);
    CU_ASSERT_EQUAL(oct_int8_run_codes(state, codes, 1, b), OCT_OK);
    CU_ASSERT_EQUAL(memcmp(a, b, sizeof a), 0);
    CU_ASSERT_TRUE(a[0] != a[1]);
    oct_int8_state_destroy(state);
    oct_int8_close(model);
    oct_free(bytes);
    net_release(&n);
}

static void run_bad_arguments_are_refused_with_a_message(void)
{
    opened o;
    open_small(&o, 2, 3);
    oct_error error = {0};
    oct_int8_state *state;
    CU_ASSERT_EQUAL(oct_int8_state_create(&state, o.model, 0, 1, &error), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(state);
    oct_error_clear(&error);
    CU_ASSERT_EQUAL(oct_int8_state_create(&state, o.model, 1, -1, &error), OCT_ERR_ARGUMENT);
    oct_error_clear(&error);
    CU_ASSERT_EQUAL_FATAL(oct_int8_state_create(&state, o.model, 2, 0, &error), OCT_OK);
    uint8_t input[1] = {0};
    int32_t scores[1];
    CU_ASSERT_EQUAL(oct_int8_run_codes(state, input, 3, scores), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(oct_int8_state_error(state), "3 images, expected 1..2"));
    CU_ASSERT_EQUAL(oct_int8_run_codes(state, input, 0, scores), OCT_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(oct_int8_run_codes(state, NULL, 1, scores), OCT_ERR_ARGUMENT);
    CU_ASSERT_TRUE(oct_int8_state_bytes(state) > 0);
    oct_int8_state_destroy(state);
    oct_int8_model *model;
    CU_ASSERT_EQUAL(oct_int8_open(&model, o.bytes, o.size, &(oct_int8_options){.cpu = "mmx"}, &error),
                    OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(model);
    close_small(&o);
}

static void open_allocation_failures_are_clean(void)
{
    opened o;
    open_small(&o, 2, 5);
    oct_status status = OCT_ERR_MEMORY;
    long n = 1;
    for (; status != OCT_OK && n < 1000; n++) {
        oct_error error = {0};
        oct_int8_model *model;
        oct_int8_state *state = NULL;
        oct_alloc_fail_after(n);
        status = oct_int8_open(&model, o.bytes, o.size, NULL, &error);
        if (status == OCT_OK) status = oct_int8_state_create(&state, model, 2, 2, &error);
        oct_alloc_fail_after(0);
        CU_ASSERT_TRUE(status == OCT_OK || (status == OCT_ERR_MEMORY && error.message[0]));
        oct_int8_state_destroy(state);
        oct_int8_close(model);
    }
    CU_ASSERT_TRUE(n > 5);
    close_small(&o);
}

/* ---- the library on its own ---- */

static const char program[] = "#include \"quant/int8/octet_int8.h\"\n"
                              "#include <stdio.h>\n"
                              "int main(void)\n"
                              "{\n"
                              "    oct_error error = {OCT_OK, \"\"};\n"
                              "    oct_int8_model *model;\n"
                              "    oct_int8_state *state;\n"
                              "    if (oct_int8_open(&model, \"nothing\", 7, NULL, &error) == OCT_OK) return 1;\n"
                              "    if (oct_int8_state_create(&state, model, 0, 1, &error) == OCT_OK) return 1;\n"
                              "    puts(error.message);\n"
                              "    oct_int8_state_destroy(state);\n"
                              "    oct_int8_close(model);\n"
                              "    return 0;\n"
                              "}\n";

static void link_with(const char *compiler, const char *suffix)
{
    const char *build = getenv("B");
    char library[512], command[2048], source[512];
    snprintf(library, sizeof library, "%s/liboctet-int8.a", build ? build : "build/release");
    if (access(library, R_OK)) SKIP("the engine library has not been built");
    if (build && strcmp(build, "build/release")) SKIP("linked in the release build only");
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", compiler);
    if (system(command)) SKIP("no such compiler");
    const char *folder = test_folder();
    snprintf(source, sizeof source, "%s/program.%s", folder, suffix);
    FILE *file = fopen(source, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(program, file);
    fclose(file);
    snprintf(command, sizeof command,
             "%s -Wall -Wextra -Werror -I. %s %s -lm -fopenmp -o %s/program && %s/program >/dev/null", compiler,
             source, library, folder, folder);
    CU_ASSERT_EQUAL(system(command), 0);
}

static void library_links_alone_in_c(void)
{
    link_with("cc", "c");
}

static void library_links_alone_in_cxx(void)
{
    link_with("c++", "cc");
}

static const test_case cases[] = {
    {"run_random_networks_match_plain_model", run_random_networks_match_plain_model},
    {"run_signed_padded_extreme_weights_match_plain_model", run_signed_padded_extreme_weights_match_plain_model},
    {"run_large_layers_match_plain_model", run_large_layers_match_plain_model},
    {"run_exponents_far_apart_match_plain_model", run_exponents_far_apart_match_plain_model},
    {"run_random_affine_networks_match_plain_model", run_random_affine_networks_match_plain_model},
    {"argmax_affine_compares_scaled_scores", argmax_affine_compares_scaled_scores},
    {"argmax_exponents_per_channel_compares_exactly", argmax_exponents_per_channel_compares_exactly},
    {"accessors_return_what_the_spec_says", accessors_return_what_the_spec_says},
    {"run_codes_of_the_lookup_equals_run", run_codes_of_the_lookup_equals_run},
    {"run_bad_arguments_are_refused_with_a_message", run_bad_arguments_are_refused_with_a_message},
    {"open_allocation_failures_are_clean", open_allocation_failures_are_clean},
    {"library_links_alone_in_c", library_links_alone_in_c},
    {"library_links_alone_in_cxx", library_links_alone_in_cxx},
};
TEST_SUITE("int8_engine", cases);
