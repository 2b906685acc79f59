"""Reloads that fail, in every way there is: what serves goes on serving, the error is exact, and
nothing is left behind.

Each test runs inside `unharmed`: clients ask on new connections all the time, and at the end the
master has the descriptors and the processes that it had before, and reloads a good configuration.
"""
import contextlib
import os
import signal
import socket
import subprocess

import pytest

from control import Control, at_rest, belongings, reloadable
from gateway import children_of, descriptors_of, title_of
from peers import request_bytes
from reload_configs import free_port
from test_reload_changes import Asking, app, pool, refused, workers_of
from waiting import DEADLINE, eventually

ROOT = os.geteuid() == 0


@pytest.fixture
def server(upstream):
    return upstream()


class Place:
    """A gateway on a port that is known, with its good configuration."""

    def __init__(self, gateway, server, **options):
        self.server, self.port = server, free_port()
        self.good = app(server, ("a", f"127.0.0.1:{self.port}"))
        options.setdefault("workers", 2)
        self.one = reloadable(gateway, self.good, **options)
        self.one.reload()       # from here on each worker has its helper thread
        self.settings = self.one.settings

    @contextlib.contextmanager
    def unharmed(self, workers_stay=True):
        """Traffic goes on, and afterwards all is as before."""
        one = self.one
        # The clients of the test itself keep connections to nobody.
        before = at_rest(one.pid)
        pids = one.workers()
        open_before = {pid: len(descriptors_of(pid)) for pid in pids}
        with Asking(one, ("127.0.0.1", self.port)) as asking:
            yield one
            asking.progress()
        eventually(lambda: belongings(one.pid) == before,
                   lambda: f"nothing is left: {belongings(one.pid)} is not {before}")
        if workers_stay:
            assert one.workers() == pids
            # Connections to the upstream come and go; kept ones are few.
            for pid in pids:
                eventually(lambda: len(descriptors_of(pid)) <= open_before[pid] + 2,
                           lambda: f"worker {pid}: {descriptors_of(pid)}")
        one.settings = self.settings
        reply = one.reload(self.good)
        assert reply["warnings"] == []
        with Asking(one, ("127.0.0.1", self.port)) as asking:
            asking.progress()


@pytest.fixture
def place(gateway, server):
    return Place(gateway, server)


# ---- What the checker says ----------------------------------------------------------------------

def test_syntax_and_unknown_key_and_more(place):
    with place.unharmed() as one:
        error = one.refuse(place.good + "this is no entry\n[route all2]\nupstrem = app\n"
                           "[route x]\nlistener = nowhere\nupstream = app\n")
        at = {text: f"{one.config_path}:{one.line_of(text)}: " for text in
              ("this is no entry", "upstrem = app", "listener = nowhere")}
        for prefix in at.values():
            assert prefix in error, error
        assert "did you mean \"upstream\"" in error or "upstream" in error, error


def test_missing_configuration_and_missing_include(place):
    with place.unharmed() as one:
        os.rename(one.config_path, one.config_path + ".away")
        error = one.refuse()
        assert one.config_path in error and "No such file" in error
        os.mkdir(one.config_path)
        assert "directory" in one.refuse()
        os.rmdir(one.config_path)
        error = one.refuse(place.good + "include = missing.conf\n")
        line = one.line_of("include = missing.conf")
        assert error.startswith(f"{one.config_path}:{line}: [route all] include = missing.conf: "), error
        assert "No such file" in error


def test_configuration_that_is_no_file(place):
    """A FIFO would hold the master until somebody writes."""
    with place.unharmed() as one:
        os.rename(one.config_path, one.config_path + ".away")
        os.mkfifo(one.config_path)
        assert "not a regular file" in one.refuse()
        os.unlink(one.config_path)


# ---- What the master cannot open ----------------------------------------------------------------

def test_address_in_use(place):
    with place.unharmed() as one, socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        new = free_port()
        error = one.refuse(app(place.server, ("a", f"127.0.0.1:{place.port}"),
                               ("new", f"127.0.0.1:{new}"), ("b", f"127.0.0.1:{taken}")))
        line = one.line_of(f":{taken}")
        assert error.startswith(f"{one.config_path}:{line}: [listener b] address = "
                                f"127.0.0.1:{taken}: cannot listen on 127.0.0.1:{taken}: "), error
        assert "in use" in error.lower()
        assert refused(("127.0.0.1", new))


def test_address_in_use_at_another_address_of_the_same_port(place):
    """Also where the stranger would share it (SO_REUSEPORT)."""
    for share in (0, 1):
        with place.unharmed() as one, socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, share)
            other.bind(("127.0.0.2", place.port))
            other.listen()
            error = one.refuse(app(place.server, ("a", f"127.0.0.1:{place.port}"),
                                   ("b", f"127.0.0.2:{place.port}")))
            line = one.line_of("127.0.0.2")
            assert error.startswith(f"{one.config_path}:{line}: [listener b] address = "), error


