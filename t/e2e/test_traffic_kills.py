"""Workers are killed while they write shared state; the short form of t/soak/test_traffic_kills.py."""
import pytest

import kill_checks
from fickle import Fickle
from gateway import SANITIZED


@pytest.fixture
def targets():
    made = [Fickle(name) for name in ("one", "two", "three")]
    yield made
    for target in made:
        target.close()


def test_workers_are_killed(folder, targets):
    kill_checks.kills(folder, targets, workers=3, times=6 if SANITIZED else 12, age=0, pause=0.1)
