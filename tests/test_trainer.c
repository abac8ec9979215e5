/* SPDX-License-Identifier: BSD-2-Clause
 * The training loop: steps, accumulation, clipping, freezing, evaluation without side effects, and runs that
 * were stopped and resumed end with the bytes of runs that were not. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/bytes.h"
#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "quant/quantize.h"
#include "tests/testing.h"
#include "tests/tiny_images.h"
#include "train/calibrate.h"
#include "train/model_file.h"
#include "train/ranges.h"
#include "train/session.h"

enum { CLASSES = 4, TRAIN = 100, TEST = 40, BATCH = 12, PATH_BYTES = 512 };

static oct_ctx *ctx;
static oct_dataset *set;

static void setup(void)
{
    ctx = test_ctx_with(1, NULL);
    const char *folder = test_folder();
    CU_ASSERT_TRUE_FATAL(tiny_idx(folder, TRAIN, TEST, CLASSES));
    CU_ASSERT_TRUE_FATAL(
        test_is_ok(&ctx->error, oct_dataset_open(&set, ctx, folder, NULL), "oct_dataset_open"));
}

static void teardown(void)
{
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

/* A network with everything that has state: batch norm, dropout, a shortcut; `norm` false leaves it smooth
 * and stateless. */
static oct_graph *small_graph(oct_model *model, bool norm, bool quantized)
{
    oct_graph *g;
    CU_ASSERT_FATAL(oct_graph_create(&g, ctx, 3) == OCT_OK);
    oct_value x = oct_input(g, "image", OCT_U8, OCT_SHAPE(OCT_BATCH, TINY_SIDE, TINY_SIDE, 1));
    x = oct_normalize(g, "normalize", x, (oct_normalize_attrs){{90}, {0.015f, 1, 1, 1}});
    x = oct_conv2d(g, "a/conv", x,
                   (oct_conv2d_opts){.filters = 8, .kernel = {3, 3}, .padding = OCT_SAME, .no_bias = norm});
    if (norm) x = oct_batch_norm(g, "a/bn", x, oct_batch_norm_defaults());
    x = oct_relu(g, "a/relu", x);
    oct_value y =
        oct_conv2d(g, "b/conv", x, (oct_conv2d_opts){.filters = 8, .kernel = {3, 3}, .padding = OCT_SAME});
    if (norm) y = oct_batch_norm(g, "b/bn", y, oct_batch_norm_defaults());
    x = oct_relu(g, "b/relu", oct_add(g, "b/add", x, y));
    x = oct_max_pool(g, "pool", x, (oct_pool_opts){.kernel = {2, 2}});
    x = oct_flatten(g, "flat", x);
    if (norm && !quantized) x = oct_dropout(g, "dropout", x, 0.1f);
    oct_value logits = oct_linear(g, "head", x, (oct_linear_opts){.outputs = CLASSES, .gain = 1});
    oct_softmax_cross_entropy(g, "loss", logits, oct_labels(g, "label"), oct_cross_entropy_defaults());
    if (quantized) {
        oct_qconfig config = OCT_QCONFIG_DEFAULT;
        CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_quantize(g, &config, NULL, NULL), "oct_quantize"));
    }
    CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_model_find(model, g), "oct_model_find"));
    return g;
}

static oct_loader *make_loader(bool training, int batch)
{
    oct_loader *loader;
    oct_loader_options o = {.split = training ? OCT_SPLIT_TRAIN : OCT_SPLIT_TEST,
                            .batch_size = batch,
                            .augment = OCT_AUGMENT_FLIP,
                            .training = training,
                            .seed = 5};
    CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_loader_create(&loader, ctx, set, &o), "oct_loader_create"));
    return loader;
}

static oct_trainer_options train_options(int64_t epochs, int64_t steps_per_epoch)
{
    return (oct_trainer_options){.batch = BATCH,
                                 .sgd = {.momentum = 0.9f, .weight_decay = 1e-4f},
                                 .schedule = {.kind = OCT_SCHEDULE_COSINE, .lr = 0.05},
                                 .epochs = epochs,
                                 .steps_per_epoch = steps_per_epoch,
                                 .seed = 9};
}

static uint64_t digest_of(const oct_graph *g)
{
    return oct_graph_digest(g);
}

/* --- freezing --- */

/* T26: with E = 10 statistics freeze at epoch 4 and ranges at 6, with E = 50 at 24 and 26; E = 5 of 16 steps
 * at steps 40 and 50 of 80. */
