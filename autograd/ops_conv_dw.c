/* SPDX-License-Identifier: BSD-2-Clause
 * Gradients of a convolution: the loop over the batch, which gives the gradients of weights and bias and
 * calls ops_conv_dx.c for the gradient of x while dy is still in the cache.
 *
 * The batch is cut into a few chunks of images; each sums its own weight gradient, and the chunks are added
 * in order.
 */
#include "autograd/ops_internal.h"

#include <string.h>

#include "autograd/base/par.h"
#include "autograd/conv_split.h"
#include "autograd/conv_winograd.h"

enum { MAX_CHUNKS = 16, ENOUGH_CHUNKS = 8, PARTIAL_LIMIT = 16 << 20 /* bytes of all partial weight gradients, two at least */ };

typedef struct backward_job {
    const oct_f32_kernels *f32;
    const oct_conv_geometry *g;
    oct_conv_dx dx;
    bool want_w, want_x;
    bool fused; /* dx runs inside the chunks */
    const float *x, *dy;
    const oct_affine *affine;          /* of x; NULL = none */
    const oct_lazy_gradient *gradient; /* dy holds dz; NULL = it is final */
    const oct_conv_source *source;     /* makes x and dy image by image; NULL = they are there */
    oct_split_kernels split;           /* when the geometry is split */
    uint16_t *split_packed;
    float *x_buffers, *dy_buffers;     /* threads x size, where operands must be made */
    size_t x_buffer_size, dy_buffer_size;
    oct_partial_sums *sums;            /* of dx, by chunk, for the batch norm in front; NULL: not wanted */
    float *partial; /* chunks x partial_size: [groups][kernel_h][kernel_w][group_in][group_out rounded to 16];
                     * depthwise [kernel_h][kernel_w][channels] */
    double *bias;   /* chunks x out_c, NULL when not wanted */
    float *buffers; /* threads x buffer_size: a padded image */
    size_t partial_size, buffer_size;
    int chunks;
    size_t batch;
    const float *w;
    float *dw;
    int accumulate_w;
} backward_job;

static size_t rounded_outputs(const oct_conv_geometry *g)
{
    return ((size_t)g->group_out + OCT_F32_BLOCK - 1) / OCT_F32_BLOCK * OCT_F32_BLOCK;
}

/* Weights of one group and output: taps times channels. */
static size_t inner_size(const oct_conv_geometry *g)
{
    return (size_t)g->kernel_h * (size_t)g->kernel_w * (size_t)g->group_in;
}

static size_t partial_size(const oct_conv_geometry *g)
{
    if (g->winograd) return oct_winograd_dw_size(g);
    return g->depthwise ? inner_size(g) : (size_t)g->groups * inner_size(g) * rounded_outputs(g);
}

static int chunk_count(const oct_conv_geometry *g, int batch)
{
    size_t fit = (size_t)PARTIAL_LIMIT / (partial_size(g) * sizeof(float));
    int chunks = fit < 2 ? 2 : fit > MAX_CHUNKS ? MAX_CHUNKS : (int)fit;
    return chunks < batch ? chunks : batch;
}

