"""Reloads, kills, upgrades and rotations under load: what gatehouse promises, with figures.

`make soak` runs all of it in about twenty minutes. GATEHOUSE_SOAK=0.1 shortens it to a tenth. The
load client (t/load) retries nothing: what a browser would hide is a failure here. The figures of
nginx stand beside those of the first test.
"""
import contextlib
import glob
import gzip
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from load_clients import LoadClient, describe, failures
from processes import is_alive
from reload_configs import many_routes
from reload_fixtures import Killer, running, steady_load
from reload_servers import AGENT_GROUP, AGENT_USER, GatehouseServer, NginxServer
from reload_storm import FIRST, blow, check_flat
from waiting import eventually

SHARE = float(os.environ.get("GATEHOUSE_SOAK", "1"))
WEBSOCKETS = 500


def times(count, least=1):
    return max(least, round(count * SHARE))


def full_load(port):
    """Kept-alive connections as fast as answers come, new ones, and WebSockets."""
    return LoadClient(port, connections=64, new_rate=100, websockets=WEBSOCKETS, sources=16)


def reloads():
    """The memory is compared over whole periods of the configurations."""
    return FIRST + 12 * times(15)


# ---- reloads -----------------------------------------------------------------------------------


def test_nginx_beside_it(scene, folder, report):
    """Nothing is asked of it but that the same harness runs it: its figures are for comparison."""
    server = NginxServer(scene, folder).start(0)
    try:
        with full_load(scene.port) as load:
            storm = blow(server, load, reloads(), patience=5)
        report(storm.report("nginx under full load"))
        assert storm.total["ok"] > 1000
    finally:
        server.kill()


def test_reloads_in_a_row(scene, folder, report):
    """No request fails and no WebSocket is lost; nothing grows; all processes serve what is new."""
    with running(GatehouseServer(scene, folder)) as server:
        with full_load(scene.port) as load:
            storm = blow(server, load, reloads(), patience=1)
        report(storm.report("gatehouse under full load"))
        assert not storm.wrong
        assert failures(storm.total) == 0, describe(storm.total)
        assert storm.total["skipped"] == 0
        check_flat(storm)
        wanted = storm.total["sent"] + storm.total["websockets"]["opened"] + storm.asked
        eventually(lambda: server.counted() == wanted,
                   lambda: f"counted: {server.counted()}, sent: {wanted}")
        assert server.status()["generation"] == 1 + len(storm.reloads)


