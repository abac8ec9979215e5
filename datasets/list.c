/* SPDX-License-Identifier: BSD-2-Clause
 * Images by list: labels.txt with a path and a label a line. Paths and labels are all that is held in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "datasets/dataset_internal.h"

static const char list_name[] = "labels.txt", classes_name[] = "classes.txt";
static const size_t max_list_bytes = (size_t)1 << 30;
enum { MAX_PATH = 3000 };

typedef struct list_state {
    oct_names files[OCT_SPLIT_COUNT]; /* relative to the folder of their list */
    oct_names classes;                /* in the order of their labels; none: labels are numbers without names */
    size_t *by_name;                  /* classes in bytewise order of their names */
    bool fixed;                       /* from classes.txt: labels may be numbers as well */
} list_state;

/* A file under way, line by line. */
typedef struct text_reader {
    char *path, *text, *at, *end;
    int64_t line; /* from 1 */
} text_reader;

static oct_status text_open(text_reader *r, char *path, oct_error *error)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    *r = (text_reader){.path = path};
    if (!path) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: path of a list");
    OCT_TRY(oct_file_read(&bytes, &size, path, max_list_bytes, error));
    r->text = oct_alloc(size + 1, 1);
    if (r->text) {
        memcpy(r->text, bytes, size);
        r->text[size] = '\0';
    }
    oct_free(bytes);
    if (!r->text) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
    r->at = r->text;
    r->end = r->text + size;
    if (size >= 3 && !memcmp(r->text, "\xef\xbb\xbf", 3)) r->at += 3; /* byte order mark */
    return OCT_OK;
}

static void text_close(text_reader *r)
{
    oct_free(r->text);
    oct_free(r->path);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static oct_status bad_line(const text_reader *r, oct_error *error, const char *what, const char *found)
{
    return oct_fail(error, OCT_ERR_FORMAT, "%.512s:%lld: %s, found \"%.200s\"", r->path, (long long)r->line, what,
                    found);
}

/* The next line that is not empty, without blanks at its ends, cut out of the text. NULL: no more. */
static oct_status next_line(text_reader *r, char **line, oct_error *error)
{
    for (*line = NULL; r->at < r->end && !*line;) {
        char *from = r->at, *stop = memchr(from, '\n', (size_t)(r->end - from));
        if (!stop) stop = r->end;
        r->at = stop + 1;
        r->line++;
        if (memchr(from, '\0', (size_t)(stop - from)))
            return bad_line(r, error, "expected text without NUL bytes", from);
        while (stop > from && is_blank(stop[-1])) stop--;
        while (from < stop && is_blank(*from)) from++;
        *stop = '\0';
        if (*from) *line = from;
    }
    return OCT_OK;
}

/* Relative, and without a way up: what a list names lies in its folder. */
static bool stays_inside(const char *path)
{
    if (*path == '/') return false;
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (part[0] == '.' && part[1] == '.' && (!part[2] || part[2] == '/')) return false;
    }
    return true;
}

/* Cuts "path label" at its last blanks. */
static oct_status cut_line(const text_reader *r, char *line, const char **label, oct_error *error)
{
    char *end = line + strlen(line), *from = end;
    while (from > line && !is_blank(from[-1])) from--;
    *label = from;
    char *path_end = from;
    while (path_end > line && is_blank(path_end[-1])) path_end--;
    if (path_end == line) return bad_line(r, error, "expected a path and a label", line);
    *path_end = '\0';
    if (path_end - line > MAX_PATH) return bad_line(r, error, "expected a path of at most 3000 bytes", line);
    if (!stays_inside(line))
        return bad_line(r, error, "expected a path inside the folder (relative, without \"..\")", line);
    return OCT_OK;
}

static bool parse_number(const char *text, int32_t *value)
{
    int64_t v = 0;
    if (!*text) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        v = v * 10 + (*text - '0');
        if (v >= MAX_CLASSES) v = MAX_CLASSES; /* out of range, whatever follows */
    }
    *value = (int32_t)v;
    return true;
}

/* --- classes --- */

static int compare_names(const void *a, const void *b, void *names)
{
    return strcmp(oct_names_get(names, *(const size_t *)a), oct_names_get(names, *(const size_t *)b));
}

/* Indices of names in bytewise order (oct_free), NULL when memory is out. */
static size_t *sort_names(oct_names *names)
{
    size_t *order = oct_alloc(names->count, sizeof *order);
    for (size_t i = 0; order && i < names->count; i++) order[i] = i;
    if (order) qsort_r(order, names->count, sizeof *order, compare_names, names);
    return order;
}