static void trainer_freeze_follows_the_table(void)
{
    static const struct {
        int64_t epochs, steps, bn, range;
    } table[] = {{5, 16, 40, 50}, {10, 7, 28, 42}, {50, 3, 72, 78},
                 {8, 4, 12, 20},  {1, 8, 4, 5},    {7, 8, 28, 35}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        oct_trainer_options o = train_options(table[i].epochs, table[i].steps);
        for (int64_t step = 0; step < table[i].epochs * table[i].steps; step++) {
            oct_freeze f = oct_trainer_freeze(&o, true, step), never = oct_trainer_freeze(&o, false, step);
            CU_ASSERT_EQUAL(f.bn, step >= table[i].bn);
            CU_ASSERT_EQUAL(f.range, step >= table[i].range);
            CU_ASSERT_FALSE(never.bn || never.range);
        }
    }
    oct_trainer_options o = train_options(10, 4);
    o.freeze_bn = true;
    CU_ASSERT_TRUE(oct_trainer_freeze(&o, false, 0).bn && oct_trainer_freeze(&o, true, 0).bn);
    CU_ASSERT_FALSE(oct_trainer_freeze(&o, true, 0).range);
}

static oct_trainer_event events[16];
static int event_count;
static void note_event(void *user, const oct_trainer_event *event)
{
    (void)user;
    if (event_count < 16) events[event_count++] = *event;
}

/* Flags are recomputed from the step: going back frees what was frozen, and both ways are reported. */
static void trainer_step_moved_back_frees_again(void)
{
    setup();
    oct_model m;
    oct_graph *g = small_graph(&m, true, true);
    oct_loader *loader = make_loader(true, BATCH);
    oct_trainer_options o = train_options(2, 8);
    o.event = note_event;
    event_count = 0;
    oct_trainer *t;
    oct_batch batch;
    oct_trainer_stats stats;
    REQUIRE_OK(ctx, oct_trainer_create(&t, g, &m, &o));
    REQUIRE_OK(ctx, oct_loader_start(loader, 0, 0));
    REQUIRE_OK(ctx, oct_loader_next(loader, &batch));
    REQUIRE_OK(ctx, oct_trainer_step(t, &batch, &stats)); /* ranges see data */
    static const struct {
        int64_t step;
        bool bn, range;
    } walk[] = {{8, true, false}, {10, true, true}, {2, false, false}, {12, true, true}};
    for (int i = 0; i < 4; i++) {
        float before[OCT_RANGE_FLOATS];
        const oct_value range = oct_graph_find(g, "a/relu/range"), mean = oct_graph_find(g, "a/bn/mean");
        CU_ASSERT_FATAL(range.id >= 0 && mean.id >= 0);
        memcpy(before, oct_graph_data(g, range, NULL), sizeof before);
        float mean_before = oct_graph_data(g, mean, NULL)[0];
        oct_trainer_move(t, (oct_trainer_position){walk[i].step, walk[i].step});
        ASSERT_OK(ctx, oct_trainer_step(t, &batch, &stats));
        CU_ASSERT_EQUAL(stats.frozen.bn, walk[i].bn);
        CU_ASSERT_EQUAL(stats.frozen.range, walk[i].range);
        const float *now = oct_graph_data(g, range, NULL);
        bool same = now[OCT_RANGE_LO] == before[OCT_RANGE_LO] && now[OCT_RANGE_HI] == before[OCT_RANGE_HI];
        CU_ASSERT_EQUAL(same, walk[i].range); /* the counter goes on either way */
        CU_ASSERT_EQUAL(oct_graph_data(g, mean, NULL)[0] == mean_before, walk[i].bn);
    }
    CU_ASSERT_EQUAL(event_count,
                    2); /* at step 8 and at step 10; the other steps differ in nothing from those before */
    CU_ASSERT_TRUE(events[0].kind == OCT_EVENT_BN_FROZEN && events[0].on && events[0].step == 8);
    CU_ASSERT_TRUE(events[1].kind == OCT_EVENT_RANGE_FROZEN && events[1].on && events[1].step == 10);
    oct_trainer_destroy(t);
    oct_loader_destroy(loader);
    oct_graph_destroy(g);
    teardown();
}

/* --- steps --- */

static oct_status train_epochs(oct_trainer *t, oct_loader *loader, int epochs, double *first, double *last)
{
    for (int e = 0; e < epochs; e++) {
        double sum = 0;
        int count = 0;
        oct_batch batch;
        oct_status status;
        OCT_TRY(oct_loader_start(loader, (uint64_t)e, 0));
        while ((status = oct_loader_next(loader, &batch)) == OCT_OK) {
            oct_trainer_stats stats;
            OCT_TRY(oct_trainer_step(t, &batch, &stats));
            sum += stats.loss;
            count++;
        }
        if (status != OCT_END) return status;
        *(e ? last : first) = sum / count;
    }
    return OCT_OK;
}

