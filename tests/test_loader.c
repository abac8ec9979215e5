/* SPDX-License-Identifier: BSD-2-Clause
 * The loader: order, the same batches whatever the workers, seeking, epoch sizes, unreadable images,
 * shutdown. */
#include "datasets/loader.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/bytes.h"
#include "autograd/base/memory.h"
#include "tests/testing.h"

enum { PATH_BYTES = 512, IMAGES = 103, SIDE = 8 };

static void write_file(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[PATH_BYTES];
    CU_ASSERT_FATAL((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) < sizeof path);
    FILE *f = fopen(path, "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(f);
    CU_ASSERT_EQUAL(fwrite(bytes, 1, size, f), size);
    CU_ASSERT_EQUAL(fclose(f), 0);
}

/* A grey level of each image, by which it is known in a batch. */
static uint8_t level_of(int image)
{
    return (uint8_t)(image * 2 + 20);
}

static void write_bmp(const char *folder, const char *name, uint8_t level)
{
    uint8_t bytes[54 + SIDE * SIDE * 3] = {'B', 'M'};
    oct_store_le32(bytes + 2, sizeof bytes);
    oct_store_le32(bytes + 10, 54);
    oct_store_le32(bytes + 14, 40);
    oct_store_le32(bytes + 18, SIDE);
    oct_store_le32(bytes + 22, SIDE);
    oct_store_le32(bytes + 26, 1 | 24 << 16);
    memset(bytes + 54, level, sizeof bytes - 54);
    write_file(folder, name, bytes, sizeof bytes);
}

/* train/ of two classes: images 0 .. IMAGES-1 in this order, those in `bad` being text files. */
static const char *image_folder(const int *bad, int bad_count)
{
    const char *root = test_folder();
    static const char *const folders[] = {"train", "train/a", "train/b"};
    char name[PATH_BYTES];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s/%s", root, folders[i]);
        CU_ASSERT_EQUAL_FATAL(mkdir(name, 0777), 0);
    }
    for (int i = 0; i < IMAGES; i++) {
        int is_bad = 0;
        for (int b = 0; b < bad_count; b++) is_bad = is_bad || bad[b] == i;
        snprintf(name, sizeof name, "train/%s/%04d.%s", i < IMAGES / 2 ? "a" : "b", i,
                 is_bad ? "jpg" : "bmp");
        if (is_bad)
            write_file(root, name, "no image", 8);
        else
            write_bmp(root, name, level_of(i));
    }
    return root;
}

/* IDX set of IMAGES images of random pixels with their numbers as labels. */
static const char *idx_folder(void)
{
    const char *root = test_folder();
    static uint8_t images[16 + IMAGES * SIDE * SIDE] = {0, 0, 8, 3,    0, 0, 0, IMAGES,
                                                        0, 0, 0, SIDE, 0, 0, 0, SIDE};
    static uint8_t labels[8 + IMAGES] = {0, 0, 8, 1, 0, 0, 0, IMAGES};
    for (size_t i = 16; i < sizeof images; i++) images[i] = (uint8_t)((uint32_t)i * 2654435761u >> 20);
    for (int i = 0; i < IMAGES; i++) labels[8 + i] = (uint8_t)i;
    write_file(root, "train-images-idx3-ubyte", images, sizeof images);
    write_file(root, "train-labels-idx1-ubyte", labels, sizeof labels);
    return root;
}

