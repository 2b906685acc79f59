"""A gateway with its agent for tests of traffic policy that crosses reloads, kills and upgrades.

    with TrafficGateway(folder, "[listener public]\\naddress = {address}\\n…", workers=4) as gateway:
        gateway.port                      # {address} in the text is where it listens, also after an upgrade
        gateway.command("limit", "list")  # a CompletedProcess; json(…) is what it printed with --json
        gateway.reload(text)              # or the same configuration again
        gateway.kill_worker(); gateway.upgrade(); gateway.agent(); gateway.without_agent()
"""
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading

from gateway import Gateway, run_gatehouse
from load_clients import BUILD
from processes import descendants, is_alive, title_of
from reload_configs import free_port
from reload_servers import AGENT_GROUP, AGENT_USER
from waiting import eventually


class TrafficGateway:
    """`settings`: further lines of [gatehouse]. `agent`: False runs it without one."""

    def __init__(self, folder, config, *, workers=2, settings="", agent=True, shared_memory="64m"):
        self.folder = tempfile.mkdtemp(prefix="gateway-", dir=str(folder))
        state = os.path.join(self.folder, "state")
        os.mkdir(state, 0o700)
        os.chmod(self.folder, 0o755)
        self.port, self.random = free_port(), random.Random(1)
        self.has_agent, self.kills = agent, 0
        sections = ""
        if agent:
            if os.geteuid() == 0:
                shutil.chown(state, AGENT_USER, AGENT_GROUP)
            sections = f"[agent]\nstate = {state}\nlisten = none\n"
        self.sections, self.config = sections, config
        self.gateway = Gateway(
            self.folder, self.text(config), workers=workers,
            gatehouse=f"agent = {'on' if agent else 'off'}\ncontrol = {self.folder}/control.sock\n"
                      f"pid_file = {self.folder}/pid\nshared_memory = {shared_memory}\n" + settings)
        self.workers_wanted = workers
        self.gateway.check_descriptors = False
        self.gateway.sent = None
        self.upgraded = False

    def text(self, config):
        return self.sections + config.replace("{address}", f"127.0.0.1:{self.port}")

    def start(self):
        self.gateway.start()
        if self.has_agent:
            self.agent()
        return self

    # ---- what it is asked ----

    @property
    def master(self):
        """The serving master: another process after an upgrade."""
        return eventually(self.read_pid, "there is a file with the process id", 10)

    def read_pid(self):
        try:
            with open(f"{self.folder}/pid") as file:
                return int(file.read() or "0")
        except FileNotFoundError:
            return None

    def workers(self):
        return [pid for pid in descendants(self.master) if " worker " in title_of(pid)]

    def command(self, *arguments):
        return run_gatehouse(*arguments, "-c", self.gateway.config_path)

    def json(self, *arguments):
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def agent(self):
        """The agent's process id; waits for one that is ready."""
        def ready():
            agent = self.json("status")["agent"]
            return agent["state"] == "ready" and agent["pid"]
        return eventually(ready, lambda: "the agent is ready\n" + self.gateway.log())

    def segment(self):
        """The number of the master's descriptor of the shared segment."""
        place = f"/proc/{self.master}/fd"
        for number in os.listdir(place):
            if os.readlink(f"{place}/{number}").startswith("/memfd:gatehouse ("):
                return number
        raise AssertionError("the master has no segment")

    def segment_bytes(self):
        """Pages of the segment that were touched, as the kernel counts them."""
        return os.stat(f"/proc/{self.master}/fd/{self.segment()}").st_blocks * 512

    def check_segment(self):
        """What the tables hold; fails where a word in them is not valid (segment_check.cc)."""
        done = subprocess.run([f"{BUILD}/test/e2e/segment_check", str(self.master), self.segment()],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def metrics(self):
        return self.gateway.metrics()

    # ---- what is done to it ----

    def reload(self, config=None):
        self.config = config or self.config
        self.gateway.write_config(self.text(self.config))
        done = self.command("-s", "reload")
        assert done.returncode == 0, done.stdout + done.stderr

    def kill_worker(self):
        """SIGKILL for one of them at random; returns when as many run as before."""
        pid = self.random.choice(self.workers())
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        eventually(lambda: not is_alive(pid), "the worker ends")
        self.wait_workers()

    def wait_workers(self):
        eventually(lambda: len(self.workers()) >= self.workers_wanted,
                   lambda: f"{self.workers_wanted} workers run\n{self.gateway.log()[-3000:]}")

    @contextlib.contextmanager
    def without_agent(self):
        """Whenever there is an agent it is killed, so that it is dead nearly all the time."""
        over = threading.Event()

        def kill_agents():
            while not over.wait(0.02):
                for pid in descendants(self.master):
                    # It gives itself a title when it has begun.
                    if title_of(pid).startswith("gatehouse: agent") or "gatehouse-agent" in title_of(pid):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
        thread = threading.Thread(target=kill_agents)
        thread.start()
        try:
            eventually(lambda: self.json("status")["agent"]["state"] != "ready", "the agent is dead")
            yield
        finally:
            over.set()
            thread.join()

    def upgrade(self):
        """Returns when the new master serves and the old one has ended."""
        old = self.master
        os.kill(old, signal.SIGUSR2)
        eventually(lambda: self.master != old, "another master serves", 30)
        eventually(lambda: not is_alive(old), "the old master ends", 30)
        self.upgraded = True
        self.wait_workers()

    def stop(self):
        if not self.upgraded:
            return self.gateway.stop()
        master = self.master
        assert self.gateway.wait_exit() == 0
        pids = [master, *descendants(master)]
        os.kill(master, signal.SIGQUIT)
        eventually(lambda: not any(is_alive(pid) for pid in pids), "the upgraded gateway ends")
        return self.gateway.check_end()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stop()
        finally:
            self.kill()

    def kill(self):
        master = self.read_pid()
        if self.upgraded and master and is_alive(master):
            for pid in [master, *descendants(master)]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.gateway.kill()
