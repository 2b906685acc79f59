"""The house rules hold in this repository; and each of them reports what breaks it.

SAMPLES has, for every rule, small trees that must be reported (with the line) and trees that must
not. A rule without both fails the test, so that none can be added that never bites.
"""
import os
import subprocess
import sys
import warnings

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house_rules  # noqa: E402
from house_rules import RULES, Tree  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))


def body(statement):
    """A source whose third line is the statement."""
    return {"src/core/a.cc": f"// About.\nTask<void> f() {{\n  {statement}\n}}\n"}


TABLE = ('// About.\n'
         'constexpr Directive kListenerDirectives[] = {\n'
         '    directive<&ListenerConf::address>(\n'
         '        "address", "Where to listen.", "*:80")};\n'
         'constexpr DirectiveTable kTable =\n'
         '    directive_table<ListenerConf>("listener", kListenerDirectives);\n')


def directive_tree(**files):
    return {"src/core/listener_conf.cc": TABLE,
            **{path.replace("__", "/").replace("_conf", ".conf"): text
               for path, text in files.items()}}


# rule -> ([(tree that must be reported, line)], [trees that must not])
SAMPLES = {
    "includes_follow_the_arrows": (
        [({"src/core/a.h": '// A.\n#include "http/b.h"\n'}, 2),
         ({"src/core/a.h": '// A.\n\n#include "modules/b.h"\n'}, 3),
         ({"src/http/a.cc": '// A.\n#include "modules/b.h"\n'}, 2),
         ({"src/http/a.cc": '// A.\n#include "agent/b.h"\n'}, 2),
         ({"src/agent/a.cc": '// A.\n# include "http/b.h"\n'}, 2),
         ({"src/modules/a.cc": '// A.\n#include <agent/b.h>\n'}, 2)],
        [{"src/core/a.h": '// A.\n#include "core/b.h"\n#include <vector>\n'},
         {"src/modules/a.cc": '// A.\n#include "http/b.h"\n#include "core/b.h"\n'},
         {"src/agent/a.cc": '// A.\n#include "core/b.h"\n'},
         {"src/gatehouse.cc": '// A.\n#include "http/b.h"\n#include "modules/registry.h"\n'}]),
    "includes_are_rooted_at_src": (
        [({"src/core/a.cc": '// A.\n#include "a.h"\n', "src/core/a.h": ""}, 2),
         ({"src/core/a.cc": '// A.\n#include "../core/a.h"\n', "src/core/a.h": ""}, 2),
         ({"src/core/a.cc": '// A.\n#include <core/a.h>\n', "src/core/a.h": ""}, 2),
         ({"src/core/a.cc": '// A.\n#include "config.h"\n'}, 2)],
        [{"src/core/a.cc": '// A.\n#include <config.h>\n#include "core/a.h"\n',
          "src/core/a.h": ""}]),
    "core_and_http_name_no_module": (
        [({"src/modules/limit.cc": "", "src/core/a.cc": "// See src/modules/limit.cc\n"}, 1),
         ({"src/modules/limit.cc": "",
           "src/http/a.cc": "// A.\nextern const Module limit_module;\n"}, 2)],
        [{"src/modules/limit.cc": "", "src/core/a.cc": "// A limit.\nint limit;\n",
          "src/http/a.cc": "// The order is that of src/modules/registry.cc\n"},
         {"src/modules/limit.cc": "", "src/modules/registry.cc": "&limit_module"}]),
    "files_open_with_a_comment": (
        [({"src/core/a.cc": "#include <vector>\n"}, 1),
         ({"src/gatehouse.cc": "\n// Late.\n"}, 1),
         ({"t/unit/test_a.cc": "//\n// Empty first.\n"}, 1),
         ({"t/e2e/test_a.py": "import os\n"}, 1),
         ({"tools/thing": "#!/bin/sh\nset -e\n"}, 1)],
        [{"src/core/a.cc": "// What it is for.\n"}, {"t/e2e/test_a.py": '"""What for."""\n'},
         {"tools/thing": "#!/bin/sh\n# What for.\n"}, {"t/e2e/__init__.py": ""}]),
    "headers_have_pragma_once": (
        [({"src/core/a.h": "// A.\n#ifndef A_H\n"}, 1)],
        [{"src/core/a.h": "// A.\n#pragma once\n"}, {"src/core/a.cc": "// A.\n"}]),
    "file_names_are_snake_case": (
        [({"src/core/EventLoop.cc": "// A.\n"}, 1), ({"src/core/event-loop.h": "// A.\n"}, 1)],
        [{"src/core/event_loop.cc": "// A.\n", "src/http/h1_parser.h": "// A.\n"}]),
    "files_are_short": (
        [({"src/core/a.cc": "// A.\n" * 701}, 701)],
        [{"src/core/a.cc": "// A.\n" * 700}, {"t/unit/test_a.cc": "// A.\n" * 900}]),
    "lines_are_short": (
        [({"src/core/a.cc": "// A.\n" + "x" * 101 + "\n"}, 2),
         ({"Makefile": "x" * 101}, 1), ({"t/e2e/test_a.py": "x" * 121}, 1),
         ({"t/unit/test_a.cc": "x" * 101}, 1)],
        [{"src/core/a.cc": "// " + "ä" * 97 + "\n"},
         {"t/conf/good/long.conf": "a = " + "x" * 300},
         {"t/e2e/smuggling/request_cases.py": "x" * 200}]),
    "nothing_is_left_to_do": (
        [({"src/core/a.cc": "// A.\n// TODO: more\n"}, 2), ({"Makefile": "# FIXME\n"}, 1),
         ({"t/e2e/test_a.py": '"""A."""\n\n# XXX\n'}, 3)],
        [{"src/core/a.cc": '// A.\nchar name[] = "/tmp/aXXXXXX";\n'}]),
    "banned_calls_are_not_made": (
        [(body(call), 3) for call in (
            "sprintf(b, f);", "std::strcpy(a, b);", "strcat (a, b);", "gets(a);", "strtok(a, b);",
            "::system(a);", "if (popen(a, b)) return;", "int n = std::rand() % 6;",
            "localtime(&t);", "atoi(a);", "alloca(9);", "gethostbyname(a);", "sleep(1);",
            "usleep(1);", "std::this_thread::sleep_for(d);", "printf(a);", "std::fprintf(f, a);",
            "std::cout << a;", "std::regex r;", "using namespace std;", "return atoi(a);")] +
        [({"src/http/a.cc": "// A.\ngetaddrinfo(a);\n"}, 2),
         ({"src/modules/a.cc": "// A.\nx = ::getaddrinfo(a);\n"}, 2),
         ({"src/http/a.cc": "// A.\nnanosleep(&t, nullptr);\n"}, 2),
         ({"src/core/a.cc": "// A.\n#include <regex>\n"}, 2),
         ({"src/core/a.cc": "// A.\n#include <iostream>\n"}, 2),
         ({"src/gatehouse.cc": "// A.\nstrcpy(a, b);\n"}, 2)],
        [body(call) for call in (
            "fork.system(a);", "loop->sleep(1);", "Clock::sleep(1);", "localtime_r(&t, &m);",
            "// strcpy(a, b) would be wrong", 'log("printf(x)");', 'f(R"(system(1))");',
            "auto n = 1'000; my_printf(a); char c = '\"'; co_await sleep_task(d);",
            "getaddrinfo(a);")] +
        [{"src/gatehouse.cc": "// A.\nstd::printf(a);\n"},
         {"t/unit/test_a.cc": "// A.\nsleep(1);\n"}]),
    "co_await_stands_alone": (
        [(body(statement), 3) for statement in (
            "if (co_await g()) return;", "while (!co_await g()) h();", "f(co_await g());",
            "f(1, co_await g());", "int x = a ? co_await g() : 1;", "int x = co_await g() ? 1 : 2;",
            "bool b = ready && co_await g();", "bool b = co_await g() && ready;",
            "co_return f(co_await g());", "return !co_await g();", "Thing t{1, co_await g()};",
            "switch (co_await g()) {}", "x += co_await g();", "if (auto r = co_await g(); r) h();",
            "a[co_await g()] = 1;", "bool b = co_await g() == 3;", "for (co_await g();;) h();")],
        [body(statement) for statement in (
            "co_await g();", "auto x = co_await g();", "const Result<int> x = co_await g(1, f(2));",
            "x = co_await g();", "if (ready) co_await g();", "if (a && b) x = co_await g();",
            "for (;;) { co_await g(); }", "(void)co_await g();", "Thing t{co_await g()};",
            "auto x = co_await g<int, long>();", "else co_await g();", "co_return co_await g();",
            "auto job = [&]() -> Task<void> { co_await g(); };", "this->x_[i] = co_await g();",
            "start([this]() -> Task<void> { auto n = co_await g(); f(n); }());",
            "Awaiter operator co_await() const;", "// never f(co_await g())",
            "case 1: x = co_await g();", "auto& [a, b] = co_await g();",
            "std::vector<int> v = co_await g({.a = 1, .b = 2});")]),
    "directives_have_golden_cases": (
        [(directive_tree(t__conf__good__a_conf="[listener a]\ntls = on\n"), 3),
         (directive_tree(t__conf__good__a_conf="[listener a]\naddress = *:1\n",
                         t__conf__bad__a_conf="[listener a]\ntls = maybe\n"), 3),
         (directive_tree(t__conf__good__a_conf="[upstream a]\naddress = *:1\n"), 3)],
        [directive_tree(),
         directive_tree(t__conf__good__a_conf="[listener a]\naddress = *:1\n",
                        t__conf__bad__a_conf="[listener]\n  address=nowhere\n"),
         {"src/core/directive.h": '// directive<&A::b>("b", ...)\n',
          "t/conf/good/a.conf": "[a]\nc = 1\n"}]),
    "directives_are_documented": (
        [({**directive_tree(), "man/gatehouse.conf.5": ".TP\n.B addresses\n"}, 3)],
        [directive_tree(), {**directive_tree(), "man/gatehouse.conf.5": ".TP\n.B address\n"},
         {**directive_tree(), "man/gatehouse.conf.5": ".TP\n\\fBaddress\\fR\n"}]),
    "sources_are_in_the_architecture": (
        [({"src/core/log.cc": "// A.\n",
           "ARCHITECTURE.md": "core/catalog.cc core/log_files.h"}, 1)],
        [{"src/core/log.cc": "// A.\n"},
         {"src/core/log.cc": "// A.\n", "ARCHITECTURE.md": "1. `src/core/log.h`"},
         {"src/core/log.cc": "// A.\n", "ARCHITECTURE.md": "`log.cc` is where"}]),
}


