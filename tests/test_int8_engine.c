/* SPDX-License-Identifier: BSD-2-Clause
 * The engine against a plain integer model that shares no rounding, no layout and no kernel with it, on random
 * networks; the flat image against hostile bytes; the public calls' errors.
 */
#include <stdint.h>
#include <unistd.h>

#include "autograd/base/bytes.h"
#include "autograd/base/cpu.h"
#include "quant/int8/image.h"
#include "tests/int8_affine.h"
#include "tests/int8_networks.h"
#include "tests/testing.h"

__extension__ typedef __int128 wide;

enum { BATCH = 9 };

/* ---- the plain model: one int32 per value, one image ---- */

static wide floor_div(wide a, wide b)
{
    wide q = a / b;
    return a % b < 0 ? q - 1 : q;
}

/* clamp(floor(value * 2^-shift / divisor + 1/2)), exact */
static int32_t plain_round(wide value, int shift, wide divisor, int lo, int hi)
{
    wide numerator = value, denominator = divisor;
    if (shift > 0) denominator *= (wide)1 << shift;
    if (shift < 0) numerator *= (wide)1 << -shift;
    wide q = floor_div(2 * numerator + denominator, 2 * denominator);
    return (int32_t)(q < lo ? lo : q > hi ? hi : q);
}

static size_t at(const oct_int8_tensor *t, int y, int x, int c)
{
    return ((size_t)y * (size_t)t->width + (size_t)x) * (size_t)t->channels + (size_t)c;
}

static bool inside(const oct_int8_tensor *t, int y, int x)
{
    return y >= 0 && x >= 0 && y < t->height && x < t->width;
}

static int64_t plain_conv_sum(const oct_int8_layer *l, const oct_int8_tensor *in, const int32_t *x, int outputs,
                              int oy, int ox, int o)
{
    int per = in->channels / l->groups, group = o / (outputs / l->groups);
    int64_t sum = l->bias[o];
    for (int r = 0; r < l->kernel_h; r++) {
        for (int t = 0; t < l->kernel_w; t++) {
            int y = oy * l->stride_h - l->pad_top + r * l->dilation_h;
            int z = ox * l->stride_w - l->pad_left + t * l->dilation_w;
            if (!inside(in, y, z)) continue;
            if (l->op == OCT_INT8_DEPTHWISE) {
                sum += (int64_t)l->weights[(r * l->kernel_w + t) * outputs + o] * x[at(in, y, z, o)];
                continue;
            }
            for (int i = 0; i < per; i++)
                sum += (int64_t)l->weights[((o * l->kernel_h + r) * l->kernel_w + t) * per + i] *
                       x[at(in, y, z, group * per + i)];
        }
    }
    return sum;
}

/* What the sum of output o becomes. */
static int32_t plain_output(const oct_int8_spec *spec, const oct_int8_layer *l, int64_t acc, int o)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]], *out = &spec->tensors[l->output];
    int i = l->weight_exponent_count == 1 ? 0 : o;
    if (out->kind == OCT_INT8_SCORES) return (int32_t)acc;
    if (!oct_int8_spec_is_affine(spec))
        return plain_round(acc, in->exponent + l->weight_exponents[i] - out->exponent, 1, l->out_lo, l->out_hi);
    double ratio = (double)in->scale * (double)l->weight_scales[i] / (double)out->scale;
    return plain_affine_code(plain_affine_scaled(acc, ratio, spec->rounding), out->zero_point, l->out_lo, l->out_hi);
}

/* x: codes with their zero point taken off. */
static void plain_weights(const oct_int8_spec *spec, const oct_int8_layer *l, int32_t *y, const int32_t *x)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]], *out = &spec->tensors[l->output];
    int values = (int)oct_int8_tensor_elements(in);
    for (int oy = 0; oy < out->height; oy++) {
        for (int ox = 0; ox < out->width; ox++) {
            for (int o = 0; o < out->channels; o++) {
                int64_t acc = 0;
                if (l->op == OCT_INT8_LINEAR) {
                    acc = l->bias[o];
                    for (int i = 0; i < values; i++)
                        acc += (int64_t)l->weights[(size_t)o * (size_t)values + (size_t)i] * x[i];
                } else {
                    acc = plain_conv_sum(l, in, x, out->channels, oy, ox, o);
                }
                y[at(out, oy, ox, o)] = plain_output(spec, l, acc, o);
            }
        }
    }
}

static void plain_pool(const oct_int8_spec *spec, const oct_int8_layer *l, int32_t *y, const int32_t *x)
{
    const oct_int8_tensor *in = &spec->tensors[l->inputs[0]], *out = &spec->tensors[l->output];
    for (int oy = 0; oy < out->height; oy++) {
        for (int ox = 0; ox < out->width; ox++) {
            for (int c = 0; c < out->channels; c++) {
                int64_t sum = 0, count = 0, most = INT32_MIN;
                for (int r = 0; r < l->kernel_h; r++) {
                    for (int t = 0; t < l->kernel_w; t++) {
                        int iy = oy * l->stride_h - l->pad_top + r, ix = ox * l->stride_w - l->pad_left + t;
                        if (!inside(in, iy, ix)) continue;
                        int32_t v = x[at(in, iy, ix, c)];
                        sum += v;
                        count++;
                        if (v > most) most = v;
                    }
                }
                double ratio = (double)in->scale / ((double)out->scale * (double)count);
                y[at(out, oy, ox, c)] = l->op == OCT_INT8_MAX_POOL ? (int32_t)most
                                        : oct_int8_spec_is_affine(spec)
                                            ? plain_affine_code(plain_affine_scaled(sum - count * in->zero_point, ratio,
                                                                                    spec->rounding),
                                                                out->zero_point, l->out_lo, l->out_hi)
                                                                   : plain_round(sum, in->exponent - out->exponent,
                                                                                 count, l->out_lo, l->out_hi);
            }
        }
    }
}

static void plain_join(const oct_int8_spec *spec, const oct_int8_layer *l, int32_t *y, int32_t *const *values)
{
    const oct_int8_tensor *out = &spec->tensors[l->output], *a = &spec->tensors[l->inputs[0]];
    const oct_int8_tensor *b = &spec->tensors[l->inputs[l->input_count - 1]];
    const int32_t *x = values[l->inputs[0]], *z = values[l->inputs[l->input_count - 1]];
    size_t n = oct_int8_tensor_elements(out);
    int k = a->exponent > b->exponent ? a->exponent : b->exponent;
    int sign = l->op == OCT_INT8_SUB ? -1 : 1;
    for (size_t i = 0; i < n && (l->op == OCT_INT8_ADD || l->op == OCT_INT8_SUB); i++)
        y[i] = plain_round((wide)x[i] * ((wide)1 << (k - a->exponent)) + sign * (wide)z[i] * ((wide)1 << (k - b->exponent)),
                           k - out->exponent, 1, l->out_lo, l->out_hi);
    for (size_t i = 0; i < n && l->op == OCT_INT8_MUL; i++)
        y[i] = plain_round((wide)x[i] * z[i], a->exponent + b->exponent - out->exponent, 1, l->out_lo, l->out_hi);
    if (l->op != OCT_INT8_CONCAT && l->op != OCT_INT8_RESCALE) return;
    int channel = 0;
    for (int j = 0; j < l->input_count; j++) {
        const oct_int8_tensor *t = &spec->tensors[l->inputs[j]];
        for (int p = 0; p < t->height * t->width; p++)
            for (int c = 0; c < t->channels; c++)
                y[p * out->channels + channel + c] = plain_round(
                    values[l->inputs[j]][p * t->channels + c], t->exponent - out->exponent, 1, l->out_lo, l->out_hi);
        channel += t->channels;
    }
}

