/* SPDX-License-Identifier: BSD-2-Clause
 * Template of the elementwise kernels: everything in the table but layouts and convolutions. Included once
 * by each file that defines its primitives (i8_x86_avx2.c, i8_x86_avx512.c); lookup has no vector form and
 * stays C.
 *
 * Parameters. NAME(f), TARGET as in the other templates, LANES (8 or 16), BYTES (of a byte vector), and
 * these types and primitives, all static inline:
 *   vi, vf, vb            LANES int32, LANES floats, BYTES bytes
 *   vi_load vi_store vf_load vf_store vb_load vb_store   unaligned; with _some(p[, v], n): the first n,
 *                         0 <= n <= LANES (lanes beyond n read as 0 and touch no memory)
 *   vi_set vf_set vb_set  one value in every lane
 *   vi_add vi_min vi_max vi_and vi_srav vi_sllv vi_sra1 (by 1)
 *   vi_sra vi_sll         one count for all, 0..63; above 31 sign fill and 0
 *   vi_mul                low 32 bits of the products
 *   vi_add64 vi_high64 (each 64-bit lane >> 32) vi_square64 (square of the low half of each 64-bit lane)
 *   vi_widen_low vi_widen_high   first and second half of the lanes as int64
 *   vi_to_float, vf_add vf_sub vf_mul vf_min vf_max      min/max return the SECOND operand when either is NaN
 *   vf_round_up           int32 floor(x + 0.5), exact for |x| <= 256
 *   vf_round_even         int32, rounded to nearest even
 *   vi_bits_within(x, lo, hi), vf_bits_within(x, lo, hi)  bit per lane: lo <= x <= hi (NaN: 0)
 *   vm                    a lane mask; vf_finite(x), vf_nan(x) make one, vm_of_bits and vm_bits convert
 *   vi_select(a, b, m), vf_select(a, b, m)               b where the mask is set
 *   vi_load_codes(p, is_signed), _some(p, n, is_signed)  LANES bytes as int32
 *   vi_store_codes(p, v), _some(p, v, n)                 low bytes
 *   vi_store_packed(p, v0, v1, v2, v3, lo, hi)  clamps each lane to [lo, hi] and stores 4*LANES bytes
 *   vb_max_unsigned, vb_max_signed
 *   add_words(codes, a, b, n, plan)   the add for whole vectors of 2*LANES codes in 16 bits; returns how many it did
 */
#include <math.h>
#include <string.h>

#include "quant/int8/requant.h"

enum { WIDE = 4 * LANES }; /* elements per step of the kernels that pack to bytes */

#define INLINE static inline __attribute__((always_inline)) TARGET

/* ---- requantization ---- */

/* What one vector of shifts needs. All counts n >= 1 (the usual case) use only `right`. */
typedef struct shift_plan {
    vi right;            /* n - 1 */
    vi low, high, left;  /* n < 0: acc is limited so that its left shift fits, yet lies outside any code range */
    vi floor_right, one; /* n <= 0: no rounding */
} shift_plan;

INLINE void shift_plan_init(shift_plan *plan, const int8_t *shift, int any)
{
    plan->right = vi_add(vi_load_codes((const uint8_t *)shift, 1), vi_set(-1));
    if (!any) return;
    int32_t right[LANES], low[LANES], high[LANES], left[LANES], floor_right[LANES], one[LANES];
    for (int i = 0; i < LANES; i++) {
        const int n = shift[i];
        const int up = n < 0 ? (n < -30 ? 30 : -n) : 0;
        const int32_t limit = 256 >> up > 1 ? 256 >> up : 1;
        right[i] = n > 0 ? n - 1 : 0;
        low[i] = n < 0 ? -limit : INT32_MIN;
        high[i] = n < 0 ? limit : INT32_MAX;
        left[i] = up;
        floor_right[i] = n > 0 ? n : 0;
        one[i] = n > 0;
    }
    plan->right = vi_load(right);
    plan->low = vi_load(low);
    plan->high = vi_load(high);
    plan->left = vi_load(left);
    plan->floor_right = vi_load(floor_right);
    plan->one = vi_load(one);
}

/* rshift_round up to values outside the range of codes, which the caller clamps. n >= 1: ((acc >> n-1) + 1)
 * >> 1, where INT32_MAX would overflow for n = 1 and INT32_MAX - 1 clamps to the same code. */
