/* SPDX-License-Identifier: BSD-2-Clause
 * Small labelled image sets made up for tests: noise with a bright band of two rows whose height is the class
 * (at most four). Written as IDX files or as folders of BMP files.
 */
#ifndef OCT_TESTS_TINY_IMAGES_H
#define OCT_TESTS_TINY_IMAGES_H

#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "autograd/base/rng.h"

enum { TINY_SIDE = 8, TINY_PIXELS = TINY_SIDE * TINY_SIDE };

static inline void tiny_image(uint8_t pixels[TINY_PIXELS], int label, uint64_t sample)
{
    oct_rng rng = oct_rng_start(7, OCT_RNG_SYNTHETIC, 0, sample);
    for (int i = 0; i < TINY_PIXELS; i++) pixels[i] = (uint8_t)oct_rng_below(&rng, 120);
    for (int i = 0; i < 2 * TINY_SIDE; i++)
        pixels[2 * label * TINY_SIDE + i] = (uint8_t)(130 + oct_rng_below(&rng, 120));
}

static inline void tiny_be32(FILE *file, uint32_t v)
{
    for (int shift = 24; shift >= 0; shift -= 8) fputc((int)(v >> shift & 255), file);
}

/* <folder>/<prefix>-images-idx3-ubyte and labels. */
static inline int tiny_idx_split(const char *folder, const char *prefix, int count, int classes,
                                 uint64_t first)
{
    char path[1024];
    uint8_t pixels[TINY_PIXELS];
    snprintf(path, sizeof path, "%s/%s-images-idx3-ubyte", folder, prefix);
    FILE *images = fopen(path, "wb");
    snprintf(path, sizeof path, "%s/%s-labels-idx1-ubyte", folder, prefix);
    FILE *labels = fopen(path, "wb");
    if (!images || !labels) return 0;
    tiny_be32(images, 0x803), tiny_be32(images, (uint32_t)count);
    tiny_be32(images, TINY_SIDE), tiny_be32(images, TINY_SIDE);
    tiny_be32(labels, 0x801), tiny_be32(labels, (uint32_t)count);
    for (int i = 0; i < count; i++) {
        tiny_image(pixels, i % classes, first + (uint64_t)i);
        fwrite(pixels, 1, sizeof pixels, images);
        fputc(i % classes, labels);
    }
    return !(fclose(images) | fclose(labels));
}

static inline int tiny_idx(const char *folder, int train, int test, int classes)
{
    return tiny_idx_split(folder, "train", train, classes, 0) &&
           tiny_idx_split(folder, "t10k", test, classes, 1u << 20);
}

/* One 24-bit BMP. */
static inline int tiny_bmp(const char *path, int label, uint64_t sample)
{
    uint8_t pixels[TINY_PIXELS], head[54] = {'B', 'M'};
    tiny_image(pixels, label, sample);
    const uint32_t fields[][2] = {
        {2, 54 + 3 * TINY_PIXELS}, {10, 54}, {14, 40}, {18, TINY_SIDE}, {22, TINY_SIDE}};
    for (int i = 0; i < 5; i++)
        for (int b = 0; b < 4; b++) head[fields[i][0] + (uint32_t)b] = (uint8_t)(fields[i][1] >> 8 * b);
    head[26] = 1, head[28] = 24;
    FILE *file = fopen(path, "wb");
    if (!file) return 0;
    fwrite(head, 1, sizeof head, file);
    for (int i = 0; i < TINY_PIXELS; i++)
        for (int c = 0; c < 3; c++) fputc(pixels[i], file);
    return !fclose(file);
}

/* <folder>/<split>/class<k>/<n>.bmp */
static inline int tiny_bmp_split(const char *folder, const char *split, int per_class, int classes,
                                 uint64_t first)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, split);
    mkdir(path, 0777);
    for (int k = 0; k < classes; k++) {
        snprintf(path, sizeof path, "%s/%s/class%d", folder, split, k);
        mkdir(path, 0777);
        for (int i = 0; i < per_class; i++) {
            snprintf(path, sizeof path, "%s/%s/class%d/%03d.bmp", folder, split, k, i);
            if (!tiny_bmp(path, k, first + (uint64_t)(i * classes + k))) return 0;
        }
    }
    return 1;
}

#endif
