"""Limits that several workers decide about together, with few requests; and that they last.

The short form of t/soak/test_traffic_limits.py.
"""
import limit_checks


def test_one_key_of_a_bucket(folder):
    limit_checks.bucket(folder, workers=3, rate=200, burst=50, seconds=1.5)


def test_one_key_of_a_window(folder):
    limit_checks.window(folder, workers=3, count=50, period_ms=500, seconds=2)


def test_many_keys(folder):
    limit_checks.many_keys(folder, workers=3, keys=5_000, burst=2)


def test_a_budget_over_reload_kill_and_upgrade(folder):
    limit_checks.disturbed(folder, workers=2, budget=300, rate=200, reloads=1, kills=1, upgrades=1)
