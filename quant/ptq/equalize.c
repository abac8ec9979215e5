/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/ptq/equalize.h"

#include <math.h>
#include <stdlib.h>

#include "autograd/base/memory.h"
#include "quant/int8/requant.h"

enum { DEFAULT_ITERATIONS = 2 };
static const double least_range = 0.5, least_scale = 1e-6, most_scale = 1e6;

/* Neighbours whose channels can trade scales. */
typedef struct pair {
    const oct_ptq_layer *a, *b;
    const oct_conv2d_attrs *conv; /* of b; NULL: linear */
    bool depthwise;               /* b */
    bool relu;
} pair;

typedef struct equalizer {
    oct_ptq_net *net;
    pair *pairs;
    int count, capped;
    double *beta, *gamma; /* of each layer's batch norm as it was, [max outputs] each */
    size_t stride;
} equalizer;

static bool is_op(const oct_node *n, const oct_op *op)
{
    return n->kind == OCT_NODE_OP && n->op == op;
}

/* The one node that reads a value (readers of its grid do not count), or NULL. */
static const oct_node *only_reader(const oct_graph *g, int32_t id)
{
    const oct_node *found = NULL;
    for (int32_t k = 0; k < g->node_count; k++) {
        const oct_node *n = g->nodes[g->order[k]];
        for (int i = 0; i < n->input_count; i++) {
            if (n->inputs[i] != id || (n->op->no_gradient >> i & 1)) continue;
            if (found) return NULL;
            found = n;
        }
    }
    return found;
}

static bool passes_scales(const oct_node *n)
{
    return is_op(n, &oct_op_relu) || is_op(n, &oct_op_fake_quant) || is_op(n, &oct_op_max_pool) ||
           is_op(n, &oct_op_average_pool) || is_op(n, &oct_op_global_average_pool) || is_op(n, &oct_op_dropout);
}

static const oct_ptq_layer *layer_of(const oct_ptq_net *net, const oct_node *n)
{
    for (int i = 0; i < net->layer_count; i++)
        if (net->layers[i].layer.id == n->id) return &net->layers[i];
    return NULL;
}

static void find_partner(equalizer *e, const oct_ptq_layer *a)
{
    const oct_graph *g = e->net->graph;
    pair p = {.a = a};
    bool capped = false;
    const oct_node *n = only_reader(g, a->output.id);
    for (; n && (passes_scales(n) || is_op(n, &oct_op_clip)); n = only_reader(g, n->id)) {
        p.relu |= is_op(n, &oct_op_relu);
        capped |= is_op(n, &oct_op_clip);
    }
    if (!n || !(p.b = layer_of(e->net, n))) return;
    if (capped) {
        e->capped++;
        return;
    }
    p.conv = is_op(n, &oct_op_conv2d) ? n->attrs : NULL;
    p.depthwise = p.conv && oct_conv2d_is_depthwise(g, n);
    e->pairs[e->count++] = p;
}

/* Calls back with every weight of B that reads channel c. */
typedef void weight_fn(void *user, float *w, int output);

static void for_input_channel(const pair *p, float *w, int c, weight_fn *fn, void *user)
{
    const oct_ptq_layer *b = p->b;
    if (p->depthwise) {
        for (size_t i = 0; i < b->per_output; i++) fn(user, &w[oct_ptq_weight_index(b, c, i)], c);
        return;
    }
    int groups = p->conv ? p->conv->groups : 1;
    size_t taps = p->conv ? (size_t)p->conv->kernel[0] * (size_t)p->conv->kernel[1] : 1, depth = b->per_output / taps;
    int per_group = b->outputs / groups, first = c / (int)depth * per_group;
    for (int o = first; o < first + per_group; o++)
        for (size_t t = 0; t < taps; t++)
            fn(user, &w[(size_t)o * b->per_output + t * depth + (size_t)c % depth], o);
}