static size_t image_size(const oct_conv_geometry *g)
{
    return (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_c;
}

static size_t dy_size(const oct_conv_geometry *g)
{
    return (size_t)g->out_h * (size_t)g->out_w * (size_t)g->out_c;
}

/* Images per call: of a pointwise convolution whose operands are made image by image, so that a linear layer is few calls,
 * and by Winograd's algorithm. */
static size_t images_together(const oct_conv_geometry *g)
{
    size_t pixels = (size_t)g->out_h * (size_t)g->out_w;
    if (g->winograd) return (size_t)oct_winograd_images(g);
    if (g->split) return (size_t)oct_split_images(g);
    return g->pointwise && pixels < 64 ? 64 / pixels : 1;
}

/* Sizes and places of all memory; `chunks` for the largest batch also serves smaller ones. */
static size_t backward_memory(backward_job *job, const oct_conv_geometry *g, int chunks, int threads,
                              bool sourced, void *scratch)
{
    oct_carve carve = {.base = (char *)scratch};
    oct_window window = oct_conv_window(g, 0, g->out_h);
    oct_conv_dx_plan(&job->dx, g);
    size_t x_size = oct_window_size(&window, g->in_h, g->in_w, g->in_c, !sourced);
    size_t padded = oct_window_size(&job->dx.window, g->out_h, g->out_w, g->out_c, false);
    size_t pixels = oct_conv_block_pixels(g), images = images_together(g);
    if (g->pointwise) x_size = padded = 0;
    if (g->winograd) x_size = oct_winograd_buffer_size(g);
    if (g->split) x_size = oct_split_buffer_bytes(g) / sizeof(float), padded = 0;
    job->buffer_size = ((x_size > padded ? x_size : padded) + 15) & ~(size_t)15;
    /* One thread's partial results do not share a cache line with another's. */
    job->partial_size = (partial_size(g) + 15) & ~(size_t)15;
    job->partial = (float *)oct_carve_take(&carve, job->partial_size * sizeof(float), (size_t)chunks);
    job->bias = (double *)oct_carve_take(&carve, (size_t)g->out_c * sizeof(double), (size_t)chunks);
    if (g->split)
        job->split_packed = oct_carve_take(&carve, oct_split_packed_bytes(g), 1);
    else
        job->dx.packed = (float *)oct_carve_take(
            &carve, g->winograd ? oct_winograd_packed_size(g, true) : oct_conv_dx_packed_size(g), sizeof(float));
    job->buffers = (float *)oct_carve_take(&carve, job->buffer_size * sizeof(float), (size_t)threads);
    bool blocks = g->pointwise && !sourced;
    size_t x_made = g->split ? 0 : blocks ? pixels * (size_t)g->in_c : sourced || g->winograd ? images * image_size(g) : 0;
    size_t dy_made = blocks ? pixels * (size_t)g->out_c : images * dy_size(g);
    job->x_buffer_size = (x_made + 15) & ~(size_t)15;
    job->dy_buffer_size = (dy_made + 15) & ~(size_t)15;
    job->x_buffers = (float *)oct_carve_take(&carve, job->x_buffer_size * sizeof(float), (size_t)threads);
    job->dy_buffers = (float *)oct_carve_take(&carve, job->dy_buffer_size * sizeof(float), (size_t)threads);
    return carve.used;
}

size_t oct_conv_backward_scratch(const oct_conv_geometry *g, int batch, int threads, bool sourced)
{
    backward_job job = {0};
    return backward_memory(&job, g, chunk_count(g, batch), threads, sourced, NULL);
}

/* Adds one image (or, pointwise, a row of `pixels` pixels) to the weight gradient of a depthwise convolution.
 */
static void dw_depthwise(const backward_job *job, float *dw, const float *x, ptrdiff_t x_row, const float *dy,
                         int rows, int pixels)
{
    const oct_conv_geometry *g = job->g;
    oct_f32_depthwise p = {.pixels = pixels,
                           .channels = g->in_c,
                           .taps_h = g->kernel_h,
                           .taps_w = g->kernel_w,
                           .x_pixel = (ptrdiff_t)g->stride_w * g->in_c,
                           .x_row = x_row * g->dilation_h,
                           .x_tap = (ptrdiff_t)g->dilation_w * g->in_c,
                           .y_pixel = g->out_c};
    for (int r = 0; r < rows; r++) {
        job->f32->depthwise_dw(dw, x + r * x_row * g->stride_h, dy + (ptrdiff_t)r * pixels * g->out_c, &p);
    }
}

static void dw_image(const backward_job *job, float *dw, const float *x, ptrdiff_t x_row, const float *dy,
                     int rows, int pixels)
{
    const oct_conv_geometry *g = job->g;
    if (g->depthwise) {
        dw_depthwise(job, dw, x, x_row, dy, rows, pixels);
        return;
    }
    oct_f32_conv_dw p = {.rows = rows,
                         .pixels = pixels,
                         .outputs = g->group_out,
                         .x_row = x_row * g->stride_h,
                         .x_pixel = (ptrdiff_t)g->stride_w * g->in_c,
                         .dy_row = (ptrdiff_t)pixels * g->out_c,
                         .dy_pixel = g->out_c};
    /* Without dilation and groups the taps of a row are one contiguous run of x. */
    bool whole_rows = g->groups == 1 && (g->dilation_w == 1 || g->kernel_w == 1);
    int calls = whole_rows ? 1 : g->kernel_w;
    p.inner = g->group_in * (whole_rows ? g->kernel_w : 1);
    size_t step = (size_t)p.inner * rounded_outputs(g);
    for (int k = 0; k < g->groups; k++) {
        for (int r = 0; r < g->kernel_h; r++) {
            for (int s = 0; s < calls; s++, dw += step) {
                job->f32->conv_dw(dw,
                                  x + r * g->dilation_h * x_row + (ptrdiff_t)s * g->dilation_w * g->in_c +
                                      k * g->group_in,
                                  dy + k * g->group_out, &p);
            }
        }
    }
}

/* --- operands --- */

/* Final dy of `pixels` pixels from pixel `first` of all images on. */
static const float *finish_dy(const backward_job *job, size_t first, size_t pixels, int thread)
{
    size_t outputs = (size_t)job->g->out_c, at = first * outputs;
    const oct_lazy_gradient *v = job->gradient;
    if (!v) return job->dy + at;
    float *dy = job->dy_buffers + (size_t)thread * job->dy_buffer_size;
    if (v->mask.a)
        job->f32->bn_masked_apply(dy, job->dy + at, v->y + at, v->mask.a, v->mask.b, v->mask.lo, v->mask.hi, v->p, v->q,
                                  v->r, pixels, job->g->out_c, 0);
    else
        job->f32->bn_backward_apply(dy, job->dy + at, v->y + at, v->p, v->q, v->r, pixels, job->g->out_c, 0);
    return dy;
}

/* dy of images [first, last). */
static const float *images_of_dy(const backward_job *job, size_t first, size_t last, int thread)
{
    const oct_conv_geometry *g = job->g;
    size_t size = dy_size(g), pixels = (size_t)g->out_h * (size_t)g->out_w;
    if (!job->source || !job->source->make_dy) return finish_dy(job, first * pixels, (last - first) * pixels, thread);
    float *dy = job->dy_buffers + (size_t)thread * job->dy_buffer_size;
    for (size_t n = first; n < last; n++) job->source->make_dy(job->source->arg, dy + (n - first) * size, n, thread);
    return dy;
}

/* x of images [first, last); Winograd's algorithm wants the affine done, the others do it while they pad. */
static const float *images_of_x(const backward_job *job, size_t first, size_t last, int thread)
{
    size_t size = image_size(job->g);
    float *x = job->x_buffers + (size_t)thread * job->x_buffer_size;
    if (!job->source) {
        const oct_affine *affine = job->g->winograd ? job->affine : NULL;
        return oct_affine_read(job->f32, x, job->x + first * size, affine, (last - first) * size / (size_t)job->g->in_c,
                               job->g->in_c);
    }
    for (size_t n = first; n < last; n++) job->source->make_x(job->source->arg, x + (n - first) * size, n);
    return x;
}

/* --- the batch --- */

/* dx of `pixels` pixels from pixel `first` of all images on is final and in the cache: its sums. */
static void add_sums(const backward_job *job, int64_t chunk, size_t first, size_t pixels)
{
    if (!job->sums) return;
    size_t channels = (size_t)job->g->in_c, at = first * channels, to = (size_t)chunk * channels;
    const oct_affine *v = job->affine;
    job->f32->bn_masked_sums(job->sums->sum + to, job->sums->square + to, job->dx.dx + at, job->x + at, v->a, v->b, v->lo,
                             v->hi, v->mean, pixels, job->g->in_c);
}

/* dx of images [first, last), whose dy starts at `dy`. */
static void dx_images(const backward_job *job, size_t first, size_t last, const float *dy, float *buffer)
{
    const oct_conv_geometry *g = job->g;
    const oct_conv_dx *dx = &job->dx;
    size_t pixels = (size_t)g->out_h * (size_t)g->out_w;
    if (g->split)
        oct_split_dx(&job->split, job->f32, g, job->split_packed, dx->dx + first * image_size(g), dx->accumulate, dy,
                     (int)(last - first), buffer);
    else if (g->winograd)
        oct_winograd_run(job->f32, g, true, dx->packed,
                         &(oct_winograd_outputs){.accumulate = dx->accumulate, .parts = 1},
                         dx->dx + first * image_size(g), dy, (int)(last - first), buffer);
    else if (g->pointwise)
        oct_conv_dx_pixels(dx, first * pixels, (last - first) * pixels, dy);
    else
        oct_conv_dx_image(dx, first, dy, buffer);
}

/* Images [first, last): their share of the weight gradient, of the bias gradient, and their dx. There is more than one
 * only when images go together. */
static void backward_images(const backward_job *job, size_t first, size_t last, float *dw, double *bias, int thread)
{
    const oct_conv_geometry *g = job->g;
    float *buffer = job->buffers + (size_t)thread * job->buffer_size;
    size_t pixels = (size_t)g->out_h * (size_t)g->out_w, count = (last - first) * pixels;
    const float *dy = images_of_dy(job, first, last, thread);
    if (bias) job->f32->channel_sum(bias, dy, count, g->out_c);
    const float *x = dw && !g->split ? images_of_x(job, first, last, thread) : NULL;
    if (dw && g->split) {
        const oct_conv_source *s = job->source;
        oct_split_dw(&job->split, g, dw, s->codes + first * image_size(g), s->unit, s->is_signed, dy, (int)(last - first),
                     buffer);
    } else if (dw && g->winograd) {
        oct_winograd_dw(job->f32, g, dw, x, dy, (int)(last - first), buffer);
    } else if (dw && g->pointwise) {
        dw_image(job, dw, x, 0, dy, 1, (int)count);
    } else if (dw) {
        oct_window window = oct_conv_window(g, 0, g->out_h);
        ptrdiff_t row;
        const float *padded =
            oct_window_read(job->f32, buffer, &row, x, job->affine, &window, g->in_h, g->in_w, g->in_c);
        dw_image(job, dw, padded, row, dy, g->out_h, g->out_w);
    }
    if (job->want_x && job->fused) dx_images(job, first, last, dy, buffer);
}

/* Pointwise, operands in memory: pixels [first, first + count) of all images. */
static void backward_pixels(const backward_job *job, size_t first, size_t count, float *dw, double *bias, int thread)
{
    const oct_conv_geometry *g = job->g;
    const float *dy = finish_dy(job, first, count, thread);
    if (bias) job->f32->channel_sum(bias, dy, count, g->out_c);
    if (dw) {
        float *made = job->x_buffers + (size_t)thread * job->x_buffer_size;
        const float *x =
            oct_affine_read(job->f32, made, job->x + first * (size_t)g->in_c, job->affine, count, g->in_c);
        dw_image(job, dw, x, 0, dy, 1, (int)count);
    }
    if (job->want_x && job->fused) oct_conv_dx_pixels(&job->dx, first, count, dy);
}

static void backward_chunk(void *arg, int64_t chunk, int thread)
{
    const backward_job *job = (const backward_job *)arg;
    const oct_conv_geometry *g = job->g;
    float *dw = job->want_w ? job->partial + (size_t)chunk * job->partial_size : NULL;
    double *bias = job->bias ? job->bias + (size_t)chunk * (size_t)g->out_c : NULL;
    if (dw) memset(dw, 0, job->partial_size * sizeof *dw);
    if (bias) memset(bias, 0, (size_t)g->out_c * sizeof *bias);
    if (job->sums) oct_sums_clear(job->sums, chunk, g->in_c);
    bool blocks = g->pointwise && !job->source;
    size_t count = job->batch * (blocks ? (size_t)g->out_h * (size_t)g->out_w : 1);
    size_t step = blocks ? oct_conv_block_pixels(g) : images_together(g);
    size_t last = oct_chunk_border(count, job->chunks, chunk + 1);
    for (size_t n = oct_chunk_border(count, job->chunks, chunk); n < last; n += step) {
        size_t end = n + step < last ? n + step : last;
        if (blocks)
            backward_pixels(job, n, end - n, dw, bias, thread);
        else
            backward_images(job, n, end, dw, bias, thread);
        size_t x_pixels = blocks ? 1 : (size_t)g->in_h * (size_t)g->in_w;
        add_sums(job, chunk, n * x_pixels, (end - n) * x_pixels);
    }
}

/* dx by itself. */
static void dx_item(void *arg, int64_t item, int thread)
{
    const backward_job *job = (const backward_job *)arg;
    const oct_conv_geometry *g = job->g;
    size_t together = images_together(g), first = (size_t)item * together;
    size_t last = first + together < job->batch ? first + together : job->batch;
    size_t pixels = (size_t)g->out_h * (size_t)g->out_w, block = oct_conv_block_pixels(g);
    if (!g->pointwise || job->source) {
        const float *dy = images_of_dy(job, first, last, thread);
        dx_images(job, first, last, dy, job->buffers + (size_t)thread * job->buffer_size);
        return;
    }
    for (size_t at = first * pixels; at < last * pixels; at += block) {
        size_t count = last * pixels - at < block ? last * pixels - at : block;
        oct_conv_dx_pixels(&job->dx, at, count, finish_dy(job, at, count, thread));
    }
}

/* --- from partial weight gradients to the parameter's layout --- */

enum { COMBINE_INNER = 64 };

static int64_t combine_items(const oct_conv_geometry *g)
{
    return (int64_t)(inner_size(g) + COMBINE_INNER - 1) / COMBINE_INNER * g->groups;
}

static void combine_depthwise(const backward_job *job)
{
    size_t n = inner_size(job->g);
    for (size_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int k = 0; k < job->chunks; k++) sum += job->partial[(size_t)k * job->partial_size + i];
        job->dw[i] = job->accumulate_w ? job->dw[i] + sum : sum;
    }
}

