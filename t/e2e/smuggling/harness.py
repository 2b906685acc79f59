"""What the smuggling tests and the comparison share: an upstream that records every byte, a client
that sends raw bytes, and the reading of what came.

The reading here is the plain one: a request or response either is in the one canonical form, or it
is reported as malformed. It shares no code with the gateway.
"""
import re
import select
import socket
import threading
import time

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
PATIENCE = 10.0  # seconds; no wait here ends by it unless something is wrong


class Malformed(Exception):
    pass


def read_fields(lines):
    fields = []
    for text in lines:
        name, colon, value = text.partition(b":")
        if not colon or not TOKEN.fullmatch(name):
            raise Malformed(f"field line {text!r}")
        if re.search(rb"[\0-\x08\x0a-\x1f\x7f]", value):
            raise Malformed(f"field value {value!r}")
        fields.append((name.decode().lower(), value.strip(b" \t")))
    return fields


def all_of(fields, name):
    return [value for known, value in fields if known == name]


def read_chunked(data):
    """(body, bytes used) or None where it is not complete."""
    body, at = b"", 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", data[at:end]):
            raise Malformed(f"chunk size {data[at:end]!r}")
        size = int(data[at:end], 16)
        at = end + 2
        if size == 0:
            break
        if len(data) < at + size + 2:
            return None
        if data[at + size:at + size + 2] != b"\r\n":
            raise Malformed("chunk without its end")
        body += data[at:at + size]
        at += size + 2
    while True:  # the trailer section
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        text, at = data[at:end], end + 2
        if not text:
            return body, at
        read_fields([text])


def read_body(fields, rest, no_length):
    """(body, bytes used), None where it is not complete. `no_length` is what no framing means."""
    lengths, codings = all_of(fields, "content-length"), all_of(fields, "transfer-encoding")
    if len(lengths) + len(codings) > 1:
        raise Malformed("framed twice")
    if codings:
        if codings[0].lower() != b"chunked":
            raise Malformed(f"coding {codings[0]!r}")
        return read_chunked(rest)
    if lengths:
        if not re.fullmatch(rb"0|[1-9][0-9]*", lengths[0]):
            raise Malformed(f"length {lengths[0]!r}")
        size = int(lengths[0])
        return (rest[:size], size) if len(rest) >= size else None
    return no_length


class Request:
    def __init__(self, method, target, fields, body, raw):
        self.method, self.target, self.fields = method, target, fields
        self.body, self.raw = body, raw

    def values(self, name):
        return [value.decode("latin-1") for value in all_of(self.fields, name.lower())]

    def __repr__(self):
        return f"{self.method} {self.target} {self.body!r}"