static void check_loss_decreases(bool quantized)
{
    setup();
    oct_model m;
    oct_graph *g = small_graph(&m, true, quantized);
    oct_loader *loader = make_loader(true, BATCH);
    oct_trainer_options o = train_options(8, oct_loader_batches(loader));
    oct_trainer *t;
    double first = 0, last = 0;
    REQUIRE_OK(ctx, oct_trainer_create(&t, g, &m, &o));
    ASSERT_OK(ctx, train_epochs(t, loader, 8, &first, &last));
    CU_ASSERT(first > 0.3 && last < 0.5 * first);
    if (!(last < 0.5 * first)) printf("    loss %g -> %g\n", first, last);
    oct_trainer_destroy(t);
    oct_loader_destroy(loader);
    oct_graph_destroy(g);
    teardown();
}

static void trainer_step_float_loss_decreases(void)
{
    check_loss_decreases(false);
}

static void trainer_step_quantized_loss_decreases(void)
{
    check_loss_decreases(true);
}

static oct_batch fixed_batch(uint8_t *pixels, int32_t *labels, int count)
{
    for (int i = 0; i < count; i++) {
        labels[i] = i % CLASSES;
        tiny_image(pixels + i * TINY_PIXELS, labels[i], (uint64_t)i);
    }
    return (oct_batch){.images = pixels, .labels = labels, .count = count};
}

/* Two batches of 8 make the step of one batch of 16 when no layer looks across the batch. */
static void trainer_step_accumulated_equals_one_large_batch(void)
{
    setup();
    uint8_t pixels[16 * TINY_PIXELS];
    int32_t labels[16];
    oct_batch whole = fixed_batch(pixels, labels, 16);
    oct_graph *g[2];
    oct_trainer *t[2];
    oct_trainer_stats stats;
    oct_model m;
    for (int i = 0; i < 2; i++) {
        g[i] = small_graph(&m, false, false);
        oct_trainer_options o = train_options(1, 4);
        o.batch = i ? 8 : 16;
        o.accumulate = i + 1;
        REQUIRE_OK(ctx, oct_trainer_create(&t[i], g[i], &m, &o));
    }
    for (int step = 0; step < 2; step++) {
        ASSERT_OK(ctx, oct_trainer_step(t[0], &whole, &stats));
        double norm = stats.grad_norm;
        for (int half = 0; half < 2; half++) {
            oct_batch part = {
                .images = pixels + half * 8 * TINY_PIXELS, .labels = labels + half * 8, .count = 8};
            ASSERT_OK(ctx, oct_trainer_step(t[1], &part, &stats));
            CU_ASSERT_EQUAL(stats.updated, half == 1);
            CU_ASSERT_EQUAL(oct_trainer_at_border(t[1]), half == 1);
        }
        CU_ASSERT(fabs(stats.grad_norm - norm) < 1e-5 * norm);
    }
    CU_ASSERT(test_relative_error_f32(g[1]->params.data, g[0]->params.data, g[0]->params.count) < 1e-5);
    CU_ASSERT_EQUAL(oct_trainer_at(t[1]).step, 2);
    CU_ASSERT_EQUAL(oct_trainer_at(t[1]).batches, 4);
    /* A group that stays short is completed with the mean of what it has. */
    ASSERT_OK(ctx,
              oct_trainer_step(t[1], &(oct_batch){.images = pixels, .labels = labels, .count = 8}, &stats));
    CU_ASSERT_FALSE(stats.updated);
    ASSERT_OK(ctx, oct_trainer_flush(t[1], &stats));
    CU_ASSERT_TRUE(stats.updated);
    for (int i = 0; i < 2; i++) {
        oct_trainer_destroy(t[i]);
        oct_graph_destroy(g[i]);
    }
    teardown();
}

