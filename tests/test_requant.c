/* SPDX-License-Identifier: BSD-2-Clause
 * The rounding rules of profile po2 (quant/int8/requant.h) on the values where implementations differ: ties,
 * the floats next to them, negative numbers, shifts outside the word. Expected values are tables or exact
 * rational bounds; nothing here calls the rule it judges. */
#include "quant/int8/requant.h"

#include <float.h>
#include <stdbool.h>

#include "autograd/base/rng.h"
#include "tests/testing.h"

/* Is q = floor(numerator/denominator + 1/2)?  That is (2q-1)*d <= 2n < (2q+1)*d. */
static bool is_half_up(int64_t q, __int128 numerator, __int128 denominator)
{
    return (2 * (__int128)q - 1) * denominator <= 2 * numerator &&
           2 * numerator < (2 * (__int128)q + 1) * denominator;
}

/* T3: the build does IEEE arithmetic. Operands are volatile so that the compiler cannot fold the questions.
 */
static void build_is_ieee(void)
{
    volatile float half = 0.5f, one_and_half = 1.5f, zero = 0, smallest = 0x1p-126f, x = 1 + 0x1p-12f,
                   y = 1 + 0x1p-11f;
    CU_ASSERT_EQUAL(nearbyintf(half), 0);
    CU_ASSERT_EQUAL(nearbyintf(one_and_half), 2);
    volatile float nan = zero / zero, other = nan;
    CU_ASSERT_TRUE(nan != other);
    CU_ASSERT_FALSE(nan == other);
    CU_ASSERT_TRUE(smallest / 2 > 0); /* subnormals are kept */
    CU_ASSERT_TRUE(isinf(1 / zero));
    float a = x, b = y;
    CU_ASSERT_EQUAL(a * a - b, 0); /* a fused multiply-add would leave 2^-24 */
    CU_ASSERT_EQUAL(FLT_EVAL_METHOD, 0);
}

/* T3: ties toward +infinity for activations. */
static void activation_ties_go_up(void)
{
    static const struct {
        float x;
        int32_t q;
    } table[] = {{0.5f, 1},       {1.5f, 2},         {2.5f, 3},         {-0.5f, 0},       {-1.5f, -1},
                 {-2.5f, -2},     {0.49999997f, 0},  {-0.49999997f, 0}, {0.50000006f, 1}, {-0.50000006f, -1},
                 {1.4999999f, 1}, {-1.5000001f, -2}, {2.4999998f, 2},   {126.5f, 127},    {-127.5f, -127},
                 {-0.0f, 0},      {0x1p-149f, 0},    {-0x1p-149f, 0}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        CU_ASSERT_EQUAL(oct_round_up_f32(table[i].x), (float)table[i].q);
        CU_ASSERT_EQUAL(oct_round_up_f64((double)table[i].x), (double)table[i].q);
        CU_ASSERT_EQUAL(oct_activation_code(table[i].x, 1, -128, 127), table[i].q);
        CU_ASSERT_EQUAL(oct_activation_code(table[i].x / 64, 64, -128, 127), table[i].q);
    }
    /* 2^23 + 1 + 0.5 does not exist; the sum x + 0.5f would round to 2^23 + 2. */
    CU_ASSERT_EQUAL(oct_round_up_f32(8388609.0f), 8388609.0f);
    CU_ASSERT_EQUAL(oct_round_up_f32(-8388609.0f), -8388609.0f);
    CU_ASSERT_EQUAL(oct_round_up_f64(0.49999999999999994), 0);
}

/* T3: ties away from zero for weights and biases. */
static void weight_ties_go_away_from_zero(void)
{
    static const struct {
        double x;
        int32_t q;
    } table[] = {{0.5, 1},
                 {1.5, 2},
                 {2.5, 3},
                 {-0.5, -1},
                 {-1.5, -2},
                 {-2.5, -3},
                 {0.49999999999999994, 0},
                 {-0.49999999999999994, 0},
                 {(double)0.49999997f, 0},
                 {126.5, 127},
                 {-126.5, -127},
                 {-0.0, 0}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        CU_ASSERT_EQUAL(oct_weight_code(table[i].x, 1, -127, 127), table[i].q);
        CU_ASSERT_EQUAL(oct_weight_code(table[i].x / 128, 128, -127, 127), table[i].q);
    }
    CU_ASSERT_EQUAL(oct_weight_code(0.00390625, 128, -127, 127), 1); /* docs/quantization.md 3.1 */
    CU_ASSERT_EQUAL(oct_weight_code(-0.00390625, 128, -127, 127), -1);
}