/* The one dimension of it: input position of output o, -1 = zero. */
static int plain_padded(int o, int stride, int pad, int dilation, int size)
{
    int at = o * stride - pad;
    return at < 0 || at % dilation != 0 || at / dilation >= size ? -1 : at / dilation;
}

static void plain_pad(const oct_int8_layer *l, const oct_int8_tensor *in, const oct_int8_tensor *out, int32_t *y,
                      const int32_t *x)
{
    for (int oy = 0; oy < out->height; oy++) {
        for (int ox = 0; ox < out->width; ox++) {
            for (int c = 0; c < out->channels; c++) {
                int iy = plain_padded(oy, l->stride_h, l->pad_top, l->dilation_h, in->height);
                int ix = plain_padded(ox, l->stride_w, l->pad_left, l->dilation_w, in->width), ic = c + l->option;
                bool zero = iy < 0 || ix < 0 || ic < 0 || ic >= in->channels;
                y[at(out, oy, ox, c)] = zero ? in->zero_point : x[at(in, iy, ix, ic)];
            }
        }
    }
}

/* In double: positions are fractions of small numbers, far from where rounding them could matter. */
static double plain_position(int grid, int o, int in, int out)
{
    double p = grid == 0 ? (2.0 * o + 1) * in / (2.0 * out) - 0.5 : grid == 1 ? (double)o * in / out
               : out > 1 ? (double)o * (in - 1) / (out - 1) : 0;
    p += 1e-9; /* whole and half positions are meant exactly, and both round up */
    return p < 0 ? 0 : p > in - 1 ? in - 1 : p;
}

static void plain_resize(const oct_int8_layer *l, const oct_int8_tensor *in, const oct_int8_tensor *out, int32_t *y,
                         const int32_t *x)
{
    for (int oy = 0; oy < out->height; oy++) {
        for (int ox = 0; ox < out->width; ox++) {
            double py = plain_position(l->option, oy, in->height, out->height);
            double px = plain_position(l->option, ox, in->width, out->width);
            double half = l->option == 1 ? 0 : 0.5;
            int ny = (int)(py + half), nx = (int)(px + half), fy = (int)py, fx = (int)px;
            int wy = (int)((py - fy) * 1024 + 0.5), wx = (int)((px - fx) * 1024 + 0.5);
            int gy = fy + (wy > 0), gx = fx + (wx > 0);
            if (ny > in->height - 1) ny = in->height - 1;
            if (nx > in->width - 1) nx = in->width - 1;
            for (int c = 0; c < out->channels; c++) {
                int64_t sum = (int64_t)(1024 - wy) * (1024 - wx) * x[at(in, fy, fx, c)] +
                              (int64_t)(1024 - wy) * wx * x[at(in, fy, gx, c)] +
                              (int64_t)wy * (1024 - wx) * x[at(in, gy, fx, c)] + (int64_t)wy * wx * x[at(in, gy, gx, c)];
                y[at(out, oy, ox, c)] =
                    l->op == OCT_INT8_RESIZE_NEAREST ? x[at(in, ny, nx, c)] : plain_round(sum, 20, 1, -128, 255);
            }
        }
    }
}

static void plain_along_channels(const oct_int8_layer *l, const oct_int8_tensor *in, int32_t *y, const int32_t *x)
{
    int n = in->channels;
    for (int p = 0; p < in->height * in->width; p++, x += n) {
        int best = 0;
        for (int c = 1; c < n; c++) best = x[c] > x[best] ? c : best;
        if (l->op == OCT_INT8_ARGMAX) {
            y[p] = best;
            continue;
        }
        int64_t e[1 << 12], sum = 0;
        for (int c = 0; c < n; c++) {
            int d = x[best] - x[c];
            sum += e[c] = l->table[d] + 256 * l->table[256 + d] + 65536 * l->table[512 + d];
        }
        for (int c = 0; c < n; c++) {
            int64_t q = (256 * e[c] + sum / 2) / sum;
            y[p * n + c] = (int32_t)(q < 255 ? q : 255);
        }
    }
}

/* The same in profile affine. */
static void plain_affine_join(const oct_int8_spec *spec, const oct_int8_layer *l, int32_t *y, int32_t *const *values)
{
    const oct_int8_tensor *out = &spec->tensors[l->output], *a = &spec->tensors[l->inputs[0]];
    const oct_int8_tensor *b = &spec->tensors[l->inputs[l->input_count - 1]];
    const int32_t *x = values[l->inputs[0]], *z = values[l->inputs[l->input_count - 1]];
    int channel = 0;
    int sign = l->op == OCT_INT8_SUB ? -1 : 1;
    for (size_t i = 0; i < oct_int8_tensor_elements(out) && (l->op == OCT_INT8_ADD || l->op == OCT_INT8_SUB); i++)
        y[i] = plain_affine_code(plain_affine_add(a, b, out, x[i], sign, z[i], spec->rounding), out->zero_point, l->out_lo,
                                 l->out_hi);
    for (size_t i = 0; i < oct_int8_tensor_elements(out) && l->op == OCT_INT8_MUL; i++) {
        double ratio = (double)a->scale * (double)b->scale / (double)out->scale;
        int64_t product = (int64_t)(x[i] - a->zero_point) * (z[i] - b->zero_point);
        y[i] = plain_affine_code(plain_affine_scaled(product, ratio, spec->rounding), out->zero_point, l->out_lo, l->out_hi);
    }
    if (l->op != OCT_INT8_CONCAT && l->op != OCT_INT8_RESCALE) return;
    for (int j = 0; j < l->input_count; j++) {
        const oct_int8_tensor *t = &spec->tensors[l->inputs[j]];
        double ratio = (double)t->scale / (double)out->scale;
        for (int p = 0; p < t->height * t->width; p++)
            for (int c = 0; c < t->channels; c++)
                y[p * out->channels + channel + c] = plain_affine_code(
                    plain_affine_scaled(values[l->inputs[j]][p * t->channels + c] - t->zero_point, ratio, spec->rounding),
                    out->zero_point, l->out_lo, l->out_hi);
        channel += t->channels;
    }
}

static int32_t as_code(const oct_int8_tensor *t, uint8_t byte)
{
    return t->is_signed && byte > 127 ? (int32_t)byte - 256 : byte;
}

