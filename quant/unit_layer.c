/* SPDX-License-Identifier: BSD-2-Clause
 * Forward of the fused layer step: sizes and memory, folding, convolution, live batch norm. What needs no statistics of the
 * batch is in unit_layer_frozen.c.
 *
 *   fold, pack -> convolution on codes -> batch norm live: statistics, affine, observe, codes     (three passes)
 *                                         frozen or none, ranges live: observe, requantize        (two)
 *                                         frozen or none, ranges frozen: the engine's own step    (one)
 */
#include "quant/unit_layer.h"

#include <math.h>
#include <string.h>

#include "autograd/base/par.h"
#include "quant/int8/requant.h"

enum {
    SUM_PIXELS = 32,       /* of oct_i8_kernels.acc_sums */
    MAKE_AGAIN = 16,       /* products per accumulator */
    BLOCK_ELEMENTS = 2048, /* of rows that are looked at together */
};

float *oct_layer_data(const oct_layer_job *job, const oct_node *n, int slot)
{
    return job->step->in[oct_unit_input_of(job->step->unit, n->inputs[slot])]->data;
}

/* The engine's description of this layer, writing 32-bit sums. */
static void describe_to_engine(oct_layer_job *job, int in_signed)
{
    const oct_conv_geometry *g = &job->geometry;
    bool linear = job->layer->op == &oct_op_linear;
    job->in_tensor = (oct_int8_tensor){.kind = OCT_INT8_CODES, .height = g->in_h, .width = g->in_w,
                                       .channels = g->in_c, .is_signed = in_signed};
    job->out_tensor = (oct_int8_tensor){.kind = OCT_INT8_SCORES, .height = g->out_h, .width = g->out_w,
                                        .channels = g->out_c};
    oct_int8_layer *l = &job->conv.layer;
    *l = (oct_int8_layer){.op = linear ? OCT_INT8_LINEAR : g->depthwise ? OCT_INT8_DEPTHWISE : OCT_INT8_CONV,
                          .name = job->layer->name, .input_count = 1};
    job->conv.in[0] = &job->in_tensor;
    job->conv.out = &job->out_tensor;
    if (!linear) {
        const oct_conv2d_attrs *a = job->layer->attrs;
        l->kernel_h = g->kernel_h, l->kernel_w = g->kernel_w;
        l->stride_h = g->stride_h, l->stride_w = g->stride_w;
        l->dilation_h = g->dilation_h, l->dilation_w = g->dilation_w;
        l->pad_top = a->pad[0], l->pad_left = a->pad[1], l->pad_bottom = a->pad[2], l->pad_right = a->pad[3];
        l->groups = a->groups;
    }
    oct_int8_plan_step(&job->conv, &job->kernels);
}

void oct_layer_job_init(oct_layer_job *job, const oct_graph *g, const oct_unit *unit, int in_signed)
{
    *job = (oct_layer_job){.layer = oct_unit_slot(g, unit, OCT_LAYER_OP),
                           .weight_fq = oct_unit_slot(g, unit, OCT_LAYER_WEIGHT),
                           .norm = oct_unit_slot(g, unit, OCT_LAYER_NORM),
                           .act = oct_unit_slot(g, unit, OCT_LAYER_ACT),
                           .fq = oct_unit_slot(g, unit, OCT_LAYER_FQ)};
    const oct_node *x = oct_node_input(g, job->layer, 0);
    job->weight = oct_node_input(g, job->weight_fq, OCT_FQW_W);
    const oct_fake_quant_weight_attrs *wa = job->weight_fq->attrs;
    if (wa->has_bias) job->bias = oct_node_input(g, job->weight_fq, job->weight_fq->input_count - 1);
    job->geometry = job->layer->op == &oct_op_linear ? oct_linear_geometry(job->layer, x)
                                                     : oct_conv_geometry_of(job->layer, x, job->weight_fq);
    /* Of backward. The narrow form takes codes and weights times powers of two, without zero points. */
    (wa->affine ? oct_conv_choose : oct_conv_choose_narrow)(&job->geometry, g->ctx);
    oct_i8_kernels_init(&job->kernels, g->ctx->cpu_mask);
    describe_to_engine(job, in_signed);
    job->outputs = oct_weight_outputs(&job->weight->shape, &job->outputs_last);
    job->per_output = job->weight->count / (size_t)job->outputs;
    job->in_sample = oct_shape_sample(&x->shape);
    job->out_sample = oct_shape_sample(&job->layer->shape);
    job->rows = job->geometry.out_h;
    job->row_elements = job->out_sample / (size_t)job->rows;
    /* Where mask bits of rows follow each other without a gap, short rows go together. */
    size_t together = job->row_elements % 8 == 0 ? BLOCK_ELEMENTS / job->row_elements : 1;
    job->block_rows = together < 1 ? 1 : together > (size_t)job->rows ? job->rows : (int)together;
    job->block_elements = ((size_t)job->block_rows * job->row_elements + 15) & ~(size_t)15;
}

