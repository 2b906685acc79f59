"""PROXY headers of proxies in front, and those that upstreams get."""
import shutil
import socket
import struct
import subprocess
import time

import pytest

from peers import answering, request_bytes
from tls import Site
from tls_server import TlsParty, https
from traffic_agent import watched
from waiting import eventually

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ON = "proxy_protocol = on\ntrusted_proxy = 127.0.0.0/8\nheader_timeout = 2s"
ECHO = "reply = 200 $client_address:$client_port $peer_address $scheme\n"


def tlv(kind, value):
    return bytes([kind]) + struct.pack(">H", len(value)) + value


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def v2(source="192.0.2.7", port=50000, tlvs=b"", command=1, checksum=False):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    destination = "2001:db8::1" if ":" in source else "198.51.100.1"
    body = b""
    if command:
        body = (socket.inet_pton(family, source) + socket.inet_pton(family, destination) +
                struct.pack(">HH", port, 443))
    if checksum:
        tlvs += tlv(3, b"\0\0\0\0")
    body += tlvs
    kind = 0 if not command else 0x21 if ":" in source else 0x11
    header = SIGNATURE + bytes([0x20 | command, kind]) + struct.pack(">H", len(body)) + body
    if checksum:
        header = header[:-4] + struct.pack(">I", crc32c(header))
    return header


def line(source="192.0.2.7", port=50000):
    family, to = ("TCP6", "2001:db8::1") if ":" in source else ("TCP4", "198.51.100.1")
    return f"PROXY {family} {source} {to} {port} 443\r\n".encode()


@pytest.fixture
def front(gateway):
    """A gateway that wants PROXY headers and answers with what it knows of the client."""
    def make(route=ECHO, listener=ON, more=""):
        return gateway(f"[listener l]\naddress = 127.0.0.1:0\n{listener}\n"
                       f"[route a]\n{route}\n{more}")
    return make


def ask(gateway, header, *fields):
    with gateway.connect() as client:
        client.send(header + request_bytes("/", *fields))
        return client.read_response().body.decode().strip()


# ---- From proxies in front ----------------------------------------------------------------------

@pytest.mark.parametrize("source", ["192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize("make", [line, v2])
def test_the_client_is_who_the_header_says(front, make, source):
    gateway = front()
    with gateway.connect() as client:
        client.send(make(source) + request_bytes())
        for _ in range(3):
            assert client.read_response().body.decode().strip() == f"{source}:50000 {source} http"
            client.send(request_bytes())        # every request of the connection
        client.read_response()


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2(command=0), v2(command=0) + b""])
def test_without_addresses_it_is_the_peer(front, header):
    assert ask(front(), header).split()[0].startswith("127.0.0.1:")


def test_byte_by_byte(front):
    gateway = front()
    for header in (line(), v2(tlvs=tlv(2, b"a.example"), checksum=True)):
        with gateway.connect() as client:
            for byte in header + request_bytes():
                client.send(bytes([byte]))
            assert client.read_response().body.startswith(b"192.0.2.7:50000 ")


def test_facts_of_tls(front):
    gateway = front(route="reply = 200 $scheme $proxy_authority $proxy_unique_id "
                          "$proxy_tls_version $proxy_tls_cipher $proxy_client_name")
    facts = tlv(0x21, b"TLSv1.3") + tlv(0x22, b"alice") + tlv(0x23, b"AES")
    rest = tlv(2, b"www.example.com") + tlv(5, b"id-7")
    verified = v2(tlvs=tlv(0x20, b"\7\0\0\0\0" + facts) + rest, checksum=True)
    assert ask(gateway, verified) == "https www.example.com id-7 TLSv1.3 AES alice"
    # A name that nobody has verified is nobody's.
    claimed = v2(tlvs=tlv(0x20, b"\7\0\0\0\1" + facts) + rest)
    assert ask(gateway, claimed) == "https www.example.com id-7 TLSv1.3 AES"


def test_who_is_behind_the_proxy_is_not_believed_more(front):
    """X-Forwarded-For is believed of the client that the header names, if that is trusted."""
    gateway = front(listener=ON + "\ntrusted_proxy = 192.0.2.7")
    forwarded = "X-Forwarded-For: 203.0.113.9"
    assert ask(gateway, line("192.0.2.7"), forwarded).startswith("203.0.113.9:")
    assert ask(gateway, line("192.0.2.8"), forwarded).startswith("192.0.2.8:50000 ")


@pytest.mark.parametrize("start", [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 443\r\n",
    b"PROXY TCP4 192.0.2.7\r\n",
    SIGNATURE + b"\x31\x11\0\x0c" + bytes(12),
    v2(checksum=True)[:-1] + b"\0",
    v2(tlvs=b"\1\0\5ab"),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
], ids=["none", "port", "short", "version", "checksum", "tlv", "preface"])
def test_a_header_that_is_none_ends_the_connection(front, start):
    gateway = front()
    with gateway.connect() as client:
        client.send(start)
        client.wait_end()
    gateway.wait_reason("bad_proxy_header")
    gateway.wait_log(r"the PROXY header of 127\.0\.0\.1 is refused: ")


