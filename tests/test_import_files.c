/* SPDX-License-Identifier: BSD-2-Clause
 * Readers of .pth and .safetensors files: files that PyTorch wrote (tests/golden/gen/import_files.py, which also says
 * which values they hold), and files that are damaged, forged or hostile. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/bytes.h"
#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "layers/import/elements.h"
#include "layers/import/pth.h"
#include "layers/import/safetensors.h"
#include "tests/testing.h"

static oct_error error;

static uint8_t *golden(const char *name, size_t *size)
{
    char path[256];
    uint8_t *bytes = NULL;
    snprintf(path, sizeof path, "tests/golden/import/%s", name);
    CU_ASSERT_FATAL(oct_file_read(&bytes, size, path, 1 << 20, NULL) == OCT_OK);
    return bytes;
}

static oct_status read_bytes(oct_tensors **tensors, const uint8_t *bytes, size_t size)
{
    oct_error_clear(&error);
    CU_ASSERT_FATAL(oct_tensors_create(tensors, NULL) == OCT_OK);
    if (oct_pth_probe(bytes, size)) return oct_pth_read(*tensors, bytes, size, &error);
    return oct_safetensors_read(*tensors, bytes, size, &error);
}

static oct_tensors *read_golden(const char *name, oct_status expected)
{
    size_t size;
    uint8_t *bytes = golden(name, &size);
    oct_tensors *tensors;
    oct_status status = read_bytes(&tensors, bytes, size);
    if (status != expected) printf("    %s: %s: %s\n", name, oct_status_name(status), error.message);
    CU_ASSERT(status == expected);
    oct_free(bytes);
    return tensors;
}

static float formula(size_t i)
{
    return (float)((int)(i * 37 % 101) - 50);
}

/* Is the tensor there, of that shape (0 ends it), with formula(i)/divisor as values? */
static void expect_tensor(const oct_tensors *tensors, const char *name, const int64_t *dims, int rank, float divisor)
{
    const oct_named_tensor *t = oct_tensors_find(tensors, name);
    bool good = t && t->rank == rank && !memcmp(t->dims, dims, (size_t)rank * sizeof *dims);
    for (size_t i = 0; good && i < t->count; i++) good = t->data[i] == formula(i) / divisor;
    if (!good) printf("    tensor %s differs\n", name);
    CU_ASSERT(good);
}
#define EXPECT(tensors, name, divisor, ...)                                                          \
    expect_tensor(tensors, name, (const int64_t[]){__VA_ARGS__},                                     \
                  (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), divisor)

static void expect_typed(const oct_tensors *t)
{
    EXPECT(t, "f32", 8, 2, 3, 2, 2);
    EXPECT(t, "f16", 8, 3, 5);
    EXPECT(t, "bf16", 8, 3, 5);
    EXPECT(t, "f64", 8, 7);
    EXPECT(t, "i64", 1, 4);
    EXPECT(t, "i32", 1, 4);
    EXPECT(t, "i16", 1, 4);
    EXPECT(t, "i8", 1, 4);
    const oct_named_tensor *u8 = oct_tensors_find(t, "u8"), *flags = oct_tensors_find(t, "bool");
    CU_ASSERT_FATAL(u8 && flags);
    CU_ASSERT(u8->count == 6 && u8->data[0] == 250 && u8->data[5] == 255);
    CU_ASSERT(flags->count == 3 && flags->data[0] == 1 && flags->data[1] == 0 && flags->data[2] == 1);
    const oct_named_tensor *empty = oct_tensors_find(t, "empty"), *scalar = oct_tensors_find(t, "scalar");
    CU_ASSERT_FATAL(empty && scalar);
    CU_ASSERT(empty->rank == 2 && empty->dims[0] == 0 && empty->dims[1] == 3 && empty->count == 0);
    CU_ASSERT(scalar->rank == 0 && scalar->count == 1 && scalar->data[0] == -6.25f);
}

