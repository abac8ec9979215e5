/* SPDX-License-Identifier: BSD-2-Clause
 * Harness and main program of checkkern. What is compared lives in check_f32.c and check_i8.c.
 */
#include "tests/checkkern/checkkern.h"

#include <fenv.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "autograd/base/cpu.h"

/* One mapping [guard page | pages | guard page]; it stays mapped and grows when a case needs more. */
typedef struct guarded {
    unsigned char *map, *pages;
    size_t pages_bytes;
    unsigned char *block; /* what cg_alloc returned */
    size_t bytes;
    int is_input;
    uint64_t hash;
} guarded;

enum { RATE_SHAPES = 64, SHAPE_BYTES = 64, MARGIN_CHECKED = 1024 };

struct checkkern {
    /* options */
    const char *only;
    bool full, verbose, bench, list;
    uint64_t seed;
    uint32_t machine;
    /* totals */
    int passed, failed, skipped, selected;
    /* the current entry, level and case */
    const char *name, *level;
    char text[256];
    char message[512];
    oct_rng rng;
    guarded blocks[CG_BLOCKS];
    int used;
    unsigned control;
    /* seconds of level "c" per shape of the current entry */
    struct {
        char shape[SHAPE_BYTES];
        double seconds;
    } rates[RATE_SHAPES];
    int rate_count;
};

/* ---- leaving a body: failures and crashes ---- */

static sigjmp_buf leave;
static volatile sig_atomic_t inside;

enum { LEFT_BY_FAILURE = 1, LEFT_BY_SIGNAL = 1000 };

static void on_signal(int number)
{
    if (inside) siglongjmp(leave, LEFT_BY_SIGNAL + number);
    signal(number, SIG_DFL);
    raise(number);
}

static void catch_crashes(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) sigaction(signals[i], &action, NULL);
}

void checkkern_fail(checkkern *k, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(k->message, sizeof k->message, format, args);
    va_end(args);
    siglongjmp(leave, LEFT_BY_FAILURE);
}

/* ---- entries ---- */

static uint64_t hash_bytes(const void *bytes, size_t count)
{
    const unsigned char *at = bytes;
    uint64_t h = count ^ UINT64_C(0x9e3779b97f4a7c15), word;
    for (; count >= 8; at += 8, count -= 8) {
        memcpy(&word, at, 8);
        h = (h ^ word) * UINT64_C(0xff51afd7ed558ccd);
        h ^= h >> 32;
    }
    for (; count; at++, count--) h = (h ^ *at) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}

static void start_entry(checkkern *k, const char *name, const char *level)
{
    k->name = name;
    k->level = level;
    k->rng = oct_rng_start(k->seed, OCT_RNG_SYNTHETIC, hash_bytes(name, strlen(name)), 0);
    k->used = 0;
    snprintf(k->text, sizeof k->text, "no case");
}

/* Runs body; 0, or how it was left. */
static int run_body(checkkern *k, checkkern_body *body, uint32_t mask)
{
    fenv_t environment; /* a body that fails must not leave its MXCSR to the next one */
    fegetenv(&environment);
    int left = sigsetjmp(leave, 1);
    if (!left) {
        inside = 1;
        body(k, mask);
    }
    inside = 0;
    fesetenv(&environment);
    if (left >= LEFT_BY_SIGNAL)
        snprintf(k->message, sizeof k->message, "crash: %s", strsignal(left - LEFT_BY_SIGNAL));
    return left;
}

static void run_level(checkkern *k, const char *name, const char *level, checkkern_body *body,
                      checkkern_body *bench)
{
    uint32_t mask = 0;
    oct_error error = {0};
    start_entry(k, name, level);
    if (oct_cpu_parse(&mask, level, &error) != OCT_OK) {
        printf("  FAILED %s: %s\n", name, error.message);
        k->failed++;
        return;
    }
    if (mask & ~k->machine) {
        printf("  not run %s %s: this machine lacks it\n", name, level);
        k->skipped++;
        return;
    }
    if (run_body(k, body, mask)) {
        printf("  FAILED %s %s: %s: %s\n", name, level, k->text, k->message);
        k->failed++;
        return;
    }
    k->passed++;
    if (k->verbose) printf("  ok %s %s\n", name, level);
    if (!k->bench || !bench) return;
    start_entry(k, name, level);
    if (run_body(k, bench, mask)) {
        printf("  FAILED bench of %s %s: %s\n", name, level, k->message);
        k->failed++;
    }
}

/* --test takes an entry ("f32.add") or a suite ("f32"). */
static bool is_selected(const checkkern *k, const char *name)
{
    if (!k->only || !strcmp(k->only, name)) return true;
    size_t n = strlen(k->only);
    return !strncmp(k->only, name, n) && name[n] == '.';
}

void checkkern_entry(checkkern *k, const char *name, const char *const *levels, checkkern_body *body,
                     checkkern_body *bench)
{
    if (!is_selected(k, name)) return;
    k->selected++;
    k->rate_count = 0;
    if (k->list) printf("%s", name);
    for (; *levels; levels++) {
        if (k->list) printf(" %s", *levels);
        else run_level(k, name, *levels, body, bench);
    }
    if (k->list) printf("\n");
    fflush(stdout);
}

