/* SPDX-License-Identifier: BSD-2-Clause
 * Keras files: networks and weights against Keras's and LiteRT's outputs (tests/golden/gen/keras_files.py), what the
 * reader refuses, and files that lie. */
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/file.h"
#include "layers/import/keras.h"
#include "layers/import/keras_file_internal.h"
#include "layers/import/network.h"
#include "layers/state.h"
#include "quant/quantize.h"
#include "tests/keras_reference.h"
#include "tests/testing.h"

static const char reference[] = "tests/golden/keras/reference.txt";
static oct_ctx *ctx;

/* --- real files --- */

static oct_graph *load(oct_model *model, const char *path, const oct_network_options *options)
{
    oct_graph *g = NULL;
    ctx = test_ctx();
    ASSERT_OK(ctx, oct_graph_create(&g, ctx, 0));
    oct_status status = oct_keras_build(model, g, path, options);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&ctx->error, status, path));
    return g;
}

static void unload(oct_graph *g)
{
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void build_every_layer_gives_the_outputs_of_keras(void)
{
    oct_model model;
    oct_graph *g = load(&model, "tests/golden/keras/layers.h5", NULL);
    expect_reference(g, &model, reference, "layers", 1e-5);
    CU_ASSERT_STRING_EQUAL(model.name, "all_layers");
    const oct_node *norm = oct_graph_node(g, oct_graph_find(g, "batch_normalization"));
    CU_ASSERT_FATAL(norm != NULL);
    const oct_batch_norm_attrs *attrs = norm->attrs;
    CU_ASSERT(attrs->eps == 2e-3f && fabs((double)attrs->momentum - 0.1) < 1e-7);
    CU_ASSERT(oct_graph_find(g, "layer/loss").id >= 0); /* the file's layer "loss" made room for the model's */
    CU_ASSERT(oct_graph_find(g, "head/weight").id >= 0 && oct_graph_find(g, "dense_2/weight").id < 0);
    unload(g);
}

static void build_functions_and_shapes_give_the_outputs_of_keras(void)
{
    oct_model model;
    oct_graph *g = load(&model, "tests/golden/keras/functions.h5", NULL);
    expect_reference(g, &model, reference, "functions", 1e-5);
    unload(g);
}

static void build_models_inside_models_gives_the_outputs_of_keras(void)
{
    oct_model model;
    oct_graph *g = load(&model, "tests/golden/keras/nested.h5", NULL);
    expect_reference(g, &model, reference, "nested", 1e-5);
    int32_t users[3];
    CU_ASSERT(oct_graph_users(g, oct_graph_find(g, "outer/inner/conv/weight"), users, 3) == 2); /* called twice */
    unload(g);
}

static void build_names_without_scopes_in_pieces_gives_the_outputs_of_keras(void)
{
    oct_model model;
    oct_graph *g = load(&model, "tests/golden/keras/chunked.h5", NULL);
    expect_reference(g, &model, reference, "nested", 1e-5);
    unload(g);
}

static void build_resnet8_of_mlperf_tiny_gives_the_outputs_of_litert(void)
{
    const char *path = test_shared_path("models/mlperf-tiny/pretrainedResnet.h5");
    if (!path) SKIP("no shared/models");
    oct_model model;
    oct_graph *g = load(&model, path, NULL);
    expect_reference(g, &model, reference, "pretrainedResnet", 1e-4);
    oct_model_size size = oct_model_measure(g);
    CU_ASSERT(size.parameters + size.buffers == 78666);
    unload(g);
}

static void build_visual_wake_words_of_mlperf_tiny_gives_the_outputs_of_keras(void)
{
    const char *path = test_shared_path("models/mlperf-tiny/vww_96.h5");
    if (!path) SKIP("no shared/models");
    oct_model model;
    oct_network_options options = {.preprocess = {.scale = {1 / 255.f, 1 / 255.f, 1 / 255.f}}};
    oct_graph *g = load(&model, path, &options);
    expect_reference(g, &model, reference, "vww_96", 1e-4);
    oct_model_size size = oct_model_measure(g);
    CU_ASSERT(size.parameters + size.buffers == 221794);
    unload(g);
}

static void build_result_is_quantized_and_stored_like_any_model(void)
{
    oct_model model, found;
    oct_graph *g = load(&model, "tests/golden/keras/nested.h5", NULL), *copy = NULL;
    char path[4096];
    oct_state *state = NULL, *read = NULL;
    snprintf(path, sizeof path, "%s/model.h5", test_folder());
    ASSERT_OK(ctx, oct_state_create(&state, &ctx->error));
    ASSERT_OK(ctx, oct_state_set_graph(state, g, &ctx->error));
    ASSERT_OK(ctx, oct_state_write(path, state, &ctx->error));
    CU_ASSERT(oct_keras_probe(path) == OCT_KERAS_NONE);
    ASSERT_OK(ctx, oct_state_read(&read, path, &ctx->error));
    ASSERT_OK(ctx, oct_state_make_graph(&copy, read, ctx, oct_op_find));
    ASSERT_OK(ctx, oct_model_find(&found, copy));
    expect_reference(copy, &found, reference, "nested", 1e-5);
    oct_qconfig config = OCT_QCONFIG_DEFAULT;
    ASSERT_OK(ctx, oct_quantize(copy, &config, NULL, NULL));
    CU_ASSERT(oct_quantize_points(copy) > 4);
    oct_state_destroy(state);
    oct_state_destroy(read);
    oct_graph_destroy(copy);
    unload(g);
}

/* --- weights alone --- */

static void read_tensors_of_weights_only_names_them_by_layer(void)
{
    ctx = test_ctx();
    oct_tensors *tensors = NULL;
    oct_graph *g = NULL;
    oct_model model;
    const char *path = "tests/golden/keras/weights.h5";
    REQUIRE_OK(ctx, oct_keras_read_tensors(&tensors, path, &ctx->error));
    CU_ASSERT(oct_tensors_count(tensors) == 10);
    const oct_named_tensor *kernel = oct_tensors_find(tensors, "outer/conv/kernel");
    CU_ASSERT(kernel && kernel->rank == 4 && kernel->dims[0] == 3 && kernel->dims[2] == 4 && kernel->count == 144);
    CU_ASSERT(oct_tensors_find(tensors, "scores/kernel") && oct_tensors_find(tensors, "outer/norm/moving_mean"));
    oct_tensors_destroy(tensors);
    CU_ASSERT(oct_keras_probe(path) == OCT_KERAS_WEIGHTS);
    CU_ASSERT(oct_keras_probe("tests/golden/keras/chunked.h5") == OCT_KERAS_MODEL);
    CU_ASSERT(oct_keras_probe("tests/golden/keras/reference.txt") == OCT_KERAS_NONE);
    ASSERT_OK(ctx, oct_graph_create(&g, ctx, 0));
    CU_ASSERT(oct_keras_build(&model, g, path, NULL) == OCT_ERR_FORMAT);
    CU_ASSERT(strstr(ctx->error.message, "holds weights but no network") != NULL);
    unload(g);
}

static void tensor_name_drops_scopes_and_numbers(void)
{
    static const char *const cases[][3] = {
        {"conv", "conv/kernel:0", "conv/kernel"},
        {"conv", "model/conv/kernel", "conv/kernel"},
        {"outer", "conv/kernel:0", "outer/conv/kernel"},
        {"outer", "outer/inner/conv/bias", "outer/inner/conv/bias"},
        {"a", "ab/a/kernel:12", "a/kernel"},
        {"a", "kernel:", "a/kernel:"},
        {"a", ":0", "a/"},
        {"a/b", "x/a/b/gamma", "a/b/gamma"},
    };
    char name[OCT_TENSOR_MAX_NAME + 1], large[600];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CU_ASSERT(oct_keras_tensor_name(name, cases[i][0], cases[i][1]));
        CU_ASSERT_STRING_EQUAL(name, cases[i][2]);
    }
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    CU_ASSERT(!oct_keras_tensor_name(name, "a", large));
    CU_ASSERT(!oct_keras_tensor_name(name, large, "a"));
}

