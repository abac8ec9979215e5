/* SPDX-License-Identifier: BSD-2-Clause
 * Elementwise kernels of profile affine. Part of i8_elementwise_tmpl.h, whose parameters and primitives it uses; codes are
 * u8. The rules are those of affine.h: floats are clamped before they are rounded, so every value fits an int32.
 */

/* What oct_affine_round needs. */
typedef struct affine_round {
    vf low, high;
    vi zero;
    int lo, hi;
} affine_round;

INLINE affine_round affine_round_of(int zero, int lo, int hi)
{
    return (affine_round){vf_set((float)(lo - zero)), vf_set((float)(hi - zero)), vi_set(zero), lo, hi};
}

INLINE vi affine_codes(vf p, const affine_round *r)
{
    return vi_add(vf_round_even(vf_min(vf_max(p, r->low), r->high)), r->zero);
}

/* `rows` rows of `width` <= WIDE elements; vectors = ceil(width / LANES), a constant. */
INLINE void requantize_affine_panel(uint8_t *codes, const int32_t *acc, const float *multiplier, size_t rows,
                                    size_t stride, int width, const affine_round *r, int vectors)
{
    vf m[4];
    for (int v = 0; v < vectors; v++) m[v] = vf_load(multiplier + v * LANES);
    for (size_t i = 0; i < rows; i++, codes += stride, acc += stride) {
        vi x[4] = {vi_set(0), vi_set(0), vi_set(0), vi_set(0)};
        for (int v = 0; v < vectors; v++) {
            const int left = width - v * LANES;
            const vi a = left >= LANES ? vi_load(acc + v * LANES) : vi_load_some(acc + v * LANES, left);
            x[v] = affine_codes(vf_mul(vi_to_float(a), m[v]), r);
        }
        if (width == WIDE) {
            vi_store_packed(codes, x[0], x[1], x[2], x[3], r->lo, r->hi);
        } else {
            uint8_t packed[WIDE];
            vi_store_packed(packed, x[0], x[1], x[2], x[3], r->lo, r->hi);
            memcpy(codes, packed, (size_t)width);
        }
    }
}

static TARGET void requantize_affine_columns(uint8_t *codes, const int32_t *acc, const float *multiplier, size_t rows,
                                             size_t stride, int width, const affine_round *r)
{
    switch ((width + LANES - 1) / LANES) {
    case 1: requantize_affine_panel(codes, acc, multiplier, rows, stride, width, r, 1); break;
    case 2: requantize_affine_panel(codes, acc, multiplier, rows, stride, width, r, 2); break;
    case 3: requantize_affine_panel(codes, acc, multiplier, rows, stride, width, r, 3); break;
    default: requantize_affine_panel(codes, acc, multiplier, rows, stride, width, r, 4); break;
    }
}

static TARGET void NAME(requantize_affine)(uint8_t *codes, const int32_t *acc, const float *multiplier, size_t pixels,
                                           int channels, int zero, int lo, int hi)
{
    float columns[WIDE];
    const affine_round r = affine_round_of(zero, lo, hi);
    if (channels < WIDE && WIDE % channels == 0) { /* several pixels make one full row of WIDE columns */
        for (int i = 0; i < WIDE; i++) columns[i] = multiplier[i % channels];
        const size_t n = pixels * (size_t)channels, whole = n / WIDE * WIDE;
        if (whole) requantize_affine_columns(codes, acc, columns, n / WIDE, WIDE, WIDE, &r);
        if (n > whole) requantize_affine_columns(codes + whole, acc + whole, columns, 1, WIDE, (int)(n - whole), &r);
        return;
    }
    for (int c = 0; c < channels; c += WIDE) {
        const int width = channels - c < WIDE ? channels - c : WIDE;
        memset(columns, 0, sizeof columns);
        memcpy(columns, multiplier + c, (size_t)width * sizeof *columns);
        requantize_affine_columns(codes + c, acc + c, columns, pixels, (size_t)channels, width, &r);
    }
}

INLINE vi affine_difference(const uint8_t *x, int zero, int n)
{
    return vi_add(n == LANES ? vi_load_codes(x, 0) : vi_load_codes_some(x, n, 0), vi_set(-zero));
}

