/* SPDX-License-Identifier: BSD-2-Clause
 * Which kernels run which layer: three networks of the zoo, at every level. A change of plan must be a decision.
 */
#include <stdio.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "layers/models.h"
#include "quant/export.h"
#include "quant/int8/image.h"
#include "quant/quantize.h"
#include "tests/testing.h"

enum { BATCH = 2, SIDE = 32, MOST_LAYERS = 128 };

/* One letter per layer. */
static char letter(const char *kernel)
{
    static const struct {
        const char *kernel;
        char letter;
    } letters[] = {{"", '-'},          {"pad_pixels+conv_codes", 'x'}, {"conv_codes", 'c'}, {"pad_image+conv_codes", 'p'},
                   {"conv_row", 's'},  {"depthwise_codes", 'd'},       {"add", 'a'},        {"pool_sum", 'g'},
                   {"lookup", 'l'}};
    for (size_t i = 0; i < sizeof letters / sizeof letters[0]; i++)
        if (!strcmp(kernel, letters[i].kernel)) return letters[i].letter;
    return '?';
}

typedef struct network {
    oct_ctx *ctx;
    oct_graph *graph;
    oct_exported *exported;
    uint8_t *bytes;
    size_t size;
} network;

/* Ranges from one random batch. */
static oct_status observe(network *n, const oct_model *m)
{
    static uint8_t images[BATCH * SIDE * SIDE * 3];
    static const int32_t labels[BATCH];
    oct_rng rng = oct_rng_start(1, OCT_RNG_SYNTHETIC, 0, 0);
    for (size_t i = 0; i < sizeof images; i++) images[i] = (uint8_t)oct_rng_below(&rng, 256);
    oct_plan *plan;
    oct_plan_options options = {.batch = BATCH, .mode = OCT_TRAIN, .outputs = &m->loss, .output_count = 1};
    OCT_TRY(oct_plan_create(&plan, n->graph, &options));
    oct_plan_bind(plan, m->image, images);
    oct_plan_bind(plan, m->label, labels);
    oct_run run = {.mode = OCT_TRAIN, .bn_frozen = 1, .seed = 1};
    oct_status status = oct_plan_forward(plan, &run, BATCH);
    oct_plan_destroy(plan);
    return status;
}

static oct_status make(network *n, const char *name)
{
    oct_model m;
    oct_model_options o = {.height = SIDE, .width = SIDE, .channels = 3, .classes = 10};
    oct_qconfig config = OCT_QCONFIG_DEFAULT;
    for (int i = 0; i < 4; i++) o.preprocess.mean[i] = 127.5f, o.preprocess.scale[i] = 1 / 64.0f;
    OCT_TRY(oct_graph_create(&n->graph, n->ctx, 1));
    OCT_TRY(oct_model_build(&m, n->graph, name, &o));
    OCT_TRY(oct_quantize(n->graph, &config, NULL, NULL));
    OCT_TRY(observe(n, &m));
    OCT_TRY(oct_export_create(&n->exported, n->graph, m.image, m.logits, &(oct_export_options){0}));
    return oct_int8_image_write(&n->bytes, &n->size, oct_exported_spec(n->exported), &n->ctx->error);
}

static void release(network *n)
{
    oct_free(n->bytes);
    oct_export_destroy(n->exported);
    oct_graph_destroy(n->graph);
    oct_ctx_destroy(n->ctx);
}

/* Words of `expected` are one per stage, for reading. */
static void check_level(const network *n, const char *level, const char *expected)
{
    oct_int8_model *model;
    oct_int8_state *state;
    oct_error error = {OCT_OK, ""};
    char found[MOST_LAYERS] = "", wanted[MOST_LAYERS] = "";
    CU_ASSERT_EQUAL_FATAL(oct_int8_open(&model, n->bytes, n->size, &(oct_int8_options){.cpu = level}, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_int8_state_create(&state, model, 1, 1, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_int8_profile(state, 1, &error), OCT_OK);
    int count;
    const oct_int8_layer_time *times = oct_int8_layer_times(state, &count, NULL);
    for (int i = 0; i < count && i < MOST_LAYERS - 1; i++) found[i] = letter(times[i].kernel);
    for (size_t i = 0, at = 0; expected[i]; i++)
        if (expected[i] != ' ') wanted[at++] = expected[i];
    CU_ASSERT_STRING_EQUAL(found, wanted);
    if (strcmp(found, wanted)) printf("%s: %s, expected %s\n", level, found, wanted);
    oct_int8_state_destroy(state);
    oct_int8_close(model);
}

/* `pairs`: levels with 16-bit operands, which copy every operand; `bytes`: levels with a u8 x s8 dot product. */
static void check_network(const char *name, const char *pairs, const char *bytes)
{
    network n = {.ctx = test_ctx()};
    CU_ASSERT_PTR_NOT_NULL_FATAL(n.ctx);
    bool made = test_is_ok(&n.ctx->error, make(&n, name), name);
    CU_ASSERT_TRUE(made);
    for (int level = 0; made && oct_cpu_level_name(level); level++) {
        uint32_t mask;
        CU_ASSERT_EQUAL(oct_cpu_parse(&mask, oct_cpu_level_name(level), NULL), OCT_OK);
        if (mask & ~oct_cpu_detect()) continue;
        bool dot = mask & (OCT_CPU_AVXVNNI | OCT_CPU_AVX512VNNI | OCT_CPU_NEONDOT);
        check_level(&n, oct_cpu_level_name(level), dot ? bytes : pairs);
    }
    release(&n);
}

static void plan_resnet8_kernels_are_these(void)
{
    check_network("resnet8", "-x ppa pppa pppa gs", "-x ppa ppca ppca gs");
}

static void plan_mobilenetv1_kernels_are_these(void)
{
    check_network("mobilenetv1:width=0.25", "-x dp dp dp dp dp dp dp dp dp dp dp dp dp gs",
                  "-x dc dc dc dc dc dc dc dc dc dc dc dc dc gs");
}

static void plan_mobilenetv2_kernels_are_these(void)
{
    check_network("mobilenetv2", "-x dp pdp pdpa pdp pdpa pdpa pdp pdpa pdpa pdpa pdp pdpa pdpa pdp pdpa pdpa pdp pgs",
                  "-x dc pdc pdca pdc pdca pdca pdc pdca pdca pdca pdc pdca pdca pdc pdca pdca pdc pgs");
}

static const test_case cases[] = {
    {"plan_resnet8_kernels_are_these", plan_resnet8_kernels_are_these},
    {"plan_mobilenetv1_kernels_are_these", plan_mobilenetv1_kernels_are_these},
    {"plan_mobilenetv2_kernels_are_these", plan_mobilenetv2_kernels_are_these},
};
TEST_SUITE("int8_plan", cases);
