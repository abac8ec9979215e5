/* SPDX-License-Identifier: BSD-2-Clause
 * The HDF5 form of int8 models: round trips, and one fault at a time in a good file.
 */
#include <hdf5.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/file.h"
#include "quant/int8/image.h"
#include "quant/int8_file.h"
#include "tests/int8_affine.h"
#include "tests/int8_networks.h"
#include "tests/testing.h"

static const char *path_in_folder(const char *name)
{
    static char path[512];
    static const char *folder;
    if (!folder) folder = test_folder();
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* pixels 9x8x3 -> lookup -> conv 3x3, 8 outputs -> average -> linear, 5 scores with an exponent each; 0000 .. 0003. */
static void small_network(net *n)
{
    net_start(n, 5);
    int x = net_tensor(n, OCT_INT8_PIXELS, 9, 8, 3, 0, 0);
    n->spec.input = x;
    x = net_lookup(n, x, false);
    x = net_conv(n, x, 8, 3, 1, OCT_INT8_CODES);
    x = net_pool(n, x, OCT_INT8_AVERAGE_POOL, true);
    n->spec.output = net_linear(n, x, 5, OCT_INT8_SCORES);
    net_information(n);
}

static void file_round_trip_gives_the_same_image(void)
{
    for (unsigned seed = 0; seed < 40; seed++) {
        net n;
        oct_error error = {0};
        uint8_t *image, *read, *flat;
        size_t size, read_size, flat_size;
        net_random(&n, seed, 10);
        if (seed % 3 == 2) net_make_affine(&n, OCT_INT8_ROUND_FLOAT + seed / 3 % 3);
        if (seed % 3 == 0) n.spec.class_count = 0, n.spec.class_names = NULL, n.spec.mean = n.spec.scale = NULL;
        CU_ASSERT_TRUE_FATAL(test_is_ok(&error, oct_int8_image_write(&image, &size, &n.spec, &error), "image_write"));
        const char *path = path_in_folder("round.h5");
        CU_ASSERT_TRUE(test_is_ok(&error, oct_int8_file_write(path, &n.spec, &error), "oct_int8_file_write"));
        CU_ASSERT_TRUE(test_is_ok(&error, oct_int8_file_read(&read, &read_size, path, &error), "oct_int8_file_read"));
        CU_ASSERT_TRUE(read && read_size == size && !memcmp(read, image, size));
        CU_ASSERT_EQUAL(oct_int8_file_write_image(path, &n.spec, &error), OCT_OK);
        CU_ASSERT_EQUAL(oct_int8_file_read(&flat, &flat_size, path, &error), OCT_OK);
        CU_ASSERT_TRUE(flat && flat_size == size && !memcmp(flat, image, size));
        oct_int8_model *model;
        CU_ASSERT_EQUAL(oct_int8_open(&model, read, read_size, NULL, &error), OCT_OK);
        oct_int8_close(model);
        oct_free(flat);
        oct_free(read);
        oct_free(image);
        net_release(&n);
    }
}

static void file_write_same_spec_gives_the_same_bytes(void)
{
    net n;
    oct_error error = {0};
    uint8_t *a, *b;
    size_t a_size, b_size;
    small_network(&n);
    const char *path = path_in_folder("same.h5");
    CU_ASSERT_EQUAL_FATAL(oct_int8_file_write(path, &n.spec, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_file_read(&a, &a_size, path, SIZE_MAX, &error), OCT_OK);
    sleep(1); /* a time stamp would show */
    CU_ASSERT_EQUAL_FATAL(oct_int8_file_write(path, &n.spec, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_file_read(&b, &b_size, path, SIZE_MAX, &error), OCT_OK);
    CU_ASSERT_TRUE(a_size == b_size && !memcmp(a, b, a_size));
    oct_free(b);
    oct_free(a);
    net_release(&n);
}

static void file_write_failure_names_the_file_and_keeps_the_old_one(void)
{
    net n;
    oct_error error = {0};
    struct stat before, after;
    small_network(&n);
    const char *path = path_in_folder("kept.h5");
    CU_ASSERT_EQUAL_FATAL(oct_int8_file_write(path, &n.spec, &error), OCT_OK);
    CU_ASSERT_EQUAL(stat(path, &before), 0);
    n.layers[1].kernel_h = 0;
    CU_ASSERT_EQUAL(oct_int8_file_write(path, &n.spec, &error), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "kept.h5: layer 'conv/1'"));
    CU_ASSERT_EQUAL(stat(path, &after), 0);
    CU_ASSERT_TRUE(before.st_ino == after.st_ino && before.st_size == after.st_size);
    n.layers[1].kernel_h = 3;
    oct_error_clear(&error);
    CU_ASSERT_EQUAL(oct_int8_file_write(path_in_folder("no/such/folder.h5"), &n.spec, &error), OCT_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "no/such/folder.h5"));
    net_release(&n);
}

/* The file size limit stands in for a full disk: writes fail half way. */
static void file_write_on_a_full_disk_fails_and_leaves_nothing(void)
{
    net n;
    struct rlimit before;
    char path[512];
    small_network(&n);
    snprintf(path, sizeof path, "%s", path_in_folder("full.h5"));
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    struct rlimit small = {.rlim_cur = 2048, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    for (int image = 0; image <= 1; image++) {
        oct_error error = {0};
        oct_status status =
            image ? oct_int8_file_write_image(path, &n.spec, &error) : oct_int8_file_write(path, &n.spec, &error);
        CU_ASSERT_EQUAL(status, OCT_ERR_IO);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "full.h5"));
        if (!strstr(error.message, "write")) printf("    %s\n", error.message);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "write"));
    }
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    char *temporary = oct_file_temporary_name(path);
    CU_ASSERT_TRUE(access(path, F_OK) && access(temporary, F_OK));
    oct_free(temporary);
    net_release(&n);
}

