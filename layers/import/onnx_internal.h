/* SPDX-License-Identifier: BSD-2-Clause
 * Between the files of the ONNX reader.
 *
 *   onnx_file.c   bytes -> the lists below (the only part that sees protobuf)
 *   onnx_net.c    who reads whom, and in which order nodes are built
 *   onnx_value.c  what stands between nodes: layouts, flattened images, softmax and preprocessing put off
 *   onnx_layers.c, onnx_shapes.c   operators -> nodes of the graph
 */
#ifndef OCT_LAYERS_IMPORT_ONNX_INTERNAL_H
#define OCT_LAYERS_IMPORT_ONNX_INTERNAL_H

#include "autograd/base/memory.h"
#include "layers/import/onnx.h"

enum {
    OCT_ONNX_MAX_RANK = 8,
    OCT_ONNX_MAX_NODES = 4096,
    OCT_ONNX_MAX_INPUTS = 64, /* of a node */
    OCT_ONNX_NAME = 320,
};

/* --- the file's content; everything lives in the content's arena --- */

typedef struct oct_onnx_tensor {
    const char *name;
    int rank;
    int64_t dims[OCT_ONNX_MAX_RANK];
    size_t count;
    float *data;   /* count values */
    int64_t *ints; /* the same exactly, of integer types; else NULL */
} oct_onnx_tensor;

typedef struct oct_onnx_attribute {
    const char *name;
    int type; /* ONNX's: 1 float, 2 int, 3 string, 4 tensor, 6 floats, 7 ints */
    float f;
    int64_t i;
    const char *s;
    const oct_onnx_tensor *t;
    const int64_t *ints;
    int int_count;
} oct_onnx_attribute;

typedef struct oct_onnx_node {
    const char *name, *op;
    const char **inputs, **outputs; /* "" = left out */
    int input_count, output_count;
    oct_onnx_attribute *attributes;
    int attribute_count;
} oct_onnx_node;

typedef struct oct_onnx_content {
    oct_arena arena;
    const char *name;
    int opset;
    oct_onnx_node *nodes;
    int node_count;
    oct_onnx_tensor *tensors;
    int tensor_count;
    const char *input, *output; /* the one of each that is no tensor of the file */
    int input_rank;
    int64_t input_dims[OCT_ONNX_MAX_RANK]; /* <= 0: open */
} oct_onnx_content;

OCT_MUST_USE oct_status oct_onnx_file_parse(oct_onnx_content *out, const char *file, const void *bytes, size_t size,
                                            oct_error *error);
void oct_onnx_content_release(oct_onnx_content *content);

/* --- values --- */

/* A tensor between nodes. Rank 4: dim is C,H,W whatever the order in the file, which is N,C,H,W, or N,H,W,C when `nhwc`;
 * the graph holds [N,H,W,C], or [N,C] when H = W = 1. Rank 2: dim[0] features, [N,K] in the graph; flat[] is the C,H,W
 * whose order the file means, when that is not the graph's (H,W,C). */
typedef struct oct_onnx_value {
    const oct_onnx_tensor *constant; /* then nothing else counts */
    oct_value v;
    int rank;
    int64_t dim[3];
    bool nhwc;
    int64_t flat[3];            /* flat[0] = 0: the graph's order */
    bool softmax, log_softmax;  /* stands for it */
    const char *name;           /* of that node, should it be made */
    bool raw;                   /* v is the image, this stands for v*scale + offset */
    double scale[4], offset[4];
} oct_onnx_value;

typedef struct oct_onnx_builder {
    oct_graph *graph;
    oct_error *error;
    const char *file;
    const oct_network_options *options;
    const oct_onnx_content *content;
    oct_arena arena;
    oct_value image;
} oct_onnx_builder;

/* One node while it is built. */
typedef struct oct_onnx_layer {
    oct_onnx_builder *b;
    const oct_onnx_node *node;
    char name[OCT_ONNX_NAME]; /* of its nodes in the graph */
    const oct_onnx_value *inputs[OCT_ONNX_MAX_INPUTS]; /* NULL = left out */
    int input_count;
    bool only_user; /* nobody else reads input 0 */
} oct_onnx_layer;

/* "FILE: node 'NAME' (OP): ..." */
oct_status oct_onnx_fail(const oct_onnx_layer *layer, oct_status status, const char *format, ...) OCT_PRINTF(3, 4);
oct_status oct_onnx_graph_status(const oct_onnx_layer *layer);

/* Attributes; the second argument is what a missing one means. */
const oct_onnx_attribute *oct_onnx_attribute_of(const oct_onnx_layer *layer, const char *name);
int64_t oct_onnx_int(const oct_onnx_layer *layer, const char *name, int64_t missing);
double oct_onnx_float(const oct_onnx_layer *layer, const char *name, double missing);
const char *oct_onnx_text(const oct_onnx_layer *layer, const char *name, const char *missing);
/* `count` integers in [min, max]. */
oct_status oct_onnx_ints(const oct_onnx_layer *layer, const char *name, int count, int32_t missing, int32_t min,
                         int32_t max, int32_t *out);
/* Every attribute of the node is in the NULL-terminated list. */
oct_status oct_onnx_known(const oct_onnx_layer *layer, const char *const *names);

/* Input i as a constant of the file; refused when it is computed or missing. */
oct_status oct_onnx_constant(const oct_onnx_layer *layer, int i, const oct_onnx_tensor **out);
bool oct_onnx_has_input(const oct_onnx_layer *layer, int i);

oct_onnx_value oct_onnx_value_of(const oct_onnx_builder *b, oct_value v);
/* Input i with nothing put off; refused when it is a constant. */
oct_status oct_onnx_settled(const oct_onnx_layer *layer, int i, oct_onnx_value *out);
/* The same as an image: [N,H,W,C] in the graph, N,C,H,W in the file. */
oct_status oct_onnx_image(const oct_onnx_layer *layer, int i, oct_onnx_value *out);

typedef oct_status oct_onnx_build_fn(const oct_onnx_layer *layer, oct_onnx_value *out);
oct_status oct_onnx_build_node(const oct_onnx_layer *layer, oct_onnx_value *out);
oct_onnx_build_fn oct_onnx_build_arithmetic, oct_onnx_build_sum, oct_onnx_build_concat, oct_onnx_build_max_pool,
    oct_onnx_build_average_pool, oct_onnx_build_global_pool, oct_onnx_build_reduce_mean, oct_onnx_build_flatten,
    oct_onnx_build_reshape, oct_onnx_build_squeeze, oct_onnx_build_transpose, oct_onnx_build_resize, oct_onnx_build_pad;

/* Windows of convolutions and pools: strides, dilations, pads, auto_pad. */
typedef struct oct_onnx_window {
    int32_t kernel[2], stride[2], dilation[2], pad[4];
    oct_padding padding;
} oct_onnx_window;
oct_status oct_onnx_read_window(const oct_onnx_layer *layer, oct_onnx_window *out);

oct_status oct_onnx_network(oct_onnx_builder *b, oct_onnx_value *out);

#endif
