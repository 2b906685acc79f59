"""HTTP/2 framing, streams and errors: each rule of RFC 9113 §3 to §7 that a client can break, with
the right kind of error (stream or connection) and the right code; and HPACK (RFC 7541).

A case is a function of a client that has made its handshake; all cases of a section share one
gateway, each has a connection of its own.
"""
import struct
import threading

import pytest

from h2_peer import (ACK, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS,
                     END_STREAM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GOAWAY, H2, HEADERS,
                     HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS,
                     MAX_FRAME_SIZE, NO_ERROR, NO_RFC7540_PRIORITIES, PADDED, PING, PREFACE,
                     PRIORITIZED, PRIORITY, PRIORITY_UPDATE, PROTOCOL_ERROR, PUSH_PROMISE,
                     REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, frame,
                     get, post)
from peers import Gone, answering

REPLY = """
[listener public]
address = 127.0.0.1:0

[route all]
listener = public
reply = 200 0123456789
"""


@pytest.fixture
def replying(gateway):
    made = gateway(REPLY)
    made.sent = None
    return made


def run_cases(gateway, cases):
    failures = []
    for case in cases:
        try:
            with H2(gateway, deadline=5) as client:
                client.handshake()
                case(client)
        except (AssertionError, Gone, OSError) as error:
            failures.append(f"{case.__name__}: {type(error).__name__} {error}; {client.frames}")
    assert not failures, "\n".join(failures)
    with H2(gateway) as client:      # and it serves on
        client.handshake()
        assert client.request(1, get()).status == 200


def case_of(cases):
    def add(function):
        cases.append(function)
        return function
    return add


# ---- §3.4: the preface ----

def test_preface(replying):
    for wrong in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"INVALID CONNECTION PREFACE\r\n\r\n"):
        with H2(replying) as client:
            client.send(wrong)
            client.sock.settimeout(5)
            assert client.wait_end() in ("end", "reset")
    with H2(replying) as client:
        client.send(PREFACE + frame(PING, 0, 0, b"12345678"))
        client.must_end(PROTOCOL_ERROR)
    with H2(replying) as client:      # SETTINGS with ACK is not the one that has to come
        client.send(PREFACE + frame(SETTINGS, ACK))
        client.must_end(PROTOCOL_ERROR)
    with H2(replying) as client:
        for byte in PREFACE + frame(SETTINGS):
            client.send(bytes([byte]))
        client.must_answer_ping()


# ---- §4 ----

FRAMES = []


@case_of(FRAMES)
def unknown_type_is_ignored(client):
    client.frame(0x16, 0, 0, b"\0" * 8)
    client.frame(0xFF, 0xFF, 3, b"x" * 100)
    client.must_answer_ping()


@case_of(FRAMES)
def unknown_flags_are_ignored(client):
    client.frame(PING, 0x16, 0, b"12345678")
    assert client.wait_frame(PING, ACK).payload == b"12345678"


@case_of(FRAMES)
def reserved_bit_is_ignored(client):
    client.send(b"\0\0\x08\x06\0\x80\0\0\0alive678")
    assert client.wait_frame(PING, ACK).payload == b"alive678"


@case_of(FRAMES)
def largest_frame(client):
    client.headers(1, post(), end=False)
    client.data(1, b"x" * 16384, end=True)
    assert client.response(1, False).status == 200


@case_of(FRAMES)
def data_too_large(client):
    client.headers(1, post(), end=False)
    client.frame(DATA, END_STREAM, 1, b"x" * 16385)
    client.must_end(FRAME_SIZE_ERROR)


@case_of(FRAMES)
def headers_too_large(client):
    client.frame(HEADERS, END_STREAM | END_HEADERS, 1, client.block(get()) + b"\0\1a" + b"\x7f" + b"x" * 17000)
    client.must_end(FRAME_SIZE_ERROR)


@case_of(FRAMES)
def settings_too_large(client):
    client.frame(SETTINGS, 0, 0, struct.pack(">HI", 0x99, 0) * 2731)
    client.must_end(FRAME_SIZE_ERROR)


