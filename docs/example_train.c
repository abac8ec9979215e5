/* SPDX-License-Identifier: BSD-2-Clause
 * A small network built, quantized, trained on made-up images and exported, from C.
 *   cc -I. docs/example_train.c build/release/liboctet.a $(pkg-config --libs hdf5-serial zlib libcjson) -fopenmp -lm
 * A failure's message is in ctx->error.message. Builders need no checks: the first failure is kept, and reported by the next
 * call that returns a status.
 */
#include <stdio.h>

#include "octet.h"

enum { BATCH = 32, SIDE = 16, CLASSES = 3, STEPS = 60 };

/* A bright square in one of three places is what there is to learn. */
static void make_batch(uint8_t *pixels, int32_t *labels, uint64_t step)
{
    oct_rng rng = oct_rng_start(1, OCT_RNG_USER, step, 0);
    for (int i = 0; i < BATCH; i++) {
        labels[i] = (int32_t)oct_rng_below(&rng, CLASSES);
        for (int p = 0; p < SIDE * SIDE; p++) {
            int inside = p % SIDE / 5 == labels[i] && p / SIDE < 8;
            pixels[i * SIDE * SIDE + p] = (uint8_t)(oct_rng_below(&rng, 100) + (inside ? 150u : 0u));
        }
    }
}

static oct_status run(oct_ctx *ctx)
{
    oct_graph *g;
    OCT_TRY(oct_graph_create(&g, ctx, 1));
    oct_value image = oct_input(g, "image", OCT_U8, OCT_SHAPE(OCT_BATCH, SIDE, SIDE, 1));
    oct_value x = oct_normalize(g, "normalize", image, (oct_normalize_attrs){.mean = {75}, .scale = {0.02f}});
    x = oct_conv2d(g, "conv", x, (oct_conv2d_opts){.filters = 8, .kernel = {3, 3}, .stride = {2, 2}, .padding = OCT_SAME});
    x = oct_relu(g, "relu", oct_batch_norm(g, "bn", x, oct_batch_norm_defaults()));
    oct_value logits = oct_linear(g, "head", oct_flatten(g, "flat", x), (oct_linear_opts){.outputs = CLASSES});
    oct_value label = oct_labels(g, "label");
    oct_value loss = oct_softmax_cross_entropy(g, "loss", logits, label, (oct_cross_entropy_attrs){.ignore = -1});
    OCT_TRY(oct_quantize(g, &OCT_QCONFIG_DEFAULT, NULL, NULL)); /* trains quantized from the first step */

    oct_plan *plan;
    oct_sgd *sgd;
    OCT_TRY(oct_plan_create(&plan, g, &(oct_plan_options){.batch = BATCH, .mode = OCT_TRAIN, .outputs = &loss, .output_count = 1}));
    OCT_TRY(oct_sgd_create(&sgd, g, &(oct_sgd_options){.momentum = 0.9f, .weight_decay = 1e-4f}));
    for (uint64_t step = 0; step < STEPS; step++) {
        make_batch(oct_plan_input(plan, image), oct_plan_input(plan, label), step);
        oct_run how = {.mode = OCT_TRAIN, .seed = 1, .step = step, .bn_frozen = step > STEPS / 2, .range_frozen = step > STEPS / 2};
        float *gradients = oct_plan_gradients(plan);
        for (size_t i = 0; i < g->params.count; i++) gradients[i] = 0;
        OCT_TRY(oct_plan_forward(plan, &how, BATCH));
        OCT_TRY(oct_plan_backward(plan, 1));
        OCT_TRY(oct_sgd_step(sgd, g, gradients, 1, 0.05f));
        if (step % 20 == 19)
            printf("step %2d  loss %.4f\n", (int)step + 1, (double)*(const float *)oct_plan_tensor(plan, loss)->data);
    }
    oct_exported *exported;
    OCT_TRY(oct_export_create(&exported, g, image, logits, &(oct_export_options){.source_digest = oct_graph_digest(g)}));
    OCT_TRY(oct_int8_file_write_image("example.oct8", oct_exported_spec(exported), &ctx->error));
    puts("wrote example.oct8");
    oct_export_destroy(exported);
    oct_sgd_destroy(sgd);
    oct_plan_destroy(plan);
    oct_graph_destroy(g);
    return OCT_OK;
}

int main(void)
{
    oct_error error = {OCT_OK, ""};
    oct_ctx *ctx;
    if (oct_ctx_create(&ctx, NULL, &error)) return fprintf(stderr, "%s\n", error.message), 1;
    oct_status status = run(ctx);
    if (status != OCT_OK) fprintf(stderr, "%s\n", ctx->error.message);
    oct_ctx_destroy(ctx);
    return status != OCT_OK;
}