static const char *hdf5_file(void)
{
    static char path[PATH_BYTES];
    static uint8_t images[IMAGES * SIDE * SIDE];
    int labels[IMAGES];
    for (int i = 0; i < IMAGES; i++) {
        labels[i] = i;
        memset(images + i * SIDE * SIDE, level_of(i), SIDE * SIDE);
    }
    snprintf(path, sizeof path, "%s/set.h5", test_folder());
    hsize_t sizes[3] = {IMAGES, SIDE, SIDE}, chunk[3] = {16, SIDE, SIDE};
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t create = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(3, sizes, NULL);
    hid_t line = H5Screate_simple(1, sizes, NULL);
    H5Pset_chunk(create, 3, chunk);
    H5Pset_deflate(create, 1);
    hid_t a = H5Dcreate2(file, "images", H5T_NATIVE_UINT8, space, H5P_DEFAULT, create, H5P_DEFAULT);
    hid_t b = H5Dcreate2(file, "labels", H5T_NATIVE_INT, line, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    CU_ASSERT_TRUE(H5Dwrite(a, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, images) >= 0);
    CU_ASSERT_TRUE(H5Dwrite(b, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, labels) >= 0);
    H5Dclose(a), H5Dclose(b), H5Sclose(space), H5Sclose(line), H5Pclose(create), H5Fclose(file);
    return path;
}

static oct_dataset *open_set(oct_ctx *ctx, const char *path)
{
    oct_dataset *set;
    oct_status status = oct_dataset_open(&set, ctx, path, &(oct_dataset_options){.val_split = -1});
    CU_ASSERT_TRUE_FATAL(test_is_ok(&ctx->error, status, "oct_dataset_open"));
    return set;
}

static oct_loader *create(oct_ctx *ctx, oct_dataset *set, oct_loader_options options)
{
    oct_loader *loader;
    oct_status status = oct_loader_create(&loader, ctx, set, &options);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&ctx->error, status, "oct_loader_create"));
    return loader;
}

enum { MAX_BATCHES = 64 };

/* What an epoch handed out, from some batch on. */
typedef struct epoch_record {
    int batches;
    int64_t samples;
    uint64_t digests[MAX_BATCHES]; /* of images, labels, sample indices, first */
    int64_t firsts[MAX_BATCHES];
    uint32_t order[4096];
} epoch_record;

static void run_epoch(epoch_record *record, oct_ctx *ctx, oct_loader *loader, uint64_t epoch, int64_t first)
{
    memset(record, 0, sizeof *record);
    REQUIRE_OK(ctx, oct_loader_start(loader, epoch, first));
    size_t image = (size_t)(oct_loader_size(loader) * oct_loader_size(loader) * oct_loader_channels(loader));
    oct_batch batch;
    oct_status status;
    while ((status = oct_loader_next(loader, &batch)) == OCT_OK) {
        size_t n = (size_t)batch.count;
        uint64_t digest = oct_digest(OCT_DIGEST_START, batch.images, n * image);
        digest = oct_digest(digest, batch.labels, n * sizeof(int32_t));
        digest = oct_digest(digest, batch.samples, n * sizeof(uint32_t));
        CU_ASSERT_FATAL(record->batches < MAX_BATCHES && record->samples + batch.count <= 4096);
        memcpy(record->order + record->samples, batch.samples, n * sizeof(uint32_t));
        record->digests[record->batches] = digest;
        record->firsts[record->batches++] = batch.first;
        record->samples += batch.count;
    }
    CU_ASSERT_EQUAL(status, OCT_END);
    CU_ASSERT_EQUAL(oct_loader_next(loader, &batch), OCT_END);
}

static void next_any_number_of_workers_gives_the_same_bytes(void)
{
    static const int bad[] = {3, 50, 51, 52, 102};
    const char *paths[4] = {idx_folder(), image_folder(NULL, 0), image_folder(bad, 5), hdf5_file()};
    static epoch_record expected[2], found;
    oct_ctx *ctx = test_ctx();
    for (int p = 0; p < 4; p++) {
        oct_dataset *set = open_set(ctx, paths[p]);
        for (int workers = 1; workers <= 3; workers++) {
            for (int cached = 0; cached < 2; cached++) {
                oct_loader *loader = create(ctx, set,
                                            (oct_loader_options){.batch_size = 10,
                                                                 .training = 1,
                                                                 .seed = 7,
                                                                 .augment = OCT_AUGMENT_CIFAR,
                                                                 .size = p == 1 ? 6 : 8,
                                                                 .workers = workers,
                                                                 .cache_bytes = cached ? 0 : 1});
                CU_ASSERT_EQUAL(oct_loader_batches(loader), 10);
                for (uint64_t epoch = 0; epoch < 2; epoch++) {
                    run_epoch(&found, ctx, loader, epoch, 0);
                    if (workers == 1 && !cached)
                        expected[epoch] = found;
                    else
                        CU_ASSERT_EQUAL(memcmp(&found, &expected[epoch], sizeof found), 0);
                }
                CU_ASSERT_EQUAL(oct_loader_unreadable_count(loader), p == 2 ? 5 : 0);
                if (cached && p == 1) CU_ASSERT_TRUE(oct_loader_decoded(loader) <= IMAGES + 3 * workers);
                if (p == 0) CU_ASSERT_EQUAL(oct_loader_decoded(loader), 0);
                oct_loader_destroy(loader);
            }
        }
        CU_ASSERT_EQUAL(found.batches, 10);
        CU_ASSERT_TRUE(expected[0].digests[0] != expected[1].digests[0]);
        oct_dataset_close(set);
    }
    oct_ctx_destroy(ctx);
}