INLINE vi add_affine_some(const uint8_t *a, const uint8_t *b, const oct_i8_affine_pair *p, const affine_round *r, int n)
{
    const vf first = vf_mul(vi_to_float(affine_difference(a, p->a_zero, n)), vf_set(p->a_scale));
    const vf second = vf_mul(vi_to_float(affine_difference(b, p->b_zero, n)), vf_set(p->b_scale));
    return affine_codes(vf_add(first, second), r);
}

INLINE vi mul_affine_some(const uint8_t *a, const uint8_t *b, const oct_i8_affine_pair *p, const affine_round *r, int n)
{
    const vi product = vi_mul(affine_difference(a, p->a_zero, n), affine_difference(b, p->b_zero, n));
    return affine_codes(vf_mul(vi_to_float(product), vf_set(p->a_scale)), r);
}

/* mul is a constant. */
INLINE void affine_pair_run(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n, const oct_i8_affine_pair *p,
                            int mul)
{
    const affine_round r = affine_round_of(p->zero, p->lo, p->hi);
    for (; n >= WIDE; n -= WIDE, a += WIDE, b += WIDE, codes += WIDE) {
        vi x[4];
        for (int v = 0; v < 4; v++)
            x[v] = mul ? mul_affine_some(a + v * LANES, b + v * LANES, p, &r, LANES)
                       : add_affine_some(a + v * LANES, b + v * LANES, p, &r, LANES);
        vi_store_packed(codes, x[0], x[1], x[2], x[3], p->lo, p->hi);
    }
    for (int left = (int)n; left > 0; left -= LANES, a += LANES, b += LANES, codes += LANES) {
        const int count = left < LANES ? left : LANES;
        vi_store_codes_some(codes, mul ? mul_affine_some(a, b, p, &r, count) : add_affine_some(a, b, p, &r, count), count);
    }
}

static TARGET void NAME(add_affine)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n,
                                    const oct_i8_affine_pair *p)
{
    affine_pair_run(codes, a, b, n, p, 0);
}

static TARGET void NAME(mul_affine)(uint8_t *codes, const uint8_t *a, const uint8_t *b, size_t n,
                                    const oct_i8_affine_pair *p)
{
    affine_pair_run(codes, a, b, n, p, 1);
}

/* One step of WIDE floats; masked is a constant. */
INLINE uint64_t quantize_affine_step(uint8_t *codes, const float *x, const oct_i8_affine_quantize *q,
                                     const affine_round *r, int masked)
{
    vi code[4];
    uint64_t bits = 0;
    for (int v = 0; v < 4; v++) {
        const vf value = vf_load(x + v * LANES), p = vf_mul(value, vf_set(q->inverse));
        code[v] = affine_codes(p, r);
        if (!masked) continue;
        const uint64_t pass = vf_bits_within(value, vf_set(q->x_low), vf_set(q->x_high)) &
                              vf_bits_within(p, vf_set(q->p_low), vf_set(q->p_high));
        bits |= pass << v * LANES;
    }
    vi_store_packed(codes, code[0], code[1], code[2], code[3], q->lo, q->hi);
    return bits;
}

INLINE void quantize_affine_run(uint8_t *codes, uint8_t *bits, const float *x, size_t n,
                                const oct_i8_affine_quantize *q, int masked)
{
    const affine_round r = affine_round_of(q->zero, q->lo, q->hi);
    for (; n >= WIDE; n -= WIDE, codes += WIDE, x += WIDE) {
        const uint64_t step = quantize_affine_step(codes, x, q, &r, masked);
        if (!masked) continue;
        memcpy(bits, &step, WIDE / 8);
        bits += WIDE / 8;
    }
    if (!n) return;
    float rest[WIDE] = {0};
    uint8_t rest_codes[WIDE];
    memcpy(rest, x, n * sizeof *x);
    uint64_t step = quantize_affine_step(rest_codes, rest, q, &r, masked);
    memcpy(codes, rest_codes, n);
    if (!masked) return;
    step &= (UINT64_C(1) << n) - 1;
    memcpy(bits, &step, (n + 7) / 8);
}

static TARGET void NAME(quantize_affine)(uint8_t *codes, uint8_t *bits, const float *x, size_t n,
                                         const oct_i8_affine_quantize *q)
{
    if (bits)
        quantize_affine_run(codes, bits, x, n, q, 1);
    else
        quantize_affine_run(codes, bits, x, n, q, 0);
}