void checkkern_case(checkkern *k, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(k->text, sizeof k->text, format, args);
    va_end(args);
    k->used = 0;
}

bool checkkern_full(const checkkern *k)
{
    return k->full;
}

int checkkern_count(const checkkern *k, int quick_count, int full_count)
{
    return k->full ? full_count : quick_count;
}

oct_rng *checkkern_rng(checkkern *k)
{
    return &k->rng;
}

int checkkern_random(checkkern *k, int lo, int hi)
{
    return lo + (int)oct_rng_below(&k->rng, (uint32_t)(hi - lo) + 1u);
}

void checkkern_random_bytes(checkkern *k, void *out, size_t bytes)
{
    unsigned char *at = out;
    while (bytes) {
        uint32_t word = oct_rng_u32(&k->rng);
        size_t n = bytes < sizeof word ? bytes : sizeof word;
        memcpy(at, &word, n);
        at += n;
        bytes -= n;
    }
}

/* ---- guarded memory ---- */

static void map_guarded(checkkern *k, guarded *g, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages_bytes = (bytes + page - 1) / page * page;
    if (g->pages && g->pages_bytes >= pages_bytes) return;
    if (g->map) munmap(g->map, g->pages_bytes + 2 * page);
    g->pages = NULL;
    void *map = mmap(NULL, pages_bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g->map = map == MAP_FAILED ? NULL : map;
    if (!g->map || mprotect(g->map + page, pages_bytes, PROT_READ | PROT_WRITE))
        checkkern_fail(k, "no memory for a guarded block of %zu bytes", bytes);
    g->pages = g->map + page;
    g->pages_bytes = pages_bytes;
}

/* The checked part of what lies before and behind a block. */
static void margins(const guarded *g, unsigned char **before, size_t *before_bytes, unsigned char **after,
                    size_t *after_bytes)
{
    size_t lead = (size_t)(g->block - g->pages);
    size_t trail = g->pages_bytes - lead - g->bytes;
    *before_bytes = lead < MARGIN_CHECKED ? lead : MARGIN_CHECKED;
    *after_bytes = trail < MARGIN_CHECKED ? trail : MARGIN_CHECKED;
    *before = g->block - *before_bytes;
    *after = g->block + g->bytes;
}

void *cg_alloc(checkkern *k, size_t bytes, int where)
{
    if (k->used == CG_BLOCKS) checkkern_fail(k, "a case uses more than %d guarded blocks", CG_BLOCKS);
    guarded *g = &k->blocks[k->used++];
    size_t offset = where == CG_END ? CG_MARGIN : (size_t)where;
    map_guarded(k, g, offset + bytes + CG_MARGIN);
    g->block = where == CG_END ? g->pages + g->pages_bytes - bytes : g->pages + offset;
    g->bytes = bytes;
    g->is_input = 0;
    unsigned char *before, *after;
    size_t before_bytes, after_bytes;
    margins(g, &before, &before_bytes, &after, &after_bytes);
    memset(before, CG_FILL, before_bytes + bytes + after_bytes);
    return g->block;
}

void cg_input(checkkern *k, const void *block)
{
    for (int i = 0; i < k->used; i++) {
        guarded *g = &k->blocks[i];
        if (g->block != block) continue;
        g->is_input = 1;
        g->hash = hash_bytes(g->block, g->bytes);
        return;
    }
    checkkern_fail(k, "cg_input: not a guarded block of this case");
}

int cg_where(int index, size_t size)
{
    static const int elements[CG_PLACES] = {0, CG_END, 1, 7};
    return elements[index] == CG_END ? CG_END : elements[index] * (int)size;
}

/* Index of the first byte that is not CG_FILL, or `bytes`. */
static size_t first_written(const unsigned char *at, size_t bytes)
{
    size_t i = 0;
    while (i < bytes && at[i] == CG_FILL) i++;
    return i;
}

static void check_block(checkkern *k, int index)
{
    const guarded *g = &k->blocks[index];
    unsigned char *before, *after;
    size_t before_bytes, after_bytes;
    margins(g, &before, &before_bytes, &after, &after_bytes);
    size_t at = first_written(before, before_bytes);
    if (at < before_bytes)
        checkkern_fail(k, "wrote %zu bytes before block %d of %zu bytes", before_bytes - at, index, g->bytes);
    at = first_written(after, after_bytes);
    if (at < after_bytes)
        checkkern_fail(k, "wrote at byte %zu behind block %d of %zu bytes", at, index, g->bytes);
    if (g->is_input && hash_bytes(g->block, g->bytes) != g->hash)
        checkkern_fail(k, "changed its input, block %d", index);
}

/* Control bits of MXCSR or FPCR: masks, rounding, flush to zero, denormals are zero; not the sticky flags. */
static unsigned float_control(void)
{
#if defined(__x86_64__)
    return _mm_getcsr() & ~0x3fu;
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return (unsigned)control;
#else
    return 0;
#endif
}

void checkkern_call_begin(checkkern *k)
{
    k->control = float_control();
}

void checkkern_call_end(checkkern *k)
{
    if (float_control() != k->control) checkkern_fail(k, "changed the control bits of floating point");
    for (int i = 0; i < k->used; i++) check_block(k, i);
}

void checkkern_same_bytes(checkkern *k, const char *what, const void *got, const void *want, size_t bytes)
{
    if (!bytes || !memcmp(got, want, bytes)) return;
    const unsigned char *g = got, *w = want;
    size_t i = 0;
    while (g[i] == w[i]) i++;
    checkkern_fail(k, "%s: byte %zu is 0x%02x, expected 0x%02x", what, i, g[i], w[i]);
}

void checkkern_same_i32(checkkern *k, const char *what, const int32_t *got, const int32_t *want, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (got[i] != want[i])
            checkkern_fail(k, "%s[%zu] is %" PRId32 ", expected %" PRId32, what, i, got[i], want[i]);
    }
}

