/* SPDX-License-Identifier: BSD-2-Clause
 * SGD against the rule written out in double, clipping, independence of the thread count, schedules. */
#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "optim/schedule.h"
#include "optim/sgd.h"
#include "tests/testing.h"

/* Three parameters, one of them larger than two chunks; random values. */
static oct_graph *make_graph(oct_ctx *ctx)
{
    oct_graph *g = NULL;
    if (oct_graph_create(&g, ctx, 7) != OCT_OK) return NULL;
    oct_parameter(g, "w", OCT_SHAPE(200, 201), (oct_init){OCT_INIT_NORMAL, 0.5f});
    oct_parameter(g, "b", OCT_SHAPE(13), (oct_init){OCT_INIT_NORMAL, 0.5f});
    oct_parameter(g, "k", OCT_SHAPE(3, 3, 5), (oct_init){OCT_INIT_NORMAL, 0.5f});
    return g;
}

/* Random gradients whose gaps between views are zero, as a plan leaves them. */
static float *make_gradients(const oct_graph *g, unsigned seed)
{
    float *grad = oct_calloc(g->params.count, sizeof *grad);
    for (int32_t i = 0; i < g->node_count; i++)
        test_fill_normal(grad + g->nodes[i]->offset, g->nodes[i]->count, seed + (unsigned)i);
    return grad;
}

/* `steps` steps both ways; the worst relative error of the parameters. */
static double sgd_error(const oct_sgd_options *o, int steps)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = make_graph(ctx);
    oct_sgd *sgd = NULL;
    size_t n = g->params.count;
    double *w = oct_calloc(n, sizeof *w), *v = oct_calloc(n, sizeof *v);
    const double lr = 0.1, scale = 0.25;
    ASSERT_OK(ctx, oct_sgd_create(&sgd, g, o));
    for (size_t i = 0; i < n; i++) w[i] = (double)g->params.data[i];
    for (int s = 0; s < steps; s++) {
        float *grad = make_gradients(g, 100u * (unsigned)s);
        for (int32_t k = 0; k < g->node_count; k++) {
            const oct_node *node = g->nodes[k];
            bool decays = !o->decay_weights_only || node->shape.rank > 1;
            for (size_t i = node->offset; i < node->offset + node->count; i++) {
                double d = (double)grad[i] * scale + (decays ? (double)o->weight_decay * w[i] : 0);
                v[i] = (double)o->momentum * v[i] + d;
                w[i] -= lr * (o->nesterov ? d + (double)o->momentum * v[i] : v[i]);
            }
        }
        ASSERT_OK(ctx, oct_sgd_step(sgd, g, grad, (float)scale, (float)lr));
        oct_free(grad);
    }
    double error = test_relative_error(g->params.data, w, n);
    oct_free(w);
    oct_free(v);
    oct_sgd_destroy(sgd);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
    return error;
}

static void sgd_step_plain_follows_the_rule(void)
{
    CU_ASSERT(sgd_error(&(oct_sgd_options){0}, 3) < 1e-6);
}

static void sgd_step_momentum_and_decay_follow_the_rule(void)
{
    CU_ASSERT(sgd_error(&(oct_sgd_options){.momentum = 0.9f, .weight_decay = 0.05f}, 5) < 1e-6);
}

static void sgd_step_nesterov_follows_the_rule(void)
{
    CU_ASSERT(sgd_error(&(oct_sgd_options){.momentum = 0.9f, .weight_decay = 0.05f, .nesterov = true}, 5) < 1e-6);
}

static void sgd_step_decay_of_weights_alone_spares_vectors(void)
{
    oct_sgd_options o = {.momentum = 0.9f, .weight_decay = 0.2f, .decay_weights_only = true};
    CU_ASSERT(sgd_error(&o, 5) < 1e-6);
}

static void sgd_step_any_thread_count_gives_the_same_bytes(void)
{
    float *first = NULL;
    double norm = 0;
    for (int threads = 1; threads <= 5; threads += 2) {
        oct_ctx *ctx = test_ctx_with(threads, NULL);
        oct_graph *g = make_graph(ctx);
        oct_sgd *sgd = NULL;
        REQUIRE_OK(ctx, oct_sgd_create(&sgd, g, &(oct_sgd_options){.momentum = 0.9f, .weight_decay = 1e-2f}));
        float *grad = make_gradients(g, 5);
        double found = oct_sgd_gradient_norm(sgd, grad);
        ASSERT_OK(ctx, oct_sgd_step(sgd, g, grad, oct_sgd_clip_scale(found, 1, 3), 0.1f));
        size_t bytes = g->params.count * sizeof(float);
        if (!first) {
            first = oct_alloc(bytes, 1);
            memcpy(first, g->params.data, bytes);
            norm = found;
        }
        CU_ASSERT(found == norm);
        CU_ASSERT(!memcmp(first, g->params.data, bytes));
        oct_free(grad);
        oct_sgd_destroy(sgd);
        oct_graph_destroy(g);
        oct_ctx_destroy(ctx);
    }
    oct_free(first);
}