/* --- networks in text --- */

static const char *const tensor_shapes[][2] = {
    {"c/kernel", "3 3 2 4"}, {"c/bias", "4"}, {"d/kernel", "4 3"}, {"d/bias", "3"}, {"e/kernel", "128 3"}, {"e/bias", "3"},
    {"n/gamma", "4"}, {"n/beta", "4"}, {"n/moving_mean", "4"}, {"n/moving_variance", "4"}, {"one/kernel", "4 1"},
};

static oct_tensors *small_tensors(void)
{
    oct_tensors *tensors = NULL;
    ASSERT_OK(ctx, oct_tensors_create(&tensors, &ctx->error));
    for (size_t i = 0; i < sizeof tensor_shapes / sizeof tensor_shapes[0]; i++) {
        int64_t dims[4];
        int rank = 0;
        char *end, *text = (char *)(uintptr_t)tensor_shapes[i][1];
        for (; *text; text = end) dims[rank++] = strtol(text, &end, 10);
        oct_named_tensor *tensor;
        ASSERT_OK(ctx, oct_tensors_add(tensors, &tensor, tensor_shapes[i][0], rank, dims, 1000, &ctx->error));
    }
    return tensors;
}

#define LAYER(kind, name, inbound, config) \
    "{\"class_name\":\"" kind "\",\"name\":\"" name "\",\"config\":{" config "},\"inbound_nodes\":[" inbound "]}"
