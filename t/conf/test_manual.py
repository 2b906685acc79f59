"""The manuals and the README say what is true.

man/gatehouse.conf.5 is man/gatehouse.conf.5.in with the directives' reference in it (make man); both
pages are read by groff without a warning. The configurations of README.md and gatehouse.conf(5)
are tested, and the README's commands are run, with paths and addresses put where any user may
write and listen.
"""
import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PASSED_ON = ("PATH", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS")


def gatehouse(*arguments, cwd=ROOT):
    program = os.path.abspath(os.environ.get("GATEHOUSE", "build/gatehouse"))
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return subprocess.run([program, *arguments], cwd=cwd, env=environment, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def readme_blocks():
    """The indented blocks of README.md, without their indentation."""
    blocks = re.findall(r"(?:^    .*\n(?:[ \t]*\n(?=    ))*)+", text_of("README.md"), re.M)
    return [re.sub(r"^    ", "", block, flags=re.M) for block in blocks]


def readme_configs():
    return [block for block in readme_blocks() if block.startswith("[")]


def readme_commands():
    """Command lines of gatehouse, without the remarks behind them."""
    return [shlex.split(line, comments=True)[1:] for block in readme_blocks()
            for line in block.splitlines() if line.startswith("gatehouse ")]


def manual_configs():
    page = text_of("man/gatehouse.conf.5")
    blocks = re.findall(r"^\.nf\n(?:\.RS\n)?(.*?)(?:\.RE\n)?\.fi$", page, re.M | re.S)
    unescaped = [block.replace("\\-", "-").replace("\\e", "\\") for block in blocks]
    return [block for block in unescaped if block.startswith("[")]


def put(config, folder):
    """Writes the config with its system paths below the folder and its ports picked by the kernel."""
    config = config.replace("/var/log/gatehouse/", f"{folder}/").replace("/run/", f"{folder}/")
    config = config.replace("/etc/gatehouse/", f"{folder}/")
    config = config.replace("0.0.0.0:80 [::]:80", "127.0.0.1:0")
    if "control " not in config:
        config = config.replace("[gatehouse]\n", f"[gatehouse]\ncontrol = {folder}/control.sock\n")
    if "[agent]" not in config:
        config += f"\n[agent]\nstate = {folder}/state\nlisten = none\n"
    path = os.path.join(folder, "gatehouse.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(config)
    return path


def assert_accepted(path):
    checked = gatehouse("-t", "-c", path)
    assert checked.stderr == ""
    assert checked.returncode == 0


def test_the_manual_is_up_to_date():
    reference = gatehouse("reference", "--man").stdout
    page = text_of("man/gatehouse.conf.5")
    if "--without-" in gatehouse("-V").stdout:
        # What a left-out module would add is missing; the rest stands in the same order.
        lines = iter(page.splitlines())
        assert all(line in lines for line in reference.splitlines()), "run: make man"
        return
    head, tail = text_of("man/gatehouse.conf.5.in").split("@REFERENCE@\n")
    assert page == head + reference + tail, "run: make man"


@pytest.mark.parametrize("page", ["man/gatehouse.8", "man/gatehouse-agent.8", "man/gatehouse.conf.5"])
def test_groff_has_no_warning(page):
    shown = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-rLL=78n", page], cwd=ROOT,
                           capture_output=True, timeout=30, check=False)
    assert shown.stderr.decode() == ""
    assert shown.returncode == 0
    assert len(shown.stdout) > 2000


def test_the_manual_has_every_option():
    manual = text_of("man/gatehouse.8").replace("\\-", "-")
    usage = gatehouse("-h").stdout
    options = set(re.findall(r"(?<![\w'-])(--?[a-zA-Z][a-z]*)", usage))
    assert {"-t", "-T", "-s", "-c", "--foreground", "--json"} <= options
    for option in options:
        assert re.search(re.escape(option) + r"\b", manual), f"{option} is not in gatehouse(8)"


def test_configurations_of_the_manual(tmp_path):
    configs = manual_configs()
    assert len(configs) >= 2
    for config in configs:
        assert_accepted(put(config, str(tmp_path)))


def test_configurations_of_the_readme(tmp_path):
    configs = readme_configs()
    assert len(configs) >= 2
    for config in configs:
        assert_accepted(put(config, str(tmp_path)))


@pytest.fixture
def open_folder():
    """A folder in which the agent, which has a user of its own, can make that of its state."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-conf-") as path:
        os.chmod(path, 0o777)
        yield pathlib.Path(path)


def test_commands_of_the_readme(open_folder):
    config = put(max(readme_configs(), key=len), str(open_folder))
    commands = [[word if word != "FILE" else config for word in command]
                for command in readme_commands()]
    starts = [command for command in commands if command == ["-c", config]]
    asking = [command for command in commands if command[0] in (
        "-s", "status", "config", "limit", "target", "breaker", "canary", "certificate")]
    assert len(starts) == 1 and [command[:2] for command in asking][-1] == ["-s", "quit"]
    for command in commands:
        if command in starts + asking or "--foreground" in command:
            continue
        done = gatehouse(*command)
        assert done.stderr == "" and done.returncode == 0 and done.stdout, command

    assert_starts(starts[0], config, asking, open_folder)


def assert_starts(start, config, asking, folder):
    """`asking`: what is asked of the running gateway, the stop at last."""
    started = gatehouse(*start)
    try:
        assert started.returncode == 0, started.stderr
        wait(lambda: json.loads(gatehouse("status", "--json", "-c", config).stdout)["agent"]["state"]
             == "ready", "the agent is not ready")
        for command in asking[:-1]:
            done = gatehouse(*command)
            assert done.stderr == "" and done.returncode == 0 and done.stdout, command
        reopened = gatehouse("-s", "reopen", "-c", config)
        assert reopened.stderr == "" and reopened.returncode == 0
    finally:
        stopped = gatehouse(*asking[-1])
    assert stopped.stderr == "" and stopped.returncode == 0
    wait(lambda: not (folder / "gatehouse.pid").exists(), "the gateway has not stopped")


def wait(condition, problem):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, problem
        time.sleep(0.02)
