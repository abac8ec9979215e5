/* SPDX-License-Identifier: BSD-2-Clause
 * Ten training steps of ResNet-8 against PyTorch (tests/golden/gen/resnet8_steps.py, which also says how parameters
 * and batches are made): losses, final parameters and running statistics to 1e-4, fused and node by node. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/plan.h"
#include "layers/models.h"
#include "optim/sgd.h"
#include "tests/golden_fill.h"
#include "tests/testing.h"

enum { STEPS = 10, BATCH = 16, SIZE = 32, CLASSES = 10 };
static const char golden_path[] = "tests/golden/resnet8_steps.txt";

/* --- what went in --- */

static void fill_batch(uint64_t step, uint8_t *pixels, int32_t *labels)
{
    golden_fill_pixels(pixels, (size_t)BATCH * SIZE * SIZE * 3, 1 + step, 0);
    oct_rng rng = oct_rng_start(GOLDEN_SEED, OCT_RNG_SYNTHETIC, 1 + step, 1);
    for (int i = 0; i < BATCH; i++) labels[i] = (int32_t)(oct_rng_u32(&rng) % CLASSES);
}

/* --- our ten steps --- */

typedef struct trained {
    oct_ctx *ctx;
    oct_graph *graph;
    float *start; /* the parameters before the first step */
    double losses[STEPS];
} trained;

static oct_status build(trained *t, oct_model *model)
{
    oct_model_options options = {.height = SIZE, .width = SIZE, .channels = 3, .classes = CLASSES};
    for (int c = 0; c < 3; c++) {
        options.preprocess.mean[c] = 127.5f;
        options.preprocess.scale[c] = 1.0f / 64;
    }
    OCT_TRY(oct_graph_create(&t->graph, t->ctx, 1));
    OCT_TRY(oct_model_build(model, t->graph, "resnet8", &options));
    oct_graph *g = t->graph;
    for (int32_t i = 0; i < g->node_count; i++)
        if (g->nodes[i]->kind == OCT_NODE_PARAMETER) golden_fill_tensor(g->nodes[i], g->params.data + g->nodes[i]->offset);
    t->start = oct_alloc(g->params.count, sizeof *t->start);
    if (!t->start) return oct_out_of_memory(t->ctx, "golden");
    memcpy(t->start, g->params.data, g->params.count * sizeof *t->start);
    return OCT_OK;
}

static oct_status run_steps(trained *t, const oct_model *model, oct_plan *plan, oct_sgd *sgd)
{
    for (uint64_t step = 0; step < STEPS; step++) {
        fill_batch(step, oct_plan_input(plan, model->image), oct_plan_input(plan, model->label));
        OCT_TRY(oct_plan_forward(plan, &(oct_run){.mode = OCT_TRAIN, .step = step}, BATCH));
        t->losses[step] = (double)*(const float *)oct_plan_tensor(plan, model->loss)->data;
        float *gradients = oct_plan_gradients(plan);
        memset(gradients, 0, t->graph->params.count * sizeof *gradients);
        OCT_TRY(oct_plan_backward(plan, 1));
        OCT_TRY(oct_sgd_step(sgd, t->graph, gradients, 1, 0.001f));
    }
    return OCT_OK;
}

/* Trains; the caller releases `t` whatever comes back. */
static oct_status train(trained *t, bool no_fuse, int threads)
{
    *t = (trained){.ctx = test_ctx_with(threads, NULL)};
    oct_model model;
    OCT_TRY(build(t, &model));
    oct_plan *plan = NULL;
    oct_sgd *sgd = NULL;
    oct_plan_options options = {.batch = BATCH, .mode = OCT_TRAIN, .no_fuse = no_fuse, .outputs = &model.loss,
                                .output_count = 1};
    oct_status status = oct_plan_create(&plan, t->graph, &options);
    if (status == OCT_OK)
        status = oct_sgd_create(&sgd, t->graph, &(oct_sgd_options){.momentum = 0.9f, .weight_decay = 0.05f});
    if (status == OCT_OK) status = run_steps(t, &model, plan, sgd);
    oct_sgd_destroy(sgd);
    oct_plan_destroy(plan);
    return status;
}

static void release(trained *t)
{
    oct_free(t->start);
    oct_graph_destroy(t->graph);
    oct_ctx_destroy(t->ctx);
}

/* --- PyTorch's ten steps --- */

typedef struct golden_tensor {
    char name[64];
    size_t count, stride;
    double magnitude, squares;
} golden_tensor;