@pytest.mark.parametrize("routes, returned, everywhere", [(10, 0.1, 0.1), (10_000, 2.0, 2.0)])
def test_time_of_a_reload(scene, folder, report, routes, returned, everywhere):
    """Medians: other programs on the machine are no part of the promise."""
    with running(GatehouseServer(scene, folder, more=many_routes(routes, "x"))) as server:
        found = []
        for n in range(1, times(20, 5) + 1):
            server.more = many_routes(routes, n)
            found.append(server.reload(n))
            assert found[-1].code == 0, found[-1].output
        command = sorted(reload.returned for reload in found)
        last = sorted(reload.everywhere for reload in found)
        report(f"{routes} routes: the command returned after {command[len(found) // 2] * 1000:.0f} ms"
               f" ({command[0] * 1000:.0f} to {command[-1] * 1000:.0f}), all workers were asked after"
               f" {last[len(found) // 2] * 1000:.0f} ms ({last[0] * 1000:.0f} to"
               f" {last[-1] * 1000:.0f})")
        assert command[len(found) // 2] <= returned
        assert last[len(found) // 2] <= everywhere + 0.1    # asking takes time of its own


def test_latency_while_ten_thousand_routes_are_prepared(scene, folder, report):
    """Pairs of windows, one quiet and one with reloads all the time; the median of the ratios."""
    with running(GatehouseServer(scene, folder, more=many_routes(10_000, "x"))) as server:
        ratios, quiet, busy, reloaded = [], [], [], 0
        with LoadClient(scene.port, connections=32, rate=1000, sources=4) as load:
            time.sleep(1)
            load.window("begin")
            for pair in range(times(15, 3)):
                time.sleep(2)
                without = load.window("without")
                began = time.monotonic()
                while time.monotonic() < began + 2:
                    server.more = many_routes(10_000, reloaded)
                    server.write(0)
                    assert server.command_reload().returncode == 0
                    reloaded += 1
                during = load.window("during")
                quiet.append(without["http"]["p99_us"] / 1000)
                busy.append(during["http"]["p99_us"] / 1000)
                ratios.append(busy[-1] / quiet[-1])
            total = load.stop()
        middle = len(ratios) // 2
        report(f"p99 without {sorted(quiet)[middle]:.2f} ms, while 10,000 routes are prepared"
               f" {sorted(busy)[middle]:.2f} ms: {sorted(ratios)[middle]:.2f} times"
               f" ({min(ratios):.2f} to {max(ratios):.2f}), {reloaded} reloads;\n  {describe(total)}")
        assert failures(total) == 0, describe(total)
        assert sorted(ratios)[middle] <= 1.5


@contextlib.contextmanager
def small_disk(path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", path],
                      check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        shutil.chown(path, AGENT_USER, AGENT_GROUP)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_full_disk(scene, folder, report):
    """The history cannot be kept: the reload is refused with the reason, and works again later."""
    server = GatehouseServer(scene, folder)
    with small_disk(server.state), running(server):
        with steady_load(scene.port) as load:
            assert server.reload(1).code == 0
            filler = f"{server.state}/filler"
            with pytest.raises(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            refused = server.reload(2)
            assert refused.code == 1 and server.ask() == "1", refused.output
            assert "no room left" in refused.output, refused.output
            os.unlink(filler)
            assert server.reload(3).code == 0
            total = load.stop()
        report("with a full disk: " + refused.output.strip())
        assert failures(total) == 0, describe(total)


# ---- kills -------------------------------------------------------------------------------------


def test_kills_at_random(scene, folder, report):
    """Any worker and the agent: only their own exchanges fail; all else goes on and counts right."""
    def steady_text(n):
        return scene.gatehouse(n).replace(f"workers = {scene.workers(n)}\n", "workers = 4\n")

    server = GatehouseServer(scene, folder)
    server.text = lambda n: steady_text(n) + server.more
    with running(server):
        killer = Killer(scene.port)
        master, started = server.master, server.counted()
        asked = server.requests
        with steady_load(scene.port) as load:
            time.sleep(5)
            while killer.kills < times(200, 10):
                killer.kill_one([*server.workers(), server.agent()], grown_up=5.2)
                time.sleep(killer.random.uniform(0.7, 1.3))
                assert server.master == master and is_alive(master)
            time.sleep(2)
            total = load.stop()
        report(f"{killer.kills} kills: {len(total['failed'])} failures on {killer.connections}"
               f" connections of killed workers\n  {describe(total)}")
        killer.check(total)
        assert total["ok"] > 500 * killer.kills
        # A killed worker had at most one exchange on each connection that it had not counted yet.
        sent = total["sent"] + total["websockets"]["opened"] + server.requests - asked
        eventually(lambda: server.active() == 0, lambda: f"{server.active()} connections active")
        assert abs(server.counted() - started - sent) <= killer.connections
        assert len(server.workers()) == 4 + scene.pool(0) and server.agent()
        assert server.reload(1).code == 0


def test_kills_during_reloads(scene, folder, report):
    """A worker that dies at any moment of a reload neither blocks nor splits the others."""
    with running(GatehouseServer(scene, folder)) as server:
        killer, outcomes = Killer(scene.port, seed=1), {0: 0, 1: 0}
        serving = 0
        with steady_load(scene.port) as load:
            for n in range(1, times(60, 6) + 1):
                server.more = many_routes(3000, n)
                server.write(n)
                command = server.begin("-s", "reload")
                time.sleep(killer.random.uniform(0, 0.3))
                killer.kill_one(server.workers(), grown_up=2)
                output, _ = command.communicate(timeout=60)
                outcomes[command.returncode] += 1
                serving = n if command.returncode == 0 else serving
                server.wait_everywhere(serving)
                server.check_probes(serving, 2)
                time.sleep(0.5)
            total = load.stop()
        report(f"{killer.kills} kills during {sum(outcomes.values())} reloads, {outcomes[0]} of which"
               f" were done and {outcomes[1]} refused\n  {describe(total)}")
        killer.check(total)


# ---- upgrades ----------------------------------------------------------------------------------


def put_program(path, source=None, script=None):
    """Exchanges the program at `path` by rename: the running one keeps its file."""
    new = path + ".new"
    if source:
        with open(source, "rb") as file, open(new, "wb") as copy:
            copy.write(file.read())
    else:
        with open(new, "w") as file:
            file.write("#!/bin/sh\n" + script + "\n")
    os.chmod(new, 0o755)
    os.rename(new, path)


def test_upgrades(scene, folder, report):
    """Twenty good ones; one to a program that ends at once, one to a program that hangs."""
    build = os.path.dirname(GatehouseServer(scene, folder).program)
    place = f"{folder}/bin"
    os.mkdir(place)
    program = f"{place}/gatehouse"
    put_program(program, f"{build}/gatehouse")
    put_program(f"{place}/gatehouse-agent", f"{build}/gatehouse-agent")
    server = GatehouseServer(scene, folder, program=program,
                             settings="upgrade_timeout = 3s\ndrain_timeout = 2s\n")
    with running(server):
        generation = server.status()["generation"]
        counted, asked = server.counted(), server.requests
        # The tunnels of the old program end with its drain_timeout: they are no part of this.
        with LoadClient(scene.port, connections=32, rate=1000, new_rate=50, sources=8) as load:
            for upgrade in range(times(20, 3)):
                old = server.master
                os.kill(old, signal.SIGUSR2)
                eventually(lambda: server.master != old, "another master serves", 20)
                eventually(lambda: not is_alive(old), "the old master ends", 20)
                server.wait_everywhere(0)
            for name, script in (("crashes", "exit 3"), ("hangs", "exec sleep 1000")):
                put_program(program, script=script)
                old = server.master
                os.kill(old, signal.SIGUSR2)
                # The command line is the good program again at once; the master has exec'ed by then.
                time.sleep(1)
                put_program(program, f"{build}/gatehouse")
                eventually(lambda: server.status()["upgrade"]["state"] == "none",
                           f"the upgrade to one that {name} is given up", 20)
                assert server.master == old and server.status()["pid"] == old
                assert server.reload(0).code == 0
            total = load.stop()
        report("upgrades under load\n  " + describe(total))
        assert failures(total) == 0, describe(total)
        assert server.status()["generation"] > generation
        # The counters are the same ones all along.
        sent = total["sent"] + server.requests - asked
        eventually(lambda: server.counted() - counted == sent,
                   lambda: f"counted {server.counted() - counted} of {sent}")


# ---- logs --------------------------------------------------------------------------------------


def lines_of(pattern):
    """How many lines there are in these files, compressed ones too; each a whole one."""
    found = 0
    for path in glob.glob(pattern):
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            data = file.read()
        assert not data or data.endswith(b"\n"), f"{path} ends in the middle of a line"
        for line in data.splitlines():
            assert re.fullmatch(rb"/\S+ (200|101)", line), f"{path}: {line[:200]!r}"
        found += data.count(b"\n")
    return found


def rotated(log):
    """The old files, compressed or not, or while they are being."""
    return {path.removesuffix(".gz") for path in glob.glob(f"{log}.*")}


@pytest.mark.parametrize("who", ["command", "agent"])
def test_rotation(scene, folder, report, who):
    """Lines written are requests served, to the line, over fifty rotations."""
    rotations = times(50, 5)
    rotate = "none" if who == "command" else "size 16k, compress on"
    os.chmod(folder, 0o777)     # the agent, which renames files in it, may be another user
    log = f"{folder}/access.log"
    server = GatehouseServer(scene, folder, more=(
        f"\n[log lines]\nfile = {log}\nformat = $path $status\nflush = 50ms\nrotate = {rotate}\n"))
    text = server.text
    server.text = lambda n: text(n).replace("[route all]\n", "[route all]\nlog = lines\n")
    with running(server):
        with steady_load(scene.port) as load:
            if who == "command":
                for number in range(rotations):
                    time.sleep(0.2)
                    os.rename(log, f"{log}.{number:03}")
                    done = server.command("-s", "reopen")
                    assert done.returncode == 0, done.stderr
                    before = os.path.getsize(f"{log}.{number:03}")
                    time.sleep(0.1)
                    assert os.path.getsize(f"{log}.{number:03}") == before, \
                        "a worker wrote to the old file after the command had returned"
            else:
                eventually(lambda: len(rotated(log)) >= rotations, "the agent rotates", 30 + 6 * rotations)
            total = load.stop()
        assert failures(total) == 0, describe(total)
        served = total["answered"] + total["websockets"]["opened"]
        eventually(lambda: lines_of(f"{log}*") == served,
                   lambda: f"{lines_of(f'{log}*')} lines of {served} requests", 10)
        report(f"rotated {len(rotated(log))} times by the {who}: {served} requests,"
               f" {lines_of(f'{log}*')} lines\n  {describe(total)}")
