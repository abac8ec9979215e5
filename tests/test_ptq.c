/* SPDX-License-Identifier: BSD-2-Clause
 * Post-training quantization (quant/ptq): equalization, biases, ranges, tables, on small networks with random weights. */
#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"
#include "layers/models.h"
#include "quant/copy.h"
#include "quant/ptq/adaround.h"
#include "quant/ptq/bias.h"
#include "quant/ptq/equalize.h"
#include "quant/ptq/recipe.h"
#include "quant/ptq/table.h"
#include "tests/testing.h"

enum { SIDE = 8, IMAGES = 70, CHANNELS = 8 };

typedef enum shape { PLAIN, GROUPS, DEPTHWISE, CAPPED, BRANCHED } shape;

typedef struct fixture {
    oct_ctx *ctx;
    oct_graph *graph;
    oct_model model;
    oct_ptq_net net;
    oct_ptq_images images;
    uint8_t *pixels;
} fixture;

static oct_value block(oct_graph *g, const char *name, oct_value x, int filters, int kernel, int groups)
{
    char text[64];
    snprintf(text, sizeof text, "%s/conv", name);
    x = oct_conv2d(g, text, x, (oct_conv2d_opts){.filters = filters, .kernel = {kernel, kernel}, .groups = groups,
                                                 .padding = OCT_SAME, .no_bias = groups > 1});
    snprintf(text, sizeof text, "%s/bn", name);
    return oct_batch_norm(g, text, x, oct_batch_norm_defaults());
}

/* image -> a (3x3) -> relu -> b (3x3, groups or depthwise) -> relu -> [+ branch] -> pool -> head */
static void build(fixture *f, shape s)
{
    oct_graph *g = f->graph;
    oct_value x = f->model.image = oct_input(g, "image", OCT_U8, OCT_SHAPE(OCT_BATCH, SIDE, SIDE, 3));
    x = oct_normalize(g, "normalize", x, (oct_normalize_attrs){{127, 120, 110}, {0.02f, 0.02f, 0.02f}});
    x = block(g, "a", x, CHANNELS, 3, 1);
    x = s == CAPPED ? oct_relu6(g, "a/relu", x) : oct_relu(g, "a/relu", x);
    oct_value branch = x;
    x = block(g, "b", x, CHANNELS, 3, s == GROUPS ? 2 : s == DEPTHWISE ? CHANNELS : 1);
    x = oct_relu(g, "b/relu", x);
    if (s == BRANCHED) x = oct_add(g, "sum", x, branch);
    x = oct_global_average_pool(g, "pool", x);
    f->model.logits = oct_linear(g, "head", x, (oct_linear_opts){.outputs = 5});
    CU_ASSERT_TRUE_FATAL(test_is_ok(&f->ctx->error, oct_graph_status(g), "network"));
}

/* Statistics and biases away from their starting values. */
static void shake(oct_graph *g)
{
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[i];
        size_t count, length = strlen(n->name);
        if (n->kind != OCT_NODE_PARAMETER && n->kind != OCT_NODE_BUFFER) continue;
        float *x = oct_graph_data(g, (oct_value){i}, &count);
        bool weight = length > 7 && !strcmp(n->name + length - 7, "/weight");
        bool positive = strstr(n->name, "/var") || strstr(n->name, "/gamma");
        oct_rng rng = oct_rng_start(11, OCT_RNG_SYNTHETIC, 0, (uint64_t)i);
        for (size_t k = 0; k < count && !weight; k++)
            x[k] = positive ? 0.5f + oct_rng_uniform(&rng) : 0.4f * oct_rng_normal(&rng);
    }
}

