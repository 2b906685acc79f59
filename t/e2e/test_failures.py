"""What goes wrong: upstreams that lie, die or stall, and clients that leave."""
import signal
import socket
import threading

import pytest

from gateway import descriptors_of, proxy_config
from peers import Upstream, answering, request_bytes, sending
from waiting import eventually


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def stalling(connection):
    """A script: reads a request and says nothing until the gateway gives up."""
    connection.read_request()
    connection.ended_as = connection.wait_end()


def refused_target():
    """The URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# ---- The client leaves --------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["reset", "close"])
def test_client_gone_before_the_response(proxy, upstream, how):
    server = upstream(stalling)
    gateway = proxy(server, listener="half_close_timeout = 100ms")
    client = gateway.connect()
    client.send(request_bytes())
    server.wait_requests(1)
    getattr(client, how)()
    gateway.count(1)
    server.threads[0].join(20)
    assert not server.threads[0].is_alive(), "the upstream's connection is still there"
    gateway.wait_reason("client_gone")


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_client_gone_during_the_upload(proxy, upstream, how, framing):
    got = []

    def script(connection):
        connection.log = bytearray()
        connection.read_head()
        got.append(connection.wait_end())
    server = upstream(script)
    gateway = proxy(server)
    client = gateway.connect()
    client.send(request_bytes("/", framing, method="POST"))
    client.send(chunk(b"x" * 1000) if "chunked" in framing else b"x" * 1000)
    server.wait_connection()
    getattr(client, how)()
    gateway.count(1)
    eventually(lambda: got, "the upstream's connection ends")
    # A chunked body that was cut short must not end like a whole one.
    assert not server.connections[0].log.endswith(b"\r\n0\r\n\r\n")


def test_client_gone_during_the_download(proxy, upstream):
    ended = []

    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                connection.send(b"x" * 65536)
        except OSError:
            ended.append(True)
    server = upstream(script)
    gateway = proxy(server)
    client = gateway.connect()
    client.send(request_bytes())
    client.read_exact(500_000)
    client.close()
    gateway.count(1)
    eventually(lambda: ended, "the upstream's connection ends")
    gateway.wait_reason("client_gone")


def test_half_closed_client_gets_its_answer(proxy, upstream):
    """As `printf … | nc` does; the upstream takes its time."""
    def script(connection):
        connection.read_request()
        assert connection.quiet(0.2)
        connection.answer(b"late")
        connection.wait_end()
    gateway = proxy(upstream(script), listener="half_close_timeout = 5s")
    with gateway.connect() as client:
        client.send(request_bytes()).half_close()
        assert client.read_response().body == b"late"
        assert client.wait_end() == "end"


def test_half_closed_client_gets_pipelined_answers(proxy, upstream):
    gateway = proxy(upstream(answering(b"x" * 100_000)))
    with gateway.connect() as client:
        client.send(request_bytes() * 5).half_close()
        for _ in range(5):
            assert len(client.read_response().body) == 100_000
        assert client.wait_end() == "end"


def test_half_closed_client_is_given_up(proxy, upstream):
    server = upstream(stalling)
    gateway = proxy(server, listener="half_close_timeout = 200ms")
    with gateway.connect() as client:
        client.send(request_bytes()).half_close()
        gateway.count(1)
        assert client.wait_end() in ("end", "reset")
    server.threads[0].join(20)
    assert not server.threads[0].is_alive()


def test_half_closed_client_is_not_given_up_while_bytes_flow(proxy, upstream):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        for _ in range(8):
            if not connection.quiet(0.1):       # longer in all than half_close_timeout
                return
            connection.send(b"x")
    gateway = proxy(upstream(script), listener="half_close_timeout = 400ms")
    with gateway.connect() as client:
        client.send(request_bytes()).half_close()
        assert client.read_response().body == b"x" * 8


# ---- The upstream lies --------------------------------------------------------------------------

SHORT = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"short"),
    "mid-chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort",
}


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", SHORT)
def test_short_body_is_seen_as_short(proxy, upstream, kind, end):
    gateway = proxy(upstream(sending(SHORT[kind], end=end)))
    with gateway.connect() as client:
        client.send(request_bytes())
        response = client.read_response()
        if response.status == 502:
            return    # a reset may overtake all of it: then nothing was promised
        assert response.status == 200 and not response.complete
        assert b"short".startswith(response.body)
        assert client.ended in ("end", "reset")


def test_short_body_to_http_1_0_ends_in_a_reset(proxy, upstream):
    """Where only the end of the connection ends the body, nothing else can tell."""
    gateway = proxy(upstream(sending(SHORT["chunked"])))
    with gateway.connect() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n")
        response = client.read_response()
        assert response.framing == "close" and not response.complete
        assert client.ended == "reset"


def test_close_delimited_body_cut_by_a_reset(proxy, upstream):
    gate = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nsome")
        assert gate.wait(30)
        connection.reset()
    gateway = proxy(upstream(script))
    with gateway.connect() as client:
        client.send(request_bytes())
        client.read_until(b"some")
        gateway.count(1)
        gate.set()
        assert b"0\r\n\r\n" not in client.read_to_end()


def test_long_body_is_cut_and_its_connection_not_used_again(proxy, upstream):
    server = upstream(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nrightHTTP/1.1 200 OK\r\n"
                              b"Content-Length: 5\r\n\r\nwrong", end="wait"))
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(3):
            assert client.get().body == b"right"
    assert len(server.connections) == 3


def test_excess_after_a_streamed_body(proxy, upstream):
    body = b"r" * 300_000
    server = upstream(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + body +
                              b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", end="wait"))
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(2):
            assert client.get().body == body
    assert len(server.connections) == 2


def test_bytes_on_an_idle_connection_are_nobodys_answer(proxy, upstream):
    first = threading.Event()

    def script(connection):
        connection.read_request()
        connection.answer(b"right")
        if connection.number == 0:
            assert first.wait(30)
            connection.answer(b"wrong")
            connection.ended_as = connection.wait_end()
        else:
            connection.wait_end()
    server = upstream(script)
    gateway = proxy(server)
    with gateway.connect() as client:
        assert client.get().body == b"right"
        first.set()
        server.threads[0].join(20)      # the gateway closes it at once
        assert not server.threads[0].is_alive()
        assert client.get().body == b"right"
    assert len(server.connections) == 2


@pytest.mark.parametrize("end", ["close", "reset"])
def test_no_answer_is_502(proxy, upstream, end):
    server = upstream(sending(b"", end=end))
    response = proxy(server).get()
    assert (response.status, response.code) == (502, "upstream_reset")
    # A connection made for this request is no stale one: nothing is sent twice.
    assert len(server.requests) == 1


@pytest.mark.parametrize("raw, code", [
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "upstream_bad_response"),
    (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", "upstream_bad_response"),
    (b"HTTP/1.1 20 OK\r\n\r\n", "upstream_bad_response"),
    (b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n", "upstream_bad_response"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
     "upstream_bad_response"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "upstream_bad_response"),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", "upstream_head_too_large"),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n", "upstream_head_too_large"),
    (b"HTTP/1.1 200 OK\r\nX: unfinished", "upstream_reset"),
], ids=["ssh", "tls", "status", "name", "lengths", "chunk", "huge", "many", "unfinished"])
def test_garbage_is_502(proxy, upstream, raw, code):
    server = upstream(sending(raw))
    gateway = proxy(server)
    response = gateway.get()
    assert (response.status, response.code) == (502, code)
    server.script = answering(b"sane again")
    assert gateway.get().body == b"sane again"


# ---- Nobody there, or nobody answering ----------------------------------------------------------

def test_refused_connection_is_502(proxy):
    response = proxy(refused_target()).get()
    assert (response.status, response.code) == (502, "upstream_connect_failed")


def test_second_target_is_tried(proxy, upstream):
    server = upstream()
    gateway = proxy(refused_target(), server, refused_target())
    with gateway.connect() as client:
        for _ in range(10):
            assert client.get("/", method="POST", body=b"x").status == 200
    assert len(server.requests) == 10


def test_connect_tries_are_counted(proxy, upstream):
    server = upstream()
    gateway = proxy(refused_target(), server, upstream="connect_tries = 1")
    statuses = [gateway.get().status for _ in range(4)]
    assert sorted(statuses) == [200, 200, 502, 502]


@pytest.fixture
def full_server():
    """A server whose queue is full takes no connection and refuses none. Gives its URL."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        queued = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            queued.append(one)
        yield f"http://127.0.0.1:{full.getsockname()[1]}"
        for one in queued:
            one.close()


