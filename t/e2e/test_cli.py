"""The commands of the command line without a real gateway: what they make of answers, odd and plain,
and how they find the gateway."""
import json
import os
import signal
import subprocess

import pytest

from fake_master import FakeMaster
from gateway import run_gatehouse
from waiting import eventually

ASKING = [("status",), ("config", "list"), ("config", "show", "1"), ("config", "diff", "1"),
          ("config", "rollback", "1"), ("explain", "--running", "GET /"), ("upgrade",),
          ("upgrade", "--cancel"), ("-s", "reload"), ("-s", "reopen"), ("-s", "quit"),
          ("-s", "stop")]


@pytest.fixture
def master(folder):
    """master(script) -> path of its socket."""
    made = []

    def make(script):
        path = f"{folder}/control.sock"
        made.append(FakeMaster(path, script))
        make.requests = made[-1].requests
        return path

    yield make
    for one in made:
        one.close()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def noted(path):
    """The signals in the file, sorted."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return sorted(file.read().split())


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_nobody_answers(words, folder):
    done = run_gatehouse(*words, "--control", f"{folder}/none.sock")
    assert done.returncode == (3 if words == ("status",) else 1)
    assert done.stderr == f"gatehouse: nobody answers at {folder}/none.sock: gatehouse is not running\n"
    assert done.stdout == ""


@pytest.mark.parametrize("reply, said", [
    (None, "closed the connection without an answer"),
    (b"[]", "not a control message"),
    (b'{"v":2,"id":1,"ok":true}', "version 2 of the control messages is not spoken here"),
    (b'{"v":1,"id":0,"ok":false,"error":"32 clients are connected already"}', "32 clients"),
    ({"ok": False, "error": "a:1: wrong\nb:2: wrong"}, "a:1: wrong\nb:2: wrong\n"),
    ({"ok": False}, "no reason was given")])
@pytest.mark.parametrize("words", ASKING[:-2], ids=" ".join)
def test_what_is_no_answer_fails(words, reply, said, master):
    done = run_gatehouse(*words, "--control", master(lambda _: reply))
    assert done.returncode == 1 and said in done.stderr and done.stdout == ""


def test_warnings_are_told_and_do_no_harm(master):
    path = master(lambda _: {"ok": True, "generation": 4, "warnings": "shared_memory: later\n"})
    done = run_gatehouse("-s", "reload", "--control", path)
    assert (done.returncode, done.stdout, done.stderr) == \
        (0, "generation 4 serves\n", "shared_memory: later\n")


def test_a_refused_reload_tells_what_serves(master):
    path = master(lambda _: {"ok": False, "generation": 3, "error": "x:1: wrong\n    expected: y\n"})
    done = run_gatehouse("-s", "reload", "--control", path)
    assert done.returncode == 1
    assert done.stderr == ("x:1: wrong\n    expected: y\n"
                           "gatehouse: refused; generation 3 goes on serving\n")


def test_requests_say_what_is_meant(master):
    path = master(lambda _: {"ok": True, "text": "answer\n"})
    run_gatehouse("explain", "--running", "PUT http://a/b", "-H", "A: b", "--client", "::1",
                  "--listener", "x", "--json", "--control", path)
    run_gatehouse("config", "rollback", "7", "--control", path)
    run_gatehouse("config", "show", "8", "--control", path)
    run_gatehouse("-s", "reopen", "--control", path)
    run_gatehouse("-s", "quit", "--no-wait", "--control", path)
    run_gatehouse("-s", "stop", "--no-wait", "--control", path)
    run_gatehouse("upgrade", "--cancel", "--control", path)
    asked = [{key: value for key, value in one.items() if key not in ("v", "id")}
             for one in master.requests]
    assert asked == [
        {"command": "explain", "request": "PUT http://a/b", "fields": ["A: b"], "client": "::1",
         "listener": "x", "json": True},
        {"command": "config_rollback", "number": 7}, {"command": "config_show", "number": 8},
        {"command": "reopen"}, {"command": "stop", "mode": "graceful"},
        {"command": "stop", "mode": "fast"}, {"command": "upgrade_cancel"}]


def test_json_is_the_answer_as_it_is(master):
    path = master(lambda request: {"ok": request["command"] == "status", "error": "no", "x": [1]})
    done = run_gatehouse("status", "--json", "--control", path)
    assert done.returncode == 0 and json.loads(done.stdout) == {"error": "no", "x": [1]}
    done = run_gatehouse("config", "list", "--json", "--control", path)
    assert done.returncode == 1 and done.stderr == ""
    assert json.loads(done.stdout) == {"ok": False, "error": "no", "x": [1]}


def test_a_configuration_with_errors_still_names_the_socket(master, folder):
    path = master(lambda _: {"ok": True, "generation": 2})
    config = write(f"{folder}/broken.conf", "[gatehouse]\nuser =\nworkerss = 3\nerror_log = a b c\n"
                   f"include = missing.conf\ncontrol = {path}\n[route\nreply = 200\n[nonsense]\n"
                   + "x = y\n" * 50)
    done = run_gatehouse("-s", "reload", "-c", config)
    assert (done.returncode, done.stdout, done.stderr) == (0, "generation 2 serves\n", "")


def test_a_file_that_is_not_there_steers_nothing(folder):
    done = run_gatehouse("-s", "stop", "-c", f"{folder}/typo.conf")
    assert done.returncode == 1 and f"cannot open {folder}/typo.conf" in done.stderr


def test_without_a_socket_there_is_the_pid_file(folder):
    log = f"{folder}/signals"
    pid_file = f"{folder}/pid"
    # Holds the lock of a pid file, as a master does, and notes the signals.
    script = ("import fcntl, os, signal, sys\n"
              "def note(number, _):\n"
              "    with open(sys.argv[2], 'a') as file: file.write(f'{number} ')\n"
              "for number in (1, 3, 10, 12, 15): signal.signal(number, note)\n"
              "file = open(sys.argv[1], 'w'); file.write(f'{os.getpid()}\\n'); file.flush()\n"
              "fcntl.flock(file, fcntl.LOCK_EX); print('ready', flush=True)\n"
              "while True: signal.pause()\n")
    with subprocess.Popen(["/usr/bin/python3", "-c", script, pid_file, log],
                          stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            for control, why in (("none", "there is no control socket (control = none)"),
                                 (f"{folder}/none.sock", f"nobody answers at {folder}/none.sock")):
                if os.path.exists(log):
                    os.unlink(log)
                config = write(f"{folder}/a.conf", f"[gatehouse]\ncontrol = {control}\n"
                               f"pid_file = {pid_file}\nerror_log = /x/error.log\n")
                for word, number in (("reload", signal.SIGHUP), ("reopen", signal.SIGUSR1),
                                     ("quit", signal.SIGQUIT), ("stop", signal.SIGTERM),
                                     ("upgrade", signal.SIGUSR2)):
                    done = run_gatehouse("-s", word, "-c", config)
                    assert done.returncode == 0 and done.stdout == ""
                    expected = f"gatehouse: {why}; sent a signal, the outcome is in the error log " \
                               "(/x/error.log)\n" if word in ("reload", "upgrade") else ""
                    assert done.stderr == expected
                eventually(lambda: noted(log) == ["1", "10", "12", "15", "3"],
                           lambda: f"every signal arrives: {noted(log)}")
        finally:
            process.kill()
    done = run_gatehouse("-s", "reload", "-c", config)
    assert done.returncode == 1 and "not running" in done.stderr


def test_neither_socket_nor_pid_file(folder):
    config = write(f"{folder}/a.conf", "[gatehouse]\ncontrol = none\n")
    done = run_gatehouse("-s", "reload", "-c", config)
    assert done.returncode == 1 and "names no pid_file" in done.stderr
    done = run_gatehouse("status", "-c", config)
    assert done.returncode == 1 and "[gatehouse] control is none" in done.stderr
