/* SPDX-License-Identifier: BSD-2-Clause
 * State files that go wrong: full disks, and files that are truncated, foreign, edited or mutated. */
#include <dirent.h>
#include <hdf5.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "autograd/op.h"
#include "layers/state_internal.h"
#include "tests/state_fixture.h"

static int entries(const char *folder)
{
    int count = 0;
    DIR *dir = opendir(folder);
    if (!dir) return -1;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* A full disk, as far as a test may fill one: no file may grow beyond 4 KiB. */
static void write_to_a_full_disk_keeps_the_old_file(void)
{
    setup();
    char folder[PATH];
    snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
    write_small();
    oct_graph *g = small_graph(99, 6);
    oct_state *state = state_of(g), *read = NULL;
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 4096;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    oct_status status = oct_state_write(path, state, &ctx->error);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    CU_ASSERT(status == OCT_ERR_IO);
    CU_ASSERT(strstr(ctx->error.message, "state.h5") && strstr(ctx->error.message, "too large"));
    CU_ASSERT(entries(folder) == 1);
    oct_error_clear(&ctx->error);
    REQUIRE_OK(ctx, oct_state_read(&read, path, &ctx->error));
    CU_ASSERT(oct_state_digest(read) != oct_graph_digest(g));
    int64_t epoch = 0;
    CU_ASSERT(oct_state_get_integer(read, "epoch", &epoch) && epoch == 3);
    oct_state_destroy(read);
    oct_state_destroy(state);
    oct_graph_destroy(g);
    teardown();
}

/* The file at `path` must be refused with `status` and a message that names the file and `expected`. */
static void expect_refused(oct_status status, const char *expected)
{
    oct_state *read = NULL;
    oct_error_clear(&ctx->error);
    oct_status found = oct_state_read(&read, path, &ctx->error);
    bool good = found == status && !read && strstr(ctx->error.message, path) && strstr(ctx->error.message, expected);
    if (!good) printf("    expected '%s', got %s: %s\n", expected, oct_status_name(found), ctx->error.message);
    CU_ASSERT(good);
    oct_state_destroy(read);
}

static void read_no_file_text_or_foreign_file_is_refused(void)
{
    setup();
    expect_refused(OCT_ERR_IO, "No such file");
    REQUIRE_OK(ctx, oct_file_write(path, "hello\n", 6, NULL));
    expect_refused(OCT_ERR_FORMAT, "not an HDF5 file");
    H5Fclose(H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    expect_refused(OCT_ERR_FORMAT, "expected format 'octet-state'");
    char format[OCT_STATE_FORMAT_BYTES];
    ASSERT_OK(ctx, oct_state_probe(format, path, NULL));
    CU_ASSERT_STRING_EQUAL(format, "");
    write_small();
    ASSERT_OK(ctx, oct_state_probe(format, path, NULL));
    CU_ASSERT_STRING_EQUAL(format, OCT_STATE_FORMAT);
    teardown();
}

/* --- edited files: a valid file, changed through the HDF5 library --- */

typedef void edit_fn(hid_t file);

static void replace_dataset(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims, hid_t plist)
{
    static float zeros[4096];
    hid_t space = H5Screate_simple(rank, dims, NULL);
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros);
    H5Dclose(set);
    H5Sclose(space);
}

static void edit_delete(hid_t file)
{
    H5Ldelete(file, "parameters/stem/conv/weight", H5P_DEFAULT);
}

static void edit_shape(hid_t file)
{
    replace_dataset(file, "parameters/head/bias", H5T_IEEE_F32LE, 1, (hsize_t[]){7}, H5P_DEFAULT);
}

static void edit_rank(hid_t file)
{
    replace_dataset(file, "parameters/head/bias", H5T_IEEE_F32LE, 2, (hsize_t[]){1, 6}, H5P_DEFAULT);
}

static void edit_type(hid_t file)
{
    replace_dataset(file, "parameters/head/bias", H5T_IEEE_F64LE, 1, (hsize_t[]){6}, H5P_DEFAULT);
}

static void edit_value(hid_t file)
{
    replace_dataset(file, "buffers/stem/bn/var", H5T_IEEE_F32LE, 1, (hsize_t[]){4}, H5P_DEFAULT);
}

static void edit_chunked(hid_t file)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plist, 1, (hsize_t[]){2});
    replace_dataset(file, "parameters/head/bias", H5T_IEEE_F32LE, 1, (hsize_t[]){6}, plist);
    H5Pclose(plist);
}

