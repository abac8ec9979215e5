/* SPDX-License-Identifier: BSD-2-Clause
 * What is checked before the engine runs a model: every fault of a spec is named, every damage of a flat image is found.
 */
#include <stdint.h>

#include "autograd/base/bytes.h"
#include "quant/int8/image.h"
#include "tests/int8_affine.h"
#include "tests/int8_networks.h"
#include "tests/testing.h"

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

static const test_case cases[] = {
    {"affine_faults_are_named", affine_faults_are_named},
    {"spec_check_faults_are_named", spec_check_faults_are_named},
    {"spec_check_accumulator_bound_is_exact", spec_check_accumulator_bound_is_exact},
    {"image_round_trip_gives_the_same_bytes", image_round_trip_gives_the_same_bytes},
    {"image_every_corrupt_byte_loads_or_fails_cleanly", image_every_corrupt_byte_loads_or_fails_cleanly},
    {"image_every_truncation_is_refused", image_every_truncation_is_refused},
    {"image_random_damage_loads_or_fails_cleanly", image_random_damage_loads_or_fails_cleanly},
    {"image_other_versions_and_profiles_are_unsupported", image_other_versions_and_profiles_are_unsupported},
};
TEST_SUITE("int8_spec", cases);
