"""gRPC through the gateway with the real library: all kinds of calls, statuses, deadlines, ends."""
import re
import socket
import threading
import time

import grpc
import h2.config
import h2.connection
import h2.events
import pytest

from grpc_peers import MESSAGE, Server, Stub, status_of
from peers import answering
from waiting import eventually

Status = grpc.StatusCode


@pytest.fixture
def echo():
    server = Server()
    yield server
    server.close()


def config(target, route="grpc = demo.Echo", upstream="", more=""):
    return f"""
[listener public]
address = 127.0.0.1:0

[upstream echo]
target = {target}
protocol = h2
{upstream}

[route calls]
{route}
upstream = echo
{more}
"""


@pytest.fixture
def through(gateway, echo):
    """A gateway before the echo server, and a stub: through(route=…, calls=N) as a context."""
    def make(calls, **options):
        one = gateway(config(echo.target, **options))
        one.count(calls)
        stub = Stub(one.port)
        made.append(stub)
        return one, stub
    made = []
    yield make
    for stub in made:
        stub.channel.close()


MESSAGE_A = b"\0\0\0\0\1a"


class Scripted:
    """An upstream of one connection that answers a call with a head and these bytes (None: not even
    a head), and then stays or dies."""

    def __init__(self, sent, stays):
        self.sent, self.stays = sent, stays
        self.over = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.target = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        sock, _ = self.listening.accept()
        with sock:
            http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
            http.initiate_connection()
            sock.sendall(http.data_to_send())
            while True:
                for event in http.receive_data(sock.recv(65536)):
                    if isinstance(event, h2.events.RequestReceived):
                        return self.answer(sock, http, event.stream_id)
                sock.sendall(http.data_to_send())

    def answer(self, sock, http, stream):
        if self.sent is not None:
            http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        if self.sent:
            http.send_data(stream, self.sent)
        sock.sendall(http.data_to_send())
        if self.stays:
            self.over.wait(60)
        else:
            time.sleep(0.2)         # so that the head goes out before the end is seen

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.listening.close()
        self.thread.join(10)


# ---- The four kinds -----------------------------------------------------------------------------

def test_unary(through, echo):
    gateway, stub = through(2)
    reply, call = stub.unary.with_call(b"hello", metadata=(("x-one", "1"), ("x-bin", b"\0\xff")))
    assert reply == b"hello" and call.code() == Status.OK
    assert dict(call.trailing_metadata())["x-detail"] == "fine"
    seen = echo.service.metadata[0]
    assert seen["x-one"] == "1" and seen["x-bin"] == b"\0\xff"
    assert stub.unary(b"") == b""


def test_client_streaming(through):
    gateway, stub = through(1)
    pieces = [b"%d," % number for number in range(500)]
    assert stub.collect(iter(pieces)) == b"".join(pieces)


def test_server_streaming(through):
    gateway, stub = through(1)
    assert list(stub.count(b"500")) == [b"%d" % number for number in range(500)]


def test_both_ways_at_once(through):
    gateway, stub = through(1)
    answered = threading.Semaphore(1)

    def requests():
        for number in range(50):
            assert answered.acquire(timeout=20)     # only after the answer to the one before
            yield b"%d" % number
    replies = []
    for reply in stub.chat(requests()):
        replies.append(reply)
        answered.release()
    assert replies == [b"%d" % number for number in range(50)]


def test_large_messages(through):
    gateway, stub = through(3)
    message = bytes(range(256)) * (4 << 12)         # 4 MiB
    assert stub.unary(message) == message
    assert stub.collect(iter([message, message])) == message * 2
    assert list(stub.chat(iter([message] * 3))) == [message] * 3


def test_a_thousand_streams_at_once(gateway):
    server = Server(workers=1100)
    stub = None
    try:
        one = gateway(config(server.target))
        one.count(1000)
        stubs = [Stub(one.port) for _ in range(10)]     # 128 streams a connection
        stub = stubs
        gates = [threading.Event() for _ in range(1000)]

        def requests(gate):
            yield b"first"
            gate.wait(60)
            yield b"second"
        calls = [stubs[i % 10].chat(requests(gate)) for i, gate in enumerate(gates)]
        assert [next(call) for call in calls] == [b"first"] * 1000
        active = [value for key, value in one.metrics().items()
                  if key.startswith('gatehouse_requests_active{route="calls"')]
        assert active == [1000]
        for gate in gates:
            gate.set()
        assert [list(call) for call in calls] == [[b"second"]] * 1000
    finally:
        for each in stub or []:
            each.channel.close()
        server.close()


