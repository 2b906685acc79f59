"""The control socket of a real gateway: every command, who may use it, and what systemd is told."""
import json
import os
import re
import signal
import socket
import stat
import subprocess

import pytest

from fake_master import ask, connect
from gateway import PROGRAM, children_of, descriptors_of, run_gatehouse, title_of
from waiting import DEADLINE, eventually

NOBODY = 65534
READERS = 4711


def config(text="hello", more=""):
    return f"[listener public]\naddress = 127.0.0.1:0\n[route all]\nlistener = public\nreply = 200 {text}\n{more}"


@pytest.fixture
def controlled(gateway, folder):
    """controlled(more lines of [gatehouse]) -> (gateway, path of its socket)."""
    def make(more="", **options):
        path = f"{folder}/run/control.sock"
        return gateway(config(), gatehouse=f"control = {path}\n{more}", **options), path
    return make


@pytest.fixture
def with_agent(controlled, folder):
    """One with an agent that is ready, which keeps the history in the folder."""
    def make():
        # The agent runs as the user of the workers, who needs a folder of its own.
        state = f"{folder}/state"
        os.mkdir(state)
        os.chown(state, NOBODY, NOBODY) if os.geteuid() == 0 else None
        one, path = controlled(f"agent = on\n[agent]\nstate = {state}\nlisten = none\n")
        eventually(lambda: ask(path, "status")["agent"]["state"] == "ready",
                   lambda: f"the agent is ready: {ask(path, 'status')}\n{one.log()}")
        return one, path
    return make


