"""What the end-to-end and the soak tests of reloads share."""
import contextlib
import os
import random
import signal
import time

import pytest

from load_clients import LoadClient, LoadUpstream, describe
from processes import clients_of, is_stopped, stat_of
from reload_configs import Scene
from waiting import eventually


@pytest.fixture
def report(capsys):
    """Prints figures although the test passes."""
    def show(text):
        with capsys.disabled():
            print("\n" + text, flush=True)
    return show


@pytest.fixture
def scene():
    servers = [LoadUpstream(name) for name in ("one", "two", "three")]
    yield Scene(servers)
    for server in servers:
        server.close()


@contextlib.contextmanager
def running(server, n=0):
    """The server with variant n; ended and checked when the block ends, and gone in any case."""
    try:
        server.start(n)
        yield server
        server.stop()
    finally:
        if server.gateway is not None:
            server.kill()


def steady_load(port, **options):
    return LoadClient(port, **{"connections": 32, "rate": 1000, "new_rate": 50, "websockets": 50,
                               "sources": 8, **options})


class Killer:
    """Kills processes with SIGKILL and remembers whose connections died with them."""

    def __init__(self, port, seed=0):
        self.port, self.random = port, random.Random(seed)
        self.doomed = set()         # addresses of clients, which come again in a long run
        self.kills = self.connections = 0

    def kill(self, pid):
        """Stops it first: a process that runs would accept more while its connections are read."""
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: is_stopped(pid), "the process stops")
        clients = clients_of(pid, self.port)
        self.doomed |= clients
        self.connections += len(clients)
        os.kill(pid, signal.SIGKILL)
        self.kills += 1

    def kill_one(self, pids, grown_up=0):
        """One of these at random, of those that have lived that many seconds."""
        old = [pid for pid in pids if age_of(pid) >= grown_up]
        if old:
            self.kill(self.random.choice(old))

    def check(self, counted):
        """Only connections of killed processes may have failed."""
        others = [failed for failed in counted["failed"] if failed[2] not in self.doomed]
        assert len(counted["failed"]) < 50_000, "there are more failures than are told one by one"
        assert not others, f"failed without a kill: {others[:10]}\n{describe(counted)}"


def age_of(pid):
    """Seconds since the process began."""
    try:
        began = int(stat_of(pid)[19]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began
