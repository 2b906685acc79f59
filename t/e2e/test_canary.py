"""Canaries: the agent moves a share from step to step, or takes it back, by what both sides count."""
import os
import re
import signal
import threading

import pytest

from control import reloadable
from gateway import run_gatehouse
from peers import response_bytes
from waiting import DEADLINE, eventually

FAST = "interval = 600ms\nmin_requests = 20\nmax_error_rate = 2%"


class Server:
    """A script that answers with its name, and fails each n-th request where told to."""

    def __init__(self, body, every=0):
        self.body = body
        self.every = every
        self.count = 0
        self.lock = threading.Lock()

    def __call__(self, connection):
        while True:
            connection.read_request()
            with self.lock:
                self.count += 1
                fails = self.every and self.count % self.every == 0
            status = "500 Internal Server Error" if fails else "200 OK"
            connection.send(response_bytes(self.body, status=status))


class Traffic:
    """Requests on a connection that begins anew when it ends, until it is told to stop."""

    def __init__(self, gate):
        self.gate = gate
        self.seen = []
        self.failures = []
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def run(self):
        try:
            with self.gate.connect() as client:
                while not self.ends.is_set():
                    answer = client.get("/")
                    self.seen.append((answer.status, answer.body))
                    self.ends.wait(0.001)
        except Exception as error:      # told by the test
            self.failures.append(error)

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join(DEADLINE)
        assert not self.failures, self.failures


def config(folder, old, new, *, canary=FAST, steps="10% 50% 100%", route="users", state=True):
    return f"""
[agent]
state = {folder + "/state" if state else "none"}

[listener public]
address = 127.0.0.1:0

[upstream users]
target = {old.target}

[upstream users_next]
target = {new.target}

[route all]
listener = public
upstream = {route}

[canary beta]
route = all
upstream = users_next
steps = {steps}
{canary}
"""


@pytest.fixture
def canary(gateway, folder, upstream):
    def make(new, **options):
        settings = {key: options.pop(key) for key in ("workers",) if key in options}
        servers = upstream(Server(b"old")), upstream(new)
        text = config(folder, *servers, **options)
        gate = reloadable(gateway, text, gatehouse="agent = on\n", **settings)
        gate.servers = servers
        return gate
    return make


def stand(gate):
    return gate.ask("canary_list")["canaries"][0]


def wait_stand(gate, seconds=DEADLINE, **wanted):
    return eventually(lambda: all(stand(gate)[key] == value for key, value in wanted.items()),
                      lambda: f"{wanted}: {stand(gate)}\n{gate.log()}", seconds)


def command(gate, *words):
    return run_gatehouse("canary", *words, "-c", gate.config_path)


def test_a_good_one_is_promoted_by_itself(canary):
    gate = canary(Server(b"new"), workers=2)
    with Traffic(gate) as traffic:
        wait_stand(gate, state="promoted", share=10000)
        count = len(traffic.seen)
        eventually(lambda: len(traffic.seen) > count + 100, "more requests")
    assert {status for status, _body in traffic.seen} == {200}
    assert {body for _status, body in traffic.seen[count + 5:]} == {b"new"}
    log = gate.log()
    assert re.search(r"canary beta: begins; 10% of route all go to users_next", log)
    for step, share in ((1, "50%"), (2, "100%")):
        assert re.search(rf"canary beta: a step was passed at step {step} \(\d+ requests with 0 errors "
                         rf"\(0.00%, up to 2.00%\), stable .*; {share} of route all go", log), log
    assert re.search(r"canary beta: every step was passed at step 3 ", log)


def test_one_with_errors_is_rolled_back_by_itself(canary):
    gate = canary(Server(b"new", every=20), canary="interval = 10s\nmin_requests = 100\nmax_error_rate = 2%",
                  steps="50% 100%")
    with Traffic(gate) as traffic:
        wait_stand(gate, state="rolled back", share=0)
        count = len(traffic.seen)
        eventually(lambda: len(traffic.seen) > count + 200, "more requests")
    assert {answer for answer in traffic.seen[count + 5:]} == {(200, b"old")}
    about = stand(gate)
    assert about["cause"] == "too many errors" and about["step"] == 1
    assert about["requests"][0] >= 100 and about["errors"][0] >= 5 and about["errors"][1] == 0
    assert re.search(r" warn .*canary beta: too many errors, rolled back at step 1 "
                     r"\(\d{3} requests with \d+ errors \([3-6]\.\d\d%, up to 2.00%\)", gate.log()), gate.log()


def test_one_without_a_target_is_rolled_back(canary):
    gate = canary(Server(b"new"), canary="interval = 10s\nmin_requests = 20", steps="50%")
    gate.servers[1].stop_listening()
    with Traffic(gate):
        wait_stand(gate, state="rolled back", share=0)


