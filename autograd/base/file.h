/* SPDX-License-Identifier: BSD-2-Clause
 * Files as a whole: bounded reads and atomic replacement.
 */
#ifndef OCT_BASE_FILE_H
#define OCT_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "autograd/base/status.h"

/* Reads all of `path` into *bytes (freed with oct_free) and *size. A file of more than max_bytes is
 * OCT_ERR_FORMAT and is not read. */
OCT_MUST_USE oct_status oct_file_read(uint8_t **bytes, size_t *size, const char *path, size_t max_bytes,
                                      oct_error *error);

/* Writes `path` so that after a crash at any moment it holds either the old or the new content: temporary file
 * in the same folder, fsync, rename, fsync of the folder. On failure the temporary file is removed. */
OCT_MUST_USE oct_status oct_file_write(const char *path, const void *bytes, size_t size, oct_error *error);

/* The two halves of the above for writers that need a path (HDF5): a temporary name beside `path` (freed with
 * oct_free, NULL when memory is out), then fsync + rename + fsync of the folder. commit removes the temporary
 * file when it fails. */
char *oct_file_temporary_name(const char *path);
OCT_MUST_USE oct_status oct_file_commit(const char *temporary, const char *path, oct_error *error);

#endif
