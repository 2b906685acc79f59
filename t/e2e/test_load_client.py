"""The load client of the reload tests forgives nothing: each kind of failure is seen and named.

Without this a reload test that finds no failure would say nothing.
"""
import base64
import hashlib
import time

import pytest

from load_clients import LoadClient, LoadUpstream, failures
from peers import response_bytes, sending


def body_of(request):
    return b"name " + request.target.encode() + b"\n"


def run(port, **options):
    with LoadClient(port, sources=2, **{"seconds": 0.4, **options}) as load:
        load.last, total = load.read(), load.read()
        return total


def kinds(server, **options):
    return {kind: count for kind, count in run(server.port, **options)["failures"].items() if count}


def once(connection):
    request = connection.read_request()
    return body_of(request)


def test_a_good_server_fails_nowhere():
    with LoadUpstream("name") as server:
        total = run(server.port, connections=8, rate=500, new_rate=100, websockets=10, seconds=2.5)
    assert failures(total) == 0, total
    assert total["skipped"] == 0
    # 1250 at the rate, 250 new connections; each of the ten sockets had two or three texts.
    assert total["sent"] == total["answered"] == total["ok"]
    assert 1450 <= total["ok"] <= 1502
    assert 20 <= total["websockets"]["echoes"]["count"] <= 30
    assert total["websockets"]["opened"] == total["websockets"]["open"] == 10
    assert 258 <= total["connects"] <= 270


def test_it_saturates():
    with LoadUpstream() as server:
        total = run(server.port, connections=16, seconds=1)
    assert failures(total) == 0, total
    assert total["ok"] > 2000


def closes_idle(connection):
    connection.answer(once(connection))


def says_close(connection):
    connection.answer(once(connection), "Connection: close")


@pytest.mark.parametrize("script", [closes_idle, says_close])
def test_closing_between_two_requests_is_no_failure(upstream, script):
    # Slow enough for the end to be there before the next request.
    total = run(upstream(script).port, connections=4, rate=40, seconds=0.8)
    assert failures(total) == 0, total
    assert total["closes"] >= 8
    assert total["ok"] >= 12


def closes_written(connection):
    connection.answer(once(connection))
    connection.read_request()


def resets_written(connection):
    connection.read_head()
    connection.reset()


def cut_short(connection):
    connection.send(response_bytes(once(connection))[:-5])


def somebody_elses(connection):
    connection.read_request()
    connection.answer(b"name /another\n")


def late(connection):
    while True:
        body = once(connection)
        time.sleep(0.3)
        connection.answer(body)


def silent(connection):
    connection.read_request()
    connection.wait_end()


def says_more(connection):
    connection.send(response_bytes(once(connection)) + b"HTTP/1.1 200 OK\r\n")
    connection.wait_end()


def resets_idle(connection):
    connection.answer(once(connection))
    time.sleep(0.02)
    connection.reset()


@pytest.mark.parametrize("script, kind", [
    (closes_written, "closed"), (resets_written, "reset"), (cut_short, "short"),
    (somebody_elses, "wrong"), (late, "late"), (says_more, "unasked"), (resets_idle, "reset_idle"),
    (sending(response_bytes(b"", status="503 Service Unavailable")), "status_503"),
    (sending(b"HTTP/1.1 200 OK\r\n\r\n"), "malformed"), (sending(b"SSH-2.0-x\r\n\r\n"), "malformed")])
def test_each_failure_has_its_name(upstream, script, kind):
    server = upstream(script)
    total = run(server.port, connections=2, rate=20, late=150, seconds=0.8)
    assert set(total["failures"]) == {kind}, total
    assert total["failures"][kind] >= 2
    examples = total["examples"][kind]
    assert 1 <= len(examples) <= 3 and examples[0]
    # Each is told with when it was and from where.
    failed = total["failed"]
    assert len(failed) == total["failures"][kind]
    assert all(entry[0] == kind and abs(entry[1] / 1e6 - time.monotonic()) < 30 and
               entry[2].startswith("127.0.0.") for entry in failed)


def test_a_server_that_never_answers(upstream):
    total = run(upstream(silent).port, connections=1, new_rate=5)
    assert set(total["failures"]) == {"no_answer"}
    assert total["sent"] == total["failures"]["no_answer"] + total["answered"] >= 2


def test_nobody_listens(upstream):
    server = upstream()
    server.close()
    found = kinds(server, connections=1, rate=20, new_rate=20, websockets=1)
    assert set(found) == {"refused", "ws_refused"}
    assert found["refused"] >= 10


def handshake(connection, key_of=lambda key: key):
    request = connection.read_request()
    key = key_of(request.get("Sec-WebSocket-Key")) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    connection.send(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    return connection


def read_text(connection):
    """An independent reader of masked frames."""
    first, second = connection.read_exact(2)
    assert first == 0x81 and second & 0x80
    mask = connection.read_exact(4)
    return bytes(byte ^ mask[i % 4] for i, byte in enumerate(connection.read_exact(second & 0x7f)))


def echoes(connection, change=lambda text: text):
    handshake(connection)
    while True:
        text = change(read_text(connection))
        connection.send(bytes([0x81, len(text)]) + text)


def ws_wrong_key(connection):
    handshake(connection, lambda key: key + "x")
    connection.wait_end()


def ws_wrong_text(connection):
    echoes(connection, lambda text: text[::-1])


def ws_closes(connection):
    read_text(handshake(connection))


def ws_resets(connection):
    handshake(connection)
    connection.read_exact(2)
    connection.reset()


def ws_late(connection):
    handshake(connection)
    while True:
        text = read_text(connection)
        time.sleep(0.4)
        connection.send(bytes([0x81, len(text)]) + text)


def ws_close_frame(connection):
    handshake(connection).send(b"\x88\x02\x03\xe8")
    connection.wait_end()


@pytest.mark.parametrize("script, kind", [
    (ws_wrong_key, "ws_handshake"), (ws_wrong_text, "ws_wrong"), (ws_closes, "ws_closed"),
    (ws_resets, "ws_reset"), (ws_late, "ws_late"), (ws_close_frame, "ws_wrong"),
    (sending(response_bytes(b"", status="502 Bad Gateway")), "ws_handshake")])
def test_each_lost_websocket_is_seen(upstream, script, kind):
    total = run(upstream(script).port, websockets=2, seconds=0.9, late=150)
    assert set(total["failures"]) == {kind}, total
    assert total["failures"][kind] >= 2


def test_an_upstream_that_python_agrees_with(upstream):
    """The same echo by other code: both ends do not merely share a mistake."""
    total = run(upstream(echoes).port, websockets=3, seconds=1.5)
    assert failures(total) == 0, total
    assert total["websockets"]["echoes"]["count"] >= 3


def test_windows_add_up():
    with LoadUpstream() as server, LoadClient(server.port, connections=2, rate=200) as load:
        time.sleep(0.3)
        first = load.window("first")
        time.sleep(0.2)
        total = load.stop()
    assert (first["window"], total["window"]) == ("first", "total")
    assert first["sent"] + load.last["sent"] == total["sent"] == total["ok"] >= 90