void checkkern_same_f32(checkkern *k, const char *what, const float *got, const float *want, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(&got[i], &want[i], sizeof got[i]))
            checkkern_fail(k, "%s[%zu] is %.9g, expected %.9g", what, i, (double)got[i], (double)want[i]);
    }
}

/* ---- bench ---- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double batch(void (*call)(void *), void *arg, long calls)
{
    double start = now();
    for (long i = 0; i < calls; i++) call(arg);
    return now() - start;
}

double checkkern_seconds(checkkern *k, void (*call)(void *), void *arg)
{
    const double batch_seconds = k->full ? 0.02 : 0.004;
    long calls = 1;
    double t = batch(call, arg, calls);
    while (t < batch_seconds) {
        calls = t < 1e-7 ? calls * 16 : calls * 2;
        t = batch(call, arg, calls);
    }
    for (int i = 0; i < 9; i++) {
        double again = batch(call, arg, calls);
        if (again < t) t = again;
    }
    return t / (double)calls;
}

void checkkern_rate(checkkern *k, const char *shape, double seconds, double work, const char *unit)
{
    int i = 0;
    while (i < k->rate_count && strcmp(k->rates[i].shape, shape) != 0) i++;
    if (i == k->rate_count && i < RATE_SHAPES) {
        snprintf(k->rates[i].shape, SHAPE_BYTES, "%s", shape);
        k->rates[i].seconds = seconds;
        k->rate_count++;
    }
    double ratio = i < RATE_SHAPES ? k->rates[i].seconds / seconds : 0.0;
    printf("  bench %-22s %-10s %-40s %8.1f %-8s %6.2fx\n", k->name, k->level, shape, 1e-9 * work / seconds,
           unit, ratio);
}

/* ---- main ---- */

static int usage(const char *problem, const char *argument)
{
    fprintf(stderr,
            "checkkern: %s%s\n"
            "usage: checkkern [--test NAME] [--list] [--full] [--bench] [--verbose] [--seed N] [--require=L]\n"
            "  NAME: entry or suite, as --list prints them. --require fails without level L.\n",
            problem, argument);
    return 2;
}

static int require_level(const checkkern *k, const char *level)
{
    uint32_t mask = 0;
    oct_error error = {0};
    if (oct_cpu_parse(&mask, level, &error) != OCT_OK) return usage(error.message, "");
    if (mask & ~k->machine) return usage("this machine lacks the required level ", level);
    return 0;
}

static int parse_options(checkkern *k, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (!strcmp(a, "--list")) k->list = true;
        else if (!strcmp(a, "--full")) k->full = true;
        else if (!strcmp(a, "--bench")) k->bench = true;
        else if (!strcmp(a, "--verbose")) k->verbose = true;
        else if (!strcmp(a, "--test") && i + 1 < argc) k->only = argv[++i];
        else if (!strncmp(a, "--test=", 7)) k->only = a + 7;
        else if (!strcmp(a, "--seed") && i + 1 < argc) k->seed = strtoull(argv[++i], NULL, 0);
        else if (!strncmp(a, "--seed=", 7)) k->seed = strtoull(a + 7, NULL, 0);
        else if (!strncmp(a, "--require=", 10)) {
            int status = require_level(k, a + 10);
            if (status) return status;
        } else return usage("unknown or incomplete option ", a);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static checkkern k = {.seed = 1};
    k.machine = oct_cpu_detect();
    int status = parse_options(&k, argc, argv);
    if (status) return status;
    if (!k.list) printf("checkkern: seed %" PRIu64 "%s\n", k.seed, k.full ? ", full" : "");
    catch_crashes();
    check_f32(&k);
    check_i8(&k);
    if (!k.selected) return usage("no such entry or suite: ", k.only ? k.only : "(none)");
    if (k.list) return 0;
    if (!k.passed && !k.failed) printf("  FAILED: nothing was tested\n");
    printf("checkkern: %d passed, %d failed, %d skipped\n", k.passed, k.failed, k.skipped);
    return k.failed || !k.passed;
}
