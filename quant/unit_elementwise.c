/* SPDX-License-Identifier: BSD-2-Clause
 * The fused step {add | sub | mul | concat | average pool | normalize | function of one code | nothing, relu | clip?, fake_quant}: values are made one row
 * at a time from codes, and leave as codes. Backward masks the gradient and hands it to the float op. */
#include <math.h>
#include <string.h>

#include "autograd/base/par.h"
#include "quant/int8/engine.h"
#include "quant/int8/requant.h"
#include "quant/pass.h"
#include "quant/unit_internal.h"

enum { EXACT_ADD_SPREAD = 14 /* exponents this close: the float sum of two codes is exact */ };

typedef struct element_job {
    oct_step *step;
    const oct_node *op, *act, *fq;   /* op may be NULL */
    const oct_node *value;           /* what is rounded: op, else the activation's or quantizer's input */
    oct_i8_kernels kernels;
    oct_point_memory point;
    uint8_t *bits;
    float *operand;                  /* threads x row: second operand */
    int32_t *pool;                   /* threads x channels */
    int table_rows;                  /* normalize of pixels, functions of one code; else 0 */
    uint8_t *table;                  /* table_rows x 256 codes */
    double *values;                  /* the same before rounding */
    oct_tensor *in[OCT_MAX_INPUTS];  /* operands */
    int operand_count;
    oct_int8_step engine;            /* affine: the op as it is deployed */
    oct_int8_tensor engine_in[OCT_INT8_MAX_INPUTS], engine_out;
    void *engine_memory;
    oct_tensor *observed;            /* NULL = the value in front of the activation, or behind a clip */
    int rows, pixels, channels;
    size_t sample, row_elements;
    oct_step inner;                  /* backward: the float op's step */
    oct_tensor inner_out, decoded[OCT_MAX_INPUTS];
    oct_unit inner_unit;
    float *decoded_data[OCT_MAX_INPUTS];
    void *inner_scratch;
} element_job;

static void job_init(element_job *job, const oct_graph *g, const oct_unit *unit)
{
    *job = (element_job){.op = oct_unit_slot(g, unit, OCT_POINT_OP), .act = oct_unit_slot(g, unit, OCT_POINT_ACT),
                         .fq = oct_unit_slot(g, unit, OCT_POINT_FQ)};
    oct_i8_kernels_init(&job->kernels, g->ctx->cpu_mask);
    const oct_node *first = job->act ? job->act : job->fq;
    job->value = job->op ? job->op : oct_node_input(g, first, 0);
    const oct_shape *s = &job->value->shape;
    job->sample = oct_shape_sample(s);
    job->rows = s->rank == 4 ? s->dim[1] : 1;
    job->channels = s->rank > 1 ? s->dim[s->rank - 1] : 1;
    job->row_elements = job->sample / (size_t)job->rows;
    job->pixels = (int)(job->row_elements / (size_t)job->channels);
    job->operand_count = job->op ? job->op->input_count : 1;
    if (job->op && job->op->op == &oct_op_normalize && oct_node_input(g, job->op, 0)->dtype == OCT_U8)
        job->table_rows = job->channels;
    if (job->op && oct_op_is_tabled(job->op->op)) job->table_rows = oct_table_rows(job->op);
}

static const oct_node *operand_node(const element_job *job, const oct_graph *g, int i)
{
    return job->op ? oct_node_input(g, job->op, i) : job->value;
}

/* Enough for any op of oct_int8_affine_bytes. */
static size_t engine_memory_bytes(void)
{
    return OCT_INT8_MAX_INPUTS * 256 > 2 * 256 * sizeof(int32_t) ? OCT_INT8_MAX_INPUTS * 256 : 2 * 256 * sizeof(int32_t);
}

