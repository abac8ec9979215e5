/* SPDX-License-Identifier: BSD-2-Clause
 * Images by list: labels.txt, classes.txt, what is refused and where, halves, unreadable images. */
#include <stdlib.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "datasets/loader.h"
#include "tests/testing.h"
#include "tests/tiny_images.h"

enum { PATH_BYTES = 1024 };

static void write_text(const char *folder, const char *name, const char *text, size_t size)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fwrite(text, 1, size, file);
    CU_ASSERT_EQUAL(fclose(file), 0);
}

static void write_list(const char *folder, const char *text)
{
    write_text(folder, "labels.txt", text, strlen(text));
}

static void make_image(const char *folder, const char *name, int label, uint64_t sample)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CU_ASSERT_TRUE(tiny_bmp(path, label, sample));
}

static const char *subfolder(const char *folder, const char *name)
{
    static char path[PATH_BYTES / 2];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    mkdir(path, 0777);
    return path;
}

/* a/0.bmp, "a/with blank.bmp", 2.bmp */
static const char *image_folder(void)
{
    const char *root = test_folder();
    subfolder(root, "a");
    make_image(root, "a/0.bmp", 0, 0);
    make_image(root, "a/with blank.bmp", 1, 1);
    make_image(root, "2.bmp", 2, 2);
    return root;
}

static oct_dataset *open_set(oct_ctx *ctx, const char *path, oct_dataset_options options)
{
    oct_dataset *set;
    CU_ASSERT_TRUE_FATAL(test_is_ok(&ctx->error, oct_dataset_open(&set, ctx, path, &options), "open"));
    return set;
}

static void list_of_numbers_is_read_in_order_of_lines(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = image_folder();
    /* byte order mark, CRLF, tabs, empty lines, blanks at both ends and inside, no newline at the end */
    write_list(root, "\xef\xbb\xbf"
                     "2.bmp 7\r\n\n  a/with blank.bmp \t 0  \r\n   \na/0.bmp\t3");
    oct_dataset *set = open_set(ctx, root, (oct_dataset_options){0});
    CU_ASSERT_EQUAL(oct_dataset_get_kind(set), OCT_DATASET_LIST);
    CU_ASSERT_EQUAL(oct_dataset_class_count(set), 8);
    CU_ASSERT_PTR_NULL(oct_dataset_class_name(set, 0));
    CU_ASSERT_EQUAL_FATAL(oct_dataset_count(set, OCT_SPLIT_TRAIN), 3);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_VALIDATION), 0); /* a list says what it says */
    static const int32_t labels[3] = {7, 0, 3};
    static const int bands[3] = {2, 1, 0};
    oct_image image = {0};
    for (int i = 0; i < 3; i++) {
        CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, i), labels[i]);
        ASSERT_OK(ctx, oct_dataset_read(set, OCT_SPLIT_TRAIN, i, &image, &ctx->error));
        /* BMP rows are from the bottom */
        CU_ASSERT_TRUE(image.pixels[(TINY_SIDE - 1 - 2 * bands[i]) * TINY_SIDE * 3] >= 130);
    }
    char name[PATH_BYTES], expected[PATH_BYTES];
    oct_dataset_sample_name(set, OCT_SPLIT_TRAIN, 1, name, sizeof name);
    snprintf(expected, sizeof expected, "%s/a/with blank.bmp", root);
    CU_ASSERT_STRING_EQUAL(name, expected);
    oct_image_release(&image);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void list_of_names_makes_sorted_classes(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = image_folder();
    write_list(root, "2.bmp zebra\na/0.bmp ant\na/with blank.bmp zebra\n");
    oct_dataset *set = open_set(ctx, root, (oct_dataset_options){.channels = 1});
    CU_ASSERT_EQUAL(oct_dataset_class_count(set), 2);
    CU_ASSERT_EQUAL(oct_dataset_channels(set), 1);
    CU_ASSERT_STRING_EQUAL(oct_dataset_class_name(set, 0), "ant");
    CU_ASSERT_STRING_EQUAL(oct_dataset_class_name(set, 1), "zebra");
    CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, 0), 1);
    CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, 1), 0);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void list_with_classes_takes_names_and_numbers(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = image_folder();
    static const char names[] = "tench, tinca\nzebra\nant\n";
    write_text(root, "classes.txt", names, strlen(names));
    write_list(root, "2.bmp zebra\na/0.bmp 0\na/with blank.bmp ant\n");
    oct_dataset *set = open_set(ctx, root, (oct_dataset_options){0});
    static const int32_t labels[3] = {1, 0, 2};
    CU_ASSERT_EQUAL(oct_dataset_class_count(set), 3);
    CU_ASSERT_STRING_EQUAL(oct_dataset_class_name(set, 0), "tench, tinca");
    for (int i = 0; i < 3; i++) CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, i), labels[i]);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void list_splits_share_the_classes_of_training(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = test_folder();
    const char *train = subfolder(root, "train");
    make_image(train, "x.bmp", 0, 0);
    write_list(train, "x.bmp b\nx.bmp a\n");
    const char *val = subfolder(root, "val");
    make_image(val, "y.bmp", 1, 1);
    write_list(val, "y.bmp b\n");
    oct_dataset *set = open_set(ctx, root, (oct_dataset_options){0});
    CU_ASSERT_EQUAL(oct_dataset_get_kind(set), OCT_DATASET_LIST);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TRAIN), 2);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_VALIDATION), 1);
    CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_VALIDATION, 0), 1);
    char name[PATH_BYTES];
    oct_dataset_sample_name(set, OCT_SPLIT_VALIDATION, 0, name, sizeof name);
    CU_ASSERT_PTR_NOT_NULL(strstr(name, "/val/y.bmp"));
    oct_dataset_close(set);
    write_list(val, "y.bmp b\n\ny.bmp c\n");
    CU_ASSERT_EQUAL(oct_dataset_open(&set, ctx, root, NULL), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "val/labels.txt:3:"));
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "\"c\""));
    oct_ctx_destroy(ctx);
}

