"""What TLS clients are shown while certificates come and go. (Reading and swapping without a client
that looks is in test_certificates.py, the choice by name in test_tls.py.)"""
import os
import signal

import pytest

from certificates import Authority
from control import reloadable
from swapping import Handshakes, swap_under_load
from waiting import eventually


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def place(gateway, folder, authority):
    """Gives the gateway and the file of the authority."""
    def make(**options):
        authority.leaf(["swap.test"]).write(folder, "swap")
        options.setdefault("workers", 2)
        one = reloadable(gateway, "[listener a]\naddress = 127.0.0.1:0\ntls = on\n"
                         "[route all]\nlistener = a\nreply = 200\n"
                         f"[certificate swap]\ncertificate = {folder}/swap.pem\n"
                         f"key = {folder}/swap.key\n", **options)
        one.sent = None
        return one, authority.write(folder)
    return make


def test_swapped_under_load(place, folder, authority):
    """No handshake and no request fails, connections that are open stay, and within a second every
    worker shows the new one."""
    one, file = place()
    pids = one.workers()
    slowest, seen = swap_under_load(one, folder, authority, file, times=8, every=0.25)
    assert slowest < 1 and seen > 50
    assert one.workers() == pids and one.status()["generation"] == 1


def test_reloaded_under_load(place, folder, authority):
    one, file = place()
    load = Handshakes(one.address, file)
    try:
        for _ in range(3):
            new = authority.leaf(["swap.test"])
            new.write(folder, "swap")
            reply = one.ask("reload")
            assert reply["ok"], reply
            seen = len(load.seen)
            eventually(lambda: len(load.seen) > seen + 20 or load.errors, "handshakes go on")
            assert {mark for _, mark in load.seen[seen + 10:]} == {new.fingerprint}
    finally:
        load.stop()


def test_a_worker_that_is_replaced_shows_the_newest(place, folder, authority):
    one, file = place(workers=1)
    new = authority.leaf(["swap.test"])
    new.write(folder, "swap")
    assert one.ask("certificate_reload")["ok"]
    # What stands in the files by now is of no account: the bundle is.
    os.remove(f"{folder}/swap.key")
    victim = one.worker
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in (one.workers() or [victim]) and
               one.status()["workers"][0]["state"] == "ready", "it is replaced")
    load = Handshakes(one.address, file, clients=1)
    eventually(lambda: len(load.seen) > 3 or load.errors, "handshakes")
    load.stop()
    assert {mark for _, mark in load.seen} == {new.fingerprint}
