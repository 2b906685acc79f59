"""The configurations that are shipped, conf/*.conf, are accepted as they are."""
import glob
import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.abspath(os.environ.get("GATEHOUSE", "build/gatehouse"))
SHIPPED = sorted(glob.glob(f"{ROOT}/conf/**/*.conf", recursive=True))


def test_there_are_some():
    assert f"{ROOT}/conf/demo.conf" in SHIPPED and f"{ROOT}/conf/gatehouse.conf" in SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=[os.path.relpath(path, ROOT) for path in SHIPPED])
def test_shipped(path):
    checked = subprocess.run([PROGRAM, "-t", "-c", path], capture_output=True, text=True,
                             timeout=20, check=False)
    assert checked.stderr == "" and checked.returncode == 0