static void list_bad_ones_are_refused_with_line_and_reason(void)
{
    static const struct {
        const char *text, *reason;
    } bad[] = {
        {"2.bmp 0\nn01440764\n", "labels.txt:2: expected a path and a label, found \"n01440764\""},
        {"2.bmp 0\n\n2.bmp x\n", "labels.txt:3: expected a label 0..65535 (as in the first line), found \"x\""},
        {"2.bmp 0\n2.bmp -1\n", "labels.txt:2:"},
        {"2.bmp 0\n2.bmp 1.5\n", "labels.txt:2:"},
        {"2.bmp 65536\n", "labels.txt:1:"},
        {"2.bmp 99999999999999999999999\n", "labels.txt:1:"},
        {"/etc/passwd 0\n", "labels.txt:1: expected a path inside the folder"},
        {"2.bmp 0\n../2.bmp 0\n", "labels.txt:2: expected a path inside the folder"},
        {"a/../../2.bmp 0\n", "labels.txt:1: expected a path inside the folder"},
        {"a/.. 0\n", "labels.txt:1: expected a path inside the folder"},
        {"", "expected a path and a label a line, found none"},
        {"\n \r\n", "expected a path and a label a line, found none"},
    };
    oct_ctx *ctx = test_ctx();
    const char *root = image_folder();
    oct_dataset *set;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_list(root, bad[i].text);
        oct_error_clear(&ctx->error);
        CU_ASSERT_EQUAL(oct_dataset_open(&set, ctx, root, NULL), OCT_ERR_FORMAT);
        CU_ASSERT_PTR_NULL(set);
        bool told = strstr(ctx->error.message, bad[i].reason) != NULL;
        CU_ASSERT_TRUE(told);
        if (!told) printf("    expected: %s\n    found: %s\n", bad[i].reason, ctx->error.message);
    }
    /* Two dots that are no way up. */
    write_list(root, "a/..b 0\n..a/x 1\n2..bmp 2\n");
    oct_dataset_close(open_set(ctx, root, (oct_dataset_options){0}));
    write_text(root, "labels.txt", "2.bmp 0\na\0b 1\n", 14);
    oct_error_clear(&ctx->error);
    CU_ASSERT_EQUAL(oct_dataset_open(&set, ctx, root, NULL), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "labels.txt:2: expected text without NUL"));
    write_list(root, "2.bmp 3\n");
    write_text(root, "classes.txt", "a\nb\n", 4);
    oct_error_clear(&ctx->error);
    CU_ASSERT_EQUAL(oct_dataset_open(&set, ctx, root, NULL), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "label 0..1 or a name of classes.txt"));
    oct_error_clear(&ctx->error);
    CU_ASSERT_EQUAL(oct_dataset_open(&set, ctx, test_folder(), &(oct_dataset_options){.kind = OCT_DATASET_LIST}),
                    OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "no labels.txt"));
    oct_ctx_destroy(ctx);
}

