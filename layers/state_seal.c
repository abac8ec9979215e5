/* SPDX-License-Identifier: BSD-2-Clause
 * The seal in front of a state file: HDF5 1.10 reads beyond its own buffers when metadata is damaged, so a file is
 * compared with its seal before HDF5 sees it. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/bytes.h"
#include "layers/state_internal.h"

static const char seal_format[] = OCT_STATE_FORMAT "\nversion %d\nbytes %016" PRIx64 "\ndigest %016" PRIx64 "\n";

void oct_state_seal_make(char seal[OCT_STATE_SEAL], const void *image, size_t size)
{
    memset(seal, 0, OCT_STATE_SEAL);
    snprintf(seal, OCT_STATE_SEAL, seal_format, OCT_STATE_VERSION, (uint64_t)size,
             oct_digest(OCT_DIGEST_START, image, size));
}

static bool seal_is_ours(const char seal[OCT_STATE_SEAL])
{
    static const char first_line[] = OCT_STATE_FORMAT "\n";
    return !memcmp(seal, first_line, sizeof first_line - 1);
}

/* Size and digest of what is left of a file. */
static bool measure(FILE *f, uint64_t *size, uint64_t *digest)
{
    uint8_t block[1 << 14];
    *size = 0;
    *digest = OCT_DIGEST_START;
    for (size_t n = fread(block, 1, sizeof block, f); n; n = fread(block, 1, sizeof block, f)) {
        *digest = oct_digest(*digest, block, n);
        *size += n;
    }
    return !ferror(f);
}

static oct_status check(const char *path, FILE *f, const char seal[OCT_STATE_SEAL], oct_error *error)
{
    char expected[OCT_STATE_SEAL];
    int version = 0;
    uint64_t bytes = 0, sealed = 0, size, digest;
    int fields = sscanf(seal, OCT_STATE_FORMAT "\nversion %9d\nbytes %16" SCNx64 "\ndigest %16" SCNx64 "\n", &version,
                        &bytes, &sealed);
    if (fields >= 1 && version != OCT_STATE_VERSION)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: expected version %d of '%s', found %d", path, OCT_STATE_VERSION,
                        OCT_STATE_FORMAT, version);
    memset(expected, 0, sizeof expected);
    snprintf(expected, sizeof expected, seal_format, version, bytes, sealed);
    if (fields != 3 || memcmp(expected, seal, sizeof expected))
        return oct_fail(error, OCT_ERR_FORMAT, "%s: its first %d bytes are damaged", path, OCT_STATE_SEAL);
    if (!measure(f, &size, &digest))
        return oct_fail(error, OCT_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    if (size != bytes)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: expected %llu bytes, found %llu: the file is %s", path,
                        (unsigned long long)bytes + OCT_STATE_SEAL, (unsigned long long)size + OCT_STATE_SEAL,
                        size < bytes ? "truncated" : "longer than it was written");
    if (digest != sealed)
        return oct_fail(error, OCT_ERR_FORMAT,
                        "%s: expected digest %016" PRIx64 " of its bytes, found %016" PRIx64 ": the file is damaged",
                        path, sealed, digest);
    return OCT_OK;
}

oct_status oct_state_seal_check(bool *ours, const char *path, bool verify, oct_error *error)
{
    struct stat st;
    char block[OCT_STATE_SEAL] = {0};
    *ours = false;
    FILE *f = fopen(path, "rbe");
    if (!f) return oct_fail(error, OCT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    oct_status status = OCT_OK;
    if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) {
        status = oct_fail(error, OCT_ERR_IO, "%s: not a regular file", path);
    } else if (fread(block, 1, sizeof block, f) < sizeof block && ferror(f)) {
        status = oct_fail(error, OCT_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
    } else if (seal_is_ours(block)) {
        *ours = true;
        if (verify) status = check(path, f, block, error);
    }
    fclose(f);
    return status;
}
