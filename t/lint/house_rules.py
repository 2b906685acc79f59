#!/usr/bin/python3
"""The house rules, as a program: t/lint/house_rules.py prints path:line: rule: what is wrong.

Each rule is a function that takes a Tree (path -> text) and yields Findings. It is declared with
@rule, which puts it into RULES; test_house_rules.py runs each over the repository and over
samples that must and must not be reported. A rule whose subject does not exist yet (a manual, the
golden files) finds nothing, and bites as soon as it does.

C++ is read as text with comments and literals blanked out, not parsed: the rules are about words
and punctuation, and clang-tidy does what needs types.
"""
import os
import re
import sys
from typing import NamedTuple

MAX_COLUMNS = 100
MAX_COLUMNS_OF_TEST_SCRIPTS = 120
MAX_LINES = 700
MANY_LINES = 500

# Who may include whom. src/gatehouse.cc, the program's entry, may include everything.
ARROWS = {"core": {"core"}, "http": {"core", "http"}, "modules": {"core", "http", "modules"},
          "agent": {"core", "agent"}, "cli": {"core", "http", "cli"}}

CODE_FOLDERS = ("src", "t", "tools", ".ci", "conf", "man")
CODE_FILES = ("configure", "Makefile", "ARCHITECTURE.md")


class Finding(NamedTuple):
    path: str
    line: int
    text: str


class Tree:
    """The files that the rules look at."""

    def __init__(self, files):
        self.files = dict(files)
        self._code = {}

    @staticmethod
    def load(root):
        files = {}
        for folder in CODE_FOLDERS:
            for place, folders, names in os.walk(os.path.join(root, folder)):
                # Corpora and golden texts are data; golden configs are read by one rule.
                folders[:] = sorted(set(folders) - {"__pycache__", "corpus", ".pytest_cache"})
                for name in sorted(names):
                    path = os.path.relpath(os.path.join(place, name), root)
                    if not path.endswith((".pyc", ".txt", ".expected", ".gz", ".bin", ".html")):
                        files[path] = read(os.path.join(root, path))
        for name in CODE_FILES:
            if os.path.exists(os.path.join(root, name)):
                files[name] = read(os.path.join(root, name))
        return Tree({path: text for path, text in files.items() if text is not None})

    def cxx(self, folder):
        """(path, text) of the C++ files below a folder."""
        return [(path, text) for path, text in sorted(self.files.items())
                if path.startswith(folder + "/") and path.endswith((".h", ".cc"))]

    def code(self, path):
        """The text with comments and the insides of literals blanked, line for line."""
        if path not in self._code:
            self._code[path] = blank(self.files[path])
        return self._code[path]


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (UnicodeDecodeError, FileNotFoundError):
        return None


LITERALS = re.compile(
    r"""//[^\n]*|/\*.*?\*/"""                                # comments
    r"""|R"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)\""""    # raw strings
    r'''|"(?:\\.|[^"\\\n])*"'''                              # strings
    r"""|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'""",             # characters, not 1'000
    re.S)