static void list_garbage_never_crashes(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = image_folder();
    char text[96];
    static const char alphabet[] = "ab/.. \t\r\n019\"\xff";
    for (uint64_t i = 0; i < 2000; i++) {
        oct_rng rng = oct_rng_start(3, OCT_RNG_SYNTHETIC, 0, i);
        size_t size = oct_rng_below(&rng, sizeof text);
        for (size_t k = 0; k < size; k++) text[k] = alphabet[oct_rng_below(&rng, sizeof alphabet)];
        write_text(root, "labels.txt", text, size);
        oct_dataset *set;
        oct_error_clear(&ctx->error);
        if (oct_dataset_open(&set, ctx, root, NULL) == OCT_OK) CU_ASSERT_TRUE(oct_dataset_class_count(set) > 0);
        oct_dataset_close(set);
    }
    oct_ctx_destroy(ctx);
}

static void open_with_failing_allocations_is_clean(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = image_folder();
    write_list(root, "2.bmp b\na/0.bmp a\n");
    oct_status status = OCT_ERR_MEMORY;
    for (long n = 1; status != OCT_OK && n < 100; n++) {
        oct_dataset *set;
        oct_error_clear(&ctx->error);
        oct_alloc_fail_after(n);
        status = oct_dataset_open(&set, ctx, root,
                                  &(oct_dataset_options){.kind = OCT_DATASET_LIST, .subset = OCT_SUBSET_ODD});
        oct_alloc_fail_after(0);
        CU_ASSERT_TRUE((set != NULL) == (status == OCT_OK));
        oct_dataset_close(set);
    }
    CU_ASSERT_EQUAL(status, OCT_OK);
    oct_ctx_destroy(ctx);
}

static void subset_halves_share_nothing_and_miss_nothing(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = image_folder();
    write_list(root, "a 0\nb 1\nc 2\nd 3\ne 4\n");
    for (int held = 0; held < 2; held++) {
        int seen[5] = {0};
        for (int s = 1; s <= 2; s++) {
            oct_dataset *set = open_set(
                ctx, root, (oct_dataset_options){.subset = (oct_subset)s, .val_split = held ? 0.4 : 0, .seed = 3});
            for (int split = 0; split < 2; split++)
                for (int64_t i = 0; i < oct_dataset_count(set, (oct_split)split); i++) {
                    int label = oct_dataset_label(set, (oct_split)split, i);
                    CU_ASSERT_EQUAL(label % 2, s - 1);
                    seen[label]++;
                }
            CU_ASSERT_EQUAL(oct_dataset_class_count(set), 5);
            oct_dataset_close(set);
        }
        for (int i = 0; i < 5; i++) CU_ASSERT_EQUAL(seen[i], 1);
    }
    oct_subset subset;
    CU_ASSERT_EQUAL(oct_subset_parse(&subset, "odd", NULL), OCT_OK);
    CU_ASSERT_EQUAL(subset, OCT_SUBSET_ODD);
    CU_ASSERT_EQUAL(oct_subset_parse(&subset, "half", &ctx->error), OCT_ERR_ARGUMENT);
    oct_dataset *set;
    oct_error_clear(&ctx->error);
    CU_ASSERT_EQUAL(oct_dataset_open(&set, ctx, root, &(oct_dataset_options){.subset = (oct_subset)3}),
                    OCT_ERR_ARGUMENT);
    oct_ctx_destroy(ctx);
}