static void start_in_the_middle_gives_the_rest_of_the_epoch(void)
{
    static epoch_record whole, rest;
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, idx_folder());
    for (int workers = 1; workers <= 3; workers++) {
        oct_loader *loader = create(
            ctx, set,
            (oct_loader_options){
                .batch_size = 4, .training = 1, .seed = 1, .augment = OCT_AUGMENT_CIFAR, .workers = workers});
        run_epoch(&whole, ctx, loader, 5, 0);
        CU_ASSERT_EQUAL_FATAL(whole.batches, 25);
        static const int starts[] = {7, 24, 25, 0};
        for (int s = 0; s < 4; s++) {
            int first = starts[s];
            /* Leave another epoch in its middle first. */
            oct_batch batch;
            ASSERT_OK(ctx, oct_loader_start(loader, 9, 3));
            for (int i = 0; i < s; i++) ASSERT_OK(ctx, oct_loader_next(loader, &batch));
            run_epoch(&rest, ctx, loader, 5, first);
            CU_ASSERT_EQUAL_FATAL(rest.batches, 25 - first);
            CU_ASSERT_EQUAL(
                memcmp(rest.digests, whole.digests + first, sizeof(uint64_t) * (size_t)(25 - first)), 0);
            CU_ASSERT_EQUAL(memcmp(rest.firsts, whole.firsts + first, sizeof(int64_t) * (size_t)(25 - first)),
                            0);
            if (rest.batches) CU_ASSERT_EQUAL(rest.firsts[0], 4 * first);
        }
        CU_ASSERT_EQUAL(oct_loader_start(loader, 0, 26), OCT_ERR_ARGUMENT);
        oct_error_clear(&ctx->error);
        oct_loader_destroy(loader);
    }
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static int distinct(const epoch_record *record, int *largest_count)
{
    int counts[IMAGES] = {0}, n = 0;
    *largest_count = 0;
    for (int64_t i = 0; i < record->samples; i++) {
        n += !counts[record->order[i]]++;
        if (counts[record->order[i]] > *largest_count) *largest_count = counts[record->order[i]];
    }
    return n;
}

