"""The agent alone, with a master played by the test: messages, history, HTTP, its own life."""
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time

import pytest

from agent_master import AGENT, READY, AgentMaster, now_us
from gateway import SANITIZED, title_of
from waiting import DEADLINE, eventually

GOOD = "[listener a]\naddress = 127.0.0.1:8080\n[route r]\nlistener = a\nreply = 200\n"
BAD = "[listener a]\naddres = 127.0.0.1:8080\n[route r]\nlistener = b\nreply = 200\n"


@pytest.fixture
def master(folder):
    with AgentMaster(folder) as one:
        yield one


def settings(folder, *lines, rest=GOOD):
    return "[agent]\n" + "\n".join([f"state = {folder}/state", *lines]) + "\n" + rest


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port, path, method="GET", headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def listens(port):
    try:
        return get(port, "/health")[0] == 200
    except OSError:
        return False


# ---- Life ----

def test_started_by_hand_it_says_what_it_is():
    for arguments in ([], ["--channel", "3"], ["--channel", "99", "--shared", "98"], ["--what"],
                      ["--channel", "x", "--shared", "4"], ["--channel"]):
        done = subprocess.run([AGENT, *arguments], capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 2 and "gatehouse-agent" in done.stderr and done.stdout == ""
    for option, wanted in (("-v", "gatehouse-agent "), ("-h", "--channel FD")):
        done = subprocess.run([AGENT, option], capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0 and wanted in done.stdout and done.stderr == ""


def test_the_channel_has_to_be_one(tmp_path):
    with open(tmp_path / "file", "wb") as file:
        done = subprocess.run([AGENT, "--channel", str(file.fileno()), "--shared", str(file.fileno())],
                              pass_fds=[file.fileno()], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 2


def test_it_greets_and_beats(master, folder):
    assert master.good("hello")["pid"] == master.process.pid
    assert title_of(master.process.pid) == "gatehouse: agent"
    started, _beat, pid, state = master.heartbeat()
    assert pid == master.process.pid and state == 1
    assert abs(now_us() - started) < 60e6
    master.current(settings(folder))
    assert master.heartbeat()[3] == 2
    first = master.heartbeat()[1]
    eventually(lambda: master.heartbeat()[1] > first, "the next beat")


@pytest.mark.parametrize("end", ["channel", "shutdown", "TERM"])
def test_it_ends_when_told(master, end):
    master.good("hello")
    if end == "channel":
        master.channel.shutdown(socket.SHUT_RDWR)
    elif end == "shutdown":
        master.good("shutdown")
    else:
        master.process.send_signal(signal.SIGTERM)
    assert master.process.wait(timeout=DEADLINE) == 0
    assert master.heartbeat()[3] == 3


def test_signals_that_are_not_meant_for_it_do_nothing(master):
    master.good("hello")
    for name in ("HUP", "QUIT", "USR1", "USR2", "IO", "PIPE"):
        master.process.send_signal(getattr(signal, f"SIG{name}"))
    assert master.good("hello")["pid"] == master.process.pid


def test_nonsense_is_refused_and_costs_nothing_else(master, folder):
    master.current(settings(folder))
    for command, body, fds in (("dance", {}, []), ("validate", {}, []), ("store", {"outcome": "fun"}, []),
                               ("current", {}, []), ("history_get", {"number": 77}, []),
                               ("history_get", {"number": "x"}, [])):
        reply, _fds = master.ask(command, body, fds)
        assert not reply["ok"] and reply["error"], command
    plain = os.memfd_create("unsealed")
    os.write(plain, b"x" * 100)
    for command in ("validate", "store", "current"):
        reply, _fds = master.ask(command, {"outcome": "applied"}, [plain])
        assert not reply["ok"] and "sealed" in reply["error"]
    os.close(plain)
    master.channel.send(b"no JSON at all")
    assert master.good("hello")


# ---- Checking and keeping ----

def test_a_configuration_is_checked_and_kept(master, folder):
    master.current(settings(folder))
    reply, told = master.validate(GOOD)
    assert reply["ok"] and not told["errors"], told
    number = reply["number"]
    assert number == 2, "the one that serves is the first"
    newest = master.good("history_list")["versions"][0]
    assert newest["number"] == number and newest["outcome"] == "checked"

    assert master.store(GOOD, 2)["number"] == number
    versions = master.good("history_list")["versions"]
    assert [v["outcome"] for v in versions] == ["applied", "applied"]
    assert versions[0]["by"] == "uid 0" and versions[0]["generation"] == 2
    assert versions[1]["running"] and not versions[0]["running"]
    master.current(GOOD + settings(folder, rest=""), 2)


def test_all_errors_are_told(master, folder):
    master.current(settings(folder))
    reply, told = master.validate(BAD)
    assert reply["ok"]
    assert "config.conf:2: [listener a] addres = 127.0.0.1:8080: unknown key" in told["errors"]
    assert "config.conf:4: [route r] listener = b" in told["errors"]
    assert len(master.good("history_list")["versions"]) == 1, "it is for the master to say what became of it"
    assert master.store(BAD, 2, "refused", told["errors"])["ok"]
    version = master.good("history_list")["versions"][0]
    assert version["outcome"] == "refused" and "unknown key" in version["error"]


def test_the_bytes_come_back(master, folder):
    master.current(settings(folder))
    number = master.store(GOOD, 2)["number"]
    fd = master.seal(GOOD)
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        wanted = file.read()
    reply, fds = master.ask("history_get", {"number": number})
    assert reply["ok"] and reply["version"]["number"] == number
    with os.fdopen(fds[0], "rb") as file:
        file.seek(0)
        assert file.read() == wanted
    reply, fds = master.ask("history_get", {"number": 0})
    os.close(fds[0])
    assert reply["version"]["number"] == 1 and reply["version"]["running"]


def test_an_attempt_without_bytes_is_kept_too(master, folder):
    master.current(settings(folder))
    reply, _fds = master.ask("store", {"generation": 2, "outcome": "refused", "error": "cannot open x.conf"})
    assert reply["ok"]
    assert master.good("history_list")["versions"][0]["error"] == "cannot open x.conf"
    got, _fds = master.ask("history_get", {"number": reply["number"]})
    assert not got["ok"] and "no bytes" in got["error"]


def test_a_long_list_comes_in_pages(master, folder):
    master.current(settings(folder))
    for generation in range(2, 160):
        reply, _fds = master.ask("store", {"generation": generation, "outcome": "refused", "error": "e" * 2000})
        assert reply["ok"]
    seen, before = [], 0
    while True:
        page = master.good("history_list", {"limit": 1000, "before": before})
        seen += [v["number"] for v in page["versions"]]
        if not page["more"]:
            break
        before = seen[-1]
    assert seen == list(range(159, 0, -1))
    assert len(master.good("history_list", {"limit": 3})["versions"]) == 3


def test_what_was_stored_survives_a_killed_agent(master, folder):
    for round_ in range(5):
        master.current(settings(folder), round_ + 1)
        assert master.store(GOOD + f"# {round_}\n", round_ + 2)["ok"]
        threading.Timer(0.001 * round_, master.process.kill).start()
        for n in range(50):
            try:
                master.ask("store", {"generation": 0, "outcome": "refused", "error": str(n)})
            except OSError:
                break
        master.kill()
        master.start()
    master.current(settings(folder), 9)
    kept = {v["generation"] for v in master.good("history_list", {"limit": 1000})["versions"]}
    assert {2, 3, 4, 5, 6} <= kept
    assert "damaged" not in master.log()


def test_the_heart_beats_while_a_large_configuration_is_checked(master, folder):
    master.current(settings(folder))
    routes = "".join(f"[route r{n}]\nlistener = a\nhost = h{n}.example.com\nreply = 200\n"
                     for n in range(500 if SANITIZED else 5000))
    beats, done = [], threading.Event()

    def watch():
        while not done.is_set():
            beats.append((time.monotonic(), master.heartbeat()[1]))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(3):
        reply, told = master.validate(GOOD + routes)
        assert reply["ok"] and not told["errors"]
    done.set()
    watcher.join()
    assert all(abs(beat / 1e6 - time.time()) < 60 for _when, beat in beats)
    stale = max(when - next(w for w, b in beats if b == beat) for when, beat in beats)
    assert stale < 2.5, stale


# ---- What goes wrong with the history ----

def test_a_full_disk_refuses_the_configuration_and_nothing_else(folder):
    """A small tmpfs where one can be mounted; elsewhere the kernel's limit of a file's size."""
    state = os.path.join(folder, "state")
    os.mkdir(state)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k,mode=700", "none", state],
                             capture_output=True).returncode == 0

    def limit():
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    large = GOOD + "# " + os.urandom(500_000).hex() + "\n"
    try:
        with AgentMaster(folder, preexec=None if mounted else limit) as master:
            master.current(settings(folder))
            reply, told = master.validate(large)
            assert not reply["ok"] and told is None
            assert "cannot be kept" in reply["error"] and "history.db" in reply["error"]
            assert not master.store(large, 2)["ok"]
            reply, told = master.validate(GOOD + "# small\n")
            assert reply["ok"] and not told["errors"], reply
            assert master.store(GOOD + "# small\n", 2)["ok"]
            assert "history: " in master.log()
            assert len(master.good("history_list")["versions"]) == 2
    finally:
        if mounted:
            subprocess.run(["umount", state], check=True)


def test_a_damaged_history_is_begun_anew(master, folder):
    master.current(settings(folder))
    assert master.store(GOOD, 2)["ok"]
    master.kill()
    for suffix in ("-wal", "-shm"):
        if os.path.exists(f"{folder}/state/history.db{suffix}"):
            os.unlink(f"{folder}/state/history.db{suffix}")
    with open(f"{folder}/state/history.db", "r+b") as file:
        file.write(b"not a database" * 1000)
    master.start()
    master.current(settings(folder), 3)
    assert master.store(GOOD, 4)["ok"]
    assert [v["generation"] for v in master.good("history_list")["versions"]] == [4, 3]
    assert master.log().count("the history was damaged") == 1
    assert any(".damaged-" in name for name in os.listdir(f"{folder}/state"))


def test_a_locked_history_is_an_error_that_passes(master, folder):
    master.current(settings(folder))
    assert master.store(GOOD, 2)["ok"]
    other = sqlite3.connect(f"{folder}/state/history.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    reply = master.store(GOOD, 3)
    assert not reply["ok"] and "locked" in reply["error"]
    assert master.good("hello")
    other.execute("ROLLBACK")
    other.close()
    assert master.store(GOOD, 3)["ok"]


def test_without_a_usable_folder_checks_go_on_with_a_warning(master, folder):
    with open(f"{folder}/state", "w", encoding="utf-8") as file:
        file.write("in the way")
    master.current(settings(folder))
    eventually(lambda: "history: " in master.log(), "the log says so at once")
    reply, told = master.validate(GOOD)
    assert reply["ok"] and not told["errors"]
    assert "it is no folder" in reply["warning"]
    assert not master.ask("history_list")[0]["ok"]
    os.unlink(f"{folder}/state")
    assert master.validate(GOOD)[0]["number"] == 1


def test_with_state_none_nothing_is_kept(master, folder):
    master.current("[agent]\nstate = none\n" + GOOD)
    reply, told = master.validate(GOOD)
    assert reply["ok"] and reply["number"] == 0 and not told["errors"]
    reply, _fds = master.ask("history_list")
    assert not reply["ok"] and "none" in reply["error"]


def test_the_folder_moves_with_the_configuration(master, folder):
    master.current(settings(folder))
    master.current(f"[agent]\nstate = {folder}/other\n" + GOOD, 2)
    assert master.store(GOOD, 3)["ok"]
    assert {v["generation"] for v in master.good("history_list")["versions"]} == {2, 3}
    assert os.stat(f"{folder}/other").st_mode & 0o777 == 0o700


# ---- HTTP ----

@pytest.fixture
def port(master, folder):
    number = free_port()
    master.current(settings(folder, f"listen = 127.0.0.1:{number}"), 7)
    eventually(lambda: listens(number), master.log)
    return number


def test_pages(master, port):
    status, headers, body = get(port, "/health")
    assert status == 200 and body == "ok\n" and headers["Cache-Control"] == "no-store"
    status, headers, body = get(port, "/metrics?x=1")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "\ngatehouse_generation 7\n" in body
    assert "gatehouse_build_info" in body, "what a worker's module tells, too"
    assert "gatehouse_agent_http_requests_total" in body
    from prometheus_client.parser import text_string_to_metric_families
    names = [family.name for family in text_string_to_metric_families(body)]
    assert len(names) == len(set(names)) and len(names) > 10
    assert get(port, "/")[0] == 404 and get(port, "/metrics/")[0] == 404


def test_status_has_both_sides(master, port):
    code, headers, body = get(port, "/status")
    assert code == 200 and headers["Content-Type"] == "application/json"
    told = json.loads(body)
    assert told["state"] == "running" and told["workers"] == READY["workers"]
    assert told["agent"]["state"] == "ready" and told["agent"]["pid"] == master.process.pid
    assert told["agent"]["generation"] == 7 and told["agent"]["history"]["folder"].endswith("/state")


def test_ready_follows_the_workers(master, port):
    assert get(port, "/ready")[::2] == (200, "ready\n")
    workers = [{"pool": "default", "state": "ready"}, {"pool": "egress", "state": "starting"},
               {"pool": "egress", "state": "waiting"}]
    master.handlers["status"] = lambda _body: {**READY, "workers": workers}
    assert get(port, "/ready")[::2] == (503, "no worker of pool egress is ready\n")
    workers[2]["state"] = "ready"
    assert get(port, "/ready")[0] == 200
    master.handlers["status"] = lambda _body: {**READY, "state": "draining"}
    assert get(port, "/ready")[::2] == (503, "the gateway is draining\n")
    master.handlers["status"] = lambda _body: {"error": "not now"}
    assert get(port, "/ready")[::2] == (503, "not now\n")
    assert get(port, "/status")[0] == 503


def test_a_silent_master_is_not_ready(master, port):
    master.handlers["status"] = lambda _body: None
    before = len(master.asked)
    threads = [threading.Thread(target=get, args=(port, "/ready")) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert get(port, "/ready")[0] == 503
    for thread in threads:
        thread.join()
    assert len(master.asked) - before <= 3, "those who wait share one question"
    # A client that goes away while it waits.
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
    assert get(port, "/health")[0] == 200
    master.handlers["status"] = lambda _body: dict(READY)
    eventually(lambda: get(port, "/ready")[0] == 200, "the question that has no answer times out")


def test_methods(port):
    status, headers, body = get(port, "/metrics", "HEAD")
    assert status == 200 and body == "" and int(headers["Content-Length"]) > 1000
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        status, headers, _body = get(port, "/status", method)
        assert status == 405 and headers["Allow"] == "GET, HEAD", method


def test_limits(master, port):
    for request in (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
                    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
                    b"POST /health HTTP/1.1\r\nContent-Length: 100000\r\n\r\n",
                    b"\x16\x03\x01\x00\xa5\x01\x00\r\n\r\n", b"GET\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as client:
            client.sendall(request)
            answer = client.recv(4096)
            assert not answer.startswith(b"HTTP/1.1 200"), (request[:30], answer)
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]

    def held():
        count = 0
        for name in os.listdir(f"/proc/{master.process.pid}/fd"):
            try:
                count += os.readlink(f"/proc/{master.process.pid}/fd/{name}").startswith("socket:")
            except FileNotFoundError:
                pass
        return count

    eventually(lambda: held() >= 64, lambda: f"{held()} sockets are open")
    assert held() <= 64 + 4, "the rest waits in the queue"
    for client in idle:
        client.close()
    eventually(lambda: listens(port), "others are served when these are gone")
    assert get(port, "/health")[0] == 200


def test_the_address_moves_with_the_configuration(master, folder, port):
    other = free_port()
    master.current(settings(folder, f"listen = 127.0.0.1:{other}"), 8)
    eventually(lambda: listens(other), master.log)
    assert not listens(port)
    master.current(settings(folder), 9)
    eventually(lambda: not listens(other), "it listens no more")


def test_an_address_in_use_is_tried_again(master, folder):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        master.current(settings(folder, f"listen = 127.0.0.1:{number}"))
        eventually(lambda: "trying again" in master.log(), "the log says so")
        assert f"127.0.0.1:{number}" in master.log()
        assert master.good("hello") and master.store(GOOD, 2)["ok"]
    eventually(lambda: listens(number), master.log)


def test_nothing_is_left_open(master, folder, port):
    def descriptors():
        return len(os.listdir(f"/proc/{master.process.pid}/fd"))

    for round_ in range(60):
        if round_ == 20:
            before = descriptors()
        master.validate(GOOD)
        master.validate(BAD)
        master.store(GOOD, round_)
        get(port, "/status")
        _reply, fds = master.ask("history_get", {"number": 1})
        os.close(fds[0])
    eventually(lambda: descriptors() <= before, lambda: f"{before} descriptors, now {descriptors()}")


def test_the_folder_of_the_state_may_be_taken_away(master, folder):
    master.current(settings(folder))
    assert master.store(GOOD, 2)["ok"]
    shutil.rmtree(f"{folder}/state")
    master.store(GOOD, 3)
    assert master.good("hello")