def test_a_header_that_does_not_come(front):
    gateway = front(listener=ON.replace("2s", "200ms"))
    with gateway.connect() as late, gateway.connect() as silent:
        late.send(line()[:20])
        before = time.monotonic()
        late.wait_end()
        silent.wait_end()
        assert time.monotonic() - before < 5
    gateway.wait_reason("bad_proxy_header")     # the silent one was a probe, no more


def test_probes_are_no_cause_for_complaint(front):
    gateway = front()
    for _ in range(3):
        gateway.connect().close()
    with gateway.connect() as client:           # as HAProxy asks whether it is up
        client.send(v2(command=0))
        client.half_close()
        client.wait_end()
    assert "refused" not in gateway.log() and not gateway.reasons()


def test_only_trusted_proxies_are_let_in(front):
    gateway = front(listener="proxy_protocol = on\ntrusted_proxy = 192.0.2.0/24")
    with gateway.connect() as client:
        client.wait_end()
    gateway.wait_reason("untrusted_proxy")
    gateway.wait_log(r"listener l: 127\.0\.0\.1 is refused: it is not in trusted_proxy")


def test_many_at_once_and_a_reload(front):
    gateway = front()
    gateway.check_descriptors = False       # the helper thread of a reload has its own
    clients = [gateway.connect() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send(v2(f"192.0.2.{number}")[:10 + number % 10])
    gateway.send_signal(1)
    gateway.wait_log("generation 2")
    for number, client in enumerate(clients):
        client.send(v2(f"192.0.2.{number}")[10 + number % 10:] + request_bytes())
    for number, client in enumerate(clients):
        assert client.read_response().body.startswith(b"192.0.2.%d:" % number)


def test_haproxy_in_front(front, folder):
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("no haproxy")
    gateway = front(route="reply = 200 $client_address $proxy_authority")
    port = socket.create_server(("127.0.0.1", 0))
    number = port.getsockname()[1]
    port.close()
    path = f"{folder}/haproxy.cfg"
    with open(path, "w") as file:
        file.write(f"""
defaults
  mode tcp
  timeout connect 2s
  timeout client 5s
  timeout server 5s
listen front
  bind 127.0.0.1:{number}
  server one 127.0.0.1:{gateway.port} send-proxy-v2 proxy-v2-options crc32c check inter 100ms
""")
    process = subprocess.Popen([program, "-f", path, "-db"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        def answer():
            result = subprocess.run(["curl", "-s", f"http://127.0.0.1:{number}/"],
                                    capture_output=True, check=False)
            return result.stdout
        eventually(answer, "haproxy answers")
        gateway.sent = None
        assert answer().strip() == b"127.0.0.1"
        time.sleep(0.4)                         # a few of its checks
        assert "refused" not in gateway.log()
    finally:
        process.terminate()
        process.wait(10)


# ---- To upstreams -------------------------------------------------------------------------------

class Told:
    """An upstream that wants PROXY headers: what it was told, and on which connection each request
    came."""

    def __init__(self, upstream):
        self.headers = []
        self.requests = []
        self.server = upstream(self.script)

    def script(self, connection):
        start = connection.read_exact(6)
        if start == b"PROXY ":
            header = start + connection.read_until(b"\r\n")
        else:
            header = start + connection.read_exact(10)
            header += connection.read_exact(struct.unpack(">H", header[14:16])[0])
        number = len(self.headers)
        self.headers.append(header)
        while True:
            connection.read_request()
            self.requests.append(number)
            connection.answer(b"ok")


def parse_v2(header):
    assert header[:12] == SIGNATURE and header[12] == 0x21
    if header[13] == 0:
        return None, None, {}
    assert header[13] == 0x11
    source, destination = (socket.inet_ntoa(header[at:at + 4]) for at in (16, 20))
    ports = struct.unpack(">HH", header[24:28])
    rest, found = header[28:], {}
    while rest:
        kind, size = struct.unpack(">BH", rest[:3])
        found[kind] = rest[3:3 + size]
        rest = rest[3 + size:]
    return (source, ports[0]), (destination, ports[1]), found


def test_an_upstream_is_told_in_a_line(proxy, upstream):
    told = Told(upstream)
    gateway = proxy(told.server, upstream="proxy_protocol = v1")
    with gateway.connect() as client:
        port = client.sock.getsockname()[1]
        assert client.get("/").body == b"ok"
    assert told.headers == [f"PROXY TCP4 127.0.0.1 127.0.0.1 {port} {gateway.port}\r\n".encode()]


def test_an_upstream_is_told_in_binary(proxy, upstream):
    told = Told(upstream)
    gateway = proxy(told.server, upstream="proxy_protocol = v2")
    with gateway.connect() as client:
        port = client.sock.getsockname()[1]
        assert client.get("/", body=b"x" * 50000, method="POST").body == b"ok"
    assert parse_v2(told.headers[0]) == (("127.0.0.1", port), ("127.0.0.1", gateway.port), {})


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_kept_alive_connection_belongs_to_one_client(proxy, upstream, version):
    told = Told(upstream)
    gateway = proxy(told.server, upstream=f"proxy_protocol = {version}")
    with gateway.connect() as one, gateway.connect() as other:
        for _ in range(3):
            assert one.get("/").body == b"ok"
            assert other.get("/").body == b"ok"
    assert len(told.headers) == 2 and len(set(told.headers)) == 2
    assert told.requests.count(0) == 3


def test_what_a_proxy_in_front_said_is_passed_on(proxy, upstream):
    told = Told(upstream)
    gateway = proxy(told.server, listener=ON, upstream="proxy_protocol = v2")
    facts = b"\7\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"alice")
    with gateway.connect() as client:
        client.send(v2(tlvs=tlv(1, b"h2") + tlv(2, b"www.example.com") + tlv(0x20, facts)) +
                    request_bytes())
        assert client.read_response().body == b"ok"
    source, destination, found = parse_v2(told.headers[0])
    assert source == ("192.0.2.7", 50000) and destination == ("198.51.100.1", 443)
    assert found == {1: b"h2", 2: b"www.example.com", 0x20: facts}


def test_who_is_forwarded_for_is_the_client(proxy, upstream):
    told = Told(upstream)
    gateway = proxy(told.server, listener="trusted_proxy = 127.0.0.1",
                    upstream="proxy_protocol = v1")
    with gateway.connect() as client:
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            assert client.get("/", f"X-Forwarded-For: {address}").body == b"ok"
    assert [header.split()[2] for header in told.headers] == [b"192.0.2.1", b"192.0.2.2"]
    assert [header.split()[4] for header in told.headers] == [b"0", b"0"]
    assert told.requests == [0, 1, 0]


def test_two_gateways_in_a_row(gateway, front):
    behind = front()
    before = gateway("[listener l]\naddress = 127.0.0.1:0\n[upstream b]\nproxy_protocol = v2\n"
                     "keepalive = 0\n"
                     f"target = http://127.0.0.1:{behind.port}\n[route a]\nupstream = b\n")
    behind.sent = None
    with before.connect() as client:
        port = client.sock.getsockname()[1]
        assert client.get("/").body.startswith(b"127.0.0.1:%d " % port)


def test_checks_begin_with_a_header_too(gateway, upstream):
    told = Told(upstream)
    gate = watched(gateway, f"""
[listener l]
address = 127.0.0.1:0
[upstream app]
target = {told.server.target}
proxy_protocol = v2
health = GET /health every 100ms rise 1 fall 2
[route a]
upstream = app
""")
    gate.wait_health("app/" + told.server.target[len("http://"):], "up")
    assert told.headers[0].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")


# ---- Beside TLS ---------------------------------------------------------------------------------

@pytest.fixture
def site(folder):
    made = Site(folder)
    made.add("main", ["a.example"])
    return made


def tls_behind(gateway, context, header):
    """A client whose TLS connection begins behind a header."""
    client = gateway.connect()
    client.send(header)
    client.sock = context.wrap_socket(client.sock, server_hostname="a.example")
    return client


@pytest.mark.parametrize("header", [line(), v2(checksum=True)])
def test_tls_begins_behind_the_header(gateway, site, header):
    server = gateway(site.sections + f"[listener l]\naddress = 127.0.0.1:0\ntls = on\n{ON}\n"
                     "[route a]\nreply = 200 $client_address $scheme $tls_version\n")
    with tls_behind(server, site.context(), header) as client:
        for _ in range(2):
            assert client.get("/").body == b"192.0.2.7 https TLSv1.3\n"


def test_upstreams_are_told_of_tls(gateway, upstream, site):
    told = Told(upstream)
    server = gateway(site.sections + f"""
[listener l]
address = 127.0.0.1:0
tls = on
[upstream app]
target = {told.server.target}
proxy_protocol = v2
[route a]
upstream = app
""")
    with tls_behind(server, site.context(alpn=["http/1.1"]), b"") as client:
        assert client.get("/").body == b"ok"
    _, _, found = parse_v2(told.headers[0])
    assert found[1] == b"http/1.1" and found[2] == b"a.example"
    facts = found[0x20]
    assert facts[0] == 1 and tlv(0x21, b"TLSv1.3") in facts and b"TLS_" in facts


def test_tls_to_a_target_begins_behind_the_header(proxy, upstream, folder):
    party = TlsParty(folder)
    headers = []

    def script(connection):
        header = b""
        while not header.endswith(b"\r\n"):     # and not a byte of what comes next
            header += connection.sock.recv(1)
        headers.append(header)
        party.secure(answering(b"secret"))(connection)
    gateway = proxy(https(upstream(script)), upstream=f"tls_ca = {party.ca}\nproxy_protocol = v1")
    with gateway.connect() as client:
        for _ in range(2):
            assert client.get("/").body == b"secret"
    assert len(headers) == 1 and headers[0].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
    assert party.facts[0]["alpn"] == "http/1.1"     # what is one client's is not shared