/* values[t][...] of every tensor from the input already in values[spec->input]. */
static void plain_run(const oct_int8_spec *spec, int32_t *const *values)
{
    for (int i = 0; i < spec->layer_count; i++) {
        const oct_int8_layer *l = &spec->layers[i];
        const int32_t *x = values[l->inputs[0]];
        int32_t *y = values[l->output];
        const oct_int8_tensor *out = &spec->tensors[l->output];
        size_t n = oct_int8_tensor_elements(out);
        const oct_int8_tensor *in = &spec->tensors[l->inputs[0]];
        if (oct_int8_op_has_weights(l->op)) {
            size_t count = oct_int8_tensor_elements(in);
            int32_t *differences = oct_alloc(count, sizeof *differences);
            for (size_t j = 0; j < count; j++) differences[j] = x[j] - in->zero_point;
            plain_weights(spec, l, y, differences);
            oct_free(differences);
        } else if (l->op == OCT_INT8_PAD) {
            plain_pad(l, in, out, y, x);
        } else if (l->op == OCT_INT8_RESIZE_NEAREST || l->op == OCT_INT8_RESIZE_BILINEAR) {
            plain_resize(l, in, out, y, x);
        } else if (l->op == OCT_INT8_SOFTMAX || l->op == OCT_INT8_ARGMAX) {
            plain_along_channels(l, in, y, x);
        } else if (oct_int8_op_has_geometry(l->op)) {
            plain_pool(spec, l, y, x);
        } else if (l->op == OCT_INT8_LOOKUP) {
            for (size_t j = 0; j < n; j++) {
                size_t row = l->table_rows == 1 ? 0 : j % (size_t)out->channels;
                y[j] = as_code(out, l->table[256 * row + (uint8_t)x[j]]);
            }
        } else if (l->op == OCT_INT8_FLATTEN || l->op == OCT_INT8_RESHAPE) {
            memcpy(y, x, n * sizeof *y);
        } else if (oct_int8_spec_is_affine(spec)) {
            plain_affine_join(spec, l, y, values);
        } else {
            plain_join(spec, l, y, values);
        }
    }
}

/* ---- comparing ---- */

typedef struct truth {
    const oct_int8_spec *spec;
    uint8_t *input; /* [BATCH] images of the input tensor */
    int32_t *values[NET_MAX][BATCH];
    size_t seen, differing; /* by the observer */
    int tensors;
} truth;

/* Images: 0 all lowest, 1 all highest, 2 alternating extremes, the rest random. */
static void fill_input(net *n, uint8_t *x, const oct_int8_tensor *t, int image)
{
    size_t count = oct_int8_tensor_elements(t);
    uint8_t low = t->is_signed ? 0x80 : 0, high = t->is_signed ? 0x7f : 0xff;
    for (size_t i = 0; i < count; i++) {
        uint8_t random = (uint8_t)net_pick(n, 0, 255);
        x[i] = image == 0 ? low : image == 1 ? high : image == 2 ? (i % 2 ? low : high) : random;
    }
}

static void truth_make(truth *t, net *n)
{
    const oct_int8_spec *spec = &n->spec;
    const oct_int8_tensor *in = &spec->tensors[spec->input];
    size_t bytes = oct_int8_tensor_bytes(in);
    *t = (truth){.spec = spec, .input = oct_arena_alloc(&n->arena, BATCH, bytes)};
    for (int image = 0; image < BATCH; image++) {
        int32_t *values[NET_MAX];
        uint8_t *x = t->input + (size_t)image * bytes;
        for (int i = 0; i < spec->tensor_count; i++)
            values[i] = t->values[i][image] =
                oct_arena_alloc(&n->arena, oct_int8_tensor_elements(&spec->tensors[i]), sizeof(int32_t));
        fill_input(n, x, in, image);
        for (size_t i = 0; i < bytes; i++) values[spec->input][i] = as_code(in, x[i]);
        plain_run(spec, values);
    }
}

static void compare_tensor(void *user, int tensor, const void *data, int count)
{
    truth *t = user;
    const oct_int8_tensor *what = &t->spec->tensors[tensor];
    size_t n = oct_int8_tensor_elements(what), before = t->differing;
    for (int image = 0; image < count; image++) {
        for (size_t i = 0; i < n; i++) {
            size_t e = (size_t)image * n + i;
            int32_t got = what->kind == OCT_INT8_SCORES ? ((const int32_t *)data)[e]
                                                        : as_code(what, ((const uint8_t *)data)[e]);
            t->seen++;
            t->differing += got != t->values[tensor][image][i];
        }
    }
    t->tensors++;
    if (t->differing != before)
        printf("    tensor %s: %zu of %zu codes differ\n", what->name, t->differing - before, n * (size_t)count);
}

static bool scores_are_true(const truth *t, const int32_t *scores, int count)
{
    size_t n = oct_int8_tensor_elements(&t->spec->tensors[t->spec->output]);
    for (int image = 0; image < count; image++)
        if (memcmp(scores + (size_t)image * n, t->values[t->spec->output][image], n * sizeof *scores)) return false;
    return true;
}

static oct_status run_any(oct_int8_state *state, const oct_int8_model *model, const uint8_t *input, int count,
                          int32_t *scores)
{
    bool pixels = oct_int8_tensor_at(model, oct_int8_input(model))->kind == OCT_INT8_PIXELS;
    return pixels ? oct_int8_run(state, input, count, scores) : oct_int8_run_codes(state, input, count, scores);
}

/* Every thread count (thorough: and every batch) gives the truth; observed, every tensor does. */
static void check_model(const oct_int8_model *model, truth *t, int32_t *scores, bool thorough)
{
    oct_error error = {0};
    size_t outputs = oct_int8_tensor_elements(&t->spec->tensors[t->spec->output]);
    for (int threads = 1; threads <= 4; threads += thorough ? 1 : 2) {
        oct_int8_state *state;
        CU_ASSERT_TRUE_FATAL(
            test_is_ok(&error, oct_int8_state_create(&state, model, BATCH, threads, &error), "state"));
        for (int count = 1; count <= BATCH; count += thorough || count == BATCH - 1 ? 1 : BATCH - 2) {
            memset(scores, 0x55, BATCH * outputs * sizeof *scores);
            CU_ASSERT_EQUAL(run_any(state, model, t->input, count, scores), OCT_OK);
            CU_ASSERT_TRUE(scores_are_true(t, scores, count));
        }
        t->seen = t->differing = 0, t->tensors = 0;
        CU_ASSERT_EQUAL(oct_int8_observe(state, compare_tensor, t, &error), OCT_OK);
        CU_ASSERT_EQUAL(run_any(state, model, t->input, threads == 1 ? 1 : BATCH, scores), OCT_OK);
        CU_ASSERT_EQUAL(t->tensors, t->spec->layer_count);
        CU_ASSERT_EQUAL(t->differing, 0);
        CU_ASSERT_TRUE(t->seen > 0);
        oct_int8_state_destroy(state);
    }
}

static void check_all_levels(net *n, bool thorough)
{
    oct_error error = {0};
    uint8_t *bytes;
    size_t size;
    if (!test_is_ok(&error, oct_int8_image_write(&bytes, &size, &n->spec, &error), "oct_int8_image_write")) {
        CU_FAIL("the network is not valid");
        return;
    }
    truth t;
    truth_make(&t, n);
    int32_t *scores = oct_arena_alloc(&n->arena, BATCH * oct_int8_tensor_elements(&n->spec.tensors[n->spec.output]),
                                      sizeof *scores);
    for (int level = 0; oct_cpu_level_name(level); level++) {
        uint32_t mask;
        CU_ASSERT_EQUAL(oct_cpu_parse(&mask, oct_cpu_level_name(level), &error), OCT_OK);
        if (mask & ~oct_cpu_detect()) continue;
        oct_int8_model *model;
        oct_status status =
            oct_int8_open(&model, bytes, size, &(oct_int8_options){.cpu = oct_cpu_level_name(level)}, &error);
        CU_ASSERT_TRUE(test_is_ok(&error, status, "oct_int8_open"));
        if (model) check_model(model, &t, scores, thorough);
        oct_int8_close(model);
    }
    oct_free(bytes);
}

