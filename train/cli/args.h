/* SPDX-License-Identifier: BSD-2-Clause
 * Command lines of all programs: long options, strict numbers, help, and errors that name the nearest known
 * flag.
 *
 *   --flag            switches
 *   --name=value, --name value; underscores count as hyphens: --epoch_size 0.5
 *   --                ends the options
 * Usage errors go to stderr and end the program with status 2; --help and --version go to stdout, status 0.
 */
#ifndef OCT_CLI_ARGS_H
#define OCT_CLI_ARGS_H

#include <stdbool.h>
#include <stdint.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_GO_ON = -1 };

typedef enum arg_type {
    ARG_SWITCH, /* bool * */
    ARG_INT,    /* int64_t *, within [min, max] */
    ARG_REAL,   /* double *, within [min, max] */
    ARG_TEXT    /* const char **, not empty; one of `choices` when there are any */
} arg_type;

typedef struct arg_option {
    const char *name; /* without hyphens in front; NULL ends a table. "" begins a group titled by `help` */
    arg_type type;
    void *value;
    const char *metavar; /* "N", "DIR" */
    const char *help;    /* one line; says the default */
    double min, max;     /* ARG_INT, ARG_REAL */
    bool min_open;       /* min itself is excluded */
    const char *unit;    /* "images", for messages; may be NULL */
    const char *choices; /* "cosine|step|poly"; NULL = any text */
} arg_option;

/* Rows of tables. */
#define ARG_GROUP(title)                                                                                     \
    {                                                                                                        \
        .name = "", .help = title                                                                            \
    }
#define ARG_END                                                                                              \
    {                                                                                                        \
        .name = NULL                                                                                         \
    }
#define ARG_ON(flag, place, text)                                                                            \
    {                                                                                                        \
        .name = flag, .type = ARG_SWITCH, .value = place, .help = text                                       \
    }
#define ARG_WORD(flag, place, word, text)                                                                    \
    {                                                                                                        \
        .name = flag, .type = ARG_TEXT, .value = place, .metavar = word, .help = text                        \
    }
#define ARG_CHOICE(flag, place, word, text, words)                                                           \
    {                                                                                                        \
        .name = flag, .type = ARG_TEXT, .value = place, .metavar = word, .help = text, .choices = words      \
    }
#define ARG_RANGED(flag, kind, place, low, high, open, of, word, text)                                       \
    {                                                                                                        \
        .name = flag, .type = kind, .value = place, .metavar = word, .help = text, .min = low, .max = high,  \
        .min_open = open, .unit = of                                                                         \
    }
#define ARG_COUNT(flag, place, low, high, of, text)                                                          \
    ARG_RANGED(flag, ARG_INT, place, low, high, false, of, "N", text)
#define ARG_NUMBER(flag, place, low, high, of, text)                                                         \
    ARG_RANGED(flag, ARG_REAL, place, low, high, false, of, "X", text)
#define ARG_ABOVE(flag, place, low, high, of, text)                                                          \
    ARG_RANGED(flag, ARG_REAL, place, low, high, true, of, "X", text)

/* Rows that most programs have. */
#define ARG_THREADS(place) \
    ARG_COUNT("threads", place, 1, 1024, "threads", "computing threads, default all processors")
#define ARG_JSON(place) ARG_ON("json", place, "one JSON object per line on stdout")
#define ARG_QUIET(place) ARG_ON("quiet", place, "no progress and no notes")

typedef struct arg_spec {
    const char *program;         /* "train" */
    const char *usage;           /* "train --model NAME --data DIR [options]" */
    const char *about;           /* a few lines */
    const arg_option *tables[3]; /* ended by NULL */
    int min_positional, max_positional;
    const char *positional; /* "FILE", for messages */
} arg_spec;

/* Fills values and positional[0..*positional_count) (in place, in argv). CLI_GO_ON, or the exit status. */
int args_parse(const arg_spec *spec, int argc, char **argv, char **positional, int *positional_count);

/* "prog: message" and the hint at --help on stderr; returns CLI_USAGE. */
__attribute__((format(printf, 2, 3))) int args_usage(const char *program, const char *format, ...);

/* One to `max` numbers separated by commas. 0 = not that. */
int args_numbers(const char *text, double *values, int max);

#endif
