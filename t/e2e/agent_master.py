"""A master for one agent: starts the program with a channel and a shared segment, and answers it.

    with AgentMaster(folder) as master:
        master.current("[agent]\nstate = none\n")
        reply, fds = master.ask("validate", fds=[master.seal(text)])

At the end the agent is told to end, and these must hold: it ends with code 0 in time, its log has
no alert and no sanitizer's report, and it answered each question once.
"""
import json
import mmap
import os
import queue
import signal
import socket
import struct
import subprocess
import threading
import time

from gateway import ALERT, PROGRAM, SANITIZER
from waiting import DEADLINE, eventually

AGENT = os.path.join(os.path.dirname(PROGRAM), "gatehouse-agent")
HELPER = os.path.join(os.environ.get("GATEHOUSE_BUILD", os.path.dirname(PROGRAM)),
                      "test", "e2e", "agent_fds")
READY = {"state": "running", "generation": 1, "pid": 1,
         "workers": [{"pool": "default", "index": 0, "state": "ready"}],
         "agent": {"state": "ready", "pid": 1}}


def made_by_helper(*arguments):
    """The descriptors that the helper sends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        subprocess.run([HELPER, str(theirs.fileno()), *arguments], check=True, timeout=DEADLINE,
                       pass_fds=[theirs.fileno()])
        theirs.close()
        found = []
        while True:
            data, fds, _flags, _address = socket.recv_fds(ours, 16, 4)
            if not data:
                return found
            found += fds


class AgentMaster:
    def __init__(self, folder, *, preexec=None):
        self.folder = str(folder)
        self.log_path = os.path.join(self.folder, "agent.log")
        self.preexec = preexec
        self.segment = made_by_helper("segment")[0]
        self.process = None
        self.expected_code = 0
        self.handlers = {"reopen": lambda _body: {}, "status": lambda _body: dict(READY)}
        self.asked = []            # commands that the agent has asked
        self.configs = 0

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, _value, _trace):
        try:
            if kind is None:
                self.stop()
        finally:
            self.kill()
            os.close(self.segment)
        if kind is None:
            log = self.log()
            assert not ALERT.search(log) and not SANITIZER.search(log), log

    # ---- Life ----

    def start(self):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.replies = {}
        self.next_id = 1
        self.lock = threading.Lock()
        with theirs, open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [AGENT, "--channel", str(theirs.fileno()), "--shared", str(self.segment)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                pass_fds=[theirs.fileno(), self.segment], preexec_fn=self.preexec)
        self.reader = threading.Thread(target=self.read, args=(self.channel,), daemon=True)
        self.reader.start()
        return self

    def stop(self):
        """As the master does it; also where the agent has ended already, as the test wanted."""
        if self.process.poll() is None:
            self.channel.shutdown(socket.SHUT_RDWR)
        code = self.process.wait(timeout=DEADLINE)
        assert code == self.expected_code, (code, self.log())

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        try:
            self.channel.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.reader.join(timeout=DEADLINE)
        self.channel.close()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    # ---- Messages ----

    def read(self, channel):
        while True:
            try:
                data, fds, _flags, _address = socket.recv_fds(channel, 1 << 17, 4)
            except OSError:
                data = b""
            if not data:
                for waiting in self.replies.values():
                    waiting.put(None)
                return
            message = json.loads(data)
            if "command" not in message:
                waiting = self.replies.get(message["id"])
                if waiting:  # else a refusal of what was no message
                    waiting.put((message, fds))
                continue
            self.asked.append(message["command"])
            threading.Thread(target=self.serve, args=(channel, message), daemon=True).start()

    def serve(self, channel, message):
        reply = self.handlers[message["command"]](message)
        if reply is None:
            return  # the master says nothing
        fds = reply.pop("fds", [])
        body = {"v": 1, "id": message["id"], "ok": "error" not in reply, **reply}
        try:
            socket.send_fds(channel, [json.dumps(body).encode()], fds)
        except OSError:
            pass  # the agent was killed

    def ask(self, command, body=None, fds=(), wait=DEADLINE):
        """(reply, descriptors); the reply is None where the agent has ended."""
        with self.lock:
            number = self.next_id
            self.next_id += 1
            self.replies[number] = queue.Queue()
            message = {"v": 1, "id": number, "command": command, **(body or {})}
            socket.send_fds(self.channel, [json.dumps(message).encode()], list(fds))
        answer = self.replies[number].get(timeout=wait)
        return answer if answer is not None else (None, [])

    def good(self, command, body=None, fds=()):
        """The reply to a question that must be answered well."""
        reply, got = self.ask(command, body, fds)
        for fd in got:
            os.close(fd)
        assert reply is not None and reply["ok"], (reply, self.log())
        return reply

    def seal(self, text):
        """A configuration as the master sends it."""
        self.configs += 1
        path = os.path.join(self.folder, "config.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return made_by_helper("config", path)[0]

    def sending(self, command, text, body=None):
        fd = self.seal(text)
        try:
            return self.ask(command, body, [fd])
        finally:
            os.close(fd)

    def current(self, text, generation=1):
        reply, _fds = self.sending("current", text, {"generation": generation})
        assert reply["ok"], reply

    def store(self, text, generation, outcome="applied", error=""):
        reply, _fds = self.sending("store", text, {
            "generation": generation, "time_us": 1_000_000 * generation, "by": "uid 0",
            "outcome": outcome, "error": error})
        return reply

    def validate(self, text):
        """(the reply, the check's answer or None)."""
        reply, fds = self.sending("validate", text)
        if not fds:
            return reply, None
        with os.fdopen(fds[0], "rb") as file:
            file.seek(0)
            return reply, json.loads(file.read())

    # ---- The heartbeat ----

    def heartbeat(self):
        """(started_us, beat_us, pid, state), or None where the zone is not there yet."""
        with mmap.mmap(self.segment, 0) as memory:
            for slot in range(512):
                entry = memory[4096 + slot * 128:4096 + slot * 128 + 128]
                if entry[32:80].rstrip(b"\0") == b"agent.heartbeat":
                    offset = struct.unpack_from("=Q", entry, 16)[0]
                    return struct.unpack_from("=qqiI", memory, offset)
        return None

    def await_ready(self):
        eventually(lambda: self.heartbeat() and self.heartbeat()[2] == self.process.pid
                   and self.heartbeat()[3] == 2, "the agent is ready")


def now_us():
    return time.time_ns() // 1000
