/* SPDX-License-Identifier: BSD-2-Clause
 * libFuzzer target for .pth files. An input that begins with a zero byte is what follows sys_info in the legacy
 * container, so that pickles are reached without a checksum in front; anything else is a file. */
#include <stdlib.h>
#include <string.h>

#include "layers/import/pth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_exactly(const uint8_t *bytes, size_t size)
{
    oct_error error = {0};
    oct_tensors *tensors;
    if (oct_tensors_create(&tensors, &error) != OCT_OK) return;
    oct_status status = oct_pth_read(tensors, bytes, size, &error);
    if (status != OCT_OK && !*error.message) abort();
    if (status == OCT_ERR_ARGUMENT || status == OCT_ERR_IO || status == OCT_ERR_STATE) abort();
    oct_tensors_destroy(tensors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char head[] = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."
                               "\x80\x02}U\x0dlittle_endian\x88s.";
    if (!size || data[0]) {
        read_exactly(data, size);
        return 0;
    }
    uint8_t *file = malloc(sizeof head - 1 + size - 1);
    if (!file) return 0;
    memcpy(file, head, sizeof head - 1);
    memcpy(file + sizeof head - 1, data + 1, size - 1);
    read_exactly(file, sizeof head - 1 + size - 1);
    free(file);
    return 0;
}
