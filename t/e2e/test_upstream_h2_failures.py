"""HTTP/2 upstreams that fail, refuse, or lie: what is repeated, what the client sees, and that the
other requests go on."""
import struct

import h2.events
import h2.settings
import hpack
import pytest

from gateway import proxy_config
from h2_server import (CONTINUATION, DATA, HEADERS, PING, PREFACE, PUSH,
                       SETTINGS, WINDOW_UPDATE, answering_h2, frame, speaking_h2)
from peers import Gone, request_bytes
from tls_server import TlsParty, https
from waiting import eventually

H2 = "protocol = h2"
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def head_of(*lines, encoder=None):
    return (encoder or hpack.Encoder()).encode(list(lines), huffman=False)


def raw_answer(number, *lines, body=None, flags=0):
    """HEADERS, and DATA that ends."""
    end = END_STREAM if body is None else 0
    data = frame(HEADERS, END_HEADERS | end | flags, number, head_of((":status", "200"), *lines))
    if body is not None:
        data += frame(DATA, END_STREAM, number, body)
    return data


def on_request(action):
    """A script that answers each head with action(side, stream number)."""
    def on_event(side, event):
        if isinstance(event, h2.events.RequestReceived):
            return action(side, event.stream_id)
        return None
    return speaking_h2(on_event=on_event)


# ---- What is repeated --------------------------------------------------------------------------

def test_goaway_in_the_middle_of_fifty(proxy, upstream):
    """Streams above the last one that the target looked at are safe, whatever their method."""
    held = []

    def first(side, event):
        if not isinstance(event, h2.events.StreamEnded):
            return None
        held.append(event.stream_id)
        if len(held) == 50:
            last = sorted(held)[19]
            side.goaway(last)
            for number in sorted(held)[:20]:
                side.respond(number, 200, body=b"first")
        return None

    server = upstream()
    scripts = [speaking_h2(on_event=first), speaking_h2(answering_h2(b"second"))]
    server.script = lambda connection: scripts[min(connection.number, 1)](connection)
    gateway = proxy(server, upstream=H2)
    clients = [gateway.connect() for _ in range(50)]
    for i, client in enumerate(clients):
        body = b"x" * (i % 2)
        client.send(request_bytes("/", method="POST" if i % 2 else "GET", body=body))
    bodies = [client.read_response().body for client in clients]
    assert sorted(bodies) == [b"first"] * 20 + [b"second"] * 30
    assert len(server.connections) == 2
    assert gateway.reasons().get("upstream_refused", 0) == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refused_stream_is_repeated(proxy, upstream, method):
    seen = []

    def action(side, stream):
        seen.append(stream)
        if len(seen) <= 2:
            side.reset(stream.id, 7)
        else:
            side.respond(stream.id, 200, body=stream.body)
    server = upstream(speaking_h2(action))
    gateway = proxy(server, upstream=H2)
    response = gateway.get("/", method=method, body=b"abc" if method == "POST" else b"")
    assert response.status == 200 and response.body == (b"abc" if method == "POST" else b"")
    assert len(seen) == 3


def test_refusals_have_an_end(proxy, upstream):
    server = upstream(on_request(lambda side, number: side.reset(number, 7)))
    gateway = proxy(server, upstream=H2)
    response = gateway.get("/")
    assert response.status == 502 and b"upstream_refused" in response.body
    assert len(server.h2_requests) == 4


def test_refusal_finds_another_target(proxy, upstream):
    full = upstream(on_request(lambda side, number: side.reset(number, 7)))
    good = upstream(speaking_h2(answering_h2(b"good")))
    gateway = proxy(full, good, upstream=H2)
    assert {gateway.get("/").body for _ in range(6)} == {b"good"}


def test_one_place_is_given_back_before_a_repeat(proxy, upstream):
    seen = []

    def action(side, stream):
        seen.append(stream)
        if len(seen) == 1:
            side.reset(stream.id, 7)
        else:
            side.respond(stream.id, 200, body=b"ok")
    server = upstream(speaking_h2(action))
    gateway = proxy(server, upstream=H2 + "\nmax_connections = 1")
    assert gateway.get("/").body == b"ok"


