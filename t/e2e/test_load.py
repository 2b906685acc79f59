"""Large bodies, back-pressure, many connections at once, real load generators."""
import hashlib
import random
import re
import subprocess
import threading

import pytest

import large_bodies
from gateway import SANITIZED
from large_bodies import BLOCK, MIB
from peers import Gone, answering, request_bytes
from waiting import DEADLINE, eventually

LARGE = 64 if SANITIZED else 300      # MiB; t/soak has the tests with more


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_download_through_a_slow_client(proxy, upstream, framing):
    large_bodies.download(proxy, upstream, framing, LARGE)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_large_upload_to_a_slow_upstream(proxy, upstream, framing):
    large_bodies.upload(proxy, upstream, framing, LARGE)


def test_back_pressure_on_the_upstream(proxy, upstream):
    """A client that does not read stops the upstream: the gateway swallows only so much."""
    sent = []

    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
        connection.sock.settimeout(0.5)
        count = 0
        try:
            while count < 1 << 30:
                count += connection.sock.send(BLOCK)
        except TimeoutError:
            pass
        sent.append(count)
    gateway = proxy(upstream(script))
    with gateway.connect(receive_buffer=4096) as client:
        client.send(request_bytes())
        eventually(lambda: sent, "the upstream cannot send more")
        assert sent[0] < 64 * MIB      # what the kernel's buffers hold
        gateway.count(1)


def test_back_pressure_on_the_client(proxy, upstream):
    release = threading.Event()

    def script(connection):
        connection.read_head()
        assert release.wait(DEADLINE)
    gateway = proxy(upstream(script), route="body_max = 2g")
    with gateway.connect() as client:
        client.send(request_bytes("/", f"Content-Length: {1 << 30}", method="PUT"))
        client.sock.settimeout(0.5)
        count = 0
        with pytest.raises(TimeoutError):
            while count < 1 << 30:
                count += client.sock.send(BLOCK)
        release.set()
        assert count < 64 * MIB
    gateway.count(1)


# ---- Many at once -------------------------------------------------------------------------------

def checksum_server(connection):
    """Answers with a body whose seed and size the target names, and the sum of the request's."""
    while True:
        request = connection.read_request()
        seed, size, framing = request.target[1:].split("/")
        body = piece_of(int(seed), int(size))
        fields = [f"X-Sum: {hashlib.md5(request.body).hexdigest()}"]
        if framing == "length":
            connection.answer(body, *fields)
            continue
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" +
                        fields[0].encode() + b"\r\n\r\n")
        for start in range(0, len(body), 30_000):
            part = body[start:start + 30_000]
            connection.send(b"%x\r\n%s\r\n" % (len(part), part))
        connection.send(b"0\r\n\r\n")


def piece_of(seed, size):
    start = seed * 7919 % (MIB - 200_001)
    return BLOCK[start:start + size]


@pytest.mark.parametrize("workers", [1, 2])
def test_two_hundred_connections(proxy, upstream, workers):
    gateway = proxy(upstream(checksum_server), workers=workers)
    failures = []

    def one(number):
        rng = random.Random(number)
        try:
            with gateway.connect() as client:
                for _ in range(4):
                    seed, size = rng.randrange(10_000), rng.choice([0, 1, 5_000, 70_000, 200_000])
                    body = piece_of(seed + 1, rng.choice([0, 1, 3_000, 100_000]))
                    framing = rng.choice(["length", "chunked"])
                    target = f"/{seed}/{size}/{framing}"
                    if framing == "chunked":
                        client.send(request_bytes(target, "Transfer-Encoding: chunked",
                                                  method="POST"))
                        if body:
                            client.send(b"%x\r\n%s\r\n" % (len(body), body))
                        response = client.request(b"0\r\n\r\n", method="POST")
                    else:
                        response = client.get(target, method="POST", body=body)
                    assert response.status == 200
                    assert response.body == piece_of(seed, size)
                    assert response.get("X-Sum") == hashlib.md5(body).hexdigest()
        except BaseException as error:
            failures.append((number, repr(error)))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE * 2)
    assert not failures, failures[:5]


def test_h2load(proxy, upstream):
    """nghttp2's load generator, speaking HTTP/1.1: every request is answered."""
    gateway = proxy(upstream(answering(b"x" * 1000)), workers=2)
    run = subprocess.run(["h2load", "--h1", "-n", "2000", "-c", "20", gateway.url()],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         timeout=DEADLINE * 2)
    gateway.count(2000)
    assert re.search(r"2000 succeeded, 0 failed, 0 errored, 0 timeout", run.stdout), run.stdout
    assert "status codes: 2000 2xx" in run.stdout


def test_clients_that_come_and_go_leave_nothing(proxy, upstream):
    """Hundreds of broken-off exchanges; the end of the test looks at descriptors."""
    server = upstream(checksum_server)
    gateway = proxy(server)
    gateway.sent = None
    rng = random.Random(4)
    for number in range(300):
        client = gateway.connect()
        try:
            sent = rng.choice([0, 500, 1000])
            client.send(request_bytes(f"/{number}/200000/chunked", "Content-Length: 1000",
                                      method="POST") + b"x" * sent)
            if sent == 1000 and rng.random() < 0.5:
                client.fill(4096)
        except (Gone, OSError):
            pass
        rng.choice([client.close, client.reset])()
    assert gateway.get("/1/10/length").body == piece_of(1, 10)