static void trainer_step_clipped_moves_no_further_than_the_limit(void)
{
    setup();
    uint8_t pixels[16 * TINY_PIXELS];
    int32_t labels[16];
    oct_batch batch = fixed_batch(pixels, labels, 16);
    oct_model m;
    oct_graph *g = small_graph(&m, false, false), *before;
    oct_trainer_options o = train_options(1, 4);
    o.batch = 16;
    o.grad_clip = 0.01;
    o.sgd = (oct_sgd_options){0};
    oct_trainer *t;
    oct_trainer_stats stats;
    REQUIRE_OK(ctx, oct_graph_copy(&before, g));
    REQUIRE_OK(ctx, oct_trainer_create(&t, g, &m, &o));
    REQUIRE_OK(ctx, oct_trainer_step(t, &batch, &stats));
    double moved = 0;
    for (size_t i = 0; i < g->params.count; i++) {
        double d = (double)g->params.data[i] - (double)before->params.data[i];
        moved += d * d;
    }
    CU_ASSERT(stats.grad_norm > 0.1);
    CU_ASSERT(fabs(sqrt(moved) - 0.01 * stats.lr) < 1e-3 * 0.01 * stats.lr);
    oct_trainer_destroy(t);
    oct_graph_destroy(g);
    oct_graph_destroy(before);
    teardown();
}

/* --- numbers that are not finite --- */

static void check_numeric(const char *parameter, float value, const char *named, bool quantized)
{
    uint8_t pixels[8 * TINY_PIXELS];
    int32_t labels[8];
    oct_batch batch = fixed_batch(pixels, labels, 8);
    oct_model m;
    oct_graph *g = small_graph(&m, true, quantized);
    oct_trainer_options o = train_options(1, 4);
    oct_trainer *t;
    oct_trainer_stats stats;
    REQUIRE_OK(ctx, oct_trainer_create(&t, g, &m, &o));
    size_t count;
    float *data = oct_graph_data(g, oct_graph_find(g, parameter), &count);
    CU_ASSERT_FATAL(data != NULL);
    data[count - 1] = value;
    CU_ASSERT_EQUAL(oct_trainer_step(t, &batch, &stats), OCT_ERR_NUMERIC);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, named));
    if (!strstr(ctx->error.message, named)) printf("    expected '%s' in: %s\n", named, ctx->error.message);
    CU_ASSERT_EQUAL(oct_trainer_at(t).step, 0);
    oct_error_clear(&ctx->error);
    oct_trainer_destroy(t);
    oct_graph_destroy(g);
}

static void trainer_step_not_finite_names_the_tensor(void)
{
    setup();
    check_numeric("a/conv/weight", NAN, "parameter 'a/conv/weight'", false);
    check_numeric("head/bias", INFINITY, "parameter 'head/bias'", false);
    check_numeric("a/conv/weight", 3e38f, "'a/", false); /* overflows in the first unit */
    check_numeric("b/bn/gamma", 3e38f, "'b/", false);    /* and in a later one */
    check_numeric("b/conv/weight", NAN, "'b/conv", true);
    teardown();
}

/* --- evaluation --- */

static void evaluate_any_graph_changes_no_state(void)
{
    setup();
    for (int quantized = 0; quantized < 2; quantized++) {
        oct_model m;
        oct_graph *g = small_graph(&m, true, quantized);
        oct_loader *train = make_loader(true, BATCH), *test = make_loader(false, 7);
        oct_trainer_options o = train_options(4, oct_loader_batches(train));
        oct_trainer *t;
        oct_evaluator *e;
        double first, last;
        oct_score a, b;
        REQUIRE_OK(ctx, oct_trainer_create(&t, g, &m, &o));
        REQUIRE_OK(ctx, oct_evaluator_create(&e, g, &m, 7));
        ASSERT_OK(ctx, train_epochs(t, train, 4, &first, &last));
        uint64_t before = digest_of(g),
                 velocity = oct_digest(OCT_DIGEST_START, oct_trainer_velocity(t), g->params.count * 4);
        ASSERT_OK(ctx, oct_evaluate(e, test, &a, NULL, NULL));
        ASSERT_OK(ctx, oct_evaluate(e, test, &b, NULL, NULL));
        CU_ASSERT_EQUAL(before, digest_of(g));
        CU_ASSERT_EQUAL(velocity, oct_digest(OCT_DIGEST_START, oct_trainer_velocity(t), g->params.count * 4));
        CU_ASSERT_EQUAL(a.images, TEST);
        CU_ASSERT(a.top1 == b.top1 && a.top5 == TEST && a.loss_sum == b.loss_sum);
        CU_ASSERT(oct_score_top1(&a) > 80);
        oct_evaluator_destroy(e);
        oct_trainer_destroy(t);
        oct_loader_destroy(train);
        oct_loader_destroy(test);
        oct_graph_destroy(g);
    }
    teardown();
}