static void order_training_is_a_permutation_per_epoch_and_seed(void)
{
    static epoch_record a, b, c;
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, idx_folder());
    int most;
    for (uint64_t seed = 0; seed < 3; seed++) {
        oct_loader *loader = create(
            ctx, set, (oct_loader_options){.batch_size = 16, .training = 1, .seed = seed, .drop_last = -1});
        run_epoch(&a, ctx, loader, 0, 0);
        run_epoch(&b, ctx, loader, 1, 0);
        CU_ASSERT_EQUAL(a.samples, IMAGES);
        CU_ASSERT_EQUAL(distinct(&a, &most), IMAGES);
        CU_ASSERT_EQUAL(distinct(&b, &most), IMAGES);
        CU_ASSERT_TRUE(memcmp(a.order, b.order, sizeof a.order) != 0);
        CU_ASSERT_TRUE(memcmp(a.order, c.order, sizeof a.order) != 0);
        c = a;
        oct_loader_destroy(loader);
    }
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void order_evaluation_is_the_file_order_and_untouched(void)
{
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, idx_folder());
    oct_loader *loader =
        create(ctx, set, (oct_loader_options){.batch_size = 25, .augment = OCT_AUGMENT_CIFAR});
    CU_ASSERT_EQUAL(oct_loader_batches(loader), 5);
    CU_ASSERT_EQUAL(oct_loader_samples(loader), IMAGES);
    ASSERT_OK(ctx, oct_loader_start(loader, 0, 0));
    oct_batch batch;
    for (int64_t g = 0; g < IMAGES; g += 25) {
        REQUIRE_OK(ctx, oct_loader_next(loader, &batch));
        CU_ASSERT_EQUAL(batch.first, g);
        CU_ASSERT_EQUAL_FATAL(batch.count, g == 100 ? 3 : 25);
        for (int i = 0; i < batch.count; i++) {
            oct_view view;
            CU_ASSERT_EQUAL(batch.labels[i], (int32_t)g + i);
            CU_ASSERT_TRUE(oct_dataset_peek(set, OCT_SPLIT_TRAIN, g + i, &view));
            CU_ASSERT_EQUAL(memcmp(batch.images + i * SIDE * SIDE, view.pixels, SIDE * SIDE), 0);
        }
    }
    CU_ASSERT_EQUAL(oct_loader_next(loader, &batch), OCT_END);
    oct_loader_destroy(loader);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void next_transforms_with_the_documented_stream(void)
{
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, idx_folder());
    oct_loader *loader = create(
        ctx, set,
        (oct_loader_options){.batch_size = 20, .training = 1, .seed = 11, .augment = OCT_AUGMENT_CIFAR});
    oct_batch batch;
    oct_transform transform = {.size = SIDE, .augment = OCT_AUGMENT_CIFAR, .training = 1};
    oct_transform_scratch scratch = {0};
    uint8_t expected[SIDE * SIDE];
    ASSERT_OK(ctx, oct_loader_start(loader, 3, 0));
    while (oct_loader_next(loader, &batch) == OCT_OK) {
        for (int i = 0; i < batch.count; i++) {
            oct_view view;
            oct_rng rng = oct_rng_start(11, OCT_RNG_AUGMENT, 3, (uint64_t)batch.first + (uint64_t)i);
            CU_ASSERT_TRUE_FATAL(oct_dataset_peek(set, OCT_SPLIT_TRAIN, batch.samples[i], &view));
            ASSERT_OK(ctx, oct_transform_apply(expected, &transform, view, &rng, &scratch, &ctx->error));
            CU_ASSERT_EQUAL(memcmp(batch.images + i * SIDE * SIDE, expected, sizeof expected), 0);
            CU_ASSERT_EQUAL(batch.labels[i], (int32_t)batch.samples[i]);
        }
    }
    oct_transform_scratch_release(&scratch);
    oct_loader_destroy(loader);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void epoch_size_counts_and_shares_are_kept(void)
{
    static epoch_record record;
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, idx_folder());
    static const struct {
        double size;
        int training, drop;
        int64_t samples;
    } table[] = {
        {0, 1, 0, 100},   {0, 1, -1, 103}, {0, 0, 0, 103},   {0, 0, 1, 100},
        {0.5, 1, -1, 52}, {1, 1, -1, 103}, {500, 1, 0, 500}, {7, 1, 0, 7}, {0.99, 1, -1, 102},
        {0.001, 1, 0, 1}, {7, 0, 0, 7},    {0.5, 0, 0, 52},  {500, 0, 0, 103},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        oct_loader *loader = create(ctx, set,
                                    (oct_loader_options){.batch_size = 10,
                                                         .training = table[i].training,
                                                         .epoch_size = table[i].size,
                                                         .drop_last = table[i].drop});
        run_epoch(&record, ctx, loader, 0, 0);
        CU_ASSERT_EQUAL(record.samples, table[i].samples);
        CU_ASSERT_EQUAL(oct_loader_samples(loader), table[i].samples);
        CU_ASSERT_EQUAL(oct_loader_batches(loader), record.batches);
        int most, n = distinct(&record, &most);
        /* 102 draws with replacement from 103: about 65 distinct ones. A share of 1 is the set itself. */
        if (table[i].size == 0.99) CU_ASSERT_TRUE(n > 50 && n < 80 && most > 1);
        if (table[i].size == 1) CU_ASSERT_TRUE(n == 103 && most == 1);
        if (!table[i].training) CU_ASSERT_EQUAL(n, table[i].samples);
        if (table[i].size == 7 && !table[i].training) CU_ASSERT_EQUAL(record.order[6], 6 * IMAGES / 7);
        oct_loader_destroy(loader);
    }
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void unreadable_in_training_are_replaced_and_named(void)
{
    static const int bad[] = {3, 50, 51, 52, 102};
    static epoch_record record;
    oct_ctx *ctx = test_ctx();
    const char *root = image_folder(bad, 5);
    oct_dataset *set = open_set(ctx, root);
    oct_dataset *clean = open_set(ctx, image_folder(NULL, 0));
    oct_loader_options options = {.batch_size = 10, .size = 8, .training = 1, .seed = 4, .drop_last = -1};
    oct_loader *all = create(ctx, clean, options), *loader = create(ctx, set, options);
    run_epoch(&record, ctx, all, 0, 0); /* the order without faults */
    ASSERT_OK(ctx, oct_loader_start(loader, 0, 0));
    oct_batch batch;
    int replaced = 0;
    while (oct_loader_next(loader, &batch) == OCT_OK) {
        for (int i = 0; i < batch.count; i++) {
            int64_t place = batch.first + i;
            uint32_t expected = record.order[place];
            for (int t = 1; expected == 3 || (expected >= 50 && expected <= 52) || expected == 102;
                 t++, replaced++)
                expected = record.order[(place + t) % IMAGES];
            CU_ASSERT_EQUAL(batch.samples[i], expected);
            CU_ASSERT_EQUAL(batch.images[i * SIDE * SIDE * 3], level_of((int)expected));
            CU_ASSERT_EQUAL(batch.labels[i], (int)expected >= IMAGES / 2);
        }
    }
    CU_ASSERT_TRUE(replaced >= 5);
    CU_ASSERT_EQUAL(oct_loader_unreadable_count(loader), 5);
    for (int i = 0; i < 5; i++) {
        const char *name = oct_loader_unreadable(loader, i);
        CU_ASSERT_PTR_NOT_NULL_FATAL(name);
        CU_ASSERT_TRUE(!strncmp(name, root, strlen(root)) && strstr(name, ".jpg: neither JPEG"));
    }
    CU_ASSERT_PTR_NULL(oct_loader_unreadable(loader, 5));
    CU_ASSERT_PTR_NULL(oct_loader_unreadable(loader, -1));
    oct_loader_destroy(loader);
    oct_loader_destroy(all);
    oct_dataset_close(set);
    oct_dataset_close(clean);
    oct_ctx_destroy(ctx);
}