/* T1: kappa is codes per unit, not units per code. */
static void kappa_is_not_inverted(void)
{
    CU_ASSERT_EQUAL((float)oct_activation_code(1.234f, 64, 0, 255) / 64, 1.234375f);
    CU_ASSERT_EQUAL(oct_activation_code(4.0f, 64, 0, 255), 255);
    CU_ASSERT_EQUAL(oct_activation_code(-0.2f, 64, 0, 255), 0);
    CU_ASSERT_EQUAL(oct_activation_code(1.234f, 32, -128, 127), 39);
    CU_ASSERT_EQUAL(oct_activation_code(-1.234f, 32, -128, 127), -39);
    CU_ASSERT_EQUAL(oct_activation_code(0.015625f, 32, -128, 127), 1);
    CU_ASSERT_EQUAL(oct_activation_code(-0.015625f, 32, -128, 127), 0);
}

static void codes_saturate_at_both_ends(void)
{
    CU_ASSERT_EQUAL(oct_activation_code(INFINITY, 64, 0, 255), 255);
    CU_ASSERT_EQUAL(oct_activation_code(-INFINITY, 64, -128, 127), -128);
    CU_ASSERT_EQUAL(oct_activation_code(3e38f, 0x1p24f, -128, 127), 127); /* the product overflows */
    CU_ASSERT_EQUAL(oct_activation_code(-3e38f, 0x1p24f, 0, 255), 0);
    CU_ASSERT_EQUAL(oct_activation_code(255.49999f, 1, 0, 255), 255);
    CU_ASSERT_EQUAL(oct_weight_code(1e300, 128, -127, 127), 127);
    CU_ASSERT_EQUAL(oct_weight_code(-1e300, 128, -127, 127), -127);
    CU_ASSERT_EQUAL(oct_weight_code(-1, 128, -127, 127), -127); /* narrow range: -128 does not exist */
    CU_ASSERT_EQUAL(oct_saturate_i64(INT64_MIN), INT32_MIN);
    CU_ASSERT_EQUAL(oct_saturate_i64((int64_t)INT32_MAX + 1), INT32_MAX);
    CU_ASSERT_EQUAL(oct_saturate_i64(-5), -5);
}

/* T5: weights are odd, activations are not (at ties). */
static void weights_are_odd_activations_are_not(void)
{
    oct_rng rng = oct_rng_start(5, OCT_RNG_SYNTHETIC, 0, 0);
    int asymmetric = 0;
    for (int i = 0; i < 100000; i++) {
        float x = (float)((int32_t)oct_rng_below(&rng, 1024) - 512) / 512; /* many ties at kappa 128 */
        int32_t q = oct_weight_code((double)x, 128, -127, 127);
        if (oct_weight_code(-(double)x, 128, -127, 127) != -q) CU_FAIL("a weight code is not odd");
        asymmetric += oct_activation_code(-x, 128, -128, 127) != -oct_activation_code(x, 128, -128, 127) &&
                      x != -1 && x != 1;
    }
    CU_ASSERT_TRUE(asymmetric > 1000);
    CU_ASSERT_EQUAL(oct_activation_code(0.5f / 128, 128, -128, 127), 1);
    CU_ASSERT_EQUAL(oct_activation_code(-0.5f / 128, 128, -128, 127), 0);
}

/* T4: idempotent, monotone, zero is exact, within half a step inside the range; every format and 1e5 values
 * each. */
static void fake_quant_is_idempotent_monotone_and_close(void)
{
    static const struct {
        int exponent, lo, hi;
    } formats[] = {{8, 0, 255},     {7, -128, 127},   {-3, 0, 255}, {24, 0, 255},
                   {23, -128, 127}, {-20, -128, 127}, {5, 0, 192}};
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++) {
        int lo = formats[f].lo, hi = formats[f].hi, unstable = 0, unordered = 0, far = 0;
        float kappa = ldexpf(1, formats[f].exponent), step = 1 / kappa;
        oct_rng rng = oct_rng_start(f, OCT_RNG_SYNTHETIC, 4, 0);
        for (int i = 0; i < 100000; i++) {
            float x = oct_rng_normal(&rng) * 100 * step,
                  z = nextafterf(x, INFINITY) + (float)(i % 3) * step / 4;
            int32_t q = oct_activation_code(x, kappa, lo, hi);
            float y = (float)q * step;
            unstable += oct_activation_code(y, kappa, lo, hi) != q;
            unordered += oct_activation_code(z, kappa, lo, hi) < q;
            far += x >= (float)lo * step && x <= (float)hi * step && fabsf(y - x) > step / 2;
        }
        CU_ASSERT_EQUAL(unstable, 0);
        CU_ASSERT_EQUAL(unordered, 0);
        CU_ASSERT_EQUAL(far, 0);
        CU_ASSERT_EQUAL(oct_activation_code(0, kappa, lo, hi), 0);
        CU_ASSERT_EQUAL(oct_weight_code(0, (double)kappa, -127, 127), 0);
    }
}