static void run_random_networks_match_plain_model(void)
{
    int used[OCT_INT8_OP_COUNT] = {0};
    for (unsigned seed = 0; seed < 60; seed++) {
        net n;
        net_random(&n, seed, 12);
        for (int i = 0; i < n.spec.layer_count; i++) used[n.layers[i].op]++;
        unsigned before = CU_get_number_of_failures();
        check_all_levels(&n, seed % 6 == 0);
        if (CU_get_number_of_failures() != before) printf("    seed %u\n", seed);
        net_release(&n);
    }
    for (int op = 0; op < OCT_INT8_OP_COUNT; op++) CU_ASSERT_TRUE(used[op] > 0);
}

/* Profile affine, each rounding: any scale, zero points at the border, multipliers above 1. */
static void run_random_affine_networks_match_plain_model(void)
{
    for (unsigned seed = 0; seed < 45; seed++) {
        net n;
        net_random(&n, seed + 1000, 12);
        net_make_affine(&n, OCT_INT8_ROUND_FLOAT + seed % 3);
        unsigned before = CU_get_number_of_failures();
        check_all_levels(&n, seed % 9 == 0);
        if (CU_get_number_of_failures() != before) printf("    affine seed %u\n", seed);
        net_release(&n);
    }
}

/* Scores compare by their products in double, in the order of the channels' scales. */
static void argmax_affine_compares_scaled_scores(void)
{
    net n;
    net_start(&n, 5);
    n.spec.input = net_tensor(&n, OCT_INT8_CODES, 1, 1, 4, 0, 0);
    n.spec.output = net_linear(&n, n.spec.input, 3, OCT_INT8_SCORES);
    net_make_affine(&n, OCT_INT8_ROUND_FLOAT);
    float scales[3] = {0.1f, 0.3f, 0.2f};
    n.layers[0].weight_scales = scales, n.layers[0].weight_exponent_count = 3;
    uint8_t *bytes;
    size_t size;
    oct_error error = {0};
    CU_ASSERT_EQUAL_FATAL(oct_int8_image_write(&bytes, &size, &n.spec, &error), OCT_OK);
    oct_int8_model *model;
    CU_ASSERT_EQUAL_FATAL(oct_int8_open(&model, bytes, size, NULL, &error), OCT_OK);
    CU_ASSERT_EQUAL(oct_int8_argmax(model, (const int32_t[]){30, 11, 15}), 1);
    CU_ASSERT_EQUAL(oct_int8_argmax(model, (const int32_t[]){-30, -11, -15}), 0 + 2 * (0.2f * 15 < 0.1f * 30));
    CU_ASSERT_EQUAL(oct_int8_argmax(model, (const int32_t[]){0, 0, 0}), 0);
    CU_ASSERT_EQUAL(oct_int8_argmax(model, (const int32_t[]){INT32_MAX, INT32_MIN, 0}), 0);
    CU_ASSERT_EQUAL(oct_int8_score_scale(model, 1), (double)n.tensors[n.spec.input].scale * (double)0.3f);
    CU_ASSERT_EQUAL(oct_int8_model_rounding(model), OCT_INT8_ROUND_FLOAT);
    oct_int8_close(model);
    oct_free(bytes);
    net_release(&n);
}

/* What must not be in an affine model, and what must. */
static void affine_faults_are_named(void)
{
    static const struct {
        const char *message;
        int fault;
    } faults[] = {{"scale 0, expected 2^-60..2^60", 0},     {"zero point 256, expected 0..255", 1},
                  {"sign 1 and exponent 0", 2},             {"rounding 'shift' does not fit profile 'affine'", 3},
                  {"weight scales are missing", 4},         {"weight scale of output 0 is 0", 5},
                  {"expected those of the input", 6}};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        net n;
        net_start(&n, 3);
        n.spec.input = net_tensor(&n, OCT_INT8_CODES, 4, 4, 4, 0, 0);
        int pooled = net_pool(&n, n.spec.input, OCT_INT8_MAX_POOL, true);
        n.spec.output = net_linear(&n, pooled, 3, OCT_INT8_CODES);
        net_make_affine(&n, OCT_INT8_ROUND_DOUBLE);
        static const float zero = 0;
        oct_int8_layer *head = &n.layers[1];
        if (faults[i].fault == 0) n.tensors[n.spec.output].scale = 0;
        if (faults[i].fault == 1) n.tensors[n.spec.output].zero_point = 256;
        if (faults[i].fault == 2) n.tensors[n.spec.output].is_signed = 1;
        if (faults[i].fault == 3) n.spec.rounding = OCT_INT8_ROUND_SHIFT;
        if (faults[i].fault == 4) head->weight_scales = NULL;
        if (faults[i].fault == 5) head->weight_scales = &zero, head->weight_exponent_count = 1;
        if (faults[i].fault == 6) n.tensors[pooled].zero_point ^= 1;
        oct_error error = {0};
        CU_ASSERT_EQUAL(oct_int8_spec_check(&n.spec, &error), OCT_ERR_FORMAT);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.message, faults[i].message));
        if (!strstr(error.message, faults[i].message)) printf("    '%s'\n", error.message);
        net_release(&n);
    }
}

/* Signed input, padding, all weights +-127: where byte levels add 128 to the codes and must take it back. */
static void run_signed_padded_extreme_weights_match_plain_model(void)
{
    for (int is_signed = 0; is_signed <= 1; is_signed++) {
        for (int groups = 0; groups <= 2; groups++) {
            net n;
            net_start(&n, 7);
            int x = net_tensor(&n, OCT_INT8_CODES, 9, 7, 34, is_signed, 3);
            n.spec.input = x;
            x = net_conv(&n, x, 50, 3, groups, OCT_INT8_CODES);
            net_weights(&n, &n.layers[0], true);
            x = net_linear(&n, x, 17, OCT_INT8_SCORES);
            net_weights(&n, &n.layers[1], true);
            n.spec.output = x;
            check_all_levels(&n, true);
            net_release(&n);
        }
    }
}

/* A layer larger than one block of padded rows and one chunk of pixels. */
static void run_large_layers_match_plain_model(void)
{
    net n;
    net_start(&n, 11);
    int x = net_tensor(&n, OCT_INT8_CODES, 61, 47, 48, 1, 3);
    n.spec.input = x;
    x = net_conv(&n, x, 400, 1, 1, OCT_INT8_CODES);
    x = net_conv(&n, x, 0, 3, 0, OCT_INT8_CODES);
    x = net_conv(&n, x, 20, 3, 2, OCT_INT8_CODES);
    x = net_pool(&n, x, OCT_INT8_AVERAGE_POOL, true);
    n.spec.output = net_linear(&n, x, 10, OCT_INT8_SCORES);
    oct_error error = {0};
    uint8_t *bytes;
    size_t size;
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_int8_image_write(&bytes, &size, &n.spec, &error), "write"));
    int32_t *values[NET_MAX], scores[10], first[10];
    uint8_t *input = oct_arena_alloc(&n.arena, oct_int8_tensor_elements(&n.tensors[0]), 1);
    for (int i = 0; i < n.spec.tensor_count; i++)
        values[i] = oct_arena_alloc(&n.arena, oct_int8_tensor_elements(&n.tensors[i]), sizeof(int32_t));
    fill_input(&n, input, &n.tensors[0], 3);
    for (size_t i = 0; i < oct_int8_tensor_elements(&n.tensors[0]); i++)
        values[0][i] = as_code(&n.tensors[0], input[i]);
    plain_run(&n.spec, values);
    memcpy(first, values[n.spec.output], sizeof first);
    for (int threads = 1; threads <= 3; threads++) {
        oct_int8_model *model;
        oct_int8_state *state;
        CU_ASSERT_EQUAL_FATAL(oct_int8_open(&model, bytes, size, NULL, &error), OCT_OK);
        CU_ASSERT_EQUAL_FATAL(oct_int8_state_create(&state, model, 1, threads, &error), OCT_OK);
        CU_ASSERT_EQUAL(oct_int8_run_codes(state, input, 1, scores), OCT_OK);
        CU_ASSERT_EQUAL(memcmp(scores, first, sizeof scores), 0);
        oct_int8_state_destroy(state);
        oct_int8_close(model);
    }
    oct_free(bytes);
    net_release(&n);
}

