/* SPDX-License-Identifier: BSD-2-Clause
 * Between pth.c (the two containers) and pth_tensors.c (what the pickle says).
 */
#ifndef OCT_LAYERS_IMPORT_PTH_INTERNAL_H
#define OCT_LAYERS_IMPORT_PTH_INTERNAL_H

#include "layers/import/elements.h"
#include "layers/import/pickle.h"
#include "layers/import/tensors.h"

typedef struct oct_pth_storage {
    const char *key;      /* of the pickle */
    oct_element type;
    uint64_t count;       /* elements */
    uint64_t bytes_count; /* count elements in bytes */
    const uint8_t *bytes; /* NULL until fetched */
} oct_pth_storage;

typedef struct oct_pth_storages {
    oct_pth_storage *items; /* sorted by key, each key once */
    int count;
} oct_pth_storages;

extern const oct_pickle_class oct_pth_classes[];
extern const size_t oct_pth_class_count;

/* Collects what the persistent ids of a pickle declare; items live in the pickle's arena. */
OCT_MUST_USE oct_status oct_pth_list_storages(oct_pth_storages *storages, oct_pickle *pickle, oct_error *error);
oct_pth_storage *oct_pth_find_storage(const oct_pth_storages *storages, const char *key); /* NULL when there is none */

/* Sets storage->bytes, valid until the read ends. */
typedef oct_status oct_pth_fetch(void *user, oct_pth_storage *storage, oct_error *error);

/* Finds the state_dict below the pickle's root and adds its tensors. `elements` bounds their sum: whatever the pickle
 * says, memory stays in proportion to the file. */
OCT_MUST_USE oct_status oct_pth_take_tensors(oct_tensors *tensors, const oct_pickle *pickle,
                                             const oct_pth_storages *storages, oct_pth_fetch *fetch, void *user,
                                             uint64_t elements, oct_error *error);

#endif
