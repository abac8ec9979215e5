/* SPDX-License-Identifier: BSD-2-Clause
 * The only place that knows stb_image. It is permissive: it fills up what a truncated JPEG or BMP lacks, so
 * that these are checked first. */
#include "datasets/image.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/bytes.h"
#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "datasets/jpeg_internal.h"

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-function" /* reported at the end of the file, behind the pop */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wdouble-promotion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wsign-compare"
#endif
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 65535
/* Zeroed: what a damaged file leaves unset is then the same in every run. */
#define STBI_MALLOC(size) calloc(1, size)
#define STBI_REALLOC(block, size) realloc(block, size)
#define STBI_FREE(block) free(block)
#include <stb_image.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

enum { MAX_FILE_BYTES = 256 << 20 };
static const size_t default_max_pixels = (size_t)1 << 26;

static oct_status bad_image(oct_error *error, const char *name, const char *why)
{
    return oct_fail(error, OCT_ERR_FORMAT, "%s: %s", name, why);
}

/* Rows of a BMP are padded to four bytes and begin at the offset in byte 10. The header is 12 bytes with
 * 16-bit sizes, or longer with 32-bit ones whose height is negative for rows from the top. */
static oct_status check_bmp_end(const uint8_t *bytes, size_t size, const char *name, oct_error *error)
{
    if (size < 30) return bad_image(error, name, "truncated BMP: no complete header");
    uint64_t width, height, bits;
    if (oct_load_le32(bytes + 14) == 12) {
        width = oct_load_le32(bytes + 18) & 0xffff;
        height = oct_load_le32(bytes + 18) >> 16;
        bits = oct_load_le32(bytes + 22) >> 16;
    } else {
        uint32_t rows = oct_load_le32(bytes + 22);
        width = oct_load_le32(bytes + 18);
        height = rows >> 31 ? 0u - rows : rows;
        bits = oct_load_le32(bytes + 26) >> 16;
    }
    if (width > STBI_MAX_DIMENSIONS || height > STBI_MAX_DIMENSIONS || bits > 32)
        return bad_image(error, name, "BMP header out of range");
    uint64_t expected = oct_load_le32(bytes + 10) + (width * bits + 31) / 32 * 4 * height;
    if (size < expected)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: truncated BMP: expected %llu bytes, found %zu", name,
                        (unsigned long long)expected, size);
    return OCT_OK;
}

static oct_status check_end(const uint8_t *bytes, size_t size, const char *name, oct_error *error)
{
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (size >= 4 && bytes[0] == 0xff && bytes[1] == 0xd8) return oct_jpeg_check(bytes, size, name, error);
    if (size >= 2 && bytes[0] == 'B' && bytes[1] == 'M') return check_bmp_end(bytes, size, name, error);
    if (size >= 8 && !memcmp(bytes, png, 8)) return OCT_OK; /* chunk lengths: the decoder notices */
    return bad_image(error, name, size ? "neither JPEG nor PNG nor BMP, whatever its name" : "empty file");
}

oct_status oct_image_decode(oct_image *image, const uint8_t *bytes, size_t size, int channels,
                            size_t max_pixels, const char *name, oct_error *error)
{
    if (channels != 1 && channels != 3)
        return oct_fail(error, OCT_ERR_ARGUMENT, "%s: channels: expected 1 or 3, found %d", name, channels);
    if (size > INT_MAX) return bad_image(error, name, "file too large");
    OCT_TRY(check_end(bytes, size, name, error));
    int width, height, found;
    if (!stbi_info_from_memory(bytes, (int)size, &width, &height, &found))
        return oct_fail(error, OCT_ERR_FORMAT, "%s: damaged image header (%s)", name, stbi_failure_reason());
    if (!max_pixels) max_pixels = default_max_pixels;
    if (height < 0 && height > -STBI_MAX_DIMENSIONS) height = -height; /* BMP with its rows from the top */
    if (width < 1 || height < 1 || (uint64_t)width * (uint64_t)height > max_pixels)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: image of %d x %d pixels: expected 1 to %zu pixels", name,
                        width, height, max_pixels);
    stbi_uc *pixels = stbi_load_from_memory(bytes, (int)size, &width, &height, &found, channels);
    if (!pixels)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: damaged image (%s)", name, stbi_failure_reason());
    oct_status status = oct_image_reserve(image, height, width, channels, error);
    if (status == OCT_OK) memcpy(image->pixels, pixels, (size_t)width * (size_t)height * (size_t)channels);
    stbi_image_free(pixels);
    return status;
}

oct_status oct_image_load(oct_image *image, const char *path, int channels, size_t max_pixels,
                          oct_error *error)
{
    uint8_t *bytes;
    size_t size;
    OCT_TRY(oct_file_read(&bytes, &size, path, MAX_FILE_BYTES, error));
    oct_status status = oct_image_decode(image, bytes, size, channels, max_pixels, path, error);
    oct_free(bytes);
    return status;
}
