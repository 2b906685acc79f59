"""gRPC-Web: what browsers send and get, over HTTP/1.1 and HTTP/2, with a real gRPC server behind."""
import base64
import re
import struct
from urllib.parse import unquote

import pytest

from grpc_peers import MESSAGE, Server, Stub
from peers import answering, request_bytes

BINARY, TEXT = "application/grpc-web+proto", "application/grpc-web-text+proto"


@pytest.fixture
def echo():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def web(gateway, echo):
    def make(target=None, protocol="protocol = h2", route="grpc = demo.Echo"):
        return gateway(f"""
[listener public]
address = 127.0.0.1:0
[upstream echo]
target = {target or echo.target}
{protocol}
[route calls]
{route}
grpc_web = on
upstream = echo
""")
    return make


def message(payload):
    return b"\0" + struct.pack(">I", len(payload)) + payload


def decode_text(text):
    """Padded pieces, one behind the other."""
    return b"".join(base64.b64decode(group + b"", validate=True)
                    for group in re.findall(rb"[^=]{2,}={1,2}|[^=]+", text))


def frames(body):
    """[(flag, payload)]"""
    found = []
    while body:
        flag, size = struct.unpack(">BI", body[:5])
        assert len(body) >= 5 + size
        found.append((flag, body[5:5 + size]))
        body = body[5 + size:]
    return found


def call(gateway, method, payload, kind=BINARY, fields=()):
    body = payload if kind == BINARY else base64.b64encode(payload)
    response = gateway.get(f"/demo.Echo/{method}", f"Content-Type: {kind}", "X-Grpc-Web: 1",
                           *fields, method="POST", body=body)
    raw = response.body if kind == BINARY else decode_text(response.body)
    return response, frames(raw)


def trailers(frame):
    flag, text = frame
    assert flag == 0x80
    return dict(line.split(": ", 1) for line in text.decode().split("\r\n")[:-1])


@pytest.mark.parametrize("kind", [BINARY, TEXT])
def test_unary(web, echo, kind):
    gateway = web()
    for size in (0, 1, 2, 3, 70_000):
        payload = bytes(i % 251 for i in range(size))
        response, found = call(gateway, "Unary", message(payload), kind, ["X-One: 1"])
        assert response.status == 200 and response.get("Content-Type") == kind
        assert not response.trailers and response.complete
        assert found[0] == (0, payload)
        last = trailers(found[1])
        assert last["grpc-status"] == "0" and last["x-detail"] == "fine"
    seen = echo.service.metadata[0]
    assert seen["x-one"] == "1" and "x-grpc-web" not in seen


@pytest.mark.parametrize("kind", [BINARY, TEXT])
def test_streams_of_answers(web, kind):
    response, found = call(web(), "Count", message(b"200"), kind)
    assert [payload for _, payload in found[:-1]] == [b"%d" % n for n in range(200)]
    assert trailers(found[-1])["grpc-status"] == "0"


@pytest.mark.parametrize("kind", [BINARY, TEXT])
def test_a_failed_call(web, kind):
    """grpcio answers trailers-only: the status stands in the head."""
    gateway = web()
    response, found = call(gateway, "Unary", message(b"fail"), kind)
    told = trailers(found[0]) if found else {n.lower(): v for n, v in response.fields}
    assert told["grpc-status"] == "5" and told["x-detail"] == "gone"
    assert unquote(told["grpc-message"]) == MESSAGE
    metrics = gateway.metrics()
    assert metrics['gatehouse_grpc_calls_total{route="calls",grpc_status="NOT_FOUND"}'] == 1


@pytest.mark.parametrize("kind", [BINARY, TEXT])
def test_text_in_any_pieces(web, kind):
    gateway = web()
    body = message(b"hello world")
    if kind == TEXT:
        body = base64.b64encode(body[:4]) + base64.b64encode(body[4:])
    with gateway.connect() as client:
        client.send(request_bytes("/demo.Echo/Unary", f"Content-Type: {kind}",
                                  "Transfer-Encoding: chunked", method="POST"))
        for byte in body:
            client.send(b"1\r\n%c\r\n" % byte)
        client.send(b"0\r\n\r\n")
        response = client.read_response()
    raw = response.body if kind == BINARY else decode_text(response.body)
    assert frames(raw)[0] == (0, b"hello world")


def test_text_that_is_none(web):
    response = web().get("/demo.Echo/Unary", f"Content-Type: {TEXT}", method="POST", body=b"AAA!")
    assert response.status == 200 and response.get("grpc-status") == "13"
    assert "bad_grpc_web" in response.get("grpc-message")


def test_an_upstream_that_is_away(web):
    response, found = call(web(target="http://127.0.0.1:1"), "Unary", message(b""))
    assert response.get("grpc-status") == "14" and not found
    assert response.get("Content-Type") == "application/grpc-web+proto"


def test_an_answer_that_is_no_grpc_goes_through(web, upstream):
    server = upstream(answering(b"<p>sorry", "Content-Type: text/html", status="503 Unavailable"))
    gateway = web(target=server.target, protocol="")
    response = gateway.get("/demo.Echo/Unary", f"Content-Type: {BINARY}", method="POST",
                           body=message(b""))
    assert response.status == 503 and response.body == b"<p>sorry"


def test_a_deadline(web):
    response, found = call(web(), "Unary", message(b""), BINARY,
                           ["grpc-timeout: 200m", "sleep: 20"])
    assert response.get("grpc-status") == "4" and not found


def test_plain_grpc_beside_it(web):
    gateway = web()
    gateway.count(1)
    with Stub(gateway.port) as stub:
        assert stub.unary(b"plain") == b"plain"


def test_over_http_2(web, folder):
    gateway = web()
    path = f"{folder}/body"
    with open(path, "wb") as file:
        file.write(message(b"over h2"))
    result = gateway.curl("--http2-prior-knowledge", "-H", f"Content-Type: {BINARY}",
                          "--data-binary", f"@{path}", gateway.url("/demo.Echo/Unary"), text=False)
    assert frames(result.stdout)[0] == (0, b"over h2")


def test_only_where_it_is_wanted(gateway, echo):
    one = gateway(f"""
[listener public]
address = 127.0.0.1:0
[upstream echo]
target = {echo.target}
protocol = h2
[route calls]
grpc = demo.Echo
upstream = echo
""")
    # As it is: what the upstream makes of the type is its business.
    response = one.get("/demo.Echo/Unary", f"Content-Type: {BINARY}", method="POST",
                       body=message(b""))
    assert response.get("Content-Type") != BINARY
