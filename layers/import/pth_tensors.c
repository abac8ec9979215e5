/* SPDX-License-Identifier: BSD-2-Clause
 * What the pickle of a .pth file says: which classes it may name, where its state_dict is, and tensors as views of
 * storages. */
#include <stdlib.h>
#include <string.h>

#include "layers/import/pth_internal.h"

/* --- allowed classes --- */

enum {
    ROLE_INERT,     /* may be there; nobody looks at it */
    ROLE_TENSOR,    /* (storage, offset, size, stride, ...) */
    ROLE_PARAMETER, /* (tensor, ...) */
    ROLE_FROM_TYPE, /* (rebuild, type, arguments of rebuild, state) */
    ROLE_STORAGE    /* + oct_element */
};

#define STORAGES(module)                                                                                  \
    {module, "FloatStorage", ROLE_STORAGE + OCT_ELEMENT_F32, false},                                      \
        {module, "HalfStorage", ROLE_STORAGE + OCT_ELEMENT_F16, false},                                   \
        {module, "BFloat16Storage", ROLE_STORAGE + OCT_ELEMENT_BF16, false},                              \
        {module, "DoubleStorage", ROLE_STORAGE + OCT_ELEMENT_F64, false},                                 \
        {module, "LongStorage", ROLE_STORAGE + OCT_ELEMENT_I64, false},                                   \
        {module, "IntStorage", ROLE_STORAGE + OCT_ELEMENT_I32, false},                                    \
        {module, "ShortStorage", ROLE_STORAGE + OCT_ELEMENT_I16, false},                                  \
        {module, "CharStorage", ROLE_STORAGE + OCT_ELEMENT_I8, false},                                    \
        {module, "ByteStorage", ROLE_STORAGE + OCT_ELEMENT_U8, false},                                    \
        {module, "BoolStorage", ROLE_STORAGE + OCT_ELEMENT_BOOL, false}

const oct_pickle_class oct_pth_classes[] = {
    {"collections", "OrderedDict", ROLE_INERT, true},
    {"collections", "defaultdict", ROLE_INERT, true},
    {"collections", "Counter", ROLE_INERT, true},
    {"torch._utils", "_rebuild_tensor_v2", ROLE_TENSOR, false},
    {"torch._utils", "_rebuild_tensor", ROLE_TENSOR, false},
    {"torch._utils", "_rebuild_parameter", ROLE_PARAMETER, false},
    {"torch._utils", "_rebuild_parameter_with_state", ROLE_PARAMETER, false},
    {"torch._tensor", "_rebuild_from_type_v2", ROLE_FROM_TYPE, false},
    STORAGES("torch"),
    STORAGES("torch.cuda"),
    {"torch", "Tensor", ROLE_INERT, false},
    {"torch.nn.parameter", "Parameter", ROLE_INERT, false},
    {"torch.nn.parameter", "Buffer", ROLE_INERT, false},
    {"torch", "Size", ROLE_INERT, false},
    {"torch", "device", ROLE_INERT, false},
    {"torch", "float32", ROLE_INERT, false},
    {"torch", "float16", ROLE_INERT, false},
    {"torch", "bfloat16", ROLE_INERT, false},
    {"argparse", "Namespace", ROLE_INERT, false},
    {"numpy", "dtype", ROLE_INERT, false},
    {"numpy.core.multiarray", "scalar", ROLE_INERT, false},
    {"numpy._core.multiarray", "scalar", ROLE_INERT, false},
    {"_codecs", "encode", ROLE_INERT, false}, /* how protocol 2 writes bytes */
    {"pathlib", "PosixPath", ROLE_INERT, false},
    {"builtins", "set", ROLE_INERT, false},
    {"__builtin__", "set", ROLE_INERT, false},
};
const size_t oct_pth_class_count = sizeof oct_pth_classes / sizeof oct_pth_classes[0];

static int role_of(const oct_pickle_value *v)
{
    return v->kind == OCT_PICKLE_CLASS || v->kind == OCT_PICKLE_OBJECT ? v->class->role : ROLE_INERT;
}

