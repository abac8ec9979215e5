/* SPDX-License-Identifier: BSD-2-Clause
 * ONNX bytes into lists. protobuf-c checks the wire format and allocates in proportion to the file, which its allocator
 * enforces; everything that it hands over is checked here. */
#include <stdio.h>
#include <string.h>

#include "layers/import/elements.h"
#include "layers/import/onnx.pb-c.h"
#include "layers/import/onnx_internal.h"

typedef Oct__Onnx__Tensor wire_tensor;
typedef Oct__Onnx__Node wire_node;

/* --- memory: what a message may take is bounded by what there is of it --- */

typedef struct budget {
    size_t left;
} budget;

static void *budget_alloc(void *data, size_t size)
{
    budget *b = data;
    if (size > b->left) return NULL;
    b->left -= size;
    return oct_alloc(size, 1);
}

static void budget_free(void *data, void *block)
{
    (void)data;
    oct_free(block);
}

typedef struct parser {
    oct_onnx_content *content;
    const char *file;
    oct_error *error;
    size_t size; /* of the file */
} parser;

static oct_status bad(const parser *p, oct_status status, const char *what, const char *name)
{
    return oct_fail(p->error, status, "%.220s: '%.80s': %s", p->file, name && *name ? name : "?", what);
}

static void *allocate(const parser *p, size_t count, size_t size)
{
    void *block = oct_arena_alloc(&p->content->arena, count ? count : 1, size);
    if (!block) oct_fail(p->error, OCT_ERR_MEMORY, "out of memory: %.220s", p->file);
    return block;
}

static const char *copy_text(const parser *p, const char *text)
{
    const char *copy = oct_arena_strdup(&p->content->arena, text ? text : "");
    if (!copy) oct_fail(p->error, OCT_ERR_MEMORY, "out of memory: %.220s", p->file);
    return copy;
}

/* --- tensors --- */

/* ONNX's numbers of element types; -1 = none of ours. */
static int element_of(int data_type)
{
    switch (data_type) {
    case 1: return OCT_ELEMENT_F32;
    case 2: return OCT_ELEMENT_U8;
    case 3: return OCT_ELEMENT_I8;
    case 4: return OCT_ELEMENT_U16;
    case 5: return OCT_ELEMENT_I16;
    case 6: return OCT_ELEMENT_I32;
    case 7: return OCT_ELEMENT_I64;
    case 9: return OCT_ELEMENT_BOOL;
    case 10: return OCT_ELEMENT_F16;
    case 11: return OCT_ELEMENT_F64;
    case 16: return OCT_ELEMENT_BF16;
    default: return -1;
    }
}

static bool is_wide_integer(int element)
{
    return element == OCT_ELEMENT_I32 || element == OCT_ELEMENT_I64;
}

