/* SPDX-License-Identifier: BSD-2-Clause
 * State files: bitwise round trips, graphs with the ids they had, reports, setters, memory that runs out. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "layers/models.h"
#include "tests/state_fixture.h"

/* What a pass does: a node and a buffer in the middle of the execution order, with ids at the end. */
static void insert_in_the_middle(oct_graph *g)
{
    oct_value at = oct_graph_find(g, "stem/bn");
    oct_buffer_insert(g, at, "stem/range", OCT_SHAPE(5), 0.5f);
    oct_value relu = oct_op_insert(g, at, &oct_op_relu, "stem/inserted", NULL, &at, 1);
    ASSERT_OK(ctx, oct_graph_rewire(g, oct_graph_find(g, "stem/clip"), 0, relu));
}

static bool same_node(const oct_node *a, const oct_node *b)
{
    if (a->id != b->id || a->kind != b->kind || strcmp(a->name, b->name) || a->op != b->op || a->dtype != b->dtype ||
        !oct_shape_equal(&a->shape, &b->shape) || a->input_count != b->input_count || a->offset != b->offset ||
        a->count != b->count)
        return false;
    if (memcmp(a->inputs, b->inputs, (size_t)a->input_count * sizeof a->inputs[0])) return false;
    return !a->op || !a->op->attr_bytes || !memcmp(a->attrs, b->attrs, a->op->attr_bytes);
}

static bool same_floats(const oct_flat *a, const oct_flat *b)
{
    return a->count == b->count && (!a->count || !memcmp(a->data, b->data, a->count * sizeof *a->data));
}

static bool same_graph(const oct_graph *a, const oct_graph *b)
{
    if (a->node_count != b->node_count || a->seed != b->seed || a->param_nodes != b->param_nodes)
        return false;
    for (int32_t i = 0; i < a->node_count; i++)
        if (!same_node(a->nodes[i], b->nodes[i]) || a->order[i] != b->order[i]) return false;
    return same_floats(&a->params, &b->params) && same_floats(&a->buffers, &b->buffers);
}

static void write_then_read_gives_the_same_graph_bit_for_bit(void)
{
    setup();
    oct_graph *g = small_graph(UINT64_MAX, 6), *back = NULL;
    insert_in_the_middle(g);
    const uint32_t odd[] = {0x7fc12345u, 0xff800000u, 0x80000000u, 0x00000001u, 0x7f7fffffu};
    memcpy(g->params.data, odd, sizeof odd);
    memcpy(g->buffers.data, odd, 4 * sizeof odd[0]); /* the first buffer has four elements */
    oct_state *state = state_of(g), *read = NULL;
    write_state(state);
    REQUIRE_OK(ctx, oct_state_read(&read, path, &ctx->error));
    CU_ASSERT(oct_state_digest(read) == oct_graph_digest(g));
    CU_ASSERT(oct_state_digest(state) == oct_graph_digest(g));
    REQUIRE_OK(ctx, oct_state_make_graph(&back, read, ctx, oct_op_find));
    CU_ASSERT(same_graph(g, back));
    CU_ASSERT_STRING_EQUAL(oct_state_producer(read), oct_state_producer(state));
    oct_state_destroy(state);
    oct_state_destroy(read);
    oct_graph_destroy(g);
    oct_graph_destroy(back);
    teardown();
}

static void every_model_of_the_zoo_survives_the_trip(void)
{
    setup();
    for (int i = 0; oct_model_name(i); i++) {
        oct_graph *g = NULL, *back = NULL;
        oct_model model;
        oct_model_options o = {.height = 32, .width = 32, .channels = 3, .classes = 10};
        char *text = NULL;
        REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 2));
        REQUIRE_OK(ctx, oct_model_build(&model, g, oct_model_name(i), &o));
        REQUIRE_OK(ctx, oct_graph_to_json(&text, g));
        REQUIRE_OK(ctx, oct_graph_from_json(&back, ctx, text, oct_op_find));
        memcpy(back->params.data, g->params.data, g->params.count * sizeof(float));
        memcpy(back->buffers.data, g->buffers.data, g->buffers.count * sizeof(float));
        CU_ASSERT(same_graph(g, back));
        oct_free(text);
        oct_graph_destroy(g);
        oct_graph_destroy(back);
    }
    teardown();
}

