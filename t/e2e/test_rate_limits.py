"""Rate limits and limits of concurrency, over several workers, and across what happens to them."""
import json
import os
import re
import signal
import threading
import time

import pytest

from control import reloadable
from gateway import proxy_config, run_gatehouse

from waiting import eventually
# Slow enough that nothing is refilled while a test runs.
SLOW = "100/1d burst 10"


def config(server, limits, *, route="limit = one", more=""):
    return proxy_config(server, route=route) + limits + more


def one(rate=SLOW, *more, key="all", name="one"):
    # A table of the usual size would fill the small segment of the tests.
    size = () if any("keys_max" in line for line in more) else ("keys_max = 2000",)
    return "\n".join((f"\n[limit {name}]", f"key = {key}", f"rate = {rate}", *size, *more)) + "\n"


def statuses(gateway, count, *fields, target="/"):
    return [gateway.get(target, *fields).status for _ in range(count)]


HEAD = "GET / HTTP/1.1\r\nHost: a.example\r\n{}\r\n"


def holding(connection):
    """An upstream that answers a request when the client has sent a line after its head."""
    while True:
        request = connection.read_request(body=False)
        connection.read_exact(int(request.get("Content-Length")))
        connection.answer(b"ok")


def switching(connection):
    """An upstream that echoes after a 101."""
    request = connection.read_request()
    if not request.has("Upgrade"):
        return connection.answer(b"ok")
    connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                    b"Upgrade: echo\r\n\r\n")
    while True:
        connection.send(connection.read_exact(4))


def begin(gateway, *fields):
    """Sends a request's head, and a part of its body: it is under way until finish()."""
    client = gateway.connect()
    lines = "".join(line + "\r\n" for line in (*fields, "Content-Length: 4"))
    client.send(HEAD.format(lines).encode() + b"abc")
    return client


def try_begin(gateway, server, *fields):
    """As begin(), but None where it is refused."""
    before = len(server.requests)
    client = begin(gateway, *fields)

    def decided():
        return len(server.requests) > before or not client.quiet(0.01)
    eventually(decided, "the request is admitted or refused")
    if len(server.requests) > before:
        return client
    assert client.read_response().status == 429
    client.close()
    return None


def finish(client):
    client.send(b"d")
    assert client.read_response().status == 200
    client.close()


def admitted(gateway, count, *fields, target="/"):
    return statuses(gateway, count, *fields, target=target).count(200)