static void unreadable_in_evaluation_shorten_the_batch(void)
{
    static const int bad[] = {3, 10, 11, 12, 13, 14}; /* all of the batch 10..14 */
    static epoch_record record;
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, image_folder(bad, 6));
    oct_loader *loader = create(ctx, set, (oct_loader_options){.batch_size = 5, .size = 8});
    for (int round = 0; round < 2; round++) {
        run_epoch(&record, ctx, loader, 0, 0);
        CU_ASSERT_EQUAL(record.batches, 20);
        CU_ASSERT_EQUAL(record.samples, IMAGES - 6);
        CU_ASSERT_TRUE(record.firsts[1] == 5 && record.firsts[2] == 15);
        CU_ASSERT_EQUAL(record.order[3], 4);
        CU_ASSERT_EQUAL(oct_loader_unreadable_count(loader), 6);
        CU_ASSERT_PTR_NOT_NULL(strstr(oct_loader_unreadable(loader, 0), "0003.jpg"));
        CU_ASSERT_PTR_NOT_NULL(strstr(oct_loader_unreadable(loader, 5), "0014.jpg"));
    }
    oct_loader_destroy(loader);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void unreadable_with_strict_ends_the_epoch(void)
{
    static const int bad[] = {23};
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, image_folder(bad, 1));
    oct_loader *loader = create(ctx, set, (oct_loader_options){.batch_size = 10, .size = 8, .strict = 1});
    oct_batch batch;
    CU_ASSERT_EQUAL(oct_loader_next(loader, &batch), OCT_ERR_STATE);
    for (int round = 0; round < 2; round++) {
        oct_error_clear(&ctx->error);
        ASSERT_OK(ctx, oct_loader_start(loader, 0, 0));
        ASSERT_OK(ctx, oct_loader_next(loader, &batch));
        ASSERT_OK(ctx, oct_loader_next(loader, &batch));
        CU_ASSERT_EQUAL(oct_loader_next(loader, &batch), OCT_ERR_FORMAT);
        CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "0023.jpg"));
        CU_ASSERT_EQUAL(oct_loader_next(loader, &batch), OCT_ERR_STATE);
    }
    oct_loader_destroy(loader);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void unreadable_everything_is_an_error_in_training(void)
{
    int bad[IMAGES];
    for (int i = 0; i < IMAGES; i++) bad[i] = i;
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, image_folder(bad, IMAGES));
    oct_loader *loader = create(ctx, set, (oct_loader_options){.batch_size = 10, .size = 8, .training = 1});
    oct_batch batch;
    ASSERT_OK(ctx, oct_loader_start(loader, 0, 0));
    CU_ASSERT_EQUAL(oct_loader_next(loader, &batch), OCT_ERR_FORMAT);
    CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, "none of the epoch's 103 images is readable"));
    oct_loader_destroy(loader);
    loader = create(ctx, set, (oct_loader_options){.batch_size = 10, .size = 8});
    ASSERT_OK(ctx, oct_loader_start(loader, 0, 0));
    CU_ASSERT_EQUAL(oct_loader_next(loader, &batch), OCT_END);
    CU_ASSERT_EQUAL(oct_loader_unreadable_count(loader), IMAGES);
    CU_ASSERT_PTR_NOT_NULL(oct_loader_unreadable(loader, 31));
    CU_ASSERT_PTR_NULL(oct_loader_unreadable(loader, 32));
    oct_loader_destroy(loader);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void destroy_in_the_middle_of_an_epoch_returns(void)
{
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, idx_folder());
    for (int i = 0; i < 60; i++) {
        oct_loader *loader = create(ctx, set,
                                    (oct_loader_options){.batch_size = 3,
                                                         .size = 20 + i,
                                                         .training = 1,
                                                         .augment = OCT_AUGMENT_IMAGENET,
                                                         .workers = 1 + i % 4});
        oct_batch batch;
        if (i % 5) ASSERT_OK(ctx, oct_loader_start(loader, 0, 0));
        for (int n = 1; n < i % 5; n++) ASSERT_OK(ctx, oct_loader_next(loader, &batch));
        oct_loader_destroy(loader);
    }
    oct_loader_destroy(NULL);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void create_bad_options_are_refused(void)
{
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, image_folder(NULL, 0));
    static const struct {
        oct_loader_options options;
        const char *text;
    } table[] = {
        {{.batch_size = 0, .size = 8}, "batch size"},
        {{.batch_size = 4}, "image size is needed"},
        {{.batch_size = 4, .size = -1}, "size"},
        {{.batch_size = 4, .size = 8, .split = OCT_SPLIT_TEST}, "no test samples"},
        {{.batch_size = 4, .size = 8, .workers = 65}, "workers"},
        {{.batch_size = 4, .size = 8, .epoch_size = -0.5}, "epoch size"},
        {{.batch_size = 4, .size = 8, .augment = (oct_augment)9}, "augment"},
        {{.batch_size = 200, .size = 8, .drop_last = 1}, "no full batch of 200"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        oct_loader *loader;
        oct_error_clear(&ctx->error);
        CU_ASSERT_EQUAL(oct_loader_create(&loader, ctx, set, &table[i].options), OCT_ERR_ARGUMENT);
        CU_ASSERT_PTR_NULL(loader);
        CU_ASSERT_PTR_NOT_NULL(strstr(ctx->error.message, table[i].text));
    }
    oct_error_clear(&ctx->error);
    oct_loader *loader = create(ctx, set, (oct_loader_options){.batch_size = 200, .size = 8, .training = 1});
    CU_ASSERT_EQUAL(oct_loader_batches(loader), 1);
    oct_loader_destroy(loader);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void failing_allocations_surface_and_leave_the_loader_usable(void)
{
    static epoch_record record;
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, image_folder(NULL, 0));
    oct_loader_options options = {.batch_size = 10, .size = 6, .training = 1, .workers = 1};
    for (long n = 1; n < 100; n++) {
        oct_loader *loader;
        oct_batch batch;
        oct_error_clear(&ctx->error);
        oct_alloc_fail_after(n);
        oct_status status = oct_loader_create(&loader, ctx, set, &options);
        if (status == OCT_OK) status = oct_loader_start(loader, 0, 0);
        while (status == OCT_OK) status = oct_loader_next(loader, &batch);
        CU_ASSERT_TRUE(status == OCT_END || (status == OCT_ERR_MEMORY && ctx->error.message[0]));
        oct_alloc_fail_after(0);
        oct_error_clear(&ctx->error);
        if (loader) run_epoch(&record, ctx, loader, 0, 0);
        oct_loader_destroy(loader);
    }
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

static void next_on_cifar10_folders_serves_shuffled_batches(void)
{
    const char *path = test_data_path("cifar10");
    if (!path) SKIP("no cifar10 folder under OCTET_DATA");
    oct_ctx *ctx = test_ctx();
    oct_dataset *set = open_set(ctx, path);
    oct_loader *loader =
        create(ctx, set,
               (oct_loader_options){
                   .batch_size = 128, .size = 32, .training = 1, .augment = OCT_AUGMENT_CIFAR, .seed = 1});
    CU_ASSERT_EQUAL(oct_loader_batches(loader), 390);
    ASSERT_OK(ctx, oct_loader_start(loader, 0, 200));
    oct_batch batch;
    for (int i = 0; i < 4; i++) {
        REQUIRE_OK(ctx, oct_loader_next(loader, &batch));
        CU_ASSERT_EQUAL(batch.count, 128);
        int classes[10] = {0}, n = 0;
        for (int k = 0; k < 128; k++) classes[batch.labels[k]]++;
        for (int k = 0; k < 10; k++) n += classes[k] > 0;
        CU_ASSERT_TRUE(n >= 8);
    }
    CU_ASSERT_EQUAL(oct_loader_unreadable_count(loader), 0);
    oct_loader_destroy(loader);
    oct_dataset_close(set);
    oct_ctx_destroy(ctx);
}

#define CASE(f) {#f, f}
static const test_case cases[] = {
    CASE(next_any_number_of_workers_gives_the_same_bytes),
    CASE(start_in_the_middle_gives_the_rest_of_the_epoch),
    CASE(order_training_is_a_permutation_per_epoch_and_seed),
    CASE(order_evaluation_is_the_file_order_and_untouched),
    CASE(next_transforms_with_the_documented_stream),
    CASE(epoch_size_counts_and_shares_are_kept),
    CASE(unreadable_in_training_are_replaced_and_named),
    CASE(unreadable_in_evaluation_shorten_the_batch),
    CASE(unreadable_with_strict_ends_the_epoch),
    CASE(unreadable_everything_is_an_error_in_training),
    CASE(destroy_in_the_middle_of_an_epoch_returns),
    CASE(create_bad_options_are_refused),
    CASE(failing_allocations_surface_and_leave_the_loader_usable),
    CASE(next_on_cifar10_folders_serves_shuffled_batches),
};
TEST_SUITE("loader", cases);