static void open_fixture(fixture *f, shape s, const oct_qconfig *config)
{
    *f = (fixture){.ctx = test_ctx_with(2, NULL)};
    CU_ASSERT_EQUAL_FATAL(oct_graph_create(&f->graph, f->ctx, 3), OCT_OK);
    build(f, s);
    shake(f->graph);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&f->ctx->error, oct_quantize(f->graph, config, NULL, NULL), "quantize"));
    CU_ASSERT_TRUE_FATAL(test_is_ok(&f->ctx->error, oct_ptq_net_open(&f->net, f->graph, f->model.image, f->model.logits),
                                    "open"));
    size_t sample = SIDE * SIDE * 3;
    f->pixels = oct_alloc(IMAGES, sample);
    oct_rng rng = oct_rng_start(5, OCT_RNG_SYNTHETIC, 0, 0);
    for (size_t i = 0; i < IMAGES * sample; i++) f->pixels[i] = (uint8_t)oct_rng_below(&rng, 256);
    f->images = (oct_ptq_images){f->pixels, IMAGES, sample};
}

static void close_fixture(fixture *f)
{
    oct_ptq_net_close(&f->net);
    oct_graph_destroy(f->graph);
    oct_free(f->pixels);
    oct_ctx_destroy(f->ctx);
}

/* The value `v` of a graph on all images. */
static float *values_of(fixture *f, oct_graph *g, oct_value v, size_t *count)
{
    oct_tap *tap;
    float *all = NULL;
    *count = 0;
    CU_ASSERT_TRUE_FATAL(test_is_ok(&f->ctx->error, oct_tap_create(&tap, g, f->model.image, &v, 1), "tap"));
    for (int64_t b = 0; b < oct_ptq_batches(&f->images); b++) {
        size_t n;
        CU_ASSERT_TRUE_FATAL(test_is_ok(&f->ctx->error, oct_tap_run(tap, &f->images, b), "run"));
        const float *x = oct_tap_floats(tap, 0, &n);
        all = oct_realloc(all, *count * sizeof *all, *count + n, sizeof *all);
        memcpy(all + *count, x, n * sizeof *x);
        *count += n;
    }
    oct_tap_destroy(tap);
    return all;
}

static float *float_values(fixture *f, oct_value v, size_t *count)
{
    oct_graph *twin;
    CU_ASSERT_TRUE_FATAL(test_is_ok(&f->ctx->error, oct_ptq_float_twin(&twin, &f->net), "twin"));
    float *x = values_of(f, twin, v, count);
    oct_graph_destroy(twin);
    return x;
}

