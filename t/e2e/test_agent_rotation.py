"""Log rotation by the agent, with writers that reopen as workers do: every line is there once.

Each writer keeps its descriptor until the "master" reopens, as a worker does, and writes numbered
lines as fast as it can. At the end the lines in the log and in all its old files are counted.
"""
import gzip
import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest

from agent_master import AgentMaster
from gateway import SANITIZED
from waiting import DEADLINE, eventually

ROTATED = re.compile(r"\.\d{8}-\d{6}(\.\d+)?(\.gz)?$")


class Writers:
    """Threads that write numbered lines to one log, through one descriptor each."""

    def __init__(self, path, count=3, pause=0.0005):
        self.path = path
        self.fds = [self.open() for _ in range(count)]
        self.written = [0] * count
        self.pause = pause
        self.ending = False
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.write, args=(n,), daemon=True) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def open(self):
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def write(self, number):
        while not self.ending:
            first = self.written[number]
            lines = "".join(f"{number} {n} {'x' * 60}\n" for n in range(first, first + 10))
            data = lines.encode()
            assert os.write(self.fds[number], data) == len(data)
            self.written[number] += 10
            time.sleep(self.pause)

    def reopen(self):
        with self.lock:
            for fd in self.fds:
                fresh = self.open()
                os.dup2(fresh, fd, inheritable=False)
                os.close(fresh)
            if not self.fds:
                os.close(self.open())

    def end(self):
        self.ending = True
        for thread in self.threads:
            thread.join(timeout=DEADLINE)
        with self.lock:
            for fd in self.fds:
                os.close(fd)
            self.fds = []

    def expected(self):
        return sorted(f"{n} {i}" for n, total in enumerate(self.written) for i in range(total))


def rotated(path):
    folder, base = os.path.split(path)
    return sorted(name for name in os.listdir(folder)
                  if name.startswith(base) and ROTATED.fullmatch(name[len(base):]))


def lines_of(path):
    """All lines of the log and its old files; one that is there plain and packed counts once."""
    folder = os.path.dirname(path)
    names = rotated(path)
    lines = []
    for name in names:
        if name.endswith(".gz") and name[:-3] in names:
            continue  # cut off before the plain one was removed
        opener = gzip.open if name.endswith(".gz") else open
        with opener(os.path.join(folder, name), "rt") as file:
            lines += file.read().splitlines()
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            lines += file.read().splitlines()
    return sorted(" ".join(line.split(" ")[:2]) for line in lines)


def assert_same(found, wanted):
    if found == wanted:
        return
    missing = set(wanted) - set(found)
    raise AssertionError(f"{len(wanted)} lines written, {len(found)} found, {len(missing)} missing: "
                         f"{sorted(missing)[:5]}")


@pytest.fixture
def logs(folder):
    """A folder of its own: what is locked and listed there is the logs'."""
    path = os.path.join(folder, "logs")
    os.mkdir(path)
    return path


def config(folder, path, rule):
    return (f"[agent]\nstate = {folder}/state\n[gatehouse]\nerror_log = stderr info\n"
            f"[log access]\nfile = {path}\nrotate = {rule}\n")


def test_lines_under_rotation_are_all_there_once(folder, logs):
    path = f"{logs}/access.log"
    with AgentMaster(folder) as master:
        writers = Writers(path)
        master.handlers["reopen"] = lambda _body: writers.reopen() or {}
        master.current(config(folder, path, "size 1k, compress on"))
        eventually(lambda: len(rotated(path)) >= 8, master.log, seconds=60)
        writers.end()
        # Nobody writes any more; what is left is packed, or the last file is below its size.
        eventually(lambda: all(name.endswith(".gz") for name in rotated(path)), lambda: rotated(path))
        assert_same(lines_of(path), writers.expected())
        assert not [name for name in os.listdir(logs) if name.endswith(".part")]


def test_an_agent_killed_at_any_moment_loses_nothing(folder, logs):
    path = f"{logs}/access.log"
    random.seed(7)
    with AgentMaster(folder) as master:
        writers = Writers(path, pause=0.001)
        master.handlers["reopen"] = lambda _body: writers.reopen() or {}
        text = config(folder, path, "size 1k, compress on")
        for _ in range(6 if SANITIZED else 15):
            master.current(text)
            before = len(rotated(path))
            eventually(lambda: len(rotated(path)) > before, master.log)
            time.sleep(random.random() * 0.03)  # the moment of the kill, not a wait for anything
            master.process.send_signal(signal.SIGKILL)
            master.kill()
            master.start()
        master.current(text)
        writers.end()
        eventually(lambda: all(name.endswith(".gz") for name in rotated(path)), lambda: rotated(path))
        assert_same(lines_of(path), writers.expected())
        assert not [name for name in os.listdir(logs) if name.endswith(".part")]


def test_a_master_that_refuses_keeps_the_log_where_it_was(folder, logs):
    path = f"{logs}/access.log"
    with AgentMaster(folder) as master:
        writers = Writers(path, count=1, pause=0.005)
        refused = []
        master.handlers["reopen"] = lambda _body: refused.append(1) or {"error": "an upgrade is under way"}
        master.current(config(folder, path, "size 1k"))
        eventually(lambda: len(refused) >= 2, master.log)
        eventually(lambda: not rotated(path), lambda: rotated(path))
        assert "an upgrade is under way" in master.log()
        master.handlers["reopen"] = lambda _body: writers.reopen() or {}
        eventually(lambda: rotated(path) and all(n.endswith(".gz") for n in rotated(path)), master.log)
        writers.end()
        assert_same(lines_of(path), writers.expected())


