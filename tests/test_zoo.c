/* SPDX-License-Identifier: BSD-2-Clause
 * Every network of the zoo, narrow and on small images, through its whole life: float steps whose loss falls, quantizers,
 * quantized steps, export, and the engine with codes identical to the simulation's. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "autograd/plan.h"
#include "layers/models.h"
#include "optim/sgd.h"
#include "quant/export.h"
#include "quant/int8/image.h"
#include "quant/quantize.h"
#include "quant/verify.h"
#include "tests/testing.h"

enum { BATCH = 8, CLASSES = 5, FLOAT_STEPS = 4, INT8_STEPS = 2, VERIFIED = 2 };

typedef struct life {
    const char *spec;
    oct_ctx *ctx;
    oct_graph *graph;
    oct_model model;
    oct_model_options options;
    uint8_t *pixels;
    int32_t labels[BATCH];
} life;

static void life_end(life *l)
{
    oct_free(l->pixels);
    oct_graph_destroy(l->graph);
    oct_ctx_destroy(l->ctx);
}

/* Images of a class are alike: brighter or darker, with noise. */
static oct_status life_start(life *l)
{
    const oct_model_options *o = &l->options;
    size_t image = (size_t)o->height * (size_t)o->width * (size_t)o->channels;
    l->pixels = oct_alloc(BATCH, image);
    if (!l->pixels) return oct_out_of_memory(l->ctx, "zoo");
    oct_rng rng = oct_rng_start(11, OCT_RNG_SYNTHETIC, 0, 0);
    for (int i = 0; i < BATCH; i++) {
        l->labels[i] = i % CLASSES;
        for (size_t k = 0; k < image; k++)
            l->pixels[(size_t)i * image + k] = (uint8_t)(30 * l->labels[i] + (int)oct_rng_below(&rng, 120));
    }
    OCT_TRY(oct_graph_create(&l->graph, l->ctx, 3));
    return oct_model_build(&l->model, l->graph, l->spec, o);
}

static oct_status one_step(life *l, oct_plan *plan, oct_sgd *sgd, int step, float rate, float *loss)
{
    oct_plan_bind(plan, l->model.image, l->pixels);
    if (l->model.task == OCT_CLASSIFY) oct_plan_bind(plan, l->model.label, l->labels);
    OCT_TRY(oct_plan_forward(plan, &(oct_run){.mode = OCT_TRAIN, .seed = 1, .step = (uint64_t)step}, BATCH));
    *loss = *(const float *)oct_plan_tensor(plan, l->model.loss)->data;
    float *gradients = oct_plan_gradients(plan);
    memset(gradients, 0, l->graph->params.count * sizeof *gradients);
    OCT_TRY(oct_plan_backward(plan, 1));
    float scale = oct_sgd_clip_scale(oct_sgd_gradient_norm(sgd, gradients), 1, 1);
    return oct_sgd_step(sgd, l->graph, gradients, scale, rate);
}

static oct_status train(life *l, int steps, float rate, float *losses)
{
    oct_plan *plan = NULL;
    oct_sgd *sgd = NULL;
    oct_plan_options options = {.batch = BATCH, .mode = OCT_TRAIN, .outputs = &l->model.loss, .output_count = 1};
    oct_status status = oct_plan_create(&plan, l->graph, &options);
    if (status == OCT_OK) status = oct_sgd_create(&sgd, l->graph, &(oct_sgd_options){.momentum = 0.9f});
    for (int s = 0; s < steps && status == OCT_OK; s++) status = one_step(l, plan, sgd, s, rate, &losses[s]);
    oct_sgd_destroy(sgd);
    oct_plan_destroy(plan);
    return status;
}

static oct_status verify(life *l, oct_verify_result *result)
{
    oct_exported *exported = NULL;
    oct_int8_model *model = NULL;
    oct_verifier *verifier = NULL;
    uint8_t *bytes = NULL;
    size_t size = 0;
    oct_error *error = &l->ctx->error;
    oct_status status = oct_export_create(&exported, l->graph, l->model.image, l->model.logits, &(oct_export_options){0});
    if (status == OCT_OK) status = oct_int8_image_write(&bytes, &size, oct_exported_spec(exported), error);
    if (status == OCT_OK) status = oct_int8_open(&model, bytes, size, NULL, error);
    if (status == OCT_OK)
        status = oct_verifier_create(&verifier, l->graph, l->model.image, l->model.logits, model, VERIFIED);
    if (status == OCT_OK) status = oct_verifier_add(verifier, l->pixels, VERIFIED);
    if (status == OCT_OK) *result = *oct_verifier_result(verifier);
    oct_verifier_destroy(verifier);
    oct_int8_close(model);
    oct_free(bytes);
    oct_export_destroy(exported);
    return status;
}

