"""Balancing over targets, with several workers that share what they know: who gets how much, caps
and queues, sticky clients, drain and disable, ejection, and counts that stay exact when a worker is
killed."""
import signal
import threading
import time

from control import reloadable
from gateway import proxy_config
from peers import Gone, answering, request_bytes
from waiting import eventually


class Counting:
    """A server's script that answers after `delay`, and knows how many it had at once."""

    def __init__(self, delay=0.0, name=b"ok"):
        self.delay, self.name = delay, name
        self.lock = threading.Lock()
        self.now = self.most = self.total = 0

    def __call__(self, connection):
        try:
            while True:
                connection.read_request()
                with self.lock:
                    self.now += 1
                    self.total += 1
                    self.most = max(self.most, self.now)
                time.sleep(self.delay)
                with self.lock:
                    self.now -= 1
                connection.answer(self.name)
        except Gone:
            pass


def in_parallel(gate, threads, requests, *fields):
    """The statuses of so many requests in each of so many threads, each over a new connection."""
    answers = []

    def ask():
        for _ in range(requests):
            with gate.connect() as client:
                response = client.get("/", *fields)
                answers.append((response.status, response.code if response.status >= 400 else ""))
    workers = [threading.Thread(target=ask) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return answers


def targets(gate):
    """{address: what `target list` says}"""
    reply = gate.ask("target_list")
    assert reply["ok"], reply
    return {one["target"]: one for one in reply["targets"]}


def name_of(server):
    return server.target.removeprefix("http://")


def start(gateway, servers, upstream, workers=1, **options):
    return reloadable(gateway, proxy_config(*servers, upstream=upstream), workers=workers,
                      **options)


def test_a_cap_is_never_exceeded_over_all_workers(gateway, upstream):
    script = Counting(0.01)
    gate = start(gateway, [upstream(script)],
                 "max_connections = 3\nqueue = 100\nqueue_timeout = 20s", workers=3)
    answers = in_parallel(gate, 12, 15)
    assert answers == [(200, "")] * 180
    assert script.most == 3, "as many as may be, and never more"
    assert [one["in_flight"] for one in targets(gate).values()] == [0]


def test_without_a_queue_the_others_are_refused(gateway, upstream):
    script = Counting(0.2)
    gate = start(gateway, [upstream(script)], "max_connections = 1", workers=2)
    answers = in_parallel(gate, 4, 3)
    assert (503, "targets_busy") in answers and (200, "") in answers
    assert script.most == 1


def test_who_waits_too_long_is_refused(gateway, upstream):
    script = Counting(1.0)
    gate = start(gateway, [upstream(script)],
                 "max_connections = 1\nqueue = 10\nqueue_timeout = 100ms")
    answers = in_parallel(gate, 3, 1)
    assert sorted(answers) == [(200, "")] + [(503, "queue_timeout")] * 2


def test_a_full_queue_refuses_and_a_client_that_leaves_makes_room(gateway, upstream):
    script = Counting(1.0)
    gate = start(gateway, [upstream(script)],
                 "max_connections = 1\nqueue = 1\nqueue_timeout = 20s")
    with gate.connect() as first, gate.connect() as second, gate.connect() as third:
        first.send(request_bytes())
        eventually(lambda: script.now == 1, "the first is under way")
        second.send(request_bytes())

        def waiting():
            return gate.ask("target_list")["upstreams"][0]["waiting"]
        eventually(lambda: waiting() == 1, "the second waits")
        assert third.get("/").code == "targets_busy"
        second.reset()
        gate.count(1)
        eventually(lambda: waiting() == 0, "it has left")
        answer = third.get("/")
        assert answer.status == 200, answer.body
        assert first.read_response().status == 200
    gate.wait_reason("client_gone")


def test_least_conn_counts_what_all_workers_have(gateway, upstream):
    slow, fast = Counting(0.3), Counting(0.003)
    gate = start(gateway, [upstream(slow), upstream(fast)], "balance = least_conn", workers=3)
    in_parallel(gate, 6, 30)
    # By turns each would have half.
    assert slow.total < 30 < fast.total, (slow.total, fast.total)


def test_a_backup_is_used_only_where_no_other_is(gateway, upstream):
    main, spare = Counting(), Counting(name=b"spare")
    first, second = upstream(main), upstream(spare)
    gate = start(gateway, [first, second.target + " backup"], "")
    assert {gate.get("/").body for _ in range(6)} == {b"ok"}
    assert gate.ask("target_disable", upstream="app", target=name_of(first))["ok"]
    assert {gate.get("/").body for _ in range(6)} == {b"spare"}


def test_a_sticky_client_stays_and_is_led_elsewhere_when_it_must(gateway, upstream):
    servers = [upstream(Counting(name=bytes([97 + i]))) for i in range(3)]
    gate = start(gateway, servers, "balance = sticky place path /shop max_age 1h", workers=2)
    first = gate.get("/")
    cookie = first.get("Set-Cookie")
    assert cookie.endswith("; Path=/shop; Max-Age=3600; HttpOnly")
    value = cookie.split(";")[0]
    assert len(value) == len("place=") + 16
    for _ in range(8):
        again = gate.get("/", f"Cookie: other=1; {value}")
        assert again.body == first.body and not again.has("Set-Cookie")
    own = name_of(servers[first.body[0] - 97])
    # Drained: whoever was there comes back, nobody else comes.
    assert gate.ask("target_drain", upstream="app", target=own)["ok"]
    assert gate.get("/", f"Cookie: {value}").body == first.body
    assert all(gate.get("/").body != first.body for _ in range(6))
    assert gate.ask("target_disable", upstream="app", target=own)["ok"]
    moved = gate.get("/", f"Cookie: {value}")
    assert moved.body != first.body and moved.get("Set-Cookie")
    # A cookie that is not ours names nobody.
    assert gate.get("/", "Cookie: place=0123456789abcdef").has("Set-Cookie")


def test_a_key_stays_with_its_target_in_every_worker(gateway, upstream):
    servers = [upstream(Counting(name=bytes([97 + i]))) for i in range(4)]
    gate = start(gateway, servers, "balance = hash $header_x_user", workers=3)
    homes = {f"user{i}": {gate.get("/", f"X-User: user{i}").body for _ in range(4)}
             for i in range(12)}
    assert all(len(seen) == 1 for seen in homes.values()), homes
    assert len(set.union(*homes.values())) >= 3


def test_drain_loses_no_request_and_the_state_outlives_a_reload(gateway, upstream):
    left, right = Counting(0.01), Counting(0.01)
    first, second = upstream(left), upstream(right)
    gate = start(gateway, [first, second], "", workers=2)
    answers = []
    busy = threading.Thread(target=lambda: answers.extend(in_parallel(gate, 4, 40)))
    busy.start()
    eventually(lambda: left.total > 10, "traffic")
    assert gate.ask("target_disable", upstream="app", target=name_of(first))["ok"]
    eventually(lambda: targets(gate)[name_of(first)]["in_flight"] == 0, "what was there is done")
    stood = left.total
    busy.join()
    assert left.total == stood
    assert answers == [(200, "")] * 160
    gate.reload(proxy_config(first, second, upstream="connect_tries = 2"))
    assert targets(gate)[name_of(first)]["state"] == "disabled"
    assert gate.ask("target_enable", upstream="app", target=name_of(first))["ok"]
    eventually(lambda: gate.get("/").status == 200 and left.total > stood, "it is used again")
    reply = gate.ask("target_disable", upstream="app", target="10.9.9.9:1")
    assert not reply["ok"] and "10.9.9.9:1" in reply["error"]


def test_a_target_that_fails_is_ejected_but_never_the_last(gateway, upstream):
    bad = upstream(answering(b"no", status="500 Internal Server Error"))
    good = upstream(answering(b"yes"))
    gate = start(gateway, [bad, good], "eject = failures 3 open 1h", workers=2)
    statuses = [gate.get("/").status for _ in range(40)]
    assert statuses.count(500) == 3 and set(statuses[-20:]) == {200}
    assert targets(gate)[name_of(bad)]["state"] == "ejected"
    gate.wait_log("ejected for 3600000 ms")

    def counts():
        status = gate.status()["targets"]
        return status["up"], status["ejected"], status["in_flight"]
    # The last request is under way until a moment after its answer was sent.
    eventually(lambda: counts() == (1, 1, 0), counts)


def test_an_ejection_ends(gateway, upstream):
    def script(connection):
        connection.read_request()
        connection.answer(b"x", status="503 Service Unavailable" if broken else "200 OK")
        connection.close()
    broken = [1]
    server, other = upstream(script), upstream(answering(b"yes"))
    gate = start(gateway, [server, other], "eject = failures 2 open 300ms on 503")
    eventually(lambda: gate.get("/") and targets(gate)[name_of(server)]["state"] == "ejected",
               "it is ejected")
    broken.clear()
    eventually(lambda: gate.get("/").body == b"x", "it is back")


def test_counts_are_exact_after_a_worker_was_killed(gateway, upstream):
    held = threading.Event()

    def script(connection):
        connection.read_request()
        held.wait(20)
        connection.answer(b"late")
    servers = [upstream(script), upstream(script)]
    gate = start(gateway, servers, "max_connections = 3", workers=2)
    gate.sent = None    # what was under way in the killed worker is counted by nobody
    clients = [gate.connect() for _ in range(6)]
    for client in clients:
        client.send(request_bytes())

    def in_flight():
        return sum(one["in_flight"] for one in targets(gate).values())
    eventually(lambda: in_flight() == 6, "all are under way")
    gate.send_signal(signal.SIGKILL, gate.workers()[0])
    gone = 0
    for client in clients:
        client.sock.settimeout(1)
        try:
            client.fill()
        except Gone:
            gone += 1
        except TimeoutError:
            pass
    eventually(lambda: in_flight() == 6 - gone, lambda: f"{gone} of 6 are gone: {targets(gate)}")
    held.set()
    eventually(lambda: in_flight() == 0, "none is left")
    for client in clients:
        client.close()


def test_a_target_comes_by_its_slow_start(gateway, upstream):
    old, new = Counting(), Counting()
    first, second = upstream(old), upstream(new)
    gate = start(gateway, [first, second], "slow_start = 1h")
    for command in ("target_disable", "target_enable"):
        assert gate.ask(command, upstream="app", target=name_of(second))["ok"]
    for _ in range(100):
        assert gate.get("/").status == 200
    assert new.total <= 2, "an hour has just begun"
