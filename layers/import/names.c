/* SPDX-License-Identifier: BSD-2-Clause
 * Tables of names, and the little language that they are written in. References: torchvision 0.20 (models/resnet.py,
 * mobilenetv2.py, mobilenetv3.py, regnet.py), timm 1.0 (resnet.py, efficientnet.py, regnet.py), EfficientNet-PyTorch of
 * lukemelas, whose names ports of TensorFlow's EfficientNet-Lite use. */
#include "layers/import/names.h"

#include <stdio.h>
#include <string.h>

/* --- tables --- */

static const oct_name_rule torchvision_resnet[] = {
    {"stem/conv", "conv1"},
    {"stem/bn", "bn1"},
    {"stage#/block#/conv#", "layer{1}.{2-1}.conv{3}"},
    {"stage#/block#/bn#", "layer{1}.{2-1}.bn{3}"},
    {"stage#/block#/shortcut/conv", "layer{1}.{2-1}.downsample.0"},
    {"stage#/block#/shortcut/bn", "layer{1}.{2-1}.downsample.1"},
    {"head", "fc"},
    {NULL, NULL},
};

/* The form for CIFAR that most repositories copy (kuangliu/pytorch-cifar). */
static const oct_name_rule cifar_resnet[] = {
    {"stem/conv", "conv1"},
    {"stem/bn", "bn1"},
    {"stage#/block#/conv#", "layer{1}.{2-1}.conv{3}"},
    {"stage#/block#/bn#", "layer{1}.{2-1}.bn{3}"},
    {"stage#/block#/shortcut/conv", "layer{1}.{2-1}.shortcut.0"},
    {"stage#/block#/shortcut/bn", "layer{1}.{2-1}.shortcut.1"},
    {"head", "linear"},
    {NULL, NULL},
};

static const oct_name_rule torchvision_mobilenetv2[] = {
    {"stem/conv", "features.0.0"},
    {"stem/bn", "features.0.1"},
    {"stage1/block1/conv2", "features.1.conv.0.0"}, /* without expansion */
    {"stage1/block1/bn2", "features.1.conv.0.1"},
    {"stage1/block1/conv3", "features.1.conv.1"},
    {"stage1/block1/bn3", "features.1.conv.2"},
    {"stage#/block#/conv1", "features.{b+1}.conv.0.0"},
    {"stage#/block#/bn1", "features.{b+1}.conv.0.1"},
    {"stage#/block#/conv2", "features.{b+1}.conv.1.0"},
    {"stage#/block#/bn2", "features.{b+1}.conv.1.1"},
    {"stage#/block#/conv3", "features.{b+1}.conv.2"},
    {"stage#/block#/bn3", "features.{b+1}.conv.3"},
    {"tail/conv", "features.{b+2}.0"},
    {"tail/bn", "features.{b+2}.1"},
    {"head", "classifier.1"},
    {NULL, NULL},
};

/* Without squeeze-excite, which would be block.2. */
static const oct_name_rule torchvision_mobilenetv3[] = {
    {"stem/conv", "features.0.0"},
    {"stem/bn", "features.0.1"},
    {"block1/conv2", "features.1.block.0.0"}, /* without expansion */
    {"block1/bn2", "features.1.block.0.1"},
    {"block1/conv3", "features.1.block.1.0"},
    {"block1/bn3", "features.1.block.1.1"},
    {"block#/conv#", "features.{1}.block.{2-1}.0"},
    {"block#/bn#", "features.{1}.block.{2-1}.1"},
    {"tail/conv", "features.{b+2}.0"},
    {"tail/bn", "features.{b+2}.1"},
    {"hidden", "classifier.0"},
    {"head", "classifier.3"},
    {NULL, NULL},
};

