"""HTTP/2 connections as a whole: real clients, many streams, priorities, drains and reloads, tunnels."""
import base64
import hashlib
import json
import os
import re
import subprocess
import threading
import time



from gateway import proxy_config
from h2_peer import (DATA, ENABLE_CONNECT_PROTOCOL, GOAWAY, H2, HEADERS,
                     INITIAL_WINDOW_SIZE, NO_ERROR, NO_RFC7540_PRIORITIES, RST_STREAM,
                     get)
from peers import answering
from waiting import eventually


def h2load(gateway, *arguments, path="/"):
    result = subprocess.run(["h2load", *arguments, gateway.url(path)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=60)
    found = re.search(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded", result.stdout)
    assert result.returncode == 0 and found, result.stdout
    gateway.count(int(found.group(1)))
    assert found.group(1) == found.group(2), result.stdout


def test_curl_and_nghttp(proxy, upstream):
    gateway = proxy(upstream(answering(b"hello")))
    result = gateway.curl("--http2-prior-knowledge", "-w", " %{http_version}", gateway.url())
    assert result.stdout == b"hello 2", result
    gateway.count(1)
    result = subprocess.run(["nghttp", "-v", gateway.url()], stdout=subprocess.PIPE, timeout=20)
    assert result.returncode == 0 and b"hello" in result.stdout


def test_h2load(proxy, upstream):
    gateway = proxy(upstream(answering(b"hello" * 20)))
    h2load(gateway, "-n", "2000", "-c", "4", "-m", "32")
    h2load(gateway, "-n", "300", "-c", "2", "-m", "100", "-d", "/etc/passwd")


def test_many_streams_with_bodies_both_ways(gateway):
    """Responses larger than all windows together, on streams that share one connection."""
    made = gateway("[listener public]\naddress = 127.0.0.1:0\n[route all]\nlistener = public\n"
                   f"reply = 200 {'0123456789' * 700}\n")
    with H2(made) as client:
        client.handshake([(INITIAL_WINDOW_SIZE, 1000)])
        for stream in range(1, 201, 2):
            client.headers(stream, get())
        while any(not client.answers.get(s) or not client.answers[s].ended for s in range(1, 201, 2)):
            got = client.read_frame()
            if got.kind == DATA and got.payload and not got.flags & 1:
                client.window_update(got.stream, len(got.payload))
                client.window_update(0, len(got.payload))
        made.count(100)
        assert all(client.answers[s].body == b"0123456789" * 700 + b"\n" for s in range(1, 201, 2))


# ---- RFC 9218 ----

def order_of_ends(gateway, requests):
    """The order in which responses end whose requests came together, behind a closed window."""
    with H2(gateway) as client:
        client.handshake()
        client.headers(1, get("/big"))       # uses the connection's window up
        while client.window > 0:
            client.read_frame()
        for stream, fields in requests:
            client.headers(stream, get("/", *fields))
        for stream, _ in requests:
            while not client.answers.get(stream) or client.answers[stream].fields is None:
                client.read_frame()
        client.must_answer_ping()
        client.window_update(0, 1 << 20)
        ends = []
        while len(ends) < len(requests):
            got = client.read_frame()
            if got.kind == DATA and client.answers[got.stream].ended:
                ends.append(got.stream)
        client.window_update(1, 1 << 16)
        client.response(1)
        gateway.count(len(ends))
        return ends


def test_priorities(gateway):
    made = gateway("[listener public]\naddress = 127.0.0.1:0\n"
                   "[route big]\nlistener = public\npath = /big\n"
                   f"reply = 200 {'x' * 66000}\n"
                   "[route all]\nlistener = public\n"
                   f"reply = 200 {'x' * 20000}\n")
    urgent = [("priority", "u=0")]
    lazy = [("priority", "u=7")]
    assert order_of_ends(made, [(3, lazy), (5, []), (7, urgent)]) == [7, 5, 3]
    assert order_of_ends(made, [(3, []), (5, []), (7, [])]) == [3, 5, 7]
    assert order_of_ends(made, [(3, urgent), (5, urgent), (7, lazy)]) == [3, 5, 7]


def test_settings(gateway):
    made = gateway("[listener public]\naddress = 127.0.0.1:0\nhead_max = 10k\nh2_max_streams = 7\n"
                   "h2_stream_window = 100000\n[route all]\nlistener = public\nreply = 200 ok\n")
    with H2(made) as client:
        client.handshake()
        assert client.settings == {3: 7, 4: 100000, 6: 10240, ENABLE_CONNECT_PROTOCOL: 1,
                                   NO_RFC7540_PRIORITIES: 1}


# ---- ends ----

def test_a_reload_loses_nothing(proxy, upstream):
    """A listener goes: GOAWAY with the highest stream, then with the last; what began is finished."""
    release = threading.Event()

    def script(connection):
        while True:
            request = connection.read_request()
            if request.target == "/slow":
                release.wait(20)
            connection.answer(b"done")

    server = upstream(script)
    gateway = proxy(server, listener="keepalive_timeout = 1m")
    with H2(gateway) as client, H2(gateway) as idle:
        client.handshake()
        idle.handshake()
        client.headers(1, get("/slow"))
        eventually(lambda: len(server.requests) == 1, "the request arrives")
        gateway.write_config(proxy_config(server).replace("public", "another"))
        gateway.send_signal(1)
        got = client.wait_frame(GOAWAY)
        assert (got.code, got.last_stream) == (NO_ERROR, 0x7FFFFFFF)
        client.headers(3, get("/late"))                  # sent before the client could know
        assert client.response(3).body == b"done"
        got = client.wait_frame(GOAWAY)
        assert (got.code, got.last_stream) == (NO_ERROR, 3)
        client.headers(5, get("/too-late"))              # not taken: the client knows
        release.set()
        assert client.response(1).body == b"done"
        client.read_on()
        assert 5 not in client.answers
        assert idle.wait_frame(GOAWAY).last_stream == 0x7FFFFFFF
        assert idle.wait_frame(GOAWAY).last_stream == 0
        assert idle.wait_end() == "end"
    gateway.check_descriptors = False


def test_a_stop_waits_for_streams(proxy, upstream):
    def script(connection):
        connection.read_request()
        time.sleep(0.5)
        connection.answer(b"done")

    gateway = proxy(upstream(script))
    with H2(gateway) as client:
        client.handshake()
        client.headers(1, get())
        client.must_answer_ping()
        gateway.watch = False
        gateway.send_signal(3)
        assert client.response(1).body == b"done"
        client.read_on()
        assert [got.code for got in client.goaways] == [NO_ERROR, NO_ERROR]
    assert gateway.wait_exit() == 0


def test_keepalive_requests(proxy, upstream):
    gateway = proxy(upstream(answering(b"ok")), listener="keepalive_requests = 3")
    with H2(gateway) as client:
        client.handshake()
        for stream in (1, 3, 5):
            client.headers(stream, get())
        for stream in (1, 3, 5):
            assert client.response(stream).status == 200
        client.read_on()
        assert client.goaways[-1].last_stream == 5


def test_a_client_that_goes_away_frees_the_upstream(proxy, upstream):
    seen = threading.Event()

    def script(connection):
        connection.read_request()
        try:
            connection.read_to_end()
        finally:
            seen.set()

    server = upstream(script)
    gateway = proxy(server)
    with H2(gateway) as client:
        client.handshake()
        client.headers(1, get())
        eventually(lambda: len(server.requests) == 1, "the request arrives")
        client.rst(1)
        assert seen.wait(10)
        client.must_answer_ping()
        gateway.count(1)
        gateway.wait_reason("client_gone", 1)
        seen.clear()
        client.headers(3, get())
        eventually(lambda: len(server.requests) == 2, "the request arrives")
    assert seen.wait(10)
    gateway.count(1)
    gateway.wait_reason("client_gone", 2)


def test_the_log_names_the_protocol(gateway, folder):
    made = gateway("[listener public]\naddress = 127.0.0.1:0\n"
                   f"[log access]\nfile = {folder}/access.log\nformat = json\n"
                   "[route all]\nlistener = public\nlog = access\nreply = 200 ok\n")
    with H2(made) as client:
        client.handshake()
        client.request(1, get("/x?y=1"))
        client.plain(3, get("/", ("A", "b")))
        client.wait_frame(RST_STREAM)
        made.count(1)
    path = os.path.join(folder, "access.log")
    eventually(lambda: os.path.exists(path) and open(path).read().count("\n") == 2, "two lines")
    lines = [json.loads(line) for line in open(path)]
    text = json.dumps(lines[0])
    assert "HTTP/2" in text and "/x" in text, text
    assert "bad_field_name" in json.dumps(lines[1]), lines[1]


# ---- RFC 8441 ----

def websocket_script(accept=None):
    """Switches protocols, then sends back what it gets."""
    def script(connection):
        request = connection.read_request()
        connection.upgrade_request = request
        key = request.get("Sec-WebSocket-Key") or ""
        good = base64.b64encode(hashlib.sha1(
            (key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        connection.send((f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                         f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept or good}\r\n"
                         f"Sec-WebSocket-Protocol: chat\r\n\r\n").encode())
        while True:
            connection.fill()
            connection.send(connection.take(len(connection.unread)))
    return script


def connect(path="/chat", *fields):
    return [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
            (":authority", "a.example"), (":path", path), ("sec-websocket-version", "13"), *fields]


def test_websocket(proxy, upstream):
    server = upstream(websocket_script())
    gateway = proxy(server)
    with H2(gateway) as client:
        client.handshake()
        assert client.settings[ENABLE_CONNECT_PROTOCOL] == 1
        client.headers(1, connect("/chat", ("sec-websocket-protocol", "chat")), end=False)
        client.headers(3, connect("/other", ("sec-websocket-key", "mine")), end=False)
        for stream in (1, 3):
            while stream not in client.answers:
                client.read_frame()
            answer = client.answers[stream]
            assert answer.status == 200 and answer.get("sec-websocket-protocol") == "chat"
            assert answer.get("sec-websocket-accept") is None and answer.get("upgrade") is None
        for number in range(50):
            for stream in (1, 3):
                client.data(stream, b"%d on %d;" % (number, stream))
        for stream in (1, 3):
            wanted = b"".join(b"%d on %d;" % (n, stream) for n in range(50))
            while client.answers[stream].body != wanted:
                client.read_frame()
        # Larger than the windows; and a plain request beside it.
        size = 0
        for _ in range(3):
            client.data(1, b"x" * 16000)
            size += 16000
        before = len(client.answers[1].body)
        while len(client.answers[1].body) < before + size:
            client.read_frame()
        client.rst(3)
        client.data(1, b"", end=True)      # the client's end; the upstream's follows
        answer = client.response(1)
        assert answer.ended
        gateway.count(1)
    for request in server.requests:
        assert request.method == "GET" and request.get("Upgrade") == "websocket"
        assert request.get("Connection").lower() == "upgrade"
        assert len(base64.b64decode(request.get("Sec-WebSocket-Key"))) == 16
        assert request.get("Sec-WebSocket-Version") == "13"


def test_websocket_that_is_refused(proxy, upstream):
    gateway = proxy(upstream(answering(b"no", status="403 Forbidden")))
    with H2(gateway) as client:
        client.handshake()
        client.headers(1, connect(), end=False)
        answer = client.response(1)
        assert (answer.status, answer.body) == (403, b"no")
        client.must_answer_ping()


def test_websocket_whose_upstream_does_not_prove_itself(proxy, upstream):
    gateway = proxy(upstream(websocket_script(accept="bm8=")))
    with H2(gateway) as client:
        client.handshake()
        client.headers(1, connect(), end=False)
        assert client.response(1).status == 502
        client.must_answer_ping()


def test_websocket_outlives_a_reload(proxy, upstream):
    server = upstream(websocket_script())
    gateway = proxy(server)
    gateway.check_descriptors = False      # the helper thread of a reload stays
    with H2(gateway) as client:
        client.handshake()
        client.headers(1, connect(), end=False)
        client.wait_frame(HEADERS)
        gateway.write_config(proxy_config(server, listener=f"address = 127.0.0.1:{gateway.port}"))
        gateway.send_signal(1)
        gateway.wait_log("generation 2")
        client.data(1, b"still here")
        while client.answers[1].body != b"still here":
            client.read_frame()
        client.rst(1)
        gateway.count(1)
