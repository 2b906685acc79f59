"""HTTP/2 to upstreams over plain TCP, by prior knowledge: what goes up and what comes down."""
import threading

import h2.events
import h2.settings
import pytest

from h2_server import answering_h2, speaking_h2
from peers import request_bytes
from waiting import eventually

H2 = "protocol = h2"


def test_a_request_and_its_answer(proxy, upstream):
    server = upstream(speaking_h2(answering_h2(b"hello", headers=[("x-a", "1"), ("x-a", "2")])))
    gateway = proxy(server, upstream=H2)
    response = gateway.get("/path?q=1", "X-Mixed-Case: Value", "Connection: X-Gone", "X-Gone: 1",
                           "Keep-Alive: 5", "TE: trailers, gzip")
    assert (response.status, response.body, response.framing) == (200, b"hello", "length")
    assert response.all("x-a") == ["1", "2"]
    stream = server.h2_requests[0]
    assert stream.headers[:4] == [(":method", "GET"), (":scheme", "http"),
                                  (":authority", "a.example"), (":path", "/path?q=1")]
    assert stream.get("x-mixed-case") == "Value"
    assert stream.get("te") == "trailers"
    for name in ("connection", "x-gone", "keep-alive", "host", "transfer-encoding", "upgrade"):
        assert stream.all(name) == []


def test_connection_is_shared(proxy, upstream):
    held = []
    server = upstream(speaking_h2(lambda side, stream: held.append((side, stream.id))))
    gateway = proxy(server, upstream=H2)
    clients = [gateway.connect() for _ in range(30)]
    for i, client in enumerate(clients):
        client.send(request_bytes(f"/{i}"))
    eventually(lambda: len(held) == 30, "30 requests at the upstream")
    assert len(server.connections) == 1
    for side, number in reversed(held):
        path = side.streams[number].get(":path")
        side.respond(number, 200, body=path.encode())
    for i, client in enumerate(clients):
        assert client.read_response().body == f"/{i}".encode()


def test_stream_limit_is_obeyed(proxy, upstream):
    held = []
    server = upstream(speaking_h2(
        lambda side, stream: held.append((side, stream.id)),
        settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 4}))
    gateway = proxy(server, upstream=H2)
    clients = [gateway.connect() for _ in range(10)]
    for client in clients:
        client.send(request_bytes("/"))
    eventually(lambda: len(held) == 10, "10 requests at the upstream")
    for side, number in held:
        side.respond(number, 200, body=b"ok")
    assert all(client.read_response().body == b"ok" for client in clients)
    assert len(server.connections) == 3
    assert max(side.max_open for side in server.h2_sides) <= 4


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
def test_bodies_both_ways(proxy, upstream, size):
    def echo(side, stream):
        side.respond(stream.id, 200, body=stream.body)
    server = upstream(speaking_h2(echo))
    gateway = proxy(server, upstream=H2)
    body = bytes(i % 251 for i in range(size))
    response = gateway.get("/", method="POST", body=body)
    assert response.complete and response.body == body
    assert server.h2_requests[0].get("content-length") == (str(size) if size else None)
    # The same without a length.
    with gateway.connect() as client:
        client.send(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, size, 50_000):
            piece = body[start:start + 50_000]
            client.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        client.send(b"0\r\nX-Sum: 7\r\n\r\n")
        response = client.read_response("POST")
        assert response.complete and response.body == body
    stream = server.h2_requests[1]
    assert stream.get("content-length") is None and stream.get("transfer-encoding") is None
    assert stream.trailers == [("x-sum", "7")]


def test_trailers_of_the_answer(proxy, upstream):
    server = upstream(speaking_h2(answering_h2(
        b"message", trailers=[("grpc-status", "0"), ("x-last", "1"), ("x-forwarded-for", "9")])))
    gateway = proxy(server, upstream=H2)
    response = gateway.get("/")
    assert (response.body, response.framing, response.complete) == (b"message", "chunked", True)
    assert response.trailers == [("grpc-status", "0"), ("x-last", "1")]


def test_interim_answers(proxy, upstream):
    def handler(side, stream):
        side.h2.send_headers(stream.id, [(":status", "103"), ("link", "</a.css>")])
        side.respond(stream.id, 200, body=b"ok")
    server = upstream(speaking_h2(handler))
    gateway = proxy(server, upstream=H2)
    response = gateway.get("/")
    assert [(one.status, one.get("link")) for one in response.interim] == [(103, "</a.css>")]
    assert response.body == b"ok"


def test_head_and_empty_answers(proxy, upstream):
    def handler(side, stream):
        path = stream.get(":path")
        if path == "/204":
            side.respond(stream.id, 204)
        elif path == "/304":
            side.respond(stream.id, 304, [("etag", '"a"'), ("content-length", "70")])
        elif path == "/end":
            side.respond(stream.id, 200)
        else:
            side.respond(stream.id, 200, [("content-length", "70")])
    server = upstream(speaking_h2(handler))
    gateway = proxy(server, upstream=H2)
    with gateway.connect() as client:
        assert client.get("/204").status == 204
        assert client.get("/304").get("content-length") == "70"
        assert client.get("/end").framing == "length"
        assert client.get("/head", method="HEAD").get("content-length") == "70"
    assert len(server.connections) == 1


