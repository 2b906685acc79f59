"""Targets that register themselves: by the command line, over HTTP with a token or a unix socket, with
leases, and over restarts of the agent and of the gateway."""
import http.client
import json
import os
import socket
import time

import pytest

from gateway import run_gatehouse
from traffic_agent import watched
from waiting import eventually

LISTENER = "[listener public]\naddress = 127.0.0.1:0\n[route app]\nupstream = app\n"
UPSTREAMS = "[upstream app]\ndiscover = api\n[upstream fixed]\ntarget = http://127.0.0.1:9\n"
TOKEN = "0123456789abcdef-secret"


@pytest.fixture
def place(folder):
    """A folder with a token that any user may read, and one for the agent's state."""
    with open(f"{folder}/token", "w", encoding="utf-8") as file:
        file.write(TOKEN + "\n")
    os.mkdir(f"{folder}/state")
    os.chmod(f"{folder}/state", 0o777)
    return folder


def start(gateway, place, agent="", config=LISTENER + UPSTREAMS):
    return watched(gateway, config,
                   agent=f"state = {place}/state\napi_token = {place}/token\n" + agent)


def path_of(address, upstream="app"):
    return f"/v1/upstreams/{upstream}/targets/{address}"


def members(gate, upstream="app"):
    return {member["address"]: member for member in gate.traffic()["members"].get(upstream, [])}


def command(gate, *words):
    return run_gatehouse("target", *words, "--control", gate.path)


def test_over_http(gateway, place):
    gate = start(gateway, place)

    def api(method, path, body=None):
        return gate.agent(method, path, body, token=TOKEN)

    assert api("GET", "/v1/upstreams") == (200, {"upstreams": ["app"]})
    status, made = api("PUT", path_of("127.0.0.2:8080"),
                       {"weight": 5, "version": "1.4", "tags": ["blue", "new"], "lease": "30s"})
    assert status == 201 and made["kept"] and made["lease"] == "30s" and made["tags"] == ["blue", "new"]
    found = eventually(lambda: members(gate).get("127.0.0.2:8080"), "a member")
    assert (found["weight"], found["version"], found["tags"]) == (5, "1.4", "blue new")
    status, again = api("PUT", path_of("127.0.0.2:8080"), {"weight": 6, "lease": "1m"})
    assert status == 200 and again["expires_us"] > made["expires_us"]
    assert again["registered_us"] == made["registered_us"]
    assert api("PUT", path_of("%5B::1%5D:81"))[0] == 201
    assert api("PUT", path_of("unix:/run/a%20b/app.sock"), {"backup": True})[0] == 201
    status, listed = api("GET", "/v1/upstreams/app/targets")
    assert {one["address"] for one in listed["targets"]} == \
        {"127.0.0.2:8080", "[::1]:81", "unix:/run/a b/app.sock"}
    assert api("GET", path_of("127.0.0.2:8080"))[1]["weight"] == 6
    assert api("DELETE", path_of("127.0.0.2:8080")) == (200, {"removed": True})
    eventually(lambda: "127.0.0.2:8080" not in members(gate), "it is gone")
    assert api("DELETE", path_of("127.0.0.2:8080"))[0] == 404
    assert api("GET", path_of("127.0.0.2:8080"))[0] == 404


def test_what_is_refused(gateway, place):
    gate = start(gateway, place)
    good = path_of("127.0.0.2:80")
    for method in ("GET", "PUT", "DELETE"):
        assert gate.agent(method, good)[0] == 401
        assert gate.agent(method, good, token="0123456789abcdef-secreT")[0] == 401
        assert gate.agent(method, good, token=TOKEN + "x")[0] == 401
    for method, path, body, code in [
            ("PUT", path_of("127.0.0.2:80", "fixed"), None, 404),
            ("PUT", path_of("127.0.0.2:80", "nobody"), None, 404),
            ("PUT", path_of("app.test:80"), None, 400), ("PUT", path_of("127.0.0.2:0"), None, 400),
            ("PUT", good, "{", 400), ("PUT", good, [], 400), ("PUT", good, {"wieght": 1}, 400),
            ("PUT", good, {"weight": 0}, 400), ("PUT", good, {"lease": "1ms"}, 400),
            ("PUT", good, {"lease": 30}, 400), ("PUT", good, {"tags": ["a b"]}, 400),
            ("PUT", good, {"version": "v" * 40}, 400), ("POST", good, None, 405),
            ("PUT", "/v1/upstreams/app/targets", None, 405), ("DELETE", "/v1/upstreams", None, 405),
            ("GET", "/v1/upstreams/app", None, 404), ("GET", "/v1/other", None, 404),
            ("GET", "/v1/upstreams/a%zz/targets", None, 404), ("PUT", good, "x" * 5000, 413)]:
        status, told = gate.agent(method, path, body, token=TOKEN)
        assert status == code, (method, path, body, status, told)
    assert members(gate) == {}
    # The pages stay as they are: without a token, and only to be read.
    assert gate.agent("GET", "/metrics")[0] == 200 and gate.agent("PUT", "/status")[0] == 405


def test_without_a_token_only_the_socket(gateway, place):
    gate = watched(gateway, LISTENER + UPSTREAMS,
                   agent=f"state = {place}/state\napi_socket = {place}/state/api.sock\n")
    assert gate.agent("PUT", path_of("127.0.0.2:80"), token=TOKEN)[0] == 403
    eventually(lambda: os.path.exists(f"{place}/state/api.sock"), "the socket")
    assert os.stat(f"{place}/state/api.sock").st_mode & 0o777 == 0o660
    connection = http.client.HTTPConnection("gatehouse")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(f"{place}/state/api.sock")
    connection.request("PUT", path_of("127.0.0.2:80"), json.dumps({"weight": 2}))
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    answer.read()
    connection.close()
    assert members(gate)["127.0.0.2:80"]["weight"] == 2