static const oct_name_rule torchvision_regnet[] = {
    {"stem/conv", "stem.0"},
    {"stem/bn", "stem.1"},
    {"stage#/block#/conv1", "trunk_output.block{1}.block{1}-{2-1}.f.a.0"},
    {"stage#/block#/bn1", "trunk_output.block{1}.block{1}-{2-1}.f.a.1"},
    {"stage#/block#/conv2", "trunk_output.block{1}.block{1}-{2-1}.f.b.0"},
    {"stage#/block#/bn2", "trunk_output.block{1}.block{1}-{2-1}.f.b.1"},
    {"stage#/block#/conv3", "trunk_output.block{1}.block{1}-{2-1}.f.c.0"},
    {"stage#/block#/bn3", "trunk_output.block{1}.block{1}-{2-1}.f.c.1"},
    {"stage#/block#/shortcut/conv", "trunk_output.block{1}.block{1}-{2-1}.proj.0"},
    {"stage#/block#/shortcut/bn", "trunk_output.block{1}.block{1}-{2-1}.proj.1"},
    {"head", "fc"},
    {NULL, NULL},
};

static const oct_name_rule timm_regnet[] = {
    {"stem/conv", "stem.conv"},
    {"stem/bn", "stem.bn"},
    {"stage#/block#/conv#", "s{1}.b{2}.conv{3}.conv"},
    {"stage#/block#/bn#", "s{1}.b{2}.conv{3}.bn"},
    {"stage#/block#/shortcut/conv", "s{1}.b{2}.downsample.conv"},
    {"stage#/block#/shortcut/bn", "s{1}.b{2}.downsample.bn"},
    {"head", "head.fc"},
    {NULL, NULL},
};

/* What timm makes with its EfficientNet builder: EfficientNet-Lite and MobileNetV2. */
static const oct_name_rule timm_efficientnet[] = {
    {"stem/conv", "conv_stem"},
    {"stem/bn", "bn1"},
    {"stage1/block#/conv2", "blocks.0.{1-1}.conv_dw"}, /* without expansion, numbers begin here */
    {"stage1/block#/bn2", "blocks.0.{1-1}.bn1"},
    {"stage1/block#/conv3", "blocks.0.{1-1}.conv_pw"},
    {"stage1/block#/bn3", "blocks.0.{1-1}.bn2"},
    {"stage#/block#/conv1", "blocks.{1-1}.{2-1}.conv_pw"},
    {"stage#/block#/conv2", "blocks.{1-1}.{2-1}.conv_dw"},
    {"stage#/block#/conv3", "blocks.{1-1}.{2-1}.conv_pwl"},
    {"stage#/block#/bn#", "blocks.{1-1}.{2-1}.bn{3}"},
    {"tail/conv", "conv_head"},
    {"tail/bn", "bn2"},
    {"head", "classifier"},
    {NULL, NULL},
};

static const oct_name_rule lukemelas_efficientnet[] = {
    {"stem/conv", "_conv_stem"},
    {"stem/bn", "_bn0"},
    {"stage#/block#/conv1", "_blocks.{b}._expand_conv"},
    {"stage#/block#/conv2", "_blocks.{b}._depthwise_conv"},
    {"stage#/block#/conv3", "_blocks.{b}._project_conv"},
    {"stage#/block#/bn#", "_blocks.{b}._bn{3-1}"},
    {"tail/conv", "_conv_head"},
    {"tail/bn", "_bn1"},
    {"head", "_fc"},
    {NULL, NULL},
};

/* MLPerf Tiny's model: Keras counts layers of a class in the order of their making. */
static const oct_name_rule mlperf_resnet8[] = {
    {"stem/conv", "conv2d"},
    {"stem/bn", "batch_normalization"},
    {"stage1/conv#", "conv2d_{1}"},
    {"stage1/bn#", "batch_normalization_{1}"},
    {"stage2/conv#", "conv2d_{1+2}"},
    {"stage2/bn#", "batch_normalization_{1+2}"},
    {"stage2/shortcut/conv", "conv2d_5"},
    {"stage3/conv#", "conv2d_{1+5}"},
    {"stage3/bn#", "batch_normalization_{1+4}"},
    {"stage3/shortcut/conv", "conv2d_8"},
    {"head", "dense"},
    {NULL, NULL},
};

