/* SPDX-License-Identifier: BSD-2-Clause
 * Decoder and data set readers: real sets where they are installed, tiny generated ones, and damaged ones. */
#include "datasets/dataset.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "autograd/base/bytes.h"
#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "tests/testing.h"

enum { PATH_BYTES = 512 };

static void path_in(char out[PATH_BYTES], const char *folder, const char *name)
{
    CU_ASSERT_FATAL((size_t)snprintf(out, PATH_BYTES, "%s/%s", folder, name) < PATH_BYTES);
}

static void make_folder(const char *root, const char *name)
{
    char path[PATH_BYTES];
    path_in(path, root, name);
    CU_ASSERT_EQUAL_FATAL(mkdir(path, 0777), 0);
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[PATH_BYTES];
    path_in(path, folder, name);
    FILE *f = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, size, f), size);
    CU_ASSERT_EQUAL(fclose(f), 0);
}

typedef struct byte_buffer {
    uint8_t bytes[1 << 16];
    size_t size;
} byte_buffer;

static void append(byte_buffer *out, const void *bytes, size_t size)
{
    CU_ASSERT_FATAL(out->size + size <= sizeof out->bytes);
    memcpy(out->bytes + out->size, bytes, size);
    out->size += size;
}

static void append_be32(byte_buffer *out, uint32_t v)
{
    uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    append(out, b, 4);
}

static void append_png_chunk(byte_buffer *out, const char *type, const void *data, size_t size)
{
    append_be32(out, (uint32_t)size);
    append(out, type, 4);
    append(out, data, size);
    append_be32(out, (uint32_t)crc32(crc32(0, (const Bytef *)type, 4), data, (uInt)size));
}

/* 8-bit RGB, no filters. */
static void encode_png(byte_buffer *out, const uint8_t *pixels, int height, int width)
{
    static uint8_t rows[64 * (1 + 64 * 3)], packed[1 << 15];
    uint8_t header[13] = {0, 0, 0, (uint8_t)width, 0, 0, 0, (uint8_t)height, 8, 2, 0, 0, 0};
    size_t row = (size_t)width * 3;
    for (int y = 0; y < height; y++) {
        rows[(size_t)y * (row + 1)] = 0;
        memcpy(rows + (size_t)y * (row + 1) + 1, pixels + (size_t)y * row, row);
    }
    uLongf size = sizeof packed;
    CU_ASSERT_EQUAL_FATAL(compress(packed, &size, rows, (uLong)((size_t)height * (row + 1))), Z_OK);
    append(out, "\x89PNG\r\n\x1a\n", 8);
    append_png_chunk(out, "IHDR", header, sizeof header);
    append_png_chunk(out, "IDAT", packed, size);
    append_png_chunk(out, "IEND", "", 0);
}

static void encode_bmp(byte_buffer *out, const uint8_t *pixels, int height, int width)
{
    uint8_t header[54] = {'B', 'M'};
    oct_store_le32(header + 10, 54);
    oct_store_le32(header + 14, 40);
    oct_store_le32(header + 18, (uint32_t)width);
    oct_store_le32(header + 22, 0u - (uint32_t)height); /* negative: from the top */
    oct_store_le32(header + 26, 1 | 24 << 16);
    append(out, header, sizeof header);
    for (int i = 0; i < height * width; i++, pixels += 3) {
        uint8_t bgr[3] = {pixels[2], pixels[1], pixels[0]};
        append(out, bgr, 3); /* width is a multiple of 4: no padding */
    }
}

static void put_bits(byte_buffer *out, uint32_t *bits, int *count, uint32_t value, int n)
{
    for (int i = n - 1; i >= 0; i--) {
        *bits = *bits << 1 | (value >> i & 1);
        if (++*count < 8) continue;
        uint8_t byte = (uint8_t)*bits;
        append(out, &byte, 1);
        if (byte == 0xff) append(out, "", 1);
        *bits = 0;
        *count = 0;
    }
}

/* Grey baseline JPEG whose 8 x 8 blocks are constant: with a DC quantizer of 8 the coefficient of a block is
 * its level - 128. DC code: the number of bits in 4 bits; AC code: a 0 for "no more coefficients". */
static void encode_jpeg(byte_buffer *out, const uint8_t *pixels, int height, int width)
{
    static const uint8_t dc_table[] = {0xff, 0xc4, 0, 28, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0,
                                       0,    0,    0, 0,  0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t ac_table[] = {0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0,
                                       0,    0,    0, 0,  0,    0, 0, 0, 0, 0, 0};
    static const uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0};
    uint8_t frame[] = {0xff, 0xc0, 0, 11, 8, 0, (uint8_t)height, 0, (uint8_t)width, 1, 1, 0x11, 0};
    uint8_t quantizer[69] = {0xff, 0xdb, 0, 67, 0};
    memset(quantizer + 5, 8, 64);
    append(out, "\xff\xd8", 2);
    append(out, quantizer, sizeof quantizer);
    append(out, frame, sizeof frame);
    append(out, dc_table, sizeof dc_table);
    append(out, ac_table, sizeof ac_table);
    append(out, scan, sizeof scan);
    uint32_t bits = 0;
    int count = 0, last = 0;
    for (int y = 0; y < height; y += 8) {
        for (int x = 0; x < width; x += 8) {
            int level = pixels[(y * width + x) * 3] - 128, change = level - last, size = 0;
            while (abs(change) >> size) size++;
            put_bits(out, &bits, &count, (uint32_t)size, 4);
            put_bits(out, &bits, &count, (uint32_t)(change < 0 ? change + (1 << size) - 1 : change), size);
            put_bits(out, &bits, &count, 0, 1);
            last = level;
        }
    }
    while (count) put_bits(out, &bits, &count, 1, 1);
    append(out, "\xff\xd9", 2);
}