/* One elementwise layer on a signed and an unsigned input, all exponents at their limits. */
static void check_pair(oct_int8_op op, int ka, int kb, int ko)
{
    net n;
    net_start(&n, 3);
    int x = net_tensor(&n, OCT_INT8_CODES, 4, 5, 7, 1, ka);
    n.spec.input = x;
    int z = net_lookup(&n, x, true);
    n.tensors[z].exponent = kb;
    n.tensors[z].is_signed = 0;
    int out = net_tensor(&n, OCT_INT8_CODES, 4, 5, 7, 1, ko);
    oct_int8_layer *l = net_layer(&n, op, x, out);
    l->inputs[1] = op == OCT_INT8_RESCALE ? 0 : z;
    l->input_count = op == OCT_INT8_RESCALE ? 1 : 2;
    l->out_lo = -128, l->out_hi = 127;
    n.spec.output = out;
    check_all_levels(&n, false);
    net_release(&n);
}

static void run_exponents_far_apart_match_plain_model(void)
{
    static const int pairs[][3] = {{0, 22, 22}, {0, 23, 23}, {40, 0, 0},    {0, 40, 8}, {30, -10, -22},
                                   {0, 0, 31},  {-3, 5, 25}, {20, 20, -42}, {5, 5, 5},  {21, 0, 30}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        check_pair(OCT_INT8_ADD, pairs[i][0], pairs[i][1], pairs[i][2]);
    static const int products[][3] = {{10, 10, 51}, {20, 20, -22}, {5, 5, 2}, {60, -60, 0}, {60, 55, 53}};
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++)
        check_pair(OCT_INT8_MUL, products[i][0], products[i][1], products[i][2]);
    for (int shift = -31; shift <= 62; shift += 3)
        check_pair(OCT_INT8_RESCALE, shift > 31 ? 31 : 0, 0, shift > 31 ? 31 - shift : -shift);
}

/* ---- public calls ---- */

typedef struct opened {
    net n;
    uint8_t *bytes;
    size_t size;
    oct_int8_model *model;
} opened;

static void open_small(opened *o, unsigned seed, int depth)
{
    oct_error error = {0};
    net_random(&o->n, seed, depth);
    CU_ASSERT_TRUE_FATAL(
        test_is_ok(&error, oct_int8_image_write(&o->bytes, &o->size, &o->n.spec, &error), "oct_int8_image_write"));
    CU_ASSERT_TRUE_FATAL(
        test_is_ok(&error, oct_int8_open(&o->model, o->bytes, o->size, NULL, &error), "oct_int8_open"));
}

static void close_small(opened *o)
{
    oct_int8_close(o->model);
    oct_free(o->bytes);
    net_release(&o->n);
}

/* pixels -> table -> linear with the given score exponents; the smallest model with an argmax. */
static void small_head(net *n, int outputs, const int8_t *exponents)
{
    net_start(n, 1);
    int x = net_tensor(n, OCT_INT8_PIXELS, 2, 2, 3, 0, 0);
    n->spec.input = x;
    x = net_lookup(n, x, false);
    n->tensors[x].exponent = 0;
    n->spec.output = net_linear(n, x, outputs, OCT_INT8_SCORES);
    oct_int8_layer *l = &n->layers[1];
    l->weight_exponents = exponents;
    l->weight_exponent_count = outputs;
    n->tensors[n->spec.output].exponents = exponents;
    n->tensors[n->spec.output].exponent = 0;
    net_information(n);
}

static void argmax_exponents_per_channel_compares_exactly(void)
{
    static const int8_t exponents[5] = {0, 10, -50, 50, 0};
    net n;
    small_head(&n, 5, exponents);
    uint8_t *bytes;
    size_t size;
    oct_int8_model *model;
    oct_error error = {0};
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_int8_image_write(&bytes, &size, &n.spec, &error), "write"));
    CU_ASSERT_EQUAL_FATAL(oct_int8_open(&model, bytes, size, NULL, &error), OCT_OK);
    static const struct {
        int32_t scores[5];
        int best, second;
    } cases[] = {
        {{3, 3 * 1024, 0, INT32_MAX, 3}, 0, 1},  /* ties: lowest first */
        {{3, 3 * 1024 + 1, 0, 0, 3}, 1, 0},      /* one unit of 2^-10 decides */
        {{INT32_MAX, 0, 1, 0, INT32_MAX}, 2, 0}, /* 2^50 beats 2^31 */
        {{-1, -1, -1, -1, -1}, 3, 1},            /* the smallest step below zero wins */
        {{INT32_MIN, 0, 0, INT32_MIN, 0}, 1, 2}, /* zeros tie across any exponents */
        {{0, 0, INT32_MIN, 1, 0}, 3, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int top[8];
        CU_ASSERT_EQUAL(oct_int8_argmax(model, cases[i].scores), cases[i].best);
        CU_ASSERT_EQUAL(oct_int8_top(model, cases[i].scores, top, 8), 5);
        CU_ASSERT_EQUAL(top[0], cases[i].best);
        CU_ASSERT_EQUAL(top[1], cases[i].second);
    }
    CU_ASSERT_EQUAL(oct_int8_score_exponent(model, 2), -50);
    oct_int8_close(model);
    oct_free(bytes);
    net_release(&n);
}

