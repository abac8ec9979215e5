/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/peak.h"

#include <time.h>

#include "autograd/base/cpu.h"
#include "autograd/base/par.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Runs `rounds` rounds; the sum of all chains goes to *sink so that nothing is left out. */
typedef void peak_loop(int64_t rounds, float *sink);

typedef struct peak_kernel {
    peak_loop *loop;
    int64_t operations; /* of a round */
    const char *level;
} peak_kernel;

enum { CHAINS = 12, ARRAY = 256 };

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
/* The compiler may not know what is in the register: no chain is the same as another one, no multiplication
 * moves out of the loop. Costs nothing. */
#define OPAQUE(constraint, v) __asm__("" : constraint(v))

static void loop_f32_c(int64_t rounds, float *sink)
{
    float sum[ARRAY], x[ARRAY], *p = x;
    for (int i = 0; i < ARRAY; i++) sum[i] = 1, x[i] = 0.5f;
    for (int64_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+r"(p) : : "memory");
        for (int i = 0; i < ARRAY; i++) sum[i] = sum[i] * 0.5f + p[i];
    }
    for (int i = 0; i < ARRAY; i++) *sink += sum[i];
}

static void loop_int8_c(int64_t rounds, float *sink)
{
    int32_t sum[ARRAY] = {0};
    uint8_t x[ARRAY], *p = x;
    int8_t w[ARRAY], *q = w;
    for (int i = 0; i < ARRAY; i++) x[i] = 3, w[i] = (int8_t)(i % 3 - 1);
    for (int64_t r = 0; r < rounds; r++) {
        __asm__ volatile("" : "+r"(p), "+r"(q) : : "memory");
        for (int i = 0; i < ARRAY; i++) sum[i] = (int32_t)((uint32_t)sum[i] + (uint32_t)(p[i] * q[i]));
    }
    for (int i = 0; i < ARRAY; i++) *sink += (float)sum[i];
}

#if defined(__x86_64__)

/* f32: a <- a*0.5 + 1 stays near 2: neither denormal nor infinite. */
#define F32_LOOP(name, attribute, vector, set1, zero, fma, add, store, lanes, constraint)                    \
    attribute static void name(int64_t rounds, float *sink)                                                  \
    {                                                                                                        \
        vector sum[CHAINS], half = set1(0.5f), one = set1(1.0f);                                             \
        float out[lanes];                                                                                    \
        UNROLL for (int i = 0; i < CHAINS; i++)                                                              \
        {                                                                                                    \
            sum[i] = zero();                                                                                 \
            OPAQUE(constraint, sum[i]);                                                                      \
        }                                                                                                    \
        for (int64_t r = 0; r < rounds; r++) {                                                               \
            OPAQUE(constraint, half);                                                                        \
            UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = fma(sum[i], half, one);                         \
        }                                                                                                    \
        UNROLL for (int i = 1; i < CHAINS; i++) sum[0] = add(sum[0], sum[i]);                                \
        store(out, sum[0]);                                                                                  \
        for (int i = 0; i < lanes; i++) *sink += out[i];                                                     \
    }

/* int8: sums of 32 bits, which wrap around. `dot` may use x, w and ones. */
#define INT8_LOOP(name, attribute, vector, set8, set16, zero, dot, add, store, lanes, constraint)            \
    attribute static void name(int64_t rounds, float *sink)                                                  \
    {                                                                                                        \
        vector sum[CHAINS], x = set8(3), w = set8(-1), ones = set16(1);                                      \
        int32_t out[lanes];                                                                                  \
        (void)ones;                                                                                          \
        UNROLL for (int i = 0; i < CHAINS; i++)                                                              \
        {                                                                                                    \
            sum[i] = zero();                                                                                 \
            OPAQUE(constraint, sum[i]);                                                                      \
        }                                                                                                    \
        for (int64_t r = 0; r < rounds; r++) {                                                               \
            UNROLL for (int i = 0; i < CHAINS; i++)                                                          \
            {                                                                                                \
                OPAQUE(constraint, x);                                                                       \
                sum[i] = dot(sum[i], x, w);                                                                  \
            }                                                                                                \
        }                                                                                                    \
        UNROLL for (int i = 1; i < CHAINS; i++) sum[0] = add(sum[0], sum[i]);                                \
        store((void *)out, sum[0]);                                                                          \
        for (int i = 0; i < lanes; i++) *sink += (float)out[i];                                              \
    }

