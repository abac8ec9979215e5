/* SPDX-License-Identifier: BSD-2-Clause
 * Lists of names and reading folders. Hundreds of thousands of names live in one growing block. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/memory.h"
#include "datasets/dataset_internal.h"

char *oct_path_join(const char *folder, const char *name)
{
    size_t a = strlen(folder), b = strlen(name);
    while (a > 1 && folder[a - 1] == '/') a--;
    char *path = oct_alloc(a + b + 2, 1);
    if (path) snprintf(path, a + b + 2, "%.*s/%s", (int)a, folder, name);
    return path;
}

const char *oct_names_get(const oct_names *names, size_t index)
{
    return names->text + names->offsets[index];
}

void oct_names_release(oct_names *names)
{
    oct_free(names->text);
    oct_free(names->offsets);
    *names = (oct_names){0};
}

oct_status oct_names_add(oct_names *names, const char *name, oct_error *error)
{
    size_t bytes = strlen(name) + 1;
    if (names->text_capacity - names->text_bytes < bytes) {
        size_t capacity = 2 * names->text_capacity + bytes + 1024;
        char *grown = oct_realloc(names->text, names->text_bytes, capacity, 1);
        if (!grown) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: file names");
        names->text = grown;
        names->text_capacity = capacity;
    }
    if (names->count == names->capacity) {
        size_t capacity = 2 * names->capacity + 64;
        size_t *grown = oct_realloc(names->offsets, names->count * sizeof(size_t), capacity, sizeof(size_t));
        if (!grown) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: file names");
        names->offsets = grown;
        names->capacity = capacity;
    }
    memcpy(names->text + names->text_bytes, name, bytes);
    names->offsets[names->count++] = names->text_bytes;
    names->text_bytes += bytes;
    return OCT_OK;
}

static bool entry_is(int folder, const struct dirent *entry, oct_entry_kind kind)
{
    if (entry->d_type == DT_REG) return kind == OCT_ENTRY_FILE;
    if (entry->d_type == DT_DIR) return kind == OCT_ENTRY_FOLDER;
    if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK) return false;
    struct stat st;
    if (fstatat(folder, entry->d_name, &st, 0)) return false;
    return kind == OCT_ENTRY_FILE ? S_ISREG(st.st_mode) : S_ISDIR(st.st_mode);
}

static int compare_names(const void *a, const void *b, void *text)
{
    return strcmp((const char *)text + *(const size_t *)a, (const char *)text + *(const size_t *)b);
}

oct_status oct_names_list(oct_names *names, const char *folder, oct_entry_kind kind,
                          bool (*keep)(const char *), oct_error *error)
{
    size_t first = names->count;
    oct_status status = OCT_OK;
    DIR *dir = opendir(folder);
    if (!dir) return oct_fail(error, OCT_ERR_IO, "%s: cannot list: %s", folder, strerror(errno));
    const struct dirent *entry;
    for (errno = 0; status == OCT_OK && (entry = readdir(dir)); errno = 0) {
        if (entry->d_name[0] == '.' || (keep && !keep(entry->d_name))) continue;
        if (entry_is(dirfd(dir), entry, kind)) status = oct_names_add(names, entry->d_name, error);
    }
    if (status == OCT_OK && errno)
        status = oct_fail(error, OCT_ERR_IO, "%s: cannot list: %s", folder, strerror(errno));
    closedir(dir);
    if (status == OCT_OK && names->count > first)
        qsort_r(names->offsets + first, names->count - first, sizeof(size_t), compare_names, names->text);
    return status;
}