static void slots_classes_and_meta_come_back(void)
{
    setup();
    oct_graph *g = small_graph(1, 3);
    oct_state *state = state_of(g), *read = NULL;
    float *velocity = oct_calloc(g->params.count, sizeof *velocity);
    float *back = oct_calloc(g->params.count, sizeof *back);
    for (int32_t i = 0; i < g->node_count; i++)
        if (g->nodes[i]->kind == OCT_NODE_PARAMETER)
            test_fill_normal(velocity + g->nodes[i]->offset, g->nodes[i]->count, (unsigned)i);
    static const char *const names[] = {"one", "", "drei \xc3\xa4"};
    ASSERT_OK(ctx, oct_state_set_slot(state, "velocity", g, velocity, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_classes(state, names, 3, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_number(state, "best", (double)-INFINITY, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_number(state, "lr", 0.1, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_number(state, "lr", 0.3, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_integer(state, "seed", INT64_MIN + 1, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_text(state, "config", "{\"a\":[1,2]}", &ctx->error));
    ASSERT_OK(ctx, oct_state_set_text(state, "empty", "", &ctx->error));
    write_state(state);
    REQUIRE_OK(ctx, oct_state_read(&read, path, &ctx->error));
    oct_state_report report;
    oct_state_load_slot(read, "velocity", g, back, &report);
    ASSERT_OK(ctx, oct_state_report_status(&report, path, &ctx->error));
    CU_ASSERT(!memcmp(velocity, back, g->params.count * sizeof *back));
    CU_ASSERT(oct_state_class_count(read) == 3);
    for (int i = 0; i < 3; i++) CU_ASSERT_STRING_EQUAL(oct_state_class_name(read, i), names[i]);
    CU_ASSERT_PTR_NULL(oct_state_class_name(read, 3));
    double number = 0;
    int64_t integer = 0;
    const char *text = NULL;
    CU_ASSERT(oct_state_get_number(read, "best", &number) && isinf(number) && number < 0);
    CU_ASSERT(oct_state_get_number(read, "lr", &number) && number == 0.3);
    CU_ASSERT(oct_state_get_integer(read, "seed", &integer) && integer == INT64_MIN + 1);
    CU_ASSERT(oct_state_get_text(read, "config", &text) && !strcmp(text, "{\"a\":[1,2]}"));
    CU_ASSERT(oct_state_get_text(read, "empty", &text) && !*text);
    CU_ASSERT(!oct_state_get_integer(read, "lr", &integer));
    CU_ASSERT(!oct_state_get_text(read, "lr", &text));
    CU_ASSERT(!oct_state_get_number(read, "absent", &number));
    oct_free(velocity);
    oct_free(back);
    oct_state_destroy(state);
    oct_state_destroy(read);
    oct_graph_destroy(g);
    teardown();
}

static void wait_for_the_next_second(void)
{
    for (time_t start = time(NULL); time(NULL) == start;)
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
}

/* In another second: a time in the file would show. */
static void write_twice_and_rewritten_give_the_same_bytes(void)
{
    setup();
    uint8_t *bytes[3];
    size_t sizes[3];
    for (int i = 0; i < 3; i++) {
        oct_state *read = NULL;
        if (i == 1) wait_for_the_next_second();
        if (i < 2) write_small();
        if (i == 2) {
            REQUIRE_OK(ctx, oct_state_read(&read, path, &ctx->error));
            write_state(read);
            oct_state_destroy(read);
        }
        REQUIRE_OK(ctx, oct_file_read(&bytes[i], &sizes[i], path, 1 << 24, &ctx->error));
    }
    CU_ASSERT(sizes[0] == sizes[1] && !memcmp(bytes[0], bytes[1], sizes[0]));
    CU_ASSERT(sizes[0] == sizes[2]);
    for (int i = 0; i < 3; i++) oct_free(bytes[i]);
    teardown();
}

static void demo_sized_file_stays_small(void)
{
    setup();
    oct_graph *g = NULL;
    oct_model model;
    oct_model_options o = {.height = 28, .width = 28, .channels = 1, .classes = 10};
    uint8_t *bytes = NULL;
    size_t size = 0;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 2));
    REQUIRE_OK(ctx, oct_model_build(&model, g, "resnet8", &o));
    oct_state *state = state_of(g);
    write_state(state);
    REQUIRE_OK(ctx, oct_file_read(&bytes, &size, path, 1 << 24, &ctx->error));
    CU_ASSERT(size < 400000);
    oct_free(bytes);
    oct_state_destroy(state);
    oct_graph_destroy(g);
    teardown();
}

static void load_reports_what_does_not_fit(void)
{
    setup();
    oct_graph *g = small_graph(1, 6), *other = small_graph(2, 7), *more = small_graph(3, 6);
    oct_parameter(more, "extra", OCT_SHAPE(2), (oct_init){OCT_INIT_ONE, 0});
    oct_state *state = state_of(g), *bigger = state_of(more);
    oct_state_report report;
    oct_state_load(state, more, &report);
    CU_ASSERT(report.missing == 1 && !report.unexpected && !report.mismatched);
    CU_ASSERT(strstr(report.detail, "parameters/extra is missing") != NULL);
    CU_ASSERT(!memcmp(g->params.data, more->params.data, g->params.count * sizeof(float)));
    oct_state_load(bigger, g, &report);
    CU_ASSERT(!report.missing && report.unexpected == 1 && !report.mismatched);
    oct_state_load(state, other, &report);
    CU_ASSERT(!report.missing && !report.unexpected && report.mismatched == 2);
    CU_ASSERT(strstr(report.detail, "parameters/head/weight: expected [7,16], found [6,16]") != NULL);
    CU_ASSERT(oct_state_report_status(&report, "pretrained.h5", &ctx->error) == OCT_ERR_SHAPE);
    CU_ASSERT(strstr(ctx->error.message, "pretrained.h5") && strstr(ctx->error.message, "head/bias"));
    oct_state_destroy(state);
    oct_state_destroy(bigger);
    oct_graph_destroy(g);
    oct_graph_destroy(other);
    oct_graph_destroy(more);
    teardown();
}

static void write_to_a_missing_folder_is_an_error(void)
{
    setup();
    oct_graph *g = small_graph(1, 6);
    oct_state *state = state_of(g);
    CU_ASSERT(oct_state_write("/nonexistent-folder/state.h5", state, &ctx->error) == OCT_ERR_IO);
    CU_ASSERT(strstr(ctx->error.message, "/nonexistent-folder/state.h5") != NULL);
    oct_state_destroy(state);
    oct_graph_destroy(g);
    teardown();
}

/* --- ops of the caller --- */

static const oct_op custom_op;
static oct_status custom_infer(const oct_graph *g, oct_node *n)
{
    n->shape = oct_node_input(g, n, 0)->shape;
    return OCT_OK;
}

typedef struct custom_attrs {
    int32_t counts[2];
    float slope;
} custom_attrs;
static const oct_attr custom_attr_table[] = {{"counts", OCT_ATTR_INT, offsetof(custom_attrs, counts), 2},
                                             {"slope", OCT_ATTR_FLOAT, offsetof(custom_attrs, slope), 1}};
static const oct_op custom_op = {.name = "my_op",
                                 .attr_bytes = sizeof(custom_attrs),
                                 .attrs = custom_attr_table,
                                 .attr_count = 2,
                                 .min_inputs = 1,
                                 .max_inputs = 1,
                                 .infer = custom_infer};

static const oct_op *find_custom(const char *name)
{
    return !strcmp(name, custom_op.name) ? &custom_op : oct_op_find(name);
}

static void make_graph_finds_the_caller_s_ops(void)
{
    setup();
    oct_graph *g = NULL, *back = NULL;
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 1));
    oct_value x = oct_input(g, "x", OCT_F32, OCT_SHAPE(OCT_BATCH, 4));
    oct_op_append(g, &custom_op, "mine", &(custom_attrs){{INT32_MIN, INT32_MAX}, 0.1f}, &x, 1);
    oct_state *state = state_of(g), *read = NULL;
    write_state(state);
    REQUIRE_OK(ctx, oct_state_read(&read, path, &ctx->error));
    REQUIRE_OK(ctx, oct_state_make_graph(&back, read, ctx, find_custom));
    CU_ASSERT(same_graph(g, back));
    oct_graph *none = NULL;
    CU_ASSERT(oct_state_make_graph(&none, read, ctx, oct_op_find) == OCT_ERR_FORMAT);
    CU_ASSERT(strstr(ctx->error.message, "my_op") != NULL);
    oct_state_destroy(state);
    oct_state_destroy(read);
    oct_graph_destroy(g);
    oct_graph_destroy(back);
    teardown();
}

static void setters_refuse_bad_keys_and_second_graphs(void)
{
    setup();
    oct_graph *g = small_graph(1, 6);
    oct_state *state = state_of(g), *empty = NULL;
    REQUIRE_OK(ctx, oct_state_create(&empty, &ctx->error));
    CU_ASSERT(oct_state_set_graph(state, g, NULL) == OCT_ERR_STATE);
    CU_ASSERT(oct_state_set_number(state, "", 1, NULL) == OCT_ERR_ARGUMENT);
    CU_ASSERT(oct_state_set_number(state, "a/b", 1, NULL) == OCT_ERR_ARGUMENT);
    CU_ASSERT(oct_state_set_number(state, "..", 1, NULL) == OCT_ERR_ARGUMENT);
    char key[80];
    memset(key, 'k', sizeof key - 1);
    key[79] = '\0';
    CU_ASSERT(oct_state_set_text(state, key, "x", NULL) == OCT_ERR_ARGUMENT);
    CU_ASSERT(oct_state_set_slot(state, "a/b", g, g->params.data, NULL) == OCT_ERR_ARGUMENT);
    CU_ASSERT(oct_state_set_slot(state, "v", g, g->params.data, NULL) == OCT_OK);
    CU_ASSERT(oct_state_set_slot(state, "v", g, g->params.data, NULL) == OCT_ERR_STATE);
    CU_ASSERT(oct_state_write(path, empty, NULL) == OCT_ERR_STATE);
    oct_state_destroy(state);
    oct_state_destroy(empty);
    oct_graph_destroy(g);
    teardown();
}

/* Every allocation of a write and a read fails once: an error, no crash, no leak (the sanitizer says), no file. */
static void write_and_read_out_of_memory_are_errors(void)
{
    setup();
    write_small();
    oct_graph *g = small_graph(4, 6);
    for (long n = 1;; n++) {
        oct_state *state = NULL;
        oct_error_clear(&ctx->error);
        oct_alloc_fail_after(n);
        oct_status status = oct_state_create(&state, &ctx->error);
        if (status == OCT_OK) status = oct_state_set_graph(state, g, &ctx->error);
        if (status == OCT_OK) status = oct_state_set_slot(state, "velocity", g, g->params.data, &ctx->error);
        if (status == OCT_OK) status = oct_state_write(path, state, &ctx->error);
        oct_state_destroy(state);
        state = NULL;
        oct_graph *back = NULL;
        if (status == OCT_OK) status = oct_state_read(&state, path, &ctx->error);
        if (status == OCT_OK) status = oct_state_make_graph(&back, state, ctx, oct_op_find);
        oct_alloc_fail_after(0);
        oct_state_destroy(state);
        oct_graph_destroy(back);
        if (status == OCT_OK) break;
        if (status != OCT_ERR_MEMORY) printf("    allocation %ld: %s\n", n, ctx->error.message);
        CU_ASSERT(status == OCT_ERR_MEMORY);
        CU_ASSERT_FATAL(n < 5000);
    }
    oct_graph_destroy(g);
    teardown();
}

static const test_case cases[] = {
    {"write_then_read_gives_the_same_graph_bit_for_bit", write_then_read_gives_the_same_graph_bit_for_bit},
    {"every_model_of_the_zoo_survives_the_trip", every_model_of_the_zoo_survives_the_trip},
    {"slots_classes_and_meta_come_back", slots_classes_and_meta_come_back},
    {"write_twice_and_rewritten_give_the_same_bytes", write_twice_and_rewritten_give_the_same_bytes},
    {"demo_sized_file_stays_small", demo_sized_file_stays_small},
    {"load_reports_what_does_not_fit", load_reports_what_does_not_fit},
    {"write_to_a_missing_folder_is_an_error", write_to_a_missing_folder_is_an_error},
    {"make_graph_finds_the_caller_s_ops", make_graph_finds_the_caller_s_ops},
    {"setters_refuse_bad_keys_and_second_graphs", setters_refuse_bad_keys_and_second_graphs},
    {"write_and_read_out_of_memory_are_errors", write_and_read_out_of_memory_are_errors},
};
TEST_SUITE("state", cases);