static size_t place(element_job *job, const oct_graph *g, void *base, int batch, int threads, bool backward)
{
    oct_carve c = {.base = base};
    if (!backward) {
        oct_point_carve(&job->point, &c, job->row_elements, batch, threads);
        job->operand = oct_carve_take(&c, job->point.row_elements * sizeof(float), (size_t)threads);
        job->pool = oct_carve_take(&c, ((size_t)job->channels + 15) / 16 * 64, (size_t)threads);
        job->table = oct_carve_take(&c, 256, (size_t)job->table_rows);
        job->values = oct_carve_take(&c, 256 * sizeof(double), (size_t)job->table_rows);
        job->engine_memory = oct_carve_take(&c, engine_memory_bytes(), 1);
        return c.used;
    }
    if (!job->op) return c.used;
    const oct_exec *exec = &job->op->op->exec;
    for (int i = 0; i < job->operand_count; i++)
        if (exec->backward_reads & OCT_READS_INPUT(i))
            job->decoded_data[i] = oct_carve_take(&c, oct_node_elements(operand_node(job, g, i), batch), sizeof(float));
    oct_unit unit = {.exec = exec, .node_count = 1, .nodes = {job->op->id}, .last = job->op->id,
                     .input_count = job->op->input_count};
    memcpy(unit.inputs, job->op->inputs, sizeof unit.inputs);
    job->inner_unit = unit;
    if (exec->scratch_bytes) job->inner_scratch = oct_carve_take(&c, exec->scratch_bytes(g, &unit, batch, threads, true), 1);
    return c.used;
}

static void job_start(element_job *job, oct_step *step, bool backward)
{
    job_init(job, step->graph, step->unit);
    job->step = step;
    place(job, step->graph, step->scratch, step->batch, step->ctx->threads, backward);
    for (int i = 0; i < job->operand_count; i++)
        job->in[i] = step->in[oct_unit_input_of(step->unit, operand_node(job, step->graph, i)->id)];
    /* Pixels want no gradient, so nobody reads their mask. */
    bool pixels = job->op && job->op->op == &oct_op_normalize && job->in[0]->storage == OCT_STORE_U8;
    job->bits = step->run->mode == OCT_TRAIN && !pixels ? step->saved : NULL;
    int32_t observed = job->fq->inputs[OCT_FQ_OBSERVED];
    if (!job->act && !job->op && observed != job->value->id)
        job->observed = step->in[oct_unit_input_of(step->unit, observed)];
    /* Dropout does nothing in evaluation: the codes in front of it are re-scaled, as they are when deployed. */
    if (job->observed && step->run->mode == OCT_EVAL && job->value->op == &oct_op_dropout) job->in[0] = job->observed;
}

/* n values of operand t from element `at` on. */
static void read_operand(const element_job *job, float *y, const oct_tensor *t, size_t at, size_t n)
{
    if (t->storage == OCT_STORE_F32)
        memcpy(y, (const float *)t->data + at, n * sizeof *y);
    else
        job->kernels.dequantize(y, (const uint8_t *)t->data + at, n, t->scale, t->zero_point, t->is_signed);
}

static size_t row_start(const element_job *job, int64_t image, int row)
{
    return (size_t)image * job->sample + (size_t)row * job->row_elements;
}

/* --- values by op --- */

static void plain_row(const void *arg, float *y, int64_t image, int row, int thread)
{
    const element_job *job = arg;
    (void)thread;
    read_operand(job, y, job->in[0], row_start(job, image, row), job->row_elements);
}

/* What the range sees when it is not the rounded value: dropout's input, a ReLU's input. */
static void observed_row(const void *arg, float *y, int64_t image, int row, int thread)
{
    const element_job *job = arg;
    (void)thread;
    read_operand(job, y, job->observed, row_start(job, image, row), job->row_elements);
}