size_t oct_layer_kept_place(oct_layer_job *job, void *base, int batch, bool training)
{
    oct_carve c = {.base = base};
    size_t outputs = (size_t)job->outputs;
    void *fold = oct_carve_take(&c, oct_fold_bytes(job->outputs, job->per_output), 1);
    if (fold) job->kept.fold = oct_fold_place(fold, job->outputs, job->per_output);
    job->kept.norm = oct_carve_take(&c, outputs, sizeof *job->kept.norm);
    job->kept.packed = oct_carve_take(&c, oct_int8_packed_bytes(&job->conv, &job->kernels), 1);
    job->kept.start = oct_carve_take(&c, oct_int8_start_count(&job->conv), sizeof *job->kept.start);
    job->kept.bits = NULL;
    if (training && job->fq)
        job->kept.bits = oct_carve_take(&c, (size_t)batch * (size_t)job->rows, oct_mask_row_bytes(job->row_elements));
    return c.used;
}

/* Whether backward makes accumulators again each time it needs them, instead of keeping those of the batch after the first
 * time: with few products each that costs no more than the memory traffic, and no memory. */
static bool makes_again(const oct_layer_job *job)
{
    return job->per_output <= MAKE_AGAIN;
}

static void place_backward(oct_layer_job *job, oct_carve *c, int batch, int threads)
{
    size_t n = (size_t)batch, outputs = (size_t)job->outputs;
    if (job->norm && !makes_again(job)) job->acc = oct_carve_take(c, n * job->out_sample, sizeof *job->acc);
    job->blocks = oct_carve_take(c, 2 * job->block_elements * sizeof *job->blocks, (size_t)threads);
    job->grad_sum = oct_carve_take(c, n * outputs, sizeof(double));
    job->grad_dot = oct_carve_take(c, n * outputs, sizeof(double));
    job->mean_f32 = oct_carve_take(c, outputs, sizeof(float));
    job->p = oct_carve_take(c, outputs, sizeof(float));
    job->q = oct_carve_take(c, outputs, sizeof(float));
    job->r = oct_carve_take(c, outputs, sizeof(float));
    job->unit = oct_carve_take(c, outputs, sizeof(float));
    job->s_f32 = oct_carve_take(c, outputs, sizeof(float));
    job->w_f32 = oct_carve_take(c, job->weight->count, sizeof(float));
    job->dw = oct_carve_take(c, job->weight->count, sizeof(float));
    job->conv_scratch = oct_carve_take(c, oct_conv_backward_scratch(&job->geometry, batch, threads, true), 1);
}

size_t oct_layer_scratch_place(oct_layer_job *job, void *base, int batch, int threads, bool backward, bool training)
{
    oct_carve c = {.base = base};
    size_t n = (size_t)batch, outputs = (size_t)job->outputs, t = (size_t)threads;
    job->engine_bytes = oct_size_align(job->conv.cut.image_bytes + job->conv.cut.acc_bytes);
    job->engine = oct_carve_take(&c, job->engine_bytes, t);
    job->thread_acc = oct_carve_take(&c, t * job->out_sample, sizeof(int32_t));
    job->a = oct_carve_take(&c, outputs, sizeof(float));
    job->b = oct_carve_take(&c, outputs, sizeof(float));
    if (backward) {
        place_backward(job, &c, batch, threads);
        return c.used;
    }
    job->low = oct_carve_take(&c, outputs, sizeof(int32_t));
    job->high = oct_carve_take(&c, outputs, sizeof(int32_t));
    job->shift = oct_carve_take(&c, outputs, 1);
    job->affine = oct_carve_take(&c, oct_layer_affine_bytes(job), 1);
    if (training) {
        job->acc = oct_carve_take(&c, n * job->out_sample, sizeof(int32_t));
        job->sums = oct_carve_take(&c, n * outputs, sizeof *job->sums);
        job->row_sums = oct_carve_take(&c, t * outputs, sizeof *job->row_sums);
        job->row_squares = oct_carve_take(&c, t * outputs, sizeof *job->row_squares);
        job->row_extrema = oct_carve_take(&c, 2 * t * outputs, sizeof *job->row_extrema);
        oct_point_carve(&job->point, &c, job->row_elements, batch, threads);
    } else {
        /* An evaluation plan keeps nothing between steps: the folded weights live in scratch. */
        void *block = oct_carve_take(&c, oct_layer_kept_place(job, NULL, batch, false), 1);
        if (block) oct_layer_kept_place(job, block, batch, false);
    }
    return c.used;
}

