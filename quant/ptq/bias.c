/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/ptq/bias.h"

#include <math.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "quant/copy.h"

static const double default_factor = 0.05;

/* Per-channel sums of one layer's output. */
typedef struct channel_sums {
    double *sum;
    int64_t rows;
} channel_sums;

typedef struct job {
    oct_ptq_net *net;
    const oct_ptq_images *images;
    oct_graph *twin, *simulation;
    oct_tap *twin_tap, *simulation_tap;
    oct_value *values;
    int *layer_at;              /* by node id: the layer whose output it is, -1 = none */
    channel_sums *expected, *found;
    double *block;
    double factor;
    uint64_t seed;
    int64_t step;
    int target;                 /* correction: the layer that is measured */
} job;

static void add_rows(channel_sums *s, const float *x, size_t count, size_t channels)
{
    for (size_t i = 0; i < count; i += channels)
        for (size_t c = 0; c < channels; c++) s->sum[c] += (double)x[i + c];
    s->rows += (int64_t)(count / channels);
}

static void clear_sums(channel_sums *s, int outputs)
{
    memset(s->sum, 0, (size_t)outputs * sizeof *s->sum);
    s->rows = 0;
}

static oct_status allocate(job *j)
{
    const oct_ptq_net *net = j->net;
    size_t layers = (size_t)net->layer_count, channels = 0, used = 0;
    for (int i = 0; i < net->layer_count; i++) channels += (size_t)net->layers[i].outputs;
    j->values = oct_calloc(layers + 2 * (size_t)net->point_count, sizeof *j->values);
    j->layer_at = oct_calloc((size_t)net->graph->node_count, sizeof *j->layer_at);
    j->expected = oct_calloc(layers, sizeof *j->expected);
    j->found = oct_calloc(layers, sizeof *j->found);
    j->block = oct_calloc(2 * channels, sizeof *j->block);
    if (!j->values || !j->layer_at || !j->expected || !j->found || !j->block)
        return oct_out_of_memory(net->graph->ctx, "bias correction");
    for (int32_t i = 0; i < net->graph->node_count; i++) j->layer_at[i] = -1;
    for (int i = 0; i < net->layer_count; i++) {
        j->layer_at[net->layers[i].output.id] = i;
        j->values[i] = net->layers[i].output;
        j->expected[i].sum = j->block + used;
        j->found[i].sum = j->block + channels + used;
        used += (size_t)net->layers[i].outputs;
    }
    return OCT_OK;
}

static oct_status open_job(job *j, bool observes)
{
    const oct_ptq_net *net = j->net;
    OCT_TRY(allocate(j));
    OCT_TRY(oct_ptq_float_twin(&j->twin, net));
    OCT_TRY(oct_tap_create(&j->twin_tap, j->twin, net->image, j->values, net->layer_count));
    OCT_TRY(oct_ptq_simulation(&j->simulation, net, NULL));
    int count = net->layer_count;
    for (int i = 0; i < net->point_count && observes; i++) {
        const oct_node *observed = oct_graph_node(net->graph, net->points[i].observed);
        if (observed->kind == OCT_NODE_OP) j->values[count++] = net->points[i].observed;
    }
    OCT_TRY(oct_tap_create(&j->simulation_tap, j->simulation, net->image, j->values, count));
    for (int i = 0; i < net->layer_count; i++) {
        const oct_ptq_layer *l = &net->layers[i];
        OCT_TRY(oct_ptq_write_weights(j->simulation, net, l));
        if (l->bias.id < 0) continue; /* not rounded yet: it is what moves */
        memcpy(oct_graph_data(j->simulation, l->bias, NULL), oct_graph_data(net->graph, l->bias, NULL),
               (size_t)l->outputs * sizeof(float));
    }
    return OCT_OK;
}

static void close_job(job *j)
{
    oct_tap_destroy(j->twin_tap);
    oct_tap_destroy(j->simulation_tap);
    oct_graph_destroy(j->twin);
    oct_graph_destroy(j->simulation);
    oct_free(j->values);
    oct_free(j->layer_at);
    oct_free(j->expected);
    oct_free(j->found);
    oct_free(j->block);
}

static oct_status measure_float(job *j, int64_t batch)
{
    OCT_TRY(oct_tap_run(j->twin_tap, j->images, batch));
    for (int i = 0; i < j->net->layer_count; i++) {
        size_t n;
        const float *x = oct_tap_floats(j->twin_tap, i, &n);
        if (!x) return oct_out_of_memory(j->net->graph->ctx, "bias correction");
        add_rows(&j->expected[i], x, n, (size_t)j->net->layers[i].outputs);
    }
    return OCT_OK;
}

/* Moves a layer's bias by share*(expected - found) in both graphs; `x` (may be NULL) follows. */
static void move_bias(job *j, int layer, double share, float *x, size_t count)
{
    const oct_ptq_layer *l = &j->net->layers[layer];
    if (l->bias.id < 0 || !j->found[layer].rows || !j->expected[layer].rows) return;
    float *own = oct_graph_data(j->net->graph, l->bias, NULL), *simulated = oct_graph_data(j->simulation, l->bias, NULL);
    for (int c = 0; c < l->outputs; c++) {
        double expected = j->expected[layer].sum[c] / (double)j->expected[layer].rows;
        double found = j->found[layer].sum[c] / (double)j->found[layer].rows, delta = share * (expected - found);
        own[c] = simulated[c] = (float)((double)own[c] + delta);
        for (size_t i = (size_t)c; x && i < count; i += (size_t)l->outputs) x[i] = (float)((double)x[i] + delta);
    }
}

/* --- TI's calibration --- */

