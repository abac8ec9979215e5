/* SPDX-License-Identifier: BSD-2-Clause
 * The two containers of .pth files. */
#include "layers/import/pth.h"

#include <stdio.h>
#include <string.h>
#include <zip.h>

#include "autograd/base/bytes.h"
#include "layers/import/pth_internal.h"

static const uint8_t zip_magic[4] = {'P', 'K', 3, 4};
enum { PICKLE_PROTO = 0x80, LEGACY_PROTOCOL = 1001, MAX_NAME = 512 };

bool oct_pth_probe(const uint8_t *head, size_t head_bytes)
{
    if (head_bytes >= 4 && !memcmp(head, zip_magic, 4)) return true;
    return head_bytes >= 2 && head[0] == PICKLE_PROTO && head[1] >= 2 && head[1] <= 5;
}

/* --- zip --- */

typedef struct archive {
    zip_t *zip;
    char root[MAX_NAME]; /* "archive/" */
    oct_arena arena;     /* storages */
    uint64_t budget;     /* bytes of entries that may still be read: each byte of the file once */
} archive;

static oct_status read_entry(archive *a, const uint8_t **bytes, size_t *size, zip_uint64_t index, const char *name,
                             oct_error *error)
{
    zip_stat_t st;
    zip_stat_init(&st);
    if (zip_stat_index(a->zip, index, 0, &st) || !(st.valid & ZIP_STAT_SIZE) || !(st.valid & ZIP_STAT_COMP_METHOD))
        return oct_fail(error, OCT_ERR_FORMAT, "zip: entry \"%.200s\" has no size", name);
    if (st.comp_method != ZIP_CM_STORE || (st.valid & ZIP_STAT_ENCRYPTION_METHOD && st.encryption_method))
        return oct_fail(error, OCT_ERR_UNSUPPORTED,
                        "zip: entry \"%.200s\" is compressed or encrypted, which torch.save never does; save the file "
                        "again with torch.save",
                        name);
    if (st.size > a->budget)
        return oct_fail(error, OCT_ERR_FORMAT, "zip: entry \"%.200s\" declares %llu bytes, the file has %llu left",
                        name, (unsigned long long)st.size, (unsigned long long)a->budget);
    a->budget -= st.size;
    uint8_t *copy = oct_arena_alloc(&a->arena, (size_t)st.size, 1);
    if (!copy) return oct_fail(error, OCT_ERR_MEMORY, "zip: out of memory for entry \"%.200s\"", name);
    zip_file_t *file = zip_fopen_index(a->zip, index, 0);
    zip_int64_t got = file ? zip_fread(file, copy, st.size) : -1;
    uint8_t more;
    bool good = got >= 0 && (zip_uint64_t)got == st.size && zip_fread(file, &more, 1) == 0; /* checks the CRC, too */
    if (file) zip_fclose(file);
    if (!good) return oct_fail(error, OCT_ERR_FORMAT, "zip: entry \"%.200s\" is damaged", name);
    *bytes = copy;
    *size = (size_t)st.size;
    return OCT_OK;
}

static oct_status locate(archive *a, zip_uint64_t *index, const char *part, const char *key, oct_error *error)
{
    char name[MAX_NAME + 128];
    int length = snprintf(name, sizeof name, "%s%s%s", a->root, part, key);
    zip_int64_t at = length > 0 && (size_t)length < sizeof name ? zip_name_locate(a->zip, name, ZIP_FL_ENC_RAW) : -1;
    if (at < 0) return oct_fail(error, OCT_ERR_FORMAT, "zip: there is no entry \"%.200s\"", name);
    *index = (zip_uint64_t)at;
    return OCT_OK;
}

static oct_status fetch_entry(void *user, oct_pth_storage *s, oct_error *error)
{
    archive *a = user;
    zip_uint64_t index = 0;
    const uint8_t *bytes = NULL;
    size_t size = 0;
    OCT_TRY(locate(a, &index, "data/", s->key, error));
    OCT_TRY(read_entry(a, &bytes, &size, index, s->key, error));
    if (size < s->bytes_count)
        return oct_fail(error, OCT_ERR_FORMAT, "storage \"%.64s\" has %zu bytes, %llu expected", s->key, size,
                        (unsigned long long)s->bytes_count);
    s->bytes = bytes;
    return OCT_OK;
}