def test_dying_connection(proxy, upstream):
    """A kept connection ends as a request arrives: GET is repeated, POST is not."""
    def handler(side, stream):
        if stream.get(":path") == "/die" and side.connection.number == 0:
            raise Gone(False)
        side.respond(stream.id, 200, body=b"ok")
    server = upstream(speaking_h2(handler))
    gateway = proxy(server, upstream=H2)
    assert gateway.get("/").body == b"ok"
    assert gateway.get("/die").body == b"ok"
    assert len(server.connections) == 2

    post = upstream(speaking_h2(handler))
    gateway = proxy(post, upstream=H2)
    assert gateway.get("/").body == b"ok"
    response = gateway.get("/die", method="POST", body=b"x")
    assert response.status == 502 and b"upstream_reset" in response.body


def test_retry_policy_holds(proxy, upstream):
    bad = upstream(speaking_h2(answering_h2(b"no", status=503)))
    good = upstream(speaking_h2(answering_h2(b"good")))
    gateway = proxy(bad, good, upstream=H2 + "\nretry = 1 on 503 budget 100%")
    for i in range(6):
        body = b"x" * 1000 if i % 2 else b""
        response = gateway.get("/", method="PUT" if i % 2 else "GET", body=body)
        assert response.body == b"good"
    assert bad.h2_requests


def test_hedge_over_streams(proxy, upstream):
    slow = upstream(speaking_h2(lambda side, stream: None))
    quick = upstream(speaking_h2(answering_h2(b"quick")))
    gateway = proxy(slow, quick, upstream=H2 + "\nhedge = after 50ms")
    assert {gateway.get("/").body for _ in range(4)} == {b"quick"}
    eventually(lambda: slow.h2_requests and all(s.reset == 8 for s in slow.h2_requests),
               "the slow tries are cancelled")


def test_breaker_opens(proxy, upstream):
    server = upstream(on_request(lambda side, number: side.reset(number, 2)))
    gateway = proxy(server, upstream=H2 + "\nbreaker = failures 3 open 60s")
    reasons = [gateway.get("/").body for _ in range(5)]
    assert [b"circuit_open" in body for body in reasons] == [False] * 3 + [True] * 2


# ---- What the client sees ----------------------------------------------------------------------

def test_reset_before_the_answer(proxy, upstream):
    server = upstream(on_request(lambda side, number: side.reset(number, 2)))
    gateway = proxy(server, upstream=H2)
    response = gateway.get("/")
    assert response.status == 502 and b"upstream_reset" in response.body
    assert gateway.get("/").status == 502
    assert len(server.connections) == 1


@pytest.mark.parametrize("how", ["reset", "no_error", "close", "goaway", "length"])
def test_truncated_answer_never_looks_whole(proxy, upstream, how):
    def action(side, number):
        headers = [("content-length", "100")] if how == "length" else []
        side.h2.send_headers(number, [(":status", "200"), *headers])
        side.h2.send_data(number, b"half of it")
        side.flush()
        side.connection.wait_taken()
        if how == "reset":
            side.reset(number, 2)
        elif how == "no_error":
            side.reset(number, 0)
        elif how == "length":
            side.raw(frame(DATA, END_STREAM, number, b""))
        else:
            if how == "goaway":
                side.goaway(number, 2)
            return True
        return None
    server = upstream(on_request(action))
    gateway = proxy(server, upstream=H2)
    with gateway.connect() as client:
        response = client.get("/")
        assert response.body.startswith(b"half") and not response.complete


def test_connection_lost_with_many(proxy, upstream):
    held = []

    def action(side, number):
        held.append(number)
        return len(held) == 20
    server = upstream(on_request(action))
    gateway = proxy(server, upstream=H2)
    clients = [gateway.connect() for _ in range(20)]
    for client in clients:
        client.send(request_bytes("/", method="POST", body=b"x"))
    responses = [client.read_response() for client in clients]
    assert {response.status for response in responses} == {502}


# ---- What is refused ---------------------------------------------------------------------------

