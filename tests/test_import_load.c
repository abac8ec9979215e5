/* SPDX-License-Identifier: BSD-2-Clause
 * Tensors of other frameworks into models of the zoo: names and outputs of torchvision's and timm's networks
 * (tests/golden/gen/import_names.py, which also says where the values come from), and what the report says. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/bytes.h"
#include "autograd/base/memory.h"
#include "autograd/plan.h"
#include "layers/import/import.h"
#include "layers/import/keras.h"
#include "tests/testing.h"

static oct_ctx *ctx;

/* --- values that Python makes, too --- */

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    return x ^ x >> 16;
}

static bool ends(const char *text, const char *with)
{
    size_t n = strlen(text), k = strlen(with);
    return n >= k && !strcmp(text + n - k, with);
}

static void fill(oct_named_tensor *t)
{
    uint32_t start = (uint32_t)oct_digest(OCT_DIGEST_START, t->name, strlen(t->name));
    size_t fan_in = t->rank > 1 ? t->count / (size_t)t->dims[0] : 1;
    float scale = (float)sqrt(6.0 / (double)fan_in);
    bool ones = ends(t->name, "running_var") || ends(t->name, ".weight");
    for (size_t i = 0; i < t->count; i++) {
        float r = (float)(2 * (mix(start + (uint32_t)i) * 0x1p-32) - 1);
        t->data[i] = t->rank > 1 ? r * scale : (ones ? 1 : 0) + r / 8;
    }
}

/* --- a file as the map says it should be --- */

static const oct_name_map *find_map(const char *name)
{
    const oct_name_map *map = NULL;
    for (int i = 0; (map = oct_name_map_at(i)) && strcmp(map->name, name) != 0; i++) continue;
    return map;
}

/* The shape that PyTorch gives to a parameter of ours. */
static int torch_dims(int64_t dims[4], const oct_node *n)
{
    const int32_t *d = n->shape.dim;
    int rank = n->shape.rank;
    for (int i = 0; i < rank; i++) dims[i] = d[i];
    if (rank == 4) memcpy(dims, (int64_t[]){d[0], d[3], d[1], d[2]}, 4 * sizeof *dims);
    if (rank == 3) memcpy(dims, (int64_t[]){d[2], 1, d[0], d[1]}, 4 * sizeof *dims);
    return rank == 3 ? 4 : rank;
}

/* `prefix` in front of all names. */
static oct_tensors *file_of(const oct_graph *g, const oct_name_map *map, const char *prefix)
{
    oct_tensors *tensors;
    int block = -1;
    char last[OCT_NAME_BYTES] = "";
    CU_ASSERT_FATAL(oct_tensors_create(&tensors, NULL) == OCT_OK);
    for (int32_t i = 0; i < g->node_count; i++) {
        const oct_node *n = g->nodes[g->order[i]];
        size_t length = oct_name_block_length(n->name);
        char name[OCT_NAME_BYTES], full[OCT_NAME_BYTES + 32];
        int64_t dims[4];
        oct_named_tensor *t;
        if (length && (strncmp(last, n->name, length) != 0 || last[length])) {
            snprintf(last, sizeof last, "%.*s", (int)length, n->name);
            block++;
        }
        if (n->kind != OCT_NODE_PARAMETER && n->kind != OCT_NODE_BUFFER) continue;
        CU_ASSERT_FATAL(oct_name_map_tensor(name, map, n->name, block, n->shape.rank == 3));
        snprintf(full, sizeof full, "%s%s", prefix, name);
        int rank = torch_dims(dims, n);
        CU_ASSERT_FATAL(oct_tensors_add(tensors, &t, full, rank, dims, 1 << 28, NULL) == OCT_OK);
        fill(t);
    }
    return tensors;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Of "name[shape]\n" of all tensors, sorted. */
static uint64_t digest_of(const oct_tensors *tensors)
{
    enum { LINE = 160 };
    size_t count = (size_t)oct_tensors_count(tensors);
    char *lines = oct_calloc(count, LINE);
    char **order = oct_calloc(count, sizeof *order);
    CU_ASSERT_FATAL(lines && order);
    for (size_t i = 0; i < count; i++) {
        const oct_named_tensor *t = oct_tensors_at(tensors, (int)i);
        size_t used = 0;
        order[i] = lines + i * LINE;
        used += (size_t)snprintf(order[i], LINE, "%s[", t->name);
        for (int d = 0; d < t->rank; d++)
            used += (size_t)snprintf(order[i] + used, LINE - used, "%s%" PRId64, d ? "," : "", t->dims[d]);
        snprintf(order[i] + used, LINE - used, "]\n");
    }
    qsort(order, count, sizeof *order, by_text);
    uint64_t digest = OCT_DIGEST_START;
    for (size_t i = 0; i < count; i++) digest = oct_digest(digest, order[i], strlen(order[i]));
    oct_free(order);
    oct_free(lines);
    return digest;
}

/* --- models --- */

static oct_graph *build(oct_model *model, const char *spec, int size, int classes)
{
    oct_graph *g;
    oct_model_options options = {.height = size, .width = size, .channels = 3, .classes = classes};
    CU_ASSERT_FATAL(oct_graph_create(&g, ctx, 1) == OCT_OK);
    CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_model_build(model, g, spec, &options), spec));
    return g;
}

