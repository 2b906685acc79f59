"""HTTP/2 requests (RFC 9113 §8): which are malformed, what the others become in HTTP/1.1 for an
upstream, and responses on their way back. Nothing that HTTP/1 could read in two ways gets through.
"""
import pytest

from h2_peer import (DATA, END_HEADERS, END_STREAM, H2, HEADERS, NO_ERROR, PROTOCOL_ERROR, frame, get,
                     plain_block, post)
from peers import Gone, answering, response_bytes


def echo_script(connection):
    """Answers with the request as it came: its head, an empty line, its body."""
    while True:
        request = connection.read_request()
        connection.answer(request.raw_head + b"\n" + (request.body or b""))


def malformed_ones():
    """(name, fields, body): a stream error each."""
    yield "uppercase_name", get("/", ("X-TEST", "ok")), None
    yield "no_method", get()[1:], None
    yield "no_scheme", get()[:1] + get()[2:], None
    yield "no_path", get()[:3], None
    yield "empty_path", get(""), None
    yield "path_without_slash", get("x"), None
    yield "asterisk", get("*"), None
    yield "absolute_path", get("http://evil.example/"), None
    for name, value in get():
        yield f"repeated_{name[1:]}", get() + [(name, value)], None
        yield f"late_{name[1:]}", [f for f in get() if f[0] != name] + [("a", "b"), (name, value)], None
        for bad in ("\r\nx: y", "\nx: y", "\0", "\r"):
            yield f"{name[1:]}_with_{bad[:2]!r}", [(n, v + bad if n == name else v) for n, v in get()], None
    yield "unknown_pseudo", get()[:1] + [(":test", "x")] + get()[1:], None
    yield "response_pseudo", get()[:1] + [(":status", "200")] + get()[1:], None
    yield "protocol_without_connect", get() + [(":protocol", "websocket")], None
    for name, value in (("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("upgrade", "h2c"),
                        ("proxy-connection", "close"), ("transfer-encoding", "chunked"),
                        ("transfer-encoding", "identity"), ("te", "gzip"), ("te", "trailers, gzip"),
                        ("http2-settings", "AAMAAABk")):
        yield f"{name}_{value}", get("/", (name, value)), None
    for bad in ("a b", "a:b", "a\rb", "a\nb", "a\0b", "a\x7f", "", "host\r\nx", "a\x80", "transfer-encoding "):
        yield f"name_{bad!r}", get("/", (bad, "v")), None
    for bad in ("b\r\nx: y", "b\nx: y", "b\rc", "b\0", " b", "b ", "\tb", "b\x01", "b\x7f"):
        yield f"value_{bad!r}", get("/", ("a", bad)), None
    yield "two_hosts", get("/", ("host", "a.example"), ("host", "a.example")), None
    yield "other_host", get("/", ("host", "b.example")), None
    yield "host_with_port", get("/", ("host", "a.example:81")), None
    for bad in ("5, 5", "+5", "-5", "0x5", "5 5", "", "99999999999999999999", "05"):
        yield f"length_{bad!r}", post("/", ("content-length", bad)), b"12345"
    yield "two_lengths", post("/", ("content-length", "5"), ("content-length", "5")), b"12345"
    yield "two_other_lengths", post("/", ("content-length", "5"), ("content-length", "6")), b"12345"
    yield "more_than_the_length", post("/", ("content-length", "4")), b"12345"
    yield "less_than_the_length", post("/", ("content-length", "6")), b"12345"
    yield "length_without_body", post("/", ("content-length", "6")), None
    yield "connect_with_path", [(":method", "CONNECT"), (":authority", "a:1"), (":path", "/")], None
    yield "connect_without_authority", [(":method", "CONNECT")], None
    yield "method_with_a_line", [(":method", "GET / HTTP/1.1\r\nHost: a")] + get()[1:], None
    yield "empty_method", [(":method", "")] + get()[1:], None


def refused_ones():
    """(name, fields, body, status)"""
    yield "get_in_lower_case", get(method="get"), None, 400
    yield "connect_in_lower_case", get(method="connect"), None, 400
    yield "trace", get(method="TRACE"), None, 405
    yield "connect", [(":method", "CONNECT"), (":authority", "a.example:443")], None, 405
    yield "long_method", get(method="A" * 40), None, 501
    yield "unknown_protocol", [(":method", "CONNECT"), (":protocol", "connect-udp")] + get()[1:], None, 501
    yield "no_host", get()[:2] + get()[3:], None, 400
    for bad in ("user@a.example", "a.example/x", "a b", "a,b", "a.example:x", "[::1", ""):
        yield f"authority_{bad!r}", get(authority=bad), None, 400
    for bad in ("/..", "/a/../../b", "/%00", "/a#b", "/a b", "/a\\b", "/\x80", "/..;/", "/a HTTP/1.1"):
        yield f"path_{bad!r}", get(bad), None, 400
    for bad in ("", "ftp", "http://x/", "https\"", "http "[:-1] + "x"):
        yield f"scheme_{bad!r}", get(scheme=bad), None, 400
    yield "long_path", get("/" + "a" * 9000), None, 414
    yield "long_field", get("/", ("a", "b" * 40000)), None, 431
    yield "many_fields", get("/", *[(f"a{i}", "b") for i in range(120)]), None, 431
    yield "long_name", get("/", ("a" * 300, "b")), None, 431
    yield "expectation", post("/", ("expect", "wonders")), b"x", 417


def send(client, stream, fields, body):
    block = plain_block(fields)
    end = END_STREAM if body is None else 0
    client.frame(HEADERS, end | (END_HEADERS if len(block) <= 16384 else 0), stream, block[:16384])
    for at in range(16384, len(block), 16384):
        last = at + 16384 >= len(block)
        client.frame(9, END_HEADERS if last else 0, stream, block[at:at + 16384])
    if body is not None:
        client.data(stream, body, end=True)


def test_malformed_requests_are_stream_errors_and_go_nowhere(proxy, upstream):
    server = upstream(echo_script)
    gateway = proxy(server)
    failures = []
    with H2(gateway) as client:
        client.handshake()
        stream = -1
        for name, fields, body in malformed_ones():
            stream += 2
            try:
                send(client, stream, fields, body)
                client.must_reset(stream, PROTOCOL_ERROR)
                gateway.count(1)
                assert client.answers[stream].fields is None, client.answers[stream].fields
            except (AssertionError, Gone) as error:
                failures.append(f"{name}: {error}")
                if isinstance(error, Gone):
                    break
        assert not failures, "\n".join(failures)
        answer = client.request(stream + 2, get("/sound"))
        assert answer.body.startswith(b"GET /sound HTTP/1.1\r\n")
    # What announces a body and brings another may reach the upstream, but never as a whole request.
    assert [request.target for request in server.requests] == ["/sound"]


def test_requests_that_are_refused_get_a_reply(proxy, upstream):
    server = upstream(echo_script)
    gateway = proxy(server)
    failures = []
    with H2(gateway) as client:
        client.handshake()
        stream = -1
        for name, fields, body, status in refused_ones():
            stream += 2
            send(client, stream, fields, body)
            answer = client.response(stream)
            if answer.fields is None or answer.status != status:
                failures.append(f"{name}: {answer.fields} reset {answer.reset}")
            elif answer.get("content-type") != "application/problem+json":
                failures.append(f"{name}: {answer.fields}")
        assert not failures, "\n".join(failures)
        assert client.request(stream + 2, get()).status == 200
    assert len(server.requests) == 1


def test_what_the_upstream_gets(proxy, upstream):
    gateway = proxy(upstream(echo_script))
    with H2(gateway) as client:
        client.handshake()
        body = client.request(1, get("/a/../b?c=d", ("accept", "*/*"), ("cookie", "a=1"), ("x_y", "1"),
                                     ("cookie", "b=2"), ("content_length", "3"), ("te", "trailers"),
                                     scheme="https", authority="A.example:8080")).body
        lines = body.split(b"\r\n")
        assert lines[0] == b"GET /b?c=d HTTP/1.1"
        assert b"Host: a.example:8080" in lines
        assert b"accept: */*" in lines and b"x_y: 1" in lines
        assert b"cookie: a=1; b=2" in lines
        assert b"TE: trailers" in lines
        assert not any(line.lower().startswith((b"content", b"transfer")) for line in lines)
        assert not any(line.startswith(b":") for line in lines)

        body = client.request(3, post("/", ("content-length", "5")), b"hello").body
        assert b"Content-Length: 5\r\n" in body and body.endswith(b"\nhello")
        body = client.request(5, post(), b"hello").body
        assert b"Transfer-Encoding: chunked\r\n" in body and body.endswith(b"\nhello")
        body = client.request(7, get("*", method="OPTIONS")).body
        assert body.startswith(b"OPTIONS * HTTP/1.1\r\n")
        body = client.request(9, get()[:2] + [(":path", "/"), ("host", "b.example")]).body
        assert b"Host: b.example\r\n" in body


def test_trailers_of_a_request(proxy, upstream):
    server = upstream(echo_script)
    gateway = proxy(server)
    with H2(gateway) as client:
        client.handshake()
        client.headers(1, post(), end=False)
        client.data(1, b"body")
        client.headers(1, [("x-sum", "7"), ("content-length", "9")])
        assert client.response(1).status == 200
        trailers = server.requests[0].trailers
        assert trailers == [("x-sum", "7")], trailers
        stream = 1
        for bad in ([(":path", "/x")], [("X-Sum", "7")], [("connection", "x")], [("x", "a\nb")]):
            stream += 2
            client.headers(stream, post(), end=False)
            client.data(stream, b"body")
            client.frame(HEADERS, END_STREAM | END_HEADERS, stream, plain_block(bad))
            client.must_reset(stream, PROTOCOL_ERROR)
            gateway.count(1)
        # Trailers have to end the stream.
        client.headers(stream + 2, post(), end=False)
        client.headers(stream + 2, [("x-sum", "7")], end=False)
        client.must_reset(stream + 2, PROTOCOL_ERROR)
        gateway.count(1)


def test_responses(proxy, upstream):
    raw = {
        "/length": response_bytes(b"hello", "X-Upper: Yes", "Connection: x-gone", "X-Gone: 1"),
        "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        "/none": b"HTTP/1.1 204 No Content\r\n\r\n",
        "/same": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
        "/early": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response_bytes(b"late"),
        "/empty": response_bytes(b""),
    }

    def script(connection):
        while True:
            request = connection.read_request()
            if request.method == "HEAD":
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")
            else:
                connection.send(raw[request.target])

    gateway = proxy(upstream(script))
    with H2(gateway) as client:
        client.handshake()
        answer = client.request(1, get("/length"))
        assert (answer.status, answer.body, answer.get("x-upper")) == (200, b"hello", "Yes")
        assert answer.get("content-length") == "5" and answer.get("date")
        assert answer.get("x-gone") is None
        answer = client.request(3, get("/chunked"))
        assert (answer.body, answer.trailers) == (b"hello", [("x-t", "1")])
        answer = client.request(5, get("/none"))
        assert (answer.status, answer.body, answer.ended) == (204, b"", True)
        answer = client.request(7, get("/same"))
        assert (answer.status, answer.get("content-length"), answer.ended) == (304, "10", True)
        answer = client.request(9, get("/early"))
        assert answer.interim == [[(":status", "103"), ("link", "</x>")]] and answer.body == b"late"
        answer = client.request(11, get("/x", method="HEAD"))
        assert (answer.status, answer.get("content-length"), answer.body) == (200, "77", b"")
        answer = client.request(13, get("/empty"))
        assert (answer.status, answer.get("content-length"), answer.ended) == (200, "0", True)


def test_a_response_that_is_cut_short_never_looks_whole(proxy, upstream):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.close()

    gateway = proxy(upstream(script))
    with H2(gateway) as client:
        client.handshake()
        client.headers(1, get())
        answer = client.response(1)
        assert not answer.ended and answer.reset == 2, answer.__dict__
        client.must_answer_ping()


def test_continue(proxy, upstream):
    gateway = proxy(upstream(echo_script))
    with H2(gateway) as client:
        client.handshake()
        client.headers(1, post("/", ("expect", "100-continue"), ("content-length", "5")), end=False)
        client.wait_frame(HEADERS)
        assert client.answers[1].interim == [[(":status", "100")]]
        client.data(1, b"hello", end=True)
        assert client.response(1).body.endswith(b"hello")


def test_a_body_that_nobody_wants_is_stopped(gateway):
    made = gateway("[listener public]\naddress = 127.0.0.1:0\n[route all]\nlistener = public\n"
                   "body_max = 10\nreply = 200 ok\n")
    with H2(made) as client:
        client.handshake()
        client.headers(1, post(), end=False)
        answer = client.response(1)
        assert answer.status == 200
        got = client.wait_frame(3, stream=1) if answer.reset is None else None
        assert (got.code if got else answer.reset) == NO_ERROR
        client.data(1, b"x" * 10000, end=True)
        client.must_answer_ping()
        client.headers(3, post("/", ("content-length", "11")), end=False)
        assert client.response(3).status == 413


@pytest.mark.parametrize("size", [0, 1, 16384, 300_000, 3_000_000])
def test_bodies_both_ways(proxy, upstream, size):
    content = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
    content = content[:size]

    def script(connection):
        request = connection.read_request()
        connection.answer(request.body or b"")

    gateway = proxy(upstream(script))
    result = gateway.curl("--http2-prior-knowledge", "--data-binary", "@-", "-o", "-",
                          gateway.url("/"), input=content)
    assert result.returncode == 0 and result.stdout == content, result.stderr


def test_data_frame_behind_headers_in_one_segment(proxy, upstream):
    gateway = proxy(upstream(echo_script))
    with H2(gateway) as client:
        client.handshake()
        many = b""
        for stream in range(1, 201, 2):
            many += frame(HEADERS, END_HEADERS, stream, client.block(post())) + \
                frame(DATA, END_STREAM, stream, b"%d" % stream)
        client.send(many)
        for stream in range(1, 201, 2):
            assert client.response(stream).body.endswith(b"\n%d" % stream)