#define FROM(name) "[[\"" name "\",0,0,{}]]"
#define INPUT LAYER("InputLayer", "in", "", "\"batch_input_shape\":[null,4,4,2]")
#define CONV(config) LAYER("Conv2D", "c", FROM("in"), "\"filters\":4,\"kernel_size\":[3,3]," config)
#define POOL(from) LAYER("GlobalAveragePooling2D", "p", FROM(from), "")
#define DENSE LAYER("Dense", "d", FROM("p"), "\"units\":3,\"activation\":\"softmax\"")
#define MODEL(out, layers) \
    "{\"class_name\":\"Functional\",\"config\":{\"name\":\"m\",\"layers\":[" layers "]," \
    "\"input_layers\":[[\"in\",0,0]],\"output_layers\":[[\"" out "\",0,0]]}}"
/* A network with one more layer between convolution and pool. */
#define BETWEEN(kind, config) \
    MODEL("d", INPUT "," CONV("\"use_bias\":true") "," LAYER(kind, "x", FROM("c"), config) "," POOL("x") "," DENSE)
#define SEQUENCE(layers) "{\"class_name\":\"Sequential\",\"config\":{\"name\":\"s\",\"layers\":[" layers "]}}"

static oct_status build_text(const char *config, const oct_network_options *options, char *shape)
{
    oct_graph *g = NULL;
    oct_model model;
    ctx = test_ctx();
    oct_tensors *tensors = small_tensors();
    ASSERT_OK(ctx, oct_graph_create(&g, ctx, 0));
    oct_status status = oct_keras_build_from(&model, g, "FILE", config, tensors, options);
    if (status == OCT_OK && shape) oct_shape_text(shape, &oct_graph_node(g, model.image)->shape);
    if (status == OCT_OK) CU_ASSERT(model.loss.id >= 0 && model.label.id >= 0);
    if (status != OCT_OK) CU_ASSERT(oct_graph_status(g) != OCT_OK);
    oct_tensors_destroy(tensors);
    oct_graph_destroy(g);
    return status;
}

static void expect_refused(const char *config, oct_status expected, const char *text)
{
    oct_status status = build_text(config, NULL, NULL);
    bool good = status == expected && strstr(ctx->error.message, text) && !strncmp(ctx->error.message, "FILE: ", 6);
    if (!good) printf("    expected '%s', got %s: %s\n", text, oct_status_name(status), ctx->error.message);
    CU_ASSERT(good);
    oct_ctx_destroy(ctx);
}

static void expect_built(const char *config)
{
    oct_status status = build_text(config, NULL, NULL);
    CU_ASSERT_TRUE(test_is_ok(&ctx->error, status, config));
    oct_ctx_destroy(ctx);
}

