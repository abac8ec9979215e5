/* SPDX-License-Identifier: BSD-2-Clause
 * What the tests of state files share: a context, a path, a small network and a small file.
 */
#ifndef OCT_TESTS_STATE_FIXTURE_H
#define OCT_TESTS_STATE_FIXTURE_H

#include <math.h>
#include <stdio.h>

#include "layers/layers.h"
#include "layers/state.h"
#include "tests/testing.h"

enum { PATH = 512 };
static oct_ctx *ctx;
static char path[PATH]; /* of the file under test, in a folder of its own */

static inline void setup(void)
{
    ctx = test_ctx();
    snprintf(path, sizeof path, "%s/state.h5", test_folder());
}

static inline void teardown(void)
{
    oct_ctx_destroy(ctx);
}

/* A small network with most attribute types: conv, bn, clip, pool, add, linear, loss. */
static inline oct_graph *small_graph(uint64_t seed, int32_t classes)
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

static inline oct_state *state_of(const oct_graph *g)
{
    oct_state *state = NULL;
    CU_ASSERT_FATAL(oct_state_create(&state, &ctx->error) == OCT_OK);
    CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_state_set_graph(state, g, &ctx->error), "oct_state_set_graph"));
    return state;
}

static inline void write_state(const oct_state *state)
{
    CU_ASSERT_FATAL(test_is_ok(&ctx->error, oct_state_write(path, state, &ctx->error), "oct_state_write"));
}

static inline void write_small(void)
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

#endif
