/* SPDX-License-Identifier: BSD-2-Clause
 * Reader of Python pickles that never executes anything: it builds a tree of plain values. What a pickle would import
 * and call is looked up in a list of allowed classes; anything else is refused by name. Allowed classes are not called
 * either: a call becomes an OCT_PICKLE_OBJECT that remembers class and arguments, or an empty dict.
 *
 * Protocols 2 to 5 as CPython's pickletools documents them; the text opcodes of protocols 0 and 1 and those that
 * nothing allowed needs (extension registry, INST, OBJ, out-of-band buffers) are refused. At most OCT_PICKLE_MAX_OPS
 * opcodes, so memory is bounded by some hundred bytes times that and by the size of the pickle.
 */
#ifndef OCT_LAYERS_IMPORT_PICKLE_H
#define OCT_LAYERS_IMPORT_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "autograd/base/memory.h"

enum { OCT_PICKLE_MAX_OPS = 4 << 20 };

typedef struct oct_pickle_class {
    const char *module, *name; /* as in the pickle: "collections", "OrderedDict" */
    int role;                  /* the caller's */
    bool is_dict;              /* calling it makes a dict (arguments are dropped) */
} oct_pickle_class;

typedef enum oct_pickle_kind {
    OCT_PICKLE_NONE,
    OCT_PICKLE_BOOL,
    OCT_PICKLE_INT,
    OCT_PICKLE_BIG, /* an integer of more than 64 bits: text holds its little-endian two's complement */
    OCT_PICKLE_FLOAT,
    OCT_PICKLE_TEXT,  /* str or bytes */
    OCT_PICKLE_TUPLE, /* also sets */
    OCT_PICKLE_LIST,
    OCT_PICKLE_DICT,      /* items: key, value, key, value, ... in the order of setting, keys may repeat */
    OCT_PICKLE_CLASS,     /* an allowed class itself */
    OCT_PICKLE_OBJECT,    /* result of calling class: argument is the tuple of arguments */
    OCT_PICKLE_PERSISTENT /* argument is the persistent id */
} oct_pickle_kind;

typedef struct oct_pickle_value oct_pickle_value;
struct oct_pickle_value {
    oct_pickle_kind kind;
    int32_t count, room;      /* tuple, list, dict: items */
    oct_pickle_value **items; /* pickles can make values that contain themselves: bound every walk */
    union {
        int64_t integer; /* int, bool */
        double number;
        struct {
            const char *text; /* NUL-terminated; may hold more NULs */
            size_t length;
        };
        struct {
            const oct_pickle_class *class;
            oct_pickle_value *argument;
        };
    };
};

typedef struct oct_pickle {
    oct_arena arena;                /* owns everything below */
    oct_pickle_value *root;
    oct_pickle_value **persistent;  /* every persistent id, in the order of the pickle */
    int32_t persistent_count, persistent_room;
    size_t bytes;                   /* up to and with the STOP opcode */
} oct_pickle;

/* Reads one pickle from the start of `bytes`. OCT_ERR_FORMAT: damaged or beyond the limits; OCT_ERR_UNSUPPORTED: a
 * class or an opcode that is not allowed. Release after success; *out is empty after failure. Nothing refers to `bytes`
 * afterwards. */
OCT_MUST_USE oct_status oct_pickle_read(oct_pickle *out, const uint8_t *bytes, size_t size,
                                        const oct_pickle_class *classes, size_t class_count, oct_error *error);
void oct_pickle_release(oct_pickle *pickle);

/* Value of the last item of a dict whose key is that text; NULL when there is none or `dict` is no dict. */
oct_pickle_value *oct_pickle_get(const oct_pickle_value *dict, const char *key);

#endif
