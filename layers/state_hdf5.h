/* SPDX-License-Identifier: BSD-2-Clause
 * What reading and writing state files share: HDF5's habit of printing its errors, and their text. Internal: the one
 * header that includes hdf5.h.
 */
#ifndef OCT_LAYERS_STATE_HDF5_H
#define OCT_LAYERS_STATE_HDF5_H

#include <hdf5.h>
#include <stdio.h>

/* The caller's error handler, put back afterwards. HDF5 keeps one per thread. */
typedef struct oct_hdf5_silence {
    H5E_auto2_t handler;
    void *data;
} oct_hdf5_silence;

static inline void oct_hdf5_silence_push(oct_hdf5_silence *silence)
{
    silence->handler = NULL;
    silence->data = NULL;
    H5Eget_auto2(H5E_DEFAULT, &silence->handler, &silence->data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static inline void oct_hdf5_silence_pop(const oct_hdf5_silence *silence)
{
    H5Eset_auto2(H5E_DEFAULT, silence->handler, silence->data);
}

enum { OCT_HDF5_REASON = 200 };

static inline herr_t oct_hdf5_take_reason(unsigned n, const H5E_error2_t *entry, void *text)
{
    (void)n;
    snprintf(text, OCT_HDF5_REASON, "%s", entry->desc && *entry->desc ? entry->desc : "unknown reason");
    return 1; /* the first entry, the innermost, says why */
}

/* Why the last HDF5 call failed; returns text. */
static inline const char *oct_hdf5_reason(char text[OCT_HDF5_REASON])
{
    snprintf(text, OCT_HDF5_REASON, "HDF5 gives no reason");
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, oct_hdf5_take_reason, text);
    return text;
}

#endif
