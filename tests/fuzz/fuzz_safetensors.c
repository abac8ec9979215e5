/* SPDX-License-Identifier: BSD-2-Clause
 * libFuzzer target for .safetensors files. An input that begins with a zero byte is a header's text, to which the right
 * length and 64 bytes of data are added; anything else is a file. */
#include <stdlib.h>
#include <string.h>

#include "autograd/base/bytes.h"
#include "layers/import/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_exactly(const uint8_t *bytes, size_t size)
{
    oct_error error = {0};
    oct_tensors *tensors;
    if (oct_tensors_create(&tensors, &error) != OCT_OK) return;
    oct_status status = oct_safetensors_read(tensors, bytes, size, &error);
    if (status != OCT_OK && !*error.message) abort();
    if (status == OCT_ERR_ARGUMENT || status == OCT_ERR_IO || status == OCT_ERR_STATE) abort();
    oct_tensors_destroy(tensors);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { LENGTH = 8, DATA = 64 };
    if (!size || data[0]) {
        read_exactly(data, size);
        return 0;
    }
    uint8_t *file = calloc(1, LENGTH + size - 1 + DATA);
    if (!file) return 0;
    oct_store_le64(file, size - 1);
    memcpy(file + LENGTH, data + 1, size - 1);
    read_exactly(file, LENGTH + size - 1 + DATA);
    free(file);
    return 0;
}
