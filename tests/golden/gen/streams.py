# SPDX-License-Identifier: BSD-2-Clause
"""Octet's random streams (autograd/base/rng.h) in numpy: what the golden tests feed both sides with."""
import numpy as np

SEED, SYNTHETIC = 2024, 7
MASK = (1 << 64) - 1


def mix64(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def key(epoch, sample):
    return mix64(mix64(mix64(mix64(SEED) ^ SYNTHETIC) ^ epoch) ^ sample)


def digest(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def u32(stream, count):
    """The first `count` numbers of a stream: Philox4x32-10 of counters 0, 1, ..."""
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    c = [blocks & low, blocks >> shift, np.zeros_like(blocks), np.zeros_like(blocks)]
    k0, k1 = stream & 0xFFFFFFFF, stream >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> shift) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> shift) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).reshape(-1)[:count].astype(np.uint32)


def signed(name, count):
    u = (u32(key(0, digest(name)), count) >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
    return np.float32(2) * u - np.float32(1)