def test_it_goes_on_when_the_agent_is_killed(canary):
    gate = canary(Server(b"new"), canary="interval = 1500ms\nmin_requests = 10")
    with Traffic(gate) as traffic:
        wait_stand(gate, state="running", share=5000)
        agent = eventually(lambda: gate.status()["agent"]["pid"], "the agent")
        os.kill(agent, signal.SIGKILL)
        # Nobody changes the share meanwhile, and the workers go on.
        assert stand(gate)["share"] == 5000
        count = len(traffic.seen)
        eventually(lambda: len(traffic.seen) > count + 50, "more requests")
        wait_stand(gate, state="promoted", share=10000)
    assert {status for status, _body in traffic.seen} == {200}
    assert gate.log().count("canary beta: begins;") == 1


def test_it_goes_on_after_a_restart_of_everything(canary, gateway, folder):
    gate = canary(Server(b"new"), canary="interval = 500ms\nmin_requests = 10", steps="10% 60%")
    with Traffic(gate):
        wait_stand(gate, state="promoted", share=6000)
    gate.gateway.stop()
    other = reloadable(gateway, config(folder, *gate.servers, canary=FAST, steps="10% 60%"),
                       gatehouse="agent = on\n")
    wait_stand(other, state="promoted", share=6000)
    assert re.search(r"canary beta: goes on, promoted; 60% of route all go to users_next", other.log())


def test_a_reload_and_new_workers_keep_the_share(canary, folder):
    gate = canary(Server(b"new"), canary="interval = 1h\nmin_requests = 10", steps="30% 100%")
    wait_stand(gate, state="running", share=3000)
    gate.reload(config(folder, *gate.servers, canary="interval = 2h\nmin_requests = 10", steps="30% 100%"))
    os.kill(gate.worker, signal.SIGKILL)
    gate.gateway.sent = None
    eventually(lambda: len(gate.workers()) == 1 and gate.get("/").status == 200, "a new worker")
    assert stand(gate)["share"] == 3000 and stand(gate)["state"] == "running"
    bodies = [gate.get("/").body for _ in range(60)]
    assert 3 < bodies.count(b"new") < 36
    # Other steps: the largest that is not above what it has.
    gate.reload(config(folder, *gate.servers, canary="interval = 2h\nmin_requests = 10", steps="5% 20% 80%"))
    wait_stand(gate, state="running", share=2000, step=2, cause="the steps have changed")


def test_commands(canary):
    gate = canary(Server(b"new"), canary="interval = 1h", steps="50% 100%",
                  route="users 100%, users_next 0% sticky cookie side")
    wait_stand(gate, state="running", share=5000)
    sticky = {}
    for _ in range(40):
        answer = gate.get("/")
        sticky[answer.get("Set-Cookie").split(";")[0]] = answer.body
    assert set(sticky.values()) == {b"old", b"new"}

    listed = command(gate, "list")
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"beta\s+all\s+users_next\s+50%\s+running\s+1\s", listed.stdout), listed.stdout
    assert command(gate, "pause", "beta").stdout == "canary beta is paused, at 50%\n"
    assert command(gate, "pause", "beta").returncode == 1
    assert command(gate, "resume", "beta").stdout == "canary beta is running, at 50%\n"
    assert all(gate.get("/", f"Cookie: {cookie}").body == body for cookie, body in sticky.items())
    assert command(gate, "promote", "beta").stdout == "canary beta is promoted, at 100%\n"
    assert {gate.get("/", f"Cookie: {cookie}").body for cookie in sticky} == {b"new"}
    assert command(gate, "rollback", "beta").stdout == "canary beta is rolled back, at 0%\n"
    assert {gate.get("/", f"Cookie: {cookie}").body for cookie in sticky} == {b"old"}
    refused = command(gate, "pause", "beta")
    assert refused.returncode == 1 and "canary beta is rolled back" in refused.stderr
    assert "there is no canary gamma" in command(gate, "start", "gamma").stderr
    assert command(gate, "start", "beta").stdout == "canary beta begins anew\n"
    wait_stand(gate, state="running", share=5000, step=1)
    assert all(gate.get("/", f"Cookie: {cookie}").body == body for cookie, body in sticky.items())


def test_commands_work_without_an_agent(canary):
    gate = canary(Server(b"new"), canary="interval = 1h", steps="50% 100%", state=False)
    wait_stand(gate, state="running", share=5000)
    agent = eventually(lambda: gate.status()["agent"]["pid"], "the agent")
    os.kill(agent, signal.SIGSTOP)
    try:
        assert command(gate, "rollback", "beta").returncode == 0
        assert {gate.get("/").body for _ in range(20)} == {b"old"}
        assert command(gate, "promote", "beta").returncode == 0
        assert {gate.get("/").body for _ in range(20)} == {b"new"}
    finally:
        os.kill(agent, signal.SIGCONT)