static oct_status live(life *l, float *losses, oct_verify_result *result)
{
    OCT_TRY(life_start(l));
    OCT_TRY(train(l, FLOAT_STEPS, 0.02f, losses));
    OCT_TRY(oct_quantize(l->graph, &(oct_qconfig){.shrink = -1, .per_channel = OCT_PER_CHANNEL_DEPTHWISE}, NULL, NULL));
    OCT_TRY(train(l, INT8_STEPS, 0.001f, losses + FLOAT_STEPS));
    /* What an autoencoder's loss compares with stays float. */
    CU_ASSERT(oct_graph_find(l->graph, "target/normalize/quant").id < 0);
    return verify(l, result);
}

static void check_life(const char *spec, oct_model_options options)
{
    float losses[FLOAT_STEPS + INT8_STEPS] = {0};
    oct_verify_result result = {0};
    options.classes = CLASSES;
    for (int c = 0; c < 3; c++) options.preprocess.mean[c] = 128, options.preprocess.scale[c] = 1.0f / 64;
    life l = {.spec = spec, .ctx = test_ctx_with(1, NULL), .options = options};
    bool lived = test_is_ok(&l.ctx->error, live(&l, losses, &result), spec);
    bool finite = true;
    for (int s = 0; s < FLOAT_STEPS + INT8_STEPS; s++) finite = finite && isfinite(losses[s]);
    bool falls = losses[FLOAT_STEPS - 1] < losses[0], identical = !result.codes_differing && result.codes_compared > 1000;
    CU_ASSERT_TRUE(lived && finite && falls && identical);
    if (!(lived && finite && falls && identical)) {
        printf("    %s:", spec);
        for (int s = 0; s < FLOAT_STEPS + INT8_STEPS; s++) printf(" %.4f", (double)losses[s]);
        printf("; %lld of %lld codes differ\n", (long long)result.codes_differing, (long long)result.codes_compared);
    }
    life_end(&l);
}

static void images(const char *spec, int32_t size)
{
    check_life(spec, (oct_model_options){.height = size, .width = size, .channels = 3});
}

static void resnets_live(void)
{
    images("resnet8", 16);
    images("resnet20", 16);
    images("resnet18:width=0.25", 16);
    images("resnet34:width=0.125,form=imagenet", 64);
    images("resnet50:width=0.125", 16);
    images("resnext50:width=0.5", 10);
}

static void mobilenets_live(void)
{
    images("mobilenetv1:width=0.25", 16);
    images("mobilenetv2:width=0.25", 16);
    images("mobilenetv2:width=0.5,form=imagenet,dropout=0.2", 64);
    images("mobilenetv3-lite-large:width=0.5,dropout=0.2", 16);
    images("mobilenetv3-lite-small:form=imagenet", 64);
}

static void regnets_live(void)
{
    images("regnetx-400mf", 10);
    images("regnetx-800mf", 10);
    images("regnetx-1.6gf:form=imagenet", 36);
}

static void efficientnets_live(void)
{
    images("efficientnet-lite0", 16);
    images("efficientnet-lite1:form=imagenet", 34);
    images("efficientnet-lite2:form=imagenet,dropout=0.3,act=relu", 35);
}

static void sound_networks_live(void)
{
    check_life("ds-cnn", (oct_model_options){.height = 49, .width = 10, .channels = 1});
    check_life("ds-cnn:dropout=0", (oct_model_options){.height = 49, .width = 10, .channels = 1});
    check_life("autoencoder", (oct_model_options){.height = 5, .width = 128, .channels = 1});
}

static const test_case cases[] = {
    {"resnets_live", resnets_live},
    {"mobilenets_live", mobilenets_live},
    {"regnets_live", regnets_live},
    {"efficientnets_live", efficientnets_live},
    {"sound_networks_live", sound_networks_live},
};
TEST_SUITE("zoo", cases);