static void expect_views(const oct_tensors *t)
{
    EXPECT(t, "base", 8, 4, 3, 2, 2);
    EXPECT(t, "channels_last", 8, 2, 3, 2, 2);
    EXPECT(t, "parameter", 8, 2, 2);
    const oct_named_tensor *slice = oct_tensors_find(t, "slice"), *turned = oct_tensors_find(t, "transposed");
    CU_ASSERT_FATAL(slice && turned);
    CU_ASSERT(slice->rank == 4 && slice->dims[0] == 2 && slice->count == 24);
    for (size_t i = 0; i < slice->count; i++) CU_ASSERT(slice->data[i] == formula(i + 12) / 8);
    CU_ASSERT(turned->rank == 4 && turned->dims[0] == 2 && turned->dims[1] == 2 && turned->dims[2] == 3 &&
              turned->dims[3] == 4);
    size_t i = 0;
    for (size_t y = 0; y < 2; y++)
        for (size_t x = 0; x < 2; x++)
            for (size_t c = 0; c < 3; c++)
                for (size_t o = 0; o < 4; o++)
                    CU_ASSERT(turned->data[i++] == formula(((o * 3 + c) * 2 + y) * 2 + x) / 8);
}

static void pth_read_every_type_and_view_gives_the_values(void)
{
    static const char *const names[] = {"typed.pth", "protocol4.pth", "legacy.pth"};
    for (size_t i = 0; i < 3; i++) {
        oct_tensors *t = read_golden(names[i], OCT_OK);
        CU_ASSERT(oct_tensors_count(t) == 17);
        expect_typed(t);
        expect_views(t);
        oct_tensors_destroy(t);
    }
}

static void safetensors_read_every_type_gives_the_values(void)
{
    oct_tensors *t = read_golden("typed.safetensors", OCT_OK);
    CU_ASSERT(oct_tensors_count(t) == 12);
    expect_typed(t);
    oct_tensors_destroy(t);
}

static void pth_read_nested_dicts_finds_the_weights(void)
{
    oct_tensors *t = read_golden("nested.pth", OCT_OK);
    CU_ASSERT(oct_tensors_count(t) == 2);
    EXPECT(t, "module.fc.weight", 8, 2, 3);
    EXPECT(t, "module.fc.bias", 8, 2);
    oct_tensors_destroy(t);
    oct_tensors_destroy(read_golden("ambiguous.pth", OCT_ERR_UNSUPPORTED));
    CU_ASSERT(strstr(error.message, "several dicts") != NULL);
}

static void pth_read_foreign_objects_are_refused_by_name(void)
{
    oct_tensors_destroy(read_golden("module.pth", OCT_ERR_UNSUPPORTED));
    CU_ASSERT(strstr(error.message, "torch.nn.modules.linear.Linear") && strstr(error.message, "state_dict()"));
    oct_tensors_destroy(read_golden("script.pt", OCT_ERR_UNSUPPORTED));
    CU_ASSERT(strstr(error.message, "TorchScript") != NULL);
    unlink("/tmp/octet-was-here");
    static const char *const evil[] = {"evil.pth", "evil_legacy.pth"};
    for (size_t i = 0; i < 2; i++) {
        oct_tensors_destroy(read_golden(evil[i], OCT_ERR_UNSUPPORTED));
        CU_ASSERT(strstr(error.message, "posix.system") && strstr(error.message, "nothing was executed"));
        CU_ASSERT(access("/tmp/octet-was-here", F_OK) != 0);
    }
}

/* --- conversion --- */

static float half(uint16_t bits)
{
    float x;
    uint8_t bytes[2] = {(uint8_t)bits, (uint8_t)(bits >> 8)};
    oct_elements_to_f32(&x, bytes, 1, OCT_ELEMENT_F16);
    return x;
}

static void elements_half_is_exact_at_its_edges(void)
{
    CU_ASSERT(half(0x0001) == 0x1p-24f);
    CU_ASSERT(half(0x83ff) == -0x3ffp-24f);
    CU_ASSERT(half(0x0400) == 0x1p-14f);
    CU_ASSERT(half(0x3c00) == 1.0f);
    CU_ASSERT(half(0x7bff) == 65504.0f);
    CU_ASSERT(half(0xfc00) == -__builtin_inff());
    CU_ASSERT(half(0x7e00) != half(0x7e00));
    CU_ASSERT(1.0f / half(0x8000) < 0);
}