def test_connect_timeout_is_504(proxy, full_server):
    response = proxy(full_server, upstream="connect_timeout = 200ms").get()
    assert (response.status, response.code) == (504, "upstream_connect_timeout")


def test_connect_timeout_and_then_the_second_target(proxy, upstream, full_server):
    gateway = proxy(full_server, upstream(), upstream="connect_timeout = 200ms")
    assert gateway.get().status == 200


def test_client_gone_while_connecting(proxy, full_server):
    gateway = proxy(full_server, upstream="connect_timeout = 60s")
    resting = len(descriptors_of(gateway.worker))
    client = gateway.connect()
    client.send(request_bytes())
    eventually(lambda: len(descriptors_of(gateway.worker)) == resting + 2, "it connects")
    client.reset()
    gateway.count(1)
    gateway.wait_descriptors()
    gateway.wait_reason("client_gone")


def test_no_continue_where_nobody_takes_the_body(proxy):
    gateway = proxy(refused_target())
    with gateway.connect() as client:
        client.send(request_bytes("/", "Expect: 100-continue", "Content-Length: 5",
                                  method="POST"))
        response = client.read_response()
        assert response.status == 502 and response.interim == []
        # Nobody knows whether the body will come: nothing after it could be told from it.
        assert response.get("Connection") == "close"