/* 64 inner positions of one group, all outputs: sums the chunks and turns [inner][output] round. */
static void combine_item(void *arg, int64_t item, int thread)
{
    (void)thread;
    const backward_job *job = (const backward_job *)arg;
    const oct_conv_geometry *g = job->g;
    size_t inner = inner_size(g), width = rounded_outputs(g), outputs = (size_t)g->group_out;
    size_t blocks = (inner + COMBINE_INNER - 1) / COMBINE_INNER;
    size_t group = (size_t)item / blocks, j0 = (size_t)item % blocks * COMBINE_INNER;
    size_t count = inner - j0 < COMBINE_INNER ? inner - j0 : COMBINE_INNER;
    const float *from = job->partial + (group * inner + j0) * width;
    float *to = job->dw + group * outputs * inner + j0;
    for (size_t o0 = 0; o0 < outputs; o0 += OCT_F32_BLOCK) {
        float sum[COMBINE_INNER][OCT_F32_BLOCK];
        for (size_t j = 0; j < count; j++) {
            const float *p = from + j * width + o0;
            for (int o = 0; o < OCT_F32_BLOCK; o++) sum[j][o] = p[o];
            for (int k = 1; k < job->chunks; k++) {
                p += job->partial_size;
                for (int o = 0; o < OCT_F32_BLOCK; o++) sum[j][o] += p[o];
            }
        }
        size_t used = outputs - o0 < OCT_F32_BLOCK ? outputs - o0 : OCT_F32_BLOCK;
        for (size_t o = 0; o < used; o++) {
            float *row = to + (o0 + o) * inner;
            for (size_t j = 0; j < count; j++) row[j] = job->accumulate_w ? row[j] + sum[j][o] : sum[j][o];
        }
    }
}

