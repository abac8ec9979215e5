/* SPDX-License-Identifier: BSD-2-Clause
 * base/: status, memory, random numbers, CPU levels, parallel loops, bytes, files. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/bytes.h"
#include "autograd/base/cpu.h"
#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "autograd/base/par.h"
#include "autograd/base/rng.h"
#include "tests/testing.h"

static void fail_twice_keeps_first_message(void)
{
    oct_error e = {0};
    CU_ASSERT_EQUAL(oct_fail(&e, OCT_ERR_IO, "first %d", 1), OCT_ERR_IO);
    CU_ASSERT_EQUAL(oct_fail(&e, OCT_ERR_SHAPE, "second"), OCT_ERR_SHAPE);
    CU_ASSERT_EQUAL(e.status, OCT_ERR_IO);
    CU_ASSERT_STRING_EQUAL(e.message, "first 1");
    CU_ASSERT_EQUAL(oct_fail(NULL, OCT_ERR_IO, "nowhere"), OCT_ERR_IO);
    CU_ASSERT_STRING_EQUAL(oct_status_name((oct_status)99), "unknown");
}

static void sizes_overflow_is_refused(void)
{
    size_t n = 7;
    CU_ASSERT_FALSE(oct_size_mul(&n, SIZE_MAX / 2, 3));
    CU_ASSERT_FALSE(oct_size_add(&n, SIZE_MAX, 1));
    CU_ASSERT_EQUAL(n, 7);
    CU_ASSERT_PTR_NULL(oct_alloc(SIZE_MAX / 4, 8));
    CU_ASSERT_EQUAL(oct_size_align(65), 128);
}

static void arena_pieces_are_aligned_zeroed_and_disjoint(void)
{
    oct_arena arena;
    oct_arena_init(&arena, 256);
    uint8_t *last = NULL;
    for (size_t n = 1; n < 600; n += 37) {
        uint8_t *p = oct_arena_alloc(&arena, n, 1);
        CU_ASSERT_PTR_NOT_NULL_FATAL(p);
        CU_ASSERT_EQUAL((uintptr_t)p % OCT_ALIGNMENT, 0);
        for (size_t i = 0; i < n; i++) CU_ASSERT_EQUAL_FATAL(p[i], 0);
        memset(p, 0xee, n);
        if (last) CU_ASSERT_EQUAL(last[0], 0xee);
        last = p;
    }
    CU_ASSERT_PTR_NULL(oct_arena_alloc(&arena, SIZE_MAX, 2));
    oct_arena_release(&arena);
    oct_alloc_fail_after(1);
    CU_ASSERT_PTR_NULL(oct_arena_alloc(&arena, 1, 1));
    CU_ASSERT_PTR_NOT_NULL(oct_arena_alloc(&arena, 1, 1));
    oct_arena_release(&arena);
}

/* Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors): zero and all-ones inputs. Our
 * counter has 64 bits, so the all-ones vector is checked on the low words only through the zero-high variant. */
static void rng_block_matches_published_vector(void)
{
    uint32_t out[4];
    oct_rng_block(out, 0, 0);
    CU_ASSERT_EQUAL(out[0], 0x6627e8d5u);
    CU_ASSERT_EQUAL(out[1], 0xe169c58du);
    CU_ASSERT_EQUAL(out[2], 0xbc57ac4cu);
    CU_ASSERT_EQUAL(out[3], 0x9b00dbd8u);
}

static void rng_streams_are_reproducible_and_distinct(void)
{
    oct_rng a = oct_rng_start(1, OCT_RNG_SHUFFLE, 2, 3), b = oct_rng_start(1, OCT_RNG_SHUFFLE, 2, 3);
    oct_rng c = oct_rng_start(1, OCT_RNG_AUGMENT, 2, 3);
    int equal = 0;
    double sum = 0, squares = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t x = oct_rng_u32(&a);
        CU_ASSERT_EQUAL(x, oct_rng_u32(&b));
        equal += x == oct_rng_u32(&c);
        CU_ASSERT_TRUE(oct_rng_below(&a, 7) < 7 && oct_rng_below(&b, 7) < 7);
        float u = oct_rng_uniform(&a);
        CU_ASSERT_TRUE(u >= 0 && u < 1);
        (void)oct_rng_uniform(&b);
    }
    CU_ASSERT_TRUE(equal < 2);
    for (int i = 0; i < 20000; i++) {
        double z = (double)oct_rng_normal(&c);
        sum += z;
        squares += z * z;
    }
    CU_ASSERT_DOUBLE_EQUAL(sum / 20000, 0, 0.03);
    CU_ASSERT_DOUBLE_EQUAL(squares / 20000, 1, 0.05);
}

