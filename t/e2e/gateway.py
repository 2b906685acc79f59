"""A real gateway, started for one test and checked when the test is over.

    def test_something(proxy, upstream):
        server = upstream(answering(b"hello"))
        gateway = proxy(server, listener="header_timeout = 300ms")
        assert gateway.get("/").body == b"hello"

The gateway runs in the foreground, listens on ports that the kernel picks, and writes its log into
a file. At the end these must hold, or the test fails: it stops when told to, with code 0; no
`alert` was logged and no sanitizer reported; no process is left; each worker has as many
descriptors as before the first request; and it counted the requests that were sent.
"""
import os
import re
import signal
import subprocess
import threading

from peers import Client
from waiting import DEADLINE, eventually

PROGRAM = os.path.abspath(os.environ.get("GATEHOUSE", "build/gatehouse"))
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|: runtime error: |"
                       r"LeakSanitizer|Assertion .* failed")
ALERT = re.compile(r"^\S+ alert \[.*$", re.M)
LISTENING = re.compile(r"listener (\S*): listening on (\S+)")


def run_gatehouse(*arguments, program=None, **options):
    """Runs the program to its end: a CompletedProcess with text."""
    return subprocess.run([program or PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=DEADLINE, **options)


def is_sanitized():
    """True where the program was built with a sanitizer: it is slow and large then."""
    with open(PROGRAM, "rb") as program:
        return b"__asan_" in program.read()


SANITIZED = is_sanitized() if os.path.exists(PROGRAM) else False


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def title_of(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descriptors_of(pid):
    """What the process has open: {number: link}."""
    found = {}
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:
            pass
    return found


def resident_bytes(pid):
    """What the process holds for itself: anonymous memory, without files and shared mappings."""
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"RssAnon:\s+(\d+) kB", file.read()).group(1)) * 1024


def proxy_config(*targets, listener="", upstream="", route=""):
    """A configuration with one listener, one upstream with these targets, one route."""
    target_lines = "\n".join(f"target = {t if isinstance(t, str) else t.target}" for t in targets)
    address = "" if "address" in listener else "address = 127.0.0.1:0"
    return f"""
[listener public]
{address}
{listener}

[upstream app]
{target_lines}
{upstream}

[route all]
listener = public
upstream = app
{route}
"""