static void file_read_something_else_is_refused(void)
{
    oct_error error = {0};
    uint8_t *bytes;
    size_t size;
    const char *path = path_in_folder("text.h5");
    CU_ASSERT_EQUAL(oct_file_write(path, "hello", 5, &error), OCT_OK);
    CU_ASSERT_EQUAL(oct_int8_file_read(&bytes, &size, path, &error), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "text.h5: not an int8 model"));
    CU_ASSERT_PTR_NULL(bytes);
    oct_error_clear(&error);
    CU_ASSERT_EQUAL(oct_int8_file_read(&bytes, &size, path_in_folder("absent.h5"), &error), OCT_ERR_IO);
    oct_error_clear(&error);
    CU_ASSERT_EQUAL(oct_int8_file_read(&bytes, &size, path_in_folder("."), &error), OCT_ERR_IO);
    oct_error_clear(&error);
    path = path_in_folder("text.h5");
    CU_ASSERT_EQUAL(oct_file_write(path, "\x89HDF\r\n\x1a\nrest", 12, &error), OCT_OK);
    CU_ASSERT_EQUAL(oct_int8_file_read(&bytes, &size, path, &error), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "text.h5: /: cannot read 'the file'"));
}

/* ---- one fault at a time ---- */

static void set_int(hid_t file, const char *object, const char *name, int index, int value)
{
    int values[16] = {0};
    hid_t at = H5Oopen(file, object, H5P_DEFAULT), attribute = H5Aopen(at, name, H5P_DEFAULT);
    H5Aread(attribute, H5T_NATIVE_INT, values);
    values[index] = value;
    CU_ASSERT_TRUE(H5Awrite(attribute, H5T_NATIVE_INT, values) >= 0);
    H5Aclose(attribute);
    H5Oclose(at);
}

static void add_int(hid_t file, const char *object, const char *name)
{
    hid_t space = H5Screate(H5S_SCALAR);
    H5Aclose(H5Acreate_by_name(file, object, name, H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
}

static void set_text(hid_t file, const char *object, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text) + 1);
    H5Adelete_by_name(file, object, name, H5P_DEFAULT);
    hid_t at = H5Oopen(file, object, H5P_DEFAULT);
    hid_t attribute = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    CU_ASSERT_TRUE(H5Awrite(attribute, type, text) >= 0);
    H5Aclose(attribute);
    H5Oclose(at);
    H5Sclose(space);
    H5Tclose(type);
}

/* Replaces a dataset by zeros of another type or shape; `plist` may change how it is stored. */
static void replace(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims, hid_t plist)
{
    static const char zeros[65536];
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros);
    H5Dclose(set);
    H5Sclose(space);
}

#define CONV "layers/0001_conv.1"
#define HEAD "layers/0003_linear.3"