static void cpu_levels_parse_by_name_only(void)
{
    oct_error e = {0};
    uint32_t mask = 42;
    for (int i = 0; oct_cpu_level_name(i); i++) CU_ASSERT_EQUAL(oct_cpu_parse(&mask, oct_cpu_level_name(i), &e), OCT_OK);
    CU_ASSERT_EQUAL(oct_cpu_parse(&mask, "c", &e), OCT_OK);
    CU_ASSERT_EQUAL(mask, 0);
    CU_ASSERT_EQUAL(oct_cpu_parse(&mask, "avx3", &e), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.message, "avx3"));
    CU_ASSERT_EQUAL(oct_cpu_parse(&mask, "avxvnni", &e), OCT_OK);
    CU_ASSERT_FALSE(mask & OCT_CPU_AVX512);
    CU_ASSERT_EQUAL(oct_cpu_parse(&mask, "avx512", &e), OCT_OK);
    CU_ASSERT_FALSE(mask & OCT_CPU_AVXVNNI);
}

static void count_item(void *arg, int64_t i, int thread)
{
    (void)thread;
    ((int *)arg)[i]++;
}

static void parallel_for_visits_each_item_once(void)
{
    for (int threads = 1; threads <= 5; threads++) {
        int seen[100] = {0};
        oct_parallel_for(threads, 100, count_item, seen);
        for (int i = 0; i < 100; i++) CU_ASSERT_EQUAL(seen[i], 1);
        oct_parallel_for(threads, 0, count_item, seen);
    }
    CU_ASSERT_TRUE(oct_par_default_threads() >= 1);
}

static void bytes_round_trip_at_odd_addresses(void)
{
    uint8_t raw[16] = {0};
    oct_store_le64(raw + 1, UINT64_C(0x0102030405060708));
    CU_ASSERT_EQUAL(oct_load_le64(raw + 1), UINT64_C(0x0102030405060708));
    CU_ASSERT_EQUAL(oct_load_be32(raw + 1), 0x08070605u);
    /* "a" under FNV-1a 64, from the algorithm's published test values. */
    CU_ASSERT_EQUAL(oct_digest(OCT_DIGEST_START, "a", 1), UINT64_C(0xaf63dc4c8601ec8c));
}

static void file_write_replaces_whole_or_not_at_all(void)
{
    char path[512], folder[500];
    snprintf(folder, sizeof folder, "%s", test_folder());
    snprintf(path, sizeof path, "%s/f", folder);
    oct_error e = {0};
    uint8_t *bytes;
    size_t size;
    CU_ASSERT_EQUAL(oct_file_write(path, "old", 3, &e), OCT_OK);
    CU_ASSERT_EQUAL(oct_file_write(path, "newer", 5, &e), OCT_OK);
    CU_ASSERT_EQUAL_FATAL(oct_file_read(&bytes, &size, path, 100, &e), OCT_OK);
    CU_ASSERT_TRUE(size == 5 && !memcmp(bytes, "newer", 5));
    oct_free(bytes);
    CU_ASSERT_EQUAL(oct_file_read(&bytes, &size, path, 4, &e), OCT_ERR_FORMAT);
    oct_error_clear(&e);
    CU_ASSERT_EQUAL(oct_file_read(&bytes, &size, folder, 100, &e), OCT_ERR_IO);
    oct_error_clear(&e);
    snprintf(path, sizeof path, "%s/missing/f", folder);
    CU_ASSERT_EQUAL(oct_file_write(path, "x", 1, &e), OCT_ERR_IO);
    CU_ASSERT_PTR_NOT_NULL(strstr(e.message, "missing"));
}

static void ctx_create_bad_options_are_refused(void)
{
    oct_error e = {0};
    oct_ctx *ctx;
    CU_ASSERT_EQUAL(oct_ctx_create(&ctx, &(oct_ctx_options){.threads = -1}, &e), OCT_ERR_ARGUMENT);
    CU_ASSERT_PTR_NULL(ctx);
    oct_error_clear(&e);
    CU_ASSERT_EQUAL(oct_ctx_create(&ctx, &(oct_ctx_options){.cpu = "pentium"}, &e), OCT_ERR_ARGUMENT);
    oct_ctx_destroy(NULL);
}

static const test_case cases[] = {
    {"fail_twice_keeps_first_message", fail_twice_keeps_first_message},
    {"sizes_overflow_is_refused", sizes_overflow_is_refused},
    {"arena_pieces_are_aligned_zeroed_and_disjoint", arena_pieces_are_aligned_zeroed_and_disjoint},
    {"rng_block_matches_published_vector", rng_block_matches_published_vector},
    {"rng_streams_are_reproducible_and_distinct", rng_streams_are_reproducible_and_distinct},
    {"cpu_levels_parse_by_name_only", cpu_levels_parse_by_name_only},
    {"parallel_for_visits_each_item_once", parallel_for_visits_each_item_once},
    {"bytes_round_trip_at_odd_addresses", bytes_round_trip_at_odd_addresses},
    {"file_write_replaces_whole_or_not_at_all", file_write_replaces_whole_or_not_at_all},
    {"ctx_create_bad_options_are_refused", ctx_create_bad_options_are_refused},
};
TEST_SUITE("base", cases);