static void scores_top_ties_go_to_the_lowest_class(void)
{
    double scores[6] = {1, 3, 3, -2, 3, 0};
    int order[4];
    oct_scores_top(scores, 6, order, 4);
    CU_ASSERT(order[0] == 1 && order[1] == 2 && order[2] == 4 && order[3] == 0);
    float logits[4] = {0.5f, 2, 2, 1};
    oct_tensor t = {.data = logits, .sample = 4, .storage = OCT_STORE_F32};
    CU_ASSERT(oct_logits_rank(&t, 0, 1) == 0 && oct_logits_rank(&t, 0, 2) == 1 &&
              oct_logits_rank(&t, 0, 0) == 3);
}

/* Fake quantization and the exported engine give the same scores, whatever the ranges are. */
static void evaluate_int8_equals_quantized(void)
{
    setup();
    oct_model m;
    oct_graph *g = small_graph(&m, true, true);
    oct_loader *train = make_loader(true, BATCH), *test = make_loader(false, 16);
    oct_trainer_options o = train_options(4, oct_loader_batches(train));
    oct_trainer *t;
    double first, last;
    REQUIRE_OK(ctx, oct_trainer_create(&t, g, &m, &o));
    ASSERT_OK(ctx, train_epochs(t, train, 4, &first, &last));
    oct_int8_build build;
    oct_evaluator *fake, *engine;
    oct_score a, b;
    REQUIRE_OK(ctx, oct_int8_export(&build, g, &m, &(oct_checkpoint_info){0}, NULL, false));
    REQUIRE_OK(ctx, oct_evaluator_create(&fake, g, &m, 16));
    REQUIRE_OK(ctx, oct_evaluator_create_int8(&engine, ctx, build.model, 16));
    ASSERT_OK(ctx, oct_evaluate(fake, test, &a, NULL, NULL));
    ASSERT_OK(ctx, oct_evaluate(engine, test, &b, NULL, NULL));
    CU_ASSERT(a.images == TEST && b.images == TEST && a.top1 == b.top1);
    CU_ASSERT(fabs(a.loss_sum - b.loss_sum) < 1e-9 * (1 + a.loss_sum));
    CU_ASSERT_EQUAL(oct_int8_source_digest(build.model), digest_of(g));
    oct_range_report ranges;
    ASSERT_OK(ctx, oct_ranges_report(&ranges, g, &m, NULL, NULL));
    CU_ASSERT(ranges.layers == 3 && ranges.points >= 4);
    oct_evaluator_destroy(fake);
    oct_evaluator_destroy(engine);
    oct_int8_build_release(&build);
    oct_trainer_destroy(t);
    oct_loader_destroy(train);
    oct_loader_destroy(test);
    oct_graph_destroy(g);
    teardown();
}

/* Learns its images, in float and on codes; the engine's reconstructions are the simulation's. */
static void autoencoder_trains_and_is_scored_without_labels(void)
{
    setup();
    oct_graph *g;
    oct_model m;
    oct_model_options size = {.height = TINY_SIDE, .width = TINY_SIDE, .channels = 1,
                              .preprocess = {.mean = {70}, .scale = {0.02f}}};
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    REQUIRE_OK(ctx, oct_model_build(&m, g, "autoencoder", &size));
    oct_loader *train = make_loader(true, BATCH), *test = make_loader(false, 16);
    oct_trainer_options o = train_options(40, oct_loader_batches(train));
    oct_evaluator *fake, *engine;
    oct_score before, floats, a, b;
    REQUIRE_OK(ctx, oct_evaluator_create(&fake, g, &m, 16));
    ASSERT_OK(ctx, oct_evaluate(fake, test, &before, NULL, NULL));
    oct_trainer *t;
    double first, last;
    REQUIRE_OK(ctx, oct_trainer_create(&t, g, &m, &o));
    ASSERT_OK(ctx, train_epochs(t, train, 40, &first, &last));
    ASSERT_OK(ctx, oct_evaluate(fake, test, &floats, NULL, NULL));
    CU_ASSERT(last < first && oct_score_loss(&floats) < 0.8 * oct_score_loss(&before));
    CU_ASSERT(floats.images == TEST && floats.top1 == 0);
    oct_trainer_destroy(t);
    oct_evaluator_destroy(fake);
    REQUIRE_OK(ctx, oct_quantize(g, &OCT_QCONFIG_DEFAULT, NULL, NULL));
    ASSERT_OK(ctx, oct_calibrate(g, &m, train, 4, 1, false, NULL, NULL));
    oct_int8_build build;
    REQUIRE_OK(ctx, oct_int8_export(&build, g, &m, &(oct_checkpoint_info){0}, NULL, false));
    REQUIRE_OK(ctx, oct_evaluator_create(&fake, g, &m, 16));
    REQUIRE_OK(ctx, oct_evaluator_create_int8(&engine, ctx, build.model, 16));
    REQUIRE_OK(ctx, oct_evaluator_set_task(engine, OCT_RECONSTRUCT));
    ASSERT_OK(ctx, oct_evaluate(fake, test, &a, NULL, NULL));
    ASSERT_OK(ctx, oct_evaluate(engine, test, &b, NULL, NULL));
    CU_ASSERT(fabs(a.loss_sum - b.loss_sum) < 1e-9 * (1 + a.loss_sum));
    CU_ASSERT(oct_score_loss(&b) < 1.2 * oct_score_loss(&floats));
    oct_evaluator_destroy(fake);
    oct_evaluator_destroy(engine);
    oct_int8_build_release(&build);
    oct_loader_destroy(train);
    oct_loader_destroy(test);
    oct_graph_destroy(g);
    teardown();
}