/* Largest difference over the largest magnitude. */
static double difference(const float *a, const float *b, size_t n)
{
    double worst = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

static void observe(fixture *f, oct_ptq_method method)
{
    const oct_ptq_observation how = {method, 99.9};
    ASSERT_OK(f->ctx, oct_ptq_observe(&f->net, &f->images, &how, NULL));
}

static const oct_qconfig config = {.shrink = -1};

/* --- batch norm --- */

static void merge_norms_and_restore_keep_the_float_network(void)
{
    fixture f;
    size_t n;
    open_fixture(&f, DEPTHWISE, &config);
    float *before = float_values(&f, f.model.logits, &n);
    oct_ptq_merge_norms(&f.net);
    float *merged = float_values(&f, f.model.logits, &n);
    CU_ASSERT(difference(merged, before, n) < 1e-5);
    const float *gamma = oct_graph_data(f.graph, oct_graph_find(f.graph, "b/bn/gamma"), NULL);
    CU_ASSERT(gamma[0] == 1 && gamma[CHANNELS - 1] == 1);
    ASSERT_OK(f.ctx, oct_ptq_restore_norms(&f.net, &f.images, NULL));
    float *restored = float_values(&f, f.model.logits, &n);
    CU_ASSERT(difference(restored, before, n) < 1e-5);
    CU_ASSERT(gamma[0] != 1);
    oct_free(before);
    oct_free(merged);
    oct_free(restored);
    close_fixture(&f);
}

/* The simulation is the integer network but for the rounding of float sums. */
static void simulation_gives_the_values_of_the_integer_network(void)
{
    fixture f;
    size_t n;
    open_fixture(&f, BRANCHED, &config);
    oct_ptq_merge_norms(&f.net);
    observe(&f, OCT_PTQ_MSE);
    oct_graph *simulation;
    REQUIRE_OK(f.ctx, oct_ptq_simulation(&simulation, &f.net, NULL));
    for (int i = 0; i < f.net.layer_count; i++)
        ASSERT_OK(f.ctx, oct_ptq_write_weights(simulation, &f.net, &f.net.layers[i]));
    float *integer = values_of(&f, f.graph, f.model.logits, &n);
    float *simulated = values_of(&f, simulation, f.model.logits, &n), *exact = float_values(&f, f.model.logits, &n);
    CU_ASSERT(difference(simulated, integer, n) < 1e-6);
    CU_ASSERT(difference(exact, integer, n) > 2e-3);
    oct_graph_destroy(simulation);
    oct_free(integer);
    oct_free(simulated);
    oct_free(exact);
    close_fixture(&f);
}

/* --- equalization --- */

static void equalize_and_compare(shape s, int pairs, int capped)
{
    fixture f;
    size_t n;
    open_fixture(&f, s, &config);
    float *w = oct_graph_data(f.graph, oct_graph_find(f.graph, "a/conv/weight"), NULL);
    for (size_t i = 0; i < 27; i++) w[2 * 27 + i] *= 1000, w[5 * 27 + i] = 0; /* one far out, one dead */
    float *before = float_values(&f, f.model.logits, &n);
    oct_ptq_equalized found;
    const oct_ptq_equalization how = {0};
    REQUIRE_OK(f.ctx, oct_ptq_equalize(&f.net, &how, &found));
    float *after = float_values(&f, f.model.logits, &n);
    CU_ASSERT(difference(after, before, n) < 1e-5);
    CU_ASSERT_EQUAL(found.pairs, pairs);
    CU_ASSERT_EQUAL(found.capped, capped);
    if (s == PLAIN) CU_ASSERT(found.ratio_before > 500 && found.ratio_after < 50);
    for (size_t i = 0; i < n; i++) CU_ASSERT_FATAL(isfinite(after[i]));
    oct_free(before);
    oct_free(after);
    close_fixture(&f);
}

static void T29_equalization_keeps_the_function_and_stops_at_caps_and_branches(void)
{
    equalize_and_compare(PLAIN, 2, 0);
    equalize_and_compare(GROUPS, 2, 0);
    equalize_and_compare(DEPTHWISE, 2, 0);
    equalize_and_compare(CAPPED, 1, 1);
    equalize_and_compare(BRANCHED, 0, 0);
    CU_ASSERT_EQUAL(oct_ptq_equalizing_scale(0, 3), 1);
    CU_ASSERT_EQUAL(oct_ptq_equalizing_scale(3, 0), 1);
    CU_ASSERT_EQUAL(oct_ptq_equalizing_scale(0.2, 0.2), 1);
    CU_ASSERT_EQUAL(oct_ptq_equalizing_scale(4, 1), 2);
    CU_ASSERT_EQUAL(oct_ptq_equalizing_scale(1e30, 1e-30), 1e6);
}

static void absorbed_biases_change_the_function_only_below_three_sigma(void)
{
    fixture f;
    size_t n;
    open_fixture(&f, DEPTHWISE, &config);
    float *beta = oct_graph_data(f.graph, oct_graph_find(f.graph, "b/bn/beta"), NULL);
    float *gamma = oct_graph_data(f.graph, oct_graph_find(f.graph, "b/bn/gamma"), NULL);
    float *var = oct_graph_data(f.graph, oct_graph_find(f.graph, "b/bn/var"), NULL);
    for (int c = 0; c < CHANNELS; c++) beta[c] = 9, gamma[c] = 0.01f, var[c] = 1e4f;
    float *before = float_values(&f, f.model.logits, &n);
    oct_value bias = oct_graph_find(f.graph, "head/bias");
    float was = oct_graph_data(f.graph, bias, NULL)[0];
    oct_ptq_equalized found;
    const oct_ptq_equalization how = {.absorb = true};
    REQUIRE_OK(f.ctx, oct_ptq_equalize(&f.net, &how, &found));
    float *after = float_values(&f, f.model.logits, &n);
    CU_ASSERT(difference(after, before, n) < 1e-4);
    CU_ASSERT(fabsf(oct_graph_data(f.graph, bias, NULL)[0] - was) > 0.1f);
    oct_free(before);
    oct_free(after);
    close_fixture(&f);
}

/* Channel scales spread by the inverse of equalization: simple calibration breaks, equalization mends. */
static double error_after(bool equalize, bool spoil)
{
    fixture f;
    size_t n;
    open_fixture(&f, PLAIN, &config);
    oct_ptq_merge_norms(&f.net);
    float *wa = oct_graph_data(f.graph, oct_graph_find(f.graph, "a/conv/weight"), NULL);
    float *ba = oct_graph_data(f.graph, oct_graph_find(f.graph, "a/bn/beta"), NULL);
    float *wb = oct_graph_data(f.graph, oct_graph_find(f.graph, "b/conv/weight"), NULL);
    for (int c = 0; c < CHANNELS && spoil; c++) {
        float s = powf(1000, (float)c / (CHANNELS - 1) - 0.5f);
        for (int i = 0; i < 27; i++) wa[c * 27 + i] *= s;
        ba[c] *= s;
        for (int i = c; i < CHANNELS * 9 * CHANNELS; i += CHANNELS) wb[i] /= s;
    }
    oct_ptq_options o = {.recipe = oct_ptq_recipe_find("simple"), .equalize = equalize};
    float *exact = float_values(&f, f.model.logits, &n);
    CU_ASSERT_TRUE(test_is_ok(&f.ctx->error, oct_ptq_apply(&f.net, &f.images, &o), "apply"));
    float *integer = values_of(&f, f.graph, f.model.logits, &n);
    double error = difference(integer, exact, n);
    oct_free(exact);
    oct_free(integer);
    close_fixture(&f);
    return error;
}

static void equalization_mends_a_network_whose_channels_were_spread(void)
{
    double plain = error_after(false, false), spoiled = error_after(false, true), mended = error_after(true, true);
    CU_ASSERT(spoiled > 5 * plain);
    CU_ASSERT(mended < 2 * plain);
}

/* --- T15 --- */

static void T15_weight_limit_is_that_of_the_constraint(void)
{
    float wide[] = {0.1f, 0.05f, 40, 0.1f, 0.2f}, mild[] = {0.1f, 14, 0.1f}, even[] = {0.1f, 40, 0.3f, 0.05f};
    CU_ASSERT_EQUAL(oct_ptq_weight_limit(wide, 5), 1.875); /* 16*0.1 -> 2 */
    CU_ASSERT_EQUAL(oct_ptq_weight_limit(mild, 3), 0);
    CU_ASSERT_EQUAL(oct_ptq_weight_limit(even, 4), 1.875); /* the lower median */
    float dense[] = {20, 19, 18};
    CU_ASSERT_EQUAL(oct_ptq_weight_limit(dense, 3), 0);
}

/* --- biases --- */

/* Sum over channels of |mean of the float output - mean of the simulated one|. */
static double mean_error(fixture *f, oct_graph *exact, const oct_ptq_layer *l)
{
    size_t n;
    oct_graph *simulation;
    CU_ASSERT_EQUAL_FATAL(oct_ptq_simulation(&simulation, &f->net, NULL), OCT_OK);
    for (int i = 0; i < f->net.layer_count; i++)
        ASSERT_OK(f->ctx, oct_ptq_write_weights(simulation, &f->net, &f->net.layers[i]));
    float *x = values_of(f, exact, l->output, &n), *y = values_of(f, simulation, l->output, &n);
    double error = 0;
    for (int c = 0; c < l->outputs; c++) {
        double sum = 0;
        for (size_t i = (size_t)c; i < n; i += (size_t)l->outputs) sum += (double)x[i] - (double)y[i];
        error += fabs(sum / (double)(n / (size_t)l->outputs));
    }
    oct_graph_destroy(simulation);
    oct_free(x);
    oct_free(y);
    return error;
}

/* A network with ranges, one of whose weights makes the steps of all the others coarse. */
static void open_coarse(fixture *f)
{
    open_fixture(f, PLAIN, &config);
    oct_ptq_merge_norms(&f->net);
    oct_graph_data(f->graph, oct_graph_find(f->graph, "a/conv/weight"), NULL)[0] = 30;
    observe(f, OCT_PTQ_MINMAX);
}

static void bias_correction_moves_every_mean_to_that_of_the_float_network(void)
{
    fixture f;
    oct_graph *exact;
    double before[3];
    open_coarse(&f);
    REQUIRE_OK(f.ctx, oct_ptq_float_twin(&exact, &f.net));
    for (int i = 0; i < 3; i++) before[i] = mean_error(&f, exact, &f.net.layers[i]);
    ASSERT_OK(f.ctx, oct_ptq_correct_biases(&f.net, &f.images, NULL));
    for (int i = 0; i < 3; i++) {
        double after = mean_error(&f, exact, &f.net.layers[i]);
        CU_ASSERT(before[i] > 5e-3);
        CU_ASSERT(after < 0.1 * before[i]); /* what is left: the bias is rounded to its own grid */
    }
    oct_graph_destroy(exact);
    close_fixture(&f);
}

/* Movement of the first layer's biases in `steps` steps on one batch. */
static double moved_in(int64_t steps, bool on_grid)
{
    fixture f;
    float was[CHANNELS];
    double moved = 0;
    open_coarse(&f);
    f.images.count = OCT_PTQ_BATCH;
    for (int i = 0; i < f.net.point_count; i++) f.net.points[i].fixed = true;
    if (on_grid) ASSERT_OK(f.ctx, oct_ptq_write_weights(f.graph, &f.net, &f.net.layers[0]));
    float *beta = oct_graph_data(f.graph, f.net.layers[0].bias, NULL);
    memcpy(was, beta, sizeof was);
    const oct_ptq_bias_calibration how = {.steps = steps};
    CU_ASSERT_TRUE(test_is_ok(&f.ctx->error, oct_ptq_calibrate_biases(&f.net, &f.images, &how, NULL), "calibrate"));
    for (int c = 0; c < CHANNELS; c++) moved += fabs((double)beta[c] - (double)was[c]);
    close_fixture(&f);
    return moved;
}

/* T30: where weights are on their grid biases stay (but for the input's rounding); a shift d moves the bias by 0.05 of what
 * is left, each step: d*(1 - 0.95^k) in k. */
static void T30_bias_calibration_is_geometric_and_leaves_exact_layers_alone(void)
{
    double one = moved_in(1, false), ten = moved_in(10, false), exact = moved_in(1, true);
    CU_ASSERT(fabs(ten / one - (1 - pow(0.95, 10)) / 0.05) < 0.05);
    CU_ASSERT(exact < 0.06 * one);
}

static void advanced_recipe_sets_every_range_and_brings_means_closer(void)
{
    fixture f;
    open_fixture(&f, PLAIN, &config);
    const oct_ptq_options o = {.recipe = oct_ptq_recipe_find("advanced")};
    REQUIRE_OK(f.ctx, oct_ptq_apply(&f.net, &f.images, &o));
    CU_ASSERT_PTR_NULL(oct_quantize_unobserved(f.graph));
    for (int i = 0; i < f.net.point_count; i++) {
        const float *range = oct_ptq_range(f.graph, &f.net.points[i]);
        CU_ASSERT(range[OCT_RANGE_HI] > 0 && range[OCT_RANGE_HI] < 100);
        CU_ASSERT(range[OCT_RANGE_COUNT] >= OCT_PTQ_CALIBRATION_STEPS - 1);
    }
    close_fixture(&f);
}

/* --- AdaRound --- */

static void nudge_moves_a_weight_only_as_far_as_its_code_needs(void)
{
    CU_ASSERT_EQUAL(oct_ptq_nudge(64.3, 64), 64.3);
    CU_ASSERT_EQUAL(oct_ptq_nudge(64.7, 64), 64.4);
    CU_ASSERT_EQUAL(oct_ptq_nudge(64.3, 65), 64.6);
    CU_ASSERT_EQUAL(oct_ptq_nudge(-64.7, -64), -64.4);
    CU_ASSERT_EQUAL(oct_ptq_nudge(127.8, 127), 127.8); /* clipped, not moved */
    CU_ASSERT_EQUAL(oct_ptq_nudge(-128, -127), -128.0);
    CU_ASSERT_EQUAL(oct_ptq_nudge(0.5, 1), 0.6); /* a tie leaves nothing to rounding rules */
}

static void adaround_lowers_the_error_and_survives_folding(void)
{
    fixture f;
    size_t n;
    oct_ptq_adarounded found;
    const oct_ptq_adaround how = {.iterations = 300};
    open_coarse(&f);
    REQUIRE_OK(f.ctx, oct_ptq_adaround_apply(&f.net, &f.images, &how, &found, NULL));
    CU_ASSERT(found.changed > 20 && found.changed < found.weights / 2);
    CU_ASSERT(found.error_after < 0.7 * found.error_before);
    float *before = values_of(&f, f.graph, f.model.logits, &n);
    ASSERT_OK(f.ctx, oct_ptq_restore_norms(&f.net, &f.images, NULL));
    float *after = values_of(&f, f.graph, f.model.logits, &n);
    CU_ASSERT(difference(after, before, n) < 1e-2); /* biases are rounded anew, weights are the same */
    oct_free(before);
    oct_free(after);
    close_fixture(&f);
}

/* --- ranges --- */

static void observe_by_each_method_sets_ranges_that_cover_what_they_should(void)
{
    fixture f;
    open_fixture(&f, BRANCHED, &config);
    float limit[16] = {0};
    for (int m = OCT_PTQ_MINMAX; m >= OCT_PTQ_SIMPLE; m--) {
        observe(&f, (oct_ptq_method)m);
        for (int i = 0; i < f.net.point_count; i++) {
            const float *range = oct_ptq_range(f.graph, &f.net.points[i]);
            CU_ASSERT(range[OCT_RANGE_HI] > 0 && range[OCT_RANGE_OBSERVED] == 1);
            if (m == OCT_PTQ_MINMAX) limit[i] = range[OCT_RANGE_HI];
            CU_ASSERT(range[OCT_RANGE_HI] <= limit[i]); /* the mean of maxima is below the maximum */
        }
    }
    for (int m = OCT_PTQ_HISTOGRAM; m <= OCT_PTQ_MSE; m++) {
        observe(&f, (oct_ptq_method)m);
        for (int i = 0; i < f.net.point_count; i++) {
            int e;
            const float *range = oct_ptq_range(f.graph, &f.net.points[i]);
            CU_ASSERT_EQUAL(frexpf(range[OCT_RANGE_HI], &e), 0.5f); /* a clip of the profile */
            CU_ASSERT(range[OCT_RANGE_HI] < 2 * limit[i]);
        }
    }
    close_fixture(&f);
}

static void T35_calibration_refuses_values_that_are_not_finite(void)
{
    fixture f;
    open_fixture(&f, PLAIN, &config);
    oct_graph_data(f.graph, oct_graph_find(f.graph, "b/bn/beta"), NULL)[1] = NAN;
    const oct_ptq_observation how = {OCT_PTQ_MSE, 99.9};
    CU_ASSERT_EQUAL(oct_ptq_observe(&f.net, &f.images, &how, NULL), OCT_ERR_NUMERIC);
    CU_ASSERT_PTR_NOT_NULL(strstr(f.ctx->error.message, "b/relu"));
    close_fixture(&f);
}

/* --- tables --- */

static void range_table_written_edited_and_read_back_is_the_same(void)
{
    fixture f;
    char *text, *again;
    open_fixture(&f, PLAIN, &config);
    observe(&f, OCT_PTQ_SIMPLE);
    f.net.points[1].fixed = true;
    REQUIRE_OK(f.ctx, oct_ptq_table_text(&text, &f.net));
    float hi = oct_ptq_range(f.graph, &f.net.points[1])[OCT_RANGE_HI];
    oct_ptq_set_range(f.graph, &f.net.points[1], -1, 1, 1);
    f.net.points[1].fixed = false;
    ASSERT_OK(f.ctx, oct_ptq_table_apply(&f.net, text, "table"));
    CU_ASSERT_EQUAL(oct_ptq_range(f.graph, &f.net.points[1])[OCT_RANGE_HI], hi);
    CU_ASSERT_TRUE(f.net.points[1].fixed);
    REQUIRE_OK(f.ctx, oct_ptq_table_text(&again, &f.net));
    CU_ASSERT_STRING_EQUAL(text, again);
    observe(&f, OCT_PTQ_PERCENTILE);
    CU_ASSERT_EQUAL(oct_ptq_range(f.graph, &f.net.points[1])[OCT_RANGE_HI], hi);
    CU_ASSERT_NOT_EQUAL(oct_ptq_range(f.graph, &f.net.points[2])[OCT_RANGE_HI], hi);
    oct_free(text);
    oct_free(again);
    close_fixture(&f);
}

static void range_table_with_a_mistake_is_refused_by_name(void)
{
    static const char *const bad[][2] = {
        {"{}", "array"},
        {"[{\"point\": \"nobody\", \"lo\": 0, \"hi\": 1}]", "nobody"},
        {"[{\"point\": \"pool\", \"lo\": 0}]", "lo <= hi"},
        {"[{\"point\": \"pool\", \"lo\": 2, \"hi\": 1}]", "lo <= hi"},
        {"[{\"point\": \"pool\", \"lo\": 0, \"hi\": 1, \"low\": 2}]", "\"low\""},
        {"[{\"point\": \"pool\", \"lo\": 0, \"hi\": 1, \"fixed\": 1}]", "fixed"},
        {"[{\"point\": \"pool\", \"lo\": 0, \"hi\": 1}, {\"point\": \"pool/quant\", \"lo\": 0, \"hi\": 1}]", "twice"},
        {"[3]", "entry 0"},
    };
    fixture f;
    open_fixture(&f, PLAIN, &config);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        oct_error_clear(&f.ctx->error);
        CU_ASSERT_EQUAL(oct_ptq_table_apply(&f.net, bad[i][0], "table"), OCT_ERR_FORMAT);
        CU_ASSERT_PTR_NOT_NULL(strstr(f.ctx->error.message, bad[i][1]));
    }
    close_fixture(&f);
}