static void binary_row(const void *arg, float *y, int64_t image, int row, int thread)
{
    const element_job *job = arg;
    float *b = job->operand + (size_t)thread * job->point.row_elements;
    size_t at = row_start(job, image, row), n = job->row_elements;
    read_operand(job, y, job->in[0], at, n);
    read_operand(job, b, job->in[1], at, n);
    if (job->op->op == &oct_op_sub)
        for (size_t i = 0; i < n; i++) y[i] -= b[i];
    else
        (job->op->op == &oct_op_add ? job->step->f32->add : job->step->f32->mul)(y, y, b, n);
}

static void concat_row(const void *arg, float *y, int64_t image, int row, int thread)
{
    const element_job *job = arg;
    float *part = job->operand + (size_t)thread * job->point.row_elements;
    size_t offset = 0, pixels = (size_t)job->pixels, channels = (size_t)job->channels;
    for (int i = 0; i < job->operand_count; i++) {
        size_t own = job->in[i]->sample / ((size_t)job->rows * pixels);
        read_operand(job, part, job->in[i], (size_t)image * job->in[i]->sample + (size_t)row * pixels * own, pixels * own);
        for (size_t p = 0; p < pixels; p++) memcpy(y + p * channels + offset, part + p * own, own * sizeof *y);
        offset += own;
    }
}

/* Sums of n channels from `first` over the window of an output pixel; returns how many values each sum has. */
static int pool_sums(const element_job *job, int32_t *sum, int64_t image, int row, int column, int first, int n)
{
    const oct_shape *x = &oct_node_input(job->step->graph, job->op, 0)->shape;
    const oct_tensor *t = job->in[0];
    oct_pool_window w = oct_pool_window_at(job->op, x, row, column);
    ptrdiff_t pixel = job->channels, x_row = (ptrdiff_t)x->dim[2] * pixel;
    const uint8_t *codes = (const uint8_t *)t->data + (size_t)image * t->sample + w.top * x_row + w.left * pixel;
    job->kernels.pool_sum(sum, codes + first, w.rows, w.columns, x_row, pixel, n, t->is_signed);
    return w.rows * w.columns;
}

static void pool_row(const void *arg, float *y, int64_t image, int row, int thread)
{
    const element_job *job = arg;
    int32_t *sum = job->pool + (size_t)thread * (((size_t)job->channels + 15) / 16 * 16);
    for (int p = 0; p < job->pixels; p++) {
        int count = pool_sums(job, sum, image, row, p, 0, job->channels);
        double unit = (double)job->in[0]->scale;
        int32_t zero = count * job->in[0]->zero_point;
        for (int c = 0; c < job->channels; c++)
            y[(size_t)p * (size_t)job->channels + (size_t)c] = (float)((double)(sum[c] - zero) * unit / count);
    }
}

static double normalized(const element_job *job, int channel, double pixel)
{
    const oct_normalize_attrs *a = job->op->attrs;
    return (pixel - (double)a->mean[channel]) * (double)a->scale[channel];
}

static void normalize_row(const void *arg, float *y, int64_t image, int row, int thread)
{
    const element_job *job = arg;
    const float *x = (const float *)job->in[0]->data + row_start(job, image, row);
    (void)thread;
    for (int p = 0; p < job->pixels; p++)
        for (int c = 0; c < job->channels; c++) *y++ = (float)normalized(job, c, (double)*x++);
}

static void table_row(const void *arg, float *y, int64_t image, int row, int thread)
{
    const element_job *job = arg;
    const uint8_t *x = (const uint8_t *)job->in[0]->data + row_start(job, image, row);
    (void)thread;
    if (job->table_rows == 1)
        for (size_t i = 0; i < job->row_elements; i++) y[i] = (float)job->values[x[i]];
    else
        for (int p = 0; p < job->pixels; p++)
            for (int c = 0; c < job->channels; c++) *y++ = (float)job->values[c * 256 + *x++];
}

/* --- exact codes where the rounded float value is not enough --- */