@case_of(FRAMES)
def bad_block(client):
    client.frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff")
    client.must_end(COMPRESSION_ERROR)


@case_of(FRAMES)
def cut_block(client):
    client.frame(HEADERS, END_STREAM | END_HEADERS, 1, client.block(get()) + b"\x40")
    client.must_end(COMPRESSION_ERROR)


def interleaved(name, sent):
    def case(client):
        client.frame(HEADERS, END_STREAM, 1, client.block(get()))
        client.send(sent)
        client.must_end(PROTOCOL_ERROR)
    case.__name__ = "in_a_block_" + name
    FRAMES.append(case)


interleaved("priority", frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 255)))
interleaved("headers_of_another", frame(HEADERS, 5, 3, b"\x82"))
interleaved("data", frame(DATA, 1, 1, b"x"))
interleaved("ping", frame(PING, 0, 0, b"12345678"))
interleaved("unknown", frame(0x77, 0, 0, b""))
interleaved("continuation_of_another", frame(CONTINUATION, 4, 3, b""))
interleaved("window_update", frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"))


def test_frames(replying):
    run_cases(replying, FRAMES)


# ---- §5.1: stream states ----

STATES = []


def idle(name, kind, payload, code=PROTOCOL_ERROR):
    def case(client):
        client.frame(kind, 0, 1, payload)
        client.must_end(code)
    case.__name__ = "idle_" + name
    STATES.append(case)


idle("data", DATA, b"test")
idle("rst_stream", RST_STREAM, struct.pack(">I", CANCEL))
idle("window_update", WINDOW_UPDATE, struct.pack(">I", 100))
idle("continuation", CONTINUATION, b"\x82")


@case_of(STATES)
def idle_priority(client):
    client.frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 255))
    client.must_answer_ping()


def half_closed(name, sender, *codes):
    """A reply has not been sent: the gateway cannot send, its window is 0."""
    def case(client):
        client.send_settings((INITIAL_WINDOW_SIZE, 0))
        client.headers(1, get())
        client.wait_frame(HEADERS)
        sender(client)
        client.must_end(*codes)
    case.__name__ = "half_closed_" + name
    STATES.append(case)


half_closed("data", lambda client: client.data(1, b"test"), STREAM_CLOSED)
half_closed("headers", lambda client: client.headers(1, get()), STREAM_CLOSED)
half_closed("continuation", lambda client: client.frame(CONTINUATION, 4, 1, client.block(get())),
            PROTOCOL_ERROR)


def closed(name, sender, *codes):
    """§5.1 closed: by the end of both directions, and by RST_STREAM of the client."""
    def ended(client):
        client.headers(1, get())
        assert client.response(1, False).status == 200
        sender(client)
        client.must_end(*codes)

    def reset(client):
        client.headers(1, post(), end=False)
        client.rst(1)
        sender(client)
        client.must_end(*codes)
    ended.__name__ = "ended_" + name
    reset.__name__ = "reset_" + name
    STATES.extend([ended, reset])


closed("data", lambda client: client.data(1, b"test"), STREAM_CLOSED)
closed("headers", lambda client: client.headers(1, get()), STREAM_CLOSED)
closed("continuation", lambda client: client.frame(CONTINUATION, 4, 1, client.block(get())),
       PROTOCOL_ERROR)


def harmless(name, sender):
    def case(client):
        client.headers(1, get())
        client.response(1, False)
        sender(client)
        client.must_answer_ping()
    case.__name__ = "closed_takes_" + name
    STATES.append(case)


harmless("window_update", lambda client: client.window_update(1, 100))
harmless("rst_stream", lambda client: client.rst(1))
harmless("priority", lambda client: client.frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 7)))


@case_of(STATES)
def after_our_reset_anything_is_in_good_faith(client):
    client.headers(1, post("/", ("connection", "close")), end=False)
    client.data(1, b"x")
    client.wait_frame(RST_STREAM, stream=1)
    client.data(1, b"x")
    client.headers(1, [("a", "b")])
    client.must_answer_ping()


