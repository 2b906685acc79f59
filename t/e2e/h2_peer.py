"""An HTTP/2 client that sends exactly the frames it is told to, right or wrong.

    with H2(gateway) as client:
        client.handshake()
        client.headers(1, get("/"))
        assert client.response(1).status == 200

What comes back is read strictly: a frame that breaks a rule of RFC 9113 fails the test.
"""
import struct
import time

import hpack

from peers import Client, Gone

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
(DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE,
 CONTINUATION) = range(10)
PRIORITY_UPDATE = 16
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 1, 1, 4, 8, 32
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED,
 FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM,
 INADEQUATE_SECURITY, HTTP_1_1_REQUIRED) = range(14)
(HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE,
 MAX_HEADER_LIST_SIZE) = range(1, 7)
ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 8, 9


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def get(path="/", *fields, method="GET", authority="a.example", scheme="http"):
    return [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path),
            *fields]


def post(path="/", *fields):
    return get(path, *fields, method="POST")


def plain_block(fields):
    """A field block of literals only: any bytes may stand in it, and HPACK state is not touched."""
    block = b""
    for name, value in fields:
        block += b"\0"
        for text in (name, value):
            text = text if isinstance(text, bytes) else text.encode("latin-1")
            if len(text) < 127:
                block += bytes([len(text)])
            else:
                rest, size = len(text) - 127, b"\x7f"
                while rest >= 128:
                    size += bytes([rest % 128 | 128])
                    rest //= 128
                block += size + bytes([rest])
            block += text
    return block


class Frame:
    def __init__(self, kind, flags, stream, payload):
        self.kind, self.flags, self.stream, self.payload = kind, flags, stream, payload

    @property
    def code(self):
        """Of RST_STREAM and GOAWAY."""
        return struct.unpack_from(">I", self.payload, 4 if self.kind == GOAWAY else 0)[0]

    @property
    def last_stream(self):
        return struct.unpack_from(">I", self.payload)[0] & 0x7FFFFFFF

    def __repr__(self):
        return f"<{self.kind} flags {self.flags} stream {self.stream} {self.payload[:40]!r}>"


class Answer:
    """A response: fields as a list, the body, and how the stream ended."""
    def __init__(self):
        self.interim, self.fields, self.trailers = [], None, None
        self.body = b""
        self.ended = False
        self.reset = None

    @property
    def status(self):
        return int(self.get(":status"))

    def get(self, name):
        found = [value for key, value in self.fields if key == name]
        assert len(found) <= 1, found
        return found[0] if found else None