/* --- calibration --- */

static void calibrate_float_weights_observes_ranges_and_nothing_else(void)
{
    setup();
    oct_model m;
    oct_graph *g = small_graph(&m, true, true);
    oct_loader *loader = make_loader(true, BATCH);
    uint64_t params = oct_digest(OCT_DIGEST_START, g->params.data, g->params.count * 4);
    float mean = oct_graph_data(g, oct_graph_find(g, "a/bn/mean"), NULL)[0];
    CU_ASSERT_PTR_NOT_NULL(oct_quantize_unobserved(g));
    ASSERT_OK(ctx, oct_calibrate(g, &m, loader, 20, 1, false, NULL, NULL)); /* more than an epoch's 8 */
    CU_ASSERT_PTR_NULL(oct_quantize_unobserved(g));
    CU_ASSERT_EQUAL(params, oct_digest(OCT_DIGEST_START, g->params.data, g->params.count * 4));
    CU_ASSERT_EQUAL(mean, oct_graph_data(g, oct_graph_find(g, "a/bn/mean"), NULL)[0]);
    CU_ASSERT_EQUAL(oct_graph_data(g, oct_graph_find(g, "a/relu/range"), NULL)[OCT_RANGE_COUNT], 19.0f);
    uint64_t all = digest_of(g);
    ASSERT_OK(ctx, oct_calibrate(g, &m, loader, 5, 1, false, NULL, NULL));
    CU_ASSERT_EQUAL(all, digest_of(g)); /* observed already: left alone */
    oct_loader_destroy(loader);
    oct_graph_destroy(g);
    teardown();
}

/* --- sessions --- */

typedef struct session_case {
    bool quantized;
    int accumulate;
    int stop_after; /* calls of the stop event, evaluation's included; 0 = never */
    double save_seconds;
    bool check_means;
} session_case;

/* Means of the epoch under way, from its steps alone. */
static double step_loss, step_correct, step_images;
static int epochs_seen;
static void note_step(void *user, const oct_step_report *r)
{
    (void)user;
    step_loss += r->stats.loss * r->stats.count;
    step_correct += r->stats.correct;
    step_images += r->stats.count;
}

static void check_epoch(void *user, const oct_epoch_report *r)
{
    (void)user;
    CU_ASSERT(fabs(r->train_loss - step_loss / step_images) < 1e-12 * (1 + r->train_loss));
    CU_ASSERT(fabs(r->train_top1 - 100 * step_correct / step_images) < 1e-9);
    CU_ASSERT(r->epoch == epochs_seen++ && r->evaluated && r->score.images == TEST);
    step_loss = step_correct = step_images = 0;
}

static int stop_left;
static bool stop_event(void *user)
{
    (void)user;
    return stop_left > 0 && --stop_left == 0;
}