# §5.1.1
@case_of(STATES)
def even_stream(client):
    client.headers(2, get())
    client.must_end(PROTOCOL_ERROR)


@case_of(STATES)
def lower_stream(client):
    client.headers(5, get())
    client.response(5, False)
    client.headers(3, get())
    client.must_end(PROTOCOL_ERROR, STREAM_CLOSED)


@case_of(STATES)
def headers_on_stream_zero(client):
    client.headers(0, get())
    client.must_end(PROTOCOL_ERROR)


# §5.3 (and RFC 7540 §5.3.1)
@case_of(STATES)
def headers_depend_on_themselves(client):
    client.frame(HEADERS, END_STREAM | END_HEADERS | PRIORITIZED, 1,
                 struct.pack(">IB", 1, 255) + client.block(get()))
    client.must_end(PROTOCOL_ERROR)     # a stream error that libnghttp2 treats as one of all


@case_of(STATES)
def priority_depends_on_itself(client):
    client.frame(PRIORITY, 0, 3, struct.pack(">IB", 3, 255))
    client.must_end(PROTOCOL_ERROR)


def test_streams(replying):
    run_cases(replying, STATES)


def test_too_many_streams(gateway):
    made = gateway(REPLY.replace(":0\n", ":0\nh2_max_streams = 5\n", 1))
    made.sent = None
    with H2(made) as client:
        client.handshake()
        assert client.settings[MAX_CONCURRENT_STREAMS] == 5
        for stream in range(1, 11, 2):
            client.headers(stream, post(), end=False)
        client.headers(11, get())
        try:
            client.must_reset(11, REFUSED_STREAM, PROTOCOL_ERROR)
        except AssertionError as error:
            assert f"GOAWAY {PROTOCOL_ERROR}" in str(error)
    with H2(made) as client:      # before the limit has been acknowledged it is nobody's fault
        client.send(PREFACE)
        client.send_settings()
        for stream in range(1, 15, 2):
            client.headers(stream, post(), end=False)
            client.data(stream, b"x")
        client.must_reset(11, REFUSED_STREAM)


# ---- §6: each frame ----

KINDS = []


def refused(name, sent, *codes, ready=None):
    def case(client):
        if ready:
            ready(client)
        client.send(sent)
        client.must_end(*codes)
    case.__name__ = name
    KINDS.append(case)


def open_stream(client):
    client.headers(1, post(), end=False)


refused("data_on_zero", frame(DATA, 0, 0, b"test"), PROTOCOL_ERROR)
refused("data_padding_too_long", frame(DATA, PADDED | END_STREAM, 1, b"\x06test!"), PROTOCOL_ERROR,
        ready=open_stream)
refused("data_without_pad_length", frame(DATA, PADDED, 1, b""), FRAME_SIZE_ERROR,
        ready=open_stream)
refused("headers_on_zero", frame(HEADERS, 5, 0, b"\x82\x84\x86"), PROTOCOL_ERROR)
refused("headers_padding_too_long", frame(HEADERS, 13, 1, b"\x07\x82\x84\x86\x41\1a"),
        PROTOCOL_ERROR)
refused("headers_priority_cut", frame(HEADERS, 5 | PRIORITIZED, 1, b"\0\0"), FRAME_SIZE_ERROR)
refused("priority_on_zero", frame(PRIORITY, 0, 0, b"\0\0\0\1\1"), PROTOCOL_ERROR)
refused("priority_of_four", frame(PRIORITY, 0, 1, b"\0\0\0\1"), FRAME_SIZE_ERROR)
refused("rst_stream_on_zero", frame(RST_STREAM, 0, 0, b"\0\0\0\x08"), PROTOCOL_ERROR)
refused("rst_stream_on_idle", frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), PROTOCOL_ERROR)
refused("rst_stream_of_three", frame(RST_STREAM, 0, 1, b"\0\0\x08"), FRAME_SIZE_ERROR,
        ready=open_stream)