MALFORMED = {
    "upper": raw_answer(1, ("X-Upper", "1"), body=b"x"),
    "connection": raw_answer(1, ("connection", "close"), body=b"x"),
    "transfer-encoding": raw_answer(1, ("transfer-encoding", "chunked"), body=b"x"),
    "newline": raw_answer(1, ("x-a", "1\r\nset-cookie: a=b"), body=b"x"),
    "nul": raw_answer(1, ("x-a", "1\0"), body=b"x"),
    "space": raw_answer(1, ("x a", "1"), body=b"x"),
    "too long": raw_answer(1, ("content-length", "1"), body=b"xx"),
    "too short": raw_answer(1, ("content-length", "3"), body=b"xx"),
    "two lengths": raw_answer(1, ("content-length", "2"), ("content-length", "2"), body=b"xx"),
    "odd length": raw_answer(1, ("content-length", "+2"), body=b"xx"),
    "no status": frame(HEADERS, END_HEADERS | END_STREAM, 1, head_of(("x-a", "1"))),
    "two statuses": frame(HEADERS, END_HEADERS | END_STREAM, 1,
                          head_of((":status", "200"), (":status", "200"))),
    "status 99": frame(HEADERS, END_HEADERS | END_STREAM, 1, head_of((":status", "099"))),
    "status 600": frame(HEADERS, END_HEADERS | END_STREAM, 1, head_of((":status", "600"))),
    "status 101": frame(HEADERS, END_HEADERS, 1, head_of((":status", "101"))),
    "request": frame(HEADERS, END_HEADERS | END_STREAM, 1,
                     head_of((":status", "200"), (":path", "/"))),
    "pseudo behind": frame(HEADERS, END_HEADERS | END_STREAM, 1,
                           head_of(("x-a", "1"), (":status", "200"))),
    "data first": frame(DATA, END_STREAM, 1, b"x"),
    "end of 100": frame(HEADERS, END_HEADERS | END_STREAM, 1, head_of((":status", "100"))),
    "body of 204": frame(HEADERS, END_HEADERS, 1, head_of((":status", "204"))) +
    frame(DATA, END_STREAM, 1, b"x"),
    "push": frame(PUSH, END_HEADERS, 1, struct.pack(">I", 2) + head_of((":method", "GET"))),
    "other stream": frame(DATA, END_STREAM, 7, b"x"),
    "even stream": frame(HEADERS, END_HEADERS | END_STREAM, 2, head_of((":status", "200"))),
    "huge frame": struct.pack(">I", 20000)[1:] + bytes((DATA, 0)) + struct.pack(">I", 1),
    "bad hpack": frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
    "bad settings": frame(SETTINGS, 0, 0, b"abc"),
    "window overflow": frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7fffffff)),
    "empty update": frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0)),
    "lone continuation": frame(CONTINUATION, END_HEADERS, 1, b""),
    "no h2": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "zeros": bytes(200),
}


@pytest.fixture(scope="module")
def malformed_gateway():
    """One gateway for all of them: what one has done must not harm the next."""
    import os
    import tempfile
    from gateway import Gateway
    from peers import Upstream
    case = {"name": None}

    def script(connection):
        name = case["name"]
        if name in ("no h2", "zeros"):
            connection.read_until(PREFACE)
            connection.send(MALFORMED[name])
            connection.wait_end()
            return
        on_request(lambda side, number: side.raw(MALFORMED[name]))(connection)
    server = Upstream(script)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        running = Gateway(folder, proxy_config(server, upstream=H2 + "\nresponse_timeout = 20s"
                                                     "\nupstream_keepalive_requests = 1"))
        running.start()
        try:
            yield running, case
        finally:
            try:
                server.close()
                running.stop()
            finally:
                running.kill()


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(malformed_gateway, name):
    gateway, case = malformed_gateway
    case["name"] = name
    response = gateway.get("/")
    assert response.status == 502, response.body
    assert response.get("set-cookie") is None and response.get("x-a") is None


def test_head_too_large(proxy, upstream):
    def handler(side, stream):
        lines = [(f"x-{i}", "y" * 100) for i in range(400)]
        side.respond(stream.id, 200, lines if stream.get(":path") == "/many" else
                     [("x-large", "y" * 15_000)] * 3, b"x")
    server = upstream(speaking_h2(handler))
    gateway = proxy(server, upstream=H2)
    for path in ("/many", "/large"):
        response = gateway.get(path)
        assert response.status == 502 and b"upstream_head_too_large" in response.body
    assert len(server.connections) == 1