static void build_from_text_in_any_order_and_form_works(void)
{
    expect_built(MODEL("d", INPUT "," CONV("\"use_bias\":true") "," POOL("c") "," DENSE));
    expect_built(MODEL("d", DENSE "," POOL("c") "," CONV("\"use_bias\":true") "," INPUT));

    expect_built(BETWEEN("ZeroPadding2D", "\"padding\":1"));
    expect_built(BETWEEN("ReLU", "\"max_value\":6,\"threshold\":0,\"negative_slope\":[0.0]"));
    expect_built(BETWEEN("Activation", "\"activation\":{\"class_name\":\"function\",\"config\":\"relu\"}"));
    expect_built(SEQUENCE(LAYER("Conv2D", "c", "",
                                "\"batch_input_shape\":[null,4,4,2],\"filters\":4,\"kernel_size\":3,\"padding\":\"same\"") ","
                          LAYER("Flatten", "f", "", "") "," LAYER("Dropout", "o", "", "\"rate\":0.5")));
    /* A layer that leads nowhere is left out, even one that is not supported. */
    expect_built(MODEL("d", INPUT "," CONV("\"use_bias\":true") "," LAYER("LSTM", "x", FROM("c"), "") "," POOL("c") "," DENSE));
}

static void build_from_text_unsupported_layers_are_named(void)
{
    expect_refused(BETWEEN("LSTM", "\"units\":3"), OCT_ERR_UNSUPPORTED, "layer 'x' (LSTM): this layer is not supported");
    expect_refused(BETWEEN("Lambda", "\"function\":\"x\""), OCT_ERR_UNSUPPORTED, "layer 'x' (Lambda)");
    expect_refused(BETWEEN("ReLU", "\"threshold\":0.5"), OCT_ERR_UNSUPPORTED, "layer 'x' (ReLU): threshold 0.5");
    expect_refused(BETWEEN("Activation", "\"activation\":\"hard_sigmoid\""), OCT_ERR_UNSUPPORTED, "activation \"hard_sigmoid\"");
    expect_refused(BETWEEN("MaxPooling2D", "\"data_format\":\"channels_first\""), OCT_ERR_UNSUPPORTED, "channels_first");
    expect_refused(BETWEEN("MaxPooling2D", "\"extra\":1"), OCT_ERR_UNSUPPORTED, "attribute \"extra\" is not supported");
    expect_refused(MODEL("d", INPUT "," CONV("\"padding\":\"causal\"") "," POOL("c") "," DENSE), OCT_ERR_UNSUPPORTED,
                   "padding \"causal\"");
    expect_refused(MODEL("one", INPUT "," CONV("\"use_bias\":true") "," POOL("c") ","
                         LAYER("Dense", "one", FROM("p"), "\"units\":1,\"use_bias\":false")), OCT_ERR_UNSUPPORTED, "one value");
    expect_refused(MODEL("c", INPUT "," CONV("\"use_bias\":true")), OCT_ERR_UNSUPPORTED, "gives (2, 2, 4)");
    expect_refused("{\"class_name\":\"MyModel\",\"config\":{}}", OCT_ERR_UNSUPPORTED, "found 'MyModel'");
}