/* T2: one float above a power of two belongs to the next one; log2f gets this wrong. */
static void ceil_exponent_is_exact(void)
{
    for (int e = -126; e <= 127; e++) {
        float p = ldexpf(1, e);
        CU_ASSERT_EQUAL(oct_ceil_exponent((double)p), e);
        if (e < 127) CU_ASSERT_EQUAL(oct_ceil_exponent((double)nextafterf(p, INFINITY)), e + 1);
        if (e > -126) CU_ASSERT_EQUAL(oct_ceil_exponent((double)nextafterf(p, 0)), e);
        CU_ASSERT_EQUAL(oct_ceil_exponent(nextafter((double)p, (double)INFINITY)), e + 1);
    }
    CU_ASSERT_EQUAL(oct_ceil_exponent(0x1p-1074), -1074);
    CU_ASSERT_EQUAL(oct_ceil_exponent(3.1), 2);
    CU_ASSERT_EQUAL(oct_ceil_exponent(DBL_MAX), 1024);
}

/* T18 */
static void rshift_round_table(void)
{
    static const struct {
        int32_t acc;
        int n;
        int32_t q;
    } table[] = {{-3, 1, -1},
                 {-1, 1, 0},
                 {1, 1, 1},
                 {3, 1, 2},
                 {-5, 1, -2},
                 {-6, 2, -1},
                 {6, 2, 2},
                 {-2, 2, 0},
                 {2, 2, 1},
                 {7, 0, 7},
                 {INT32_MIN, 0, INT32_MIN},
                 {INT32_MAX, 0, INT32_MAX},
                 {3, -2, 12},
                 {-3, -2, -12},
                 {INT32_MAX, -1, INT32_MAX},
                 {INT32_MIN, -1, INT32_MIN},
                 {1, -31, INT32_MAX},
                 {-1, -31, INT32_MIN},
                 {1, -30, 1 << 30},
                 {1, -1000, INT32_MAX},
                 {-1, -1000, INT32_MIN},
                 {0, -1000, 0},
                 {1 << 23, 24, 1},
                 {(1 << 23) - 1, 24, 0},
                 {-(1 << 23), 24, 0},
                 {-(1 << 23) - 1, 24, -1},
                 {INT32_MAX, 1, 1 << 30},
                 {INT32_MAX, 31, 1},
                 {INT32_MIN, 31, -1},
                 {1 << 30, 31, 1},
                 {(1 << 30) - 1, 31, 0},
                 {-(1 << 30), 31, 0},
                 {-(1 << 30) - 1, 31, -1},
                 {INT32_MAX, 32, 0},
                 {INT32_MIN, 32, 0},
                 {INT32_MAX, 62, 0},
                 {INT32_MIN, 1000, 0},
                 {-1, 33, 0}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        CU_ASSERT_EQUAL(oct_rshift_round(table[i].acc, table[i].n), table[i].q);
}

static void rshift_round_equals_the_rational(void)
{
    oct_rng rng = oct_rng_start(18, OCT_RNG_SYNTHETIC, 0, 0);
    int wrong = 0;
    for (int i = 0; i < 200000; i++) {
        int n = (int)oct_rng_below(&rng, 40);
        int32_t acc = (int32_t)oct_rng_u32(&rng);
        if (i % 2) acc >>= oct_rng_below(&rng, 31); /* small ones too */
        if (i % 3 == 0 && n > 1 && n < 32)
            acc = (int32_t)((acc & ~((INT64_C(1) << n) - 1)) | INT64_C(1) << (n - 1)); /* a tie */
        wrong += !is_half_up(oct_rshift_round(acc, n), acc, (__int128)1 << n);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static void rshift_round_of_64_bits(void)
{
    static const struct {
        int64_t acc;
        int n;
        int32_t q;
    } table[] = {{-3, 1, -1},
                 {-1, 1, 0},
                 {1, 1, 1},
                 {INT64_C(1) << 40, 1, INT32_MAX},
                 {-(INT64_C(1) << 40), 1, INT32_MIN},
                 {INT64_C(1) << 40, 0, INT32_MAX},
                 {-(INT64_C(1) << 40), 0, INT32_MIN},
                 {INT64_C(1) << 40, 20, 1 << 20},
                 {INT64_C(1) << 61, 62, 1},
                 {(INT64_C(1) << 61) - 1, 62, 0},
                 {-(INT64_C(1) << 61), 62, 0},
                 {-(INT64_C(1) << 61) - 1, 62, -1},
                 {INT64_C(1) << 61, 63, 0},
                 {3, -2, 12},
                 {INT32_MAX, -31, INT32_MAX},
                 {INT32_MIN, -31, INT32_MIN},
                 {1, -100, INT32_MAX},
                 {0, -100, 0}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        CU_ASSERT_EQUAL(oct_rshift_round_i64(table[i].acc, table[i].n), table[i].q);
    oct_rng rng = oct_rng_start(19, OCT_RNG_SYNTHETIC, 0, 0);
    int wrong = 0;
    for (int i = 0; i < 100000; i++) {
        int n = (int)oct_rng_below(&rng, 63);
        int64_t acc =
            (int64_t)((uint64_t)oct_rng_u32(&rng) << 32 | oct_rng_u32(&rng)) >> (2 + oct_rng_below(&rng, 60));
        int32_t q = oct_rshift_round_i64(acc, n);
        bool saturated =
            (q == INT32_MAX && acc >> n >= INT32_MAX) || (q == INT32_MIN && acc >> n <= INT32_MIN);
        wrong += !saturated && !is_half_up(q, acc, (__int128)1 << n);
        if (acc == (int32_t)acc) wrong += q != oct_rshift_round((int32_t)acc, n);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

/* T31 */
static void average_round_ties_and_negative_sums(void)
{
    static const struct {
        int64_t sum;
        int32_t count;
        int up;
        int32_t q;
    } table[] = {{-6, 4, 0, -1},
                 {6, 4, 0, 2},
                 {-2, 4, 0, 0},
                 {2, 4, 0, 1},
                 {-7, 4, 0, -2},
                 {-1, 2, 0, 0},
                 {-3, 2, 0, -1},
                 {3, 2, 0, 2},
                 {1, 3, 0, 0},
                 {2, 3, 0, 1},
                 {-1, 3, 0, 0},
                 {-2, 3, 0, -1},
                 {0, 7, 0, 0},
                 {5, 1, 0, 5},
                 {-6, 4, 1, -3},
                 {-6, 4, 2, -6},
                 {-6, 4, -1, -1},
                 {6, 4, -1, 1},
                 {-3, 1, -1, -1},
                 {3, 1, -1, 2},
                 {-1, 4, 1, 0},
                 {INT32_MAX, 1, 30, INT32_MAX},
                 {INT32_MIN + 1, 1, 30, INT32_MIN},
                 {INT32_MAX, 1, -30, 2},
                 {-1, 1, -30, 0}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        CU_ASSERT_EQUAL(oct_average_round(table[i].sum, table[i].count, table[i].up), table[i].q);
    oct_rng rng = oct_rng_start(31, OCT_RNG_SYNTHETIC, 0, 0);
    int wrong = 0;
    for (int i = 0; i < 200000; i++) {
        int32_t count = 1 + (int32_t)oct_rng_below(&rng, i % 2 ? 64 : (1 << 24) - 1);
        int64_t sum = (int32_t)oct_rng_u32(&rng) >> oct_rng_below(&rng, 31);
        int up = (int)oct_rng_below(&rng, 61) - 30;
        if (sum <= INT32_MIN) continue;
        int32_t q = oct_average_round(sum, count, up);
        __int128 n = up > 0 ? sum * ((__int128)1 << up) : sum, d = up < 0 ? (__int128)count << -up : count;
        bool saturated = (q == INT32_MAX && n / d >= INT32_MAX) || (q == INT32_MIN && n / d <= INT32_MIN);
        wrong += !saturated && !is_half_up(q, n, d);
    }
    CU_ASSERT_EQUAL(wrong, 0);
}

static const test_case cases[] = {
    {"T1_kappa_is_not_inverted", kappa_is_not_inverted},
    {"T2_ceil_exponent_is_exact", ceil_exponent_is_exact},
    {"T3_build_is_ieee", build_is_ieee},
    {"T3_activation_ties_go_up", activation_ties_go_up},
    {"T3_weight_ties_go_away_from_zero", weight_ties_go_away_from_zero},
    {"T4_fake_quant_is_idempotent_monotone_and_close", fake_quant_is_idempotent_monotone_and_close},
    {"T5_weights_are_odd_activations_are_not", weights_are_odd_activations_are_not},
    {"codes_saturate_at_both_ends", codes_saturate_at_both_ends},
    {"T18_rshift_round_table", rshift_round_table},
    {"T18_rshift_round_equals_the_rational", rshift_round_equals_the_rational},
    {"T18_rshift_round_of_64_bits", rshift_round_of_64_bits},
    {"T31_average_round_ties_and_negative_sums", average_round_ties_and_negative_sums},
};
TEST_SUITE("requant", cases);