INLINE vi shift_round(vi acc, const shift_plan *plan, int any)
{
    if (!any) return vi_sra1(vi_add(vi_srav(vi_min(acc, vi_set(INT32_MAX - 1)), plan->right), vi_set(1)));
    acc = vi_sllv(vi_min(vi_max(acc, plan->low), plan->high), plan->left);
    return vi_add(vi_srav(acc, plan->floor_right), vi_and(vi_srav(acc, plan->right), plan->one));
}

/* `rows` rows of `width` <= WIDE elements; vectors = ceil(width / LANES), a constant like `any`. */
INLINE void requantize_panel(uint8_t *codes, const int32_t *acc, const int8_t *shift, size_t rows,
                             size_t stride, int width, int lo, int hi, int any, int vectors)
{
    shift_plan plan[4];
    for (int v = 0; v < vectors; v++) shift_plan_init(&plan[v], shift + v * LANES, any);
    for (size_t r = 0; r < rows; r++, codes += stride, acc += stride) {
        vi x[4] = {vi_set(0), vi_set(0), vi_set(0), vi_set(0)};
        for (int v = 0; v < vectors; v++) {
            const int left = width - v * LANES;
            x[v] = shift_round(left >= LANES ? vi_load(acc + v * LANES) : vi_load_some(acc + v * LANES, left),
                               &plan[v], any);
        }
        if (width == WIDE) {
            vi_store_packed(codes, x[0], x[1], x[2], x[3], lo, hi);
        } else {
            uint8_t packed[WIDE];
            vi_store_packed(packed, x[0], x[1], x[2], x[3], lo, hi);
            if (BYTES == WIDE)
                vb_store_some(codes, vb_load(packed), width);
            else
                memcpy(codes, packed, (size_t)width);
        }
    }
}

static TARGET void requantize_columns(uint8_t *codes, const int32_t *acc, const int8_t *shift, size_t rows,
                                      size_t stride, int width, int lo, int hi)
{
    int any = 0;
    for (int i = 0; i < width; i++) any |= shift[i] < 1;
    if (any) {
        requantize_panel(codes, acc, shift, rows, stride, width, lo, hi, 1, (width + LANES - 1) / LANES);
        return;
    }
    switch ((width + LANES - 1) / LANES) {
    case 1: requantize_panel(codes, acc, shift, rows, stride, width, lo, hi, 0, 1); break;
    case 2: requantize_panel(codes, acc, shift, rows, stride, width, lo, hi, 0, 2); break;
    case 3: requantize_panel(codes, acc, shift, rows, stride, width, lo, hi, 0, 3); break;
    default: requantize_panel(codes, acc, shift, rows, stride, width, lo, hi, 0, 4); break;
    }
}

static TARGET void NAME(requantize)(uint8_t *codes, const int32_t *acc, const int8_t *shift, size_t pixels,
                                    int channels, int lo, int hi)
{
    int8_t columns[WIDE];
    if (channels < WIDE && WIDE % channels == 0) { /* several pixels make one full row of WIDE columns */
        if (channels >= 16) {
            for (int i = 0; i < WIDE; i += 16) memcpy(columns + i, shift + i % channels, 16);
        } else {
            for (int i = 0; i < WIDE; i++) columns[i] = shift[i & (channels - 1)];
        }
        const size_t n = pixels * (size_t)channels, whole = n / WIDE * WIDE;
        if (whole) requantize_columns(codes, acc, columns, n / WIDE, WIDE, WIDE, lo, hi);
        if (n > whole)
            requantize_columns(codes + whole, acc + whole, columns, 1, WIDE, (int)(n - whole), lo, hi);
        return;
    }
    for (int c = 0; c < channels; c += WIDE) {
        const int width = channels - c < WIDE ? channels - c : WIDE;
        memset(columns, 1, sizeof columns);
        memcpy(columns, shift + c, (size_t)width);
        requantize_columns(codes + c, acc + c, columns, pixels, (size_t)channels, width, lo, hi);
    }
}

/* ---- accumulators in training ---- */

/* Bits leave through a buffer, so that any number of channels works: fewer than 32 wait in it between steps.
 * */