static const oct_name_map maps[] = {
    {"Octet", OCT_LAYOUT_OCTET, NULL},
    {"torchvision resnet", OCT_LAYOUT_TORCH, torchvision_resnet},
    {"cifar resnet", OCT_LAYOUT_TORCH, cifar_resnet},
    {"torchvision mobilenetv2", OCT_LAYOUT_TORCH, torchvision_mobilenetv2},
    {"torchvision mobilenetv3", OCT_LAYOUT_TORCH, torchvision_mobilenetv3},
    {"torchvision regnet", OCT_LAYOUT_TORCH, torchvision_regnet},
    {"timm regnet", OCT_LAYOUT_TORCH, timm_regnet},
    {"timm efficientnet", OCT_LAYOUT_TORCH, timm_efficientnet},
    {"lukemelas efficientnet", OCT_LAYOUT_TORCH, lukemelas_efficientnet},
    {"Octet's names in PyTorch", OCT_LAYOUT_TORCH, NULL},
    {"MLPerf Tiny resnet8", OCT_LAYOUT_KERAS, mlperf_resnet8},
    {"Octet's names in Keras", OCT_LAYOUT_KERAS, NULL},
};
enum { MAPS = sizeof maps / sizeof maps[0], MAX_NUMBERS = 4, MAX_NUMBER = 100000 };

const oct_name_map *oct_name_map_at(int index)
{
    return index >= 0 && index < MAPS ? &maps[index] : NULL;
}

/* --- patterns --- */

/* A number without sign at *text, which moves behind it. */
static bool take_number(int *number, const char **text)
{
    const char *p = *text;
    *number = 0;
    while (*p >= '0' && *p <= '9' && *number < MAX_NUMBER) *number = *number * 10 + (*p++ - '0');
    bool any = p != *text;
    *text = p;
    return any;
}

static bool fits(const char *pattern, const char *layer, int numbers[MAX_NUMBERS])
{
    int count = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*pattern != *layer++) return false;
        } else if (count == MAX_NUMBERS || !take_number(&numbers[count++], &layer)) {
            return false;
        }
    }
    return !*layer;
}

/* "{1}", "{2-1}", "{b+2}" at *pattern. */
static int expand(const char **pattern, const int numbers[MAX_NUMBERS], int block)
{
    const char *p = *pattern + 1;
    int value = *p == 'b' ? block : numbers[*p - '1'];
    p++;
    if (*p != '}') {
        value += *p == '-' ? -(p[1] - '0') : p[1] - '0';
        p += 2;
    }
    *pattern = p;
    return value;
}

static bool write_name(char out[OCT_NAME_BYTES], const char *pattern, const int numbers[MAX_NUMBERS], int block)
{
    size_t used = 0;
    for (; *pattern && used < OCT_NAME_BYTES - 12; pattern++) {
        if (*pattern == '{')
            used += (size_t)snprintf(out + used, OCT_NAME_BYTES - used, "%d", expand(&pattern, numbers, block));
        else
            out[used++] = *pattern;
    }
    out[used] = '\0';
    return !*pattern;
}

/* Our own name with the separator of the layout. */
static bool same_name(char out[OCT_NAME_BYTES], oct_layout layout, const char *layer)
{
    size_t length = strlen(layer);
    if (length >= OCT_NAME_BYTES) return false;
    memcpy(out, layer, length + 1);
    for (char *p = out; layout == OCT_LAYOUT_TORCH && *p; p++)
        if (*p == '/') *p = '.';
    return true;
}

