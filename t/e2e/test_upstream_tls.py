"""TLS to upstreams: whom the gateway believes, what it says, and what it speaks then."""
import os

import pytest

from certificates import Authority
from gateway import proxy_config, run_gatehouse
from h2_server import answering_h2, speaking_h2
from peers import answering, request_bytes
from tls_server import TlsParty, https
from traffic_agent import watched
from waiting import eventually


@pytest.fixture
def party(folder):
    return TlsParty(folder)


def test_http1_over_tls(proxy, upstream, party):
    server = upstream(party.secure(answering(b"hello"), alpn=["http/1.1"]))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}")
    for _ in range(3):
        assert gateway.get("/").body == b"hello"
    assert len(server.connections) == 1, "kept alive"
    assert party.facts[0]["version"] == "TLSv1.3"
    assert party.facts[0]["alpn"] == "http/1.1"
    assert party.facts[0]["name"] is None, "an address is not a server name"


def test_http2_where_the_target_prefers_it(proxy, upstream, party):
    server = upstream(party.secure(answering(b"one"), h2=speaking_h2(answering_h2(b"two"))))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}")
    clients = [gateway.connect() for _ in range(10)]
    for client in clients:
        client.send(request_bytes("/"))
    assert [client.read_response().body for client in clients] == [b"two"] * 10
    assert len(server.connections) == 1
    assert server.h2_requests[0].get(":scheme") == "https"


def test_protocol_decides(proxy, upstream, party):
    both = party.secure(answering(b"one"), h2=speaking_h2(answering_h2(b"two")))
    server = upstream(both)
    old = proxy(https(server), upstream=f"tls_ca = {party.ca}\nprotocol = http1")
    assert old.get("/").body == b"one"
    new = proxy(https(server), upstream=f"tls_ca = {party.ca}\nprotocol = h2")
    assert new.get("/").body == b"two"
    # One that does not speak it is told from one that cannot be reached.
    only_old = upstream(party.secure(answering(b"one"), alpn=["http/1.1"]))
    refused = proxy(https(only_old), upstream=f"tls_ca = {party.ca}\nprotocol = h2")
    response = refused.get("/")
    assert response.status == 502 and b"upstream_tls_failed" in response.body


def test_target_without_alpn(proxy, upstream, party):
    server = upstream(party.secure(answering(b"one"), alpn=None))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}")
    clients = [gateway.connect() for _ in range(5)]
    for client in clients:
        client.send(request_bytes("/"))
    assert [client.read_response().body for client in clients] == [b"one"] * 5


@pytest.mark.parametrize("wrong", ["authority", "name", "expired", "client", "plain"])
def test_target_that_cannot_prove_itself(proxy, upstream, folder, wrong):
    leaf = {}
    if wrong == "name":
        leaf["names"] = ["127.0.0.2", "b.test"]
    if wrong == "expired":
        leaf["days"] = -1
    if wrong == "client":
        leaf["client"] = True
    party = TlsParty(folder, **leaf)
    ca = party.ca
    if wrong == "authority":
        ca = Authority("others").write(folder, "others")
    script = answering(b"hello") if wrong == "plain" else party.secure(answering(b"hello"))

    def tolerant(connection):
        try:
            script(connection)
        except ValueError:
            connection.close()
    server = upstream(tolerant)
    gateway = proxy(https(server), upstream=f"tls_ca = {ca}\nconnect_timeout = 2s")
    response = gateway.get("/")
    if wrong == "plain":
        assert response.status in (502, 504)
    else:
        assert response.status == 502
        assert b"upstream_tls_failed" in response.body
        assert "the TLS handshake failed: " in gateway.log()
    assert server.requests == []


def test_verification_may_be_switched_off(proxy, upstream, folder):
    party = TlsParty(folder, names=["elsewhere.test"], days=-1)
    server = upstream(party.secure(answering(b"hello"), alpn=["http/1.1"]))
    gateway = proxy(https(server), upstream="tls_verify = off")
    assert gateway.get("/").body == b"hello"


