/* SPDX-License-Identifier: BSD-2-Clause
 * Between the files of the Keras reader.
 *
 *   keras_file.c     HDF5 -> JSON text and tensors
 *   keras_net.c      JSON -> layers, their calls, the order in which calls are built; models inside models
 *   keras_config.c   one layer's configuration: typed, bounded attributes
 *   keras_value.c    what stands between layers: shapes in Keras's sense, padding, softmax and preprocessing put off
 *   keras_weights.c  tensors -> parameters in Octet's layouts
 *   keras_layers.c   classes of layers -> nodes: the table, convolutions, dense, batch norm
 *   keras_shapes.c   the same: pools, activations, everything without weights
 */
#ifndef OCT_LAYERS_IMPORT_KERAS_INTERNAL_H
#define OCT_LAYERS_IMPORT_KERAS_INTERNAL_H

#include <cjson/cJSON.h>

#include "autograd/base/memory.h"
#include "layers/import/keras.h"

enum {
    OCT_KERAS_NAME = 360,      /* room for a node's name made of layers' names; those are at most 170 bytes */
    OCT_KERAS_MAX_LAYERS = 4096,
    OCT_KERAS_MAX_CALLS = 8192,
    OCT_KERAS_MAX_INPUTS = 64, /* of one call */
    OCT_KERAS_MAX_DEPTH = 8,   /* models inside models */
    OCT_KERAS_MAX_ATTRIBUTES = 32,
};

/* What a layer hands on. `dim` is Keras's shape without the batch: rank 1 [C], 2 [H,W], 3 [H,W,C]; the graph's value holds
 * the same elements as [N,H,W,C] or [N,C]. What no op does yet is put off: */
typedef struct oct_keras_value {
    oct_value v;
    int rank;
    int64_t dim[3];
    int32_t pad[4];              /* zeros around v (top, left, bottom, right) that are part of dim */
    bool softmax;                /* stands for softmax(v) */
    const char *name;            /* for the node of these two, when it is made after all */
    bool raw;                    /* v is the image, this stands for v*scale + offset */
    double scale[4], offset[4];
} oct_keras_value;

typedef struct oct_keras_builder {
    oct_graph *graph;
    oct_error *error;
    const char *file; /* for messages */
    const oct_tensors *tensors;
    uint8_t *used;    /* per tensor: a layer took it */
    const oct_network_options *options;
    oct_arena arena;
    int depth;        /* of the model that is being built */
    int calls;        /* built so far */
    oct_value image;
} oct_keras_builder;

/* One call of a layer. */
typedef struct oct_keras_layer {
    oct_keras_builder *b;
    const char *class_name;
    const char *name;  /* in its model */
    const char *group; /* name of the outermost layer it is in: its tensors' first part */
    const cJSON *config;
    char path[OCT_KERAS_NAME]; /* its name behind those of the models around it */
    char node[OCT_KERAS_NAME]; /* name for the nodes of its parameters */
    char call[OCT_KERAS_NAME]; /* name for the nodes of this call's ops */
    const oct_keras_value *inputs;
    int input_count;
    const char *asked[OCT_KERAS_MAX_ATTRIBUTES]; /* attributes that somebody read */
    int asked_count;
} oct_keras_layer;

/* "FILE: layer 'NAME' (CLASS): ..." */
oct_status oct_keras_fail(const oct_keras_layer *layer, oct_status status, const char *format, ...) OCT_PRINTF(3, 4);
/* What the graph's builders left in the context, with file and layer in front. */
oct_status oct_keras_graph_status(const oct_keras_layer *layer);

/* --- keras_net.c --- */

/* The value of the whole network of `json` ({"class_name":...,"config":...}). */
oct_status oct_keras_network(oct_keras_builder *b, const cJSON *json, oct_keras_value *out);

/* --- keras_config.c: attributes; `missing` is Keras's default --- */

const cJSON *oct_keras_attribute(oct_keras_layer *layer, const char *key); /* NULL when missing or null */
oct_status oct_keras_integer(oct_keras_layer *layer, const char *key, int64_t missing, int64_t min, int64_t max,
                             int64_t *out);