/* 2.bmp twice, one missing, one that is no image: passed over and named, or, strict, the end. */
static void unreadable_images_are_named_or_fatal(void)
{
    oct_ctx *ctx = test_ctx();
    const char *root = image_folder();
    write_text(root, "fake.jpg", "this is no image", 16);
    write_list(root, "2.bmp 0\nmissing.jpg 1\nfake.jpg 1\n2.bmp 2\n");
    for (int strict = 0; strict < 2; strict++) {
        oct_dataset *set = open_set(ctx, root, (oct_dataset_options){.strict = strict});
        oct_loader *loader;
        oct_loader_options options = {.batch_size = 4, .size = 8, .workers = 2};
        REQUIRE_OK(ctx, oct_loader_create(&loader, ctx, set, &options));
        REQUIRE_OK(ctx, oct_loader_start(loader, 0, 0));
        oct_batch batch;
        oct_status status = oct_loader_next(loader, &batch);
        if (strict) {
            CU_ASSERT_EQUAL(status, OCT_ERR_IO);
            CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "missing.jpg"));
        } else {
            CU_ASSERT_EQUAL(status, OCT_OK);
            CU_ASSERT_EQUAL(batch.count, 2);
            CU_ASSERT_EQUAL(oct_loader_unreadable_count(loader), 2);
            CU_ASSERT_PTR_NOT_NULL(strstr(oct_loader_unreadable(loader, 0), "missing.jpg"));
            CU_ASSERT_PTR_NOT_NULL(strstr(oct_loader_unreadable(loader, 1), "fake.jpg: neither JPEG nor PNG"));
        }
        oct_loader_destroy(loader);
        oct_dataset_close(set);
    }
    oct_ctx_destroy(ctx);
}

static void imagenet500_is_read_whole(void)
{
    const char *path = test_data_path("imagenet500");
    if (!path) SKIP("no imagenet500");
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, path, (oct_dataset_options){.subset = OCT_SUBSET_ODD});
    CU_ASSERT_EQUAL(oct_dataset_get_kind(set), OCT_DATASET_LIST);
    CU_ASSERT_EQUAL(oct_dataset_count(set, OCT_SPLIT_TRAIN), 250);
    CU_ASSERT_EQUAL(oct_dataset_class_count(set), 999);
    CU_ASSERT_EQUAL(oct_dataset_label(set, OCT_SPLIT_TRAIN, 0), 2);
    oct_image image = {0};
    for (int64_t i = 0; i < 250; i += 25)
        ASSERT_OK(ctx, oct_dataset_read(set, OCT_SPLIT_TRAIN, i, &image, &ctx->error));
    oct_image_release(&image);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

#define CASE(f)                                                                                                      \
    {                                                                                                                \
#f, f                                                                                                        \
    }
static const test_case cases[] = {
    CASE(list_of_numbers_is_read_in_order_of_lines),      CASE(list_of_names_makes_sorted_classes),
    CASE(list_with_classes_takes_names_and_numbers),      CASE(list_splits_share_the_classes_of_training),
    CASE(list_bad_ones_are_refused_with_line_and_reason), CASE(list_garbage_never_crashes),
    CASE(open_with_failing_allocations_is_clean),         CASE(subset_halves_share_nothing_and_miss_nothing),
    CASE(unreadable_images_are_named_or_fatal),           CASE(imagenet500_is_read_whole),
};
TEST_SUITE("list", cases);