/* Names a file beside it as the place of its values. */
static void edit_external(hid_t file)
{
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, (hsize_t[]){6}, NULL);
    H5Pset_external(plist, "/etc/passwd", 0, 24);
    H5Ldelete(file, "parameters/head/bias", H5P_DEFAULT);
    H5Dclose(H5Dcreate2(file, "parameters/head/bias", H5T_IEEE_F32LE, space, H5P_DEFAULT, plist, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(plist);
}

static void edit_version(hid_t file)
{
    int32_t version = 2;
    hid_t attribute = H5Aopen(file, "version", H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT32, &version);
    H5Aclose(attribute);
}

static void edit_format(hid_t file)
{
    hid_t attribute = H5Aopen(file, "format", H5P_DEFAULT), type = H5Aget_type(attribute);
    H5Awrite(attribute, type, "octet-int8\0");
    H5Tclose(type);
    H5Aclose(attribute);
}

static void edit_digest(hid_t file)
{
    H5Adelete(file, "digest");
}

static void replace_graph(hid_t file, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text) + 1);
    H5Ldelete(file, "graph", H5P_DEFAULT);
    hid_t set = H5Dcreate2(file, "graph", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text);
    H5Dclose(set);
    H5Sclose(space);
    H5Tclose(type);
}

static void edit_graph_text(hid_t file)
{
    replace_graph(file, "{\"nodes\":");
}

/* Two gigabytes that are not there. */
static void edit_graph_huge(hid_t file)
{
    replace_graph(file, "{\"seed\":\"1\",\"nodes\":[{\"id\":0,\"name\":\"w\",\"kind\":\"parameter\",\"dtype\":\"f32\","
                        "\"shape\":[1024,1024,512]}]}");
}

static void edit_meta_name(hid_t file)
{
    H5Lmove(file, "meta/epoch", file, "meta/ep och", H5P_DEFAULT, H5P_DEFAULT);
}

/* What a forger does: a seal that fits the edited file. */
static void seal_again(void)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    REQUIRE_OK(ctx, oct_file_read(&bytes, &size, path, 1 << 24, &ctx->error));
    oct_state_seal_make((char *)bytes, bytes + OCT_STATE_SEAL, size - OCT_STATE_SEAL);
    REQUIRE_OK(ctx, oct_file_write(path, bytes, size, NULL));
    oct_free(bytes);
}

static void read_edited_files_names_object_and_reason(void)
{
    static const struct {
        edit_fn *edit;
        const char *expected;
    } edits[] = {
        {edit_delete, "'parameters/stem/conv/weight'"},
        {edit_shape, "'parameters/head/bias': expected shape [6]"},
        {edit_rank, "'parameters/head/bias': expected shape [6]"},
        {edit_type, "32-bit"},
        {edit_value, "parameters and buffers: expected digest"},
                {edit_chunked, "contiguous"},
        {edit_external, "contiguous"},
        {edit_version, "expected version 1"},
        {edit_format, "expected format 'octet-state', found 'octet-int8'"},
        {edit_digest, "'digest'"},
        {edit_graph_text, "not JSON"},
        {edit_graph_huge, "2147483648 bytes"},
        {edit_meta_name, "'meta'"},
    };
    setup();
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        write_small();
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        CU_ASSERT_FATAL(file >= 0);
        edits[i].edit(file);
        H5Fclose(file);
        expect_refused(OCT_ERR_FORMAT, "state.h5: expected ");
        seal_again();
        expect_refused(OCT_ERR_FORMAT, edits[i].expected);
    }
    teardown();
}