void oct_layer_job_start(oct_layer_job *job, oct_step *step, bool backward)
{
    oct_layer_job_init(job, step->graph, step->unit, step->in[0]->is_signed);
    job->step = step;
    job->in_tensor.scale = step->in[0]->scale;
    job->in_tensor.zero_point = step->in[0]->zero_point;
    job->positions = (int64_t)step->batch * job->rows * job->geometry.out_w;
    bool training = step->saved != NULL;
    if (training) oct_layer_kept_place(job, step->saved, step->batch, true);
    oct_layer_scratch_place(job, step->scratch, step->batch, step->ctx->threads, backward, training);
}

void oct_layer_convolve(const oct_layer_job *job, int32_t *acc, int64_t image, int thread)
{
    unsigned char *engine = job->engine + (size_t)thread * job->engine_bytes;
    const uint8_t *x = (const uint8_t *)job->step->in[0]->data + (size_t)image * job->in_sample;
    for (int row = 0; row < job->rows; row += job->conv.cut.rows_serial) {
        int end = row + job->conv.cut.rows_serial < job->rows ? row + job->conv.cut.rows_serial : job->rows;
        oct_int8_step_conv(&job->conv, &job->kernels, acc, x, engine, row, end);
    }
}

/* --- passes --- */

/* Sums of one image. The kernel takes at most 32 pixels, so that squares below 2^58 fit 64 bits. */
static void sum_image(const oct_layer_job *job, const int32_t *acc, oct_acc_sums *sums, int thread)
{
    size_t outputs = (size_t)job->outputs;
    int64_t *sum = job->row_sums + (size_t)thread * outputs;
    uint64_t *square = job->row_squares + (size_t)thread * outputs;
    int32_t *min = job->row_extrema + (size_t)thread * 2 * outputs, *max = min + outputs;
    int pixels = job->rows * job->geometry.out_w;
    for (size_t o = 0; o < outputs; o++) {
        sums[o] = (oct_acc_sums){0};
        min[o] = INT32_MAX;
        max[o] = INT32_MIN;
    }
    for (int at = 0; at < pixels; at += SUM_PIXELS) {
        int count = pixels - at < SUM_PIXELS ? pixels - at : SUM_PIXELS;
        memset(sum, 0, outputs * sizeof *sum);
        memset(square, 0, outputs * sizeof *square);
        job->kernels.acc_sums(sum, square, min, max, acc + (size_t)at * outputs, count, job->outputs);
        for (size_t o = 0; o < outputs; o++) {
            sums[o].sum += sum[o];
            sums[o].square += square[o];
        }
    }
    for (size_t o = 0; o < outputs; o++) {
        sums[o].min = min[o];
        sums[o].max = max[o];
    }
}

void oct_layer_convolve_item(void *arg, int64_t image, int thread)
{
    const oct_layer_job *job = arg;
    int32_t *acc = job->acc + (size_t)image * job->out_sample;
    oct_layer_convolve(job, acc, image, thread);
    if (job->norm) sum_image(job, acc, job->sums + (size_t)image * (size_t)job->outputs, thread);
}