/* Largest difference between n values of ours and what the file lists of them; negative when it lists too few. */
static double worst_difference(FILE *f, const golden_tensor *golden, const float *values)
{
    double worst = 0, expected;
    for (size_t i = 0; i < golden->count; i += golden->stride) {
        if (fscanf(f, "%lf", &expected) != 1) return -1;
        double difference = fabs((double)values[i] - expected);
        if (!(difference <= worst)) worst = difference;
    }
    return worst;
}

static double largest_change(const float *start, const float *end, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) largest = fmax(largest, fabs((double)end[i] - (double)start[i]));
    return largest;
}

/* Every listed value to 1e-4 of the tensor's magnitude, and to a twentieth of how far the parameter moved; the sum of
 * squares sees the values that are not listed. */
static bool tensor_agrees(FILE *f, const trained *t, const golden_tensor *golden)
{
    oct_value value = oct_graph_find(t->graph, golden->name);
    size_t count = 0;
    const float *values = oct_graph_data(t->graph, value, &count);
    if (!values || count != golden->count) return false;
    const oct_node *n = oct_graph_node(t->graph, value);
    double difference = worst_difference(f, golden, values), squares = 0, limit = 1e-4 * golden->magnitude;
    if (n->kind == OCT_NODE_PARAMETER)
        limit = fmin(limit, 0.05 * largest_change(t->start + n->offset, values, count));
    for (size_t i = 0; i < count; i++) squares += (double)values[i] * (double)values[i];
    bool good = difference >= 0 && difference <= limit && fabs(squares / golden->squares - 1) <= 1e-4;
    if (!good)
        printf("    %s: differs by %.2e, allowed %.2e; sum of squares %.9g, expected %.9g\n", golden->name, difference,
               limit, squares, golden->squares);
    return good;
}

/* Compares with the file; how many losses and tensors agreed. */
static void compare(const trained *t, int *losses, int *tensors)
{
    FILE *f = fopen(golden_path, "r");
    CU_ASSERT_FATAL(f != NULL);
    char line[256];
    int steps = 0;
    *losses = *tensors = 0;
    while (fgets(line, sizeof line, f)) {
        golden_tensor golden;
        double loss;
        if (sscanf(line, "loss %lf", &loss) == 1 && steps < STEPS) {
            bool good = fabs(t->losses[steps] / loss - 1) <= 1e-4;
            if (!good) printf("    loss of step %d: %.9g, expected %.9g\n", steps, t->losses[steps], loss);
            *losses += good;
            steps++;
        } else if (sscanf(line, "tensor %63s %zu %zu %lf %lf", golden.name, &golden.count, &golden.stride,
                          &golden.magnitude, &golden.squares) == 5) {
            *tensors += tensor_agrees(f, t, &golden);
        }
    }
    fclose(f);
}

static void check_against_torch(bool no_fuse)
{
    trained t;
    int losses, tensors;
    oct_status status = train(&t, no_fuse, 0);
    CU_ASSERT(test_is_ok(&t.ctx->error, status, "train"));
    if (status == OCT_OK) {
        compare(&t, &losses, &tensors);
        CU_ASSERT(losses == STEPS);
        CU_ASSERT(tensors == 34 + 14); /* 9 convolutions, 7 batch norms, the head, two of each; running statistics */
    }
    release(&t);
}

static void ten_steps_fused_give_torch_s_losses_and_parameters(void)
{
    check_against_torch(false);
}

static void ten_steps_node_by_node_give_torch_s_losses_and_parameters(void)
{
    check_against_torch(true);
}

static void ten_steps_any_thread_count_gives_the_same_bytes(void)
{
    trained one, three;
    oct_status status = train(&one, false, 1);
    CU_ASSERT(test_is_ok(&one.ctx->error, status, "train"));
    status = train(&three, false, 3);
    CU_ASSERT(test_is_ok(&three.ctx->error, status, "train"));
    if (status != OCT_OK || !one.graph) return;
    CU_ASSERT(!memcmp(one.losses, three.losses, sizeof one.losses));
    CU_ASSERT(!memcmp(one.graph->params.data, three.graph->params.data, one.graph->params.count * sizeof(float)));
    CU_ASSERT(!memcmp(one.graph->buffers.data, three.graph->buffers.data, one.graph->buffers.count * sizeof(float)));
    release(&one);
    release(&three);
}

static const test_case cases[] = {
    {"ten_steps_fused_give_torch_s_losses_and_parameters", ten_steps_fused_give_torch_s_losses_and_parameters},
    {"ten_steps_node_by_node_give_torch_s_losses_and_parameters",
     ten_steps_node_by_node_give_torch_s_losses_and_parameters},
    {"ten_steps_any_thread_count_gives_the_same_bytes", ten_steps_any_thread_count_gives_the_same_bytes},
};
TEST_SUITE("golden", cases);