static void accessors_return_what_the_spec_says(void)
{
    opened o;
    open_small(&o, 2, 6);
    const oct_int8_spec *spec = &o.n.spec;
    memset(o.bytes, 0xee, o.size); /* the model must not need the image any more */
    CU_ASSERT_EQUAL(oct_int8_tensor_count(o.model), spec->tensor_count);
    CU_ASSERT_EQUAL(oct_int8_layer_count(o.model), spec->layer_count);
    CU_ASSERT_EQUAL(oct_int8_input(o.model), spec->input);
    CU_ASSERT_EQUAL(oct_int8_output(o.model), spec->output);
    CU_ASSERT_EQUAL(oct_int8_source_digest(o.model), spec->source_digest);
    CU_ASSERT_EQUAL(oct_int8_resize(o.model), spec->resize);
    CU_ASSERT_STRING_EQUAL(oct_int8_interpolation(o.model), "bicubic");
    CU_ASSERT_STRING_EQUAL(oct_int8_class_name(o.model, 0), spec->class_names[0]);
    CU_ASSERT_PTR_NULL(oct_int8_class_name(o.model, spec->class_count));
    CU_ASSERT_EQUAL(memcmp(oct_int8_mean(o.model), spec->mean, sizeof(float)), 0);
    CU_ASSERT_EQUAL(memcmp(oct_int8_scale(o.model), spec->scale, sizeof(float)), 0);
    CU_ASSERT_PTR_NULL(oct_int8_tensor_at(o.model, -1));
    CU_ASSERT_PTR_NULL(oct_int8_layer_at(o.model, spec->layer_count));
    for (int i = 0; i < spec->tensor_count; i++) {
        const oct_int8_tensor *a = oct_int8_tensor_at(o.model, i), *b = &spec->tensors[i];
        CU_ASSERT_STRING_EQUAL(a->name, b->name);
        CU_ASSERT_TRUE(a->kind == b->kind && a->channels == b->channels && a->exponent == b->exponent);
    }
    for (int i = 0; i < spec->layer_count; i++) {
        CU_ASSERT_STRING_EQUAL(oct_int8_layer_at(o.model, i)->name, spec->layers[i].name);
        CU_ASSERT_EQUAL(oct_int8_layer_at(o.model, i)->macs, oct_int8_layer_macs(spec, &spec->layers[i]));
    }
    CU_ASSERT_TRUE(oct_int8_model_bytes(o.model) > 0);
    close_small(&o);
}

static void run_codes_of_the_lookup_equals_run(void)
{
    static const int8_t exponents[3] = {1, 2, 3};
    net n;
    small_head(&n, 3, exponents);
    oct_error error = {0};
    uint8_t *bytes, pixels[12], codes[12];
    size_t size;
    oct_int8_model *model;
    oct_int8_state *state;
    int32_t a[3], b[3];
    CU_ASSERT_EQUAL_FATAL(oct_int8_image_write(&bytes, &size, &n.spec, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_int8_open(&model, bytes, size, NULL, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_int8_state_create(&state, model, 1, 1, &error), OCT_OK);
    for (int i = 0; i < 12; i++) {
        pixels[i] = (uint8_t)(i * 20);
        codes[i] = n.layers[0].table[256 * (i % 3) + pixels[i]];
    }
    CU_ASSERT_EQUAL(oct_int8_code_input(model), n.layers[0].output);
    CU_ASSERT_EQUAL(oct_int8_run(state, pixels, 1, a), OCT_OK);
    CU_ASSERT_EQUAL(oct_int8_run_codes(state, codes, 1, b), OCT_OK);
    CU_ASSERT_EQUAL(memcmp(a, b, sizeof a), 0);
    CU_ASSERT_TRUE(a[0] != a[1]);
    oct_int8_state_destroy(state);
    oct_int8_close(model);
    oct_free(bytes);
    net_release(&n);
}

static void run_bad_arguments_are_refused_with_a_message(void)
{
    opened o;
    open_small(&o, 2, 3);
    oct_error error = {0};
    oct_int8_state *state;
    CU_ASSERT_EQUAL(oct_int8_state_create(&state, o.model, 0, 1, &error), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(state);
    oct_error_clear(&error);
    CU_ASSERT_EQUAL(oct_int8_state_create(&state, o.model, 1, -1, &error), OCT_ERR_ARGUMENT);
    oct_error_clear(&error);
    CU_ASSERT_EQUAL_FATAL(oct_int8_state_create(&state, o.model, 2, 0, &error), OCT_OK);
    uint8_t input[1] = {0};
    int32_t scores[1];
    CU_ASSERT_EQUAL(oct_int8_run_codes(state, input, 3, scores), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(oct_int8_state_error(state), "3 images, expected 1..2"));
    CU_ASSERT_EQUAL(oct_int8_run_codes(state, input, 0, scores), OCT_ERR_ARGUMENT);
    CU_ASSERT_EQUAL(oct_int8_run_codes(state, NULL, 1, scores), OCT_ERR_ARGUMENT);
    CU_ASSERT_TRUE(oct_int8_state_bytes(state) > 0);
    oct_int8_state_destroy(state);
    oct_int8_model *model;
    CU_ASSERT_EQUAL(oct_int8_open(&model, o.bytes, o.size, &(oct_int8_options){.cpu = "mmx"}, &error),
                    OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(model);
    close_small(&o);
}

static void open_allocation_failures_are_clean(void)
{
    opened o;
    open_small(&o, 2, 5);
    oct_status status = OCT_ERR_MEMORY;
    long n = 1;
    for (; status != OCT_OK && n < 1000; n++) {
        oct_error error = {0};
        oct_int8_model *model;
        oct_int8_state *state = NULL;
        oct_alloc_fail_after(n);
        status = oct_int8_open(&model, o.bytes, o.size, NULL, &error);
        if (status == OCT_OK) status = oct_int8_state_create(&state, model, 2, 2, &error);
        oct_alloc_fail_after(0);
        CU_ASSERT_TRUE(status == OCT_OK || (status == OCT_ERR_MEMORY && error.message[0]));
        oct_int8_state_destroy(state);
        oct_int8_close(model);
    }
    CU_ASSERT_TRUE(n > 5);
    close_small(&o);
}

/* ---- spec check: each fault in a valid network is named ---- */

typedef struct fault {
    const char *expected; /* part of the message */
    void (*make)(net *n, oct_int8_layer *conv, oct_int8_layer *head);
} fault;

static void fault_kernel(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    c->kernel_h = 0;
}
static void fault_stride(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    c->stride_w = -1;
}
static void fault_shape(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)h;
    n->tensors[c->output].height++;
}
static void fault_pad(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    c->pad_top = 30000;
}
static void fault_groups(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    c->groups = 7;
}
static void fault_input(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    c->inputs[0] = 4000;
}
static void fault_order(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n;
    c->inputs[0] = h->inputs[0];
}
static void fault_output(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n;
    h->output = c->output;
}
static void fault_limits(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    c->out_hi = 256;
}
static void fault_order_limits(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    c->out_lo = 9;
    c->out_hi = 8;
}
static void fault_name(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n;
    h->name = c->name;
}
static void fault_exponent(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)h;
    n->tensors[c->output].exponent = 61;
}
static void fault_score(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)c;
    n->tensors[h->output].exponents = NULL;
    n->tensors[h->output].exponent = 1;
}
static void fault_bias(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    ((int32_t *)(uintptr_t)c->bias)[1] = 1 << 30;
}
static void fault_code(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    ((int8_t *)(uintptr_t)c->weights)[5] = -128;
}
static void fault_missing(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)n, (void)h;
    c->weights = NULL;
}
static void fault_table(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)c, (void)h;
    n->layers[0].table_rows = 2;
}
static void fault_profile(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)c, (void)h;
    n->spec.profile = "cubic";
}
static void fault_size(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)c, (void)h;
    n->tensors[0].height = n->tensors[0].width = 32768;
}
static void fault_classes(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)c, (void)h;
    n->spec.class_count = 3;
}
static void fault_shift(net *n, oct_int8_layer *c, oct_int8_layer *h)
{
    (void)h;
    static const int8_t far = -60;
    c->weight_exponents = &far, c->weight_exponent_count = 1;
    n->tensors[c->output].exponent = 30;
}