static uint8_t noise(size_t i)
{
    return (uint8_t)mix((uint32_t)i);
}

static void logits_for(float *out, int count, oct_graph *g, const oct_model *m, uint8_t (*pixel)(size_t i))
{
    oct_plan *plan;
    oct_plan_options options = {.batch = 1, .mode = OCT_EVAL, .outputs = &m->logits, .output_count = 1};
    oct_run run = {.mode = OCT_EVAL};
    REQUIRE_OK(ctx, oct_plan_create(&plan, g, &options));
    uint8_t *pixels = oct_plan_input(plan, m->image);
    size_t n = oct_shape_sample(&oct_graph_node(g, m->image)->shape);
    for (size_t i = 0; i < n; i++) pixels[i] = pixel(i);
    ASSERT_OK(ctx, oct_plan_forward(plan, &run, 1));
    memcpy(out, oct_plan_tensor(plan, m->logits)->data, (size_t)count * sizeof *out);
    oct_plan_destroy(plan);
}

static void logits_of(float *out, int count, oct_graph *g, const oct_model *m)
{
    logits_for(out, count, g, m, noise);
}

static oct_load_report *load_into(oct_graph *g, const oct_model *m, oct_tensors *tensors, oct_load_options options,
                                  oct_status expected)
{
    oct_weights weights = {OCT_WEIGHTS_PTH, OCT_LAYOUT_TORCH, tensors};
    oct_load_report *report = NULL;
    oct_error_clear(&ctx->error);
    oct_status status = oct_weights_load(g, m->name, &weights, "FILE", &options, false, &report);
    if (status != expected) printf("    %s: %s\n", oct_status_name(status), ctx->error.message);
    CU_ASSERT(status == expected);
    CU_ASSERT_FATAL(report != NULL);
    return report;
}

typedef struct golden {
    char map[64], spec[64];
    int size, classes, tensors;
    uint64_t digest;
    double logits[8];
} golden;

static bool read_golden(golden *g, FILE *f)
{
    char digest[32];
    if (fscanf(f, " network %63s %63s %d %d %d %31s logits", g->map, g->spec, &g->size, &g->classes, &g->tensors,
               digest) != 6)
        return false;
    g->digest = strtoull(digest, NULL, 16);
    for (char *p = g->map; *p; p++)
        if (*p == '_') *p = ' ';
    for (int i = 0; i < 8; i++)
        if (fscanf(f, "%lf", &g->logits[i]) != 1) return false;
    return true;
}

static const oct_normalize_attrs imagenet = {{123.675f, 116.28f, 103.53f, 0},
                                             {1 / 58.395f, 1 / 57.12f, 1 / 57.375f, 1}};

