"""Each HTTP/2 abuse of t/e2e/test_h2_abuse.py for 30 s, from connections that begin anew as they are
ended: others are served all the while, the memory of the worker stays bounded, and each connection
ends with ENHANCE_YOUR_CALM. Beside them what no frame tells: windows that stay closed.

`make soak CHECK_ARGS='-k h2_attacks'` runs it alone. GATEHOUSE_SOAK=0.1 takes a tenth of the time.
"""
import os
import threading
import time

import pytest

from gateway import SANITIZED, resident_bytes
from h2_peer import ENHANCE_YOUR_CALM, H2, INITIAL_WINDOW_SIZE, get
from peers import Gone, answering
from test_h2_abuse import ATTACKS, REPLY

SECONDS = max(2, 30 * float(os.environ.get("GATEHOUSE_SOAK", "1")))
MEMORY_MAX = 24 << 20


class Attack(threading.Thread):
    """Attacks again and again until told to stop; notes how the connections end."""

    def __init__(self, gateway, attack):
        super().__init__(daemon=True)
        self.gateway, self.attack = gateway, attack
        self.stop, self.codes, self.lost = threading.Event(), [], 0

    def run(self):
        while not self.stop.is_set():
            try:
                with H2(self.gateway) as client:
                    client.handshake()
                    try:
                        for sent in self.attack(client):
                            client.send(sent)
                            if self.stop.is_set():
                                return
                    except (OSError, AssertionError):
                        pass
                    if not client.goaways:
                        client.must_end(ENHANCE_YOUR_CALM)
                    self.codes.append(client.goaways[0].code)
            except (Gone, OSError):
                self.lost += 1
            finally:
                self.gateway.clients.remove(client)


def watch(gateway, seconds):
    """Sends a request every 20 ms: the longest that one took, and the most memory of the worker."""
    longest, most, until = 0, 0, time.monotonic() + seconds
    with H2(gateway) as other:
        other.handshake()
        stream = -1
        while time.monotonic() < until:
            stream += 2
            began = time.monotonic()
            assert other.request(stream, get()).status == 200
            longest = max(longest, time.monotonic() - began)
            most = max(most, resident_bytes(gateway.worker))
            time.sleep(0.02)
    return longest, most


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_h2_attacks(gateway, attack):
    made = gateway(REPLY.format(listener=""))
    made.sent = None
    before = resident_bytes(made.worker)
    attacker = Attack(made, attack)
    attacker.start()
    longest, most = watch(made, SECONDS)
    attacker.stop.set()
    attacker.join(20)
    print(f"{attack.__name__}: {len(attacker.codes)} connections ended, {attacker.lost} lost; others waited "
          f"{longest * 1000:.0f} ms at most; memory {(most - before) / (1 << 20):+.1f} MiB")
    assert attacker.codes and set(attacker.codes) == {ENHANCE_YOUR_CALM}
    assert attacker.lost <= len(attacker.codes) // 100
    assert longest < 2
    assert SANITIZED or most - before < MEMORY_MAX


def test_h2_attacks_closed_windows(proxy, upstream):
    """Hoarding: connections whose windows stay at zero, with as many streams as they may have."""
    made = proxy(upstream(answering(b"x" * 100_000)), listener="write_timeout = 2s")
    made.sent = None
    before = resident_bytes(made.worker)
    until = time.monotonic() + SECONDS
    most = 0
    while time.monotonic() < until:
        hoarders = []
        for _ in range(10):
            client = H2(made)
            client.handshake([(INITIAL_WINDOW_SIZE, 0)])
            for stream in range(1, 201, 2):
                client.headers(stream, get())
            hoarders.append(client)
        for client in hoarders:
            for stream in range(1, 201, 2):
                assert client.response(stream).reset is not None
            most = max(most, resident_bytes(made.worker))
            client.close()
        assert made.get("/").status == 200
    print(f"closed windows: memory {(most - before) / (1 << 20):+.1f} MiB with 1,000 streams")
    assert SANITIZED or most - before < 10 * 100 * 80_000
