/* SPDX-License-Identifier: BSD-2-Clause
 * Octet, everything: build or load a model, train it in float, quantize, train on codes, export, run in int8.
 * Programs that only run an exported model need quant/int8/octet_int8.h alone.
 */
#ifndef OCTET_H
#define OCTET_H

#include "autograd/base/ctx.h"
#include "autograd/graph.h"
#include "autograd/ops.h"
#include "autograd/plan.h"
#include "autograd/reference.h"
#include "datasets/dataset.h"
#include "datasets/loader.h"
#include "layers/layers.h"
#include "layers/models.h"
#include "layers/state.h"
#include "optim/schedule.h"
#include "optim/sgd.h"
#include "quant/export.h"
#include "quant/int8/octet_int8.h"
#include "quant/int8_file.h"
#include "quant/quantize.h"
#include "quant/verify.h"
#include "train/trainer.h"

#endif