def test_both_directions_at_once(proxy, upstream):
    """Each piece that goes up is answered before the next one: neither side's end is waited for."""
    def on_event(side, event):
        if isinstance(event, h2.events.RequestReceived):
            side.respond(event.stream_id, 200, end=False)
        elif isinstance(event, h2.events.DataReceived) and event.data:
            side.send(event.stream_id, b"<" + event.data + b">")
        elif isinstance(event, h2.events.StreamEnded):
            side.send(event.stream_id, b"", True, [("x-end", "yes")])
    server = upstream(speaking_h2(on_event=on_event))
    gateway = proxy(server, upstream=H2)
    with gateway.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert client.read_head().startswith(b"HTTP/1.1 200 ")
        for word in (b"one", b"two", b"three"):
            client.send(b"%x\r\n%s\r\n" % (len(word), word))
            got = client.read_until(b">\r\n")
            assert b"<" + word + b">" in got
        client.send(b"0\r\n\r\n")
        assert client.read_until(b"0\r\nx-end: yes\r\n\r\n")
        gateway.count(1)


def test_early_answer_ends_the_upload(proxy, upstream):
    def on_event(side, event):
        if isinstance(event, h2.events.RequestReceived):
            side.consume = False
            side.respond(event.stream_id, 413, body=b"too much")
            if dict(event.headers)[":method"] == "POST":
                side.reset(event.stream_id, 0)
    server = upstream(speaking_h2(on_event=on_event))
    gateway = proxy(server, upstream=H2)
    with gateway.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        response = client.read_response("POST")
        assert (response.status, response.body) == (413, b"too much")
    assert gateway.get("/").status == 413
    assert len(server.connections) == 1


def test_client_that_leaves_resets_its_stream_alone(proxy, upstream):
    server = upstream(speaking_h2(
        lambda side, stream: stream.get(":path") == "/ok" and
        side.respond(stream.id, 200, body=b"ok")))
    gateway = proxy(server, upstream=H2)
    client = gateway.connect()
    client.send(request_bytes("/wait"))
    eventually(lambda: server.connections and getattr(server, "h2_requests", None), "the request")
    client.reset()
    gateway.count(1)
    eventually(lambda: server.h2_requests[0].reset == 8, "RST_STREAM with CANCEL")
    assert gateway.get("/ok").body == b"ok"
    assert len(server.connections) == 1


def test_slow_client_holds_back_its_stream_alone(proxy, upstream):
    size = 40_000_000
    sent = {}

    def handler(side, stream):
        if stream.get(":path") == "/large":
            side.respond(stream.id, 200, end=False)
            sent["side"] = side
            side.send(stream.id, b"x" * size, True)
        else:
            side.respond(stream.id, 200, body=b"ok")
    server = upstream(speaking_h2(handler))
    gateway = proxy(server, upstream=H2 + "\nh2_window = 64k")
    slow = gateway.connect(receive_buffer=4096)
    slow.send(request_bytes("/large"))
    slow.read_head()
    for _ in range(20):
        assert gateway.get("/").body == b"ok"
    left = len(sent["side"].waiting[1][0])
    assert left > size * 0.5, "the window holds the target back"
    slow.reset()
    gateway.count(1)
    assert len(server.connections) == 1


def test_slow_target_holds_back_the_client(proxy, upstream):
    ready = threading.Event()

    def on_event(side, event):
        if isinstance(event, h2.events.RequestReceived):
            side.consume = False
            ready.set()
    server = upstream(speaking_h2(on_event=on_event))
    gateway = proxy(server, upstream=H2, route="body_max = 1g")
    with gateway.connect() as client:
        client.sock.settimeout(1)
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        ready.wait(10)
        sent = 0
        try:
            while sent < 100_000_000:
                sent += client.sock.send(b"x" * 100_000)
        except (TimeoutError, OSError):
            pass
        assert sent < 20_000_000
        assert len(server.h2_requests[0].body) <= 65_535
    gateway.count(1)


def test_connection_closes_after_its_rest(proxy, upstream):
    server = upstream(speaking_h2(answering_h2()))
    gateway = proxy(server, upstream=H2 + "\nupstream_keepalive_timeout = 200ms")
    assert gateway.get("/").body == b"ok"
    eventually(lambda: not server.threads[0].is_alive(), "the connection is closed")


def test_number_of_requests_on_a_connection(proxy, upstream):
    server = upstream(speaking_h2(answering_h2()))
    gateway = proxy(server, upstream=H2 + "\nupstream_keepalive_requests = 3")
    for _ in range(7):
        assert gateway.get("/").body == b"ok"
    assert len(server.connections) == 3


def test_max_connections_counts_requests(proxy, upstream):
    held = []
    server = upstream(speaking_h2(lambda side, stream: held.append((side, stream.id))))
    gateway = proxy(server, upstream=H2 + "\nmax_connections = 2")
    clients = [gateway.connect() for _ in range(3)]
    for client in clients[:2]:
        client.send(request_bytes("/"))
    eventually(lambda: len(held) == 2, "two requests")
    clients[2].send(request_bytes("/"))
    response = clients[2].read_response()
    assert response.status == 503 and b"targets_busy" in response.body
    for side, number in held:
        side.respond(number, 200, body=b"ok")
    for client in clients[:2]:
        assert client.read_response().body == b"ok"
