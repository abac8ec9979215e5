/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/args.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 64 };

int args_usage(const char *program, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nTry '%s --help'.\n", program);
    va_end(args);
    return CLI_USAGE;
}

/* --- help --- */

static void print_option(const arg_option *o)
{
    char head[NAME_BYTES];
    if (!*o->name) {
        printf("\n%s\n", o->help);
        return;
    }
    snprintf(head, sizeof head, "--%s%s%s", o->name, o->metavar ? " " : "", o->metavar ? o->metavar : "");
    if (o->choices)
        printf("  %-24s %s: %s\n", head, o->help, o->choices);
    else
        printf("  %-24s %s\n", head, o->help);
}

static int print_help(const arg_spec *spec)
{
    printf("Usage: %s\n%s\n", spec->usage, spec->about);
    for (int t = 0; t < 3 && spec->tables[t]; t++)
        for (const arg_option *o = spec->tables[t]; o->name; o++) print_option(o);
    printf("  %-24s this text\n  %-24s version of Octet\n", "--help", "--version");
    printf("\nUnderscores in flags count as hyphens. Exit status: 0 done, 1 failed, 2 wrong usage, 130 and "
           "143 stopped by a\n"
           "signal. OCT_CPU chooses the kernels: c, avx2, avx512, ...\n");
    return fflush(stdout) ? CLI_FAILED : CLI_OK;
}

/* --- the nearest known flag --- */

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Edit distance of two short names. */
static int distance(const char *a, const char *b)
{
    int row[NAME_BYTES + 1];
    int n = (int)strnlen(b, NAME_BYTES);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1] && i <= NAME_BYTES; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n];
}

static const char *nearest(const arg_spec *spec, const char *name)
{
    const char *best = NULL;
    int best_distance = 0;
    for (int t = 0; t < 3 && spec->tables[t]; t++)
        for (const arg_option *o = spec->tables[t]; o->name; o++) {
            int d = distance(name, o->name);
            if (*o->name && (!best || d < best_distance)) best = o->name, best_distance = d;
        }
    return best && best_distance <= (int)strlen(best) / 2 + 1 ? best : NULL;
}

static const arg_option *find_option(const arg_spec *spec, const char *name)
{
    for (int t = 0; t < 3 && spec->tables[t]; t++)
        for (const arg_option *o = spec->tables[t]; o->name; o++)
            if (*o->name && !strcmp(name, o->name)) return o;
    return NULL;
}

/* --- values --- */

static const char *plural_unit(const arg_option *o)
{
    return o->unit ? o->unit : "";
}

static int out_of_range(const arg_spec *spec, const arg_option *o, const char *text, const char *what)
{
    const char *gap = o->unit ? " " : "";
    if (isinf(o->max))
        return args_usage(spec->program, "--%s: expected %s%s%s %s %g, got '%s'", o->name, what, gap,
                          plural_unit(o), o->min_open ? "above" : "of at least", o->min, text);
    return args_usage(spec->program, "--%s: expected %s%s%s %s %.10g to %.10g, got '%s'", o->name, what, gap,
                      plural_unit(o), o->min_open ? "above" : "from", o->min, o->max, text);
}

static bool in_range(const arg_option *o, double v)
{
    return (o->min_open ? v > o->min : v >= o->min) && v <= o->max;
}

static int set_int(const arg_spec *spec, const arg_option *o, const char *text)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool digits = (*text >= '0' && *text <= '9') || (*text == '-' && text[1] >= '0' && text[1] <= '9');
    if (!digits || *end || errno || !in_range(o, (double)v))
        return out_of_range(spec, o, text, "a whole number of");
    *(int64_t *)o->value = v;
    return CLI_GO_ON;
}

static int set_real(const arg_spec *spec, const arg_option *o, const char *text)
{
    double v;
    if (args_numbers(text, &v, 1) != 1 || !in_range(o, v)) return out_of_range(spec, o, text, "a number");
    *(double *)o->value = v;
    return CLI_GO_ON;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (const char *c = choices; c; c = strchr(c, '|')) {
        if (*c == '|') c++;
        if (!strncmp(c, text, length) && (c[length] == '|' || !c[length]) && length) return true;
    }
    return false;
}

