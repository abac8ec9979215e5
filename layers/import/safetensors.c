/* SPDX-License-Identifier: BSD-2-Clause */
#include "layers/import/safetensors.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/bytes.h"
#include "autograd/base/memory.h"
#include "layers/import/elements.h"

typedef struct entry {
    const char *name; /* of the JSON */
    oct_element type;
    int rank;
    int64_t dims[OCT_TENSOR_MAX_RANK];
    uint64_t begin, end; /* in the data */
} entry;

enum { LENGTH_BYTES = 8, MIN_BYTES = LENGTH_BYTES + 2 };

bool oct_safetensors_probe(const uint8_t *head, size_t head_bytes, uint64_t size)
{
    if (head_bytes < LENGTH_BYTES + 1 || size < MIN_BYTES || head[LENGTH_BYTES] != '{') return false;
    /* a text file that begins like that has a length of at least 2^56 there */
    return oct_load_le64(head) < UINT64_C(1) << 48;
}

static oct_status parse_type(oct_element *type, const char *name, const cJSON *value, oct_error *error)
{
    static const struct {
        const char *name;
        oct_element type;
    } types[] = {{"F32", OCT_ELEMENT_F32},   {"F16", OCT_ELEMENT_F16}, {"BF16", OCT_ELEMENT_BF16},
                 {"F64", OCT_ELEMENT_F64},   {"I64", OCT_ELEMENT_I64}, {"I32", OCT_ELEMENT_I32},
                 {"I16", OCT_ELEMENT_I16},   {"I8", OCT_ELEMENT_I8},   {"U64", OCT_ELEMENT_U64},
                 {"U32", OCT_ELEMENT_U32},   {"U16", OCT_ELEMENT_U16}, {"U8", OCT_ELEMENT_U8},
                 {"BOOL", OCT_ELEMENT_BOOL}};
    if (!cJSON_IsString(value))
        return oct_fail(error, OCT_ERR_FORMAT, "safetensors: tensor \"%.200s\": expected a text \"dtype\"", name);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (!strcmp(value->valuestring, types[i].name)) {
            *type = types[i].type;
            return OCT_OK;
        }
    return oct_fail(error, OCT_ERR_UNSUPPORTED,
                    "safetensors: tensor \"%.200s\" has elements of type %.40s; save it as F32, F16 or BF16", name,
                    value->valuestring);
}

/* A whole number that a double holds exactly. */
static bool whole(uint64_t *out, const cJSON *value)
{
    if (!cJSON_IsNumber(value)) return false;
    double x = value->valuedouble;
    if (!(x >= 0 && x <= 0x1p53) || floor(x) != x) return false;
    *out = (uint64_t)x;
    return true;
}

static bool parse_shape(entry *e, const cJSON *shape)
{
    if (!cJSON_IsArray(shape)) return false;
    const cJSON *item;
    cJSON_ArrayForEach(item, shape)
    {
        uint64_t dim;
        if (e->rank == OCT_TENSOR_MAX_RANK || !whole(&dim, item)) return false;
        e->dims[e->rank++] = (int64_t)dim;
    }
    return true;
}

/* Elements of the shape times their size, which must be what lies between the offsets. */
static bool fills_its_range(const entry *e)
{
    size_t bytes = oct_element_bytes(e->type);
    for (int i = 0; i < e->rank; i++)
        if (!oct_size_mul(&bytes, bytes, (size_t)e->dims[i])) return false;
    return bytes == e->end - e->begin;
}

static oct_status parse_entry(entry *e, const cJSON *json, uint64_t data_bytes, oct_error *error)
{
    *e = (entry){.name = json->string};
    if (!cJSON_IsObject(json) || cJSON_GetArraySize(json) != 3)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "safetensors: tensor \"%.200s\": expected \"dtype\", \"shape\" and \"data_offsets\", "
                        "each once",
                        e->name);
    OCT_TRY(parse_type(&e->type, e->name, cJSON_GetObjectItemCaseSensitive(json, "dtype"), error));
    if (!parse_shape(e, cJSON_GetObjectItemCaseSensitive(json, "shape")))
        return oct_fail(error, OCT_ERR_FORMAT,
                        "safetensors: tensor \"%.200s\": expected a \"shape\" of at most %d whole numbers", e->name,
                        OCT_TENSOR_MAX_RANK);
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(json, "data_offsets");
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !whole(&e->begin, offsets->child) ||
        !whole(&e->end, offsets->child->next))
        return oct_fail(error, OCT_ERR_FORMAT,
                        "safetensors: tensor \"%.200s\": expected two whole numbers as \"data_offsets\"", e->name);
    if (e->begin > e->end || e->end > data_bytes)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "safetensors: tensor \"%.200s\" lies at %llu..%llu of %llu bytes of data", e->name,
                        (unsigned long long)e->begin, (unsigned long long)e->end, (unsigned long long)data_bytes);
    if (!fills_its_range(e))
        return oct_fail(error, OCT_ERR_FORMAT,
                        "safetensors: tensor \"%.200s\": its shape and type do not make the %llu bytes that its "
                        "offsets give",
                        e->name, (unsigned long long)(e->end - e->begin));
    return OCT_OK;
}

