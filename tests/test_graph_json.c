/* SPDX-License-Identifier: BSD-2-Clause
 * Graphs from malformed text. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "autograd/ops.h"
#include "layers/graph_json.h"
#include "tests/testing.h"

static oct_ctx *ctx;

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
#define RELU                                                                                                  \
    "{\"id\":1,\"name\":\"r\",\"kind\":\"op\",\"op\":\"relu\",\"inputs\":[\"x\"],\"dtype\":\"f32\","                   \
    "\"shape\":[-1,4]}"
#define CLIP(attrs)                                                                                           \
    "{\"id\":1,\"name\":\"c\",\"kind\":\"op\",\"op\":\"clip\",\"attrs\":" attrs                               \
    ",\"inputs\":[\"x\"],\"dtype\":\"f32\",\"shape\":[-1,4]}"
#define WEIGHT(shape) "{\"id\":0,\"name\":\"w\",\"kind\":\"parameter\",\"dtype\":\"f32\",\"shape\":" shape "}"
#define GRAPH(nodes) "{\"seed\":\"1\",\"nodes\":[" nodes "]}"

static void graph_from_json_malformed_text_names_the_node(void)
{
    ctx = test_ctx();
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
    expect_bad_graph(GRAPH(WEIGHT("[65536,65536]")), "'w'");
    expect_bad_graph(GRAPH(WEIGHT("[1,2,3,4,5]")), "shape");
    oct_ctx_destroy(ctx);
}

static const test_case cases[] = {
    {"graph_from_json_malformed_text_names_the_node", graph_from_json_malformed_text_names_the_node},
};
TEST_SUITE("graph_json", cases);
