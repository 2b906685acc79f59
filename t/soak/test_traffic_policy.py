"""How each balancer spreads requests, and how many probes there are, through a real gateway.

`make soak CHECK_ARGS='-k traffic_policy'` runs it alone, in about five minutes. GATEHOUSE_SOAK=0.1
takes a tenth of the requests. t/e2e/test_traffic_policy.py is the same, short.
"""
import os

import pytest

import balance_checks
from fickle import Fickle

SHARE = float(os.environ.get("GATEHOUSE_SOAK", "1"))
REQUESTS = max(5_000, round(100_000 * SHARE))
SECONDS = max(2, round(20 * SHARE))


@pytest.fixture
def targets():
    made = [Fickle(name) for name in ("one", "two", "three", "four", "five")]
    yield made
    for target in made:
        target.close()


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1, 1), (5, 4, 3, 2, 1)])
def test_balance_round_robin(folder, targets, report, workers, weights):
    """Each worker goes round by itself, so that each may be a whole round ahead or behind."""
    report(balance_checks.spread(folder, targets, "round_robin", workers=workers, requests=REQUESTS,
                                 weights=list(weights), slack=workers * max(weights)))


def test_balance_hash(folder, targets, report):
    """Each key once: what is left is chance."""
    report(balance_checks.spread(folder, targets, "hash $header_x_key", workers=4, requests=REQUESTS,
                                 keys=REQUESTS))


def test_balance_hash_bounded(folder, targets, report):
    report(balance_checks.bounded_load(folder, targets, workers=4, requests=REQUESTS // 4))


def test_balance_hash_stability(folder, targets, report):
    report(balance_checks.stability(folder, targets, "hash $header_x_key", workers=4, keys=REQUESTS))


def test_balance_client_address(folder, targets, report):
    report(balance_checks.spread(folder, targets, "client_address", workers=4, requests=REQUESTS,
                                 sources=250, slack=0.5 * REQUESTS / 5))


@pytest.mark.parametrize("workers", [1, 4])
def test_balance_least_connections(folder, targets, report, workers):
    report(balance_checks.least_connections(folder, targets, workers=workers, requests=REQUESTS // 4))


def test_balance_least_time(folder, targets, report):
    report(balance_checks.least_time(folder, targets, workers=4, requests=REQUESTS // 10))


@pytest.mark.parametrize("allowed", [1, 3, 10])
def test_probes(folder, targets, report, allowed):
    report(balance_checks.probes(folder, targets[0], workers=4, allowed=allowed, seconds=SECONDS))