/* Item of a tuple or list; NULL when it is neither or has no such item. */
static oct_pickle_value *item(const oct_pickle_value *v, int32_t index)
{
    bool has = v && (v->kind == OCT_PICKLE_TUPLE || v->kind == OCT_PICKLE_LIST) && index < v->count;
    return has ? v->items[index] : NULL;
}

static bool integer(int64_t *out, const oct_pickle_value *v)
{
    if (!v || v->kind != OCT_PICKLE_INT || v->integer < 0) return false;
    *out = v->integer;
    return true;
}

/* --- storages --- */

/* ("storage", class, key, location, count[, view]) */
static oct_status parse_storage(oct_pth_storage *s, const oct_pickle_value *id, oct_error *error)
{
    const oct_pickle_value *tag = item(id, 0), *class = item(id, 1), *key = item(id, 2), *view = item(id, 5);
    int64_t count;
    if (tag && tag->kind == OCT_PICKLE_TEXT && !strcmp(tag->text, "module"))
        return oct_fail(error, OCT_ERR_UNSUPPORTED,
                        "the file holds a whole Python module, not its weights. Save those: "
                        "torch.save(model.state_dict(), \"weights.pth\")");
    if (!tag || tag->kind != OCT_PICKLE_TEXT || strcmp(tag->text, "storage") != 0 || !class ||
        class->kind != OCT_PICKLE_CLASS || role_of(class) < ROLE_STORAGE || !key || key->kind != OCT_PICKLE_TEXT ||
        !integer(&count, item(id, 4)))
        return oct_fail(error, OCT_ERR_FORMAT, "the pickle has a persistent id that names no storage");
    if (view && view->kind != OCT_PICKLE_NONE)
        return oct_fail(error, OCT_ERR_UNSUPPORTED,
                        "storage \"%.64s\" is a view of another one, as PyTorch wrote before 0.4; save the file again",
                        key->text);
    size_t bytes;
    oct_element type = (oct_element)(role_of(class) - ROLE_STORAGE);
    if (!oct_size_mul(&bytes, (size_t)count, oct_element_bytes(type)))
        return oct_fail(error, OCT_ERR_FORMAT, "storage \"%.64s\" has %lld elements", key->text, (long long)count);
    *s = (oct_pth_storage){key->text, type, (uint64_t)count, bytes, NULL};
    return OCT_OK;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const oct_pth_storage *)a)->key, ((const oct_pth_storage *)b)->key);
}

oct_status oct_pth_list_storages(oct_pth_storages *storages, oct_pickle *pickle, oct_error *error)
{
    int count = pickle->persistent_count, kept = 0;
    *storages = (oct_pth_storages){0};
    oct_pth_storage *items = oct_arena_alloc(&pickle->arena, (size_t)count, sizeof *items);
    if (!items) return oct_fail(error, OCT_ERR_MEMORY, "out of memory for %d storages", count);
    for (int i = 0; i < count; i++) OCT_TRY(parse_storage(&items[i], pickle->persistent[i]->argument, error));
    qsort(items, (size_t)count, sizeof *items, by_key);
    for (int i = 0; i < count; i++) {
        oct_pth_storage *last = kept ? &items[kept - 1] : NULL;
        if (!last || strcmp(last->key, items[i].key) != 0)
            items[kept++] = items[i];
        else if (last->type != items[i].type || last->count != items[i].count)
            return oct_fail(error, OCT_ERR_FORMAT, "storage \"%.64s\" is declared twice, and differently", last->key);
    }
    *storages = (oct_pth_storages){items, kept};
    return OCT_OK;
}

oct_pth_storage *oct_pth_find_storage(const oct_pth_storages *storages, const char *key)
{
    oct_pth_storage wanted = {.key = key};
    return storages->count
               ? bsearch(&wanted, storages->items, (size_t)storages->count, sizeof *storages->items, by_key)
               : NULL;
}

/* --- where the weights are --- */

