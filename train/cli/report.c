/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/cli/report.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "train/cli/args.h"
#include "train/cli/progress.h"

static bool stdout_lost;
static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
}

void cli_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)(SA_RESETHAND | SA_RESTART)};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

int cli_signal(void)
{
    return (int)caught;
}

static void on_log(void *user, oct_log_level level, const char *message)
{
    const cli *c = user;
    if (level == OCT_LOG_WARNING)
        cli_warn(c, "%s", message);
    else if (level == OCT_LOG_INFO)
        cli_note(c, "%s", message);
}

int cli_start(cli *c, int64_t threads)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    oct_error error = {0};
    oct_ctx_options options = {.threads = (int)threads, .log = on_log, .log_user = c};
    if (oct_ctx_create(&c->ctx, &options, &error) == OCT_OK) return CLI_GO_ON;
    return cli_fail_with(c, "%s", error.message);
}

int cli_end(cli *c, int status)
{
    progress_clear();
    oct_ctx_destroy(c->ctx);
    c->ctx = NULL;
    if (fflush(stdout) || ferror(stdout)) stdout_lost = true;
    if (status == CLI_OK && stdout_lost) fprintf(stderr, "%s: cannot write to standard output\n", c->program);
    return status == CLI_OK && stdout_lost ? CLI_FAILED : status;
}

int cli_fail_with(cli *c, const char *format, ...)
{
    char text[OCT_ERROR_BYTES + 256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    progress_clear();
    fprintf(stderr, "%s: %s\n", c->program, text);
    cJSON *event = cli_event(c, "error");
    cJSON_AddStringToObject(event, "message", text);
    cli_emit(c, event);
    return CLI_FAILED;
}

int cli_fail(cli *c)
{
    const oct_error *error = &c->ctx->error;
    cli_fail_with(c, "%s", *error->message ? error->message : "failed");
    return error->status == OCT_ERR_ARGUMENT ? CLI_USAGE : CLI_FAILED;
}

static void print_to(FILE *stream, const char *format, va_list args)
{
    if (stream == stderr) progress_clear();
    vfprintf(stream, format, args);
    fputc('\n', stream);
    if (fflush(stream) && stream == stdout) stdout_lost = true;
}

void cli_print(const cli *c, const char *format, ...)
{
    if (c->json) return;
    va_list args;
    va_start(args, format);
    progress_clear();
    print_to(stdout, format, args);
    va_end(args);
}

void cli_note(const cli *c, const char *format, ...)
{
    if (c->quiet) return;
    va_list args;
    va_start(args, format);
    print_to(stderr, format, args);
    va_end(args);
}

void cli_warn(const cli *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)c;
    print_to(stderr, format, args);
    va_end(args);
}

void cli_note_line(void *user, const char *text)
{
    cli_note(user, "%s", text);
}

void cli_print_line(void *user, const char *text)
{
    cli_print(user, "%s", text);
}

/* --- JSON lines --- */

cJSON *cli_event(const cli *c, const char *name)
{
    if (!c->json) return NULL;
    cJSON *event = cJSON_CreateObject();
    cJSON_AddStringToObject(event, "event", name);
    return event;
}

void cli_emit(const cli *c, cJSON *event)
{
    (void)c;
    if (!event) return;
    char *text = cJSON_PrintUnformatted(event);
    progress_clear();
    if (!text || printf("%s\n", text) < 0 || fflush(stdout)) stdout_lost = true;
    cJSON_free(text);
    cJSON_Delete(event);
}

void cli_add(cJSON *event, const char *key, double value, int digits)
{
    double unit = pow(10, digits);
    if (event) cJSON_AddNumberToObject(event, key, round(value * unit) / unit);
}

/* --- memory --- */

/* A field of /proc/self/status in bytes. */
static uint64_t status_field(const char *field)
{
    FILE *file = fopen("/proc/self/status", "re");
    if (!file) return 0;
    char line[256];
    unsigned long long kib = 0;
    size_t length = strlen(field);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, field, length)) kib = strtoull(line + length, NULL, 10);
    fclose(file);
    return (uint64_t)kib * 1024;
}

uint64_t cli_resident_bytes(void)
{
    return status_field("VmRSS:");
}

uint64_t cli_peak_bytes(void)
{
    uint64_t peak = status_field("VmHWM:");
    struct rusage usage;
    if (!peak && !getrusage(RUSAGE_SELF, &usage)) peak = (uint64_t)usage.ru_maxrss * 1024;
    return peak;
}

void cli_reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (!file) return;
    fputs("5", file);
    fclose(file);
}