static const test_case cases[] = {
    {"merge_norms_and_restore_keep_the_float_network", merge_norms_and_restore_keep_the_float_network},
    {"simulation_gives_the_values_of_the_integer_network", simulation_gives_the_values_of_the_integer_network},
    {"T29_equalization_keeps_the_function_and_stops_at_caps_and_branches",
     T29_equalization_keeps_the_function_and_stops_at_caps_and_branches},
    {"absorbed_biases_change_the_function_only_below_three_sigma",
     absorbed_biases_change_the_function_only_below_three_sigma},
    {"equalization_mends_a_network_whose_channels_were_spread", equalization_mends_a_network_whose_channels_were_spread},
    {"T15_weight_limit_is_that_of_the_constraint", T15_weight_limit_is_that_of_the_constraint},
    {"bias_correction_moves_every_mean_to_that_of_the_float_network",
     bias_correction_moves_every_mean_to_that_of_the_float_network},
    {"T30_bias_calibration_is_geometric_and_leaves_exact_layers_alone",
     T30_bias_calibration_is_geometric_and_leaves_exact_layers_alone},
    {"advanced_recipe_sets_every_range_and_brings_means_closer", advanced_recipe_sets_every_range_and_brings_means_closer},
    {"nudge_moves_a_weight_only_as_far_as_its_code_needs", nudge_moves_a_weight_only_as_far_as_its_code_needs},
    {"adaround_lowers_the_error_and_survives_folding", adaround_lowers_the_error_and_survives_folding},
    {"observe_by_each_method_sets_ranges_that_cover_what_they_should",
     observe_by_each_method_sets_ranges_that_cover_what_they_should},
    {"T35_calibration_refuses_values_that_are_not_finite", T35_calibration_refuses_values_that_are_not_finite},
    {"range_table_written_edited_and_read_back_is_the_same", range_table_written_edited_and_read_back_is_the_same},
    {"range_table_with_a_mistake_is_refused_by_name", range_table_with_a_mistake_is_refused_by_name},
};
TEST_SUITE("ptq", cases);
