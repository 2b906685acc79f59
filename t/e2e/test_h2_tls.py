"""HTTP/2 over TLS: chosen by ALPN and by nothing else, with real clients and with raw frames."""
import subprocess

import pytest

from h2_peer import (GOAWAY, H2, HEADERS, PREFACE, PROTOCOL_ERROR, SETTINGS, STREAM_CLOSED, frame, get,
                     plain_block, post)
from peers import answering
from tls import Site, tls_client
from waiting import DEADLINE


@pytest.fixture
def site(folder):
    made = Site(folder)
    made.add("main", ["a.example"])
    return made


def secure(server, site, more=""):
    return f"""
{site.sections}
[listener public]
address = 127.0.0.1:0
tls = on
{more}
[upstream app]
target = {server.target}
[route all]
upstream = app
"""


def echo(connection):
    while True:
        request = connection.read_request()
        connection.answer(request.raw_head + b"\n" + request.body)


def h2_client(gateway, site, **options):
    client = H2(gateway, **options)
    context = site.context(alpn=["h2", "http/1.1"])
    try:
        client.sock = context.wrap_socket(client.sock, server_hostname="a.example")
    except BaseException:
        client.close()
        raise
    assert client.sock.selected_alpn_protocol() == "h2"
    return client


def test_alpn_chooses(gateway, upstream, site):
    made = gateway(secure(upstream(answering(b"ok")), site))
    for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["h2"], "h2"),
                            (["http/1.1"], "http/1.1"), (None, None)):
        with tls_client(made, site.context(alpn=offered)) as client:
            assert client.sock.selected_alpn_protocol() == chosen
            if chosen != "h2":
                assert client.get().body == b"ok"
    with tls_client(made, site.context(alpn=["http/1.1"])) as client:
        client.send(PREFACE)         # the preface is no way to HTTP/2 here
        assert b" 505 " in client.read_until(b"\r\n")
        made.count(1)
    with tls_client(made, site.context(alpn=["h2"])) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")     # nor a way back
        assert b"HTTP/1.1" not in client.read_to_end()


def test_requests_and_bodies(gateway, upstream, site):
    made = gateway(secure(upstream(echo), site))
    with h2_client(made, site) as client:
        client.handshake()
        body = client.request(1, get("/x", authority="a.example", scheme="https")).body
        assert body.startswith(b"GET /x HTTP/1.1\r\nHost: a.example\r\n")
        assert b"X-Forwarded-Proto: https\r\n" in body
        for stream in range(3, 103, 2):
            client.headers(stream, post("/x"), end=False)
            client.data(stream, b"%d" % stream, end=True)
        for stream in range(3, 103, 2):
            assert client.response(stream).body.endswith(b"\n%d" % stream)
    for size in (10, 100_000, 3_000_000):
        content = bytes(range(250)) * (size // 250)
        done = made.curl("--http2", "--cacert", site.ca, "--resolve", f"a.example:{made.port}:127.0.0.1",
                         "--data-binary", "@-", "-o", "-", f"https://a.example:{made.port}/", input=content)
        assert done.returncode == 0 and done.stdout.endswith(content), done.stderr


def test_h2load(gateway, upstream, site):
    made = gateway(secure(upstream(answering(b"x" * 2000)), site))
    made.sent = None
    done = subprocess.run(["h2load", "-n3000", "-c8", "-m32", f"https://127.0.0.1:{made.port}/"],
                          stdout=subprocess.PIPE, text=True, timeout=DEADLINE * 2, check=False)
    assert "3000 succeeded, 0 failed" in done.stdout, done.stdout


def test_errors_are_not_lost(gateway, upstream, site):
    """GOAWAY, then close_notify and the end, with bytes of the client still under way."""
    made = gateway(secure(upstream(answering(b"ok")), site))
    made.sent = None
    for _ in range(20):
        with h2_client(made, site) as client:
            client.handshake()
            client.send(frame(0, 0, 0, b"test") + frame(6, 0, 0, b"12345678") * 100)
            client.must_end(PROTOCOL_ERROR)
    with h2_client(made, site) as client:
        client.handshake()
        assert client.request(1, get()).status == 200
        client.data(1, b"x")
        client.must_end(STREAM_CLOSED)


def test_early_data(gateway, upstream, site):
    """A request that may be a replay is told so to the upstream; an unsafe one is refused with 425."""
    server = upstream(answering(b"from the upstream"))
    made = gateway(secure(server, site, "early_data = on\nkeepalive_timeout = 1s"))
    ticket, path = site.path("ticket"), site.path("early")
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{made.port}", "-servername", "a.example",
              "-CAfile", site.ca, "-alpn", "h2"]
    first = subprocess.run([*client, "-sess_out", ticket, "-ign_eof"], stdout=subprocess.PIPE,
                           input=PREFACE + frame(SETTINGS) + frame(GOAWAY, 0, 0, b"\0" * 8),
                           timeout=DEADLINE, check=False).stdout
    assert b"Max Early Data: 16384" in first, first
    with open(path, "wb") as out:
        out.write(PREFACE + frame(SETTINGS) + frame(HEADERS, 5, 1, plain_block(get("/early"))) +
                  frame(HEADERS, 5, 3, plain_block(post("/unsafe"))) + frame(GOAWAY, 0, 0, b"\0" * 8))
    said = subprocess.run([*client, "-sess_in", ticket, "-early_data", path, "-ign_eof"],
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=DEADLINE,
                          check=False).stdout
    assert b"Early data was accepted" in said and b"from the upstream" in said, said
    made.count(2)
    assert [(r.target, r.get("Early-Data")) for r in server.requests] == [("/early", "1")]
    assert made.reasons()["too_early"] == 1