def test_address_of_nobody_and_address_given_twice(place):
    with place.unharmed() as one:
        mine = ("a", f"127.0.0.1:{place.port}")
        error = one.refuse(app(place.server, mine, ("b", "192.0.2.1:80")))
        line = one.line_of("192.0.2.1")
        assert error.startswith(f"{one.config_path}:{line}: [listener b] address = "), error
        error = one.refuse(app(place.server, mine, ("c", f"127.0.0.1:{place.port}")))
        assert "[listener c] address" in error and "[listener a] has the address" in error


def test_unix_path_in_use(place, folder):
    path = f"{folder}/taken"
    with place.unharmed() as one, socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        for _ in range(2):
            error = one.refuse(app(place.server, ("a", f"127.0.0.1:{place.port}"),
                                   ("n", f"unix:{folder}/new"), ("b", f"unix:{path}")))
            assert f":{one.line_of('taken')}: [listener b] address = unix:{path}: " in error
            assert "another program listens there" in error
            assert not os.path.exists(f"{folder}/new") and os.path.exists(path)


def test_log_in_a_folder_that_is_not_there(place, folder):
    with place.unharmed() as one:
        new = free_port()
        error = one.refuse(app(place.server, ("a", f"127.0.0.1:{place.port}"),
                               ("n", f"127.0.0.1:{new}")) +
                           f"[log access]\nfile = {folder}/there.log\n"
                           f"[log more]\nfile = {folder}/missing/more.log\n")
        line = one.line_of("missing/more.log")
        assert error.startswith(f"{one.config_path}:{line}: [log more] file = "), error
        assert "No such file" in error and "there.log" not in error
        assert refused(("127.0.0.1", new))
        error = one.refuse(place.good, error_log=f"{folder}/missing/error.log")
        line = one.line_of("missing/error.log")
        assert error.startswith(f"{one.config_path}:{line}: [gatehouse] error_log = "), error


def test_everything_at_once_is_told_at_once(place, folder):
    with place.unharmed() as one:
        error = one.refuse(app(place.server, ("a", f"127.0.0.1:{place.port}"),
                               ("b", "192.0.2.1:80")) +
                           f"[log more]\nfile = {folder}/missing/more.log\n")
        assert "192.0.2.1" in error and "missing/more.log" in error


def test_full_disk(place, folder):
    """A file system where no file can be made any more."""
    if not ROOT:
        return      # nobody else may mount one
    full = f"{folder}/full"
    os.mkdir(full)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=2", "tmpfs", full],
                   check=True)
    try:
        with open(f"{full}/last", "w") as file, place.unharmed() as one:
            file.write("x")
            error = one.refuse(place.good + f"[log access]\nfile = {full}/access.log\n")
            line = one.line_of("full/access.log")
            assert error.startswith(f"{one.config_path}:{line}: [log access] file = "), error
            assert "No space left on device" in error
    finally:
        subprocess.run(["umount", full], check=True)


# ---- Checkers that do not answer ----------------------------------------------------------------

def checkers(one):
    return [pid for pid in children_of(one.pid) if title_of(pid) == "gatehouse: checker"]


def large(place):
    """The good configuration with so many routes that compiling it takes a while."""
    return place.good + "".join(
        f"[route r{n}]\nlistener = a\npath = /r/{n}\nupstream = app\n" for n in range(4000))