static void write_png(const char *folder, const char *name, int height, int width, uint8_t level)
{
    static byte_buffer file;
    static uint8_t pixels[64 * 64 * 3];
    memset(pixels, level, sizeof pixels);
    file.size = 0;
    encode_png(&file, pixels, height, width);
    write_file(folder, name, file.bytes, file.size);
}

/* Grey level of the test image at (y, x): constant on blocks of 8 x 8. */
static uint8_t test_level(int y, int x)
{
    return (uint8_t)(y / 8 * 83 + x / 8 * 41);
}

/* 24 x 40 pixels. Kind 0 JPEG, 1 PNG, 2 BMP. */
static void encode(byte_buffer *out, int kind)
{
    static uint8_t pixels[24 * 40 * 3];
    for (int i = 0; i < 24 * 40 * 3; i++) pixels[i] = test_level(i / 120, i / 3 % 40);
    out->size = 0;
    if (kind == 0)
        encode_jpeg(out, pixels, 24, 40);
    else if (kind == 1)
        encode_png(out, pixels, 24, 40);
    else
        encode_bmp(out, pixels, 24, 40);
}

static void decode_each_kind_gives_the_image(void)
{
    static byte_buffer file;
    oct_image image = {0};
    oct_error error = {0};
    for (int kind = 0; kind < 3; kind++) {
        encode(&file, kind);
        CU_ASSERT_TRUE(
            test_is_ok(&error, oct_image_decode(&image, file.bytes, file.size, 3, 0, "x", &error), "decode"));
        CU_ASSERT_TRUE(image.height == 24 && image.width == 40 && image.channels == 3);
        for (int i = 0; i < 24 * 40 * 3; i++)
            CU_ASSERT_EQUAL_FATAL(image.pixels[i], test_level(i / 120, i / 3 % 40));
        CU_ASSERT_EQUAL(oct_image_decode(&image, file.bytes, file.size, 1, 0, "x", NULL), OCT_OK);
        CU_ASSERT_EQUAL(image.channels, 1);
        CU_ASSERT_EQUAL(oct_image_decode(&image, file.bytes, file.size, 2, 0, "x", NULL), OCT_ERR_ARGUMENT);
        CU_ASSERT_EQUAL(oct_image_decode(&image, file.bytes, file.size, 3, 959, "x", &error), OCT_ERR_FORMAT);
        CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "40 x 24"));
        oct_error_clear(&error);
    }
    oct_image_release(&image);
}

static void decode_truncated_anywhere_is_refused(void)
{
    static byte_buffer file;
    oct_image image = {0};
    for (int kind = 0; kind < 3; kind++) {
        encode(&file, kind);
        /* A PNG without the checksum of its empty last chunk is complete as far as anybody looks. */
        size_t end = kind == 1 ? file.size - 4 : file.size;
        for (size_t size = 0; size < end; size += size < 700 ? 1 : 37) {
            uint8_t *exact = malloc(size ? size : 1); /* its own block, so that reading on is seen */
            CU_ASSERT_PTR_NOT_NULL_FATAL(exact);
            memcpy(exact, file.bytes, size);
            CU_ASSERT_EQUAL(oct_image_decode(&image, exact, size, 3, 0, "x", NULL), OCT_ERR_FORMAT);
            free(exact);
        }
    }
    oct_image_release(&image);
}

static void decode_jpeg_with_thumbnail_or_trailing_bytes_is_judged_by_its_own_end(void)
{
    static byte_buffer file;
    static uint8_t with[1 << 17];
    static const uint8_t thumbnail[] = {0xff, 0xe1, 0, 8, 'E', 0xff, 0xd8, 0xff, 0xd9, 0};
    oct_image image = {0};
    oct_error error = {0};
    encode(&file, 0);
    memcpy(with, file.bytes, 2);
    memcpy(with + 2, thumbnail, sizeof thumbnail);
    memcpy(with + 2 + sizeof thumbnail, file.bytes + 2, file.size - 2);
    size_t size = file.size + sizeof thumbnail;
    CU_ASSERT_EQUAL(oct_image_decode(&image, with, size, 3, 0, "x", NULL), OCT_OK);
    CU_ASSERT_EQUAL(oct_image_decode(&image, with, size - 9, 3, 0, "cut.jpg", &error), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "cut.jpg: truncated JPEG"));
    memset(with + size, 0, 100);
    CU_ASSERT_EQUAL(oct_image_decode(&image, with, size + 100, 3, 0, "x", NULL), OCT_OK);
    oct_image_release(&image);
}

