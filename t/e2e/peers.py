"""The two ends of a gateway in a test: raw clients and scripted upstreams.

Both are plain sockets that send exactly the bytes a test says, with a small strict reader for
HTTP/1 messages that tells how a body was framed and whether it was whole. Every wait has a
deadline. An upstream runs its script, a function of one connection, in a thread for each
connection; what fails in there fails the test when the upstream is closed.
"""
import os
import select
import socket
import struct
import threading

from waiting import DEADLINE, eventually


class Gone(Exception):
    """The other side ended the connection; `reset` tells a reset from a proper end."""

    def __init__(self, reset):
        super().__init__("reset" if reset else "end")
        self.reset = reset


class Message:
    """A request or a response as read from the wire."""

    def __init__(self, raw_head):
        self.raw_head = raw_head
        lines = raw_head.decode("latin-1").split("\r\n")
        self.start_line = lines[0]
        self.fields = []
        for line in lines[1:]:
            if line:
                name, colon, value = line.partition(":")
                assert colon and name and name == name.strip(), f"bad field line {line!r}"
                self.fields.append((name, value.strip()))
        self.body = b""
        self.chunks = []          # sizes of the chunks, where it was chunked
        self.trailers = []
        self.framing = "none"     # none, length, chunked or close
        self.complete = False
        self.ended_by_reset = False

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    def has(self, name):
        return bool(self.all(name))


class Request(Message):
    def __init__(self, raw_head):
        super().__init__(raw_head)
        self.method, self.target, self.version = self.start_line.split(" ")


class Response(Message):
    def __init__(self, raw_head):
        super().__init__(raw_head)
        self.version, status, self.phrase = self.start_line.split(" ", 2)
        self.status = int(status)
        self.interim = []         # the 1xx responses before it

    @property
    def code(self):
        """The reason code of an error reply."""
        import json
        return json.loads(self.body)["code"]


