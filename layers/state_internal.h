/* SPDX-License-Identifier: BSD-2-Clause
 * Between state.c (the content) and state_hdf5.c (the file).
 */
#ifndef OCT_LAYERS_STATE_INTERNAL_H
#define OCT_LAYERS_STATE_INTERNAL_H

#include "autograd/base/memory.h"
#include "layers/state.h"

typedef enum oct_meta_type { OCT_META_NUMBER, OCT_META_INTEGER, OCT_META_TEXT } oct_meta_type;
typedef struct oct_meta {
    char *key;
    oct_meta_type type;
    double number;
    int64_t integer;
    char *text;
} oct_meta;

struct oct_state {
    oct_arena arena; /* names, texts and values: everything but the two growing tables */
    char *producer;
    char *graph_text;
    oct_state_tensor *tensors; /* parameters and buffers in the order of their ids, then slots */
    int tensor_count, tensor_capacity;
    char **classes;
    int class_count;
    oct_meta *meta;
    int meta_count, meta_capacity;
};

enum {
    OCT_STATE_MAX_CLASSES = 1 << 20,
    OCT_STATE_MAX_NAME = 255,
    OCT_STATE_MAX_META = 1024,
    OCT_STATE_MAX_KEY = 63,
    OCT_STATE_MAX_SLOTS = 8
};

/* Appends a tensor with undefined values, for the caller to fill; NULL with a message. */
float *oct_state_add_tensor(oct_state *state, const char *group, const char *name, const oct_shape *shape,
                            oct_error *error);
/* Appends one tensor per parameter and buffer, or per parameter alone for a slot, as the graph's text lists them. */
OCT_MUST_USE oct_status oct_state_add_from_text(oct_state *state, const char *slot, oct_error *error);
/* Bytes that those tensors take: whoever reads compares before adding. */
OCT_MUST_USE oct_status oct_state_text_bytes(const oct_state *state, bool slot, size_t *bytes, oct_error *error);
/* Adds a copy of a meta entry. */
OCT_MUST_USE oct_status oct_state_set_meta(oct_state *state, const oct_meta *entry, oct_error *error);
bool oct_state_key_is_valid(const char *key);

/* A seal is the first OCT_STATE_SEAL bytes of a file: format, version, and size and digest of the HDF5 image behind it.
 * HDF5 skips it as a user block. */
enum { OCT_STATE_SEAL = 512 };
void oct_state_seal_make(char seal[OCT_STATE_SEAL], const void *image, size_t size);
/* *ours = whether the file begins like one of ours; if so, and `verify`, everything behind the seal must be what was
 * sealed. A file that is not ours is no error here. */
OCT_MUST_USE oct_status oct_state_seal_check(bool *ours, const char *path, bool verify, oct_error *error);

#endif