static int32_t find_class(const list_state *state, const char *name)
{
    size_t low = 0, high = state->classes.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(oct_names_get(&state->classes, state->by_name[middle]), name);
        if (!order) return (int32_t)state->by_name[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* classes.txt, when it is there: a name a line, of class 0, 1, ... */
static oct_status read_classes(list_state *state, const char *folder, oct_error *error)
{
    char *path = oct_path_join(folder, classes_name), *line;
    struct stat st;
    text_reader r;
    if (path && stat(path, &st)) {
        oct_free(path);
        return OCT_OK;
    }
    oct_status status = text_open(&r, path, error);
    while (status == OCT_OK) {
        status = next_line(&r, &line, error);
        if (status != OCT_OK || !line) break;
        if (state->classes.count == MAX_CLASSES)
            status = bad_line(&r, error, "expected at most 65536 classes", line);
        else
            status = oct_names_add(&state->classes, line, error);
    }
    if (status == OCT_OK && !state->classes.count)
        status = oct_fail(error, OCT_ERR_FORMAT, "%s: expected a class name a line, found none", path);
    if (status == OCT_OK && !(state->by_name = sort_names(&state->classes)))
        status = oct_fail(error, OCT_ERR_MEMORY, "out of memory: class names");
    state->fixed = true;
    text_close(&r);
    return status;
}

/* The distinct ones of `texts`, in bytewise order, become the classes. */
static oct_status collect_classes(list_state *state, oct_names *texts, const char *path, oct_error *error)
{
    size_t *order = sort_names(texts);
    oct_status status = order ? OCT_OK : oct_fail(error, OCT_ERR_MEMORY, "out of memory: class names");
    for (size_t i = 0; status == OCT_OK && i < texts->count; i++) {
        const char *name = oct_names_get(texts, order[i]);
        if (i && !strcmp(name, oct_names_get(texts, order[i - 1]))) continue;
        status = state->classes.count == MAX_CLASSES
                     ? oct_fail(error, OCT_ERR_FORMAT, "%s: more than %d classes", path, MAX_CLASSES)
                     : oct_names_add(&state->classes, name, error);
    }
    oct_free(order);
    OCT_TRY(status);
    state->by_name = sort_names(&state->classes);
    return state->by_name ? OCT_OK : oct_fail(error, OCT_ERR_MEMORY, "out of memory: class names");
}

/* --- lists --- */

typedef enum label_mode { LABEL_NUMBERS, LABEL_NAMES, LABEL_COLLECT } label_mode;

static oct_status read_label(const list_state *state, const text_reader *r, label_mode mode, const char *text,
                             int32_t *label, oct_error *error)
{
    char expected[80];
    int limit = mode == LABEL_NAMES ? (int)state->classes.count : MAX_CLASSES;
    if (mode == LABEL_NAMES) {
        *label = find_class(state, text);
        if (*label >= 0) return OCT_OK;
        if (!state->fixed) return bad_line(r, error, "expected a class of the training list", text);
        snprintf(expected, sizeof expected, "expected a label 0..%d or a name of classes.txt", limit - 1);
    } else {
        snprintf(expected, sizeof expected, "expected a label 0..%d (as in the first line)", limit - 1);
    }
    if (parse_number(text, label) && *label < limit) return OCT_OK;
    return bad_line(r, error, expected, text);
}

static oct_status grow_labels(sample_store *store, size_t count, size_t *capacity, oct_error *error)
{
    if (count < *capacity) return OCT_OK;
    size_t grown_capacity = 2 * *capacity + 1024;
    int32_t *grown = oct_realloc(store->labels, count * sizeof *grown, grown_capacity, sizeof *grown);
    if (!grown) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: labels");
    store->labels = grown;
    *capacity = grown_capacity;
    return OCT_OK;
}

static label_mode first_mode(const list_state *state, const char *text)
{
    int32_t number;
    return state->classes.count ? LABEL_NAMES : parse_number(text, &number) ? LABEL_NUMBERS : LABEL_COLLECT;
}

/* All lines of one list. In mode LABEL_COLLECT the labels' texts go to `texts` first. */
static oct_status read_lines(oct_dataset *dataset, oct_split split, text_reader *r, label_mode *mode,
                             oct_names *texts, oct_error *error)
{
    list_state *state = dataset->state;
    sample_store *store = &dataset->stores[split];
    oct_names *files = &state->files[split];
    size_t capacity = 0;
    bool first = true; /* list of the set: its first label says what labels are */
    char *line;
    const char *text;
    for (int other = 0; other < OCT_SPLIT_COUNT; other++) first &= !dataset->stores[other].count;
    for (;;) {
        OCT_TRY(next_line(r, &line, error));
        if (!line) return OCT_OK;
        OCT_TRY(cut_line(r, line, &text, error));
        if (!files->count && first) *mode = first_mode(state, text);
        if (files->count == MAX_SAMPLES) return bad_line(r, error, "expected at most 268435456 images", line);
        OCT_TRY(grow_labels(store, files->count, &capacity, error));
        if (*mode == LABEL_COLLECT)
            OCT_TRY(oct_names_add(texts, text, error));
        else
            OCT_TRY(read_label(state, r, *mode, text, &store->labels[files->count], error));
        OCT_TRY(oct_names_add(files, line, error));
        store->count = (uint32_t)files->count;
    }
}

static oct_status read_list(oct_dataset *dataset, oct_split split, const char *folder, oct_error *error)
{
    list_state *state = dataset->state;
    text_reader r;
    oct_names texts = {0};
    label_mode mode = state->classes.count ? LABEL_NAMES : LABEL_NUMBERS;
    oct_status status = text_open(&r, oct_path_join(folder, list_name), error);
    if (status == OCT_OK) status = read_lines(dataset, split, &r, &mode, &texts, error);
    if (status == OCT_OK && !state->files[split].count)
        status = oct_fail(error, OCT_ERR_FORMAT, "%s: expected a path and a label a line, found none", r.path);
    if (status == OCT_OK && mode == LABEL_COLLECT) {
        status = collect_classes(state, &texts, r.path, error);
        for (size_t i = 0; status == OCT_OK && i < texts.count; i++)
            dataset->stores[split].labels[i] = find_class(state, oct_names_get(&texts, i));
    }
    oct_names_release(&texts);
    text_close(&r);
    return status;
}

/* --- the set --- */

static bool holds_list(const char *folder)
{
    struct stat st;
    char *path = oct_path_join(folder, list_name);
    bool found = path && !stat(path, &st) && S_ISREG(st.st_mode);
    oct_free(path);
    return found;
}

bool oct_dataset_is_list(const char *path)
{
    bool found = holds_list(path);
    for (int s = 0; s < OCT_SPLIT_COUNT && !found; s++) {
        char *folder = oct_path_join(path, oct_split_name((oct_split)s));
        found = folder && holds_list(folder);
        oct_free(folder);
    }
    return found;
}

static void list_name_of(const oct_dataset *dataset, oct_split split, uint32_t index, char *name, size_t size)
{
    const char *file = oct_names_get(&((const list_state *)dataset->state)->files[split], index);
    if (dataset->one_folder)
        snprintf(name, size, "%s/%s", dataset->path, file);
    else
        snprintf(name, size, "%s/%s/%s", dataset->path, oct_split_name(split), file);
}

static oct_status list_read(oct_dataset *dataset, oct_split split, uint32_t index, oct_image *image, oct_error *error)
{
    char path[8192];
    list_name_of(dataset, split, index, path, sizeof path);
    return oct_image_load(image, path, dataset->channels, dataset->max_image_pixels, error);
}

static void list_close(oct_dataset *dataset)
{
    list_state *state = dataset->state;
    oct_names_release(&state->classes);
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) oct_names_release(&state->files[s]);
    oct_free(state->by_name);
    oct_free(state);
}

/* The folders of the splits that there are; each has its list. */
static oct_status read_splits(oct_dataset *dataset, oct_error *error)
{
    for (int s = 0; s < OCT_SPLIT_COUNT; s++) {
        struct stat st;
        char *folder = oct_path_join(dataset->path, oct_split_name((oct_split)s));
        if (!folder) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", dataset->path);
        bool there = !stat(folder, &st) && S_ISDIR(st.st_mode);
        oct_status status = there ? read_list(dataset, (oct_split)s, folder, error) : OCT_OK;
        oct_free(folder);
        OCT_TRY(status);
    }
    return OCT_OK;
}

oct_status oct_dataset_open_list(oct_dataset *dataset, oct_error *error)
{
    static const dataset_reader reader = {list_read, list_name_of, list_close};
    list_state *state = dataset->state = oct_calloc(1, sizeof *state);
    if (!state) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", dataset->path);
    dataset->reader = &reader;
    if (!dataset->channels) dataset->channels = 3;
    if (strlen(dataset->path) > MAX_PATH)
        return oct_fail(error, OCT_ERR_ARGUMENT, "%.256s...: expected a path of at most %d bytes", dataset->path,
                        MAX_PATH);
    if (!oct_dataset_is_list(dataset->path))
        return oct_fail(error, OCT_ERR_FORMAT, "%s: no %s, neither there nor in train/, val/ or test/", dataset->path,
                        list_name);
    dataset->one_folder = holds_list(dataset->path);
    OCT_TRY(read_classes(state, dataset->path, error));
    OCT_TRY(dataset->one_folder ? read_list(dataset, OCT_SPLIT_TRAIN, dataset->path, error)
                                : read_splits(dataset, error));
    return oct_dataset_copy_class_names(dataset, &state->classes, error);
}