def read_request(data):
    """(Request, bytes used), or None where `data` holds no complete one."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if re.search(rb"[\0]|(?<!\r)\n|\r(?!\n|$)", data):
            raise Malformed(f"head {data[:200]!r}")
        return None
    lines = data[:end].split(b"\r\n")
    match = re.fullmatch(rb"([!-~]+) ([!-~]+) HTTP/1\.([01])", lines[0])
    if not match or not TOKEN.fullmatch(match[1]):
        raise Malformed(f"request line {lines[0]!r}")
    fields = read_fields(lines[1:])
    if match[3] == b"1" and len(all_of(fields, "host")) != 1:
        raise Malformed("not exactly one Host")
    body = read_body(fields, data[end + 4:], (b"", 0))
    if body is None:
        return None
    used = end + 4 + body[1]
    return Request(match[1].decode(), match[2].decode(), fields, body[0], data[:used]), used


class Connection:
    """One upstream connection: all its bytes, the requests in them, and what was wrong."""

    def __init__(self, number):
        self.number = number
        self.received = b""
        self.requests = []
        self.malformed = None
        self.open = True


class Upstream:
    """Records every byte; answers each complete request by respond(request) -> (bytes, close).

    The default answer is "200" with the request's target as its body.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.connections = []
        self.peers = set()
        self.scripts = {}  # target -> (bytes, close), for one or more requests
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """Ends the listener and every connection."""
        self.listener.close()
        with self.lock:
            peers = list(self.peers)
        for peer in peers:
            try:
                peer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                connection = Connection(len(self.connections))
                self.connections.append(connection)
                self.peers.add(peer)
            threading.Thread(target=self._serve, args=(peer, connection), daemon=True).start()

    def _answer(self, request):
        with self.lock:
            script = self.scripts.get(request.target)
        if script:
            return script
        body = b"" if request.method == "HEAD" else request.target.encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request.target)
        return head + body, False

    def _serve(self, peer, connection):
        rest = b""
        try:
            while True:
                data = peer.recv(65536)
                if not data:
                    break
                with self.lock:
                    connection.received += data
                rest += data
                while rest and not connection.malformed:
                    try:
                        found = read_request(rest)
                    except Malformed as problem:
                        with self.lock:
                            connection.malformed = str(problem)
                        break
                    if found is None:
                        break
                    request, used = found
                    rest = rest[used:]
                    with self.lock:
                        connection.requests.append(request)
                    answer, close = self._answer(request)
                    peer.sendall(answer)
                    if close:
                        return
        except OSError:
            pass
        finally:
            with self.lock:
                connection.open = False
                self.peers.discard(peer)
            peer.close()

    def mark(self):
        """A moment in the record: how many bytes of requests each connection has had."""
        with self.lock:
            return {c.number: len(c.requests) for c in self.connections}, len(self.connections)

    def since(self, mark):
        """(requests with their connection's number, what was malformed) after the moment."""
        counts, _ = mark
        with self.lock:
            requests = [(c.number, request) for c in self.connections
                        for request in c.requests[counts.get(c.number, 0):]]
            malformed = [c.malformed for c in self.connections if c.malformed]
            return requests, malformed

    def forget_malformed(self):
        with self.lock:
            for connection in self.connections:
                connection.malformed = None


class Response:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body

    def values(self, name):
        return [value.decode("latin-1") for value in all_of(self.fields, name.lower())]

    def __repr__(self):
        return f"{self.status} {self.body[:100]!r}"


def read_responses(data, methods, ended):
    """The final responses in `data` to requests of these methods, and what is left over.

    `ended`: the connection has ended. Interim responses are skipped.
    """
    responses = []
    while data:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            break
        lines = data[:end].split(b"\r\n")
        match = re.fullmatch(rb"HTTP/1\.[01] ([1-5][0-9][0-9])( [ -~\x80-\xff]*)?", lines[0])
        if not match:
            raise Malformed(f"status line {lines[0]!r}")
        status, fields = int(match[1]), read_fields(lines[1:])
        rest = data[end + 4:]
        if 100 <= status < 200 and status != 101:
            data = rest
            continue
        method = methods[len(responses)] if len(responses) < len(methods) else "GET"
        if method == "HEAD" or status in (204, 304):
            body = (b"", 0)
        else:
            body = read_body(fields, rest, (rest, len(rest)) if ended else None)
        if body is None:
            break
        responses.append(Response(status, fields, body[0]))
        data = rest[body[1]:]
    return responses, data


class Answer:
    """What came back on one client connection."""

    def __init__(self):
        self.received = b""
        self.ended = False  # the gateway closed it
        self.reset = False

    def responses(self, methods):
        return read_responses(self.received, methods, self.ended)


def exchange(port, raw, methods, wanted=None, dribble=False, half_close=False, patience=PATIENCE):
    """Sends `raw` on a new connection and reads until the end of the connection, or until `wanted`
    responses are complete. `dribble`: one byte a packet."""
    answer = Answer()
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deadline = time.monotonic() + patience

        def receive():
            try:
                data = client.recv(65536)
            except OSError:
                answer.ended = answer.reset = True
                return
            answer.received += data
            answer.ended = not data

        step = 1 if dribble else 16384
        at = 0
        client.setblocking(False)
        while not answer.ended and time.monotonic() < deadline:
            unsent = [client] if at < len(raw) else []
            readable, writable, _ = select.select([client], unsent, [], 0.2)
            if writable:
                try:
                    at += client.send(raw[at:at + step])
                except BlockingIOError:
                    pass
                except OSError:
                    at = len(raw)
                if at >= len(raw) and half_close:
                    try:
                        client.shutdown(socket.SHUT_WR)
                    except OSError:
                        pass
            if readable:
                receive()
                if wanted is not None:
                    found, _ = answer.responses(methods)
                    if len(found) >= wanted:
                        break
    return answer
