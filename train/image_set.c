/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/image_set.h"

#include <string.h>

#include "autograd/base/memory.h"

static oct_status read_all(oct_image_set *set, oct_ctx *ctx, oct_loader *loader, uint8_t *pixels, size_t room)
{
    size_t sample = set->images.sample, count = 0;
    OCT_TRY(oct_loader_start(loader, 0, 0));
    for (;;) {
        oct_batch batch;
        oct_status status = oct_loader_next(loader, &batch);
        if (status == OCT_END) break;
        OCT_TRY(status);
        size_t n = (size_t)batch.count;
        if (n > room - count) n = room - count;
        memcpy(pixels + count * sample, batch.images, n * sample);
        memcpy(set->labels + count, batch.labels, n * sizeof *set->labels);
        count += n;
    }
    set->images.count = (int64_t)count;
    return count ? OCT_OK : oct_fail(&ctx->error, OCT_ERR_FORMAT, "the data set gives no readable image");
}

oct_status oct_image_set_load(oct_image_set *set, oct_ctx *ctx, oct_loader *loader)
{
    size_t side = (size_t)oct_loader_size(loader), bytes = 0, room = (size_t)oct_loader_samples(loader);
    *set = (oct_image_set){.images.sample = side * side * (size_t)oct_loader_channels(loader)};
    uint8_t *pixels = oct_size_mul(&bytes, room, set->images.sample) ? oct_alloc(bytes, 1) : NULL;
    set->images.pixels = pixels;
    set->labels = oct_alloc(room, sizeof *set->labels);
    oct_status status = pixels && set->labels ? read_all(set, ctx, loader, pixels, room)
                                              : oct_out_of_memory(ctx, "images");
    if (status != OCT_OK) oct_image_set_release(set);
    return status;
}

void oct_image_set_release(oct_image_set *set)
{
    oct_free((void *)(uintptr_t)set->images.pixels);
    oct_free(set->labels);
    *set = (oct_image_set){0};
}
