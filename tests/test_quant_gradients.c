/* SPDX-License-Identifier: BSD-2-Clause
 * One quantized layer at a time: straight-through masks at the ends of every limit, gradients against finite
 * differences of the network without quantization error, sums beyond float's 24 bits, padding. */
#include "tests/quant_net.h"

/* --- T6: masks at the ends, on the four ways a mask is made --- */

enum mask_path { MASK_POINT, MASK_LAYER, MASK_NORM_LIVE, MASK_NORM_FROZEN, MASK_PATHS };

typedef struct mask_case {
    oct_sign sign;
    bool relu;
    float cap;
    float x[5];
    int passes[5];
} mask_case;

/* Values reach the activation as a bias (point, layer) or as beta of a channel whose weights are zero (norm).
 */
static void check_masks(const mask_case *c, enum mask_path path)
{
    net_opts o = {.batch = 2,
                  .side = 1,
                  .in = path == MASK_POINT ? 5 : 1,
                  .out = path == MASK_POINT ? 0 : 5,
                  .kernel = 1,
                  .pre = path == MASK_POINT,
                  .bias = path == MASK_LAYER,
                  .norm = path >= MASK_NORM_LIVE,
                  .relu = c->relu,
                  .cap = c->cap,
                  .point = true,
                  .sign = c->sign};
    net n = net_open(&o);
    const char *carrier = path == MASK_POINT ? "pre/bias" : path == MASK_LAYER ? "b" : "beta";
    float *w = data_of(&n, path == MASK_POINT ? "pre/weight" : "w");
    memset(w, 0, sizeof *w * (path == MASK_POINT ? 25 : 5));
    memcpy(data_of(&n, carrier), c->x, sizeof c->x);
    set_range(&n, "yq/range", c->sign == OCT_SIGN_SIGNED ? -1 : 0, 1);
    if (path != MASK_POINT) set_range(&n, "xq/range", 0, 1);
    fill_codes(&n, 1, 1, 200);
    fill_target(&n, -50); /* every gradient that passes is far from zero */
    const oct_run *run = path == MASK_NORM_LIVE ? &live_ranges_frozen : &frozen;
    CU_ASSERT_TRUE(reference_agrees(&n, run, carrier));
    for (int i = 0; i < 5; i++) {
        bool passed = gradient(&n, carrier)[i] != 0;
        CU_ASSERT_EQUAL(passed, c->passes[i]);
        if (passed != c->passes[i])
            printf("    path %d, x = %.9g: passed = %d\n", (int)path, (double)c->x[i], passed);
    }
    net_close(&n);
}

