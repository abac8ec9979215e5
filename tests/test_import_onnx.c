/* SPDX-License-Identifier: BSD-2-Clause
 * ONNX files: networks and weights against ONNX Runtime's outputs (tests/golden/gen/onnx_files.py), what the reader
 * refuses, and bytes that lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/file.h"
#include "layers/import/onnx.h"
#include "quant/quantize.h"
#include "tests/keras_reference.h"
#include "tests/testing.h"

static const char reference[] = "tests/golden/onnx/reference.txt";
static oct_ctx *ctx;

static oct_graph *load(oct_model *model, const char *path, const oct_network_options *options)
{
    oct_graph *g = NULL;
    ctx = test_ctx();
    ASSERT_OK(ctx, oct_graph_create(&g, ctx, 0));
    CU_ASSERT(oct_onnx_probe(path));
    oct_status status = oct_onnx_build(model, g, path, options);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&ctx->error, status, path));
    return g;
}

static void unload(oct_graph *g)
{
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void build_a_network_of_pytorch_gives_the_outputs_of_onnx_runtime(void)
{
    oct_model model;
    oct_graph *g = load(&model, "tests/golden/onnx/torch.onnx", NULL);
    expect_reference(g, &model, reference, "torch", 1e-5);
    CU_ASSERT(oct_graph_find(g, "head/weight").id >= 0 && oct_graph_find(g, "fc1/Gemm/weight").id >= 0);
    const oct_node *normalize = oct_graph_node(g, oct_graph_find(g, "normalize")); /* x/255 of the graph */
    CU_ASSERT(normalize && fabs((double)((const oct_normalize_attrs *)normalize->attrs)->scale[1] - 1 / 255.) < 1e-9);
    unload(g);
}

static void build_every_operator_gives_the_outputs_of_onnx_runtime(void)
{
    oct_model model;
    oct_graph *g = NULL;
    ctx = test_ctx();
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 0));
    REQUIRE_OK(ctx, oct_onnx_build(&model, g, "tests/golden/onnx/layers.onnx", NULL));
    expect_reference(g, &model, reference, "layers", 1e-5);
    CU_ASSERT_STRING_EQUAL(model.name, "by hand");
    unload(g);
}

static void build_images_with_channels_last_gives_the_outputs_of_onnx_runtime(void)
{
    oct_model model;
    oct_graph *g = load(&model, "tests/golden/onnx/nhwc.onnx", NULL);
    expect_reference(g, &model, reference, "nhwc", 1e-5);
    const oct_node *head = oct_graph_node(g, model.logits);
    CU_ASSERT(head->input_count == 3); /* the Add became the bias of the MatMul */
    oct_qconfig config = OCT_QCONFIG_DEFAULT;
    ASSERT_OK(ctx, oct_quantize(g, &config, NULL, NULL));
    CU_ASSERT(oct_quantize_points(g) > 1);
    unload(g);
}

/* --- what is refused --- */

/* A copy of nhwc.onnx with `from` replaced by `to` of the same length, everywhere. */
static void expect_changed_refused(const char *from, const char *to, oct_status expected, const char *text)
{
    uint8_t *bytes;
    size_t size, length = strlen(from);
    oct_graph *g = NULL;
    oct_model model;
    ctx = test_ctx();
    REQUIRE_OK(ctx, oct_file_read(&bytes, &size, "tests/golden/onnx/nhwc.onnx", 1 << 20, &ctx->error));
    CU_ASSERT(length == strlen(to));
    for (size_t i = 0; i + length <= size; i++)
        if (!memcmp(bytes + i, from, length)) memcpy(bytes + i, to, length);
    ASSERT_OK(ctx, oct_graph_create(&g, ctx, 0));
    oct_status status = oct_onnx_build_from(&model, g, "FILE", bytes, size, NULL);
    bool good = status == expected && strstr(ctx->error.message, text) && !strncmp(ctx->error.message, "FILE: ", 6);
    if (!good) printf("    expected '%s', got %s: %s\n", text, oct_status_name(status), ctx->error.message);
    CU_ASSERT(good);
    oct_free(bytes);
    unload(g);
}

static void build_unsupported_or_broken_graphs_are_refused_by_name(void)
{
    expect_changed_refused("Relu", "Rely", OCT_ERR_UNSUPPORTED, "(Rely): this operator is not supported");
    expect_changed_refused("pads", "pods", OCT_ERR_UNSUPPORTED, "attribute 'pods' is not supported");
    expect_changed_refused("\x0a\x05shape", "\x0a\x05shope", OCT_ERR_FORMAT, "no node and no tensor gives the value");
    /* Conv reads "r", which is made of what it gives. */
    expect_changed_refused("\x0a\x01t\x0a\x01w", "\x0a\x01r\x0a\x01w", OCT_ERR_FORMAT, "a cycle through the value");
    expect_changed_refused("\x12\x01z", "\x12\x01r", OCT_ERR_FORMAT, "two values have the name 'r'");
}

