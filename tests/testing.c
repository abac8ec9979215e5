/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/testing.h"

#include <CUnit/TestDB.h>
#include <CUnit/TestRun.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "autograd/base/memory.h"
#include "autograd/base/rng.h"

enum { MAX_FOLDERS = 256, PATH_BYTES = 4096 };

static const char *skip_reason;
static char *folders[MAX_FOLDERS];
static int folder_count;

void test_skip(const char *reason)
{
    skip_reason = reason;
}

bool test_is_ok(const oct_error *error, oct_status status, const char *what)
{
    if (status == OCT_OK) return true;
    printf("    %s: %s: %s\n", what, oct_status_name(status), error ? error->message : "(no message)");
    return false;
}

oct_ctx *test_ctx_with(int threads, const char *cpu)
{
    oct_error error = {0};
    oct_ctx *ctx;
    oct_status status = oct_ctx_create(&ctx, &(oct_ctx_options){.threads = threads, .cpu = cpu}, &error);
    CU_ASSERT_TRUE_FATAL(test_is_ok(&error, status, "oct_ctx_create"));
    return ctx;
}

oct_ctx *test_ctx(void)
{
    return test_ctx_with(0, NULL);
}

static const char *existing_path(const char *variable, const char *fallback, const char *name)
{
    static char path[PATH_BYTES];
    const char *root = getenv(variable);
    snprintf(path, sizeof path, "%s/%s", root && *root ? root : fallback, name);
    return access(path, R_OK) ? NULL : path;
}

const char *test_shared_path(const char *name)
{
    return existing_path("OCTET_SHARED", "../shared", name);
}

const char *test_data_path(const char *name)
{
    return existing_path("OCTET_DATA", ".data", name);
}

const char *test_fashion_mnist(void)
{
    return existing_path("OCTET_FASHION_MNIST", "/usr/share/datasets/fashion-mnist", "");
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st, (void)type, (void)walk;
    return remove(path);
}

static void remove_folders(void)
{
    for (int i = 0; i < folder_count; i++) {
        nftw(folders[i], remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        oct_free(folders[i]);
    }
}

const char *test_folder(void)
{
    char name[] = "/tmp/octet-test-XXXXXX";
    CU_ASSERT_FATAL(folder_count < MAX_FOLDERS && mkdtemp(name) != NULL);
    if (!folder_count) atexit(remove_folders);
    folders[folder_count] = oct_strdup(name);
    return folders[folder_count++];
}

double test_relative_error(const float *a, const double *b, size_t n)
{
    double worst = 0, scale = 1e-30;
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)a[i] - b[i]);
        if (!(e <= worst)) worst = e; /* NaN counts as worst */
        if (fabs(b[i]) > scale) scale = fabs(b[i]);
    }
    return worst / scale;
}

double test_relative_error_f32(const float *a, const float *b, size_t n)
{
    double worst = 0, scale = 1e-30;
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)a[i] - (double)b[i]);
        if (!(e <= worst)) worst = e;
        if (fabs((double)b[i]) > scale) scale = fabs((double)b[i]);
    }
    return worst / scale;
}

void test_fill_normal(float *x, size_t n, unsigned seed)
{
    oct_rng rng = oct_rng_start(seed, OCT_RNG_SYNTHETIC, 0, 0);
    for (size_t i = 0; i < n; i++) x[i] = oct_rng_normal(&rng);
}

static void print_failures(void)
{
    for (CU_pFailureRecord f = CU_get_failure_list(); f; f = f->pNext)
        printf("    %s:%u: %s\n", f->strFileName ? f->strFileName : "?", f->uiLineNumber,
               f->strCondition ? f->strCondition : "?");
}

int main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL; /* run only the cases whose name contains this */
    int passed = 0, failed = 0, skipped = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (CU_initialize_registry() != CUE_SUCCESS) return 1;
    CU_pSuite suite = CU_add_suite(test_suite.name, NULL, NULL);
    if (!suite) return 1;
    for (size_t i = 0; i < test_suite.count; i++) {
        const test_case *c = &test_suite.cases[i];
        if (only && !strstr(c->name, only)) continue;
        CU_pTest test = CU_add_test(suite, c->name, c->run);
        if (!test) {
            printf("  cannot register %s\n", c->name);
            return 1;
        }
        skip_reason = NULL;
        CU_run_test(suite, test);
        if (CU_get_number_of_failure_records()) {
            failed++;
            printf("  FAILED %s\n", c->name);
            print_failures();
        } else if (skip_reason) {
            skipped++;
            printf("  skipped %s: %s\n", c->name, skip_reason);
        } else {
            passed++;
        }
        CU_clear_previous_results();
    }
    CU_cleanup_registry();
    printf("%s: %d passed, %d failed, %d skipped\n", test_suite.name, passed, failed, skipped);
    return failed || !(passed + skipped);
}
