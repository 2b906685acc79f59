"""Messages: interim responses, expectations, framing of bodies both ways, fields that go or stay."""
import os
import threading

import pytest

from peers import answering, request_bytes, sending

BIG = os.urandom(1 << 20)


# ---- Interim responses --------------------------------------------------------------------------

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"


def test_early_hints_are_passed_on(proxy, upstream):
    gate = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(HINTS)
        assert gate.wait(30)
        connection.answer(b"done")
        connection.wait_end()
    gateway = proxy(upstream(script))
    with gateway.connect() as client:
        client.send(request_bytes())
        head = client.read_head()           # it comes at once, not with the final response
        gate.set()
        assert head == HINTS
        assert client.read_response().body == b"done"


def test_continue_of_the_upstream_is_swallowed(proxy, upstream):
    gateway = proxy(upstream(sending(b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS +
                                     b"HTTP/1.1 100 Continue\r\n\r\n" +
                                     b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
    response = gateway.get()
    assert response.body == b"ok" and [r.status for r in response.interim] == [103]


def test_interim_responses_are_not_for_http_1_0(proxy, upstream):
    gateway = proxy(upstream(sending(HINTS + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
    with gateway.connect() as client:
        response = client.request(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        assert response.body == b"ok" and response.interim == []


def test_endless_interim_responses_are_refused(proxy, upstream):
    server = upstream(lambda c: [c.read_request()] + [c.send(HINTS) for _ in range(1000)])
    response = proxy(server).get()
    assert (response.status, response.code) == (502, "upstream_bad_response")
    assert len(response.interim) == 16


@pytest.mark.parametrize("raw", [
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
], ids=["with-length", "unasked-101"])
def test_bad_interim_responses_are_refused(proxy, upstream, raw):
    assert proxy(upstream(sending(raw))).get().code == "upstream_bad_response"


# ---- Expect -------------------------------------------------------------------------------------

def test_expect_continue_raw(proxy, upstream):
    server = upstream(lambda c: [c.answer(c.read_request().body) for _ in range(2)])
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(2):
            client.send(request_bytes("/", "Expect: 100-continue", "Content-Length: 5",
                                      method="POST"))
            assert client.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"hello")
            assert client.read_response().body == b"hello"
    assert not server.requests[0].has("Expect")


def test_expect_continue_curl(proxy, upstream, folder):
    server = upstream(lambda c: c.answer(b"%d" % len(c.read_request().body)))
    gateway = proxy(server)
    path = os.path.join(folder, "big")
    with open(path, "wb") as file:
        file.write(BIG)
    run = gateway.curl("-v", "-H", "Expect: 100-continue", "--expect100-timeout", "30",
                       "--data-binary", "@" + path, gateway.url())
    assert run.stdout == b"%d" % len(BIG), run.stderr
    assert b"100 Continue" in run.stderr


def test_body_sent_without_waiting_gets_no_continue(proxy, upstream):
    gateway = proxy(upstream(lambda c: c.answer(c.read_request().body)))
    response = gateway.get("/", "Expect: 100-continue", method="POST", body=b"here already")
    assert response.body == b"here already" and response.interim == []


def test_expected_body_too_large_gets_413_and_no_continue(proxy, upstream):
    server = upstream()
    gateway = proxy(server, route="body_max = 1k")
    with gateway.connect() as client:
        client.send(request_bytes("/", "Expect: 100-continue", "Content-Length: 1025",
                                  method="POST"))
        response = client.read_response()
        assert (response.status, response.code) == (413, "body_too_large")
        assert response.interim == [] and response.get("Connection") == "close"
        client.half_close()
        assert client.wait_end() == "end"
    assert server.connections == []


def test_other_expectations_get_417(proxy, upstream):
    server = upstream()
    gateway = proxy(server)
    response = gateway.get("/", "Expect: 200-ok", method="POST", body=b"x")
    assert (response.status, response.code) == (417, "unsupported_expectation")
    assert server.connections == []


def test_answer_that_overtakes_a_stuck_continue(proxy, upstream, folder):
    """The 100 (Continue) cannot be written because the client reads nothing, and meanwhile the
    upstream answers: one after the other must reach the client. The first response grows until the
    gateway's send buffer is full behind it; each write to a Unix socket needs room of its own."""
    answered = threading.Semaphore(0)

    def script(connection):
        request = connection.read_request(body=False)
        if request.method == "GET":
            connection.answer(b"x" * int(request.target[1:]), "Connection: close")
        else:
            connection.answer(b"early", "Connection: close")
            connection.wait_taken()
            answered.release()
            connection.wait_end()
    gateway = proxy(upstream(script), listener=f"address = unix:{folder}/listener")
    gateway.sent = None
    worker = gateway.worker
    expecting = request_bytes("/post", "Expect: 100-continue", "Content-Length: 5", method="POST")
    for size in range(100_000, 400_000, 4096):
        with gateway.connect() as client:
            client.send(request_bytes(f"/{size}") + expecting)
            arrived = answered.acquire(timeout=1)
            assert client.read_response().body == b"x" * size
            response = client.read_response()
            assert response.body == b"early"
            assert [r.status for r in response.interim] in ([], [100])
        if not arrived:
            break       # now the first response itself does not fit
    else:
        raise AssertionError("the send buffer was never full")
    assert gateway.worker == worker, "the worker died"


# ---- Bodies -------------------------------------------------------------------------------------

def echo(connection):
    while True:
        connection.answer(connection.read_request().body)


@pytest.mark.parametrize("body", [b"x", BIG], ids=["one-byte", "1MiB"])
def test_length_both_ways(proxy, upstream, body):
    server = upstream(echo)
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(2):
            response = client.get("/", method="POST", body=body)
            assert response.framing == "length" and response.body == body
    assert server.requests[0].framing == "length" and len(server.connections) == 1


def test_zero_length_is_passed_on(proxy, upstream):
    server = upstream()
    assert proxy(server).get("/", "Content-Length: 0", method="POST").status == 200
    assert server.requests[0].get("Content-Length") in ("0", None)


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_chunked_upload_with_trailers(proxy, upstream):
    server = upstream(echo)
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(2):
            client.send(request_bytes("/", "Transfer-Encoding: chunked", method="POST"))
            for piece in (b"a", b"bc" * 1000, b"d" * 100_000):
                client.send(chunk(piece))
            client.send(b"0\r\nX-Sum: 12\r\nContent-Length: 3\r\nHost: evil\r\n\r\n")
            assert client.read_response().body == b"a" + b"bc" * 1000 + b"d" * 100_000
    for request in server.requests:
        assert request.framing == "chunked"
        # What could change the message's meaning is no trailer (RFC 9110 section 6.5.1).
        assert request.trailers == [("X-Sum", "12")]
    assert len(server.connections) == 1


def test_chunks_cut_at_each_byte(proxy, upstream):
    gateway = proxy(upstream(echo))
    raw = request_bytes("/", "Transfer-Encoding: chunked", method="POST") + \
        b"5;name=value\r\nhello\r\n00006\r\n world\r\n0\r\nA: b\r\n\r\n"
    start = raw.index(b"\r\n\r\n")
    with gateway.connect() as client:
        for cut in range(start, len(raw)):
            client.send(raw[:cut])
            client.send(raw[cut:])
            assert client.read_response().body == b"hello world", cut


def chunked_response(*pieces, trailers=b""):
    return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
            b"".join(map(chunk, pieces)) + b"0\r\n" + trailers + b"\r\n")


PIECES = (b"one", b"two" * 5000, BIG[:200_000])


def test_chunked_response_with_trailers(proxy, upstream):
    def script(connection):
        for _ in range(2):
            connection.read_request()
            connection.send(chunked_response(*PIECES, trailers=b"X-Sum: 7\r\nSet-Cookie: a=b\r\n"))
        connection.wait_end()
    server = upstream(script)
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(2):
            response = client.get("/", "TE: trailers")
            assert response.framing == "chunked" and response.body == b"".join(PIECES)
            assert ("X-Sum", "7") in response.trailers
            assert "Set-Cookie" not in dict(response.trailers)
    assert len(server.connections) == 1


def test_chunked_response_trickles_through(proxy, upstream):
    """Each piece arrives before the next one is sent: nothing is held back."""
    turn = threading.Semaphore(0)

    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                        b"Content-Type: text/event-stream\r\n\r\n")
        for number in range(5):
            assert turn.acquire(timeout=30)
            connection.send(chunk(b"data: %d\n\n" % number))
        connection.send(b"0\r\n\r\n")
    gateway = proxy(upstream(script))
    with gateway.connect() as client:
        client.send(request_bytes())
        client.read_head()
        for number in range(5):
            turn.release()
            assert client.read_until(b"\n\n\r\n").endswith(b"data: %d\n\n\r\n" % number)
        assert client.read_exact(5) == b"0\r\n\r\n"
    gateway.count(1)


def test_close_delimited_response(proxy, upstream):
    server = upstream(sending(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n" + BIG))
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(2):                   # chunked to HTTP/1.1: the connection stays
            response = client.get()
            assert response.framing == "chunked" and response.body == BIG and response.complete
        client.send(b"GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n")
        response = client.read_response()    # to HTTP/1.0 it ends with the connection
        assert response.framing == "close" and response.body == BIG and client.ended == "end"
        assert response.get("Connection") == "close"


def test_http_1_0_upstream(proxy, upstream):
    server = upstream(sending(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", end="wait"))
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(2):
            response = client.get()
            assert response.body == b"ok" and response.version == "HTTP/1.1"
    assert len(server.connections) == 2      # it did not say keep-alive


# ---- HTTP/1.0 clients, forms of the target ------------------------------------------------------

def test_http_1_0_client(proxy, upstream):
    server = upstream(sending(chunked_response(b"abc", b"def"), end="wait"))
    gateway = proxy(server)
    with gateway.connect() as client:
        response = client.request(b"GET / HTTP/1.0\r\n\r\n")
        assert response.body == b"abcdef" and response.framing == "close"
    request, = server.requests
    assert request.version == "HTTP/1.1"
    assert request.get("Host") == server.target.removeprefix("http://")


def test_http_1_0_client_with_keep_alive(proxy, upstream):
    gateway = proxy(upstream(answering(b"kept")))
    with gateway.connect() as client:
        for _ in range(3):
            response = client.request(b"GET / HTTP/1.0\r\nHost: a.example\r\n"
                                      b"Connection: keep-alive\r\n\r\n")
            assert response.body == b"kept"
            assert response.get("Connection").lower() == "keep-alive"
        assert client.request(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").get("Connection") == "close"
        assert client.wait_end() == "end"


def test_absolute_form(proxy, upstream):
    server = upstream()
    gateway = proxy(server)
    with gateway.connect() as client:
        client.request(b"GET http://b.example:8080/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert server.requests[0].start_line == "GET /x?y HTTP/1.1"
    assert server.requests[0].get("Host") == "b.example:8080"


def test_asterisk_form(proxy, upstream):
    server = upstream()
    gateway = proxy(server)
    response = gateway.get("*", method="OPTIONS")
    assert response.status in (200, 404)
    assert [r.target for r in server.requests] in (["*"], [])


# ---- Answers that come before the body is there -------------------------------------------------

def test_early_reply_small_rest_is_read(proxy, upstream):
    """The connection lives on: what is left of the body is read and thrown away."""
    server = upstream(lambda c: [c.read_request(body=False), c.answer(b"no need"), c.wait_end()])
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(2):
            client.send(request_bytes("/", "Content-Length: 1000", method="POST") + b"x" * 500)
            response = client.read_response()
            assert response.body == b"no need" and response.get("Connection") is None
            client.send(b"y" * 500)
    # A connection with half a request on it serves nobody else.
    assert len(server.connections) == 2


def test_early_reply_large_rest_is_not_read(proxy, upstream):
    server = upstream(lambda c: [c.read_request(body=False), c.answer(b"no need"), c.wait_end()])
    gateway = proxy(server)
    with gateway.connect() as client:
        client.send(request_bytes("/", "Content-Length: 1000000", method="PUT") + b"x" * 500)
        response = client.read_response()
        assert response.body == b"no need" and response.get("Connection") == "close"
        client.half_close()
        assert client.wait_end() == "end"


def test_early_reply_of_an_upstream_that_closes(proxy, upstream):
    """Its reset, caused by the unread body, must not overtake its answer."""
    server = upstream(lambda c: [c.read_request(body=False),
                                 c.answer(b"denied", "Connection: close",
                                          status="413 Content Too Large")])
    gateway = proxy(server)
    for _ in range(20):
        with gateway.connect() as client:
            client.send(request_bytes("/", "Content-Length: 300000", method="POST"))
            try:
                client.send(b"x" * 300_000)
            except (BrokenPipeError, ConnectionResetError):
                pass
            response = client.read_response()
            assert (response.status, response.body) == (413, b"denied")


def test_both_bodies_at_once(proxy, upstream):
    """The upstream answers each piece of the body as it comes."""
    def script(connection):
        connection.read_head()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            size = int(connection.read_until(b"\r\n")[:-2], 16)
            data = connection.read_exact(size + 2)[:-2]
            if not size:
                break
            connection.send(chunk(data.upper()))
        connection.send(b"0\r\n\r\n")
    gateway = proxy(upstream(script))
    with gateway.connect() as client:
        client.send(request_bytes("/", "Transfer-Encoding: chunked", method="POST"))
        client.send(chunk(b"first"))
        client.read_head()
        for word in (b"first", b"second", b"third"):
            if word != b"first":
                client.send(chunk(word))
            assert client.read_until(b"%x\r\n" % len(word)) and \
                client.read_exact(len(word) + 2) == word.upper() + b"\r\n"
        client.send(b"0\r\n\r\n")
        assert client.read_exact(5) == b"0\r\n\r\n"
    gateway.count(1)


# ---- Fields -------------------------------------------------------------------------------------

def test_hop_by_hop_fields_of_requests(proxy, upstream):
    server = upstream()
    gateway = proxy(server)
    gateway.get("/", "Connection: X-Private, keep-alive", "X-Private: 1", "Keep-Alive: timeout=5",
                "Proxy-Connection: keep-alive", "TE: trailers, gzip", "Upgrade: h2c",
                "X-Public: 2", "Accept: a", "Accept: b", "cookie: c=d")
    request, = server.requests
    for name in ("X-Private", "Keep-Alive", "Proxy-Connection", "Upgrade"):
        assert not request.has(name), name
    assert request.get("X-Public") == "2" and request.all("Accept") == ["a", "b"]
    assert ("cookie", "c=d") in request.fields       # names keep their spelling
    assert request.get("TE") == "trailers" and request.get("Connection") == "TE"


def test_hop_by_hop_fields_of_responses(proxy, upstream):
    gateway = proxy(upstream(sending(
        b"HTTP/1.1 203 Fine By Me\r\nConnection: close, X-Private\r\nX-Private: 1\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTrailer: X-Sum\r\n"
        b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Content-Length: 2\r\n\r\nok")))
    with gateway.connect() as client:
        response = client.get()
        assert response.status == 203 and response.body == b"ok"
        for name in ("X-Private", "Keep-Alive", "Proxy-Connection", "Upgrade", "Connection"):
            assert not response.has(name), name
        assert response.all("Set-Cookie") == ["a=b", "c=d"]
        assert response.get("Date") == "Thu, 01 Jan 1970 00:00:00 GMT"
        assert client.get().status == 203


@pytest.mark.parametrize("option", ["Content-Length", "Host", "Transfer-Encoding"])
def test_connection_may_not_take_framing_away(proxy, upstream, option):
    server = upstream()
    response = proxy(server).get("/", f"Connection: {option}", method="POST", body=b"x")
    assert (response.status, response.code) == (400, "bad_connection")
    assert server.connections == []


def test_error_replies_to_browsers_are_pages(proxy, upstream):
    server = upstream()
    server.close()
    response = proxy(server).get("/", "Accept: text/html,application/xhtml+xml")
    assert response.status == 502 and response.get("Content-Type").startswith("text/html")
    assert b"upstream_connect_failed" in response.body
    assert response.get("Cache-Control") == "no-store"
