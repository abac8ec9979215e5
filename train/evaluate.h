/* SPDX-License-Identifier: BSD-2-Clause
 * Scoring: a float graph, a quantized graph or an int8 model over labelled images. Evaluation changes no
 * parameter, no statistic and no range.
 *
 * The three kinds meet in one thing: scores as doubles, [count][classes]. Logits of graphs are floats or
 * codes on a grid; scores of int8 models are int32 * 2^-exponent, which a double holds exactly. Class k is
 * placed before class j when its score is larger, or equal and k < j: the engine's rule.
 */
#ifndef OCT_TRAIN_EVALUATE_H
#define OCT_TRAIN_EVALUATE_H

#include "autograd/plan.h"
#include "datasets/loader.h"
#include "layers/models.h"
#include "quant/int8/octet_int8.h"

typedef struct oct_score {
    int64_t images;     /* with a label */
    int64_t top1, top5; /* how many have their label first, among the first five; 0 for OCT_RECONSTRUCT */
    double loss_sum;    /* -log softmax(scores)[label], natural logarithm, no smoothing. OCT_RECONSTRUCT: mean squared
                         * difference between the scores and the normalized image; labels are not looked at */
    double seconds;     /* spent in the model, the loader's time left out */
} oct_score;

/* Percent of the images; 0 when there are none. */
double oct_score_top1(const oct_score *score);
double oct_score_top5(const oct_score *score);
double oct_score_loss(const oct_score *score);              /* mean */
double oct_score_images_per_second(const oct_score *score); /* 0 before any time was measured */

typedef struct oct_evaluator oct_evaluator;

/* Float or quantized graph; makes an evaluation plan of the logits. The graph must outlive the evaluator and
 * must not be rewritten meanwhile; its values may change between calls. `batch`: images per call, at most. */
OCT_MUST_USE oct_status oct_evaluator_create(oct_evaluator **out, oct_graph *graph, const oct_model *model,
                                             int batch);
/* An int8 model on ctx->threads threads; both must outlive the evaluator. */
OCT_MUST_USE oct_status oct_evaluator_create_int8(oct_evaluator **out, oct_ctx *ctx,
                                                  const oct_int8_model *model, int batch);
void oct_evaluator_destroy(oct_evaluator *evaluator); /* NULL is allowed */
/* A graph's task is its model's. An int8 model does not say; it is taken for a classifier until told otherwise.
 * OCT_ERR_SHAPE when it has another number of scores than its input has values. */
OCT_MUST_USE oct_status oct_evaluator_set_task(oct_evaluator *evaluator, oct_model_task task);

int oct_evaluator_classes(const oct_evaluator *evaluator);
/* The plan of a graph, for printing and timing; NULL for an int8 model. Borrowed. */
oct_plan *oct_evaluator_plan(oct_evaluator *evaluator);
/* The run state of an int8 model, for timing; NULL for a graph. Borrowed. */
oct_int8_state *oct_evaluator_state(oct_evaluator *evaluator);

/* scores[count][classes] of u8 NHWC images of the model's size. Borrowed until the next call. OCT_ERR_NUMERIC
 * naming the first tensor when one is not finite. */
OCT_MUST_USE oct_status oct_evaluator_run(oct_evaluator *evaluator, const double **scores,
                                          const uint8_t *images, int count);
/* Runs and adds to *score. Labels outside [0, classes) are OCT_ERR_ARGUMENT. */
OCT_MUST_USE oct_status oct_evaluator_add(oct_evaluator *evaluator, oct_score *score, const oct_batch *batch);

/* Called after each batch; a value other than OCT_OK ends the evaluation and is returned. */
typedef oct_status oct_evaluate_progress(void *user, const oct_score *score);
/* The whole of the loader (epoch 0 of an evaluation loader of the model's image size). `progress` may be
 * NULL. */
OCT_MUST_USE oct_status oct_evaluate(oct_evaluator *evaluator, oct_loader *loader, oct_score *score,
                                     oct_evaluate_progress *progress, void *user);

/* Place of class `label` among the logits of sample i: 0 = first. */
int oct_logits_rank(const oct_tensor *logits, int sample, int label);

/* order[0..count-1] = the `count` best classes of one image, best first. count <= classes. */
void oct_scores_top(const double *scores, int classes, int *order, int count);

#endif