static void change_weight(hid_t file)
{
    int8_t codes[8 * 27];
    hid_t set = H5Dopen2(file, CONV "/weights", H5P_DEFAULT);
    H5Dread(set, H5T_NATIVE_INT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, codes);
    codes[17] = codes[17] == 1 ? 2 : 1;
    H5Dwrite(set, H5T_NATIVE_INT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, codes);
    H5Dclose(set);
}
static void change_version(hid_t file)
{
    set_int(file, "/", "version", 0, 2);
}
static void change_format(hid_t file)
{
    set_text(file, "/", "format", "octet-state");
}
static void change_profile(hid_t file)
{
    set_text(file, "/", "profile", "cubic");
}
static void change_kernel(hid_t file)
{
    set_int(file, CONV, "kernel", 0, 0);
}
static void change_stride(hid_t file)
{
    set_int(file, CONV, "stride", 1, INT32_MIN);
}
static void change_groups(hid_t file)
{
    set_int(file, CONV, "groups", 0, 5);
}
static void change_shape(hid_t file)
{
    set_int(file, "tensors/0000_value.0", "shape", 2, INT32_MAX);
}
static void change_big(hid_t file)
{
    set_int(file, "tensors/0001_value.1", "shape", 0, 32768);
}
static void change_signed(hid_t file)
{
    set_int(file, "tensors/0001_value.1", "signed", 0, 2);
}
static void change_kind(hid_t file)
{
    set_text(file, "tensors/0001_value.1", "kind", "floats");
}
static void change_limits(hid_t file)
{
    set_int(file, CONV, "limits", 1, 300);
}
static void change_op(hid_t file)
{
    set_text(file, CONV, "op", "winograd");
}
static void change_input(hid_t file)
{
    set_text(file, CONV, "inputs", "value/99");
}
static void change_loop(hid_t file)
{
    set_text(file, CONV, "inputs", "value/3");
}
static void change_output(hid_t file)
{
    set_text(file, "/", "output", "nothing");
}
static void change_name(hid_t file)
{
    set_text(file, HEAD, "name", "conv/1");
}
static void change_tool(hid_t file)
{
    set_text(file, "/", "tool", "another tool");
}
static void change_resize(hid_t file)
{
    set_int(file, "preprocessing", "resize", 0, -1);
}
static void change_interpolation(hid_t file)
{
    set_text(file, "preprocessing", "interpolation", "lanczos");
}
static void drop_attribute(hid_t file)
{
    H5Adelete_by_name(file, CONV, "dilation", H5P_DEFAULT);
}
static void drop_checksum(hid_t file)
{
    H5Adelete(file, "checksum");
}
static void drop_bias(hid_t file)
{
    H5Ldelete(file, HEAD "/bias", H5P_DEFAULT);
}
static void drop_scale(hid_t file)
{
    H5Ldelete(file, "preprocessing/scale", H5P_DEFAULT);
}
static void drop_layer(hid_t file)
{
    H5Ldelete(file, "layers/0002_average_pool.2", H5P_DEFAULT);
}
static void drop_layers(hid_t file)
{
    H5Ldelete(file, "layers", H5P_DEFAULT);
}
static void add_attribute(hid_t file)
{
    add_int(file, CONV, "zero_point");
}
static void add_limits(hid_t file)
{
    add_int(file, HEAD, "limits");
}
static void add_root(hid_t file)
{
    add_int(file, "/", "affine");
}
static void add_member(hid_t file)
{
    H5Gclose(H5Gcreate2(file, CONV "/multipliers", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void add_soft(hid_t file)
{
    H5Ldelete(file, CONV "/bias", H5P_DEFAULT);
    H5Lcreate_soft("/" HEAD "/bias", file, CONV "/bias", H5P_DEFAULT, H5P_DEFAULT);
}
static void add_external(hid_t file)
{
    H5Ldelete(file, CONV, H5P_DEFAULT);
    H5Lcreate_external("other.h5", "/" CONV, file, CONV, H5P_DEFAULT, H5P_DEFAULT);
}
static void retype_weights(hid_t file)
{
    const hsize_t dims[4] = {8, 3, 3, 3};
    replace(file, CONV "/weights", H5T_STD_I16LE, 4, dims, H5P_DEFAULT);
}
static void retype_exponent(hid_t file)
{
    set_text(file, "tensors/0001_value.1", "exponent", "3");
}
static void reshape_bias(hid_t file)
{
    const hsize_t dims[1] = {9};
    replace(file, CONV "/bias", H5T_STD_I32LE, 1, dims, H5P_DEFAULT);
}
static void reshape_table(hid_t file)
{
    const hsize_t dims[2] = {2, 256};
    replace(file, "layers/0000_lookup.0/table", H5T_STD_U8LE, 2, dims, H5P_DEFAULT);
}
static void chunk_weights(hid_t file)
{
    const hsize_t dims[4] = {8, 3, 3, 3};
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(plist, 4, dims);
    replace(file, CONV "/weights", H5T_STD_I8LE, 4, dims, plist);
    H5Pclose(plist);
}
static void external_weights(hid_t file)
{
    const hsize_t dims[4] = {8, 3, 3, 3};
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(plist, path_in_folder("outside.bin"), 0, 216);
    replace(file, CONV "/weights", H5T_STD_I8LE, 4, dims, plist);
    H5Pclose(plist);
}
static void narrow_code(hid_t file)
{
    int8_t codes[8 * 27] = {0};
    codes[3] = -128;
    hid_t set = H5Dopen2(file, CONV "/weights", H5P_DEFAULT);
    H5Dwrite(set, H5T_NATIVE_INT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, codes);
    H5Dclose(set);
}
static void rename_layer(hid_t file)
{
    H5Lmove(file, HEAD, file, "layers/0007_linear.3", H5P_DEFAULT, H5P_DEFAULT);
}

static const struct {
    const char *name;
    void (*make)(hid_t file);
    oct_status status;
    const char *message; /* what the message must hold besides the file's name */
} faults[] = {
    {"change_weight", change_weight, OCT_ERR_FORMAT, "the content has the checksum"},
    {"change_tool", change_tool, OCT_ERR_FORMAT, "the content has the checksum"},
    {"change_version", change_version, OCT_ERR_UNSUPPORTED, "version 2, this build reads 1"},
    {"change_format", change_format, OCT_ERR_FORMAT, "format 'octet-state', expected 'octet-int8'"},
    {"change_profile", change_profile, OCT_ERR_UNSUPPORTED, "profile 'cubic', this build knows 'po2' and 'affine'"},
    {"change_kernel", change_kernel, OCT_ERR_FORMAT, "layer 'conv/1' (conv): kernel (height) is 0"},
    {"change_stride", change_stride, OCT_ERR_FORMAT, "layer 'conv/1' (conv): stride (width) is -2147483648"},
    {"change_groups", change_groups, OCT_ERR_FORMAT, "groups is 5"},
    {"change_shape", change_shape, OCT_ERR_FORMAT, "tensor 'value/0': shape 9x8x2147483647"},
    {"change_big", change_big, OCT_ERR_FORMAT, "layer 'lookup/0' (lookup): output is 32768x8x3"},
    {"change_signed", change_signed, OCT_ERR_FORMAT, "tensor 'value/1': signedness 2"},
    {"change_kind", change_kind, OCT_ERR_FORMAT, "'floats' is an unknown kind of tensor"},
    {"change_limits", change_limits, OCT_ERR_FORMAT, "upper output limit is 300"},
    {"change_op", change_op, OCT_ERR_UNSUPPORTED, "0001_conv.1: unknown operator 'winograd'"},
    {"change_input", change_input, OCT_ERR_FORMAT, "0001_conv.1: 'value/99' is the name of no tensor"},
    {"change_loop", change_loop, OCT_ERR_FORMAT, "input 'value/3' is not written by an earlier layer"},
    {"change_output", change_output, OCT_ERR_FORMAT, "'nothing' is the name of no tensor"},
    {"change_name", change_name, OCT_ERR_FORMAT, "both are named 'conv/1'"},
    {"change_resize", change_resize, OCT_ERR_FORMAT, "resize -1, expected 0..32768"},
    {"change_interpolation", change_interpolation, OCT_ERR_FORMAT, "'interpolation' is neither bilinear nor bicubic"},
    {"drop_attribute", drop_attribute, OCT_ERR_FORMAT, "0001_conv.1: 'dilation' is missing"},
    {"drop_checksum", drop_checksum, OCT_ERR_FORMAT, "/: 'checksum' is missing"},
    {"drop_bias", drop_bias, OCT_ERR_FORMAT, "0003_linear.3: 'bias' is missing"},
    {"drop_scale", drop_scale, OCT_ERR_FORMAT, "'scale' is missing"},
    {"drop_layer", drop_layer, OCT_ERR_FORMAT, "'0003_linear.3' does not carry its number"},
    {"drop_layers", drop_layers, OCT_ERR_FORMAT, "'layers' is missing"},
    {"rename_layer", rename_layer, OCT_ERR_FORMAT, "'0007_linear.3' does not carry its number"},
    {"add_attribute", add_attribute, OCT_ERR_FORMAT, "0001_conv.1: 'zero_point' is an unknown attribute"},
    {"add_limits", add_limits, OCT_ERR_FORMAT, "0003_linear.3: 'limits' is an unknown attribute"},
    {"add_root", add_root, OCT_ERR_FORMAT, "/: 'affine' is an unknown attribute"},
    {"add_member", add_member, OCT_ERR_FORMAT, "0001_conv.1: 'multipliers' is an unknown member"},
    {"add_soft", add_soft, OCT_ERR_FORMAT, "'bias' is a soft or external link"},
    {"add_external", add_external, OCT_ERR_FORMAT, "'0001_conv.1' is a soft or external link"},
    {"retype_weights", retype_weights, OCT_ERR_FORMAT, "'weights' has another number type"},
    {"retype_exponent", retype_exponent, OCT_ERR_FORMAT, "'exponent' has another type"},
    {"reshape_bias", reshape_bias, OCT_ERR_FORMAT, "'bias' does not have the shape"},
    {"reshape_table", reshape_table, OCT_ERR_FORMAT, "rows of the table is 2, expected 3"},
    {"chunk_weights", chunk_weights, OCT_ERR_FORMAT, "'weights' is not stored plainly"},
    {"external_weights", external_weights, OCT_ERR_FORMAT, "'weights' is not stored plainly"},
    {"narrow_code", narrow_code, OCT_ERR_FORMAT, "a weight code of output 0 is -128"},
};

static void file_read_faults_are_named(void)
{
    net n;
    oct_error error = {0};
    small_network(&n);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        char path[512];
        uint8_t *bytes;
        size_t size;
        snprintf(path, sizeof path, "%s", path_in_folder("fault.h5"));
        CU_ASSERT_EQUAL_FATAL(oct_int8_file_write(path, &n.spec, &error), OCT_OK);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        CU_ASSERT_TRUE_FATAL(file >= 0);
        faults[i].make(file);
        H5Fclose(file);
        oct_status status = oct_int8_file_read(&bytes, &size, path, &error);
        bool named = strstr(error.message, "fault.h5: ") && strstr(error.message, faults[i].message);
        if (status != faults[i].status || !named)
            printf("    %s: %s: %s\n", faults[i].name, oct_status_name(status), error.message);
        CU_ASSERT_EQUAL(status, faults[i].status);
        CU_ASSERT_TRUE(named);
        CU_ASSERT_PTR_NULL(bytes);
        oct_error_clear(&error);
    }
    net_release(&n);
}

static void file_read_truncated_is_refused(void)
{
    net n;
    oct_error error = {0};
    uint8_t *content, *bytes;
    size_t size, image_size;
    char path[512];
    small_network(&n);
    snprintf(path, sizeof path, "%s", path_in_folder("short.h5"));
    CU_ASSERT_EQUAL_FATAL(oct_int8_file_write(path, &n.spec, &error), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_file_read(&content, &size, path, SIZE_MAX, &error), OCT_OK);
    for (size_t cut = 0; cut < size; cut += cut < 256 ? 8 : 997) {
        CU_ASSERT_EQUAL(oct_file_write(path, content, cut, &error), OCT_OK);
        CU_ASSERT_EQUAL(oct_int8_file_read(&bytes, &image_size, path, &error), OCT_ERR_FORMAT);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "short.h5: "));
        CU_ASSERT_PTR_NULL(bytes);
        oct_error_clear(&error);
    }
    oct_free(content);
    net_release(&n);
}

