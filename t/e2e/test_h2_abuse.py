"""HTTP/2 clients that cost the gateway work and themselves nothing: each is counted, and ended with
the right error while others are served. What they can make the gateway remember is bounded.

The long runs (30 s each, with figures) are in t/soak/test_h2_attacks.py.
"""
import struct
import threading
import time

from gateway import SANITIZED, resident_bytes
from h2_peer import (CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY,
                     H2, HEADERS, INITIAL_WINDOW_SIZE, PING, PRIORITY, PRIORITY_UPDATE,
                     RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, get, plain_block, post)
from peers import Gone, answering
from waiting import eventually

REPLY = """
[listener public]
address = 127.0.0.1:0
{listener}

[route all]
listener = public
reply = 200 0123456789
"""


def keep_within_the_streams_allowed(client, stream):
    if stream % 200 == 199:
        client.must_answer_ping()


def rapid_reset(client):
    block = client.block(get())
    for stream in range(1, 4001, 2):
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, block) + \
            frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
        block = client.block(get())


def reset_by_the_gateway(client):
    """"MadeYouReset": the client never says RST_STREAM, but makes the gateway say it."""
    for stream in range(1, 4001, 2):
        yield frame(HEADERS, END_HEADERS, stream, client.block(post())) + \
            frame(WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff") * 2
        keep_within_the_streams_allowed(client, stream)


def malformed_requests(client):
    for stream in range(1, 4001, 2):
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, plain_block(get("/", ("A", "b"))))
        keep_within_the_streams_allowed(client, stream)


def continuation_flood(client):
    yield frame(HEADERS, END_STREAM, 1, client.block(get()))
    for number in range(10000):
        yield frame(CONTINUATION, 0, 1, plain_block([(f"a{number}", "x" * 1000)]))


def empty_continuation_flood(client):
    yield frame(HEADERS, END_STREAM, 1, client.block(get()))
    for _ in range(10000):
        yield frame(CONTINUATION, 0, 1, b"")


def hpack_bomb(client):
    """An entry of 4000 bytes in the table, then one byte for each time that it is meant."""
    yield frame(HEADERS, END_HEADERS | END_STREAM, 1,
                client.block(get()) + b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000)
    for stream in range(3, 103, 2):
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, client.block(get()) + b"\xbe" * 16000)


def ping_flood(client):
    for _ in range(20000):
        yield frame(PING, 0, 0, b"12345678")


def settings_flood(client):
    for _ in range(20000):
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 65535))


def empty_settings_flood(client):
    for _ in range(20000):
        yield frame(SETTINGS)


def empty_data_flood(client):
    yield frame(HEADERS, END_HEADERS, 1, client.block(post()))
    for _ in range(20000):
        yield frame(DATA, 0, 1)


def unknown_frame_flood(client):
    for _ in range(20000):
        yield frame(0x77, 0, 0)


def priority_flood(client):
    for number in range(20000):
        yield frame(PRIORITY, 0, number * 2 + 1, b"\0\0\0\0\1")


def priority_update_flood(client):
    for number in range(20000):
        yield frame(PRIORITY_UPDATE, 0, 0, struct.pack(">I", number % 50 * 2 + 1) + b"u=1")


def window_update_flood(client):
    for _ in range(20000):
        yield frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")


ATTACKS = {
    rapid_reset: "h2_reset_flood",
    reset_by_the_gateway: "h2_reset_flood",
    malformed_requests: "h2_reset_flood",
    continuation_flood: "h2_header_flood",
    empty_continuation_flood: "h2_header_flood",
    hpack_bomb: "h2_header_flood",
    ping_flood: "h2_ping_flood",
    settings_flood: "h2_settings_flood",
    empty_settings_flood: "h2_settings_flood",
    empty_data_flood: "h2_empty_flood",
    unknown_frame_flood: "h2_empty_flood",
    priority_flood: "h2_priority_flood",
    priority_update_flood: "h2_priority_flood",
    window_update_flood: "h2_window_flood",
}


def test_each_flood_is_ended_with_its_reason(gateway):
    made = gateway(REPLY.format(listener=""))
    made.sent = None
    with H2(made) as other:
        other.handshake()
        stream = -1
        before = resident_bytes(made.worker)
        failures = []
        for attack, reason in ATTACKS.items():
            counted = made.reasons().get(reason, 0)
            try:
                with H2(made) as client:
                    client.handshake()
                    try:
                        for sent in attack(client):
                            client.send(sent)
                    except (OSError, AssertionError):
                        pass
                    if not client.goaways:
                        client.must_end(ENHANCE_YOUR_CALM)
                    assert client.goaways[0].code == ENHANCE_YOUR_CALM
                # Of the connection, and of the streams that it had.
                eventually(lambda: made.reasons().get(reason, 0) > counted, reason, 5)
            except (AssertionError, Gone, OSError) as error:
                failures.append(f"{attack.__name__}: {type(error).__name__} {error}; {made.reasons()}")
            stream += 2
            assert other.request(stream, get()).status == 200, attack
        assert not failures, "\n".join(failures)
        if not SANITIZED:
            assert resident_bytes(made.worker) - before < 4 << 20


