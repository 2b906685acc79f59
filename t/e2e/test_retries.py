"""Retries, hedging and fallbacks against upstreams that really misbehave."""
import threading

import pytest

from gateway import proxy_config
from peers import answering, request_bytes
from test_failures import refused_target, stalling
from waiting import eventually


def failing(status, body=b"no", *fields):
    return answering(body, *fields, status=status)


def closing(connection):
    """A script: reads a request and ends the connection without a word."""
    connection.read_request()
    connection.close()


def metric(gateway, name, **labels):
    """The sum of a metric's values with these labels."""
    total = 0
    for key, value in gateway.metrics().items():
        if key.split("{")[0] == f"gatehouse_{name}" and \
                all(f'{label}="{text}"' in key for label, text in labels.items()):
            total += value
    return total


def seen(*servers):
    return [len(server.requests) for server in servers]


# ---- Which failures are tried again -------------------------------------------------------------

@pytest.mark.parametrize("script, words, code", [
    (failing("502 Bad Gateway"), "502", None),
    (failing("503 Service Unavailable"), "5xx", None),
    (closing, "reset", "upstream_reset"),
    (answering(b"x", status="??"), "bad_response", "upstream_bad_response"),
])
def test_a_failure_is_tried_at_another_target(proxy, upstream, script, words, code):
    bad, good = upstream(script), upstream(answering(b"good"))
    gateway = proxy(bad, good, upstream=f"retry = 1 on {words}")
    for _ in range(4):
        assert gateway.get("/").body == b"good"
    assert seen(bad)[0] >= 2 and seen(good) == [4]
    assert metric(gateway, "target_retries_total") == seen(bad)[0]
    if code:
        gateway.wait_log(code)


def test_what_is_not_named_is_not_tried_again(proxy, upstream):
    bad = upstream(failing("500 Internal Server Error", b"mine"))
    gateway = proxy(bad, upstream=("retry = 3 on connect 502 503"))
    response = gateway.get("/")
    assert (response.status, response.body) == (500, b"mine")
    assert seen(bad) == [1]


def test_a_timeout_is_tried_again(proxy, upstream):
    slow, good = upstream(stalling), upstream(answering(b"good"))
    gateway = proxy(slow, good, upstream="retry = 1 on timeout\ntry_timeout = 100ms")
    for _ in range(2):
        assert gateway.get("/").body == b"good"
    assert seen(slow) == [1]
    eventually(lambda: hasattr(slow.connections[0], "ended_as"), "its connection is closed")


def test_a_single_target_is_asked_again(proxy, upstream):
    def script(connection):
        connection.read_request()
        if len(server.requests) == 1:
            connection.answer(b"no", status="503 Service Unavailable")
            connection.read_request()
        connection.answer(b"now")
        connection.wait_end()
    server = upstream(script)
    gateway = proxy(server, upstream="retry = 2 on 503")
    assert gateway.get("/").body == b"now"
    # The whole answer that was dropped left the connection as good as before.
    assert len(server.connections) == 1


def test_the_last_answer_is_handed_on(proxy, upstream):
    servers = [upstream(failing("503 Service Unavailable", b"no %d" % i)) for i in range(2)]
    gateway = proxy(*servers, upstream="retry = 2 on 503")
    response = gateway.get("/")
    assert response.status == 503 and response.body.startswith(b"no ")
    assert sum(seen(*servers)) == 3


def test_connecting_is_tried_again_where_all_refuse(gateway, upstream):
    target = refused_target()
    one = gateway(proxy_config(target, upstream="retry = 10 on connect budget 20% min 100"))
    answers = []
    asking = threading.Thread(target=lambda: answers.append(one.get("/")))
    asking.start()
    # Somebody begins to listen there between two tries.
    one.wait_log("upstream_connect_failed")
    upstream(answering(b"late"), port=int(target.rsplit(":", 1)[1]))
    asking.join()
    assert answers[0].body == b"late"


