# The build of gatehouse, in plain GNU make. `make help` lists the targets.
#
# Sources are found by wildcard: a new file needs no edit here. Everything made goes into $(BUILD)
# (configure --builddir=DIR, then make BUILD=DIR), so that several builds live side by side.
#
# The targets run, check, bench, soak, fuzz and lint first install what is missing (with
# tools/install-deps, which says what it does) and then call make again, because the flags below are
# only known once configure has found the libraries. The others never touch the system.

BUILD ?= build
ASAN_BUILD ?= $(BUILD)-asan
FUZZ_BUILD ?= $(BUILD)-fuzz
FUZZ_SECONDS ?= 60
PYTHON ?= /usr/bin/python3
ARGS ?=

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
# Keep objects that only a pattern rule knows of.
.SECONDARY:
# One short line for each step; V=1 shows the commands.
quiet := $(if $(filter 1,$(V)),,@)
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

bootstrapping := run check bench soak fuzz lint help clean distclean dist format
goals := $(or $(MAKECMDGOALS),all)

.PHONY: all run check check-unit check-fault check-conf check-e2e lint format man fuzz bench \
        soak soak-all install uninstall dist clean distclean help

# ---- Targets that work before anything is configured -------------------------------------------

help:
	@echo 'all          the programs, in $(BUILD)/'
	@echo 'run          build and serve conf/demo.conf, without root'
	@echo 'check        build, lint, every test, also under the sanitizers'
	@echo 'check-unit check-fault check-conf check-e2e   one kind of test'
	@echo 'lint         clang-format, clang-tidy, the house rules'
	@echo 'format       let clang-format rewrite the sources'
	@echo 'man          write man/gatehouse.conf.5 anew from the directive tables'
	@echo 'fuzz         each fuzzer for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'bench soak   measure; hold out (ARGS=... is passed on)'
	@echo 'install uninstall   with DESTDIR= and the paths given to configure'
	@echo 'dist clean distclean'

run:
	@tools/install-deps build
	@$(MAKE) $(jobs) all
	@if [ -e conf/demo.txt ]; then cat conf/demo.txt; fi
	$(BUILD)/gatehouse --foreground -c conf/demo.conf $(ARGS)

check:
	@tools/install-deps build style test
	@$(MAKE) $(jobs) check-all

lint:
	@tools/install-deps build style lint
	@$(MAKE) $(jobs) --keep-going lint-all

fuzz:
	@tools/install-deps build fuzz
	@$(MAKE) $(jobs) fuzz-all

bench:
	@tools/install-deps build bench
	@$(MAKE) $(jobs) all
	GATEHOUSE=$(abspath $(BUILD))/gatehouse GATEHOUSE_BUILD=$(abspath $(BUILD)) t/bench/run $(ARGS)

soak:
	@tools/install-deps build test
	@$(MAKE) $(jobs) soak-all

JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# As many jobs as there are processors, unless -j already says.
jobs = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(JOBS))