static void pact2_mask_table(void)
{
    const float e = 0x1p-20f;
    const mask_case table[] = {
        /* both ends pass, and so does what saturates below the clip */
        {OCT_SIGN_UNSIGNED, false, 0, {-e, 0, 0.999f, 1, 1 + e}, {0, 1, 1, 1, 0}},
        {OCT_SIGN_AUTO, false, 0, {-e, 0, e, 1, 1 + e}, {0, 1, 1, 1, 0}},
        {OCT_SIGN_SIGNED, false, 0, {-1 - e, -1, 0, 1, 1 + e}, {0, 1, 1, 1, 0}},
        /* ReLU's own gradient is 0 at 0 */
        {OCT_SIGN_UNSIGNED, true, 0, {-e, 0, e, 1, 1 + e}, {0, 0, 1, 1, 0}},
        /* a cap below the clip: 0 at both of its ends */
        {OCT_SIGN_UNSIGNED, false, 0.5f, {0, e, 0.5f - e, 0.5f, 0.75f}, {0, 1, 1, 0, 0}},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        for (int path = 0; path < MASK_PATHS; path++) check_masks(&table[i], (enum mask_path)path);
}

/* --- T13: gradients against finite differences of the network without quantization error --- */

/* The float network in double. All parameters in one array, in the order of `parts`. */
enum { PART_PRE_W, PART_PRE_B, PART_W, PART_GAMMA, PART_BETA, PART_B, PARTS };
static const char *const parts[PARTS] = {"pre/weight", "pre/bias", "w", "gamma", "beta", "b"};

typedef struct surrogate {
    const net *n;
    bool live;
    size_t start[PARTS + 1];
    double *p; /* parameters */
    const float *x;
    double *slope; /* dL/d(output), constant */
    double *h, *u; /* input of the convolution, its output */
    double clip_lo, clip_hi;
    double nearest; /* smallest distance of a value to a kink */
    int clipped;
} surrogate;

static double tap(const surrogate *s, int o, int r, int c, int i)
{
    const net_opts *q = &s->n->o;
    const double *w = s->p + s->start[PART_W];
    if (q->depthwise) return i == o ? w[(r * q->kernel + c) * q->out + o] : 0;
    return w[((o * q->kernel + r) * q->kernel + c) * q->in + i];
}

static double convolved(const surrogate *s, int image, int row, int column, int o)
{
    const net_opts *q = &s->n->o;
    double sum = q->bias ? s->p[s->start[PART_B] + (size_t)o] : 0;
    for (int r = 0; r < q->kernel; r++)
        for (int c = 0; c < q->kernel; c++) {
            int y = row + r - q->kernel / 2, x = column + c - q->kernel / 2;
            if (y < 0 || x < 0 || y >= q->side || x >= q->side) continue;
            for (int i = 0; i < q->in; i++)
                sum += s->h[((image * q->side + y) * q->side + x) * q->in + i] * tap(s, o, r, c, i);
        }
    return sum;
}

static void normalise_channel(surrogate *s, int o, int positions)
{
    const net_opts *q = &s->n->o;
    double mean = 0, var = 0;
    for (int p = 0; p < positions; p++) mean += s->u[p * q->out + o] / positions;
    for (int p = 0; p < positions; p++) var += pow(s->u[p * q->out + o] - mean, 2) / positions;
    if (!s->live) {
        mean = (double)data_of(s->n, "mean")[o];
        var = (double)data_of(s->n, "var")[o];
    }
    double gamma = s->p[s->start[PART_GAMMA] + (size_t)o], beta = s->p[s->start[PART_BETA] + (size_t)o];
    for (int p = 0; p < positions; p++)
        s->u[p * q->out + o] = gamma * (s->u[p * q->out + o] - mean) / sqrt(var + 0.25) + beta;
}

static double kink(surrogate *s, double v, double at)
{
    s->nearest = fmin(s->nearest, fabs(v - at));
    return at;
}

/* sum slope * output */
static double surrogate_loss(surrogate *s)
{
    const net_opts *q = &s->n->o;
    int positions = q->batch * q->side * q->side;
    const double *pw = s->p + s->start[PART_PRE_W], *pb = s->p + s->start[PART_PRE_B];
    for (int p = 0; p < positions; p++)
        for (int o = 0; o < q->in; o++) {
            double v = pb[o];
            for (int i = 0; i < q->in; i++) v += pw[o * q->in + i] * (double)s->x[p * q->in + i];
            s->h[p * q->in + o] = fmin(fmax(v, 0), 1);
        }
    for (int p = 0; p < positions; p++)
        for (int o = 0; o < q->out; o++)
            s->u[p * q->out + o] =
                convolved(s, p / (q->side * q->side), p / q->side % q->side, p % q->side, o);
    for (int o = 0; o < q->out && q->norm; o++) normalise_channel(s, o, positions);
    double loss = 0;
    s->nearest = 1;
    s->clipped = 0;
    for (int i = 0; i < positions * q->out; i++) {
        double v = s->u[i];
        if (q->point) {
            double lo = q->relu ? 0 : s->clip_lo;
            double z = fmin(fmax(v, kink(s, v, lo)), kink(s, v, s->clip_hi));
            s->clipped += z != v;
            v = z;
        }
        loss += s->slope[i] * v;
    }
    return loss;
}

static void surrogate_open(surrogate *s, const net *n, bool is_live)
{
    *s = (surrogate){.n = n, .live = is_live, .x = oct_plan_input(n->plan, n->x)};
    for (int i = 0; i < PARTS; i++) {
        oct_value v = oct_graph_find(n->graph, parts[i]);
        s->start[i + 1] = s->start[i] + (v.id < 0 ? 0 : oct_graph_node(n->graph, v)->count);
    }
    size_t outputs = n->out_sample * (size_t)n->o.batch;
    s->p = oct_calloc(s->start[PARTS] + x_count(n) + 2 * outputs, sizeof *s->p);
    CU_ASSERT_PTR_NOT_NULL_FATAL(s->p);
    s->h = s->p + s->start[PARTS];
    s->u = s->h + x_count(n);
    s->slope = s->u + outputs;
    for (int i = 0; i < PARTS; i++)
        for (size_t k = s->start[i]; k < s->start[i + 1]; k++)
            s->p[k] = (double)data_of(n, parts[i])[k - s->start[i]];
    const float *target = oct_plan_input(n->plan, n->target);
    for (size_t i = 0; i < outputs; i++)
        s->slope[i] = 2 * (output(n, i) - (double)target[i]) / (double)outputs;
    s->clip_lo = n->o.relu ? 0 : -1; /* check_gradients sets the last point's range to these */
    s->clip_hi = 1;
}

/* Worst error of one parameter's gradient, relative to its largest element. */
static double gradient_error(surrogate *s, int part)
{
    const double step = 1e-5;
    const float *found = gradient(s->n, parts[part]);
    double worst = 0, largest = 1e-3;
    for (size_t k = s->start[part]; k < s->start[part + 1]; k++) {
        double old = s->p[k];
        s->p[k] = old + step;
        double up = surrogate_loss(s);
        s->p[k] = old - step;
        double expected = (up - surrogate_loss(s)) / (2 * step);
        s->p[k] = old;
        worst = fmax(worst, fabs(expected - (double)found[k - s->start[part]]));
        largest = fmax(largest, fabs(expected));
    }
    return worst / largest;
}

/* Weights whose folded values are codes: w = q/128/s, with codes above 64 in every channel so that kw = 7. */
static void weights_on_the_grid(const net *n, unsigned seed)
{
    static const float scales[3] = {1, -0.5f, 2};
    oct_rng rng = oct_rng_start(seed, OCT_RNG_SYNTHETIC, 13, 0);
    float *w = data_of(n, "w");
    int outputs = n->o.out, per_output = n->o.kernel * n->o.kernel * (n->o.depthwise ? 1 : n->o.in);
    for (int o = 0; o < outputs; o++) {
        float s = n->o.norm ? scales[o % 3] : 1;
        if (n->o.norm) data_of(n, "gamma")[o] = s; /* var + eps = 1 */
        for (int i = 0; i < per_output; i++) {
            int q = i == per_output / 2 ? 100 : (int)oct_rng_below(&rng, 161) - 80;
            w[n->o.depthwise ? i * outputs + o : o * per_output + i] = (float)q / 128 / s;
        }
        if (n->o.norm) data_of(n, "beta")[o] = 0.3f * oct_rng_normal(&rng);
        if (n->o.norm) data_of(n, "mean")[o] = 0.3f * oct_rng_normal(&rng);
        if (n->o.bias) data_of(n, "b")[o] = (float)((int)oct_rng_below(&rng, 64) - 32) / 64;
    }
}

static void check_gradients(net_opts o, bool bn_frozen, unsigned seed)
{
    o.batch = 2, o.side = 4, o.in = 3, o.out = 3, o.kernel = 3, o.pre = true, o.bias = true;
    o.sign = o.relu ? OCT_SIGN_UNSIGNED : OCT_SIGN_SIGNED;
    net n = net_open(&o);
    weights_on_the_grid(&n, seed);
    float *pre = data_of(&n, "pre/weight");
    for (int i = 0; i < 9; i++) pre[i] = i % 4 == 0;
    memset(data_of(&n, "pre/bias"), 0, 3 * sizeof(float));
    fill_codes(&n, seed, 10, 240);
    fill_target(&n, 0.2f);
    set_range(&n, "xq/range", 0, 1);
    if (o.point) set_range(&n, "yq/range", o.relu ? 0 : -1, 1);
    oct_run run = {.mode = OCT_TRAIN, .bn_frozen = bn_frozen, .range_frozen = 1};
    forward(&n, &run);
    backward(&n);
    surrogate s;
    surrogate_open(&s, &n, !bn_frozen);
    surrogate_loss(&s);
    CU_ASSERT_TRUE(s.nearest > 1e-4); /* else the finite difference steps over a kink: take another seed */
    if (o.point) CU_ASSERT_TRUE(s.clipped > 3);
    for (int part = 0; part < PARTS; part++) {
        if (s.start[part] == s.start[part + 1]) continue;
        double error = gradient_error(&s, part);
        CU_ASSERT_TRUE(error < 2e-5);
        if (!(error < 2e-5))
            printf("    %s: relative error %g (frozen %d, point %d, depthwise %d, fold %d)\n", parts[part],
                   error, bn_frozen, o.point, o.depthwise, (int)o.fold);
    }
    oct_free(s.p);
    net_close(&n);
}

static void gradients_equal_finite_differences(void)
{
    for (int variant = 0; variant < 4; variant++) {
        net_opts o = {.depthwise = variant & 1, .per_channel = variant >> 1, .norm = true};
        check_gradients(o, false, 131);
        o.fold = OCT_FOLD_RUNNING; /* 11.10: the gradient of the batch's statistics, whatever normalised the
                                      value */
        check_gradients(o, false, 132);
        o.fold = OCT_FOLD_BATCH;
        o.relu = o.point = true;
        check_gradients(o, false, 133);
        check_gradients(o, true, 133);
        o.norm = false;
        check_gradients(o, true, 135);
        o.relu = false;
        check_gradients(o, true, 136);
    }
}

/* dW is 0 where the weight's code was clipped, and nowhere else. */
static void clipped_weight_gets_no_gradient(void)
{
    net n = net_open(&(net_opts){.batch = 1, .side = 3, .in = 1, .out = 1, .kernel = 3});
    float *w = data_of(&n, "w");
    for (int i = 0; i < 9; i++) w[i] = 0.1f * (float)(i - 4);
    w[3] = 1; /* 128 */
    w[5] = -1;
    set_range(&n, "xq/range", 0, 1);
    fill_codes(&n, 14, 100, 200);
    fill_target(&n, -5);
    forward(&n, &frozen);
    backward(&n);
    for (int i = 0; i < 9; i++) CU_ASSERT_EQUAL(gradient(&n, "w")[i] == 0, i == 3 || i == 5);
    net_close(&n);
}

/* --- T17: sums beyond float's 24 bits --- */

/* Every x = 255, every w = -127, and a bias that puts the exact sum on the side of a tie where a float32 sum
 * is not. */
static void many_taps_on(const char *cpu)
{
    static const int taps[3] = {600, 1001, 4099};
    for (int t = 0; t < 3; t++) {
        net n = net_open(&(net_opts){.batch = 1,
                                     .side = 1,
                                     .in = taps[t],
                                     .out = 1,
                                     .kernel = 1,
                                     .bias = true,
                                     .point = true,
                                     .sign = OCT_SIGN_SIGNED,
                                     .cpu = cpu});
        for (int i = 0; i < taps[t]; i++) data_of(&n, "w")[i] = -127.0f / 128;
        set_range(&n, "xq/range", 0, 1);
        set_range(&n, "yq/range", -4096, 4096); /* exponent -5: n = 8 + 7 + 5 = 20 */
        fill_codes(&n, 1, 255, 255);
        volatile float in_float = 0;
        for (int i = 0; i < taps[t]; i++) in_float = in_float + -127.0f * 255;
        int64_t exact = (int64_t)taps[t] * -127 * 255, error = (int64_t)in_float - exact;
        CU_ASSERT_TRUE(error != 0);
        int64_t code = (exact >> 20) - 1,
                tie = code * (1 << 20) + (1 << 19); /* [tie, tie + 2^20) rounds to code + 1 */
        int64_t total = error < 0 ? tie : tie - 1, bias = total - exact;
        CU_ASSERT_TRUE_FATAL(bias < 0 && bias > -(1 << 24));
        data_of(&n, "b")[0] = ldexpf((float)bias, -15);
        int64_t expected = error < 0 ? code + 1 : code;
        CU_ASSERT_NOT_EQUAL((total + error + (1 << 19)) >> 20, expected); /* what float32 would give */
        CU_ASSERT_TRUE(reference_agrees(&n, &evaluation, NULL));
        CU_ASSERT_EQUAL(output(&n, 0), (double)expected * 32);
        net_close(&n);
    }
}

static void many_taps_are_summed_exactly(void)
{
    for_each_level(many_taps_on);
}

/* T16: more taps than 32 bits can bear at the tensor's own exponent; the step still equals the reference. */
static void accumulators_stay_in_32_bits(void)
{
    for (int negative = 0; negative < 2; negative++) {
        net n = net_open(&(net_opts){.batch = 1,
                                     .side = 1,
                                     .in = 20000,
                                     .out = 2,
                                     .kernel = 1,
                                     .bias = true,
                                     .point = true,
                                     .sign = OCT_SIGN_SIGNED});
        for (int i = 0; i < 40000; i++) data_of(&n, "w")[i] = negative ? -0.99f : 0.99f;
        data_of(&n, "b")[0] = 30000;
        data_of(&n, "b")[1] = -30000;
        set_range(&n, "xq/range", 0, 1);
        set_range(&n, "yq/range", -65536, 65536);
        fill_codes(&n, 1, 255, 255);
        CU_ASSERT_TRUE(reference_agrees(&n, &evaluation, NULL));
        double sum = (negative ? -1 : 1) * 20000 * 0.99 * 255 / 256;
        CU_ASSERT_DOUBLE_EQUAL(output(&n, 0), sum + 30000, 512);
        CU_ASSERT_DOUBLE_EQUAL(output(&n, 1), sum - 30000, 512);
        net_close(&n);
    }
}

/* --- T21: padding --- */

static void padding_on(const char *cpu)
{
    enum { SIDE = 5, CHANNELS = 5 };
    for (int variant = 0; variant < 4; variant++) {
        bool depthwise = variant & 1, is_signed = variant >> 1;
        net n = net_open(&(net_opts){.batch = 1,
                                     .side = SIDE,
                                     .in = CHANNELS,
                                     .out = CHANNELS,
                                     .kernel = 3,
                                     .depthwise = depthwise,
                                     .bias = true,
                                     .cpu = cpu});
        set_range(&n, "xq/range", is_signed ? -2 : 0, 2); /* clip 2: kappa 64 or 128 */
        float *x = oct_plan_input(n.plan, n.x), *w = data_of(&n, "w"),
              delta = is_signed ? 1.0f / 64 : 1.0f / 128;
        oct_rng rng = oct_rng_start(21, OCT_RNG_SYNTHETIC, 0, 0);
        for (int i = 0; i < SIDE * SIDE * CHANNELS; i++)
            x[i] = delta *
                   (float)(is_signed ? (int)oct_rng_below(&rng, 256) - 128 : (int)oct_rng_below(&rng, 256));
        size_t weights = depthwise ? 9 * CHANNELS : 9 * CHANNELS * CHANNELS;
        for (size_t i = 0; i < weights; i++) w[i] = (float)((int)oct_rng_below(&rng, 255) - 127) / 128;
        w[4] = 100.0f / 128;
        for (int o = 0; o < CHANNELS; o++) data_of(&n, "b")[o] = 0.25f * (float)o;
        forward(&n, &evaluation);
        surrogate s; /* the float network: its convolution skips what lies outside */
        surrogate_open(&s, &n, false);
        for (size_t i = 0; i < x_count(&n); i++) s.h[i] = (double)x[i];
        int wrong = 0;
        for (int i = 0; i < SIDE * SIDE * CHANNELS; i++)
            wrong += output(&n, (size_t)i) !=
                     convolved(&s, 0, i / CHANNELS / SIDE, i / CHANNELS % SIDE, i % CHANNELS);
        CU_ASSERT_EQUAL(wrong, 0);
        oct_free(s.p);
        net_close(&n);
    }
}

static void padding_contributes_zero(void)
{
    for_each_level(padding_on);
}

static const test_case cases[] = {
    {"T6_pact2_mask_table", pact2_mask_table},
    {"T13_gradients_equal_finite_differences", gradients_equal_finite_differences},
    {"T13_clipped_weight_gets_no_gradient", clipped_weight_gets_no_gradient},
    {"T16_accumulators_stay_in_32_bits", accumulators_stay_in_32_bits},
    {"T17_many_taps_are_summed_exactly", many_taps_are_summed_exactly},
    {"T21_padding_contributes_zero", padding_contributes_zero},
};
TEST_SUITE("quant_gradients", cases);