def test_system_authorities_by_default(proxy, upstream, party):
    server = upstream(party.secure(answering(b"hello")))
    gateway = proxy(https(server))
    assert gateway.get("/").status == 502
    assert "unable to get local issuer certificate" in gateway.log()


def test_server_name(proxy, upstream, folder):
    party = TlsParty(folder, names=["users.internal"])
    server = upstream(party.secure(answering(b"hello"), alpn=["http/1.1"]))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}\n"
                                            "tls_server_name = users.internal")
    assert gateway.get("/").body == b"hello"
    assert party.facts[0]["name"] == "users.internal"


def test_client_certificate(gateway, upstream, folder, party):
    client = party.authority.leaf(["gateway.test"], client=True)
    files = client.write(folder, "client")
    server = upstream(party.secure(answering(b"hello"), client_ca=party.ca, alpn=["http/1.1"]))
    config = proxy_config(https(server),
                          upstream=f"tls_ca = {party.ca}\ntls_certificate = gateway")
    certificate = f"\n[certificate gateway]\ncertificate = {files[0]}\nkey = {files[1]}\n"
    assert gateway(config + certificate).get("/").body == b"hello"
    assert party.facts[0]["peer"]["subject"][0][0] == ("commonName", "gateway.test")
    # Without one the target refuses.
    bare = gateway(proxy_config(https(server), upstream=f"tls_ca = {party.ca}"))
    assert bare.get("/").status == 502


@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
def test_connection_ends_in_good_order(proxy, upstream, party, alpn):
    """A kept connection is ended with close_notify, not cut."""
    ends = []

    def noted(script):
        def noting(connection):
            try:
                script(connection)
            finally:
                ends.append(connection.ended or "cut")
        return noting
    server = upstream(party.secure(noted(answering(b"ok")), alpn=[alpn],
                                   h2=noted(speaking_h2(answering_h2(b"ok")))))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}\n"
                                            "upstream_keepalive_timeout = 100ms")
    assert gateway.get("/").body == b"ok"
    eventually(lambda: ends == ["end"], lambda: f"an end in good order: {ends}")


def test_sessions_are_resumed(proxy, upstream, party):
    server = upstream(party.secure(answering(b"hello"), alpn=["http/1.1"]))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}\nupstream_keepalive_requests = 1")
    for _ in range(4):
        assert gateway.get("/").body == b"hello"
    assert [fact["resumed"] for fact in party.facts] == [False, True, True, True]


def test_truncated_answer_never_looks_whole(proxy, upstream, party):
    def script(connection):
        connection.read_request()
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it")
        # An end without close_notify: somebody else may have made it.
        raw = connection.sock.detach()
        import socket
        sock = socket.socket(fileno=raw)
        sock.shutdown(socket.SHUT_RDWR)
        connection.sock = sock
    server = upstream(party.secure(script, alpn=["http/1.1"]))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}")
    response = gateway.get("/")
    assert not response.complete
    gateway.wait_reason("upstream_truncated")


def test_upgrade_has_a_connection_of_its_own(proxy, upstream, party):
    def old(connection):
        request = connection.read_request()
        if request.has("Upgrade"):
            connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                            b"Upgrade: echo\r\n\r\n")
            connection.send(b"<" + connection.read_exact(5) + b">")
            connection.wait_end()
    server = upstream(party.secure(old, h2=speaking_h2(answering_h2(b"two"))))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}")
    assert gateway.get("/").body == b"two"
    with gateway.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        assert client.read_head().startswith(b"HTTP/1.1 101 ")
        client.send(b"hello")
        assert client.read_exact(7) == b"<hello>"
    gateway.count(1)
    assert [fact["alpn"] for fact in party.facts] == ["h2", "http/1.1"]