static void far_add_codes(const void *arg, uint8_t *codes, int64_t image, int row, const oct_clip_codes *grid)
{
    const element_job *job = arg;
    const oct_tensor *a = job->in[0], *b = job->in[1];
    size_t at = row_start(job, image, row);
    int k = a->exponent > b->exponent ? a->exponent : b->exponent;
    (job->op->op == &oct_op_sub ? job->kernels.sub : job->kernels.add)(
        codes, (const uint8_t *)a->data + at, (const uint8_t *)b->data + at, job->row_elements, a->is_signed, b->is_signed,
        k - a->exponent, k - b->exponent, k - grid->exponent, grid->lo, grid->hi);
}

static void pool_codes(const void *arg, uint8_t *codes, int64_t image, int row, const oct_clip_codes *grid)
{
    enum { CHANNELS = 256 }; /* at a time: the sums stay on the stack */
    const element_job *job = arg;
    int32_t sum[CHANNELS];
    int up = grid->exponent - job->in[0]->exponent;
    for (int p = 0; p < job->pixels; p++) {
        for (int c = 0; c < job->channels; c += CHANNELS) {
            int n = job->channels - c < CHANNELS ? job->channels - c : CHANNELS;
            int count = pool_sums(job, sum, image, row, p, c, n);
            uint8_t *out = codes + (size_t)p * (size_t)job->channels + (size_t)c;
            if (grid->affine) {
                oct_int8_affine_average(&job->engine, out, sum, count, n);
                continue;
            }
            for (int i = 0; i < n; i++)
                out[i] = (uint8_t)oct_clamp_i32(oct_average_round(sum[i], count, up), grid->lo, grid->hi);
        }
    }
}

/* Profile affine: add, sub, mul, concat and re-scaling are the engine's own. `codes` is row `row` of the image. */
static void engine_codes(const void *arg, uint8_t *codes, int64_t image, int row, const oct_clip_codes *grid)
{
    const element_job *job = arg;
    const uint8_t *in[OCT_INT8_MAX_INPUTS];
    size_t first = (size_t)row * (size_t)job->pixels;
    (void)grid; /* in the step */
    for (int i = 0; i < job->operand_count; i++)
        in[i] = (const uint8_t *)job->in[i]->data + (size_t)image * job->in[i]->sample;
    oct_int8_affine_rows(&job->engine, &job->kernels, codes - first * (size_t)job->channels, in, first,
                         (size_t)job->pixels);
}

static void table_codes(const void *arg, uint8_t *codes, int64_t image, int row, const oct_clip_codes *grid)
{
    const element_job *job = arg;
    (void)grid; /* in the table */
    size_t pixels = job->table_rows == 1 ? job->row_elements : (size_t)job->pixels;
    job->kernels.lookup(codes, (const uint8_t *)job->in[0]->data + row_start(job, image, row), job->table, pixels,
                        job->table_rows);
}

static bool is_affine(const element_job *job)
{
    return ((const oct_fake_quant_attrs *)job->fq->attrs)->rounding != OCT_INT8_ROUND_SHIFT;
}

/* Every operand is there as codes. */
static bool on_codes(const element_job *job)
{
    for (int i = 0; i < job->operand_count; i++)
        if (job->in[i]->storage != OCT_STORE_U8 || !job->in[i]->on_grid) return false;
    return true;
}

static oct_point_source source_of(const element_job *job)
{
    oct_point_source s = {.row = plain_row, .arg = job, .rows = job->rows, .pixels = job->pixels,
                          .channels = job->channels};
    const oct_op *op = job->op ? job->op->op : NULL;
    if (job->table_rows) {
        s.row = table_row;
        s.codes = table_codes;
    } else if (op == &oct_op_add || op == &oct_op_sub || op == &oct_op_mul) {
        s.row = binary_row;
        int spread = is_affine(job) ? 0 : job->in[0]->exponent - job->in[1]->exponent;
        if (op != &oct_op_mul && (spread > EXACT_ADD_SPREAD || spread < -EXACT_ADD_SPREAD)) s.codes = far_add_codes;
    } else if (op == &oct_op_concat) {
        s.row = concat_row;
    } else if (op == &oct_op_average_pool || op == &oct_op_global_average_pool) {
        s.row = pool_row;
        s.codes = pool_codes;
    } else if (op == &oct_op_normalize) {
        s.row = normalize_row;
    }
    if (is_affine(job) && on_codes(job) && !s.codes) s.codes = engine_codes;
    return s;
}

