/* SPDX-License-Identifier: BSD-2-Clause
 * Runs an exported model on one image of raw pixels.
 *   cc -I. docs/example_infer.c build/release/liboctet-int8.a -fopenmp -lm -o example_infer
 *   bin/export runs/int8/last.h5 -o model.oct8 --format image
 *   ./example_infer model.oct8 pixels.rgb          pixels.rgb: height x width x channels bytes
 */
#include <stdio.h>
#include <stdlib.h>

#include "quant/int8/octet_int8.h"

static unsigned char bytes[1 << 24], pixels[1 << 20];

int main(int argc, char **argv)
{
    oct_error error = {OCT_OK, ""};
    oct_int8_model *model;
    oct_int8_state *state;
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL, *image = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (!file || !image) return fprintf(stderr, "usage: example_infer MODEL PIXELS\n"), 2;
    size_t size = fread(bytes, 1, sizeof bytes, file), given = fread(pixels, 1, sizeof pixels, image);
    if (oct_int8_open(&model, bytes, size, NULL, &error) || oct_int8_state_create(&state, model, 1, 0, &error))
        return fprintf(stderr, "%s\n", error.message), 1;
    const oct_int8_tensor *in = oct_int8_tensor_at(model, oct_int8_input(model));
    if (given != (size_t)in->height * (size_t)in->width * (size_t)in->channels)
        return fprintf(stderr, "expected %d x %d x %d bytes\n", in->height, in->width, in->channels), 1;
    int32_t *scores = calloc((size_t)oct_int8_output_count(model), sizeof *scores);
    if (!scores || oct_int8_run(state, pixels, 1, scores)) return 1;
    int best = oct_int8_argmax(model, scores);
    const char *name = oct_int8_class_name(model, best);
    printf("class %d %s\n", best, name ? name : "");
    free(scores);
    oct_int8_state_destroy(state);
    oct_int8_close(model);
    return 0;
}
