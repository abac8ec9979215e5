/* SPDX-License-Identifier: BSD-2-Clause */
#include "autograd/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "autograd/base/memory.h"

static oct_status io_error(oct_error *error, const char *what, const char *path)
{
    return oct_fail(error, OCT_ERR_IO, "%s: %s: %s", path, what, strerror(errno));
}

oct_status oct_file_read(uint8_t **bytes, size_t *size, const char *path, size_t max_bytes, oct_error *error)
{
    *bytes = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_error(error, "cannot open", path);
    oct_status status = OCT_OK;
    uint8_t *block = NULL;
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        status = oct_fail(error, OCT_ERR_IO, "%s: not a regular file", path);
        goto done;
    }
    if ((uint64_t)st.st_size > max_bytes) {
        status = oct_fail(error, OCT_ERR_FORMAT, "%s: %lld bytes, more than the limit of %zu", path,
                          (long long)st.st_size, max_bytes);
        goto done;
    }
    block = oct_alloc((size_t)st.st_size, 1);
    if (!block) {
        status = oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
        goto done;
    }
    size_t done_bytes = 0;
    while (done_bytes < (size_t)st.st_size) {
        ssize_t n = read(fd, block + done_bytes, (size_t)st.st_size - done_bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            status = n < 0 ? io_error(error, "cannot read", path)
                           : oct_fail(error, OCT_ERR_IO, "%s: shrank while being read", path);
            goto done;
        }
        done_bytes += (size_t)n;
    }
    *bytes = block;
    *size = done_bytes;
    block = NULL;
done:
    oct_free(block);
    close(fd);
    return status;
}

char *oct_file_temporary_name(const char *path)
{
    size_t bytes = strlen(path) + 32;
    char *name = oct_alloc(bytes, 1);
    if (name) snprintf(name, bytes, "%s.tmp-%ld", path, (long)getpid());
    return name;
}

static oct_status sync_path(const char *path, int flags, oct_error *error)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) return io_error(error, "cannot open for syncing", path);
    int failed = fsync(fd);
    if (failed && errno == EINVAL) failed = 0; /* file systems that cannot sync a folder */
    oct_status status = failed ? io_error(error, "cannot sync", path) : OCT_OK;
    close(fd);
    return status;
}

static oct_status sync_folder_of(const char *path, oct_error *error)
{
    char *folder = oct_strdup(path);
    if (!folder) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    oct_status status = sync_path(slash ? folder : ".", O_RDONLY | O_DIRECTORY, error);
    oct_free(folder);
    return status;
}

oct_status oct_file_commit(const char *temporary, const char *path, oct_error *error)
{
    oct_status status = sync_path(temporary, O_RDONLY, error);
    if (status == OCT_OK && rename(temporary, path)) status = io_error(error, "cannot replace", path);
    if (status != OCT_OK) {
        unlink(temporary);
        return status;
    }
    return sync_folder_of(path, error);
}

static oct_status write_all(const char *path, const uint8_t *bytes, size_t size, oct_error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return io_error(error, "cannot create", path);
    while (size) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            oct_status status = io_error(error, "cannot write", path);
            close(fd);
            return status;
        }
        bytes += n;
        size -= (size_t)n;
    }
    return close(fd) ? io_error(error, "cannot close", path) : OCT_OK;
}

oct_status oct_file_write(const char *path, const void *bytes, size_t size, oct_error *error)
{
    char *temporary = oct_file_temporary_name(path);
    if (!temporary) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
    oct_status status = write_all(temporary, bytes, size, error);
    if (status == OCT_OK)
        status = oct_file_commit(temporary, path, error);
    else
        unlink(temporary);
    oct_free(temporary);
    return status;
}
