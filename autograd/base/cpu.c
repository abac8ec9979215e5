/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/base/cpu.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static const struct {
    const char *name;
    uint32_t features;
} levels[] = {
    {"c", 0},
    {"avx2", OCT_CPU_AVX2},
    {"avxvnni", OCT_CPU_AVX2 | OCT_CPU_AVXVNNI},
    {"avx512", OCT_CPU_AVX2 | OCT_CPU_AVX512},
    {"avx512vnni", OCT_CPU_AVX2 | OCT_CPU_AVX512 | OCT_CPU_AVX512VNNI},
    {"avx512bf16", OCT_CPU_AVX2 | OCT_CPU_AVX512 | OCT_CPU_AVX512VNNI | OCT_CPU_AVX512BF16},
    {"amx", OCT_CPU_AVX2 | OCT_CPU_AVX512 | OCT_CPU_AVX512VNNI | OCT_CPU_AVX512BF16 | OCT_CPU_AMX},
    {"neon", OCT_CPU_NEON},
    {"neondot", OCT_CPU_NEON | OCT_CPU_NEONDOT},
};
enum { LEVEL_COUNT = sizeof levels / sizeof levels[0] };

#if defined(__x86_64__)
static uint64_t enabled_state_components(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((uint64_t)hi << 32) | lo;
}

/* The system lets this process use the tile registers. */
static bool tiles_are_granted(uint64_t state)
{
    const uint64_t tile_state = 0x60000;
    if ((state & tile_state) != tile_state) return false;
#if defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* arch_prctl(2) */
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

uint32_t oct_cpu_detect(void)
{
    uint32_t a, b, c, d, mask = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const uint32_t fma_xsave_avx_f16c = 1u << 12 | 1u << 27 | 1u << 28 | 1u << 29;
    if ((c & fma_xsave_avx_f16c) != fma_xsave_avx_f16c) return 0;
    uint64_t state = enabled_state_components();
    if ((state & 0x6) != 0x6) return 0; /* XMM and YMM */
    uint32_t b7, c7, d7;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    uint32_t subleaves = a;
    if (!(b7 & 1u << 5) || !(b7 & 1u << 8)) return 0; /* AVX2, BMI2 */
    mask |= OCT_CPU_AVX2;
    uint32_t a71 = 0;
    if (subleaves >= 1) {
        uint32_t b71, c71, d71;
        if (!__get_cpuid_count(7, 1, &a71, &b71, &c71, &d71)) a71 = 0;
    }
    if (a71 & 1u << 4) mask |= OCT_CPU_AVXVNNI;
    const uint32_t f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    if ((b7 & f_dq_bw_vl) == f_dq_bw_vl && (state & 0xe6) == 0xe6) { /* and opmask, ZMM */
        mask |= OCT_CPU_AVX512;
        if (c7 & 1u << 11) mask |= OCT_CPU_AVX512VNNI;
        if (a71 & 1u << 5) mask |= OCT_CPU_AVX512BF16;
        const uint32_t bf16_tile_int8 = 1u << 22 | 1u << 24 | 1u << 25;
        if ((d7 & bf16_tile_int8) == bf16_tile_int8 && tiles_are_granted(state)) mask |= OCT_CPU_AMX;
    }
    return mask;
}
#elif defined(__aarch64__)
uint32_t oct_cpu_detect(void)
{
    uint32_t mask = OCT_CPU_NEON;
#if defined(__linux__)
    if (getauxval(AT_HWCAP) & 1ul << 20) mask |= OCT_CPU_NEONDOT; /* HWCAP_ASIMDDP */
#endif
    return mask;
}
#else
uint32_t oct_cpu_detect(void)
{
    return 0;
}
#endif

oct_status oct_cpu_parse(uint32_t *mask, const char *level, oct_error *error)
{
    for (int i = 0; i < LEVEL_COUNT; i++) {
        if (!strcmp(levels[i].name, level)) {
            *mask = levels[i].features;
            return OCT_OK;
        }
    }
    return oct_fail(error, OCT_ERR_ARGUMENT,
                    "unknown CPU level '%s': expected c, avx2, avxvnni, avx512, avx512vnni, avx512bf16, amx, neon or neondot",
                    level);
}

oct_status oct_cpu_from_environment(uint32_t *mask, oct_error *error)
{
    uint32_t machine = oct_cpu_detect();
    const char *level = getenv("OCT_CPU");
    if (!level || !*level) {
        *mask = machine;
        return OCT_OK;
    }
    uint32_t wanted = 0;
    OCT_TRY(oct_cpu_parse(&wanted, level, error));
    if (wanted & ~machine)
        return oct_fail(error, OCT_ERR_UNSUPPORTED, "OCT_CPU=%s: this machine lacks that instruction set", level);
    *mask = wanted;
    return OCT_OK;
}

const char *oct_cpu_level_name(int index)
{
    return index >= 0 && index < LEVEL_COUNT ? levels[index].name : NULL;
}
