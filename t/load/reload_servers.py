"""gatehouse and nginx behind one interface for tests that reload them under load.

    server.start(n)          variant n of the scene, until it answers
    server.reload(n)         writes variant n and reloads: a Reload with times and outcome
    server.master            the process id
    server.stop()            ends it and checks what must hold then
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import time

from gateway import PROGRAM, Gateway, run_gatehouse
from processes import descendants, footprints, is_alive, title_of
from waiting import eventually

# Whom root's gateway runs its workers and its agent as, where it is not told.
AGENT_USER, AGENT_GROUP = "nobody", "nogroup"
ASKED = 24      # connections that are asked for the marker: more than any test has workers


class Reload:
    """`returned`, `everywhere`: seconds until the command returned, and until each of many
    connections was answered by the new configuration."""

    def __init__(self, code, output, returned):
        self.code, self.output, self.returned, self.everywhere = code, output, returned, None


def ask(port, target="/generation", timeout=10):
    """The body of an answer, on a connection of its own; None where nobody listens."""
    try:
        sock = socket.create_connection(("127.0.0.1", port), timeout)
    except ConnectionRefusedError:
        return None
    with sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: load.example\r\n"
                     f"Connection: close\r\n\r\n".encode())
        data = b""
        while True:
            piece = sock.recv(65536)
            if not piece:
                return data.partition(b"\r\n\r\n")[2].decode().strip()
            data += piece


class KeptConnections:
    """Connections from before a reload: each asks again after it, on whichever worker it is."""

    def __init__(self, port, count):
        self.port, self.count = port, count
        self.socks = [self.connect() for _ in range(count)]
        self.reconnects = self.asked = 0

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def ask_all(self):
        """What /generation answers on each. One that was closed between is opened anew."""
        return [self.ask(i) for i in range(self.count)]

    def ask(self, i):
        for _ in range(2):
            sock = self.socks[i]
            try:
                sock.sendall(b"GET /generation HTTP/1.1\r\nHost: load.example\r\n\r\n")
                data = sock.recv(65536)
                if data:
                    while True:
                        head, end, body = data.partition(b"\r\n\r\n")
                        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
                        if end and len(body) >= int(fields[b"content-length"]):
                            self.asked += 1
                            return body.decode().strip()
                        data += sock.recv(65536)
            except (BrokenPipeError, ConnectionResetError):
                pass
            sock.close()
            self.socks[i] = self.connect()
            self.reconnects += 1
        raise AssertionError("a new connection was not answered")

    def close(self):
        for sock in self.socks:
            sock.close()


class Server:
    """What the two have in common."""

    def __init__(self, scene):
        self.scene = scene
        self.requests = 0       # that were answered on the main listener

    def ask(self, port=None):
        answer = ask(port or self.scene.port)
        if port is None:
            self.requests += 1
        return answer

    def wait_everywhere(self, n, seconds=20):
        """Waits until many new connections in a row are answered by variant n."""
        def all_new():
            return all(self.ask() == str(n) for _ in range(ASKED))
        eventually(all_new, lambda: f"variant {n} answers everywhere: {self.ask()!r}", seconds)

    def check_probes(self, n, seconds):
        """Listeners that were added answer, those that were removed refuse."""
        wanted = {port: str(n) if port in self.scene.open_probes(n) else None
                  for port in self.scene.probes}
        eventually(lambda: {port: self.ask(port) for port in wanted} == wanted,
                   lambda: f"the listeners of variant {n}: {wanted}", seconds)

    def reload(self, n, **options):
        self.write(n, **options)
        began = time.monotonic()
        done = self.command_reload()
        result = Reload(done.returncode, done.stdout + done.stderr, time.monotonic() - began)
        if result.code == 0:
            self.wait_everywhere(n)
            result.everywhere = time.monotonic() - began
        return result

    def footprints(self):
        return footprints(self.master)


class GatehouseServer(Server):
    """`settings`: further lines of [gatehouse]; `more`: further sections, in each variant.
    `program`: another than the one to test. With an agent its folder is self.state."""

    def __init__(self, scene, folder, settings="", more="", program=None, agent=True):
        super().__init__(scene)
        self.folder = str(folder)
        self.state = f"{self.folder}/state"
        self.program = program or PROGRAM
        self.settings = (f"control = {self.folder}/control.sock\npid_file = {self.folder}/pid\n"
                         + settings)
        self.more = more
        if agent:
            os.makedirs(self.state, mode=0o700, exist_ok=True)
            if os.geteuid() == 0:
                shutil.chown(self.state, AGENT_USER, AGENT_GROUP)
            self.settings += "agent = on\n"
            self.more += f"\n[agent]\nstate = {self.state}\nlisten = none\n"
        self.gateway = None

    def start(self, n):
        self.gateway = Gateway(self.folder, self.text(n), workers=None, watch=False,
                               gatehouse=self.settings, program=self.program)
        self.gateway.check_descriptors = False
        self.gateway.sent = None
        self.gateway.start()
        self.wait_everywhere(n)
        return self

    def text(self, n):
        return self.scene.gatehouse(n) + self.more

    @property
    def master(self):
        """The serving master: another process after an upgrade, while which there may be no file
        for a moment."""
        return eventually(self.read_pid, "there is a file with the process id", 10)

    def read_pid(self):
        try:
            with open(f"{self.folder}/pid") as file:
                return int(file.read() or "0")
        except FileNotFoundError:
            return None

    def write(self, n, more=""):
        self.gateway.write_config(self.text(n) + more)

    def command(self, *arguments):
        return run_gatehouse(*arguments, "-c", self.gateway.config_path, program=self.program)

    def begin(self, *arguments):
        """The command as a process that runs beside the test."""
        return subprocess.Popen([self.program, *arguments, "-c", self.gateway.config_path],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def command_reload(self):
        return self.command("-s", "reload")

    def status(self):
        done = self.command("status", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def agent(self):
        """The agent's process id; waits for one that is ready."""
        return eventually(lambda: self.status()["agent"]["state"] == "ready" and
                          self.status()["agent"]["pid"], "the agent is ready")

    def workers(self):
        """The process ids of the workers, those that are parked too."""
        return [pid for pid in descendants(self.master) if " worker " in title_of(pid)]

    def counted(self):
        """Requests that all workers have counted on the main listener."""
        return int(sum(value for key, value in self.gateway.metrics().items()
                       if key.startswith("gatehouse_listener_requests_total{")
                       and 'listener="main"' in key))

    def active(self):
        """The connections that the workers count as open on the main listener."""
        return int(sum(value for key, value in self.gateway.metrics().items()
                       if key.startswith("gatehouse_listener_connections_active{")
                       and 'listener="main"' in key))

    def stop(self):
        """After an upgrade it is another process that has to be stopped."""
        master = self.master
        if master == self.gateway.pid:
            return self.gateway.stop()
        assert self.gateway.wait_exit() == 0
        pids = [master, *descendants(master)]
        os.kill(master, signal.SIGQUIT)
        eventually(lambda: not any(is_alive(pid) for pid in pids), "the upgraded gateway ends")
        return self.gateway.check_end()

    def kill(self):
        master = self.read_pid()
        if master and is_alive(master):
            os.kill(master, signal.SIGKILL)
        self.gateway.kill()


class NginxServer(Server):
    def __init__(self, scene, folder):
        super().__init__(scene)
        self.folder = str(folder)
        self.program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
        assert self.program, "nginx is not installed"
        self.config_path = f"{self.folder}/nginx.conf"

    def start(self, n):
        self.write(n)
        self.process = subprocess.Popen(
            [self.program, "-p", self.folder, "-c", self.config_path],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        eventually(lambda: self.ask() == str(n), "nginx answers")
        return self

    @property
    def master(self):
        return self.process.pid

    def write(self, n):
        with open(self.config_path, "w") as file:
            file.write(self.scene.nginx(n, self.folder))

    def command_reload(self):
        return subprocess.run([self.program, "-p", self.folder, "-c", self.config_path, "-s", "reload"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self):
        for pid in [*footprints(self.process.pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
