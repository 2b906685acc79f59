"""Discovery: names that are looked up again, SRV records, a watched file. What the agent finds is
read where it tells it; that workers follow is tested in test_discovered_traffic.py."""
import json
import os
import time

import pytest

from dns_server import DnsServer
from traffic_agent import watched
from waiting import eventually

LISTENER = "[listener public]\naddress = 127.0.0.1:0\n[route app]\nupstream = app\n"


@pytest.fixture
def dns():
    server = DnsServer()
    yield server
    server.close()


def start(gateway, dns, upstream, **options):
    return watched(gateway, f"{LISTENER}[upstream app]\n{upstream}\n",
                   agent=f"resolver = {dns.address}\n" + options.pop("agent", ""), **options)


def members(gate, upstream="app"):
    """{address: member} of what was discovered."""
    return {member["address"]: member for member in gate.traffic()["members"].get(upstream, [])}


def wait_members(gate, addresses, seconds=30, upstream="app"):
    return eventually(lambda: members(gate, upstream) if set(members(gate, upstream)) == set(addresses) else None,
                      lambda: f"members {addresses}: {gate.traffic()}", seconds) or {}


def test_a_name_is_one_target_whose_address_follows_it(gateway, dns):
    dns.set("app.test", "A", ["127.0.0.2"], ttl=1)
    gate = start(gateway, dns, "target = http://app.test:8080 weight 3\ntarget = http://127.0.0.9:80")
    found = wait_members(gate, ["127.0.0.2:8080"])["127.0.0.2:8080"]
    assert found["line"] and found["weight"] == 3
    dns.set("app.test", "A", ["127.0.0.1", "127.0.0.2"], ttl=1)
    asked = dns.asked("app.test")
    eventually(lambda: dns.asked("app.test") >= asked + 4, "it is asked again")
    assert set(members(gate)) == {"127.0.0.2:8080"}, "the address that is still right stays"
    dns.set("app.test", "A", ["127.0.0.1"], ttl=1)
    wait_members(gate, ["127.0.0.1:8080"])


def test_the_ttl_says_when_to_ask_again(gateway, dns):
    dns.set("slow.test", "A", ["127.0.0.2"], ttl=300)
    dns.set("fast.test", "A", ["127.0.0.3"], ttl=300)
    dns.set("alias.test", "CNAME", ["real.test"], ttl=1)
    dns.set("real.test", "A", ["127.0.0.4"], ttl=300)
    gate = start(gateway, dns, "target = http://slow.test", agent="")
    gate.reload(gate.config_with(
        LISTENER + "[upstream app]\ntarget = http://slow.test\n"
        "[upstream fast]\ndiscover = dns every 1s\ntarget = http://fast.test\n"
        "[upstream alias]\ntarget = http://alias.test\n[route b]\nhost = b\nupstream = fast\n"
        "[route c]\nhost = c\nupstream = alias\n"))
    eventually(lambda: dns.asked("fast.test") >= 6, "every 1s")
    eventually(lambda: dns.asked("alias.test") >= 6, "the least TTL counts")
    assert dns.asked("slow.test") <= 4      # A and AAAA, once or twice
    assert set(members(gate, "alias")) == {"127.0.0.4:80"}


def test_each_address_is_a_target(gateway, dns):
    dns.set("app.test", "A", ["127.0.0.2", "127.0.0.3"], ttl=1)
    dns.set("app.test", "AAAA", ["::1"], ttl=1)
    gate = start(gateway, dns, "target = http://app.test:8080 weight 2\ntarget = http://127.0.0.3:8080\n"
                               "discover = dns")
    found = wait_members(gate, ["127.0.0.2:8080", "[::1]:8080"])
    assert not found["127.0.0.2:8080"]["line"] and found["127.0.0.2:8080"]["weight"] == 2
    dns.set("app.test", "AAAA", [])
    dns.set("app.test", "A", ["127.0.0.2", "127.0.0.4"])
    wait_members(gate, ["127.0.0.2:8080", "127.0.0.4:8080"])


def test_srv_records(gateway, dns):
    dns.set("one.test", "A", ["127.0.0.2"])
    dns.set("two.test", "A", ["127.0.0.3"])
    dns.set("far.test", "A", ["127.0.0.4"])
    dns.set("_http._tcp.app.test", "SRV",
            [(10, 60, 8001, "one.test"), (10, 0, 8002, "two.test"), (20, 5, 8003, "far.test"),
             (10, 1, 8004, "gone.test")], ttl=1)
    gate = start(gateway, dns, "target = http://_http._tcp.app.test\ndiscover = dns srv")
    found = wait_members(gate, ["127.0.0.2:8001", "127.0.0.3:8002", "127.0.0.4:8003"])
    assert {address: (one["weight"], one["backup"]) for address, one in found.items()} == {
        "127.0.0.2:8001": (60, False), "127.0.0.3:8002": (1, False), "127.0.0.4:8003": (5, True)}
    dns.set("_http._tcp.app.test", "SRV", [(20, 5, 8003, "far.test")], ttl=1)
    assert wait_members(gate, ["127.0.0.4:8003"])["127.0.0.4:8003"]["backup"] is False
    dns.set("_http._tcp.app.test", "SRV", [(0, 0, 0, ".")], ttl=1)
    eventually(lambda: not members(gate), "no service")


