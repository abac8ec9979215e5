/* SPDX-License-Identifier: BSD-2-Clause
 * Harness that compares every kernel variant with its C reference, on guarded memory.
 *
 * One suite per kernel table (check_f32.c, check_i8.c). A suite calls checkkern_entry once per table entry;
 * the harness runs the entry's body at each level, catches crashes, counts, and prints. A body looks like
 * this:
 *
 *     static void check_add(checkkern *k, uint32_t mask)
 *     {
 *         oct_f32_kernels c, t;
 *         oct_f32_kernels_init(&c, 0);
 *         oct_f32_kernels_init(&t, mask);
 *         for (int n = 1; n <= 65; n++) {
 *             checkkern_case(k, "n %d", n); // names the case, releases the memory of the last one
 *             float *a = cg_alloc(k, (size_t)n * sizeof *a, CG_END);
 *             float *b = cg_alloc(k, (size_t)n * sizeof *b, 0);
 *             ... fill a and b ...
 *             cg_input(k, a); // must not change from here on
 *             cg_input(k, b);
 *             float *want = cg_alloc(k, ...), *got = cg_alloc(k, ...); // holds 0x99 bytes
 *             c.add(want, a, b, n);
 *             checkkern_call_begin(k);
 *             t.add(got, a, b, n);
 *             checkkern_call_end(k); // margins, inputs, MXCSR
 *             checkkern_same_bytes(k, "y", got, want, (size_t)n * sizeof *got);
 *         }
 *     }
 *     ...
 *     checkkern_entry(k, "f32.add", levels, check_add, bench_add);
 *
 * A failure ends the body (the functions below that can fail do not return then): one failure per entry and
 * level. Bodies therefore own nothing outside the guarded pool. Not thread-safe: everything runs in one
 * thread.
 */
#ifndef OCT_TESTS_CHECKKERN_H
#define OCT_TESTS_CHECKKERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/rng.h"
#include "autograd/base/status.h"

typedef struct checkkern checkkern;

/* The suites. */
void check_f32(checkkern *k);
void check_i8(checkkern *k);

/* Body of one entry at one level. mask is the level's feature set (oct_cpu_parse), 0 for "c"; always within
 * what this machine has. */
typedef void checkkern_body(checkkern *k, uint32_t mask);

/* Runs `body` for entry `name` ("suite.entry") at each of `levels` (names of base/cpu.h, NULL-terminated, "c"
 * first). Levels this machine lacks count as skipped. bench may be NULL; it runs with --bench at the levels
 * that passed. */
void checkkern_entry(checkkern *k, const char *name, const char *const *levels, checkkern_body *body,
                     checkkern_body *bench);

/* Starts a case: its description is printed when it fails. Releases the guarded memory of the last case. */
void checkkern_case(checkkern *k, const char *format, ...) OCT_PRINTF(2, 3);
/* Fails the current entry at the current level and leaves the body. */
_Noreturn void checkkern_fail(checkkern *k, const char *format, ...) OCT_PRINTF(2, 3);

/* --full was given: more and larger cases. */
bool checkkern_full(const checkkern *k);
/* full_count with --full, else quick_count. */
int checkkern_count(const checkkern *k, int quick_count, int full_count);

/* Random numbers: one stream per entry, a function of --seed and the entry's name, so that one entry alone
 * and every level see the same numbers. */
oct_rng *checkkern_rng(checkkern *k);
/* Uniform in [lo, hi], both included. */
int checkkern_random(checkkern *k, int lo, int hi);
void checkkern_random_bytes(checkkern *k, void *out, size_t bytes);

/* Guarded memory. `bytes` bytes between unmapped pages, filled with CG_FILL; what lies between the block and
 * the guard pages (at least CG_MARGIN bytes on each side that is not flush) holds CG_FILL too and is compared
 * by checkkern_call_end. `where`: bytes between the unmapped page before and the block (0: flush at the
 * start), or CG_END: flush against the unmapped page after it. The block is aligned to 64 when `where` is a
 * multiple of 64, or with CG_END when `bytes` is. Zero bytes are allowed. Lives until the next
 * checkkern_case; at most CG_BLOCKS per case. */
enum { CG_END = -1, CG_FILL = 0x99, CG_MARGIN = 256, CG_BLOCKS = 24 };
void *cg_alloc(checkkern *k, size_t bytes, int where);
/* Declares a block (as cg_alloc returned it) an input: it must not change until the next case. */
void cg_input(checkkern *k, const void *block);
/* The places worth trying: flush at the start, flush at the end, then odd offsets. size = bytes of an element
 * (offsets are multiples of it). where = cg_where(i, size) for i < CG_PLACES. */
enum { CG_PLACES = 4 };
int cg_where(int index, size_t size);

/* Around each call of the kernel under test: afterwards checks the margins of all blocks, the inputs, and
 * that the control bits of MXCSR are as they were. */
void checkkern_call_begin(checkkern *k);
void checkkern_call_end(checkkern *k);

/* Fails naming the first byte that differs. */
void checkkern_same_bytes(checkkern *k, const char *what, const void *got, const void *want, size_t bytes);
/* The same for elements, which reads better; floats are compared as bits. */
void checkkern_same_i32(checkkern *k, const char *what, const int32_t *got, const int32_t *want,
                        size_t count);
void checkkern_same_f32(checkkern *k, const char *what, const float *got, const float *want, size_t count);

/* For bench bodies. Seconds per call of `call(arg)`: the best of several batches. */
double checkkern_seconds(checkkern *k, void (*call)(void *), void *arg);
/* Prints one line: work/seconds in units of 1e9 (`unit`, for example "GFLOP/s") and the ratio to level "c" of
 * the same entry and shape. */
void checkkern_rate(checkkern *k, const char *shape, double seconds, double work, const char *unit);

#endif