class Catching:
    """Stops each checker as soon as it is there. What it compiles is large, so that it is still at
    work by then."""

    def __init__(self, place):
        self.place = place

    def __enter__(self):
        self.control = Control(self.place.one.path)
        self.place.one.write_config(large(self.place))
        self.control.send("reload")
        self.pid, = eventually(lambda: checkers(self.place.one), "the checker")
        os.kill(self.pid, signal.SIGSTOP)
        return self

    def __exit__(self, *_):
        self.control.close()

    def refusal(self):
        reply = self.control.receive()
        assert not reply["ok"], reply
        return reply["error"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_checker_crashes(place, number):
    with place.unharmed() as one, Catching(place) as caught:
        assert one.status()["reload"]["state"] == "checking"
        os.kill(caught.pid, number)
        if number != signal.SIGKILL:  # which needs nobody to be awake, and it may be gone already
            os.kill(caught.pid, signal.SIGCONT)
        error = caught.refusal()
        assert error.startswith("not checked: the checker (process "), error
        assert f"was killed by signal {number.value}" in error
        assert one.status()["generation"] == 2


def test_checker_hangs(gateway, server):
    place = Place(gateway, server, gatehouse="check_timeout = 1s\n")
    with place.unharmed() as one, Catching(place) as caught:
        assert caught.refusal() == "not checked: the checker took too long and was killed"
        assert not os.path.exists(f"/proc/{caught.pid}")
        assert one.status()["generation"] == 2


# ---- Workers that do not prepare ----------------------------------------------------------------

class Preparing:
    """A reload that waits for one worker, which is stopped; `config` is what is reloaded."""

    def __init__(self, place, config=None, stop=1, **settings):
        self.one, self.config = place.one, config or place.good
        self.settings, self.stop = settings, stop

    def __enter__(self):
        self.stopped = self.one.workers()[self.stop]
        os.kill(self.stopped, signal.SIGSTOP)
        self.control = Control(self.one.path)
        for key, value in self.settings.items():
            self.one.set(key, value)
        self.one.write_config(self.config)
        self.control.send("reload")
        eventually(lambda: self.one.status()["reload"]["state"] == "preparing", "workers prepare")
        return self

    def resume(self):
        os.kill(self.stopped, signal.SIGCONT)

    def refusal(self):
        reply = self.control.receive()
        assert not reply["ok"], reply
        return reply["error"]

    def __exit__(self, *_):
        self.control.close()


@pytest.mark.parametrize("change", ["nothing", "grown", "shrunk", "pool", "specific"])
def test_worker_hangs_in_prepare(gateway, server, change):
    """One worker is stopped: nobody may be refused or reset. New sockets must not take part before
    the switch, or who is put into their queues is lost."""
    port = free_port()
    address = f"0.0.0.0:{port}" if change == "specific" else f"127.0.0.1:{port}"
    config = app(server, ("a", address))
    one = reloadable(gateway, config, workers=2, gatehouse="reload_timeout = 700ms\n")
    one.reload()
    settings, before, pids = one.settings, at_rest(one.pid), one.workers()
    one.set("workers", {"grown": 6, "shrunk": 1}.get(change, 2))
    one.write_config({
        "pool": app(server, ("a", address, "side"), pools=pool("side", 3)),
        "specific": app(server, ("a", address), ("b", f"127.0.0.1:{port}")),
    }.get(change, config))
    os.kill(pids[1], signal.SIGSTOP)
    with Control(one.path) as control:
        control.send("reload")
        eventually(lambda: one.status()["reload"]["state"] == "preparing", "workers prepare")
        clients = [socket.create_connection(("127.0.0.1", port), DEADLINE) for _ in range(40)]
        for client in clients:
            client.sendall(request_bytes("/", "Connection: close"))
        reply = control.receive()
        assert not reply["ok"]
        assert reply["error"] == "not prepared within reload_timeout: worker default/1"
        os.kill(pids[1], signal.SIGCONT)
    for client in clients:
        answer = b""
        while data := client.recv(4096):
            answer += data
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        client.close()
        one.count(1)
    eventually(lambda: belongings(one.pid) == before,
               lambda: f"nothing is left: {belongings(one.pid)} is not {before}")
    assert one.workers() == pids
    one.settings = settings
    one.reload(config)
    assert one.get().status == 200


def test_worker_killed_in_prepare(place):
    """Its own exchanges end with it; the rest goes on, and its successor has the old generation."""
    one = place.one
    before = at_rest(one.pid)
    with Preparing(place) as preparing:
        one.sent = None
        os.kill(preparing.stopped, signal.SIGKILL)
        error = preparing.refusal()
        assert error == ("worker default/1 was killed by signal 9 (KILL) while the configuration "
                         "was being prepared")
    eventually(lambda: belongings(one.pid) == before, "a replacement, and nothing else")
    eventually(lambda: {w["generation"] for w in workers_of(one)} == {2}, "it serves the old one")
    assert one.reload()["generation"] > 2
    with Asking(one, ("127.0.0.1", place.port)) as asking:
        asking.progress()


def test_worker_killed_that_was_started_for_the_reload(place):
    one = place.one
    before = at_rest(one.pid)
    config = app(place.server, ("a", f"127.0.0.1:{place.port}"), pools=pool("side", 1))
    with Preparing(place, config) as preparing:
        side, = eventually(lambda: [pid for pid in one.workers() if "side" in title_of(pid)],
                           "the new pool's worker")
        os.kill(side, signal.SIGKILL)
        assert preparing.refusal() == ("worker side/0 was killed by signal 9 (KILL) while the "
                                       "configuration was being prepared")
        preparing.resume()
    eventually(lambda: belongings(one.pid) == before, "nothing is left")
    one.reload(config)
    assert len(workers_of(one, "side")) == 1


def test_prepared_worker_killed_before_the_switch(gateway, server):
    """One is prepared and is killed while the other one still prepares: neither blocks or splits
    the others."""
    place = Place(gateway, server, workers=3)
    one = place.one
    with Preparing(place, stop=2) as preparing:
        victim = one.workers()[0]
        eventually(lambda: workers_of(one)[0].get("prepared"), "the first worker is prepared")
        one.sent = None
        os.kill(victim, signal.SIGKILL)
        assert "worker default/0 was killed by signal 9" in preparing.refusal()
        preparing.resume()
    one.wait_serving(3)
    assert one.status()["generation"] == 2
    one.reload(place.good)
    assert len({w["generation"] for w in workers_of(one)}) == 1


def test_worker_killed_between_prepared_and_switched(gateway, server):
    """It is prepared and stopped, so that it does not see the order to switch, and is killed then.
    It neither blocks nor splits the others: its successor begins with the new generation."""
    place = Place(gateway, server, workers=3)
    one = place.one
    first = one.workers()[0]
    with Preparing(place, stop=2) as preparing:
        eventually(lambda: workers_of(one)[0].get("prepared"), "the first worker is prepared")
        one.sent = None
        os.kill(first, signal.SIGSTOP)
        preparing.resume()
        eventually(lambda: one.status()["reload"]["state"] == "switching", "the others switch")
        os.kill(first, signal.SIGKILL)
        reply = preparing.control.receive()
        assert reply["ok"] and reply["warnings"] == [], reply
    one.wait_serving(3)
    assert one.get().status == 200


def test_worker_that_does_not_switch_is_killed(gateway, server):
    """Stopped between the two phases, for longer than anybody waits."""
    place = Place(gateway, server, workers=3)
    one = place.one
    first = one.workers()[0]
    with Preparing(place, stop=2) as preparing:
        eventually(lambda: workers_of(one)[0].get("prepared"), "the first worker is prepared")
        one.sent = None
        os.kill(first, signal.SIGSTOP)
        preparing.resume()
        reply = preparing.control.receive()
        assert reply["ok"], reply
        assert reply["warnings"] == ["worker default/0 did not switch in time and was killed"]
    one.wait_serving(3)


# ---- Workers that hang while they come or go ----------------------------------------------------

def test_worker_that_is_discarded_ends_even_where_it_is_stopped(gateway, server):
    """A process that was started for a reload and hangs may not stay for ever."""
    place = Place(gateway, server, gatehouse="reload_timeout = 700ms\n")
    config = app(place.server, ("a", f"127.0.0.1:{place.port}"), pools=pool("side", 1))
    with place.unharmed() as one, Control(one.path) as control:
        os.kill(one.workers()[1], signal.SIGSTOP)
        one.write_config(config)
        control.send("reload")
        side, = eventually(lambda: [pid for pid in one.workers() if "side" in title_of(pid)],
                           "the new pool's worker")
        os.kill(side, signal.SIGSTOP)
        reply = control.receive()
        assert not reply["ok"]
        os.kill(one.workers()[1], signal.SIGCONT)
        eventually(lambda: not os.path.exists(f"/proc/{side}"), "it is killed", 15)


def test_replacement_that_hangs(gateway, server):
    """A worker's successor that never gets ready blocks no reload for good. The configuration is
    large, so that the successor is still compiling it when it is stopped."""
    place = Place(gateway, server, workers=1, gatehouse="reload_timeout = 3s\n")
    one, old = place.one, place.one.worker
    with Asking(one, ("127.0.0.1", place.port)) as asking:
        for attempt in range(5):
            with Control(one.path) as control:
                one.write_config(f"[workers default]\ncount = 1\nconnections_max = {777 + attempt}\n" + large(place))
                control.send("reload")
                new, = eventually(lambda: [pid for pid in one.workers() if pid != old], "a successor")
                os.kill(new, signal.SIGSTOP)
                assert control.receive()["ok"]
            if [w["state"] for w in workers_of(one) if w["pid"] == new] == ["starting"]:
                break
            # It was ready before it was stopped: it takes over, and the next one is to be caught.
            os.kill(new, signal.SIGCONT)
            eventually(lambda: one.workers() == [new], "it takes over")
            old = new
        else:
            raise AssertionError("no successor was stopped before it was ready")
        # Another reload waits for it, and is refused where that takes too long, or comes after it.
        reply = one.ask("reload")
        assert reply["ok"] or "reload_timeout" in reply["error"], reply
        eventually(lambda: not os.path.exists(f"/proc/{new}"), "it is killed")
        one.wait_log(f"process {new}, which was to replace {old}, .*; the old one carries on")
        asking.progress()
        assert one.ask("reload")["ok"]
        asking.progress()
