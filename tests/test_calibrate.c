/* SPDX-License-Identifier: BSD-2-Clause
 * bin/calibrate and bin/analyze as their users meet them, and the page they and bin/train write. Programs are taken from the
 * folder BIN (default bin), images are tiny and made up.
 */
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/testing.h"
#include "tests/tiny_images.h"

enum { PATH_BYTES = 512, COMMAND = 2048, OUTPUT = 1 << 18, CLASSES = 4 };

static char work[PATH_BYTES], out[OUTPUT], err[OUTPUT], page[OUTPUT];

static const char *bin(void)
{
    const char *folder = getenv("BIN");
    return folder && *folder ? folder : "bin";
}

static void read_text(char *text, const char *name)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", work, name);
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(text, 1, OUTPUT - 1, file) : 0;
    text[size] = '\0';
    if (file) fclose(file);
}

/* Runs "BIN/<program and flags>"; every %W is the work folder. Output in out and err. */
static void expect(int expected, const char *flags)
{
    char command[COMMAND];
    size_t used = (size_t)snprintf(command, sizeof command, "OMP_NUM_THREADS=1 %s/", bin());
    for (const char *p = flags; *p && used < COMMAND - PATH_BYTES; p++) {
        if (p[0] == '%' && p[1] == 'W')
            used += (size_t)snprintf(command + used, sizeof command - used, "%s", work), p++;
        else
            command[used++] = *p;
    }
    snprintf(command + used, sizeof command - used, " >%s/out 2>%s/err </dev/null", work, work);
    int status = system(command), code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    read_text(out, "out");
    read_text(err, "err");
    CU_ASSERT_EQUAL(code, expected);
    if (code != expected) printf("    %s: status %d, expected %d\n    %.600s\n", flags, code, expected, err);
}

static void expect_text(const char *text, const char *part)
{
    CU_ASSERT_PTR_NOT_NULL(strstr(text, part));
    if (!strstr(text, part)) printf("    expected '%s' in: %.600s\n", part, text);
}

/* The last line of `out` that is an object with this event. */
static cJSON *json_event(const char *event)
{
    cJSON *found = NULL;
    char *copy = strdup(out);
    for (char *line = strtok(copy, "\n"); line; line = strtok(NULL, "\n")) {
        cJSON *o = cJSON_Parse(line);
        const cJSON *name = cJSON_GetObjectItem(o, "event");
        CU_ASSERT_TRUE(cJSON_IsString(name));
        bool same = cJSON_IsString(name) && !strcmp(name->valuestring, event);
        cJSON_Delete(same ? found : o);
        if (same) found = o;
    }
    free(copy);
    CU_ASSERT_PTR_NOT_NULL_FATAL(found);
    return found;
}

static double number_in(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(o, key);
    CU_ASSERT_TRUE(cJSON_IsNumber(item));
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

#define NEED_MODEL()                                                                                          \
    do {                                                                                                      \
        char path_[PATH_BYTES];                                                                               \
        snprintf(path_, sizeof path_, "%s/calibrate", bin());                                                 \
        if (access(path_, X_OK)) SKIP("the programs are not built");                                          \
        snprintf(work, sizeof work, "%s", test_folder());                                                     \
        CU_ASSERT_TRUE_FATAL(tiny_idx(work, 96, 40, CLASSES));                                                \
        expect(0, "train --model resnet8 --quiet --batch-size 16 --lr 0.05 --epochs 2 --data %W --output %W/f"); \
    } while (0)

/* Tags of the page open and close; void elements apart. */
static bool is_balanced(const char *html)
{
    int depth = 0;
    for (const char *p = strchr(html, '<'); p; p = strchr(p + 1, '<')) {
        const char *end = strchr(p, '>');
        if (!end) return false;
        bool empty = p[1] == '!' || !strncmp(p, "<meta", 5) || !strncmp(p, "<link", 5) || end[-1] == '/';
        if (!empty) depth += p[1] == '/' ? -1 : 1;
        if (depth < 0) return false;
    }
    return !depth;
}

static void train_writes_a_page_with_curves(void)
{
    NEED_MODEL();
    read_text(page, "f/report.html");
    expect_text(page, "<h2>Training</h2>");
    expect_text(page, "validation");
    CU_ASSERT_TRUE(is_balanced(page));
    CU_ASSERT_PTR_NULL(strstr(page, "Distributions"));
}

static void calibrate_every_recipe_writes_files_and_a_result(void)
{
    static const char *const recipes[] = {"simple", "minmax", "percentile", "histogram", "mse", "kl", "advanced",
                                          "advanced-dw"};
    NEED_MODEL();
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        char flags[COMMAND];
        snprintf(flags, sizeof flags, "calibrate %%W/f/last.h5 --data %%W -o %%W/q --overwrite --quiet --json --recipe %s",
                 recipes[i]);
        expect(0, flags);
        cJSON *r = json_event("result");
        CU_ASSERT_EQUAL(number_in(r, "images"), 40);
        CU_ASSERT_EQUAL(number_in(r, "calibration_images"), 96);
        CU_ASSERT_EQUAL(number_in(r, "top1_quantized"), number_in(r, "top1_int8"));
        cJSON_Delete(r);
    }
    expect(0, "evaluate %W/q/int8.h5 --verify %W/q/quantized.h5 --data %W");
    expect_text(out, "identical");
    read_text(page, "q/report.html");
    CU_ASSERT_TRUE(is_balanced(page));
    expect_text(page, "Distributions");
    expect_text(page, "<h2>Training</h2>");
    CU_ASSERT_PTR_NULL(strstr(page, "<script"));
}

