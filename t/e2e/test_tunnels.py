"""Upgraded connections: WebSocket by python3-websockets at both ends, and raw tunnels."""
import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest
import websockets

from peers import answering, request_bytes
from waiting import DEADLINE, eventually

UPGRADE = ("Connection: Upgrade", "Upgrade: raw/1")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw/1\r\n\r\n"


# ---- WebSocket ----------------------------------------------------------------------------------

class EchoServer:
    """Echoes messages until told to close; runs in an event loop of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.ended = []
        self.seen = []
        ready = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(ready,), daemon=True)
        self.thread.start()
        assert ready.wait(DEADLINE)

    def run(self, ready):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(websockets.serve(
            self.echo, "127.0.0.1", 0, max_size=None, ping_interval=None))
        self.port = self.server.sockets[0].getsockname()[1]
        self.target = f"http://127.0.0.1:{self.port}"
        ready.set()
        self.loop.run_forever()

    async def echo(self, socket):
        self.seen.append(socket)
        try:
            async for message in socket:
                if message == "close":
                    await socket.close(4001, "as you wish")
                    return
                await socket.send(message)
        except websockets.ConnectionClosed:
            pass
        finally:
            self.ended.append(socket)

    def close(self):
        if not self.thread.is_alive():
            return

        async def shut():
            self.server.close()
            await self.server.wait_closed()
        asyncio.run_coroutine_threadsafe(shut(), self.loop).result(DEADLINE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)


@pytest.fixture
def echo_server(upstream):
    server = EchoServer()
    upstream.made.append(server)     # closed with the others
    return server


def socket_to(gateway, **options):
    gateway.count(1)
    return websockets.connect(f"ws://127.0.0.1:{gateway.port}/chat?x=1", max_size=None,
                              ping_interval=None, open_timeout=DEADLINE, **options)


def test_websocket_echo(proxy, echo_server):
    gateway = proxy(echo_server)

    async def talk():
        async with socket_to(gateway, subprotocols=["chat"]) as socket:
            for message in ("hello", b"\x00\xff" * 100, "", "é" * 1000):
                await socket.send(message)
                assert await socket.recv() == message
            await (await socket.ping())
    asyncio.run(talk())
    seen, = echo_server.seen
    assert seen.path == "/chat?x=1" and seen.request_headers["X-Forwarded-For"] == "127.0.0.1"


def test_websocket_large_messages_concurrently(proxy, echo_server):
    gateway = proxy(echo_server)

    async def one(number):
        message = bytes([number]) * (1 << 20)
        async with socket_to(gateway) as socket:
            for _ in range(3):
                await socket.send(message)
                assert await socket.recv() == message

    async def all_of_them():
        await asyncio.gather(*(one(n) for n in range(10)))
    asyncio.run(all_of_them())
    assert len(echo_server.seen) == 10


def test_websocket_closed_by_the_server(proxy, echo_server):
    gateway = proxy(echo_server)

    async def talk():
        async with socket_to(gateway) as socket:
            await socket.send("close")
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            assert (socket.close_code, socket.close_reason) == (4001, "as you wish")
    asyncio.run(talk())


def test_websocket_idle_timeout(proxy, echo_server):
    gateway = proxy(echo_server, route="idle_timeout = 300ms")

    async def talk():
        async with socket_to(gateway) as socket:
            for _ in range(6):                      # longer in all than idle_timeout
                await asyncio.sleep(0.1)
                await socket.send("here")
                await socket.recv()
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(socket.recv(), DEADLINE)
    asyncio.run(talk())
    eventually(lambda: echo_server.ended, "the server's side ends too")


CLIENT = """
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1]) as socket:
        await socket.send("x")
        await socket.recv()
        print("there", flush=True)
        await asyncio.sleep(1000)
