/* SPDX-License-Identifier: BSD-2-Clause
 * A list of named tensors with an index by hash of the name.
 */
#include "layers/import/tensors.h"

#include <string.h>

#include "autograd/base/memory.h"

struct oct_tensors {
    oct_named_tensor **items;
    int count, room;
    int *slots;     /* open addressing, -1 = free; room of twice the items at least */
    int slot_count; /* a power of two */
};

static uint32_t hash_name(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

oct_status oct_tensors_create(oct_tensors **out, oct_error *error)
{
    *out = oct_calloc(1, sizeof **out);
    if (!*out) return oct_fail(error, OCT_ERR_MEMORY, "a list of tensors does not fit into memory");
    return OCT_OK;
}

void oct_tensors_destroy(oct_tensors *tensors)
{
    if (!tensors) return;
    for (int i = 0; i < tensors->count; i++) {
        oct_free((char *)tensors->items[i]->name);
        oct_free(tensors->items[i]->data);
        oct_free(tensors->items[i]);
    }
    oct_free(tensors->items);
    oct_free(tensors->slots);
    oct_free(tensors);
}

/* The slot of `name`: where it is, or the free one where it belongs. */
static int *find_slot(const oct_tensors *tensors, const char *name)
{
    uint32_t mask = (uint32_t)tensors->slot_count - 1;
    for (uint32_t i = hash_name(name) & mask;; i = (i + 1) & mask) {
        int *slot = &tensors->slots[i];
        if (*slot < 0 || strcmp(tensors->items[*slot]->name, name) == 0) return slot;
    }
}

/* Names reach terminals and logs. */
static bool is_printable(const char *name)
{
    for (; *name; name++)
        if ((uint8_t)*name < ' ' || *name == 127) return false;
    return true;
}

static bool grow(oct_tensors *tensors)
{
    if (tensors->count < tensors->room) return true;
    int room = tensors->room ? 2 * tensors->room : 64;
    size_t used = (size_t)tensors->count * sizeof *tensors->items;
    oct_named_tensor **items = oct_realloc(tensors->items, used, (size_t)room, sizeof *items);
    if (!items) return false;
    tensors->items = items;
    int *slots = oct_alloc((size_t)room * 2, sizeof *slots);
    if (!slots) return false;
    oct_free(tensors->slots);
    tensors->slots = slots;
    tensors->slot_count = 2 * room;
    tensors->room = room;
    for (int i = 0; i < tensors->slot_count; i++) slots[i] = -1;
    for (int i = 0; i < tensors->count; i++) *find_slot(tensors, tensors->items[i]->name) = i;
    return true;
}

static oct_status check_shape(size_t *count, const char *name, int rank, const int64_t *dims, uint64_t max_elements,
                              oct_error *error)
{
    if (rank < 0 || rank > OCT_TENSOR_MAX_RANK)
        return oct_fail(error, OCT_ERR_FORMAT, "tensor \"%s\": rank %d, at most %d expected", name, rank,
                        OCT_TENSOR_MAX_RANK);
    size_t n = 1;
    for (int i = 0; i < rank; i++)
        if (dims[i] < 0 || !oct_size_mul(&n, n, (size_t)dims[i]))
            return oct_fail(error, OCT_ERR_FORMAT, "tensor \"%s\": dimension %d is %lld", name, i, (long long)dims[i]);
    if (n > max_elements)
        return oct_fail(error, OCT_ERR_FORMAT, "tensor \"%s\": %zu elements, the file has room for %llu", name, n,
                        (unsigned long long)max_elements);
    *count = n;
    return OCT_OK;
}

oct_status oct_tensors_add(oct_tensors *tensors, oct_named_tensor **out, const char *name, int rank,
                           const int64_t *dims, uint64_t max_elements, oct_error *error)
{
    *out = NULL;
    size_t length = strlen(name), count = 0;
    if (length == 0 || length > OCT_TENSOR_MAX_NAME)
        return oct_fail(error, OCT_ERR_FORMAT, "a tensor's name has %zu bytes, 1..%d expected", length,
                        OCT_TENSOR_MAX_NAME);
    if (!is_printable(name)) return oct_fail(error, OCT_ERR_FORMAT, "a tensor's name holds control characters");
    if (oct_tensors_find(tensors, name)) return oct_fail(error, OCT_ERR_FORMAT, "tensor \"%s\" is there twice", name);
    if (tensors->count == OCT_TENSORS_MAX_COUNT)
        return oct_fail(error, OCT_ERR_FORMAT, "more than %d tensors", OCT_TENSORS_MAX_COUNT);
    OCT_TRY(check_shape(&count, name, rank, dims, max_elements, error));
    oct_named_tensor *tensor = grow(tensors) ? oct_calloc(1, sizeof *tensor) : NULL;
    if (!tensor) return oct_fail(error, OCT_ERR_MEMORY, "tensor \"%s\" does not fit into memory", name);
    tensor->name = oct_strdup(name);
    tensor->data = oct_calloc(count, sizeof *tensor->data);
    if (!tensor->name || !tensor->data) {
        oct_free((char *)tensor->name);
        oct_free(tensor->data);
        oct_free(tensor);
        return oct_fail(error, OCT_ERR_MEMORY, "tensor \"%s\" of %zu elements does not fit into memory", name, count);
    }
    tensor->rank = rank;
    tensor->count = count;
    for (int i = 0; i < rank; i++) tensor->dims[i] = dims[i];
    *find_slot(tensors, name) = tensors->count;
    tensors->items[tensors->count++] = tensor;
    *out = tensor;
    return OCT_OK;
}

int oct_tensors_count(const oct_tensors *tensors)
{
    return tensors->count;
}

const oct_named_tensor *oct_tensors_at(const oct_tensors *tensors, int index)
{
    return index >= 0 && index < tensors->count ? tensors->items[index] : NULL;
}

int oct_tensors_index(const oct_tensors *tensors, const oct_named_tensor *tensor)
{
    return *find_slot(tensors, tensor->name);
}

const oct_named_tensor *oct_tensors_find(const oct_tensors *tensors, const char *name)
{
    if (!tensors->slot_count) return NULL;
    int slot = *find_slot(tensors, name);
    return slot < 0 ? NULL : tensors->items[slot];
}
