/* SPDX-License-Identifier: BSD-2-Clause
 * State files: bitwise round trips, graphs with the ids they had, reports, full disks, and files that are truncated,
 * foreign, edited or mutated. */
#include <dirent.h>
#include <hdf5.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "layers/models.h"
#include "layers/state.h"
#include "layers/state_internal.h"
#include "tests/testing.h"

enum { PATH = 512 };
static oct_ctx *ctx;
static char path[PATH];

static void setup(void)
{
    ctx = test_ctx();
    snprintf(path, sizeof path, "%s/state.h5", test_folder());
}

static void teardown(void)
{
    oct_ctx_destroy(ctx);
}

/* A small network with most attribute types: conv, bn, clip, pool, add, linear, loss. */
static oct_graph *small_graph(uint64_t seed, int32_t classes)
{
    oct_graph *g = NULL;
    CU_ASSERT_FATAL(oct_graph_create(&g, ctx, seed) == OCT_OK);
    oct_value x = oct_input(g, "image", OCT_U8, OCT_SHAPE(OCT_BATCH, 8, 8, 3));
    x = oct_normalize(g, "normalize", x, (oct_normalize_attrs){{120, 110.5f, 100}, {0.017f, 0.018f, 0.019f, 1}});
    x = oct_conv2d(g, "stem/conv", x, (oct_conv2d_opts){.filters = 4, .kernel = {3, 3}, .stride = {2, 2},
                                                        .padding = OCT_SAME});
    x = oct_batch_norm(g, "stem/bn", x, oct_batch_norm_defaults());
    oct_value y = oct_clip(g, "stem/clip", x, 0, INFINITY);
    y = oct_conv2d(g, "depthwise", y, (oct_conv2d_opts){.filters = 4, .kernel = {3, 3}, .groups = 4,
                                                        .padding = OCT_SAME_TORCH, .no_bias = true});
    x = oct_add(g, "add", x, y);
    x = oct_max_pool(g, "max", x, (oct_pool_opts){.kernel = {2, 2}});
    x = oct_dropout(g, "dropout", oct_flatten(g, "flat", x), 0.25f);
    x = oct_linear(g, "head", x, (oct_linear_opts){.outputs = classes});
    oct_softmax_cross_entropy(g, "loss", x, oct_labels(g, "label"), (oct_cross_entropy_attrs){0.1f, -1});
    CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_graph_status(g), "small_graph"));
    return g;
}

/* What a pass does: a node and a buffer in the middle of the execution order, with ids at the end. */
static void insert_in_the_middle(oct_graph *g)
{
    oct_value at = oct_graph_find(g, "stem/bn");
    oct_buffer_insert(g, at, "stem/range", OCT_SHAPE(5), 0.5f);
    oct_value relu = oct_op_insert(g, at, &oct_op_relu, "stem/inserted", NULL, &at, 1);
    ASSERT_OK(ctx, oct_graph_rewire(g, oct_graph_find(g, "stem/clip"), 0, relu));
}

static oct_state *state_of(const oct_graph *g)
{
    oct_state *state = NULL;
    CU_ASSERT_FATAL(oct_state_create(&state, &ctx->error) == OCT_OK);
    CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_state_set_graph(state, g, &ctx->error), "oct_state_set_graph"));
    return state;
}

static void write_state(const oct_state *state)
{
    CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_state_write(path, state, &ctx->error), "oct_state_write"));
}