/* --- mutated bytes --- */

/* Without the syncing of oct_file_write: there are thousands of these. */
static bool put_bytes(const uint8_t *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(bytes, 1, size, f) == size;
    return f && !fclose(f) && ok;
}

/* Reads the bytes as a file: refused with a message, or the same content as before. */
static bool refused_or_same(const uint8_t *bytes, size_t size, uint64_t digest)
{
    oct_state *read = NULL;
    oct_error_clear(&ctx->error);
    if (!put_bytes(bytes, size)) return false;
    oct_status status = oct_state_read(&read, path, &ctx->error);
    bool good = status == OCT_OK ? oct_state_digest(read) == digest : strstr(ctx->error.message, path) != NULL;
    if (status == OCT_OK) {
        oct_graph *g = NULL;
        good = good && oct_state_make_graph(&g, read, ctx, oct_op_find) == OCT_OK;
        oct_graph_destroy(g);
    }
    oct_state_destroy(read);
    return good;
}

static void read_truncated_files_is_refused(void)
{
    setup();
    write_small();
    uint8_t *bytes = NULL;
    size_t size = 0;
    REQUIRE_OK(ctx, oct_file_read(&bytes, &size, path, 1 << 24, &ctx->error));
    for (size_t cut = 0; cut < size; cut += cut < 128 ? 1 : size / 61) {
        CU_ASSERT_FATAL(put_bytes(bytes, cut));
        expect_refused(OCT_ERR_FORMAT, "state.h5");
    }
    oct_free(bytes);
    teardown();
}

/* Steps through the file with a stride that is no multiple of any structure, and puts hostile values everywhere. */
static int count_bad_mutations(uint8_t *bytes, size_t size, uint64_t digest)
{
    static const uint8_t values[] = {0x00, 0xff, 0x80, 0x01};
    int bad = 0;
    for (size_t at = 0, k = 0; at < size; at += 23, k++) {
        uint8_t old = bytes[at];
        bytes[at] = k % 5 == 4 ? (uint8_t)(old ^ (1u << k % 8)) : values[k % 5];
        bool good = refused_or_same(bytes, size, digest);
        if (!good) printf("    byte %zu, %02x for %02x: %s\n", at, bytes[at], old, ctx->error.message);
        bad += !good;
        bytes[at] = old;
    }
    return bad;
}

static void read_mutated_files_is_refused_or_unchanged(void)
{
    setup();
    write_small();
    uint8_t *bytes = NULL;
    size_t size = 0;
    oct_state *read = NULL;
    REQUIRE_OK(ctx, oct_file_read(&bytes, &size, path, 1 << 24, &ctx->error));
    REQUIRE_OK(ctx, oct_state_read(&read, path, &ctx->error));
    uint64_t digest = oct_state_digest(read);
    oct_state_destroy(read);
    CU_ASSERT(refused_or_same(bytes, size, digest));
    CU_ASSERT(count_bad_mutations(bytes, size, digest) == 0);
    oct_free(bytes);
    teardown();
}

static const test_case cases[] = {
    {"write_to_a_full_disk_keeps_the_old_file", write_to_a_full_disk_keeps_the_old_file},
    {"read_no_file_text_or_foreign_file_is_refused", read_no_file_text_or_foreign_file_is_refused},
    {"read_edited_files_names_object_and_reason", read_edited_files_names_object_and_reason},
    {"read_truncated_files_is_refused", read_truncated_files_is_refused},
    {"read_mutated_files_is_refused_or_unchanged", read_mutated_files_is_refused_or_unchanged},
};
TEST_SUITE("state_damage", cases);
