# The build of gatehouse, in plain GNU make. `make help` lists the targets.
#
# Sources are found by wildcard: a new file needs no edit here. Everything made goes into $(BUILD)
# (configure --builddir=DIR, then make BUILD=DIR), so that several builds live side by side.
#
# The targets run, check, bench, soak, fuzz and lint first install what is missing (tools/install-deps,
# which says what it does) and then call make again, because the flags below are only known once
# configure has found the libraries. The others never touch the system.

BUILD ?= build
ASAN_BUILD ?= $(BUILD)-asan
FUZZ_BUILD ?= $(BUILD)-fuzz
FUZZ_SECONDS ?= 60
PYTHON ?= /usr/bin/python3
ARGS ?=

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

bootstrapping := run check bench soak fuzz lint help clean distclean dist format
goals := $(or $(MAKECMDGOALS),all)

.PHONY: all run check check-unit check-fault check-conf check-e2e lint format fuzz bench soak \
        install uninstall dist clean distclean help

# ---- Targets that work before anything is configured -------------------------------------------

help:
	@echo 'all          the programs, in $(BUILD)/'
	@echo 'run          build and serve conf/demo.conf, without root'
	@echo 'check        build, lint, every test, also under the sanitizers'
	@echo 'check-unit check-fault check-conf check-e2e   one kind of test'
	@echo 'lint         clang-format, clang-tidy, the house rules'
	@echo 'format       let clang-format rewrite the sources'
	@echo 'fuzz         each fuzzer for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'bench soak   measure; hold out (ARGS=... is passed on)'
	@echo 'install uninstall   with DESTDIR= and the paths given to configure'
	@echo 'dist clean distclean'

run:
	@tools/install-deps build
	@$(MAKE) -j$(JOBS) all
	@if [ -e conf/demo.txt ]; then cat conf/demo.txt; fi
	$(BUILD)/gatehouse --foreground -c conf/demo.conf $(ARGS)

check:
	@tools/install-deps build lint test
	@$(MAKE) -j$(JOBS) check-all

lint:
	@tools/install-deps build lint
	@$(MAKE) -j$(JOBS) lint-all

fuzz:
	@tools/install-deps build fuzz
	@$(MAKE) -j$(JOBS) fuzz-all

bench:
	@tools/install-deps build bench
	@$(MAKE) -j$(JOBS) all
	GATEHOUSE=$(BUILD)/gatehouse GATEHOUSE_BUILD=$(BUILD) t/bench/run $(ARGS)

soak:
	@tools/install-deps build test
	@$(MAKE) -j$(JOBS) all
	$(PYTHON) tools/check --build $(BUILD) soak

JOBS ?= $(shell nproc 2>/dev/null || echo 2)