static int set_value(const arg_spec *spec, const arg_option *o, const char *text)
{
    switch (o->type) {
    case ARG_INT: return set_int(spec, o, text);
    case ARG_REAL: return set_real(spec, o, text);
    case ARG_TEXT:
        if (!*text) return args_usage(spec->program, "--%s: expected %s, got nothing", o->name, o->metavar);
        if (o->choices && !is_choice(o->choices, text))
            return args_usage(spec->program, "--%s: expected %s, got '%s'", o->name, o->choices, text);
        *(const char **)o->value = text;
        return CLI_GO_ON;
    case ARG_SWITCH: break;
    }
    *(bool *)o->value = true;
    return CLI_GO_ON;
}

int args_numbers(const char *text, double *values, int max)
{
    for (int n = 0; n < max;) {
        char *end;
        /* Hexadecimal, infinities and leading blanks are no numbers here. */
        if (!((*text >= '0' && *text <= '9') || *text == '-' || *text == '.') || strpbrk(text, "xXnN"))
            return 0;
        values[n] = strtod(text, &end);
        if (end == text || !isfinite(values[n])) return 0;
        n++;
        if (!*end) return n;
        if (*end != ',') return 0;
        text = end + 1;
    }
    return 0;
}

/* --- parsing --- */

/* One option at argv[*i]; advances *i when its value is the next argument. */
static int parse_option(const arg_spec *spec, int argc, char **argv, int *i)
{
    char name[NAME_BYTES];
    const char *text = argv[*i] + 2, *value = strchr(text, '=');
    size_t length = value ? (size_t)(value - text) : strlen(text);
    if (length >= sizeof name) return args_usage(spec->program, "unknown flag '%.80s...'", argv[*i]);
    for (size_t k = 0; k < length; k++) name[k] = text[k];
    name[length] = '\0';
    for (char *p = name; *p; p++)
        if (*p == '_') *p = '-';
    if (!strcmp(name, "help")) return print_help(spec);
    if (!strcmp(name, "version")) {
        printf("%s (Octet) %s\n", spec->program, OCT_VERSION);
        return fflush(stdout) ? CLI_FAILED : CLI_OK;
    }
    const arg_option *o = find_option(spec, name);
    if (!o) {
        const char *near = nearest(spec, name);
        if (near) return args_usage(spec->program, "unknown flag '--%s'; did you mean '--%s'?", name, near);
        return args_usage(spec->program, "unknown flag '--%s'", name);
    }
    if (o->type == ARG_SWITCH) {
        if (value) return args_usage(spec->program, "--%s takes no value, got '%s'", name, value + 1);
        return set_value(spec, o, "");
    }
    if (value) return set_value(spec, o, value + 1);
    if (*i + 1 >= argc || !strncmp(argv[*i + 1], "--", 2))
        return args_usage(spec->program, "--%s: expected %s behind it", name, o->metavar);
    return set_value(spec, o, argv[++*i]);
}

int args_parse(const arg_spec *spec, int argc, char **argv, char **positional, int *positional_count)
{
    int count = 0;
    bool ended = false;
    for (int i = 1; i < argc; i++) {
        if (!ended && !strcmp(argv[i], "--")) {
            ended = true;
        } else if (!ended && !strcmp(argv[i], "-o")) {
            static char output[] = "--output";
            argv[i] = output;
            i--;
        } else if (!ended && !strcmp(argv[i], "-h")) {
            return print_help(spec);
        } else if (!ended && argv[i][0] == '-' && argv[i][1] == '-') {
            int status = parse_option(spec, argc, argv, &i);
            if (status != CLI_GO_ON) return status;
        } else if (!ended && argv[i][0] == '-' && argv[i][1]) {
            return args_usage(spec->program, "unknown flag '%s'; flags begin with two hyphens", argv[i]);
        } else if (count >= spec->max_positional) {
            return args_usage(spec->program, "unexpected argument '%s'", argv[i]);
        } else {
            positional[count++] = argv[i];
        }
    }
    *positional_count = count;
    if (count < spec->min_positional) return args_usage(spec->program, "expected %s", spec->positional);
    return CLI_GO_ON;
}