static void gradient_norm_is_the_root_of_the_sum_of_squares(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = make_graph(ctx);
    oct_sgd *sgd = NULL;
    REQUIRE_OK(ctx, oct_sgd_create(&sgd, g, &(oct_sgd_options){0}));
    float *grad = make_gradients(g, 9);
    double sum = 0;
    for (size_t i = 0; i < g->params.count; i++) sum += (double)grad[i] * (double)grad[i];
    CU_ASSERT(fabs(oct_sgd_gradient_norm(sgd, grad) / sqrt(sum) - 1) < 1e-12);
    oct_free(grad);
    oct_sgd_destroy(sgd);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void clip_scale_limits_the_norm(void)
{
    CU_ASSERT(oct_sgd_clip_scale(2, 0.5f, 4) == 0.5f);    /* below the limit */
    CU_ASSERT(oct_sgd_clip_scale(100, 0.5f, 0) == 0.5f);  /* no limit */
    CU_ASSERT(oct_sgd_clip_scale((double)INFINITY, 0.5f, 1) == 0.5f);
    CU_ASSERT(fabs((double)oct_sgd_clip_scale(100, 0.5f, 5) - 0.05) < 1e-6); /* 0.05 * 100 = 5 */
}

static void sgd_create_refuses_options_out_of_range(void)
{
    static const oct_sgd_options bad[] = {
        {.momentum = 1}, {.momentum = -0.1f}, {.weight_decay = -1}, {.nesterov = true}, {.momentum = NAN}};
    oct_ctx *ctx = test_ctx();
    oct_graph *g = make_graph(ctx);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        oct_sgd *sgd = NULL;
        oct_error_clear(&ctx->error);
        CU_ASSERT(oct_sgd_create(&sgd, g, &bad[i]) == OCT_ERR_ARGUMENT);
        CU_ASSERT_PTR_NULL(sgd);
        CU_ASSERT(strstr(ctx->error.message, "sgd:") != NULL);
    }
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static void sgd_step_after_the_graph_grew_is_refused(void)
{
    oct_ctx *ctx = test_ctx();
    oct_graph *g = make_graph(ctx);
    oct_sgd *sgd = NULL;
    REQUIRE_OK(ctx, oct_sgd_create(&sgd, g, &(oct_sgd_options){0}));
    float *grad = make_gradients(g, 9);
    oct_parameter(g, "late", OCT_SHAPE(4), (oct_init){OCT_INIT_ONE, 0});
    CU_ASSERT(oct_sgd_step(sgd, g, grad, 1, 0.1f) == OCT_ERR_STATE);
    oct_free(grad);
    oct_sgd_destroy(sgd);
    oct_graph_destroy(g);
    oct_ctx_destroy(ctx);
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-12 * fabs(b);
}

static void schedule_rate_cosine_goes_from_lr_to_nothing(void)
{
    oct_schedule s = {.kind = OCT_SCHEDULE_COSINE, .lr = 0.4};
    CU_ASSERT(near(oct_schedule_rate(&s, 0, 10, 100), 0.4));
    CU_ASSERT(near(oct_schedule_rate(&s, 50, 10, 100), 0.2));
    CU_ASSERT(near(oct_schedule_rate(&s, 25, 10, 100), 0.4 * (1 + sqrt(0.5)) / 2));
    CU_ASSERT(oct_schedule_rate(&s, 99, 10, 100) > 0);
    CU_ASSERT(oct_schedule_rate(&s, 99, 10, 100) == oct_schedule_rate(&s, 150, 10, 100));
}

static void schedule_rate_warmup_rises_linearly_then_hands_over(void)
{
    oct_schedule s = {.kind = OCT_SCHEDULE_COSINE, .lr = 0.4, .warmup_epochs = 2};
    CU_ASSERT(near(oct_schedule_rate(&s, 0, 10, 100), 0.02));
    CU_ASSERT(near(oct_schedule_rate(&s, 9, 10, 100), 0.2));
    CU_ASSERT(near(oct_schedule_rate(&s, 19, 10, 100), 0.4));
    CU_ASSERT(near(oct_schedule_rate(&s, 20, 10, 100), 0.4));
    CU_ASSERT(near(oct_schedule_rate(&s, 60, 10, 100), 0.2));
}

static void schedule_rate_step_drops_at_milestones_or_every_few_epochs(void)
{
    oct_schedule s = {.kind = OCT_SCHEDULE_STEP, .lr = 1, .milestone_count = 2, .milestones = {3, 5}};
    CU_ASSERT(near(oct_schedule_rate(&s, 29, 10, 100), 1));
    CU_ASSERT(near(oct_schedule_rate(&s, 30, 10, 100), 0.1));
    CU_ASSERT(near(oct_schedule_rate(&s, 49, 10, 100), 0.1));
    CU_ASSERT(near(oct_schedule_rate(&s, 50, 10, 100), 0.01));
    s = (oct_schedule){.kind = OCT_SCHEDULE_STEP, .lr = 1, .gamma = 0.5, .step_epochs = 2};
    CU_ASSERT(near(oct_schedule_rate(&s, 19, 10, 100), 1));
    CU_ASSERT(near(oct_schedule_rate(&s, 45, 10, 100), 0.25));
    s = (oct_schedule){.kind = OCT_SCHEDULE_STEP, .lr = 1};
    CU_ASSERT(near(oct_schedule_rate(&s, 29, 10, 90), 1));
    CU_ASSERT(near(oct_schedule_rate(&s, 89, 10, 90), 0.01));
}

static void schedule_rate_poly_and_exp_follow_their_formulas(void)
{
    oct_schedule s = {.kind = OCT_SCHEDULE_POLY, .lr = 2, .power = 0.9};
    CU_ASSERT(near(oct_schedule_rate(&s, 40, 10, 100), 2 * pow(0.6, 0.9)));
    s = (oct_schedule){.kind = OCT_SCHEDULE_POLY, .lr = 2};
    CU_ASSERT(near(oct_schedule_rate(&s, 40, 10, 100), 1.2));
    s = (oct_schedule){.kind = OCT_SCHEDULE_EXPONENTIAL, .lr = 2, .gamma = 0.9};
    CU_ASSERT(near(oct_schedule_rate(&s, 45, 10, 100), 2 * pow(0.9, 4.5)));
    s = (oct_schedule){.kind = OCT_SCHEDULE_CONSTANT, .lr = 2};
    CU_ASSERT(near(oct_schedule_rate(&s, 99, 10, 100), 2));
}

static void schedule_parse_knows_its_own_names_only(void)
{
    oct_error error = {0};
    for (int i = OCT_SCHEDULE_COSINE; i <= OCT_SCHEDULE_CONSTANT; i++) {
        oct_schedule_kind kind = OCT_SCHEDULE_CONSTANT;
        CU_ASSERT(oct_schedule_parse(&kind, oct_schedule_name((oct_schedule_kind)i), &error) == OCT_OK);
        CU_ASSERT(kind == (oct_schedule_kind)i);
    }
    oct_schedule_kind kind;
    CU_ASSERT(oct_schedule_parse(&kind, "cos", &error) == OCT_ERR_ARGUMENT);
    CU_ASSERT(strstr(error.message, "cosine") != NULL);
}

static void schedule_check_refuses_fields_out_of_range(void)
{
    static const oct_schedule bad[] = {
        {.lr = 0},
        {.lr = (double)NAN},
        {.lr = 1, .warmup_epochs = -1},
        {.lr = 1, .gamma = 1.5},
        {.lr = 1, .power = -1},
        {.lr = 1, .step_epochs = -1},
        {.lr = 1, .milestone_count = 2, .milestones = {5, 5}},
        {.lr = 1, .milestone_count = OCT_SCHEDULE_MILESTONES + 1},
        {.kind = (oct_schedule_kind)9, .lr = 1},
    };
    oct_error error = {0};
    CU_ASSERT(oct_schedule_check(&(oct_schedule){.lr = 0.1}, &error) == OCT_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        oct_error_clear(&error);
        CU_ASSERT(oct_schedule_check(&bad[i], &error) == OCT_ERR_ARGUMENT);
        CU_ASSERT(strstr(error.message, "schedule") != NULL);
    }
}

static const test_case cases[] = {
    {"sgd_step_plain_follows_the_rule", sgd_step_plain_follows_the_rule},
    {"sgd_step_momentum_and_decay_follow_the_rule", sgd_step_momentum_and_decay_follow_the_rule},
    {"sgd_step_nesterov_follows_the_rule", sgd_step_nesterov_follows_the_rule},
    {"sgd_step_decay_of_weights_alone_spares_vectors", sgd_step_decay_of_weights_alone_spares_vectors},
    {"sgd_step_any_thread_count_gives_the_same_bytes", sgd_step_any_thread_count_gives_the_same_bytes},
    {"gradient_norm_is_the_root_of_the_sum_of_squares", gradient_norm_is_the_root_of_the_sum_of_squares},
    {"clip_scale_limits_the_norm", clip_scale_limits_the_norm},
    {"sgd_create_refuses_options_out_of_range", sgd_create_refuses_options_out_of_range},
    {"sgd_step_after_the_graph_grew_is_refused", sgd_step_after_the_graph_grew_is_refused},
    {"schedule_rate_cosine_goes_from_lr_to_nothing", schedule_rate_cosine_goes_from_lr_to_nothing},
    {"schedule_rate_warmup_rises_linearly_then_hands_over", schedule_rate_warmup_rises_linearly_then_hands_over},
    {"schedule_rate_step_drops_at_milestones_or_every_few_epochs",
     schedule_rate_step_drops_at_milestones_or_every_few_epochs},
    {"schedule_rate_poly_and_exp_follow_their_formulas", schedule_rate_poly_and_exp_follow_their_formulas},
    {"schedule_parse_knows_its_own_names_only", schedule_parse_knows_its_own_names_only},
    {"schedule_check_refuses_fields_out_of_range", schedule_check_refuses_fields_out_of_range},
};
TEST_SUITE("optim", cases);