# ---- Statuses -----------------------------------------------------------------------------------

def test_an_error_of_the_upstream_comes_through(through):
    gateway, stub = through(1)
    with pytest.raises(grpc.RpcError) as caught:
        stub.unary(b"fail")
    assert caught.value.code() == Status.NOT_FOUND and caught.value.details() == MESSAGE
    assert dict(caught.value.trailing_metadata())["x-detail"] == "gone"


def test_an_unknown_method_of_the_upstream(gateway, echo):
    one = gateway(config(echo.target, route="grpc = *"))
    one.count(1)
    with Stub(one.port, service="demo.Other") as stub:
        assert status_of(lambda: stub.unary(b"")) == Status.UNIMPLEMENTED


def refused(gateway, route="grpc = demo.Echo", target="http://127.0.0.1:1", upstream="", more="",
            times=1):
    one = gateway(config(target, route=route, upstream=upstream, more=more))
    with Stub(one.port) as stub:
        for _ in range(times):
            one.count(1)
            with pytest.raises(grpc.RpcError) as caught:
                stub.unary(b"", timeout=20)
    return caught.value


def test_no_route(gateway):
    error = refused(gateway, route="grpc = demo.Other")
    assert error.code() == Status.UNIMPLEMENTED
    assert re.fullmatch(r"No route matches the request. \(no_route, request \w{32}\)",
                        error.details())


def test_no_upstream(gateway):
    error = refused(gateway)
    assert error.code() == Status.UNAVAILABLE and "upstream_connect_failed" in error.details()


def test_limited(gateway, echo):
    one = gateway(config(echo.target, route="grpc = demo.Echo\nlimit = one",
                         more="[limit one]\nkey = client_address\nrate = 1/1h\n"))
    one.count(2)
    with Stub(one.port) as stub:
        assert stub.unary(b"a") == b"a"
        with pytest.raises(grpc.RpcError) as caught:
            stub.unary(b"a")
        error = caught.value
    assert error.code() == Status.RESOURCE_EXHAUSTED and "rate_limited" in error.details()


def test_an_answer_that_is_no_grpc(gateway, upstream):
    """An HTTP error of something in between is judged by its status, by the client itself."""
    server = upstream(answering(b"sorry", "Content-Type: text/html", status="503 Unavailable"))
    one = gateway(config(server.target).replace("protocol = h2", ""))
    one.count(1)
    with Stub(one.port) as stub:
        assert status_of(lambda: stub.unary(b"")) == Status.UNAVAILABLE


def test_over_http_1_the_refusal_is_the_same(gateway):
    one = gateway(config("http://127.0.0.1:1"))
    response = one.get("/demo.Echo/Unary", "Content-Type: application/grpc", method="POST",
                       body=b"\0\0\0\0\0")
    assert response.status == 200 and response.body == b""
    assert response.get("Content-Type") == "application/grpc"
    assert response.get("grpc-status") == "14"


# ---- Deadlines and ends -------------------------------------------------------------------------

def test_a_deadline_before_the_answer(through, echo):
    gateway, stub = through(1)
    before = time.monotonic()
    assert status_of(lambda: stub.unary(b"", metadata=(("sleep", "20"), ("grpc-timeout", "300m")))) \
        == Status.DEADLINE_EXCEEDED
    assert 0.25 < time.monotonic() - before < 5
    assert echo.service.cancelled.wait(10)


@pytest.mark.parametrize("sent", [None, b"", MESSAGE_A], ids=["silent", "head", "message"])
def test_a_deadline_that_the_upstream_does_not_keep(gateway, sent):
    with Scripted(sent, stays=True) as server:
        one = gateway(config(server.target))
        one.count(1)
        response = one.curl("--http2-prior-knowledge", "-i", "-H", "Content-Type: application/grpc",
                            "-H", "TE: trailers", "-H", "grpc-timeout: 300m",
                            "--data-binary", "@/dev/null", one.url("/demo.Echo/Unary"),
                            requests=0, text=False)
        assert b"grpc-status: 4\r\n" in response.stdout and b"grpc_deadline" in response.stdout
        assert (MESSAGE_A in response.stdout) == (sent == MESSAGE_A)
        one.wait_reason("grpc_deadline")
        assert calls_of(one) == {"DEADLINE_EXCEEDED": 1}


def test_a_deadline_in_the_middle_of_an_answer(through, echo):
    gateway, stub = through(1)
    call = stub.count(b"10000", metadata=(("slowly", "1"), ("grpc-timeout", "500m")))
    seen = 0
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call:
            seen += 1
    assert 1 <= seen < 100 and caught.value.code() == Status.DEADLINE_EXCEEDED
    assert echo.service.cancelled.wait(10)