static void calibrate_all_steps_leave_a_model_that_is_its_own_simulation(void)
{
    NEED_MODEL();
    expect(0, "calibrate %W/f/last.h5 --data %W -o %W/q --equalize --absorb-biases --adaround --iterations 20 "
              "--bias-correction --per-channel all --images 64 --quiet");
    expect(0, "evaluate %W/q/int8.h5 --verify %W/q/quantized.h5 --data %W");
    expect_text(out, "identical");
    /* It can be trained on: batch norm has statistics again. */
    expect(0, "train --quantize --pretrained %W/q/quantized.h5 --data %W --output %W/t --epochs 1 --batch-size 16 --quiet");
}

static void calibrate_same_input_gives_the_same_bytes_at_any_thread_count(void)
{
    char command[COMMAND];
    NEED_MODEL();
    expect(0, "calibrate %W/f/last.h5 --data %W -o %W/a --equalize --adaround --iterations 10 --bias-correction --quiet "
              "--threads 1");
    expect(0, "calibrate %W/f/last.h5 --data %W -o %W/b --equalize --adaround --iterations 10 --bias-correction --quiet "
              "--threads 3");
    snprintf(command, sizeof command, "cmp -s %s/a/quantized.h5 %s/b/quantized.h5", work, work);
    CU_ASSERT_EQUAL(system(command), 0);
}

static void calibrate_auto_says_which_recipe_won(void)
{
    NEED_MODEL();
    expect(0, "calibrate %W/f/last.h5 --data %W -o %W/q --recipe auto --target 1 --json --quiet");
    cJSON *r = json_event("result");
    CU_ASSERT_TRUE(cJSON_IsTrue(cJSON_GetObjectItem(r, "target_met")));
    CU_ASSERT_STRING_EQUAL(cJSON_GetObjectItem(r, "recipe")->valuestring, "simple");
    cJSON_Delete(r);
    expect(0, "calibrate %W/f/last.h5 --data %W -o %W/q --recipe auto --target 100 --json --quiet --overwrite --images 32 "
              "--iterations 2");
    r = json_event("result");
    CU_ASSERT_TRUE(cJSON_IsFalse(cJSON_GetObjectItem(r, "target_met")) || number_in(r, "top1_int8") == 100);
    cJSON_Delete(r);
}