static int64_t load_integer(const uint8_t *bytes, size_t i, int element)
{
    int32_t narrow;
    int64_t wide;
    if (element == OCT_ELEMENT_I32) {
        memcpy(&narrow, bytes + 4 * i, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, bytes + 8 * i, sizeof wide);
    return wide;
}

/* Values from the typed lists, which hold one entry an element. */
static oct_status from_lists(const parser *p, oct_onnx_tensor *t, const wire_tensor *w, int element)
{
    size_t n = t->count;
    bool wide = element == OCT_ELEMENT_I64, whole = w->n_int32_data == n && !wide;
    bool floats = element == OCT_ELEMENT_F32 && w->n_float_data == n;
    bool doubles = element == OCT_ELEMENT_F64 && w->n_double_data == n;
    if (!floats && !doubles && !(wide && w->n_int64_data == n) && !whole)
        return bad(p, OCT_ERR_FORMAT, "the tensor's data does not have as many elements as its shape", t->name);
    for (size_t i = 0; i < n; i++) {
        if (floats) t->data[i] = w->float_data[i];
        else if (doubles) t->data[i] = (float)w->double_data[i];
        else if (wide) t->data[i] = (float)w->int64_data[i];
        else if (element == OCT_ELEMENT_F16 || element == OCT_ELEMENT_BF16) {
            uint8_t half[2] = {(uint8_t)w->int32_data[i], (uint8_t)((uint32_t)w->int32_data[i] >> 8)};
            oct_elements_to_f32(&t->data[i], half, 1, (oct_element)element);
        } else {
            t->data[i] = (float)w->int32_data[i];
        }
        if (t->ints) t->ints[i] = wide ? w->int64_data[i] : w->int32_data[i];
    }
    return OCT_OK;
}

static oct_status read_tensor(const parser *p, oct_onnx_tensor *t, const wire_tensor *w)
{
    t->name = copy_text(p, w->name);
    if (!t->name) return OCT_ERR_MEMORY;
    if (w->data_location) {
        return bad(p, OCT_ERR_UNSUPPORTED,
                   "the tensor's data lies in another file: save the model in one, for example with "
                   "onnx.save(onnx.load(\"model.onnx\"), \"single.onnx\")", t->name);
    }
    int element = element_of(w->data_type);
    if (element < 0) return bad(p, OCT_ERR_UNSUPPORTED, "the tensor's element type is not supported", t->name);
    if (w->n_dims > OCT_ONNX_MAX_RANK) return bad(p, OCT_ERR_FORMAT, "the tensor has more than 8 dimensions", t->name);
    t->rank = (int)w->n_dims;
    t->count = 1;
    for (int i = 0; i < t->rank; i++) {
        t->dims[i] = w->dims[i];
        if (w->dims[i] < 0 || !oct_size_mul(&t->count, t->count, (size_t)w->dims[i]) || t->count > p->size)
            return bad(p, OCT_ERR_FORMAT, "the tensor's shape has more elements than the file has bytes", t->name);
    }
    t->data = allocate(p, t->count, sizeof *t->data);
    if (!t->data) return OCT_ERR_MEMORY;
    if (is_wide_integer(element) && !(t->ints = allocate(p, t->count, sizeof *t->ints))) return OCT_ERR_MEMORY;
    if (!w->raw_data.len) return from_lists(p, t, w, element);
    size_t bytes;
    if (!oct_size_mul(&bytes, t->count, oct_element_bytes((oct_element)element)) || bytes != w->raw_data.len)
        return bad(p, OCT_ERR_FORMAT, "the tensor's raw data is not as long as its shape says", t->name);
    oct_elements_to_f32(t->data, w->raw_data.data, t->count, (oct_element)element);
    for (size_t i = 0; t->ints && i < t->count; i++) t->ints[i] = load_integer(w->raw_data.data, i, element);
    return OCT_OK;
}

/* --- nodes --- */

static oct_status read_attribute(const parser *p, oct_onnx_attribute *a, const Oct__Onnx__Attribute *w)
{
    a->name = copy_text(p, w->name);
    a->type = w->type;
    a->f = w->f;
    a->i = w->i;
    char *s = allocate(p, w->s.len + 1, 1);
    int64_t *ints = allocate(p, w->n_ints, sizeof *ints);
    if (!a->name || !s || !ints) return OCT_ERR_MEMORY;
    if (w->s.len) memcpy(s, w->s.data, w->s.len);
    if (w->n_ints) memcpy(ints, w->ints, w->n_ints * sizeof *ints);
    a->s = s;
    a->ints = ints;
    a->int_count = w->n_ints > 64 ? 64 : (int)w->n_ints;
    if (!w->t) return OCT_OK;
    oct_onnx_tensor *t = allocate(p, 1, sizeof *t);
    if (!t) return OCT_ERR_MEMORY;
    a->t = t;
    return read_tensor(p, t, w->t);
}

static oct_status copy_names(const parser *p, const char ***out, int *count, char **names, size_t n)
{
    if (n > OCT_ONNX_MAX_INPUTS) return bad(p, OCT_ERR_UNSUPPORTED, "a node has more than 64 inputs or outputs", names[0]);
    *out = allocate(p, n, sizeof **out);
    if (!*out) return OCT_ERR_MEMORY;
    for (size_t i = 0; i < n; i++)
        if (!((*out)[i] = copy_text(p, names[i]))) return OCT_ERR_MEMORY;
    *count = (int)n;
    return OCT_OK;
}

static oct_status read_node(const parser *p, oct_onnx_node *n, const wire_node *w)
{
    n->name = copy_text(p, w->name);
    n->op = copy_text(p, w->op_type);
    if (!n->name || !n->op) return OCT_ERR_MEMORY;
    if (w->domain && *w->domain && strcmp(w->domain, "ai.onnx"))
        return oct_fail(p->error, OCT_ERR_UNSUPPORTED, "%.220s: node '%.80s' (%.40s): operators of domain '%.60s' are not supported",
                        p->file, n->name, n->op, w->domain);
    OCT_TRY(copy_names(p, &n->inputs, &n->input_count, w->input, w->n_input));
    OCT_TRY(copy_names(p, &n->outputs, &n->output_count, w->output, w->n_output));
    if (w->n_attribute > 64) return bad(p, OCT_ERR_FORMAT, "a node has more than 64 attributes", n->name);
    n->attributes = allocate(p, w->n_attribute, sizeof *n->attributes);
    if (!n->attributes) return OCT_ERR_MEMORY;
    n->attribute_count = (int)w->n_attribute;
    for (int i = 0; i < n->attribute_count; i++) OCT_TRY(read_attribute(p, &n->attributes[i], w->attribute[i]));
    return OCT_OK;
}

/* --- the graph --- */

static bool is_tensor(const oct_onnx_content *c, const char *name)
{
    for (int i = 0; i < c->tensor_count; i++)
        if (!strcmp(c->tensors[i].name, name)) return true;
    return false;
}

/* Older files list their tensors among the inputs. */
static oct_status read_ends(const parser *p, const Oct__Onnx__Graph *g)
{
    oct_onnx_content *c = p->content;
    const Oct__Onnx__ValueInfo *input = NULL;
    for (size_t i = 0; i < g->n_input; i++) {
        if (is_tensor(c, g->input[i]->name)) continue;
        if (input) return bad(p, OCT_ERR_UNSUPPORTED, "a second input: expected one, the image", g->input[i]->name);
        input = g->input[i];
    }
    if (!input || g->n_output != 1)
        return oct_fail(p->error, OCT_ERR_UNSUPPORTED, "%.220s: expected one input and one output, found %zu outputs", p->file,
                        g->n_output);
    c->input = copy_text(p, input->name);
    c->output = copy_text(p, g->output[0]->name);
    if (!c->input || !c->output) return OCT_ERR_MEMORY;
    const Oct__Onnx__TensorType *type = input->type ? input->type->tensor_type : NULL;
    if (!type || !type->shape || type->shape->n_dim > OCT_ONNX_MAX_RANK)
        return bad(p, OCT_ERR_FORMAT, "the input has no shape", c->input);
    if (type->elem_type != 1 && type->elem_type != 2)
        return bad(p, OCT_ERR_UNSUPPORTED, "expected an input of float or uint8", c->input);
    c->input_rank = (int)type->shape->n_dim;
    for (int i = 0; i < c->input_rank; i++) c->input_dims[i] = type->shape->dim[i]->dim_value;
    return OCT_OK;
}

static oct_status check_opset(const parser *p, const Oct__Onnx__Model *m)
{
    enum { OLDEST = 7, NEWEST = 24 };
    for (size_t i = 0; i < m->n_opset_import; i++) {
        const Oct__Onnx__OperatorSet *set = m->opset_import[i];
        if (set->domain && *set->domain && strcmp(set->domain, "ai.onnx")) continue;
        if (set->version < OLDEST || set->version > NEWEST)
            return oct_fail(p->error, OCT_ERR_UNSUPPORTED, "%.220s: operator set %lld: expected %d..%d", p->file,
                            (long long)set->version, OLDEST, NEWEST);
        p->content->opset = (int)set->version;
    }
    if (!p->content->opset) return oct_fail(p->error, OCT_ERR_FORMAT, "%.220s: an ONNX file names its operator set", p->file);
    return OCT_OK;
}

static oct_status read_model(const parser *p, const Oct__Onnx__Model *m)
{
    oct_onnx_content *c = p->content;
    const Oct__Onnx__Graph *g = m->graph;
    if (!g) return oct_fail(p->error, OCT_ERR_FORMAT, "%.220s: expected a graph, found none", p->file);
    OCT_TRY(check_opset(p, m));
    if (g->n_node < 1 || g->n_node > OCT_ONNX_MAX_NODES || g->n_initializer > 16384)
        return oct_fail(p->error, OCT_ERR_UNSUPPORTED, "%.220s: expected 1..%d nodes and at most 16384 tensors", p->file,
                        OCT_ONNX_MAX_NODES);
    c->name = copy_text(p, g->name);
    c->nodes = allocate(p, g->n_node, sizeof *c->nodes);
    c->tensors = allocate(p, g->n_initializer, sizeof *c->tensors);
    if (!c->name || !c->nodes || !c->tensors) return OCT_ERR_MEMORY;
    for (size_t i = 0; i < g->n_initializer; i++, c->tensor_count++)
        OCT_TRY(read_tensor(p, &c->tensors[i], g->initializer[i]));
    for (size_t i = 0; i < g->n_node; i++, c->node_count++) OCT_TRY(read_node(p, &c->nodes[i], g->node[i]));
    return read_ends(p, g);
}

oct_status oct_onnx_file_parse(oct_onnx_content *out, const char *file, const void *bytes, size_t size, oct_error *error)
{
    enum { SHARE = 64, LEAST = 1 << 20 }; /* the smallest message takes two bytes in the file and about a hundred here */
    *out = (oct_onnx_content){0};
    oct_arena_init(&out->arena, 0);
    budget left = {LEAST};
    size_t more;
    if (oct_size_mul(&more, size, SHARE) && more < SIZE_MAX / 2) left.left += more;
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &left};
    Oct__Onnx__Model *model = oct__onnx__model__unpack(&allocator, size, bytes);
    if (!model) return oct_fail(error, OCT_ERR_FORMAT, "%.220s: not an ONNX file, or damaged", file);
    parser p = {out, file, error, size};
    oct_status status = read_model(&p, model);
    oct__onnx__model__free_unpacked(model, &allocator);
    return status;
}

void oct_onnx_content_release(oct_onnx_content *content)
{
    oct_arena_release(&content->arena);
    *content = (oct_onnx_content){0};
}
