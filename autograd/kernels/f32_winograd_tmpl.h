/* SPDX-License-Identifier: BSD-2-Clause
 * Vector variants of the Winograd transforms, a part of f32_tmpl.h: same parameters, same rounding as
 * f32_winograd_c.c. Vectors run over channels. No include guard by design.
 *
 * whole: every pixel of the tile lies in the image, so that addresses are two strides from one base.
 */

/* Bit 4*r + s: pixel (r, s) of a tile at (row, column) lies in the image. */
static unsigned T_NAME(tile_inside)(const oct_f32_tiles *p, const int side, int row, int column)
{
    unsigned inside = 0;
    for (int r = 0; r < side; r++) {
        for (int s = 0; s < side; s++) {
            if (row + r >= 0 && row + r < p->height && column + s >= 0 && column + s < p->width)
                inside |= 1u << (4 * r + s);
        }
    }
    return inside;
}

T_INLINE T_VEC T_NAME(tile_pixel)(const float *x, const oct_f32_tiles *p, const int r, const int s,
                                  unsigned inside, const int whole, int n)
{
    if (!whole && !(inside >> (4 * r + s) & 1)) return T_ZERO();
    return T_NAME(load_some)(x + r * p->row + s * p->pixel, n);
}

/* Positions 4i..4i+3 of a transformed tile. */
T_INLINE void T_NAME(tile_store_row)(float *v, const T_VEC *out, const int i, const oct_f32_tiles *p, int n)
{
    T_NAME(store_some)(v + (4 * i + 0) * p->position, out[0], n);
    T_NAME(store_some)(v + (4 * i + 1) * p->position, out[1], n);
    T_NAME(store_some)(v + (4 * i + 2) * p->position, out[2], n);
    T_NAME(store_some)(v + (4 * i + 3) * p->position, out[3], n);
}

/* out[0..3] = B^T in[0..3] */
T_INLINE void T_NAME(winograd_bt)(T_VEC *out, T_VEC a, T_VEC b, T_VEC c, T_VEC d)
{
    out[0] = T_SUB(a, c);
    out[1] = T_ADD(b, c);
    out[2] = T_SUB(c, b);
    out[3] = T_SUB(d, b);
}

T_INLINE void T_NAME(winograd_input_some)(float *v, const float *x, const oct_f32_tiles *p, unsigned inside,
                                          const int whole, int n)
{
    T_VEC a[4][4], out[4];
#define COLUMN(s)                                                                       \
    T_NAME(winograd_bt)(a[s], T_NAME(tile_pixel)(x, p, 0, s, inside, whole, n),         \
                        T_NAME(tile_pixel)(x, p, 1, s, inside, whole, n),               \
                        T_NAME(tile_pixel)(x, p, 2, s, inside, whole, n),               \
                        T_NAME(tile_pixel)(x, p, 3, s, inside, whole, n));
    COLUMN(0) COLUMN(1) COLUMN(2) COLUMN(3)
#undef COLUMN
#define ROW(i)                                                    \
    T_NAME(winograd_bt)(out, a[0][i], a[1][i], a[2][i], a[3][i]); \
    T_NAME(tile_store_row)(v, out, i, p, n);
    ROW(0) ROW(1) ROW(2) ROW(3)
#undef ROW
}

/* One row of tiles of side x side pixels by `some`: tiles that lie in the image as a whole without a test per pixel. */
#define TILE_ROW(some, side, v, x, p)                                                        \
    for (int t = 0; t < (p)->tiles; t++) {                                                   \
        int column = (p)->left + 2 * t, c = 0;                                               \
        unsigned inside = T_NAME(tile_inside)(p, side, (p)->top, column);                    \
        unsigned all = ((1u << (side)) - 1) * ((side) == 4 ? 0x1111u : 0x11u);               \
        const float *corner = (x) + (p)->top * (p)->row + column * (p)->pixel;               \
        float *to = (v) + t * (p)->tile;                                                     \
        for (; inside == all && c + T_V <= (p)->channels; c += T_V)                          \
            T_NAME(some)(to + c, corner + c, p, inside, 1, T_V);                             \
        for (; c + T_V <= (p)->channels; c += T_V)                                           \
            T_NAME(some)(to + c, corner + c, p, inside, 0, T_V);                             \
        if (c < (p)->channels)                                                               \
            T_NAME(some)(to + c, corner + c, p, inside, 0, (p)->channels - c);               \
    }