def hammer(gateway, threads, work):
    """Runs work(thread's number) in threads; the sum of what they return."""
    results = []
    running = [threading.Thread(target=lambda n=n: results.append(work(n)))
               for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert len(results) == threads
    return sum(results)


# ---- What is refused, and how ----

def test_a_refusal(gateway, upstream):
    server = upstream()
    proxy = gateway(config(server, one("3/1h")))
    for _ in range(3):
        response = proxy.get("/")
        assert response.status == 200 and not response.has("RateLimit")
    response = proxy.get("/")
    assert (response.status, response.code) == (429, "rate_limited")
    assert 1 <= int(response.get("Retry-After")) <= 3600 * 2
    assert response.get("RateLimit-Policy") == '"one";q=3;w=3600'
    match = re.fullmatch(r'"one";r=0;t=(\d+)', response.get("RateLimit"))
    assert match and match.group(1) == response.get("Retry-After")
    assert len(server.requests) == 3
    proxy.wait_reason("rate_limited")


def test_fields_on_every_response(gateway, upstream):
    proxy = gateway(config(upstream(), one(SLOW), route="limit = one\nlimit_fields = always"))
    for left in range(9, -1, -1):
        response = proxy.get("/")
        assert response.status == 200
        assert response.get("RateLimit-Policy") == '"one";q=10;w=8640'
        assert re.fullmatch(rf'"one";r={left};t=\d+', response.get("RateLimit"))
    assert proxy.get("/").status == 429


def test_fields_can_be_switched_off(gateway, upstream):
    proxy = gateway(config(upstream(), one("1/1h"), route="limit = one\nlimit_fields = off"))
    assert proxy.get("/").status == 200
    response = proxy.get("/")
    assert response.status == 429 and response.has("Retry-After")
    assert not response.has("RateLimit") and not response.has("RateLimit-Policy")


def test_keys_have_budgets_of_their_own(gateway, upstream):
    proxy = gateway(config(upstream(), one("2/1h", key="header_x_user cookie_session")))
    for user in ("ann", "bob"):
        for session in ("1", "2"):
            fields = (f"X-User: {user}", f"Cookie: a=b; session={session}")
            assert statuses(proxy, 3, *fields) == [200, 200, 429]
    # Those without share one.
    assert statuses(proxy, 3) == [200, 200, 429]


def test_addresses_are_cut_to_their_prefix(gateway, upstream):
    proxy = gateway(proxy_config(upstream(), listener="trusted_proxy = 127.0.0.0/8",
                                 route="limit = one")
                    + one("2/1h", key="client_address/24 /56"))

    def come_from(address):
        return proxy.get("/", f"X-Forwarded-For: {address}").status
    assert [come_from(f"192.0.2.{n}") for n in (1, 2, 3)] == [200, 200, 429]
    assert [come_from(f"192.0.3.{n}") for n in (1, 2, 3)] == [200, 200, 429]
    assert [come_from(f"2001:db8:0:1{n}::1") for n in (1, 2, 3)] == [200, 200, 429]
    assert come_from("2001:db8:0:200::1") == 200


def test_path_segments_are_keys(gateway, upstream):
    proxy = gateway(config(upstream(), one("1/1h", key="capture_id"),
                           route="path = /users/{id}\nlimit = one"))
    assert [proxy.get(f"/users/{n}").status for n in (1, 1, 2, 2)] == [200, 429, 200, 429]


def test_cost(gateway, upstream):
    server = upstream()
    proxy = gateway(config(server, one(SLOW, "cost = 4"),
                           more="[route cheap]\npath = /cheap\nupstream = app\nlimit = one\n"
                                "limit_cost = 1\n"))
    assert statuses(proxy, 3) == [200, 200, 429]
    assert statuses(proxy, 3, target="/cheap") == [200, 200, 429]


@pytest.mark.parametrize("scope, total", [("limit", 10), ("route", 20)])
def test_scope(gateway, upstream, scope, total):
    proxy = gateway(config(upstream(), one(SLOW, f"scope = {scope}"),
                           more="[route other]\npath = /other\nupstream = app\nlimit = one\n"))
    assert admitted(proxy, 12) + admitted(proxy, 12, target="/other") == total


def test_defaults_and_off(gateway, upstream):
    # Without a listener for metrics: its route would inherit the limit.
    proxy = gateway("[defaults]\nlimit = one\n" + proxy_config(upstream()) + one("1/1h")
                    + "[route free]\npath = /free\nupstream = app\nlimit = off\n", watch=False)
    assert statuses(proxy, 2) == [200, 429]
    assert statuses(proxy, 3, target="/free") == [200, 200, 200]


def test_dry_run_counts_and_refuses_nothing(gateway, upstream):
    proxy = gateway(config(upstream(), one("2/1h", "mode = dry_run")))
    assert admitted(proxy, 6) == 6


# ---- Hierarchies ----

def test_every_limit_and_its_parents_need_room(gateway, upstream):
    limits = (one("4/1h", key="header_x_user", name="user").rstrip() + "\nparent = organisation\n"
              + one("6/1h", key="header_x_org", name="organisation").rstrip() + "\nparent = all\n"
              + one("9/1h", name="all"))
    proxy = gateway(config(upstream(), limits, route="limit = user"))
    assert admitted(proxy, 6, "X-User: ann", "X-Org: a") == 4
    assert admitted(proxy, 6, "X-User: bob", "X-Org: a") == 2      # the organisation has had six
    assert admitted(proxy, 6, "X-User: eve", "X-Org: b") == 3      # all have had nine
    response = proxy.get("/", "X-User: new", "X-Org: new")
    assert response.status == 429
    assert re.fullmatch(r'"all";r=0;t=\d+', response.get("RateLimit"))
    assert response.get("RateLimit-Policy") == \
        '"user";q=4;w=3600, "organisation";q=6;w=3600, "all";q=9;w=3600'


def test_a_refusal_takes_from_none(gateway, upstream):
    limits = one(SLOW, name="wide") + one("2/1h", key="header_x_user", name="user")
    proxy = gateway(config(upstream(), limits, route="limit = wide user"), workers=4)
    assert admitted(proxy, 2, "X-User: ann") == 2
    assert admitted(proxy, 50, "X-User: ann") == 0
    # Of the ten, only those two were taken.
    assert sum(admitted(proxy, 2, f"X-User: {n}") for n in range(10)) == 8


def test_racing_refusals_never_exceed_any_limit(gateway, upstream):
    limits = one("60/1d burst 60", name="wide") + one("100/1d burst 5", key="header_x_user",
                                                      name="user")
    proxy = gateway(config(upstream(), limits, route="limit = wide user"), workers=4)
    total = hammer(proxy, 8, lambda n: sum(admitted(proxy, 12, f"X-User: {k}")
                                           for k in range(6)))
    assert total == 30                                             # six users, five each
    rest = admitted(proxy, 1, "X-User: a") + sum(admitted(proxy, 1, f"X-User: b{n}")
                                                 for n in range(40))
    assert rest == 30                                              # what the wide one had left


# ---- Exactness over workers ----

def test_token_bucket_is_exact_over_workers(gateway, upstream):
    proxy = gateway(config(upstream(), one("50/1s burst 40")), workers=4)
    begun = time.monotonic()

    def work(_):
        taken = 0
        while time.monotonic() < begun + 2:
            with proxy.connect() as client:
                for _ in range(20):
                    taken += client.get("/").status == 200
        return taken
    total = hammer(proxy, 6, work)
    lasted = time.monotonic() - begun
    # From the first request to the last; what the clock of one turn is off comes on top.
    assert 40 + 50 * 1.9 - 2 <= total <= 40 + 50 * lasted + 1, (total, lasted)


def test_window_keeps_its_bound_over_workers(gateway, upstream):
    proxy = gateway(config(upstream(), one("40/1s")), workers=4)
    begun = time.monotonic()
    moments = []

    def work(_):
        while time.monotonic() < begun + 3:
            with proxy.connect() as client:
                for _ in range(20):
                    asked = time.monotonic()
                    if client.get("/").status == 200:
                        moments.append((asked, time.monotonic()))
        return 0
    hammer(proxy, 6, work)
    # A request was decided between its two moments: only what surely lies inside is counted.
    asked = sorted(start for start, _ in moments)
    most = max(sum(1 for start, end in moments if first <= start and end < first + 0.98)
               for first in asked)
    assert most <= 50, most                                        # N + N/4
    assert 100 <= len(moments) <= 40 * 4 + 10


# ---- What happens to the gateway ----

def many(gateway, count, **options):
    """Requests over several connections, so that they come to several workers."""
    return hammer(gateway, 8, lambda _: admitted(gateway, count // 8, **options))


def test_a_limit_over_reload_crash_and_changes(gateway, upstream):
    server = upstream()
    text = config(server, one("100/300d burst 100"))
    proxy = reloadable(gateway, text, workers=2)
    assert many(proxy, 40) == 40
    proxy.reload()
    assert many(proxy, 24) == 24
    proxy.gateway.sent = None           # the last may be killed before it is counted
    # A worker dies: the count stays.
    victim = proxy.worker
    proxy.send_signal(signal.SIGKILL, victim)
    eventually(lambda: victim not in proxy.workers() and len(proxy.workers()) == 2,
               "the worker is replaced")
    proxy.wait_serving(2)
    assert many(proxy, 16) == 16
    # Another rate keeps what was used, and so does another size.
    proxy.reload(config(server, one("90/300d burst 90")))
    assert many(proxy, 8) == 8
    proxy.reload(config(server, one("90/300d burst 90", "keys_max = 1000")))
    assert many(proxy, 8) == 2


def test_a_limit_that_was_refused_changes_nothing(gateway, upstream):
    server = upstream()
    proxy = reloadable(gateway, config(server, one("100/300d burst 4")), workers=2)
    assert many(proxy, 8) == 4
    proxy.refuse(config(server, one("100/300d burst 50", "keys_max = 100000000")))
    proxy.refuse(config(server, one("100/300d burst 50", "keys_max = 60000000")))  # no such room
    assert many(proxy, 8) == 0


# ---- Concurrency ----

def test_concurrency(gateway, upstream):
    server = upstream(holding)
    proxy = gateway(config(server, "\n[limit one]\nkey = header_x_user\nconcurrency = 3\n"),
                    workers=2)
    held = [begin(proxy, "X-User: ann") for _ in range(3)]
    server.wait_requests(3)
    response = proxy.get("/", "X-User: ann")
    assert (response.status, response.code) == (429, "concurrency_limited")
    assert response.get("RateLimit-Policy") == '"one";q=3;qu="concurrent-requests"'
    other = begin(proxy, "X-User: bob")
    server.wait_requests(4)
    # One ends, and one that gives up ends too.
    finish(held.pop())
    held.append(begin(proxy, "X-User: ann"))
    server.wait_requests(5)
    assert proxy.get("/", "X-User: ann").status == 429
    held.pop().reset()
    proxy.count(1)                      # its request was sent, and has no response
    again = eventually(lambda: try_begin(proxy, server, "X-User: ann"), "the place is free again")
    for client in (*held, other, again):
        finish(client)


def test_a_tunnel_holds_its_place(gateway, upstream):
    server = upstream(switching)
    proxy = gateway(config(server, "\n[limit one]\nkey = all\nconcurrency = 1\n"))
    with proxy.connect() as client:
        head = (b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\n"
                b"Upgrade: echo\r\n\r\n")
        client.send(head)
        assert client.read_response().status == 101
        client.send(b"ping")
        assert client.read_exact(4) == b"ping"
        assert proxy.get("/").status == 429
    eventually(lambda: proxy.get("/").status != 429, "the place is free again")


def test_what_a_killed_worker_held_is_free(gateway, upstream):
    server = upstream(holding)
    proxy = gateway(config(server, "\n[limit one]\nkey = all\nconcurrency = 4\n"), workers=2)
    held = [begin(proxy) for _ in range(4)]
    server.wait_requests(4)
    assert proxy.get("/").status == 429
    for victim in proxy.workers():
        proxy.send_signal(signal.SIGKILL, victim)
        eventually(lambda: victim not in proxy.workers() and len(proxy.workers()) == 2,
                   "the worker is replaced")
    proxy.check_descriptors = False
    proxy.sent = None                   # what a killed worker had begun was not counted
    for client in held:
        client.close()
    again = []
    for number in range(4):
        again.append(eventually(lambda: try_begin(proxy, server), f"place {number} is free"))
    assert proxy.get("/").status == 429
    for client in again:
        finish(client)


def test_a_refusal_by_a_rate_holds_nothing(gateway, upstream):
    server = upstream(holding)
    limits = ("\n[limit one]\nkey = all\nconcurrency = 2\n"
              + one("1/1h", key="header_x_user", name="rate"))
    proxy = gateway(config(server, limits, route="limit = one rate"))
    first = begin(proxy, "X-User: ann")
    server.wait_requests(1)
    assert statuses(proxy, 5, "X-User: ann") == [429] * 5
    second = begin(proxy, "X-User: bob")
    server.wait_requests(2)
    assert proxy.get("/", "X-User: eve").code == "concurrency_limited"
    finish(first)
    finish(second)
    # That refusal has not used eve's only one.
    eve = eventually(lambda: try_begin(proxy, server, "X-User: eve"), "eve is admitted")
    finish(eve)


# ---- Commands and figures ----

def command(proxy, *words, code=0):
    result = run_gatehouse("limit", *words, "--control", proxy.path)
    assert result.returncode == code, result.stderr
    return result.stdout if code == 0 else result.stderr


def shown(proxy, *words):
    return json.loads(command(proxy, "show", *words, "--json"))


def test_list_show_and_metrics(gateway, upstream):
    limits = one("2/1h", "parent = all", key="header_x_user", name="user") + one(SLOW, name="all")
    proxy = reloadable(gateway, config(upstream(), limits, route="limit = user"), workers=2)
    for _ in range(20):
        proxy.get("/", "X-User: ann")
    assert admitted(proxy, 2, "X-User: a-very-secret-key") == 2
    listed = {limit["name"]: limit for limit in
              json.loads(command(proxy, "list", "--json"))["limits"]}
    assert (listed["user"]["admitted"], listed["user"]["refused"]) == (4, 18)
    assert (listed["all"]["admitted"], listed["all"]["refused"]) == (4, 0)
    assert (listed["user"]["keys_used"], listed["all"]["keys_used"]) == (2, 1)
    assert listed["user"]["rate"] == "2/1h" and listed["user"]["parent"] == "all"
    user = shown(proxy, "user", "ann")
    assert (user["budget"]["used"], user["budget"]["remaining"]) == (2, 0)
    assert user["budget"]["retry_ms"] > 0
    assert {"key": "ann", "refused": 18}.items() <= user["top"][0].items()
    assert user["top"][0]["requests"] >= 18
    assert "secret" not in json.dumps(user)
    assert shown(proxy, "all")["budget"]["remaining"] == 6
    text = command(proxy, "show", "user", "ann")
    assert "2 used, 0 left" in text and re.search(r"^  ann +\d+ +18 ", text, re.M)
    assert re.search(r"^user +2/1h +header_x_user +2 of 2000 +4 +18 ", command(proxy, "list"), re.M)
    assert "did you mean user?" in command(proxy, "show", "usr", code=1)
    assert "the key has 1 part" in command(proxy, "show", "user", "a", "b", code=1)
    metrics = proxy.metrics()
    assert metrics['gatehouse_limit_admitted_total{limit="user"}'] == 4
    assert metrics['gatehouse_limit_refused_total{limit="user",by="rate"}'] == 18
    assert {limit["name"] for limit in proxy.status()["limits"]} == {"user", "all"}


def test_set_until_the_next_reload_and_beyond(gateway, upstream):
    text = config(upstream(), one("100/300d burst 10"))
    proxy = reloadable(gateway, text, workers=2)
    assert many(proxy, 16) == 10
    assert "100/300d burst 30, was 100/300d burst 10" in \
        command(proxy, "set", "one", "100/300d", "burst", "30")
    assert many(proxy, 40) == 20                       # what was used stays used
    assert shown(proxy, "one")["file_rate"] == "100/300d burst 10"
    # A worker that is new takes the rate that is in force.
    proxy.gateway.sent = None
    victim = proxy.worker
    proxy.send_signal(signal.SIGKILL, victim)
    eventually(lambda: victim not in proxy.workers() and len(proxy.workers()) == 2,
               "the worker is replaced")
    proxy.wait_serving(2)
    assert shown(proxy, "one")["rate"] == "100/300d burst 30"
    proxy.reload()
    assert shown(proxy, "one")["rate"] == "100/300d burst 10"
    command(proxy, "set", "one", "100/300d burst 40", "--keep")
    proxy.reload()
    assert shown(proxy, "one")["rate"] == "100/300d burst 40"
    assert shown(proxy, "one")["kept"] is True
    assert many(proxy, 16) == 10
    command(proxy, "set", "one", "file")
    assert shown(proxy, "one")["rate"] == "100/300d burst 10"
    assert "expected a number per time" in command(proxy, "set", "one", "fast", code=1)


def test_reset(gateway, upstream):
    limits = one("2/1h", key="header_x_user client_address/24")
    proxy = reloadable(gateway, config(upstream(), limits), workers=2)
    for user in ("ann", "bob"):
        assert admitted(proxy, 3, f"X-User: {user}") == 2
    assert command(proxy, "reset", "one", "ann", "127.0.0.9") == "reset\n"
    assert command(proxy, "reset", "one", "eve", "127.0.0.9") == "nothing was used of it\n"
    assert admitted(proxy, 3, "X-User: ann") == 2
    assert admitted(proxy, 3, "X-User: bob") == 0
    assert command(proxy, "reset", "one") == "reset\n"
    assert admitted(proxy, 3, "X-User: bob") == 2


def test_dry_run_is_counted(gateway, upstream):
    proxy = reloadable(gateway, config(upstream(), one("2/1h", "mode = dry_run")))
    assert admitted(proxy, 6) == 6
    about = shown(proxy, "one")
    assert (about["dry_run"], about["refused"], about["mode"]) == (4, 0, "dry_run")


def test_a_full_table_forgets_and_says_so(gateway, upstream):
    proxy = reloadable(gateway, config(upstream(), one("100/300d burst 2", "keys_max = 64",
                                                       key="header_x_user")))
    with proxy.connect() as client:
        for number in range(400):
            assert client.get("/", f"X-User: {number}").status == 200
    about = shown(proxy, "one")
    assert about["keys_used"] + about["evicted"] == 400
    assert 100 <= about["keys_used"] <= 112            # cells: 7 sets of 16


def test_a_limit_over_an_upgrade(gateway, upstream):
    proxy = reloadable(gateway, config(upstream(), one("100/300d burst 20")), workers=2)
    assert many(proxy, 16) == 16
    proxy.gateway.sent = None
    old = proxy.pid
    result = run_gatehouse("upgrade", "--control", proxy.path)
    assert result.returncode == 0, result.stderr
    new = eventually(lambda: proxy.status()["pid"] != old and proxy.status()["pid"],
                     "the new master")
    try:
        assert many(proxy, 16) == 4
        assert shown(proxy, "one", "all")["budget"]["used"] == 20
    finally:
        os.kill(new, signal.SIGQUIT)
        eventually(lambda: not os.path.exists(f"/proc/{new}"), "the new master ends")
        proxy.gateway.wait_exit()


def test_explain_names_the_limits(gateway, upstream):
    path = gateway(config(upstream(), one(SLOW))).config_path
    told = run_gatehouse("explain", "-c", path, "--listener", "public",
                         "GET http://a.example/")
    assert "admit limit: one 100/1d burst 10" in told.stdout
