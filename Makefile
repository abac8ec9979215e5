# SPDX-License-Identifier: BSD-2-Clause
# One non-recursive makefile, no configure step. Every variant builds in build/<variant>/ so that they coexist.
# Settings: CC, CFLAGS (appended last), V=1 (show commands), WERROR=1, VARIANT=release|asan|ubsan|tsan|O0.

VERSION := 0.1.0
VARIANT ?= release
DATA    ?= /usr/share/datasets/fashion-mnist
PREFIX  ?= /usr/local
B       := build/$(VARIANT)
Q       := $(if $(V),,@)
HDF5    := $(shell pkg-config --exists hdf5-serial 2>/dev/null && echo hdf5-serial || echo hdf5)
PKGS    := $(HDF5) zlib libcjson libzip libprotobuf-c
MISSING := $(shell for p in $(PKGS) cunit; do pkg-config --exists $$p 2>/dev/null || echo $$p; done)

OPT_release := -O3
OPT_asan    := -O1 -fsanitize=address -fno-omit-frame-pointer
OPT_ubsan   := -O1 -fsanitize=undefined -fno-sanitize-recover=undefined
OPT_O0      := -O0

WARNINGS := -Wall -Wextra -Wshadow -Wundef -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wconversion \
            -Wdouble-promotion $(if $(WERROR),-Werror)
# IEEE arithmetic: no fast-math and no contraction. -fno-math-errno and -fno-trapping-math change no value,
# they only say that nobody reads errno or the exception flags.
LANGUAGE   := -std=c11 -D_GNU_SOURCE -DOCT_VERSION='"$(VERSION)"' -I.
COMMON     := -fopenmp -pthread -ffp-contract=off -fno-math-errno -fno-trapping-math -fvisibility=hidden $(WARNINGS)
ALL_CFLAGS := $(LANGUAGE) $(shell pkg-config --cflags $(PKGS) 2>/dev/null) -isystem /usr/include/stb -g $(OPT_$(VARIANT)) \
              $(COMMON) $(CFLAGS)
LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm
LDALL := $(OPT_$(VARIANT)) -fopenmp -pthread $(LDFLAGS)