static void decode_jpeg_with_impossible_tables_is_refused(void)
{
    static byte_buffer file;
    static uint8_t bad[1 << 16];
    oct_image image = {0};
    oct_error error = {0};
    encode(&file, 0);
    size_t size = 2 + 4 + 17 + 16 * 17;
    memset(bad, 0, sizeof bad);
    memcpy(bad, "\xff\xd8\xff\xc4", 4);
    bad[4] = (uint8_t)((size - 4) >> 8);
    bad[5] = (uint8_t)(size - 4);
    memset(bad + 7, 17, 16); /* 272 codes: the decoder's tables hold 256 */
    memcpy(bad + size, file.bytes + 2, file.size - 2);
    CU_ASSERT_EQUAL(oct_image_decode(&image, bad, size + file.size - 2, 3, 0, "x", &error), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "impossible Huffman table"));
    /* The tables in file.bytes begin with FF C4; as comments (FF FE) they define nothing. */
    for (size_t i = 0; i + 1 < file.size; i++)
        if (file.bytes[i] == 0xff && file.bytes[i + 1] == 0xc4) file.bytes[i + 1] = 0xfe;
    oct_error_clear(&error);
    CU_ASSERT_EQUAL(oct_image_decode(&image, file.bytes, file.size, 3, 0, "x", &error), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "not defined"));
    oct_image_release(&image);
}

/* Some photograph, when there is one: its Huffman tables and coefficients are richer than ours. */
static bool read_real_jpeg(byte_buffer *file)
{
    const char *path = test_data_path("cifar10/test/cat");
    oct_ctx *ctx = test_ctx();
    oct_dataset *set;
    oct_status status = OCT_ERR_IO;
    char name[PATH_BYTES];
    if (path && oct_dataset_open(&set, ctx, test_data_path("cifar10"), NULL) == OCT_OK) {
        uint8_t *bytes;
        oct_dataset_sample_name(set, OCT_SPLIT_TEST, 0, name, sizeof name);
        status = oct_file_read(&bytes, &file->size, name, sizeof file->bytes, NULL);
        if (status == OCT_OK) memcpy(file->bytes, bytes, file->size);
        oct_free(bytes);
        oct_dataset_close(set);
    }
    oct_ctx_destroy(ctx);
    return status == OCT_OK;
}

static void decode_garbage_never_crashes(void)
{
    static byte_buffer file;
    oct_image image = {0};
    uint32_t state = 1;
    for (int kind = 0; kind < 4; kind++) {
        if (kind == 3 && !read_real_jpeg(&file)) break;
        if (kind < 3) encode(&file, kind);
        for (int round = 0; round < 300; round++) {
            static byte_buffer bad;
            bad = file;
            for (int i = 0; i < 4; i++) {
                state = state * 1664525u + 1013904223u;
                bad.bytes[(state >> 8) % bad.size] = (uint8_t)state;
            }
            oct_status status = oct_image_decode(&image, bad.bytes, bad.size, 3, 1 << 20, "x", NULL);
            CU_ASSERT_TRUE(status == OCT_OK || status == OCT_ERR_FORMAT);
        }
    }
    static const char text[] = "This is no image.\n";
    oct_error error = {0};
    CU_ASSERT_EQUAL(oct_image_decode(&image, (const uint8_t *)text, sizeof text, 3, 0, "notes.jpg", &error),
                    OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(error.message, "notes.jpg: neither JPEG"));
    oct_image_release(&image);
}

/* The opening must fail with this status and a message that holds `text`. */
static void expect_refused(const char *path, const oct_dataset_options *options, oct_status status,
                           const char *text)
{
    oct_ctx *ctx = test_ctx();
    oct_dataset *dataset;
    CU_ASSERT_EQUAL(oct_dataset_open(&dataset, ctx, path, options), status);
    CU_ASSERT_PTR_NULL(dataset);
    if (!strstr(ctx->error.message, text))
        printf("    expected \"%s\" in \"%s\"\n", text, ctx->error.message);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, text));
    oct_dataset_close(dataset);
    oct_ctx_destroy(ctx);
}

static oct_dataset *open_set(oct_ctx *ctx, const char *path, const oct_dataset_options *options)
{
    oct_dataset *dataset;
    oct_status status = oct_dataset_open(&dataset, ctx, path, options);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&ctx->error, status, "oct_dataset_open"));
    return dataset;
}

static const char *split_folder(void)
{
    const char *root = test_folder();
    static const char *const folders[] = {"train", "train/b", "train/a", "train/.hidden",
                                          "test",  "test/a",  "test/b"};
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) make_folder(root, folders[i]);
    write_png(root, "train/a/2.png", 5, 4, 10);
    write_png(root, "train/a/10.PNG", 5, 4, 20);
    write_png(root, "train/b/x.jpeg", 6, 6, 30); /* a PNG: content decides */
    write_file(root, "train/b/notes.txt", "x", 1);
    write_file(root, "train/b/.x.png", "x", 1);
    write_png(root, "test/a/t.png", 5, 4, 40);
    write_png(root, "test/b/t.png", 5, 4, 50);
    return root;
}

