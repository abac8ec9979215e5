/* SPDX-License-Identifier: BSD-2-Clause
 * Colour jitter with the arithmetic of Pillow's ImageEnhance and of its HSV conversion. */
#include <math.h>
#include <stdbool.h>

#include "datasets/transform.h"

static inline uint8_t luminance(const uint8_t *p)
{
    return (uint8_t)((19595 * p[0] + 38470 * p[1] + 7471 * p[2] + 32768) >> 16);
}

static inline uint8_t clamp_byte(int v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* a + factor * (x - a): one product and one sum in float, cut towards zero. */
static inline uint8_t blend(int a, int x, float factor)
{
    float v = (float)a + factor * (float)(x - a);
    return v <= 0.0f ? 0 : v >= 255.0f ? 255 : (uint8_t)v;
}

static void blend_table(uint8_t table[256], int a, float factor)
{
    for (int x = 0; x < 256; x++) table[x] = blend(a, x, factor);
}

static void apply_table(uint8_t *pixels, size_t count, const uint8_t table[256])
{
    for (size_t i = 0; i < count; i++) pixels[i] = table[pixels[i]];
}

void oct_adjust_brightness(uint8_t *pixels, size_t pixel_count, int channels, float factor)
{
    uint8_t table[256];
    blend_table(table, 0, factor);
    apply_table(pixels, pixel_count * (size_t)channels, table);
}

void oct_adjust_contrast(uint8_t *pixels, size_t pixel_count, int channels, float factor)
{
    uint8_t table[256];
    uint64_t sum = 0;
    for (size_t i = 0; i < pixel_count; i++)
        sum += channels == 3 ? luminance(pixels + 3 * i) : pixels[i * (size_t)channels];
    int mean = pixel_count ? (int)((double)sum / (double)pixel_count + 0.5) : 0;
    blend_table(table, mean, factor);
    apply_table(pixels, pixel_count * (size_t)channels, table);
}

void oct_adjust_saturation(uint8_t *pixels, size_t pixel_count, float factor)
{
    for (size_t i = 0; i < pixel_count; i++, pixels += 3) {
        int grey = luminance(pixels);
        for (int c = 0; c < 3; c++) pixels[c] = blend(grey, pixels[c], factor);
    }
}

typedef struct hsv {
    uint8_t h, s, v;
} hsv;

static hsv to_hsv(const uint8_t *p)
{
    int most = p[0] > p[1] ? p[0] : p[1], least = p[0] < p[1] ? p[0] : p[1];
    if (p[2] > most) most = p[2];
    if (p[2] < least) least = p[2];
    if (most == least) return (hsv){0, 0, (uint8_t)most};
    float range = (float)(most - least);
    float r = (float)(most - p[0]) / range, g = (float)(most - p[1]) / range, b = (float)(most - p[2]) / range;
    float h;
    if (p[0] == most)
        h = b - g;
    else if (p[1] == most)
        h = (float)(2.0 + (double)r - (double)b);
    else
        h = (float)(4.0 + (double)g - (double)r);
    h = (float)fmod((double)h / 6.0 + 1.0, 1.0);
    float s = range / (float)most;
    return (hsv){clamp_byte((int)((double)h * 255.0)), clamp_byte((int)((double)s * 255.0)), (uint8_t)most};
}

static void from_hsv(uint8_t *p, hsv c)
{
    if (!c.s) {
        p[0] = p[1] = p[2] = c.v;
        return;
    }
    float h = (float)c.h * 6.0f / 255.0f, s = (float)c.s / 255.0f, v = (float)c.v;
    int sector = (int)floorf(h);
    float f = h - (float)sector;
    uint8_t low = clamp_byte((int)round((double)v * (1.0 - (double)s)));
    uint8_t falling = clamp_byte((int)round((double)v * (1.0 - (double)(s * f))));
    uint8_t rising = clamp_byte((int)round((double)v * (1.0 - (double)s * (1.0 - (double)f))));
    const uint8_t table[6][3] = {{c.v, rising, low}, {falling, c.v, low}, {low, c.v, rising},
                                 {low, falling, c.v}, {rising, low, c.v}, {c.v, low, falling}};
    for (int i = 0; i < 3; i++) p[i] = table[sector % 6][i];
}

void oct_adjust_hue(uint8_t *pixels, size_t pixel_count, float shift)
{
    int step = (int)(shift * 255.0f);
    for (size_t i = 0; i < pixel_count; i++, pixels += 3) {
        hsv c = to_hsv(pixels);
        c.h = (uint8_t)(c.h + step);
        from_hsv(pixels, c);
    }
}

static float factor_of(oct_rng *rng, float strength)
{
    float low = strength < 1.0f ? 1.0f - strength : 0.0f;
    return low + (1.0f + strength - low) * oct_rng_uniform(rng);
}

void oct_color_jitter(uint8_t *pixels, int height, int width, int channels, const oct_jitter *jitter, oct_rng *rng)
{
    size_t count = (size_t)height * (size_t)width;
    const float strengths[4] = {jitter->brightness, jitter->contrast, jitter->saturation, jitter->hue};
    int order[4] = {0, 1, 2, 3};
    bool any = false;
    for (int i = 0; i < 4; i++) any |= strengths[i] > 0;
    if (!any) return;
    for (int i = 3; i > 0; i--) {
        int j = (int)oct_rng_below(rng, (uint32_t)i + 1), keep = order[i];
        order[i] = order[j];
        order[j] = keep;
    }
    for (int i = 0; i < 4; i++) {
        float strength = strengths[order[i]];
        if (!(strength > 0) || (order[i] >= 2 && channels != 3)) continue;
        switch (order[i]) {
        case 0: oct_adjust_brightness(pixels, count, channels, factor_of(rng, strength)); break;
        case 1: oct_adjust_contrast(pixels, count, channels, factor_of(rng, strength)); break;
        case 2: oct_adjust_saturation(pixels, count, factor_of(rng, strength)); break;
        default: oct_adjust_hue(pixels, count, strength * (2.0f * oct_rng_uniform(rng) - 1.0f)); break;
        }
    }
}
