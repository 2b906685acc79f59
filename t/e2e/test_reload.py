"""Reloads with a real gateway under a steady load that forgives nothing; long ones are in t/soak.

What each test holds the gateway to is in the issue of the reload: no request fails, no WebSocket is
lost, a refused configuration changes nothing, says why with file:line, and leaves nothing behind.
"""
import contextlib
import os
import signal
import socket
import time

import pytest

from gateway import SANITIZED, run_gatehouse
from load_clients import LoadClient, describe, failures
from processes import descendants, is_alive, is_stopped, title_of
from reload_configs import free_port, many_routes
from reload_fixtures import Killer, running
from reload_servers import GatehouseServer
from reload_storm import blow
from waiting import eventually


def small_load(port, **options):
    return LoadClient(port, **{"connections": 8, "rate": 150, "new_rate": 20, "websockets": 20,
                               "sources": 4, "late": 5000 if SANITIZED else 1000, **options})


def test_reloads_in_a_row(scene, folder):
    """All variants, so that workers, pools, listeners, upstreams and routes come and go; twice."""
    with running(GatehouseServer(scene, folder, agent=False)) as server:
        with small_load(scene.port) as load:
            # Two periods: the same configuration is compared at the end of each.
            storm = blow(server, load, 24, patience=5)
        assert not storm.wrong, storm.report("gatehouse")
        assert failures(storm.total) == 0, describe(storm.total)
        assert storm.first and len(storm.first) == len(storm.last)
        for before, after in storm.grown():
            assert after.kept <= before.kept, f"{before} became {after}"
        wanted = storm.total["sent"] + storm.total["websockets"]["opened"] + storm.asked
        eventually(lambda: server.counted() == wanted,
                   lambda: f"counted: {server.counted()}, sent: {wanted}")


# ---- configurations that are refused -----------------------------------------------------------


class Refusals:
    """Reloads that must fail, and what must be as before."""

    def __init__(self, server):
        self.server = server
        if "agent = on" in server.settings:
            server.agent()
        self.before = self.settled()

    def settled(self):
        """As it is when nothing is under way: the same twice in a row."""
        looks = [None]

        def same():
            looks.append(self.look())
            time.sleep(0.05)
            return looks[-1] == looks[-2]
        eventually(same, lambda: f"the processes come to rest: {looks[-2:]}")
        return looks[-1]

    def look(self):
        """What would stay behind: processes with their descriptors that are no connections."""
        return {pid: (mark.title, mark.kept) for pid, mark in self.server.footprints().items()}

    def expect(self, n, more, texts):
        server = self.server
        server.write(n, more)
        done = server.command_reload()
        output = done.stdout + done.stderr
        assert done.returncode == 1, output
        for text in texts:
            assert text in output, f"{text!r} is not in:\n{output}"
        assert {server.ask() for _ in range(8)} == {"0"}, "the old configuration does not serve"
        eventually(lambda: self.look() == self.before,
                   lambda: f"nothing is left behind: {self.before} became {self.look()}")
        assert server.status()["generation"] == 1
        return output


def line_of(server, wanted):
    """FILE:LINE of the last line with this text in the configuration."""
    with open(server.gateway.config_path) as file:
        numbers = [n for n, line in enumerate(file, 1) if line.strip() == wanted]
    return f"{server.gateway.config_path}:{numbers[-1]}:"


@contextlib.contextmanager
def refusing(scene, folder, **options):
    """A gateway under load for reloads that must fail; none of its requests may."""
    with running(GatehouseServer(scene, folder, **options)) as server:
        with small_load(scene.port) as load:
            yield Refusals(server)
            # And then a good one is taken.
            result = server.reload(1)
            assert result.code == 0, result.output
            total = load.stop()
        assert failures(total) == 0, describe(total)


BROKEN = {
    "syntax": ("[route broken\n", "[route broken"),
    "unknown key": ("[route x]\npath = /x\nrepli = 200\n", "repli = 200"),
    "unknown upstream": ("[route x]\npath = /x\nupstream = nobody\n", "upstream = nobody"),
    "two errors": ("[route x]\npath = /x\nbody_max = many\nrepli = 200\n", "body_max = many"),
    "missing include": ("[route x]\npath = /x\nreply = 200\ninclude = none.conf\n",
                        "include = none.conf"),
    "missing file": ("[route x]\npath = /x\nreply = 200\nreply_file = /nonexistent/x.html\n",
                     "reply_file = /nonexistent/x.html"),
}


@pytest.mark.parametrize("agent", [False, True])
def test_errors_of_the_configuration(scene, folder, agent):
    """The same text as -t prints, with the line; twice, so that what leaks is seen."""
    with refusing(scene, folder, agent=agent) as refusals:
        for _ in range(2):
            for more, line in BROKEN.values():
                output = refusals.expect(3, more, [])
                server = refusals.server
                assert line_of(server, line) in output, output
                checked = run_gatehouse("-t", "-c", server.gateway.config_path)
                assert checked.returncode == 1
                assert checked.stderr.strip() in output, f"{checked.stderr}\nis not in\n{output}"