static void folder_splits_are_sorted_and_decoded(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = split_folder();
    oct_dataset *set = open_set(ctx, root, NULL);
    CU_ASSERT_EQUAL(oct_dataset_get_kind(set), OCT_DATASET_FOLDER);
    CU_ASSERT_EQUAL(oct_dataset_class_count(set), 2);
    CU_ASSERT_STRING_EQUAL(oct_dataset_class_name(set, 0), "a");
    CU_ASSERT_STRING_EQUAL(oct_dataset_class_name(set, 1), "b");
    CU_ASSERT_PTR_NULL(oct_dataset_class_name(set, 2));
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TRAIN), 3);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_VALIDATION), 0);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TEST), 2);
    CU_ASSERT_EQUAL(oct_dataset_channels(set), 3);
    CU_ASSERT_EQUAL(oct_dataset_height(set), 0);
    static const uint8_t levels[3] = {20, 10, 30}; /* "10.PNG" < "2.png" */
    static const int32_t labels[3] = {0, 0, 1};
    oct_image image = {0};
    char name[PATH_BYTES], expected[PATH_BYTES];
    for (int i = 0; i < 3; i++) {
        ASSERT_OK(ctx, oct_dataset_read(set, OCT_SPLIT_TRAIN, i, &image, &ctx->error));
        CU_ASSERT_EQUAL(image.pixels[0], levels[i]);
        CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, i), labels[i]);
    }
    CU_ASSERT_EQUAL(image.height, 6);
    oct_dataset_sample_name(set, OCT_SPLIT_TEST, 1, name, sizeof name);
    path_in(expected, root, "test/b/t.png");
    CU_ASSERT_STRING_EQUAL(name, expected);
    CU_ASSERT_EQUAL(oct_dataset_read(set, OCT_SPLIT_TEST, 2, &image, NULL), OCT_ERR_ARGUMENT);
    oct_image_release(&image);
    oct_dataset_close(set);
    set = open_set(ctx, root, &(oct_dataset_options){.channels = 1, .val_split = 0.4});
    CU_ASSERT_EQUAL(oct_dataset_channels(set), 1);
    int64_t held = oct_dataset_count(set, OCT_SPLIT_VALIDATION);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TRAIN) + held, 3);
    CU_ASSERT_TRUE(held > 0);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void folder_one_is_split_by_fraction_and_seed(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = test_folder();
    make_folder(root, "cat");
    make_folder(root, "dog");
    char name[64], other[PATH_BYTES], sample[PATH_BYTES];
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "%s/%03d.jpg", i % 2 ? "dog" : "cat", i);
        write_file(root, name, "", 0); /* opening decodes nothing */
    }
    int64_t first_val = -1;
    for (uint64_t seed = 0; seed < 3; seed++) {
        oct_dataset *a = open_set(ctx, root, &(oct_dataset_options){.seed = seed});
        oct_dataset *b = open_set(ctx, root, &(oct_dataset_options){.seed = seed, .val_split = 0.1});
        int64_t val = oct_dataset_count(a, OCT_SPLIT_VALIDATION);
        CU_ASSERT_TRUE(val > 8 && val < 40);
        CU_ASSERT_EQUAL(oct_dataset_count(a, OCT_SPLIT_TRAIN) + val, 200);
        CU_ASSERT_EQUAL(oct_dataset_count(b, OCT_SPLIT_VALIDATION), val);
        oct_dataset_sample_name(a, OCT_SPLIT_VALIDATION, 0, sample, sizeof sample);
        oct_dataset_sample_name(b, OCT_SPLIT_VALIDATION, 0, other, sizeof other);
        CU_ASSERT_STRING_EQUAL(sample, other);
        for (int64_t i = 0; i < oct_dataset_count(a, OCT_SPLIT_TRAIN); i++) {
            oct_dataset_sample_name(a, OCT_SPLIT_TRAIN, i, other, sizeof other);
            CU_ASSERT_TRUE(strcmp(sample, other) != 0);
            CU_ASSERT_EQUAL(oct_dataset_label(a, OCT_SPLIT_TRAIN, i), strstr(other, "/dog/") != NULL);
        }
        if (seed) CU_ASSERT_TRUE(val != first_val || seed == 2); /* some seed gives another split */
        first_val = val;
        oct_dataset_close(a);
        oct_dataset_close(b);
    }
    oct_dataset *whole = open_set(ctx, root, &(oct_dataset_options){.val_split = -1});
    CU_ASSERT_EQUAL(oct_dataset_count(whole, OCT_SPLIT_TRAIN), 200);
    CU_ASSERT_EQUAL(oct_dataset_count(whole, OCT_SPLIT_VALIDATION), 0);
    oct_dataset_close(whole);
    oct_ctx_destroy(ctx);
}

static void folder_bad_ones_are_refused_with_reasons(void)
{
    const char *root = test_folder();
    expect_refused(root, NULL, OCT_ERR_FORMAT, "looked for train-images-idx3-ubyte");
    write_file(root, "loose.jpg", "x", 1);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "looked for");
    make_folder(root, "a");
    expect_refused(root, NULL, OCT_ERR_FORMAT, "empty class folder");
    write_file(root, "a/readme.md", "x", 1);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "empty class folder");
    make_folder(root, "train");
    expect_refused(root, NULL, OCT_ERR_FORMAT, "no images");
    const char *good = split_folder();
    make_folder(good, "test/zebra");
    write_png(good, "test/zebra/1.png", 4, 4, 1);
    expect_refused(good, NULL, OCT_ERR_FORMAT, "\"zebra\" is not among the 2 classes");
    expect_refused("/nonexistent/data", NULL, OCT_ERR_IO, "/nonexistent/data: cannot open");
    char file[PATH_BYTES];
    path_in(file, root, "loose.jpg");
    expect_refused(file, NULL, OCT_ERR_FORMAT, "expected an HDF5 file or a folder");
    expect_refused(good, &(oct_dataset_options){.kind = OCT_DATASET_IDX}, OCT_ERR_FORMAT, "no IDX set");
    expect_refused(good, &(oct_dataset_options){.kind = OCT_DATASET_CIFAR}, OCT_ERR_FORMAT, "no CIFAR set");
    expect_refused(good, &(oct_dataset_options){.kind = OCT_DATASET_HDF5}, OCT_ERR_FORMAT, "is a file");
    expect_refused(good, &(oct_dataset_options){.val_split = 1.0}, OCT_ERR_ARGUMENT, "below 1");
    expect_refused(good, &(oct_dataset_options){.channels = 2}, OCT_ERR_ARGUMENT, "channels");
}

