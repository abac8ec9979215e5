/* SPDX-License-Identifier: BSD-2-Clause
 * The end of every fused step: observe the range, round to codes, keep the mask. Work is cut by image; partial extrema
 * and histograms are combined in image order (they are exact, so the order does not matter). */
#include <math.h>
#include <string.h>

#include "autograd/base/par.h"
#include "quant/int8/requant.h"
#include "quant/unit_internal.h"

enum {
    SUBSAMPLE_MIN = 4,
    PICKED_ELEMENTS = 2048, /* of short rows that the histogram counts in one call */
};

int oct_unit_input_of(const oct_unit *unit, int32_t id)
{
    for (int i = 0; i < unit->input_count; i++)
        if (unit->inputs[i] == id) return i;
    return -1;
}

void oct_activation_limits(const oct_node *act, float *lo, float *hi)
{
    *lo = -INFINITY;
    *hi = INFINITY;
    if (act && act->op == &oct_op_relu) {
        *lo = 0;
    } else if (act) {
        const oct_clip_attrs *clip = act->attrs;
        *lo = clip->lo;
        *hi = clip->hi;
    }
}

oct_point oct_point_of(const oct_step *step, const oct_node *act, const oct_node *fq)
{
    oct_point p = {.fq = fq, .observe_clamped = act && act->op != &oct_op_relu};
    oct_activation_limits(act, &p.act_lo, &p.act_hi);
    if (fq) p.range = step->in[oct_unit_input_of(step->unit, fq->inputs[OCT_FQ_RANGE])]->data;
    return p;
}

void oct_point_carve(oct_point_memory *m, oct_carve *carve, size_t row_elements, int batch, int threads)
{
    m->row_elements = (row_elements + 15) & ~(size_t)15;
    m->rows = oct_carve_take(carve, m->row_elements * sizeof(float), (size_t)threads);
    m->picked_elements = m->row_elements < PICKED_ELEMENTS ? PICKED_ELEMENTS : m->row_elements;
    m->picked = oct_carve_take(carve, m->picked_elements * sizeof(float), (size_t)threads);
    m->extrema = oct_carve_take(carve, 2 * sizeof(float), (size_t)batch);
    m->non_finite = oct_carve_take(carve, sizeof(uint32_t), (size_t)batch);
    m->counts = oct_carve_take(carve, OCT_RANGE_BINS * sizeof(uint32_t), (size_t)batch);
}

typedef struct point_job {
    oct_step *step;
    const oct_i8_kernels *k;
    const oct_point *point;
    const oct_point_source *source;
    const oct_point_memory *memory;
    int phase[2], stride[2]; /* of rows and pixels in the histogram */
    float lo, mult;
    const oct_clip_codes *clip;
    uint8_t *bits;
    float *d;
    int rows;
    size_t row_elements;
} point_job;

static float *thread_row(const point_job *job, int thread)
{
    return job->memory->rows + (size_t)thread * job->memory->row_elements;
}

static void read_observed(const point_job *job, float *y, int64_t image, int row, int thread)
{
    const oct_point_source *s = job->source;
    s->row(s->arg, y, image, row, thread);
    if (job->point->observe_clamped)
        job->step->f32->clamp(y, y, (size_t)s->pixels * (size_t)s->channels, job->point->act_lo, job->point->act_hi);
}

static void extrema_of_image(void *arg, int64_t image, int thread)
{
    const point_job *job = arg;
    float *y = thread_row(job, thread), *extrema = job->memory->extrema + 2 * image;
    size_t bad = 0, n = (size_t)job->source->pixels * (size_t)job->source->channels;
    extrema[0] = INFINITY;
    extrema[1] = -INFINITY;
    for (int r = 0; r < job->source->rows; r++) {
        read_observed(job, y, image, r, thread);
        bad += job->k->min_max(&extrema[0], &extrema[1], y, n);
    }
    job->memory->non_finite[image] = bad > 0;
}