@pytest.mark.parametrize("body", [b"", b"body"], ids=["get", "post"])
def test_response_timeout_is_504(proxy, upstream, body):
    server = upstream(stalling)
    gateway = proxy(server, upstream="response_timeout = 200ms")
    response = gateway.get("/", method="POST" if body else "GET", body=body)
    assert (response.status, response.code) == (504, "upstream_timeout")
    server.threads[0].join(20)
    assert not server.threads[0].is_alive() and len(server.requests) == 1


def test_response_timeout_counts_from_the_end_of_the_upload(proxy, upstream):
    """A slow upload is no slow answer."""
    server = upstream()
    gateway = proxy(server, upstream="response_timeout = 300ms")
    with gateway.connect() as client:
        client.send(request_bytes("/", "Content-Length: 8", method="POST"))
        for _ in range(8):
            assert client.quiet(0.1)
            client.send(b"x")
        assert client.read_response().status == 200


def test_slow_head_of_a_response_is_504(proxy, upstream):
    """Bytes now and then do not extend the time for the head."""
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\n")
        while connection.quiet(0.05):
            connection.send(b"X: y\r\n")
    response = proxy(upstream(script), upstream="response_timeout = 400ms").get()
    assert (response.status, response.code) == (504, "upstream_timeout")


def test_read_timeout_cuts_the_body(proxy, upstream):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.wait_end()
    gateway = proxy(upstream(script), upstream="read_timeout = 200ms")
    response = gateway.get()
    assert response.status == 200 and response.body == b"half" and not response.complete


def test_upstream_that_takes_nothing(proxy, upstream):
    def script(connection):
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.read_until(b"\r\n\r\n")
        gone.wait(30)
    gone = threading.Event()
    server = upstream(script)
    gateway = proxy(server, upstream="upstream_write_timeout = 200ms", route="body_max = 100m")
    try:
        with gateway.connect() as client:
            size = 50_000_000
            client.send(request_bytes("/", f"Content-Length: {size}", method="PUT"))
            sender = threading.Thread(target=send_what_goes, args=(client, size), daemon=True)
            sender.start()
            response = client.read_response()
            assert response.status == 504
            client.sock.shutdown(socket.SHUT_RDWR)
            sender.join(30)
    finally:
        gone.set()


def send_what_goes(client, size):
    try:
        client.send(b"x" * size)
    except OSError:
        pass


