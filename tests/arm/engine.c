/* SPDX-License-Identifier: BSD-2-Clause
 * The whole engine without CUnit, for machines that only the cross compiler knows.
 *
 *   engine --write FOLDER              flat images of random networks (C leaves the order of arguments open,
 * so another compiler would draw other networks: they come from one machine) engine [--require=LEVEL] FILE...
 * opens each at every level of base/cpu.h and runs it with 1..4 threads and batches of 1..9; prints its name
 * and a checksum of its scores
 *
 * Within a machine all levels, threads and batches must agree with level c; between machines the printed
 * lines are compared. Exit status 1 when levels differ, when a level that the machine lacks opens, or when no
 * model runs at LEVEL.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/cpu.h"
#include "autograd/base/file.h"
#include "quant/int8/image.h"
#include "tests/int8_networks.h"

enum { BATCH = 9, THREADS = 4, RANDOM_NETWORKS = 12, MOBILE_NETWORKS = 4, DEPTH = 7, MAX_BYTES = 1 << 24 };

typedef struct image {
    const char *name;
    const uint8_t *bytes;
    size_t size;
    uint8_t *input;                  /* BATCH images of what the model takes */
    int32_t *scores;                 /* of level c, one thread */
    size_t input_bytes, score_count; /* of one image */
    int takes_codes;
} image;

static int fail(const char *network, const char *level, const char *what)
{
    fprintf(stderr, "engine: %s, level %s: %s\n", network, level, what);
    return 1;
}

/* ---- networks ---- */

/* "Same" padding. groups 0: depthwise. */
static int conv(net *n, int input, int outputs, int kernel, int stride, int groups)
{
    const oct_int8_tensor in = n->tensors[input];
    const int pad = kernel / 2, depthwise = groups == 0;
    const int height = net_side(in.height, pad, pad, kernel, stride, 1);
    const int width = net_side(in.width, pad, pad, kernel, stride, 1);
    const int out =
        net_tensor(n, OCT_INT8_CODES, height, width, depthwise ? in.channels : outputs, net_pick(n, 0, 1), 0);
    oct_int8_layer *l = net_layer(n, depthwise ? OCT_INT8_DEPTHWISE : OCT_INT8_CONV, input, out);
    l->kernel_h = l->kernel_w = kernel;
    l->stride_h = l->stride_w = stride;
    l->dilation_h = l->dilation_w = 1;
    l->pad_top = l->pad_left = l->pad_bottom = l->pad_right = pad;
    l->groups = depthwise ? in.channels : groups;
    net_limits(n, l);
    net_weights(n, l, false);
    return out;
}

/* Every shape of depthwise layer, few and many channels, between dense layers; a join; a head. */
static void mobile(net *n, unsigned seed)
{
    net_start(n, seed);
    int x = net_tensor(n, OCT_INT8_PIXELS, 33, 31, 3, 0, 0);
    n->spec.input = x;
    x = net_lookup(n, x, false);
    x = conv(n, x, 8, 3, 2, 1);
    x = conv(n, x, 0, 3, 1, 0);
    x = conv(n, x, 6, 1, 1, 1);
    x = conv(n, x, 0, 5, 1, 0);
    x = conv(n, x, 24, 1, 1, 1);
    x = conv(n, x, 0, 3, 2, 0);
    x = conv(n, x, 40, 1, 1, 2);
    x = conv(n, x, 0, 5, 1, 0);
    x = net_join(n, OCT_INT8_ADD, conv(n, x, 40, 1, 1, 1));
    x = conv(n, x, 0, 5, 2, 0);
    x = conv(n, x, 100, 1, 1, 1);
    x = conv(n, x, 0, 3, 1, 0);
    x = conv(n, x, 33, 3, 1, 1);
    x = net_pool(n, x, OCT_INT8_MAX_POOL, false);
    x = net_pool(n, x, OCT_INT8_AVERAGE_POOL, true);
    n->spec.output = net_linear(n, x, 10, OCT_INT8_SCORES);
    net_information(n);
}

static int write_network(const char *folder, const char *stem, int i, const net *n)
{
    oct_error error = {0};
    uint8_t *bytes = NULL;
    size_t size;
    char path[512];
    snprintf(path, sizeof path, "%s/%s_%02d.oct8", folder, stem, i);
    oct_status status = oct_int8_image_write(&bytes, &size, &n->spec, &error);
    if (status == OCT_OK) status = oct_file_write(path, bytes, size, &error);
    oct_free(bytes);
    return status == OCT_OK ? 0 : fail(path, "none", error.message);
}

static int write_networks(const char *folder)
{
    net *n = malloc(sizeof *n);
    if (!n) return fail(folder, "none", "no memory");
    int bad = 0;
    for (int i = 0; i < RANDOM_NETWORKS + MOBILE_NETWORKS && !bad; i++) {
        const bool random = i < RANDOM_NETWORKS;
        if (random)
            net_random(n, 100u + (unsigned)i, DEPTH);
        else
            mobile(n, (unsigned)i);
        bad = write_network(folder, random ? "random" : "mobile", i, n);
        net_release(n);
    }
    free(n);
    return bad;
}

/* ---- running ---- */

