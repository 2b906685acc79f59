"""What a reload can change, one thing at a time: listeners, pools, upstreams, logs, files.

Each test asks over the control socket and looks at the traffic before, meanwhile and after. What
must hold under load is measured elsewhere (t/soak/test_reload.py).
"""
import os
import pwd
import signal
import socket
import threading

import pytest

from control import Control, at_rest, belongings, reloadable
from gateway import descriptors_of, proxy_config, title_of
from peers import answering, request_bytes
from reload_configs import free_port
from waiting import DEADLINE, eventually

ROOT = os.geteuid() == 0
UPGRADE = ("Connection: Upgrade", "Upgrade: raw/1")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw/1\r\n\r\n"


def app(server, *listeners, pools="", route=""):
    """Listeners as (name, address) or (name, address, pool), one upstream, one route."""
    text = pools
    for name, address, *pool in listeners:
        text += f"[listener {name}]\naddress = {address}\n"
        text += f"pool = {pool[0]}\n" if pool else ""
    names = " ".join(listener[0] for listener in listeners)
    return text + (f"[upstream app]\ntarget = {server.target}\n"
                   f"[route all]\nlistener = {names}\nupstream = app\n{route}\n")


def pool(name, count):
    return f"[workers {name}]\ncount = {count}\n"


def refused(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(DEADLINE)
        try:
            sock.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        return False


def workers_of(one, pool_name=None):
    return [worker for worker in one.status()["workers"]
            if pool_name is None or worker["pool"] == pool_name]


class Asking:
    """Clients that ask on a new connection each time, until stopped; no request may fail."""

    def __init__(self, one, address, clients=2):
        self.one, self.address = one, address
        self.stopping, self.error, self.answers = False, None, [0] * clients
        self.threads = [threading.Thread(target=self.ask, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask(self, number):
        try:
            while not self.stopping:
                with socket.create_connection(self.address, DEADLINE) as sock:
                    sock.sendall(request_bytes("/", "Connection: close"))
                    answer = b""
                    while data := sock.recv(4096):
                        answer += data
                assert answer.startswith(b"HTTP/1.1 200 "), answer
                self.one.count(1)
                self.answers[number] += 1
        except BaseException as error:
            self.error = error

    def progress(self):
        before = list(self.answers)
        eventually(lambda: self.error or all(a > b + 2 for a, b in zip(self.answers, before)),
                   "the clients get answers")
        assert not self.error, self.error

    def __enter__(self):
        self.progress()
        return self

    def __exit__(self, kind, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join(DEADLINE)
        if kind is None:
            assert not self.error, self.error


# ---- Listeners ----------------------------------------------------------------------------------

def test_listener_added_and_removed(gateway, upstream):
    server, first, second = upstream(), free_port(), free_port()
    one = reloadable(gateway, app(server, ("a", f"127.0.0.1:{first}")), workers=2)
    before = at_rest(one.pid)
    kept = one.connect()
    assert kept.get().status == 200
    assert refused(("127.0.0.1", second))
    reply = one.reload(app(server, ("a", f"127.0.0.1:{first}"), ("b", f"127.0.0.1:{second}")))
    assert reply["generation"] == 2 and reply["warnings"] == []
    for name in ("a", "b", "a", "b"):
        with one.connect(name) as client:
            assert client.get().status == 200
    assert kept.get().status == 200
    one.reload(app(server, ("a", f"127.0.0.1:{first}")))
    assert refused(("127.0.0.1", second))
    assert kept.get().status == 200
    eventually(lambda: belongings(one.pid) == before,
               lambda: f"{belongings(one.pid)} is not {before}")
    status = one.status()
    assert status["generation"] == 3 and status["reload"]["state"] == "idle"
    assert {worker["generation"] for worker in status["workers"]} == {3}
    assert status["reload"]["last"]["by"] == f"uid {os.geteuid()} pid {os.getpid()}"


def test_exchange_on_a_listener_that_goes_is_finished(gateway, upstream):
    gate = threading.Event()

    def slow(connection):
        while True:
            connection.read_request()
            assert gate.wait(DEADLINE)
            connection.answer(b"late")
    server, first, second = upstream(slow), free_port(), free_port()
    one = reloadable(gateway, app(server, ("a", f"127.0.0.1:{first}"),
                                  ("b", f"127.0.0.1:{second}")))
    client = one.connect("b")
    client.send(request_bytes())
    server.wait_requests(1)
    one.reload(app(server, ("a", f"127.0.0.1:{first}")))
    assert refused(("127.0.0.1", second))
    gate.set()
    assert client.read_response().body == b"late"
    client.wait_end()


def test_listener_moves_to_another_address(gateway, upstream):
    server, first, second = upstream(), free_port(), free_port()
    one = reloadable(gateway, app(server, ("a", f"127.0.0.1:{first}")), workers=2)
    kept = one.connect()
    kept.get()
    one.reload(app(server, ("a", f"127.0.0.1:{second}")))
    assert refused(("127.0.0.1", first))
    with one.connect("a") as client:
        assert client.sock.getpeername()[1] == second and client.get().status == 200
    one.reload(app(server, ("a", f"127.0.0.1:{first}")))
    with one.connect("a") as client:
        assert client.sock.getpeername()[1] == first and client.get().status == 200


def test_renamed_listener_keeps_its_connections(gateway, upstream):
    server, port = upstream(), free_port()
    one = reloadable(gateway, app(server, ("old", f"127.0.0.1:{port}")), workers=2)
    kept = one.connect()
    assert kept.get().status == 200
    sockets = [link for link in descriptors_of(one.pid).values() if link.startswith("socket:")]
    with Asking(one, ("127.0.0.1", port)) as asking:
        one.reload(app(server, ("new", f"127.0.0.1:{port}")))
        asking.progress()
    assert kept.get().status == 200
    # The very same sockets.
    assert set(sockets) <= set(descriptors_of(one.pid).values())
    counted = {key: value for key, value in one.metrics().items()
               if key.startswith("gatehouse_listener_requests_total{")}
    assert any('listener="old"' in key and value >= 1 for key, value in counted.items())
    assert any('listener="new"' in key and value >= 1 for key, value in counted.items())


def test_listener_moves_to_another_pool(gateway, upstream):
    server, port = upstream(), free_port()
    listener, side = ("a", f"127.0.0.1:{port}"), pool("side", 3)
    one = reloadable(gateway, app(server, listener, pools=side), workers=2)
    kept = one.connect()
    kept.get()
    with Asking(one, ("127.0.0.1", port)) as asking:
        for target in ("side", "default", "side"):
            one.reload(app(server, (*listener, target), pools=side))
            asking.progress()
    assert kept.get().status == 200
    served = [worker["requests"] for worker in workers_of(one, "side")]
    assert sum(served) > 0, served


def test_unix_paths_come_and_go(gateway, upstream, folder):
    server = upstream()
    a, b = f"{folder}/a", f"{folder}/b"
    one = reloadable(gateway, app(server, ("a", f"unix:{a}")), workers=2)
    kept = one.connect()
    assert kept.get().status == 200
    inode = os.stat(a).st_ino
    one.reload(app(server, ("a", f"unix:{a}"), ("b", f"unix:{b}")))
    for _ in range(4):
        with one.connect("b") as client:
            assert client.get().status == 200
    assert os.stat(a).st_ino == inode
    one.reload(app(server, ("renamed", f"unix:{a}")))
    assert not os.path.exists(b) and os.stat(a).st_ino == inode
    assert kept.get().status == 200
    one.reload(app(server, ("a", f"unix:{b}")))
    assert not os.path.exists(a)
    with one.connect("a") as client:
        assert client.get().status == 200


def test_wildcard_and_address_of_one_port_change_places(gateway, upstream):
    server, port = upstream(), free_port()
    one = reloadable(gateway, app(server, ("a", f"0.0.0.0:{port}")), workers=2)
    with Asking(one, ("127.0.0.1", port)) as asking:
        for address in ("127.0.0.1", "0.0.0.0", "127.0.0.1"):
            one.reload(app(server, ("a", f"{address}:{port}")))
            asking.progress()
        one.reload(app(server, ("a", f"127.0.0.1:{port}"), ("b", f"0.0.0.0:{port}")))
        asking.progress()
        one.reload(app(server, ("b", f"0.0.0.0:{port}")))
        asking.progress()


# ---- Pools --------------------------------------------------------------------------------------

def tunnel_to(one, address=None):
    client = one.connect() if address is None else one.connect(address)
    client.send(request_bytes("/", *UPGRADE))
    assert client.read_response().status == 101
    return client


def tunnels_everywhere(one):
    """Opens tunnels until each worker has one: the kernel chooses whose turn it is."""
    tunnels = []

    def each_has_one():
        tunnels.append(tunnel_to(one))
        return all(worker["connections"] for worker in workers_of(one))
    eventually(each_has_one, "each worker has a tunnel")
    return tunnels


def echoing(connection):
    """A script: a tunnel that gives back what it gets; ordinary requests are answered."""
    while True:
        request = connection.read_request()
        if not request.has("Upgrade"):
            connection.answer(b"ok")
            continue
        connection.send(SWITCHED)
        while True:
            if not connection.unread:
                connection.fill()
            connection.send(connection.take(1 << 16))


def works(client):
    client.send(b"ping")
    return client.read_exact(4) == b"ping"


def test_pools_are_added_and_removed(gateway, upstream):
    server, first, second = upstream(), free_port(), free_port()
    alone = app(server, ("a", f"127.0.0.1:{first}"))
    one = reloadable(gateway, alone)
    before = at_rest(one.pid)
    one.reload(app(server, ("a", f"127.0.0.1:{first}"), ("b", f"127.0.0.1:{second}", "side"),
                   pools=pool("side", 2)))
    assert [title_of(pid) for pid in one.workers()] == [
        "gatehouse: worker default/0", "gatehouse: worker side/0", "gatehouse: worker side/1"]
    for _ in range(4):
        with one.connect("b") as client:
            assert client.get().status == 200
    one.reload(alone)
    eventually(lambda: len(one.workers()) == 1, "the pool's workers end")
    eventually(lambda: belongings(one.pid) == before, lambda: f"{belongings(one.pid)} {before}")
    assert one.get().status == 200


def test_pool_shrinks_and_grows_without_tunnels(gateway, upstream):
    server, port = upstream(), free_port()
    config = app(server, ("a", f"127.0.0.1:{port}"))
    one = reloadable(gateway, config, workers=4)
    with Asking(one, ("127.0.0.1", port), clients=3) as asking:
        for count in (2, 3, 1, 4, 1):
            stay = one.workers()[:count]
            one.reload(config, workers=count)
            eventually(lambda: len(one.workers()) == count, f"{count} workers")
            assert one.workers()[:len(stay)] == stay
            asking.progress()
    # The sockets stay, so that nobody who waits in one is lost; one worker has all of them.
    eventually(lambda: [worker["state"] for worker in workers_of(one)] == ["ready"], "one is left")


def test_shrunk_pool_keeps_its_tunnels_and_calls_the_same_process_back(gateway, upstream):
    server, port = upstream(echoing), free_port()
    config = app(server, ("a", f"127.0.0.1:{port}"))
    one = reloadable(gateway, config, workers=3)
    tunnels = tunnels_everywhere(one)
    before = {worker["index"]: worker for worker in workers_of(one)}
    one.reload(config, workers=1)
    states = {worker["index"]: worker for worker in workers_of(one)}
    assert {index: worker["state"] for index, worker in states.items()} == {
        0: "ready", 1: "parked", 2: "parked"}
    for index, worker in states.items():
        assert worker["pid"] == before[index]["pid"] and worker["generation"] == 2
        assert worker["connections"] == before[index]["connections"]
    assert all(works(client) for client in tunnels)
    # New connections go to the worker that is left.
    requests = {worker["index"]: worker["requests"] for worker in states.values()}
    for _ in range(20):
        one.get()
    for worker in workers_of(one):
        assert worker["requests"] - requests[worker["index"]] == (20 if worker["index"] == 0 else 0)
    # They follow every switch, and are called back.
    one.reload(config)
    one.reload(config, workers=2)
    states = {worker["index"]: worker for worker in workers_of(one)}
    assert {index: worker["state"] for index, worker in states.items()} == {
        0: "ready", 1: "ready", 2: "parked"}
    assert all(worker["pid"] == before[index]["pid"] and worker["generation"] == 4
               for index, worker in states.items())
    assert all(works(client) for client in tunnels)
    eventually(lambda: one.get().status == 200 and
               workers_of(one)[1]["requests"] > requests[1], "the worker called back serves again")
    # A parked worker ends with its last tunnel.
    for client in tunnels:
        client.close()
    eventually(lambda: len(one.workers()) == 2, "the parked worker ends")
    eventually(lambda: [worker["state"] for worker in workers_of(one)] == ["ready", "ready"],
               "the master has noticed")


def test_pool_that_goes_keeps_its_tunnels(gateway, upstream):
    server, first, second = upstream(echoing), free_port(), free_port()
    alone = app(server, ("a", f"127.0.0.1:{first}"))
    both = app(server, ("a", f"127.0.0.1:{first}"), ("b", f"127.0.0.1:{second}", "side"),
               pools=pool("side", 1))
    one = reloadable(gateway, both)
    tunnel = tunnel_to(one, "b")
    pid = workers_of(one, "side")[0]["pid"]
    one.reload(alone)
    assert refused(("127.0.0.1", second))
    side, = workers_of(one, "side")
    assert (side["pid"], side["state"]) == (pid, "parked") and works(tunnel)
    one.reload(both)
    side, = workers_of(one, "side")
    assert (side["pid"], side["state"]) == (pid, "ready") and works(tunnel)
    with one.connect("b") as client:
        assert client.get().status == 200
    one.reload(alone)
    tunnel.close()
    eventually(lambda: not workers_of(one, "side"), "the pool's last worker ends")


def test_killed_parked_worker_is_not_replaced(gateway, upstream):
    server, port = upstream(echoing), free_port()
    config = app(server, ("a", f"127.0.0.1:{port}"))
    one = reloadable(gateway, config, workers=2)
    tunnels = tunnels_everywhere(one)
    one.reload(config, workers=1)
    parked, = [worker for worker in workers_of(one) if worker["state"] == "parked"]
    one.sent = None
    one.send_signal(signal.SIGKILL, parked["pid"])
    eventually(lambda: len(workers_of(one)) == 1, "it is gone")
    one.reload(config, workers=2)
    assert [worker["state"] for worker in workers_of(one)] == ["ready", "ready"]
    assert parked["pid"] not in one.workers()
    for client in tunnels:
        client.close()


def test_who_waits_in_the_queue_of_a_shrunk_worker_is_served(gateway, upstream):
    """The worker is stopped, so that connections wait in its own queue while its place goes."""
    server, port = upstream(), free_port()
    config = app(server, ("a", f"127.0.0.1:{port}"))
    one = reloadable(gateway, config, workers=2)
    one.send_signal(signal.SIGSTOP, one.workers()[1])
    waiting = [one.connect() for _ in range(16)]
    for client in waiting:
        client.send(request_bytes())
    with Control(one.path) as control:
        one.set("workers", 1)
        one.write_config(config)
        control.send("reload")
        eventually(lambda: one.status()["reload"]["state"] == "preparing", "workers prepare")
        waiting += [one.connect() for _ in range(16)]
        for client in waiting[16:]:
            client.send(request_bytes())
        one.send_signal(signal.SIGCONT, one.workers()[1])
        assert control.receive()["ok"]
    for client in waiting:
        assert client.read_response().status == 200
        client.close()
    eventually(lambda: len(one.workers()) == 1, "the worker ends")


# ---- Processes that have to be replaced ---------------------------------------------------------

def replaced(one, old):
    def done():
        now = workers_of(one)
        return (len(now) == len(old) and not {w["pid"] for w in now} & set(old) and
                all(w["state"] == "ready" for w in now))
    eventually(done, lambda: f"all of {old} are replaced: {workers_of(one)}")


def test_workers_are_replaced_where_the_process_changes(gateway, upstream):
    """connections_max and nofile belong to the process: new before old, one at a time."""
    server, port = upstream(), free_port()
    config = app(server, ("a", f"127.0.0.1:{port}"))
    one = reloadable(gateway, config, workers=2)
    for changed in ("connections_max = 1000", "connections_max = 1000\nnofile = 5000"):
        old, most = one.workers(), 0
        with Asking(one, ("127.0.0.1", port)) as asking:
            one.reload(f"[workers default]\ncount = 2\n{changed}\n" + config)

            def look():
                nonlocal most
                most = max(most, len([w for w in workers_of(one) if w["state"] != "draining"]))
                return not set(one.workers()) & set(old)
            eventually(look, "all workers are replaced")
            assert most <= 3, "one at a time"
            asking.progress()
        replaced(one, old)
    # Nothing changes, nobody is replaced.
    old = one.workers()
    one.reload()
    assert one.workers() == old
    assert one.get().status == 200


def test_another_user(gateway, upstream):
    if not ROOT:
        return      # the directive counts for root only
    server, port = upstream(), free_port()
    config = app(server, ("a", f"127.0.0.1:{port}"))
    one = reloadable(gateway, config, workers=2, gatehouse="user = nobody\n")
    old = one.workers()
    with Asking(one, ("127.0.0.1", port)):
        one.reload(config, user="daemon")
        replaced(one, old)
    for pid in one.workers():
        assert os.stat(f"/proc/{pid}").st_uid == pwd.getpwnam("daemon").pw_uid
    error = one.refuse(config, user="no-such-user-here")
    line = one.line_of("user = no-such-user-here")
    assert error.startswith(f"{one.config_path}:{line}: [gatehouse] user = no-such-user-here: ")
    one.reload(config, user="daemon")
    assert one.get().status == 200


def test_more_sockets_than_the_limit_it_began_with(gateway, upstream):
    """The limit on open descriptors grows with what a reload asks for."""
    server = upstream()
    one = reloadable(gateway, app(server, ("a", "127.0.0.1:0")), descriptors="256:4096")
    many = [(f"l{n}", "127.0.0.1:0") for n in range(150)]
    one.reload(app(server, ("a", "127.0.0.1:0"), *many), workers=4)
    with one.connect("l149") as client:
        assert client.get().status == 200


# ---- Upstreams ----------------------------------------------------------------------------------

def test_targets_change_and_connections_to_those_that_stay_are_kept(gateway, upstream):
    first, second = upstream(answering(b"first")), upstream(answering(b"second"))
    one = reloadable(gateway, proxy_config(first))
    client = one.connect()
    assert client.get().body == b"first"
    one.reload(proxy_config(first, second))
    assert {client.get().body for _ in range(8)} == {b"first", b"second"}
    assert (len(first.connections), len(second.connections)) == (1, 1)
    one.reload(proxy_config(second))
    assert {client.get().body for _ in range(8)} == {b"second"}
    assert (len(first.connections), len(second.connections)) == (1, 1)
    eventually(lambda: first.connections[0].ended, "the connection to the target that went ends")
    one.reload(proxy_config(first))
    assert client.get().body == b"first"


def test_counters_go_on_by_name(gateway, upstream):
    server = upstream()
    one = reloadable(gateway, proxy_config(server), workers=2)
    for _ in range(5):
        one.get()
    one.reload(proxy_config(server) + "[route more]\nlistener = public\npath = /more\n"
               "upstream = app\n")
    for _ in range(3):
        one.get("/more")
    one.reload(proxy_config(server), workers=1)
    for _ in range(2):
        one.get()
    eventually(lambda: one.counted() == 10, lambda: f"counted {one.counted()}")


def test_targets_with_names(gateway, upstream):
    server = upstream(answering(b"named"))
    one = reloadable(gateway, proxy_config(upstream(answering(b"numbered"))))
    assert one.get().body == b"numbered"
    one.reload(proxy_config(f"http://localhost:{server.port}"))
    assert one.get().body == b"named"
    one.reload(proxy_config(f"http://localhost:{server.port}"), workers=2)
    for _ in range(6):
        assert one.get().body == b"named"


# ---- Logs ---------------------------------------------------------------------------------------

def with_logs(server, *paths):
    names = " ".join(f"l{number}" for number in range(len(paths)))
    text = proxy_config(server, route=f"log = {names or 'off'}")
    for number, path in enumerate(paths):
        text += f"[log l{number}]\nfile = {path}\nformat = json\nflush = 10ms\n"
    return text


def holders(one, path):
    """How many of the master and its workers have the file open."""
    return sum(path in descriptors_of(pid).values() for pid in [one.pid, *one.workers()])


def held(one, wanted):
    """A worker may let go of a file a moment after the reload's answer."""
    eventually(lambda: {path: holders(one, path) for path in wanted} == wanted,
               lambda: f"{ {path: holders(one, path) for path in wanted} } is {wanted}")


def test_logs_come_go_and_change_places(gateway, upstream, folder):
    server = upstream()
    a, b, c = (f"{folder}/{name}.log" for name in "abc")
    one = reloadable(gateway, with_logs(server), workers=2)

    def written(path, target):
        return os.path.exists(path) and target in open(path).read()
    one.reload(with_logs(server, a, b))
    held(one, {a: 3, b: 3})
    one.get("/one")
    eventually(lambda: written(a, "/one") and written(b, "/one"), "both files get the line")
    # The order changes, one comes and one goes: what is written must follow the names.
    one.reload(with_logs(server, c, a))
    held(one, {a: 3, b: 0, c: 3})
    os.rename(a, a + ".1")
    os.rename(c, c + ".1")
    assert one.ask("reopen")["ok"]
    one.get("/two")
    eventually(lambda: written(a, "/two") and written(c, "/two"), "the reopened files get the line")
    assert not written(b, "/two") and not written(a + ".1", "/two")
    one.reload(with_logs(server))
    held(one, {a: 0, b: 0, c: 0})
    one.get("/three")
    assert not written(a, "/three")


def test_error_log_moves(gateway, upstream, folder):
    server = upstream()
    old, new = f"{folder}/old.log", f"{folder}/new.log"
    one = reloadable(gateway, proxy_config(server), workers=2, gatehouse=f"error_log = {old} info")
    held(one, {old: 3})
    one.log_paths.append(new)
    one.reload(proxy_config(server), error_log=f"{new} info")
    eventually(lambda: (holders(one, old), holders(one, new)) == (0, 3),
               lambda: f"all have moved: {holders(one, old)} {holders(one, new)}")
    assert "generation 2 serves" in open(new).read()
    one.reload(proxy_config(server), error_log="stderr info")
    eventually(lambda: holders(one, new) == 0, "all have left it")
    one.reload(proxy_config(server), error_log=f"{new} error")
    one.reload(proxy_config(server))
    assert "generation 5 serves" not in one.log()
    one.reload(proxy_config(server), error_log=f"{new} info")
    assert "generation 6 serves" in open(new).read()


# ---- Files, variables, warnings -----------------------------------------------------------------

def test_file_that_a_directive_names_is_read_again(gateway, folder):
    page = f"{folder}/page.html"
    config = ("[listener a]\naddress = 127.0.0.1:0\n[route all]\nlistener = a\nreply = 200\n"
              f"reply_file = {page}\n")

    def put(text, mode=0o644):
        with open(page, "w") as file:
            file.write(text)
        os.chmod(page, mode)
    put("first")
    one = reloadable(gateway, config, workers=2)
    assert one.get().body == b"first"
    put("second")
    assert one.get().body == b"first"
    one.reload()
    assert {one.get().body for _ in range(6)} == {b"second"}
    # A worker that is started anew compiles the same bytes, not what is there by then.
    put("third")
    killed = one.workers()
    one.sent = None
    for pid in killed:
        one.send_signal(signal.SIGKILL, pid)
    eventually(lambda: len(one.workers()) == 2 and not set(one.workers()) & set(killed),
               "both are replaced")
    assert {one.get().body for _ in range(6)} == {b"second"}
    # What the workers' user may not read, root reads for it.
    put("secret", 0o600)
    if ROOT:
        one.reload()
        assert one.get().body == b"secret"
    os.unlink(page)
    error = one.refuse()
    line = one.line_of("reply_file")
    assert error.startswith(f"{one.config_path}:{line}: [route all] reply_file = {page}: ")
    assert "No such file" in error
    os.mkfifo(page)
    assert "not a regular file" in one.refuse()
    assert one.get().status == 200


def test_variables_keep_the_value_of_the_master(gateway, monkeypatch):
    monkeypatch.setenv("GATEHOUSE_TEST_WORD", "hello")
    config = "[listener a]\naddress = 127.0.0.1:0\n[route all]\nlistener = a\nreply = 200 %s\n"
    one = reloadable(gateway, config % "none")
    monkeypatch.setenv("GATEHOUSE_TEST_WORD", "nobody reads this")
    one.reload(config % "${GATEHOUSE_TEST_WORD}")
    assert one.get().body == b"hello\n"
    error = one.refuse(config % "${GATEHOUSE_TEST_MISSING}")
    assert f"{one.config_path}:{one.line_of('MISSING')}: " in error and "TEST_MISSING" in error


def test_included_files(gateway, upstream, folder):
    server = upstream()
    os.mkdir(f"{folder}/conf.d")
    one = reloadable(gateway, proxy_config(server) + f"include = {folder}/conf.d/*.conf\n")
    assert one.get("/extra").body == b"ok"
    extra = f"{folder}/conf.d/extra.conf"
    with open(extra, "w") as file:
        file.write("[route extra]\nlistener = public\npath = /extra\nreply = 200 included\n")
    one.reload()
    assert one.get("/extra").body == b"included\n"
    with open(extra, "a") as file:
        file.write("listeners = public\n[route other]\nupstream = nowhere\n")
    error = one.refuse()
    assert f"{extra}:5: [route extra] listeners" in error, error
    assert f"{extra}:7: [route other] upstream = nowhere" in error, error
    os.unlink(extra)
    one.reload()
    assert one.get("/extra").body == b"ok"


def test_what_waits_for_the_next_start_is_said(gateway, upstream, folder):
    server = upstream()
    one = reloadable(gateway, proxy_config(server))
    reply = one.reload(proxy_config(server), shared_memory="16m", metric_series="500",
                       pid_file=f"{folder}/pid")
    assert [warning.split(":")[0] for warning in reply["warnings"]] == [
        "shared_memory", "metric_series", "pid_file"]
    assert all("next start" in warning for warning in reply["warnings"])
    assert not os.path.exists(f"{folder}/pid")
    # Said once more, as long as it is so.
    assert len(one.reload()["warnings"]) == 3
    assert one.reload(proxy_config(server), shared_memory="8m", metric_series=None,
                      pid_file=None)["warnings"] == []
    assert one.get().status == 200


# ---- How it is asked for ------------------------------------------------------------------------

def test_hangup_does_the_same(gateway, upstream):
    first, second = upstream(answering(b"first")), upstream(answering(b"second"))
    one = reloadable(gateway, proxy_config(first))
    assert one.get().body == b"first"
    one.write_config(proxy_config(second))
    one.send_signal(signal.SIGHUP)
    eventually(lambda: one.status()["generation"] == 2, "the signal reloads")
    assert one.get().body == b"second"
    assert one.status()["reload"]["last"]["by"] == "signal"
    one.write_config("[listener]\nadress = 1\n")
    one.send_signal(signal.SIGHUP)
    one.wait_log("reload: refused, generation 2 goes on: .*adress")
    assert one.get().body == b"second"


def test_requests_join_or_wait(gateway, upstream):
    """Whoever asks before the file is read gets the same reload; later ones wait for the next."""
    server = upstream()
    one = reloadable(gateway, proxy_config(server))
    worker = one.worker
    one.send_signal(signal.SIGSTOP, worker)
    asking = [Control(one.path) for _ in range(5)]
    asking[0].send("reload")
    eventually(lambda: one.status()["reload"]["state"] == "preparing", "the first one prepares")
    for control in asking[1:]:
        control.send("reload")
    one.send_signal(signal.SIGHUP)
    eventually(lambda: one.status()["state"] == "running", "status is answered meanwhile")
    one.send_signal(signal.SIGCONT, worker)
    replies = [control.receive() for control in asking]
    assert all(reply["ok"] for reply in replies), replies
    assert replies[0]["generation"] == 2
    assert {reply["generation"] for reply in replies[1:]} <= {3, 4}
    eventually(lambda: one.status()["reload"]["state"] == "idle", "all is done")
    assert one.status()["generation"] <= 4
    for control in asking:
        control.close()


def test_who_asked_may_go_away(gateway, upstream):
    one = reloadable(gateway, proxy_config(upstream()))
    with Control(one.path) as control:
        control.send("reload")
    eventually(lambda: one.status()["generation"] == 2, "it is done all the same")
    assert one.get().status == 200


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
def test_stop_while_a_reload_is_under_way(gateway, upstream, number):
    one = reloadable(gateway, proxy_config(upstream()), workers=2)
    one.get()
    one.sent = None
    one.send_signal(signal.SIGSTOP, one.workers()[1])
    with Control(one.path) as control:
        control.send("reload")
        eventually(lambda: one.status()["reload"]["state"] == "preparing", "workers prepare")
        one.send_signal(number)
        reply = control.receive()
        assert not reply["ok"] and "stopping" in reply["error"]
    one.send_signal(signal.SIGCONT, one.workers()[-1])
    assert one.wait_exit() == 0


# ---- Processes that are on their way out ---------------------------------------------------------

def test_leaving_worker_writes_to_the_right_file_after_a_rotation(gateway, upstream, folder):
    """It numbers the logs as its last configuration did, whatever the present one says."""
    server, port = upstream(echoing), free_port()
    a, b = f"{folder}/a.log", f"{folder}/b.log"

    def config(limit, *logs):
        text = f"[workers default]\ncount = 1\nconnections_max = {limit}\n"
        text += app(server, ("a", f"127.0.0.1:{port}"), route="log = a")
        for name in logs:
            text += f"[log {name}]\nfile = {folder}/{name}.log\nformat = json\nflush = 10ms\n"
        return text
    one = reloadable(gateway, config(100, "a", "b"), gatehouse="drain_timeout = 20s\n")
    old, tunnel = one.worker, tunnel_to(one)
    one.reload(config(200, "a", "b"))
    eventually(lambda: any(w["pid"] == old and w["state"] == "draining" for w in workers_of(one)),
               "the worker is replaced")
    one.reload(config(200, "b", "a"))
    for path in (a, b):
        os.rename(path, path + ".1")
    assert one.ask("reopen")["ok"]
    assert works(tunnel)
    tunnel.close()
    eventually(lambda: old not in one.workers(), "it is gone")
    assert '"status":101' in open(a).read().replace(" ", "") and open(b).read() == ""
    assert open(a + ".1").read() == ""


@pytest.mark.parametrize("how", ["configuration", "cancelled"])
def test_failed_upgrade_takes_no_unix_path_away(gateway, upstream, folder, how):
    """The successor inherits the listeners; where it does not come into office, their paths are
    still the old master's, also those that its own configuration does not have."""
    server, path, other = upstream(), f"{folder}/listener", f"{folder}/other"
    good = app(server, ("a", f"unix:{path}"), ("b", f"unix:{other}"))
    one = reloadable(gateway, good, workers=2)
    inodes = [os.stat(name).st_ino for name in (path, other)]
    kept = one.connect()
    assert kept.get().status == 200
    if how == "configuration":
        one.write_config(app(server, ("a", f"unix:{path}")) + "[listener x]\naddress = 192.0.2.1:80\n"
                         "[route x]\nlistener = x\nreply = 200\n")
        reply = one.ask("upgrade")
    else:
        one.write_config(app(server, ("a", f"unix:{path}")) + "".join(
            f"[route r{n}]\nlistener = a\npath = /r/{n}\nupstream = app\n" for n in range(4000)))
        with Control(one.path) as control:
            control.send("upgrade")
            eventually(lambda: one.status()["upgrade"]["state"] == "starting", "it starts")
            assert one.ask("upgrade_cancel")["ok"]
            reply = control.receive()
    assert not reply["ok"], reply
    assert inodes == [os.stat(name).st_ino for name in (path, other)]
    for name in ("a", "b"):
        with one.connect(name) as client:
            assert client.get().status == 200
    assert kept.get().status == 200
    one.reload(good)
