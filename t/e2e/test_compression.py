"""Compression: who gets which coding, what stays as it is, and that streams are not held up."""
import gzip
import hashlib
import random
import threading
import zlib

import brotli
import pytest
import zstandard

from gateway import run_gatehouse
from peers import answering, request_bytes

WORDS = [hashlib.sha256(bytes([i])).hexdigest()[:2 + i % 7] for i in range(200)]
random.seed(7)
TEXT = " ".join(random.choice(WORDS) for _ in range(15000)).encode()
ALL = "compress = zstd brotli gzip"


def unzstd(data):
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


DECODE = {"gzip": gzip.decompress, "br": brotli.decompress, "zstd": unzstd}
CODINGS = list(DECODE)


def decoded(response):
    coding = response.get("Content-Encoding")
    return DECODE[coding](response.body) if coding else response.body


def chunked(body, size, *fields):
    """A script: the body in chunks of this size."""
    def script(connection):
        while True:
            connection.read_request()
            connection.send("\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked",
                                         *fields]).encode() + b"\r\n\r\n")
            for at in range(0, len(body), size):
                part = body[at:at + size]
                connection.send(b"%x\r\n%s\r\n" % (len(part), part))
            connection.send(b"0\r\n\r\n")
    return script


# ---- Coding and decoding ------------------------------------------------------------------------

@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [1024, 20_000, len(TEXT)])
def test_a_whole_body(proxy, upstream, coding, size):
    gateway = proxy(upstream(answering(TEXT[:size], "Content-Type: text/html")), route=ALL)
    with gateway.connect() as client:
        for _ in range(3):
            response = client.get("/", f"Accept-Encoding: {coding}")
            assert response.get("Content-Encoding") == coding
            assert response.get("Vary") == "Accept-Encoding"
            assert len(response.body) < size * 0.8
            assert decoded(response) == TEXT[:size]
    # What came in one piece has a length; what did not is chunked.
    assert response.framing == ("length" if size < 10_000 else response.framing)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [100, 4096, 50_000])
def test_a_chunked_body(proxy, upstream, coding, size):
    gateway = proxy(upstream(chunked(TEXT, size, "Content-Type: application/json")), route=ALL)
    with gateway.connect() as client:
        for _ in range(2):
            response = client.get("/", f"Accept-Encoding: {coding}")
            assert response.framing == "chunked" and decoded(response) == TEXT


@pytest.mark.parametrize("option", [["--compressed"], ["--compressed", "--http1.0"]])
def test_with_curl(proxy, upstream, option):
    gateway = proxy(upstream(answering(TEXT, "Content-Type: text/plain")), route=ALL)
    result = gateway.curl(*option, gateway.url("/"), text=False)
    assert result.stdout == TEXT


def test_a_prepared_answer(gateway):
    gate = gateway("[listener l]\naddress = 127.0.0.1:0\n[route a]\nreply = 200 " +
                   "hello " * 1000 + "\ncompress = gzip\n")
    response = gate.get("/", "Accept-Encoding: gzip")
    assert response.framing == "length" and decoded(response) == b"hello " * 999 + b"hello\n"


def test_trailers_come_behind(proxy, upstream):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                        b"Content-Type: text/plain\r\nTrailer: X-Sum\r\n\r\n"
                        b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
        connection.wait_end()
    response = proxy(upstream(script), route=ALL).get("/", "Accept-Encoding: gzip")
    assert decoded(response) == b"hello" and response.trailers == [("X-Sum", "1")]


# ---- Streams ------------------------------------------------------------------------------------

