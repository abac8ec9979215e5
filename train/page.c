/* SPDX-License-Identifier: BSD-2-Clause */
#include "train/page.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "autograd/base/file.h"
#include "autograd/base/memory.h"

static bool reserve(oct_page *p, size_t more)
{
    if (p->failed) return false;
    if (p->capacity - p->used > more) return true;
    size_t capacity = p->capacity ? p->capacity : 1 << 14;
    while (capacity - p->used <= more) capacity *= 2;
    char *grown = oct_realloc(p->text, p->used, capacity, 1);
    p->failed = !grown;
    if (!grown) return false;
    p->text = grown;
    p->capacity = capacity;
    return true;
}

void oct_page_release(oct_page *p)
{
    oct_free(p->text);
    *p = (oct_page){0};
}

void oct_page_add(oct_page *p, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (n > 0 && reserve(p, (size_t)n + 1)) {
        vsnprintf(p->text + p->used, p->capacity - p->used, format, args);
        p->used += (size_t)n;
    }
    va_end(args);
}

void oct_page_text(oct_page *p, const char *text)
{
    for (; *text; text++) {
        const char *escaped = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;"
                              : *text == '"' ? "&quot;" : *text == '\'' ? "&#39;" : NULL;
        if (escaped)
            oct_page_add(p, "%s", escaped);
        else if (reserve(p, 1))
            p->text[p->used++] = *text;
    }
}

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1c2430;--soft:#5c6773;--line:#d7dce2;--back:#fff;--card:#f6f7f9;"
    "--one:#2f6fb3;--two:#d08227;--three:#3f8f5b;--bad:#c4373c}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8ed;--soft:#9aa5b1;--line:#38414c;--back:#14181d;--card:#1d232a;"
    "--one:#6ea8e6;--two:#e7a554;--three:#74c08d;--bad:#ee6f73}}"
    "body{margin:0 auto;max-width:70rem;padding:1.5rem;background:var(--back);color:var(--ink);"
    "font:15px/1.5 system-ui,sans-serif}"
    "h1{font-size:1.5rem;margin:0 0 .5rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}h3{font-size:1rem;margin:0}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:.15rem .6rem;text-align:right}"
    "th{font-weight:600;color:var(--soft);border-bottom:1px solid var(--line)}td:first-child,th:first-child{text-align:left}"
    ".wide{overflow-x:auto}.bad{color:var(--bad)}.cards{display:flex;flex-wrap:wrap;gap:1rem}"
    ".card{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.7rem;flex:1 1 20rem;max-width:33rem;"
    "min-width:0}.note{color:var(--soft);margin:.2rem 0}svg{width:100%;height:auto;display:block}"
    "svg text{fill:var(--soft);font:11px system-ui,sans-serif}svg .name{fill:var(--ink)}.axis{stroke:var(--line);fill:none}"
    ".f1{fill:var(--one)}.f2{fill:var(--two)}.out{fill:var(--bad);opacity:.12}"
    ".mark{stroke:var(--bad);stroke-dasharray:4 3;fill:none}.s0{stroke:var(--one)}.s1{stroke:var(--two)}.s2{stroke:var(--three)}"
    ".s0,.s1,.s2{fill:none;stroke-width:1.8;stroke-linejoin:round}";

void oct_page_begin(oct_page *p, const char *title)
{
    oct_page_add(p, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>");
    oct_page_text(p, title);
    oct_page_add(p, "</title><link rel=\"icon\" href=\"data:,\"><style>%s</style></head>\n<body><h1>", style);
    oct_page_text(p, title);
    oct_page_add(p, "</h1>\n");
}

void oct_page_end(oct_page *p)
{
    oct_page_add(p, "</body></html>\n");
}

oct_status oct_page_write(const oct_page *p, const char *path, oct_error *error)
{
    if (p->failed) return oct_fail(error, OCT_ERR_MEMORY, "out of memory: %s", path);
    return oct_file_write(path, p->text, p->used, error);
}
