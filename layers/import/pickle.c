/* SPDX-License-Identifier: BSD-2-Clause
 * The pickle machine: a stack, marks on it, a memo. Source: CPython 3.12, Lib/pickletools.py (the meaning of opcodes).
 */
#include "layers/import/pickle.h"

#include <string.h>

#include "autograd/base/bytes.h"

enum {
    OP_MARK = '(',
    OP_STOP = '.',
    OP_POP = '0',
    OP_POP_MARK = '1',
    OP_DUP = '2',
    OP_BINBYTES = 'B',
    OP_SHORT_BINBYTES = 'C',
    OP_BINFLOAT = 'G',
    OP_BININT = 'J',
    OP_BININT1 = 'K',
    OP_BININT2 = 'M',
    OP_NONE = 'N',
    OP_BINPERSID = 'Q',
    OP_REDUCE = 'R',
    OP_BINSTRING = 'T',
    OP_SHORT_BINSTRING = 'U',
    OP_BINUNICODE = 'X',
    OP_EMPTY_LIST = ']',
    OP_APPEND = 'a',
    OP_BUILD = 'b',
    OP_GLOBAL = 'c',
    OP_DICT = 'd',
    OP_APPENDS = 'e',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
    OP_LIST = 'l',
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_SETITEM = 's',
    OP_TUPLE = 't',
    OP_SETITEMS = 'u',
    OP_EMPTY_DICT = '}',
    OP_EMPTY_TUPLE = ')',
    OP_PROTO = 0x80,
    OP_NEWOBJ = 0x81,
    OP_TUPLE1 = 0x85,
    OP_TUPLE2 = 0x86,
    OP_TUPLE3 = 0x87,
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_LONG1 = 0x8a,
    OP_SHORT_BINUNICODE = 0x8c,
    OP_BINUNICODE8 = 0x8d,
    OP_BINBYTES8 = 0x8e,
    OP_EMPTY_SET = 0x8f,
    OP_ADDITEMS = 0x90,
    OP_FROZENSET = 0x91,
    OP_STACK_GLOBAL = 0x93,
    OP_MEMOIZE = 0x94,
    OP_FRAME = 0x95,
    HIGHEST_PROTOCOL = 5,
    MAX_GLOBAL = 256, /* bytes of a module or class name */
};

typedef struct machine {
    oct_pickle *out;
    oct_error *error;
    const uint8_t *bytes;
    size_t size, at;
    oct_pickle_value **stack; /* NULL entries are marks */
    int32_t depth, stack_room;
    oct_pickle_value **memo;
    int32_t memo_count, memo_room; /* memo_count: entries that MEMOIZE and PUT made, as MEMOIZE counts */
    const oct_pickle_class *classes;
    size_t class_count;
} machine;

static oct_status bad(machine *m, const char *what)
{
    return oct_fail(m->error, OCT_ERR_FORMAT, "pickle: %s at byte %zu", what, m->at);
}

static oct_status no_memory(machine *m)
{
    return oct_fail(m->error, OCT_ERR_MEMORY, "pickle: out of memory at byte %zu", m->at);
}

/* --- input --- */

static const uint8_t *take(machine *m, size_t count)
{
    if (count > m->size - m->at) return NULL;
    const uint8_t *p = m->bytes + m->at;
    m->at += count;
    return p;
}

/* A little-endian number of 1, 2, 4 or 8 bytes. */
static bool take_number(machine *m, uint64_t *out, size_t bytes)
{
    const uint8_t *p = take(m, bytes);
    if (!p) return false;
    *out = 0;
    for (size_t i = 0; i < bytes; i++) *out |= (uint64_t)p[i] << 8 * i;
    return true;
}

/* --- stack --- */

/* Makes room for one more pointer in an array that lives in the arena. */
static bool grow(machine *m, oct_pickle_value ***items, int32_t count, int32_t *room)
{
    if (count < *room) return true;
    int32_t wanted = *room ? 2 * *room : 8;
    oct_pickle_value **larger = oct_arena_alloc(&m->out->arena, (size_t)wanted, sizeof *larger);
    if (!larger) return false;
    if (count) memcpy(larger, *items, (size_t)count * sizeof *larger);
    *items = larger;
    *room = wanted;
    return true;
}

