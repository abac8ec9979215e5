/* SPDX-License-Identifier: BSD-2-Clause
 * The inside of a quantized tensor, shared by qtensor.c and qtensor_file.c. */
#ifndef OCT_QTENSOR_INTERNAL_H
#define OCT_QTENSOR_INTERNAL_H

#include "quant/qtensor.h"

struct oct_qtensor {
    oct_shape shape;
    oct_qformat format;
    size_t count;
    int lo, hi;          /* codes */
    int axis;            /* -1: per tensor */
    int param_count;
    size_t inner;        /* elements that share an index of the axis one after another */
    float *scales;       /* param_count */
    int32_t *zero_points;
    void *data;
};

/* A tensor whose codes are all bits 0, everything checked. */
oct_status oct_qtensor_make(oct_qtensor **out, const oct_shape *shape, const oct_qformat *format,
                            const oct_qparams *params, oct_error *error);

#endif