static oct_status fold_and_pack(oct_layer_job *job, bool with_bias)
{
    const oct_node *wf = job->weight_fq;
    const oct_fake_quant_weight_attrs *attrs = wf->attrs;
    oct_fold_source src = {.weights = oct_layer_data(job, wf, OCT_FQW_W), .outputs = job->outputs,
                           .per_output = job->per_output, .outputs_last = job->outputs_last,
                           .bias = job->bias ? oct_layer_data(job, wf, wf->input_count - 1) : NULL,
                           .eps = attrs->eps, .input_exponent = job->step->in[0]->exponent,
                           .affine = attrs->affine, .input_scale = job->step->in[0]->scale,
                           .per_channel = attrs->per_channel};
    if (attrs->has_norm) {
        src.gamma = oct_layer_data(job, wf, OCT_FQW_GAMMA);
        src.beta = oct_layer_data(job, wf, OCT_FQW_BETA);
        src.mean = oct_layer_data(job, wf, OCT_FQW_MEAN);
        src.var = oct_layer_data(job, wf, OCT_FQW_VAR);
    }
    OCT_TRY(oct_fold_weights(&job->kept.fold, &src, job->layer->name, &job->step->ctx->error));
    oct_int8_layer l = job->conv.layer;
    l.weights = job->kept.fold.codes;
    l.bias = with_bias ? job->kept.fold.bias : NULL;
    oct_int8_pack_step(&job->conv, &l, &job->kernels, job->kept.packed, job->kept.start);
    return OCT_OK;
}

double oct_layer_unit(const oct_layer_job *job, int o)
{
    return (double)job->step->in[0]->scale * (double)job->kept.fold.scale[o];
}

oct_norm_channel oct_layer_channel(const oct_layer_job *job, int o)
{
    const oct_node *n = job->norm;
    return (oct_norm_channel){.attrs = n->attrs,
                              .gamma = oct_layer_data(job, n, OCT_BNF_GAMMA)[o],
                              .beta = oct_layer_data(job, n, OCT_BNF_BETA)[o],
                              .bias = job->bias ? oct_layer_data(job, n, OCT_BNF_BIAS)[o] : 0,
                              .s = job->kept.fold.s[o],
                              .unit = oct_layer_unit(job, o)};
}

static void add_sums(oct_acc_sums *to, const oct_acc_sums *from)
{
    to->sum += from->sum;
    to->square += from->square;
    if (from->min < to->min) to->min = from->min;
    if (from->max > to->max) to->max = from->max;
}

/* Statistics of the batch -> affine a, b per channel and the extrema of the normalised values. */
static oct_status normalise_live(oct_layer_job *job, float known[2])
{
    if (job->positions < 2)
        return oct_fail(&job->step->ctx->error, OCT_ERR_SHAPE, "'%s': batch statistics need more than one position",
                        job->norm->name);
    float *mean = oct_layer_data(job, job->norm, OCT_BNF_MEAN), *var = oct_layer_data(job, job->norm, OCT_BNF_VAR);
    known[0] = INFINITY;
    known[1] = -INFINITY;
    for (int o = 0; o < job->outputs; o++) {
        oct_acc_sums total = job->sums[o];
        for (int i = 1; i < job->step->batch; i++) add_sums(&total, &job->sums[(size_t)i * (size_t)job->outputs + (size_t)o]);
        oct_norm_channel c = oct_layer_channel(job, o);
        oct_norm_live(&c, &total, job->positions, job->kept.fold.dead[o], &mean[o], &var[o], &job->a[o], &job->b[o],
                      &job->kept.norm[o]);
        float y[2], a = job->a[o], b = job->b[o];
        int32_t ends[2] = {total.min, total.max};
        job->kernels.acc_affine(&y[0], &ends[0], &a, &b, 1, 1);
        job->kernels.acc_affine(&y[1], &ends[1], &a, &b, 1, 1);
        for (int i = 0; i < 2; i++) {
            if (!(y[i] >= known[0])) known[0] = y[i]; /* NaN is kept, and reported by the caller */
            if (!(y[i] <= known[1])) known[1] = y[i];
        }
    }
    return OCT_OK;
}

/* Values of one output row before the activation: y = (float)acc*a + b. */
static void affine_row(const void *arg, float *y, int64_t image, int row, int thread)
{
    const oct_layer_job *job = arg;
    (void)thread;
    const int32_t *acc = job->acc + (size_t)image * job->out_sample + (size_t)row * job->row_elements;
    job->kernels.acc_affine(y, acc, job->a, job->b, (size_t)job->geometry.out_w, job->outputs);
}

static void affine_picked(const void *arg, float *y, int64_t image, int row, int first, int step)
{
    const oct_layer_job *job = arg;
    size_t channels = (size_t)job->outputs;
    const int32_t *acc = job->acc + (size_t)image * job->out_sample + (size_t)row * job->row_elements;
    for (int p = first; p < job->geometry.out_w; p += step, y += channels)
        job->kernels.acc_affine(y, acc + (size_t)p * channels, job->a, job->b, 1, job->outputs);
}