def test_the_clients_own_deadline(through, echo):
    gateway, stub = through(1)
    with pytest.raises(grpc.RpcError) as caught:
        stub.unary(b"", timeout=0.3, metadata=(("sleep", "20"),))
    assert caught.value.code() == Status.DEADLINE_EXCEEDED
    assert "grpc-timeout" not in echo.service.metadata[0] and echo.service.cancelled.wait(10)


def test_a_deadline_that_is_over_already(gateway, echo):
    one = gateway(config(echo.target))
    response = one.get("/demo.Echo/Unary", "Content-Type: application/grpc", "grpc-timeout: 0n",
                       method="POST", body=b"\0\0\0\0\0")
    assert response.get("grpc-status") == "4" and not echo.service.metadata


def test_a_cancelled_call_is_cancelled_at_the_upstream(through, echo):
    gateway, stub = through(2)
    call = stub.unary.future(b"", metadata=(("sleep", "20"),))
    assert echo.service.entered.wait(10)
    call.cancel()
    assert echo.service.cancelled.wait(10)
    stream = stub.count(b"100000", metadata=(("slowly", "1"),))
    next(stream)
    echo.service.cancelled.clear()
    stream.cancel()
    assert echo.service.cancelled.wait(10)
    gateway.wait_reason("client_gone", 2)
    eventually(lambda: calls_of(gateway).get("CANCELLED") == 2, "both are counted as cancelled")


@pytest.mark.parametrize("sent", [b"", MESSAGE_A, MESSAGE_A + b"\0\0\0\0\5ab"],
                         ids=["head", "message", "half-a-message"])
def test_an_upstream_that_dies_midway(gateway, sent):
    """It ends with a status that the gateway gives, and not as if it were whole."""
    with Scripted(sent, stays=False) as server:
        one = gateway(config(server.target))
        one.count(1)
        with Stub(one.port) as stub:
            call = stub.count(b"1")
            replies = []
            with pytest.raises(grpc.RpcError) as caught:
                for reply in call:
                    replies.append(reply)
    assert replies == ([b"a"] if sent else [])
    assert caught.value.code() == Status.UNAVAILABLE
    assert "upstream_truncated" in caught.value.details()


# ---- Routes, logs, metrics ----------------------------------------------------------------------

def calls_of(gateway, route="calls"):
    found = {}
    for key, value in gateway.metrics().items():
        match = re.fullmatch(r'gatehouse_grpc_calls_total\{route="(\w+)",grpc_status="(\w+)"\}',
                             key)
        if match and match.group(1) == route:
            found[match.group(2)] = int(value)
    return found


def test_logs_and_metrics(gateway, echo, folder):
    one = gateway(config(echo.target, more=f"""
[log access]
file = {folder}/0/access.log
format = $grpc_service $grpc_method $grpc_status $status $reason
"""))
    one.count(4)
    with Stub(one.port) as stub:
        stub.unary(b"a")
        status_of(lambda: stub.unary(b"fail"))
        list(stub.count(b"3"))
        status_of(lambda: stub.unary(b"", metadata=(("sleep", "20"), ("grpc-timeout", "100m"))))
    path = f"{folder}/0/access.log"
    eventually(lambda: open(path).read().count("\n") == 4, "four lines", 5)
    lines = open(path).read().splitlines()
    assert lines[:3] == ["demo.Echo Unary 0 200 none", "demo.Echo Unary 5 200 none",
                         "demo.Echo Count 0 200 none"]
    # The upstream knows the deadline as well: one of both is first.
    assert lines[3].startswith("demo.Echo Unary 4 200 ")
    assert calls_of(one) == {"OK": 2, "NOT_FOUND": 1, "DEADLINE_EXCEEDED": 1}


def test_routing_by_service_and_method(gateway, echo):
    other = Server()
    try:
        one = gateway(f"""
[listener public]
address = 127.0.0.1:0
[upstream a]
target = {echo.target}
protocol = h2
[upstream b]
target = {other.target}
protocol = h2
[route service]
grpc = demo.Echo
upstream = a
[route method]
grpc = demo.Echo/Count
upstream = b
[route page]
path = /*
reply = 200 page
""")
        with Stub(one.port) as stub:
            stub.unary(b"")
            list(stub.count(b"1"))
            assert len(echo.service.metadata) == 1 and len(other.service.metadata) == 1
        one.count(2)
        assert one.get("/demo.Echo/Unary").body == b"page\n"
    finally:
        other.close()
