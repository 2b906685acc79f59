#!/usr/bin/python3
"""Golden tests of the configuration: what -t accepts and -T shows, and the wording of each error.

  good/NAME.conf    has to be accepted; each line of good/NAME.expect, where there is one, has to be
                    among the lines of -T, in that order (runs of blanks count as one).
  bad/NAME.conf     has to be refused with exactly the text of bad/NAME.expect.

Files in folders below good/ and bad/ are there to be included. Paths in errors are relative to this
folder, where the program is started. One file holds the keys of one kind of section: a new key gets
a line in good/KIND.conf and in bad/KIND.conf (make lint asks for both), and

  GATEHOUSE=build/gatehouse t/conf/test_golden.py bad/KIND

writes bad/KIND.expect anew, to be read before it is committed.
"""
import glob
import os
import re
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
import certificates  # noqa: E402

# What ${NAME} finds; GOLDEN_UNSET is never set. GOLDEN_FOLDER has this run's certificates.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GOLDEN_COUNT": "3", "GOLDEN_EMPTY": "",
               "GOLDEN_TEXT": "a ; b ${GOLDEN_COUNT}", "GOLDEN_CONTROL": "a\nworkers = 7"}

# Options for the sanitizers reach the program too.
PASSED_ON = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS")


def gatehouse(*arguments, cwd=HERE):
    program = os.path.abspath(os.environ.get("GATEHOUSE", "build/gatehouse"))
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return subprocess.run([program, *arguments], cwd=cwd, env={**ENVIRONMENT, **passed_on},
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)


@pytest.fixture(scope="session", autouse=True)
def certificate_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    authority = certificates.Authority()
    for kind in ("ecdsa", "rsa"):
        leaf = authority.leaf(["example.com", "*.example.com", "example.org"], kind)
        leaf.write(folder, kind)
        (folder / f"{kind}.ocsp").write_bytes(authority.ocsp(leaf))
    authority.write(folder)
    (folder / "ca.crl").write_bytes(authority.crl())
    ENVIRONMENT["GOLDEN_FOLDER"] = str(folder)


def cases(sort):
    return sorted(os.path.relpath(path, HERE)[:-len(".conf")]
                  for path in glob.glob(f"{HERE}/{sort}/*.conf"))


def squeezed(text):
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]


def expected(case):
    with open(f"{HERE}/{case}.expect", encoding="utf-8") as lines:
        return lines.read()


def test_there_are_cases():
    assert len(cases("good")) >= 5 and len(cases("bad")) >= 5


@pytest.mark.parametrize("case", cases("good"))
def test_good(case):
    checked = gatehouse("-t", "-c", f"{case}.conf")
    assert checked.stderr.decode() == ""
    assert checked.stdout.decode() == f"configuration {case}.conf is ok\n"
    assert checked.returncode == 0

    shown = gatehouse("-T", "-c", f"{case}.conf")
    assert shown.stderr.decode() == ""
    assert shown.returncode == 0
    if os.path.exists(f"{HERE}/{case}.expect"):
        lines = iter(squeezed(shown.stdout.decode()))
        for wanted in squeezed(expected(case)):
            assert wanted in lines, f"-T lacks this line, or has it earlier: {wanted}"


@pytest.mark.parametrize("case", cases("bad"))
def test_bad(case):
    for flag in ("-t", "-T"):
        checked = gatehouse(flag, "-c", f"{case}.conf")
        assert checked.stderr.decode() == expected(case)
        assert checked.stdout.decode() == ""
        assert checked.returncode == 1


def test_each_expected_text_has_its_config():
    for path in glob.glob(f"{HERE}/*/*.expect"):
        assert os.path.exists(path[:-len(".expect")] + ".conf"), path


# Bytes that an editor or git would not keep.
GOOD_BYTES = {
    "byte_order_mark": b"\xef\xbb\xbf[gatehouse]\nworkers = 3\n",
    "crlf": b"[gatehouse]\r\n# comment\r\nworkers = \\\r\n  3\r\n",
    "no_last_newline": b"[gatehouse]\nworkers = 3",
    "tabs": b"\t[gatehouse]\t\n\tworkers\t=\t3\t\n",
}
BAD_BYTES = {
    "nul": (b"[gatehouse]\nworkers = 3\0\n", "2: a control byte"),
    "escape": (b"[gatehouse]\n# \x1b[2J\nworkers = 3\n", "2: a control byte"),
    "bare_cr": (b"[gatehouse]\nworkers = 3\rdaemon = off\n", "2: a control byte"),
    "latin_1": (b"[gatehouse]\nuser = J\xfcrgen\n", "2: text that is not UTF-8"),
    "overlong": (b"[gatehouse]\nuser = \xc0\xaf\n", "2: text that is not UTF-8"),
}


@pytest.mark.parametrize("name", sorted(GOOD_BYTES))
def test_good_bytes(name, tmp_path):
    (tmp_path / "f").write_bytes(GOOD_BYTES[name])
    shown = gatehouse("-T", "-c", "f", cwd=tmp_path)
    assert shown.stderr == b"" and shown.returncode == 0
    assert any(re.fullmatch(r"workers = 3 # f:[0-9]", line)
               for line in squeezed(shown.stdout.decode()))


@pytest.mark.parametrize("name", sorted(BAD_BYTES))
def test_bad_bytes(name, tmp_path):
    content, problem = BAD_BYTES[name]
    (tmp_path / "f").write_bytes(content)
    checked = gatehouse("-t", "-c", "f", cwd=tmp_path)
    assert checked.stderr.decode().splitlines()[0] == "f:" + problem
    assert checked.returncode == 1


def test_the_text_of_T_is_a_configuration(tmp_path):
    """Origins stand where a value's comment would, so they go before it is read again."""
    for case in cases("good"):
        shown = gatehouse("-T", "-c", f"{case}.conf").stdout.decode()
        again = tmp_path / "again.conf"
        again.write_text("".join(re.sub(r" +# (default|\[defaults\] \S+|\S+:[0-9]+)$", "", line) +
                                 "\n" for line in shown.splitlines()), encoding="utf-8")
        checked = gatehouse("-t", "-c", str(again))
        assert checked.stderr.decode() == "", case
        assert checked.returncode == 0, case


def test_a_missing_file_is_an_error(tmp_path):
    checked = gatehouse("-t", "-c", "gone.conf", cwd=tmp_path)
    assert "cannot open gone.conf: No such file or directory" in checked.stderr.decode()
    assert checked.stdout == b"" and checked.returncode == 1


if __name__ == "__main__":
    for bad in sys.argv[1:]:
        text = gatehouse("-t", "-c", f"{bad}.conf").stderr
        with open(f"{HERE}/{bad}.expect", "wb") as out:
            out.write(text)