# ---- Trying again -------------------------------------------------------------------------------

def dying(answers=1):
    """A script: answers so many requests, reads one more and closes without a word. Later
    connections go on answering."""
    def script(connection):
        for _ in range(answers if connection.number == 0 else 1000):
            connection.read_request()
            connection.answer(b"fine")
        connection.read_request()
    return script


def test_get_is_sent_again_when_the_kept_connection_dies(proxy, upstream):
    server = upstream(dying())
    gateway = proxy(server)
    with gateway.connect() as client:
        assert client.get("/1").body == b"fine"
        assert client.get("/2").body == b"fine"
    assert [r.target for r in server.requests] == ["/1", "/2", "/2"]


def test_put_with_a_short_body_is_sent_again(proxy, upstream):
    server = upstream(dying())
    gateway = proxy(server)
    with gateway.connect() as client:
        assert client.get("/1").body == b"fine"
        assert client.get("/2", method="PUT", body=b"all of it").body == b"fine"
    assert [r.body for r in server.requests] == [b"", b"all of it", b"all of it"]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_put_with_a_body_in_pieces_is_not_sent_again(proxy, upstream, framing):
    """The first piece is gone when the connection dies: nothing else may be sent for it."""
    def script(connection):
        connection.read_request()
        connection.answer(b"fine")
        connection.log = bytearray()
        connection.read_until(b"first-half")
        if connection.number != 0:
            connection.wait_end()
    server = upstream(script)
    gateway = proxy(server)
    with gateway.connect() as client:
        assert client.get("/1").body == b"fine"
        client.send(request_bytes("/2", "Content-Length: 20" if framing == "length" else
                                  "Transfer-Encoding: chunked", method="PUT"))
        client.send(b"first-half" if framing == "length" else chunk(b"first-half"))
        server.threads[0].join(20)
        response = client.read_response()
        assert (response.status, response.code) == (502, "upstream_reset")
    assert len(server.connections) == 1


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_post_is_never_sent_again(proxy, upstream, method):
    server = upstream(dying())
    gateway = proxy(server)
    with gateway.connect() as client:
        assert client.get("/1").body == b"fine"
        response = client.get("/2", method=method, body=b"once")
        assert (response.status, response.code) == (502, "upstream_reset")
    assert [r.target for r in server.requests] == ["/1", "/2"]


def test_post_without_a_body_is_never_sent_again(proxy, upstream):
    server = upstream(dying())
    gateway = proxy(server)
    with gateway.connect() as client:
        client.get("/1")
        assert client.get("/2", "Content-Length: 0", method="POST").status == 502
    assert [r.target for r in server.requests] == ["/1", "/2"]


def test_sent_again_only_once(proxy, upstream):
    """And on a new connection, not on the next stale one."""
    def script(connection):
        if connection.number < 2:
            connection.read_request()
            connection.answer(b"fine")
        connection.read_request()
    server = upstream(script)
    gateway = proxy(server)
    held = threading.Barrier(2)

    def two_at_once(connection):
        connection.read_request()
        held.wait(30)
        connection.answer(b"fine")
        connection.read_request()
    server.script = two_at_once
    clients = [gateway.connect() for _ in range(2)]
    for client in clients:
        client.send(request_bytes("/first"))
    for client in clients:
        assert client.read_response().body == b"fine"
    server.script = lambda connection: connection.read_request()
    assert clients[0].get("/again").code == "upstream_reset"
    assert [r.target for r in server.requests].count("/again") == 2
    assert len(server.connections) == 3


def test_post_is_sent_again_where_nothing_was_accepted(proxy, upstream):
    """The worker finds the request and the reset of its kept connection at the same moment."""
    reset = threading.Event()

    def script(connection):
        connection.read_request()
        connection.answer(b"fine")
        if connection.number == 0:
            assert reset.wait(30)
            connection.reset()
            return
        connection.wait_end()
    server = upstream(script)
    gateway = proxy(server)
    with gateway.connect() as client:
        assert client.get("/1").body == b"fine"
        gateway.send_signal(signal.SIGSTOP, gateway.worker)
        try:
            client.send(request_bytes("/2", method="POST", body=b"once"))
            reset.set()
            server.threads[0].join(20)
        finally:
            gateway.send_signal(signal.SIGCONT, gateway.worker)
        assert client.read_response().body == b"fine"
    assert [r.target for r in server.requests] == ["/1", "/2"]


