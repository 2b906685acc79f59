"""The access log: formats, escaping, sampling, several logs, full disks and reopening."""
import json
import os
import re
import signal

import pytest

from gateway import run_gatehouse
from peers import answering
from waiting import eventually

COMBINED = re.compile(
    r'(?P<client>\S+) - - \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] '
    r'"(?P<request>[^"]*)" (?P<status>\d{3}) (?P<bytes>\d+) "(?P<referer>[^"]*)" "(?P<agent>[^"]*)"')


@pytest.fixture
def logged(proxy, folder):
    """Starts a gateway with [log access] in a file of its own: logged(server, "log lines")."""
    logs = os.path.join(folder, "logs")
    os.mkdir(logs)

    def make(server, log="", route="", more="", flush="10ms", **options):
        path = os.path.join(logs, "access.log")
        config = f"{route}\n[log access]\nfile = {path}\nflush = {flush}\n{log}\n{more}"
        one = proxy(server, route=config.replace("LOGS", logs), **options)
        one.access = path
        one.logs = logs
        return one
    return make


def lines_of(path):
    with open(path, encoding="utf-8", newline="\n") as file:
        text = file.read()
    assert not text or text.endswith("\n")
    return text.split("\n")[:-1]


def wait_lines(path, count):
    return eventually(lambda: len(lines_of(path)) >= count and lines_of(path),
                      lambda: f"{count} lines: {lines_of(path)}")


def test_combined_is_the_default(logged, upstream):
    gateway = logged(upstream(answering(b"hello")))
    gateway.get("/a?b=c", "User-Agent: me/1.0", "Referer: http://from.example/")
    line, = wait_lines(gateway.access, 1)
    found = COMBINED.fullmatch(line)
    assert found, line
    assert found["client"] == "127.0.0.1" and found["status"] == "200" and found["bytes"] == "5"
    assert found["request"] == "GET /a?b=c HTTP/1.1"
    assert found["referer"] == "http://from.example/" and found["agent"] == "me/1.0"


def test_json_tells_everything(logged, upstream):
    server = upstream(answering(b"hello"))
    gateway = logged(server, "format = json")
    gateway.get("/a?b=c", 'User-Agent: "x\\y"')
    line, = wait_lines(gateway.access, 1)
    told = json.loads(line)
    assert told["status"] == 200 and told["bytes_out"] == 5 and told["bytes_in"] == 0
    assert (told["listener"], told["route"], told["upstream"]) == ("public", "all", "app")
    assert told["target"] == server.target.removeprefix("http://")
    assert told["client"] == "127.0.0.1" and told["method"] == "GET"
    assert (told["path"], told["query"], told["host"]) == ("/a", "b=c", "a.example")
    assert told["user_agent"] == '"x\\y"' and told["reason"] == "none" and told["tries"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["time"])
    assert 0 <= told["duration"] < 30 and told["upstream_duration"] <= told["duration"]
    assert told["request_id"] == server.requests[0].get("X-Request-ID")
    assert "referer" not in told