def test_by_the_command_line(gateway, place):
    gate = start(gateway, place)
    done = command(gate, "register", "app", "127.0.0.2:80", "weight", "3", "lease", "1h", "version", "9",
                   "tag", "a", "tag", "b", "backup")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    one = members(gate)["127.0.0.2:80"]
    assert one["backup"] and one["weight"] == 3 and one["tags"] == "a b" and one["version"] == "9"
    table = command(gate, "registrations", "app").stdout.splitlines()
    assert table[0].split()[0] == "ADDRESS" and table[1].split()[:5] == ["127.0.0.2:80", "3", "yes", "9", "a"]
    listed = json.loads(command(gate, "registrations", "app", "--json").stdout)
    assert listed["targets"][0]["lease"] == "1h"
    for words, why in [(("register", "app", "nonsense"), "not an address"),
                       (("register", "fixed", "127.0.0.2:80"), "no [upstream fixed] with discover = api"),
                       (("deregister", "app", "127.0.0.9:80"), "is not registered")]:
        done = command(gate, *words)
        assert done.returncode == 1 and why in done.stderr, done
    for words in [("register", "app", "127.0.0.2:80", "weigth", "3"), ("register", "app"),
                  ("register", "app", "127.0.0.2:80", "weight"), ("deregister", "app")]:
        assert command(gate, *words).returncode == 2
    assert command(gate, "deregister", "app", "127.0.0.2:80").returncode == 0
    assert members(gate) == {}


def test_a_lease_ends_by_itself(gateway, place):
    gate = start(gateway, place)
    gate.agent("PUT", path_of("127.0.0.2:80"), {"lease": "2s"}, token=TOKEN)
    gate.agent("PUT", path_of("127.0.0.3:80"), {"lease": "2s"}, token=TOKEN)
    assert set(members(gate)) == {"127.0.0.2:80", "127.0.0.3:80"}
    begin = time.monotonic()
    while time.monotonic() < begin + 3:
        status, _ = gate.agent("PUT", path_of("127.0.0.2:80"), {"lease": "2s"}, token=TOKEN)
        assert status == 200
        time.sleep(0.3)
    assert set(members(gate)) == {"127.0.0.2:80"}, "one was renewed, the other not"
    eventually(lambda: members(gate) == {}, "the other ends too", 5)
    assert "target app/127.0.0.2:80: its lease is over" in gate.log()
    # Renewing is no change that workers have to follow.
    assert gate.log().count("upstream app has 2 discovered targets now") == 1


def test_over_restarts(gateway, place):
    gate = start(gateway, place)
    gate.agent("PUT", path_of("127.0.0.2:80"), {"weight": 4, "tags": ["a"]}, token=TOKEN)
    gate.agent("PUT", path_of("127.0.0.3:80"), {"lease": "1h"}, token=TOKEN)
    gate.agent("PUT", path_of("127.0.0.4:80"), {"lease": "1s"}, token=TOKEN)
    gate.agent("PUT", path_of("127.0.0.5:80"), token=TOKEN)
    gate.agent("DELETE", path_of("127.0.0.5:80"), token=TOKEN)
    expires = gate.agent("GET", path_of("127.0.0.3:80"), token=TOKEN)[1]["expires_us"]
    old = gate.agent_pid
    gate.send_signal(9, old)
    eventually(lambda: gate.status()["agent"]["pid"] not in (0, old), "another agent")
    eventually(lambda: gate.log().count("agent] listening on") == 2, "it listens")
    eventually(lambda: set(members(gate)) == {"127.0.0.2:80", "127.0.0.3:80"}, lambda: gate.traffic())
    assert gate.agent("GET", path_of("127.0.0.3:80"), token=TOKEN)[1]["expires_us"] == expires
    # A reload that does not name the upstream keeps what is registered for when it does again.
    gate.reload(gate.config_with(LISTENER.replace("= app\n", "= fixed\n") + UPSTREAMS.split("\n", 2)[2]))
    eventually(lambda: gate.agent("GET", "/v1/upstreams", token=TOKEN)[1] == {"upstreams": []}, "none")
    gate.reload(gate.config_with(LISTENER + UPSTREAMS))
    eventually(lambda: set(members(gate)) == {"127.0.0.2:80", "127.0.0.3:80"}, lambda: gate.traffic())
    # Another gateway on the same state, as after a reboot.
    gate.stop()
    gate = start(gateway, place)
    eventually(lambda: set(members(gate)) == {"127.0.0.2:80", "127.0.0.3:80"}, lambda: gate.traffic())
    assert members(gate)["127.0.0.2:80"]["weight"] == 4


def test_a_damaged_database_and_none_at_all(gateway, place):
    with open(f"{place}/state/registrations.db", "wb") as file:
        file.write(b"this is no database" * 100)
    os.chmod(f"{place}/state/registrations.db", 0o666)
    gate = start(gateway, place)
    status, made = gate.agent("PUT", path_of("127.0.0.2:80"), token=TOKEN)
    assert status == 201 and made["kept"]
    assert os.path.exists(f"{place}/state/registrations.db.damaged")
    assert "registrations begin anew" in gate.log()
    gate.stop()
    gate = watched(gateway, LISTENER + UPSTREAMS, agent=f"state = none\napi_token = {place}/token\n")
    status, made = gate.agent("PUT", path_of("127.0.0.3:80"), token=TOKEN)
    assert status == 201 and not made["kept"]
    assert set(members(gate)) == {"127.0.0.3:80"}
    done = command(gate, "register", "app", "127.0.0.4:80")
    assert done.returncode == 0 and "until the agent ends" in done.stderr