static TARGET void NAME(mask_range)(uint8_t *bits, const int32_t *acc, const int32_t *low,
                                    const int32_t *high, size_t pixels, int channels)
{
    uint64_t buffer = 0;
    int fill = 0;
    for (size_t p = 0; p < pixels; p++, acc += channels) {
        for (int c = 0; c < channels; c += LANES) {
            const int left = channels - c;
            const int count = left < LANES ? left : LANES;
            uint32_t within;
            if (left >= LANES)
                within = vi_bits_within(vi_load(acc + c), vi_load(low + c), vi_load(high + c));
            else
                within = vi_bits_within(vi_load_some(acc + c, left), vi_load_some(low + c, left),
                                        vi_load_some(high + c, left)) &
                         ((1u << left) - 1u);
            buffer |= (uint64_t)within << fill;
            fill += count;
            if (fill < 32) continue;
            memcpy(bits, &buffer, 4);
            bits += 4;
            buffer >>= 32;
            fill -= 32;
        }
    }
    for (; fill > 0; fill -= 8, buffer >>= 8) *bits++ = (uint8_t)buffer;
}

/* One vector of channels. Four accumulators below 2^29 add up in 32 bits, so sums widen once in four pixels.
 * */
INLINE void acc_sums_vector(int64_t *sum, uint64_t *square, int32_t *min, int32_t *max, const int32_t *acc,
                            int pixels, int channels, int count, int whole)
{
    vi sum_low = vi_set(0), sum_high = vi_set(0), square_even = vi_set(0), square_odd = vi_set(0);
    vi low = whole ? vi_load(min) : vi_load_some(min, count);
    vi high = whole ? vi_load(max) : vi_load_some(max, count);
    for (int p = 0; p < pixels; p += 4) {
        vi four = vi_set(0);
        for (int q = p; q < p + 4 && q < pixels; q++, acc += channels) {
            const vi a = whole ? vi_load(acc) : vi_load_some(acc, count);
            four = vi_add(four, a);
            square_even = vi_add64(square_even, vi_square64(a));
            square_odd = vi_add64(square_odd, vi_square64(vi_high64(a)));
            low = vi_min(low, a);
            high = vi_max(high, a);
        }
        sum_low = vi_add64(sum_low, vi_widen_low(four));
        sum_high = vi_add64(sum_high, vi_widen_high(four));
    }
    int64_t sums[LANES];
    uint64_t even[LANES / 2], odd[LANES / 2];
    vi_store(sums, sum_low);
    vi_store(sums + LANES / 2, sum_high);
    vi_store(even, square_even);
    vi_store(odd, square_odd);
    for (int c = 0; c < count; c++) {
        sum[c] += sums[c];
        square[c] += c % 2 ? odd[c / 2] : even[c / 2];
    }
    if (whole) {
        vi_store(min, low);
        vi_store(max, high);
    } else {
        vi_store_some(min, low, count);
        vi_store_some(max, high, count);
    }
}

static TARGET void NAME(acc_sums)(int64_t *sum, uint64_t *square, int32_t *min, int32_t *max,
                                  const int32_t *acc, int pixels, int channels)
{
    int c = 0;
    for (; c + LANES <= channels; c += LANES)
        acc_sums_vector(sum + c, square + c, min + c, max + c, acc + c, pixels, channels, LANES, 1);
    if (c < channels)
        acc_sums_vector(sum + c, square + c, min + c, max + c, acc + c, pixels, channels, channels - c, 0);
}

/* Fewer channels than lanes that fill a vector evenly: several pixels make one. */
static inline int shares_vector(int channels)
{
    return channels < LANES && LANES % channels == 0;
}

static void repeat_channels(float repeated[LANES], const float *x, int channels)
{
    for (int i = 0; i < LANES; i++) repeated[i] = x[i % channels];
}

static TARGET void NAME(acc_affine)(float *y, const int32_t *acc, const float *a, const float *b,
                                    size_t pixels, int channels)
{
    float a_lanes[LANES], b_lanes[LANES];
    if (shares_vector(channels) && pixels >= (size_t)(LANES / channels)) {
        repeat_channels(a_lanes, a, channels);
        repeat_channels(b_lanes, b, channels);
        const size_t together = (size_t)(LANES / channels), n = pixels / together;
        const vf va = vf_load(a_lanes), shift = vf_load(b_lanes);
        for (size_t i = 0; i < n; i++, y += LANES, acc += LANES)
            vf_store(y, vf_add(vf_mul(vi_to_float(vi_load(acc)), va), shift));
        pixels -= n * together;
    }
    for (size_t p = 0; p < pixels; p++, y += channels, acc += channels) {
        int c = 0;
        for (; c + LANES <= channels; c += LANES)
            vf_store(y + c, vf_add(vf_mul(vi_to_float(vi_load(acc + c)), vf_load(a + c)), vf_load(b + c)));
        const int left = channels - c;
        if (left)
            vf_store_some(y + c,
                          vf_add(vf_mul(vi_to_float(vi_load_some(acc + c, left)), vf_load_some(a + c, left)),
                                 vf_load_some(b + c, left)),
                          left);
    }
}

