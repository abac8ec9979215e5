/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/base/bytes.h"

uint64_t oct_digest(uint64_t digest, const void *bytes, size_t size)
{
    const uint8_t *b = bytes;
    for (size_t i = 0; i < size; i++) digest = (digest ^ b[i]) * UINT64_C(0x100000001b3);
    return digest;
}