static void build_from_text_malformed_is_refused(void)
{
    expect_refused("{", OCT_ERR_FORMAT, "not JSON");
    expect_refused("[1]", OCT_ERR_UNSUPPORTED, "expected a Functional");
    expect_refused(MODEL("d", INPUT), OCT_ERR_FORMAT, "there is no layer 'd'");
    expect_refused(MODEL("d", INPUT "," INPUT), OCT_ERR_FORMAT, "two layers have the name 'in'");
    expect_refused(MODEL("x", INPUT "," LAYER("ReLU", "x", FROM("y"), "") "," LAYER("ReLU", "y", FROM("x"), "")),
                   OCT_ERR_FORMAT, "a cycle through the layer");
    expect_refused(MODEL("x", INPUT "," LAYER("ReLU", "x", FROM("x"), "")), OCT_ERR_FORMAT, "a cycle through the layer 'x'");
    expect_refused(MODEL("x", INPUT "," LAYER("ReLU", "x", "[[\"in\",3,0,{}]]", "")), OCT_ERR_FORMAT, "no such call");
    expect_refused(MODEL("x", INPUT "," LAYER("ReLU", "x", "[[\"in\",0,1,{}]]", "")), OCT_ERR_UNSUPPORTED, "one output");
    expect_refused(MODEL("x", INPUT "," LAYER("ReLU", "x", "[[\"in\",0,0,{\"y\":2}]]", "")), OCT_ERR_UNSUPPORTED,
                   "argument 'y'");
    expect_refused(MODEL("x", INPUT "," LAYER("ReLU", "x", "7", "")), OCT_ERR_FORMAT, "inbound_nodes of the layer 'x'");
    expect_refused(MODEL("d", INPUT "," CONV("\"strides\":[1,1e99]") "," POOL("c") "," DENSE), OCT_ERR_FORMAT, "\"strides\"");
    expect_refused(MODEL("d", INPUT "," CONV("\"use_bias\":7") "," POOL("c") "," DENSE), OCT_ERR_FORMAT, "\"use_bias\"");
    expect_refused(MODEL("d", INPUT "," LAYER("Conv2D", "c", FROM("in"), "\"filters\":2147483647,\"kernel_size\":3") ","
                         POOL("c") "," DENSE), OCT_ERR_FORMAT, "tensor \"c/kernel\": expected shape (3, 3, 2, 2147483647)");
    expect_refused(MODEL("d", INPUT "," LAYER("Conv2D", "z", FROM("in"), "\"filters\":4,\"kernel_size\":3") ","
                         POOL("z") "," DENSE), OCT_ERR_FORMAT, "expected a tensor \"z/kernel\", found none");
    expect_refused(BETWEEN("Reshape", "\"target_shape\":[3000000000,3000000000,-1]"), OCT_ERR_FORMAT, "16 elements");
    expect_refused(BETWEEN("Add", ""), OCT_ERR_FORMAT, "expected 2..64 inputs, found 1");
    expect_refused(SEQUENCE(LAYER("Dense", "d", "", "\"units\":3")), OCT_ERR_UNSUPPORTED, "expected images");
    expect_refused(SEQUENCE(""), OCT_ERR_FORMAT, "1..4096 layers");
}

static void build_from_text_models_too_deep_are_refused(void)
{
    char text[4096] = "";
    for (int i = 0; i < 12; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used,
                 "{\"class_name\":\"Sequential\",\"name\":\"s\",\"config\":{\"name\":\"s\",\"build_input_shape\":[null,4,4,2],"
                 "\"layers\":[");
    }
    strcat(text, LAYER("Flatten", "f", "", ""));
    for (int i = 0; i < 12; i++) strcat(text, "]}}");
    expect_refused(text, OCT_ERR_UNSUPPORTED, "8 deep");
}

static void build_from_text_open_image_size_is_the_callers(void)
{
#define OPEN LAYER("InputLayer", "in", "", "\"batch_shape\":[null,null,null,2]")
    const char *config = MODEL("d", OPEN "," CONV("\"use_bias\":true") "," POOL("c") "," DENSE);
    char shape[OCT_SHAPE_TEXT] = "";
    expect_refused(config, OCT_ERR_UNSUPPORTED, "leaves the image's size open");
    CU_ASSERT(build_text(config, &(oct_network_options){.height = 20, .width = 12}, shape) == OCT_OK);
    CU_ASSERT_STRING_EQUAL(shape, "[N,20,12,2]");
    oct_ctx_destroy(ctx);
}

/* --- files that lie --- */

static const char *lie_path(void)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/lie.h5", test_folder());
    return path;
}

