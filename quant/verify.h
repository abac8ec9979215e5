/* SPDX-License-Identifier: BSD-2-Clause
 * Is the shipped model the trained one? Runs the engine and the node-by-node double simulation of the quantized graph
 * (autograd/reference.h, quant/reference.c) on the same images and compares every code of every tensor that the engine
 * materialises, and the scores. The two share no kernel and no rounding code.
 */
#ifndef OCT_VERIFY_H
#define OCT_VERIFY_H

#include "quant/int8/octet_int8.h"
#include "quant/quantize.h"

typedef struct oct_verify_result {
    int64_t images;
    int64_t codes_compared, codes_differing; /* scores included */
    int64_t outputs_identical;               /* images whose scores are all the same */
    const char *first_tensor;                /* earliest tensor in execution order that ever differed, NULL = none */
    int64_t first_image;                     /* the first image on which it did */
    int tensors;                             /* compared per image */
    /* Profile affine: the same codes against rounding each layer's real value, in double and to nearest even, on the inputs
     * that the layer had; how far the requantization of the file is from that. 0 in po2, where the two are one. */
    int64_t rounding_compared, rounding_differing;
    int rounding_most;                       /* largest difference, in codes */
} oct_verify_result;

typedef struct oct_verifier oct_verifier;

/* Both must outlive the verifier. `batch`: images per call, at most. `threads`: of both sides. OCT_ERR_SHAPE when the two
 * are not of one network: a tensor of the model has no node of that name, or another shape. */
OCT_MUST_USE oct_status oct_verifier_create(oct_verifier **out, oct_graph *graph, oct_value image, oct_value logits,
                                            const oct_int8_model *model, int batch);
void oct_verifier_destroy(oct_verifier *verifier);
/* Adds `count` u8 NHWC images. */
OCT_MUST_USE oct_status oct_verifier_add(oct_verifier *verifier, const uint8_t *pixels, int count);
const oct_verify_result *oct_verifier_result(const oct_verifier *verifier);

#endif