/* One process' life: starts or resumes a run of 4 epochs in `folder`. */
static oct_status live(const char *folder, const session_case *c)
{
    char path[PATH_BYTES];
    oct_checkpoint start = {0};
    oct_model m;
    oct_graph *g;
    snprintf(path, sizeof path, "%s/last.h5", folder);
    bool resumed = !access(path, R_OK);
    if (resumed) {
        OCT_TRY(oct_checkpoint_read(&start, path, ctx));
        m = start.model;
        g = oct_checkpoint_take_graph(&start);
    } else {
        g = small_graph(&m, true, c->quantized);
    }
    oct_loader *train = make_loader(true, BATCH), *test = make_loader(false, 10);
    oct_trainer_options o = train_options(4, (oct_loader_batches(train) + c->accumulate - 1) / c->accumulate);
    o.accumulate = c->accumulate;
    o.event = note_event;
    oct_trainer *t = NULL;
    oct_session *s = NULL;
    oct_status status = oct_trainer_create(&t, g, &m, &o);
    oct_session_options so = {.trainer = t,
                              .graph = g,
                              .model = &m,
                              .train = train,
                              .validation = test,
                              .epochs = 4,
                              .folder = folder,
                              .save_seconds = c->save_seconds,
                              .events = {.stop = stop_event}};
    if (c->check_means) so.events.step = note_step, so.events.epoch = check_epoch;
    stop_left = c->stop_after;
    if (status == OCT_OK) status = oct_session_create(&s, ctx, &so);
    if (status == OCT_OK && resumed) status = oct_session_resume(s, &start);
    if (status == OCT_OK) status = oct_session_run(s);
    oct_session_destroy(s);
    oct_trainer_destroy(t);
    oct_loader_destroy(train);
    oct_loader_destroy(test);
    oct_graph_destroy(g);
    oct_checkpoint_release(&start);
    return status;
}

static uint8_t *contents(const char *folder, const char *name, size_t *size)
{
    char path[PATH_BYTES];
    uint8_t *bytes;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_file_read(&bytes, size, path, 1 << 24, &ctx->error), name));
    return bytes;
}

/* metrics.jsonl without the digits of its rates. */
static void blank_rates(uint8_t *text, size_t size)
{
    static const char key[] = "\"images_per_second\":";
    for (size_t i = 0; i + sizeof key - 1 + 10 <= size; i++)
        if (!memcmp(text + i, key, sizeof key - 1)) memset(text + i + sizeof key - 1, ' ', 10);
}

static void expect_same(const char *a, const char *b, const char *name)
{
    size_t size_a, size_b;
    uint8_t *x = contents(a, name, &size_a), *y = contents(b, name, &size_b);
    if (strstr(name, "jsonl")) {
        blank_rates(x, size_a);
        blank_rates(y, size_b);
    }
    bool same = size_a == size_b && !memcmp(x, y, size_a);
    CU_ASSERT_TRUE(same);
    if (!same) printf("    %s/%s and %s/%s differ\n", a, name, b, name);
    oct_free(x);
    oct_free(y);
}

/* Stopped at the given places and resumed each time, a run ends with the same files. The first life of the
 * parts has two threads, the others and the whole run one. */
static void check_resumed(bool quantized, int accumulate, const int *stops, int count, bool save_often)
{
    setup();
    const char *whole = test_folder(), *parts = test_folder();
    session_case c = {.quantized = quantized, .accumulate = accumulate};
    event_count = 0;
    ASSERT_OK(ctx, live(whole, &c));
    int transitions = event_count;
    event_count = 0;
    if (save_often) c.save_seconds = 1e-9;
    for (int i = 0; i < count; i++) {
        c.stop_after = stops[i];
        ctx->threads = i ? 1 : 2;
        CU_ASSERT_EQUAL(live(parts, &c), OCT_END);
    }
    c.stop_after = 0;
    ctx->threads = 1;
    ASSERT_OK(ctx, live(parts, &c));
    CU_ASSERT_EQUAL(event_count, transitions);
    expect_same(whole, parts, "last.h5");
    expect_same(whole, parts, "best.h5");
    expect_same(whole, parts, "metrics.jsonl");
    teardown();
}

/* One epoch: 8 batches and 4 of evaluation, one question after each, and one between epochs: 13. */
static void session_run_two_and_two_epochs_equal_four_float(void)
{
    check_resumed(false, 1, (int[]){26}, 1, false);
}

static void session_run_two_and_two_epochs_equal_four_quantized(void)
{
    check_resumed(true, 1, (int[]){26}, 1, false);
}

static void session_run_stopped_at_any_step_ends_the_same_float(void)
{
    check_resumed(false, 1, (int[]){1, 5, 8, 3, 10, 2}, 6, true);
}

static void session_run_stopped_at_any_step_ends_the_same_quantized(void)
{
    check_resumed(true, 1, (int[]){3, 7, 1, 9, 12}, 5, true);
}

static void session_run_stopped_while_accumulating_ends_the_same(void)
{
    check_resumed(false, 3, (int[]){1, 2, 4}, 3, true);
}