class Peer:
    """A connected socket with a buffer for reading."""

    def __init__(self, sock, deadline=DEADLINE):
        self.sock = sock
        self.deadline = deadline
        self.sock.settimeout(deadline)
        self.unread = bytearray()
        self.received = 0         # bytes in all
        self.log = None           # a bytearray that keeps all that came, where wanted
        self.ended = None         # "end" or "reset" once seen

    # ---- bytes ----

    def send(self, data):
        self.sock.sendall(data)
        return self

    def fill(self, limit=1 << 16):
        """Reads something into the buffer; raises Gone at the end."""
        try:
            data = self.sock.recv(limit)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = "reset"
            raise Gone(True) from None
        if not data:
            self.ended = "end"
            raise Gone(False)
        self.received += len(data)
        if self.log is not None:
            self.log += data
        self.unread += data

    def take(self, size):
        data = bytes(self.unread[:size])
        del self.unread[:size]
        return data

    def read_until(self, end):
        start = 0
        while True:
            at = self.unread.find(end, start)
            if at >= 0:
                return self.take(at + len(end))
            start = max(0, len(self.unread) - len(end))
            self.fill()

    def read_exact(self, size):
        while len(self.unread) < size:
            self.fill(max(1 << 16, min(size - len(self.unread), 1 << 20)))
        return self.take(size)

    def drain(self, chunk=1 << 20):
        """Reads to the end without keeping; returns how many bytes there were."""
        count = len(self.unread)
        self.unread.clear()
        try:
            while True:
                self.fill(chunk)
                count += len(self.unread)
                self.unread.clear()
        except Gone:
            return count

    def read_to_end(self):
        try:
            while True:
                self.fill()
        except Gone:
            return self.take(len(self.unread))

    def wait_end(self):
        """Waits until the other side has ended the connection: "end" or "reset"."""
        self.read_to_end()
        return self.ended

    def quiet(self, seconds):
        """True where neither a byte nor the end comes in that time."""
        return not self.unread and not select.select([self.sock], [], [], seconds)[0]

    # ---- ends ----

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def close(self):
        self.sock.close()

    def reset(self):
        """Ends with RST."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- messages ----

    def read_head(self):
        return self.read_until(b"\r\n\r\n")

    def read_chunked(self, message):
        message.framing = "chunked"
        body = bytearray()
        while True:
            size = int(self.read_until(b"\r\n")[:-2], 16)
            if size == 0:
                break
            message.chunks.append(size)
            body += self.read_exact(size)
            message.body = bytes(body) if len(body) < 1 << 16 else body
            assert self.read_exact(2) == b"\r\n", "no CRLF behind the chunk"
        message.body = bytes(body)
        while True:
            line = self.read_until(b"\r\n")[:-2].decode("latin-1")
            if not line:
                return
            name, colon, value = line.partition(":")
            assert colon, f"bad trailer {line!r}"
            message.trailers.append((name, value.strip()))

    def read_length(self, message, size):
        message.framing = "length"
        try:
            message.body = self.read_exact(size)
        except Gone:
            message.body = self.take(len(self.unread))
            raise


class Client(Peer):
    """A client of a gateway. Each response read counts as one request that the gateway must have
    counted; for a request that gets none a test says gateway.count(1)."""

    def __init__(self, gateway, address=None, receive_buffer=None, deadline=DEADLINE):
        self.gateway = gateway
        self.address = address or gateway.address
        family = (socket.AF_UNIX if isinstance(self.address, str)
                  else socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET)
        sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(deadline)
        try:
            sock.connect(self.address)
        except BaseException:
            sock.close()
            raise
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().__init__(sock, deadline)
        gateway.clients.append(self)

    def read_response(self, method="GET", counted=True):
        """Reads a final response. Where the body is cut short, complete is False."""
        interim = []
        while True:
            response = Response(self.read_head())
            if response.status >= 200 or response.status == 101:
                break
            interim.append(response)
        response.interim = interim
        if counted:
            self.gateway.count(1)
        try:
            self.read_body(response, method)
            response.complete = True
        except Gone as gone:
            response.ended_by_reset = gone.reset
        return response

    def read_body(self, response, method):
        length = response.get("Content-Length")
        if method == "HEAD" or response.status in (101, 204, 304):
            return
        if response.has("Transfer-Encoding"):
            assert response.get("Transfer-Encoding") == "chunked"
            assert length is None, "both lengths"
            self.read_chunked(response)
        elif length is not None:
            self.read_length(response, int(length))
        else:
            response.framing = "close"
            response.body = self.read_to_end()
            if self.ended == "reset":
                raise Gone(True)

    def request(self, head, body=b"", method=None):
        self.send(head + body)
        return self.read_response(method or head.split(b" ", 1)[0].decode())

    def get(self, target="/", *fields, method="GET", body=b""):
        """One request with Host and the given field lines; with a body there is its length."""
        self.send(request_bytes(target, *fields, method=method, body=body))
        return self.read_response(method)


def request_bytes(target="/", *fields, method="GET", body=b"", host="a.example"):
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def response_bytes(body=b"", *fields, status="200 OK", version="HTTP/1.1"):
    lines = [f"{version} {status}", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def unread_at(port):
    """How many bytes the owner of the local socket with this TCP port has not read yet."""
    with open("/proc/net/tcp") as table:
        for line in table:
            words = line.split()
            if words[1].endswith(f":{port:04X}") and words[3] == "01":
                return int(words[4].split(":")[1], 16)
    return 0


class Connection(Peer):
    """A connection that the gateway made to an upstream."""

    def __init__(self, upstream, sock, number):
        super().__init__(sock)
        self.upstream = upstream
        self.number = number
        self.requests = []

    def read_request(self, body=True):
        """Reads a request, with its body unless told otherwise; raises Gone at the end."""
        request = Request(self.read_head())
        self.requests.append(request)
        if body:
            self.read_request_body(request)
        self.upstream.requests.append(request)
        return request

    def read_request_body(self, request):
        length = request.get("Content-Length")
        if request.has("Transfer-Encoding"):
            assert request.get("Transfer-Encoding") == "chunked" and length is None
            self.read_chunked(request)
        elif length is not None:
            self.read_length(request, int(length))
        request.complete = True
        return request

    def answer(self, body=b"", *fields, status="200 OK"):
        return self.send(response_bytes(body, *fields, status=status))

    def wait_taken(self):
        """Waits until the gateway has read all that was sent to it."""
        port = self.sock.getpeername()[1]
        eventually(lambda: unread_at(port) == 0, "the gateway reads what the upstream sent")


def answering(body=b"ok", *fields, status="200 OK"):
    """A script: the same answer to each request on a kept-alive connection."""
    def script(connection):
        while True:
            connection.read_request()
            connection.answer(body, *fields, status=status)
    return script


def sending(raw, *, end="close"):
    """A script: reads one request, sends these bytes and ends by "close", "reset", or "wait"s."""
    def script(connection):
        connection.read_request()
        connection.send(raw)
        if end == "wait":
            connection.wait_end()
        elif end == "reset":
            connection.reset()
    return script


class Upstream:
    """A server whose script is run for each connection, in a thread of its own. The connection is
    closed where the script returns. The script may be exchanged between connections."""

    def __init__(self, script=None, host="127.0.0.1", path=None, backlog=512, port=0):
        self.script = script or answering()
        self.connections = []
        self.requests = []
        self.errors = []
        self.threads = []
        self.closing = False
        self.path = path
        if path:
            self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.listening.bind(path)
            os.chmod(path, 0o777)    # the workers may run as another user
            self.target = f"http://unix:{path}"
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.listening = socket.socket(family, socket.SOCK_STREAM)
            self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listening.bind((host, port))
            self.port = self.listening.getsockname()[1]
            self.target = f"http://{'[' + host + ']' if ':' in host else host}:{self.port}"
        self.listening.listen(backlog)
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listening.accept()
            except OSError:
                return
            if self.closing:
                sock.close()
                return
            if not self.path:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, len(self.connections))
            self.connections.append(connection)
            thread = threading.Thread(target=self.serve, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def serve(self, connection):
        try:
            self.script(connection)
        except (Gone, BrokenPipeError, ConnectionResetError):
            pass
        except Exception as error:  # reported by close()
            if not self.closing:
                self.errors.append(error)
        finally:
            connection.close()

    def wait_connection(self, number=0):
        eventually(lambda: len(self.connections) > number, f"connection {number} to the upstream")
        return self.connections[number]

    def wait_requests(self, count):
        eventually(lambda: len(self.requests) >= count,
                   lambda: f"{count} requests at the upstream, there are {len(self.requests)}")
        return self.requests

    def stop_listening(self):
        """Connections are refused from now on; those that there are stay."""
        try:
            self.listening.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listening.close()
        self.acceptor.join(DEADLINE)

    def close(self):
        if self.closing:
            return
        self.closing = True
        self.stop_listening()
        for connection in self.connections:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), "an upstream's script does not end"
        if self.path and os.path.exists(self.path):
            os.unlink(self.path)
        if self.errors:
            raise self.errors[0]