static oct_status push(machine *m, oct_pickle_value *value)
{
    if (!grow(m, &m->stack, m->depth, &m->stack_room)) return no_memory(m);
    m->stack[m->depth++] = value;
    return OCT_OK;
}

/* NULL when the stack is empty or a mark is on top. */
static oct_pickle_value *pop(machine *m)
{
    return m->depth && m->stack[m->depth - 1] ? m->stack[--m->depth] : NULL;
}

static oct_pickle_value *top(const machine *m)
{
    return m->depth ? m->stack[m->depth - 1] : NULL;
}

/* Index behind the topmost mark, or -1. */
static int32_t find_mark(const machine *m)
{
    int32_t i = m->depth;
    while (i > 0 && m->stack[i - 1]) i--;
    return i > 0 ? i : -1;
}

static oct_pickle_value *make(machine *m, oct_pickle_kind kind)
{
    oct_pickle_value *v = oct_arena_alloc(&m->out->arena, 1, sizeof *v);
    if (v) v->kind = kind;
    return v;
}

static oct_status push_new(machine *m, oct_pickle_kind kind)
{
    oct_pickle_value *v = make(m, kind);
    return v ? push(m, v) : no_memory(m);
}

static oct_status push_integer(machine *m, oct_pickle_kind kind, int64_t integer)
{
    OCT_TRY(push_new(m, kind));
    top(m)->integer = integer;
    return OCT_OK;
}

static char *copy_text(machine *m, const uint8_t *bytes, size_t length)
{
    char *text = oct_arena_alloc(&m->out->arena, length + 1, 1);
    if (text && length) memcpy(text, bytes, length);
    return text;
}

/* A text whose length is a number of `width` bytes. */
static oct_status push_text(machine *m, oct_pickle_kind kind, size_t width)
{
    uint64_t length;
    const uint8_t *bytes = NULL;
    if (take_number(m, &length, width) && length <= m->size) bytes = take(m, (size_t)length);
    if (!bytes) return bad(m, "a text is longer than the file");
    OCT_TRY(push_new(m, kind));
    oct_pickle_value *v = top(m);
    v->length = (size_t)length;
    v->text = copy_text(m, bytes, v->length);
    return v->text ? OCT_OK : no_memory(m);
}

static oct_status push_float(machine *m)
{
    uint64_t bits;
    if (!take_number(m, &bits, 8)) return bad(m, "the file ends in a number");
    bits = __builtin_bswap64(bits); /* big-endian, alone among all numbers */
    OCT_TRY(push_new(m, OCT_PICKLE_FLOAT));
    memcpy(&top(m)->number, &bits, sizeof bits);
    return OCT_OK;
}

/* LONG1: two's complement of up to 255 bytes. */
static oct_status push_long(machine *m)
{
    const uint8_t *length = take(m, 1), *p = length ? take(m, *length) : NULL;
    if (!p) return bad(m, "the file ends in a number");
    uint64_t value = 0;
    if (*length > 8) {
        m->at -= (size_t)*length + 1;
        return push_text(m, OCT_PICKLE_BIG, 1);
    }
    for (size_t i = 0; i < *length; i++) value |= (uint64_t)p[i] << 8 * i;
    if (*length && *length < 8 && p[*length - 1] & 0x80) value |= ~UINT64_C(0) << 8 * *length;
    return push_integer(m, OCT_PICKLE_INT, (int64_t)value);
}

static oct_status push_unsigned(machine *m, size_t width)
{
    uint64_t value;
    if (!take_number(m, &value, width)) return bad(m, "the file ends in a number");
    return push_integer(m, OCT_PICKLE_INT, width == 4 ? (int32_t)value : (int64_t)value);
}

/* --- containers --- */

static oct_status append(machine *m, oct_pickle_value *to, oct_pickle_value *item)
{
    if (!grow(m, &to->items, to->count, &to->room)) return no_memory(m);
    to->items[to->count++] = item;
    return OCT_OK;
}

/* Everything from index `first` on becomes items of `to`, which is not on the stack above it. */
static oct_status move_items(machine *m, oct_pickle_value *to, int32_t first)
{
    for (int32_t i = first; i < m->depth; i++) OCT_TRY(append(m, to, m->stack[i]));
    m->depth = first;
    return OCT_OK;
}