typedef struct gradient_vectors {
    vf b, p, q, r;
} gradient_vectors;

/* n <= LANES elements, the first of them bit 0 of *bits. */
INLINE void gradient_some(float *dx, const float *dy, const uint8_t *bits, const int32_t *acc,
                          const gradient_vectors *v, int n)
{
    const int whole = n == LANES;
    vf d = whole ? vf_load(dy) : vf_load_some(dy, n);
    if (bits) {
        uint32_t step = 0;
        if (whole)
            memcpy(&step, bits, LANES / 8);
        else
            memcpy(&step, bits, (size_t)(n + 7) / 8);
        d = vf_select(vf_set(0.0f), d, vm_of_bits(step));
    }
    const vf x = vf_add(vi_to_float(whole ? vi_load(acc) : vi_load_some(acc, n)), v->b);
    d = vf_add(vf_add(vf_mul(d, v->p), vf_mul(x, v->q)), v->r);
    if (whole)
        vf_store(dx, d);
    else
        vf_store_some(dx, d, n);
}

static TARGET void NAME(acc_gradient)(float *dx, const float *dy, const uint8_t *bits, const int32_t *acc,
                                      const float *b, const float *p, const float *q, const float *r,
                                      size_t pixels, int channels)
{
    float lanes[4][LANES];
    if (shares_vector(channels)) {
        repeat_channels(lanes[0], b, channels);
        repeat_channels(lanes[1], p, channels);
        repeat_channels(lanes[2], q, channels);
        repeat_channels(lanes[3], r, channels);
        b = lanes[0], p = lanes[1], q = lanes[2], r = lanes[3];
        const gradient_vectors v = {vf_load(b), vf_load(p), vf_load(q), vf_load(r)};
        const size_t n = pixels * (size_t)channels;
        size_t e = 0;
        for (; e + LANES <= n; e += LANES)
            gradient_some(dx + e, dy + e, bits ? bits + e / 8 : bits, acc + e, &v, LANES);
        if (e < n) gradient_some(dx + e, dy + e, bits ? bits + e / 8 : bits, acc + e, &v, (int)(n - e));
        return;
    }
    if (bits && channels % 8 != 0) { /* pixels do not start at byte borders */
        oct_i8_acc_gradient_c(dx, dy, bits, acc, b, p, q, r, pixels, channels);
        return;
    }
    for (size_t i = 0, e = 0; i < pixels; i++) {
        for (int c = 0; c < channels; c += LANES) {
            const int left = channels - c, n = left < LANES ? left : LANES;
            const uint8_t *at = bits ? bits + e / 8 : bits;
            if (n == LANES) {
                const gradient_vectors v = {vf_load(b + c), vf_load(p + c), vf_load(q + c), vf_load(r + c)};
                gradient_some(dx + e, dy + e, at, acc + e, &v, LANES);
            } else {
                const gradient_vectors v = {vf_load_some(b + c, n), vf_load_some(p + c, n),
                                            vf_load_some(q + c, n), vf_load_some(r + c, n)};
                gradient_some(dx + e, dy + e, at, acc + e, &v, n);
            }
            e += (size_t)n;
        }
    }
}

/* ---- floats to codes and back ---- */

/* Both clamps in one: x*kappa is monotone and exact where it matters, so the limits can be scaled once and
 * intersected, and clamp(floor(t + 0.5)) = floor(clamp(t) + 0.5) for whole limits. The two strict and the
 * two weak comparisons of the mask become one interval, as act_lo < x is next(act_lo) <= x. */
typedef struct quantize_plan {
    float kappa, low, high; /* limits of x*kappa */
    float mask_low, mask_high;
    int lo, hi;         /* limits of codes */
    int nan_needs_care; /* clamping a NaN to `low` is not code lo */
} quantize_plan;