class H2(Client):
    """Counts the answers it reads as requests that the gateway must have counted."""

    def __init__(self, gateway, address=None, **options):
        super().__init__(gateway, address, **options)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.answers = {}
        self.settings = {}
        self.window = 65535      # what the gateway may still send on the connection
        self.goaways = []
        self.frames = []         # all that have been read, for messages

    # ---- sending ----

    def frame(self, kind, flags=0, stream=0, payload=b"", length=None):
        return self.send(frame(kind, flags, stream, payload, length))

    def handshake(self, settings=()):
        """The preface, SETTINGS both ways and their acknowledgements."""
        self.send(PREFACE)
        self.send_settings(*settings)
        acked = False
        while not (acked and self.settings):
            got = self.read_frame()
            assert got.kind in (SETTINGS, WINDOW_UPDATE), got
            if got.kind == SETTINGS and got.flags & ACK:
                acked = True
            elif got.kind == SETTINGS:
                for at in range(0, len(got.payload), 6):
                    key, value = struct.unpack_from(">HI", got.payload, at)
                    self.settings[key] = value
        return self.frame(SETTINGS, ACK)

    def send_settings(self, *settings):
        return self.frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *one) for one in settings))

    def block(self, fields):
        return self.encoder.encode(fields)

    def headers(self, stream, fields, end=True, extra=0):
        return self.frame(HEADERS, END_HEADERS | (END_STREAM if end else 0) | extra, stream,
                          self.block(fields))

    def plain(self, stream, fields, end=True):
        """HEADERS with a block of literals: for names and values that a sound encoder changes."""
        return self.frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream,
                          plain_block(fields))

    def data(self, stream, payload=b"", end=False):
        return self.frame(DATA, END_STREAM if end else 0, stream, payload)

    def rst(self, stream, code=CANCEL):
        return self.frame(RST_STREAM, 0, stream, struct.pack(">I", code))

    def window_update(self, stream, increment):
        return self.frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))

    def ping(self, payload=b"12345678", flags=0):
        return self.frame(PING, flags, 0, payload)

    # ---- reading ----

    def read_frame(self):
        head = self.read_exact(9)
        length = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        assert length <= 16384 and stream < 1 << 31, head
        got = Frame(kind, flags, stream, self.read_exact(length))
        self.frames.append(got)
        if kind in (DATA, HEADERS, RST_STREAM, CONTINUATION):
            assert stream % 2 == 1, got
        if kind in (SETTINGS, PING, GOAWAY):
            assert stream == 0, got
        if kind == GOAWAY:
            if self.goaways:
                assert got.last_stream <= self.goaways[-1].last_stream, "§6.8"
            self.goaways.append(got)
        self.note(got)
        return got

    def note(self, got):
        """Adds what a frame says to the answer of its stream."""
        if got.kind not in (HEADERS, DATA, RST_STREAM):
            return
        answer = self.answers.setdefault(got.stream, Answer())
        if got.kind == RST_STREAM:
            answer.reset = got.code
            return
        assert answer.reset is None and not answer.ended, f"{got} on a closed stream"
        if got.kind == DATA:
            assert answer.fields is not None, "DATA before HEADERS"
            answer.body += got.payload
            self.window -= len(got.payload)
        else:
            block = got.payload
            while not got.flags & END_HEADERS:
                head = self.read_exact(9)
                assert head[3] == CONTINUATION, head
                got.flags |= head[4] & END_HEADERS
                block += self.read_exact(int.from_bytes(head[:3], "big"))
            fields = [(name if isinstance(name, str) else name.decode("latin-1"),
                       value if isinstance(value, str) else value.decode("latin-1"))
                      for name, value in self.decoder.decode(block)]
            for name, _ in fields:
                assert name == name.lower() and name not in ("connection", "transfer-encoding"), name
            if answer.fields is not None:
                assert got.flags & END_STREAM
                answer.trailers = fields
            elif dict(fields)[":status"].startswith("1"):
                answer.interim.append(fields)
            else:
                answer.fields = fields
        if got.flags & END_STREAM:
            answer.ended = True

    def response(self, stream, counted=True):
        """Reads until the stream has ended, in whatever way, or the connection has."""
        while True:
            answer = self.answers.get(stream)
            if answer and (answer.ended or answer.reset is not None):
                break
            self.read_frame()
        if counted:
            self.gateway.count(1)
        return answer

    def request(self, stream, fields, body=None):
        self.headers(stream, fields, end=body is None)
        if body is not None:
            self.data(stream, body, end=True)
        return self.response(stream)

    def wait_frame(self, kind, flags=0, stream=None):
        while True:
            got = self.read_frame()
            if got.kind == kind and got.flags & flags == flags and stream in (None, got.stream):
                return got

    def read_on(self):
        """Reads frames to the end of the connection, which must not be a reset."""
        try:
            while True:
                self.read_frame()
        except Gone as gone:
            assert not gone.reset

    # ---- what must happen ----

    def must_answer_ping(self):
        """The connection is alive."""
        self.ping(b"alive!!!")
        while True:
            got = self.read_frame()
            assert got.kind != GOAWAY, f"GOAWAY {got.code}"
            if got.kind == PING and got.flags & ACK and got.payload == b"alive!!!":
                return

    def must_end(self, *codes):
        """A connection error: GOAWAY with one of these codes, then the end, and no reset before the
        GOAWAY could be read (RFC 9113 §5.4.1)."""
        try:
            while True:
                got = self.read_frame()
                if got.kind == GOAWAY and got.code != NO_ERROR:
                    break
        except Gone as gone:
            raise AssertionError(f"the connection ended without GOAWAY, reset: {gone.reset}") from None
        assert got.code in codes, f"GOAWAY {got.code}, not {codes}"
        try:
            while True:
                self.read_frame()
        except Gone:
            pass

    def must_reset(self, stream, *codes):
        """A stream error: RST_STREAM with one of these codes; the connection goes on."""
        deadline = time.monotonic() + self.deadline
        while True:
            assert time.monotonic() < deadline, "no RST_STREAM"
            got = self.read_frame()
            assert got.kind != GOAWAY, f"GOAWAY {got.code}"
            if got.kind == RST_STREAM and got.stream == stream:
                break
        assert got.code in codes, f"RST_STREAM {got.code}, not {codes}"
        self.must_answer_ping()