static void expect_file_refused(const char *path, const char *text)
{
    oct_tensors *tensors = NULL;
    ctx = test_ctx();
    oct_status status = oct_keras_read_tensors(&tensors, path, &ctx->error);
    bool good = status == OCT_ERR_FORMAT && !tensors && strstr(ctx->error.message, text) &&
                !strncmp(ctx->error.message, path, strlen(path));
    if (!good) printf("    expected '%s', got %s: %s\n", text, oct_status_name(status), ctx->error.message);
    CU_ASSERT(good);
    oct_tensors_destroy(tensors);
    oct_ctx_destroy(ctx);
}

static void write_texts(hid_t object, const char *name, const char *text, hsize_t count)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &count, NULL);
    H5Tset_size(type, 16);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    char *block = calloc((size_t)count + 1, 16);
    for (hsize_t i = 0; i < count; i++) snprintf(block + 16 * i, 16, "%s", text);
    H5Awrite(attribute, type, block);
    free(block);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

typedef void write_dataset(hid_t group);

/* A weights file with the layer "a" whose weight_names has `count` entries "w". */
static const char *write_file(write_dataset *write, hsize_t count)
{
    const char *path = lie_path();
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    write_texts(file, "layer_names", "a", 1);
    hid_t group = H5Gcreate2(file, "a", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    write_texts(group, "weight_names", "w", count);
    write(group);
    H5Gclose(group);
    H5Fclose(file);
    return path;
}

static void make_dataset(hid_t group, hid_t type, int rank, const hsize_t *dims, hid_t plist)
{
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t set = H5Dcreate2(group, "w", type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    CU_ASSERT(set >= 0);
    if (rank == 1 && dims[0] == 3 && type == H5T_IEEE_F32LE)
        CU_ASSERT(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, (float[]){1, 2, 3}) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

static void write_huge(hid_t group)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plist, 2, (hsize_t[]){1, 1024});
    H5Pset_deflate(plist, 6);
    make_dataset(group, H5T_IEEE_F32LE, 2, (hsize_t[]){1 << 30, 1 << 30}, plist);
    H5Pclose(plist);
}

static void write_beyond(hid_t group)
{
    make_dataset(group, H5T_IEEE_F32LE, 1, (hsize_t[]){(hsize_t)1 << 40}, H5P_DEFAULT);
}

static void write_external(hid_t group)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(plist, "/etc/passwd", 0, 64);
    make_dataset(group, H5T_IEEE_F32LE, 1, (hsize_t[]){16}, plist);
    H5Pclose(plist);
}

static void write_link(hid_t group)
{
    H5Lcreate_external("other.h5", "/w", group, "w", H5P_DEFAULT, H5P_DEFAULT);
}

static void write_text_dataset(hid_t group)
{
    make_dataset(group, H5T_C_S1, 1, (hsize_t[]){3}, H5P_DEFAULT);
}

static void write_small(hid_t group)
{
    make_dataset(group, H5T_IEEE_F32LE, 1, (hsize_t[]){3}, H5P_DEFAULT);
}

