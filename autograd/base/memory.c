/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/base/memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct oct_arena_block {
    struct oct_arena_block *next;
    size_t capacity, used;
};

/* The header of a block takes one alignment unit so that the first piece is aligned. */
_Static_assert(sizeof(struct oct_arena_block) <= OCT_ALIGNMENT, "arena block header must fit one alignment unit");

static atomic_long fail_countdown;

bool oct_size_mul(size_t *out, size_t a, size_t b)
{
    if (b && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

bool oct_size_add(size_t *out, size_t a, size_t b)
{
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}

size_t oct_size_align(size_t bytes)
{
    return (bytes + (OCT_ALIGNMENT - 1)) & ~(size_t)(OCT_ALIGNMENT - 1);
}

void oct_alloc_fail_after(long n)
{
    atomic_store(&fail_countdown, n);
}

static bool allocation_must_fail(void)
{
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) <= 0) return false;
    return atomic_fetch_sub(&fail_countdown, 1) == 1;
}

void *oct_alloc(size_t count, size_t size)
{
    size_t bytes;
    if (!oct_size_mul(&bytes, count, size) || bytes > SIZE_MAX / 2 || allocation_must_fail()) return NULL;
    return aligned_alloc(OCT_ALIGNMENT, oct_size_align(bytes ? bytes : 1));
}

void *oct_calloc(size_t count, size_t size)
{
    void *block = oct_alloc(count, size);
    if (block) memset(block, 0, count * size);
    return block;
}

void *oct_realloc(void *block, size_t used_bytes, size_t count, size_t size)
{
    void *grown = oct_alloc(count, size);
    if (!grown) return NULL;
    if (block && used_bytes) memcpy(grown, block, used_bytes);
    oct_free(block);
    return grown;
}

void oct_free(void *block)
{
    free(block);
}

char *oct_strdup(const char *text)
{
    if (!text) return NULL;
    size_t bytes = strlen(text) + 1;
    char *copy = oct_alloc(bytes, 1);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

void oct_arena_init(oct_arena *arena, size_t block_bytes)
{
    *arena = (oct_arena){.block_bytes = block_bytes ? block_bytes : (size_t)64 << 10};
}

void *oct_arena_alloc(oct_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (!oct_size_mul(&bytes, count, size) || bytes > SIZE_MAX / 2) return NULL;
    bytes = oct_size_align(bytes ? bytes : 1);
    struct oct_arena_block *block = arena->blocks;
    if (!block || block->capacity - block->used < bytes) {
        size_t capacity = bytes > arena->block_bytes ? bytes : arena->block_bytes;
        block = oct_alloc(OCT_ALIGNMENT + capacity, 1);
        if (!block) return NULL;
        *block = (struct oct_arena_block){.next = arena->blocks, .capacity = capacity};
        arena->blocks = block;
    }
    unsigned char *piece = (unsigned char *)block + OCT_ALIGNMENT + block->used;
    block->used += bytes;
    arena->used_bytes += bytes;
    return memset(piece, 0, bytes);
}

char *oct_arena_strdup(oct_arena *arena, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = oct_arena_alloc(arena, bytes, 1);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

void oct_arena_release(oct_arena *arena)
{
    while (arena->blocks) {
        struct oct_arena_block *next = arena->blocks->next;
        oct_free(arena->blocks);
        arena->blocks = next;
    }
    arena->used_bytes = 0;
}
