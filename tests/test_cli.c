/* SPDX-License-Identifier: BSD-2-Clause
 * The programs as their users meet them: exit statuses, messages, files, JSON lines, signals, full disks,
 * kills. Programs are taken from the folder BIN (default bin). Image sets are tiny and made up
 * (tests/tiny_images.h).
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "autograd/base/bytes.h"
#include "autograd/base/file.h"
#include "autograd/base/memory.h"
#include "quant/int8/image.h"
#include "tests/testing.h"
#include "tests/tiny_images.h"

enum { PATH_BYTES = 512, COMMAND = 2048, OUTPUT = 1 << 16, CLASSES = 4 };

static char work[PATH_BYTES]; /* a fresh folder per case: idx, runs */
static char out[OUTPUT], err[OUTPUT];

static const char *bin(void)
{
    const char *folder = getenv("BIN");
    return folder && *folder ? folder : "bin";
}

static bool has_programs(void)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/train", bin());
    return !access(path, X_OK);
}
#define NEED_PROGRAMS()                                                                                      \
    do {                                                                                                     \
        if (!has_programs()) SKIP("the programs are not built");                                             \
        snprintf(work, sizeof work, "%s", test_folder());                                                    \
    } while (0)

static void read_text(char *text, const char *name)
{
    char path[PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/%s", work, name);
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(text, 1, OUTPUT - 1, file) : 0;
    text[size] = '\0';
    if (file) fclose(file);
}

/* Starts "BIN/<program and flags>" through the shell with stdout and stderr in files. */
static pid_t start(const char *redirect, const char *format, va_list args)
{
    char flags[COMMAND], command[2 * COMMAND];
    vsnprintf(flags, sizeof flags, format, args);
    snprintf(command, sizeof command, "exec %s/%s %s", bin(), flags, redirect);
    pid_t pid = fork();
    if (pid) return pid;
    if (chdir(".")) _exit(99);
    setenv("OMP_NUM_THREADS", "1", 1);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(99);
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    read_text(out, "out");
    read_text(err, "err");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static pid_t launch(const char *format, ...)
{
    char redirect[2 * PATH_BYTES + 32];
    va_list args;
    snprintf(redirect, sizeof redirect, ">%s/out 2>%s/err </dev/null", work, work);
    va_start(args, format);
    pid_t pid = start(redirect, format, args);
    va_end(args);
    return pid;
}

static int run(const char *format, ...)
{
    char redirect[2 * PATH_BYTES + 32];
    va_list args;
    snprintf(redirect, sizeof redirect, ">%s/out 2>%s/err </dev/null", work, work);
    va_start(args, format);
    pid_t pid = start(redirect, format, args);
    va_end(args);
    return wait_for(pid);
}

static void expect_status(int found, int expected, const char *what)
{
    CU_ASSERT_EQUAL(found, expected);
    if (found != expected)
        printf("    %s: status %d, expected %d\n    stdout: %.300s\n    stderr: %.600s\n", what, found,
               expected, out, err);
}
#define EXPECT(expected, ...) expect_status(run(__VA_ARGS__), expected, #__VA_ARGS__)

static void expect_text(const char *text, const char *part)
{
    CU_ASSERT_PTR_NOT_NULL(strstr(text, part));
    if (!strstr(text, part)) printf("    expected '%s' in: %.600s\n", part, text);
}

static char *under(char path[PATH_BYTES], const char *name)
{
    char text[PATH_BYTES];
    snprintf(text, sizeof text, "%.200s/%.200s", work, name);
    memcpy(path, text, sizeof text);
    return path;
}

static bool exists(const char *name)
{
    char path[PATH_BYTES];
    return !access(under(path, name), F_OK);
}

static uint8_t *contents(const char *name, size_t *size)
{
    char path[PATH_BYTES];
    uint8_t *bytes;
    oct_error error = {0};
    CU_ASSERT_FATAL(
        test_is_ok(&error, oct_file_read(&bytes, size, under(path, name), 1 << 24, &error), name));
    return bytes;
}

static bool same_files(const char *a, const char *b)
{
    size_t size_a, size_b;
    uint8_t *x = contents(a, &size_a), *y = contents(b, &size_b);
    bool same = size_a == size_b && !memcmp(x, y, size_a);
    oct_free(x);
    oct_free(y);
    return same;
}

static void make_idx(int train, int test, int classes)
{
    CU_ASSERT_TRUE_FATAL(tiny_idx(work, train, test, classes));
}

/* One object per line, each with "event"; returns the last (cJSON_Delete). */
static cJSON *last_json(void)
{
    cJSON *last = NULL;
    for (char *line = strtok(out, "\n"); line; line = strtok(NULL, "\n")) {
        cJSON_Delete(last);
        last = cJSON_Parse(line);
        CU_ASSERT_TRUE(cJSON_IsString(cJSON_GetObjectItem(last, "event")));
    }
    return last;
}

static double number_in(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(object, key);
    CU_ASSERT_TRUE(cJSON_IsNumber(item));
    if (!cJSON_IsNumber(item)) printf("    no number '%s'\n", key);
    return cJSON_IsNumber(item) ? item->valuedouble : -1;
}

static const char *text_in(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(object, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

#define TRAIN "train --model resnet8 --quiet --batch-size 16 --lr 0.05 "

/* --- usage --- */

static void all_help_and_version_go_to_stdout(void)
{
    static const char *const programs[] = {"train", "evaluate", "export", "infer", "bench"};
    NEED_PROGRAMS();
    for (int i = 0; i < 5; i++) {
        EXPECT(0, "%s --help", programs[i]);
        expect_text(out, "Usage: ");
        expect_text(out, "--threads");
        CU_ASSERT_EQUAL(*err, '\0');
        EXPECT(0, "%s --version", programs[i]);
        expect_text(out, OCT_VERSION);
    }
}

static void train_wrong_usage_exits_2(void)
{
    static const struct {
        const char *flags, *message;
    } table[] = {
        {"--model resnet8 --data x --epoch 3", "did you mean '--epochs'"},
        {"--model resnet8 --data x --batchsize 3", "did you mean '--batch-size'"},
        {"--model resnet8 --data x --epochs 3x",
         "expected a whole number of epochs from 0 to 1000000, got '3x'"},
        {"--model resnet8 --data x --epochs -1", "got '-1'"},
        {"--model resnet8 --data x --epochs=", "got ''"},
        {"--model resnet8 --data x --epochs", "expected N behind it"},
        {"--model resnet8 --data x --lr 0", "--lr: expected a number above 0"},
        {"--model resnet8 --data x --lr nan", "got 'nan'"},
        {"--model resnet8 --data x --momentum 1", "got '1'"},
        {"--model resnet8 --data x --batch_size 1e3", "whole number of images"},
        {"--model resnet8 --data x --lr-schedule cos", "expected cosine|step|poly|exp|constant"},
        {"--model resnet8 --data x --quantize=1", "takes no value"},
        {"--model resnet8 --data x --rounding single", "--rounding needs --profile affine"},
        {"--model resnet8 --data x --profile affine --rounding up", "expected"},
        {"--model resnet8 --data x --fold ti", "not available in this version"},
        {"--model resnet8 --data x --scale 1,x", "--scale: expected 1 to 4 numbers"},
        {"--model resnet8 --data x --resume", "--resume needs the --output"},
        {"--model resnet8 --data x extra", "unexpected argument 'extra'"},
        {"--model resnet8 --data x -q", "flags begin with two hyphens"},
        {"--model resnet8", "--data DIR is required"},
        {"--data x", "--model NAME or --pretrained FILE is required"},
    };
    NEED_PROGRAMS();
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        expect_status(run("train %s", table[i].flags), 2, table[i].flags);
        expect_text(err, table[i].message);
        CU_ASSERT_EQUAL(*out, '\0');
    }
}

static void train_bad_input_is_named(void)
{
    NEED_PROGRAMS();
    make_idx(32, 16, CLASSES);
    EXPECT(1, TRAIN "--data %s/nowhere --output %s/r", work, work);
    expect_text(err, "nowhere");
    EXPECT(2, "train --model resnet9 --data %s --output %s/r", work, work);
    expect_text(err, "known models: resnet8");
    EXPECT(2, "train --model mobilenetv2:depth=2 --data %s --output %s/r", work, work);
    expect_text(err, "unknown option 'depth'");
    EXPECT(1, TRAIN "--data %s --pretrained %s/none.h5 --output %s/r", work, work, work);
    expect_text(err, "none.h5");
    CU_ASSERT_FALSE(exists("r/last.h5"));
}

/* --- a run and what comes out of it --- */

static void train_json_ends_with_the_result(void)
{
    NEED_PROGRAMS();
    make_idx(96, 40, CLASSES);
    EXPECT(0, TRAIN "--data %s --output %s/a/b --epochs 2 --json --print-model --print-plan --evaluate_start",
           work, work);
    expect_text(out, "{\"event\":\"start\",");
    expect_text(out, "\"event\":\"epoch\"");
    cJSON *r = last_json();
    CU_ASSERT_STRING_EQUAL(text_in(r, "event"), "result");
    CU_ASSERT_STRING_EQUAL(text_in(r, "task"), "train");
    CU_ASSERT(number_in(r, "top1_float") >= 0 && number_in(r, "images_per_second") > 0 &&
              number_in(r, "peak_bytes") > 0);
    CU_ASSERT_PTR_NULL(cJSON_GetObjectItem(r, "top1_int8"));
    cJSON_Delete(r);
    CU_ASSERT_TRUE(exists("a/b/last.h5") && exists("a/b/best.h5") && exists("a/b/metrics.jsonl") &&
                   exists("a/b/config.json"));
    CU_ASSERT_FALSE(exists("a/b/int8.h5"));
    size_t size;
    uint8_t *config = contents("a/b/config.json", &size);
    cJSON *c = cJSON_ParseWithLength((const char *)config, size);
    CU_ASSERT(number_in(cJSON_GetObjectItem(c, "options"), "epochs") == 2);
    cJSON_Delete(c);
    oct_free(config);
    /* The same folder again is not overwritten by accident. */
    EXPECT(2, TRAIN "--data %s --output %s/a/b --epochs 2", work, work);
    expect_text(err, "--resume continues it");
    EXPECT(0, TRAIN "--data %s --output %s/a/b --epochs 1 --overwrite", work, work);
}

/* Float, quantization from it, export, evaluation of every kind of file, comparison, inference, benchmark. */
static void whole_path_gives_identical_codes(void)
{
    NEED_PROGRAMS();
    make_idx(160, 60, CLASSES);
    EXPECT(0, TRAIN "--data %s --output %s/f --epochs 4", work, work);
    EXPECT(0,
           "train --quantize --pretrained %s/f/best.h5 --data %s --output %s/q --epochs 3 --batch-size 16 "
           "--json",
           work, work, work);
    expect_text(err, "weights s8 narrow");
    cJSON *r = last_json();
    double int8 = number_in(r, "top1_int8");
    CU_ASSERT_EQUAL(int8, number_in(r, "top1_quantized"));
    CU_ASSERT(number_in(r, "top1_float") >= 0);
    cJSON_Delete(r);
    EXPECT(0, "evaluate %s/q/int8.h5 --data %s --verify %s/q/last.h5 --json", work, work, work);
    r = last_json();
    CU_ASSERT_STRING_EQUAL(text_in(r, "kind"), "int8");
    CU_ASSERT(number_in(r, "codes_differing") == 0 && number_in(r, "codes_compared") > 60 * 1000);
    CU_ASSERT(number_in(r, "outputs_identical") == 60 && number_in(r, "images") == 60 &&
              number_in(r, "top1") == int8);
    CU_ASSERT(number_in(r, "top5") == 100 && number_in(r, "loss") > 0);
    cJSON_Delete(r);
    EXPECT(0, "export %s/q/last.h5 -o %s/q.img --format image --data %s --images 20 --ranges", work, work,
           work);
    expect_text(out, "same scores on 20");
    EXPECT(0, "export %s/q/last.h5 -o %s/q2.h5", work, work);
    CU_ASSERT_TRUE(same_files("q2.h5", "q/int8.h5"));
    EXPECT(0, "evaluate %s/q.img --data %s --json --split=test", work, work);
    r = last_json();
    CU_ASSERT(number_in(r, "top1") == int8);
    cJSON_Delete(r);
    EXPECT(0, "evaluate %s/q/last.h5 --data %s --json", work, work);
    r = last_json();
    CU_ASSERT_STRING_EQUAL(text_in(r, "kind"), "quantized");
    CU_ASSERT(number_in(r, "top1") == int8);
    cJSON_Delete(r);
    EXPECT(0, "evaluate %s/f/last.h5 --data %s", work, work);
    expect_text(out, "float, 60 test images");
    EXPECT(1, "export %s/f/last.h5 -o %s/x.h5", work, work);
    char path[PATH_BYTES];
    CU_ASSERT_TRUE(tiny_bmp(under(path, "one.bmp"), 2, 5));
    EXPECT(0, "infer %s/q.img %s/one.bmp %s/one.bmp --top 2", work, work, work);
    expect_text(out, "one.bmp\n");
    expect_text(out, " %  ");
    EXPECT(1, "infer %s/f/last.h5 %s/one.bmp %s/two.bmp --json", work, work, work);
    expect_text(out, "\"failed\":1");
    EXPECT(0, "bench infer %s/q/int8.h5 --steps 5 --json", work);
    r = last_json();
    CU_ASSERT_STRING_EQUAL(text_in(r, "task"), "bench-infer");
    CU_ASSERT(number_in(r, "ms_p5") <= number_in(r, "ms_median") &&
              number_in(r, "ms_median") <= number_in(r, "ms_p95"));
    cJSON_Delete(r);
}

static void evaluate_changed_weight_code_exits_1(void)
{
    NEED_PROGRAMS();
    make_idx(64, 24, CLASSES);
    EXPECT(0, TRAIN "--quantize --data %s --output %s/q --epochs 1", work, work);
    EXPECT(0, "export %s/q/last.h5 -o %s/m.img --format image", work, work);
    size_t size;
    uint8_t *bytes = contents("m.img", &size);
    oct_arena arena;
    oct_int8_spec spec;
    oct_error error = {0};
    char path[PATH_BYTES];
    oct_arena_init(&arena, 0);
    CU_ASSERT_FATAL(oct_int8_image_parse(&spec, &arena, bytes, size, &error) == OCT_OK);
    int last = spec.layer_count - 1;
    size_t at = (size_t)((const uint8_t *)spec.layers[last].weights - bytes);
    for (int i = 0; i < 8; i++) bytes[at + (size_t)i] = (uint8_t)(bytes[at + (size_t)i] == 5 ? 6 : 5);
    oct_arena_release(&arena);
    CU_ASSERT_FATAL(oct_file_write(under(path, "bad.img"), bytes, size, &error) == OCT_OK);
    EXPECT(1, "evaluate %s/bad.img --data %s --verify %s/q/last.h5", work, work, work);
    expect_text(err, "checksum");
    oct_store_le64(bytes + OCT_INT8_IMAGE_CHECKSUM_AT, oct_int8_image_checksum(bytes, size));
    CU_ASSERT_FATAL(oct_file_write(under(path, "bad.img"), bytes, size, &error) == OCT_OK);
    EXPECT(1, "evaluate %s/bad.img --data %s --verify %s/q/last.h5 --json", work, work, work);
    cJSON *r = last_json();
    CU_ASSERT(number_in(r, "codes_differing") > 0);
    cJSON_Delete(r);
    /* Another checkpoint: said first. */
    EXPECT(0, TRAIN "--quantize --data %s --output %s/other --epochs 1 --seed 2", work, work);
    EXPECT(1, "evaluate %s/m.img --data %s --verify %s/other/last.h5", work, work, work);
    expect_text(err, "was exported from other parameters");
    expect_text(out, "DIFFERENT");
    oct_free(bytes);
}

static void evaluate_damaged_or_unfitting_files_are_refused(void)
{
    NEED_PROGRAMS();
    make_idx(64, 24, CLASSES);
    EXPECT(0, TRAIN "--data %s --output %s/f --epochs 1", work, work);
    size_t size;
    char path[PATH_BYTES], folder[PATH_BYTES];
    oct_error error = {0};
    uint8_t *bytes = contents("f/last.h5", &size);
    CU_ASSERT_FATAL(oct_file_write(under(path, "half.h5"), bytes, size / 2, &error) == OCT_OK);
    oct_free(bytes);
    EXPECT(1, "evaluate %s/half.h5 --data %s", work, work);
    expect_text(err, "half.h5");
    EXPECT(1, "evaluate %s/none.h5 --data %s", work, work);
    expect_text(err, "none.h5");
    EXPECT(1, "train --pretrained %s/half.h5 --data %s --output %s/p", work, work, work);
    expect_text(err, "half.h5");
    mkdir(under(folder, "three"), 0777);
    CU_ASSERT_TRUE_FATAL(tiny_idx(folder, 30, 12, 3));
    EXPECT(1, "evaluate %s/f/last.h5 --data %s", work, folder);
    expect_text(err, "has 4 classes, the data set");
    EXPECT(1, "train --pretrained %s/f/last.h5 --data %s --output %s/p", work, folder, work);
    expect_text(err, "has 4 classes, the data set");
    expect_text(err, "has 3");
    CU_ASSERT_FALSE(exists("p/last.h5"));
    /* With --model the weights are taken; the head of other classes only when that is said. */
    EXPECT(1, TRAIN "--pretrained %s/f/last.h5 --data %s --output %s/p --epochs 1", work, folder, work);
    expect_text(err, "head/weight");
    expect_text(err, "--new-head");
    EXPECT(0, TRAIN "--pretrained %s/f/last.h5 --data %s --output %s/p --epochs 1 --new-head", work, folder, work);
}

static void inspect_any_file_tells_its_kind(void)
{
#define GOLDEN "tests/golden/import/"
    NEED_PROGRAMS();
    EXPECT(0, "inspect %s/f/last.h5", work);
    expect_text(out, "float, image");
    expect_text(out, "total: ");
    EXPECT(0, "inspect %s/q/last.h5 --json", work);
    expect_text(out, "\"event\":\"layer\"");
    expect_text(out, "\"kind\":\"quantized\"");
    EXPECT(0, "inspect %s/q/int8.h5", work);
    expect_text(out, "int8, image");
    EXPECT(0, "inspect " GOLDEN "typed.pth --stats");
    expect_text(out, "PyTorch .pth, 17 tensors");
    EXPECT(0, "inspect " GOLDEN "typed.safetensors --json");
    expect_text(out, "{\"event\":\"tensor\",\"shape\":[2,3,2,2],\"name\":\"f32\",\"elements\":24}");
    expect_text(out, "\"kind\":\"safetensors\",\"tensors\":12");
    EXPECT(1, "inspect " GOLDEN "evil.pth");
    expect_text(err, GOLDEN "evil.pth: the pickle asks for the Python object \"posix.system\"");
    EXPECT(1, "inspect " GOLDEN "typed.pth --model resnet8");
    expect_text(err, "no tensor of the file fits the model");
    EXPECT(1, "inspect %s/none.pth", work);
    expect_text(err, "No such file");
    EXPECT(2, "evaluate " GOLDEN "typed.pth --data %s", work);
    expect_text(err, "holds weights alone (PyTorch .pth): --model NAME");
    EXPECT(2, "train --pretrained " GOLDEN "typed.pth --data %s --output %s/p", work, work);
    expect_text(err, "holds weights alone (PyTorch .pth): --model NAME");
}

/* --- image folders --- */

static void train_unreadable_images_are_counted_and_named(void)
{
    char path[PATH_BYTES];
    NEED_PROGRAMS();
    CU_ASSERT_TRUE_FATAL(mkdir(under(path, "set"), 0777) == 0);
    CU_ASSERT_TRUE_FATAL(tiny_bmp_split(path, "train", 8, 2, 0) && tiny_bmp_split(path, "val", 4, 2, 100));
    FILE *file = fopen(under(path, "set/train/class0/text.jpg"), "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fputs("I am a text.", file);
    fclose(file);
    file = fopen(under(path, "set/val/class1/cut.jpeg"), "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL(file);
    fwrite("\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xdb\0\x43", 1, 24, file);
    fclose(file);
    EXPECT(0, "train --model resnet8 --data %s/set --output %s/r --epochs 2 --batch-size 6 --quiet", work,
           work);
    expect_text(err, "1 unreadable image left out of the train split");
    expect_text(err, "text.jpg");
    EXPECT(0, "evaluate %s/r/last.h5 --data %s/set --json", work, work);
    expect_text(err, "cut.jpeg");
    cJSON *r = last_json();
    CU_ASSERT(number_in(r, "images") == 8);
    cJSON_Delete(r);
    EXPECT(1, "train --model resnet8 --data %s/set --output %s/s --epochs 2 --batch-size 6 --strict", work,
           work);
    expect_text(err, "text.jpg");
    EXPECT(1, "evaluate %s/r/last.h5 --data %s/set --strict", work, work);
    expect_text(err, "cut.jpeg");
    mkdir(under(path, "set/train/empty"), 0777);
    EXPECT(1, "train --model resnet8 --data %s/set --output %s/s --epochs 2", work, work);
    expect_text(err, "empty");
}

/* Images by list; how they come to size is told once and then known to every file of the run. */
static void train_way_of_resizing_is_carried_into_every_file(void)
{
    char path[PATH_BYTES];
    NEED_PROGRAMS();
    CU_ASSERT_TRUE_FATAL(mkdir(under(path, "set"), 0777) == 0);
    FILE *list = fopen(under(path, "set/labels.txt"), "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL(list);
    for (int i = 0; i < 33; i++) {
        char name[32];
        snprintf(name, sizeof name, "set/%02d.bmp", i);
        CU_ASSERT_TRUE(tiny_bmp(under(path, name), i % 3, (uint64_t)i));
        fprintf(list, "%02d.bmp kind-%d\n", i, i % 3);
    }
    fclose(list);
    EXPECT(0,
           TRAIN "--data %s/set --output %s/q --epochs 1 --quantize --resize 12 --interpolation bicubic --jitter 0.2 "
                 "--subset even --augment imagenet",
           work, work);
    static const char *const files[] = {"last.h5", "int8.h5"}, *const flags[] = {"", "--resize 12", "--resize 8"};
    double loss[2][3];
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++) {
            EXPECT(0, "evaluate %s/q/%s --data %s/set --subset odd --json %s", work, files[i], work, flags[k]);
            cJSON *r = last_json();
            CU_ASSERT(number_in(r, "images") == 16);
            loss[i][k] = number_in(r, "loss");
            cJSON_Delete(r);
        }
    for (int i = 0; i < 2; i++) {
        CU_ASSERT(loss[i][0] == loss[i][1]);
        CU_ASSERT(loss[i][0] != loss[i][2]);
    }
    CU_ASSERT(loss[0][0] == loss[1][0]);
    EXPECT(0, "infer %s/q/int8.h5 %s/set/00.bmp", work, work);
    expect_text(out, "kind-");
    EXPECT(2, "evaluate %s/q/int8.h5 --data %s/set --resize 7", work, work);
    expect_text(err, "expected a short side of 8..32768");
    EXPECT(2, "evaluate %s/q/int8.h5 --data %s/set --interpolation lanczos", work, work);
    EXPECT(2, TRAIN "--data %s/set --jitter 0.1,0.2", work);
    EXPECT(2, TRAIN "--data %s/set --jitter 0,0,0,0.6", work);
    list = fopen(under(path, "set/labels.txt"), "a");
    CU_ASSERT_PTR_NOT_NULL_FATAL(list);
    fprintf(list, "../x.bmp kind-0\n");
    fclose(list);
    EXPECT(1, "evaluate %s/q/int8.h5 --data %s/set", work, work);
    expect_text(err, "labels.txt:34: expected a path inside the folder");
}

/* --- stopping and going on --- */

static void nap(int ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static void wait_until(const char *name, pid_t pid)
{
    for (int i = 0; i < 2000 && !exists(name) && !waitpid(pid, NULL, WNOHANG); i++) nap(10);
}

static void train_interrupted_saves_and_exits_130(void)
{
    static const int signals[2] = {SIGINT, SIGTERM};
    NEED_PROGRAMS();
    make_idx(64, 24, CLASSES);
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "r%d/metrics.jsonl", i);
        pid_t pid =
            launch("train --model resnet8 --batch-size 16 --data %s --output %s/r%d --epochs 100000 --json",
                   work, work, i);
        wait_until(name, pid);
        kill(pid, signals[i]);
        expect_status(wait_for(pid), 128 + signals[i], "stopped train");
        expect_text(err, "--resume continues");
        expect_text(out, "\"event\":\"stopped\"");
        EXPECT(0, "evaluate %s/r%d/last.h5 --data %s", work, i, work);
    }
}

static void train_resume_with_other_flags_names_them(void)
{
    NEED_PROGRAMS();
    make_idx(64, 24, CLASSES);
    EXPECT(0, TRAIN "--data %s --output %s/r --epochs 1 --resume", work,
           work); /* nothing there yet: starts afresh */
    EXPECT(2, TRAIN "--data %s --output %s/r --epochs 2 --momentum 0.8 --resume", work, work);
    expect_text(err, "--epochs: the checkpoint has 1, this run 2");
    expect_text(err, "--momentum: the checkpoint has 0.9, this run 0.8");
    EXPECT(0, TRAIN "--data %s --output %s/r --epochs 1 --threads 2 --json --resume", work, work);
    cJSON_Delete(last_json());
    EXPECT(1, TRAIN "--data %s --output %s/out --epochs 1", work, work); /* out is a file here */
    expect_text(err, "out");
}

static void train_killed_and_resumed_ends_with_the_same_bytes(void)
{
    NEED_PROGRAMS();
    make_idx(160, 40, CLASSES);
#define RUN                                                                                                  \
    "train --model resnet8 --quantize --batch-size 16 --quiet --data %s --epochs 8 --seed 3 --save-seconds " \
    "0.000001 --output %s"
    EXPECT(0, RUN "/whole", work, work);
    oct_rng rng = oct_rng_start((uint64_t)time(NULL), OCT_RNG_SYNTHETIC, 0, 0);
    int killed = 0;
    for (int i = 0; i < 6; i++) {
        pid_t pid = launch(RUN "/parts --resume", work, work);
        nap(40 + (int)oct_rng_below(&rng, 300));
        kill(pid, SIGKILL);
        killed += wait_for(pid) == 1000 + SIGKILL;
    }
    EXPECT(0, RUN "/parts --resume", work, work);
    CU_ASSERT(killed >= 1);
    CU_ASSERT_TRUE(same_files("whole/last.h5", "parts/last.h5"));
    CU_ASSERT_TRUE(same_files("whole/best.h5", "parts/best.h5"));
    CU_ASSERT_TRUE(same_files("whole/int8.h5", "parts/int8.h5"));
}

/* --- resources --- */

static void train_full_disk_keeps_the_old_checkpoint(void)
{
    NEED_PROGRAMS();
    make_idx(64, 24, CLASSES);
    pid_t pid =
        launch("train --model resnet8 --batch-size 16 --data %s --output %s/r --epochs 5000", work, work);
    wait_until("r/metrics.jsonl", pid);
    kill(pid, SIGINT);
    expect_status(wait_for(pid), 130, "interrupted train");
    size_t size, size_after;
    uint8_t *before = contents("r/last.h5", &size);
    struct rlimit old, small = {.rlim_cur = 40000};
    getrlimit(RLIMIT_FSIZE, &old);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    int status = run("train --model resnet8 --batch-size 16 --data %s --output %s/r --epochs 5000 --resume",
                     work, work);
    int fresh = run("train --model resnet8 --batch-size 16 --data %s --output %s/n --epochs 1", work, work);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    expect_status(status, 1, "train on a full disk");
    expect_status(fresh, 1, "train on a full disk from the start");
    expect_text(err, ".h5");
    uint8_t *after = contents("r/last.h5", &size_after);
    CU_ASSERT_TRUE(size == size_after && !memcmp(before, after, size));
    CU_ASSERT_FALSE(exists("n/last.h5"));
    char command[PATH_BYTES + 64];
    snprintf(command, sizeof command, "find %s -name '*.tmp-*' | grep -q .", work);
    CU_ASSERT_NOT_EQUAL(system(command), 0); /* no half-written file is left behind */
    oct_free(before);
    oct_free(after);
}

static int run_to(const char *redirect, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pid_t pid = start(redirect, format, args);
    va_end(args);
    return wait_for(pid);
}

/* Nobody reads the results: the work is done all the same, and the status says that something was lost. */
static void train_lost_output_does_not_crash(void)
{
    NEED_PROGRAMS();
    make_idx(64, 24, CLASSES);
    int status =
        run_to(">/dev/full 2>/dev/full", TRAIN "--data %s --output %s/r --epochs 2 --json", work, work);
    expect_status(status, 1, "train into a full device");
    CU_ASSERT_TRUE(exists("r/last.h5"));
    int ends[2];
    CU_ASSERT_FATAL(pipe(ends) == 0);
    char redirect[64];
    snprintf(redirect, sizeof redirect, ">&%d 2>&%d", ends[1], ends[1]);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    close(ends[0]);
    status = run_to(redirect, TRAIN "--data %s --output %s/s --epochs 2 --json", work, work);
    close(ends[1]);
    expect_status(status, 1, "train into a closed pipe");
    CU_ASSERT_TRUE(exists("s/last.h5"));
}

static void bench_any_task_prints_a_result(void)
{
    NEED_PROGRAMS();
    static const char *const tasks[] = {"train --quantize --layers", "train",
                                        "infer --float --batch-size 2 --layers", "infer"};
    for (int i = 0; i < 4; i++) {
        expect_status(
            run("bench %s --model resnet8 --size 16 --batch-size 4 --steps 4 --warmup 1 --json --quiet",
                tasks[i]),
            0, tasks[i]);
        cJSON *r = last_json();
        CU_ASSERT_STRING_EQUAL(text_in(r, "event"), "result");
        CU_ASSERT(number_in(r, "ms_median") > 0 && number_in(r, "images_per_second") > 0);
        CU_ASSERT(number_in(r, "peak_bytes") >= 0);
        cJSON_Delete(r);
    }
    EXPECT(2, "bench fly --model resnet8");
    expect_text(err, "'train', 'infer', 'loader' or 'peak'");
    EXPECT(2, "bench train");
    EXPECT(2, "bench peak --model resnet8");
}

static void bench_loader_prints_rates(void)
{
    NEED_PROGRAMS();
    char path[PATH_BYTES];
    CU_ASSERT_TRUE_FATAL(mkdir(under(path, "set"), 0777) == 0);
    CU_ASSERT_TRUE_FATAL(tiny_bmp_split(path, "train", 8, 2, 0));
    EXPECT(0, "bench loader --data %s/set --size 8 --batch-size 4 --steps 9 --threads 2 --json --quiet", work);
    cJSON *r = last_json();
    CU_ASSERT_STRING_EQUAL(text_in(r, "task"), "bench-loader");
    CU_ASSERT(number_in(r, "images") == 36 && number_in(r, "threads") == 2);
    CU_ASSERT(number_in(r, "images_per_second") > 0 && number_in(r, "images_per_second_core") > 0);
    cJSON_Delete(r);
    EXPECT(2, "bench loader");
    EXPECT(2, "bench loader --data %s/set --model resnet8", work);
    EXPECT(2, "bench train --model resnet8 --data %s/set", work);
    EXPECT(1, "bench loader --data %s/none", work);
}

/* What is counted follows from the model alone: conv2d and linear layers of ResNet-8 at 16x16. */
static void bench_train_accounts_for_work_and_memory(void)
{
    NEED_PROGRAMS();
    double kept[2];
    for (int quantized = 0; quantized < 2; quantized++) {
        EXPECT(0,
               "bench train %s --model resnet8 --size 16 --batch-size 16 --steps 4 --warmup 1 --json --quiet",
               quantized ? "--quantize" : "");
        cJSON *r = last_json();
        double macs = number_in(r, "macs"), peak = number_in(r, "fp32_peak_gflops");
        CU_ASSERT_EQUAL(macs, 3125888);
        CU_ASSERT_EQUAL(number_in(r, "backward_macs"), 2 * macs - 16 * 16 * 16 * 27);
        CU_ASSERT_EQUAL(number_in(r, "int8_macs"), quantized ? macs : 0);
        CU_ASSERT_EQUAL(number_in(r, "parameters"), 78186);
        CU_ASSERT(number_in(r, "batch_size") == 16 && number_in(r, "threads") >= 1);
        kept[quantized] = number_in(r, "activation_bytes");
        CU_ASSERT(kept[quantized] > 0 && kept[quantized] <= number_in(r, "plan_bytes"));
        CU_ASSERT(number_in(r, "gflops") > 0 && peak > 0 && number_in(r, "int8_peak_gops") > 0);
        CU_ASSERT_DOUBLE_EQUAL(number_in(r, "fp32_peak_share"), number_in(r, "gflops") / peak, 1e-3);
        if (!quantized) CU_ASSERT_EQUAL(number_in(r, "peak_share"), number_in(r, "fp32_peak_share"));
        cJSON_Delete(r);
    }
    CU_ASSERT(kept[1] < kept[0] / 2);
}

/* Sums of an event's fields over all lines of `out`, which is left as it is. */
typedef struct event_sum {
    int events;
    double count, ms, share, macs, backward_macs, int8_macs;
} event_sum;

static double number_or_0(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static event_sum sum_events(const char *name)
{
    event_sum s = {0};
    for (const char *line = out; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        cJSON *e = cJSON_ParseWithOpts(line, NULL, false);
        if (!strcmp(text_in(e, "event"), name)) {
            s.events++;
            s.count += number_or_0(e, "count");
            s.ms += number_in(e, "ms");
            s.share += number_in(e, "share");
            s.macs += number_or_0(e, "forward_macs");
            s.backward_macs += number_or_0(e, "backward_macs");
            s.int8_macs += number_or_0(e, "int8_macs");
        }
        cJSON_Delete(e);
    }
    return s;
}

static void bench_layers_add_up_to_the_step(void)
{
    NEED_PROGRAMS();
    static const char *const fields[] = {"forward_ms",      "backward_ms",          "forward_gflops",
                                         "backward_gflops", "forward_peak_share",   "backward_peak_share",
                                         "bytes",           "forward_gb_per_second"};
    for (int quantized = 0; quantized < 2; quantized++) {
        EXPECT(0,
               "bench train %s --layers --model resnet8 --size 16 --batch-size 4 --steps 5 --warmup 1 --json "
               "--quiet",
               quantized ? "--quantize" : "");
        event_sum layers = sum_events("layer"), kinds = sum_events("kind");
        cJSON *first = cJSON_ParseWithOpts(out, NULL, false);
        CU_ASSERT_STRING_EQUAL(text_in(first, "event"), "layer");
        CU_ASSERT(*text_in(first, "output") && *text_in(first, "step") && *text_in(first, "kind"));
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
            CU_ASSERT(number_in(first, fields[i]) >= 0);
        cJSON_Delete(first);
        expect_text(out, quantized ? "\"kind\":\"int8 layer 3x3\"" : "\"kind\":\"conv2d 3x3\"");
        expect_text(out, "\"kind\":\"optimizer and rest\"");
        cJSON *r = last_json();
        CU_ASSERT(layers.events > 10 && kinds.events > 3 && kinds.events < layers.events);
        CU_ASSERT_EQUAL(kinds.count, layers.events);
        CU_ASSERT_DOUBLE_EQUAL(kinds.ms, number_in(r, "ms_median"), 0.01);
        CU_ASSERT_DOUBLE_EQUAL(kinds.share, 1, 0.01);
        CU_ASSERT(layers.macs == 4 * number_in(r, "macs") && kinds.macs == layers.macs);
        CU_ASSERT(layers.backward_macs == 4 * number_in(r, "backward_macs") &&
                  kinds.backward_macs == layers.backward_macs);
        CU_ASSERT_EQUAL(layers.int8_macs, quantized ? layers.macs : 0);
        cJSON_Delete(r);
    }
    EXPECT(0,
           "bench train --layers --model mobilenetv1:width=0.25 --size 32 --batch-size 2 --steps 2 --quiet");
    expect_text(out, "conv2d depthwise 3x3");
    expect_text(out, "optimizer and rest");
    size_t width = 0;
    for (const char *line = out; *line; line += strcspn(line, "\n") + 1)
        if (strcspn(line, "\n") > width) width = strcspn(line, "\n");
    CU_ASSERT(width <= 140);
}

static void bench_peak_prints_both_peaks(void)
{
    NEED_PROGRAMS();
    EXPECT(0, "bench peak --threads 1 --json");
    cJSON *r = last_json();
    CU_ASSERT_STRING_EQUAL(text_in(r, "task"), "bench-peak");
    CU_ASSERT(number_in(r, "threads") == 1);
    CU_ASSERT(number_in(r, "fp32_peak_gflops") > 0 && number_in(r, "int8_peak_gops") > 0);
    CU_ASSERT(*text_in(r, "fp32_level") && *text_in(r, "int8_level"));
    cJSON_Delete(r);
    setenv("OCT_CPU", "c", 1);
    EXPECT(0, "bench peak --threads 1");
    unsetenv("OCT_CPU");
    expect_text(out, "(c), int8 ");
}

static const test_case cases[] = {
    {"all_help_and_version_go_to_stdout", all_help_and_version_go_to_stdout},
    {"train_wrong_usage_exits_2", train_wrong_usage_exits_2},
    {"train_bad_input_is_named", train_bad_input_is_named},
    {"train_json_ends_with_the_result", train_json_ends_with_the_result},
    {"whole_path_gives_identical_codes", whole_path_gives_identical_codes},
    {"evaluate_changed_weight_code_exits_1", evaluate_changed_weight_code_exits_1},
    {"evaluate_damaged_or_unfitting_files_are_refused", evaluate_damaged_or_unfitting_files_are_refused},
    {"inspect_any_file_tells_its_kind", inspect_any_file_tells_its_kind},
    {"train_unreadable_images_are_counted_and_named", train_unreadable_images_are_counted_and_named},
    {"train_way_of_resizing_is_carried_into_every_file", train_way_of_resizing_is_carried_into_every_file},
    {"train_interrupted_saves_and_exits_130", train_interrupted_saves_and_exits_130},
    {"train_resume_with_other_flags_names_them", train_resume_with_other_flags_names_them},
    {"train_killed_and_resumed_ends_with_the_same_bytes", train_killed_and_resumed_ends_with_the_same_bytes},
    {"train_full_disk_keeps_the_old_checkpoint", train_full_disk_keeps_the_old_checkpoint},
    {"train_lost_output_does_not_crash", train_lost_output_does_not_crash},
    {"bench_any_task_prints_a_result", bench_any_task_prints_a_result},
    {"bench_loader_prints_rates", bench_loader_prints_rates},
    {"bench_train_accounts_for_work_and_memory", bench_train_accounts_for_work_and_memory},
    {"bench_layers_add_up_to_the_step", bench_layers_add_up_to_the_step},
    {"bench_peak_prints_both_peaks", bench_peak_prints_both_peaks},
};
TEST_SUITE("cli", cases);