def test_answers_that_are_not_taken_do_not_pile_up(gateway):
    """A client that asks and asks, and reads nothing at all."""
    made = gateway(REPLY.format(listener="write_timeout = 500ms"))
    made.sent = None
    with H2(made, receive_buffer=4096) as client:
        client.handshake()
        before = resident_bytes(made.worker)
        try:
            for stream in range(1, 200001, 2):
                client.headers(stream, get())
        except OSError:
            pass
        if not SANITIZED:
            assert resident_bytes(made.worker) - before < 8 << 20
        assert made.get("/").status == 200
        client.wait_end()
    made.wait_descriptors()


def test_zero_windows_are_not_hoarded(proxy, upstream):
    """Windows that stay closed: each stream is given up after write_timeout, the others go on."""
    server = upstream(answering(b"x" * 100_000))
    gateway = proxy(server, listener="write_timeout = 300ms")
    with H2(gateway) as client:
        client.handshake([(INITIAL_WINDOW_SIZE, 0)])
        before = resident_bytes(gateway.worker)
        for stream in range(1, 201, 2):
            client.headers(stream, get())
        for stream in range(1, 201, 2):
            answer = client.response(stream)
            assert answer.reset == CANCEL and answer.status == 200
        gateway.wait_reason("write_timeout", 100)
        if not SANITIZED:
            assert resident_bytes(gateway.worker) - before < 16 << 20
        client.must_answer_ping()


def test_a_trickle_is_no_progress(proxy, upstream):
    """A window that opens byte by byte keeps nothing alive."""
    gateway = proxy(upstream(answering(b"x" * 100_000)), listener="write_timeout = 300ms")
    with H2(gateway) as client:
        client.handshake([(INITIAL_WINDOW_SIZE, 0)])
        client.headers(1, get())
        client.sock.settimeout(0.02)
        deadline = time.monotonic() + 5
        got = None
        while time.monotonic() < deadline and (got is None or got.kind != RST_STREAM):
            client.window_update(1, 1)
            time.sleep(0.02)
            try:
                got = client.read_frame()
            except TimeoutError:
                continue
        assert client.answers[1].reset == CANCEL
        gateway.count(1)
    gateway.wait_reason("write_timeout")


def test_a_head_that_does_not_end(gateway):
    made = gateway(REPLY.format(listener="header_timeout = 300ms"))
    with H2(made) as client:
        client.handshake()
        client.headers(1, get())
        client.response(1)
        client.frame(HEADERS, END_STREAM, 3, client.block(get()))
        client.must_end(ENHANCE_YOUR_CALM)
        made.count(1)
    made.wait_reason("head_timeout", 2)      # the connection and the request


def test_a_connection_at_rest_is_ended(gateway):
    made = gateway(REPLY.format(listener="keepalive_timeout = 200ms\nheader_timeout = 200ms"))
    for requests in (0, 1):
        with H2(made) as client:
            client.handshake()
            for stream in range(1, 2 * requests, 2):
                assert client.request(stream, get()).status == 200
            got = client.wait_frame(GOAWAY)
            assert (got.code, got.last_stream) == (0, 2 * requests - 1 if requests else 0)
            assert client.wait_end() == "end"


def test_body_windows_hold_the_client_back(proxy, upstream):
    """An upstream that does not read: the client may send one window, and no more is kept."""
    hold = threading.Event()

    def script(connection):
        request = connection.read_request(body=False)
        hold.wait(20)
        connection.read_request_body(request)
        connection.answer(b"done")

    server = upstream(script)
    gateway = proxy(server, listener="h2_stream_window = 64k", route="body_max = 100m")
    with H2(gateway) as client:
        client.handshake()
        window = client.settings[INITIAL_WINDOW_SIZE]
        assert window == 65536
        size = 20_000_000
        client.headers(1, post("/", ("content-length", str(size))), end=False)
        sent = 0
        client.sock.settimeout(1)
        # Sends as long as the windows are opened; the sockets on the way take some megabytes.
        while sent < size:
            while window > 0 and sent < size:
                n = min(window, 16384, size - sent)
                client.data(1, b"x" * n, end=sent + n == size)
                window -= n
                sent += n
            if sent == size:
                break
            try:
                got = client.read_frame()
            except TimeoutError:
                break
            if got.kind == WINDOW_UPDATE and got.stream == 1:
                window += struct.unpack(">I", got.payload)[0]
        assert sent < size, "nothing held it back"
        hold.set()
        client.sock.settimeout(10)
        while sent < size:
            got = client.read_frame()
            if got.kind == WINDOW_UPDATE and got.stream == 1:
                window += struct.unpack(">I", got.payload)[0]
            while window > 0 and sent < size:
                n = min(window, 16384, size - sent)
                client.data(1, b"x" * n, end=sent + n == size)
                window -= n
                sent += n
        assert client.response(1).body == b"done"
        assert len(server.requests[0].body) == size