#define DOT_MADDUBS_256(s, x, w) _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones))
#define DOT_MADDUBS_512(s, x, w) _mm512_add_epi32(s, _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), ones))

#define ON_AVX2 __attribute__((target("avx2,fma")))
#define ON_AVXVNNI __attribute__((target("avx2,avxvnni")))
#define ON_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define ON_AVX512VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

F32_LOOP(loop_f32_avx2, ON_AVX2, __m256, _mm256_set1_ps, _mm256_setzero_ps, _mm256_fmadd_ps, _mm256_add_ps,
         _mm256_storeu_ps, 8, "+x")
F32_LOOP(loop_f32_avx512, ON_AVX512, __m512, _mm512_set1_ps, _mm512_setzero_ps, _mm512_fmadd_ps,
         _mm512_add_ps, _mm512_storeu_ps, 16, "+v")
INT8_LOOP(loop_int8_avx2, ON_AVX2, __m256i, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256,
          DOT_MADDUBS_256, _mm256_add_epi32, _mm256_storeu_si256, 8, "+x")
INT8_LOOP(loop_int8_avxvnni, ON_AVXVNNI, __m256i, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256,
          _mm256_dpbusd_avx_epi32, _mm256_add_epi32, _mm256_storeu_si256, 8, "+x")
INT8_LOOP(loop_int8_avx512, ON_AVX512, __m512i, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_setzero_si512,
          DOT_MADDUBS_512, _mm512_add_epi32, _mm512_storeu_si512, 16, "+v")
INT8_LOOP(loop_int8_avx512vnni, ON_AVX512VNNI, __m512i, _mm512_set1_epi8, _mm512_set1_epi16,
          _mm512_setzero_si512, _mm512_dpbusd_epi32, _mm512_add_epi32, _mm512_storeu_si512, 16, "+v")
#endif

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct peak_job {
    peak_loop *loop;
    int64_t rounds;
} peak_job;

static void run_item(void *arg, int64_t item, int thread)
{
    const peak_job *job = arg;
    volatile float sink;
    float sum = 0;
    (void)item;
    (void)thread;
    job->loop(job->rounds, &sum);
    sink = sum;
    (void)sink;
}

/* One item per thread: all are busy from the first to the last moment of a trial. */
static double trial(peak_job *job, int threads)
{
    double start = now_seconds();
    oct_parallel_for(threads, threads, run_item, job);
    return now_seconds() - start;
}

static peak_rate measure(const peak_kernel *kernel, int threads)
{
    const double shortest = 0.006; /* seconds: starting the threads no longer counts */
    const int trials = 5;
    peak_job job = {kernel->loop, 512};
    double best = 0;
    while (best < shortest) {
        job.rounds *= 2;
        best = trial(&job, threads);
        for (int i = 1; i < trials; i++) {
            double seconds = trial(&job, threads);
            if (seconds < best) best = seconds;
        }
    }
    double operations = (double)kernel->operations * (double)job.rounds * threads;
    return (peak_rate){operations / best * 1e-9, kernel->level};
}

peak_rate peak_f32(int threads, uint32_t cpu_mask)
{
    peak_kernel k = {loop_f32_c, 2 * ARRAY, "c"};
#if defined(__x86_64__)
    if (cpu_mask & OCT_CPU_AVX2) k = (peak_kernel){loop_f32_avx2, 2 * CHAINS * 8, "avx2"};
    if (cpu_mask & OCT_CPU_AVX512) k = (peak_kernel){loop_f32_avx512, 2 * CHAINS * 16, "avx512"};
#else
    (void)cpu_mask;
#endif
    return measure(&k, threads);
}

peak_rate peak_int8(int threads, uint32_t cpu_mask)
{
    peak_kernel k = {loop_int8_c, 2 * ARRAY, "c"};
#if defined(__x86_64__)
    if (cpu_mask & OCT_CPU_AVX2) k = (peak_kernel){loop_int8_avx2, 2 * CHAINS * 32, "avx2"};
    if (cpu_mask & OCT_CPU_AVX512) k = (peak_kernel){loop_int8_avx512, 2 * CHAINS * 64, "avx512"};
    if (cpu_mask & OCT_CPU_AVXVNNI) k = (peak_kernel){loop_int8_avxvnni, 2 * CHAINS * 32, "avxvnni"};
    if (cpu_mask & OCT_CPU_AVX512VNNI) k = (peak_kernel){loop_int8_avx512vnni, 2 * CHAINS * 64, "avx512vnni"};
#else
    (void)cpu_mask;
#endif
    return measure(&k, threads);
}