bool oct_name_map_layer(char out[OCT_NAME_BYTES], const oct_name_map *map, const char *layer, int block)
{
    int numbers[MAX_NUMBERS] = {0};
    if (!map->rules) return same_name(out, map->layout, layer);
    for (const oct_name_rule *r = map->rules; r->ours; r++)
        if (fits(r->ours, layer, numbers)) return write_name(out, r->theirs, numbers, block);
    return false;
}

/* What the last part of a node's name is called in a layout; NULL when it is no parameter of a layer. */
static const char *part_name(oct_layout layout, const char *part, bool depthwise)
{
    static const struct {
        const char *ours, *torch, *keras;
    } parts[] = {
        {"weight", "weight", "kernel"},
        {"bias", "bias", "bias"},
        {"gamma", "weight", "gamma"},
        {"beta", "bias", "beta"},
        {"mean", "running_mean", "moving_mean"},
        {"var", "running_var", "moving_variance"},
    };
    if (layout == OCT_LAYOUT_KERAS && depthwise && !strcmp(part, "weight")) return "depthwise_kernel";
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (!strcmp(parts[i].ours, part)) return layout == OCT_LAYOUT_TORCH ? parts[i].torch : parts[i].keras;
    return NULL;
}

bool oct_name_map_tensor(char out[OCT_NAME_BYTES], const oct_name_map *map, const char *node, int block,
                         bool depthwise)
{
    char layer[OCT_NAME_BYTES];
    if (map->layout == OCT_LAYOUT_OCTET) return same_name(out, map->layout, node);
    const char *slash = strrchr(node, '/');
    if (!slash || (size_t)(slash - node) >= sizeof layer) return false;
    const char *part = part_name(map->layout, slash + 1, depthwise);
    memcpy(layer, node, (size_t)(slash - node));
    layer[slash - node] = '\0';
    if (!part || !oct_name_map_layer(out, map, layer, block)) return false;
    size_t used = strlen(out), length = strlen(part);
    if (used + 1 + length >= OCT_NAME_BYTES) return false;
    out[used] = map->layout == OCT_LAYOUT_TORCH ? '.' : '/';
    memcpy(out + used + 1, part, length + 1);
    return true;
}

size_t oct_name_block_length(const char *layer)
{
    static const char *const parts[] = {"stage", "block"};
    const char *p = layer;
    int number;
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(parts[i]);
        if (strncmp(p, parts[i], length) != 0) continue;
        p += length;
        if (!take_number(&number, &p) || *p != '/') return 0;
        if (i == 1 || strncmp(p + 1, parts[1], 5) != 0) return (size_t)(p - layer);
        p++;
    }
    return 0;
}

/* --- preprocessing --- */

bool oct_name_map_preprocess(oct_normalize_attrs *attrs, const oct_name_map *map, const char *model)
{
    /* (x/255 - mean)/std with the mean and deviation of ImageNet */
    static const oct_normalize_attrs imagenet = {{123.675f, 116.28f, 103.53f, 0},
                                                 {1 / 58.395f, 1 / 57.12f, 1 / 57.375f, 1}};
    static const struct {
        const char *map, *model; /* beginnings; the first row that fits decides */
        oct_normalize_attrs attrs;
    } known[] = {
        {"lukemelas", "efficientnet-lite", {{127, 127, 127, 0}, {1 / 128.0f, 1 / 128.0f, 1 / 128.0f, 1}}},
        {"MLPerf Tiny", "resnet8", {{0, 0, 0, 0}, {1, 1, 1, 1}}},
        {"timm", "efficientnet-lite", {{127.5f, 127.5f, 127.5f, 0}, {1 / 127.5f, 1 / 127.5f, 1 / 127.5f, 1}}},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strncmp(map->name, known[i].map, strlen(known[i].map)) &&
            !strncmp(model, known[i].model, strlen(known[i].model))) {
            *attrs = known[i].attrs;
            return true;
        }
    if (strncmp(map->name, "torchvision", 11) != 0 && strncmp(map->name, "timm", 4) != 0) return false;
    *attrs = imagenet;
    return true;
}
