"""What the agent finds out reaches the traffic: verdicts take targets out and bring them back, and
discovered and registered targets are used within a second, without a failed request."""
import json
import os
import signal
import threading
import time

import pytest

from dns_server import DnsServer
from gateway import proxy_config, run_gatehouse
from peers import Gone, response_bytes
from traffic_agent import watched
from waiting import eventually

LISTENER = "[listener public]\naddress = 127.0.0.1:0\n[route app]\nupstream = app\n"
TOKEN = "0123456789abcdef-secret"
FAST = "every 100ms jitter 0% timeout 500ms"


class App:
    """A server that tells its name, and whose health is set by the test."""

    def __init__(self, upstream, name, **options):
        self.name = name
        self.healthy = True
        self.server = upstream(self.serve, **options)
        self.address = self.server.target[len("http://"):]

    def serve(self, connection):
        while True:
            request = connection.read_request()
            if request.target.startswith("/health"):
                status = "200 OK" if self.healthy else "503 Service Unavailable"
                connection.send(response_bytes(b"", status=status))
            else:
                connection.answer(self.name.encode())


class Load:
    """Clients that ask without a pause, and keep what they were told."""

    def __init__(self, gate, clients=4):
        self.gate = gate
        self.answers = []           # (time, status, name)
        self.failures = []
        self.ending = False
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self):
        client = self.gate.connect()
        while not self.ending:
            try:
                answer = client.get("/")
                self.answers.append((time.monotonic(), answer.status, answer.body.decode()))
                if answer.status != 200:
                    self.failures.append(answer.status)
                if answer.get("Connection") == "close":
                    client.close()
                    client = self.gate.connect()
                time.sleep(0.002)
            except (Gone, OSError) as error:
                self.failures.append(error)
                client = self.gate.connect()
        client.close()

    def names(self, seconds=0.3):
        """Who answered lately."""
        since = time.monotonic() - seconds
        return {name for when, _, name in self.answers[-4000:] if when > since}

    def wait_names(self, names, seconds=10):
        """Seconds until just these answer, for a while."""
        begin = time.monotonic()
        eventually(lambda: self.names() == set(names), lambda: f"{names}: {self.names()}", seconds)
        return time.monotonic() - begin

    def first(self, name, since):
        """Seconds from then to the first answer of this one."""
        eventually(lambda: any(who == name and when > since for when, _, who in self.answers[-4000:]),
                   f"an answer of {name}")
        return next(when for when, _, who in self.answers if who == name and when > since) - since

    def end(self):
        self.ending = True
        for thread in self.threads:
            thread.join(10)
        assert not self.failures, self.failures[:5]


@pytest.fixture
def place(folder):
    with open(f"{folder}/token", "w", encoding="utf-8") as file:
        file.write(TOKEN + "\n")
    os.mkdir(f"{folder}/state")
    os.chmod(f"{folder}/state", 0o777)
    return folder


def test_a_sick_target_gets_nothing_until_it_is_well(gateway, upstream):
    one, two = App(upstream, "one"), App(upstream, "two")
    gate = watched(gateway, proxy_config(one.server, two.server,
                                         upstream=f"health = GET /health {FAST} rise 2 fall 2"), workers=2)
    gate.wait_health("app/" + one.address, "up")
    load = Load(gate)
    load.wait_names({"one", "two"})
    two.healthy = False
    load.wait_names({"one"})
    two.healthy = True
    load.wait_names({"one", "two"})
    load.end()


def test_a_stale_agent_is_not_believed(gateway, upstream):
    one, two = App(upstream, "one"), App(upstream, "two")
    gate = watched(gateway, proxy_config(one.server, two.server,
                                         upstream=f"health = GET /health {FAST} fall 1"))
    gate.wait_health("app/" + one.address, "up")
    load = Load(gate, clients=2)
    two.healthy = False
    gate.wait_health("app/" + two.address, "down")
    load.wait_names({"one"})
    # The master must not replace it meanwhile.
    agent = gate.agent_pid
    begin = time.monotonic()
    os.kill(gate.pid, signal.SIGSTOP)
    os.kill(agent, signal.SIGSTOP)
    try:
        load.wait_names({"one", "two"}, 20)
        assert time.monotonic() - begin > 7, "a verdict counts as long as the heartbeat is fresh"
    finally:
        os.kill(agent, signal.SIGCONT)
        os.kill(gate.pid, signal.SIGCONT)
    # It beats again, or the master has found that it did not and made a new one.
    load.wait_names({"one"}, 20)
    load.end()


def test_a_new_agent_goes_on_with_what_was_known(gateway, upstream):
    one, two = App(upstream, "one"), App(upstream, "two")
    two.healthy = False
    gate = watched(gateway, proxy_config(
        one.server, two.server, upstream=f"health = GET /health {FAST} rise 1000 fall 1"))
    gate.wait_health("app/" + two.address, "down")
    load = Load(gate, clients=2)
    load.wait_names({"one"})
    two.healthy = True
    old = gate.agent_pid
    gate.send_signal(9, old)
    eventually(lambda: gate.status()["agent"]["pid"] not in (0, old), "another agent")
    eventually(lambda: gate.log().count("agent] listening on") == 2, "it listens")
    eventually(lambda: all(entry["checks"] > 3 for entry in gate.traffic()["health"]) and
               gate.traffic()["health"], "checks")
    assert gate.health()["app/" + two.address] == "down"
    load.wait_names({"one"})
    load.end()


