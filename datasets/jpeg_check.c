/* SPDX-License-Identifier: BSD-2-Clause
 * The structure of a JPEG (ITU-T T.81, annex B), without decoding it. stb_image 2.27 fills up what a
 * truncated file lacks, writes past its tables when a Huffman table has more than 256 codes, and uses tables
 * that a file does not define as they lie in memory. */
#include <stdbool.h>
#include <string.h>

#include "datasets/jpeg_internal.h"

enum { SOF0 = 0xc0, SOF2 = 0xc2, DHT = 0xc4, RST0 = 0xd0, RST7 = 0xd7, EOI = 0xd9, SOS = 0xda };

typedef struct jpeg_walk {
    const uint8_t *bytes;
    size_t size, at;
    unsigned tables[2]; /* bit i: DC or AC table i is defined */
    bool frame, progressive, scan;
    const char *name;
    oct_error *error;
} jpeg_walk;

static oct_status damaged(const jpeg_walk *walk, const char *what)
{
    return oct_fail(walk->error, OCT_ERR_FORMAT, "%s: damaged JPEG: %s at byte %zu", walk->name, what,
                    walk->at);
}

static oct_status truncated(const jpeg_walk *walk)
{
    return oct_fail(walk->error, OCT_ERR_FORMAT,
                    "%s: truncated JPEG: expected an end-of-image marker (FF D9), found none in %zu bytes",
                    walk->name, walk->size);
}

/* A segment of tables: class and number (4 bits each), how many codes of each length 1..16, their symbols. */
static oct_status check_tables(jpeg_walk *walk, const uint8_t *p, size_t size)
{
    while (size >= 17) {
        unsigned kind = p[0] >> 4, number = p[0] & 15;
        size_t codes = 0;
        for (int length = 1; length <= 16; length++) codes += p[length];
        if (kind > 1 || number > 3 || codes > 256 || codes > size - 17)
            return damaged(walk, "impossible Huffman table");
        walk->tables[kind] |= 1u << number;
        p += 17 + codes;
        size -= 17 + codes;
    }
    return size ? damaged(walk, "impossible Huffman table") : OCT_OK;
}

/* n components, of each its name and its DC and AC table, then the first and last coefficient and two shifts.
 * In a progressive frame a scan needs DC tables only where it begins the DC coefficients, and AC tables only
 * beyond. */
static oct_status check_scan(jpeg_walk *walk, const uint8_t *p, size_t size)
{
    size_t n = size ? p[0] : 0;
    if (!walk->frame || n < 1 || n > 4 || size != 4 + 2 * n) return damaged(walk, "impossible scan header");
    const uint8_t *tail = p + 1 + 2 * n;
    bool dc = !walk->progressive || (tail[0] == 0 && tail[2] >> 4 == 0);
    bool ac = !walk->progressive || tail[0] > 0;
    for (size_t i = 0; i < n; i++) {
        unsigned numbers = p[2 + 2 * i];
        if ((dc && !(walk->tables[0] >> (numbers >> 4) & 1)) ||
            (ac && !(walk->tables[1] >> (numbers & 15) & 1)))
            return damaged(walk, "a scan uses a Huffman table that is not defined");
    }
    walk->scan = true;
    return OCT_OK;
}

/* In coded data 0xff is followed by 0x00 or by a restart marker; anything else ends it. */
static void skip_coded_data(jpeg_walk *walk)
{
    while (walk->at < walk->size) {
        const uint8_t *found = memchr(walk->bytes + walk->at, 0xff, walk->size - walk->at);
        walk->at = found ? (size_t)(found - walk->bytes) : walk->size;
        if (walk->at + 1 >= walk->size) return;
        uint8_t next = walk->bytes[walk->at + 1];
        if (next && next != 0xff && (next < RST0 || next > RST7)) return;
        walk->at += next == 0xff ? 1 : 2;
    }
}

/* The next marker's second byte, or -1 at the end of the file; `at` is behind it then. */
static int next_marker(jpeg_walk *walk)
{
    while (walk->at < walk->size && walk->bytes[walk->at] != 0xff) walk->at++;
    while (walk->at < walk->size && walk->bytes[walk->at] == 0xff) walk->at++;
    return walk->at < walk->size ? walk->bytes[walk->at++] : -1;
}

static oct_status check_segment(jpeg_walk *walk, int marker, const uint8_t *p, size_t size)
{
    if (marker == DHT) return check_tables(walk, p, size);
    if (marker == SOS) return check_scan(walk, p, size);
    if (marker >= SOF0 && marker <= SOF2) {
        if (walk->frame) return damaged(walk, "a second frame");
        walk->frame = true;
        walk->progressive = marker == SOF2;
    }
    return OCT_OK;
}

oct_status oct_jpeg_check(const uint8_t *bytes, size_t size, const char *name, oct_error *error)
{
    jpeg_walk walk = {.bytes = bytes, .size = size, .at = 2, .name = name, .error = error};
    for (;;) {
        int marker = next_marker(&walk);
        if (marker < 0) return truncated(&walk);
        if (marker == EOI) return walk.scan ? OCT_OK : damaged(&walk, "end without an image");
        if (size - walk.at < 2) return truncated(&walk);
        size_t length = (size_t)bytes[walk.at] << 8 | bytes[walk.at + 1];
        if (length < 2) return damaged(&walk, "impossible segment length");
        if (length > size - walk.at) return truncated(&walk);
        OCT_TRY(check_segment(&walk, marker, bytes + walk.at + 2, length - 2));
        walk.at += length;
        if (marker == SOS) skip_coded_data(&walk);
    }
}
