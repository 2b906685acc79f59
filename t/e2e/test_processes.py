"""Master and workers: deaths, signals, logs, pid file, daemon, privileges, the command line."""
import ctypes
import json
import os
import pwd
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from gateway import (PROGRAM, children_of, descriptors_of, proxy_config, run_gatehouse,
                     title_of)
from peers import Gone, request_bytes
from waiting import DEADLINE, eventually

ROOT = os.geteuid() == 0


def peer_ports_of(pid):
    """The ports at the other ends of the process's TCP connections."""
    inodes = {link[len("socket:["):-1] for link in descriptors_of(pid).values()
              if link.startswith("socket:[")}
    ports = set()
    with open("/proc/net/tcp") as table:
        for line in table:
            words = line.split()
            if words[3] == "01" and words[9] in inodes:
                ports.add(int(words[2].split(":")[1], 16))
    return ports


def status_of(pid, key):
    with open(f"/proc/{pid}/status") as file:
        return re.search(rf"^{key}:\s*(.*)$", file.read(), re.M).group(1)


# ---- Workers that die ---------------------------------------------------------------------------

class Load:
    """Clients with a connection each, asking again and again until stopped."""

    def __init__(self, gateway, clients=12):
        self.gateway = gateway
        self.clients = [gateway.connect() for _ in range(clients)]
        self.ports = [client.sock.getsockname()[1] for client in self.clients]
        self.answers = [0] * clients
        self.failed = [None] * clients
        self.stopping = False
        self.threads = [threading.Thread(target=self.ask, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask(self, number):
        try:
            while not self.stopping:
                response = self.clients[number].get(f"/{number}")
                assert response.status == 200 and response.body == b"/%d" % number
                self.answers[number] += 1
        except BaseException as error:
            self.failed[number] = error

    def wait_progress(self):
        """Waits until each client that has not failed got another answer."""
        before = list(self.answers)
        eventually(lambda: all(self.failed[n] or self.answers[n] > before[n]
                               for n in range(len(before))), "every client gets answers")

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(DEADLINE)


def target_echo(connection):
    while True:
        connection.answer(connection.read_request().target.encode())


def kill_worker(gateway, pid):
    """Kills a worker; returns the milliseconds until its successor was there."""
    if gateway.sent is not None:
        gateway.wait_counted()
    title = title_of(pid)
    started = time.monotonic()
    gateway.send_signal(signal.SIGKILL, pid)
    eventually(lambda: any(title_of(other) == title and other != pid
                           for other in gateway.workers()), f"{title} is replaced")
    return (time.monotonic() - started) * 1000


def test_killed_worker_takes_only_its_own_exchanges(proxy, upstream):
    gateway = proxy(upstream(target_echo), workers=2)
    gateway.sent = None      # what was under way in the killed worker is counted by nobody
    first, second = gateway.workers()
    load = Load(gateway)
    load.wait_progress()
    lost, kept = peer_ports_of(first), peer_ports_of(second)
    took = kill_worker(gateway, first)
    load.wait_progress()
    load.stop()
    for port, error in zip(load.ports, load.failed):
        if port in lost:
            assert isinstance(error, (Gone, OSError)), error
        else:
            assert port in kept and error is None, error
    assert gateway.workers()[1] == second
    # Both workers serve: each listening socket has somebody who accepts.
    for _ in range(20):
        assert gateway.get("/x").body == b"/x"
    print(f"a worker was replaced within {took:.0f} ms")
    assert took < 3000


def test_connections_wait_for_the_successor(proxy, upstream):
    """One worker only: who connects while there is none is served by the next one."""
    gateway = proxy(upstream(target_echo))
    gateway.get("/warm")
    for _ in range(2):
        gateway.wait_counted()
        gateway.send_signal(signal.SIGKILL, gateway.worker)
        assert gateway.get("/patience").body == b"/patience"


def test_counters_outlive_a_worker(proxy, upstream):
    gateway = proxy(upstream(target_echo), workers=1)
    for number in range(10):
        gateway.get(f"/{number}")
    kill_worker(gateway, gateway.worker)
    for number in range(5):
        gateway.get(f"/{number}")
    assert gateway.sent == 15       # compared with what was counted at the end of the test


def test_twenty_deaths(proxy, upstream):
    gateway = proxy(upstream(target_echo), workers=5)
    master = descriptors_of(gateway.pid)
    took = []
    for _ in range(4):
        for pid in gateway.workers():
            took.append(kill_worker(gateway, pid))
            assert gateway.get("/alive").body == b"/alive"
    assert len(took) == 20 and len(gateway.workers()) == 5
    assert "was killed by signal 9" in gateway.log()
    # The master does not leak what its children had.
    eventually(lambda: len(descriptors_of(gateway.pid)) == len(master),
               lambda: f"{descriptors_of(gateway.pid)} is not {master}")
    print("replaced within ms: " + " ".join(f"{t:.0f}" for t in took))


def test_workers_end_with_their_master(gateway, upstream):
    """Nothing serves on where nobody would watch over it."""
    one = gateway(proxy_config(upstream()), workers=2, gatehouse="drain_timeout = 1s")
    one.get()
    workers = one.workers()
    one.sent, one.expected_code = None, -signal.SIGKILL
    one.send_signal(signal.SIGKILL)
    one.wait_exit()
    for pid in workers:
        eventually(lambda: not title_of(pid).startswith("gatehouse"), f"worker {pid} ends")


def test_pools_of_workers(gateway, upstream):
    """A pool's death does not touch another pool."""
    server = upstream(target_echo)
    one = gateway(f"""
[workers side]
count = 1
[listener front]
address = 127.0.0.1:0
[listener back]
address = 127.0.0.1:0
pool    = side
[upstream app]
target = {server.target}
[route all]
listener = front back
upstream = app
""", workers=2)
    assert [title_of(pid) for pid in one.workers()] == [
        "gatehouse: worker default/0", "gatehouse: worker default/1", "gatehouse: worker side/0"]
    front, back = one.connect("front"), one.connect("back")
    for client in (front, back):
        assert client.get("/x").body == b"/x"
    kill_worker(one, one.workers()[2])
    assert front.get("/y").body == b"/y"
    assert back.wait_end() in ("end", "reset")
    with one.connect("back") as client:
        assert client.get("/z").body == b"/z"


# ---- Stopping -----------------------------------------------------------------------------------

def held_download(upstream, gate):
    def script(connection):
        while True:
            connection.read_request()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
            assert gate.wait(DEADLINE)
            connection.send(b"y" * 500_000)
    return upstream(script)


def test_quit_drains(gateway, upstream):
    gate = threading.Event()
    one = gateway(proxy_config(held_download(upstream, gate)), workers=2,
                  gatehouse="drain_timeout = 30s")
    idle = [one.connect() for _ in range(4)]
    busy = one.connect()
    busy.send(request_bytes() + request_bytes("/pipelined"))
    busy.read_until(b"\r\n\r\n")
    busy.read_exact(500_000)
    one.sent = None      # nobody is left who could be asked for the counters
    one.send_signal(signal.SIGQUIT)
    for client in idle:
        assert client.wait_end() == "end"

    def refused():
        try:
            one.connect().close()
        except ConnectionRefusedError:
            return True
    eventually(refused, "new connections are refused")
    assert one.process.poll() is None
    gate.set()
    assert busy.read_exact(500_000) == b"y" * 500_000
    # What was pipelined is either answered as the last, or visibly not taken up.
    rest = busy.read_to_end()
    assert rest == b"" or (b"\r\nConnection: close\r\n" in rest and rest.endswith(b"y" * 500_000))
    assert one.wait_exit() == 0


def test_response_begun_while_draining_says_close(proxy, upstream):
    gate = threading.Event()

    def script(connection):
        connection.read_request()
        assert gate.wait(DEADLINE)
        connection.answer(b"last")
        connection.wait_end()
    server = upstream(script)
    gateway = proxy(server)
    client = gateway.connect()
    client.send(request_bytes())
    server.wait_requests(1)
    gateway.sent = None
    gateway.send_signal(signal.SIGQUIT)
    gateway.wait_log("stopping gracefully")
    eventually(lambda: not listening(gateway), "the listening socket is closed")
    gate.set()
    response = client.read_response()
    assert response.body == b"last" and response.get("Connection") == "close"
    assert client.wait_end() == "end"
    assert gateway.wait_exit() == 0


def listening(gateway):
    try:
        gateway.connect().close()
        return True
    except ConnectionRefusedError:
        return False


def test_drain_timeout(gateway, upstream):
    gate = threading.Event()
    one = gateway(proxy_config(held_download(upstream, gate)), gatehouse="drain_timeout = 300ms")
    client = one.connect()
    client.send(request_bytes())
    client.read_exact(1000)
    one.sent = None
    started = time.monotonic()
    one.send_signal(signal.SIGQUIT)
    assert one.wait_exit() == 0
    assert 0.25 < time.monotonic() - started < 10
    assert client.drain() < 1_000_000
    assert "drain_timeout is over with 1 connections left" in one.log()
    gate.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_stops_at_once(gateway, upstream, number):
    gate = threading.Event()
    one = gateway(proxy_config(held_download(upstream, gate)), workers=2,
                  gatehouse="drain_timeout = 60s")
    client = one.connect()
    client.send(request_bytes())
    client.read_exact(1000)
    one.sent = None
    started = time.monotonic()
    one.send_signal(number)
    assert one.wait_exit() == 0
    assert time.monotonic() - started < 10
    gate.set()


def test_second_quit_stops_at_once(gateway, upstream):
    gate = threading.Event()
    one = gateway(proxy_config(held_download(upstream, gate)), gatehouse="drain_timeout = 60s")
    client = one.connect()
    client.send(request_bytes())
    client.read_exact(1000)
    one.sent = None
    one.send_signal(signal.SIGQUIT)
    one.wait_log("stopping gracefully")
    one.send_signal(signal.SIGQUIT)
    assert one.wait_exit() == 0
    gate.set()


def test_other_signals_do_no_harm(proxy, upstream):
    gateway = proxy(upstream())
    gateway.get()
    for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        for pid in gateway.workers():
            gateway.send_signal(number, pid)
    assert gateway.get().status == 200


# ---- Logs ---------------------------------------------------------------------------------------

def test_error_log_is_reopened(gateway, upstream, folder):
    path = f"{folder}/error.log"
    one = gateway(proxy_config(upstream()), gatehouse=f"error_log = {path} info")
    os.rename(path, path + ".1")
    one.send_signal(signal.SIGUSR1)
    eventually(lambda: os.path.exists(path), "the new file appears")
    os.remove(one.config_path)
    one.send_signal(signal.SIGHUP)
    eventually(lambda: "reload: refused" in open(path).read(), "the master writes into the new file")

    def workers_moved():
        return all(path in descriptors_of(pid).values() and
                   path + ".1" not in descriptors_of(pid).values() for pid in one.workers())
    eventually(workers_moved, "the workers have the new file only")
    assert one.get().status == 200


def logged(config, folder):
    """The configuration with an access log."""
    return config + f"\n[log access]\nfile = {folder}/access.log\nformat = json\n"


def test_no_line_is_lost_when_logs_are_reopened(gateway, upstream, folder):
    server = upstream(target_echo)
    one = gateway(logged(proxy_config(server), folder), workers=2)
    path = f"{folder}/access.log"
    load = Load(one)
    for number in range(5):
        load.wait_progress()
        os.rename(path, f"{path}.{number}")
        one.send_signal(signal.SIGUSR1)
        eventually(lambda: os.path.exists(path), "the new file appears")
    load.wait_progress()
    load.stop()
    assert load.failed == [None] * len(load.failed)
    server.close()
    one.stop()
    lines = []
    for name in [path] + [f"{path}.{number}" for number in range(5)]:
        with open(name) as file:
            lines += file.read().splitlines()
    assert len(lines) == sum(load.answers)
    for line in lines:
        assert json.loads(line)["status"] == 200
    assert os.path.getsize(path) > 0


def test_full_disk_does_not_stop_traffic(gateway, upstream, folder):
    path = f"{folder}/access.log"
    os.symlink("/dev/full", path)
    one = gateway(logged(proxy_config(upstream(target_echo)), folder))
    with one.connect() as client:
        for number in range(300):
            # Long, so that the lines do not fit into the writer's buffer.
            target = f"/{number}/" + "x" * 1000
            assert client.get(target).body == target.encode()
    one.wait_log("No space left on device")

    def dropped():
        return sum(value for key, value in one.metrics().items()
                   if key.startswith("gatehouse_log_lines_dropped_total"))
    eventually(dropped, "lost lines are counted")
    # Room again, as an operator makes it: another file in the same place.
    os.unlink(path)
    one.send_signal(signal.SIGUSR1)
    eventually(lambda: os.path.exists(path), "the new file appears")
    one.get("/after")
    eventually(lambda: "/after" in open(path).read(), "the log goes on")


# ---- Pid file, daemon, command line -------------------------------------------------------------

def test_pid_file_and_second_instance(gateway, upstream, folder):
    path = f"{folder}/gatehouse.pid"
    with open(path, "w") as stale:
        stale.write("1\n")      # left behind by a crash: nobody holds it
    server = upstream()
    one = gateway(proxy_config(server), gatehouse=f"pid_file = {path}")
    with open(path) as file:
        assert file.read() == f"{one.pid}\n"
    second = run_gatehouse("--foreground", "-c", one.config_path)
    assert second.returncode == 1
    assert str(one.pid) in second.stderr and path in second.stderr, second.stderr
    assert one.get().status == 200      # the first one is not disturbed
    with open(path) as file:
        assert file.read() == f"{one.pid}\n"
    for pid in one.workers():
        assert path not in descriptors_of(pid).values()
    server.close()
    one.stop()
    assert not os.path.exists(path)


def test_signals_by_command_line(gateway, upstream, folder):
    path = f"{folder}/gatehouse.pid"
    one = gateway(proxy_config(upstream()), gatehouse=f"pid_file = {path}")
    one.get()
    reopened = run_gatehouse("-s", "reopen", "-c", one.config_path)
    assert (reopened.returncode, reopened.stderr) == (0, "")
    one.wait_log("reopening the logs")
    wrong = run_gatehouse("-s", "explode", "-c", one.config_path)
    assert wrong.returncode == 2 and "quit, stop or upgrade" in wrong.stderr
    one.sent = None
    assert run_gatehouse("-s", "quit", "-c", one.config_path).returncode == 0
    assert one.wait_exit() == 0
    gone = run_gatehouse("-s", "stop", "-c", one.config_path)
    assert gone.returncode == 1 and path in gone.stderr


def test_signal_needs_a_pid_file(gateway, upstream):
    one = gateway(proxy_config(upstream()), start=False)
    run = run_gatehouse("-s", "quit", "-c", one.config_path)
    assert run.returncode == 1 and "pid_file" in run.stderr


@pytest.fixture
def daemon_config(gateway, upstream, folder):
    """A configuration for the background; whatever it started is ended."""
    server = upstream()
    one = gateway(proxy_config(server), start=False, gatehouse=(
        f"pid_file = {folder}/gatehouse.pid\nerror_log = {folder}/error.log info\ndaemon = on"))
    yield one
    try:
        with open(f"{folder}/gatehouse.pid") as file:
            os.kill(int(file.read()), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        pass


def test_daemon(daemon_config, folder):
    run = run_gatehouse("-c", daemon_config.config_path)
    assert run.returncode == 0, run.stderr
    with open(f"{folder}/gatehouse.pid") as file:
        pid = int(file.read())
    # Ready means ready: no waiting here.
    with open(f"{folder}/error.log") as file:
        address = re.search(r"listener public: listening on (\S+):(\d+)", file.read())
    with socket.create_connection((address.group(1), int(address.group(2)))) as client:
        client.sendall(request_bytes("/", "Connection: close"))
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
    assert title_of(pid) == "gatehouse: master"
    with open(f"/proc/{pid}/stat") as file:
        parent, session = file.read().rsplit(")", 1)[1].split()[1:4:2]
    assert int(session) != os.getsid(0) and int(parent) != os.getpid()
    for process in [pid, *children_of(pid)]:
        streams = descriptors_of(process)
        assert streams[0] == streams[1] == "/dev/null"
        assert streams[2] == f"{folder}/error.log"
    assert run_gatehouse("-s", "stop", "-c", daemon_config.config_path).returncode == 0
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon ends")
    with open(f"{folder}/error.log") as file:
        log = file.read()
    assert " started: " in log and log.rstrip().endswith("stopped") and " alert " not in log


def test_daemon_that_cannot_start_says_so(daemon_config):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with open(daemon_config.config_path) as file:
            text = file.read().replace("address = 127.0.0.1:0", f"address = 127.0.0.1:{port}", 1)
        with open(daemon_config.config_path, "w") as file:
            file.write(text)
        run = run_gatehouse("-c", daemon_config.config_path)
    assert run.returncode == 1
    assert f"[listener public] address = 127.0.0.1:{port}: cannot listen on" in run.stderr


def test_port_in_use(gateway, upstream):
    first = gateway(proxy_config(upstream()))
    port = first.port
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        second = gateway(proxy_config(upstream(), listener=f"address = 127.0.0.1:{taken}"),
                         start=False)
        run = run_gatehouse("--foreground", "-c", second.config_path)
    assert run.returncode == 1
    assert "in use" in run.stderr.lower() and f"127.0.0.1:{taken}" in run.stderr
    assert port != taken


def test_port_of_another_gateway_is_in_use(gateway, upstream):
    """SO_REUSEPORT must not let two gateways share a port by accident."""
    first = gateway(proxy_config(upstream()))
    second = gateway(proxy_config(upstream(), listener=f"address = 127.0.0.1:{first.port}"),
                     start=False)
    run = start_and_see(second)
    assert run.returncode == 1 and "in use" in run.stderr.lower(), run.stderr
    assert first.get().status == 200


def start_and_see(gateway):
    """Runs a gateway that ought to refuse to start; ends it where it does not."""
    process = subprocess.Popen([PROGRAM, "--foreground", "-c", gateway.config_path],
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, text = process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        _, text = process.communicate(timeout=DEADLINE)
    return subprocess.CompletedProcess([], process.returncode, "", text)


def test_unix_listener_is_removed_and_taken_over(gateway, upstream, folder):
    path = f"{folder}/listener"
    config = proxy_config(upstream(), listener=f"address = unix:{path}",
                          upstream="keepalive = 0")
    first = gateway(config)
    assert first.get().status == 200
    second = gateway(config, start=False)
    run = run_gatehouse("--foreground", "-c", second.config_path)
    assert run.returncode == 1 and "another program listens there" in run.stderr
    first.stop()
    assert not os.path.exists(path)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()       # the path stays behind, as after a crash
    assert gateway(config).get().status == 200


def test_configuration_test(gateway, upstream):
    good = gateway(proxy_config(upstream()), start=False)
    run = run_gatehouse("-t", "-c", good.config_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"configuration {good.config_path} is ok\n"
    bad = gateway("[listener]\nadress = 127.0.0.1:0\n[route x]\nupstream = nowhere\n", start=False)
    run = run_gatehouse("-t", "-c", bad.config_path)
    assert run.returncode == 1 and run.stdout == ""
    assert re.search(rf"{bad.config_path}:\d+: \[listener\] adress", run.stderr)
    assert "address" in run.stderr and "nowhere" in run.stderr      # all errors at once
    # Start-up runs the very same code.
    started = run_gatehouse("--foreground", "-c", bad.config_path)
    assert started.returncode == 1 and "nowhere" in started.stderr
    missing = run_gatehouse("-t", "-c", good.config_path + ".missing")
    assert missing.returncode == 1 and "No such file" in missing.stderr


def test_command_line():
    assert run_gatehouse("-v").stdout.startswith("gatehouse ")
    assert "modules:" in run_gatehouse("-V").stdout
    assert "Usage:" in run_gatehouse("-h").stdout
    for wrong in (["--frobnicate"], ["-c"], ["explain"]):
        run = run_gatehouse(*wrong)
        assert run.returncode == 2 and run.stderr and run.stdout == ""


# ---- Privileges and descriptors -----------------------------------------------------------------

def test_workers_run_without_privileges(proxy, upstream):
    """Started as root, the workers are nobody; started as anybody, they are that."""
    gateway = proxy(upstream(), workers=2)
    user = pwd.getpwnam("nobody").pw_uid if ROOT else os.geteuid()
    group = pwd.getpwnam("nobody").pw_gid if ROOT else os.getegid()
    for pid in gateway.workers():
        assert status_of(pid, "Uid").split() == [str(user)] * 4
        assert status_of(pid, "Gid").split() == [str(group)] * 4
        assert int(status_of(pid, "CapEff"), 16) == 0
        if ROOT:
            assert status_of(pid, "Groups").split() in ([], [str(group)])
            assert int(status_of(pid, "CapPrm"), 16) == 0
    assert gateway.get().status == 200


def test_user_that_does_not_exist(gateway, upstream):
    one = gateway(proxy_config(upstream()), start=False, gatehouse="user = no-such-user-here")
    run = start_and_see(one)
    if ROOT:
        assert run.returncode == 1 and "no-such-user-here" in run.stderr
    else:
        assert run.returncode == 0      # the directive counts for root only


def test_workers_hold_only_their_own(gateway, upstream, folder):
    config = proxy_config(upstream(), listener="address = 127.0.0.1:0 [::1]:0")
    config = logged(config, folder)
    one = gateway(config, workers=3,
                  gatehouse=f"pid_file = {folder}/pid\nerror_log = {folder}/error.log info")
    seen = []
    for pid in one.workers():
        links = descriptors_of(pid)
        sockets = {link for link in links.values() if link.startswith("socket:")}
        assert len(sockets) == 2 + (1 if one.watch else 0) + 1      # listening, and the channel
        pipes = {link for link in links.values() if link.startswith("pipe:")}
        seen.append(sockets | pipes)        # the event library has a pipe to itself
        for number, link in links.items():
            assert number <= 2 or link in seen[-1] or re.match(
                r"/memfd:|anon_inode:|/proc/\d+/statm$|.*/(error|access)\.log$", link), f"{number}: {link}"
    for first in range(3):
        for second in range(first):
            assert not seen[first] & seen[second], "two workers share a descriptor"


def turn_of(task):
    """How long a thread wants to run at a time, in ns (sched_getattr); 0 where the kernel is older
    than 6.12 and does not tell."""
    number = {"x86_64": 315, "aarch64": 275}[os.uname().machine]
    attributes = ctypes.create_string_buffer(56)
    assert ctypes.CDLL(None).syscall(number, task, attributes, 56, 0) == 0
    return struct.unpack("IIQiIQQQII", attributes.raw)[5]


def test_event_loops_ask_for_short_turns(gateway, upstream):
    one = gateway(proxy_config(upstream()), workers=2)
    assert {turn_of(pid) for pid in one.workers()} <= {0, 100_000}
    assert (turn_of(one.workers()[0]) == 0) == (turn_of(one.pid) == 0)
    assert turn_of(one.pid) != 100_000