formatted := $(wildcard src/*.cc src/*/*.h src/*/*.cc t/unit/*.cc t/unit/*.h t/fault/*.cc \
               t/fault/*.h t/fuzz/*.cc t/fuzz/*.h t/bench/*.cc t/bench/*.h)

format:
	clang-format -i $(formatted)

dist:
	tools/make-dist

clean:
	rm -rf $(BUILD)/obj $(BUILD)/test $(BUILD)/libgatehouse.a $(BUILD)/gatehouse \
	  $(BUILD)/unit_tests $(BUILD)/results $(ASAN_BUILD) $(FUZZ_BUILD)

distclean:
	rm -rf $(BUILD) $(ASAN_BUILD) $(FUZZ_BUILD)

# ---- What configure found ----------------------------------------------------------------------

ifneq ($(filter-out $(bootstrapping),$(goals)),)
include $(BUILD)/config.mk
endif

# A configured folder repeats its own choices; the folder for the sanitizers has fixed ones.
$(BUILD)/config.mk: configure VERSION
	@if [ -x $(BUILD)/config.status ]; then $(BUILD)/config.status; \
	else ./configure --builddir=$(BUILD); fi

# ---- Flags -------------------------------------------------------------------------------------

CPPFLAGS = -Isrc -I$(BUILD) $(PACKAGE_CFLAGS)
CXXFLAGS_ALL = -std=c++20 -pthread $(OPTIMISE) $(HARDENING) $(SANITIZE) $(WARNINGS) $(EXTRA_CXXFLAGS)
LDFLAGS_ALL = -pthread $(OPTIMISE) $(HARDENING) $(SANITIZE) $(LINK_HARDENING) $(EXTRA_LDFLAGS)
# The tests' frameworks expand to code that these warnings dislike.
test_warnings = -Wno-conversion -Wno-shadow -Wno-cast-qual -Wno-extra-semi

compile = $(CXX) $(CPPFLAGS) $(CXXFLAGS_ALL) -MMD -MP

# ---- Sources -----------------------------------------------------------------------------------

left_out := $(WITHOUT_MODULES:%=src/modules/%.cc)
library_sources := $(filter-out $(left_out),$(sort $(wildcard src/core/*.cc src/http/*.cc \
                     src/modules/*.cc)))
library_objects := $(library_sources:%.cc=$(BUILD)/obj/%.o)
library := $(BUILD)/libgatehouse.a

# Until the program's entry exists there is only the library.
programs := $(patsubst src/%.cc,$(BUILD)/%,$(wildcard src/gatehouse.cc))

unit_sources := $(filter-out $(WITHOUT_MODULES:%=t/unit/test_%.cc),$(sort $(wildcard t/unit/*.cc)))
unit_objects := $(unit_sources:%.cc=$(BUILD)/obj/%.o)
fault_sources := $(sort $(wildcard t/fault/test_*.cc))
fault_programs := $(fault_sources:t/fault/%.cc=$(BUILD)/test/fault/%)

all: $(programs) $(library)

$(BUILD)/obj/src/%.o: src/%.cc $(BUILD)/config.mk
	@mkdir -p $(@D)
	$(compile) $(LTO) -c $< -o $@

$(BUILD)/obj/t/%.o: t/%.cc $(BUILD)/config.mk
	@mkdir -p $(@D)
	$(compile) $(test_warnings) $(LTO) -c $< -o $@

# The list of members is a prerequisite too, so that a deleted source leaves the archive.
$(library): $(library_objects) $(BUILD)/library.list
	@rm -f $@
	$(AR) rcs $@ $(library_objects)

$(BUILD)/library.list: FORCE
	@echo $(library_objects) | cmp -s - $@ || echo $(library_objects) > $@

$(BUILD)/gatehouse: $(BUILD)/obj/src/gatehouse.o $(library)
	$(CXX) $(LDFLAGS_ALL) $(LTO) $^ $(PACKAGE_LIBS) -o $@

$(BUILD)/unit_tests: $(unit_objects) $(library) $(BUILD)/unit.list
	$(CXX) $(LDFLAGS_ALL) $(LTO) $(unit_objects) $(library) $(PACKAGE_LIBS) -lcriterion -o $@

$(BUILD)/unit.list: FORCE
	@echo $(unit_objects) | cmp -s - $@ || echo $(unit_objects) > $@

# `// wrap: write fsync` at the top of a fault test becomes -Wl,--wrap=write -Wl,--wrap=fsync.
wrap_flags = $(shell sed -n 's,^// wrap:,,p' $(1) | tr -s ' ' '\n' | sed -n 's/^\(..*\)$$/-Wl,--wrap=\1/p')

$(BUILD)/test/fault/%: $(BUILD)/obj/t/fault/%.o $(library)
	@mkdir -p $(@D)
	$(CXX) $(LDFLAGS_ALL) $(call wrap_flags,t/fault/$*.cc) $^ $(PACKAGE_LIBS) -lcmocka -o $@

.PRECIOUS: $(BUILD)/obj/t/fault/%.o

# ---- Tests -------------------------------------------------------------------------------------

# Each part prints its framework's output and adds to the closing "N passed, N failed".
test_programs := $(if $(unit_sources),$(BUILD)/unit_tests) $(fault_programs)

check-unit: $(filter %/unit_tests,$(test_programs))
	@$(PYTHON) tools/check --build $(BUILD) unit

check-fault: $(fault_programs)
	@$(PYTHON) tools/check --build $(BUILD) fault

check-conf: $(programs)
	@$(PYTHON) tools/check --build $(BUILD) conf

check-e2e: $(programs)
	@$(PYTHON) tools/check --build $(BUILD) e2e

.PHONY: tests FORCE
tests: $(test_programs)
FORCE:

-include $(wildcard $(BUILD)/obj/src/*.d $(BUILD)/obj/*/*/*.d)
