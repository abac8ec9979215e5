/* SPDX-License-Identifier: BSD-2-Clause
 * Blocks and packing of depthwise_codes, shared by the vector levels.
 */
#include "quant/int8/kernels/i8_internal.h"

#include <string.h>

static int common_divisor(int a, int b)
{
    while (b) {
        const int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int column_groups(const oct_i8_depthwise_cut *cut, const oct_i8_depthwise *layer, int group)
{
    return (layer->taps + cut->rows - 1 + group - 1) / group;
}

oct_i8_depthwise_cut oct_i8_depthwise_cut_of(const oct_i8_depthwise *layer, int group, int lanes)
{
    const int block = group * lanes, channels = layer->channels;
    oct_i8_depthwise_cut cut = {.flat = channels < block, .rows = layer->taps == 3 && layer->stride == 1 ? 2 : 1};
    if (!cut.flat)
        cut.sets = (channels + block - 1) / block;
    else if (layer->stride == 1)
        cut.sets = channels / common_divisor(channels, block);
    else
        cut.sets = block % channels == 0 && channels >= 8;
    const int vectors = 2 + cut.rows * layer->taps * column_groups(&cut, layer, group);
    cut.set_bytes = (size_t)vectors * (size_t)(group * lanes) * 4;
    return cut;
}

/* Channel of byte `at` of block `set`. */
static int channel_at(const oct_i8_depthwise_cut *cut, const oct_i8_depthwise *layer, int block, int set, int at)
{
    if (cut->flat) return (set * block + at) % layer->channels;
    const int first = set * block, last = layer->channels - block;
    return (first < last ? first : last) + at;
}

static void put_weight(uint8_t *packed, size_t index, int8_t weight, int group)
{
    const int16_t wide = weight;
    if (group == 4)
        memcpy(packed + index, &weight, 1);
    else
        memcpy(packed + 2 * index, &wide, 2);
}

void oct_i8_pack_depthwise_blocks(void *packed, const int8_t *w, const int32_t *start, const int32_t *shift,
                                  const oct_i8_depthwise *layer, int group, int lanes, int offset)
{
    const oct_i8_depthwise_cut cut = oct_i8_depthwise_cut_of(layer, group, lanes);
    const int block = group * lanes, taps = layer->taps, columns = column_groups(&cut, layer, group);
    memset(packed, 0, (size_t)cut.sets * cut.set_bytes);
    for (int place = 0; place < cut.sets * block; place++) {
        const int vector = place % block / lanes, lane = place % lanes, set = place / block;
        const int c = channel_at(&cut, layer, block, set, 4 * group * (lane / 4) + 4 * vector + lane % 4);
        uint8_t *out = (uint8_t *)packed + (size_t)set * cut.set_bytes;
        int32_t sum = 0;
        for (int i = 0; i < cut.rows * taps * taps; i++) {
            const int row = i / (taps * taps), r = i / taps % taps, t = i % taps, at = r + row;
            const int8_t weight = w[(r * taps + t) * layer->channels + c];
            const size_t group_at = (size_t)(((row * taps + t) * columns + at / group) * group + vector);
            put_weight(out + 8 * (size_t)block, (group_at * (size_t)lanes + (size_t)lane) * (size_t)group +
                       (size_t)(at % group), weight, group);
            if (row == 0) sum += weight;
        }
        const int32_t first = start[c] - offset * sum;
        memcpy(out + 4 * (size_t)(vector * lanes + lane), &first, 4);
        memcpy(out + 4 * (size_t)(block + vector * lanes + lane), &shift[c], 4);
    }
}
