/* SPDX-License-Identifier: BSD-2-Clause */
#include "quant/int8_file.h"

#include "autograd/base/file.h"
#include "quant/int8/image.h"
#include "quant/int8_file_internal.h"

static const size_t max_file_bytes = (size_t)1 << 31;

/* Puts the file's name before a message that does not know it. */
static oct_status name_file(oct_error *error, const char *path, const oct_error *inner)
{
    return oct_fail(error, inner->status, "%s: %s", path, inner->message);
}

oct_status oct_int8_file_write(const char *path, const oct_int8_spec *spec, oct_error *error)
{
    oct_error inner = {0};
    uint8_t *image, *bytes;
    size_t size;
    if (oct_int8_image_write(&image, &size, spec, &inner) != OCT_OK) return name_file(error, path, &inner);
    uint64_t checksum = oct_int8_image_stored_checksum(image);
    oct_free(image);
    OCT_TRY(oct_int8_hdf5_write(&bytes, &size, spec, checksum, path, error));
    oct_status status = oct_file_write(path, bytes, size, error);
    oct_free(bytes);
    return status;
}

oct_status oct_int8_file_write_image(const char *path, const oct_int8_spec *spec, oct_error *error)
{
    oct_error inner = {0};
    uint8_t *image;
    size_t size;
    if (oct_int8_image_write(&image, &size, spec, &inner) != OCT_OK) return name_file(error, path, &inner);
    oct_status status = oct_file_write(path, image, size, error);
    oct_free(image);
    return status;
}

static oct_status image_from_hdf5(uint8_t **image, size_t *image_size, const char *path, oct_error *error)
{
    oct_arena arena;
    oct_arena_init(&arena, 0);
    oct_int8_spec spec;
    uint64_t stored;
    oct_error inner = {0};
    oct_status status = oct_int8_hdf5_read(&spec, &stored, &arena, path, error);
    if (status == OCT_OK && oct_int8_image_write(image, image_size, &spec, &inner) != OCT_OK)
        status = name_file(error, path, &inner);
    oct_arena_release(&arena);
    if (status != OCT_OK) return status;
    uint64_t found = oct_int8_image_stored_checksum(*image);
    if (found == stored) return OCT_OK;
    oct_free(*image);
    *image = NULL;
    *image_size = 0;
    return oct_fail(error, OCT_ERR_FORMAT,
                    "%s: the content has the checksum %016llx, the file says %016llx: changed or damaged", path,
                    (unsigned long long)found, (unsigned long long)stored);
}

oct_status oct_int8_file_read(uint8_t **bytes, size_t *size, const char *path, oct_error *error)
{
    *bytes = NULL;
    *size = 0;
    if (oct_int8_hdf5_is(path)) return image_from_hdf5(bytes, size, path, error);
    OCT_TRY(oct_file_read(bytes, size, path, max_file_bytes, error));
    if (oct_int8_image_is(*bytes, *size)) return OCT_OK;
    oct_free(*bytes);
    *bytes = NULL;
    *size = 0;
    return oct_fail(error, OCT_ERR_FORMAT, "%s: not an int8 model: neither HDF5 nor a flat image", path);
}