static void folder_test_alone_is_opened(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = test_folder();
    make_folder(root, "test");
    make_folder(root, "test/a");
    write_png(root, "test/a/1.png", 4, 4, 1);
    oct_dataset *set = open_set(ctx, root, NULL);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TRAIN), 0);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TEST), 1);
    CU_ASSERT_EQUAL(oct_dataset_class_count(set), 1);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void folder_cifar10_is_found_whole(void)
{
    const char *path = test_data_path("cifar10");
    if (!path) SKIP("no cifar10 folder under OCTET_DATA");
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, path, NULL);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TRAIN), 50000);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TEST), 10000);
    CU_ASSERT_EQUAL(oct_dataset_class_count(set), 10);
    CU_ASSERT_STRING_EQUAL(oct_dataset_class_name(set, 3), "cat");
    oct_image image = {0};
    for (int64_t i = 0; i < 50000; i += 4999) {
        ASSERT_OK(ctx, oct_dataset_read(set, OCT_SPLIT_TRAIN, i, &image, &ctx->error));
        CU_ASSERT_TRUE(image.height == 32 && image.width == 32 && image.channels == 3);
        CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, i), (int32_t)(i / 5000));
    }
    oct_image_release(&image);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

/* Images 0, 1, 2 of 2 x 2 pixels hold 4 i .. 4 i + 3, labels 0, 2, 1. */
static const uint8_t idx_images[16 + 12] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0,  2, /* magic, count, height */
                                            0, 0, 0, 2,                          /* width */
                                            0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const uint8_t idx_labels[8 + 3] = {0, 0, 8, 1, 0, 0, 0, 3, 0, 2, 1};

static void write_gz(const char *folder, const char *name, const void *bytes, unsigned size)
{
    char path[PATH_BYTES];
    path_in(path, folder, name);
    gzFile f = gzopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(gzwrite(f, bytes, size), (int)size);
    CU_ASSERT_EQUAL(gzclose(f), Z_OK);
}

static void idx_plain_and_gz_give_images_and_labels(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = test_folder();
    write_gz(root, "train-images-idx3-ubyte.gz", idx_images, sizeof idx_images);
    write_file(root, "train-labels.idx1-ubyte", idx_labels, sizeof idx_labels);
    oct_dataset *set = open_set(ctx, root, NULL);
    CU_ASSERT_EQUAL(oct_dataset_get_kind(set), OCT_DATASET_IDX);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TRAIN), 3);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TEST), 0);
    CU_ASSERT_EQUAL(oct_dataset_class_count(set), 3);
    CU_ASSERT_PTR_NULL(oct_dataset_class_name(set, 0));
    CU_ASSERT_TRUE(oct_dataset_height(set) == 2 && oct_dataset_width(set) == 2 &&
                   oct_dataset_channels(set) == 1);
    oct_image image = {0};
    ASSERT_OK(ctx, oct_dataset_read(set, OCT_SPLIT_TRAIN, 1, &image, &ctx->error));
    CU_ASSERT_EQUAL(memcmp(image.pixels, idx_images + 20, 4), 0);
    CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, 1), 2);
    char name[PATH_BYTES];
    oct_dataset_sample_name(set, OCT_SPLIT_TRAIN, 2, name, sizeof name);
    CU_ASSERT_PTR_NOT_NULL(strstr(name, ":train[2]"));
    oct_image_release(&image);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void idx_bad_files_are_refused_with_reasons(void)
{
    const char *root = test_folder();
    uint8_t bytes[64];
    write_file(root, "train-images-idx3-ubyte", idx_images, sizeof idx_images);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "no labels");
    write_file(root, "train-labels-idx1-ubyte", idx_images, sizeof idx_images);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "expected magic number 0x00000801, found 0x00000803");
    memcpy(bytes, idx_labels, sizeof idx_labels);
    bytes[7] = 2;
    write_file(root, "train-labels-idx1-ubyte", bytes, sizeof idx_labels - 1);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "has images (3), found 2");
    write_file(root, "train-labels-idx1-ubyte", idx_labels, sizeof idx_labels - 1);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "expected 3 bytes, found 2");
    write_file(root, "train-labels-idx1-ubyte", idx_labels, sizeof idx_labels);
    write_file(root, "train-images-idx3-ubyte", idx_images, sizeof idx_images - 1);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "expected 12 bytes, found 11");
    memcpy(bytes, idx_images, sizeof idx_images);
    bytes[sizeof idx_images] = 0;
    write_file(root, "train-images-idx3-ubyte", bytes, sizeof idx_images + 1);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "more bytes than its header promises");
    bytes[4] = 0x0f; /* 251 658 243 images */
    write_file(root, "train-images-idx3-ubyte", bytes, sizeof idx_images);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "can hold");
    bytes[4] = 0xff;
    write_file(root, "train-images-idx3-ubyte", bytes, sizeof idx_images);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "dimension 0");
    write_file(root, "train-images-idx3-ubyte", bytes, 9);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "expected 16 bytes, found 9");
}