static void quantize_plan_init(quantize_plan *plan, float act_lo, float act_hi, float clip_lo, float clip_hi,
                               float kappa, int lo, int hi)
{
    const float low = act_lo * kappa, high = act_hi * kappa, code_lo = (float)lo, code_hi = (float)hi;
    const float above = nextafterf(act_lo, INFINITY), below = nextafterf(act_hi, -INFINITY);
    plan->kappa = kappa;
    plan->low = low < code_lo ? code_lo : low > code_hi ? code_hi : low;
    plan->high = high < code_lo ? code_lo : high > code_hi ? code_hi : high;
    /* An act limit of the wrong infinity stays there, and the interval is empty: the other end is finite or
     * beyond. */
    plan->mask_low = above > clip_lo ? above : clip_lo;
    plan->mask_high = below < clip_hi ? below : clip_hi;
    plan->lo = lo;
    plan->hi = hi;
    plan->nan_needs_care = oct_round_up_f32(plan->low) != code_lo;
}

INLINE vi quantize_vector(uint64_t *bits, vf x, const quantize_plan *plan, int masked, int careful)
{
    const vf t = vf_min(vf_max(vf_mul(x, vf_set(plan->kappa)), vf_set(plan->low)), vf_set(plan->high));
    vi code = vf_round_up(t);
    if (masked) *bits = vf_bits_within(x, vf_set(plan->mask_low), vf_set(plan->mask_high));
    if (careful) code = vi_select(code, vi_set(plan->lo), vf_nan(x));
    return code;
}

INLINE uint64_t quantize_step(uint8_t *codes, const float *x, const quantize_plan *plan, int masked,
                              int careful)
{
    uint64_t b0 = 0, b1 = 0, b2 = 0, b3 = 0;
    const vi c0 = quantize_vector(&b0, vf_load(x), plan, masked, careful);
    const vi c1 = quantize_vector(&b1, vf_load(x + LANES), plan, masked, careful);
    const vi c2 = quantize_vector(&b2, vf_load(x + 2 * LANES), plan, masked, careful);
    const vi c3 = quantize_vector(&b3, vf_load(x + 3 * LANES), plan, masked, careful);
    vi_store_packed(codes, c0, c1, c2, c3, plan->lo, plan->hi);
    return b0 | b1 << LANES | b2 << 2 * LANES | b3 << 3 * LANES;
}

INLINE void quantize_run(uint8_t *codes, uint8_t *bits, const float *x, size_t n, const quantize_plan *plan,
                         int masked, int careful)
{
    for (; n >= WIDE; n -= WIDE, codes += WIDE, x += WIDE) {
        const uint64_t step = quantize_step(codes, x, plan, masked, careful);
        if (!masked) continue;
        memcpy(bits, &step, WIDE / 8);
        bits += WIDE / 8;
    }
    if (!n) return;
    float rest[WIDE] = {0};
    uint8_t rest_codes[WIDE];
    memcpy(rest, x, n * sizeof *x);
    uint64_t step = quantize_step(rest_codes, rest, plan, masked, careful);
    memcpy(codes, rest_codes, n);
    if (!masked) return;
    step &= (UINT64_C(1) << n) - 1;
    memcpy(bits, &step, (n + 7) / 8);
}

static TARGET void NAME(quantize_f32)(uint8_t *codes, uint8_t *bits, const float *x, size_t n, float act_lo,
                                      float act_hi, float clip_lo, float clip_hi, float kappa, int lo, int hi)
{
    quantize_plan plan;
    quantize_plan_init(&plan, act_lo, act_hi, clip_lo, clip_hi, kappa, lo, hi);
    if (plan.nan_needs_care)
        quantize_run(codes, bits, x, n, &plan, bits != NULL, 1);
    else if (bits)
        quantize_run(codes, bits, x, n, &plan, 1, 0);
    else
        quantize_run(codes, bits, x, n, &plan, 0, 0);
}

static TARGET void NAME(dequantize)(float *x, const uint8_t *codes, size_t n, float delta, int zero, int is_signed)
{
    const vf scale = vf_set(delta);
    const vi minus = vi_set(-zero);
    for (; n >= LANES; n -= LANES, x += LANES, codes += LANES)
        vf_store(x, vf_mul(vi_to_float(vi_add(vi_load_codes(codes, is_signed), minus)), scale));
    if (n)
        vf_store_some(x, vf_mul(vi_to_float(vi_add(vi_load_codes_some(codes, (int)n, is_signed), minus)), scale), (int)n);
}