def test_a_name_that_is_gone_and_a_resolver_that_is_away(gateway, dns):
    dns.set("app.test", "A", ["127.0.0.2"], ttl=1)
    gate = start(gateway, dns, "target = http://app.test", agent="resolver_stale = 1h\n")
    wait_members(gate, ["127.0.0.2:80"])
    # Nobody answers: what was known stays.
    for mode in ("servfail", "silent"):
        dns.mode = mode
        asked = dns.asked("app.test")
        eventually(lambda: dns.asked("app.test") >= asked + 4, "it is asked again")
        assert set(members(gate)) == {"127.0.0.2:80"}
    eventually(lambda: "does not resolve; the last answer stays for now" in gate.log(), "a line in the log")
    # The name is gone: so is its target, and nothing else.
    dns.mode = "answer"
    dns.remove("app.test")
    eventually(lambda: not members(gate), "no member")
    dns.set("app.test", "A", ["127.0.0.5"])
    wait_members(gate, ["127.0.0.5:80"])
    eventually(lambda: "the name app.test resolves again" in gate.log(), "a line in the log")


def test_a_resolver_that_is_away_for_too_long(gateway, dns):
    dns.set("app.test", "A", ["127.0.0.2"], ttl=1)
    gate = start(gateway, dns, "target = http://app.test", agent="resolver_stale = 1s\n")
    wait_members(gate, ["127.0.0.2:80"])
    dns.mode = "servfail"
    eventually(lambda: not members(gate), "no member")
    eventually(lambda: "has not been answered for too long" in gate.log(), "a line in the log")


def test_a_new_agent_keeps_what_was_found(gateway, dns, folder):
    dns.set("app.test", "A", ["127.0.0.2", "127.0.0.3"], ttl=1)
    path = f"{folder}/targets.json"
    write(path, ["127.0.0.4:80"])
    gate = start(gateway, dns, f"target = http://app.test\ndiscover = dns\n[upstream file]\n"
                               f"discover = file {path}\n[route b]\nhost = b\nupstream = file")
    wait_members(gate, ["127.0.0.2:80", "127.0.0.3:80"])
    wait_members(gate, ["127.0.0.4:80"], upstream="file")
    dns.mode = "silent"
    write(path, "nonsense")
    old = gate.agent_pid
    gate.send_signal(9, old)
    eventually(lambda: gate.status()["agent"]["pid"] not in (0, old), "another agent")
    eventually(lambda: gate.log().count("agent] listening on") == 2, "it listens")
    wait_members(gate, ["127.0.0.2:80", "127.0.0.3:80"])
    wait_members(gate, ["127.0.0.4:80"], upstream="file")
    asked = dns.asked("app.test")
    eventually(lambda: dns.asked("app.test") > asked, "it asks")
    assert set(members(gate)) == {"127.0.0.2:80", "127.0.0.3:80"}


def write(path, content, replace=True):
    """Puts the content into the file: as JSON unless it is a text."""
    text = content if isinstance(content, str) else json.dumps(content)
    place = path + ".new" if replace else path
    with open(place, "w", encoding="utf-8") as file:
        file.write(text)
    if replace:
        os.rename(place, path)


def test_a_file_of_targets(gateway, dns, folder):
    path = f"{folder}/targets.json"
    gate = start(gateway, dns, f"discover = file {path} every 1h\ntarget = http://127.0.0.9:80")
    eventually(lambda: "No such file or directory" in gate.log(), "a line in the log")
    write(path, {"targets": ["127.0.0.2:80", {"address": "[::1]:81", "weight": 7, "backup": True,
                                              "version": "1.2", "tags": ["blue", "new"]},
                             "127.0.0.9:80"]})
    # The folder is watched: nobody waits for the hour.
    found = wait_members(gate, ["127.0.0.2:80", "[::1]:81"])
    assert found["[::1]:81"] == {"address": "[::1]:81", "weight": 7, "backup": True, "version": "1.2",
                                 "tags": "blue new", "line": False}
    write(path, ["127.0.0.3:80"], replace=False)
    wait_members(gate, ["127.0.0.3:80"])
    for bad, why in [("[", "not JSON"), ({"targets": [{"address": "127.0.0.1:80", "wieght": 2}]}, "weight"),
                     (["localhost:80"], "not an address"), (["127.0.0.1:80", "127.0.0.1:80"], "there twice"),
                     ({"targets": {}}, "expected a list"), ([{"address": "127.0.0.1:80", "weight": 0}], "1 to")]:
        write(path, bad)
        eventually(lambda: why in gate.traffic()["files"][0]["error"], lambda: f"{why}: {gate.traffic()}")
        assert set(members(gate)) == {"127.0.0.3:80"}, "the last good list stays"
    os.unlink(path)
    write(path, [])
    eventually(lambda: not members(gate), "an empty list is a list")
    # By a link that is moved, as Kubernetes does it.
    os.mkdir(f"{folder}/data1")
    write(f"{folder}/data1/targets.json", ["127.0.0.6:80"])
    os.unlink(path)
    os.symlink(f"{folder}/data/targets.json", path)
    os.symlink("data1", f"{folder}/data")
    wait_members(gate, ["127.0.0.6:80"])


def test_changes_are_published_at_once(gateway, dns, folder):
    path = f"{folder}/targets.json"
    write(path, ["127.0.0.2:80"])
    gate = start(gateway, dns, f"discover = file {path}")
    wait_members(gate, ["127.0.0.2:80"])
    slowest = 0
    for number in range(3, 13):
        begin = time.monotonic()
        write(path, [f"127.0.0.{number}:80"])
        wait_members(gate, [f"127.0.0.{number}:80"])
        slowest = max(slowest, time.monotonic() - begin)
    assert slowest < 1, f"{slowest:.3f} s"


def test_too_many_targets(gateway, dns, folder):
    path = f"{folder}/targets.json"
    write(path, [f"127.0.0.{n}:80" for n in range(1, 8)])
    gate = start(gateway, dns, f"discover = file {path}", gatehouse="discovered_targets = 5\n")
    eventually(lambda: "upstream app has 7 targets, 2 too many" in gate.log(), "a line in the log")
