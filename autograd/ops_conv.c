/* SPDX-License-Identifier: BSD-2-Clause
 * conv2d: shape rule, geometry, forward. Gradients are in ops_conv_dx.c (towards x) and ops_conv_dw.c
 * (towards weights and bias), the double-precision witness in ops_conv_reference.c.
 */
#include "autograd/ops_internal.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "autograd/base/par.h"
#include "autograd/conv_split.h"
#include "autograd/conv_winograd.h"

/* --- descriptor --- */

oct_status oct_conv_rule_sizes(const oct_graph *graph, const oct_node *node, const oct_conv2d_attrs *a)
{
    bool positive = a->groups >= 1;
    for (int i = 0; i < 2; i++)
        positive = positive && a->kernel[i] >= 1 && a->stride[i] >= 1 && a->dilation[i] >= 1;
    if (!positive) {
        return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT,
                             "kernel %dx%d, stride %dx%d, dilation %dx%d, groups %d: expected all >= 1",
                             a->kernel[0], a->kernel[1], a->stride[0], a->stride[1], a->dilation[0],
                             a->dilation[1], a->groups);
    }
    return OCT_OK;
}

static oct_status check_attrs(const oct_graph *graph, const oct_node *node, const oct_conv2d_attrs *a)
{
    OCT_TRY(oct_conv_rule_sizes(graph, node, a));
    for (int i = 0; i < 4; i++) {
        if (a->pad[i] < 0) {
            return oct_rule_fail(graph, node, OCT_ERR_ARGUMENT,
                                 "padding (top, left, bottom, right) is %d,%d,%d,%d, expected all >= 0",
                                 a->pad[0], a->pad[1], a->pad[2], a->pad[3]);
        }
    }
    return OCT_OK;
}

oct_status oct_conv_rule_weights(const oct_graph *graph, const oct_node *node, const oct_conv2d_attrs *a, int channels,
                                 int *outputs)
{
    const oct_node *w = oct_node_input(graph, node, 1);
    if (channels % a->groups != 0) {
        return oct_rule_fail(graph, node, OCT_ERR_SHAPE, "%d groups do not divide the %d channels of x '%s'",
                             a->groups, channels, oct_node_input(graph, node, 0)->name);
    }
    if (a->groups > 1 && a->groups == channels && (w->shape.rank == 3 || w->shape.dim[0] == channels)) {
        *outputs = channels;
        OCT_TRY(oct_rule_shape(graph, node, 1, "depthwise weights",
                               OCT_SHAPE(a->kernel[0], a->kernel[1], channels)));
    } else {
        OCT_TRY(oct_rule_rank(graph, node, 1, "weights", 4, "[O,kh,kw,C/groups]"));
        *outputs = w->shape.dim[0];
        OCT_TRY(oct_rule_shape(graph, node, 1, "weights",
                               OCT_SHAPE(*outputs, a->kernel[0], a->kernel[1], channels / a->groups)));
        if (*outputs % a->groups != 0) {
            return oct_rule_fail(graph, node, OCT_ERR_SHAPE,
                                 "%d groups do not divide the %d outputs of weights '%s'", a->groups,
                                 *outputs, w->name);
        }
    }
    return node->input_count > 2 ? oct_rule_shape(graph, node, 2, "bias", OCT_SHAPE(*outputs)) : OCT_OK;
}