def test_what_only_the_system_refuses(scene, folder):
    """An address in use, one of another host, a folder that is not there."""
    with refusing(scene, folder) as refusals, socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        good = f"127.0.0.1:{free_port()}"
        for _ in range(2):
            refusals.expect(3, f"[listener taken]\naddress = {good} {address}\n",
                            [address, "Address already in use"])
            refusals.expect(3, "[listener far]\naddress = 192.0.2.1:80\n",
                            ["192.0.2.1:80", "Cannot assign requested address"])
            refusals.expect(3, "[log x]\nfile = /nonexistent/x.log\n",
                            ["/nonexistent/x.log", "No such file or directory"])
        with pytest.raises(ConnectionRefusedError):
            host, _, port = good.partition(":")
            socket.create_connection((host, int(port))).close()


# ---- processes that die or hang during a reload ------------------------------------------------


def test_without_the_agent_a_reload_works(scene, folder):
    """Dead: at once. Hanging: after check_timeout. A checker that dies: refused."""
    settings = "check_timeout = 1s\n"
    with running(GatehouseServer(scene, folder, settings=settings)) as server:
        with small_load(scene.port) as load:
            os.kill(server.agent(), signal.SIGKILL)
            assert server.reload(1).code == 0
            hung = server.agent()
            os.kill(hung, signal.SIGSTOP)
            done = server.reload(2)
            assert done.code == 0, done.output
            assert done.returned < (15 if SANITIZED else 4)
            # Bad ones are found without it, too.
            server.write(3, "[route x]\npath = /x\nrepli = 200\n")
            assert server.command_reload().returncode == 1
            assert server.ask() == "2"
            if is_alive(hung):          # unless it was replaced already
                os.kill(hung, signal.SIGCONT)
            total = load.stop()
        assert failures(total) == 0, describe(total)
        server.agent()


def test_a_checker_that_crashes_refuses(scene, folder):
    with running(GatehouseServer(scene, folder, agent=False)) as server:
        with small_load(scene.port) as load:
            server.write(1, many_routes(5000, 1))
            ours = set(descendants(server.master))
            command = server.begin("-s", "reload")
            checker = eventually(lambda: set(descendants(server.master)) - ours or
                                 command.poll() is not None, "there is a checker")
            assert checker is not True, "the reload was done before its checker was seen"
            for pid in checker:
                os.kill(pid, signal.SIGKILL)
            output, _ = command.communicate(timeout=30)
            assert command.returncode == 1, output
            assert "check" in output, output
            assert server.ask() == "0"
            eventually(lambda: set(descendants(server.master)) == ours, "no process is left")
            total = load.stop()
        assert failures(total) == 0, describe(total)


@pytest.mark.parametrize("when", ["in prepare", "between prepare and switch"])
def test_a_worker_killed_during_a_reload(scene, folder, when):
    """One worker stands still, so that the reload waits; then that one, or another that is prepared
    already, is killed. All of them serve the same configuration afterwards."""
    with running(GatehouseServer(scene, folder, agent=False)) as server:
        killer = Killer(scene.port)
        with small_load(scene.port) as load:
            time.sleep(0.3)
            still, other = [pid for pid in server.workers() if "default" in title_of(pid)][:2]
            # Its clients wait: a stopped worker answers nobody. It is not stopped for long.
            os.kill(still, signal.SIGSTOP)
            eventually(lambda: is_stopped(still), "the worker stands still")
            server.write(3)
            command = server.begin("-s", "reload")
            eventually(lambda: server.status()["reload"]["state"] == "preparing", "it is prepared")
            time.sleep(0.2)
            assert command.poll() is None
            killer.kill(still if when == "in prepare" else other)
            if when != "in prepare":
                os.kill(still, signal.SIGCONT)
            output, _ = command.communicate(timeout=30)
            serving = {0: 3, 1: 0}[command.returncode]
            server.wait_everywhere(serving)
            assert server.status()["reload"]["state"] == "idle", output
            assert server.reload(4).code == 0
            eventually(lambda: all(worker["state"] in ("ready", "parked")
                                   for worker in server.status()["workers"]), "all are ready")
            total = load.stop()
        killer.check(total)


def test_kills_at_random(scene, folder):
    with running(GatehouseServer(scene, folder)) as server:
        killer = Killer(scene.port)
        started, asked = server.counted(), server.requests
        with small_load(scene.port) as load:
            time.sleep(0.5)
            for _ in range(3):
                killer.kill_one(server.workers())
                time.sleep(0.4)
                killer.kill(server.agent())
                time.sleep(0.2)
            total = load.stop()
        killer.check(total)
        sent = total["sent"] + total["websockets"]["opened"] + server.requests - asked
        eventually(lambda: server.active() == 0, lambda: f"{server.active()} connections active")
        assert abs(server.counted() - started - sent) <= killer.connections
        assert server.reload(1).code == 0
