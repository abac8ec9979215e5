/* SPDX-License-Identifier: BSD-2-Clause
 * Little- and big-endian reads and writes at any alignment, and the 64-bit digest used by our files.
 */
#ifndef OCT_BASE_BYTES_H
#define OCT_BASE_BYTES_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t oct_load_le32(const void *p)
{
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t oct_load_le64(const void *p)
{
    return (uint64_t)oct_load_le32(p) | (uint64_t)oct_load_le32((const uint8_t *)p + 4) << 32;
}

static inline uint32_t oct_load_be32(const void *p)
{
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[3] | (uint32_t)b[2] << 8 | (uint32_t)b[1] << 16 | (uint32_t)b[0] << 24;
}

static inline void oct_store_le32(void *p, uint32_t v)
{
    uint8_t *b = (uint8_t *)p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)(v >> 16);
    b[3] = (uint8_t)(v >> 24);
}

static inline void oct_store_le64(void *p, uint64_t v)
{
    oct_store_le32(p, (uint32_t)v);
    oct_store_le32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

#define OCT_DIGEST_START UINT64_C(0xcbf29ce484222325)
/* FNV-1a, 64 bit (Fowler, Noll, Vo): guards against accidents, not against an adversary. Chain calls by
 * passing the previous result; start with OCT_DIGEST_START. */
uint64_t oct_digest(uint64_t digest, const void *bytes, size_t size);

#endif