/* The golden logits are of ImageNet's preprocessing, whatever the map's is. */
static void set_imagenet(oct_graph *g)
{
    oct_value normalize = oct_graph_find(g, "normalize");
    oct_value image = {oct_graph_node(g, normalize)->inputs[0]};
    REQUIRE_OK(ctx, oct_graph_replace(g, normalize, &oct_op_normalize, &imagenet, &image, 1));
}

static void check_network(const golden *want)
{
    oct_model m;
    const oct_name_map *map = find_map(want->map);
    CU_ASSERT_FATAL(map != NULL);
    oct_graph *g = build(&m, want->spec, want->size, want->classes);
    oct_tensors *tensors = file_of(g, map, "");
    bool same_names = oct_tensors_count(tensors) == want->tensors && digest_of(tensors) == want->digest;
    if (!same_names) printf("    %s, %s: other names or shapes than PyTorch's\n", want->map, want->spec);
    CU_ASSERT(same_names);
    oct_load_report *r = load_into(g, &m, tensors, (oct_load_options){.strict = true}, OCT_OK);
    CU_ASSERT(!strcmp(r->map->name, want->map) && r->matched == want->tensors && r->item_count == 0);
    oct_model_size size = oct_model_measure(g);
    CU_ASSERT(r->parameters == size.parameters && r->buffers == size.buffers);
    set_imagenet(g);
    float logits[8];
    double norm = 0, worst = 0;
    logits_of(logits, 8, g, &m);
    for (int i = 0; i < 8; i++) norm = fmax(norm, fabs(want->logits[i]));
    for (int i = 0; i < 8; i++) worst = fmax(worst, fabs((double)logits[i] - want->logits[i]));
    if (!(worst <= 2e-5 * norm)) printf("    %s, %s: logits differ by %g of %g\n", want->map, want->spec, worst, norm);
    CU_ASSERT(worst <= 2e-5 * norm); /* float rounding through up to 70 layers; a wrong tensor makes it about 1 */
    oct_load_report_destroy(r);
    oct_tensors_destroy(tensors);
    oct_graph_destroy(g);
}

static void load_networks_of_torchvision_and_timm_gives_their_logits(void)
{
    golden want;
    int count = 0;
    FILE *f = fopen("tests/golden/import/names.txt", "r");
    ctx = test_ctx();
    CU_ASSERT_FATAL(f && ctx);
    for (; read_golden(&want, f); count++) check_network(&want);
    CU_ASSERT(count == 9);
    fclose(f);
    oct_ctx_destroy(ctx);
}

/* --- reports --- */

static oct_model model;
static oct_graph *graph;
static oct_tensors *tensors;

static void setup(const char *map, const char *prefix)
{
    ctx = test_ctx();
    graph = build(&model, "mobilenetv2:width=0.1", 32, 10);
    tensors = file_of(graph, find_map(map), prefix);
}

static void teardown(void)
{
    oct_tensors_destroy(tensors);
    oct_graph_destroy(graph);
    oct_ctx_destroy(ctx);
}

static void load_prefixed_names_are_found(void)
{
    setup("timm efficientnet", "module._orig_mod.");
    oct_load_report *r = load_into(graph, &model, tensors, (oct_load_options){.strict = true}, OCT_OK);
    CU_ASSERT(!strcmp(r->prefix, "module._orig_mod.") && r->matched == oct_tensors_count(tensors));
    oct_load_report_destroy(r);
    teardown();
}

static void load_counted_batches_are_ignored_and_others_are_unexpected(void)
{
    oct_named_tensor *extra;
    setup("timm efficientnet", "");
    CU_ASSERT(oct_tensors_add(tensors, &extra, "bn1.num_batches_tracked", 0, NULL, 1, NULL) == OCT_OK);
    CU_ASSERT(oct_tensors_add(tensors, &extra, "blocks.9.9.conv_pw.weight", 1, (int64_t[]){3}, 3, NULL) == OCT_OK);
    oct_load_report *r = load_into(graph, &model, tensors, (oct_load_options){0}, OCT_OK);
    CU_ASSERT(r->ignored == 1 && r->unexpected == 1 && r->item_count == 1 && r->missing == 0);
    CU_ASSERT(!strcmp(r->items[0].source, "blocks.9.9.conv_pw.weight") && !strcmp(r->items[0].shapes, "[3]"));
    oct_load_report_destroy(r);
    r = load_into(graph, &model, tensors, (oct_load_options){.strict = true}, OCT_ERR_SHAPE);
    CU_ASSERT(strstr(ctx->error.message, "FILE: strict") && strstr(ctx->error.message, "blocks.9.9.conv_pw.weight"));
    oct_load_report_destroy(r);
    teardown();
}

