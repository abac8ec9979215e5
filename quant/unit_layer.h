/* SPDX-License-Identifier: BSD-2-Clause
 * The fused step {conv2d | linear, batch_norm_fold?, relu | clip?, fake_quant?}: shared by its two directions,
 * unit_layer.c and unit_layer_frozen.c (forward), unit_layer_backward.c. The convolution itself is the engine's own step
 * (quant/int8/engine.h), writing 32-bit sums.
 */
#ifndef OCT_UNIT_LAYER_H
#define OCT_UNIT_LAYER_H

#include "quant/fold.h"
#include "quant/int8/engine.h"
#include "quant/layer_norm.h"
#include "quant/unit_internal.h"

/* What lives from forward to backward (in `saved` of a training plan, else in scratch). */
typedef struct oct_layer_kept {
    oct_fold fold;
    oct_norm_saved *norm; /* [outputs] */
    uint8_t *packed;
    int32_t *start;
    uint8_t *bits;        /* straight-through mask, NULL outside training */
} oct_layer_kept;

typedef struct oct_layer_job {
    oct_step *step;
    const oct_node *layer, *weight_fq, *norm, *act, *fq; /* norm, act, fq may be NULL */
    const oct_node *weight, *bias;                        /* parameters; bias may be NULL */
    oct_conv_geometry geometry;
    oct_i8_kernels kernels;
    oct_int8_tensor in_tensor, out_tensor;
    oct_int8_step conv;
    int outputs, outputs_last;
    size_t per_output;          /* weights per output */
    size_t in_sample, out_sample, row_elements;
    int rows;                   /* output rows per image */
    int64_t positions;          /* batch x rows x pixels */
    oct_layer_kept kept;
    /* scratch */
    int32_t *acc;               /* batch x out_sample; NULL where they are made again when they are needed */
    unsigned char *engine;      /* threads x engine_bytes */
    size_t engine_bytes;
    int32_t *thread_acc;        /* threads x out_sample */
    oct_acc_sums *sums;         /* batch x outputs */
    int64_t *row_sums;          /* threads x outputs */
    uint64_t *row_squares;      /* threads x outputs */
    int32_t *row_extrema;       /* threads x 2 x outputs */
    float *a, *b;               /* [outputs] */
    int32_t *low, *high;        /* [outputs] */
    int8_t *shift;              /* [outputs]; po2 */
    oct_int8_step codes;        /* affine: conv as it is deployed, writing codes */
    oct_int8_tensor code_tensor;
    void *affine;               /* of it */
    oct_point_memory point;
    int block_rows;             /* rows that are looked at together */
    size_t block_elements;      /* of them, rounded up to 16 */
    float *blocks;              /* threads x 2 x block_elements; backward */
    double *grad_sum, *grad_dot; /* batch x outputs; backward */
    float *mean_f32, *p, *q, *r; /* [outputs]; backward */
    float *unit, *s_f32;         /* [outputs]: value of a weight code, folding scale; backward */
    float *d_weight;             /* the parameter's gradient, NULL when it is not wanted */
    float *w_f32, *dw;           /* weight-sized; backward */
    void *conv_scratch;          /* backward */
} oct_layer_job;

/* Roles, geometry, sizes; no memory. in_signed decides the packing and is only known at run time. */
void oct_layer_job_init(oct_layer_job *job, const oct_graph *graph, const oct_unit *unit, int in_signed);
size_t oct_layer_kept_place(oct_layer_job *job, void *base, int batch, bool training);
size_t oct_layer_scratch_place(oct_layer_job *job, void *base, int batch, int threads, bool backward, bool training);
/* The above at run time: pointers into step->saved and step->scratch. */
void oct_layer_job_start(oct_layer_job *job, oct_step *step, bool backward);

/* acc of one image (rows x row_elements), bias included only where the forward packed it. */
void oct_layer_convolve(const oct_layer_job *job, int32_t *acc, int64_t image, int thread);

/* Item of a loop over images: the accumulators into job->acc, with batch norm also their sums. arg is the job. */
void oct_layer_convolve_item(void *arg, int64_t image, int thread);
/* The values (float)acc*a + b as a source of rows. */
oct_point_source oct_layer_acc_source(const oct_layer_job *job);
oct_status oct_layer_forward_frozen(oct_layer_job *job, const oct_point *point);
oct_status oct_layer_forward_scores(oct_layer_job *job);

/* Parameter or buffer data behind input `slot` of node n. */
float *oct_layer_data(const oct_layer_job *job, const oct_node *n, int slot);

/* Real value of one unit of output o's accumulator. */
double oct_layer_unit(const oct_layer_job *job, int o);

/* What batch norm needs to know of channel o. */
oct_norm_channel oct_layer_channel(const oct_layer_job *job, int o);

oct_status oct_layer_backward(oct_step *step);

/* Profile affine (unit_layer_affine.c): the deployed requantization to the grid, and the straight-through mask as an interval of
 * accumulators per channel. */
size_t oct_layer_affine_bytes(oct_layer_job *job);
void oct_layer_affine_prepare(oct_layer_job *job, const oct_point *point, const oct_clip_codes *grid);
void oct_layer_affine_codes(const oct_layer_job *job, uint8_t *codes, const int32_t *acc, size_t pixels);

#endif