def run_as(user, group, *arguments):
    return subprocess.run(["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={group}",
                           PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=DEADLINE, check=False)


def reloaded(one):
    """Reloads. The helper thread that builds generations stays, with a descriptor, from the first
    reload on: what is more than that after it is a leak."""
    output = told(run_gatehouse("-s", "reload", "-c", one.config_path))
    if output == "generation 2 serves\n":
        one.resting = {title_of(pid): len(descriptors_of(pid)) for pid in one.workers()}
    return output


def told(done):
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout


def test_status(controlled):
    one, path = controlled()
    one.get()
    text = told(run_gatehouse("status", "-c", one.config_path))
    assert re.match(rf"gatehouse \S+, running, process {one.pid}, since ", text), text
    assert f"configuration   {one.config_path}\n" in text
    assert re.search(rf"^  default/0 +{one.worker}  ready +1 ", text, re.M), text
    status = json.loads(told(run_gatehouse("status", "--json", "--control", path)))
    assert (status["pid"], status["generation"], status["state"]) == (one.pid, 1, "running")
    assert [worker["pid"] for worker in status["workers"]] == one.workers()
    assert status["reload"]["state"] == "idle"
    eventually(lambda: ask(path, "status")["workers"][0]["requests"] >= 1, "requests are counted")


def test_reload_tells_the_outcome(controlled):
    one, path = controlled()
    assert one.get().body == b"hello\n"
    one.write_config(config("changed"))
    assert reloaded(one) == "generation 2 serves\n"
    assert one.get().body == b"changed\n"
    one.write_config(config("never", "[route other]\nreply = 2000\n[rout x]\n"))
    refused = run_gatehouse("-s", "reload", "-c", one.config_path)
    assert refused.returncode == 1 and refused.stdout == ""
    lines = refused.stderr.splitlines()
    assert any(re.match(rf"{one.config_path}:\d+: \[route other\] reply = 2000: ", line) for line in lines)
    assert any(re.match(rf"{one.config_path}:\d+: \[rout x\]: unknown", line) for line in lines), lines
    assert lines[-1] == "gatehouse: refused; generation 2 goes on serving"
    assert one.get().body == b"changed\n"
    text = told(run_gatehouse("status", "-c", one.config_path))
    assert "last reload     refused" in text and "[rout x]" in text


def test_reopen_waits_for_the_new_file(controlled, folder):
    log = f"{folder}/error.log"
    one, path = controlled(f"error_log = {log} info\n")
    os.rename(log, log + ".1")
    assert told(run_gatehouse("-s", "reopen", "-c", one.config_path)) == ""
    assert os.path.exists(log)
    held = [os.readlink(f"/proc/{pid}/fd/{fd}") for pid in [one.pid, *one.workers()]
            for fd in os.listdir(f"/proc/{pid}/fd") if os.path.exists(f"/proc/{pid}/fd/{fd}")]
    assert log in held and log + ".1" not in held
    one.log_paths.append(log + ".1")


@pytest.mark.parametrize("word", ["quit", "stop"])
def test_stopping_waits_for_the_end(word, controlled):
    one, path = controlled()
    one.sent = None
    pids = [one.pid, *children_of(one.pid)]
    assert told(run_gatehouse("-s", word, "-c", one.config_path)) == ""
    # It has ended: what is left is only to be fetched by its parent, which is the test.
    assert one.process.wait(timeout=1) == 0
    one.stopped = True
    assert not [pid for pid in pids if title_of(pid)]
    assert not os.path.exists(path)
    again = run_gatehouse("-s", word, "-c", one.config_path)
    assert again.returncode == 1 and "not running" in again.stderr


def test_explain_asks_what_serves(controlled):
    one, path = controlled()
    one.write_config(config("changed", "[route more]\nlistener = public\npath = /more\nreply = 204\n"))
    arguments = ("-c", one.config_path, "--listener", "public", "http://a/more")
    running = told(run_gatehouse("explain", "--running", *arguments))
    assert re.search(r"^route +all ", running, re.M) and re.search(r"^action +reply 200", running, re.M)
    assert re.search(r"^route +more ", told(run_gatehouse("explain", *arguments)), re.M)
    wrong = run_gatehouse("explain", "--running", "-c", one.config_path, "--listener", "none", "/")
    assert wrong.returncode == 1 and "none" in wrong.stderr


def test_history(with_agent):
    one, path = with_agent()
    for text in ("second", "third"):
        one.write_config(config(text))
        reloaded(one)

    def versions():
        return json.loads(told(run_gatehouse("config", "list", "--json", "-c", one.config_path)))["versions"]
    eventually(lambda: len(versions()) >= 3, lambda: f"three are kept: {versions()}")
    by_generation = {version["generation"]: version["number"] for version in versions()}
    second, third = by_generation[2], by_generation[3]
    assert len(told(run_gatehouse("config", "list", "-c", one.config_path)).splitlines()) == \
        1 + len(versions())

    shown = told(run_gatehouse("config", "show", second, "-c", one.config_path))
    assert "reply = 200 second" in shown and shown.startswith("[gatehouse]\n")
    for arguments, names in (((second, third), (f"version {second}", f"version {third}")),
                             ((second,), (f"version {second}", "running"))):
        text = told(run_gatehouse("config", "diff", *arguments, "-c", one.config_path))
        assert text.startswith(f"--- {one.config_path} ({names[0]})\n"
                               f"+++ {one.config_path} ({names[1]})\n"), text
        assert "\n-reply = 200 second\n+reply = 200 third\n" in text
    assert told(run_gatehouse("config", "diff", third, "-c", one.config_path)) == ""

    told(run_gatehouse("config", "rollback", second, "-c", one.config_path))
    assert one.get().body == b"second\n"
    missing = run_gatehouse("config", "show", 4711, "-c", one.config_path)
    assert missing.returncode == 1 and missing.stderr and not missing.stdout


def test_without_an_agent_there_is_no_history(controlled):
    one, path = controlled()
    for words in (("list",), ("show", 1), ("rollback", 1)):
        done = run_gatehouse("config", *words, "-c", one.config_path)
        assert done.returncode == 1 and "agent" in done.stderr, done


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_group_may_read_and_no_more(controlled, folder):
    os.chmod(folder, 0o755)
    group = "adm"
    one, path = controlled(f"control_group = {group}\n")
    mode = os.stat(path)
    assert stat.S_IMODE(mode.st_mode) == 0o660
    reader = mode.st_gid
    assert run_as(NOBODY, reader, "status", "--control", path).returncode == 0
    assert run_as(NOBODY, reader, "explain", "--running", "http://a/", "--listener", "public",
                  "--control", path).returncode == 0
    for words in (("-s", "reload"), ("-s", "stop"), ("-s", "reopen"), ("upgrade",),
                  ("config", "rollback", 1)):
        done = run_as(NOBODY, reader, *words, "--control", path)
        assert done.returncode == 1 and "only root may use" in done.stderr, done
    done = run_as(NOBODY, READERS, "status", "--control", path)
    assert done.returncode == 1 and "Permission denied" in done.stderr
    assert ask(path, "status")["generation"] == 1


def test_nonsense_does_no_harm(controlled):
    one, path = controlled()
    for nonsense in (b"x", b"{}", b"[" * 60000, b'{"v":9,"id":1,"command":"status"}', b"\xff" * 60000,
                     b'{"v":1,"id":1,"command":"stop","mode":"somehow"}'):
        with connect(path) as client:
            client.send(nonsense)
            reply = json.loads(client.recv(1 << 16))
            assert reply["ok"] is False and reply["error"], nonsense
    clients = [connect(path) for _ in range(40)]
    last = json.loads(clients[-1].recv(1 << 16))
    assert "32 clients are connected already" in last["error"]
    for client in clients:
        client.close()
    eventually(lambda: ask(path, "status")["ok"], "room again")
    assert one.get().status == 200


def test_a_second_gateway_leaves_the_socket_alone(controlled, gateway):
    one, path = controlled()
    second = gateway(config("second"), gatehouse=f"control = {path}\n")
    assert second.wait_log("another gatehouse answers")
    assert ask(path, "status")["pid"] == one.pid
    second.stop()
    assert ask(path, "status")["pid"] == one.pid


def test_the_service_manager_is_told(gateway, folder, monkeypatch):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(DEADLINE)
    manager.bind(f"{folder}/notify")
    monkeypatch.setenv("NOTIFY_SOCKET", f"{folder}/notify")

    def heard(wanted):
        while True:
            lines = dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())
            if wanted in lines:
                return lines
    path = f"{folder}/control.sock"
    one = gateway(config(), gatehouse=f"control = {path}\n")
    ready = heard("READY")
    assert ready["MAINPID"] == str(one.pid) and ready["STATUS"] == "generation 1 serves"
    one.write_config(config("changed"))
    reloaded(one)
    assert int(heard("RELOADING")["MONOTONIC_USEC"]) > 0
    assert heard("READY")["STATUS"] == "generation 2 serves"
    one.write_config("[nonsense]\n")
    assert run_gatehouse("-s", "reload", "-c", one.config_path).returncode == 1
    assert heard("READY")["STATUS"] == "generation 2 serves; the last reload was refused"
    one.stop(signal.SIGQUIT)
    heard("STOPPING")
    manager.close()
