"""Processes that write shared state are killed at any instruction; see kill_writers.cc."""
import json
import subprocess

from load_clients import BUILD


def test_what_killed_writers_leave():
    done = subprocess.run([f"{BUILD}/test/e2e/kill_writers", "--kills=50", "--writers=4"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 54 and found["wrong"] == 0
    assert found["turns"] > 10_000 and found["opened"] > 10, found
