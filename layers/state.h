/* SPDX-License-Identifier: BSD-2-Clause
 * State files: a graph with its parameters and buffers, and whatever a training run wants to find again, in one HDF5
 * file. What is in memory (oct_state) and what is in the file are the same thing, value for value, bit for bit.
 *
 *   (512 bytes)           a seal: format, version, size and digest of all that follows, as text; to HDF5 a user block
 *   /                     attributes: format "octet-state", version 1, producer, digest
 *   /graph                text: layers/graph_json.h
 *   /parameters/<name>    float32, one dataset per parameter node; slashes of names are groups
 *   /buffers/<name>       float32: running statistics, ranges, counters
 *   /optimizer/<slot>/<name>   float32, one per parameter: "velocity"
 *   /classes              array of texts; absent when the classes have no names
 *   /preprocessing        attributes of the graph's normalize node, for readers of the file; the graph decides
 *   /meta/<key>           number (float64), integer (int64) or text (JSON is text)
 *
 * The attribute digest covers parameters and buffers; it names a set of weights and is checked on reading. The seal is
 * checked before HDF5 sees the file, because HDF5 itself is not safe on damaged files: whoever edits a file with other
 * tools makes it unreadable here. Files hold no times: the same state gives the same bytes.
 *
 * Files are written as a whole and atomically (base/file.h): after a crash or on a full disk the old file is there. The
 * reader bounds every count by the size of the file before it allocates and names file, object, expected and found.
 * What a forged file can do to the HDF5 library itself is out of our hands: treat files of strangers accordingly.
 *
 * Not thread-safe per state. HDF5 calls are made on the calling thread only.
 */
#ifndef OCT_LAYERS_STATE_H
#define OCT_LAYERS_STATE_H

#include "autograd/graph.h"
#include "layers/graph_json.h"

#define OCT_STATE_FORMAT "octet-state"
enum { OCT_STATE_VERSION = 1 };

typedef struct oct_state oct_state;

OCT_MUST_USE oct_status oct_state_create(oct_state **out, oct_error *error);
void oct_state_destroy(oct_state *state); /* NULL is allowed */

/* --- filling; everything is copied --- */

/* The graph's structure, parameters and buffers. Once per state. */
OCT_MUST_USE oct_status oct_state_set_graph(oct_state *state, const oct_graph *graph, oct_error *error);
/* A flat array laid out like graph->params: optimizer state. `slot` ("velocity") is letters, digits, '_'. */
OCT_MUST_USE oct_status oct_state_set_slot(oct_state *state, const char *slot, const oct_graph *graph,
                                           const float *flat, oct_error *error);
/* count names of at most 255 bytes; replaces what was there. */
OCT_MUST_USE oct_status oct_state_set_classes(oct_state *state, const char *const *names, int count,
                                              oct_error *error);
/* Keys: 1..63 letters, digits, '_', '-', '.'. Setting a key again replaces its value. */
OCT_MUST_USE oct_status oct_state_set_number(oct_state *state, const char *key, double value, oct_error *error);
OCT_MUST_USE oct_status oct_state_set_integer(oct_state *state, const char *key, int64_t value, oct_error *error);
OCT_MUST_USE oct_status oct_state_set_text(oct_state *state, const char *key, const char *value, oct_error *error);

/* --- files --- */

OCT_MUST_USE oct_status oct_state_write(const char *path, const oct_state *state, oct_error *error);
/* *out = the file's content, NULL on failure: OCT_ERR_IO (no such file), OCT_ERR_FORMAT (all that is wrong with its
 * content), OCT_ERR_MEMORY. Caller destroys. */
OCT_MUST_USE oct_status oct_state_read(oct_state **out, const char *path, oct_error *error);
/* What a file says it is: OCT_STATE_FORMAT by its seal, or the attribute "format" of an HDF5 file's root; "" when it is
 * HDF5 without one. OCT_ERR_IO: cannot be opened; OCT_ERR_FORMAT: not HDF5. */
enum { OCT_STATE_FORMAT_BYTES = 64 };
OCT_MUST_USE oct_status oct_state_probe(char format[OCT_STATE_FORMAT_BYTES], const char *path, oct_error *error);

/* --- looking --- */

typedef struct oct_state_tensor {
    const char *group; /* "parameters", "buffers", "optimizer/velocity" */
    const char *name;  /* of the node */
    oct_shape shape;
    size_t count;
    const float *data;
} oct_state_tensor;
int oct_state_tensor_count(const oct_state *state);
const oct_state_tensor *oct_state_tensor_at(const oct_state *state, int index); /* NULL out of range */
const oct_state_tensor *oct_state_tensor_find(const oct_state *state, const char *group, const char *name);

const char *oct_state_graph_text(const oct_state *state); /* "" before a graph was set */
/* Version of the program that wrote the file; this one's for a state that was not read. */
const char *oct_state_producer(const oct_state *state);
/* Over name, size and values of all parameters and buffers, in the order of their node ids. */
uint64_t oct_state_digest(const oct_state *state);
uint64_t oct_graph_digest(const oct_graph *graph); /* the same number without the detour */

int oct_state_class_count(const oct_state *state);
const char *oct_state_class_name(const oct_state *state, int index); /* NULL out of range */

/* false, and *value untouched, when there is no such key or its value is of another type; an integer is a number, too.
 * Text is borrowed. */
bool oct_state_get_number(const oct_state *state, const char *key, double *value);
bool oct_state_get_integer(const oct_state *state, const char *key, int64_t *value);
bool oct_state_get_text(const oct_state *state, const char *key, const char **value);

/* --- into graphs --- */

/* The graph of the file with its values. `find` knows the ops. Messages in ctx->error. Caller destroys. */
OCT_MUST_USE oct_status oct_state_make_graph(oct_graph **out, const oct_state *state, oct_ctx *ctx,
                                             oct_op_lookup *find);

/* What a copy by name met. */
typedef struct oct_state_report {
    int matched;
    int missing;      /* in the graph, not in the state: left as they are */
    int unexpected;   /* in the state, not in the graph: ignored */
    int mismatched;   /* in both, shapes differ: left as they are */
    char detail[512]; /* names and shapes of what did not match, as many as fit; "" when all did */
} oct_state_report;

/* Copies parameters and buffers into an existing graph. */
void oct_state_load(const oct_state *state, oct_graph *graph, oct_state_report *report);
/* Copies a slot into a flat array laid out like graph->params. */
void oct_state_load_slot(const oct_state *state, const char *slot, const oct_graph *graph, float *flat,
                         oct_state_report *report);
/* OCT_OK when everything matched, else OCT_ERR_SHAPE with the report's detail behind `what`. */
OCT_MUST_USE oct_status oct_state_report_status(const oct_state_report *report, const char *what, oct_error *error);

#endif