def test_registered_targets_under_load(gateway, upstream, place):
    apps = [App(upstream, f"app{number}") for number in range(3)]
    gate = watched(gateway, LISTENER + "[upstream app]\ndiscover = api\n", workers=2,
                   agent=f"state = {place}/state\napi_token = {place}/token\n")

    def api(method, app, body=None):
        status, told = gate.agent(method, f"/v1/upstreams/app/targets/{app.address}", body, token=TOKEN)
        assert status in (200, 201), told

    api("PUT", apps[0])
    eventually(lambda: gate.get("/").status == 200, "the first target is used")
    load = Load(gate)
    delays = []
    for _ in range(10):
        for app in apps[1:]:
            begin = time.monotonic()
            api("PUT", app, {"lease": "1m"})
            delays.append(load.first(app.name, begin))
        api("DELETE", apps[1])
        api("DELETE", apps[2])
        load.wait_names({"app0"})
    delays.sort()
    print(f"registration to the first answer: median {delays[len(delays) // 2] * 1000:.0f} ms, "
          f"at most {delays[-1] * 1000:.0f} ms")
    assert delays[-1] < 1, delays
    load.end()


def test_discovered_targets_are_checked_too(gateway, upstream, place):
    path = f"{place}/targets.json"
    one, two = App(upstream, "one"), App(upstream, "two")
    two.healthy = False

    def write(apps):
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump([app.address for app in apps], file)
        os.rename(path + ".new", path)

    write([one, two])
    gate = watched(gateway, LISTENER + f"[upstream app]\ndiscover = file {path}\n"
                                       f"health = GET /health {FAST} rise 1 fall 1\n", workers=2)
    gate.wait_health("app/" + two.address, "down")
    eventually(lambda: gate.get("/").status == 200, "a target is used")
    load = Load(gate)
    load.wait_names({"one"})
    two.healthy = True
    load.wait_names({"one", "two"})
    write([two])
    load.wait_names({"two"})
    load.end()


def test_names_are_followed(gateway, upstream, place):
    dns = DnsServer()
    try:
        one = App(upstream, "one", host="127.0.0.2")
        two = App(upstream, "two", host="127.0.0.3", port=one.server.port)
        dns.set("app.test", "A", ["127.0.0.2"], ttl=1)
        gate = watched(gateway, LISTENER + f"[upstream app]\ntarget = http://app.test:{one.server.port}\n",
                       agent=f"resolver = {dns.address}\n", workers=2)
        eventually(lambda: gate.get("/").status == 200, "the name is resolved")
        load = Load(gate)
        load.wait_names({"one"})
        dns.set("app.test", "A", ["127.0.0.3"], ttl=1)
        load.wait_names({"two"})
        load.end()
        gate.reload(gate.config_with(
            LISTENER + f"[upstream app]\ntarget = http://app.test:{one.server.port}\ndiscover = dns\n"))
        dns.set("app.test", "A", ["127.0.0.2", "127.0.0.3"], ttl=1)
        load = Load(gate)
        load.wait_names({"one", "two"})
        load.end()
        # Gone: the target is down, and nothing else.
        dns.remove("app.test")
        eventually(lambda: gate.get("/").status == 503, "no target is left")
        dns.set("app.test", "A", ["127.0.0.2"], ttl=1)
        eventually(lambda: gate.get("/").status == 200, "it is back")
    finally:
        dns.close()


def test_without_an_agent_the_last_list_serves_on(gateway, upstream, place):
    app = App(upstream, "app")
    gate = watched(gateway, LISTENER + "[upstream app]\ndiscover = api\n",
                   agent=f"state = {place}/state\napi_token = {place}/token\n")
    status, told = gate.agent("PUT", f"/v1/upstreams/app/targets/{app.address}", token=TOKEN)
    assert status == 201, told
    eventually(lambda: gate.get("/").status == 200, "the target is used")
    os.kill(gate.agent_pid, signal.SIGSTOP)
    assert [gate.get("/").status for _ in range(5)] == [200] * 5
    # A worker that begins anew finds the list as well. (An answer is counted after it was sent.)
    eventually(lambda: sum(worker["requests"] for worker in gate.status()["workers"])
               == gate.gate.gateway.sent, "all are counted")
    old = gate.worker
    gate.send_signal(9, old)
    eventually(lambda: old not in (gate.workers() or [old]), "another worker")
    assert [gate.get("/").status for _ in range(5)] == [200] * 5


def test_over_an_upgrade(gateway, upstream, place):
    """Two agents for a while: the new one takes the duty over when the old one has ended."""
    app = App(upstream, "app")
    gate = watched(gateway, LISTENER + f"[upstream app]\ndiscover = api\nhealth = GET /health {FAST}\n",
                   agent=f"state = {place}/state\napi_token = {place}/token\n", workers=2)
    path = f"/v1/upstreams/app/targets/{app.address}"
    assert gate.agent("PUT", path, {"lease": "1h"}, token=TOKEN)[0] == 201
    eventually(lambda: gate.get("/").status == 200, "the target is used")
    gate.gate.gateway.sent = None
    old = gate.pid
    load = Load(gate, clients=2)
    done = run_gatehouse("upgrade", "--control", gate.path)
    assert done.returncode == 0, done.stderr
    new = eventually(lambda: gate.status()["pid"] != old and gate.status()["pid"], "the new master")
    try:
        load.end()
        eventually(lambda: gate.log().count("checking and discovering targets") == 2, gate.log)
        eventually(lambda: gate.status()["agent"]["state"] == "ready", "the agent is ready")
        eventually(lambda: gate.agent("GET", path, token=TOKEN)[0] == 200, "it knows the registration")
        gate.wait_health("app/" + app.address, "up")
        app.healthy = False
        gate.wait_health("app/" + app.address, "down")
    finally:
        os.kill(new, signal.SIGQUIT)
        eventually(lambda: not os.path.exists(f"/proc/{new}"), "the new master ends")
        gate.gate.gateway.wait_exit()
