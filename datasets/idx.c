/* SPDX-License-Identifier: BSD-2-Clause
 * IDX files, as MNIST and its relatives come, plain or gzipped. Header, big endian: 0x00000803 (unsigned
 * bytes, three dimensions), count, height, width for images; 0x00000801, count for labels; then the bytes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "autograd/base/bytes.h"
#include "autograd/base/memory.h"
#include "datasets/dataset_internal.h"

static const char *const prefixes[OCT_SPLIT_COUNT] = {[OCT_SPLIT_TRAIN] = "train", [OCT_SPLIT_TEST] = "t10k"};

/* Path of PREFIX-images-idx3-ubyte or its other spellings; NULL when there is none or memory is out. */
static char *find_file(const char *folder, const char *prefix, const char *what)
{
    static const char *const joints[] = {"-", "."}, *const endings[] = {"", ".gz"};
    char name[64];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s-%s%sidx%c-ubyte%s", prefix, what, joints[i / 2],
                 what[0] == 'i' ? '3' : '1', endings[i % 2]);
        char *path = oct_path_join(folder, name);
        if (!path || !access(path, F_OK)) return path;
        oct_free(path);
    }
    return NULL;
}

bool oct_dataset_is_idx(const char *path)
{
    char *train = find_file(path, "train", "images"), *test = find_file(path, "t10k", "images");
    bool found = train || test;
    oct_free(train);
    oct_free(test);
    return found;
}

static oct_status read_exactly(gzFile file, void *bytes, size_t size, const char *path, oct_error *error)
{
    size_t done = 0;
    while (done < size) {
        size_t piece = size - done < ((size_t)1 << 30) ? size - done : (size_t)1 << 30;
        int n = gzread(file, (uint8_t *)bytes + done, (unsigned)piece);
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        int code;
        const char *why = gzerror(file, &code);
        if (code == Z_ERRNO) return oct_fail(error, OCT_ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        if (code == Z_OK) why = "the file ends";
        return oct_fail(error, OCT_ERR_FORMAT, "%s: truncated or damaged: expected %zu bytes, found %zu (%s)",
                        path, size, done, why);
    }
    return OCT_OK;
}

/* The data must end here; reading on also makes zlib verify the checksum. */
static oct_status expect_end(gzFile file, const char *path, oct_error *error)
{
    uint8_t byte;
    int n = gzread(file, &byte, 1), code;
    const char *why = gzerror(file, &code);
    if (n == 1) return oct_fail(error, OCT_ERR_FORMAT, "%s: more bytes than its header promises", path);
    if (n < 0 || code != Z_OK) return oct_fail(error, OCT_ERR_FORMAT, "%s: damaged: %s", path, why);
    return OCT_OK;
}

/* Reads one file of `dimensions` dimensions: sizes[] from its header and all bytes behind it. */
static oct_status read_file(const char *path, int dimensions, uint32_t sizes[3], uint8_t **bytes,
                            oct_error *error)
{
    uint8_t header[16];
    struct stat st;
    oct_status status = OCT_OK;
    *bytes = NULL;
    if (stat(path, &st)) return oct_fail(error, OCT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    gzFile file = gzopen(path, "rbe");
    if (!file) return oct_fail(error, OCT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    gzbuffer(file, 1 << 17);
    uint32_t magic = 0x800u + (uint32_t)dimensions;
    status = read_exactly(file, header, 4 + 4 * (size_t)dimensions, path, error);
    if (status != OCT_OK) goto done;
    if (oct_load_be32(header) != magic) {
        status =
            oct_fail(error, OCT_ERR_FORMAT, "%s: not an IDX file: expected magic number 0x%08x, found 0x%08x",
                     path, magic, oct_load_be32(header));
        goto done;
    }
    size_t total = 1;
    for (int d = 0; d < dimensions; d++) {
        sizes[d] = oct_load_be32(header + 4 + 4 * d);
        uint32_t limit = d ? MAX_SIDE : MAX_SAMPLES;
        if (!sizes[d] || sizes[d] > limit || !oct_size_mul(&total, total, sizes[d])) {
            status = oct_fail(error, OCT_ERR_FORMAT, "%s: dimension %d: expected 1..%u, found %u", path, d,
                              limit, sizes[d]);
            goto done;
        }
    }
    /* Deflate shrinks to 1/1032 at best: a header that promises more than that lies, and nothing is
     * allocated. */
    if (total / 1032 > (uint64_t)st.st_size) {
        status = oct_fail(error, OCT_ERR_FORMAT,
                          "%s: its header promises %zu bytes, more than %lld bytes can hold", path, total,
                          (long long)st.st_size);
        goto done;
    }
    *bytes = oct_alloc(total, 1);
    status = *bytes ? read_exactly(file, *bytes, total, path, error)
                    : oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
    if (status == OCT_OK) status = expect_end(file, path, error);
done:
    gzclose_r(file);
    return status;
}

static oct_status read_labels(sample_store *store, const char *path, const char *images, oct_error *error)
{
    uint32_t sizes[3] = {0};
    uint8_t *bytes;
    oct_status status = read_file(path, 1, sizes, &bytes, error);
    if (status == OCT_OK && sizes[0] != store->count)
        status =
            oct_fail(error, OCT_ERR_FORMAT, "%s: expected as many labels as %s has images (%u), found %u",
                     path, images, store->count, sizes[0]);
    if (status == OCT_OK) {
        store->labels = oct_alloc(store->count, sizeof *store->labels);
        if (!store->labels) status = oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
    }
    for (uint32_t i = 0; status == OCT_OK && i < store->count; i++) store->labels[i] = bytes[i];
    oct_free(bytes);
    return status;
}

static oct_status read_split(oct_dataset *dataset, oct_split split, const char *images, const char *labels,
                             oct_error *error)
{
    sample_store *store = &dataset->stores[split];
    uint32_t sizes[3];
    OCT_TRY(read_file(images, 3, sizes, &store->pixels, error));
    store->count = sizes[0];
    if (dataset->height && (dataset->height != (int)sizes[1] || dataset->width != (int)sizes[2]))
        return oct_fail(error, OCT_ERR_FORMAT,
                        "%s: expected images of %d x %d as in the training set, found %u x %u", images,
                        dataset->height, dataset->width, sizes[1], sizes[2]);
    dataset->height = (int)sizes[1];
    dataset->width = (int)sizes[2];
    dataset->channels = 1;
    return read_labels(store, labels, images, error);
}

oct_status oct_dataset_open_idx(oct_dataset *dataset, oct_error *error)
{
    bool any = false;
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) {
        if (!prefixes[s]) continue;
        char *images = find_file(dataset->path, prefixes[s], "images");
        char *labels = find_file(dataset->path, prefixes[s], "labels");
        oct_status status = OCT_OK;
        if (images && !labels)
            status = oct_fail(error, OCT_ERR_FORMAT,
                              "%s: no labels: expected %s-labels-idx1-ubyte or .gz beside it", images,
                              prefixes[s]);
        else if (images)
            status = read_split(dataset, (oct_split)s, images, labels, error);
        any = any || images;
        oct_free(images);
        oct_free(labels);
        OCT_TRY(status);
    }
    if (!any)
        return oct_fail(error, OCT_ERR_FORMAT, "%s: no IDX set: expected train-images-idx3-ubyte or .gz",
                        dataset->path);
    return OCT_OK;
}