static void load_missing_tensors_stay_and_strict_refuses(void)
{
    setup("timm efficientnet", "");
    oct_graph_destroy(graph);
    graph = build(&model, "resnet18", 32, 10); /* stem/bn is the one place that both networks name alike */
    float *gamma = oct_graph_data(graph, oct_graph_find(graph, "stage1/block1/conv1/weight"), NULL), before = *gamma;
    oct_load_report *r = load_into(graph, &model, tensors, (oct_load_options){.strict = true}, OCT_ERR_SHAPE);
    CU_ASSERT(r->missing > 50 || r->mismatched > 0 || r->matched == 0);
    CU_ASSERT(*gamma == before);
    oct_load_report_destroy(r);
    teardown();
}

static void load_another_class_count_needs_new_head(void)
{
    setup("torchvision mobilenetv2", "");
    oct_graph_destroy(graph);
    graph = build(&model, "mobilenetv2:width=0.1", 32, 7);
    size_t count;
    float *head = oct_graph_data(graph, oct_graph_find(graph, "head/weight"), &count), first = head[0];
    float *stem = oct_graph_data(graph, oct_graph_find(graph, "stem/conv/weight"), NULL), untouched = stem[0];
    oct_load_report *r = load_into(graph, &model, tensors, (oct_load_options){0}, OCT_ERR_SHAPE);
    CU_ASSERT(r->mismatched == 2 && strstr(ctx->error.message, "--new-head"));
    CU_ASSERT(strstr(ctx->error.message, "[7,1280] here, [10,1280] in the file") != NULL);
    CU_ASSERT(stem[0] == untouched);
    oct_load_report_destroy(r);
    r = load_into(graph, &model, tensors, (oct_load_options){.new_head = true, .strict = true}, OCT_OK);
    CU_ASSERT(r->renewed == 2 && r->mismatched == 0 && r->matched == oct_tensors_count(tensors) - 2);
    CU_ASSERT(head[0] == first && stem[0] != untouched);
    oct_load_report_destroy(r);
    CU_ASSERT(oct_load_classes(graph, tensors, OCT_LAYOUT_TORCH) == 10);
    teardown();
}

static void load_weights_that_are_not_numbers_are_refused(void)
{
    setup("torchvision mobilenetv2", "");
    oct_tensors_at(tensors, 5)->data[0] = NAN;
    oct_load_report *r = NULL;
    oct_load_options options = {.layout = OCT_LAYOUT_TORCH};
    CU_ASSERT(oct_load_tensors(graph, tensors, &options, &r) == OCT_ERR_NUMERIC && !r);
    CU_ASSERT(strstr(ctx->error.message, oct_tensors_at(tensors, 5)->name) != NULL);
    teardown();
}

static void load_foreign_names_fit_nothing(void)
{
    oct_named_tensor *t;
    setup("torchvision mobilenetv2", "");
    oct_tensors_destroy(tensors);
    CU_ASSERT(oct_tensors_create(&tensors, NULL) == OCT_OK);
    CU_ASSERT(oct_tensors_add(tensors, &t, "encoder.0.weight", 1, (int64_t[]){3}, 3, NULL) == OCT_OK);
    oct_load_report *r = load_into(graph, &model, tensors, (oct_load_options){0}, OCT_ERR_SHAPE);
    CU_ASSERT(r->map == NULL && r->unexpected == 1 && strstr(ctx->error.message, "no tensor of the file fits"));
    oct_load_report_destroy(r);
    teardown();
}