typedef struct search {
    int visits;     /* of dicts: a pickle can contain the same one many times */
    bool ambiguous; /* several dicts hold tensors, and no key says which */
} search;

enum { MAX_NESTING = 6, MAX_VISITS = 1 << 16, MAX_WRAPPING = 4 };

/* What stands around a tensor: torch.nn.Parameter and subclasses. NULL when `v` is no tensor. */
static const oct_pickle_value *rebuild_arguments(const oct_pickle_value *v)
{
    for (int i = 0; v && i < MAX_WRAPPING; i++) {
        if (v->kind != OCT_PICKLE_OBJECT) return NULL;
        int role = role_of(v);
        const oct_pickle_value *arguments = v->argument;
        if (role == ROLE_FROM_TYPE) {
            const oct_pickle_value *rebuild = item(arguments, 0);
            role = rebuild ? role_of(rebuild) : ROLE_INERT;
            arguments = item(v->argument, 2);
        }
        if (role == ROLE_TENSOR) return arguments;
        if (role != ROLE_PARAMETER) return NULL;
        v = item(arguments, 0);
    }
    return NULL;
}

static bool has_tensors(const oct_pickle_value *dict)
{
    for (int32_t i = 1; i < dict->count; i += 2)
        if (rebuild_arguments(dict->items[i])) return true;
    return false;
}

static bool is_one_of(const char *const *names, const oct_pickle_value *key)
{
    if (key->kind != OCT_PICKLE_TEXT) return false;
    for (; *names; names++)
        if (!strcmp(*names, key->text)) return true;
    return false;
}

static const oct_pickle_value *find_weights(search *s, const oct_pickle_value *v, int depth)
{
    static const char *const usual[] = {"state_dict", "model_state_dict", "model_state", "model", "module",
                                        "network",    "net",              "weights",     "params", "state_dict_ema",
                                        "model_ema",  NULL};
    static const char *const other[] = {"optimizer",    "optimizer_state_dict", "optim",  "lr_scheduler", "scheduler",
                                        "lr_schedulers", "optimizer_states",    "scaler", "amp_scaler",   NULL};
    const oct_pickle_value *found = NULL;
    if (!v || v->kind != OCT_PICKLE_DICT || depth > MAX_NESTING || ++s->visits > MAX_VISITS) return NULL;
    for (int i = 0; usual[i] && !found; i++) found = find_weights(s, oct_pickle_get(v, usual[i]), depth + 1);
    if (found) return found;
    if (has_tensors(v)) return v;
    for (int32_t i = 0; i < v->count; i += 2) {
        const oct_pickle_value *inner = v->items[i + 1];
        if (inner->kind != OCT_PICKLE_DICT || is_one_of(other, v->items[i])) continue;
        inner = find_weights(s, inner, depth + 1);
        s->ambiguous |= inner && found && inner != found;
        if (inner) found = inner;
    }
    return found;
}

/* --- tensors --- */

typedef struct view {
    int rank;
    int64_t dims[OCT_TENSOR_MAX_RANK], strides[OCT_TENSOR_MAX_RANK]; /* in elements */
    int64_t offset;
} view;

static oct_status parse_view(view *w, const char *name, const oct_pickle_value *arguments, oct_error *error)
{
    const oct_pickle_value *size = item(arguments, 2), *stride = item(arguments, 3);
    *w = (view){0};
    bool good = integer(&w->offset, item(arguments, 1)) && size && stride && size->kind == OCT_PICKLE_TUPLE &&
                stride->kind == OCT_PICKLE_TUPLE && size->count == stride->count;
    if (good && size->count > OCT_TENSOR_MAX_RANK)
        return oct_fail(error, OCT_ERR_FORMAT, "tensor \"%.200s\": rank %d, at most %d expected", name, size->count,
                        OCT_TENSOR_MAX_RANK);
    for (; good && w->rank < size->count; w->rank++)
        good = integer(&w->dims[w->rank], size->items[w->rank]) &&
               integer(&w->strides[w->rank], stride->items[w->rank]);
    if (good) return OCT_OK;
    return oct_fail(error, OCT_ERR_FORMAT, "tensor \"%.200s\": expected an offset, a size and strides, none negative",
                    name);
}