/* --- damage --- */

/* What a reader says to `bytes` in a block of exactly their size, where a sanitizer sees every step beyond. */
static oct_status judge(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = oct_alloc(size, 1);
    oct_tensors *tensors;
    CU_ASSERT_FATAL(copy != NULL);
    if (size) memcpy(copy, bytes, size);
    oct_status status = read_bytes(&tensors, copy, size);
    CU_ASSERT(status == OCT_OK || *error.message);
    CU_ASSERT(status == OCT_OK || status == OCT_ERR_FORMAT || status == OCT_ERR_UNSUPPORTED);
    oct_tensors_destroy(tensors);
    oct_free(copy);
    return status;
}

static const char *const damaged[] = {"typed.pth", "protocol4.pth", "legacy.pth", "nested.pth", "typed.safetensors"};
enum { DAMAGED = sizeof damaged / sizeof damaged[0] };

static void read_truncated_anywhere_is_refused(void)
{
    for (int f = 0; f < DAMAGED; f++) {
        size_t size;
        uint8_t *bytes = golden(damaged[f], &size);
        int accepted = 0;
        for (size_t n = 0; n < size; n++) accepted += judge(bytes, n) == OCT_OK;
        CU_ASSERT(accepted == 0);
        oct_free(bytes);
    }
}

static void read_any_byte_changed_is_survived(void)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff, 0x20};
    for (int f = 0; f < DAMAGED; f++) {
        size_t size;
        uint8_t *bytes = golden(damaged[f], &size);
        for (size_t i = 0; i < size; i++)
            for (size_t k = 0; k < sizeof flips; k++) {
                bytes[i] ^= flips[k];
                judge(bytes, size);
                bytes[i] ^= flips[k];
            }
        oct_free(bytes);
    }
}

static void pth_read_compressed_or_foreign_zip_is_refused(void)
{
    size_t size;
    uint8_t *bytes = golden("nested.pth", &size);
    for (size_t i = 0; i + 8 < size; i++) /* "data.pkl" everywhere to "data.pkm": same lengths, no pickle */
        if (!memcmp(bytes + i, "data.pkl", 8)) bytes[i + 7] = 'm';
    CU_ASSERT(judge(bytes, size) == OCT_ERR_FORMAT);
    CU_ASSERT(strstr(error.message, "without data.pkl") != NULL);
    oct_free(bytes);
}

/* --- safetensors by hand --- */

/* A file of that header and `data` bytes of zeros. */
static oct_status judge_header(const char *header, uint64_t declared, size_t data)
{
    uint8_t file[2048] = {0};
    size_t length = strlen(header);
    oct_store_le64(file, declared ? declared : length);
    memcpy(file + 8, header, length);
    return judge(file, 8 + length + data);
}

