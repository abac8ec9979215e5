/* SPDX-License-Identifier: BSD-2-Clause
 * Networks of the zoo against PyTorch (tests/golden/gen/networks.py): logits of formula images with formula weights to 1e-4
 * of the largest, at sizes where padding matters, fused and node by node. */
#include <stdio.h>

#include "autograd/base/memory.h"
#include "autograd/plan.h"
#include "layers/models.h"
#include "tests/golden_fill.h"
#include "tests/testing.h"

enum { IMAGES = 2, NETWORKS = 6, FIRST_STREAM = 1000 };
static const char golden_path[] = "tests/golden/networks.txt";

/* A line of the file; rows of every `stride`-th logit follow, one per image. */
typedef struct golden_network {
    char spec[64];
    oct_model_options options;
    int stride;
    double magnitude;
} golden_network;

static bool read_network(FILE *f, golden_network *n)
{
    char line[256];
    *n = (golden_network){0};
    oct_model_options *o = &n->options;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "network %63s %d %d %d %d %d %lf", n->spec, &o->height, &o->width, &o->channels, &o->classes,
                   &n->stride, &n->magnitude) == 7)
            return true;
    return false;
}

static void fill(oct_graph *g)
{
    for (int32_t i = 0; i < g->node_count; i++) {
        float *data = oct_graph_data(g, (oct_value){i}, NULL);
        if (data) golden_fill_tensor(g->nodes[i], data);
    }
}

/* The logits of all images, freed by the caller. */
static oct_status run(float **logits, oct_ctx *ctx, const golden_network *n, int stream, bool no_fuse)
{
    oct_graph *g = NULL;
    oct_plan *plan = NULL;
    oct_model model;
    oct_model_options options = n->options;
    for (int c = 0; c < 3; c++) options.preprocess.mean[c] = 127.5f, options.preprocess.scale[c] = 1.0f / 64;
    oct_status status = oct_graph_create(&g, ctx, 1);
    if (status == OCT_OK) status = oct_model_build(&model, g, n->spec, &options);
    if (status == OCT_OK) fill(g);
    oct_plan_options plan_options = {.batch = IMAGES, .mode = OCT_EVAL, .no_fuse = no_fuse, .outputs = &model.logits,
                                     .output_count = 1};
    if (status == OCT_OK) status = oct_plan_create(&plan, g, &plan_options);
    if (status == OCT_OK) {
        size_t image = (size_t)options.height * (size_t)options.width * (size_t)options.channels;
        uint8_t *pixels = oct_plan_input(plan, model.image);
        for (size_t i = 0; i < IMAGES; i++) golden_fill_pixels(pixels + i * image, image, (uint64_t)stream, i);
        status = oct_plan_forward(plan, &(oct_run){.mode = OCT_EVAL}, IMAGES);
    }
    if (status == OCT_OK) {
        size_t count = IMAGES * (size_t)options.classes;
        *logits = oct_alloc(count, sizeof **logits);
        memcpy(*logits, oct_plan_tensor(plan, model.logits)->data, count * sizeof **logits);
    }
    oct_plan_destroy(plan);
    oct_graph_destroy(g);
    return status;
}

/* Largest difference to the file's rows; negative when there are too few numbers. */
static double worst_difference(FILE *f, const golden_network *n, const float *logits)
{
    double worst = 0, expected;
    for (int i = 0; i < IMAGES; i++)
        for (int k = 0; k < n->options.classes; k += n->stride) {
            if (fscanf(f, "%lf", &expected) != 1) return -1;
            double difference = fabs((double)logits[i * n->options.classes + k] - expected);
            if (!(difference <= worst)) worst = difference;
        }
    return worst;
}

static void check_all(bool no_fuse)
{
    FILE *f = fopen(golden_path, "r");
    CU_ASSERT_FATAL(f != NULL);
    golden_network n;
    int count = 0;
    for (; read_network(f, &n); count++) {
        oct_ctx *ctx = test_ctx();
        float *logits = NULL;
        bool ran = test_is_ok(&ctx->error, run(&logits, ctx, &n, FIRST_STREAM + count, no_fuse), n.spec);
        double worst = ran ? worst_difference(f, &n, logits) : -1;
        bool good = worst >= 0 && worst <= 1e-4 * n.magnitude;
        if (ran && !good) printf("    %s: a logit differs by %.2e, the largest is %.4g\n", n.spec, worst, n.magnitude);
        CU_ASSERT(good);
        oct_free(logits);
        oct_ctx_destroy(ctx);
    }
    fclose(f);
    CU_ASSERT(count == NETWORKS);
}

static void networks_fused_give_torch_s_logits(void)
{
    check_all(false);
}

static void networks_node_by_node_give_torch_s_logits(void)
{
    check_all(true);
}

static const test_case cases[] = {
    {"networks_fused_give_torch_s_logits", networks_fused_give_torch_s_logits},
    {"networks_node_by_node_give_torch_s_logits", networks_node_by_node_give_torch_s_logits},
};
TEST_SUITE("golden_networks", cases);