@pytest.mark.parametrize("coding", CODINGS)
def test_events_are_not_held_up(proxy, upstream, coding):
    next_one = threading.Semaphore(0)

    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            assert next_one.acquire(timeout=30)
            event = b"data: %d\n\n" % number
            connection.send(b"%x\r\n%s\r\n" % (len(event), event))
        connection.send(b"0\r\n\r\n")
        connection.wait_end()

    decoder = {"gzip": lambda: zlib.decompressobj(31).decompress,
               "br": lambda: brotli.Decompressor().process,
               "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress}[coding]()
    gateway = proxy(upstream(script), route=ALL)
    with gateway.connect() as client:
        client.send(request_bytes("/", f"Accept-Encoding: {coding}"))
        head = client.read_head()           # before any event
        assert f"Content-Encoding: {coding}".encode() in head
        for number in range(5):
            next_one.release()
            plain = b""
            while plain != b"data: %d\n\n" % number:
                size = int(client.read_until(b"\r\n"), 16)
                plain += decoder(client.read_exact(size))
                assert client.read_exact(2) == b"\r\n"
        while client.read_until(b"\r\n") != b"0\r\n":
            pass
        assert client.read_exact(2) == b"\r\n"
        gateway.count(1)


def test_a_cut_body_does_not_look_whole(proxy, upstream):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    response = proxy(upstream(script), route=ALL).get("/", "Accept-Encoding: gzip")
    assert not response.complete


def test_a_client_that_leaves_gives_its_encoder_back(proxy, upstream):
    gateway = proxy(upstream(chunked(TEXT * 20, 9000, "Content-Type: text/plain")), route=ALL)
    for _ in range(300):                    # more than there is memory for at once
        with gateway.connect(receive_buffer=4096) as client:
            client.send(request_bytes("/", "Accept-Encoding: zstd"))
            assert b"Content-Encoding: zstd" in client.read_head()
        gateway.count(1)


def test_without_memory_left_it_goes_out_as_it_is(proxy, upstream):
    hold = threading.Event()

    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        hold.wait(30)
        connection.send(b"0\r\n\r\n")
    gateway = proxy(upstream(script), route=ALL)
    clients = [gateway.connect() for _ in range(300)]
    heads = []
    for client in clients:
        client.send(request_bytes("/", "Accept-Encoding: gzip"))
    for client in clients:
        heads.append(client.read_head())
    hold.set()
    encoded = [b"Content-Encoding" in head for head in heads]
    assert 200 < sum(encoded) < 300
    assert all(b"Vary: Accept-Encoding" in head for head in heads)
    gateway.count(300)


# ---- What is left as it is ----------------------------------------------------------------------

@pytest.mark.parametrize("fields, vary", [
    (["Content-Type: image/png"], False),
    ([], False),
    (["Content-Type: text/html", "Content-Encoding: br"], False),
    (["Content-Type: text/html", "Cache-Control: max-age=5, No-Transform"], False),
    (["Content-Type: text/html", "Content-Digest: sha-256=:x:"], False),
])
def test_kinds_that_are_left_alone(proxy, upstream, fields, vary):
    gateway = proxy(upstream(answering(TEXT, *fields, 'ETag: "a"')), route=ALL)
    response = gateway.get("/", "Accept-Encoding: gzip, br, zstd")
    assert response.body == TEXT and response.get("ETag") == '"a"'
    assert response.has("Vary") == vary
    assert response.get("Content-Encoding") == ("br" if "br" in " ".join(fields) else None)


def test_small_ones_are_left_alone(proxy, upstream):
    gateway = proxy(upstream(answering(b"a" * 1023, "Content-Type: text/html")), route=ALL)
    response = gateway.get("/", "Accept-Encoding: gzip")
    assert response.body == b"a" * 1023 and not response.has("Vary")
    gateway = proxy(upstream(answering(b"a" * 100, "Content-Type: text/html")),
                    route=ALL + "\ncompress_min = 100")
    assert gateway.get("/", "Accept-Encoding: gzip").get("Content-Encoding") == "gzip"


def test_what_does_not_get_smaller_is_left_alone(proxy, upstream):
    noise = random.randbytes(2000)
    gateway = proxy(upstream(answering(noise, "Content-Type: text/plain", 'ETag: "a"')), route=ALL)
    for coding in CODINGS:
        response = gateway.get("/", f"Accept-Encoding: {coding}")
        assert response.body == noise and not response.has("Content-Encoding")
        assert response.get("ETag") == '"a"'


def test_head(proxy, upstream):
    def script(connection):
        while True:
            connection.read_request()
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n"
                            b'ETag: "a"\r\n\r\n')
    gateway = proxy(upstream(script), route=ALL)
    response = gateway.get("/", "Accept-Encoding: gzip", method="HEAD")
    assert response.get("Vary") == "Accept-Encoding"
    assert response.get("Content-Length") == "5000" and not response.has("Content-Encoding")


