/* SPDX-License-Identifier: BSD-2-Clause
 * Planning: how a step is cut, and where tensors live. Depends on the model alone, never on threads or batch.
 */
#include "quant/int8/engine.h"

enum {
    PADDED_TARGET = 64 * 1024, /* bytes of a padded block: with its weights, within a second-level cache */
    ACC_TARGET = 8192,         /* accumulators per chunk: 32 KiB, a first-level cache */
    CODE_TARGET = 16 * 1024,   /* bytes of operands per chunk where the kernels write codes: half a first-level cache */
    PIXEL_GRAIN = 24,          /* chunks are multiples of every kernel's pixel tile */
    SHARED_WEIGHTS = 128 * 1024, /* of a layer: from here on threads share its outputs */
    WORK_TARGET = 256 * 1024,  /* work (MACs, or 16 per code) of an item worth handing to a thread */
    ITEMS_TARGET = 8           /* items per image, when they are worth it */
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* A linear layer is a 1x1 convolution of one pixel with height*width*channels channels. */
static void set_groups(oct_int8_step *s, const oct_i8_kernels *k)
{
    const oct_int8_layer *l = &s->layer;
    const oct_int8_tensor *in = s->in[0];
    bool depthwise = l->op == OCT_INT8_DEPTHWISE, linear = l->op == OCT_INT8_LINEAR;
    int groups = l->op == OCT_INT8_CONV ? l->groups : 1;
    s->group_inputs = linear ? (int)oct_int8_tensor_elements(in) : in->channels / groups;
    s->group_outputs = s->out->channels / groups;
    s->group_operands = depthwise ? in->channels : (int)(ceil_div(s->group_inputs, k->group) * k->group);
    bool border = l->pad_top || l->pad_left || l->pad_bottom || l->pad_right;
    s->in_place =
        k->operand_bytes == 1 && !in->is_signed && !border && groups == 1 && s->group_operands == s->group_inputs;
    s->pointwise =
        linear || (l->kernel_h == 1 && l->kernel_w == 1 && l->stride_h == 1 && l->stride_w == 1 && !border);
}

static bool fits_depthwise_codes(const oct_int8_step *s, const oct_i8_kernels *k)
{
    const oct_int8_layer *l = &s->layer;
    if (l->op != OCT_INT8_DEPTHWISE || !s->writes_codes) return false;
    if (l->kernel_h != l->kernel_w || l->stride_h != l->stride_w || l->dilation_h != 1 || l->dilation_w != 1) return false;
    if ((l->kernel_h != 3 && l->kernel_h != 5) || l->stride_h > 2) return false;
    oct_i8_depthwise layer = oct_int8_step_depthwise(s);
    return k->packed_depthwise_codes_bytes(&layer) > 0;
}

/* Operands of one group's padded image for `rows` output rows. */
static int64_t padded_operands(const oct_int8_step *s, int rows)
{
    const oct_int8_layer *l = &s->layer;
    if (l->op == OCT_INT8_LINEAR) return s->group_operands;
    int64_t height = (int64_t)(rows - 1) * l->stride_h + (int64_t)l->dilation_h * (l->kernel_h - 1) + 1;
    return height * (s->in[0]->width + l->pad_left + l->pad_right) * s->group_operands;
}

static void cut_convolution(oct_int8_step *s, const oct_i8_kernels *k)
{
    oct_int8_cut *cut = &s->cut;
    int groups = s->layer.op == OCT_INT8_CONV ? s->layer.groups : 1, rows = s->out->height;
    if (!s->in_place) {
        int64_t one = padded_operands(s, 1) * groups * k->operand_bytes;
        int64_t more = rows > 1 ? padded_operands(s, 2) * groups * k->operand_bytes - one : 1;
        int64_t fit = one >= PADDED_TARGET ? 1 : 1 + (PADDED_TARGET - one) / (more > 0 ? more : 1);
        cut->rows_serial = fit < rows ? (int)fit : rows;
        cut->group_bytes = oct_size_align((size_t)padded_operands(s, cut->rows_serial) * (size_t)k->operand_bytes);
        cut->image_bytes = cut->group_bytes * (size_t)groups;
    }
    int64_t pixels = s->pointwise ? (int64_t)cut->rows_serial * s->out->width : s->out->width;
    int64_t target = s->writes_codes ? CODE_TARGET / s->group_operands : ACC_TARGET / s->out->channels;
    int64_t chunk = target / PIXEL_GRAIN * PIXEL_GRAIN;
    if (chunk < PIXEL_GRAIN) chunk = PIXEL_GRAIN;
    cut->chunk_pixels = (int)(chunk < pixels ? chunk : pixels);
    if (!s->writes_codes)
        cut->acc_bytes = (size_t)cut->chunk_pixels * (size_t)s->out->channels * sizeof(int32_t);
}

static int64_t work_per_row(const oct_int8_step *s)
{
    const oct_int8_layer *l = &s->layer;
    int64_t codes = (int64_t)s->out->width * s->out->channels;
    switch (l->op) {
    case OCT_INT8_CONV:
        return codes * l->kernel_h * l->kernel_w * s->group_inputs;
    case OCT_INT8_DEPTHWISE:
    case OCT_INT8_MAX_POOL:
    case OCT_INT8_AVERAGE_POOL:
        return codes * l->kernel_h * l->kernel_w * 4;
    case OCT_INT8_LINEAR:
        return codes * s->group_inputs;
    default:
        return codes * 16;
    }
}

/* Threads share outputs instead of rows where the weights are many: each then keeps its own part of them in its cache. */
static bool shares_outputs(const oct_int8_step *s)
{
    const oct_int8_layer *l = &s->layer;
    if (l->op == OCT_INT8_LINEAR) return true;
    if (l->op != OCT_INT8_CONV || l->groups > 1 || s->cut.rows_serial < s->out->height) return false;
    int64_t weights = (int64_t)l->kernel_h * l->kernel_w * s->group_inputs * s->group_outputs;
    return weights >= SHARED_WEIGHTS && s->out->channels >= 2 * OCT_INT8_PART_OUTPUTS;
}

void oct_int8_plan_step(oct_int8_step *s, const oct_i8_kernels *kernels)
{
    int rows = s->out->height;
    s->cut = (oct_int8_cut){.rows_serial = rows};
    s->nothing = s->layer.op == OCT_INT8_FLATTEN || s->layer.op == OCT_INT8_RESHAPE;
    if (oct_int8_op_has_weights(s->layer.op)) {
        set_groups(s, kernels);
        s->depthwise_codes = fits_depthwise_codes(s, kernels);
        if (s->layer.op == OCT_INT8_DEPTHWISE) s->writes_codes = s->depthwise_codes;
        if (!s->depthwise_codes)
            cut_convolution(s, kernels);
        else if (rows > OCT_INT8_DEPTHWISE_ROWS)
            s->cut.rows_serial = OCT_INT8_DEPTHWISE_ROWS;
    } else if (s->layer.op == OCT_INT8_AVERAGE_POOL) {
        s->cut.acc_bytes = (size_t)s->out->channels * sizeof(int32_t);
    }
    int64_t worth = ceil_div(WORK_TARGET, work_per_row(s)), share = ceil_div(rows, ITEMS_TARGET);
    int64_t parallel = worth > share ? worth : share;
    s->cut.rows_parallel = parallel < s->cut.rows_serial ? (int)parallel : s->cut.rows_serial;
    s->cut.shares_outputs = shares_outputs(s);
}

/* A tensor in the arena: alive from the step that writes it to the last step that reads it. */
typedef struct life {
    int tensor, first, last;
    size_t bytes, offset;
} life;

static void find_lives(const oct_int8_model *m, life *lives)
{
    for (int t = 0; t < m->spec.tensor_count; t++)
        lives[t] = (life){.tensor = t, .first = -1, .last = -1, .bytes = oct_int8_tensor_bytes(&m->spec.tensors[t])};
    for (int i = 0; i < m->step_count; i++) {
        const oct_int8_layer *l = &m->steps[i].layer;
        int root = m->root[l->output];
        if (lives[root].first < 0) lives[root].first = i;
        lives[root].last = i;
        for (int j = 0; j < l->input_count; j++) lives[m->root[l->inputs[j]]].last = i;
    }
    lives[m->root[m->spec.output]].last = m->step_count; /* read after the walk */
}

static bool overlap(const life *a, const life *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* Lowest offset free during the life of `one`; placed lives are sorted by offset. */
static size_t lowest_offset(const life *placed, int count, const life *one)
{
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        if (!overlap(&placed[i], one)) continue;
        if (placed[i].offset >= at + one->bytes) break;
        size_t end = placed[i].offset + oct_size_align(placed[i].bytes);
        if (end > at) at = end;
    }
    return at;
}

static void insert_sorted(life *placed, int count, const life *one)
{
    int i = count;
    for (; i > 0 && placed[i - 1].offset > one->offset; i--) placed[i] = placed[i - 1];
    placed[i] = *one;
}

static int largest_unplaced(const life *lives, const bool *done, int count)
{
    int best = -1;
    for (int t = 0; t < count; t++)
        if (!done[t] && (best < 0 || lives[t].bytes > lives[best].bytes)) best = t;
    return best;
}

/* Greedy by size: the largest tensor first, each at the lowest offset that is free while it lives. */
static void place(oct_int8_model *m, const life *lives, life *placed, bool *done)
{
    int count = m->spec.tensor_count, placed_count = 0;
    for (int t = 0; t < count; t++)
        done[t] = m->root[t] != t || lives[t].first < 0 || m->spec.tensors[t].kind != OCT_INT8_CODES;
    for (int t; (t = largest_unplaced(lives, done, count)) >= 0; done[t] = true) {
        life one = lives[t];
        one.offset = lowest_offset(placed, placed_count, &one);
        insert_sorted(placed, placed_count++, &one);
        m->offset[t] = one.offset;
        size_t end = one.offset + oct_size_align(one.bytes);
        if (end > m->image_bytes) m->image_bytes = end;
    }
}

oct_status oct_int8_plan_memory(oct_int8_model *m, oct_error *error)
{
    size_t count = (size_t)m->spec.tensor_count;
    m->root = oct_arena_alloc(&m->arena, count, sizeof *m->root);
    m->offset = oct_arena_alloc(&m->arena, count, sizeof *m->offset);
    life *lives = oct_calloc(2 * count, sizeof *lives);
    bool *done = oct_calloc(count, sizeof *done);
    oct_status status = OCT_OK;
    if (m->root && m->offset && lives && done) {
        for (int t = 0; t < m->spec.tensor_count; t++) m->root[t] = t;
        for (int i = 0; i < m->step_count; i++) {
            const oct_int8_step *s = &m->steps[i];
            if (s->nothing) m->root[s->layer.output] = m->root[s->layer.inputs[0]];
            size_t scratch = s->cut.image_bytes + oct_size_align(s->cut.acc_bytes);
            if (scratch > m->scratch_bytes) m->scratch_bytes = scratch;
        }
        find_lives(m, lives);
        place(m, lives, lives + count, done);
    } else {
        status = oct_fail(error, OCT_ERR_MEMORY, "out of memory: plan of an int8 model");
    }
    oct_free(done);
    oct_free(lives);
    return status;
}