oct_status oct_keras_number(oct_keras_layer *layer, const char *key, double missing, double *out);
oct_status oct_keras_bool(oct_keras_layer *layer, const char *key, bool missing, bool *out);
/* One integer for both, or [height, width]; 1..4096. missing 0: the attribute must be there. */
oct_status oct_keras_pair(oct_keras_layer *layer, const char *key, int32_t missing, int32_t out[2]);
/* "" when missing. Borrowed. */
oct_status oct_keras_text(oct_keras_layer *layer, const char *key, const char **out);
oct_status oct_keras_padding(oct_keras_layer *layer, oct_padding *out); /* "valid", "same" */
oct_status oct_keras_channels_last(oct_keras_layer *layer);
/* The last dimension of a value of that rank: -1, rank, or [rank]. */
oct_status oct_keras_last_axis(oct_keras_layer *layer, const char *key, int rank);
/* Refuses attributes that nobody read and that are not known to have no meaning for inference. */
oct_status oct_keras_check_attributes(const oct_keras_layer *layer);

/* --- keras_value.c --- */

/* A value of the graph, with its shape taken from the node. */
oct_keras_value oct_keras_value_of(const oct_keras_builder *b, oct_value v);
int64_t oct_keras_elements(const oct_keras_value *x);
/* "(32, 32, 3)" into text; returns text. */
enum { OCT_KERAS_SHAPE = 80 };
const char *oct_keras_shape(char text[OCT_KERAS_SHAPE], const oct_keras_value *x);

/* What is put off becomes nodes: preprocessing, softmax, padding (unless `keep_pad`). */
oct_status oct_keras_settle(const oct_keras_layer *layer, oct_keras_value *x, bool keep_pad);
/* Settled, and [N,H,W,C] in the graph, too, when Keras has (H,W,C): the channels are the last dimension. */
oct_status oct_keras_real(const oct_keras_layer *layer, oct_keras_value *x, bool keep_pad);
/* The same of what must be (H,W,C); else refused. */
oct_status oct_keras_spatial(const oct_keras_layer *layer, oct_keras_value *x, bool keep_pad);
/* Settled, and [N,C]. */
oct_status oct_keras_flat(const oct_keras_layer *layer, oct_keras_value *x, const char *node);

/* --- keras_weights.c --- */

/* The layer's tensor `part`, which must have that shape. */
oct_status oct_keras_tensor(const oct_keras_layer *layer, const char *part, int rank, const int64_t *dims,
                            const oct_named_tensor **out);
bool oct_keras_has_tensor(const oct_keras_layer *layer, const char *part);

/* Copies n tensor elements into a parameter's. */
typedef void oct_keras_order(float *to, const oct_named_tensor *from);
void oct_keras_order_same(float *to, const oct_named_tensor *from);  /* also H,W,C,1 -> H,W,C */
void oct_keras_order_last(float *to, const oct_named_tensor *from);  /* ...,I,O -> O,...,I */
void oct_keras_order_multi(float *to, const oct_named_tensor *from); /* H,W,C,M -> C*M,H,W,1 */

/* The parameter or buffer "<layer>/<suffix>", made now from the tensor, or at an earlier call of the layer. */
oct_status oct_keras_parameter(const oct_keras_layer *layer, const char *suffix, oct_shape shape,
                               const oct_named_tensor *tensor, oct_keras_order *order, oct_value *out);
oct_status oct_keras_buffer(const oct_keras_layer *layer, const char *suffix, oct_shape shape,
                            const oct_named_tensor *tensor, oct_value *out);
/* A parameter of equal values that the file has no tensor for. */
oct_status oct_keras_constant(const oct_keras_layer *layer, const char *suffix, oct_shape shape, float value,
                              oct_value *out);

/* --- keras_layers.c, keras_shapes.c --- */

typedef oct_status oct_keras_build_fn(oct_keras_layer *layer, oct_keras_value *out);
oct_status oct_keras_build_layer(oct_keras_layer *layer, oct_keras_value *out);
/* The activation that the attribute `activation` names, on *x. `node`: name for it when it is not the whole layer. */
oct_status oct_keras_activation(oct_keras_layer *layer, const char *node, oct_keras_value *x);

oct_keras_build_fn oct_keras_build_activation, oct_keras_build_relu, oct_keras_build_leaky_relu, oct_keras_build_prelu,
    oct_keras_build_elu, oct_keras_build_softmax, oct_keras_build_add, oct_keras_build_subtract, oct_keras_build_multiply, oct_keras_build_concatenate, oct_keras_build_max_pool,
    oct_keras_build_average_pool, oct_keras_build_global_average_pool, oct_keras_build_zero_padding,
    oct_keras_build_flatten, oct_keras_build_reshape, oct_keras_build_dropout, oct_keras_build_upsampling,
    oct_keras_build_rescaling;

#endif
