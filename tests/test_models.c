/* SPDX-License-Identifier: BSD-2-Clause
 * The model zoo: published sizes, options, specs that are refused, the printed table. */
#include <stdio.h>
#include <string.h>

#include "layers/models.h"
#include "tests/testing.h"

typedef struct zoo_case {
    const char *spec;
    int32_t size, classes;
    int64_t parameters; /* running statistics not counted */
    int64_t together;   /* counted */
    int64_t macs;
    oct_shape features; /* what global average pooling sees */
} zoo_case;

/* Sources: MLPerf Tiny's published totals (resnet8, mobilenetv1 0.25, ds-cnn, autoencoder); torchvision's documented
 * parameters and GFLOPS (resnet18 1.814, 34 3.664, 50 4.089, resnext50 4.230, mobilenet_v2 0.301, regnet_x 0.414, 0.800,
 * 1.603); mobilenetv3-lite: torchvision's 5,483,032 and 2,542,856 less the 1,512,280 and 461,640 of the squeeze-excite
 * layers; timm's efficientnet_lite (the MACs published for them, 407, 631, 899 million, count elementwise operations too);
 * the modules of peer_train.py in PyTorch for resnet20 with its projections and mobilenetv2 for CIFAR. */
static const zoo_case zoo_cases[] = {
    {"resnet8", 32, 10, 0, 78666, 12501632, {4, {OCT_BATCH, 8, 8, 64}}},
    {"mobilenetv1:width=0.25", 96, 2, 0, 221794, 7489664, {4, {OCT_BATCH, 3, 3, 256}}},
    {"resnet20", 32, 10, 272474, 0, 40813184, {4, {OCT_BATCH, 8, 8, 64}}},
    {"mobilenetv2", 32, 10, 2236682, 0, 0, {4, {OCT_BATCH, 4, 4, 1280}}},
    {"mobilenetv2:form=imagenet", 224, 1000, 3504872, 0, 300774272, {4, {OCT_BATCH, 7, 7, 1280}}},
    {"resnet18", 224, 1000, 11689512, 0, 1814073344, {4, {OCT_BATCH, 7, 7, 512}}},
    {"resnet18", 32, 10, 11173962, 0, 0, {4, {OCT_BATCH, 4, 4, 512}}},
    {"resnet34", 224, 1000, 21797672, 0, 3663761408, {4, {OCT_BATCH, 7, 7, 512}}},
    {"resnet50", 224, 1000, 25557032, 0, 4089184256, {4, {OCT_BATCH, 7, 7, 2048}}},
    {"resnext50", 224, 1000, 25028904, 0, 4230479872, {4, {OCT_BATCH, 7, 7, 2048}}},
    {"mobilenetv3-lite-large", 224, 1000, 3970752, 0, 215082560, {4, {OCT_BATCH, 7, 7, 960}}},
    {"mobilenetv3-lite-small", 224, 1000, 2081216, 0, 56051648, {4, {OCT_BATCH, 7, 7, 576}}},
    {"regnetx-400mf", 224, 1000, 5495976, 0, 413812608, {4, {OCT_BATCH, 7, 7, 400}}},
    {"regnetx-800mf", 224, 1000, 7259656, 0, 799699712, {4, {OCT_BATCH, 7, 7, 672}}},
    {"regnetx-1.6gf", 224, 1000, 9190136, 0, 1602849792, {4, {OCT_BATCH, 7, 7, 912}}},
    {"efficientnet-lite0", 224, 1000, 4652008, 0, 385187552, {4, {OCT_BATCH, 7, 7, 1280}}},
    {"efficientnet-lite1", 240, 1000, 5416680, 0, 600185232, {4, {OCT_BATCH, 8, 8, 1280}}},
    {"efficientnet-lite2", 260, 1000, 6092072, 0, 859736272, {4, {OCT_BATCH, 9, 9, 1280}}},
};

static oct_model_options options_for(int32_t size, int32_t classes)
{
    return (oct_model_options){.height = size, .width = size, .channels = 3, .classes = classes};
}

