"""The targets of the failure tests fail as they are told: a test of failures that did not happen
would say nothing."""
import socket

import pytest

from fickle import WELL, Fickle
from load_clients import LoadClient, failures


@pytest.fixture
def target():
    with Fickle("name") as made:
        yield made


def load(target, **options):
    with LoadClient(target.port, **{"connections": 4, "rate": 100, "seconds": 0.5, **options}) as made:
        made.read()
        return made.read()


def kinds(total):
    return {kind for kind, count in total["failures"].items() if count}


def test_it_answers(target):
    total = load(target, new_rate=20)
    assert failures(total) == 0, total
    stats = target.stats()
    assert stats["requests"] == total["ok"] >= 50 and stats["checks"] == 0
    assert stats["under_way"] == 0 and stats["most"] == 1
    assert target.reset()["requests"] == 0


def test_it_answers_late(target):
    """And tells how many requests it had at one time."""
    target.set("answer 200 delay 100")
    total = load(target, connections=16, rate=0, late=80)
    assert kinds(total) == {"late"}, total
    assert total["http"]["p50_us"] >= 100_000
    assert target.stats()["most"] == 16


def test_a_share_of_errors_but_for_the_checks(target):
    target.set("answer 500 share 30 but /healthz")
    total = load(target, connections=8, rate=1000)
    assert kinds(total) == {"status_500"}, total
    assert 0.2 < failures(total) / total["answered"] < 0.4
    total = load(target, path="/healthz")
    assert failures(total) == 0 and target.stats()["checks"] == total["ok"]


def test_it_dies_and_comes_back(target):
    target.set("dead")
    assert kinds(load(target)) == {"refused"}
    target.set(WELL)
    assert failures(load(target)) == 0
    with LoadClient(target.port, connections=4, rate=100) as client:
        while client.window()["ok"] == 0:
            pass
        target.set("dead")
        target.set(WELL)
        total = client.stop()
    assert kinds(total) <= {"reset_idle", "refused"}
    assert total["closes"] + failures(total) >= 4, "each connection was ended"


def test_it_hangs(target):
    target.set("hang")
    with socket.create_connection(("127.0.0.1", target.port), 5) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert target.stats()["under_way"] == 1
        target.set(WELL)
        assert sock.recv(1) == b"", "it is as if it had been started again"
    assert target.stats()["under_way"] == 0


def test_it_disappears(target):
    with socket.create_connection(("127.0.0.1", target.port), 5) as old:
        old.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert old.recv(65536).startswith(b"HTTP/1.1 200 ")
        target.set("blackhole")
        old.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        old.settimeout(0.3)
        with pytest.raises(TimeoutError):
            old.recv(1)
        with pytest.raises(TimeoutError), socket.create_connection(("127.0.0.1", target.port), 0.3):
            pass
    target.set(WELL)
    assert failures(load(target, new_rate=20)) == 0