def test_refused_requests_are_logged_with_their_reason(logged, upstream):
    gateway = logged(upstream(), "format = json")
    with gateway.connect() as client:
        client.request(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    told = json.loads(wait_lines(gateway.access, 1)[0])
    assert told["status"] == 400 and told["reason"] == "repeated_host"
    assert told["route"] and told["listener"] == "public"


def test_what_clients_choose_stays_inside_its_line(logged, upstream):
    agent = b'a"b\\c\td\xff\xc3\xa4 [x] \x80'
    path = "LOGS/text.log"
    gateway = logged(upstream(), "format = json", route="log = access text",
                     more=f'[log text]\nfile = {path}\nflush = 10ms\n'
                          'format = <$header_user_agent> "$request_line"')
    with gateway.connect() as client:
        client.request(b'GET /%0d%0a"x HTTP/1.1\r\nHost: a.example\r\nUser-Agent: ' + agent +
                       b"\r\n\r\n")
    told = json.loads(wait_lines(gateway.access, 1)[0])
    assert told["user_agent"] == 'a"b\\c\td\ufffdä [x] \ufffd'
    line, = wait_lines(path.replace("LOGS", gateway.logs), 1)
    assert line.startswith('<a\\x22b\\x5Cc\\x09d\\xFF\\xC3\\xA4 [x] \\x80> "GET /%0d%0a\\x22x'), line


def test_logs_can_be_chosen_and_switched_off(logged, upstream):
    more = """
[log audit]
file = LOGS/audit.log
flush = 10ms
format = $method $path

[route quiet]
listener = public
path = /quiet/*
upstream = app
log = off

[route both]
listener = public
path = /both
upstream = app
log = access audit
"""
    gateway = logged(upstream(answering(b"")), "format = $path", more=more)
    for path in ("/quiet/1", "/both", "/usual"):
        gateway.get(path)
    assert wait_lines(gateway.access, 2) == ["/both", "/usual"]
    assert wait_lines(f"{gateway.logs}/audit.log", 1) == ["GET /both"]


def test_sampling_follows_the_request_id(logged, upstream):
    gateway = logged(upstream(answering(b"")), "format = $request_id\nsample = 2xx 20%")
    with gateway.connect() as client:
        for _ in range(500):
            client.get("/")
    # Refused requests are another class, and are written in full.
    with gateway.connect() as client:
        client.request(b"GET / HTTP/1.1\r\n\r\n")
    gateway.send_signal(signal.SIGQUIT)
    gateway.wait_exit()
    ids = lines_of(gateway.access)
    # 20 % of 500 is 100, give or take six standard deviations.
    assert 46 < len(ids) < 155
    assert len(set(ids)) == len(ids)


def test_workers_do_not_mix_their_lines(logged, upstream):
    gateway = logged(upstream(answering(b"")), "format = json\nbuffer = 4k", workers=2)
    for round_ in range(20):
        clients = [gateway.connect() for _ in range(4)]
        for number, client in enumerate(clients):
            for _ in range(5):
                client.get(f"/{round_}/{number}", "User-Agent: " + "x" * 300)
        for client in clients:
            client.close()
    lines = wait_lines(gateway.access, 400)
    assert len(lines) == 400
    assert len({json.loads(line)["worker"] for line in lines}) == 2


def test_what_is_buffered_is_written_at_the_end(logged, upstream):
    # A flush that is far away: only the end of the worker can bring the lines.
    gateway = logged(upstream(answering(b"")), "format = $path", flush="1m")
    for n in range(10):
        gateway.get(f"/{n}")
    gateway.send_signal(signal.SIGQUIT)
    gateway.wait_exit()
    assert lines_of(gateway.access) == [f"/{n}" for n in range(10)]


def test_reopening_after_a_rotation(logged, upstream):
    gateway = logged(upstream(answering(b"")), "format = $path\nbuffer = 64k")
    gateway.get("/before")
    wait_lines(gateway.access, 1)
    os.rename(gateway.access, gateway.access + ".1")
    gateway.get("/between")
    gateway.send_signal(signal.SIGUSR1)
    eventually(lambda: os.path.exists(gateway.access), "the file is made anew")

    def arrives_in_the_new_file():
        gateway.get("/after")
        return "/after" in lines_of(gateway.access)
    eventually(arrives_in_the_new_file, "lines go to the new file")
    old = lines_of(gateway.access + ".1")
    assert old[:1] == ["/before"] and set(old) <= {"/before", "/between", "/after"}
    assert "/between" in old + lines_of(gateway.access)


def test_a_full_disk_stops_no_traffic(proxy, upstream):
    gateway = proxy(upstream(answering(b"ok")),
                    route="\n[log access]\nfile = /dev/full\nflush = 10ms\nbuffer = 4k\n"
                          "format = $request_line $header_user_agent\n")
    with gateway.connect() as client:
        for _ in range(100):
            assert client.get("/", "User-Agent: " + "x" * 200).body == b"ok"
    gateway.wait_log(r"log access: cannot write: No space left on device")
    dropped = eventually(
        lambda: gateway.metrics()['gatehouse_log_lines_dropped_total{pool="default",worker="0"}'],
        "dropped lines are counted")
    assert 50 < dropped <= 100


def test_stdout_is_a_file_too(proxy, upstream):
    gateway = proxy(upstream(answering(b"")),
                    route="\n[log access]\nfile = stdout\nflush = 0s\nformat = line: $path $status\n")
    gateway.get("/here")
    gateway.wait_log(r"(?m)^line: /here 200$")


def test_an_unknown_log_is_an_error(folder):
    path = f"{folder}/x.conf"
    with open(path, "w") as file:
        file.write("[log access]\nfile = stdout\n[listener a]\naddress = 127.0.0.1:0\n"
                   "[route a]\nreply = 200\nlog = acess\n")
    checked = run_gatehouse("-t", "-c", path)
    assert checked.returncode != 0
    assert 'x.conf:7: [route a] log = acess: there is no [log acess]' in checked.stderr
    assert 'did you mean "access"?' in checked.stderr