static TARGET void NAME(mask_apply)(float *dx, const float *dy, const uint8_t *bits, size_t n)
{
    for (; n >= LANES; n -= LANES, dx += LANES, dy += LANES, bits += LANES / 8) {
        uint32_t step = 0;
        memcpy(&step, bits, LANES / 8);
        vf_store(dx, vf_select(vf_set(0.0f), vf_load(dy), vm_of_bits(step)));
    }
    if (!n) return;
    uint32_t step = 0;
    memcpy(&step, bits, (n + 7) / 8);
    vf_store_some(dx, vf_select(vf_set(0.0f), vf_load_some(dy, (int)n), vm_of_bits(step)), (int)n);
}

/* ---- statistics of floats ---- */

/* Non-finite lanes are replaced by what a minimum or maximum ignores. Two chains, so that latency does not
 * bound it. */
static TARGET size_t NAME(min_max)(float *lo, float *hi, const float *x, size_t n)
{
    const vf none_low = vf_set(INFINITY), none_high = vf_set(-INFINITY);
    vf low[2] = {none_low, none_low}, high[2] = {none_high, none_high};
    size_t finite = 0, i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        for (int k = 0; k < 2; k++) {
            const vf v = vf_load(x + i + (size_t)k * LANES);
            const vm mask = vf_finite(v);
            finite += (unsigned)__builtin_popcount(vm_bits(mask));
            low[k] = vf_min(low[k], vf_select(none_low, v, mask));
            high[k] = vf_max(high[k], vf_select(none_high, v, mask));
        }
    }
    float lows[LANES], highs[LANES];
    vf_store(lows, vf_min(low[0], low[1]));
    vf_store(highs, vf_max(high[0], high[1]));
    float least = *lo, most = *hi;
    for (int k = 0; k < LANES; k++) {
        least = lows[k] < least ? lows[k] : least;
        most = highs[k] > most ? highs[k] : most;
    }
    for (; i < n; i++) {
        if (!isfinite(x[i])) continue;
        finite++;
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    *lo = least + 0.0f; /* +0 for both zeros, as in the reference */
    *hi = most + 0.0f;
    return n - finite;
}

/* Bin of each lane; non-finite lanes go to bin 256. */
INLINE vi histogram_bins(vf x, vf lo, vf mult)
{
    const vf position = vf_mul(vf_sub(x, lo), mult);
    const vi bin = vf_round_even(vf_min(vf_max(position, vf_set(0.0f)), vf_set(255.0f)));
    return vi_select(vi_set(256), bin, vf_finite(x));
}

/* Four tables in turn: neighbours often share a bin, and adding to a bin just stored to waits for the store.
 * */
static TARGET void NAME(histogram)(uint32_t counts[256], const float *x, size_t n, float lo, float mult)
{
    uint32_t tables[4][257];
    int32_t bins[LANES];
    memset(tables, 0, sizeof tables);
    const vf first = vf_set(lo), scale = vf_set(mult);
    for (; n >= LANES; n -= LANES, x += LANES) {
        vi_store(bins, histogram_bins(vf_load(x), first, scale));
        for (int k = 0; k < LANES; k += 4) {
            tables[0][bins[k]]++;
            tables[1][bins[k + 1]]++;
            tables[2][bins[k + 2]]++;
            tables[3][bins[k + 3]]++;
        }
    }
    vi_store(bins, histogram_bins(vf_load_some(x, (int)n), first, scale));
    for (size_t k = 0; k < n; k++) tables[0][bins[k]]++;
    for (int k = 0; k < 256; k++) counts[k] += tables[0][k] + tables[1][k] + tables[2][k] + tables[3][k];
}

/* ---- elementwise on codes ---- */

/* shift_round with one shift for all, |v| < 2^31 - 1, and the clamp. */
typedef struct uniform_shift {
    int right, left, limit;
    vi lo, hi;
} uniform_shift;

INLINE void uniform_shift_init(uniform_shift *s, int shift, int lo, int hi)
{
    s->right = shift;
    s->left = shift < 0 ? (shift < -30 ? 30 : -shift) : 0;
    s->limit = 256 >> s->left > 1 ? 256 >> s->left : 1;
    s->lo = vi_set(lo);
    s->hi = vi_set(hi);
}