/* A linear layer that reads a flattened image: PyTorch flattens C,H,W, we H,W,C. */
static void load_linear_behind_flatten_turns_its_columns(void)
{
    ctx = test_ctx();
    oct_named_tensor *t;
    CU_ASSERT_FATAL(oct_graph_create(&graph, ctx, 1) == OCT_OK);
    oct_value x = oct_input(graph, "image", OCT_F32, OCT_SHAPE(OCT_BATCH, 2, 3, 4));
    oct_linear(graph, "head", oct_flatten(graph, "flat", x), (oct_linear_opts){.outputs = 2, .no_bias = true});
    CU_ASSERT(oct_tensors_create(&tensors, NULL) == OCT_OK);
    CU_ASSERT(oct_tensors_add(tensors, &t, "head.weight", 2, (int64_t[]){2, 24}, 48, NULL) == OCT_OK);
    for (int i = 0; i < 48; i++) t->data[i] = (float)i;
    oct_load_report *r = NULL;
    oct_load_options options = {.layout = OCT_LAYOUT_TORCH};
    ASSERT_OK(ctx, oct_load_tensors(graph, tensors, &options, &r));
    const float *w = oct_graph_data(graph, oct_graph_find(graph, "head/weight"), NULL);
    for (int o = 0; o < 2; o++)
        for (int y = 0; y < 2; y++)
            for (int k = 0; k < 3; k++)
                for (int c = 0; c < 4; c++) CU_ASSERT(*w++ == (float)(o * 24 + (c * 2 + y) * 3 + k));
    CU_ASSERT(r && r->transposed == 1);
    oct_load_report_destroy(r);
    teardown();
}

static int lines_seen;
static char all_lines[4096];
static void see_line(void *user, const char *text)
{
    (void)user;
    lines_seen++;
    snprintf(all_lines + strlen(all_lines), sizeof all_lines - strlen(all_lines), "%s\n", text);
}

static void report_print_names_what_did_not_match(void)
{
    setup("torchvision mobilenetv2", "");
    oct_named_tensor *extra;
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "extra%d", i);
        CU_ASSERT(oct_tensors_add(tensors, &extra, name, 1, (int64_t[]){3}, 3, NULL) == OCT_OK);
    }
    oct_load_report *r = load_into(graph, &model, tensors, (oct_load_options){0}, OCT_OK);
    lines_seen = 0;
    *all_lines = '\0';
    oct_load_report_print(r, "FILE", 3, see_line, NULL);
    CU_ASSERT(lines_seen == 5);
    CU_ASSERT(strstr(all_lines, "names of torchvision mobilenetv2: 262 tensors loaded") != NULL);
    CU_ASSERT(strstr(all_lines, "0 missing, 5 unexpected") && strstr(all_lines, "unexpected: extra0 [3]"));
    CU_ASSERT(strstr(all_lines, "and 2 more") != NULL);
    oct_load_report_destroy(r);
    teardown();
}

static uint8_t waves(size_t i)
{
    size_t c = i % 3, x = i / 3 % 224, y = i / 3 / 224;
    return (uint8_t)(3 * y + 5 * x + 40 * c);
}