enum { PARTS = 16 };

static void pack_split(void *arg, int64_t part, int thread)
{
    (void)thread;
    const backward_job *job = (const backward_job *)arg;
    oct_split_pack(job->split_packed, job->w, job->g, (int)part, PARTS);
}

static void finish_winograd(void *arg, int64_t part, int thread)
{
    (void)thread;
    const backward_job *job = (const backward_job *)arg;
    oct_winograd_dw_finish(job->g, job->dw, job->accumulate_w, job->partial, job->partial_size, job->chunks, (int)part,
                           PARTS);
}

oct_status oct_conv_backward(oct_step *step, const oct_conv_geometry *g, const oct_conv_source *source)
{
    int threads = step->ctx->threads;
    backward_job job = {.f32 = step->f32,
                        .g = g,
                        .x = (const float *)step->in[0]->data,
                        .dy = (const float *)step->d_out->data,
                        .w = (const float *)step->in[1]->data,
                        .batch = (size_t)step->batch,
                        .source = source,
                        .affine = source ? NULL : oct_tensor_affine(step->in[0]),
                        .gradient = source ? NULL : step->d_out->gradient,
                        .want_x = step->d_in[0] != NULL,
                        .want_w = step->d_in[1] != NULL,
                        .chunks = chunk_count(g, step->batch)};
    backward_memory(&job, g, job.chunks, threads, source != NULL, step->scratch);
    if (g->split) oct_split_kernels_init(&job.split, step->ctx->cpu_mask);
    bool want_bias = step->input_count > 2 && step->d_in[2];
    if (!want_bias) job.bias = NULL;
    if (job.want_x) {
        job.dx.f32 = step->f32;
        job.dx.dx = (float *)step->d_in[0]->data;
        job.dx.accumulate = step->accumulate[0];
        if (g->split)
            oct_parallel_for(threads, PARTS, pack_split, &job);
        else if (g->winograd)
            oct_conv_pack_winograd(step, g, true, job.dx.packed, job.w);
        else
            oct_conv_dx_pack(&job.dx, job.w);
    }
    /* Chunks of big weights are few: dx then runs by itself over images. */
    bool sums = job.want_w || want_bias;
    job.fused = sums && (job.chunks >= ENOUGH_CHUNKS || job.chunks == step->batch);
    if (job.want_x) step->d_in[0]->sums.chunks = 0;
    if (job.want_x && job.fused && job.affine && step->d_in[0]->sums.sum) {
        job.sums = &step->d_in[0]->sums;
        job.sums->chunks = job.chunks;
    }
    if (job.want_x && !job.fused) {
        size_t together = images_together(g);
        oct_parallel_for(threads, (int64_t)((job.batch + together - 1) / together), dx_item, &job);
    }
    if (sums) oct_parallel_for(threads, job.chunks, backward_chunk, &job);
    if (job.want_w) {
        job.dw = (float *)step->d_in[1]->data;
        job.accumulate_w = step->accumulate[1];
        if (g->winograd)
            oct_parallel_for(threads, PARTS, finish_winograd, &job);
        else if (g->depthwise)
            combine_depthwise(&job);
        else
            oct_parallel_for(threads, combine_items(g), combine_item, &job);
    }
    if (want_bias) {
        oct_combine((float *)step->d_in[2]->data, step->accumulate[2], job.bias, job.chunks, (size_t)g->out_c,
                    (size_t)g->out_c);
    }
    return OCT_OK;
}
