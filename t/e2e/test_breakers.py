"""Circuit breakers in a real gateway: what its upstream sees, what its clients see, what is told."""
import json
import signal
import threading
import time

import pytest

from control import reloadable
from gateway import proxy_config, run_gatehouse
from peers import answering, request_bytes
from waiting import eventually


class Moody:
    """A script: answers as it is told, and counts the requests that are with it at one time."""

    def __init__(self, status="500 Internal Server Error"):
        self.status = status
        self.lock = threading.Lock()
        self.go = threading.Event()
        self.go.set()
        self.pause = 0
        self.now = 0
        self.most = 0

    def __call__(self, connection):
        while True:
            connection.read_request()
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            self.go.wait(30)
            time.sleep(self.pause)
            with self.lock:
                self.now -= 1
            connection.answer(b"here", status=self.status)


@pytest.fixture
def moody(upstream):
    script = Moody()
    script.server = upstream(script)
    return script


def asked(script):
    return len(script.server.requests)


def commanded(gateway, config, **options):
    """A gateway with a control socket, and a function that runs `gatehouse breaker …`."""
    one = reloadable(gateway, config, **options)

    def breaker(*words, code=0):
        ended = run_gatehouse("breaker", *words, "-c", one.config_path)
        assert ended.returncode == code, ended.stderr
        return ended.stdout if code == 0 else ended.stderr
    return one, breaker


def test_failures_in_a_row_open_it(proxy, moody):
    gateway = proxy(moody.server, upstream="breaker = failures 3, open 1m")
    for _ in range(3):
        assert gateway.get("/").status == 500
    for _ in range(5):
        response = gateway.get("/")
        assert (response.status, response.code) == (503, "circuit_open")
        assert response.get("Retry-After")
    assert asked(moody) == 3
    log = gateway.log()
    assert log.count("breaker of app/") == 1
    assert "open for " in log and "failures in a row" in log
    gateway.wait_reason("circuit_open", 5)


def test_a_share_of_failures_opens_it(proxy, moody):
    gateway = proxy(moody.server, upstream="breaker = 50% of 10 in 10s, open 1m")
    with gateway.connect() as client:
        for i in range(10):
            moody.status = "500 No" if i % 2 else "200 OK"
            client.get("/")
        assert client.get("/").status == 503
    assert asked(moody) == 10


def test_statuses_that_are_no_failure_do_not_open_it(proxy, moody):
    gateway = proxy(moody.server, upstream="breaker = failures 1, open 1m, on connect 503")
    for _ in range(3):
        assert gateway.get("/").status == 500
    moody.status = "503 Busy"
    assert gateway.get("/").body == b"here"
    assert gateway.get("/").code == "circuit_open"
    assert asked(moody) == 4


def test_a_dead_target_opens_it(gateway, upstream):
    server = upstream(answering(b"back"))
    server.stop_listening()
    one = gateway(proxy_config(server, upstream="breaker = failures 2, open 1m"))
    statuses = [one.get("/").status for _ in range(4)]
    assert statuses == [502, 502, 503, 503]


def test_it_closes_again(proxy, moody):
    gateway = proxy(moody.server, upstream="breaker = failures 1, open 200ms, close after 2")
    assert gateway.get("/").status == 500
    moody.status = "200 OK"
    eventually(lambda: gateway.get("/").status == 200, "a probe gets through")
    assert gateway.get("/").status == 200
    gateway.wait_log("half-open")
    gateway.wait_log("closed .probes succeeded")
    assert gateway.get("/").status == 200


def test_the_others_take_over(proxy, moody, upstream):
    good = upstream(answering(b"good"))
    gateway = proxy(moody.server, good, upstream="breaker = failures 2, open 1m")
    bodies = [gateway.get("/").body for _ in range(20)]
    assert asked(moody) == 2 and bodies.count(b"good") == 18
    assert bodies[-10:] == [b"good"] * 10


@pytest.mark.parametrize("probes", [1, 3])
def test_probes_of_four_workers_are_never_more_than_allowed(gateway, moody, probes):
    """Eight clients of four workers ask without a pause while it is half-open, and each probe
    stays with the target for a while."""
    one = gateway(proxy_config(
        moody.server,
        upstream=f"breaker = failures 1, open 50ms, probes {probes}, close after 100"), workers=4)
    assert one.get("/").status == 500
    moody.status = "200 OK"
    moody.pause = 0.005
    moody.most = 0
    statuses = []

    def hammer():
        with one.connect() as client:
            while asked(moody) < 80:
                statuses.append(client.get("/").status)
    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert moody.most == probes, "as many as allowed at one time, and never more"
    assert set(statuses) == {200, 503} and statuses.count(200) >= 79
    assert one.log().count("half-open") == 1


def test_all_workers_know_of_it_and_a_new_one_too(gateway, moody):
    one = gateway(proxy_config(moody.server, upstream="breaker = failures 2, open 5m"), workers=3)
    for _ in range(2):
        assert one.get("/").status == 500
    assert {one.get("/").status for _ in range(20)} == {503}
    # A reload, and workers that are killed, change nothing about it.
    one.send_signal(signal.SIGHUP)
    one.wait_log("generation 2|reload")
    one.sent = None
    for pid in one.workers():
        one.send_signal(signal.SIGKILL, pid)
    eventually(lambda: len(one.workers()) == 3, "the workers are back")
    assert {one.get("/").status for _ in range(20)} == {503}
    assert asked(moody) == 2
    one.check_descriptors = False