static void check_case(const zoo_case *z, const oct_model_options *options)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    oct_model model;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    ASSERT_OK(ctx, oct_model_build(&model, g, z->spec, options));
    oct_model_size size = oct_model_measure(g);
    bool good = (!z->parameters || size.parameters == z->parameters) &&
                (!z->together || size.parameters + size.buffers == z->together) && (!z->macs || size.macs == z->macs);
    if (!good)
        printf("    %s: %lld parameters, %lld with buffers, %lld MACs\n", z->spec, (long long)size.parameters,
               (long long)(size.parameters + size.buffers), (long long)size.macs);
    CU_ASSERT(good);
    const oct_node *pool = oct_graph_node(g, oct_graph_find(g, "pool"));
    CU_ASSERT_FATAL(pool != NULL);
    CU_ASSERT(oct_shape_equal(&g->nodes[pool->inputs[0]]->shape, &z->features));
    oct_shape logits = OCT_SHAPE(OCT_BATCH, z->classes);
    CU_ASSERT(oct_shape_equal(&oct_graph_node(g, model.logits)->shape, &logits));
    CU_ASSERT(oct_graph_node(g, model.image)->dtype == OCT_U8);
    CU_ASSERT(oct_graph_node(g, model.loss)->shape.rank == 0);
    CU_ASSERT(model.task == OCT_CLASSIFY);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void model_build_autoencoder_reconstructs_its_input(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    oct_model model, again;
    oct_model_options options = {.height = 5, .width = 128, .channels = 1,
                                 .preprocess = {.mean = {10}, .scale = {0.5f}}};
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    REQUIRE_OK(ctx, oct_model_build(&model, g, "autoencoder", &options));
    oct_model_size size = oct_model_measure(g);
    CU_ASSERT(size.parameters == 267928); /* trainable, MLPerf Tiny */
    CU_ASSERT(size.parameters + size.buffers == 269992);
    CU_ASSERT(size.macs == 264192);
    oct_shape logits = OCT_SHAPE(OCT_BATCH, 640);
    CU_ASSERT(oct_shape_equal(&oct_graph_node(g, model.logits)->shape, &logits));
    CU_ASSERT(model.task == OCT_RECONSTRUCT);
    CU_ASSERT(model.label.id < 0);
    const oct_normalize_attrs *target = oct_graph_node(g, oct_graph_find(g, "target/normalize"))->attrs;
    CU_ASSERT(target->mean[0] == 10 && target->scale[0] == 0.5f);
    REQUIRE_OK(ctx, oct_model_find(&again, g));
    CU_ASSERT(again.task == OCT_RECONSTRUCT && again.label.id < 0 && again.logits.id == model.logits.id);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void model_build_gives_the_published_sizes(void)
{
    for (size_t i = 0; i < sizeof zoo_cases / sizeof zoo_cases[0]; i++) {
        oct_model_options options = options_for(zoo_cases[i].size, zoo_cases[i].classes);
        check_case(&zoo_cases[i], &options);
    }
    static const zoo_case keywords = {"ds-cnn", 0, 12, 0, 24908, 2656768, {4, {OCT_BATCH, 25, 5, 64}}};
    check_case(&keywords, &(oct_model_options){.height = 49, .width = 10, .channels = 1, .classes = 12});
}

static oct_status build(const char *spec, oct_graph **g, oct_ctx *ctx, oct_model *model)
{
    oct_model_options options = options_for(32, 10);
    OCT_TRY(oct_graph_create(g, ctx, 1));
    return oct_model_build(model, *g, spec, &options);
}

static void model_build_bad_spec_lists_what_is_known(void)
{
    static const struct {
        const char *spec, *expected;
    } bad[] = {
        {"resnet9", "resnet8, resnet20"},
        {"", "resnet8"},
        {"resnet8:width=2", "known options: none"},
        {"mobilenetv2:depth=2", "width form act dropout"},
        {"mobilenetv2:dropout=1", "0..0.9"},
        {"ds-cnn:form=cifar", "known options: dropout"},
        {"resnet9", "efficientnet-lite2, ds-cnn, autoencoder"},
        {"mobilenetv2:width", "option=value"},
        {"mobilenetv2:width=", "0.05..4"},
        {"mobilenetv2:width=half", "0.05..4"},
        {"mobilenetv2:width=0.5x", "0.05..4"},
        {"mobilenetv2:width=nan", "0.05..4"},
        {"mobilenetv2:width=9", "0.05..4"},
        {"mobilenetv2:form=big", "cifar or imagenet"},
        {"mobilenetv2:width=0.5,act=gelu", "relu6 or relu"},
        {"mobilenetv2:", "option=value"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        oct_ctx *ctx = test_ctx();
        oct_graph *g = NULL;
        oct_model model;
        CU_ASSERT(build(bad[i].spec, &g, ctx, &model) == OCT_ERR_ARGUMENT);
        bool named = strstr(ctx->error.message, bad[i].expected) != NULL;
        if (!named) printf("    '%s': %s\n", bad[i].spec, ctx->error.message);
        CU_ASSERT(named);
        oct_graph_destroy(g);
        oct_ctx_destroy(ctx);
    }
}

static void model_build_bad_options_are_refused(void)
{
    static const oct_model_options bad[] = {
        {.height = 0, .width = 32, .channels = 3, .classes = 10},
        {.height = 32, .width = 32, .channels = 5, .classes = 10},
        {.height = 32, .width = 32, .channels = 3, .classes = 1},
        {.height = 32, .width = 32, .channels = 3, .classes = 10, .label_smoothing = 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        oct_ctx *ctx = test_ctx();
        oct_graph *g = NULL;
        oct_model model;
        REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
        CU_ASSERT(oct_model_build(&model, g, "resnet8", &bad[i]) != OCT_OK);
        CU_ASSERT(ctx->error.message[0] != '\0');
        oct_graph_destroy(g);
        oct_ctx_destroy(ctx);
    }
}

static int count_ops(const oct_graph *g, const oct_op *op)
{
    int count = 0;
    for (int32_t i = 0; i < g->node_count; i++) count += g->nodes[i]->op == op;
    return count;
}

static void model_build_options_change_the_network(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL, *narrow = NULL, *wide = NULL;
    oct_model model;
    REQUIRE_OK(ctx, build("mobilenetv2:act=relu,form=imagenet", &g, ctx, &model));
    CU_ASSERT(count_ops(g, &oct_op_clip) == 0);
    CU_ASSERT(count_ops(g, &oct_op_relu) == 35);
    CU_ASSERT(oct_graph_node(g, oct_graph_find(g, "stem/conv"))->shape.dim[1] == 16);
    CU_ASSERT_STRING_EQUAL(model.name, "mobilenetv2");
    REQUIRE_OK(ctx, build("mobilenetv2:width=0.5", &narrow, ctx, &model));
    CU_ASSERT(count_ops(narrow, &oct_op_clip) == 35);
    CU_ASSERT(oct_graph_node(narrow, oct_graph_find(narrow, "stem/conv"))->shape.dim[1] == 32);
    CU_ASSERT(oct_graph_node(narrow, oct_graph_find(narrow, "stem/conv"))->shape.dim[3] == 16);
    CU_ASSERT(oct_graph_node(narrow, oct_graph_find(narrow, "tail/conv"))->shape.dim[3] == 1280);
    REQUIRE_OK(ctx, build("mobilenetv2:width=1.4", &wide, ctx, &model));
    CU_ASSERT(oct_graph_node(wide, oct_graph_find(wide, "tail/conv"))->shape.dim[3] == 1792);
    oct_graph_destroy(g);
    oct_graph_destroy(narrow);
    oct_graph_destroy(wide);
    oct_ctx_destroy(ctx);
}

static void model_build_preprocessing_and_smoothing_reach_the_nodes(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    oct_model model, again;
    oct_model_options options = {.height = 28, .width = 28, .channels = 1, .classes = 10, .label_smoothing = 0.1f,
                                 .preprocess = {.mean = {72.9f}, .scale = {0.0125f}}};
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    REQUIRE_OK(ctx, oct_model_build(&model, g, "resnet8", &options));
    const oct_normalize_attrs *n = oct_graph_node(g, oct_graph_find(g, "normalize"))->attrs;
    CU_ASSERT(n->mean[0] == 72.9f && n->scale[0] == 0.0125f && n->scale[1] == 1);
    const oct_cross_entropy_attrs *loss = oct_graph_node(g, model.loss)->attrs;
    CU_ASSERT(loss->smoothing == 0.1f && loss->ignore == -1);
    const oct_batch_norm_attrs *bn = oct_graph_node(g, oct_graph_find(g, "stem/bn"))->attrs;
    CU_ASSERT(bn->eps == 1e-3f && bn->momentum == 0.01f);
    REQUIRE_OK(ctx, oct_model_find(&again, g));
    CU_ASSERT(again.image.id == model.image.id && again.label.id == model.label.id);
    CU_ASSERT(again.logits.id == model.logits.id && again.loss.id == model.loss.id);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void model_find_in_a_foreign_graph_names_what_is_missing(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    oct_model model;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    oct_input(g, "image", OCT_U8, OCT_SHAPE(OCT_BATCH, 4, 4, 1));
    CU_ASSERT(oct_model_find(&model, g) == OCT_ERR_FORMAT);
    CU_ASSERT(strstr(ctx->error.message, "'head'") != NULL);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void model_build_every_name_of_the_zoo_builds(void)
{
    int count = 0;
    for (int i = 0; oct_model_name(i); i++, count++) {
        oct_ctx *ctx = test_ctx();
        oct_graph *g = NULL;
        oct_model model;
        ASSERT_OK(ctx, build(oct_model_name(i), &g, ctx, &model));
        oct_graph_destroy(g);
        oct_ctx_destroy(ctx);
    }
    CU_ASSERT(count == 18);
    CU_ASSERT_PTR_NULL(oct_model_name(-1));
}

typedef struct printed {
    int lines;
    bool stem, total;
} printed;

static void take_line(void *user, const char *text)
{
    printed *p = user;
    p->lines++;
    p->stem |= strstr(text, "stem/conv") && strstr(text, "conv2d") && strstr(text, "[N,32,32,16]") &&
               strstr(text, " 448 ") && strstr(text, " 442368");
    p->total |= strstr(text, "(78666 together), 12.50 MMAC") != NULL;
}

static void model_print_shows_every_op_and_the_totals(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = NULL;
    oct_model model;
    REQUIRE_OK(ctx, build("resnet8", &g, ctx, &model));
    int ops = 0;
    for (int32_t i = 0; i < g->node_count; i++) ops += g->nodes[i]->kind == OCT_NODE_OP;
    printed p = {0};
    oct_model_print(g, take_line, &p);
    CU_ASSERT(p.lines == ops + 2);
    CU_ASSERT(p.stem);
    CU_ASSERT(p.total);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static const test_case cases[] = {
    {"model_build_gives_the_published_sizes", model_build_gives_the_published_sizes},
    {"model_build_autoencoder_reconstructs_its_input", model_build_autoencoder_reconstructs_its_input},
    {"model_build_bad_spec_lists_what_is_known", model_build_bad_spec_lists_what_is_known},
    {"model_build_bad_options_are_refused", model_build_bad_options_are_refused},
    {"model_build_options_change_the_network", model_build_options_change_the_network},
    {"model_build_preprocessing_and_smoothing_reach_the_nodes",
     model_build_preprocessing_and_smoothing_reach_the_nodes},
    {"model_find_in_a_foreign_graph_names_what_is_missing", model_find_in_a_foreign_graph_names_what_is_missing},
    {"model_build_every_name_of_the_zoo_builds", model_build_every_name_of_the_zoo_builds},
    {"model_print_shows_every_op_and_the_totals", model_print_shows_every_op_and_the_totals},
};
TEST_SUITE("models", cases);