static void write_small(void)
{
    oct_graph *g = small_graph(5, 6);
    oct_state *state = state_of(g);
    static const char *const names[] = {"cat", "dog", "ship", "a longer name", "", "\xc3\xa9"};
    ASSERT_OK(ctx, oct_state_set_slot(state, "velocity", g, g->params.data, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_classes(state, names, 6, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_integer(state, "epoch", 3, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_text(state, "config", "{\"lr\":0.1}", &ctx->error));
    write_state(state);
    oct_state_destroy(state);
    oct_graph_destroy(g);
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

static void write_twice_and_rewritten_give_the_same_bytes(void)
{
    setup();
    uint8_t *bytes[3];
    size_t sizes[3];
    for (int i = 0; i < 3; i++) {
        oct_state *read = NULL;
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

static int entries(const char *folder)
{
    int count = 0;
    DIR *dir = opendir(folder);
    if (!dir) return -1;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* A full disk, as far as a test may fill one: no file may grow beyond 4 KiB. */
static void write_to_a_full_disk_keeps_the_old_file(void)
{
    setup();
    char folder[PATH];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    write_small();
    oct_graph *g = small_graph(99, 6);
    oct_state *state = state_of(g), *read = NULL;
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 4096;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    oct_status status = oct_state_write(path, state, &ctx->error);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    CU_ASSERT(status == OCT_ERR_IO);
    CU_ASSERT(strstr(ctx->error.message, "state.h5") && strstr(ctx->error.message, "too large"));
    CU_ASSERT(entries(folder) == 1);
    oct_error_clear(&ctx->error);
    REQUIRE_OK(ctx, oct_state_read(&read, path, &ctx->error));
    CU_ASSERT(oct_state_digest(read) != oct_graph_digest(g));
    int64_t epoch = 0;
    CU_ASSERT(oct_state_get_integer(read, "epoch", &epoch) && epoch == 3);
    oct_state_destroy(read);
    oct_state_destroy(state);
    oct_graph_destroy(g);
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

/* The file at `path` must be refused with `status` and a message that names the file and `expected`. */
static void expect_refused(oct_status status, const char *expected)
{
    oct_state *read = NULL;
    oct_error_clear(&ctx->error);
    oct_status found = oct_state_read(&read, path, &ctx->error);
    bool good = found == status && !read && strstr(ctx->error.message, path) && strstr(ctx->error.message, expected);
    if (!good) printf("    expected '%s', got %s: %s\n", expected, oct_status_name(found), ctx->error.message);
    CU_ASSERT(good);
    oct_state_destroy(read);
}

static void read_no_file_text_or_foreign_file_is_refused(void)
{
    setup();
    expect_refused(OCT_ERR_IO, "No such file");
    REQUIRE_OK(ctx, oct_file_write(path, "hello\n", 6, NULL));
    expect_refused(OCT_ERR_FORMAT, "not an HDF5 file");
    H5Fclose(H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    expect_refused(OCT_ERR_FORMAT, "expected format 'octet-state'");
    char format[OCT_STATE_FORMAT_BYTES];
    ASSERT_OK(ctx, oct_state_probe(format, path, NULL));
    CU_ASSERT_STRING_EQUAL(format, "");
    write_small();
    ASSERT_OK(ctx, oct_state_probe(format, path, NULL));
    CU_ASSERT_STRING_EQUAL(format, OCT_STATE_FORMAT);
    teardown();
}

/* --- edited files: a valid file, changed through the HDF5 library --- */

typedef void edit_fn(hid_t file);

static void replace_dataset(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims, hid_t plist)
{
    static float zeros[4096];
    hid_t space = H5Screate_simple(rank, dims, NULL);
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros);
    H5Dclose(set);
    H5Sclose(space);
}

static void edit_delete(hid_t file)
{
    H5Ldelete(file, "parameters/stem/conv/weight", H5P_DEFAULT);
}

static void edit_shape(hid_t file)
{
    replace_dataset(file, "parameters/head/bias", H5T_IEEE_F32LE, 1, (hsize_t[]){7}, H5P_DEFAULT);
}

static void edit_rank(hid_t file)
{
    replace_dataset(file, "parameters/head/bias", H5T_IEEE_F32LE, 2, (hsize_t[]){1, 6}, H5P_DEFAULT);
}

static void edit_type(hid_t file)
{
    replace_dataset(file, "parameters/head/bias", H5T_IEEE_F64LE, 1, (hsize_t[]){6}, H5P_DEFAULT);
}

static void edit_value(hid_t file)
{
    replace_dataset(file, "buffers/stem/bn/var", H5T_IEEE_F32LE, 1, (hsize_t[]){4}, H5P_DEFAULT);
}

static void edit_chunked(hid_t file)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plist, 1, (hsize_t[]){2});
    replace_dataset(file, "parameters/head/bias", H5T_IEEE_F32LE, 1, (hsize_t[]){6}, plist);
    H5Pclose(plist);
}

/* Names a file beside it as the place of its values. */
static void edit_external(hid_t file)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, (hsize_t[]){6}, NULL);
    H5Pset_external(plist, "/etc/passwd", 0, 24);
    H5Ldelete(file, "parameters/head/bias", H5P_DEFAULT);
    H5Dclose(H5Dcreate2(file, "parameters/head/bias", H5T_IEEE_F32LE, space, H5P_DEFAULT, plist, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(plist);
}

static void edit_version(hid_t file)
{
    int32_t version = 2;
    hid_t attribute = H5Aopen(file, "version", H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT32, &version);
    H5Aclose(attribute);
}

static void edit_format(hid_t file)
{
    hid_t attribute = H5Aopen(file, "format", H5P_DEFAULT), type = H5Aget_type(attribute);
    H5Awrite(attribute, type, "octet-int8\0");
    H5Tclose(type);
    H5Aclose(attribute);
}

static void edit_digest(hid_t file)
{
    H5Adelete(file, "digest");
}

static void replace_graph(hid_t file, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text) + 1);
    H5Ldelete(file, "graph", H5P_DEFAULT);
    hid_t set = H5Dcreate2(file, "graph", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text);
    H5Dclose(set);
    H5Sclose(space);
    H5Tclose(type);
}

static void edit_graph_text(hid_t file)
{
    replace_graph(file, "{\"nodes\":");
}

/* Two gigabytes that are not there. */
static void edit_graph_huge(hid_t file)
{
    replace_graph(file, "{\"seed\":\"1\",\"nodes\":[{\"id\":0,\"name\":\"w\",\"kind\":\"parameter\",\"dtype\":\"f32\","
                        "\"shape\":[1024,1024,512]}]}");
}

static void edit_meta_name(hid_t file)
{
    H5Lmove(file, "meta/epoch", file, "meta/ep och", H5P_DEFAULT, H5P_DEFAULT);
}

/* What a forger does: a seal that fits the edited file. */
static void seal_again(void)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    REQUIRE_OK(ctx, oct_file_read(&bytes, &size, path, 1 << 24, &ctx->error));
    oct_state_seal_make((char *)bytes, bytes + OCT_STATE_SEAL, size - OCT_STATE_SEAL);
    REQUIRE_OK(ctx, oct_file_write(path, bytes, size, NULL));
    oct_free(bytes);
}

static void read_edited_files_names_object_and_reason(void)
{
    static const struct {
        edit_fn *edit;
        const char *expected;
    } edits[] = {
        {edit_delete, "'parameters/stem/conv/weight'"},
        {edit_shape, "'parameters/head/bias': expected shape [6]"},
        {edit_rank, "'parameters/head/bias': expected shape [6]"},
        {edit_type, "32-bit"},
        {edit_value, "parameters and buffers: expected digest"},
                {edit_chunked, "contiguous"},
        {edit_external, "contiguous"},
        {edit_version, "expected version 1"},
        {edit_format, "expected format 'octet-state', found 'octet-int8'"},
        {edit_digest, "'digest'"},
        {edit_graph_text, "not JSON"},
        {edit_graph_huge, "2147483648 bytes"},
        {edit_meta_name, "'meta'"},
    };
    setup();
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        write_small();
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        CU_ASSERT_FATAL(file >= 0);
        edits[i].edit(file);
        H5Fclose(file);
        expect_refused(OCT_ERR_FORMAT, "state.h5: expected ");
        seal_again();
        expect_refused(OCT_ERR_FORMAT, edits[i].expected);
    }
    teardown();
}

/* --- mutated bytes --- */

/* Without the syncing of oct_file_write: there are thousands of these. */
static bool put_bytes(const uint8_t *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(bytes, 1, size, f) == size;
    return f && !fclose(f) && ok;
}

/* Reads the bytes as a file: refused with a message, or the same content as before. */
static bool refused_or_same(const uint8_t *bytes, size_t size, uint64_t digest)
{
    oct_state *read = NULL;
    oct_error_clear(&ctx->error);
    if (!put_bytes(bytes, size)) return false;
    oct_status status = oct_state_read(&read, path, &ctx->error);
    bool good = status == OCT_OK ? oct_state_digest(read) == digest : strstr(ctx->error.message, path) != NULL;
    if (status == OCT_OK) {
        oct_graph *g = NULL;
        good = good && oct_state_make_graph(&g, read, ctx, oct_op_find) == OCT_OK;
        oct_graph_destroy(g);
    }
    oct_state_destroy(read);
    return good;
}

static void read_truncated_files_is_refused(void)
{
    setup();
    write_small();
    uint8_t *bytes = NULL;
    size_t size = 0;
    REQUIRE_OK(ctx, oct_file_read(&bytes, &size, path, 1 << 24, &ctx->error));
    for (size_t cut = 0; cut < size; cut += cut < 128 ? 1 : size / 61) {
        CU_ASSERT_FATAL(put_bytes(bytes, cut));
        expect_refused(OCT_ERR_FORMAT, "state.h5");
    }
    oct_free(bytes);
    teardown();
}

/* Steps through the file with a stride that is no multiple of any structure, and puts hostile values everywhere. */
static int count_bad_mutations(uint8_t *bytes, size_t size, uint64_t digest)
{
    static const uint8_t values[] = {0x00, 0xff, 0x80, 0x01};
    int bad = 0;
    for (size_t at = 0, k = 0; at < size; at += 23, k++) {
        uint8_t old = bytes[at];
        bytes[at] = k % 5 == 4 ? (uint8_t)(old ^ (1u << k % 8)) : values[k % 5];
        bool good = refused_or_same(bytes, size, digest);
        if (!good) printf("    byte %zu, %02x for %02x: %s\n", at, bytes[at], old, ctx->error.message);
        bad += !good;
        bytes[at] = old;
    }
    return bad;
}

static void read_mutated_files_is_refused_or_unchanged(void)
{
    setup();
    write_small();
    uint8_t *bytes = NULL;
    size_t size = 0;
    oct_state *read = NULL;
    REQUIRE_OK(ctx, oct_file_read(&bytes, &size, path, 1 << 24, &ctx->error));
    REQUIRE_OK(ctx, oct_state_read(&read, path, &ctx->error));
    uint64_t digest = oct_state_digest(read);
    oct_state_destroy(read);
    CU_ASSERT(refused_or_same(bytes, size, digest));
    CU_ASSERT(count_bad_mutations(bytes, size, digest) == 0);
    oct_free(bytes);
    teardown();
}

/* --- graphs as text --- */

static void expect_bad_graph(const char *text, const char *expected)
{
    oct_graph *g = NULL;
    oct_error_clear(&ctx->error);
    oct_status status = oct_graph_from_json(&g, ctx, text, oct_op_find);
    bool good = status != OCT_OK && !g && strstr(ctx->error.message, expected);
    if (!good) printf("    expected '%s', got %s: %s\n", expected, oct_status_name(status), ctx->error.message);
    CU_ASSERT(good);
    oct_graph_destroy(g);
}

#define INPUT(id) "{\"id\":" #id ",\"name\":\"x\",\"kind\":\"input\",\"dtype\":\"f32\",\"shape\":[-1,4]}"
#define RELU "{\"id\":1,\"name\":\"r\",\"kind\":\"op\",\"op\":\"relu\",\"inputs\":[\"x\"],\"dtype\":\"f32\",\"shape\":[-1,4]}"
#define CLIP(attrs)                                                                                           \
    "{\"id\":1,\"name\":\"c\",\"kind\":\"op\",\"op\":\"clip\",\"attrs\":" attrs                               \
    ",\"inputs\":[\"x\"],\"dtype\":\"f32\",\"shape\":[-1,4]}"
#define GRAPH(nodes) "{\"seed\":\"1\",\"nodes\":[" nodes "]}"

static void graph_from_json_malformed_text_names_the_node(void)
{
    setup();
    oct_graph *g = NULL;
    REQUIRE_OK(ctx, oct_graph_from_json(&g, ctx, GRAPH(INPUT(0) "," RELU), oct_op_find));
    oct_graph_destroy(g);
    REQUIRE_OK(ctx, oct_graph_from_json(&g, ctx, GRAPH(INPUT(0) "," CLIP("{\"lo\":\"-inf\",\"hi\":6}")), oct_op_find));
    const oct_clip_attrs *clip = g->nodes[1]->attrs;
    CU_ASSERT(isinf(clip->lo) && clip->lo < 0 && clip->hi == 6);
    oct_graph_destroy(g);
    REQUIRE_OK(ctx, oct_graph_from_json(&g, ctx, GRAPH(""), oct_op_find));
    CU_ASSERT(g->node_count == 0);
    oct_graph_destroy(g);
    expect_bad_graph("", "not JSON");
    expect_bad_graph("[]", "not JSON");
    expect_bad_graph("{\"nodes\":[]}", "seed");
    expect_bad_graph("{\"seed\":\"-1\",\"nodes\":[]}", "seed");
    expect_bad_graph(GRAPH("7"), "no name");
    expect_bad_graph(GRAPH(INPUT(1)), "id 1");
    expect_bad_graph(GRAPH(INPUT(0) "," INPUT(0)), "id 0");
    expect_bad_graph(GRAPH(INPUT(0.5)), "id");
    expect_bad_graph(GRAPH(INPUT(-1)), "id");
    expect_bad_graph(GRAPH(RELU "," INPUT(0)), "'r': stands before");
    expect_bad_graph(GRAPH(INPUT(0) "," CLIP("{\"lo\":0}")), "'hi'");
    expect_bad_graph(GRAPH(INPUT(0) "," CLIP("{\"lo\":0,\"hi\":1e99}")), "'hi'");
    expect_bad_graph(GRAPH(INPUT(0) "," CLIP("{\"lo\":0,\"hi\":6,\"mid\":3}")), "2 attributes");
    expect_bad_graph(GRAPH(INPUT(0) ",{\"id\":1,\"name\":\"r\",\"kind\":\"op\",\"op\":\"warp\",\"inputs\":[\"x\"],"
                                    "\"dtype\":\"f32\",\"shape\":[-1,4]}"),
                     "unknown op 'warp'");
    expect_bad_graph(GRAPH(INPUT(0) ",{\"id\":1,\"name\":\"r\",\"kind\":\"op\",\"op\":\"relu\",\"inputs\":[\"y\"],"
                                    "\"dtype\":\"f32\",\"shape\":[-1,4]}"),
                     "'y'");
    expect_bad_graph(GRAPH(INPUT(0) ",{\"id\":1,\"name\":\"r\",\"kind\":\"op\",\"op\":\"relu\",\"inputs\":[\"x\"],"
                                    "\"dtype\":\"f32\",\"shape\":[-1,5]}"),
                     "expected f32 [N,4]");
    expect_bad_graph(GRAPH("{\"id\":0,\"name\":\"w\",\"kind\":\"parameter\",\"dtype\":\"f32\",\"shape\":[65536,65536]}"),
                     "'w'");
    expect_bad_graph(GRAPH("{\"id\":0,\"name\":\"w\",\"kind\":\"parameter\",\"dtype\":\"f32\",\"shape\":[1,2,3,4,5]}"),
                     "shape");
    teardown();
}

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
    {"write_to_a_full_disk_keeps_the_old_file", write_to_a_full_disk_keeps_the_old_file},
    {"write_to_a_missing_folder_is_an_error", write_to_a_missing_folder_is_an_error},
    {"read_no_file_text_or_foreign_file_is_refused", read_no_file_text_or_foreign_file_is_refused},
    {"read_edited_files_names_object_and_reason", read_edited_files_names_object_and_reason},
    {"read_truncated_files_is_refused", read_truncated_files_is_refused},
    {"read_mutated_files_is_refused_or_unchanged", read_mutated_files_is_refused_or_unchanged},
    {"graph_from_json_malformed_text_names_the_node", graph_from_json_malformed_text_names_the_node},
    {"make_graph_finds_the_caller_s_ops", make_graph_finds_the_caller_s_ops},
    {"setters_refuse_bad_keys_and_second_graphs", setters_refuse_bad_keys_and_second_graphs},
    {"write_and_read_out_of_memory_are_errors", write_and_read_out_of_memory_are_errors},
};
TEST_SUITE("state", cases);