static void safetensors_read_forged_headers_are_refused(void)
{
#define T(dtype, shape, begin, end) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } table[] = {
        {"{\"a\":" T("F32", "[2]", "0", "8") ",\"b\":" T("F32", "[2]", "4", "12") "}", 12, "overlap"},
        {"{\"a\":" T("F32", "[1]", "0", "4") ",\"b\":" T("F32", "[1]", "8", "12") "}", 12, "hole"},
        {"{\"a\":" T("F32", "[1]", "4", "8") "}", 8, "hole"},
        {"{\"a\":" T("F32", "[1]", "0", "4") "}", 8, "end at byte 4 of 8"},
        {"{\"a\":" T("F32", "[4]", "0", "16") "}", 8, "0..16 of 8 bytes"},
        {"{\"a\":" T("F32", "[1]", "8", "4") "}", 8, "8..4 of 8 bytes"},
        {"{\"a\":" T("F32", "[1]", "0", "18446744073709551620") "}", 8, "whole numbers"},
        {"{\"a\":" T("F32", "[4294967296,4294967296,4294967296]", "0", "0") "}", 0, "do not make"},
        {"{\"a\":" T("F32", "[1073741824,1073741824,16]", "0", "0") "}", 0, "do not make"},
        {"{\"a\":" T("F32", "[-1]", "0", "4") "}", 4, "\"shape\""},
        {"{\"a\":" T("F32", "[1.5]", "0", "4") "}", 4, "\"shape\""},
        {"{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "\"shape\""},
        {"{\"a\":" T("F32", "[2]", "0", "4") "}", 4, "do not make"},
        {"{\"a\":" T("F8_E4M3", "[4]", "0", "4") "}", 4, "F8_E4M3"},
        {"{\"a\":" T("F32", "[1]", "0", "4") ",\"a\":" T("F32", "[1]", "4", "8") "}", 8, "twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1]}}", 0, "data_offsets"},
        {"{\"a\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "\"dtype\""},
        {"{\"a\":5}", 0, "each once"},
        {"{\"\":" T("F32", "[1]", "0", "4") "}", 4, "name"},
        {"{\"a\\u001b[2J\":" T("F32", "[1]", "0", "4") "}", 4, "control characters"},
        {"{\"a\":", 4, "not JSON"},
        {"{} x", 0, "not JSON"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        oct_status status = judge_header(table[i].header, 0, table[i].data);
        bool good = status != OCT_OK && strstr(error.message, table[i].message);
        if (!good) printf("    %s: %s\n", table[i].header, error.message);
        CU_ASSERT(good);
    }
    CU_ASSERT(judge_header("{}", UINT64_C(1) << 40, 0) == OCT_ERR_FORMAT);
    CU_ASSERT(strstr(error.message, "1099511627776 bytes") != NULL);
    CU_ASSERT(judge_header("{}   ", 0, 0) == OCT_OK);
    CU_ASSERT(judge_header("{\"__metadata__\":{\"a\":\"b\"},\"x\":" T("F32", "[]", "0", "4") "}", 0, 4) == OCT_OK);
}

/* --- pickles by hand, in the legacy container --- */

#define LEGACY_HEAD                                                                        \
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."            \
    "\x80\x02}U\x0dlittle_endian\x88s."

static oct_status judge_pickle(const char *body, size_t length)
{
    uint8_t file[1024];
    size_t head = sizeof LEGACY_HEAD - 1;
    memcpy(file, LEGACY_HEAD, head);
    memcpy(file + head, body, length);
    return judge(file, head + length);
}

/* {"w": tensor of storage "0" with 2 floats}; the numbers are offset, size, stride. */
#define TENSOR(offset, size, stride)                                                                        \
    "\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x01" "0U\x03" \
    "cpuK\x02tQ" offset size "\x85" stride "\x85\x89}tRs."
#define DATA "\x80\x02]U\x01" "0a.\x02\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\x40"