oct_point_source oct_layer_acc_source(const oct_layer_job *job)
{
    return (oct_point_source){.row = affine_row, .picked = affine_picked, .arg = job, .rows = job->rows, .pixels = job->geometry.out_w,
                              .channels = job->outputs};
}

static oct_status forward_live(oct_layer_job *job, const oct_point *point)
{
    oct_step *step = job->step;
    oct_parallel_for(step->ctx->threads, step->batch, oct_layer_convolve_item, job);
    float known[2];
    OCT_TRY(normalise_live(job, known));
    if (!job->fq) { /* batch norm is the output layer */
        float *out = step->out->data;
        job->kernels.acc_affine(out, job->acc, job->a, job->b, (size_t)job->positions, job->outputs);
        return OCT_OK;
    }
    oct_point_source source = oct_layer_acc_source(job);
    if (point->observe_clamped) {
        for (int i = 0; i < 2; i++) step->f32->clamp(&known[i], &known[i], 1, point->act_lo, point->act_hi);
    }
    OCT_TRY(oct_point_observe(step, &job->kernels, point, &source, known, &job->point));
    oct_clip_codes clip = oct_point_grid(step, point);
    oct_point_codes(step, &job->kernels, point, &clip, &source, job->kept.bits, &job->point);
    return OCT_OK;
}

static void freeze_norm(oct_layer_job *job)
{
    const float *mean = oct_layer_data(job, job->norm, OCT_BNF_MEAN), *var = oct_layer_data(job, job->norm, OCT_BNF_VAR);
    for (int o = 0; o < job->outputs; o++) {
        oct_norm_channel c = oct_layer_channel(job, o);
        oct_norm_frozen(&c, mean[o], var[o], &job->kept.norm[o]);
    }
}

static oct_status layer_forward(oct_step *step)
{
    oct_layer_job job;
    oct_layer_job_start(&job, step, false);
    if (!step->in[0]->on_grid)
        return oct_fail(&step->ctx->error, OCT_ERR_STATE, "'%s': its input is not on a grid", job.layer->name);
    bool live = job.norm && step->run->mode == OCT_TRAIN && !step->run->bn_frozen;
    OCT_TRY(fold_and_pack(&job, !live));
    oct_point point = oct_point_of(step, job.act, job.fq);
    if (live) return forward_live(&job, &point);
    if (job.norm) freeze_norm(&job);
    return job.fq ? oct_layer_forward_frozen(&job, &point) : oct_layer_forward_scores(&job);
}

static size_t saved_bytes(const oct_graph *g, const oct_unit *unit, int batch, int threads)
{
    oct_layer_job job;
    (void)threads;
    size_t bytes = 0;
    for (int is_signed = 0; is_signed < 2; is_signed++) { /* the sign of the input is only known at run time */
        oct_layer_job_init(&job, g, unit, is_signed);
        size_t one = oct_layer_kept_place(&job, NULL, batch, true);
        if (one > bytes) bytes = one;
    }
    return bytes;
}

static size_t scratch_bytes(const oct_graph *g, const oct_unit *unit, int batch, int threads, bool backward)
{
    oct_layer_job job;
    size_t bytes = 0;
    for (int variant = 0; variant < 4; variant++) { /* sign of the input x training or evaluation plan */
        oct_layer_job_init(&job, g, unit, variant & 1);
        size_t one = oct_layer_scratch_place(&job, NULL, batch, threads, backward, variant >> 1);
        if (one > bytes) bytes = one;
    }
    return bytes;
}

/* Backward reads the input codes; the mask and the folded weights are saved. */
const oct_exec oct_exec_layer = {
    .name = "int8 layer", .forward = layer_forward, .backward = oct_layer_backward, .backward_reads = OCT_READS_INPUT(0),
    .out_storage = OCT_STORE_U8, .accepts_codes = 1, .saved_bytes = saved_bytes, .scratch_bytes = scratch_bytes,
};

const oct_exec oct_exec_layer_scores = {
    .name = "int8 scores", .forward = layer_forward, .backward = oct_layer_backward,
    .backward_reads = OCT_READS_INPUT(0), .out_storage = OCT_STORE_F32, .accepts_codes = 1,
    .saved_bytes = saved_bytes, .scratch_bytes = scratch_bytes,
};