static const fault faults[] = {
    {"layer 'conv/1' (conv): kernel (height) is 0", fault_kernel},
    {"layer 'conv/1' (conv): stride (width) is -1", fault_stride},
    {"layer 'conv/1' (conv): output height is", fault_shape},
    {"layer 'conv/1' (conv): padding before (height) is 30000", fault_pad},
    {"groups is 7, expected a divisor of 3 and 8", fault_groups},
    {"input tensor is 4000", fault_input},
    {"not written by an earlier layer", fault_order},
    {"is already written", fault_output},
    {"upper output limit is 256, expected", fault_limits},
    {"upper output limit is 8, expected 9..255", fault_order_limits},
    {"both are named", fault_name},
    {"exponent 61", fault_exponent},
    {"score exponent of output 0 is 1", fault_score},
    {"bias of output 1 is 1073741824", fault_bias},
    {"a weight code of output 0 is -128", fault_code},
    {"weights, biases or weight exponents are missing", fault_missing},
    {"rows of the table is 2, expected 3", fault_table},
    {"profile 'cubic', this build knows 'po2' and 'affine'", fault_profile},
    {"has more than 268435456 values", fault_size},
    {"3 class names for 5 outputs", fault_classes},
    {"ask for a shift by", fault_shift},
};

/* pixels 9x8x3 -> lookup -> conv 3x3, 8 outputs, unsigned -> global average -> linear, 5 scores. */
static void small_network(net *n, unsigned seed)
{
    net_start(n, seed);
    int x = net_tensor(n, OCT_INT8_PIXELS, 9, 8, 3, 0, 0);
    n->spec.input = x;
    x = net_lookup(n, x, false);
    x = net_conv(n, x, 8, 3, 1, OCT_INT8_CODES);
    n->tensors[x].is_signed = 0;
    n->layers[1].out_lo = 0, n->layers[1].out_hi = 255;
    x = net_pool(n, x, OCT_INT8_AVERAGE_POOL, true);
    n->spec.output = net_linear(n, x, 5, OCT_INT8_SCORES);
    net_information(n);
}

static void spec_check_faults_are_named(void)
{
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        net n;
        oct_error error = {0};
        small_network(&n, 5);
        CU_ASSERT_TRUE(test_is_ok(&error, oct_int8_spec_check(&n.spec, &error), "valid network"));
        faults[i].make(&n, &n.layers[1], &n.layers[3]);
        oct_status status = oct_int8_spec_check(&n.spec, &error);
        bool named = status != OCT_OK && strstr(error.message, faults[i].expected) != NULL;
        if (!named) printf("    expected '%s', got '%s'\n", faults[i].expected, error.message);
        CU_ASSERT_TRUE(named);
        net_release(&n);
    }
}

/* 255 * sum|w| must stay below 2^29: 16577 weights of 127 are the most that fit. */
static void spec_check_accumulator_bound_is_exact(void)
{
    for (int extra = 0; extra <= 1; extra++) {
        net n;
        net_start(&n, 1);
        int x = net_tensor(&n, OCT_INT8_CODES, 1, 1, 16577 + extra, 0, 0);
        n.spec.input = x;
        n.spec.output = net_linear(&n, x, 1, OCT_INT8_SCORES);
        net_weights(&n, &n.layers[0], true);
        oct_error error = {0};
        oct_status status = oct_int8_spec_check(&n.spec, &error);
        CU_ASSERT_EQUAL(status, extra ? OCT_ERR_FORMAT : OCT_OK);
        if (!extra) CU_ASSERT_TRUE(test_is_ok(&error, status, "oct_int8_spec_check"));
        if (extra) CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "255 * sum|w| of output 0"));
        net_release(&n);
    }
}

/* ---- the flat image ---- */

static void image_round_trip_gives_the_same_bytes(void)
{
    for (unsigned seed = 100; seed < 130; seed++) {
        net n;
        oct_error error = {0};
        uint8_t *bytes, *again;
        size_t size, again_size;
        oct_int8_spec spec;
        oct_arena arena;
        oct_arena_init(&arena, 0);
        net_random(&n, seed, 8);
        CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_int8_image_write(&bytes, &size, &n.spec, &error), "write"));
        CU_ASSERT_EQUAL(size % 64, 0);
        uint8_t *odd = oct_alloc(size + 1, 1); /* parsing needs no alignment */
        memcpy(odd + 1, bytes, size);
        CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_int8_image_parse(&spec, &arena, odd + 1, size, &error), "parse"));
        CU_ASSERT_EQUAL(oct_int8_image_write(&again, &again_size, &spec, &error), OCT_OK);
        CU_ASSERT_TRUE(again_size == size && !memcmp(again, bytes, size));
        oct_free(again);
        oct_free(odd);
        oct_free(bytes);
        oct_arena_release(&arena);
        net_release(&n);
    }
}

static void seal(uint8_t *bytes, size_t size)
{
    oct_store_le64(bytes + OCT_INT8_IMAGE_CHECKSUM_AT, oct_int8_image_checksum(bytes, size));
}

/* Opens a copy in a block of exactly its size; when it loads it must also run. */
static oct_status open_and_run(const uint8_t *bytes, size_t size)
{
    oct_error error = {0};
    oct_int8_model *model;
    oct_int8_state *state;
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    oct_status status = oct_int8_open(&model, copy, size, NULL, &error);
    free(copy);
    CU_ASSERT_EQUAL(status != OCT_OK, model == NULL);
    CU_ASSERT_EQUAL(status != OCT_OK, error.message[0] != '\0');
    if (status != OCT_OK) return status;
    const oct_int8_tensor *in = oct_int8_tensor_at(model, oct_int8_input(model));
    uint8_t *input = calloc(oct_int8_tensor_bytes(in), 1);
    int32_t *scores = calloc((size_t)oct_int8_output_count(model), sizeof *scores);
    if (oct_int8_state_create(&state, model, 1, 1, &error) == OCT_OK) {
        CU_ASSERT_EQUAL(run_any(state, model, input, 1, scores), OCT_OK);
        oct_int8_state_destroy(state);
    }
    free(scores);
    free(input);
    oct_int8_close(model);
    return OCT_OK;
}

static void image_every_corrupt_byte_loads_or_fails_cleanly(void)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff, 0x10};
    net n;
    oct_error error = {0};
    uint8_t *bytes;
    size_t size, loaded = 0, refused = 0;
    small_network(&n, 5);
    CU_ASSERT_EQUAL_FATAL(oct_int8_image_write(&bytes, &size, &n.spec, &error), OCT_OK);
    CU_ASSERT_EQUAL(open_and_run(bytes, size), OCT_OK);
    for (size_t i = 0; i < size; i++) {
        for (size_t f = 0; f < sizeof flips; f++) {
            bytes[i] ^= flips[f];
            if (f == 0) CU_ASSERT_NOT_EQUAL(open_and_run(bytes, size), OCT_OK); /* the checksum sees it */
            uint64_t sum = oct_load_le64(bytes + OCT_INT8_IMAGE_CHECKSUM_AT);
            seal(bytes, size);
            if (open_and_run(bytes, size) == OCT_OK)
                loaded++;
            else
                refused++;
            oct_store_le64(bytes + OCT_INT8_IMAGE_CHECKSUM_AT, sum);
            bytes[i] ^= flips[f];
        }
    }
    CU_ASSERT_TRUE(loaded > 0 && refused > loaded / 8);
    CU_ASSERT_EQUAL(open_and_run(bytes, size), OCT_OK);
    oct_free(bytes);
    net_release(&n);
}