def test_answer_begun_is_never_asked_for_again(proxy, upstream):
    def script(connection):
        connection.read_request()
        connection.answer(b"fine")
        connection.read_request()
        connection.send(b"HTTP/1.1 2")
    server = upstream(script)
    gateway = proxy(server)
    with gateway.connect() as client:
        client.get("/1")
        assert client.get("/2").status == 502
    assert len(server.requests) == 2


# ---- Which target, which connection -------------------------------------------------------------

def test_weighted_round_robin(gateway, upstream):
    servers = [upstream() for _ in range(3)]
    weights = (5, 2, 1)
    one = gateway(proxy_config(*(f"{s.target} weight {w}" for s, w in zip(servers, weights))))
    with one.connect() as client:
        for _ in range(80):
            client.get()
    assert [len(s.requests) for s in servers] == [50, 20, 10]


def test_kept_connections_have_a_cap_on_requests(proxy, upstream):
    server = upstream()
    gateway = proxy(server, upstream="upstream_keepalive_requests = 3")
    with gateway.connect() as client:
        for _ in range(9):
            assert client.get().status == 200
    assert [len(c.requests) for c in server.connections] == [3, 3, 3]


def test_kept_connections_rest_only_so_long(proxy, upstream):
    server = upstream(answering(b"ok"))
    gateway = proxy(server, upstream="upstream_keepalive_timeout = 150ms")
    gateway.get()
    server.threads[0].join(20)
    assert not server.threads[0].is_alive(), "the idle connection is not closed"
    assert gateway.get().status == 200


def test_kept_connections_have_an_age(proxy, upstream):
    def script(connection):
        while True:
            connection.read_request()
            assert connection.quiet(0.15)
            connection.answer(b"ok")
    server = upstream(script)
    gateway = proxy(server, upstream="keepalive_age = 100ms")
    with gateway.connect() as client:
        for _ in range(3):
            client.get()
    assert len(server.connections) == 3


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_number_of_kept_connections(proxy, upstream, kept):
    together = threading.Barrier(4)

    def script(connection):
        while True:
            connection.read_request()
            together.wait(30)
            connection.answer(b"ok")
    server = upstream(script)
    gateway = proxy(server, upstream=f"keepalive = {kept}")
    clients = [gateway.connect() for _ in range(4)]
    for client in clients:
        client.send(request_bytes())
    for client in clients:
        client.read_response()
    eventually(lambda: sum(t.is_alive() for t in server.threads) == kept,
               lambda: f"{kept} stay, there are {sum(t.is_alive() for t in server.threads)}")


def test_connection_close_of_the_upstream(proxy, upstream):
    server = upstream(answering(b"ok", "Connection: close"))
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(3):
            assert client.get().get("Connection") is None
    assert len(server.connections) == 3


# ---- Addresses ----------------------------------------------------------------------------------

def test_ipv6_and_unix_both_sides(gateway, upstream, folder):
    servers = {"six": Upstream(answering(b"six"), host="::1"),
               "unix": Upstream(answering(b"unix"), path=f"{folder}/target")}
    config = f"[listener public]\naddress = [::1]:0 unix:{folder}/listener 127.0.0.1:0\n"
    for name, server in servers.items():
        upstream.made.append(server)
        config += f"[route {name}]\nlistener = public\nhost = {name}.example\n" \
                  f"upstream = {server.target}\n"
    one = gateway(config)
    assert len(one.addresses["public"]) == 3
    for number in range(3):
        for name in servers:
            with one.connect("public", number) as client:
                client.send(request_bytes("/", "X-Forwarded-For: 9.9.9.9", host=f"{name}.example"))
                assert client.read_response().body == name.encode()
    for server in servers.values():
        told = [r.get("X-Forwarded-For") for r in server.requests]
        assert told[0] == "::1" and told[2] == "127.0.0.1" and told[1] in (None, "unix")