refused("settings_ack_with_payload", frame(SETTINGS, ACK, 0, b"\0" * 6), FRAME_SIZE_ERROR)
refused("settings_on_a_stream", frame(SETTINGS, 0, 1, b"\0\3\0\0\0\x64"), PROTOCOL_ERROR)
refused("settings_of_three", frame(SETTINGS, 0, 0, b"\0\3\0"), FRAME_SIZE_ERROR)
refused("settings_push_2", frame(SETTINGS, 0, 0, struct.pack(">HI", ENABLE_PUSH, 2)), PROTOCOL_ERROR)
refused("settings_window", frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 1 << 31)),
        FLOW_CONTROL_ERROR)
refused("settings_frame_small", frame(SETTINGS, 0, 0, struct.pack(">HI", MAX_FRAME_SIZE, 16383)),
        PROTOCOL_ERROR)
refused("settings_frame_large", frame(SETTINGS, 0, 0, struct.pack(">HI", MAX_FRAME_SIZE, 1 << 24)),
        PROTOCOL_ERROR)
refused("settings_connect_2", frame(SETTINGS, 0, 0, struct.pack(">HI", 8, 2)), PROTOCOL_ERROR)
refused("settings_priorities_2",
        frame(SETTINGS, 0, 0, struct.pack(">HI", NO_RFC7540_PRIORITIES, 2)), PROTOCOL_ERROR)
refused("push_promise", frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2\x82"), PROTOCOL_ERROR,
        ready=open_stream)
refused("ping_on_a_stream", frame(PING, 0, 1, b"\0" * 8), PROTOCOL_ERROR)
refused("ping_of_six", frame(PING, 0, 0, b"\0" * 6), FRAME_SIZE_ERROR)
refused("goaway_on_a_stream", frame(GOAWAY, 0, 1, b"\0" * 8), PROTOCOL_ERROR)
refused("goaway_of_four", frame(GOAWAY, 0, 0, b"\0" * 4), FRAME_SIZE_ERROR)
refused("window_update_zero", frame(WINDOW_UPDATE, 0, 0, b"\0" * 4), PROTOCOL_ERROR)
refused("window_update_of_three", frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), FRAME_SIZE_ERROR)
refused("window_overflow", frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2, FLOW_CONTROL_ERROR)
refused("continuation_on_zero",
        frame(HEADERS, 1, 1, b"\x82\x84") + frame(CONTINUATION, 4, 0, b"\x86"), PROTOCOL_ERROR)
refused("continuation_alone", frame(CONTINUATION, 4, 1, b"\x82"), PROTOCOL_ERROR)
refused("continuation_behind_the_end",
        frame(HEADERS, 4, 1, b"\x82\x84\x86\x41\1a") + frame(CONTINUATION, 4, 1, b"\x82"),
        PROTOCOL_ERROR)
refused("continuation_behind_data",
        frame(HEADERS, 4, 1, b"\x82\x84\x86\x41\1a") + frame(DATA, 0, 1, b"x") +
        frame(CONTINUATION, 4, 1, b"\x82"), PROTOCOL_ERROR)


@case_of(KINDS)
def window_update_zero_on_a_stream(client):
    client.send_settings((INITIAL_WINDOW_SIZE, 0))
    client.headers(1, get())
    client.window_update(1, 0)
    client.must_end(PROTOCOL_ERROR)     # a stream error that libnghttp2 treats as one of all


@case_of(KINDS)
def window_overflow_on_a_stream(client):
    client.send_settings((INITIAL_WINDOW_SIZE, 0))
    client.headers(1, post(), end=False)
    client.window_update(1, 0x7FFFFFFF)
    client.window_update(1, 0x7FFFFFFF)
    client.must_reset(1, FLOW_CONTROL_ERROR)


@case_of(KINDS)
def settings_window_overflow(client):
    client.headers(1, post(), end=False)
    client.window_update(1, 0x7FFFFFFF - 65535)
    client.send_settings((INITIAL_WINDOW_SIZE, 70000))
    client.must_end(FLOW_CONTROL_ERROR)     # §6.9.2