static void write_group(hid_t group)
{
    H5Gclose(H5Gcreate2(group, "w", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}

static void write_nothing(hid_t group)
{
    (void)group;
}

static void read_tensors_of_files_that_lie_are_refused(void)
{
    expect_file_refused(write_file(write_huge, 1), "the file has room for 0");
    expect_file_refused(write_file(write_beyond, 1), "tensor \"a/w\": dimension 0");
    expect_file_refused(write_file(write_external, 1), "stored outside of the file");
    expect_file_refused(write_file(write_link, 1), "cannot be opened");
    expect_file_refused(write_file(write_text_dataset, 1), "expected numbers");
    expect_file_refused(write_file(write_group, 1), "expected a dataset");
    expect_file_refused(write_file(write_nothing, 1), "cannot be opened");
    expect_file_refused(write_file(write_small, 2), "\"a/w\" is there twice");
    expect_file_refused("tests/golden/keras/reference.txt", "not an HDF5 file");
    ctx = test_ctx();
    oct_tensors *tensors = NULL;
    CU_ASSERT(oct_keras_read_tensors(&tensors, "no/such/file.h5", &ctx->error) == OCT_ERR_IO);
    oct_ctx_destroy(ctx);
}

static void build_truncated_files_are_refused(void)
{
    uint8_t *bytes;
    size_t size;
    ctx = test_ctx();
    REQUIRE_OK(ctx, oct_file_read(&bytes, &size, "tests/golden/keras/chunked.h5", 1 << 20, &ctx->error));
    const char *path = lie_path();
    for (size_t length = 0; length < size; length += 251) {
        oct_graph *g = NULL;
        oct_model model;
        FILE *file = fopen(path, "wb");
        CU_ASSERT_FATAL(file && fwrite(bytes, 1, length, file) == length && fclose(file) == 0);
        oct_error_clear(&ctx->error);
        ASSERT_OK(ctx, oct_graph_create(&g, ctx, 0));
        CU_ASSERT(oct_keras_build(&model, g, path, NULL) != OCT_OK);
        oct_graph_destroy(g);
    }
    oct_free(bytes);
    oct_ctx_destroy(ctx);
}

/* Every allocation of a build fails once; nothing leaks (under ASan) and nothing is built by half. */
static void build_without_memory_fails_cleanly(void)
{
    const char *config = MODEL("d", INPUT "," CONV("\"use_bias\":true") "," POOL("c") "," DENSE);
    ctx = test_ctx();
    oct_tensors *tensors = small_tensors();
    oct_status status = OCT_ERR_MEMORY;
    for (long n = 1; n < 2000 && status != OCT_OK; n++) {
        oct_graph *g = NULL;
        oct_model model;
        oct_error_clear(&ctx->error);
        ASSERT_OK(ctx, oct_graph_create(&g, ctx, 0));
        oct_alloc_fail_after(n);
        status = oct_keras_build_from(&model, g, "FILE", config, tensors, NULL);
        oct_alloc_fail_after(0);
        CU_ASSERT(status == OCT_OK || status == OCT_ERR_MEMORY);
        oct_graph_destroy(g);
    }
    CU_ASSERT(status == OCT_OK);
    oct_tensors_destroy(tensors);
    oct_ctx_destroy(ctx);
}

static const test_case cases[] = {
    {"build_every_layer_gives_the_outputs_of_keras", build_every_layer_gives_the_outputs_of_keras},
    {"build_functions_and_shapes_give_the_outputs_of_keras", build_functions_and_shapes_give_the_outputs_of_keras},
    {"build_models_inside_models_gives_the_outputs_of_keras", build_models_inside_models_gives_the_outputs_of_keras},
    {"build_names_without_scopes_in_pieces_gives_the_outputs_of_keras",
     build_names_without_scopes_in_pieces_gives_the_outputs_of_keras},
    {"build_resnet8_of_mlperf_tiny_gives_the_outputs_of_litert", build_resnet8_of_mlperf_tiny_gives_the_outputs_of_litert},
    {"build_visual_wake_words_of_mlperf_tiny_gives_the_outputs_of_keras",
     build_visual_wake_words_of_mlperf_tiny_gives_the_outputs_of_keras},
    {"build_result_is_quantized_and_stored_like_any_model", build_result_is_quantized_and_stored_like_any_model},
    {"read_tensors_of_weights_only_names_them_by_layer", read_tensors_of_weights_only_names_them_by_layer},
    {"tensor_name_drops_scopes_and_numbers", tensor_name_drops_scopes_and_numbers},
    {"build_from_text_in_any_order_and_form_works", build_from_text_in_any_order_and_form_works},
    {"build_from_text_unsupported_layers_are_named", build_from_text_unsupported_layers_are_named},
    {"build_from_text_malformed_is_refused", build_from_text_malformed_is_refused},
    {"build_from_text_models_too_deep_are_refused", build_from_text_models_too_deep_are_refused},
    {"build_from_text_open_image_size_is_the_callers", build_from_text_open_image_size_is_the_callers},
    {"read_tensors_of_files_that_lie_are_refused", read_tensors_of_files_that_lie_are_refused},
    {"build_truncated_files_are_refused", build_truncated_files_are_refused},
    {"build_without_memory_fails_cleanly", build_without_memory_fails_cleanly},
};
TEST_SUITE("import_keras", cases);
