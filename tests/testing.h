/* SPDX-License-Identifier: BSD-2-Clause
 * What every CUnit program of the tests shares: its main, skipping with a reason, where shared data lies, a few
 * float helpers. A test file tests/test_<unit>.c defines `test_suite`; the program's exit status is non-zero on
 * any failure and its last line is "<unit>: N passed, N failed, N skipped" (tests, not assertions).
 */
#ifndef OCT_TESTS_TESTING_H
#define OCT_TESTS_TESTING_H

#include <CUnit/CUnit.h>
#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/ctx.h"
#include "autograd/base/status.h"

typedef struct test_case {
    const char *name; /* <function>_<condition>_<expectation>, or the trap's name */
    void (*run)(void);
} test_case;

typedef struct test_suite_def {
    const char *name;
    const test_case *cases;
    size_t count;
} test_suite_def;

/* Defined by each test file. */
extern const test_suite_def test_suite;
#define TEST_SUITE(unit, table) \
    const test_suite_def test_suite = {unit, table, sizeof(table) / sizeof((table)[0])}

/* Marks the running test as skipped and returns from it. */
void test_skip(const char *reason);
#define SKIP(reason)           \
    do {                       \
        test_skip(reason);     \
        return;                \
    } while (0)

/* Asserts OCT_OK and prints the context's message when it is not. Continues (CUnit's non-fatal assert). */
#define ASSERT_OK(ctx, call) CU_ASSERT_TRUE(test_is_ok((ctx) ? &(ctx)->error : NULL, (call), #call))
/* The same, leaving the test when it fails. */
#define REQUIRE_OK(ctx, call)                                              \
    do {                                                                   \
        bool ok_ = test_is_ok((ctx) ? &(ctx)->error : NULL, (call), #call); \
        CU_ASSERT_TRUE(ok_);                                               \
        if (!ok_) return;                                                  \
    } while (0)
bool test_is_ok(const oct_error *error, oct_status status, const char *what);

/* A context with all defaults (or the given thread count / level); the test fails when there is none. */
oct_ctx *test_ctx(void);
oct_ctx *test_ctx_with(int threads, const char *cpu);

/* Path of a file under OCTET_SHARED (default ../shared) or OCTET_DATA (default .data), or of Fashion-MNIST's
 * folder; NULL when it does not exist. Static buffer, valid until the next call. */
const char *test_shared_path(const char *name);
const char *test_data_path(const char *name);
const char *test_fashion_mnist(void);
/* A fresh empty folder that is removed when the program ends. Static buffer per call site is not needed: the
 * string lives until the end of the program. */
const char *test_folder(void);

/* max |a-b| / max(|b|max, tiny): error relative to the largest magnitude of the reference. */
double test_relative_error(const float *a, const double *b, size_t n);
double test_relative_error_f32(const float *a, const float *b, size_t n);
/* n normal numbers from a counter-based stream. */
void test_fill_normal(float *x, size_t n, unsigned seed);

#endif
