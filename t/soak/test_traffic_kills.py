"""A thousand kills of those who write shared state: of plain writers, and of workers under load.

`make soak CHECK_ARGS='-k traffic_kills'` runs it alone, in about ten minutes; GATEHOUSE_SOAK=0.1
does a tenth.
"""
import os
import subprocess

import pytest

import kill_checks
from fickle import Fickle
from load_clients import BUILD

SHARE = float(os.environ.get("GATEHOUSE_SOAK", "1"))
KILLS = max(20, round(1000 * SHARE))


@pytest.fixture
def targets():
    made = [Fickle(name) for name in ("one", "two", "three")]
    yield made
    for target in made:
        target.close()


@pytest.mark.parametrize("writers", [2, 6, 16])
def test_traffic_kills_of_writers(report, writers):
    done = subprocess.run([f"{BUILD}/test/e2e/kill_writers", f"--kills={KILLS}", f"--writers={writers}"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    report(f"{KILLS} kills of plain writers: {done.stdout.strip()}")


def test_traffic_kills_of_workers(folder, targets, report):
    """So many workers that there is always one which has lived long enough: see kill_checks."""
    report(kill_checks.kills(folder, targets, workers=16, times=KILLS))