static int by_offset(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static oct_status check_tiling(const entry *entries, int count, uint64_t data_bytes, oct_error *error)
{
    uint64_t at = 0;
    for (int i = 0; i < count; i++) {
        if (entries[i].begin != at)
            return oct_fail(error, OCT_ERR_FORMAT,
                            "safetensors: tensor \"%.200s\" begins at byte %llu of the data, expected %llu: %s",
                            entries[i].name, (unsigned long long)entries[i].begin, (unsigned long long)at,
                            entries[i].begin < at ? "tensors overlap" : "a hole in front of it");
        at = entries[i].end;
    }
    if (at == data_bytes) return OCT_OK;
    return oct_fail(error, OCT_ERR_FORMAT, "safetensors: the tensors end at byte %llu of %llu bytes of data",
                    (unsigned long long)at, (unsigned long long)data_bytes);
}

static oct_status fill(oct_tensors *tensors, const entry *entries, int count, const uint8_t *data, uint64_t data_bytes,
                       oct_error *error)
{
    for (int i = 0; i < count; i++) {
        const entry *e = &entries[i];
        oct_named_tensor *t;
        OCT_TRY(oct_tensors_add(tensors, &t, e->name, e->rank, e->dims, data_bytes, error));
        oct_elements_to_f32(t->data, data + e->begin, t->count, e->type);
    }
    return OCT_OK;
}

/* `entries` has room for all members of the header. */
static oct_status read_entries(oct_tensors *tensors, entry *entries, const cJSON *header, const uint8_t *data,
                               uint64_t data_bytes, oct_error *error)
{
    int count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, header)
    {
        if (!strcmp(item->string, "__metadata__")) continue;
        OCT_TRY(parse_entry(&entries[count++], item, data_bytes, error));
    }
    qsort(entries, (size_t)count, sizeof *entries, by_offset);
    OCT_TRY(check_tiling(entries, count, data_bytes, error));
    return fill(tensors, entries, count, data, data_bytes, error);
}

static oct_status read_header(oct_tensors *tensors, const cJSON *header, const uint8_t *data, uint64_t data_bytes,
                              oct_error *error)
{
    if (!cJSON_IsObject(header)) return oct_fail(error, OCT_ERR_FORMAT, "safetensors: the header is no JSON object");
    int members = cJSON_GetArraySize(header);
    if (members > OCT_TENSORS_MAX_COUNT + 1)
        return oct_fail(error, OCT_ERR_FORMAT, "safetensors: %d tensors, at most %d expected", members,
                        OCT_TENSORS_MAX_COUNT);
    entry *entries = oct_alloc((size_t)members, sizeof *entries);
    if (!entries) return oct_fail(error, OCT_ERR_MEMORY, "safetensors: out of memory for %d entries", members);
    oct_status status = read_entries(tensors, entries, header, data, data_bytes, error);
    oct_free(entries);
    return status;
}

static bool only_spaces(const char *text, const char *end)
{
    while (text < end && *text == ' ') text++;
    return text == end;
}

oct_status oct_safetensors_read(oct_tensors *tensors, const uint8_t *bytes, size_t size, oct_error *error)
{
    if (size < MIN_BYTES)
        return oct_fail(error, OCT_ERR_FORMAT, "safetensors: %zu bytes, at least %d expected", size, MIN_BYTES);
    uint64_t length = oct_load_le64(bytes), rest = size - LENGTH_BYTES;
    if (length > rest || length > OCT_SAFETENSORS_MAX_HEADER)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "safetensors: a header of %llu bytes is declared; the file has %llu behind the length, and at "
                        "most %d are read",
                        (unsigned long long)length, (unsigned long long)rest, OCT_SAFETENSORS_MAX_HEADER);
    const char *text = (const char *)bytes + LENGTH_BYTES, *end = NULL;
    cJSON *header = *text == '{' ? cJSON_ParseWithLengthOpts(text, (size_t)length, &end, 0) : NULL;
    oct_status status = OCT_ERR_FORMAT;
    if (header && only_spaces(end, text + length))
        status = read_header(tensors, header, bytes + LENGTH_BYTES + length, rest - length, error);
    else
        status = oct_fail(error, OCT_ERR_FORMAT, "safetensors: the header of %llu bytes is not JSON",
                          (unsigned long long)length);
    cJSON_Delete(header);
    return status;
}