static oct_status conv2d_infer(const oct_graph *graph, oct_node *node)
{
    const oct_conv2d_attrs *a = (const oct_conv2d_attrs *)node->attrs;
    OCT_TRY(check_attrs(graph, node, a));
    OCT_TRY(oct_rule_rank(graph, node, 0, "x", 4, "[N,H,W,C]"));
    const oct_shape *x = &oct_node_input(graph, node, 0)->shape;
    int outputs = 0;
    OCT_TRY(oct_conv_rule_weights(graph, node, a, x->dim[3], &outputs));
    int32_t size[2];
    for (int i = 0; i < 2; i++) {
        const oct_window_axis axis = {i ? "width" : "height", x->dim[1 + i], a->pad[i],     a->pad[2 + i],
                                      a->kernel[i],           a->stride[i],  a->dilation[i]};
        OCT_TRY(oct_rule_window(graph, node, &axis, &size[i]));
    }
    double padded = ((double)x->dim[1] + a->pad[0] + a->pad[2]) *
                    ((double)x->dim[2] + a->pad[1] + a->pad[3]) * (double)x->dim[3];
    if (padded > (double)INT32_MAX) {
        return oct_rule_fail(graph, node, OCT_ERR_SHAPE,
                             "x with padding has %.0f elements per sample, expected at most 2^31-1", padded);
    }
    return oct_rule_output(graph, node, OCT_SHAPE(OCT_BATCH, size[0], size[1], outputs));
}

bool oct_conv2d_is_depthwise(const oct_graph *graph, const oct_node *conv)
{
    const oct_conv2d_attrs *a = (const oct_conv2d_attrs *)conv->attrs;
    return a->groups > 1 && oct_node_input(graph, conv, 1)->shape.rank == 3;
}

oct_conv_geometry oct_conv_geometry_of(const oct_node *conv, const oct_node *input, const oct_node *weights)
{
    const oct_conv2d_attrs *a = (const oct_conv2d_attrs *)conv->attrs;
    const oct_shape *x = &input->shape, *y = &conv->shape;
    oct_conv_geometry g = {
        .in_h = x->dim[1],
        .in_w = x->dim[2],
        .in_c = x->dim[3],
        .out_h = y->dim[1],
        .out_w = y->dim[2],
        .out_c = y->dim[3],
        .kernel_h = a->kernel[0],
        .kernel_w = a->kernel[1],
        .stride_h = a->stride[0],
        .stride_w = a->stride[1],
        .dilation_h = a->dilation[0],
        .dilation_w = a->dilation[1],
        .pad_top = a->pad[0],
        .pad_left = a->pad[1],
        .depthwise = a->groups > 1 && weights->shape.rank == 3,
    };
    g.groups = g.depthwise ? 1 : a->groups;
    g.group_in = g.in_c / g.groups;
    g.group_out = g.out_c / g.groups;
    g.pointwise = g.kernel_h == 1 && g.kernel_w == 1 && g.stride_h == 1 && g.stride_w == 1 &&
                  g.pad_top == 0 && g.pad_left == 0 && g.out_h == g.in_h && g.out_w == g.in_w;
    return g;
}

void oct_conv_choose(oct_conv_geometry *g, const oct_ctx *ctx)
{
    g->winograd = !ctx->no_winograd && oct_winograd_fits(g);
}

void oct_conv_choose_narrow(oct_conv_geometry *g, const oct_ctx *ctx)
{
    oct_split_kernels kernels;
    oct_split_kernels_init(&kernels, ctx->cpu_mask);
    g->split = kernels.fast && oct_split_fits(g);
    g->winograd = false;
    if (!g->split) oct_conv_choose(g, ctx);
}

static oct_conv_geometry geometry_in(const oct_graph *graph, const oct_node *conv)
{
    oct_conv_geometry g = oct_conv_geometry_of(conv, oct_node_input(graph, conv, 0), oct_node_input(graph, conv, 1));
    oct_conv_choose(&g, graph->ctx);
    return g;
}

static int64_t conv2d_macs(const oct_graph *graph, const oct_node *node)
{
    oct_conv_geometry g = geometry_in(graph, node);
    return (int64_t)g.out_h * g.out_w * g.out_c * g.kernel_h * g.kernel_w * (g.depthwise ? 1 : g.group_in);
}

/* --- padded images --- */

size_t oct_window_size(const oct_window *v, int height, int width, int channels, bool affine)
{
    if (!affine && v->top <= 0 && v->left <= 0 && v->bottom <= 0 && v->right <= 0) return 0;
    return (size_t)(height + v->top + v->bottom) * (size_t)(width + v->left + v->right) * (size_t)channels;
}