static void file_allocation_failures_are_clean(void)
{
    net n;
    uint8_t *bytes = NULL;
    size_t size;
    char path[512];
    small_network(&n);
    snprintf(path, sizeof path, "%s", path_in_folder("memory.h5"));
    oct_status status = OCT_ERR_MEMORY;
    long k = 1;
    for (; status != OCT_OK && k < 1000; k++) {
        oct_error error = {0};
        oct_alloc_fail_after(k);
        status = oct_int8_file_write(path, &n.spec, &error);
        if (status == OCT_OK) status = oct_int8_file_read(&bytes, &size, path, &error);
        oct_alloc_fail_after(0);
        CU_ASSERT_TRUE(status == OCT_OK || (status == OCT_ERR_MEMORY && error.message[0]));
    }
    CU_ASSERT_TRUE(k > 10);
    oct_free(bytes);
    net_release(&n);
}

static const test_case cases[] = {
    {"file_round_trip_gives_the_same_image", file_round_trip_gives_the_same_image},
    {"file_write_same_spec_gives_the_same_bytes", file_write_same_spec_gives_the_same_bytes},
    {"file_write_failure_names_the_file_and_keeps_the_old_one",
     file_write_failure_names_the_file_and_keeps_the_old_one},
    {"file_write_on_a_full_disk_fails_and_leaves_nothing", file_write_on_a_full_disk_fails_and_leaves_nothing},
    {"file_read_something_else_is_refused", file_read_something_else_is_refused},
    {"file_read_faults_are_named", file_read_faults_are_named},
    {"file_read_truncated_is_refused", file_read_truncated_is_refused},
    {"file_allocation_failures_are_clean", file_allocation_failures_are_clean},
};
TEST_SUITE("int8_file", cases);