/* The op as the engine runs it, writing codes of `grid`; pools need no more than their scales. */
static void prepare_engine(element_job *job, const oct_clip_codes *grid)
{
    const oct_fake_quant_attrs *attrs = job->fq->attrs;
    const oct_op *op = job->op ? job->op->op : NULL;
    oct_int8_step *s = &job->engine;
    s->layer = (oct_int8_layer){.op = op == &oct_op_add      ? OCT_INT8_ADD
                                      : op == &oct_op_sub    ? OCT_INT8_SUB
                                      : op == &oct_op_mul    ? OCT_INT8_MUL
                                      : op == &oct_op_concat ? OCT_INT8_CONCAT
                                      : op                   ? OCT_INT8_AVERAGE_POOL
                                                             : OCT_INT8_RESCALE,
                                .input_count = job->operand_count, .out_lo = grid->lo, .out_hi = grid->hi};
    for (int i = 0; i < job->operand_count; i++) {
        const oct_tensor *t = job->in[i];
        int channels = op == &oct_op_concat ? (int)(t->sample / ((size_t)job->rows * (size_t)job->pixels)) : job->channels;
        job->engine_in[i] = (oct_int8_tensor){.kind = OCT_INT8_CODES, .channels = channels, .scale = t->scale,
                                              .zero_point = t->zero_point};
        s->in[i] = &job->engine_in[i];
    }
    job->engine_out = (oct_int8_tensor){.kind = OCT_INT8_CODES, .channels = job->channels, .scale = grid->scale,
                                        .zero_point = grid->zero_point};
    s->out = &job->engine_out;
    oct_int8_affine_prepare(s, (oct_int8_rounding)attrs->rounding, NULL, 0, job->engine_memory);
}

void oct_normalize_table(uint8_t *table, const oct_normalize_attrs *a, int channels, const oct_clip_codes *clip)
{
    for (int c = 0; c < channels; c++) {
        double values[256];
        for (int p = 0; p < 256; p++) values[p] = ((double)p - (double)a->mean[c]) * (double)a->scale[c];
        oct_table_codes(table + 256 * c, values, 256, clip);
    }
}

static void fill_values(const element_job *job)
{
    if (!job->table_rows) return;
    const oct_tensor *x = job->in[0];
    const float *slopes = job->op->op == &oct_op_prelu ? job->in[1]->data : NULL;
    if (job->op->op != &oct_op_normalize)
        oct_table_values(job->values, job->op, slopes, (double)x->scale, x->zero_point, x->is_signed);
    else
        for (int i = 0; i < 256 * job->table_rows; i++) job->values[i] = normalized(job, i / 256, i % 256);
}

static oct_status point_forward(oct_step *step)
{
    element_job job;
    job_start(&job, step, false);
    oct_point point = oct_point_of(step, job.act, job.fq);
    oct_point_source source = source_of(&job);
    fill_values(&job);
    oct_point_source observed = source;
    if (job.observed) observed.row = observed_row;
    OCT_TRY(oct_point_observe(step, &job.kernels, &point, &observed, NULL, &job.point));
    oct_clip_codes clip = oct_point_grid(step, &point);
    oct_table_codes(job.table, job.values, 256 * (size_t)job.table_rows, &clip);
    if (clip.affine && source.codes && !job.table_rows) prepare_engine(&job, &clip);
    oct_point_codes(step, &job.kernels, &point, &clip, &source, job.bits, &job.point);
    return OCT_OK;
}

/* --- backward --- */

typedef struct decode_all_job {
    const element_job *job;
    int operand;
} decode_all_job;