const float *oct_window_read(const oct_f32_kernels *f32, float *buffer, ptrdiff_t *row, const float *image,
                             const oct_affine *affine, const oct_window *v, int height, int width, int channels)
{
    if (oct_window_size(v, height, width, channels, affine != NULL) == 0) {
        *row = (ptrdiff_t)width * channels;
        return image - v->top * *row - (ptrdiff_t)v->left * channels;
    }
    *row = (ptrdiff_t)(width + v->left + v->right) * channels;
    if (affine)
        oct_f32_pad_affine(f32, buffer, image, affine->a, affine->b, affine->lo, affine->hi, height, width, channels, v->top,
                           v->left, v->bottom, v->right);
    else
        oct_f32_pad_image(buffer, image, height, width, channels, v->top, v->left, v->bottom, v->right);
    return buffer;
}

size_t oct_conv_block_pixels(const oct_conv_geometry *g)
{
    enum { ELEMENTS = 96 << 10, LEAST = 64 };
    size_t pixels = (size_t)ELEMENTS / ((size_t)g->in_c + (size_t)g->out_c);
    return pixels < LEAST ? LEAST : pixels;
}

oct_window oct_conv_window(const oct_conv_geometry *g, int first, int last)
{
    int rows = (last - first - 1) * g->stride_h + (g->kernel_h - 1) * g->dilation_h + 1;
    int columns = (g->out_w - 1) * g->stride_w + (g->kernel_w - 1) * g->dilation_w + 1;
    oct_window v = {.top = g->pad_top - first * g->stride_h, .left = g->pad_left};
    v.bottom = rows - g->in_h - v.top;
    v.right = columns - g->in_w - v.left;
    return v;
}

/* --- forward --- */

typedef struct forward_job {
    const oct_f32_kernels *f32;
    const oct_conv_geometry *g;
    const float *x, *w, *bias; /* w: packed, one group after the other; depthwise: as it is */
    const oct_affine *affine;  /* of x */
    const oct_f32_end *end;
    float *y, *buffers;
    size_t buffer_size, packed_group;
    size_t images;
    int bands;                 /* cuts of an image that one item works through, or that are items themselves */
    int chunks;                /* of images, or of all pixels when pointwise; 0: bands are items */
    int parts;                 /* Winograd: of the outputs of a chunk, items of their own */
    oct_partial_sums *sums;    /* by chunk; NULL: not wanted */
} forward_job;

typedef struct forward_layout {
    float *buffers, *packed; /* packed: of oct_conv_forward alone */
    size_t buffer_size, run_bytes, bytes;
} forward_layout;

size_t oct_conv_packed_size(const oct_conv_geometry *g)
{
    if (g->winograd) return oct_winograd_packed_size(g, false);
    if (g->depthwise) return (size_t)g->kernel_h * (size_t)g->kernel_w * (size_t)g->in_c;
    return oct_f32_packed_size(g->group_out, g->kernel_h, g->kernel_w, g->group_in) * (size_t)g->groups;
}

/* Output rows of one cut of an image: what they read stays in the second-level cache. */
static int band_rows(const oct_conv_geometry *g)
{
    enum { ELEMENTS = 48 << 10, LEAST = 4 };
    int rows = ELEMENTS / (g->in_w * g->in_c * g->stride_h);
    rows = rows < LEAST ? LEAST : rows;
    return rows < g->out_h ? rows : g->out_h;
}

