"""Targets that fail, one way after the other, behind gatehouse, nginx and HAProxy: what the clients
see of it. `make soak CHECK_ARGS='-k failing_targets'` runs it alone, in about eight minutes;
GATEHOUSE_SOAK=0.1 shortens it.

Three targets answer a steady load. One of them fails for a while, comes back for a while, and then
another fails in the next way; at last several do. An error is anything but the right answer in five
seconds; an answer is slow after SLOW_MS, counted from when its request was due.
"""
import os
import time

import pytest

from failure_peers import PEERS, GatehousePeer
from fickle import WELL, Fickle
from load_clients import LoadClient, describe

SHARE = float(os.environ.get("GATEHOUSE_SOAK", "1"))
FAILING, WELL_AGAIN = max(1.5, 6 * SHARE), max(2.0, 4 * SHARE)
RATE, SLOW_MS = 400, 250
FAILURES = (        # what fails, on how many targets, how; "in turn": one after the other in that time
    ("dies", 1, "dead"),
    ("hangs", 1, "hang"),
    ("answers 500", 1, "answer 500"),
    ("answers 500, but not to checks", 1, "answer 500 but /healthz"),
    ("every tenth answer is 500", 1, "answer 500 share 10 but /healthz"),
    ("answers after 600 ms", 1, "answer 200 delay 600"),
    ("disappears", 1, "blackhole"),
    ("two die", 2, "dead"),
    ("two disappear", 2, "blackhole"),
    ("every fiftieth answer of all is 500", 3, "answer 500 share 2 but /healthz"),
    ("all are started again in turn", "in turn", "dead"),
)


class Seen:
    """What the clients saw in one window."""

    def __init__(self, counted):
        self.slow = counted["failures"].get("late", 0)
        self.errors = sum(counted["failures"].values()) - self.slow
        self.sent, self.p99 = counted["sent"], counted["http"]["p99_us"] / 1000
        self.kinds = {kind: n for kind, n in counted["failures"].items() if kind != "late"}


def strike(targets, how_many, behaviour):
    """Returns when they are well again."""
    if how_many == "in turn":
        for target in targets:
            target.set(behaviour)
            time.sleep(FAILING / 6)
            target.set(WELL)
            time.sleep(FAILING / 6)
        return
    for target in targets[:how_many]:
        target.set(behaviour)
    time.sleep(FAILING)
    for target in targets[:how_many]:
        target.set(WELL)


def suffer(peer, targets):
    """[Seen] of each failure with the time after it, and of a while before them all."""
    found = []
    with LoadClient(peer.port, connections=64, rate=RATE, new_rate=20, sources=8, late=SLOW_MS) as load:
        time.sleep(0.5)
        load.window("warm")
        time.sleep(WELL_AGAIN)
        found.append(Seen(load.window("well")))
        for number, (_, how_many, behaviour) in enumerate(FAILURES):
            strike(targets[number % 3:] + targets[:number % 3], how_many, behaviour)
            time.sleep(WELL_AGAIN)
            found.append(Seen(load.window(behaviour)))
        total = load.stop()
    assert total["skipped"] == 0, describe(total)
    return found


def table(seen):
    """One line for each failure, three columns for each peer."""
    names = list(seen)
    lines = [f"{len(seen[names[0]])} windows of {FAILING:g} s failing and {WELL_AGAIN:g} s well,"
             f" {RATE} requests/s kept alive and 20 on new connections; slow: over {SLOW_MS} ms",
             f"{'of three targets one ...':<37}" + "".join(f"{name:^32}" for name in names),
             f"{'':<37}" + f"{'errors':>9} {'slow':>9} {'p99 ms':>10}  " * len(names)]
    labels = ["(none fails)", *(label for label, _, _ in FAILURES)]
    for row, label in enumerate(labels):
        lines.append(f"{label:<37}" + "".join(
            f"{seen[n][row].errors:>9} {seen[n][row].slow:>9} {seen[n][row].p99:>10.1f}  " for n in names))
    lines.append(f"{'all':<37}" + "".join(
        f"{sum(s.errors for s in seen[n]):>9} {sum(s.slow for s in seen[n]):>9} {'':>10}  "
        for n in names))
    lines.append(f"{'of requests':<37}" + "".join(
        f"{sum(s.sent for s in seen[n]):>9}{'':>22} " for n in names))
    for name in names:
        kinds = {}
        for window in seen[name]:
            for kind, count in window.kinds.items():
                kinds[kind] = kinds.get(kind, 0) + count
        lines.append(f"errors of {name}: " + (", ".join(f"{n} {k}" for k, n in kinds.items()) or "none"))
    return "\n".join(lines)


@pytest.fixture
def targets():
    made = [Fickle(name) for name in ("one", "two", "three")]
    yield made
    for target in made:
        target.close()


def test_failing_targets_beside_nginx_and_haproxy(targets, folder, report):
    seen = {}
    for kind in PEERS:
        with kind(folder, targets) as peer:
            seen[peer.name] = suffer(peer, targets)
    report(table(seen))
    errors = {name: sum(window.errors for window in found) for name, found in seen.items()}
    slow = {name: sum(window.slow for window in found) for name, found in seen.items()}
    others = [name for name in seen if not name.startswith("gatehouse")]
    for ours in set(seen) - set(others):
        assert errors[ours] <= min(errors[name] for name in others)
        assert slow[ours] <= min(slow[name] for name in others)
        assert seen[ours][0].errors == 0


def test_failing_targets_without_the_agent(targets, folder, report):
    """Nobody checks the targets then: breakers and retries do it."""
    with GatehousePeer(folder, targets) as peer, peer.without_agent():
        seen = suffer(peer, targets)
    report("with the agent killed whenever there is one: " + table({"gatehouse": seen}))
    assert sum(window.errors for window in seen) <= 2