def test_url_of_a_route(gateway, upstream, folder, party):
    server = upstream(party.secure(answering(b"one"), h2=speaking_h2(answering_h2(b"two"))))
    config = f"""
[defaults]
tls_ca = {party.ca}
[listener public]
address = 127.0.0.1:0
[route all]
listener = public
upstream = {https(server)}
"""
    assert gateway(config).get("/").body == b"two"


def test_handshake_that_takes_too_long(proxy, upstream, party):
    server = upstream(lambda connection: connection.wait_end())
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}\nconnect_timeout = 200ms")
    response = gateway.get("/")
    assert response.status == 504 and b"upstream_connect_timeout" in response.body


def test_another_target_where_one_cannot_prove_itself(proxy, upstream, folder, party):
    elsewhere = os.path.join(folder, "elsewhere")
    os.mkdir(elsewhere)
    stranger = TlsParty(elsewhere)
    bad = upstream(stranger.secure(answering(b"bad")))
    good = upstream(party.secure(answering(b"good"), alpn=["http/1.1"]))
    gateway = proxy(https(bad), https(good), upstream=f"tls_ca = {party.ca}")
    assert {gateway.get("/").body for _ in range(6)} == {b"good"}
    assert bad.requests == []


def test_settings_of_another_generation_make_new_connections(gateway, upstream, folder, party):
    server = upstream(party.secure(answering(b"hello"), alpn=["http/1.1"]))

    def config(ca):
        return proxy_config(https(server), upstream=f"tls_ca = {ca}")
    running = gateway(config(party.ca))
    running.check_descriptors = False    # a reload leaves a thread and what it needs
    assert running.get("/").body == b"hello"
    others = Authority("others").write(folder, "others")
    running.write_config(config(others))
    running.send_signal(1)
    running.wait_log("generation 2|reloaded")
    eventually(lambda: running.get("/").status == 502, "the kept connection is not used")


def test_config_errors(folder, party):
    path = os.path.join(folder, "bad.conf")
    with open(path, "w") as file:
        file.write("[upstream a]\ntarget = https://10.0.0.1\ntls_ca = /does/not/exist.pem\n"
                   "[upstream b]\ntarget = https://10.0.0.1\ntls_certificate = none\n"
                   "[route a]\nupstream = a\n[route b]\npath = /b\nupstream = b\n")
    result = run_gatehouse("-t", "-c", path)
    assert result.returncode != 0
    text = result.stdout + result.stderr
    assert "tls_ca = /does/not/exist.pem" in text and "there is no [certificate none]" in text


def test_health_checks_speak_as_the_workers_do(gateway, upstream, folder, party):
    """Over TLS with verification, and over HTTP/2 where the target prefers it."""
    def old(connection):
        answering(b"all well")(connection)
    good = upstream(party.secure(old, h2=speaking_h2(answering_h2(b"all well"))))
    named = upstream(party.secure(old, alpn=["http/1.1"]))
    elsewhere = os.path.join(folder, "elsewhere")
    os.mkdir(elsewhere)
    stranger = upstream(TlsParty(elsewhere).secure(old))
    plain_h2 = upstream(speaking_h2(answering_h2(b"all well")))
    check = "health = GET /health every 100ms timeout 2s rise 1 fall 1 body \"all well\"\n"
    gate = watched(gateway, proxy_config(
        https(good), https(named), https(stranger), upstream=check + f"tls_ca = {party.ca}\n") +
        f"\n[upstream other]\ntarget = {plain_h2.target}\nprotocol = h2\n{check}"
        "\n[route other]\nlistener = public\npath = /other\nupstream = other\n")

    def name_of(server, upstream_name="app"):
        return upstream_name + "/" + server.target[len("http://"):]
    for server in (good, named):
        gate.wait_health(name_of(server), "up")
    gate.wait_health(name_of(stranger), "down")
    gate.wait_health(name_of(plain_h2, "other"), "up")
    assert good.h2_requests[0].get(":path") == "/health"
    assert {gate.get("/").body for _ in range(4)} == {b"all well"}
    assert gate.get("/other").body == b"all well"