static void calibrate_fixed_ranges_of_a_table_stay(void)
{
    char path[PATH_BYTES + 16];
    NEED_MODEL();
    snprintf(path, sizeof path, "%s/t.json", work);
    FILE *file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("[{\"point\": \"stem/relu\", \"lo\": 0, \"hi\": 1.75, \"fixed\": true}]", file);
    fclose(file);
    expect(0, "calibrate %W/f/last.h5 --data %W -o %W/q --ranges %W/t.json --quiet");
    read_text(page, "q/ranges.json");
    expect_text(page, "{\"point\":\"stem/relu\",\"lo\":0,\"hi\":1.75,\"fixed\":true}");
    file = fopen(path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("[{\"point\": \"stem/rule\", \"lo\": 0, \"hi\": 1.75}]", file);
    fclose(file);
    expect(1, "calibrate %W/f/last.h5 --data %W -o %W/q --ranges %W/t.json --quiet --overwrite");
    expect_text(err, "stem/rule");
}

static void calibrate_wrong_usage_exits_2(void)
{
    static const char *const table[][2] = {
        {"calibrate x.h5 --output y", "--data DIR is required"},
        {"calibrate x.h5 --data y", "--output DIR is required"},
        {"calibrate x.h5 --data y -o z --recipe best", "expected simple|"},
        {"calibrate x.h5 --data y -o z --absorb-biases", "needs --equalize"},
        {"calibrate x.h5 --data y -o z --target 90", "needs --recipe auto"},
        {"calibrate x.h5 --data y -o z --iterations 9", "needs --adaround"},
        {"calibrate x.h5 --data y -o z --recipe auto --adaround", "chooses the steps"},
        {"calibrate x.h5 --data y -o z --percentile 50", "above 50"},
        {"analyze x.h5 --data y", "two checkpoints"},
        {"analyze x.h5 y.h5", "--data DIR is required"},
    };
    NEED_MODEL();
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        expect(2, table[i][0]);
        expect_text(err, table[i][1]);
    }
    expect(0, "calibrate %W/f/last.h5 --data %W -o %W/q --quiet");
    expect(2, "calibrate %W/f/last.h5 --data %W -o %W/q --quiet");
    expect_text(err, "--overwrite");
    expect(1, "calibrate %W/q/int8.h5 --data %W -o %W/r --quiet");
    expect_text(err, "int8 model");
    expect(1, "analyze %W/f/last.h5 %W/f/last.h5 --data %W");
    expect_text(err, "takes a quantized checkpoint");
}

static void analyze_names_every_layer_and_measures_sensitivity(void)
{
    NEED_MODEL();
    expect(0, "calibrate %W/f/last.h5 --data %W -o %W/q --quiet");
    expect(0, "analyze %W/f/last.h5 %W/q/quantized.h5 --data %W --sensitivity --json --quiet --html %W/page.html");
    cJSON *head = json_event("layer"), *r = json_event("result");
    CU_ASSERT_STRING_EQUAL(cJSON_GetObjectItem(head, "name")->valuestring, "head");
    CU_ASSERT(number_in(head, "sqnr") > 5 && number_in(head, "weight_sqnr") > 20);
    CU_ASSERT(number_in(head, "top1_only_this") >= 0 && number_in(head, "top1_all_but_this") >= 0);
    CU_ASSERT_EQUAL(number_in(r, "images"), 40);
    cJSON_Delete(head);
    cJSON_Delete(r);
    read_text(page, "page.html");
    CU_ASSERT_TRUE(is_balanced(page));
    expect_text(page, "all but this");
    expect(0, "analyze %W/q/quantized.h5 %W/q/quantized.h5 --data %W --quiet");
    expect_text(out, "stage1/relu1");
    expect_text(out, "top-1 on these images");
}

static const test_case cases[] = {
    {"train_writes_a_page_with_curves", train_writes_a_page_with_curves},
    {"calibrate_every_recipe_writes_files_and_a_result", calibrate_every_recipe_writes_files_and_a_result},
    {"calibrate_all_steps_leave_a_model_that_is_its_own_simulation",
     calibrate_all_steps_leave_a_model_that_is_its_own_simulation},
    {"calibrate_same_input_gives_the_same_bytes_at_any_thread_count",
     calibrate_same_input_gives_the_same_bytes_at_any_thread_count},
    {"calibrate_auto_says_which_recipe_won", calibrate_auto_says_which_recipe_won},
    {"calibrate_fixed_ranges_of_a_table_stay", calibrate_fixed_ranges_of_a_table_stay},
    {"calibrate_wrong_usage_exits_2", calibrate_wrong_usage_exits_2},
    {"analyze_names_every_layer_and_measures_sensitivity", analyze_names_every_layer_and_measures_sensitivity},
};
TEST_SUITE("calibrate", cases);
