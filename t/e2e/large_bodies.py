"""Bodies larger than any buffer, through slow peers, with the worker's memory watched.

What must hold: while a body of any size passes, the worker grows by less than GROWTH_MAX.
"""
import os
import time

from gateway import SANITIZED, resident_bytes
from peers import request_bytes

MIB = 1 << 20
BLOCK = os.urandom(MIB)
GROWTH_MAX = MIB


class Pace:
    """A reader that stops for a moment now and then, so that the gateway has to wait for it."""

    def __init__(self, peer, every=16 * MIB):
        self.peer, self.every = peer, every

    def take(self, size, look):
        left, until_rest = size, self.every
        while left:
            got = self.peer.unread
            if not got:
                self.peer.fill(min(left, MIB))
                got = self.peer.unread
            count = min(len(got), left)
            del self.peer.unread[:count]
            left -= count
            until_rest -= count
            if until_rest <= 0:
                until_rest = self.every
                look()
                time.sleep(0.01)    # long enough for every buffer before us to fill


def growth_watcher(gateway):
    """Returns (look, growth): look() notes the worker's memory, growth() tells the most it grew."""
    worker = gateway.worker
    first = resident_bytes(worker)
    seen = [first]
    return (lambda: seen.append(resident_bytes(worker))), (lambda: max(seen) - first)


def download(proxy, upstream, framing, mebibytes):
    """Through a slow client; framing: length or chunked."""
    def script(connection):
        connection.read_request()
        if framing == "length":
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (mebibytes * MIB))
        else:
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(mebibytes):
            if framing == "chunked":
                connection.send(b"100000\r\n")
            connection.send(BLOCK)
            if framing == "chunked":
                connection.send(b"\r\n")
        if framing == "chunked":
            connection.send(b"0\r\n\r\n")
        connection.wait_end()
    gateway = proxy(upstream(script))
    look, growth = growth_watcher(gateway)
    with gateway.connect(receive_buffer=65536) as client:
        client.send(request_bytes())
        head = client.read_head()
        assert b"200 OK" in head
        pace = Pace(client)
        if framing == "length":
            pace.take(mebibytes * MIB, look)
        else:
            left = mebibytes * MIB
            while left:
                size = int(client.read_until(b"\r\n")[:-2], 16)
                pace.take(size, look)
                look()
                left -= size
                assert client.read_exact(2) == b"\r\n"
            assert client.read_exact(5) == b"0\r\n\r\n"
        gateway.count(1)
    look()
    check(growth())


def upload(proxy, upstream, framing, mebibytes):
    """To a slow upstream."""
    looks = []

    def script(connection):
        connection.read_head()
        pace = Pace(connection)
        if framing == "length":
            pace.take(mebibytes * MIB, looks[0])
        else:
            while True:
                size = int(connection.read_until(b"\r\n")[:-2], 16)
                pace.take(size, looks[0])
                assert connection.read_exact(2) == b"\r\n"
                if not size:
                    break
        connection.answer(b"all there")
        connection.wait_end()
    gateway = proxy(upstream(script), route="body_max = 1t")
    look, growth = growth_watcher(gateway)
    looks.append(look)
    with gateway.connect() as client:
        client.send(request_bytes("/", f"Content-Length: {mebibytes * MIB}" if framing == "length" else
                                  "Transfer-Encoding: chunked", method="PUT"))
        for _ in range(mebibytes):
            client.send(BLOCK if framing == "length" else b"100000\r\n" + BLOCK + b"\r\n")
        if framing == "chunked":
            client.send(b"0\r\n\r\n")
        assert client.read_response().body == b"all there"
    look()
    check(growth())


def check(growth):
    # A sanitizer keeps freed memory for a while: only a plain build can show how little is held.
    assert SANITIZED or growth < GROWTH_MAX, f"the worker grew by {growth} bytes"
