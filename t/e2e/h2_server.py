"""A scripted upstream that speaks HTTP/2 (python3-h2), for tests of what the gateway does as a client.

    def handler(h2, stream):           # called when a request is whole, in the connection's thread
        h2.respond(stream.id, 200, body=b"hello", trailers=[("grpc-status", "0")])

    server = upstream(speaking_h2(handler))

Requests stand in server.h2_requests as they begin. A handler may also send raw frames, or keep the
stream for later: `on_event` sees every event of python3-h2 and may answer at any moment.
"""
import struct

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from peers import Gone

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = \
    range(10)


def frame(kind, flags=0, stream=0, payload=b""):
    """A frame as it is on the wire."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + \
        struct.pack(">I", stream) + payload


class Stream:
    def __init__(self, number, headers):
        self.id = number
        self.headers = [(k.decode("latin-1") if isinstance(k, bytes) else k,
                         v.decode("latin-1") if isinstance(v, bytes) else v) for k, v in headers]
        self.body = b""
        self.trailers = None
        self.ended = False
        self.reset = None         # the code of a RST_STREAM that came

    def get(self, name):
        values = [v for k, v in self.headers if k == name]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def all(self, name):
        return [v for k, v in self.headers if k == name]


class H2Side:
    """The server's side of one connection."""

    def __init__(self, connection, settings=None, validate=True):
        self.connection = connection
        self.sock = connection.sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=False, header_encoding="utf-8",
            validate_outbound_headers=validate, normalize_outbound_headers=validate,
            validate_inbound_headers=True))
        self.streams = {}
        self.waiting = {}         # stream: [bytes, end, trailers] that the window keeps back
        self.consume = True       # give the window back as bodies come
        self.max_open = 0         # most streams open at once
        self.pings = 0
        self.refuse = set()
        self.h2.local_settings = h2.settings.Settings(
            client=False, initial_values={
                h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100,
                **(settings or {})})
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def raw(self, data):
        self.flush()
        self.sock.sendall(data)

    def respond(self, number, status, headers=(), body=None, trailers=None, end=True):
        """Sends a head and, unless told otherwise, the end."""
        lines = [(":status", str(status)), *headers]
        self.h2.send_headers(number, lines, end_stream=end and body is None and trailers is None)
        if body is not None or (trailers is not None and end):
            self.send(number, body or b"", end, trailers)
        self.flush()

    def send(self, number, body, end=False, trailers=None):
        pending = self.waiting.setdefault(number, [bytearray(), False, None])
        pending[0] += body
        pending[1] = pending[1] or end
        pending[2] = trailers or pending[2]
        self.pump(number)

    def pump(self, number):
        """Sends of the body as much as the windows allow."""
        pending = self.waiting.get(number)
        if pending is None:
            return
        try:
            while pending[0]:
                room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
                if room <= 0:
                    break
                piece = bytes(pending[0][:room])
                del pending[0][:room]
                last = not pending[0] and pending[1] and pending[2] is None
                self.h2.send_data(number, piece, end_stream=last)
                if last:
                    del self.waiting[number]
                    break
                self.flush()
            else:
                if pending[1]:
                    if pending[2] is not None:
                        self.h2.send_headers(number, pending[2], end_stream=True)
                    else:
                        self.h2.send_data(number, b"", end_stream=True)
                    del self.waiting[number]
                elif not pending[0]:
                    del self.waiting[number]
        except h2.exceptions.StreamClosedError:
            self.waiting.pop(number, None)
        self.flush()

    def reset(self, number, code=0):
        self.h2.reset_stream(number, code)
        self.flush()

    def goaway(self, last, code=0):
        """A GOAWAY that leaves this side as it was."""
        self.raw(frame(GOAWAY, payload=struct.pack(">II", last, code)))

    def events(self):
        """What has come next; raises Gone at the end."""
        data = self.connection.unread or None
        if not data:
            self.connection.fill()
            data = self.connection.unread
        data = bytes(data)
        self.connection.unread.clear()
        events = self.h2.receive_data(data)
        self.flush()
        return events

    def note(self, event):
        """Keeps what an event says; the stream whose request it completes, or None."""
        if isinstance(event, h2.events.RequestReceived):
            stream = Stream(event.stream_id, event.headers)
            self.streams[stream.id] = stream
            self.connection.upstream.h2_requests.append(stream)
            open_now = sum(1 for s in self.streams.values() if not s.ended or s.id in self.waiting)
            self.max_open = max(self.max_open, open_now)
        elif isinstance(event, h2.events.DataReceived):
            self.streams[event.stream_id].body += event.data
            if self.consume and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.flush()
        elif isinstance(event, h2.events.TrailersReceived):
            self.streams[event.stream_id].trailers = list(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            self.streams[event.stream_id].ended = True
            return self.streams[event.stream_id]
        elif isinstance(event, h2.events.StreamReset):
            self.streams[event.stream_id].reset = int(event.error_code)
            self.waiting.pop(event.stream_id, None)
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            for number in list(self.waiting):
                self.pump(number)
        return None


def speaking_h2(handler=None, *, on_event=None, settings=None, on_start=None, validate=True):
    """A script for peers.Upstream."""
    def script(connection):
        if not hasattr(connection.upstream, "h2_requests"):
            connection.upstream.h2_requests = []
            connection.upstream.h2_sides = []
        side = H2Side(connection, settings, validate)
        connection.upstream.h2_sides.append(side)
        if on_start:
            on_start(side)
        while True:
            for event in side.events():
                stream = side.note(event)
                if on_event and on_event(side, event):
                    return
                if stream is not None and handler:
                    handler(side, stream)
                side.flush()
    return script


def answering_h2(body=b"ok", status=200, headers=(), trailers=None):
    """A handler: the same answer to each request."""
    def handler(side, stream):
        side.respond(stream.id, status, headers, body, trailers)
    return handler