/* Cuts `name` by `bytes` at its end. */
static void shorten(const char *folder, const char *name, long bytes)
{
    char path[PATH_BYTES];
    struct stat st;
    path_in(path, folder, name);
    CU_ASSERT_EQUAL_FATAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL_FATAL(truncate(path, st.st_size - bytes), 0);
}

static void idx_damaged_gz_is_refused(void)
{
    const char *root = test_folder();
    static uint8_t big[16 + 3 * 50 * 50] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 50, 0, 0, 0, 50};
    for (size_t i = 16; i < sizeof big; i++)
        big[i] = (uint8_t)((uint32_t)i * 2654435761u >> 13 ^ (i * i >> 5));
    write_file(root, "train-labels-idx1-ubyte", idx_labels, sizeof idx_labels);
    static const long cuts[] = {4, 9, 500, 2000};
    for (int i = 0; i < 4; i++) {
        write_gz(root, "train-images-idx3-ubyte.gz", big, sizeof big);
        shorten(root, "train-images-idx3-ubyte.gz", cuts[i]);
        expect_refused(root, NULL, OCT_ERR_FORMAT, "train-images-idx3-ubyte.gz");
    }
}

static void idx_test_labels_beyond_the_classes_are_refused(void)
{
    const char *root = test_folder();
    uint8_t labels[sizeof idx_labels];
    memcpy(labels, idx_labels, sizeof labels);
    labels[9] = 7;
    write_file(root, "train-images-idx3-ubyte", idx_images, sizeof idx_images);
    write_file(root, "train-labels-idx1-ubyte", idx_labels, sizeof idx_labels);
    write_file(root, "t10k-images-idx3-ubyte", idx_images, sizeof idx_images);
    write_file(root, "t10k-labels-idx1-ubyte", labels, sizeof labels);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "label of test image 1: expected 0..2, found 7");
}

static void idx_fashion_mnist_is_read(void)
{
    const char *path = test_fashion_mnist();
    if (!path) SKIP("no Fashion-MNIST (package dataset-fashion-mnist)");
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, path, &(oct_dataset_options){.val_split = 0.1, .seed = 1});
    int64_t train = oct_dataset_count(set, OCT_SPLIT_TRAIN);
    int64_t val = oct_dataset_count(set, OCT_SPLIT_VALIDATION);
    CU_ASSERT_TRUE(train + val == 60000 && val > 5700 && val < 6300);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TEST), 10000);
    CU_ASSERT_TRUE(oct_dataset_class_count(set) == 10 && oct_dataset_height(set) == 28);
    int counts[10] = {0};
    for (int64_t i = 0; i < 10000; i++) counts[oct_dataset_label(set, OCT_SPLIT_TEST, i)]++;
    for (int i = 0; i < 10; i++) CU_ASSERT_EQUAL(counts[i], 1000);
    double sum = 0;
    for (int64_t i = 0; i < 10000; i++) {
        oct_view view;
        CU_ASSERT_TRUE_FATAL(oct_dataset_peek(set, OCT_SPLIT_TEST, i, &view));
        for (int p = 0; p < 784; p++) sum += view.pixels[p];
    }
    double mean = sum / 7840000; /* 0.2868 * 255, computed with numpy */
    CU_ASSERT_TRUE(mean > 73.1 && mean < 73.2);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

/* `count` records whose pixel bytes name plane and position; labels 0, 1, 2, … */
static void write_cifar(const char *folder, const char *name, int count, size_t cut, int label_add)
{
    static uint8_t bytes[4 * 3073];
    for (int i = 0; i < count; i++) {
        uint8_t *record = bytes + i * 3073;
        record[0] = (uint8_t)(i + label_add);
        for (int c = 0; c < 3; c++)
            for (int p = 0; p < 1024; p++)
                record[1 + c * 1024 + p] = (uint8_t)(p / 32 * 3 + p % 32 + c * 80 + i);
    }
    write_file(folder, name, bytes, (size_t)count * 3073 - cut);
}

static void cifar_planes_become_interleaved(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = test_folder();
    write_cifar(root, "data_batch_2.bin", 2, 0, 4);
    write_cifar(root, "data_batch_1.bin", 3, 0, 0);
    write_cifar(root, "test_batch.bin", 1, 0, 9);
    oct_dataset *set = open_set(ctx, root, NULL);
    CU_ASSERT_EQUAL(oct_dataset_get_kind(set), OCT_DATASET_CIFAR);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TRAIN), 5);
    CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, 2), 2);
    CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, 4), 5);
    CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TEST, 0), 9);
    CU_ASSERT_PTR_NULL(oct_dataset_class_name(set, 0));
    oct_image image = {0};
    ASSERT_OK(ctx, oct_dataset_read(set, OCT_SPLIT_TRAIN, 4, &image, &ctx->error));
    for (int p = 0; p < 1024; p++)
        for (int c = 0; c < 3; c++)
            CU_ASSERT_EQUAL(image.pixels[p * 3 + c], (uint8_t)(p / 32 * 3 + p % 32 + c * 80 + 1));
    oct_image_release(&image);
    oct_dataset_close(set);
    static const char names[] = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    write_file(root, "batches.meta.txt", names, sizeof names - 1);
    set = open_set(ctx, root, NULL);
    CU_ASSERT_STRING_EQUAL(oct_dataset_class_name(set, 9), "truck");
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void cifar_bad_files_are_refused_with_reasons(void)
{
    const char *root = test_folder();
    write_cifar(root, "data_batch_1.bin", 2, 1, 0);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "multiple of 3073 bytes (records), found 6145");
    write_cifar(root, "data_batch_1.bin", 3, 0, 8);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "label of record 2: expected 0..9, found 10");
    write_file(root, "data_batch_1.bin", "", 0);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "found 0 bytes");
    write_cifar(root, "data_batch_1.bin", 2, 0, 0);
    write_file(root, "batches.meta.txt", "one\ntwo\n", 8);
    expect_refused(root, NULL, OCT_ERR_FORMAT, "expected 10 class names, found 2");
}