static void largest_of(void *user, float *w, int output)
{
    double *largest = user;
    (void)output;
    *largest = fmax(*largest, fabs((double)*w));
}

static void scale_by(void *user, float *w, int output)
{
    (void)output;
    *w = (float)((double)*w * *(const double *)user);
}

static double output_range(const oct_ptq_layer *l, const float *w, int o)
{
    double largest = 0;
    for (size_t i = 0; i < l->per_output; i++) largest = fmax(largest, fabs((double)w[oct_ptq_weight_index(l, o, i)]));
    return largest;
}

double oct_ptq_equalizing_scale(double r1, double r2)
{
    if (!(r1 > 0) || !(r2 > 0) || r1 + r2 < least_range) return 1;
    return fmin(fmax(sqrt(r1 / r2), least_scale), most_scale);
}

static void equalize_pair(equalizer *e, const pair *p)
{
    oct_graph *g = e->net->graph;
    float *wa = oct_graph_data(g, p->a->weight, NULL), *wb = oct_graph_data(g, p->b->weight, NULL);
    float *bias = p->a->bias.id >= 0 ? oct_graph_data(g, p->a->bias, NULL) : NULL;
    size_t row = (size_t)(p->a - e->net->layers) * e->stride;
    for (int c = 0; c < p->a->outputs; c++) {
        double r2 = 0;
        for_input_channel(p, wb, c, largest_of, &r2);
        double s = oct_ptq_equalizing_scale(output_range(p->a, wa, c), r2);
        for (size_t i = 0; i < p->a->per_output; i++) {
            float *w = &wa[oct_ptq_weight_index(p->a, c, i)];
            *w = (float)((double)*w / s);
        }
        if (bias) bias[c] = (float)((double)bias[c] / s);
        for_input_channel(p, wb, c, scale_by, &s);
        e->beta[row + (size_t)c] /= s;
        e->gamma[row + (size_t)c] /= s;
    }
}

/* Worst ratio of channel ranges among the pairs' first layers. */
static double worst_ratio(const equalizer *e)
{
    double worst = 1;
    for (int i = 0; i < e->count; i++) {
        const oct_ptq_layer *l = e->pairs[i].a;
        const float *w = oct_graph_data(e->net->graph, l->weight, NULL);
        double hi = 0, lo = INFINITY;
        for (int o = 0; o < l->outputs; o++) {
            double r = output_range(l, w, o);
            if (r > 0) hi = fmax(hi, r), lo = fmin(lo, r);
        }
        if (hi > 0) worst = fmax(worst, hi / lo);
    }
    return worst;
}

/* --- absorption --- */

typedef struct shift {
    float *bias;
    double amount;
} shift;

static void add_shift(void *user, float *w, int output)
{
    const shift *s = user;
    s->bias[output] = (float)((double)s->bias[output] + (double)*w * s->amount);
}

static void absorb(const equalizer *e, const pair *p)
{
    oct_graph *g = e->net->graph;
    if (!p->relu || p->a->norm.id < 0 || p->b->bias.id < 0) return;
    float *own = oct_graph_data(g, p->a->bias, NULL), *wb = oct_graph_data(g, p->b->weight, NULL);
    size_t row = (size_t)(p->a - e->net->layers) * e->stride;
    shift s = {oct_graph_data(g, p->b->bias, NULL), 0};
    for (int c = 0; c < p->a->outputs; c++) {
        s.amount = e->beta[row + (size_t)c] - 3 * fabs(e->gamma[row + (size_t)c]);
        if (!(s.amount > 0)) continue;
        own[c] = (float)((double)own[c] - s.amount);
        for_input_channel(p, wb, c, add_shift, &s);
    }
}