def test_a_killed_worker_gives_its_probe_back(gateway, moody):
    one = gateway(proxy_config(moody.server, upstream="breaker = failures 1, open 100ms"))
    assert one.get("/").status == 500
    moody.status = "200 OK"
    moody.go.clear()
    probe = one.connect()

    eventually(lambda: "open for" in one.log(), "it is open")

    def with_the_target():
        probe.send(request_bytes())
        eventually(lambda: moody.now == 1 or not probe.quiet(0), "it gets somewhere")
        return moody.now == 1 or probe.read_response().status == 200
    eventually(with_the_target, "the probe is with the target")
    assert one.get("/").status == 503, "one at a time"
    one.sent = None
    one.send_signal(signal.SIGKILL, one.worker)
    moody.go.set()
    eventually(lambda: len(one.workers()) == 1, "there is another worker")
    eventually(lambda: one.get("/").status == 200, "the place of the probe is free again")
    one.check_descriptors = False


def test_a_fallback_stands_in(proxy, moody):
    gateway = proxy(moody.server, upstream="breaker = failures 1, open 1m\n"
                                           "fallback = reply 200 instead")
    assert gateway.get("/").status == 500
    response = gateway.get("/")
    assert (response.status, response.body) == (200, b"instead")
    gateway.wait_reason("circuit_open")


def test_the_breaker_of_a_whole_upstream(proxy, upstream):
    servers = [upstream(answering(b"no", status="500 No")) for _ in range(3)]
    gateway = proxy(*servers, upstream="upstream_breaker = failures 4, open 1m")
    assert [gateway.get("/").status for _ in range(6)] == [500] * 4 + [503] * 2
    assert sum(len(server.requests) for server in servers) == 4
    gateway.wait_log("breaker of app: open")


def test_slow_calls_open_it(proxy, upstream):
    def slow(connection):
        while True:
            connection.read_request()
            threading.Event().wait(0.12)
            connection.answer(b"slow")
    server = upstream(slow)
    gateway = proxy(server, upstream="breaker = slow 80% over 100ms of 5 in 10s, open 1m")
    assert [gateway.get("/").status for _ in range(7)] == [200] * 5 + [503] * 2
    gateway.wait_log("share of slow calls")


# ---- Commands and metrics -----------------------------------------------------------------------

def test_list_open_and_close(gateway, moody):
    moody.status = "200 OK"
    one, breaker = commanded(
        gateway, proxy_config(moody.server, upstream="breaker = failures 9, open 1m"))
    target = moody.server.target[len("http://"):]
    row = breaker("list").splitlines()[1].split()
    assert row[:3] == ["app", target, "closed"]

    assert breaker("open", "app", target) == "1 breaker opened\n"
    assert one.get("/").status == 503
    found = json.loads(breaker("list", "--json"))["breakers"][0]
    assert (found["state"], found["cause"], found["opened_total"]) == ("open", "by command", 1)
    assert "open_ms" not in found and "until closed" in breaker("list")

    assert breaker("close", "app") == "1 breaker closed\n"
    assert one.get("/").status == 200

    breaker("open", "app", "--for", "1m")
    found = json.loads(breaker("list", "app", "--json"))["breakers"][0]
    assert 50_000 < found["open_ms"] <= 60_000
    breaker("close", "app", target)

    assert "has no breaker" in breaker("open", "other", code=1)
    assert "has no target" in breaker("open", "app", "10.0.0.1:1", code=1)
    one.wait_log(f"breaker of app/{target}: opened by command")


def test_metrics_tell_the_state(proxy, moody):
    gateway = proxy(moody.server, upstream="breaker = failures 1, open 1m")

    def value(name):
        return [number for key, number in gateway.metrics().items() if key.startswith(name + "{")]
    assert gateway.get("/").status == 500
    assert value("gatehouse_breaker_state") == [2]
    assert value("gatehouse_breaker_opened_total") == [1]


# ---- Adaptive concurrency -----------------------------------------------------------------------

def test_what_is_more_than_the_limit_is_turned_away(gateway, moody):
    """The limit is one over all workers, and a killed worker gives back what it held."""
    moody.status = "200 OK"
    moody.go.clear()
    one = gateway(proxy_config(moody.server, upstream="concurrency = adaptive min 2 max 4"),
                  workers=2)
    held = []
    for count in range(1, 5):
        held.append(one.connect())
        held[-1].send(request_bytes())
        eventually(lambda: moody.now == count, f"{count} are with the target")
    for _ in range(6):
        response = one.get("/")
        assert (response.status, response.code) == (503, "overload_upstream")
        assert response.get("Retry-After") == "1"
    one.wait_reason("overload_upstream", 6)
    one.sent = None
    one.check_descriptors = False
    for pid in one.workers():
        one.send_signal(signal.SIGKILL, pid)
    moody.go.set()
    eventually(lambda: len(one.workers()) == 2, "the workers are back")
    assert [one.get("/").status for _ in range(10)] == [200] * 10


def test_a_fallback_stands_in_for_what_is_too_much(gateway, moody):
    moody.status = "200 OK"
    moody.go.clear()
    one = gateway(proxy_config(moody.server, upstream="concurrency = adaptive min 1 max 1\n"
                                                      "fallback = reply 200 later"))
    with one.connect() as first:
        first.send(request_bytes())
        eventually(lambda: moody.now == 1, "it is with the target")
        assert one.get("/").body == b"later"
        moody.go.set()
        assert first.read_response().body == b"here"