/* More than one of the reader's blocks of 4 MiB. */
enum { H5_COUNT = 500, H5_SIDE = 60 };

static void write_h5(hid_t file, const char *name, hid_t type, int rank, const hsize_t *sizes,
                     const void *data)
{
    hid_t space = H5Screate_simple(rank, sizes, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    CU_ASSERT_TRUE_FATAL(set >= 0);
    if (data) CU_ASSERT_TRUE_FATAL(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

static uint8_t h5_pixel(int image, int at)
{
    return (uint8_t)(image * 31 + at * 7);
}

/* A file of H5_COUNT RGB images with labels 0..3 in turn; images_rank 3 leaves the channels out. */
static void make_h5(char path[PATH_BYTES], int images_rank, hsize_t labels, int64_t label_add, int names)
{
    static uint8_t pixels[H5_COUNT * H5_SIDE * H5_SIDE * 3];
    static int64_t values[H5_COUNT];
    int per = H5_SIDE * H5_SIDE * (images_rank == 3 ? 1 : 3);
    for (int i = 0; i < H5_COUNT; i++) {
        for (int p = 0; p < per; p++) pixels[i * per + p] = h5_pixel(i, p);
        values[i] = i % 4 + label_add;
    }
    path_in(path, test_folder(), "set.h5");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hsize_t sizes[4] = {H5_COUNT, H5_SIDE, H5_SIDE, 3}, ten[4] = {10, H5_SIDE, H5_SIDE, 3};
    write_h5(file, "images", H5T_NATIVE_UINT8, images_rank, sizes, pixels);
    if (labels) write_h5(file, "labels", H5T_NATIVE_INT64, 1, &labels, values);
    write_h5(file, "test_images", H5T_NATIVE_UINT8, images_rank, ten, pixels);
    write_h5(file, "test_labels", H5T_NATIVE_INT64, 1, ten, values);
    if (names) {
        hid_t type = H5Tcopy(H5T_C_S1);
        hsize_t four = 4;
        const char *const variable[4] = {"zero", "one", "two", "three"};
        static const char fixed[4][5] = {"zero", "one", "two", "three"}; /* the last one without a NUL */
        H5Tset_size(type, names == 1 ? H5T_VARIABLE : 5);
        write_h5(file, "class_names", type, 1, &four,
                 names == 1 ? (const void *)variable : (const void *)fixed);
        H5Tclose(type);
    }
    H5Fclose(file);
}

static void hdf5_reads_are_right_in_any_order(void)
{
    oct_ctx *ctx = test_ctx();
    char path[PATH_BYTES];
    for (int rank = 3; rank <= 4; rank++) {
        make_h5(path, rank, H5_COUNT, 0, rank - 2);
        oct_dataset *set = open_set(ctx, path, NULL);
        int per = H5_SIDE * H5_SIDE * (rank == 3 ? 1 : 3);
        CU_ASSERT_EQUAL(oct_dataset_get_kind(set), OCT_DATASET_HDF5);
        CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TRAIN), H5_COUNT);
        CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TEST), 10);
        CU_ASSERT_EQUAL(oct_dataset_channels(set), rank == 3 ? 1 : 3);
        CU_ASSERT_STRING_EQUAL(oct_dataset_class_name(set, 3), "three");
        oct_image image = {0};
        for (int i = 0; i < 3 * H5_COUNT; i++) {
            int index = i < H5_COUNT ? i : (i * 197 + i / 7) % H5_COUNT;
            oct_split split = i % 11 == 10 ? OCT_SPLIT_TEST : OCT_SPLIT_TRAIN;
            if (split == OCT_SPLIT_TEST) index %= 10;
            REQUIRE_OK(ctx, oct_dataset_read(set, split, index, &image, &ctx->error));
            for (int p = 0; p < per; p += 37) CU_ASSERT_EQUAL_FATAL(image.pixels[p], h5_pixel(index, p));
            CU_ASSERT_EQUAL(oct_dataset_label(set, split, index), index % 4);
        }
        oct_image_release(&image);
        oct_dataset_close(set);
    }
    oct_ctx_destroy(ctx);
}