/* A container of everything above the topmost mark, or of the `count` topmost values. */
static oct_status gather(machine *m, oct_pickle_kind kind, int32_t count)
{
    int32_t first = count < 0 ? find_mark(m) : m->depth - count;
    if (first < 0) return bad(m, "a mark is missing");
    for (int32_t i = first; i < m->depth; i++)
        if (!m->stack[i]) return bad(m, "a value is missing");
    if (kind == OCT_PICKLE_DICT && (m->depth - first) % 2) return bad(m, "a key without a value");
    oct_pickle_value *v = make(m, kind);
    if (!v) return no_memory(m);
    OCT_TRY(move_items(m, v, first));
    if (count < 0) m->depth--; /* the mark */
    return push(m, v);
}

/* SETITEM(S), APPEND(S), ADDITEMS: moves the items above `first` into the container below. */
static oct_status add_items(machine *m, oct_pickle_kind kind, bool marked, int32_t count)
{
    int32_t first = marked ? find_mark(m) : m->depth - count;
    int32_t below = marked ? first - 2 : first - 1;
    oct_pickle_value *to = first >= 0 && below >= 0 ? m->stack[below] : NULL;
    if (!to) return bad(m, "a container is missing");
    for (int32_t i = first; i < m->depth; i++)
        if (!m->stack[i]) return bad(m, "a value is missing");
    if (kind == OCT_PICKLE_DICT && (m->depth - first) % 2) return bad(m, "a key without a value");
    if (to->kind == kind)
        OCT_TRY(move_items(m, to, first));
    else if (to->kind != OCT_PICKLE_OBJECT) /* what an object of no interest contains is dropped */
        return bad(m, "items for something that has none");
    m->depth = below + 1;
    return OCT_OK;
}

/* --- classes --- */

/* Writes nothing to terminals and logs that could do harm there. */
static void make_printable(char *to, const char *from)
{
    size_t i = 0;
    for (; from[i] && i < MAX_GLOBAL - 1; i++) to[i] = from[i] >= ' ' && from[i] < 127 ? from[i] : '?';
    to[i] = '\0';
}

static oct_status refuse_class(machine *m, const char *module, const char *name)
{
    char clean_module[MAX_GLOBAL], clean_name[MAX_GLOBAL];
    make_printable(clean_module, module);
    make_printable(clean_name, name);
    return oct_fail(m->error, OCT_ERR_UNSUPPORTED,
                    "the pickle asks for the Python object \"%s.%s\", which is not part of plain weights: a whole "
                    "module, or something that must not run (nothing was executed). Save the weights alone: "
                    "torch.save(model.state_dict(), \"weights.pth\")",
                    clean_module, clean_name);
}

static oct_status push_class(machine *m, const char *module, const char *name)
{
    for (size_t i = 0; i < m->class_count; i++) {
        const oct_pickle_class *c = &m->classes[i];
        if (strcmp(c->module, module) != 0 || strcmp(c->name, name) != 0) continue;
        OCT_TRY(push_new(m, OCT_PICKLE_CLASS));
        top(m)->class = c;
        return OCT_OK;
    }
    return refuse_class(m, module, name);
}

static bool take_line(machine *m, char line[MAX_GLOBAL])
{
    size_t rest = m->size - m->at;
    const uint8_t *start = m->bytes + m->at, *end = memchr(start, '\n', rest < MAX_GLOBAL ? rest : MAX_GLOBAL);
    size_t length = end ? (size_t)(end - start) : MAX_GLOBAL;
    if (length >= MAX_GLOBAL || memchr(start, '\0', length)) return false;
    memcpy(line, start, length);
    line[length] = '\0';
    m->at += length + 1;
    return true;
}

static oct_status push_global(machine *m)
{
    char module[MAX_GLOBAL], name[MAX_GLOBAL];
    if (m->at == m->size || !take_line(m, module) || m->at == m->size || !take_line(m, name))
        return bad(m, "the name of a class does not end");
    return push_class(m, module, name);
}

static oct_status stack_global(machine *m)
{
    const oct_pickle_value *name = pop(m), *module = pop(m);
    if (!name || !module || name->kind != OCT_PICKLE_TEXT || module->kind != OCT_PICKLE_TEXT)
        return bad(m, "the name of a class is missing");
    if (name->length >= MAX_GLOBAL || module->length >= MAX_GLOBAL) return bad(m, "the name of a class is too long");
    return push_class(m, module->text, name->text);
}

