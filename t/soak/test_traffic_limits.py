"""What limits admit against what they allow: one key and a million, several workers, disturbances.

`make soak CHECK_ARGS='-k traffic_limits'` runs it alone, in about four minutes. GATEHOUSE_SOAK=0.1
takes a tenth of the keys and of the time. t/e2e/test_traffic_limits.py is the same, short.
"""
import os

import pytest

import limit_checks

SHARE = float(os.environ.get("GATEHOUSE_SOAK", "1"))
SECONDS = max(2, round(20 * SHARE))


@pytest.mark.parametrize("rate, burst", [(10, 1), (500, 100), (5000, 50_000)])
def test_limits_bucket(folder, report, rate, burst):
    report(limit_checks.bucket(folder, workers=4, rate=rate, burst=burst, seconds=SECONDS))


@pytest.mark.parametrize("count, period_ms", [(10, 1000), (100, 1000), (1000, 1000), (5000, 2000)])
def test_limits_window(folder, report, count, period_ms):
    report(limit_checks.window(folder, workers=4, count=count, period_ms=period_ms, seconds=SECONDS))


@pytest.mark.parametrize("room", [1, 2])
def test_limits_of_a_million_keys(folder, report, room):
    keys = max(50_000, round(1_000_000 * SHARE))
    report(limit_checks.many_keys(folder, workers=4, keys=keys, burst=2, room=room))


def test_limits_last(folder, report):
    times = max(1, round(10 * SHARE))
    report(limit_checks.disturbed(folder, workers=4, budget=max(500, round(5000 * SHARE)), rate=250,
                                  reloads=times, kills=times, upgrades=max(1, round(3 * SHARE))))