def blank(text):
    def blanked(found):
        piece = found.group(0)
        # A blanked string is still a string, so that f("x") keeps its shape.
        if piece.startswith('"'):
            return '"' + " " * (len(piece) - 2) + '"'
        return re.sub(r"[^\n]", " ", piece)
    return LITERALS.sub(blanked, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def folder_of(path):
    """core for src/core/x.cc; empty for src/gatehouse.cc and what is not in src."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "src" else ""


def stem_of(path):
    return os.path.splitext(os.path.basename(path))[0]


RULES = {}


def rule(function):
    RULES[function.__name__] = function
    return function


# ---- Arrows ------------------------------------------------------------------------------------

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">]', re.M)


@rule
def includes_follow_the_arrows(tree):
    """modules -> http -> core, agent -> core; never back."""
    for path, text in tree.cxx("src"):
        allowed = ARROWS.get(folder_of(path))
        for found in INCLUDE.finditer(text):
            target = found.group(2).split("/")[0]
            if allowed is not None and target in ARROWS and target not in allowed:
                yield Finding(path, line_of(text, found.start()),
                              f"{folder_of(path)} may not include {found.group(2)}")


@rule
def includes_are_rooted_at_src(tree):
    """#include "core/result.h", never "result.h" or "../core/result.h"; config.h in <>."""
    for path, text in tree.cxx("src"):
        for found in INCLUDE.finditer(text):
            name = found.group(2)
            line = line_of(text, found.start())
            if found.group(1) == "<":
                if name.split("/")[0] in ARROWS and f"src/{name}" in tree.files:
                    yield Finding(path, line, f"own header in <>: {name}")
            elif name == "config.h":
                yield Finding(path, line, "write #include <config.h>")
            elif name.split("/")[0] not in ARROWS or ".." in name:
                yield Finding(path, line, f"{name} is not rooted at src/")


@rule
def core_and_http_name_no_module(tree):
    """A feature can be left out: what is below must not know it."""
    modules = {stem_of(path) for path, _ in tree.cxx("src/modules")} - {"registry"}
    if not modules:
        return
    names = re.compile(r"\bmodules/(?:%s)\b|\b(?:%s)_module\b" % (("|".join(sorted(modules)),) * 2))
    for path, text in tree.cxx("src/core") + tree.cxx("src/http"):
        for found in names.finditer(text):
            yield Finding(path, line_of(text, found.start()), f"names the module {found.group(0)}")


# ---- Files -------------------------------------------------------------------------------------


@rule
def files_open_with_a_comment(tree):
    """The first line says what the file is for."""
    for path, text in sorted(tree.files.items()):
        lines = text.split("\n", 2) + ["", ""]
        if path.startswith(("src/", "t/")) and path.endswith((".h", ".cc")):
            if not re.match(r"// \S", lines[0]):
                yield Finding(path, 1, "the file does not open with `// what it is for`")
        elif path.startswith(("t/", "tools/", ".ci/")) and (
                path.endswith((".py", ".sh")) or lines[0].startswith("#!")):
            first = lines[1] if lines[0].startswith("#!") else lines[0]
            empty = not text.strip()
            if not empty and not re.match(r'# \S|"""\S', first):
                yield Finding(path, 1, "the file does not open with a comment that says what for")


@rule
def headers_have_pragma_once(tree):
    for path, text in tree.cxx("src") + tree.cxx("t"):
        if path.endswith(".h") and not re.search(r"^#pragma once$", text, re.M):
            yield Finding(path, 1, "no #pragma once")


@rule
def file_names_are_snake_case(tree):
    for path, _ in tree.cxx("src") + tree.cxx("t"):
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*\.(h|cc)", os.path.basename(path)):
            yield Finding(path, 1, "the file's name is not snake_case")


@rule
def files_are_short(tree):
    """Over 500 lines two things live in it; over 700 it has to be split."""
    for path, text in tree.cxx("src"):
        lines = text.count("\n")
        if lines > MAX_LINES:
            yield Finding(path, MAX_LINES + 1, f"{lines} lines; split it")


def long_files(tree):
    """Not yet an offence: worth a word."""
    return [Finding(path, MANY_LINES + 1, f"{text.count(chr(10))} lines")
            for path, text in tree.cxx("src") if MANY_LINES < text.count("\n") <= MAX_LINES]


@rule
def lines_are_short(tree):
    for path, text in sorted(tree.files.items()):
        # The manual is generated, a config may hold a long value, a table of cases a long message.
        if path.startswith(("man/", "conf/", "t/conf/")) or path.endswith(
                (".md", ".dict", "_cases.py")):
            continue
        scripts = path.startswith("t/") and not path.endswith((".h", ".cc"))
        limit = MAX_COLUMNS_OF_TEST_SCRIPTS if scripts else MAX_COLUMNS
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > limit:
                yield Finding(path, number, f"{len(line)} columns")


@rule
def nothing_is_left_to_do(tree):
    """What is not finished is an issue, not a remark."""
    for path, text in sorted(tree.files.items()):
        if path.startswith("t/lint/"):
            continue  # names the words
        for number, line in enumerate(text.split("\n"), 1):
            found = re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line)
            if found:
                yield Finding(path, number, f"a {found.group(1)}")


# ---- Calls -------------------------------------------------------------------------------------

PRINTING = ("printf fprintf vprintf vfprintf dprintf vdprintf snprintf vsnprintf puts fputs "
            "putchar")