/* REDUCE, NEWOBJ: class(*arguments), which calls nothing. */
static oct_status call(machine *m)
{
    oct_pickle_value *argument = pop(m), *class = pop(m);
    if (!argument || !class || argument->kind != OCT_PICKLE_TUPLE || class->kind != OCT_PICKLE_CLASS)
        return bad(m, "a call of something that is no class");
    if (class->class->is_dict) return push_new(m, OCT_PICKLE_DICT);
    OCT_TRY(push_new(m, OCT_PICKLE_OBJECT));
    top(m)->class = class->class;
    top(m)->argument = argument;
    return OCT_OK;
}

/* BUILD sets attributes of an object, which nobody here wants to know (of a state_dict: its versions). */
static oct_status build(machine *m)
{
    const oct_pickle_value *state = pop(m), *object = top(m);
    if (!state || !object || (object->kind != OCT_PICKLE_OBJECT && object->kind != OCT_PICKLE_DICT))
        return bad(m, "attributes for something that has none");
    return OCT_OK;
}

static oct_status persistent(machine *m)
{
    oct_pickle *out = m->out;
    oct_pickle_value *id = pop(m);
    if (!id) return bad(m, "a persistent id is missing");
    OCT_TRY(push_new(m, OCT_PICKLE_PERSISTENT));
    top(m)->argument = id;
    if (!grow(m, &out->persistent, out->persistent_count, &out->persistent_room)) return no_memory(m);
    out->persistent[out->persistent_count++] = top(m);
    return OCT_OK;
}

/* --- memo --- */

static oct_status put(machine *m, uint64_t index)
{
    if (!top(m)) return bad(m, "nothing to remember");
    if (index >= OCT_PICKLE_MAX_OPS) return bad(m, "an index of the memo is too large");
    while (m->memo_room <= (int32_t)index) {
        int32_t room = m->memo_room; /* all of it in use: a jump over entries doubles several times */
        if (!grow(m, &m->memo, room, &m->memo_room)) return no_memory(m);
    }
    if (!m->memo[index]) m->memo_count++;
    m->memo[index] = top(m);
    return OCT_OK;
}

static oct_status put_at(machine *m, size_t width)
{
    uint64_t index;
    return take_number(m, &index, width) ? put(m, index) : bad(m, "the file ends in a number");
}

static oct_status get_at(machine *m, size_t width)
{
    uint64_t index;
    if (!take_number(m, &index, width)) return bad(m, "the file ends in a number");
    if (index >= (uint64_t)m->memo_room || !m->memo[index]) return bad(m, "a value that was not remembered");
    return push(m, m->memo[index]);
}

/* --- opcodes --- */

static oct_status skip_header(machine *m, int op)
{
    uint64_t value;
    if (!take_number(m, &value, op == OP_PROTO ? 1 : 8)) return bad(m, "the file ends in a header");
    if (op == OP_PROTO && value > HIGHEST_PROTOCOL) return bad(m, "an unknown protocol");
    return OCT_OK;
}

static oct_status pop_mark(machine *m)
{
    int32_t first = find_mark(m);
    if (first < 0) return bad(m, "a mark is missing");
    m->depth = first - 1;
    return OCT_OK;
}

static oct_status discard(machine *m)
{
    if (!m->depth) return bad(m, "a value is missing");
    m->depth--;
    return OCT_OK;
}

static oct_status refuse(machine *m, int op)
{
    return oct_fail(m->error, OCT_ERR_UNSUPPORTED,
                    "pickle: opcode 0x%02x at byte %zu is not one that saving weights needs; save them with "
                    "torch.save(model.state_dict(), \"weights.pth\")",
                    (unsigned)op, m->at - 1);
}