static void remember_norms(equalizer *e)
{
    oct_graph *g = e->net->graph;
    for (int i = 0; i < e->net->layer_count; i++) {
        const oct_ptq_layer *l = &e->net->layers[i];
        if (l->norm.id < 0) continue;
        const oct_node *norm = oct_graph_node(g, l->norm);
        const float *gamma = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_GAMMA]}, NULL);
        const float *beta = oct_graph_data(g, (oct_value){norm->inputs[OCT_BNF_BETA]}, NULL);
        for (int o = 0; o < l->outputs; o++) {
            e->gamma[(size_t)i * e->stride + (size_t)o] = (double)gamma[o];
            e->beta[(size_t)i * e->stride + (size_t)o] = (double)beta[o];
        }
    }
}

static void run(equalizer *e, const oct_ptq_equalization *o, oct_ptq_equalized *report)
{
    int iterations = o->iterations > 0 ? o->iterations : DEFAULT_ITERATIONS;
    remember_norms(e);
    oct_ptq_merge_norms(e->net);
    for (int i = 0; i < e->net->layer_count; i++) find_partner(e, &e->net->layers[i]);
    *report = (oct_ptq_equalized){.pairs = e->count, .capped = e->capped, .ratio_before = worst_ratio(e)};
    for (int k = 0; k < iterations; k++)
        for (int i = 0; i < e->count; i++) equalize_pair(e, &e->pairs[i]);
    for (int i = 0; i < e->count && o->absorb; i++) absorb(e, &e->pairs[i]);
    report->ratio_after = worst_ratio(e);
}

oct_status oct_ptq_equalize(oct_ptq_net *net, const oct_ptq_equalization *options, oct_ptq_equalized *report)
{
    equalizer e = {.net = net};
    for (int i = 0; i < net->layer_count; i++)
        if ((size_t)net->layers[i].outputs > e.stride) e.stride = (size_t)net->layers[i].outputs;
    e.pairs = oct_calloc((size_t)net->layer_count, sizeof *e.pairs);
    e.beta = oct_calloc((size_t)net->layer_count * e.stride, sizeof *e.beta);
    e.gamma = oct_calloc((size_t)net->layer_count * e.stride, sizeof *e.gamma);
    bool memory = e.pairs && e.beta && e.gamma;
    if (memory) run(&e, options, report);
    oct_free(e.pairs);
    oct_free(e.beta);
    oct_free(e.gamma);
    return memory ? OCT_OK : oct_out_of_memory(net->graph->ctx, "equalization");
}

/* --- clipping --- */

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double oct_ptq_weight_limit(float *magnitudes, size_t n)
{
    enum { RATIO = 16, LARGE = 15, MARGIN = 8 };
    if (!n) return 0;
    qsort(magnitudes, n, sizeof *magnitudes, ascending);
    double largest = (double)magnitudes[n - 1], median = (double)magnitudes[(n - 1) / 2];
    if (!(largest > LARGE) || !(largest > RATIO * median) || !(median > 0)) return 0;
    return ldexp(1, oct_ceil_exponent(fmin(largest, RATIO * median))) * (128 - MARGIN) / 128;
}

static int clip_layer(oct_graph *g, const oct_ptq_layer *l)
{
    size_t n;
    float *w = oct_graph_data(g, l->weight, &n), *magnitudes = oct_alloc(n, sizeof *magnitudes);
    if (!magnitudes) return -1;
    for (size_t i = 0; i < n; i++) magnitudes[i] = fabsf(w[i]);
    float limit = (float)oct_ptq_weight_limit(magnitudes, n);
    oct_free(magnitudes);
    for (size_t i = 0; i < n && limit > 0; i++) w[i] = fminf(fmaxf(w[i], -limit), limit);
    return limit > 0;
}

int oct_ptq_clip_weights(oct_ptq_net *net)
{
    int changed = 0;
    for (int i = 0; i < net->layer_count; i++) {
        const oct_ptq_layer *l = &net->layers[i];
        const oct_fake_quant_weight_attrs *a = oct_graph_node(net->graph, l->weight_quant)->attrs;
        int one = a->per_channel ? 0 : clip_layer(net->graph, l);
        if (one < 0) return -1;
        changed += one;
    }
    return changed;
}