# (folders, reason, functions)
BANNED = [
    (("src",), "has no bound",
     "sprintf vsprintf strcpy stpcpy strcat gets wcscpy wcscat alloca"),
    (("src",), "keeps hidden state; not for us",
     "strtok rand srand random localtime gmtime ctime asctime gethostbyname gethostbyaddr tmpnam "
     "inet_ntoa strsignal readdir_r"),
    (("src",), "runs a shell", "system popen"),
    (("src",), "cannot tell an error from a number; use from_chars", "atoi atol atoll atof"),
    (("src",), "blocks the process; use a timer", "sleep usleep sleep_for sleep_until"),
    # The master, which has no event loop, may pause between two attempts.
    (("src/http", "src/modules"), "blocks the event loop; use a timer", "nanosleep"),
    (("src/http", "src/modules"), "blocks the event loop; names are resolved elsewhere",
     "getaddrinfo getnameinfo"),
    (("src/core", "src/http", "src/modules", "src/agent"), "prints; use GH_LOG or fmt", PRINTING),
]

BANNED_NAMES = [
    (("src",), "is slow and recurses on input; use PCRE2", r"\bstd::regex\b|#\s*include\s*<regex>"),
    (("src/core", "src/http", "src/modules", "src/agent"), "prints; use GH_LOG",
     r"\bstd::(?:cout|cerr|clog)\b|#\s*include\s*<iostream>"),
    (("src",), "needs a name in front", r"\busing\s+namespace\s+std\b"),
]


@rule
def banned_calls_are_not_made(tree):
    for folders, reason, functions in BANNED:
        # Free functions only: std::f, ::f and f, but not object.f, pointer->f or Other::f.
        call = re.compile(r"(?<![\w.:>])(?:(?:std(?:::this_thread)?)?::)?(%s)\s*\(" %
                          "|".join(functions.split()))
        for folder in folders:
            for path, _ in tree.cxx(folder):
                code = tree.code(path)
                for found in call.finditer(code):
                    yield Finding(path, line_of(code, found.start()), f"{found.group(1)} {reason}")
    for folders, reason, pattern in BANNED_NAMES:
        for folder in folders:
            for path, _ in tree.cxx(folder):
                code = tree.code(path)
                for found in re.finditer(pattern, code):
                    yield Finding(path, line_of(code, found.start()), f"{found.group(0)} {reason}")


# ---- Coroutines --------------------------------------------------------------------------------

# What may stand between the start of the statement and its co_await: nothing, a controlling if,
# else, loop or label (round brackets are cut out before), a declaration or assignment, or a cast
# to void.
BEFORE_AWAIT = re.compile(
    r"\s*(?:(?:if(?:\s+constexpr)?|else|for|while|do|case\s+[\w:]+\s*:|default\s*:)\s*)*"
    r"(?:[^=?!|]*(?<![!<>|+\-*/%&^])=\s*|co_return\s+|\(void\)\s*)?")


def before_await(code, offset):
    """The statement's text up to the co_await with inner brackets cut out, or None where the
    co_await stands inside round or square brackets."""
    pieces = []
    depth = 0
    end = offset
    for at in range(offset - 1, -1, -1):
        char = code[at]
        if char in ")]":
            if depth == 0:
                pieces.append(code[at + 1:end])
            depth += 1
        elif char in "([":
            if depth == 0:
                return None
            depth -= 1
            if depth == 0:
                end = at
                if code[at:at + 6] == "(void)":
                    pieces.append("(void)")
        elif char in ";{}" and depth == 0:
            pieces.append(code[at + 1:end])
            return "".join(reversed(pieces))
    return code[:end]


def after_await(code, offset):
    """The first operator of the statement's own level that joins the result to something."""
    depth = 0
    for at in range(offset, len(code)):
        char = code[at]
        if char in "([{":
            depth += 1
        elif char in ")]}":
            if depth == 0:
                return ""
            depth -= 1
        elif depth == 0:
            if char == ";":
                return ""
            if char in "?," or code[at:at + 2] in ("&&", "||", "==", "!="):
                # A template argument list has commas of its own.
                if char == "," and re.search(r"<[^<>;]*$", code[offset:at]):
                    continue
                return char
    return ""