@pytest.mark.parametrize("status, fields, body", [
    ("206 Partial Content", ["Content-Range: bytes 0-9/5000", "Content-Type: text/html"], TEXT[:10]),
    ("304 Not Modified", [], b""),
])
def test_parts_and_nothing_new(proxy, upstream, status, fields, body):
    def script(connection):
        connection.read_request()
        length = [f"Content-Length: {len(body)}"] if body else []
        connection.send("\r\n".join([f"HTTP/1.1 {status}", *fields, *length]).encode() +
                        b"\r\n\r\n" + body)
    response = proxy(upstream(script), route=ALL).get("/", "Accept-Encoding: gzip")
    assert response.body == body and not response.has("Content-Encoding")
    assert response.get("Vary") == "Accept-Encoding"


# ---- Fields -------------------------------------------------------------------------------------

def test_an_etag_becomes_weak(proxy, upstream):
    gateway = proxy(upstream(answering(TEXT, "Content-Type: text/html", 'ETag: "a"',
                                       "Accept-Ranges: bytes")), route=ALL)
    response = gateway.get("/", "Accept-Encoding: gzip")
    assert response.get("ETag") == 'W/"a"' and not response.has("Accept-Ranges")
    response = gateway.get("/")
    assert response.get("ETag") == '"a"' and response.get("Accept-Ranges") == "bytes"
    assert response.get("Vary") == "Accept-Encoding"


@pytest.mark.parametrize("vary, expected", [
    ("Origin", ["Origin", "Accept-Encoding"]),
    ("*", ["*"]),
    ("Origin, accept-encoding", ["Origin, accept-encoding"]),
])
def test_vary_beside_another(proxy, upstream, vary, expected):
    gateway = proxy(upstream(answering(TEXT, "Content-Type: text/html", f"Vary: {vary}")),
                    route=ALL)
    response = gateway.get("/", "Accept-Encoding: gzip")
    assert [value for name, value in response.fields if name == "Vary"] == expected


def test_weights_and_order(proxy, upstream):
    gateway = proxy(upstream(answering(TEXT, "Content-Type: text/html")), route=ALL)
    for accepted, expected in [("gzip, br, zstd", "zstd"), ("gzip, br;q=0.9", "gzip"),
                               ("gzip;q=0", None), ("identity, gzip;q=0.5", None), ("*", "zstd")]:
        response = gateway.get("/", f"Accept-Encoding: {accepted}")
        assert response.get("Content-Encoding") == expected, accepted
        assert decoded(response) == TEXT


def test_other_routes_pay_nothing(gateway, upstream):
    server = upstream(answering(TEXT, "Content-Type: text/html"))
    gate = gateway(f"[listener l]\naddress = 127.0.0.1:0\n[defaults]\ncompress = gzip\n"
                   f"[route a]\npath = /a\nupstream = {server.target}\n"
                   f"[route b]\npath = /b\nupstream = {server.target}\ncompress = off\n")
    assert gate.get("/a", "Accept-Encoding: gzip").get("Content-Encoding") == "gzip"
    response = gate.get("/b", "Accept-Encoding: gzip")
    assert response.body == TEXT and not response.has("Vary")
    for path, there in (("/a", True), ("/b", False)):
        told = run_gatehouse("explain", "-c", gate.config_path, "--listener", "l",
                             f"GET http://x{path}").stdout
        assert ("compress" in told) == there, told