/* Finds "<root>/data.pkl". */
static oct_status find_root(archive *a, zip_uint64_t *index, oct_error *error)
{
    static const char pickle[] = "data.pkl";
    bool script = false;
    zip_int64_t count = zip_get_num_entries(a->zip, 0);
    for (zip_int64_t i = 0; i < count; i++) {
        const char *name = zip_get_name(a->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        const char *slash = name ? strchr(name, '/') : NULL;
        const char *tail = slash ? slash + 1 : name;
        if (!name || (size_t)(tail - name) >= sizeof a->root) continue;
        script |= !strcmp(tail, "constants.pkl");
        if (strcmp(tail, pickle) != 0) continue;
        memcpy(a->root, name, (size_t)(tail - name));
        a->root[tail - name] = '\0';
        *index = (zip_uint64_t)i;
        count = i;
    }
    zip_uint64_t constants;
    if (!script && *index != UINT64_MAX) script = locate(a, &constants, "constants.pkl", "", NULL) == OCT_OK;
    if (script)
        return oct_fail(error, OCT_ERR_UNSUPPORTED,
                        "a TorchScript archive, not weights. Save those: "
                        "torch.save(torch.jit.load(file).state_dict(), \"weights.pth\")");
    if (*index != UINT64_MAX) return OCT_OK;
    return oct_fail(error, OCT_ERR_FORMAT,
                    "a zip archive without data.pkl: not written by torch.save (of a .keras file, save the weights as "
                    ".h5)");
}

static oct_status check_byte_order(archive *a, oct_error *error)
{
    zip_uint64_t index = 0;
    const uint8_t *text = NULL;
    size_t size = 0;
    if (locate(a, &index, "byteorder", "", NULL) != OCT_OK) return OCT_OK; /* older files are little-endian */
    OCT_TRY(read_entry(a, &text, &size, index, "byteorder", error));
    if (size == 6 && !memcmp(text, "little", 6)) return OCT_OK;
    return oct_fail(error, OCT_ERR_UNSUPPORTED, "the file was written on a big-endian machine; save it on another one");
}

static oct_status read_archive(archive *a, oct_tensors *tensors, oct_error *error)
{
    zip_uint64_t index = UINT64_MAX;
    const uint8_t *bytes = NULL;
    size_t size = 0;
    uint64_t elements = a->budget;
    OCT_TRY(find_root(a, &index, error));
    OCT_TRY(check_byte_order(a, error));
    OCT_TRY(read_entry(a, &bytes, &size, index, "data.pkl", error));
    oct_pickle pickle;
    oct_pth_storages storages;
    OCT_TRY(oct_pickle_read(&pickle, bytes, size, oct_pth_classes, oct_pth_class_count, error));
    oct_status status = oct_pth_list_storages(&storages, &pickle, error);
    if (status == OCT_OK) status = oct_pth_take_tensors(tensors, &pickle, &storages, fetch_entry, a, elements, error);
    oct_pickle_release(&pickle);
    return status;
}

static oct_status read_zip(oct_tensors *tensors, const uint8_t *bytes, size_t size, oct_error *error)
{
    zip_error_t reason;
    zip_error_init(&reason);
    zip_source_t *source = zip_source_buffer_create(bytes, size, 0, &reason);
    archive a = {.zip = source ? zip_open_from_source(source, ZIP_RDONLY, &reason) : NULL, .budget = size};
    oct_arena_init(&a.arena, 0);
    oct_status status;
    if (a.zip) {
        status = read_archive(&a, tensors, error);
        zip_discard(a.zip);
    } else {
        status = oct_fail(error, OCT_ERR_FORMAT, "zip: %s", zip_error_strerror(&reason));
        zip_source_free(source);
    }
    oct_arena_release(&a.arena);
    zip_error_fini(&reason);
    return status;
}

/* --- legacy: pickles one after the other --- */

typedef struct legacy {
    const uint8_t *bytes;
    size_t size, at;
} legacy;

static oct_status next_pickle(legacy *l, oct_pickle *out, oct_error *error)
{
    OCT_TRY(oct_pickle_read(out, l->bytes + l->at, l->size - l->at, oct_pth_classes, oct_pth_class_count, error));
    l->at += out->bytes;
    return OCT_OK;
}

/* Reads a pickle and judges its root. */
static oct_status expect(legacy *l, bool (*good)(const oct_pickle_value *v), const char *what, oct_error *error)
{
    oct_pickle pickle;
    OCT_TRY(next_pickle(l, &pickle, error));
    bool is_good = good(pickle.root);
    oct_pickle_release(&pickle);
    if (is_good) return OCT_OK;
    return oct_fail(error, OCT_ERR_UNSUPPORTED, "%s. Save the weights again: torch.save(state_dict, \"weights.pth\")",
                    what);
}

static bool is_magic(const oct_pickle_value *v)
{
    /* 0x1950a86a20fc9c46cf6c; pickled with its ten bytes */
    static const uint8_t magic[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    return v->kind == OCT_PICKLE_BIG && v->length == sizeof magic && !memcmp(v->text, magic, sizeof magic);
}

static bool is_protocol(const oct_pickle_value *v)
{
    return v->kind == OCT_PICKLE_INT && v->integer == LEGACY_PROTOCOL;
}

static bool is_little_endian(const oct_pickle_value *v)
{
    const oct_pickle_value *little = oct_pickle_get(v, "little_endian");
    return little && little->kind == OCT_PICKLE_BOOL && little->integer;
}

/* Behind the list of keys: per key a count and the elements. */
static oct_status find_elements(legacy *l, const oct_pth_storages *storages, const oct_pickle_value *keys,
                                oct_error *error)
{
    if (keys->kind != OCT_PICKLE_LIST) return oct_fail(error, OCT_ERR_FORMAT, "expected a list of storage keys");
    for (int32_t i = 0; i < keys->count; i++) {
        const oct_pickle_value *key = keys->items[i];
        oct_pth_storage *s = key->kind == OCT_PICKLE_TEXT ? oct_pth_find_storage(storages, key->text) : NULL;
        if (!s) return oct_fail(error, OCT_ERR_FORMAT, "elements of a storage that was not declared");
        if (l->size - l->at < 8 || oct_load_le64(l->bytes + l->at) != s->count ||
            l->size - l->at - 8 < s->bytes_count || s->bytes)
            return oct_fail(error, OCT_ERR_FORMAT,
                            "storage \"%.64s\": expected %llu elements, the file has %zu bytes left", s->key,
                            (unsigned long long)s->count, l->size - l->at);
        s->bytes = l->bytes + l->at + 8;
        l->at += 8 + (size_t)s->bytes_count;
    }
    if (l->at == l->size) return OCT_OK;
    return oct_fail(error, OCT_ERR_FORMAT, "%zu bytes behind the last storage", l->size - l->at);
}

static oct_status fetch_nothing(void *user, oct_pth_storage *s, oct_error *error)
{
    (void)user;
    return oct_fail(error, OCT_ERR_FORMAT, "storage \"%.64s\" has no elements in the file", s->key);
}

static oct_status read_object(legacy *l, oct_pickle *object, oct_tensors *tensors, oct_error *error)
{
    oct_pickle keys;
    oct_pth_storages storages;
    OCT_TRY(oct_pth_list_storages(&storages, object, error));
    OCT_TRY(next_pickle(l, &keys, error));
    oct_status status = find_elements(l, &storages, keys.root, error);
    oct_pickle_release(&keys);
    OCT_TRY(status);
    return oct_pth_take_tensors(tensors, object, &storages, fetch_nothing, NULL, l->size, error);
}

static oct_status read_legacy(oct_tensors *tensors, const uint8_t *bytes, size_t size, oct_error *error)
{
    legacy l = {bytes, size, 0};
    oct_pickle object;
    OCT_TRY(expect(&l, is_magic, "a Python pickle, but not one of torch.save", error));
    OCT_TRY(expect(&l, is_protocol, "torch.save wrote a protocol other than 1001", error));
    OCT_TRY(expect(&l, is_little_endian, "the file was written on a big-endian machine", error));
    OCT_TRY(next_pickle(&l, &object, error));
    oct_status status = read_object(&l, &object, tensors, error);
    oct_pickle_release(&object);
    return status;
}

oct_status oct_pth_read(oct_tensors *tensors, const uint8_t *bytes, size_t size, oct_error *error)
{
    if (size >= sizeof zip_magic && !memcmp(bytes, zip_magic, sizeof zip_magic))
        return read_zip(tensors, bytes, size, error);
    return read_legacy(tensors, bytes, size, error);
}