T_TARGET static void T_NAME(winograd_input)(float *v, const float *x, const oct_f32_tiles *p)
{
    TILE_ROW(winograd_input_some, 4, v, x, p)
}

/* out[0..3] = A in[0..1] */
T_INLINE void T_NAME(winograd_a)(T_VEC *out, T_VEC a, T_VEC b)
{
    out[0] = a;
    out[1] = T_ADD(a, b);
    out[2] = T_SUB(a, b);
    out[3] = b;
}

T_INLINE void T_NAME(winograd_gradient_some)(float *v, const float *dy, const oct_f32_tiles *p,
                                             unsigned inside, const int whole, int n)
{
    T_VEC a[2][4], out[4];
#define COLUMN(s)                                                                     \
    T_NAME(winograd_a)(a[s], T_NAME(tile_pixel)(dy, p, 0, s, inside, whole, n),       \
                       T_NAME(tile_pixel)(dy, p, 1, s, inside, whole, n));
    COLUMN(0) COLUMN(1)
#undef COLUMN
#define ROW(i)                                 \
    T_NAME(winograd_a)(out, a[0][i], a[1][i]); \
    T_NAME(tile_store_row)(v, out, i, p, n);
    ROW(0) ROW(1) ROW(2) ROW(3)
#undef ROW
}

T_TARGET static void T_NAME(winograd_gradient)(float *v, const float *dy, const oct_f32_tiles *p)
{
    TILE_ROW(winograd_gradient_some, 2, v, dy, p)
}
#undef TILE_ROW

T_INLINE void T_NAME(winograd_pixel)(float *y, T_VEC v, const float *bias, int accumulate, int n)
{
    if (bias) v = T_ADD(v, T_NAME(load_some)(bias, n));
    if (accumulate) v = T_ADD(T_NAME(load_some)(y, n), v);
    T_NAME(store_some)(y, v, n);
}

T_INLINE void T_NAME(winograd_output_some)(float *y, const float *m, const float *bias,
                                           const oct_f32_tiles *p, unsigned inside, int n)
{
    T_VEC a[2][4];
#define M(i, j) T_NAME(load_some)(m + (4 * (i) + (j)) * p->position, n)
#define COLUMN(j)                                               \
    {                                                           \
        T_VEC one = M(1, j), two = M(2, j);                     \
        a[0][j] = T_ADD(T_ADD(M(0, j), one), two);              \
        a[1][j] = T_ADD(T_SUB(one, two), M(3, j));              \
    }
    COLUMN(0) COLUMN(1) COLUMN(2) COLUMN(3)
#undef COLUMN
#undef M
#define ROW(r)                                                                                       \
    if (inside >> (4 * (r)) & 1)                                                                     \
        T_NAME(winograd_pixel)(y + (r) * p->row, T_ADD(T_ADD(a[r][0], a[r][1]), a[r][2]), bias,      \
                               p->accumulate, n);                                                    \
    if (inside >> (4 * (r) + 1) & 1)                                                                 \
        T_NAME(winograd_pixel)(y + (r) * p->row + p->pixel, T_ADD(T_SUB(a[r][1], a[r][2]), a[r][3]), \
                               bias, p->accumulate, n);
    ROW(0) ROW(1)
#undef ROW
}

T_TARGET static void T_NAME(winograd_output)(float *y, const float *m, const float *bias,
                                             const oct_f32_tiles *p)
{
    for (int t = 0; t < p->tiles; t++) {
        int column = p->left + 2 * t, c = 0;
        unsigned inside = T_NAME(tile_inside)(p, 2, p->top, column);
        float *corner = y + p->top * p->row + column * p->pixel;
        const float *from = m + t * p->tile;
        for (; c + T_V <= p->channels; c += T_V)
            T_NAME(winograd_output_some)(corner + c, from + c, bias ? bias + c : bias, p, inside, T_V);
        if (c < p->channels)
            T_NAME(winograd_output_some)(corner + c, from + c, bias ? bias + c : bias, p, inside,
                                         p->channels - c);
    }
}
