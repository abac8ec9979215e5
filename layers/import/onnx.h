/* SPDX-License-Identifier: BSD-2-Clause
 * ONNX files of float networks, without Python: graph and weights, as a model like those of the zoo (layers/models.h), so
 * that it is trained, scored, quantized and exported like them.
 *
 * Operators: Conv, BatchNormalization, Gemm, MatMul, Relu, Clip, LeakyRelu, PRelu, Elu, Sigmoid, Tanh, HardSwish, Softmax,
 * LogSoftmax, Add, Sub, Mul, Div, Sum, Concat, MaxPool, AveragePool, GlobalAveragePool, ReduceMean, Flatten, Reshape,
 * Squeeze, Transpose, Resize, Pad, Dropout, Identity, Constant; operator sets 7..24 of the default domain. Anything else,
 * and attributes without an op of ours, are refused by name.
 *
 * What changes on the way:
 *   - Tensors N,C,H,W are N,H,W,C here: kernels O,I,H,W become O,H,W,I, depthwise C,1,H,W become H,W,C. The columns of
 *     a matrix behind a flattened C,H,W are put into the order H,W,C. Transposes between the two layouts vanish.
 *   - The image is u8 0..255 with `normalize` behind it: the caller's preprocessing, and the network's own scalar or
 *     per-channel Sub, Div, Mul, Add at the input.
 *   - A softmax or log-softmax at the end is dropped (logits); the last layer is named "head". Other nodes keep their
 *     names, or take that of their output.
 *   - Batch norm's momentum m becomes 1-m.
 */
#ifndef OCT_LAYERS_IMPORT_ONNX_H
#define OCT_LAYERS_IMPORT_ONNX_H

#include "layers/import/network.h"

/* Is it an ONNX file? Looks at the first bytes alone. */
bool oct_onnx_probe(const char *path);

/* Builds the file's network into an empty graph, with its weights. `options` NULL = all zero. OCT_ERR_IO: cannot be read;
 * OCT_ERR_FORMAT: not ONNX, damaged, a cycle, a missing tensor, shapes that do not fit; OCT_ERR_UNSUPPORTED: an operator,
 * attribute or operator set that Octet does not have, or data in other files. Messages name the file and the node. The
 * graph is unusable then. */
OCT_MUST_USE oct_status oct_onnx_build(oct_model *model, oct_graph *graph, const char *path,
                                       const oct_network_options *options);
/* The same from memory; `name` stands for the file in messages. */
OCT_MUST_USE oct_status oct_onnx_build_from(oct_model *model, oct_graph *graph, const char *name, const void *bytes,
                                            size_t size, const oct_network_options *options);

#endif