@case_of(KINDS)
def unknown_settings_are_ignored(client):
    client.send_settings((0xFF, 1), (0x4A4A, 7))
    client.wait_frame(SETTINGS, ACK)
    client.must_answer_ping()


@case_of(KINDS)
def the_last_of_repeated_settings_counts(client):
    client.send_settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1))
    client.headers(1, get())
    got = client.wait_frame(DATA)
    assert len(got.payload) == 1
    client.must_answer_ping()


@case_of(KINDS)
def windows_may_be_negative(client):
    client.send_settings((INITIAL_WINDOW_SIZE, 3))
    client.headers(1, get())
    assert client.wait_frame(DATA).payload == b"012"
    client.send_settings((INITIAL_WINDOW_SIZE, 2))
    client.window_update(1, 1)       # 0 now
    client.must_answer_ping()
    assert client.answers[1].body == b"012"
    client.window_update(1, 1)
    assert client.wait_frame(DATA).payload == b"3"
    client.window_update(1, 100)
    assert client.response(1, False).body == b"0123456789\n"


@case_of(KINDS)
def settings_open_the_windows_of_streams(client):
    client.send_settings((INITIAL_WINDOW_SIZE, 0))
    client.headers(1, get())
    client.wait_frame(HEADERS)
    client.must_answer_ping()
    assert client.answers[1].body == b""
    client.send_settings((INITIAL_WINDOW_SIZE, 1))
    assert client.wait_frame(DATA).payload == b"0"
    client.send_settings((INITIAL_WINDOW_SIZE, 65535))
    assert client.response(1, False).body == b"0123456789\n"


@case_of(KINDS)
def an_acknowledged_ping_is_not_answered(client):
    client.ping(b"invalid!", ACK)
    client.ping(b"valid!!!")
    assert client.wait_frame(PING, ACK).payload == b"valid!!!"


@case_of(KINDS)
def goaway_of_the_client(client):
    client.headers(1, post(), end=False)
    client.frame(GOAWAY, 0, 0, struct.pack(">II", 0, NO_ERROR) + b"debug")
    client.data(1, b"x", end=True)
    assert client.response(1, False).status == 200


@case_of(KINDS)
def padding(client):
    client.frame(HEADERS, END_HEADERS | PADDED, 1, b"\x05" + client.block(post()) + b"\0" * 5)
    client.frame(DATA, PADDED, 1, b"\x03abc\0\0\0")
    client.frame(DATA, PADDED | END_STREAM, 1, b"\xff" + b"\0" * 255)
    assert client.response(1, False).status == 200


@case_of(KINDS)
def padding_and_priority(client):
    block = client.block(get())
    client.frame(HEADERS, END_HEADERS | END_STREAM | PADDED | PRIORITIZED, 1,
                 b"\x02" + struct.pack(">IB", 0x80000003, 255) + block + b"\0\0")
    assert client.response(1, False).status == 200


@case_of(KINDS)
def continuations(client):
    block = client.block(get("/", ("a", "b" * 30)))
    client.frame(HEADERS, END_STREAM, 1, block[:5])
    client.frame(CONTINUATION, 0, 1, block[5:6])
    client.frame(CONTINUATION, 0, 1, b"")
    client.frame(CONTINUATION, END_HEADERS, 1, block[6:])
    assert client.response(1, False).status == 200


@case_of(KINDS)
def empty_data_ends_a_request(client):
    client.headers(1, post(), end=False)
    client.data(1, b"")
    client.data(1, b"", end=True)
    assert client.response(1, False).status == 200