/* The real file, with the preprocessing that comes with it (tests/golden/gen/efficientnet_lite0.py). */
static void load_real_efficientnet_gives_pytorchs_logits(void)
{
    static uint8_t (*const images[2])(size_t) = {noise, waves};
    static float logits[1000];
    const char *path = test_shared_path("models/efficientnet-lite0.pth");
    if (!path) SKIP("shared/models/efficientnet-lite0.pth is not there");
    ctx = test_ctx();
    oct_weights weights;
    oct_load_report *r = NULL;
    oct_load_options options = {.strict = true};
    FILE *f = fopen("tests/golden/import/efficientnet_lite0.txt", "r");
    CU_ASSERT_FATAL(f != NULL);
    graph = build(&model, "efficientnet-lite0", 224, 1000);
    REQUIRE_OK(ctx, oct_weights_read(&weights, path, &ctx->error));
    REQUIRE_OK(ctx, oct_weights_load(graph, model.name, &weights, path, &options, false, &r));
    CU_ASSERT(r->matched + r->ignored == 296 && r->ignored == 49 && r->item_count == 0);
    for (int k = 0; k < 2; k++) {
        double worst = 0, expected;
        logits_for(logits, 1000, graph, &model, images[k]);
        for (int i = 0; i < 1000; i += 25) {
            CU_ASSERT_FATAL(fscanf(f, "%lf", &expected) == 1);
            worst = fmax(worst, fabs((double)logits[i] - expected));
        }
        if (!(worst < 1e-4)) printf("    image %d: logits differ by %g\n", k, worst);
        CU_ASSERT(worst < 1e-4); /* of logits up to 10 */
    }
    fclose(f);
    oct_load_report_destroy(r);
    oct_weights_release(&weights);
    oct_graph_destroy(graph);
    oct_ctx_destroy(ctx);
}

/* A Keras file taken for weights of our ResNet-8 gives what the network that Keras describes in it gives. */
static void load_keras_file_by_name_gives_its_own_network(void)
{
    const char *path = test_shared_path("models/mlperf-tiny/pretrainedResnet.h5");
    if (!path) SKIP("shared/models/mlperf-tiny is not there");
    ctx = test_ctx();
    oct_graph *theirs;
    oct_model their_model;
    oct_weights weights;
    oct_load_report *r = NULL;
    oct_load_options options = {.strict = true};
    float ours[10], expected[10];
    REQUIRE_OK(ctx, oct_graph_create(&theirs, ctx, 1));
    REQUIRE_OK(ctx, oct_keras_build(&their_model, theirs, path, NULL));
    graph = build(&model, "resnet8", 32, 10);
    REQUIRE_OK(ctx, oct_weights_read(&weights, path, &ctx->error));
    ASSERT_OK(ctx, oct_weights_load(graph, "resnet8", &weights, path, &options, false, &r));
    CU_ASSERT(weights.kind == OCT_WEIGHTS_KERAS && r && r->item_count == 0 && r->transposed > 0);
    logits_of(ours, 10, graph, &model);
    logits_of(expected, 10, theirs, &their_model);
    float worst = 0;
    for (int i = 0; i < 10; i++) worst = fmaxf(worst, fabsf(ours[i] - expected[i]));
    if (!(worst < 1e-4f)) printf("    logits differ by %g\n", (double)worst);
    CU_ASSERT(worst < 1e-4f); /* of logits up to 20; the order of the sums differs */
    oct_load_report_destroy(r);
    oct_weights_release(&weights);
    oct_graph_destroy(theirs);
    oct_graph_destroy(graph);
    oct_ctx_destroy(ctx);
}

static const test_case cases[] = {
    {"load_networks_of_torchvision_and_timm_gives_their_logits",
     load_networks_of_torchvision_and_timm_gives_their_logits},
    {"load_prefixed_names_are_found", load_prefixed_names_are_found},
    {"load_counted_batches_are_ignored_and_others_are_unexpected",
     load_counted_batches_are_ignored_and_others_are_unexpected},
    {"load_missing_tensors_stay_and_strict_refuses", load_missing_tensors_stay_and_strict_refuses},
    {"load_another_class_count_needs_new_head", load_another_class_count_needs_new_head},
    {"load_weights_that_are_not_numbers_are_refused", load_weights_that_are_not_numbers_are_refused},
    {"load_foreign_names_fit_nothing", load_foreign_names_fit_nothing},
    {"load_linear_behind_flatten_turns_its_columns", load_linear_behind_flatten_turns_its_columns},
    {"load_real_efficientnet_gives_pytorchs_logits", load_real_efficientnet_gives_pytorchs_logits},
    {"load_keras_file_by_name_gives_its_own_network", load_keras_file_by_name_gives_its_own_network},
    {"report_print_names_what_did_not_match", report_print_names_what_did_not_match},
};
TEST_SUITE("import_load", cases);