@rule
def co_await_stands_alone(tree):
    """g++ 12 miscompiles it inside conditions, argument lists and ?:."""
    for path, _ in tree.cxx("src"):
        code = re.sub(r"^[ \t]*#.*$", "", tree.code(path), flags=re.M)
        for found in re.finditer(r"\bco_await\b", code):
            if re.search(r"operator\s*$", code[:found.start()]):
                continue
            before = before_await(code, found.start())
            if before is None:
                problem = "inside brackets: a condition or an argument list"
            elif not BEFORE_AWAIT.fullmatch(before):
                problem = "part of a larger expression"
            elif after_await(code, found.end()):
                problem = "its result is used at once by an operator"
            else:
                continue
            yield Finding(path, line_of(code, found.start()),
                          f"co_await not a statement or initialiser of its own ({problem})")


# ---- Directives --------------------------------------------------------------------------------

DIRECTIVE = re.compile(r'\bdirective<\s*&[^>]*>\s*\(\s*"([^"]+)"')
TABLE = re.compile(r'\bdirective_table<[^;]*?>\s*\(\s*"([^"]+)"\s*,\s*(\w+)\s*\)')
ARRAY = re.compile(r"\bDirective\s+(\w+)\s*\[\s*\d*\s*\]\s*=?\s*\{")


def directives(tree):
    """(path, line, section kind or "", key) of every directive declared in the sources."""
    for path, raw in tree.cxx("src"):
        # Examples in comments are not declarations; a comment is blanked, a string kept.
        text = re.sub(r"//[^\n]*", lambda found: " " * len(found.group(0)), raw)
        kinds = {array: kind for kind, array in TABLE.findall(text)}
        arrays = [(found.start(), found.group(1)) for found in ARRAY.finditer(text)]
        for found in DIRECTIVE.finditer(text):
            before = [name for start, name in arrays if start < found.start()]
            kind = kinds.get(before[-1], "") if before else ""
            yield path, line_of(text, found.start()), kind, found.group(1)


def keys_used(tree, folder):
    """{(kind, key)} that the config files of a folder set; also ("", key)."""
    used = set()
    for path, text in tree.files.items():
        if not path.startswith(folder + "/") or not path.endswith(".conf"):
            continue
        kind = ""
        for line in text.split("\n"):
            section = re.match(r"\s*\[\s*(\w+)", line)
            entry = re.match(r"\s*(\w+)\s*=", line)
            if section:
                kind = section.group(1)
            elif entry:
                used |= {(kind, entry.group(1)), ("", entry.group(1))}
    return used


@rule
def directives_have_golden_cases(tree):
    """A good and a bad case for each, in a section of its own kind."""
    for folder, sort in (("t/conf/good", "good"), ("t/conf/bad", "bad")):
        if not any(path.startswith(folder + "/") for path in tree.files):
            continue
        used = keys_used(tree, folder)
        for path, line, kind, key in directives(tree):
            if (kind, key) not in used:
                yield Finding(path, line,
                              f"[{kind}] {key} has no {sort} case in {folder}/*.conf")


@rule
def directives_are_documented(tree):
    manual = tree.files.get("man/gatehouse.conf.5")
    if manual is None:
        return
    words = set(re.findall(r"[a-z0-9_]+", manual.replace("\\_", "_").replace("\\fB", " ")
                           .replace("\\fR", " ").replace("\\fI", " ")))
    for path, line, kind, key in directives(tree):
        if key not in words:
            yield Finding(path, line, f"[{kind}] {key} is not in man/gatehouse.conf.5")


@rule
def sources_are_in_the_architecture(tree):
    """The reading order names every file, as core/log.h, core/log or log.cc."""
    text = tree.files.get("ARCHITECTURE.md")
    if text is None:
        return
    for path, _ in tree.cxx("src"):
        name = re.escape(os.path.splitext(path[len("src/"):])[0])
        base = re.escape(os.path.basename(path))
        if not re.search(rf"(?<!\w){name}(?!\w)|(?<![\w]){base}\b", text):
            yield Finding(path, 1, "ARCHITECTURE.md does not name it")


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    tree = Tree.load(".")
    offences = 0
    for name, check in RULES.items():
        for finding in check(tree):
            offences += 1
            print(f"{finding.path}:{finding.line}: {name}: {finding.text}")
    for finding in long_files(tree):
        print(f"{finding.path}:{finding.line}: note: {finding.text}; two things may live in it")
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