/* Observation of one batch as training makes it (docs/quantization.md 2.9). */
static bool observe_batch(float *lo, float *hi, const job *j, const oct_ptq_point *p, const float *x, size_t count)
{
    const oct_node *n = oct_graph_node(j->net->graph, p->quant);
    const oct_shape *s = &n->shape;
    oct_bounds seen;
    if (oct_extrema_of(&seen, x, count)) return false;
    *lo = (float)seen.lo;
    *hi = (float)seen.hi;
    float shrink = ((const oct_fake_quant_attrs *)n->attrs)->shrink;
    if (!(shrink > 0) || !(*hi > *lo)) return true;
    int phase[2], stride = s->rank == 4 && s->dim[1] > 4 && s->dim[2] > 4 ? 2 : 1;
    oct_range_phase(phase, j->seed, n->id, (uint64_t)j->step);
    if (stride == 1) phase[0] = phase[1] = 0;
    size_t channels = (size_t)s->dim[s->rank - 1], columns = s->rank == 4 ? (size_t)s->dim[2] : 1;
    size_t rows = s->rank == 4 ? (size_t)s->dim[1] : 1;
    uint32_t counts[OCT_RANGE_BINS] = {0};
    float mult = oct_range_bin_scale(*lo, *hi);
    for (size_t i = 0; i < count; i++) {
        size_t pixel = i / channels % (rows * columns);
        if (stride == 2 && ((int)(pixel / columns % 2) != phase[0] || (int)(pixel % columns % 2) != phase[1])) continue;
        float place = nearbyintf((x[i] - *lo) * mult);
        counts[place >= OCT_RANGE_BINS ? OCT_RANGE_BINS - 1 : (int)place]++;
    }
    float m = *lo, M = *hi;
    oct_range_shrink(lo, hi, counts, m, M, shrink);
    return true;
}

static oct_status calibrate_value(void *user, oct_value value, float *x, size_t count, size_t channels)
{
    job *j = user;
    int layer = j->layer_at[value.id];
    if (layer >= 0) {
        clear_sums(&j->found[layer], j->net->layers[layer].outputs);
        add_rows(&j->found[layer], x, count, channels);
        move_bias(j, layer, j->factor, x, count);
    }
    for (int i = 0; i < j->net->point_count; i++) {
        const oct_ptq_point *p = &j->net->points[i];
        float lo, hi;
        if (p->observed.id != value.id || p->fixed) continue;
        if (!observe_batch(&lo, &hi, j, p, x, count))
            return oct_fail(&j->net->graph->ctx->error, OCT_ERR_NUMERIC, "calibration: '%s' is not finite",
                            oct_graph_node(j->net->graph, value)->name);
        float *range = oct_ptq_range(j->net->graph, p);
        oct_range_update(range, lo, hi);
        memcpy(oct_ptq_range(j->simulation, p), range, OCT_RANGE_FLOATS * sizeof *range);
    }
    return OCT_OK;
}

static oct_status calibrate(job *j, int64_t steps, const oct_ptq_progress *progress)
{
    int64_t batches = oct_ptq_batches(j->images);
    oct_tap_watch(j->simulation_tap, calibrate_value, j);
    for (j->step = 0; j->step < steps; j->step++) {
        for (int i = 0; i < j->net->layer_count; i++) clear_sums(&j->expected[i], j->net->layers[i].outputs);
        OCT_TRY(measure_float(j, j->step % batches));
        OCT_TRY(oct_tap_run(j->simulation_tap, j->images, j->step % batches));
        OCT_TRY(oct_ptq_step(progress, j->step + 1, steps));
    }
    return OCT_OK;
}

oct_status oct_ptq_calibrate_biases(oct_ptq_net *net, const oct_ptq_images *images,
                                    const oct_ptq_bias_calibration *o, const oct_ptq_progress *progress)
{
    int64_t steps = o->steps > 0 ? o->steps : OCT_PTQ_CALIBRATION_STEPS, all = oct_ptq_batches(images);
    job j = {.net = net, .images = images, .factor = o->factor > 0 ? o->factor : default_factor, .seed = o->seed};
    for (int i = 0; i < net->point_count; i++)
        if (!net->points[i].fixed)
            oct_range_init(oct_ptq_range(net->graph, &net->points[i]), net->points[i].sign);
    oct_status status = open_job(&j, true);
    if (status == OCT_OK) status = calibrate(&j, steps > all ? steps : all, progress);
    close_job(&j);
    return status;
}

/* --- correction --- */

static oct_status find_target(void *user, oct_value value, float *x, size_t count, size_t channels)
{
    job *j = user;
    if (j->layer_at[value.id] != j->target) return OCT_OK;
    add_rows(&j->found[j->target], x, count, channels);
    return OCT_END; /* what comes behind is not needed */
}

static oct_status correct(job *j, const oct_ptq_progress *progress)
{
    int64_t batches = oct_ptq_batches(j->images);
    for (int64_t b = 0; b < batches; b++) OCT_TRY(measure_float(j, b));
    oct_tap_watch(j->simulation_tap, find_target, j);
    for (int i = 0; i < j->net->layer_count; i++) {
        j->target = i;
        for (int64_t b = 0; b < batches; b++) {
            OCT_TRY(oct_tap_run(j->simulation_tap, j->images, b));
            OCT_TRY(oct_ptq_step(progress, i * batches + b + 1, j->net->layer_count * batches));
        }
        move_bias(j, i, 1, NULL, 0);
    }
    return OCT_OK;
}

oct_status oct_ptq_correct_biases(oct_ptq_net *net, const oct_ptq_images *images, const oct_ptq_progress *progress)
{
    job j = {.net = net, .images = images};
    oct_status status = open_job(&j, false);
    if (status == OCT_OK) status = correct(&j, progress);
    close_job(&j);
    return status;
}