static void decode_operand(void *arg, int64_t image, int thread)
{
    const decode_all_job *d = arg;
    (void)thread;
    const oct_tensor *t = d->job->in[d->operand];
    size_t at = (size_t)image * t->sample;
    read_operand(d->job, d->job->decoded_data[d->operand] + at, t, at, t->sample);
}

/* The float op's step: its inputs decoded where its backward reads them, its gradients ours. */
static oct_status op_backward(element_job *job)
{
    oct_step *step = job->step, *inner = &job->inner;
    *inner = *step;
    inner->unit = &job->inner_unit;
    inner->node = job->op;
    inner->input_count = job->op->input_count;
    inner->out = &job->inner_out;
    inner->scratch = job->inner_scratch;
    inner->saved = NULL;
    job->inner_out = (oct_tensor){.sample = job->sample, .storage = OCT_STORE_F32};
    for (int i = 0; i < job->operand_count; i++) {
        int slot = oct_unit_input_of(step->unit, job->op->inputs[i]);
        job->decoded[i] = (oct_tensor){.data = job->decoded_data[i], .sample = job->in[i]->sample,
                                       .storage = OCT_STORE_F32};
        bool codes = job->in[i]->storage == OCT_STORE_U8;
        if (!codes) job->decoded[i].data = job->in[i]->data; /* floats: a prelu's slopes */
        if (job->decoded_data[i] && codes) {
            decode_all_job d = {job, i};
            oct_parallel_for(step->ctx->threads, step->batch, decode_operand, &d);
        }
        inner->in[i] = &job->decoded[i];
        inner->d_in[i] = step->d_in[slot];
        inner->accumulate[i] = step->accumulate[slot];
        for (int j = 0; j < i; j++) /* the same value twice: the second contribution adds */
            if (job->op->inputs[j] == job->op->inputs[i]) inner->accumulate[i] = 1;
    }
    return job->op->op->exec.backward ? job->op->op->exec.backward(inner) : OCT_OK;
}

static oct_status point_backward(oct_step *step)
{
    element_job job;
    job_start(&job, step, true);
    float *d = step->d_out->data;
    if (job.bits) oct_point_mask(step, &job.kernels, d, job.bits, job.rows, job.row_elements);
    if (job.op) return op_backward(&job);
    int slot = oct_unit_input_of(step->unit, job.value->id);
    if (step->d_in[slot])
        oct_copy_or_add(step->f32, step->d_in[slot]->data, d, (size_t)step->batch * job.sample, step->accumulate[slot]);
    return OCT_OK;
}

static size_t saved_bytes(const oct_graph *g, const oct_unit *unit, int batch, int threads)
{
    element_job job;
    (void)threads;
    job_init(&job, g, unit);
    return (size_t)batch * (size_t)job.rows * oct_mask_row_bytes(job.row_elements);
}

static size_t scratch_bytes(const oct_graph *g, const oct_unit *unit, int batch, int threads, bool backward)
{
    element_job job;
    job_init(&job, g, unit);
    return place(&job, g, NULL, batch, threads, backward);
}

/* mul and functions of one code read their operands again; the others need nothing but the mask. */
const oct_exec oct_exec_point = {
    .name = "codes", .forward = point_forward, .backward = point_backward, .out_storage = OCT_STORE_U8,
    .backward_reads = 0, .accepts_codes = (1u << OCT_MAX_INPUTS) - 1, .saved_bytes = saved_bytes,
    .scratch_bytes = scratch_bytes,
};
const oct_exec oct_exec_point_operands = {
    .name = "codes", .forward = point_forward, .backward = point_backward, .out_storage = OCT_STORE_U8,
    .backward_reads = OCT_READS_INPUT(0) | OCT_READS_INPUT(1), .accepts_codes = (1u << OCT_MAX_INPUTS) - 1,
    .saved_bytes = saved_bytes, .scratch_bytes = scratch_bytes,
};