INLINE vi uniform_shift_codes(vi v, const uniform_shift *s)
{
    if (s->right > 0)
        v = vi_sra1(vi_add(vi_sra(v, s->right - 1), vi_set(1)));
    else if (s->right < 0)
        v = vi_sll(vi_min(vi_max(v, vi_set(-s->limit)), vi_set(s->limit)), s->left);
    return vi_min(vi_max(v, s->lo), s->hi);
}

static TARGET void NAME(add)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed,
                             int b_signed, int sa, int sb, int shift, int lo, int hi)
{
    if (sa > 22 || sb > 22) {
        oct_i8_add_c(codes, a, b, n, a_signed, b_signed, sa, sb, shift, lo, hi);
        return;
    }
    if (sa < 7 && sb < 7 && shift >= 0 && shift < 15 && (255 << sa) + (255 << sb) + (1 << shift) < 1 << 15) {
        const size_t done = add_words(codes, a, b, n, &(add_plan){a_signed, b_signed, sa, sb, shift, lo, hi});
        n -= done;
        a += done;
        b += done;
        codes += done;
    }
    uniform_shift s;
    uniform_shift_init(&s, shift, lo, hi);
    for (; n >= LANES; n -= LANES, a += LANES, b += LANES, codes += LANES) {
        const vi sum = vi_add(vi_sll(vi_load_codes(a, a_signed), sa), vi_sll(vi_load_codes(b, b_signed), sb));
        vi_store_codes(codes, uniform_shift_codes(sum, &s));
    }
    if (!n) return;
    const vi sum = vi_add(vi_sll(vi_load_codes_some(a, (int)n, a_signed), sa),
                          vi_sll(vi_load_codes_some(b, (int)n, b_signed), sb));
    vi_store_codes_some(codes, uniform_shift_codes(sum, &s), (int)n);
}

static TARGET void NAME(mul)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed,
                             int b_signed, int shift, int lo, int hi)
{
    uniform_shift s;
    uniform_shift_init(&s, shift, lo, hi);
    for (; n >= LANES; n -= LANES, a += LANES, b += LANES, codes += LANES) {
        const vi product = vi_mul(vi_load_codes(a, a_signed), vi_load_codes(b, b_signed));
        vi_store_codes(codes, uniform_shift_codes(product, &s));
    }
    if (!n) return;
    const vi product =
        vi_mul(vi_load_codes_some(a, (int)n, a_signed), vi_load_codes_some(b, (int)n, b_signed));
    vi_store_codes_some(codes, uniform_shift_codes(product, &s), (int)n);
}

static TARGET void NAME(rescale)(uint8_t *codes, const uint8_t *x, size_t pixels, int channels,
                                 ptrdiff_t out_pixel, ptrdiff_t in_pixel, int is_signed, int shift, int lo,
                                 int hi)
{
    uniform_shift s;
    uniform_shift_init(&s, shift, lo, hi);
    size_t row = (size_t)channels;
    if (out_pixel == channels && in_pixel == channels) { /* one long pixel */
        row *= pixels;
        pixels = pixels > 0;
    }
    for (size_t p = 0; p < pixels; p++, codes += out_pixel, x += in_pixel) {
        size_t c = 0;
        for (; c + LANES <= row; c += LANES)
            vi_store_codes(codes + c, uniform_shift_codes(vi_load_codes(x + c, is_signed), &s));
        const int left = (int)(row - c);
        if (left)
            vi_store_codes_some(codes + c,
                                uniform_shift_codes(vi_load_codes_some(x + c, left, is_signed), &s), left);
    }
}

/* ---- pooling ---- */

INLINE vb pool_max_vector(const uint8_t *x, int rows, int cols, ptrdiff_t x_row, ptrdiff_t x_pixel, int count,
                          int is_signed)
{
    vb best = vb_set(is_signed ? INT8_MIN : 0);
    for (int r = 0; r < rows; r++) {
        for (int t = 0; t < cols; t++) {
            const uint8_t *at = x + r * x_row + t * x_pixel;
            const vb v = count == BYTES ? vb_load(at) : vb_load_some(at, count);
            best = is_signed ? vb_max_signed(best, v) : vb_max_unsigned(best, v);
        }
    }
    return best;
}