/* Images that the affine is applied to before a call, rounded to cache lines. */
static size_t winograd_x_size(const oct_conv_geometry *g)
{
    size_t image = (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_c;
    return (image * (size_t)oct_winograd_images(g) + 15) & ~(size_t)15;
}

static forward_layout forward_memory(const oct_conv_geometry *g, int threads, void *scratch)
{
    oct_carve carve = {.base = (char *)scratch};
    forward_layout layout = {0};
    oct_window window = oct_conv_window(g, 0, g->out_h);
    size_t size = oct_window_size(&window, g->in_h, g->in_w, g->in_c, true);
    if (g->pointwise) size = oct_conv_block_pixels(g) * (size_t)g->in_c;
    if (g->winograd) size = winograd_x_size(g) + oct_winograd_buffer_size(g);
    /* A multiple of 16 elements keeps the buffers of two threads on different cache lines. */
    layout.buffer_size = (size + 15) & ~(size_t)15;
    layout.buffers = (float *)oct_carve_take(&carve, layout.buffer_size * sizeof(float), (size_t)threads);
    layout.run_bytes = carve.used;
    if (!g->depthwise) layout.packed = (float *)oct_carve_take(&carve, oct_conv_packed_size(g), sizeof(float));
    layout.bytes = carve.used;
    return layout;
}

size_t oct_conv_forward_scratch(const oct_conv_geometry *g, int threads)
{
    return forward_memory(g, threads, NULL).bytes;
}

size_t oct_conv_run_scratch(const oct_conv_geometry *g, int threads)
{
    return forward_memory(g, threads, NULL).run_bytes;
}

typedef struct winograd_pack {
    const oct_conv_geometry *g;
    bool towards_x;
    float *packed;
    const float *w;
} winograd_pack;

enum { PACK_PARTS = 16 };

static void pack_part(void *arg, int64_t part, int thread)
{
    (void)thread;
    const winograd_pack *p = (const winograd_pack *)arg;
    oct_winograd_pack(p->packed, p->w, p->g, p->towards_x, (int)part, PACK_PARTS);
}

void oct_conv_pack_winograd(oct_step *step, const oct_conv_geometry *g, bool towards_x, float *packed, const float *w)
{
    winograd_pack p = {g, towards_x, packed, w};
    oct_parallel_for(step->ctx->threads, PACK_PARTS, pack_part, &p);
}

void oct_conv_pack(oct_step *step, const oct_conv_geometry *g, float *packed, const float *w)
{
    if (g->winograd) {
        oct_conv_pack_winograd(step, g, false, packed, w);
        return;
    }
    if (g->depthwise) {
        memcpy(packed, w, oct_conv_packed_size(g) * sizeof *w);
        return;
    }
    size_t group = oct_f32_packed_size(g->group_out, g->kernel_h, g->kernel_w, g->group_in);
    ptrdiff_t tap = g->group_in, row = g->kernel_w * tap, output = g->kernel_h * row;
    for (int k = 0; k < g->groups; k++)
        oct_f32_pack(packed + (size_t)k * group, w + k * g->group_out * output, g->group_out, g->kernel_h, g->kernel_w,
                     g->group_in, output, row, tap, 1);
}

/* The end of outputs from y on: NULL, or *end with the residual that belongs there. */
static const oct_f32_end *end_at(oct_f32_end *end, const forward_job *job, const float *y)
{
    if (!job->end) return NULL;
    *end = *job->end;
    if (end->residual) end->residual += y - job->y;
    return end;
}

/* Output rows of `pixels` pixels each, the input of the first at x. */
static void forward_rows(const forward_job *job, float *y, const float *x, ptrdiff_t x_row, int rows,
                         int pixels)
{
    oct_f32_end end;
    const oct_conv_geometry *g = job->g;
    ptrdiff_t next_x = x_row * g->stride_h, next_y = (ptrdiff_t)pixels * g->out_c;
    if (g->depthwise) {
        oct_f32_depthwise p = {.pixels = pixels,
                               .channels = g->in_c,
                               .taps_h = g->kernel_h,
                               .taps_w = g->kernel_w,
                               .x_pixel = (ptrdiff_t)g->stride_w * g->in_c,
                               .x_row = x_row * g->dilation_h,
                               .x_tap = (ptrdiff_t)g->dilation_w * g->in_c,
                               .y_pixel = g->out_c};
        for (int r = 0; r < rows; r++) {
            p.end = end_at(&end, job, y + r * next_y);
            job->f32->depthwise_row(y + r * next_y, x + r * next_x, job->w, job->bias, &p);
        }
        return;
    }
    oct_f32_conv_row p = {.pixels = pixels,
                          .outputs = g->group_out,
                          .taps_h = g->kernel_h,
                          .taps_w = g->kernel_w,
                          .channels = g->group_in,
                          .x_pixel = (ptrdiff_t)g->stride_w * g->in_c,
                          .x_row = x_row * g->dilation_h,
                          .x_tap = (ptrdiff_t)g->dilation_w * g->in_c,
                          .y_pixel = g->out_c};
    for (int k = 0; k < g->groups; k++) {
        const float *w = job->w + (size_t)k * job->packed_group;
        const float *bias = job->bias ? job->bias + k * g->group_out : NULL;
        for (int r = 0; r < rows; r++) {
            float *to = y + r * next_y + k * g->group_out;
            p.end = end_at(&end, job, to);
            job->f32->conv_row(to, x + r * next_x + k * g->group_in, w, bias, &p);
        }
    }
}

static void add_sums(const forward_job *job, int64_t chunk, const float *y, size_t pixels)
{
    size_t at = (size_t)chunk * (size_t)job->g->out_c;
    if (job->sums) job->f32->channel_sums(job->sums->sum + at, job->sums->square + at, y, pixels, job->g->out_c);
}

/* A chunk of the pixels of all images, block by block. */
static void forward_pixels(void *arg, int64_t chunk, int thread)
{
    const forward_job *job = (const forward_job *)arg;
    const oct_conv_geometry *g = job->g;
    size_t pixels = job->images * (size_t)g->out_h * (size_t)g->out_w, block = oct_conv_block_pixels(g);
    size_t end = oct_chunk_border(pixels, job->chunks, chunk + 1), inputs = (size_t)g->in_c;
    float *buffer = job->buffers + (size_t)thread * job->buffer_size;
    if (job->sums) oct_sums_clear(job->sums, chunk, g->out_c);
    for (size_t at = oct_chunk_border(pixels, job->chunks, chunk); at < end; at += block) {
        size_t count = end - at < block ? end - at : block;
        const float *x = job->x + at * inputs;
        float *y = job->y + at * (size_t)g->out_c;
        x = oct_affine_read(job->f32, buffer, x, job->affine, count, g->in_c);
        forward_rows(job, y, x, 0, 1, (int)count);
        add_sums(job, chunk, y, count);
    }
}

static void forward_band(const forward_job *job, size_t image, int band, int64_t chunk, int thread)
{
    const oct_conv_geometry *g = job->g;
    size_t x_image = (size_t)g->in_h * (size_t)g->in_w * (size_t)g->in_c;
    size_t y_row = (size_t)g->out_w * (size_t)g->out_c;
    int first = (int)oct_chunk_border((size_t)g->out_h, job->bands, band);
    int last = (int)oct_chunk_border((size_t)g->out_h, job->bands, band + 1);
    oct_window window = oct_conv_window(g, first, last);
    ptrdiff_t row;
    const float *x = oct_window_read(job->f32, job->buffers + (size_t)thread * job->buffer_size, &row,
                                     job->x + image * x_image, job->affine, &window, g->in_h, g->in_w, g->in_c);
    float *y = job->y + (image * (size_t)g->out_h + (size_t)first) * y_row;
    forward_rows(job, y, x, row, last - first, g->out_w);
    add_sums(job, chunk, y, (size_t)(last - first) * (size_t)g->out_w);
}

static void forward_images(void *arg, int64_t chunk, int thread)
{
    const forward_job *job = (const forward_job *)arg;
    size_t last = oct_chunk_border(job->images, job->chunks, chunk + 1);
    if (job->sums) oct_sums_clear(job->sums, chunk, job->g->out_c);
    for (size_t n = oct_chunk_border(job->images, job->chunks, chunk); n < last; n++)
        for (int band = 0; band < job->bands; band++) forward_band(job, n, band, chunk, thread);
}

/* A chunk of images by Winograd's algorithm, group by group; or of a few images one part of the outputs, so that they
 * can use several threads. */
static void forward_winograd(void *arg, int64_t item, int thread)
{
    const forward_job *job = (const forward_job *)arg;
    const oct_conv_geometry *g = job->g;
    int64_t chunk = item / job->parts;
    size_t x_pixels = (size_t)g->in_h * (size_t)g->in_w, y_pixels = (size_t)g->out_h * (size_t)g->out_w;
    size_t group = (size_t)oct_winograd_images(g), last = oct_chunk_border(job->images, job->chunks, chunk + 1);
    float *made = job->buffers + (size_t)thread * job->buffer_size, *buffer = made + winograd_x_size(g);
    oct_winograd_outputs outputs = {.bias = job->bias, .part = (int)(item % job->parts), .parts = job->parts};
    oct_f32_end end;
    if (job->sums) oct_sums_clear(job->sums, chunk, g->out_c);
    for (size_t n = oct_chunk_border(job->images, job->chunks, chunk); n < last; n += group) {
        size_t images = last - n < group ? last - n : group;
        const float *x = job->x + n * x_pixels * (size_t)g->in_c;
        float *y = job->y + n * y_pixels * (size_t)g->out_c;
        x = oct_affine_read(job->f32, made, x, job->affine, images * x_pixels, g->in_c);
        outputs.end = end_at(&end, job, y);
        oct_winograd_run(job->f32, g, false, job->w, &outputs, y, x, (int)images, buffer);
        add_sums(job, chunk, y, images * y_pixels);
    }
}

static void forward_one_band(void *arg, int64_t item, int thread)
{
    const forward_job *job = (const forward_job *)arg;
    forward_band(job, (size_t)item / (size_t)job->bands, (int)(item % job->bands), 0, thread);
}

/* Cuts the work: into chunks of images or pixels, each with its sums; a small batch into bands of images, so that one
 * image can use several threads. */
static void run_forward(oct_step *step, forward_job *job)
{
    const oct_conv_geometry *g = job->g;
    const int threads = step->ctx->threads, small = 16;
    size_t pixels = job->images * (size_t)g->out_h * (size_t)g->out_w;
    if (g->pointwise) {
        size_t most = (pixels + 31) / 32; /* a linear layer does not run row by row */
        job->chunks = most < OCT_SUM_CHUNKS ? (int)most : OCT_SUM_CHUNKS;
    } else if (g->winograd) {
        int groups = (step->batch + oct_winograd_images(g) - 1) / oct_winograd_images(g);
        if (groups < 4) groups = step->batch < 4 ? step->batch : 4;
        job->chunks = groups < OCT_SUM_CHUNKS ? groups : OCT_SUM_CHUNKS;
        /* Values do not depend on the cut; every part transforms the input anew. */
        job->parts = step->batch == 1 && threads > 1 ? 2 : 1;
    } else if (step->batch >= small) {
        job->chunks = step->batch < OCT_SUM_CHUNKS ? step->batch : OCT_SUM_CHUNKS;
    }
    if (!job->chunks) {
        job->bands = (small + step->batch - 1) / step->batch;
        if (job->bands > g->out_h) job->bands = g->out_h;
        oct_parallel_for(threads, (int64_t)step->batch * job->bands, forward_one_band, job);
        return;
    }
    if (step->out->sums.sum && !job->end && step->run->mode == OCT_TRAIN && !step->run->bn_frozen) {
        job->sums = &step->out->sums;
        job->sums->chunks = job->chunks;
    }
    job->bands = (g->out_h + band_rows(g) - 1) / band_rows(g);
    oct_par_fn *body = g->pointwise ? forward_pixels : g->winograd ? forward_winograd : forward_images;
    oct_parallel_for(threads, (int64_t)job->chunks * job->parts, body, job);
}

void oct_conv_run(oct_step *step, const oct_conv_geometry *g, const float *packed, const float *bias,
                  const oct_f32_end *end)
{
    forward_layout layout = forward_memory(g, step->ctx->threads, step->scratch);
    forward_job job = {.f32 = step->f32,
                       .g = g,
                       .x = (const float *)step->in[0]->data,
                       .affine = oct_tensor_affine(step->in[0]),
                       .w = packed,
                       .bias = bias,
                       .end = end,
                       .y = (float *)step->out->data,
                       .buffers = layout.buffers,
                       .buffer_size = layout.buffer_size,
                       .images = (size_t)step->batch,
                       .parts = 1};
    if (!g->depthwise && !g->winograd)
        job.packed_group = oct_f32_packed_size(g->group_out, g->kernel_h, g->kernel_w, g->group_in);
    step->out->sums.chunks = 0;
    run_forward(step, &job);
}

oct_status oct_conv_forward(oct_step *step, const oct_conv_geometry *g)
{
    const float *w = (const float *)step->in[1]->data;
    if (!g->depthwise) { /* depthwise weights are read as they are */
        float *packed = forward_memory(g, step->ctx->threads, step->scratch).packed;
        oct_conv_pack(step, g, packed, w);
        w = packed;
    }
    oct_conv_run(step, g, w, step->input_count > 2 ? (const float *)step->in[2]->data : NULL, NULL);
    return OCT_OK;
}

/* --- the op --- */

static oct_status forward(oct_step *step)
{
    oct_conv_geometry g = geometry_in(step->graph, step->node);
    return oct_conv_forward(step, &g);
}

static oct_status backward(oct_step *step)
{
    oct_conv_geometry g = geometry_in(step->graph, step->node);
    return oct_conv_backward(step, &g, NULL);
}

static size_t scratch_bytes(const oct_graph *graph, const oct_unit *unit, int batch, int threads, bool back)
{
    oct_conv_geometry g = geometry_in(graph, oct_unit_node(graph, unit));
    return back ? oct_conv_backward_scratch(&g, batch, threads, false) : oct_conv_forward_scratch(&g, threads);
}

static oct_status reference_forward(oct_ref *ref)
{
    oct_conv_geometry g = oct_conv_geometry_of(ref->node, ref->in_node[0], ref->in_node[1]);
    return oct_conv_reference_forward(ref, &g);
}

static oct_status reference_backward(oct_ref *ref)
{
    oct_conv_geometry g = oct_conv_geometry_of(ref->node, ref->in_node[0], ref->in_node[1]);
    return oct_conv_reference_backward(ref, &g);
}

const oct_attr oct_conv2d_attr_table[OCT_CONV2D_ATTR_COUNT] = {
    {"kernel", OCT_ATTR_INT, offsetof(oct_conv2d_attrs, kernel), 2},
    {"stride", OCT_ATTR_INT, offsetof(oct_conv2d_attrs, stride), 2},
    {"dilation", OCT_ATTR_INT, offsetof(oct_conv2d_attrs, dilation), 2},
    {"pad", OCT_ATTR_INT, offsetof(oct_conv2d_attrs, pad), 4},
    {"groups", OCT_ATTR_INT, offsetof(oct_conv2d_attrs, groups), 1},
};

const oct_op oct_op_conv2d = {
    .name = "conv2d",
    .equation = "y[n,p,q,o] = b[o] + sum_{r,s,i} x[n, p*stride - top + r*dilation, q*stride - left + "
                "s*dilation, i] * "
                "w[o,r,s,i]",
    .attr_bytes = sizeof(oct_conv2d_attrs),
    .attrs = oct_conv2d_attr_table,
    .attr_count = OCT_CONV2D_ATTR_COUNT,
    .min_inputs = 2,
    .max_inputs = 3,
    .infer = conv2d_infer,
    .macs = conv2d_macs,
    .exec = {.name = "conv2d",
             .forward = forward,
             .backward = backward,
             .backward_reads = OCT_READS_INPUT(0) | OCT_READS_INPUT(1),
             .accepts_affine = 1,
             .takes_lazy_gradient = true,
             .makes_sums = true,
             .scratch_bytes = scratch_bytes},
    .reference = {.forward = reference_forward, .backward = reference_backward},
};