static oct_status run(oct_int8_state *state, const image *m, int count, int32_t *scores)
{
    return m->takes_codes ? oct_int8_run_codes(state, m->input, count, scores)
                          : oct_int8_run(state, m->input, count, scores);
}

/* All batches of one state against m->scores, or (reference) makes them. */
static int run_batches(const image *m, const oct_int8_model *model, const char *level, int threads,
                       bool reference)
{
    oct_error error = {0};
    oct_int8_state *state;
    if (oct_int8_state_create(&state, model, BATCH, threads, &error) != OCT_OK)
        return fail(m->name, level, error.message);
    const size_t bytes = m->score_count * sizeof(int32_t);
    int32_t *scores = reference ? m->scores : calloc(BATCH, bytes);
    int bad = 0;
    for (int count = reference ? BATCH : 1; scores && count <= BATCH && !bad; count++) {
        char what[64];
        snprintf(what, sizeof what, "%d threads, batch %d: other scores", threads, count);
        if (run(state, m, count, scores) != OCT_OK)
            bad = fail(m->name, level, oct_int8_state_error(state));
        else if (memcmp(scores, m->scores, (size_t)count * bytes))
            bad = fail(m->name, level, what);
    }
    if (!scores) bad = fail(m->name, level, "no memory");
    if (!reference) free(scores);
    oct_int8_state_destroy(state);
    return bad;
}

static int run_level(const image *m, const char *level, const char *required, bool *found)
{
    oct_error error = {0};
    oct_int8_model *model;
    uint32_t mask = 0;
    if (oct_cpu_parse(&mask, level, &error) != OCT_OK) return fail(m->name, level, error.message);
    const oct_status status =
        oct_int8_open(&model, m->bytes, m->size, &(oct_int8_options){.cpu = level}, &error);
    if (mask & ~oct_cpu_detect()) {
        oct_int8_close(model);
        return status == OCT_ERR_UNSUPPORTED ? 0 : fail(m->name, level, "opened on a machine that lacks it");
    }
    if (status != OCT_OK) return fail(m->name, level, error.message);
    if (required && !strcmp(oct_int8_level(model), required)) *found = true;
    int bad = 0;
    for (int threads = 1; threads <= THREADS && !bad; threads++)
        bad = run_batches(m, model, level, threads, false);
    oct_int8_close(model);
    return bad;
}

/* Input and reference scores of an opened model. */
static int prepare(image *m, const oct_int8_model *model)
{
    const int input = oct_int8_input(model);
    m->takes_codes = oct_int8_tensor_at(model, input)->kind == OCT_INT8_CODES;
    m->input_bytes = oct_int8_tensor_elements(oct_int8_tensor_at(model, input));
    m->score_count = (size_t)oct_int8_output_count(model);
    m->input = malloc(BATCH * m->input_bytes);
    m->scores = calloc(BATCH * m->score_count, sizeof *m->scores);
    if (!m->input || !m->scores) return fail(m->name, "c", "no memory");
    oct_rng rng = oct_rng_start(1, OCT_RNG_SYNTHETIC, 0, 0);
    for (size_t i = 0; i < BATCH * m->input_bytes; i++) m->input[i] = (uint8_t)oct_rng_u32(&rng);
    return run_batches(m, model, "c", 1, true);
}

static uint64_t checksum(const int32_t *scores, size_t count)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < count; i++) h = (h ^ (uint32_t)scores[i]) * UINT64_C(0x100000001b3);
    return h;
}

/* Everything about one image; m has its bytes. */
static int check(image *m, const char *required)
{
    oct_error error = {0};
    oct_int8_model *model = NULL;
    bool found = !required;
    if (oct_int8_open(&model, m->bytes, m->size, &(oct_int8_options){.cpu = "c"}, &error) != OCT_OK)
        return fail(m->name, "c", error.message);
    int bad = prepare(m, model);
    oct_int8_close(model);
    for (int i = 0; oct_cpu_level_name(i) && !bad; i++)
        bad = run_level(m, oct_cpu_level_name(i), required, &found);
    if (!bad && !found) bad = fail(m->name, required, "required, and the model did not run at it");
    if (!bad) printf("%s %016" PRIx64 "\n", m->name, checksum(m->scores, BATCH * m->score_count));
    return bad;
}

static int check_file(const char *path, const char *required)
{
    oct_error error = {0};
    uint8_t *bytes = NULL;
    size_t size;
    const char *slash = strrchr(path, '/');
    if (oct_file_read(&bytes, &size, path, MAX_BYTES, &error) != OCT_OK)
        return fail(path, "none", error.message);
    image m = {.name = slash ? slash + 1 : path, .bytes = bytes, .size = size};
    const int bad = check(&m, required);
    free(m.input);
    free(m.scores);
    oct_free(bytes);
    return bad;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--write")) return write_networks(argv[2]);
    const char *required = argc > 1 && !strncmp(argv[1], "--require=", 10) ? argv[1] + 10 : NULL;
    const int first = required ? 2 : 1;
    if (argc <= first) {
        fprintf(stderr, "usage: engine --write FOLDER\n       engine [--require=LEVEL] FILE...\n");
        return 2;
    }
    int bad = 0;
    for (int i = first; i < argc; i++) bad |= check_file(argv[i], required);
    return bad;
}