/* What the histogram counts of one row: every stride-th pixel from the phase on; returns how many values. */
static size_t pick_row(const point_job *job, float *kept, int64_t image, int row, int thread)
{
    const oct_point_source *s = job->source;
    size_t channels = (size_t)s->channels, n = 0;
    if (s->picked) {
        s->picked(s->arg, kept, image, row, job->phase[1], job->stride[1]);
        n = (size_t)((s->pixels - job->phase[1] + job->stride[1] - 1) / job->stride[1]) * channels;
        if (job->point->observe_clamped)
            job->step->f32->clamp(kept, kept, n, job->point->act_lo, job->point->act_hi);
        return n;
    }
    float *y = thread_row(job, thread);
    read_observed(job, y, image, row, thread);
    for (int p = job->phase[1]; p < s->pixels; p += job->stride[1], n += channels)
        memcpy(kept + n, y + (size_t)p * channels, channels * sizeof *y);
    return n;
}

static void histogram_of_image(void *arg, int64_t image, int thread)
{
    const point_job *job = arg;
    const oct_point_source *s = job->source;
    float *kept = job->memory->picked + (size_t)thread * job->memory->picked_elements;
    uint32_t *counts = job->memory->counts + image * OCT_RANGE_BINS;
    size_t row_elements = (size_t)s->pixels * (size_t)s->channels, n = 0;
    memset(counts, 0, OCT_RANGE_BINS * sizeof *counts);
    for (int r = job->phase[0]; r < s->rows; r += job->stride[0]) {
        if (n + row_elements > job->memory->picked_elements) {
            job->k->histogram(counts, kept, n, job->lo, job->mult);
            n = 0;
        }
        n += pick_row(job, kept + n, image, r, thread);
    }
    job->k->histogram(counts, kept, n, job->lo, job->mult);
}

static oct_status batch_extrema(point_job *job, float *m, float *M)
{
    oct_step *step = job->step;
    oct_parallel_for(step->ctx->threads, step->batch, extrema_of_image, job);
    *m = INFINITY;
    *M = -INFINITY;
    bool bad = false;
    for (int i = 0; i < step->batch; i++) {
        const float *e = job->memory->extrema + 2 * (size_t)i;
        if (e[0] < *m) *m = e[0];
        if (e[1] > *M) *M = e[1];
        bad |= job->memory->non_finite[i] != 0;
    }
    if (!bad) return OCT_OK;
    return oct_fail(&step->ctx->error, OCT_ERR_NUMERIC, "'%s': its input holds NaN or infinite values",
                    job->point->fq->name);
}

oct_status oct_point_observe(oct_step *step, const oct_i8_kernels *k, const oct_point *point,
                             const oct_point_source *source, const float known[2], const oct_point_memory *memory)
{
    const oct_fake_quant_attrs *attrs = point->fq->attrs;
    point_job job = {.step = step, .k = k, .point = point, .source = source, .memory = memory, .stride = {1, 1}};
    float m, M;
    if (step->run->mode != OCT_TRAIN) return OCT_OK;
    if (step->run->range_frozen) {
        oct_range_count(point->range);
        return OCT_OK;
    }
    if (known) {
        m = known[0];
        M = known[1];
        if (!isfinite(m) || !isfinite(M))
            return oct_fail(&step->ctx->error, OCT_ERR_NUMERIC, "'%s': its input holds NaN or infinite values",
                            point->fq->name);
    } else {
        OCT_TRY(batch_extrema(&job, &m, &M));
    }
    if (attrs->shrink > 0 && M > m) {
        if (source->rows > SUBSAMPLE_MIN && source->pixels > SUBSAMPLE_MIN) {
            oct_range_phase(job.phase, step->run->seed, point->fq->id, step->run->step);
            job.stride[0] = job.stride[1] = 2;
        }
        job.lo = m;
        job.mult = oct_range_bin_scale(m, M);
        oct_parallel_for(step->ctx->threads, step->batch, histogram_of_image, &job);
        uint32_t *total = memory->counts;
        for (int i = 1; i < step->batch; i++)
            for (int b = 0; b < OCT_RANGE_BINS; b++) total[b] += memory->counts[(size_t)i * OCT_RANGE_BINS + (size_t)b];
        float lo, hi;
        oct_range_shrink(&lo, &hi, total, m, M, attrs->shrink);
        m = lo;
        M = hi;
    }
    oct_grid_observe(point->range, (oct_averaging)attrs->averaging, m, M);
    return OCT_OK;
}

