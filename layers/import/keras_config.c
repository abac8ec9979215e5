/* SPDX-License-Identifier: BSD-2-Clause
 * Attributes of one layer's configuration. */
#include <math.h>
#include <string.h>

#include "layers/import/keras_internal.h"

enum { MAX_SIDE = 4096 };

const cJSON *oct_keras_attribute(oct_keras_layer *layer, const char *key)
{
    if (layer->asked_count < OCT_KERAS_MAX_ATTRIBUTES) layer->asked[layer->asked_count++] = key;
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(layer->config, key);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

static oct_status expected(const oct_keras_layer *layer, const char *key, const char *what)
{
    return oct_keras_fail(layer, OCT_ERR_FORMAT, "attribute \"%s\": expected %s", key, what);
}

/* Is it an integer in [min, max]? */
static bool is_integer(const cJSON *item, int64_t min, int64_t max)
{
    if (!cJSON_IsNumber(item)) return false;
    double x = item->valuedouble;
    return x >= (double)min && x <= (double)max && x == floor(x);
}

oct_status oct_keras_integer(oct_keras_layer *layer, const char *key, int64_t missing, int64_t min, int64_t max,
                             int64_t *out)
{
    const cJSON *item = oct_keras_attribute(layer, key);
    *out = missing;
    if (item && is_integer(item, min, max)) *out = (int64_t)item->valuedouble;
    else if (item || missing < min)
        return oct_keras_fail(layer, OCT_ERR_FORMAT, "attribute \"%s\": expected an integer in %lld..%lld", key,
                              (long long)min, (long long)max);
    return OCT_OK;
}

oct_status oct_keras_number(oct_keras_layer *layer, const char *key, double missing, double *out)
{
    const cJSON *item = oct_keras_attribute(layer, key);
    if (item && cJSON_IsArray(item) && cJSON_GetArraySize(item) == 1) item = cJSON_GetArrayItem(item, 0);
    if (item && (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))) return expected(layer, key, "a finite number");
    *out = item ? item->valuedouble : missing;
    return OCT_OK;
}

oct_status oct_keras_bool(oct_keras_layer *layer, const char *key, bool missing, bool *out)
{
    const cJSON *item = oct_keras_attribute(layer, key);
    if (item && !cJSON_IsBool(item)) return expected(layer, key, "true or false");
    *out = item ? cJSON_IsTrue(item) : missing;
    return OCT_OK;
}

oct_status oct_keras_pair(oct_keras_layer *layer, const char *key, int32_t missing, int32_t out[2])
{
    const cJSON *item = oct_keras_attribute(layer, key);
    out[0] = out[1] = missing;
    if (!item && missing) return OCT_OK;
    bool array = cJSON_IsArray(item) && cJSON_GetArraySize(item) == 2;
    for (int i = 0; i < 2; i++) {
        const cJSON *side = array ? cJSON_GetArrayItem(item, i) : item;
        if (!side || !is_integer(side, 1, MAX_SIDE)) return expected(layer, key, "one or two integers in 1..4096");
        out[i] = (int32_t)side->valuedouble;
    }
    return OCT_OK;
}

oct_status oct_keras_text(oct_keras_layer *layer, const char *key, const char **out)
{
    const cJSON *item = oct_keras_attribute(layer, key);
    *out = "";
    if (item && !cJSON_IsString(item)) return expected(layer, key, "a text");
    if (item) *out = item->valuestring;
    return OCT_OK;
}

oct_status oct_keras_padding(oct_keras_layer *layer, oct_padding *out)
{
    const char *text;
    OCT_TRY(oct_keras_text(layer, "padding", &text));
    *out = !strcmp(text, "same") ? OCT_SAME : OCT_VALID;
    if (*text && *out == OCT_VALID && strcmp(text, "valid"))
        return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "padding \"%.40s\": expected \"valid\" or \"same\"", text);
    return OCT_OK;
}

oct_status oct_keras_channels_last(oct_keras_layer *layer)
{
    const char *text;
    OCT_TRY(oct_keras_text(layer, "data_format", &text));
    if (!*text || !strcmp(text, "channels_last")) return OCT_OK;
    return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "data_format \"%.40s\": expected \"channels_last\"", text);
}

oct_status oct_keras_last_axis(oct_keras_layer *layer, const char *key, int rank)
{
    const cJSON *item = oct_keras_attribute(layer, key);
    if (!item) return OCT_OK;
    if (cJSON_IsArray(item) && cJSON_GetArraySize(item) == 1) item = cJSON_GetArrayItem(item, 0);
    if (!is_integer(item, -8, 8)) return expected(layer, key, "one integer");
    int axis = (int)item->valuedouble;
    if (axis == -1 || axis == rank) return OCT_OK;
    return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "%s %d of a value with %d dimensions besides the batch: only the last one is "
                          "supported", key, axis, rank);
}

static bool has_suffix(const char *text, const char *suffix)
{
    size_t length = strlen(text), n = strlen(suffix);
    return length >= n && !strcmp(text + length - n, suffix);
}

/* Of training, of how weights start, of number formats: nothing that inference in float depends on. */
static bool means_nothing(const char *key)
{
    static const char *const keys[] = {
        "name", "trainable", "dtype", "autocast", "batch_input_shape", "batch_shape", "batch_size", "input_shape",
        "sparse", "ragged", "seed", "noise_shape", "fused", "synchronized", "quantization_config", "lora_rank",
        "lora_alpha", "supports_masking", "renorm_momentum", "renorm_clipping", "is_legacy_layer", "optional"};
    static const char *const suffixes[] = {"_initializer", "_regularizer", "_constraint"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (!strcmp(key, keys[i])) return true;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
        if (has_suffix(key, suffixes[i])) return true;
    return false;
}

oct_status oct_keras_check_attributes(const oct_keras_layer *layer)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, layer->config) {
        bool known = cJSON_IsNull(item) || cJSON_IsFalse(item) || means_nothing(item->string);
        for (int i = 0; i < layer->asked_count && !known; i++) known = !strcmp(item->string, layer->asked[i]);
        if (!known)
            return oct_keras_fail(layer, OCT_ERR_UNSUPPORTED, "attribute \"%.60s\" is not supported", item->string);
    }
    return OCT_OK;
}
