"""Balancing, breakers and failing targets over several workers, with few requests.

The short form of t/soak/test_traffic_policy.py and t/soak/test_failing_targets.py: what crosses the
borders between the features. Each feature has its own tests beside these.
"""
import time

import pytest

import balance_checks
from failure_peers import GatehousePeer
from fickle import WELL, Fickle
from load_clients import LoadClient, describe, failures
from waiting import eventually


@pytest.fixture
def targets():
    made = [Fickle(name) for name in ("one", "two", "three")]
    yield made
    for target in made:
        target.close()


# ---- balancing and breakers --------------------------------------------------------------------


def test_round_robin_by_weight(folder, targets):
    balance_checks.spread(folder, targets, "round_robin", workers=2, requests=1200, weights=[3, 2, 1],
                          slack=2 * 3)


def test_least_connections(folder, targets):
    balance_checks.least_connections(folder, targets, workers=2, requests=1000, connections=30)


def test_hash_stays_when_a_target_leaves(folder, targets):
    balance_checks.stability(folder, targets, "hash $header_x_key", workers=2, keys=2000)


def test_hash_bounded_load(folder, targets):
    balance_checks.bounded_load(folder, targets, workers=2, requests=1000, connections=24)


def test_probes(folder, targets):
    balance_checks.probes(folder, targets[0], workers=3, allowed=2, seconds=1.5)


# ---- targets that fail and leave ---------------------------------------------------------------


def test_a_target_dies_and_comes_back(folder, targets):
    """Nobody sees it: not its death, not its absence, not its return."""
    with GatehousePeer(folder, targets) as gateway:
        with LoadClient(gateway.port, connections=16, rate=300, new_rate=20) as load:
            for behaviour in ("dead", WELL, "answer 500", WELL):
                targets[0].set(behaviour)
                time.sleep(0.7)
            total = load.stop()
    assert failures(total) == 0, describe(total)
    assert targets[0].stats()["requests"] > 0


def test_without_the_agent(folder, targets):
    """Only its own work pauses: breakers, retries, balancing and reloads go on."""
    with GatehousePeer(folder, targets) as gateway, gateway.without_agent():
        with LoadClient(gateway.port, connections=16, rate=300, new_rate=20) as load:
            time.sleep(0.3)
            targets[0].set("dead")
            time.sleep(0.7)
            gateway.reload()
            time.sleep(0.3)
            targets[0].set(WELL)
            targets[0].reset()
            eventually(lambda: targets[0].stats()["requests"] > 20, "the target is asked again")
            total = load.stop()
    assert failures(total) == 0, describe(total)


def test_no_request_fails_when_a_target_is_drained(folder, targets):
    for target in targets:
        target.set("answer 200 delay 30")
    with GatehousePeer(folder, targets) as gateway:
        with LoadClient(gateway.port, connections=16, rate=0) as load:
            eventually(lambda: targets[0].stats()["under_way"] > 0, "the target is asked")
            done = gateway.command("target", "drain", "app", targets[0].address)
            assert done.returncode == 0, done.stderr
            eventually(lambda: targets[0].stats()["under_way"] == 0, "its last request is answered")
            targets[0].reset()
            time.sleep(0.3)
            assert targets[0].stats()["requests"] == 0
            targets[0].set("dead")      # nobody needs it any more
            time.sleep(0.3)
            total = load.stop()
    assert failures(total) == 0, describe(total)