class Gateway:
    """REQUIRES: `folder` is a directory that every user may enter."""

    def __init__(self, folder, config, *, workers=1, gatehouse="", watch=True, program=None):
        self.folder = str(folder)
        self.program = program or PROGRAM
        self.config_path = os.path.join(self.folder, "gatehouse.conf")
        self.log_paths = [os.path.join(self.folder, "output"),
                          *re.findall(r"^error_log\s*=\s*(/\S+)", gatehouse, re.M)]
        self.clients = []
        self.sent = 0              # requests that must have been counted; None: nobody knows
        self.lock = threading.Lock()
        self.process = None
        self.stopped = False
        self.expected_code = 0
        self.check_descriptors = True
        self.watch = watch         # a listener and a route for the metrics
        text = "[gatehouse]\n"
        if workers is not None:
            text += f"workers = {workers}\n"
        for key, value in (("error_log", "stderr info"), ("shared_memory", "8m"),
                           ("control", "none"), ("agent", "off"), ("drain_timeout", "5s")):
            if not re.search(rf"^\s*{key}\s*=", gatehouse, re.M):
                text += f"{key} = {value}\n"
        self.settings = text + gatehouse + "\n"
        self.write_config(config)

    def write_config(self, config):
        """Puts this configuration into the place of the one before, behind the same settings of
        [gatehouse]; the gateway reads it when it starts, or is told to reload."""
        text = self.settings + config
        if self.watch:
            text += ("\n[listener watch]\naddress = 127.0.0.1:0\n"
                     "\n[route watch]\nlistener = watch\npath = /watch\nmetrics = prometheus\n"
                     "log = off\n")
        with open(self.config_path + ".new", "w") as file:
            file.write(text)
        os.rename(self.config_path + ".new", self.config_path)

    # ---- life ----

    def start(self, *, descriptors=None):
        """`descriptors`: the limit on open ones that it starts with."""
        limit = ["prlimit", f"--nofile={descriptors}"] if descriptors else []
        self.output = open(self.log_paths[0], "ab")
        self.process = subprocess.Popen(
            [*limit, self.program, "--foreground", "-c", self.config_path],
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
            cwd="/", start_new_session=True)
        eventually(lambda: " started: " in self.log() or self.process.poll() is not None,
                   lambda: "the gateway starts\n" + self.log())
        assert self.process.poll() is None, "the gateway did not start\n" + self.log()
        self.addresses = {}
        for name, address in LISTENING.findall(self.log()):
            self.addresses.setdefault(name, []).append(parse_address(address))
        own = [name for name in self.addresses if name != "watch"]
        self.address = self.addresses[own[0]][0]
        self.port = None if isinstance(self.address, str) else self.address[1]
        self.resting = {title_of(pid): len(descriptors_of(pid)) for pid in self.workers()}
        return self

    @property
    def pid(self):
        return self.process.pid

    def workers(self):
        """The workers' process ids, in the order of their titles."""
        titled = [(title_of(pid), pid) for pid in children_of(self.pid)]
        return [pid for title, pid in sorted(titled) if " worker " in title]

    @property
    def worker(self):
        return self.workers()[0]

    def send_signal(self, number, pid=None):
        os.kill(pid or self.pid, number)

    def log(self):
        text = ""
        for path in self.log_paths:
            if os.path.exists(path):
                with open(path, errors="replace") as file:
                    text += file.read()
        return text

    def wait_log(self, pattern, seconds=DEADLINE):
        return eventually(lambda: re.search(pattern, self.log()),
                          lambda: f"{pattern!r} in the log\n{self.log()}", seconds)

    def wait_exit(self, seconds=DEADLINE):
        """Waits until the master has ended; returns its code."""
        code = self.process.wait(timeout=seconds)
        self.stopped = True
        return code

    def stop(self, number=signal.SIGQUIT):
        """Stops it and checks what must hold at the end."""
        if self.process is None or self.stopped:
            return self.check_end()
        failure = None
        try:
            for client in self.clients:
                client.close()
            if self.check_descriptors:
                self.wait_descriptors()
            self.check_counts()
        except Exception as error:      # told when it has ended, after what is worse
            failure = error
        pids = [self.pid, *children_of(self.pid)]
        self.send_signal(number)
        try:
            self.wait_exit()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the gateway does not stop\n" + self.log()) from failure
        for pid in pids:
            eventually(lambda: not os.path.exists(f"/proc/{pid}"), f"process {pid} ends", 5)
        self.check_end()
        if failure:
            raise failure

    def check_end(self):
        if self.process is None:
            return
        self.output.close()
        log = self.log()
        assert not SANITIZER.search(log), log
        assert not ALERT.search(log), ALERT.search(log).group(0)
        assert self.process.returncode == self.expected_code, \
            f"the master's exit code is {self.process.returncode}\n{log}"

    def kill(self):
        """The last resort, so that nothing outlives a failed test."""
        if self.process is None:
            return
        pids = children_of(self.pid) if self.process.poll() is None else []
        for pid in [self.pid, *pids] if self.process.poll() is None else []:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(timeout=DEADLINE)
        self.stopped = True

    # ---- checks ----

    def wait_descriptors(self):
        """Waits until the workers have no more open than when they had just started."""
        def excess():
            now = {title_of(pid): descriptors_of(pid) for pid in self.workers()}
            return {title: open_now for title, open_now in now.items()
                    if len(open_now) > self.resting.get(title, 0)}
        eventually(lambda: not excess(), lambda: f"descriptors go back: {excess()}", 10)

    def count(self, requests):
        with self.lock:
            if self.sent is not None:
                self.sent += requests

    def metrics(self):
        """{'name{labels}': value} of all metrics."""
        with Client(self, self.addresses["watch"][0]) as client:
            client.send(b"GET /watch HTTP/1.1\r\nHost: watch\r\nConnection: close\r\n\r\n")
            text = client.read_response(counted=False).body.decode()
        self.clients.remove(client)
        return {key: float(value) for key, value in
                (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}

    def counted(self):
        """The requests that the gateway has counted, without those that asked for metrics."""
        return int(sum(value for key, value in self.metrics().items()
                       if key.startswith("gatehouse_listener_requests_total{")
                       and 'listener="watch"' not in key))

    def reasons(self):
        """{reason code: count} of the listeners."""
        found = {}
        for key, value in self.metrics().items():
            match = re.match(r'gatehouse_listener_reasons_total\{.*reason="(\w+)"', key)
            if match and 'listener="watch"' not in key:
                found[match.group(1)] = found.get(match.group(1), 0) + int(value)
        return found

    def wait_reason(self, code, count=1):
        """Waits until so many exchanges have ended for this reason."""
        eventually(lambda: self.reasons().get(code, 0) == count,
                   lambda: f"{count} of {code}: {self.reasons()}", 10)

    def check_counts(self):
        if self.sent is not None and self.watch and self.workers():
            self.wait_counted()

    def wait_counted(self):
        """Waits until all requests are counted: that is after the client has its response."""
        eventually(lambda: self.counted() == self.sent,
                   lambda: f"counted = sent: {self.counted()} = {self.sent}", 5)

    # ---- clients ----

    def connect(self, listener=None, number=0, **options):
        address = self.addresses[listener][number] if listener else self.address
        return Client(self, address, **options)

    def get(self, target="/", *fields, **options):
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.get(target, *fields, **options)

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def curl(self, *arguments, requests=1, **options):
        """Runs curl to its end."""
        self.count(requests)
        return subprocess.run(["curl", "-sS", "--noproxy", "*", "--max-time", str(DEADLINE),
                               *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=DEADLINE * 2, **options)


def parse_address(text):
    """What connect() takes: a path, or (host, port)."""
    if text.startswith("unix:"):
        return text[len("unix:"):]
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port))
