/* SPDX-License-Identifier: BSD-2-Clause
 * Class probabilities of imported networks against those of the framework they come from, on images made by a formula
 * that the generators of tests/golden/gen have, too.
 */
#ifndef OCT_TESTS_KERAS_REFERENCE_H
#define OCT_TESTS_KERAS_REFERENCE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/memory.h"
#include "tests/testing.h"
#include "train/evaluate.h"

static inline uint8_t reference_pixel(int n, int y, int x, int c)
{
    return (uint8_t)((x * (1 + n % 5) + y * (1 + n % 7) + c * (17 + n) + ((x / 4) ^ (y / 4)) * (n % 11) * 9) & 255);
}

static inline uint8_t *reference_images(const oct_shape *shape, int count)
{
    int height = shape->dim[1], width = shape->dim[2], channels = shape->dim[3];
    uint8_t *images = malloc((size_t)count * (size_t)height * (size_t)width * (size_t)channels), *p = images;
    for (int n = 0; n < count; n++)
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++)
                for (int c = 0; c < channels; c++) *p++ = reference_pixel(n, y, x, c);
    return images;
}

/* Largest difference of a probability in one row. */
static inline double probability_error(const double *scores, const double *expected, int classes)
{
    double most = 0, sum = 0, largest = scores[0];
    for (int k = 1; k < classes; k++) largest = scores[k] > largest ? scores[k] : largest;
    for (int k = 0; k < classes; k++) sum += exp(scores[k] - largest);
    for (int k = 0; k < classes; k++) {
        double error = fabs(exp(scores[k] - largest) / sum - expected[k]);
        if (!(error <= most)) most = error; /* NaN stays */
    }
    return most;
}

/* The table of `name` in a file of "name count classes" and count rows; NULL when it is not there. Freed by the caller. */
static inline double *reference_read(const char *path, const char *name, int *count, int *classes)
{
    char line[4096], key[64];
    FILE *file = fopen(path, "r");
    double *values = NULL;
    while (file && !values && fgets(line, sizeof line, file))
        if (sscanf(line, "%63s %d %d", key, count, classes) == 3 && !strcmp(key, name))
            values = calloc((size_t)*count * (size_t)*classes, sizeof *values);
    for (int i = 0; values && i < *count * *classes; i++)
        if (fscanf(file, "%lf", &values[i]) != 1) values[i] = NAN;
    if (file) fclose(file);
    return values;
}

/* Every probability of the network within `tolerance` of the table's. */
static inline void expect_reference(oct_graph *graph, const oct_model *model, const char *path, const char *name,
                                    double tolerance)
{
    int count = 0, classes = 0;
    const double *scores = NULL;
    oct_evaluator *evaluator = NULL;
    double *expected = reference_read(path, name, &count, &classes);
    CU_ASSERT_FATAL(expected != NULL);
    const oct_shape *image = &oct_graph_node(graph, model->image)->shape;
    uint8_t *images = reference_images(image, count);
    CU_ASSERT(oct_graph_node(graph, model->logits)->shape.dim[1] == classes);
    ASSERT_OK(graph->ctx, oct_evaluator_create(&evaluator, graph, model, count));
    ASSERT_OK(graph->ctx, oct_evaluator_run(evaluator, &scores, images, count));
    double most = 0;
    for (int i = 0; i < count && scores; i++) {
        double error = probability_error(scores + i * classes, expected + i * classes, classes);
        if (!(error <= most)) most = error;
    }
    if (!(most <= tolerance)) printf("    %s: a probability is off by %g\n", name, most);
    CU_ASSERT(scores && most <= tolerance);
    oct_evaluator_destroy(evaluator);
    free(images);
    free(expected);
}

#endif
