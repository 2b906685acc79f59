"""Active health checks: the agent asks the targets, and says which of them are up.

What a target answers is set by the test; verdicts are read where the agent tells them.
"""
import re

from gateway import proxy_config
from peers import response_bytes
from traffic_agent import watched
from waiting import eventually

FAST = "every 100ms jitter 0% timeout 500ms"


class Answer:
    """A script whose answer to checks (paths that begin with /health) is set by the test."""

    def __init__(self, raw=None):
        self.raw = raw or response_bytes(b"all well", "X-Ready: yes")
        self.heads = []

    def __call__(self, connection):
        while True:
            request = connection.read_request()
            if request.target.startswith("/health"):
                self.heads.append(request)
                connection.send(self.raw)
            else:
                connection.answer(b"app")


def named(server):
    return "app/" + server.target[len("http://"):]


def test_down_after_fall_and_up_after_rise(gateway, upstream):
    answer = Answer()
    server = upstream(answer)
    gate = watched(gateway, proxy_config(
        server, upstream=f"health = GET /health {FAST} expect 200 rise 2 fall 3"))
    target = named(server)
    gate.wait_health(target, "up")
    answer.raw = response_bytes(b"", status="503 Service Unavailable")
    before = len(answer.heads)
    gate.wait_health(target, "down")
    assert len(answer.heads) - before >= 3
    eventually(lambda: f"target {target} is down: status 503" in gate.log(), "a line in the log")
    entry = gate.traffic()["health"][0]
    assert entry["error"] == "status 503" and entry["failures"] >= 3
    answer.raw = response_bytes(b"")
    gate.wait_health(target, "up")
    eventually(lambda: f"target {target} is up again" in gate.log(), "a line in the log")
    # Each change is said once, however many checks follow.
    checks = gate.traffic()["health"][0]["checks"]
    eventually(lambda: gate.traffic()["health"][0]["checks"] > checks + 3, "further checks")
    assert gate.log().count(f"target {target} is down") == 1
    assert gate.log().count(f"target {target} is up again") == 1
    figures = gate.agent("GET", "/metrics")[1]
    assert 'gatehouse_agent_checked_targets{state="up"} 1' in figures
    assert re.search(r'gatehouse_agent_health_checks_total\{result="bad"\} [3-9]', figures)


def test_the_request_and_what_is_expected(gateway, upstream):
    answer = Answer()
    server = upstream(answer)
    gate = watched(gateway, proxy_config(
        server, upstream=f'health = GET /health/../x?y=1 {FAST} expect 204 200-202 header "X-Ready: yes" '
                         f'header content-LENGTH body "ll we" host checks.example rise 1 fall 1'))
    target = named(server)
    gate.wait_health(target, "up")
    head = answer.heads[0]
    assert head.target == "/health/../x?y=1"
    assert head.get("Host") == "checks.example" and head.get("User-Agent") == "gatehouse-agent"
    good = answer.raw
    for bad, why in [(response_bytes(b"all well", "X-Ready: no"), "no field X-Ready: yes"),
                     (response_bytes(b"all-well", "X-Ready: yes"), "the expected text is not in the body"),
                     (response_bytes(b"all well", "X-Ready: yes", status="203 Odd"), "status 203"),
                     (b"nonsense\r\n\r\n", "")]:
        answer.raw = bad
        gate.wait_health(target, "down")
        assert why in gate.traffic()["health"][0]["error"]
        answer.raw = good
        gate.wait_health(target, "up")
    # In pieces, chunked, behind an interim answer.
    answer.raw = (b"HTTP/1.1 103 Early Hints\r\nX-Ready: no\r\n\r\nHTTP/1.1 200 OK\r\nX-Ready: yes\r\n"
                  b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nall w\r\n3\r\nell\r\n0\r\n\r\n")
    checks = gate.traffic()["health"][0]["checks"]
    eventually(lambda: gate.traffic()["health"][0]["checks"] > checks + 3, "further checks")
    assert gate.health()[target] == "up", gate.traffic()


def test_a_target_that_is_silent_or_talks_for_ever(gateway, upstream):
    def silent(connection):
        connection.read_request()
        connection.wait_end()

    def endless(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.send(b"x" * 65536)

    def long_head(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.send(b"X-Field: " + b"x" * 1000 + b"\r\n")

    servers = [upstream(silent), upstream(endless), upstream(long_head)]
    gate = watched(gateway, proxy_config(*servers, upstream=f"health = GET /health {FAST} fall 1"))
    gate.wait_health(named(servers[0]), "down")
    gate.wait_health(named(servers[1]), "up")      # the first 64k are enough
    gate.wait_health(named(servers[2]), "down")
    errors = {entry["target"]: entry["error"] for entry in gate.traffic()["health"]}
    assert errors[named(servers[0])] == "no answer within 500ms"


def test_tcp_and_unix_sockets(gateway, upstream, folder):
    tcp = upstream(lambda connection: connection.wait_end())
    local = upstream(Answer(), path=f"{folder}/app.sock")
    config = f"""
[listener public]
address = 127.0.0.1:0
[upstream tcp]
target = {tcp.target}
health = tcp {FAST} rise 1 fall 2
[upstream local]
target = {local.target}
health = GET /health {FAST}
[route tcp]
host = tcp
upstream = tcp
[route local]
upstream = local
"""
    gate = watched(gateway, config)
    name = "tcp" + named(tcp)[len("app"):]
    gate.wait_health(name, "up")
    gate.wait_health(f"local/unix:{folder}/app.sock", "up")
    tcp.stop_listening()
    gate.wait_health(name, "down")
    eventually(lambda: f"target {name} is down: Connection refused" in gate.log(), "a line in the log")


def test_a_reload_checks_what_is_new_at_once(gateway, upstream):
    first, second = upstream(Answer()), upstream(Answer())
    slow = "every 1h jitter 0%"
    gate = watched(gateway, proxy_config(first, upstream=f"health = GET /health {slow}"))
    gate.wait_health(named(first), "up")
    gate.reload(gate.config_with(proxy_config(first, second, upstream=f"health = GET /health {slow}")))
    gate.wait_health(named(second), "up")
    assert len(first.script.heads) == 1, "what did not change is not checked anew"
    gate.reload(gate.config_with(proxy_config(first, second, upstream=f"health = GET /health2 {slow}")))
    eventually(lambda: len(first.script.heads) == 2, "another check is made at once")
    gate.reload(gate.config_with(proxy_config(first)))
    eventually(lambda: not gate.health(), "nothing is checked any more")