def test_a_master_that_says_nothing_costs_no_line(folder, logs):
    path = f"{logs}/access.log"
    with AgentMaster(folder) as master:
        writers = Writers(path, count=1, pause=0.005)
        asked = threading.Event()
        master.handlers["reopen"] = lambda _body: asked.set()
        master.current(config(folder, path, "size 1k"))
        assert asked.wait(DEADLINE)
        master.kill()  # the master, and with it the agent, is gone in the midst of it
        master.start()
        master.handlers["reopen"] = lambda _body: writers.reopen() or {}
        master.current(config(folder, path, "size 1k"))
        eventually(lambda: rotated(path) and all(n.endswith(".gz") for n in rotated(path)), master.log)
        writers.end()
        assert_same(lines_of(path), writers.expected())


def test_age_number_and_compression_as_told(folder, logs):
    path = f"{logs}/access.log"
    with AgentMaster(folder) as master:
        writers = Writers(path, count=1, pause=0.01)
        rotations = []
        master.handlers["reopen"] = lambda _body: writers.reopen() or rotations.append(1) or {}
        master.current(config(folder, path, "age 1s, keep 2, compress off"))
        eventually(lambda: len(rotations) >= 5, master.log)
        eventually(lambda: len(rotated(path)) == 2, lambda: rotated(path))
        assert not [name for name in rotated(path) if name.endswith(".gz")]
        # The rule changes with the configuration: the plain ones are packed now, and one goes.
        master.current(config(folder, path, "size 1g, keep 1"), 2)
        eventually(lambda: [n[-3:] for n in rotated(path)] == [".gz"], lambda: rotated(path))
        writers.end()


def test_several_logs_in_one_go(folder, logs):
    paths = [f"{logs}/a.log", f"{logs}/b.log", f"{logs}/a.log.b.log"]
    text = f"[agent]\nstate = {folder}/state\n"
    with AgentMaster(folder) as master:
        writers = [Writers(path, count=1, pause=0.002) for path in paths]
        master.handlers["reopen"] = lambda _body: [w.reopen() for w in writers] and {}
        for n, path in enumerate(paths):
            text += f"[log l{n}]\nfile = {path}\nrotate = size 1k\n"
        master.current(text)
        eventually(lambda: all(len(rotated(path)) >= 3 for path in paths), master.log)
        for one in writers:
            one.end()
        for path, one in zip(paths, writers):
            eventually(lambda p=path: all(n.endswith(".gz") for n in rotated(p)), lambda: os.listdir(logs))
            assert_same(lines_of(path), one.expected())


def test_the_error_log_too_with_the_agent_writing_to_it(folder, logs):
    """The agent's own descriptor must not stay on the old file: the master sends the new one."""
    path = f"{logs}/error.log"
    with AgentMaster(folder) as master:
        master.stop()
        master.log_path = path
        master.start()

        def reopen(_body):
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            return {"fds": [fd]}

        master.handlers["reopen"] = reopen
        with open(path, "a", encoding="utf-8") as file:
            file.write("x" * 2000 + "\n")
        master.current(f"[agent]\nstate = none\n[gatehouse]\nerror_log = {path} info\n"
                       "error_log_rotate = size 1k\n")
        eventually(lambda: rotated(path) and all(n.endswith(".gz") for n in rotated(path)),
                   lambda: os.listdir(logs))
        # From now on it writes to the new one, also what is said of the old one.
        master.ask("validate")
        master.process.send_signal(signal.SIGTERM)
        assert master.process.wait(timeout=DEADLINE) == 0
        assert "ended" in master.log()
        with gzip.open(f"{logs}/{rotated(path)[0]}", "rt") as file:
            assert "moved to error.log." in file.read()


def test_a_full_disk_keeps_the_plain_file(folder, logs):
    """Packing finds no room: the old file stays as it is, and is packed when there is room."""
    path = f"{logs}/access.log"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", logs],
                             capture_output=True).returncode == 0
    random_lines = os.urandom(300_000).hex()

    def limit():
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    try:
        with AgentMaster(folder, preexec=None if mounted else limit) as master:
            with open(path, "w", encoding="utf-8") as file:
                file.write("".join(f"0 {n} {random_lines[n * 1000:n * 1000 + 1000]}\n" for n in range(600)))
            if mounted:
                with open(f"{logs}/ballast", "wb") as file:
                    file.write(b"x" * 300_000)
            wanted = lines_of(path)
            reopened = threading.Event()

            def reopen(_body):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o640))
                reopened.set()
                return {}

            master.handlers["reopen"] = reopen
            master.current(config(folder, path, "size 1k"))
            assert reopened.wait(DEADLINE)
            eventually(lambda: "cannot write" in master.log(), master.log)
            assert_same(lines_of(path), wanted)
            assert not rotated(path)[0].endswith(".gz")
            if mounted:
                os.unlink(f"{logs}/ballast")
            else:
                import resource
                resource.prlimit(master.process.pid, resource.RLIMIT_FSIZE,
                                 (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            eventually(lambda: [n[-3:] for n in rotated(path)] == [".gz"], master.log, seconds=90)
            assert_same(lines_of(path), wanted)
    finally:
        if mounted:
            subprocess.run(["umount", logs], check=True)