formatted := $(wildcard src/*.h src/*.cc src/*/*.h src/*/*.cc t/*/*.h t/*/*.cc)

# The manual of the configuration comes from the directive tables; it is committed.
man: all
	@$(BUILD)/gatehouse reference --man > $(BUILD)/reference.man
	sed -e '/^@REFERENCE@$$/{' -e 'r $(BUILD)/reference.man' -e 'd' -e '}' \
	  man/gatehouse.conf.5.in > man/gatehouse.conf.5

format:
	clang-format -i $(formatted)

# What is committed, nothing else.
dist: version := $(shell cat VERSION)
dist:
	@mkdir -p $(BUILD)
	@git diff --quiet HEAD || echo 'dist: uncommitted changes stay out of the archive' >&2
	git archive --format=tar.gz --prefix=gatehouse-$(version)/ \
	  -o $(BUILD)/gatehouse-$(version).tar.gz HEAD
	@echo $(BUILD)/gatehouse-$(version).tar.gz

# Keeps what configure found; distclean keeps nothing.
clean:
	rm -rf $(BUILD)/obj $(BUILD)/test $(BUILD)/tidy $(BUILD)/*.a $(BUILD)/gatehouse \
	  $(BUILD)/gatehouse-agent $(BUILD)/unit_tests $(BUILD)/*.list $(ASAN_BUILD) $(FUZZ_BUILD)

distclean:
	rm -rf $(BUILD) $(ASAN_BUILD) $(FUZZ_BUILD)

# ---- What configure found ----------------------------------------------------------------------

ifneq ($(filter-out $(bootstrapping),$(goals)),)
include $(BUILD)/config.mk
endif

# A configured folder repeats its own choices; the folder for the sanitizers has fixed ones.
$(BUILD)/config.mk: configure VERSION
	@if [ -x $(BUILD)/config.status ]; then $(BUILD)/config.status; \
	else ./configure --builddir=$(BUILD) \
	  $(if $(filter %-asan,$(BUILD)),--with-sanitizer=$(sanitizers)); fi

sanitizers := address,undefined
configure_sanitized = CXX='$(CXX)' ./configure --builddir=$(ASAN_BUILD) \
  --with-sanitizer=$(sanitizers) $(WITHOUT_MODULES:%=--without-%) >/dev/null
$(ASAN_BUILD)/config.mk: $(BUILD)/config.mk
	@$(configure_sanitized)

$(FUZZ_BUILD)/config.mk: configure VERSION
	@CXXFLAGS=-fsanitize=fuzzer-no-link ./configure --builddir=$(FUZZ_BUILD) --cxx=clang++ \
	  --with-sanitizer=$(sanitizers) >/dev/null

# ---- Flags -------------------------------------------------------------------------------------

CPPFLAGS = -Isrc -I$(BUILD) $(PACKAGE_CFLAGS)
CXXFLAGS_ALL = -std=c++20 -pthread $(OPTIMISE) $(HARDENING) $(SANITIZE) $(WARNINGS) \
               $(EXTRA_CXXFLAGS)
LDFLAGS_ALL = -pthread $(OPTIMISE) $(HARDENING) $(SANITIZE) $(LINK_HARDENING) $(EXTRA_LDFLAGS)
# Tests are linked from the same objects without LTO, which would undo the fault tests' wrapping.
no_lto = $(if $(LTO),-fno-lto)
# The tests' frameworks expand to code that these warnings dislike.
test_warnings = -Wno-conversion -Wno-shadow -Wno-cast-qual -Wno-extra-semi
# What is tested is optimised, not the tests: that would be half of the time to build (and fortified
# headers ask for some).
test_optimise = $(if $(filter -O0,$(OPTIMISE)),,$(if $(SANITIZE),-O0,-Og -g1))
test_flags = $(test_warnings) $(test_optimise)

compile = $(CXX) $(CPPFLAGS) $(CXXFLAGS_ALL) -MMD -MP

# For the sanitizers' build g++ parses what most files include once: two files of one name, the
# header and what was made of it, which g++ takes where the flags are the same. Not for the usual
# build: with -O2 gcc 12 then warns of code that is right, and so each source is also compiled on
# its own. `make PCH=` does without.
PCH ?= $(and $(filter gcc,$(CXX_FAMILY)),$(SANITIZE))
precompiled = $(if $(PCH),$(BUILD)/obj/$(1)/precompiled.h.gch)
use_precompiled = $(if $(PCH),-fpch-preprocess -include $(BUILD)/obj/$(1)/precompiled.h)
# ccache takes part only where it is told that this is meant.
export CCACHE_SLOPPINESS ?= pch_defines,time_macros

# ---- Sources -----------------------------------------------------------------------------------

left_out := $(WITHOUT_MODULES:%=src/modules/%.cc)
library_sources := $(filter-out $(left_out),$(sort $(wildcard src/core/*.cc src/http/*.cc \
                     src/modules/*.cc src/cli/*.cc)))
library_objects := $(library_sources:%.cc=$(BUILD)/obj/%.o)
library := $(BUILD)/libgatehouse.a

# The agent is a program of its own, so that what only it needs is not in the workers.
agent_sources := $(sort $(wildcard src/agent/*.cc))
agent_objects := $(agent_sources:%.cc=$(BUILD)/obj/%.o)
agent_library := $(BUILD)/libgatehouse-agent.a

entries := $(wildcard src/gatehouse.cc src/gatehouse_agent.cc)
programs := $(addprefix $(BUILD)/,$(subst _,-,$(entries:src/%.cc=%)))

unit_sources := $(filter-out $(WITHOUT_MODULES:%=t/unit/test_%.cc),$(sort $(wildcard t/unit/*.cc)))
unit_objects := $(unit_sources:%.cc=$(BUILD)/obj/%.o)
fault_sources := $(sort $(wildcard t/fault/test_*.cc))
fault_programs := $(fault_sources:t/fault/%.cc=$(BUILD)/test/fault/%)

# What end-to-end tests need that Python cannot do.
e2e_programs := $(patsubst t/e2e/%.cc,$(BUILD)/test/e2e/%,$(wildcard t/e2e/*.cc))

# The clients and the server of the tests that measure reloads.
load_programs := $(patsubst t/load/%.cc,$(BUILD)/load/%,$(wildcard t/load/*.cc))

all: $(programs)

# Objects are as old as the command that made them, not as configure's last run.
$(BUILD)/flags.list: FORCE
	@echo '$(compile) $(test_flags) $(LTO)$(if $(PCH), PCH)' | cmp -s - $@ || \
	  echo '$(compile) $(test_flags) $(LTO)$(if $(PCH), PCH)' > $@

# With -MD they are made anew after a change of the system's headers too.
$(BUILD)/obj/src/precompiled.h.gch: flags = $(LTO)
$(BUILD)/obj/t/unit/precompiled.h.gch: flags = $(test_flags)
$(BUILD)/obj/%.h.gch: %.h $(BUILD)/flags.list
	@mkdir -p $(@D)
	@echo "c++ $@"
	@echo '#include "$(abspath $<)"' > $(@:.gch=)
	$(quiet)$(compile:-MMD=-MD) $(flags) -x c++-header $(@:.gch=) -o $@

$(BUILD)/obj/src/%.o: src/%.cc $(BUILD)/flags.list $(call precompiled,src)
	@mkdir -p $(@D)
	@echo "c++ $@"
	$(quiet)$(compile) $(call use_precompiled,src) $(LTO) $(uncovered) -c $< -o $@

# clang 14 fails to write the coverage tables of some coroutines ("difference across sections"). No
# fuzzer goes through them: they are sanitized there, but not counted.
coroutine_files := h1_client_side h1_session proxy tunnel
$(coroutine_files:%=$(BUILD)/obj/src/http/%.o): uncovered = \
  $(if $(findstring fuzzer-no-link,$(compile)),-fno-sanitize=fuzzer-no-link)

$(unit_objects): $(call precompiled,t/unit)
$(unit_objects): used_header = $(call use_precompiled,t/unit)
$(BUILD)/obj/t/%.o: t/%.cc $(BUILD)/flags.list
	@mkdir -p $(@D)
	@echo "c++ $@"
	$(quiet)$(compile) $(used_header) $(test_flags) -c $< -o $@

# The list of members is a prerequisite too, so that a deleted source leaves the archive.
$(library): $(library_objects) $(BUILD)/library.list
	@rm -f $@
	$(quiet)$(AR) rcs $@ $(library_objects)

$(BUILD)/library.list: FORCE
	@echo $(library_objects) | cmp -s - $@ || echo $(library_objects) > $@

$(agent_library): $(agent_objects) $(BUILD)/agent_library.list
	@rm -f $@
	$(quiet)$(AR) rcs $@ $(agent_objects)

$(BUILD)/agent_library.list: FORCE
	@echo $(agent_objects) | cmp -s - $@ || echo $(agent_objects) > $@

$(BUILD)/gatehouse: $(BUILD)/obj/src/gatehouse.o $(library)
	@echo "link $@"
	$(quiet)$(CXX) $(LDFLAGS_ALL) $(LTO) $^ $(PACKAGE_LIBS) -o $@

$(BUILD)/gatehouse-agent: $(BUILD)/obj/src/gatehouse_agent.o $(agent_library) $(library)
	@echo "link $@"
	$(quiet)$(CXX) $(LDFLAGS_ALL) $(LTO) $^ $(AGENT_LIBS) $(PACKAGE_LIBS) -o $@

# Tests may use either program's parts.
$(BUILD)/unit_tests: $(unit_objects) $(agent_library) $(library) $(BUILD)/unit.list
	@echo "link $@"
	$(quiet)$(CXX) $(LDFLAGS_ALL) $(no_lto) $(unit_objects) $(agent_library) $(library) \
	  $(AGENT_LIBS) $(PACKAGE_LIBS) -lcriterion -o $@

$(BUILD)/unit.list: FORCE
	@echo $(unit_objects) | cmp -s - $@ || echo $(unit_objects) > $@

# `// wrap: write fsync` at the top of a fault test becomes -Wl,--wrap=write -Wl,--wrap=fsync.
wrap_flags = $(addprefix -Wl$(comma)--wrap=,$(shell sed -n 's,^// wrap:,,p' $(1)))
comma := ,

$(BUILD)/test/fault/%: $(BUILD)/obj/t/fault/%.o $(agent_library) $(library)
	@mkdir -p $(@D)
	@echo "link $@"
	$(quiet)$(CXX) $(LDFLAGS_ALL) $(no_lto) $(call wrap_flags,t/fault/$*.cc) $^ $(AGENT_LIBS) \
	  $(PACKAGE_LIBS) -lcmocka -o $@

$(BUILD)/test/e2e/%: $(BUILD)/obj/t/e2e/%.o $(library)
	@mkdir -p $(@D)
	@echo "link $@"
	$(quiet)$(CXX) $(LDFLAGS_ALL) $(no_lto) $^ $(PACKAGE_LIBS) -o $@

$(BUILD)/load/%: $(BUILD)/obj/t/load/%.o
	@mkdir -p $(@D)
	@echo "link $@"
	$(quiet)$(CXX) $(LDFLAGS_ALL) $(no_lto) $^ -o $@

# ---- Tests -------------------------------------------------------------------------------------

test_programs := $(if $(unit_sources),$(BUILD)/unit_tests) $(fault_programs) $(e2e_programs)
# The parts that also run on the sanitized build. (Criterion maps its own memory where the thread
# sanitizer does not allow it: a build --with-sanitizer=thread is for check-e2e.)
sanitized_parts := unit fault e2e

.PHONY: check-all tests sanitized-tests lint-all fuzz-all fuzzers FORCE
FORCE:

tests: all $(test_programs) $(load_programs)

# In a build that has a sanitizer already there is nothing to repeat.
ifeq ($(SANITIZE),)
repeated := $(sanitized_parts:%=%@$(ASAN_BUILD))
# Whoever configured that folder, here it has the sanitizers.
sanitized-tests: $(ASAN_BUILD)/config.mk
	@grep -q '^SANITIZE := -fsanitize=$(sanitizers) ' $< || $(configure_sanitized)
	@$(MAKE) BUILD=$(ASAN_BUILD) tests
else
sanitized-tests:
endif

# Builds all there is before the first part, so that no test runs beside a compiler. Units and
# faults are tested with the sanitizers only, where there is such a build beside this one: the
# programs as they are installed are tested from end to end.
check-all: $(if $(repeated),all $(e2e_programs) $(load_programs),tests) sanitized-tests
	@$(PYTHON) tools/check --build $(BUILD) format rules $(if $(repeated),,unit fault) conf e2e \
	  $(repeated)

check-unit: tests
	@$(PYTHON) tools/check --build $(BUILD) unit

check-fault: tests
	@$(PYTHON) tools/check --build $(BUILD) fault

check-conf: all
	@$(PYTHON) tools/check --build $(BUILD) conf

check-e2e: all $(e2e_programs) $(load_programs)
	@$(PYTHON) tools/check --build $(BUILD) e2e

soak-all: all $(e2e_programs) $(load_programs)
	@$(PYTHON) tools/check --build $(BUILD) soak

# ---- Lint --------------------------------------------------------------------------------------

# clang-tidy takes seconds a file, so it remembers what it has passed: a stamp depends on the
# object file, and that on all the headers.
tidied := $(patsubst %.cc,$(BUILD)/tidy/%.ok,$(library_sources) $(agent_sources) $(entries))

lint-all: $(tidied)
	@$(PYTHON) tools/check --build $(BUILD) format rules

$(BUILD)/tidy/%.ok: %.cc $(BUILD)/obj/%.o .clang-tidy
	@mkdir -p $(@D)
	@echo clang-tidy $<
	@clang-tidy --quiet $< -- -xc++ -std=c++20 $(CPPFLAGS) -D__cpp_impl_coroutine=201902L \
	  > $(BUILD)/tidy/$*.log 2>&1 || { cat $(BUILD)/tidy/$*.log; exit 1; }
	@touch $@

# ---- Fuzzers -----------------------------------------------------------------------------------

fuzz_sources := $(sort $(wildcard t/fuzz/fuzz_*.cc))
fuzz_programs := $(fuzz_sources:t/fuzz/%.cc=$(BUILD)/test/fuzz/%)

# Called with BUILD=$(FUZZ_BUILD), a build of all sources by clang with coverage for libFuzzer.
fuzzers: $(fuzz_programs)

$(BUILD)/test/fuzz/%: $(BUILD)/obj/t/fuzz/%.o $(library)
	@mkdir -p $(@D)
	@echo "link $@"
	$(quiet)$(CXX) $(LDFLAGS_ALL) -fsanitize=fuzzer $^ $(PACKAGE_LIBS) -o $@

fuzz-all: $(FUZZ_BUILD)/config.mk
	@$(MAKE) BUILD=$(FUZZ_BUILD) fuzzers
	@$(PYTHON) tools/fuzz --build $(FUZZ_BUILD) --seconds $(FUZZ_SECONDS) $(ARGS)

# ---- Installation ------------------------------------------------------------------------------

INSTALL ?= install
manuals = $(wildcard man/*.5 man/*.8)

install: all
	$(INSTALL) -d $(DESTDIR)$(sbindir) $(DESTDIR)$(sysconfdir)/gatehouse/conf.d \
	  $(DESTDIR)$(localstatedir)/log/gatehouse
	$(INSTALL) -m 755 $(programs) $(DESTDIR)$(sbindir)/
	@# The administrator's file is never overwritten.
	if [ ! -e $(DESTDIR)$(sysconfdir)/gatehouse/gatehouse.conf ] && [ -e conf/gatehouse.conf ]; \
	then $(INSTALL) -m 644 conf/gatehouse.conf $(DESTDIR)$(sysconfdir)/gatehouse/; fi
	set -e; for page in $(manuals); do section=$${page##*.}; \
	  $(INSTALL) -d $(DESTDIR)$(mandir)/man$$section; \
	  $(INSTALL) -m 644 $$page $(DESTDIR)$(mandir)/man$$section/; done

# Leaves the configuration, as packages do.
uninstall:
	rm -f $(programs:$(BUILD)/%=$(DESTDIR)$(sbindir)/%)
	for page in $(notdir $(manuals)); do rm -f $(DESTDIR)$(mandir)/man$${page##*.}/$$page; done
	@if [ -e $(DESTDIR)$(sysconfdir)/gatehouse ]; then \
	  echo '$(DESTDIR)$(sysconfdir)/gatehouse is left as it is'; fi

# A header that is gone is no reason to stop: -MP gives each an empty rule.
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