def offences(name, files):
    return list(RULES[name](Tree(files)))


@pytest.mark.parametrize("name", RULES)
def test_the_repository_obeys(name):
    found = list(RULES[name](Tree.load(ROOT)))
    assert not found, "\n" + "\n".join(f"{f.path}:{f.line}: {f.text}" for f in found)


@pytest.mark.parametrize("name", RULES)
def test_the_rule_bites(name):
    assert name in SAMPLES, "a rule without samples proves nothing"
    bad, good = SAMPLES[name]
    assert bad and good
    for files, line in bad:
        found = offences(name, files)
        assert [f for f in found if f.line == line], f"not reported: {files} (found {found})"
    for files in good:
        assert not offences(name, files), f"reported without cause: {files}"


def test_no_samples_without_a_rule():
    assert set(SAMPLES) == set(RULES)


def test_the_tree_is_really_read():
    files = Tree.load(ROOT).files
    assert "src/core/result.h" in files and "configure" in files and "tools/check" in files
    assert not [path for path in files if "corpus" in path or path.endswith(".pyc")]


def test_the_program_fails_on_an_offence_and_passes_without(tmp_path):
    place = tmp_path / "t" / "lint"
    place.mkdir(parents=True)
    with open(house_rules.__file__, encoding="utf-8") as program:
        (place / "house_rules.py").write_text(program.read())
    (tmp_path / "src" / "core").mkdir(parents=True)
    source = tmp_path / "src" / "core" / "a.cc"
    run = [sys.executable, str(place / "house_rules.py")]
    source.write_text("// About.\n")
    assert subprocess.run(run, capture_output=True, check=False).returncode == 0
    source.write_text("// About.\nvoid f() { strcpy(a, b); }\n")
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("src/core/a.cc:2: banned_calls_are_not_made: strcpy")


def test_long_files_are_mentioned():
    for finding in house_rules.long_files(Tree.load(ROOT)):
        warnings.warn(f"{finding.path}: {finding.text}; two things may live in it")