static void pth_read_forged_pickles_are_refused(void)
{
#define B(text) text, sizeof text - 1
    static const struct {
        const char *body;
        size_t length;
        oct_status status;
        const char *message;
    } table[] = {
        {B(TENSOR("K\0", "K\x02", "K\x01") DATA), OCT_OK, ""},
        {B(TENSOR("K\x01", "K\x02", "K\x01") DATA), OCT_ERR_FORMAT, "reaches beyond"},
        {B(TENSOR("K\0", "K\x02", "K\x02") DATA), OCT_ERR_FORMAT, "reaches beyond"},
        {B(TENSOR("K\0", "J\xff\xff\xff\xff", "K\x01") DATA), OCT_ERR_FORMAT, "none negative"},
        {B(TENSOR("J\xff\xff\xff\xff", "K\x01", "K\x01") DATA), OCT_ERR_FORMAT, "none negative"},
        {B(TENSOR("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\x01", "K\x01") DATA), OCT_ERR_FORMAT,
         "reaches beyond"},
        /* a stride of 0 repeats one element as often as the pickle likes: bounded by the size of the file */
        {B(TENSOR("K\0", "J\0\0\0\x40", "K\0") DATA), OCT_ERR_FORMAT, "room for"},
        {B(TENSOR("K\0", "K\x02", "K\x01") "\x80\x02]."), OCT_ERR_FORMAT, "no elements in the file"},
        {B(TENSOR("K\0", "K\x02", "K\x01") DATA "x"), OCT_ERR_FORMAT, "behind the last storage"},
        {B("\x80\x02(l."), OCT_ERR_FORMAT, "pickle"},
        {B("\x80\x02}." "\x80\x02]."), OCT_ERR_FORMAT, "no weights"},
        {B("\x80\x02" "cos\nsystem\n(U\x02lstR."), OCT_ERR_UNSUPPORTED, "os.system"},
        {B("\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R."), OCT_ERR_UNSUPPORTED, "posix.system"},
        {B("\x80\x02U\x02os(i"), OCT_ERR_UNSUPPORTED, "opcode 0x69"},
        {B("\x80\x02\x82\x01."), OCT_ERR_UNSUPPORTED, "opcode 0x82"},
        {B("(S'x'\n."), OCT_ERR_UNSUPPORTED, "opcode 0x53"},
        {B("\x80\x02X\xff\xff\xff\xff" "abc."), OCT_ERR_FORMAT, "longer than the file"},
        {B("\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff" "abc."), OCT_ERR_FORMAT, "longer than the file"},
        {B("\x80\x02Nr\xff\xff\xff\xff."), OCT_ERR_FORMAT, "memo is too large"},
        {B("\x80\x02h\x05."), OCT_ERR_FORMAT, "not remembered"},
        {B("\x80\x02."), OCT_ERR_FORMAT, "no result"},
        {B("\x80\x02R."), OCT_ERR_FORMAT, "no class"},
        {B("\x80\x02}q\0U\x01" "ah\0sU\x01" "bh\0s." "\x80\x02]."), OCT_ERR_FORMAT, ""}, /* contains itself twice */
        {B("\x80\x02}K\x01s."), OCT_ERR_FORMAT, "pickle"},
        {B("\x80\x02(Q."), OCT_ERR_FORMAT, "persistent"},
        {B("\x80\x02K\x01Q." "\x80\x02]."), OCT_ERR_FORMAT, "names no storage"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        oct_status status = judge_pickle(table[i].body, table[i].length);
        bool good = status == table[i].status && strstr(error.message, table[i].message);
        if (!good) printf("    pickle %zu: %s: %s\n", i, oct_status_name(status), error.message);
        CU_ASSERT(good);
    }
}

static void pth_read_real_legacy_file_has_all_entries(void)
{
    uint8_t *bytes;
    size_t size;
    const char *path = test_shared_path("models/efficientnet-lite0.pth");
    if (!path) SKIP("shared/models/efficientnet-lite0.pth is not there");
    CU_ASSERT_FATAL(oct_file_read(&bytes, &size, path, 1 << 26, NULL) == OCT_OK);
    oct_tensors *t;
    CU_ASSERT(read_bytes(&t, bytes, size) == OCT_OK);
    CU_ASSERT(oct_tensors_count(t) == 296);
    const oct_named_tensor *fc = oct_tensors_find(t, "_fc.weight");
    CU_ASSERT_FATAL(fc != NULL);
    CU_ASSERT(fc->rank == 2 && fc->dims[0] == 1000 && fc->dims[1] == 1280);
    oct_tensors_destroy(t);
    oct_free(bytes);
}

static const test_case cases[] = {
    {"pth_read_every_type_and_view_gives_the_values", pth_read_every_type_and_view_gives_the_values},
    {"safetensors_read_every_type_gives_the_values", safetensors_read_every_type_gives_the_values},
    {"pth_read_nested_dicts_finds_the_weights", pth_read_nested_dicts_finds_the_weights},
    {"pth_read_foreign_objects_are_refused_by_name", pth_read_foreign_objects_are_refused_by_name},
    {"elements_half_is_exact_at_its_edges", elements_half_is_exact_at_its_edges},
    {"read_truncated_anywhere_is_refused", read_truncated_anywhere_is_refused},
    {"read_any_byte_changed_is_survived", read_any_byte_changed_is_survived},
    {"pth_read_compressed_or_foreign_zip_is_refused", pth_read_compressed_or_foreign_zip_is_refused},
    {"safetensors_read_forged_headers_are_refused", safetensors_read_forged_headers_are_refused},
    {"pth_read_forged_pickles_are_refused", pth_read_forged_pickles_are_refused},
    {"pth_read_real_legacy_file_has_all_entries", pth_read_real_legacy_file_has_all_entries},
};
TEST_SUITE("import_files", cases);
