"""Every limit and timeout that a client can meet."""
import signal
import time

import pytest

from gateway import SANITIZED, proxy_config
from peers import Gone, answering, request_bytes
from waiting import eventually


def get_with(gateway, raw):
    with gateway.connect() as client:
        try:
            client.send(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass
        response = client.read_response()
        client.half_close()
        assert client.wait_end() == "end"
        return response.status, response.code


def head_of(size):
    start, end = b"GET / HTTP/1.1\r\nHost: a.example\r\nX: ", b"\r\n\r\n"
    return start + b"y" * (size - len(start) - len(end)) + end


def test_head_max(proxy, upstream):
    server = upstream()
    gateway = proxy(server, listener="head_max = 2k")
    with gateway.connect() as client:
        client.send(head_of(2048))
        assert client.read_response().status == 200
    assert get_with(gateway, head_of(2049)) == (431, "head_too_large")
    assert get_with(gateway, head_of(1_000_000)) == (431, "head_too_large")
    assert get_with(gateway, head_of(2048)[:-4] + b"z" * 5000) == (431, "head_too_large")
    assert len(server.requests) == 1


def test_large_heads_both_ways(proxy, upstream):
    """As large as the limits can be set, on a connection that is kept."""
    big = "v" * 59_000
    server = upstream(answering(b"ok", "X-Big: " + big))
    gateway = proxy(server, listener="head_max = 60k", upstream="response_head_max = 60k")
    with gateway.connect() as client:
        for _ in range(3):
            assert client.get("/", "X-Big: " + big).get("X-Big") == big
    assert server.requests[2].get("X-Big") == big


def test_fields_max(proxy, upstream):
    gateway = proxy(upstream(), listener="fields_max = 10")
    lines = [f"X-{n}: y" for n in range(10)]
    assert gateway.get("/", *lines[:9]).status == 200      # and Host
    assert get_with(gateway, request_bytes("/", *lines)) == (431, "too_many_fields")


def test_target_max(proxy, upstream):
    gateway = proxy(upstream(), listener="target_max = 100")
    assert gateway.get("/" + "x" * 99).status == 200
    assert get_with(gateway, request_bytes("/" + "x" * 100)) == (414, "target_too_long")


def test_body_max_by_length(proxy, upstream):
    server = upstream(lambda c: c.answer(b"%d" % len(c.read_request().body)))
    gateway = proxy(server, route="body_max = 1k")
    assert gateway.get("/", method="POST", body=b"x" * 1024).body == b"1024"
    raw = request_bytes("/", method="POST", body=b"x" * 1025)
    assert get_with(gateway, raw) == (413, "body_too_large")
    with gateway.connect() as client:
        # A little of a refused body is read, to keep the connection; much is not.
        client.send(raw)
        assert client.read_response().get("Connection") is None
        assert client.get("/", method="POST", body=b"fits").body == b"4"
        client.send(request_bytes("/", "Content-Length: 100000000", method="POST"))
        assert client.read_response().get("Connection") == "close"
    assert len(server.connections) == 2      # refused before the upstream heard of it


def test_body_max_by_chunks(proxy, upstream):
    def script(connection):
        connection.answer(b"%d" % len(connection.read_request().body))
    server = upstream(script)
    gateway = proxy(server, route="body_max = 1k")
    head = request_bytes("/", "Transfer-Encoding: chunked", method="POST")
    piece = b"200\r\n" + b"x" * 512 + b"\r\n"
    with gateway.connect() as client:
        assert client.request(head, piece * 2 + b"0\r\n\r\n").body == b"1024"
    assert get_with(gateway, head + piece * 2 + b"1\r\nx\r\n0\r\n\r\n") == (413, "body_too_large")
    assert get_with(gateway, head + piece * 1000) == (413, "body_too_large")
    # What the upstream got of it had no end.
    assert len(server.requests) == 1


def test_body_max_zero(proxy, upstream):
    gateway = proxy(upstream(), route="body_max = 0")
    assert gateway.get().status == 200
    assert get_with(gateway, request_bytes("/", method="POST", body=b"x"))[0] == 413


def test_silent_connection_is_closed(proxy, upstream):
    gateway = proxy(upstream(), listener="header_timeout = 200ms")
    with gateway.connect() as client:
        assert client.read_to_end() == b""       # no request, no answer


def test_slow_head_is_408(proxy, upstream):
    """A byte now and then does not extend the time."""
    server = upstream()
    gateway = proxy(server, listener="header_timeout = 300ms")
    with gateway.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n")
        started = time.monotonic()
        while client.quiet(0.02):
            client.send(b"X")
            assert time.monotonic() - started < 20, "the slow head goes on and on"
        response = client.read_response()
        assert (response.status, response.code) == (408, "head_timeout")
    assert server.connections == []


def test_slow_second_head_is_408(proxy, upstream):
    gateway = proxy(upstream(), listener="header_timeout = 200ms\nkeepalive_timeout = 10s")
    with gateway.connect() as client:
        assert client.get().status == 200
        client.send(b"GET / HT")
        assert client.read_response().code == "head_timeout"


def test_slow_body_is_408(proxy, upstream):
    def script(connection):
        connection.read_head()
        connection.wait_end()
    server = upstream(script)
    gateway = proxy(server, route="body_timeout = 200ms")
    with gateway.connect() as client:
        client.send(request_bytes("/", "Content-Length: 100", method="POST") + b"some")
        response = client.read_response()
        assert (response.status, response.code) == (408, "body_timeout")
    server.threads[0].join(20)
    assert not server.threads[0].is_alive(), "the upstream's connection is still there"


def test_body_timeout_begins_anew_with_each_byte(proxy, upstream):
    gateway = proxy(upstream(lambda c: c.answer(c.read_request().body)),
                    route="body_timeout = 400ms")
    with gateway.connect() as client:
        client.send(request_bytes("/", "Content-Length: 10", method="POST"))
        for _ in range(10):
            assert client.quiet(0.08)
            client.send(b"x")
        assert client.read_response().body == b"x" * 10


def test_keepalive_timeout(proxy, upstream):
    gateway = proxy(upstream(), listener="keepalive_timeout = 200ms")
    with gateway.connect() as client:
        assert client.get().status == 200
        assert client.wait_end() == "end"


def test_keepalive_timeout_is_not_the_header_timeout(proxy, upstream):
    gateway = proxy(upstream(), listener="header_timeout = 100ms\nkeepalive_timeout = 30s")
    with gateway.connect() as client:
        assert client.get().status == 200
        assert client.quiet(0.4)
        assert client.get().status == 200


def test_keepalive_requests(proxy, upstream):
    gateway = proxy(upstream(), listener="keepalive_requests = 3")
    with gateway.connect() as client:
        # Four at once: the last one is not answered.
        client.send(request_bytes() * 4)
        said = [client.read_response().get("Connection") for _ in range(3)]
        assert said == [None, None, "close"]
        with pytest.raises(Gone):
            client.read_head()


def endless(connection):
    """A script: a body of which there is always more; tells when the gateway has given up."""
    connection.read_request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    while True:
        connection.send(b"x" * 262_144)


def test_write_timeout(proxy, upstream):
    """A client that reads nothing is dropped, and with it the upstream's side."""
    server = upstream(endless)
    gateway = proxy(server, listener="write_timeout = 300ms")
    client = gateway.connect(receive_buffer=4096)
    client.send(request_bytes())
    server.wait_requests(1)
    server.threads[0].join(25)
    assert not server.threads[0].is_alive(), "the gateway goes on for a client that reads nothing"
    gateway.count(1)
    client.drain()
    assert client.received < 1000000000000
    gateway.wait_reason("write_timeout")


def test_write_timeout_begins_anew_with_each_byte(proxy, upstream):
    server = upstream(answering(b"x" * 2_000_000))
    gateway = proxy(server, listener="write_timeout = 1500ms")
    with gateway.connect(receive_buffer=4096) as client:
        client.send(request_bytes())
        started = time.monotonic()
        # Slow, but never for long without reading.
        while time.monotonic() - started < 2.5:
            time.sleep(0.05)
            client.fill(4096)
        response = client.read_response()
        assert len(response.body) == 2_000_000 and response.complete


def test_linger_timeout(proxy, upstream):
    """A refused client that goes on sending is read for a while only."""
    gateway = proxy(upstream(), listener="linger_timeout = 300ms", route="body_max = 1k")
    with gateway.connect() as client:
        client.send(request_bytes("/", "Content-Length: 100000000", method="POST"))
        assert client.read_response().status == 413
        started = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                client.send(b"x" * 1000)
                client.quiet(0.01)
                assert time.monotonic() - started < 20, "the gateway reads on and on"


def test_connections_max(gateway, upstream):
    server = upstream()
    one = gateway(f"""
[workers default]
count           = 1
connections_max = 4
[listener public]
address = 127.0.0.1:0
[route all]
listener = public
upstream = {server.target}
""", workers=None)
    clients = [one.connect() for _ in range(4)]
    for client in clients:
        assert client.get().status == 200
    for _ in range(3):
        with one.connect() as refused:
            response = refused.read_response(counted=False)
            assert (response.status, response.code) == (503, "connection_limit")
            assert response.get("Retry-After") == "1"
            assert refused.wait_end() == "end"
    for client in clients:
        assert client.get().status == 200        # those that there are go on
    clients[0].close()

    def recovered():
        with one.connect() as client:
            try:
                client.send(request_bytes())
                response = client.read_response(counted=False)
            except (Gone, OSError):
                return False
            if response.status == 200:
                one.count(1)
            return response.status == 200
    eventually(recovered, "a free place is given to somebody else")
    for client in clients:
        client.close()      # room for the check of the metrics
    eventually(recovered, "the places are free")


def test_refused_connection_sees_its_answer(gateway, upstream):
    """Also where its request is there already: a reset must not overtake the 503."""
    server = upstream()
    one = gateway(f"""
[workers default]
count           = 1
connections_max = 1
[listener public]
address = 127.0.0.1:0
[route all]
listener = public
upstream = {server.target}
""", workers=None, watch=False)
    one.sent = None
    with one.connect() as first:
        assert first.get().status == 200
        for _ in range(5):
            one.send_signal(signal.SIGSTOP, one.worker)
            with one.connect() as client:
                client.send(request_bytes())
                one.send_signal(signal.SIGCONT, one.worker)
                assert client.read_response().status == 503


def test_body_at_rest_and_many_slow_clients(proxy, upstream):
    """A hundred stuck uploads do not keep others out."""
    def script(connection):
        while True:
            request = connection.read_request()
            connection.answer(request.target.encode())
    server = upstream(script)
    gateway = proxy(server)
    stuck = []
    for _ in range(100):
        client = gateway.connect()
        client.send(request_bytes("/stuck", "Content-Length: 10", method="POST") + b"half")
        stuck.append(client)
    for number in range(20):
        assert gateway.get(f"/{number}").body == b"/%d" % number
    for client in stuck:
        client.send(b"sixmor")
    for client in stuck:
        assert client.read_response().body == b"/stuck"


def test_backlog_of_pipelined_requests_is_bounded(proxy, upstream):
    """A client that sends requests and reads no answers is not read without end."""
    server = upstream(answering(b"x" * 10_000))
    gateway = proxy(server)
    gateway.sent = None
    with gateway.connect(receive_buffer=4096) as client:
        client.sock.settimeout(0.5)
        one = request_bytes("/", "X: " + "y" * 1000)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 200_000_000:
                sent += client.sock.send(one * 10)
        assert sent < 50_000_000


# The sanitizer's check of types asks the kernel through a pipe whether memory is there, and takes
# the lack of a descriptor for a no: only a plain build can run out of them.
if not SANITIZED:
    @pytest.fixture
    def tight(gateway, upstream):
        """A gateway whose worker may have less than a hundred descriptors open."""
        server = upstream(answering(b"ok", "Connection: close"))
        config = proxy_config(server) + "\n[workers default]\ncount = 1\nnofile = 40\n"
        return gateway(config, workers=None, start=False).start(descriptors=40)

    def test_out_of_descriptors(tight):
        """Who cannot be accepted waits, and is served when there is room again."""
        clients = [tight.connect() for _ in range(120)]
        tight.wait_log("cannot accept")
        for client in clients[:100]:
            client.close()
        for client in clients[100:]:
            # An answer each; 502 as long as there is none to spare for the upstream.
            eventually(lambda: client.get().status == 200, "room for a connection to the upstream")
            client.close()
        assert tight.get().status == 200

    def test_no_descriptor_for_the_upstream(tight):
        clients = [tight.connect() for _ in range(120)]
        tight.wait_log("cannot accept")
        response = clients[0].get()
        assert (response.status, response.code) == (502, "upstream_connect_failed")
        for client in clients[1:]:
            client.close()
        eventually(lambda: clients[0].get().status == 200, "room for a connection to the upstream")