LIB_DIRS := autograd/base autograd/kernels autograd layers layers/import quant quant/ptq quant/int8 quant/int8/kernels optim datasets train
LIB_SRC  := $(foreach d,$(LIB_DIRS),$(wildcard $(d)/*.c))
ENGINE_SRC := $(wildcard autograd/base/*.c quant/int8/*.c quant/int8/kernels/*.c)
CLI_PARTS := args bench_account bench_layers bench_loader data load peak progress report train_final train_options train_setup spin
CLI_SHARED := $(CLI_PARTS:%=train/cli/%.c)
PROGRAMS := $(filter-out $(CLI_PARTS),$(basename $(notdir $(wildcard train/cli/*.c))))
TESTS    := $(basename $(notdir $(wildcard tests/test_*.c)))

obj = $(patsubst %.c,$(B)/%.o,$(1))
# ONNX's messages, from our own description of them.
ONNX     := $(B)/layers/import/onnx.pb-c
LIB      := $(B)/liboctet.a
ENGINE   := $(B)/liboctet-int8.a
BIN      := $(if $(filter release,$(VARIANT)),bin,$(B)/bin)
TEST_BIN := $(addprefix $(B)/tests/,$(TESTS))
CHECKKERN := $(B)/tests/checkkern/checkkern

.PHONY: FORCE examples all test check check-arm run-arm lint fuzz asan ubsan valgrind bench bench-peers demo deps format install uninstall clean help
.DEFAULT_GOAL := all
.SECONDARY:

all: $(LIB) $(ENGINE) $(addprefix $(BIN)/,$(PROGRAMS)) ## build the libraries and the programs in bin/

# A change of compiler or flags rebuilds everything.
$(B)/settings: FORCE
	@[ -z "$(MISSING)" ] || { echo "make: missing packages: $(MISSING). 'make deps' installs them." >&2; exit 1; }
	@mkdir -p $(B); echo '$(CC) $(subst ','\'',$(ALL_CFLAGS))' | cmp -s - $@ || echo '$(CC) $(subst ','\'',$(ALL_CFLAGS))' > $@
FORCE:

$(B)/%.o: %.c $(B)/settings
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(ONNX).c: layers/import/onnx.proto
	@mkdir -p $(@D)
	$(Q)protoc-c --c_out=$(B) $<
$(ONNX).o: $(ONNX).c $(B)/settings
	$(Q)$(CC) $(ALL_CFLAGS) -w -I$(B) -c $< -o $@
$(B)/layers/import/onnx_file.o: private ALL_CFLAGS += -I$(B)
$(B)/layers/import/onnx_file.o: $(ONNX).c

$(LIB): $(call obj,$(LIB_SRC)) $(ONNX).o
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

# The engine alone, as it links into a user's program: no trainer, no HDF5, no stb_image.
$(ENGINE): $(call obj,$(ENGINE_SRC))
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(BIN)/%: $(B)/train/cli/%.o $(call obj,$(CLI_SHARED)) $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDALL) $^ $(LIBS) -o $@

$(B)/tests/test_%: $(B)/tests/test_%.o $(B)/tests/testing.o $(LIB)
	$(Q)$(CC) $(LDALL) $^ $(LIBS) -lcunit -o $@

$(CHECKKERN): $(call obj,$(wildcard tests/checkkern/*.c)) $(LIB)
	$(Q)$(CC) $(LDALL) $^ $(LIBS) -o $@

# The programs of docs/ are compiled with all warnings and run.
$(B)/docs/%: $(B)/docs/%.o $(LIB)
	$(Q)$(CC) $(LDALL) $^ $(LIBS) -o $@

EXAMPLES := $(B)/docs/example_train $(B)/docs/example_infer
examples: $(EXAMPLES)
	$(Q)cd $(B)/docs && ./example_train && head -c 256 /dev/zero > pixels && ./example_infer example.oct8 pixels

test: all $(TEST_BIN) $(CHECKKERN) examples ## build and run all CUnit suites and a quick checkkern
	$(Q)BIN=$(BIN) B=$(B) tests/run $(TEST_BIN) $(CHECKKERN)

check: ## the gate before a commit: test, lint, full checkkern, the other levels
	$(Q)$(MAKE) --no-print-directory test
	$(Q)$(MAKE) --no-print-directory lint
	$(Q)$(CHECKKERN) --full
	$(Q)OCT_CPU=c tests/run $(addprefix $(B)/tests/,test_ops test_ops_elementwise test_quantize test_golden)
	$(Q)OCT_CPU=avx2 tests/run $(addprefix $(B)/tests/,test_ops test_ops_elementwise test_quantize test_golden)

# The base, the kernels, the engine, checkkern and a program that runs whole models; nothing that needs other libraries.
ARM_CC     ?= aarch64-linux-gnu-gcc
ARM_QEMU   ?= qemu-aarch64 -L /usr/aarch64-linux-gnu
ARM_B      := build/arm64
ARM_CFLAGS := $(LANGUAGE) -g -O3 $(COMMON) $(CFLAGS)
arm_obj     = $(patsubst %.c,$(ARM_B)/%.o,$(1))
ARM_OBJ    := $(call arm_obj,$(ENGINE_SRC) $(wildcard autograd/kernels/*.c))
ARM_TOOLS   = command -v $(firstword $(ARM_CC)) && command -v $(firstword $(ARM_QEMU))

check-arm: ## cross-compile the engine for ARM; checkkern and whole models under qemu
	$(Q)if $(ARM_TOOLS) > /dev/null; then $(MAKE) --no-print-directory run-arm; else \
	  echo "check-arm: SKIPPED, nothing was compiled or run: $(firstword $(ARM_CC)) or $(firstword $(ARM_QEMU)) is missing" \
	  "(Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"; fi

run-arm: $(B)/tests/arm/engine $(ARM_B)/tests/arm/engine $(ARM_B)/tests/checkkern/checkkern
	$(Q)tests/arm/run $(B) $(ARM_B) $(ARM_QEMU)

$(ARM_B)/settings: FORCE
	@mkdir -p $(ARM_B); echo '$(ARM_CC) $(subst ','\'',$(ARM_CFLAGS))' | cmp -s - $@ || echo '$(ARM_CC) $(subst ','\'',$(ARM_CFLAGS))' > $@

$(ARM_B)/%.o: %.c $(ARM_B)/settings
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC arm64 $<")
	$(Q)$(ARM_CC) $(ARM_CFLAGS) -MMD -MP -c $< -o $@

$(B)/tests/arm/engine: $(B)/tests/arm/engine.o $(ENGINE)
	$(Q)$(CC) $(LDALL) $^ -lm -o $@

$(ARM_B)/tests/arm/engine: $(ARM_B)/tests/arm/engine.o $(ARM_OBJ)
	$(Q)$(ARM_CC) -fopenmp -pthread $(LDFLAGS) $^ -lm -o $@

$(ARM_B)/tests/checkkern/checkkern: $(call arm_obj,$(wildcard tests/checkkern/*.c)) $(ARM_OBJ)
	$(Q)$(ARM_CC) -fopenmp -pthread $(LDFLAGS) $^ -lm -o $@

lint: $(LIB) ## include layers, headers alone, symbol prefix, white space
	$(Q)tests/lint

asan ubsan: ## build and run the tests under a sanitizer
	$(Q)$(MAKE) --no-print-directory VARIANT=$@ test

# Valgrind does not know AVX-512, hence the level. test_golden is left out: ten training steps of ResNet-8 take it half an hour.
valgrind: all $(TEST_BIN) ## unit tests (without checkkern, golden and the command line) under memcheck
	$(Q)for t in $(filter-out %test_cli %test_golden,$(TEST_BIN)); do echo "$$t"; OCT_CPU=avx2 OMP_WAIT_POLICY=passive valgrind -q --error-exitcode=9 \
	  --leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite --suppressions=tests/valgrind.supp $$t || exit 1; done

# The readers of other people's files under libFuzzer. What is found goes to build/fuzz/corpus; crashes to build/fuzz.
FUZZ_CC      ?= clang
FUZZ_SECONDS ?= 60
FUZZ_B       := build/fuzz
FUZZ_DIRS    := autograd/base layers/import
FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_CFLAGS  := $(LANGUAGE) $(shell pkg-config --cflags $(PKGS) 2>/dev/null) -g -O1 -fno-omit-frame-pointer \
                -fsanitize=address,undefined -fno-sanitize-recover=undefined
fuzz_obj      = $(patsubst %.c,$(FUZZ_B)/%.o,$(1))

fuzz: $(FUZZ_TARGETS:%=$(FUZZ_B)/fuzz_%) ## fuzz the readers with clang's libFuzzer, FUZZ_SECONDS=60 each
	$(Q)for t in $(FUZZ_TARGETS); do mkdir -p $(FUZZ_B)/corpus/$$t; d=tests/fuzz/$$t.dict; \
	  $(FUZZ_B)/fuzz_$$t -max_total_time=$(FUZZ_SECONDS) -max_len=16384 -rss_limit_mb=4096 -timeout=20 -print_final_stats=1 \
	    -artifact_prefix=$(FUZZ_B)/$$t- $$([ -f $$d ] && echo -dict=$$d) \
	    $(FUZZ_B)/corpus/$$t tests/fuzz/corpus/$$t tests/golden/import > $(FUZZ_B)/$$t.log 2>&1 \
	    || { tail -n 40 $(FUZZ_B)/$$t.log; exit 1; }; \
	  echo "$$t: $$(sed -n 's/stat::number_of_executed_units: //p' $(FUZZ_B)/$$t.log) inputs, nothing found"; done

$(FUZZ_B)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC fuzz $<")
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@

$(FUZZ_B)/liboctet.a: $(call fuzz_obj,$(foreach d,$(FUZZ_DIRS),$(wildcard $(d)/*.c)))
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(FUZZ_B)/fuzz_%: $(FUZZ_B)/tests/fuzz/fuzz_%.o $(FUZZ_B)/liboctet.a
	$(Q)$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer $^ $(LIBS) -o $@

bench: all $(CHECKKERN) ## kernels (ratio to C), then training and inference of ResNet-8
	$(Q)$(CHECKKERN) --bench
	$(Q)$(BIN)/bench train --model resnet8 --batch-size 128
	$(Q)$(BIN)/bench train --model resnet8 --batch-size 128 --quantize
	$(Q)$(BIN)/bench infer --model resnet8 --batch-size 1
	$(Q)$(BIN)/bench infer --model resnet8 --batch-size 64

bench-peers: all ## training against PyTorch, int8 inference against three runtimes; PEERS=python that has them
	$(Q)$(if $(PEERS),$(PEERS),python3) tests/peers/train.py $(BIN)
	$(Q)$(if $(PEERS),$(PEERS),python3) tests/peers/infer.py $(BIN)

demo: deps ## install what is missing, then float -> quantized training -> int8 on Fashion-MNIST, in one table
	$(Q)$(MAKE) --no-print-directory -s all
	$(Q)BIN=$(BIN) DATA='$(DATA)' train/demo/run

deps: ## install the Debian packages that are missing (root or sudo)
	$(Q)tests/deps

format: ## clang-format over all sources
	clang-format -i $(shell git ls-files '*.c' '*.h')

PUBLIC_DIRS := autograd/base autograd/kernels autograd layers layers/import quant quant/ptq quant/int8 optim datasets train
install: all ## libraries, headers, programs octet-*, pkg-config file below DESTDIR/PREFIX
	$(Q)install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig
	$(Q)for p in $(PROGRAMS); do install -m 755 $(BIN)/$$p $(DESTDIR)$(PREFIX)/bin/octet-$$p; done
	$(Q)install -m 644 $(LIB) $(ENGINE) $(DESTDIR)$(PREFIX)/lib/
	$(Q)for d in $(PUBLIC_DIRS); do install -d $(DESTDIR)$(PREFIX)/include/octet/$$d; \
	  for h in $$(ls $$d/*.h | grep -v _internal.h | grep -v _tmpl.h); do install -m 644 $$h $(DESTDIR)$(PREFIX)/include/octet/$$d/; done; done
	$(Q)install -m 644 octet.h $(DESTDIR)$(PREFIX)/include/octet/
	$(Q)printf 'Name: octet\nDescription: quantization-aware training and int8 inference\nVersion: $(VERSION)\nRequires: $(PKGS)\nCflags: -I$(PREFIX)/include/octet\nLibs: -L$(PREFIX)/lib -loctet -fopenmp -lm\n' > $(DESTDIR)$(PREFIX)/lib/pkgconfig/octet.pc
	$(Q)printf 'Name: octet-int8\nDescription: int8 inference engine\nVersion: $(VERSION)\nCflags: -I$(PREFIX)/include/octet\nLibs: -L$(PREFIX)/lib -loctet-int8 -fopenmp -lm\n' > $(DESTDIR)$(PREFIX)/lib/pkgconfig/octet-int8.pc

uninstall: ## remove what install put there
	$(Q)for p in $(PROGRAMS); do rm -f $(DESTDIR)$(PREFIX)/bin/octet-$$p; done
	$(Q)rm -f $(DESTDIR)$(PREFIX)/lib/liboctet.a $(DESTDIR)$(PREFIX)/lib/liboctet-int8.a $(DESTDIR)$(PREFIX)/lib/pkgconfig/octet.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig/octet-int8.pc
	$(Q)rm -rf $(DESTDIR)$(PREFIX)/include/octet

clean: ## remove everything built
	rm -rf build bin

help: ## this text
	@grep -hE '^[a-z][a-z -]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z -]+):.*## (.*)/  \1\t\2/' | expand -t 20

-include $(wildcard $(foreach d,$(LIB_DIRS) train/cli tests tests/checkkern tests/arm docs,$(B)/$(d)/*.d $(ARM_B)/$(d)/*.d)) \
  $(wildcard $(foreach d,$(FUZZ_DIRS) tests/fuzz,$(FUZZ_B)/$(d)/*.d))
