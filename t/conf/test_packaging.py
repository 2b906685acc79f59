"""What is packaged fits the program: the systemd unit.

systemd itself judges the unit (systemd-analyze); what matters most to us is looked at beside it.
"""
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.abspath(os.environ.get("GATEHOUSE", "build/gatehouse"))
UNIT = os.path.join(ROOT, "packaging/systemd/gatehouse.service")


def settings():
    """{key: [values]} of all sections."""
    found = {}
    with open(UNIT, encoding="utf-8") as file:
        for key, value in re.findall(r"^(\w+)=(.*)$", file.read(), re.M):
            found.setdefault(key, []).append(value)
    return found


def test_systemd_accepts_the_unit(tmp_path):
    with open(UNIT, encoding="utf-8") as file:
        text = file.read()
    unit = tmp_path / "gatehouse.service"
    unit.write_text(text.replace("/usr/sbin/gatehouse", PROGRAM))
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)],
                             capture_output=True, text=True, timeout=60, check=False)
    assert checked.stderr == "" and checked.returncode == 0


def test_the_unit_speaks_as_the_master_does():
    unit = settings()
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["all"], "after an upgrade another process is the main one"
    assert unit["KillSignal"] == ["SIGQUIT"] and unit["KillMode"] == ["mixed"]
    assert unit["OOMPolicy"] == ["continue"], "one worker's end is not the service's"
    assert "MemoryDenyWriteExecute" not in unit, "PCRE2 compiles patterns"
    assert "--foreground" in unit["ExecStart"][0]
    assert " -s reload " in unit["ExecReload"][0]


@pytest.mark.parametrize("key", ["ExecStart", "ExecReload"])
def test_the_commands_of_the_unit_are_understood(key, tmp_path):
    words = settings()[key][0].split()
    assert words[0] == "/usr/sbin/gatehouse"
    words[words.index("-c") + 1] = str(tmp_path / "missing.conf")
    done = subprocess.run([PROGRAM, *words[1:]], capture_output=True, text=True, timeout=30,
                          check=False)
    # Understood, and refused for the file only: what makes no sense has the code 2.
    assert done.returncode == 1 and "missing.conf" in done.stderr