static void hdf5_bad_files_are_refused_silently_with_reasons(void)
{
    char path[PATH_BYTES];
    make_h5(path, 4, H5_COUNT - 1, 0, 0);
    expect_refused(path, NULL, OCT_ERR_FORMAT, "has images (500), found 499");
    make_h5(path, 4, 0, 0, 0);
    expect_refused(path, NULL, OCT_ERR_FORMAT, "\"labels\": missing");
    make_h5(path, 4, H5_COUNT, 1, 1);
    expect_refused(path, NULL, OCT_ERR_FORMAT, "expected 0..3, found 4");
    make_h5(path, 4, H5_COUNT, -1, 0);
    expect_refused(path, NULL, OCT_ERR_FORMAT, "found -1");
    make_h5(path, 4, H5_COUNT, (int64_t)1 << 40, 0);
    expect_refused(path, NULL, OCT_ERR_FORMAT, "label of train image 0");
    make_h5(path, 4, H5_COUNT, 0, 0);
    struct stat st;
    CU_ASSERT_EQUAL(stat(path, &st), 0);
    CU_ASSERT_EQUAL(truncate(path, st.st_size / 2), 0);
    expect_refused(path, NULL, OCT_ERR_FORMAT, "truncated");
    make_h5(path, 4, H5_COUNT, 0, 0);
    expect_refused(path, &(oct_dataset_options){.max_image_pixels = 3599}, OCT_ERR_FORMAT,
                   "at most 3599 pixels");

    path_in(path, test_folder(), "other.h5");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    expect_refused(path, NULL, OCT_ERR_FORMAT, "found neither");
    file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hsize_t sizes[5] = {2, 2, 2, 2, 2};
    write_h5(file, "images", H5T_NATIVE_FLOAT, 3, sizes, NULL);
    write_h5(file, "labels", H5T_NATIVE_INT, 1, sizes, NULL);
    H5Fclose(file);
    expect_refused(path, NULL, OCT_ERR_FORMAT, "unsigned 8-bit");
    file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    write_h5(file, "images", H5T_NATIVE_UINT8, 5, sizes, NULL);
    write_h5(file, "labels", H5T_NATIVE_INT, 1, sizes, NULL);
    H5Fclose(file);
    expect_refused(path, NULL, OCT_ERR_FORMAT, "3 dimensions N,H,W or 4");
}

static void open_with_failing_allocations_is_clean(void)
{
    char h5[PATH_BYTES], idx[PATH_BYTES], cifar[PATH_BYTES], folder[PATH_BYTES];
    make_h5(h5, 4, H5_COUNT, 0, 1);
    snprintf(idx, sizeof idx, "%s", test_folder());
    write_file(idx, "train-images-idx3-ubyte", idx_images, sizeof idx_images);
    write_file(idx, "train-labels-idx1-ubyte", idx_labels, sizeof idx_labels);
    snprintf(cifar, sizeof cifar, "%s", test_folder());
    write_cifar(cifar, "data_batch_1.bin", 3, 0, 0);
    snprintf(folder, sizeof folder, "%s", split_folder());
    const struct {
        const char *path;
        oct_dataset_kind kind;
    } sets[] = {{h5, OCT_DATASET_HDF5},
                {idx, OCT_DATASET_IDX},
                {cifar, OCT_DATASET_CIFAR},
                {folder, OCT_DATASET_FOLDER}};
    oct_ctx *ctx = test_ctx();
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        oct_dataset_options options = {.kind = sets[i].kind, .val_split = 0.3};
        oct_status status = OCT_ERR_MEMORY;
        for (long n = 1; status != OCT_OK && n < 200; n++) {
            oct_dataset *set;
            oct_error_clear(&ctx->error);
            oct_alloc_fail_after(n);
            status = oct_dataset_open(&set, ctx, sets[i].path, &options);
            oct_alloc_fail_after(0);
            CU_ASSERT_TRUE((set != NULL) == (status == OCT_OK));
            oct_dataset_close(set);
        }
        CU_ASSERT_EQUAL(status, OCT_OK);
    }
    oct_ctx_destroy(ctx);
}

static void kind_names_round_trip(void)
{
    oct_dataset_kind kind;
    for (int i = 0; i < 6; i++) {
        CU_ASSERT_EQUAL(oct_dataset_kind_parse(&kind, oct_dataset_kind_name((oct_dataset_kind)i), NULL),
                        OCT_OK);
        CU_ASSERT_EQUAL(kind, (oct_dataset_kind)i);
    }
    CU_ASSERT_EQUAL(oct_dataset_kind_parse(&kind, "lmdb", NULL), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(oct_dataset_kind_name((oct_dataset_kind)6));
}

#define CASE(f) {#f, f}
static const test_case cases[] = {
    CASE(decode_each_kind_gives_the_image),
    CASE(decode_truncated_anywhere_is_refused),
    CASE(decode_jpeg_with_thumbnail_or_trailing_bytes_is_judged_by_its_own_end),
    CASE(decode_jpeg_with_impossible_tables_is_refused),
    CASE(decode_garbage_never_crashes),
    CASE(folder_splits_are_sorted_and_decoded),
    CASE(folder_one_is_split_by_fraction_and_seed),
    CASE(folder_bad_ones_are_refused_with_reasons),
    CASE(folder_test_alone_is_opened),
    CASE(folder_cifar10_is_found_whole),
    CASE(idx_plain_and_gz_give_images_and_labels),
    CASE(idx_bad_files_are_refused_with_reasons),
    CASE(idx_damaged_gz_is_refused),
    CASE(idx_test_labels_beyond_the_classes_are_refused),
    CASE(idx_fashion_mnist_is_read),
    CASE(cifar_planes_become_interleaved),
    CASE(cifar_bad_files_are_refused_with_reasons),
    CASE(hdf5_reads_are_right_in_any_order),
    CASE(hdf5_bad_files_are_refused_silently_with_reasons),
    CASE(open_with_failing_allocations_is_clean),
    CASE(kind_names_round_trip),
};
TEST_SUITE("datasets", cases);
