/* SPDX-License-Identifier: BSD-2-Clause
 * Functions of one element. UNARY_LIST holds one row per function: its float form for training, in shapes that compilers
 * turn into vector code where there is no call, and its double form for the reference and for tables of codes. A new
 * function is a row here, its name in oct_unary (ops.h) and, to be called comfortably, a builder.
 */
#include <math.h>
#include <stddef.h>

#include "autograd/base/par.h"
#include "autograd/elementary.h"
#include "autograd/ops_internal.h"

/* --- float parts --- */

static inline float sigmoid_f32(float x)
{
    return 1.0f / (1.0f + oct_exp_f32(-x));
}

/* 1 - 2/(e^2x + 1) loses digits near 0, where the odd minimax polynomial of Cephes' tanhf takes over. */
static inline float tanh_f32(float x)
{
    float z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    float near_zero = p * z * x + x, far = 1.0f - 2.0f / (oct_exp_f32(2.0f * x) + 1.0f);
    return z < 0.625f * 0.625f ? near_zero : far;
}

static inline float clamp_f32(float x, float lo, float hi)
{
    return x < lo ? lo : x > hi ? hi : x;
}

/* The normal distribution's integral and density. */
static inline float normal_f32(float x)
{
    return 0.5f * erfcf(x * -0.707106781f);
}

static inline float normal_density_f32(float x)
{
    return 0.398942280f * oct_exp_f32(-0.5f * x * x);
}

/* --- double parts --- */

