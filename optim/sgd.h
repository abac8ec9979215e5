/* SPDX-License-Identifier: BSD-2-Clause
 * Stochastic gradient descent on flat arrays, and what happens to gradients before it: accumulation and clipping.
 *
 *   g' = grad*scale + weight_decay*w        (for all parameters, or for weights alone)
 *   v  = momentum*v + g'                    v starts at 0
 *   w -= lr * (nesterov ? g' + momentum*v : v)
 *
 * PyTorch's rule (torch.optim.SGD, dampening 0). With zero momentum v is g' of the last step.
 *
 * Accumulation over n batches: run backward n times (gradients add up), step with scale 1/n, zero the gradients.
 * Clipping: scale *= min(1, max_norm / (scale*norm + 1e-6)), as torch.nn.utils.clip_grad_norm_.
 *
 * Work is cut into chunks of fixed size and partial sums are added in order: the same bytes for any thread count.
 */
#ifndef OCT_OPTIM_SGD_H
#define OCT_OPTIM_SGD_H

#include "autograd/graph.h"
#include "autograd/kernels/f32_kernels.h"

typedef struct oct_sgd_options {
    float momentum;          /* [0, 1) */
    float weight_decay;      /* >= 0 */
    bool nesterov;           /* needs momentum > 0 */
    bool decay_weights_only; /* leave out parameters of rank 0 and 1: biases, gamma, beta */
} oct_sgd_options;

typedef struct oct_sgd {
    oct_ctx *ctx;
    oct_f32_kernels kernels;
    oct_sgd_options options;
    size_t count;     /* elements of graph->params, the gaps between views included */
    float *velocity;  /* laid out like graph->params; saved and restored as the optimizer's slot "velocity" */
    uint8_t *decay;   /* 1 where weight decay applies; NULL = everywhere */
    double *partial;  /* one per chunk, for the norm */
} oct_sgd;

/* For the parameters that the graph has now; adding parameters later makes the optimizer useless. Velocity is zero.
 * OCT_ERR_ARGUMENT names the option out of range. *out is NULL on failure. The context must outlive it. */
OCT_MUST_USE oct_status oct_sgd_create(oct_sgd **out, const oct_graph *graph, const oct_sgd_options *options);
void oct_sgd_destroy(oct_sgd *sgd); /* NULL is allowed */

/* Square root of the sum of squares of all gradients (gaps are zero), in double. */
double oct_sgd_gradient_norm(const oct_sgd *sgd, const float *gradients);
/* What to multiply gradients with so that the norm of scale*gradients is at most max_norm: scale itself when it is.
 * max_norm <= 0 = no limit. A norm that is not finite gives scale. */
float oct_sgd_clip_scale(double norm, float scale, float max_norm);

/* One step: updates the graph's parameters and the velocity. `gradients` is laid out like graph->params and is left
 * alone; `scale` multiplies it. OCT_ERR_STATE when the graph's parameters are not those of create. */
OCT_MUST_USE oct_status oct_sgd_step(oct_sgd *sgd, oct_graph *graph, const float *gradients, float scale, float lr);

#endif