oct_clip_codes oct_point_clip(const float *range, const oct_node *fq, float act_lo, float act_hi)
{
    const oct_fake_quant_attrs *attrs = fq->attrs;
    oct_clip_codes c = oct_grid_of_range(range, (oct_sign)attrs->sign, (oct_int8_rounding)attrs->rounding);
    if (act_lo > -INFINITY) c.lo = oct_grid_code(&c, act_lo);
    if (act_hi < INFINITY) c.hi = oct_grid_code(&c, act_hi);
    return c;
}

oct_clip_codes oct_point_grid(oct_step *step, const oct_point *point)
{
    oct_clip_codes c = oct_point_clip(point->range, point->fq, point->act_lo, point->act_hi);
    oct_grid_to_tensor(&c, step->out);
    return c;
}

/* Floats to codes and mask bits by the rule of the grid. */
static void quantize_row(const oct_i8_kernels *k, uint8_t *codes, uint8_t *bits, const float *y, size_t n,
                         const oct_point *p, const oct_clip_codes *c)
{
    if (!c->affine) {
        k->quantize_f32(codes, bits, y, n, p->act_lo, p->act_hi, c->clip_lo, c->clip_hi, ldexpf(1, c->exponent), c->lo,
                        c->hi);
        return;
    }
    oct_i8_affine_quantize q = {.inverse = 1.0f / c->scale, .zero = c->zero_point, .lo = c->lo, .hi = c->hi,
                                .x_low = nextafterf(p->act_lo, INFINITY), .x_high = nextafterf(p->act_hi, -INFINITY)};
    oct_grid_pass(c, &q.p_low, &q.p_high);
    k->quantize_affine(codes, bits, y, n, &q);
}

static void codes_of_image(void *arg, int64_t image, int thread)
{
    const point_job *job = arg;
    const oct_point_source *s = job->source;
    const oct_clip_codes *c = job->clip;
    const oct_point *p = job->point;
    size_t n = (size_t)s->pixels * (size_t)s->channels, mask_bytes = oct_mask_row_bytes(n);
    float *y = thread_row(job, thread);
    for (int r = 0; r < s->rows; r++) {
        size_t row = (size_t)image * (size_t)s->rows + (size_t)r;
        uint8_t *codes = (uint8_t *)job->step->out->data + row * n;
        if (!s->codes || job->bits) {
            s->row(s->arg, y, image, r, thread);
            quantize_row(job->k, codes, job->bits ? job->bits + row * mask_bytes : NULL, y, n, p, c);
        }
        if (s->codes) s->codes(s->arg, codes, image, r, c);
    }
}

void oct_point_codes(oct_step *step, const oct_i8_kernels *k, const oct_point *point, const oct_clip_codes *clip,
                     const oct_point_source *source, uint8_t *bits, const oct_point_memory *memory)
{
    point_job job = {.step = step, .k = k, .point = point, .source = source, .memory = memory, .clip = clip,
                     .bits = bits};
    oct_parallel_for(step->ctx->threads, step->batch, codes_of_image, &job);
}

static void mask_image(void *arg, int64_t image, int thread)
{
    const point_job *job = arg;
    (void)thread;
    size_t mask_bytes = oct_mask_row_bytes(job->row_elements);
    for (int r = 0; r < job->rows; r++) {
        size_t row = (size_t)image * (size_t)job->rows + (size_t)r;
        float *d = job->d + row * job->row_elements;
        job->k->mask_apply(d, d, job->bits + row * mask_bytes, job->row_elements);
    }
}

void oct_point_mask(oct_step *step, const oct_i8_kernels *k, float *d, const uint8_t *bits, int rows,
                    size_t row_elements)
{
    /* The job only reads the bits. */
    point_job job = {.k = k, .d = d, .bits = (uint8_t *)(uintptr_t)bits, .rows = rows, .row_elements = row_elements};
    oct_parallel_for(step->ctx->threads, step->batch, mask_image, &job);
}