# RFC 9218 §7.1
refused("priority_update_on_a_stream", frame(PRIORITY_UPDATE, 0, 1, b"\0\0\0\1u=1"), PROTOCOL_ERROR)
refused("priority_update_of_zero", frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\0u=1"), PROTOCOL_ERROR)


@case_of(KINDS)
def priority_updates(client):
    client.frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1u=0, i")
    client.headers(1, get("/", ("priority", "u=5")))
    client.frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\1not valid at all!")
    assert client.response(1, False).status == 200


def test_kinds(replying):
    run_cases(replying, KINDS)


# ---- RFC 7541 ----

HPACK = []


def bad_block_case(name, block):
    def case(client):
        client.frame(HEADERS, END_STREAM | END_HEADERS, 1, client.block(get()) + block)
        client.must_end(COMPRESSION_ERROR)
    case.__name__ = name
    HPACK.append(case)


bad_block_case("index_beyond_the_tables", b"\xff\x50")           # §2.3.3
bad_block_case("literal_index_beyond_the_tables", b"\x7f\x50\1a")
bad_block_case("index_zero", b"\x80")                            # §6.1
bad_block_case("size_update_at_the_end", b"\x3f\xe1\x07")        # §4.2
bad_block_case("huffman_padding_over_7_bits", b"\0\1a\x82\x1f\xff")  # §5.2
bad_block_case("huffman_padding_of_zeros", b"\0\1a\x81\x18")
bad_block_case("huffman_with_eos", b"\0\1a\x84\xff\xff\xff\xff")
bad_block_case("integer_overflow", b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
bad_block_case("string_beyond_the_block", b"\0\1a\x7f\xff\x01x")


@case_of(HPACK)
def size_update_above_the_setting(client):                       # §6.3
    client.frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x3f\xe2\x1f" + client.block(get()))
    client.must_end(COMPRESSION_ERROR)


@case_of(HPACK)
def size_update_at_the_beginning(client):
    client.frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x20\x3f\xe1\x1f" + client.block(get()))
    assert client.response(1, False).status == 200


@case_of(HPACK)
def a_smaller_table_of_the_client(client):
    """The gateway has to say that it uses the smaller one (§4.2), or the decoder here fails."""
    client.headers(1, get())
    client.response(1, False)
    client.decoder.max_allowed_table_size = 0
    client.send_settings((HEADER_TABLE_SIZE, 0))
    client.wait_frame(SETTINGS, ACK)
    for stream in (3, 5):
        client.headers(stream, get())
        assert client.response(stream, False).status == 200
    assert client.decoder.header_table_size == 0


@case_of(HPACK)
def a_block_of_a_refused_request_counts(client):
    """What is not looked at has to be decoded: the table goes on."""
    client.headers(1, get("/", ("connection", "x"), ("x-later", "value")))
    client.wait_frame(RST_STREAM)
    client.headers(3, get("/", ("x-later", "value")))
    assert client.response(3, False).status == 200


def test_hpack(replying):
    run_cases(replying, HPACK)


def test_a_client_that_does_not_obey_the_window(proxy, upstream):
    """DATA beyond what was allowed, for an upstream that does not read."""
    hold = threading.Event()

    def script(connection):
        connection.read_request(body=False)
        hold.wait(20)

    made = proxy(upstream(script), listener="h2_connection_window = 4m")
    made.sent = None
    with H2(made) as client:
        client.handshake()
        client.headers(1, post(), end=False)
        try:
            for _ in range(1500):
                client.data(1, b"x" * 16384)
        except OSError:
            pass
        try:
            while not client.goaways and (1 not in client.answers or client.answers[1].reset is None):
                client.read_frame()
        except Gone:
            pass
        if not client.goaways:
            assert client.answers[1].reset == FLOW_CONTROL_ERROR
        else:
            assert client.goaways[0].code == FLOW_CONTROL_ERROR
    hold.set()


def test_the_gateway_counts_what_it_ends(gateway, upstream):
    made = gateway(REPLY)
    with H2(made) as client:
        client.handshake()
        client.frame(DATA, 0, 0, b"test")
        client.must_end(PROTOCOL_ERROR)
    made.wait_reason("h2_protocol")


def test_http2_off(proxy, upstream):
    """Without HTTP/2 the preface is a request line of an unknown version."""
    made = proxy(upstream(answering(b"ok")), listener="http2 = off")
    with H2(made) as client:
        client.send(PREFACE)
        assert b" 505 " in client.read_until(b"\r\n")
        made.count(1)