static void image_every_truncation_is_refused(void)
{
    net n;
    oct_error error = {0};
    uint8_t *bytes;
    size_t size;
    small_network(&n, 5);
    CU_ASSERT_EQUAL_FATAL(oct_int8_image_write(&bytes, &size, &n.spec, &error), OCT_OK);
    for (size_t i = 0; i < size; i++) {
        CU_ASSERT_NOT_EQUAL(open_and_run(bytes, i), OCT_OK);
        if (i < 192) continue;
        oct_store_le64(bytes + 16, i); /* the size field agrees */
        seal(bytes, i);
        CU_ASSERT_NOT_EQUAL(open_and_run(bytes, i), OCT_OK);
        size_t arrays = (size_t)oct_load_le64(bytes + 160);
        if (i < arrays) continue;
        oct_store_le64(bytes + 168, i - arrays); /* and so does the size of the last section */
        seal(bytes, i);
        CU_ASSERT_NOT_EQUAL(open_and_run(bytes, i), OCT_OK);
    }
    oct_free(bytes);
    net_release(&n);
}

static void image_random_damage_loads_or_fails_cleanly(void)
{
    for (unsigned seed = 0; seed < 400; seed++) {
        net n;
        oct_error error = {0};
        uint8_t *bytes;
        size_t size;
        net_random(&n, seed % 8, 6);
        CU_ASSERT_EQUAL_FATAL(oct_int8_image_write(&bytes, &size, &n.spec, &error), OCT_OK);
        oct_rng rng = oct_rng_start(seed, OCT_RNG_SYNTHETIC, 1, 2);
        for (int i = 0; i < 3; i++) {
            size_t where = 32 + oct_rng_below(&rng, (uint32_t)size - 36); /* past the checksum */
            if (i == 0) where = 32 + oct_rng_below(&rng, 2000 < size - 36 ? 2000 : (uint32_t)size - 36);
            oct_store_le32(bytes + where / 4 * 4, i == 1 ? oct_rng_below(&rng, 64) : oct_rng_u32(&rng));
        }
        seal(bytes, size);
        open_and_run(bytes, size);
        oct_free(bytes);
        net_release(&n);
    }
}

static void image_other_versions_and_profiles_are_unsupported(void)
{
    net n;
    oct_error error = {0};
    uint8_t *bytes;
    size_t size;
    small_network(&n, 5);
    CU_ASSERT_EQUAL_FATAL(oct_int8_image_write(&bytes, &size, &n.spec, &error), OCT_OK);
    CU_ASSERT_TRUE(oct_int8_image_is(bytes, size));
    CU_ASSERT_FALSE(oct_int8_image_is(bytes, 7));
    bytes[8] = 2;
    seal(bytes, size);
    CU_ASSERT_EQUAL(open_and_run(bytes, size), OCT_ERR_UNSUPPORTED);
    bytes[8] = 1;
    uint8_t *profile = NULL;
    for (size_t i = 0; i + 4 <= size && !profile; i++)
        if (!memcmp(bytes + i, "po2", 4)) profile = bytes + i;
    CU_ASSERT_PTR_NOT_NULL_FATAL(profile);
    profile[2] = '3';
    seal(bytes, size);
    CU_ASSERT_EQUAL(open_and_run(bytes, size), OCT_ERR_UNSUPPORTED);
    oct_free(bytes);
    net_release(&n);
}

/* ---- the library on its own ---- */

static const char program[] = "#include \"quant/int8/octet_int8.h\"\n"
                              "#include <stdio.h>\n"
                              "int main(void)\n"
                              "{\n"
                              "    oct_error error = {OCT_OK, \"\"};\n"
                              "    oct_int8_model *model;\n"
                              "    oct_int8_state *state;\n"
                              "    if (oct_int8_open(&model, \"nothing\", 7, NULL, &error) == OCT_OK) return 1;\n"
                              "    if (oct_int8_state_create(&state, model, 0, 1, &error) == OCT_OK) return 1;\n"
                              "    puts(error.message);\n"
                              "    oct_int8_state_destroy(state);\n"
                              "    oct_int8_close(model);\n"
                              "    return 0;\n"
                              "}\n";

static void link_with(const char *compiler, const char *suffix)
{
    const char *build = getenv("B");
    char library[512], command[2048], source[512];
    snprintf(library, sizeof library, "%s/liboctet-int8.a", build ? build : "build/release");
    if (access(library, R_OK)) SKIP("the engine library has not been built");
    if (build && strcmp(build, "build/release")) SKIP("linked in the release build only");
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", compiler);
    if (system(command)) SKIP("no such compiler");
    const char *folder = test_folder();
    snprintf(source, sizeof source, "%s/program.%s", folder, suffix);
    FILE *file = fopen(source, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs(program, file);
    fclose(file);
    snprintf(command, sizeof command,
             "%s -Wall -Wextra -Werror -I. %s %s -lm -fopenmp -o %s/program && %s/program >/dev/null", compiler,
             source, library, folder, folder);
    CU_ASSERT_EQUAL(system(command), 0);
}

static void library_links_alone_in_c(void)
{
    link_with("cc", "c");
}

static void library_links_alone_in_cxx(void)
{
    link_with("c++", "cc");
}

static const test_case cases[] = {
    {"run_random_networks_match_plain_model", run_random_networks_match_plain_model},
    {"run_signed_padded_extreme_weights_match_plain_model", run_signed_padded_extreme_weights_match_plain_model},
    {"run_large_layers_match_plain_model", run_large_layers_match_plain_model},
    {"run_exponents_far_apart_match_plain_model", run_exponents_far_apart_match_plain_model},
    {"run_random_affine_networks_match_plain_model", run_random_affine_networks_match_plain_model},
    {"argmax_affine_compares_scaled_scores", argmax_affine_compares_scaled_scores},
    {"affine_faults_are_named", affine_faults_are_named},
    {"argmax_exponents_per_channel_compares_exactly", argmax_exponents_per_channel_compares_exactly},
    {"accessors_return_what_the_spec_says", accessors_return_what_the_spec_says},
    {"run_codes_of_the_lookup_equals_run", run_codes_of_the_lookup_equals_run},
    {"run_bad_arguments_are_refused_with_a_message", run_bad_arguments_are_refused_with_a_message},
    {"open_allocation_failures_are_clean", open_allocation_failures_are_clean},
    {"spec_check_faults_are_named", spec_check_faults_are_named},
    {"spec_check_accumulator_bound_is_exact", spec_check_accumulator_bound_is_exact},
    {"image_round_trip_gives_the_same_bytes", image_round_trip_gives_the_same_bytes},
    {"image_every_corrupt_byte_loads_or_fails_cleanly", image_every_corrupt_byte_loads_or_fails_cleanly},
    {"image_every_truncation_is_refused", image_every_truncation_is_refused},
    {"image_random_damage_loads_or_fails_cleanly", image_random_damage_loads_or_fails_cleanly},
    {"image_other_versions_and_profiles_are_unsupported", image_other_versions_and_profiles_are_unsupported},
    {"library_links_alone_in_c", library_links_alone_in_c},
    {"library_links_alone_in_cxx", library_links_alone_in_cxx},
};
TEST_SUITE("int8_engine", cases);