def test_hpack_bomb(proxy, upstream):
    """One long value in the table, named again and again by a byte each."""
    def action(side, number):
        encoder = hpack.Encoder()
        first = encoder.encode([(":status", "200"), ("x-bomb", "y" * 4000)], huffman=False)
        block = first + b"\xbe" * 12_000
        side.raw(frame(HEADERS, END_HEADERS | END_STREAM, number, block))
    server = upstream(on_request(action))
    gateway = proxy(server, upstream=H2)
    for _ in range(5):
        response = gateway.get("/")
        assert response.status == 502 and b"upstream_head_too_large" in response.body


def test_too_many_interim_answers(proxy, upstream):
    def action(side, number):
        encoder = hpack.Encoder()
        side.raw(b"".join(frame(HEADERS, END_HEADERS, number,
                                encoder.encode([(":status", "103")])) for _ in range(200)))
    server = upstream(on_request(action))
    gateway = proxy(server, upstream=H2)
    with gateway.connect() as client:
        client.send(request_bytes("/"))
        assert client.read_response().status == 502


FLOODS = {
    "ping": frame(PING, 0, 0, b"12345678") * 100,
    "settings": frame(SETTINGS) * 100,
    "window": frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 100,
    "unknown": frame(0x42, 0, 0, b"x") * 100,
    "empty data": None,
    "continuation": None,
    "priority": frame(2, 0, 1, struct.pack(">IB", 0, 1)) * 100,
}


@pytest.mark.parametrize("name", FLOODS)
def test_flood(proxy, upstream, name):
    """A target that keeps the gateway busy with nothing is left, and told why."""
    flooded = []

    def flood(side, number):
        if name == "empty data":
            side.raw(frame(HEADERS, END_HEADERS, number, head_of((":status", "200"))))
            piece = frame(DATA, 0, number) * 100
        elif name == "continuation":
            side.raw(frame(HEADERS, 0, number, head_of((":status", "200"))))
            piece = frame(CONTINUATION, 0, number, head_of(("x", "y"))) * 100
        else:
            piece = FLOODS[name]
        flooded.append(number)
        try:
            for _ in range(1000):
                side.sock.sendall(piece)
        except OSError:
            return True
        return None
    server = upstream()
    scripts = [on_request(flood), speaking_h2(answering_h2(b"ok"))]
    server.script = lambda connection: scripts[min(connection.number, 1)](connection)
    gateway = proxy(server, upstream=H2 + "\nresponse_timeout = 5s\nread_timeout = 5s")
    with gateway.connect() as client:
        client.send(request_bytes("/", method="POST", body=b"x"))
        try:
            assert client.read_response().status in (200, 502)
        except Exception:
            gateway.count(1)
    eventually(lambda: not server.threads[0].is_alive(), "the connection is closed")
    assert gateway.get("/").body == b"ok"


def test_silent_target(proxy, upstream):
    """No settings come: it may be anything that listens."""
    server = upstream(lambda connection: connection.wait_end())
    gateway = proxy(server, upstream=H2 + "\nconnect_timeout = 300ms\nresponse_timeout = 10s")
    clients = [gateway.connect() for _ in range(3)]
    for client in clients:
        client.send(request_bytes("/"))
    for client in clients:
        assert client.read_response().status in (502, 504)


def test_dead_connection_is_left(proxy, upstream):
    """After an answer that did not come in time a connection has to show that it lives."""
    def on_event(side, event):
        if isinstance(event, h2.events.RequestReceived) and side.connection.number == 0:
            side.stop = True
            side.connection.sock.settimeout(30)
            import time
            while not side.connection.upstream.closing and len(
                    side.connection.upstream.connections) < 2:
                time.sleep(0.02)
            return True
        return None
    server = upstream()
    scripts = [speaking_h2(on_event=on_event), speaking_h2(answering_h2(b"ok"))]
    server.script = lambda connection: scripts[min(connection.number, 1)](connection)
    gateway = proxy(server, upstream=H2 + "\nresponse_timeout = 200ms")
    assert gateway.get("/").status == 504
    eventually(lambda: gateway.get("/").body == b"ok", "a new connection", 10)


def test_flood_over_tls(proxy, upstream, folder):
    party = TlsParty(folder)

    def flood(side, number):
        try:
            for _ in range(200):
                side.sock.sendall(FLOODS["ping"])
        except OSError:
            return True
        return None
    server = upstream(party.secure(None, h2=on_request(flood)))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}\nresponse_timeout = 3s")
    assert gateway.get("/", method="POST", body=b"x").status == 502
