"""One connection, one client, nothing unusual: what has to work before anything else matters."""
import http.client

import pytest

from gateway import descriptors_of, title_of
from peers import answering, request_bytes


def test_proxies_a_request(proxy, upstream):
    server = upstream(answering(b"hello", "Content-Type: text/plain", "X-Mine: 1"))
    gateway = proxy(server)
    response = gateway.get("/some/path?x=1")
    assert (response.version, response.status, response.phrase) == ("HTTP/1.1", 200, "OK")
    assert response.body == b"hello" and response.framing == "length"
    assert response.get("Content-Type") == "text/plain" and response.get("X-Mine") == "1"
    assert response.has("Date")
    request, = server.requests
    assert request.start_line == "GET /some/path?x=1 HTTP/1.1"
    assert request.get("Host") == "a.example"


def test_keeps_both_connections_alive(proxy, upstream):
    server = upstream(answering(b"again"))
    gateway = proxy(server)
    with gateway.connect() as client:
        for number in range(20):
            response = client.get(f"/{number}")
            assert response.body == b"again" and response.get("Connection") is None
    assert [r.target for r in server.requests] == [f"/{n}" for n in range(20)]
    assert len(server.connections) == 1


def test_closes_where_the_client_says_so(proxy, upstream):
    server = upstream()
    gateway = proxy(server)
    with gateway.connect() as client:
        response = client.get("/", "Connection: close")
        assert response.get("Connection") == "close"
        assert client.wait_end() == "end"
    # That was between the client and the gateway: the upstream's connection stays.
    assert gateway.get("/").status == 200
    assert len(server.connections) == 1


TEN = b"".join(request_bytes(f"/{n}", "X-N: " + "y" * n) for n in range(10))


def test_ten_requests_in_one_segment(proxy, upstream):
    server = upstream(lambda c: [c.answer(c.read_request().target.encode()) for _ in range(100)])
    gateway = proxy(server)
    with gateway.connect() as client:
        client.send(TEN)
        assert [client.read_response().body for _ in range(10)] == [b"/%d" % n for n in range(10)]


@pytest.mark.parametrize("body", [b"", b"hello world"], ids=["get", "post"])
def test_split_at_each_byte(proxy, upstream, body):
    """Two pipelined requests cut in two pieces at every place in turn."""
    def script(connection):
        while True:
            request = connection.read_request()
            connection.answer(request.target.encode() + request.body)
    server = upstream(script)
    gateway = proxy(server)
    method = "POST" if body else "GET"
    both = request_bytes("/a", method=method, body=body) + request_bytes("/b", method=method,
                                                                         body=body)
    with gateway.connect() as client:
        for cut in range(1, len(both)):
            client.send(both[:cut])
            client.send(both[cut:])
            assert client.read_response().body == b"/a" + body, cut
            assert client.read_response().body == b"/b" + body, cut


def test_byte_by_byte(proxy, upstream):
    server = upstream(lambda c: [c.answer(c.read_request().body) for _ in range(3)])
    gateway = proxy(server)
    with gateway.connect() as client:
        for byte in request_bytes("/", method="POST", body=b"slowly"):
            client.send(bytes([byte]))
        assert client.read_response().body == b"slowly"


def test_head(proxy, upstream):
    def script(connection):
        while True:
            request = connection.read_request()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"
                            if request.method == "HEAD" else b"HTTP/1.1 204 No Content\r\n\r\n")
    server = upstream(script)
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(3):
            response = client.get("/", method="HEAD")
            assert response.status == 200 and response.get("Content-Length") == "12345"
            assert client.get("/").status == 204
    assert len(server.connections) == 1


def test_not_modified_has_no_body(proxy, upstream):
    def script(connection):
        while True:
            connection.read_request()
            connection.send(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n")
    gateway = proxy(upstream(script))
    with gateway.connect() as client:
        for _ in range(2):
            response = client.get("/")
            assert response.status == 304 and response.get("ETag") == '"x"'
        assert client.quiet(0.05)


def test_python_http_client(proxy, upstream):
    server = upstream(lambda c: [c.answer(c.read_request().body[::-1]) for _ in range(20)])
    gateway = proxy(server)
    connection = http.client.HTTPConnection(*gateway.address)
    for number in range(5):
        connection.request("PUT", f"/{number}", body=b"abc%d" % number)
        gateway.count(1)
        assert connection.getresponse().read() == b"%dcba" % number
    connection.request("POST", "/iterated", body=iter([b"ab", b"cd"]), encode_chunked=True,
                       headers={"Transfer-Encoding": "chunked"})
    gateway.count(1)
    assert connection.getresponse().read() == b"dcba"
    connection.close()


def test_no_route_is_404(gateway, upstream):
    server = upstream()
    config = f"""
[listener public]
address = 127.0.0.1:0
[route one]
listener = public
host     = only.example
upstream = {server.target}
"""
    one = gateway(config)
    assert one.get("/", "X: y").code == "no_route"
    with one.connect() as client:
        assert client.request(b"GET / HTTP/1.1\r\nHost: only.example\r\n\r\n").status == 200
    assert len(server.requests) == 1


def test_target_with_a_name(proxy, upstream):
    """Resolved once, before the workers start; Host stays the client's."""
    server = upstream()
    gateway = proxy(f"http://localhost:{server.port}")
    assert gateway.get().status == 200
    assert server.requests[0].get("Host") == "a.example"


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_methods_that_are_not_for_a_gateway(proxy, upstream, method):
    server = upstream()
    gateway = proxy(server)
    target = "a.example:443" if method == "CONNECT" else "/"
    with gateway.connect() as client:
        client.send(request_bytes(target, method=method, host="a.example:443"))
        response = client.read_response()
        assert (response.status, response.code) == (405, "method_not_allowed")
    assert server.connections == []


def test_processes_and_their_descriptors(proxy, upstream):
    gateway = proxy(upstream(), workers=2)
    assert title_of(gateway.pid) == "gatehouse: master"
    assert [title_of(pid) for pid in gateway.workers()] == [
        "gatehouse: worker default/0", "gatehouse: worker default/1"]
    for pid in gateway.workers():
        sockets = [link for link in descriptors_of(pid).values() if link.startswith("socket:")]
        listeners = 2 if gateway.watch else 1
        # A worker holds its own listening sockets and its channel, nothing of its sisters.
        assert len(sockets) == listeners + 1, descriptors_of(pid)