/* Does the last element lie inside the storage? */
static bool fits(const view *w, uint64_t count)
{
    size_t last = (size_t)w->offset, span;
    for (int i = 0; i < w->rank; i++) {
        if (w->dims[i] == 0) return true;
        if (!oct_size_mul(&span, (size_t)w->dims[i] - 1, (size_t)w->strides[i]) || !oct_size_add(&last, last, span))
            return false;
    }
    return last < count;
}

/* Elements in the order of their indices, whatever their strides. */
static void gather(float *out, size_t count, const view *w, const oct_pth_storage *s)
{
    int64_t index[OCT_TENSOR_MAX_RANK] = {0};
    size_t element = oct_element_bytes(s->type), at = (size_t)w->offset;
    int inner = w->rank - 1;
    size_t run = w->rank && w->strides[inner] == 1 ? (size_t)w->dims[inner] : 1;
    for (size_t done = 0; done < count; done += run) {
        oct_elements_to_f32(out + done, s->bytes + at * element, run, s->type);
        for (int d = run > 1 ? inner - 1 : inner; d >= 0; d--) {
            at += (size_t)w->strides[d];
            if (++index[d] < w->dims[d]) break;
            at -= (size_t)w->dims[d] * (size_t)w->strides[d];
            index[d] = 0;
        }
    }
}

typedef struct taker {
    oct_tensors *tensors;
    const oct_pth_storages *storages;
    oct_pth_fetch *fetch;
    void *user;
    uint64_t elements; /* that may still be added */
    oct_error *error;
} taker;

static oct_status take(taker *t, const char *name, const oct_pickle_value *arguments)
{
    view w;
    oct_pth_storage *s = NULL;
    const oct_pickle_value *id = item(arguments, 0);
    if (id && id->kind == OCT_PICKLE_PERSISTENT) s = oct_pth_find_storage(t->storages, item(id->argument, 2)->text);
    if (!s) return oct_fail(t->error, OCT_ERR_FORMAT, "tensor \"%.200s\" has no storage", name);
    OCT_TRY(parse_view(&w, name, arguments, t->error));
    if (!fits(&w, s->count))
        return oct_fail(t->error, OCT_ERR_FORMAT, "tensor \"%.200s\" reaches beyond its storage of %llu elements", name,
                        (unsigned long long)s->count);
    oct_named_tensor *out;
    OCT_TRY(oct_tensors_add(t->tensors, &out, name, w.rank, w.dims, t->elements, t->error));
    t->elements -= out->count;
    if (out->count == 0) return OCT_OK;
    if (!s->bytes) OCT_TRY(t->fetch(t->user, s, t->error));
    gather(out->data, out->count, &w, s);
    return OCT_OK;
}

oct_status oct_pth_take_tensors(oct_tensors *tensors, const oct_pickle *pickle, const oct_pth_storages *storages,
                                oct_pth_fetch *fetch, void *user, uint64_t elements, oct_error *error)
{
    search s = {0};
    taker t = {tensors, storages, fetch, user, elements, error};
    const oct_pickle_value *dict = find_weights(&s, pickle->root, 0);
    if (s.visits > MAX_VISITS) return oct_fail(error, OCT_ERR_FORMAT, "the pickle's dicts are nested too much");
    if (!dict) return oct_fail(error, OCT_ERR_FORMAT, "the pickle holds no dict with tensors: no weights");
    if (s.ambiguous)
        return oct_fail(error, OCT_ERR_UNSUPPORTED,
                        "several dicts of the pickle hold tensors, and no key says which are the weights; save "
                        "model.state_dict() alone");
    for (int32_t i = 0; i < dict->count; i += 2) {
        const oct_pickle_value *key = dict->items[i], *arguments = rebuild_arguments(dict->items[i + 1]);
        if (arguments && key->kind == OCT_PICKLE_TEXT) OCT_TRY(take(&t, key->text, arguments));
    }
    return OCT_OK;
}