/* What a killed process leaves behind is cut off: a metrics line without its checkpoint. */
static void session_resume_cuts_the_metrics_back(void)
{
    setup();
    const char *whole = test_folder(), *parts = test_folder();
    session_case c = {.accumulate = 1};
    ASSERT_OK(ctx, live(whole, &c));
    c.stop_after = 15;
    CU_ASSERT_EQUAL(live(parts, &c), OCT_END);
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/metrics.jsonl", parts);
    FILE *file = fopen(path, "a");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("{\"epoch\":1,\"half", file);
    fclose(file);
    c.stop_after = 0;
    ASSERT_OK(ctx, live(parts, &c));
    expect_same(whole, parts, "metrics.jsonl");
    expect_same(whole, parts, "last.h5");
    CU_ASSERT_EQUAL_FATAL(truncate(path, 10), 0);
    CU_ASSERT_EQUAL(live(parts, &c),
                    OCT_ERR_FORMAT); /* shorter than recorded: not the file of this checkpoint */
    oct_error_clear(&ctx->error);
    teardown();
}

static void session_run_reports_the_epochs_own_means(void)
{
    setup();
    session_case c = {.accumulate = 2, .check_means = true};
    step_loss = step_correct = step_images = 0;
    epochs_seen = 0;
    ASSERT_OK(ctx, live(test_folder(), &c));
    CU_ASSERT_EQUAL(epochs_seen, 4);
    teardown();
}

static void checkpoint_read_foreign_files_are_refused(void)
{
    setup();
    char path[PATH_BYTES];
    oct_checkpoint c;
    oct_model_file f;
    snprintf(path, sizeof path, "%s/no.h5", test_folder());
    CU_ASSERT_EQUAL(oct_checkpoint_read(&c, path, ctx), OCT_ERR_IO);
    oct_error_clear(&ctx->error);
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("this is a text", file);
    fclose(file);
    CU_ASSERT_EQUAL(oct_checkpoint_read(&c, path, ctx), OCT_ERR_FORMAT);
    oct_error_clear(&ctx->error);
    CU_ASSERT_EQUAL(oct_model_file_open(&f, path, ctx), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "no.h5"));
    oct_error_clear(&ctx->error);
    /* A state without head and image is no classifier. */
    oct_graph *g;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    oct_relu(g, "r", oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 4)));
    ASSERT_OK(ctx, oct_checkpoint_write(path, g, NULL, &(oct_checkpoint_info){0}, NULL, &ctx->error));
    CU_ASSERT_EQUAL(oct_model_file_open(&f, path, ctx), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "not an image classifier"));
    oct_error_clear(&ctx->error);
    oct_graph_destroy(g);
    teardown();
}

static const test_case cases[] = {
    {"trainer_freeze_follows_the_table", trainer_freeze_follows_the_table},
    {"trainer_step_moved_back_frees_again", trainer_step_moved_back_frees_again},
    {"trainer_step_float_loss_decreases", trainer_step_float_loss_decreases},
    {"trainer_step_quantized_loss_decreases", trainer_step_quantized_loss_decreases},
    {"trainer_step_accumulated_equals_one_large_batch", trainer_step_accumulated_equals_one_large_batch},
    {"trainer_step_clipped_moves_no_further_than_the_limit",
     trainer_step_clipped_moves_no_further_than_the_limit},
    {"trainer_step_not_finite_names_the_tensor", trainer_step_not_finite_names_the_tensor},
    {"evaluate_any_graph_changes_no_state", evaluate_any_graph_changes_no_state},
    {"scores_top_ties_go_to_the_lowest_class", scores_top_ties_go_to_the_lowest_class},
    {"evaluate_int8_equals_quantized", evaluate_int8_equals_quantized},
    {"autoencoder_trains_and_is_scored_without_labels", autoencoder_trains_and_is_scored_without_labels},
    {"calibrate_float_weights_observes_ranges_and_nothing_else",
     calibrate_float_weights_observes_ranges_and_nothing_else},
    {"session_run_two_and_two_epochs_equal_four_float", session_run_two_and_two_epochs_equal_four_float},
    {"session_run_two_and_two_epochs_equal_four_quantized",
     session_run_two_and_two_epochs_equal_four_quantized},
    {"session_run_stopped_at_any_step_ends_the_same_float",
     session_run_stopped_at_any_step_ends_the_same_float},
    {"session_run_stopped_at_any_step_ends_the_same_quantized",
     session_run_stopped_at_any_step_ends_the_same_quantized},
    {"session_run_stopped_while_accumulating_ends_the_same",
     session_run_stopped_while_accumulating_ends_the_same},
    {"session_resume_cuts_the_metrics_back", session_resume_cuts_the_metrics_back},
    {"session_run_reports_the_epochs_own_means", session_run_reports_the_epochs_own_means},
    {"checkpoint_read_foreign_files_are_refused", checkpoint_read_foreign_files_are_refused},
};
TEST_SUITE("trainer", cases);