static double sigmoid_f64(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double normal_f64(double x)
{
    return 0.5 * erfc(-x * 0.70710678118654752440);
}

/* --- the table --- */

/* ROW(kind, name, equation, attribute or "",
 *     float f(x), float f'(x), double f(x), double f'(x)); p is the attribute. */
#define UNARY_LIST(ROW)                                                                                              \
    ROW(LEAKY_RELU, "leaky_relu", "y = x > 0 ? x : slope*x", "slope",                                                \
        x > 0.0f ? x : p * x, x > 0.0f ? 1.0f : p,                                                                   \
        x > 0.0 ? x : p * x, x > 0.0 ? 1.0 : p)                                                                      \
    ROW(ELU, "elu", "y = x > 0 ? x : alpha*(exp(x) - 1)", "alpha",                                                   \
        x > 0.0f ? x : p * expm1f(x), x > 0.0f ? 1.0f : p * oct_exp_f32(x),                                              \
        x > 0.0 ? x : p * expm1(x), x > 0.0 ? 1.0 : p * exp(x))                                                      \
    ROW(SIGMOID, "sigmoid", "y = 1/(1 + exp(-x))", "",                                                               \
        sigmoid_f32(x), sigmoid_f32(x) * (1.0f - sigmoid_f32(x)),                                                    \
        sigmoid_f64(x), sigmoid_f64(x) * sigmoid_f64(-x))                                                            \
    ROW(TANH, "tanh", "y = tanh(x)", "",                                                                             \
        tanh_f32(x), 1.0f - tanh_f32(x) * tanh_f32(x),                                                               \
        tanh(x), 1.0 / (cosh(x) * cosh(x)))                                                                          \
    ROW(HARD_SIGMOID, "hard_sigmoid", "y = min(max(x + 3, 0), 6)/6", "",                                             \
        clamp_f32(x + 3.0f, 0.0f, 6.0f) * (1.0f / 6), x > -3.0f && x < 3.0f ? 1.0f / 6 : 0.0f,                       \
        fmin(fmax(x + 3.0, 0.0), 6.0) / 6.0, x > -3.0 && x < 3.0 ? 1.0 / 6 : 0.0)                                    \
    ROW(HARD_SWISH, "hard_swish", "y = x*min(max(x + 3, 0), 6)/6", "",                                               \
        x * clamp_f32(x + 3.0f, 0.0f, 6.0f) * (1.0f / 6), x <= -3.0f ? 0.0f : x >= 3.0f ? 1.0f : x / 3 + 0.5f,       \
        x * fmin(fmax(x + 3.0, 0.0), 6.0) / 6.0, x <= -3.0 ? 0.0 : x >= 3.0 ? 1.0 : x / 3 + 0.5)                     \
    ROW(SILU, "silu", "y = x/(1 + exp(-x))", "",                                                                     \
        x * sigmoid_f32(x), sigmoid_f32(x) * (1.0f + x * (1.0f - sigmoid_f32(x))),                                   \
        x * sigmoid_f64(x), sigmoid_f64(x) * (1.0 + x * sigmoid_f64(-x)))                                            \
    ROW(GELU, "gelu", "y = x*(1 + erf(x/sqrt(2)))/2", "",                                                            \
        x * normal_f32(x), normal_f32(x) + x * normal_density_f32(x),                                                \
        x * normal_f64(x), normal_f64(x) + x * 0.39894228040143267794 * exp(-0.5 * x * x))                           \
    ROW(ADD_SCALAR, "add_scalar", "y = x + value", "value",                                                          \
        x + p, 1.0f,                                                                                                 \
        x + p, 1.0)                                                                                                  \
    ROW(MUL_SCALAR, "mul_scalar", "y = x*factor", "factor",                                                          \
        x * p, p,                                                                                                    \
        x * p, p)

typedef struct unary_row {
    void (*forward)(float *y, const float *x, size_t n, float p);
    void (*backward)(float *dx, const float *dy, const float *x, size_t n, float p, int accumulate);
    double (*value)(double x, double p), (*slope)(double x, double p);
} unary_row;

#define UNARY_FUNCTIONS(kind, name, equation, attribute, value32, slope32, value64, slope64)                         \
    static void kind##_forward(float *y, const float *from, size_t n, float p)                                       \
    {                                                                                                                \
        (void)p;                                                                                                     \
        for (size_t i = 0; i < n; i++) {                                                                             \
            const float x = from[i];                                                                                 \
            y[i] = (value32);                                                                                        \
        }                                                                                                            \
    }                                                                                                                \
    static void kind##_backward(float *dx, const float *dy, const float *from, size_t n, float p, int accumulate)    \
    {                                                                                                                \
        (void)p;                                                                                                     \
        for (size_t i = 0; i < n; i++) {                                                                             \
            const float x = from[i], d = dy[i] * (slope32);                                                          \
            (void)x;                                                                                                 \
            dx[i] = accumulate ? dx[i] + d : d;                                                                      \
        }                                                                                                            \
    }                                                                                                                \
    static double kind##_value(double x, double p)                                                                   \
    {                                                                                                                \
        (void)p;                                                                                                     \
        return (value64);                                                                                            \
    }                                                                                                                \
    static double kind##_slope(double x, double p)                                                                   \
    {                                                                                                                \
        (void)x, (void)p;                                                                                            \
        return (slope64);                                                                                            \
    }
UNARY_LIST(UNARY_FUNCTIONS)

#define UNARY_ROW(kind, name, equation, attribute, value32, slope32, value64, slope64)                               \
    [OCT_UNARY_##kind] = {kind##_forward, kind##_backward, kind##_value, kind##_slope},
static const unary_row rows[OCT_UNARY_COUNT] = {UNARY_LIST(UNARY_ROW)};

static const unary_row *row_of(const oct_node *node)
{
    return &rows[node->op - oct_unary_ops];
}

static float parameter_of(const oct_node *node)
{
    return node->attrs ? ((const oct_unary_attrs *)node->attrs)->parameter : 0.0f;
}

double oct_unary_value(const oct_node *node, double x)
{
    return row_of(node)->value(x, (double)parameter_of(node));
}

double oct_unary_slope(const oct_node *node, double x)
{
    return row_of(node)->slope(x, (double)parameter_of(node));
}

/* --- the op --- */

static oct_status unary_infer(const oct_graph *graph, oct_node *node)
{
    if (!isfinite(parameter_of(node))) {
        return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT, "%s is %g, expected a finite number",
                             node->op->attrs[0].name, (double)parameter_of(node));
    }
    return oct_rule_same(graph, node);
}

typedef struct unary_job {
    const unary_row *row;
    const float *x, *dy;
    float *y, *dx;
    size_t n;
    float p;
    int accumulate;
} unary_job;

static void forward_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const unary_job *job = (const unary_job *)arg;
    size_t at = (size_t)item * OCT_FLAT_ITEM;
    job->row->forward(job->y + at, job->x + at, oct_flat_count(job->n, item), job->p);
}

