/* SPDX-License-Identifier: BSD-2-Clause
 * Names of the same layer in other people's files. A map is a table of patterns from the names of our layers (the node
 * names of layers/models.c, "stage2/block1/conv1") to those of a family of files ("layer2.0.conv1"):
 *
 *   ours     '#' stands for a number
 *   theirs   "{1}", "{2}", ... the numbers in order, "{b}" the block counted from 0 through all stages (behind the last
 *            block: the last block's); "{1-1}", "{b+2}": plus or minus a digit
 *
 * The first pattern that fits decides. A new network or source is a new table in names.c.
 */
#ifndef OCT_LAYERS_IMPORT_NAMES_H
#define OCT_LAYERS_IMPORT_NAMES_H

#include <stdbool.h>
#include <stddef.h>

#include "autograd/ops.h"

/* How a framework stores and calls the parameters of a layer. */
typedef enum oct_layout {
    OCT_LAYOUT_OCTET, /* <layer>/weight O,H,W,I, depthwise H,W,C, linear O,I; /gamma, /beta, /mean, /var */
    OCT_LAYOUT_TORCH, /* <layer>.weight O,I,H,W, depthwise C,1,H,W, linear O,I; .weight, .bias, .running_mean, _var */
    OCT_LAYOUT_KERAS  /* <layer>/kernel H,W,I,O, depthwise_kernel H,W,C,1, dense I,O; /gamma, .., /moving_variance */
} oct_layout;

typedef struct oct_name_rule {
    const char *ours, *theirs;
} oct_name_rule;

typedef struct oct_name_map {
    const char *name; /* for reports: "torchvision resnet" */
    oct_layout layout;
    const oct_name_rule *rules; /* ended by NULL; NULL: layers are called as here, with the layout's separator */
} oct_name_map;

const oct_name_map *oct_name_map_at(int index); /* NULL past the last */

enum { OCT_NAME_BYTES = 512 };
/* The name that a layer of ours has in files of the map; false when no pattern fits. `block`: its number "{b}". */
bool oct_name_map_layer(char out[OCT_NAME_BYTES], const oct_name_map *map, const char *layer, int block);

/* The name of a parameter or buffer node ("<layer>/gamma") in files of the map; false when there is none. `depthwise`:
 * the weight of a depthwise convolution, which Keras calls differently. */
bool oct_name_map_tensor(char out[OCT_NAME_BYTES], const oct_name_map *map, const char *node, int block,
                         bool depthwise);

/* Length of the part of a layer's name that names its block ("stage2/block1", "block7"); 0 outside blocks. */
size_t oct_name_block_length(const char *layer);

/* The preprocessing that the weights of the zoo's model were trained with when they are named by that map; false: not
 * known. Channels are red, green, blue. */
bool oct_name_map_preprocess(oct_normalize_attrs *attrs, const oct_name_map *map, const char *model);

#endif
