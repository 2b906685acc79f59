"""Workers that are killed while they write shared state: what must be left behind them.

Limits, targets' counts, breakers, queues and probes are all in use; the targets take their time, so
that every worker has requests under way whenever it dies.
"""
import time

from keys import Keys, ask_keys
from load_clients import LoadClient, failures
from processes import is_alive
from reload_fixtures import Killer, age_of
from traffic_gateway import TrafficGateway
from waiting import eventually

CONFIG = """\
[listener public]
address = {address}
keepalive_requests = 0
[limit keys]
key = header_x_key
rate = 1/400d burst 3
keys_max = 100000
[limit together]
key = all
concurrency = 1000
[upstream app]
TARGETS
balance = least_conn
max_connections = 40
queue = 200
queue_timeout = 2s
breaker = failures 50 or 50% of 20 in 2s, open 200ms max 400ms probes 2, close after 3
retry = 1 on connect 502 budget 50%
[route app]
listener = public
path = /app/*
limit = together
upstream = app
[route keys]
listener = public
path = /keys
limit = keys
reply = 200 ok
"""


def held(gateway):
    """{what: count} of all that the shared tables say is held or under way."""
    found = gateway.check_segment()
    found = {what: found[what] for what in ("in_flight", "probes", "waiting")}
    found["together"] = gateway.json("limit", "show", "together")["budget"]["under_way"]
    return {what: count for what, count in found.items() if count}


def kills(folder, targets, *, workers, times, age=5.2, pause=0.0):
    """`age`: seconds that a worker must have lived, so that the next one is started at once.
    Returns a line of figures."""
    lines = "\n".join(f"target = {target.target}" for target in targets)
    keys = 50_000
    for number, target in enumerate(targets):
        # One of them fails now and then, so that breakers open and are probed.
        target.set("answer 500 delay 4 share 30" if number == 0 else "answer 200 delay 4")
    with TrafficGateway(folder, CONFIG.replace("TARGETS", lines), workers=workers) as gateway:
        killer = Killer(gateway.port, seed=4)
        master = gateway.master
        began = time.monotonic()
        with LoadClient(gateway.port, connections=8 * workers, path="/app/", sources=16,
                        late=4000) as load:
            client = Keys(gateway.port, connections=2 * workers, keys=keys, path="/keys", random=True,
                          rate=2000, seconds=3600)
            try:
                while killer.kills < times:
                    pids = [pid for pid in gateway.workers() if age_of(pid) >= age]
                    if pids:
                        doomed = killer.random.choice(pids)
                        killer.kill(doomed)
                        eventually(lambda: not is_alive(doomed), "the worker ends")
                        if killer.kills % 10 == 0:
                            gateway.check_segment()
                    time.sleep(pause or 0.01)
                    assert gateway.master == master and is_alive(master)
            finally:
                client.process.terminate()
                client.process.communicate()
            gateway.wait_workers()
            load.window("kills")
            time.sleep(1)
            after = load.window("after")
            total = load.stop()
        took = time.monotonic() - began
        assert after["ok"] > 0, after
        # Nothing is under way now: whatever a dead worker held is given back.
        eventually(lambda: not held(gateway), lambda: f"nothing is held: {held(gateway)}", 10)
        for target in targets:
            target.set("answer 200")
        time.sleep(0.5)
        found = ask_keys(gateway.port, requests=200, path="/app/")
        assert found["statuses"].get(200, 0) >= 150, found
        # And no budget came back: a key that was used up is used up.
        again = ask_keys(gateway.port, keys=keys, requests=keys * 4, depth=8, path="/keys")
        third = ask_keys(gateway.port, keys=keys, requests=keys, depth=8, path="/keys")
        evicted = sum(limit["evicted"] for limit in gateway.json("limit", "list")["limits"])
        assert third["statuses"].get(200, 0) <= evicted, (third, evicted)
        gateway.reload()
    return (f"{killer.kills} kills of {workers} workers in {took:.0f} s, {killer.connections} connections died"
            f" with them; {total['ok']} requests served, {failures(total)} not (a target fails and its breaker"
            f" opens); afterwards nothing was in flight, {again['statuses'].get(200, 0)} of {keys * 3}"
            " admissions were left and given out once")