static void build_external_data_is_refused_with_a_way_out(void)
{
    oct_graph *g = NULL;
    oct_model model;
    ctx = test_ctx();
    REQUIRE_OK(ctx, oct_graph_create(&g, ctx, 0));
    CU_ASSERT(oct_onnx_build(&model, g, "tests/golden/onnx/external.onnx", NULL) == OCT_ERR_UNSUPPORTED);
    CU_ASSERT(strstr(ctx->error.message, "in another file") && strstr(ctx->error.message, "onnx.save"));
    unload(g);
}

/* --- bytes that lie: no crash, no leak (ASan, UBSan), never more memory than the file warrants --- */

static void try_bytes(const uint8_t *bytes, size_t size, bool must_fail)
{
    oct_graph *g = NULL;
    oct_model model;
    uint8_t *copy = malloc(size ? size : 1); /* of exactly this size, so that reads past it show */
    if (size) memcpy(copy, bytes, size);
    oct_error_clear(&ctx->error);
    ASSERT_OK(ctx, oct_graph_create(&g, ctx, 0));
    oct_status status = oct_onnx_build_from(&model, g, "FILE", copy, size, NULL);
    if (must_fail) CU_ASSERT(status != OCT_OK);
    oct_graph_destroy(g);
    free(copy);
}

static void build_truncated_and_mutated_bytes_never_crash(void)
{
    static const char *const paths[] = {"tests/golden/onnx/layers.onnx", "tests/golden/onnx/nhwc.onnx"};
    ctx = test_ctx();
    for (int p = 0; p < 2; p++) {
        uint8_t *bytes;
        size_t size;
        REQUIRE_OK(ctx, oct_file_read(&bytes, &size, paths[p], 1 << 20, &ctx->error));
        for (size_t length = 0; length + 16 < size; length += 7) try_bytes(bytes, length, true);
        for (size_t i = 0; i < size; i++) {
            static const uint8_t flips[] = {0x01, 0x80, 0x7f, 0xff};
            uint8_t was = bytes[i];
            bytes[i] = (uint8_t)(was ^ flips[i % 4]);
            try_bytes(bytes, size, false);
            bytes[i] = was;
        }
        oct_free(bytes);
    }
    oct_ctx_destroy(ctx);
}

static void build_a_huge_declared_size_is_refused(void)
{
    /* A tensor of 2^40 elements: graph { node {} initializer { dims: 2^40 data_type: 1 } }, operator set 13. */
    static const uint8_t bytes[] = {0x08, 0x08, 0x3a, 0x0d, 0x0a, 0x00, 0x2a, 0x09, 0x08, 0x80, 0x80, 0x80, 0x80,
                                    0x80, 0x20, 0x10, 0x01, 0x42, 0x02, 0x10, 0x0d};
    ctx = test_ctx();
    try_bytes(bytes, sizeof bytes, true);
    CU_ASSERT(strstr(ctx->error.message, "more elements than the file has bytes") != NULL);
    if (!strstr(ctx->error.message, "more elements")) printf("    %s\n", ctx->error.message);
    oct_ctx_destroy(ctx);
}

static const test_case cases[] = {
    {"build_a_network_of_pytorch_gives_the_outputs_of_onnx_runtime",
     build_a_network_of_pytorch_gives_the_outputs_of_onnx_runtime},
    {"build_every_operator_gives_the_outputs_of_onnx_runtime", build_every_operator_gives_the_outputs_of_onnx_runtime},
    {"build_images_with_channels_last_gives_the_outputs_of_onnx_runtime",
     build_images_with_channels_last_gives_the_outputs_of_onnx_runtime},
    {"build_unsupported_or_broken_graphs_are_refused_by_name", build_unsupported_or_broken_graphs_are_refused_by_name},
    {"build_external_data_is_refused_with_a_way_out", build_external_data_is_refused_with_a_way_out},
    {"build_truncated_and_mutated_bytes_never_crash", build_truncated_and_mutated_bytes_never_crash},
    {"build_a_huge_declared_size_is_refused", build_a_huge_declared_size_is_refused},
};
TEST_SUITE("import_onnx", cases);