static TARGET void NAME(pool_max)(uint8_t *codes, const uint8_t *x, int rows, int cols, ptrdiff_t x_row,
                                  ptrdiff_t x_pixel, int channels, int is_signed)
{
    int c = 0;
    for (; c + BYTES <= channels; c += BYTES)
        vb_store(codes + c, pool_max_vector(x + c, rows, cols, x_row, x_pixel, BYTES, is_signed));
    const int left = channels - c;
    if (left)
        vb_store_some(codes + c, pool_max_vector(x + c, rows, cols, x_row, x_pixel, left, is_signed), left);
}

static TARGET void NAME(pool_sum)(int32_t *sum, const uint8_t *x, int rows, int cols, ptrdiff_t x_row,
                                  ptrdiff_t x_pixel, int channels, int is_signed)
{
    for (int c = 0; c < channels; c += LANES) {
        const int count = channels - c < LANES ? channels - c : LANES;
        vi total = vi_set(0);
        for (int r = 0; r < rows; r++) {
            for (int t = 0; t < cols; t++) {
                const uint8_t *at = x + r * x_row + t * x_pixel + c;
                total = vi_add(total, count == LANES ? vi_load_codes(at, is_signed)
                                                     : vi_load_codes_some(at, count, is_signed));
            }
        }
        if (count == LANES)
            vi_store(sum + c, total);
        else
            vi_store_some(sum + c, total, count);
    }
}

/* ---- plain loops that compilers turn into vector code of the level ---- */

/* The code as a number: flips the sign bit of signed codes and takes its weight off again. */
INLINE int32_t number_of(uint8_t code, int32_t sign)
{
    return (int32_t)(code ^ sign) - sign;
}

static TARGET void NAME(sub)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, int a_signed, int b_signed,
                             int sa, int sb, int shift, int lo, int hi)
{
    if (sa > 22 || sb > 22 || shift < 1 || shift > 30) {
        oct_i8_sub_c(codes, a, b, n, a_signed, b_signed, sa, sb, shift, lo, hi);
        return;
    }
    const int32_t fa = 1 << sa, fb = 1 << sb, half = 1 << (shift - 1);
    const int32_t sign_a = a_signed ? 128 : 0, sign_b = b_signed ? 128 : 0;
    for (size_t i = 0; i < n; i++) {
        int32_t q = (number_of(a[i], sign_a) * fa - number_of(b[i], sign_b) * fb + half) >> shift;
        q = q < lo ? lo : q;
        codes[i] = (uint8_t)(q > hi ? hi : q);
    }
}

static TARGET void NAME(blend)(uint8_t *codes, const uint8_t *const x[4], const int32_t w[4], int channels, int is_signed)
{
    const uint8_t *x0 = x[0], *x1 = x[1], *x2 = x[2], *x3 = x[3];
    const int32_t w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], sign = is_signed ? 128 : 0;
    const int32_t start = (1 << 19) - sign * (1 << 20); /* the weights add up to 2^20 */
    for (int c = 0; c < channels; c++)
        codes[c] = (uint8_t)(((x0[c] ^ sign) * w0 + (x1[c] ^ sign) * w1 + (x2[c] ^ sign) * w2 + (x3[c] ^ sign) * w3 + start) >> 20);
}

#include "quant/int8/kernels/i8_affine_tmpl.h"

void NAME(oct_i8_fill_elementwise)(oct_i8_kernels *table)
{
    table->requantize_affine = NAME(requantize_affine);
    table->add_affine = NAME(add_affine);
    table->mul_affine = NAME(mul_affine);
    table->quantize_affine = NAME(quantize_affine);
    table->requantize = NAME(requantize);
    table->mask_range = NAME(mask_range);
    table->acc_sums = NAME(acc_sums);
    table->acc_affine = NAME(acc_affine);
    table->acc_gradient = NAME(acc_gradient);
    table->quantize_f32 = NAME(quantize_f32);
    table->dequantize = NAME(dequantize);
    table->mask_apply = NAME(mask_apply);
    table->min_max = NAME(min_max);
    table->histogram = NAME(histogram);
    table->add = NAME(add);
    table->sub = NAME(sub);
    table->mul = NAME(mul);
    table->blend = NAME(blend);
    table->rescale = NAME(rescale);
    table->pool_max = NAME(pool_max);
    table->pool_sum = NAME(pool_sum);
}

#undef INLINE