asyncio.run(main())
"""


def test_websocket_client_killed(proxy, echo_server):
    gateway = proxy(echo_server)
    client = subprocess.Popen([sys.executable, "-c", CLIENT, f"ws://127.0.0.1:{gateway.port}/"],
                              stdout=subprocess.PIPE)
    assert client.stdout.readline() == b"there\n"
    os.kill(client.pid, signal.SIGKILL)
    client.wait()
    client.stdout.close()
    gateway.count(1)
    eventually(lambda: echo_server.ended, "the server learns that its client is gone")


def test_websocket_refused_by_the_server(proxy, upstream):
    server = upstream(answering(b"no", status="403 Forbidden"))
    gateway = proxy(server)

    async def talk():
        with pytest.raises(websockets.InvalidStatusCode) as refused:
            async with socket_to(gateway):
                pass
        assert refused.value.status_code == 403
    asyncio.run(talk())


def test_websocket_outlives_a_graceful_stop(proxy, echo_server):
    """As long as drain_timeout allows."""
    gateway = proxy(echo_server)

    async def talk():
        async with socket_to(gateway) as socket:
            gateway.sent = None
            gateway.send_signal(signal.SIGQUIT)
            gateway.wait_log("stopping gracefully")
            for _ in range(3):
                await socket.send("still there")
                assert await socket.recv() == "still there"
    asyncio.run(talk())
    assert gateway.wait_exit() == 0


# ---- Raw tunnels --------------------------------------------------------------------------------

def tunnelling(talk):
    """A script: switches protocols, then talks."""
    def script(connection):
        request = connection.read_request()
        assert request.get("Upgrade") == "raw/1"
        assert request.get("Connection").lower() == "upgrade"
        connection.send(SWITCHED)
        talk(connection)
    return script


def open_tunnel(gateway, early=b""):
    client = gateway.connect()
    client.send(request_bytes("/", *UPGRADE) + early)
    response = client.read_response()
    assert response.status == 101
    assert response.get("Upgrade") == "raw/1"
    assert response.get("Connection").lower() == "upgrade"
    return client


def test_tunnel_carries_any_bytes(proxy, upstream):
    data = os.urandom(3_000_000)
    got = []

    def talk(connection):
        got.append(connection.read_exact(len(data)))
        connection.send(data[::-1])
        connection.wait_end()
    gateway = proxy(upstream(tunnelling(talk)))
    with open_tunnel(gateway) as client:
        client.send(data)
        assert client.read_exact(len(data)) == data[::-1]
    assert got == [data]


def test_tunnel_with_bytes_in_the_segments_of_the_heads(proxy, upstream):
    def script(connection):
        connection.read_request()
        connection.send(SWITCHED + b"early answer")
        assert connection.read_exact(9) == b"too early"
        connection.send(b"got it")
        connection.wait_end()
    gateway = proxy(upstream(script))
    with open_tunnel(gateway, b"too early") as client:
        assert client.read_exact(18) == b"early answergot it"


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_tunnel_half_close(proxy, upstream, who):
    """Who has finished sending still receives."""
    heard = []

    def talk(connection):
        if who == "client":
            heard.append(connection.read_to_end())
            connection.send(b"all the rest")
        else:
            connection.send(b"I am done").half_close()
            heard.append(connection.read_to_end())
    gateway = proxy(upstream(tunnelling(talk)))
    with open_tunnel(gateway) as client:
        if who == "client":
            client.send(b"I am done").half_close()
            assert client.read_to_end() == b"all the rest"
        else:
            assert client.read_to_end() == b"I am done"
            client.send(b"all the rest").half_close()
            eventually(lambda: heard, "the upstream hears the rest")
    assert heard == [b"I am done" if who == "client" else b"all the rest"]


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_tunnel_reset(proxy, upstream, who):
    ended = []

    def talk(connection):
        if who == "upstream":
            connection.reset()
        else:
            ended.append(connection.wait_end())
    gateway = proxy(upstream(tunnelling(talk)))
    client = open_tunnel(gateway)
    if who == "client":
        client.reset()
        eventually(lambda: ended, "the upstream learns of the reset")
    else:
        assert client.wait_end() in ("end", "reset")


def test_tunnel_under_back_pressure(proxy, upstream):
    """Neither side reads for a while, both send: nothing is lost and nothing swells."""
    size = 8 << 20
    data = os.urandom(size)
    start = threading.Event()
    got = []

    def talk(connection):
        sender = threading.Thread(target=connection.send, args=(data,))
        sender.start()
        assert start.wait(DEADLINE)
        got.append(connection.read_exact(size) == data)
        sender.join(DEADLINE)
        connection.half_close()
        connection.wait_end()
    gateway = proxy(upstream(tunnelling(talk)))
    with open_tunnel(gateway) as client:
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        start.set()
        assert client.read_exact(size) == data
        sender.join(DEADLINE)
        client.half_close()
        client.wait_end()
    assert got == [True]


def test_upgrade_that_the_upstream_ignores(proxy, upstream):
    server = upstream(answering(b"plain"))
    gateway = proxy(server)
    with gateway.connect() as client:
        for _ in range(2):
            assert client.get("/", *UPGRADE).body == b"plain"


@pytest.mark.parametrize("fields", [("Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
                                    ("Connection: Upgrade", "Upgrade: raw/1, other"),
                                    ("Upgrade: raw/1",)], ids=["h2c", "two", "not-nominated"])
def test_upgrades_that_are_not_passed_on(proxy, upstream, fields):
    server = upstream()
    assert proxy(server).get("/", *fields).status == 200
    assert not server.requests[0].has("Upgrade")