static void backward_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const unary_job *job = (const unary_job *)arg;
    size_t at = (size_t)item * OCT_FLAT_ITEM;
    job->row->backward(job->dx + at, job->dy + at, job->x + at, oct_flat_count(job->n, item), job->p,
                       job->accumulate);
}

static unary_job make_job(const oct_step *step)
{
    return (unary_job){.row = row_of(step->node),
                       .x = (const float *)step->in[0]->data,
                       .n = oct_node_elements(step->node, step->batch),
                       .p = parameter_of(step->node),
                       .accumulate = step->accumulate[0]};
}

static oct_status unary_forward(oct_step *step)
{
    unary_job job = make_job(step);
    job.y = (float *)step->out->data;
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), forward_item, &job);
    return OCT_OK;
}

static oct_status unary_backward(oct_step *step)
{
    if (!step->d_in[0]) return OCT_OK;
    unary_job job = make_job(step);
    job.dy = (const float *)step->d_out->data;
    job.dx = (float *)step->d_in[0]->data;
    oct_parallel_for(step->ctx->threads, oct_flat_items(job.n), backward_item, &job);
    return OCT_OK;
}

static oct_status reference_forward(oct_ref *ref)
{
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) ref->out[e] = oct_unary_value(ref->node, ref->in[0][e]);
    return OCT_OK;
}

static oct_status reference_backward(oct_ref *ref)
{
    if (!ref->d_in[0]) return OCT_OK;
    size_t n = oct_node_elements(ref->node, ref->batch);
    for (size_t e = 0; e < n; e++) ref->d_in[0][e] += ref->d_out[e] * oct_unary_slope(ref->node, ref->in[0][e]);
    return OCT_OK;
}

#define UNARY_ATTRIBUTE(kind, name, equation, attribute, value32, slope32, value64, slope64)                         \
    static const oct_attr kind##_attr = {attribute, OCT_ATTR_FLOAT, offsetof(oct_unary_attrs, parameter), 1};
UNARY_LIST(UNARY_ATTRIBUTE)

#define UNARY_OP(kind, op_name, op_equation, attribute, value32, slope32, value64, slope64)                          \
    [OCT_UNARY_##kind] = {                                                                                           \
        .name = op_name,                                                                                             \
        .equation = op_equation,                                                                                     \
        .attr_bytes = sizeof(attribute) > 1 ? sizeof(oct_unary_attrs) : 0,                                                    \
        .attrs = &kind##_attr,                                                                                       \
        .attr_count = sizeof(attribute) > 1,                                                                           \
        .min_inputs = 1,                                                                                             \
        .max_inputs = 1,                                                                                             \
        .infer = unary_infer,                                                                                        \
        .exec = {.name = op_name,                                                                                    \
                 .forward = unary_forward,                                                                           \
                 .backward = unary_backward,                                                                         \
                 .backward_reads = OCT_READS_INPUT(0),                                                               \
                 .inplace = true,                                                                                    \
                 .inplace_backward = true},                                                                          \
        .reference = {.forward = reference_forward, .backward = reference_backward},                                 \
    },
const oct_op oct_unary_ops[OCT_UNARY_COUNT] = {UNARY_LIST(UNARY_OP)};