def test_the_response_that_has_begun_is_not_tried_again(proxy, upstream):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.close()
    bad, good = upstream(script), upstream(answering(b"good"))
    gateway = proxy(bad, good, upstream="retry = 3 on reset 5xx")
    results = set()
    for _ in range(2):
        client = gateway.connect()
        client.send(request_bytes())
        response = client.read_response()
        results.add((response.complete, bytes(response.body)))
    assert results == {(False, b"half"), (True, b"good")}
    assert seen(bad, good) == [1, 1]


# ---- Methods and bodies -------------------------------------------------------------------------

def test_a_post_is_not_repeated_unless_said(proxy, upstream):
    bad, good = upstream(failing("503 Service Unavailable")), upstream(answering(b"good"))
    gateway = proxy(bad, good, upstream="retry = 1 on 503")
    statuses = {gateway.get("/", method="POST", body=b"data").status for _ in range(2)}
    assert statuses == {503, 200}

    other = proxy(bad, good, upstream="retry = 1 on 503 non_idempotent")
    for _ in range(4):
        response = other.get("/", method="POST", body=b"data")
        assert response.body == b"good"
    assert all(request.body == b"data" for request in good.requests)


@pytest.mark.parametrize("size", [10, 20_000, 65_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_was_kept_is_sent_again(proxy, upstream, size, chunked):
    body = bytes(i % 251 for i in range(size))
    bad, good = upstream(failing("503 Service Unavailable")), upstream(answering(b"good"))
    gateway = proxy(bad, good, upstream="retry = 1 on 503 non_idempotent\nretry_body_max = 64k")
    for _ in range(3):
        client = gateway.connect()
        if chunked:
            client.send(request_bytes("/", "Transfer-Encoding: chunked", method="PUT"))
            for at in range(0, size, 7000):
                piece = body[at:at + 7000]
                client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            client.send(b"0\r\n\r\n")
        else:
            client.send(request_bytes("/", method="PUT", body=body))
        assert client.read_response("PUT").body == b"good"
    assert [request.body for request in good.requests] == [body] * 3
    assert seen(bad)[0] >= 1


def test_a_body_too_large_to_keep_is_not_sent_again(proxy, upstream):
    bad, good = upstream(failing("503 Service Unavailable")), upstream(answering(b"good"))
    gateway = proxy(bad, good, upstream="retry = 1 on 503\nretry_body_max = 16k")
    body = b"x" * 200_000
    statuses = {gateway.get("/", method="PUT", body=body).status for _ in range(2)}
    assert statuses == {503, 200}


def test_an_answer_before_the_end_of_the_body(proxy, upstream):
    """The target refuses while the client still sends: another one gets what was kept, then the
    rest."""
    def refusing(connection):
        connection.read_head()
        connection.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        connection.drain()
    bad, good = upstream(refusing), upstream(answering(b"good"))
    gateway = proxy(bad, good, upstream="retry = 1 on 503")
    for _ in range(2):
        client = gateway.connect()
        client.send(request_bytes("/", "Content-Length: 30000", method="PUT"))
        client.send(b"a" * 10_000)
        eventually(lambda: seen(good)[0] or len(good.connections), "the other target is asked")
        client.send(b"b" * 20_000)
        assert client.read_response("PUT").body == b"good"
    assert {request.body for request in good.requests} == {b"a" * 10_000 + b"b" * 20_000}


# ---- The budget ---------------------------------------------------------------------------------

def test_the_budget_keeps_retries_from_becoming_a_storm(proxy, upstream):
    servers = [upstream(failing("503 Service Unavailable")) for _ in range(2)]
    gateway = proxy(*servers, upstream="retry = 3 on 503 budget 10% min 0")
    with gateway.connect() as client:
        for _ in range(200):
            assert client.get("/").status == 503
    assert 200 < sum(seen(*servers)) <= 220


# ---- Hedging ------------------------------------------------------------------------------------

def test_a_slow_target_gets_company(proxy, upstream):
    slow, good = upstream(stalling), upstream(answering(b"good"))
    gateway = proxy(slow, good, upstream="hedge = after 50ms")
    for _ in range(4):
        assert gateway.get("/").body == b"good"
    assert seen(slow)[0] >= 1
    eventually(lambda: all(hasattr(one, "ended_as") for one in slow.connections),
               "the losers' connections are closed")
    assert metric(gateway, "target_hedges_total") == seen(slow)[0]


def test_the_first_target_wins_where_it_answers_in_time(proxy, upstream):
    servers = [upstream(answering(b"good")) for _ in range(2)]
    gateway = proxy(*servers, upstream="hedge = after 5s")
    for _ in range(6):
        assert gateway.get("/").body == b"good"
    assert sum(seen(*servers)) == 6
    assert metric(gateway, "target_hedges_total") == 0


def test_a_bad_answer_makes_way_for_the_other_try(proxy, upstream):
    asked = threading.Event()

    def late(connection):
        connection.read_request()
        asked.wait(20)
        connection.answer(b"late but good")
        connection.wait_end()

    def quick(connection):
        connection.read_request()
        connection.answer(b"quick but bad", status="500 Oops")
        asked.set()
        connection.wait_end()
    slow, bad = upstream(late), upstream(quick)
    gateway = proxy(slow, bad, upstream="hedge = after 50ms")
    # Whoever is asked first: the bad one alone is an answer like any other.
    bodies = []
    for _ in range(2):
        bodies.append(gateway.get("/").body)
        asked.clear()
        if b"late but good" in bodies:
            break
        asked.clear()
    assert b"late but good" in bodies


def test_only_requests_that_may_be_repeated_are_hedged(proxy, upstream):
    go = threading.Event()

    def waiting(connection):
        connection.read_request()
        go.wait(20)
        connection.answer(b"done")
        connection.wait_end()
    servers = [upstream(waiting) for _ in range(2)]
    gateway = proxy(*servers, upstream="hedge = after 20ms")
    client = gateway.connect()
    client.send(request_bytes(method="POST", body=b"x"))
    eventually(lambda: sum(seen(*servers)) == 1, "it is there")
    with gateway.connect() as other:
        other.send(request_bytes())
        eventually(lambda: sum(seen(*servers)) == 3, "the GET is hedged")
        go.set()
        assert other.read_response().body == b"done"
    assert client.read_response("POST").body == b"done"
    assert sum(seen(*servers)) == 3


def test_a_hedged_client_that_leaves(proxy, upstream):
    slow = [upstream(stalling) for _ in range(2)]
    gateway = proxy(*slow, upstream="hedge = after 20ms", listener="half_close_timeout = 50ms")
    client = gateway.connect()
    client.send(request_bytes())
    eventually(lambda: sum(seen(*slow)) == 2, "both are asked")
    client.close()
    gateway.count(1)
    for server in slow:
        eventually(lambda: hasattr(server.connections[0], "ended_as"), "both tries end")
    gateway.wait_reason("client_gone")


# ---- Fallbacks ----------------------------------------------------------------------------------

def test_a_fallback_reply(gateway):
    one = gateway(proxy_config(refused_target(),
                               upstream='fallback = reply 200 "Nobody is at home."'))
    response = one.get("/")
    assert (response.status, response.body) == (200, b"Nobody is at home.")
    assert response.get("Content-Type") == "text/plain; charset=utf-8"
    one.wait_reason("upstream_connect_failed")


def test_a_fallback_upstream_gets_the_body_too(gateway, upstream):
    spare = upstream(answering(b"spare"))
    config = proxy_config(refused_target(), upstream="fallback = spare")
    one = gateway(config + f"\n[upstream spare]\ntarget = {spare.target}\n")
    response = one.get("/", method="POST", body=b"data")
    assert response.body == b"spare"
    assert spare.requests[0].body == b"data"


def test_an_answer_of_the_upstream_is_no_case_for_the_fallback(proxy, upstream):
    server = upstream(failing("503 Service Unavailable", b"mine"))
    gateway = proxy(server, upstream="fallback = reply 200 other")
    assert gateway.get("/").body == b"mine"