static oct_status step_value(machine *m, int op)
{
    switch (op) {
    case OP_NONE: return push_new(m, OCT_PICKLE_NONE);
    case OP_NEWTRUE: return push_integer(m, OCT_PICKLE_BOOL, 1);
    case OP_NEWFALSE: return push_integer(m, OCT_PICKLE_BOOL, 0);
    case OP_BININT: return push_unsigned(m, 4);
    case OP_BININT1: return push_unsigned(m, 1);
    case OP_BININT2: return push_unsigned(m, 2);
    case OP_LONG1: return push_long(m);
    case OP_BINFLOAT: return push_float(m);
    case OP_SHORT_BINSTRING:
    case OP_SHORT_BINBYTES:
    case OP_SHORT_BINUNICODE: return push_text(m, OCT_PICKLE_TEXT, 1);
    case OP_BINSTRING:
    case OP_BINBYTES:
    case OP_BINUNICODE: return push_text(m, OCT_PICKLE_TEXT, 4);
    case OP_BINBYTES8:
    case OP_BINUNICODE8: return push_text(m, OCT_PICKLE_TEXT, 8);
    case OP_EMPTY_DICT: return push_new(m, OCT_PICKLE_DICT);
    case OP_EMPTY_LIST: return push_new(m, OCT_PICKLE_LIST);
    case OP_EMPTY_SET:
    case OP_EMPTY_TUPLE: return push_new(m, OCT_PICKLE_TUPLE);
    case OP_GLOBAL: return push_global(m);
    case OP_STACK_GLOBAL: return stack_global(m);
    default: return refuse(m, op);
    }
}

static oct_status step(machine *m, int op)
{
    switch (op) {
    case OP_PROTO:
    case OP_FRAME: return skip_header(m, op);
    case OP_MARK: return push(m, NULL);
    case OP_POP: return discard(m);
    case OP_POP_MARK: return pop_mark(m);
    case OP_DUP: return top(m) ? push(m, top(m)) : bad(m, "a value is missing");
    case OP_TUPLE:
    case OP_FROZENSET: return gather(m, OCT_PICKLE_TUPLE, -1);
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3: return gather(m, OCT_PICKLE_TUPLE, op - OP_TUPLE1 + 1);
    case OP_LIST: return gather(m, OCT_PICKLE_LIST, -1);
    case OP_DICT: return gather(m, OCT_PICKLE_DICT, -1);
    case OP_APPEND: return add_items(m, OCT_PICKLE_LIST, false, 1);
    case OP_APPENDS: return add_items(m, OCT_PICKLE_LIST, true, 0);
    case OP_ADDITEMS: return add_items(m, OCT_PICKLE_TUPLE, true, 0);
    case OP_SETITEM: return add_items(m, OCT_PICKLE_DICT, false, 2);
    case OP_SETITEMS: return add_items(m, OCT_PICKLE_DICT, true, 0);
    case OP_REDUCE:
    case OP_NEWOBJ: return call(m);
    case OP_BUILD: return build(m);
    case OP_BINPERSID: return persistent(m);
    case OP_MEMOIZE: return put(m, (uint64_t)m->memo_count);
    case OP_BINPUT: return put_at(m, 1);
    case OP_LONG_BINPUT: return put_at(m, 4);
    case OP_BINGET: return get_at(m, 1);
    case OP_LONG_BINGET: return get_at(m, 4);
    default: return step_value(m, op);
    }
}

static oct_status run(machine *m)
{
    for (int ops = 0;; ops++) {
        if (m->at == m->size) return bad(m, "the file ends");
        if (ops == OCT_PICKLE_MAX_OPS) return bad(m, "more operations than the limit");
        int op = m->bytes[m->at++];
        if (op == OP_STOP) break;
        OCT_TRY(step(m, op));
    }
    m->out->root = pop(m);
    m->out->bytes = m->at;
    return m->out->root ? OCT_OK : bad(m, "no result");
}

oct_status oct_pickle_read(oct_pickle *out, const uint8_t *bytes, size_t size, const oct_pickle_class *classes,
                           size_t class_count, oct_error *error)
{
    *out = (oct_pickle){0};
    oct_arena_init(&out->arena, 0);
    machine m = {.out = out, .error = error, .bytes = bytes, .size = size, .classes = classes,
                 .class_count = class_count};
    oct_status status = run(&m);
    if (status != OCT_OK) oct_pickle_release(out);
    return status;
}

void oct_pickle_release(oct_pickle *pickle)
{
    oct_arena_release(&pickle->arena);
    *pickle = (oct_pickle){0};
}

oct_pickle_value *oct_pickle_get(const oct_pickle_value *dict, const char *key)
{
    if (!dict || dict->kind != OCT_PICKLE_DICT) return NULL;
    for (int32_t i = dict->count - 2; i >= 0; i -= 2)
        if (dict->items[i]->kind == OCT_PICKLE_TEXT && !strcmp(dict->items[i]->text, key)) return dict->items[i + 1];
    return NULL;
}
