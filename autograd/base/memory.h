/* SPDX-License-Identifier: BSD-2-Clause
 * Checked sizes, aligned allocation and arenas. Everything is aligned to 64 bytes (one cache line, one
 * AVX-512 vector). Not thread-safe per object; independent objects may be used by independent threads.
 */
#ifndef OCT_BASE_MEMORY_H
#define OCT_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/base/status.h"

#define OCT_ALIGNMENT 64

/* *out = a * b, or false (and *out untouched) on overflow. */
bool oct_size_mul(size_t *out, size_t a, size_t b);
/* *out = a + b, or false on overflow. */
bool oct_size_add(size_t *out, size_t a, size_t b);
/* bytes rounded up to a multiple of OCT_ALIGNMENT. bytes must be <= SIZE_MAX - 63. */
size_t oct_size_align(size_t bytes);

/* count * size bytes, 64-byte aligned; NULL on overflow or when memory is out. Zero bytes give a valid
 * pointer. The caller frees with oct_free. Contents: undefined for alloc, zero for calloc. */
void *oct_alloc(size_t count, size_t size);
void *oct_calloc(size_t count, size_t size);
/* Grows a block from oct_alloc keeping `used_bytes` of content; NULL on failure leaves the old block alone. */
void *oct_realloc(void *block, size_t used_bytes, size_t count, size_t size);
void oct_free(void *block); /* NULL is allowed */
/* Copy of a string, freed with oct_free; NULL when memory is out or text is NULL. */
char *oct_strdup(const char *text);

/* Test hook: makes the n-th allocation from now on fail (1 = the next one), once; 0 switches it off. The
 * only process-wide state of the library, there for the allocation-failure tests. */
void oct_alloc_fail_after(long n);

/* Bump allocator: pieces are never freed one by one, the arena is reset or released as a whole. */
typedef struct oct_arena {
    struct oct_arena_block *blocks; /* newest first */
    size_t block_bytes;             /* size of the next block */
    size_t used_bytes;              /* handed out since the last reset, for reports */
} oct_arena;

void oct_arena_init(oct_arena *arena, size_t block_bytes); /* block_bytes 0 = 64 KiB */
/* count * size zeroed bytes, 64-byte aligned; NULL on overflow or when memory is out. */
void *oct_arena_alloc(oct_arena *arena, size_t count, size_t size);
char *oct_arena_strdup(oct_arena *arena, const char *text);
void oct_arena_release(oct_arena *arena); /* frees everything; the arena may be used again */

#endif
